"""What must this person prove? The one decision of the provider, as a function of values.

It does what the post-login Action of an Auth0 tenant does in the usual recipe for step-up: a second factor is asked for
only where the application is one of a list and its request names the multi-factor policy, and no browser is ever
remembered.
"""

from __future__ import annotations

import json
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, field
from enum import Enum
from typing import Any

#: The authentication context class that stands for a second factor, in `acr_values` and in `acr`.
MULTI_FACTOR = "http://schemas.openid.net/pape/policies/2007/06/multi-factor"


@dataclass(frozen=True)
class Asked:
    """What an authentication request asks for (OpenID Connect Core 1.0, section 3.1.2.1). `max_age` is in seconds.

    `essential`: one of these has to be the `acr` of the answer, or there is none. `claims` are the names of the other
    claims that the ID token shall have.
    """

    client_id: str
    acr_values: tuple[str, ...] = ()
    essential: tuple[str, ...] = ()
    claims: frozenset[str] = frozenset()
    prompt: frozenset[str] = frozenset()
    max_age: int | None = None

    @property
    def silent(self) -> bool:
        """Whether the answer must be given without showing a page."""
        return "none" in self.prompt


@dataclass(frozen=True)
class Known:
    """What the provider knows of the person at the browser.

    `auth_time` is when they gave their password (epoch seconds), None where nobody is signed in. The others say what
    happened while this very request was being answered: password given, account chosen, second factor proved.
    """

    auth_time: float | None = None
    signed_in_here: bool = False
    chosen_here: bool = False
    factor_here: bool = False


@dataclass(frozen=True)
class Proved:
    """The claims of the ID token that say how the person authenticated. Empty and None: left out."""

    amr: tuple[str, ...] = ()
    acr: str | None = None
    auth_time: int | None = None
    others: Mapping[str, tuple[str, ...]] = field(default_factory=dict)


class Step(Enum):
    """What comes next."""

    SIGN_IN = "sign in"
    CHOOSE_ACCOUNT = "choose an account"
    SECOND_FACTOR = "prove a second factor"
    DONE = "done"
    LOGIN_REQUIRED = "refuse: login_required"
    INTERACTION_REQUIRED = "refuse: interaction_required"
    UNMET = "refuse: unmet_authentication_requirements"


@dataclass(frozen=True)
class Requested:
    """One claim of those that are requested one by one: whether it has to be there, and the values that will do."""

    essential: bool
    values: tuple[str, ...]


def requested(text: str) -> dict[str, Requested]:
    """The claims that the parameter `claims` wants the ID token to have (OpenID Connect Core 1.0, section 5.5).

    Raises `ValueError` where it is not what it should be.
    """
    # Without a value it is as if it were not there (RFC 6749, section 3.1).
    members = _dictionary(json.loads(text or "null")).get("id_token")
    return {name: _requested(_dictionary(member)) for name, member in _dictionary(members).items()}


def _requested(member: Mapping[str, Any]) -> Requested:
    values = member.get("values", [member["value"]] if "value" in member else [])
    if not isinstance(values, list):
        raise ValueError("values: not a list")
    return Requested(member.get("essential") is True, tuple(each for each in values if isinstance(each, str)))


def _dictionary(value: object) -> Mapping[str, Any]:
    """A member that may be `null`, for nothing in particular."""
    if not isinstance(value, dict | None):
        raise ValueError("not an object")
    return value or {}


def next_step(
    asked: Asked,
    known: Known,
    *,
    now: float,
    clients_with_mfa: Collection[str] | None,
    classes: Collection[str] = (MULTI_FACTOR,),
    others: Collection[str] = (),
) -> Step:
    """The next thing to ask this person for, or how to end.

    `now` is in epoch seconds, `classes` are the `acr_values` that stand for a second factor, and `others` the names
    of the claims that do.
    """
    wants_second_factor = _wants_second_factor(asked, clients_with_mfa, classes, others)
    if asked.essential and not (wants_second_factor and any(value in classes for value in asked.essential)):
        return Step.UNMET
    if _must_sign_in(asked, known, now):
        return Step.LOGIN_REQUIRED if asked.silent else Step.SIGN_IN
    if "select_account" in asked.prompt and not (known.chosen_here or known.signed_in_here):
        return Step.CHOOSE_ACCOUNT
    if wants_second_factor and not known.factor_here:
        return Step.INTERACTION_REQUIRED if asked.silent else Step.SECOND_FACTOR
    return Step.DONE


def proved(
    asked: Asked,
    known: Known,
    *,
    classes: Collection[str] = (MULTI_FACTOR,),
    methods: tuple[str, ...] = ("mfa",),
    others: Mapping[str, tuple[str, ...]] | None = None,
    proofs: Mapping[str, Mapping[str, tuple[str, ...]]] | None = None,
) -> Proved:
    """What the ID token may say of this authentication; `methods` are the `amr` of one with a second factor.

    `others` are the claims that it has then besides. `proofs` are what it says in place of both, where one of the
    classes or claims was asked for that are its keys.
    """
    said: dict[str, tuple[str, ...]] = {"amr": methods, **(others or {})}
    if asked_for := [proofs[each] for each in (*asked.acr_values, *sorted(asked.claims)) if proofs and each in proofs]:
        names = dict.fromkeys(name for each in asked_for for name in each)
        said = {name: _together(each.get(name, ()) for each in asked_for) for name in names}
    amr = said.pop("amr", ())
    # As at Auth0: without a request for freshness there is no auth_time, and without a second factor, in this
    # very request, neither amr nor acr.
    auth_time = known.auth_time if asked.max_age is not None or "login" in asked.prompt else None
    return Proved(
        amr=amr if known.factor_here else (),
        acr=next((value for value in asked.acr_values if value in classes), MULTI_FACTOR)
        if known.factor_here
        else None,
        auth_time=None if auth_time is None else int(auth_time),
        others=said if known.factor_here else {},
    )


def _together(several: Iterable[tuple[str, ...]]) -> tuple[str, ...]:
    return tuple(dict.fromkeys(value for values in several for value in values))


def _must_sign_in(asked: Asked, known: Known, now: float) -> bool:
    if known.auth_time is None:
        return True
    if known.signed_in_here:
        return False
    if "login" in asked.prompt or asked.max_age == 0:
        return True
    return asked.max_age is not None and now - known.auth_time > asked.max_age


def _wants_second_factor(
    asked: Asked, clients_with_mfa: Collection[str] | None, classes: Collection[str], others: Collection[str]
) -> bool:
    is_named = any(value in classes for value in asked.acr_values) or any(name in others for name in asked.claims)
    return is_named and (clients_with_mfa is None or asked.client_id in clients_with_mfa)
