"""Connections to an endpoint: over TLS or plain, through the proxy that the environment names, if it names one."""

from __future__ import annotations

import ssl
import urllib.request
from collections.abc import Callable
from urllib.parse import urlsplit

from urllib3 import HTTPConnectionPool, HTTPSConnectionPool, ProxyManager

from airflow_dataflux.core.errors import InvalidRequestError
from airflow_dataflux.core.gcs.exchange import Exchanger


def connect(endpoint: str, connections: int, *, meanwhile: Callable[[], object] | None = None) -> Exchanger:
    """Return the exchanger for an endpoint, which opens connections as they are needed and keeps up to `connections`.

    Raises InvalidRequestError if it is not the address of a host. A proxy is honoured for https:// only: plain HTTP is
    for emulators, which are near. `meanwhile` is the exchanger's.
    """
    return Exchanger(_pool(endpoint, connections), meanwhile=meanwhile)


def _pool(endpoint: str, connections: int) -> HTTPConnectionPool:
    address = urlsplit(endpoint)
    if address.scheme not in ("http", "https") or not address.hostname or address.path.strip("/"):
        raise InvalidRequestError(
            f"{endpoint!r} is not the address of Cloud Storage: give scheme and host, such as "
            "'https://storage.googleapis.com' or 'http://127.0.0.1:9000'."
        )
    if address.scheme == "http":
        return HTTPConnectionPool(address.hostname, address.port, maxsize=connections, block=False)
    context = _trusting_context()
    proxy = urllib.request.getproxies().get("https")
    if proxy and not urllib.request.proxy_bypass(address.hostname):
        proxies = ProxyManager(proxy, maxsize=connections, block=False, ssl_context=context)
        return proxies.connection_from_url(endpoint)
    return HTTPSConnectionPool(address.hostname, address.port, maxsize=connections, block=False, ssl_context=context)


def _trusting_context() -> ssl.SSLContext:
    context = ssl.create_default_context()
    if not context.get_ca_certs():
        # Slim container images come without the system's authorities; google-auth brings certifi along.
        try:
            import certifi
        except ImportError:
            return context
        context.load_verify_locations(cafile=certifi.where())
    return context
