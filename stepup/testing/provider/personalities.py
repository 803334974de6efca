"""Named ways to misbehave, to test a site against: `Configuration(personality=…)`, `RunningProvider.behave(…)`.

The first line of each docstring says what a personality does; the documentation has a table of them all.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
import re
import secrets
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping
from functools import cache
from typing import Any, ClassVar

from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import rsa
from django.http import HttpResponse, JsonResponse, StreamingHttpResponse
from django.http.response import HttpResponseBase
from joserfc.jwk import Key, RSAKey

from stepup.testing.provider.configuration import WELL_BEHAVED
from stepup.testing.provider.personality import Parameters, Personality, encode, sign
from stepup.testing.provider.tls import certificate_of

#: All of them by name, the well-behaved one first.
PERSONALITIES: dict[str, type[Personality]] = {WELL_BEHAVED: Personality}

#: The client id of an application that this provider does not know.
ANOTHER_APPLICATION = "another-application"

#: Seconds that are far away: more than any leeway, or any age that a site may accept.
FAR = 24 * 3600

#: Seconds that slow answers take, at most: more than any client should wait.
FOR_LONG = 30.0

#: Seconds between two bytes of an answer that drips.
DROP = 0.1

#: Bytes of an answer that is huge.
HUGE = 32 * 1024 * 1024


def personality(cls: type[Personality]) -> type[Personality]:
    """Register a personality under its name in snake case."""
    PERSONALITIES[re.sub(r"(?<=[a-z0-9])(?=[A-Z])", "_", cls.__name__).lower()] = cls
    return cls


def what_it_does(name: str) -> str:
    """One sentence about a personality."""
    return (PERSONALITIES[name].__doc__ or "").partition("\n")[0]


# Whom the ID token is for, and whose it is


@personality
class WrongAudience(Personality):
    """The ID token is for another application."""

    def claims(self, claims: dict[str, Any]) -> dict[str, Any]:
        return {**claims, "aud": ANOTHER_APPLICATION}


@personality
class NoAudience(Personality):
    """The ID token has no ``aud``."""

    def claims(self, claims: dict[str, Any]) -> dict[str, Any]:
        return without(claims, "aud")


@personality
class ExtraAudience(Personality):
    """The ID token is for another application as well."""

    def claims(self, claims: dict[str, Any]) -> dict[str, Any]:
        return {**claims, "aud": [claims["aud"], ANOTHER_APPLICATION], "azp": claims["aud"]}


@personality
class NoAuthorizedParty(Personality):
    """The ID token is for two applications, ``another-application`` being the second, and has no ``azp``."""

    def claims(self, claims: dict[str, Any]) -> dict[str, Any]:
        return {**claims, "aud": [claims["aud"], ANOTHER_APPLICATION]}


@personality
class OtherAuthorizedParty(Personality):
    """The ``azp`` of the ID token is another application."""

    def claims(self, claims: dict[str, Any]) -> dict[str, Any]:
        return {**claims, "azp": ANOTHER_APPLICATION}


@personality
class IssuerWithTrailingSlash(Personality):
    """The ``iss`` of the ID token has one more slash at its end."""

    def claims(self, claims: dict[str, Any]) -> dict[str, Any]:
        return {**claims, "iss": f"{claims['iss']}/"}


@personality
class IssuerPrefix(Personality):
    """The ``iss`` of the ID token is the issuer without its last character."""

    def claims(self, claims: dict[str, Any]) -> dict[str, Any]:
        return {**claims, "iss": claims["iss"][:-1]}


@personality
class IssuerSuffix(Personality):
    """The ``iss`` of the ID token begins with the issuer, and goes on."""

    def claims(self, claims: dict[str, Any]) -> dict[str, Any]:
        return {**claims, "iss": f"{claims['iss']}tenant"}


@personality
class IssuerAsList(Personality):
    """The ``iss`` of the ID token is a list with the issuer in it."""

    def claims(self, claims: dict[str, Any]) -> dict[str, Any]:
        return {**claims, "iss": [claims["iss"]]}


@personality
class NoIssuer(Personality):
    """The ID token has no ``iss``."""

    def claims(self, claims: dict[str, Any]) -> dict[str, Any]:
        return without(claims, "iss")


# Whom it is about


@personality
class OtherSubject(Personality):
    """The ID token is about somebody else; userinfo is about the person who signed in."""

    def claims(self, claims: dict[str, Any]) -> dict[str, Any]:
        return {**claims, "sub": "stepup|somebody-else"}


@personality
class NoSubject(Personality):
    """The ID token has no ``sub``."""

    def claims(self, claims: dict[str, Any]) -> dict[str, Any]:
        return without(claims, "sub")


@personality
class EmptySubject(Personality):
    """The ``sub`` of the ID token is empty."""

    def claims(self, claims: dict[str, Any]) -> dict[str, Any]:
        return {**claims, "sub": ""}


@personality
class LongSubject(Personality):
    """The ``sub`` of the ID token has 256 characters, one more than allowed."""

    def claims(self, claims: dict[str, Any]) -> dict[str, Any]:
        return {**claims, "sub": claims["sub"].ljust(256, "x")}


@personality
class SubjectAsNumber(Personality):
    """The ``sub`` of the ID token is a number."""

    def claims(self, claims: dict[str, Any]) -> dict[str, Any]:
        return {**claims, "sub": 42}


@personality
class UserinfoOfAnotherSubject(Personality):
    """Userinfo is about somebody else than the ID token."""

    def user_info(self, claims: dict[str, Any]) -> dict[str, Any]:
        return {**claims, "sub": "stepup|somebody-else"}


@personality
class UserinfoWithoutSubject(Personality):
    """Userinfo does not say whom it is about."""

    def user_info(self, claims: dict[str, Any]) -> dict[str, Any]:
        return without(claims, "sub")


@personality
class EmailNotVerified(Personality):
    """The e-mail address is not verified, in the ID token and in userinfo."""

    def claims(self, claims: dict[str, Any]) -> dict[str, Any]:
        return {**claims, **({"email_verified": False} if "email" in claims else {})}

    user_info = claims


# When it was made, and for which request


@personality
class Expired(Personality):
    """The ID token has expired."""

    def claims(self, claims: dict[str, Any]) -> dict[str, Any]:
        return {**claims, "exp": claims["exp"] - FAR}


@personality
class NoExpiry(Personality):
    """The ID token has no ``exp``."""

    def claims(self, claims: dict[str, Any]) -> dict[str, Any]:
        return without(claims, "exp")


@personality
class NoIssueTime(Personality):
    """The ID token has no ``iat``."""

    def claims(self, claims: dict[str, Any]) -> dict[str, Any]:
        return without(claims, "iat")


@personality
class FutureIat(Personality):
    """The ID token was issued tomorrow."""

    def claims(self, claims: dict[str, Any]) -> dict[str, Any]:
        return {**claims, "iat": claims["iat"] + FAR}


@personality
class FutureNbf(Personality):
    """The ID token is not valid before tomorrow."""

    def claims(self, claims: dict[str, Any]) -> dict[str, Any]:
        return {**claims, "nbf": claims["iat"] + FAR}


@personality
class FutureAuthTime(Personality):
    """The person authenticated tomorrow."""

    def claims(self, claims: dict[str, Any]) -> dict[str, Any]:
        return {**claims, "auth_time": claims["iat"] + FAR}


@personality
class StaleAuthTime(Personality):
    """The person authenticated yesterday, whatever freshness was asked for."""

    def claims(self, claims: dict[str, Any]) -> dict[str, Any]:
        return {**claims, "auth_time": claims["iat"] - FAR}


@personality
class NoAuthTime(Personality):
    """The ID token has no ``auth_time``, though freshness was asked for."""

    def claims(self, claims: dict[str, Any]) -> dict[str, Any]:
        return without(claims, "auth_time")


@personality
class TimesAsStrings(Personality):
    """The times in the ID token are strings."""

    def claims(self, claims: dict[str, Any]) -> dict[str, Any]:
        return {**claims, **{name: str(claims[name]) for name in TIMES if name in claims}}


@personality
class TimesAsFloats(Personality):
    """The times in the ID token have a fraction, which is allowed."""

    def claims(self, claims: dict[str, Any]) -> dict[str, Any]:
        return {**claims, **{name: claims[name] + 0.25 for name in TIMES if name in claims}}


@personality
class InfiniteExpiry(Personality):
    """The ``exp`` of the ID token is 1e400, which many parsers read as infinity."""

    def id_token(self, header: dict[str, Any], claims: dict[str, Any], key: Key) -> str:
        return sign(header, json.dumps({**claims, "exp": 0}).replace('"exp": 0', '"exp": 1e400'), key)


@personality
class WrongNonce(Personality):
    """The ``nonce`` of the ID token is that of no request."""

    def claims(self, claims: dict[str, Any]) -> dict[str, Any]:
        return {**claims, "nonce": "a nonce that nobody sent"}


@personality
class NoNonce(Personality):
    """The ID token has no ``nonce``."""

    def claims(self, claims: dict[str, Any]) -> dict[str, Any]:
        return without(claims, "nonce")


@personality
class WrongAtHash(Personality):
    """The ``at_hash`` of the ID token is that of another access token."""

    def claims(self, claims: dict[str, Any]) -> dict[str, Any]:
        return {**claims, "at_hash": encode(hashlib.sha256(b"another").digest()[:16])}


# How the person authenticated


@personality
class IgnoresAcrValues(Personality):
    """Asks for no second factor, and sends neither ``amr`` nor ``acr``."""

    def parameters(self, parameters: dict[str, str]) -> dict[str, str]:
        return without(parameters, "acr_values", "claims")


@personality
class AnswersAcrZero(IgnoresAcrValues):
    """Asks for no second factor, and sends ``acr: "0"``."""

    def claims(self, claims: dict[str, Any]) -> dict[str, Any]:
        return {**claims, "acr": "0"}


class OddAmr(Personality):
    """Sends an ``amr`` that is not quite right, and no ``acr``."""

    amr: ClassVar[Any]

    def claims(self, claims: dict[str, Any]) -> dict[str, Any]:
        return {**without(claims, "acr"), "amr": self.amr}


@personality
class AmrAsString(OddAmr):
    """The ``amr`` is the string ``"mfa"``, not a list."""

    amr = "mfa"


@personality
class AmrNotQuite(OddAmr):
    """The ``amr`` is the string ``"mfa-not"``."""

    amr = "mfa-not"


@personality
class AmrInCapitals(OddAmr):
    """The ``amr`` is ``["MFA"]``."""

    amr = ("MFA",)


@personality
class AmrNested(OddAmr):
    """The ``amr`` is ``[["mfa"]]``."""

    amr = (("mfa",),)


@personality
class AmrAsObject(OddAmr):
    """The ``amr`` is ``{"mfa": 1}``."""

    amr: ClassVar[Any] = {"mfa": 1}


@personality
class AmrNull(OddAmr):
    """The ``amr`` is ``null``."""

    amr = None


@personality
class AmrOfTenThousand(OddAmr):
    """The ``amr`` has ten thousand members, the last of them ``"mfa"``."""

    amr = (*("x",) * 9_999, "mfa")


# How it is signed


@personality
class AlgNone(Personality):
    """The ID token is not signed: ``alg: none``."""

    alg = "none"

    def id_token(self, header: dict[str, Any], claims: dict[str, Any], key: Key) -> str:
        return f"{encode(json.dumps({**header, 'alg': self.alg}))}.{encode(json.dumps(claims))}."


@personality
class AlgNoneCapitalized(AlgNone):
    """The ID token is not signed: ``alg: None``, for those who compare with ``none``."""

    alg = "None"


@personality
class AlgNoneInCapitals(AlgNone):
    """The ID token is not signed: ``alg: NONE``, and there is something in the place of the signature."""

    alg = "NONE"

    def id_token(self, header: dict[str, Any], claims: dict[str, Any], key: Key) -> str:
        return super().id_token(header, claims, key) + encode(b"nothing")


@personality
class EmptySignature(Personality):
    """The header says that the ID token is signed, but the signature is empty."""

    def id_token(self, header: dict[str, Any], claims: dict[str, Any], key: Key) -> str:
        return sign(header, claims, key).rpartition(".")[0] + "."


@personality
class WrongSignature(Personality):
    """The claims were changed after they had been signed."""

    def id_token(self, header: dict[str, Any], claims: dict[str, Any], key: Key) -> str:
        signature = sign(header, {**claims, "sub": "stepup|somebody-else"}, key).rpartition(".")[2]
        return f"{encode(json.dumps(header))}.{encode(json.dumps(claims))}.{signature}"


@cache
def own_key(bits: int) -> RSAKey:
    """A key that the provider has not; a new one for each process."""
    material = rsa.generate_private_key(public_exponent=65537, key_size=bits)
    key: RSAKey = RSAKey.import_key(pem(material), {"use": "sig", "alg": "RS256", "kid": secrets.token_hex(8)})
    return key


class OwnKey(Personality):
    """Has a key of its own, besides the one of the provider that should sign."""

    bits = 2048

    @property
    def own(self) -> RSAKey:
        return own_key(self.bits)

    @property
    def own_published(self) -> dict[str, Any]:
        return dict(self.own.as_dict(private=False))


class SignedWithPublicKey(OwnKey, ABC):
    """Signs with HS256 and a public key, which everybody has, as the secret."""

    @abstractmethod
    def secret(self) -> bytes:
        """The public key, as one may come across it."""

    def id_token(self, header: dict[str, Any], claims: dict[str, Any], key: Key) -> str:
        return sign_with_secret({**header, "kid": self.own.kid}, claims, self.secret())

    def keys(self, jwks: Mapping[str, Any]) -> Mapping[str, Any]:
        return {"keys": [*jwks["keys"], self.own_published]}


@personality
class Hs256WithPublicKeyPem(SignedWithPublicKey):
    """The ID token is signed with HS256, the secret being a published key in PEM."""

    def secret(self) -> bytes:
        return self.own.as_pem(private=False)


@personality
class Hs256WithPublicKeyDer(SignedWithPublicKey):
    """The ID token is signed with HS256, the secret being a published key in DER."""

    def secret(self) -> bytes:
        return self.own.as_der(private=False)


@personality
class Hs256WithPublicKeyJwk(SignedWithPublicKey):
    """The ID token is signed with HS256, the secret being a published key as a JWK."""

    def secret(self) -> bytes:
        return json.dumps(self.own_published).encode()


@personality
class OtherAlgorithm(OwnKey):
    """The ID token is signed with RS512, whatever the application is registered with; the key is published."""

    def id_token(self, header: dict[str, Any], claims: dict[str, Any], key: Key) -> str:
        return sign({**header, "alg": "RS512", "kid": self.own.kid}, claims, self.own)

    def keys(self, jwks: Mapping[str, Any]) -> Mapping[str, Any]:
        return {"keys": [*jwks["keys"], without(self.own_published, "alg")]}


@personality
class OtherKeySameKid(OwnKey):
    """The ID token is signed with a key that is not published, under the name of the one that is."""

    def id_token(self, header: dict[str, Any], claims: dict[str, Any], key: Key) -> str:
        return sign({**header, "alg": "RS256"}, claims, self.own)


@personality
class UnknownKid(OwnKey):
    """Each ID token names another key, and none of them is published."""

    def id_token(self, header: dict[str, Any], claims: dict[str, Any], key: Key) -> str:
        return sign({**header, "alg": "RS256", "kid": secrets.token_hex(8)}, claims, self.own)


@personality
class NoKid(Personality):
    """The ID token does not name its key, which is allowed."""

    def header(self, header: dict[str, Any]) -> dict[str, Any]:
        return without(header, "kid")


@personality
class NoKidAmongSeveral(OwnKey):
    """The ID token does not name its key, and the first of those published is another, which is allowed."""

    header = NoKid.header

    def keys(self, jwks: Mapping[str, Any]) -> Mapping[str, Any]:
        return {"keys": [self.own_published, *jwks["keys"]]}


@personality
class TwoKeysOneKid(OwnKey):
    """Two published keys have one name, the first of them being the wrong one."""

    def keys(self, jwks: Mapping[str, Any]) -> Mapping[str, Any]:
        return {"keys": [{**self.own_published, "kid": key["kid"]} for key in jwks["keys"]] + jwks["keys"]}


@personality
class RotatedKeys(OwnKey):
    """Signs with a new key (RS256), and publishes no other."""

    def id_token(self, header: dict[str, Any], claims: dict[str, Any], key: Key) -> str:
        return sign({**header, "alg": "RS256", "kid": self.own.kid}, claims, self.own)

    def keys(self, jwks: Mapping[str, Any]) -> Mapping[str, Any]:
        return {"keys": [self.own_published]}


@personality
class NoKeys(Personality):
    """Publishes no key at all."""

    def keys(self, jwks: Mapping[str, Any]) -> Mapping[str, Any]:
        return {"keys": []}


@personality
class KeyForEncryption(Personality):
    """Publishes the keys as keys for encryption: ``use: enc``."""

    def keys(self, jwks: Mapping[str, Any]) -> Mapping[str, Any]:
        return {"keys": [{**key, "use": "enc"} for key in jwks["keys"]]}


@personality
class KeyNotForVerifying(Personality):
    """Publishes the keys with ``key_ops`` that do not include ``verify``."""

    def keys(self, jwks: Mapping[str, Any]) -> Mapping[str, Any]:
        return {"keys": [{**without(key, "use"), "key_ops": ["encrypt"]} for key in jwks["keys"]]}


@personality
class KeyOfOtherAlgorithm(Personality):
    """Publishes the keys with another ``alg`` than they sign with."""

    def keys(self, jwks: Mapping[str, Any]) -> Mapping[str, Any]:
        return {"keys": [{**key, "alg": "RS512"} for key in jwks["keys"]]}


@personality
class SmallRsaKey(RotatedKeys):
    """Signs with an RSA key of 1024 bits, and publishes it."""

    bits = 1024


@personality
class OctKeyInJwks(OwnKey):
    """Publishes a shared secret among its keys, and signs with it: HS256."""

    def id_token(self, header: dict[str, Any], claims: dict[str, Any], key: Key) -> str:
        return sign_with_secret({**header, "kid": "oct"}, claims, b"x" * 32)

    def keys(self, jwks: Mapping[str, Any]) -> Mapping[str, Any]:
        published = {"kty": "oct", "kid": "oct", "use": "sig", "alg": "HS256", "k": encode(b"x" * 32)}
        return {"keys": [*jwks["keys"], published]}


@personality
class HeaderJwk(OwnKey):
    """The ID token brings its own key along, in the ``jwk`` header parameter."""

    def id_token(self, header: dict[str, Any], claims: dict[str, Any], key: Key) -> str:
        return sign({**header, "alg": "RS256", "jwk": self.own_published}, claims, self.own)


@personality
class HeaderJku(OwnKey):
    """The ID token says in ``jku`` and ``x5u`` where its own key is: at ``/elsewhere`` of the provider."""

    def id_token(self, header: dict[str, Any], claims: dict[str, Any], key: Key) -> str:
        elsewhere = f"{claims['iss']}elsewhere"
        return sign({"alg": "RS256", "kid": self.own.kid, "jku": elsewhere, "x5u": elsewhere}, claims, self.own)


@personality
class HeaderX5c(OwnKey):
    """The ID token brings a certificate of its own key along, in the ``x5c`` header parameter."""

    def id_token(self, header: dict[str, Any], claims: dict[str, Any], key: Key) -> str:
        own: Any = self.own.private_key
        chain = [base64.b64encode(certificate_of(own)).decode()]
        return sign({**header, "alg": "RS256", "x5c": chain}, claims, self.own)


@personality
class CritHeader(Personality):
    """The header has an extension that must be understood, and is made up."""

    def header(self, header: dict[str, Any]) -> dict[str, Any]:
        return {**header, "crit": ["urn:example:made-up"], "urn:example:made-up": True}


@personality
class B64False(Personality):
    """The header says that the payload is not in base64: ``b64: false`` (RFC 7797)."""

    def header(self, header: dict[str, Any]) -> dict[str, Any]:
        return {**header, "b64": False, "crit": ["b64"]}


@personality
class AccessTokenAsIdToken(Personality):
    """The header says that this is an access token: ``typ: at+jwt`` (RFC 9068)."""

    def header(self, header: dict[str, Any]) -> dict[str, Any]:
        return {**header, "typ": "at+jwt"}


# What it looks like


@personality
class DuplicateMembers(Personality):
    """The claims have two ``sub``, the first of somebody else."""

    def id_token(self, header: dict[str, Any], claims: dict[str, Any], key: Key) -> str:
        return sign(header, json.dumps(claims).replace("{", '{"sub": "stepup|somebody-else", ', 1), key)


@personality
class BadBase64(Personality):
    """The signature is padded, and so in no base64url that a JWT may have."""

    def id_token(self, header: dict[str, Any], claims: dict[str, Any], key: Key) -> str:
        return f"{sign(header, claims, key)}=="


@personality
class EncryptedToken(Personality):
    """The ID token has five parts, as an encrypted one has."""

    def id_token(self, header: dict[str, Any], claims: dict[str, Any], key: Key) -> str:
        head = encode(json.dumps({"alg": "RSA-OAEP-256", "enc": "A256GCM", "kid": key.kid}))
        return ".".join([head, *(encode(secrets.token_bytes(size)) for size in (256, 12, 600, 16))])


@personality
class LongToken(Personality):
    """The ID token is good, and has a hundred thousand characters."""

    def claims(self, claims: dict[str, Any]) -> dict[str, Any]:
        return {**claims, "groups": "x" * 100_000}


@personality
class HugeToken(Personality):
    """The ID token is good, and has ten million characters."""

    def claims(self, claims: dict[str, Any]) -> dict[str, Any]:
        return {**claims, "groups": "x" * 10_000_000}


@personality
class TokenAsObject(Personality):
    """The ``id_token`` is a JSON object with the claims, instead of a string."""

    def id_token(self, header: dict[str, Any], claims: dict[str, Any], key: Key) -> Any:
        return claims


@personality
class NoIdToken(Personality):
    """The token endpoint sends no ID token."""

    def token_response(self, response: dict[str, Any]) -> dict[str, Any]:
        return without(response, "id_token")


@personality
class NoAccessToken(Personality):
    """The token endpoint sends no access token."""

    def token_response(self, response: dict[str, Any]) -> dict[str, Any]:
        return without(response, "access_token")


# The way back


@personality
class WrongResponseIssuer(Personality):
    """The authorization response has the ``iss`` of another provider (RFC 9207)."""

    def authorization_response(self, parameters: Parameters) -> Parameters:
        return [*(each for each in parameters if each[0] != "iss"), ("iss", "https://other-provider.example/")]


@personality
class NoResponseIssuer(Personality):
    """The authorization response has no ``iss``, which the metadata promise."""

    def authorization_response(self, parameters: Parameters) -> Parameters:
        return [each for each in parameters if each[0] != "iss"]


@personality
class DoubledCode(Personality):
    """The authorization response has two codes."""

    def authorization_response(self, parameters: Parameters) -> Parameters:
        return [*parameters, ("code", "another")]


@personality
class DoubledState(Personality):
    """The authorization response has two states."""

    def authorization_response(self, parameters: Parameters) -> Parameters:
        return [*parameters, ("state", "another")]


@personality
class WrongState(Personality):
    """The authorization response has a ``state`` that nobody sent."""

    def authorization_response(self, parameters: Parameters) -> Parameters:
        return [(name, "forged" if name == "state" else value) for name, value in parameters]


@personality
class NoCode(Personality):
    """The authorization response has neither a code nor an error."""

    def authorization_response(self, parameters: Parameters) -> Parameters:
        return [each for each in parameters if each[0] != "code"]


class AnswersError(Personality):
    """Answers each authentication request with an error, though the person has done everything."""

    error = ""

    def authorization_response(self, parameters: Parameters) -> Parameters:
        return [("error", self.error), *(each for each in parameters if each[0] != "code")]


@personality
class AnswersServerError(AnswersError):
    """Answers each authentication request with ``server_error``."""

    error = "server_error"


@personality
class AnswersUnmet(AnswersError):
    """Answers each authentication request with ``unmet_authentication_requirements``."""

    error = "unmet_authentication_requirements"


@personality
class AnswersMadeUpError(AnswersError):
    """Answers each authentication request with an error of its own."""

    error = "<b>made_up</b>"


# What the endpoints say


@personality
class RefusesCodes(Personality):
    """The token endpoint refuses each code with 403 ``invalid_grant``, as Auth0 does one that was used."""

    def answer(self, endpoint: str, response: HttpResponse, hang_up: Callable[[], None]) -> HttpResponseBase:
        if endpoint != "token":
            return response
        error = {"error": "invalid_grant", "error_description": "Invalid authorization code"}
        return JsonResponse(error, status=403)


@personality
class MetadataOfAnotherIssuer(Personality):
    """The metadata are another provider's."""

    def metadata(self, document: dict[str, Any]) -> dict[str, Any]:
        return {**document, "issuer": "https://other-provider.example/"}


