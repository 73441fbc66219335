"""A bucket that is laid out by day, listed a day at a time: the schedule catches up on the days that are past."""

from __future__ import annotations

import os
from datetime import UTC, datetime

from airflow.providers.common.compat.sdk import DAG

from airflow_dataflux import ComposeDownloadOperator, FastListOperator

with DAG(
    "partitions_caught_up",
    schedule="@daily",
    start_date=datetime(2026, 1, 1, tzinfo=UTC),
    end_date=datetime(2026, 1, 3, tzinfo=UTC),
    catchup=True,
):
    listing = FastListOperator(task_id="list", bucket="partitioned", prefix="day={{ ds }}/")
    ComposeDownloadOperator(
        task_id="stage",
        manifest=listing.output,
        destination=os.environ.get("PARTITIONS_ROOT", "/nowhere") + "/{{ ds }}",
    )
