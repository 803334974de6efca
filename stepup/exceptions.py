"""Errors of the package. They carry their evidence as attributes, so that nobody parses a message."""

from __future__ import annotations


class StepUpError(Exception):
    """Base of all errors that this package raises on purpose. Each keeps its arguments, and so can be pickled."""


class ClaimError(StepUpError):
    """An ID token, or a response that goes with it, was refused.

    Attributes:
        claim: the claim, header parameter or part that was wrong (``"aud"``, ``"alg"``, ``"signature"``).
        reason: one short word that says how (``"missing"``, ``"mismatch"``, ``"expired"``).

    The message never holds the offending value: a value may be a secret, and it comes from outside.
    """

    def __init__(self, claim: str, reason: str) -> None:
        super().__init__(claim, reason)
        self.claim = claim
        self.reason = reason

    def __str__(self) -> str:
        return f"{self.claim}: {self.reason}"


class ProviderError(StepUpError):
    """The OP could not be asked, or gave no usable answer.

    Attributes:
        endpoint: which of its endpoints (``"metadata"``, ``"jwks"``, ``"par"``, ``"token"``, ``"userinfo"``).
        reason: one short word (``"timeout"``, ``"ConnectionError"``, ``"status 500"``, ``"not JSON"``).
    """

    def __init__(self, endpoint: str, reason: str) -> None:
        super().__init__(endpoint, reason)
        self.endpoint = endpoint
        self.reason = reason

    def __str__(self) -> str:
        return f"{self.endpoint}: {self.reason}"


class TokenRequestRefused(StepUpError):
    """The OP answered the token request, or a pushed request, with an error (RFC 6749, 5.2; RFC 9126, 2.3).

    Attributes:
        error: its error code, for example ``"invalid_grant"``.
    """

    def __init__(self, error: str) -> None:
        super().__init__(error)
        self.error = error

    def __str__(self) -> str:
        return f"token request refused: {self.error}"


class WrongUser(StepUpError):
    """The OP authenticated somebody else than the user who is signed in."""


class AccountRefused(StepUpError):
    """The OP vouched for a person, but no account of this site may be used for them.

    Attributes:
        reason: one short word (``"inactive"``, ``"claims"``, ``"ambiguous"``, ``"unlinked"``, ``"unknown"``,
            ``"conflict"``, ``"unverified e-mail"``).
    """

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason

    def __str__(self) -> str:
        return f"account: {self.reason}"
