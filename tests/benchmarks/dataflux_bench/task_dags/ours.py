"""A listing and a staging of this project, as DAGs of one task."""

from __future__ import annotations

from one_task import BUCKET, DESTINATION, dag

from airflow_dataflux import ComposeDownloadOperator, FastListOperator

list_ours = dag("list_ours", FastListOperator, bucket=BUCKET, manifest_uri="{{ dag_run.conf['manifest_uri'] }}")
stage_ours = dag(
    "stage_ours",
    ComposeDownloadOperator,
    manifest="{{ dag_run.conf['manifest'] | tojson }}",
    destination=DESTINATION,
)
