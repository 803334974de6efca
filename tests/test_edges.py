"""What happens exactly at a limit, and exactly what is said: the statements that mutation testing found missing."""

from __future__ import annotations

import base64
import dataclasses
import hashlib
import json
import logging
from collections.abc import Callable, Iterator, Mapping
from itertools import count
from typing import Any
from urllib.parse import quote

import pytest
from asgiref.sync import async_to_sync
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ed25519, rsa, x25519
from django.contrib.auth.models import AnonymousUser, User
from django.contrib.sessions.backends.db import SessionStore
from django.contrib.sessions.backends.signed_cookies import SessionStore as CookieStore
from django.core import signing
from django.core.exceptions import ImproperlyConfigured
from django.dispatch import Signal
from django.http import HttpRequest, HttpResponse
from django.test import RequestFactory
from django.test.signals import template_rendered
from django.urls import ResolverMatch
from django.utils.functional import SimpleLazyObject

from stepup import Requirement, challenge, clock, conf, gate, kept, session, signals
from stepup.assurance import (
    MAX_MAX_AGE,
    MAX_VALUE_LENGTH,
    MAX_VALUES,
    SATISFIED,
    Decision,
    Evidence,
    Unmet,
    evaluate,
    is_link,
)
from stepup.dialects import MULTI_FACTOR
from stepup.exceptions import ClaimError, ProviderError
from stepup.gate import Aged, StepUpRequired
from stepup.id_token import (
    MAX_DEPTH,
    MAX_KEYS,
    MAX_TOKEN_LENGTH,
    MAX_TRIES,
    Key,
    KeySet,
    UnknownKey,
    parse_json,
    signing_key,
    verify,
    verify_userinfo,
)
from stepup.session import Pending
from stepup.views import AuthenticationRequestView
from tests import tokens
from tests.tokens import ABSENT, CLIENT_ID, CLIENT_SECRET, ISSUER, KEYS, SUBJECT, b64, half_hash, jwks, sign
from tests.visitor import query

NOW = 1_700_000_000

# Requirements and evidence


@pytest.mark.parametrize(
    ("fields", "complaint"),
    [
        ({"amr": "mfa"}, "amr: must be a list of strings"),
        ({"acr": {"urn:a"}}, "acr: must be a list of strings"),
        ({"acr_values": None}, "acr_values: must be a list of strings"),
        ({"amr": [""]}, "amr: must be a string, and not empty"),
        ({"acr": [1]}, "acr: must be a string, and not empty"),
        ({"acr_values": ["a", None]}, "acr_values: must be a string, and not empty"),
        ({"acr_values": ["a b"]}, "acr_values: 'a b' contains white space"),
        ({"claims": ["acrs"]}, "claims: must be a dictionary"),
        ({"claims": {"": ["c1"]}}, "claims: must be a string, and not empty"),
        ({"claims": {"acrs": "c1"}}, "claims['acrs']: must be a list of strings"),
        ({"claims": {"acrs": [5]}}, "claims['acrs']: must be a string, and not empty"),
        (
            {"claims": {"acrs": []}},
            "claims: each needs a value, and amr, acr and auth_time have fields of their own",
        ),
        (
            {"claims": {"amr": ["mfa"]}},
            "claims: each needs a value, and amr, acr and auth_time have fields of their own",
        ),
        (
            {"claims": {"acr": ["a"]}},
            "claims: each needs a value, and amr, acr and auth_time have fields of their own",
        ),
        (
            {"claims": {"auth_time": ["1"]}},
            "claims: each needs a value, and amr, acr and auth_time have fields of their own",
        ),
        ({"params": [("a", "b")]}, "params: must be a dictionary"),
        ({"params": {"a": 1}}, "params: must be a string, and not empty"),
        ({"params": {1: "a"}}, "params: must be a string, and not empty"),
        ({"params": {"state": "a", "nonce": "b"}}, "params: nonce, state cannot be set here"),
        ({"max_age": -1}, "max_age: must be a whole number of seconds from 0 to 1000000000"),
        ({"max_age": 10**9 + 1}, "max_age: must be a whole number of seconds from 0 to 1000000000"),
        ({"max_age": 1.0}, "max_age: must be a whole number of seconds from 0 to 1000000000"),
        ({"max_age": True}, "max_age: must be a whole number of seconds from 0 to 1000000000"),
        ({"amr": ["mfa"], "essential": 1}, "essential: must be True or False"),
        ({"amr": ["mfa"], "prompt": ""}, "prompt: must be a string, and not empty"),
        ({"amr": ["mfa"], "name": None}, "name: must be a string"),
        *(
            (fields, "submit_max_age: must be a whole number of seconds from max_age to 1000000000")
            for fields in (
                {"max_age": 5, "submit_max_age": 4},
                {"max_age": 5, "submit_max_age": 6.0},
                {"max_age": 5, "submit_max_age": 10**9 + 1},
                {"max_age": 0, "submit_max_age": True},
                {"amr": ["mfa"], "submit_max_age": 4},
            )
        ),
        *(
            ({"amr": ["mfa"], "step_up_url": page}, "step_up_url: must be a URL name, or a path of this site")
            for page in ("a/b", "//a.example/", "https://a.example/", "a b", " ", "a\x00", "/a\x00", None, 5)
        ),
        (
            {"amr": ["mfa"], "documentation_url": "a"},
            "documentation_url: must be an http or https URL, or a path of this site",
        ),
        ({"amr": ["mfa"], "enrol_url": None}, "enrol_url: must be an http or https URL, or a path of this site"),
        ({"amr": ["mfa"], "unenrolled": "enrol"}, "unenrolled: must be 'deny', or 'enrol' beside an enrol_url"),
        (
            {"amr": ["mfa"], "unenrolled": "x", "enrol_url": "/a"},
            "unenrolled: must be 'deny', or 'enrol' beside an enrol_url",
        ),
        ({"also": {"max_age": 5}}, "also: must be a list of requirements"),
        ({"also": [5]}, "also: must be a dictionary"),
        ({"also": [{"max_age": 5, "name": 5}]}, "name: must be a string"),
        ({}, "demands no proof: set amr, acr, claims or max_age"),
    ],
)
def test_what_is_wrong_with_a_requirement_is_said(fields: dict[str, Any], complaint: str) -> None:
    with pytest.raises(ValueError) as caught:  # noqa: PT011 - compared to the letter below
        Requirement(**fields)
    assert str(caught.value) == complaint


@pytest.mark.parametrize("max_age", [0, MAX_MAX_AGE])
def test_the_least_and_the_greatest_max_age_are_allowed(max_age: int) -> None:
    assert Requirement(max_age=max_age).max_age == max_age


def test_another_age_is_that_of_all_parts() -> None:
    mfa, fresh = Requirement(name="mfa", amr=("mfa",)), Requirement(name="fresh", max_age=5, submit_max_age=6)
    assert fresh.aged(60, None) == Requirement(max_age=60)
    both = Requirement.all_of(mfa, fresh).aged(60, 90)
    assert [(part.name, part.max_age, part.submit_max_age) for part in both.parts] == [
        ("mfa", 60, 90),
        ("fresh", 60, 90),
    ]
    assert both.max_age is None, "it demands nothing itself"
    own = Requirement(acr=("a",), also=(mfa,)).aged(60, 90)
    assert [(part.wanted[0][0], part.max_age, part.submit_max_age) for part in own.parts] == [
        ("acr", 60, 90),
        ("amr", 60, 90),
    ]


@pytest.mark.parametrize("url", ["https://help.example/X?Y=Z", "/X", "http://XX.example"])
def test_an_address_with_capital_letters_may_be_linked_to(url: str) -> None:
    assert is_link(url)


@pytest.mark.parametrize("submit_max_age", [300, 301, MAX_MAX_AGE])
def test_what_is_sent_may_be_proved_as_long_ago_as_the_page_or_longer(submit_max_age: int) -> None:
    assert Requirement(max_age=300, submit_max_age=submit_max_age).for_submission() == Requirement(
        max_age=submit_max_age
    )


@pytest.mark.parametrize("page", ["second-factor", "two_factor:login", "/", "/second-factor/?a=b"])
def test_a_page_of_the_sites_own_is_named_or_a_path(page: str) -> None:
    assert Requirement(amr=("otp",), step_up_url=page).step_up_url == page


def test_of_several_requirements_as_plain_values_each_has_its_name() -> None:
    both = Requirement(
        name="both",
        acr=("a",),
        also=[Requirement(name="one", amr=("mfa",)), {"max_age": 5, "name": "two"}, {"max_age": 6}],  # type: ignore[arg-type]
    )
    assert both.to_mapping() == {
        "acr": ["a"],
        "also": [{"amr": ["mfa"], "name": "one"}, {"max_age": 5, "name": "two"}, {"max_age": 6, "name": ""}],
    }
    assert [part.name for part in both.parts] == ["both", "one", "two", ""]
    assert Requirement.all_of(*both.also).name == "one & two"


def test_all_of_one_is_that_one_and_of_two_names_for_the_same_each_counts() -> None:
    one, two = Requirement(name="one", amr=("mfa",)), Requirement(name="two", amr=("mfa",))
    assert Requirement.all_of(one) is one
    assert Requirement.all_of(one, one) is one
    assert [part.name for part in Requirement.all_of(one, two, one).parts] == ["one", "two"]


def test_a_requirement_of_several_that_is_wide_enough_already_is_required_as_it_is() -> None:
    both = Requirement(max_age=300, also=(Requirement(amr=("mfa",), max_age=200),))
    assert both.within(200) is both
    assert both.for_submission() is both
    half = both.within(250)
    assert [part.max_age for part in half.parts] == [300, 250]
    apart = Requirement(max_age=5, submit_max_age=6, also=(Requirement(amr=("mfa",), max_age=7, submit_max_age=8),))
    assert [(part.max_age, part.submit_max_age) for part in apart.within(9).parts] == [(9, 9), (9, 9)]
    assert [(part.max_age, part.submit_max_age) for part in apart.for_submission().parts] == [(6, None), (8, None)]
    timeless = Requirement(acr=("a",), also=(Requirement(max_age=5, submit_max_age=9),))
    assert [part.max_age for part in timeless.within(7).parts] == [None, 7]
    assert [part.max_age for part in timeless.for_submission().parts] == [None, 9]


def test_what_is_no_mapping_or_has_unknown_keys_is_no_requirement() -> None:
    for raw, complaint in [
        ([], "requirement: must be a dictionary"),
        ({"maxage": 1, 5: 6}, "unknown key 5, 'maxage'"),
        ({"name": "x"}, "unknown key 'name'"),
    ]:
        with pytest.raises(ValueError) as caught:  # noqa: PT011 - compared to the letter below
            Requirement.from_mapping(raw)  # type: ignore[arg-type] # which is the point
        assert str(caught.value) == complaint


def test_a_requirement_read_from_a_mapping_has_no_name_unless_it_is_given_one() -> None:
    assert Requirement.from_mapping({"max_age": 0}).name == ""
    assert Requirement.from_mapping({"max_age": 0}, name="sudo").name == "sudo"


def test_the_name_of_a_requirement_is_none_of_what_is_required() -> None:
    assert Requirement(name="a", max_age=0).to_mapping() == {"max_age": 0}


@pytest.mark.parametrize(("seconds", "max_age"), [(299.5, 300), (300, 300), (300.1, 301), (301, 301)])
def test_proof_may_be_as_old_as_is_asked_for_but_never_younger_than_required(seconds: float, max_age: int) -> None:
    assert Requirement(max_age=300).within(seconds).max_age == max_age


def test_what_is_fresh_enough_already_is_required_as_it_is() -> None:
    requirement = Requirement(max_age=300)
    assert requirement.within(300) is requirement


def test_evidence_about_two_subjects_is_not_added_up() -> None:
    with pytest.raises(ValueError, match=r"^evidence about one subject cannot be added to evidence about another$"):
        Evidence(issuer="i", subject="a").add(Evidence(issuer="i", subject="b"))


@pytest.mark.parametrize("count", [MAX_VALUES, MAX_VALUES + 1])
def test_a_claim_with_too_many_values_proves_nothing(count: int) -> None:
    values = [f"v{number}" for number in range(count)]
    proofs = Evidence.from_claims({"iss": "i", "sub": "s", "amr": values}).proofs
    assert proofs == ({"amr": dict.fromkeys(values)} if count == MAX_VALUES else {})


@pytest.mark.parametrize("length", [MAX_VALUE_LENGTH, MAX_VALUE_LENGTH + 1])
def test_a_value_that_is_too_long_proves_nothing(length: int) -> None:
    proofs = Evidence.from_claims({"iss": "i", "sub": "s", "acr": "x" * length}).proofs
    assert proofs == ({"acr": {"x" * length: None}} if length == MAX_VALUE_LENGTH else {})


def test_evidence_keeps_the_newest_values_and_no_more_than_a_claim_may_have() -> None:
    old = Evidence(issuer="i", subject="s", proofs={"amr": {f"v{number}": 1 for number in range(MAX_VALUES)}})
    both = old.add(Evidence(issuer="i", subject="s", proofs={"amr": {"v0": 2, "new": 2}}))
    assert list(both.proofs["amr"]) == [f"v{number}" for number in range(2, MAX_VALUES)] + ["v0", "new"]
    assert both.proofs["amr"]["v0"] == 2


@pytest.mark.parametrize(
    ("auth_time", "reason"),
    [(NOW - 330, ""), (NOW - 331, "stale"), (NOW + 30, ""), (NOW + 31, "future"), (None, "time_unknown")],
)
def test_a_proof_counts_to_the_last_second(auth_time: float | None, reason: str) -> None:
    requirement = Requirement(amr=("mfa",), max_age=300)
    evidence = Evidence(issuer="i", subject="s", proofs={"amr": {"mfa": auth_time}})
    decision = evaluate(evidence, requirement, now=NOW, leeway=30)
    is_proved = Decision(expires=(auth_time or 0) + 300)
    assert decision == (Decision((Unmet("amr", reason, ("mfa",)),)) if reason else is_proved)


def test_what_was_recorded_at_a_time_that_nobody_says_is_as_old_as_that_where_no_age_is_required() -> None:
    requirement = Requirement(amr=("mfa",))
    for age, leeway, reason in [
        (100, 0, ""),
        (101, 0, "stale"),
        (130, 30, ""),
        (131, 30, "stale"),
        (-31, 30, "future"),
    ]:
        evidence = Evidence(
            issuer="i", subject="s", proofs={"amr": {"mfa": None}}, recorded={"amr": {"mfa": NOW - age}}
        )
        decision = evaluate(evidence, requirement, now=NOW, leeway=leeway, limit=100)
        is_proved = Decision(expires=NOW - age + 100)
        assert decision == (Decision((Unmet("amr", reason, ("mfa",)),)) if reason else is_proved)
        assert evaluate(evidence, requirement, now=NOW, leeway=leeway) is SATISFIED
        asked = dataclasses.replace(requirement, max_age=1000)
        unknown = Decision((Unmet("amr", "time_unknown", ("mfa",)),))
        assert evaluate(evidence, asked, now=NOW, leeway=leeway, limit=100) == unknown
        assert evaluate(evidence, asked, now=NOW, leeway=leeway) == unknown


