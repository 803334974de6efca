"""`stepup.statements`: what the site itself has verified opens the doors that ask for it, and nothing else changes."""

from __future__ import annotations

import json
import math
import subprocess
import sys
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from django.contrib import auth
from django.contrib.auth import get_user_model
from django.contrib.auth.models import AnonymousUser, User
from django.contrib.sessions.backends.db import SessionStore as DatabaseStore
from django.db import OperationalError
from django.http import HttpRequest, HttpResponse
from django.test import AsyncClient, Client
from django.urls import path

import stepup
from stepup import clock, conf, links, session, signals
from stepup.logout_token import Logout
from stepup.models import Identity, SessionLink
from stepup.statements import StatementRefused
from stepup.testing.provider.launcher import RunningProvider
from tests import urls as site_urls
from tests.test_logout import without_table
from tests.urls import SECRET
from tests.visitor import Visitor

Visit = Callable[[str], Visitor]


def stating(request: HttpRequest) -> HttpResponse:
    """Takes what it is to state from the request, as no site would."""
    said = stepup.record(request, **json.loads(request.GET["said"]))
    return HttpResponse(json.dumps(sorted(said.proofs)))


async def astating(request: HttpRequest) -> HttpResponse:
    await stepup.arecord(request, **json.loads(request.GET["said"]))
    return HttpResponse()


def entering(request: HttpRequest) -> HttpResponse:
    """Signs in with a password and a factor of the site's own, at once."""
    auth.login(request, User.objects.get(username="local"), "django.contrib.auth.backends.ModelBackend")
    stepup.record(request, amr=["mfa"])
    return HttpResponse(SECRET)


urlpatterns = [
    *site_urls.urlpatterns,
    path("stating/", stating),
    path("astating/", astating),
    path("entering/", entering),
]


@pytest.fixture(autouse=True)
def pages(op: RunningProvider, settings: Any) -> Iterator[None]:
    settings.ROOT_URLCONF = "tests.test_statements"
    yield
    clock.offset = 0.0


@pytest.fixture
def user(db: None) -> User:
    user: User = User.objects.create_user("local", email="local@harbour.example")
    return user


@pytest.fixture
def local(user: User) -> Client:
    """The browser of somebody who has signed in here, and not through the OP."""
    client = Client()
    client.force_login(user, "django.contrib.auth.backends.ModelBackend")
    return client


def state(client: Client, **said: Any) -> None:
    answer = client.get("/stating/", {"said": json.dumps(said)})
    assert answer.status_code == 200


def is_open(client: Client, at: str = "/decorated/") -> bool:
    response = client.get(at)
    assert response.status_code in (200, 302)
    return response.status_code == 200


def evidence_of(client: Client, user: Any) -> Any:
    return session.read_evidence(client.session, user)


# ---- What it opens ----


def test_what_the_site_states_opens_the_page_that_asks_for_it(local: Client, user: User) -> None:
    assert not is_open(local)

    state(local, amr=["mfa"])

    assert is_open(local)
    evidence = evidence_of(local, user)
    assert evidence.subject == ""
    assert evidence.issuer == conf.current().issuer
    assert evidence.auth_time == evidence.proofs["amr"]["mfa"] == pytest.approx(clock.now(), abs=2)


def test_a_password_alone_is_not_called_mfa(local: Client) -> None:
    state(local, amr=["pwd"])

    assert not is_open(local)
    assert is_open(local, "/sudo/"), "which asks for a recent sign-in alone"


def test_a_sign_in_with_a_factor_of_the_sites_own_is_one_step(user: User) -> None:
    client = Client()
    assert client.get("/entering/").status_code == 200
    assert is_open(client)


def test_a_class_and_the_claims_of_the_settings_can_be_stated_too(local: Client, settings: Any, user: User) -> None:
    settings.STEPUP = {**settings.STEPUP, "REQUIREMENTS": {"high": {"claims": {"vot": ["P2"]}}}}

    state(local, acr=["urn:own"], claims={"vot": ["P2"]})

    assert is_open(local, "/own/")
    assert set(evidence_of(local, user).proofs) == {"acr", "vot"}


