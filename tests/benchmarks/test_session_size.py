"""What a pending request and a login add to the session, which sites keep in cookies, caches and databases."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

from tests.benchmarks.conftest import Bench
from tests.benchmarks.measure import Other, interleaved


def test_session_size(benchmark: Any, bench: Bench, report: Callable[..., None]) -> None:
    """In bytes of JSON, and without what Django's own `login()` adds."""
    subjects = {kind: partial(bench.site(kind, "http"), "bytes_added") for kind in ("ours", "base")}
    added = interleaved(benchmark, 3, "ours", subjects)
    for what, name, limit in (
        ("pending", "a pending sign-in", 300),
        ("login", "a login", 200),
        ("pending step-up", "a pending step-up", 300),
        ("elevated", "a login with a second factor", 200),
    ):
        # The base library has no step-up: what it does in its place is another sign-in.
        peer = Other(added["base"][what], None, "the base library") if what in ("pending", "login") else None
        report(what=f"session, {name}", unit="bytes", ours=added["ours"][what], peer=peer, limit=limit)
