"""What the UI offers beside a task: its bucket in Google's console, its manifest, its receipt.

Each link's address is pushed to XCom as soon as it is known, so that it shows while the task runs. In 3.x Airflow asks
the link for its address in the worker at the task's end, with the operator that ran: the operator remembers it. In 2.11
the web server asks, and XCom knows.
A browser opens no `file://` or `s3://`, and Google's console offers a file for download. In 3.x links of files lead to
this package's page of the file, which is told where it is by an XCom. In 2.11, which has no such page, the console or
the URI itself names the place.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from airflow_dataflux.addresses import PAGES, Document, document_address, document_key, file_address
from airflow_dataflux.compat import BaseOperatorLink, XCom, has_plugin_pages

if TYPE_CHECKING:
    from airflow_dataflux.compat import BaseOperator, Context, TaskInstanceKey


class PushedLink(BaseOperatorLink):
    """A link whose address the running task pushed."""

    @property
    def xcom_key(self) -> str:
        """Key under which the address is kept, in both of Airflow's lines."""
        return f"_link_{type(self).__name__}"

    def get_link(self, operator: BaseOperator, *, ti_key: TaskInstanceKey) -> str:
        """Return the pushed address; empty if there is none, or none yet."""
        remembered: dict[str, str] | None = getattr(operator, "link_addresses", None)
        if remembered is not None:
            return remembered.get(self.xcom_key, "")
        return str(XCom.get_value(key=self.xcom_key, ti_key=ti_key) or "")

    def push(self, context: Context, address: str) -> None:
        """Publish the address of the running task."""
        context["task"].link_addresses[self.xcom_key] = address  # type: ignore[union-attr]
        context["ti"].xcom_push(key=self.xcom_key, value=address)


class BucketLink(PushedLink):
    """The bucket at the listed prefix in Google's console."""

    name = "Bucket"


class DocumentLink(PushedLink):
    """A link to a small file of the running task, which this package's plugin can show."""

    document: Document

    def push_file(self, context: Context, directory: str, name: str) -> None:
        """Publish where a person opens the file `name` of the directory `directory`."""
        address = file_address(directory, name)
        if has_plugin_pages():
            # A dictionary and never the bare URI: Airflow's object storage for XCom would read what that names.
            context["ti"].xcom_push(key=document_key(self.document), value={"uri": f"{directory.rstrip('/')}/{name}"})
            address = page_address(self.document, context)
        self.push(context, address)


class ManifestLink(DocumentLink):
    """The manifest's index."""

    name = "Manifest"
    document = "manifest"


class ReceiptLink(DocumentLink):
    """The receipt beside the staged files."""

    name = "Receipt"
    document = "receipt"


class ReportLink(PushedLink):
    """The run report beside the manifest or the receipt."""

    name = "Report"

    def push_report(self, context: Context, uri: str) -> None:
        """Publish where a person opens the report at `uri`, of which the task has told under its XCom key.

        Google's console would offer it for download, so one in a bucket is opened by this package's page, too.
        """
        directory, _, name = uri.rpartition("/")
        self.push(context, page_address("report", context) if has_plugin_pages() else file_address(directory, name))


def page_address(document: Document, context: Context) -> str:
    """Return the plugin's page of a document of the running task, relative to Airflow's base."""
    ti = context["ti"]
    index = -1 if ti.map_index is None else ti.map_index
    shown = document_address(document, dag_id=ti.dag_id, run_id=ti.run_id, task_id=ti.task_id, map_index=index)
    return f"{PAGES}/{shown}"
