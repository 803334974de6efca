"""Every algorithm that an ID token may be signed with, with a real key for it and against all the others."""

from __future__ import annotations

import json
from typing import Literal

import jwt
import pytest
from joserfc import jwk
from joserfc import jwt as joserfc_jwt

from stepup.algorithms import SIGNING_ALGORITHMS
from stepup.exceptions import ClaimError
from stepup.id_token import KeySet, verify
from tests import tokens
from tests.tokens import CLIENT_ID, CLIENT_SECRET, ISSUER, KEYS, SigningKey

NOW = 1_700_000_000
CLAIMS = tokens.claims(at=NOW)

#: Each algorithm, and the name of a key for it.
ASYMMETRIC = [
    *((f"{family}{size}", "rsa") for family in ("RS", "PS") for size in ("256", "384", "512")),
    ("ES256", "p256"),
    ("ES384", "p384"),
    ("ES512", "p521"),
    ("EdDSA", "ed25519"),
    ("EdDSA", "ed448"),
    ("Ed25519", "ed25519"),
    ("Ed448", "ed448"),
]
SYMMETRIC = ["HS256", "HS384", "HS512"]

with_keys = pytest.mark.parametrize(("alg", "name"), ASYMMETRIC)


def accept(token: str, keys: KeySet, *algorithms: str, access_token: str | None = None) -> dict[str, object]:
    return verify(
        token,
        keys,
        algorithms=algorithms,
        issuer=ISSUER,
        audiences=[CLIENT_ID],
        now=NOW,
        access_token=access_token,
    )


def published(*names: str) -> KeySet:
    return KeySet.from_jwks(tokens.jwks(*(KEYS[name] for name in names)))


def spoilt(token: str) -> str:
    """The token with a signature that is wrong in one bit in its middle."""
    signing_input, _, signature = token.rpartition(".")
    middle = len(signature) // 2
    return f"{signing_input}.{signature[:middle]}{'B' if signature[middle] == 'A' else 'A'}{signature[middle + 1 :]}"


def test_these_are_all() -> None:
    assert {alg for alg, _ in ASYMMETRIC} | set(SYMMETRIC) == SIGNING_ALGORITHMS


@with_keys
def test_a_token_is_accepted_from_a_published_key(alg: str, name: str) -> None:
    token = tokens.sign(CLAIMS, alg, key=KEYS[name])
    assert accept(token, published(name), alg) == CLAIMS


@with_keys
def test_a_token_of_another_library_is_accepted(alg: str, name: str) -> None:
    # It does not know the new names of EdDSA (RFC 9864), which the third library is tried with.
    known = "EdDSA" if alg.startswith("Ed") else alg
    token = jwt.encode(CLAIMS, KEYS[name].private, algorithm=known, headers={"kid": KEYS[name].kid})
    assert accept(token, published(name), known) == CLAIMS


@pytest.mark.parametrize("alg", sorted(SIGNING_ALGORITHMS - {"EdDSA"}))
def test_a_token_of_a_third_library_is_accepted(alg: str) -> None:
    if alg in SYMMETRIC:
        key: jwk.Key = jwk.OctKey.import_key(CLIENT_SECRET)
        keys = KeySet.from_secret(CLIENT_SECRET)
    else:
        if alg.startswith("ES"):
            key = jwk.ECKey.generate_key({"ES256": "P-256", "ES384": "P-384", "ES512": "P-521"}[alg])
        else:
            curves: dict[str, Literal["Ed25519", "Ed448"]] = {"Ed25519": "Ed25519", "Ed448": "Ed448"}
            key = jwk.OKPKey.generate_key(curves[alg]) if alg in curves else jwk.RSAKey.generate_key(2048)
        keys = KeySet.from_jwks({"keys": [key.as_dict(private=False)]})
    assert accept(joserfc_jwt.encode({"alg": alg}, CLAIMS, key, algorithms=[alg]), keys, alg) == CLAIMS


@with_keys
def test_a_wrong_signature_is_refused(alg: str, name: str) -> None:
    token = tokens.sign(CLAIMS, alg, key=KEYS[name])
    with pytest.raises(ClaimError, match=r"^signature: mismatch$"):
        accept(spoilt(token), published(name), alg)


@with_keys
@pytest.mark.parametrize("length", [1, 63, 64, 65, 96, 114, 132, 256, 512, 40_000])
def test_a_signature_of_any_length_that_is_no_signature_is_refused(alg: str, name: str, length: int) -> None:
    signing_input = tokens.sign(CLAIMS, alg, key=KEYS[name]).rpartition(".")[0]
    for byte in (b"\x00", b"\x01", b"\xff"):
        with pytest.raises(ClaimError, match=r"^signature: mismatch$"):
            accept(f"{signing_input}.{tokens.b64(byte * length)}", published(name), alg)


@with_keys
def test_a_key_verifies_nothing_but_its_own_algorithms(alg: str, name: str) -> None:
    token = tokens.sign(CLAIMS, alg, key=KEYS[name])
    for other in SIGNING_ALGORITHMS - {alg}:
        changed = tokens.b64(f'{{"alg": "{other}", "kid": "{KEYS[name].kid}"}}') + token[token.index(".") :]
        with pytest.raises(ClaimError, match=r"signature|kid|alg"):
            accept(changed, published(name), *SIGNING_ALGORITHMS)


