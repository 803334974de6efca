"""`verify` turns an ID token into claims to be trusted, or raises `ClaimError` (OpenID Connect Core 1.0, 3.1.3.7).

Pure: no Django, no settings, no network, no clock. Signatures are PyJWT's and cryptography's work; the rules are here.
The steps that hold for whatever else the OP signs have names of their own, for `stepup.logout_token` to take.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
import math
import re
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field
from typing import Any, NoReturn

from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric import ec, ed448, ed25519, rsa
from cryptography.hazmat.primitives.serialization import load_pem_private_key, load_pem_public_key
from jwt import PyJWS, PyJWTError
from jwt.algorithms import ECAlgorithm, OKPAlgorithm, RSAAlgorithm

from stepup.algorithms import SIGNING_ALGORITHMS
from stepup.exceptions import ClaimError

__all__ = ["Key", "KeySet", "UnknownKey", "parse_json", "signing_key", "verify", "verify_userinfo"]

#: The largest ID token that is looked at, in characters.
MAX_TOKEN_LENGTH = 64 * 1024
#: How many keys of a JWKS are kept, and how many are tried on one ID token.
MAX_KEYS = 100
MAX_TRIES = 20
#: How deeply claims may be nested.
MAX_DEPTH = 64
#: The year 10000, in seconds since the epoch. What comes after it was said in another unit, or by a joker.
END_OF_TIME = 253_402_300_800
MIN_RSA_BITS = 2048  # RFC 7518, 3.3

_CURVES = {"ES256": "secp256r1", "ES384": "secp384r1", "ES512": "secp521r1"}
_HASHES = {"256": "sha256", "384": "sha384", "512": "sha512"}
_JWS = PyJWS()
_ESCAPED_SURROGATE = re.compile(r"\\ud[89a-f]", re.IGNORECASE)
_ESCAPED_NUL = re.compile(r"(?<!\\)(?:\\\\)*\\u0000")

PublicKey = rsa.RSAPublicKey | ec.EllipticCurvePublicKey | ed25519.Ed25519PublicKey | ed448.Ed448PublicKey


#: The member of `events` that makes a token a logout token (OpenID Connect Back-Channel Logout 1.0, 2.4).
LOGOUT_EVENT = "http://schemas.openid.net/event/backchannel-logout"


class UnknownKey(ClaimError):
    """No key at hand verifies the signature, but a newer JWKS might have one."""


@dataclass(frozen=True, slots=True)
class Kind:
    """A kind of token that an OP signs.

    Attributes:
        name: what it is called where the whole of it is refused.
        has_type: whether this may be its ``typ``, in small letters.
        mismatch: why one of another ``typ`` is refused.
    """

    name: str
    has_type: Callable[[str], bool]
    mismatch: str


#: An access token (RFC 9068) or a logout token says what it is (RFC 8725, 3.11); an ID token seldom does.
ID_TOKEN = Kind("id_token", lambda typ: not typ.endswith("+jwt"), "not an ID token")


@dataclass(frozen=True, slots=True)
class Key:
    """A key that may verify signatures.

    Attributes:
        algorithms: what it can verify: by its type, its size or curve, and its own ``alg`` where it names one.
        kid: its name, if any.
    """

    material: PublicKey | bytes = field(repr=False)
    algorithms: frozenset[str]
    kid: str | None = None


@dataclass(frozen=True, slots=True)
class KeySet:
    """The keys that verify one OP's ID tokens. A key that must not be used is not in it."""

    keys: tuple[Key, ...] = ()

    @classmethod
    def from_jwks(cls, jwks: object) -> KeySet:
        """The usable keys of a JWKS document (RFC 7517, section 5).

        Left out: symmetric keys (whoever can read a published secret can sign with it), keys for encryption, RSA keys
        under 2048 bits, and whatever cannot be read as a public key.

        Raises:
            ValueError: it is no JWKS document.
        """
        listed = jwks.get("keys") if isinstance(jwks, Mapping) else None
        if not isinstance(listed, list):
            raise ValueError("not a JWKS document")
        return cls(tuple(key for jwk in listed[:MAX_KEYS] if (key := _from_jwk(jwk))))

    @classmethod
    def from_pem(cls, pem: str | bytes) -> KeySet:
        """One public key in PEM.

        Raises:
            ValueError: it cannot be read, or must not be used.
        """
        data = pem.encode() if isinstance(pem, str) else pem
        try:
            material = load_pem_public_key(data)
        except UnsupportedAlgorithm as error:
            raise ValueError(str(error)) from None
        algorithms = _algorithms_of(material)
        if not algorithms:
            raise ValueError("not a key that may verify ID tokens")
        return cls((Key(material, algorithms),))  # type: ignore[arg-type] # _algorithms_of knew its type

    @classmethod
    def from_setting(cls, key: object) -> KeySet:
        """One public key as settings may have it: in PEM, or as a JWK.

        Raises:
            ValueError, TypeError: it is neither.
        """
        if isinstance(key, Mapping):
            return cls.from_jwks({"keys": [key]})
        if isinstance(key, (str, bytes)):
            return cls.from_pem(key)
        raise TypeError("neither PEM nor JWK")

    @classmethod
    def from_secret(cls, secret: str) -> KeySet:
        """The client secret as a key: for each hash that is no longer than the secret is (RFC 7518, 3.2)."""
        material = secret.encode()
        usable = {f"HS{size}" for size in _HASHES if len(material) * 8 >= int(size)}
        return cls((Key(material, frozenset(usable)),))

    def that_fit(self, alg: str, kid: str | None) -> tuple[Key, ...]:
        return tuple(key for key in self.keys if alg in key.algorithms and (kid is None or key.kid in (None, kid)))


