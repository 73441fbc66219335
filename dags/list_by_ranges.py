"""List a bucket that is too large for one worker: one task for each name range, joined into one manifest.

The first task divides the names. Each mapped task lists one range into its own manifest. The last task proves that the
ranges are complete, and writes one index over all their parts without copying a row. The joined manifest has the same
fingerprint as a listing by one task. Its parts are those of the ranges, so keep or delete a run's directory as a whole.

One worker lists about ten million objects in a few minutes. For a smaller bucket this pattern only adds tasks.
"""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

from airflow.providers.common.compat.sdk import DAG, Param

from airflow_dataflux import FastListOperator, JoinManifestsOperator, NameRangesOperator

RUN = "{{ params.manifest_root }}/{{ run_id }}"

with DAG(
    dag_id="list_by_ranges",
    description="List a very large bucket on many workers, into one manifest",
    doc_md=__doc__,
    schedule=None,
    start_date=datetime(2026, 1, 1, tzinfo=UTC),
    catchup=False,
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
        "manifest_root": Param(
            "gs://my-manifests/list-by-ranges",
            type="string",
            pattern="^(/|[a-z0-9]+://)",
            examples=["gs://my-manifests/list-by-ranges", "file:///mnt/shared/manifests"],
            title="Manifest root",
            description="Directory for one manifest a run. All workers must be able to write and read it.",
        ),
        "ranges": Param(
            8,
            type="integer",
            minimum=1,
            maximum=1024,
            examples=[8, 64],
            title="Name ranges",
            description="Number of tasks that share the listing: about one for every ten million objects.",
        ),
        "seed_manifest": Param(
            None,
            type=["null", "string"],
            examples=["gs://my-manifests/list-by-ranges/scheduled__2026-01-01T00:00:00+00:00"],
            title="Earlier manifest",
            description="URI of an earlier manifest, whose names divide the listing best. Empty: take a sample.",
        ),
    },
) as dag:
    ranges = NameRangesOperator(
        task_id="divide",
        bucket="{{ params.bucket }}",
        prefix="{{ params.prefix or '' }}",
        ranges="{{ params.ranges }}",
        seed_manifest="{{ params.seed_manifest }}",
    )
    listings = FastListOperator.partial(
        task_id="list",
        bucket="{{ params.bucket }}",
        prefix="{{ params.prefix or '' }}",
        manifest_uri=RUN + "/ranges/{{ ti.map_index }}",
        map_index_template="from {{ task.name_range['start'][:80] or 'the first name' }}",
    ).expand(name_range=ranges.output)
    JoinManifestsOperator(task_id="join", manifests=listings.output, manifest_uri=RUN, on_empty="fail")
