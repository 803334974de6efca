"""The keys that sign ID tokens: made at start-up, one for each algorithm in use, never written anywhere."""

from __future__ import annotations

import secrets
from collections.abc import Iterable
from typing import Any

from joserfc.jwk import ECKey, Key, KeySet, OctKey, OKPKey, RSAKey

from stepup.testing.provider.configuration import Client


class Keys:
    """The signing keys of one provider."""

    def __init__(self) -> None:
        # RS256 is published always: every relying party may expect it (OpenID Connect Core 1.0, section 15.1).
        self._own: dict[str, Key] = {"RS256": _generate("RS256")}
        self._shared: dict[str, Key] = {}

    def serve(self, clients: Iterable[Client]) -> None:
        """Have the keys that these applications need; those that are there already stay as they are."""
        listed = tuple(clients)
        for alg in sorted({client.id_token_signed_response_alg for client in listed} - {"HS256"} - self._own.keys()):
            self._own[alg] = _generate(alg)
        self._shared = {
            client.client_id: OctKey.import_key(
                client.client_secret, {"alg": "HS256", "use": "sig", "kid": client.client_id}
            )
            for client in listed
            if client.uses_shared_secret
        }

    def signing(self, client: Client) -> Key:
        """The key that signs the ID tokens of this application: for HS256, its own secret."""
        if client.uses_shared_secret:
            return self._shared[client.client_id]
        return self._own[client.id_token_signed_response_alg]

    def published(self) -> dict[str, Any]:
        """The JWKS document (RFC 7517, section 5): public keys, and no shared secret."""
        return {"keys": [key.as_dict(private=False) for key in self._own.values()]}

    def every(self) -> KeySet:
        """All keys, shared secrets too, to recognise an ID token of this provider."""
        return KeySet([*self._own.values(), *self._shared.values()])


def _generate(alg: str) -> Key:
    parameters: Any = {"alg": alg, "use": "sig", "kid": secrets.token_hex(8)}
    key: Key
    if alg == "ES256":
        key = ECKey.generate_key("P-256", parameters)
    elif alg == "EdDSA":
        key = OKPKey.generate_key("Ed25519", parameters)
    else:
        key = RSAKey.generate_key(2048, parameters)
    return key