@pytest.mark.django_db(transaction=True)
async def test_it_can_be_stated_from_asynchronous_code(user: User) -> None:
    client = AsyncClient()
    await client.aforce_login(user, "django.contrib.auth.backends.ModelBackend")
    assert (await client.get("/astating/", {"said": '{"amr": ["mfa"]}'})).status_code == 200
    assert (await client.get("/decorated-async/")).status_code == 200


def test_what_was_verified_earlier_is_as_old_as_it_is(local: Client) -> None:
    state(local, amr=["mfa"], auth_time=clock.now() - 400)

    assert is_open(local)
    assert not is_open(local, "/fresh/")
    state(local, amr=["mfa"], auth_time=clock.now() - 200.5)
    assert is_open(local, "/fresh/")


def test_a_time_alone_says_that_the_user_was_there(local: Client) -> None:
    state(local, auth_time=clock.now() - 10)
    assert is_open(local, "/sudo/")
    assert not is_open(local)


def test_a_clock_that_is_a_little_ahead_is_forgiven_and_gains_nothing(local: Client, user: User) -> None:
    state(local, amr=["mfa"], auth_time=clock.now() + 20)
    assert evidence_of(local, user).auth_time <= clock.now()


# ---- What is refused ----


@pytest.mark.parametrize(
    ("said", "error"),
    [
        ({"amr": "mfa"}, TypeError),
        ({"amr": None}, TypeError),
        ({"amr": b"mfa"}, TypeError),
        ({"amr": (value for value in ["mfa"])}, TypeError),
        ({"amr": {"mfa": 1}}, TypeError),
        ({"amr": [1]}, TypeError),
        ({"amr": [["mfa"]]}, TypeError),
        ({"amr": [""]}, ValueError),
        ({"amr": ["x" * 256]}, ValueError),
        ({"amr": [str(number) for number in range(65)]}, ValueError),
        ({"acr": "urn:own"}, TypeError),
        ({"claims": {"unknown": ["x"]}}, ValueError),
        ({"claims": {"amr": ["mfa"]}}, ValueError),
        ({"claims": {"auth_time": ["1"]}}, ValueError),
        ({"claims": {1: ["1"]}}, ValueError),
        ({"claims": ["vot"]}, TypeError),
        ({"claims": ""}, TypeError),
        ({}, ValueError),
        ({"amr": []}, ValueError),
        ({"amr": ["mfa"], "auth_time": "1"}, TypeError),
        ({"amr": ["mfa"], "auth_time": True}, TypeError),
        ({"amr": ["mfa"], "auth_time": -1}, ValueError),
        ({"amr": ["mfa"], "auth_time": math.nan}, ValueError),
        ({"amr": ["mfa"], "auth_time": math.inf}, ValueError),
        ({"amr": ["mfa"], "auth_time": 10**400}, ValueError),
        ({"amr": ["mfa"], "auth_time": 99_999_999_999}, ValueError),
    ],
)
def test_what_is_malformed_is_an_error_that_says_so_and_nothing_is_recorded(
    local: Client, user: User, rf: Any, said: dict[str, Any], error: type[Exception]
) -> None:
    request = rf.get("/")
    request.user, request.session = user, local.session
    request.COOKIES = {"sessionid": local.session.session_key}
    before = dict(request.session)

    with pytest.raises(error, match=r"^(amr|acr|claims|auth_time): |^nothing is stated"):
        stepup.record(request, **said)

    assert dict(request.session) == before
    assert not request.session.modified


def test_a_time_beyond_leeway_is_in_the_future(local: Client, user: User, rf: Any) -> None:
    request = rf.get("/")
    request.user, request.session = user, local.session
    with pytest.raises(ValueError, match="in the past"):
        stepup.record(request, amr=["mfa"], auth_time=clock.now() + 35)


def test_of_nobody_nothing_is_stated(rf: Any, db: None) -> None:
    request = rf.get("/")
    request.user, request.session = AnonymousUser(), Client().session

    with pytest.raises(StatementRefused, match="statement: anonymous") as raised:
        stepup.record(request, amr=["mfa"])

    assert raised.value.reason == "anonymous"
    assert not session.holds_evidence(request.session)


