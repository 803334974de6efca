"""The documentation is executed, and held against the code.

A Python example begins with a comment that names its file. The examples of a page are run in order, as the files of one
project: what a page says its settings and views do, they do.
"""

from __future__ import annotations

import ast
import dataclasses
import json
import os
import re
import shutil
import socket
import subprocess
import sys
import textwrap
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from types import ModuleType
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest
import requests
from asgiref.sync import async_to_sync, iscoroutinefunction
from django.conf import settings as django_settings
from django.contrib.auth.models import AnonymousUser, User
from django.contrib.sessions.backends.cache import SessionStore
from django.http import HttpRequest
from django.template import engines
from django.test import Client, RequestFactory
from django.urls import clear_url_caches

from stepup import assurance, checks, conf, session, verdicts
from stepup.dialects import DIALECTS, MULTI_FACTOR
from stepup.gate import StepUpRequired
from stepup.middleware import StepUpMiddleware
from stepup.mixins import StepUpRequiredMixin
from stepup.testing import assertions, plugin
from stepup.testing.driver import Person
from stepup.testing.provider import from_site
from stepup.testing.provider.launcher import RunningProvider
from stepup.verdicts import Verdict
from tests.urls import Page

ROOT = Path(__file__).resolve().parent.parent
DOCS = ROOT / "docs"
ACTION = DOCS / "auth0" / "post-login-action.js"
PAGES = [
    path.relative_to(ROOT).as_posix()
    for path in (ROOT / "README.rst", ROOT / "CONTRIBUTING.rst", *sorted(DOCS.rglob("*.rst")))
    if "_build" not in path.parts
]

#: Pages whose Python files are run by a test of their own as well, in a project made of them.
TUTORIAL = "docs/tutorial.rst"
TESTING = "docs/howto/testing.rst"
KIT = "docs/reference/testing.rst"
#: With apps that are not installed here: run in projects of its own, in `test_own_factors.py`.
OWN_FACTORS = "docs/howto/own-factors.rst"

OP = "https://op.example/authorize"

#: What `django-admin startproject` writes, which the examples add to.
NEW_PROJECT: Mapping[str, list[str]] = {
    "INSTALLED_APPS": ["django.contrib.auth", "django.contrib.contenttypes", "django.contrib.sessions"],
    "MIDDLEWARE": [
        "django.contrib.sessions.middleware.SessionMiddleware",
        "django.contrib.auth.middleware.AuthenticationMiddleware",
        "django.contrib.messages.middleware.MessageMiddleware",
    ],
}


@dataclasses.dataclass(frozen=True)
class Block:
    """A `code-block` of a page."""

    page: str
    line: int
    language: str
    text: str

    @property
    def file(self) -> str:
        """The name of the file that the example is (part of); empty where it does not say."""
        first = re.match(r"# (\w+\.py)$", self.text.partition("\n")[0])
        return first.group(1) if first else ""

    def __str__(self) -> str:
        return f"{self.page}:{self.line}"


def blocks_of(page: str, language: str = "python") -> list[Block]:
    lines = (ROOT / page).read_text().splitlines()
    return [
        Block(page, number, language, _indented(lines[number:]))
        for number, line in enumerate(lines, start=1)
        if line.strip() == f".. code-block:: {language}"
    ]


def _indented(lines: list[str]) -> str:
    """The body of a directive: what is indented below it, without its options."""
    body: list[str] = []
    for line in lines:
        if line and not line.startswith(" "):
            break
        body.append(line)
    text = textwrap.dedent("\n".join(body)).strip("\n")
    while text.startswith(":"):
        text = text.partition("\n")[2].lstrip("\n")
    return text + "\n"


def every(language: str) -> list[Block]:
    return [block for page in PAGES for block in blocks_of(page, language)]


def read(page: str) -> str:
    return (ROOT / page).read_text()