@personality
class MetadataWithoutEndpoints(Personality):
    """The metadata name no endpoint."""

    def metadata(self, document: dict[str, Any]) -> dict[str, Any]:
        return {name: value for name, value in document.items() if not name.endswith(("_endpoint", "_uri"))}


@personality
class KeysThatAreNone(Personality):
    """The published key set is a string."""

    def keys(self, jwks: Mapping[str, Any]) -> Mapping[str, Any]:
        return {"keys": "none"}


# What a refresh token brings


@personality
class RefreshOfOtherSubject(Personality):
    """The ID token that a refresh token brings is about somebody else."""

    def refreshed_claims(self, claims: dict[str, Any]) -> dict[str, Any]:
        return {**claims, "sub": "stepup|somebody-else"}


@personality
class RefreshOfOtherSession(Personality):
    """The ID token that a refresh token brings has the ``sid`` of another session."""

    def refreshed_claims(self, claims: dict[str, Any]) -> dict[str, Any]:
        return {**claims, "sid": "another session"}


@personality
class RefreshWithLaterAuthTime(Personality):
    """The ID token that a refresh token brings says that the person has authenticated just now."""

    def refreshed_claims(self, claims: dict[str, Any]) -> dict[str, Any]:
        return {**claims, "auth_time": claims["iat"] + 1}


