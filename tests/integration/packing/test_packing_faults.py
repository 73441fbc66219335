"""Requests of a pack that fail and pass: the same pack at the end, and nothing left."""

from __future__ import annotations

import pytest
from packing_site import Site

SMALL = 64 * 1024

FAULTS = [
    ("status", {"operation": "compose", "status": 503}),
    ("status", {"operation": "compose", "status": 429}),
    ("status", {"operation": "read", "status": 503}),
    ("status", {"operation": "upload", "status": 503}),
    ("lose_answer", {"operation": "upload"}),
    ("lose_answer", {"operation": "compose"}),
    ("reset", {"operation": "upload"}),
    ("truncate", {"operation": "read"}),
    ("flip", {"operation": "read"}),
]


@pytest.mark.parametrize(
    ("strategy", "kind", "rule"),
    [
        (strategy, kind, rule)
        for kind, rule in FAULTS
        for strategy in ("compose", "direct")
        if (rule["operation"], strategy) != ("compose", "direct")
    ],
)
def test_a_pack_survives_what_passes(site: Site, strategy: str, kind: str, rule: dict[str, object]) -> None:
    site.put_samples(100)
    fault = site.server.fail(kind, times=3, **rule)
    site.pack(site.manifest(), shard_bytes=SMALL, strategy=strategy)
    assert site.server.faults()[fault].hits >= 1  # how many of few composes meet it depends on their order
    site.check()
    assert site.composites() == []
