"""Forms behind every kind of door, and views that say what reached them."""

from __future__ import annotations

import base64
import hashlib
from typing import Any

from asgiref.sync import iscoroutinefunction, sync_to_async
from django.core.cache.backends.locmem import LocMemCache
from django.core.files.uploadhandler import MemoryFileUploadHandler
from django.http import HttpRequest, HttpResponse, JsonResponse
from django.middleware.csrf import get_token
from django.urls import include, path
from django.utils.decorators import method_decorator
from django.utils.encoding import force_str
from django.views.decorators.csrf import csrf_exempt, csrf_protect
from django.views.generic import View

from stepup import Requirement, gate
from stepup.decorators import mfa_required, stepup_required
from stepup.gate import StepUpRequired
from stepup.kept import MARK
from stepup.mixins import MFARequiredMixin

#: What has reached the views, request by request.
SEEN: list[dict[str, Any]] = []
#: What middleware of the site has seen of them: when, of what amount, and whether it stood for a form.
GUARDED: list[tuple[str, str | None, bool]] = []


def see(request: HttpRequest) -> HttpResponse:
    seen = {
        "path": request.get_full_path(),
        "get": dict(request.GET.lists()),
        "post": {name: values for name, values in request.POST.lists() if name != "csrfmiddlewaretoken"},
        "token": request.POST.getlist("csrfmiddlewaretoken"),
        "files": [
            (
                name,
                file.name,
                file.content_type,
                file.charset and force_str(file.charset),
                hashlib.sha256(file.read()).hexdigest(),
            )
            for name, files in request.FILES.lists()
            for file in files
        ],
        "type": request.content_type,
        "header": request.headers["Content-Type"],
        "referer": request.headers.get("Referer"),
        "user": getattr(request.user, "email", ""),
    }
    if request.content_type != "multipart/form-data":
        seen["body"] = base64.b64encode(request.body).decode()
        seen["length"] = request.META["CONTENT_LENGTH"] == str(len(request.body))
    SEEN.append(seen)
    return JsonResponse(seen)


def form(request: HttpRequest) -> HttpResponse:
    """An open page with a form on it."""
    return HttpResponse(get_token(request))


def plain(request: HttpRequest) -> HttpResponse:
    return see(request)


async def aplain(request: HttpRequest) -> HttpResponse:
    return see(request)


def raising(request: HttpRequest) -> HttpResponse:
    assert request.POST is not None
    gate.demand(request, "mfa")
    return see(request)


async def araising(request: HttpRequest) -> HttpResponse:
    if not await gate.adecide(request, "mfa"):
        raise StepUpRequired("mfa")
    return see(request)


class Page(MFARequiredMixin, View):
    def post(self, request: HttpRequest) -> HttpResponse:
        return see(request)


class AsyncPage(MFARequiredMixin, View):
    async def post(self, request: HttpRequest) -> HttpResponse:
        return see(request)


class NotKeeping(Page):
    keep_form = False


@method_decorator(mfa_required(keep_form=False), name="dispatch")
class Decorated(View):
    def post(self, request: HttpRequest) -> HttpResponse:
        return see(request)


class OnMethod(View):
    @method_decorator(mfa_required(keep_form=False))
    def post(self, request: HttpRequest) -> HttpResponse:
        return see(request)


@method_decorator(mfa_required, name="dispatch")
class OnMethodInside(OnMethod):
    """Has a door before that of the method."""


async def asee(request: HttpRequest) -> HttpResponse:
    return await sync_to_async(see)(request)


def hidden(view: Any) -> Any:
    """A decorator that hides what others have noted on a view."""

    async def ainner(request: HttpRequest) -> Any:
        return await view(request)

    def inner(request: HttpRequest) -> Any:
        return view(request)

    return ainner if iscoroutinefunction(view) else inner


class Upper(MemoryFileUploadHandler):
    """An upload handler of a view's own."""

    def receive_data_chunk(self, raw_data: bytes, start: int) -> bytes | None:
        return super().receive_data_chunk(raw_data.upper(), start)


@csrf_exempt
@mfa_required
def uploading(request: HttpRequest) -> HttpResponse:
    request.upload_handlers = [Upper(request)]
    return csrf_protect(see)(request)


