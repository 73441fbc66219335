"""The colours and measures of a report, for light and dark screens."""

from __future__ import annotations

from airflow_dataflux.core.report.markup import Markup

_LIGHT = (
    "--paper:#fff;--ground:#f4f6f9;--line:#dde2ea;--ink:#1c2430;--faint:#5b6675;--link:#174ea6;--mark:#111827;"
    "--bad:#c5221f;--probe:#9aa5b4;"
    "--c0:#3b6fd4;--c1:#1f9d8b;--c2:#d98b1f;--c3:#8b5cc7;--c4:#c8506a;--c5:#6b8e23;--c6:#5b7083;--c7:#b07d48;"
)
_DARK = (
    "--paper:#14181f;--ground:#1c222c;--line:#313a47;--ink:#e6eaf0;--faint:#9aa6b6;--link:#8ab4f8;--mark:#f8fafc;"
    "--bad:#f28b82;--probe:#6b7787;"
    "--c0:#6f9bf0;--c1:#3fc4b0;--c2:#eeb04f;--c3:#b18ae6;--c4:#e77f95;--c5:#9bbf4d;--c6:#8da2b5;--c7:#d3a473;"
)
_NAMES = (
    "#5b6ee1", "#4a86d8", "#3f9bc9", "#3aaab0", "#43b48f", "#62b96c",
    "#8cb84f", "#b5b03e", "#d39f3a", "#e2863f", "#e26c4d", "#d85565",
)  # fmt: skip
"""From the first names to the last, equally light, so that they are told apart on white and on black."""

_PICTURES = (
    "svg{display:block;width:100%;height:auto;font:11px system-ui,sans-serif;fill:var(--ink)}"
    "svg text{fill:var(--faint)}svg text.small{font-size:10px}svg text.onbar{fill:var(--paper)}"
    ".grid{stroke:var(--line);stroke-width:1}.ground{fill:var(--ground)}.area{opacity:.92}"
    ".probe{fill:var(--probe)}.steal{stroke:var(--mark);stroke-width:1.1;fill:none;opacity:.75}"
    ".lost{fill:none;stroke:var(--bad);stroke-width:1.2}.lostline{stroke:var(--bad);stroke-width:1.5}"
    ".empty{opacity:.35}.durable{fill:var(--ground);opacity:.6;pointer-events:none}"
    + "".join(f".c{at}{{fill:var(--c{at})}}" for at in range(8))
    + "".join(f".n{at}{{fill:{colour}}}" for at, colour in enumerate(_NAMES))
    + ".box{fill-opacity:.22}.line{fill:none;stroke-width:1.6}"
    + "".join(f".line.n{at}{{fill:none;stroke:{colour}}}" for at, colour in enumerate(_NAMES))
)

PAGE_STYLE = Markup(
    f":root{{color-scheme:light dark;{_LIGHT}}}"
    f"@media(prefers-color-scheme:dark){{:root{{{_DARK}}}}}"
    "*{box-sizing:border-box}"
    "body{margin:0;background:var(--paper);color:var(--ink);font:15px/1.5 system-ui,sans-serif}"
    "main{max-width:980px;margin:0 auto;padding:28px 20px 48px}"
    "h1{font-size:24px;line-height:1.3;margin:2px 0 4px;overflow-wrap:anywhere}h2{font-size:18px;margin:40px 0 4px}"
    ".kind{color:var(--link);font-weight:600;letter-spacing:.04em;margin:0}"
    "p{margin:4px 0 10px}.sub,.lead,figcaption,footer{color:var(--faint)}.lead{max-width:75ch}"
    "dl.facts{display:grid;grid-template-columns:repeat(auto-fit,minmax(148px,1fr));gap:10px;margin:20px 0 0}"
    "dl.facts div{background:var(--ground);border-radius:8px;padding:10px 14px}"
    "dt{color:var(--faint);font-size:13px}dl.facts dd{margin:0;font-size:21px;font-weight:600;line-height:1.3}"
    "dl.facts dd small{display:block;font-size:12.5px;font-weight:400;color:var(--faint)}"
    "figure{margin:14px 0 20px}figure>strong{display:block;font-weight:600;margin-bottom:4px}"
    "figcaption{font-size:13.5px;margin-top:4px;max-width:95ch}.wide svg{min-width:720px}"
    # On a narrow screen pictures and tables are scrolled; an edge behind which there is more has a shade.
    ".wide,.scroll{overflow-x:auto;background:"
    "linear-gradient(90deg,var(--paper) 40%,transparent) 0 0/36px 100% no-repeat local,"
    "linear-gradient(270deg,var(--paper) 40%,transparent) 100% 0/36px 100% no-repeat local,"
    "linear-gradient(90deg,var(--line),transparent) 0 0/14px 100% no-repeat scroll,"
    "linear-gradient(270deg,var(--line),transparent) 100% 0/14px 100% no-repeat scroll}"
    ".legend{display:flex;flex-wrap:wrap;gap:4px 16px;margin:0 0 4px;padding:0;list-style:none;font-size:13px;"
    "color:var(--faint)}.legend li{display:flex;align-items:center;gap:6px}"
    ".legend i{width:11px;height:11px;border-radius:2px;display:inline-block}"
    ".legend i.ramp{width:74px;background:linear-gradient(90deg," + ",".join(_NAMES) + ")}"
    ".legend i.probe{background:var(--probe)}.legend i.lost{border:1.5px solid var(--bad)}"
    ".legend i.pale{background:var(--c0);opacity:.35}"
    ".legend i.steal{width:2px;background:var(--mark)}"
    + "".join(f".legend i.c{at}{{background:var(--c{at})}}" for at in range(8))
    + "table{border-collapse:collapse;margin:12px 0 18px;font-size:14px;min-width:50%}"
    "caption{text-align:left;font-weight:600;padding-bottom:4px}"
    "th,td{text-align:right;padding:4px 14px 4px 0;border-bottom:1px solid var(--line);"
    "font-variant-numeric:tabular-nums;vertical-align:top}"
    "th{color:var(--faint);font-weight:500}td{white-space:nowrap}td.left{white-space:normal}"
    ".left{text-align:left;overflow-wrap:anywhere}"
    "dl.pairs{display:grid;grid-template-columns:minmax(110px,max-content) 1fr;gap:3px 18px;margin:10px 0;"
    "font-size:14px}"
    "dl.pairs dd{margin:0;overflow-wrap:anywhere;unicode-bidi:isolate}"
    "ul.lines{margin:8px 0 14px;padding-left:20px}ul.lines li{overflow-wrap:anywhere}"
    "code{font:13px ui-monospace,SFMono-Regular,Menlo,monospace;unicode-bidi:isolate}"
    "footer{margin-top:44px;border-top:1px solid var(--line);padding-top:10px;font-size:13px;overflow-wrap:anywhere}"
    "@media print{main{max-width:none}figure{break-inside:avoid}}" + _PICTURES
)
