"""The migration pages keep their promise: before and after list the same names and put the same bytes on disk.

The Google provider's own operators really run, against the embedded server, with a connection that is anonymous.
"""

from __future__ import annotations

import gzip
import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from markdown_blocks import ROOT, blocks_of

from airflow_dataflux import Client
from airflow_dataflux.testing import GCSServer, isolated_environment

PLACE_IN_THE_PAGES = "/data/"
PHOTOS = {
    f"train/{label}/{number}.jpg": label.encode() * number for label in ("cat", "dög", "a b") for number in range(2)
}
OTHERS = {"train/notes.txt": b"labels", "validate/1.jpg": b"no"}
NEEDS_GCLOUD = {"rsync_before", "cp_before"}

RUN_EVERY_DAG = """
import json, sys
try:
    from airflow.dag_processing.dagbag import DagBag
except ModuleNotFoundError:
    from airflow.models.dagbag import DagBag

bag = DagBag(dag_folder=sys.argv[1])
assert not bag.import_errors, bag.import_errors
results = {}
for dag_id in sorted(set(bag.dags) - set(sys.argv[3:])):
    run = bag.get_dag(dag_id).test()
    values = {ti.task_id: ti.xcom_pull(task_ids=ti.task_id) for ti in run.get_task_instances() if ti.map_index < 0}
    results[dag_id] = {"state": str(run.state), "values": values}
json.dump(results, open(sys.argv[2], "w"), default=str)
"""


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("migration")


@pytest.fixture(scope="module")
def server() -> Iterator[GCSServer]:
    with GCSServer() as server:
        server.create_bucket("photos")
        server.put_many("photos", {**PHOTOS, **OTHERS})
        yield server


@pytest.fixture(scope="module")
def results(place: Path, server: GCSServer) -> dict[str, dict]:
    """Return what every DAG of the pages came to, all run in one process."""
    dags = place / "dags"
    dags.mkdir()
    for page in sorted((ROOT / "docs/how-to/migrate").glob("*.md")):
        for block in blocks_of(page):
            if block.file:
                (place / block.file).write_text(block.code.replace(PLACE_IN_THE_PAGES, f"{place}/"), encoding="utf-8")
    environment = {
        **{name: value for name, value in isolated_environment(place / "home", dags).items() if "GOOGLE" not in name},
        **server.environment(),
        "AIRFLOW_CONN_GOOGLE_CLOUD_DEFAULT": json.dumps(
            {"conn_type": "google_cloud_platform", "extra": {"is_anonymous": True, "project": "offline"}}
        ),
    }
    for command in (
        ["-m", "airflow", "db", "migrate"],
        ["-c", RUN_EVERY_DAG, dags, place / "results.json", *NEEDS_GCLOUD],
    ):
        done = subprocess.run(
            [sys.executable, *map(str, command)],
            env=environment,
            cwd=place,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, f"{done.stdout[-5000:]}\n{done.stderr[-5000:]}"
    found: dict[str, dict] = json.loads((place / "results.json").read_text("utf-8"))
    assert {dag_id: result["state"] for dag_id, result in found.items()} == dict.fromkeys(found, "success"), done.stdout
    return found


def tree(directory: Path) -> dict[str, bytes]:
    """Return the files below a directory, without those of the package's own."""
    files = [path for path in directory.rglob("*") if path.is_file()]
    relative = {os.path.relpath(path, directory): path for path in files}
    return {name: path.read_bytes() for name, path in relative.items() if not name.startswith(".dataflux/")}


def without(prefix: str, objects: dict[str, bytes]) -> dict[str, bytes]:
    return {name.removeprefix(prefix): data for name, data in objects.items() if name.startswith(prefix)}


pytestmark = [pytest.mark.airflow, pytest.mark.slow]


def test_a_manifest_has_the_names_that_the_list_in_xcom_had(results: dict[str, dict]) -> None:
    before, after = (results[dag_id]["values"]["use"] for dag_id in ("names_before", "names_after"))
    assert before == after == sorted(PHOTOS)


def test_two_mapped_stagings_do_the_work_of_a_task_for_each_object(results: dict[str, dict], place: Path) -> None:
    assert results["files_after"]["values"]["list"] is not None
    wanted = {name: data for name, data in {**PHOTOS, **OTHERS}.items() if name.startswith("train/")}
    assert tree(place / "before") == tree(place / "after") == wanted


def test_the_hook_stages_the_tree_that_the_old_one_synchronised(results: dict[str, dict], place: Path) -> None:
    assert results["tree_after"]["values"]["fetch"]["object_count"] == len(PHOTOS) + 1
    wanted = without("train/", {**PHOTOS, **OTHERS})
    assert tree(place / "tree-before") == tree(place / "tree-after") == wanted


def test_the_dags_after_gcloud_put_the_described_trees_on_disk(results: dict[str, dict], place: Path) -> None:
    assert {"rsync_after", "cp_after"} < set(results)
    assert tree(place / "photos") == without("train/", {**PHOTOS, **OTHERS})
    assert tree(place / "copy") == without("train/", PHOTOS)


def test_gzip_encoded_objects_are_unpacked_by_the_old_hook_and_by_decompress_alone(
    server: GCSServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from airflow.providers.google.cloud.hooks.gcs import GCSHook

    plain = b"text of a log " * 100
    stored = gzip.compress(plain)
    server.create_bucket("logs")
    server.put("logs", "a.json", stored, content_type="application/json", content_encoding="gzip")
    for name, value in server.environment().items():
        monkeypatch.setenv(name, value)
    connection = {"conn_type": "google_cloud_platform", "extra": {"is_anonymous": True, "project": "offline"}}
    monkeypatch.setenv("AIRFLOW_CONN_GOOGLE_CLOUD_DEFAULT", json.dumps(connection))
    assert GCSHook().download("logs", "a.json") == plain
    client = Client()
    manifest = client.list("logs")
    receipts = [client.stage(manifest, str(tmp_path / str(each)), decompress=each) for each in (False, True)]
    assert [(tmp_path / str(each) / "a.json").read_bytes() for each in (False, True)] == [stored, plain]
    assert any("1 objects have the content encoding gzip" in line for line in receipts[0].preflight)
