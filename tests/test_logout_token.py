"""`stepup.logout_token`: what a logout token has to be, really signed (OpenID Connect Back-Channel Logout 1.0, 2.6)."""

from __future__ import annotations

from typing import Any

import pytest

from stepup import id_token
from stepup.exceptions import ClaimError
from stepup.id_token import LOGOUT_EVENT, KeySet, UnknownKey
from stepup.logout_token import MAX_AGE, MAX_LENGTH, Logout, verify
from tests import tokens
from tests.tokens import ABSENT, CLIENT_ID, ISSUER, KEYS, SUBJECT, jwks, sign

NOW = 1_700_000_000
LEEWAY = 30
HEADER = {"typ": "logout+jwt"}


def claims(**overrides: Any) -> dict[str, Any]:
    said = {"auth_time": ABSENT, "exp": NOW + 120, "sid": "s-1", "jti": "j-1", "events": {LOGOUT_EVENT: {}}}
    return tokens.claims(at=NOW, **{**said, **overrides})


def accept(token: object, **changes: Any) -> Logout:
    expected: dict[str, Any] = {
        "algorithms": ["RS256"],
        "issuer": ISSUER,
        "audiences": [CLIENT_ID],
        "now": NOW,
        "leeway": LEEWAY,
        **changes,
    }
    return verify(token, KeySet.from_jwks(jwks(KEYS["rsa"])), **expected)


def refuse(token: object, **changes: Any) -> str:
    with pytest.raises(ClaimError) as caught:
        accept(token, **changes)
    return str(caught.value)


def test_a_good_token_says_what_has_ended() -> None:
    assert accept(sign(claims(), header=HEADER)) == Logout(ISSUER, SUBJECT, "s-1", NOW, "j-1")


@pytest.mark.parametrize("typ", ["logout+jwt", "Logout+JWT", "application/logout+jwt", "JWT", "jwt", ABSENT])
def test_the_type_is_its_own_or_none_in_particular(typ: Any) -> None:
    assert accept(sign(claims(), header={"typ": typ})).jti == "j-1"


@pytest.mark.parametrize("typ", ["at+jwt", "secevent+jwt", "JOSE", "", None, 1, ["logout+jwt"]])
def test_another_type_is_refused(typ: object) -> None:
    assert refuse(sign(claims(), header={"typ": typ})) == "typ: not a logout token"


@pytest.mark.parametrize(
    ("changes", "subject", "sid"),
    [({"sid": ABSENT}, SUBJECT, None), ({"sub": ABSENT}, None, "s-1"), ({"exp": ABSENT}, SUBJECT, "s-1")],
)
def test_it_may_name_a_person_a_session_or_both(changes: dict[str, Any], subject: str, sid: str) -> None:
    logout = accept(sign(claims(**changes), header=HEADER))

    assert (logout.subject, logout.sid) == (subject, sid)


REFUSED: list[tuple[dict[str, Any], str]] = [
    ({"events": ABSENT}, "events: missing"),
    ({"events": None}, "events: not a logout token"),
    ({"events": LOGOUT_EVENT}, "events: not a logout token"),
    ({"events": [LOGOUT_EVENT]}, "events: not a logout token"),
    ({"events": {}}, "events: not a logout token"),
    ({"events": {"http://schemas.openid.net/event/other": {}}}, "events: not a logout token"),
    ({"events": {LOGOUT_EVENT: None}}, "events: not a logout token"),
    ({"events": {LOGOUT_EVENT: []}}, "events: not a logout token"),
    ({"events": {LOGOUT_EVENT: True}}, "events: not a logout token"),
    ({"nonce": "n"}, "nonce: not a logout token"),
    ({"nonce": None}, "nonce: not a logout token"),
    ({"iss": ABSENT}, "iss: missing"),
    ({"iss": f"{ISSUER}x"}, "iss: mismatch"),
    ({"iss": [ISSUER]}, "iss: mismatch"),
    ({"aud": ABSENT}, "aud: missing"),
    ({"aud": "another"}, "aud: mismatch"),
    ({"aud": [CLIENT_ID, "another"]}, "aud: mismatch"),
    ({"iat": ABSENT}, "iat: missing"),
    ({"iat": "now"}, "iat: malformed"),
    ({"iat": NOW + LEEWAY + 1}, "iat: in the future"),
    ({"iat": NOW - MAX_AGE - LEEWAY}, "iat: too old"),
    ({"exp": NOW - LEEWAY}, "exp: expired"),
    ({"exp": None}, "exp: missing"),
    ({"exp": "later"}, "exp: malformed"),
    ({"sub": ""}, "sub: malformed"),
    ({"sub": 5}, "sub: malformed"),
    ({"sub": None}, "sub: malformed"),
    ({"sub": "x" * 256}, "sub: malformed"),
    ({"sub": "änna"}, "sub: malformed"),
    ({"sid": ""}, "sid: malformed"),
    ({"sid": 5}, "sid: malformed"),
    ({"sid": None}, "sid: malformed"),
    ({"sid": "x" * (MAX_LENGTH + 1)}, "sid: malformed"),
    ({"sub": ABSENT, "sid": ABSENT}, "sub: missing"),
    ({"jti": ABSENT}, "jti: missing"),
    ({"jti": ""}, "jti: malformed"),
    ({"jti": 5}, "jti: malformed"),
    ({"jti": None}, "jti: malformed"),
    ({"jti": "x" * (MAX_LENGTH + 1)}, "jti: malformed"),
]


