"""Walks over manifest and destination: what is there already, what is needed, and what became of each object.

Guarantees: after `scan_destination`, every name is known to be safe and every obstruction at the destination is known
(one error names them all), and each object is either to be fetched or proven right where it is. What `unchanged_since`
calls up to date was staged from a manifest of the same fingerprint with the same paths, and each file still has the
size, the modification time and the inode that its receipt recorded. Neither moves or writes anything; the second sends
no request and starts no process, either.

Memory: 17 bytes an object, in `ObjectStates`, and the paths of extraneous files.
"""

from __future__ import annotations

import contextlib
import os
import stat
from array import array
from collections import Counter
from collections.abc import Iterable, Iterator

import msgspec
import pyarrow as pa
from pyarrow._compute import MatchSubstringOptions

from airflow_dataflux.core.arrow import (
    column,
    compute,
    ends_with,
    from_buffers,
    is_in,
    number,
    tally,
    total,
    without_prefix,
)
from airflow_dataflux.core.config import StageRequest
from airflow_dataflux.core.gcs.store import ObjectVersion
from airflow_dataflux.core.manifest import Manifest
from airflow_dataflux.core.manifest.location import INDEX_NAME
from airflow_dataflux.core.staging.batching import is_gzip
from airflow_dataflux.core.staging.earlier_files import (
    EarlierObject,
    EarlierStaging,
    ListedObject,
    Obstruction,
    TreeReader,
    still_right,
)
from airflow_dataflux.core.staging.linking import LinkableTree, put_in_place
from airflow_dataflux.core.staging.localfile import (
    DestinationTree,
    FileIdentity,
    TreeWriter,
    open_own_directory,
    open_root,
)
from airflow_dataflux.core.staging.localpath import FileSystemTraits, NameCheck, OwnPaths
from airflow_dataflux.core.staging.preflight import SpaceNeeded
from airflow_dataflux.core.staging.receipt import (
    DECOMPRESSED,
    EXTRANEOUS,
    LINKED,
    REUSED,
    SKIPPED,
    STATE_SCHEMA,
    Receipt,
    progress_name,
    read_objects,
    read_receipt,
    receipt_name,
    receipt_names,
)
from airflow_dataflux.core.staging.strategy import SizeHistogram

_TO_FETCH = number(0, pa.uint8())

_NAMED_UNSAFE = 1000
"""Objects left out for their names that a receipt names."""

_GZIP = MatchSubstringOptions("gzip")

_LINKABLE = 32
"""A status from here on: the content is in another tree, that of this number; until it is linked."""


class ObjectStates:
    """The state of each object of the manifest, by its position: 0 in `status` means to be fetched."""

    def __init__(self, count: int) -> None:
        self.status = bytearray(count)
        self.mtime_ns = array("q", bytes(8 * count))
        self.inode = array("Q", bytes(8 * count))

    def place(self, ordinal: int, status: int, mtime_ns: int, inode: int) -> None:
        """Record that an object is in its place."""
        self.status[ordinal] = status
        self.mtime_ns[ordinal] = mtime_ns
        self.inode[ordinal] = inode

    def note_fetched(self, records: Iterable[tuple[int, int, int]]) -> None:
        """Note what an interrupted try put in place; whether it is still there is to be found out."""
        for ordinal, mtime_ns, inode in records:
            if ordinal < len(self.status):
                self.place(ordinal, 0, mtime_ns, inode)

    def identity(self, ordinal: int) -> FileIdentity:
        """Return what identifies the file of an object."""
        return FileIdentity(self.mtime_ns[ordinal], self.inode[ordinal])

    def wanted(self, first: int, count: int) -> pa.Array:
        """Return a boolean for each of `count` objects: it is to be fetched."""
        return compute("equal", from_buffers(pa.uint8(), count, self.status[first : first + count]), _TO_FETCH)

    def columns(self, first: int, count: int) -> tuple[pa.Array, pa.Array, pa.Array]:
        """Return status, mtime_ns and inode of `count` objects as Arrow arrays."""
        return (
            from_buffers(pa.uint8(), count, self.status[first : first + count]),
            from_buffers(pa.int64(), count, self.mtime_ns[first : first + count]),
            from_buffers(pa.uint64(), count, self.inode[first : first + count]),
        )


