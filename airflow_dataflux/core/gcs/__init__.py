"""Cloud Storage over HTTP: the only package that imports Google or knows its JSON API."""
