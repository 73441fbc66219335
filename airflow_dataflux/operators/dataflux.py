"""What the operators of this package share: a connection, a hook for one run, and a way to end it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from typing import TYPE_CHECKING, Any

from airflow_dataflux.compat import BaseOperator

if TYPE_CHECKING:
    from airflow_dataflux.hooks.dataflux import DatafluxHook
    from airflow_dataflux.operators.lineage import Lineage


class DatafluxOperator(BaseOperator):
    """An operator that works through :class:`~airflow_dataflux.hooks.dataflux.DatafluxHook`.

    :param user_project: project billed on requester-pays buckets. (templated)
    :param gcp_conn_id: Google Cloud connection. (templated)
    :param impersonation_chain: service account to impersonate, or a chain of them. (templated)
    """

    template_fields: Sequence[str] = ("user_project", "gcp_conn_id", "impersonation_chain")
    template_fields_renderers = {"impersonation_chain": "json"}  # noqa: RUF012 - Airflow's own declaration
    ui_color = "#e8f0fe"
    ui_fgcolor = "#174ea6"

    def __init__(
        self,
        *,
        user_project: str | None = None,
        gcp_conn_id: str = "google_cloud_default",
        impersonation_chain: str | Sequence[str] | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.user_project = user_project
        self.gcp_conn_id = gcp_conn_id
        self.impersonation_chain = impersonation_chain
        self.link_addresses: dict[str, str] = {}
        self.lineage: Lineage | None = None
        self._hook: DatafluxHook | None = None
        self._killed = False

    def open_hook(self) -> DatafluxHook:
        """Make the hook of this run. Called in `execute` only."""
        from airflow_dataflux.hooks.dataflux import DatafluxHook

        hook = DatafluxHook(gcp_conn_id=self.gcp_conn_id, impersonation_chain=self.impersonation_chain)
        # In this order: a kill that comes between the lines finds the hook, one that came before is passed on.
        self._hook = hook
        if self._killed:
            self.on_kill()
        return hook

    def get_openlineage_facets_on_complete(self, task_instance: Any) -> Any:
        """Return the facets of what this run read and wrote; OpenLineage asks after a failure, too."""
        del task_instance  # what `execute` remembered is all there is to tell
        return None if self.lineage is None else self.lineage.facets()

    def on_kill(self) -> None:
        """End `execute` within seconds: engine and workers stop, temporary objects are deleted.

        Airflow calls this in its SIGTERM handler, which returns to `execute` in 3.x; so nothing is raised here.
        """
        self._killed = True
        if self._hook is not None:
            self._hook.cancel("Airflow ended this task")


def log_group(info: Callable[..., object], name: str) -> AbstractContextManager[None]:
    """Group what is logged in the block, as the hook does for its stages."""
    from airflow_dataflux.hooks.narrator import Narrator

    return Narrator(info).telling(name)
