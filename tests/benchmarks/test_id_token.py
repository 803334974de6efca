"""The verification of an ID token with a cached key and every rule, against PyJWT's own with as many as it has."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import jwt
import pytest

from stepup import id_token
from stepup.id_token import KeySet
from tests import tokens
from tests.benchmarks.measure import Other, interleaved

CALLS = 200
ROUNDS = 40


@pytest.mark.parametrize("alg", ["RS256", "ES256", "HS256"])
def test_id_token(benchmark: Any, report: Callable[..., None], alg: str) -> None:
    access_token, nonce = "an-access-token-of-forty-three-characters-.", "a-nonce-of-thirty-two-characters"
    token = tokens.sign(
        tokens.claims(
            nonce=nonce, amr=["pwd", "mfa"], at_hash=tokens.half_hash(access_token), email="anna@example.com"
        ),
        alg,
    )
    if alg == "HS256":
        keys = KeySet.from_secret(tokens.CLIENT_SECRET)
        key: Any = tokens.CLIENT_SECRET.encode()
    else:
        signer = tokens.KEYS[tokens.KEY_FOR.get(alg, "rsa")]
        keys = KeySet.from_jwks(tokens.jwks(signer, tokens.KEYS["other_rsa"]))
        key = keys.keys[0].material

    def ours() -> object:
        return id_token.verify(
            token,
            keys,
            algorithms=(alg,),
            issuer=tokens.ISSUER,
            audiences=(tokens.CLIENT_ID,),
            now=time.time(),
            leeway=30,
            nonce=nonce,
            access_token=access_token,
        )

    def theirs() -> object:
        return jwt.decode(
            token,
            key,
            algorithms=[alg],
            issuer=tokens.ISSUER,
            audience=tokens.CLIENT_ID,
            leeway=30,
            options={"require": ["iss", "sub", "aud", "exp", "iat"]},
        )

    assert ours() == theirs()
    medians = interleaved(benchmark, ROUNDS, "ours", {"ours": _timed(ours), "theirs": _timed(theirs)})
    peer = Other(medians["theirs"], 1.1, "jwt.decode")
    report(what=f"ID token, {alg}", unit="µs", ours=medians["ours"], peer=peer)


def _timed(verify: Callable[[], object]) -> Callable[[], float]:
    """Microseconds for each call."""

    def timed() -> float:
        start = time.perf_counter()
        for _ in range(CALLS):
            verify()
        return (time.perf_counter() - start) / CALLS * 1e6

    return timed