def test_a_session_that_was_ended_in_another_tab_does_not_come_back(local: Client, user: User, rf: Any) -> None:
    request = rf.get("/")
    request.user, request.session = user, local.session
    request.COOKIES = {"sessionid": local.session.session_key}
    request.session.get("loaded")
    local.logout()

    with pytest.raises(StatementRefused, match="statement: ended"):
        stepup.record(request, amr=["mfa"])

    assert not session.holds_evidence(request.session)


# ---- The session ----


def test_the_session_gets_a_new_key_and_the_old_one_is_worth_nothing(local: Client) -> None:
    session_before = local.session
    session_before["basket"] = 3
    session_before.save()
    before = local.cookies["sessionid"].value

    state(local, amr=["mfa"])

    assert local.cookies["sessionid"].value != before
    assert local.session["basket"] == 3
    thief = Client()
    thief.cookies["sessionid"] = before
    assert thief.get("/").content == b"|shut"


def test_a_session_in_the_cookie_itself_can_be_elevated_too(settings: Any, user: User) -> None:
    settings.SESSION_ENGINE = "django.contrib.sessions.backends.signed_cookies"
    settings.STEPUP = {**settings.STEPUP, "BACK_CHANNEL_LOGOUT": "end"}
    local = Client()
    local.force_login(user, "django.contrib.auth.backends.ModelBackend")
    state(local, amr=["mfa"])
    assert is_open(local)


def test_it_takes_nothing_away_that_is_there(local: Client, user: User) -> None:
    state(local, amr=["mfa"], acr=["urn:own"])
    known = evidence_of(local, user)

    state(local, amr=["hwk"], auth_time=clock.now() - 500)

    evidence = evidence_of(local, user)
    assert evidence.auth_time == known.auth_time
    assert evidence.proofs["amr"]["mfa"] == known.proofs["amr"]["mfa"]
    assert set(evidence.proofs["amr"]) == {"mfa", "hwk"}
    assert evidence.proofs["acr"] == known.proofs["acr"]


def test_another_user_of_the_session_has_proved_nothing(local: Client, user: User) -> None:
    state(local, amr=["mfa"])
    assert evidence_of(local, User.objects.create_user("other")) is None


# ---- Beside the OP ----


def test_it_is_added_to_what_the_op_has_said_and_what_the_op_has_said_stays_what_it_was(visitor: Visitor) -> None:
    visitor.sign_in()
    user = get_user_model().objects.get()
    stored = visitor.session["stepup"]

    state(visitor.client, amr=["mfa"])

    assert is_open(visitor.client)
    assert evidence_of(visitor.client, user).subject == "stepup|anna"
    assert visitor.session["stepup"]["sid"] == stored["sid"]
    request = HttpRequest()
    request.session, request.user = visitor.session, user
    claims = session.claims(request)
    assert claims["sub"] == "stepup|anna"
    assert "amr" not in claims, "which is for the newest ID token"
    assert visitor.step_up("/own/").status_code in (302, 403)


def test_a_step_up_at_the_op_keeps_what_the_site_has_stated(local: Client, user: User, visit: Visit) -> None:
    op_issuer = conf.current().issuer
    Identity.objects.create(issuer=op_issuer, subject="stepup|anna", user=user)
    state(local, amr=["own"])
    assert session.claims(_request(local, user)) == {}, "no ID token came"
    anna = visit("anna")
    anna.client = local

    back = anna.step_up("/decorated/")

    assert (back.status_code, back["Location"]) == (302, "/decorated/")
    evidence = evidence_of(local, user)
    assert evidence.subject == "stepup|anna"
    assert set(evidence.proofs["amr"]) == {"own", "mfa"}
    assert session.claims(_request(local, user))["amr"] == ["mfa"]


def test_who_is_somebody_else_at_the_op_is_refused_and_keeps_what_was_stated(
    local: Client, user: User, visit: Visit
) -> None:
    Identity.objects.create(issuer=conf.current().issuer, subject="stepup|anna", user=user)
    state(local, amr=["own"])
    ben = visit("ben")
    ben.client = local

    back = ben.step_up("/decorated/", "totp")

    assert (back.status_code, back.context["verdict"]) == (403, "wrong_user")
    assert set(evidence_of(local, user).proofs["amr"]) == {"own"}


