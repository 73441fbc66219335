"""Generation and metageneration preconditions (https://cloud.google.com/storage/docs/request-preconditions)."""

from __future__ import annotations

from collections.abc import Mapping

from airflow_dataflux.testing.records import ObjectRecord
from airflow_dataflux.testing.refusals import invalid, not_modified, precondition_failed


def integer(query: Mapping[str, str], parameter: str) -> int | None:
    """Return an integer parameter, None if it is absent. Raises Refusal (400) if it is no integer."""
    text = query.get(parameter)
    if not text:
        return None
    try:
        return int(text)
    except ValueError:
        raise invalid(f"Invalid value for {parameter}: {text!r}", reason="invalidParameter") from None


def check(query: Mapping[str, str], live: ObjectRecord | None, *, reading: bool = False, source: bool = False) -> None:
    """Raise Refusal if a precondition in `query` does not hold for the live version.

    412 for what must match; for what must not match 304 on reads and 412 on changes. `source` looks at the
    `ifSource…` parameters of a copy instead.
    """
    names = "ifSource{}" if source else "if{}"
    generation = live.generation if live is not None else 0
    metageneration = live.metageneration if live is not None else 0
    for quantity, actual in (("Generation", generation), ("Metageneration", metageneration)):
        name = names.format(quantity)
        wanted = integer(query, f"{name}Match")
        if wanted is not None and wanted != actual:
            raise precondition_failed()
        unwanted = integer(query, f"{name}NotMatch")
        if unwanted is not None and unwanted == actual:
            raise not_modified() if reading else precondition_failed()
