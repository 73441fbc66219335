"""What Airflow's own provider has for the same: an operator that lists, and a hook that reads objects one by one."""

from __future__ import annotations

import os

from airflow.providers.google.cloud.hooks.gcs import GCSHook
from airflow.providers.google.cloud.operators.gcs import GCSListObjectsOperator
from airflow.providers.standard.operators.python import PythonOperator
from one_task import BUCKET, DESTINATION, dag


def read_one_by_one(bucket: str, destination: str) -> int:
    """List and read with Google's hook, as a task does that has nothing else: one object after the other."""
    hook = GCSHook()
    names = hook.list(bucket)
    for name in names:
        path = os.path.join(destination, name)
        os.makedirs(os.path.dirname(path), exist_ok=True)
        hook.download(bucket, name, filename=path)
    return len(names)


list_google = dag("list_google", GCSListObjectsOperator, bucket=BUCKET)
stage_google = dag(
    "stage_google",
    PythonOperator,
    python_callable=read_one_by_one,
    op_kwargs={"bucket": BUCKET, "destination": DESTINATION},
)
