"""The OP over HTTP: what it says is kept and used; whatever it does wrong is a `ProviderError`, soon and in bounds."""

from __future__ import annotations

import base64
import gzip
import json
import logging
import os
import subprocess
import sys
import textwrap
import threading
import time
import tracemalloc
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any
from urllib.parse import unquote

import jwt
import pytest
from cryptography.hazmat.primitives.serialization import load_pem_public_key
from django.core.cache import caches

from stepup import clock, conf, id_token, provider
from stepup.documents import COOL_DOWN
from stepup.exceptions import ProviderError, TokenRequestRefused
from stepup.id_token import KeySet
from stepup.provider import Provider
from tests.hostile_op import (
    DRIPS_FOR,
    JWKS,
    METADATA,
    TOKEN,
    USERINFO,
    Answer,
    Certificate,
    HostileOP,
    Request,
    answer,
    closed_port,
    cut,
    dripping,
    head,
)
from tests.tokens import CLIENT_SECRET, KEYS, SUBJECT, claims, jwks, sign

TIMEOUT = 0.5
#: What a request may take altogether: the machine may be busy, but a server that drips goes on for longer.
IN_TIME = 2.5

FORM = {"grant_type": "authorization_code", "code": "the-code", "redirect_uri": "http://testserver/oidc/callback/"}
GOOD = {"access_token": "at", "token_type": "Bearer", "id_token": "e30.e30.AA"}

#: How each endpoint is asked.
ASK: dict[str, Callable[[Provider], object]] = {
    "metadata": lambda op: op.metadata(),
    "jwks": lambda op: op.keys(),
    "token": lambda op: op.token_request(FORM),
    "userinfo": lambda op: op.userinfo("an-access-token"),
}
PATHS = {"metadata": METADATA, "jwks": JWKS, "token": TOKEN, "userinfo": USERINFO}
BY_SETTING = {
    "jwks": "OIDC_OP_JWKS_ENDPOINT",
    "token": "OIDC_OP_TOKEN_ENDPOINT",
    "userinfo": "OIDC_OP_USER_ENDPOINT",
}
endpoints = pytest.mark.parametrize("endpoint", ASK)


@pytest.fixture
def op(settings: Any) -> Iterator[HostileOP]:
    """An OP of the test's own, and the settings pointing to it."""
    with HostileOP() as running:
        # What processes share is tested in test_documents.
        settings.STEPUP = {**settings.STEPUP, "ISSUER": running.url, "CACHE": None}
        settings.OIDC_TIMEOUT = TIMEOUT
        yield running


def refreshed() -> None:
    """Wait for what is asked in the background."""
    for thread in threading.enumerate():
        if thread.name == "stepup-refresh":
            thread.join(IN_TIME)


@pytest.fixture
def later() -> Iterator[Callable[[float], None]]:
    """Moves the clock forward, by seconds."""

    def move(seconds: float) -> None:
        clock.offset += seconds

    yield move
    clock.offset = 0.0


def failure(ask: Callable[[], object]) -> ProviderError:
    """How it fails, which must be soon."""
    started = time.perf_counter()
    with pytest.raises(ProviderError) as caught:
        ask()
    took = time.perf_counter() - started
    assert took < IN_TIME, f"{caught.value} after {took:.1f} s, with a time-out of {TIMEOUT} s"
    return caught.value


# What is asked for, and how often


def test_metadata_is_asked_for_once_and_kept(op: HostileOP) -> None:
    for _ in range(3):
        assert provider.current().metadata()["issuer"] == op.url
        assert provider.current().endpoint("token_endpoint") == op.at(TOKEN)

    assert len(op.asked(METADATA)) == 1


def test_metadata_that_is_kept_is_used_while_the_op_is_down(op: HostileOP) -> None:
    provider.current().metadata()
    op.stop()

    assert provider.current().endpoint("token_endpoint") == op.at(TOKEN)


def test_metadata_is_asked_for_again_after_a_day(op: HostileOP, later: Callable[[float], None]) -> None:
    current = provider.current()
    current.metadata()
    op.metadata["token_endpoint"] = op.at("/token-of-tomorrow")

    later(provider.METADATA_MAX_AGE - 60)
    assert current.endpoint("token_endpoint") == op.at(TOKEN)
    later(120)
    assert current.endpoint("token_endpoint") == op.at(TOKEN), "it is asked for in the background"
    refreshed()
    assert current.endpoint("token_endpoint") == op.at("/token-of-tomorrow")


def test_old_metadata_is_used_while_newer_cannot_be_had_and_the_op_is_asked_once_per_cool_down(
    op: HostileOP, later: Callable[[float], None]
) -> None:
    current = provider.current()
    current.metadata()
    op.answers[METADATA] = answer({}, 503)
    later(provider.METADATA_MAX_AGE + 1)

    for asked in (2, 3):
        for _ in range(5):
            assert current.endpoint("token_endpoint") == op.at(TOKEN)
            refreshed()
        assert len(op.asked(METADATA)) == asked
        later(COOL_DOWN + 1)

    del op.answers[METADATA]
    current.metadata()
    refreshed()
    later(COOL_DOWN + 1)
    current.metadata()
    refreshed()
    assert len(op.asked(METADATA)) == 4, "the OP is well again, and what it said is new"


def test_an_op_that_fails_is_left_alone_for_a_cool_down_and_then_asked_again(
    op: HostileOP, later: Callable[[float], None]
) -> None:
    current = provider.current()
    op.answers[METADATA] = answer({}, 503)

    for _ in range(5):
        error = failure(current.metadata)
        assert (error.endpoint, error.reason) == ("metadata", "status 503")
    assert len(op.asked(METADATA)) == 1

    del op.answers[METADATA]
    later(COOL_DOWN + 1)
    assert current.metadata()["issuer"] == op.url


@pytest.mark.parametrize(
    "issuer",
    ["https://other.example/", "http://127.0.0.1/", "", None, ["x"], {"issuer": "x"}],
)
def test_the_metadata_of_another_issuer_is_refused(op: HostileOP, issuer: Any) -> None:
    op.metadata["issuer"] = issuer

    error = failure(provider.current().metadata)

    assert (error.endpoint, error.reason) == ("metadata", "issuer mismatch")


@pytest.mark.parametrize("change", [lambda url: url.rstrip("/"), lambda url: url + "x", lambda url: [url], str.upper])
def test_an_issuer_is_compared_to_the_letter(op: HostileOP, change: Callable[[str], Any]) -> None:
    op.metadata["issuer"] = change(op.url)

    assert failure(provider.current().metadata).reason == "issuer mismatch"


