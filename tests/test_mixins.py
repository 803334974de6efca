"""`stepup.mixins`: the mixin before the view, and nowhere else."""

from __future__ import annotations

from typing import Any

import pytest
from django.http import HttpRequest, HttpResponse
from django.test import Client
from django.views.generic import ListView, View

from stepup import Requirement
from stepup.mixins import MFARequiredMixin, StepUpRequiredMixin
from stepup.testing.provider.launcher import RunningProvider
from tests.visitor import Visitor, query


@pytest.mark.parametrize("view", [View, ListView])
def test_a_mixin_behind_the_view_would_protect_nothing_and_is_a_mistake(view: type[View]) -> None:
    with pytest.raises(TypeError, match="has to stand before the view"):
        type("Page", (view, MFARequiredMixin), {})


def test_a_mixin_of_the_sites_own_may_come_between() -> None:
    class Base(MFARequiredMixin):
        requirement = "sudo"

    class Page(Base, View):
        pass

    assert Page.as_view().stepup_requirement == "sudo"  # type: ignore[attr-defined]


def test_the_requirement_may_be_given_to_as_view() -> None:
    class Page(StepUpRequiredMixin, View):
        pass

    assert Page.as_view(requirement="sudo").stepup_requirement == "sudo"  # type: ignore[attr-defined]
    assert Page.as_view().stepup_requirement == "mfa"  # type: ignore[attr-defined]


def test_the_requirement_may_depend_on_the_request(op: RunningProvider, rf: Any) -> None:
    class Page(StepUpRequiredMixin, View):
        def get_requirement(self) -> Requirement:
            return Requirement(acr=(self.request.GET["acr"],), acr_values=(self.request.GET["acr"],))

        def get(self, request: HttpRequest) -> HttpResponse:
            return HttpResponse("shown")

    client = Client()
    request = client.get("/open/", {"acr": "urn:gold"}).wsgi_request

    response = Page.as_view()(request)

    assert query(response["Location"])["acr_values"] == "urn:gold"


def test_a_named_requirement_of_a_class_is_asked_and_proved(visitor: Visitor) -> None:
    challenge = visitor.get("/sudo-class/")
    assert query(challenge["Location"])["max_age"] == "300"
    assert visitor.come_back(visitor.authenticate(challenge, None))["Location"] == "/sudo-class/"
    assert visitor.get("/sudo-class/").status_code == 200
