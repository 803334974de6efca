"""`stepup.documents`: what is kept of the OP's documents, and what processes share of them."""

from __future__ import annotations

import hashlib
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from django.core.cache import caches

from stepup import clock, documents
from stepup.documents import Document
from stepup.exceptions import ProviderError
from stepup.transport import Answer

URL = "https://op.example/jwks"
KEY = f"stepup:{hashlib.sha256(URL.encode()).hexdigest()}"


class OP:
    """What the OP says of itself, and how often it was asked."""

    def __init__(self) -> None:
        self.asked = 0
        self.says: bytes | ProviderError = b"one"
        self.cache_control = ""
        self.takes = 0.0

    def document(self, cache: str | None = "default", max_age: float = 3600) -> Document[str]:
        """As another process would have it."""
        return Document(lambda: URL, fetch=self._fetch, parse=self._parse, max_age=max_age, cache=cache)

    def _fetch(self, url: str) -> Answer:
        assert url == URL
        self.asked += 1
        time.sleep(self.takes)
        if isinstance(self.says, ProviderError):
            raise self.says
        return Answer(200, "application/json", self.says, self.cache_control)

    @staticmethod
    def _parse(content: bytes) -> str:
        if content == b"garbage":
            raise ProviderError("jwks", "not usable")
        return content.decode()


@pytest.fixture(autouse=True)
def nothing_is_shared_yet() -> None:
    caches["default"].clear()


@pytest.fixture
def op() -> OP:
    return OP()


def refreshed() -> None:
    for thread in threading.enumerate():
        if thread.name == "stepup-refresh":
            thread.join(5)


def test_a_second_process_takes_over_what_the_first_has_got(op: OP) -> None:
    assert op.document().get() == "one"
    assert op.document().get() == "one"
    assert op.asked == 1


def test_where_nothing_is_shared_each_process_asks(op: OP) -> None:
    op.document(cache=None).get()
    op.document(cache=None).get()
    assert op.asked == 2


def test_keys_that_one_process_has_renewed_are_new_for_the_other_too_without_asking(op: OP) -> None:
    first, second = op.document(), op.document()
    old = (first.get(), second.get())
    op.says = b"two"
    assert first.get(newer_than=old[0]) == "two"

    assert second.get(newer_than=old[1]) == "two"
    assert op.asked == 2


def test_processes_that_meet_an_unknown_key_at_once_ask_once(op: OP) -> None:
    processes = [op.document() for _ in range(5)]
    held = [process.get() for process in processes]
    op.says, op.takes = b"two", 0.2

    with ThreadPoolExecutor(5) as pool:
        newer = list(pool.map(lambda process, old: process.get(newer_than=old), processes, held))

    assert newer == ["two"] * 5
    assert op.asked == 2


def test_a_process_that_waits_for_another_that_has_died_asks_itself(op: OP) -> None:
    caches["default"].set(f"{KEY}:first", documents.ASKING, 60)

    started = time.perf_counter()
    assert op.document().get() == "one"
    assert time.perf_counter() - started >= documents.PATIENCE


def test_processes_ask_for_newer_keys_once_in_a_cool_down_all_together_and_wait_for_nothing(op: OP) -> None:
    """Anybody can make them ask, with a token that names a key that there is not."""
    processes = [op.document() for _ in range(4)]
    held = [process.get() for process in processes]

    started = time.perf_counter()
    newer = [process.get(newer_than=old) for process, old in zip(processes, held, strict=True)]

    assert newer == ["one"] * 4
    assert op.asked == 2
    assert time.perf_counter() - started < documents.PATIENCE


def test_while_a_process_that_was_to_get_newer_keys_is_dead_over_it_there_are_those_that_there_were(op: OP) -> None:
    document = op.document()
    held = document.get()
    caches["default"].set(f"{KEY}:newer", documents.ASKING, 60)
    assert document.get(newer_than=held) is held
    assert op.asked == 1