@personality
class RefreshWithOtherNonce(Personality):
    """The ID token that a refresh token brings has a ``nonce``, of no request."""

    def refreshed_claims(self, claims: dict[str, Any]) -> dict[str, Any]:
        return {**claims, "nonce": "a nonce that nobody sent"}


@personality
class RefreshWithAuthorizedParty(Personality):
    """The ID token that a refresh token brings has an ``azp``, which the first one had not."""

    def refreshed_claims(self, claims: dict[str, Any]) -> dict[str, Any]:
        return {**claims, "azp": claims["aud"]}


@personality
class RefreshWithoutIdToken(Personality):
    """A refresh token brings no ID token, which is allowed."""

    def refresh_response(self, response: dict[str, Any]) -> dict[str, Any]:
        return without(response, "id_token")


@personality
class RefreshWithoutRotation(Personality):
    """A refresh token stays good, and brings no other, which is allowed."""

    rotates = False


@personality
class RefreshServerError(Personality):
    """A refresh token is taken, and answered with 500."""

    def refresh_answer(self, response: HttpResponse) -> HttpResponse:
        return HttpResponse("Internal Server Error", content_type="text/plain", status=500)


@personality
class RefusesRefreshTokens(Personality):
    """Each refresh token is refused with 403 ``invalid_grant``, as by Auth0 where it was revoked."""

    def refresh_answer(self, response: HttpResponse) -> HttpResponse:
        error = {"error": "invalid_grant", "error_description": "Unknown or invalid refresh token."}
        return JsonResponse(error, status=403)