def test_what_was_neither_proved_nor_recorded_at_a_known_time_is_too_old_for_any_limit() -> None:
    evidence = Evidence(issuer="i", subject="s", proofs={"amr": {"mfa": None}})
    decision = evaluate(evidence, Requirement(amr=("mfa",)), now=NOW, limit=10**9)
    assert decision.unmet == (Unmet("amr", "time_unknown", ("mfa",)),)


def test_no_evidence_is_older_than_the_limit_whatever_is_required() -> None:
    evidence = Evidence(issuer="i", subject="s", auth_time=NOW - 50, proofs={"amr": {"mfa": NOW - 90}})
    for max_age, limit, expires in [
        (None, 90, NOW),
        (None, 89, None),
        (90, 1000, NOW),
        (1000, 95, NOW + 5),
        (1000, 89, None),
    ]:
        decision = evaluate(evidence, Requirement(amr=("mfa",), max_age=max_age), now=NOW, limit=limit)
        assert (decision.satisfied, decision.expires) == (expires is not None, expires)
    several = Requirement(max_age=60, also=(Requirement(amr=("mfa",), max_age=95), Requirement(amr=("mfa",))))
    assert evaluate(evidence, several, now=NOW).expires == NOW + 5
    assert evaluate(evidence, Requirement(amr=("mfa",), also=(several,)), now=NOW).expires == NOW + 5


def test_the_youngest_of_the_values_that_would_do_says_until_when() -> None:
    for times in ({"a": NOW - 9, "b": NOW - 5}, {"b": NOW - 5, "a": NOW - 9}, {"a": None, "b": NOW - 5}):
        evidence = Evidence(issuer="i", subject="s", proofs={"acr": times})
        for either in (("a", "b"), ("b", "a")):
            assert evaluate(evidence, Requirement(acr=either, max_age=10), now=NOW) == Decision(expires=NOW + 5)


def test_it_is_taken_down_when_something_came_of_which_nobody_says_when_it_was_proved() -> None:
    said = {"iss": "i", "sub": "s", "amr": ["mfa"], "acrs": "c"}
    untimed = Evidence.from_claims(said, proof_claims=["acrs"], now=NOW)
    assert untimed.recorded == {"amr": {"mfa": NOW}, "acrs": {"c": NOW}}
    assert untimed.proofs == {"amr": {"mfa": None}, "acrs": {"c": None}}
    assert Evidence.from_claims(said, proof_claims=["acrs"]).recorded == {}
    timed = Evidence.from_claims({**said, "auth_time": 5}, now=NOW)
    assert (timed.recorded, timed.proofs) == ({}, {"amr": {"mfa": 5}})


@pytest.mark.parametrize(("renewal", "at"), [(False, 20), (True, 10)])
def test_a_renewal_makes_nothing_younger_of_which_nobody_says_the_time(renewal: bool, at: int) -> None:
    def came(now: int, *methods: str, **more: Any) -> Evidence:
        return Evidence.from_claims({"iss": "i", "sub": "s", "amr": [*methods], **more}, now=now)

    both = came(10, "mfa", "pwd").add(came(20, "mfa", "hwk"), renewal=renewal)
    assert both.recorded == {"amr": {"mfa": at, "hwk": 20, "pwd": 10}}
    assert both.proofs == {"amr": {"mfa": None, "pwd": None, "hwk": None}}
    assert came(10, "mfa").add(came(20, "mfa")).recorded == {"amr": {"mfa": 20}}, "which not every new token is"
    late = came(20, "mfa").add(came(10, "mfa"), renewal=renewal)
    assert late.recorded == {"amr": {"mfa": 20}}
    timed = came(10, "mfa").add(came(20, "mfa", auth_time=15), renewal=renewal)
    assert (timed.recorded, timed.proofs) == ({}, {"amr": {"mfa": 15}})
    assert came(20, "mfa", auth_time=15).add(came(30, "mfa"), renewal=renewal) == came(20, "mfa", auth_time=15)


def test_without_leeway_none_is_given() -> None:
    evidence = Evidence(issuer="i", subject="s", auth_time=NOW - 1)
    assert not evaluate(evidence, Requirement(max_age=0), now=NOW)
    assert evaluate(evidence, Requirement(max_age=1), now=NOW) == Decision(expires=NOW)


@pytest.mark.parametrize(
    ("proofs", "reason"),
    [
        ({}, "missing"),
        ({"a": NOW + 9}, "future"),
        ({"a": NOW + 9, "b": None}, "time_unknown"),
        ({"a": None, "b": 1}, "stale"),
        ({"a": 1, "b": None}, "stale"),
        ({"a": 1, "b": NOW + 9}, "stale"),
    ],
)
def test_of_several_values_the_nearest_to_proof_says_what_is_lacking(
    proofs: dict[str, float | None], reason: str
) -> None:
    evidence = Evidence(issuer="i", subject="s", proofs={"acr": proofs})
    decision = evaluate(evidence, Requirement(acr=("a", "b"), max_age=5), now=NOW)
    assert decision.unmet == (Unmet("acr", reason, ("a", "b")),)


def test_where_freshness_alone_is_asked_for_no_value_is_expected() -> None:
    assert evaluate(None, Requirement(max_age=5), now=NOW).unmet == (Unmet("auth_time", "missing"),)


# Keys and ID tokens

RS256 = {"algorithms": ["RS256"], "issuer": ISSUER, "audiences": [CLIENT_ID], "now": NOW}


def claims(**changes: Any) -> dict[str, Any]:
    return tokens.claims(at=NOW, **changes)


def read(token: object, keys: KeySet | None = None, **changes: Any) -> dict[str, Any]:
    expected: dict[str, Any] = {**RS256, **changes}
    return verify(token, KeySet.from_jwks(jwks(KEYS["rsa"])) if keys is None else keys, **expected)


def refusal(call: Callable[[], object]) -> tuple[type[ClaimError], str, str]:
    with pytest.raises(ClaimError) as caught:
        call()
    return type(caught.value), caught.value.claim, caught.value.reason


@pytest.mark.parametrize(
    ("name", "algorithm"),
    [
        ("rsa", "RS256"),
        ("p256", "ES256"),
        ("p384", "ES384"),
        ("p521", "ES512"),
        ("ed25519", "EdDSA"),
        ("ed448", "EdDSA"),
    ],
)
def test_a_private_key_signs_with_the_algorithm_of_its_kind(name: str, algorithm: str) -> None:
    key, chosen = signing_key(KEYS[name].private_pem)
    assert chosen == algorithm
    assert tokens.SigningKey("", key).jwk(kid="") == KEYS[name].jwk(kid="")


FOR_EXCHANGE = x25519.X25519PrivateKey.generate().private_bytes(
    serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
)
LOCKED = ed25519.Ed25519PrivateKey.generate().private_bytes(
    serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.BestAvailableEncryption(b"password")
)


@pytest.mark.parametrize(
    "pem", [KEYS["rsa_1024"].private_pem, KEYS["secp256k1"].private_pem, FOR_EXCHANGE.decode()], ids=count()
)
def test_a_private_key_that_may_not_sign_is_refused(pem: str) -> None:
    with pytest.raises(ValueError, match=r"^not a key that may sign$"):
        signing_key(pem)


@pytest.mark.parametrize("pem", ["", "x", KEYS["rsa"].pem.decode(), LOCKED.decode()], ids=count())
def test_what_is_no_private_key_that_can_be_read_is_refused(pem: str) -> None:
    with pytest.raises((ValueError, TypeError)):
        signing_key(pem)


def of_no_known_curve(pem: bytes) -> bytes:
    """The same key on a curve that nobody has heard of."""
    der = serialization.load_pem_private_key(pem, None) if b"PRIVATE" in pem else None
    kind = "PRIVATE" if der else "PUBLIC"
    raw = base64.b64decode(b"".join(pem.splitlines()[1:-1]))
    changed = raw.replace(bytes.fromhex("06052b81040022"), bytes.fromhex("06052b8104007f"))
    assert changed != raw
    return (
        f"-----BEGIN {kind} KEY-----\n".encode() + base64.b64encode(changed) + f"\n-----END {kind} KEY-----\n".encode()
    )


def test_a_key_of_a_curve_that_nobody_knows_is_refused_and_the_reason_said() -> None:
    for unreadable in (
        lambda: signing_key(of_no_known_curve(KEYS["p384"].private_pem.encode()).decode()),
        lambda: KeySet.from_pem(of_no_known_curve(KEYS["p384"].pem)),
    ):
        with pytest.raises(ValueError, match=r"[Cc]urve"):
            unreadable()


@pytest.mark.parametrize("size", [2047, 2048])
def test_an_rsa_key_has_2048_bits_at_the_least(size: int) -> None:
    private = rsa.generate_private_key(public_exponent=65537, key_size=size)
    keys = KeySet.from_jwks(jwks(tokens.SigningKey("k", private))).keys
    assert len(keys) == (size >= 2048)


def test_what_the_keys_of_each_kind_verify() -> None:
    kinds = {
        "rsa": {"RS256", "RS384", "RS512", "PS256", "PS384", "PS512"},
        "p256": {"ES256"},
        "p384": {"ES384"},
        "p521": {"ES512"},
        "ed25519": {"EdDSA", "Ed25519"},
        "ed448": {"EdDSA", "Ed448"},
    }
    for name, algorithms in kinds.items():
        (key,) = KeySet.from_pem(KEYS[name].pem).keys
        assert key.algorithms == algorithms
        (key,) = KeySet.from_jwks(jwks(KEYS[name])).keys
        assert key == Key(key.material, frozenset(algorithms), KEYS[name].kid)


@pytest.mark.parametrize(
    ("length", "algorithms"),
    [
        (31, set()),
        (32, {"HS256"}),
        (47, {"HS256"}),
        (48, {"HS256", "HS384"}),
        (63, {"HS256", "HS384"}),
        (64, {"HS256", "HS384", "HS512"}),
    ],
)
def test_a_client_secret_verifies_with_hashes_no_longer_than_it_is(length: int, algorithms: set[str]) -> None:
    (key,) = KeySet.from_secret("x" * length).keys
    assert key == Key(b"x" * length, frozenset(algorithms))


def test_no_more_than_so_many_keys_of_a_jwks_are_kept() -> None:
    useless = {"kty": "oct"}
    assert KeySet.from_jwks({"keys": [useless] * (MAX_KEYS - 1) + [KEYS["rsa"].jwk()]}).keys
    assert not KeySet.from_jwks({"keys": [useless] * MAX_KEYS + [KEYS["rsa"].jwk()]}).keys


def test_no_more_than_so_many_keys_are_tried() -> None:
    other, right = KEYS["other_rsa"].jwk(kid=ABSENT), KEYS["rsa"].jwk(kid=ABSENT)
    token = sign(claims())
    assert read(token, KeySet.from_jwks({"keys": [other] * (MAX_TRIES - 1) + [right]})) == claims()
    assert refusal(lambda: read(token, KeySet.from_jwks({"keys": [other] * MAX_TRIES + [right]}))) == (
        UnknownKey,
        "kid",
        "unknown",
    )


@pytest.mark.parametrize("jwks_document", [None, [], {}, {"keys": None}, {"keys": {}}])
def test_what_is_no_jwks_document_is_said_to_be_none(jwks_document: object) -> None:
    with pytest.raises(ValueError, match=r"^not a JWKS document$"):
        KeySet.from_jwks(jwks_document)


def test_what_is_neither_pem_nor_jwk_is_said_to_be_neither() -> None:
    with pytest.raises(TypeError, match=r"^neither PEM nor JWK$"):
        KeySet.from_setting(5)
    with pytest.raises(ValueError, match=r"^not a key that may verify ID tokens$"):
        KeySet.from_pem(KEYS["rsa_1024"].pem)


@pytest.mark.parametrize(("excess", "reason"), [(0, "malformed"), (1, "too large")])
def test_an_id_token_has_a_greatest_length(excess: int, reason: str) -> None:
    assert refusal(lambda: read("x" * (MAX_TOKEN_LENGTH + excess))) == (ClaimError, "id_token", reason)


def with_depth(depth: int, leaf: str = "") -> bytes:
    """JSON that is nested so deeply, and has one more bracket than that."""
    return ("[" * (depth - 1) + "[" + leaf + "]" + "]" * (depth - 2) + ", []]").encode()


def test_claims_are_nested_no_deeper_than_so_much() -> None:
    assert parse_json(with_depth(MAX_DEPTH))
    assert parse_json(b"[" * MAX_DEPTH + b"1" + b"]" * MAX_DEPTH)
    for data in (with_depth(MAX_DEPTH + 1), b"[" * 200_000):
        with pytest.raises(ValueError, match=r"^nested too deeply$"):
            parse_json(data)


@pytest.mark.parametrize(
    ("data", "complaint"),
    [
        (b"1e999", "a number that is too large"),
        (b"-1e999", "a number that is too large"),
        (b"NaN", "NaN is no JSON"),
        (b"[Infinity]", "Infinity is no JSON"),
        (b'{"a": 1, "a": 1}', "duplicate members"),
        (b'"\\u0000"', "a NUL character"),
    ],
    ids=count(),
)
def test_what_is_wrong_with_a_json_text_is_said(data: bytes, complaint: str) -> None:
    with pytest.raises(ValueError) as caught:  # noqa: PT011 - compared to the letter below
        parse_json(data)
    assert str(caught.value) == complaint


def test_a_half_hash_and_an_access_token_are_compared_where_there_are_both() -> None:
    assert read(sign(claims()), access_token="at") == claims()
    assert read(sign(claims(at_hash="x"))) == claims(at_hash="x")


@pytest.mark.parametrize(("alg", "is_kept"), [("RS512", True), ("ES256", False), ("HS256", False), ("x", False)])
def test_the_algorithm_that_a_jwk_names_is_one_that_its_key_can_verify(alg: str, is_kept: bool) -> None:
    keys = KeySet.from_jwks(jwks(KEYS["rsa"].jwk(alg=alg))).keys
    assert [key.algorithms for key in keys] == ([{alg}] if is_kept else [])


def test_a_pair_of_surrogates_is_a_character_and_half_of_one_is_none() -> None:
    assert parse_json(b'"\\ud83d\\ude00"') == "\U0001f600"
    for data in (b'"\\ud83d"', b'"\\uDE00"', b'{"\\ude00\\ud83d": 1}'):
        with pytest.raises(ValueError, match="surrogates"):
            parse_json(data)


@pytest.mark.parametrize("alg", ["RS256", "RS384", "RS512", "PS384", "ES384", "ES512", "EdDSA", "Ed448"])
def test_the_half_hash_is_compared_to_the_last_character(alg: str) -> None:
    names = {"EdDSA": "sha512", "Ed448": "shake_256"}
    name = names.get(alg, f"sha{alg[2:]}")
    # Whatever the hash ends in: padding is all that is taken off. Some of the lengths leave no X at the end.
    for access_token in map(str, range(200)):
        if half_hash(access_token, name).endswith("X"):
            break
    keys = KeySet.from_jwks(jwks(*(KEYS[kind] for kind in ("rsa", "p384", "p521", "ed25519", "ed448"))))
    given: dict[str, Any] = {"keys": keys, "algorithms": [alg], "access_token": access_token}

    right = half_hash(access_token, name)
    good = claims(at_hash=right)
    assert read(sign(good, alg), **given) == good
    for wrong in (right[:-1], right + "=", right[:-1] + ("B" if right[-1] == "A" else "A"), 5, None):
        assert refusal(lambda wrong=wrong: read(sign(claims(at_hash=wrong), alg), **given)) == (  # type: ignore[misc]
            ClaimError,
            "at_hash",
            "mismatch",
        )


