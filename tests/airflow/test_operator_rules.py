"""Airflow's rules for operators, kept by all of them: templates, parsing, serialisation, mapping, copying."""

from __future__ import annotations

import copy
import inspect
import json
import os
import pickle
import subprocess
import sys
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from airflow.providers.common.compat.sdk import DAG
from dag_runs import AIRFLOW_3, run_dag, serialisation_class

from airflow_dataflux import (
    ChangedPartitionsOperator,
    ComposeDownloadOperator,
    ComposePackOperator,
    FastListOperator,
    JoinManifestsOperator,
    JoinPacksOperator,
    NameRangesOperator,
    PruneStagedOperator,
    SelectOperator,
    SweepCompositesOperator,
)
from airflow_dataflux.operators.base import DatafluxOperator

pytestmark = pytest.mark.usefixtures("airflow_database")

EVERYTHING: dict[type, dict[str, Any]] = {
    FastListOperator: {
        "bucket": "data",
        "prefix": ["a/", "b/"],
        "match_glob": "**.jpg",
        "exclude_glob": ["**.tmp"],
        "storage_classes": ["STANDARD"],
        "updated_after": datetime(2026, 1, 1, tzinfo=UTC),
        "updated_before": "{{ data_interval_end }}",
        "min_bytes": 1,
        "max_bytes": "{{ params.max }}",
        "include_placeholders": True,
        "name_range": {"start": "a/", "end": None},
        "manifest_uri": "gs://manifests/{{ run_id }}",
        "seed_manifest": {"format": "dataflux-manifest/1", "uri": "gs://manifests/1", "fingerprint": "f"},
        "shards": 4,
        "shard_bytes": None,
        "on_unchanged": "continue",
        "on_empty": "skip",
        "workers": 2,
        "streams": 8,
        "report": False,
    },
    ComposeDownloadOperator: {
        "manifest": {"format": "dataflux-manifest/1", "uri": "gs://manifests/1", "fingerprint": "f"},
        "destination": "/data/{{ ds }}",
        "strategy": "compose",
        "max_composite_bytes": 1_000_000,
        "composite_prefix": "temporary/",
        "strip_prefix": "a/",
        "delete_extraneous": True,
        "on_changed_object": "skip",
        "on_unreadable_object": "skip",
        "on_unsafe_name": "skip",
        "decompress": True,
        "reuse_from": ["/data/yesterday"],
        "receipt_directory": "/data/receipts",
        "max_in_flight": 8,
        "max_usd": 2.5,
        "report": False,
        "workers": 2,
        "dry_run": True,
    },
    SelectOperator: {
        "manifest": {"format": "dataflux-manifest/1", "uri": "gs://manifests/1", "fingerprint": "f"},
        "manifest_uri": "gs://manifests/{{ run_id }}",
        "include_glob": ["**.jpg", "**.json"],
        "exclude_glob": "tmp/**",
        "match_regex": "0",
        "min_bytes": 1,
        "max_bytes": "{{ params.max }}",
        "updated_after": datetime(2026, 1, 1, tzinfo=UTC),
        "updated_before": "{{ data_interval_end }}",
        "storage_classes": ["STANDARD"],
        "group_by": r"^(.*)\.",
        "sample": 0.5,
        "per_group": 10,
        "seed": 7,
        "class_by": "^([^/]+)/",
        "splits": {"train": 0.9, "val": 0.1},
        "on_empty": "fail",
        "shards": 4,
        "shard_bytes": None,
    },
    SweepCompositesOperator: {
        "bucket": "data",
        "composite_prefix": "temporary/",
        "older_than": timedelta(hours=6),
        "dry_run": True,
        "print_lifecycle_rule": True,
    },
    NameRangesOperator: {
        "bucket": "data",
        "prefix": ["a/", "b/"],
        "ranges": 16,
        "seed_manifest": {"format": "dataflux-manifest/1", "uri": "gs://manifests/1", "fingerprint": "f"},
    },
    JoinManifestsOperator: {
        "manifests": ["gs://manifests/1", "gs://manifests/2"],
        "manifest_uri": "gs://manifests/{{ run_id }}",
        "on_empty": "fail",
        "shards": 4,
        "shard_bytes": None,
    },
    ComposePackOperator: {
        "manifest": {"format": "dataflux-manifest/1", "uri": "gs://manifests/1", "fingerprint": "f"},
        "output": "gs://packs/{{ ds }}/",
        "shard_bytes": 1_000_000,
        "shard_count": 4,
        "sample_by": r"/(\d+)\.",
        "shuffle_seed": 7,
        "name_template": "train-{index}.tar",
        "on_changed_object": "skip",
        "strategy": "direct",
        "max_composite_bytes": 1_000_000,
        "composite_prefix": "temporary/",
        "max_in_flight": 8,
        "workers": 2,
        "max_usd": 1.5,
        "report": False,
        "dry_run": True,
    },
    JoinPacksOperator: {"packs": [{"format": "dataflux-pack/1"}], "report": False},
    ChangedPartitionsOperator: {
        "manifest": "gs://manifests/2",
        "previous": {"format": "dataflux-manifest/1", "uri": "gs://manifests/1", "fingerprint": "f"},
        "partition": r"(?P<partition>\d+)/",
    },
    PruneStagedOperator: {
        "root": "/data",
        "pattern": "*/*",
        "keep_last": 3,
        "older_than": timedelta(days=7),
        "max_total_bytes": 10**12,
        "dry_run": True,
    },
}
SHARED = {"user_project": "billed", "gcp_conn_id": "google", "impersonation_chain": ["a@p", "b@p"]}
REQUIRED = {
    FastListOperator: ["bucket"],
    ComposeDownloadOperator: ["manifest", "destination"],
    SweepCompositesOperator: ["bucket"],
    NameRangesOperator: ["bucket"],
    JoinManifestsOperator: ["manifests", "manifest_uri"],
    SelectOperator: ["manifest"],
    ComposePackOperator: ["manifest", "output"],
    JoinPacksOperator: ["packs"],
    ChangedPartitionsOperator: ["manifest"],
    PruneStagedOperator: ["root"],
}
OPERATORS = list(EVERYTHING)
PARAMETERS = [(operator, name) for operator in OPERATORS for name in {**EVERYTHING[operator], **SHARED}]