def verify(
    token: object,
    keys: KeySet,
    *,
    algorithms: Collection[str],
    issuer: str,
    audiences: Collection[str],
    now: float,
    leeway: float = 0,
    nonce: str | None = None,
    access_token: str | None = None,
    match_kid: bool = True,
) -> dict[str, Any]:
    """The claims of an ID token in which everything is as it must be (OpenID Connect Core 1.0, 2 and 3.1.3.7).

    Args:
        token: the ID token in JWS compact serialization, as it came.
        keys: what may have signed it.
        algorithms: what it may have been signed with, of :data:`~stepup.algorithms.SIGNING_ALGORITHMS`.
        issuer: what ``iss`` must be, to the letter.
        audiences: the client ids that are ours: ``aud`` must name nobody else, ``azp`` none but one of them.
        now: the time, in seconds since the epoch.
        leeway: allowed clock skew, in seconds.
        nonce: what was sent in the authentication request; ``None`` where none was (refresh tokens).
        access_token: what came with it; checked where the ID token has ``at_hash``.
        match_kid: whether a ``kid`` in the header picks the key. Off, each key that fits is tried.

    Raises:
        UnknownKey: none of the keys verifies it, though a newer set of keys might.
        ClaimError: it is refused; ``claim`` and ``reason`` say why.
    """
    claims, signed_with = verified_payload(token, keys, algorithms, match_kid=match_kid)

    check_issuer(claims, issuer)
    check_audience(claims, audiences)
    check_subject(claims)
    events = claims.get("events")
    if isinstance(events, dict) and LOGOUT_EVENT in events:
        refuse("events", "not an ID token")

    if now - leeway >= time_of(claims, "exp"):
        refuse("exp", "expired")
    for claim in ("iat", "nbf", "auth_time"):
        if (claim == "iat" or claim in claims) and time_of(claims, claim) > now + leeway:
            refuse(claim, "in the future")

    if nonce is not None:
        sent_back = claims.get("nonce")
        if not isinstance(sent_back, str):
            refuse("nonce", "missing" if "nonce" not in claims else "malformed")
        if not hmac.compare_digest(sent_back.encode(), nonce.encode()):
            refuse("nonce", "mismatch")

    if access_token is not None and "at_hash" in claims:
        expected = _half_hash(access_token, *signed_with)
        sent = claims["at_hash"]
        if not isinstance(sent, str) or not hmac.compare_digest(sent.encode(), expected.encode()):
            refuse("at_hash", "mismatch")
    return claims


def signing_key(pem: str) -> tuple[Any, str]:
    """A private key in PEM, and the algorithm that it signs with: what this site proves itself with to the OP.

    Raises:
        ValueError, TypeError: it is none that may be used.
    """
    try:
        key = load_pem_private_key(pem.encode(), None)
    except UnsupportedAlgorithm as error:
        raise ValueError(str(error)) from None
    algorithms = _algorithms_of(key.public_key())
    for algorithm in ("RS256", "ES256", "ES384", "ES512", "EdDSA"):
        if algorithm in algorithms:
            return key, algorithm
    raise ValueError("not a key that may sign")


def verify_userinfo(
    token: object,
    keys: KeySet,
    *,
    algorithms: Collection[str],
    issuer: str,
    audiences: Collection[str],
    now: float,
    leeway: float = 0,
    match_kid: bool = True,
) -> dict[str, Any]:
    """The claims of a signed userinfo response (OpenID Connect Core 1.0, 5.3.2), which has no nonce.

    Raises:
        ClaimError: it is refused. ``iss``, ``aud`` and ``exp`` may be absent, but are held to what they say.
    """
    claims, _ = verified_payload(token, keys, algorithms, match_kid=match_kid)
    if claims.get("iss", issuer) != issuer:
        refuse("iss", "mismatch")
    if "aud" in claims:
        check_audience(claims, audiences)
    if "exp" in claims and now - leeway >= time_of(claims, "exp"):
        refuse("exp", "expired")
    return claims