@mfa_required
def streaming(request: HttpRequest) -> HttpResponse:
    """Takes the body before it asks for more."""
    request.read(1)
    raise StepUpRequired("never")


class Guard:
    """Middleware that looks at forms twice: as the request comes in, and when its view is known."""

    def __init__(self, get_response: Any) -> None:
        self.get_response = get_response

    def __call__(self, request: HttpRequest) -> Any:
        GUARDED.append(("request", request.POST.get("amount"), MARK in request.GET))
        return self.get_response(request)

    def process_view(self, request: HttpRequest, view: Any, args: Any, kwargs: Any) -> HttpResponse | None:
        amount = request.POST.get("amount")
        GUARDED.append(("view", amount, MARK in request.GET))
        return HttpResponse(status=418) if amount == "too much" else None


class Full(LocMemCache):
    """A cache that takes no large value and says so with an error of its own, as memcached does."""

    def add(self, key: Any, value: Any, *args: Any, **kwargs: Any) -> bool:
        if len(repr(value)) > 4000:
            raise RuntimeError("object too large for cache")
        return super().add(key, value, *args, **kwargs)


NOW = Requirement(max_age=0, name="now")

urlpatterns = [
    path("oidc/", include("stepup.urls")),
    path("form/", form),
    path("decorated/", mfa_required(plain)),
    path("decorated/other/", mfa_required(plain)),
    path("decorated-async/", mfa_required(aplain)),
    path("class/", Page.as_view()),
    path("class-async/", AsyncPage.as_view()),
    path("by-name/", plain, name="by-name"),
    path("by-name-async/", aplain, name="by-name-async"),
    path("raised/", raising),
    path("raised-async/", araising),
    path("open/", plain),
    path("two-doors/", mfa_required(stepup_required("sudo")(plain))),
    path("two-doors-turned/", stepup_required("sudo")(mfa_required(plain))),
    path("door-and-raised/", mfa_required(raising)),
    path("now/", stepup_required(NOW)(plain)),
    path("now/other/", stepup_required(NOW)(plain)),
    path("aged/", stepup_required("sudo", max_age=300, submit_max_age=3600)(plain)),
    path("strict/", stepup_required("sudo", max_age=0, submit_max_age=600)(plain)),
    path("once/", stepup_required("mfa", max_age=0, submit_max_age=0)(plain)),
    path("both/", stepup_required("mfa", "sudo")(plain)),
    path("both-picked/", stepup_required(lambda request: ("mfa", "sudo"))(plain)),
    path("exempt/", csrf_exempt(mfa_required(plain))),
    path("not-keeping-method/", OnMethod.as_view()),
    path("not-keeping-method-inside/", OnMethodInside.as_view()),
    path("not-keeping-method-by-name/", OnMethod.as_view(), name="by-name-method"),
    path("not-keeping-hidden-raised/", hidden(stepup_required("sudo", keep_form=False)(raising))),
    path("not-keeping-hidden-as-view/", hidden(Page.as_view(keep_form=False))),
    path("not-keeping-hidden-async/", hidden(mfa_required(keep_form=False)(asee))),
    path("not-keeping-hidden/", hidden(mfa_required(keep_form=False)(plain))),
    path("not-keeping-hidden-class/", hidden(NotKeeping.as_view())),
    path("exempt-protected/", csrf_exempt(mfa_required(csrf_protect(plain)))),
    path("uploading/", uploading),
    path("streaming/", csrf_exempt(streaming)),
    path("not-keeping/", mfa_required(keep_form=False)(plain)),
    path("not-keeping-stepup/", stepup_required("mfa", keep_form=False)(plain)),
    path("not-keeping-inside/", csrf_exempt(stepup_required("sudo")(mfa_required(keep_form=False)(plain)))),
    path("not-keeping-class/", NotKeeping.as_view()),
    path("not-keeping-as-view/", Page.as_view(keep_form=False)),
    path("not-keeping-decorated-class/", Decorated.as_view()),
]

DOORS = [
    "/decorated/",
    "/decorated-async/",
    "/class/",
    "/class-async/",
    "/by-name/",
    "/by-name-async/",
    "/raised/",
    "/raised-async/",
    "/door-and-raised/",
]
