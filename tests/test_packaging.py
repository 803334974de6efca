"""The wheel: that it is whole, that it needs what it says it needs, and that a new project runs with it.

It is built from a copy, so that nothing left over from another build gets in, and installed in an environment of its
own that sees its runtime dependencies and nothing else. Where setuptools is at hand, none of this asks the network.
"""

from __future__ import annotations

import ast
import os
import re
import shutil
import subprocess
import sys
import zipfile
from collections.abc import Iterator
from email import message_from_bytes
from email.message import Message
from importlib.metadata import PackageNotFoundError, distribution, distributions, version
from pathlib import Path
from typing import NamedTuple

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from packaging.version import Version

import stepup

ROOT = Path(__file__).resolve().parent.parent
SOURCES = ["stepup", "pyproject.toml", "setup.cfg", "README.rst", "LICENSE"]

SETTINGS = """
SECRET_KEY = "a-key-for-this-test-only-which-is-long-enough"
DEBUG = False
ALLOWED_HOSTS = ["testserver"]
ROOT_URLCONF = "urls"
INSTALLED_APPS = [
    "django.contrib.auth",
    "django.contrib.contenttypes",
    "django.contrib.sessions",
    "django.contrib.staticfiles",
    "stepup",
]
MIDDLEWARE = [
    "django.contrib.sessions.middleware.SessionMiddleware",
    "django.contrib.auth.middleware.AuthenticationMiddleware",
    "stepup.middleware.StepUpMiddleware",
]
AUTHENTICATION_BACKENDS = ["stepup.backends.StepUpBackend"]
DATABASES = {"default": {"ENGINE": "django.db.backends.sqlite3", "NAME": ":memory:"}}
TEMPLATES = [
    {
        "BACKEND": "django.template.backends.django.DjangoTemplates",
        "APP_DIRS": True,
        "OPTIONS": {"context_processors": ["django.template.context_processors.request"]},
    }
]
STATIC_URL = "static/"
LOGIN_URL = "oidc_authentication_init"
OIDC_RP_CLIENT_ID = "site"
OIDC_RP_CLIENT_SECRET = "a secret"
OIDC_RP_SIGN_ALGO = "RS256"
STEPUP = {"PROVIDER": "auth0", "ISSUER": "https://op.example/", "PROTECTED_VIEWS": ["salary"]}
"""

URLS = """
from django.http import HttpResponse
from django.urls import include, path

urlpatterns = [
    path("oidc/", include("stepup.urls")),
    path("salary/", lambda request: HttpResponse("the salary list"), name="salary"),
]
"""

#: A callback that nobody waits for is answered with a page, without a word to the provider.
CALLBACK = """
from django.test import Client
response = Client().get("/oidc/callback/?state=unknown&code=any")
print(response.status_code)
print(response.content.decode())
"""

EVERY_MODULE = """
import importlib, pkgutil, stepup
for module in pkgutil.walk_packages(stepup.__path__, "stepup."):
    if not module.name.startswith(("stepup.testing", "stepup.contrib.")):
        importlib.import_module(module.name)
print(stepup.__file__)
"""


class Installed(NamedTuple):
    """A new project, with the wheel in an environment of its own."""

    wheel: Path
    python: Path
    project: Path

    def manage(self, *arguments: str, text: str | None = None) -> str:
        """What a management command prints; a failure shows all that it said."""
        done = subprocess.run(
            [self.python, "-W", "error", "-m", "django", *arguments],
            cwd=self.project,
            env={"DJANGO_SETTINGS_MODULE": "settings", "PYTHONPATH": str(self.project), "PATH": os.defpath},
            capture_output=True,
            text=True,
            input=text,
            check=False,
        )
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout


