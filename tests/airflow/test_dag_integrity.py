"""Every DAG file parses, cheaply, and survives serialisation; every operator keeps Airflow's rules."""

from __future__ import annotations

import inspect
import pickle
import re
import subprocess
import sys

import pytest
from dag_runs import AIRFLOW_3_0, EXAMPLE_FILES, EXAMPLES, dag_bag, serialisation_class

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

OPERATORS = [
    FastListOperator,
    ComposeDownloadOperator,
    NameRangesOperator,
    JoinManifestsOperator,
    SelectOperator,
    SweepCompositesOperator,
    ComposePackOperator,
    JoinPacksOperator,
    ChangedPartitionsOperator,
    PruneStagedOperator,
]
ATTRIBUTES = {"dry_run": "is_dry_run", "output": "output_uri"}
"""Parameters whose names Airflow's own operator has for something else."""

ARGUMENTS = {
    FastListOperator: {"bucket": "b"},
    ComposeDownloadOperator: {"manifest": "gs://b/m", "destination": "/data"},
    NameRangesOperator: {"bucket": "b"},
    JoinManifestsOperator: {"manifests": [], "manifest_uri": "gs://b/m"},
    SelectOperator: {"manifest": "gs://b/m"},
    SweepCompositesOperator: {"bucket": "b"},
    ComposePackOperator: {"manifest": "gs://b/m", "output": "gs://b/p/"},
    JoinPacksOperator: {"packs": []},
    ChangedPartitionsOperator: {"manifest": "gs://b/m"},
    PruneStagedOperator: {"root": "/data"},
}


def defaults(operator: type) -> dict[str, object]:
    """Return the parameters with their defaults: the operator's own, then those that all operators here share."""
    both = [*inspect.signature(operator.__init__).parameters.items()]
    both += inspect.signature(DatafluxOperator.__init__).parameters.items()
    return {name: parameter.default for name, parameter in both if name not in ("self", "kwargs")}


def test_every_dag_file_imports_and_every_dag_has_tasks() -> None:
    bag = dag_bag()
    assert bag.import_errors == {}
    assert set(EXAMPLES) == set(EXAMPLE_FILES) & set(bag.dags), "a file is named as its DAG is"
    assert all(dag.tasks for dag in bag.dags.values())


def test_every_dag_survives_serialisation() -> None:
    serialisation = serialisation_class()
    for dag in dag_bag().dags.values():
        again = serialisation.from_dict(serialisation.to_dict(dag))
        assert sorted(again.task_ids) == sorted(dag.task_ids)


@pytest.mark.parametrize("dag_id", EXAMPLES)
def test_every_example_is_explained_and_its_form_is_complete(dag_id: str) -> None:
    dag = dag_bag().get_dag(dag_id)
    assert len(dag.doc_md) > 100
    assert dag.description
    assert dag.params
    for name in dag.params:
        param = dag.params.get_param(name)
        schema = param.schema
        assert schema.get("title"), name
        assert len(schema.get("description") or param.description or "") > 20, name
        assert schema.get("type") or schema.get("enum"), f"{name}: nothing checks what is filled in"
        if schema.get("type") not in ("boolean", None):
            assert schema.get("examples"), f"{name}: the form shows nobody how to fill it in"
            for example in schema["examples"]:
                type(param)(example, **{key: value for key, value in schema.items() if key != "examples"}).resolve()


@pytest.mark.parametrize("dag_id", EXAMPLES)
def test_the_form_of_every_example_can_be_sent_as_it_opens(dag_id: str) -> None:
    dag = dag_bag().get_dag(dag_id)
    for name in dag.params:
        param = dag.params.get_param(name)
        kind = param.schema.get("type")
        if param.value in (None, ""):  # Airflow's form takes a field that is empty for one that is missing
            assert kind is None or "null" in kind, f"{name}: the form's button stays grey until it is filled in"
            assert param.resolve(None) is None


@pytest.mark.parametrize("operator", OPERATORS)
def test_an_operator_can_be_pickled_and_its_own_dry_run_is_untouched(operator: type) -> None:
    made = operator(task_id="t", **ARGUMENTS[operator])
    assert AIRFLOW_3_0 or callable(made.dry_run)  # 3.0 has none
    assert pickle.loads(pickle.dumps(made)).task_id == "t"


