"""The views of a site that used mozilla-django-oidc before."""

from __future__ import annotations

from typing import Any

from django.http import HttpRequest, HttpResponse
from django.urls import reverse

from stepup.decorators import mfa_required
from stepup.views import AuthenticationCallbackView, AuthenticationRequestView


class SiteAuthenticationRequestView(AuthenticationRequestView):
    """Changes what it is given, as such overrides do."""

    def get_extra_params(self, request: HttpRequest) -> dict[str, Any]:
        params: dict[str, Any] = super().get_extra_params(request)
        params["ui_locales"] = "sv" if request.COOKIES.get("language") == "sv" else "en"
        return params


class OldAuthenticationRequestView(AuthenticationRequestView):
    """Uses what the base class has on itself."""

    def get_extra_params(self, request: HttpRequest) -> dict[str, Any]:
        own = {"from": self.request.path, "at": self.OIDC_OP_AUTH_ENDPOINT, "client": self.OIDC_RP_CLIENT_ID}
        return {**super().get_extra_params(request), **own}


class SiteCallbackView(AuthenticationCallbackView):
    @property
    def success_url(self) -> str:
        url = super().success_url
        return reverse("welcome") if url == "/" else url

    def login_success(self) -> HttpResponse:
        self.request.session["greeted"] = self.user.first_name
        return super().login_success()

    def login_failure(self) -> HttpResponse:
        response = super().login_failure()
        response["X-Site"] = "sorry"
        return response


def home(request: HttpRequest) -> HttpResponse:
    return HttpResponse(f"{request.user.get_username()}|{request.method}")


@mfa_required
def salary(request: HttpRequest) -> HttpResponse:
    return HttpResponse("the salary list")


def sign_out_url(request: HttpRequest) -> str:
    """For `OIDC_OP_LOGOUT_URL_METHOD`."""
    return f"https://op.example/logout?who={request.user.get_username()}"
