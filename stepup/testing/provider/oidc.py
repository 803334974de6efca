"""The protocol: Authlib's authorization server, told about our clients, people and decisions."""

from __future__ import annotations

import difflib
import secrets
import time
from collections.abc import Callable, Mapping
from typing import Any
from urllib.parse import parse_qsl, urlencode, urlsplit, urlunsplit

from authlib.integrations.django_oauth2 import AuthorizationServer as DjangoAuthorizationServer
from authlib.integrations.django_oauth2 import ResourceProtector
from authlib.integrations.django_oauth2.requests import DjangoOAuth2Request
from authlib.oauth2 import OAuth2Error
from authlib.oauth2.rfc6749 import (
    ClientMixin,
    InvalidClientError,
    InvalidRequestError,
    OAuth2Payload,
    OAuth2Request,
    list_to_scope,
    scope_to_list,
)
from authlib.oauth2.rfc6749.grants import AuthorizationCodeGrant as BaseAuthorizationCodeGrant
from authlib.oauth2.rfc6749.grants import RefreshTokenGrant as BaseRefreshTokenGrant
from authlib.oauth2.rfc6750 import BearerTokenValidator
from authlib.oauth2.rfc7636 import CodeChallenge
from authlib.oauth2.rfc9101.errors import InvalidRequestObjectError
from authlib.oauth2.rfc9207 import IssuerParameter
from authlib.oidc.core import OpenIDCode, UserInfo
from authlib.oidc.core.errors import (
    RegistrationNotSupportedError,
    RequestNotSupportedError,
    RequestURINotSupportedError,
)
from authlib.oidc.rpinitiated import EndSessionEndpoint, EndSessionRequest
from django.http import HttpRequest, HttpResponse
from joserfc import jwt
from joserfc.errors import JoseError
from joserfc.jwk import Key, KeySet

from stepup.testing.provider.action import Asked, Known, Proved, Requested, Step, next_step, proved, requested
from stepup.testing.provider.assertions import ASSERTION_ALGORITHMS, ClientAssertion, parameters_of
from stepup.testing.provider.configuration import (
    KEYS_PATH,
    SIGNING_ALGORITHMS,
    Client,
    Configuration,
    ConfigurationError,
    User,
)
from stepup.testing.provider.keys import Keys
from stepup.testing.provider.personalities import PERSONALITIES
from stepup.testing.provider.personality import Personality, decode
from stepup.testing.provider.state import (
    PUSHED_LIFETIME,
    AccessToken,
    Authentication,
    AuthenticationRecord,
    Clock,
    Code,
    PushedRequest,
    RefreshToken,
    State,
)
from stepup.testing.provider.uris import RegisteredUris

#: The scope that asks for a refresh token (OpenID Connect Core 1.0, section 11).
OFFLINE_ACCESS = "offline_access"

SCOPES = ("openid", "profile", "email", OFFLINE_ACCESS)

#: Seconds an access token is good for, and an ID token.
LIFETIME = 3600

#: How applications may authenticate (OpenID Connect Core 1.0, section 9).
AUTHENTICATION_METHODS = ("client_secret_basic", "client_secret_post", ClientAssertion.CLIENT_AUTH_METHOD)

#: The parameters of an authorization response (RFC 6749, sections 4.1.2 and 4.1.2.1).
RESPONSE_PARAMETERS = frozenset({"code", "state", "error", "error_description", "error_uri"})

#: Parameters by which an application authenticates: no part of what it asks for.
CREDENTIALS = frozenset({"client_secret", "client_assertion", "client_assertion_type"})

#: How the name of a pushed request begins (RFC 9126, section 2.2).
PUSHED = "urn:ietf:params:oauth:request_uri:"

SESSION_COOKIE = "stepup_op_session"


