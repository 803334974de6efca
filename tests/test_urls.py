"""`stepup.urls`: the names that mozilla-django-oidc's URLs have, and the classes that its settings name."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from importlib import import_module
from types import ModuleType
from typing import Any

import pytest
from django.contrib.auth import get_user_model
from django.core.exceptions import ImproperlyConfigured
from django.test import Client
from django.urls import resolve, reverse

from stepup.views import (
    AuthenticationCallbackView,
    AuthenticationRequestView,
    BackChannelLogoutView,
    FrontChannelLogoutView,
    LogoutView,
    SignedOutView,
)
from tests.dropin_views import SiteAuthenticationRequestView, SiteCallbackView


@pytest.fixture
def load() -> Iterator[Callable[[], ModuleType]]:
    """Reads the module anew, as a server does when it starts; and puts the one that was there back."""
    before = import_module("stepup.urls")

    def anew() -> ModuleType:
        sys.modules.pop("stepup.urls", None)
        return import_module("stepup.urls")

    yield anew
    sys.modules["stepup.urls"] = before
    sys.modules["stepup"].urls = before  # type: ignore[attr-defined] # where importing a module puts it


def views(module: ModuleType) -> dict[str, tuple[str, type]]:
    return {each.name: (str(each.pattern), each.callback.view_class) for each in module.urlpatterns}


def test_the_names_and_paths_are_those_of_the_base_library(load: Callable[[], ModuleType]) -> None:
    theirs = import_module("mozilla_django_oidc.urls")

    ours = views(load())

    assert {name: path for name, (path, _) in ours.items() if name.startswith("oidc_")} == {
        each.name: str(each.pattern) for each in theirs.urlpatterns
    }
    assert {name: view for name, (_, view) in ours.items()} == {
        "oidc_authentication_init": AuthenticationRequestView,
        "oidc_authentication_callback": AuthenticationCallbackView,
        "oidc_logout": LogoutView,
        "stepup_signed_out": SignedOutView,
        "stepup_backchannel_logout": BackChannelLogoutView,
        "stepup_frontchannel_logout": FrontChannelLogoutView,
    }


def test_included_urls_resolve_both_ways() -> None:
    assert reverse("oidc_authentication_init") == "/oidc/authenticate/"
    assert reverse("oidc_authentication_callback") == "/oidc/callback/"
    assert reverse("oidc_logout") == "/oidc/logout/"
    assert resolve("/oidc/callback/").view_name == "oidc_authentication_callback"


def test_the_classes_that_the_settings_name_are_used(settings: Any, load: Callable[[], ModuleType]) -> None:
    settings.OIDC_AUTHENTICATE_CLASS = "tests.dropin_views.SiteAuthenticationRequestView"
    settings.OIDC_CALLBACK_CLASS = "tests.dropin_views.SiteCallbackView"

    ours = views(load())

    assert ours["oidc_authentication_init"][1] is SiteAuthenticationRequestView
    assert ours["oidc_authentication_callback"][1] is SiteCallbackView


@pytest.mark.parametrize(
    "mistake",
    [
        {"STEPUP": {"ISUER": "https://op.example/"}},
        {"STEPUP": None},
        {"STEPUP": {"REQUIREMENTS": {"mfa": {"max_age": "soon"}}}},
        {"STEPUP": {"PROVIDER": "unheard of"}},
        {"OIDC_RP_CLIENT_ID": ""},
        {"OIDC_RP_SIGN_ALGO": "none"},
        {"OIDC_STATE_SIZE": "32"},
        {"OIDC_AUTH_REQUEST_EXTRA_PARAMS": None},
        {"OIDC_REDIRECT_ALLOWED_HOSTS": None},
    ],
    ids=str,
)
def test_a_mistake_in_the_settings_leaves_the_urls_for_the_system_checks_to_report_it(
    settings: Any, load: Callable[[], ModuleType], mistake: dict[str, Any]
) -> None:
    for name, value in mistake.items():
        setattr(settings, name, value)

    assert len(views(load())) == 6


@pytest.mark.parametrize("setting", ["OIDC_AUTHENTICATE_CLASS", "OIDC_CALLBACK_CLASS"])
def test_a_class_that_is_not_there_is_an_error_where_the_server_starts(
    settings: Any, load: Callable[[], ModuleType], setting: str
) -> None:
    setattr(settings, setting, "tests.dropin_views.Nowhere")

    with pytest.raises(ImportError):
        load()


@pytest.mark.parametrize("target", ["/", "/goodbye/", "home"])
def test_signing_out_leads_where_the_settings_say(db: None, settings: Any, client: Client, target: str) -> None:
    settings.LOGOUT_REDIRECT_URL = target
    client.force_login(get_user_model().objects.create_user("anna"), "django.contrib.auth.backends.ModelBackend")

    response = client.post("/oidc/logout/")

    assert response["Location"] == ("/" if target == "home" else target)
    assert "_auth_user_id" not in client.session


def test_without_that_setting_signing_out_leads_home(db: None, settings: Any, client: Client) -> None:
    assert settings.LOGOUT_REDIRECT_URL is None

    assert client.post("/oidc/logout/")["Location"] == "/"


def test_signing_out_may_lead_by_way_of_the_op(db: None, settings: Any, client: Client) -> None:
    settings.OIDC_OP_LOGOUT_URL_METHOD = "tests.dropin_views.sign_out_url"
    client.force_login(get_user_model().objects.create_user("anna"), "django.contrib.auth.backends.ModelBackend")

    assert client.post("/oidc/logout/")["Location"] == "https://op.example/logout?who=anna"
    assert client.post("/oidc/logout/")["Location"] == "/", "nobody is signed in any more"


def test_signing_out_by_get_is_refused_and_with_a_foreign_form_too(db: None) -> None:
    client = Client(enforce_csrf_checks=True)
    client.force_login(get_user_model().objects.create_user("anna"), "django.contrib.auth.backends.ModelBackend")

    assert client.get("/oidc/logout/").status_code == 405
    assert client.post("/oidc/logout/").status_code == 403
    assert "_auth_user_id" in client.session


def test_a_site_with_a_mistake_in_its_settings_lets_nobody_in(db: None, settings: Any, client: Client) -> None:
    settings.MIDDLEWARE = [name for name in settings.MIDDLEWARE if "stepup" not in name]
    settings.STEPUP = {**settings.STEPUP, "ISUER": "https://op.example/"}

    for path in ("/oidc/authenticate/", "/oidc/callback/?state=x&code=y", "/decorated/"):
        with pytest.raises(ImproperlyConfigured):
            client.get(path)
