"""A sign-in is renewed without the user's knowing, and nobody is signed out by it: with the real OP, over HTTP."""

from __future__ import annotations

import hashlib
import json
import logging
import re
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from asgiref.sync import async_to_sync
from django.contrib.auth import get_user_model, logout
from django.contrib.sessions.backends.base import UpdateError
from django.core.cache import cache
from django.core.cache.backends.locmem import LocMemCache
from django.core.exceptions import ImproperlyConfigured, SuspiciousOperation
from django.http import HttpRequest, HttpResponse
from django.test import AsyncClient, Client
from django.urls import include, path

from stepup import clock, renewal, session, vault
from stepup.backends import StepUpBackend
from stepup.exceptions import ProviderError
from stepup.middleware import SessionRenewalMiddleware
from stepup.renewal import COOL_DOWN
from stepup.session import Renewal
from stepup.testing.provider import Configuration, RunningProvider, launch
from tests import urls as site_urls
from tests.conftest import op_client
from tests.hostile_op import TOKEN, HostileOP, answer, closed_port
from tests.test_personalities import EXPECTED
from tests.threads import closing_connections
from tests.tokens import claims, sign
from tests.visitor import Visitor, query

#: Seconds after a sign-in at which it is due again.
DUE = 901

MIDDLEWARE = [
    "django.contrib.sessions.middleware.SessionMiddleware",
    "django.contrib.auth.middleware.AuthenticationMiddleware",
    "stepup.middleware.SessionRenewalMiddleware",
    "stepup.middleware.StepUpMiddleware",
]
#: With something that may happen between the load of a session and what becomes of the request.
LATE = [*MIDDLEWARE[:2], "tests.test_renewal.Late", *MIDDLEWARE[2:]]
PAGE = {"Sec-Fetch-Mode": "navigate", "Accept": "text/html"}
FORM = {**PAGE, "Sec-Fetch-Site": "same-origin"}
NO_PAGE = {
    "fetch": {"Sec-Fetch-Mode": "cors", "Accept": "*/*"},
    "xhr": {"X-Requested-With": "XMLHttpRequest"},
    "json": {"Accept": "application/json"},
    "htmx": {"HX-Request": "true", "Sec-Fetch-Mode": "cors"},
    "htmx of an old browser": {"HX-Request": "true", "Accept": "text/html"},
    "prefetch": {"Sec-Fetch-Mode": "navigate", "Sec-Purpose": "prefetch"},
}
#: Navigations too, but not of the whole page, or not for certain.
NOT_THE_PAGE = {
    "frame": {"Sec-Fetch-Mode": "navigate", "Sec-Fetch-Dest": "iframe", "Accept": "text/html"},
    "picture in an old browser": {"Accept": "image/avif,image/webp,*/*;q=0.8"},
    "tool": {"Accept": "*/*"},
    "simple tool": {},
}
PAGES = [
    PAGE,
    {"Sec-Fetch-Mode": "navigate", "Sec-Fetch-Dest": "document"},
    {"Accept": "text/html,application/xhtml+xml,*/*;q=0.8"},
]


class Interrupted(StepUpBackend):
    """While it asks the OP, something happens in another request."""

    meanwhile: Callable[[], object] = dict

    def verify_token(self, token: Any, **kwargs: Any) -> dict[str, Any]:
        found = super().verify_token(token, **kwargs)
        type(self).meanwhile()
        return found


def notes(request: HttpRequest, number: int = 0) -> HttpResponse:
    return HttpResponse(f"{request.user.get_username()}|{request.method}")


async def anotes(request: HttpRequest) -> HttpResponse:
    return HttpResponse(f"{(await request.auser()).get_username()}|{request.method}")


def basket(request: HttpRequest) -> HttpResponse:
    request.session["basket"] = request.GET["put"]
    Interrupted.meanwhile()
    return HttpResponse("kept")


async def abasket(request: HttpRequest) -> HttpResponse:
    await request.session.aset("basket", "here")
    return HttpResponse("kept")


def leave(request: HttpRequest) -> HttpResponse:
    logout(request)
    return HttpResponse("bye")


urlpatterns = [
    *site_urls.urlpatterns,
    path("notes/", notes, name="notes"),
    path("notes/<int:number>/", notes, name="note"),
    path("anotes/", anotes),
    path("basket/", basket),
    path("abasket/", abasket),
    path("leave/", leave),
    path("app/", include(([path("notes/", notes, name="notes")], "app"))),
]


@pytest.fixture(autouse=True)
def nobody_interrupts() -> Iterator[None]:
    yield
    Interrupted.meanwhile = Overtaking.at_load = dict


def arrange(settings: Any, **changes: Any) -> None:
    settings.ROOT_URLCONF = "tests.test_renewal"
    settings.MIDDLEWARE = MIDDLEWARE
    settings.STEPUP = {**settings.STEPUP, **changes}


@pytest.fixture
def by_browser(op: RunningProvider, settings: Any) -> RunningProvider:
    """The site, which keeps no refresh token."""
    arrange(settings)
    return op


@pytest.fixture
def by_token(op: RunningProvider, settings: Any) -> RunningProvider:
    """The site, which keeps refresh tokens, and the OP, which gives them."""
    arrange(settings, KEEP_REFRESH_TOKEN=True, RENEWAL_GRACE=600)
    settings.OIDC_RP_SCOPES = "openid email offline_access"
    return op


@pytest.fixture
def anna(op: RunningProvider) -> Visitor:
    return Visitor("anna")


def answers_again(settings: Any) -> None:
    del settings.OIDC_OP_TOKEN_ENDPOINT
    settings.STEPUP = {**settings.STEPUP}  # Django tells nobody when a setting is taken away


def refreshes(op: RunningProvider) -> int:
    return sum("refresh_token" in request.form for request in op.requests())


def sent_to(op: RunningProvider, response: Any) -> dict[str, str]:
    """The parameters of the authentication request that a response is."""
    assert response.status_code in (302, 303), response.content
    assert response["Location"].startswith(f"{op.issuer}authorize?")
    return query(response["Location"])


def shows(response: Any, username: str | None = None) -> bool:
    name = get_user_model().objects.get().get_username() if username is None else username
    return bool(
        response.status_code == 200 and response.content.decode() == f"{name}|{response.request['REQUEST_METHOD']}"
    )


def state(visitor: Visitor) -> Renewal:
    """How it stands with the renewal, as the session has it."""
    stored = visitor.session.get("stepup_renewal", {})
    return Renewal(
        locked=stored.get("token"),
        failing_since=stored.get("since"),
        not_before=stored.get("next", 0),
        ended=stored.get("ended", ""),
    )


def refresh_token(visitor: Visitor) -> str:
    locked = state(visitor).locked
    assert locked is not None
    return str(json.loads(vault.unlock(locked, purpose="refresh-token"))["token"])


def proofs(visitor: Visitor) -> Any:
    store = visitor.session
    evidence = session.read_evidence(store, get_user_model().objects.get(pk=store["_auth_user_id"]))
    return None if evidence is None else evidence.proofs


def events(caplog: pytest.LogCaptureFixture, *names: str) -> list[tuple[str, str]]:
    return [
        (getattr(record, "event", ""), getattr(record, "reason", getattr(record, "by", "")))
        for record in caplog.records
        if getattr(record, "event", "") in names
    ]


# Whom it concerns, and what it costs


def test_what_is_not_due_goes_on_without_a_query_or_a_look_at_the_cache(
    by_token: RunningProvider, anna: Visitor, settings: Any, django_assert_num_queries: Any
) -> None:
    anna.sign_in()
    settings.STEPUP = {**settings.STEPUP, "CACHE": "untouched"}
    settings.CACHES = {**settings.CACHES, "untouched": {"BACKEND": "tests.test_renewal.Untouchable"}}
    settings.MIDDLEWARE = [path for path in MIDDLEWARE if "Renewal" not in path]
    with django_assert_num_queries(2):
        anna.get("/notes/")
    settings.MIDDLEWARE = MIDDLEWARE
    with django_assert_num_queries(2):
        anna.get("/notes/")
    with django_assert_num_queries(4):  # to save a session takes that many
        anna.get("/basket/?put=book")
    assert refreshes(by_token) == 0


class Untouchable(LocMemCache):
    def __init__(self, *args: Any) -> None:
        raise AssertionError("nobody should look into it")


def test_a_visitor_without_a_session_gets_none(by_token: RunningProvider, client: Client) -> None:
    answer = client.get("/open/")
    assert (answer.status_code, answer.has_header("Vary"), dict(client.cookies)) == (200, False, {})


def test_users_who_signed_in_with_a_password_of_this_site_are_left_alone(
    by_browser: RunningProvider, anna: Visitor
) -> None:
    user = get_user_model().objects.create_user("local", "anna@harbour.example")
    anna.client.force_login(user, "django.contrib.auth.backends.ModelBackend")
    anna.step_up("/decorated/")  # so that there is evidence, and a time at which it is due
    clock.offset = DUE
    assert shows(anna.get("/notes/", **PAGE), "local")


