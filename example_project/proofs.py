"""What a session has proved, in words for the person it belongs to."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timezone

from stepup import Evidence

#: Authentication methods of RFC 8176, section 2, in plain words, the most telling first.
METHODS = {
    "mfa": "Multi-factor authentication",
    "hwk": "Security key",
    "swk": "Approval on your phone",
    "otp": "One-time code",
    "sms": "Text message",
    "pwd": "Password",
    "pin": "PIN",
}


@dataclass(frozen=True)
class Proof:
    """One line on the start page: what was proved, and when. ``at`` is None where nobody knows."""

    what: str
    at: datetime | None


def proofs(evidence: Evidence | None, told_at: Mapping[str, float]) -> list[Proof]:
    """The authentication methods in the evidence, each with the time that the OP gave for it.

    Args:
        evidence: what the session has proved.
        told_at: when this site learnt of a method, in seconds since the epoch, for methods without a time.
    """
    if evidence is None:
        return []
    methods = evidence.proofs.get("amr", {})
    order = {method: place for place, method in enumerate(METHODS)}
    return [
        Proof(METHODS.get(method, method), _moment(told_at.get(method) if at is None else at))
        for method, at in sorted(methods.items(), key=lambda item: (order.get(item[0], len(order)), item[0]))
    ]


def _moment(seconds: float | None) -> datetime | None:
    return None if seconds is None else datetime.fromtimestamp(seconds, tz=timezone.utc)
