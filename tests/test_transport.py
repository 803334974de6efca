"""`stepup.transport`: the parts that `tests/test_provider.py` does not reach through the provider."""

from __future__ import annotations

import socket
import time

import pytest

from stepup.transport import Answer, BoundedSession, NoAuth, _TimedReader
from tests.hostile_op import HostileOP


def test_an_answer_without_a_cache_control_says_nothing() -> None:
    assert Answer(200, "application/json", b"{}").cache_control == ""


def test_requests_have_no_cookies_and_accept_nothing_compressed() -> None:
    with HostileOP() as op:
        session = BoundedSession(timeout=2, max_bytes=1000, verify=True, proxies=None)
        session.ask("GET", op.at("/.well-known/openid-configuration"), auth=NoAuth())
        (request,) = op.asked("/.well-known/openid-configuration")
        session.close()
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
