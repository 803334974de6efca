"""Several requirements at once, each with an age of its own, and forms that may be sent for longer."""

from __future__ import annotations

import json
import logging
from collections.abc import Iterator
from typing import Any

import pytest
from django.contrib.auth.forms import SetPasswordForm
from django.contrib.auth.views import PasswordChangeView
from django.http import HttpRequest, HttpResponse
from django.template import engines
from django.urls import path
from django.views.generic import View

from stepup import Requirement, clock
from stepup.decorators import mfa_required, stepup_required
from stepup.dialects import MULTI_FACTOR
from stepup.gate import Aged
from stepup.mixins import MFARequiredMixin, StepUpRequiredMixin
from stepup.testing.provider.launcher import RunningProvider
from tests import urls
from tests.urls import SECRET, plain
from tests.visitor import Visitor, query


class Both(StepUpRequiredMixin, View):
    requirement = ("mfa", "recent")

    def get(self, request: HttpRequest) -> HttpResponse:
        return HttpResponse(SECRET)


class Picking(StepUpRequiredMixin, View):
    """Whose requirement depends on something: nobody can say beforehand on what."""

    requirement = "recent"

    def get_requirement(self) -> str:
        return "mfa"

    def get(self, request: HttpRequest) -> HttpResponse:
        return HttpResponse(SECRET)


class Once(MFARequiredMixin, View):
    requirement = Aged("mfa", 0)

    def get(self, request: HttpRequest) -> HttpResponse:
        return HttpResponse(SECRET)

    post = get


urlpatterns = [
    *urls.urlpatterns,
    path("both/", stepup_required("mfa", "recent")(plain), name="both"),
    path("both-class/", Both.as_view(), name="both-class"),
    path("stacked/", stepup_required("mfa")(stepup_required("recent")(plain)), name="stacked"),
    path("settings-and-door/", stepup_required("recent")(plain), name="settings-and-door"),
    path("settings-and-picking/", Picking.as_view(), name="settings-and-picking"),
    path("recent/", stepup_required("recent")(plain), name="recent"),
    path("form/", mfa_required(max_age=300, submit_max_age=3600)(plain), name="form"),
    path("once/", Once.as_view(), name="once"),
]

TOGETHER = ["/both/", "/both-class/", "/stacked/", "/settings-and-door/"]


@pytest.fixture(autouse=True)
def arranged(op: RunningProvider, settings: Any) -> Iterator[None]:
    settings.ROOT_URLCONF = __name__
    settings.STEPUP = {
        **settings.STEPUP,
        "REQUIREMENTS": {**settings.STEPUP.get("REQUIREMENTS", {}), "recent": {"max_age": 600}},
        "PROTECTED_VIEWS": {"settings-and-door": "mfa", "settings-and-picking": "recent"},
    }
    yield
    clock.offset = 0.0


def is_open(visitor: Visitor, where: str) -> bool:
    response = visitor.get(where)
    return bool(response.status_code == 200 and response.content.decode() == SECRET)


def step_up(visitor: Visitor, where: str) -> None:
    """With a password alone, where that is all that is asked for."""
    visitor.come_back(visitor.authenticate(visitor.get(where), None))


@pytest.mark.parametrize("where", TOGETHER)
def test_one_step_up_asks_for_all_that_a_page_needs(visitor: Visitor, where: str) -> None:
    visitor.sign_in()
    challenge = visitor.get(where)
    sent = query(challenge["Location"])
    assert (sent["acr_values"], sent["max_age"]) == (MULTI_FACTOR, "600")

    assert visitor.come_back(visitor.authenticate(challenge))["Location"] == where
    for opened in (where, "/decorated/", "/recent/"):
        assert is_open(visitor, opened)


@pytest.mark.parametrize("where", TOGETHER)
def test_what_is_proved_already_is_not_asked_for_again(visitor: Visitor, where: str) -> None:
    visitor.step_up("/decorated/")
    sent = query(visitor.get(where)["Location"])
    assert sent["max_age"] == "600"
    assert "acr_values" not in sent

    visitor.come_back(visitor.authenticate(visitor.get(where), None))
    assert is_open(visitor, where)


