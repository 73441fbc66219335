"""Read a report's page from where its task wrote it, and nothing else from there.

Whoever can push an XCom chooses the URI, so it is not trusted. Guarantees: bytes are handed out only if they begin as
a report of this package does; a local path must be a regular file, and nothing blocks on it; only file systems and
object stores are asked, never a web address; no more than `MOST_BYTES` are read.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Callable
from contextlib import closing
from typing import TYPE_CHECKING

from airflow_dataflux.core.errors import DatafluxError, InvalidRequestError, PermissionDeniedError
from airflow_dataflux.core.manifest.files import ManifestFiles
from airflow_dataflux.core.manifest.location import Location, parse_location
from airflow_dataflux.core.report.page import REPORT_BEGINS

if TYPE_CHECKING:
    from airflow_dataflux.core.gcs.store import Store

MOST_BYTES = 16 * 1024 * 1024
"""A report is a few hundred KB, whatever its run."""

_OTHER_STORES = frozenset({"s3", "s3a", "abfs", "abfss", "az", "adl", "oci", "hdfs"})
"""What fsspec is asked for. A web address would make this server call others in its own name."""


class ReportUnavailableError(DatafluxError):
    """The report cannot be shown here. The message says why, in words for whoever wants to read it."""


def read_report(uri: str, open_store: Callable[[], Store]) -> bytes:
    """Return the page at `uri`.

    Args:
        uri: as the task told it.
        open_store: opens the store that `gs://` is read from; called for such a URI only, and closed here.

    Raises ReportUnavailableError.
    """
    try:
        location = parse_location(uri)
        data = _read(location, open_store)
    except ReportUnavailableError:
        raise
    except FileNotFoundError as error:
        raise ReportUnavailableError(_absence(uri)) from error
    except PermissionDeniedError as error:
        raise ReportUnavailableError("The connection of the task may not read it from here.") from error
    except InvalidRequestError as error:
        raise ReportUnavailableError("This is no address of a report.") from error
    except (DatafluxError, OSError) as error:
        raise ReportUnavailableError("It could not be read from here; the API server's log says more.") from error
    if not data.startswith(REPORT_BEGINS):
        raise ReportUnavailableError("What is there is not a report of this package, so it is not shown.")
    return data


def _read(location: Location, open_store: Callable[[], Store]) -> bytes:
    if location.scheme == "file":
        return _read_local(location.path)
    if location.scheme == "gs":
        with closing(open_store()) as store:
            _check_size(store.stat(location.bucket, location.path).row.size)
            return ManifestFiles(store).read(location.uri)
    if location.scheme not in _OTHER_STORES or "::" in location.uri:
        raise ReportUnavailableError(f"Reports are not read from {location.scheme}:// here.")
    return _read_other(location.uri)


def _read_local(path: str) -> bytes:
    # Not blocking: to open a FIFO would wait for its writer, and to open a device may do anything.
    descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC | os.O_NOCTTY)
    with open(descriptor, "rb") as file:
        found = os.fstat(descriptor)
        if not stat.S_ISREG(found.st_mode):
            raise ReportUnavailableError("What is there is not a file.")
        _check_size(found.st_size)
        begin = file.read(len(REPORT_BEGINS))
        return begin + file.read(MOST_BYTES) if begin == REPORT_BEGINS else begin


def _read_other(uri: str) -> bytes:
    from fsspec.core import url_to_fs

    try:
        files, path = url_to_fs(uri)
        return bytes(files.cat_file(path, start=0, end=MOST_BYTES))
    except (ValueError, ImportError) as error:
        raise ReportUnavailableError("This API server has no package that reads from there.") from error


def _check_size(size_bytes: int) -> None:
    if size_bytes > MOST_BYTES:
        raise ReportUnavailableError("What is there is too large to be a report, so it is not shown.")


def _absence(uri: str) -> str:
    if uri.startswith(("/", "file:")):
        return (
            "This API server has no such file. A report beside files on a worker's own disk can only be opened there; "
            "one beside a manifest on gs:// or on a disk that the API server shares opens here."
        )
    return "There is no such object any more: it was deleted, or never written."