@pytest.mark.parametrize(
    ("path_", "ours"),
    [
        ("stepup.backends.StepUpBackend", True),
        ("tests.test_renewal.Interrupted", True),
        ("mozilla_django_oidc.auth.OIDCAuthenticationBackend", False),
        ("tests.gone.Backend", False),
        ("tests.urls.plain", False),
        ("", False),
    ],
)
def test_it_is_told_from_the_backend_that_vouched(path_: str, ours: bool) -> None:
    assert renewal._is_ours(path_) is ours


def test_whoever_acts_as_another_user_is_not_renewed_as_that_one(by_token: RunningProvider, anna: Visitor) -> None:
    anna.sign_in()
    other = get_user_model().objects.create_user("other")
    stored = anna.session
    stored["_auth_user_id"] = str(other.pk)
    stored["_auth_user_hash"] = other.get_session_auth_hash()
    stored.save()
    clock.offset = DUE

    assert shows(anna.get("/notes/", **PAGE), "other")
    assert refreshes(by_token) == 0


def test_somebody_who_is_not_signed_in_any_more_is_left_alone(by_token: RunningProvider, anna: Visitor) -> None:
    anna.sign_in()
    stored = anna.session
    del stored["_auth_user_id"]
    stored.save()
    clock.offset = DUE

    assert shows(anna.get("/notes/", **PAGE), "")


@pytest.mark.parametrize(
    ("exempt", "page"),
    [
        (["notes"], "/notes/"),
        (["app:notes"], "/app/notes/"),
        (["note"], "/notes/7/"),
        (["/notes/"], "/notes/"),
        ([re.compile("/notes/[0-9]+")], "/notes/7/"),
        (["other", re.compile("other"), "/notes/"], "/notes/"),
    ],
)
def test_exempt_pages_renew_nothing(
    by_browser: RunningProvider, anna: Visitor, settings: Any, exempt: Any, page: str
) -> None:
    anna.sign_in()
    clock.offset = DUE
    settings.OIDC_EXEMPT_URLS = exempt
    assert shows(anna.get(page, **PAGE))

    settings.OIDC_EXEMPT_URLS = ["app", "/note", re.compile("otes")]
    assert sent_to(by_browser, anna.get(page, **PAGE))["prompt"] == "none"


def test_the_views_of_the_round_trip_renew_nothing(by_browser: RunningProvider, anna: Visitor) -> None:
    anna.sign_in()
    clock.offset = DUE
    assert "prompt" not in sent_to(by_browser, anna.get("/oidc/authenticate/", **PAGE))
    assert anna.get("/oidc/callback/?state=x", **PAGE).status_code == 400
    assert anna.client.post("/oidc/logout/")["Location"] == "/"


def test_a_mistake_in_the_settings_stops_the_server_where_it_starts(settings: Any) -> None:
    settings.STEPUP = {**settings.STEPUP, "RENEWAL_GRACE": "an hour"}
    with pytest.raises(ImproperlyConfigured, match="RENEWAL_GRACE"):
        SessionRenewalMiddleware(lambda request: None)


# Through the browser


def test_a_page_that_is_due_goes_to_the_op_and_comes_back_at_once(
    by_browser: RunningProvider, anna: Visitor, caplog: pytest.LogCaptureFixture
) -> None:
    anna.sign_in()
    key = anna.session.session_key
    clock.offset = DUE
    sent = anna.get("/notes/?page=2", **PAGE)
    assert sent_to(by_browser, sent)["prompt"] == "none"
    assert {"code_challenge", "nonce", "state"} <= sent_to(by_browser, sent).keys()
    (pending,) = anna.session["stepup_pending"].values()
    assert pending["silent"] is True

    with caplog.at_level(logging.INFO, "stepup"):
        back = anna.come_back(anna.authenticate(sent, None))

    assert back["Location"] == "/notes/?page=2"
    assert shows(anna.get("/notes/", **PAGE))
    assert events(caplog, "renewed", "elevated") == [("renewed", "prompt")]
    assert anna.session.session_key == key, "requests with this key may be on their way"
    assert state(anna) == Renewal()
    clock.offset = DUE + DUE
    assert sent_to(by_browser, anna.get("/notes/", **PAGE))["prompt"] == "none", "and so on"


def test_what_the_site_asks_with_cannot_make_it_visible(
    by_browser: RunningProvider, anna: Visitor, settings: Any
) -> None:
    anna.sign_in()
    clock.offset = DUE
    settings.OIDC_AUTH_REQUEST_EXTRA_PARAMS = {"prompt": "login", "ui_locales": "sv"}
    sent = sent_to(by_browser, anna.get("/notes/", **PAGE))
    assert (sent["prompt"], sent["ui_locales"]) == ("none", "sv")


def test_earlier_evidence_counts_after_it_at_the_time_at_which_it_was_proved(
    by_browser: RunningProvider, anna: Visitor
) -> None:
    anna.step_up("/fresh/")
    before = proofs(anna)
    assert before["amr"]["mfa"] is not None
    clock.offset = DUE
    anna.come_back(anna.authenticate(anna.get("/notes/", **PAGE), None))

    assert proofs(anna) == before
    assert anna.get("/decorated/").status_code == 200
    assert anna.get("/fresh/").status_code == 302, "it is no fresher than it was"


def test_it_proves_no_second_factor(by_browser: RunningProvider, anna: Visitor) -> None:
    anna.sign_in()
    clock.offset = DUE
    anna.come_back(anna.authenticate(anna.get("/notes/", **PAGE), None))
    assert anna.get("/decorated/").status_code == 302


def test_a_renewal_that_brings_more_than_was_known_gives_the_session_a_new_key(
    by_browser: RunningProvider, anna: Visitor, settings: Any
) -> None:
    anna.sign_in()
    key = anna.session.session_key
    clock.offset = DUE
    sent = anna.get("/notes/", **PAGE)
    by_browser.behave("answers_acr_zero")
    anna.come_back(anna.authenticate(sent, None))

    assert proofs(anna) == {"acr": {"0": None}}
    assert anna.session.session_key != key


@pytest.mark.parametrize("kind", [*NO_PAGE, *NOT_THE_PAGE])
@pytest.mark.parametrize("path_", ["/notes/", "/anotes/"])
def test_what_is_no_page_is_not_interrupted(by_browser: RunningProvider, anna: Visitor, kind: str, path_: str) -> None:
    anna.sign_in()
    clock.offset = DUE
    assert shows(anna.get(path_, **{**NO_PAGE, **NOT_THE_PAGE}[kind]))
    assert sent_to(by_browser, anna.get(path_, **PAGE))["prompt"] == "none"


@pytest.mark.parametrize("headers", PAGES)
def test_what_a_page_is_browsers_say(by_browser: RunningProvider, anna: Visitor, headers: dict[str, str]) -> None:
    anna.sign_in()
    clock.offset = DUE
    assert sent_to(by_browser, anna.get("/notes/", **headers))["prompt"] == "none"


def test_a_page_that_nobody_would_find_back_to_is_not_interrupted(by_browser: RunningProvider, anna: Visitor) -> None:
    anna.sign_in()
    clock.offset = DUE
    assert shows(anna.get(f"/notes/?{'x' * 2000}", **PAGE))


@pytest.mark.parametrize("method", ["post", "put", "delete", "options"])
def test_a_form_is_not_interrupted(by_browser: RunningProvider, anna: Visitor, method: str) -> None:
    anna.sign_in()
    clock.offset = DUE
    assert shows(getattr(anna.client, method)("/notes/", headers=PAGE))


def test_several_pages_may_be_on_their_way(by_browser: RunningProvider, anna: Visitor, settings: Any) -> None:
    anna.sign_in()
    clock.offset = DUE
    sent = anna.get("/notes/", **PAGE)
    assert shows(anna.get("/notes/", **PAGE)), "one renewal does for all"
    assert anna.come_back(anna.authenticate(sent, None))["Location"] == "/notes/"


