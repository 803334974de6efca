"""All doors give the same answer, in every state of the session, to every kind of request."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from typing import Any
from urllib.parse import quote

import pytest
from asgiref.sync import async_to_sync
from django.contrib.auth import get_user_model
from django.contrib.auth.models import User
from django.test import AsyncClient, Client

from stepup.dialects import MULTI_FACTOR
from stepup.testing.provider.launcher import RunningProvider
from tests.stored import stored_evidence
from tests.urls import MFA_DOORS, SECRET
from tests.visitor import query

MFA = {"amr": {"mfa": int(time.time())}}
HOURS_AGO = int(time.time()) - 6 * 3600
YEARS_AGO = 1_000_000_000

#: What the session holds, by the name of the state: the user, and the evidence as `stepup.session` keeps it.
STATES: Mapping[str, Mapping[str, Any] | None] = {
    "nobody is signed in": None,
    "signed in without evidence": {},
    "signed in with a password": {"proofs": {"amr": {"pwd": HOURS_AGO}}},
    "elevated": {"proofs": MFA},
    "elevated long ago": {"proofs": {"amr": {"mfa": HOURS_AGO}}},
    "elevated at a time that nobody says": {"proofs": {"amr": {"mfa": -HOURS_AGO}}},
    "elevated too long ago": {"proofs": {"amr": {"mfa": YEARS_AGO}}},
    "elevated at a time that nobody says, too long ago": {"proofs": {"amr": {"mfa": -YEARS_AGO}}},
    "elevated as another user": {"proofs": MFA, "for": 4711},
    "elevated before the password was changed": {"proofs": MFA, "for": "changed"},
    "elevated by another issuer": {"proofs": MFA, "iss": "https://other.example/"},
    "damaged": {"proofs": {"amr": "mfa"}},
    "damaged further": {"proofs": ["mfa"]},
}
OPEN = {"elevated", "elevated long ago", "elevated at a time that nobody says"}

KINDS: Mapping[str, Mapping[str, str]] = {
    "page": {"Sec-Fetch-Mode": "navigate", "Accept": "text/html"},
    "page of an old browser": {"Accept": "text/html,application/xhtml+xml,*/*;q=0.8"},
    "fetch": {"Sec-Fetch-Mode": "cors", "Accept": "*/*", "Referer": "http://testserver/open/"},
    "xhr": {"X-Requested-With": "XMLHttpRequest", "Accept": "*/*", "Referer": "http://testserver/open/"},
    "prefetch": {"Sec-Fetch-Mode": "navigate", "Sec-Purpose": "prefetch", "Referer": "http://testserver/open/"},
    "json": {"Accept": "application/json", "Referer": "http://testserver/open/"},
    "htmx": {"HX-Request": "true", "HX-Current-URL": "http://testserver/open/", "Sec-Fetch-Mode": "cors"},
}


@pytest.fixture
def user(db: None) -> User:
    user: User = get_user_model().objects.create_user("anna", email="anna@harbour.example")
    return user


def set_up(client: Client, user: User, issuer: str, state: Mapping[str, Any] | None) -> None:
    if state is None:
        return
    client.force_login(user, "stepup.backends.StepUpBackend")
    if state:
        session = client.session
        stored = stored_evidence(session, user, state.get("iss", issuer), proofs=state["proofs"])
        known, password = stored["for"]
        if state.get("for") == "changed":
            stored["for"] = [known, "0" * len(password)]
        elif "for" in state:
            stored["for"] = [state["for"], password]
        session["stepup"] = stored
        session.save()


def normalized(response: Any, path: str) -> dict[str, Any]:
    """All of an answer that must not depend on the door: the random parts and the door's own path are taken out."""
    headers = {name.lower(): value for name, value in response.items()}
    for name in ("content-length", "expires"):
        headers.pop(name, None)
    if "location" in headers:
        sent = query(headers["location"])
        for name in ("state", "nonce", "code_challenge"):
            assert len(sent.pop(name)) >= 22
        headers["location"] = repr(sorted(sent.items()))
    body = response.content.decode().replace(quote(path, safe=""), "HERE").replace(f'"{path}"', '"HERE"')
    pending = [
        {key: value for key, value in entry.items() if key not in ("nonce", "pkce", "at")}
        for entry in response.wsgi_or_asgi_session.get("stepup_pending", {}).values()
    ]
    forms = {f"/oidc/authenticate/?kept={key}": key for key in response.wsgi_or_asgi_session.get("stepup_forms", {})}
    for entry in pending:
        # Of a form that was sent, it is the page that shows it.
        assert entry["next"] in (forms or {path: ""})
        assert response.status_code == (303 if forms else 302)
        entry["next"] = "HERE"
    return {"status": response.status_code, "headers": headers, "body": body, "pending": pending}


