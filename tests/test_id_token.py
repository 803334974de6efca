"""Hostile ID tokens, really signed: each row of what must be resisted (OpenID Connect Core 3.1.3.7, RFC 8725)."""

from __future__ import annotations

import json
import math
import socket
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from cryptography.exceptions import UnsupportedAlgorithm
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from stepup.exceptions import ClaimError
from stepup.id_token import MAX_DEPTH, Key, KeySet, UnknownKey, parse_json, verify, verify_userinfo
from tests import tokens
from tests.tokens import ABSENT, CLIENT_ID, CLIENT_SECRET, ISSUER, KEYS, SUBJECT, b64, jwks, sign

NOW = 1_700_000_000
LEEWAY = 30


def claims(**overrides: Any) -> dict[str, Any]:
    return tokens.claims(at=NOW, **overrides)


def with_raw(**members: str) -> str:
    """The good claims as JSON text, with members whose values are JSON text as it stands."""
    good = {name: json.dumps(value) for name, value in claims().items() if name not in members}
    return "{" + ", ".join(f'"{name}": {value}' for name, value in {**good, **members}.items()) + "}"


def accept(token: object, keys: KeySet | None = None, **changes: Any) -> dict[str, Any]:
    expected = {
        "algorithms": frozenset({"RS256", "ES256"}),
        "issuer": ISSUER,
        "audiences": frozenset({CLIENT_ID}),
        "now": NOW,
        "leeway": LEEWAY,
        **changes,
    }
    return verify(token, KeySet.from_jwks(jwks(KEYS["rsa"])) if keys is None else keys, **expected)


def refuse(token: object, keys: KeySet | None = None, **changes: Any) -> str:
    """Why it is refused; and not as one that newer keys could verify."""
    with pytest.raises(ClaimError) as caught:
        accept(token, keys, **changes)
    assert type(caught.value) is ClaimError
    return str(caught.value)


def from_jwks(*listed: Any) -> KeySet:
    return KeySet.from_jwks(jwks(*listed))


def is_unknown_key(token: str, keys: KeySet, **changes: Any) -> bool:
    with pytest.raises(ClaimError) as caught:
        accept(token, keys, **changes)
    return type(caught.value) is UnknownKey


def test_a_good_token_is_its_claims() -> None:
    assert accept(sign(claims(amr=["mfa"], anything={"else": [1.5, None]}))) == claims(
        amr=["mfa"], anything={"else": [1.5, None]}
    )


# The algorithm


@pytest.mark.parametrize(
    "alg", ["none", "None", "NONE", "nOnE", "", " ", "rs256", "RS256 ", "RS1", "HS256", "RSA-OAEP"]
)
@pytest.mark.parametrize("with_signature", [True, False])
def test_an_algorithm_that_is_not_configured_is_refused(alg: str, with_signature: bool) -> None:
    signing_input, _, signature = sign(claims(), header={"alg": alg}).rpartition(".")
    expected = "alg: not allowed" if with_signature else "signature: missing"
    assert refuse(f"{signing_input}.{signature if with_signature else ''}") == expected


@pytest.mark.parametrize("alg", ["none", "None", "NONE", "RS1", "ES256K"])
def test_none_and_unknown_algorithms_are_refused_though_somebody_configured_them(alg: str) -> None:
    assert refuse(sign(claims(), header={"alg": alg}), algorithms=[alg]) == "alg: not allowed"


@pytest.mark.parametrize("alg", [["RS256"], {"RS256": 1}, 256, None, True])
def test_an_algorithm_that_is_no_string_is_refused(alg: object) -> None:
    assert refuse(sign(claims(), header={"alg": alg})) == "alg: not allowed"


def test_a_header_without_an_algorithm_is_refused() -> None:
    assert refuse(sign(claims(), header={"alg": ABSENT})) == "alg: missing"


def test_an_empty_signature_is_refused() -> None:
    assert refuse(sign(claims()).rpartition(".")[0] + ".") == "signature: missing"


# Keys that are not used


RSA_UNUSABLE: dict[str, dict[str, Any]] = {
    "for encryption": {"use": "enc"},
    "for something else": {"use": "SIG"},
    "for two uses": {"use": ["sig"]},
    "for no use": {"use": None},
    "to sign with": {"key_ops": ["sign"]},
    "for no operation": {"key_ops": []},
    "with operations as a string": {"key_ops": "verify"},
    "with operations as an object": {"key_ops": {"verify": 1}},
    "of another algorithm": {"alg": "RS512"},
    "of another family": {"alg": "PS256"},
    "of an encryption algorithm": {"alg": "RSA-OAEP"},
    "of a list of algorithms": {"alg": ["RS256"]},
    "of no algorithm": {"alg": None},
    "with a number for a name": {"kid": 5},
    "with its private part": {"d": "AQAB"},
    "with an empty private part": {"d": None},
    "of an unknown type": {"kty": "rsa"},
    "of two types": {"kty": ["RSA"]},
    "of another type": {"kty": "EC"},
    "without a type": {"kty": ABSENT},
    "symmetric": {"kty": "oct", "k": "AAAA"},
    "without a modulus": {"n": ABSENT},
    "with a modulus that is a number": {"n": 5},
    "with a modulus that is no base64": {"n": "é"},
    "with an exponent of one": {"e": "AQ"},
    "with an even exponent": {"e": "Ag"},
    "with an empty exponent": {"e": ""},
    "with a huge exponent": {"e": "_" * 2000},
}


@pytest.mark.parametrize("members", RSA_UNUSABLE.values(), ids=RSA_UNUSABLE)
def test_a_key_that_is_not_for_this_is_not_used(members: dict[str, Any]) -> None:
    keys = from_jwks(KEYS["rsa"].jwk(**members))
    assert keys.that_fit("RS256", None) == ()
    assert is_unknown_key(sign(claims()), keys)