@pytest.mark.parametrize("where", TOGETHER)
def test_each_grows_old_by_itself(visitor: Visitor, where: str) -> None:
    visitor.step_up(where)
    clock.offset += 700
    assert is_open(visitor, "/decorated/")
    for shut in ("/recent/", where):
        sent = query(visitor.get(shut)["Location"])
        assert sent["prompt"] == "login", "an OP that remembers would say what it said before"
        assert "acr_values" not in sent


def test_a_step_up_for_one_lowers_no_other(visitor: Visitor) -> None:
    visitor.step_up("/both/")
    store = visitor.session
    store["stepup"]["at"] -= 700  # when all of it was proved
    store.save()
    assert is_open(visitor, "/decorated/")

    step_up(visitor, "/recent/")

    for opened in ("/recent/", "/decorated/", "/both/"):
        assert is_open(visitor, opened)


def test_what_nobody_can_know_beforehand_is_asked_for_by_itself(visitor: Visitor) -> None:
    visitor.sign_in()
    sent = query(visitor.get("/settings-and-picking/")["Location"])
    assert "acr_values" not in sent
    assert sent["max_age"] == "600"
    step_up(visitor, "/settings-and-picking/")
    assert query(visitor.get("/settings-and-picking/")["Location"])["acr_values"] == MULTI_FACTOR


def test_an_answer_that_proves_one_of_two_opens_nothing_and_is_kept(visitor: Visitor) -> None:
    visitor.sign_in()
    challenge = visitor.get("/both/")
    url = challenge["Location"].replace("acr_values=", "was=")

    back = visitor.come_back(visitor.person.authenticate(url, factor=None))

    assert (back.status_code, back.context["verdict"]) == (403, "proof_missing")
    assert back.context["retry_url"].startswith("/oidc/authenticate/?next=%2Fboth%2F&stepup=")
    assert is_open(visitor, "/recent/")
    assert not is_open(visitor, "/both/")
    again = visitor.get(back.context["retry_url"])
    assert query(again["Location"])["acr_values"] == MULTI_FACTOR
    assert visitor.come_back(visitor.authenticate(again))["Location"] == "/both/"
    assert is_open(visitor, "/both/")


def test_a_script_is_told_of_all_at_once(visitor: Visitor) -> None:
    visitor.sign_in()
    refused = visitor.get("/stacked/", Accept="application/json")
    said = json.loads(refused.content)
    assert said["requirement"] == "mfa & recent"
    sent = query(visitor.get(said["step_up_url"])["Location"])
    assert (sent["acr_values"], sent["max_age"]) == (MULTI_FACTOR, "600")


def test_what_two_requirements_ask_for_in_claims_is_asked_for_together(visitor: Visitor, settings: Any) -> None:
    own = {
        "one": {"acr": ["urn:a"], "essential": True, "max_age": 500},
        "two": {"acr": ["urn:b"], "essential": True, "prompt": "consent"},
        "three": {"claims": {"acrs": ["c"]}, "essential": True, "acr_values": ["urn:c"]},
        "four": {"acr": ["urn:d"], "acr_values": ["urn:d"], "max_age": 100, "params": {"ui_locales": "en"}},
    }
    settings.STEPUP = {**settings.STEPUP, "REQUIREMENTS": own, "PROTECTED_VIEWS": {}}
    needs = stepup_required(*own)(plain)
    settings.ROOT_URLCONF = type("URLs", (), {"urlpatterns": [*urlpatterns, path("all/", needs)]})

    sent = query(visitor.get("/all/")["Location"])

    assert json.loads(sent["claims"]) == {
        "id_token": {
            "acr": {"essential": True, "values": ["urn:a", "urn:b", "urn:c"]},
            "acrs": {"essential": True, "value": "c"},
        }
    }
    assert (sent["max_age"], sent["prompt"], sent["ui_locales"]) == ("100", "consent", "en")
    assert sent["acr_values"] == "urn:d"