class Site:
    """The project that the examples of a page make: its settings, and its modules under the names the pages give it."""

    def __init__(self, settings: Any, monkeypatch: pytest.MonkeyPatch) -> None:
        self.settings = settings
        self.monkeypatch = monkeypatch
        self.package = ModuleType("mysite")
        self.package.__path__ = []
        for name in ("mysite", "payday"):
            monkeypatch.setitem(sys.modules, name, self.package)
        self.namespace: dict[str, Any] = {}
        self.is_complete = False
        monkeypatch.setenv("OIDC_RP_CLIENT_ID", "site")
        monkeypatch.setenv("OIDC_RP_CLIENT_SECRET", "a-secret-from-the-environment-of-the-server")
        settings.INSTALLED_APPS = [*settings.INSTALLED_APPS, "django.contrib.admin"]
        settings.SESSION_ENGINE = "django.contrib.sessions.backends.cache"
        settings.OIDC_OP_AUTHORIZATION_ENDPOINT = OP

    def take(self, block: Block) -> None:
        if block.file == "settings.py":
            self._configure(block)
        else:
            self._add(block)

    def __getattr__(self, name: str) -> ModuleType:
        module: ModuleType = vars(self.package)[name]
        return module

    def _configure(self, block: Block) -> None:
        if "AUTHENTICATION_BACKENDS" in block.text:  # the settings of a whole site, and not a change to them
            self.namespace = {key: list(value) for key, value in NEW_PROJECT.items()}
            self.is_complete = True
        exec(compile(block.text, str(block), "exec"), self.namespace)  # noqa: S102 - our own documentation
        for name, value in self.namespace.items():
            # The apps of this process stay; LOGGING was read when it started.
            if name.isupper() and name not in ("INSTALLED_APPS", "LOGGING"):
                setattr(self.settings, name, value)

    def _add(self, block: Block) -> None:
        name = block.file.removesuffix(".py")
        if name not in vars(self.package):
            module = ModuleType(f"mysite.{name}")
            setattr(self.package, name, module)
            for package in ("mysite", "payday"):
                self.monkeypatch.setitem(sys.modules, f"{package}.{name}", module)
        if name == "urls":
            # They name the views that the settings name at the time.
            for module_name in ("stepup.urls", "mozilla_django_oidc.urls"):
                self.monkeypatch.delitem(sys.modules, module_name, raising=False)
        exec(compile(block.text, str(block), "exec"), vars(getattr(self, name)))  # noqa: S102 - see above
        if name == "urls":
            self.settings.ROOT_URLCONF = "mysite.urls"
            clear_url_caches()

    def protected_views(self) -> Iterator[Callable[..., Any]]:
        views = vars(self.package).get("views")
        for thing in list(vars(views).values()) if views else []:
            if isinstance(thing, type) and issubclass(thing, StepUpRequiredMixin):
                if thing.__module__ == "mysite.views":
                    yield thing.as_view()
            elif hasattr(thing, "stepup_requirement"):
                yield thing


@pytest.fixture
def site(settings: Any, monkeypatch: pytest.MonkeyPatch) -> Iterator[Site]:
    yield Site(settings, monkeypatch)
    clear_url_caches()


def request_of(user: User | AnonymousUser, *, proved: bool = False, path: str = "/here/") -> HttpRequest:
    request = RequestFactory().get(path)
    request.session = SessionStore()
    request.user = user

    async def auser() -> User | AnonymousUser:
        return user

    request.auser = auser
    if proved and isinstance(user, User):
        claims = {"iss": conf.current().issuer, "sub": "anna", "amr": ["mfa"], "acr": "phr", "auth_time": time.time()}
        session.record(request, user, claims)
    return request


def ask(view: Callable[..., Any], request: HttpRequest) -> Any:
    return async_to_sync(view)(request) if iscoroutinefunction(view) else view(request)


ANNA = User(pk=1, username="anna", email="anna@harbour.example")

# ---- Examples ----


@pytest.mark.parametrize("block", every("python"), ids=str)
def test_each_python_example_says_which_file_it_is_and_compiles(block: Block) -> None:
    assert block.file
    compile(block.text, str(block), "exec")


@pytest.mark.parametrize("page", [page for page in PAGES if blocks_of(page) and page != OWN_FACTORS])
def test_the_examples_of_a_page_work(page: str, site: Site) -> None:
    for block in blocks_of(page):
        if block.file.startswith("test_"):
            continue  # run in a project of its own, below
        site.take(block)
        assert conf.problems() == (), block
        if block.file in ("settings.py", "urls.py") and site.is_complete and hasattr(site.package, "urls"):
            # The README shows a few URL names without the URLs.
            found = [each for each in checks.check_settings(None) if (page, each.id) != ("README.rst", "stepup.E027")]
            assert found == [], block
    for view in site.protected_views():
        for stranger in (AnonymousUser(), ANNA):
            answer = ask(view, request_of(stranger))
            assert (answer.status_code, answer["Location"].partition("?")[0]) == (302, OP), view
        opened = ask(view, request_of(ANNA, proved=True))
        assert opened.status_code == 200, view
        assert "no-store" in opened["Cache-Control"], view


