"""The one gate. Every door asks it; it alone asks for a decision, and for the answer to one that is not satisfied."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass, replace
from enum import Enum
from functools import lru_cache
from inspect import iscoroutine
from typing import Any, Literal

from asgiref.sync import sync_to_async
from django.contrib.auth.models import AbstractBaseUser, AnonymousUser
from django.core.exceptions import ImproperlyConfigured, PermissionDenied
from django.http import HttpRequest, HttpResponse
from django.http.response import HttpResponseBase
from django.utils.functional import SimpleLazyObject, empty

from stepup import challenge, clock, conf, kept, report_only, session
from stepup.assurance import SATISFIED, Decision, Evidence, Requirement, Unmet, evaluate
from stepup.conf import DEFAULT_REQUIREMENT

__all__ = [
    "Aged",
    "Needs",
    "StepUpRequired",
    "acheck",
    "adecide",
    "ademand",
    "aguard",
    "arestore",
    "check",
    "decide",
    "demand",
    "guard",
    "restore",
]

#: As `django.utils.cache.add_never_cache_headers` says it, without taking apart what was there before.
NEVER_CACHE = "max-age=0, no-cache, no-store, must-revalidate, private"

#: Somebody who is not signed in has proved nothing, whatever is required.
NOT_SIGNED_IN = Decision((Unmet("sub", "missing"),))


class Passage(Enum):
    """How a request may go on behind a door that only reports."""

    UNSEALED = "the answer is sent as the view makes it"


UNSEALED = Passage.UNSEALED


@dataclass(frozen=True, slots=True)
class Aged:
    """A named requirement with another `max_age`, in seconds."""

    name: str
    max_age: int

    def __post_init__(self) -> None:
        # Here, where a mistake shows when the view is defined, and not when somebody opens it.
        if not isinstance(self.name, str):
            raise TypeError("max_age goes with the name of a requirement")
        Requirement(max_age=self.max_age)


#: What a door may be given: the name of a requirement, a requirement, or a function that picks one for a request.
Needs = str | Requirement | Aged | Callable[[HttpRequest], "str | Requirement"]


class StepUpRequired(PermissionDenied):
    """Raise it anywhere below a view: `StepUpMiddleware` answers as a door of that requirement would have.

    Without the middleware it is a plain 403, and where the requirement is satisfied already too: whoever raises it asks
    for something that a step-up cannot bring.
    """

    def __init__(self, requirement: Needs = DEFAULT_REQUIREMENT) -> None:
        super().__init__("This needs a step-up.")
        self.requirement = requirement


def resolve(request: HttpRequest, needs: Needs) -> Requirement:
    """The requirement that a door was given.

    Raises:
        ImproperlyConfigured: it names none that the settings define, or is nothing that can be required.
    """
    if type(needs) is str:
        return _named(needs)
    wanted: object = needs
    if callable(wanted):
        wanted = wanted(request)
    if isinstance(wanted, Requirement):
        return wanted
    if isinstance(wanted, Aged):
        return _aged(_named(wanted.name), wanted.max_age)
    return _named(wanted)


def decide(request: HttpRequest, needs: Needs) -> Decision:
    """Whether this request's user and session satisfy a requirement. It asks nobody and changes nothing.

    One that is only reported is satisfied by whoever is signed in.
    """
    requirement = resolve(request, needs)
    return _leniently(requirement, _judge(request, requirement))


async def adecide(request: HttpRequest, needs: Needs) -> Decision:
    """As :func:`decide`, from asynchronous code."""
    requirement = resolve(request, needs)
    return _leniently(requirement, await _ajudge(request, requirement))


def check(request: HttpRequest, needs: Needs) -> HttpResponse | None:
    """None where the request may go on; else the answer to give instead."""
    refusal = admit(request, needs)
    return None if refusal is UNSEALED else refusal


async def acheck(request: HttpRequest, needs: Needs) -> HttpResponse | None:
    """As :func:`check`, from asynchronous code."""
    refusal = await aadmit(request, needs)
    return None if refusal is UNSEALED else refusal


def admit(request: HttpRequest, needs: Needs) -> HttpResponse | Literal[Passage.UNSEALED] | None:
    """None where the request may go on and its answer is sealed; `UNSEALED` where a door must leave no trace."""
    if request.method == "POST" and (refusal := restore(request)) is not None:
        return refusal
    # What nearly every request of a protected page is answered by, in as few steps as can be.
    if type(needs) is str and _is_plainly_allowed(request, needs):
        return None
    requirement = resolve(request, needs)
    decision = _judge(request, requirement)
    if report_only.covers(requirement):
        return _report(request, requirement, decision)
    return None if decision.satisfied else challenge.answer(request, requirement, decision)


async def aadmit(request: HttpRequest, needs: Needs) -> HttpResponse | Literal[Passage.UNSEALED] | None:
    """As :func:`admit`, from asynchronous code."""
    if request.method == "POST" and (refusal := await arestore(request)) is not None:
        return refusal
    requirement = resolve(request, needs)
    decision = await _ajudge(request, requirement)
    # The answer may take a session to save or the OP to be asked: work for a thread, and seldom done.
    if report_only.covers(requirement):
        return UNSEALED if decision.satisfied else await sync_to_async(_report)(request, requirement, decision)
    return None if decision.satisfied else await sync_to_async(challenge.answer)(request, requirement, decision)


def refuse(request: HttpRequest, needs: Needs) -> HttpResponse | None:
    """The answer to :class:`StepUpRequired`; None where the requirement is satisfied already.

    One that is only reported is enforced here: the view has been left, and there is nothing to go on with.
    """
    requirement = resolve(request, needs)
    decision = _judge(request, requirement)
    return None if decision.satisfied else challenge.answer(request, requirement, decision)


def restore(request: HttpRequest) -> HttpResponse | None:
    """Put a form that was kept until after a step-up in the place of a POST that stands for it.

    None where the request may go on; else the answer to give instead.
    """
    return kept.restore(request) if kept.has_mark(request) else None


async def arestore(request: HttpRequest) -> HttpResponse | None:
    """As :func:`restore`, from asynchronous code."""
    return await sync_to_async(kept.restore)(request) if kept.has_mark(request) else None


def guard(request: HttpRequest, needs: Needs, view: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Any:
    """The answer of the gate or, where the request may go on, that of the view, kept out of caches."""
    refusal = admit(request, needs)
    if refusal is None:
        return seal(view(request, *args, **kwargs))
    return view(request, *args, **kwargs) if refusal is UNSEALED else refusal


async def aguard(
    request: HttpRequest, needs: Needs, view: Callable[..., Awaitable[Any]], /, *args: Any, **kwargs: Any
) -> Any:
    """As :func:`guard`, for asynchronous views."""
    refusal = await aadmit(request, needs)
    if refusal is None:
        return seal(await view(request, *args, **kwargs))
    return await view(request, *args, **kwargs) if refusal is UNSEALED else refusal


def demand(request: HttpRequest, needs: Needs = DEFAULT_REQUIREMENT) -> None:
    """Go on only where the requirement is satisfied: for code below a view, under `StepUpMiddleware`.

    Raises:
        StepUpRequired: it is not.
    """
    requirement = resolve(request, needs)
    _demand(request, needs, requirement, _judge(request, requirement))


async def ademand(request: HttpRequest, needs: Needs = DEFAULT_REQUIREMENT) -> None:
    """As :func:`demand`, from asynchronous code."""
    requirement = resolve(request, needs)
    decision = await _ajudge(request, requirement)
    await sync_to_async(_demand)(request, needs, requirement, decision)


def mark(
    view: Callable[..., Any], needs: Needs, door: str = "decorator", *, keep_form: bool = True
) -> Callable[..., Any]:
    """Note on a view what it requires, whether its forms are kept, and that it looks after sign-in itself.

    Without the last, Django's `LoginRequiredMiddleware` would send an anonymous visitor to sign in first and to step
    up only afterwards: two trips to the OP where one does.
    """
    view.stepup_requirement = needs  # type: ignore[attr-defined]
    # The wrapper has what was noted on the view inside: all doors, the outermost first.
    view.stepup_doors = ((door, needs), *getattr(view, "stepup_doors", ()))  # type: ignore[attr-defined]
    report_only.note_sign_in(view)
    if not keep_form:
        view.stepup_keep_form = False  # type: ignore[attr-defined]
    view.login_required = False  # type: ignore[attr-defined]
    return view


def remember(request: HttpRequest) -> None:
    """Note that what this request shows is protected, for the middleware to seal."""
    request._stepup_protected = True  # type: ignore[attr-defined]


def is_remembered(request: HttpRequest) -> bool:
    return getattr(request, "_stepup_protected", False)


def seal(response: Any) -> Any:
    """Keep a protected page out of caches, so that the back button shows nothing of it after sign-out.

    Whatever the view said of caches is replaced: nothing that it could say is stricter (RFC 9111, 5.2.2).
    """
    if isinstance(response, HttpResponseBase):
        response.headers["Cache-Control"] = NEVER_CACHE
    elif iscoroutine(response):
        response.close()
        raise TypeError("An asynchronous view stands behind a synchronous wrapper: put the door next to the view.")
    return response


def _report(
    request: HttpRequest, requirement: Requirement, decision: Decision
) -> HttpResponse | Literal[Passage.UNSEALED]:
    if decision.satisfied:
        return UNSEALED
    report_only.report(request, requirement, decision)
    return (report_only.sign_in(request) if decision is NOT_SIGNED_IN else None) or UNSEALED


def _leniently(requirement: Requirement, decision: Decision) -> Decision:
    if decision.satisfied or decision is NOT_SIGNED_IN or not report_only.covers(requirement):
        return decision
    return SATISFIED


def _demand(request: HttpRequest, needs: Needs, requirement: Requirement, decision: Decision) -> None:
    if report_only.covers(requirement):
        if not decision.satisfied:
            report_only.report(request, requirement, decision)
    elif decision.satisfied:
        remember(request)
    else:
        raise StepUpRequired(needs)


def _judge(request: HttpRequest, requirement: Requirement) -> Decision:
    user = request.user
    evidence = session.read_evidence(request.session, user) if user.is_authenticated else None
    return _decision(request, user, requirement, evidence)


async def _ajudge(request: HttpRequest, requirement: Requirement) -> Decision:
    user = await request.auser()
    # From here on `request.user` can be asked in asynchronous code too, by a template for one.
    request.user = user
    evidence = await session.aread_evidence(request.session, user) if user.is_authenticated else None
    return _decision(request, user, requirement, evidence)


def _is_plainly_allowed(request: HttpRequest, name: str) -> bool:
    settings = conf.current()
    # Those that are only reported take the long way.
    requirement = settings.enforced_requirements.get(name)
    if requirement is None:
        return False
    user: Any = request.user
    if type(user) is SimpleLazyObject:
        # Each look through Django's proxy costs a microsecond. Where the user is there already, look behind it.
        loaded = object.__getattribute__(user, "_wrapped")
        user = user if loaded is empty else loaded
    return session.shows(request.session, user, requirement, settings)


def _decision(
    request: HttpRequest,
    user: AbstractBaseUser | AnonymousUser,
    requirement: Requirement,
    evidence: Evidence | None,
) -> Decision:
    if not user.is_authenticated:
        return NOT_SIGNED_IN
    settings = conf.current()
    if not settings.enforced:
        return SATISFIED
    now = clock.now()
    decision = evaluate(evidence, requirement, now=now, leeway=settings.leeway)
    if decision.satisfied:
        return decision
    # What was proved on the way here is fresh for this request, and for all doors that it passes.
    let_through: float | None = getattr(request, "_stepup_fresh_since", None)
    since = let_through
    if since is None:
        page, within = kept.page_of(request)
        since = session.settled(request, requirement, page, now=now, within=within)
    if since is None or not evaluate(evidence, requirement.within(now - since), now=now, leeway=settings.leeway):
        return decision
    if let_through is None:
        request._stepup_fresh_since = since  # type: ignore[attr-defined]
        session.use_up_settled(request)
    return SATISFIED


def _named(name: object) -> Requirement:
    requirement = conf.current().requirements.get(name) if isinstance(name, str) else None
    if requirement is None:
        raise ImproperlyConfigured(f"{name!r} is no requirement, nor the name of one in STEPUP['REQUIREMENTS'].")
    return requirement


@lru_cache(maxsize=256)
def _aged(requirement: Requirement, max_age: int) -> Requirement:
    return replace(requirement, max_age=max_age)
