"""Where the endpoints and pages are."""

from __future__ import annotations

from django.urls import path

from stepup.testing.provider import views
from stepup.testing.provider.configuration import KEYS_PATH, METADATA_PATH

urlpatterns = [
    path("", views.home, name="home"),
    path(METADATA_PATH, views.metadata),
    path(KEYS_PATH, views.jwks),
    path("authorize", views.authorize),
    path("oauth/par", views.pushed_authorization_request),
    path("oauth/token", views.token),
    path("userinfo", views.userinfo),
    path("oidc/logout", views.end_session),
    path("oidc/logout/confirmed", views.end_session_confirmed, name="end_session_confirmed"),
    path("sign-in/<str:key>", views.sign_in, name="sign_in"),
    path("choose-account/<str:key>", views.choose_account, name="choose_account"),
    path("second-factor/<str:key>", views.second_factor, name="second_factor"),
    path("push/<str:key>", views.push, name="push"),
    path("cancel/<str:key>", views.cancel, name="cancel"),
    path("phone/", views.phone, name="phone"),
    path("phone/<str:username>.svg", views.qr_code, name="qr_code"),
    path("harbour.css", views.stylesheet, name="stylesheet"),
    path("harbour.svg", views.icon, name="icon"),
    path("healthz", views.healthz),
    path("control/requests", views.recorded_requests),
    path("control/authentications", views.recorded_authentications),
    path("control/logouts", views.recorded_logouts),
    path("control/id-token", views.id_token_for),
    path("control/logout-token", views.logout_token_for),
    path("control/logout", views.log_out_from),
    path("control/reset", views.reset),
    path("control/configure", views.configure),
    path("control/clock/<int:milliseconds>", views.set_clock),
    path("control/clock/-<int:milliseconds>", views.set_clock_back),
    path("control/behave/<str:name>", views.behave),
]