def test_where_no_thread_can_be_had_a_request_gets_the_newer_document_itself(
    op: OP, monkeypatch: pytest.MonkeyPatch
) -> None:
    def start(thread: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    document = op.document(cache=None)
    assert document.get() == "one"
    clock.offset = 3601
    op.says = b"two"
    monkeypatch.setattr(threading.Thread, "start", start)

    assert document.get() == "one"
    assert document.get() == "two"
    clock.offset += documents.COOL_DOWN + 1
    op.says = b"three"
    assert document.get(newer_than=document.get()) == "three", "nobody holds the lock"


def test_what_is_shared_gets_old_with_the_time_at_which_it_was_got(op: OP) -> None:
    op.document().get()
    clock.offset = 3601
    caches["default"].delete(f"{KEY}:first")  # its own time has not moved
    op.says = b"two"

    assert op.document().get() == "two"


@pytest.mark.parametrize(
    "shared",
    [
        None,
        "text",
        [],
        [1, 2],
        [1, 2, "text"],
        [time.time(), 3600.0, b"garbage"],
        [1e18, 3600.0, b"x"],
        [1.0, float("inf"), b"x"],
        [1.0, 60, b"x"],
    ],
)
def test_what_is_shared_and_is_no_document_is_not_taken_over(op: OP, shared: Any) -> None:
    caches["default"].set(KEY, shared)
    assert op.document().get() == "one"


def test_what_is_shared_can_be_forgotten_with_all_that_keeps_others_from_asking(op: OP) -> None:
    document = op.document()
    document.get(newer_than=document.get())
    caches["default"].set("another", "stays")
    op.says = b"two"

    documents.forget(URL, "default")

    assert op.document().get() == "two"
    assert [caches["default"].get(f"{KEY}:{turn}") for turn in ("first", "newer")] == [documents.ASKED, None]
    assert document.get() == "one", "what a process holds it holds on to"
    assert caches["default"].get("another") == "stays"


@pytest.mark.parametrize("cache", [None, "no such cache"])
def test_where_nothing_is_shared_nothing_is_forgotten(op: OP, cache: str | None) -> None:
    op.document().get()
    documents.forget(URL, cache)
    assert op.document().get() == "one"
    assert op.asked == 1


def test_a_cache_that_does_not_work_keeps_nobody_from_the_keys(op: OP, settings: Any) -> None:
    settings.CACHES = {
        **settings.CACHES,
        "broken": {"BACKEND": "django.core.cache.backends.redis.RedisCache", "LOCATION": "redis://127.0.0.1:9"},
    }
    document = op.document(cache="broken")
    assert document.get() == "one"
    op.says = b"two"
    assert document.get(newer_than=document.get()) == "two"


@pytest.mark.parametrize(
    ("cache_control", "fresh_for"),
    [
        ("", 3600),
        ("max-age=600", 600),
        ("public, max-age=600, must-revalidate", 600),
        ('max-age="600"', 600),
        ("MAX-AGE=600", 600),
        ("max-age=0", 60),
        ("max-age=99999999", 86400),
        ("max-age=-5", 3600),
        ("s-maxage=5", 3600),
        ("no-store", 3600),
    ],
)
def test_the_op_says_for_how_long_within_bounds(op: OP, cache_control: str, fresh_for: int) -> None:
    op.cache_control = cache_control
    document = op.document(cache=None)
    document.get()

    clock.offset = fresh_for - 2
    document.get()
    refreshed()
    assert op.asked == 1
    clock.offset = fresh_for + 2
    document.get()
    refreshed()
    assert op.asked == 2


def test_an_old_document_is_used_while_a_newer_is_asked_for_and_for_as_long_as_that_fails(op: OP) -> None:
    document = op.document()
    document.get()
    clock.offset = 3601
    caches["default"].delete(f"{KEY}:first")
    op.says = ProviderError("jwks", "timeout")

    for _ in range(5):
        assert document.get() == "one"
        refreshed()
    assert op.asked == 2
    op.says = b"two"
    clock.offset += documents.COOL_DOWN + 1
    caches["default"].delete(f"{KEY}:first")
    assert document.get() == "one"
    refreshed()
    assert document.get() == "two"


def test_a_refresh_that_another_thread_has_done_meanwhile_is_not_done_again(op: OP) -> None:
    document = op.document(cache=None)
    document.get()
    document._refresh_in_background()  # which finds out that what is held is fresh
    refreshed()
    clock.offset = documents.COOL_DOWN + 1
    document._refresh_in_background()
    refreshed()
    assert op.asked == 1


def test_while_there_is_nothing_a_failure_is_the_answer_for_everybody_until_the_cool_down_is_over(op: OP) -> None:
    document = op.document(cache=None)
    op.says = ProviderError("jwks", "timeout")
    for _ in range(5):
        with pytest.raises(ProviderError, match="jwks: timeout"):
            document.get()
    assert op.asked == 1

    op.says = b"one"
    clock.offset = documents.COOL_DOWN + 1
    assert document.get() == "one"


def test_where_a_document_is_may_be_unknown_too(op: OP) -> None:
    def nowhere() -> str:
        raise ProviderError("metadata", "no jwks_uri")

    document = Document(nowhere, fetch=op._fetch, parse=op._parse, max_age=1, cache=None)
    with pytest.raises(ProviderError, match="no jwks_uri"):
        document.get()
