"""Everything the provider remembers: in memory, for a while, up to a number, and safe between threads."""

from __future__ import annotations

import random
import secrets
import threading
from collections import OrderedDict, deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Generic, Literal, TypeVar

import pyotp
from authlib.oauth2.rfc6749 import ClientMixin, TokenMixin
from authlib.oidc.core import AuthorizationCodeMixin

from stepup.testing.provider.action import Proved
from stepup.testing.provider.configuration import User

Clock = Callable[[], float]

#: Seconds a time-based code stands for (RFC 6238, section 4.1).
TIME_STEP = 30

#: Seconds that a pushed authentication request waits for its person (RFC 9126, section 2.2).
PUSHED_LIFETIME = 60

#: Seconds that a refresh token is good for: longer than anybody runs this provider.
REFRESH_LIFETIME = 30 * 24 * 3600

#: Wrong codes a person may enter within `ATTEMPTS_WINDOW` seconds.
ATTEMPTS = 5
ATTEMPTS_WINDOW = 60.0

_T = TypeVar("_T")


class Shelf(Generic[_T]):
    """A dictionary that forgets: each entry after `ttl` seconds, and the oldest of more than `limit`."""

    def __init__(self, *, ttl: float, limit: int, clock: Clock) -> None:
        self._ttl = ttl
        self._limit = limit
        self._clock = clock
        self._lock = threading.Lock()
        #: In the order in which they were put here, so that what expires first comes first.
        self._entries: OrderedDict[str, tuple[float, _T]] = OrderedDict()

    def put(self, key: str, value: _T) -> None:
        """Remember `value`; its time starts anew."""
        with self._lock:
            self._entries.pop(key, None)
            self._forget()
            while len(self._entries) >= self._limit:
                self._entries.popitem(last=False)
            self._entries[key] = (self._clock() + self._ttl, value)

    def add(self, key: str, value: _T) -> bool:
        """Remember `value` where there is none under `key` yet. Whether there was none: of two threads, for one."""
        with self._lock:
            self._forget()
            if key in self._entries:
                return False
            while len(self._entries) >= self._limit:
                self._entries.popitem(last=False)
            self._entries[key] = (self._clock() + self._ttl, value)
            return True

    def get(self, key: str) -> _T | None:
        with self._lock:
            self._forget()
            entry = self._entries.get(key)
        return None if entry is None else entry[1]

    def take(self, key: str) -> _T | None:
        """The value, which is then gone: of two threads, one gets it."""
        with self._lock:
            self._forget()
            entry = self._entries.pop(key, None)
        return None if entry is None else entry[1]

    def replace(self, key: str, old: _T, new: _T) -> bool:
        """Put `new` where `old` still is, with the time that `old` had. Whether it still was there."""
        with self._lock:
            self._forget()
            entry = self._entries.get(key)
            if entry is None or entry[1] is not old:
                return False
            self._entries[key] = (entry[0], new)
            return True

    def values(self) -> list[_T]:
        with self._lock:
            self._forget()
            return [value for _, value in self._entries.values()]

    def clear(self) -> None:
        with self._lock:
            self._entries.clear()

    def _forget(self) -> None:
        now = self._clock()
        while self._entries:
            key, (deadline, _) = next(iter(self._entries.items()))
            if now < deadline:
                break
            del self._entries[key]


@dataclass(frozen=True)
class Session:
    """A person signed in at the provider, in one browser. `auth_time`: when they gave their password."""

    sid: str
    user: User
    auth_time: float


@dataclass(frozen=True)
class Interaction:
    """An authentication request that waits for its person, in the browser it came from.

    `sid` is the session it goes on with, the two flags are those of `action.Known`, and `push` is the key of the
    question that was sent to the phone.
    """

    key: str
    browser: str
    parameters: dict[str, str]
    redirect_uri: str
    sid: str | None = None
    signed_in_here: bool = False
    chosen_here: bool = False
    push: str | None = None


@dataclass(frozen=True)
class PushedRequest:
    """The parameters of an authentication request that an application has pushed (RFC 9126), each with its values."""

    client_id: str
    parameters: dict[str, list[str]]


PushStatus = Literal["waiting", "approved", "denied", "mismatch"]


