"""`stepup.gate`: what may be required, and what happens where a requirement is none."""

from __future__ import annotations

from typing import Any

import pytest
from asgiref.sync import async_to_sync
from django.contrib.auth.models import AnonymousUser
from django.contrib.sessions.backends.db import SessionStore
from django.core.exceptions import ImproperlyConfigured, PermissionDenied
from django.http import HttpResponse
from django.test import AsyncRequestFactory, Client

from stepup import Requirement, gate
from stepup.gate import Aged, StepUpRequired
from stepup.testing.provider.launcher import RunningProvider
from tests.visitor import Visitor


@pytest.fixture
def anonymous(rf: Any, db: None) -> Any:
    request = rf.get("/")
    request.user, request.session = AnonymousUser(), SessionStore()
    return request


@pytest.mark.parametrize(
    "needs", ["unknown", None, 5, lambda request: None, lambda request: "unknown", Aged("unknown", 5)]
)
def test_what_is_no_requirement_opens_nothing(anonymous: Any, needs: Any) -> None:
    with pytest.raises(ImproperlyConfigured):
        gate.guard(anonymous, needs, lambda request: pytest.fail("the view was called"))


@pytest.mark.parametrize("max_age", [-1, "300", 1.5, True, None])
def test_a_max_age_that_is_none_shows_when_the_view_is_defined(max_age: Any) -> None:
    with pytest.raises(ValueError, match=r"max_age|demands no proof"):
        Aged("mfa", max_age)


def test_a_requirement_resolves_to_itself_and_a_name_to_that_of_the_settings(anonymous: Any) -> None:
    own = Requirement(acr=("urn:own",))
    assert gate.resolve(anonymous, own) is own
    assert gate.resolve(anonymous, lambda request: own) is own
    assert gate.resolve(anonymous, "mfa").amr == ("mfa",)
    aged = gate.resolve(anonymous, Aged("mfa", 60))
    assert (aged.amr, aged.max_age, aged.name) == (("mfa",), 60, "mfa")


def test_deciding_asks_nobody_and_changes_nothing(anonymous: Any) -> None:
    decision = gate.decide(anonymous, "mfa")
    assert not decision
    assert [str(unmet) for unmet in decision.unmet] == ["sub: missing"]
    assert not anonymous.session.modified


def test_deciding_is_possible_from_asynchronous_code(db: None) -> None:
    request: Any = AsyncRequestFactory().get("/")

    async def auser() -> AnonymousUser:
        return AnonymousUser()

    request.auser, request.session = auser, SessionStore()
    assert not async_to_sync(gate.adecide)(request, "mfa")


def test_demanding_raises_what_a_site_without_the_middleware_answers_with_403(anonymous: Any) -> None:
    with pytest.raises(PermissionDenied) as caught:
        gate.demand(anonymous)
    assert isinstance(caught.value, StepUpRequired)
    assert caught.value.requirement == "mfa"


def test_without_the_middleware_the_page_stays_shut(op: RunningProvider, client: Client, settings: Any) -> None:
    settings.MIDDLEWARE = [name for name in settings.MIDDLEWARE if "stepup" not in name]
    assert client.get("/raised/").status_code == 403


def test_what_a_view_returns_that_is_no_response_is_left_to_django(visitor: Visitor, rf: Any) -> None:
    assert gate.seal(None) is None
    assert "no-store" in gate.seal(HttpResponse("x", headers={"Cache-Control": "public, max-age=600"}))["Cache-Control"]


def test_a_synchronous_wrapper_around_an_asynchronous_view_is_a_mistake_that_is_named(visitor: Visitor) -> None:
    async def view(request: Any) -> HttpResponse:
        return HttpResponse("shown")

    visitor.step_up("/decorated/")
    with pytest.raises(TypeError, match="put the door next to the view"):
        gate.guard(visitor.get("/open/").wsgi_request, "mfa", view)


def test_a_view_may_have_arguments_of_any_name(visitor: Visitor) -> None:
    visitor.step_up("/decorated/")
    request = visitor.get("/open/").wsgi_request
    given = {"view": "a", "needs": "b", "kwargs": "c"}

    assert gate.guard(request, "mfa", lambda request, **kwargs: kwargs, **given) == given


def test_caches_that_a_protected_view_asks_for_get_nothing(visitor: Visitor) -> None:
    visitor.step_up("/decorated/")
    control = visitor.get("/decorated/")["Cache-Control"]
    assert {"no-store", "private"} <= set(control.split(", "))
