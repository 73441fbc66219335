"""The main job on a real Airflow, from nothing to a verified data set: `make demo`, or `make ui` to look around.

`demo` lists and stages the files of this environment through the example DAG, compares every byte, shows that a
second run fetches nothing and that a third one fetches just the file that was removed, stops everything, and ends with
0 only if all of that held. `ui` starts the same deployment and leaves it running until Ctrl-C.
"""

from __future__ import annotations

import os
import signal
import sys
from types import FrameType

# What the tests share: the deployment of Airflow.
sys.path.insert(1, os.path.dirname(os.path.dirname(os.path.abspath(__file__))))

from demonstration import demonstrate, leave_running
from telling import DemoError, say


def main(arguments: list[str]) -> int:
    """Run what the command line names; return the exit status."""
    stories = {"demo": demonstrate, "ui": leave_running}
    if len(arguments) != 1 or arguments[0] not in stories:
        say(f"usage: python tests/demo {'|'.join(stories)}")
        return 2
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, _interrupt)
    try:
        stories[arguments[0]]()
    except DemoError as error:
        say(f"\nFAILED: {error}")
        return 1
    except KeyboardInterrupt:
        say("\nInterrupted. Everything that was started has been stopped.")
        return 130
    return 0


def _interrupt(number: int, frame: FrameType | None) -> None:
    raise KeyboardInterrupt  # unwinds the `with` blocks, which stop server and deployment


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
