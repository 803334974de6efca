"""A requirement that is only reported changes nothing, at any door, and is told once for each request."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from typing import Any

import pytest
from asgiref.sync import async_to_sync
from django.contrib.auth.decorators import login_not_required, login_required
from django.contrib.auth.middleware import LoginRequiredMiddleware
from django.contrib.auth.models import AnonymousUser, User
from django.contrib.sessions.backends.db import SessionStore
from django.http import HttpRequest, HttpResponse, HttpResponseForbidden
from django.template import engines
from django.test import AsyncClient, AsyncRequestFactory, Client
from django.urls import path

from stepup import Requirement, gate, report_only, signals
from stepup.decorators import mfa_required, stepup_required
from stepup.gate import Aged
from stepup.testing.provider.launcher import RunningProvider
from tests import urls
from tests.test_doors import KINDS, MFA, OPEN, STATES, set_up, user
from tests.urls import MFA_DOORS, SECRET, plain
from tests.visitor import Visitor

__all__ = ["user"]

LOGIN_REQUIRED = "django.contrib.auth.middleware.LoginRequiredMiddleware"


class StaffEntrance(LoginRequiredMiddleware):
    """A site's own: some pages are for everybody, and others are refused."""

    def process_view(self, request: HttpRequest, view_func: Any, view_args: Any, view_kwargs: Any) -> Any:
        if request.path == "/decorated/":
            return None
        return super().process_view(request, view_func, view_args, view_kwargs)

    def handle_no_permission(self, request: HttpRequest, view_func: Any) -> Any:
        if request.path == "/class-async/":
            return self.get_response(request)
        return HttpResponseForbidden(f"{view_func.__module__}.{view_func.__name__}")


async def ademanding(request: HttpRequest) -> HttpResponse:
    await gate.ademand(request, "mfa")
    return HttpResponse(SECRET)


def refusing(request: HttpRequest) -> HttpResponse:
    raise gate.StepUpRequired("mfa")


@login_not_required
def public(request: HttpRequest) -> HttpResponse:
    return HttpResponse(SECRET)


@login_not_required
async def apublic(request: HttpRequest) -> HttpResponse:
    return HttpResponse(SECRET)


def numbered(request: HttpRequest, number: int) -> HttpResponse:
    return HttpResponse(SECRET)


urlpatterns = [
    *urls.urlpatterns,
    path("demanded-async/", ademanding),
    path("refused/", refusing),
    path("public/", mfa_required(public)),
    path("public-async/", mfa_required(apublic)),
    path("signed-in/", mfa_required(login_required(login_url="/enter/", redirect_field_name="to")(plain))),
    path("twice/", mfa_required(stepup_required("mfa")(plain))),
    path("inner/", stepup_required("sudo")(mfa_required(plain))),
    path("outer/", mfa_required(stepup_required("sudo")(plain))),
    path("number/<int:number>/", mfa_required(numbered), name="number"),
]

#: Doors of the requirement "mfa", apart from the one that asks for itself and then raises.
DOORS = [door for door in (*MFA_DOORS, "/demanded-async/") if door != "/raised-async/"]
#: Those whose door stands on the view, and tells LoginRequiredMiddleware to leave it alone.
ON_VIEWS = [door for door in MFA_DOORS if not any(part in door for part in ("by-name", "payroll", "raised"))]
UNMET = sorted(STATES.keys() - OPEN)


@pytest.fixture(autouse=True)
def tried_out(settings: Any) -> None:
    settings.ROOT_URLCONF = __name__
    settings.STEPUP = {**settings.STEPUP, "REPORT_ONLY": ["mfa"]}


@pytest.fixture
def lines(caplog: pytest.LogCaptureFixture) -> Any:
    caplog.set_level(logging.INFO, "stepup")
    return lambda: [record for record in caplog.records if record.name == "stepup"]


@pytest.fixture
def heard() -> Iterator[list[dict[str, Any]]]:
    received: list[dict[str, Any]] = []

    def receive(**kwargs: Any) -> None:
        received.append(kwargs)

    signals.reported.connect(receive)
    yield received
    signals.reported.disconnect(receive)


def client_of(user: User, issuer: str, state: str) -> Client:
    client = Client()
    set_up(client, user, issuer, STATES[state])
    return client


def events(lines: Any) -> list[Any]:
    return [line.event for line in lines() if line.event != "misconfigured"]


