"""Anything may come: whatever a token, a query or the settings hold, the answer is the right one, and never a crash.

In `make test` a bounded number of examples, the same in each run. With `STEPUP_FUZZ_SECONDS` each test goes on with new
ones for so long. What such a run has found stands here as an example of its own.
"""

from __future__ import annotations

import base64
import json
import os
import time
from collections.abc import Callable, Mapping
from functools import wraps
from typing import Any
from urllib.parse import urljoin, urlsplit

import hypothesis
import pytest
from django.contrib.auth.models import AnonymousUser
from django.contrib.sessions.backends.signed_cookies import SessionStore as CookieStore
from django.core import signing
from django.test import Client, RequestFactory, override_settings
from django.urls import include, path
from hypothesis import HealthCheck, example, given
from hypothesis import strategies as st

from stepup import checks, clock, conf, evaluate
from stepup.assurance import Evidence
from stepup.challenge import authentication_request, requirement_from, step_up_url
from stepup.exceptions import ClaimError
from stepup.id_token import KeySet, verify
from stepup.testing.provider.launcher import RunningProvider
from tests import tokens
from tests.tokens import CLIENT_ID, CLIENT_SECRET, ISSUER, KEYS, SUBJECT, b64, jwks, sign
from tests.visitor import Visitor, query

SECONDS = float(os.environ.get("STEPUP_FUZZ_SECONDS", "0"))
NOW = 1_700_000_000


def fuzz(examples: int) -> Callable[[Callable[..., None]], Callable[..., None]]:
    """So many examples, always the same; or as many new ones as there is time for."""

    def decorate(test: Callable[..., None]) -> Callable[..., None]:
        bounded = hypothesis.settings(
            max_examples=max(examples, 1000) if SECONDS else examples,
            derandomize=not SECONDS,
            database=None,
            deadline=None,
            suppress_health_check=list(HealthCheck),
        )(test)

        @wraps(bounded)
        def until_the_time_is_up(*args: Any, **kwargs: Any) -> None:
            end = time.monotonic() + SECONDS
            bounded(*args, **kwargs)
            while time.monotonic() < end:
                bounded(*args, **kwargs)

        return until_the_time_is_up

    return decorate


@st.composite
def some_of(draw: st.DrawFn, strategies: Mapping[str, st.SearchStrategy[Any]], most: int) -> dict[str, Any]:
    """Values for a few of the names; few, so that one that is wrong does not hide what another would have done."""
    names = draw(st.sets(st.sampled_from(sorted(strategies)), max_size=most))
    return {name: draw(strategies[name]) for name in sorted(names)}


# The verifier

ALGORITHMS = ["RS256", "RS512", "PS256", "ES256", "ES384", "EdDSA"]
TRUSTED = KeySet.from_jwks(jwks(*(KEYS[name] for name in ("rsa", "p256", "p384", "ed25519"))))

json_values = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**70), 2**70)
    | st.floats()
    | st.text(max_size=8)
    | st.sampled_from([ISSUER, CLIENT_ID, SUBJECT, "other", NOW - 31, NOW - 30, NOW, NOW + 30, NOW + 31, NOW + 0.5]),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=4), inner, max_size=3),
    max_leaves=5,
)
sound_claims: dict[str, st.SearchStrategy[Any]] = {
    "iss": st.sampled_from([ISSUER, ISSUER, ISSUER[:-1], ISSUER.upper()]),
    "sub": st.sampled_from([SUBJECT, "a", "a" * 255, "a" * 256, "", "\x7f", "é"]),
    "aud": st.lists(st.sampled_from([CLIENT_ID, CLIENT_ID, "sister", "other"]), max_size=3) | st.just(CLIENT_ID),
    "azp": st.sampled_from([CLIENT_ID, "sister", "other"]),
    "exp": st.integers(NOW - 40, NOW + 40) | st.floats(NOW - 40, NOW + 40),
    "iat": st.integers(NOW - 40, NOW + 40) | st.floats(NOW - 40, NOW + 40),
    "nbf": st.integers(NOW - 40, NOW + 40),
    "auth_time": st.integers(NOW - 40, NOW + 40),
    "nonce": st.sampled_from(["n", "n", "N", "", "é"]),
    "at_hash": st.sampled_from([tokens.half_hash("at"), tokens.half_hash("other")]),
}
changed_claims = some_of({name: some | json_values for name, some in sound_claims.items()}, 3)


