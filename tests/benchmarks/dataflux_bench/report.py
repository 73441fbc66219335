"""Results as a table of runs (CSV) and as Markdown."""

from __future__ import annotations

import csv
import io
import json
import math
from collections.abc import Callable, Iterable
from typing import Any

from dataflux_bench.machine import sentence
from dataflux_bench.measuring import Cell, Run, best_of
from dataflux_bench.server.latency import Model

OURS = "dataflux"


def as_csv(cells: list[Cell], *, plan: dict[str, Any], machine: dict[str, Any]) -> str:
    """Return every single run, a line each, below two lines of comment that hold the plan and the machine as JSON."""
    text = io.StringIO()
    text.writelines(
        f"# {name}: {json.dumps(facts, default=str)}\n" for name, facts in (("machine", machine), ("plan", plan))
    )
    case_keys = list(dict.fromkeys(key for cell in cells for key in cell.case))
    lines = csv.writer(text, lineterminator="\n")
    lines.writerow([*case_keys, *_CELL_COLUMNS, *_RUN_COLUMNS])
    for cell in cells:
        facts = [*(cell.case[key] for key in case_keys), cell.peer, cell.family, _written(cell.ideal_s)]
        lines.writerows([*facts, *(_written(getattr(run, name)) for name in _RUN_COLUMNS)] for run in cell.runs)
    return text.getvalue()


def from_csv(text: str) -> tuple[list[Cell], dict[str, Any], dict[str, Any]]:
    """Return the cells, the plan and the machine of a saved result."""
    machine_line, plan_line, *rest = text.splitlines()
    machine, plan = (json.loads(line.split(": ", 1)[1]) for line in (machine_line, plan_line))
    cells: dict[tuple[str, ...], Cell] = {}
    for row in csv.DictReader(rest):
        read = {name: _read(name, row.pop(name)) for name in _RUN_COLUMNS}
        peer, family, ideal_s = (row.pop(name) for name in _CELL_COLUMNS)
        key = (*row.values(), peer)
        if key not in cells:
            case = {name: int(value) if value.isdigit() else value for name, value in row.items()}
            cells[key] = Cell(case=case, peer=peer, family=family, ideal_s=float(ideal_s) if ideal_s else None)
        cells[key].runs.append(Run(**read))
    return list(cells.values()), plan, machine


_CELL_COLUMNS = ("peer", "family", "ideal_s")
_RUN_COLUMNS = tuple(name for name in Run.__dataclass_fields__ if name != "details")


def _written(value: Any) -> Any:
    """Return a value as a table holds it: counts as `list=3 read=1`, seconds to a tenth of a millisecond."""
    if isinstance(value, dict):
        return " ".join(f"{name}={count}" for name, count in value.items())
    return round(value, 4) if isinstance(value, float) else value


def _read(name: str, text: str) -> Any:
    kind = Run.__dataclass_fields__[name].type
    if "dict" in str(kind):
        return {key: int(count) for key, _, count in (part.partition("=") for part in text.split())}
    return {"float": float, "int": int}.get(str(kind), str)(text)


def listing_markdown(cells: list[Cell], *, machine: dict[str, Any], command: str) -> str:
    """Return the page of the listing benchmark."""
    families = {cell.family for cell in cells}
    compared = ["sequential", "upstream", "obstore", "rclone", "gcloud"]
    compared += sorted(name for name in families if name.startswith(f"{OURS}:commit="))
    lines = _head("Listing: results", machine, command, "listing.png")
    lines += ["## How many times faster", "", *_ratio_notes(), ""]
    lines += _table(
        ["style", "objects", "page cap", "s", "ideal s", "÷ ideal", "x bound"]
        + [f"x {name}" for name in compared if name in families]
        + [f"CPU ÷ {name}" for name in compared if name in families]
        + ["list requests ÷ sequential's", "MB"],
        [
            row
            for case, group in _by_case(cells)
            if (row := _listing_ratios(case, group, [name for name in compared if name in families]))
        ],
    )
    lines += ["", "## Every measurement", ""]
    lines += _details(cells, ["style", "objects", "page_cap"])
    return "\n".join(lines) + "\n"


def download_markdown(cells: list[Cell], *, machine: dict[str, Any], command: str) -> str:
    """Return the page of the download benchmark."""
    families = list(dict.fromkeys(cell.family for cell in cells))
    ours = [name for name in families if name.split(":")[0] == OURS]
    others = [name for name in families if name not in ours]
    lines = _head("Download: results", machine, command, "download.png")
    lines += [
        "## Seconds",
        "",
        "From the start of the process to all files on disk; of each family its best number of workers.",
        "",
    ]
    lines += _table(
        ["workload", "MB", *ours, *others],
        [_seconds_row(case, group, [*ours, *others]) for case, group in _by_case(cells)],
    )
    lines += ["", "## How many times faster", "", "The best of this project's strategies, and `auto` beside it.", ""]
    lines += _table(
        ["workload", "best of ours", "auto ÷ best", *(f"x {name}" for name in others), "CPU ÷ upstream's", "MB"],
        [row for case, group in _by_case(cells) if (row := _download_ratios(case, group, others))],
    )
    lines += ["", "## Every measurement", ""]
    lines += _details(cells, ["workload"])
    return "\n".join(lines) + "\n"


def _head(title: str, machine: dict[str, Any], command: str, picture: str) -> list[str]:
    return [
        f"# {title}",
        "",
        "Written by the benchmark; [README.md](README.md) says how it measures and what the columns mean.",
        "",
        sentence(machine),
        "",
        f"`{command}`",
        "",
        f"![the same as a picture]({picture})",
        "",
    ]