@pytest.mark.parametrize("page", ["README.rst", "docs/howto/doors.rst"])
def test_code_below_a_view_can_ask(page: str, site: Site) -> None:
    for block in blocks_of(page):
        if not block.file.startswith("test_"):
            site.take(block)
    middleware = StepUpMiddleware(lambda request: None)
    request = request_of(ANNA, path="/report/?salaries=1")
    with pytest.raises(StepUpRequired) as raised:
        site.views.report(request)
    answer = middleware.process_exception(request, raised.value)
    assert answer is not None
    assert answer["Location"].startswith(OP)
    assert site.views.report(request_of(ANNA, proved=True, path="/report/?salaries=1")).status_code == 200
    assert site.views.report(request_of(ANNA)).status_code == 200


def test_the_example_that_only_wants_to_know_is_told(site: Site) -> None:
    for block in blocks_of("docs/howto/doors.rst"):
        site.take(block)
    assert b"nothing: False, ['amr: missing']" in site.views.account(request_of(ANNA)).content
    assert b"mfa: True, []" in site.views.account(request_of(ANNA, proved=True)).content


def test_pages_are_protected_by_url_name(site: Site) -> None:
    for block in blocks_of("docs/howto/url-names.rst"):
        site.take(block)
    asked = {
        path: parse_qs(urlsplit(Client().get(path)["Location"]).query)
        for path in ("/payroll/", "/payroll/close/", "/password/", "/admin/")
    }
    assert all(asked[path]["acr_values"] == [MULTI_FACTOR] for path in ("/payroll/", "/password/", "/admin/"))
    assert asked["/payroll/close/"]["max_age"] == ["300"]
    assert "acr_values" not in asked["/payroll/close/"]
    assert urlsplit(Client().get("/oidc/authenticate/")["Location"]).hostname == "op.example"


def test_essential_is_asked_for_as_the_page_says(site: Site) -> None:
    page = "docs/howto/generic.rst"
    for block in blocks_of(page):
        site.take(block)
        if '"gold"], "essential"' in block.text:
            break
    said = re.search(r"That sends ``claims=(.*)``", read(page))
    assert said is not None
    sent = Client().get("/oidc/authenticate/?stepup=mfa")["Location"]
    assert parse_qs(urlsplit(sent).query)["claims"] == [said.group(1)]


def test_the_receiver_hears_of_a_wrong_user(site: Site) -> None:
    for block in blocks_of("docs/reference/signals.rst"):
        site.take(block)
    verdicts.page(request_of(ANNA), Verdict.WRONG_USER, user=ANNA, reasons=["sub: mismatch"])
    verdicts.page(request_of(ANNA), Verdict.DECLINED, user=ANNA)
    assert site.receivers.alarms == [(1, ("sub: mismatch",))]


def test_the_development_settings_make_a_provider(site: Site) -> None:
    page = "docs/howto/local-provider.rst"
    for block in blocks_of(page):
        site.take(block)
    given = site.namespace
    configuration = from_site(
        given["STEPUP_PROVIDER"],
        client_id=given["OIDC_RP_CLIENT_ID"],
        client_secret=given["OIDC_RP_CLIENT_SECRET"],
        sign_algo=given["OIDC_RP_SIGN_ALGO"],
        callback_path="/oidc/callback/",
    )
    assert [user.username for user in configuration.users] == ["dora"]
    assert f"http://{configuration.host}:{configuration.port}/" == given["STEPUP"]["ISSUER"]