def test_an_issuer_without_a_slash_at_its_end_has_its_metadata_at_the_same_place(op: HostileOP, settings: Any) -> None:
    bare = op.url.rstrip("/")
    settings.STEPUP = {**settings.STEPUP, "ISSUER": bare}
    op.metadata["issuer"] = bare

    assert provider.current().metadata()["issuer"] == bare


@pytest.mark.parametrize(
    "url",
    [
        None,
        "",
        7,
        ["http://127.0.0.1/token"],
        {"url": "http://127.0.0.1/token"},
        "/token",
        "//127.0.0.1/token",
        "ftp://127.0.0.1/token",
        "file:///etc/passwd",
        "javascript:alert(1)",
        "127.0.0.1/token",
        "http://[",
        "http://[::1/token",
    ],
)
def test_an_endpoint_that_is_no_http_url_is_none(op: HostileOP, url: Any) -> None:
    op.metadata["token_endpoint"] = url

    error = failure(lambda: provider.current().endpoint("token_endpoint"))

    assert (error.endpoint, error.reason) == ("metadata", "no token_endpoint")


def test_an_endpoint_that_the_metadata_does_not_name_is_none(op: HostileOP) -> None:
    assert failure(lambda: provider.current().endpoint("end_session_endpoint")).reason == "no end_session_endpoint"


@pytest.mark.parametrize("url", ["http:///token", "http://:99999/token", "http://127.0.0.1:99999/token", "http:// /x"])
def test_an_endpoint_that_nobody_can_connect_to_is_a_provider_error(op: HostileOP, url: str) -> None:
    op.metadata["token_endpoint"] = url

    assert failure(lambda: provider.current().token_request(FORM)).endpoint in ("metadata", "token")


def test_endpoints_in_the_settings_win_and_need_no_metadata(op: HostileOP, settings: Any) -> None:
    settings.OIDC_OP_AUTHORIZATION_ENDPOINT = op.at("/own/authorize")
    settings.OIDC_OP_TOKEN_ENDPOINT = op.at("/own/token")
    settings.OIDC_OP_USER_ENDPOINT = op.at("/own/userinfo")
    settings.OIDC_OP_JWKS_ENDPOINT = op.at("/own/jwks")
    op.answers.update(
        {
            "/own/token": answer(GOOD),
            "/own/userinfo": answer({"sub": "anna"}),
            "/own/jwks": answer(jwks(KEYS["rsa"])),
            METADATA: answer({}, 500),
        }
    )
    current = provider.current()

    assert current.endpoint("authorization_endpoint") == op.at("/own/authorize")
    assert current.token_request(FORM) == GOOD
    assert current.userinfo("at") == {"sub": "anna"}
    assert current.keys() == KeySet.from_jwks(jwks(KEYS["rsa"]))
    assert op.asked(METADATA) == []


@pytest.mark.parametrize(
    ("promise", "understood"), [(True, True), (False, False), ("true", False), (1, False), (None, False)]
)
def test_only_a_true_promises_iss_in_the_response(op: HostileOP, promise: Any, understood: bool) -> None:
    op.metadata["authorization_response_iss_parameter_supported"] = promise

    assert provider.current().promises_iss() is understood


def test_an_op_without_metadata_promises_nothing(op: HostileOP) -> None:
    op.answers[METADATA] = answer({}, 404)

    assert provider.current().promises_iss() is False


def test_a_site_that_names_the_endpoints_itself_does_not_ask_for_metadata_to_see_what_it_promises(
    op: HostileOP, settings: Any
) -> None:
    settings.OIDC_OP_AUTHORIZATION_ENDPOINT = op.at("/authorize")
    settings.OIDC_OP_TOKEN_ENDPOINT = op.at(TOKEN)
    op.metadata["authorization_response_iss_parameter_supported"] = True

    assert provider.current().promises_iss() is False
    assert op.asked(METADATA) == []


# Keys


def test_keys_are_asked_for_once_and_then_every_hour(op: HostileOP, later: Callable[[float], None]) -> None:
    current = provider.current()
    first = current.keys()
    assert first == KeySet.from_jwks(jwks(KEYS["rsa"]))
    assert current.keys() is first
    assert len(op.asked(JWKS)) == 1

    later(provider.KEYS_MAX_AGE + 1)
    op.keys = [KEYS["p256"]]

    assert current.keys() is first, "newer ones are asked for in the background"
    refreshed()
    assert current.keys() == KeySet.from_jwks(jwks(KEYS["p256"]))
    assert len(op.asked(JWKS)) == 2


def test_the_first_unknown_key_is_asked_about_at_once(op: HostileOP) -> None:
    current = provider.current()
    old = current.keys()
    op.keys = [KEYS["p256"], KEYS["rsa"]]

    new = current.keys(newer_than=old)

    assert new == KeySet.from_jwks(jwks(KEYS["p256"], KEYS["rsa"]))
    assert current.keys() is new, "everybody has them from now on"


def test_two_hundred_unknown_keys_are_one_request(op: HostileOP, later: Callable[[float], None]) -> None:
    current = provider.current()
    current.keys()

    for _ in range(200):
        current.keys(newer_than=current.keys())
    assert len(op.asked(JWKS)) == 2

    later(COOL_DOWN + 1)
    for _ in range(200):
        current.keys(newer_than=current.keys())
    assert len(op.asked(JWKS)) == 3


def test_two_hundred_unknown_keys_at_once_are_one_request(op: HostileOP) -> None:
    current = provider.current()
    at_hand = current.keys()
    op.answers[JWKS] = lambda request: Answer((0.05, *op.honest(request).pieces))

    with ThreadPoolExecutor(20) as pool:
        newer = list(pool.map(lambda _: current.keys(newer_than=at_hand), range(200)))

    assert len(op.asked(JWKS)) == 2
    assert all(keys is newer[0] for keys in newer)


def test_after_a_change_of_keys_a_process_is_not_content_with_what_another_had_before_it(
    op: HostileOP, settings: Any, later: Callable[[float], None]
) -> None:
    settings.STEPUP = {**settings.STEPUP, "CACHE": "default"}
    one, another = Provider(conf.current()), Provider(conf.current())
    one.keys()
    another.keys()
    later(provider.KEYS_MAX_AGE + 1)
    caches["default"].clear()  # its own time has not moved
    another.keys()
    refreshed()
    assert len(op.asked(JWKS)) == 2, "and the one has yet to hear of these"
    later(COOL_DOWN + 1)
    op.keys = [KEYS["p256"], KEYS["rsa"]]
    token = sign(claims(iss=op.url, iat=clock.now(), exp=clock.now() + 60), "ES256", key=KEYS["p256"])
    settings.OIDC_RP_SIGN_ALGO = "ES256"

    one.settings = another.settings = conf.current()
    assert one.verified(id_token.verify, token)["sub"] == SUBJECT
    assert len(op.asked(JWKS)) == 3
    assert another.verified(id_token.verify, token)["sub"] == SUBJECT
    assert len(op.asked(JWKS)) == 3, "it was told"


