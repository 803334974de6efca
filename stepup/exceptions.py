"""Errors of the package. They carry their evidence as attributes, so that nobody parses a message."""

from __future__ import annotations


class StepUpError(Exception):
    """Base of all errors that this package raises on purpose."""


class ClaimError(StepUpError):
    """An ID token, or a response that goes with it, was refused.

    Attributes:
        claim: the claim, header parameter or part that was wrong (``"aud"``, ``"alg"``, ``"signature"``).
        reason: one short word that says how (``"missing"``, ``"mismatch"``, ``"expired"``).

    The message never holds the offending value: a value may be a secret, and it comes from outside.
    """

    def __init__(self, claim: str, reason: str) -> None:
        super().__init__(f"{claim}: {reason}")
        self.claim = claim
        self.reason = reason


class ProviderError(StepUpError):
    """The OP could not be asked, or gave no usable answer.

    Attributes:
        endpoint: which of its endpoints (``"metadata"``, ``"jwks"``, ``"token"``, ``"userinfo"``).
        reason: one short word (``"timeout"``, ``"connection"``, ``"status 500"``, ``"not json"``).
    """

    def __init__(self, endpoint: str, reason: str) -> None:
        super().__init__(f"{endpoint}: {reason}")
        self.endpoint = endpoint
        self.reason = reason


class TokenRequestRefused(StepUpError):
    """The OP answered the token request with an error (RFC 6749, section 5.2).

    Attributes:
        error: its error code, for example ``"invalid_grant"``.
    """

    def __init__(self, error: str) -> None:
        super().__init__(f"token request refused: {error}")
        self.error = error


class WrongUser(StepUpError):
    """The OP authenticated somebody else than the user who is signed in."""


class AccountRefused(StepUpError):
    """The OP vouched for a person, but no account of this site may be used for them.

    Attributes:
        reason: one short word (``"inactive"``, ``"claims"``, ``"ambiguous"``, ``"unlinked"``, ``"unknown"``).
    """

    def __init__(self, reason: str) -> None:
        super().__init__(f"account: {reason}")
        self.reason = reason
