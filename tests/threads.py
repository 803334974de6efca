"""Threads of tests that ask the database."""

from __future__ import annotations

from collections.abc import Callable
from functools import wraps
from typing import ParamSpec, TypeVar

from django.db import connections

P = ParamSpec("P")
T = TypeVar("T")


def closing_connections(function: Callable[P, T]) -> Callable[P, T]:
    """What a thread does, and that it leaves no connection behind.

    Django's own `close()` keeps those to a database in memory, which for the test lives in another thread's.
    """

    @wraps(function)
    def closing(*args: P.args, **kwargs: P.kwargs) -> T:
        try:
            return function(*args, **kwargs)
        finally:
            for connection in connections.all(initialized_only=True):
                if connection.connection is not None:
                    connection.connection.close()
                    connection.connection = None

    return closing
