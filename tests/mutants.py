"""Behind `make mutants`: a pytest plugin that picks the tests of a mutant and, run by itself, the table at the end."""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path

import pytest

#: By module, the files of its own tests. That a whole sign-in fails too says little of where the mistake is.
TESTS = {
    "stepup.assurance": ("test_assurance", "test_edges", "test_several", "test_enrolment"),
    "stepup.challenge": ("test_challenge", "test_edges"),
    "stepup.gate": ("test_gate", "test_edges", "test_several"),
    "stepup.id_token": ("test_id_token", "test_edges"),
    "stepup.session": ("test_session", "test_edges", "test_attempts"),
}


@pytest.hookimpl(trylast=True)  # after pytest-django, which has the tests that need a database come first
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    # mutmut asks for tests by name. One with an object's address or an escape in it is not the same the next time.
    items[:] = [item for item in items if " at 0x" not in item.nodeid and "\\" not in item.nodeid]
    module = os.environ.get("MUTANT_UNDER_TEST", "").rpartition(".")[0]
    if module in TESTS:
        items[:] = [item for item in items if item.path.stem in TESTS[module]]
    items.sort(key=_cost)


def _cost(item: pytest.Item) -> tuple[bool, bool, bool, bool]:
    """The quickest first: the first test that fails settles the fate of a mutant."""
    needed = getattr(item, "fixturenames", ())
    is_generated = getattr(getattr(item, "obj", None), "is_hypothesis_test", False)
    return "stepup_provider_process" in needed, "db" in needed, is_generated, item.path.stem != "test_edges"


def main() -> None:
    """What became of the mutants, by module. Those that no test has caught are named: see `mutmut show NAME`."""
    for path in sorted(Path("mutants/stepup").glob("*.py.meta")):
        fates: dict[str, int | None] = json.loads(path.read_text())["exit_code_by_key"]
        living = [name for name, exit_code in fates.items() if exit_code in (0, 5, 33, None)]
        sys.stdout.write(f"{path.name.removesuffix('.py.meta'):10} {len(fates):5} mutants, {len(living):3} survived\n")
        sys.stdout.writelines(f"    {name}\n" for name in living)


if __name__ == "__main__":
    main()