def test_of_two_doors_one_of_which_only_reports_the_other_is_asked_for(
    visitor: Visitor, settings: Any, caplog: pytest.LogCaptureFixture
) -> None:
    settings.STEPUP = {**settings.STEPUP, "REPORT_ONLY": ["recent"]}
    visitor.sign_in()
    caplog.set_level(logging.INFO, "stepup")
    clock.offset += 700
    for where in TOGETHER:
        sent = query(visitor.get(where)["Location"])
        assert sent["acr_values"] == MULTI_FACTOR
        assert "max_age" not in sent
    assert not [record for record in caplog.records if getattr(record, "event", "") == "would_challenge"]
    visitor.step_up("/both/")
    caplog.clear()
    clock.offset += 700
    for where in TOGETHER:
        assert is_open(visitor, where)
        assert "no-store" in visitor.get(where)["Cache-Control"]
    reported = [record for record in caplog.records if getattr(record, "event", "") == "would_challenge"]
    assert {record.requirement for record in reported} == {"recent"}  # type: ignore[attr-defined]
    assert len(reported) == 2 * len(TOGETHER)


def test_where_both_only_report_everybody_who_is_signed_in_gets_the_page(visitor: Visitor, settings: Any) -> None:
    settings.STEPUP = {**settings.STEPUP, "REPORT_ONLY": ["recent", "mfa"]}
    visitor.sign_in()
    clock.offset += 700
    for where in TOGETHER:
        assert is_open(visitor, where)
        assert "no-store" not in visitor.get(where).headers.get("Cache-Control", "")


def test_a_requirement_of_several_in_the_settings_is_reported_as_a_whole(
    visitor: Visitor, settings: Any, caplog: pytest.LogCaptureFixture
) -> None:
    both = {"also": [{"amr": ["mfa"]}, {"max_age": 60}]}
    settings.STEPUP = {**settings.STEPUP, "REQUIREMENTS": {"both": both}, "PROTECTED_VIEWS": {"open": "both"}}
    visitor.sign_in()
    assert query(visitor.get("/open/")["Location"])["max_age"] == "60"
    settings.STEPUP = {**settings.STEPUP, "REPORT_ONLY": ["both"]}
    caplog.set_level(logging.INFO, "stepup")
    assert is_open(visitor, "/open/")
    (reported,) = (record for record in caplog.records if getattr(record, "event", "") == "would_challenge")
    assert reported.requirement == "both"  # type: ignore[attr-defined]


def test_a_requirement_of_several_is_reported_as_a_whole_beside_another_too(
    visitor: Visitor, settings: Any, caplog: pytest.LogCaptureFixture
) -> None:
    both = {"also": [{"acr": ["urn:never"]}, {"max_age": 60}]}
    settings.STEPUP = {
        **settings.STEPUP,
        "REQUIREMENTS": {"both": both},
        "PROTECTED_VIEWS": {},
        "REPORT_ONLY": ["both"],
    }
    needs = stepup_required("both", "mfa")(plain)
    settings.ROOT_URLCONF = type("URLs", (), {"urlpatterns": [*urlpatterns, path("two/", needs)]})
    visitor.step_up("/decorated/")
    caplog.set_level(logging.INFO, "stepup")
    assert is_open(visitor, "/two/")
    (reported,) = (record for record in caplog.records if getattr(record, "event", "") == "would_challenge")
    assert reported.requirement == "both"  # type: ignore[attr-defined]


def test_two_names_for_the_same_proof_are_two_requirements(visitor: Visitor, settings: Any) -> None:
    settings.STEPUP = {
        **settings.STEPUP,
        "REQUIREMENTS": {"tried": {"amr": ["mfa"]}, "enforced": {"amr": ["mfa"]}},
        "PROTECTED_VIEWS": {},
        "REPORT_ONLY": ["tried"],
    }
    needs = stepup_required("tried", "enforced")(plain)
    settings.ROOT_URLCONF = type("URLs", (), {"urlpatterns": [*urlpatterns, path("two/", needs)]})
    visitor.sign_in()
    assert not is_open(visitor, "/two/")