def is_time(value: object, least: float, most: float) -> bool:
    return type(value) in (int, float) and max(least, 0) <= value <= most  # type: ignore[operator]


def is_to_be_accepted(claims: dict[str, Any], *, hashed: str) -> bool:
    """The rules of OpenID Connect Core 1.0, 3.1.3.7, read once more, where a sister site's client id is ours too."""
    ours = (CLIENT_ID, "sister")
    aud = [claims["aud"]] if isinstance(claims.get("aud"), str) else claims.get("aud")
    sub = claims.get("sub")
    return (
        claims.get("iss") == ISSUER
        and isinstance(aud, list)
        and len(aud) > 0
        and all(isinstance(client, str) and client in ours for client in aud)
        and ("azp" in claims or len(set(aud)) == 1)
        and ("azp" not in claims or (isinstance(claims["azp"], str) and claims["azp"] in ours))
        and isinstance(sub, str)
        and 1 <= len(sub) <= 255
        and all(" " <= character <= "~" for character in sub)
        and is_time(claims.get("exp"), NOW - 30 + 1e-6, 1e308)
        and is_time(claims.get("iat"), 0, NOW + 30)
        and all(is_time(claims[name], 0, NOW + 30) for name in ("nbf", "auth_time") if name in claims)
        and claims.get("nonce") == "n"
        and ("at_hash" not in claims or claims["at_hash"] == hashed)
    )


def accepted(token: object, keys: KeySet = TRUSTED, **changes: Any) -> dict[str, Any] | None:
    """The claims; None where the token is refused. Any other exception is a mistake."""
    expected = {
        "algorithms": ALGORITHMS,
        "issuer": ISSUER,
        "audiences": [CLIENT_ID, "sister"],
        "now": NOW,
        "leeway": 30,
        "nonce": "n",
        "access_token": "at",
        **changes,
    }
    try:
        return verify(token, keys, **expected)
    except ClaimError:
        return None


@fuzz(400)
@given(changed=changed_claims, absent=st.sets(st.sampled_from(sorted(sound_claims)), max_size=1))
def test_a_signed_token_is_accepted_where_the_rules_say_so_and_nowhere_else(
    changed: dict[str, Any], absent: set[str]
) -> None:
    payload = {**tokens.claims(at=NOW, nonce="n"), **changed}
    payload = {name: value for name, value in payload.items() if name not in absent}
    # NaN and infinity are no JSON, though Python writes them: then it is refused whatever the rest.
    text = json.dumps(payload)
    read = accepted(sign(text, "ES256"))

    if is_json(text) and is_to_be_accepted(payload, hashed=tokens.half_hash("at")):
        assert read == payload
    else:
        assert read is None


def is_json(text: str) -> bool:
    def refuse(constant: str) -> None:
        raise ValueError(constant)

    try:
        value = json.loads(text, parse_constant=refuse)
        json.dumps(value, ensure_ascii=False).encode()
    except ValueError:
        return False
    return "\\u0000" not in text.replace("\\\\", "")


headers = some_of(
    {
        "alg": st.sampled_from([*ALGORITHMS, "HS256", "none", "nOnE", "RS384", "Ed25519"]) | json_values,
        "kid": st.sampled_from([KEYS["rsa"].kid, KEYS["p256"].kid, "unknown", ""]) | json_values,
        "typ": st.sampled_from(["JWT", "jwt", "JOSE", "at+jwt", "logout+JWT"]) | json_values,
        "jwk": st.just(KEYS["other_rsa"].jwk()) | json_values,
        "jku": st.just("http://127.0.0.1:9/keys") | json_values,
        "x5c": json_values,
        "x5u": st.just("http://127.0.0.1:9/keys"),
        "crit": st.just(["exp"]) | json_values,
        "b64": json_values,
        "zip": st.just("DEF"),
        "cty": st.just("JWT"),
    },
    2,
)
signers = st.sampled_from(
    [
        *((KEYS[name], alg) for name, alg in [("rsa", "RS256"), ("rsa", "PS256"), ("rsa", "RS512"), ("p256", "ES256")]),
        *((KEYS[name], alg) for name, alg in [("p384", "ES384"), ("ed25519", "EdDSA")]),
    ]
)
forgers = st.sampled_from(
    [
        *((KEYS[name], alg) for name, alg in [("other_rsa", "RS256"), ("other_p256", "ES256"), ("ed448", "EdDSA")]),
        *((key, "HS256") for key in ("", KEYS["rsa"].pem, KEYS["rsa"].der, CLIENT_SECRET, ISSUER)),
    ]
)
signatures = st.none() | st.none() | st.binary(max_size=80) | st.sampled_from([b"\0" * 64, b"\0" * 256, b"\xff" * 64])


