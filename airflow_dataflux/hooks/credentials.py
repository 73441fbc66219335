"""Access tokens of an Airflow connection, for the core.

Guarantees: with STORAGE_EMULATOR_HOST set neither the connection nor any credentials are looked at; otherwise the
connection is read on the first request for a token, in the thread that asks (Airflow answers only the task's own).
"""

from __future__ import annotations

from collections.abc import Sequence

from airflow_dataflux.compat import AirflowNotFoundException, google_credentials
from airflow_dataflux.core.errors import AuthenticationError
from airflow_dataflux.core.gcs.auth import CredentialTokens, emulator_endpoint, no_token
from airflow_dataflux.core.runtime.tokens import AnonymousTokens, Token, TokenSource


def connection_tokens(gcp_conn_id: str, impersonation_chain: str | Sequence[str] | None) -> TokenSource:
    """Return the tokens of a connection, anonymous ones for an emulator."""
    if emulator_endpoint():
        return AnonymousTokens()
    return _ConnectionTokens(gcp_conn_id, impersonation_chain)


class _ConnectionTokens:
    """Resolves the connection on first use, so that constructing a hook costs nothing."""

    def __init__(self, gcp_conn_id: str, impersonation_chain: str | Sequence[str] | None) -> None:
        self._gcp_conn_id = gcp_conn_id
        self._impersonation_chain = impersonation_chain
        self._tokens: CredentialTokens | None = None

    def fetch(self) -> Token | None:
        """Return a valid token. Raises AuthenticationError, and UnavailableError where trying again can help."""
        return self._resolved().fetch()

    def discard(self) -> None:
        """Do not hand out the present token again."""
        self._resolved().discard()

    def _resolved(self) -> CredentialTokens:
        if self._tokens is None:
            try:
                credentials = google_credentials(self._gcp_conn_id, self._impersonation_chain)
            except AirflowNotFoundException as error:
                raise self._unusable("there is no such connection in this deployment", error) from error
            except Exception as error:
                # A key file that is missing or no JSON, a refused impersonation: each library has its own error.
                told = no_token(error)
                raise (told if told.retryable else self._unusable(str(error), error)) from error
            self._tokens = CredentialTokens(credentials)
        return self._tokens

    def _unusable(self, why: str, error: Exception) -> AuthenticationError:
        return AuthenticationError(
            f"The Airflow connection {self._gcp_conn_id!r} gives no Google credentials: {why}. Create it (type Google "
            "Cloud), or name another one with gcp_conn_id.",
            operation="read the connection",
            resource=self._gcp_conn_id,
            status=None,
            reason=type(error).__name__,
        )
