"""PruneStagedOperator: removes staged trees that are not needed any more."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from airflow_dataflux.core.config import PruneRequest
from airflow_dataflux.failures import airflow_outcomes
from airflow_dataflux.operators.base import DatafluxOperator

if TYPE_CHECKING:
    from datetime import timedelta

    from airflow_dataflux.compat import Context


class PruneStagedOperator(DatafluxOperator):
    """Remove trees that stagings put below a directory of this worker, oldest first.

    The task removes only whole trees with a receipt of this package. It never removes a tree with a file that no
    staging put there, a tree that is being staged, or a tree with a lease (``DatafluxHook().lease(...)``). `keep_last`,
    `older_than` and `max_total_bytes` each protect trees: a tree is removed only if none of them protects it.

    The task returns a dictionary with ``found``, ``removed`` (paths), ``kept`` (paths of trees that no rule protected,
    each with the reason why it was kept), ``freed_bytes`` and ``total_bytes``.

    As the last task of a DAG, run it as a teardown (``.as_teardown()``). A failed run then stays failed.
    """

    requests = (PruneRequest,)

    def __init__(
        self,
        *,
        root: str,
        pattern: str = "*",
        keep_last: int | str | None = None,
        older_than: timedelta | int | str | None = None,
        max_total_bytes: int | str | None = None,
        dry_run: bool | str = False,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.keep(locals())

    def execute(self, context: Context) -> dict[str, Any]:
        """Prune, and return what was removed and what that freed."""
        del context
        with airflow_outcomes():
            result = self.open_hook().prune(**self.values(PruneRequest))
        for path, reason in result.kept.items():
            self.log.warning("%s is kept: %s", path, reason)
        self.log.info(
            "%s %d of %d trees below %s: %d bytes freed, %d left",
            "Would remove" if result.dry_run else "Removed",
            *(len(result.removed), result.found, self.root, result.freed_bytes, result.total_bytes),
        )
        return result.summary()
