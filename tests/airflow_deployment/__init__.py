"""A whole Airflow on this machine, for tests of what `dag.test()` cannot show: executors, kills, backfills, the UI."""

from airflow_deployment.deployment import AirflowDeployment, DeploymentError

__all__ = ["AirflowDeployment", "DeploymentError"]
