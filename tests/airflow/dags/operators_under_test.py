"""DAGs in which every parameter comes from the run's conf, for the tests of the operators."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

from airflow.providers.common.compat.sdk import DAG, Asset, AssetAlias, task

from airflow_dataflux import (
    ComposeDownloadOperator,
    ComposePackOperator,
    DatafluxHook,
    FastListOperator,
    JoinManifestsOperator,
    JoinPacksOperator,
    SelectOperator,
    SweepCompositesOperator,
)

COMMON = {
    "schedule": None,
    "start_date": datetime(2026, 1, 1, tzinfo=UTC),
    "catchup": False,
    "default_args": {"retries": 2, "retry_delay": timedelta(seconds=1)},
}


def conf(name: str) -> str:
    return "{{ dag_run.conf.get('" + name + "') }}"


TRIGGERS_2 = "triggering_dataset_events"
"""Airflow 2's name of `triggering_asset_events`."""

LISTED = {
    name: conf(name)
    for name in (
        *("match_glob", "exclude_glob", "storage_classes", "updated_after", "updated_before", "min_bytes", "max_bytes"),
        *("manifest_uri", "seed_manifest", "shards", "shard_bytes", "workers", "streams", "impersonation_chain"),
        "name_range",
    )
}
CONNECTION = "{{ dag_run.conf.get('gcp_conn_id', 'google_cloud_default') }}"

with DAG("list_only", **COMMON):
    FastListOperator(
        task_id="list",
        bucket=conf("bucket"),
        prefix="{{ dag_run.conf.get('prefix', '') }}",
        include_placeholders="{{ dag_run.conf.get('include_placeholders', False) }}",
        on_unchanged="{{ dag_run.conf.get('on_unchanged', 'continue') }}",
        on_empty="{{ dag_run.conf.get('on_empty', 'continue') }}",
        gcp_conn_id=CONNECTION,
        report="{{ dag_run.conf.get('report', True) }}",
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
        max_in_flight=conf("max_in_flight"),
        gcp_conn_id=CONNECTION,
        report="{{ dag_run.conf.get('report', True) }}",
    )

with DAG("pack_only", **COMMON):
    ComposePackOperator(
        task_id="pack",
        manifest=conf("manifest"),
        output=conf("output"),
        dry_run="{{ dag_run.conf.get('dry_run', False) }}",
    )

with DAG("join_packs_only", **COMMON):
    JoinPacksOperator(task_id="join", packs=conf("packs"), report="{{ dag_run.conf.get('report', True) }}")

with DAG("list_then_stage", **COMMON):
    lister = FastListOperator(task_id="list", bucket=conf("bucket"))
    ComposeDownloadOperator(task_id="stage", manifest=lister.output, destination=conf("destination"))

with DAG("list_what_changed_then_stage", **{**COMMON, "default_args": {"retries": 0}}):
    lister = FastListOperator(
        task_id="list",
        bucket=conf("bucket"),
        manifest_uri=conf("manifest_uri"),
        seed_manifest=conf("manifest_uri"),
        on_unchanged="skip",
        shards=conf("shards"),
    )
    staged = ComposeDownloadOperator.partial(task_id="stage", destination=conf("destination")).expand(
        manifest=lister.output
    )

    @task(trigger_rule="all_done")
    def tidy_up() -> None:
        """Succeed whatever happened before, so that the run is a success."""

    staged >> tidy_up()

with DAG("shards_then_stage", **COMMON):
    lister = FastListOperator(
        task_id="list", bucket=conf("bucket"), manifest_uri=conf("manifest_uri"), shards=conf("shards")
    )
    ComposeDownloadOperator.partial(
        task_id="stage", destination=conf("destination"), map_index_template="{{ task.shard_label }}"
    ).expand(manifest=lister.output)

with DAG("join_only", render_template_as_native_obj=True, **COMMON):
    JoinManifestsOperator(
        task_id="join", manifests=conf("manifests"), manifest_uri=conf("manifest_uri"), shards=conf("shards")
    )

# Time enough for an engine to start on a busy machine; the tests' server sees to it that it never suffices.
BRIEFLY = {"execution_timeout": timedelta(seconds=8), "retries": 0}

with DAG("list_within_seconds", **COMMON):
    FastListOperator(task_id="list", bucket=conf("bucket"), manifest_uri=conf("manifest_uri"), streams=2, **BRIEFLY)

with DAG("stage_within_seconds", **COMMON):
    ComposeDownloadOperator(
        task_id="stage",
        manifest=conf("manifest"),
        destination=conf("destination"),
        strategy="compose",
        **BRIEFLY,
    )

with DAG("sweep_only", **COMMON):
    SweepCompositesOperator(
        task_id="sweep",
        bucket=conf("bucket"),
        older_than="{{ dag_run.conf.get('older_than', 86400) }}",
        dry_run="{{ dag_run.conf.get('dry_run', False) }}",
        print_lifecycle_rule="{{ dag_run.conf.get('print_lifecycle_rule', False) }}",
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

ANNOUNCED = Asset(uri="gs://announced/listing")
STAGED = Asset(uri="file:///announced/staging")


class FailsOnce(FastListOperator):
    """Loses its worker, as it were, after all of its work was done."""

    def execute(self, context):
        result = super().execute(context)
        if context["ti"].try_number == 1:
            raise OSError("the worker was lost")
        return result


def announcing(lister: type[FastListOperator], asset: Asset, **options) -> None:
    lister(
        task_id="list",
        bucket=conf("bucket"),
        manifest_uri=conf("manifest_uri"),
        outlets=[asset, AssetAlias(f"alias-of-{asset.uri}")],
        **options,
    )


with DAG("announcing", **COMMON):
    announcing(FastListOperator, ANNOUNCED, seed_manifest=conf("seed_manifest"))

with DAG("announcing_without_a_seed", **COMMON):
    announcing(FastListOperator, Asset(uri="gs://announced/without-a-seed"))

with DAG("announcing_after_a_lost_worker", **COMMON):
    announcing(
        FailsOnce,
        Asset(uri="gs://announced/after-a-lost-worker"),
        retries=1,
        retry_delay=timedelta(0),
        seed_manifest=conf("manifest_uri"),
        on_unchanged="skip",
    )

with DAG("announcing_splits", **COMMON):
    SelectOperator(
        task_id="select",
        manifest=conf("manifest"),
        manifest_uri=conf("manifest_uri"),
        splits={"train": 0.5, "val": 0.5},
        outlets=[Asset(uri="gs://announced/splits")],
    )

with DAG("announcing_what_was_staged", **COMMON):
    ComposeDownloadOperator(
        task_id="stage",
        manifest=conf("manifest"),
        destination=conf("destination"),
        dry_run="{{ dag_run.conf.get('dry_run', False) }}",
        outlets=[STAGED],
    )

with DAG("consuming", **{**COMMON, "schedule": [ANNOUNCED]}):

    @task(retries=0)
    def triggered_by(**context) -> list:
        """Return the extra of every event that triggered this run."""
        events = context["triggering_asset_events" if "triggering_asset_events" in context else TRIGGERS_2]
        return [dict(event.extra) for _, several in events.items() for event in several]

    triggered_by()

with DAG("mapped_listing", **COMMON):
    FastListOperator.partial(task_id="list", bucket=conf("bucket")).expand(prefix=["a/", "b/", ["a/", "b/"]])
