"""Stage, day by day, the objects that were written on that day.

Each run filters by its own data interval. The intervals are half-open and have no gaps, so every object belongs to
exactly one run. Each run has its own manifest and directory, so a backfill may run several days at once. A second run
of a day fetches only what is missing. Days without a new object are skipped.

If the bucket is laid out by day, use a prefix instead of the two filters, `prefix="day={{ ds }}/"`. It is cheaper,
because only that day is listed.
"""

from __future__ import annotations

import os
from datetime import UTC, datetime, timedelta

from airflow.providers.common.compat.sdk import DAG, Param
from airflow.timetables.interval import CronDataIntervalTimetable

from airflow_dataflux import ComposeDownloadOperator, FastListOperator

DAY = "{{ data_interval_start.strftime('%Y-%m-%d') }}"


def deployed(name: str, default: str) -> str:
    """Return what this deployment sets for a parameter, so that scheduled runs need no form."""
    return os.environ.get(f"DAILY_INCREMENT_{name}", default)


with DAG(
    dag_id="daily_increment",
    description="Stage, day by day, the objects that changed on that day",
    doc_md=__doc__,
    # Airflow 3 gives a run of "@daily" an interval of no length; this timetable gives it the day, in 2.11 as well.
    schedule=CronDataIntervalTimetable("@daily", timezone="UTC"),
    start_date=datetime(2024, 1, 1, tzinfo=UTC),
    catchup=False,  # True runs every day since start_date; a backfill chooses the days
    max_active_runs=4,
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
            examples=["images/train/", "events/"],
            title="Prefix",
            description="Only objects whose names begin with this text. Empty: the whole bucket.",
        ),
        "destination_root": Param(
            deployed("DESTINATION_ROOT", "/var/tmp/daily-increment"),  # noqa: S108 - a default to be changed
            type="string",
            pattern="^/",
            examples=["/var/tmp/daily-increment", "/mnt/shared/increments"],  # noqa: S108
            title="Destination root",
            description="Absolute directory on the worker; each day gets a directory below it.",
        ),
        "manifest_root": Param(
            deployed("MANIFEST_ROOT", "file:///var/tmp/daily-increment-manifests"),
            type="string",
            pattern="^(/|[a-z0-9]+://)",
            examples=["gs://my-manifests/increments", "file:///mnt/shared/manifests"],
            title="Manifest root",
            description="Directory of the manifests: gs://bucket/path, or a directory that all workers share.",
        ),
        "strategy": Param(
            deployed("STRATEGY", "auto"),
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
        updated_after="{{ data_interval_start }}",
        updated_before="{{ data_interval_end }}",
        manifest_uri="{{ params.manifest_root }}/" + DAY,
        on_empty="skip",
    )
    ComposeDownloadOperator(
        task_id="stage",
        manifest=listing.output,
        destination="{{ params.destination_root }}/" + DAY,
        strategy="{{ params.strategy }}",
    )