class ScanResult(msgspec.Struct):
    """What the walk found.

    Attributes:
        states: of all objects.
        needed: disk space of the objects to fetch.
        fetch_count, fetch_bytes: objects to fetch.
        reused: objects that are right where they are.
        linkable: objects whose content a file of another tree has.
        gzip_encoded: objects that are stored gzip-encoded.
        files: objects that become or are files: no placeholders, and none that is left out.
        unsafe_count, unsafe: objects left out because of their names: how many, and the first with their reasons.
        sizes: histogram of the objects to fetch.
        bytes_by_class: bytes to fetch, by storage class.
        extraneous: files of earlier stagings that this manifest lacks.
        sample: one of the objects to fetch, and its storage class.
    """

    states: ObjectStates
    needed: SpaceNeeded
    fetch_count: int = 0
    fetch_bytes: int = 0
    reused: int = 0
    linkable: int = 0
    gzip_encoded: int = 0
    files: int = 0
    unsafe_count: int = 0
    unsafe: dict[str, str] = {}
    sizes: SizeHistogram = msgspec.field(default_factory=SizeHistogram)
    bytes_by_class: Counter[str] = msgspec.field(default_factory=Counter)
    extraneous: list[EarlierObject] = []
    sample: ObjectVersion | None = None
    sample_class: str = ""

    def count_batch(self, rows: pa.RecordBatch) -> None:
        """Count rows that are to be fetched."""
        if rows.num_rows == 0:
            return
        sizes = rows["size"]
        block, last = number(self.needed.block_bytes, sizes.type), number(self.needed.block_bytes - 1, sizes.type)
        blocks = compute("divide", compute("add", sizes, last), block)
        self.needed.bytes += total(blocks) * self.needed.block_bytes
        self.needed.files += rows.num_rows
        self.fetch_count += rows.num_rows
        self.fetch_bytes += total(sizes)
        self.sizes.add(sizes.to_pylist())
        for storage_class, (_, total_bytes) in tally(rows["storage_class"], sizes).items():
            self.bytes_by_class[storage_class] += total_bytes
        if self.sample is None:
            self.sample = ObjectVersion(name=rows["name"][0].as_py(), generation=rows["generation"][0].as_py())
            self.sample_class = rows["storage_class"][0].as_py()


class ScanInputs(msgspec.Struct, frozen=True, kw_only=True):
    """What the walk compares the manifest with.

    Attributes:
        root_fd: the open destination, None if there is none or nothing in it.
        earlier: receipts found there.
        fetched: what an interrupted try of the same manifest noted: position, mtime_ns and inode of what is in place.
        trees: other trees with files that can be linked.
        traits: how its file system treats names.
        block_bytes: in which it hands out space.
    """

    root_fd: int | None
    earlier: list[EarlierStaging] = []
    fetched: Iterable[tuple[int, int, int]] = ()
    trees: list[LinkableTree] = []
    traits: FileSystemTraits = msgspec.field(default_factory=FileSystemTraits)
    block_bytes: int = 4096


def scan_destination(manifest: Manifest, request: StageRequest, inputs: ScanInputs) -> ScanResult:
    """Walk over the manifest. Raises UnsafeNameError that names everything that cannot be staged here."""
    found = ScanResult(ObjectStates(len(manifest)), SpaceNeeded(inputs.block_bytes))
    found.states.note_fetched(inputs.fetched)
    skip = request.on_unsafe_name == "skip"
    own = _own_paths(manifest, request)
    names = NameCheck(request.destination, request.strip_prefix, inputs.traits, skip=skip, own=own)
    _look_before(manifest, names)
    first = 0
    with TreeReader(-1 if inputs.root_fd is None else inputs.root_fd) as reader:
        for rows in manifest.batches():
            found.gzip_encoded += compute("match_substring", rows["content_encoding"], options=_GZIP).true_count
            found.files += rows.num_rows - ends_with(rows["name"], "/").true_count
            refused_before = names.refused_count
            listed = names.look(rows["name"], rows["size"])
            for index, reason in names.left_out.items():
                _leave_out_unsafe(listed[index], first + index, reason, found)
            if (inputs.root_fd is not None or inputs.trees) and names.refused_count == refused_before:
                for wanted, ordinal in _listed_objects(rows, listed, request, first):
                    if not found.states.status[ordinal]:
                        _look_at(wanted, ordinal, manifest.bucket, inputs, reader, found, names)
            found.count_batch(compute("filter", rows, found.states.wanted(first, rows.num_rows)))
            first += rows.num_rows
    _look_behind(manifest, names)
    names.raise_if_refused(manifest.bucket)
    for staging in inputs.earlier:
        _skip(staging, None, found)
    return found


def _own_paths(manifest: Manifest, request: StageRequest) -> OwnPaths:
    """Return what lies in the destination of the manifest that is read meanwhile, and of the receipts."""
    root = request.destination + "/"
    uri, receipts = manifest.uri or "", request.receipt_directory
    files: frozenset[str] = frozenset()
    if uri.startswith(f"file://{root}") or uri == f"file://{request.destination}":
        directory = uri.removeprefix("file://")
        paths = [INDEX_NAME, *(part.path for part in manifest.index.parts if "://" not in part.path)]
        files = frozenset(os.path.relpath(os.path.join(directory, path), request.destination) for path in paths)
    inside = receipts is not None and os.path.normpath(receipts).startswith(root)
    return OwnPaths(files, os.path.relpath(receipts, request.destination) if receipts and inside else None)


