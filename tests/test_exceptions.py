"""Errors carry their evidence, so that nobody parses a message."""

from __future__ import annotations

import pickle

import pytest

from stepup import exceptions
from stepup.exceptions import (
    AccountRefused,
    ClaimError,
    ProviderError,
    StepUpError,
    TokenRequestRefused,
    WrongUser,
)
from stepup.id_token import UnknownKey

ERRORS: list[tuple[StepUpError, str, dict[str, str]]] = [
    (ClaimError("aud", "mismatch"), "aud: mismatch", {"claim": "aud", "reason": "mismatch"}),
    (UnknownKey("kid", "unknown"), "kid: unknown", {"claim": "kid", "reason": "unknown"}),
    (ProviderError("jwks", "timeout"), "jwks: timeout", {"endpoint": "jwks", "reason": "timeout"}),
    (TokenRequestRefused("invalid_grant"), "token request refused: invalid_grant", {"error": "invalid_grant"}),
    (AccountRefused("inactive"), "account: inactive", {"reason": "inactive"}),
    (WrongUser(), "", {}),
]
each = pytest.mark.parametrize(("error", "message", "evidence"), ERRORS, ids=lambda value: type(value).__name__)


def test_these_are_all() -> None:
    made = {value for value in vars(exceptions).values() if isinstance(value, type) and issubclass(value, StepUpError)}
    assert made | {UnknownKey} == {type(error) for error, *_ in ERRORS} | {StepUpError}


@each
def test_an_error_says_what_was_wrong_in_words_and_in_attributes(
    error: StepUpError, message: str, evidence: dict[str, str]
) -> None:
    assert str(error) == message
    assert vars(error) == evidence


@each
def test_one_base_class_catches_it(error: StepUpError, message: str, evidence: dict[str, str]) -> None:
    with pytest.raises(StepUpError):
        raise error


def test_an_unknown_key_is_a_refusal_for_whoever_does_not_ask_again() -> None:
    assert issubclass(UnknownKey, ClaimError)


@each
def test_an_error_survives_the_way_between_processes(
    error: StepUpError, message: str, evidence: dict[str, str]
) -> None:
    # Django's parallel test runner and task queues send errors to each other.
    copied = pickle.loads(pickle.dumps(error))  # noqa: S301 - our own
    assert (type(copied), str(copied), vars(copied)) == (type(error), message, evidence)