@pytest.mark.parametrize("operator", OPERATORS)
def test_every_parameter_is_templated_documented_and_only_assigned(operator: type) -> None:
    documented = (operator.__doc__ or "") + (DatafluxOperator.__doc__ or "")
    marker = {name: object() for name in defaults(operator)}
    made = operator(task_id="t", **marker)
    for name, value in marker.items():
        attribute = ATTRIBUTES.get(name, name)
        assert attribute in operator.template_fields, name
        assert getattr(made, attribute) is value, "a value was touched before it was rendered"
        entry = re.search(rf":param {name}:(.*?)(?=:param |\Z)", documented, re.DOTALL)
        assert entry is not None, f"{name} is not documented"
        assert "(templated)" in entry[1], name
    assert set(operator.template_fields) == {ATTRIBUTES.get(name, name) for name in marker}
    assert set(operator.template_fields_renderers) <= set(operator.template_fields)


def test_the_public_interface_is_the_agreed_one() -> None:
    shared = [("user_project", None), ("gcp_conn_id", "google_cloud_default"), ("impersonation_chain", None)]
    agreed = {
        FastListOperator: [
            *[("bucket", inspect.Parameter.empty), ("prefix", ""), ("match_glob", None), ("exclude_glob", None)],
            *[
                ("storage_classes", None),
                ("updated_after", None),
                ("updated_before", None),
                ("min_bytes", None),
                ("max_bytes", None),
            ],
            *[("include_placeholders", False), ("manifest_uri", None), ("seed_manifest", None), ("shards", None)],
            *[("shard_bytes", None), ("on_unchanged", "continue"), ("on_empty", "continue")],
            *[("name_range", None), ("workers", None), ("streams", None), ("report", True), *shared],
        ],
        ComposeDownloadOperator: [
            *[("manifest", inspect.Parameter.empty), ("destination", inspect.Parameter.empty)],
            *[("strategy", "auto"), ("max_composite_bytes", 100_000_000)],
            *[("composite_prefix", "dataflux-composed-objects/"), ("strip_prefix", "")],
            *[("delete_extraneous", False), ("on_changed_object", "fail")],
            *[("on_unreadable_object", "fail"), ("on_unsafe_name", "fail"), ("decompress", False)],
            *[("reuse_from", None), ("receipt_directory", None), ("max_in_flight", None), ("workers", None)],
            *[("max_usd", None), ("dry_run", False), ("report", True), *shared],
        ],
    }
    for operator, expected in agreed.items():
        assert list(defaults(operator).items()) == expected


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (["list"], ["airflow-provider-dataflux", "0.1.0"]),
        (["get", "airflow-provider-dataflux"], ["airflow-provider-dataflux", "0.1.0"]),
        (["hooks"], ["gcpdataflux", "airflow_dataflux.hooks.dataflux.DatafluxHook", "Google Cloud Dataflux"]),
        (["links"], [f"airflow_dataflux.links.{name}Link" for name in ("Bucket", "Manifest", "Receipt")]),
    ],
)
def test_airflows_own_command_shows_the_provider(arguments: list[str], expected: list[str]) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "airflow", "providers", *arguments, "--output", "plain"],
        capture_output=True,
        text=True,
        stdin=subprocess.DEVNULL,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-2000:]
    for part in expected:
        assert part in done.stdout


def test_every_extra_link_of_the_provider_is_one_of_an_operator() -> None:
    from airflow_dataflux.provider_info import get_provider_info

    used = {type(link) for operator in OPERATORS for link in operator.operator_extra_links}
    assert {f"{link.__module__}.{link.__name__}" for link in used} == set(get_provider_info()["extra-links"])


def test_what_the_provider_names_exists() -> None:
    from importlib import import_module

    from airflow_dataflux.provider_info import get_provider_info

    info = get_provider_info()
    for kind in ("hooks", "operators"):
        for entry in info[kind]:
            for module in entry["python-modules"]:
                import_module(module)
    for connection in info["connection-types"]:
        module, _, name = connection["hook-class-name"].rpartition(".")
        hook = getattr(import_module(module), name)
        assert (hook.conn_type, hook.hook_name) == (connection["connection-type"], connection["hook-name"])
