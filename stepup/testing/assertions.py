"""Assertions about protected views. What they say where they fail is what was missing.

>>> assert_protected("/salary/", "mfa")  # doctest: +SKIP
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterable, Mapping
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any

from asgiref.sync import sync_to_async
from django.conf import settings as django_settings
from django.http import HttpRequest
from django.test import RequestFactory
from django.urls import NoReverseMatch, resolve, reverse

from stepup import challenge, clock, conf, gate, inventory, report_only, session
from stepup.assurance import Decision, Evidence, Requirement
from stepup.testing import tokens
from stepup.testing.challenges import asked_by, request_of
from stepup.testing.clients import AsyncStepUpClient, StepUpClient
from stepup.testing.site import without_provider

__all__ = [
    "aassert_protected",
    "aassert_satisfied",
    "assert_protected",
    "assert_satisfied",
    "assert_site_protected",
    "assert_step_up_required",
]

#: A door of some methods only, as the inventory has it.
_SOME_METHODS = re.compile(r"([A-Z]+)(?:,[A-Z]+)*: ")
#: Methods that a response allows, of those for which a door may be.
_METHODS = re.compile(r"POST|PUT|PATCH|DELETE|GET")

#: An argument in a route, and what fits its kind: a door asks before the view looks at it.
_ARGUMENT = re.compile(r"<(?:(\w+):)?\w+>")
_SAMPLES = {"str": "x", "slug": "x", "path": "x", "int": "1", "uuid": "00000000-0000-0000-0000-000000000000"}
#: What is in a route that is a regular expression, or of a kind of the site's own.
_OF_A_PATTERN = frozenset("<>^$()[]{}?*+|\\")

_OFF = "Step-up is off: CLIENTS_WITH_MFA leaves out this site's client id."


def assert_step_up_required(response: Any, needs: gate.Needs = "mfa", *, max_age: int | None = None) -> None:
    """The response asks for a step-up, in whatever form the client understands, and for this requirement.

    Args:
        response: what Django's test client has got, or one of ours.
        needs: what the door was given.
        max_age: in seconds, where the door was given one of its own beside a name.

    Raises:
        AssertionError: it does not. The message says what it is instead, and what the visitor has proved.
    """
    __tracebackhide__ = True
    problem = _not_asking(response, _aged(needs, max_age))
    if problem:
        raise AssertionError(problem)


def assert_satisfied(client: Any, needs: gate.Needs = "mfa", *, max_age: int | None = None) -> None:
    """What was proved in the session of a client satisfies a requirement.

    Args:
        client: a client of the kit.
        needs: what a door may be given.
        max_age: in seconds, beside the name of a requirement.

    Raises:
        AssertionError: it does not, or step-up is off. The message says what is missing.
        TypeError: it is another client.
    """
    __tracebackhide__ = True
    if not isinstance(client, StepUpClient | AsyncStepUpClient):
        raise TypeError(f"{type(client).__name__} is no client of the kit: StepUpClient is, and AsyncStepUpClient.")
    request = client._request()
    requirement = gate.resolve(request, _aged(needs, max_age))
    decision = gate.decide(request, requirement)
    if off := _switched_off(requirement):
        raise AssertionError(f"Nothing needs to be proved here: {off}")
    if not decision:
        lines = [f"{_named(requirement)} is not satisfied.", *_what_was_missing(request, requirement, decision)]
        if any(part.max_age == 0 for part in requirement.parts):
            lines.append("A max_age of 0 is satisfied by one showing of one page, and else never: ask for the page.")
        raise AssertionError("\n".join(lines))


async def aassert_satisfied(client: Any, needs: gate.Needs = "mfa", *, max_age: int | None = None) -> None:
    """As :func:`assert_satisfied`, in asynchronous tests."""
    __tracebackhide__ = True
    await sync_to_async(assert_satisfied)(client, needs, max_age=max_age)


def assert_protected(
    url: str,
    needs: gate.Needs = "mfa",
    *,
    max_age: int | None = None,
    user: Any = None,
    claims: Mapping[str, Any] | None = None,
    method: str = "get",
    status: int | None = None,
    **request: Any,
) -> None:
    """A page opens for those who have proved a requirement, and for nobody else.

    It is visited by somebody who is not signed in, who is signed in and has proved nothing, who has proved it too long
    ago (for its ``max_age``, or for all evidence: ``MAX_EVIDENCE_AGE``), and who has proved it.

    Args:
        url: its path.
        needs: what the door was given.
        max_age: in seconds, where the door was given one of its own beside a name.
        user: who visits it. By default a new user; a page may be for some users only.
        claims: what else their ID token says, where the site's backend looks for that.
        method: how it is asked for.
        status: that of the page for those who have proved it. By default it is one of success, or after a form that was
            sent also a redirect.
        request: what else the test client is given, such as ``data`` or ``headers``.

    Raises:
        AssertionError: it is not so. The message says who found it open, or shut.
    """
    __tracebackhide__ = True
    needs = _aged(needs, max_age)
    problems = []
    with without_provider():
        address = _address(url, method, request)
        for visitor, prepare, opens in _visitors(address, needs, user, claims or {}, method):
            client = StepUpClient()
            prepare(client)
            response = getattr(client, method)(url, **request)
            problem = _not_open(response, status) if opens else _not_asking(response, needs)
            if problem:
                problems.append(f"{visitor}:\n  " + problem.replace("\n", "\n  "))
    if problems:
        raise AssertionError("\n".join([f"{method.upper()} {url} is not protected as it should be.", *problems]))


async def aassert_protected(url: str, needs: gate.Needs = "mfa", **how: Any) -> None:
    """As :func:`assert_protected`, in asynchronous tests."""
    __tracebackhide__ = True
    await sync_to_async(assert_protected)(url, needs, **how)


def assert_site_protected(
    file: str | Path,
    *,
    arguments: Mapping[str, Mapping[str, Any]] | None = None,
    unvisited: Iterable[str] = (),
    user: Any = None,
    claims: Mapping[str, Any] | None = None,
) -> list[str]:
    """The URLs of the site require what the list says that was committed, and really ask for it.

    It is the list of ``manage.py stepup_status --write``. Each page that has protection is visited by somebody who is
    not signed in, and by somebody who is and has proved nothing. Where its URL has arguments, some are made up: a door
    asks before the view looks at them.

    Args:
        file: the path of the list.
        arguments: by URL name, what to put into a URL in place of that.
        unvisited: what need not be visited, by the names that the list has; ``*`` stands for anything.
        user: who is signed in. By default a new user; there may be doors of other kinds before ours.
        claims: as for :func:`assert_protected`.

    Returns:
        The paths that were visited.

    Raises:
        AssertionError: a URL has lost its protection, requires something else or is new and looks sensitive; or it asks
            one of the visitors for no step-up; or it could not be visited. Or step-up is off.
        OSError, ValueError: the list cannot be read.
    """
    __tracebackhide__ = True
    given, left_out = dict(arguments or {}), list(unvisited)
    found = list(inventory.entries(conf.current()))
    recorded = inventory.parse(Path(file).read_text(encoding="utf-8"))
    if not conf.current().enforced:
        raise AssertionError(f"Nothing needs to be proved here. {_OFF}")
    problems = inventory.compare(found, recorded)
    problems += [
        f"There is no URL {name}, which is named here."
        for name in (*given, *left_out)
        if not any(fnmatchcase(entry.key, name) for entry in found)
    ]
    visited: list[str] = []
    with without_provider():
        visitors = _, somebody = StepUpClient(), StepUpClient()
        somebody.sign_in(user, **{**tokens.WITHOUT_MFA, **(claims or {})})
        for entry in filter(_is_enforced, found):
            if any(fnmatchcase(entry.key, name) for name in left_out):
                continue
            try:
                path = _path_of(entry, given.get(entry.name))
            except ValueError as why:
                problems.append(f"{entry.key} was not visited: {why}. Give arguments, or name it in unvisited.")
                continue
            visited.append(path)
            answers = (
                _not_asked(client, path, method, is_signed_in=client is somebody)
                for method in _methods_of(entry)
                for client in visitors
            )
            problems += [f"{entry.key}: {problem}" for problem in answers if problem]
    if problems:
        raise AssertionError("\n".join([f"The site is not protected as {file} says.", *problems]))
    return visited


# ---- Visitors ----


def _visitors(
    address: str, needs: gate.Needs, user: Any, claims: Mapping[str, Any], method: str
) -> list[tuple[str, Callable[[StepUpClient], object], bool]]:
    requirement = _enforced(gate.resolve(StepUpClient()._request(), needs))
    if method.upper() not in challenge.SAFE_METHODS:
        requirement = requirement.for_submission()
    nothing = {**tokens.WITHOUT_MFA, **claims}
    visitors: list[tuple[str, Callable[[StepUpClient], object], bool]] = [
        ("Not signed in", lambda client: None, False),
        ("Signed in, with nothing proved", lambda client: client.sign_in(user, **nothing), False),
        ("With proof", lambda client: client.elevate(needs, user=user, path=address, **claims), True),
    ]
    if (longest := _longest(requirement)) is not None:
        too_old = longest + conf.current().leeway + 1
        visitors.insert(
            2,
            (
                f"With proof of {too_old} s ago",
                lambda client: client.elevate(needs, user=user, age=too_old, **claims),
                False,
            ),
        )
    return visitors


def _address(url: str, method: str, request: Mapping[str, Any]) -> str:
    """The address that is asked for, as a request has it: with what is sent along in it."""
    sent = {name: value for name, value in request.items() if name != "follow"}
    made: HttpRequest = getattr(RequestFactory(), method)(url, **sent)
    return made.get_full_path()


def _longest(requirement: Requirement) -> int | None:
    """For how long all proof of a requirement is good, in seconds; None for ever."""
    ages = (*(part.max_age for part in requirement.parts), conf.current().max_evidence_age)
    return min((age for age in ages if age is not None), default=None)


# ---- The pages of a site ----


def _is_enforced(entry: inventory.Entry) -> bool:
    return any(inventory.REPORT_ONLY not in door.requirement for door in entry.doors)


def _path_of(entry: inventory.Entry, arguments: Mapping[str, Any] | None) -> str:
    """The path of a page.

    Raises:
        ValueError: it cannot be told, or leads elsewhere. The message says why.
    """
    if arguments is not None:
        try:
            named = reverse(entry.name, kwargs=dict(arguments))
        except NoReverseMatch:
            raise ValueError(f"its URL does not take {', '.join(arguments) or 'no arguments'}") from None
        if resolve(named).func is entry.callback:
            return named  # else they are for another URL of that name
    path = _ARGUMENT.sub(lambda argument: _SAMPLES.get(argument[1] or "str", "<"), entry.route)
    if set(path) & _OF_A_PATTERN:
        raise ValueError(f"its URL, {entry.route}, is not one that arguments can be made up for")
    if resolve(path).func is not entry.callback:
        raise ValueError(f"{path} leads to another view")
    return path


def _not_asked(client: StepUpClient, path: str, method: str, *, is_signed_in: bool) -> str:
    """What is wrong with how a page answers a visitor who has proved nothing; empty where it asks for a step-up."""
    secure = django_settings.SECURE_SSL_REDIRECT
    response = getattr(client, method)(path, secure=secure)
    if response.status_code == 405 and (allowed := _METHODS.findall(response.headers.get("Allow", ""))):
        # Another decorator has a say in that before the door.
        method = allowed[0].lower()
        response = getattr(client, method)(path, secure=secure)
    visitor = "somebody who has proved nothing" if is_signed_in else "anybody"
    asked, said = asked_by(response), f"{method.upper()} {path} asks {visitor}"
    if asked is not None and (asked.requirement is not None or not is_signed_in):
        return ""
    if asked is not None:
        return f"{said} to sign in, and for no step-up."
    # Somebody who is not signed in may be sent to sign in first, by whatever stands before the door.
    if not is_signed_in and response.status_code in (302, 303, 401, 403):
        return ""
    return f"{said} for no step-up: it is {_what_it_is(response)}."


def _methods_of(entry: inventory.Entry) -> list[str]:
    """The methods for which a page has doors: one of each door's."""
    found = [_SOME_METHODS.match(door.requirement) for door in entry.doors]
    methods = [each[1].lower() for each in found if each is not None]
    return ["get"] if None in found else list(dict.fromkeys(methods))


