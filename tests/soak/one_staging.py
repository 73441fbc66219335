"""A program that stages by an engine with two workers, to be killed: argv is one JSON object, see `main`.

As an Airflow task does, it cancels on SIGTERM and ends with the error that follows. It prints "ready", and at the end
the leftovers of the receipt.
"""

from __future__ import annotations

import json
import os
import signal
import sys

from airflow_dataflux.core import CancelToken, Manifest, StageRequest, StoreConfig, stage
from airflow_dataflux.core.config import RunIdentity
from airflow_dataflux.core.runtime.tokens import AnonymousTokens
from airflow_dataflux.core.staging import strategy


def main() -> None:
    """Stage what `endpoint`, `manifest`, `destination`, `strategy` and `try_number` say."""
    order = json.loads(sys.argv[1])
    cancel = CancelToken()
    signal.signal(signal.SIGTERM, lambda _number, _frame: cancel.cancel("SIGTERM"))
    strategy.ENGINE_PAYS_S = 0.0  # as if it were so much that an engine pays
    print("ready", flush=True)
    receipt = stage(
        Manifest.open(order["manifest"]),
        StageRequest(
            destination=order["destination"],
            strategy=order["strategy"],
            workers=2,
            max_in_flight=16,
            identity=RunIdentity(dag="soak", run="r", try_number=order["try_number"]),
        ),
        store_config=StoreConfig(endpoint=order["endpoint"]),
        tokens=AnonymousTokens(),
        cancel=cancel,
    )
    print(json.dumps(receipt.leftovers), flush=True)


if __name__ == "__main__":
    main()
    os._exit(0)  # while the interpreter shuts down, a SIGTERM that comes late would count as a death
