"""The commands: what each takes, does and prints.

A command that has work to stop watches the cancel token; the others are ended by an exception.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import sys
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from airflow_dataflux.cli.options import place, values_of
from airflow_dataflux.cli.output import (
    counts_of,
    described_manifest,
    described_pack,
    described_receipt,
    print_json,
    print_lines,
    row_line,
)
from airflow_dataflux.client import Client
from airflow_dataflux.core.config import (
    ListRequest,
    PackRequest,
    PruneRequest,
    SelectRequest,
    StageRequest,
    SweepRequest,
)
from airflow_dataflux.core.errors import InvalidRequestError, ManifestNotFoundError
from airflow_dataflux.core.report.formatting import plural
from airflow_dataflux.core.runtime.cancel import CancelToken

if TYPE_CHECKING:
    from airflow_dataflux.core.manifest import Manifest
    from airflow_dataflux.core.packing.pack_index import PackDescription
    from airflow_dataflux.core.runtime.progress import Observer
    from airflow_dataflux.core.staging import Receipt


@dataclass(frozen=True, slots=True)
class Invocation:
    """What a command has to work with; `others` are arguments that it passes on."""

    client: Client
    options: argparse.Namespace
    cancel: CancelToken
    observer: Observer
    others: Sequence[str]


@dataclass(frozen=True, slots=True)
class Argument:
    """An argument that no request declares, as argparse takes it."""

    names: tuple[str, ...]
    settings: Mapping[str, Any]

    @classmethod
    def of(cls, *names: str, **settings: Any) -> Argument:
        """Return the argument that `add_argument` would make of the same."""
        return cls(names, settings)


@dataclass(frozen=True, kw_only=True, slots=True)
class Command:
    """One command.

    Attributes:
        run: does it, and returns the exit code.
        text: its help.
        request: its parameters become options.
        arguments: what it takes besides.
        watches_cancel: it ends by itself, tidily, when the token is cancelled.
        passes_on: it passes arguments on that it does not know.
    """

    run: Callable[[Invocation], int]
    text: str
    request: type | None = None
    arguments: Sequence[Argument] = field(default=())
    watches_cancel: bool = False
    passes_on: bool = False


@contextlib.contextmanager
def _manifest_place(values: dict[str, Any]) -> Iterator[bool]:
    """Give a manifest that is only shown a place meanwhile: it may be too large for memory. Yield whether it is."""
    shown = values["manifest_uri"] is None
    with contextlib.ExitStack() as stack:
        if shown:
            values["manifest_uri"] = stack.enter_context(tempfile.TemporaryDirectory(prefix="dataflux-"))
        yield shown


def _reference(manifest: Manifest, *, shown: bool) -> dict[str, Any]:
    """Return a reference for JSON; what was only shown is not there any more."""
    return {**manifest.reference(), "uri": None if shown else manifest.uri}


def _addresses(manifest: Manifest) -> Iterator[str]:
    return (f"gs://{manifest.bucket}/{row.name}" for row in manifest.rows())


def _list(call: Invocation) -> int:
    values = values_of(ListRequest, call.options)
    with _manifest_place(values) as shown:
        if shown:
            values["report"] = False
        manifest = call.client.list(**values, cancel=call.cancel, observer=call.observer)
        if call.options.json:
            print_json(_reference(manifest, shown=shown))
        elif shown:
            print_lines(_addresses(manifest), call.cancel)
        else:
            print(described_manifest(manifest))
    return 0


def _select(call: Invocation) -> int:
    values = values_of(SelectRequest, call.options)
    if values["splits"] is not None and values["manifest_uri"] is None:
        raise InvalidRequestError("Each split becomes a manifest: give the directory for them with --manifest-uri.")
    with _manifest_place(values) as shown:
        made = call.client.select(place(call.options.manifest), **values, cancel=call.cancel)
        several = made if isinstance(made, dict) else {"": made}
        if call.options.json:
            references = {name: _reference(one, shown=shown) for name, one in several.items()}
            print_json(references if isinstance(made, dict) else references[""])
        elif shown:
            for one in several.values():
                print_lines(_addresses(one), call.cancel)
        else:
            for name, one in several.items():
                print(f"{name}: {described_manifest(one)}" if name else described_manifest(one))
    return 0


def _stage(call: Invocation) -> int:
    values = values_of(StageRequest, call.options)
    receipt = call.client.stage(place(call.options.manifest), **values, cancel=call.cancel, observer=call.observer)
    if call.options.json:
        print_json(receipt.summary())
    else:
        # "would be" is what the counts of a dry run mean.
        planned = " (dry run: nothing was moved)" if receipt.dry_run else ""
        where = f"{plural(receipt.object_count, 'object')} in {receipt.destination}"
        print(f"{where}: {counts_of(receipt)} in {receipt.seconds:.1f} s{planned}")
    return 0


def _pack(call: Invocation) -> int:
    values = values_of(PackRequest, call.options)
    result = call.client.pack(place(call.options.manifest), **values, cancel=call.cancel, observer=call.observer)
    if call.options.json:
        print_json(result.summary())
    else:
        planned = " (dry run: nothing was written)" if result.dry_run else ""
        shards = (
            f"{result.packed_shards:,} written, {result.reused_shards:,} reused, {result.skipped:,} objects skipped"
        )
        print(
            f"{plural(result.shard_count, 'shard')} with {plural(result.object_count, 'object')} in {result.output}: "
            f"{shards} in {result.seconds:.1f} s{planned}"
        )
    return 0


def _diff(call: Invocation) -> int:
    before, after = (call.client.open_manifest(place(uri)) for uri in (call.options.before, call.options.after))
    diff = after.diff(before)
    counts = diff.counts()
    if call.options.json:
        print_json({"added": counts.added, "removed": counts.removed, "changed": counts.changed})
    else:
        print_lines((f"+ {row.name}" for row in diff.added), call.cancel)
        print_lines((f"- {row.name}" for row in diff.removed), call.cancel)
        print_lines((f"~ {row.name}" for _, row in diff.changed), call.cancel)
    return 1 if counts else 0


def _show(call: Invocation) -> int:
    where = place(call.options.place)
    if receipts := _receipts(where):
        return _show_receipts(call, where, receipts)
    try:
        manifest = call.client.open_manifest(where)
    except ManifestNotFoundError as error:
        pack = call.client.find_pack(where)
        if pack is None:
            raise ManifestNotFoundError(
                f"There is nothing to show at {where}: neither a manifest, nor a staged tree, nor a pack. Name the "
                "directory, or the prefix of a bucket, that it was written to.",
                uri=where,
            ) from error
        return _show_pack(call, where, pack)
    if call.options.rows:
        print_lines((row_line(row) for row in manifest.rows()), call.cancel)
    elif call.options.json:
        print_json({**manifest.reference(), "objects": None})
    else:
        print(described_manifest(manifest))
    return 0


def _receipts(where: str) -> list[Receipt]:
    """Return the receipts of a staged tree; none for what is no local directory."""
    directory = where.removeprefix("file://")
    if not os.path.isdir(directory):
        return []
    from airflow_dataflux.core.staging.staged_files import receipts_of

    return receipts_of(directory)


def _show_receipts(call: Invocation, where: str, receipts: Sequence[Receipt]) -> int:
    from airflow_dataflux.core.staging.staged_files import staged_files

    if call.options.rows:
        print_lines(staged_files(where.removeprefix("file://")), call.cancel)
    elif call.options.json:
        print_json({"receipts": [receipt.summary() for receipt in receipts]})
    else:
        print("\n\n".join(map(described_receipt, receipts)))
    return 0


def _show_pack(call: Invocation, where: str, pack: PackDescription) -> int:
    if call.options.rows:
        print_lines((f"{shard.filesize:>15} {shard.nsamples:>10} {shard.url}" for shard in pack.shards), call.cancel)
    elif call.options.json:
        print_json(pack.summary())
    else:
        print(described_pack(where, pack))
    return 0


def _verify(call: Invocation) -> int:
    from airflow_dataflux.core.staging.verification import verify_tree

    options = call.options
    manifest = None if options.manifest is None else call.client.open_manifest(place(options.manifest))
    found = verify_tree(os.path.abspath(options.destination), manifest, strip_prefix=options.strip_prefix)
    if options.json:
        mismatches = [{"path": each.path, "reason": each.reason} for each in found.mismatches]
        print_json({"checked": found.checked, "mismatches": mismatches})
    else:
        print_lines((f"{each.path}: {each.reason}" for each in found.mismatches), call.cancel)
        print(f"{found.checked:,} files, {len(found.mismatches):,} of them missing or wrong")
    return 1 if found.mismatches else 0


def _prune(call: Invocation) -> int:
    result = call.client.prune(**values_of(PruneRequest, call.options))
    if call.options.json:
        print_json(result.summary())
    else:
        print_lines((f"kept {path}: {why}" for path, why in result.kept.items()), call.cancel)
        print_lines(
            (f"{'would remove' if result.dry_run else 'removed'} {path}" for path in result.removed), call.cancel
        )
        print(f"{plural(result.found, 'staged tree')} found, {len(result.removed):,} removed, ", end="")
        print(f"{result.freed_bytes:,} bytes freed{' (dry run: nothing was removed)' if result.dry_run else ''}")
    return 0


def _sweep(call: Invocation) -> int:
    result = call.client.sweep(**values_of(SweepRequest, call.options))
    failures = {each.version.name: each.reason for each in result.failures}
    if call.options.json:
        print_json({"found": list(result.found), "deleted": result.deleted, "failures": failures})
    else:
        print(f"{len(result.found):,} leftovers found, {result.deleted:,} deleted")
        print_lines((f"{name}: {reason}" for name, reason in failures.items()), call.cancel)
    return 1 if failures else 0


def _serve(call: Invocation) -> int:
    # In a process of its own: the product never imports its test server.
    os.execv(sys.executable, [sys.executable, "-m", "airflow_dataflux.testing", *call.others])


def _completion(call: Invocation) -> int:
    from argcomplete.shell_integration import shellcode

    print(shellcode(["dataflux"], shell=call.options.shell))
    return 0


_MANIFEST = Argument.of("manifest", help="directory or URI of the manifest")

COMMANDS: Mapping[str, Command] = {
    "list": Command(
        run=_list,
        text="List a bucket, into a manifest or on the screen.",
        request=ListRequest,
        watches_cancel=True,
    ),
    "select": Command(
        run=_select,
        text="Choose objects of a manifest, into a new one, into splits, or on the screen.",
        request=SelectRequest,
        arguments=(_MANIFEST,),
    ),
    "stage": Command(
        run=_stage,
        text="Put a manifest's objects on local disk, verified.",
        request=StageRequest,
        arguments=(_MANIFEST,),
        watches_cancel=True,
    ),
    "pack": Command(
        run=_pack,
        text="Put a manifest's objects into tar shards, here or in a bucket.",
        request=PackRequest,
        arguments=(_MANIFEST,),
        watches_cancel=True,
    ),
    "diff": Command(
        run=_diff,
        text="Compare two manifests: exit code 1 if they differ.",
        arguments=(
            Argument.of("before", help="directory or URI of the earlier manifest"),
            Argument.of("after", help="directory or URI of the later manifest"),
        ),
    ),
    "show": Command(
        run=_show,
        text="Describe a manifest, a staged tree or a pack.",
        arguments=(
            Argument.of("place", help="directory or URI of a manifest, a staged tree or a pack"),
            Argument.of(
                "--rows",
                action="store_true",
                help="print what is in it instead: size, generation and name of each object; the path of each staged "
                "file; size, number of samples and name of each shard",
            ),
        ),
    ),
    "verify": Command(
        run=_verify,
        text="Compare the files of a staged tree with its receipts, or with a manifest.",
        arguments=(
            Argument.of("destination", help="directory that was staged to"),
            Argument.of("--manifest", help="directory or URI of a manifest to compare with, instead of the receipts"),
            Argument.of("--strip-prefix", default="", help="that of the staging; used only with --manifest"),
        ),
    ),
    "prune": Command(
        run=_prune, text="Remove staged trees that are not needed any more, oldest first.", request=PruneRequest
    ),
    "sweep": Command(run=_sweep, text="Delete temporary objects that killed stagings left.", request=SweepRequest),
    "serve": Command(
        run=_serve,
        text="Serve Cloud Storage on this machine, for trials; takes the options of airflow_dataflux.testing.",
        passes_on=True,
    ),
    "completion": Command(
        run=_completion,
        text="Print what a shell needs to complete commands and options.",
        arguments=(Argument.of("shell", choices=("bash", "zsh"), help="which shell"),),
    ),
}