@fuzz(400)
@given(signer=signers | forgers, header=headers, signature=signatures)
def test_no_header_makes_a_signature_good_that_is_not_by_a_trusted_key_with_its_algorithm(
    signer: tuple[Any, str], header: dict[str, Any], signature: bytes | None
) -> None:
    key, alg = signer
    payload = tokens.claims(at=NOW, nonce="n")
    token = sign(payload, alg, key=key, header=header)
    if signature is not None:
        token = f"{token.rpartition('.')[0]}.{b64(signature)}"

    read = accepted(token)

    if read is not None:
        assert read == payload
        assert signature is None
        assert header.get("alg", alg) == alg
        assert alg in ALGORITHMS
        assert any(key is KEYS[name] for name in ("rsa", "p256", "p384", "ed25519"))
        assert not header.keys() & {"crit", "b64"}
    elif signature is None and not header and not isinstance(key, (str, bytes)):
        assert not any(key is KEYS[name] for name in ("rsa", "p256", "p384", "ed25519"))


@st.composite
def spoilt(draw: st.DrawFn, good: bytes) -> bytes:
    """Some bytes with a few changed, taken out, put in, or moved."""
    data = bytearray(good)
    for _ in range(draw(st.integers(1, 4))):
        start = draw(st.integers(0, len(data)))
        end = start + draw(st.sampled_from((0, 1, 1, 2, 8)))
        data[start:end] = draw(
            st.binary(max_size=3) | st.sampled_from([b'"', b"\\", b"\0", b"1e999", b"{}", b"[" * 99])
        )
    return bytes(data)


PAYLOAD = json.dumps(tokens.claims(at=NOW, nonce="n", amr=["mfa"])).encode()


@fuzz(400)
@given(payload=spoilt(PAYLOAD))
def test_of_a_payload_with_spoilt_bytes_come_sound_claims_or_a_refusal(payload: bytes) -> None:
    read = accepted(sign(payload, "ES256"))
    if read is not None:
        assert is_to_be_accepted(read, hashed=tokens.half_hash("at"))
        assert read == json.loads(payload)


TOKENS = {alg: sign(PAYLOAD, alg) for alg in ("RS256", "ES256", "EdDSA")}


@fuzz(400)
@given(alg=st.sampled_from(sorted(TOKENS)), part=st.integers(0, 2), data=st.data())
def test_a_token_with_spoilt_bytes_in_any_part_is_refused(alg: str, part: int, data: st.DataObject) -> None:
    parts = TOKENS[alg].split(".")
    raw = base64.urlsafe_b64decode(parts[part] + "==")
    changed = data.draw(spoilt(raw))
    parts[part] = b64(changed)
    assert (accepted(".".join(parts)) is None) == (changed != raw)


@fuzz(300)
@given(changed=st.dictionaries(st.sampled_from(["kty", "alg", "use", "key_ops", "kid", "crv", "n", "e", "x", "y", "k"]),
    json_values | st.sampled_from(["RSA", "EC", "OKP", "oct", "P-256", "Ed25519", "sig", "verify", "RS256", "ES256"]),
    max_size=4), name=st.sampled_from(["other_rsa", "other_p256", "ed448"]))  # fmt: skip
def test_no_jwk_verifies_what_its_key_has_not_signed(changed: dict[str, Any], name: str) -> None:
    keys = KeySet.from_jwks(jwks(KEYS[name].jwk(**changed)))
    for token in TOKENS.values():
        assert accepted(token, keys) is None


# The callback


