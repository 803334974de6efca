"""The places at which a provider may differ from a good one."""

from __future__ import annotations

import base64
import json
import threading
from collections.abc import Callable, Mapping
from typing import Any, ClassVar

from django.http import HttpResponse
from django.http.response import HttpResponseBase
from joserfc.jwk import Key
from joserfc.jws import JWSRegistry

#: The parameters of an authorization response, in order: one may be there twice.
Parameters = list[tuple[str, str]]


class Personality:
    """Behaves well, in everything."""

    # A subclass that misbehaves overrides the one thing it gets wrong. Each method is given what a good provider would
    # use or send, and returns what this one does.

    #: Whether it answers so late that a client has to give up first.
    patience_needed: ClassVar[bool] = False

    #: Whether a refresh token is good once, and brings the next (RFC 9700, section 4.14.2).
    rotates: ClassVar[bool] = True

    def __init__(self) -> None:
        #: Set when the provider is given another personality: whoever waits here need not wait any longer.
        self.over = threading.Event()

    def parameters(self, parameters: dict[str, str]) -> dict[str, str]:
        """The valid authentication request, as it is understood."""
        return parameters

    def authorization_response(self, parameters: Parameters) -> Parameters:
        """What the browser is sent back with, a code or an error (OpenID Connect Core 1.0, section 3.1.2.5)."""
        return parameters

    def header(self, header: dict[str, Any]) -> dict[str, Any]:
        """The header of the ID token (RFC 7515, section 4)."""
        return header

    def claims(self, claims: dict[str, Any]) -> dict[str, Any]:
        """The claims of the ID token (OpenID Connect Core 1.0, section 2)."""
        return claims

    def id_token(self, header: dict[str, Any], claims: dict[str, Any], key: Key) -> Any:
        """The ID token as it is sent, with all that `header` and `claims` make of it; `key` is the right one."""
        return sign(self.header(header), self.claims(claims), key)

    def logout_claims(self, claims: dict[str, Any]) -> dict[str, Any]:
        """The claims of the logout token (OpenID Connect Back-Channel Logout 1.0, section 2.4)."""
        return claims

    def logout_token(self, header: dict[str, Any], claims: dict[str, Any], key: Key) -> str:
        """The logout token as it is sent, with all that `logout_claims` makes of it; `key` is the right one."""
        return sign(header, self.logout_claims(claims), key)

    def token_response(self, response: dict[str, Any]) -> dict[str, Any]:
        """The answer of the token endpoint (OpenID Connect Core 1.0, section 3.1.3.3)."""
        return response

    def refreshed_claims(self, claims: dict[str, Any]) -> dict[str, Any]:
        """The claims of an ID token that a refresh token brings, before `claims` (OpenID Connect Core 1.0, 12.2)."""
        return claims

    def refresh_response(self, response: dict[str, Any]) -> dict[str, Any]:
        """The answer of the token endpoint to a refresh token, after `token_response`."""
        return response

    def refresh_answer(self, response: HttpResponse) -> HttpResponse:
        """The whole response to a refresh token, before `answer`."""
        return response

    def user_info(self, claims: dict[str, Any]) -> dict[str, Any]:
        """The answer of the userinfo endpoint (OpenID Connect Core 1.0, section 5.3.2)."""
        return claims

    def metadata(self, document: dict[str, Any]) -> dict[str, Any]:
        """The discovery document (OpenID Connect Discovery 1.0, section 3)."""
        return document

    def keys(self, jwks: Mapping[str, Any]) -> Mapping[str, Any]:
        """The published key set (RFC 7517, section 5)."""
        return jwks

    def answer(self, endpoint: str, response: HttpResponse, hang_up: Callable[[], None]) -> HttpResponseBase:
        """The response of an endpoint that applications ask themselves.

        `endpoint` is one of the values of `middleware.ENDPOINTS`. After `hang_up()` the connection is closed as soon as
        what is returned has been sent.
        """
        return response


def sign(header: Mapping[str, Any], payload: Mapping[str, Any] | str, key: Key) -> str:
    """A JWT in compact serialization (RFC 7515, section 3.1), with whatever is in it and as `header["alg"]` says.

    A payload that is a string is signed as it is.
    """
    text = payload if isinstance(payload, str) else json.dumps(payload, separators=(",", ":"))
    signing_input = f"{encode(json.dumps(dict(header)))}.{encode(text)}"
    return f"{signing_input}.{encode(JWSRegistry.algorithms[header['alg']].sign(signing_input.encode(), key))}"


def encode(data: str | bytes) -> str:
    """Base64url without padding (RFC 7515, section 2)."""
    return base64.urlsafe_b64encode(data.encode() if isinstance(data, str) else data).rstrip(b"=").decode()


def decode(segment: str) -> dict[str, Any]:
    """The JSON object in one segment of a JWT."""
    value: dict[str, Any] = json.loads(base64.urlsafe_b64decode(segment + "=" * (-len(segment) % 4)))
    return value
