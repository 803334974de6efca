"""The OpenID Provider that ships with the package: a real process, real HTTP, ID tokens verified by PyJWT."""

from __future__ import annotations

import base64
import dataclasses
import hashlib
import json
import os
import re
import secrets
import signal
import socket
import ssl
import subprocess
import sys
import textwrap
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import parse_qsl, urlencode, urljoin, urlsplit

import jwt
import pyotp
import pytest
import requests
from authlib.oidc.discovery import OpenIDProviderMetadata
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa

from stepup.testing.driver import Page, Person, StuckError
from stepup.testing.provider import (
    DEFAULT_USERS,
    MULTI_FACTOR,
    Client,
    Configuration,
    ConfigurationError,
    ProviderError,
    RunningProvider,
    User,
    from_site,
    launch,
    launcher,
)
from stepup.testing.provider.action import Asked, Known, Proved, Step, next_step, proved
from stepup.testing.provider.assertions import public_key
from stepup.testing.provider.personalities import PERSONALITIES
from stepup.testing.provider.server import Server
from stepup.testing.provider.state import (
    ATTEMPTS,
    ATTEMPTS_WINDOW,
    TIME_STEP,
    OneTimeCodes,
    RequestRecord,
    Shelf,
    State,
)
from stepup.testing.provider.tls import make_certificate
from stepup.testing.provider.uris import RegisteredUris

CALLBACK = "http://127.0.0.1:1/callback/"
GOODBYE = "http://127.0.0.1:1/goodbye/"
SECRET = "a client secret of 32 octets, or more"
ALGORITHMS = ("RS256", "ES256", "PS256", "EdDSA", "HS256")

#: The key of the application that authenticates with signed assertions.
PRIVATE_KEY = ec.generate_private_key(ec.SECP256R1())
OTHER_KEY = ec.generate_private_key(ec.SECP256R1())
PUBLIC_KEY = (
    PRIVATE_KEY.public_key()
    .public_bytes(serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo)
    .decode()
)

ANNA, BEN, CLEO = DEFAULT_USERS


def client(client_id: str, **changes: Any) -> Client:
    values: dict[str, Any] = {
        "client_id": client_id,
        "client_secret": SECRET,
        "redirect_uris": (CALLBACK,),
        "post_logout_redirect_uris": (GOODBYE,),
        **changes,
    }
    return Client(**values)


CONFIGURATION = Configuration(
    purpose="tests",
    clients=(
        client("payroll", name="Payroll"),
        client("canteen"),
        client("old", require_pkce=False),
        client("signing", client_secret="", public_key=PUBLIC_KEY),
        client("pushing", require_pushed=True),
        client("signing-requests", public_key=PUBLIC_KEY, require_signed=True),
        client("refreshing", refresh_tokens=True, amr_when_refreshed=True),
        client("anywhere", redirect_uris=("loopback:/callback/",), post_logout_redirect_uris=("loopback:/*",)),
        *(client(alg, id_token_signed_response_alg=alg) for alg in ALGORITHMS),
    ),
    clients_with_mfa=("payroll", "old", "anywhere"),
    users=(*DEFAULT_USERS, User("dora", "dora-password")),
)


@pytest.fixture(scope="module")
def running() -> Iterator[RunningProvider]:
    with launch(CONFIGURATION) as provider:
        yield provider


@pytest.fixture
def provider(running: RunningProvider) -> RunningProvider:
    running.reset()
    return running


@pytest.fixture
def anna() -> Person:
    return Person("anna", "anna-password")


@dataclasses.dataclass(frozen=True)
class Application:
    """A relying party: builds authentication requests, and exchanges codes."""

    issuer: str
    client_id: str = "payroll"
    verifier: str = dataclasses.field(default_factory=lambda: secrets.token_urlsafe(48))
    nonce: str = dataclasses.field(default_factory=lambda: secrets.token_urlsafe(8))

    def url(self, **changes: str | None) -> str:
        challenge = base64.urlsafe_b64encode(hashlib.sha256(self.verifier.encode()).digest())
        parameters: dict[str, str | None] = {
            "response_type": "code",
            "client_id": self.client_id,
            "redirect_uri": CALLBACK,
            "scope": "openid",
            "state": "the state",
            "nonce": self.nonce,
            "code_challenge": challenge.decode().rstrip("="),
            "code_challenge_method": "S256",
            **changes,
        }
        sent = {name: value for name, value in parameters.items() if value is not None}
        return f"{self.issuer}authorize?{urlencode(sent)}"

    def exchange(self, code: str, **changes: Any) -> requests.Response:
        data: dict[str, str | None] = {
            "grant_type": "authorization_code",
            "code": code,
            "redirect_uri": CALLBACK,
            "code_verifier": self.verifier,
        }
        data |= changes.pop("data", {})
        sent = {name: value for name, value in data.items() if value is not None}
        auth = changes.pop("auth", (self.client_id, SECRET))
        return requests.post(f"{self.issuer}oauth/token", data=sent, auth=auth, **changes)

    def tokens(self, back: str) -> dict[str, Any]:
        response = self.exchange(answer(back)["code"])
        assert response.status_code == 200, response.text
        tokens: dict[str, Any] = response.json()
        return tokens

    def claims(self, back: str) -> dict[str, Any]:
        return self.verify(self.tokens(back)["id_token"])

    def verify(self, id_token: str, alg: str = "RS256") -> dict[str, Any]:
        key: Any = SECRET
        if alg != "HS256":
            key = jwt.PyJWKClient(f"{self.issuer}.well-known/jwks.json").get_signing_key_from_jwt(id_token)
        claims: dict[str, Any] = jwt.decode(
            id_token,
            key,
            algorithms=[alg],
            audience=self.client_id,
            issuer=self.issuer,
            options={"require": ["iss", "aud", "sub", "iat", "exp", "sid", "at_hash"]},
        )
        return claims


@pytest.fixture
def payroll(provider: RunningProvider) -> Application:
    return Application(provider.issuer)


def answer(back: str) -> dict[str, str]:
    """The parameters of an authorization response."""
    assert back.startswith((CALLBACK, GOODBYE)), back
    return dict(parse_qsl(urlsplit(back).query))


def page(response: requests.Response) -> Page:
    return Page(response)


def submit(session: requests.Session, shown: Page, form: str, **fields: str) -> requests.Response:
    sent = shown.forms[form]
    return session.post(sent.action, data={**sent.fields, **fields}, allow_redirects=False)


# The authorization code flow


def test_a_person_who_signs_in_is_sent_back_with_a_code(payroll: Application, anna: Person) -> None:
    back = answer(anna.authenticate(payroll.url()))
    assert set(back) == {"code", "state", "iss"}
    assert back["state"] == "the state"
    assert back["iss"] == payroll.issuer


def test_the_id_token_has_the_claims_of_the_standard_and_no_more(payroll: Application, anna: Person) -> None:
    before = int(time.time())
    claims = payroll.claims(anna.authenticate(payroll.url()))
    assert set(claims) == {"iss", "aud", "sub", "iat", "exp", "nonce", "sid", "at_hash"}
    assert claims["aud"] == "payroll"
    assert claims["sub"] == "stepup|anna"
    assert claims["nonce"] == payroll.nonce
    assert before <= claims["iat"] <= time.time()
    assert claims["exp"] == claims["iat"] + 3600


def test_without_a_nonce_in_the_request_there_is_none_in_the_id_token(payroll: Application, anna: Person) -> None:
    assert "nonce" not in payroll.claims(anna.authenticate(payroll.url(nonce=None)))


def test_at_hash_is_that_of_the_access_token(payroll: Application, anna: Person) -> None:
    tokens = payroll.tokens(anna.authenticate(payroll.url()))
    half = hashlib.sha256(tokens["access_token"].encode()).digest()[:16]
    expected = base64.urlsafe_b64encode(half).decode().rstrip("=")
    assert payroll.verify(tokens["id_token"])["at_hash"] == expected


def test_scopes_bring_the_claims_of_the_person_into_the_id_token_and_to_userinfo(
    payroll: Application, anna: Person
) -> None:
    tokens = payroll.tokens(anna.authenticate(payroll.url(scope="openid profile email pets")))
    person = {
        "sub": "stepup|anna",
        "name": "Anna Lindqvist",
        "given_name": "Anna",
        "family_name": "Lindqvist",
        "email": "anna@harbour.example",
        "email_verified": True,
    }
    assert person.items() <= payroll.verify(tokens["id_token"]).items()
    assert tokens["scope"] == "openid profile email"
    headers = {"Authorization": f"Bearer {tokens['access_token']}"}
    for method in ("GET", "POST"):
        assert requests.request(method, f"{payroll.issuer}userinfo", headers=headers).json() == person


def test_a_person_without_names_and_address_has_no_claims_about_them(payroll: Application) -> None:
    url = payroll.url(scope="openid profile email")
    claims = payroll.claims(Person("dora", "dora-password").authenticate(url))
    assert claims["sub"] == "stepup|dora"
    assert not {"name", "given_name", "family_name", "email", "email_verified"} & set(claims)


def test_userinfo_needs_an_access_token_that_was_issued(payroll: Application) -> None:
    url = f"{payroll.issuer}userinfo"
    assert requests.get(url).status_code == 401
    response = requests.get(url, headers={"Authorization": "Bearer invented"})
    assert response.status_code == 401
    assert response.json()["error"] == "invalid_token"
    assert "invalid_token" in response.headers["WWW-Authenticate"]


@pytest.mark.parametrize("alg", ALGORITHMS)
def test_an_application_gets_its_id_tokens_signed_as_it_is_registered(
    provider: RunningProvider, anna: Person, alg: str
) -> None:
    application = Application(provider.issuer, client_id=alg)
    id_token = application.tokens(anna.authenticate(application.url()))["id_token"]
    assert jwt.get_unverified_header(id_token)["alg"] == alg
    assert application.verify(id_token, alg)["sub"] == "stepup|anna"


def test_no_secret_is_among_the_published_keys(provider: RunningProvider) -> None:
    keys = requests.get(f"{provider.issuer}.well-known/jwks.json").json()["keys"]
    assert sorted(key["alg"] for key in keys) == ["ES256", "EdDSA", "PS256", "RS256"]
    for key in keys:
        assert key["use"] == "sig"
        assert not {"d", "p", "q", "k"} & set(key)


def test_a_client_may_send_its_secret_in_the_form(payroll: Application, anna: Person) -> None:
    code = answer(anna.authenticate(payroll.url()))["code"]
    fields = {"client_id": "payroll", "client_secret": SECRET}
    assert payroll.exchange(code, auth=None, data=fields).status_code == 200


@pytest.mark.parametrize("auth", [("payroll", "wrong"), ("nobody", SECRET), None])
def test_a_client_that_cannot_authenticate_gets_nothing(payroll: Application, anna: Person, auth: Any) -> None:
    code = answer(anna.authenticate(payroll.url()))["code"]
    response = payroll.exchange(code, auth=auth)
    assert response.status_code == 401
    assert response.json()["error"] == "invalid_client"
    assert "id_token" not in response.json()


@pytest.mark.parametrize("header", ["Basic", "Basic %%%", "Basic /////w==", "Bearer x", "Basic " + "A" * 5000])
def test_rubbish_in_place_of_a_client_is_refused(payroll: Application, header: str) -> None:
    response = payroll.exchange("x", auth=None, headers={"Authorization": header})
    assert (response.status_code, response.json()["error"]) == (401, "invalid_client")


def test_a_code_is_good_once_and_its_access_token_dies_with_the_second_use(payroll: Application, anna: Person) -> None:
    code = answer(anna.authenticate(payroll.url()))["code"]
    headers = {"Authorization": f"Bearer {payroll.exchange(code).json()['access_token']}"}
    assert requests.get(f"{payroll.issuer}userinfo", headers=headers).status_code == 200
    again = payroll.exchange(code)
    assert (again.status_code, again.json()["error"]) == (400, "invalid_grant")
    assert requests.get(f"{payroll.issuer}userinfo", headers=headers).status_code == 401


