"""What a staging loads: each of its processes pays for it."""

from __future__ import annotations

import subprocess
import sys

from staging_site import BUCKET, Site

PROGRAM = """
import sys
from datetime import UTC, datetime
from pathlib import Path

from airflow_dataflux.core.config import Filters, ListRequest, StageRequest
from airflow_dataflux.core.gcs.http_store import StoreConfig
from airflow_dataflux.core.listing import list_objects
from airflow_dataflux.core.manifest import Manifest
from airflow_dataflux.core.runtime.tokens import AnonymousTokens
from airflow_dataflux.core.staging import stage

endpoint, bucket, disk = sys.argv[1:]
given = {"store_config": StoreConfig(endpoint=endpoint), "tokens": AnonymousTokens()}
long_ago, later = datetime(2020, 1, 1, tzinfo=UTC), datetime(2100, 1, 1, tzinfo=UTC)
filters = Filters(
    storage_classes={"STANDARD", "NEARLINE"}, updated_after=long_ago, updated_before=later, min_bytes=1, max_bytes=10**9
)
inline = list_objects(ListRequest(bucket=bucket, filters=filters), **given)
written = list_objects(ListRequest(bucket=bucket, manifest_uri=disk + "/manifest", report=True), **given)
for name, listed in (("inline", Manifest.from_reference(inline.reference())), ("written", written)):
    for strategy in ("compose", "direct", "auto"):
        request = StageRequest(destination=f"{disk}/{name}", strategy=strategy, report=True, delete_extraneous=True)
        stage(listed, request, isolated=False, **given)
        staged = sorted(path for path in Path(disk, name).rglob("*.bin"))
        staged[1].unlink()
        staged[2].write_bytes(b"other")
        staged[3].with_name("extraneous").touch()
print(sorted({"pandas", "google.auth", "google.cloud.storage", "requests", "pyarrow.compute"} & sys.modules.keys()))
"""


def test_a_staging_imports_nothing_that_it_has_no_use_for(site: Site) -> None:
    site.put_numbered(70)
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM, site.config.endpoint, BUCKET, str(site.disk)],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert (done.stdout, done.stderr) == ("[]\n", "")