# ---- What is said ----


def _aged(needs: gate.Needs, max_age: int | None) -> gate.Needs:
    return needs if max_age is None else gate.Aged(needs, max_age)  # type: ignore[arg-type] # which says so itself


def _enforced(requirement: Requirement) -> Requirement:
    """What is asked for of several requirements, some of which are only reported."""
    return report_only.parted(requirement)[0] or requirement


def _not_asking(response: Any, needs: gate.Needs) -> str:
    """Why a response is no challenge for a requirement; empty where it is one."""
    request = request_of(response)
    requirement = gate.resolve(request, needs)
    asked = asked_by(response)
    expected = [_enforced(requirement)]
    if request.method not in challenge.SAFE_METHODS:
        # A page is gone back to, where nothing is kept, and a form is sent from where it waits.
        expected.append(expected[0].for_submission())
    if asked is not None and asked.requirement in expected:
        return ""
    if asked is None:
        first = f"No step-up is asked for: it is {_what_it_is(response)}."
    elif asked.requirement is None:
        first = "Signing in is asked for, and no step-up."
    else:
        first = f"A step-up is asked for, but for {_described(asked.requirement)}."
    # A request that was answered early, or is for another site, has no user, and nobody decides on it.
    decision = gate.decide(request, requirement) if hasattr(request, "user") else Decision()
    return "\n".join([first, *_what_was_missing(request, requirement, decision)])