def test_a_segment_may_end_in_any_character() -> None:
    # The signature of HS384 needs no padding, so that its last character may be any of the 64.
    keys, ends = KeySet.from_secret(CLIENT_SECRET), set()
    for number in range(500):
        token = sign(claims(number=number), "HS384")
        assert read(token, keys, algorithms=["HS384"])["number"] == number
        ends.add(token[-1])
    assert {"X", "A", "_", "-"} <= ends


@pytest.mark.parametrize(
    ("changes", "claim", "reason"),
    [
        ({"iss": ABSENT}, "iss", "missing"),
        ({"iss": None}, "iss", "mismatch"),
        ({"aud": ABSENT}, "aud", "missing"),
        ({"aud": None}, "aud", "malformed"),
        ({"aud": []}, "aud", "malformed"),
        ({"aud": [5]}, "aud", "malformed"),
        ({"aud": [CLIENT_ID, "x"]}, "aud", "mismatch"),
        ({"azp": "x"}, "azp", "mismatch"),
        ({"azp": None}, "azp", "mismatch"),
        ({"sub": ABSENT}, "sub", "missing"),
        ({"sub": None}, "sub", "malformed"),
        ({"sub": ""}, "sub", "malformed"),
        ({"sub": "x" * 256}, "sub", "malformed"),
        ({"sub": "é"}, "sub", "malformed"),
        ({"sub": "\x7f"}, "sub", "malformed"),
        ({"exp": ABSENT}, "exp", "missing"),
        ({"exp": None}, "exp", "missing"),
        ({"exp": True}, "exp", "malformed"),
        ({"exp": -1}, "exp", "malformed"),
        ({"exp": "x"}, "exp", "malformed"),
        ({"exp": NOW}, "exp", "expired"),
        ({"iat": ABSENT}, "iat", "missing"),
        ({"iat": NOW + 1}, "iat", "in the future"),
        ({"nbf": NOW + 1}, "nbf", "in the future"),
        ({"nbf": None}, "nbf", "missing"),
        ({"auth_time": NOW + 1}, "auth_time", "in the future"),
        ({"auth_time": "x"}, "auth_time", "malformed"),
        ({"nonce": ABSENT}, "nonce", "missing"),
        ({"nonce": 5}, "nonce", "malformed"),
        ({"nonce": "N"}, "nonce", "mismatch"),
    ],
)
def test_a_refusal_names_the_claim_and_what_is_wrong_with_it(changes: dict[str, Any], claim: str, reason: str) -> None:
    token = sign(claims(**{"nonce": "n", **changes}))
    assert refusal(lambda: read(token, nonce="n")) == (ClaimError, claim, reason)


@pytest.mark.parametrize(
    "changes",
    [{"sub": "x"}, {"sub": "x" * 255}, {"exp": NOW + 0.5}, {"iat": NOW}, {"iat": 0}, {"nbf": NOW}, {"auth_time": 0}],
)
def test_what_is_just_within_the_limits_is_accepted(changes: dict[str, Any]) -> None:
    assert read(sign(claims(**changes))) == claims(**changes)


def test_where_two_clients_are_named_the_authorized_party_has_to_be() -> None:
    both = [CLIENT_ID, "sister"]
    given: dict[str, Any] = {"audiences": both}
    assert refusal(lambda: read(sign(claims(aud=both)), **given)) == (ClaimError, "azp", "missing")
    assert read(sign(claims(aud=both, azp="sister")), **given)
    assert read(sign(claims(aud=[CLIENT_ID, CLIENT_ID])), **given)


@pytest.mark.parametrize(
    ("token", "claim", "reason"),
    [
        (None, "id_token", "missing"),
        ("", "id_token", "missing"),
        (b"a.b.c", "id_token", "missing"),
        (sign(claims(), header={"kid": 5}), "kid", "malformed"),
        (sign(claims(), header={"crit": []}), "crit", "not supported"),
        (sign(claims(), header={"b64": True}), "crit", "not supported"),
        (sign(claims(), header={"typ": "AT+JWT"}), "typ", "not an ID token"),
        (sign(claims(), header={"typ": None}), "typ", "not an ID token"),
        (sign(claims(), header={"alg": ABSENT}), "alg", "missing"),
        (sign(claims(), header={"alg": "RS512"}), "alg", "not allowed"),
        (sign("[]"), "payload", "malformed"),
        (sign("x"), "payload", "malformed"),
        (sign(claims(), header="[]"), "header", "malformed"),
        (sign(claims(), header="x"), "header", "malformed"),
        (sign(claims()) + "=", "signature", "malformed"),
        ("é" + sign(claims()), "header", "malformed"),
        ("a.b", "id_token", "malformed"),
        ("a.b.c.d", "id_token", "malformed"),
        ("a.b.c.d.e", "id_token", "encrypted"),
        ("a.b.", "signature", "missing"),
        (sign(claims(), key=KEYS["other_rsa"], header={"kid": KEYS["rsa"].kid}), "signature", "mismatch"),
    ],
    ids=count(),
)
def test_a_refusal_says_what_is_wrong_with_the_token_itself(token: object, claim: str, reason: str) -> None:
    assert refusal(lambda: read(token)) == (ClaimError, claim, reason)


def test_a_key_that_is_not_at_hand_may_be_in_a_newer_set() -> None:
    token = sign(claims(), key=KEYS["other_rsa"])
    assert refusal(lambda: read(token)) == (UnknownKey, "kid", "unknown")
    assert refusal(lambda: read(token, match_kid=False)) == (UnknownKey, "kid", "unknown")
    assert read(sign(claims(), header={"kid": "renamed"}), match_kid=False) == claims()


def test_a_client_secret_is_the_only_key_that_there_is() -> None:
    keys, given = KeySet.from_secret(CLIENT_SECRET), {"algorithms": ["HS256", "HS512"]}
    assert read(sign(claims(), "HS512", header={"kid": "any"}), keys, **given) == claims()
    assert refusal(lambda: read(sign(claims(), "HS256", key="other"), keys, **given)) == (
        ClaimError,
        "signature",
        "mismatch",
    )
    short = KeySet.from_secret("x" * 32)
    assert refusal(lambda: read(sign(claims(), "HS512", key="x" * 32), short, **given)) == (
        ClaimError,
        "alg",
        "client secret too short",
    )


def userinfo(said: Mapping[str, Any], **changes: Any) -> dict[str, Any]:
    given: dict[str, Any] = {**RS256, **changes}
    return verify_userinfo(sign(said), KeySet.from_jwks(jwks(KEYS["rsa"])), **given)


def test_signed_userinfo_is_held_to_what_it_says_to_the_second() -> None:
    assert userinfo({"sub": "s"}) == {"sub": "s"}
    assert userinfo({"exp": NOW + 0.5}) == {"exp": NOW + 0.5}
    assert userinfo({"exp": NOW - 29}, leeway=30) == {"exp": NOW - 29}
    for said, leeway, expected in [
        ({"exp": NOW}, None, ("exp", "expired")),
        ({"exp": NOW - 30}, 30, ("exp", "expired")),
        ({"exp": None}, 30, ("exp", "missing")),
        ({"iss": "x"}, 30, ("iss", "mismatch")),
        ({"aud": "x"}, 30, ("aud", "mismatch")),
    ]:
        given = {} if leeway is None else {"leeway": leeway}
        assert refusal(lambda said=said, given=given: userinfo(said, **given))[1:] == expected  # type: ignore[misc]


def test_the_keys_of_signed_userinfo_are_picked_by_name_unless_that_is_off() -> None:
    keys, token = KeySet.from_jwks(jwks(KEYS["rsa"])), sign({"sub": "s"}, header={"kid": "renamed"})
    given: dict[str, Any] = RS256
    assert refusal(lambda: verify_userinfo(token, keys, **given)) == (UnknownKey, "kid", "unknown")
    assert verify_userinfo(token, keys, match_kid=False, **given) == {"sub": "s"}


# The session


def in_memory(**held: Any) -> SessionStore:
    """A session that needs no database as long as nobody saves it."""
    store = SessionStore()
    # Loaded, and of somebody who has signed in where there is evidence.
    login = {"_auth_user_hash": "abcdefgh"} if "stepup" in held else {}
    store._session_cache = {**login, **held}  # type: ignore[attr-defined]
    return store


ANNA = User(pk=7, username="anna", email="anna@harbour.example")
PROVED = {
    "for": [7, "abcdef"],
    "iss": session._mark(ISSUER),
    "sub": SUBJECT,
    "proofs": {"amr": {"mfa": NOW}},
    "at": NOW,
}


def ask(
    path: str = "/a/?b=c", user: Any = None, method: str = "GET", held: Mapping[str, Any] | None = None, **headers: Any
) -> Any:
    """A request of somebody, or of nobody, with what their session holds."""
    request: Any = RequestFactory().generic(
        method, path, headers={key.replace("_", "-"): headers[key] for key in headers}
    )
    request.user = user if user is not None else AnonymousUser()
    request.session = in_memory(**(held or {}))

    async def auser() -> Any:
        return user if user is not None else AnonymousUser()

    request.auser = auser
    return request


@pytest.fixture(autouse=True)
def it_is_now() -> Iterator[None]:
    """The clock reads `NOW`, and some thousandths of a second."""
    clock.offset = NOW - clock.now()
    yield
    clock.offset = 0.0


def test_a_claim_of_just_so_many_characters_is_kept() -> None:
    request = ask(user=ANNA)
    for length, is_kept in [(998, True), (999, False)]:
        session.record(request, ANNA, {"iss": ISSUER, "sub": SUBJECT, "acr": "x" * length})
        assert ("acr" in session.claims(request)) == is_kept


def test_only_these_claims_are_kept_and_all_of_them() -> None:
    request = ask(user=ANNA, held={"_auth_user_hash": "abcdefgh"})
    kept = {"iss": ISSUER, "sub": SUBJECT, "sid": "s", "auth_time": NOW, "acr": "a", "amr": ["mfa"]}
    session.record(request, ANNA, {**kept, "email": "a@b.example", "nonce": "n"})
    assert session.claims(request) == {name: value for name, value in kept.items() if name != "sid"}
    assert request.session["stepup"] == {
        "for": [7, "abcdef"],
        "iss": session._mark(ISSUER),
        "sub": SUBJECT,
        "sid": session._mark("s"),
        "proofs": {"amr": ["mfa"], "acr": ["a"]},
        "at": NOW,
    }
    assert len(session._mark(ISSUER)) == len(session._mark("s")) == 11


@pytest.mark.parametrize(
    "said",
    [
        {},
        {"auth_time": NOW + 1},
        {"acr": "a"},
        {"acr": ["a", "b"], "amr": ["pwd", "mfa"]},
        {"acr": ["a"]},
        {"amr": "mfa"},
        {"amr": [], "auth_time": None},
    ],
)
def test_the_claims_are_those_of_the_newest_id_token_to_the_letter(said: dict[str, Any]) -> None:
    request, subject = ask(user=ANNA), {"iss": ISSUER, "sub": SUBJECT}
    for first in ({}, {"auth_time": NOW, "acr": "old", "amr": ["old"]}):
        request.session = in_memory()
        session.record(request, ANNA, {**subject, **first})
        session.record(request, ANNA, {**subject, **said})
        assert session.claims(request) == {**subject, **said}


def test_what_is_damaged_of_what_was_said_is_made_up_for_by_the_evidence() -> None:
    proofs = {"amr": {"mfa": NOW}, "acr": {"a": NOW, "b": NOW}}
    held = {"stepup": {**PROVED, "proofs": proofs, "said": "x", "sid": "s"}}
    assert session.claims(ask(user=ANNA, held=held)) == {
        "iss": ISSUER,
        "sub": SUBJECT,
        "acr": ["a", "b"],
        "amr": ["mfa"],
        "auth_time": NOW,
    }


def test_where_one_claim_proves_nothing_the_others_still_do() -> None:
    request = ask(user=ANNA, held={"stepup": {**PROVED, "proofs": {"amr": 5, "acr": {"a": 1}, "acrs": {"c": "x"}}}})
    assert session.evidence(request) == Evidence(
        issuer=ISSUER, subject=SUBJECT, auth_time=NOW, proofs={"acr": {"a": 1}, "acrs": {}}
    )


def test_a_quick_yes_is_for_one_requirement() -> None:
    several = Requirement.all_of(Requirement(amr=("mfa",)), Requirement(amr=("mfa",), max_age=10**6))
    assert evaluate(session.read_evidence(in_memory(stepup=PROVED), ANNA), several, now=NOW)
    assert not session.shows(in_memory(stepup=PROVED), ANNA, several, None, conf.current())


@pytest.mark.parametrize(
    ("requirement", "max_age", "oldest"),
    [
        (Requirement(amr=("mfa",)), None, 43200),
        (Requirement(amr=("mfa",)), 5, 5),
        (Requirement(amr=("mfa",)), 43200, 43200),
        (Requirement(amr=("mfa",)), 43201, 43200),
        (Requirement(max_age=5), 5, 5),
        (Requirement(acr=("b", "a")), None, 43200),
        (Requirement(claims={"acrs": ("c",)}), 7, 7),
    ],
)
@pytest.mark.parametrize("in_short", [True, False])
def test_a_quick_yes_is_as_old_as_the_evidence_may_be_to_the_second(
    requirement: Requirement, max_age: int | None, oldest: int, in_short: bool
) -> None:
    settings = conf.current()
    for time, is_shown in [
        (NOW - oldest - settings.leeway + 1, True),
        (NOW - oldest - settings.leeway - 1, False),
        (NOW + settings.leeway, True),
        (NOW + settings.leeway + 1, False),
    ]:
        values = {"amr": ["mfa"], "acr": ["a"], "acrs": ["c"]}
        proofs = values if in_short else {claim: dict.fromkeys(known, time) for claim, known in values.items()}
        at = time if in_short or requirement.wanted[0][0] == "auth_time" else 1
        store = in_memory(stepup={**PROVED, "proofs": proofs, "at": at})
        assert session.shows(store, ANNA, requirement, max_age, settings) is is_shown
        evidence, required = session.read_evidence(store, ANNA), dataclasses.replace(requirement, max_age=max_age)
        assert settings.judge(evidence, required, now=clock.now()).satisfied is is_shown


@pytest.mark.parametrize("limit", [None, 100])
def test_what_was_recorded_at_a_time_that_nobody_says_has_its_quick_yes_where_no_age_is_required(
    limit: int | None,
) -> None:
    settings = dataclasses.replace(conf.current(), max_evidence_age=limit, leeway=0)
    for recorded, is_shown in [(NOW - 99, True), (NOW - 101, limit is None), (1, limit is None)]:
        for proofs in ({"amr": ["mfa"]}, {"amr": {"mfa": -recorded}}):
            store = in_memory(stepup={**PROVED, "proofs": proofs, "at": -recorded})
            assert session.shows(store, ANNA, Requirement(amr=("mfa",)), None, settings) is is_shown
            assert not session.shows(store, ANNA, Requirement(amr=("mfa",)), 1000, settings)
            assert not session.shows(store, ANNA, Requirement(max_age=1000), 1000, settings)


