"""Extra links: what the UI offers beside a task of this package."""
