"""An embedded Cloud Storage server, for this project's tests and for anyone's tests of their own DAGs.

    from airflow_dataflux.testing import GCSServer

    with GCSServer() as server:
        server.create_bucket("photos")
        server.put("photos", "cats/1.jpg", b"...")
        os.environ.update(server.environment())

It speaks the part of the JSON API that this project and the official client use, over real HTTP, from its own
process. It needs the optional dependencies `airflow-provider-dataflux[testing]`. Importing this package imports
neither the server nor its HTTP library: the server runs elsewhere, and this side only starts and directs it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from airflow_dataflux.lazy_exports import on_first_use

if TYPE_CHECKING:
    from airflow_dataflux.testing.airflow_home import isolated_environment as isolated_environment
    from airflow_dataflux.testing.control_messages import ChangeRule as ChangeRule
    from airflow_dataflux.testing.control_messages import FaultRule as FaultRule
    from airflow_dataflux.testing.control_messages import ListingDigest as ListingDigest
    from airflow_dataflux.testing.control_messages import RequestRecord as RequestRecord
    from airflow_dataflux.testing.gcs_server import GCSServer as GCSServer
    from airflow_dataflux.testing.gcs_server import GCSServerError as GCSServerError

_LAZY = {
    "ChangeRule": "airflow_dataflux.testing.control_messages",
    "FaultRule": "airflow_dataflux.testing.control_messages",
    "GCSServer": "airflow_dataflux.testing.gcs_server",
    "GCSServerError": "airflow_dataflux.testing.gcs_server",
    "ListingDigest": "airflow_dataflux.testing.control_messages",
    "RequestRecord": "airflow_dataflux.testing.control_messages",
    "isolated_environment": "airflow_dataflux.testing.airflow_home",
}

__all__ = sorted(_LAZY)

__getattr__, __dir__ = on_first_use(__name__, _LAZY)
