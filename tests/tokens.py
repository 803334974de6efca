"""The tokens of the test kit, for the test site as its settings stand, whatever a test makes of them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from stepup.testing import tokens
from stepup.testing.tokens import ABSENT, KEY_FOR, KEYS, SUBJECT, SigningKey, b64, half_hash, jwks, signature
from tests import settings

__all__ = [
    "ABSENT", "CLIENT_ID", "CLIENT_SECRET", "ISSUER", "KEYS", "KEY_FOR", "SUBJECT", "SigningKey", "b64", "claims",
    "half_hash", "jwks", "sign", "signature",
]  # fmt: skip

ISSUER: str = settings.STEPUP["ISSUER"]  # type: ignore[assignment] # the dictionary holds more than strings
CLIENT_ID = settings.OIDC_RP_CLIENT_ID
CLIENT_SECRET = settings.OIDC_RP_CLIENT_SECRET


def claims(*, at: float | None = None, **overrides: Any) -> dict[str, Any]:
    """The claims of a good ID token, made and authenticated at the time `at` (now, if not said)."""
    return tokens.claims(at=at, **{"iss": ISSUER, "aud": CLIENT_ID, **overrides})


def sign(
    payload: Mapping[str, Any] | str | bytes,
    alg: str = "RS256",
    *,
    key: SigningKey | str | bytes | None = None,
    header: Mapping[str, Any] | str | bytes | None = None,
) -> str:
    """A token in JWS compact serialization; HS256 to HS512 with the client secret, where no key is named."""
    if key is None and alg.startswith("HS"):
        key = CLIENT_SECRET
    return tokens.sign(payload, alg, key=key, header=header)