@pytest.mark.parametrize(
    "jwk",
    [
        None,
        "RSA",
        ["RSA"],
        {},
        {"kty": "RSA"},
        {"kty": "EC"},
        {"kty": "OKP"},
        {"kty": "EC", "crv": ["P-256"], "x": "AA", "y": "AA"},
        {"kty": "EC", "crv": "P-256", "x": b64(b"\x01" * 32), "y": b64(b"\x01" * 32)},
        {"kty": "EC", "crv": "P-256", "x": "AA", "y": "AA"},
        {"kty": "OKP", "crv": "X25519", "x": b64(b"\x01" * 32)},
        {"kty": "OKP", "crv": "Ed25519", "x": "AA"},
        {"kty": "OKP", "crv": None, "x": None},
        {"kty": "oct", "k": b64(CLIENT_SECRET)},
        {"kty": "oct", "k": b64(CLIENT_SECRET), "alg": "HS256", "use": "sig", "key_ops": ["verify"]},
    ],
    ids=str,
)
def test_what_is_no_public_key_for_signatures_does_no_harm_among_those_that_are(jwk: Any) -> None:
    keys = KeySet.from_jwks({"keys": [jwk, KEYS["rsa"].jwk(), jwk]})
    assert [key.kid for key in keys.keys] == [KEYS["rsa"].kid]
    assert accept(sign(claims()), keys)


def test_a_kind_of_key_that_this_machine_must_not_use_is_not_used(monkeypatch: pytest.MonkeyPatch) -> None:
    """As under FIPS 140, by which cryptography refuses some curves."""

    class Refused:
        def __getattr__(self, name: str) -> Any:
            raise UnsupportedAlgorithm("not with this OpenSSL")

    monkeypatch.setattr("jwt.algorithms.Ed25519PublicKey", Refused())
    keys = from_jwks(KEYS["ed25519"], KEYS["rsa"])
    assert [key.kid for key in keys.keys] == [KEYS["rsa"].kid]


@pytest.mark.parametrize("alg", ["HS256", "HS384", "HS512"])
def test_a_symmetric_key_in_a_jwks_verifies_nothing(alg: str) -> None:
    published = {"kty": "oct", "k": b64(CLIENT_SECRET), "alg": alg, "kid": "published"}
    token = sign(claims(), alg, header={"kid": "published"})
    assert refuse(token, from_jwks(published), algorithms=[alg]) == "alg: client secret too short"


def test_an_rsa_key_under_2048_bits_is_not_used() -> None:
    weak = KEYS["rsa_1024"]
    assert from_jwks(weak).keys == ()
    assert is_unknown_key(sign(claims(), key=weak), from_jwks(weak))
    with pytest.raises(ValueError, match="may verify"):
        KeySet.from_pem(weak.pem)


@pytest.mark.parametrize(
    "members",
    [
        {"use": ABSENT},
        {"key_ops": ["verify"]},
        {"key_ops": ["sign", "verify"], "use": ABSENT},
        {"alg": "RS256"},
        {"unknown": "member"},
    ],
)
def test_a_key_is_used_where_nothing_it_says_is_against_it(members: dict[str, Any]) -> None:
    assert accept(sign(claims()), from_jwks(KEYS["rsa"].jwk(**members)))


@pytest.mark.parametrize("jwks", [None, [], "keys", {}, {"keys": None}, {"keys": {}}, {"keys": "x"}, 5])
def test_what_is_no_jwks_document_is_an_error(jwks: object) -> None:
    with pytest.raises(ValueError, match="not a JWKS"):
        KeySet.from_jwks(jwks)


def test_a_jwks_of_any_size_is_read_as_far_as_any_op_needs() -> None:
    filling = [KEYS["p256"].jwk(kid=f"other-{n}") for n in range(100)]
    assert accept(sign(claims()), from_jwks(*filling[:99], KEYS["rsa"]))
    assert is_unknown_key(sign(claims()), from_jwks(*filling, KEYS["rsa"]))


@pytest.mark.parametrize(
    "pem",
    ["", "junk", b"\xff", "-----BEGIN PUBLIC KEY-----\nAAAA\n-----END PUBLIC KEY-----\n"],
)
def test_what_is_no_public_key_in_pem_is_an_error(pem: str | bytes) -> None:
    with pytest.raises(ValueError, match=r".+"):
        KeySet.from_pem(pem)


def test_a_key_in_pem_of_a_kind_that_is_not_supported_is_an_error_like_any_other() -> None:
    # A public key on the curve SM2, which cryptography does not have.
    pem = """-----BEGIN PUBLIC KEY-----
MFkwEwYHKoZIzj0CAQYIKoEcz1UBgi0DQgAEkqGVi4qTx/W7eUVufAA8hKpQsbi1
OzDwlX+nlyt2oJICfYzI5l5rnnQFbYcCHWy5Ns/wNaQnMjKAf1SrN0lytw==
-----END PUBLIC KEY-----
"""
    with pytest.raises(ValueError, match=r".+"):
        KeySet.from_pem(pem)


@pytest.mark.parametrize("form", [bytes, bytes.decode])
def test_a_key_in_pem_verifies(form: Any) -> None:
    keys = KeySet.from_pem(form(KEYS["p256"].pem))
    assert accept(sign(claims(), "ES256", header={"kid": ABSENT}), keys) == claims()


def test_a_key_that_was_configured_without_a_name_verifies_tokens_that_name_theirs() -> None:
    # OIDC_RP_IDP_SIGN_KEY is one key, which has no name; nearly every OP names the key in its tokens.
    assert accept(sign(claims(), header={"kid": "the-op's-name-for-it"}), KeySet.from_pem(KEYS["rsa"].pem))


@pytest.mark.parametrize("form", ["PEM", "bytes", "JWK"])
def test_a_key_that_a_setting_gives_verifies_in_each_form(form: str) -> None:
    key = KEYS["rsa"]
    keys = KeySet.from_setting({"PEM": key.pem.decode(), "bytes": key.pem, "JWK": key.jwk()}[form])
    assert accept(sign(claims()), keys)


