"""What each thread of a worker is busy with: a log record does not say to which request it belongs."""

from __future__ import annotations

import threading
from collections.abc import Callable

from django.http import HttpRequest, HttpResponse

_local = threading.local()


class BusyMiddleware:
    """Outermost, and loaded before the first request: the site itself is loaded by that."""

    def __init__(self, get_response: Callable[[HttpRequest], HttpResponse]) -> None:
        self.get_response = get_response

    def __call__(self, request: HttpRequest) -> HttpResponse:
        _local.request = request.headers.get("X-Request-Id", "")
        return self.get_response(request)


def request_id() -> str:
    """The id of the request that this thread is answering."""
    return getattr(_local, "request", "")