def run(*command: object) -> None:
    done = subprocess.run([*map(str, command)], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


def build_wheel(directory: Path) -> Path:
    source = directory / "source"
    source.mkdir()
    for name in SOURCES:
        if (ROOT / name).is_dir():
            shutil.copytree(ROOT / name, source / name, ignore=shutil.ignore_patterns("__pycache__"))
        else:
            shutil.copy(ROOT / name, source)
    try:
        at_hand = Version(version("setuptools")) >= Version("80")
    except PackageNotFoundError:
        at_hand = False
    run(sys.executable, "-m", "build", "--wheel", *(["--no-isolation"] if at_hand else []), "-o", directory, source)
    (wheel,) = directory.glob("*.whl")
    return wheel


def metadata_of(wheel: Path) -> Message:
    with zipfile.ZipFile(wheel) as archive:
        (name,) = (name for name in archive.namelist() if name.endswith(".dist-info/METADATA"))
        return message_from_bytes(archive.read(name))


def runtime_requirements(wheel: Path) -> list[Requirement]:
    listed = map(Requirement, metadata_of(wheel).get_all("Requires-Dist", []))
    return [requirement for requirement in listed if "extra" not in str(requirement.marker or "")]


def requirements_of(wheel: Path, *extras: str) -> list[Requirement]:
    """What has to be there with these extras; where the wheel names itself, it means one that is listed here."""
    wanted = runtime_requirements(wheel)
    for requirement in map(Requirement, metadata_of(wheel).get_all("Requires-Dist", [])):
        of_these = any(f'extra == "{extra}"' in str(requirement.marker or "") for extra in extras)
        if of_these and requirement.name != "django-stepup":
            requirement.marker = None
            wanted.append(requirement)
    return wanted


def with_dependencies(requirements: list[Requirement]) -> set[str]:
    """The names of distributions that have to be there for these, theirs included."""
    wanted = list(requirements)
    names: set[str] = set()
    while wanted:
        requirement = wanted.pop()
        extras = requirement.extras or {""}
        if requirement.marker and not any(requirement.marker.evaluate({"extra": extra}) for extra in extras):
            continue
        names.add(canonicalize_name(requirement.name))
        for line in distribution(requirement.name).requires or []:
            needed = Requirement(line)
            if needed.marker is None or any(needed.marker.evaluate({"extra": extra}) for extra in {"", *extras}):
                wanted.append(Requirement(re.sub(r";.*", "", line)))
    return names


def environment_with(wheel: Path, directory: Path, dependencies: set[str]) -> Path:
    """The Python of an environment that has the wheel, some distributions that are here, and nothing else."""
    environment = directory / "environment"
    run(sys.executable, "-m", "venv", "--without-pip", environment)
    python = environment / "bin" / "python"
    pip = [sys.executable, "-m", "pip", "--python", python, "--disable-pip-version-check", "--quiet"]
    run(*pip, "install", "--no-deps", "--no-index", wheel)
    link_distributions(dependencies, directory / "dependencies")
    (site_packages,) = environment.glob("lib/python*/site-packages")
    (site_packages / "dependencies.pth").write_text(f"{directory / 'dependencies'}\n")
    return python


def link_distributions(names: set[str], directory: Path) -> None:
    directory.mkdir()
    for name in names:
        found = distribution(name)
        tops = {file.parts[0] for file in found.files or []} - {"..", "__pycache__"}
        for top in tops:
            link = directory / top
            if not link.exists():
                link.symlink_to(str(found.locate_file(top)))


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Installed]:
    directory = tmp_path_factory.mktemp("packaging")
    wheel = build_wheel(directory)
    python = environment_with(wheel, directory, with_dependencies(runtime_requirements(wheel)))
    project = directory / "project"
    project.mkdir()
    (project / "settings.py").write_text(SETTINGS)
    (project / "urls.py").write_text(URLS)
    yield Installed(wheel, python, project)
    shutil.rmtree(directory)


def test_the_wheel_has_every_file_of_the_package_and_nothing_else(installed: Installed) -> None:
    with zipfile.ZipFile(installed.wheel) as archive:
        packed = {name for name in archive.namelist() if ".dist-info/" not in name}
    files = (path for path in (ROOT / "stepup").rglob("*") if path.is_file() and "__pycache__" not in path.parts)
    assert packed == {path.relative_to(ROOT).as_posix() for path in files}
    assert {
        "stepup/py.typed",
        "stepup/migrations/0001_initial.py",
        "stepup/templates/stepup/verdict.html",
        "stepup/static/stepup/stepup.css",
        "stepup/templatetags/stepup.py",
        "stepup/management/commands/stepup_provider.py",
    } <= packed


