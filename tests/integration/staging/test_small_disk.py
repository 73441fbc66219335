"""A disk that is too small, fills up midway or is read-only: a real one, a tmpfs in the test's own mount namespace."""

from __future__ import annotations

import re
import subprocess

import pytest
from staging_site import Site, content
from victim import victim_command

MOUNT = """
set -e
mount -t tmpfs -o "$1" none "$2"
shift 2
"$@" || true
"""


def on_small_disk(site: Site, options: str, *, look: str) -> subprocess.CompletedProcess[str]:
    """Stage to a tmpfs, then run `look` (shell) on it; both see the mount, nobody else does."""
    disk = site.disk / "small"
    disk.mkdir()
    stage = victim_command("stage", site.server.endpoint, site.disk / "manifest", disk / "set")
    script = f'cd "{disk}"; "$@"; {look}'
    done = subprocess.run(
        [
            "unshare",
            "--user",
            "--map-root-user",
            "--mount",
            "sh",
            "-c",
            MOUNT,
            "sh",
            options,
            str(disk),
            "sh",
            "-c",
            script,
            "sh",
            *stage,
        ],
        capture_output=True,
        text=True,
        stdin=subprocess.DEVNULL,
        check=False,
    )
    if "ready" not in done.stdout:
        pytest.skip(f"no mount namespace here: {done.stderr.strip()[:200]}")
    return done


def test_too_few_free_bytes_are_noticed_before_anything_is_fetched(site: Site) -> None:
    site.put_numbered(100, size=100_000)
    site.manifest()
    site.server.forget_requests()
    done = on_small_disk(site, "size=1m", look="find . -type f | sort")
    assert "InsufficientSpaceError: The staging needs" in done.stderr
    assert f"below {site.disk}/small/set, and" in done.stderr
    assert "read" not in site.operations()


def test_a_disk_that_fills_up_midway_is_an_error_and_leaves_no_half_file_and_no_composite(site: Site) -> None:
    # Every object brings a directory of its own, which the check before cannot foresee: the inodes run out.
    site.put({f"d{number:03}/f.bin": content(number, 1000) for number in range(300)})
    site.manifest()
    done = on_small_disk(
        site, "size=64m,nr_inodes=400", look="find . -name f.bin -size -1000c; find . -name f.bin | wc -l"
    )
    assert "InsufficientSpaceError" in done.stderr
    assert "is full" in done.stderr
    (needed,) = re.findall(r"(\d+) inodes are still needed", done.stderr)
    assert 0 < int(needed) <= 300
    assert "partial" not in done.stderr
    after = done.stdout.split("ready\n")[1].split()
    assert len(after) == 1, after
    assert 0 < int(after[0]) < 300
    assert site.composites() == []


def test_a_read_only_file_system_is_called_that_also_to_a_user_who_may_write_everywhere(site: Site) -> None:
    site.put_numbered(1)
    site.manifest()
    done = on_small_disk(site, "ro", look="ls -A")
    assert "is mounted read-only. Choose a destination on a file system that is mounted for writing." in done.stderr
    assert "chmod" not in done.stderr
    assert done.stdout.split("ready\n")[1].split() == []
