"""Reads an answer of the site: whether it is a challenge, and for what."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any
from urllib.parse import parse_qs, urlsplit

from django.http import HttpRequest
from django.test import RequestFactory
from django.urls import reverse

from stepup import challenge, clock, conf, session
from stepup.assurance import Requirement

__all__ = ["Asked", "asked_by", "leads_to_own_page", "request_of"]


@dataclass(frozen=True, slots=True)
class Asked:
    """What a challenge asks for.

    Attributes:
        requirement: ``None`` where signing in is all.
        start: the address on the site that leads to the provider; empty where the answer leads there itself.
    """

    requirement: Requirement | None
    start: str = ""


def request_of(response: Any) -> HttpRequest:
    """The request that a test client has got this response to."""
    request: HttpRequest | None = getattr(response, "wsgi_request", None) or getattr(response, "asgi_request", None)
    if request is None:
        raise AssertionError(f"{type(response).__name__} is no response that Django's test client has got.")
    return request


def asked_by(response: Any) -> Asked | None:
    """What a response asks for; ``None`` where it is no challenge."""
    request = request_of(response)
    url = response.headers.get("HX-Redirect") or response.headers.get("Location", "")
    if not url and response.status_code == 401 and "json" in response.headers.get("Content-Type", ""):
        url = response.json().get("step_up_url", "")
    if not url and response.status_code == 403 and response.context is not None:
        url = response.context.get("step_up_url", "")
    if not isinstance(url, str) or not url:
        return None
    if urlsplit(url).path == reverse("oidc_authentication_init"):
        return Asked(challenge.requirement_from(RequestFactory().get(url)), url)
    return _of_redirect(request, url)


def leads_to_own_page(response: Any, requirement: Requirement) -> bool:
    """Whether a response leads to a page of the site's own where a requirement, or a part of it, is proved."""
    location = response.headers.get("Location", "")
    pages = (part.step_up_url for part in requirement.parts if part.step_up_url)
    urls = (page if page.startswith("/") else reverse(page) for page in pages)
    return any(location.startswith(f"{url}{'&' if '?' in url else '?'}") for url in urls)


def _of_redirect(request: HttpRequest, url: str) -> Asked | None:
    """What a redirect to the provider asks for: the session knows, which waits for its answer."""
    settings = conf.current()
    pending = session.pendings(request, settings, now=clock.now()) if hasattr(request, "session") else []
    if not urlsplit(url).netloc or not pending:
        return None
    states = parse_qs(urlsplit(url).query).get("state")
    if states is not None:
        pending = [each for each in pending if [each.state] == states]
    # A request that was pushed shows no state. It is the newest.
    return Asked(pending[-1].requirement) if pending else None
