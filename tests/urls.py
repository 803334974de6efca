"""One view behind each kind of door, synchronous and asynchronous."""

from __future__ import annotations

from django.http import HttpRequest, HttpResponse
from django.template import engines
from django.urls import include, path
from django.views.generic import View

from stepup import Requirement, gate
from stepup.decorators import mfa_required, stepup_required
from stepup.gate import StepUpRequired
from stepup.mixins import MFARequiredMixin, StepUpRequiredMixin

SECRET = "the salary list"


def plain(request: HttpRequest) -> HttpResponse:
    return HttpResponse(SECRET)


async def aplain(request: HttpRequest) -> HttpResponse:
    return HttpResponse(SECRET)


def home(request: HttpRequest) -> HttpResponse:
    template = engines["django"].from_string(
        '{% load stepup %}{% satisfies "mfa" as ok %}{{ user.get_username }}|{{ ok|yesno:"open,shut" }}'
    )
    return HttpResponse(template.render({}, request))


def raising(request: HttpRequest) -> HttpResponse:
    gate.demand(request, "mfa")
    return HttpResponse(SECRET)


async def araising(request: HttpRequest) -> HttpResponse:
    if not await gate.adecide(request, "mfa"):
        raise StepUpRequired("mfa")
    gate.remember(request)
    return HttpResponse(SECRET)


class Page(MFARequiredMixin, View):
    def get(self, request: HttpRequest) -> HttpResponse:
        return HttpResponse(SECRET)

    post = get


class AsyncPage(MFARequiredMixin, View):
    async def get(self, request: HttpRequest) -> HttpResponse:
        return HttpResponse(SECRET)

    async def post(self, request: HttpRequest) -> HttpResponse:
        return HttpResponse(SECRET)


class Sudo(StepUpRequiredMixin, View):
    requirement = "sudo"

    def get(self, request: HttpRequest) -> HttpResponse:
        return HttpResponse(SECRET)


def picked(request: HttpRequest) -> str:
    return "mfa"


payroll = ([path("list/", plain, name="list")], "payroll")

urlpatterns = [
    path("", home, name="home"),
    path("oidc/", include("stepup.urls")),
    path("open/", plain, name="open"),
    path("decorated/", mfa_required(plain), name="decorated"),
    path("decorated-called/", mfa_required()(plain), name="decorated-called"),
    path("decorated-async/", mfa_required(aplain), name="decorated-async"),
    path("stepup-bare/", stepup_required(plain), name="stepup-bare"),
    path("stepup-bare-async/", stepup_required(aplain), name="stepup-bare-async"),
    path("stepup-named/", stepup_required("mfa")(plain), name="stepup-named"),
    path("stepup-picked/", stepup_required(picked)(plain), name="stepup-picked"),
    path("stepup-picked-async/", stepup_required(picked)(aplain), name="stepup-picked-async"),
    path("class/", Page.as_view(), name="class"),
    path("class-async/", AsyncPage.as_view(), name="class-async"),
    path("by-name/", plain, name="by-name"),
    path("payroll/", include(payroll)),
    path("raised/", raising, name="raised"),
    path("raised-async/", araising, name="raised-async"),
    path("fresh/", mfa_required(max_age=300)(plain), name="fresh"),
    path("sudo/", stepup_required("sudo")(plain), name="sudo"),
    path("sudo-class/", Sudo.as_view(), name="sudo-class"),
    path("own/", stepup_required(Requirement(acr=("urn:own",), acr_values=("urn:own",)))(plain), name="own"),
]

#: The doors that ask for the requirement "mfa" as it is defined, by the path behind them.
MFA_DOORS = [
    "/decorated/",
    "/decorated-called/",
    "/decorated-async/",
    "/stepup-bare/",
    "/stepup-bare-async/",
    "/stepup-named/",
    "/stepup-picked/",
    "/stepup-picked-async/",
    "/class/",
    "/class-async/",
    "/by-name/",
    "/payroll/list/",
    "/raised/",
    "/raised-async/",
]