def parse_json(data: bytes) -> Any:
    """The value of a JSON text, where there is no doubt what it is.

    Raises:
        ValueError: it is no JSON in UTF-8, says one thing twice, has a number that JSON has not, is nested deeper than
            any sane sender would, or has characters that a database cannot store (NUL, half a surrogate pair).
    """
    text = data.decode("utf-8")
    if _ESCAPED_NUL.search(text):
        raise ValueError("a NUL character")
    try:
        value = json.loads(text, object_pairs_hook=_members, parse_constant=_no_constant, parse_float=_finite)
        if _ESCAPED_SURROGATE.search(text):
            # A pair of surrogates in escapes is one character; half of one is none, and cannot be encoded.
            json.dumps(value, ensure_ascii=False).encode("utf-8")
    except RecursionError:
        raise ValueError("nested too deeply") from None
    if text.count("[") + text.count("{") > MAX_DEPTH:
        _check_depth(value)
    return value


def _check_depth(value: object) -> None:
    """Refuse what is read here, and then cannot be written further down the stack."""
    layer, depth = [value], 0
    while layer:
        depth += 1
        if depth > MAX_DEPTH:
            raise ValueError("nested too deeply")
        layer = [
            inner
            for outer in layer
            if isinstance(outer, (dict, list))
            for inner in (outer.values() if isinstance(outer, dict) else outer)
        ]


