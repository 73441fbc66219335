"""The pods of docs/how-to/kubernetes.md: what Airflow would ask a cluster for, after a DAG was serialised."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest
import yaml
from dag_runs import dag_bag_class, serialisation_class

pytestmark = pytest.mark.usefixtures("airflow_database")

ROOT = Path(__file__).resolve().parents[2]
PAGE = (ROOT / "docs/how-to/kubernetes.md").read_text(encoding="utf-8")
DAGS = dict(re.findall(r"^```python file=dags/(\w+)\.py\n(.*?)^```$", PAGE, re.MULTILINE | re.DOTALL))
TEMPLATE = yaml.safe_load(re.findall(r"^```yaml\n(.*?)^```$", PAGE, re.MULTILINE | re.DOTALL)[0])


def serialised_and_back(name: str, directory: Path) -> Any:
    """Return a DAG of the page as the scheduler reads it from the database."""
    serialisation = serialisation_class()
    file = directory / f"{name}.py"
    file.write_text(DAGS[name], encoding="utf-8")
    bag = dag_bag_class()(str(file))
    assert bag.import_errors == {}
    return serialisation.from_dict(json.loads(json.dumps(serialisation.to_dict(bag.dags[name]))))


def pod(executor_config: dict[str, Any]) -> Any:
    """Return the pod that the executor asks for: Airflow's own one with the task's override on it."""
    from airflow.providers.cncf.kubernetes.pod_generator import PodGenerator
    from kubernetes.client import models as k8s

    usual = k8s.V1Pod(
        metadata=k8s.V1ObjectMeta(name="task"),
        spec=k8s.V1PodSpec(containers=[k8s.V1Container(name="base", image="airflow", args=["airflow"])]),
    )
    return PodGenerator.reconcile_pods(usual, PodGenerator.from_obj(executor_config))


def executor_config(dag: Any, task_id: str) -> dict[str, Any]:
    task = dag.get_task(task_id)
    return task.partial_kwargs["executor_config"] if hasattr(task, "partial_kwargs") else task.executor_config


def test_a_pod_of_its_own_has_disk_identity_and_time_to_clean_up(tmp_path: Path) -> None:
    spec = pod(executor_config(serialised_and_back("train_in_a_pod", tmp_path), "train")).spec
    (container,) = spec.containers
    assert (container.name, container.image, container.args) == ("base", "airflow", ["airflow"])
    assert container.resources.limits["ephemeral-storage"] == "210Gi"
    assert container.resources.requests == container.resources.limits
    assert [(mount.name, mount.mount_path) for mount in container.volume_mounts] == [("scratch", "/scratch")]
    assert [(volume.name, volume.empty_dir.size_limit) for volume in spec.volumes] == [("scratch", "200Gi")]
    assert (spec.termination_grace_period_seconds, spec.service_account_name) == (60, "training")


def test_mapped_pods_mount_the_shared_volume(tmp_path: Path) -> None:
    spec = pod(executor_config(serialised_and_back("stage_from_many_pods", tmp_path), "stage")).spec
    (container,) = spec.containers
    assert [(mount.name, mount.mount_path) for mount in container.volume_mounts] == [("datasets", "/datasets")]
    assert [volume.persistent_volume_claim.claim_name for volume in spec.volumes] == ["datasets"]
    assert container.resources.limits == {"cpu": "2", "memory": "2Gi"}


def test_the_template_asks_for_what_the_override_asks_for(tmp_path: Path) -> None:
    from kubernetes.client import ApiClient

    spec = pod(executor_config(serialised_and_back("train_in_a_pod", tmp_path), "train")).spec
    overridden = ApiClient().sanitize_for_serialization(spec)
    template = TEMPLATE["spec"]
    for name in ("terminationGracePeriodSeconds", "serviceAccountName", "volumes"):
        assert template[name] == overridden[name], name
    for name in ("name", "resources", "volumeMounts"):
        assert template["containers"][0][name] == overridden["containers"][0][name], name
