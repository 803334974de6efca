"""The one gate. Every door asks it; it alone asks for a decision, and for the answer to one that is not satisfied."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass, replace
from enum import Enum
from functools import lru_cache, partial
from inspect import iscoroutine
from typing import Any, Literal, TypeVar

from asgiref.sync import sync_to_async
from django.contrib.auth.models import AbstractBaseUser, AnonymousUser
from django.core.exceptions import ImproperlyConfigured, PermissionDenied
from django.http import HttpRequest, HttpResponse
from django.http.response import HttpResponseBase
from django.utils.functional import SimpleLazyObject, empty

from stepup import challenge, clock, conf, kept, report_only, session
from stepup.assurance import SATISFIED, Decision, Evidence, Requirement, Unmet
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
    """A named requirement with another `max_age` and `submit_max_age`, in seconds."""

    name: str
    max_age: int
    submit_max_age: int | None = None

    def __post_init__(self) -> None:
        # Here, where a mistake shows when the view is defined, and not when somebody opens it.
        if not isinstance(self.name, str):
            raise TypeError("max_age goes with the name of a requirement")
        Requirement(max_age=self.max_age, submit_max_age=self.submit_max_age)


T = TypeVar("T")

_Visitor = tuple[AbstractBaseUser | AnonymousUser, Evidence | None]

Single = str | Requirement | Aged
#: What a door may be given: the name of a requirement, a requirement, several that must all be satisfied, or a function
#: that picks for a request.
Needs = Single | tuple[Single, ...] | Callable[[HttpRequest], "Single | tuple[Single, ...]"]


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
    if isinstance(wanted, tuple) and wanted:
        return Requirement.all_of(*map(_single, wanted))
    return _single(wanted)


def decide(request: HttpRequest, needs: Needs) -> Decision:
    """Whether this request's user and session satisfy a requirement. It asks nobody.

    One that is only reported is satisfied by whoever is signed in. Proof for one showing is used up by the answer: it
    holds for this request.
    """
    return _decide(request, needs, _visitor(request))


async def adecide(request: HttpRequest, needs: Needs) -> Decision:
    """As :func:`decide`, from asynchronous code."""
    visitor = await _avisitor(request)
    return await _in_a_thread_if_settled(request, _decide, is_signed_in=visitor[0].is_authenticated)(
        request, needs, visitor
    )


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
    if _is_plainly_allowed(request, needs):
        return None
    answer = _admission(request, needs, _visitor(request))
    return answer() if callable(answer) else answer


async def aadmit(request: HttpRequest, needs: Needs) -> HttpResponse | Literal[Passage.UNSEALED] | None:
    """As :func:`admit`, from asynchronous code."""
    if request.method == "POST" and (refusal := await arestore(request)) is not None:
        return refusal
    visitor = await _avisitor(request)
    answer = await _in_a_thread_if_settled(request, _admission, is_signed_in=visitor[0].is_authenticated)(
        request, needs, visitor
    )
    # The answer may take a session to save or the OP to be asked: work for a thread, and seldom done.
    return await sync_to_async(answer)() if callable(answer) else answer


def refuse(request: HttpRequest, needs: Needs) -> HttpResponse | None:
    """The answer to :class:`StepUpRequired`; None where the requirement is satisfied already.

    One that is only reported is enforced here: the view has been left, and there is nothing to go on with.
    """
    requirement, visitor = resolve(request, needs), _visitor(request)
    decision = _judge(request, requirement, visitor)
    return None if decision.satisfied else _refuse(request, requirement, decision, visitor)


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
    _demand(request, needs, _visitor(request))


async def ademand(request: HttpRequest, needs: Needs = DEFAULT_REQUIREMENT) -> None:
    """As :func:`demand`, from asynchronous code."""
    await sync_to_async(_demand)(request, needs, await _avisitor(request))


def keep_no_form(request: HttpRequest) -> None:
    """Whatever this request brings is not kept until after a step-up."""
    kept.keep_none(request)


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


def _visitor(request: HttpRequest) -> _Visitor:
    user = request.user
    return user, session.read_evidence(request.session, user) if user.is_authenticated else None


async def _avisitor(request: HttpRequest) -> _Visitor:
    user = await request.auser()
    # From here on `request.user` can be asked in asynchronous code too, by a template for one.
    request.user = user
    return user, await session.aread_evidence(request.session, user) if user.is_authenticated else None


def _in_a_thread_if_settled(
    request: HttpRequest, function: Callable[..., T], *, is_signed_in: bool
) -> Callable[..., Awaitable[T]]:
    """To use up what was proved on the way takes a session to save: work for a thread, once after a step-up."""
    if is_signed_in and session.is_settled(request):
        return sync_to_async(function)

    async def at_once(*args: Any) -> T:
        return function(*args)

    return at_once


def _admission(
    request: HttpRequest, needs: Needs, visitor: _Visitor
) -> Callable[[], HttpResponse | Literal[Passage.UNSEALED] | None] | Literal[Passage.UNSEALED] | None:
    """As :func:`admit`; or what makes the answer."""
    enforced, tried = report_only.parted(resolve(request, needs))
    if enforced is not None:
        decision = _judge(request, enforced, visitor)
        if not decision.satisfied:
            return partial(_refuse, request, enforced, decision, visitor)
    if tried is None:
        return None
    decision = _judge(request, tried, visitor)
    if not decision.satisfied:
        return partial(_report, request, tried, decision, is_all=enforced is None)
    return UNSEALED if enforced is None else None


def _refuse(request: HttpRequest, requirement: Requirement, decision: Decision, visitor: _Visitor) -> HttpResponse:
    """The answer that asks for all that this page's doors need, at once."""
    needs = [needs for _, needs in getattr(getattr(request.resolver_match, "func", None), "stepup_doors", ())]
    others = (report_only.parted(resolve(request, each))[0] for each in needs if not callable(each))
    unmet = [each for each in others if each is not None and not _judge(request, each, visitor).satisfied]
    together = Requirement.all_of(requirement, *unmet)
    if together != requirement:
        requirement, decision = together, _judge(request, together, visitor)
    return challenge.answer(request, requirement, decision)


