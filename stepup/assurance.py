"""Evidence records when something was proved; a requirement says what must be; `evaluate` compares the two.

Pure: no Django, no settings, no clock. The caller says what time it is.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, fields, replace
from types import MappingProxyType
from typing import Any

__all__ = ["SATISFIED", "Decision", "Evidence", "Requirement", "Unmet", "evaluate"]

#: A claim with more members than this, or a value longer than this, proves nothing: no OP sends such, and evidence is
#: kept on the session.
MAX_VALUES = 64
MAX_VALUE_LENGTH = 255

#: Who wants no bound on the age sets none. This is 31 years.
MAX_MAX_AGE = 10**9

#: Parameters of an authentication request that are ours alone: a requirement that could set them could undo the
#: protection they give (OpenID Connect Core 1.0, 3.1.2.1; RFC 7636), or says the same through a field of its own.
RESERVED_PARAMS = frozenset(
    {
        "response_type", "client_id", "redirect_uri", "scope", "state", "nonce", "code_challenge",
        "code_challenge_method", "acr_values", "max_age", "prompt", "claims", "request", "request_uri",
        "response_mode", "id_token_hint",
    }
)  # fmt: skip


@dataclass(frozen=True, slots=True, kw_only=True)
class Requirement:
    """What must have been proved, how long ago it may have been, and how to ask the OP for it.

    What is asked (``acr_values``, ``essential``, ``prompt``, ``params``) and what proves it (``amr``, ``acr``,
    ``claims``, ``max_age``) are different things: Auth0, for one, is asked with ``acr_values`` and proves with ``amr``.

    Args:
        amr: authentication methods, *every one* of which must have been used (RFC 8176 lists values).
        acr: authentication context classes, *any one* of which will do. They are no hierarchy: name each that is good.
        claims: other claims that prove, by name; of each, *any one* of the values (Entra's ``acrs``, GOV.UK's ``vot``).
        max_age: how many seconds ago the user may have authenticated, at the most. ``None``: any time.
        acr_values: what to ask the OP for, in order of preference (OpenID Connect Core 1.0, 3.1.2.1).
        essential: ask through the ``claims`` parameter as an essential claim, which the OP may not ignore
            (OpenID Connect Core 1.0, 5.5.1.1), instead of the voluntary ``acr_values``.
        prompt: the ``prompt`` to ask with, for OPs that need one.
        params: further parameters for the authentication request.
        step_up_url: the URL name or the path of a page of this site's own, where this is proved instead of at the OP.
        submit_max_age: the same as ``max_age``, for unsafe methods: longer, so that a form which was opened in time can
            still be sent. ``None``: as ``max_age``.
        also: further requirements, every one of which must be satisfied too.
        name: what the requirement is called in settings, on pages and in the log; it proves nothing.
        documentation_url: where a page that refuses may send people to read about it.
        enrol_url: where at the OP somebody without a second factor sets one up. ``{return_url}`` in it becomes the URL,
            encoded, at which the step-up starts again.
        unenrolled: ``"deny"``, or ``"enrol"`` to offer ``enrol_url`` where the OP could not confirm what is required.

    Raises:
        ValueError: a field is malformed, or the requirement demands no proof at all.
    """

    amr: tuple[str, ...] = ()
    acr: tuple[str, ...] = ()
    claims: Mapping[str, tuple[str, ...]] = field(default_factory=dict, hash=False)
    max_age: int | None = None
    acr_values: tuple[str, ...] = ()
    essential: bool = False
    prompt: str | None = None
    params: Mapping[str, str] = field(default_factory=dict, hash=False)
    step_up_url: str = ""
    submit_max_age: int | None = None
    also: tuple[Requirement, ...] = ()
    name: str = field(default="", compare=False)
    documentation_url: str = field(default="", compare=False)
    enrol_url: str = field(default="", compare=False)
    unenrolled: str = field(default="deny", compare=False)
    #: What has to be proved, apart from `also`: for each claim the values, any one of which will do.
    wanted: tuple[tuple[str, tuple[str, ...]], ...] = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        for key in ("amr", "acr", "acr_values"):
            object.__setattr__(self, key, _strings(key, getattr(self, key)))
        for value in self.acr_values:
            if value.split() != [value]:
                # The parameter is a list separated by spaces: such a value would be asked for as two others.
                raise ValueError(f"acr_values: {value!r} contains white space")
        claims = {
            _string("claims", claim): _strings(f"claims[{claim!r}]", values)
            for claim, values in _mapping("claims", self.claims).items()
        }
        if not all(claims.values()) or claims.keys() & {"amr", "acr", "auth_time"}:
            raise ValueError("claims: each needs a value, and amr, acr and auth_time have fields of their own")
        object.__setattr__(self, "claims", MappingProxyType(claims))
        params = {
            _string("params", key): _string("params", value) for key, value in _mapping("params", self.params).items()
        }
        if reserved := sorted(params.keys() & RESERVED_PARAMS):
            raise ValueError(f"params: {', '.join(reserved)} cannot be set here")
        object.__setattr__(self, "params", MappingProxyType(params))
        if self.max_age is not None and (type(self.max_age) is not int or not 0 <= self.max_age <= MAX_MAX_AGE):
            raise ValueError(f"max_age: must be a whole number of seconds from 0 to {MAX_MAX_AGE}")
        if self.submit_max_age is not None and (
            type(self.submit_max_age) is not int
            or self.max_age is None
            or not self.max_age <= self.submit_max_age <= MAX_MAX_AGE
        ):
            raise ValueError(f"submit_max_age: must be a whole number of seconds from max_age to {MAX_MAX_AGE}")
        if type(self.essential) is not bool:
            raise ValueError("essential: must be True or False")
        if self.prompt is not None:
            _string("prompt", self.prompt)
        if self.step_up_url != "" and not _is_page(self.step_up_url):
            raise ValueError("step_up_url: must be a URL name, or a path of this site")
        if type(self.name) is not str:
            raise ValueError("name: must be a string")
        for key in ("documentation_url", "enrol_url"):
            if (value := getattr(self, key)) != "" and not is_link(value):
                raise ValueError(f"{key}: must be an http or https URL, or a path of this site")
        if self.unenrolled not in ("deny", "enrol") or (self.unenrolled == "enrol" and not self.enrol_url):
            raise ValueError("unenrolled: must be 'deny', or 'enrol' beside an enrol_url")
        if not isinstance(self.also, (list, tuple)):
            raise ValueError("also: must be a list of requirements")
        object.__setattr__(self, "also", tuple(map(_requirement, self.also)))
        wanted: list[tuple[str, tuple[str, ...]]] = [("amr", (method,)) for method in self.amr]
        if self.acr:
            wanted.append(("acr", self.acr))
        wanted.extend(claims.items())
        if not wanted and self.max_age is not None:
            # Freshness alone is asked for, so what has to be proved is that the user was there.
            wanted.append(("auth_time", ("",)))
        if not wanted and not self.also:
            raise ValueError("demands no proof: set amr, acr, claims or max_age")
        object.__setattr__(self, "wanted", tuple(wanted))

    @classmethod
    def from_mapping(cls, raw: Mapping[str, Any], *, name: str = "") -> Requirement:
        """The requirement that a plain mapping (from settings, or from :meth:`to_mapping`) describes.

        Raises:
            ValueError: there is a key that no requirement has, or a value is malformed.
        """
        if unknown := sorted(set(_mapping("requirement", raw)) - _KEYS, key=str):
            raise ValueError(f"unknown key {', '.join(map(repr, unknown))}")
        return cls(**raw, name=name)

    def to_mapping(self) -> dict[str, Any]:
        """The requirement as plain JSON values, with nothing that is at its default."""
        plain: dict[str, Any] = {}
        for key in _KEYS_IN_ORDER:
            value = getattr(self, key)
            if isinstance(value, Mapping):
                value = {k: v if isinstance(v, str) else list(v) for k, v in value.items()}
            elif key == "also":
                value = [{**other.to_mapping(), "name": other.name} for other in value]
            elif isinstance(value, tuple):
                value = list(value)
            if value != _DEFAULTS[key]:
                plain[key] = value
        return plain

    @classmethod
    def all_of(cls, *requirements: Requirement) -> Requirement:
        """One that is satisfied where every one of these is, each by evidence of its own age."""
        # Two that prove the same under different names are two: one of them may be enforced, and the other reported.
        first, *others = {(each.name, each): each for each in requirements}.values()
        if not others:
            return first
        return cls(also=(first, *others), name=" & ".join(filter(None, (each.name for each in (first, *others)))))

    @property
    def parts(self) -> tuple[Requirement, ...]:
        """The single requirements that it is made of; itself where it is one."""
        if not self.also:
            return (self,)
        return tuple({(part.name, part): part for unit in self.units for part in unit.parts}.values())

    @property
    def units(self) -> tuple[Requirement, ...]:
        """What it demands itself, and each of ``also`` as a whole."""
        return (*((replace(self, also=()),) if self.wanted else ()), *self.also)

    def aged(self, max_age: int, submit_max_age: int | None) -> Requirement:
        """The same, where all of it may be that old, in place of its own ages."""
        also = tuple(other.aged(max_age, submit_max_age) for other in self.also)
        if not self.wanted:
            return replace(self, also=also)
        return replace(self, max_age=max_age, submit_max_age=submit_max_age, also=also)

    def within(self, seconds: float) -> Requirement:
        """The same, where proof that is so many seconds old is fresh enough; itself where it is so already."""
        also = tuple(other.within(seconds) for other in self.also)
        if self.max_age is None or seconds <= self.max_age:
            return self if also == self.also else replace(self, also=also)
        longest = math.ceil(seconds)
        submit = None if self.submit_max_age is None else max(longest, self.submit_max_age)
        return replace(self, max_age=longest, submit_max_age=submit, also=also)

    def for_submission(self) -> Requirement:
        """The requirement as it stands for unsafe methods, see ``submit_max_age``."""
        also = tuple(other.for_submission() for other in self.also)
        if self.submit_max_age is None:
            return self if also == self.also else replace(self, also=also)
        return replace(self, max_age=self.submit_max_age, submit_max_age=None, also=also)

    def __reduce__(self) -> tuple[Any, ...]:
        # Its read-only mappings can be neither pickled nor copied deeply, and signals hand it to task queues.
        return _restored, (self.to_mapping(), self.name)

    @property
    def proof_claims(self) -> frozenset[str]:
        """The names of the claims, apart from ``amr`` and ``acr``, that can prove it."""
        return frozenset(self.claims).union(*(other.proof_claims for other in self.also))


def is_link(value: object) -> bool:
    """Whether a page may link to it: a URL of http or https, or a path of this site. Nothing that a browser runs."""
    if type(value) is not str or not value.isprintable() or any(mark in value for mark in ' \\"<>'):
        return False
    return re.match(r"https?://[^/?#]|/(?!/)", value) is not None


def _is_page(value: object) -> bool:
    if type(value) is not str:
        return False
    return (
        is_link(value) and value.startswith("/") if "/" in value else value.split() == [value] and value.isprintable()
    )


def _restored(plain: Mapping[str, Any], name: str) -> Requirement:
    return Requirement.from_mapping(plain, name=name)


def _requirement(value: object) -> Requirement:
    """One of `also`: a requirement, or the mapping of one."""
    if isinstance(value, Requirement):
        return value
    plain = dict(_mapping("also", value))
    return Requirement.from_mapping(plain, name=plain.pop("name", ""))


_KEYS_IN_ORDER = tuple(f.name for f in fields(Requirement) if f.init and f.name != "name")
_KEYS = frozenset(_KEYS_IN_ORDER)
#: As :meth:`Requirement.to_mapping` has them.
_DEFAULTS: Mapping[str, Any] = {
    **{key: [] for key in ("amr", "acr", "acr_values", "also")},
    **{key: {} for key in ("claims", "params")},
    **dict.fromkeys(("max_age", "submit_max_age", "prompt")),
    **dict.fromkeys(("step_up_url", "documentation_url", "enrol_url"), ""),
    "essential": False,
    "unenrolled": "deny",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Evidence:
    """What has been proved about one subject of one issuer, and when.

    Attributes:
        issuer: the OP that says so (``iss``).
        subject: the user's identifier there (``sub``).
        auth_time: when the user last actively authenticated, in seconds since the epoch; ``None`` where unknown.
        proofs: for each claim, each proved value and the time at which it was proved (``None``: time unknown).
        recorded: for each claim, each proved value whose time is unknown, and when it was taken down here.
    """

    issuer: str
    subject: str
    auth_time: float | None = None
    proofs: Mapping[str, Mapping[str, float | None]] = field(default_factory=dict)
    recorded: Mapping[str, Mapping[str, float]] = field(default_factory=dict)

    @classmethod
    def from_claims(
        cls, claims: Mapping[str, Any], *, proof_claims: Iterable[str] = (), now: float | None = None
    ) -> Evidence:
        """The evidence in the *validated* claims of one ID token.

        ``amr`` counts only as a JSON array of strings, ``acr`` and each of ``proof_claims`` as a string or an array of
        strings. The time proved is ``auth_time`` (OpenID Connect Core 1.0, section 2) and nothing else: ``iat`` says
        when the ID token was made, not when the user was there. ``now`` is when it came.
        """
        time = _time(claims.get("auth_time"))
        proofs: dict[str, Mapping[str, float | None]] = {}
        recorded: dict[str, Mapping[str, float]] = {}
        for claim in ("amr", "acr", *proof_claims):
            values = claims.get(claim)
            if claim != "amr" and isinstance(values, str):
                values = [values]
            if proved := _proved(values):
                proofs[claim] = dict.fromkeys(proved, time)
                if time is None and now is not None:
                    recorded[claim] = dict.fromkeys(proved, now)
        return cls(issuer=claims["iss"], subject=claims["sub"], auth_time=time, proofs=proofs, recorded=recorded)

    def add(self, newer: Evidence, *, renewal: bool = False) -> Evidence:
        """This evidence and ``newer`` together. Nothing is erased: a token without ``amr`` takes none away.

        Args:
            renewal: ``newer`` came without the user, from a refresh token or silent authentication. It may repeat what
                is known already: that makes nothing younger whose time nobody says.

        Raises:
            ValueError: the two are about different subjects, or from different issuers.
        """
        if (self.issuer, self.subject) != (newer.issuer, newer.subject):
            raise ValueError("evidence about one subject cannot be added to evidence about another")
        proofs = {claim: dict(values) for claim, values in self.proofs.items()}
        recorded: dict[str, dict[str, float]] = {}
        for claim, values in newer.proofs.items():
            known = proofs.setdefault(claim, {})
            for value, time in values.items():
                known[value] = _later(known.pop(value, None), time)
            # An OP that has a new value each time must not fill the session. What came last stands last.
            for value in list(known)[:-MAX_VALUES]:
                del known[value]
        for claim, known in proofs.items():
            old, new = self.recorded.get(claim, {}), newer.recorded.get(claim, {})
            for value in (value for value, time in known.items() if time is None):
                first, last = old.get(value), new.get(value)
                if (at := first if renewal and first is not None else _later(first, last)) is not None:
                    recorded.setdefault(claim, {})[value] = at
        return Evidence(
            issuer=self.issuer,
            subject=self.subject,
            auth_time=_later(self.auth_time, newer.auth_time),
            proofs=proofs,
            recorded=recorded,
        )


@dataclass(frozen=True, slots=True)
class Unmet:
    """One thing that a requirement demands and the evidence does not show.

    Attributes:
        claim: ``"amr"``, ``"acr"``, ``"auth_time"`` or the name of another claim.
        reason: ``"missing"`` (never proved), ``"stale"`` (too long ago), ``"time_unknown"`` (proved, but nobody said
            when) or ``"future"`` (said to be proved later than now: a clock is wrong, so it counts for nothing).
        expected: the values, any one of which would have done.
    """

    claim: str
    reason: str
    expected: tuple[str, ...] = ()

    def __str__(self) -> str:
        return f"{self.claim}: {self.reason}"


@dataclass(frozen=True, slots=True)
class Decision:
    """Whether a requirement is satisfied and, where it is not, what is unmet. True only when satisfied.

    Attributes:
        unmet: what is missing; empty where nothing is.
        expires: where satisfied, when the evidence will be too old, in seconds since the epoch and without leeway;
            ``None`` for never.
    """

    unmet: tuple[Unmet, ...] = ()
    expires: float | None = None

    @property
    def satisfied(self) -> bool:
        return not self.unmet

    def __bool__(self) -> bool:
        return not self.unmet


SATISFIED = Decision()


def evaluate(
    evidence: Evidence | None, requirement: Requirement, *, now: float, leeway: float = 0, limit: float | None = None
) -> Decision:
    """Compare what has been proved with what must have been.

    Args:
        evidence: what the session holds; ``None`` for nothing at all.
        requirement: what the view demands.
        now: the time, in seconds since the epoch.
        leeway: allowed clock skew between this site and the OP, in seconds.
        limit: how old any evidence may be, in seconds, whatever is required. Where nobody says when something was
            proved, it counts from when it was recorded.
    """
    unmet: dict[Unmet, None] = {}
    expires: float | None = None
    for part in requirement.parts:
        if limit is None:
            max_age: float | None = part.max_age
        else:
            max_age = limit if part.max_age is None else min(part.max_age, limit)
        for claim, values in part.wanted:
            times, recorded = _times(evidence, claim)
            if part.max_age is not None:
                recorded = {}  # asked for an age, so when it was proved has to be known
            reason, until = _judge(times, recorded, values, max_age, now, leeway)
            if reason:
                unmet[Unmet(claim, reason, values if claim != "auth_time" else ())] = None
            elif until is not None:
                expires = until if expires is None else min(expires, until)
    if unmet:
        return Decision(tuple(unmet))
    return SATISFIED if expires is None else Decision(expires=expires)


# From the furthest from proof to the nearest: of several values that would do, the nearest tells what is lacking.
_REASONS = ("missing", "future", "time_unknown", "stale")


def _times(evidence: Evidence | None, claim: str) -> tuple[Mapping[str, float | None], Mapping[str, float]]:
    """When the values of a claim were proved and, where that is unknown, recorded."""
    if evidence is None:
        return {}, {}
    if claim == "auth_time":
        return {"": evidence.auth_time}, {}
    return evidence.proofs.get(claim, {}), evidence.recorded.get(claim, {})


def _judge(
    proved: Mapping[str, float | None],
    recorded: Mapping[str, float],
    wanted: tuple[str, ...],
    max_age: float | None,
    now: float,
    leeway: float,
) -> tuple[str, float | None]:
    """Why none of the wanted values is proved well enough, or else nothing and until when one is (None: for good)."""
    nearest, until = "missing", None
    for value in wanted:
        if value not in proved:
            continue
        if max_age is None:
            return "", None
        time = proved[value]
        if time is None:
            time = recorded.get(value)
        if time is None:
            reason = "time_unknown"
        elif now - max_age - leeway <= time <= now + leeway:
            until = _later(until, time + max_age)
            continue
        else:
            reason = "future" if time > now else "stale"
        nearest = max(nearest, reason, key=_REASONS.index)
    return ("", until) if until is not None else (nearest, None)


def _later(a: float | None, b: float | None) -> float | None:
    if a is None or b is None:
        return b if a is None else a
    return max(a, b)


def _time(value: object) -> float | None:
    """The NumericDate (RFC 7519, section 2) that a claim holds; None for what is none."""
    if isinstance(value, (int, float)) and not isinstance(value, bool) and 0 <= value < math.inf:
        return value
    return None


def _proved(values: object) -> list[str]:
    if (
        isinstance(values, list)
        and len(values) <= MAX_VALUES
        and all(isinstance(value, str) and 0 < len(value) <= MAX_VALUE_LENGTH for value in values)
    ):
        return values
    return []


def _string(key: str, value: object) -> str:
    if not isinstance(value, str) or not value:
        raise ValueError(f"{key}: must be a string, and not empty")
    return value


def _strings(key: str, values: object) -> tuple[str, ...]:
    # Not any iterable: "mfa" would come to mean m, f and a, and a set has another order in each process.
    if not isinstance(values, (list, tuple)):
        raise ValueError(f"{key}: must be a list of strings")
    return tuple(_string(key, value) for value in values)


def _mapping(key: str, value: object) -> Mapping[Any, Any]:
    if not isinstance(value, Mapping):
        raise ValueError(f"{key}: must be a dictionary")
    return value