@pytest.mark.parametrize("forgets", [True, False])
def test_where_the_op_has_nobody_signed_in_the_user_signs_in_and_comes_back_to_the_page(
    by_browser: RunningProvider, anna: Visitor, caplog: pytest.LogCaptureFixture, forgets: bool
) -> None:
    anna.step_up("/decorated/")
    clock.offset = DUE
    sent = anna.get("/notes/", **PAGE)
    by_browser.reset()  # and with that it has forgotten her session

    asked = anna.come_back(anna.authenticate(sent, None))
    assert "prompt" not in sent_to(by_browser, asked)
    assert ("renewal_failed", "error: login_required") in events(caplog, "renewal_failed")
    assert anna.session["_auth_user_id"], "she stays signed in here"

    # Whoever goes back instead has to sign in all the same, and no form is carried out.
    with caplog.at_level(logging.INFO, "stepup"):
        assert "prompt" not in sent_to(by_browser, anna.get("/notes/", **PAGE))
    assert events(caplog, "sign_in_required")[-1] == ("sign_in_required", "error: login_required")
    told = anna.get("/notes/", **NO_PAGE["fetch"], Referer="http://testserver/notes/")
    assert (told.status_code, told.json()) == (
        401,
        {
            "error": "login_required",
            "requirement": "",
            "step_up_url": "/oidc/authenticate/?next=http%3A%2F%2Ftestserver%2Fnotes%2F",
        },
    )
    assert anna.get("/notes/", **NO_PAGE["htmx"])["HX-Redirect"].startswith("/oidc/authenticate/")
    assert "prompt" not in sent_to(by_browser, anna.client.post("/notes/", headers=FORM))
    refused = anna.client.put("/notes/", headers=PAGE)
    assert (refused.status_code, refused.context["step_up_url"]) == (403, "/oidc/authenticate/?next=%2Fnotes%2F")

    back = anna.come_back(anna.authenticate(asked, None))
    assert back["Location"] == "/notes/"
    assert shows(anna.get("/notes/", **PAGE))
    assert state(anna) == Renewal()
    assert anna.get("/decorated/").status_code == 302, "what was proved was so in a session that the OP has ended"


def test_what_the_op_has_said_no_to_is_not_put_off_by_another_tab(by_browser: RunningProvider, anna: Visitor) -> None:
    anna.sign_in()
    clock.offset = DUE
    first = sent_to(by_browser, anna.get("/notes/", **PAGE))
    clock.offset += COOL_DOWN + 1
    second = sent_to(by_browser, anna.get("/notes/", **PAGE))
    for sent, error in ((first, "login_required"), (second, "server_error")):
        anna.client.get("/oidc/callback/", {"error": error, "state": sent["state"], "iss": by_browser.issuer})
    assert "prompt" not in sent_to(by_browser, anna.get("/notes/", **PAGE))


def test_a_provider_that_answers_nothing_but_login_required_is_no_loop(
    by_browser: RunningProvider, anna: Visitor
) -> None:
    anna.sign_in()
    clock.offset = DUE
    response = anna.get("/notes/", **PAGE)
    for _ in range(2):
        sent = sent_to(by_browser, response)
        response = anna.client.get(
            "/oidc/callback/", {"error": "login_required", "state": sent["state"], "iss": by_browser.issuer}
        )
    assert (response.status_code, response.context["verdict"]) == (403, "unmet")
    assert anna.session["_auth_user_id"]


def test_coming_back_as_another_user_changes_nobody(by_browser: RunningProvider, anna: Visitor) -> None:
    anna.step_up("/decorated/")
    before = proofs(anna)
    clock.offset = DUE
    sent = anna.get("/notes/", **PAGE)
    ben = Visitor("ben")
    ben.sign_in()

    back = anna.come_back(ben.authenticate(sent, None))

    assert (back.status_code, back.context["verdict"]) == (403, "wrong_user")
    assert anna.session["stepup"]["sub"] == "stepup|anna"
    assert proofs(anna) == before


def test_another_session_of_the_same_user_at_the_op_ends_what_was_proved_in_the_last(
    by_browser: RunningProvider, anna: Visitor
) -> None:
    anna.step_up("/decorated/")
    clock.offset = DUE
    sent = anna.get("/notes/", **PAGE)
    elsewhere = Visitor("anna")
    elsewhere.sign_in()

    assert anna.come_back(elsewhere.authenticate(sent, None))["Location"] == "/notes/"
    assert shows(anna.get("/notes/", **PAGE))
    assert anna.get("/decorated/").status_code == 302
    assert anna.session["stepup"]["sid"] == elsewhere.session["stepup"]["sid"]


def test_a_step_up_in_another_session_at_the_op_leaves_what_was_proved(
    by_browser: RunningProvider, anna: Visitor
) -> None:
    anna.step_up("/decorated/")
    by_browser.reset()
    anna.person.session.cookies.clear()
    anna.come_back(anna.authenticate(anna.get("/sudo/"), None))
    assert anna.get("/decorated/").status_code == 200


def test_a_step_up_that_the_end_of_the_session_at_the_op_has_overtaken_is_asked_for_again(
    by_browser: RunningProvider, anna: Visitor, settings: Any
) -> None:
    """Nothing disagrees about the evidence here: it is no more, and so is what it has satisfied."""
    settings.OIDC_RENEW_ID_TOKEN_EXPIRY_SECONDS = 3
    assert anna.step_up("/decorated/")["Location"] == "/decorated/"
    # On its way back to the page the sign-in is due, and the OP has forgotten it.
    clock.offset = 4
    by_browser.reset()
    declined = anna.come_back(anna.authenticate(anna.get("/decorated/", **PAGE), None))
    anna.person.session.cookies.clear()

    assert anna.come_back(anna.authenticate(declined, None))["Location"] == "/decorated/"
    assert "acr_values" in sent_to(by_browser, anna.get("/decorated/", **PAGE))


# While the OP is down


def test_a_browser_that_did_not_come_back_is_shown_the_page_until_the_grace_is_over(
    by_browser: RunningProvider, anna: Visitor, settings: Any
) -> None:
    settings.STEPUP = {**settings.STEPUP, "RENEWAL_GRACE": 150}
    anna.sign_in()
    clock.offset = DUE
    assert sent_to(by_browser, anna.get("/notes/", **PAGE))["prompt"] == "none"
    assert shows(anna.get("/notes/", **PAGE))
    clock.offset = DUE + COOL_DOWN + 1
    assert sent_to(by_browser, anna.get("/notes/", **PAGE))["prompt"] == "none", "every minute one tries again"
    assert shows(anna.client.post("/notes/", headers=FORM))

    clock.offset = DUE + 151
    assert "prompt" not in sent_to(by_browser, anna.get("/notes/", **PAGE))
    assert anna.get("/notes/", **NO_PAGE["fetch"]).status_code == 401
    assert "prompt" not in sent_to(by_browser, anna.client.post("/notes/", headers=FORM)), "and the form waits"
    assert anna.session["_auth_user_id"]

    anna.come_back(anna.authenticate(anna.get("/notes/", **PAGE), None))
    assert shows(anna.get("/notes/", **PAGE))


@pytest.mark.parametrize("error", ["server_error", "temporarily_unavailable"])
def test_an_op_that_answers_with_an_error_of_its_own_lets_the_user_go_on(
    by_browser: RunningProvider, anna: Visitor, settings: Any, error: str, caplog: pytest.LogCaptureFixture
) -> None:
    anna.sign_in()
    clock.offset = DUE

    def fail() -> Any:
        sent = sent_to(by_browser, anna.get("/notes/", **PAGE))
        assert sent["prompt"] == "none"
        answer = {"error": error, "state": sent["state"], "iss": by_browser.issuer}
        return anna.client.get("/oidc/callback/", answer)

    assert fail()["Location"] == "/notes/"
    assert events(caplog, "renewal_failed") == [("renewal_failed", f"error: {error}")]
    assert shows(anna.get("/notes/", **PAGE))
    settings.STEPUP = {**settings.STEPUP, "RENEWAL_GRACE": 3 * COOL_DOWN}
    clock.offset += COOL_DOWN + 1
    sent = anna.get("/notes/", **PAGE)
    clock.offset += 2 * COOL_DOWN
    answer = {"error": error, "state": sent_to(by_browser, sent)["state"], "iss": by_browser.issuer}
    asked = anna.client.get("/oidc/callback/", answer)
    assert "prompt" not in sent_to(by_browser, asked), "that was long enough"


def test_an_op_that_cannot_be_asked_for_tokens_on_the_way_back_lets_the_user_go_on(
    by_browser: RunningProvider, anna: Visitor
) -> None:
    anna.sign_in()
    clock.offset = DUE
    callback = anna.authenticate(anna.get("/notes/", **PAGE), None)
    by_browser.behave("token_server_error")

    assert anna.come_back(callback)["Location"] == "/notes/"
    assert shows(anna.get("/notes/", **PAGE))


def test_an_answer_to_a_renewal_that_is_refused_has_its_page_and_signs_nobody_out(
    by_browser: RunningProvider, anna: Visitor
) -> None:
    anna.sign_in()
    clock.offset = DUE
    sent = anna.get("/notes/", **PAGE)
    by_browser.behave("wrong_audience")
    back = anna.come_back(anna.authenticate(sent, None))
    assert (back.status_code, back.context["verdict"]) == (400, "invalid")
    assert shows(anna.get("/notes/", **PAGE))


