"""`{% satisfies %}`."""

from __future__ import annotations

from typing import Any

from asgiref.sync import async_to_sync
from django.contrib.auth.middleware import AuthenticationMiddleware
from django.contrib.sessions.middleware import SessionMiddleware
from django.http import HttpRequest, HttpResponse
from django.template import engines
from django.test import AsyncRequestFactory

from stepup.decorators import mfa_required
from stepup.testing.provider.launcher import RunningProvider
from tests.visitor import Visitor


def test_a_template_can_ask_what_is_satisfied(visitor: Visitor) -> None:
    assert visitor.get("/").content.endswith(b"|shut")
    visitor.sign_in()
    assert visitor.get("/").content.endswith(b"|shut")
    visitor.step_up("/decorated/")
    assert visitor.get("/").content.endswith(b"|open")


def test_a_template_of_an_asynchronous_view_behind_a_door_can_ask_too(op: RunningProvider) -> None:
    template = engines["django"].from_string('{% load stepup %}{% satisfies "mfa" %}{% satisfies "sudo" %}')

    @mfa_required
    async def view(request: HttpRequest) -> HttpResponse:
        return HttpResponse(template.render({}, request))

    visitor = Visitor("anna")
    visitor.step_up("/decorated/")
    factory = AsyncRequestFactory()
    factory.cookies["sessionid"] = str(visitor.session.session_key)
    request = factory.get("/")
    chain: Any = SessionMiddleware(AuthenticationMiddleware(view))

    assert async_to_sync(chain)(request).content == b"TrueFalse"


def test_without_a_request_nothing_is_satisfied() -> None:
    template = engines["django"].from_string('{% load stepup %}{% satisfies "mfa" %}')
    assert template.render({}) == "False"
