"""`private_key_jwt`: an application that signs who it is, instead of sending a secret (OpenID Connect Core 1.0, 9)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, cast

from authlib.oauth2 import OAuth2Request
from authlib.oauth2.rfc6749 import InvalidClientError
from authlib.oauth2.rfc7523 import JWTBearerClientAssertion
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.serialization import load_pem_public_key
from joserfc import jwt
from joserfc.errors import JoseError
from joserfc.jwk import ECKey, Key, OKPKey, RSAKey
from joserfc.jwt import Claims

if TYPE_CHECKING:
    from stepup.testing.provider.oidc import Provider, RegisteredClient

#: How an assertion may be signed (RFC 7518, section 3.1; RFC 8037): never with a secret.
ASSERTION_ALGORITHMS = ("RS256", "RS384", "RS512", "PS256", "PS384", "PS512", "ES256", "ES384", "ES512", "EdDSA")

#: Seconds from now that an assertion may be good for. It is remembered as long, so that it cannot come again.
LONGEST_ASSERTION = 600


def public_key(pem: str) -> Key:
    """A public key in PEM, whatever its type. Raises `ValueError` where it is none."""
    material, kind = load_pem_public_key(pem.encode()), cast("Any", OKPKey)
    if isinstance(material, rsa.RSAPublicKey):
        kind = RSAKey
    elif isinstance(material, ec.EllipticCurvePublicKey):
        kind = ECKey
    key: Key = kind.import_key(pem)
    return key


class ClientAssertion(JWTBearerClientAssertion):
    """Client authentication with a signed JWT, each of which is good once (RFC 7523, section 3)."""

    CLIENT_AUTH_METHOD = "private_key_jwt"

    def __init__(self, provider: Provider) -> None:
        super().__init__()
        self.provider = provider

    def __call__(self, query_client: Any, request: OAuth2Request) -> RegisteredClient | None:
        try:
            client: RegisteredClient | None = super().__call__(query_client, request)
        except RecursionError:
            # Authlib reads what it has not verified yet, however deeply it is nested.
            raise InvalidClientError("The assertion cannot be read.") from None
        return client

    def get_audiences(self) -> list[str]:
        # RFC 9126, section 2, has all three accepted for a pushed request; so has the token endpoint, for symmetry.
        issuer = self.provider.issuer
        return [issuer, f"{issuer}oauth/token", f"{issuer}oauth/par"]

    def resolve_client_public_key(self, client: RegisteredClient) -> Key:
        if not client.client.public_key:
            raise InvalidClientError("The client has no public key.")
        return public_key(client.client.public_key)

    def process_assertion_claims(self, assertion: str, resolve_key: Any) -> Claims:
        try:
            claims = jwt.decode(assertion, resolve_key, algorithms=ASSERTION_ALGORITHMS).claims
        except JoseError:
            raise InvalidClientError("The signature of the assertion is not right.") from None
        self.verify_claims(claims)
        return claims

    def validate_jti(self, claims: Claims, jti: Any) -> bool:
        if claims["exp"] > self.provider.clock() + LONGEST_ASSERTION:
            raise InvalidClientError("The assertion is good for too long.")
        return self.provider.state.assertions.add(f"{claims['sub']} {jti}", "used")
