"""The round trip's URLs, for a site that does not have mozilla-django-oidc's yet. Their names are the same."""

from __future__ import annotations

from django.urls import path
from django.utils.module_loading import import_string

from stepup import conf
from stepup.views import LogoutView

_settings = conf.best_effort()

urlpatterns = [
    path("callback/", import_string(_settings.callback_class).as_view(), name="oidc_authentication_callback"),
    path("authenticate/", import_string(_settings.authenticate_class).as_view(), name="oidc_authentication_init"),
    path("logout/", LogoutView.as_view(), name="oidc_logout"),
]
