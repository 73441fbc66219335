"""Makes the pictures of docs/images that show a run: `make pictures`.

One listing and one staging really run, with their worker processes, against the embedded server, whose answers take
as long as those of Cloud Storage do. Each writes its run report, and the pictures are cut out of these. Every run
gives other pictures of the same story; nobody has to make them again unless the report's looks have changed.
"""

from __future__ import annotations

import os
import sys
import tempfile
from dataclasses import dataclass

from cutting import pictures_of

from airflow_dataflux.core import (
    ListRequest,
    Manifest,
    StageRequest,
    default_store_config,
    default_tokens,
    list_objects,
    stage,
)
from airflow_dataflux.testing import GCSServer

IMAGES = os.path.join(os.path.dirname(__file__), "..", "..", "..", "docs", "images")

LISTING = {
    "Names that each stream listed, over time": "listing-streams.svg",
    "Names that were covered, over time": "listing-names.svg",
}
STAGING = {
    "Batches in flight, by step": "staging-batches.svg",
    "Bytes verified and written per second": "staging-bytes.svg",
}
"""Files by the titles that the reports give the pictures."""

SMALL_BYTES = (300, 5_000, 20_000, 60_000, 300_000)
LARGE_BYTES = 70_000_000


@dataclass(frozen=True, kw_only=True)
class Amounts:
    """How much there is to do.

    Attributes:
        listed: objects that are listed; more than 250,000, so that threads hand over to worker processes.
        small: small objects that are staged.
        large: large ones beside them, which are read in ranges.
    """

    listed: int = 300_000
    small: int = 6_000
    large: int = 4


def main(arguments: list[str]) -> int:
    """Make the pictures in the directory that the command line names, docs/images without one."""
    images = arguments[0] if arguments else IMAGES
    for name, picture in make_pictures(Amounts()).items():
        with open(os.path.join(images, name), "wb") as file:
            file.write(picture)
        sys.stdout.write(f"{name}: {len(picture):,} bytes\n")
    return 0


def make_pictures(amounts: Amounts) -> dict[str, bytes]:
    """List and stage, and return the pictures by the names of their files."""
    with tempfile.TemporaryDirectory() as scratch, GCSServer() as server:
        os.environ.update(server.environment())
        server.configure(
            latency_s={"list": 0.04, "read": 0.04, "compose": 0.12},
            list_per_1000_rows_s=0.025,
            compose_per_source_s=0.003,
            bytes_per_s=80_000_000,
            jitter=0.2,
        )
        server.create_bucket("photos")
        server.synthesize("photos", count=amounts.listed, style="classes", prefix="train/", size=SMALL_BYTES)
        listed = os.path.join(scratch, "listed")
        _list("photos", listed)

        server.create_bucket("scans")
        server.synthesize("scans", count=amounts.small, style="classes", prefix="small/", size=SMALL_BYTES)
        server.synthesize("scans", count=amounts.large, style="flat", prefix="large/", size=LARGE_BYTES)
        staged = os.path.join(scratch, "staged")
        _stage(_list("scans", os.path.join(scratch, "to-stage")), staged)
        return _pictures(listed, LISTING) | _pictures(os.path.join(staged, ".dataflux"), STAGING)


def _list(bucket: str, directory: str) -> Manifest:
    request = ListRequest(bucket=bucket, manifest_uri=directory, workers=2, streams=32, report=True)
    return list_objects(request, store_config=default_store_config(), tokens=default_tokens())


def _stage(manifest: Manifest, destination: str) -> None:
    request = StageRequest(destination=destination, workers=2, report=True)
    stage(manifest, request, store_config=default_store_config(), tokens=default_tokens())


def _pictures(directory: str, names: dict[str, str]) -> dict[str, bytes]:
    (report,) = os.scandir(os.path.join(directory, "reports"))
    with open(report, "rb") as file:
        pictures = pictures_of(file.read())
    return {name: pictures[title] for title, name in names.items()}


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
