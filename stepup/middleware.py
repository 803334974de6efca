"""The doors that need no change to a view: protection by URL name, the answer to `StepUpRequired`, and renewal."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Literal

from asgiref.sync import iscoroutinefunction, markcoroutinefunction, sync_to_async
from django.http import HttpRequest, HttpResponse
from django.urls import ResolverMatch

from stepup import clock, conf, gate, kept, session
from stepup.assurance import Requirement

__all__ = ["SessionRenewalMiddleware", "StepUpMiddleware", "requirement_for"]

SIGN_IN_VIEW = "oidc_authentication_init"
#: The views of the round trip itself, which a requirement would send in circles.
OWN_VIEWS = frozenset(
    {
        SIGN_IN_VIEW,
        "oidc_authentication_callback",
        "oidc_logout",
        "stepup_signed_out",
        "stepup_backchannel_logout",
        "stepup_frontchannel_logout",
    }
)


class _Middleware:
    """What stands on synchronous and asynchronous servers alike, and not on settings that are wrong."""

    sync_capable = True
    async_capable = True
    process_view: Callable[..., Any]
    _process_view: Callable[..., HttpResponse | None]
    _aprocess_view: Callable[..., Any]
    __call__: Callable[..., Any]

    def __init__(self, get_response: Callable[[HttpRequest], Any]) -> None:
        self.get_response = get_response
        self.is_async = iscoroutinefunction(get_response)
        self.process_view = self._aprocess_view if self.is_async else self._process_view
        if self.is_async:
            markcoroutinefunction(self)
        conf.current()


class StepUpMiddleware(_Middleware):
    """Ask the requirements of ``STEPUP["PROTECTED_VIEWS"]``, and answer :class:`~stepup.gate.StepUpRequired`.

    It goes after Django's session and authentication middleware, and before ``LoginRequiredMiddleware`` where that is
    used. An exact name wins over a pattern, and the longest pattern over a shorter one.

    Raises:
        ImproperlyConfigured: where the server starts, if there is a mistake in the settings.
    """

    def __call__(self, request: HttpRequest) -> Any:
        if self.is_async:
            return self._acall(request)
        if _may_be_lowered():
            _adopt(request)
        response = self.get_response(request)
        if _has_new_key(request):
            _follow(request)
        return self._finish(request, response)

    async def _acall(self, request: HttpRequest) -> Any:
        if _may_be_lowered():
            await sync_to_async(_adopt)(request)
        response = await self.get_response(request)
        if _has_new_key(request):
            await sync_to_async(_follow)(request)
        return self._finish(request, response)

    def process_exception(self, request: HttpRequest, exception: Exception) -> HttpResponse | None:
        if isinstance(exception, gate.StepUpRequired):
            return gate.refuse(request, exception.requirement)
        return None

    def _process_view(self, request: HttpRequest, view: Any, args: Sequence[Any], kwargs: Any) -> HttpResponse | None:
        # Before any view begins, also one without a door: `StepUpRequired` may come from inside.
        if request.method == "POST" and (refusal := gate.restore(request)) is not None:
            return refusal
        requirement = _required(request)
        if requirement is None:
            return None
        return _passage(request, gate.admit(request, requirement))

    async def _aprocess_view(
        self, request: HttpRequest, view: Any, args: Sequence[Any], kwargs: Any
    ) -> HttpResponse | None:
        if request.method == "POST" and (refusal := await gate.arestore(request)) is not None:
            return refusal
        requirement = _required(request)
        if requirement is None:
            return None
        return _passage(request, await gate.aadmit(request, requirement))

    @staticmethod
    def _finish(request: HttpRequest, response: Any) -> Any:
        session.spare_cookie(request)
        return gate.seal(response) if gate.is_remembered(request) else response


class SessionRenewalMiddleware(_Middleware):
    """Renew a sign-in that has become older than ``OIDC_RENEW_ID_TOKEN_EXPIRY_SECONDS``, without the user's knowing.

    It goes after Django's session and authentication middleware, and before :class:`StepUpMiddleware`, in place of
    mozilla-django-oidc's ``SessionRefresh``.

    Raises:
        ImproperlyConfigured: where the server starts, if there is a mistake in the settings.
    """

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
        if session.is_renewal_due(request.session, now=clock.now()) and (answer := _renew(request)) is not None:
            return answer
        # It may have been kept for a sign-in here, and its view be one without a door.
        return gate.restore(request) if request.method == "POST" else None

    async def _aprocess_view(
        self, request: HttpRequest, view: Any, args: Sequence[Any], kwargs: Any
    ) -> HttpResponse | None:
        if await session.ais_renewal_due(request.session, now=clock.now()):
            # The OP may have to be asked: work for a thread, and seldom done.
            answer = await sync_to_async(_renew)(request)
            if answer is not None:
                return answer
        return await gate.arestore(request) if request.method == "POST" else None


def _renew(request: HttpRequest) -> HttpResponse | None:
    from stepup import renewal  # brings requests and cryptography

    view_name: str = getattr(request.resolver_match, "view_name", "")
    # What somebody has filled in is shown only to whom the OP still vouches for.
    is_exempt = is_own(view_name, conf.current()) and not (view_name == SIGN_IN_VIEW and kept.is_shown_by(request))
    return None if is_exempt else renewal.renew(request, view_name)


def _passage(
    request: HttpRequest, refusal: HttpResponse | Literal[gate.Passage.UNSEALED] | None
) -> HttpResponse | None:
    if refusal is None:
        gate.remember(request)
    return None if refusal is gate.UNSEALED else refusal


def _may_be_lowered() -> bool:
    return conf.current().back_channel_logout == "lower"


def _has_new_key(request: HttpRequest) -> bool:
    settings = conf.current()
    return settings.back_channel_logout is not None and session.former_key(request, settings) is not None


def _adopt(request: HttpRequest) -> None:
    from stepup import links

    links.adopt(request)


def _follow(request: HttpRequest) -> None:
    from stepup import links

    links.follow(request, session.former_key(request, conf.current()) or "")


def _required(request: HttpRequest) -> Requirement | None:
    settings, match = conf.current(), request.resolver_match
    if not settings.protected_views or match is None:
        return None
    if is_own(match.view_name, settings):
        return None
    return requirement_for(settings.protected_views, *names_of(match))


def names_of(match: ResolverMatch) -> tuple[str, str]:
    """The names that a view goes by, namespaces included: with those of the instance, and with those of the app.

    An app that is included twice has two instance namespaces, and whoever writes its own name means both.
    """
    return match.view_name, ":".join([*match.app_names, match.url_name or ""])


def is_own(view_name: str, settings: conf.Settings) -> bool:
    """Whether it is a view of the round trip itself."""
    return view_name in OWN_VIEWS or view_name == settings.callback_url_name


def requirement_for(protected: Mapping[str, Requirement], *names: str) -> Requirement | None:
    """The requirement that the settings put on a view by one of its names, namespaces included; None for none."""
    entry = entry_for(protected, *names)
    return None if entry is None else protected[entry]


def entry_for(protected: Mapping[str, Requirement], *names: str) -> str | None:
    """The name or pattern in the settings by which they protect a view with these names; None for none."""
    for name in names:
        if name in protected:
            return name
    patterns = [
        pattern
        for pattern in protected
        if pattern.endswith("*") and any(name.startswith(pattern[:-1]) for name in names)
    ]
    return max(patterns, key=len, default=None)
