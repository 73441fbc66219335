"""From object names to safe relative paths, or the reason why not (pure).

Guarantees: a path that is returned has only ordinary segments, so that joined to the destination it stays inside it;
the names of one manifest that pass `NameCheck` get distinct paths, none of which is a directory of another.
Every refusal is collected, so that one error names them all before anything is fetched.

Assumptions: names come in UTF-8 byte order, as a manifest has them; the file system compares names by
`FileSystemTraits`. What is on disk already (symlinks, other files) is not looked at here.
"""

from __future__ import annotations

import os
import re
import unicodedata
from collections.abc import Iterable

import msgspec
import pyarrow as pa

from airflow_dataflux.core.arrow import column, compute, indices, is_in, matches, starts_with, without_prefix
from airflow_dataflux.core.errors import UnsafeNameError
from airflow_dataflux.core.model import object_uri

OWN_DIRECTORY = ".dataflux"
"""Receipts and locks below the destination; no object may land there."""

_SUSPECT = r"(?:^|/)(?:\.{0,2}|\.dataflux)(?:/|$)|[\x00-\x1f\x7f]"
"""Any name that the slow check must look at for its segments or characters; the rest is safe as it is."""

_CONTROL = re.compile(r"[\x00-\x1f\x7f]")
_REPORTED_NAMES = 20
"""How many refused names a message spells out; the error's details hold up to `_KEPT_NAMES`."""
_KEPT_NAMES = 1000


class FileSystemTraits(msgspec.Struct, frozen=True, kw_only=True):
    """How the destination's file system treats names.

    Attributes:
        case_sensitive: `A` and `a` are two files.
        keeps_normalisation: composed and decomposed forms of one text are two files.
        name_max_bytes: longest segment.
        path_max_bytes: longest path that the system takes, with the zero byte that ends it.
    """

    case_sensitive: bool = True
    keeps_normalisation: bool = True
    name_max_bytes: int = 255
    path_max_bytes: int = 4096

    @property
    def exact(self) -> bool:
        """Whether different names are always different files."""
        return self.case_sensitive and self.keeps_normalisation

    def fold(self, path: str) -> str:
        """Return what is equal for paths that this file system holds for one."""
        if not self.keeps_normalisation:
            path = unicodedata.normalize("NFD", path)
        return path if self.case_sensitive else path.casefold()


class RefusedName(msgspec.Struct, frozen=True):
    """An object name that cannot be staged, and why."""

    name: str
    reason: str


def refusal_of(name: str, *, strip_prefix: str = "", traits: FileSystemTraits | None = None) -> str | None:
    """Return why `name` alone cannot become a path, or None if it can.

    A name that ends in `/` is looked at as the directory that it stands for; whether it may be one is the
    caller's to know (it must hold no bytes).
    """
    traits = traits or FileSystemTraits()
    if not name.startswith(strip_prefix):
        return f"does not begin with strip_prefix {strip_prefix!r}"
    path = name[len(strip_prefix) :]
    if not path:
        # The placeholder of the prefix itself is the destination.
        return None if name.endswith("/") else "nothing is left of it after strip_prefix"
    if path.startswith("/"):
        lacking = f"; does strip_prefix {strip_prefix!r} lack its '/'?" if strip_prefix else ""
        return f"is an absolute path{lacking}"
    control = _CONTROL.search(path)
    if control:
        return f"contains the control character {control.group()!r}"
    segments = path.removesuffix("/").split("/")
    if "" in segments:
        return "contains '//'"
    for segment in segments:
        if segment in (".", ".."):
            return f"contains the segment {segment!r}"
        if len(segment) > traits.name_max_bytes // 4 and len(segment.encode()) > traits.name_max_bytes:
            return f"has a segment of {len(segment.encode())} bytes; the file system takes {traits.name_max_bytes}"
    if segments[0].casefold() == OWN_DIRECTORY:
        return f"lies in {OWN_DIRECTORY}/, which belongs to the receipts"
    return None


class OwnPaths(msgspec.Struct, frozen=True):
    """What else of this product lies in a destination, as paths below it: no object may take its place.

    Attributes:
        files: such as the index and the parts of the very manifest that is staged.
        directory: that of the receipts, if it was given and lies in the destination.
    """

    files: frozenset[str] = frozenset()
    directory: str | None = None

    def taken(self, path: str, traits: FileSystemTraits) -> str | None:
        """Return why an object may not have this path; None if it may."""
        folded = traits.fold(path.removesuffix("/"))
        if folded in {traits.fold(file) for file in self.files}:
            return "would replace a file of the manifest that is staged"
        if self.directory is not None and f"{folded}/".startswith(traits.fold(self.directory) + "/"):
            return "lies in receipt_directory, which belongs to the receipts"
        return None

    def mask(self, paths: pa.Array) -> pa.Array:
        """Return a boolean for each path of a file system that is exact: it is taken."""
        if self.directory is None:
            return is_in(paths, column(sorted(self.files), paths.type))
        found = is_in(paths, column(sorted({*self.files, self.directory}), paths.type))
        return compute("or", found, starts_with(paths, self.directory + "/"))


