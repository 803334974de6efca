"""The round trip of one site or another, at the same addresses."""

from __future__ import annotations

from typing import Any

from django.conf import settings as django_settings
from django.http import HttpRequest, HttpResponse
from django.urls import include, path


def home(request: HttpRequest) -> HttpResponse:
    return HttpResponse()


settings: Any = django_settings

urlpatterns = [path("", home), path("oidc/", include(settings.ROUND_TRIP_URLS))]
