"""How to point obstore at the benchmark's server."""

from __future__ import annotations

import json
from typing import Any

from obstore.store import GCSStore


def open_obstore(task: dict[str, Any]) -> GCSStore:
    """Return a store without credentials. Idle connections are kept without a limit, which is its default."""
    key = {
        "gcs_base_url": task["endpoint"],
        "disable_oauth": True,
        "client_email": "",
        "private_key": "",
        "private_key_id": "",
    }
    return GCSStore(
        task["bucket"],
        config={"service_account_key": json.dumps(key)},
        client_options={"allow_http": True, "timeout": "900 seconds"},
    )
