"""Attempts are bounded: an OP that does not do what it is asked is not asked for ever, and nobody waits for ever."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from django.contrib.auth.models import User
from django.contrib.sessions.backends.db import SessionStore

from stepup import Requirement, clock, conf, session
from stepup.testing.provider.launcher import RunningProvider
from tests.urls import SECRET
from tests.visitor import Visitor, query, with_query

Visit = Callable[[str], Visitor]

AGAIN = "/oidc/authenticate/?next=%2Fdecorated%2F&stepup=mfa&again=1"


@pytest.fixture(autouse=True)
def the_clock_is_put_back() -> Iterator[None]:
    yield
    clock.offset = 0.0


def try_in_vain(visitor: Visitor, at: str = "/decorated/", **answer: str | None) -> Any:
    """What the callback answers to an attempt that the OP does not fulfil, or answers with an error."""
    sent = visitor.get(at)
    assert sent.status_code == 302, sent.context["verdict"]
    if answer:
        return visitor.come_back(with_query(visitor.authenticate(sent), code=None, **answer))
    return visitor.come_back(visitor.authenticate(sent, None))


def assert_exhausted(response: Any) -> None:
    assert (response.status_code, response.context["verdict"]) == (429, "exhausted")
    assert response.context["retry_url"] == ""
    assert "no-store" in response["Cache-Control"]


@pytest.fixture
def ignored(op: RunningProvider, visitor: Visitor) -> Visitor:
    """Anna has signed in, at an OP that does not do what it is asked."""
    op.behave("ignores_acr_values")
    visitor.sign_in()
    return visitor


@pytest.fixture
def exhausted(ignored: Visitor) -> Visitor:
    for at in ("/decorated/", AGAIN, AGAIN, AGAIN):
        try_in_vain(ignored, at)
    return ignored


def test_try_again_is_offered_three_times_and_then_the_page_says_whom_to_ask(
    op: RunningProvider, ignored: Visitor
) -> None:
    page = try_in_vain(ignored)
    for _ in range(3):
        assert page.context["verdict"] == "proof_missing"
        assert page.context["retry_url"] == AGAIN
        assert page.context["wait_minutes"] == 0
        assert query(ignored.get(AGAIN)["Location"])["prompt"] == "login", "it asks harder"
        page = try_in_vain(ignored, page.context["retry_url"])

    assert (page.status_code, page.context["verdict"]) == (403, "proof_missing")
    assert page.context["retry_url"] == ""
    text = page.content.decode()
    assert "Try again<" not in text
    assert "Ask whoever looks after this site for help. You can try again in 10 minutes." in text
    assert "You are still signed in" in text


@pytest.mark.parametrize("at", [AGAIN, "/decorated/", "/class/", "/oidc/authenticate/?next=%2F&stepup=mfa"])
def test_there_is_no_way_round(op: RunningProvider, exhausted: Visitor, at: str) -> None:
    before = len(op.requests())
    pending = exhausted.session.get("stepup_pending")

    page = exhausted.get(at)

    assert_exhausted(page)
    assert 590 <= int(page["Retry-After"]) <= 600
    assert len(op.requests()) == before
    assert exhausted.session.get("stepup_pending") == pending
    assert exhausted.get("/").status_code == 200


def test_scripts_and_forms_are_told_what_they_always_are_and_lead_to_the_page(exhausted: Visitor) -> None:
    script = exhausted.get("/decorated/", Accept="application/json")
    assert script.status_code == 401
    assert_exhausted(exhausted.get(script.json()["step_up_url"]))


def test_nobody_waits_for_longer_than_the_settings_say(op: RunningProvider, exhausted: Visitor) -> None:
    op.behave("well_behaved")
    clock.offset = 300
    page = exhausted.get("/decorated/")
    assert_exhausted(page)
    assert page.context["wait_minutes"] == 5

    clock.offset = 601
    assert exhausted.get("/decorated/").status_code == 302


def test_attempts_count_one_by_one(op: RunningProvider, ignored: Visitor) -> None:
    for offset in (0, 200, 400, 500):
        clock.offset = offset
        try_in_vain(ignored)
    assert_exhausted(ignored.get("/decorated/"))
    clock.offset = 602
    try_in_vain(ignored)
    page = ignored.get("/decorated/")
    assert_exhausted(page)
    assert 190 <= int(page["Retry-After"]) <= 200, "the second one was made 200 seconds after the first"


def test_success_forgets_what_came_to_nothing(op: RunningProvider, ignored: Visitor) -> None:
    for _ in range(3):
        try_in_vain(ignored)
    assert "stepup_attempts" in ignored.session
    op.behave("well_behaved")

    assert ignored.step_up("/decorated/").status_code == 302

    assert "stepup_attempts" not in ignored.session


def test_success_forgets_nothing_of_another_requirement(op: RunningProvider, ignored: Visitor) -> None:
    for _ in range(4):
        try_in_vain(ignored, "/own/")
    op.behave("well_behaved")
    for _ in range(2):
        try_in_vain(ignored, error="access_denied")
    assert ignored.step_up("/decorated/").status_code == 302
    assert ignored.get("/decorated/").content.decode() == SECRET
    assert_exhausted(ignored.get("/own/"))


def test_another_requirement_and_another_sign_in_are_not_bounded_by_it(exhausted: Visitor) -> None:
    assert exhausted.get("/own/").status_code == 302
    assert exhausted.sign_in().status_code == 302


@pytest.mark.parametrize(
    ("error", "counts"),
    [
        ("access_denied", True),
        ("unmet_authentication_requirements", True),
        ("invalid_scope", True),
        ("server_error", False),
        ("temporarily_unavailable", False),
    ],
)
def test_what_the_op_answers_counts_and_where_it_cannot_answer_nothing_does(
    visitor: Visitor, error: str, counts: bool
) -> None:
    visitor.sign_in()
    for _ in range(4):
        page = try_in_vain(visitor, error=error)
    assert bool(page.context["retry_url"]) is not counts
    assert (visitor.get("/decorated/").status_code == 429) is counts


def test_somebody_else_s_confirmation_counts_too(op: RunningProvider, visit: Visit) -> None:
    ben = visit("ben")
    ben.sign_in()
    for _ in range(4):
        page = ben.come_back(visit("anna").authenticate(ben.get("/decorated/"), "push"))
        assert page.context["verdict"] == "wrong_user"
    assert page.context["retry_url"] == ""
    assert_exhausted(ben.get("/decorated/"))


def test_it_is_counted_before_the_sign_in_too_and_by_itself(visitor: Visitor) -> None:
    for _ in range(4):
        page = try_in_vain(visitor, error="access_denied")
    assert page.context["retry_url"] == ""
    assert_exhausted(visitor.get("/decorated/"))

    visitor.sign_in()

    assert visitor.get("/decorated/").status_code == 302, "somebody is there now, who has tried nothing yet"


def test_nobody_is_kept_out_by_another_visitor(exhausted: Visitor, op: RunningProvider, visit: Visit) -> None:
    op.behave("well_behaved")
    for name in ("ben", "anna"):
        other = visit(name)
        assert other.step_up("/decorated/", "totp").status_code == 302, "with another browser"
    exhausted.client.post("/oidc/logout/")
    assert exhausted.get("/decorated/").status_code == 302


def test_with_no_attempts_none_is_offered(ignored: Visitor, settings: Any) -> None:
    settings.STEPUP = {**settings.STEPUP, "MAX_ATTEMPTS": 0, "ATTEMPTS_WITHIN": 61}
    page = try_in_vain(ignored)
    assert page.context["retry_url"] == ""
    assert page.context["wait_minutes"] == 2
    assert_exhausted(ignored.get("/decorated/"))


def test_fewer_attempts_than_before_are_counted_from_the_newest(ignored: Visitor, settings: Any) -> None:
    for _ in range(3):
        try_in_vain(ignored)
    settings.STEPUP = {**settings.STEPUP, "MAX_ATTEMPTS": 1}
    assert_exhausted(ignored.get("/decorated/"))


def test_one_minute_is_one_minute(exhausted: Visitor) -> None:
    clock.offset = 570
    assert "You can try again in 1 minute." in exhausted.get("/decorated/").content.decode()


def test_a_page_that_asks_on_after_it_was_satisfied_is_bounded_too(visitor: Visitor) -> None:
    visitor.sign_in()
    at = "/decorated/"
    for _ in range(4):
        assert visitor.step_up(at).status_code == 302
        lost = visitor.session  # to something of the site's own that does not keep what the OP has said
        del lost["stepup"]
        lost.save()
        page = visitor.get("/decorated/")
        assert page.context["verdict"] == "ignored"
        at = page.context["retry_url"]

    assert at == ""
    assert page.context["wait_minutes"] == 10
    assert_exhausted(visitor.get(AGAIN))


# ---- What is on the session ----


@pytest.fixture
def request_(rf: Any, db: None) -> Any:
    request = rf.get("/")
    request.user, request.session = User.objects.create_user("anna"), SessionStore()
    return request


MFA = Requirement(amr=("mfa",), name="mfa")


def wait(request: Any, now: float = 1000) -> float:
    return session.seconds_to_wait(request, MFA, conf.current(), now=now)


def note(request: Any, requirement: Requirement = MFA, now: float = 1000) -> None:
    session.note_attempt(request, requirement, conf.current(), now=now)


def test_the_session_does_not_grow_without_bound(request_: Any) -> None:
    for number in range(100):
        for _ in range(10):
            note(request_, Requirement(amr=(str(number),)), now=1000 + number)

    stored = request_.session["stepup_attempts"]
    assert len(stored["at"]) == session.MAX_COUNTED
    assert all(len(times) == 4 for times in stored["at"].values())
    note(request_, now=2000)
    assert len(request_.session["stepup_attempts"]["at"]) == 1, "what counts no more is taken off"


def test_another_user_on_the_same_session_has_tried_nothing(request_: Any) -> None:
    for _ in range(4):
        note(request_)
    assert wait(request_) == 600
    request_.user = User.objects.create_user("other")
    assert wait(request_) == 0
    note(request_)
    assert sum(map(len, request_.session["stepup_attempts"]["at"].values())) == 1


@pytest.mark.parametrize(
    "stored",
    [None, 1, "x", [], {}, {"for": "?"}, {"for": "PK"}, {"for": "PK", "at": []}, {"for": "PK", "at": {"KEY": 1}},
     {"for": "PK", "at": {"KEY": ["x", None, True, -1, 1e400, 99999, 0]}}],
)  # fmt: skip
def test_what_is_damaged_counts_for_nothing_and_breaks_nothing(request_: Any, stored: Any) -> None:
    if isinstance(stored, dict):
        stored = {**stored, "for": str(request_.user.pk) if stored.get("for") == "PK" else stored.get("for")}
        if isinstance(stored.get("at"), dict):
            stored["at"] = {session._counted_as(MFA): stored["at"]["KEY"]}
    request_.session["stepup_attempts"] = stored

    assert wait(request_) == 0
    session.forget_attempts(request_, MFA)
    request_.session["stepup_attempts"] = stored
    note(request_)
    assert list(request_.session["stepup_attempts"]["at"].values()) == [[1000]]


def test_a_clock_that_was_put_back_makes_nobody_wait_for_longer(request_: Any) -> None:
    for _ in range(4):
        note(request_, now=1020)
    assert wait(request_, now=1000) == 600
    assert wait(request_, now=900) == 0


def test_the_page_without_a_time_to_wait_for_says_later(rf: Any) -> None:
    from django.contrib.auth.models import AnonymousUser

    from stepup import verdicts
    from stepup.verdicts import Verdict

    page = verdicts.page(rf.get("/"), Verdict.EXHAUSTED, user=AnonymousUser())
    assert re.search("try again later", page.content.decode())
    assert "Retry-After" not in page
