"""One declaration of each parameter: operators, hook, client and the reference page say what the requests say."""

from __future__ import annotations

import dataclasses
import inspect
import re
from typing import Any

import pytest
from markdown_blocks import ROOT

from airflow_dataflux import client, operators
from airflow_dataflux.core import config
from airflow_dataflux.core.parameters import REQUIRED, Parameter, parameters_of, request_from

pytestmark = pytest.mark.airflow
PAGE = (ROOT / "docs" / "reference" / "operators.md").read_text("utf-8")

OPERATORS = {
    "FastListOperator": ("fast_list", "list"),
    "ComposeDownloadOperator": ("compose_download", "stage"),
    "NameRangesOperator": ("name_ranges", "name_ranges"),
    "JoinManifestsOperator": ("join_manifests", "join"),
    "SelectOperator": ("select", "select"),
    "SweepCompositesOperator": ("sweep_composites", "sweep"),
    "ComposePackOperator": ("compose_pack", "pack"),
    "JoinPacksOperator": ("join_packs", "join_packs"),
    "PruneStagedOperator": ("prune_staged", "prune"),
}
"""Each operator, its module, and the method of `Client` that does the same."""


def operator_of(name: str) -> Any:
    module = __import__(f"{operators.__name__}.{OPERATORS[name][0]}", fromlist=[name])
    return getattr(module, name)


def declared(name: str) -> dict[str, Parameter]:
    return {key: each for request in operator_of(name).requests for key, each in parameters_of(request).items()}


def taken_by(function: Any) -> dict[str, Any]:
    """Return the parameters of a function with their defaults."""
    return {
        name: REQUIRED if each.default is inspect.Parameter.empty else each.default
        for name, each in inspect.signature(inspect.unwrap(function)).parameters.items()
        if name != "self" and each.kind is not inspect.Parameter.VAR_KEYWORD
    }


def defaults(parameters: dict[str, Parameter]) -> dict[str, Any]:
    return {name: each.default for name, each in parameters.items()}


@pytest.mark.parametrize("name", OPERATORS)
def test_an_operator_takes_what_its_requests_declare_with_the_same_defaults(name: str) -> None:
    taken = taken_by(operator_of(name).__init__)
    own = {"manifest", "manifests", "packs", "print_lifecycle_rule"}
    assert {key: value for key, value in taken.items() if key not in own} == defaults(declared(name))


@pytest.mark.parametrize("name", OPERATORS)
def test_the_client_takes_what_the_request_declares_with_the_same_defaults(name: str) -> None:
    taken = taken_by(getattr(client.Client, OPERATORS[name][1]))
    own = {"manifest", "manifests", "packs", "identity", "observer", "cancel"}
    job = parameters_of(operator_of(name).requests[0])
    assert {key: value for key, value in taken.items() if key not in own} == defaults(job)


@pytest.mark.parametrize("name", OPERATORS)
def test_an_operators_docstring_has_every_parameter_and_its_help(name: str) -> None:
    text = " ".join(inspect.getdoc(operator_of(name)).split())
    for key, each in declared(name).items():
        assert f":param {key}: {' '.join(each.help.split())}. (templated)" in text


@pytest.mark.parametrize("name", OPERATORS)
def test_the_reference_page_has_the_help_of_every_parameter(name: str) -> None:
    section = re.search(rf"^## {name}\n(.*?)(?=^## |\Z)", PAGE, re.MULTILINE | re.DOTALL)
    assert section
    rows = [f"| `{key}` |{shown(each.default)} | {each.help} |" for key, each in declared(name).items()]
    assert [row for row in rows if row not in section[1]] == []


def test_the_page_on_listings_names_every_filter() -> None:
    page = (ROOT / "docs" / "concepts" / "listing.md").read_text("utf-8")
    section = re.search(r"^## Filters\n(.*?)(?=^## )", page, re.MULTILINE | re.DOTALL)
    assert section
    named = re.findall(r"`(\w+)`", section[1])
    filters = [each.name for each in dataclasses.fields(config.Filters)]
    assert [name for name in named if name in filters] == filters


def shown(default: object) -> str:
    """Return a default in the page's notation."""
    if default is REQUIRED:
        return ""
    if default == config.DEFAULT_OLDER_THAN:
        return " `timedelta(days=1)`"
    if isinstance(default, str):
        return f' `"{default}"`'
    return f" `{default:_}`" if type(default) is int else f" `{default}`"


def test_a_request_of_no_values_is_the_declared_defaults() -> None:
    request = request_from(config.ListRequest, {"bucket": "data"})
    assert request == config.ListRequest(bucket="data", report=True)
    assert request_from(config.SweepRequest, {"bucket": "data"}) == config.SweepRequest(bucket="data")


def test_a_name_that_is_no_parameter_is_refused_with_those_there_are() -> None:
    with pytest.raises(TypeError, match="ListRequest has no parameter min_size: it has bucket, prefix, match_glob"):
        request_from(config.ListRequest, {"bucket": "data", "min_size": 5})


def test_filters_are_made_of_their_parameters() -> None:
    request = request_from(config.ListRequest, {"bucket": "data", "min_bytes": "5", "storage_classes": "standard"})
    assert request.filters == config.Filters(min_bytes=5, storage_classes=frozenset({"STANDARD"}))
