"""Which objects belong together, and in which order they go into shards.

A *sample* is what a training loop takes at once: `0001.jpg` and `0001.json`. As WebDataset sees it, a sample is the
objects whose names are the same up to the first dot of their last segment; a regular expression with one group can say
it otherwise.

Guarantees: every object is in exactly one sample; a sample's objects stand together, in the order of the manifest.
Samples come in the order of the manifest, or in one that depends on nothing but their keys and the seed.
Memory: the samples that are not complete yet. Where what belongs together lies far apart in the manifest (an
expression, a seed), rows are sorted by SQLite, in a temporary file (`SQLITE_TMPDIR` or `TMPDIR`) of about 200 bytes a
row.

Placeholders (no bytes, the name ends in `/`) belong to no sample and are left out.
"""

from __future__ import annotations

import re
import sqlite3
from collections.abc import Callable, Iterable, Iterator
from contextlib import closing
from hashlib import blake2b
from itertools import groupby
from typing import TYPE_CHECKING

import msgspec

from airflow_dataflux.core.errors import InvalidRequestError

if TYPE_CHECKING:
    import pyarrow as pa

WEBDATASET = "webdataset"
"""The value of `sample_by` that stands for WebDataset's own rule."""

_CACHE_KIB = 32 * 1024


class Member(msgspec.Struct, frozen=True, gc=False, array_like=True):
    """One object of a sample, pinned by its generation."""

    name: str
    size: int
    generation: int
    crc32c: int | None
    storage_class: str
    content_encoding: str | None


Sample = tuple[Member, ...]
"""Never empty."""


def webdataset_key(name: str) -> str | None:
    """Return what WebDataset takes for the sample's key, None for a name that its reader passes over.

    Passed over are names without a dot in their last segment, and what stands below a name such as `__meta__`.
    """
    segments = name.split("/")
    if _is_meta(segments[0]):
        return None
    last = segments[-1]
    dot = last.find(".")
    if dot > 0:
        return name[: len(name) - len(last) + dot]
    if dot < 0 or len(segments) == 1 or "." in segments[-2]:
        return None
    return name[: -len(last)]  # a hidden file belongs to its directory


def webdataset_extension(name: str, key: str) -> str:
    """Return the part of a name behind its key, by which WebDataset tells the members of a sample apart."""
    return name[len(key) + 1 :].lower()


def _is_meta(segment: str) -> bool:
    return len(segment) >= 4 and segment.startswith("__") and segment.endswith("__")


class SampleOrder:
    """The samples of a manifest in the order in which they are packed. Iterate as often as you like."""

    def __init__(
        self,
        batches: Callable[[], Iterable[pa.RecordBatch]],
        *,
        sample_by: str = WEBDATASET,
        shuffle_seed: int | None = None,
    ) -> None:
        """Set up; nothing is read yet.

        Args:
            batches: a new pass over the manifest, in its order.
            sample_by: "webdataset", or a regular expression that is searched in each name; its one group is the
                sample's key. An object in whose name it is not found is a sample of its own.
            shuffle_seed: shuffles the samples; None keeps the manifest's order.

        Raises InvalidRequestError for an expression that is none, or has not one group.
        """
        self._batches = batches
        self._key = webdataset_key if sample_by == WEBDATASET else _key_by(sample_by)
        self._streams = sample_by == WEBDATASET and shuffle_seed is None
        self._seed = shuffle_seed

    def __iter__(self) -> Iterator[Sample]:
        return self._streamed() if self._streams else self._sorted()

    def _streamed(self) -> Iterator[Sample]:
        """Yield samples as they become complete.

        In the manifest's order all names that begin with `key.` are neighbours, and so are the members of a sample,
        except that there may be a directory among them: `1.jpg`, `1.more/2.jpg`, `1.txt`. So the incomplete samples
        are nested in one another, and a name that does not begin with the innermost one's key completes it.
        """
        incomplete: list[tuple[str, list[Member]]] = []
        for member in self._members():
            while incomplete and not member.name.startswith(incomplete[-1][0]):
                yield tuple(incomplete.pop()[1])
            key = self._key(member.name)
            if key is None:
                yield (member,)
            elif incomplete and incomplete[-1][0] == f"{key}.":
                incomplete[-1][1].append(member)
            else:
                incomplete.append((f"{key}.", [member]))
        while incomplete:
            yield tuple(incomplete.pop()[1])

    def _sorted(self) -> Iterator[Sample]:
        with closing(sqlite3.connect("", isolation_level=None)) as database:
            for setting in ("journal_mode = OFF", "synchronous = OFF", f"cache_size = -{_CACHE_KIB}"):
                database.execute(f"PRAGMA {setting}")
            database.execute(
                "CREATE TABLE member (rank INTEGER, key TEXT, position INTEGER, name TEXT, size INTEGER,"
                " generation INTEGER, crc32c INTEGER, storage_class TEXT, content_encoding TEXT)"
            )
            database.execute("BEGIN")
            database.executemany("INSERT INTO member VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)", self._ranked())
            found = database.execute(_IN_MANIFEST_ORDER if self._seed is None else _SHUFFLED)
            for _, rows in groupby(found, key=lambda row: row[0]):
                yield tuple(Member(*row[1:]) for row in rows)

    def _ranked(self) -> Iterator[tuple[int | str | None, ...]]:
        for position, member in enumerate(self._members()):
            key = self._key(member.name)
            own = f"\0{member.name}" if key is None else key  # no name that is packed holds a zero character
            rank = 0 if self._seed is None else _shuffled_rank(self._seed, own)
            yield (rank, own, position, *msgspec.structs.astuple(member))

    def _members(self) -> Iterator[Member]:
        for rows in self._batches():
            columns = (rows.column(name).to_pylist() for name in Member.__struct_fields__)
            for values in zip(*columns, strict=True):
                member = Member(*values)
                if member.size or not member.name.endswith("/"):
                    yield member


_COLUMNS = "name, size, generation, crc32c, storage_class, content_encoding"
_SHUFFLED = f"SELECT key, {_COLUMNS} FROM member ORDER BY rank, key, position"  # noqa: S608 - only constants
_IN_MANIFEST_ORDER = (
    f"SELECT key, {_COLUMNS} FROM (SELECT *, MIN(position) OVER (PARTITION BY key) AS first FROM member)"  # noqa: S608
    " ORDER BY first, position"
)


def _shuffled_rank(seed: int, key: str) -> int:
    return int.from_bytes(blake2b(f"{seed}\0{key}".encode(), digest_size=8).digest(), signed=True)


def _key_by(expression: str) -> Callable[[str], str | None]:
    try:
        pattern = re.compile(expression)
    except re.error as error:
        raise InvalidRequestError(f"sample_by is no regular expression: {error} in {expression!r}.") from error
    if pattern.groups != 1:
        raise InvalidRequestError(
            f"sample_by must be {WEBDATASET!r} or a regular expression with one group, the sample's key; "
            f"{expression!r} has {pattern.groups}."
        )

    def key(name: str) -> str | None:
        found = pattern.search(name)
        text: str | None = found[1] if found else None
        return text

    return key
