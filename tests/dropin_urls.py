"""The URLs of a site that used mozilla-django-oidc before: it still includes that library's."""

from __future__ import annotations

from django.urls import include, path

from tests.dropin_views import home, salary

urlpatterns = [
    path("", home, name="home"),
    path("welcome/", home, name="welcome"),
    path("notes/", home, name="notes"),
    path("salary/", salary, name="salary"),
    path("oidc/", include("mozilla_django_oidc.urls")),
]