@pytest.mark.parametrize("junk", ["", "junk", b"\xff", 5, ["x"], object()])
def test_a_setting_that_is_no_key_is_an_error(junk: Any) -> None:
    with pytest.raises((TypeError, ValueError)):
        KeySet.from_setting(junk)


def test_a_key_of_which_the_wrong_algorithms_are_said_verifies_nothing() -> None:
    keys = KeySet((Key(KEYS["p256"].private.public_key(), frozenset({"RS256"}), KEYS["rsa"].kid),))
    assert refuse(sign(claims()), keys) == "signature: mismatch"


# Which key


def test_two_keys_of_one_name_are_both_tried() -> None:
    other = KEYS["other_rsa"].jwk(kid=KEYS["rsa"].kid)
    elliptic = KEYS["p256"].jwk(kid=KEYS["rsa"].kid)
    for keys in (from_jwks(other, elliptic, KEYS["rsa"]), from_jwks(KEYS["rsa"], other)):
        assert accept(sign(claims()), keys)
        assert accept(sign(claims(), key=KEYS["other_rsa"], header={"kid": KEYS["rsa"].kid}), from_jwks(other))


@pytest.mark.parametrize("others", [[], ["other_rsa"], ["p256", "other_rsa", "ed25519"]])
def test_without_a_name_each_key_that_fits_is_tried(others: list[str]) -> None:
    keys = from_jwks(*(KEYS[name] for name in others), KEYS["rsa"])
    assert accept(sign(claims(), header={"kid": ABSENT}), keys)


def test_no_more_than_twenty_keys_are_tried() -> None:
    token = sign(claims(), header={"kid": ABSENT})
    wrong = [KEYS["other_rsa"].jwk(kid=str(n)) for n in range(20)]
    assert accept(token, from_jwks(*wrong[:19], KEYS["rsa"]))
    assert is_unknown_key(token, from_jwks(*wrong, KEYS["rsa"]))


def test_a_name_picks_the_key_that_has_it_and_no_other() -> None:
    keys = from_jwks(KEYS["rsa"], KEYS["other_rsa"])
    misnamed = sign(claims(), header={"kid": KEYS["other_rsa"].kid})
    assert refuse(misnamed, keys) == "signature: mismatch"
    assert accept(misnamed, keys, match_kid=False)


@pytest.mark.parametrize("kid", [5, True, ["key-rsa"], {"key-rsa": 1}])
def test_a_name_that_is_no_string_is_refused(kid: object) -> None:
    assert refuse(sign(claims(), header={"kid": kid})) == "kid: malformed"


@pytest.mark.parametrize("kid", ["", "unknown", "../../etc/passwd", "KEY-RSA", "' OR 1=1 --", ABSENT])
def test_where_no_key_verifies_a_newer_set_of_keys_might(kid: Any) -> None:
    assert is_unknown_key(sign(claims(), key=KEYS["other_rsa"], header={"kid": kid}), from_jwks(KEYS["rsa"]))


def test_a_key_without_a_name_that_does_not_verify_is_no_reason_not_to_ask_for_newer_ones() -> None:
    # Or else an OP that names its keys in tokens but not in its JWKS could not change them.
    token = sign(claims(), key=KEYS["other_rsa"])
    assert is_unknown_key(token, from_jwks(KEYS["rsa"].jwk(kid=ABSENT)))
    assert accept(token, from_jwks(KEYS["other_rsa"].jwk(kid=ABSENT)))


def test_without_any_key_a_newer_set_of_keys_might_do() -> None:
    assert is_unknown_key(sign(claims()), KeySet())


def test_a_wrong_signature_for_a_key_that_is_known_is_not_asked_about_again() -> None:
    forged = sign(claims(), key=KEYS["other_rsa"], header={"kid": KEYS["rsa"].kid})
    assert refuse(forged) == "signature: mismatch"
    assert is_unknown_key(forged, from_jwks(KEYS["rsa"]), match_kid=False)


def test_a_wrong_signature_with_the_client_secret_is_not_asked_about_again() -> None:
    keys = KeySet.from_secret(CLIENT_SECRET)
    forged = sign(claims(), "HS256", key="x" * 32, header={"kid": "unknown"})
    assert refuse(forged, keys, algorithms=["HS256"]) == "signature: mismatch"
    assert accept(sign(claims(), "HS256", header={"kid": "unknown"}), keys, algorithms=["HS256"])


def test_the_client_secret_is_not_shown_by_its_key() -> None:
    assert CLIENT_SECRET not in repr(KeySet.from_secret(CLIENT_SECRET))


# The header


@pytest.fixture
def listener() -> Iterator[socket.socket]:
    with socket.create_server(("127.0.0.1", 0)) as server:
        server.settimeout(0.05)
        yield server


@pytest.mark.parametrize("parameter", ["jwk", "jku", "x5u", "x5c"])
@pytest.mark.parametrize("kid", [ABSENT, "attacker"])
def test_a_key_that_the_token_brings_or_points_to_is_ignored(parameter: str, kid: Any, listener: socket.socket) -> None:
    attacker = KEYS["other_rsa"]
    url = f"http://127.0.0.1:{listener.getsockname()[1]}/jwks"
    header = {"jwk": attacker.jwk(), "jku": url, "x5u": url, "x5c": [attacker.der.hex()]}
    forged = sign(claims(), key=attacker, header={"kid": kid, parameter: header[parameter]})
    assert is_unknown_key(forged, from_jwks(KEYS["rsa"]))
    assert accept(sign(claims(), header={parameter: header[parameter]})) == claims()
    with pytest.raises(TimeoutError):
        listener.accept()


