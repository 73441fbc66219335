"""How the plugin's pages look: Airflow's own measures, light and dark, and nothing from elsewhere."""

from __future__ import annotations

from airflow_dataflux.core.report.markup import Markup

_LIGHT = (
    "--paper:#fff;--ground:#f4f6f9;--line:#dde2ea;--ink:#1c2430;--faint:#5b6675;--link:#174ea6;"
    "--success:#008000;--failed:#d32f2f;--running:#0b8043;--skipped:#a3528b;--retry:#a86200;"
)
_DARK = (
    "--paper:#111;--ground:#1c1f24;--line:#34383f;--ink:#e6eaf0;--faint:#a0a8b4;--link:#8ab4f8;"
    "--success:#66d17a;--failed:#f28b82;--running:#81e6a0;--skipped:#e79bd0;--retry:#f2b55a;"
)

STYLE = Markup(
    # `data-theme` is what the script found in Airflow's page around this one; without it the browser's wish counts.
    f":root{{color-scheme:light;{_LIGHT}}}"
    f"@media(prefers-color-scheme:dark){{:root:not([data-theme=light]){{color-scheme:dark;{_DARK}}}}}"
    f":root[data-theme=dark]{{color-scheme:dark;{_DARK}}}"
    "*{box-sizing:border-box}"
    "body{margin:0;background:var(--paper);color:var(--ink);"
    "font:14px/1.5 system-ui,-apple-system,'Segoe UI',sans-serif}"
    "main{padding:16px 20px 40px;max-width:1500px;margin:0 auto}"
    "h1{font-size:20px;margin:0}p{margin:4px 0 14px;color:var(--faint);max-width:85ch}"
    "a{color:var(--link);text-decoration:none}a:hover,a:focus-visible{text-decoration:underline}"
    "form{display:flex;flex-wrap:wrap;gap:8px 12px;align-items:end;margin:0 0 14px}"
    "label{display:flex;flex-direction:column;font-size:12px;color:var(--faint);gap:2px}"
    "input,select,button{font:inherit;color:var(--ink);background:var(--paper);border:1px solid var(--line);"
    "border-radius:6px;padding:5px 9px;height:34px}button{background:var(--ground);cursor:pointer}"
    ".scroll{overflow-x:auto}table{border-collapse:collapse;width:100%;min-width:900px}"
    "th,td{text-align:left;vertical-align:top;padding:7px 14px 7px 0;border-bottom:1px solid var(--line)}"
    "th{font-weight:500;color:var(--faint);font-size:12.5px;white-space:nowrap}"
    ".n{text-align:right;font-variant-numeric:tabular-nums;white-space:nowrap}.when,.open{white-space:nowrap}"
    ".name{overflow-wrap:anywhere;min-width:11em;max-width:26em;unicode-bidi:isolate}"
    ".name small{display:block;color:var(--faint);overflow-wrap:anywhere}"
    ".state{white-space:nowrap}.state::before{content:'';display:inline-block;width:9px;height:9px;border-radius:50%;"
    "margin-right:6px;background:var(--faint)}"
    ".success::before{background:var(--success)}.failed::before,.upstream_failed::before{background:var(--failed)}"
    ".running::before{background:var(--running)}.skipped::before{background:var(--skipped)}"
    ".up_for_retry::before{background:var(--retry)}"
    "nav{display:flex;gap:16px;margin-top:14px}code{font:13px ui-monospace,SFMono-Regular,Menlo,monospace;"
    "overflow-wrap:anywhere}dl{display:grid;grid-template-columns:max-content 1fr;gap:4px 18px;margin:0 0 18px}"
    "dt{color:var(--faint)}dd{margin:0;overflow-wrap:anywhere;unicode-bidi:isolate}"
)

SCRIPT = Markup(
    # Airflow shows the page in a frame that may neither leave itself nor open windows, but shares its origin. A link
    # out of the frame is followed by Airflow's page instead; without this script it opens in the frame.
    "(()=>{"
    "let host=null;try{host=window.parent!==window?window.parent.document:null}catch{}"
    "if(!host)return;"
    "const root=document.documentElement,there=host.documentElement;"
    "const dress=()=>{root.dataset.theme=there.classList.contains('dark')?'dark':'light'};"
    "dress();new MutationObserver(dress).observe(there,{attributes:true,attributeFilter:['class']});"
    "addEventListener('click',event=>{"
    "const link=event.target.closest('a[data-out]');"
    "if(!link||event.button)return;"
    "event.preventDefault();"
    "const out=host.createElement('a');out.href=link.href;out.rel='noopener';"
    "if(link.dataset.out==='tab'||event.ctrlKey||event.metaKey)out.target='_blank';"
    "out.click()})"
    "})()"
)
