"""The doors that need no change to a view: protection by URL name, the answer to `StepUpRequired`, and renewal."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from asgiref.sync import iscoroutinefunction, markcoroutinefunction, sync_to_async
from django.http import HttpRequest, HttpResponse

from stepup import clock, conf, gate, session
from stepup.assurance import Requirement

__all__ = ["SessionRenewalMiddleware", "StepUpMiddleware", "requirement_for"]

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
        requirement = _required(request)
        if requirement is None:
            return None
        gate.remember(request)
        return gate.check(request, requirement)

    async def _aprocess_view(
        self, request: HttpRequest, view: Any, args: Sequence[Any], kwargs: Any
    ) -> HttpResponse | None:
        requirement = _required(request)
        if requirement is None:
            return None
        gate.remember(request)
        return await gate.acheck(request, requirement)

    @staticmethod
    def _finish(request: HttpRequest, response: Any) -> Any:
        session.spare_cookie(request)
        return gate.seal(response) if gate.is_remembered(request) else response


class SessionRenewalMiddleware:
    """Renew a sign-in that has become older than ``OIDC_RENEW_ID_TOKEN_EXPIRY_SECONDS``, without the user's knowing.

    It goes after Django's session and authentication middleware, and before :class:`StepUpMiddleware`, in place of
    mozilla-django-oidc's ``SessionRefresh``.

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
        if self.is_async:
            return self._acall(request)
        return self._finish(request, self.get_response(request))

    async def _acall(self, request: HttpRequest) -> Any:
        return self._finish(request, await self.get_response(request))

    @staticmethod
    def _finish(request: HttpRequest, response: Any) -> Any:
        if session.is_overtaken(request, conf.current(), now=clock.now()):
            from stepup import renewal

            renewal.save_carefully(request)
        session.spare_cookie(request)
        return response

    def _process_view(self, request: HttpRequest, view: Any, args: Sequence[Any], kwargs: Any) -> HttpResponse | None:
        if not session.is_renewal_due(request.session, now=clock.now()):
            return None
        return _renew(request)

    async def _aprocess_view(
        self, request: HttpRequest, view: Any, args: Sequence[Any], kwargs: Any
    ) -> HttpResponse | None:
        if not await session.ais_renewal_due(request.session, now=clock.now()):
            return None
        # The OP may have to be asked: work for a thread, and seldom done.
        return await sync_to_async(_renew)(request)


def _renew(request: HttpRequest) -> HttpResponse | None:
    from stepup import renewal  # brings requests and cryptography

    view_name: str = getattr(request.resolver_match, "view_name", "")
    return None if _is_own(view_name, conf.current()) else renewal.renew(request, view_name)


def _is_own(view_name: str, settings: conf.Settings) -> bool:
    return view_name in OWN_VIEWS or view_name == settings.callback_url_name


def _required(request: HttpRequest) -> Requirement | None:
    settings, match = conf.current(), request.resolver_match
    if not settings.protected_views or match is None:
        return None
    if _is_own(match.view_name, settings):
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