def _look_before(manifest: Manifest, names: NameCheck) -> None:
    """Note what the shards before this one have that its names could clash with.

    In byte order all names that begin with `a` stand together, so of the files before the first name only those can
    clash whose names it begins with. Where the file system folds names, any two can: the whole manifest is looked at.
    """
    shard, whole = manifest.shard_info, manifest.whole()
    if shard is None or whole is None:
        return
    if not names.traits.exact and names.skip:
        for rows in whole.batches_between(0, shard.start):
            names.look(rows["name"], rows["size"])  # the earlier of two names that are one is staged, by its own shard
        return
    if not names.traits.exact:
        everything = NameCheck(names.destination, names.strip_prefix, names.traits, own=names.own)
        for rows in whole.batches():
            everything.look(rows["name"], rows["size"])
        everything.raise_if_refused(manifest.bucket)
        return
    first = next((rows["name"][0].as_py() for rows in manifest.batches()), "")
    beginnings = column([first[:length] for length in range(1, len(first))], pa.string())
    found: list[str] = []
    for rows in whole.batches_between(0, shard.start) if len(beginnings) else ():
        found += compute("filter", rows["name"], is_in(rows["name"], beginnings)).to_pylist()
    names.begin_after(name for name in found if not name.endswith("/"))


def _look_behind(manifest: Manifest, names: NameCheck) -> None:
    """Look at the first names of the shards behind this one, as far as they could lie below one of its files."""
    shard, whole = manifest.shard_info, manifest.whole()
    if shard is None or whole is None or not names.traits.exact:
        return
    for rows in whole.batches_between(shard.start + shard.object_count, len(whole)):
        if not names.goes_on(rows["name"][0].as_py()):
            return
        names.look(rows["name"], rows["size"])


def _leave_out_unsafe(name: str, ordinal: int, reason: str, found: ScanResult) -> None:
    """Leave an object out whose name cannot become a path."""
    found.states.place(ordinal, SKIPPED, 0, 0)
    found.files -= not name.endswith("/")
    found.unsafe_count += 1
    if len(found.unsafe) < _NAMED_UNSAFE:
        found.unsafe[name] = reason


def _listed_objects(
    rows: pa.RecordBatch, listed: list[str], request: StageRequest, first: int
) -> Iterator[tuple[ListedObject, int]]:
    stripped = len(request.strip_prefix)
    encodings = rows["content_encoding"].to_pylist() if request.decompress else [None] * rows.num_rows
    columns = [rows[name].to_pylist() for name in ("size", "generation", "crc32c")]
    for ordinal, (name, encoding, size, generation, crc) in enumerate(
        zip(listed, encodings, *columns, strict=True), first
    ):
        yield ListedObject(name[stripped:], name, size, generation, crc, is_gzip(encoding)), ordinal


def _look_at(
    wanted: ListedObject,
    ordinal: int,
    bucket: str,
    inputs: ScanInputs,
    reader: TreeReader,
    found: ScanResult,
    names: NameCheck,
) -> None:
    earlier: list[EarlierObject] = []
    for staging in inputs.earlier:
        _skip(staging, wanted.path, found)
        known = staging.take(wanted.path)
        if known is not None and staging.receipt.bucket == bucket:
            earlier.append(known)
    if inputs.root_fd is not None:
        try:
            placed = still_right(wanted, earlier, found.states.identity(ordinal), reader)
        except Obstruction as obstruction:
            names.refuse(wanted.name, str(obstruction))
            return
        if placed is not None:
            found.states.place(ordinal, DECOMPRESSED if wanted.decompressed else REUSED, *_fields(placed))
            found.reused += 1
            return
    for place, tree in enumerate(inputs.trees):
        identity = tree.find(wanted)
        if identity is not None:
            found.states.place(ordinal, _LINKABLE + place, identity.mtime_ns, identity.inode)
            found.linkable += 1
            return


def _fields(identity: FileIdentity) -> tuple[int, int]:
    return identity.mtime_ns, identity.inode


def _skip(staging: EarlierStaging, path: str | None, found: ScanResult) -> None:
    """Pass over what an earlier staging placed before `path` and this manifest does not have there."""
    for one in staging.take_until(path):
        if staging.accountable and one.status != SKIPPED:
            found.extraneous.append(one)


