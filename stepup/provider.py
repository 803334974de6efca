"""The only network I/O: the OP's metadata and keys, token request and userinfo, on one pooled `requests` session.

Whatever goes wrong out there is a `ProviderError` here, within a bounded time and memory.
"""

from __future__ import annotations

import json
import os
import secrets
import threading
from collections.abc import Callable, Mapping
from contextlib import suppress
from functools import cached_property, partial
from typing import Any, TypeVar
from urllib.parse import SplitResult, quote, urlsplit

import jwt
from requests.auth import AuthBase, HTTPBasicAuth

from stepup import clock, conf
from stepup.documents import Document
from stepup.exceptions import ProviderError, TokenRequestRefused
from stepup.id_token import KeySet, UnknownKey, parse_json, signing_key
from stepup.transport import Answer, BearerAuth, BoundedSession, NoAuth, TransportError

__all__ = ["Provider", "current"]

#: The largest response that is read, in bytes.
MAX_RESPONSE_BYTES = 1024 * 1024
#: How long metadata and keys are used before they are asked for again, in seconds.
METADATA_MAX_AGE = 24 * 60 * 60
KEYS_MAX_AGE = 60 * 60
#: For how long a signed authentication request is good, in seconds: until the browser has brought it to the OP.
REQUEST_LIFETIME = 300

#: RFC 6749, 5.2. Others are not repeated: what is logged should be ours to choose.
TOKEN_ERRORS = frozenset(
    {
        "invalid_request",
        "invalid_client",
        "invalid_grant",
        "unauthorized_client",
        "unsupported_grant_type",
        "invalid_scope",
    }
)


T = TypeVar("T")


