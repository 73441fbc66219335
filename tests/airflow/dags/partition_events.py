"""A bucket whose changed partitions are told, and who hears of them; partitions of assets need Airflow 3.3."""

from __future__ import annotations

from airflow.providers.common.compat.sdk import DAG, Asset, AssetAlias, task

from airflow_dataflux import ChangedPartitionsOperator, FastListOperator

try:
    from airflow.sdk import PartitionedAssetTimetable
except ImportError:
    PartitionedAssetTimetable = None

EVENTS = Asset(uri="gs://events/log")
ANY_CHANGE = AssetAlias("any-change-of-events")
NIGHTS = "{{ dag_run.conf['manifest_root'] }}/"

with DAG("tell_partitions", schedule=None):
    listing = FastListOperator(
        task_id="list", bucket="events", prefix="log/", manifest_uri=NIGHTS + "{{ dag_run.conf['night'] }}"
    )
    ChangedPartitionsOperator(
        task_id="compare",
        manifest=listing.output,
        previous=NIGHTS + "{{ dag_run.conf['before'] }}",
        outlets=[EVENTS, ANY_CHANGE],
    )


@task(retries=0)
def told(**context) -> dict:
    """Return the run's partition, and the extras of the events that triggered it."""
    events = context["triggering_asset_events"]
    extras = [event.extra for _, several in events.items() for event in several]
    return {"key": context["dag_run"].partition_key, "partitions": [extra["partitions"] for extra in extras]}


if PartitionedAssetTimetable is not None:
    with DAG("once_a_partition", schedule=PartitionedAssetTimetable(assets=EVENTS), catchup=False):
        told()
    with DAG("once_a_change", schedule=[ANY_CHANGE], catchup=False):
        told()
    with DAG("without_partitions", schedule=[EVENTS], catchup=False):
        told()