@with_keys
def test_an_algorithm_that_is_not_configured_is_refused_though_the_signature_is_right(alg: str, name: str) -> None:
    token = tokens.sign(CLAIMS, alg, key=KEYS[name])
    with pytest.raises(ClaimError, match=r"^alg: not allowed$"):
        accept(token, published(name), *(SIGNING_ALGORITHMS - {alg}))


@pytest.mark.parametrize(
    ("signed", "curve", "name"), [("ES384", "ES256", "p256"), ("ES256", "ES384", "p384"), ("ES256", "ES512", "p521")]
)
def test_a_key_on_one_curve_does_not_verify_the_algorithm_of_another(signed: str, curve: str, name: str) -> None:
    # RFC 7518, 3.4 ties each hash to one curve, although the mathematics would work.
    token = tokens.sign(CLAIMS, signed, key=KEYS[name])
    with pytest.raises(ClaimError, match=r"^kid: unknown$"):
        accept(token, published(name), signed, curve)


def test_a_key_on_a_curve_that_none_of_the_algorithms_has_is_not_used() -> None:
    assert published("secp256k1").keys == ()


@pytest.mark.parametrize("alg", SYMMETRIC)
def test_the_client_secret_signs(alg: str) -> None:
    keys = KeySet.from_secret(CLIENT_SECRET)
    token = tokens.sign(CLAIMS, alg)
    assert accept(token, keys, alg) == CLAIMS
    assert accept(jwt.encode(CLAIMS, CLIENT_SECRET, algorithm=alg), keys, alg) == CLAIMS
    for wrong in (spoilt(token), tokens.sign(CLAIMS, alg, key=CLIENT_SECRET + "x"), f"{token.rpartition('.')[0]}.AAAA"):
        with pytest.raises(ClaimError, match=r"^signature: mismatch$"):
            accept(wrong, keys, alg)


@pytest.mark.parametrize(("alg", "size"), [("HS256", 32), ("HS384", 48), ("HS512", 64)])
def test_a_secret_signs_only_for_a_hash_that_is_no_longer_than_it_is(alg: str, size: int) -> None:
    for secret in ("x" * size, "é" * (size // 2)):
        assert accept(tokens.sign(CLAIMS, alg, key=secret), KeySet.from_secret(secret), alg) == CLAIMS
    short = "x" * (size - 1)
    with pytest.raises(ClaimError, match=r"^alg: client secret too short$"):
        accept(tokens.sign(CLAIMS, alg, key=short), KeySet.from_secret(short), alg)


def _as_secrets(key: SigningKey) -> dict[str, bytes]:
    return {
        "PEM": key.pem,
        "PEM without the last newline": key.pem.rstrip(),
        "DER": key.der,
        "JWK": json.dumps(key.jwk()).encode(),
        "the modulus": key.private.private_numbers().public_numbers.n.to_bytes(256, "big"),  # type: ignore[union-attr] # RSA
        "nothing": b"",
    }


@pytest.mark.parametrize("form", ["PEM", "PEM without the last newline", "DER", "JWK", "the modulus", "nothing"])
@pytest.mark.parametrize("alg", SYMMETRIC)
def test_a_public_key_is_no_secret(form: str, alg: str) -> None:
    key = KEYS["rsa"]
    forged = tokens.sign(CLAIMS, alg, key=_as_secrets(key)[form], header={"kid": key.kid})
    with_secret = KeySet(published("rsa").keys + KeySet.from_secret(CLIENT_SECRET).keys)
    for keys in (published("rsa"), with_secret, KeySet.from_pem(key.pem)):
        for algorithms in (["RS256"], ["RS256", alg]):
            with pytest.raises(ClaimError, match=r"^(alg|signature): "):
                accept(forged, keys, *algorithms)


@pytest.mark.parametrize(
    ("alg", "name", "hashed"),
    [
        ("RS256", "rsa", "sha256"),
        ("PS384", "rsa", "sha384"),
        ("ES256", "p256", "sha256"),
        ("ES384", "p384", "sha384"),
        ("ES512", "p521", "sha512"),
        ("HS512", None, "sha512"),
        ("EdDSA", "ed25519", "sha512"),
        ("EdDSA", "ed448", "shake_256"),
        ("Ed25519", "ed25519", "sha512"),
        ("Ed448", "ed448", "shake_256"),
    ],
)
def test_at_hash_is_made_with_the_hash_of_the_algorithm(alg: str, name: str | None, hashed: str) -> None:
    keys = published(name) if name else KeySet.from_secret(CLIENT_SECRET)

    def signed(at_hash: object) -> str:
        return tokens.sign({**CLAIMS, "at_hash": at_hash}, alg, key=KEYS[name] if name else None)

    right = tokens.half_hash("the access token", hashed)
    assert accept(signed(right), keys, alg, access_token="the access token")["at_hash"] == right
    wrong = [tokens.half_hash("the access token", other) for other in ("sha256", "sha384", "sha512", "shake_256")]
    wrong.remove(right)
    for at_hash in (*wrong, tokens.half_hash("another", hashed), right[:-1], f"{right}=", "", None, 5, [right]):
        with pytest.raises(ClaimError, match=r"^at_hash: mismatch$"):
            accept(signed(at_hash), keys, alg, access_token="the access token")


def test_at_hash_is_optional_and_looked_at_only_beside_an_access_token() -> None:
    assert accept(tokens.sign(CLAIMS), published("rsa"), "RS256", access_token="any") == CLAIMS
    token = tokens.sign({**CLAIMS, "at_hash": "wrong"})
    assert accept(token, published("rsa"), "RS256")["at_hash"] == "wrong"
