"""Serve from the command line: `python -m airflow_dataflux.testing --port 9000 --seed photos=/data/photos`."""

from __future__ import annotations

import argparse
import asyncio
import os
import sys
from collections.abc import Sequence

import msgspec

from airflow_dataflux.testing.control_messages import BucketSettings, SyntheticObjects
from airflow_dataflux.testing.http_messages import ApiError
from airflow_dataflux.testing.request_handler import RequestHandler
from airflow_dataflux.testing.server import ServeOptions, serve
from airflow_dataflux.testing.service import add_synthetic_objects, seed_directory

_EPILOG = """examples:
  python -m airflow_dataflux.testing --port 9000 --bucket scratch --seed photos=/data/photos
  python -m airflow_dataflux.testing --port 9000 --synthesize numbers=1000000:flat:10240 --set first_byte_s=0.04
Then, in another shell: export STORAGE_EMULATOR_HOST=http://127.0.0.1:9000
"""


def main(arguments: Sequence[str] | None = None) -> int:
    """Parse the command line and serve until told to stop; return the exit status."""
    parser = _parser()
    options = parser.parse_args(arguments)

    def prepare(handler: RequestHandler) -> None:
        _configure(handler, options.set)
        for order, texts in ((_bucket, options.bucket), (_seed, options.seed), (_synthesize, options.synthesize)):
            for text in texts:
                order(handler, text)

    try:
        asyncio.run(
            serve(
                ServeOptions(
                    host=options.host,
                    port=options.port,
                    until_stdin_ends=options.until_stdin_ends,
                    announce=_announce,
                    prepare=prepare,
                )
            )
        )
    except (ApiError, OSError, ValueError, msgspec.MsgspecError) as error:
        sys.stderr.write(f"The embedded GCS server did not start: {error}\n")
        return 1
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m airflow_dataflux.testing",
        description="An embedded Cloud Storage server for tests and demonstrations.",
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--host", default="127.0.0.1", help="address to listen on (default: %(default)s)")
    parser.add_argument("--port", type=int, default=0, help="port to listen on (default: any free one)")
    parser.add_argument("--bucket", action="append", default=[], metavar="NAME", help="an empty bucket")
    parser.add_argument(
        "--seed", action="append", default=[], metavar="BUCKET[/PREFIX]=DIR", help="serve the files below a directory"
    )
    parser.add_argument(
        "--synthesize", action="append", default=[], metavar="BUCKET=COUNT[:STYLE[:BYTES]]", help="synthetic objects"
    )
    parser.add_argument(
        "--set", action="append", default=[], metavar="NAME=VALUE", help="a setting, such as page_cap=500"
    )
    parser.add_argument("--until-stdin-ends", action="store_true", help="stop at the end of the standard input")
    return parser


def _announce(endpoint: str) -> None:
    sys.stdout.write(f"{endpoint}\n")
    sys.stdout.flush()


def _configure(handler: RequestHandler, texts: list[str]) -> None:
    known = msgspec.structs.asdict(handler.service.settings)
    for text in texts:
        name, value = _split(text)
        known[name] = msgspec.json.decode(value)
    handler.configure(msgspec.convert(known, type(handler.service.settings)))


def _bucket(handler: RequestHandler, name: str) -> None:
    if name not in handler.service.buckets:
        handler.service.create_bucket(name, BucketSettings())


def _seed(handler: RequestHandler, text: str) -> None:
    target, directory = _split(text)
    bucket, _, prefix = target.partition("/")
    if not os.path.isdir(directory):
        raise ValueError(f"--seed {text}: {directory} is not a directory.")
    _bucket(handler, bucket)
    seed_directory(handler.service, bucket, directory, prefix)


def _synthesize(handler: RequestHandler, text: str) -> None:
    bucket, shape = _split(text)
    count, style, size, *_ = [*shape.split(":"), "", ""]
    _bucket(handler, bucket)
    order = {"bucket": bucket, "count": int(count), "style": style or "flat", "sizes": [int(size or 1024)]}
    add_synthetic_objects(handler.service, msgspec.convert(order, SyntheticObjects))


def _split(text: str) -> tuple[str, str]:
    name, separator, value = text.partition("=")
    if not separator:
        raise ValueError(f"{text!r} is not NAME=VALUE.")
    return name, value


if __name__ == "__main__":
    sys.exit(main())
