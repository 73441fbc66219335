"""Read a report's page, a manifest's index or a receipt from where its task wrote it, and nothing else from there.

Whoever can push an XCom chooses the URI, so it is not trusted. Guarantees: bytes are handed out only if they are this
package's, a report by how it begins, the others by the field `format` of a JSON object; a local path must be a regular
file, and nothing blocks on it; only file systems and object stores are asked, never a web address; no more than
`MOST_BYTES` are read.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Callable, Mapping
from contextlib import ExitStack, closing
from typing import TYPE_CHECKING

import msgspec

from airflow_dataflux.addresses import Document
from airflow_dataflux.core.errors import DatafluxError, InvalidRequestError, PermissionDeniedError
from airflow_dataflux.core.manifest.files import ManifestFiles
from airflow_dataflux.core.manifest.location import Location, parse_location
from airflow_dataflux.core.report.page import REPORT_BEGINS

if TYPE_CHECKING:
    from airflow_dataflux.core.gcs.store import Store

MOST_BYTES = 16 * 1024 * 1024
"""A report is a few hundred KB whatever its run, an index a few hundred bytes for each part of its manifest."""

_OTHER_STORES = frozenset({"s3", "s3a", "abfs", "abfss", "az", "adl", "oci", "hdfs"})
"""What fsspec is asked for. A web address would make this server call others in its own name."""


MEDIA_TYPES: Mapping[Document, str] = {
    "report": "text/html",
    "manifest": "application/json",
    "receipt": "application/json",
}

_BEGINS: Mapping[Document, bytes] = {"report": REPORT_BEGINS, "manifest": b"{", "receipt": b"{"}
"""No more is read of a file that begins otherwise."""


class _FormatOnly(msgspec.Struct):
    format: str


_FORMAT_ONLY = msgspec.json.Decoder(_FormatOnly)


class DocumentUnavailableError(DatafluxError):
    """The document cannot be shown here. The message says why, in words for whoever wants to read it."""


def read_document(document: Document, uri: str, open_store: Callable[[], Store]) -> bytes:
    """Return the file at `uri`.

    Args:
        document: what it must be.
        uri: as the task told it.
        open_store: opens the store that `gs://` is read from; called for such a URI only, and closed here.

    Raises DocumentUnavailableError.
    """
    try:
        location = parse_location(uri)
        with ExitStack() as stack:
            store = stack.enter_context(closing(open_store())) if location.scheme == "gs" else None
            data = read_file(location, _BEGINS[document], store)
    except DocumentUnavailableError:
        raise
    except FileNotFoundError as error:
        raise DocumentUnavailableError(_absence(document, uri)) from error
    except PermissionDeniedError as error:
        raise DocumentUnavailableError("The connection of the task may not read it from here.") from error
    except InvalidRequestError as error:
        raise DocumentUnavailableError(f"This is no address of a {document}.") from error
    except (DatafluxError, OSError) as error:
        raise DocumentUnavailableError("It could not be read from here; the API server's log says more.") from error
    if not _is_ours(document, data):
        raise DocumentUnavailableError(f"The file is not a {document} of this package, so it is not shown.")
    return data


def _is_ours(document: Document, data: bytes) -> bool:
    if document == "report":
        return data.startswith(REPORT_BEGINS)
    # Late, because both import what reads Parquet, for which nobody may ask this API server.
    from airflow_dataflux.core.manifest.schema import FORMAT as MANIFEST_FORMAT
    from airflow_dataflux.core.staging.receipt import FORMAT as RECEIPT_FORMAT

    try:
        found = _FORMAT_ONLY.decode(data).format
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return False
    return found == (MANIFEST_FORMAT if document == "manifest" else RECEIPT_FORMAT)


def read_file(location: Location, begins: bytes, store: Store | None) -> bytes:
    """Return a file that may be trusted as little as the address of it: as far as it begins with `begins`.

    `store` is what `gs://` is read from. Raises DocumentUnavailableError, FileNotFoundError and other OSErrors, and the
    store's errors.
    """
    if location.scheme == "file":
        return _read_local(location.path, begins)
    if location.scheme == "gs" and store is not None:
        _check_size(store.stat(location.bucket, location.path).row.size)
        return ManifestFiles(store).read(location.uri)
    if location.scheme not in _OTHER_STORES or "::" in location.uri:
        raise DocumentUnavailableError(f"Nothing is read from {location.scheme}:// here.")
    return _read_other(location.uri)


def _read_local(path: str, begins: bytes) -> bytes:
    # Not blocking: to open a FIFO would wait for its writer, and to open a device may do anything.
    descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC | os.O_NOCTTY)
    with open(descriptor, "rb") as file:
        found = os.fstat(descriptor)
        if not stat.S_ISREG(found.st_mode):
            raise DocumentUnavailableError("It is not a regular file.")
        _check_size(found.st_size)
        begin = file.read(len(begins))
        return begin + file.read(MOST_BYTES) if begin == begins else begin


def _read_other(uri: str) -> bytes:
    from fsspec.core import url_to_fs

    try:
        files, path = url_to_fs(uri)
        return bytes(files.cat_file(path, start=0, end=MOST_BYTES))
    except (ValueError, ImportError) as error:
        raise DocumentUnavailableError("This API server has no package that reads from there.") from error


def _check_size(size_bytes: int) -> None:
    if size_bytes > MOST_BYTES:
        raise DocumentUnavailableError("The file is too large to be a file of this package, so it is not shown.")


def _absence(document: Document, uri: str) -> str:
    if uri.startswith(("/", "file:")):
        return (
            f"This API server has no such file. A {document} on a worker's own disk can only be opened there; "
            "one on gs:// or on a disk that the API server shares opens here."
        )
    return "There is no such object any more: it was deleted, or never written."