def test_of_many_who_use_one_code_at_once_one_gets_tokens(payroll: Application, anna: Person) -> None:
    code = answer(anna.authenticate(payroll.url()))["code"]
    statuses: list[int] = []
    threads = [threading.Thread(target=lambda: statuses.append(payroll.exchange(code).status_code)) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(statuses) == [200] + [400] * 7


def test_the_code_of_one_client_is_of_no_use_to_another(payroll: Application, anna: Person) -> None:
    code = answer(anna.authenticate(payroll.url()))["code"]
    stolen = payroll.exchange(code, auth=("canteen", SECRET))
    assert (stolen.status_code, stolen.json()["error"]) == (400, "invalid_grant")
    assert payroll.exchange(code).status_code == 200


def test_a_code_is_bound_to_its_redirect_uri(payroll: Application, anna: Person) -> None:
    code = answer(anna.authenticate(payroll.url()))["code"]
    response = payroll.exchange(code, data={"redirect_uri": GOODBYE})
    assert (response.status_code, response.json()["error"]) == (400, "invalid_grant")


@pytest.mark.parametrize("verifier", ["wrong" * 10, None])
def test_a_wrong_or_missing_code_verifier_is_refused(payroll: Application, anna: Person, verifier: str | None) -> None:
    code = answer(anna.authenticate(payroll.url()))["code"]
    response = payroll.exchange(code, data={"code_verifier": verifier})
    assert response.status_code == 400
    assert response.json()["error"] in {"invalid_grant", "invalid_request"}


@pytest.mark.parametrize(
    "changes",
    [
        {"code_challenge": None, "code_challenge_method": None},
        {"code_challenge_method": None},
        {"code_challenge_method": "plain"},
        {"code_challenge": "short"},
    ],
)
def test_pkce_with_s256_is_required(payroll: Application, anna: Person, changes: dict[str, str | None]) -> None:
    assert answer(anna.authenticate(payroll.url(**changes)))["error"] == "invalid_request"


def test_a_client_may_be_registered_to_do_without_pkce(provider: RunningProvider, anna: Person) -> None:
    old = Application(provider.issuer, client_id="old")
    back = anna.authenticate(old.url(code_challenge=None, code_challenge_method=None))
    assert old.exchange(answer(back)["code"], data={"code_verifier": None}).status_code == 200


@pytest.mark.parametrize(
    ("changes", "error"),
    [
        ({"response_type": "token"}, "unsupported_response_type"),
        ({"scope": "profile"}, "invalid_scope"),
        ({"scope": None}, "invalid_scope"),
        ({"response_mode": "fragment"}, "invalid_request"),
        ({"max_age": "-1"}, "invalid_request"),
        ({"max_age": "soon"}, "invalid_request"),
        ({"prompt": "none login"}, "login_required invalid_request"),
        ({"request": "e30"}, "request_not_supported"),
        ({"request_uri": "https://rp.example/"}, "request_uri_not_supported"),
        ({"registration": "{}"}, "registration_not_supported"),
    ],
)
def test_a_request_for_what_is_not_there_is_answered_at_the_redirect_uri(
    payroll: Application, anna: Person, changes: dict[str, str | None], error: str
) -> None:
    back = answer(anna.authenticate(payroll.url(**changes)))
    assert back["error"] in error.split()
    assert back["state"] == "the state"
    assert back["iss"] == payroll.issuer


def test_a_parameter_that_is_there_twice_is_refused(payroll: Application, anna: Person) -> None:
    assert answer(anna.authenticate(payroll.url() + "&nonce=another"))["error"] == "invalid_request"


@pytest.mark.parametrize(
    "changes",
    [
        {"redirect_uri": "http://127.0.0.1:1/callback"},
        {"redirect_uri": 'https://evil.example/"é'},
        {"redirect_uri": None},
        {"client_id": "nobody"},
        {"client_id": None},
    ],
)
def test_nobody_is_sent_to_an_address_that_is_not_registered(
    payroll: Application, changes: dict[str, str | None]
) -> None:
    response = requests.get(payroll.url(**changes), allow_redirects=False)
    assert response.status_code == 400
    assert page(response).name == "error"
    assert "<details>" in response.text


def test_an_address_at_any_port_of_this_machine_may_be_registered(provider: RunningProvider, anna: Person) -> None:
    application = Application(provider.issuer, client_id="anywhere")
    for origin in ("http://127.0.0.1:8000", "http://localhost:8080", "http://[::1]:1", "http://127.0.0.1"):
        back = anna.authenticate(application.url(redirect_uri=f"{origin}/callback/"))
        assert back.startswith(f"{origin}/callback/?code=")


def test_the_authorization_endpoint_takes_a_post(payroll: Application) -> None:
    url, _, query = payroll.url().partition("?")
    response = requests.post(url, data=dict(parse_qsl(query)), allow_redirects=False)
    assert "/sign-in/" in response.headers["Location"]


# Refresh tokens


OFFLINE = "openid email offline_access"


def refresh(application: Application, refresh_token: str | None, **changes: Any) -> requests.Response:
    data = {"refresh_token": refresh_token} if refresh_token is not None else {}
    sent = {"grant_type": "refresh_token", **data, **changes.pop("data", {})}
    auth = changes.pop("auth", (application.client_id, SECRET))
    return requests.post(f"{application.issuer}oauth/token", data=sent, auth=auth, **changes)


def test_who_asks_for_offline_access_gets_a_refresh_token_and_nobody_else(payroll: Application, anna: Person) -> None:
    assert "refresh_token" not in payroll.tokens(anna.authenticate(payroll.url()))
    tokens = payroll.tokens(anna.authenticate(payroll.url(scope=OFFLINE)))
    assert tokens["refresh_token"]
    assert tokens["scope"] == OFFLINE


def test_an_application_may_be_configured_to_get_one_in_any_case(provider: RunningProvider, anna: Person) -> None:
    refreshing = Application(provider.issuer, "refreshing")
    assert refreshing.tokens(anna.authenticate(refreshing.url()))["refresh_token"]


def test_a_refresh_token_brings_an_id_token_about_the_same_authentication(payroll: Application, anna: Person) -> None:
    url = payroll.url(scope=OFFLINE, acr_values=MULTI_FACTOR, max_age="600")
    tokens = payroll.tokens(anna.authenticate(url))
    first = payroll.verify(tokens["id_token"])
    renewed = refresh(payroll, tokens["refresh_token"]).json()
    second = payroll.verify(renewed["id_token"])

    assert {"amr", "acr", "nonce", "auth_time"} <= first.keys()
    assert first.keys() - second.keys() == {"amr", "acr", "nonce"}, "as at Auth0"
    for claim in ("iss", "sub", "aud", "sid", "auth_time", "email"):
        assert second[claim] == first[claim]
    assert second["iat"] >= first["iat"]
    assert second["at_hash"] != first["at_hash"]
    headers = {"Authorization": f"Bearer {renewed['access_token']}"}
    assert requests.get(f"{payroll.issuer}userinfo", headers=headers).json()["sub"] == "stepup|anna"


def test_without_a_request_for_freshness_it_says_no_time(payroll: Application, anna: Person) -> None:
    tokens = payroll.tokens(anna.authenticate(payroll.url(scope=OFFLINE)))
    assert "auth_time" not in payroll.verify(refresh(payroll, tokens["refresh_token"]).json()["id_token"])


@pytest.mark.parametrize(("factor", "amr"), [(None, None), ("push", ["mfa"])])
def test_an_application_may_be_configured_to_have_amr_repeated(
    anna: Person, factor: Any, amr: list[str] | None
) -> None:
    with launch(dataclasses.replace(CONFIGURATION, clients_with_mfa=("refreshing",))) as asking:
        refreshing = Application(asking.issuer, "refreshing")
        url = refreshing.url(acr_values=MULTI_FACTOR if factor else None)
        tokens = refreshing.tokens(anna.authenticate(url, factor=factor))
        again = refreshing.verify(refresh(refreshing, tokens["refresh_token"]).json()["id_token"])
    assert (again.get("amr"), again.get("acr")) == (amr, MULTI_FACTOR if amr else None)


def test_a_refresh_token_is_good_once_and_brings_the_next(payroll: Application, anna: Person) -> None:
    token = payroll.tokens(anna.authenticate(payroll.url(scope=OFFLINE)))["refresh_token"]
    seen = {token}
    for _ in range(3):
        token = refresh(payroll, token).json()["refresh_token"]
        assert token not in seen
        seen.add(token)


def test_one_that_comes_again_ends_them_all(payroll: Application, anna: Person) -> None:
    first = payroll.tokens(anna.authenticate(payroll.url(scope=OFFLINE)))["refresh_token"]
    other = payroll.tokens(anna.authenticate(payroll.url(scope=OFFLINE)))["refresh_token"]
    second = refresh(payroll, first).json()["refresh_token"]
    for token in (first, second):
        refused = refresh(payroll, token)
        assert (refused.status_code, refused.json()["error"]) == (400, "invalid_grant")
    assert refresh(payroll, other).status_code == 200, "but those of another sign-in"


def test_a_code_that_comes_again_ends_them_too(payroll: Application, anna: Person) -> None:
    code = answer(anna.authenticate(payroll.url(scope=OFFLINE)))["code"]
    token = payroll.exchange(code).json()["refresh_token"]
    assert payroll.exchange(code).status_code == 400
    assert refresh(payroll, token).json()["error"] == "invalid_grant"


def test_of_many_at_once_no_two_get_the_next(payroll: Application, anna: Person) -> None:
    token = payroll.tokens(anna.authenticate(payroll.url(scope=OFFLINE)))["refresh_token"]
    statuses: list[int] = []
    threads = [threading.Thread(target=lambda: statuses.append(refresh(payroll, token).status_code)) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert statuses.count(200) <= 1
    assert refresh(payroll, token).status_code == 400


@pytest.mark.parametrize("token", [None, "", "invented", "ü"])
def test_what_is_no_refresh_token_brings_nothing(payroll: Application, token: str | None) -> None:
    refused = refresh(payroll, token)
    assert (refused.status_code, refused.json()["error"]) == (
        400,
        "invalid_request" if token is None else "invalid_grant",
    )


def test_the_refresh_token_of_one_application_is_of_no_use_to_another_and_stays_good(
    payroll: Application, anna: Person
) -> None:
    token = payroll.tokens(anna.authenticate(payroll.url(scope=OFFLINE)))["refresh_token"]
    assert refresh(payroll, token, auth=("canteen", SECRET)).json()["error"] == "invalid_grant"
    assert refresh(payroll, token, auth=("payroll", "wrong")).json()["error"] == "invalid_client"
    assert refresh(payroll, token).status_code == 200


def test_less_may_be_asked_for_and_no_more(payroll: Application, anna: Person) -> None:
    token = payroll.tokens(anna.authenticate(payroll.url(scope=OFFLINE)))["refresh_token"]
    assert refresh(payroll, token, data={"scope": "openid profile"}).json()["error"] == "invalid_scope"


def test_refreshes_are_on_record_and_forgotten_by_a_reset(
    provider: RunningProvider, payroll: Application, anna: Person
) -> None:
    token = payroll.tokens(anna.authenticate(payroll.url(scope=OFFLINE)))["refresh_token"]
    refresh(payroll, token)
    (refreshed,) = [request for request in provider.requests() if "refresh_token" in request.form]
    assert (refreshed.method, refreshed.path) == ("POST", "/oauth/token")
    provider.reset()
    assert refresh(payroll, token).json()["error"] == "invalid_grant"


def test_without_rotation_it_stays_good_and_brings_no_other(
    provider: RunningProvider, payroll: Application, anna: Person
) -> None:
    token = payroll.tokens(anna.authenticate(payroll.url(scope=OFFLINE)))["refresh_token"]
    provider.behave("refresh_without_rotation")
    for _ in range(2):
        renewed = refresh(payroll, token)
        assert (renewed.status_code, "refresh_token" in renewed.json()) == (200, False)


# prompt, max_age, auth_time and the hints


def test_the_provider_remembers_who_signed_in(payroll: Application, anna: Person) -> None:
    first = payroll.claims(anna.authenticate(payroll.url()))
    anna.password = "forgotten"
    second = payroll.claims(anna.authenticate(payroll.url()))
    assert first["sid"] == second["sid"]


def test_silence_is_answered_with_a_code_where_somebody_is_signed_in(payroll: Application, anna: Person) -> None:
    anna.authenticate(payroll.url(acr_values=MULTI_FACTOR))
    claims = payroll.claims(anna.authenticate(payroll.url(prompt="none")))
    assert claims["sub"] == "stepup|anna"
    assert not {"amr", "acr", "auth_time"} & set(claims)


def test_silence_is_refused_where_nobody_is_signed_in(payroll: Application, anna: Person) -> None:
    assert answer(anna.authenticate(payroll.url(prompt="none")))["error"] == "login_required"


def test_silence_is_refused_where_the_sign_in_is_too_old(payroll: Application, anna: Person) -> None:
    anna.authenticate(payroll.url())
    back = answer(anna.authenticate(payroll.url(prompt="none", max_age="0")))
    assert back["error"] == "login_required"
    assert back["iss"] == payroll.issuer


def test_silence_is_refused_where_a_second_factor_is_asked_for(payroll: Application, anna: Person) -> None:
    anna.authenticate(payroll.url())
    back = answer(anna.authenticate(payroll.url(prompt="none", acr_values=MULTI_FACTOR)))
    assert back["error"] == "interaction_required"


def test_auth_time_is_there_only_where_freshness_was_asked_for(payroll: Application, anna: Person) -> None:
    signed_in = int(time.time())
    assert "auth_time" not in payroll.claims(anna.authenticate(payroll.url()))
    with_max_age = payroll.claims(anna.authenticate(payroll.url(max_age="3600")))
    assert signed_in <= with_max_age["auth_time"] <= signed_in + 2
    with_prompt = payroll.claims(anna.authenticate(payroll.url(prompt="login")))
    assert with_prompt["auth_time"] >= with_max_age["auth_time"]


@pytest.mark.parametrize("changes", [{"prompt": "login"}, {"max_age": "0"}])
def test_a_password_is_asked_for_again_where_the_application_says_so(
    payroll: Application, anna: Person, changes: dict[str, str | None]
) -> None:
    before = payroll.claims(anna.authenticate(payroll.url(max_age="3600")))
    asked = time.time()
    claims = payroll.claims(anna.authenticate(payroll.url(**changes)))
    assert claims["auth_time"] >= int(asked)
    assert claims["sid"] == before["sid"]
    anna.password = "forgotten"
    with pytest.raises(StuckError, match="sign-in"):
        anna.authenticate(payroll.url(**changes))


def test_max_age_is_the_age_of_the_password(payroll: Application, anna: Person) -> None:
    first = payroll.claims(anna.authenticate(payroll.url(max_age="100")))
    same = payroll.claims(anna.authenticate(payroll.url(max_age="100")))
    assert same["auth_time"] == first["auth_time"]
    time.sleep(1.1)
    newer = payroll.claims(anna.authenticate(payroll.url(max_age="1")))
    assert newer["auth_time"] > first["auth_time"]


def test_consent_is_not_asked_for(payroll: Application, anna: Person) -> None:
    anna.authenticate(payroll.url())
    assert "code" in answer(anna.authenticate(payroll.url(prompt="consent")))


@pytest.mark.parametrize(
    "query", ["client_id=payroll", "client_id=payroll&response_type=token", "client_id=payroll&response_type="]
)
def test_a_request_without_redirect_uri_and_response_type_is_told_so(payroll: Application, query: str) -> None:
    answer = requests.get(f"{payroll.url().partition('?')[0]}?{query}", allow_redirects=False)
    assert answer.status_code == 400
    assert page(answer).name == "error"


def test_a_person_can_sign_in_by_email_address_which_is_what_applications_hint_with(payroll: Application) -> None:
    url = payroll.url(login_hint="anna@harbour.example")
    assert "code=" in Person("anna@harbour.example", "anna-password").authenticate(url, factor=None)
    with pytest.raises(StuckError):
        Person("", "anna-password").authenticate(payroll.url(), factor=None)


def test_a_login_hint_fills_in_the_username(payroll: Application) -> None:
    shown = page(requests.get(payroll.url(login_hint='ben"><b>')))
    assert shown.forms["sign-in"].fields["username"] == 'ben"><b>'
    assert page(requests.get(payroll.url())).forms["sign-in"].fields["username"] == ""


def test_an_id_token_hint_about_the_person_who_is_signed_in_changes_nothing(payroll: Application, anna: Person) -> None:
    id_token = payroll.tokens(anna.authenticate(payroll.url()))["id_token"]
    assert "code" in answer(anna.authenticate(payroll.url(prompt="none", id_token_hint=id_token)))


def test_an_id_token_hint_that_is_not_ours_is_ignored(payroll: Application, anna: Person) -> None:
    anna.authenticate(payroll.url())
    foreign = jwt.encode({"sub": "stepup|ben"}, SECRET, algorithm="HS256", headers={"kid": '"é'})
    for hint in ("rubbish", foreign, f"{foreign}x", "a.b.c"):
        assert "code" in answer(anna.authenticate(payroll.url(prompt="none", id_token_hint=hint)))


def test_an_id_token_hint_about_somebody_else_asks_them_to_sign_in(payroll: Application, anna: Person) -> None:
    ben = Person("ben", "ben-password")
    hint = payroll.tokens(ben.authenticate(payroll.url()))["id_token"]
    anna.authenticate(payroll.url())
    silent = answer(anna.authenticate(payroll.url(prompt="none", id_token_hint=hint)))
    assert silent["error"] == "login_required"
    shown = page(anna.session.get(payroll.url(id_token_hint=hint)))
    assert shown.forms["sign-in"].fields["username"] == "ben"
    assert payroll.claims(anna.authenticate(payroll.url(id_token_hint=hint)))["sub"] == "stepup|anna"


def test_select_account_offers_the_one_that_is_signed_in_and_others(payroll: Application, anna: Person) -> None:
    anna.authenticate(payroll.url(prompt="select_account"))
    url = payroll.url(prompt="select_account")
    shown = page(anna.session.get(url))
    assert shown.name == "choose-account"
    assert payroll.claims(anna.authenticate(url))["sub"] == "stepup|anna"
    other = page(anna.session.get(shown.links["other"]))
    assert other.forms["sign-in"].fields["username"] == ""
    back = submit(anna.session, other, "sign-in", username="ben", password="ben-password").headers["Location"]
    assert payroll.claims(back)["sub"] == "stepup|ben"
    assert payroll.claims(anna.authenticate(payroll.url(prompt="none")))["sub"] == "stepup|ben"


def test_the_account_page_of_somebody_who_has_left_asks_to_sign_in(payroll: Application, anna: Person) -> None:
    anna.authenticate(payroll.url())
    shown = page(anna.session.get(payroll.url(prompt="select_account")))
    del anna.session.cookies["stepup_op_session"]
    assert page(submit(anna.session, shown, "continue")).status == 302
    assert page(anna.session.get(shown.url)).name == "sign-in"


def test_somebody_who_signs_in_again_can_use_another_account(payroll: Application, anna: Person) -> None:
    first = payroll.claims(anna.authenticate(payroll.url()))
    shown = page(anna.session.get(payroll.url(prompt="login")))
    assert shown.forms["sign-in"].fields["username"] == "anna"
    other = page(anna.session.get(shown.links["other"]))
    back = submit(anna.session, other, "sign-in", username="ben", password="ben-password").headers["Location"]
    claims = payroll.claims(back)
    assert claims["sub"] == "stepup|ben"
    assert claims["sid"] != first["sid"]


# The second factor


@pytest.mark.parametrize("factor", ["push", "totp"])
def test_a_second_factor_is_asked_for_and_told_where_client_and_request_call_for_it(
    payroll: Application, anna: Person, factor: Any
) -> None:
    url = payroll.url(acr_values=f"urn:example:other {MULTI_FACTOR}")
    claims = payroll.claims(anna.authenticate(url, factor=factor))
    assert claims["amr"] == ["mfa"]
    assert claims["acr"] == MULTI_FACTOR
    assert "auth_time" not in claims


@pytest.mark.parametrize("acr_values", [None, "", "urn:example:other", f"{MULTI_FACTOR}-not", MULTI_FACTOR.upper()])
def test_no_second_factor_is_asked_for_where_the_request_does_not(
    payroll: Application, anna: Person, acr_values: str | None
) -> None:
    claims = payroll.claims(anna.authenticate(payroll.url(acr_values=acr_values), factor=None))
    assert not {"amr", "acr"} & set(claims)


def test_no_second_factor_is_asked_for_where_the_client_is_not_listed(provider: RunningProvider, anna: Person) -> None:
    canteen = Application(provider.issuer, client_id="canteen")
    claims = canteen.claims(anna.authenticate(canteen.url(acr_values=MULTI_FACTOR), factor=None))
    assert not {"amr", "acr"} & set(claims)


def test_the_browser_is_never_remembered(payroll: Application, anna: Person) -> None:
    url = payroll.url(acr_values=MULTI_FACTOR)
    anna.authenticate(url)
    with pytest.raises(StuckError, match=r"second-factor.*with no second factor at hand"):
        anna.authenticate(url, factor=None)


def test_a_second_factor_does_not_move_auth_time(payroll: Application, anna: Person) -> None:
    first = payroll.claims(anna.authenticate(payroll.url(max_age="100")))
    time.sleep(1.1)
    second = payroll.claims(anna.authenticate(payroll.url(max_age="100", acr_values=MULTI_FACTOR)))
    assert second["amr"] == ["mfa"]
    assert second["auth_time"] == first["auth_time"]


def test_password_and_second_factor_are_asked_for_in_one_trip(payroll: Application, anna: Person) -> None:
    anna.authenticate(payroll.url())
    claims = payroll.claims(anna.authenticate(payroll.url(acr_values=MULTI_FACTOR, max_age="0", prompt="login")))
    assert claims["amr"] == ["mfa"]
    assert claims["auth_time"] >= claims["iat"] - 1


def test_denying_on_the_phone_ends_it(payroll: Application, anna: Person) -> None:
    back = answer(anna.authenticate(payroll.url(acr_values=MULTI_FACTOR), deny=True))
    assert back["error"] == "access_denied"
    assert back["error_description"] == "The request was denied on the phone."
    assert back["state"] == "the state"
    assert back["iss"] == payroll.issuer


def test_the_page_waits_for_the_phone(payroll: Application, anna: Person) -> None:
    waiting = ask_the_phone(payroll, anna)
    response = anna.session.get(waiting.url)
    assert page(response).texts["number"] == waiting.texts["number"]
    assert '<meta http-equiv="refresh" content="3">' in response.text
    assert page(anna.session.get(waiting.links["continue"])).name == "push"


def ask_the_phone(payroll: Application, anna: Person) -> Page:
    anna.authenticate(payroll.url())
    shown = page(anna.session.get(payroll.url(acr_values=MULTI_FACTOR)))
    response = submit(anna.session, shown, "push", push="1")
    return page(anna.session.get(urljoin(shown.url, response.headers["Location"])))


def phone_of(payroll: Application, username: str, session: requests.Session) -> Page:
    return page(session.get(f"{payroll.issuer}phone/", params={"user": username}))


def test_a_wrong_number_approves_nothing_and_ends_the_request(payroll: Application, anna: Person) -> None:
    waiting = ask_the_phone(payroll, anna)
    phone = phone_of(payroll, "anna", anna.phone)
    numbers = phone.forms["form-0"].choices["number"]
    assert waiting.texts["number"] in numbers
    assert len(set(numbers)) == 3
    wrong = next(number for number in numbers if number != waiting.texts["number"])
    told = page(submit(anna.phone, phone, "form-0", number=wrong, approve="1"))
    assert told.notices == ["That was not the number. Nothing was approved."]
    late = page(submit(anna.phone, phone, "form-0", number=waiting.texts["number"], approve="1"))
    assert late.notices == ["This request is no longer there."]
    stopped = page(anna.session.get(waiting.url))
    assert stopped.notices == ["The number chosen on the phone was another one."]
    again = submit(anna.session, stopped, "again", push="1")
    assert again.status_code == 302
    assert page(anna.session.get(waiting.url)).heading == "Look at your phone"


def test_approving_without_choosing_a_number_approves_nothing(payroll: Application, anna: Person) -> None:
    ask_the_phone(payroll, anna)
    told = page(submit(anna.phone, phone_of(payroll, "anna", anna.phone), "form-0", approve="1"))
    assert told.notices == ["That was not the number. Nothing was approved."]


def test_nobody_approves_for_somebody_else(payroll: Application, anna: Person) -> None:
    waiting = ask_the_phone(payroll, anna)
    phone = phone_of(payroll, "anna", anna.phone)
    fields = {"user": "ben", "number": waiting.texts["number"], "approve": "1"}
    assert page(submit(anna.phone, phone, "form-0", **fields)).notices == ["This request is no longer there."]
    assert page(anna.session.get(waiting.url)).texts["number"]


def test_approving_needs_the_form_of_the_phone(payroll: Application, anna: Person) -> None:
    waiting = ask_the_phone(payroll, anna)
    phone = phone_of(payroll, "anna", anna.phone)
    fields = {**phone.forms["form-0"].fields, "number": waiting.texts["number"], "approve": "1"}
    response = requests.post(phone.forms["form-0"].action, data=fields)
    assert response.status_code == 403
    assert page(response).heading == "This form cannot be used any more"


def test_asking_again_takes_the_first_question_back(payroll: Application, anna: Person) -> None:
    waiting = ask_the_phone(payroll, anna)
    first = phone_of(payroll, "anna", anna.phone)
    shown = page(anna.session.get(waiting.links["other-factor"]))
    submit(anna.session, shown, "push", push="1")
    told = page(submit(anna.phone, first, "form-0", number=waiting.texts["number"], approve="1"))
    assert told.notices == ["This request is no longer there."]


def test_a_code_is_good_once(payroll: Application, anna: Person) -> None:
    anna.authenticate(payroll.url(acr_values=MULTI_FACTOR), factor="totp")
    shown = page(anna.session.get(payroll.url(acr_values=MULTI_FACTOR)))
    told = page(submit(anna.session, shown, "code", code=anna._used_code))
    assert told.notices == ["This code was used already. Wait for the next one."]


def test_a_code_may_be_typed_with_a_space(payroll: Application, anna: Person) -> None:
    anna.authenticate(payroll.url())
    shown = page(anna.session.get(payroll.url(acr_values=MULTI_FACTOR)))
    code = phone_of(payroll, "anna", anna.phone).texts["code"]
    response = submit(anna.session, shown, "code", code=f"{code[:3]} {code[3:]} ")
    assert payroll.claims(response.headers["Location"])["amr"] == ["mfa"]


def test_codes_cannot_be_guessed_at_will(payroll: Application, anna: Person) -> None:
    anna.authenticate(payroll.url())
    shown = page(anna.session.get(payroll.url(acr_values=MULTI_FACTOR)))
    for _ in range(ATTEMPTS):
        assert page(submit(anna.session, shown, "code", code="é")).notices == ["This code is not right."]
    code = phone_of(payroll, "anna", anna.phone).texts["code"]
    told = page(submit(anna.session, shown, "code", code=code))
    assert told.notices == ["Too many wrong codes. Wait a minute before the next one."]


def test_a_factor_that_a_person_does_not_have_is_not_offered(payroll: Application) -> None:
    ben = Person("ben", "ben-password")
    ben.authenticate(payroll.url())
    shown = page(ben.session.get(payroll.url(acr_values=MULTI_FACTOR)))
    assert "push" not in shown.forms
    assert page(submit(ben.session, shown, "code", push="1")).notices == ["This code is not right."]


def test_a_person_without_a_second_factor_is_told_so(payroll: Application) -> None:
    cleo = Person("cleo", "cleo-password")
    cleo.authenticate(payroll.url())
    url = payroll.url(acr_values=MULTI_FACTOR)
    shown = page(cleo.session.get(url))
    assert shown.heading == "You have no second factor"
    assert page(cleo.session.post(shown.url, data={**shown.forms["cancel"].fields, "code": "0"})).name == shown.name
    back = answer(cleo.authenticate(url))
    assert back["error"] == "access_denied"
    assert back["error_description"] == "no second factor enrolled"
    assert "code" in answer(cleo.authenticate(payroll.url(prompt="none")))


# Cancelling, and pages that are out of place


@pytest.mark.parametrize("signed_in", [False, True])
def test_cancelling_goes_back_to_the_application(payroll: Application, anna: Person, signed_in: bool) -> None:
    if signed_in:
        anna.authenticate(payroll.url())
    back = answer(anna.authenticate(payroll.url(acr_values=MULTI_FACTOR), cancel=True))
    assert back["error"] == "access_denied"
    assert back["error_description"] == "The person cancelled."
    assert back["state"] == "the state"
    assert back["iss"] == payroll.issuer


@pytest.mark.parametrize(("username", "password"), [("anna", "wrong"), ("nobody", "anna-password"), ("", "")])
def test_a_wrong_password_is_told_without_saying_what_was_wrong(
    payroll: Application, username: str, password: str
) -> None:
    session = requests.Session()
    shown = page(session.get(payroll.url()))
    told = page(submit(session, shown, "sign-in", username=username, password=password))
    assert told.notices == ["The username or the password is not right."]
    assert told.forms["sign-in"].fields["username"] == username


def test_pages_cannot_be_used_in_another_browser(payroll: Application, anna: Person) -> None:
    shown = page(anna.session.get(payroll.url()))
    key = shown.url.rpartition("/")[2]
    for name in ("sign-in", "choose-account", "second-factor", "push"):
        response = requests.get(f"{payroll.issuer}{name}/{key}")
        assert response.status_code == 410
        assert page(response).heading == "This page has expired"


def test_a_page_that_was_used_has_expired(payroll: Application, anna: Person) -> None:
    shown = page(anna.session.get(payroll.url()))
    assert submit(anna.session, shown, "cancel").status_code == 302
    assert submit(anna.session, shown, "cancel").status_code == 410
    assert submit(anna.session, shown, "sign-in", username="anna", password="x").status_code == 410


def test_the_pages_of_a_second_factor_begin_with_the_first(payroll: Application, anna: Person) -> None:
    shown = page(anna.session.get(payroll.url(acr_values=MULTI_FACTOR)))
    key = shown.url.rpartition("/")[2]
    for name in ("second-factor", "push", "choose-account"):
        assert page(anna.session.get(f"{payroll.issuer}{name}/{key}")).name == "sign-in"


def test_a_sign_in_in_another_tab_does_not_answer_for_this_one(payroll: Application, anna: Person) -> None:
    waiting = ask_the_phone(payroll, anna)
    other = page(anna.session.get(payroll.url(prompt="login")))
    submit(anna.session, other, "sign-in", username="ben", password="ben-password")
    phone = phone_of(payroll, "anna", anna.phone)
    submit(anna.phone, phone, "form-0", number=waiting.texts["number"], approve="1")
    assert page(anna.session.get(waiting.links["continue"])).name == "sign-in"


def test_a_password_that_grows_too_old_while_the_phone_is_asked_is_asked_for_again(
    payroll: Application, anna: Person
) -> None:
    anna.authenticate(payroll.url())
    shown = page(anna.session.get(payroll.url(acr_values=MULTI_FACTOR, max_age="1")))
    assert shown.name == "second-factor"
    time.sleep(1.1)
    assert page(anna.session.get(shown.url)).name == "sign-in"


# End session


def goodbye(issuer: str, **parameters: str) -> str:
    return f"{issuer}oidc/logout?{urlencode(parameters)}"


def is_signed_in(application: Application, person: Person) -> bool:
    return "code" in answer(person.authenticate(application.url(prompt="none")))


def test_an_id_token_ends_the_session_and_leads_to_the_registered_address(payroll: Application, anna: Person) -> None:
    id_token = payroll.tokens(anna.authenticate(payroll.url()))["id_token"]
    url = goodbye(payroll.issuer, id_token_hint=id_token, post_logout_redirect_uri=GOODBYE, state="s p")
    response = anna.session.get(url, allow_redirects=False)
    assert response.headers["Location"] == f"{GOODBYE}?state=s+p"
    assert not is_signed_in(payroll, anna)


def test_a_post_ends_the_session_too(payroll: Application, anna: Person) -> None:
    id_token = payroll.tokens(anna.authenticate(payroll.url()))["id_token"]
    response = anna.session.post(f"{payroll.issuer}oidc/logout", data={"id_token_hint": id_token})
    assert page(response).name == "signed-out"
    assert not is_signed_in(payroll, anna)


def test_an_id_token_signed_with_the_client_secret_ends_the_session(provider: RunningProvider, anna: Person) -> None:
    application = Application(provider.issuer, client_id="HS256")
    id_token = application.tokens(anna.authenticate(application.url()))["id_token"]
    back = anna.sign_out(goodbye(provider.issuer, id_token_hint=id_token, post_logout_redirect_uri=GOODBYE))
    assert back == GOODBYE


def test_without_an_id_token_the_person_confirms(payroll: Application, anna: Person) -> None:
    anna.authenticate(payroll.url())
    url = goodbye(payroll.issuer, client_id="payroll", post_logout_redirect_uri=GOODBYE, state="x")
    shown = page(anna.session.get(url))
    assert shown.name == "sign-out"
    assert is_signed_in(payroll, anna)
    assert anna.sign_out(url) == f"{GOODBYE}?state=x"
    assert not is_signed_in(payroll, anna)


def test_the_confirmation_cannot_be_forged(payroll: Application, anna: Person) -> None:
    anna.authenticate(payroll.url())
    response = anna.session.post(f"{payroll.issuer}oidc/logout/confirmed", data={"client_id": "payroll"})
    assert response.status_code == 403
    assert is_signed_in(payroll, anna)


def test_the_id_token_of_somebody_else_does_not_sign_out_unasked(payroll: Application, anna: Person) -> None:
    id_token = payroll.tokens(Person("ben", "ben-password").authenticate(payroll.url()))["id_token"]
    anna.authenticate(payroll.url())
    assert page(anna.session.get(goodbye(payroll.issuer, id_token_hint=id_token))).name == "sign-out"


@pytest.mark.parametrize("address", ["http://127.0.0.1:1/goodbye", f"{GOODBYE}?x=1", "https://evil.example/"])
def test_an_address_that_is_not_registered_is_not_gone_to(payroll: Application, anna: Person, address: str) -> None:
    id_token = payroll.tokens(anna.authenticate(payroll.url()))["id_token"]
    url = goodbye(payroll.issuer, id_token_hint=id_token, post_logout_redirect_uri=address)
    assert anna.sign_out(url) == url


def test_any_address_of_this_machine_may_be_registered_for_the_way_out(provider: RunningProvider, anna: Person) -> None:
    application = Application(provider.issuer, client_id="anywhere")
    anna.authenticate(application.url())
    target = "http://localhost:8000/bye/bye/"
    assert anna.sign_out(goodbye(provider.issuer, client_id="anywhere", post_logout_redirect_uri=target)) == target


def test_an_id_token_that_is_not_ours_signs_nobody_out(payroll: Application, anna: Person) -> None:
    tokens = payroll.tokens(anna.authenticate(payroll.url()))
    foreign = jwt.encode({"sub": "stepup|anna"}, SECRET, algorithm="HS256", headers={"kid": '"é'})
    for url in (
        goodbye(payroll.issuer, id_token_hint="rubbish"),
        goodbye(payroll.issuer, id_token_hint=foreign),
        goodbye(payroll.issuer, id_token_hint=tokens["id_token"], client_id="canteen"),
    ):
        response = anna.session.get(url)
        assert response.status_code == 400
        assert page(response).heading == "You are still signed in"
    assert is_signed_in(payroll, anna)


def test_signing_out_where_nobody_is_signed_in_is_not_an_error(payroll: Application, anna: Person) -> None:
    assert anna.sign_out(f"{payroll.issuer}oidc/logout") == f"{payroll.issuer}oidc/logout"


# The discovery document


def test_the_discovery_document_is_valid_and_its_endpoints_are_there(provider: RunningProvider) -> None:
    document = requests.get(f"{provider.issuer}.well-known/openid-configuration").json()
    OpenIDProviderMetadata(document).validate()
    assert document["issuer"] == provider.issuer
    assert provider.issuer == f"http://127.0.0.1:{provider.port}/"
    for name, url in document.items():
        if name.endswith(("_endpoint", "_uri")):
            assert requests.get(url, allow_redirects=False).status_code != 404, name


def test_the_discovery_document_says_what_is_so(provider: RunningProvider) -> None:
    document = requests.get(f"{provider.issuer}.well-known/openid-configuration").json()
    assert document["acr_values_supported"] == [MULTI_FACTOR]
    assert document["claims_parameter_supported"] is True
    assert document["request_parameter_supported"] is True
    assert document["require_signed_request_object"] is False
    assert document["request_uri_parameter_supported"] is False
    assert document["authorization_response_iss_parameter_supported"] is True
    assert document["code_challenge_methods_supported"] == ["S256"]
    assert document["response_types_supported"] == ["code"]
    assert set(document["id_token_signing_alg_values_supported"]) == set(ALGORITHMS)


def test_every_claim_of_the_discovery_document_can_be_had(
    payroll: Application, anna: Person, provider: RunningProvider
) -> None:
    url = payroll.url(acr_values=MULTI_FACTOR, max_age="9", scope="openid profile email")
    document = requests.get(f"{provider.issuer}.well-known/openid-configuration").json()
    assert set(payroll.claims(anna.authenticate(url))) == set(document["claims_supported"])


# Applications that sign who they are, and those that push their requests


def assertion(issuer: str, key: Any = PRIVATE_KEY, alg: str = "ES256", **changes: Any) -> dict[str, str]:
    """The parameters by which the application "signing" authenticates."""
    good = {
        "iss": "signing",
        "sub": "signing",
        "aud": f"{issuer}oauth/token",
        "exp": int(time.time()) + 60,
        "jti": secrets.token_urlsafe(8),
    }
    claims = {name: value for name, value in {**good, **changes}.items() if value is not None}
    return {
        "client_assertion_type": "urn:ietf:params:oauth:client-assertion-type:jwt-bearer",
        "client_assertion": jwt.encode(claims, key, algorithm=alg),
    }


@pytest.fixture
def signing(provider: RunningProvider) -> Application:
    return Application(provider.issuer, client_id="signing")


@pytest.mark.parametrize(
    "key",
    [
        PRIVATE_KEY,
        ed25519.Ed25519PrivateKey.generate(),
        rsa.generate_private_key(public_exponent=65537, key_size=2048),
    ],
    ids=["EC", "OKP", "RSA"],
)
def test_a_public_key_is_known_by_its_type(key: Any) -> None:
    text = key.public_key().public_bytes(serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo)
    found: Any = public_key(text.decode())
    assert found.as_pem(private=False) == text


@pytest.mark.parametrize("audience", ["", "oauth/token", "oauth/par"])
def test_an_application_can_sign_who_it_is(signing: Application, anna: Person, audience: str) -> None:
    code = answer(anna.authenticate(signing.url()))["code"]
    signed = assertion(signing.issuer, aud=f"{signing.issuer}{audience}")
    response = signing.exchange(code, auth=None, data=signed)
    assert response.status_code == 200, response.text
    assert signing.verify(response.json()["id_token"])["sub"] == "stepup|anna"


@pytest.mark.parametrize(
    "changes",
    [
        {"key": ec.generate_private_key(ec.SECP256R1())},
        {"key": SECRET, "alg": "HS256"},
        {"key": None, "alg": "none"},
        {"sub": None},
        {"sub": 1},
        {"sub": "nobody"},
        {"sub": "payroll", "iss": "payroll"},
        {"iss": "payroll"},
        {"aud": "https://other.example/"},
        {"exp": None},
        {"exp": 1},
        {"exp": int(time.time()) + 7200},
        {"exp": "soon"},
        {"jti": None},
    ],
    ids=", ".join,
)
def test_an_assertion_that_is_not_right_authenticates_nobody(
    signing: Application, anna: Person, changes: dict[str, Any]
) -> None:
    code = answer(anna.authenticate(signing.url()))["code"]
    response = signing.exchange(code, auth=None, data=assertion(signing.issuer, **changes))
    assert (response.status_code, response.json()["error"]) in [(400, "invalid_client"), (401, "invalid_client")]


#: The payload of an assertion that is nested deeper than a parser can follow.
NESTED = f"eyJhbGciOiJFUzI1NiJ9.{base64.urlsafe_b64encode(b'[' * 30_000).decode()}.AA"


@pytest.mark.parametrize("rubbish", ["x", "a.b.c", "e30.e30.", "\x00", "é.é.é", "eyJhbGciOiJFUzI1NiJ9.W10.AA", NESTED])
def test_rubbish_in_place_of_an_assertion_authenticates_nobody(signing: Application, rubbish: str) -> None:
    response = signing.exchange("a code", auth=None, data={**assertion(signing.issuer), "client_assertion": rubbish})
    assert response.json()["error"] == "invalid_client"


def test_an_assertion_is_good_once(signing: Application, anna: Person) -> None:
    signed = assertion(signing.issuer)
    codes = [answer(anna.authenticate(signing.url()))["code"] for _ in range(2)]
    statuses = [signing.exchange(code, auth=None, data=signed).status_code for code in codes]
    assert statuses == [200, 400]


def test_an_application_with_a_key_has_no_secret(signing: Application, anna: Person) -> None:
    code = answer(anna.authenticate(signing.url()))["code"]
    for sent in (
        {"auth": ("signing", "")},
        {"auth": ("signing", SECRET)},
        {"auth": None, "data": {"client_id": "signing"}},
    ):
        response = signing.exchange(code, **sent)
        assert response.json()["error"] == "invalid_client"


def test_the_application_that_a_request_names_is_the_one_that_signed_it(signing: Application, anna: Person) -> None:
    code = answer(anna.authenticate(signing.url()))["code"]
    response = signing.exchange(code, auth=None, data={**assertion(signing.issuer), "client_id": "payroll"})
    assert response.json()["error"] == "invalid_client"


def push(application: Application, auth: Any = "secret", **changes: str | None) -> requests.Response:
    parameters: Any = dict(parse_qsl(urlsplit(application.url(**changes)).query))
    if auth == "secret":
        auth = (application.client_id, SECRET)
    return requests.post(f"{application.issuer}oauth/par", data=parameters, auth=auth)


def pushed_url(application: Application, response: requests.Response, **changes: str) -> str:
    assert response.status_code == 201, response.text
    name = response.json()["request_uri"]
    sent = {"client_id": application.client_id, "request_uri": name, **changes}
    return f"{application.issuer}authorize?{urlencode(sent)}"


def test_a_pushed_request_is_answered_as_it_was_pushed(payroll: Application, anna: Person) -> None:
    response = push(payroll, acr_values=MULTI_FACTOR)
    assert response.headers["Cache-Control"] == "no-store"
    assert set(response.json()) == {"request_uri", "expires_in"}
    assert response.json()["request_uri"].startswith("urn:ietf:params:oauth:request_uri:")
    assert response.json()["expires_in"] == 60

    back = anna.authenticate(pushed_url(payroll, response, acr_values="", state="forged", redirect_uri="http://evil/"))

    assert answer(back)["state"] == "the state"
    assert payroll.claims(back)["amr"] == ["mfa"]


def test_a_pushed_request_is_good_once(payroll: Application, anna: Person) -> None:
    url = pushed_url(payroll, push(payroll))
    anna.authenticate(url)
    with pytest.raises(StuckError, match=r"error \(410"):
        anna.authenticate(url)


def test_a_pushed_request_is_good_for_its_own_application_only(payroll: Application, anna: Person) -> None:
    url = pushed_url(payroll, push(payroll), client_id="canteen")
    with pytest.raises(StuckError, match=r"error \(410"):
        anna.authenticate(url)


def test_an_application_pushes_with_a_signed_assertion_too(signing: Application, anna: Person) -> None:
    parameters = {**dict(parse_qsl(urlsplit(signing.url()).query)), **assertion(signing.issuer)}
    response = requests.post(f"{signing.issuer}oauth/par", data=parameters)
    assert answer(anna.authenticate(pushed_url(signing, response)))["state"] == "the state"


@pytest.mark.parametrize(
    ("changes", "error"),
    [
        ({"auth": ("payroll", "wrong")}, "invalid_client"),
        ({"auth": None}, "invalid_client"),
        ({"client_id": "canteen"}, "invalid_client"),
        ({"redirect_uri": "http://evil.example/"}, "invalid_request"),
        ({"request_uri": "urn:ietf:params:oauth:request_uri:x"}, "invalid_request"),
        ({"code_challenge": None}, "invalid_request"),
        ({"response_type": "token"}, "unsupported_response_type"),
        ({"scope": "email"}, "invalid_scope"),
    ],
)
def test_a_request_that_cannot_be_answered_is_refused_where_it_is_pushed(
    payroll: Application, changes: dict[str, Any], error: str
) -> None:
    response = push(payroll, **changes)
    assert response.status_code in (400, 401)
    assert response.json()["error"] == error


def test_a_parameter_that_is_there_twice_cannot_be_pushed(payroll: Application) -> None:
    parameters = [*parse_qsl(urlsplit(payroll.url()).query), ("acr_values", "a"), ("acr_values", "b")]
    response = requests.post(f"{payroll.issuer}oauth/par", data=parameters, auth=("payroll", SECRET))
    assert (response.status_code, response.json()["error"]) == (400, "invalid_request")


def test_an_application_may_be_registered_to_push_all_its_requests(provider: RunningProvider, anna: Person) -> None:
    application = Application(provider.issuer, client_id="pushing")
    assert answer(anna.authenticate(application.url()))["error"] == "invalid_request"
    assert application.claims(anna.authenticate(pushed_url(application, push(application))))["sub"] == "stepup|anna"


# Requests that their application has signed


def request_object(issuer: str, url: str, *, by: Any = PRIVATE_KEY, **changes: Any) -> str:
    """The authentication request of a URL as a request object, with changes; None leaves a claim out."""
    claims: dict[str, Any] = dict(parse_qsl(urlsplit(url).query))
    claims |= {"iss": claims["client_id"], "aud": issuer, "exp": int(time.time()) + 60}
    claims |= changes
    claims = {name: value for name, value in claims.items() if value is not None}
    return jwt.encode(claims, by, "ES256", {"typ": "oauth-authz-req+jwt"})


def signed_url(application: Application, request: str, **changes: str) -> str:
    sent = {"client_id": application.client_id, "response_type": "code", "scope": "openid", "request": request}
    return f"{application.issuer}authorize?{urlencode({**sent, **changes})}"


def test_a_signed_request_is_answered_as_it_was_signed(signing: Application, anna: Person) -> None:
    request = request_object(signing.issuer, signing.url(), acr_values=MULTI_FACTOR, max_age=600, claims={})
    back = anna.authenticate(
        signed_url(signing, request, acr_values="", state="forged", redirect_uri="http://evil.example/")
    )
    assert answer(back)["state"] == "the state"
    tokens = signing.exchange(answer(back)["code"], auth=None, data=assertion(signing.issuer)).json()
    assert time.time() - signing.verify(tokens["id_token"])["auth_time"] < 60, "it was asked with max_age"


def test_a_signed_request_can_be_pushed(signing: Application, anna: Person) -> None:
    request = request_object(signing.issuer, signing.url())
    response = requests.post(f"{signing.issuer}oauth/par", data={"request": request, **assertion(signing.issuer)})
    assert answer(anna.authenticate(pushed_url(signing, response)))["state"] == "the state"


@pytest.mark.parametrize(
    "changes",
    [
        {"by": OTHER_KEY},
        {"iss": "canteen"},
        {"iss": None},
        {"client_id": "canteen"},
        {"client_id": None},
        {"aud": "https://other.example/"},
        {"aud": None},
        {"exp": 1},
        {"exp": None},
        {"request": "x"},
        {"request_uri": "urn:x"},
    ],
    ids=lambda changes: ",".join(f"{name}={value}" for name, value in changes.items() if name != "by") or "key",
)
def test_a_request_object_that_is_not_right_is_refused(
    signing: Application, anna: Person, changes: dict[str, Any]
) -> None:
    request = request_object(signing.issuer, signing.url(), **changes)
    response = requests.post(f"{signing.issuer}oauth/par", data={"request": request, **assertion(signing.issuer)})
    assert (response.status_code, response.json()["error"]) == (400, "invalid_request_object")
    with pytest.raises(StuckError, match=r"error \(400"):
        anna.authenticate(signed_url(signing, request))


@pytest.mark.parametrize("request_", ["junk", "a.b.c", "e30.e30.", ""])
def test_what_is_no_request_object_is_refused(signing: Application, anna: Person, request_: str) -> None:
    with pytest.raises(StuckError, match=r"error \(400"):
        anna.authenticate(signed_url(signing, request_))
    with pytest.raises(StuckError, match=r"error \(400"):
        anna.authenticate(f"{signed_url(signing, request_)}&request=twice")


def test_who_has_no_key_at_the_op_cannot_sign_a_request(payroll: Application, anna: Person) -> None:
    request = request_object(payroll.issuer, payroll.url())
    back = anna.authenticate(f"{payroll.url()}&{urlencode({'request': request})}")
    assert answer(back)["error"] == "request_not_supported"


def test_an_application_may_be_registered_to_sign_all_its_requests(provider: RunningProvider, anna: Person) -> None:
    application = Application(provider.issuer, client_id="signing-requests")
    assert answer(anna.authenticate(application.url()))["error"] == "invalid_request"
    request = request_object(provider.issuer, application.url())
    assert "code" in answer(anna.authenticate(signed_url(application, request)))


# TLS and latency


def test_the_provider_speaks_tls_with_a_certificate_of_its_own() -> None:
    with launch(dataclasses.replace(CONFIGURATION, tls=True)) as provider:
        assert provider.issuer == f"https://127.0.0.1:{provider.port}/"
        anna = Person("anna", "anna-password", certificate=provider.certificate)
        application = Application(provider.issuer)
        code = answer(anna.authenticate(application.url(acr_values=MULTI_FACTOR)))["code"]
        response = application.exchange(code, verify=provider.certificate)
        assert response.json()["id_token"]
        metadata = requests.get(
            f"{provider.issuer}.well-known/openid-configuration", verify=provider.certificate
        ).json()
        assert metadata["token_endpoint"] == f"{provider.issuer}oauth/token"
        assert provider.requests()
        with pytest.raises(requests.exceptions.SSLError):
            requests.get(provider.issuer)
        with pytest.raises(requests.ConnectionError):
            requests.get(provider.issuer.replace("https:", "http:"))
    assert not Path(provider.certificate).exists()


def test_the_provider_takes_a_certificate_that_is_there(tmp_path: Path) -> None:
    certificate = make_certificate(tmp_path, "harbour.example")
    with launch(dataclasses.replace(CONFIGURATION, tls=certificate)) as provider:
        assert provider.certificate == certificate[0]
        assert provider.requests() == []
    assert Path(provider.certificate).exists()


def test_a_certificate_that_is_not_there_is_named(tmp_path: Path) -> None:
    missing = (str(tmp_path / "certificate.pem"), str(tmp_path / "key.pem"))
    with pytest.raises(ProviderError, match="No such file or directory"):
        launch(dataclasses.replace(CONFIGURATION, tls=missing))


def test_a_slow_handshake_does_not_keep_others_waiting() -> None:
    with launch(dataclasses.replace(CONFIGURATION, tls=True)) as provider, socket.socket() as silent:
        silent.connect(("127.0.0.1", provider.port))
        assert provider.requests() == []


def test_mistakes_of_the_server_are_reported_and_clients_that_hang_up_are_not(
    capsys: pytest.CaptureFixture[str],
) -> None:
    server = Server.__new__(Server)
    for error in (ConnectionResetError("gone"), ssl.SSLError("no shared cipher"), ValueError("a mistake")):
        try:
            raise error
        except (OSError, ValueError):
            server.handle_error(None, ("127.0.0.1", 1))
    reported = capsys.readouterr().err
    assert "ValueError: a mistake" in reported
    assert "gone" not in reported
    assert "cipher" not in reported


def test_latency_is_added_to_what_applications_ask_for_and_not_to_pages() -> None:
    def took(path: str) -> float:
        before = time.perf_counter()
        session.get(f"{provider.issuer}{path}")
        return time.perf_counter() - before

    with launch(dataclasses.replace(CONFIGURATION, latency=0.2)) as provider, requests.Session() as session:
        for path in (
            ".well-known/openid-configuration",
            ".well-known/jwks.json",
            "userinfo",
            "oauth/token",
            "oauth/par",
        ):
            assert took(path) >= 0.2
        assert min(took(""), took("")) < 0.2


# The pages, their headers and cookies


PAGES = ["", "phone/", "phone/?user=anna", "phone/?user=ben", "phone/?user=cleo", "authorize", "nowhere"]
FILES = ["harbour.css", "harbour.svg"]


@pytest.mark.parametrize("path", PAGES + FILES)
def test_every_answer_has_a_policy_without_scripts_frames_and_foreign_sources(
    provider: RunningProvider, path: str
) -> None:
    response = requests.get(f"{provider.issuer}{path}")
    policy = response.headers["Content-Security-Policy"]
    assert policy == (
        "default-src 'none'; style-src 'self'; img-src 'self'; form-action 'self'; "
        "base-uri 'none'; frame-ancestors 'none'"
    )
    assert response.headers["X-Content-Type-Options"] == "nosniff"
    assert response.headers["X-Frame-Options"] == "DENY"
    assert response.headers["Referrer-Policy"] == "same-origin"
    assert response.headers["Cache-Control"] == ("max-age=600" if path in FILES else "no-store")
    assert not re.search(r'<script|<style|style=|\son\w+=|(src|href|action)="(?!/)', response.text)


def test_forms_that_lead_back_to_the_application_may_do_so(provider: RunningProvider, anna: Person) -> None:
    application = Application(provider.issuer, client_id="anywhere")
    for origin, allowed in (("http://localhost:8000", "http://localhost:8000"), ("http://[::1]:8000", "http:")):
        response = anna.session.get(application.url(redirect_uri=f"{origin}/callback/"))
        assert f"; form-action 'self' {allowed}; " in response.headers["Content-Security-Policy"]


def test_cookies_have_names_of_their_own_and_are_out_of_reach_of_scripts(payroll: Application, anna: Person) -> None:
    anna.authenticate(payroll.url())
    cookies = {cookie.name: cookie for cookie in anna.session.cookies}
    assert set(cookies) == {"stepup_op_browser", "stepup_op_session", "stepup_op_csrf"}
    for cookie in cookies.values():
        assert cookie.has_nonstandard_attr("HttpOnly")
        assert cookie.get_nonstandard_attr("SameSite") == "Lax"


def test_signing_in_changes_the_session_cookie(payroll: Application, anna: Person) -> None:
    anna.authenticate(payroll.url())
    before = anna.session.cookies["stepup_op_session"]
    anna.authenticate(payroll.url(prompt="login"))
    after = anna.session.cookies["stepup_op_session"]
    assert after != before
    anna.session.cookies.set("stepup_op_session", before, domain="127.0.0.1", path="/")
    assert not is_signed_in(payroll, anna)


def test_other_names_than_those_of_this_machine_are_refused(provider: RunningProvider) -> None:
    assert requests.get(provider.issuer, headers={"Host": f"evil.example:{provider.port}"}).status_code == 400
    assert requests.get(provider.issuer, headers={"Host": f"localhost:{provider.port}"}).status_code == 200


def test_the_phone_shows_a_code_and_its_secret_as_an_image(provider: RunningProvider) -> None:
    shown = page(requests.get(f"{provider.issuer}phone/?user=anna"))
    assert re.fullmatch(r"\d{6}", shown.texts["code"])
    image = requests.get(f"{provider.issuer}phone/anna.svg")
    assert image.headers["Content-Type"] == "image/svg+xml"
    assert image.text.startswith("<svg")
    for nobody in ("cleo", "nobody"):
        assert requests.get(f"{provider.issuer}phone/{nobody}.svg").status_code == 404


def test_the_provider_answers_healthz(provider: RunningProvider) -> None:
    response = requests.get(f"{provider.issuer}healthz")
    assert (response.status_code, response.text) == (200, "ok\n")


def test_a_body_that_is_too_long_is_refused(provider: RunningProvider) -> None:
    assert requests.post(f"{provider.issuer}authorize", data={"x": "x" * 70_000}).status_code == 400


# What the launcher offers


def test_requests_of_one_session_come_over_one_connection(provider: RunningProvider) -> None:
    with requests.Session() as session:
        for _ in range(3):
            session.get(provider.issuer)
        session.post(f"{provider.issuer}authorize?a=1&a=2", data={"secret": "hidden"})
    requests.get(provider.issuer)
    records = provider.requests()
    assert [record.connection for record in records[:4]] == [records[0].connection] * 4
    assert records[4].connection != records[0].connection
    assert records[3]._asdict() == {
        "method": "POST",
        "path": "/authorize",
        "query": {"a": ["1", "2"]},
        "form": ["secret"],
        "connection": records[0].connection,
    }


def test_an_answer_on_an_open_connection_does_not_wait(provider: RunningProvider) -> None:
    with requests.Session() as session:
        session.get(f"{provider.issuer}.well-known/jwks.json")
        before = time.perf_counter()
        for _ in range(25):
            session.get(f"{provider.issuer}.well-known/jwks.json")
        # A delayed acknowledgement would cost 40 ms each.
        assert time.perf_counter() - before < 0.9


def test_requests_of_the_launcher_are_not_recorded(provider: RunningProvider) -> None:
    requests.get(f"{provider.issuer}healthz")
    provider.requests()
    assert provider.requests() == []


def test_a_reset_signs_everybody_out(provider: RunningProvider, payroll: Application, anna: Person) -> None:
    anna.authenticate(payroll.url())
    provider.reset()
    assert provider.requests() == []
    assert not is_signed_in(payroll, anna)


def test_the_record_is_for_the_launcher_only(provider: RunningProvider) -> None:
    for headers in ({}, {"X-Stepup-Control": "guess"}):
        assert requests.get(f"{provider.issuer}control/requests", headers=headers).status_code == 404
        assert requests.post(f"{provider.issuer}control/reset", headers=headers).status_code == 404


def test_a_provider_starts_quickly_and_stops_for_good() -> None:
    before = time.perf_counter()
    provider = launch(CONFIGURATION)
    assert time.perf_counter() - before < 10
    provider.stop()
    provider.stop()
    assert provider.wait() == 0
    with pytest.raises(ProviderError, match="does not answer"):
        provider.requests()


def test_no_secret_is_among_the_arguments_of_the_process(running: RunningProvider) -> None:
    arguments = running._process.args
    assert arguments == [sys.executable, "-m", "stepup.testing.provider"]


def test_a_provider_ends_on_sigterm() -> None:
    provider = launch(CONFIGURATION)
    provider._process.send_signal(signal.SIGTERM)
    assert provider.wait() == 0
    provider.stop()


def test_a_provider_that_does_not_end_is_ended(monkeypatch: pytest.MonkeyPatch) -> None:
    provider = launch(CONFIGURATION)
    monkeypatch.setattr(launcher, "PATIENCE", 0.2)
    provider._process.send_signal(signal.SIGSTOP)
    provider.stop()
    assert provider.wait() == -signal.SIGKILL


def test_a_provider_does_not_outlive_the_process_that_started_it() -> None:
    script = """
        import os, sys
        from stepup.testing.provider import Client, Configuration, launch
        client = Client("a", "b", ("http://127.0.0.1:1/",))
        provider = launch(Configuration(purpose="tests", clients=(client,)))
        print(provider.issuer, flush=True)
        os._exit(0)
    """
    output = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(script)], check=True, stdout=subprocess.PIPE, text=True
    ).stdout
    assert eventually(lambda: not answers(output.strip()))


