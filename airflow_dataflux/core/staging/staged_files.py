"""The files of a staged tree according to its receipts: no walk over the directory, and none of our own files.

Guarantees: the files are those that a finished staging put there and that its manifest names.
`verification.verify_tree` checks whether they still exist and are right.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator, Mapping
from typing import Any

import pyarrow as pa

from airflow_dataflux.core.errors import DestinationError
from airflow_dataflux.core.staging.localpath import OWN_DIRECTORY
from airflow_dataflux.core.staging.receipt import (
    EXTRANEOUS,
    SKIPPED,
    Receipt,
    read_objects,
    read_receipt,
    receipt_names,
)


def staged_files(staged: Receipt | Mapping[str, Any] | str) -> Iterator[str]:
    """Yield the absolute path of each file of a staging, sorted within a receipt.

    `staged` is a receipt, the return value of `ComposeDownloadOperator`, or a destination. For the receipt of a shard,
    the files are those of the shard. For the other two, they are those of all receipts at the destination. If the
    staging had a `receipt_directory`, give the receipt.

    Raises DestinationError if there is no receipt, or if its list of files is missing or damaged.
    """
    if isinstance(staged, Receipt):
        destination, directory, wanted = staged.destination, staged.directory, {staged.scope}
    else:
        destination = staged if isinstance(staged, str) else str(staged["destination"])
        directory, wanted = os.path.join(destination, OWN_DIRECTORY), None
    destination = os.path.abspath(destination)
    found = 0
    for receipt, states in states_of(directory):
        if wanted is None or receipt.scope in wanted:
            found += 1
            for batch in states:
                for path, status in zip(batch["path"].to_pylist(), batch["status"].to_pylist(), strict=True):
                    if status not in (SKIPPED, EXTRANEOUS) and not path.endswith("/"):  # which is a directory
                        yield os.path.join(destination, path)
    if not found:
        raise DestinationError(
            f"{directory} has no receipt of a staging, so its files are not known. Name the directory that was staged "
            "to, on the machine that staged, or stage it again.",
            path=destination,
        )


def receipts_of(destination: str) -> list[Receipt]:
    """Return the receipts of a staged tree, one a shard; none if there is no tree."""
    return [receipt for receipt, _ in states_of(os.path.join(destination, OWN_DIRECTORY))]


def states_of(directory: str) -> Iterator[tuple[Receipt, Iterator[pa.RecordBatch]]]:
    """Yield each receipt in a directory of receipts with what it says of every object."""
    try:
        own = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    except OSError:
        return
    with contextlib.ExitStack() as stack:
        stack.callback(os.close, own)
        for name in receipt_names(own):
            receipt = read_receipt(own, name)
            if receipt is not None:
                yield receipt, _read(own, directory, receipt)


def _read(own: int, directory: str, receipt: Receipt) -> Iterator[pa.RecordBatch]:
    told = False
    for batch in read_objects(own, receipt):
        told = True
        yield batch
    if not told and receipt.object_count > receipt.skipped:
        raise DestinationError(
            f"{os.path.join(directory, receipt.objects_file)} is missing, or is not the file that its receipt names. "
            f"So the staged files are not known. Stage {receipt.destination} again.",
            path=receipt.destination,
        )