class NameCheck(msgspec.Struct):
    """Looks at all names of a manifest, batch by batch, and collects refusals.

    On file systems that fold names it keeps a hash of every path; else its memory does not grow with the manifest.
    """

    destination: str
    strip_prefix: str = ""
    traits: FileSystemTraits = msgspec.field(default_factory=FileSystemTraits)
    skip: bool = False
    own: OwnPaths = msgspec.field(default_factory=OwnPaths)
    left_out: dict[int, str] = {}
    refusals: list[RefusedName] = []
    refused_count: int = 0
    _open_files: list[str] = []
    _folded_files: set[int] = msgspec.field(default_factory=set)
    _folded_directories: set[int] = msgspec.field(default_factory=set)

    def look(self, names: pa.Array, sizes: pa.Array) -> list[str]:
        """Check one batch of names and sizes; return the names as Python strings.

        With `skip`, what is refused is in `left_out` instead, by its position in the batch, until the next look.
        """
        self.left_out = {}
        suspects = self._suspects(names)
        listed: list[str] = names.to_pylist()
        for index, name in enumerate(listed):
            reason = self._alone(name, int(sizes[index].as_py())) if suspects is None or index in suspects else None
            if reason is None:
                reason = self._beside(name)
            if reason is None and not self.traits.exact:
                reason = self._folded(name)
            if reason is not None and self.skip:
                self.left_out[index] = reason
            elif reason is not None:
                self.refuse(name, reason)
        return listed

    def begin_after(self, files: Iterable[str]) -> None:
        """Note the files, in order, that come before the first name and whose names it begins with."""
        self._open_files = list(files)

    def goes_on(self, name: str) -> bool:
        """Return whether a name that follows the last one may still lie below a file that was looked at."""
        return any(name.startswith(above) for above in self._open_files[:1])

    def refuse(self, name: str, reason: str) -> None:
        """Record a refusal; beyond the first thousand they are only counted."""
        self.refused_count += 1
        if len(self.refusals) < _KEPT_NAMES:
            self.refusals.append(RefusedName(name, reason))

    def raise_if_refused(self, bucket: str) -> None:
        """Raise UnsafeNameError that names what was refused, if anything was."""
        if not self.refused_count:
            return
        spelled_out = self.refusals[:_REPORTED_NAMES]
        shown = "; ".join(f"{object_uri(bucket, one.name)!r} {one.reason}" for one in spelled_out)
        more = self.refused_count - min(self.refused_count, _REPORTED_NAMES)
        raise UnsafeNameError(
            f"{self.refused_count} object name(s) cannot become paths below {self.destination}, and nothing was "
            f"fetched: {shown}{f'; and {more} more' if more else ''}. Leave them out with "
            'on_unsafe_name="skip", with exclude_glob when listing, or with another prefix, or stage to a file system '
            "that takes them.",
            names={one.name: one.reason for one in self.refusals},
            refused_count=self.refused_count,
        )

    def _suspects(self, names: pa.Array) -> frozenset[int] | None:
        """Return the indexes of names that need the slow check, nearly always none; None for all."""
        if not self.traits.exact:
            return None
        limit = min(self.traits.name_max_bytes, self.traits.path_max_bytes - len(os.fsencode(self.destination)) - 2)
        paths = without_prefix(names, self.strip_prefix)
        # Not compared with the limit by Arrow: a Python number that becomes a scalar makes Arrow import pandas.
        if len(paths) and compute("max", compute("binary_length", paths)).as_py() > limit:
            return None
        found = matches(paths, _SUSPECT)
        if self.strip_prefix:
            found = compute("or", found, compute("invert", starts_with(names, self.strip_prefix)))
        if self.own != OwnPaths():
            found = compute("or", found, self.own.mask(paths))
        return frozenset(indices(found))

    def _alone(self, name: str, size: int) -> str | None:
        reason = refusal_of(name, strip_prefix=self.strip_prefix, traits=self.traits)
        if reason is None and name.endswith("/") and size:
            return f"ends in '/' but holds {size} bytes"
        if reason is None:
            reason = self.own.taken(name[len(self.strip_prefix) :], self.traits)
        length = len(os.fsencode(self.destination)) + 1 + len(name[len(self.strip_prefix) :].encode())
        if reason is None and length >= self.traits.path_max_bytes:
            return f"makes a path of {length} bytes; the system takes {self.traits.path_max_bytes - 1}"
        return reason

    def _beside(self, name: str) -> str | None:
        """Refuse `a/b` where `a` is a file.

        In byte order all names that begin with `a` follow `a` without a gap, so the files whose names begin `name`
        form a stack.
        """
        stack = self._open_files
        while stack and not name.startswith(stack[-1]):
            stack.pop()
        for above in stack:
            if name[len(above)] == "/":
                return f"would lie below {above!r}, which is a file"
        if not name.endswith("/"):
            stack.append(name)
        return None

    def _folded(self, name: str) -> str | None:
        """Refuse a path that this file system holds for one with another file. Directories may well be one."""
        path = self.traits.fold(name[len(self.strip_prefix) :])
        parents = {hash(path[:at]) for at, letter in enumerate(path) if letter == "/"}
        whole = hash(path)
        clash = not parents.isdisjoint(self._folded_files)
        if not path.endswith("/"):
            clash = clash or whole in self._folded_files or whole in self._folded_directories
            self._folded_files.add(whole)
        self._folded_directories |= parents
        return "is one with an earlier name on this file system (case or Unicode normalisation)" if clash else None