def test_keys_at_hand_go_on_being_used_while_newer_cannot_be_had(op: HostileOP, later: Callable[[float], None]) -> None:
    current = provider.current()
    good = current.keys()
    op.answers[JWKS] = answer({}, 500)

    assert current.keys(newer_than=good) is good
    assert current.keys() is good
    later(provider.KEYS_MAX_AGE + 1)
    assert current.keys() is good
    op.stop()
    later(provider.KEYS_MAX_AGE + 1)
    assert current.keys() is good


def test_whoever_has_newer_keys_already_asks_nobody(op: HostileOP) -> None:
    current = provider.current()
    old = current.keys()
    op.keys = [KEYS["p256"]]
    new = current.keys(newer_than=old)

    assert current.keys(newer_than=old) is new
    assert len(op.asked(JWKS)) == 2


def test_threads_that_need_keys_at_the_same_time_make_one_request(op: HostileOP) -> None:
    current = provider.current()
    op.answers[JWKS] = lambda request: Answer((0.1, *op.honest(request).pieces))
    together = threading.Barrier(16)

    def keys() -> KeySet:
        together.wait()
        return current.keys()

    with ThreadPoolExecutor(16) as pool:
        had = [each.result() for each in [pool.submit(keys) for _ in range(16)]]

    assert len({id(each) for each in had}) == 1
    assert len(op.asked(JWKS)) == 1
    assert len(op.asked(METADATA)) == 1


def test_threads_that_wait_for_an_op_that_hangs_fail_with_the_one_that_asked(
    op: HostileOP, later: Callable[[float], None]
) -> None:
    """However long the one attempt takes; else each thread would wait for all before it, and then make its own."""
    current = provider.current()

    def hanging(request: Request) -> Answer:
        later(COOL_DOWN + 1)
        return Answer((0.3,), closes=True)

    op.answers[METADATA] = hanging
    together = threading.Barrier(8)

    def metadata() -> object:
        together.wait()
        return current.metadata()

    with ThreadPoolExecutor(8) as pool:
        for each in [pool.submit(metadata) for _ in range(8)]:
            assert isinstance(each.exception(), ProviderError)

    assert len(op.asked(METADATA)) == 1


def test_threads_that_wait_for_newer_keys_of_an_op_that_hangs_are_content_with_one_attempt(
    op: HostileOP, later: Callable[[float], None]
) -> None:
    current = provider.current()
    good = current.keys()

    def hanging(request: Request) -> Answer:
        later(COOL_DOWN + 1)
        return Answer((0.3,), closes=True)

    op.answers[JWKS] = hanging
    together = threading.Barrier(8)

    def newer() -> KeySet:
        together.wait()
        return current.keys(newer_than=good)

    with ThreadPoolExecutor(8) as pool:
        assert all(each.result() is good for each in [pool.submit(newer) for _ in range(8)])

    assert len(op.asked(JWKS)) == 2


@pytest.fixture
def restless() -> Iterator[None]:
    """Threads take turns so often that whatever can come between two lines does."""
    before = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    yield
    sys.setswitchinterval(before)


@pytest.mark.usefixtures("restless")
def test_threads_that_meet_the_op_for_the_first_time_have_one_provider(op: HostileOP, settings: Any) -> None:
    for attempt in range(20):
        settings.OIDC_TIMEOUT = TIMEOUT + attempt  # which forgets the provider
        together = threading.Barrier(16)

        def current(together: threading.Barrier = together) -> Provider:
            together.wait()
            return provider.current()

        with ThreadPoolExecutor(16) as pool:
            had = [each.result() for each in [pool.submit(current) for _ in range(16)]]

        assert len({id(each) for each in had}) == 1


def test_old_keys_are_at_hand_at_once_while_newer_are_asked_for(op: HostileOP, later: Callable[[float], None]) -> None:
    current = provider.current()
    good = current.keys()
    asking = threading.Event()

    def hanging(request: Request) -> Answer:
        asking.set()
        return Answer((3.0,), closes=True)

    op.answers[JWKS] = hanging
    later(provider.KEYS_MAX_AGE + 1)
    started = time.perf_counter()
    assert current.keys() is good
    assert asking.wait(2)
    assert current.keys() is good
    took = time.perf_counter() - started
    refreshed()
    assert current.keys() is good

    assert took < TIMEOUT / 2, f"held up for {took:.2f} s, though there were keys"


@pytest.mark.parametrize("document", [{}, {"keys": {}}, {"keys": "x"}, {"keys": None}, {"jwks": []}])
def test_a_document_that_is_no_jwks_is_not_usable(op: HostileOP, document: Any) -> None:
    op.answers[JWKS] = answer(document)

    error = failure(provider.current().keys)

    assert (error.endpoint, error.reason) == ("jwks", "not usable")


def test_with_hs256_alone_no_keys_are_asked_for_and_the_secret_verifies(op: HostileOP, settings: Any) -> None:
    settings.OIDC_RP_SIGN_ALGO = "HS256"

    assert provider.current().keys() == KeySet.from_secret(CLIENT_SECRET)
    assert op.requests == []


def test_with_hs256_beside_another_algorithm_both_have_their_keys(op: HostileOP, settings: Any) -> None:
    settings.STEPUP = {**settings.STEPUP, "SIGNING_ALGORITHMS": ["RS256", "HS256"]}

    published, secret = provider.current().keys().keys

    assert "RS256" in published.algorithms
    assert not any(name.startswith("HS") for name in published.algorithms)
    assert secret.algorithms == {"HS256", "HS384", "HS512"}


@pytest.mark.parametrize("form", ["pem", "pem as text", "jwk"])
def test_a_key_in_the_settings_is_the_only_one_and_nobody_is_asked(op: HostileOP, settings: Any, form: str) -> None:
    key = KEYS["other_rsa"]
    settings.OIDC_RP_IDP_SIGN_KEY = {"pem": key.pem, "pem as text": key.pem.decode(), "jwk": key.jwk()}[form]

    (only,) = provider.current().keys().keys

    assert only.material == key.private.public_key()
    assert op.requests == []


