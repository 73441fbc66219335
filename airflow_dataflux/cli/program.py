"""The program: the parser, Ctrl-C, and how an end becomes an exit code.

Exit codes: 0 done; 1 it failed, or what was compared differs; 2 it was called wrongly; 3 there was nothing to do, as
`--on-empty skip` and `--on-unchanged skip` ask for; 75 it failed, and trying again may help; 130 it was interrupted:
what it had begun was tidied up.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import signal
import sys
from collections.abc import Iterator, Sequence

from airflow_dataflux._version import __version__
from airflow_dataflux.cli.commands import COMMANDS, Command, Invocation
from airflow_dataflux.cli.options import add_parameters
from airflow_dataflux.cli.output import print_error
from airflow_dataflux.cli.progress_display import ProgressDisplay
from airflow_dataflux.client import Client
from airflow_dataflux.core.errors import CancelledError, DatafluxError, InvalidRequestError, SkippedError
from airflow_dataflux.core.runtime.cancel import CancelToken
from airflow_dataflux.lazy_exports import without_numpy

DONE, FAILED, CALLED_WRONGLY, NOTHING_TO_DO, TRY_AGAIN, INTERRUPTED = 0, 1, 2, 3, 75, 130


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a command; return its exit code."""
    parser = make_parser()
    if "_ARGCOMPLETE" in os.environ:  # the shell asks what a half-typed line may go on with
        import argcomplete

        argcomplete.autocomplete(parser)
    options, others = parser.parse_known_args(arguments)
    command: Command = options.command
    if others and not command.passes_on:
        parser.error(f"unrecognized arguments: {' '.join(others)}")
    cancel = CancelToken()
    try:
        with (
            without_numpy(),
            _interruptible(cancel, watched=command.watches_cancel),
            ProgressDisplay(sys.stderr, wanted=not options.quiet) as progress,
        ):
            client = Client(user_project=options.user_project)
            return _written(command.run(Invocation(client, options, cancel, progress, others)))
    except BrokenPipeError:  # whoever read our output has enough
        _drop_output()
        return DONE
    except UnicodeEncodeError as error:
        _drop_output()
        print_error(
            f"dataflux: The output cannot hold {error.object[error.start : error.end]!r}, because it takes "
            f"{error.encoding}. Set PYTHONIOENCODING=utf-8, or a locale of UTF-8."
        )
        return FAILED
    except OSError as error:
        if error.filename is not None:
            raise
        _drop_output()
        print_error(f"dataflux: The output could not be written: {error.strerror or error}.")
        return FAILED
    except SkippedError as error:
        print_error(str(error))
        return NOTHING_TO_DO
    except (CancelledError, KeyboardInterrupt):
        print_error("Interrupted. The command has cleaned up.")
        return INTERRUPTED
    except InvalidRequestError as error:
        print_error(f"dataflux: {error}")
        return CALLED_WRONGLY
    except DatafluxError as error:
        print_error(f"dataflux: {type(error).__name__}: {error}")
        return TRY_AGAIN if error.retryable else FAILED


def _written(code: int) -> int:
    """Return the exit code once all output is written."""
    if sys.stdout is not None:  # it is None if it was closed
        sys.stdout.flush()
    return code


def _drop_output() -> None:
    """Let what is still to be written go nowhere: the end of the program would try it again, and fail again."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


@contextlib.contextmanager
def _interruptible(cancel: CancelToken, *, watched: bool) -> Iterator[None]:
    """Let Ctrl-C and SIGTERM cancel what runs, which then tidies up; a second one ends the program at once.

    A command that does not watch the token has nothing to tidy up, or does so when an exception passes.
    """

    def interrupt(number: int, _frame: object) -> None:
        cancel.cancel(signal.Signals(number).name)
        signal.signal(number, signal.SIG_DFL)
        if not watched:
            raise KeyboardInterrupt

    before = {number: signal.signal(number, interrupt) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def make_parser() -> argparse.ArgumentParser:
    """Return the parser of all commands."""
    parser = argparse.ArgumentParser(
        prog="dataflux", description="Fast, exact listing and verified staging of Cloud Storage data."
    )
    parser.add_argument("--version", action="version", version=__version__)
    commands = parser.add_subparsers(title="commands", required=True, metavar="COMMAND")
    for name, command in COMMANDS.items():
        made = commands.add_parser(name, help=command.text, description=command.text, add_help=not command.passes_on)
        made.set_defaults(command=command)
        if command.passes_on:  # all its options, --help too, are those of what it starts
            made.set_defaults(quiet=False, user_project=None)
            continue
        made.add_argument("--json", action="store_true", help="print JSON, for scripts")
        made.add_argument("--quiet", action="store_true", help="show no progress")
        made.add_argument("--user-project", help="project billed on requester-pays buckets")
        for argument in command.arguments:
            made.add_argument(*argument.names, **argument.settings)
        if command.request is not None:
            add_parameters(made, command.request)
    return parser
