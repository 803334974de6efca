"""What the site's URLs require: read from the URL conf, the settings, and what the doors note on the views.

It sees what a door has noted. A decorator without `functools.wraps` around a door hides the note, and code below a view
that asks for more leaves none: such a view is listed as one on which nothing was seen.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from django.core.exceptions import ImproperlyConfigured
from django.urls import ResolverMatch, URLPattern, URLResolver, get_resolver

from stepup import report_only
from stepup.assurance import Requirement
from stepup.conf import Settings
from stepup.gate import Aged
from stepup.middleware import StepUpMiddleware, entry_for, is_own, names_of

__all__ = ["Door", "Entry", "Recorded", "compare", "entries", "parse", "render", "requirement_name", "unmatched"]

#: Words in a URL's name or route that make one look twice. A longer word that begins with one counts as well, unless
#: the one is so short that it begins many.
SENSITIVE = (
    "2fa", "admin", "backup", "bank", "billing", "credential", "delete", "erase", "export", "hijack", "impersonat",
    "invoice", "mfa", "otp", "passkey", "passwd", "password", "payment", "payout", "payroll", "recovery", "refund",
    "salar", "secret", "token", "totp", "wage", "webauthn",
)  # fmt: skip
SHORT = 4

#: What a view on which no door was seen has in the committed list, where somebody has found that it may be so.
OPEN = "-"
REPORT_ONLY = " (report only)"


@dataclass(frozen=True, slots=True)
class Door:
    """Something that protects a view.

    Attributes:
        kind: ``decorator``, ``mixin`` or ``settings``.
        requirement: as text; see the reference of the command.
        detail: the entry of ``PROTECTED_VIEWS``.
    """

    kind: str
    requirement: str
    detail: str = ""

    def __str__(self) -> str:
        return f"{self.kind} ({self.detail})" if self.detail else self.kind


@dataclass(frozen=True, slots=True)
class Entry:
    """One URL pattern.

    Attributes:
        name: with the namespaces of the instance; empty where it has none.
        names: those by which the settings may protect it.
        route: all of it, with a slash before it.
        callback: the view as the URL conf has it.
        doors: the outermost first.
        is_own: whether it is a part of the round trip itself, which no requirement applies to.
    """

    name: str
    names: tuple[str, ...]
    route: str
    callback: Callable[..., Any]
    doors: tuple[Door, ...]
    is_own: bool

    @property
    def key(self) -> str:
        """What it is called in the committed list."""
        return " ".join((self.name or self.route).split())

    @property
    def view(self) -> str:
        return path_of(self.callback)

    @property
    def requirement(self) -> str:
        """What all doors together require; :data:`OPEN` where none was seen."""
        return " + ".join(dict.fromkeys(door.requirement for door in self.doors)) or OPEN

    @property
    def looks_sensitive(self) -> tuple[str, ...]:
        """The words in its name and route that say so; none where it is protected."""
        if self.doors or self.is_own:
            return ()
        text = re.sub(r"([a-z])([A-Z])", r"\1 \2", f"{self.name} {self.route}").lower()
        found = re.findall(r"[a-z0-9]+", text)
        return tuple(dict.fromkeys(filter(_is_sensitive, found)))


def entries(settings: Settings, url_conf: str | None = None) -> Iterator[Entry]:
    """Every URL of the site, in the order of its URL conf. A project without URLs has none; Django itself says so.

    Raises:
        ImportError, ImproperlyConfigured: a URL conf that was named, or one that is included, cannot be read.
    """
    protected = settings.protected_views if settings.installed(StepUpMiddleware) else {}
    try:
        patterns = get_resolver(url_conf).url_patterns
    except (ImproperlyConfigured, ImportError, AttributeError):
        if url_conf is not None:
            raise
        return
    for callback, route, match in _walk(patterns):
        names = names_of(match)
        own = is_own(match.view_name, settings)
        entry = None if own else entry_for(protected, *names)
        doors = [Door("settings", describe(protected[entry], settings), entry)] if entry is not None else []
        doors += (Door(kind, methods + describe(needs, settings)) for kind, needs, methods in _noted(callback))
        yield Entry(match.view_name if match.url_name else "", names, route, callback, tuple(doors), own)


def unmatched(protected: Iterable[str], found: Iterable[Entry]) -> list[str]:
    """The entries of ``PROTECTED_VIEWS`` that protect nothing, because no URL has such a name."""
    names = {name for entry in found for name in entry.names}
    return [
        entry
        for entry in protected
        if not any(name.startswith(entry[:-1]) if entry.endswith("*") else name == entry for name in names)
    ]


def noted(callback: Callable[..., Any]) -> list[Any]:
    """What the doors that can be seen on a view were given, of several together each."""
    given = [needs for _, needs, _ in _noted(callback)]
    return [each for needs in given for each in (needs if isinstance(needs, tuple) else (needs,))]


def requirement_name(needs: Any) -> str | None:
    """The name of the requirement that a door was given by name."""
    name = needs.name if isinstance(needs, Aged) else needs
    return name if isinstance(name, str) else None


def describe(needs: Any, settings: Settings) -> str:
    """What a door was given, as a text that stays the same from one run to the next."""
    if isinstance(needs, Requirement):
        text = needs.name
        if settings.requirements.get(needs.name) != needs:
            text += json.dumps(needs.to_mapping(), separators=(",", ":"), sort_keys=True)
        return text + (REPORT_ONLY if report_only.covers(needs, settings) else "")
    if (name := requirement_name(needs)) is not None:
        return name + _ages(needs) + (REPORT_ONLY if name in settings.report_only else "")
    if isinstance(needs, tuple) and needs:
        return " + ".join(describe(each, settings) for each in needs)
    return f"per request: {path_of(needs)}" if callable(needs) else f"invalid: {needs!r}"


def _ages(needs: Any) -> str:
    if not isinstance(needs, Aged):
        return ""
    submit = "" if needs.submit_max_age is None else f", submit_max_age={needs.submit_max_age}"
    return f"(max_age={needs.max_age}{submit})"


def path_of(thing: Any) -> str:
    """Where a view, or a function that picks a requirement, is defined."""
    thing = getattr(thing, "view_class", thing)
    return f"{thing.__module__}.{getattr(thing, '__qualname__', type(thing).__qualname__)}"


def _is_sensitive(text: str) -> bool:
    return any(text in (word, f"{word}s") or (len(word) > SHORT and text.startswith(word)) for word in SENSITIVE)


def _walk(
    patterns: Sequence[Any], route: str = "/", namespaces: tuple[str, ...] = (), apps: tuple[str, ...] = ()
) -> Iterator[tuple[Callable[..., Any], str, ResolverMatch]]:
    for pattern in patterns:
        here = route + str(getattr(pattern, "pattern", "")).removeprefix("^")
        if isinstance(pattern, URLResolver):
            yield from _walk(
                pattern.url_patterns,
                here,
                (*namespaces, pattern.namespace) if pattern.namespace else namespaces,
                (*apps, pattern.app_name) if pattern.app_name else apps,
            )
        elif isinstance(pattern, URLPattern):
            # As Django makes it for a request, so that the names are those that the middleware goes by.
            match = ResolverMatch(
                pattern.callback, (), {}, url_name=pattern.name, app_names=[*apps], namespaces=[*namespaces]
            )
            yield pattern.callback, here, match


def _noted(callback: Any) -> Iterator[tuple[str, Any, str]]:
    """What was noted on a view: the kind of door, what it was given, and the methods if it guards only these."""
    view_class: Any = getattr(callback, "view_class", None)
    doors = getattr(callback, "stepup_doors", ())
    if not doors and hasattr(callback, "stepup_requirement"):
        doors = (("decorator", callback.stepup_requirement),)
    for kind, needs in doors:
        yield kind, needs, ""
    # Not a dictionary: a mistake, such as a list, may be no key of one.
    by_needs: list[tuple[Any, list[str]]] = []
    for method in getattr(view_class, "http_method_names", ()):
        for _, needs in getattr(getattr(view_class, method, None), "stepup_doors", ()):
            methods = next((methods for known, methods in by_needs if known == needs), None)
            if methods is None:
                by_needs.append((needs, methods := []))
            methods.append(method.upper())
    for needs, methods in by_needs:
        yield "decorator", needs, f"{','.join(methods)}: "


# ---- The committed list ----

HEADER = """\
# What this site's URLs require, as it has been looked at. "manage.py stepup_status --check" compares it with the site.
# After a change that is meant: manage.py stepup_status --write THIS-FILE, and look at what differs.
# A line is a URL's name (its route where it has none), two spaces, and the requirement. "-" is a URL that looks
# sensitive, has no protection, and may be so. A comment behind two spaces and "# " is kept; others are not.
"""
TO_DECIDE = """
# These look sensitive and have no protection. Protect them, or take the "# " away: then they may be so.
"""


@dataclass(frozen=True, slots=True)
class Recorded:
    """What the list says of one URL: its requirements, more than one where several patterns share the name."""

    requirements: frozenset[str]
    comment: str = ""


def parse(text: str) -> dict[str, Recorded]:
    """The list, by name.

    Raises:
        ValueError: a line is none; the message says which.
    """
    recorded: dict[str, Recorded] = {}
    for number, line in enumerate(text.splitlines(), start=1):
        said, _, comment = line.partition("  # ")
        if not said.strip() or said.startswith("#"):
            continue
        key, _, requirement = (part.strip() for part in said.partition("  "))
        if not key or not requirement:
            raise ValueError(f"line {number} is no name, two spaces and a requirement: {line!r}")
        known = recorded.get(key, Recorded(frozenset()))
        recorded[key] = Recorded(known.requirements | {requirement}, known.comment or comment.strip())
    return recorded


def render(found: Iterable[Entry], recorded: Mapping[str, Recorded]) -> str:
    """The list for the site as it is; what was acknowledged before still is, and nothing else."""
    lines, to_decide = set(), set()
    for key, (requirements, words) in _by_key(found).items():
        before = recorded.get(key, Recorded(frozenset()))
        comment = f"  # {before.comment}" if before.comment else ""
        for requirement in requirements:
            if requirement != OPEN or requirements != {OPEN} or (words and OPEN in before.requirements):
                lines.add(f"{key}  {requirement}{comment}")
            elif words:
                to_decide.add(f"# {key}  {requirement}")
    text = HEADER + "".join(f"{line}\n" for line in sorted(lines))
    return text + (TO_DECIDE + "".join(f"{line}\n" for line in sorted(to_decide)) if to_decide else "")


def compare(found: Iterable[Entry], recorded: Mapping[str, Recorded]) -> list[str]:
    """What differs between the site and its list, each with what to do about it."""
    now = _by_key(found)
    differences = []
    for key in sorted(now.keys() | recorded.keys()):
        requirements, words = now.get(key, (frozenset(), ()))
        before = recorded[key].requirements if key in recorded else frozenset()
        is_as_before = requirements == before or (not before and requirements == {OPEN} and not words)
        if not is_as_before:
            differences.append(_difference(key, requirements, words, before))
    return differences


def _difference(key: str, now: frozenset[str], words: Sequence[str], before: frozenset[str]) -> str:
    wanted, said = (" and ".join(sorted(each - {OPEN})) for each in (now, before))
    if not now:
        return f"{key} is in the list, and there is no such URL. If that is meant, update the list."
    if now == {OPEN} and not before:
        return (
            f"{key} looks sensitive ({', '.join(words)}) and has no protection that can be seen. "
            f"Protect it, or write into the list that it may be so: {key}  {OPEN}"
        )
    if OPEN in now and OPEN not in before and said:
        return (
            f"{key} has lost its protection{' at one of its URLs' if wanted else ''}: it was {said}. "
            "Put it back; if it is meant to be open, update the list."
        )
    if not said:
        return f"{key} is protected ({wanted}), and the list does not say so. Update the list, so that it stays so."
    return f"{key} requires {wanted or 'nothing'}, and it was {said}. If that is meant, update the list."


def _by_key(found: Iterable[Entry]) -> dict[str, tuple[frozenset[str], tuple[str, ...]]]:
    """By their names in the list: the requirements, and why it looks sensitive."""
    by_key: dict[str, tuple[frozenset[str], tuple[str, ...]]] = {}
    for entry in found:
        if not entry.is_own:
            requirements, words = by_key.get(entry.key, (frozenset[str](), ()))
            words = tuple(dict.fromkeys((*words, *entry.looks_sensitive)))
            by_key[entry.key] = (requirements | {entry.requirement}, words)
    return by_key
