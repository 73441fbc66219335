"""The real files of the demo: those of this environment's installed packages, and whether their copies are right.

They are listed once, when nothing else runs. What Python adds to the directory later (compiled modules that were
missing) takes no part; what is there it does not change.
"""

from __future__ import annotations

import filecmp
import os
import sysconfig
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

OWN_RECORDS = ".dataflux/"
"""Where a staging keeps its receipts, below its destination."""

LARGE_BYTES = 8_000_000
COMPARED_EVERY = 2_000
"""Files between two reports of progress."""


@dataclass(frozen=True, kw_only=True)
class Sources:
    """The files to stage: their directory, and the size of each by its path below it."""

    root: Path
    sizes: dict[str, int]

    @property
    def total_bytes(self) -> int:
        """Size of all of them."""
        return sum(self.sizes.values())

    @property
    def large_count(self) -> int:
        """How many are large."""
        return sum(size >= LARGE_BYTES for size in self.sizes.values())


@dataclass(frozen=True, kw_only=True)
class Comparison:
    """How a staged tree differs from its sources; nothing listed means that every byte is equal."""

    equal: int
    missing: list[str]
    different: list[str]
    extra: list[str]

    @property
    def perfect(self) -> bool:
        """Whether the tree is exactly the sources."""
        return not (self.missing or self.different or self.extra)


def installed_packages() -> Sources:
    """Return the files of this environment's site-packages."""
    root = Path(sysconfig.get_path("purelib"))
    return Sources(root=root, sizes=dict(files_below(root)))


def files_below(root: Path) -> Iterator[tuple[str, int]]:
    """Yield the path below `root`, with slashes, and the size of every regular file."""
    for directory, _, names in os.walk(root):
        for name in names:
            path = Path(directory, name)
            if path.is_file() and not path.is_symlink():
                yield path.relative_to(root).as_posix(), path.stat().st_size


def compare(sources: Sources, staged: Path, report: Callable[[int], None]) -> Comparison:
    """Compare every staged file with its source, byte for byte, and look for files that have no source."""
    equal, missing, different = 0, [], []
    for count, name in enumerate(sources.sizes, start=1):
        copy = staged / name
        if not copy.is_file():
            missing.append(name)
        elif filecmp.cmp(sources.root / name, copy, shallow=False):
            equal += 1
        else:
            different.append(name)
        if count % COMPARED_EVERY == 0:
            report(count)
    filecmp.clear_cache()
    extra = [name for name, _ in files_below(staged) if name not in sources.sizes and not name.startswith(OWN_RECORDS)]
    return Comparison(equal=equal, missing=missing, different=different, extra=extra)