def test_signing_out_leads_to_the_provider_and_back(site: Site, op: RunningProvider) -> None:
    for block in blocks_of("docs/howto/sign-out.rst"):
        site.take(block)
    del site.settings.OIDC_OP_AUTHORIZATION_ENDPOINT
    site.settings.STEPUP = {**site.settings.STEPUP, "ISSUER": op.issuer}
    site.settings.SESSION_COOKIE_SECURE = False
    client, anna = Client(), Person("anna", "anna-password")
    back = anna.authenticate(client.get("/oidc/authenticate/")["Location"], factor=None)
    client.get(back)
    assert client.session["oidc_id_token"]
    left = client.post("/oidc/logout/")
    assert left["Location"].startswith(f"{op.issuer}oidc/logout?")
    shown = client.get(anna.sign_out(left["Location"]))
    assert b"You are signed out of this site, and of your sign-in service." in shown.content
    assert conf.current().back_channel_logout == "end"
    assert Client().post("/oidc/backchannel-logout/").status_code == 400
    assert Client().get("/oidc/frontchannel-logout/").status_code == 200


def test_identities_can_be_made_by_hand(site: Site, db: None) -> None:
    for block in blocks_of("docs/explanation/users.rst"):
        site.take(block)
    user = User.objects.create(username="anna")
    site.link.link(user, "auth0|anna")
    assert user.stepup_identities.get().subject == "auth0|anna"


@pytest.mark.parametrize("block", every("html+django"), ids=str)
def test_each_template_compiles(block: Block) -> None:
    engines["django"].from_string(block.text)


@pytest.mark.parametrize("page", ["README.rst", "CONTRIBUTING.rst", "docs/index.rst"])
def test_what_can_be_made_is_in_the_makefile(page: str) -> None:
    said = set(re.findall(r"(?:\$ |``)make (\w+)", read(page)))
    assert said
    assert said <= set(re.findall(r"^(\w+):", read("Makefile"), re.MULTILINE))


def test_the_readme_is_valid_and_short() -> None:
    command = [sys.executable, "-m", "docutils", "--halt=warning", "--syntax-highlight=none", str(ROOT / "README.rst")]
    subprocess.run(command, check=True, capture_output=True)
    assert len(read("README.rst").splitlines()) < 200


def test_the_files_that_the_readme_names_are_there() -> None:
    named = set(re.findall(r"``((?:docs|[A-Z]+\.)[\w/.-]*)``", read("README.rst"))) | {"docs/_static/flow.png"}
    assert {"SECURITY.md", "docs/auth0/post-login-action.js"} <= named
    assert [name for name in named if not (ROOT / name).exists()] == []


# ---- The project of the tutorial ----


@dataclasses.dataclass(frozen=True)
class Payday:
    """The tutorial's project on disk, with a port for its site and one for its provider."""

    path: Path
    port: int
    provider_port: int

    def manage(self, *arguments: str) -> str:
        done = subprocess.run(
            [sys.executable, "manage.py", *arguments],
            cwd=self.path,
            env=self.environment,
            check=False,
            capture_output=True,
            text=True,
        )
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout + done.stderr

    @property
    def environment(self) -> dict[str, str]:
        others = {name: value for name, value in os.environ.items() if name != "DJANGO_SETTINGS_MODULE"}
        return {**others, "PYTHONPATH": str(ROOT), "PYTHONUNBUFFERED": "1"}

    @contextmanager
    def running(self, log: Path, url: str, *arguments: str) -> Iterator[None]:
        command = [sys.executable, "manage.py", *arguments]
        with (
            log.open("w") as output,
            subprocess.Popen(command, cwd=self.path, env=self.environment, stdout=output, stderr=output) as process,
        ):
            try:
                _wait_for(url, process, log)
                yield
            finally:
                process.terminate()


def _wait_for(url: str, process: subprocess.Popen[bytes], log: Path) -> None:
    for _ in range(300):
        assert process.poll() is None, log.read_text()
        try:
            requests.get(url, timeout=5)
        except requests.ConnectionError:
            time.sleep(0.1)
        else:
            return
    raise AssertionError(f"{url} does not answer: {log.read_text()}")


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


