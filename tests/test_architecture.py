"""The rooms, and which of them may know of which: read from the source, and tried in fresh processes."""

from __future__ import annotations

import ast
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
PACKAGE = ROOT / "stepup"

#: The modules of the core: tools for users' tests, the command that starts them and migrations are not among them.
CORE = sorted(
    path.relative_to(PACKAGE).with_suffix("").as_posix().replace("/", ".")
    for path in [*PACKAGE.glob("*.py"), *PACKAGE.glob("templatetags/*.py")]
    if path.name != "__init__.py"
)
PURE = {"algorithms", "assurance", "dialects", "exceptions", "id_token", "logout_token"}
DOORS = {"decorators", "mixins", "middleware", "templatetags.stepup"}

#: What each room may import of the package when it is loaded.
MAY_IMPORT = {
    "_version": set(),
    "algorithms": set(),
    "assurance": set(),
    "exceptions": set(),
    "dialects": {"assurance"},
    "id_token": {"algorithms", "exceptions"},
    "logout_token": {"id_token"},
    "clock": set(),
    "signals": set(),
    "models": set(),
    "conf": {"algorithms", "assurance", "dialects"},
    "transport": set(),
    "documents": {"clock", "exceptions", "transport"},
    "provider": {"clock", "conf", "documents", "exceptions", "id_token", "transport"},
    "vault": {"conf"},
    "turns": {"clock", "conf"},
    "session": {"assurance", "clock", "conf", "turns"},
    "links": {"clock", "conf", "exceptions", "logout_token", "models", "session", "vault"},
    "verdicts": {"assurance", "conf", "signals"},
    "kept": {"assurance", "clock", "conf", "session", "verdicts"},
    "challenge": {"assurance", "clock", "conf", "exceptions", "kept", "session", "signals", "verdicts"},
    "report_only": {"assurance", "challenge", "conf", "signals"},
    "gate": {"assurance", "challenge", "clock", "conf", "kept", "report_only", "session", "verdicts"},
    "inventory": {"assurance", "conf", "gate", "middleware", "mixins", "report_only"},
    "decorators": {"assurance", "conf", "gate"},
    "mixins": {"assurance", "conf", "gate"},
    "middleware": {"assurance", "clock", "conf", "gate", "kept", "session"},
    "templatetags.stepup": {"conf", "gate"},
    "backends": {"challenge", "clock", "conf", "exceptions", "id_token", "models", "provider", "session"},
    "renewal": {
        "backends", "challenge", "clock", "conf", "exceptions", "id_token", "provider", "session", "turns", "vault",
    },
    "statements": {"assurance", "clock", "conf", "exceptions", "links", "session", "signals"},
    "sign_out": {"clock", "conf", "exceptions", "links", "logout_token", "provider", "session", "turns", "verdicts"},
    "views": {
        "assurance", "backends", "challenge", "clock", "conf", "exceptions", "gate", "id_token", "kept", "links",
        "provider",
        "renewal", "session", "sign_out",
        "signals", "turns", "verdicts",
    },
    "urls": {"conf", "sign_out", "views"},
    "checks": {"algorithms", "conf"},
    "apps": set(),
}  # fmt: skip

#: What they may import only when it is needed: it would make a circle, or cost each allowed request what few need.
MAY_IMPORT_LATER = {
    "apps": {"checks", "conf", "links"},
    "challenge": {"provider", "views"},
    "kept": {"vault"},
    "checks": {"backends", "gate", "id_token", "inventory", "middleware", "sign_out", "views"},
    "middleware": {"links", "renewal"},
}


def tree(module: str) -> ast.Module:
    return ast.parse((PACKAGE / f"{module.replace('.', '/')}.py").read_text())


def imports(node: ast.AST, *, is_loading: bool = True) -> Iterator[tuple[str, bool]]:
    """The full names that a module imports, and whether it does so when it is loaded."""
    for child in ast.iter_child_nodes(node):
        if isinstance(child, ast.Import):
            yield from ((alias.name, is_loading) for alias in child.names)
        elif isinstance(child, ast.ImportFrom):
            assert child.level == 0, "relative"
            yield from ((f"{child.module}.{alias.name}", is_loading) for alias in child.names)
        inside = isinstance(child, (ast.FunctionDef, ast.AsyncFunctionDef))
        yield from imports(child, is_loading=is_loading and not inside)


