"""`stepup.apps`: what a server that runs no system checks is told of mistakes."""

from __future__ import annotations

import logging
from typing import Any

import pytest
from django.core.signals import request_started
from django.test import Client

from stepup import checks
from stepup.testing.provider.launcher import RunningProvider


@pytest.fixture
def a_new_process(caplog: pytest.LogCaptureFixture) -> pytest.LogCaptureFixture:
    request_started.connect(checks.tell_at_first_request, dispatch_uid="stepup.checks")
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
