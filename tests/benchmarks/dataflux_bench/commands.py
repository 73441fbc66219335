"""The command line: what to measure, where results go."""

from __future__ import annotations

import argparse
import compileall
import os
import shutil
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict

from dataflux_bench.auto import REGIMES, SIZES, run_auto
from dataflux_bench.download import WORKLOADS, DownloadPlan, run_download
from dataflux_bench.figures import FIGURES, Measured
from dataflux_bench.listing import STYLES, ListingPlan, run_listing
from dataflux_bench.machine import describe
from dataflux_bench.measuring import Cell
from dataflux_bench.namesets import CONVENTIONS, HARD, TREES
from dataflux_bench.paths import CHECKOUT, HARNESS
from dataflux_bench.peers.catalogue import DOWNLOADS, LISTINGS, parse_peers
from dataflux_bench.plot import plot_download, plot_listing
from dataflux_bench.report import as_csv, download_markdown, from_csv, listing_markdown
from dataflux_bench.server.latency import Model

LISTING_PEERS = (
    "dataflux,sequential,obstore,upstream:workers=4,upstream:workers=8,upstream:workers=16,upstream:workers=32,"
    "upstream:workers=8:prefix=common,upstream:workers=16:prefix=common,upstream:workers=32:prefix=common,"
    "dataflux:seed=same,dataflux:seed=half"
)
DOWNLOAD_PEERS = (
    "dataflux:strategy=auto,dataflux:strategy=compose,dataflux:strategy=direct,"
    "upstream:processes=8,upstream:processes=16,upstream:processes=32,upstream:processes=48,upstream:threads=32,"
    "transfer_manager:threads=64,transfer_manager:processes=8,transfer_manager:chunked=1:processes=8,"
    "obstore:in_flight=64,obstore:in_flight=256,obstore:in_flight=32:range_bytes=16777216,gcsfs"
)
_STYLES = {"sets": (*TREES, *CONVENTIONS), "hard": tuple(HARD)}
"""Names for many styles at once."""

_SUFFIXES = {"k": 1000, "m": 1_000_000}


def main(arguments: Sequence[str]) -> int:
    """Run what the command line says."""
    options = _parser().parse_args(arguments)
    if options.command == "report":
        _write_report(options.output, options.kind)
        return 0
    if options.command == "figures":
        return _figures(options)
    os.makedirs(options.output, exist_ok=True)
    # The peers are installed packages, which come with byte code; where PYTHONDONTWRITEBYTECODE is set, a checkout
    # would be compiled anew in every process of every run.
    for directory in (CHECKOUT / "airflow_dataflux", HARNESS):
        compileall.compile_dir(str(directory), quiet=2)
    scratch = tempfile.mkdtemp(prefix="dataflux-bench-", dir=options.scratch)
    try:
        cells = {"list": _listing, "download": _download, "auto": _auto}[options.command](options, scratch)
    finally:
        shutil.rmtree(scratch)
    wrong = [cell.peer for cell in cells for run in cell.runs if run.problem]
    if wrong:
        _say(f"{len(wrong)} runs do not count ({', '.join(sorted(set(wrong)))}); the table says why.")
    return int(any(cell.startswith("dataflux") for cell in wrong))


def _figures(options: argparse.Namespace) -> int:
    """Measure what `--figures` names and print it; return 1 unless all bounds hold."""
    holds = True
    for name in options.figures.split(","):
        measure, count = FIGURES[name]
        scratch = tempfile.mkdtemp(prefix="dataflux-bench-", dir=options.scratch)
        try:
            measured = Measured(scratch, _say, options.limit_s)
            measure(measured, _count(options.count) if options.count else count)
        finally:
            shutil.rmtree(scratch)
        for figure in measured.figures:
            print(figure.line())
            holds = holds and figure.holds
    return int(not holds)


def _listing(options: argparse.Namespace, scratch: str) -> list[Cell]:
    plan = ListingPlan(
        styles=tuple(style for each in options.styles.split(",") for style in _STYLES.get(each, (each,))),
        sizes=tuple(map(_count, options.sizes.split(","))),
        page_caps=tuple(map(_count, options.page_caps.split(","))),
        peers=tuple(parse_peers(options.peers, LISTINGS)),
        repeats=options.repeats,
        once_above_s=options.once_above_s,
        upstream_most=_count(options.upstream_most),
        sequential_most=_count(options.sequential_most),
        limit_s=options.limit_s,
        quiet_s=options.quiet_s,
        model=_model(options),
        scratch=scratch,
    )
    save = _saver(options, "listing", asdict(plan))
    cells = run_listing(plan, say=_say, save=save)
    _write_report(options.output, "listing")
    return cells


def _download(options: argparse.Namespace, scratch: str) -> list[Cell]:
    plan = DownloadPlan(
        workloads=tuple(options.workloads.split(",")),
        peers=tuple(parse_peers(options.peers, DOWNLOADS)),
        repeats=options.repeats,
        once_above_s=options.once_above_s,
        limit_s=options.limit_s,
        quiet_s=options.quiet_s,
        model=_model(options),
        scratch=scratch,
    )
    save = _saver(options, "download", asdict(plan))
    cells = run_download(plan, say=_say, save=save)
    _write_report(options.output, "download")
    return cells