class RegisteredClient(ClientMixin):
    """One client, as Authlib asks about it."""

    def __init__(self, client: Client) -> None:
        self.client = client
        self.client_id = client.client_id
        self.id_token_signed_response_alg = client.id_token_signed_response_alg
        self.redirect_uris = RegisteredUris(client.redirect_uris)
        self.client_metadata = {"post_logout_redirect_uris": RegisteredUris(client.post_logout_redirect_uris)}

    def get_client_id(self) -> str:
        return self.client_id

    def get_allowed_scope(self, scope: str | None) -> str | None:
        # Unknown scopes are ignored (OpenID Connect Core 1.0, section 3.1.2.1); None refuses the request.
        asked = scope_to_list(scope) or []
        return list_to_scope([each for each in asked if each in SCOPES]) if "openid" in asked else None

    def check_redirect_uri(self, redirect_uri: str) -> bool:
        return redirect_uri in self.redirect_uris

    def get_default_redirect_uri(self) -> None:
        """None: OpenID Connect wants it in each request (OpenID Connect Core 1.0, section 3.1.2.1)."""

    def check_client_secret(self, client_secret: str) -> bool:
        return secrets.compare_digest(self.client.client_secret.encode(), client_secret.encode())

    def check_endpoint_auth_method(self, method: str, endpoint: str) -> bool:
        return (method == ClientAssertion.CLIENT_AUTH_METHOD) == bool(self.client.public_key)

    def check_response_type(self, response_type: str) -> bool:
        return response_type == "code"

    def check_grant_type(self, grant_type: str) -> bool:
        return grant_type in ("authorization_code", "refresh_token")


class Parameters(OAuth2Payload):
    """The parameters of an authentication request, each with all its values."""

    def __init__(self, datalist: Mapping[str, list[str]]) -> None:
        self._datalist = dict(datalist)

    @property
    def data(self) -> dict[str, str]:
        return {name: values[-1] for name, values in self._datalist.items()}

    @property
    def datalist(self) -> dict[str, list[str]]:
        return self._datalist


class AuthenticationRequest(OAuth2Request):
    """An authentication request, which outlives the HTTP request it came with."""

    def __init__(
        self, issuer: str, datalist: Mapping[str, list[str]], *, pushed: bool = False, signed: bool = False
    ) -> None:
        super().__init__("GET", f"{issuer}authorize")
        self.payload = Parameters(datalist)
        self.pushed = pushed
        self.signed = signed


class ProviderRequest(DjangoOAuth2Request):
    """A request to one of the other endpoints, with the cookie that names the session."""

    def __init__(self, request: HttpRequest) -> None:
        super().__init__(request)
        self.session_key = request.COOKIES.get(SESSION_COOKIE, "")