@pytest.mark.parametrize("method", ["get", "post"])
@pytest.mark.parametrize("state", UNMET)
@pytest.mark.parametrize("door", DOORS)
def test_every_door_lets_the_request_pass_and_tells_it(
    op: RunningProvider, user: User, lines: Any, heard: list[dict[str, Any]], door: str, state: str, method: str
) -> None:
    client = client_of(user, op.issuer, state)
    before = dict(client.session)

    response = getattr(client, method)(f"{door}?secret=1", headers=KINDS["page"])

    assert (response.status_code, response.content.decode()) == (200, SECRET)
    assert not {"Cache-Control", "Location"} & set(response.headers)
    assert not response.cookies
    assert dict(client.session) == before
    (line,) = [line for line in lines() if line.event != "misconfigured"]
    (told,) = heard
    assert line.event == "would_challenge"
    assert (line.requirement, line.path) == ("mfa", door)
    assert line.user_pk == (user.pk if STATES[state] is not None else None)
    assert line.reasons == [str(unmet) for unmet in told["decision"].unmet] != []
    assert line.kind == {"get": "page", "post": "form"}[method]
    assert line.getMessage() == f"Step-up would have been challenged: mfa ({', '.join(line.reasons)}) at {door}"
    assert "secret" not in repr(vars(line) | {"request": None, "args": None})
    assert told["requirement"].name == "mfa"
    assert told["request"].path == door


@pytest.mark.parametrize("state", ["nobody is signed in", "signed in without evidence"])
@pytest.mark.parametrize("door", DOORS)
def test_an_asynchronous_server_does_the_same(
    op: RunningProvider, user: User, lines: Any, door: str, state: str
) -> None:
    client: Any = AsyncClient()
    set_up(client, user, op.issuer, STATES[state])

    response = async_to_sync(client.get)(door, headers=KINDS["page"])

    assert (response.status_code, response.content.decode()) == (200, SECRET)
    assert "Cache-Control" not in response
    assert events(lines) == ["would_challenge"]


@pytest.mark.parametrize("make_client", [Client, AsyncClient])
@pytest.mark.parametrize("door", DOORS)
def test_who_satisfies_it_gets_the_page_as_the_view_makes_it_and_nothing_is_told(
    op: RunningProvider, user: User, lines: Any, door: str, make_client: Any
) -> None:
    client = make_client()
    set_up(client, user, op.issuer, {"proofs": MFA})
    ask = client.get if make_client is Client else async_to_sync(client.get)

    response = ask(door)

    assert response.content.decode() == SECRET
    assert "Cache-Control" not in response
    assert events(lines) == []


@pytest.mark.parametrize(
    ("kind", "told"),
    [
        ("page", "page"),
        ("page of an old browser", "page"),
        ("fetch", "script"),
        ("xhr", "script"),
        ("prefetch", "script"),
        ("json", "script"),
        ("htmx", "htmx"),
    ],
)
def test_the_kind_of_request_is_told(op: RunningProvider, lines: Any, kind: str, told: str) -> None:
    Client().get("/decorated/", headers=KINDS[kind])
    assert [line.kind for line in lines() if line.event == "would_challenge"] == [told]


def test_the_view_is_told_by_its_name(op: RunningProvider, lines: Any) -> None:
    Client().get("/number/5/")
    Client().get("/payroll/list/")
    Client().get("/twice/")
    told = [line.view for line in lines() if line.event == "would_challenge"]
    assert told == ["number", "payroll:list", "tests.urls.plain"]


def test_a_path_makes_no_second_line(rf: Any, op: RunningProvider, lines: Any) -> None:
    request = rf.get("/a%0Ab/")
    request.user, request.session = AnonymousUser(), SessionStore()
    assert gate.check(request, "mfa") is None
    (line,) = lines()
    assert (line.path, line.view) == ("/a%0Ab/", "")
    assert "\n" not in line.getMessage()


@pytest.mark.parametrize("path_", ["/twice/", "/by-name/"])
def test_several_doors_tell_of_one_request_once(op: RunningProvider, settings: Any, lines: Any, path_: str) -> None:
    settings.STEPUP = {**settings.STEPUP, "PROTECTED_VIEWS": {"*": "mfa"}, "REPORT_ONLY": ["mfa", "sudo"]}
    Client().get(path_)
    assert events(lines) == ["would_challenge"]


@pytest.mark.parametrize("path_", ["/inner/", "/outer/"])
def test_a_door_that_is_enforced_stays_so_beside_one_that_is_not(
    op: RunningProvider, user: User, settings: Any, path_: str
) -> None:
    assert client_of(user, op.issuer, "signed in without evidence").get(path_).status_code == 302

    settings.STEPUP = {**settings.STEPUP, "REPORT_ONLY": ["sudo"]}
    opened = client_of(user, op.issuer, "elevated").get(path_)
    assert opened.content.decode() == SECRET
    assert "no-store" in opened["Cache-Control"]


