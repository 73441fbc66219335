"""Who may call at all: bearer tokens with an end, when the owner wants them checked."""

from __future__ import annotations

import time

from airflow_dataflux.testing.refusals import Refusal


class Access:
    """Accepts any caller, or only those with a token that is known and not at its end."""

    def __init__(self, tokens: dict[str, float | None] | None = None) -> None:
        now = time.monotonic()
        self._ends = (
            None
            if tokens is None
            else {token: None if life_s is None else now + life_s for token, life_s in tokens.items()}
        )

    def check(self, authorization: str | None) -> None:
        """Raise Refusal (401) unless the caller is accepted."""
        if self._ends is None:
            return
        scheme, _, token = (authorization or "").partition(" ")
        if scheme.lower() != "bearer" or token not in self._ends:
            reason = "required" if not authorization else "authError"
            raise self._refused(reason, "Login Required." if not authorization else "Invalid Credentials")
        end = self._ends[token]
        if end is not None and time.monotonic() >= end:
            raise self._refused("authError", "Invalid Credentials")

    @staticmethod
    def _refused(reason: str, message: str) -> Refusal:
        return Refusal(
            401, reason, message, headers={"WWW-Authenticate": 'Bearer realm="https://accounts.google.com/"'}
        )
