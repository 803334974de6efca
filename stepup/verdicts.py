"""What became of an authentication request, and the page that tells the person: what happened, and what to do."""

from __future__ import annotations

import enum
import logging
import math
import secrets
from collections.abc import Sequence
from typing import NamedTuple, TypeVar
from urllib.parse import quote

from django.contrib.auth.models import AbstractBaseUser, AnonymousUser
from django.http import HttpRequest, HttpResponse
from django.http.response import HttpResponseBase
from django.shortcuts import render
from django.urls import NoReverseMatch, get_script_prefix, reverse
from django.utils.cache import add_never_cache_headers
from django.utils.functional import Promise
from django.utils.translation import gettext_lazy as _
from django.utils.translation import ngettext_lazy

from stepup import conf, signals
from stepup.assurance import Decision, Evidence, Requirement

__all__ = ["Verdict", "judge", "page"]

logger = logging.getLogger("stepup")

Response = TypeVar("Response", bound=HttpResponseBase)


class Verdict(str, enum.Enum):
    """What became of an authentication request. The value is the code in logs, signals and templates."""

    SATISFIED = "satisfied"
    IGNORED = "ignored"
    STALE = "stale"
    PROOF_MISSING = "proof_missing"
    WRONG_USER = "wrong_user"
    NO_ACCOUNT = "no_account"
    DECLINED = "declined"
    UNMET = "unmet"
    INVALID = "invalid"
    EXPIRED = "expired"
    UNAVAILABLE = "unavailable"
    EXHAUSTED = "exhausted"


class _Text(NamedTuple):
    status: int
    heading: Promise
    what_happened: Promise
    what_to_do: Promise


_TEXTS = {
    Verdict.IGNORED: _Text(
        403,
        _("This page needs more than your sign-in has shown"),
        _("Your sign-in service answered, but did not carry out the additional confirmation that this page asks for."),
        _("Try again. If it happens again, tell whoever looks after this site: the sign-in service may not be set up."),
    ),
    Verdict.STALE: _Text(
        403,
        _("Your confirmation is too long ago"),
        _("This page wants to know that it is you. Your sign-in service did not say that you confirmed it lately."),
        _("Try again, and confirm that it is you when your sign-in service asks."),
    ),
    Verdict.PROOF_MISSING: _Text(
        403,
        _("Multi-factor authentication was not confirmed"),
        _("Your sign-in service knows you, but did not say that you used a second factor. The page stays shut."),
        _("Try again and complete the additional step. If none was asked for, tell whoever looks after this site."),
    ),
    Verdict.WRONG_USER: _Text(
        403,
        _("You confirmed as somebody else"),
        _("You are signed in here with one account, but at your sign-in service you used another. Nothing changed."),
        _("Try again with the account that you are signed in with, or sign out first to change to the other one."),
    ),
    Verdict.NO_ACCOUNT: _Text(
        403,
        _("There is no account for you here"),
        _("Your sign-in service knows you, but that sign-in cannot be used for an account on this site."),
        _("Ask whoever looks after this site to set up or connect your account."),
    ),
    Verdict.DECLINED: _Text(
        403,
        _("The confirmation was cancelled"),
        _("You, or your sign-in service, stopped before the confirmation was complete. The page stays shut."),
        _("Try again to open it."),
    ),
    Verdict.UNMET: _Text(
        403,
        _("Your sign-in service cannot confirm what this page needs"),
        _("It answered that it could not carry out the additional confirmation for you as things are."),
        _("Try again. If it happens again, tell whoever looks after this site."),
    ),
    Verdict.INVALID: _Text(
        400,
        _("The answer of your sign-in service was refused"),
        _("What came back could not be accepted, so it was not used. Nothing was changed."),
        _("Try again. If it happens again, tell whoever looks after this site."),
    ),
    Verdict.EXPIRED: _Text(
        400,
        _("This sign-in link is no longer valid"),
        _("It was used before, took too long, or belongs to another browser or an earlier session. Nothing changed."),
        _("Go back to the page that you wanted and start again from there."),
    ),
    Verdict.UNAVAILABLE: _Text(
        503,
        _("Your sign-in service does not answer"),
        _("This site could not reach it, or got no usable answer. Nothing was changed."),
        _("Wait a moment, and try again."),
    ),
    Verdict.EXHAUSTED: _Text(
        429,
        _("This was tried often enough for now"),
        _("It was tried several times in a short while, and came to nothing. The page stays shut."),
        _("Ask whoever looks after this site for help, or try again later."),
    ),
}  # fmt: skip


#: What to do where no other try is offered for a while.
_ASK_AND_WAIT = ngettext_lazy(
    "Ask whoever looks after this site for help. You can try again in %(minutes)d minute.",
    "Ask whoever looks after this site for help. You can try again in %(minutes)d minutes.",
    "minutes",
)


