"""How much processor time a staging will take, and so whether worker processes pay (pure).

An engine with its workers costs half a second and 0.8 CPU-seconds to start; from then on it has the cores for itself,
where threads of one process share one. Measured beside other work, 11,098 objects of 10 KiB took 2.4 s and 1.6
CPU-seconds by threads of the calling process, 4.0 s and 2.5 by an engine with two workers; 5,000 objects of 100 KiB
took 2.1 s and 1.3, and 3.8 s and 1.9. A guess that is wrong costs a second or two.
"""

from __future__ import annotations

from airflow_dataflux.core.config import Strategy
from airflow_dataflux.core.staging.choice import AUTO_MAX_OBJECT_BYTES

_DIRECT_OBJECT_S = 0.0006
_COMPOSED_OBJECT_S = 0.0001
_BYTE_S = 1e-9
"""Processor time of an object read by itself, of one cut from a composite, and of a byte of either."""

ENGINE_PAYS_S = 1.6
"""What threads of one process take this long for, two workers take half as long for, and the time to start."""


def processor_s(count: int, total_bytes: int, strategy: Strategy) -> float:
    """Return about how many CPU-seconds staging `count` objects takes, as far as their number and size tell."""
    composed = strategy == "compose" or (strategy == "auto" and total_bytes <= count * AUTO_MAX_OBJECT_BYTES)
    return count * (_COMPOSED_OBJECT_S if composed else _DIRECT_OBJECT_S) + total_bytes * _BYTE_S


def engine_pays(count: int, total_bytes: int, strategy: Strategy) -> bool:
    """Return whether an engine with worker processes is done sooner than threads of the calling process."""
    return processor_s(count, total_bytes, strategy) > ENGINE_PAYS_S