def rooms(module: str, *, is_loading: bool) -> set[str]:
    """The rooms that a module imports, either when it is loaded or later."""
    found = set()
    for name, when in imports(tree(module)):
        if when == is_loading and name.partition(".")[0] == "stepup":
            parts = name.split(".")[1:]
            assert parts[0] in CORE, f"{module} imports {name}, which is no room"
            found.add(parts[0])
    return found


def outsiders(module: str) -> set[str]:
    """The packages, apart from this one, that a module imports at any time."""
    return {name.partition(".")[0] for name, _ in imports(tree(module))} - {"stepup"}


def test_every_module_is_a_room_with_a_place() -> None:
    assert set(CORE) == MAY_IMPORT.keys()


@pytest.mark.parametrize("module", CORE)
def test_imports_run_one_way(module: str) -> None:
    assert rooms(module, is_loading=True) <= MAY_IMPORT[module]
    assert rooms(module, is_loading=False) <= MAY_IMPORT_LATER.get(module, set())


def test_the_ways_that_are_allowed_make_no_circle() -> None:
    order: list[str] = []
    while len(order) < len(MAY_IMPORT):
        free = [room for room, below in MAY_IMPORT.items() if room not in order and below <= set(order)]
        assert free, f"a circle among {MAY_IMPORT.keys() - set(order)}"
        order += free


@pytest.mark.parametrize("module", sorted(set(CORE) - {"checks", "inventory"}))
def test_nothing_imports_a_door(module: str) -> None:
    assert not (rooms(module, is_loading=True) | rooms(module, is_loading=False)) & DOORS


@pytest.mark.parametrize("module", sorted(PURE))
def test_a_pure_room_imports_the_standard_library_and_what_verifies_signatures(module: str) -> None:
    allowed = {"cryptography", "jwt"} if module == "id_token" else set()
    assert outsiders(module) - set(sys.stdlib_module_names) <= allowed
    assert rooms(module, is_loading=True) <= PURE


@pytest.mark.parametrize("module", sorted(PURE))
def test_a_pure_room_does_not_know_what_time_it_is_and_touches_neither_disk_nor_network(module: str) -> None:
    world = {
        "time",
        "datetime",
        "os",
        "pathlib",
        "io",
        "socket",
        "ssl",
        "http",
        "urllib",
        "random",
        "secrets",
        "logging",
    }
    assert not outsiders(module) & world


@pytest.mark.parametrize("module", sorted(set(CORE) - {"provider", "transport", "backends", "kept"}))
def test_the_network_is_the_providers_and_its_transports_alone(module: str) -> None:
    # Only errors are caught in backends, because the hooks of a site may ask with requests themselves.
    assert not outsiders(module) & {"requests", "urllib3", "http", "socket"}


def test_the_backend_takes_nothing_of_requests_but_its_errors() -> None:
    used = {
        node.attr
        for node in ast.walk(tree("backends"))
        if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name) and node.value.id == "requests"
    }
    assert used == {"RequestException"}


def test_kept_forms_take_nothing_of_urllib3_but_how_a_form_is_written() -> None:
    assert not outsiders("kept") & {"requests", "http", "socket"}
    assert {name for name, _ in imports(tree("kept")) if name.startswith("urllib3")} == {
        "urllib3.filepost.encode_multipart_formdata"
    }


@pytest.mark.parametrize("module", sorted(set(CORE) - {"clock"}))
def test_the_time_of_day_is_the_clocks_alone(module: str) -> None:
    called = {ast.unparse(node.func) for node in ast.walk(tree(module)) if isinstance(node, ast.Call)}
    assert not called & {"time.time", "time", "datetime.now", "timezone.now", "now"}


#: The modules of the package that ship with it, tools for tests included.
ALL = sorted(path for path in PACKAGE.rglob("*.py") if "migrations" not in path.parts)


