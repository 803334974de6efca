"""`manage.py stepup_status`: it lists what is required and where that is said, and fails where a list differs."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from collections.abc import Callable
from functools import partial, wraps
from io import StringIO
from pathlib import Path
from typing import Any

import pytest
from django.contrib import admin
from django.core.management import CommandError, call_command
from django.core.management.base import BaseCommand
from django.http import HttpRequest, HttpResponse
from django.urls import include, path, re_path
from django.utils.decorators import method_decorator
from django.views.generic import View

from stepup import Requirement, conf, inventory
from stepup.decorators import mfa_required, stepup_required
from stepup.gate import Aged
from stepup.inventory import Recorded
from stepup.management.commands.stepup_status import Command
from stepup.mixins import MFARequiredMixin, StepUpRequiredMixin
from tests import settings as site

ROOT = Path(__file__).resolve().parent.parent


def page(request: HttpRequest) -> HttpResponse:
    raise NotImplementedError


def picked(request: HttpRequest) -> str:
    raise NotImplementedError


def polite(view: Callable[..., Any]) -> Callable[..., Any]:
    @wraps(view)
    def wrapper(request: HttpRequest) -> Any:
        raise NotImplementedError

    return wrapper


def forgetful(view: Callable[..., Any]) -> Callable[..., Any]:
    def wrapper(request: HttpRequest) -> Any:
        raise NotImplementedError

    return wrapper


class Sudo(StepUpRequiredMixin, View):
    requirement = "sudo"


class Depends(MFARequiredMixin, View):
    def get_requirement(self) -> str:
        raise NotImplementedError


@method_decorator(mfa_required, name="dispatch")
class Dispatched(View):
    pass


class Posting(View):
    def get(self, request: HttpRequest) -> HttpResponse:
        raise NotImplementedError

    @method_decorator(stepup_required("sudo"))
    def post(self, request: HttpRequest) -> HttpResponse:
        raise NotImplementedError

    put = post


class Mistaken(View):
    @method_decorator(stepup_required(["mfa"]))  # type: ignore[call-overload] # which is the mistake
    def delete(self, request: HttpRequest) -> HttpResponse:
        raise NotImplementedError


class Instance:
    def __call__(self, request: HttpRequest) -> str:
        raise NotImplementedError


urlpatterns: list[Any] = [
    path("", page, name="home"),
    path("bare/", mfa_required(page), name="bare"),
    path("aged/", mfa_required(max_age=60)(page), name="aged"),
    path("aged-form/", mfa_required(max_age=60, submit_max_age=90)(page), name="aged-form"),
    path("several/", stepup_required("mfa", Aged("sudo", 9))(page), name="several"),
    path("own/", stepup_required(Requirement(name="gold", acr=("g",)))(page), name="own"),
    path("named/", stepup_required(Requirement(name="sudo", max_age=300))(page), name="named"),
    path("picked/", stepup_required(picked)(page), name="picked"),
    path("instance/", stepup_required(Instance())(page), name="instance"),
    path("partial/", stepup_required(partial(picked))(page), name="partial"),
    path("nonsense/", stepup_required(None)(page), name="nonsense"),  # type: ignore[call-overload] # which is the point
    path("polite/", polite(mfa_required(page)), name="polite"),
    path("forgetful/", forgetful(mfa_required(page)), name="forgetful"),
    path("nested/", mfa_required(polite(stepup_required("sudo")(page))), name="nested"),
    path("same/", mfa_required(mfa_required(page)), name="same"),
    path("sudo/", Sudo.as_view(), name="sudo"),
    path("sudo-mfa/", Sudo.as_view(requirement="mfa"), name="sudo-mfa"),
    path("both/", mfa_required(Sudo.as_view()), name="both"),
    path("depends/", Depends.as_view(), name="depends"),
    path("dispatched/", Dispatched.as_view(), name="dispatched"),
    path("posting/", Posting.as_view(), name="posting"),
    path("mistaken/", Mistaken.as_view(), name="mistaken"),
    path("twice/", mfa_required(page), name="twice"),
    path("twice/<int:number>/", page, name="twice"),
    re_path("^hr/", include(([re_path("^list/$", page, name="list"), path("raw/", page)], "hr"), namespace="people")),
    path("unnamed/", page),
    path("oidc/", include("stepup.urls")),
]


def stepup(settings: Any, **changes: Any) -> None:
    settings.STEPUP = {**site.STEPUP, **changes}


@pytest.fixture(autouse=True)
def own_urls(settings: Any) -> None:
    settings.ROOT_URLCONF = __name__
    stepup(settings, PROTECTED_VIEWS={})


def status(*args: str) -> str:
    out = StringIO()
    call_command("stepup_status", *args, stdout=out, no_color=True)
    return out.getvalue()


def plain(*args: str) -> Any:
    return json.loads(status("--format", "json", *args))


def by_name(*args: str) -> dict[str, Any]:
    return {url["name"] or url["route"]: url for url in plain(*args)["urls"]}


# ---- What is seen ----


@pytest.mark.parametrize(
    ("name", "requirement", "kinds"),
    [
        ("home", None, []),
        ("bare", "mfa", ["decorator"]),
        ("aged", "mfa(max_age=60)", ["decorator"]),
        ("aged-form", "mfa(max_age=60, submit_max_age=90)", ["decorator"]),
        ("several", "mfa + sudo(max_age=9)", ["decorator"]),
        ("own", 'gold{"acr":["g"]}', ["decorator"]),
        ("named", "sudo", ["decorator"]),
        ("picked", "per request: tests.test_status.picked", ["decorator"]),
        ("instance", "per request: tests.test_status.Instance", ["decorator"]),
        ("partial", "per request: functools.partial", ["decorator"]),
        ("nonsense", "invalid: None", ["decorator"]),
        ("polite", "mfa", ["decorator"]),
        ("forgetful", None, []),
        ("nested", "mfa + sudo", ["decorator", "decorator"]),
        ("same", "mfa", ["decorator", "decorator"]),
        ("sudo", "sudo", ["mixin"]),
        ("sudo-mfa", "mfa", ["mixin"]),
        ("both", "mfa + sudo", ["decorator", "mixin"]),
        ("depends", "per request: tests.test_status.Depends.get_requirement", ["mixin"]),
        ("dispatched", "mfa", ["decorator"]),
        ("posting", "POST,PUT: sudo", ["decorator"]),
        ("mistaken", "DELETE: invalid: ['mfa']", ["decorator"]),
        ("people:list", None, []),
        ("/hr/raw/", None, []),
    ],
)
def test_what_a_view_requires_is_read_off_it(name: str, requirement: str | None, kinds: list[str]) -> None:
    url = by_name()[name]
    assert url["requirement"] == requirement
    assert [door["kind"] for door in url["doors"]] == kinds


def test_what_the_settings_protect_is_said_with_their_entry(settings: Any) -> None:
    stepup(settings, PROTECTED_VIEWS={"home": "mfa", "hr:*": "sudo", "both": "sudo", "oidc*": "mfa"})
    urls = by_name()
    assert urls["home"]["doors"] == [{"kind": "settings", "requirement": "mfa", "entry": "home"}]
    assert urls["people:list"]["doors"] == [{"kind": "settings", "requirement": "sudo", "entry": "hr:*"}]
    assert urls["/hr/raw/"]["requirement"] == "sudo", "as the middleware has it, a URL without a name too"
    assert [door["kind"] for door in urls["both"]["doors"]] == ["settings", "decorator", "mixin"]
    assert urls["both"]["requirement"] == "sudo + mfa"
    assert (urls["oidc_logout"]["requirement"], urls["oidc_logout"]["sign_in"]) == (None, True)


@pytest.mark.parametrize("entry", ["home", "people:list", "hr:list", "hr:*", "people:*", "*"])
def test_it_says_what_the_middleware_does(op: Any, client: Any, settings: Any, entry: str) -> None:
    settings.STEPUP = {**settings.STEPUP, "PROTECTED_VIEWS": {entry: "mfa"}}
    client.raise_request_exception = False
    for name, url in by_name().items():
        if url["view"] == "tests.test_status.page" and not any(door["kind"] != "settings" for door in url["doors"]):
            response = client.get(url["route"].replace("<int:number>", "5").replace("$", ""))
            assert (response.status_code == 302) == bool(url["doors"]), name


def test_without_the_middleware_the_settings_protect_nothing(settings: Any) -> None:
    stepup(settings, PROTECTED_VIEWS={"home": "mfa"})
    settings.MIDDLEWARE = [name for name in settings.MIDDLEWARE if "stepup" not in name]
    assert by_name()["home"]["requirement"] is None
    assert plain()["middleware"] is False
    assert "PROTECTED_VIEWS: StepUpMiddleware is not installed." in status()


def test_what_names_nothing_is_listed(settings: Any) -> None:
    stepup(settings, PROTECTED_VIEWS={"home": "mfa", "hom": "mfa", "pay*": "sudo", "hr:*": "sudo"})
    assert plain()["unmatched"] == ["hom", "pay*"]
    assert "In PROTECTED_VIEWS, and no URL has that name:\n  hom\n  pay*\n" in status()


def test_what_is_only_reported_is_said(settings: Any) -> None:
    stepup(settings, PROTECTED_VIEWS={"home": "sudo"}, REPORT_ONLY=["sudo"])
    urls = by_name()
    assert urls["home"]["requirement"] == urls["sudo"]["requirement"] == "sudo (report only)"
    assert urls["nested"]["requirement"] == "mfa + sudo (report only)"
    assert urls["named"]["requirement"] == "sudo (report only)"
    assert plain()["report_only"] == ["sudo"]
    assert "Only reported, and not enforced:\n  sudo\n" in status()


def test_a_site_where_step_up_is_off_is_told_so(settings: Any) -> None:
    stepup(settings, PROTECTED_VIEWS={}, CLIENTS_WITH_MFA=[])
    assert "Step-up is off:\n  Everywhere: CLIENTS_WITH_MFA leaves out this site's client id.\n" in status()
    assert plain()["enforced"] is False


def test_mistakes_in_the_settings_are_shown_and_hide_nothing(settings: Any) -> None:
    stepup(settings, PROTECTED_VIEWS={}, LEEEWAY=5)
    assert "stepup.E002: STEPUP has an unknown key 'LEEEWAY'." in status()
    assert plain()["problems"] == [{"id": "stepup.E002", "message": "STEPUP has an unknown key 'LEEEWAY'."}]
    assert by_name()["bare"]["requirement"] == "mfa"
    with pytest.raises(CommandError, match=r"stepup\.E002"):
        status("--check", "list.txt")


def test_the_admin_is_listed_url_by_url(settings: Any) -> None:
    settings.ROOT_URLCONF = (path("back-office/", admin.AdminSite().urls), path("oidc/", include("stepup.urls")))
    names = by_name().keys()
    assert {"admin:index", "admin:login", "admin:password_change"} <= names
    stepup(settings, PROTECTED_VIEWS={"admin:*": "mfa"})
    assert {url["requirement"] for name, url in by_name().items() if name.startswith("admin:")} == {"mfa"}


# ---- What looks sensitive ----


@pytest.mark.parametrize(
    ("name", "route", "words"),
    [
        ("password_change", "x/", ["password"]),
        ("passwords", "x/", ["passwords"]),
        ("", "salaries/", ["salaries"]),
        ("SalaryList", "x/", ["salary"]),
        ("userDelete", "x/", ["delete"]),
        ("api:export-all", "x/", ["export"]),
        ("x", "impersonate/<int:pk>/", ["impersonate"]),
        ("x", "account/2fa/", ["2fa"]),
        ("x", "mfa/setup/", ["mfa"]),
        ("otps", "x/", ["otps"]),
        ("otpimization", "x/", []),
        ("x", "robotpics/", []),
        ("administration", "x/", ["administration"]),
        ("badminton", "x/", []),
        ("wages", "x/", ["wages"]),
        ("wager", "x/", []),
        ("x", "mfanalysis/", []),
        ("home", "x/", []),
    ],
)
def test_what_looks_sensitive_is_told_by_its_words(settings: Any, name: str, route: str, words: list[str]) -> None:
    plain_name = name.rpartition(":")[2]
    settings.ROOT_URLCONF = (path(route, page, name=plain_name or None),)
    (url,) = plain()["urls"]
    assert url["looks_sensitive"] == words
    heading = "These look sensitive, and no protection is seen:"
    assert (heading in status()) == bool(words)
    settings.ROOT_URLCONF = (path(route, mfa_required(page), name=plain_name or None),)
    assert heading not in status()


# ---- How it is shown ----


def test_the_table_has_a_line_for_each_url(settings: Any) -> None:
    settings.ROOT_URLCONF = (
        path("", page, name="home"),
        path("salary/", page, name="salary"),
        path("payroll/", mfa_required(page), name="payroll"),
        path("tokens/", page),
        path("start/", page, name="oidc_authentication_init"),
    )
    stepup(settings, PROTECTED_VIEWS={"salary": "sudo"})
    assert status() == (
        "URL name                  requirement         from               route\n"
        "home                      none seen                              /\n"
        "salary                    sudo                settings (salary)  /salary/\n"
        "payroll                   mfa                 decorator          /payroll/\n"
        "(no name)                 none seen                              /tokens/\n"
        "oidc_authentication_init  part of signing in                     /start/\n"
        "\n"
        "2 of 5 URLs are protected.\n"
        "\n"
        "These look sensitive, and no protection is seen:\n"
        "  /tokens/ (tokens)\n"
    )
    assert status("--unprotected").splitlines()[:3] == [
        "URL name   requirement  from  route",
        "home       none seen          /",
        "(no name)  none seen          /tokens/",
    ]
    assert [url["route"] for url in plain("--unprotected")["urls"]] == ["/", "/tokens/"]


def test_a_site_without_urls_has_none(settings: Any) -> None:
    settings.ROOT_URLCONF = "missing.urls"
    assert "0 of 0 URLs are protected." in status()


def test_another_url_conf_can_be_named(settings: Any) -> None:
    assert "decorated-called" in by_name("--url-conf", "tests.urls")
    for wrong in ("missing.urls", "tests.visitor"):
        with pytest.raises(CommandError, match="The URL conf cannot be read"):
            status("--url-conf", wrong)


def test_no_database_is_touched() -> None:
    assert status(), "without the fixture, pytest-django would refuse"


# ---- The list ----


@pytest.fixture
def listed(tmp_path: Path, settings: Any) -> Path:
    """A list that is as the site is."""
    settings.ROOT_URLCONF = (
        path("", page, name="home"),
        path("salary/", mfa_required(page), name="salary"),
        path("sudo/", Sudo.as_view(), name="sudo"),
        path("export/", page, name="export"),
        path("raw/", mfa_required(page)),
        path("oidc/", include("stepup.urls")),
    )
    file = tmp_path / "protected-views.txt"
    file.write_text("# mine\n\nsalary  mfa\nsudo  sudo  # Since May.\nexport  -  # Only the menu.\n/raw/  mfa\n")
    return file


def differences(file: Path) -> list[str]:
    with pytest.raises(CommandError) as raised:
        status("--check", str(file))
    first, *found, last = str(raised.value).splitlines()
    assert first == f"The site differs from {file}:"
    assert last == f"To update the list: manage.py stepup_status --write {file}"
    assert raised.value.returncode == 1
    return found


def test_a_site_that_is_as_its_list_passes(listed: Path) -> None:
    assert status("--check", str(listed)) == f"All is as {listed} says (4 URL names).\n"


def change(settings: Any, **views: Any) -> None:
    """Put other views behind some names, or take them away, or add some."""
    kept = [each for each in settings.ROOT_URLCONF if getattr(each, "name", None) not in views]
    settings.ROOT_URLCONF = (*kept, *(path(f"{name}/", view, name=name) for name, view in views.items() if view))


DECIDE = "Protect it, or write into the list that it may be so: token_delete"
UPDATE = "If that is meant, update the list."


@pytest.mark.parametrize(
    ("views", "expected"),
    [
        (
            {"sudo": page},
            "sudo has lost its protection: it was sudo. Put it back; if it is meant to be open, update the list.",
        ),
        ({"sudo": mfa_required(page)}, f"sudo requires mfa, and it was sudo. {UPDATE}"),
        ({"salary": mfa_required(max_age=9)(page)}, f"salary requires mfa(max_age=9), and it was mfa. {UPDATE}"),
        ({"salary": None}, f"salary is in the list, and there is no such URL. {UPDATE}"),
        ({"export": None}, f"export is in the list, and there is no such URL. {UPDATE}"),
        (
            {"new": mfa_required(page)},
            "new is protected (mfa), and the list does not say so. Update the list, so that it stays so.",
        ),
        (
            {"export": mfa_required(page)},
            "export is protected (mfa), and the list does not say so. Update the list, so that it stays so.",
        ),
        (
            {"token_delete": page},
            f"token_delete looks sensitive (token, delete) and has no protection that can be seen. {DECIDE}  -",
        ),
    ],
)
def test_a_difference_is_told_with_what_to_do(listed: Path, settings: Any, views: Any, expected: str) -> None:
    change(settings, **views)
    assert differences(listed) == [expected]
    if expected.endswith(" -"):
        listed.write_text(listed.read_text() + expected.rpartition(": ")[2] + "\n")
    else:
        status("--write", str(listed))
    assert status("--check", str(listed))


def test_a_new_page_that_is_open_and_looks_harmless_is_no_difference(listed: Path, settings: Any) -> None:
    change(settings, news=page)
    assert status("--check", str(listed))


def test_only_reporting_is_losing_protection(listed: Path, settings: Any) -> None:
    stepup(settings, PROTECTED_VIEWS={}, REPORT_ONLY=["sudo"])
    assert differences(listed) == [f"sudo requires sudo (report only), and it was sudo. {UPDATE}"]


def test_a_name_of_several_urls_is_watched_at_each(listed: Path, settings: Any) -> None:
    settings.ROOT_URLCONF = (*settings.ROOT_URLCONF, path("salary/old/", page, name="salary"))
    (lost,) = differences(listed)
    assert lost.startswith("salary has lost its protection at one of its URLs: it was mfa. Put it back;")
    status("--write", str(listed))
    assert "\nsalary  -\nsalary  mfa\n" in listed.read_text()
    assert status("--check", str(listed))
    change(settings, salary=mfa_required(page))
    assert differences(listed) == [f"salary requires mfa, and it was mfa. {UPDATE}"]


def test_all_differences_are_told_at_once(listed: Path, settings: Any) -> None:
    change(settings, salary=page, sudo=None)
    assert [difference.split()[0] for difference in differences(listed)] == ["salary", "sudo"]


def test_a_list_is_written_sorted_with_what_was_acknowledged_and_with_comments(listed: Path, settings: Any) -> None:
    change(settings, secret=page, gone=None, backup=mfa_required(page))
    out = status("--write", str(listed))
    assert listed.read_text() == (
        inventory.HEADER
        + "/raw/  mfa\nbackup  mfa\nexport  -  # Only the menu.\nsalary  mfa\nsudo  sudo  # Since May.\n"
        + inventory.TO_DECIDE
        + "# secret  -\n"
    )
    assert out.startswith(f"{listed} has 5 URL names.\nsecret looks sensitive (secret)")
    before = listed.read_text()
    status("--write", str(listed))
    assert listed.read_text() == before
    assert differences(listed)[0].startswith("secret looks sensitive")
    listed.write_text(before.replace("# secret  -", "secret  -"))
    assert status("--check", str(listed))


def test_what_is_no_longer_acknowledged_for_a_reason_is_left_out(listed: Path, settings: Any) -> None:
    listed.write_text(listed.read_text() + "home  -\n")
    assert status("--check", str(listed)), "it says what is so"
    status("--write", str(listed))
    assert "home" not in listed.read_text()


def test_a_new_list_acknowledges_nothing(listed: Path) -> None:
    listed.unlink()
    status("--write", str(listed))
    assert "\nsalary  mfa\n" in listed.read_text()
    assert "\n# export  -\n" in listed.read_text()


def test_every_requirement_can_be_written_and_read_again(tmp_path: Path) -> None:
    file = tmp_path / "all.txt"
    status("--write", str(file))
    assert status("--check", str(file))
    found = list(inventory.entries(conf.best_effort()))
    recorded = inventory.parse(file.read_text())
    assert recorded.keys() == {entry.key for entry in found if entry.doors}
    assert recorded["twice"] == Recorded(frozenset({"mfa", "-"}))


@pytest.mark.parametrize("line", ["salary", "salary mfa", "  mfa", "salary  ", "  # comment\nsalary"])
def test_a_line_that_is_none_is_a_mistake(listed: Path, line: str) -> None:
    listed.write_text(f"sudo  sudo\n{line}\n")
    with pytest.raises(CommandError, match=r"cannot be read: line \d is no name, two spaces and a requirement"):
        status("--check", str(listed))
    with pytest.raises(CommandError, match="cannot be read"):
        status("--write", str(listed))


def test_a_list_that_cannot_be_read_or_written_is_a_mistake(tmp_path: Path) -> None:
    with pytest.raises(CommandError, match="cannot be read"):
        status("--check", str(tmp_path / "missing.txt"))
    with pytest.raises(CommandError, match="cannot be written"):
        status("--write", str(tmp_path / "missing" / "list.txt"))
    (tmp_path / "binary").write_bytes(b"\xff\xfe")
    with pytest.raises(CommandError, match="cannot be read"):
        status("--check", str(tmp_path / "binary"))


def test_checking_and_writing_do_not_go_together(tmp_path: Path) -> None:
    with pytest.raises(CommandError, match="not allowed with"):
        status("--check", "a", "--write", "b")


# ---- The reference ----

PAGE = (ROOT / "docs" / "reference" / "status.rst").read_text()


def test_the_reference_has_every_option() -> None:
    parser = Command().create_parser("manage.py", "stepup_status")
    base = BaseCommand().create_parser("manage.py", "other")
    own = set(parser._option_string_actions) - set(base._option_string_actions)
    assert set(re.findall(r"^   \* - ``(--[\w-]+)``$", PAGE, re.MULTILINE)) == own


def test_the_reference_has_every_word_that_looks_sensitive() -> None:
    said = PAGE.partition("one of the longer ones:")[2].partition(".\n")[0]
    assert tuple(re.findall("``(\\w+)``", said)) == inventory.SENSITIVE


def test_the_reference_has_every_key_of_the_json(settings: Any) -> None:
    stepup(settings, PROTECTED_VIEWS={"home": "mfa"}, LEEEWAY=5)
    said = set(re.findall(r"``(\w+)``", PAGE.partition("JSON\n----")[2]))
    shown = plain()
    url = next(url for url in shown["urls"] if url["doors"])
    assert said >= {*shown, *url, *url["doors"][0], *shown["problems"][0]}


def test_the_list_that_the_reference_shows_can_be_read() -> None:
    shown = re.search(r"code-block:: text\n\n((?:    .*\n)+)", PAGE)
    assert shown is not None
    recorded = inventory.parse(re.sub("^    ", "", shown.group(1), flags=re.MULTILINE))
    assert recorded["billing:refund"].requirements == {"sudo"}
    assert recorded["password_reset"] == Recorded(frozenset({"-"}), "Sends a mail and shows nothing.")


# ---- The example ----


def test_the_example_is_as_its_list_says(tmp_path: Path) -> None:
    command = [sys.executable, "-W", "error", "manage.py", "stepup_status"]
    environment = {**os.environ, "DJANGO_SETTINGS_MODULE": "example_project.settings", "PYTHONPATH": str(ROOT)}
    run = partial(subprocess.run, cwd=ROOT, env=environment, capture_output=True, text=True)
    checked = run([*command, "--check", "example_project/protected-views.txt"])
    assert (checked.returncode, checked.stderr) == (0, "")
    shown = run(command)
    assert (shown.returncode, shown.stderr) == (0, "")
    assert "settings (password)" in shown.stdout
    other = tmp_path / "list.txt"
    other.write_text("salary  sudo\n")
    failed = run([*command, "--check", str(other)])
    assert failed.returncode == 1
    assert "salary requires mfa, and it was sudo." in failed.stderr