def _not_open(response: Any, status: int | None) -> str:
    """Why a response does not show a protected page; empty where it does."""
    if (asked := asked_by(response)) is not None:
        still = _described(asked.requirement) if asked.requirement else "signing in"
        return f"A step-up is still asked for: {still}."
    is_form = request_of(response).method not in challenge.SAFE_METHODS
    is_shown = response.status_code < (400 if is_form else 300) if status is None else response.status_code == status
    if not is_shown:
        return f"It is shut: {_what_it_is(response)}."
    if "no-store" not in response.headers.get("Cache-Control", ""):
        return "It is open, but caches may keep it: whatever has opened it was no door of the package."
    return ""


def _what_it_is(response: Any) -> str:
    said = f"status {response.status_code}"
    if "Location" in response.headers:
        location = response.headers["Location"].partition("?")[0]
        is_for_tls = location == f"https://{request_of(response).get_host()}{request_of(response).path}"
        return f"{said}, to {location}{': ask with secure=True' if is_for_tls else ''}"
    verdict = response.context.get("verdict") if response.context is not None else None
    if verdict == "unavailable":
        return f'{said}, because the provider could not be asked: the test needs "stepup_client" or "stepup_provider"'
    return f"{said}, with the verdict {verdict}" if verdict else said


def _what_was_missing(request: HttpRequest, requirement: Requirement, decision: Decision) -> list[str]:
    lines = [f"Required: {_described(requirement)}"]
    user: Any = getattr(request, "user", None)
    if user is None:
        return [*lines, "Who asks was not looked at: something answered before, or it is another site's page."]
    if user.is_authenticated:
        lines.append(f"Proved by {user}: {_proofs(session.evidence(request))}")
    else:
        lines.append("Nobody is signed in.")
    if decision.unmet and user.is_authenticated:
        lines.append(f"Missing: {'; '.join(_unmet(each) for each in decision.unmet)}")
    if off := _switched_off(requirement):
        lines.append(off)
    return lines


def _switched_off(requirement: Requirement) -> str:
    if not conf.current().enforced:
        return _OFF
    if report_only.covers(requirement):
        return "It is only reported: REPORT_ONLY names it."
    return ""


def _named(requirement: Requirement) -> str:
    return requirement.name or "The requirement"


def _described(requirement: Requirement) -> str:
    return f"{requirement.name} {json.dumps(requirement.to_mapping(), sort_keys=True)}".strip()


def _unmet(unmet: Any) -> str:
    expected = f" {' or '.join(unmet.expected)}" if unmet.expected else ""
    return f"{unmet.claim}{expected} is {unmet.reason.replace('_', ' ')}"


def _proofs(evidence: Evidence | None) -> str:
    if evidence is None:
        return "nothing"
    proved = [
        f"{claim} {value} ({_ago(time)})" for claim, values in evidence.proofs.items() for value, time in values.items()
    ]
    if evidence.auth_time is not None:
        proved.append(f"authentication ({_ago(evidence.auth_time)})")
    return ", ".join(proved) or "nothing"


def _ago(time: float | None) -> str:
    return "nobody says when" if time is None else f"{clock.now() - time:.0f} s ago"
