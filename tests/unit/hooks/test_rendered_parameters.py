"""Every templated parameter of every operator means the same, whether it was written or rendered.

Each operator is executed up to the call into the core, and what reaches the core is compared.
"""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from airflow.providers.common.compat.sdk import DAG

from airflow_dataflux import (
    ComposeDownloadOperator,
    ComposePackOperator,
    DatafluxHook,
    FastListOperator,
    JoinManifestsOperator,
    JoinPacksOperator,
    NameRangesOperator,
    SelectOperator,
    SweepCompositesOperator,
)
from airflow_dataflux.core import listing, manifest, packing, staging
from airflow_dataflux.core.errors import InvalidRequestError
from airflow_dataflux.core.listing import sampling
from airflow_dataflux.core.manifest import Manifest, deriving
from airflow_dataflux.hooks import credentials

REFERENCE = {"format": "dataflux-manifest/1", "uri": "gs://manifests/1", "fingerprint": "f", "objects": None}
DAY = datetime(2026, 1, 31, tzinfo=UTC)


def packed_part(index: int) -> dict[str, Any]:
    """Return what one of two tasks of a mapped pack returns."""
    return packing.PackResult(
        output="/packs/",
        fingerprint="f",
        name_template="{index}.tar",
        shard_count=2,
        sample_count=2,
        object_count=2,
        total_bytes=2,
        pack_bytes=2,
        part=(index, 2),
    ).summary()


PACKS = [packed_part(0), packed_part(1)]

VALUES: dict[type, dict[str, list[Any]]] = {
    FastListOperator: {
        "bucket": ["other"],
        "prefix": ["a/", "", ["a/", "b/"], "20260131", ["None"]],
        "match_glob": ["**.jpg", "[ab]*"],
        "exclude_glob": ["**.tmp", ["**.tmp", "**/draft/*"]],
        "storage_classes": [["STANDARD", "NEARLINE"], "standard"],
        "updated_after": [DAY, "2026-01-31"],
        "updated_before": [DAY],
        "min_bytes": [0, 5],
        "max_bytes": [10**12],
        "include_placeholders": [True, False],
        "manifest_uri": ["gs://manifests/2"],
        "seed_manifest": [REFERENCE, "gs://manifests/1"],
        "shards": [4],
        "shard_bytes": [10**9],
        "on_unchanged": ["continue", "skip"],
        "on_empty": ["continue", "skip", "fail"],
        "name_range": [{"start": "", "end": "m"}, {"start": "m", "end": None}],
        "workers": [3],
        "streams": [7],
        "report": [True, False],
    },
    ComposeDownloadOperator: {
        "manifest": [REFERENCE, "gs://manifests/1"],
        "destination": ["/other"],
        "strategy": ["auto", "compose", "direct"],
        "max_composite_bytes": [10**6],
        "composite_prefix": ["tmp/"],
        "strip_prefix": ["a/", ""],
        "delete_extraneous": [True, False, "even_if_empty"],
        "on_changed_object": ["fail", "skip"],
        "on_unreadable_object": ["fail", "skip"],
        "on_unsafe_name": ["fail", "skip"],
        "decompress": [True, False],
        "reuse_from": ["/earlier", ["/a", "/b"]],
        "receipt_directory": ["/receipts"],
        "max_in_flight": [8],
        "workers": [3],
        "max_usd": [0, 2.5],
        "is_dry_run": [True, False],
        "report": [True, False],
    },
    NameRangesOperator: {
        "bucket": ["other"],
        "prefix": ["a/", ["a/", "b/"]],
        "ranges": [16],
        "seed_manifest": [None],  # one that exists is read for its names
    },
    JoinManifestsOperator: {
        "manifests": [["gs://manifests/1", REFERENCE]],
        "manifest_uri": ["gs://manifests/2"],
        "on_empty": ["continue", "skip", "fail"],
        "shards": [4],
        "shard_bytes": [10**9],
    },
    SelectOperator: {
        "manifest": [REFERENCE, "gs://manifests/1"],
        "manifest_uri": ["gs://manifests/2"],
        "include_glob": ["**.jpg", ["a/*", "b/*"]],
        "exclude_glob": ["**.tmp", ["**.tmp", "**/draft/*"]],
        "match_regex": [r"(\d)\.jpg$", "[ab]"],
        "min_bytes": [0, 5],
        "max_bytes": [10**12],
        "updated_after": [DAY, "2026-01-31"],
        "updated_before": [DAY],
        "storage_classes": [["STANDARD", "NEARLINE"], "standard"],
        "group_by": [r"^(.*)\.[^./]+$"],
        "sample": [0.25, 1000, 1],
        "per_group": [3],
        "seed": [0, 7],
        "class_by": ["^([^/]+)/"],
        "splits": [{"train": 0.9, "val": 0.1}],
        "on_empty": ["continue", "skip", "fail"],
        "shards": [4],
        "shard_bytes": [10**9],
    },
    SweepCompositesOperator: {
        "bucket": ["other"],
        "composite_prefix": ["tmp/"],
        "older_than": [timedelta(hours=6), timedelta(days=2, seconds=1), 3600],
        "is_dry_run": [True, False],
        "print_lifecycle_rule": [False],  # True sends nothing to the core
    },
    ComposePackOperator: {
        "manifest": [REFERENCE, "gs://manifests/1"],
        "output_uri": ["/other", "gs://packs/a/"],
        "shard_bytes": [10**6],
        "shard_count": [4],
        "sample_by": ["webdataset", r"/(\d+)\.", "([a-z]+)"],
        "shuffle_seed": [0, 7],
        "name_template": ["train-{index}.tar", "{index}"],
        "on_changed_object": ["fail", "skip"],
        "strategy": ["auto", "compose", "direct"],
        "max_composite_bytes": [10**6],
        "composite_prefix": ["tmp/"],
        "max_in_flight": [8],
        "workers": [3],
        "max_usd": [0, 1.5],
        "is_dry_run": [True, False],
        "report": [True, False],
    },
    JoinPacksOperator: {"packs": [PACKS], "report": [True, False]},
}
SHARED = {
    "user_project": ["billed"],
    "gcp_conn_id": ["google"],
    "impersonation_chain": ["a@p", ["a@p", "b@p"]],
}
FIXED: dict[type, dict[str, Any]] = {
    FastListOperator: {"bucket": "data", "seed_manifest": "gs://manifests/0"},
    ComposeDownloadOperator: {"manifest": "gs://manifests/0", "destination": "/data"},
    NameRangesOperator: {"bucket": "data"},
    JoinManifestsOperator: {"manifests": ["gs://manifests/0"], "manifest_uri": "gs://manifests/joined"},
    SelectOperator: {"manifest": "gs://manifests/0", "class_by": "(a)"},
    SweepCompositesOperator: {"bucket": "data"},
    ComposePackOperator: {"manifest": "gs://manifests/0", "output": "gs://packs/0/"},
    JoinPacksOperator: {"packs": PACKS},
}
REQUIRED = {"bucket", "destination", "manifest", "manifests", "output", "packs"}
SEVERAL = {
    "prefix",
    "include_glob",
    "exclude_glob",
    "storage_classes",
    "impersonation_chain",
    "manifests",
    "packs",
}
"""Parameters that take a list."""

