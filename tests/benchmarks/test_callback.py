"""The callback: from the browser's coming back to the answer, with the session saved."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from itertools import product
from typing import Any

import pytest

from tests.benchmarks.conftest import Bench
from tests.benchmarks.measure import Other, interleaved

#: How many callbacks one round measures, by the number of threads, and how many rounds there are.
COUNTS = {1: 12, 8: 32}
ROUNDS = 9


#: Scheme, the OP's latency in milliseconds, threads, and where sessions are: also in the cache, to tell what is theirs.
CASES = [*product(("http", "https"), (0, 20), (1, 8), ("db",)), ("https", 0, 1, "cache"), ("https", 20, 8, "cache")]


@pytest.mark.parametrize(("scheme", "latency", "threads", "sessions"), CASES)
def test_callback(
    benchmark: Any, bench: Bench, report: Callable[..., None], scheme: str, latency: int, threads: int, sessions: str
) -> None:
    """CPU time is that of the site's process alone. The base library has no step-up: its callback signs in."""

    def measure(kind: str, *, step_up: bool = False) -> Callable[[], dict[str, float]]:
        site, count = bench.site(kind, scheme, sessions), COUNTS[threads]
        return partial(site, "measure", count=count, threads=threads, step_up=step_up)

    subjects = {
        "sign-in": measure("ours"),
        "step-up": measure("ours", step_up=True),
        "floor of sign-in": measure("floor"),
        "floor of step-up": measure("floor", step_up=True),
        "base": measure("base"),
    }
    bench.set_latency(0)
    for subject in subjects.values():
        subject()  # so that metadata, keys and connections are there
    bench.set_latency(latency / 1000)
    medians = interleaved(benchmark, ROUNDS, "sign-in", subjects)
    bench.set_latency(0)

    where = f"{scheme.upper()}, {latency} ms, {threads} thread{'s' if threads > 1 else ''}"
    where, base = where + (", cache" if sessions == "cache" else ""), "the base library"
    for ours in ("sign-in", "step-up"):
        mine, least, theirs = medians[ours], medians[f"floor of {ours}"], medians["base"]
        report(
            what=f"{ours}, {where}: CPU",
            unit="ms",
            ours=mine["cpu"],
            floor=Other(least["cpu"], 1.5),
            peer=Other(theirs["cpu"], 0.1 if scheme == "https" else None, base),
        )
        report(
            what=f"{ours}, {where}: wall",
            unit="ms",
            ours=mine["wall"],
            floor=Other(least["wall"], 1.2 if latency else None),
            peer=Other(theirs["wall"], None, base),
        )