@dataclass(frozen=True)
class Push:
    """A question sent to a phone: "is it you?" `choices` are the numbers it shows, `number` is the right one."""

    key: str
    user: User
    application: str
    number: int
    choices: tuple[int, ...]
    status: PushStatus = "waiting"

    @property
    def waits(self) -> bool:
        return self.status == "waiting"

    @classmethod
    def to(cls, user: User, application: str, others: Sequence[Push]) -> Push:
        """A new question, with numbers that none of the last ten `others` has: each number belongs to one page."""
        taken = {number for each in others[-10:] for number in each.choices}
        numbers = random.SystemRandom().sample([number for number in range(10, 100) if number not in taken], 3)
        return cls(
            key=secrets.token_urlsafe(16),
            user=user,
            application=application,
            number=numbers[0],
            choices=tuple(sorted(numbers)),
        )


@dataclass(frozen=True)
class Authentication:
    """Who authenticated, in which session, when they gave their password, and what the ID token may say of it."""

    user: User
    sid: str
    auth_time: float
    proved: Proved


@dataclass(frozen=True)
class Code(AuthorizationCodeMixin):
    """An authorization code, as Authlib asks about it."""

    code: str
    client_id: str
    redirect_uri: str
    scope: str
    nonce: str | None
    code_challenge: str | None
    code_challenge_method: str | None
    authentication: Authentication

    def get_redirect_uri(self) -> str:
        return self.redirect_uri

    def get_scope(self) -> str:
        return self.scope

    def get_nonce(self) -> str | None:
        return self.nonce

    def get_auth_time(self) -> int | None:
        return self.authentication.proved.auth_time

    def get_acr(self) -> str | None:
        return self.authentication.proved.acr

    def get_amr(self) -> list[str]:
        return list(self.authentication.proved.amr)


@dataclass(frozen=True)
class AccessToken(TokenMixin):
    """An access token, as Authlib asks about it. Those that expired or were revoked are not found any more."""

    user: User
    scope: str
    code: str

    def get_scope(self) -> str:
        return self.scope

    def is_expired(self) -> bool:
        return False

    def is_revoked(self) -> bool:
        return False


@dataclass(frozen=True)
class RefreshToken(TokenMixin):
    """A refresh token, as Authlib asks about it.

    `code` is the authorization code that its family began with: what a token was exchanged for is of the same family.
    """

    token: str
    client_id: str
    scope: str
    code: str
    authentication: Authentication

    def check_client(self, client: ClientMixin) -> bool:
        return bool(client.get_client_id() == self.client_id)

    def get_scope(self) -> str:
        return self.scope