OPERATORS = list(VALUES)
GRID = [
    pytest.param(operator, field, value, id=f"{operator.__name__}-{field}-{value!r}")
    for operator in OPERATORS
    for field, values in {**VALUES[operator], **SHARED}.items()
    for value in values
]
FIELDS = list(dict.fromkeys((param.values[0], param.values[1]) for param in GRID))


class ReachedTheCore(Exception):  # noqa: N818 - no error: where a test's execution ends
    """Carries what the core was given."""


class Context(dict[str, Any]):
    """As much of a task's context as comes before the core."""

    def __init__(self, task: Any) -> None:
        super().__init__(ti=self, dag_run=self, task=task)
        self.try_number = 1
        self.map_index = -1
        self.dag_id, self.task_id, self.run_id = "d", "t", "r"
        self.start_date = DAY

    def xcom_push(self, **_: Any) -> None:
        pass


@pytest.fixture
def reached(monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """Replace the doors of the core by ones that only note what passes."""
    seen: dict[str, Any] = {"references": []}

    def door(name: str) -> Any:
        def end(*values: Any, store: Any = None, tokens: Any = None, cancel: Any = None, **options: Any) -> None:
            del store, tokens, cancel
            kept = {key: value for key, value in options.items() if not key.startswith(("on_", "before_", "observer"))}
            raise ReachedTheCore(name, values, kept)

        return end

    def referred(reference: Any, **_: Any) -> Manifest:
        seen["references"].append(reference)
        return manifest.inline("data", ("",), [], listed_at=DAY, stats={})

    def noting_tokens(*values: Any) -> Any:
        seen["tokens"] = values
        return make_tokens("unused", None)

    make_tokens = credentials.connection_tokens
    monkeypatch.setenv("STORAGE_EMULATOR_HOST", "http://127.0.0.1:1")
    monkeypatch.setattr(listing, "list_objects", door("list"))
    monkeypatch.setattr(staging, "stage", door("stage"))
    monkeypatch.setattr(staging, "sweep_composites", door("sweep"))
    monkeypatch.setattr(sampling, "sampled_ranges", door("ranges"))
    monkeypatch.setattr(manifest, "join_ranges", door("join"))
    monkeypatch.setattr(deriving, "select", door("select"))
    monkeypatch.setattr(packing, "pack", door("pack"))
    monkeypatch.setattr(
        packing, "join_parts", lambda _, parts, request, **_kw: door("join_packs")(parts=parts, request=request)
    )
    monkeypatch.setattr(Manifest, "from_reference", referred)
    monkeypatch.setattr(credentials, "connection_tokens", noting_tokens)
    return seen


def written(operator: type, field: str) -> str:
    return {"is_dry_run": "dry_run", "output_uri": "output"}.get(field, field)


def execute(operator: type, seen: dict[str, Any], **given: Any) -> Any:
    """Return all that reaches the core from an operator with these parameters."""
    seen["references"].clear()
    made = operator(task_id="t", **{**FIXED[operator], **given})
    with pytest.raises(ReachedTheCore) as caught:
        made.execute(Context(made))
    values = [value for value in caught.value.args[1] if not isinstance(value, Manifest | list)]
    return caught.value.args[0], values, caught.value.args[2], seen["tokens"], list(seen["references"])


def rendered(operator: type, field: str, value: Any, *, native: bool, template: str = "{{ value }}") -> Any:
    """Return what Airflow makes of a template for this parameter."""
    with DAG("rendering", schedule=None, render_template_as_native_obj=native) as dag:
        made = operator(task_id="t", **{**FIXED[operator], written(operator, field): template})
    made.render_template_fields({"value": value}, jinja_env=dag.get_template_env())
    return getattr(made, field)


@pytest.mark.parametrize("operator", OPERATORS)
def test_the_grid_has_every_template_field(operator: type) -> None:
    assert set(operator.template_fields) == {*VALUES[operator], *SHARED}


@pytest.mark.parametrize(("operator", "field", "value"), GRID)
def test_a_value_means_the_same_after_it_was_rendered(
    operator: type, field: str, value: Any, reached: dict[str, Any]
) -> None:
    name = written(operator, field)
    meant = execute(operator, reached, **{name: value})
    for native in (False, True):
        text = rendered(operator, field, value, native=native)
        assert execute(operator, reached, **{name: text}) == meant, repr(text)
    if not isinstance(value, datetime | timedelta):
        text = rendered(operator, field, value, native=False, template="{{ value | tojson }}")
        if not isinstance(value, str):
            assert execute(operator, reached, **{name: text}) == meant, repr(text)


@pytest.mark.parametrize(("operator", "field"), FIELDS)
def test_what_renders_to_nothing_is_the_parameters_default(operator: type, field: str, reached: dict[str, Any]) -> None:
    name = written(operator, field)
    nothing = {rendered(operator, field, None, native=False), rendered(operator, field, "", native=False), None}
    if name in REQUIRED or (name == "manifest_uri" and operator is JoinManifestsOperator):
        for absent in nothing:
            made = operator(task_id="t", **{**FIXED[operator], name: absent})
            with pytest.raises(Exception, match=f"{name} (is empty|must be)") as caught:
                made.execute(Context(made))
            assert isinstance(caught.value.__cause__, InvalidRequestError)
        return
    others = {key: value for key, value in FIXED[operator].items() if key != name}
    made = operator(task_id="t", **others)
    reached["references"].clear()
    with pytest.raises(ReachedTheCore) as caught:
        made.execute(Context(made))
    default = caught.value.args[2], list(reached["references"]), reached["tokens"]
    for absent in nothing:
        outcome = execute(operator, reached, **{name: absent})
        assert (outcome[2], outcome[4], outcome[3]) == default, repr(absent)


ONE_VALUE = [(operator, field) for operator, field in FIELDS if field not in SEVERAL]


@pytest.mark.parametrize(("operator", "field"), ONE_VALUE)
def test_a_list_is_refused_where_one_value_is_meant(operator: type, field: str, reached: dict[str, Any]) -> None:
    name = written(operator, field)
    made = operator(task_id="t", **{**FIXED[operator], name: rendered(operator, field, ["a", "b"], native=False)})
    with pytest.raises(Exception, match=rf"{name}\b") as caught:
        made.execute(Context(made))
    assert isinstance(caught.value.__cause__, InvalidRequestError)


def test_a_hook_reads_rendered_values_too(reached: dict[str, Any]) -> None:
    with pytest.raises(ReachedTheCore) as caught:
        DatafluxHook().fast_list("data", "['a/', 'b/']", storage_classes="['STANDARD']", on_empty="None")
    request = caught.value.args[1][0]
    assert request.prefixes == ("a/", "b/")
    assert request.filters.storage_classes == {"STANDARD"}
    assert json.dumps(request.on_empty) == '"continue"'
