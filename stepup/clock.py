"""What time it is, for the rooms that are not pure; one place, so that a test can move it."""

from __future__ import annotations

import time

#: Seconds that are added to the machine's clock.
offset: float = 0.0


def monotonic() -> float:
    """Seconds since some moment: a clock for durations, which nobody sets back."""
    return time.monotonic() + offset


def now() -> float:
    """The time in seconds since the epoch."""
    return time.time() + offset
