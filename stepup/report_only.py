"""Requirements that are tried out: what they would have asked for is reported, and nothing else changes.

A door whose requirement `STEPUP["REPORT_ONLY"]` names is as if it were not there. What would have kept a visitor out
without it still does: a door tells Django's `LoginRequiredMiddleware` to leave its view alone, so where that middleware
is installed it is asked here instead.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from functools import partial, update_wrapper
from typing import Any

from django.contrib.auth.middleware import LoginRequiredMiddleware
from django.http import HttpRequest, HttpResponse
from django.utils.encoding import escape_uri_path

from stepup import challenge, conf, signals
from stepup.assurance import Decision, Requirement

__all__ = ["covers", "note_sign_in", "parted", "report", "sign_in"]

logger = logging.getLogger("stepup")


def covers(requirement: Requirement, settings: conf.Settings | None = None) -> bool:
    """Whether a requirement is only reported: it is one of the settings', perhaps with another `max_age`."""
    settings = settings or conf.current()
    if requirement.name not in settings.report_only:
        return False
    named = settings.requirements[requirement.name]
    return requirement is named or _without_age(requirement) == _without_age(named)


def parted(requirement: Requirement) -> tuple[Requirement | None, Requirement | None]:
    """What of a requirement is enforced, and what is only reported; None for nothing."""
    settings = conf.current()
    if not settings.report_only:
        return requirement, None
    return _parted(requirement, settings)


def _parted(requirement: Requirement, settings: conf.Settings) -> tuple[Requirement | None, Requirement | None]:
    if covers(requirement, settings):
        return None, requirement
    if not requirement.also:
        return requirement, None
    sides = [_parted(unit, settings) for unit in requirement.units]
    enforced, tried = ([side for side in of_all if side is not None] for of_all in zip(*sides, strict=True))
    if not tried:
        return requirement, None
    return Requirement.all_of(*enforced) if enforced else None, Requirement.all_of(*tried)


def _without_age(requirement: Requirement) -> dict[str, Any]:
    plain = requirement.to_mapping()
    for key in ("max_age", "submit_max_age"):
        plain.pop(key, None)
    return plain


def report(request: HttpRequest, requirement: Requirement, decision: Decision) -> None:
    """Log, and tell receivers, that this request would have been challenged. Once: it would not have got further."""
    if getattr(request, "_stepup_reported", False):
        return
    request._stepup_reported = True  # type: ignore[attr-defined]
    match = request.resolver_match
    reasons = list(map(str, decision.unmet))
    # Without the query, which may hold anything; quoted, so that a path makes no second line.
    path = escape_uri_path(request.path)
    logger.info(
        "Step-up would have been challenged: %s (%s) at %s",
        requirement.name,
        ", ".join(reasons),
        path,
        extra={
            "event": "would_challenge",
            "requirement": requirement.name,
            "user_pk": request.user.pk,
            "reasons": reasons,
            "view": match.view_name if match else "",
            "path": path,
            "kind": challenge.kind_of(request),
        },
    )
    signals.reported.send_robust(sender=Requirement, request=request, requirement=requirement, decision=decision)


def note_sign_in(view: Callable[..., Any]) -> None:
    """Keep on a view what it said of sign-in before a door took that over."""
    if not hasattr(view, "stepup_login_required"):
        view.stepup_login_required = getattr(view, "login_required", True)  # type: ignore[attr-defined]


def sign_in(request: HttpRequest) -> HttpResponse | None:
    """What `LoginRequiredMiddleware` would answer to somebody who is not signed in, if the view had no door.

    None where it would let the request pass, or is not installed. The site's own sub-class is asked, with the view as
    it was: it may exempt some, or send people elsewhere.
    """
    middleware = conf.current().installed(LoginRequiredMiddleware)
    if middleware is None:
        return None
    match = request.resolver_match
    args, kwargs = (match.args, match.kwargs) if match else ((), {})
    before = _as_it_was(match.func if match else _nothing)
    answer: HttpResponse | None = middleware(_nothing).process_view(request, before, args, kwargs)
    return answer


def _as_it_was(view: Callable[..., Any]) -> Callable[..., Any]:
    before = update_wrapper(partial(view), view)
    before.login_required = getattr(view, "stepup_login_required", getattr(view, "login_required", True))  # type: ignore[attr-defined]
    return before


def _nothing(request: HttpRequest) -> HttpResponse:
    return HttpResponse(status=404)