def answers(url: str) -> bool:
    try:
        return requests.get(f"{url}healthz").status_code == 200
    except requests.ConnectionError:
        return False


def eventually(condition: Any) -> bool:
    deadline = time.monotonic() + 10
    while time.monotonic() < deadline:
        if condition():
            return True
        time.sleep(0.05)
    return False


def test_a_port_that_is_taken_is_named() -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        with pytest.raises(ProviderError, match=f"port {port} of 127.0.0.1: "):
            launch(dataclasses.replace(CONFIGURATION, port=port))


def test_a_process_that_says_nothing_in_time_is_given_up() -> None:
    with pytest.raises(ProviderError, match="did not start"):
        launch(CONFIGURATION, timeout=0)


def test_a_process_that_says_something_else_is_given_up(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    script = tmp_path / "python"
    script.write_text("#!/bin/sh\nread line\necho hello\n")
    script.chmod(0o700)
    monkeypatch.setattr(sys, "executable", str(script))
    with pytest.raises(ProviderError, match="did not start"):
        launch(CONFIGURATION)


def test_a_missing_extra_is_named(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / "authlib.py").write_text("raise ImportError('no Authlib here')")
    path = os.pathsep.join([str(tmp_path), os.environ.get("PYTHONPATH", "")])
    monkeypatch.setenv("PYTHONPATH", path)
    with pytest.raises(ProviderError, match=r"django-stepup\[provider\] \(no Authlib here\)"):
        launch(CONFIGURATION)


def test_the_process_refuses_what_the_configuration_does() -> None:
    given = '{"configuration": {"purpose": "production", "clients": []}, "control_secret": ""}\n'
    result = subprocess.run(
        [sys.executable, "-m", "stepup.testing.provider"], input=given, stdout=subprocess.PIPE, text=True, check=False
    )
    assert result.returncode == 1
    assert "is for development and tests, not for 'production'" in result.stdout


def test_the_provider_serves_the_loopback_address_of_ipv6(anna: Person) -> None:
    with launch(dataclasses.replace(CONFIGURATION, host="::1")) as provider:
        assert provider.issuer == f"http://[::1]:{provider.port}/"
        payroll = Application(provider.issuer)
        assert payroll.claims(anna.authenticate(payroll.url()))["iss"] == provider.issuer
        assert provider.requests()


def test_importing_the_launcher_and_the_driver_needs_neither_django_nor_the_extra() -> None:
    script = (
        "import sys, stepup.testing.driver, stepup.testing.provider, stepup.testing.provider.__main__;"
        "print(sorted({'authlib', 'joserfc', 'pyotp', 'segno', 'django'} & set(sys.modules)))"
    )
    output = subprocess.run([sys.executable, "-c", script], check=True, stdout=subprocess.PIPE, text=True).stdout
    assert output == "[]\n"


# The person of the tests


def test_a_person_waits_for_the_next_code_where_the_last_was_used(payroll: Application) -> None:
    """The provider accepts the next code a step early, so that the test need not wait as the person would."""
    waited: list[int] = []

    class Waiting(Person):
        def wait(self, seconds: int) -> None:
            waited.append(seconds)

        def _phone_page(self, page: Page) -> Page:
            phone = super()._phone_page(page)
            next_code = pyotp.TOTP(str(ANNA.totp_secret)).at(int(time.time()) + TIME_STEP)
            phone.texts["code"] = next_code if waited else somebody._used_code
            return phone

    url = payroll.url(acr_values=MULTI_FACTOR)
    somebody = Person("anna", "anna-password")
    somebody.authenticate(url, factor="totp")
    back = Waiting("anna", "anna-password").authenticate(url, factor="totp")
    assert payroll.claims(back)["amr"] == ["mfa"]
    assert 0 < waited[0] <= TIME_STEP


@pytest.mark.parametrize(
    ("person", "factor", "message"),
    [
        (Person("anna", "wrong"), "push", r"stuck at sign-in \(200, 'Sign in': The username or the password"),
        (Person("ben", "ben-password"), "push", "there is no form 'push' on second-factor"),
    ],
)
def test_a_person_who_is_stuck_says_where(payroll: Application, person: Person, factor: Any, message: str) -> None:
    with pytest.raises(StuckError, match=message):
        person.authenticate(payroll.url(acr_values=MULTI_FACTOR), factor=factor)


def test_a_person_without_an_authenticator_app_has_no_code(payroll: Application, anna: Person) -> None:
    anna.authenticate(payroll.url())
    anna.username = "cleo"
    with pytest.raises(StuckError, match="the phone of cleo has no authenticator app"):
        anna.authenticate(payroll.url(acr_values=MULTI_FACTOR), factor="totp")


def test_a_person_with_the_wrong_phone_is_not_asked(payroll: Application, anna: Person) -> None:
    anna.authenticate(payroll.url())
    anna.username = "ben"
    with pytest.raises(StuckError, match=r"the phone of ben was not asked about \d\d"):
        anna.authenticate(payroll.url(acr_values=MULTI_FACTOR), factor="push")


def test_a_person_waits_as_long_as_it_takes(anna: Person) -> None:
    started = time.monotonic()
    anna.wait(1)
    assert time.monotonic() - started >= 1


def test_a_person_does_not_go_round_in_circles(payroll: Application, anna: Person) -> None:
    anna.most_pages = 1
    with pytest.raises(StuckError, match="going round in circles at http"):
        anna.authenticate(payroll.url())


def test_a_person_is_stuck_at_a_page_of_something_else(payroll: Application, anna: Person) -> None:
    with pytest.raises(StuckError, match=r"stuck at not a page of the provider \(200, ''\)"):
        anna.authenticate(f"{payroll.issuer}healthz")
    with pytest.raises(StuckError, match="not signed out, at error"):
        anna.sign_out(goodbye(payroll.issuer, id_token_hint="rubbish"))


def test_a_person_answers_the_question_of_their_own_page(payroll: Application, anna: Person) -> None:
    waiting = ask_the_phone(payroll, anna)
    newer = ask_the_phone(payroll, Person("anna", "anna-password"))
    assert waiting.texts["number"] != newer.texts["number"]
    anna._answer_phone(waiting, deny=False)
    assert answer(anna.session.get(waiting.url, allow_redirects=False).headers["Location"])["code"]


def test_a_person_can_choose_an_account(payroll: Application, anna: Person) -> None:
    anna.authenticate(payroll.url())
    assert "code" in answer(anna.authenticate(payroll.url(prompt="select_account")))


def test_a_person_can_share_the_browser_with_the_application(payroll: Application) -> None:
    session = requests.Session()
    Person("anna", "anna-password", session=session).authenticate(payroll.url())
    assert "stepup_op_session" in session.cookies


# The command


@pytest.fixture
def site(tmp_path: Path) -> dict[str, str]:
    """The environment of a small site with settings of its own; FLAVOUR changes them."""
    settings = f"""
        import os
        DEBUG = True
        SECRET_KEY = "x"
        INSTALLED_APPS = ["stepup"]
        ROOT_URLCONF = "op_site_urls"
        OIDC_RP_CLIENT_ID = "the-site"
        OIDC_RP_CLIENT_SECRET = {SECRET!r}
        match os.environ["FLAVOUR"]:
            case "production":
                DEBUG = False
            case "misspelt":
                STEPUP_PROVIDER = {{"USER": []}}
            case "no-urls":
                ROOT_URLCONF = "op_site_no_urls"
    """
    (tmp_path / "op_site_settings.py").write_text(textwrap.dedent(settings))
    (tmp_path / "op_site_no_urls.py").write_text("urlpatterns = []\n")
    (tmp_path / "op_site_urls.py").write_text(
        "from django.urls import path\n"
        "urlpatterns = [path('oidc/callback/', lambda request: None, name='oidc_authentication_callback')]\n"
    )
    path = os.pathsep.join([str(tmp_path), str(Path(__file__).parents[1]), os.environ.get("PYTHONPATH", "")])
    return {
        **os.environ,
        "PYTHONPATH": path,
        "DJANGO_SETTINGS_MODULE": "op_site_settings",
        "PYTHONUNBUFFERED": "",
        "FLAVOUR": "",
    }


def command(site: dict[str, str], *arguments: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-m", "django", "stepup_provider", *arguments],
        env=site,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        bufsize=1,
    )


def said(process: subprocess.Popen[str]) -> list[str]:
    """The issuer that the command names, and the line about each person."""
    assert process.stdout is not None
    first, *people = [process.stdout.readline() for _ in range(1 + len(DEFAULT_USERS))]
    found = re.search(r"http://\S+/", first)
    assert found, (first, process.stderr and process.stderr.read())
    return [found[0], *(line.strip() for line in people)]


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_the_command_runs_a_provider_for_this_site_until_it_is_told_to_stop(
    site: dict[str, str], anna: Person, number: signal.Signals
) -> None:
    with command(site, "--port", "0") as process:
        issuer, *people = said(process)
        assert people == [f"{user.username}  password {user.password}" for user in DEFAULT_USERS]
        application = Application(issuer, client_id="the-site")
        callback = "http://localhost:8000/oidc/callback/"
        back = anna.authenticate(application.url(redirect_uri=callback))
        assert back.startswith(f"{callback}?code=")
        code = dict(parse_qsl(urlsplit(back).query))["code"]
        tokens = application.exchange(code, data={"redirect_uri": callback}).json()
        assert application.verify(tokens["id_token"], "HS256")["sub"] == "stepup|anna"
        process.send_signal(number)
        _, errors = process.communicate(timeout=20)
    assert (process.returncode, errors) == (0, "")
    assert not answers(issuer)


def test_the_command_says_so_where_the_provider_ends_by_itself(site: dict[str, str]) -> None:
    with command(site, "--port", "0", "--host", "localhost") as process:
        assert said(process)[0].startswith("http://localhost:")
        children = Path(f"/proc/{process.pid}/task/{process.pid}/children")
        if not children.exists():
            process.kill()
            pytest.skip("this system does not list the children of a process")
        (child,) = children.read_text().split()
        os.kill(int(child), signal.SIGKILL)
        _, errors = process.communicate(timeout=20)
    assert process.returncode == 1
    assert "the provider has ended with status -9" in errors


def test_the_command_runs_a_provider_that_misbehaves_and_says_so(site: dict[str, str]) -> None:
    with command(site, "--port", "0", "--personality", "metadata_html") as process:
        issuer = said(process)[0]
        assert "<h1>Back soon" in requests.get(f"{issuer}.well-known/openid-configuration").text
        process.send_signal(signal.SIGTERM)
        _, errors = process.communicate(timeout=20)
    assert (process.returncode, errors) == (0, "It misbehaves on purpose: metadata_html.\n")


def test_the_command_lists_the_personalities(site: dict[str, str]) -> None:
    with command({**site, "FLAVOUR": "production"}, "--list-personalities") as process:
        output, errors = process.communicate(timeout=20)
    assert (process.returncode, errors) == (0, "")
    assert [line.partition(": ")[0] for line in output.splitlines()] == list(PERSONALITIES)
    assert "wrong_audience: The ID token is for another application.\n" in output


def test_the_command_says_what_is_missing_to_list_the_personalities(site: dict[str, str], tmp_path: Path) -> None:
    (tmp_path / "joserfc.py").write_text("raise ImportError('no joserfc here')")
    with command(site, "--list-personalities") as process:
        _, errors = process.communicate(timeout=20)
    assert process.returncode == 1
    assert "It needs the packages of django-stepup[provider] (no joserfc here)" in errors


@pytest.mark.parametrize(
    ("flavour", "arguments", "message"),
    [
        ("production", (), "It needs DEBUG"),
        ("misspelt", (), "STEPUP_PROVIDER: unknown USER"),
        ("no-urls", (), "no client id, client secret and callback URL"),
        ("", ("--host", "192.0.2.1"), "'192.0.2.1' is not a loopback address"),
        ("", ("--port", "70000"), "70000 is not a port"),
        ("", ("--port", "0", "--personality", "charming"), "there is no personality 'charming'"),
    ],
)
def test_the_command_refuses_and_says_why(
    site: dict[str, str], flavour: str, arguments: tuple[str, ...], message: str
) -> None:
    with command({**site, "FLAVOUR": flavour}, *arguments) as process:
        output, errors = process.communicate(timeout=20)
    assert process.returncode == 1
    assert message in errors
    assert output == ""


# The decision


ASKED = Asked(client_id="payroll", acr_values=(MULTI_FACTOR,))
SIGNED_IN = Known(auth_time=1000.0)


@pytest.mark.parametrize(
    ("asked", "known", "step"),
    [
        (Asked("payroll"), Known(), Step.SIGN_IN),
        (Asked("payroll"), SIGNED_IN, Step.DONE),
        (Asked("payroll", max_age=100), SIGNED_IN, Step.DONE),
        (Asked("payroll", max_age=99), SIGNED_IN, Step.SIGN_IN),
        (Asked("payroll", max_age=0), SIGNED_IN, Step.SIGN_IN),
        (Asked("payroll", max_age=0), Known(1100.0, signed_in_here=True), Step.DONE),
        (Asked("payroll", prompt=frozenset({"select_account"})), SIGNED_IN, Step.CHOOSE_ACCOUNT),
        (Asked("payroll", prompt=frozenset({"select_account"})), Known(1000.0, chosen_here=True), Step.DONE),
        (ASKED, SIGNED_IN, Step.SECOND_FACTOR),
        (ASKED, Known(1000.0, factor_here=True), Step.DONE),
        (dataclasses.replace(ASKED, client_id="canteen"), SIGNED_IN, Step.DONE),
        (dataclasses.replace(ASKED, prompt=frozenset({"none"})), SIGNED_IN, Step.INTERACTION_REQUIRED),
        (dataclasses.replace(ASKED, prompt=frozenset({"none"})), Known(), Step.LOGIN_REQUIRED),
    ],
)
def test_what_a_person_must_prove_is_a_matter_of_what_was_asked_and_what_is_known(
    asked: Asked, known: Known, step: Step
) -> None:
    assert next_step(asked, known, now=1100.0, clients_with_mfa=("payroll",)) is step


def test_without_a_list_of_clients_all_are_asked_for_a_second_factor() -> None:
    assert next_step(ASKED, SIGNED_IN, now=1100.0, clients_with_mfa=None) is Step.SECOND_FACTOR
    assert next_step(ASKED, SIGNED_IN, now=1100.0, clients_with_mfa=()) is Step.DONE


def test_nothing_is_told_that_was_not_asked_for_or_proved() -> None:
    assert proved(ASKED, SIGNED_IN) == Proved()
    assert proved(Asked("payroll", max_age=9), Known(1000.7)) == Proved(auth_time=1000)


# What is remembered


class Clock:
    """Time that passes when it is told to."""

    def __init__(self) -> None:
        self.now = 1_700_000_010.0

    def __call__(self) -> float:
        return self.now


def test_a_shelf_forgets_what_is_old() -> None:
    clock = Clock()
    shelf: Shelf[str] = Shelf(ttl=10, limit=5, clock=clock)
    shelf.put("a", "first")
    clock.now += 9
    shelf.put("b", "second")
    assert shelf.values() == ["first", "second"]
    clock.now += 1
    assert shelf.get("a") is None
    assert shelf.take("a") is None
    assert shelf.values() == ["second"]


def test_a_shelf_never_holds_more_than_its_limit() -> None:
    shelf: Shelf[int] = Shelf(ttl=10, limit=3, clock=Clock())
    for number in range(100):
        shelf.put(str(number), number)
    assert shelf.values() == [97, 98, 99]
    shelf.clear()
    assert shelf.values() == []


def test_the_first_to_put_something_on_a_shelf_is_told_so() -> None:
    clock = Clock()
    shelf: Shelf[str] = Shelf(ttl=10, limit=2, clock=clock)
    assert [shelf.add("a", "first"), shelf.add("a", "second")] == [True, False]
    assert shelf.get("a") == "first"
    assert [shelf.add("b", "b"), shelf.add("c", "c")] == [True, True]
    assert shelf.get("a") is None, "it was the oldest of more than two"


def test_what_is_taken_from_a_shelf_is_gone() -> None:
    shelf: Shelf[int] = Shelf(ttl=10, limit=3, clock=Clock())
    shelf.put("a", 1)
    assert shelf.take("a") == 1
    assert shelf.take("a") is None


def test_a_value_is_replaced_only_where_it_still_is_and_keeps_its_time() -> None:
    clock = Clock()
    shelf: Shelf[str] = Shelf(ttl=10, limit=3, clock=clock)
    shelf.put("a", "old")
    clock.now += 5
    assert shelf.replace("a", "old", "new")
    assert not shelf.replace("a", "old", "newer")
    assert not shelf.replace("b", "old", "new")
    assert shelf.get("a") == "new"
    clock.now += 5
    assert shelf.get("a") is None


def test_the_record_of_requests_is_bounded() -> None:
    state = State(Clock())
    for number in range(10_001):
        state.record(RequestRecord("GET", f"/{number}", {}, [], 1))
    assert len(state.recorded()) == 10_000
    assert state.recorded()[-1].path == "/10000"
    state.clear()
    assert state.recorded() == []


def test_a_one_time_code_is_accepted_once_and_never_an_older_one() -> None:
    clock = Clock()
    codes = OneTimeCodes(clock)
    code, seconds = codes.current(ANNA)
    assert code == pyotp.TOTP(str(ANNA.totp_secret)).at(int(clock.now))
    assert 0 < seconds <= TIME_STEP
    before = pyotp.TOTP(str(ANNA.totp_secret)).at(int(clock.now) - TIME_STEP)
    assert codes.check(ANNA, code) == "accepted"
    assert codes.check(ANNA, code) == "used"
    assert codes.check(ANNA, before) == "used"
    clock.now += TIME_STEP
    assert codes.check(ANNA, code) == "used"
    assert codes.check(ANNA, codes.current(ANNA)[0]) == "accepted"


def test_guessing_is_stopped_for_a_while() -> None:
    clock = Clock()
    codes = OneTimeCodes(clock)
    for _ in range(ATTEMPTS):
        assert codes.check(ANNA, "not a code") == "wrong"
    assert codes.check(ANNA, codes.current(ANNA)[0]) == "blocked"
    assert codes.check(BEN, codes.current(BEN)[0]) == "accepted"
    clock.now += ATTEMPTS_WINDOW
    assert codes.check(ANNA, codes.current(ANNA)[0]) == "accepted"


def test_nobody_without_an_authenticator_app_has_a_code() -> None:
    assert OneTimeCodes(Clock()).check(CLEO, "000000") == "wrong"


# Redirect URIs


@pytest.mark.parametrize(
    ("uri", "registered"),
    [
        ("https://rp.example/callback", True),
        ("https://rp.example/callback/", False),
        ("https://rp.example/callback?x=1", False),
        ("http://127.0.0.1:8000/here/", True),
        ("http://localhost/here/", True),
        ("http://[::1]:8000/here/", True),
        ("http://127.0.0.1:8000/here/?x=1", False),
        ("http://127.0.0.1:8000/here/#x", False),
        ("http://127.0.0.1:8000/there/", False),
        ("https://127.0.0.1:8000/here/", False),
        ("http://127.0.0.1.evil.example/here/", False),
        ("http://user@127.0.0.1/here/", False),
        ("http://127.0.0.1\\@evil.example/here/", False),
        ("http://127.0.0.1:99999/here/", False),
        ("http://127.0.0.1:8000/he\nre/", False),
        ("http://127.0.0.1", False),
        ("//127.0.0.1/here/", False),
        ("http://[", False),
        ("", False),
        (None, False),
    ],
)
def test_a_redirect_uri_is_registered_or_it_is_not(uri: str | None, registered: bool) -> None:
    assert (uri in RegisteredUris(["https://rp.example/callback", "loopback:/here/"])) is registered


# The configuration


def test_a_configuration_survives_the_way_to_the_process() -> None:
    assert Configuration.from_dict(CONFIGURATION.to_dict()) == CONFIGURATION


def test_secrets_are_not_shown_with_the_configuration() -> None:
    shown = repr(CONFIGURATION)
    for secret in (SECRET, ANNA.password, str(ANNA.totp_secret)):
        assert secret not in shown


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"purpose": "production"}, "is for development and tests, not for 'production'"),
        ({"host": "192.0.2.1"}, "'192.0.2.1' is not a loopback address"),
        ({"host": "192.168.0.1"}, "is not a loopback address"),
        ({"host": "rp.example"}, "is not a loopback address"),
        ({"port": -1}, "-1 is not a port"),
        ({"port": True}, "port is a whole number"),
        ({"port": "9000"}, "port is a whole number"),
        ({"tls": "yes"}, "tls is True, False, or the paths"),
        ({"tls": ["certificate.pem"]}, "tls is True, False, or the paths"),
        ({"tls": ["certificate.pem", 1]}, "tls is a string"),
        ({"latency": -1}, "a latency is between 0 and 60 seconds"),
        ({"latency": "1"}, "latency is a number of seconds"),
        ({"colour": "blue"}, r"configuration: unknown colour \(known are purpose"),
        ({"clients": {}}, "clients is a list"),
        ({"clients": ["payroll"]}, r"clients\[0\] is a dictionary"),
        ({"clients_with_mfa": ["nobody"]}, "there is no client 'nobody'"),
        ({"clients_with_mfa": [1]}, r"clients_with_mfa\[0\] is a string"),
    ],
)
def test_a_configuration_that_makes_no_sense_is_refused(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigurationError, match=message):
        Configuration.from_dict({**CONFIGURATION.to_dict(), **changes})


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"pasword": "x"}, r"users\[0\]: unknown pasword"),
        ({"password": ""}, "a user needs a username and a password"),
        ({"push": "yes"}, r"users\[0\].push is True or False"),
        ({"totp_secret": "1!"}, "totp_secret is not base32"),
        ({"totp_secret": ""}, "totp_secret is not base32"),
    ],
)
def test_a_user_that_makes_no_sense_is_refused(changes: dict[str, Any], message: str) -> None:
    users = [{"username": "dora", "password": "dora-password", **changes}]
    with pytest.raises(ConfigurationError, match=message):
        Configuration.from_dict({**CONFIGURATION.to_dict(), "users": users})


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"client_id": ""}, "a client needs a client_id and a client_secret or a public_key"),
        ({"public_key": "ssh-rsa AAAA"}, "public_key is not a public key in PEM"),
        ({"require_signed": True}, "require_signed needs a public_key"),
        ({"redirect_uris": ()}, "has no redirect URI"),
        ({"redirect_uris": ("/callback/",)}, "'/callback/' is not a redirect URI"),
        ({"redirect_uris": ("https://rp.example/#x",)}, "is not a redirect URI"),
        ({"post_logout_redirect_uris": ("loopback:callback",)}, "is not a redirect URI"),
        ({"backchannel_logout_uri": "loopback:/logout/"}, "is not a logout URI"),
        ({"frontchannel_logout_uri": "/logout/"}, "is not a logout URI"),
        ({"id_token_signed_response_alg": "none"}, "id_token_signed_response_alg is one of"),
        ({"id_token_signed_response_alg": "HS256", "client_secret": "short"}, "at least 32 octets"),
    ],
)
def test_a_client_that_makes_no_sense_is_refused(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigurationError, match=message):
        client("payroll", **changes) if "client_id" not in changes else client(**changes)


