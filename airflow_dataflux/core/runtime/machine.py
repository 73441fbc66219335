"""Which machine this is, as far as locks are concerned."""

from __future__ import annotations

import functools
import hashlib
import secrets
import socket


@functools.cache
def machine_id() -> str:
    """Return 16 hexadecimal digits that are the same in processes that surely see each other's locks (flock(2)).

    Those of one container or machine since its start. File systems over a network may lock within one machine only, and
    two containers may mount one of them apart.
    """
    try:
        with open("/proc/sys/kernel/random/boot_id", encoding="ascii") as file:
            boot = file.read().strip()
    except OSError:
        boot = secrets.token_hex(16)  # not to be told: a machine of its own
    return hashlib.sha256(f"{boot} {socket.gethostname()}".encode()).hexdigest()[:16]