def _report(
    request: HttpRequest, requirement: Requirement, decision: Decision, *, is_all: bool
) -> HttpResponse | Literal[Passage.UNSEALED] | None:
    report_only.report(request, requirement, decision)
    if not is_all:
        return None
    return (report_only.sign_in(request) if decision is NOT_SIGNED_IN else None) or UNSEALED


def _decide(request: HttpRequest, needs: Needs, visitor: _Visitor) -> Decision:
    enforced, tried = report_only.parted(resolve(request, needs))
    decision = _judge(request, enforced or tried, visitor)  # type: ignore[arg-type] # one of them is there
    return decision if enforced is not None or decision is NOT_SIGNED_IN else SATISFIED


def _demand(request: HttpRequest, needs: Needs, visitor: _Visitor) -> None:
    enforced, tried = report_only.parted(resolve(request, needs))
    if enforced is not None:
        if not _judge(request, enforced, visitor).satisfied:
            raise StepUpRequired(needs)
        remember(request)
    if tried is not None and not (decision := _judge(request, tried, visitor)).satisfied:
        report_only.report(request, tried, decision)


def _is_plainly_allowed(request: HttpRequest, needs: Needs) -> bool:
    if type(needs) is str:
        name, max_age = needs, None
    elif type(needs) is Aged:
        name, max_age = needs.name, needs.max_age
    else:
        return False
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
    if max_age is None:
        max_age = requirement.max_age
    return session.shows(request.session, user, requirement, max_age, settings)


def _judge(request: HttpRequest, requirement: Requirement, visitor: _Visitor) -> Decision:
    user, evidence = visitor
    if not user.is_authenticated:
        return NOT_SIGNED_IN
    settings = conf.current()
    if not settings.enforced:
        return SATISFIED
    now = clock.now()
    needed = requirement.for_submission() if request.method in challenge.SUBMITTING else requirement
    decision = settings.judge(evidence, needed, now=now)
    # What was proved on the way here is fresh for this request, and for all doors that it passes.
    since: float | None = getattr(request, "_stepup_fresh_since", None)
    is_first = since is None
    if since is None:
        page, within = kept.page_of(request)
        since = session.settled(request, needed, page, now=now, within=within)
    is_enough = decision.satisfied and not any(part.max_age == 0 for part in needed.parts)
    is_fresh = since is not None and (
        is_enough or settings.judge(evidence, needed.within(now - since), now=now).satisfied
    )
    if is_fresh and is_first and kept.shown(request) is None:
        # Also where the page could be shown without: it is for one showing.
        if session.use_up_settled(request, settings, for_good=not is_enough):
            request._stepup_fresh_since = since  # type: ignore[attr-defined]
        else:
            is_fresh = False  # another request of this session was faster
    if is_enough:
        return decision
    if is_fresh:
        return SATISFIED
    # Where nothing else is amiss it is proof for one showing, and another page has had it.
    return Decision((Unmet("auth_time", "stale"),)) if decision.satisfied else decision


def _single(wanted: object) -> Requirement:
    if isinstance(wanted, Requirement):
        return wanted
    if isinstance(wanted, Aged):
        named = _named(wanted.name)
        return _aged(named, named.name, wanted.max_age, wanted.submit_max_age)
    return _named(wanted)


def _named(name: object) -> Requirement:
    requirement = conf.current().requirements.get(name) if isinstance(name, str) else None
    if requirement is None:
        raise ImproperlyConfigured(f"{name!r} is no requirement, nor the name of one in STEPUP['REQUIREMENTS'].")
    return requirement


@lru_cache(maxsize=256)
def _aged(requirement: Requirement, name: str, max_age: int, submit_max_age: int | None) -> Requirement:
    # The name is for the cache, in which two requirements that prove the same are else one.
    return replace(requirement.aged(max_age, submit_max_age), name=name)