def _ratio_notes() -> list[str]:
    return [
        "Seconds are medians from the start of the process to the result in hand; `x` is the other's seconds by ours.",
        "`÷ ideal` is the call alone against start-up + pages ÷ streams * page latency.",
        "`upstream` is its best worker count in each row.",
    ]


def _by_case(cells: list[Cell]) -> Iterable[tuple[dict[str, Any], list[Cell]]]:
    groups: dict[str, list[Cell]] = {}
    for cell in cells:
        groups.setdefault(json.dumps(cell.case, sort_keys=True), []).append(cell)
    return [(group[0].case, group) for group in groups.values()]


def _listing_ratios(case: dict[str, Any], group: list[Cell], compared: list[str]) -> list[str] | None:
    ours = best_of([cell for cell in group if cell.family == OURS], "wall_s")
    if ours is None:
        return None
    others = {name: best_of([cell for cell in group if cell.family == name], "wall_s") for name in compared}
    sequential = others.get("sequential")
    return [
        case["style"],
        f"{case['objects']:,}",
        f"{case['page_cap']:,}",
        _number(ours.median("wall_s")),
        _number(ours.ideal_s),
        _ratio(ours.median("call_s"), ours.ideal_s),
        _ratio(math.ceil(case["objects"] / case["page_cap"]) * Model().page_s(case["page_cap"]), ours.median("wall_s")),
        *(_ratio(_median(cell, "wall_s"), ours.median("wall_s")) for cell in others.values()),
        *(_ratio(ours.median("cpu_s"), _median(cell, "cpu_s")) for cell in others.values()),
        _ratio(ours.median("list_requests"), _median(sequential, "list_requests")),
        _megabytes(ours.median("peak_pss_bytes")),
    ]


def _seconds_row(case: dict[str, Any], group: list[Cell], families: list[str]) -> list[str]:
    best = [best_of([cell for cell in group if cell.family == name], "wall_s") for name in families]
    return [
        case["workload"],
        f"{case['bytes'] / 1e6:,.0f}",
        *(_number(cell.median("wall_s")) if cell else "-" for cell in best),
    ]


def _download_ratios(case: dict[str, Any], group: list[Cell], others: list[str]) -> list[str] | None:
    mine = [cell for cell in group if cell.family.split(":")[0] == OURS]
    ours = best_of(mine, "wall_s")
    if ours is None:
        return None
    automatic = best_of([cell for cell in mine if cell.family == f"{OURS}:strategy=auto"], "wall_s")
    forced = best_of([cell for cell in mine if cell is not automatic], "wall_s")
    theirs = {name: best_of([cell for cell in group if cell.family == name], "wall_s") for name in others}
    upstream = best_of([cell for name, cell in theirs.items() if cell and name.startswith("upstream")], "wall_s")
    return [
        case["workload"],
        ours.family.partition("strategy=")[2] or ours.family,
        _ratio(_median(automatic, "wall_s"), _median(forced, "wall_s")),
        *(_ratio(_median(cell, "wall_s"), ours.median("wall_s")) for cell in theirs.values()),
        _ratio(ours.median("cpu_s"), _median(upstream, "cpu_s")),
        _megabytes(max((cell.median("peak_pss_bytes") or 0 for cell in mine), default=None)),
    ]


def _details(cells: list[Cell], keys: list[str]) -> list[str]:
    columns: list[tuple[str, Callable[[Cell], str]]] = [
        ("s", lambda cell: _number(cell.median("wall_s"))),
        ("s, call alone", lambda cell: _number(cell.median("call_s"))),
        ("s, range", _range),
        ("CPU-s", lambda cell: _number(cell.median("cpu_s"))),
        ("MB", lambda cell: _megabytes(cell.median("peak_pss_bytes"))),
        ("MB, sum of RSS", lambda cell: _megabytes(cell.median("peak_rss_bytes"))),
        ("requests", lambda cell: _whole(cell.median("requests"))),
        ("rejected", lambda cell: _whole(cell.median("rejected"))),
        ("server CPU-s", lambda cell: _number(cell.median("server_cpu_s"))),
        ("right runs", lambda cell: f"{len(cell.right)} of {len(cell.runs)}"),
        ("problem", lambda cell: next((run.problem for run in cell.runs if run.problem), "")),
    ]
    rows = [
        [*(_key(cell.case[key]) for key in keys), cell.peer, *(value(cell) for _, value in columns)]
        for cell in cells
        if cell.runs
    ]
    return _table([*(key.replace("_", " ") for key in keys), "peer", *(name for name, _ in columns)], rows)


def _table(heads: list[str], rows: list[list[str]]) -> list[str]:
    return [
        "| " + " | ".join(heads) + " |",
        "|" + "|".join("---" if index == 0 else "--:" for index in range(len(heads))) + "|",
        *("| " + " | ".join(cell.replace("|", "\\|").replace("\n", " ") for cell in row) + " |" for row in rows),
    ]


def _key(value: Any) -> str:
    return f"{value:,}" if isinstance(value, int) else str(value)


def _range(cell: Cell) -> str:
    found = [run.wall_s for run in cell.right]
    return f"{min(found):.2f}-{max(found):.2f}" if found else "-"


def _number(value: float | None) -> str:
    if value is None:
        return "-"
    return f"{value:,.0f}" if value >= 100 else f"{value:.1f}" if value >= 10 else f"{value:.2f}"


def _whole(value: float | None) -> str:
    return "-" if value is None else f"{value:,.0f}"


def _megabytes(value: float | None) -> str:
    return "-" if value is None else f"{value / 1e6:,.0f}"


def _median(cell: Cell | None, measure: str) -> float | None:
    return cell.median(measure) if cell else None


def _ratio(above: float | None, below: float | None) -> str:
    return f"{above / below:.2f}" if above is not None and below else "-"