@pytest.fixture(scope="module")
def payday(tmp_path_factory: pytest.TempPathFactory) -> Payday:
    project = Payday(tmp_path_factory.mktemp("payday"), _free_port(), _free_port())
    subprocess.run([sys.executable, "-m", "django", "startproject", "payday", "."], cwd=project.path, check=True)
    files: dict[str, str] = {}
    for block in blocks_of(TUTORIAL):
        files.setdefault(block.file, block.text)  # a second version of a file comes later in the story
    settings = project.path / "payday" / "settings.py"
    added = files.pop("settings.py").replace(":9000/", f":{project.provider_port}/")
    settings.write_text(f"{settings.read_text()}\n{added}")
    for name, text in files.items():
        (project.path / "payday" / name).write_text(text)
    templates = project.path / "payday" / "templates"
    templates.mkdir()
    (templates / "home.html").write_text(blocks_of(TUTORIAL, "html+django")[0].text)
    return project


def test_the_tutorial_leads_where_it_says(payday: Payday) -> None:
    assert "System check identified no issues (0 silenced)." in payday.manage("check")
    payday.manage("migrate")
    home, provider = f"http://127.0.0.1:{payday.port}", f"http://127.0.0.1:{payday.provider_port}"
    provider_log, site_log = payday.path / "provider.log", payday.path / "site.log"
    with (
        payday.running(provider_log, provider, "stepup_provider", "--port", str(payday.provider_port)),
        payday.running(site_log, home, "runserver", "--noreload", f"127.0.0.1:{payday.port}"),
    ):
        announced = next(block for block in blocks_of(TUTORIAL, "console") if "stepup_provider" in block.text)
        for line in announced.text.replace(":9000/", f":{payday.provider_port}/").splitlines()[1:]:
            assert line in provider_log.read_text()

        with requests.Session() as browser:
            browser.trust_env = False
            anna = Person("anna", "anna-password", session=browser)
            answer = browser.get(f"{home}/oidc/authenticate/", allow_redirects=False)
            page = browser.get(anna.authenticate(answer.headers["Location"], factor=None)).text
            assert "You have not confirmed" in page
            answer = browser.get(f"{home}/salary/", allow_redirects=False)
            opened = browser.get(anna.authenticate(answer.headers["Location"], factor="push"))
            assert opened.url == f"{home}/salary/"
            assert opened.text == "anna@harbour.example, you earn a lot."
            assert "You have confirmed" in browser.get(f"{home}/").text
        with requests.Session() as browser:
            browser.trust_env = False
            cleo = Person("cleo", "cleo-password", session=browser)
            answer = browser.get(f"{home}/salary/", allow_redirects=False)
            refused = browser.get(cleo.authenticate(answer.headers["Location"], factor=None))
            assert refused.status_code == 403

    logged = site_log.read_text()
    story, refusal = (block.text.splitlines() for block in blocks_of(TUTORIAL, "text"))
    assert [line for line in logged.splitlines() if line in story][: len(story)] == story
    assert re.sub(r"\[\w+\]", "", refusal[0]) in re.sub(r"\[\w+\]", "", logged)


@pytest.mark.parametrize("page", ["README.rst", TESTING])
def test_the_tests_that_a_page_shows_pass(page: str, payday: Payday) -> None:
    shown = [block for block in blocks_of(page) if block.file.startswith("test_")]
    directory = payday.path / Path(page).stem
    directory.mkdir()
    for block in shown:
        (directory / block.file).write_text(block.text)
    (directory / "protected-views.txt").write_text("salary  mfa\n")
    command = [sys.executable, "-W", "error", "-m", "pytest", "-p", "no:stepup", "-p", "stepup.testing.plugin", "-q"]
    options = ["-o", "asyncio_default_fixture_loop_scope=function", "--ds", "payday.settings", str(directory)]
    ran = subprocess.run(
        [*command, *options], cwd=payday.path, env=payday.environment, check=False, capture_output=True, text=True
    )
    assert ran.returncode == 0, ran.stdout
    assert f"{sum(block.text.count('def test_') for block in shown)} passed" in ran.stdout


# ---- The reference pages ----


def test_the_reference_of_the_test_kit_has_every_fixture_and_assertion() -> None:
    named = set(re.findall(r"^\.\. auto\w+:: stepup\.testing\.(?:plugin|assertions)\.(\w+)", read(KIT), re.MULTILINE))
    assert named == {name for name in vars(plugin) if name.startswith("stepup_")} | set(assertions.__all__)


def rows_of(page: str) -> list[list[str]]:
    """The rows of the page's list-tables, headers left out."""
    tables = re.findall(r"^\.\. list-table::\n((?:(?: .*)?\n)*)", read(page), re.MULTILINE)
    rows = [row for table in tables for row in re.split(r"^   \* - ", table, flags=re.MULTILINE)[2:]]
    return [[cell.strip() for cell in re.split(r"^     - ", row, flags=re.MULTILINE)] for row in rows]