# Logout tokens


#: What makes a token a logout token (OpenID Connect Back-Channel Logout 1.0, section 2.4).
LOGOUT_EVENT = "http://schemas.openid.net/event/backchannel-logout"


@personality
class LogoutForAnother(Personality):
    """The logout token is for another application."""

    def logout_claims(self, claims: dict[str, Any]) -> dict[str, Any]:
        return {**claims, "aud": ANOTHER_APPLICATION}


@personality
class LogoutOfAnotherIssuer(Personality):
    """The ``iss`` of the logout token begins with the issuer, and goes on."""

    def logout_claims(self, claims: dict[str, Any]) -> dict[str, Any]:
        return {**claims, "iss": f"{claims['iss']}tenant"}


@personality
class LogoutAlgNone(Personality):
    """The logout token is not signed: ``alg: none``."""

    def logout_token(self, header: dict[str, Any], claims: dict[str, Any], key: Key) -> str:
        return f"{encode(json.dumps({**header, 'alg': 'none'}))}.{encode(json.dumps(claims))}."


@personality
class LogoutWrongSignature(Personality):
    """The claims of the logout token were changed after they had been signed."""

    def logout_token(self, header: dict[str, Any], claims: dict[str, Any], key: Key) -> str:
        signature = sign(header, {**claims, "sub": "stepup|somebody-else"}, key).rpartition(".")[2]
        return f"{encode(json.dumps(header))}.{encode(json.dumps(claims))}.{signature}"