@pytest.mark.parametrize(
    "header",
    [
        {"crit": ["exp"], "exp": NOW},
        {"crit": ["http://op.example/ext"]},
        {"crit": []},
        {"crit": None},
        {"crit": ["b64"], "b64": False},
        {"b64": False},
        {"b64": True},
    ],
    ids=str,
)
def test_an_extension_that_must_be_understood_is_refused(header: dict[str, Any]) -> None:
    assert refuse(sign(claims(), header=header)) == "crit: not supported"


@pytest.mark.parametrize(
    "typ", ["at+jwt", "AT+JWT", "application/at+jwt", "logout+jwt", "dpop+jwt", "+jwt", None, 5, ["JWT"], {}]
)
def test_a_token_that_says_it_is_no_id_token_is_refused(typ: object) -> None:
    assert refuse(sign(claims(), header={"typ": typ})) == "typ: not an ID token"


@pytest.mark.parametrize("typ", [ABSENT, "JWT", "jwt", "JOSE"])
def test_an_id_token_need_not_say_that_it_is_one(typ: Any) -> None:
    assert accept(sign(claims(), header={"typ": typ}))


@pytest.mark.parametrize(
    "header",
    [
        "",
        "null",
        "[]",
        '"RS256"',
        '["alg", "RS256"]',
        "{",
        '{"alg": "RS256", "alg": "RS256"}',
        '{"alg": "none", "alg": "RS256"}',
        '{"alg": "RS256", "x": {"a": 1, "a": 2}}',
        '{"alg": "RS256", "x": NaN}',
        '{"alg": "RS256", "x": "\\u0000"}',
        '{"alg": "RS256", "kid": "\\ud800"}',
        b'{"alg": "RS256", "kid": "\xff"}',
        "\ufeff" + '{"alg": "RS256"}',
        '{"alg": "RS256"}{}',
        '{"alg": "RS256", "x": ' + "[" * 20_000 + "]" * 20_000 + "}",
        '{"alg": "RS256", "x": ' + "9" * 5_000 + "}",
    ],
    ids=lambda header: repr(header)[:40],
)
def test_a_header_about_which_there_is_doubt_is_refused(header: str | bytes) -> None:
    assert refuse(sign(claims(), header=header)) == "header: malformed"


# The form


@pytest.mark.parametrize(
    ("token", "reason"),
    [
        (None, "id_token: missing"),
        ("", "id_token: missing"),
        (5, "id_token: missing"),
        ({"a": 1}, "id_token: missing"),
        (["a.b.c"], "id_token: missing"),
        ("a", "id_token: malformed"),
        ("a.b", "id_token: malformed"),
        ("a.b.c.d", "id_token: malformed"),
        ("a.b.c.d.e", "id_token: encrypted"),
        ("....", "id_token: encrypted"),
        ("a.b.c.d.e.f", "id_token: malformed"),
        ("..", "signature: missing"),
        ("..c", "header: malformed"),
        ('{"alg": "RS256"}.{}.AAAA', "header: malformed"),
        ("\ud800.\ud800.\ud800", "header: malformed"),
        ("é.é.é", "header: malformed"),
    ],
)
def test_what_is_no_signed_token_is_refused(token: object, reason: str) -> None:
    assert refuse(token) == reason


def test_an_encrypted_token_is_refused_before_anything_in_it_is_read() -> None:
    assert refuse(f"{b64('{')}.a.b.c.d") == "id_token: encrypted"


@pytest.mark.parametrize("part", [0, 1, 2])
@pytest.mark.parametrize("extra", ["\n", " ", "!", "=", "==", "+", "/", "%", "\x00", "é", "\u200b"])
def test_characters_that_lenient_decoders_skip_are_refused(part: int, extra: str) -> None:
    for at in (0, 4, None):
        segments = sign(claims()).split(".")
        segment = segments[part]
        segments[part] = segment + extra if at is None else segment[:at] + extra + segment[at:]
        assert refuse(".".join(segments)) == f"{('header', 'payload', 'signature')[part]}: malformed"


@pytest.mark.parametrize("part", [0, 1])
@pytest.mark.parametrize("extra", ["\n", "=", "!"])
def test_so_are_they_where_the_signature_is_over_them(part: int, extra: str) -> None:
    segments = sign(claims()).split(".")[:2]
    segments[part] += extra
    signing_input = ".".join(segments)
    token = f"{signing_input}.{b64(tokens.signature(signing_input.encode(), 'RS256', KEYS['rsa']))}"
    assert refuse(token) == f"{('header', 'payload')[part]}: malformed"


@pytest.mark.parametrize("part", [0, 1, 2])
def test_a_length_that_base64_cannot_have_is_refused(part: int) -> None:
    segments = sign(claims()).split(".")
    segments[part] += "A" * ((1 - len(segments[part])) % 4)
    assert refuse(".".join(segments)).endswith(": malformed")


_ALPHABET = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"


def _with_trailing_bit(data: str) -> str:
    """Base64url of the text, and of a space or two more, which ends in a bit that no byte has."""
    while len(encoded := b64(data)) % 4 == 0:
        data += " "
    return encoded[:-1] + _ALPHABET[_ALPHABET.index(encoded[-1]) | 1]


@pytest.mark.parametrize("part", [0, 1])
def test_trailing_bits_are_refused_though_the_signature_is_over_them(part: int) -> None:
    data = [json.dumps({"alg": "RS256", "kid": KEYS["rsa"].kid}), json.dumps(claims())]
    segments = [b64(text) for text in data]
    segments[part] = _with_trailing_bit(data[part])
    signing_input = ".".join(segments)
    token = f"{signing_input}.{b64(tokens.signature(signing_input.encode(), 'RS256', KEYS['rsa']))}"
    assert refuse(token) == f"{('header', 'payload')[part]}: malformed"


def with_other_spelling(token: str) -> str:
    """The token with a bit after the last byte of its signature (of 256 bytes) set."""
    return token[:-1] + _ALPHABET[_ALPHABET.index(token[-1]) | 1]


