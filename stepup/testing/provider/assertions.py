"""What applications sign: who they are (OpenID Connect Core 1.0, 9), and what they ask for (RFC 9101)."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any, cast

from authlib.oauth2 import OAuth2Request
from authlib.oauth2.rfc6749 import InvalidClientError
from authlib.oauth2.rfc7523 import JWTBearerClientAssertion
from authlib.oauth2.rfc9101.errors import InvalidRequestObjectError
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.serialization import load_pem_public_key
from joserfc import jwt
from joserfc.errors import JoseError
from joserfc.jwk import ECKey, Key, OKPKey, RSAKey
from joserfc.jwt import Claims, JWTClaimsRegistry

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


def parameters_of(request_object: str, client: RegisteredClient, issuer: str, now: int) -> dict[str, list[str]]:
    """The parameters of an authentication request that its application has signed (RFC 9101, section 6.3).

    Raises:
        InvalidRequestObjectError: the application has not, or not for this provider, or it holds what it must not.
    """
    registry = JWTClaimsRegistry(
        now=now,
        iss={"essential": True, "value": client.client_id},
        aud={"essential": True, "value": issuer},
        client_id={"essential": True, "value": client.client_id},
        exp={"essential": True},
    )
    try:
        key = public_key(client.client.public_key)
        claims = jwt.decode(request_object, key, algorithms=ASSERTION_ALGORITHMS).claims
        registry.validate(claims)
    except (JoseError, ValueError, TypeError, RecursionError):
        raise InvalidRequestObjectError from None
    if {"request", "request_uri"} & claims.keys():
        raise InvalidRequestObjectError
    about_it = ("iss", "aud", "sub", "iat", "nbf", "exp", "jti")
    return {
        name: [value if isinstance(value, str) else json.dumps(value)]
        for name, value in claims.items()
        if name not in about_it
    }


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