@personality
class LogoutUnknownKid(OwnKey):
    """The logout token is signed with a key that is not published."""

    def logout_token(self, header: dict[str, Any], claims: dict[str, Any], key: Key) -> str:
        return sign({**header, "alg": "RS256", "kid": secrets.token_hex(8)}, claims, self.own)


@personality
class LogoutRotatedKeys(OwnKey):
    """The logout token is signed with a key that is published since the keys were last asked for."""

    def logout_token(self, header: dict[str, Any], claims: dict[str, Any], key: Key) -> str:
        return sign({**header, "alg": "RS256", "kid": self.own.kid}, claims, self.own)

    def keys(self, jwks: Mapping[str, Any]) -> Mapping[str, Any]:
        return {"keys": [*jwks["keys"], self.own_published]}


@personality
class LogoutWithNonce(Personality):
    """The logout token has a ``nonce``."""

    def logout_claims(self, claims: dict[str, Any]) -> dict[str, Any]:
        return {**claims, "nonce": "a nonce"}


@personality
class LogoutWithoutEvents(Personality):
    """The logout token has no ``events``."""

    def logout_claims(self, claims: dict[str, Any]) -> dict[str, Any]:
        return without(claims, "events")


@personality
class LogoutWithAnotherEvent(Personality):
    """The ``events`` of the logout token has another event."""

    def logout_claims(self, claims: dict[str, Any]) -> dict[str, Any]:
        return {**claims, "events": {"http://schemas.openid.net/event/something-else": {}}}


