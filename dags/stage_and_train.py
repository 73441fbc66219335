"""Stage and train in one task.

With the KubernetesExecutor or several Celery workers, two tasks may run on different machines. Staged files can then
only be used by the task that staged them. So the training task stages its own data with the hook. A retry on the same
machine reuses the files; a retry on another machine fetches them again.
"""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

from airflow.providers.common.compat.sdk import DAG, Param, task

from airflow_dataflux import DatafluxHook, FastListOperator


@task
def stage_and_train(manifest: dict, params: dict | None = None) -> dict:
    """Stage the data, read every file, and return the mean and the deviation of its bytes."""
    from collections import Counter
    from pathlib import Path

    hook = DatafluxHook()
    receipt = hook.stage(manifest, params["scratch"], strategy=params["strategy"], delete_extraneous=True)

    files, seen = 0, Counter()
    for row in hook.open_manifest(manifest).rows():
        if not row.name.endswith("/"):  # a placeholder is not a file
            files += 1
            seen.update(Path(receipt.destination, row.name).read_bytes())
    total = seen.total()
    mean = sum(value * count for value, count in seen.items()) / total
    variance = sum((value - mean) ** 2 * count for value, count in seen.items()) / total
    reused = receipt.summary()["reused"]
    return {"files": files, "bytes": total, "mean": mean, "deviation": variance**0.5, "reused": reused}


with DAG(
    dag_id="stage_and_train",
    description="Stage with the hook inside the task that trains",
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
        "manifest_uri": Param(
            "gs://my-manifests/stage-and-train",
            type="string",
            pattern="^(/|[a-z0-9]+://)",
            examples=["gs://my-manifests/stage-and-train", "file:///mnt/shared/manifest"],
            title="Manifest",
            description="Directory of the manifest, outside the data's prefix. All workers must be able to read it.",
        ),
        "scratch": Param(
            "/var/tmp/stage-and-train",  # noqa: S108 - a default to be changed
            type="string",
            pattern="^/",
            examples=["/var/tmp/stage-and-train", "/mnt/disks/ssd0/train"],  # noqa: S108
            title="Scratch directory",
            description="Absolute directory for the files, on the disk of the machine that runs the task.",
        ),
        "strategy": Param(
            "auto",
            enum=["auto", "compose", "direct"],
            title="Strategy",
            description="auto chooses by size, cost and measured latency; compose and direct force one strategy.",
        ),
    },
) as dag:
    listing = FastListOperator(
        task_id="list",
        bucket="{{ params.bucket }}",
        prefix="{{ params.prefix or '' }}",
        manifest_uri="{{ params.manifest_uri }}",
        seed_manifest="{{ params.manifest_uri }}",
        on_empty="fail",  # a training without data is a mistake
    )
    stage_and_train(listing.output)
