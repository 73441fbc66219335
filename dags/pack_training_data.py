"""Pack many small objects into few large tar shards, which a training loop streams.

The listing is divided into shards, and each mapped task writes its own tar files of one pack. The tasks can run on many
workers. The last task checks that the pack is complete, and writes its index. Nothing is staged to local disk. If the
bucket has not changed, a run writes no shard. After a failure, the next run writes only what is missing.

Read the pack with `webdataset.WebDataset` or with `tarfile`. `index.json` names the tar files; `members.parquet` says
where each object's bytes are.
"""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

from airflow.providers.common.compat.sdk import DAG, Param

from airflow_dataflux import ComposePackOperator, FastListOperator, JoinPacksOperator

with DAG(
    dag_id="pack_training_data",
    description="Pack a prefix into tar shards for WebDataset, on many workers",
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
        "manifest_uri": Param(
            "gs://my-manifests/pack-training-data/latest",
            type="string",
            pattern="^(/|[a-z0-9]+://)",
            examples=["gs://my-manifests/pack-training-data/latest", "file:///mnt/shared/manifests/latest"],
            title="Manifest",
            description="Directory of the manifest. All workers must be able to write and read it.",
        ),
        "output": Param(
            "gs://my-packs/training/",
            type="string",
            pattern="^(/|gs://)",
            examples=["gs://my-packs/training/", "/mnt/shared/packs/training"],
            title="Pack",
            description="Destination of the tar files: a prefix of a bucket, or a directory that all workers mount.",
        ),
        "shard_bytes": Param(
            268_435_456,
            type="integer",
            minimum=10_240,
            examples=[268_435_456],
            title="Bytes of a shard",
            description="Largest size of a tar file in bytes. Only a single larger sample may exceed it.",
        ),
        "shuffle_seed": Param(
            None,
            type=["null", "integer"],
            examples=[17],
            title="Shuffle",
            description="Seed of the shuffle; the same number gives the same order. Empty: no shuffle.",
        ),
        "tasks": Param(
            4,
            type="integer",
            minimum=1,
            maximum=1024,
            examples=[4, 32],
            title="Tasks",
            description="Number of tasks that share the packing.",
        ),
    },
) as dag:
    listing = FastListOperator(
        task_id="list",
        bucket="{{ params.bucket }}",
        prefix="{{ params.prefix or '' }}",
        manifest_uri="{{ params.manifest_uri }}",
        shards="{{ params.tasks }}",
        on_empty="fail",
    )
    packs = ComposePackOperator.partial(
        task_id="pack",
        output="{{ params.output }}",
        shard_bytes="{{ params.shard_bytes }}",
        shuffle_seed="{{ params.shuffle_seed }}",
        map_index_template="{{ task.shard_label }}",
    ).expand(manifest=listing.output)
    JoinPacksOperator(task_id="join", packs=packs.output)