def quoted(text: str) -> str:
    return "".join(f"%{byte:02x}" if not chr(byte).isalnum() else chr(byte) for byte in text.encode("utf-8", "replace"))


def encoded(given: list[tuple[str, str]]) -> str:
    return "&".join(f"{quoted(name)}={quoted(value)}" for name, value in given)


PLACES = ["STATE", "CODE", "ISSUER"]
words = st.sampled_from(
    [*PLACES, "", "x", "None", "access_denied", "login_required", "server_error", "\0", "é", "..", "%"]
)
pairs = st.lists(
    st.tuples(
        st.sampled_from(
            ["state", "code", "iss", "error", "error_description", "session_state", "id_token", "next", "x"]
        )
        | st.text(max_size=3),
        words | st.text(max_size=10),
    ),
    max_size=6,
)
raw_queries = st.text(st.characters(max_codepoint=255), max_size=60) | st.lists(
    st.sampled_from(
        ["state=", "code=", "iss=", "error=", "&", ";", "=", "%", "%00", "%ff", "%zz", "+", "?", "#", *PLACES]
    ),
    max_size=10,
).map("".join)
starts_of_queries = st.sampled_from(["", "state=STATE&", "state=STATE&iss=ISSUER&", "state=STATE&iss=ISSUER&code="])
queries = st.tuples(starts_of_queries, raw_queries | pairs.map(encoded)).map("".join)


def get(client: Client, where: str, raw_query: str) -> Any:
    return client.get(where, QUERY_STRING=raw_query)


class Callback:
    """Somebody's browser, at the callback again and again. What it cannot guess is put in for it."""

    def __init__(self, client: Client, code: str, issuer: str) -> None:
        self.client, self.places = client, {"CODE": quoted(code), "ISSUER": quoted(issuer)}

    def assert_nothing_comes_of(self, raw_query: str, *, is_pending: bool, is_silent: bool = False) -> None:
        state = "no-such-state"
        if is_pending:
            state = query(self.client.get("/oidc/authenticate/")["Location"])["state"]
        elif is_silent:
            state = "silent"
            store = self.client.session
            store["oidc_states"] = {state: {"nonce": "n", "code_verifier": "v", "added_on": clock.now()}}
            store.save()
            self.client.cookies["sessionid"] = store.session_key or ""
        before = without_pending(self.client, is_silent=is_silent)

        raw_query = raw_query.replace("STATE", quoted(state))
        for place, value in self.places.items():
            raw_query = raw_query.replace(place, value)
        answer = get(self.client, "/oidc/callback/", raw_query)

        if answer.status_code == 302:
            assert is_silent
            # Asked openly or, where the OP says that something is wrong with it, left for later.
            assert answer["Location"] == "/" or answer["Location"].startswith(f"{conf.current().issuer}authorize?")
        else:
            assert 400 <= answer.status_code < 500, answer.content
        assert "no-store" in answer["Cache-Control"]
        assert without_pending(self.client, is_silent=is_silent) == before
        assert answer.cookies.get("sessionid") is None or answer.cookies["sessionid"].value == before["key"]


def without_pending(client: Client, *, is_silent: bool = False) -> dict[str, Any]:
    store = client.session
    pending = {"stepup_pending", "stepup_attempts", "oidc_states"}
    if is_silent:  # when to ask again, which the answer to a renewal may say
        pending |= {"stepup_renewal", "oidc_id_token_expiration"}
    kept = {key: value for key, value in store.items() if key not in pending}
    return {**kept, "key": store.session_key}


@fuzz(200)
@given(raw_query=queries, is_pending=st.booleans(), is_silent=st.booleans(), is_signed_in=st.booleans())
@example(raw_query="state=STATE&code=CODE&iss=ISSUER", is_pending=True, is_silent=False, is_signed_in=False)
@example(raw_query="state=STATE&code=CODE&iss=ISSUER", is_pending=True, is_silent=False, is_signed_in=True)
@example(raw_query="state=STATE&error=login_required&iss=ISSUER", is_pending=False, is_silent=True, is_signed_in=True)
@example(raw_query="state=STATE&code=%00&iss=ISSUER", is_pending=True, is_silent=False, is_signed_in=True)
def test_no_query_of_the_callback_signs_anybody_in_or_out_or_changes_what_is_proved(
    stolen: dict[bool, Callback], raw_query: str, is_pending: bool, is_silent: bool, is_signed_in: bool
) -> None:
    stolen[is_signed_in].assert_nothing_comes_of(raw_query, is_pending=is_pending, is_silent=is_silent)