@pytest.mark.parametrize(
    ("changes", "is_shown"),
    [
        ({}, True),
        ({"proofs": {"amr": {"mfa": NOW - 1}}}, True),
        ({"proofs": {"amr": {"mfa": 1 - NOW}}}, True),
        ({"proofs": {"amr": {"mfa": None}}}, False),
        ({"proofs": {"amr": {"mfa": 0}}}, False),
        ({"proofs": {"amr": {"mfa": True}}}, False),
        ({"proofs": {"amr": {"mfa": "x"}}}, False),
        ({"proofs": {"amr": {"mfa": -1}}}, False),
        ({"proofs": {"amr": {"mfa": float("inf")}}}, False),
        ({"proofs": {"amr": {}}}, False),
        ({"proofs": {"amr": None}}, False),
        ({"proofs": {}}, False),
        ({"for": [8, "abcdef"]}, False),
        ({"for": [7, "abcdeg"]}, False),
        ({"for": [7, "abcdefg"]}, False),
        ({"for": 7}, False),
        ({"iss": "x"}, False),
        ({"iss": None}, False),
        ({"sub": None}, False),
        ({"sub": 5}, False),
    ],
)
def test_a_quick_yes_is_only_for_what_is_whole(changes: dict[str, Any], is_shown: bool) -> None:
    store, requirement = in_memory(stepup={**PROVED, **changes}), Requirement(amr=("mfa",))
    assert session.shows(store, ANNA, requirement, None, conf.current()) is is_shown
    evidence = session.read_evidence(store, ANNA)
    assert conf.current().judge(evidence, requirement, now=NOW).satisfied is is_shown


def test_every_method_has_to_be_proved_for_a_quick_yes() -> None:
    held = {**PROVED, "proofs": {"amr": {"mfa": NOW, "pwd": "x"}}}
    for amr in (("mfa", "pwd"), ("pwd", "mfa"), ("mfa", "hwk"), ("hwk", "mfa")):
        assert not session.shows(in_memory(stepup=held), ANNA, Requirement(amr=amr), None, conf.current())


def test_the_base_library_is_told_when_to_renew() -> None:
    request = ask()
    session.note_renewal(request, due=NOW + 900.5)
    assert dict(request.session.items()) == {"oidc_id_token_expiration": NOW + 900}


def test_what_is_kept_as_an_id_token_and_is_no_text_is_no_hint() -> None:
    assert session.id_token_hint(ask(held={"oidc_id_token": "x"})) == "x"
    assert session.id_token_hint(ask(held={"oidc_id_token": 5})) is None
    assert session.id_token_hint(ask()) is None


def pending(**changes: Any) -> Pending:
    return Pending(**{"state": "s", "nonce": "n", "code_verifier": "v", "next": "/a/", "started": NOW, **changes})


def test_a_pending_request_is_stored_as_little_as_it_takes() -> None:
    request = ask()
    session.add_pending(request, pending(started=NOW + 0.9), conf.current())
    assert request.session["stepup_pending"] == {"s": {"nonce": "n", "pkce": "v", "next": "/a/", "at": NOW}}

    own = Requirement(name="own", acr=("urn:own",), max_age=5)
    session.add_pending(request, pending(state="t", requirement=own, user="7"), conf.current())
    assert request.session["stepup_pending"]["t"] == {
        "nonce": "n",
        "pkce": "v",
        "next": "/a/",
        "at": NOW,
        "user": "7",
        "need": {"acr": ["urn:own"], "max_age": 5, "name": "own"},
    }


@pytest.mark.django_db
def test_a_pending_request_comes_back_with_the_name_of_its_requirement() -> None:
    request = ask()
    request.session.create()
    own = Requirement(name="own", acr=("urn:own",))
    session.add_pending(request, pending(requirement=own), conf.current())
    request.session.save()
    taken = session.take_pending(request, "s", conf.current(), now=NOW)
    assert taken is not None
    assert taken.requirement is not None
    assert taken.requirement.name == "own"
    assert taken.silent is False


@pytest.mark.parametrize("most", [1, 3])
def test_never_more_pending_requests_than_so_many_are_kept(settings: Any, most: int) -> None:
    settings.STEPUP = {**settings.STEPUP, "MAX_PENDING": most}
    request = ask()
    for number in range(most + 2):
        session.add_pending(request, pending(state=f"s{number}"), conf.current())
        assert len(request.session["stepup_pending"]) == min(number + 1, most)
    assert f"s{most + 1}" in request.session["stepup_pending"]


def test_the_oldest_makes_room_whatever_its_name(settings: Any) -> None:
    settings.STEPUP = {**settings.STEPUP, "MAX_PENDING": 2}
    request = ask()
    for state, started in [("b", NOW), ("c", NOW - 9), ("a", NOW - 5)]:
        session.add_pending(request, pending(state=state, started=started), conf.current())
    session.add_pending(request, pending(state="d"), conf.current())
    assert request.session["stepup_pending"].keys() == {"b", "d"}


@pytest.mark.django_db
def test_taking_one_pending_request_leaves_the_others() -> None:
    request = ask()
    request.session.create()
    for state in ("s", "t"):
        session.add_pending(request, pending(state=state), conf.current())
    request.session.save()
    assert session.take_pending(request, "s", conf.current(), now=NOW) == pending()
    assert session.take_pending(request, "t", conf.current(), now=NOW) == pending(state="t")
    assert "stepup_pending" not in request.session


@pytest.mark.parametrize("key", ["_auth_user_id", "_auth_user_backend", "_auth_user_hash"])
def test_a_login_is_the_same_where_user_backend_and_password_are(key: str) -> None:
    login = {"_auth_user_id": "7", "_auth_user_backend": "b", "_auth_user_hash": "h"}
    assert session.has_same_login(in_memory(**login), in_memory(**login, other=1))
    assert not session.has_same_login(in_memory(**login), in_memory(**{**login, key: "x"}))
    assert not session.has_same_login(in_memory(**login), in_memory())


def of_base_library(**changes: Any) -> dict[str, Any]:
    return {"nonce": "n", "code_verifier": "v", "added_on": NOW, **changes}


@pytest.mark.django_db
@pytest.mark.parametrize(
    ("entry", "next_url", "expected"),
    [
        (of_base_library(), "/b/", pending(next="/b/", silent=True)),
        (of_base_library(code_verifier=""), "/b/", pending(next="/b/", code_verifier="", silent=True)),
        (of_base_library(), 5, pending(next="", silent=True)),
        (of_base_library(), None, pending(next="", silent=True)),
        (of_base_library(added_on=NOW - 900), "/b/", pending(next="/b/", started=NOW - 900, silent=True)),
        (of_base_library(added_on=NOW - 901), "/b/", None),
        (of_base_library(code_verifier=5), "/b/", None),
        (of_base_library(nonce=5), "/b/", None),
        (of_base_library(added_on="x"), "/b/", None),
    ],
)
def test_a_request_of_the_base_librarys_middleware_is_read_as_it_was_sent(
    entry: dict[str, Any], next_url: Any, expected: Pending | None
) -> None:
    request = ask(held={"oidc_states": {"s": entry, "t": 1}, "oidc_login_next": next_url})
    request.session.create()
    request.session.update({"oidc_states": {"s": entry, "t": 1}, "oidc_login_next": next_url})
    request.session.save()
    request.session.modified = False

    assert session.take_pending(request, "s", conf.current(), now=NOW) == expected
    assert request.session["oidc_states"] == {"t": 1}
    assert SessionStore(request.session.session_key)["oidc_states"] == {"t": 1}, "it is saved at once"
    assert request.session.modified is False


def test_what_a_reverted_session_holds_is_what_it_held() -> None:
    for store, is_sent in [(in_memory(a=1, gone=[1]), False), (CookieStore(), True)]:
        store.update({"a": 1, "gone": [1]})
        before = session.snapshot(store)
        store.update({"a": 2, "new": 3})
        del store["gone"]
        session.revert(store, before)
        assert dict(store.items()) == {"a": 1, "gone": [1]}
        assert store.modified is is_sent


def test_a_value_that_has_become_another_has_changed_and_a_value_that_is_none_is_one() -> None:
    store = in_memory(a=None, b=1)
    before = session.snapshot(store)
    assert session.changed_since(store, before) == {}
    store.update({"a": 0, "b": 1, "c": None})
    assert session.changed_since(store, before) == {"a": 0, "c": None}


def test_a_settlement_does_not_depend_on_the_order_in_which_a_requirement_is_written() -> None:
    one = Requirement(max_age=5, params={"a": "1", "b": "2"}, claims={"c": ("1",), "d": ("2",)})
    same = Requirement(max_age=5, params={"b": "2", "a": "1"}, claims={"d": ("2",), "c": ("1",)})
    request = ask()
    session.settle(request, one, "/a/", now=NOW, since=NOW - 9.5)
    assert session.settled(request, same, "/a/", now=NOW) == NOW - 10
    assert session.settled(request, Requirement(max_age=6), "/a/", now=NOW) is None


@pytest.mark.parametrize(
    ("later", "is_settled"), [(-10, False), (-9, True), (0, True), (9, True), (9.99, True), (10, False)]
)
def test_a_settlement_is_for_a_moment(later: float, is_settled: bool) -> None:
    request = ask()
    session.settle(request, Requirement(max_age=5), "/a/", now=NOW, since=NOW)
    assert (session.settled(request, Requirement(max_age=5), "/a/", now=NOW + later) is not None) == is_settled


@pytest.mark.parametrize("change", [slice(0, 4), slice(0, 0)])
def test_half_a_settlement_is_none(change: slice) -> None:
    request, requirement = ask(), Requirement(max_age=5)
    session.settle(request, requirement, "/a/", now=NOW, since=NOW)
    whole = request.session["stepup_settled"]
    assert len(whole) == 5
    assert session.settled(request, requirement, "/a/", now=NOW) == NOW
    for damaged in (
        whole[change],
        [*whole, 1],
        tuple(whole),
        [*whole[:3], "x", whole[4]],
        [*whole[:2], None, *whole[3:]],
        [*whole[:4], 5],
        [whole[0], "/a/", *whole[2:]],
        ["x", *whole[1:]],
    ):
        request.session["stepup_settled"] = damaged
        assert session.settled(request, requirement, "/a/", now=NOW) is None


def test_a_cookie_is_spared_only_where_its_session_is_gone(settings: Any) -> None:
    settings.SESSION_COOKIE_NAME = "own"
    touches: list[tuple[Callable[[Any], object], bool]] = [
        (lambda store: store.get("x"), True),
        (lambda store: None, False),
        (lambda store: store.update({"a": 1}), False),
    ]
    for touch, is_spared in touches:
        request = ask()
        request.COOKIES = {"own": "key", "sessionid": "other"}
        request.session.accessed = False
        touch(request.session)
        session.spare_cookie(request)
        assert ("own" not in request.COOKIES) == is_spared
        assert "sessionid" in request.COOKIES

    without = ask()
    without.session.get("x")
    session.spare_cookie(without)
    assert without.COOKIES == {}

    bare = RequestFactory().get("/")
    bare.COOKIES = {"own": "key"}
    session.spare_cookie(bare)
    assert bare.COOKIES == {"own": "key"}


# The gate

MFA = Requirement(name="mfa", amr=("mfa",), acr_values=(MULTI_FACTOR,))


def shown(request: HttpRequest) -> HttpResponse:
    return HttpResponse("shown")


def test_a_max_age_goes_with_a_name() -> None:
    with pytest.raises(TypeError, match=r"^max_age goes with the name of a requirement$"):
        Aged(MFA, 5)  # type: ignore[arg-type] # which is the point


def test_a_view_is_marked_with_what_it_requires_and_looks_after_sign_in_itself() -> None:
    def view(request: HttpRequest) -> HttpResponse:
        return shown(request)

    assert gate.mark(view, "mfa") is view
    assert (view.stepup_requirement, view.login_required) == ("mfa", False)  # type: ignore[attr-defined]


def test_a_view_knows_all_its_doors_and_whether_one_of_them_keeps_no_forms() -> None:
    def view(request: HttpRequest) -> HttpResponse:
        return shown(request)

    marked: Any = gate.mark(gate.mark(view, "mfa"), "sudo", "mixin")
    assert marked.stepup_doors == (("mixin", "sudo"), ("decorator", "mfa"))
    assert not hasattr(marked, "stepup_keep_form")
    assert vars(gate.mark(view, "mfa", keep_form=False))["stepup_keep_form"] is False


def test_what_is_raised_says_what_it_needs() -> None:
    assert str(StepUpRequired()) == "This needs a step-up."
    assert StepUpRequired().requirement == "mfa"
    assert StepUpRequired("sudo").requirement == "sudo"


@pytest.mark.parametrize("needs", ["unknown", None, ["mfa"], Aged("unknown", 5), lambda request: 5])
def test_what_names_no_requirement_is_said(needs: Any) -> None:
    named = needs.name if isinstance(needs, Aged) else needs(None) if callable(needs) else needs
    for ask_it in (gate.resolve, gate.check, gate.decide):
        with pytest.raises(ImproperlyConfigured) as caught:
            ask_it(ask(user=ANNA, held={"stepup": PROVED}), needs)
        assert str(caught.value) == (f"{named!r} is no requirement, nor the name of one in STEPUP['REQUIREMENTS'].")


def test_a_function_is_asked_with_the_request_and_may_give_a_requirement_or_a_name() -> None:
    request, own, seen = ask(), Requirement(acr=("urn:own",)), []

    def pick(asked: HttpRequest) -> Any:
        seen.append(asked)
        return own if len(seen) == 1 else "sudo"

    assert gate.resolve(request, pick) is own
    assert gate.resolve(request, pick).max_age == 300
    assert seen == [request, request]


@pytest.mark.parametrize(
    ("user", "held", "is_allowed"),
    [
        (ANNA, {"stepup": PROVED}, True),
        (SimpleLazyObject(lambda: ANNA), {"stepup": PROVED}, True),
        (ANNA, {}, False),
        (SimpleLazyObject(lambda: ANNA), {}, False),
        (User(pk=8), {"stepup": PROVED}, False),
        (AnonymousUser(), {"stepup": PROVED}, False),
        (SimpleLazyObject(AnonymousUser), {"stepup": PROVED}, False),
    ],
    ids=count(),
)
def test_all_ways_into_the_gate_decide_alike(endpoint: str, user: Any, held: dict[str, Any], is_allowed: bool) -> None:
    for needs in ("mfa", MFA, Aged("mfa", 60), lambda request: {"/a/": "mfa"}[request.path]):
        for is_loaded in (False, True):
            if is_loaded:
                str(user)
            assert gate.decide(ask(user=user, held=held), needs).satisfied is is_allowed
            assert (gate.check(ask(user=user, held=held), needs) is None) is is_allowed
            guarded = gate.guard(ask(user=user, held=held), needs, shown)
            assert (guarded.status_code == 200) is is_allowed
            assert async_to_sync(gate.adecide)(ask(user=user, held=held), needs).satisfied is is_allowed
            assert (async_to_sync(gate.acheck)(ask(user=user, held=held), needs) is None) is is_allowed


