"""What is known about providers."""

from __future__ import annotations

from typing import Any

import pytest

from stepup.assurance import Evidence, Requirement, evaluate
from stepup.dialects import DIALECTS, MULTI_FACTOR, Dialect

NOW = 1_700_000_000
AUTH0 = DIALECTS["auth0"]


def from_claims(**claims: Any) -> Evidence:
    return Evidence.from_claims({"iss": "https://op.example/", "sub": "auth0|1", "auth_time": NOW, **claims})


def test_auth0_is_asked_with_acr_values_and_proves_with_amr() -> None:
    assert MULTI_FACTOR == "http://schemas.openid.net/pape/policies/2007/06/multi-factor"
    assert AUTH0.requirements["mfa"].to_mapping() == {"amr": ["mfa"], "acr_values": [MULTI_FACTOR]}


@pytest.mark.parametrize(
    ("claims", "is_satisfied"),
    [
        ({"amr": ["mfa"]}, True),
        ({"amr": ["pwd", "mfa"], "acr": MULTI_FACTOR}, True),
        ({"acr": MULTI_FACTOR}, False),
        ({"amr": [MULTI_FACTOR]}, False),
        ({"amr": ["pwd"]}, False),
        ({}, False),
    ],
)
def test_what_auth0_was_asked_with_proves_nothing_itself(claims: dict[str, Any], is_satisfied: bool) -> None:
    assert evaluate(from_claims(**claims), AUTH0.requirements["mfa"], now=NOW).satisfied == is_satisfied


def test_a_provider_that_nobody_knows_has_no_requirement_that_it_might_not_mean() -> None:
    assert DIALECTS["generic"] == Dialect()
    assert DIALECTS["generic"].requirements == {}


@pytest.mark.parametrize("name", DIALECTS)
def test_a_dialect_names_its_requirements_as_they_are_called(name: str) -> None:
    for called, requirement in DIALECTS[name].requirements.items():
        assert requirement.name == called
        assert requirement.amr or requirement.acr or requirement.claims


@pytest.mark.parametrize("name", DIALECTS)
def test_every_dialect_can_have_the_user_authenticate_anew(name: str) -> None:
    assert DIALECTS[name].prompt_again == "login"


def test_dialects_cannot_be_changed() -> None:
    for mapping in (DIALECTS, AUTH0.requirements, Dialect().requirements):
        with pytest.raises(TypeError):
            mapping["mfa"] = Requirement(max_age=1)  # type: ignore[index] # which is the point
    with pytest.raises(AttributeError):
        AUTH0.prompt_again = "none"  # type: ignore[misc] # which is the point