@personality
class LogoutEventNull(Personality):
    """The event of the logout token is ``null``, and not an object."""

    def logout_claims(self, claims: dict[str, Any]) -> dict[str, Any]:
        return {**claims, "events": {LOGOUT_EVENT: None}}


@personality
class LogoutWithoutJti(Personality):
    """The logout token has no ``jti``."""

    def logout_claims(self, claims: dict[str, Any]) -> dict[str, Any]:
        return without(claims, "jti")


@personality
class LogoutReplayed(Personality):
    """Each logout token has the ``jti`` of the one before."""

    def logout_claims(self, claims: dict[str, Any]) -> dict[str, Any]:
        return {**claims, "jti": "the same as ever"}


@personality
class LogoutOld(Personality):
    """The logout token was made a day ago, and has no ``exp``."""

    def logout_claims(self, claims: dict[str, Any]) -> dict[str, Any]:
        return {**without(claims, "exp"), "iat": claims["iat"] - FAR}


@personality
class LogoutFutureIat(Personality):
    """The ``iat`` of the logout token is a day ahead."""

    def logout_claims(self, claims: dict[str, Any]) -> dict[str, Any]:
        return {**claims, "iat": claims["iat"] + FAR, "exp": claims["exp"] + FAR}


@personality
class LogoutWithoutIat(Personality):
    """The logout token has no ``iat``."""

    def logout_claims(self, claims: dict[str, Any]) -> dict[str, Any]:
        return without(claims, "iat")


