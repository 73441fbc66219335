"""The reference pages say what the code says, and leave out nothing that is public."""

from __future__ import annotations

import ast
import dataclasses
import inspect
import re
from collections.abc import Callable
from importlib import import_module
from typing import Any

import msgspec
import pytest
from markdown_blocks import ROOT

from airflow_dataflux.core import errors

REFERENCE = {page.stem: page.read_text("utf-8") for page in (ROOT / "docs" / "reference").glob("*.md")}
PUBLIC = {"airflow_dataflux": "operators", "airflow_dataflux.core": "core", "airflow_dataflux.testing": "testing"}


def in_code(page: str) -> set[str]:
    """Return every word of the page's headings and of what it sets as code, in text and in blocks."""
    return set(
        re.findall(r"\w+", " ".join(re.findall(r"```.*?```|`[^`]+`|^#+ [^\n]*", REFERENCE[page], re.DOTALL | re.M)))
    )


def test_the_errors_page_has_every_error_with_its_parents_and_its_worth_of_a_retry() -> None:
    rows = re.findall(r"^\| `(\w+)` \| (.+?) \| (yes|no) \|", REFERENCE["errors"], re.MULTILINE)
    written = {name: (re.findall(r"`(\w+)`", parents), retry) for name, parents, retry in rows}
    assert len(written) == len(rows), "each error once"
    real = {
        name: ([parent.__name__ for parent in kind.__bases__], "yes" if kind.retryable else "no")
        for name, kind in inspect.getmembers(errors, inspect.isclass)
        if issubclass(kind, errors.DatafluxError) and kind is not errors.DatafluxError
    }
    assert written == real


@pytest.mark.parametrize(("module", "page"), PUBLIC.items())
def test_every_public_name_is_documented(module: str, page: str) -> None:
    public = [name for name in import_module(module).__all__ if not name.startswith("__")]
    assert public
    assert [name for name in public if name not in in_code(page)] == []


def members(kind: type) -> list[str]:
    """Return the public methods, properties and fields of a class, without what it inherits from elsewhere."""
    found = [name for name in vars(kind) if not name.startswith("_") and name != "model_config"]
    if dataclasses.is_dataclass(kind):
        found += [field.name for field in dataclasses.fields(kind)]
    return found


@pytest.mark.parametrize(
    "name",
    [
        "CancelToken",
        "Filters",
        "ListRequest",
        "Manifest",
        "PackRequest",
        "Progress",
        "Row",
        "StageRequest",
        "StoreConfig",
        "SweepResult",
    ],
)
def test_the_core_page_names_every_member_of(name: str) -> None:
    kind = getattr(import_module("airflow_dataflux.core"), name)
    assert [member for member in members(kind) if member not in in_code("core")] == []


@pytest.mark.parametrize("function", ["list_objects", "stage", "pack", "sweep_composites", "default_store_config"])
def test_the_core_page_shows_the_signature_of(function: str) -> None:
    real = inspect.signature(getattr(import_module("airflow_dataflux.core"), function))
    bare = real.replace(
        parameters=[each.replace(annotation=inspect.Parameter.empty) for each in real.parameters.values()],
        return_annotation=inspect.Signature.empty,
    )
    assert f"`{function}{bare}`" in REFERENCE["core"]


def test_the_receipt_page_has_every_key() -> None:
    receipt = import_module("airflow_dataflux.core").Receipt
    keys = [field.name for field in msgspec.structs.fields(receipt)]
    assert [key for key in keys if key not in in_code("receipt-format")] == []


def documented_parameters(heading: str) -> dict[str, str]:
    """Return the parameters in the tables below a heading of the operators' page, with their defaults as written."""
    section = re.search(rf"^## {heading}\n(.*?)(?=^## |\Z)", REFERENCE["operators"], re.MULTILINE | re.DOTALL)
    assert section, f"the page has no section {heading}"
    found = {}
    for names, default in re.findall(r"^\| (`\w+`(?:, `\w+`)*) \|([^|]*)\|", section[1], re.MULTILINE):
        found.update(dict.fromkeys(re.findall(r"\w+", names), default.strip().strip("`")))
    return found


def real_parameters(function: Callable[..., Any]) -> dict[str, str]:
    """Return what a function takes, with defaults in the page's notation."""
    found = {}
    for name, parameter in inspect.signature(function).parameters.items():
        if parameter.kind is not inspect.Parameter.VAR_KEYWORD and name != "self":
            default = parameter.default
            found[name] = "" if default is inspect.Parameter.empty else repr(default)
    return found


def same_value(written: str, real: str) -> bool:
    try:
        return bool(ast.literal_eval(written) == ast.literal_eval(real))
    except (ValueError, SyntaxError):  # a timedelta, or nothing
        return written == real.removeprefix("datetime.")


@pytest.mark.airflow
@pytest.mark.parametrize(
    "name",
    [
        "FastListOperator",
        "ComposeDownloadOperator",
        "NameRangesOperator",
        "JoinManifestsOperator",
        "SelectOperator",
        "SweepCompositesOperator",
        "ComposePackOperator",
        "JoinPacksOperator",
        "ChangedPartitionsOperator",
        "PruneStagedOperator",
    ],
)
def test_every_parameter_of_an_operator_is_documented_with_its_default(name: str) -> None:
    operator = getattr(import_module("airflow_dataflux"), name)
    written = {**documented_parameters(name), **documented_parameters("What all of them take")}
    real = {
        name: default
        for taking in (operator, import_module("airflow_dataflux.operators.base").DatafluxOperator)
        for name, default in real_parameters(inspect.unwrap(taking.__init__)).items()
    }
    real.pop("kwargs", None)
    assert set(written) == set(real)
    assert [
        f"{each}: {written[each]}, not {real[each]}" for each in real if not same_value(written[each], real[each])
    ] == []


@pytest.mark.airflow
def test_every_method_of_the_hook_is_documented() -> None:
    hook = import_module("airflow_dataflux").DatafluxHook
    airflows_own = {"get_conn", "get_connection_form_widgets", "get_ui_field_behaviour", "test_connection"}
    methods = [name for name, value in vars(hook).items() if not name.startswith("_") and inspect.isfunction(value)]
    assert [name for name in methods if name not in in_code("operators") | airflows_own] == []
