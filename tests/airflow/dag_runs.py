"""Run a DAG of the DAGs folder in this process, on either of Airflow's lines."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from functools import cache
from pathlib import Path
from typing import Any
from urllib.parse import quote

import airflow

AIRFLOW_3 = not airflow.__version__.startswith("2.")
AIRFLOW_3_0 = airflow.__version__.startswith("3.0.")
HAS_APPROVALS = AIRFLOW_3 and not AIRFLOW_3_0
"""Whether this Airflow has the operator that asks a person; without it, the example that uses it defines no DAG."""

EXAMPLE_FILES = sorted(path.stem for path in (Path(__file__).parents[2] / "dags").glob("*.py"))
EXAMPLES = [name for name in EXAMPLE_FILES if HAS_APPROVALS or name != "approve_cost"]
"""The example DAGs that this Airflow can run; each is in a file of its name."""


def dag_bag_class() -> Any:
    """Return Airflow's class, which is elsewhere since 3.2."""
    try:
        from airflow.dag_processing.dagbag import DagBag
    except ModuleNotFoundError:
        from airflow.models.dagbag import DagBag
    return DagBag


def serialisation_class() -> Any:
    """Return Airflow's class that writes DAGs for the scheduler, which has another name since 3.2."""
    from airflow.serialization import serialized_objects

    return getattr(serialized_objects, "DagSerialization", None) or serialized_objects.SerializedDAG


@cache
def dag_bag() -> Any:
    """Return all DAGs of the folder, parsed once. Needs the database in 2.11."""
    folder = os.environ["AIRFLOW__CORE__DAGS_FOLDER"]
    if AIRFLOW_3_0:  # where dag.test() activates no assets
        from airflow.dag_processing.bundles.manager import DagBundlesManager

        DagBundlesManager().sync_bundles_to_db()
        bag = dag_bag_class()(dag_folder=folder)
        bag.sync_to_db("dags-folder", None)
        return bag
    if AIRFLOW_3:
        return dag_bag_class()(dag_folder=folder)
    bag = dag_bag_class()(dag_folder=folder, include_examples=False)
    bag.sync_to_db()  # in 3.x dag.test() does it; an event of an asset alias needs it
    return bag


@dataclass(frozen=True)
class FinishedRun:
    """A DAG run that is over."""

    run: Any

    @property
    def state(self) -> str:
        return str(self.run.state)

    def task(self, task_id: str, map_index: int = -1) -> Any:
        found = [ti for ti in self.run.get_task_instances() if (ti.task_id, ti.map_index) == (task_id, map_index)]
        assert len(found) == 1, f"{task_id}[{map_index}] is not one of {self.run.get_task_instances()}"
        return found[0]

    def states(self) -> dict[str, list[str]]:
        """Return the states of all task instances, by task, mapped ones in order."""
        result: dict[str, list[str]] = {}
        for ti in sorted(self.run.get_task_instances(), key=lambda ti: (ti.task_id, ti.map_index)):
            result.setdefault(ti.task_id, []).append(str(ti.state))
        return result

    def xcom(self, task_id: str, key: str = "return_value", map_index: int = -1) -> Any:
        """Return what the task pushed, None if nothing."""
        return self.task(task_id, map_index).xcom_pull(task_ids=task_id, key=key, map_indexes=map_index)

    def file_link(self, document: str, uri: str, task_id: str, map_index: int = -1) -> str:
        """Return where a task's link to its file at `uri` leads: to this package's page in 3.x, which is told of it."""
        if not AIRFLOW_3:
            return uri
        assert self.xcom(task_id, f"dataflux_{document}", map_index)["uri"] == uri
        run_id = quote(self.run.run_id, safe="")
        return f"dataflux/{document}?dag_id={self.run.dag_id}&run_id={run_id}&task_id={task_id}&map_index={map_index}"


def run_dag(dag_id: str, conf: dict[str, Any] | None = None, logical_date: datetime | None = None) -> FinishedRun:
    """Run a DAG with `dag.test()`. A failed run is returned, not raised, in both lines.

    Give no logical date twice: Airflow 2 cannot replace an earlier run without its web server's tables.
    """
    dag = dag_bag().get_dag(dag_id)
    dated = {} if logical_date is None else {"logical_date" if AIRFLOW_3 else "execution_date": logical_date}
    # Airflow writes a run's values into the parameters of the DAG and of its tasks, which later runs here share, and
    # 2.11 gives a mapped task other parameters, with the run's values in them.
    owners = [(owner, owner.params) for owner in (dag, *dag.tasks)]
    parameters = [params.get_param(name) for _, params in owners for name in params]
    defaults = [parameter.value for parameter in parameters]
    try:
        return FinishedRun(dag.test(run_conf=conf or {}, **dated))
    finally:
        for parameter, default in zip(parameters, defaults, strict=True):
            parameter.value = default
        for owner, params in owners:
            if owner.params is not params:
                owner.params = params


def failure(run: FinishedRun, task_id: str, log: Callable[[], list[str]]) -> str:
    """Check that the task failed on its first try, and return everything that was logged."""
    ti = run.task(task_id)
    assert (str(ti.state), ti.try_number, run.state) == ("failed", 1, "failed")
    return "\n".join(log())
