"""The places at which a provider may differ from a good one."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from joserfc.jwk import Key


class Personality:
    """A well-behaved provider. A subclass that misbehaves overrides the one thing it gets wrong.

    Each method is given what a good provider would use or send, and returns what this one does.
    """

    def parameters(self, parameters: dict[str, str]) -> dict[str, str]:
        """The valid authentication request, as it is understood."""
        return parameters

    def id_token(self, id_token: str, key: Key) -> str:
        """The ID token, in compact serialization; `key` has signed it."""
        return id_token

    def token_response(self, response: dict[str, Any]) -> dict[str, Any]:
        """The answer of the token endpoint (OpenID Connect Core 1.0, section 3.1.3.3)."""
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
