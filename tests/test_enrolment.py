"""Somebody without a second factor: the page says how to get one, as the requirement has it, and stays shut."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest
from django.contrib.auth.models import AnonymousUser

from stepup import Requirement, conf, verdicts
from stepup.assurance import is_link
from stepup.testing.provider.launcher import RunningProvider
from stepup.verdicts import Verdict
from tests.urls import SECRET
from tests.visitor import Visitor, query

Visit = Callable[[str], Visitor]

ENROL = "https://account.example/factors?back={return_url}&x=1"


def require(settings: Any, **mfa: Any) -> None:
    settings.STEPUP = {**settings.STEPUP, "REQUIREMENTS": {"mfa": mfa, "sudo": {"max_age": 300}}}


def text_of(page: Any) -> str:
    text: str = page.content.decode()
    return text


@pytest.fixture
def cleo(op: RunningProvider, visit: Visit) -> Visitor:
    """Who has no second factor."""
    return visit("cleo")


def test_who_has_none_is_told_to_set_one_up_and_sees_nothing(cleo: Visitor) -> None:
    page = cleo.come_back(cleo.authenticate(cleo.get("/decorated/"), None))

    assert (page.status_code, page.context["verdict"]) == (403, "declined")
    assert "set one up at your sign-in service first, or ask whoever looks after this site how to." in text_of(page)
    assert page.context["enrol_url"] == ""
    assert cleo.get("/decorated/").status_code == 302


def test_who_has_none_is_led_to_where_one_is_set_up_and_from_there_back_to_the_step_up(
    cleo: Visitor, settings: Any
) -> None:
    require(settings, unenrolled="enrol", enrol_url=ENROL)
    page = cleo.come_back(cleo.authenticate(cleo.get("/decorated/"), None))

    assert (page.status_code, page.context["verdict"]) == (403, "declined")
    assert "set one up first. Then come back here." in text_of(page)
    assert "Set up a second factor</a>" in text_of(page)
    led = urlsplit(page.context["enrol_url"])
    assert (led.scheme, led.hostname) == ("https", "account.example")
    back = parse_qs(led.query)
    assert back["x"] == ["1"]
    (return_url,) = back["back"]
    assert return_url == f"http://testserver{page.context['retry_url']}"
    asked = cleo.get(return_url.removeprefix("http://testserver"))
    assert query(asked["Location"])["acr_values"], "it asks for what it asked for before"
    assert cleo.get("/decorated/").status_code == 302, "and nothing is lowered"


@pytest.mark.parametrize("unenrolled", ["deny", "enrol"])
def test_neither_way_opens_the_page_to_a_password(cleo: Visitor, settings: Any, unenrolled: str) -> None:
    require(settings, unenrolled=unenrolled, enrol_url=ENROL)
    cleo.sign_in()
    for _ in range(2):
        cleo.come_back(cleo.authenticate(cleo.get("/decorated/"), None))
    assert cleo.get("/decorated/").content.decode() != SECRET


def test_an_op_that_says_nothing_leads_there_too(op: RunningProvider, visitor: Visitor, settings: Any) -> None:
    require(settings, unenrolled="enrol", enrol_url="/own/enrolment/")
    op.behave("ignores_acr_values")
    page = visitor.come_back(visitor.authenticate(visitor.get("/decorated/"), None))
    assert page.context["verdict"] == "proof_missing"
    assert 'href="/own/enrolment/"' in text_of(page)


MFA = Requirement(amr=("mfa",), enrol_url=ENROL, unenrolled="enrol", documentation_url="https://help.example/mfa")


@pytest.mark.parametrize("verdict", [verdict for verdict in Verdict if verdict is not Verdict.SATISFIED])
def test_only_where_a_second_factor_may_be_what_is_missing_it_is_spoken_of(rf: Any, verdict: Verdict) -> None:
    page = verdicts.page(rf.get("/"), verdict, user=AnonymousUser(), requirement=MFA)
    speaks = verdict in {Verdict.IGNORED, Verdict.PROOF_MISSING, Verdict.DECLINED, Verdict.UNMET, Verdict.EXHAUSTED}
    assert ("second factor yet, set one up" in text_of(page)) is speaks
    assert ("account.example" in text_of(page)) is speaks


@pytest.mark.parametrize("requirement", [None, Requirement(max_age=300, unenrolled="enrol", enrol_url=ENROL)])
def test_to_confirm_once_more_takes_no_second_factor(rf: Any, requirement: Requirement | None) -> None:
    page = verdicts.page(rf.get("/"), Verdict.DECLINED, user=AnonymousUser(), requirement=requirement)
    assert "second factor" not in text_of(page)


def test_where_no_other_try_is_offered_the_way_back_is_the_start_page(rf: Any) -> None:
    page = verdicts.page(rf.get("/"), Verdict.EXHAUSTED, user=AnonymousUser(), requirement=MFA, wait=60)
    assert "back=http%3A%2F%2Ftestserver%2F&amp;x=1" in text_of(page)


def test_one_of_several_requirements_may_lead_there(rf: Any) -> None:
    both = Requirement.all_of(Requirement(acr=("gold",)), MFA)
    page = verdicts.page(rf.get("/"), Verdict.UNMET, user=AnonymousUser(), requirement=both)
    assert "https://account.example/factors" in text_of(page)
    assert 'href="https://help.example/mfa"' in text_of(page)


def test_the_requirement_has_a_page_of_its_own_to_read_about_it(visitor: Visitor, settings: Any) -> None:
    settings.STEPUP = {**settings.STEPUP, "DOCUMENTATION_URL": "https://help.example/"}
    require(settings, documentation_url="/help/mfa/")
    visitor.sign_in()
    page = visitor.come_back(visitor.authenticate(visitor.get("/decorated/"), cancel=True))
    assert 'href="/help/mfa/"' in text_of(page)
    page = visitor.come_back(visitor.authenticate(visitor.get("/oidc/authenticate/?stepup=sudo&again=1"), cancel=True))
    assert 'href="https://help.example/"' in text_of(page)


# ---- What may be linked to ----


@pytest.mark.parametrize(
    "url",
    ["https://help.example/", "http://localhost:8000/x?y=z#w", "/", "/help/", "https://a.example/{return_url}"],
)
def test_pages_of_the_web_and_of_the_site_may_be_linked_to(url: str) -> None:
    assert is_link(url)
    assert Requirement(amr=("mfa",), enrol_url=url, documentation_url=url).enrol_url == url


@pytest.mark.parametrize(
    "url",
    [
        "javascript:alert(1)", "JavaScript:alert(1)", " javascript:alert(1)", "java\nscript:alert(1)",
        "data:text/html,x",
        "mailto:help@example.org", "//evil.example/", "/\\evil.example", "\\\\evil.example", "https:evil.example",
        "https://", "https:///x", "help/", "?x", "https://a.example/ x", 'https://a.example/"',
        "https://a.example/<x>",
        "/\thelp", None, 5, b"/help/",
    ],
)  # fmt: skip
@pytest.mark.parametrize("key", ["documentation_url", "enrol_url"])
def test_nothing_else_may_be(settings: Any, url: Any, key: str) -> None:
    with pytest.raises(ValueError, match=rf"^{key}: must be an http or https URL, or a path of this site$"):
        Requirement(amr=("mfa",), **{key: url})
    require(settings, **{key: url})
    (problem,) = conf.problems()
    assert problem.id == "E005"
    settings.STEPUP = {"ISSUER": "https://op.example/", "DOCUMENTATION_URL": url}
    (problem,) = conf.problems()
    assert problem.id == "E003"