class AuthorizationServer(DjangoAuthorizationServer):
    """Authlib's server on Django's requests and responses, without a database."""

    def __init__(self, provider: Provider) -> None:
        super().__init__(client_model=None, token_model=None)
        self.provider = provider
        self.load_config({"token_expires_in": {"authorization_code": LIFETIME}, "refresh_token_generator": True})
        self.register_grant(AuthorizationCodeGrant, [RequiredCodeChallenge(), Understanding(), IdTokens(provider)])
        self.register_grant(RefreshTokenGrant, [RefreshedIdTokens(provider)])
        self.register_client_auth_method(ClientAssertion.CLIENT_AUTH_METHOD, ClientAssertion(provider))
        self.register_endpoint(EndSession)
        self.register_extension(IssuerInResponse())

    def query_client(self, client_id: str) -> RegisteredClient | None:
        return self.provider.clients.get(client_id)

    def authenticate_client(
        self, request: OAuth2Request, methods: list[str], endpoint: str = "token"
    ) -> RegisteredClient:
        try:
            client: RegisteredClient = super().authenticate_client(request, methods, endpoint)
        except UnicodeDecodeError:
            # Authlib decodes the Authorization header without minding what is in it.
            raise InvalidClientError("The Authorization header is not UTF-8.", status_code=401) from None
        if request.payload.client_id not in (None, client.client_id):
            raise InvalidClientError("The request names another application than the one that sent it.")
        return client

    def save_token(self, token: dict[str, Any], request: OAuth2Request) -> None:
        state, grant = self.provider.state, request.refresh_token or request.authorization_code
        state.access_tokens.put(
            token["access_token"],
            AccessToken(user=request.user, scope=token["scope"], code=grant.code),
        )
        if request.authorization_code:
            state.spent_codes.put(grant.code, token["access_token"])
            state.families.put(grant.code, grant.client_id)
        if "refresh_token" in token:
            state.refresh_tokens.put(
                token["refresh_token"],
                RefreshToken(
                    token=token["refresh_token"],
                    client_id=grant.client_id,
                    scope=grant.scope,
                    code=grant.code,
                    authentication=grant.authentication,
                ),
            )

    def create_oauth2_request(self, request: HttpRequest | OAuth2Request) -> OAuth2Request:
        return request if isinstance(request, OAuth2Request) else ProviderRequest(request)

    def push(self, request: HttpRequest) -> HttpResponse:
        """Keep an authentication request until its person comes with the name it gets (RFC 9126, section 2)."""
        asked = ProviderRequest(request)
        try:
            client = self.authenticate_client(asked, list(AUTHENTICATION_METHODS), "pushed_authorization_request")
            sent = {name: values for name, values in request.POST.lists() if name not in CREDENTIALS}
            sent["client_id"] = [client.client_id]
            if "request_uri" in sent:
                raise InvalidRequestError("A request that is pushed has no 'request_uri'.")
            self.get_consent_grant(self.open(AuthenticationRequest(self.provider.issuer, sent, pushed=True)))
        except OAuth2Error as error:
            # The application is told, not the browser: there is none yet (RFC 9126, section 2.3).
            error.redirect_uri = None
            refusal: HttpResponse = self.handle_error_response(asked, error)
            return refusal
        name = PUSHED + secrets.token_urlsafe(24)
        self.provider.state.pushed.put(name, PushedRequest(client.client_id, sent))
        answer: HttpResponse = self.handle_response(
            201, {"request_uri": name, "expires_in": PUSHED_LIFETIME}, [("Content-Type", "application/json")]
        )
        return answer

    def open(self, asking: AuthenticationRequest) -> AuthenticationRequest:
        """The request with what its application has signed, and nothing beside that (RFC 9101, section 6.3)."""
        sent = asking.payload.datalist
        client = self.query_client(asking.payload.client_id or "")
        if "request" in sent and client is not None and client.client.public_key:
            if len(sent["request"]) > 1:
                raise InvalidRequestObjectError
            now = int(self.provider.clock())
            asking.payload = Parameters(parameters_of(sent["request"][0], client, self.provider.issuer, now))
            asking.signed = True
        return asking

    def take_pushed(self, sent: Mapping[str, str]) -> AuthenticationRequest | None:
        """The request that was pushed under the name that a browser came with: once, and for its own application.

        What else the browser sent is not looked at (RFC 9101, section 6.3).
        """
        pushed = self.provider.state.pushed.take(sent["request_uri"])
        if pushed is None or sent.get("client_id") != pushed.client_id:
            return None
        return AuthenticationRequest(self.provider.issuer, pushed.parameters, pushed=True)

    def refuse(self, request: AuthenticationRequest, error: OAuth2Error) -> HttpResponse:
        """Answer an authentication request with an error, at the redirect URI that the error names."""
        error.state = request.payload.state
        response: HttpResponse = self.handle_error_response(request, error)
        self.execute_hook("after_create_authorization_response", response)
        return response