def test_what_must_be_there_is_named_where_it_is_missing() -> None:
    with pytest.raises(ConfigurationError, match="configuration: purpose, clients missing"):
        Configuration.from_dict({})


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"clients": (client("a"), client("a"))}, "client_id 'a' is there twice"),
        ({"users": (ANNA, ANNA)}, "username 'anna' is there twice"),
        ({"users": (ANNA, User("b", "b", sub=ANNA.sub))}, r"sub 'stepup\|anna' is there twice"),
    ],
)
def test_nothing_is_there_twice(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigurationError, match=message):
        dataclasses.replace(CONFIGURATION, clients_with_mfa=None, **changes)


def test_names_that_are_missing_are_made_up() -> None:
    dora = User("dora", "dora-password")
    assert (dora.sub, dora.display_name, dora.has_second_factor) == ("stepup|dora", "dora", False)
    assert client("payroll").display_name == "payroll"


SITE: dict[str, Any] = {
    "client_id": "the-site",
    "client_secret": SECRET,
    "sign_algo": "ES256",
    "callback_path": "/oidc/callback/",
}


def test_a_site_needs_to_say_nothing_more_than_it_has() -> None:
    configuration = from_site({}, **SITE)
    assert configuration == Configuration(
        purpose="development",
        port=9000,
        clients=(
            Client(
                client_id="the-site",
                client_secret=SECRET,
                redirect_uris=("loopback:/oidc/callback/",),
                post_logout_redirect_uris=("loopback:/*",),
                id_token_signed_response_alg="ES256",
            ),
        ),
    )