def test_a_form_that_was_opened_in_time_is_still_taken(visitor: Visitor) -> None:
    visitor.step_up("/form/")
    assert is_open(visitor, "/form/")
    clock.offset += 400
    assert visitor.client.post("/form/", headers={"Accept": "text/html"}).content.decode() == SECRET
    assert query(visitor.get("/form/")["Location"])["prompt"] == "login"
    clock.offset += 3600
    assert visitor.client.post("/form/", headers={"Accept": "text/html"}).status_code != 200


def test_a_page_of_one_showing_is_shown_once_for_each_time(visitor: Visitor) -> None:
    visitor.step_up("/decorated/")
    for _ in range(2):
        challenge = visitor.get("/once/")
        assert query(challenge["Location"])["max_age"] == "0"
        assert visitor.come_back(visitor.authenticate(challenge))["Location"] == "/once/"
        assert is_open(visitor, "/once/")
        assert is_open(visitor, "/decorated/"), "nothing else is shut by it"
    assert visitor.client.post("/once/", headers={"Accept": "text/html"}).status_code != 200


@pytest.mark.parametrize("come_from", ["http://testserver/once/", "/once/"])
def test_a_page_of_one_showing_is_shown_after_a_script_of_it_was_told_to_step_up(
    visitor: Visitor, come_from: str
) -> None:
    visitor.step_up("/decorated/")
    told = visitor.get("/once/", Accept="application/json", Referer=come_from).json()
    back = visitor.come_back(visitor.authenticate(visitor.get(told["step_up_url"])))
    assert back["Location"] == come_from
    assert is_open(visitor, "/once/")
    assert not is_open(visitor, "/once/")


def test_what_is_proved_is_too_old_for_everything_after_half_a_day(visitor: Visitor) -> None:
    visitor.step_up("/decorated/")
    clock.offset += 12 * 3600 - 60
    assert is_open(visitor, "/decorated/")
    clock.offset += 120
    sent = query(visitor.get("/decorated/")["Location"])
    assert (sent["acr_values"], sent["prompt"]) == (MULTI_FACTOR, "login")


def test_an_upper_age_can_be_set_and_switched_off(visitor: Visitor, settings: Any) -> None:
    visitor.step_up("/decorated/")
    clock.offset += 3600
    settings.STEPUP = {**settings.STEPUP, "MAX_EVIDENCE_AGE": 1800}
    assert not is_open(visitor, "/decorated/")
    settings.STEPUP = {**settings.STEPUP, "MAX_EVIDENCE_AGE": None}
    clock.offset += 10**8
    assert is_open(visitor, "/decorated/")


@pytest.mark.parametrize("ages", [{"max_age": 5}, {"submit_max_age": 5}, {"max_age": 5, "submit_max_age": 5}])
def test_an_age_goes_with_one_name(ages: dict[str, Any]) -> None:
    with pytest.raises(TypeError):
        stepup_required("mfa", "recent", **ages)


@pytest.mark.parametrize(
    ("given", "error"),
    [
        ({"submit_max_age": 5}, TypeError),
        ({"max_age": 5, "submit_max_age": 4}, ValueError),
        ({"max_age": 5, "submit_max_age": True}, ValueError),
        ({"max_age": 5, "submit_max_age": 10**12}, ValueError),
        ({"max_age": -1, "submit_max_age": 4}, ValueError),
    ],
)
def test_ages_that_do_not_go_together_show_when_the_view_is_defined(
    given: dict[str, Any], error: type[Exception]
) -> None:
    for door in (mfa_required, lambda **ages: stepup_required("mfa", **ages)):
        with pytest.raises(error):
            door(**given)