def names_in(path: Path) -> set[str]:
    """Attributes that are read, and first arguments of `getattr`, in a module."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name):
            found.add(f"{node.value.id}.{node.attr}")
        elif isinstance(node, ast.Call) and ast.unparse(node.func) in ("getattr", "hasattr") and len(node.args) > 1:
            name = node.args[1]
            literal = isinstance(name, ast.Constant) and isinstance(name.value, str)
            found.add(f"{ast.unparse(node.args[0])}.{ast.literal_eval(name) if literal else '*'}")
    return found


@pytest.mark.parametrize("path", [path for path in ALL if path.name != "conf.py"], ids=lambda path: path.name)
def test_nobody_but_conf_reads_the_packages_settings(path: Path) -> None:
    # Checks look at Django's own, and at those of the base library that are not read.
    read = {
        name.partition(".")[2] for name in names_in(path) if name.partition(".")[0] in ("settings", "django_settings")
    }
    assert not {name for name in read if name.startswith(("STEPUP", "OIDC_"))}
    assert path.name == "checks.py" or "*" not in read


def test_django_settings_are_read_by_conf_and_by_few_others() -> None:
    readers = {module for module in CORE if "django.conf.settings" in {name for name, _ in imports(tree(module))}}
    assert readers == {"conf", "checks", "models"}


SESSION_KEYS = {
    "stepup",
    "stepup_pending",
    "stepup_settled",
    "stepup_forms",
    "stepup_renewal",
    "stepup_attempts",
    "stepup_way",
    "oidc_states",
    "oidc_login_next",
    "oidc_id_token_expiration",
    "oidc_id_token",
    "oidc_access_token",
}


def test_these_are_the_session_keys() -> None:
    constants = {
        node.value.value
        for node in tree("session").body
        if isinstance(node, ast.Assign) and isinstance(node.value, ast.Constant) and isinstance(node.value.value, str)
    }
    assert constants == SESSION_KEYS


@pytest.mark.parametrize("module", sorted(set(CORE) - {"session"}))
def test_nobody_but_session_names_a_session_key(module: str) -> None:
    literals = {
        node.value for node in ast.walk(tree(module)) if isinstance(node, ast.Constant) and isinstance(node.value, str)
    }
    # "stepup" is also the name of the app, the logger and a query parameter.
    assert not literals & (SESSION_KEYS - {"stepup"})
    assert not {name for name, _ in imports(tree(module)) if name.startswith("stepup.session.") and name.isupper()}


@pytest.mark.parametrize("module", sorted(set(CORE) - {"session"}))
def test_nobody_but_session_reads_or_writes_what_is_on_one(module: str) -> None:
    touched = []
    for node in ast.walk(tree(module)):
        if isinstance(node, ast.Subscript):
            on = node.value
        elif isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute):
            # What a site's hooks have put there is handed on as it is, with `update`.
            if node.func.attr not in ("get", "aget", "set", "aset", "pop", "apop", "setdefault", "keys", "items"):
                continue
            on = node.func.value
        else:
            continue
        if ast.unparse(on).endswith(".session"):
            touched.append(ast.unparse(node))
    assert touched == []


def fresh(code: str) -> str:
    """What code prints in a process of its own."""
    return subprocess.run(
        [sys.executable, "-W", "error", "-c", code], cwd=ROOT, capture_output=True, text=True, check=True
    ).stdout.strip()


def loaded_by(module: str, watched: set[str], before: str = "") -> str:
    return fresh(f"{before}\nimport sys\nimport {module}\nprint(*sorted({watched} & sys.modules.keys()))")


@pytest.mark.parametrize(
    "module", ["stepup", "stepup.assurance", "stepup.dialects", "stepup.exceptions", "stepup.algorithms"]
)
def test_what_is_pure_loads_neither_django_nor_cryptography(module: str) -> None:
    assert loaded_by(module, {"django", "cryptography", "jwt", "requests", "mozilla_django_oidc"}) == ""


def test_verifying_id_tokens_loads_no_django() -> None:
    watched = {"django", "cryptography", "jwt", "requests", "mozilla_django_oidc"}
    assert loaded_by("stepup.id_token", watched) == "cryptography jwt"


SET_UP = """
import os
os.environ["DJANGO_SETTINGS_MODULE"] = "tests.settings"
import django
django.setup()
"""


@pytest.mark.parametrize("module", ["decorators", "mixins", "middleware", "templatetags.stepup", "session", "signals"])
def test_a_door_loads_nothing_that_only_a_round_trip_needs(module: str) -> None:
    watched = {"requests", "urllib3", "jwt", "cryptography", "mozilla_django_oidc", "stepup.views", "stepup.id_token"}
    assert loaded_by(f"stepup.{module}", watched, SET_UP) == ""


def test_starting_django_loads_nothing_that_only_a_round_trip_or_a_test_needs() -> None:
    watched = {"requests", "jwt", "cryptography", "mozilla_django_oidc", "authlib", "joserfc", "stepup.testing"}
    assert loaded_by("stepup.apps", watched, SET_UP) == ""


def test_the_round_trip_loads_nothing_of_the_provider_that_ships_with_the_package() -> None:
    watched = {"authlib", "joserfc", "pyotp", "segno", "stepup.testing"}
    assert loaded_by("stepup.urls", watched, SET_UP) == ""