def test_a_site_can_say_everything() -> None:
    site = {
        "USERS": [{"username": "dora", "password": "dora-password"}],
        "CLIENTS": [{"client_id": "a", "client_secret": "b", "redirect_uris": [CALLBACK]}],
        "CLIENTS_WITH_MFA": ["a"],
        "PORT": 9001,
        "HOST": "localhost",
    }
    configuration = from_site(site, **SITE)
    assert [user.username for user in configuration.users] == ["dora"]
    assert [each.client_id for each in configuration.clients] == ["a"]
    assert configuration.clients_with_mfa == ("a",)
    assert (configuration.host, configuration.port) == ("localhost", 9001)


def test_the_command_line_has_the_last_word() -> None:
    configuration = from_site({"PORT": 9001, "HOST": "localhost"}, **SITE, host="127.0.0.1", port=0)
    assert (configuration.host, configuration.port) == ("127.0.0.1", 0)


@pytest.mark.parametrize("missing", ["client_id", "client_secret", "callback_path"])
def test_a_site_without_a_client_must_name_one(missing: str) -> None:
    with pytest.raises(ConfigurationError, match="names no CLIENTS"):
        from_site({}, **{**SITE, missing: None})


def test_the_setting_of_a_site_is_a_dictionary() -> None:
    with pytest.raises(ConfigurationError, match="STEPUP_PROVIDER is a dictionary"):
        from_site([], **SITE)