class Provider:
    """The OP that the settings name."""

    def __init__(self, settings: conf.Settings) -> None:
        self.settings = settings
        self._http = BoundedSession(
            timeout=settings.timeout,
            max_bytes=MAX_RESPONSE_BYTES,
            verify=settings.verify_tls,
            proxies=settings.proxies,
        )
        self._metadata = Document(
            lambda: f"{settings.issuer.rstrip('/')}/.well-known/openid-configuration",
            fetch=partial(self._get, "metadata"),
            parse=self._parse_metadata,
            max_age=METADATA_MAX_AGE,
            cache=settings.cache,
        )
        self._jwks = Document(
            lambda: self.endpoint("jwks_uri"),
            fetch=partial(self._get, "jwks"),
            parse=self._parse_jwks,
            max_age=KEYS_MAX_AGE,
            cache=settings.cache,
        )

    def metadata(self) -> Mapping[str, Any]:
        """The OP's metadata (OpenID Connect Discovery 1.0, section 4).

        Raises:
            ProviderError: it cannot be had, or is another issuer's.
        """
        return self._metadata.get()

    def endpoint(self, name: str) -> str:
        """The URL of an endpoint by its name in the metadata, where explicit settings win.

        Raises:
            ProviderError: the settings do not name it, and the metadata cannot be had or does not either.
        """
        explicit = self.settings.endpoints.get(name)
        url = explicit or self.metadata().get(name)
        parts = _parts(url)
        if parts is None:
            raise ProviderError("metadata", f"no {name}")
        if not explicit and parts.scheme != "https" and self.settings.issuer.startswith("https:"):
            raise ProviderError("metadata", f"{name} without TLS")
        return parts.geturl()

    def promises_iss(self) -> bool:
        """Whether the OP says that each of its authorization responses carries `iss` (RFC 9207, section 3).

        A site that sets every endpoint itself has not asked for metadata, and is not made to.
        """
        if {"authorization_endpoint", "token_endpoint"} <= self.settings.endpoints.keys():
            return False
        try:
            return self.metadata().get("authorization_response_iss_parameter_supported") is True
        except ProviderError:
            return False  # then the token endpoint is unknown too, and that is the verdict

    def keys(self, *, newer_than: KeySet | None = None) -> KeySet:
        """The keys that verify what the OP signs, the client secret among them where `HS*` is configured.

        Args:
            newer_than: keys that did not verify a signature; the OP may have changed them since.

        Raises:
            ProviderError: they cannot be had.
        """
        return self._static_keys or self._jwks.get(newer_than=newer_than)

    def verified(self, verify: Callable[..., T], token: object, **expected: Any) -> T:
        """What `verify` makes of a token that the OP is said to have signed, by the rules of the settings.

        Tried with the keys at hand and, if the OP may have changed them since, with newer ones: those that another
        process has got meanwhile, which may be from before the change too, and then those that the OP has now.

        Args:
            expected: what is expected of this very token, for `verify`.

        Raises:
            ClaimError: it refuses.
            ProviderError: the keys cannot be had.
        """
        settings, keys = self.settings, self.keys()
        rules = {
            "algorithms": settings.algorithms,
            "issuer": settings.issuer,
            "audiences": settings.client_ids,
            "now": clock.now(),
            "leeway": settings.leeway,
            "match_kid": settings.match_kid,
        }
        for _ in range(2):
            try:
                return verify(token, keys, **rules, **expected)
            except UnknownKey:
                newer = self.keys(newer_than=keys)
                if newer is keys:
                    raise
                keys = newer
        return verify(token, keys, **rules, **expected)

    def token_request(self, form: Mapping[str, str]) -> dict[str, Any]:
        """Exchange an authorization code (OpenID Connect Core 1.0, 3.1.3.1), with the client's authentication.

        Raises:
            TokenRequestRefused: the OP answered with an error (RFC 6749, 5.2).
            ProviderError: it gave no usable answer.
        """
        url = self.endpoint("token_endpoint")
        status, _, content, _ = self._post_as_client("token", url, form)
        self._expect_success("token", status)
        answer = self._json("token", content)
        kind = answer.get("token_type", "Bearer")
        if not isinstance(kind, str) or kind.lower() != "bearer":
            # It could not be used as what it is (RFC 6749, 7.1).
            raise ProviderError("token", "not a bearer token")
        return answer

    def refresh(self, refresh_token: str) -> dict[str, Any]:
        """Exchange a refresh token (OpenID Connect Core 1.0, 12.1), with the client's authentication.

        Raises:
            TokenRequestRefused: the OP answered with an error; ``invalid_grant`` where the token is good for nothing.
            ProviderError: it gave no usable answer.
        """
        return self.token_request({"grant_type": "refresh_token", "refresh_token": refresh_token})

    def userinfo(self, access_token: str) -> dict[str, Any] | str:
        """The userinfo response (OpenID Connect Core 1.0, 5.3): claims, or a signed JWT that has yet to be verified.

        Raises:
            ProviderError: it cannot be had.
        """
        url = self.endpoint("userinfo_endpoint")
        status, kind, content, _ = self._ask("userinfo", "GET", url, auth=BearerAuth(access_token))
        self._expect_success("userinfo", status)
        if kind.lower().startswith("application/jwt"):
            try:
                return content.decode("ascii").strip()
            except UnicodeDecodeError:
                raise ProviderError("userinfo", "not a JWT") from None
        return self._json("userinfo", content)

    def push(self, params: Mapping[str, str]) -> str:
        """Hand an authentication request over directly (RFC 9126, section 2), so that nobody can change it on the way.

        Returns:
            The `request_uri` that stands for it.

        Raises:
            TokenRequestRefused: the OP answered with an error.
            ProviderError: it takes none, or gave no usable answer.
        """
        url = self.endpoint("pushed_authorization_request_endpoint")
        status, _, content, _ = self._post_as_client("par", url, params)
        if status not in (200, 201):
            raise ProviderError("par", f"status {status}")
        request_uri = self._json("par", content).get("request_uri")
        if not isinstance(request_uri, str) or not request_uri:
            raise ProviderError("par", "no request_uri")
        return request_uri

    def signed_request(self, params: Mapping[str, str]) -> str:
        """An authentication request as a request object, which nobody can change on the way (RFC 9101, section 4).

        Raises:
            ProviderError: it cannot be signed.
        """
        settings, now = self.settings, int(clock.now())
        claims: dict[str, Any] = {**params, "iss": settings.client_id, "aud": settings.issuer}
        for name, read in (("claims", json.loads), ("max_age", int)):
            # What is no text in JSON is none here (OpenID Connect Core 1.0, section 6.1). A site may send anything.
            with suppress(KeyError, TypeError, ValueError):
                claims[name] = read(claims[name])
        # An OP whose clock is a little behind would else find that it is not good yet.
        begins = now - settings.leeway
        lifetime = {"iat": begins, "nbf": begins, "exp": now + REQUEST_LIFETIME, "jti": secrets.token_urlsafe(16)}
        return self._signed("authorize", {**claims, **lifetime}, "oauth-authz-req+jwt")

    @cached_property
    def _static_keys(self) -> KeySet | None:
        """The keys where the settings alone say what they are; None where the OP has to be asked."""
        settings = self.settings
        if settings.sign_key is None and any(not alg.startswith("HS") for alg in settings.algorithms):
            return None
        try:
            keys = KeySet() if settings.sign_key is None else KeySet.from_setting(settings.sign_key)
        except (TypeError, ValueError):
            raise ProviderError("jwks", "not usable") from None
        return self._with_secret(keys)

    def _parse_jwks(self, content: bytes) -> KeySet:
        try:
            return self._with_secret(KeySet.from_jwks(self._json("jwks", content)))
        except ValueError:
            raise ProviderError("jwks", "not usable") from None

    def _parse_metadata(self, content: bytes) -> Mapping[str, Any]:
        metadata = self._json("metadata", content)
        if metadata.get("issuer") != self.settings.issuer:
            raise ProviderError("metadata", "issuer mismatch")
        return metadata

    def _with_secret(self, keys: KeySet) -> KeySet:
        # A published key never verifies HS*, nor the secret anything else: each knows its algorithms.
        if not any(alg.startswith("HS") for alg in self.settings.algorithms):
            return keys
        return KeySet(keys.keys + KeySet.from_secret(self.settings.client_secret).keys)

    def _post_as_client(self, endpoint: str, url: str, form: Mapping[str, str]) -> Answer:
        """Post a form, authenticated as this client (OpenID Connect Core 1.0, section 9)."""
        settings = self.settings
        body = {name: value for name, value in form.items() if name != "client_secret"}
        auth: AuthBase = NoAuth()
        if settings.client_authentication == "client_secret_basic":
            # Both halves are form-encoded first (RFC 6749, 2.3.1), which a colon in a client id shows the need of.
            auth = HTTPBasicAuth(quote(settings.client_id, safe=""), quote(settings.client_secret, safe=""))
        elif settings.client_authentication == "private_key_jwt":
            body["client_id"] = settings.client_id
            body["client_assertion_type"] = "urn:ietf:params:oauth:client-assertion-type:jwt-bearer"
            body["client_assertion"] = self._client_assertion(self.endpoint("token_endpoint"))
        else:
            body |= {"client_id": settings.client_id, "client_secret": settings.client_secret}
        answer = self._ask(endpoint, "POST", url, auth=auth, data=body)
        # 403 is what Auth0 answers to a code that was used.
        if answer.status in (400, 401, 403):
            error = self._json(endpoint, answer.content).get("error")
            if isinstance(error, str):
                raise TokenRequestRefused(error if error in TOKEN_ERRORS else "unknown")
        return answer

    def _client_assertion(self, audience: str) -> str:
        """What proves that it is this client, for one use within a minute (RFC 7523, section 3)."""
        now, client_id = int(clock.now()), self.settings.client_id
        claims = {
            "iss": client_id,
            "sub": client_id,
            "aud": audience,
            "jti": secrets.token_urlsafe(16),
            "iat": now,
            "exp": now + 60,
        }
        return self._signed("token", claims, "JWT")

    def _signed(self, endpoint: str, claims: dict[str, Any], typ: str) -> str:
        headers = {"typ": typ}
        if self.settings.private_key_id:
            headers["kid"] = self.settings.private_key_id
        try:
            key, algorithm = self._private_key
            return jwt.encode(claims, key, algorithm, headers)
        except (jwt.PyJWTError, TypeError, ValueError):
            raise ProviderError(endpoint, "private key not usable") from None

    @cached_property
    def _private_key(self) -> tuple[Any, str]:
        return signing_key(self.settings.private_key)

    def _get(self, endpoint: str, url: str) -> Answer:
        answer = self._ask(endpoint, "GET", url, auth=NoAuth())
        self._expect_success(endpoint, answer.status)
        return answer

    def _ask(self, endpoint: str, method: str, url: str, **request: Any) -> Answer:
        try:
            return self._http.ask(method, url, **request)
        except TransportError as error:
            raise ProviderError(endpoint, str(error)) from None

    @staticmethod
    def _expect_success(endpoint: str, status: int) -> None:
        if status != 200:
            raise ProviderError(endpoint, f"status {status}")

    @staticmethod
    def _json(endpoint: str, content: bytes) -> dict[str, Any]:
        try:
            value = parse_json(content)
        except ValueError:
            raise ProviderError(endpoint, "not JSON") from None
        if not isinstance(value, dict):
            raise ProviderError(endpoint, "not a JSON object")
        return value


def _parts(url: object) -> SplitResult | None:
    """An endpoint's URL in parts; None for what is none. It has no fragment (RFC 6749, 3.1 and 3.2)."""
    try:
        parts = urlsplit(url if isinstance(url, str) else "")
    except ValueError:
        return None
    return parts if parts.scheme in ("http", "https") and parts.hostname and not parts.fragment else None


_current: tuple[conf.Settings, int, Provider] | None = None
_lock = threading.Lock()


def current() -> Provider:
    """The OP of the settings in force. One per process: a forked child must not share its parent's connections."""
    global _current  # noqa: PLW0603 - one value per process, made at its first use
    settings, process = conf.current(), os.getpid()
    known = _current
    if known is None or known[0] is not settings or known[1] != process:
        with _lock:  # several threads that come first share what one of them makes, and so what it will know
            known = _current
            if known is None or known[0] is not settings or known[1] != process:
                _current = known = (settings, process, Provider(settings))
    return known[2]


def _after_fork() -> None:
    # A child that was forked while another thread held the lock would find it held for ever.
    global _lock  # noqa: PLW0603 - see above
    _lock = threading.Lock()


os.register_at_fork(after_in_child=_after_fork)
