"""Each night, stage and pack the partitions of a bucket that have changed since the night before.

One listing of the whole prefix is compared with that of an earlier night. Each day that was added or changed is then
listed again and staged into a new directory. What an earlier version of the day has is linked instead of fetched, so a
reader of the earlier version sees no change. The day is also packed into tar shards. At the end, whether all went well
or not, all but the newest two versions of the day are removed, if nobody reads them. On a night without a change, no
task runs after the comparison. Each run compares with the manifest of the night before its own, so nights run one after
the other: create a backfill with one active run at a time (`--max-active-runs 1`).
"""

from __future__ import annotations

import os
from datetime import UTC, datetime, timedelta
from typing import Any

from airflow.providers.common.compat.sdk import DAG, AirflowSkipException, Param, task_group
from airflow.timetables.interval import CronDataIntervalTimetable

from airflow_dataflux import (
    ChangedPartitionsOperator,
    ComposeDownloadOperator,
    ComposePackOperator,
    FastListOperator,
    PruneStagedOperator,
)

DATE = "{{ data_interval_start.strftime('%Y-%m-%d') }}"
NIGHT = "{{ params.manifest_root }}/" + DATE
BEFORE = "{{ params.manifest_root }}/{{ (data_interval_start - macros.timedelta(days=1)).strftime('%Y-%m-%d') }}"
PARTITION = "{{ ti.xcom_pull(task_ids='day.list', map_indexes=ti.map_index)['prefixes'][0] }}"
VERSIONS = "{{ params.destination_root }}/" + PARTITION


def deployed(name: str, default: str) -> str:
    """Return what this deployment sets for a parameter, so that scheduled runs need no form."""
    return os.environ.get(f"CHANGED_DAYS_{name}", default)


def present(change: dict[str, Any]) -> str:
    """Return the prefix of a partition that there is; one that was removed is skipped."""
    if change["change"] == "removed":
        raise AirflowSkipException(f"{change['prefix']} was removed.")
    return str(change["prefix"])


with DAG(
    dag_id="changed_days",
    description="Stage and pack, each night, the partitions of a bucket that changed",
    doc_md=__doc__,
    schedule=CronDataIntervalTimetable("@daily", timezone="UTC"),
    start_date=datetime(2024, 1, 1, tzinfo=UTC),
    catchup=False,
    max_active_runs=1,  # each night is compared with the night before; a backfill has a limit of its own
    default_args={"retries": 2, "retry_delay": timedelta(seconds=30)},
    tags=["dataflux", "example"],
    params={
        "bucket": Param(
            deployed("BUCKET", "my-events"),
            type="string",
            minLength=3,
            examples=["my-events"],
            title="Bucket",
            description="Name of the bucket, without gs://",
        ),
        "prefix": Param(
            deployed("PREFIX", ""),
            type=["string", "null"],
            examples=["events/"],
            title="Prefix",
            description="Only objects whose names begin with this text. Empty: the whole bucket.",
        ),
        "partition": Param(
            r"day=(?P<partition>[^/]+)/",
            type="string",
            examples=[r"day=(?P<partition>[^/]+)/", r"(?P<partition>\d{4}/\d\d)/"],
            title="Partition",
            description="Regular expression for object names; its group named partition is the partition.",
        ),
        "manifest_root": Param(
            deployed("MANIFEST_ROOT", "gs://my-manifests/events"),
            type="string",
            pattern="^(/|[a-z0-9]+://)",
            examples=["gs://my-manifests/events", "file:///mnt/shared/manifests"],
            title="Manifest root",
            description="Directory for one manifest a night. All workers must be able to write and read it.",
        ),
        "destination_root": Param(
            deployed("DESTINATION_ROOT", "/mnt/shared/events"),
            type="string",
            pattern="^/",
            examples=["/mnt/shared/events"],
            title="Destination root",
            description="Absolute directory that all workers share; each version of a partition gets one below it.",
        ),
        "pack_root": Param(
            deployed("PACK_ROOT", "gs://my-packs/events"),
            type="string",
            pattern="^(/|gs://)",
            examples=["gs://my-packs/events", "/mnt/shared/packs"],
            title="Pack root",
            description="Destination of the tar shards; each version of a partition gets a directory below it.",
        ),
    },
) as dag:
    listing = FastListOperator(
        task_id="list",
        bucket="{{ params.bucket }}",
        prefix="{{ params.prefix or '' }}",
        manifest_uri=NIGHT,
        seed_manifest=BEFORE,
        on_empty="fail",
    )
    changed = ChangedPartitionsOperator(
        task_id="compare", manifest=listing.output, previous=BEFORE, partition="{{ params.partition }}"
    )

    @task_group(group_id="day")
    def stage_day(prefix: str) -> None:
        """List, stage and pack one partition, and remove its old versions."""
        day = FastListOperator(
            task_id="list",
            bucket="{{ params.bucket }}",
            prefix=prefix,
            manifest_uri=NIGHT + "/partitions/{{ ti.map_index }}",
            on_empty="fail",
            map_index_template="{{ task.prefix }}",
        )
        stage = ComposeDownloadOperator(
            task_id="stage",
            manifest=day.output,
            destination=VERSIONS + DATE,
            strip_prefix=PARTITION,
            reuse_from=VERSIONS + "*",
        )
        ComposePackOperator(task_id="pack", manifest=day.output, output="{{ params.pack_root }}/" + PARTITION + DATE)
        stage >> PruneStagedOperator(task_id="prune", root=VERSIONS, keep_last=2).as_teardown()

    stage_day.expand(prefix=changed.output.map(present))