@pytest.mark.parametrize(
    ("plain_", "message"),
    [
        ({"also": []}, "demands no proof"),
        ({"also": "mfa"}, "also: must be a list"),
        ({"also": ["mfa"]}, "also: must be a dictionary"),
        ({"also": [{}]}, "demands no proof"),
        ({"also": [{"amr": "mfa"}]}, "amr: must be a list"),
        ({"max_age": 5, "submit_max_age": 4}, "submit_max_age: must be"),
        ({"amr": ["mfa"], "submit_max_age": 4}, "submit_max_age: must be"),
        ({"amr": ["mfa"], "enrol_url": 5}, "enrol_url: must be an http"),
        ({"amr": ["mfa"], "documentation_url": None}, "documentation_url: must be an http"),
        ({"amr": ["mfa"], "unenrolled": "enrol"}, "unenrolled: must be"),
        ({"amr": ["mfa"], "unenrolled": "allow"}, "unenrolled: must be"),
    ],
)
def test_a_requirement_that_is_malformed_says_so(plain_: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Requirement.from_mapping(plain_)


def test_a_requirement_of_several_is_the_same_as_a_mapping_and_back() -> None:
    both = Requirement.all_of(
        Requirement(name="mfa", amr=("mfa",)),
        Requirement(name="form", max_age=5, submit_max_age=60, claims={"acrs": ("c",)}),
    )
    again = Requirement.from_mapping(both.to_mapping(), name=both.name)
    assert again == both
    assert [part.name for part in again.parts] == ["mfa", "form"]
    assert both.proof_claims == {"acrs"}
    assert hash(again) == hash(both)


def test_several_of_several_are_so_many_and_each_once() -> None:
    one, two = Requirement(name="one", amr=("mfa",)), Requirement(name="two", max_age=5)
    nested = Requirement(acr=("urn:a",), also=(Requirement.all_of(one, two), one))
    assert [part.name for part in nested.parts] == ["", "one", "two"]
    assert [unit.name for unit in nested.units] == ["", "one & two", "one"]
    assert nested.parts[0] == Requirement(acr=("urn:a",))
    assert [part.name for part in Requirement.all_of(one, nested, two).parts] == ["one", "", "two"]
    assert Requirement.all_of(one, nested, two).units == (one, nested, two)
    assert Requirement.all_of(one, one) is one


def test_each_of_several_is_widened_for_itself() -> None:
    both = Requirement.all_of(Requirement(max_age=5, submit_max_age=60), Requirement(amr=("mfa",), max_age=100))
    assert [(part.max_age, part.submit_max_age) for part in both.within(30.5).parts] == [(31, 60), (100, None)]
    assert [part.max_age for part in both.within(90).parts] == [90, 100]
    assert [part.submit_max_age for part in both.within(90).parts] == [90, None]
    assert both.within(5) == both
    assert [(part.max_age, part.submit_max_age) for part in both.for_submission().parts] == [(60, None), (100, None)]
    alone = Requirement(amr=("mfa",))
    assert alone.for_submission() is alone
    assert alone.within(10**6) is alone


def test_a_countdown_says_until_when(visitor: Visitor, settings: Any) -> None:
    template = engines["django"].from_string(
        '{% load stepup %}{% satisfied_until "recent" as until %}{{ until|date:"U" }}'
        "|{% satisfied_until as mfa %}{{ mfa }}"
    )

    def view(request: HttpRequest) -> HttpResponse:
        return HttpResponse(template.render({}, request))

    settings.ROOT_URLCONF = type("URLs", (), {"urlpatterns": [*urlpatterns, path("until/", view)]})
    assert visitor.get("/until/").content == b"|None"
    step_up(visitor, "/recent/")
    until, mfa = visitor.get("/until/").content.decode().split("|")
    assert 590 < int(until) - clock.now() <= 600
    assert mfa == "None"
    assert template.render({}) == "|None"


def test_a_change_of_password_ends_what_was_proved_and_the_person_stays_signed_in(
    visitor: Visitor, settings: Any
) -> None:
    change = PasswordChangeView.as_view(form_class=SetPasswordForm, success_url="/open/")
    settings.ROOT_URLCONF = type("URLs", (), {"urlpatterns": [*urlpatterns, path("password/", change)]})
    visitor.step_up("/decorated/")
    assert is_open(visitor, "/decorated/")
    key = visitor.session.session_key

    form = {"new_password1": "correct-horse-battery", "new_password2": "correct-horse-battery"}
    assert visitor.client.post("/password/", form)["Location"] == "/open/"

    assert visitor.session.session_key != key
    assert visitor.session["_auth_user_id"]
    challenge = visitor.get("/decorated/")
    assert visitor.come_back(visitor.authenticate(challenge))["Location"] == "/decorated/"
    assert is_open(visitor, "/decorated/")