@personality
class LogoutExpired(Personality):
    """The logout token has just expired."""

    def logout_claims(self, claims: dict[str, Any]) -> dict[str, Any]:
        return {**claims, "iat": claims["iat"] - 120, "exp": claims["iat"] - 60}


@personality
class LogoutWithoutExpiry(Personality):
    """The logout token has no ``exp``, as before the specification was final."""

    def logout_claims(self, claims: dict[str, Any]) -> dict[str, Any]:
        return without(claims, "exp")


@personality
class LogoutOfNobody(Personality):
    """The logout token has neither ``sub`` nor ``sid``."""

    def logout_claims(self, claims: dict[str, Any]) -> dict[str, Any]:
        return without(claims, "sub", "sid")


@personality
class LogoutSidAsNumber(Personality):
    """The ``sid`` of the logout token is a number."""

    def logout_claims(self, claims: dict[str, Any]) -> dict[str, Any]:
        return {**claims, "sid": 17}


@personality
class LogoutWithoutType(Personality):
    """The header of the logout token has no ``typ``, as many have none."""

    def logout_token(self, header: dict[str, Any], claims: dict[str, Any], key: Key) -> str:
        return sign(without(header, "typ"), claims, key)


@personality
class LogoutOfAnotherType(Personality):
    """The ``typ`` of the logout token is ``at+jwt``, that of an access token."""

    def logout_token(self, header: dict[str, Any], claims: dict[str, Any], key: Key) -> str:
        return sign({**header, "typ": "at+jwt"}, claims, key)


@personality
class LogoutIsIdToken(Personality):
    """An ID token is sent in place of the logout token."""

    def logout_token(self, header: dict[str, Any], claims: dict[str, Any], key: Key) -> str:
        return sign({**header, "typ": "JWT"}, {**without(claims, "events", "jti"), "nonce": "a nonce"}, key)


@personality
class LogoutTokenAsIdToken(Personality):
    """A logout token is sent in place of the ID token."""

    typ: ClassVar[str] = "logout+jwt"

    def id_token(self, header: dict[str, Any], claims: dict[str, Any], key: Key) -> str:
        return sign({**header, "typ": self.typ}, {**claims, "events": {LOGOUT_EVENT: {}}, "jti": "its name"}, key)


