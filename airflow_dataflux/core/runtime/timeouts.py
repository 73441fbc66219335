"""How long who waits for whom at the end of a run, in one table.

Airflow ends a task with SIGTERM and, 5 s later, SIGKILL (both to the process group in 3.x). Whatever is killed, nothing
of it may run 10 s later, and the next try must find the destination free.

| seconds | who waits | for what |
|---|---|---|
| 4 | the task | a cancelled or closing engine; then it kills the engine. Before Airflow's SIGKILL at 5 s |
| 6 | a staging | its workers, after a failure or a cancel; what is left is found by listing composites |
| 7 | an engine | its job, once its task is gone; then it exits. Longer than a staging's 6 s |
| 8 | a worker | its body, once its owner is gone; then it exits. Longer than its engine, shorter than 10 s |
| 10 | an owner | its closed workers; then it kills them. Longer than the worker's own 8 s |
| 12 | the next try | the destination's lock, which a killed try's engine may hold for 7 s and its workers for 8 s |

Everything else that ends is noticed at once, by the end of a pipe or a cancel token, never by a time-out.
"""

from __future__ import annotations

ENGINE_CANCEL_S = 4.0
STAGING_STOP_S = 6.0
ENGINE_ORPHAN_S = 7.0
WORKER_ORPHAN_S = 8.0
WORKER_JOIN_S = 10.0
LOCK_WAIT_S = 12.0