def _request(client: Client, user: User) -> HttpRequest:
    request = HttpRequest()
    request.session, request.user = client.session, user
    return request


@pytest.mark.parametrize("mode", ["end", "lower"])
@pytest.mark.parametrize("has_middleware", [True, False])
def test_the_op_can_end_the_session_still(
    op: RunningProvider, visitor: Visitor, settings: Any, mode: str, has_middleware: bool
) -> None:
    settings.STEPUP = {**settings.STEPUP, "BACK_CHANNEL_LOGOUT": mode}
    if not has_middleware:
        settings.MIDDLEWARE = [each for each in settings.MIDDLEWARE if "StepUp" not in each]
        settings.STEPUP = {**settings.STEPUP, "PROTECTED_VIEWS": {}}
    visitor.sign_in()
    state(visitor.client, amr=["mfa"])
    assert is_open(visitor.client)
    (link,) = SessionLink.objects.all()

    assert links.end(Logout(op.issuer, link.subject, None, clock.now(), "j")) == 1

    assert not is_open(visitor.client)
    if has_middleware:
        assert ("_auth_user_id" in visitor.session) == (mode == "lower")


@pytest.mark.parametrize("mode", ["end", "lower"])
def test_what_the_op_ends_in_this_moment_is_not_elevated(
    visitor: Visitor, settings: Any, monkeypatch: pytest.MonkeyPatch, mode: str
) -> None:
    settings.STEPUP = {**settings.STEPUP, "BACK_CHANNEL_LOGOUT": mode}
    visitor.sign_in()
    create = DatabaseStore.create

    def meanwhile(store: DatabaseStore) -> None:
        SessionLink.objects.update(ended=True)
        create(store)

    monkeypatch.setattr(DatabaseStore, "create", meanwhile)
    answer = visitor.client.get("/stating/", {"said": '{"amr": ["mfa"]}'})

    assert answer.status_code == 403

    assert not is_open(visitor.client)


def test_a_database_that_fails_grants_nothing_and_signs_nobody_out(visitor: Visitor, settings: Any) -> None:
    settings.STEPUP = {**settings.STEPUP, "BACK_CHANNEL_LOGOUT": "end"}
    visitor.sign_in()

    with without_table(SessionLink), pytest.raises(OperationalError):
        visitor.client.get("/stating/", {"said": '{"amr": ["mfa"]}'})

    assert visitor.get("/").content.endswith(b"|shut")
    assert "_auth_user_id" in visitor.session


# ---- Who hears of it ----


def test_it_is_told_to_the_log_and_to_receivers(local: Client, user: User, caplog: pytest.LogCaptureFixture) -> None:
    heard: list[dict[str, Any]] = []

    def hear(**kwargs: Any) -> None:
        heard.append(kwargs)

    signals.elevated.connect(hear)
    try:
        with caplog.at_level("INFO", logger="stepup"):
            state(local, amr=["secret-method"])
    finally:
        signals.elevated.disconnect(hear)

    (line,) = [each for each in caplog.records if getattr(each, "event", "") == "stated"]
    assert (line.claims, line.user_pk) == (("amr", "auth_time"), user.pk)  # type: ignore[attr-defined]
    assert "secret-method" not in line.getMessage()
    (told,) = heard
    assert (told["requirement"], told["user"], told["by"]) == (None, user, "site")
    assert set(told["evidence"].proofs["amr"]) == {"secret-method"}


def test_the_package_loads_it_only_when_it_is_asked_for() -> None:
    code = (
        "import sys, stepup; assert 'django' not in sys.modules; assert 'record' in stepup.__all__;"
        "\ntry: stepup.nothing\nexcept AttributeError as error: print(error)"
    )
    done = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True)
    assert done.stdout.strip() == "module 'stepup' has no attribute 'nothing'"
    assert stepup.record.__module__ == "stepup.statements"
