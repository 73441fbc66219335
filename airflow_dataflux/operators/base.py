"""What the operators of this package share: a connection, a hook for one run, and a way to end it."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from inspect import Parameter, signature
from typing import TYPE_CHECKING, Any, ClassVar

from airflow_dataflux.addresses import PROGRESS_KEY, document_key
from airflow_dataflux.compat import BaseOperator, show_progress
from airflow_dataflux.core.parameters import parameters_of
from airflow_dataflux.links import ReportLink

if TYPE_CHECKING:
    from airflow_dataflux.compat import Context
    from airflow_dataflux.core.runtime.progress import Observer, RunEvent
    from airflow_dataflux.hooks.dataflux import DatafluxHook
    from airflow_dataflux.operators.openlineage import Lineage

KEYWORD = Parameter.KEYWORD_ONLY
_STRUCTURED = re.compile("Mapping|Sequence|Iterable")
"""Annotations of what may be a list or a dictionary, which the UI shows as JSON."""


_ATTRIBUTES = {"dry_run": "is_dry_run", "output": "output_uri"}
"""Parameters whose names are a method and a property of every operator."""

_PARAMETERS = {attribute: parameter for parameter, attribute in _ATTRIBUTES.items()}


class DatafluxOperator(BaseOperator):
    """An operator that works through :class:`~airflow_dataflux.hooks.dataflux.DatafluxHook`.

    A subclass names its `requests`, whose parameters it takes. `template_fields` and renderers are made from what its
    `__init__` takes, and the `:param` lines from what the requests declare.

    :param user_project: project billed on requester-pays buckets. (templated)
    :param gcp_conn_id: Google Cloud connection. (templated)
    :param impersonation_chain: service account to impersonate, or a chain of them. (templated)
    """

    template_fields: Sequence[str] = ("user_project", "gcp_conn_id", "impersonation_chain")
    template_fields_renderers = {"impersonation_chain": "json"}  # noqa: RUF012 - Airflow's own declaration
    ui_color = "#e8f0fe"
    ui_fgcolor = "#174ea6"
    requests: ClassVar[tuple[type, ...]] = ()

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        if "__init__" not in vars(cls):
            return
        taken = {name: each for name, each in signature(cls.__init__).parameters.items() if each.kind is KEYWORD}
        cls.template_fields = (*map(_attribute, taken), *DatafluxOperator.template_fields)
        structured = [name for name, each in taken.items() if _STRUCTURED.search(str(each.annotation))]
        cls.template_fields_renderers = {
            **{_attribute(name): "json" for name in structured},
            **DatafluxOperator.template_fields_renderers,
        }
        lines = [
            f"    :param {name}: {each.help}. (templated)"
            for request in cls.requests
            for name, each in parameters_of(request).items()
        ]
        cls.__doc__ = "\n".join([(cls.__doc__ or "").rstrip(), *lines, "    "])

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

    def keep(self, taken: Mapping[str, Any]) -> None:
        """Set the attributes of the parameters that `__init__` took: its `locals()`. Airflow renders them later."""
        for name in self.template_fields:
            parameter = _PARAMETERS.get(name, name)
            if parameter in taken:
                setattr(self, name, taken[parameter])

    def values(self, request: type) -> dict[str, Any]:
        """Return the rendered values of a request's parameters."""
        return {name: getattr(self, _attribute(name)) for name in parameters_of(request)}

    if TYPE_CHECKING:

        def __getattr__(self, name: str) -> Any:
            """Return a parameter, which `keep` has set."""

    def open_hook(self) -> DatafluxHook:
        """Make the hook of this run. Called in `execute` only."""
        from airflow_dataflux.hooks.dataflux import DatafluxHook

        hook = DatafluxHook(gcp_conn_id=self.gcp_conn_id, impersonation_chain=self.impersonation_chain, lineage=False)
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


PROGRESS_EVERY_S = 5.0
"""A push is a request to the API server, and a person looks at a page not more often."""


def ui_observer(context: Context) -> Observer:
    """Return an observer that shows a run in Airflow's UI: its progress while it runs, its report once it is written.

    Both are dictionaries and never a bare URI: Airflow's object storage for XCom would read, and later delete, what
    that names. A report has kind, uri, title, object_count, total_bytes, seconds and finished_at; progress has its
    line, the figures in it, and the try that made it.
    """
    from airflow_dataflux.core.report.report_info import ReportInfo
    from airflow_dataflux.core.runtime.progress import Progress, Pulse

    pulse = Pulse(PROGRESS_EVERY_S, due_at_once=True)

    def observe(event: RunEvent) -> None:
        if isinstance(event, ReportInfo):
            context["ti"].xcom_push(key=document_key("report"), value=event.as_dict())
            ReportLink().push_report(context, event.uri)
        elif isinstance(event, Progress) and event.figures and pulse.due():
            show_progress(
                context, {"text": event.text, "try_number": context["ti"].try_number, **event.figures}, PROGRESS_KEY
            )

    return observe


def _attribute(parameter: str) -> str:
    """Return the attribute of a parameter: some names are every operator's own."""
    return _ATTRIBUTES.get(parameter, parameter)
