"""HTTP that ends: `requests` on pooled connections, with a bound on the time and the size of each answer.

Of `requests` as it comes, the time-out is one for each receive, so that a server which drips holds a worker for ever; a
redirect is read to its end even where it is not followed; and cookies of one person's answer go with the next one's
request.
"""

from __future__ import annotations

import http.client
import io
import socket
import time
from collections.abc import Mapping
from contextvars import ContextVar
from functools import cache
from http.cookiejar import DefaultCookiePolicy
from typing import Any, NamedTuple

import requests
from requests.adapters import HTTPAdapter
from requests.auth import AuthBase
from urllib3 import HTTPConnectionPool, PoolManager
from urllib3.connection import HTTPConnection
from urllib3.exceptions import ConnectTimeoutError, HTTPError, NameResolutionError, NewConnectionError
from urllib3.exceptions import TimeoutError as URLLib3TimeoutError
from urllib3.util.connection import allowed_gai_family, create_connection

__all__ = ["Answer", "BearerAuth", "BoundedSession", "NoAuth", "TransportError"]

#: When the request that is being made has to be at its end, by the monotonic clock.
_end: ContextVar[float] = ContextVar("end")

#: So that a kept connection is not forgotten on the way, by a router for one, and its end does not go unnoticed: looked
#: after when it has been idle for a minute.
_KEEP_ALIVE = [
    (socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1),
    *(
        (socket.IPPROTO_TCP, getattr(socket, name), value)
        for name, value in (("TCP_KEEPIDLE", 60), ("TCP_KEEPINTVL", 15), ("TCP_KEEPCNT", 4))
        if hasattr(socket, name)  # not on every system
    ),
]


class TransportError(Exception):
    """No answer, or none within the bounds. The message is one short word, and holds nothing from outside."""


class Answer(NamedTuple):
    """What came back. `content` is as it was sent: compressed content is not asked for, and not unpacked."""

    status: int
    content_type: str
    content: bytes
    cache_control: str = ""


class NoAuth(AuthBase):
    """No authentication. Said expressly, because `requests` looks into a ~/.netrc where nothing is said."""

    def __call__(self, request: requests.PreparedRequest) -> requests.PreparedRequest:
        return request


class BearerAuth(AuthBase):
    """An access token (RFC 6750, 2.1). Set as authentication, because a ~/.netrc overrides a mere header."""

    def __init__(self, access_token: str) -> None:
        self._access_token = access_token

    def __call__(self, request: requests.PreparedRequest) -> requests.PreparedRequest:
        request.headers["Authorization"] = f"Bearer {self._access_token}"
        return request


class BoundedSession(requests.Session):
    """Connections that are shared, and nothing else.

    Args:
        timeout: seconds for the whole of a request: to make the connection, if there is none yet, and for the answer to
            its last byte. Only how long it takes to find a host's addresses is the system's to say.
        max_bytes: the largest answer that is read.
        verify: whether TLS certificates are verified, or the path of a bundle to verify them with.
        proxies: proxies by scheme, in place of those that the environment names.
    """

    def __init__(self, *, timeout: float, max_bytes: int, verify: Any, proxies: Mapping[str, str] | None) -> None:
        super().__init__()
        self._timeout = timeout
        self._max_bytes = max_bytes
        self._verify = verify
        self._proxies = dict(proxies or {})
        self._environment: dict[str, Any] = {}
        self.cookies.set_policy(DefaultCookiePolicy(allowed_domains=[]))
        self.headers["Accept"] = "application/json"
        self.headers["Accept-Encoding"] = "identity"  # so that the bound on bytes bounds the memory too
        self.mount("http://", _TimedAdapter())
        self.mount("https://", _TimedAdapter())

    def get_redirect_target(self, resp: requests.Response) -> str | None:
        # A redirected token request would carry the client secret to another host. And even for a redirect that is not
        # followed, requests would read the whole body, unpacked, whatever its size.
        return None

    def ask(self, method: str, url: str, *, auth: AuthBase, data: Mapping[str, str] | None = None) -> Answer:
        """Make one request.

        Raises:
            TransportError: there is no whole answer within the bounds.
        """
        _end.set(time.monotonic() + self._timeout)
        try:
            request = requests.PreparedRequest()
            request.prepare(method=method, url=url, headers=self.headers, data=data, auth=auth)
            if url not in self._environment:
                # What the environment says of proxies and certificates: looked up once for each of the few endpoints.
                self._environment[url] = self.merge_environment_settings(
                    url, dict(self._proxies), True, self._verify, None
                )
            with self.send(request, timeout=self._timeout, allow_redirects=False, **self._environment[url]) as response:
                content = bytearray()
                while chunk := response.raw.read1(64 * 1024):
                    content += chunk
                    if len(content) > self._max_bytes:
                        raise TransportError("response too large")
                return Answer(
                    status=response.status_code,
                    content_type=response.headers.get("Content-Type", ""),
                    content=bytes(content),
                    cache_control=response.headers.get("Cache-Control", ""),
                )
        except (requests.Timeout, URLLib3TimeoutError, TimeoutError):
            raise TransportError("timeout") from None
        except (requests.RequestException, HTTPError, OSError, ValueError) as error:
            # The message of such an error can hold the URL, and with it parameters; its type says enough.
            raise TransportError(type(error).__name__) from None


