"""One worker, local disk: list, stage, use the files.

Start with this pattern. All tasks must run on one machine, because the files are on its disk: use LocalExecutor, or a
single worker. Every run stages to the same directory and fetches only what changed since the last run. Only one run is
active at a time.
"""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

from airflow.providers.common.compat.sdk import DAG, Param, task

from airflow_dataflux import ComposeDownloadOperator, FastListOperator

FILES = "{{ params.root }}/files"
MANIFEST = "file://{{ params.root }}/manifest"


@task
def measure(receipt: dict) -> dict:
    """Read every staged file, and return how many there are of each kind and how large they are."""
    from collections import Counter
    from pathlib import Path

    counts, size_bytes = Counter(), Counter()
    for path in sorted(Path(receipt["destination"]).rglob("*")):
        if path.is_file() and ".dataflux" not in path.parts:  # the directory of the receipt
            counts[path.suffix] += 1
            size_bytes[path.suffix] += len(path.read_bytes())
    return {"files": dict(counts), "bytes": dict(size_bytes)}


with DAG(
    dag_id="one_worker",
    description="List, stage on local disk, use the files: all on one machine",
    doc_md=__doc__,
    schedule=None,
    start_date=datetime(2026, 1, 1, tzinfo=UTC),
    catchup=False,
    max_active_runs=1,
    default_args={"retries": 2, "retry_delay": timedelta(seconds=30)},
    tags=["dataflux", "example"],
    params={
        "bucket": Param(
            "my-training-data",
            type="string",
            minLength=3,
            examples=["my-training-data"],
            title="Bucket",
            description="Name of the bucket, without gs://",
        ),
        "prefix": Param(
            "",
            type=["string", "null"],
            examples=["images/train/", "2026/"],
            title="Prefix",
            description="Only objects whose names begin with this text. Empty: the whole bucket.",
        ),
        "root": Param(
            "/var/tmp/one-worker",  # noqa: S108 - a default to be changed
            type="string",
            pattern="^/",
            examples=["/var/tmp/one-worker", "/mnt/disks/ssd0"],  # noqa: S108
            title="Directory",
            description="Absolute directory on the worker's disk; files and manifest go below it.",
        ),
    },
) as dag:
    listing = FastListOperator(
        task_id="list",
        bucket="{{ params.bucket }}",
        prefix="{{ params.prefix or '' }}",
        manifest_uri=MANIFEST,
        seed_manifest=MANIFEST,  # the names of the last listing divide this one
        on_empty="fail",  # a misspelt prefix must not empty the directory
    )
    staging = ComposeDownloadOperator(
        task_id="stage", manifest=listing.output, destination=FILES, delete_extraneous=True
    )
    measure(staging.output)
