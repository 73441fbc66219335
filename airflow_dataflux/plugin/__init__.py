"""The page "Dataflux" in Airflow's UI (3.x): recent listings and stagings, and what they left to read. Read-only.

`registration` is what Airflow loads in every process; the rest is imported by the API server alone. `access` and
`records` are the only modules that know Airflow's API server and its database; `page` draws; `documents`
reads such a file. What the page promises about security is written in `app`.
"""