class OneTimeCodes:
    """Checks time-based codes (RFC 6238): each is good once, and only a few may be guessed."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._lock = threading.Lock()
        self._last: dict[str, int] = {}
        self._wrong: dict[str, deque[float]] = {}

    def current(self, user: User) -> tuple[str, int]:
        """What an authenticator app shows now, and for how many seconds. The user has a `totp_secret`."""
        now = int(self._clock())
        return _totp(user).generate_otp(now // TIME_STEP), TIME_STEP - now % TIME_STEP

    def check(self, user: User, code: str) -> Literal["accepted", "wrong", "used", "blocked"]:
        """Whether `code` is one of `user` for now, give or take one step, and newer than the last one accepted."""
        with self._lock:
            now = self._clock()
            wrong = self._wrong.setdefault(user.username, deque(maxlen=ATTEMPTS))
            if len(wrong) == ATTEMPTS and now - wrong[0] < ATTEMPTS_WINDOW:
                return "blocked"
            if user.totp_secret is not None:
                step = int(now) // TIME_STEP
                for candidate in (step - 1, step, step + 1):
                    expected = _totp(user).generate_otp(candidate)
                    if secrets.compare_digest(expected.encode(), code.encode()):
                        if candidate <= self._last.get(user.username, -1):
                            return "used"
                        self._last[user.username] = candidate
                        return "accepted"
            wrong.append(now)
            return "wrong"

    def clear(self) -> None:
        with self._lock:
            self._last.clear()
            self._wrong.clear()


def _totp(user: User) -> pyotp.TOTP:
    return pyotp.TOTP(user.totp_secret or "", interval=TIME_STEP)


@dataclass(frozen=True)
class RequestRecord:
    """One request the provider received: of the form only the names of its fields, since values may be secret."""

    method: str
    path: str
    query: dict[str, list[str]]
    form: list[str]
    connection: int


@dataclass(frozen=True)
class AuthenticationRecord:
    """An authentication request that was answered with a code: what the person really did, whatever is said of it."""

    client_id: str
    state: str
    subject: str
    second_factor: bool
    auth_time: float


@dataclass(frozen=True)
class LogoutRecord:
    """A logout token that was sent, and the status of the answer: 0 where there was none."""

    client_id: str
    subject: str
    sid: str
    status: int


class State:
    """All there is to remember, of one provider. `clock` gives epoch seconds."""

    def __init__(self, clock: Clock) -> None:
        self.sessions: Shelf[Session] = Shelf(ttl=12 * 3600, limit=1_000, clock=clock)
        self.interactions: Shelf[Interaction] = Shelf(ttl=900, limit=1_000, clock=clock)
        self.pushes: Shelf[Push] = Shelf(ttl=120, limit=1_000, clock=clock)
        self.codes: Shelf[Code] = Shelf(ttl=60, limit=1_000, clock=clock)
        #: Codes that were used, for as long as the access token they gave: to revoke it if they come again.
        self.spent_codes: Shelf[str] = Shelf(ttl=3600, limit=10_000, clock=clock)
        self.access_tokens: Shelf[AccessToken] = Shelf(ttl=3600, limit=10_000, clock=clock)
        self.refresh_tokens: Shelf[RefreshToken] = Shelf(ttl=REFRESH_LIFETIME, limit=10_000, clock=clock)
        #: Refresh tokens that were exchanged for others.
        self.spent_refresh_tokens: Shelf[str] = Shelf(ttl=REFRESH_LIFETIME, limit=10_000, clock=clock)
        #: The families, by their code, whose tokens are good.
        self.families: Shelf[str] = Shelf(ttl=REFRESH_LIFETIME, limit=10_000, clock=clock)
        self.pushed: Shelf[PushedRequest] = Shelf(ttl=PUSHED_LIFETIME, limit=1_000, clock=clock)
        #: The names of client assertions that were used (RFC 7523, section 3).
        self.assertions: Shelf[str] = Shelf(ttl=700, limit=10_000, clock=clock)
        #: By session: the applications that people have gone to with it.
        self.visited: Shelf[tuple[str, ...]] = Shelf(ttl=12 * 3600, limit=1_000, clock=clock)
        self.one_time_codes = OneTimeCodes(clock)
        self._logouts: deque[LogoutRecord] = deque(maxlen=10_000)
        self._requests: deque[RequestRecord] = deque(maxlen=10_000)
        self._authentications: deque[AuthenticationRecord] = deque(maxlen=10_000)
        self._lock = threading.Lock()

    def record(self, request: RequestRecord) -> None:
        """Remember a request: the last 10,000 are."""
        with self._lock:
            self._requests.append(request)

    def recorded(self) -> list[RequestRecord]:
        """The requests remembered, in order of arrival."""
        with self._lock:
            return list(self._requests)

    def record_authentication(self, authentication: AuthenticationRecord) -> None:
        """Remember an authentication: the last 10,000 are."""
        with self._lock:
            self._authentications.append(authentication)

    def recorded_authentications(self) -> list[AuthenticationRecord]:
        """The authentications remembered, in the order in which they ended."""
        with self._lock:
            return list(self._authentications)

    def record_logout(self, logout: LogoutRecord) -> None:
        """Remember a logout token that was sent: the last 10,000 are."""
        with self._lock:
            self._logouts.append(logout)

    def recorded_logouts(self) -> list[LogoutRecord]:
        """The logout tokens that were sent, in the order in which they were answered."""
        with self._lock:
            return list(self._logouts)

    def clear(self) -> None:
        """Forget everything: nobody is signed in, nothing was ever asked."""
        for shelf in (
            self.sessions,
            self.interactions,
            self.pushes,
            self.codes,
            self.spent_codes,
            self.access_tokens,
            self.refresh_tokens,
            self.spent_refresh_tokens,
            self.families,
            self.pushed,
            self.assertions,
            self.visited,
        ):
            shelf.clear()
        self.one_time_codes.clear()
        with self._lock:
            self._requests.clear()
            self._authentications.clear()
            self._logouts.clear()
