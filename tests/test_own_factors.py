"""The how-to on factors of one's own, in projects of its own with the real libraries; the way to the site's page."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from django.test import Client
from django.urls import path

import stepup
from stepup import Requirement, clock, conf
from stepup.decorators import stepup_required
from stepup.testing.provider.launcher import RunningProvider
from tests import urls as site_urls
from tests.test_docs import ROOT, Block, blocks_of
from tests.urls import SECRET, plain
from tests.visitor import Visitor

PAGE = "docs/howto/own-factors.rst"
HERE = Path(__file__).resolve().parent / "own_factors"

#: What a site of mozilla-django-oidc's has before it reads the page.
BEFORE = """
OIDC_RP_CLIENT_ID = "site"
OIDC_RP_CLIENT_SECRET = "a-client-secret-that-is-long-enough-for-hs512-and-then-some-more"
OIDC_RP_SIGN_ALGO = "RS256"
AUTHENTICATION_BACKENDS = ["stepup.backends.StepUpBackend"]
INSTALLED_APPS += ["stepup"]
MIDDLEWARE += ["stepup.middleware.StepUpMiddleware"]
LOGIN_URL, LOGIN_REDIRECT_URL = "oidc_authentication_init", "/"
DATABASES["default"]["NAME"] = ":memory:"
PASSWORD_HASHERS = ["django.contrib.auth.hashers.MD5PasswordHasher"]
TEMPLATES[0]["DIRS"] = [BASE_DIR / "templates"]
"""

AFTER = """
STEPUP["ISSUER"] = {issuer!r}
MFA_TOTP_TOLERANCE = 1  # a test does not wait for the next code
"""


def section(heading: str, language: str = "python") -> list[Block]:
    """The examples below a heading."""
    lines = (ROOT / PAGE).read_text().splitlines()
    begin = lines.index(heading)
    marks = [number for number, line in enumerate(lines) if re.fullmatch(r"-{3,}", line) and number > begin + 1]
    end = min(marks, default=len(lines))
    return [block for block in blocks_of(PAGE, language) if begin < block.line <= end]


@pytest.mark.parametrize(("heading", "walk"), [("django-otp", "walk_otp"), ("django-allauth", "walk_allauth")])
def test_the_worked_examples_work(heading: str, walk: str, running_op: RunningProvider, tmp_path: Path) -> None:
    running_op.reset()
    command = [sys.executable, "-m", "django", "startproject", "mysite", "."]
    subprocess.run(command, cwd=tmp_path, check=True)
    files = {block.file: block.text for block in section(heading)}
    settings = tmp_path / "mysite" / "settings.py"
    added = f"{BEFORE}\n{files.pop('settings.py')}\n{AFTER.format(issuer=running_op.issuer)}"
    settings.write_text(f"{settings.read_text()}\n{added}")
    for name, text in files.items():
        (tmp_path / "mysite" / name).write_text(text)
    (tmp_path / "templates").mkdir()
    for block in section(heading, "html+django"):
        (tmp_path / "templates" / "second_factor.html").write_text(block.text)
    (tmp_path / "test_walk.py").write_text((HERE / f"{walk}.py").read_text())

    environment = {name: value for name, value in os.environ.items() if name != "DJANGO_SETTINGS_MODULE"}
    for arguments in (["check", "--fail-level=ERROR"], ["test", "test_walk"]):
        ran = subprocess.run(
            [sys.executable, "manage.py", *arguments],
            cwd=tmp_path,
            env={**environment, "PYTHONPATH": str(ROOT)},
            check=False,
            capture_output=True,
            text=True,
        )
        assert ran.returncode == 0, ran.stdout + ran.stderr
    tests = (HERE / f"{walk}.py").read_text().count("def test_")
    assert f"Ran {tests} tests" in ran.stderr


# ---- The way to the site's own page ----


def own_page(request: Any) -> Any:
    """Sends everybody on at once: to state something, or nothing."""
    from django.http import HttpResponseRedirect

    if "nothing" not in request.GET and request.user.is_authenticated:
        stepup.record(request, amr=["otp"], auth_time=clock.now() - int(request.GET.get("ago", 0)))
    return HttpResponseRedirect(request.GET["next"])


ITSELF = Requirement(amr=("otp",), step_up_url="/self-page/", name="itself")
OTHER = Requirement(amr=("otp",), step_up_url="/own-page/?nothing=1", name="other")
BOTH = Requirement.all_of(
    OTHER, Requirement(amr=("mfa",), acr_values=("http://schemas.openid.net/pape/policies/2007/06/multi-factor",))
)

urlpatterns = [
    *site_urls.urlpatterns,
    path("own-page/", own_page, name="own-page"),
    path("own-factor/", stepup_required("otp")(plain)),
    path("each-time/", stepup_required(Requirement(amr=("otp",), max_age=0, step_up_url="own-page"))(plain)),
    path("self-page/", stepup_required(ITSELF)(plain)),
    path("needs-self-page/", stepup_required(ITSELF)(plain)),
    path("never/", stepup_required(OTHER)(plain)),
    path("nowhere/", stepup_required("nowhere")(plain)),
    path(
        "both/",
        stepup_required(Requirement.all_of(Requirement(amr=("otp",), step_up_url="own-page"), *BOTH.parts[1:]))(plain),
    ),
]


@pytest.fixture
def pages(settings: Any) -> None:
    settings.ROOT_URLCONF = "tests.test_own_factors"
    named = {
        "otp": {"amr": ["otp"], "step_up_url": "own-page"},
        "nowhere": {"amr": ["otp"], "step_up_url": "nowhere"},
        "sudo": {"max_age": 300},
    }
    settings.STEPUP = {**settings.STEPUP, "REQUIREMENTS": named}


def test_people_are_sent_to_the_page_of_the_site_and_come_back(visitor: Visitor, pages: None) -> None:
    visitor.sign_in()
    sent = visitor.get("/own-factor/?x=1")
    assert (sent.status_code, sent["Location"]) == (302, "/own-page/?next=%2Fown-factor%2F%3Fx%3D1")
    assert "no-store" in sent["Cache-Control"]
    back = visitor.get(sent["Location"])
    assert back["Location"] == "/own-factor/?x=1"
    assert visitor.get(back["Location"]).content.decode() == SECRET


def test_scripts_and_forms_get_there_in_the_end(visitor: Visitor, pages: None) -> None:
    visitor.sign_in()
    script = visitor.get("/own-factor/", Accept="application/json", Referer="http://testserver/own-factor/")
    assert script.status_code == 401
    sent = visitor.get(script.json()["step_up_url"])
    assert sent["Location"] == "/own-page/?next=http%3A%2F%2Ftestserver%2Fown-factor%2F"
    form = visitor.client.post("/own-factor/", {"amount": "5"})
    assert form.status_code == 303
    assert form["Location"].startswith("/own-page/?next=%2Foidc%2Fauthenticate%2F%3Fkept%3D")
    back = visitor.get(form["Location"])
    page = visitor.get(back["Location"])
    assert (page.status_code, page.templates[0].name) == (200, "stepup/kept.html")
    sent = visitor.client.post(page.context["action"], headers={"Sec-Fetch-Site": "same-origin"})
    assert sent.content.decode() == SECRET


def test_next_never_leaves_the_site(visitor: Visitor, pages: None) -> None:
    sent = visitor.get("/oidc/authenticate/?stepup=otp&next=https://evil.example/")
    assert sent["Location"] == "/own-page/?next=%2F"


def test_a_page_that_leads_back_at_once_goes_round_a_few_times_and_no_more(visitor: Visitor, pages: None) -> None:
    visitor.sign_in()
    path_, turns = "/never/", 0
    while (answer := visitor.get(path_)).status_code == 302:
        path_ = answer["Location"]
        turns += 1
    assert turns == 10
    assert (answer.status_code, answer.context["verdict"]) == (403, "ignored")
    assert answer.context["reasons"] == ["step_up_url: leads back without a statement that satisfies it"]
    assert visitor.get(answer.context["retry_url"])["Location"] == "/own-page/?nothing=1&next=%2Fnever%2F"
    assert "stepup_attempts" not in visitor.session


def test_a_page_that_asks_for_what_is_proved_on_it_is_told_so(visitor: Visitor, pages: None) -> None:
    visitor.sign_in()
    sent = visitor.get("/self-page/?next=/")
    assert (sent.status_code, sent.context["verdict"]) == (403, "ignored")
    assert sent.context["reasons"] == ["step_up_url: the page asks for what is to be proved there"]
    sent = visitor.get("/needs-self-page/")
    assert visitor.get(sent["Location"]).context["verdict"] == "ignored"


def test_a_person_may_take_their_time_again_and_again(visitor: Visitor, pages: None) -> None:
    visitor.sign_in()
    try:
        for turn in range(12):
            clock.offset = turn * 3.0
            assert visitor.get("/never/").status_code == 302
    finally:
        clock.offset = 0.0
    assert len(visitor.session["stepup_way"]["at"]) <= 5


def test_what_is_to_be_proved_each_time_is_and_opens_the_page_once(visitor: Visitor, pages: None) -> None:
    visitor.sign_in()
    for _ in range(2):
        sent = visitor.get("/each-time/")
        assert sent["Location"] == "/own-page/?next=%2Feach-time%2F"
        assert visitor.get(sent["Location"])["Location"] == "/each-time/"
        assert visitor.get("/each-time/").content.decode() == SECRET


def test_what_was_proved_before_somebody_was_asked_is_not_fresh(visitor: Visitor, pages: None) -> None:
    visitor.sign_in()
    visitor.get("/each-time/")
    visitor.get("/own-page/?next=/each-time/&ago=100")
    assert visitor.get("/each-time/").status_code == 302


def test_who_takes_longer_than_a_step_up_may_take_is_asked_again(visitor: Visitor, pages: None) -> None:
    visitor.sign_in()
    visitor.get("/each-time/")
    try:
        clock.offset = 901
        visitor.get("/own-page/?next=/each-time/")
        assert visitor.get("/each-time/").status_code == 302
    finally:
        clock.offset = 0.0


def test_a_page_that_is_not_there_is_no_error_of_the_server(visitor: Visitor, pages: None) -> None:
    answer = visitor.get("/nowhere/")
    assert (answer.status_code, answer.context["reasons"]) == (403, ["step_up_url: no such page"])


def test_one_page_may_ask_for_both_the_sites_own_factor_and_the_ops(visitor: Visitor, pages: None) -> None:
    visitor.sign_in()
    assert visitor.get("/both/")["Location"] == "/own-page/?next=%2Fboth%2F"
    visitor.get("/own-page/?next=/both/")
    back = visitor.step_up("/both/")
    assert back["Location"] == "/both/"
    assert visitor.get("/both/").content.decode() == SECRET


@pytest.mark.parametrize(
    "stored",
    [
        1,
        "x",
        [],
        {},
        {"at": []},
        {"need": [], "next": "/x/", "at": []},
        {"need": 1, "next": "/x/", "at": ["x"]},
        {"need": "gone", "next": "/x/", "at": [1]},
        {"need": "gone", "next": "/x/", "at": [9999999999]},
        {"next": "/x/", "at": [9999999999]},
    ],
)
def test_what_is_damaged_on_the_session_breaks_nothing(visitor: Visitor, pages: None, stored: Any) -> None:
    visitor.sign_in()
    for damaged in ("/never/", "/own-page/?next=/"):
        store = visitor.session
        store["stepup_way"] = stored
        store.save()
        assert visitor.get(damaged).status_code == 302
        assert "stepup_settled" not in visitor.session


@pytest.mark.parametrize("page", ["second-factor", "two_factor:login", "/second-factor/", "/"])
def test_a_page_is_named_or_a_path(page: str) -> None:
    assert Requirement(amr=("otp",), step_up_url=page).step_up_url == page


@pytest.mark.parametrize(
    "page", ["//evil.example/", "https://evil.example/", "/\\evil", "a/b", "a b", " ", "a\n", None, 5, ["x"], b"x"]
)
def test_a_page_of_another_site_is_none(settings: Any, page: Any) -> None:
    with pytest.raises(ValueError, match=r"^step_up_url: must be a URL name, or a path of this site$"):
        Requirement(amr=("otp",), step_up_url=page)
    settings.STEPUP = {**settings.STEPUP, "REQUIREMENTS": {"sudo": {"max_age": 1, "step_up_url": page}}}
    assert [problem.id for problem in conf.problems()] == ["E005"]


def test_the_page_of_a_requirement_without_a_name_goes_with_it(visitor: Visitor, pages: None) -> None:
    visitor.sign_in()
    script = visitor.get("/never/", Accept="application/json")
    assert visitor.get(script.json()["step_up_url"])["Location"].startswith("/own-page/?nothing=1&next=")
    assert Client().get("/never/")["Location"] == "/own-page/?nothing=1&next=%2Fnever%2F", "signed in or not"