def test_a_signature_has_one_spelling() -> None:
    token = sign(claims())
    assert with_other_spelling(token) != token
    assert refuse(with_other_spelling(token)) == "signature: malformed"


@pytest.mark.parametrize(
    "make",
    [
        lambda: "x" * 10_000_000,
        lambda: "." * 10_000_000,
        lambda: ".".join(["x" * 5_000_000] * 3),
        lambda: sign(claims(filling="x" * 10_000_000)),
    ],
    ids=["one segment", "only dots", "three segments", "well signed"],
)
def test_a_token_of_ten_megabytes_is_refused_at_once(make: Callable[[], str]) -> None:
    token = make()
    began = time.process_time()
    assert refuse(token) == "id_token: too large"
    assert time.process_time() - began < 0.1


def test_the_largest_token_that_is_looked_at_is_64_kilobytes() -> None:
    filled = sign(claims(filling=""))
    room = (64 * 1024 - len(filled)) * 3 // 4
    assert accept(sign(claims(filling="x" * (room - 2))))
    assert refuse(sign(claims(filling="x" * (room + 2)))) == "id_token: too large"


# The payload


@pytest.mark.parametrize(
    "payload",
    [
        "null",
        "[]",
        '"claims"',
        "1",
        "{",
        "{}}",
        with_raw(sub='"a", "sub": "b"'),
        with_raw(sub='"a", "\\u0073ub": "b"'),
        with_raw(x='{"a": 1, "a": 1}'),
        with_raw(x='[{"a": 1, "a": 1}]'),
        with_raw(x="NaN"),
        with_raw(x="Infinity"),
        with_raw(x="-Infinity"),
        with_raw(exp="Infinity"),
        with_raw(x="9" * 5_000),
        with_raw(x="[" * 20_000 + "]" * 20_000),
        with_raw(x='{"x": ' * 6_000 + "1" + "}" * 6_000),
        with_raw(sub='"\\u0000"'),
        with_raw(sub='"a\\\\\\u0000"'),
        with_raw(x='{"\\u0000": 1}'),
        with_raw(sub='"a\x00b"'),
        with_raw(sub='"\\ud800"'),
        with_raw(sub='"\\udfff"'),
        with_raw(x='{"\\uDC00\\uD800": 1}'),
        with_raw(x="'single'"),
        with_raw(x="1,"),
        with_raw(x="0x10"),
        "\ufeff" + with_raw(),
        b'{"sub": "\xff"}',
        with_raw().encode("utf-16"),
    ],
    ids=lambda payload: repr(payload)[-40:],
)
def test_a_payload_about_which_there_is_doubt_is_refused(payload: str | bytes) -> None:
    assert refuse(sign(payload)) == "payload: malformed"


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ('"\\ud83d\\ude00"', "\U0001f600"),
        ('"\\\\ud800"', "\\ud800"),
        ('"\\\\u0000"', "\\u0000"),
        ('"\\\\\\\\u0000"', "\\\\u0000"),
        ('"é"', "é"),
        ("[[[{}]]]", [[[{}]]]),
        ("9" * 30, int("9" * 30)),
    ],
)
def test_what_only_looks_doubtful_is_read(text: str, value: object) -> None:
    assert accept(sign(with_raw(x=text)))["x"] == value


@pytest.mark.parametrize("number", ["1e400", "-1e400", "[1e999]", '{"x": 1E+400}'])
def test_a_number_that_no_float_can_hold_is_refused_wherever_it_stands(number: str) -> None:
    # It would be read as infinity, which neither a session's JSON nor a database can keep.
    assert refuse(sign(with_raw(x=number))) == "payload: malformed"


def test_a_payload_is_not_read_before_its_signature_is_verified() -> None:
    forged = sign("{", key=KEYS["other_rsa"], header={"kid": KEYS["rsa"].kid})
    assert refuse(forged) == "signature: mismatch"


@pytest.mark.parametrize(("opening", "closing"), [("[", "]"), ('{"a":', "}"), ('[[],{"a":', "}]")])
def test_json_is_read_as_deeply_as_it_can_be_written_again_further_down_the_stack(opening: str, closing: str) -> None:
    levels = opening.count("[", 0, 1) + opening.count("{")

    def nested(depth: int) -> bytes:
        return f"{opening * (depth // levels)}[]{closing * (depth // levels)}".encode()

    value = parse_json(nested(MAX_DEPTH - levels))

    def write(frames: int) -> str:
        return write(frames - 1) if frames else json.dumps(value)

    assert json.loads(write(500)) == value
    for depth in (MAX_DEPTH, 900, 5_000):
        with pytest.raises(ValueError, match="nested too deeply"):
            parse_json(nested(depth))


def test_json_with_many_brackets_is_not_deep_for_that() -> None:
    assert parse_json(b"[" + b"[{}], " * 1000 + b"[]]") == [[{}]] * 1000 + [[]]


# iss, aud, azp, sub


@pytest.mark.parametrize(
    ("iss", "reason"),
    [
        (ABSENT, "missing"),
        (ISSUER.rstrip("/"), "mismatch"),
        (f"{ISSUER}/", "mismatch"),
        (ISSUER[:-2], "mismatch"),
        (f"{ISSUER}tenant/", "mismatch"),
        (f"https://evil.example/?{ISSUER}", "mismatch"),
        (ISSUER.replace("https", "http"), "mismatch"),
        (ISSUER.upper(), "mismatch"),
        (f" {ISSUER}", "mismatch"),
        (f"{ISSUER}#", "mismatch"),
        ([ISSUER], "mismatch"),
        ({ISSUER: 1}, "mismatch"),
        (None, "mismatch"),
        ("", "mismatch"),
        (True, "mismatch"),
    ],
)
def test_another_issuer_is_refused_to_the_letter(iss: Any, reason: str) -> None:
    assert refuse(sign(claims(iss=iss))) == f"iss: {reason}"


