"""`stepup.decorators`: bare and called, and mistakes that show when the view is defined."""

from __future__ import annotations

from typing import Any

import pytest
from asgiref.sync import async_to_sync
from django.http import HttpRequest, HttpResponse
from django.utils.decorators import method_decorator
from django.views.decorators.csrf import csrf_exempt
from django.views.generic import View

from stepup import Requirement
from stepup.decorators import mfa_required, stepup_required
from stepup.gate import Aged
from tests.visitor import Visitor


def view(request: HttpRequest) -> HttpResponse:
    """A view."""
    return HttpResponse()


def picked(request: HttpRequest) -> str:
    return "sudo"


@pytest.mark.parametrize(
    ("decorated", "needs"),
    [
        (mfa_required(view), "mfa"),
        (mfa_required()(view), "mfa"),
        (mfa_required(max_age=60)(view), Aged("mfa", 60)),
        (stepup_required(view), "mfa"),
        (stepup_required()(view), "mfa"),
        (stepup_required("sudo")(view), "sudo"),
        (stepup_required("sudo", max_age=60)(view), Aged("sudo", 60)),
        (mfa_required(max_age=60, submit_max_age=90)(view), Aged("mfa", 60, 90)),
        (stepup_required("sudo", max_age=60, submit_max_age=90)(view), Aged("sudo", 60, 90)),
        (stepup_required("mfa", "sudo")(view), ("mfa", "sudo")),
        (stepup_required(Requirement(max_age=5))(view), Requirement(max_age=5)),
        (stepup_required(picked)(view), picked),
    ],
)
def test_a_view_keeps_its_name_and_says_what_it_requires(decorated: Any, needs: Any) -> None:
    assert (decorated.__name__, decorated.__doc__) == ("view", "A view.")
    assert decorated.stepup_requirement == needs
    assert decorated.login_required is False


def test_what_other_decorators_have_noted_is_kept() -> None:
    decorated: Any = mfa_required(csrf_exempt(view))
    assert decorated.csrf_exempt is True


def test_the_dispatch_of_an_asynchronous_class_is_decorated_as_asynchronous(visitor: Visitor) -> None:
    @method_decorator(mfa_required, name="dispatch")
    class Page(View):
        async def get(self, request: HttpRequest) -> HttpResponse:
            return HttpResponse("shown")

    visitor.step_up("/decorated/")
    request = visitor.get("/open/").wsgi_request

    page: Any = Page.as_view()
    response = async_to_sync(page)(request)

    assert response.content == b"shown"
    assert "no-store" in response["Cache-Control"]
    visitor.client.logout()
    request = visitor.get("/open/").wsgi_request
    assert async_to_sync(page)(request).status_code == 302


def test_the_dispatch_of_a_class_may_be_decorated(visitor: Visitor) -> None:
    @method_decorator(mfa_required, name="dispatch")
    class Page(View):
        def get(self, request: HttpRequest) -> HttpResponse:
            return HttpResponse("shown")

    page: Any = Page.as_view()
    assert page(visitor.get("/open/").wsgi_request).status_code == 302
    visitor.step_up("/decorated/")
    assert page(visitor.get("/open/").wsgi_request).content == b"shown"


@pytest.mark.parametrize("requirement", [Requirement(max_age=5), view])
def test_a_max_age_goes_with_a_name_alone(requirement: Any) -> None:
    with pytest.raises(TypeError, match="name of a requirement"):
        stepup_required(requirement, max_age=5)


@pytest.mark.parametrize("decorate", [mfa_required, stepup_required("sudo"), mfa_required(max_age=5)])
def test_a_class_is_no_place_for_a_decorator(decorate: Any) -> None:
    with pytest.raises(TypeError, match=r"Page is a class: use stepup\.mixins"):

        @decorate
        class Page(View):
            pass


def test_a_bad_max_age_shows_when_the_view_is_defined() -> None:
    with pytest.raises(ValueError, match="max_age"):
        mfa_required(max_age=-5)