@pytest.mark.parametrize("key", ["", "nonsense", "-----BEGIN PUBLIC KEY-----\nAAAA\n-----END PUBLIC KEY-----", b"\xff"])
def test_a_key_in_the_settings_that_cannot_be_read_is_a_provider_error(op: HostileOP, settings: Any, key: Any) -> None:
    settings.OIDC_RP_IDP_SIGN_KEY = key

    for _ in range(2):
        assert failure(provider.current().keys).reason == "not usable"


@pytest.mark.parametrize("key", [7, object(), ["x"]])
def test_a_key_in_the_settings_that_is_no_key_at_all_is_a_provider_error(
    op: HostileOP, settings: Any, key: Any
) -> None:
    settings.OIDC_RP_IDP_SIGN_KEY = key

    for _ in range(2):
        assert failure(provider.current().keys).reason == "not usable"


def test_a_published_key_that_is_not_usable_does_not_hide_the_others(op: HostileOP) -> None:
    op.answers[JWKS] = answer(jwks({"kty": "oct", "k": "AAAA"}, {"kty": "new"}, {}, KEYS["rsa_1024"], KEYS["rsa"]))

    (only,) = provider.current().keys().keys

    assert only.kid == KEYS["rsa"].kid


# The token request


@pytest.mark.parametrize("kind", ["DPoP", "mac", "", 5, None, ["Bearer"]])
def test_an_access_token_of_another_kind_is_no_answer(op: HostileOP, kind: Any) -> None:
    op.answers[TOKEN] = answer({**GOOD, "token_type": kind})
    assert str(failure(lambda: provider.current().token_request(FORM))) == "token: not a bearer token"


@pytest.mark.parametrize("said", [{"token_type": "bearer"}, {"token_type": "BEARER"}, {}])
def test_a_bearer_token_may_be_spelt_in_any_case(op: HostileOP, said: dict[str, str]) -> None:
    op.answers[TOKEN] = answer({"access_token": "at", "id_token": "e30.e30.AA", **said})
    assert provider.current().token_request(FORM)["access_token"] == "at"


def test_the_client_authenticates_in_the_form(op: HostileOP) -> None:
    op.answers[TOKEN] = answer(GOOD)

    assert provider.current().token_request(FORM) == GOOD

    (request,) = op.asked(TOKEN)
    assert request.method == "POST"
    assert request.form == {**FORM, "client_id": "site", "client_secret": CLIENT_SECRET}
    assert request.headers["content-type"] == "application/x-www-form-urlencoded"
    assert request.headers["accept"] == "application/json"
    assert "authorization" not in request.headers


def test_the_client_authenticates_by_basic_auth_and_then_its_secret_is_not_in_the_form(
    op: HostileOP, settings: Any
) -> None:
    settings.OIDC_TOKEN_USE_BASIC_AUTH = True
    op.answers[TOKEN] = answer(GOOD)

    provider.current().token_request({**FORM, "client_secret": "a site's own get_token may have put it in"})

    (request,) = op.asked(TOKEN)
    assert request.form == FORM
    assert request.headers["authorization"] == f"Basic {base64.b64encode(f'site:{CLIENT_SECRET}'.encode()).decode()}"


def test_a_refresh_token_is_sent_as_a_code_is(op: HostileOP) -> None:
    op.answers[TOKEN] = answer(GOOD)

    assert provider.current().refresh("the-token") == GOOD

    (request,) = op.asked(TOKEN)
    assert request.form == {
        "grant_type": "refresh_token",
        "refresh_token": "the-token",
        "client_id": "site",
        "client_secret": CLIENT_SECRET,
    }


@pytest.mark.parametrize("status", [400, 401, 403])
@pytest.mark.parametrize(("error", "told"), [("invalid_grant", "invalid_grant"), ("<b>made_up</b>", "unknown")])
def test_a_refresh_token_that_is_refused_is_an_error_that_says_so(
    op: HostileOP, status: int, error: str, told: str
) -> None:
    op.answers[TOKEN] = answer({"error": error}, status)
    with pytest.raises(TokenRequestRefused) as caught:
        provider.current().refresh("the-token")
    assert caught.value.error == told


@pytest.mark.parametrize("said", [answer(GOOD, 500), answer(b"<html>", kind="text/html"), answer([]), answer({}, 400)])
def test_an_answer_to_a_refresh_token_that_is_none_is_an_error(op: HostileOP, said: Answer) -> None:
    op.answers[TOKEN] = said
    assert failure(lambda: provider.current().refresh("the-token")).endpoint == "token"


@pytest.mark.parametrize(
    ("client_id", "secret"),
    [
        ("a:b", "c:d"),
        ("https://client.example/?a=b&c", "+ /%&=?#"),
        ("söte", "pass wörd €"),
        ("%3A", "%25"),
        ("line\nbreak", "tab\tnul-free"),
    ],
)
def test_both_halves_of_basic_auth_are_form_encoded(op: HostileOP, settings: Any, client_id: str, secret: str) -> None:
    settings.OIDC_TOKEN_USE_BASIC_AUTH = True
    settings.OIDC_RP_CLIENT_ID, settings.OIDC_RP_CLIENT_SECRET = client_id, secret
    settings.STEPUP = {**settings.STEPUP, "CLIENT_IDS": [client_id]}
    op.answers[TOKEN] = answer(GOOD)

    provider.current().token_request(FORM)

    sent = base64.b64decode(op.asked(TOKEN)[0].headers["authorization"].removeprefix("Basic ")).decode("ascii")
    # As an OP reads it: split at the colon, then decode each half (RFC 6749, 2.3.1).
    assert [unquote(half) for half in sent.split(":")] == [client_id, secret]


@pytest.mark.parametrize(("name", "algorithm"), [("rsa", "RS256"), ("p256", "ES256"), ("ed25519", "EdDSA")])
@pytest.mark.parametrize("kid", ["", "our-key"])
def test_the_client_authenticates_with_its_own_key_and_no_secret(
    op: HostileOP, settings: Any, name: str, algorithm: str, kid: str
) -> None:
    key = KEYS[name]
    settings.STEPUP = {
        **settings.STEPUP,
        "CLIENT_AUTHENTICATION": "private_key_jwt",
        "PRIVATE_KEY": key.private_pem,
        **({"PRIVATE_KEY_ID": kid} if kid else {}),
    }
    del settings.OIDC_RP_CLIENT_SECRET
    op.answers[TOKEN] = answer(GOOD)

    for _ in range(2):
        provider.current().token_request(FORM)

    seen = set()
    for request in op.asked(TOKEN):
        form = dict(request.form)
        assertion = form.pop("client_assertion")
        assert form == {
            **FORM,
            "client_id": "site",
            "client_assertion_type": "urn:ietf:params:oauth:client-assertion-type:jwt-bearer",
        }
        public = load_pem_public_key(key.pem)
        claims = jwt.decode(assertion, public, [algorithm], audience=op.at(TOKEN), issuer="site")  # type: ignore[arg-type]
        assert claims["sub"] == "site"
        assert 0 < claims["exp"] - claims["iat"] <= 60
        assert jwt.get_unverified_header(assertion).get("kid", "") == kid
        seen.add(claims["jti"])
    assert len(seen) == 2, "each assertion is for one use"


