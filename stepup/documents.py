"""Documents of the OP that are kept: its metadata, and its keys.

One thread of one process asks; the others wait for its answer if they must, and go on with what there is if they can.
What was got is shared with other processes through Django's cache. What is old is used while newer is asked for in the
background, and for as long as the OP does not answer.
"""

from __future__ import annotations

import hashlib
import re
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

from django.core.cache import caches
from django.db import connections

from stepup import clock
from stepup.exceptions import ProviderError
from stepup.transport import Answer

__all__ = ["Document", "forget"]

#: After a document was asked for, it is not asked for again for so long, whatever is the matter, in seconds.
COOL_DOWN = 10
#: How long to wait for another process that is asking, in seconds.
PATIENCE = 2
#: What `Cache-Control: max-age` may say (RFC 9111, 5.2.2.1); beyond that it is not believed. In seconds.
LEAST_AGE = 60
MOST_AGE = 24 * 60 * 60

#: What processes tell each other by way of the cache, of who has asked in the last seconds.
ASKING, ASKED = "asking", "asked"
#: What they ask for: a document, or one that is newer than what they have.
FIRST, NEWER = "first", "newer"

_MAX_AGE = re.compile(r"(?:^|[,\s])max-age=\"?(\d{1,9})", re.IGNORECASE)

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class _Held(Generic[T]):
    """A document as it was got: when, and until when it is fresh, both in seconds since the epoch."""

    value: T
    got: float
    fresh_until: float


