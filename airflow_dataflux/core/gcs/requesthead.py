"""The head of every request, among it the access token.

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


class RequestHeads:
    """Writes the heads of requests to one endpoint."""

    def __init__(self, config: StoreConfig, tokens: TokenSource) -> None:
        address = urlsplit(config.endpoint)
        agent = config.user_agent if "/" in config.user_agent else f"{config.user_agent}/{__version__}"
        self._common = f"Host: {address.netloc.rpartition('@')[2]}\r\nUser-Agent: {agent}\r\nAccept: */*\r\n"
        self._endpoint = config.endpoint
        self._private = address.scheme == "https" or address.hostname in _LOOPBACK
        self._source = tokens
        self._tokens: CachedTokens | None = None
        if not os.environ.get("STORAGE_EMULATOR_HOST"):
            self._tokens = tokens if isinstance(tokens, CachedTokens) else CachedTokens(tokens)

    def of(self, call: Call) -> tuple[bytes, str | None]:
        """Return the head of a request, and the token in it. Raises AuthenticationError if there is no token."""
        lines = [f"{call.method} {call.target} HTTP/1.1\r\n", self._common]
        if "Accept-Encoding" not in call.headers:
            # Pages and metadata uncompressed: inside Google's network bytes cost less than the CPU to unpack them.
            lines.append("Accept-Encoding: identity\r\n")
        if call.method == "POST" and "Content-Length" not in call.headers:
            lines.append(f"Content-Length: {sum(map(len, call.body))}\r\n")
        lines += [f"{name}: {value}\r\n" for name, value in call.headers.items()]
        token = self._token(call)
        if token is not None:
            lines.append(f"Authorization: Bearer {token}\r\n")
        lines.append("\r\n")
        text = "".join(lines)
        if text.count("\n") != text.count("\r\n") or text.count("\r\n\r\n") != 1:
            raise InvalidRequestError(f"A header of the request for {call.resource} holds a line end.")
        return text.encode("latin-1"), token

    def renew(self, refused: str | None) -> bool:
        """Forget the token that was refused; return whether there can be another."""
        if self._tokens is None or refused is None:
            return False
        present = self._tokens.fetch()
        if present is not None and present.value != refused:
            return True  # another thread was refused, too, and has renewed it already
        self._tokens.discard()
        # A source that caches, too, would hand out the same token again.
        discard = getattr(self._source, "discard", None)
        if discard is not None:
            discard()
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