def test_no_logout_token_is_made_for_an_application_that_the_op_does_not_know(provider: RunningProvider) -> None:
    with pytest.raises(ProviderError):
        provider.logout_token("nobody", sub="stepup|anna")
    with pytest.raises(ProviderError):
        provider.log_out("nobody", sub="stepup|anna")


# What it is told while it runs


def test_it_can_be_given_other_people_and_applications_while_it_runs() -> None:
    dora = User("dora", "dora-password", push=True)
    with launch(CONFIGURATION) as provider:
        keys = requests.get(f"{provider.issuer}.well-known/jwks.json").json()["keys"]
        added = dataclasses.replace(
            CONFIGURATION, users=(dora,), clients=(*CONFIGURATION.clients, client("added")), clients_with_mfa=None
        )
        provider.configure(added)
        provider.reset()
        application = Application(provider.issuer, "added")

        back = Person("dora", "dora-password").authenticate(application.url(acr_values=MULTI_FACTOR))

        assert "code=" in back
        assert [each.subject for each in provider.authentications()] == ["stepup|dora"]
        assert requests.get(f"{provider.issuer}.well-known/jwks.json").json()["keys"] == keys, (
            "its keys are as they were"
        )
        with pytest.raises(StuckError):
            Person("anna", "anna-password").authenticate(application.url())