OURS, OTHER = CLIENT_ID, "another-client"


@pytest.mark.parametrize(
    ("aud", "azp", "reason"),
    [
        (ABSENT, ABSENT, "aud: missing"),
        (None, ABSENT, "aud: malformed"),
        ([], ABSENT, "aud: malformed"),
        ({OURS: 1}, ABSENT, "aud: malformed"),
        (5, ABSENT, "aud: malformed"),
        (True, ABSENT, "aud: malformed"),
        ([OURS, 5], OURS, "aud: malformed"),
        ([[OURS]], ABSENT, "aud: malformed"),
        ([None], ABSENT, "aud: malformed"),
        ("", ABSENT, "aud: mismatch"),
        (OTHER, ABSENT, "aud: mismatch"),
        (OTHER, OURS, "aud: mismatch"),
        (OURS[:-1], ABSENT, "aud: mismatch"),
        (f"{OURS} {OTHER}", ABSENT, "aud: mismatch"),
        (OURS.upper(), ABSENT, "aud: mismatch"),
        ([OTHER], ABSENT, "aud: mismatch"),
        ([OURS, OTHER], ABSENT, "aud: mismatch"),
        ([OURS, OTHER], OURS, "aud: mismatch"),
        ([OURS, "ours-too"], ABSENT, "azp: missing"),
        ([OURS, "ours-too"], OTHER, "azp: mismatch"),
        (OURS, OTHER, "azp: mismatch"),
        ([OURS], OTHER, "azp: mismatch"),
        (OURS, "", "azp: mismatch"),
        (OURS, None, "azp: mismatch"),
        (OURS, [OURS], "azp: mismatch"),
        (OURS, {OURS: 1}, "azp: mismatch"),
    ],
)
def test_a_token_for_somebody_else_is_refused(aud: Any, azp: Any, reason: str) -> None:
    assert refuse(sign(claims(aud=aud, azp=azp)), audiences={OURS, "ours-too"}) == reason


@pytest.mark.parametrize(
    ("aud", "azp"),
    [
        (OURS, ABSENT),
        ([OURS], ABSENT),
        ("ours-too", ABSENT),
        (OURS, OURS),
        (OURS, "ours-too"),
        ([OURS, "ours-too"], OURS),
        ([OURS, OURS], ABSENT),
    ],
)
def test_a_token_for_one_of_our_clients_is_accepted(aud: Any, azp: Any) -> None:
    assert accept(sign(claims(aud=aud, azp=azp)), audiences=(OURS, "ours-too"))


def test_without_audiences_of_ours_nothing_is_accepted() -> None:
    assert refuse(sign(claims()), audiences=[]) == "aud: mismatch"


@pytest.mark.parametrize(
    ("sub", "reason"),
    [
        (ABSENT, "missing"),
        ("", "malformed"),
        (None, "malformed"),
        (5, "malformed"),
        ([SUBJECT], "malformed"),
        ({"id": SUBJECT}, "malformed"),
        ("x" * 256, "malformed"),
        ("x" * 30_000, "malformed"),
        ("anna\n", "malformed"),
        ("anna\u200b", "malformed"),
        ("\uff41nna", "malformed"),
        ("\x7f", "malformed"),
    ],
    ids=lambda sub: repr(sub)[:20],
)
def test_a_subject_that_is_none_is_refused(sub: Any, reason: str) -> None:
    assert refuse(sign(claims(sub=sub))) == f"sub: {reason}"


@pytest.mark.parametrize("sub", ["x" * 255, "a", "0", "CN=Anna Example, O=Company", "auth0|1"])
def test_a_subject_is_up_to_255_ascii_characters(sub: str) -> None:
    assert accept(sign(claims(sub=sub)))["sub"] == sub


# Times


@pytest.mark.parametrize(
    ("claim", "value", "reason"),
    [
        ("exp", NOW - LEEWAY - 1, "expired"),
        ("exp", NOW - LEEWAY, "expired"),
        ("exp", NOW - LEEWAY + 0.25, None),
        ("exp", NOW - LEEWAY + 1, None),
        ("exp", 0, "expired"),
        *(
            (claim, value, reason)
            for claim in ("iat", "nbf", "auth_time")
            for value, reason in (
                (NOW + LEEWAY - 1, None),
                (NOW + LEEWAY, None),
                (NOW + LEEWAY + 0.25, "in the future"),
                (NOW + LEEWAY + 1, "in the future"),
                (NOW + 10**9, "in the future"),
                (0, None),
            )
        ),
    ],
)
def test_times_are_exact_at_the_edge_of_the_leeway(claim: str, value: float, reason: str | None) -> None:
    token = sign(claims(**{claim: value}))
    if reason is None:
        assert accept(token)[claim] == value
    else:
        assert refuse(token) == f"{claim}: {reason}"


@pytest.mark.parametrize(
    ("claim", "value", "reason"),
    [
        ("exp", NOW - 1, "expired"),
        ("exp", NOW, "expired"),
        ("exp", NOW + 1, None),
        ("iat", NOW, None),
        ("iat", NOW + 1, "in the future"),
    ],
)
def test_without_leeway_times_are_exact_to_the_second(claim: str, value: float, reason: str | None) -> None:
    token = sign(claims(**{claim: value}))
    if reason is None:
        assert accept(token, leeway=0)
    else:
        assert refuse(token, leeway=0) == f"{claim}: {reason}"


def test_without_a_word_about_leeway_there_is_none() -> None:
    def judge(**changes: Any) -> dict[str, Any]:
        keys = from_jwks(KEYS["rsa"])
        expected = {"algorithms": ["RS256"], "issuer": ISSUER, "audiences": [CLIENT_ID], "now": NOW}
        return verify(sign(claims(**changes)), keys, **expected)  # type: ignore[arg-type] # each is of its type

    assert judge(exp=NOW + 1, iat=NOW)
    with pytest.raises(ClaimError, match=r"^exp: expired$"):
        judge(exp=NOW)
    with pytest.raises(ClaimError, match=r"^iat: in the future$"):
        judge(iat=NOW + 1)


