"""`stepup.apps`: what a server that runs no system checks is told of mistakes."""

from __future__ import annotations

import logging
import threading
from typing import Any

import pytest
from django.core.signals import request_started
from django.test import Client

from stepup import checks
from stepup.testing.provider.launcher import RunningProvider


@pytest.fixture
def a_new_process(caplog: pytest.LogCaptureFixture) -> pytest.LogCaptureFixture:
    request_started.connect(checks.FirstRequest(), weak=False, dispatch_uid="stepup.checks")
    caplog.set_level(logging.DEBUG, "stepup")
    return caplog


def told(caplog: pytest.LogCaptureFixture) -> list[tuple[str, str]]:
    records: list[Any] = [record for record in caplog.records if getattr(record, "event", "") == "misconfigured"]
    return [(record.levelname, record.check) for record in records]


def test_a_protected_name_that_is_none_is_told_at_the_first_request_and_not_again(
    op: RunningProvider, settings: Any, a_new_process: pytest.LogCaptureFixture
) -> None:
    settings.STEPUP = {**settings.STEPUP, "PROTECTED_VIEWS": {"by_name": "mfa"}, "CLIENTS_WITH_MFA": ["another"]}

    Client().get("/open/")
    Client().get("/open/")

    assert told(a_new_process) == [("ERROR", "stepup.E027"), ("WARNING", "stepup.W041")]


def test_it_is_told_where_the_middleware_is_missing_too(
    op: RunningProvider, settings: Any, a_new_process: pytest.LogCaptureFixture
) -> None:
    settings.MIDDLEWARE = [name for name in settings.MIDDLEWARE if "stepup" not in name]

    Client().get("/open/")

    assert told(a_new_process) == [("ERROR", "stepup.E025")]


def test_where_the_development_server_has_told_already_it_is_not_told_again(
    op: RunningProvider, settings: Any, a_new_process: pytest.LogCaptureFixture
) -> None:
    settings.DEBUG = True
    settings.STEPUP = {**settings.STEPUP, "CLIENTS_WITH_MFA": ["another"]}

    Client().get("/open/")

    assert told(a_new_process) == []


class _Pausing(logging.Handler):
    """Stays with the first record until it may go on."""

    def __init__(self, events: list[str]) -> None:
        super().__init__()
        self.events, self.is_here, self.may_go_on = events, threading.Event(), threading.Event()

    def emit(self, record: logging.LogRecord) -> None:
        self.is_here.set()
        self.may_go_on.wait(10)
        self.events.append("told")


def test_requests_that_come_meanwhile_wait_until_all_is_loaded(
    op: RunningProvider, settings: Any, a_new_process: pytest.LogCaptureFixture
) -> None:
    settings.STEPUP = {**settings.STEPUP, "CLIENTS_WITH_MFA": ["another"]}
    events: list[str] = []

    def request() -> None:
        request_started.send(sender=None)
        events.append("went on")

    handler = _Pausing(events)
    logging.getLogger("stepup").addHandler(handler)
    threads = [threading.Thread(target=request) for _ in range(2)]
    try:
        threads[0].start()
        assert handler.is_here.wait(10)
        threads[1].start()
        threads[1].join(0.2)
    finally:
        handler.may_go_on.set()
        for thread in threads:
            thread.join()
        logging.getLogger("stepup").removeHandler(handler)

    assert events == ["told", "went on", "went on"]