@pytest.mark.parametrize("trouble", ["metadata", "par", "refusal"])
@pytest.mark.parametrize("grace", [600, 0])
def test_an_op_that_cannot_be_asked_beforehand_lets_the_user_go_on(
    by_browser: RunningProvider, anna: Visitor, settings: Any, trouble: str, grace: int
) -> None:
    anna.sign_in()
    settings.STEPUP = {**settings.STEPUP, "RENEWAL_GRACE": grace, "CACHE": None}
    if trouble == "metadata":
        by_browser.behave("metadata_server_error")
    else:
        settings.STEPUP = {**settings.STEPUP, "PUSHED_REQUESTS": True}
        by_browser.behave("par_server_error" if trouble == "par" else "well_behaved")
        if trouble == "refusal":
            settings.OIDC_RP_CLIENT_SECRET = "another secret than the one that the provider knows"
    clock.offset = DUE

    answer = anna.get("/notes/", **PAGE)

    if grace:
        assert shows(answer)
        assert shows(anna.get("/notes/", **PAGE)), "and is not asked again at once"
    else:
        assert (answer.status_code, answer.context["verdict"]) == (503, "unavailable")
    assert anna.session["_auth_user_id"]


# By refresh token


@pytest.mark.parametrize("method", ["get", "post", "put", "options"])
@pytest.mark.parametrize("headers", [PAGE, *NO_PAGE.values()])
def test_whatever_request_comes_first_renews_and_goes_on(
    by_token: RunningProvider,
    anna: Visitor,
    caplog: pytest.LogCaptureFixture,
    method: str,
    headers: dict[str, str],
) -> None:
    anna.sign_in()
    first, key = refresh_token(anna), anna.session.session_key
    clock.offset = DUE

    with caplog.at_level(logging.INFO, "stepup"):
        assert shows(getattr(anna.client, method)("/notes/", headers=headers))
    assert shows(anna.get("/notes/", **PAGE))

    assert refreshes(by_token) == 1
    assert events(caplog, "renewed") == [("renewed", "refresh_token")]
    assert refresh_token(anna) != first
    assert anna.session.session_key == key
    clock.offset = DUE + DUE
    assert shows(anna.get("/notes/", **PAGE))
    assert refreshes(by_token) == 2


def test_it_is_the_same_from_asynchronous_code(by_token: RunningProvider, anna: Visitor) -> None:
    anna.sign_in()
    clock.offset = DUE
    client = AsyncClient()
    client.cookies = anna.client.cookies

    async def visit(address: str) -> Any:
        return await client.get(address, headers=PAGE)

    assert shows_async(async_to_sync(visit)("/anotes/"))
    assert shows_async(async_to_sync(visit)("/anotes/"))
    assert async_to_sync(visit)("/abasket/").content == b"kept"
    assert refreshes(by_token) == 1
    clock.offset = DUE + DUE
    by_token.behave("refuses_refresh_tokens")
    assert sent_to(by_token, async_to_sync(visit)("/anotes/"))["prompt"] == "none"


def shows_async(response: Any) -> bool:
    name = get_user_model().objects.get().get_username()
    return bool(response.content.decode() == f"{name}|GET")


def test_a_refresh_token_is_kept_only_where_the_site_asks_for_it(
    by_token: RunningProvider, anna: Visitor, settings: Any
) -> None:
    settings.STEPUP = {**settings.STEPUP, "KEEP_REFRESH_TOKEN": False}
    anna.sign_in()
    assert "stepup_renewal" not in anna.session


def test_one_that_was_kept_is_not_used_once_the_site_asks_no_longer(
    by_token: RunningProvider, anna: Visitor, settings: Any
) -> None:
    anna.sign_in()
    settings.STEPUP = {**settings.STEPUP, "KEEP_REFRESH_TOKEN": False}
    clock.offset = DUE
    sent = anna.get("/notes/", **PAGE)
    assert sent_to(by_token, sent)["prompt"] == "none"
    anna.come_back(anna.authenticate(sent, None))
    assert (refreshes(by_token), state(anna).locked) == (0, None)


def test_without_the_scope_there_is_none(by_token: RunningProvider, anna: Visitor, settings: Any) -> None:
    settings.OIDC_RP_SCOPES = "openid email"
    anna.sign_in()
    assert "stepup_renewal" not in anna.session


def test_it_is_encrypted_and_shown_nowhere(by_token: RunningProvider, anna: Visitor) -> None:
    anna.sign_in()
    token = refresh_token(anna)
    assert token not in json.dumps(dict(anna.session.items()))
    assert token not in repr(state(anna))


@pytest.mark.parametrize(
    "change", ["another user", "another subject", "another issuer", "another key", "junk", "older"]
)
def test_it_is_bound_to_the_user_and_to_whom_the_evidence_is_about(
    by_token: RunningProvider, anna: Visitor, settings: Any, change: str
) -> None:
    anna.sign_in()
    stored = anna.session
    content = json.loads(vault.unlock(stored["stepup_renewal"]["token"], purpose="refresh-token"))
    changes: dict[str, dict[str, Any]] = {
        "another user": {"pk": "4711"},
        "another subject": {"sub": "stepup|ben"},
        "another issuer": {"iss": "https://other.example/"},
        "older": {"of": "another version"},
    }
    locked = vault.lock(json.dumps({**content, **changes.get(change, {})}).encode(), purpose="refresh-token")
    if change == "another key":
        settings.SECRET_KEY, before = "another secret key of this site", settings.SECRET_KEY
        locked = vault.lock(json.dumps(content).encode(), purpose="refresh-token")
        settings.SECRET_KEY = before
    stored["stepup_renewal"]["token"] = "junk" if change == "junk" else locked
    stored.save()
    clock.offset = DUE

    assert sent_to(by_token, anna.get("/notes/", **PAGE))["prompt"] == "none"
    assert refreshes(by_token) == 0


@pytest.mark.parametrize("junk", [5, [], {"token": 5, "since": "x", "next": -1, "ended": 5, "n": "x"}])
def test_a_session_that_is_damaged_is_renewed_through_the_browser(
    by_token: RunningProvider, anna: Visitor, junk: object
) -> None:
    anna.sign_in()
    stored = anna.session
    stored["stepup_renewal"] = junk
    stored.save()
    clock.offset = DUE
    assert sent_to(by_token, anna.get("/notes/", **PAGE))["prompt"] == "none"


def test_a_session_whose_expiry_is_damaged_is_left_alone(by_token: RunningProvider, anna: Visitor) -> None:
    anna.sign_in()
    for junk in ("soon", True, None):
        stored = anna.session
        stored["oidc_id_token_expiration"] = junk
        stored.save()
        clock.offset = DUE
        assert shows(anna.get("/notes/", **PAGE))


def test_sessions_that_are_cookies_keep_none(by_token: RunningProvider, anna: Visitor, settings: Any) -> None:
    settings.SESSION_ENGINE = "django.contrib.sessions.backends.signed_cookies"
    anna.sign_in()
    assert "stepup_renewal" not in anna.session
    clock.offset = DUE
    sent = anna.get("/notes/", **PAGE)
    assert sent_to(by_token, sent)["prompt"] == "none"
    callback = anna.authenticate(sent, None)
    by_token.behave("token_server_error")
    assert anna.come_back(callback)["Location"] == "/notes/"
    assert shows(anna.get("/notes/", **PAGE)), "what was put off is in the cookie"


def test_a_token_that_is_too_long_is_not_kept(settings: Any, db: None) -> None:
    with HostileOP() as op:
        arrange(settings, KEEP_REFRESH_TOKEN=True, ISSUER=op.url)
        for length, is_kept in ((renewal.MAX_TOKEN_LENGTH, True), (renewal.MAX_TOKEN_LENGTH + 1, False)):
            client = Client()
            url = client.get("/oidc/authenticate/")["Location"]
            client.get(op.vouch(url, response={"refresh_token": "x" * length}).removeprefix("http://testserver"))
            assert client.session["_auth_user_id"]
            assert ("stepup_renewal" in client.session) is is_kept


@pytest.mark.parametrize("junk", [None, 5, "", ["token"]])
def test_what_is_no_token_is_not_kept(settings: Any, db: None, junk: object) -> None:
    with HostileOP() as op:
        arrange(settings, KEEP_REFRESH_TOKEN=True, ISSUER=op.url)
        client = Client()
        url = client.get("/oidc/authenticate/")["Location"]
        client.get(op.vouch(url, response={"refresh_token": junk}).removeprefix("http://testserver"))
        assert client.session["_auth_user_id"]
        assert "stepup_renewal" not in client.session


def test_a_step_up_that_brings_none_leaves_the_one_that_is_held_unless_the_ops_session_is_another(
    by_token: RunningProvider, anna: Visitor, settings: Any
) -> None:
    anna.sign_in()
    token = refresh_token(anna)
    settings.OIDC_RP_SCOPES = "openid email"
    anna.step_up("/decorated/")
    assert refresh_token(anna) == token
    by_token.reset()
    anna.person.session.cookies.clear()
    anna.step_up("/sudo/")
    assert state(anna).locked is None