@pytest.mark.parametrize(
    ("changes", "reason"), REFUSED, ids=[f"{number}-{reason}" for number, (_, reason) in enumerate(REFUSED)]
)
def test_what_is_not_as_it_must_be_is_refused(changes: dict[str, Any], reason: str) -> None:
    assert refuse(sign(claims(**changes), header=HEADER)) == reason


@pytest.mark.parametrize(
    "changes",
    [
        {"iat": NOW + LEEWAY},
        {"iat": NOW - MAX_AGE - LEEWAY + 1},
        {"exp": NOW - LEEWAY + 1},
        {"sid": "x" * MAX_LENGTH},
        {"jti": "x" * MAX_LENGTH},
        {"sub": "x" * 255},
        {"events": {LOGOUT_EVENT: {"anything": 1}, "another": 1}},
    ],
    ids="".join,
)
def test_what_is_just_within_the_limits_is_accepted(changes: dict[str, Any]) -> None:
    assert accept(sign(claims(**changes), header=HEADER)).issuer == ISSUER


@pytest.mark.parametrize(
    ("token", "reason"),
    [
        (None, "logout_token: missing"),
        ("", "logout_token: missing"),
        ("x" * 70_000, "logout_token: too large"),
        ("a.b", "logout_token: malformed"),
        ("a.b.c.d.e", "logout_token: encrypted"),
        ("a.b.", "signature: missing"),
    ],
)
def test_what_is_no_token_is_refused_under_its_own_name(token: object, reason: str) -> None:
    assert refuse(token) == reason


@pytest.mark.parametrize("alg", ["none", "HS256", "RS512"])
def test_an_algorithm_that_is_not_configured_is_refused(alg: str) -> None:
    assert refuse(sign(claims(), header={**HEADER, "alg": alg})) == "alg: not allowed"


def test_a_key_that_is_not_at_hand_may_be_in_a_newer_set() -> None:
    token = sign(claims(), key=KEYS["other_rsa"], header=HEADER)

    with pytest.raises(UnknownKey):
        accept(token)


def test_the_name_of_the_key_counts_unless_that_is_off() -> None:
    token = sign(claims(), header={**HEADER, "kid": "unknown"})

    assert refuse(token) == "kid: unknown"
    assert accept(token, match_kid=False).jti == "j-1"


def test_an_id_token_is_no_logout_token() -> None:
    assert refuse(sign(tokens.claims(at=NOW, nonce="n", sid="s-1"))) == "events: missing"


@pytest.mark.parametrize(
    ("typ", "reason"), [("logout+jwt", "typ: not an ID token"), ("JWT", "events: not an ID token")]
)
def test_a_logout_token_is_no_id_token(typ: str, reason: str) -> None:
    token = sign(claims(nonce="n"), header={"typ": typ})

    with pytest.raises(ClaimError) as caught:
        id_token.verify(
            token,
            KeySet.from_jwks(jwks(KEYS["rsa"])),
            algorithms=["RS256"],
            issuer=ISSUER,
            audiences=[CLIENT_ID],
            now=NOW,
        )

    assert str(caught.value) == reason


@pytest.mark.parametrize("events", [None, [], {}, {"another": {}}])
def test_other_events_are_none_of_an_id_tokens_business(events: object) -> None:
    token = sign(tokens.claims(at=NOW, events=events))

    assert id_token.verify(
        token,
        KeySet.from_jwks(jwks(KEYS["rsa"])),
        algorithms=["RS256"],
        issuer=ISSUER,
        audiences=[CLIENT_ID],
        now=NOW,
    )


def test_the_name_of_a_token_is_not_shown_in_a_traceback() -> None:
    assert "j-1" not in repr(accept(sign(claims(), header=HEADER)))
