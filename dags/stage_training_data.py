"""List a bucket, stage it in shards of about equal bytes, and verify every file.

The DAG works on a schedule, by hand and in a backfill. Each day has its own directory and manifest, so different days
may run at the same time. A second run of a day fetches only what has changed since the first.

All shards write into the same directory. With several workers, the directory must be on a shared file system. With one
worker, or with LocalExecutor, use any local disk.
"""

from __future__ import annotations

import os
from datetime import UTC, datetime, timedelta

from airflow.providers.common.compat.sdk import DAG, Param, task

from airflow_dataflux import ComposeDownloadOperator, FastListOperator

# In Airflow 3 a manual run may have no logical date. It then uses the day of its creation. Days are in UTC.
DAY = "{{ (dag_run.logical_date or dag_run.run_after).strftime('%Y-%m-%d') }}"
DESTINATION = "{{ params.destination_root }}/" + DAY
MANIFEST = "{{ params.manifest_root }}/" + DAY


def deployed(name: str, default: str) -> str:
    """Return what this deployment sets for a parameter, so that scheduled runs need no form."""
    return os.environ.get(f"STAGE_TRAINING_DATA_{name}", default)


@task
def verify(manifest: dict, destination: str, receipts: list[dict]) -> dict:
    """Compare every file with the listing: is it there, has it the right size, has it the right CRC32C?"""
    import google_crc32c

    from airflow_dataflux import DatafluxHook

    verified = verified_bytes = 0
    wrong = []
    for row in DatafluxHook().open_manifest(manifest).rows():
        if row.name.endswith("/"):
            continue  # a placeholder is not a file
        try:
            with open(os.path.join(destination, row.name), "rb") as file:
                checksum, size = 0, 0
                while chunk := file.read(1 << 20):
                    checksum, size = google_crc32c.extend(checksum, chunk), size + len(chunk)
        except FileNotFoundError:
            wrong.append(f"{row.name} is missing")
            continue
        if (size, checksum) != (row.size, row.crc32c if row.crc32c is not None else checksum):
            wrong.append(f"{row.name} has {size} bytes and CRC32C {checksum}, not {row.size} and {row.crc32c}")
            continue
        verified += 1
        verified_bytes += size
    if wrong:
        raise ValueError(f"{len(wrong)} of {verified + len(wrong)} files are not what was listed: {wrong[:20]}")
    totals = {key: sum(receipt[key] for receipt in receipts) for key in ("downloaded", "reused", "composites")}
    return {"destination": destination, "verified": verified, "verified_bytes": verified_bytes, **totals}


with DAG(
    dag_id="stage_training_data",
    description="List a bucket, stage it in shards, verify every file",
    doc_md=__doc__,
    schedule=deployed("SCHEDULE", "@daily") or None,
    start_date=datetime(2026, 1, 1, tzinfo=UTC),
    catchup=False,
    default_args={"retries": 2, "retry_delay": timedelta(seconds=30)},
    tags=["dataflux", "example"],
    params={
        "bucket": Param(
            deployed("BUCKET", "my-training-data"),
            type="string",
            minLength=3,
            examples=["my-training-data"],
            title="Bucket",
            description="Name of the bucket, without gs://",
        ),
        "prefix": Param(
            deployed("PREFIX", ""),
            type=["string", "null"],
            examples=["images/train/", "2026/"],
            title="Prefix",
            description="Only objects whose names begin with this text, such as train/. Empty: the whole bucket.",
        ),
        "destination_root": Param(
            deployed("DESTINATION_ROOT", "/var/tmp/training-data"),  # noqa: S108 - a default to be changed
            type="string",
            pattern="^/",
            examples=["/var/tmp/training-data", "/mnt/shared/training-data"],  # noqa: S108
            title="Destination root",
            description="Absolute directory on the worker; each day gets a directory below it.",
        ),
        "manifest_root": Param(
            deployed("MANIFEST_ROOT", "file:///var/tmp/training-data-manifests"),
            type="string",
            pattern="^(/|[a-z0-9]+://)",
            examples=["gs://my-manifests/training-data", "file:///mnt/shared/manifests"],
            title="Manifest root",
            description="Directory of the manifests: gs://bucket/path, or a directory that all workers share.",
        ),
        "shards": Param(
            int(deployed("SHARDS", "4")),
            type="integer",
            minimum=1,
            maximum=1024,
            examples=[4, 16, 64],
            title="Shards",
            description="Number of tasks that share the download; each gets about the same number of bytes.",
        ),
        "strategy": Param(
            "auto",
            enum=["auto", "compose", "direct"],
            title="Strategy",
            description="auto chooses by size, cost and measured latency; compose and direct force one strategy.",
        ),
        "delete_extraneous": Param(
            default=False,
            type="boolean",
            title="Delete extraneous files",
            description="Remove files of earlier runs whose objects are no longer in the bucket.",
        ),
    },
) as dag:
    listing = FastListOperator(
        task_id="list",
        bucket="{{ params.bucket }}",
        prefix="{{ params.prefix or '' }}",
        manifest_uri=MANIFEST,
        seed_manifest=MANIFEST,  # the names of this day's last listing divide this one
        shards="{{ params.shards }}",
        on_empty="fail",  # a training without data is a mistake
    )
    staging = ComposeDownloadOperator.partial(
        task_id="stage",
        destination=DESTINATION,
        strategy="{{ params.strategy }}",
        delete_extraneous="{{ params.delete_extraneous }}",
        map_index_template="{{ task.shard_label }}",
    ).expand(manifest=listing.output)
    staging >> verify(manifest=listing.output["manifest"], destination=DESTINATION, receipts=staging.output)