def ask(path: str, user: User, issuer: str, state: str, kind: str, method: str) -> Any:
    client = Client()
    set_up(client, user, issuer, STATES[state])
    response = getattr(client, method)(path, headers=KINDS[kind])
    response.wsgi_or_asgi_session = client.session
    return response


@pytest.mark.parametrize(("method", "kind"), [*(("get", kind) for kind in KINDS), ("post", "page"), ("post", "fetch")])
@pytest.mark.parametrize("state", STATES)
def test_all_doors_answer_alike(op: RunningProvider, user: User, state: str, kind: str, method: str) -> None:
    answers = {}
    for path in MFA_DOORS:
        response = ask(path, user, op.issuer, state, kind, method)
        answers[path] = normalized(response, path)
        assert "no-store" in response["Cache-Control"], path
    first = answers[MFA_DOORS[0]]
    assert answers == dict.fromkeys(MFA_DOORS, first)
    assert (first["body"] == SECRET) == (state in OPEN)
    assert (first["status"] == 200) == (state in OPEN)


@pytest.mark.parametrize("state", STATES)
def test_all_doors_answer_an_asynchronous_server_as_they_answer_a_synchronous_one(
    op: RunningProvider, user: User, state: str
) -> None:
    for path in MFA_DOORS:
        expected = normalized(ask(path, user, op.issuer, state, "page", "get"), path)
        client: Any = AsyncClient()
        set_up(client, user, op.issuer, STATES[state])

        response = async_to_sync(client.get)(path, headers=KINDS["page"])

        response.wsgi_or_asgi_session = client.session
        assert normalized(response, path) == expected


@pytest.mark.parametrize("state", sorted(STATES.keys() - OPEN))
def test_a_page_is_redirected_straight_to_the_provider(op: RunningProvider, user: User, state: str) -> None:
    response = ask("/decorated/", user, op.issuer, state, "page", "get")

    assert response.status_code == 302
    assert response["Location"].startswith(f"{op.issuer}authorize?")
    assert query(response["Location"])["acr_values"] == MULTI_FACTOR


@pytest.mark.parametrize("kind", ["fetch", "xhr", "json", "prefetch"])
def test_a_script_is_told_where_to_step_up(op: RunningProvider, user: User, kind: str) -> None:
    response = ask("/decorated/", user, op.issuer, "signed in without evidence", kind, "get")

    assert response.status_code == 401
    assert response["WWW-Authenticate"].startswith("StepUp ")
    assert response.json() == {
        "error": "insufficient_user_authentication",
        "requirement": "mfa",
        "step_up_url": "/oidc/authenticate/?next=http%3A%2F%2Ftestserver%2Fopen%2F&stepup=mfa",
    }


def test_a_script_of_a_visitor_who_is_not_signed_in_is_told_so(op: RunningProvider, user: User) -> None:
    response = ask("/decorated/", user, op.issuer, "nobody is signed in", "fetch", "get")

    assert (response.status_code, response.json()["error"]) == (401, "login_required")