@pytest.mark.parametrize("key", ["junk", KEYS["rsa"].pem.decode(), KEYS["rsa_1024"].private_pem])
def test_a_key_that_cannot_sign_is_a_provider_error(op: HostileOP, settings: Any, key: str) -> None:
    settings.STEPUP = {**settings.STEPUP, "CLIENT_AUTHENTICATION": "private_key_jwt", "PRIVATE_KEY": key}

    error = failure(lambda: provider.current().token_request(FORM))

    assert (error.endpoint, error.reason) == ("token", "private key not usable")
    assert op.asked(TOKEN) == []


@pytest.mark.parametrize(
    ("said", "status", "reason"),
    [
        ({"request_uri": "urn:r:1", "expires_in": 60}, 201, None),
        ({"request_uri": "urn:r:1"}, 200, None),
        ({"request_uri": ""}, 201, "no request_uri"),
        ({"request_uri": 5}, 201, "no request_uri"),
        ({}, 201, "no request_uri"),
        ({}, 500, "status 500"),
        ({}, 400, "status 400"),
    ],
)
def test_an_authentication_request_can_be_pushed(op: HostileOP, said: Any, status: int, reason: str | None) -> None:
    op.metadata["pushed_authorization_request_endpoint"] = op.at("/par")
    op.answers["/par"] = answer(said, status)
    params = {"client_id": "site", "scope": "openid", "state": "s"}

    if reason is None:
        assert provider.current().push(params) == "urn:r:1"
    else:
        assert str(failure(lambda: provider.current().push(params))) == f"par: {reason}"
    (request,) = op.asked("/par")
    assert request.form == {**params, "client_secret": CLIENT_SECRET}


def test_a_request_that_is_pushed_is_authenticated_as_at_the_token_endpoint(op: HostileOP, settings: Any) -> None:
    key = KEYS["p256"]
    settings.STEPUP = {
        **settings.STEPUP,
        "CLIENT_AUTHENTICATION": "private_key_jwt",
        "PRIVATE_KEY": key.private_pem,
    }
    op.metadata["pushed_authorization_request_endpoint"] = op.at("/par")
    op.answers["/par"] = answer({"request_uri": "urn:r:1"}, 201)
    provider.current().push({"client_id": "site"})
    (request,) = op.asked("/par")
    public: Any = load_pem_public_key(key.pem)
    said = jwt.decode(request.form["client_assertion"], public, ["ES256"], audience=op.at(TOKEN), issuer="site")
    assert said["sub"] == "site"


def test_an_op_that_takes_no_pushed_requests_is_a_provider_error(op: HostileOP) -> None:
    assert str(failure(lambda: provider.current().push({}))) == "metadata: no pushed_authorization_request_endpoint"


@pytest.mark.parametrize("status", [400, 401])
@pytest.mark.parametrize("error", sorted(provider.TOKEN_ERRORS))
def test_the_op_may_refuse_a_token_request(op: HostileOP, status: int, error: str) -> None:
    op.answers[TOKEN] = answer({"error": error, "error_description": "…"}, status)

    with pytest.raises(TokenRequestRefused) as caught:
        provider.current().token_request(FORM)

    assert caught.value.error == error


def test_auth0_refuses_a_used_code_with_403(op: HostileOP) -> None:
    op.answers[TOKEN] = answer({"error": "invalid_grant", "error_description": "Invalid authorization code"}, 403)

    with pytest.raises(TokenRequestRefused) as caught:
        provider.current().token_request(FORM)

    assert caught.value.error == "invalid_grant"


@pytest.mark.parametrize("error", ["<script>", "my own error", "invalid_grant\nforged log line", "x" * 5000, ""])
def test_an_error_that_the_standard_does_not_know_is_not_repeated(op: HostileOP, error: str) -> None:
    op.answers[TOKEN] = answer({"error": error}, 400)

    with pytest.raises(TokenRequestRefused) as caught:
        provider.current().token_request(FORM)

    assert caught.value.error == "unknown"


@pytest.mark.parametrize(
    ("body", "reason"),
    [
        ({"message": "no error code"}, "status 400"),
        ({"error": ["invalid_grant"]}, "status 400"),
        ({"error": None}, "status 400"),
        (["error"], "not a JSON object"),
        (b"<h1>Bad Request</h1>", "not JSON"),
        (b"", "not JSON"),
    ],
)
def test_a_refusal_that_cannot_be_read_is_no_answer(op: HostileOP, body: Any, reason: str) -> None:
    op.answers[TOKEN] = answer(body, 400)

    assert failure(lambda: provider.current().token_request(FORM)).reason == reason


@pytest.mark.parametrize("status", [404, 429, 500, 502, 503])
def test_an_error_of_a_server_is_not_a_refusal(op: HostileOP, status: int) -> None:
    op.answers[TOKEN] = answer({"error": "server_error"}, status)

    error = failure(lambda: provider.current().token_request(FORM))

    assert (error.endpoint, error.reason) == ("token", f"status {status}")


# Userinfo


def test_userinfo_is_asked_for_with_the_access_token(op: HostileOP) -> None:
    op.answers[USERINFO] = answer({"sub": "anna"})

    assert provider.current().userinfo("an-access-token") == {"sub": "anna"}

    (request,) = op.asked(USERINFO)
    assert (request.method, request.headers["authorization"]) == ("GET", "Bearer an-access-token")


@pytest.mark.parametrize("kind", ["application/jwt", "Application/JWT; charset=utf-8"])
def test_userinfo_that_is_signed_is_handed_on_as_it_is(op: HostileOP, kind: str) -> None:
    op.answers[USERINFO] = answer(b"e30.e30.AA\n", kind=kind)

    assert provider.current().userinfo("at") == "e30.e30.AA"


def test_signed_userinfo_that_is_no_text_is_refused(op: HostileOP) -> None:
    op.answers[USERINFO] = answer("é".encode(), kind="application/jwt")

    assert failure(lambda: provider.current().userinfo("at")).reason == "not a JWT"