def codes_in(text: str) -> set[str]:
    return set(re.findall(r"``([^`]+)``", text))


def table_after(page: str, heading: str) -> set[str]:
    """The first column of the simple table below a heading."""
    _header, body, _rest = re.split(r"^=+ =[= ]*\n", read(page).partition(heading)[2], flags=re.MULTILINE)[1:4]
    return set(re.findall(r"^``(\w+)``", body, re.MULTILINE))


def sources(*names: str) -> str:
    return "\n".join((ROOT / "stepup" / f"{name}.py").read_text() for name in names)


def calls() -> Iterator[ast.Call]:
    """Every call in the core."""
    for path in (ROOT / "stepup").glob("*.py"):
        yield from (node for node in ast.walk(ast.parse(path.read_text())) if isinstance(node, ast.Call))


SETTINGS = "docs/reference/settings.rst"
CONFVALS = re.findall(r"^\.\. confval:: (\w+)\n   :type: .+\n   :default: (.+)$", read(SETTINGS), re.MULTILINE)


def test_the_settings_reference_has_every_setting_that_is_read_and_no_other() -> None:
    source = sources("conf")
    assert len(CONFVALS) == read(SETTINGS).count(".. confval::"), "each has a type and a default"
    said = [name for name, _ in CONFVALS]
    assert len(said) == len(set(said))
    own = {name for name in said if not name.startswith("OIDC_")}
    assert own == set(re.findall(r'read\.take\(\s*"([A-Z_]+)"', source))
    assert set(said) - own == set(re.findall(r'"(OIDC_[A-Z_]+)"', source))


def test_the_settings_reference_says_which_settings_are_ignored() -> None:
    assert table_after(SETTINGS, "Settings that are ignored\n") == {name for name, _ in checks.IGNORED}


def test_the_settings_reference_has_the_keys_of_a_requirement() -> None:
    keys = {field.name for field in dataclasses.fields(assurance.Requirement) if field.init} - {"name"}
    assert table_after(SETTINGS, "What a requirement says\n---") == keys


def test_the_settings_reference_has_the_defaults(settings: Any) -> None:
    for name in dir(django_settings):
        if name.startswith("OIDC_"):
            delattr(settings, name)
    settings.STEPUP = {}
    loaded = conf.best_effort()
    assert DIALECTS["generic"] is loaded.dialect
    in_force: dict[str, Any] = {
        "PROVIDER": "generic",
        "REQUIREMENTS": dict(loaded.requirements),
        "PROTECTED_VIEWS": dict(loaded.protected_views),
        "REPORT_ONLY": sorted(loaded.report_only),
        "LEEWAY": loaded.leeway,
        "MAX_PENDING": loaded.max_pending,
        "MAX_EVIDENCE_AGE": loaded.max_evidence_age,
        "MAX_ATTEMPTS": loaded.max_attempts,
        "ATTEMPTS_WITHIN": loaded.attempts_within,
        "PENDING_MAX_AGE": loaded.pending_max_age,
        "KEEP_FORMS": loaded.keep_forms,
        "KEEP_FORMS_BYTES": loaded.keep_forms_bytes,
        "DOCUMENTATION_URL": loaded.documentation_url,
        "UNSAFE_TRUST_UNVERIFIED_EMAIL": loaded.trust_unverified_email,
        "SIGN_OUT_AT_PROVIDER": loaded.sign_out_at_provider,
        "BACK_CHANNEL_LOGOUT": loaded.back_channel_logout,
        "FRONT_CHANNEL_LOGOUT": loaded.front_channel_logout,
        "OIDC_RP_SIGN_ALGO": loaded.algorithms[0],
        "OIDC_RP_SCOPES": loaded.scopes,
        "OIDC_AUTH_REQUEST_EXTRA_PARAMS": dict(loaded.extra_params),
        "OIDC_AUTHENTICATION_CALLBACK_URL": loaded.callback_url_name,
        "OIDC_AUTHENTICATE_CLASS": loaded.authenticate_class,
        "OIDC_CALLBACK_CLASS": loaded.callback_class,
        "OIDC_REDIRECT_FIELD_NAME": loaded.redirect_field_name,
        "OIDC_REDIRECT_ALLOWED_HOSTS": list(loaded.redirect_hosts),
        "OIDC_STATE_SIZE": loaded.state_size,
        "OIDC_NONCE_SIZE": loaded.nonce_size,
        "OIDC_PKCE_CODE_VERIFIER_SIZE": loaded.code_verifier_size,
        "OIDC_TOKEN_USE_BASIC_AUTH": loaded.client_authentication == "client_secret_basic",
        "CLIENT_AUTHENTICATION": loaded.client_authentication,
        "PUSHED_REQUESTS": loaded.pushed_requests,
        "SIGNED_REQUESTS": loaded.signed_requests,
        "CACHE": loaded.cache,
        "USERINFO": loaded.userinfo,
        "OIDC_TIMEOUT": loaded.timeout,
        "OIDC_VERIFY_SSL": loaded.verify_tls,
        "OIDC_VERIFY_KID": loaded.match_kid,
        "OIDC_CREATE_USER": loaded.create_users,
        "OIDC_RENEW_ID_TOKEN_EXPIRY_SECONDS": loaded.renew_after,
        "OIDC_EXEMPT_URLS": list(loaded.renewal_exempt),
        "KEEP_REFRESH_TOKEN": loaded.keep_refresh_token,
        "RENEWAL_GRACE": loaded.renewal_grace,
        "OIDC_ALLOW_UNSECURED_JWT": False,
    }
    said = {name: ast.literal_eval(default[2:-2]) for name, default in CONFVALS if default.startswith("``")}
    assert said == in_force