def test_it_cannot_be_told_to_listen_elsewhere_or_nonsense(provider: RunningProvider) -> None:
    with pytest.raises(ProviderError, match="cannot listen elsewhere"):
        provider.configure(dataclasses.replace(CONFIGURATION, port=1))
    with pytest.raises(ProviderError, match="there is no personality"):
        provider.configure(dataclasses.replace(CONFIGURATION, personality="nobody"))


def test_other_classes_can_ask_for_a_second_factor_and_other_methods_prove_it() -> None:
    gold = dataclasses.replace(CONFIGURATION, acr_values=("gold", "silver"), amr=("otp", "mfa"))
    with launch(gold) as provider:
        application = Application(provider.issuer)
        supported = requests.get(f"{provider.issuer}.well-known/openid-configuration").json()["acr_values_supported"]

        url = application.url(acr_values="bronze silver gold")
        claims = application.claims(Person("anna", "anna-password").authenticate(url))

        assert supported == ["gold", "silver"]
        assert (claims["acr"], claims["amr"]) == ("silver", ["otp", "mfa"])


@pytest.mark.parametrize(
    ("asked", "acr_values", "said"),
    [
        ({"acr": {"essential": True, "value": "gold"}}, None, "gold"),
        ({"acr": {"essential": True, "values": ["bronze", "silver"]}}, "gold", "silver"),
        ({"acr": {"values": ["silver"]}}, None, "silver"),
        ({"acr": {"essential": True}}, "gold", "gold"),
        ({"acrs": {"essential": True, "value": "c1"}}, None, MULTI_FACTOR),
        ({"acrs": None}, None, MULTI_FACTOR),
    ],
)
def test_a_second_factor_is_asked_for_where_a_claim_is_wanted_that_it_brings(
    asked: dict[str, Any], acr_values: str | None, said: str
) -> None:
    told = dataclasses.replace(
        CONFIGURATION, acr_values=("gold", "silver"), claims={"acrs": ("c1", "c2"), "vot": ("P2",)}
    )
    with launch(told) as provider:
        application = Application(provider.issuer)
        url = application.url(claims=json.dumps({"id_token": asked}), acr_values=acr_values)
        claims = application.claims(Person("anna", "anna-password").authenticate(url))
        supported = requests.get(f"{provider.issuer}.well-known/openid-configuration").json()["claims_supported"]
    assert (claims["amr"], claims["acr"]) == (["mfa"], said)
    assert (claims["acrs"], claims["vot"]) == (["c1", "c2"], ["P2"])
    assert {"acrs", "vot"} <= set(supported)


