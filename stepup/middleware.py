"""The door that needs no change to a view: protection by URL name, and the answer to `StepUpRequired`."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from asgiref.sync import iscoroutinefunction, markcoroutinefunction
from django.http import HttpRequest, HttpResponse

from stepup import conf, gate, session
from stepup.assurance import Requirement

__all__ = ["StepUpMiddleware", "requirement_for"]

#: The views of the round trip itself, which a requirement would send in circles.
OWN_VIEWS = frozenset({"oidc_authentication_init", "oidc_authentication_callback", "oidc_logout"})


class StepUpMiddleware:
    """Ask the requirements of ``STEPUP["PROTECTED_VIEWS"]``, and answer :class:`~stepup.gate.StepUpRequired`.

    It goes after Django's session and authentication middleware, and before ``LoginRequiredMiddleware`` where that is
    used. An exact name wins over a pattern, and the longest pattern over a shorter one.

    Raises:
        ImproperlyConfigured: where the server starts, if there is a mistake in the settings.
    """

    sync_capable = True
    async_capable = True
    process_view: Callable[..., Any]

    def __init__(self, get_response: Callable[[HttpRequest], Any]) -> None:
        self.get_response = get_response
        self.is_async = iscoroutinefunction(get_response)
        self.process_view = self._aprocess_view if self.is_async else self._process_view
        if self.is_async:
            markcoroutinefunction(self)
        conf.current()

    def __call__(self, request: HttpRequest) -> Any:
        return self._acall(request) if self.is_async else self._finish(request, self.get_response(request))

    async def _acall(self, request: HttpRequest) -> Any:
        return self._finish(request, await self.get_response(request))

    def process_exception(self, request: HttpRequest, exception: Exception) -> HttpResponse | None:
        if isinstance(exception, gate.StepUpRequired):
            return gate.check(request, exception.requirement)
        return None

    def _process_view(self, request: HttpRequest, view: Any, args: Sequence[Any], kwargs: Any) -> HttpResponse | None:
        # Before any view begins, also one without a door: `StepUpRequired` may come from inside.
        if request.method == "POST" and (refusal := gate.restore(request)) is not None:
            return refusal
        requirement = _required(request)
        if requirement is None:
            return None
        gate.remember(request)
        return gate.check(request, requirement)

    async def _aprocess_view(
        self, request: HttpRequest, view: Any, args: Sequence[Any], kwargs: Any
    ) -> HttpResponse | None:
        if request.method == "POST" and (refusal := await gate.arestore(request)) is not None:
            return refusal
        requirement = _required(request)
        if requirement is None:
            return None
        gate.remember(request)
        return await gate.acheck(request, requirement)

    @staticmethod
    def _finish(request: HttpRequest, response: Any) -> Any:
        session.spare_cookie(request)
        return gate.seal(response) if gate.is_remembered(request) else response


def _required(request: HttpRequest) -> Requirement | None:
    settings, match = conf.current(), request.resolver_match
    if not settings.protected_views or match is None:
        return None
    if match.view_name in OWN_VIEWS or match.view_name == settings.callback_url_name:
        return None
    # An app that is included twice has two instance namespaces, and whoever writes its own name means both.
    by_app = ":".join([*match.app_names, match.url_name or ""])
    return requirement_for(settings.protected_views, match.view_name, by_app)


def requirement_for(protected: Mapping[str, Requirement], *names: str) -> Requirement | None:
    """The requirement that the settings put on a view by one of its names, namespaces included; None for none."""
    for name in names:
        if exact := protected.get(name):
            return exact
    patterns = [
        pattern
        for pattern in protected
        if pattern.endswith("*") and any(name.startswith(pattern[:-1]) for name in names)
    ]
    return protected[max(patterns, key=len)] if patterns else None