@pytest.fixture
def stolen(op: RunningProvider, visit: Callable[[str], Visitor]) -> dict[bool, Callback]:
    """Two browsers, of somebody who has stepped up and of nobody, and a code that was made for a third."""
    victim, signed_in, nobody = visit("ben"), visit("anna"), visit("cleo")
    signed_in.step_up("/decorated/")
    nobody.get("/oidc/authenticate/")
    code = query(victim.authenticate(victim.get("/oidc/authenticate/"), None))["code"]
    return {True: Callback(signed_in.client, code, op.issuer), False: Callback(nobody.client, code, op.issuer)}


# The view that starts an authentication request

nexts = (
    st.text(max_size=12)
    | st.lists(
        st.sampled_from(["/", "\\", ":", "//", "https:", "http:", "javascript:", "evil.example", "testserver", "@", "?",
            "#", "\t", "\n", "\r", "\0", " ", "%2f", "%5c", "\u2028", "。", ".", "[", "]", "x", "\ufeff", "\u202e"]),
        max_size=7,
    ).map("".join)
)  # fmt: skip
SIGNED_FOR_ELSE = [signing.dumps({"name": "x", "amr": ["pwd"]}), signing.dumps("x", salt="stepup"), "mfa:1:2", "sudo"]
starts = st.lists(
    st.tuples(st.just("next"), nexts)
    | st.tuples(st.just("stepup"), st.sampled_from(["mfa", "sudo", "", *SIGNED_FOR_ELSE]) | st.text(max_size=20))
    | st.tuples(st.sampled_from(["again", "prompt", "state", "redirect_uri", "acr_values"]), st.text(max_size=5)),
    max_size=4,
).map(encoded)


def leads_to_this_site(url: str) -> bool:
    """As browsers read a `Location` (WHATWG URL): blanks and controls off the ends, tabs and line ends out, \\ as /."""
    read = "".join(character for character in url.strip("".join(map(chr, range(33)))) if character not in "\t\r\n")
    parts = urlsplit(urljoin("http://testserver/oidc/callback/", read.replace("\\", "/")))
    return parts.scheme in ("http", "https") and parts.netloc == "testserver"


@fuzz(250)
@given(raw_query=starts | starts | raw_queries)
def test_no_query_makes_another_authentication_request_or_leads_off_the_site(
    browser: Visitor, op: RunningProvider, raw_query: str
) -> None:
    before = without_pending(browser.client)

    answer = get(browser.client, "/oidc/authenticate/", raw_query)

    assert without_pending(browser.client) == before
    if answer.status_code != 302:
        assert answer.status_code == 400, answer.content
        return
    sent = query(answer["Location"])
    assert answer["Location"].startswith(f"{op.issuer}authorize?")
    assert (sent["client_id"], sent["response_type"]) == ("site", "code")
    assert sent["redirect_uri"] == "http://testserver/oidc/callback/"
    kept = browser.session["stepup_pending"][sent["state"]]
    assert kept["nonce"] == sent["nonce"]
    assert kept.get("need") in (None, "mfa", "sudo")
    assert leads_to_this_site(kept["next"]), kept["next"]


@pytest.fixture
def browser(visitor: Visitor) -> Visitor:
    """Somebody who has stepped up."""
    visitor.step_up("/decorated/")
    return visitor


# The settings

VIEWS = ["stepup.views.AuthenticationRequestView", "stepup.views.AuthenticationCallbackView", "tests.urls.Page", "x.y"]
names = st.sampled_from(["mfa", "sudo", "amr", "acr", "site", "x", "", "payroll:*", "by-name", "*"])
odd = (
    st.none()
    | st.booleans()
    | st.integers(-2, 2000)
    | st.floats()
    | st.text(max_size=4)
    | st.binary(max_size=2)
    | st.sampled_from(["auth0", "generic", "RS256", "HS256", "none", "always", "private_key_jwt", "default", "http://[",
        "https://op.example/", "http://127.0.0.1:9/", object(), int, ("x", None)])
)  # fmt: skip
nested = st.recursive(
    odd | names,
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.tuples(inner)
        | st.dictionaries(names | st.integers(0, 1) | st.none(), inner, max_size=3)
    ),
    max_leaves=6,
)