def test_nobody_has_proved_nothing_whatever_is_required() -> None:
    for decision in (gate.decide(ask(), "sudo"), async_to_sync(gate.adecide)(ask(), "sudo")):
        assert decision.unmet == (Unmet("sub", "missing"),)


def test_the_session_of_nobody_is_not_looked_at() -> None:
    request = ask(held={"stepup": PROVED})
    gate.decide(request, "mfa")
    async_to_sync(gate.adecide)(request, "mfa")
    assert request.session.accessed is False


def test_what_was_proved_on_the_way_is_used_up_also_where_the_page_could_be_shown_without(db: None) -> None:
    requirement = Requirement(amr=("mfa",), max_age=5)
    request = settled(NOW - 2, proofs={"amr": {"mfa": NOW - 2}})
    assert gate.decide(request, requirement)
    later = ask(user=ANNA, held=dict(request.session.items()))
    clock.offset += 8 + conf.current().leeway
    assert gate.decide(later, requirement).unmet == (Unmet("amr", "stale", ("mfa",)),)


@pytest.mark.parametrize("method", ["GET", "POST"])
def test_proof_for_this_very_action_is_good_for_one_showing(db: None, method: str) -> None:
    once, held = Requirement(amr=("mfa",), max_age=0), {"stepup": PROVED}
    request = stored(ask(user=ANNA, held=held, method=method))
    assert gate.decide(request, once).unmet == (Unmet("auth_time", "stale"),), "another page has had it"
    session.settle(request, once, "/a/?b=c", now=NOW, since=NOW - 30)
    assert gate.decide(request, once)
    assert gate.decide(request, Requirement(max_age=0)), "all doors that this request passes let it through"
    again = ask(user=ANNA, held=dict(request.session.items()), method=method)
    assert not gate.decide(again, once)


ONCE = Requirement(amr=("mfa",), max_age=0)


def at_the_same_moment(store: Any, count: int = 2) -> list[Any]:
    """Requests that have all loaded the session before one of them is answered."""
    requests = []
    for _ in range(count):
        request = ask(user=ANNA)
        request.session = type(store)(store.session_key)
        assert request.session["stepup_settled"]
        requests.append(request)
    return requests


def just_confirmed(store: Any = None) -> Any:
    request = ask(user=ANNA, held={"stepup": PROVED})
    held, request.session = dict(request.session.items()), SessionStore() if store is None else store
    request.session.update(held)
    session.settle(request, ONCE, "/a/?b=c", now=NOW, since=NOW)
    request.session.save()
    return request.session


@pytest.mark.parametrize("is_async", [False, True])
def test_of_requests_at_the_same_moment_one_is_shown_what_is_shown_once(transactional_db: None, is_async: bool) -> None:
    first, second, third = at_the_same_moment(just_confirmed(), 3)
    decide = async_to_sync(gate.adecide) if is_async else gate.decide
    assert decide(first, ONCE)
    assert decide(first, ONCE), "it is this request that has it"
    for late in (second, third):
        assert decide(late, ONCE).unmet == (Unmet("auth_time", "stale"),)
        assert "stepup_settled" not in late.session, "so it is asked for anew, and not told that it goes in circles"
        assert not late.session.modified
    assert "stepup_settled" not in SessionStore(first.session.session_key), "whatever becomes of the answer"


def test_a_session_that_is_saved_late_brings_no_showing_back(db: None) -> None:
    first, late = at_the_same_moment(just_confirmed())
    assert gate.decide(first, ONCE)
    late.session["cart"] = 1
    late.session.save()
    (again,) = at_the_same_moment(late.session, 1)
    assert not gate.decide(again, ONCE)


def test_an_old_cookie_that_is_a_session_brings_no_showing_back() -> None:
    first, replayed = at_the_same_moment(just_confirmed(CookieStore()))
    assert gate.decide(first, ONCE)
    assert first.session.modified, "it goes into the cookie"
    assert not gate.decide(replayed, ONCE)


def test_where_the_session_has_ended_meanwhile_nothing_is_shown(db: None) -> None:
    (request,) = at_the_same_moment(just_confirmed(), 1)
    SessionStore(request.session.session_key).delete()
    assert not gate.decide(request, ONCE)


def test_what_was_proved_at_one_host_is_fresh_there(db: None) -> None:
    (request,) = at_the_same_moment(just_confirmed(), 1)
    request.META["HTTP_HOST"] = "localhost"
    assert not gate.decide(request, ONCE)
    request.META["HTTP_HOST"] = "testserver"
    assert gate.decide(request, ONCE)


def test_an_age_of_a_door_is_that_of_all_parts(settings: Any) -> None:
    combo = {"also": [{"amr": ["mfa"]}, {"acr": ["a"], "max_age": 9, "also": [{"amr": ["pwd"]}]}]}
    settings.STEPUP = {**settings.STEPUP, "REQUIREMENTS": {"combo": combo}}
    proofs = {"amr": {"mfa": NOW - 3000, "pwd": NOW}, "acr": {"a": NOW}}
    held = {"stepup": {**PROVED, "proofs": proofs, "at": NOW}}
    assert gate.decide(ask(user=ANNA, held=held), "combo")
    assert gate.decide(ask(user=ANNA, held=held), Aged("combo", 300)).unmet == (Unmet("amr", "stale", ("mfa",)),)
    assert gate.decide(ask(user=ANNA, held=held, method="POST"), Aged("combo", 300, 3600))
    aged = gate.resolve(ask(), Aged("combo", 300, 3600))
    assert [(part.max_age, part.submit_max_age) for part in aged.parts] == [(300, 3600)] * 3
    assert aged.name == "combo"


def test_only_what_a_person_has_filled_in_may_be_sent_for_longer() -> None:
    held = {"stepup": {**PROVED, "proofs": {"amr": {"mfa": NOW - 300}}}}
    for method in ("REPORT", "CONNECT", "MOVE"):
        assert not gate.decide(ask(user=ANNA, held=held, method=method), Aged("mfa", 60, 600)), method


def test_a_form_that_was_opened_in_time_can_be_sent_for_longer() -> None:
    needs = Aged("mfa", 60, 600)
    held = {"stepup": {**PROVED, "proofs": {"amr": {"mfa": NOW - 300}}}}
    for method, is_allowed in [("GET", False), ("HEAD", False), ("POST", True), ("DELETE", True)]:
        assert gate.decide(ask(user=ANNA, held=held, method=method), needs).satisfied is is_allowed
        answer = gate.check(ask(user=ANNA, held=held, method=method, accept="application/json"), needs)
        assert (answer is None) is is_allowed
    held = {"stepup": {**PROVED, "proofs": {"amr": {"mfa": NOW - 700}}}}
    assert not gate.decide(ask(user=ANNA, held=held, method="POST"), needs)
    once = Aged("mfa", 0, 600)
    held = {"stepup": PROVED}
    assert not gate.decide(ask(user=ANNA, held=held), once)
    assert gate.decide(ask(user=ANNA, held=held, method="POST"), once)


def test_several_requirements_are_satisfied_where_each_is() -> None:
    held = {"stepup": {**PROVED, "proofs": {"amr": {"mfa": NOW - 300}}, "at": NOW - 20}}
    fresh = Requirement(name="fresh", max_age=10)
    cases: list[tuple[Any, Any]] = [
        (("mfa", fresh), ()),
        (("mfa", Aged("mfa", 100)), (Unmet("amr", "stale", ("mfa",)),)),
        (
            (Aged("mfa", 100), Requirement(acr=("a",))),
            (Unmet("amr", "stale", ("mfa",)), Unmet("acr", "missing", ("a",))),
        ),
    ]
    for needs, unmet in cases:
        for given in (needs, lambda _, needs=needs: needs):
            assert gate.decide(ask(user=ANNA, held=held), given).unmet == unmet
            assert async_to_sync(gate.adecide)(ask(user=ANNA, held=held), given).unmet == unmet
    for nothing in ((), ("mfa", "unknown"), ("mfa", 5)):
        with pytest.raises(ImproperlyConfigured):
            gate.decide(ask(user=ANNA, held=held), nothing)  # type: ignore[arg-type]


def test_a_decision_says_when_what_was_proved_will_be_too_old() -> None:
    held = {"stepup": {**PROVED, "proofs": {"amr": {"mfa": NOW - 300}}, "at": NOW - 20}}
    times: list[tuple[Any, Any]] = [
        ("mfa", NOW - 300 + 43200),
        (Aged("mfa", 400), NOW + 100),
        (("mfa", Requirement(max_age=50)), NOW + 30),
        ((Aged("mfa", 310), Requirement(max_age=50)), NOW + 10),
        (Aged("mfa", 5), None),
    ]
    for needs, expires in times:
        assert gate.decide(ask(user=ANNA, held=held), needs).expires == expires


class Counted:
    """Somebody who counts how often they are asked whether they are signed in."""

    pk = 7
    asked = 0

    @property
    def is_authenticated(self) -> bool:
        self.asked += 1
        return True


@pytest.mark.parametrize("needs", ["mfa", Aged("mfa", 60)])
@pytest.mark.parametrize("is_lazy", [False, True])
@pytest.mark.parametrize("is_loaded", [False, True])
def test_what_is_plainly_allowed_is_so_at_a_glance(needs: gate.Needs, is_lazy: bool, is_loaded: bool) -> None:
    anna = Counted()
    user: Any = SimpleLazyObject(lambda: anna) if is_lazy else anna
    if is_loaded:
        str(user)
    assert gate.check(ask(user=user, held={"stepup": PROVED}), needs) is None
    assert anna.asked == 1


def test_an_asynchronous_view_is_asked_with_what_it_was_given_and_kept_out_of_caches() -> None:
    async def view(request: HttpRequest, *args: Any, **kwargs: Any) -> HttpResponse:
        return HttpResponse(f"{request.user.pk} {args} {kwargs}")

    request = ask(user=ANNA, held={"stepup": PROVED})
    answer = async_to_sync(gate.aguard)(request, "mfa", view, 1, b=2)
    assert answer.content.decode() == "7 (1,) {'b': 2}"
    assert answer["Cache-Control"] == "max-age=0, no-cache, no-store, must-revalidate, private"
    assert request.user is ANNA


def test_a_view_is_asked_with_what_it_was_given_and_kept_out_of_caches() -> None:
    def view(request: HttpRequest, *args: Any, **kwargs: Any) -> HttpResponse:
        return HttpResponse(f"{request.user.pk} {args} {kwargs}")

    answer = gate.guard(ask(user=ANNA, held={"stepup": PROVED}), "mfa", view, 1, b=2)
    assert answer.content.decode() == "7 (1,) {'b': 2}"
    assert answer["Cache-Control"] == "max-age=0, no-cache, no-store, must-revalidate, private"


def test_a_refusal_of_an_asynchronous_view_is_the_answer_to_what_it_requires(endpoint: str) -> None:
    async def view(request: HttpRequest) -> HttpResponse:
        pytest.fail("it was asked")

    answer = async_to_sync(gate.aguard)(ask(user=ANNA, accept="application/json"), "sudo", view)
    assert json.loads(answer.content)["requirement"] == "sudo"
    # The user was found out on the way, and is there for what comes after.
    request = ask(accept="application/json")
    user, request.user = ANNA, None

    async def auser() -> User:
        return user

    request.auser = auser
    async_to_sync(gate.acheck)(request, "mfa")
    assert request.user is ANNA


def test_an_asynchronous_view_behind_a_synchronous_door_is_never_awaited() -> None:
    async def view(request: HttpRequest) -> HttpResponse:
        return shown(request)

    with pytest.raises(TypeError) as caught:
        gate.guard(ask(user=ANNA, held={"stepup": PROVED}), "mfa", view)
    assert str(caught.value) == (
        "An asynchronous view stands behind a synchronous wrapper: put the door next to the view."
    )


def test_demanding_lets_on_who_has_proved_it_and_has_the_page_kept_out_of_caches() -> None:
    request = ask(user=ANNA, held={"stepup": PROVED})
    assert gate.is_remembered(request) is False
    gate.demand(request)
    assert gate.is_remembered(request) is True

    refused = ask(user=ANNA)
    with pytest.raises(StepUpRequired) as caught:
        gate.demand(refused, "sudo")
    assert caught.value.requirement == "sudo"
    assert not gate.is_remembered(refused)


@pytest.mark.parametrize("needs", ["sudo", lambda request: {"/a/": "sudo"}[request.path]])
def test_demanding_from_asynchronous_code_is_demanding(needs: Any) -> None:
    fresh = {"stepup": PROVED}
    for asked, is_allowed in [(ask(user=ANNA, held=fresh), True), (ask(user=ANNA), False), (ask(held=fresh), False)]:
        for demand in (gate.demand, async_to_sync(gate.ademand)):
            asked._stepup_protected = False
            if is_allowed:
                demand(asked, needs)
            else:
                with pytest.raises(StepUpRequired) as caught:
                    demand(asked, needs)
                assert caught.value.requirement is needs
            assert gate.is_remembered(asked) is is_allowed
    with pytest.raises(StepUpRequired) as caught:
        async_to_sync(gate.ademand)(ask(user=ANNA))
    assert caught.value.requirement == "mfa"


def test_what_was_raised_is_answered_by_what_it_needs_and_by_nothing_where_that_is_there(
    endpoint: str, settings: Any
) -> None:
    for reported in (["mfa"], []):
        # The view has been left already, so what is only reported is enforced.
        settings.STEPUP = {**settings.STEPUP, "REPORT_ONLY": reported}
        for needs in ("mfa", lambda request: {"/a/": "mfa"}[request.path]):
            assert gate.refuse(ask(user=ANNA, held={"stepup": PROVED}), needs) is None
            for user, error in [(ANNA, "insufficient_user_authentication"), (None, "login_required")]:
                answer = gate.refuse(ask(user=user, accept="application/json"), needs)
                assert answer is not None
                assert answer.status_code == 401
                said = json.loads(answer.content)
                assert (said["error"], said["requirement"]) == (error, "mfa")

    # Asked for at once is what the page's other doors need, too, and is not there yet.
    def view(request: HttpRequest) -> HttpResponse:
        return shown(request)

    marked = gate.mark(gate.mark(view, "mfa"), "sudo")
    for held, requirement in [({}, "sudo & mfa"), ({"stepup": {**PROVED, "at": NOW - 400}}, "sudo")]:
        request = ask(user=ANNA, held=held, accept="application/json")
        request.resolver_match = ResolverMatch(marked, (), {})
        answer = gate.refuse(request, "sudo")
        assert answer is not None
        assert json.loads(answer.content)["requirement"] == requirement
    request = ask(user=ANNA, accept="application/json")
    (sent,) = heard(signals.challenged, lambda: gate.refuse(request, "mfa"))
    assert sent["request"] is request
    assert sent["decision"].unmet == (Unmet("amr", "missing", ("mfa",)),)