def test_earlier_evidence_of_the_same_session_counts_at_the_time_at_which_it_was_proved(
    by_token: RunningProvider, anna: Visitor
) -> None:
    anna.step_up("/fresh/")
    before = proofs(anna)
    clock.offset = DUE
    anna.get("/notes/")

    assert refreshes(by_token) == 1
    assert proofs(anna) == before
    assert anna.get("/decorated/").status_code == 200
    assert anna.get("/fresh/").status_code == 302


def test_an_op_that_repeats_amr_makes_it_no_fresher(settings: Any, db: None) -> None:
    client = op_client("site")
    repeating = type(client)(**{**vars(client), "refresh_tokens": True, "amr_when_refreshed": True})
    with launch(Configuration(purpose="tests", clients=(repeating,))) as op:
        arrange(settings, KEEP_REFRESH_TOKEN=True, ISSUER=op.issuer)
        anna = Visitor("anna")
        anna.step_up("/fresh/")
        before = proofs(anna)
        clock.offset = DUE
        anna.get("/notes/")

        assert refreshes(op) == 1, "without the scope: it is configured so"
        assert anna.session["stepup"].get("said") is None, "it said the same again"
        assert proofs(anna) == before
        assert anna.get("/fresh/").status_code == 302


def test_no_id_token_is_as_good_as_one(by_token: RunningProvider, anna: Visitor, settings: Any) -> None:
    settings.OIDC_STORE_ID_TOKEN = settings.OIDC_STORE_ACCESS_TOKEN = True
    anna.step_up("/decorated/")
    evidence, tokens = anna.session["stepup"], (anna.session["oidc_id_token"], anna.session["oidc_access_token"])
    by_token.behave("refresh_without_id_token")
    clock.offset = DUE

    assert shows(anna.get("/notes/", **PAGE))
    assert shows(anna.get("/notes/", **PAGE))
    assert refreshes(by_token) == 1
    assert anna.session["stepup"] == evidence
    assert anna.session["oidc_id_token"] == tokens[0], "the one that there is stays the hint"
    assert anna.session["oidc_access_token"] != tokens[1]


def test_the_hook_that_stores_tokens_is_given_the_new_ones(
    by_token: RunningProvider, anna: Visitor, settings: Any
) -> None:
    settings.OIDC_STORE_ID_TOKEN = settings.OIDC_STORE_ACCESS_TOKEN = True
    anna.sign_in()
    before = anna.session["oidc_id_token"], anna.session["oidc_access_token"]
    clock.offset = DUE
    anna.get("/notes/")
    after = anna.session["oidc_id_token"], anna.session["oidc_access_token"]
    assert before[0] != after[0]
    assert before[1] != after[1]


def test_an_op_that_does_not_rotate_is_asked_with_the_same_token_again(
    by_token: RunningProvider, anna: Visitor
) -> None:
    anna.sign_in()
    token = refresh_token(anna)
    by_token.behave("refresh_without_rotation")
    for turn in (1, 2):
        clock.offset = turn * DUE
        assert shows(anna.get("/notes/", **PAGE))
        assert (refreshes(by_token), refresh_token(anna)) == (turn, token)


RENEWALS = {name: expected.renewal for name, expected in EXPECTED.items() if expected.renewal}
ENDING = {"refresh_of_other_subject", "refresh_of_other_session"}


@pytest.mark.parametrize("name", RENEWALS)
@pytest.mark.parametrize("kind", ["page", "fetch"])
def test_a_refresh_that_comes_to_nothing(
    by_token: RunningProvider, anna: Visitor, caplog: pytest.LogCaptureFixture, name: str, kind: str
) -> None:
    # With a time at which she authenticated, for one of them to be later than.
    anna.step_up("/fresh/")
    before, token = proofs(anna), refresh_token(anna)
    by_token.behave(name)
    clock.offset = DUE

    answer = anna.get("/notes/", **(PAGE if kind == "page" else NO_PAGE["fetch"]))

    assert events(caplog, "renewal_failed") == [("renewal_failed", RENEWALS[name])]
    assert refreshes(by_token) == 1
    assert anna.session["_auth_user_id"], "nobody is signed out"
    if name in ENDING:
        assert (proofs(anna), state(anna)) == (None, Renewal(ended=RENEWALS[name]))
        if kind == "page":
            assert "prompt" not in sent_to(by_token, answer)
            by_token.behave("well_behaved")
            anna.come_back(anna.authenticate(answer, None))
            assert shows(anna.get("/notes/", **PAGE))
            assert anna.get("/decorated/").status_code == 302
        else:
            assert (answer.status_code, answer.json()["error"]) == (401, "login_required")
    elif name == "refresh_server_error":
        assert shows(answer)
        assert refresh_token(anna) == token, "the OP may not have got as far as to exchange it"
        # It had: so the token is taken for stolen, and the browser has to do.
        clock.offset = DUE + COOL_DOWN + 1
        by_token.behave("well_behaved")
        assert sent_to(by_token, anna.get("/notes/", **PAGE))["prompt"] == "none"
        assert events(caplog, "renewal_failed")[-1][1] == "token request refused: invalid_grant"
        assert proofs(anna) == before
    else:
        assert (state(anna).locked, proofs(anna)) == (None, before)
        if kind == "page":
            assert sent_to(by_token, answer)["prompt"] == "none", "the browser has to do"
        else:
            assert shows(answer)
            assert sent_to(by_token, anna.get("/notes/", **PAGE))["prompt"] == "none"
        assert anna.get("/decorated/").status_code == 200


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("expired", "exp: expired"),
        ("alg_none", "signature: missing"),
        ("wrong_at_hash", "at_hash: mismatch"),
        ("wrong_audience", "aud: mismatch"),
        ("wrong_nonce", "nonce: mismatch in a renewal"),
        ("issuer_suffix", "iss: mismatch"),
        ("no_subject", "sub: missing"),
    ],
)
def test_a_renewed_id_token_is_checked_as_any_other(
    by_token: RunningProvider, anna: Visitor, caplog: pytest.LogCaptureFixture, name: str, reason: str
) -> None:
    anna.step_up("/decorated/")
    by_token.behave(name)
    clock.offset = DUE
    assert sent_to(by_token, anna.get("/notes/", **PAGE))["prompt"] == "none"
    assert events(caplog, "renewal_failed") == [("renewal_failed", reason)]
    assert anna.get("/decorated/").status_code == 200


def test_an_audience_of_ours_is_not_enough_it_has_to_be_the_first_one(
    by_token: RunningProvider, anna: Visitor, settings: Any, caplog: pytest.LogCaptureFixture
) -> None:
    settings.STEPUP = {**settings.STEPUP, "CLIENT_IDS": ["site", "another-application"]}
    anna.sign_in()
    clock.offset = DUE
    by_token.behave("wrong_audience")
    anna.get("/notes/")
    assert events(caplog, "renewal_failed") == [("renewal_failed", "aud: mismatch in a renewal")]


def test_where_the_first_said_no_time_a_later_one_must_be_before_it_was_issued(
    by_token: RunningProvider, anna: Visitor, settings: Any, caplog: pytest.LogCaptureFixture
) -> None:
    anna.sign_in()
    by_token.behave("refresh_with_later_auth_time")
    clock.offset = DUE
    anna.get("/notes/")
    assert (refreshes(by_token), events(caplog, "renewal_failed")) == (1, []), "within the leeway"
    settings.STEPUP = {**settings.STEPUP, "LEEWAY": 0}
    clock.offset = DUE + DUE
    anna.get("/notes/")
    assert events(caplog, "renewal_failed") == [("renewal_failed", "auth_time: mismatch in a renewal")]


def renew_with(op: HostileOP, client: Client, **changes: Any) -> None:
    """Have the next refresh token answered with an ID token of these claims."""
    now = int(clock.now()) + DUE
    said = {**claims(iss=op.url, sub="anna", iat=now, exp=now + 300), **changes}
    token = sign({name: value for name, value in said.items() if value is not None}, key=op.keys[0])
    op.answers[TOKEN] = answer({"access_token": "at", "token_type": "Bearer", "id_token": token})
    clock.offset += DUE


