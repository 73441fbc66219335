// A page with running tasks is loaded anew every few seconds, but not while somebody fills in its form.
(() => {
  const seconds = Number(document.documentElement.dataset.refresh);
  if (!seconds) return;
  setInterval(() => {
    if (!document.hidden && !document.activeElement?.matches("input, select")) location.reload();
  }, 1000 * seconds);
})();

// Airflow shows the page in a frame that may neither leave itself nor open windows, but shares its origin. A link out of
// the frame is followed by Airflow's page instead; without this script it opens in the frame.
(() => {
  let host = null;
  try {
    host = window.parent !== window ? window.parent.document : null;
  } catch {}
  if (!host) return;

  const root = document.documentElement;
  const airflow = host.documentElement;
  const takeTheme = () => { root.dataset.theme = airflow.classList.contains("dark") ? "dark" : "light"; };
  takeTheme();
  new MutationObserver(takeTheme).observe(airflow, { attributes: true, attributeFilter: ["class"] });

  addEventListener("click", event => {
    const link = event.target.closest("a[data-out]");
    if (!link || event.button) return;
    event.preventDefault();
    const outside = host.createElement("a");
    outside.href = link.href;
    outside.rel = "noopener";
    if (link.dataset.out === "tab" || event.ctrlKey || event.metaKey) outside.target = "_blank";
    outside.click();
  });
})();
