"""Which temporary files are left over: those of writers that have ended.

Whoever writes files into a destination keeps a *mark* in its own directory (`.dataflux`) meanwhile: a small file
`writer~<digits>`, locked with flock(2). The names of its temporary files have the same random digits. The lock ends
with the process, however that ends. So what a lock tells is certain, where a name or an age would be a guess.

A mark of another machine proves less: some file systems that machines share lock within one machine only. The files of
such a writer are left over if, in addition, nothing was written to them for a day; no write takes so long.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import re
import secrets
from collections.abc import Iterator

import msgspec

from airflow_dataflux.core.manifest.files import open_file
from airflow_dataflux.core.runtime.machine import machine_id

_NAME = re.compile(r"writer~([0-9a-f]{12})")
_FORMAT = b"dataflux-writer/1\n"
_ELSEWHERE = b"elsewhere\n"
_MOST_BYTES = 4096
_DAY_S = 86400.0


class WriterMark:
    """The mark of this writer, as long as it is not removed.

    Attributes:
        digits: what its temporary files have in their names.
    """

    def __init__(self, own_fd: int) -> None:
        """Make and lock it in an open directory. Raises OSError."""
        self._own_fd = own_fd
        self._noted = False
        while True:
            self.digits = secrets.token_hex(6)
            flags = os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC | os.O_APPEND
            self._fd = os.open(self._name, flags, 0o666, dir_fd=own_fd)
            try:
                with contextlib.suppress(OSError):  # a file system without locks: nobody can lock the mark, then
                    fcntl.flock(self._fd, fcntl.LOCK_EX)
                os.write(self._fd, _FORMAT + machine_id().encode() + b"\n")
            except BaseException:
                self.remove()
                raise
            if os.fstat(self._fd).st_nlink:
                return
            os.close(self._fd)  # it was taken for a mark that is left over, before it was locked

    @property
    def made_at(self) -> float:
        """When it was last written to, by the clock of its file system."""
        return os.fstat(self._fd).st_mtime

    def note_elsewhere(self) -> None:
        """Note that this writer has temporary files outside the own directory. Call it before the first of them."""
        if not self._noted:
            os.write(self._fd, _ELSEWHERE)
            self._noted = True

    def remove(self) -> None:
        """Remove it: there are no temporary files of this writer any more. Idempotent."""
        if self._fd >= 0:
            with contextlib.suppress(OSError):
                os.unlink(self._name, dir_fd=self._own_fd)
            os.close(self._fd)
            self._fd = -1

    @property
    def _name(self) -> str:
        return f"writer~{self.digits}"


class OtherMark(msgspec.Struct, frozen=True, kw_only=True):
    """The mark of another writer.

    Attributes:
        digits: in the names of its temporary files.
        ended: whether the writer has ended, so that its files are left over; locked then, until it is removed.
        elsewhere: whether some of them may be outside the own directory.
        unwritten_since: of these files, those that were changed later stay.
    """

    digits: str
    ended: bool
    elsewhere: bool = False
    unwritten_since: float = float("inf")


@contextlib.contextmanager
def other_marks(own_fd: int, own: WriterMark) -> Iterator[list[OtherMark]]:
    """Yield the marks of all other writers. Those that have ended stay locked meanwhile."""
    with contextlib.ExitStack() as held:
        yield [
            _look_at(match[0], own_fd, own, held)
            for match in map(_NAME.fullmatch, os.listdir(own_fd))
            if match is not None and match[1] != own.digits
        ]


def remove_mark(own_fd: int, mark: OtherMark) -> None:
    """Remove a mark that is locked, after the files of its writer."""
    with contextlib.suppress(OSError):
        os.unlink(f"writer~{mark.digits}", dir_fd=own_fd)


def _look_at(name: str, own_fd: int, own: WriterMark, held: contextlib.ExitStack) -> OtherMark:
    digits = name.partition("~")[2]
    try:
        descriptor = open_file(name, os.O_RDWR, dir_fd=own_fd)
    except OSError:
        return OtherMark(digits=digits, ended=False)  # it is not known, or just now was removed
    held.callback(os.close, descriptor)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        return OtherMark(digits=digits, ended=False)  # it lives, or nobody can tell
    told = os.pread(descriptor, _MOST_BYTES, 0)
    if not told.startswith(_FORMAT):
        # Its writer was killed before it wrote this, and so before it wrote anything else; or it is not ours.
        return OtherMark(digits=digits, ended=not told)
    here = told.removeprefix(_FORMAT).startswith(machine_id().encode())
    return OtherMark(
        digits=digits,
        ended=True,
        elsewhere=told.endswith(_ELSEWHERE),
        unwritten_since=float("inf") if here else own.made_at - _DAY_S,
    )
