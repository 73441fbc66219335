"""Ask a person before a staging that costs money: list, estimate, wait for the answer, stage.

The estimate is a dry run, which fetches nothing and writes nothing. Airflow's UI shows its dollars with the question,
below "Required Actions". After "Approve", exactly the estimated objects are staged, because the manifest pins them.
After "Reject", or without an answer within a day, nothing is staged. A staging that has become dearer than what was
approved fails before it writes anything.

This example needs the approval operator of Airflow 3.1 (standard provider 1.12.3). In an older Airflow, this file
defines no DAG.
"""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

from airflow.providers.common.compat.sdk import DAG, AirflowException, Param

from airflow_dataflux import ComposeDownloadOperator, FastListOperator

try:
    from airflow.providers.standard.operators.hitl import ApprovalOperator
except (ImportError, AirflowException):  # 2.11 has no such module, and in 3.0 it refuses to be imported
    ApprovalOperator = None

ESTIMATE = "{% set found = ti.xcom_pull(task_ids='estimate') %}"
QUESTION = (
    ESTIMATE + "Stage {{ found.object_count - found.reused }} objects of gs://{{ params.bucket }} "
    "for about ${{ '%.4f' % found.estimated_usd }}?"
)
ITEMS = (
    ESTIMATE + "To {{ found.destination }} on {{ found.hostname }}, {{ found.reused }} objects are there already.\n"
    "{% for item, usd in found.costs.items() %}\n- {{ item | replace('_', ' ') }}: ${{ '%.4f' % usd }}{% endfor %}"
)
APPROVED = ESTIMATE + "{{ found.estimated_usd * 1.1 + 0.01 }}"  # a tenth and a cent of room for other requests

if ApprovalOperator is not None:
    with DAG(
        dag_id="approve_cost",
        description="List a bucket, estimate the dollars of a staging, stage after a person has approved them",
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
                examples=["images/", "2026/"],
                title="Prefix",
                description="Only objects whose names begin with this text. Empty: the whole bucket.",
            ),
            "manifest_uri": Param(
                "gs://my-manifests/approve-cost/latest",
                type="string",
                pattern="^(/|[a-z0-9]+://)",
                examples=["gs://my-manifests/approve-cost/latest", "file:///mnt/shared/manifests/latest"],
                title="Manifest",
                description="Directory of the manifest. All workers must be able to write and read it.",
            ),
            "destination": Param(
                "/var/tmp/approve-cost",  # noqa: S108 - a default to be changed
                type="string",
                pattern="^/",
                examples=["/var/tmp/approve-cost", "/mnt/shared/photos"],  # noqa: S108
                title="Destination",
                description="Absolute directory on the worker, or one that all workers share.",
            ),
        },
    ) as dag:
        listing = FastListOperator(
            task_id="list",
            bucket="{{ params.bucket }}",
            prefix="{{ params.prefix or '' }}",
            manifest_uri="{{ params.manifest_uri }}",
            on_empty="fail",
        )
        staging = {"manifest": listing.output, "destination": "{{ params.destination }}"}
        estimate = ComposeDownloadOperator(task_id="estimate", dry_run=True, **staging)
        approve = ApprovalOperator(
            task_id="approve",
            subject=QUESTION,
            body=ITEMS,
            defaults="Reject",  # nobody answered in time
            response_timeout=timedelta(days=1),
        )
        estimate >> approve >> ComposeDownloadOperator(task_id="stage", max_usd=APPROVED, **staging)
