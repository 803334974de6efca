"""What it takes to import a door, and to start a site that has the package installed."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from typing import Any

from tests.benchmarks.measure import Other, interleaved

ROUNDS = 15

_SITE = """
import json, sys, time
import django
from django.conf import settings
settings.configure(
    SECRET_KEY="a-key-for-benchmarks-only",
    INSTALLED_APPS=["django.contrib.auth", "django.contrib.contenttypes", "django.contrib.sessions", *{apps!r}],
    STEPUP={{"ISSUER": "https://op.example/"}}, OIDC_RP_CLIENT_ID="site", OIDC_RP_CLIENT_SECRET="secret",
)
start = time.process_time()
django.setup()
started = time.process_time()
for module in {modules!r}:
    __import__(module)
imported = time.process_time()
print(json.dumps([(started - start) * 1000, (imported - started) * 1000, sorted(sys.modules)]))
"""

DOORS = ["stepup.decorators", "stepup.mixins", "stepup.middleware"]
HEAVY = {"requests", "urllib3", "jwt", "cryptography"}


def test_importing_the_doors(benchmark: Any, report: Callable[..., None]) -> None:
    """In a process in which Django has been set up."""
    subjects: dict[str, Callable[[], Any]] = {
        "ours": lambda: _in_new_process(modules=["stepup.decorators"])[1],
        "theirs": lambda: _in_new_process(modules=["mozilla_django_oidc.middleware"])[1],
    }
    medians = interleaved(benchmark, ROUNDS, "ours", subjects)
    peer = Other(medians["theirs"], None, "the base library's middleware")
    report(what="import stepup.decorators", unit="ms", ours=medians["ours"], peer=peer)


def test_the_doors_bring_nothing_heavy() -> None:
    _, _, modules = _in_new_process(modules=DOORS)
    assert not HEAVY.intersection(modules)


def test_start_up(benchmark: Any, report: Callable[..., None]) -> None:
    subjects: dict[str, Callable[[], Any]] = {
        "ours": lambda: _in_new_process(apps=["stepup"])[0],
        "without": lambda: _in_new_process()[0],
    }
    medians = interleaved(benchmark, ROUNDS, "ours", subjects)
    peer = Other(medians["without"], None, "without it")
    report(what="django.setup() with stepup", unit="ms", ours=medians["ours"], peer=peer)


def _in_new_process(*, apps: list[str] | None = None, modules: list[str] | None = None) -> Any:
    """Milliseconds of CPU time for `django.setup()` and for importing some modules, and the modules there then."""
    script = _SITE.format(apps=apps or [], modules=modules or [])
    return json.loads(subprocess.run([sys.executable, "-c", script], capture_output=True, check=True).stdout)
