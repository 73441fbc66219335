"""Where an access token comes from, seen from whoever sends a request.

The credentials themselves (which may hold a private key) stay in the Airflow task. The engine and its worker
processes ask for a token through their pipe whenever theirs is about to end, so nothing secret is written to disk,
to a command line or to the environment, any kind of credentials works, and a run may outlive a token.
"""

from __future__ import annotations

import threading
import time
from typing import Protocol

import msgspec

_REFRESH_BEFORE_END_S = 60.0
"""Fetch a new token this long before the old one ends (google-auth refreshes 225 s ahead at the source)."""


class Token(msgspec.Struct, frozen=True, kw_only=True):
    """A bearer token.

    Attributes:
        value: what is sent.
        valid_for_s: its life from the moment it was handed out; None means no known end.
        quota_project: the project that its credentials want quotas and bills to go to; None leaves it to the bucket's.
    """

    value: str
    valid_for_s: float | None = None
    quota_project: str | None = None


class TokenSource(Protocol):
    """Hands out a bearer token, or None for anonymous access. Thread-safe."""

    def fetch(self) -> Token | None:
        """Return a token that is valid now. Raises AuthenticationError if there is none to be had."""
        ...


class AnonymousTokens:
    """No token at all: public buckets and emulators."""

    def fetch(self) -> Token | None:
        """Return None."""
        return None


class CachedTokens:
    """Keeps the source's last token until shortly before its end. Thread-safe; one fetch at a time.

    Caches may be stacked (a worker's on its engine's): the life of a token is told as what is left of it.
    """

    def __init__(self, source: TokenSource) -> None:
        self._source = source
        self._lock = threading.Lock()
        self._token: Token | None = None
        self._ends_at: float | None = None
        self._fresh_until: float | None = 0.0

    def fetch(self) -> Token | None:
        """Return the cached token, or a new one."""
        with self._lock:
            if self._fresh_until is not None and time.monotonic() >= self._fresh_until:
                self._renew()
            if self._token is None or self._ends_at is None:
                return self._token
            return msgspec.structs.replace(self._token, valid_for_s=max(0.0, self._ends_at - time.monotonic()))

    def discard(self) -> None:
        """Forget the cached token, here and at the source, because a request was answered with 401."""
        with self._lock:
            self._fresh_until = 0.0
            discard = getattr(self._source, "discard", None)
            if discard is not None:
                discard()

    def _renew(self) -> None:
        self._token = self._source.fetch()
        valid_for_s = self._token.valid_for_s if self._token else None
        if valid_for_s is None:
            self._ends_at = self._fresh_until = None
            return
        now = time.monotonic()
        self._ends_at = now + valid_for_s
        # A token shorter than the margin is used for half its life rather than never.
        self._fresh_until = now + max(valid_for_s - _REFRESH_BEFORE_END_S, valid_for_s / 2)
