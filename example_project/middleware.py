"""The response headers of the example: a Content-Security-Policy without a single exception for inline code.

Django 6.0 brings a middleware for this, Django 5.2 does not, so the example has its own few lines.
"""

from __future__ import annotations

from collections.abc import Callable

from django.conf import settings
from django.http import HttpRequest, HttpResponse


class ContentSecurityPolicyMiddleware:
    """Sends ``Content-Security-Policy`` with every answer."""

    def __init__(self, get_response: Callable[[HttpRequest], HttpResponse]) -> None:
        self.get_response = get_response
        # Signing out, and a form that needs a step-up, are answered with a redirect to the OP, and browsers apply
        # form-action to the redirect as well: without the OP in the list, both would stop half-way.
        self.policy = "; ".join(
            (
                "default-src 'none'",
                "style-src 'self'",
                "img-src 'self'",
                # For the page that sends a kept form by itself.
                "script-src 'self'",
                f"form-action 'self' {settings.STEPUP['ISSUER']}",
                "base-uri 'none'",
                "frame-ancestors 'none'",
            )
        )

    def __call__(self, request: HttpRequest) -> HttpResponse:
        response = self.get_response(request)
        response.headers.setdefault("Content-Security-Policy", self.policy)
        return response