@pytest.mark.parametrize("check", [gate.check, async_to_sync(gate.acheck)])
def test_a_post_that_stands_for_a_form_that_is_not_there_is_refused_whatever_has_been_proved(
    endpoint: str, check: Any
) -> None:
    marked, held = "/a/?stepup_kept=x", {"stepup": PROVED}
    for path, method, status in [
        (marked, "POST", 410),
        ("/a/", "POST", None),
        (marked, "GET", None),
        (marked, "PUT", None),
    ]:
        answer = check(ask(path, user=ANNA, held=held, method=method), "mfa")
        assert (answer and answer.status_code) == status, (path, method)
        refused = check(ask(path, user=ANNA, method=method, accept="application/json"), "mfa")
        assert refused.status_code == (status or 401), (path, method)
    for restored in (gate.restore, async_to_sync(gate.arestore)):
        assert restored(ask(marked, user=ANNA, held=held, method="POST")).status_code == 410  # type: ignore[union-attr]
        assert restored(ask(user=ANNA, held=held, method="POST")) is None


@pytest.fixture
def tried_out(settings: Any) -> None:
    settings.STEPUP = {**settings.STEPUP, "REPORT_ONLY": ["mfa"]}


def test_a_door_that_only_reports_lets_a_view_be_asked_with_what_it_was_given_and_leaves_no_trace(
    tried_out: None,
) -> None:
    def view(request: HttpRequest, *args: Any, **kwargs: Any) -> HttpResponse:
        return HttpResponse(f"{request.path} {args} {kwargs}")

    async def aview(request: HttpRequest, *args: Any, **kwargs: Any) -> HttpResponse:
        return view(request, *args, **kwargs)

    for held in ({"stepup": PROVED}, {}):
        for user in (ANNA, None):
            for answer in (
                gate.guard(ask(user=user, held=held), "mfa", view, 1, b=2),
                async_to_sync(gate.aguard)(ask(user=user, held=held), "mfa", aview, 1, b=2),
            ):
                assert answer.content.decode() == "/a/ (1,) {'b': 2}"
                assert "Cache-Control" not in answer
            assert gate.check(ask(user=user, held=held), "mfa") is None
            assert async_to_sync(gate.acheck)(ask(user=user, held=held), "mfa") is None


def test_where_one_of_two_doors_is_enforced_the_page_is_kept_out_of_caches(tried_out: None, endpoint: str) -> None:
    answer = gate.guard(ask(user=ANNA, held={"stepup": PROVED}), ("mfa", "sudo"), shown)
    assert "no-store" in answer["Cache-Control"]


def test_what_is_only_reported_is_satisfied_by_whoever_is_signed_in(tried_out: None) -> None:
    for decide in (gate.decide, async_to_sync(gate.adecide)):
        assert decide(ask(user=ANNA), "mfa") is SATISFIED
        assert decide(ask(), "mfa").unmet == (Unmet("sub", "missing"),)
        assert decide(ask(user=ANNA), ("mfa", "sudo")).unmet == (Unmet("auth_time", "missing"),)


def test_code_that_demands_what_is_only_reported_goes_on_and_it_is_reported(tried_out: None, endpoint: str) -> None:
    for demand in (gate.demand, async_to_sync(gate.ademand)):
        for user, unmet in [(ANNA, Unmet("amr", "missing", ("mfa",))), (None, Unmet("sub", "missing"))]:
            request = ask(user=user)
            (sent,) = heard(signals.reported, lambda demand=demand, request=request: demand(request, "mfa"))  # type: ignore[misc]
            assert sent["request"] is request
            assert sent["requirement"].name == "mfa"
            assert sent["decision"].unmet == (unmet,)
            assert not gate.is_remembered(request)
        satisfied = ask(user=ANNA, held={"stepup": PROVED})
        assert not heard(signals.reported, lambda demand=demand, request=satisfied: demand(request, "mfa"))  # type: ignore[misc]


def test_where_every_page_needs_a_sign_in_a_door_that_only_reports_does_so_too(tried_out: None, settings: Any) -> None:
    settings.MIDDLEWARE = [*settings.MIDDLEWARE, "django.contrib.auth.middleware.LoginRequiredMiddleware"]
    for check in (gate.check, async_to_sync(gate.acheck)):
        answer = check(ask(), "mfa")
        assert answer is not None
        assert answer.status_code == 302
        assert answer["Location"].endswith("?next=/a/%3Fb%3Dc")
        assert check(ask(user=ANNA), "mfa") is None


def test_nothing_is_required_of_who_is_signed_in_where_nothing_is_enforced(settings: Any) -> None:
    settings.STEPUP = {**settings.STEPUP, "CLIENTS_WITH_MFA": ["another"]}
    assert gate.decide(ask(user=ANNA), "mfa") is SATISFIED
    assert not gate.decide(ask(), "mfa")


def test_the_leeway_of_the_settings_is_given() -> None:
    for age, is_allowed in [(329, True), (331, False)]:
        held = {"stepup": {**PROVED, "proofs": {}, "at": NOW - age}}
        assert gate.decide(ask(user=ANNA, held=held), "sudo").satisfied is is_allowed


def stored(request: Any) -> Any:
    """The request, with its session stored."""
    held, request.session = dict(request.session.items()), SessionStore()
    request.session.update(held)
    request.session.create()
    return request


def settled(since: float, path: str = "/a/?b=c", at: float = NOW, **proved: Any) -> Any:
    """A request of Anna's, moments after a step-up for a proof that is 5 seconds old at the most."""
    request = stored(ask(user=ANNA, held={"stepup": {**PROVED, **proved}}))
    session.settle(request, Requirement(amr=("mfa",), max_age=5), path, now=at, since=since)
    request.session.save()
    return request


@pytest.mark.parametrize(
    ("proved_at", "since", "path", "at", "is_allowed"),
    [
        (NOW - 90, NOW - 90, "/a/?b=c", NOW, True),
        (NOW - 90, NOW - 59, "/a/?b=c", NOW, False),
        (NOW - 90, NOW - 61, "/a/?b=c", NOW, True),
        (NOW - 90, NOW - 90, "/a/", NOW, False),
        (NOW - 90, NOW - 90, "/a/?b=c", NOW - 11, False),
    ],
)
def test_what_was_proved_on_the_way_is_fresh_for_its_page_once(
    db: None, proved_at: float, since: float, path: str, at: float, is_allowed: bool
) -> None:
    requirement = Requirement(amr=("mfa",), max_age=5)
    request = settled(since, path, at, proofs={"amr": {"mfa": proved_at}})

    decision = gate.decide(request, requirement)

    assert decision.satisfied is is_allowed
    assert ("stepup_settled" not in request.session) is is_allowed
    if is_allowed:
        assert gate.decide(request, requirement), "all doors that this request passes let it through"
        assert gate.decide(request, Requirement(amr=("mfa",), max_age=7))
        assert not gate.decide(request, Requirement(amr=("hwk",), max_age=5))
        again = ask(user=ANNA, held=dict(request.session.items()))
        assert not gate.decide(again, requirement), "another request does not"
    else:
        assert decision.unmet == (Unmet("amr", "stale", ("mfa",)),)


def test_what_was_proved_on_the_way_stays_fresh_while_a_kept_form_is_read_and_to_read_it_uses_nothing_up(
    db: None,
) -> None:
    form = kept.Form(
        id="x", requirement=None, path="/a/", content_type="", referer="", back="/", by_itself=False, host="testserver",
        shown={}, body=b"",
    )  # fmt: skip
    requirement = Requirement(amr=("mfa",), max_age=5)
    proofs = {"proofs": {"amr": {"mfa": NOW - 130}}}
    for read, is_allowed in [(0, True), (119, True), (121, False)]:
        looks, sends = (settled(NOW - 130, form.url, NOW - read, **proofs) for _ in range(2))
        looks._stepup_shown = sends._stepup_kept = form
        assert gate.decide(looks, requirement).satisfied is is_allowed
        assert "stepup_settled" in looks.session
        assert gate.decide(sends, requirement).satisfied is is_allowed
        assert ("stepup_settled" in sends.session) is not is_allowed


def test_what_was_proved_on_the_way_is_used_up_from_asynchronous_code_too(db: None) -> None:
    for ask_gate in (gate.adecide, gate.acheck):
        request = settled(NOW - 90, proofs={"amr": {"mfa": NOW - 90}})
        answer = async_to_sync(ask_gate)(request, Requirement(amr=("mfa",), max_age=5))
        assert answer is (SATISFIED if ask_gate is gate.adecide else None)
        assert "stepup_settled" not in request.session


def test_a_request_whose_form_is_not_to_be_kept_is_refused_and_nothing_is_kept(endpoint: str) -> None:
    request = sent_form()
    gate.keep_no_form(request)
    assert challenge.answer(request, MFA, UNMET).status_code == 403
    assert "stepup_forms" not in request.session


# The answer to an unmet requirement

UNMET = Decision((Unmet("amr", "missing", ("mfa",)), Unmet("acr", "missing")))
STALE = Decision((Unmet("amr", "missing", ("mfa",)), Unmet("auth_time", "stale")))


@pytest.fixture
def endpoint(settings: Any) -> str:
    settings.OIDC_OP_AUTHORIZATION_ENDPOINT = "https://op.example/authorize"
    return "https://op.example/authorize"


def heard(signal: Signal, call: Callable[[], object]) -> list[dict[str, Any]]:
    """What a signal was sent with meanwhile."""
    sent: list[dict[str, Any]] = []

    def listen(**given: Any) -> None:
        sent.append(given)

    signal.connect(listen)
    try:
        call()
    finally:
        signal.disconnect(listen)
    return sent


def test_a_challenge_is_logged_and_signalled(endpoint: str, caplog: pytest.LogCaptureFixture) -> None:
    request = ask(user=ANNA)
    with caplog.at_level(logging.INFO, "stepup"):
        sent = heard(signals.challenged, lambda: challenge.answer(request, MFA, UNMET))
        challenge.answer(request, Requirement(amr=("mfa",)), UNMET)

    (signal,) = sent
    assert signal.pop("signal") is signals.challenged
    assert signal == {"sender": Requirement, "request": request, "requirement": MFA, "decision": UNMET}
    named, unnamed = caplog.records
    assert named.getMessage() == "Step-up challenged: mfa (amr: missing, acr: missing)"
    assert unnamed.getMessage() == "Step-up challenged: unnamed requirement (amr: missing, acr: missing)"
    told = vars(named)
    assert (named.levelname, told["event"], told["requirement"], told["user_pk"]) == ("INFO", "challenged", "mfa", 7)


TO_A = "/oidc/authenticate/?next=%2Fpage%2F&stepup=mfa"
TO_HOME = "/oidc/authenticate/?next=%2F&stepup=mfa"


@pytest.mark.parametrize("method", ["GET", "POST"])
@pytest.mark.parametrize(("current", "url"), [("http://testserver/page/", None), ("https://evil.example/", TO_HOME)])
def test_htmx_is_told_to_take_the_whole_page_there(endpoint: str, method: str, current: str, url: str | None) -> None:
    answer = challenge.answer(ask(method=method, HX_Request="true", HX_Current_URL=current), MFA, UNMET)
    assert answer.status_code == 401
    assert answer["HX-Redirect"] == (url or f"/oidc/authenticate/?next={quote(current, '')}&stepup=mfa")
    assert answer["WWW-Authenticate"] == 'StepUp uri="/"'
    assert answer.content == b""
    assert "no-store" in answer["Cache-Control"]


@pytest.mark.parametrize(
    ("method", "headers"),
    [
        ("HEAD", {}),
        ("OPTIONS", {}),
        ("TRACE", {}),
        ("HEAD", {"Sec_Fetch_Mode": "navigate"}),
        ("GET", {"Sec_Fetch_Mode": "cors"}),
        ("POST", {"Sec_Fetch_Mode": "same-origin"}),
        ("GET", {"Sec_Purpose": "prefetch;prerender", "Sec_Fetch_Mode": "navigate"}),
        ("GET", {"Purpose": "prefetch"}),
        ("GET", {"X_Requested_With": "XMLHttpRequest", "Accept": "text/html"}),
        ("GET", {"Accept": "application/json"}),
        ("POST", {"Accept": "application/problem+json, */*"}),
    ],
)
@pytest.mark.parametrize(("user", "error"), [(None, "login_required"), (ANNA, "insufficient_user_authentication")])
def test_a_script_is_told_where_to_take_the_user(
    endpoint: str, method: str, headers: dict[str, Any], user: User | None, error: str
) -> None:
    answer = challenge.answer(ask(user=user, method=method, Referer="/page/", **headers), MFA, UNMET)
    assert answer.status_code == 401
    assert json.loads(answer.content) == {"error": error, "requirement": "mfa", "step_up_url": TO_A}
    assert answer["WWW-Authenticate"] == 'StepUp uri="/"'
    assert "no-store" in answer["Cache-Control"]


@pytest.mark.parametrize(
    "headers",
    [
        {},
        {"Sec_Fetch_Mode": "navigate", "Accept": "application/json"},
        {"Sec_Fetch_Mode": "navigate", "X_Requested_With": "XMLHttpRequest"},
        {"Sec_Purpose": "other", "Purpose": "prefetch"},
        {"X_Requested_With": "app.example"},
        {"Accept": "text/html, application/json"},
        {"Accept": "*/*"},
    ],
)
def test_a_page_navigation_goes_to_the_provider(endpoint: str, headers: dict[str, Any]) -> None:
    answer = challenge.answer(ask(**headers), MFA, UNMET)
    assert answer.status_code == 302
    assert answer["Location"].startswith(f"{endpoint}?")
    assert "no-store" in answer["Cache-Control"]


@pytest.mark.parametrize("method", ["POST", "PUT", "PATCH", "DELETE"])
@pytest.mark.parametrize(
    ("headers", "back"),
    [({"Referer": "/page/"}, "/page/"), ({}, "/a/?b=c"), ({"Referer": "https://evil.example/"}, "/")],
)
def test_a_form_that_was_not_sent_is_said_to_be_not_sent(
    rendered: list[dict[str, Any]], settings: Any, method: str, headers: dict[str, Any], back: str
) -> None:
    settings.STEPUP = {**settings.STEPUP, "KEEP_FORMS": False}
    answer = challenge.answer(ask(user=ANNA, method=method, **headers), MFA, UNMET)

    assert answer.status_code == 403
    assert "no-store" in answer["Cache-Control"]
    (context,) = rendered
    assert context == {
        "step_up_url": f"/oidc/authenticate/?next={quote(back, '')}&stepup=mfa",
        "back_url": back,
        "heading": "Your form was not sent",
        "what_happened": "What you sent needs an additional confirmation that it is you. It was not carried out.",
        "why": "",
        "what_to_do": "Confirm that it is you. You then come back to the page, where you can send it again.",
    }
    assert f'href="{back}"' in answer.content.decode()


@pytest.fixture
def rendered() -> Iterator[list[dict[str, Any]]]:
    """What was put into the templates of this package's pages."""
    seen: list[dict[str, Any]] = []

    def listen(template: Any, context: Any, **kwargs: Any) -> None:
        if template.name in ("stepup/not_sent.html", "stepup/verdict.html"):
            ours = next(one for one in context.dicts if "heading" in one)
            seen.append({key: str(value) if key in TEXTS else value for key, value in ours.items()})
            assert context["request"], "a template of the site's own may want it"

    template_rendered.connect(listen)
    yield seen
    template_rendered.disconnect(listen)


