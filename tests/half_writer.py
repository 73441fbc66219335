"""A process that writes half a file into a destination, on a file system without anonymous files, to be killed."""

from __future__ import annotations

import signal
import subprocess
import sys
from pathlib import Path

from airflow_dataflux.core.staging.localfile import DestinationTree, TreeWriter


def start_half_writer(root: Path, scope: str = "", directory: str = "", receipts: str = "") -> subprocess.Popen[str]:
    """Start it; return when the first half is written. It goes on when its standard input ends."""
    command = [sys.executable, __file__, str(root), scope, directory, receipts]
    writer = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    assert writer.stdout is not None
    assert writer.stdout.readline() == "writing\n"
    return writer


def kill_half_writer(writer: subprocess.Popen[str]) -> None:
    """Kill it at that point."""
    writer.kill()
    writer.communicate()
    assert writer.returncode == -signal.SIGKILL


def main() -> None:
    root, scope, directory, receipts = sys.argv[1:]
    DestinationTree._try_anonymous = lambda _tree: False  # type: ignore[method-assign]
    tree = DestinationTree(root, scope, receipts or None)
    with TreeWriter(tree) as writer, writer.begin(f"{directory}/file" if directory else "file") as file:
        file.append(b"half of it")
        print("writing", flush=True)
        sys.stdin.read()
    tree.close()


if __name__ == "__main__":
    main()
