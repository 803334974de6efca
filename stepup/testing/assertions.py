"""Assertions about protected views. What they say where they fail is what was missing.

>>> assert_protected("/salary/", "mfa")  # doctest: +SKIP
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from asgiref.sync import sync_to_async
from django.http import HttpRequest
from django.urls import NoReverseMatch, reverse

from stepup import challenge, clock, conf, gate, inventory, report_only, session
from stepup.assurance import Decision, Evidence, Requirement
from stepup.testing import tokens
from stepup.testing.challenges import asked_by, request_of
from stepup.testing.clients import StepUpClient
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
_SOME_METHODS = re.compile(r"[A-Z]+(,[A-Z]+)*: ")


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
    """
    __tracebackhide__ = True
    request = client._request()
    requirement = gate.resolve(request, _aged(needs, max_age))
    decision = gate.decide(request, requirement)
    if off := _switched_off(requirement):
        raise AssertionError(f"Nothing needs to be proved here: {off}")
    if not decision:
        raise AssertionError(
            "\n".join([f"{_named(requirement)} is not satisfied.", *_what_was_missing(request, requirement, decision)])
        )


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
    method: str = "get",
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
        method: how it is asked for.
        request: what else the test client is given, such as ``data`` or ``headers``.

    Raises:
        AssertionError: it is not so. The message says who found it open, or shut.
    """
    __tracebackhide__ = True
    needs = _aged(needs, max_age)
    problems = []
    with without_provider():
        for visitor, prepare, opens in _visitors(url, needs, user, method):
            client = StepUpClient()
            prepare(client)
            response = getattr(client, method)(url, **request)
            problem = _not_open(response) if opens else _not_asking(response, needs)
            if problem:
                problems.append(f"{visitor}:\n  " + problem.replace("\n", "\n  "))
    if problems:
        raise AssertionError("\n".join([f"{method.upper()} {url} is not protected as it should be.", *problems]))


async def aassert_protected(url: str, needs: gate.Needs = "mfa", **how: Any) -> None:
    """As :func:`assert_protected`, in asynchronous tests."""
    __tracebackhide__ = True
    await sync_to_async(assert_protected)(url, needs, **how)


def assert_site_protected(file: str | Path, *, arguments: Mapping[str, Mapping[str, Any]] | None = None) -> list[str]:
    """The URLs of the site require what the list says that was committed, and really ask for it.

    It is the list of ``manage.py stepup_status --write``. Each page that has protection is visited by somebody who is
    not signed in, unless its URL needs arguments that are not given here.

    Args:
        file: the path of the list.
        arguments: by URL name, what to put into a URL.

    Returns:
        The paths that were visited.

    Raises:
        AssertionError: a URL has lost its protection, requires something else or is new and looks sensitive; or it is
            opened to somebody who is not signed in.
        OSError, ValueError: the list cannot be read.
    """
    __tracebackhide__ = True
    found = list(inventory.entries(conf.current()))
    problems = inventory.compare(found, inventory.parse(Path(file).read_text(encoding="utf-8")))
    visited = []
    with without_provider():
        for entry in found:
            path = _path_of(entry, arguments or {})
            if path and path not in visited:
                visited.append(path)
                response = StepUpClient().get(path)
                if response.status_code < 300 and asked_by(response) is None:
                    problems.append(f"{entry.key}: GET {path} is {_what_it_is(response)} for anybody.")
    if problems:
        raise AssertionError("\n".join([f"The site is not protected as {file} says.", *problems]))
    return visited


# ---- Visitors ----


def _visitors(
    url: str, needs: gate.Needs, user: Any, method: str
) -> list[tuple[str, Callable[[StepUpClient], object], bool]]:
    requirement = _enforced(gate.resolve(StepUpClient()._request(), needs))
    if method.upper() not in challenge.SAFE_METHODS:
        requirement = requirement.for_submission()
    visitors: list[tuple[str, Callable[[StepUpClient], object], bool]] = [
        ("Not signed in", lambda client: None, False),
        ("Signed in, with nothing proved", lambda client: client.sign_in(user, **tokens.WITHOUT_MFA), False),
        ("With proof", lambda client: client.elevate(needs, user=user, path=url), True),
    ]
    if (longest := _longest(requirement)) is not None:
        too_old = longest + conf.current().leeway + 1
        visitors.insert(
            2, (f"With proof of {too_old} s ago", lambda client: client.elevate(needs, user=user, age=too_old), False)
        )
    return visitors


def _longest(requirement: Requirement) -> int | None:
    """For how long all proof of a requirement is good, in seconds; None for ever."""
    ages = (*(part.max_age for part in requirement.parts), conf.current().max_evidence_age)
    return min((age for age in ages if age is not None), default=None)


def _path_of(entry: inventory.Entry, arguments: Mapping[str, Mapping[str, Any]]) -> str:
    """The path of a page that everybody has to prove something for; empty where there is none, or it cannot be told."""
    doors = [door for door in entry.doors if not _SOME_METHODS.match(door.requirement)]
    if not entry.name or not any(inventory.REPORT_ONLY not in door.requirement for door in doors):
        return ""
    try:
        return reverse(entry.name, kwargs=dict(arguments.get(entry.name, {})) or None)
    except NoReverseMatch:
        return ""


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
    return "\n".join([first, *_what_was_missing(request, requirement, gate.decide(request, requirement))])


def _not_open(response: Any) -> str:
    """Why a response does not show a protected page; empty where it does."""
    if (asked := asked_by(response)) is not None:
        still = _described(asked.requirement) if asked.requirement else "signing in"
        return f"A step-up is still asked for: {still}."
    if response.status_code >= 400:
        return f"It is shut: {_what_it_is(response)}."
    if "no-store" not in response.headers.get("Cache-Control", ""):
        return "It is open, but caches may keep it: whatever has opened it was no door of the package."
    return ""


def _what_it_is(response: Any) -> str:
    said = f"status {response.status_code}"
    if "Location" in response.headers:
        return f"{said}, to {response.headers['Location'].partition('?')[0]}"
    verdict = response.context.get("verdict") if response.context is not None else None
    if verdict == "unavailable":
        return f'{said}, because the provider could not be asked: the test needs "stepup_client" or "stepup_provider"'
    return f"{said}, with the verdict {verdict}" if verdict else said


def _what_was_missing(request: HttpRequest, requirement: Requirement, decision: Decision) -> list[str]:
    lines = [f"Required: {_described(requirement)}"]
    user = request.user
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
        return "Step-up is off: CLIENTS_WITH_MFA leaves out this site's client id."
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
