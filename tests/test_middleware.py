"""`stepup.middleware`: which names are protected, and what it leaves alone."""

from __future__ import annotations

from typing import Any

import pytest
from django.core.exceptions import ImproperlyConfigured
from django.test import Client
from django.urls import include, path

from stepup import Requirement
from stepup.gate import StepUpRequired
from stepup.middleware import StepUpMiddleware, requirement_for
from stepup.testing.provider.launcher import RunningProvider
from tests.urls import payroll
from tests.visitor import Visitor, query

EXACT, SHORT, LONG, ALL = (Requirement(max_age=age) for age in (1, 2, 3, 4))
PROTECTED = {"admin:index": EXACT, "admin:*": SHORT, "admin:auth_*": LONG, "salary": EXACT}


@pytest.mark.parametrize(
    ("view_name", "requirement"),
    [
        ("salary", EXACT),
        ("salary2", None),
        ("hr:salary", None),
        ("admin:index", EXACT),
        ("admin:login", SHORT),
        ("admin:auth_user_changelist", LONG),
        ("administration", None),
        ("", None),
    ],
)
def test_an_exact_name_wins_and_then_the_longest_pattern(view_name: str, requirement: Requirement | None) -> None:
    assert requirement_for(PROTECTED, view_name) is requirement


def test_a_lone_star_is_every_name() -> None:
    assert requirement_for({"*": ALL}, "anything:at:all") is ALL


def test_a_site_that_protects_everything_can_still_be_signed_in_to(visitor: Visitor, settings: Any) -> None:
    settings.STEPUP = {**settings.STEPUP, "PROTECTED_VIEWS": {"*": "mfa"}}

    assert query(visitor.get("/open/")["Location"])["acr_values"]
    assert "acr_values" not in query(visitor.get("/oidc/authenticate/")["Location"])
    assert visitor.step_up("/open/")["Location"] == "/open/"
    assert visitor.get("/open/").status_code == 200
    assert visitor.client.post("/oidc/logout/")["Location"] == "/"


def test_a_list_of_names_is_protected_with_mfa(op: RunningProvider, settings: Any) -> None:
    settings.STEPUP = {**settings.STEPUP, "PROTECTED_VIEWS": ["open"]}
    assert query(Client().get("/open/")["Location"])["acr_values"]
    assert Client().get("/by-name/").status_code == 200


def test_without_protected_views_nothing_is(op: RunningProvider, settings: Any) -> None:
    settings.STEPUP = {**settings.STEPUP, "PROTECTED_VIEWS": {}}
    assert Client().get("/by-name/").status_code == 200


def test_a_page_that_does_not_exist_is_not_found(op: RunningProvider, client: Client) -> None:
    assert client.get("/nowhere/").status_code == 404


def test_other_exceptions_are_not_its_business() -> None:
    assert StepUpMiddleware(lambda request: None).process_exception(object(), ValueError()) is None  # type: ignore[arg-type]


def test_a_mistake_in_the_settings_stops_the_server_where_it_starts(settings: Any) -> None:
    settings.STEPUP = {**settings.STEPUP, "MAXAGE": 5}
    with pytest.raises(ImproperlyConfigured, match="unknown key 'MAXAGE'"):
        StepUpMiddleware(lambda request: None)


def test_raising_it_where_the_requirement_is_satisfied_is_a_plain_refusal_and_no_loop(
    visitor: Visitor, settings: Any
) -> None:
    visitor.step_up("/decorated/")
    settings.ROOT_URLCONF = "tests.test_middleware"
    assert visitor.get("/always/").status_code == 403


def test_an_app_that_is_included_twice_is_protected_under_either_instance(
    op: RunningProvider, client: Client, settings: Any
) -> None:
    settings.ROOT_URLCONF = "tests.test_middleware"
    for path_, named in [
        ("/archive/list/", "payroll:*"),
        ("/archive/list/", "payroll:list"),
        ("/archive/list/", "archive:*"),
    ]:
        settings.STEPUP = {**settings.STEPUP, "PROTECTED_VIEWS": {named: "mfa"}}
        assert client.get(path_).status_code == 302, named


def test_an_exact_name_of_the_instance_wins_over_that_of_the_app() -> None:
    protected = {"archive:list": EXACT, "payroll:list": SHORT, "payroll:*": LONG}
    assert requirement_for(protected, "archive:list", "payroll:list") is EXACT
    assert requirement_for(protected, "old:list", "payroll:list") is SHORT
    assert requirement_for(protected, "old:new", "payroll:new") is LONG


def _always(request: Any) -> Any:
    raise StepUpRequired("mfa")


urlpatterns = [
    path("always/", _always),
    path("archive/", include(payroll, namespace="archive")),
    path("payroll/", include(payroll)),
    path("oidc/", include("stepup.urls")),
]