class AuthorizationCodeGrant(BaseAuthorizationCodeGrant):
    """The authorization code flow (RFC 6749, section 4.1), with codes kept in memory."""

    TOKEN_ENDPOINT_AUTH_METHODS = list(AUTHENTICATION_METHODS)  # noqa: RUF012 - overrides Authlib's attribute

    @staticmethod
    def validate_authorization_redirect_uri(request: OAuth2Request, client: RegisteredClient) -> str:
        redirect_uri: str | None = request.payload.redirect_uri
        if redirect_uri is None or not client.check_redirect_uri(redirect_uri):
            raise InvalidRequestError("The redirect URI is not registered for this application.")
        return redirect_uri

    def save_authorization_code(self, code: str, request: OAuth2Request) -> None:
        parameters = request.payload.data
        self.server.provider.state.codes.put(
            code,
            Code(
                code=code,
                client_id=request.client.client_id,
                redirect_uri=request.payload.redirect_uri,
                scope=request.scope,
                nonce=parameters.get("nonce"),
                code_challenge=parameters.get("code_challenge"),
                code_challenge_method=parameters.get("code_challenge_method"),
                authentication=request.user,
            ),
        )

    def query_authorization_code(self, code: str, client: RegisteredClient) -> Code | None:
        state: State = self.server.provider.state
        found = state.codes.get(code)
        if found is not None and found.client_id == client.client_id:
            # Taken, not read: of two requests with one code, one gets it, whatever becomes of it.
            return state.codes.take(code)
        # A code that comes again may have been stolen: what it gave is worth nothing any more
        # (RFC 6749, section 4.1.2).
        access_token = state.spent_codes.get(code)
        if access_token is not None:
            state.access_tokens.take(access_token)
            state.families.take(code)
        return None

    def generate_token(self, *args: Any, **kwargs: Any) -> dict[str, Any]:
        asked = OFFLINE_ACCESS in kwargs["scope"].split() or self.request.client.client.refresh_tokens
        token: dict[str, Any] = super().generate_token(*args, **{**kwargs, "include_refresh_token": asked})
        return token

    def delete_authorization_code(self, authorization_code: Code) -> None:
        """It was taken when it was found."""

    def authenticate_user(self, authorization_code: Code) -> User:
        return authorization_code.authentication.user


class RefreshTokenGrant(BaseRefreshTokenGrant):
    """Refresh tokens (RFC 6749, section 6), each good once. One that comes again ends its family (RFC 9700, 4.14.2)."""

    TOKEN_ENDPOINT_AUTH_METHODS = list(AUTHENTICATION_METHODS)  # noqa: RUF012 - overrides Authlib's attribute

    @property
    def INCLUDE_NEW_REFRESH_TOKEN(self) -> bool:  # noqa: N802 - Authlib's name
        rotates: bool = self.server.provider.personality.rotates
        return rotates

    def authenticate_refresh_token(self, refresh_token: str) -> RefreshToken | None:
        state: State = self.server.provider.state
        found = state.refresh_tokens.get(refresh_token)
        # That of another application is refused, and stays good for its own.
        if found is None or not found.check_client(self.request.client):
            return None
        # Added, not looked up: of two requests with one token, one is the first.
        if self.INCLUDE_NEW_REFRESH_TOKEN and not state.spent_refresh_tokens.add(refresh_token, found.code):
            state.families.take(found.code)
        return found if state.families.get(found.code) is not None else None

    def authenticate_user(self, refresh_token: RefreshToken) -> User:
        return refresh_token.authentication.user

    def revoke_old_credential(self, refresh_token: RefreshToken) -> None:
        """It was spent when it was found."""


class RequiredCodeChallenge(CodeChallenge):
    """PKCE (RFC 7636) with S256 only, required of each client that does not say otherwise."""

    SUPPORTED_CODE_CHALLENGE_METHOD = ["S256"]  # noqa: RUF012 - overrides Authlib's attribute

    def validate_code_challenge(self, grant: AuthorizationCodeGrant, redirect_uri: str) -> None:
        parameters = grant.request.payload.data
        if "code_challenge" not in parameters and grant.request.client.client.require_pkce:
            raise InvalidRequestError("Missing 'code_challenge'")
        # Left out, the method would be "plain" (RFC 7636, section 4.3).
        if "code_challenge" in parameters and "code_challenge_method" not in parameters:
            raise InvalidRequestError("Unsupported 'code_challenge_method'")
        super().validate_code_challenge(grant, redirect_uri)


