"""The quickest staging: nothing changed, so there is nothing to do.

Guarantees: what is called up to date was staged from a manifest of the same fingerprint with the same paths, and
each file still has the size, the modification time and the inode that its receipt recorded. Sends no request, starts
no process, writes nothing.
"""

from __future__ import annotations

import contextlib
import os
import stat

from airflow_dataflux.core.config import StageRequest
from airflow_dataflux.core.manifest import Manifest
from airflow_dataflux.core.staging.accounts import Accounts
from airflow_dataflux.core.staging.localfile import open_existing
from airflow_dataflux.core.staging.localpath import OWN_DIRECTORY
from airflow_dataflux.core.staging.receipt import (
    EXTRANEOUS,
    SKIPPED,
    Receipt,
    read_objects,
    read_receipt,
    receipt_name,
    receipt_names,
)
from airflow_dataflux.core.staging.reuse import Looker, Obstruction


def unchanged_since(manifest: Manifest, request: StageRequest, accounts: Accounts) -> Receipt | None:
    """Return the receipt of a staging that has nothing to do, None if there may be something to do."""
    try:
        root_fd = os.open(request.destination, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    except OSError:
        return None
    with contextlib.ExitStack() as closing:
        closing.callback(os.close, root_fd)
        try:
            own_fd = open_existing(OWN_DIRECTORY, root_fd)
        except OSError:
            return None
        closing.callback(os.close, own_fd)
        name = receipt_name(accounts.scope)
        if not accounts.scope and receipt_names(own_fd) != [name]:
            return None  # shards were staged here too: the full survey sorts that out
        receipt = read_receipt(own_fd, name)
        if receipt is None or not _is_for(receipt, manifest, request):
            return None
        with accounts.phase("survey"):
            reused = _untouched(root_fd, own_fd, receipt, request)
        return None if reused is None else accounts.unchanged_receipt(receipt, reused)


def _is_for(receipt: Receipt, manifest: Manifest, request: StageRequest) -> bool:
    return (
        receipt.fingerprint == manifest.fingerprint
        and receipt.bucket == manifest.bucket
        and receipt.object_count == len(manifest)
        and receipt.strip_prefix == request.strip_prefix
        and (receipt.skipped == receipt.temporary or request.on_changed_object == "skip")
    )


def _untouched(root_fd: int, own_fd: int, receipt: Receipt, request: StageRequest) -> int | None:
    """Return how many objects are in their place, None if one is not as it was left."""
    present = seen = 0
    with Looker(root_fd) as looker:
        for batch in read_objects(own_fd, receipt):
            columns = (batch[name].to_pylist() for name in ("path", "size", "status", "mtime_ns", "inode"))
            for path, size, status, mtime_ns, inode in zip(*columns, strict=True):
                if status == EXTRANEOUS:
                    if request.delete_extraneous:
                        return None
                    continue
                seen += 1
                if status == SKIPPED:
                    continue
                try:
                    found = looker.status(path.rstrip("/"))
                except Obstruction:
                    return None
                if found is None:
                    return None
                if path.endswith("/"):
                    if not stat.S_ISDIR(found.st_mode):
                        return None
                elif not stat.S_ISREG(found.st_mode) or (found.st_size, found.st_mtime_ns, found.st_ino) != (
                    size,
                    mtime_ns,
                    inode,
                ):
                    return None
                present += 1
    return present if seen == receipt.object_count else None
