"""The gate on a request that is allowed, where session and user are loaded already."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from typing import Any

import pytest
from django.contrib.auth import get_user_model, login
from django.contrib.auth.decorators import login_required
from django.contrib.auth.middleware import AuthenticationMiddleware
from django.contrib.sessions.backends.db import SessionStore
from django.db import connection
from django.http import HttpRequest, HttpResponse, HttpResponseForbidden
from django.test import RequestFactory
from django.test.utils import CaptureQueriesContext
from mozilla_django_oidc.middleware import SessionRefresh

from stepup import conf, session
from stepup.decorators import mfa_required
from tests.benchmarks.measure import Other, interleaved

CALLS = 300
ROUNDS = 60
#: A call that hops between threads takes a hundred times as long.
ASYNC_CALLS, ASYNC_ROUNDS = 60, 30

View = Callable[[HttpRequest], HttpResponse]
AsyncView = Callable[[HttpRequest], Awaitable[HttpResponse]]

#: What the views answer, one for each call: what a door writes on an answer must not be there already.
_answers: list[HttpResponse] = []


def bare(request: HttpRequest) -> HttpResponse:
    return _answers.pop()


def by_hand(request: HttpRequest) -> HttpResponse:
    return _answers.pop() if "mfa" in request.session["amr"] else HttpResponseForbidden()


async def abare(request: HttpRequest) -> HttpResponse:
    return _answers.pop()


async def aby_hand(request: HttpRequest) -> HttpResponse:
    amr: Any = await request.session.aget("amr")
    return _answers.pop() if "mfa" in amr else HttpResponseForbidden()


#: What else may stand in front of a view, and how much of that the gate may cost.
OTHERS: dict[str, float | None] = {"login_required": 1.0, "SessionRefresh": None}


class Visits:
    """Requests of somebody who is signed in and has passed multi-factor authentication, as many as are wanted."""

    def __init__(self) -> None:
        self.factory = RequestFactory()
        self.middleware = AuthenticationMiddleware(lambda request: HttpResponse())
        self.user = user = get_user_model().objects.create_user("anna")
        request = self.factory.get("/salary/")
        request.session = SessionStore()
        login(request, user, backend="stepup.backends.StepUpBackend")
        now = int(time.time())
        claims = {"iss": conf.current().issuer, "sub": "auth0|anna", "auth_time": now, "amr": ["pwd", "mfa"]}
        session.record(request, user, claims)
        session.note_renewal(request, due=now + 3600)
        request.session["amr"] = claims["amr"]
        request.session.save()
        self.session_key = request.session.session_key

    def request(self) -> HttpRequest:
        request = self.factory.get("/salary/")
        request.session = SessionStore(self.session_key)
        self.middleware.process_request(request)
        return request

    def loaded(self, count: int) -> list[HttpRequest]:
        requests = [self.request() for _ in range(count)]
        for request in requests:
            request.session.get("amr")
        return requests

    async def _auser(self) -> Any:
        return self.user

    def again(self, requests: list[HttpRequest]) -> None:
        """As they came: with the user behind Django's proxy, loaded, and answers for all of them."""
        for request in requests:
            self.middleware.process_request(request)
            request.user.pk  # noqa: B018 - which loads the user
            request.auser = self._auser
        _answers[:] = [HttpResponse() for _ in requests]


@pytest.fixture
def visits(db: None, settings: Any) -> Visits:
    settings.OIDC_OP_AUTHORIZATION_ENDPOINT = "https://op.example/authorize"
    return Visits()


def test_gate_sync(benchmark: Any, visits: Visits, report: Callable[..., None]) -> None:
    views: dict[str, View] = {
        "bare": bare,
        "gate": mfa_required(bare),
        "gate with max_age": mfa_required(max_age=3600)(bare),
        "by hand": by_hand,
        "login_required": login_required(bare),
        "SessionRefresh": SessionRefresh(bare),
    }
    requests = visits.loaded(CALLS)

    def timed(view: View) -> Callable[[], float]:
        def timed() -> float:
            visits.again(requests)
            start = time.perf_counter()
            for request in requests:
                view(request)
            spent = time.perf_counter() - start
            assert not _answers
            return spent / CALLS * 1e6

        return timed

    medians = interleaved(benchmark, ROUNDS, "gate", {name: timed(view) for name, view in views.items()})
    _report(report, "gate, sync", medians)
    _report(report, "gate with max_age, sync", medians, "gate with max_age")


def test_gate_async(benchmark: Any, visits: Visits, report: Callable[..., None]) -> None:
    views: dict[str, AsyncView] = {
        "bare": abare,
        "gate": mfa_required(abare),
        "by hand": aby_hand,
        "login_required": login_required(abare),
        "SessionRefresh": SessionRefresh(abare),
    }
    requests, loop = visits.loaded(ASYNC_CALLS), asyncio.new_event_loop()

    async def serve(view: AsyncView) -> float:
        start = time.perf_counter()
        for request in requests:
            await view(request)
        spent = time.perf_counter() - start
        assert not _answers
        return spent / ASYNC_CALLS * 1e6

    def timed(view: AsyncView) -> Callable[[], float]:
        def timed() -> float:
            visits.again(requests)
            return loop.run_until_complete(serve(view))

        return timed

    medians = interleaved(benchmark, ASYNC_ROUNDS, "gate", {name: timed(view) for name, view in views.items()})
    loop.close()
    _report(report, "gate, async", medians)


def test_gate_adds_no_query(visits: Visits) -> None:
    """None where session and user are loaded; and where they are not, none that `login_required` does not make."""
    made = {}
    for name, view in {"gate": mfa_required(bare), "login_required": login_required(bare)}.items():
        _answers[:] = [HttpResponse(), HttpResponse()]
        request = visits.request()
        with CaptureQueriesContext(connection) as captured:
            view(request)
        made[name] = len(captured)
        with CaptureQueriesContext(connection) as captured:
            view(request)
        assert len(captured) == 0
    assert made == {"gate": 2, "login_required": 2}


def _report(report: Callable[..., None], what: str, medians: dict[str, float], ours: str = "gate") -> None:
    """With what the bare view costs taken off."""
    net = {name: median - medians["bare"] for name, median in medians.items()}
    for name, target in OTHERS.items():
        report(
            what=what,
            unit="µs",
            ours=net[ours],
            floor=Other(net["by hand"]),
            peer=Other(net[name], target, name),
        )