def link_found(
    manifest: Manifest, request: StageRequest, trees: list[LinkableTree], tree: DestinationTree, found: ScanResult
) -> Iterator[int]:
    """Put in place what the scan found in other trees, and yield after each batch how many objects are.

    What is not there any more is to be fetched, and counted so.
    """
    first = linked = 0
    states = found.states
    with TreeWriter(tree) as writer:
        for rows in manifest.batches():
            if max(states.status[first : first + rows.num_rows], default=0) >= _LINKABLE:
                listed = rows["name"].to_pylist()
                for wanted, ordinal in _listed_objects(rows, listed, request, first):
                    if states.status[ordinal] < _LINKABLE:
                        continue
                    source = trees[states.status[ordinal] - _LINKABLE]
                    placed = put_in_place(wanted, states.identity(ordinal), source, writer)
                    if placed is None:
                        states.place(ordinal, 0, 0, 0)
                        found.count_batch(rows.slice(ordinal - first, 1))
                    else:
                        states.place(ordinal, DECOMPRESSED if wanted.decompressed else LINKED, *_fields(placed))
                        linked += 1
                yield linked
            first += rows.num_rows


def unchanged_since(manifest: Manifest, request: StageRequest, scope: str) -> tuple[Receipt, int] | None:
    """Return the receipt of an earlier staging and how many objects it has in place, if nothing is to be done since.

    None if there may be something to do. `scope` is that of the manifest.
    """
    with contextlib.ExitStack() as closing:
        root_fd = open_root(request.destination, closing)
        own_fd = None if root_fd is None else open_own_directory(root_fd, request.receipt_directory, closing)
        if root_fd is None or own_fd is None:
            return None
        name = receipt_name(scope)
        if progress_name(scope) in os.listdir(own_fd):
            return None  # a try was interrupted, perhaps behind its receipt: what it left is to be removed
        if not scope and receipt_names(own_fd) != [name]:
            return None  # shards were staged here too: the full scan sorts that out
        receipt = read_receipt(own_fd, name)
        if receipt is None or not _is_for(receipt, manifest, request):
            return None
        in_place = _untouched(root_fd, own_fd, receipt, request)
        return None if in_place is None else (receipt, in_place)


def _is_for(receipt: Receipt, manifest: Manifest, request: StageRequest) -> bool:
    return (
        receipt.fingerprint == manifest.fingerprint
        and receipt.bucket == manifest.bucket
        and receipt.object_count == len(manifest)
        and not receipt.temporary
        and receipt.strip_prefix == request.strip_prefix
        and receipt.decompress == request.decompress
        and (request.receipt_directory is None or receipt.destination == request.destination)
        and (not receipt.changed or request.on_changed_object == "skip")
        and (not receipt.unreadable or request.on_unreadable_object == "skip")
        and (not receipt.unsafe or request.on_unsafe_name == "skip")
    )


def _untouched(root_fd: int, own_fd: int, receipt: Receipt, request: StageRequest) -> int | None:
    """Return how many objects are in their place, None if one is not as it was left."""
    present = seen = 0
    with TreeReader(root_fd) as reader:
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
                    found = reader.status(path.rstrip("/"))
                except Obstruction:
                    return None
                if found is None:
                    return None
                if path.endswith("/") or not path:
                    if not stat.S_ISDIR(found.st_mode):
                        return None
                elif (
                    not stat.S_ISREG(found.st_mode)
                    or (status != DECOMPRESSED and found.st_size != size)
                    or (found.st_mtime_ns, found.st_ino) != (mtime_ns, inode)
                ):
                    return None
                present += 1
    return present if seen == receipt.object_count else None


def final_states(
    manifest: Manifest, states: ObjectStates, strip_prefix: str, kept: list[EarlierObject]
) -> Iterator[pa.RecordBatch]:
    """Yield the state of all objects in `STATE_SCHEMA`, sorted by path; `kept` (sorted) are extraneous files."""
    first = 0
    waiting = kept
    for rows in manifest.batches():
        names = rows["name"]
        paths = without_prefix(names, strip_prefix)
        status, mtime_ns, inode = states.columns(first, rows.num_rows)
        columns = [paths, names, rows["size"], rows["generation"], rows["crc32c"], status, mtime_ns, inode]
        batch = pa.record_batch(columns, schema=STATE_SCHEMA)
        first += rows.num_rows
        last = paths[-1].as_py()
        before = [one for one in waiting if one.path < last] if waiting else []
        if not before:
            yield batch
            continue
        waiting = waiting[len(before) :]
        merged = pa.Table.from_batches([batch, _extraneous(before)]).sort_by("path").combine_chunks()
        yield from merged.to_batches()
    if waiting:
        yield _extraneous(waiting)


def _extraneous(files: list[EarlierObject]) -> pa.RecordBatch:
    columns = [[getattr(one, field.name) for one in files] for field in STATE_SCHEMA]
    columns[STATE_SCHEMA.get_field_index("status")] = [EXTRANEOUS] * len(files)
    return pa.record_batch(
        [column(values, field.type) for values, field in zip(columns, STATE_SCHEMA, strict=True)],
        schema=STATE_SCHEMA,
    )
