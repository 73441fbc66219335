"""Who asks, and what they may see: Airflow's own authentication and authorisation, nothing besides.

Guarantee: every decision is made by the auth manager of the deployment, through the functions that guard Airflow's own
API, for one named DAG at a time. A request without a valid token is answered by them with 401.
"""

from __future__ import annotations

import inspect
from typing import Annotated

from airflow.api_fastapi.app import get_auth_manager
from airflow.api_fastapi.auth.managers.models.base_user import BaseUser
from airflow.api_fastapi.auth.managers.models.resource_details import DagAccessEntity, DagDetails
from airflow.api_fastapi.core_api.security import get_user, requires_access_dag
from fastapi import Depends, HTTPException, Request

_GUARD_TAKES_ID = "param_dag_id" in inspect.signature(requires_access_dag).parameters
"""From Airflow 3.1 on. The one of 3.0 reads the id from the path of the request, which has none here."""


class Reader:
    """A user, and what they may read. Lives for one request; not thread-safe."""

    def __init__(self, request: Request, user: BaseUser) -> None:
        self._request = request
        self._user = user
        self._decided: dict[tuple[str, DagAccessEntity], bool] = {}

    def dag_ids(self) -> set[str]:
        """Return the DAGs that may be read."""
        return get_auth_manager().get_authorized_dag_ids(user=self._user, method="GET")

    def may_read_tasks(self, dag_id: str) -> bool:
        """Return whether task instances of this DAG may be read."""
        return self._may_read(dag_id, DagAccessEntity.TASK_INSTANCE)

    def may_read_xcoms(self, dag_id: str) -> bool:
        """Return whether XComs of this DAG may be read; a report and its figures are such."""
        return self._may_read(dag_id, DagAccessEntity.XCOM)

    def _may_read(self, dag_id: str, entity: DagAccessEntity) -> bool:
        if not dag_id:
            return False  # Airflow would take an absent id for a question about DAGs in general
        key = (dag_id, entity)
        if key not in self._decided:
            self._decided[key] = self._is_authorized(dag_id, entity)
        return self._decided[key]

    def _is_authorized(self, dag_id: str, entity: DagAccessEntity) -> bool:
        if not _GUARD_TAKES_ID:
            details = DagDetails(id=dag_id)
            return get_auth_manager().is_authorized_dag(
                method="GET", access_entity=entity, details=details, user=self._user
            )
        try:
            requires_access_dag("GET", entity, dag_id)(self._request, self._user)
        except HTTPException:
            return False
        return True


def login_address(next_address: str) -> str:
    """Return where to log in, to come back to `next_address`."""
    return get_auth_manager().get_url_login(next_url=next_address)


def current_reader(request: Request, user: Annotated[BaseUser, Depends(get_user)]) -> Reader:
    """Return who asks. No class, because the FastAPI of Airflow 3.1 cannot read the annotations of an `__init__`."""
    return Reader(request, user)


CurrentReader = Annotated[Reader, Depends(current_reader)]
