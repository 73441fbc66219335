"""What holds for the whole suite."""

from __future__ import annotations

from hypothesis import settings

# A property is about results. How long an example takes depends on imports and on what else runs on the machine.
settings.register_profile("suite", deadline=None)
settings.load_profile("suite")