class UnmetAuthenticationRequirementsError(OAuth2Error):
    """The application insists on what cannot be proved here (Unmet Authentication Requirements 1.0)."""

    error = "unmet_authentication_requirements"


class Understanding:
    """Refuses requests that ask for what is not there (OpenID Connect Core 1.0, section 3.1.2.6)."""

    def __call__(self, grant: AuthorizationCodeGrant) -> None:
        grant.register_hook("after_validate_authorization_request_payload", self.validate)

    @staticmethod
    def validate(grant: AuthorizationCodeGrant, redirect_uri: str) -> None:
        payload = grant.request.payload
        if any(len(values) > 1 for values in payload.datalist.values()):
            raise InvalidRequestError("A parameter is there twice.")
        if grant.request.client.client.require_pushed and not grant.request.pushed:
            raise InvalidRequestError("This application has to push its requests.")
        if grant.request.client.client.require_signed and not grant.request.signed:
            raise InvalidRequestError("This application has to sign its requests.")
        if "request" in payload.data:
            raise RequestNotSupportedError
        if "request_uri" in payload.data:
            raise RequestURINotSupportedError
        if "registration" in payload.data:
            raise RegistrationNotSupportedError
        if payload.data.get("response_mode", "query") != "query":
            raise InvalidRequestError("Unsupported 'response_mode'")
        max_age = payload.data.get("max_age", "0")
        if not (max_age.isascii() and max_age.isdigit() and len(max_age) <= 10):
            raise InvalidRequestError("'max_age' is not a number of seconds")
        try:
            requested(payload.data.get("claims", ""))
        except (ValueError, RecursionError):
            raise InvalidRequestError("'claims' is not what it should be") from None


class IssuerInResponse(IssuerParameter):
    """`iss` in each authorization response, errors too (RFC 9207, section 2)."""

    def add_issuer_parameter(self, server: AuthorizationServer, response: HttpResponse) -> None:
        provider: Provider = server.provider
        parts = urlsplit(response["Location"])
        # The redirect URI may have a query of its own, which is none of ours.
        fixed = [each for each in parse_qsl(parts.query) if each[0] not in RESPONSE_PARAMETERS]
        sent = [each for each in parse_qsl(parts.query) if each[0] in RESPONSE_PARAMETERS]
        changed = provider.personality.authorization_response([*sent, ("iss", provider.issuer)])
        response["Location"] = urlunsplit(parts._replace(query=urlencode([*fixed, *changed])))


