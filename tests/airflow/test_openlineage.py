"""OpenLineage: what its own extractor gets from the operators, and that nothing of it is needed."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from airflow.providers.openlineage.extractors.manager import ExtractorManager
from openlineage.client.serde import Serde

from airflow_dataflux import (
    ComposeDownloadOperator,
    DatafluxHook,
    FastListOperator,
    JoinPacksOperator,
    SweepCompositesOperator,
)
from airflow_dataflux.compat import AirflowFailException, AirflowSkipException
from airflow_dataflux.operators.openlineage import Lineage

RUN = SimpleNamespace(run_id="run", start_date=None)


class Ti(SimpleNamespace):
    """As much of a task instance as the operators speak to."""

    def xcom_push(self, key: str, value: object) -> None:
        json.dumps(value)


def execute(operator: Any) -> Any:
    ti = Ti(dag_id="dag", run_id="run", task_id="t", map_index=-1, try_number=1)
    return operator.execute({"ti": ti, "task": operator, "dag_run": RUN, "outlet_events": {}})


def events(operator: Any, state: str = "success") -> dict[str, Any]:
    """Return what Airflow's OpenLineage provider would send: inputs and outputs, as JSON."""
    from airflow.utils.state import TaskInstanceState

    found = ExtractorManager().extract_metadata(RUN, operator, TaskInstanceState(state), SimpleNamespace())
    sent = {"inputs": found.inputs, "outputs": found.outputs}
    return json.loads(json.dumps({key: [Serde.to_dict(one) for one in several] for key, several in sent.items()}))


def plain(facets: dict[str, Any]) -> dict[str, Any]:
    """Return facets without what the client adds to each."""
    return {
        name: {key: value for key, value in facet.items() if not key.startswith("_")} for name, facet in facets.items()
    }


@pytest.fixture
def bucket(gcs_server):
    gcs_server.create_bucket("data")
    gcs_server.put_many("data", {f"train/{n}": b"x" * n for n in range(10)} | {"other/1": b"12345"})
    return gcs_server


def test_a_listing_reads_its_prefix_and_writes_its_manifest(bucket, tmp_path: Path) -> None:
    uri = (tmp_path / "manifest").as_uri()
    operator = FastListOperator(task_id="t", bucket="data", prefix="train/", manifest_uri=uri)
    reference = execute(operator)
    sent = events(operator)
    ((source,), (output,)) = sent["inputs"], sent["outputs"]
    version = {"version": {"datasetVersion": reference["fingerprint"]}}
    assert (source["namespace"], source["name"]) == ("gs://data", "train")
    assert plain(source["facets"]) == version
    assert plain(source["inputFacets"]) == {"inputStatistics": {"fileCount": 10, "size": 45}}
    assert (output["namespace"], output["name"]) == ("file://", str(tmp_path / "manifest"))
    assert plain(output["facets"]) == version
    assert plain(output["outputFacets"]) == {"outputStatistics": {"fileCount": 10, "size": 45}}


def test_a_listing_of_several_prefixes_names_each_and_counts_only_the_whole(bucket) -> None:
    bucket.create_bucket("manifests")
    operator = FastListOperator(
        task_id="t", bucket="data", prefix=["train/", "other/"], manifest_uri="gs://manifests/today/1"
    )
    execute(operator)
    sent = events(operator)
    assert [(one["namespace"], one["name"]) for one in sent["inputs"]] == [
        ("gs://data", "other"),
        ("gs://data", "train"),
    ]
    assert all(plain(one.get("inputFacets", {})) == {} for one in sent["inputs"])
    (output,) = sent["outputs"]
    assert (output["namespace"], output["name"]) == ("gs://manifests", "today/1")
    assert plain(output["outputFacets"])["outputStatistics"] == {"fileCount": 11, "size": 50}


def test_a_staging_reads_the_bucket_and_writes_its_destination(bucket, tmp_path: Path) -> None:
    manifest = DatafluxHook().fast_list("data", "train/").reference()
    operator = ComposeDownloadOperator(task_id="t", manifest=manifest, destination=str(tmp_path / "staged"))
    execute(operator)
    sent = events(operator)
    ((source,), (output,)) = sent["inputs"], sent["outputs"]
    assert (source["namespace"], source["name"]) == ("gs://data", "train")
    assert (output["namespace"], output["name"]) == ("file://", str(tmp_path / "staged"))
    assert plain(output["outputFacets"]) == {"outputStatistics": {"fileCount": 10, "size": 45}}
    assert plain(output["facets"]) == {"version": {"datasetVersion": manifest["fingerprint"]}}


