"""What holds for every answer of the provider: it is recorded, and no page of it can be framed, cached or scripted."""

from __future__ import annotations

import time
from collections.abc import Callable

from django.http import HttpRequest, HttpResponse
from django.http.response import HttpResponseBase

from stepup.testing.provider.state import RequestRecord

GetResponse = Callable[[HttpRequest], HttpResponse]

#: What applications ask for themselves, by path; all else is for browsers.
ENDPOINTS = {
    "/.well-known/openid-configuration": "metadata",
    "/.well-known/jwks.json": "jwks",
    "/oauth/par": "par",
    "/oauth/token": "token",
    "/userinfo": "userinfo",
}

#: Requests of the launcher, which are none of an application or a browser.
UNRECORDED = ("/control/", "/healthz")


class RecordRequests:
    """Writes each request down, for tests that count them."""

    def __init__(self, get_response: GetResponse) -> None:
        self.get_response = get_response

    def __call__(self, request: HttpRequest) -> HttpResponse:
        if not request.path.startswith(UNRECORDED):
            request.META["stepup.provider"].state.record(
                RequestRecord(
                    method=request.method or "",
                    path=request.path,
                    query=dict(request.GET.lists()),
                    form=sorted(request.POST),
                    connection=request.META["stepup.connection"],
                )
            )
        return self.get_response(request)


class AnswerApplications:
    """Answers an application as the personality has it, and as late as a provider across a network would."""

    def __init__(self, get_response: GetResponse) -> None:
        self.get_response = get_response

    def __call__(self, request: HttpRequest) -> HttpResponseBase:
        response = self.get_response(request)
        endpoint, provider = ENDPOINTS.get(request.path), request.META["stepup.provider"]
        if endpoint is None:
            return response
        if provider.configuration.latency:
            time.sleep(provider.configuration.latency)
        if endpoint == "token" and request.POST.get("grant_type") == "refresh_token":
            response = provider.personality.refresh_answer(response)
        answer: HttpResponseBase = provider.personality.answer(endpoint, response, request.META["stepup.hang_up"])
        return answer


class SecurityHeaders:
    """A strict Content-Security-Policy and its relatives."""

    def __init__(self, get_response: GetResponse) -> None:
        self.get_response = get_response

    def __call__(self, request: HttpRequest) -> HttpResponse:
        response = self.get_response(request)
        response.headers.setdefault("Content-Security-Policy", content_security_policy())
        response.headers.setdefault("Cache-Control", "no-store")
        response.headers["X-Content-Type-Options"] = "nosniff"
        response.headers["X-Frame-Options"] = "DENY"
        # Not "no-referrer": it makes browsers send "Origin: null", which Django's CSRF protection refuses.
        response.headers["Referrer-Policy"] = "same-origin"
        response.headers["Cross-Origin-Opener-Policy"] = "same-origin"
        return response


def content_security_policy(form_target: str = "") -> str:
    """The policy of a page: its own style sheet and images, no script, no frame. Forms may lead to `form_target`, an
    origin, as well."""
    # An IPv6 address is no host-source (Content Security Policy Level 3, section 2.3.1).
    target = "http:" if "[" in form_target else form_target
    return "; ".join(
        [
            "default-src 'none'",
            "style-src 'self'",
            "img-src 'self'",
            f"form-action 'self' {target}".rstrip(),
            "base-uri 'none'",
            "frame-ancestors 'none'",
        ]
    )
