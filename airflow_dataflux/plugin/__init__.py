"""The page "Dataflux" in Airflow's UI (3.x): recent listings, stagings and packs, and what they left. Read-only.

`registration` is what Airflow loads in every process; the rest is imported by the API server alone. `app` has the
routes, and says what the page promises about security. `access` asks Airflow who may read what, and `records` its
database; `documents` reads a file that a task wrote; `views` has what is shown, and makes HTML of it with `templates/`.
`static/` has the pages' style and script.
"""