def test_a_join_of_packs_reads_the_prefix_and_writes_the_whole_pack(bucket, tmp_path: Path) -> None:
    manifest = DatafluxHook().fast_list("data", "train/", manifest_uri=(tmp_path / "manifest").as_uri())
    parts = [DatafluxHook().pack(shard, str(tmp_path / "pack")).summary() for shard in manifest.shards(2)]
    operator = JoinPacksOperator(task_id="t", packs=parts)
    execute(operator)
    sent = events(operator)
    ((source,), (output,)) = sent["inputs"], sent["outputs"]
    assert (source["namespace"], source["name"]) == ("gs://data", "train")
    assert plain(source["facets"]) == {"version": {"datasetVersion": manifest.fingerprint}}
    assert (output["namespace"], output["name"]) == ("file://", str(tmp_path / "pack"))
    assert plain(output["outputFacets"]) == {"outputStatistics": {"fileCount": 10, "size": 45}}
    torn = JoinPacksOperator(task_id="t", packs=parts[:1])
    with pytest.raises(AirflowFailException):
        execute(torn)
    sent = events(torn, "failed")
    assert [(one["namespace"], one["name"]) for one in sent["inputs"]] == [("gs://data", "train")]
    assert sent["outputs"] == []


def test_a_dry_run_writes_nothing(bucket, tmp_path: Path) -> None:
    manifest = DatafluxHook().fast_list("data").reference()
    operator = ComposeDownloadOperator(
        task_id="t", manifest=manifest, destination=str(tmp_path / "staged"), dry_run=True
    )
    execute(operator)
    assert [(one["namespace"], one["name"]) for one in events(operator)["inputs"]] == [("gs://data", "/")]
    assert events(operator)["outputs"] == []


def test_a_failure_tells_what_was_to_be_read_and_no_output(bucket, tmp_path: Path) -> None:
    manifest = DatafluxHook().fast_list("data", "train/").reference()
    bucket.put("data", "train/5", b"overwritten")
    staging = ComposeDownloadOperator(task_id="t", manifest=manifest, destination=str(tmp_path / "staged"))
    bucket.create_bucket("locked", permissions=[])
    listing = FastListOperator(task_id="t", bucket="locked", prefix="secret/")
    for operator, source in [(staging, ("gs://data", "train")), (listing, ("gs://locked", "secret"))]:
        with pytest.raises(AirflowFailException):
            execute(operator)
        sent = events(operator, "failed")
        assert [(one["namespace"], one["name"]) for one in sent["inputs"]] == [source]
        assert sent["outputs"] == []


def test_what_never_began_and_what_only_sweeps_has_no_lineage_of_its_own(bucket) -> None:
    sweeper = SweepCompositesOperator(task_id="t", bucket="data")
    execute(sweeper)
    for operator in (sweeper, FastListOperator(task_id="t", bucket="data")):
        assert operator.get_openlineage_facets_on_complete(None) is None


def test_a_skipped_listing_tells_what_it_found(bucket) -> None:
    operator = FastListOperator(task_id="t", bucket="data", prefix="nothing/", on_empty="skip")
    with pytest.raises(AirflowSkipException):
        execute(operator)
    (source,) = events(operator, "skipped")["inputs"]
    assert plain(source["inputFacets"]) == {"inputStatistics": {"fileCount": 0, "size": 0}}


@pytest.mark.parametrize(
    ("place", "dataset"),
    [
        ("/data/train/", ("file://", "/data/train")),
        ("/", ("file://", "/")),
        ("file:///data/train", ("file://", "/data/train")),
        ("gs://bucket/a/b/", ("gs://bucket", "a/b")),
        ("gs://bucket", ("gs://bucket", "/")),
        ("s3://other/x", ("s3://other", "x")),
    ],
)
def test_a_place_is_named_as_airflows_assets_are(place: str, dataset: tuple[str, str]) -> None:
    (output,) = Lineage(bucket="b", prefixes=("",), output=place).facets().outputs
    assert (output.namespace, output.name) == dataset


def test_without_the_provider_there_are_no_facets_and_nothing_breaks() -> None:
    code = """
import sys
from airflow.providers.common.compat.sdk import BaseOperator
BaseOperator  # Airflow itself is there, with whatever it knows of its providers
class Absent:
    def find_spec(self, name, path=None, target=None):
        if name.startswith(("openlineage", "airflow.providers.openlineage")):
            raise ModuleNotFoundError(name)
sys.meta_path.insert(0, Absent())
from airflow_dataflux.operators.openlineage import Lineage
print(Lineage(bucket="b", prefixes=("",)).facets())
"""
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", code],
        capture_output=True,
        text=True,
        stdin=subprocess.DEVNULL,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[-1] == "None"


def test_hook_lineage_names_what_was_read_and_written(bucket, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from airflow.providers.common.compat.lineage import hook as lineage

    told: list[tuple[str, str]] = []
    collector = SimpleNamespace(
        add_input_asset=lambda _hook, uri: told.append(("read", uri)),
        add_output_asset=lambda _hook, uri: told.append(("written", uri)),
    )
    monkeypatch.setattr(lineage, "get_hook_lineage_collector", lambda: collector)
    hook = DatafluxHook()
    uri = (tmp_path / "manifest").as_uri()
    manifest = hook.fast_list("data", "train/", manifest_uri=uri)
    assert told == [("read", "gs://data/train/"), ("written", uri)]
    told.clear()
    hook.stage(manifest, str(tmp_path / "staged"))
    assert told == [("read", "gs://data/train/"), ("written", f"file://{tmp_path / 'staged'}")]