class Document(Generic[T]):
    """A document of the OP.

    Args:
        url: where it is; it is asked for only when the document is.
        fetch: asks the OP for it.
        parse: makes of its bytes what is kept; raises `ProviderError` where they are not what they should be.
        max_age: seconds for which it is fresh where the OP does not say.
        cache: the alias of the Django cache through which processes share it; None where they do not.
    """

    def __init__(
        self,
        url: Callable[[], str],
        *,
        fetch: Callable[[str], Answer],
        parse: Callable[[bytes], T],
        max_age: float,
        cache: str | None,
    ) -> None:
        self._url = url
        self._fetch = fetch
        self._parse = parse
        self._max_age = max_age
        self._cache = cache
        self._lock = threading.Lock()
        self._held: _Held[T] | None = None
        self._failure: ProviderError | None = None
        self._asked_at = -float("inf")
        self._renewed_at = -float("inf")

    def get(self, *, newer_than: T | None = None) -> T:
        """The document.

        Args:
            newer_than: a document that turned out not to do; a newer one is asked for, at most once per cool-down.

        Raises:
            ProviderError: there is none, and the OP does not answer.
        """
        held = self._held
        if held is not None and held.value is not newer_than:
            if clock.now() >= held.fresh_until:
                self._refresh_in_background()
            return held.value
        with self._lock:
            held = self._held
            if held is None or held.value is newer_than:
                held = self._renew(is_newer=held is not None)
            return held.value

    def _refresh_in_background(self) -> None:
        # Not a thread for each request while the OP does not answer.
        if clock.monotonic() >= self._asked_at + COOL_DOWN and self._lock.acquire(blocking=False):
            try:
                # A daemon, since a process that ends has no use for what it would bring.
                threading.Thread(target=self._refresh_apart, name="stepup-refresh", daemon=True).start()
            except RuntimeError:
                self._refresh()  # no more threads can be had, so that this request has to do it

    def _refresh_apart(self) -> None:
        try:
            self._refresh()
        finally:
            connections.close_all()  # of this thread, should the cache be in a database

    def _refresh(self) -> None:
        try:
            self._renew(is_newer=False)
        finally:
            self._lock.release()

    def _renew(self, *, is_newer: bool) -> _Held[T]:
        """Ask for the document, if it may be asked for yet; under the lock. What is held stays where that fails."""
        held = self._held
        if held is not None and not is_newer and clock.now() < held.fresh_until:
            return held
        try:
            url = self._url()
            key = _key(url)
            if self._adopt(key):
                return self._held  # type: ignore[return-value] # adopted just now
            if clock.monotonic() >= (self._renewed_at if is_newer else self._asked_at) + COOL_DOWN:
                self._ask(url, key, is_newer=is_newer)
        except ProviderError as error:
            self._failure = error
        if self._held is not None:
            return self._held
        # Only a failure leaves nothing behind. Within the cool-down it is the answer for everybody.
        failure = self._failure or ProviderError("metadata", "asked for by another process")
        raise ProviderError(failure.endpoint, failure.reason)

    def _ask(self, url: str, key: str, *, is_newer: bool) -> None:
        turn = f"{key}:{NEWER if is_newer else FIRST}"
        is_ours = False
        try:
            # Only a plain no counts. A cache that does not work must not keep the site from its keys.
            is_ours = self._of_cache("add", turn, ASKING, COOL_DOWN) is not False
            if not is_ours and (self._wait(turn, key) or self._held is not None):
                return  # another process has asked, and this is as new as it is
            answer = self._fetch(url)
            now = clock.now()
            max_age = _max_age_of(answer, self._max_age)
            self._held = _Held(self._parse(answer.content), now, now + max_age)
            self._failure = None
            self._share(key, [now, float(max_age), answer.content])
        finally:
            # From the end of the attempt: those who waited for it must not make one each.
            self._asked_at = clock.monotonic()
            if is_newer:
                self._renewed_at = self._asked_at
            if is_ours:
                self._of_cache("set", turn, ASKED, COOL_DOWN)

    def _adopt(self, key: str) -> bool:
        """Take over what another process has got, if it is newer than what is held."""
        shared = self._of_cache("get", key)
        if not (isinstance(shared, list) and [type(part) for part in shared] == [float, float, bytes]):
            return False
        got, max_age, content = shared
        # Of the future, or good for ever: said by a clock that is wrong, or by another version.
        if not (got <= clock.now() + COOL_DOWN and 0 <= max_age <= MOST_AGE):
            return False
        if self._held is not None and got <= self._held.got:
            return False
        try:
            self._held = _Held(self._parse(content), got, got + max_age)
        except ProviderError:
            return False
        return clock.now() < self._held.fresh_until

    def _wait(self, turn: str, key: str) -> bool:
        """Wait for the process that is asking. Not for ever: it may have died over it."""
        until = time.monotonic() + PATIENCE
        while self._of_cache("get", turn) == ASKING and time.monotonic() < until:
            time.sleep(0.05)
        return self._adopt(key)

    def _share(self, key: str, content: list[Any]) -> None:
        self._of_cache("set", key, content, MOST_AGE)

    def _of_cache(self, method: str, *args: Any) -> Any:
        return _of_cache(self._cache, method, *args)


def forget(url: str, cache: str | None) -> None:
    """Have nobody take over any more what processes share of the document at a URL, nor wait because it was asked for.

    It is for tests, in which another OP is at the same address a moment later. What a process holds already it holds on
    to.

    Args:
        url: where the document is.
        cache: as for :class:`Document`.
    """
    key = _key(url)
    _of_cache(cache, "delete_many", [key, f"{key}:{FIRST}", f"{key}:{NEWER}"])


def _key(url: str) -> str:
    return f"stepup:{hashlib.sha256(url.encode()).hexdigest()}"


def _of_cache(cache: str | None, method: str, *args: Any) -> Any:
    if cache is None:
        return None
    try:
        return getattr(caches[cache], method)(*args)
    except Exception:  # noqa: BLE001 - each cache has errors of its own, and none of them is a reason to stop
        return None


def _max_age_of(answer: Answer, otherwise: float) -> float:
    said = _MAX_AGE.search(answer.cache_control)
    return min(max(float(said[1]), LEAST_AGE), MOST_AGE) if said else otherwise
