"""Processes, cancellation and progress: what listing and staging share and Cloud Storage has no part in.

`workers` says what a job and its workers are; `jobs.run_job` runs one, with `threads` here or through `launch` in an
`engine`, a fresh process whose workers are `processes`. `protocol` has the frames between all of them, `timeouts` how
long who waits for whom. `cancel`, `tokens`, `progress` and `usage` are what a job is given and what it tells.
"""
