"""What this site has verified of its user itself, with a factor of its own: recorded beside what the OP says.

It is the site's word. Nothing here looks at a code or a key; whatever is stated opens the doors that demand it.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable, Mapping
from typing import Any

from asgiref.sync import sync_to_async
from django.core.exceptions import PermissionDenied
from django.http import HttpRequest

from stepup import clock, conf, links, session, signals
from stepup.assurance import MAX_VALUE_LENGTH, MAX_VALUES, Evidence, Requirement
from stepup.exceptions import StepUpError

__all__ = ["StatementRefused", "arecord", "record"]

logger = logging.getLogger("stepup")

_COLLECTIONS = (list, tuple, set, frozenset)


class StatementRefused(StepUpError, PermissionDenied):
    """What the site states about its user cannot be recorded. Where nobody catches it, Django answers with a 403.

    Attributes:
        reason: one short word: ``"anonymous"`` (nobody is signed in) or ``"ended"`` (the session has been ended since).
    """

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason

    def __str__(self) -> str:
        return f"statement: {self.reason}"


def record(
    request: HttpRequest,
    *,
    amr: Iterable[str] = (),
    acr: Iterable[str] = (),
    claims: Mapping[str, Iterable[str]] | None = None,
    auth_time: float | None = None,
) -> Evidence:
    """State what this site has verified of the user who is signed in: they have just used a factor of its own.

    It counts like an ID token that says so, for each requirement that asks for it, and takes nothing away that is
    there. The session gets a new key (ASVS 5.0, 7.2.4), as with each elevation. So call it where the user has shown
    the factor and nowhere else, and last, when nothing is left that can fail: an error after it loses the new key, and
    with it the sign-in.

    Args:
        request: the user's, with their session.
        amr: the authentication methods used (RFC 8176 lists values), as a list, tuple or set.
        acr: the authentication context classes achieved, as a list, tuple or set.
        claims: values of other claims by which a requirement of the settings is proved, by name.
        auth_time: when that was, in seconds since the epoch; now where it is not given.

    Returns:
        All that is proved in the session, this included.

    Raises:
        StatementRefused: nobody is signed in, or the session has been ended in another tab. Nothing is recorded then.
        TypeError: something is of the wrong type: a string where a collection of them is wanted, for one.
        ValueError: nothing is stated, a value cannot be one, a claim proves nothing here, or the time is in the future.
    """
    settings = conf.current()
    stated = _stated(amr, acr, claims, auth_time, settings)
    user = request.user
    if not user.is_authenticated:
        raise StatementRefused("anonymous")
    former = _rotate(request, settings)
    known = session.read_evidence(request.session, user)
    about = {"iss": settings.issuer, "sub": known.subject if known else ""}
    evidence = session.record(request, user, {**about, **stated}, proof_claims=settings.proof_claims, stated=True)
    session.arrive(request, evidence, settings, now=clock.now())
    if former is not None:
        if settings.back_channel_logout is not None:
            _take_along(request, former)
        former.delete()
    logger.info(
        "Stated by this site: %s",
        ", ".join(stated),
        extra={"event": "stated", "claims": tuple(stated), "user_pk": user.pk},
    )
    signals.elevated.send_robust(
        sender=Requirement, request=request, user=user, requirement=None, evidence=evidence, by="site"
    )
    return evidence


async def arecord(
    request: HttpRequest,
    *,
    amr: Iterable[str] = (),
    acr: Iterable[str] = (),
    claims: Mapping[str, Iterable[str]] | None = None,
    auth_time: float | None = None,
) -> Evidence:
    """As :func:`record`, from asynchronous code."""
    request.user = await request.auser()
    return await sync_to_async(record)(request, amr=amr, acr=acr, claims=claims, auth_time=auth_time)


def _rotate(request: HttpRequest, settings: conf.Settings) -> Any:
    """Give the session a new key. Returns what it was, to be deleted at last; None where this request did so already.

    Raises:
        StatementRefused: there is no such session any more, and it must not come back.
    """
    if not session.is_known_to_browser(request, settings):
        return None
    if not session.adopt_renewal(request):
        raise StatementRefused("ended")
    return session.rotate(request)


def _take_along(request: HttpRequest, former: Any) -> None:
    """See to it that the OP can end the session under its new key too.

    Raises:
        StatementRefused: it has, in this moment.
    """
    try:
        if session.is_on_server(request.session):
            request.session.create()
            links.follow(request, former.session_key)
    except BaseException:
        # Nothing is granted that the OP could not take back; and whoever was signed in stays so.
        request.session = former
        raise
    if not session.holds_evidence(request.session):
        raise StatementRefused("ended")


def _stated(amr: object, acr: object, claims: object, auth_time: object, settings: conf.Settings) -> dict[str, Any]:
    """As the claims of an ID token would have it."""
    if claims is not None and not isinstance(claims, Mapping):
        raise TypeError("claims: must be a mapping of claims to collections of strings")
    others: Mapping[Any, object] = claims or {}
    for name in others:
        if name not in settings.proof_claims:
            raise ValueError(f"claims: no requirement of the settings is proved by {name!r}")
    given = {"amr": _values("amr", amr), "acr": _values("acr", acr)}
    given.update({name: _values(name, values) for name, values in others.items()})
    stated: dict[str, Any] = {name: values for name, values in given.items() if values}
    if not stated and auth_time is None:
        raise ValueError("nothing is stated: say what was verified, or when the user authenticated")
    return {**stated, "auth_time": _time(auth_time, settings)}


def _values(name: str, values: object) -> list[str]:
    # Not any iterable: "mfa" would come to mean m, f and a.
    if not isinstance(values, _COLLECTIONS):
        raise TypeError(f"{name}: must be a list, a tuple or a set of strings")
    if not all(isinstance(value, str) for value in values):
        raise TypeError(f"{name}: every value must be a string")
    if len(values) > MAX_VALUES or not all(0 < len(value) <= MAX_VALUE_LENGTH for value in values):
        raise ValueError(f"{name}: at most {MAX_VALUES} values, of 1 to {MAX_VALUE_LENGTH} characters each")
    return sorted(set(values))


def _time(value: object, settings: conf.Settings) -> int:
    now = clock.now()
    if value is None:
        return int(now)
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        raise TypeError("auth_time: must be a number of seconds since the epoch")
    if not 0 <= value <= now + settings.leeway:
        raise ValueError("auth_time: must be a time in the past, in seconds since the epoch")
    # Another server of the site may have taken it down, whose clock is a little ahead.
    return int(min(value, now))