def test_other_requirements_are_enforced(op: RunningProvider, user: User) -> None:
    client = client_of(user, op.issuer, "signed in without evidence")
    assert [client.get(door).status_code for door in ("/sudo/", "/sudo-class/", "/own/")] == [302, 302, 302]


def test_the_name_with_another_max_age_is_only_reported_too(op: RunningProvider, user: User, lines: Any) -> None:
    assert client_of(user, op.issuer, "elevated long ago").get("/fresh/").content.decode() == SECRET
    (line,) = lines()
    assert (line.requirement, line.reasons) == ("mfa", ["amr: stale"])


def test_another_requirement_of_the_same_name_is_enforced(rf: Any, op: RunningProvider) -> None:
    request = rf.get("/", headers=KINDS["page"])
    request.user, request.session = AnonymousUser(), SessionStore()
    assert gate.check(request, Aged("mfa", 5)) is None
    assert gate.check(request, Requirement(name="mfa", acr=("gold",))) is not None
    assert gate.check(request, Requirement(amr=("mfa",))) is not None
    # Without its age it would be none at all.
    assert gate.check(request, Requirement(name="mfa", max_age=60)) is not None


def test_asking_the_gate_from_asynchronous_code_gives_the_same(op: RunningProvider) -> None:
    def request() -> Any:
        made: Any = AsyncRequestFactory().get("/", headers=KINDS["page"])
        made.session = SessionStore()

        async def auser() -> AnonymousUser:
            return AnonymousUser()

        made.auser = auser
        return made

    assert async_to_sync(gate.acheck)(request(), "mfa") is None
    refusal = async_to_sync(gate.acheck)(request(), "sudo")
    assert refusal is not None
    assert refusal["Location"].startswith(op.issuer)


def test_a_page_for_which_somebody_has_stepped_up_can_be_asked_for_as_before(visitor: Visitor) -> None:
    visitor.sign_in()
    visitor.come_back(visitor.authenticate(visitor.get("/oidc/authenticate/?stepup=mfa&next=/open/")))
    assert "open" in visitor.get("/").content.decode()
    assert visitor.get("/twice/").status_code == 200


# ---- Whoever is not signed in ----


@pytest.mark.parametrize("make_client", [Client, AsyncClient])
@pytest.mark.parametrize("place", ["before", "behind"])
@pytest.mark.parametrize("door", ["/open/", *DOORS])
def test_login_required_middleware_sends_people_to_sign_in_as_if_there_were_no_door(
    op: RunningProvider, settings: Any, door: str, place: str, make_client: Any
) -> None:
    position = len(settings.MIDDLEWARE) - (place == "before")
    settings.MIDDLEWARE = [*settings.MIDDLEWARE[:position], LOGIN_REQUIRED, *settings.MIDDLEWARE[position:]]
    client = make_client()
    ask = client.get if make_client is Client else async_to_sync(client.get)

    response = ask(f"{door}?a=1", headers=KINDS["fetch"])

    assert (response.status_code, response["Location"]) == (302, f"/oidc/authenticate/?next={door}%3Fa%3D1")
    assert "Cache-Control" not in response


@pytest.mark.parametrize("door", ON_VIEWS)
def test_a_door_that_sends_somebody_to_sign_in_has_told_it(
    op: RunningProvider, settings: Any, lines: Any, door: str
) -> None:
    settings.MIDDLEWARE = [*settings.MIDDLEWARE, LOGIN_REQUIRED]
    Client().get(door)
    assert events(lines) == ["would_challenge"]


@pytest.mark.parametrize("door", DOORS)
def test_who_is_signed_in_passes_under_login_required_middleware(
    op: RunningProvider, user: User, settings: Any, door: str
) -> None:
    settings.MIDDLEWARE = [*settings.MIDDLEWARE, LOGIN_REQUIRED]
    response = client_of(user, op.issuer, "signed in without evidence").get(door)
    assert response.content.decode() == SECRET


@pytest.mark.parametrize("path_", ["/public/", "/public-async/"])
def test_what_login_required_middleware_leaves_open_stays_open(op: RunningProvider, settings: Any, path_: str) -> None:
    settings.MIDDLEWARE = [*settings.MIDDLEWARE, LOGIN_REQUIRED]
    assert Client().get(path_).content.decode() == SECRET


@pytest.mark.parametrize("middleware", [[], [LOGIN_REQUIRED]])
def test_a_view_that_has_a_place_to_sign_in_of_its_own_keeps_it(
    op: RunningProvider, settings: Any, middleware: list[str]
) -> None:
    settings.MIDDLEWARE = [*settings.MIDDLEWARE, *middleware]
    assert Client().get("/signed-in/")["Location"] == "/enter/?to=/signed-in/"