TEXTS = ("heading", "what_happened", "what_to_do")


def test_a_page_that_asks_after_it_was_settled_says_why(rendered: list[dict[str, Any]]) -> None:
    request = ask(user=ANNA)
    session.settle(request, MFA, "/a/?b=c", now=NOW, since=NOW)
    sent: list[dict[str, Any]] = heard(signals.refused, lambda: challenge.answer(request, MFA, UNMET))

    (context,) = rendered
    assert context["verdict"] == "ignored"
    assert context["reasons"] == [
        "amr: missing",
        "acr: missing",
        "the page still asks after a step-up that satisfied it",
    ]
    assert context["retry_url"] == "/oidc/authenticate/?next=%2Fa%2F%3Fb%3Dc&stepup=mfa&again=1"
    assert context["signed_in"] is True
    assert (sent[0]["user"], sent[0]["requirement"], sent[0]["request"]) == (ANNA, MFA, request)


def sent_by(answer: HttpResponse) -> dict[str, str]:
    assert answer.status_code == 302, answer.content
    return query(answer["Location"])


@pytest.mark.parametrize(
    ("unmet", "prompt"),
    [
        (UNMET, None),
        (STALE, "login"),
        (Decision((Unmet("amr", "stale"), Unmet("acr", "missing"))), "login"),
        (Decision((Unmet("amr", "time_unknown"),)), "login"),
    ],
)
def test_who_has_proved_it_too_long_ago_has_to_authenticate_anew(
    endpoint: str, unmet: Decision, prompt: str | None
) -> None:
    assert sent_by(challenge.answer(ask(user=ANNA), MFA, unmet)).get("prompt") == prompt


def test_an_authentication_request_says_all_that_it_has_to_and_no_more(endpoint: str, settings: Any) -> None:
    settings.OIDC_STATE_SIZE, settings.OIDC_NONCE_SIZE, settings.OIDC_PKCE_CODE_VERIFIER_SIZE = 25, 26, 50
    request = ask(user=ANNA)
    requirement = Requirement(
        name="mfa", amr=("mfa",), acr_values=("a", "b"), max_age=0, prompt="consent", params={"ui": "x"}
    )

    answer = challenge.authentication_request(request, requirement=requirement, next_url="/b/")

    sent = sent_by(answer)
    ((state, kept),) = request.session["stepup_pending"].items()
    verifier = kept.pop("pkce")
    assert sent == {
        "acr_values": "a b",
        "max_age": "0",
        "prompt": "consent",
        "ui": "x",
        "login_hint": "anna@harbour.example",
        "response_type": "code",
        "client_id": "site",
        "redirect_uri": "http://testserver/oidc/callback/",
        "state": state,
        "nonce": kept["nonce"],
        "code_challenge": b64(hashlib.sha256(verifier.encode()).digest()),
        "code_challenge_method": "S256",
        "scope": "openid email profile",
    }
    assert list(map(len, (state, kept.pop("nonce"), verifier))) == [25, 26, 50]
    assert kept == {"next": "/b/", "at": NOW, "user": "7", "need": {**requirement.to_mapping(), "name": "mfa"}}
    assert "no-store" in answer["Cache-Control"]


def test_a_sign_in_asks_for_nothing_but_that(endpoint: str, settings: Any) -> None:
    settings.STEPUP = {**settings.STEPUP, "AUDIENCE": "https://api.example/"}
    request = ask()
    sent = sent_by(challenge.authentication_request(request, requirement=None, next_url="https://evil.example/"))
    assert sent.keys() == {
        *("response_type", "client_id", "redirect_uri", "state", "nonce", "code_challenge"),
        *("code_challenge_method", "scope", "audience"),
    }
    assert sent["audience"] == "https://api.example/"
    (kept,) = request.session["stepup_pending"].values()
    assert (kept["next"], "user" in kept, "need" in kept) == ("/", False, False)


@pytest.mark.parametrize("prompt", ["", "select_account"])
def test_asking_again_is_asking_harder(endpoint: str, prompt: str) -> None:
    requirement = Requirement(amr=("mfa",), prompt=prompt or None)
    for again, expected in [(False, prompt or None), (True, "login")]:
        answer = challenge.authentication_request(ask(), requirement=requirement, next_url="/", again=again)
        assert sent_by(answer).get("prompt") == expected


@pytest.mark.parametrize(
    ("asked", "expected"),
    [
        ({"acr_values": ("a",), "acr": ("b",)}, {"acr": {"essential": True, "value": "a"}}),
        ({"acr": ("b", "c")}, {"acr": {"essential": True, "values": ["b", "c"]}}),
        ({"acr_values": ("a", "b"), "amr": ("mfa",)}, {"acr": {"essential": True, "values": ["a", "b"]}}),
        ({"claims": {"acrs": ("c1", "c2")}}, {"acrs": {"essential": True, "values": ["c1", "c2"]}}),
        ({"amr": ("mfa",)}, {}),
    ],
)
def test_an_essential_requirement_is_asked_for_claim_by_claim(
    endpoint: str, asked: dict[str, Any], expected: dict[str, Any]
) -> None:
    requirement = Requirement(**asked, essential=True)
    sent = sent_by(challenge.authentication_request(ask(), requirement=requirement, next_url="/"))
    assert sent.get("claims") == (json.dumps({"id_token": expected}, separators=(",", ":")) if expected else None)
    assert "acr_values" not in sent


@pytest.mark.parametrize(
    ("extra", "scopes", "sent"),
    [
        ({}, "email", "openid email"),
        ({}, "openidx", "openid openidx"),
        ({"scope": "phone"}, "email", "openid phone"),
        ({"scope": ""}, "openid email", "openid email"),
        ({"scope": None}, "openid email", "openid email"),
    ],
)
def test_the_scope_is_the_sites_with_openid(
    endpoint: str, settings: Any, extra: dict[str, Any], scopes: str, sent: str
) -> None:
    settings.OIDC_RP_SCOPES, settings.OIDC_AUTH_REQUEST_EXTRA_PARAMS = scopes, extra
    assert sent_by(challenge.authentication_request(ask(), requirement=None, next_url="/"))["scope"] == sent


@pytest.mark.parametrize(
    ("email", "id_token", "hints"),
    [
        ("a@b.example", None, {"login_hint": "a@b.example"}),
        ("", None, {}),
        ("a@b.example", "x" * 1500, {"id_token_hint": "x" * 1500}),
        ("a@b.example", "x" * 1501, {"login_hint": "a@b.example"}),
        ("a@b.example", "", {"login_hint": "a@b.example"}),
    ],
)
def test_who_is_expected_is_hinted(endpoint: str, email: str, id_token: str | None, hints: dict[str, str]) -> None:
    held = {} if id_token is None else {"oidc_id_token": id_token}
    for user in (User(pk=7, email=email), SimpleLazyObject(lambda: User(pk=7, email=email))):
        request = ask(user=user, held=held)
        sent = sent_by(challenge.authentication_request(request, requirement=None, next_url="/"))
        assert {name: value for name, value in sent.items() if name.endswith("_hint")} == hints
    request = ask(held=held)
    sent = sent_by(challenge.authentication_request(request, requirement=None, next_url="/"))
    assert not any(name.endswith("_hint") for name in sent), "nobody is expected"


class WithoutEmail:
    """A user of a site whose user model has no e-mail address."""

    pk = 7
    is_authenticated = True

    def get_email_field_name(self) -> str:
        return "email"


def test_who_has_no_email_address_is_not_hinted(endpoint: str) -> None:
    request = ask(user=WithoutEmail())
    assert "login_hint" not in sent_by(challenge.authentication_request(request, requirement=None, next_url="/"))


class Localized(AuthenticationRequestView):
    def get_extra_params(self, request: HttpRequest) -> dict[str, Any]:
        assert self.request is request
        return {"ui_locales": request.GET["b"]}


def test_a_view_of_the_sites_own_adds_parameters_by_what_the_request_is(endpoint: str, settings: Any) -> None:
    settings.OIDC_AUTHENTICATE_CLASS = "tests.test_edges.Localized"
    sent = sent_by(challenge.authentication_request(ask(), requirement=None, next_url="/"))
    assert sent["ui_locales"] == "c"


def test_where_the_view_is_none_of_ours_the_parameters_are_those_of_the_settings(endpoint: str, settings: Any) -> None:
    settings.OIDC_AUTH_REQUEST_EXTRA_PARAMS = {"ui_locales": "d"}
    for view in ("tests.test_edges.shown", "mozilla_django_oidc.views.OIDCAuthenticationRequestView"):
        settings.OIDC_AUTHENTICATE_CLASS = view
        sent = sent_by(challenge.authentication_request(ask(), requirement=None, next_url="/"))
        assert sent["ui_locales"] == "d"


def test_an_endpoint_with_a_query_keeps_it(settings: Any) -> None:
    settings.OIDC_OP_AUTHORIZATION_ENDPOINT = "https://op.example/authorize?tenant=t"
    sent = sent_by(challenge.authentication_request(ask(), requirement=None, next_url="/"))
    assert (sent["tenant"], sent["response_type"], sent["client_id"]) == ("t", "code", "site")
    assert all(name.isidentifier() for name in sent)


@pytest.mark.parametrize("pushes", [False, True])
@pytest.mark.parametrize("requirement", [None, MFA])
def test_where_the_provider_cannot_be_reached_the_page_says_so(
    settings: Any, rendered: list[dict[str, Any]], pushes: bool, requirement: Requirement | None
) -> None:
    settings.STEPUP = {**settings.STEPUP, "ISSUER": "http://127.0.0.1:9/", "PUSHED_REQUESTS": pushes}
    if pushes:
        settings.OIDC_OP_AUTHORIZATION_ENDPOINT = "http://127.0.0.1:9/authorize"
    request = ask(user=ANNA)
    answers: list[HttpResponse] = []

    (sent,) = heard(
        signals.refused,
        lambda: answers.append(
            challenge.authentication_request(request, requirement=requirement, next_url="/b/", again=True)
        ),
    )

    (context,) = rendered
    assert (answers[0].status_code, context["verdict"]) == (503, "unavailable")
    assert len(context["reasons"]) == 1
    assert context["reasons"][0].startswith("metadata: ")
    assert context["retry_url"] == "/oidc/authenticate/?next=%2Fb%2F" + ("&stepup=mfa" if requirement else "")
    assert (sent["user"], sent["requirement"], sent["request"]) == (ANNA, requirement, request)
    assert "stepup_pending" not in request.session


def test_a_step_up_url_names_what_the_settings_know_and_signs_the_rest() -> None:
    assert challenge.step_up_url(None, "/b/") == "/oidc/authenticate/?next=%2Fb%2F"
    assert challenge.step_up_url(MFA, "/b/", again=True) == "/oidc/authenticate/?next=%2Fb%2F&stepup=mfa&again=1"
    own = Requirement(name="own", acr=("urn:own",) * 20, max_age=60)
    url = challenge.step_up_url(own, "/b/")
    assert len(url) < 200, "it is compressed"
    back = challenge.requirement_from(RequestFactory().get(url))
    assert back == own
    assert back is not None
    assert back.name == "own"
    assert challenge.requirement_from(RequestFactory().get("/?stepup=sudo")) is conf.current().requirements["sudo"]
    assert challenge.requirement_from(RequestFactory().get("/")) is None


def test_a_step_up_url_uses_the_sites_own_word_for_next(settings: Any) -> None:
    settings.OIDC_REDIRECT_FIELD_NAME = "then"
    assert challenge.step_up_url(None, "/b/") == "/oidc/authenticate/?then=%2Fb%2F"


@pytest.mark.parametrize(
    "text", ["", "unknown", signing.dumps({"amr": ["pwd"], "name": ""})], ids=["empty", "unknown", "signed"]
)
def test_a_requirement_that_was_signed_for_something_else_is_unknown(text: str) -> None:
    with pytest.raises(ValueError, match=r"^unknown requirement$"):
        challenge.requirement_from(RequestFactory().get("/", {"stepup": text}))


@pytest.mark.parametrize(
    ("url", "changes", "is_secure", "is_kept"),
    [
        ("/" + "x" * 1999, {}, False, True),
        ("/" + "x" * 2000, {}, False, False),
        (None, {}, False, False),
        ("", {}, False, False),
        ("/\x00", {}, False, False),
        ("http://testserver/", {}, False, True),
        ("https://testserver/", {}, False, True),
        ("http://testserver/", {}, True, False),
        ("http://testserver/", {"OIDC_REDIRECT_REQUIRE_HTTPS": True}, False, False),
        ("http://testserver/", {"OIDC_REDIRECT_REQUIRE_HTTPS": False}, True, True),
        ("https://b.example/", {"OIDC_REDIRECT_ALLOWED_HOSTS": ["a.example", "b.example"]}, True, True),
        ("https://c.example/", {"OIDC_REDIRECT_ALLOWED_HOSTS": ["a.example", "b.example"]}, True, False),
    ],
    ids=count(),
)
def test_where_a_sign_in_leads_to(
    settings: Any, url: str | None, changes: dict[str, Any], is_secure: bool, is_kept: bool
) -> None:
    settings.LOGIN_REDIRECT_URL = "open"
    for name, value in changes.items():
        setattr(settings, name, value)
    request = RequestFactory().get("/", secure=is_secure)
    assert challenge.safe_next(request, url) == (url if is_kept else "/open/")


# Where the answer leads back to


def sent_form(**headers: Any) -> Any:
    """A form that Anna sends, which Django's CSRF check has passed."""
    request = ask(user=ANNA, method="POST", **headers)
    request.resolver_match, request.csrf_processing_done = ResolverMatch(shown, (), {}), True
    return request


def form_kept_of(request: Any) -> kept.Form:
    """The only form that was kept of a request, as its page finds it."""
    (name,) = request.session["stepup_forms"]
    (sent,) = request.session["stepup_pending"].values()
    assert sent["next"] == f"/oidc/authenticate/?kept={name}"
    form = kept.to_show(ask(sent["next"], user=ANNA, held=dict(request.session.items())))
    assert isinstance(form, kept.Form)
    return form


@pytest.mark.parametrize(
    ("headers", "back"),
    [({"Referer": "/page/"}, "/page/"), ({"Referer": "https://evil.example/"}, "/"), ({}, "/a/?b=c")],
)
def test_a_form_waits_for_what_is_demanded_of_what_is_sent_and_the_answer_leads_to_its_page(
    db: None, endpoint: str, headers: dict[str, str], back: str
) -> None:
    requirement = Requirement(name="form", amr=("mfa",), max_age=60, submit_max_age=600)
    request = sent_form(**headers)
    assert challenge.answer(request, requirement, STALE).status_code == 303, "or it would be repeated at the OP"
    (sent,) = request.session["stepup_pending"].values()
    assert sent["need"] == {"amr": ["mfa"], "max_age": 600, "name": "form"}
    form = form_kept_of(request)
    assert (form.requirement, form.path, form.back) == (requirement.for_submission(), "/a/?b=c", back)


def test_a_form_waits_for_a_sign_in_alone_where_nothing_else_is_required(db: None, endpoint: str) -> None:
    request = sent_form()
    assert challenge.sign_in_anew(request).status_code == 303
    assert form_kept_of(request).requirement is None
    (sent,) = request.session["stepup_pending"].values()
    assert "need" not in sent


