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

from airflow_dataflux.lazynames import on_first_use

if TYPE_CHECKING:
    from airflow_dataflux.testing.handle import GCSServer as GCSServer
    from airflow_dataflux.testing.handle import GCSServerError as GCSServerError
    from airflow_dataflux.testing.orders import ChangeRule as ChangeRule
    from airflow_dataflux.testing.orders import FaultRule as FaultRule
    from airflow_dataflux.testing.orders import ListingDigest as ListingDigest
    from airflow_dataflux.testing.orders import RequestRecord as RequestRecord

_LAZY = {
    "ChangeRule": "airflow_dataflux.testing.orders",
    "FaultRule": "airflow_dataflux.testing.orders",
    "GCSServer": "airflow_dataflux.testing.handle",
    "GCSServerError": "airflow_dataflux.testing.handle",
    "ListingDigest": "airflow_dataflux.testing.orders",
    "RequestRecord": "airflow_dataflux.testing.orders",
}

__all__ = sorted(_LAZY)

__getattr__, __dir__ = on_first_use(__name__, _LAZY)