class IdTokens(OpenIDCode):
    """The ID token (OpenID Connect Core 1.0, section 2)."""

    def __init__(self, provider: Provider) -> None:
        super().__init__(require_nonce=False)
        self.provider = provider

    def exists_nonce(self, nonce: str, request: OAuth2Request) -> bool:
        # A nonce is the client's to judge: the provider only repeats it (OpenID Connect Core 1.0, section 2).
        return False

    def resolve_client_private_key(self, client: RegisteredClient) -> Key:
        return self.provider.keys.signing(client.client)

    def get_encode_header(self, client: RegisteredClient) -> dict[str, str | None]:
        key = self.resolve_client_private_key(client)
        return {"alg": client.id_token_signed_response_alg, "kid": key.kid}

    def get_client_claims(self, client: RegisteredClient) -> dict[str, Any]:
        now = int(self.provider.clock())
        return {
            "iss": self.provider.issuer,
            "aud": client.client_id,
            "iat": now,
            "exp": now + LIFETIME,
        }

    def get_compatible_claims(self, request: OAuth2Request) -> dict[str, Any]:
        claims: dict[str, Any] = super().get_compatible_claims(request)
        # Authlib fills in the time of now. Whether there is an auth_time, and which, the code knows.
        claims.pop("auth_time", None)
        return claims

    def get_authorization_code_claims(self, authorization_code: Code) -> dict[str, Any]:
        claims: dict[str, Any] = super().get_authorization_code_claims(authorization_code)
        authentication = authorization_code.authentication
        claims |= {**_as_claims(authentication.proved.others), "sid": authentication.sid}
        # Authlib 1.7 has an auth_time of None here where there is none.
        return {name: value for name, value in claims.items() if value is not None}

    def generate_user_info(self, user: User, scope: str) -> UserInfo:
        return user_info(user, scope)

    def encode_id_token(self, token: dict[str, Any], request: OAuth2Request) -> Any:
        honest: str = super().encode_id_token(token, request)
        header, claims, _ = honest.split(".")
        key = self.resolve_client_private_key(request.client)
        return self.provider.personality.id_token(decode(header), self.changed(decode(claims)), key)

    def changed(self, claims: dict[str, Any]) -> dict[str, Any]:
        return claims

    def process_token(self, grant: AuthorizationCodeGrant, response: Any) -> dict[str, Any]:
        token: dict[str, Any] = super().process_token(grant, response)
        changed = self.provider.personality.token_response(dict(token))
        # Authlib sends this very dictionary.
        token.clear()
        token.update(changed)
        return token


class RefreshedIdTokens(IdTokens):
    """The ID token that a refresh token brings (OpenID Connect Core 1.0, section 12.2)."""

    def __call__(self, grant: RefreshTokenGrant) -> None:
        grant.register_hook("after_create_token_response", self.process_token)

    def get_compatible_claims(self, request: OAuth2Request) -> dict[str, Any]:
        claims: dict[str, Any] = super().get_compatible_claims(request)
        authentication: Authentication = request.refresh_token.authentication
        said = authentication.proved
        claims |= {"sub": authentication.user.sub, "sid": authentication.sid}
        if said.auth_time is not None:
            claims["auth_time"] = said.auth_time
        if said.amr and request.client.client.amr_when_refreshed:
            claims |= {"amr": list(said.amr), "acr": said.acr, **_as_claims(said.others)}
        return claims

    def changed(self, claims: dict[str, Any]) -> dict[str, Any]:
        return self.provider.personality.refreshed_claims(claims)

    def process_token(self, grant: RefreshTokenGrant, response: Any) -> dict[str, Any]:
        token: dict[str, Any] = super().process_token(grant, response)
        changed = self.provider.personality.refresh_response(dict(token))
        token.clear()
        token.update(changed)
        return token


class EndSession(EndSessionEndpoint):
    """RP-Initiated Logout 1.0. Whether the person must confirm it, the page decides."""

    def get_server_jwks(self) -> KeySet:
        keys: Keys = self.server.provider.keys
        return keys.every()

    def get_algorithms(self) -> list[str]:
        return list(SIGNING_ALGORITHMS)

    def is_post_logout_redirect_uri_legitimate(
        self,
        request: OAuth2Request,
        post_logout_redirect_uri: str,
        client: RegisteredClient,
        logout_hint: str | None,
    ) -> bool:
        # Without an ID token the person confirms it, which is the other means of section 3.
        return True

    def end_session(self, end_session_request: EndSessionRequest) -> None:
        self.server.provider.state.sessions.take(end_session_request.request.session_key)


class AccessTokenValidator(BearerTokenValidator):
    """Finds the access token of a request to userinfo (RFC 6750, section 2.1)."""

    def __init__(self, state: State) -> None:
        super().__init__()
        self.state = state

    def authenticate_token(self, token_string: str) -> AccessToken | None:
        return self.state.access_tokens.get(token_string)