@pytest.mark.parametrize(
    ("first", "then", "is_renewed"),
    [
        ({"aud": ["site", "api"], "azp": "site"}, {"aud": ["api", "site"], "azp": "site"}, True),
        ({"azp": "site"}, {"azp": None}, False),
        ({"auth_time": None}, {"auth_time": None}, True),
        ({"sid": None}, {"sid": "s1"}, True),
        ({"sid": "s1"}, {"sid": None}, True),
        ({"nonce": "kept"}, {"nonce": "kept"}, True),
        ({}, {"nonce": 5}, False),
        ({}, {"nonce": "ö"}, False),
    ],
)
def test_a_renewed_id_token_keeps_to_the_first(
    settings: Any, db: None, first: dict[str, Any], then: dict[str, Any], is_renewed: bool
) -> None:
    with HostileOP() as op:
        arrange(settings, KEEP_REFRESH_TOKEN=True, ISSUER=op.url, CLIENT_IDS=["site", "api"])
        client = Client()
        url = client.get("/oidc/authenticate/")["Location"]
        sent = query(url)
        callback = op.vouch(
            url,
            id_token={name: value for name, value in first.items() if name != "nonce"},
            response={"refresh_token": "rt"},
        )
        client.get(callback.removeprefix("http://testserver"))
        held = client.session["stepup_renewal"]
        original = json.loads(vault.unlock(held["token"], purpose="refresh-token"))
        kept = {name: original.get(name) for name in ("aud", "auth_time")}
        if then.get("nonce") == "kept":
            then = {**then, "nonce": sent["nonce"]}
        renew_with(op, client, **{**kept, "nonce": None, **then})

        client.get("/notes/", headers=NO_PAGE["fetch"])

        assert ("token" in client.session["stepup_renewal"]) is is_renewed


def test_a_site_that_refuses_the_id_token_itself_drops_the_token(
    by_token: RunningProvider, anna: Visitor, settings: Any, caplog: pytest.LogCaptureFixture
) -> None:
    settings.AUTHENTICATION_BACKENDS = ["tests.test_renewal.Interrupted"]
    anna.sign_in()

    def refuse() -> None:
        raise SuspiciousOperation

    Interrupted.meanwhile = refuse
    clock.offset = DUE
    assert shows(anna.get("/notes/", **NO_PAGE["fetch"]))
    assert events(caplog, "renewal_failed") == [("renewal_failed", "id_token: refused by the site")]
    assert state(anna).locked is None


# While the OP is down, with a refresh token


@pytest.mark.parametrize("trouble", ["token_server_error", "token_slow", "token_html", "no_access_token", "refused"])
def test_the_user_goes_on_and_it_is_logged(
    by_token: RunningProvider, anna: Visitor, settings: Any, caplog: pytest.LogCaptureFixture, trouble: str
) -> None:
    anna.sign_in()
    settings.OIDC_TIMEOUT = 0.4
    if trouble == "refused":
        settings.OIDC_OP_TOKEN_ENDPOINT = f"http://127.0.0.1:{closed_port()}/"
    else:
        by_token.behave(trouble)
    clock.offset = DUE

    assert shows(anna.get("/notes/", **PAGE))
    assert shows(anna.get("/notes/", **PAGE))
    assert shows(anna.client.post("/notes/"))
    assert len(events(caplog, "renewal_failed")) == 1, "and the OP is not asked by each request"
    assert state(anna).failing_since is not None
    clock.offset = DUE + COOL_DOWN + 1
    assert shows(anna.get("/notes/", **PAGE))
    assert len(events(caplog, "renewal_failed")) == 2


def test_after_the_grace_the_user_signs_in_and_nothing_is_lost(
    by_token: RunningProvider, anna: Visitor, settings: Any, caplog: pytest.LogCaptureFixture
) -> None:
    anna.sign_in()
    anna.get("/basket/?put=book")
    settings.OIDC_OP_TOKEN_ENDPOINT = f"http://127.0.0.1:{closed_port()}/"
    clock.offset = DUE
    assert shows(anna.get("/notes/", **PAGE))
    clock.offset = DUE + 570
    assert shows(anna.get("/notes/", **PAGE)), "it is asked again, and there is half a minute left"
    clock.offset = DUE + 601

    assert "prompt" not in sent_to(by_token, anna.get("/notes/", **PAGE))
    assert anna.get("/notes/", **NO_PAGE["fetch"]).status_code == 401
    assert "prompt" not in sent_to(by_token, anna.client.post("/notes/", headers=FORM)), "and the form waits"
    assert (anna.session["basket"], bool(anna.session["_auth_user_id"])) == ("book", True)
    assert len(events(caplog, "renewal_failed")) == 2, "the OP is not asked by each request now either"
    answers_again(settings)
    clock.offset = DUE + 570 + COOL_DOWN + 1
    assert shows(anna.get("/notes/", **NO_PAGE["fetch"])), "an OP that is back is noticed"
    assert state(anna) == Renewal(locked=state(anna).locked)


def test_without_grace_nobody_goes_on(by_token: RunningProvider, anna: Visitor, settings: Any) -> None:
    settings.STEPUP = {**settings.STEPUP, "RENEWAL_GRACE": 0}
    anna.sign_in()
    by_token.behave("token_server_error")
    clock.offset = DUE
    assert "prompt" not in sent_to(by_token, anna.get("/notes/", **PAGE))
    assert anna.session["_auth_user_id"]


def test_without_grace_a_token_that_is_refused_leads_through_the_browser_all_the_same(
    by_token: RunningProvider, anna: Visitor, settings: Any
) -> None:
    settings.STEPUP = {**settings.STEPUP, "RENEWAL_GRACE": 0}
    anna.sign_in()
    by_token.behave("refuses_refresh_tokens")
    clock.offset = DUE
    sent = anna.get("/notes/", **PAGE)
    assert sent_to(by_token, sent)["prompt"] == "none"
    assert anna.come_back(anna.authenticate(sent, None))["Location"] == "/notes/"
    assert refresh_token(anna), "and brings the next"

    clock.offset = DUE + DUE
    assert anna.get("/notes/", **NO_PAGE["fetch"]).status_code == 401


def test_a_site_that_the_op_does_not_know_any_more_goes_on_too(
    by_token: RunningProvider, anna: Visitor, settings: Any, caplog: pytest.LogCaptureFixture
) -> None:
    anna.sign_in()
    settings.OIDC_RP_CLIENT_SECRET = "another secret than the one that the provider knows"
    clock.offset = DUE
    assert shows(anna.get("/notes/", **PAGE))
    assert events(caplog, "renewal_failed") == [("renewal_failed", "token request refused: invalid_client")]
    assert state(anna).locked is not None


def test_a_token_that_was_exchanged_is_kept_though_its_id_token_cannot_be_verified_yet(
    by_token: RunningProvider, anna: Visitor, settings: Any
) -> None:
    anna.sign_in()
    token = refresh_token(anna)
    settings.STEPUP = {**settings.STEPUP, "CACHE": None}  # and with that its keys are forgotten
    by_token.behave("jwks_server_error")
    clock.offset = DUE
    assert shows(anna.get("/notes/", **PAGE))
    assert refresh_token(anna) != token
    by_token.behave("well_behaved")
    clock.offset = DUE + COOL_DOWN + 1
    assert shows(anna.get("/notes/", **PAGE))
    assert (refreshes(by_token), state(anna).failing_since) == (2, None)


# Requests at the same time


@pytest.fixture
def interrupted(by_token: RunningProvider, settings: Any, anna: Visitor) -> Visitor:
    """Anna, signed in at a site where something can happen while a refresh token is exchanged."""
    settings.AUTHENTICATION_BACKENDS = ["tests.test_renewal.Interrupted"]
    anna.sign_in()
    clock.offset = DUE
    return anna


def another_tab(visitor: Visitor) -> Client:
    client = Client()
    client.cookies["sessionid"] = visitor.client.cookies["sessionid"].value
    return client


def once(action: Callable[[], object]) -> Callable[[], object]:
    def act() -> None:
        Interrupted.meanwhile = dict
        action()

    return act


