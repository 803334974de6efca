"""Reads an answer of the site: whether it is a challenge, and for what."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

from django.http import HttpRequest
from django.test import RequestFactory
from django.urls import reverse

from stepup import challenge
from stepup.assurance import Requirement

__all__ = ["Asked", "asked_by", "request_of"]


@dataclass(frozen=True, slots=True)
class Asked:
    """What a challenge asks for.

    Attributes:
        requirement: ``None`` where signing in is all.
        start: the address on the site that leads to the provider; empty where the answer leads there itself.
        page: the address of the page of the site's own where it is proved; empty where that is at the provider.
    """

    requirement: Requirement | None
    start: str = ""
    page: str = ""


def request_of(response: Any) -> HttpRequest:
    """The request that a test client has got this response to."""
    request: HttpRequest | None = getattr(response, "wsgi_request", None) or getattr(response, "asgi_request", None)
    if request is None:
        raise AssertionError(f"{type(response).__name__} is no response that Django's test client has got.")
    return request


def asked_by(response: Any) -> Asked | None:
    """What a response asks for; ``None`` where it is no challenge."""
    request, location = request_of(response), response.headers.get("Location", "")
    start = response.headers.get("HX-Redirect") or location or _start_in(response)
    if start and _is_start(request, start):
        try:
            return Asked(challenge.requirement_from(RequestFactory().get(start)), start)
        except ValueError:
            return None  # of which this site knows nothing: whoever goes there is told so
    # A redirect, to wherever it leads, and an answer without a body say it in no other way.
    if not hasattr(response, "_stepup_requirement"):
        return None
    return Asked(response._stepup_requirement, page="" if urlsplit(location).netloc else location)


def _start_in(response: Any) -> str:
    """The address that the body of a response has for its reader, a script or a person; empty where it has none."""
    said: Any = None
    if response.status_code == 401 and "json" in response.headers.get("Content-Type", ""):
        try:
            said = json.loads(getattr(response, "content", b""))  # a response that is streamed has none
        except ValueError:
            return ""
    elif response.status_code == 403:
        said = response.context
    # What a template was given is no dictionary, and is asked in the same way.
    url = said.get("step_up_url", "") if hasattr(said, "get") else ""
    return url if isinstance(url, str) else ""


def _is_start(request: HttpRequest, url: str) -> bool:
    parts = urlsplit(url)
    return parts.path == reverse("oidc_authentication_init") and parts.netloc in ("", request.get_host())