class _TimedReader(io.RawIOBase):
    """What a socket receives until a moment comes, however small the drops are that it comes in."""

    def __init__(self, connection: socket.socket, received: Any, deadline: float) -> None:
        self._connection = connection
        self._received = received
        self._deadline = deadline

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int | None:
        left = self._deadline - time.monotonic()
        if left <= 0:
            raise TimeoutError("the answer took too long")
        self._connection.settimeout(left)
        return self._received.readinto(buffer)  # type: ignore[no-any-return] # io's own reader, which has no type here

    def close(self) -> None:
        self._received.close()
        super().close()


class _TimedResponse(http.client.HTTPResponse):
    """A response that has come by the end of its request, to the last byte, status line and headers included."""

    def __init__(self, sock: socket.socket, *args: Any, **kwargs: Any) -> None:
        super().__init__(sock, *args, **kwargs)
        received: Any = self.fp
        self.fp = io.BufferedReader(_TimedReader(sock, received.detach(), _end.get()))


class _TimedAnswers(HTTPConnection):
    response_class = _TimedResponse


class _Timed(_TimedAnswers):
    """A connection that has come about by the end of its request, however many addresses its host has."""

    def _new_conn(self) -> socket.socket:
        try:
            # How long this may take nobody but the system can say.
            found = socket.getaddrinfo(self.host.strip("[]"), self.port, allowed_gai_family(), socket.SOCK_STREAM)
            return self._connected([address[:2] for *_, address in found])
        except socket.gaierror as error:
            raise NameResolutionError(self.host, self, error) from None
        except TimeoutError:
            raise ConnectTimeoutError(self, "no connection in time") from None
        except OSError as error:
            raise NewConnectionError(self, type(error).__name__) from None

    def _connected(self, addresses: list[Any]) -> socket.socket:
        """A connection to the first of these addresses to which there is one."""
        for number, address in enumerate(addresses, 1):
            try:
                # Those that come after it shall have some of the time too.
                connected = create_connection(
                    address,
                    timeout=_time_left() / (len(addresses) - number + 1),
                    source_address=self.source_address,
                    socket_options=[*(self.socket_options or ()), *_KEEP_ALIVE],
                )
            except OSError:
                if number == len(addresses):
                    raise
            else:
                connected.settimeout(_time_left())  # for the TLS handshake, which has it as a whole
                return connected
        raise OSError("no address")


@cache
def _timed(pool: type[HTTPConnectionPool]) -> type[HTTPConnectionPool]:
    """Such a pool with connections that keep to the time."""
    connection: Any = pool.ConnectionCls
    if issubclass(connection, _TimedAnswers):
        return pool
    # Those through a SOCKS proxy have their own way to come about.
    ours = _Timed if connection._new_conn is HTTPConnection._new_conn else _TimedAnswers
    return type(
        f"Timed{pool.__name__}", (pool,), {"ConnectionCls": type(f"Timed{connection.__name__}", (ours, connection), {})}
    )


class _TimedAdapter(HTTPAdapter):
    def init_poolmanager(self, *args: Any, **kwargs: Any) -> None:
        super().init_poolmanager(*args, **kwargs)
        _keep_time(self.poolmanager)

    def proxy_manager_for(self, *args: Any, **kwargs: Any) -> Any:
        manager = super().proxy_manager_for(*args, **kwargs)
        _keep_time(manager)
        return manager


def _keep_time(manager: PoolManager) -> None:
    pools: Any = manager.pool_classes_by_scheme
    manager.pool_classes_by_scheme = {scheme: _timed(pool) for scheme, pool in pools.items()}


def _time_left() -> float:
    """How much of the time of this request is left, in seconds: never nothing at all, which would mean for ever."""
    return max(_end.get() - time.monotonic(), 0.001)