def test_who_signs_in_anew_comes_back_to_the_page_and_a_script_is_told_where(endpoint: str) -> None:
    request = ask(user=ANNA)
    assert "acr_values" not in sent_by(challenge.sign_in_anew(request))
    (sent,) = request.session["stepup_pending"].values()
    assert sent["next"] == "/a/?b=c"
    answer = challenge.sign_in_anew(ask(user=ANNA, Accept="application/json", Referer="/page/"))
    assert answer.status_code == 401
    assert json.loads(answer.content) == {
        "error": "login_required",
        "requirement": "",
        "step_up_url": "/oidc/authenticate/?next=%2Fpage%2F",
    }
    htmx = challenge.sign_in_anew(ask(user=ANNA, HX_Request="true", HX_Current_URL="/page/"))
    assert (htmx.status_code, htmx["HX-Redirect"]) == (401, "/oidc/authenticate/?next=%2Fpage%2F")


@pytest.mark.parametrize("path", ["//evil.example/", "/" + "x" * 2000])
def test_a_form_at_an_address_that_nobody_is_sent_back_to_is_not_kept(
    rendered: list[dict[str, Any]], path: str
) -> None:
    request = sent_form(Referer="/page/")
    request.path_info = request.path = path
    request.META["QUERY_STRING"] = ""
    assert challenge.answer(request, MFA, UNMET).status_code == 403
    (context,) = rendered
    assert context["why"] == "It could not be kept until you have done so."
    assert context["step_up_url"] == TO_A
    assert "stepup_forms" not in request.session


def former_form() -> kept.Form:
    return kept.Form(
        id="x", requirement=None, path="/a/?b=c", content_type="text/plain", referer="", back="/page/", by_itself=True,
        host="testserver", shown={}, body=b"",
    )  # fmt: skip


@pytest.mark.parametrize("headers", [{"Accept": "application/json"}, {"HX_Request": "true"}])
def test_a_form_that_a_script_has_sent_in_vain_is_kept_again(db: None, endpoint: str, headers: dict[str, str]) -> None:
    requirement = Requirement(name="form", amr=("mfa",), max_age=60, submit_max_age=600)
    request = sent_form(Referer="/page/", **headers)
    request._stepup_kept = former_form()
    answer = challenge.answer(request, requirement, STALE)
    assert answer.status_code == 401
    url = answer["HX-Redirect"] if "HX_Request" in headers else json.loads(answer.content)["step_up_url"]
    assert request.session["stepup_forms"].keys() == {"x"}
    assert query(url)["next"] == "/oidc/authenticate/?kept=x"
    assert challenge.requirement_from(RequestFactory().get(url)) == requirement.for_submission()


def test_a_script_is_led_to_what_the_page_demands_that_it_comes_back_to(db: None, endpoint: str) -> None:
    requirement = Requirement(name="form", amr=("mfa",), max_age=60, submit_max_age=600)
    for method in ("GET", "POST"):
        answer = challenge.answer(ask(user=ANNA, method=method, Accept="application/json"), requirement, STALE)
        url = json.loads(answer.content)["step_up_url"]
        assert challenge.requirement_from(RequestFactory().get(url)) == requirement
    request = sent_form(Accept="application/json")
    request._stepup_kept = former_form()
    assert challenge.sign_in_anew(request).status_code == 401


def test_what_stands_for_a_form_leads_to_the_page_of_the_form(endpoint: str) -> None:
    request = ask("/a/?stepup_kept=x", user=ANNA, method="POST")
    assert challenge.answer(request, MFA, UNMET).status_code == 303
    (sent,) = request.session["stepup_pending"].values()
    assert sent["next"] == "/oidc/authenticate/?kept=x"
    assert "stepup_forms" not in request.session


@pytest.mark.parametrize(
    ("method", "headers", "kind", "is_page"),
    [
        ("GET", {}, "page", False),
        ("GET", {"Accept": "text/html"}, "page", True),
        ("GET", {"Accept": "*/*"}, "page", False),
        ("GET", {"Sec_Fetch_Mode": "navigate"}, "page", True),
        ("GET", {"Sec_Fetch_Mode": "navigate", "Sec_Fetch_Dest": "document"}, "page", True),
        ("GET", {"Sec_Fetch_Mode": "navigate", "Sec_Fetch_Dest": "iframe", "Accept": "text/html"}, "page", False),
        ("GET", {"Sec_Fetch_Mode": "cors", "Accept": "text/html"}, "script", False),
        ("GET", {"HX_Request": "true", "Accept": "text/html"}, "htmx", False),
        ("HEAD", {"Accept": "text/html"}, "script", False),
        ("POST", {"Accept": "text/html"}, "form", False),
        ("POST", {"Sec_Fetch_Mode": "navigate", "Sec_Fetch_Dest": "document"}, "form", False),
    ],
)
def test_only_what_is_a_page_for_certain_is_taken_for_one(
    method: str, headers: dict[str, Any], kind: str, is_page: bool
) -> None:
    assert challenge.kind_of(ask(method=method, **headers)) == kind
    assert challenge.is_page(ask(method=method, **headers)) is is_page


@pytest.mark.parametrize(
    ("url", "path"),
    [
        ("/a/?b", "/a/?b"),
        ("http://testserver/a/?b", "/a/?b"),
        ("http://testserver", "/"),
        ("https://testserver/a/", "https://testserver/a/"),
        ("http://other.example/a/", "http://other.example/a/"),
    ],
)
def test_an_address_of_this_site_is_its_path(url: str, path: str) -> None:
    assert challenge.path_of(ask(), url) == path


# Several at once, in vain, and without the person


def test_of_several_requirements_only_those_that_are_not_there_are_asked_for(endpoint: str) -> None:
    strict = Requirement(name="strict", acr=("s",), acr_values=("s", "a"), max_age=60, params={"p": "1"}, prompt="x y")
    loose = Requirement(name="loose", amr=("mfa",), acr_values=("a", "b"), max_age=90, params={"q": "2"}, prompt="y z")
    together = Requirement.all_of(strict, loose, Requirement(name="timeless", amr=("hwk",)))

    def asked_for(again: bool = False, **proofs: Any) -> dict[str, str]:
        request = ask(user=ANNA, held={"stepup": {**PROVED, "proofs": proofs}})
        sent = sent_by(challenge.authentication_request(request, requirement=together, next_url="/", again=again))
        (pending_,) = request.session["stepup_pending"].values()
        assert len(pending_["need"]) == 3, "the answer has to prove all of it all the same"
        return {key: sent[key] for key in ("acr_values", "max_age", "prompt", "p", "q") if key in sent}

    everything = {"acr_values": "s a b", "max_age": "60", "prompt": "x y z", "p": "1", "q": "2"}
    assert asked_for() == everything
    assert asked_for(again=True) == {**everything, "prompt": "login"}
    assert asked_for(acr={"s": NOW}) == {"acr_values": "a b", "max_age": "90", "prompt": "y z", "q": "2"}
    assert asked_for(acr={"s": NOW}, amr={"mfa": NOW}) == {}
    assert asked_for(acr={"s": NOW}, amr={"mfa": NOW, "hwk": NOW}) == everything, "all there: once more, then"


def test_what_several_ask_for_as_essential_claims_is_asked_for_in_one(endpoint: str) -> None:
    together = Requirement.all_of(
        Requirement(acr=("a",), claims={"c": ("1",)}, essential=True),
        Requirement(acr=("b", "a"), acr_values=("b", "a"), claims={"d": ("2",)}, essential=True),
        Requirement(amr=("mfa",), acr_values=("v",)),
    )
    sent = sent_by(challenge.authentication_request(ask(), requirement=together, next_url="/"))
    assert json.loads(sent["claims"]) == {
        "id_token": {
            "acr": {"essential": True, "values": ["a", "b"]},
            "c": {"essential": True, "value": "1"},
            "d": {"essential": True, "value": "2"},
        }
    }
    assert sent["acr_values"] == "v"


def test_who_has_tried_too_often_is_told_so_and_not_sent_to_the_provider(
    endpoint: str, rendered: list[dict[str, Any]]
) -> None:
    request, answers = ask(user=ANNA), []
    for _ in range(4):
        assert challenge.seconds_to_wait(request, MFA) == 0
        session.note_attempt(request, MFA, conf.current(), now=NOW - 100)
    assert 499 < challenge.seconds_to_wait(request, MFA) <= 500
    assert challenge.seconds_to_wait(request, None) == 0

    def try_it() -> None:
        answers.append(challenge.authentication_request(request, requirement=MFA, next_url="/b/"))

    (sent,) = heard(signals.refused, try_it)
    assert answers[0].status_code == 429
    assert int(answers[0]["Retry-After"]) in (499, 500)
    assert (rendered[0]["verdict"], rendered[0]["wait_minutes"]) == ("exhausted", 9)
    assert (sent["user"], sent["requirement"], sent["request"]) == (ANNA, MFA, request)
    assert "stepup_pending" not in request.session
    assert challenge.authentication_request(request, requirement=None, next_url="/b/").status_code == 302


def test_a_page_that_asks_on_after_it_was_satisfied_offers_so_many_tries_and_then_none(
    endpoint: str, rendered: list[dict[str, Any]]
) -> None:
    request = ask(user=ANNA)
    session.settle(request, MFA, "/a/?b=c", now=NOW, since=NOW)
    for _ in range(4):
        challenge.answer(request, MFA, UNMET)
    assert [bool(context["retry_url"]) for context in rendered] == [True, True, True, False]
    assert rendered[-1]["wait_minutes"] == 10
    session.forget_attempts(request, MFA)
    assert challenge.seconds_to_wait(request, MFA) > 0, "that the OP satisfies it once more changes nothing"


@pytest.mark.parametrize(("read", "is_settled"), [(60, True), (121, False)])
def test_what_was_settled_for_a_form_is_looked_for_as_long_as_it_may_be_read(
    db: None, rendered: list[dict[str, Any]], read: int, is_settled: bool
) -> None:
    requirement = Requirement(name="form", amr=("mfa",), max_age=60, submit_max_age=600)
    request = ask("/a/?stepup_kept=x", user=ANNA, method="POST")
    request._stepup_kept = former_form()
    session.settle(request, requirement.for_submission(), former_form().url, now=NOW - read, since=NOW - read)
    challenge.answer(request, requirement, UNMET)
    assert (rendered[-1]["verdict"] == "ignored") is is_settled
    retry = rendered[-1]["retry_url"]
    assert query(retry)["next"] == "/oidc/authenticate/?kept=x"
    assert challenge.requirement_from(RequestFactory().get(retry)) == requirement.for_submission()


def test_a_request_without_the_person_says_so_and_where_it_cannot_be_sent_it_is_for_the_caller_to_see(
    endpoint: str, settings: Any
) -> None:
    request = ask(user=ANNA)
    answer = challenge.authentication_request(request, requirement=None, next_url="/b/", silent=True)
    assert sent_by(answer)["prompt"] == "none"
    (sent,) = request.session["stepup_pending"].values()
    assert sent["silent"] is True
    settings.STEPUP = {**settings.STEPUP, "ISSUER": "http://127.0.0.1:9/", "PUSHED_REQUESTS": True}
    with pytest.raises(ProviderError):
        challenge.authentication_request(request, requirement=None, next_url="/b/", silent=True)
    del settings.OIDC_OP_AUTHORIZATION_ENDPOINT
    with pytest.raises(ProviderError):
        challenge.authentication_request(request, requirement=None, next_url="/b/", silent=True)


def test_who_has_no_session_any_more_is_sent_round_once_instead_of_to_the_provider(db: None, endpoint: str) -> None:
    request = ask(user=ANNA)
    request.session.create()
    request.session.modified = False
    request.session.delete(request.session.session_key)
    answer = challenge.authentication_request(request, requirement=None, next_url="/b/")
    assert (answer.status_code, answer["Location"]) == (302, "/b/")


# Pages of the site's own

OWN = Requirement(name="own", amr=("otp",), step_up_url="/own/")


@pytest.mark.parametrize(
    ("page", "there"), [("/own/", "/own/?next="), ("/own/?x=y", "/own/?x=y&next="), ("open", "/open/?next=")]
)
def test_what_is_proved_on_a_page_of_the_sites_own_leads_there_and_back(page: str, there: str) -> None:
    requirement = dataclasses.replace(OWN, step_up_url=page)
    for back in ("/b/?c", "http://testserver/b/?c"):
        request = ask(user=ANNA)
        answer = challenge.authentication_request(request, requirement=requirement, next_url=back)
        assert answer["Location"] == there + quote(back, "")
        assert (answer.status_code, "no-store" in answer["Cache-Control"]) == (302, True)
        assert request.session["stepup_way"]["next"] == "/b/?c"
        assert "stepup_pending" not in request.session
    form = ask(user=ANNA, method="POST")
    answer = challenge.authentication_request(form, requirement=requirement, next_url="https://evil.example/")
    assert answer.status_code == 303
    assert form.session["stepup_way"]["next"] == "/"


def test_of_several_what_one_page_of_the_sites_own_proves_is_proved_there_first(endpoint: str) -> None:
    second = Requirement(name="second", amr=("pin",), step_up_url="/own/")
    elsewhere = Requirement(name="elsewhere", amr=("sms",), step_up_url="/sms/")
    together = Requirement.all_of(MFA, OWN, elsewhere, second)
    for methods, where in [((), "/own/?"), (("otp", "pin"), "/sms/?"), (("otp", "pin", "sms"), f"{endpoint}?")]:
        held = {"stepup": {**PROVED, "proofs": {"amr": dict.fromkeys(methods, NOW)}}}
        request = ask(user=ANNA, held=held)
        answer = challenge.authentication_request(request, requirement=together, next_url="/b/")
        assert answer["Location"].startswith(where)
        if not methods:
            assert [part["name"] for part in request.session["stepup_way"]["need"]] == ["own", "second"]


@pytest.mark.parametrize(
    ("page", "path", "reason"),
    [
        ("no-such-page", "/a/", "step_up_url: no such page"),
        ("/a/", "/a/", "step_up_url: the page asks for what is to be proved there"),
        ("/a/?x", "/a/?y", "step_up_url: the page asks for what is to be proved there"),
        ("/own/", "/a/", "step_up_url: leads back without a statement that satisfies it"),
    ],
)
def test_a_page_of_the_sites_own_that_leads_nowhere_is_said_to(
    rendered: list[dict[str, Any]], page: str, path: str, reason: str
) -> None:
    requirement, request = dataclasses.replace(OWN, name="", step_up_url=page), ask(path, user=ANNA)
    for _ in range(5 if page == "/own/" else 0):
        assert session.may_go(request, requirement, "/b/", conf.current(), now=NOW)
    (sent,) = heard(
        signals.refused,
        lambda: challenge.authentication_request(request, requirement=requirement, next_url="/b/"),
    )
    (context,) = rendered
    assert (context["verdict"], context["reasons"], context["signed_in"]) == ("ignored", [reason], True)
    assert context["retry_url"] == challenge.step_up_url(requirement, "/b/")
    assert (sent["user"], sent["requirement"], sent["request"]) == (ANNA, requirement, request)
