"""Who may call at all: bearer tokens with an end, when the owner wants them checked."""

from __future__ import annotations

import math
import secrets
import time
from typing import Any

from airflow_dataflux.testing.refusals import Refusal


class Access:
    """Accepts any caller, or only those with a token that is known and not at its end. Hands out tokens, too."""

    def __init__(self, tokens: dict[str, float | None] | None = None, minted_life_s: float | None = None) -> None:
        now = time.monotonic()
        self._minted_life_s = minted_life_s
        self._ends: dict[str, float | None] | None = None
        if tokens is not None or minted_life_s is not None:
            self._ends = {token: None if life_s is None else now + life_s for token, life_s in (tokens or {}).items()}

    def mint(self) -> dict[str, Any]:
        """Return a new token as an OAuth 2.0 token endpoint answers. Raises Refusal (404) if it is not set up."""
        if self._minted_life_s is None or self._ends is None:
            raise Refusal(404, "notFound", "This server hands out no tokens: set token_life_s.")
        token = f"minted-{secrets.token_hex(8)}"
        self._ends[token] = time.monotonic() + self._minted_life_s
        return {"access_token": token, "token_type": "Bearer", "expires_in": math.ceil(self._minted_life_s)}

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