def test_its_metadata_are_complete(installed: Installed) -> None:
    metadata = metadata_of(installed.wheel)
    assert metadata["Name"] == "django-stepup"
    assert metadata["Version"] == stepup.__version__
    assert metadata["License-Expression"] == "BSD-3-Clause"
    assert metadata["License-File"] == "LICENSE"
    assert metadata["Requires-Python"] == ">=3.10"
    assert metadata["Description-Content-Type"] == "text/x-rst"
    assert (ROOT / "README.rst").read_text().strip() in metadata.get_payload(decode=True).decode()  # type: ignore[union-attr] # bytes, as it is no multipart
    assert installed.wheel.name.endswith("-py3-none-any.whl")


def imported_distributions() -> set[str]:
    """The distributions that the core imports anything of: all of the package but its tools for tests."""
    found: set[str] = set()
    # `packages_distributions` does this too, but on Python 3.10 only for those that have a top_level.txt.
    providers: dict[str, set[str]] = {}
    for each in distributions():
        for file in each.files or []:
            if file.suffix == ".py":
                providers.setdefault(file.parts[0].removesuffix(".py"), set()).add(canonicalize_name(each.name))
    for path in (ROOT / "stepup").rglob("*.py"):
        if {"testing", "contrib"} & set(path.relative_to(ROOT).parts):
            continue
        for node in ast.walk(ast.parse(path.read_text())):
            names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
            if isinstance(node, ast.ImportFrom):
                names = [node.module or ""]
            for top in {name.partition(".")[0] for name in names} - set(sys.stdlib_module_names) - {"stepup"}:
                found |= providers[top]
    return found


def test_it_requires_exactly_what_its_core_imports(installed: Installed) -> None:
    required = {canonicalize_name(requirement.name) for requirement in runtime_requirements(installed.wheel)}
    # asgiref is a part of Django that happens to be packed on its own, in the version that Django wants.
    assert required == imported_distributions() - {"asgiref"}


def test_what_it_requires_is_enough_for_every_module_of_its_core(installed: Installed) -> None:
    path = installed.manage("shell", "--no-imports", text=EVERY_MODULE).strip()
    assert Path(path).is_relative_to(installed.python.parent.parent)


def test_a_new_project_passes_its_checks(installed: Installed) -> None:
    assert "no issues" in installed.manage("check", "--fail-level", "WARNING")


def test_its_migrations_are_there_and_complete(installed: Installed) -> None:
    assert "[ ] 0001_initial" in installed.manage("showmigrations", "stepup")
    assert "No changes detected" in installed.manage("makemigrations", "--check", "--dry-run", "stepup")


def test_its_static_files_are_found(installed: Installed) -> None:
    found = installed.manage("findstatic", "stepup/stepup.css", "--verbosity", "0").strip()
    assert Path(found).is_relative_to(installed.python.parent.parent)


def test_its_pages_are_rendered(installed: Installed) -> None:
    printed = installed.manage("shell", "--no-imports", text=CALLBACK)
    assert printed.startswith("400\n")
    assert "This sign-in link is no longer valid" in printed
    assert "/static/stepup/stepup.css" in printed


def test_the_command_for_the_provider_is_there_without_its_extra(installed: Installed) -> None:
    assert "--port" in installed.manage("stepup_provider", "--help")


KIT_TESTS = """
from stepup.testing.assertions import assert_protected

def test_protected(db):
    assert_protected("/salary/", "mfa")

def test_elevated(stepup_client):
    stepup_client.elevate("mfa", age=60)
    assert stepup_client.get("/salary/").content == b"the salary list"
"""


def test_the_test_kit_is_there_with_its_extra_and_nothing_has_to_be_set_up(
    installed: Installed, tmp_path: Path
) -> None:
    dependencies = with_dependencies(requirements_of(installed.wheel, "testing", "provider"))
    python = environment_with(installed.wheel, tmp_path, dependencies)
    project = tmp_path / "project"
    shutil.copytree(installed.project, project, ignore=shutil.ignore_patterns("__pycache__"))
    (project / "pytest.ini").write_text("[pytest]\nDJANGO_SETTINGS_MODULE = settings\npythonpath = .\n")
    (project / "test_salary.py").write_text(KIT_TESTS)
    ran = subprocess.run(
        [python, "-W", "error", "-m", "pytest", "-q"],
        cwd=project,
        env={"PATH": os.defpath, "HOME": str(tmp_path)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert ran.returncode == 0, ran.stdout + ran.stderr
    assert "2 passed" in ran.stdout