@pytest.mark.parametrize("claim", ["exp", "iat"])
def test_a_token_has_to_say_when_it_was_made_and_ends(claim: str) -> None:
    assert refuse(sign(claims(**{claim: ABSENT}))) == f"{claim}: missing"


@pytest.mark.parametrize("claim", ["nbf", "auth_time"])
def test_other_times_may_be_absent(claim: str) -> None:
    assert claim not in accept(sign(claims(**{claim: ABSENT})))


@pytest.mark.parametrize("claim", ["exp", "iat", "nbf", "auth_time"])
@pytest.mark.parametrize(
    "value", ['"1700000000"', "true", "-1", "-0.5", "[1700000000]", "{}", '""', '"2023-11-14T22:13:20Z"', "null"]
)
def test_a_time_that_is_no_number_is_refused(claim: str, value: str) -> None:
    expected = "missing" if value == "null" else "malformed"
    assert refuse(sign(with_raw(**{claim: value}))) == f"{claim}: {expected}"


@pytest.mark.parametrize("claim", ["exp", "iat", "nbf", "auth_time"])
@pytest.mark.parametrize("value", ["1e400", "-1e400"])
def test_a_time_beyond_all_numbers_is_refused(claim: str, value: str) -> None:
    assert refuse(sign(with_raw(**{claim: value}))) in (f"{claim}: malformed", "payload: malformed")


@pytest.mark.parametrize("leeway", [0, 30, 0.5, 30.0])
@pytest.mark.parametrize("claim", ["exp", "iat", "nbf", "auth_time"])
@pytest.mark.parametrize(
    "value",
    [253_402_300_800, 1e12, 10**18, 1e308, 10**400, 10**4000],
    ids=["the year 10000", "1e12", "10**18", "1e308", "10**400", "10**4000"],
)
def test_a_time_that_cannot_be_in_seconds_is_refused(claim: str, value: float, leeway: float) -> None:
    assert refuse(sign(claims(**{claim: value})), leeway=leeway) == f"{claim}: malformed"


@pytest.mark.parametrize("leeway", [0, 30])
def test_a_time_in_the_far_future_is_one(leeway: float) -> None:
    value = 253_402_300_799
    assert accept(sign(claims(exp=value)), leeway=leeway)["exp"] == value
    for claim in ("iat", "nbf", "auth_time"):
        assert refuse(sign(claims(**{claim: value})), leeway=leeway) == f"{claim}: in the future"


# events


@pytest.mark.parametrize("event", [{}, None, 5])
def test_a_logout_token_is_no_id_token_whatever_else_it_has(event: Any) -> None:
    events = {"urn:another": {}, "http://schemas.openid.net/event/backchannel-logout": event}
    assert refuse(sign(claims(events=events))) == "events: not an ID token"


@pytest.mark.parametrize(
    "events", [{}, {"urn:another": {}}, None, "http://schemas.openid.net/event/backchannel-logout"]
)
def test_events_of_other_kinds_are_nothing_to_an_id_token(events: Any) -> None:
    assert accept(sign(claims(events=events)))["events"] == events


# nonce


@pytest.mark.parametrize(
    ("sent_back", "reason"),
    [
        (ABSENT, "missing"),
        ("of-the-other-tab", "mismatch"),
        ("the-nonce ", "mismatch"),
        ("THE-NONCE", "mismatch"),
        ("the-nonc", "mismatch"),
        ("", "mismatch"),
        ("thé-nonce", "mismatch"),
        (None, "malformed"),
        (5, "malformed"),
        (["the-nonce"], "malformed"),
        ({"the-nonce": 1}, "malformed"),
    ],
)
def test_another_nonce_than_was_sent_is_refused(sent_back: Any, reason: str) -> None:
    assert refuse(sign(claims(nonce=sent_back)), nonce="the-nonce") == f"nonce: {reason}"


def test_the_nonce_that_was_sent_is_accepted_and_without_one_none_is_needed() -> None:
    assert accept(sign(claims(nonce="the-nonce")), nonce="the-nonce")
    assert accept(sign(claims()), nonce=None)


# Signed userinfo


def userinfo(token: object, keys: KeySet | None = None) -> dict[str, Any]:
    return verify_userinfo(
        token,
        KeySet.from_jwks(jwks(KEYS["rsa"])) if keys is None else keys,
        algorithms=["RS256"],
        issuer=ISSUER,
        audiences=[CLIENT_ID],
        now=NOW,
        leeway=30,
    )


@pytest.mark.parametrize(("exp", "is_taken"), [(NOW - 29, True), (NOW - 30, False), ("soon", False)])
def test_signed_userinfo_that_says_until_when_it_is_good_is_held_to_it(exp: Any, is_taken: bool) -> None:
    token = sign({"sub": SUBJECT, "exp": exp})
    if is_taken:
        assert userinfo(token)["exp"] == exp
    else:
        with pytest.raises(ClaimError, match="exp: "):
            userinfo(token)


@pytest.mark.parametrize(
    "signed",
    [
        {"sub": SUBJECT},
        {"sub": SUBJECT, "iss": ISSUER},
        {"sub": SUBJECT, "iss": ISSUER, "aud": [CLIENT_ID]},
    ],
)
def test_signed_userinfo_needs_neither_times_nor_a_nonce(signed: dict[str, Any]) -> None:
    assert userinfo(sign(signed)) == signed