def _auto(options: argparse.Namespace, scratch: str) -> list[Cell]:
    plan = DownloadPlan(
        workloads=(),
        peers=(),
        repeats=options.repeats,
        once_above_s=options.once_above_s,
        limit_s=options.limit_s,
        quiet_s=options.quiet_s,
        model=_model(options),
        scratch=scratch,
    )
    regimes = [name for name in REGIMES if options.regimes in ("", name) or name in options.regimes.split(";")]
    save = _saver(options, "auto", {"regimes": regimes, "sizes": options.sizes})
    return run_auto(plan, regimes=regimes, sizes=options.sizes.split(","), say=_say, save=save)


def _saver(options: argparse.Namespace, kind: str, plan: dict[str, object]) -> Callable[[list[Cell]], None]:
    machine = describe()
    plan = {key: value for key, value in plan.items() if key != "scratch"}
    plan["command"] = _make_command(options)

    def save(cells: list[Cell]) -> None:
        path = os.path.join(options.output, f"{kind}.csv")
        with open(path + ".new", "w", encoding="utf-8") as file:
            file.write(as_csv(cells, plan=plan, machine=machine))
        os.replace(path + ".new", path)

    return save


def _make_command(options: argparse.Namespace) -> str:
    """Return what to type for the same measurement; where its files lie is left out."""
    defaults = vars(_parser().parse_args([options.command]))
    chosen = [
        f"{name.upper()}={value}"
        for name, value in vars(options).items()
        if name not in {"output", "scratch"} and value != defaults[name]
    ]
    return " ".join([f"make bench-{options.command}", *chosen])


def _write_report(output: str, kind: str) -> None:
    """Write the table and the picture of a saved result."""
    with open(os.path.join(output, f"{kind}.csv"), encoding="utf-8") as file:
        cells, plan, machine = from_csv(file.read())
    page = listing_markdown if kind == "listing" else download_markdown
    with open(os.path.join(output, f"{kind}.md"), "w", encoding="utf-8") as file:
        file.write(page(cells, machine=machine, command=plan["command"]))
    (plot_listing if kind == "listing" else plot_download)(cells, os.path.join(output, f"{kind}.png"))
    _say(f"Results: {os.path.join(output, kind)}.md, .csv, .png")


def _model(options: argparse.Namespace) -> Model:
    budgets = {"lists_per_s": options.lists_per_s, "reads_per_s": options.reads_per_s}
    return Model(list_s=getattr(options, "list_s", Model().list_s), writes_per_s=options.writes_per_s, **budgets)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="tests/benchmarks", description=__doc__)
    commands = parser.add_subparsers(dest="command", required=True)
    listing = commands.add_parser("list", help="listing")
    listing.add_argument("--sizes", default="1k,10k,100k,1m,10m")
    listing.add_argument(
        "--styles", default=",".join(STYLES), help="names of styles and of sets; 'sets' and 'hard' are all of a kind"
    )
    listing.add_argument("--page-caps", default="1000,5000")
    listing.add_argument("--upstream-most", default="1m", help="leave upstream out above this many objects")
    listing.add_argument("--sequential-most", default="10m", help="leave the sequential listing out above so many")
    listing.add_argument("--peers", default=LISTING_PEERS, help="name:option=value, comma-separated")
    listing.add_argument("--list-s", type=float, default=Model().list_s, help="latency of a page without rows")
    download = commands.add_parser("download", help="download")
    download.add_argument("--workloads", default=",".join(WORKLOADS))
    download.add_argument("--peers", default=DOWNLOAD_PEERS, help="name:option=value, comma-separated")
    auto = commands.add_parser("auto", help="strategy auto beside both ways, in many regimes")
    auto.add_argument("--regimes", default="", help="names, separated by semicolons; all by default")
    auto.add_argument("--sizes", default=",".join(SIZES))
    for command in (listing, download, auto):
        command.add_argument("--repeats", type=int, default=3)
        command.add_argument("--once-above-s", type=float, default=150.0, help="do not repeat what takes longer")
        command.add_argument("--limit-s", type=float, default=1800.0, help="end a run that hangs")
        command.add_argument("--quiet-s", type=float, default=20.0, help="wait at most so long for an idle machine")
        command.add_argument("--lists-per-s", type=float, help="budget above which lists are answered with 429")
        command.add_argument("--reads-per-s", type=float, help="the same for reads")
        command.add_argument("--writes-per-s", type=float, help="the same for composes and deletes")
        command.add_argument("--output", default=str(CHECKOUT / "build" / "benchmarks"))
        command.add_argument("--scratch", help="existing directory for data; the default is the system's")
    figures = commands.add_parser("figures", help="select, split, reuse and pack: what they take, beside their bounds")
    figures.add_argument("--figures", default=",".join(FIGURES))
    figures.add_argument("--count", help="objects, instead of each figure's own number")
    figures.add_argument("--limit-s", type=float, default=1800.0, help="end a step that hangs")
    figures.add_argument("--scratch", help="existing directory for data; the default is the system's")
    report = commands.add_parser("report", help="write table and picture again from a saved result")
    report.add_argument("kind", choices=("listing", "download"))
    report.add_argument("--output", default=str(CHECKOUT / "build" / "benchmarks"))
    return parser


def _count(text: str) -> int:
    """Return 10k as 10,000 and 1m as 1,000,000."""
    factor = _SUFFIXES.get(text[-1:].lower())
    return int(float(text[:-1]) * factor) if factor else int(text)


def _say(text: str) -> None:
    print(f"{time.strftime('%H:%M:%S')} {text}", file=sys.stderr, flush=True)
