"""Real keys, and ID tokens and logout tokens that are really signed with them.

What is not said is as the settings of the site have it. The signing is `cryptography`'s alone, so that what verifies
the tokens (PyJWT, in `stepup.id_token`) is not what made them, and so that tokens which no decent library would make
can be made too.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed448, ed25519, padding, rsa
from cryptography.hazmat.primitives.asymmetric.utils import decode_dss_signature

from stepup import clock, conf
from stepup.dialects import MULTI_FACTOR

__all__ = ["ABSENT", "KEYS", "KEY_FOR", "WITHOUT_MFA", "WITH_MFA", "SigningKey", "claims", "jwks", "sign"]

#: A subject as Auth0 names its users.
SUBJECT = "auth0|5f7c8ec7c33c6c004bbafe82"

#: Seconds for which an ID token that is made here is good.
LIFETIME = 300

#: As the value of a claim, a header parameter or a member of a JWK: leave it out.
ABSENT: Any = type("Absent", (), {"__repr__": lambda self: "ABSENT"})()

#: What an ID token says after multi-factor authentication as Auth0 does it, and what it says without: nothing.
WITH_MFA: Mapping[str, Any] = {"amr": ["mfa"], "acr": MULTI_FACTOR, "auth_time": ABSENT}
WITHOUT_MFA: Mapping[str, Any] = {"amr": ABSENT, "acr": ABSENT, "auth_time": ABSENT}

PrivateKey = rsa.RSAPrivateKey | ec.EllipticCurvePrivateKey | ed25519.Ed25519PrivateKey | ed448.Ed448PrivateKey

_HASHES: Mapping[str, hashes.HashAlgorithm] = {
    "256": hashes.SHA256(),
    "384": hashes.SHA384(),
    "512": hashes.SHA512(),
}


@dataclass(frozen=True, slots=True)
class SigningKey:
    """A private key and the name that its public half is published under."""

    kid: str
    private: PrivateKey

    @property
    def pem(self) -> bytes:
        """The public key in PEM."""
        return self.private.public_key().public_bytes(
            serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo
        )

    @property
    def private_pem(self) -> str:
        """The private key in PEM."""
        return self.private.private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
        ).decode()

    @property
    def der(self) -> bytes:
        """The public key in DER."""
        return self.private.public_key().public_bytes(
            serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo
        )

    def jwk(self, **members: Any) -> dict[str, Any]:
        """The public key as a JWK (RFC 7517; RFC 7518, 6; RFC 8037, 2), with `members` in place of its own."""
        return present({"kid": self.kid, "use": "sig", **_public_members(self.private), **members})


class _Keys(Mapping[str, SigningKey]):
    """The keys by name, each made when it is first asked for, and then kept as long as the process lives."""

    _makers: Mapping[str, Callable[[], PrivateKey]] = {
        "rsa": lambda: rsa.generate_private_key(public_exponent=65537, key_size=2048),
        "other_rsa": lambda: rsa.generate_private_key(public_exponent=65537, key_size=2048),
        "rsa_1024": lambda: rsa.generate_private_key(public_exponent=65537, key_size=1024),  # noqa: S505 - that is it
        "p256": lambda: ec.generate_private_key(ec.SECP256R1()),
        "other_p256": lambda: ec.generate_private_key(ec.SECP256R1()),
        "p384": lambda: ec.generate_private_key(ec.SECP384R1()),
        "p521": lambda: ec.generate_private_key(ec.SECP521R1()),
        "secp256k1": lambda: ec.generate_private_key(ec.SECP256K1()),
        "ed25519": ed25519.Ed25519PrivateKey.generate,
        "ed448": ed448.Ed448PrivateKey.generate,
    }

    def __init__(self) -> None:
        self._made: dict[str, SigningKey] = {}

    def __getitem__(self, name: str) -> SigningKey:
        if name not in self._made:
            self._made[name] = SigningKey(f"key-{name}", self._makers[name]())
        return self._made[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._makers)

    def __len__(self) -> int:
        return len(self._makers)


KEYS: Mapping[str, SigningKey] = _Keys()

#: The key that signs with an algorithm where a test does not say which.
KEY_FOR = {
    "RS": "rsa",
    "PS": "rsa",
    "ES256": "p256",
    "ES384": "p384",
    "ES512": "p521",
    "EdDSA": "ed25519",
    "Ed25519": "ed25519",
    "Ed448": "ed448",
}


def claims(*, at: float | None = None, **overrides: Any) -> dict[str, Any]:
    """The claims of a good ID token (OpenID Connect Core 1.0, section 2) for this site.

    Args:
        at: when it was made and its subject authenticated, in seconds since the epoch; by default now.
        overrides: claims in place of these, or beside them; `ABSENT` leaves one out.
    """
    at = int(clock.now()) if at is None else at
    good: dict[str, Any] = {"sub": SUBJECT, "iat": at, "auth_time": at, "exp": at + LIFETIME}
    if not {"iss", "aud"} <= overrides.keys():
        good |= {"iss": conf.current().issuer, "aud": conf.current().client_id}
    return present({**good, **overrides})


def sign(
    payload: Mapping[str, Any] | str | bytes,
    alg: str = "RS256",
    *,
    key: SigningKey | str | bytes | None = None,
    header: Mapping[str, Any] | str | bytes | None = None,
) -> str:
    """A token in JWS compact serialization (RFC 7515, 3.1).

    Args:
        payload: the claims or, as text, exactly what is to be signed.
        alg: how to sign and, if `header` does not say otherwise, what the header says.
        key: a key of `KEYS`, or a secret for HS256 to HS512; by default one that fits, or this site's client secret.
        header: parameters in place of `alg`, `typ` and `kid` or, as text, exactly what the header is.
    """
    if key is None:
        key = conf.current().client_secret if alg.startswith("HS") else KEYS[KEY_FOR.get(alg) or KEY_FOR[alg[:2]]]
    if not isinstance(header, (str, bytes)):
        named = key.kid if isinstance(key, SigningKey) else ABSENT
        header = json.dumps(present({"alg": alg, "typ": "JWT", "kid": named, **(header or {})}))
    if isinstance(payload, Mapping):
        payload = json.dumps(payload)
    signing_input = f"{b64(header)}.{b64(payload)}"
    return f"{signing_input}.{b64(signature(signing_input.encode(), alg, key))}"


def signature(data: bytes, alg: str, key: SigningKey | str | bytes) -> bytes:
    """The signature of some bytes (RFC 7518, 3.2 to 3.5; RFC 8037, 3.1)."""
    if not isinstance(key, SigningKey):
        return hmac.new(key.encode() if isinstance(key, str) else key, data, f"sha{alg[2:]}").digest()
    private = key.private
    if isinstance(private, (ed25519.Ed25519PrivateKey, ed448.Ed448PrivateKey)):
        return private.sign(data)
    hashed = _HASHES[alg[2:]]
    if isinstance(private, rsa.RSAPrivateKey):
        if alg.startswith("PS"):
            return private.sign(data, padding.PSS(padding.MGF1(hashed), hashed.digest_size), hashed)
        return private.sign(data, padding.PKCS1v15(), hashed)
    size = (private.curve.key_size + 7) // 8
    return b"".join(half.to_bytes(size, "big") for half in decode_dss_signature(private.sign(data, ec.ECDSA(hashed))))


def jwks(*keys: SigningKey | Mapping[str, Any]) -> dict[str, Any]:
    """A JWKS document with the public halves of some keys, or with JWKs as they are."""
    return {"keys": [key.jwk() if isinstance(key, SigningKey) else dict(key) for key in keys]}


def half_hash(access_token: str, name: str = "sha256") -> str:
    """The `at_hash` of an access token (OpenID Connect Core 1.0, 3.1.3.6)."""
    digest = hashlib.new(name, access_token.encode())
    data = digest.digest(114) if name == "shake_256" else digest.digest()  # type: ignore[call-arg] # only SHAKE's
    return b64(data[: len(data) // 2])


def b64(data: str | bytes) -> str:
    """Base64url without padding (RFC 7515, 2)."""
    return base64.urlsafe_b64encode(data.encode() if isinstance(data, str) else data).rstrip(b"=").decode()


def present(members: Mapping[str, Any]) -> dict[str, Any]:
    """What is not `ABSENT`."""
    return {name: value for name, value in members.items() if value is not ABSENT}


def _public_members(private: PrivateKey) -> dict[str, str]:
    if isinstance(private, rsa.RSAPrivateKey):
        rsa_numbers = private.public_key().public_numbers()
        return {"kty": "RSA", "n": _number(rsa_numbers.n), "e": _number(rsa_numbers.e)}
    if isinstance(private, ec.EllipticCurvePrivateKey):
        numbers, size = private.public_key().public_numbers(), (private.curve.key_size + 7) // 8
        curve = {"secp256r1": "P-256", "secp384r1": "P-384", "secp521r1": "P-521"}.get(private.curve.name, "secp256k1")
        return {"kty": "EC", "crv": curve, "x": _number(numbers.x, size), "y": _number(numbers.y, size)}
    curve = "Ed25519" if isinstance(private, ed25519.Ed25519PrivateKey) else "Ed448"
    return {"kty": "OKP", "crv": curve, "x": b64(private.public_key().public_bytes_raw())}


def _number(value: int, size: int | None = None) -> str:
    return b64(value.to_bytes(size or (value.bit_length() + 7) // 8, "big"))