def test_a_sub_class_of_the_middleware_is_asked_itself(op: RunningProvider, settings: Any) -> None:
    settings.MIDDLEWARE = [*settings.MIDDLEWARE, f"{__name__}.StaffEntrance"]
    assert Client().get("/decorated/").content.decode() == SECRET
    assert Client().get("/stepup-bare/").content.decode() == "tests.urls.plain"
    assert Client().get("/class/").content.decode() == "tests.urls.view"
    assert Client().get("/class-async/").status_code == 404, "the rest of the site is not its to ask"


def test_without_a_url_the_middleware_is_asked_all_the_same(rf: Any, op: RunningProvider, settings: Any) -> None:
    settings.MIDDLEWARE = [*settings.MIDDLEWARE, LOGIN_REQUIRED]
    request = rf.get("/somewhere/")
    request.user, request.session = AnonymousUser(), SessionStore()
    answer = gate.check(request, "mfa")
    assert answer is not None
    assert answer["Location"] == "/oidc/authenticate/?next=/somewhere/"


def test_a_middleware_that_cannot_be_imported_or_is_a_function_is_passed_over(settings: Any) -> None:
    settings.MIDDLEWARE = ["missing.Middleware", f"{__name__}.plain", LOGIN_REQUIRED]
    from stepup import conf

    assert conf.current().installed(LoginRequiredMiddleware) is LoginRequiredMiddleware
    assert conf.current().installed(StaffEntrance) is None


# ---- What code below a view is told ----


def tag(request: HttpRequest) -> str:
    template = engines["django"].from_string('{% load stepup %}{% satisfies "mfa" as ok %}{{ ok|yesno:"open,shut" }}')
    return template.render({}, request)


def test_who_is_signed_in_is_shown_everything_and_who_is_not_nothing(
    op: RunningProvider, user: User, lines: Any
) -> None:
    client = client_of(user, op.issuer, "signed in without evidence")
    request = client.get("/open/").wsgi_request
    assert gate.decide(request, "mfa").satisfied
    assert tag(request) == "open"
    assert not gate.decide(request, "sudo").satisfied
    stranger = Client().get("/open/").wsgi_request
    assert not gate.decide(stranger, "mfa").satisfied
    assert tag(stranger) == "shut"
    assert events(lines) == [], "nobody would have been challenged"


def test_code_that_asks_for_itself_and_raises_goes_on_for_who_is_signed_in(op: RunningProvider, user: User) -> None:
    client: Any = AsyncClient()
    set_up(client, user, op.issuer, {})
    assert async_to_sync(client.get)("/raised-async/").content.decode() == SECRET
    assert async_to_sync(AsyncClient().get)("/raised-async/").status_code == 302


def test_what_has_been_raised_is_answered_since_it_cannot_go_on(op: RunningProvider, user: User, lines: Any) -> None:
    client = client_of(user, op.issuer, "signed in without evidence")
    assert client.get("/refused/", headers=KINDS["page"])["Location"].startswith(op.issuer)
    assert events(lines) == ["challenged"]


@pytest.mark.parametrize("make_client", [Client, AsyncClient])
def test_demanding_from_asynchronous_code_is_demanding(
    op: RunningProvider, user: User, settings: Any, make_client: Any
) -> None:
    settings.STEPUP = {**settings.STEPUP, "REPORT_ONLY": []}
    shut, opened = make_client(), make_client()
    set_up(shut, user, op.issuer, {})
    set_up(opened, user, op.issuer, {"proofs": MFA})
    ask = [each.get if make_client is Client else async_to_sync(each.get) for each in (shut, opened)]

    assert ask[0]("/demanded-async/", headers=KINDS["page"])["Location"].startswith(op.issuer)
    response = ask[1]("/demanded-async/")
    assert response.content.decode() == SECRET
    assert "no-store" in response["Cache-Control"]


def test_what_a_view_said_of_sign_in_is_noted_from_below_all_doors() -> None:
    views: list[Any] = [
        mfa_required(stepup_required("sudo")(public)),
        mfa_required(stepup_required("sudo")(plain)),
    ]
    assert [view.stepup_login_required for view in views] == [False, True]
    assert [view.login_required for view in views] == [False, False]


def test_a_site_without_it_is_asked_nothing_more(settings: Any) -> None:
    settings.STEPUP = {**settings.STEPUP, "REPORT_ONLY": []}
    assert not report_only.covers(Requirement(name="mfa", amr=("mfa",)))