@pytest.mark.parametrize(
    ("asked", "said"),
    [
        ({"acr_values": "gold"}, {"acr": "gold", "amr": ["otp", "mfa"], "vot": ["P1", "P2"], "acrs": None}),
        ({"acr_values": "silver"}, {"acr": "silver", "amr": ["mfa"], "vot": None, "acrs": ["c0"]}),
        ({"claims": '{"id_token": {"acrs": null}}'}, {"acr": MULTI_FACTOR, "amr": None, "vot": None, "acrs": ["c1"]}),
        (
            {"acr_values": "gold", "claims": '{"id_token": {"acrs": null}}'},
            {"acr": "gold", "amr": ["otp", "mfa"], "vot": ["P1", "P2"], "acrs": ["c1"]},
        ),
    ],
)
def test_what_was_asked_for_may_be_proved_in_its_own_way(asked: dict[str, str], said: dict[str, Any]) -> None:
    told = dataclasses.replace(
        CONFIGURATION,
        acr_values=("gold", "silver"),
        claims={"acrs": ("c0",)},
        proofs={"gold": {"amr": ("otp", "mfa"), "vot": ("P1", "P2")}, "acrs": {"acrs": ("c1",)}},
    )
    with launch(told) as provider:
        application = Application(provider.issuer)
        claims = application.claims(Person("anna", "anna-password").authenticate(application.url(**asked)))
        supported = requests.get(f"{provider.issuer}.well-known/openid-configuration").json()["claims_supported"]
    assert {name: claims.get(name) for name in said} == said
    assert {"acrs", "vot"} <= set(supported)
    assert len(supported) == len(set(supported))


@pytest.mark.parametrize(
    "asked",
    [
        None,
        {},
        {"id_token": None},
        {"id_token": {"acr": None, "email": {"essential": True}}},
        {"id_token": {"acr": {"essential": True}}},
        {"id_token": {"acr": {"value": "urn:example:other"}}},
        {"id_token": {"acr": {"value": 5}}},
        {"userinfo": {"acr": {"essential": True, "value": MULTI_FACTOR}}},
    ],
)
def test_without_a_claim_that_it_brings_no_second_factor_is_asked_for(
    payroll: Application, anna: Person, asked: dict[str, Any] | None
) -> None:
    text = "" if asked is None else json.dumps(asked)
    claims = payroll.claims(anna.authenticate(payroll.url(claims=text), factor=None))
    assert not {"amr", "acr"} & set(claims)


@pytest.mark.parametrize(("name", "value"), [("payroll", "urn:example:other"), ("canteen", MULTI_FACTOR)])
@pytest.mark.parametrize("prompt", [None, "none"])
def test_an_authentication_that_cannot_be_as_it_has_to_be_has_failed(
    provider: RunningProvider, anna: Person, name: str, value: str, prompt: str | None
) -> None:
    application = Application(provider.issuer, name)
    anna.authenticate(application.url())
    asked = {"id_token": {"acr": {"essential": True, "value": value}}}
    back = answer(anna.authenticate(application.url(claims=json.dumps(asked), prompt=prompt), factor=None))
    assert back["error"] == "unmet_authentication_requirements"


@pytest.mark.parametrize(
    "claims",
    [
        "[]", '"id_token"', "nonsense", '{"id_token": []}', '{"id_token": {"acr": "gold"}}',
        '{"id_token": {"acr": {"values": "gold"}}}', "[" * 20_000,
    ],
    ids=lambda claims: claims[:40],
)  # fmt: skip
def test_a_claims_parameter_that_is_none_is_refused(payroll: Application, anna: Person, claims: str) -> None:
    response = push(payroll, claims=claims)
    assert (response.status_code, response.json()["error"]) == (400, "invalid_request")


@pytest.mark.parametrize("claims", [5, {"acrs": "c1"}, {"acrs": [1]}, {1: ["c1"]}])
def test_claims_that_nobody_can_say_are_not_configured(claims: Any) -> None:
    with pytest.raises(ConfigurationError, match="claims"):
        Configuration.from_dict({**CONFIGURATION.to_dict(), "claims": claims})


@pytest.mark.parametrize("ahead", [3600, -3600])
def test_its_clock_can_be_moved_until_the_next_reset(
    provider: RunningProvider, payroll: Application, anna: Person, ahead: int
) -> None:
    def issued_at() -> int:
        id_token = payroll.tokens(anna.authenticate(payroll.url()))["id_token"]
        claims = jwt.decode(id_token, options={"verify_signature": False})
        return int(claims["iat"])

    provider.set_clock(ahead)
    moved = issued_at()
    provider.reset()

    assert abs(moved - time.time() - ahead) < 60
    assert abs(issued_at() - time.time()) < 60