def attribute(name: str) -> str:
    return {"dry_run": "is_dry_run", "output": "output_uri"}.get(name, name)


def there_and_back(dag: DAG) -> Any:
    """Return the DAG as the scheduler reads it."""
    serialisation = serialisation_class()
    return serialisation.from_dict(json.loads(json.dumps(serialisation.to_dict(dag))))


@pytest.mark.parametrize("operator", OPERATORS)
def test_this_file_knows_every_parameter(operator: type) -> None:
    own = {
        name
        for taking in (operator, DatafluxOperator)
        for name in inspect.signature(inspect.unwrap(taking.__init__)).parameters
    }
    assert own - {"self", "kwargs"} == {*EVERYTHING[operator], *SHARED}


@pytest.mark.parametrize("operator", OPERATORS)
def test_every_parameter_is_rendered(operator: type) -> None:
    made = operator(task_id="t", **dict.fromkeys({**EVERYTHING[operator], **SHARED}, "{{ value }}"))
    made.render_template_fields({"value": "rendered"})
    assert {name: getattr(made, attribute(name)) for name in EVERYTHING[operator]} == dict.fromkeys(
        EVERYTHING[operator], "rendered"
    )


@pytest.mark.parametrize("operator", OPERATORS)
def test_what_may_be_a_list_or_a_dictionary_is_shown_as_json(operator: type) -> None:
    structured = {
        attribute(name)
        for taking in (operator, DatafluxOperator)
        for name, parameter in inspect.signature(inspect.unwrap(taking.__init__)).parameters.items()
        if name != "kwargs"
        and any(kind in str(parameter.annotation) for kind in ("Mapping", "Sequence", "dict", "list"))
    }
    assert operator.template_fields_renderers == dict.fromkeys(structured, "json")


@pytest.mark.parametrize("operator", OPERATORS)
def test_an_operator_survives_serialisation_pickling_and_copying_with_every_parameter(operator: type) -> None:
    with DAG("rules", schedule=None, start_date=datetime(2026, 1, 1, tzinfo=UTC)) as dag:
        made = operator(task_id="t", **EVERYTHING[operator], **SHARED)
    again = there_and_back(dag).get_task("t")
    assert again.task_type == operator.__name__
    assert set(again.template_fields) == set(operator.template_fields)
    assert again.template_fields_renderers == operator.template_fields_renderers
    assert (again.ui_color, again.ui_fgcolor) == (operator.ui_color, operator.ui_fgcolor)
    links = again.operator_extra_link_dict if hasattr(again, "operator_extra_link_dict") else {}
    assert set(links) <= {link.name for link in operator.operator_extra_links}
    for name, value in {**EVERYTHING[operator], **SHARED}.items():
        if isinstance(value, str | int | list | dict | None):
            assert getattr(again, attribute(name)) == value, name
    for copied in (pickle.loads(pickle.dumps(made)), copy.copy(made), copy.deepcopy(made)):
        for name in {**EVERYTHING[operator], **SHARED}:
            assert getattr(copied, attribute(name)) == getattr(made, attribute(name)), name