def test_the_checks_reference_has_every_id_and_no_other() -> None:
    said = [row[0].strip("`").removeprefix("stepup.") for row in rows_of("docs/reference/checks.rst")]
    assert len(said) == len(set(said))
    assert set(said) == set(re.findall(r'"(?:stepup\.)?([EW]\d{3})"', sources("conf", "checks")))
    elsewhere = set(re.findall(r"\b([EW]0\d\d)\b", "".join(map(read, PAGES))))
    assert elsewhere <= set(said)


def test_the_verdicts_reference_has_every_verdict_with_its_status() -> None:
    said = {row[0].strip("`"): int(row[1]) for row in rows_of("docs/reference/verdicts.rst")}
    assert said.keys() == {verdict.value for verdict in Verdict}
    assert said.pop("satisfied") == 302
    for code, status in said.items():
        assert verdicts.page(request_of(ANNA), Verdict(code), user=ANNA).status_code == status


def test_the_verdicts_reference_has_the_context_of_the_template() -> None:
    context = next(
        call.args[2]
        for call in calls()
        if any(isinstance(arg, ast.Constant) and arg.value == "stepup/verdict.html" for arg in call.args)
    )
    assert isinstance(context, ast.Dict)
    keys = {key.value for key in context.keys if isinstance(key, ast.Constant)}
    assert table_after("docs/reference/verdicts.rst", "The pages\n---") == keys


def test_the_signals_reference_has_every_signal_with_its_arguments() -> None:
    sent = {
        call.func.value.attr: {keyword.arg for keyword in call.keywords} - {"sender"}
        for call in calls()
        if isinstance(call.func, ast.Attribute)
        and call.func.attr == "send_robust"
        and isinstance(call.func.value, ast.Attribute)
    }
    assert {row[0].strip("`"): codes_in(row[2]) for row in rows_of("docs/reference/signals.rst")} == sent


def test_the_logging_reference_has_every_event_with_its_fields() -> None:
    logged = {}
    for call in calls():
        fields = next((keyword.value for keyword in call.keywords if keyword.arg == "extra"), None)
        if isinstance(fields, ast.Dict) and isinstance(call.func, ast.Attribute):
            keys = [key.value for key in fields.keys if isinstance(key, ast.Constant)]
            event = ast.literal_eval(fields.values[keys.index("event")])
            level = call.func.attr.upper().replace("LOG", "ERROR or WARNING")
            logged[event] = (level, set(keys) - {"event"})
    said = {row[0].strip("`"): (row[1], codes_in(row[3])) for row in rows_of("docs/reference/logging.rst")}
    assert said == logged
    lines = re.findall(r"logger\.\w+\(", sources(*(path.stem for path in (ROOT / "stepup").glob("*.py"))))
    assert len(lines) == len(logged), "each line that is logged is an event"


