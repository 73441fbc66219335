"""Divide a bucket for training: list it, select objects, split them, and stage the splits.

The selection leaves out what the training cannot use, and keeps the files of a sample together (`0001.jpg` and
`0001.json`). A hash of the sample's name decides its split. So a later run with more objects adds to the splits, and
moves no sample from one split to another: a model is never tested with its training data.
"""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

from airflow.providers.common.compat.sdk import DAG, Param

from airflow_dataflux import ComposeDownloadOperator, FastListOperator, SelectOperator

ROOT = "{{ params.root }}"

with DAG(
    dag_id="select_and_split",
    description="List a bucket, choose objects, split them into training and validation, stage both",
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
        "exclude": Param(
            ["**.tmp"],
            type=["array", "null"],
            items={"type": "string"},
            examples=[["**.tmp"]],
            title="Leave out",
            description="Globs of Cloud Storage, one in each line. Objects that match any of them are left out.",
        ),
        "group_by": Param(
            r"^(.*)\.[^./]+$",
            type=["null", "string"],
            examples=[r"^(.*)\.[^./]+$"],
            title="Samples",
            description="Regular expression with one group. Files with the same text in the group stay together.",
        ),
        "validation": Param(
            0.1,
            type="number",
            exclusiveMinimum=0,
            exclusiveMaximum=1,
            examples=[0.1, 0.2],
            title="Validation",
            description="Fraction of the samples for validation.",
        ),
        "root": Param(
            "/var/tmp/select-and-split",  # noqa: S108 - a default to be changed
            type="string",
            pattern="^/",
            examples=["/var/tmp/select-and-split", "/mnt/shared/splits"],  # noqa: S108
            title="Directory",
            description="Absolute directory that all workers share; manifests and staged splits go below it.",
        ),
    },
) as dag:
    listing = FastListOperator(
        task_id="list",
        bucket="{{ params.bucket }}",
        prefix="{{ params.prefix or '' }}",
        manifest_uri="file://" + ROOT + "/manifests/all",
        on_empty="fail",
    )
    selection = SelectOperator(
        task_id="select",
        manifest=listing.output,
        manifest_uri="file://" + ROOT + "/manifests/selected",
        exclude_glob="{{ params.exclude }}",
        group_by="{{ params.group_by }}",
        splits='{"train": {{ 1 - params.validation }}, "val": {{ params.validation }}}',
        on_empty="fail",
    )
    for split in ("train", "val"):
        ComposeDownloadOperator(
            task_id=f"stage_{split}", manifest=selection.output[split], destination=f"{ROOT}/{split}"
        )
