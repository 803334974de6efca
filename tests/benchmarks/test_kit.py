"""The test kit: what the plugin costs a suite that does not use it, and a client that is elevated."""

from __future__ import annotations

import os
import resource
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from django.contrib.auth import get_user_model
from django.test import Client

from stepup.testing.clients import StepUpClient
from tests.benchmarks.measure import Other, interleaved

ROOT = Path(__file__).resolve().parents[2]

ROUNDS = 25
CLIENTS = 20

#: Milliseconds that are aimed at.
START_UP, ELEVATION = 20, 5


def test_starting_pytest(benchmark: Any, report: Callable[..., None], tmp_path: Path) -> None:
    """CPU time of a run of one test, with no other plugin: how much more it is with this one."""
    (tmp_path / "test_nothing.py").write_text("def test_nothing(): pass\n")
    subjects: dict[str, Callable[[], Any]] = {
        "with": lambda: _run(tmp_path, "-p", "stepup.testing.plugin"),
        "without": lambda: _run(tmp_path),
    }
    medians = interleaved(benchmark, ROUNDS, "with", subjects)
    report(what="the test plugin, unused", unit="ms", ours=medians["with"] - medians["without"], limit=START_UP)


def test_a_client_that_is_elevated(benchmark: Any, report: Callable[..., None], db: None) -> None:
    user = get_user_model().objects.create_user("anna")

    def elevate() -> None:
        StepUpClient().elevate("mfa", user=user)

    def force_login() -> None:
        Client().force_login(user, backend="stepup.backends.StepUpBackend")

    def in_two_steps() -> None:
        client = StepUpClient()
        client.sign_in(user)
        client.elevate("mfa", age=60)

    elevate()  # the first one brings what all need
    subjects = {each.__name__: lambda each=each: _each(each) for each in (elevate, force_login, in_two_steps)}
    medians = interleaved(benchmark, ROUNDS, "elevate", subjects)
    peer = Other(medians["force_login"], None, "force_login")
    limit = round(medians["force_login"] + ELEVATION, 1)
    report(what="a test client, elevated", unit="ms", ours=medians["elevate"], peer=peer, limit=limit)
    report(what="signed in, and then elevated", unit="ms", ours=medians["in_two_steps"], peer=peer)


def _run(directory: Path, *options: str) -> float:
    """Milliseconds of CPU time of a run of pytest."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", *options],
        cwd=directory,
        env={**os.environ, "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1", "PYTHONPATH": str(ROOT)},
        capture_output=True,
        check=True,
    )
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return (after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime) * 1000


def _each(do: Callable[[], None]) -> float:
    """Milliseconds of one of several."""
    start = time.perf_counter()
    for _ in range(CLIENTS):
        do()
    return (time.perf_counter() - start) * 1000 / CLIENTS