@pytest.mark.django_db(transaction=True)
@pytest.mark.parametrize("address", ["/notes/", "/basket/?put=book"])
def test_many_requests_at_once_make_one_refresh(
    by_token: RunningProvider, anna: Visitor, settings: Any, tmp_path: Path, address: str
) -> None:
    settings.SESSION_ENGINE = "django.contrib.sessions.backends.file"
    settings.SESSION_FILE_PATH = str(tmp_path)
    anna.sign_in()
    for turn in (1, 2, 3):
        clock.offset = turn * DUE
        together = threading.Barrier(6)
        answers: list[int] = []

        @closing_connections
        def visit(together: threading.Barrier = together, answers: list[int] = answers) -> None:
            client = another_tab(anna)
            together.wait(10)
            answers.append(client.get(address, headers=PAGE).status_code)

        threads = [threading.Thread(target=visit) for _ in range(6)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert answers == [200] * 6
        assert refreshes(by_token) == turn, "and what it brought was lost by none of them"
    assert refreshes(by_token) == 3


def test_whoever_comes_while_it_is_done_goes_on_with_what_there_is(
    interrupted: Visitor, by_token: RunningProvider
) -> None:
    seen: list[bool] = []
    other = another_tab(interrupted)
    Interrupted.meanwhile = once(lambda: seen.append(shows(other.get("/notes/", headers=PAGE))))

    assert shows(interrupted.get("/notes/", **PAGE))
    assert seen == [True]
    assert refreshes(by_token) == 1


def test_whoever_comes_while_it_is_done_after_the_grace_is_asked_to_sign_in(
    interrupted: Visitor, by_token: RunningProvider, settings: Any
) -> None:
    settings.OIDC_OP_TOKEN_ENDPOINT = f"http://127.0.0.1:{closed_port()}/"
    assert shows(interrupted.get("/notes/", **PAGE))
    answers_again(settings)
    clock.offset = DUE + 700
    statuses: list[int] = []
    other = another_tab(interrupted)
    Interrupted.meanwhile = once(lambda: statuses.append(other.get("/notes/", headers=NO_PAGE["fetch"]).status_code))

    assert shows(interrupted.get("/notes/", **PAGE))
    assert statuses == [401]


def test_what_others_store_while_it_is_done_is_kept(interrupted: Visitor, by_token: RunningProvider) -> None:
    other = another_tab(interrupted)
    Interrupted.meanwhile = once(lambda: other.get("/basket/?put=book"))

    assert shows(interrupted.get("/notes/", **PAGE))

    assert interrupted.session["basket"] == "book"
    assert shows(interrupted.get("/notes/", **PAGE))
    assert refreshes(by_token) == 1


@pytest.mark.parametrize("always", [True, False])
def test_whoever_loaded_the_session_before_and_saves_it_afterwards_undoes_nothing(
    interrupted: Visitor, by_token: RunningProvider, settings: Any, always: bool
) -> None:
    settings.SESSION_SAVE_EVERY_REQUEST = always
    by_token.behave("refresh_of_other_session")
    other = another_tab(interrupted)
    # The first request finds a refresh under way, goes on, and is overtaken by it while its view is running.
    first = another_tab(interrupted)

    def meanwhile_in_the_view() -> None:
        Interrupted.meanwhile = dict
        release(interrupted)
        assert other.get("/notes/", headers=NO_PAGE["fetch"]).status_code == 401
        stopped.set()

    stopped = threading.Event()
    with renewing_elsewhere(interrupted):
        Interrupted.meanwhile = meanwhile_in_the_view
        assert first.get("/basket/?put=book").content == b"kept"
        assert stopped.is_set()

    assert interrupted.session["basket"] == "book"
    assert "stepup" not in interrupted.session, "what was taken away stays away"
    assert state(interrupted).locked is None


def lock_key(visitor: Visitor) -> str:
    return f"stepup:asking:{hashlib.sha256(str(visitor.session.session_key).encode()).hexdigest()}"


class renewing_elsewhere:  # noqa: N801 - used as a statement
    """Another process is at it."""

    def __init__(self, visitor: Visitor) -> None:
        self.visitor = visitor

    def __enter__(self) -> None:
        cache.add(lock_key(self.visitor), "another process", 60)

    def __exit__(self, *args: object) -> None:
        release(self.visitor)


def release(visitor: Visitor) -> None:
    cache.delete(lock_key(visitor))


def test_a_lock_of_somebody_who_died_over_it_is_not_for_ever(
    interrupted: Visitor, by_token: RunningProvider, settings: Any
) -> None:
    with renewing_elsewhere(interrupted):
        assert shows(interrupted.get("/notes/", **PAGE))
        assert refreshes(by_token) == 0
    assert shows(interrupted.get("/notes/", **PAGE))
    assert refreshes(by_token) == 1


@pytest.mark.parametrize("is_let_go", [True, False])
def test_whoever_is_about_to_store_something_is_waited_for_but_not_for_ever(
    interrupted: Visitor, by_token: RunningProvider, is_let_go: bool
) -> None:
    key = lock_key(interrupted).replace("asking", "writing")
    cache.add(key, "another process", 60)
    timer = threading.Timer(0.1, cache.delete, [key])
    if is_let_go:
        timer.start()
    assert shows(interrupted.get("/notes/", **PAGE))
    timer.cancel()
    assert (refreshes(by_token), cache.get(key)) == (1, None if is_let_go else "another process")
    assert interrupted.session["oidc_id_token_expiration"] > clock.now()


def test_a_lock_that_was_lost_and_is_anothers_now_is_left_to_it(
    interrupted: Visitor, by_token: RunningProvider
) -> None:
    Interrupted.meanwhile = once(lambda: cache.set(lock_key(interrupted), "another process", 60))
    assert shows(interrupted.get("/notes/", **PAGE))
    assert cache.get(lock_key(interrupted)) == "another process"


def test_what_another_has_done_since_the_session_was_loaded_is_taken_over(
    by_token: RunningProvider, anna: Visitor, settings: Any
) -> None:
    settings.MIDDLEWARE = [*MIDDLEWARE[:2], "tests.test_renewal.Late", *MIDDLEWARE[2:]]
    anna.sign_in()
    clock.offset = DUE
    other = another_tab(anna)
    Interrupted.meanwhile = once(lambda: other.get("/notes/", headers=PAGE))
    assert shows(anna.get("/notes/", **PAGE))
    assert refreshes(by_token) == 1


class Late:
    """Loads the session, and is then overtaken."""

    def __init__(self, get_response: Any) -> None:
        self.get_response = get_response

    def __call__(self, request: HttpRequest) -> Any:
        request.session.get("x")
        Interrupted.meanwhile()
        return self.get_response(request)


@pytest.mark.parametrize("ending", ["flush", "delete", "another"])
@pytest.mark.parametrize("when", ["before", "while"])
@pytest.mark.parametrize(
    "personality", ["well_behaved", "refuses_refresh_tokens", "refresh_of_other_subject", "token_html"]
)
def test_a_session_that_ends_meanwhile_stays_ended(
    by_token: RunningProvider, anna: Visitor, settings: Any, ending: str, when: str, personality: str
) -> None:
    if when == "before":
        settings.MIDDLEWARE = LATE
    else:
        settings.AUTHENTICATION_BACKENDS = ["tests.test_renewal.Overtaking"]
    anna.sign_in()
    stored, key = anna.session, str(anna.session.session_key)
    by_token.behave(personality)
    clock.offset = DUE

    def end() -> None:
        if ending == "another":
            other = get_user_model().objects.create_user("other")
            stored.clear()
            stored["_auth_user_id"] = str(other.pk)
            stored.save()
        else:
            stored.flush() if ending == "flush" else stored.delete()

    Interrupted.meanwhile = once(end) if when == "before" else dict
    Overtaking.at_load = once_of(Overtaking, end) if when == "while" else dict
    anna.get("/notes/", **NO_PAGE["fetch"])

    store = type(stored)
    if ending == "another":
        assert "stepup_renewal" not in dict(store(key).items())
    else:
        assert not store().exists(key)
    assert refreshes(by_token) == (1 if when == "while" else 0)


def test_a_session_that_ends_between_the_last_look_and_the_save_stays_ended(
    by_token: RunningProvider, anna: Visitor, rf: Any
) -> None:
    anna.sign_in()
    request = rf.get("/")
    request.session = anna.session
    request.session.get("x")
    key = str(request.session.session_key)
    assert session.merge(request, lambda: type(request.session)(key).delete()) is False
    assert not type(request.session)().exists(key)
    with pytest.raises(UpdateError):
        request.session.save()


def test_without_a_cache_two_processes_may_ask_and_the_loser_takes_what_the_winner_got(
    interrupted: Visitor, by_token: RunningProvider, settings: Any
) -> None:
    settings.STEPUP = {**settings.STEPUP, "CACHE": None}
    by_token.behave("refresh_without_rotation")
    other = another_tab(interrupted)
    Interrupted.meanwhile = once(lambda: other.get("/notes/", headers=PAGE))
    assert shows(interrupted.get("/notes/", **PAGE))
    assert refreshes(by_token) == 2
    assert state(interrupted).locked is not None


def test_a_token_that_another_process_has_used_meanwhile_is_no_reason_to_drop_its_successor(
    by_token: RunningProvider, anna: Visitor, settings: Any
) -> None:
    """The other is faster after both have looked: the OP then takes the slower one for a thief."""
    settings.STEPUP = {**settings.STEPUP, "CACHE": "overtaken"}
    settings.CACHES = {**settings.CACHES, "overtaken": {"BACKEND": "tests.test_renewal.Overtaken"}}
    settings.AUTHENTICATION_BACKENDS = ["tests.test_renewal.Overtaking"]
    anna.sign_in()
    clock.offset = DUE
    other = another_tab(anna)
    Overtaking.at_load = once_of(Overtaking, lambda: other.get("/notes/", headers=PAGE))

    assert shows(anna.get("/notes/", **PAGE))

    assert refreshes(by_token) == 2
    assert state(anna).locked is not None
    assert anna.session["oidc_id_token_expiration"] > clock.now()


class Overtaken(LocMemCache):
    """A cache that does not work."""

    def __init__(self, *args: Any) -> None:
        raise OSError("no such server")


class Overtaking(StepUpBackend):
    """Something happens between the last look at the session and the request to the OP."""

    at_load: Callable[[], object] = dict

    @property
    def request(self) -> Any:
        return self.__dict__["request"]

    @request.setter
    def request(self, request: HttpRequest) -> None:
        self.__dict__["request"] = request
        type(self).at_load()


def once_of(holder: type[Overtaking], action: Callable[[], object]) -> Callable[[], object]:
    def act() -> None:
        holder.at_load = dict
        action()

    return act


def test_what_earlier_middleware_put_on_the_session_is_not_lost(
    by_token: RunningProvider, anna: Visitor, settings: Any
) -> None:
    settings.MIDDLEWARE = [*MIDDLEWARE[:2], "tests.test_renewal.Counting", *MIDDLEWARE[2:]]
    anna.sign_in()
    clock.offset = DUE
    counted = anna.session["count"]
    token = refresh_token(anna)
    assert shows(anna.get("/notes/", **PAGE))
    assert anna.session["count"] == counted + 1
    assert refresh_token(anna) != token, "which was saved once more, and is the new one still"


class Counting:
    def __init__(self, get_response: Any) -> None:
        self.get_response = get_response

    def __call__(self, request: HttpRequest) -> Any:
        request.session["count"] = request.session.get("count", 0) + 1
        return self.get_response(request)


def test_of_pages_that_are_opened_at_once_one_goes_to_the_op_and_the_others_are_shown(
    by_browser: RunningProvider, anna: Visitor, settings: Any
) -> None:
    settings.MIDDLEWARE = LATE
    anna.step_up("/decorated/")
    clock.offset = DUE
    other, sent = another_tab(anna), []
    Interrupted.meanwhile = once(lambda: sent.append(other.get("/notes/", headers=PAGE)))

    assert shows(anna.get("/notes/", **PAGE)), "it had loaded its session before"
    assert anna.come_back(anna.authenticate(sent[0], None))["Location"] == "/notes/"
    assert shows(anna.get("/notes/", **PAGE))


@pytest.mark.parametrize("begun", [True, False])
def test_a_request_that_saves_its_session_meanwhile_leaves_a_page_its_way_back(
    by_browser: RunningProvider, anna: Visitor, settings: Any, begun: bool
) -> None:
    settings.MIDDLEWARE = LATE
    anna.sign_in()
    clock.offset = DUE
    if begun:
        step_up = anna.get("/oidc/authenticate/?stepup=mfa", **PAGE)
    other, sent = another_tab(anna), []
    Interrupted.meanwhile = once(lambda: sent.append(other.get("/notes/", headers=PAGE)))

    anna.get("/basket/?put=book", **NO_PAGE["fetch"])

    assert anna.session["basket"] == "book"
    assert anna.come_back(anna.authenticate(sent[0], None))["Location"] == "/notes/"
    if begun:
        assert anna.come_back(anna.authenticate(step_up)).status_code == 302


def test_a_page_that_is_opened_while_another_goes_to_the_op_is_shown(
    by_browser: RunningProvider, anna: Visitor
) -> None:
    anna.sign_in()
    clock.offset = DUE
    key = hashlib.sha256(anna.client.cookies["sessionid"].value.encode()).hexdigest()
    cache.set(f"stepup:asking:{key}", "another")
    assert shows(anna.get("/notes/", **PAGE))


def test_a_page_that_had_loaded_its_session_before_the_op_said_no_asks_for_a_sign_in_too(
    by_browser: RunningProvider, anna: Visitor, settings: Any
) -> None:
    settings.MIDDLEWARE = LATE
    anna.sign_in()
    clock.offset = DUE
    sent = anna.get("/notes/", **PAGE)
    clock.offset += COOL_DOWN + 1
    by_browser.reset()
    back = anna.authenticate(sent, None)
    Interrupted.meanwhile = once(lambda: anna.come_back(back))

    assert "prompt" not in sent_to(by_browser, anna.get("/notes/", **PAGE))


@pytest.mark.parametrize("page", ["/notes/", "/decorated/"])
def test_a_page_that_leads_to_the_op_gives_the_browser_no_cookie_that_it_has_already(
    by_browser: RunningProvider, anna: Visitor, page: str
) -> None:
    anna.sign_in()
    clock.offset = DUE if page == "/notes/" else 0
    response = anna.get(page, **PAGE)
    # It may arrive after the answer to a step-up in another tab, which has brought another.
    assert (response.status_code, "sessionid" in response.cookies) == (302, False)
    assert anna.come_back(anna.authenticate(response))["Location"] == page


@pytest.mark.parametrize(("page", "is_due", "answer"), [("/notes/", True, 200), ("/decorated/", False, 302)])
def test_a_page_that_had_loaded_its_session_before_a_step_up_in_another_tab_is_no_error(
    by_browser: RunningProvider, anna: Visitor, settings: Any, page: str, is_due: bool, answer: int
) -> None:
    settings.MIDDLEWARE = LATE
    anna.sign_in()
    clock.offset = DUE if is_due else 0
    back = anna.authenticate(anna.get("/oidc/authenticate/?stepup=mfa&next=/decorated/", **PAGE))
    other = another_tab(anna)
    Interrupted.meanwhile = once(lambda: anna.come_back(back))

    response = other.get(page, headers=PAGE)
    assert (response.status_code, response.get("Location")) == (answer, page if answer == 302 else None)
    assert "sessionid" not in response.cookies
    assert anna.get("/decorated/", **PAGE).status_code == 200


@pytest.mark.django_db(transaction=True)
@pytest.mark.parametrize("ending", ["step-up", "sign-out"])
def test_what_ends_a_session_waits_for_what_is_being_stored_in_it(
    by_browser: RunningProvider, anna: Visitor, settings: Any, rf: Any, ending: str
) -> None:
    """With sessions in a cache a save looks first whether there is one: it must not look, and then bring it back."""
    settings.SESSION_ENGINE = "django.contrib.sessions.backends.cache"
    anna.sign_in()
    request, key = rf.get("/"), str(anna.session.session_key)
    request.session = type(anna.session)(key)
    back = anna.authenticate(anna.get("/decorated/", **PAGE))

    @closing_connections
    def end() -> None:
        if ending == "step-up":
            anna.come_back(back)
        else:
            anna.client.post("/oidc/logout/")

    other = threading.Thread(target=end)

    def change() -> None:
        other.start()
        other.join(0.5)
        assert other.is_alive()

    assert session.merge(request, change)
    other.join()
    assert not type(request.session)().exists(key)


def test_somebody_who_signs_out_while_it_is_due_is_signed_out(by_browser: RunningProvider, anna: Visitor) -> None:
    anna.sign_in()
    clock.offset = DUE
    assert anna.client.post("/leave/").content == b"bye"
    assert not anna.session.get("_auth_user_id")


def test_the_room_says_what_it_needs_of_an_answer() -> None:
    with pytest.raises(ProviderError, match="token: no access_token"):
        StepUpBackend().verify_renewal({"access_token": 5})


def test_what_the_op_takes_away_while_it_is_done_stays_away(
    interrupted: Visitor, by_token: RunningProvider, caplog: pytest.LogCaptureFixture
) -> None:
    def lower() -> None:
        stored = interrupted.session
        session.lower(stored)
        stored.save()

    Interrupted.meanwhile = once(lower)
    with caplog.at_level(logging.INFO, "stepup"):
        assert shows(interrupted.get("/notes/", **PAGE))

    assert not {"stepup", "stepup_renewal", "oidc_id_token_expiration"} & set(interrupted.session.keys())
    assert interrupted.session["_auth_user_id"]
    assert events(caplog, "renewed") == []


def test_keys_that_are_not_known_yet_interrupt_nobody(
    by_browser: RunningProvider, anna: Visitor, caplog: pytest.LogCaptureFixture
) -> None:
    anna.step_up("/decorated/")
    clock.offset = DUE
    sent = anna.get("/notes/", **PAGE)
    by_browser.behave("unknown_kid")

    with caplog.at_level(logging.INFO, "stepup"):
        back = anna.come_back(anna.authenticate(sent, None))

    assert back["Location"] == "/notes/"
    assert shows(anna.get("/notes/", **PAGE))
    assert anna.get("/decorated/").status_code == 200
    assert [event for event, _ in events(caplog, "renewal_failed", "renewed")] == ["renewal_failed"]


def test_keys_that_are_not_known_yet_cost_no_refresh_token(by_token: RunningProvider, anna: Visitor) -> None:
    anna.sign_in()
    by_token.behave("unknown_kid")
    clock.offset = DUE
    assert shows(anna.get("/notes/", **PAGE))
    assert refreshes(by_token) == 1
    by_token.behave("well_behaved")
    clock.offset += COOL_DOWN + 1
    assert shows(anna.get("/notes/", **PAGE))
    assert refreshes(by_token) == 2
    assert state(anna) == Renewal(locked=state(anna).locked)
