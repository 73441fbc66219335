"""The headers of every request, among them the access token.

Guarantees: no token goes over plain HTTP to another machine, and none at all while STORAGE_EMULATOR_HOST is set.
Thread-safe.
"""

from __future__ import annotations

import os
from urllib.parse import urlsplit

from airflow_dataflux import __version__
from airflow_dataflux.core.config import StoreConfig
from airflow_dataflux.core.errors import AuthenticationError, InvalidRequestError
from airflow_dataflux.core.gcs.operations import Call
from airflow_dataflux.core.runtime.tokens import CachedTokens, TokenSource

_LOOPBACK = frozenset({"127.0.0.1", "localhost", "::1"})


class RequestHeaders:
    """Makes the headers of requests to one endpoint."""

    def __init__(self, config: StoreConfig, tokens: TokenSource) -> None:
        address = urlsplit(config.endpoint)
        agent = config.user_agent if "/" in config.user_agent else f"{config.user_agent}/{__version__}"
        self._common = {
            "User-Agent": agent,
            "Accept": "*/*",
            # Pages and metadata uncompressed: inside Google's network bytes cost less than the CPU to unpack them.
            "Accept-Encoding": "identity",
        }
        self._endpoint = config.endpoint
        self._private = address.scheme == "https" or address.hostname in _LOOPBACK
        self._tokens: CachedTokens | None = None
        if not os.environ.get("STORAGE_EMULATOR_HOST"):
            self._tokens = tokens if isinstance(tokens, CachedTokens) else CachedTokens(tokens)

    def of(self, call: Call) -> tuple[dict[str, str], str | None]:
        """Return the headers of a request, and the token in them. Raises AuthenticationError if there is no token."""
        headers = {**self._common, **call.headers}
        if any("\n" in value or "\r" in value for value in call.headers.values()):
            raise InvalidRequestError(f"A header of the request for {call.resource} holds a line end.")
        token = self._token(call)
        if token is not None:
            headers["Authorization"] = f"Bearer {token}"
        return headers, token

    def renew(self, refused: str | None) -> bool:
        """Forget the token that was refused; return whether there can be another."""
        if self._tokens is None or refused is None:
            return False
        present = self._tokens.fetch()
        if present is not None and present.value != refused:
            return True  # another thread was refused, too, and has renewed it already
        self._tokens.discard()
        return True

    def _token(self, call: Call) -> str | None:
        token = self._tokens.fetch() if self._tokens is not None else None
        if token is None:
            return None
        if not self._private:
            raise AuthenticationError(
                f"Refused to send an access token to {self._endpoint} over plain HTTP: use an https:// endpoint, "
                "or anonymous access for an emulator (set STORAGE_EMULATOR_HOST).",
                operation=call.operation.name,
                resource=call.resource,
                status=None,
                reason="plain HTTP",
            )
        return token.value
