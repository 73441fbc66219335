"""DAGs in which every parameter comes from the run's conf, for the tests of the operators."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

from airflow.providers.common.compat.sdk import DAG, Asset, AssetAlias, task

from airflow_dataflux import ComposeDownloadOperator, DatafluxHook, FastListOperator, SweepCompositesOperator

COMMON = {
    "schedule": None,
    "start_date": datetime(2026, 1, 1, tzinfo=UTC),
    "catchup": False,
    "default_args": {"retries": 2, "retry_delay": timedelta(seconds=1)},
}


def conf(name: str) -> str:
    return "{{ dag_run.conf.get('" + name + "') }}"


LISTED = {
    name: conf(name)
    for name in (
        *("match_glob", "storage_classes", "updated_after", "updated_before", "min_bytes", "max_bytes"),
        *("manifest_uri", "seed_manifest", "shards", "shard_bytes", "workers", "streams"),
    )
}

with DAG("list_only", **COMMON):
    FastListOperator(
        task_id="list",
        bucket=conf("bucket"),
        prefix="{{ dag_run.conf.get('prefix', '') }}",
        include_placeholders="{{ dag_run.conf.get('include_placeholders', False) }}",
        on_unchanged="{{ dag_run.conf.get('on_unchanged', 'continue') }}",
        on_empty="{{ dag_run.conf.get('on_empty', 'continue') }}",
        **LISTED,
    )

with DAG("stage_only", **COMMON):
    ComposeDownloadOperator(
        task_id="stage",
        manifest=conf("manifest"),
        destination=conf("destination"),
        strategy="{{ dag_run.conf.get('strategy', 'auto') }}",
        strip_prefix="{{ dag_run.conf.get('strip_prefix', '') }}",
        delete_extraneous="{{ dag_run.conf.get('delete_extraneous', False) }}",
        dry_run="{{ dag_run.conf.get('dry_run', False) }}",
        workers="{{ dag_run.conf.get('workers') }}",
    )

with DAG("list_then_stage", **COMMON):
    lister = FastListOperator(task_id="list", bucket=conf("bucket"))
    ComposeDownloadOperator(task_id="stage", manifest=lister.output, destination=conf("destination"))

with DAG("shards_then_stage", **COMMON):
    lister = FastListOperator(
        task_id="list", bucket=conf("bucket"), manifest_uri=conf("manifest_uri"), shards=conf("shards")
    )
    ComposeDownloadOperator.partial(
        task_id="stage", destination=conf("destination"), map_index_template="{{ shard_label }}"
    ).expand(manifest=lister.output)

with DAG("sweep_only", **COMMON):
    SweepCompositesOperator(
        task_id="sweep",
        bucket=conf("bucket"),
        older_than="{{ dag_run.conf.get('older_than', 86400) }}",
        dry_run="{{ dag_run.conf.get('dry_run', False) }}",
    )

with DAG("hook_in_a_task", **COMMON):

    @task(retries=0)
    def count_bytes(dag_run=None) -> dict:
        """Stage and use the files in one task, as a training task would."""
        from pathlib import Path

        hook = DatafluxHook()
        manifest = hook.fast_list(dag_run.conf["bucket"])
        receipt = hook.stage(manifest, dag_run.conf["destination"])
        files = [path for path in Path(receipt.destination).rglob("*.txt") if path.is_file()]
        return {"files": len(files), "bytes": sum(path.stat().st_size for path in files)}

    count_bytes()

with DAG("announcing", **COMMON):
    lister = FastListOperator(
        task_id="list",
        bucket=conf("bucket"),
        manifest_uri=conf("manifest_uri"),
        seed_manifest=conf("seed_manifest"),
        outlets=[Asset(uri="gs://announced/always"), AssetAlias("announced-when-changed")],
    )