#: Verdicts that somebody gets who has no second factor: what the OP says then differs from one to the next.
UNENROLLED = frozenset({Verdict.IGNORED, Verdict.PROOF_MISSING, Verdict.DECLINED, Verdict.UNMET, Verdict.EXHAUSTED})

_ENROL = _("If you have no second factor yet, set one up first. Then come back here.")
_ASK_TO_ENROL = _(
    "If you have no second factor yet, set one up at your sign-in service first, or ask whoever looks after this site "
    "how to."
)


def judge(decision: Decision, received: Evidence) -> Verdict:
    """The verdict on an answer that was accepted as genuine.

    Args:
        decision: how the session's evidence, the new included, compares with the requirement.
        received: the evidence in the new ID token alone.
    """
    if decision.satisfied:
        return Verdict.SATISFIED
    if all(unmet.reason != "missing" for unmet in decision.unmet):
        return Verdict.STALE
    # Not a word on how the user authenticated is another fault than the wrong word.
    return Verdict.IGNORED if received.proofs else Verdict.PROOF_MISSING


def page(
    request: HttpRequest,
    verdict: Verdict,
    *,
    user: AbstractBaseUser | AnonymousUser,
    requirement: Requirement | None = None,
    reasons: Sequence[str] = (),
    retry_url: str = "",
    wait: float = 0,
) -> HttpResponse:
    """The page for a verdict other than satisfied; the log and the `refused` signal hear of it too.

    Args:
        user: who is signed in now, perhaps nobody.
        requirement: what was asked for, if anything.
        reasons: short words for whoever looks into it; never a value that came from outside.
        retry_url: where another try starts, if one makes sense.
        wait: for how long no other try is offered, in seconds; 0 where that is not so.
    """
    text = _TEXTS[verdict]
    minutes = math.ceil(wait / 60)
    how_to_enrol, enrol_url = _enrolment(request, requirement, retry_url) if verdict in UNENROLLED else ("", "")
    reference = secrets.token_hex(4)
    logger.warning(
        "Step-up refused: %s (%s) [%s]",
        verdict.value,
        ", ".join(reasons) or "no further reason",
        reference,
        extra={
            "event": "refused",
            "verdict": verdict.value,
            "reasons": tuple(reasons),
            "requirement": requirement.name if requirement else "",
            "user_pk": user.pk,
            "reference": reference,
        },
    )
    signals.refused.send_robust(
        sender=Verdict, request=request, user=user, requirement=requirement, verdict=verdict, reasons=tuple(reasons)
    )
    response = render(
        request,
        "stepup/verdict.html",
        {
            "verdict": verdict.value,
            "heading": text.heading,
            "what_happened": text.what_happened,
            "what_to_do": _ASK_AND_WAIT % {"minutes": minutes} if wait else text.what_to_do,
            "wait_minutes": minutes,
            "reasons": list(reasons),
            "how_to_enrol": how_to_enrol,
            "enrol_url": enrol_url,
            "retry_url": retry_url,
            "home_url": get_script_prefix(),
            "sign_out_url": _sign_out_url() if verdict is Verdict.WRONG_USER and user.is_authenticated else "",
            "signed_in": user.is_authenticated,
            "reference": reference,
            "documentation_url": _documentation_url(requirement),
        },
        status=text.status,
    )
    if wait and verdict is Verdict.EXHAUSTED:
        response.headers["Retry-After"] = str(math.ceil(wait))  # RFC 6585, 4
    return private(response)


def _enrolment(request: HttpRequest, requirement: Requirement | None, retry_url: str) -> tuple[Promise | str, str]:
    """What to say, and where to send, somebody who may have no second factor. It opens no door."""
    parts = [part for part in (requirement.parts if requirement else ()) if part.amr or part.acr or part.claims]
    if not parts:
        return "", ""  # to confirm once more takes no second factor
    url = next((part.enrol_url for part in parts if part.unenrolled == "enrol"), "")
    if not url:
        return _ASK_TO_ENROL, ""
    back = request.build_absolute_uri(retry_url or get_script_prefix())
    return _ENROL, url.replace("{return_url}", quote(back, safe=""))


def _documentation_url(requirement: Requirement | None) -> str:
    of_parts = (part.documentation_url for part in ((requirement, *requirement.parts) if requirement else ()))
    return next(filter(None, of_parts), conf.current().documentation_url)


def private(response: Response) -> Response:
    """Keep a response out of every cache, the browser's back button included."""
    add_never_cache_headers(response)
    return response


def _sign_out_url() -> str:
    try:
        return reverse("oidc_logout")
    except NoReverseMatch:
        return ""
