"""Pictures of the results."""

from __future__ import annotations

from dataflux_bench.measuring import Cell, best_of

_COLOURS = {
    "dataflux": "#1b6ca8",
    "sequential": "#7a7a7a",
    "upstream": "#c0392b",
    "obstore": "#d68910",
    "transfer_manager": "#7d3c98",
    "gcsfs": "#1e8449",
}
_QUANTITIES = (
    ("wall_s", "seconds", 1.0),
    ("requests", "requests", 1.0),
    ("cpu_s", "CPU-seconds", 1.0),
    ("peak_pss_bytes", "peak memory, MB", 1e-6),
)


def plot_listing(cells: list[Cell], path: str) -> None:
    """Draw objects against seconds, requests, CPU-seconds and memory, a row for each style, for the first page cap."""
    import matplotlib as mpl

    mpl.use("Agg")
    from matplotlib import pyplot

    cap = cells[0].case["page_cap"]
    shown = [cell for cell in cells if cell.case["page_cap"] == cap]
    styles = list(dict.fromkeys(cell.case["style"] for cell in shown))
    families = list(dict.fromkeys(cell.family for cell in shown))
    figure, axes = pyplot.subplots(
        len(styles), len(_QUANTITIES), figsize=(4 * len(_QUANTITIES), 2.8 * len(styles)), squeeze=False
    )
    for row, style in zip(axes, styles, strict=True):
        for axis, (measure, title, unit) in zip(row, _QUANTITIES, strict=True):
            for family in families:
                points = _points(shown, style, family, measure, unit)
                if points:
                    axis.plot(*zip(*points, strict=True), **_look(family), label=_name(family))
            if measure == "wall_s":
                ideal = sorted(
                    {
                        (cell.case["objects"], cell.ideal_s)
                        for cell in shown
                        if cell.case["style"] == style and cell.family == "dataflux" and cell.ideal_s
                    }
                )
                if ideal:
                    axis.plot(*zip(*ideal, strict=True), color="black", ls=":", lw=1, label="ideal of the call")
            axis.set_xscale("log")
            axis.set_yscale("log")
            axis.grid(visible=True, alpha=0.3)
            axis.set_title(f"{style}: {title}", fontsize=9)
            axis.tick_params(labelsize=8)
    axes[0][0].legend(fontsize=6, framealpha=0.5)
    figure.supxlabel(f"objects (page cap {cap:,}; upstream at its best worker count)", fontsize=9)
    figure.tight_layout()
    figure.savefig(path, dpi=110)
    pyplot.close(figure)


def plot_download(cells: list[Cell], path: str) -> None:
    """Draw a row for each workload: seconds, requests, CPU-seconds and memory of the best of every family."""
    import matplotlib as mpl

    mpl.use("Agg")
    from matplotlib import pyplot

    workloads = list(dict.fromkeys(cell.case["workload"] for cell in cells))
    figure, axes = pyplot.subplots(
        len(workloads), len(_QUANTITIES), figsize=(4 * len(_QUANTITIES), 2.6 * len(workloads)), squeeze=False
    )
    for row, workload in zip(axes, workloads, strict=True):
        group = [cell for cell in cells if cell.case["workload"] == workload]
        families = list(dict.fromkeys(cell.family for cell in group))
        best = {family: best_of([cell for cell in group if cell.family == family], "wall_s") for family in families}
        drawn = [(family, cell) for family, cell in best.items() if cell is not None]
        for axis, (measure, title, unit) in zip(row, _QUANTITIES, strict=True):
            values = [(cell.median(measure) or 0) * unit for _, cell in drawn]
            names = [_name(family) for family, _ in drawn]
            bars = axis.barh(names, values, color=[_look(family)["color"] for family, _ in drawn])
            axis.bar_label(bars, fmt=_short, fontsize=7, padding=2)
            axis.margins(x=0.2)
            axis.invert_yaxis()
            axis.set_title(f"{workload}: {title}", fontsize=9)
            axis.tick_params(labelsize=7)
    figure.tight_layout()
    figure.savefig(path, dpi=110)
    pyplot.close(figure)


def _points(cells: list[Cell], style: str, family: str, measure: str, unit: float) -> list[tuple[int, float]]:
    sizes = sorted({cell.case["objects"] for cell in cells})
    found = []
    for size in sizes:
        members = [
            cell
            for cell in cells
            if cell.family == family and cell.case["style"] == style and cell.case["objects"] == size
        ]
        best = best_of(members, "wall_s")
        value = best.median(measure) if best else None
        if value is not None:
            found.append((size, max(value * unit, 1e-3)))
    return found


def _short(value: float) -> str:
    return f"{value:,.0f}" if value >= 100 else f"{value:.3g}"


def _look(family: str) -> dict[str, object]:
    colour = _COLOURS.get(family.split(":")[0], "black")
    style = ":" if "seed=half" in family else "--" if ":" in family else "-"
    return {"color": colour, "marker": "o", "ms": 3, "lw": 1.4, "ls": style}


def _name(family: str) -> str:
    return family.replace("seed=", "seed ").replace("strategy=", "").replace(":", " ")
