"""The round trip's URLs, for a site that does not have mozilla-django-oidc's yet. Their names are the same.

Those with names of their own are for the OP: where it sends the browser after signing out, and where it says that
somebody has signed out. The latter two are not found unless the settings switch them on.
"""

from __future__ import annotations

from django.urls import path
from django.utils.module_loading import import_string

from stepup import conf
from stepup.sign_out import BackChannelLogoutView, FrontChannelLogoutView, LogoutView, SignedOutView

_settings = conf.best_effort()

urlpatterns = [
    path("callback/", import_string(_settings.callback_class).as_view(), name="oidc_authentication_callback"),
    path("authenticate/", import_string(_settings.authenticate_class).as_view(), name="oidc_authentication_init"),
    path("logout/", LogoutView.as_view(), name="oidc_logout"),
    path("signed-out/", SignedOutView.as_view(), name="stepup_signed_out"),
    path("backchannel-logout/", BackChannelLogoutView.as_view(), name="stepup_backchannel_logout"),
    path("frontchannel-logout/", FrontChannelLogoutView.as_view(), name="stepup_frontchannel_logout"),
]