def test_scripts_get_the_json_that_the_reference_shows(settings: Any) -> None:
    settings.ALLOWED_HOSTS = ["site.example"]
    request = request_of(ANNA)
    request.META.update(
        {
            "HTTP_HOST": "site.example",
            "HTTP_ACCEPT": "application/json",
            "HTTP_REFERER": "https://site.example/payroll/",
            "wsgi.url_scheme": "https",
        }
    )
    answer = Page.as_view()(request)
    assert answer.status_code == 401
    (shown,) = blocks_of("docs/reference/answers.rst", "json")
    assert json.loads(answer.content) == json.loads(shown.text)


# ---- The Action ----


def test_the_action_looks_before_it_reads() -> None:
    code = re.sub(r"^ *(?:/\*(?:.|\n)*?\*/|//.*)$", "", ACTION.read_text(), flags=re.MULTILINE)
    assert f"const MULTI_FACTOR = '{MULTI_FACTOR}';" in code
    assert "exports.onExecutePostLogin = async (event, api) =>" in code
    assert "event.transaction?.acr_values" in code
    assert "Array.isArray(asked) && asked.includes(MULTI_FACTOR)" in code
    assert "event.secrets?.CLIENTS_WITH_MFA" in code
    assert code.count("api.") == 1
    assert "api.multifactor.enable('any', { allowRememberBrowser: false })" in code


ASKED = {"transaction": {"acr_values": [MULTI_FACTOR]}, "client": {"client_id": "site"}, "secrets": {}}

LOGINS: dict[str, tuple[dict[str, Any], bool]] = {
    "it is asked for, and every client may ask": (ASKED, True),
    "it is asked for among others": ({**ASKED, "transaction": {"acr_values": ["other", MULTI_FACTOR]}}, True),
    "the client is in the list": ({**ASKED, "secrets": {"CLIENTS_WITH_MFA": "other, site"}}, True),
    "another client is in the list": ({**ASKED, "secrets": {"CLIENTS_WITH_MFA": "other"}}, False),
    "the name is a part of one in the list": ({**ASKED, "secrets": {"CLIENTS_WITH_MFA": "site-two"}}, False),
    "no acr_values were sent": ({**ASKED, "transaction": {}}, False),
    "none were sent, as null": ({**ASKED, "transaction": {"acr_values": None}}, False),
    "others were sent": ({**ASKED, "transaction": {"acr_values": ["other"]}}, False),
    "they are no list": ({**ASKED, "transaction": {"acr_values": MULTI_FACTOR}}, False),
    "there is no transaction": ({"client": {"client_id": "site"}, "secrets": {}}, False),
    "there are no secrets": ({"client": {"client_id": "site"}, "transaction": ASKED["transaction"]}, True),
    "there is nothing at all": ({}, False),
}

HARNESS = """
const { onExecutePostLogin } = require(process.argv[1]);
const events = JSON.parse(require('fs').readFileSync(0, 'utf8'));
(async () => {
  const asked = [];
  for (const event of events) {
    const calls = [];
    await onExecutePostLogin(event, { multifactor: { enable: (...given) => calls.push(given) } });
    asked.push(calls);
  }
  console.log(JSON.stringify(asked));
})();
"""


def test_the_action_asks_for_a_second_factor_when_and_only_when_it_should() -> None:
    node = shutil.which("node")
    if node is None:
        return  # the text was checked above; a machine without it tests everything else
    events = json.dumps([event for event, _ in LOGINS.values()])
    done = subprocess.run([node, "-e", HARNESS, str(ACTION)], input=events, check=True, capture_output=True, text=True)
    expected = {
        login: [["any", {"allowRememberBrowser": False}]] if asked else [] for login, (_, asked) in LOGINS.items()
    }
    assert dict(zip(LOGINS, json.loads(done.stdout), strict=True)) == expected


def test_the_action_and_the_dialect_speak_of_the_same_class() -> None:
    assert DIALECTS["auth0"].requirements["mfa"].acr_values == (MULTI_FACTOR,)
    assert django_settings.STEPUP["PROVIDER"] == "auth0"
