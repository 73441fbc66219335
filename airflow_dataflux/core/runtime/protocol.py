"""The frames on the pipes between a task and its engine. Both ends are the same version of this package."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from airflow_dataflux.core.errors import DatafluxError
from airflow_dataflux.core.runtime.tokens import Token


@dataclass(frozen=True, slots=True)
class Hello:
    """First frame to the engine: what it needs before it can unpickle the job."""

    sys_path: list[str]
    log_level: int


@dataclass(frozen=True, slots=True)
class CancelJob:
    """To the engine: stop."""

    reason: str


@dataclass(frozen=True, slots=True)
class TokenAnswer:
    """To the engine: a token, anonymous access (None), or why there is none."""

    token: Token | None
    error: DatafluxError | None = None


@dataclass(frozen=True, slots=True)
class TokenWanted:
    """From the engine: hand me a token."""


@dataclass(frozen=True, slots=True)
class TokenRefused:
    """From the engine: the token was answered with 401; a source that caches must not hand it out again."""


@dataclass(frozen=True, slots=True)
class Event:
    """From the engine: something that the job emitted."""

    event: object


@dataclass(frozen=True, slots=True)
class JobDone:
    """From the engine: the last frame of a job that returned."""

    result: Any


@dataclass(frozen=True, slots=True)
class JobFailed:
    """From the engine: the last frame of a job that raised."""

    error: BaseException