def is_hashable(value: object) -> bool:
    try:
        hash(value)
    except TypeError:
        return False
    return True


def mostly(good: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    return st.one_of(good, good, good, nested)


texts = names.filter(bool)
some_texts = st.lists(texts, min_size=1, max_size=2)
requirement_like = some_of(
    {
        "amr": mostly(some_texts),
        "acr": mostly(some_texts),
        "acr_values": mostly(some_texts),
        "claims": mostly(st.dictionaries(st.sampled_from(["acrs", "vot", "x"]), some_texts, max_size=2)),
        "params": mostly(st.dictionaries(texts, texts, max_size=2)),
        "max_age": mostly(st.integers(0, 400)),
        "essential": mostly(st.booleans()),
        "prompt": mostly(texts),
    },
    3,
).map(lambda given: {"amr": ["mfa"], **given})
stepup_like = some_of(
    {
        "ISSUER": mostly(st.just("https://op.example/")),
        "PROVIDER": mostly(st.sampled_from(["auth0", "generic"])),
        "CLIENT_IDS": mostly(some_texts.map(lambda given: ["site", *given])),
        "CLIENTS_WITH_MFA": mostly(some_texts),
        "REQUIREMENTS": mostly(
            st.dictionaries(mostly(texts).filter(is_hashable), mostly(requirement_like), max_size=2)
        ),
        "PROTECTED_VIEWS": mostly(st.dictionaries(st.just("oidc_logout") | texts, texts, max_size=2) | some_texts),
        "LEEWAY": mostly(st.integers(-1, 601)),
        "AUDIENCE": mostly(texts),
        "SIGNING_ALGORITHMS": mostly(st.lists(st.sampled_from(["RS256", "ES256", "HS256", "none"]), max_size=2)),
        "MAX_PENDING": mostly(st.integers(0, 101)),
        "PENDING_MAX_AGE": mostly(st.integers(59, 90)),
        "CLIENT_AUTHENTICATION": mostly(st.sampled_from(list(conf.CLIENT_AUTHENTICATIONS))),
        "PRIVATE_KEY": mostly(st.just(KEYS["p256"].private_pem)),
        "PRIVATE_KEY_ID": mostly(texts),
        "CACHE": mostly(st.sampled_from(["default", None])),
        "USERINFO": mostly(st.sampled_from(list(conf.USERINFO))),
        "USER_CLAIMS": mostly(some_texts),
        "PUSHED_REQUESTS": mostly(st.booleans()),
        "UNSAFE_TRUST_UNVERIFIED_EMAIL": mostly(st.booleans()),
        "SIGN_OUT_AT_PROVIDER": mostly(st.booleans()),
        "END_SESSION_ENDPOINT": mostly(texts),
        "BACK_CHANNEL_LOGOUT": mostly(st.sampled_from([None, *conf.BACK_CHANNEL_LOGOUT])),
        "FRONT_CHANNEL_LOGOUT": mostly(st.booleans()),
        "DOCUMENTATION_URL": mostly(texts),
        "unknown": nested,
    },
    4,
).map(lambda given: {"ISSUER": "https://op.example/", **given})
sizes = mostly(st.integers(0, 1001))
a_name = mostly(texts)
oidc_like = some_of(
    {
        "OIDC_RP_CLIENT_ID": mostly(st.just("site")),
        "OIDC_RP_CLIENT_SECRET": mostly(st.just(CLIENT_SECRET)),
        "OIDC_RP_SIGN_ALGO": mostly(st.sampled_from(["RS256", "ES256", "EdDSA"])),
        "OIDC_RP_SCOPES": mostly(st.sampled_from(["openid", "email", "openid profile"]) | st.text()),
        "OIDC_RP_IDP_SIGN_KEY": mostly(st.just(KEYS["p256"].pem) | st.just(KEYS["rsa"].jwk())),
        "OIDC_VERIFY_KID": mostly(st.booleans()),
        "OIDC_OP_TOKEN_ENDPOINT": a_name,
        "OIDC_OP_USER_ENDPOINT": a_name,
        "OIDC_OP_JWKS_ENDPOINT": a_name,
        "OIDC_AUTH_REQUEST_EXTRA_PARAMS": st.dictionaries(mostly(st.sampled_from(["scope", "prompt", "state"])).filter(
            is_hashable), nested, max_size=2),
        "OIDC_AUTHENTICATION_CALLBACK_URL": mostly(st.just("oidc_authentication_callback")),
        "OIDC_REDIRECT_FIELD_NAME": a_name,
        "OIDC_REDIRECT_ALLOWED_HOSTS": mostly(some_texts),
        "OIDC_REDIRECT_REQUIRE_HTTPS": mostly(st.booleans()),
        "OIDC_STATE_SIZE": sizes,
        "OIDC_NONCE_SIZE": sizes,
        "OIDC_PKCE_CODE_VERIFIER_SIZE": sizes,
        "OIDC_RENEW_ID_TOKEN_EXPIRY_SECONDS": sizes,
        "OIDC_TOKEN_USE_BASIC_AUTH": mostly(st.booleans()),
        "OIDC_VERIFY_SSL": mostly(st.booleans()),
        "OIDC_TIMEOUT": mostly(st.floats() | st.tuples(odd, odd)),
        "OIDC_PROXY": mostly(st.dictionaries(texts, texts, max_size=1)),
        "OIDC_USERNAME_ALGO": nested,
        "OIDC_CREATE_USER": nested,
        "OIDC_AUTHENTICATE_CLASS": mostly(st.sampled_from(VIEWS)),
        "OIDC_CALLBACK_CLASS": mostly(st.sampled_from(VIEWS)),
        "OIDC_ALLOW_UNSECURED_JWT": mostly(st.just(False)),
        "OIDC_MAX_STATES": nested,
    },
    3,
)  # fmt: skip
EVIDENCE = Evidence(issuer="https://op.example/", subject="s", auth_time=NOW, proofs={"amr": {"mfa": NOW}})


@fuzz(400)
@given(stepup=stepup_like, oidc=oidc_like)
@example(stepup={"ISSUER": ISSUER}, oidc={"OIDC_TIMEOUT": [False, ""]})
@example(stepup={"ISSUER": ISSUER}, oidc={"OIDC_TIMEOUT": ("3", 10)})
@example(stepup={"ISSUER": ISSUER}, oidc={"OIDC_AUTHENTICATE_CLASS": "0"})
@example(stepup={"ISSUER": ISSUER}, oidc={"OIDC_AUTHENTICATE_CLASS": "x.y"})
def test_of_any_settings_come_mistakes_that_are_told_or_settings_that_work(
    alone: None, stepup: Any, oidc: dict[str, Any]
) -> None:
    endpoint = "https://op.example/authorize"
    with override_settings(**oidc, STEPUP=stepup, OIDC_OP_AUTHORIZATION_ENDPOINT=endpoint):
        told = checks.check_settings(None)
        assert {f"stepup.{problem.id}" for problem in conf.problems()} <= {message.id for message in told}
        assert isinstance(conf.best_effort(), conf.Settings)
        if any(message.is_serious() for message in told):
            return

        settings = conf.current()
        for requirement in (None, *settings.requirements.values()):
            if requirement is not None:
                assert not evaluate(None, requirement, now=NOW, leeway=settings.leeway)
                evaluate(EVIDENCE, requirement, now=NOW, leeway=settings.leeway)
            request: Any = RequestFactory().get(step_up_url(requirement, "/a/"))
            request.user, request.session = AnonymousUser(), CookieStore()
            assert requirement_from(request) == requirement
            if not settings.pushed_requests:
                answer = authentication_request(request, requirement=requirement, next_url="/a/")
                assert answer.status_code == 302
                assert answer["Location"].startswith(f"{endpoint}?")


@pytest.fixture
def alone(settings: Any) -> None:
    """A site with no view of its own that would want a requirement to be there."""
    settings.ROOT_URLCONF = __name__


urlpatterns = [path("oidc/", include("stepup.urls"))]
