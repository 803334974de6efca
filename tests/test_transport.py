"""`stepup.transport`: the parts that `tests/test_provider.py` does not reach through the provider."""

from __future__ import annotations

import contextlib
import socket
import threading
import time
from collections.abc import Iterator, Mapping
from typing import Any

import pytest
from requests.adapters import HTTPAdapter

from stepup import transport
from stepup.transport import BoundedSession, NoAuth, TransportError, _TimedReader
from tests.hostile_op import METADATA, Answer, HostileOP, Request, head

TIMEOUT = 0.5
#: What a request may take altogether: the machine may be busy, but other times add up to more.
IN_TIME = 2.0


@contextlib.contextmanager
def bounded(timeout: float = TIMEOUT, proxies: Mapping[str, str] | None = None) -> Iterator[BoundedSession]:
    with BoundedSession(timeout=timeout, max_bytes=1000, verify=True, proxies=proxies) as session:
        yield session


def failure(session: BoundedSession, url: str) -> str:
    """How it fails, which must be soon."""
    started = time.perf_counter()
    with pytest.raises(TransportError) as caught:
        session.ask("GET", url, auth=NoAuth())
    assert time.perf_counter() - started < IN_TIME
    return str(caught.value)


@contextlib.contextmanager
def addresses_that_do_not_answer(count: int) -> Iterator[list[tuple[str, int]]]:
    """So many addresses with one port, at which nobody takes up what comes."""
    with contextlib.ExitStack() as stack:
        found: list[tuple[str, int]] = []
        for number in range(1, count + 1):
            listener = stack.enter_context(socket.socket())
            listener.bind((f"127.0.0.{number}", found[0][1] if found else 0))
            listener.listen(0)
            found.append(listener.getsockname())
            for _ in range(3):  # more than it keeps waiting
                waiting = stack.enter_context(socket.socket())
                waiting.setblocking(False)
                with contextlib.suppress(BlockingIOError):
                    waiting.connect(found[-1])
        yield found


@pytest.fixture
def names(monkeypatch: pytest.MonkeyPatch) -> dict[str, list[tuple[str, int]]]:
    """Names of hosts, and the addresses that they have."""
    known: dict[str, list[tuple[str, int]]] = {}
    really = socket.getaddrinfo

    def look_up(host: Any, *args: Any, **kwargs: Any) -> Any:
        if host in known:
            return [(socket.AF_INET, socket.SOCK_STREAM, socket.IPPROTO_TCP, "", each) for each in known[host]]
        return really(host, *args, **kwargs)

    monkeypatch.setattr(socket, "getaddrinfo", look_up)
    return known


def test_all_addresses_of_a_host_have_the_time_of_one_request(names: dict[str, list[tuple[str, int]]]) -> None:
    with addresses_that_do_not_answer(8) as names["op.example"], bounded() as session:
        assert failure(session, f"http://op.example:{names['op.example'][0][1]}/") == "timeout"


def test_where_one_address_does_not_answer_another_may(names: dict[str, list[tuple[str, int]]]) -> None:
    with HostileOP() as op, addresses_that_do_not_answer(1) as silent, bounded(timeout=1) as session:
        good = ("127.0.0.1", int(op.url.rstrip("/").rpartition(":")[2]))
        refusing = ("127.0.0.2", good[1])
        names["op.example"] = [*silent, refusing, good]
        assert session.ask("GET", f"http://op.example{METADATA}", auth=NoAuth()).status == 200

        names["other.example"] = [refusing]
        assert failure(session, "http://other.example/") == "ConnectionError"
        names["nowhere.example"] = []
        assert failure(session, "http://nowhere.example/") == "ConnectionError"


def test_a_host_that_nobody_knows_is_no_answer() -> None:
    with bounded() as session:
        assert failure(session, "http://op.invalid/") == "ConnectionError"


def test_a_connection_and_its_answer_have_one_time_together(names: dict[str, list[tuple[str, int]]]) -> None:
    with HostileOP() as op, addresses_that_do_not_answer(1) as silent, bounded(timeout=1.5) as session:
        names["op.example"] = [*silent, ("127.0.0.1", int(op.url.rstrip("/").rpartition(":")[2]))]
        # Each of the two is in time by itself.
        op.answers[METADATA] = Answer((1.2, *op.honest(Request("GET", METADATA, {}, {}, 1)).pieces))
        assert failure(session, f"http://op.example{METADATA}") == "timeout"
        assert len(op.requests) == 1