def _members(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    members = dict(pairs)
    if len(members) != len(pairs):
        raise ValueError("duplicate members")
    return members


def _finite(number: str) -> float:
    value = float(number)
    if math.isinf(value):
        raise ValueError("a number that is too large")
    return value


def _no_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is no JSON")


def refuse(claim: str, reason: str) -> NoReturn:
    """Raise the error that says so."""
    raise ClaimError(claim, reason)


def verified_payload(
    token: object, keys: KeySet, algorithms: Collection[str], *, match_kid: bool, kind: Kind = ID_TOKEN
) -> tuple[dict[str, Any], tuple[str, Key]]:
    """The claims of a token whose signature is right, and the algorithm and the key that show it.

    Raises:
        UnknownKey, ClaimError: it is refused.
    """
    if not isinstance(token, str) or not token:
        refuse(kind.name, "missing")
    if len(token) > MAX_TOKEN_LENGTH:
        refuse(kind.name, "too large")
    segments = token.split(".")
    if len(segments) != 3:
        refuse(kind.name, "encrypted" if len(segments) == 5 else "malformed")
    if not segments[2]:
        refuse("signature", "missing")
    # `jwk`, `jku`, `x5u` and `x5c` are not looked at: keys come from the OP, never from the token (RFC 8725, 3.10).
    header = _object(_decode("header", segments[0]), "header")
    if "crit" in header or "b64" in header:
        # No extension is understood here, so one that must be understood is a refusal (RFC 7515, 4.1.11).
        refuse("crit", "not supported")
    typ = header.get("typ", "JWT")
    if not isinstance(typ, str) or not kind.has_type(typ.lower()):
        refuse("typ", kind.mismatch)
    alg = header.get("alg")
    if not isinstance(alg, str) or alg not in algorithms or alg not in SIGNING_ALGORITHMS:
        refuse("alg", "not allowed" if "alg" in header else "missing")
    kid = header.get("kid")
    if kid is not None and not isinstance(kid, str):
        refuse("kid", "malformed")

    payload = _decode("payload", segments[1])
    signature = _decode("signature", segments[2])
    signing_input = token[: token.rindex(".")].encode("ascii")
    if alg.startswith("HS") and not keys.that_fit(alg, None):
        refuse("alg", "client secret too short")
    named = kid if match_kid and not alg.startswith("HS") else None
    candidates = keys.that_fit(alg, named)
    for key in candidates[:MAX_TRIES]:
        if _signed(alg, signing_input, key, signature):
            return _object(payload, "payload"), (alg, key)
    # Only a key of that very name settles it; of any other, a newer set of keys might have one.
    if alg.startswith("HS") or (named is not None and any(key.kid == named for key in candidates)):
        refuse("signature", "mismatch")
    raise UnknownKey("kid", "unknown")


def _signed(alg: str, signing_input: bytes, key: Key, signature: bytes) -> bool:
    try:
        return _JWS.get_algorithm_by_name("EdDSA" if alg.startswith("Ed") else alg).verify(
            signing_input, key.material, signature
        )
    except (PyJWTError, ValueError, TypeError):
        # Whatever a library finds wrong with a signature, it does not verify.
        return False


def _decode(part: str, segment: str) -> bytes:
    try:
        decoded = base64.urlsafe_b64decode(segment + "=" * (-len(segment) % 4))
    except ValueError:
        refuse(part, "malformed")
    # The library's decoder skips what is no base64url. Two spellings of one token are one too many.
    if base64.urlsafe_b64encode(decoded).rstrip(b"=").decode() != segment:
        refuse(part, "malformed")
    return decoded


def _object(data: bytes, part: str) -> dict[str, Any]:
    try:
        value = parse_json(data)
    except ValueError:
        refuse(part, "malformed")
    if not isinstance(value, dict):
        refuse(part, "malformed")
    return value


def check_issuer(claims: Mapping[str, Any], issuer: str) -> None:
    """``iss`` is the issuer, to the letter."""
    if claims.get("iss") != issuer:
        refuse("iss", "missing" if "iss" not in claims else "mismatch")


def check_subject(claims: Mapping[str, Any]) -> None:
    """``sub`` is there, and may be one (OpenID Connect Core 1.0, 2)."""
    subject = claims.get("sub")
    if not isinstance(subject, str) or not 0 < len(subject) <= 255:
        refuse("sub", "missing" if "sub" not in claims else "malformed")
    if not (subject.isascii() and subject.isprintable()):
        refuse("sub", "malformed")


def check_audience(claims: Mapping[str, Any], audiences: Collection[str]) -> None:
    """``aud`` names clients that are ours and nobody else, ``azp`` one of them."""
    aud = claims.get("aud")
    named = [aud] if isinstance(aud, str) else aud
    if not isinstance(named, list) or not named:
        refuse("aud", "missing" if "aud" not in claims else "malformed")
    if not all(isinstance(client, str) for client in named):
        refuse("aud", "malformed")
    if not all(client in audiences for client in named):
        refuse("aud", "mismatch")
    if "azp" in claims:
        azp = claims["azp"]
        if not isinstance(azp, str) or azp not in audiences:
            refuse("azp", "mismatch")
    elif len(set(named)) > 1:
        refuse("azp", "missing")


def time_of(claims: Mapping[str, Any], claim: str) -> float:
    """A NumericDate (RFC 7519, section 2): JSON numbers with a fraction are allowed, truth and milliseconds are not."""
    value = claims.get(claim)
    if value is None:
        refuse(claim, "missing")
    if not isinstance(value, (int, float)) or isinstance(value, bool) or not 0 <= value < END_OF_TIME:
        refuse(claim, "malformed")
    return value


def _half_hash(access_token: str, alg: str, key: Key) -> str:
    data = access_token.encode()
    if not alg.startswith("Ed"):
        digest = hashlib.new(_HASHES[alg[2:]], data).digest()
    elif isinstance(key.material, ed25519.Ed25519PublicKey):
        digest = hashlib.sha512(data).digest()
    else:
        digest = hashlib.shake_256(data).digest(114)
    return base64.urlsafe_b64encode(digest[: len(digest) // 2]).rstrip(b"=").decode()


def _from_jwk(jwk: object) -> Key | None:
    if not isinstance(jwk, Mapping) or jwk.get("use", "sig") != "sig":
        return None
    operations = jwk.get("key_ops", ["verify"])
    kid = jwk.get("kid")
    readers: dict[str, Any] = {"RSA": RSAAlgorithm, "EC": ECAlgorithm, "OKP": OKPAlgorithm}
    reader = readers.get(jwk["kty"]) if isinstance(jwk.get("kty"), str) else None
    if (
        reader is None
        or not isinstance(operations, list)
        or "verify" not in operations
        or not (kid is None or isinstance(kid, str))
        or "d" in jwk  # a private key that was published is everybody's
    ):
        return None
    try:
        material = reader.from_jwk(jwk)
    except (PyJWTError, UnsupportedAlgorithm, ValueError, TypeError, KeyError, AttributeError):
        return None
    algorithms = _algorithms_of(material)
    if "alg" in jwk:
        algorithms &= {jwk["alg"]} if isinstance(jwk["alg"], str) else frozenset()
    return Key(material, algorithms, kid) if algorithms else None


def _algorithms_of(material: object) -> frozenset[str]:
    if isinstance(material, rsa.RSAPublicKey) and material.key_size >= MIN_RSA_BITS:
        return frozenset(f"{family}{size}" for family in ("RS", "PS") for size in _HASHES)
    if isinstance(material, ec.EllipticCurvePublicKey):
        return frozenset(alg for alg, curve in _CURVES.items() if curve == material.curve.name)
    if isinstance(material, ed25519.Ed25519PublicKey):
        return frozenset({"EdDSA", "Ed25519"})
    if isinstance(material, ed448.Ed448PublicKey):
        return frozenset({"EdDSA", "Ed448"})
    return frozenset()
