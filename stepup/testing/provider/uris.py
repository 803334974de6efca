"""Redirect URIs as an application registers them: exactly, or for any port of this machine."""

from __future__ import annotations

import re
from collections.abc import Iterable
from urllib.parse import urlsplit

LOOPBACK_HOSTS = frozenset({"127.0.0.1", "localhost", "::1"})

#: Starts an entry that stands for every port of the loopback interface (RFC 8252, section 7.3).
LOOPBACK = "loopback:"

_PATH = re.compile(r"/[A-Za-z0-9._~!$&'()*+,;=:@%/-]*")


def is_entry(entry: str) -> bool:
    """Whether `entry` can be registered: an absolute http(s) URI, or `loopback:` and a path."""
    if entry.startswith(LOOPBACK):
        return bool(_PATH.fullmatch(entry.removeprefix(LOOPBACK)))
    parts = urlsplit(entry)
    return parts.scheme in {"http", "https"} and bool(parts.hostname) and not parts.fragment


class RegisteredUris:
    """A set of URIs, asked with `in`.

    `http://127.0.0.1:8000/callback/` is that URI and no other. `loopback:/callback/` is `/callback/` at any port of
    this machine over http, and `loopback:/*` any path there, so that one client fits a development server wherever
    it happens to listen.
    """

    def __init__(self, entries: Iterable[str]) -> None:
        listed = tuple(entries)
        self._exact = frozenset(entry for entry in listed if not entry.startswith(LOOPBACK))
        self._paths = frozenset(entry.removeprefix(LOOPBACK) for entry in listed if entry.startswith(LOOPBACK))

    def __contains__(self, uri: object) -> bool:
        if not isinstance(uri, str):
            return False
        if uri in self._exact:
            return True
        path = _loopback_path(uri)
        return path is not None and (path in self._paths or "/*" in self._paths)


def _loopback_path(uri: str) -> str | None:
    """The path of a plain http URI of this machine; None for any other, and for one with a query or user name."""
    try:
        parts = urlsplit(uri)
        host, port = parts.hostname, parts.port
    except ValueError:
        return None
    if host not in LOOPBACK_HOSTS or not _PATH.fullmatch(parts.path):
        return None
    # Put together again it must be what was sent: whatever the parser skipped or normalised is not registered.
    authority = (f"[{host}]" if ":" in host else host) + ("" if port is None else f":{port}")
    return parts.path if uri == f"http://{authority}{parts.path}" else None


def origin(uri: str) -> str:
    """Scheme and authority of a registered URI, e.g. `http://127.0.0.1:8000`."""
    parts = urlsplit(uri)
    return f"{parts.scheme}://{parts.netloc}"