def test_userinfo_without_a_content_type_is_read_as_json(op: HostileOP) -> None:
    op.answers[USERINFO] = cut(b"HTTP/1.1 200 OK\r\n\r\n" + b'{"sub": "anna"}')

    assert provider.current().userinfo("at") == {"sub": "anna"}


@pytest.mark.parametrize("access_token", ["a\r\nX-Injected: 1", "a\nb", "tok\u20acn", "\U0001f600"])
def test_an_access_token_that_fits_no_header_is_a_provider_error(op: HostileOP, access_token: str) -> None:
    failure(lambda: provider.current().userinfo(access_token))

    assert op.asked(USERINFO) == []


def test_a_netrc_file_does_not_replace_the_access_token_nor_add_credentials(
    op: HostileOP, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    netrc = tmp_path / "netrc"
    netrc.write_text("machine 127.0.0.1 login somebody password else\n")
    netrc.chmod(0o600)
    monkeypatch.setenv("NETRC", str(netrc))
    op.answers.update({TOKEN: answer(GOOD), USERINFO: answer({"sub": "anna"})})

    provider.current().token_request(FORM)
    provider.current().userinfo("at")
    provider.current().keys()

    sent = {request.path: request.headers.get("authorization") for request in op.requests}
    assert sent == {METADATA: None, TOKEN: None, USERINFO: "Bearer at", JWKS: None}


def test_basic_auth_is_not_replaced_by_a_netrc_file_either(
    op: HostileOP, settings: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    netrc = tmp_path / "netrc"
    netrc.write_text("machine 127.0.0.1 login somebody password else\n")
    netrc.chmod(0o600)
    monkeypatch.setenv("NETRC", str(netrc))
    settings.OIDC_TOKEN_USE_BASIC_AUTH = True
    op.answers[TOKEN] = answer(GOOD)

    provider.current().token_request(FORM)

    sent = op.asked(TOKEN)[0].headers["authorization"].removeprefix("Basic ")
    assert base64.b64decode(sent).decode() == f"site:{CLIENT_SECRET}"


# Whatever it does wrong


HALF = b'{"sub": "anna"}'
CHUNKED = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"

MISBEHAVIOUR: dict[str, tuple[Answer, str]] = {
    "no answer": (Answer((DRIPS_FOR,), closes=True), "timeout"),
    "an answer that comes too late": (Answer((DRIPS_FOR, *answer({}).pieces)), "timeout"),
    "500": (answer({}, 500), "status 500"),
    "503 with HTML": (answer(b"<html>", 503, "text/html"), "status 503"),
    "401": (answer({}, 401), "status 401"),
    "201": (answer({}, 201), "status 201"),
    "204": (Answer((head(204),)), "status 204"),
    "304": (Answer((head(304),)), "status 304"),
    "200 with HTML": (answer(b"<!doctype html><title>Sign in</title>", kind="text/html"), "not JSON"),
    "an empty body": (answer(b""), "not JSON"),
    "half a body": (cut(head(Content_Length=400) + HALF), "ProtocolError"),
    "half a body that is JSON": (cut(head(Content_Length=len(HALF) + 1) + HALF), "ProtocolError"),
    "half a chunk": (cut(CHUNKED + b"40\r\n" + HALF), "ProtocolError"),
    "chunks without an end": (cut(CHUNKED + b"f\r\n" + HALF + b"\r\n"), "ProtocolError"),
    "chunks of no size": (cut(CHUNKED + b"none\r\n" + HALF + b"\r\n0\r\n\r\n"), "ProtocolError"),
    "half a JSON text": (answer(b'{"sub": "an'), "not JSON"),
    "a body that hangs": (Answer((head(Content_Length=400) + HALF, DRIPS_FOR), closes=True), "timeout"),
    "a body that drips": (dripping(head(Content_Length=9999)), "timeout"),
    "a body without length that drips": (dripping(head()), "timeout"),
    "chunks that drip": (dripping(CHUNKED, b"1\r\n \r\n"), "timeout"),
    "one chunk that drips": (dripping(CHUNKED + b"400\r\n"), "timeout"),
    "the size of a chunk that drips": (dripping(CHUNKED, b"0"), "timeout"),
    "trailers that drip": (dripping(CHUNKED + b"2\r\n{}\r\n0\r\n", b"X: y\r\n"), "timeout"),
    "a status line that drips": (dripping(b"HTTP/1.1 200 ", b"O"), "timeout"),
    "headers that drip": (dripping(b"HTTP/1.1 200 OK\r\n", b"X: y\r\n"), "timeout"),
    "one header that drips": (dripping(b"HTTP/1.1 200 OK\r\nX: ", b"y"), "timeout"),
    "interim answers that drip": (dripping(b"", b"HTTP/1.1 100 Continue\r\n\r\n"), "timeout"),
    "a redirect that drips": (dripping(head(302, Location="/elsewhere", Content_Length=9999)), "timeout"),
    "the connection is closed": (cut(b""), "ConnectionError"),
    "the connection is closed in the headers": (cut(b"HTTP/1.1 200 OK\r\nContent-Ty"), "not JSON"),
    "no HTTP at all": (cut(b"SSH-2.0-OpenSSH_9.6\r\n"), "ConnectionError"),
    "a status that is no number": (cut(b"HTTP/1.1 OK 200\r\n\r\n"), "ConnectionError"),
    "too many headers": (cut(b"HTTP/1.1 200 OK\r\n" + b"X: y\r\n" * 200 + b"\r\n{}"), "ConnectionError"),
    "a header that is too long": (cut(head(X="y" * 70_000) + b"{}"), "ConnectionError"),
    "two megabytes": (answer(b'{"a": "' + b"x" * 2_000_000 + b'"}'), "response too large"),
    "two megabytes of spaces": (answer(b" " * 2_000_000 + b"{}"), "response too large"),
    "two megabytes without a length": (cut(head() + b" " * 2_000_000), "response too large"),
    "two megabytes in chunks": (cut(CHUNKED + b"200000\r\n" + b" " * 0x200000), "response too large"),
    "compressed though nobody asked": (answer(gzip.compress(b"{}"), Content_Encoding="gzip"), "not JSON"),
    "compressed, it says": (answer(b"}{", Content_Encoding="gzip"), "not JSON"),
    "not JSON": (answer(b"sub=anna"), "not JSON"),
    "JSON in UTF-16": (answer("{}".encode("utf-16")), "not JSON"),
    "JSON after a byte order mark": (answer(b"\xef\xbb\xbf{}"), "not JSON"),
    "JSON in Latin-1": (answer('{"name": "é"}'.encode("latin-1")), "not JSON"),
    "a JSON list": (answer([{"sub": "anna"}]), "not a JSON object"),
    "a JSON string": (answer("anna"), "not a JSON object"),
    "null": (answer(None), "not a JSON object"),
    "duplicate members": (answer(b'{"sub": "anna", "sub": "ben"}'), "not JSON"),
    "duplicate members deep inside": (answer(b'{"a": [{"b": {"c": 1, "c": 2}}]}'), "not JSON"),
    "no number": (answer(b'{"exp": NaN}'), "not JSON"),
    "nested without end": (answer(b'{"a":' + b"[" * 400_000), "not JSON"),
    "a number of a million digits": (answer(b'{"exp": ' + b"9" * 1_000_000 + b"}"), "not JSON"),
}


#: What each endpoint is tried with; one stands for all with the rest, which the same few lines read.
ANYWHERE = ["no answer", "500", "200 with HTML", "half a body", "a body that drips", "headers that drip", "null"]


@pytest.mark.parametrize(
    ("endpoint", "misbehaviour"),
    [
        *((endpoint, misbehaviour) for endpoint in ASK for misbehaviour in ANYWHERE),
        *(("userinfo", misbehaviour) for misbehaviour in MISBEHAVIOUR if misbehaviour not in ANYWHERE),
    ],
)
def test_whatever_the_op_does_wrong_is_a_provider_error_in_time(
    op: HostileOP, endpoint: str, misbehaviour: str
) -> None:
    wrong, reason = MISBEHAVIOUR[misbehaviour]
    op.answers[PATHS[endpoint]] = wrong

    error = failure(lambda: ASK[endpoint](provider.current()))

    assert (error.endpoint, error.reason) == (endpoint, reason)


@endpoints
def test_a_refused_connection_is_a_provider_error(op: HostileOP, settings: Any, endpoint: str) -> None:
    nowhere = f"http://127.0.0.1:{closed_port()}/"
    if endpoint in BY_SETTING:
        setattr(settings, BY_SETTING[endpoint], nowhere)
    else:
        settings.STEPUP = {**settings.STEPUP, "ISSUER": nowhere}

    error = failure(lambda: ASK[endpoint](provider.current()))

    assert (error.endpoint, error.reason) == (endpoint, "ConnectionError")


@endpoints
@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
def test_a_redirect_to_another_host_is_not_followed_and_nothing_secret_gets_there(
    op: HostileOP, endpoint: str, status: int
) -> None:
    with HostileOP() as other:
        op.answers[PATHS[endpoint]] = answer({}, status, Location=other.at("/catch"))

        error = failure(lambda: ASK[endpoint](provider.current()))

        assert (error.endpoint, error.reason) == (endpoint, f"status {status}")
        assert other.requests == []


@endpoints
@pytest.mark.parametrize("location", ["", "/", "//", "http://[", "http:///", "\xff\xfe", "::", "x" * 60_000])
def test_a_redirect_to_nowhere_is_a_provider_error(op: HostileOP, endpoint: str, location: str) -> None:
    op.answers[PATHS[endpoint]] = answer({}, 302, Location=location)

    assert failure(lambda: ASK[endpoint](provider.current())).endpoint == endpoint


@pytest.mark.parametrize("status", [200, 302])
def test_a_compression_bomb_does_not_go_off(op: HostileOP, status: int) -> None:
    bomb = gzip.compress(b"\0" * 50_000_000)
    op.answers[TOKEN] = answer(bomb, status, Content_Encoding="gzip", Location="/elsewhere")
    current = provider.current()
    current.metadata()

    tracemalloc.start()
    try:
        failure(lambda: current.token_request(FORM))
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()

    assert peak < 10_000_000, f"{peak / 1e6:.0f} MB"


@pytest.mark.parametrize("status", [200, 302, 500])
def test_a_body_without_end_is_left_unread(op: HostileOP, status: int) -> None:
    sent = []

    def flood() -> Iterator[bytes | float]:
        yield head(status, Location="/elsewhere")
        until = time.perf_counter() + 4
        while time.perf_counter() < until:
            sent.append(100_000)
            yield b" " * 100_000

    op.answers[TOKEN] = lambda request: Answer(flood(), closes=True)
    current = provider.current()
    current.metadata()

    failure(lambda: current.token_request(FORM))

    assert sum(sent) < 20_000_000


def test_neither_the_secret_nor_the_code_is_in_an_error_or_in_the_log(
    op: HostileOP, settings: Any, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    settings.OIDC_OP_TOKEN_ENDPOINT = f"http://127.0.0.1:{closed_port()}/?key=in-the-url"
    settings.OIDC_OP_USER_ENDPOINT = settings.OIDC_OP_TOKEN_ENDPOINT

    refused = failure(lambda: provider.current().token_request(FORM))
    unanswered = failure(lambda: provider.current().userinfo("the-access-token"))

    said = f"{refused!r} {refused} {unanswered!r} {unanswered} {caplog.text}"
    for secret in (CLIENT_SECRET, "the-code", "the-access-token"):
        assert secret not in said
    assert "in-the-url" not in f"{refused} {unanswered}"
    assert refused.__suppress_context__
    assert unanswered.__suppress_context__


# Connections


def test_one_connection_serves_many_requests(op: HostileOP) -> None:
    op.answers.update({TOKEN: answer(GOOD), USERINFO: answer({"sub": "anna"})})
    current = provider.current()

    for _ in range(3):
        current.keys()
        current.token_request(FORM)
        current.userinfo("at")

    assert len(op.requests) == 8
    assert len({request.connection for request in op.requests}) == 1


def test_a_connection_that_the_op_has_closed_meanwhile_is_replaced(op: HostileOP) -> None:
    op.answers.update({TOKEN: answer(GOOD), USERINFO: answer({"sub": "anna"})})
    current = provider.current()
    current.token_request(FORM)
    op.hang_up()
    time.sleep(0.05)

    assert current.token_request(FORM) == GOOD
    assert len({request.connection for request in op.requests}) == 2


def test_an_answer_that_was_given_up_does_not_spoil_the_next(op: HostileOP) -> None:
    op.answers[USERINFO] = answer(b'{"a": "' + b"x" * 2_000_000 + b'"}')
    current = provider.current()
    failure(lambda: current.userinfo("at"))
    op.answers[USERINFO] = answer({"sub": "anna"})

    assert current.userinfo("at") == {"sub": "anna"}


def test_a_cookie_of_one_answer_is_not_sent_with_the_request_for_the_next_person(op: HostileOP) -> None:
    op.answers[TOKEN] = answer(GOOD, Set_Cookie="op_session=annas; Path=/")
    op.answers[USERINFO] = answer({"sub": "anna"}, Set_Cookie="who=anna; Path=/")
    current = provider.current()

    for _ in range(2):
        current.token_request(FORM)
        current.userinfo("at")

    assert [request.headers.get("cookie") for request in op.requests] == [None] * len(op.requests)


def test_requests_go_through_the_proxy_in_the_settings(op: HostileOP, settings: Any) -> None:
    issuer = "http://op.invalid/"
    settings.STEPUP = {**settings.STEPUP, "ISSUER": issuer}
    settings.OIDC_PROXY = {"http": op.url}
    op.metadata.update({"issuer": issuer, "token_endpoint": f"{issuer}token"})
    op.answers[TOKEN] = answer(GOOD)

    assert provider.current().token_request(FORM) == GOOD
    assert [request.target for request in op.requests] == [
        "http://op.invalid/.well-known/openid-configuration",
        "http://op.invalid/token",
    ]


def test_a_proxy_that_refuses_is_a_provider_error(op: HostileOP, settings: Any) -> None:
    settings.STEPUP = {**settings.STEPUP, "ISSUER": "https://op.invalid/"}
    settings.OIDC_PROXY = {"https": op.url}
    op.answers[""] = answer({}, 407)

    assert failure(provider.current().metadata).reason == "ProxyError"
    (request,) = op.requests
    assert (request.method, request.target) == ("CONNECT", "op.invalid:443")


@pytest.fixture
def certificate(tmp_path: Path) -> Certificate:
    return Certificate.make(tmp_path)


@pytest.fixture
def tls_op(certificate: Certificate, settings: Any) -> Iterator[HostileOP]:
    with HostileOP(certificate) as running:
        settings.STEPUP = {**settings.STEPUP, "ISSUER": running.url}
        settings.OIDC_TIMEOUT = 2
        yield running


def test_a_certificate_that_nobody_known_has_signed_is_refused(tls_op: HostileOP) -> None:
    assert failure(provider.current().metadata).reason == "SSLError"
    assert tls_op.requests == []


def test_a_certificate_of_the_authority_in_the_settings_is_accepted(
    tls_op: HostileOP, certificate: Certificate, settings: Any
) -> None:
    settings.OIDC_VERIFY_SSL = str(certificate.path)
    tls_op.answers[TOKEN] = answer(GOOD)

    assert provider.current().token_request(FORM) == GOOD
    assert len({request.connection for request in tls_op.requests}) == 1


def test_a_certificate_for_another_host_is_refused(tmp_path: Path, settings: Any) -> None:
    other = Certificate.make(tmp_path, "op.example")
    settings.OIDC_VERIFY_SSL = str(other.path)
    with HostileOP(other) as op:
        settings.STEPUP = {**settings.STEPUP, "ISSUER": op.url}

        assert failure(provider.current().metadata).reason == "SSLError"
        assert op.requests == []


def test_an_authority_that_is_not_there_is_a_provider_error(tls_op: HostileOP, settings: Any, tmp_path: Path) -> None:
    settings.OIDC_VERIFY_SSL = str(tmp_path / "none.pem")

    assert failure(provider.current().metadata).endpoint == "metadata"
    assert tls_op.requests == []


@pytest.mark.parametrize("name", ["authorization_endpoint", "token_endpoint", "userinfo_endpoint", "jwks_uri"])
def test_an_endpoint_without_tls_is_none_where_the_issuer_has_it(
    tls_op: HostileOP, certificate: Certificate, settings: Any, name: str
) -> None:
    settings.OIDC_VERIFY_SSL = str(certificate.path)
    tls_op.metadata[name] = "http://127.0.0.1:1/plain"

    error = failure(lambda: provider.current().endpoint(name))

    assert (error.endpoint, error.reason) == ("metadata", f"{name} without TLS")


# One provider for the settings in force, and one for each process


def test_the_provider_is_the_same_until_the_settings_change(op: HostileOP, settings: Any) -> None:
    first = provider.current()
    assert provider.current() is first

    with HostileOP() as other:
        settings.STEPUP = {**settings.STEPUP, "ISSUER": other.url}

        assert provider.current() is not first
        assert provider.current().metadata()["issuer"] == other.url
        assert provider.current().settings is conf.current()


FORKING = textwrap.dedent(
    """
    import json, os, sys, threading
    import django
    from django.conf import settings

    django.setup()
    settings.STEPUP = {**settings.STEPUP, "ISSUER": sys.argv[1]}
    settings.OIDC_TIMEOUT = 5

    from stepup import provider

    parents = provider.current()
    parents.userinfo("parent")
    busy = threading.Thread(target=parents.keys)  # and holds a lock meanwhile
    busy.start()
    input()
    locked, over = threading.Event(), threading.Event()

    def look():
        with provider._lock:  # as a thread that looks for the provider does, for a moment
            locked.set()
            over.wait()

    looking = threading.Thread(target=look)
    looking.start()
    locked.wait()
    child = os.fork()
    if child == 0:
        provider.current().userinfo("child")
        own = provider.current()
        own.keys()
        provider.current().userinfo("child")
        sys.exit(3 if own is parents else 0)
    over.set()
    looking.join()
    _, status = os.waitpid(child, 0)
    busy.join()
    parents.userinfo("parent")
    print(json.dumps({"child": os.waitstatus_to_exitcode(status), "kept": provider.current() is parents}))
    """
)


@pytest.mark.skipif(not hasattr(os, "fork"), reason="there are no forks here")
def test_a_forked_child_has_connections_and_locks_of_its_own(op: HostileOP) -> None:
    op.answers[USERINFO] = answer({"sub": "anna"})
    asked = threading.Event()

    def slow_once(request: Request) -> Answer:
        first = not asked.is_set()
        asked.set()
        return Answer((1.5 if first else 0.0, *op.honest(request).pieces))

    op.answers[JWKS] = slow_once

    with subprocess.Popen(
        [sys.executable, "-c", FORKING, op.url],
        env={**os.environ, "DJANGO_SETTINGS_MODULE": "tests.settings"},
        cwd=Path(__file__).parent.parent,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as run:
        try:
            assert asked.wait(30)
            said, _ = run.communicate("\n", timeout=30)
        finally:
            run.kill()

    assert json.loads(said) == {"child": 0, "kept": True}
    used: dict[str, set[int]] = {}
    for request in op.asked(USERINFO):
        used.setdefault(request.headers["authorization"], set()).add(request.connection)
    assert used.keys() == {"Bearer parent", "Bearer child"}
    assert used["Bearer parent"].isdisjoint(used["Bearer child"])