def test_htmx_is_told_to_take_the_whole_page_there(op: RunningProvider, user: User) -> None:
    response = ask("/decorated/", user, op.issuer, "signed in without evidence", "htmx", "get")

    assert response.status_code == 401
    assert response["HX-Redirect"] == "/oidc/authenticate/?next=http%3A%2F%2Ftestserver%2Fopen%2F&stepup=mfa"


def test_a_form_goes_to_the_provider_too_and_is_not_repeated_there(op: RunningProvider, user: User) -> None:
    response = ask("/class/", user, op.issuer, "signed in without evidence", "page", "post")

    # Not 307 or 308, with which a browser sends it there (RFC 9700, 4.12).
    assert response.status_code == 303
    assert query(response["Location"])["acr_values"] == MULTI_FACTOR
    assert len(response.wsgi_or_asgi_session["stepup_forms"]) == 1


def test_a_form_that_is_not_kept_gets_a_page_that_says_it_was_not_carried_out(
    op: RunningProvider, user: User, settings: Any
) -> None:
    settings.STEPUP = {**settings.STEPUP, "KEEP_FORMS": False}
    response = ask("/class/", user, op.issuer, "signed in without evidence", "page", "post")

    assert response.status_code == 403
    assert response.templates[0].name == "stepup/not_sent.html"
    assert response.context["step_up_url"] == "/oidc/authenticate/?next=%2Fclass%2F&stepup=mfa"
    assert "stepup_pending" not in response.wsgi_or_asgi_session


@pytest.mark.parametrize("path", MFA_DOORS)
def test_where_the_client_is_not_among_those_with_mfa_being_signed_in_is_enough(
    op: RunningProvider, user: User, settings: Any, path: str
) -> None:
    settings.STEPUP = {**settings.STEPUP, "CLIENTS_WITH_MFA": ["another-site"]}

    assert ask(path, user, op.issuer, "signed in without evidence", "page", "get").content.decode() == SECRET
    assert ask(path, user, op.issuer, "nobody is signed in", "page", "get").status_code == 302


@pytest.mark.parametrize(
    "path", [door for door in MFA_DOORS if "by-name" not in door and "payroll" not in door and "raised" not in door]
)
def test_doors_on_views_look_after_sign_in_themselves_under_login_required_middleware(
    op: RunningProvider, user: User, settings: Any, path: str
) -> None:
    settings.MIDDLEWARE = [*settings.MIDDLEWARE, "django.contrib.auth.middleware.LoginRequiredMiddleware"]

    response = ask(path, user, op.issuer, "nobody is signed in", "page", "get")

    assert query(response["Location"])["acr_values"] == MULTI_FACTOR


@pytest.mark.parametrize("path", ["/by-name/", "/payroll/list/"])
def test_protection_by_name_comes_before_login_required_middleware(
    op: RunningProvider, user: User, settings: Any, path: str
) -> None:
    settings.MIDDLEWARE = [*settings.MIDDLEWARE, "django.contrib.auth.middleware.LoginRequiredMiddleware"]

    response = ask(path, user, op.issuer, "nobody is signed in", "page", "get")

    assert query(response["Location"])["acr_values"] == MULTI_FACTOR


def test_an_open_page_stays_open_and_cacheable(op: RunningProvider, user: User) -> None:
    response = ask("/open/", user, op.issuer, "nobody is signed in", "page", "get")

    assert response.content.decode() == SECRET
    assert "Cache-Control" not in response


def test_a_request_that_is_allowed_makes_no_query_beyond_session_and_user(
    op: RunningProvider, user: User, django_assert_num_queries: Callable[[int], Any]
) -> None:
    client = Client()
    set_up(client, user, op.issuer, STATES["elevated"])

    with django_assert_num_queries(2):  # what `login_required` needs too: the session, and the user
        assert client.get("/decorated/").content.decode() == SECRET
