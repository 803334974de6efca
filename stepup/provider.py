"""The only network I/O: the OP's metadata and keys, the token request and userinfo, on one pooled `requests` session.

Whatever goes wrong out there is a `ProviderError` here, within a bounded time and memory.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Mapping
from typing import Any, Generic, TypeVar
from urllib.parse import SplitResult, quote, urlsplit

from requests.auth import AuthBase, HTTPBasicAuth

from stepup import clock, conf
from stepup.exceptions import ProviderError, TokenRequestRefused
from stepup.id_token import KeySet, parse_json
from stepup.transport import Answer, BearerAuth, BoundedSession, NoAuth, TransportError

__all__ = ["Provider", "current"]

#: The largest response that is read, in bytes.
MAX_RESPONSE_BYTES = 1024 * 1024
#: How long metadata and keys are used before they are asked for again, in seconds.
METADATA_MAX_AGE = 24 * 60 * 60
KEYS_MAX_AGE = 60 * 60
#: After a request for metadata or keys, none like it is made for so long, whatever is asked for, in seconds.
COOL_DOWN = 10

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


class _Cached(Generic[T]):
    """A document of the OP: kept, asked for again when old, used although old while the OP does not answer."""

    def __init__(self, fetch: Callable[[], T], max_age: float) -> None:
        self._fetch = fetch
        self._max_age = max_age
        self._lock = threading.Lock()
        self._value: T | None = None
        self._asked_at = -float("inf")
        self._renewed_at = -float("inf")
        self._got_at = -float("inf")
        self._failure: ProviderError | None = None

    def get(self, *, newer_than: T | None = None) -> T:
        """The document.

        Args:
            newer_than: a document that turned out not to do; a newer one is asked for, at most once per cool-down.

        Raises:
            ProviderError: there is none, and the OP does not answer.
        """
        value = self._value
        if value is not None and value is not newer_than and clock.monotonic() < self._got_at + self._max_age:
            return value
        # One thread asks. The others wait for its answer if they must, and go on with what there is if they can.
        if not self._lock.acquire(blocking=value is None or value is newer_than):
            assert value is not None  # noqa: S101 - said to the type checker
            return value
        try:
            now = clock.monotonic()
            if self._is_due(newer_than, now):
                try:
                    self._value, self._failure = self._fetch(), None
                    self._got_at = clock.monotonic()
                except ProviderError as error:
                    self._failure = error
                finally:
                    # From the end of the attempt: those who waited for it must not make one each.
                    self._asked_at = clock.monotonic()
                    if newer_than is not None:
                        self._renewed_at = self._asked_at
            if self._value is not None:
                return self._value
            # Only a failure leaves nothing behind. Within the cool-down it is the answer for everybody.
            assert self._failure is not None  # noqa: S101 - said to the type checker
            raise ProviderError(self._failure.endpoint, self._failure.reason)
        finally:
            self._lock.release()

    def _is_due(self, newer_than: T | None, now: float) -> bool:
        if self._value is None or now >= self._got_at + self._max_age:
            return now >= self._asked_at + COOL_DOWN
        # Random key names must not become a request each; but the first is asked about at once.
        return self._value is newer_than and now >= self._renewed_at + COOL_DOWN


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
        self._metadata = _Cached(self._fetch_metadata, METADATA_MAX_AGE)
        self._keys = _Cached(self._fetch_keys, KEYS_MAX_AGE)

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
        return self._keys.get(newer_than=newer_than)

    def token_request(self, form: Mapping[str, str]) -> dict[str, Any]:
        """Exchange an authorization code (OpenID Connect Core 1.0, 3.1.3.1), with the client's authentication.

        Raises:
            TokenRequestRefused: the OP answered with an error (RFC 6749, 5.2).
            ProviderError: it gave no usable answer.
        """
        client_id, secret = self.settings.client_id, self.settings.client_secret
        auth: AuthBase
        if self.settings.basic_auth:
            # Both halves are form-encoded first (RFC 6749, 2.3.1), which a colon in a client id shows the need of.
            auth = HTTPBasicAuth(quote(client_id, safe=""), quote(secret, safe=""))
            body = {key: value for key, value in form.items() if key != "client_secret"}
        else:
            auth = NoAuth()
            body = {**form, "client_id": client_id, "client_secret": secret}
        status, _, content = self._ask("token", "POST", self.endpoint("token_endpoint"), auth=auth, data=body)
        # 403 is what Auth0 answers to a code that was used.
        if status in (400, 401, 403) and isinstance(error := self._json("token", content).get("error"), str):
            raise TokenRequestRefused(error if error in TOKEN_ERRORS else "unknown")
        self._expect_success("token", status)
        return self._json("token", content)

    def userinfo(self, access_token: str) -> dict[str, Any] | str:
        """The userinfo response (OpenID Connect Core 1.0, 5.3): claims, or a signed JWT that has yet to be verified.

        Raises:
            ProviderError: it cannot be had.
        """
        url = self.endpoint("userinfo_endpoint")
        status, kind, content = self._ask("userinfo", "GET", url, auth=BearerAuth(access_token))
        self._expect_success("userinfo", status)
        if kind.lower().startswith("application/jwt"):
            try:
                return content.decode("ascii").strip()
            except UnicodeDecodeError:
                raise ProviderError("userinfo", "not a JWT") from None
        return self._json("userinfo", content)

    def _fetch_metadata(self) -> Mapping[str, Any]:
        url = f"{self.settings.issuer.rstrip('/')}/.well-known/openid-configuration"
        metadata = self._get("metadata", url)
        if metadata.get("issuer") != self.settings.issuer:
            raise ProviderError("metadata", "issuer mismatch")
        return metadata

    def _fetch_keys(self) -> KeySet:
        settings, keys = self.settings, KeySet()
        symmetric = [alg for alg in settings.algorithms if alg.startswith("HS")]
        if len(symmetric) < len(settings.algorithms):
            try:
                if settings.sign_key is None:
                    keys = KeySet.from_jwks(self._get("jwks", self.endpoint("jwks_uri")))
                else:
                    keys = KeySet.from_setting(settings.sign_key)
            except (TypeError, ValueError):
                raise ProviderError("jwks", "not usable") from None
        # A published key never verifies HS*, nor the secret anything else: each knows its algorithms.
        return KeySet(keys.keys + KeySet.from_secret(settings.client_secret).keys) if symmetric else keys

    def _get(self, endpoint: str, url: str) -> dict[str, Any]:
        status, _, content = self._ask(endpoint, "GET", url, auth=NoAuth())
        self._expect_success(endpoint, status)
        return self._json(endpoint, content)

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