def test_a_kept_connection_is_looked_after() -> None:
    with HostileOP() as op, bounded() as session:
        session.ask("GET", op.at(METADATA), auth=NoAuth())
        adapter = session.get_adapter(op.url)
        assert isinstance(adapter, HTTPAdapter)
        pools = adapter.poolmanager.pools
        (key,) = pools.keys()
        connection: Any = pools[key].pool.get_nowait()
        assert connection.sock.getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE)
        if hasattr(socket, "TCP_KEEPIDLE"):
            assert connection.sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPIDLE) == 60
        assert connection.sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY), "as without"
        connection.close()


def test_a_host_that_needs_no_proxy_has_none_whatever_was_asked_before(monkeypatch: pytest.MonkeyPatch) -> None:
    with HostileOP() as op, HostileOP() as proxy, bounded() as session:
        monkeypatch.setenv("http_proxy", proxy.url)
        monkeypatch.setenv("no_proxy", "127.0.0.1")
        session.ask("GET", f"http://op.invalid{METADATA}", auth=NoAuth())
        session.ask("GET", op.at(METADATA), auth=NoAuth())
        assert [len(each.requests) for each in (op, proxy)] == [1, 1]


class SOCKSProxy:
    """A SOCKS 5 proxy (RFC 1928) that answers itself: with these bytes, drop by drop."""

    def __init__(self, answer: bytes, pause: float = 0) -> None:
        self._answer, self._pause = answer, pause
        self._listener = socket.create_server(("127.0.0.1", 0))
        self._ended = threading.Event()
        self.asked_for = b""
        self._thread = threading.Thread(target=self._serve)
        self._thread.start()

    def __enter__(self) -> str:
        return f"socks5h://127.0.0.1:{self._listener.getsockname()[1]}"

    def __exit__(self, *_: object) -> None:
        self._ended.set()
        self._thread.join()
        self._listener.close()

    def _serve(self) -> None:
        connection, _ = self._listener.accept()
        with connection, contextlib.suppress(OSError):
            connection.recv(16)  # the methods that it may authenticate by
            connection.sendall(b"\x05\x00")
            self.asked_for = connection.recv(300)
            connection.sendall(b"\x05\x00\x00\x01\x00\x00\x00\x00\x00\x00")
            connection.recv(4096)
            for drop in self._answer:
                connection.sendall(bytes([drop]))
                self._ended.wait(self._pause)


def test_a_socks_proxy_can_be_used_and_keeps_nobody_waiting() -> None:
    proxy = SOCKSProxy(head(Content_Length=2) + b"{}")
    with proxy as url, bounded(timeout=5, proxies={"http": url}) as session:
        assert session.ask("GET", "http://op.invalid/", auth=NoAuth()).content == b"{}"
    assert b"op.invalid" in proxy.asked_for

    with SOCKSProxy(head(Content_Length=200) + b" " * 200, pause=0.1) as url, bounded(proxies={"http": url}) as session:
        assert failure(session, "http://op.invalid/") == "timeout"


def test_an_answer_without_a_cache_control_says_nothing() -> None:
    assert transport.Answer(200, "application/json", b"{}").cache_control == ""


def test_requests_have_no_cookies_and_accept_nothing_compressed() -> None:
    with HostileOP() as op, bounded() as session:
        session.ask("GET", op.at(METADATA), auth=NoAuth())
        (request,) = op.asked(METADATA)
    assert request.headers["accept-encoding"] == "identity"
    assert "cookie" not in request.headers


def test_once_the_time_is_over_nothing_more_is_received_however_much_there_is() -> None:
    ours, theirs = socket.socketpair()
    with ours, theirs:
        theirs.sendall(b"plenty")
        with ours.makefile("rb", buffering=0) as received:
            late = _TimedReader(ours, received, deadline=time.monotonic())
            with pytest.raises(TimeoutError, match="took too long"):
                late.readinto(bytearray(6))
