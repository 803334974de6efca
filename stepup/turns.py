"""One after the other: requests of one session, in all processes that share the cache that ``CACHE`` names.

A cache that does not work, or is nobody's but one process's, keeps nobody waiting: then they come as they come.
"""

from __future__ import annotations

import hashlib
import secrets
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from django.contrib.sessions.backends.base import SessionBase
from django.core.cache import caches

from stepup import clock, conf

__all__ = ["asking", "is_first", "writing"]

#: How long to wait for another request of the session that is storing something, in seconds.
PATIENCE = 1


@contextmanager
def asking(session: SessionBase, settings: conf.Settings) -> Iterator[bool]:
    """Whether no other request of this session asks the OP, as far as the cache reaches."""
    # For longer than the few requests to the OP can take; it is for those who die over it.
    with _turn_of(session, "asking", settings, seconds=int(6 * settings.timeout) + 10, patience=0) as is_alone:
        yield is_alone


@contextmanager
def writing(session: SessionBase, settings: conf.Settings) -> Iterator[bool]:
    """One after the other, between a look at what is stored and the save of it: which takes a moment.

    Whoever ends a session waits too: some engines would bring it back with a save that has looked before.
    """
    with _turn_of(session, "writing", settings, seconds=10, patience=PATIENCE) as is_alone:
        yield is_alone


def is_first(name: str, settings: conf.Settings) -> bool:
    """Whether nothing of that name has come before, as far as the cache reaches."""
    return _of_cache(settings, "add", f"stepup:first:{name}", True, settings.pending_max_age) is not False


@contextmanager
def _turn_of(
    session: SessionBase, what: str, settings: conf.Settings, *, seconds: int, patience: float
) -> Iterator[bool]:
    digest = hashlib.sha256(str(session.session_key).encode()).hexdigest()
    key, owner = f"stepup:{what}:{digest}", secrets.token_hex(8)
    until = clock.monotonic() + patience
    # Only a plain no counts: a cache that does not work keeps nobody waiting.
    while is_taken := _of_cache(settings, "add", key, owner, seconds) is False:
        if clock.monotonic() >= until:
            break
        time.sleep(0.01)
    try:
        yield not is_taken
    finally:
        if not is_taken and _of_cache(settings, "get", key) == owner:
            _of_cache(settings, "delete", key)


def _of_cache(settings: conf.Settings, method: str, *args: Any) -> Any:
    if settings.cache is None:
        return None
    try:
        return getattr(caches[settings.cache], method)(*args)
    except Exception:  # noqa: BLE001 - each cache has errors of its own, and none is a reason not to renew
        return None