class Provider:
    """One OpenID Provider: what it was told, what it remembers, and the protocol it speaks."""

    def __init__(
        self,
        configuration: Configuration,
        issuer: str,
        *,
        control_secret: str = "",
        clock: Clock = time.time,
    ) -> None:
        self.issuer = issuer
        self.control_secret = control_secret
        #: Seconds by which it is ahead of the clock that it was given.
        self.ahead = 0.0
        self._clock = clock
        self.keys = Keys()
        self.state = State(self.clock)
        self._know(configuration)
        self.server = AuthorizationServer(self)
        self.resource_protector = ResourceProtector()
        self.resource_protector.register_token_validator(AccessTokenValidator(self.state))
        self.personality = Personality()
        self.behave(configuration.personality)

    def clock(self) -> float:
        """What time it is here, in seconds since the epoch."""
        return self._clock() + self.ahead

    def configure(self, configuration: Configuration) -> None:
        """Know other people and applications, and ask as this says. Where it listens stays as it was.

        Raises `ConfigurationError`.
        """
        now = self.configuration
        if (configuration.host, configuration.port, configuration.tls) != (now.host, now.port, now.tls):
            raise ConfigurationError("a provider that runs cannot listen elsewhere")
        if configuration.personality != now.personality:
            self.behave(configuration.personality)
        self._know(configuration)

    def _know(self, configuration: Configuration) -> None:
        self.configuration = configuration
        self.keys.serve(configuration.clients)
        self.clients = {client.client_id: RegisteredClient(client) for client in configuration.clients}
        self.users = {user.username: user for user in configuration.users}

    def behave(self, name: str) -> None:
        """Take on another personality. Raises `ConfigurationError` where there is none of that name."""
        if name not in PERSONALITIES:
            near = " or ".join(map(repr, difflib.get_close_matches(name, PERSONALITIES)))
            raise ConfigurationError(f"there is no personality {name!r}{near and f': did you mean {near}?'}")
        before, self.personality = self.personality, PERSONALITIES[name]()
        before.over.set()

    def reset(self) -> None:
        """Forget everything but the keys, and be as at the start, or as configured since."""
        self.state.clear()
        self.ahead = 0.0
        self.behave(self.configuration.personality)

    def user_named(self, name: str) -> User | None:
        """Somebody by username or, as applications hint with it, by e-mail address."""
        by_email = (user for user in self.users.values() if name and user.email == name)
        return self.users.get(name) or next(by_email, None)

    def asked(self, parameters: Mapping[str, str]) -> Asked:
        """What a valid authentication request asks for."""
        understood = self.personality.parameters(dict(parameters))
        max_age = understood.get("max_age")
        claims = requested(understood.get("claims", ""))
        context = claims.pop("acr", Requested(essential=False, values=()))
        return Asked(
            client_id=understood["client_id"],
            # What is essential comes first: it is what the answer has to say.
            acr_values=(*context.values, *understood.get("acr_values", "").split()),
            essential=context.values if context.essential else (),
            claims=frozenset(claims),
            prompt=frozenset(understood.get("prompt", "").split()),
            max_age=None if max_age is None else int(max_age),
        )

    def next_step(self, asked: Asked, known: Known) -> Step:
        return next_step(
            asked,
            known,
            now=self.clock(),
            clients_with_mfa=self.configuration.clients_with_mfa,
            classes=self.configuration.acr_values,
            others={*self.configuration.claims, *self.configuration.proofs},
        )

    def proved(self, asked: Asked, known: Known) -> Proved:
        """What the ID token may say of an authentication."""
        told = self.configuration
        return proved(asked, known, classes=told.acr_values, methods=told.amr, others=told.claims, proofs=told.proofs)

    def hinted_user(self, id_token_hint: str) -> User | None:
        """The person an earlier ID token is about; None where it is not one of ours. It may have expired."""
        try:
            hint = jwt.decode(id_token_hint, self.keys.every(), algorithms=list(SIGNING_ALGORITHMS))
        except (JoseError, ValueError):
            return None
        return next((u for u in self.users.values() if u.sub == hint.claims.get("sub")), None)

    def answer(self, request: AuthenticationRequest, authentication: Authentication) -> HttpResponse:
        """Send the person back with a code."""
        self.state.record_authentication(
            AuthenticationRecord(
                client_id=request.payload.client_id,
                state=request.payload.state or "",
                subject=authentication.user.sub,
                second_factor=bool(authentication.proved.amr),
                auth_time=authentication.auth_time,
            )
        )
        client_id, visited = request.payload.client_id, self.state.visited.get(authentication.sid) or ()
        self.state.visited.put(authentication.sid, tuple(dict.fromkeys((*visited, client_id))))
        grant = self.server.get_authorization_grant(request)
        response: HttpResponse = self.server.create_authorization_response(
            request, grant_user=authentication, grant=grant
        )
        return response

    def metadata(self) -> dict[str, Any]:
        """The discovery document (OpenID Connect Discovery 1.0, section 3)."""
        at: Callable[[str], str] = self.issuer.__add__
        others = (claim for said in self.configuration.proofs.values() for claim in said)
        return self.personality.metadata(
            {
                "issuer": self.issuer,
                "authorization_endpoint": at("authorize"),
                "token_endpoint": at("oauth/token"),
                "userinfo_endpoint": at("userinfo"),
                "jwks_uri": at(KEYS_PATH),
                "end_session_endpoint": at("oidc/logout"),
                "backchannel_logout_supported": True,
                "backchannel_logout_session_supported": True,
                "frontchannel_logout_supported": True,
                "frontchannel_logout_session_supported": True,
                "scopes_supported": list(SCOPES),
                "response_types_supported": ["code"],
                "response_modes_supported": ["query"],
                "grant_types_supported": ["authorization_code", "refresh_token"],
                "acr_values_supported": list(self.configuration.acr_values),
                "subject_types_supported": ["public"],
                "id_token_signing_alg_values_supported": list(SIGNING_ALGORITHMS),
                "token_endpoint_auth_methods_supported": list(AUTHENTICATION_METHODS),
                "token_endpoint_auth_signing_alg_values_supported": list(ASSERTION_ALGORITHMS),
                "pushed_authorization_request_endpoint": at("oauth/par"),
                "require_pushed_authorization_requests": False,
                "claim_types_supported": ["normal"],
                "claims_supported": [
                    *("iss", "aud", "sub", "iat", "exp", "nonce", "sid", "at_hash"),
                    *dict.fromkeys(("auth_time", "acr", "amr", *self.configuration.claims, *others)),
                    *(*PROFILE_CLAIMS, *EMAIL_CLAIMS),
                ],
                "prompt_values_supported": ["none", "login", "consent", "select_account"],
                "claims_parameter_supported": True,
                "request_parameter_supported": True,
                "request_object_signing_alg_values_supported": list(ASSERTION_ALGORITHMS),
                "require_signed_request_object": False,
                "request_uri_parameter_supported": False,
                "code_challenge_methods_supported": ["S256"],
                "authorization_response_iss_parameter_supported": True,
            }
        )


PROFILE_CLAIMS = ("name", "given_name", "family_name")
EMAIL_CLAIMS = ("email", "email_verified")


def _as_claims(others: Mapping[str, tuple[str, ...]]) -> dict[str, list[str]]:
    return {name: list(values) for name, values in others.items()}


def user_info(user: User, scope: str) -> UserInfo:
    """What the scopes tell about a person (OpenID Connect Core 1.0, section 5.4); a name they lack is left out."""
    claims: dict[str, Any] = {"sub": user.sub}
    claims |= {name: getattr(user, name) for name in PROFILE_CLAIMS if getattr(user, name)}
    if user.email:
        claims |= {"email": user.email, "email_verified": user.email_verified}
    return UserInfo(claims).filter(scope)
