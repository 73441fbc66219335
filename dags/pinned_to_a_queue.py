"""Stage and train on one Celery worker, which serves its own queue.

Celery gives a task to any worker that serves the task's queue. The staged files are on the disk of one worker, so both
tasks use a queue that only this worker serves:

    airflow celery worker --queues gpu-1

The listing may run on any worker, because every worker can read its manifest. Executors without queues (LocalExecutor)
ignore the name of the queue.
"""

from __future__ import annotations

import os
from datetime import UTC, datetime, timedelta

from airflow.providers.common.compat.sdk import DAG, Param, task

from airflow_dataflux import ComposeDownloadOperator, FastListOperator

# A queue cannot be templated: Airflow chooses the worker before anything is rendered.
QUEUE = os.environ.get("PINNED_TO_A_QUEUE", "gpu-1")


@task(queue=QUEUE)
def train(receipt: dict) -> dict:
    """Read every staged file and return the mean and the deviation of its bytes, as a normalisation needs them."""
    import socket
    from collections import Counter
    from pathlib import Path

    here = socket.gethostname()
    if receipt["hostname"] != here:
        raise RuntimeError(
            f"The files are on {receipt['hostname']}, this is {here}: one worker only may serve {QUEUE}."
        )
    files, seen = 0, Counter()
    for path in Path(receipt["destination"]).rglob("*"):
        if path.is_file() and ".dataflux" not in path.parts:
            files += 1
            seen.update(path.read_bytes())
    if files != receipt["object_count"]:
        raise RuntimeError(f"{receipt['object_count']} objects were staged, and {files} files are here.")
    total = seen.total()
    mean = sum(value * count for value, count in seen.items()) / total
    variance = sum((value - mean) ** 2 * count for value, count in seen.items()) / total
    return {"files": files, "bytes": total, "mean": mean, "deviation": variance**0.5, "queue": QUEUE}


with DAG(
    dag_id="pinned_to_a_queue",
    description="Stage and train on the one worker that serves a Celery queue",
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
        "manifest_uri": Param(
            "gs://my-manifests/pinned-to-a-queue",
            type="string",
            pattern="^(/|[a-z0-9]+://)",
            examples=["gs://my-manifests/pinned-to-a-queue", "file:///mnt/shared/manifest"],
            title="Manifest",
            description="Directory of the manifest, outside the data's prefix. All workers must be able to read it.",
        ),
        "destination": Param(
            "/var/tmp/pinned-to-a-queue",  # noqa: S108 - a default to be changed
            type="string",
            pattern="^/",
            examples=["/var/tmp/pinned-to-a-queue", "/mnt/disks/ssd0/train"],  # noqa: S108
            title="Destination",
            description="Absolute directory on the disk of the worker that serves the queue.",
        ),
    },
) as dag:
    listing = FastListOperator(
        task_id="list",
        bucket="{{ params.bucket }}",
        manifest_uri="{{ params.manifest_uri }}",
        seed_manifest="{{ params.manifest_uri }}",
        on_empty="fail",  # a training without data is a mistake
    )
    staging = ComposeDownloadOperator(
        task_id="stage",
        manifest=listing.output,
        destination="{{ params.destination }}",
        delete_extraneous=True,  # objects deleted from the bucket are deleted here
        queue=QUEUE,
    )
    train(staging.output)
