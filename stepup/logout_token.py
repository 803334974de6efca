"""`verify` turns a logout token into what it says has ended, or raises `ClaimError` (Back-Channel Logout 1.0, 2.6).

Pure, as `stepup.id_token`, whose steps it takes: what signs ID tokens signs these, and by the same rules.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass, field

from stepup.id_token import (
    LOGOUT_EVENT,
    KeySet,
    Kind,
    check_audience,
    check_issuer,
    check_subject,
    refuse,
    time_of,
    verified_payload,
)

__all__ = ["Logout", "verify"]

#: For how long after it was made a logout token is good, in seconds. Its own ``exp`` may end that sooner.
MAX_AGE = 300
#: The longest ``sid`` and ``jti`` that are understood, in characters.
MAX_LENGTH = 255

LOGOUT_TOKEN = Kind(
    "logout_token", lambda typ: typ.removeprefix("application/") in ("jwt", "logout+jwt"), "not a logout token"
)


@dataclass(frozen=True, slots=True)
class Logout:
    """What has ended at the OP: the session `sid`, or all sessions of `subject`, or what both are true of.

    Attributes:
        issued_at: when the OP said so, in seconds since the epoch.
        jti: the name of this very token, for one use.
    """

    issuer: str
    subject: str | None
    sid: str | None
    issued_at: float
    jti: str = field(repr=False)


def verify(
    token: object,
    keys: KeySet,
    *,
    algorithms: Collection[str],
    issuer: str,
    audiences: Collection[str],
    now: float,
    leeway: float = 0,
    match_kid: bool = True,
) -> Logout:
    """What a logout token says, in which everything is as it must be (OpenID Connect Back-Channel Logout 1.0, 2.6).

    Whether its ``jti`` was there before is for the caller to know.

    Args:
        token: the logout token in JWS compact serialization, as it came.
        keys: what may have signed it: the keys for ID tokens.
        algorithms: what it may have been signed with, as ID tokens.
        issuer: what ``iss`` must be, to the letter.
        audiences: the client ids that are ours.
        now: the time, in seconds since the epoch.
        leeway: allowed clock skew, in seconds.
        match_kid: whether a ``kid`` in the header picks the key.

    Raises:
        UnknownKey: none of the keys verifies it, though a newer set of keys might.
        ClaimError: it is refused; ``claim`` and ``reason`` say why.
    """
    claims, _ = verified_payload(token, keys, algorithms, match_kid=match_kid, kind=LOGOUT_TOKEN)
    events = claims.get("events")
    if not isinstance(events, dict) or not isinstance(events.get(LOGOUT_EVENT), dict):
        refuse("events", "missing" if "events" not in claims else "not a logout token")
    if "nonce" in claims:
        # An ID token has one. It is forbidden here so that neither can be taken for the other.
        refuse("nonce", "not a logout token")
    check_issuer(claims, issuer)
    check_audience(claims, audiences)

    issued_at = time_of(claims, "iat")
    if issued_at > now + leeway:
        refuse("iat", "in the future")
    if now - leeway >= issued_at + MAX_AGE:
        refuse("iat", "too old")
    # Those that were written before the specification was final have no `exp`.
    if "exp" in claims and now - leeway >= time_of(claims, "exp"):
        refuse("exp", "expired")

    if "sub" in claims:
        check_subject(claims)
    for claim in ("sid", "jti"):
        value = claims.get(claim)
        if claim in claims and not (isinstance(value, str) and 0 < len(value) <= MAX_LENGTH):
            refuse(claim, "malformed")
    if "jti" not in claims:
        refuse("jti", "missing")
    if "sub" not in claims and "sid" not in claims:
        refuse("sub", "missing")
    return Logout(issuer, claims.get("sub"), claims.get("sid"), issued_at, claims["jti"])