@pytest.mark.parametrize(("operator", "name"), PARAMETERS)
def test_every_parameter_can_be_mapped_over(operator: type, name: str) -> None:
    value = {**EVERYTHING[operator], **SHARED}[name]
    others = {key: EVERYTHING[operator][key] for key in REQUIRED[operator] if key != name}
    with DAG("rules", schedule=None, start_date=datetime(2026, 1, 1, tzinfo=UTC)) as dag:
        mapped = operator.partial(task_id="t", **others).expand(**{name: [value, value]})
    again = there_and_back(dag).get_task("t")
    assert again.task_type == operator.__name__
    one = mapped.unmap({name: value})
    assert isinstance(one, operator)
    assert getattr(one, attribute(name)) == value


def test_a_listing_can_be_mapped_over_prefixes_in_a_run(gcs_server) -> None:
    gcs_server.create_bucket("data")
    gcs_server.put_many("data", {"a/1": b"1", "a/2": b"22", "b/1": b"1"})
    run = run_dag("mapped_listing", {"bucket": "data"})
    assert run.states() == {"list": ["success"] * 3}
    assert [run.xcom("list", map_index=index)["object_count"] for index in range(3)] == [2, 1, 3]


PARSING = """
import sys, time
from airflow.providers.common.compat.sdk import DAG, BaseOperator, Param, task
with DAG("before", schedule=None):
    BaseOperator(task_id="t")
before = set(sys.modules)
from airflow_dataflux import ComposeDownloadOperator, DatafluxHook, FastListOperator, SweepCompositesOperator
from airflow_dataflux import JoinManifestsOperator, NameRangesOperator
with DAG("parsed", schedule=None) as dag:
    listing = FastListOperator(task_id="list", bucket="b", manifest_uri="gs://b/m", shards=4)
    ComposeDownloadOperator.partial(task_id="stage", destination="/d").expand(manifest=listing.output)
    SweepCompositesOperator(task_id="sweep", bucket="b")
    ranges = NameRangesOperator(task_id="divide", bucket="b")
    each = FastListOperator.partial(task_id="each", bucket="b").expand(name_range=ranges.output)
    JoinManifestsOperator(task_id="join", manifests=each.output, manifest_uri="gs://b/m")
print("\\n".join(sorted(set(sys.modules) - before)))
"""


def test_parsing_a_dag_file_loads_only_airflow_and_what_the_operators_are_written_in() -> None:
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", PARSING.replace("DatafluxHook, ", "")],
        # Whoever asks for a connection, a token or a bucket at parse time finds nobody, and fails.
        env={
            **os.environ,
            "STORAGE_EMULATOR_HOST": "127.0.0.1:1",
            "AIRFLOW__DATABASE__SQL_ALCHEMY_CONN": "sqlite:////x",
        },
        capture_output=True,
        text=True,
        stdin=subprocess.DEVNULL,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    loaded = set(done.stdout.split())
    foreign = {name.partition(".")[0] for name in loaded} - {"airflow", "airflow_dataflux"} - sys.stdlib_module_names
    # What Airflow 2.11's own XCom module loads; the process that parses DAG files has it already.
    assert foreign <= (set() if AIRFLOW_3 else {"babel", "pytz"})
    ours = {name for name in loaded if name.startswith("airflow_dataflux.")}
    doors = {"compat", "core", "_version", "addresses", "failures", "hooks", "lazy_exports", "links", "operators"}
    assert {name.split(".")[1] for name in ours} <= doors | {"short_errors"}
    assert {name for name in ours if name.startswith("airflow_dataflux.hooks.")} == set()
    assert {name.removeprefix("airflow_dataflux.core") for name in ours if ".core" in name} <= {
        *("", ".config", ".errors", ".model", ".namerange", ".parameters")
    }