@personality
class UntypedLogoutTokenAsIdToken(LogoutTokenAsIdToken):
    """A logout token whose ``typ`` is ``JWT`` is sent in place of the ID token, with a ``nonce`` that is right."""

    typ = "JWT"


class Misanswering(Personality, ABC):
    """Has one endpoint that does not do what HTTP, or the protocol, would have it do."""

    endpoint: ClassVar[str]
    does: ClassVar[str]

    def answer(self, endpoint: str, response: HttpResponse, hang_up: Callable[[], None]) -> HttpResponseBase:
        return self.misanswer(response, hang_up) if endpoint == self.endpoint else response

    @abstractmethod
    def misanswer(self, response: HttpResponse, hang_up: Callable[[], None]) -> HttpResponseBase:
        """What becomes of its good answer. After `hang_up()` the connection is closed."""


class Slow(Misanswering):
    does = "takes half a minute to answer"
    patience_needed = True

    def misanswer(self, response: HttpResponse, hang_up: Callable[[], None]) -> HttpResponseBase:
        self.over.wait(FOR_LONG)
        return response


class Dripping(Misanswering):
    does = "sends one byte of its answer every tenth of a second, for half a minute"
    patience_needed = True

    def misanswer(self, response: HttpResponse, hang_up: Callable[[], None]) -> HttpResponseBase:
        drops = round(FOR_LONG / DROP)
        return streamed(response, drops + len(response.content), self.drip(drops, response.content))

    def drip(self, drops: int, content: bytes) -> Iterator[bytes]:
        for _ in range(drops):
            # White space before the JSON, so that the whole is a good answer for those who wait.
            yield b" "
            self.over.wait(DROP)
        yield content


class HalfBody(Misanswering):
    does = "hangs up in the middle of its answer"

    def misanswer(self, response: HttpResponse, hang_up: Callable[[], None]) -> HttpResponseBase:
        hang_up()
        content = response.content
        return streamed(response, len(content), iter([content[: len(content) // 2]]))


class Html(Misanswering):
    does = "answers 200 with a page in HTML"

    def misanswer(self, response: HttpResponse, hang_up: Callable[[], None]) -> HttpResponseBase:
        return HttpResponse("<!doctype html><title>Maintenance</title><h1>Back soon</h1>")


class ServerError(Misanswering):
    does = "answers 500"

    def misanswer(self, response: HttpResponse, hang_up: Callable[[], None]) -> HttpResponseBase:
        return HttpResponse("Internal Server Error", content_type="text/plain", status=500)


class NotJson(Misanswering):
    does = "answers 200 with something that says it is JSON, and is not"

    def misanswer(self, response: HttpResponse, hang_up: Callable[[], None]) -> HttpResponseBase:
        return HttpResponse('{"id_token": ', content_type="application/json")


class Huge(Misanswering):
    does = "answers 200 with 32 MiB of white space before its JSON"

    def misanswer(self, response: HttpResponse, hang_up: Callable[[], None]) -> HttpResponseBase:
        chunk = b" " * 65536
        pieces = (chunk for _ in range(HUGE // len(chunk)))
        return streamed(response, HUGE, pieces)


class Redirecting(Misanswering):
    does = "redirects with 307, to ``/elsewhere`` of the provider"

    def misanswer(self, response: HttpResponse, hang_up: Callable[[], None]) -> HttpResponseBase:
        return HttpResponse(status=307, headers={"Location": "/elsewhere"})


for _endpoint in ("token", "jwks", "userinfo", "metadata", "par"):
    for _kind in (Slow, Dripping, HalfBody, Html, ServerError, NotJson, Huge, Redirecting):
        _doc = f"The {_endpoint} endpoint {_kind.does}."
        personality(type(_endpoint.title() + _kind.__name__, (_kind,), {"endpoint": _endpoint, "__doc__": _doc}))


#: Claims that are times (RFC 7519, section 2; OpenID Connect Core 1.0, section 2).
TIMES = ("exp", "iat", "nbf", "auth_time")


def without(members: Mapping[str, Any], *names: str) -> dict[str, Any]:
    """A copy without some members."""
    return {name: value for name, value in members.items() if name not in names}


def pem(key: rsa.RSAPrivateKey) -> bytes:
    """A private key in PEM."""
    return key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )


def sign_with_secret(header: Mapping[str, Any], claims: Mapping[str, Any], secret: bytes) -> str:
    """A JWT that is signed with HS256, whatever the secret is."""
    signing_input = f"{encode(json.dumps({**header, 'alg': 'HS256'}))}.{encode(json.dumps(claims))}"
    return f"{signing_input}.{encode(hmac.digest(secret, signing_input.encode(), 'sha256'))}"


def streamed(response: HttpResponse, length: int, pieces: Iterator[bytes]) -> StreamingHttpResponse:
    """The same response, sent piece by piece, whatever length it has announced."""
    headers = {**response.headers, "Content-Length": str(length)}
    return StreamingHttpResponse(pieces, status=response.status_code, headers=headers)
