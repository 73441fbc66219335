"""An auth manager whose users say in their names what they may read, for the tests of authorisation."""

from __future__ import annotations

import inspect
from typing import Any

from airflow.api_fastapi.auth.managers.models.resource_details import DagAccessEntity
from airflow.api_fastapi.auth.managers.simple.simple_auth_manager import SimpleAuthManager
from airflow.api_fastapi.auth.managers.simple.user import SimpleAuthManagerUser

PATH = "narrow_auth.NarrowAuthManager"


class NarrowAuthManager(SimpleAuthManager):
    """A user named `a,b/XCOM` may read the DAGs a and b, but not their XComs. `*` is every DAG."""

    def is_authorized_dag(
        self, *, method: Any, user: Any, access_entity: DagAccessEntity | None = None, details: Any = None
    ) -> bool:
        dags, _, forbidden = user.username.partition("/")
        if method != "GET" or (access_entity is not None and access_entity.value == forbidden):
            return False
        return dags == "*" or details is None or details.id is None or details.id in dags.split(",")


def token(manager: Any, username: str) -> str:
    """Return a token of a user that may read what its name says."""
    teams = {"teams": None} if "teams" in inspect.signature(SimpleAuthManagerUser).parameters else {}  # 3.2 on
    return manager.generate_jwt(SimpleAuthManagerUser(username=username, role="VIEWER", **teams))
