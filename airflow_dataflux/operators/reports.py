"""The run report, as a task tells of it: an XCom that others can list, and a link beside the task."""

from __future__ import annotations

from typing import TYPE_CHECKING

from airflow_dataflux.links.pages import document_key
from airflow_dataflux.links.storage import ReportLink

if TYPE_CHECKING:
    from airflow_dataflux.compat import Context
    from airflow_dataflux.core.report.notice import OnReport, ReportNotice


def report_pusher(context: Context) -> OnReport:
    """Return what pushes a report that was written to XCom, and links it.

    It has kind, uri, title, object_count, total_bytes, seconds and finished_at. A dictionary and never the bare URI:
    Airflow's object storage for XCom would read, and later delete, what that names.
    """

    def push(notice: ReportNotice) -> None:
        context["ti"].xcom_push(key=document_key("report"), value=notice.as_dict())
        ReportLink().push_report(context, notice.uri)

    return push
