"""Processes, cancellation and progress: what listing and staging share and Cloud Storage has no part in."""