@pytest.mark.parametrize(
    ("signed", "reason"),
    [
        ({"iss": "https://evil.example/"}, "iss: mismatch"),
        ({"iss": None}, "iss: mismatch"),
        ({"iss": [ISSUER]}, "iss: mismatch"),
        ({"aud": OTHER}, "aud: mismatch"),
        ({"aud": None}, "aud: malformed"),
        ({"aud": [CLIENT_ID, OTHER]}, "aud: mismatch"),
        ({"aud": CLIENT_ID, "azp": OTHER}, "azp: mismatch"),
    ],
)
def test_signed_userinfo_of_another_or_for_another_is_refused(signed: dict[str, Any], reason: str) -> None:
    with pytest.raises(ClaimError) as caught:
        userinfo(sign(signed))
    assert str(caught.value) == reason


@pytest.mark.parametrize(
    ("key", "header", "reason"),
    [
        ("rsa", {"alg": "none"}, "alg: not allowed"),
        ("other_rsa", {"kid": "key-rsa"}, "signature: mismatch"),
        ("other_rsa", {}, "kid: unknown"),
    ],
)
def test_userinfo_whose_signature_is_not_right_is_refused(key: str, header: dict[str, Any], reason: str) -> None:
    with pytest.raises(ClaimError) as caught:
        userinfo(sign({"sub": SUBJECT}, key=KEYS[key], header=header))
    assert str(caught.value) == reason


# Whatever comes

#: However busy the machine is.
patient = settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])
GOOD = sign(claims(amr=["mfa"]))


@st.composite
def mutations(draw: st.DrawFn) -> str:
    """A good token in which some characters were changed, taken out, put in or doubled."""
    token = GOOD
    for _ in range(draw(st.integers(1, 3))):
        start = draw(st.integers(0, len(token)))
        end = start + draw(st.sampled_from((0, 1, 1, 4, 40)))
        put_in = draw(
            st.just("")
            | st.text(_ALPHABET + ".=", max_size=4)
            | st.text(max_size=2)
            | st.sampled_from((token[start:end] * 2, token))
        )
        token = token[:start] + put_in + token[end:]
    return token


@patient
@given(mutations())
@example(with_other_spelling(GOOD))
def test_a_token_that_was_changed_in_any_way_is_refused(token: str) -> None:
    if token != GOOD:
        with pytest.raises(ClaimError):
            accept(token)


@patient
@given(st.text() | st.lists(st.text(_ALPHABET), max_size=6).map(".".join) | st.none() | st.binary() | st.integers())
def test_of_anything_that_is_no_token_nothing_comes_but_a_refusal(token: object) -> None:
    with pytest.raises(ClaimError):
        accept(token)


values = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(max_size=6)
    | st.sampled_from(["RS256", "none", "HS256", KEYS["rsa"].kid, ISSUER, CLIENT_ID, SUBJECT, NOW, NOW + 300]),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=4), inner, max_size=3),
    max_leaves=6,
)
some_header = st.dictionaries(
    st.sampled_from(["alg", "kid", "typ", "cty", "crit", "b64", "jwk", "jku", "x5c", "zip", "enc"])
    | st.text(max_size=3),
    values,
    max_size=4,
)
some_claims = st.dictionaries(
    st.sampled_from(["iss", "sub", "aud", "azp", "exp", "iat", "nbf", "auth_time", "nonce", "at_hash", "amr"]),
    values,
    max_size=4,
)


@patient
@given(some_header, some_claims, st.booleans())
def test_of_any_well_signed_header_and_claims_come_good_claims_or_a_refusal(
    header: dict[str, Any], changed: dict[str, Any], is_bare: bool
) -> None:
    token = sign(changed if is_bare else {**claims(), **changed}, header=header)
    try:
        accepted = accept(token, nonce=changed.get("nonce") if isinstance(changed.get("nonce"), str) else None)
    except ClaimError:
        return
    assert header.get("alg", "RS256") == "RS256"
    assert accepted["iss"] == ISSUER
    assert accepted["aud"] in (CLIENT_ID, [CLIENT_ID])
    assert accepted.get("azp", CLIENT_ID) == CLIENT_ID
    assert isinstance(accepted["sub"], str)
    assert accepted["sub"]
    assert accepted["exp"] > NOW - LEEWAY
    for claim in ("iat", "nbf", "auth_time"):
        assert 0 <= accepted.get(claim, 0) <= NOW + LEEWAY
        assert math.isfinite(accepted.get(claim, 0))


jwk_members = st.fixed_dictionaries(
    {"kty": st.sampled_from(["RSA", "EC", "OKP", "oct"])},
    optional={
        **dict.fromkeys(("n", "e", "x", "y", "k", "crv"), values | st.binary(max_size=64).map(b64)),
        "crv": st.sampled_from(["P-256", "P-384", "P-521", "Ed25519", "Ed448", "X25519", "secp256k1"]),
        **dict.fromkeys(("use", "key_ops", "alg", "kid", "d", "p", "oth"), values),
    },
)


@patient
@given(st.lists(jwk_members | values, max_size=3))
def test_of_any_jwks_come_usable_keys_or_none(listed: list[Any]) -> None:
    for key in KeySet.from_jwks({"keys": listed}).keys:
        assert key.algorithms
        assert not any(alg.startswith("HS") for alg in key.algorithms)


@patient
@given(st.binary())
def test_of_any_bytes_comes_a_value_that_can_be_written_or_an_error(data: bytes) -> None:
    try:
        value = parse_json(data)
    except ValueError:
        return
    assert json.loads(json.dumps(value, allow_nan=False)) == value


@pytest.mark.parametrize(
    "changed",
    [
        {"iss": "https://s3cret.example/"},
        {"aud": "s3cret"},
        {"azp": "s3cret"},
        {"sub": "s3cret\n"},
        {"exp": "s3cret"},
        {"nonce": "s3cret"},
        {"at_hash": "s3cret"},
    ],
    ids=str,
)
def test_a_refusal_does_not_repeat_what_it_refuses(changed: dict[str, Any]) -> None:
    token = sign(claims(**{"nonce": "the-nonce", **changed}))
    assert "s3cret" not in refuse(token, nonce="the-nonce", access_token="an access token")
