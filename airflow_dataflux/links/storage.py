"""What the UI offers beside a task: its bucket in Google's console, its manifest, its receipt.

Each link's address is pushed to XCom as soon as it is known, so that it shows while the task runs. In 3.x Airflow asks
the link for its address in the worker at the task's end, with the operator that ran: the operator remembers it. In 2.11
the web server asks, and XCom knows.
An address on the worker's own disk stays a `file://` URI: it names the place, and opens where the disk is mounted.
"""

from __future__ import annotations

from typing import TYPE_CHECKING
from urllib.parse import quote

from airflow_dataflux.compat import BaseOperatorLink, XCom

if TYPE_CHECKING:
    from airflow_dataflux.compat import BaseOperator, Context, TaskInstanceKey

_CONSOLE = "https://console.cloud.google.com/storage/browser"


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


class ManifestLink(PushedLink):
    """The manifest's index."""

    name = "Manifest"


class ReceiptLink(PushedLink):
    """The receipt beside the staged files."""

    name = "Receipt"


class ReportLink(PushedLink):
    """The run report beside the manifest or the receipt."""

    name = "Report"


def bucket_address(bucket: str, prefix: str = "") -> str:
    """Return the console's page of a bucket, opened at `prefix`."""
    directory, slash, rest = prefix.rpartition("/")
    page = f"{_CONSOLE}/{quote(bucket)}" + (f"/{quote(directory)}" if slash else "") + ";tab=objects"
    return page + (f"?prefix={quote(rest, safe='')}" if rest else "")


def file_address(uri: str, name: str) -> str:
    """Return where a person opens the file `name` of the directory `uri`: the console for gs://, else its URI."""
    directory = uri.rstrip("/")
    if directory.startswith("gs://"):
        bucket, _, path = directory.removeprefix("gs://").partition("/")
        return f"{_CONSOLE}/_details/{quote(bucket)}/{quote(f'{path}/{name}'.lstrip('/'))}"
    if directory.startswith("/"):
        directory = f"file://{quote(directory)}"
    return f"{directory}/{name}"
