"""The page that says what the standards ask, held against the code and against the tests that it names."""

from __future__ import annotations

import ast
import importlib
import re
from pathlib import Path
from typing import NamedTuple

import pytest

from tests import test_docs

ROOT = Path(__file__).resolve().parent.parent
PAGE = "docs/reference/standards.rst"
TEXT = (ROOT / PAGE).read_text()

#: Where something is not done in this package, the row begins a sentence with one of these.
EXCUSES = ("Site", "Provider", "Not applicable", "Not done")


def numbers(prefix: str, *last: int) -> list[str]:
    """`numbers("7", 3, 2)` is 7.1.1 to 7.1.3, 7.2.1 and 7.2.2."""
    return [f"{prefix}.{middle}.{n}" for middle, end in enumerate(last, start=1) for n in range(1, end + 1)]


def sections(prefix: str, end: int) -> list[str]:
    return [f"{prefix}.{number}" for number in range(1, end + 1)]


#: Each table, with the items that it has to have; in this order.
WANTED: dict[str, list[str]] = {
    "OpenID Connect Core 1.0": [
        *("3.1.2.1", "3.1.2.6", "3.1.3.3"),
        *(f"3.1.3.7 step {step}" for step in range(1, 14)),
        *("3.1.3.8", "5.3.2", "5.5.1.1", "5.7", "9", "12.2"),
    ],
    "RFC 8725, JSON Web Token Best Current Practices": sections("3", 12),
    "RFC 7518, JSON Web Algorithms": ["3.2", "3.3", "3.4", "3.5"],
    "RFC 9700, Best Current Practice for OAuth 2.0 Security": [
        *("2.1", "2.1.1", "2.1.2", "2.2.1", "2.2.2", "2.3", "2.4", "2.5", "2.6"),
        *sections("4", 17),
    ],
    "RFC 9207, Issuer Identification": ["2.3", "2.4", "3"],
    "RFC 7636, Proof Key for Code Exchange": ["4.1", "4.2", "4.3", "4.5", "7.1", "7.2"],
    "RFC 9126, Pushed Authorization Requests": ["2.1", "2.2", "2.3", "4", "5", "7"],
    "RFC 9101, JWT-Secured Authorization Request": ["4", "5", "10.5", "10.8"],
    "RFC 7523, JWT Profile for Client Authentication": ["2.2", "3"],
    "OpenID Connect RP-Initiated Logout 1.0": ["2", "3", "6"],
    "OpenID Connect Back-Channel Logout 1.0": ["2.4", "2.5", "2.6", "2.7", "2.8", "4"],
    "OpenID Connect Front-Channel Logout 1.0": ["2", "4.1"],
    "OWASP ASVS 5.0, V6.8 Authentication with an Identity Provider": sections("6.8", 4),
    "OWASP ASVS 5.0, V7 Session Management": numbers("7", 3, 4, 2, 5, 3, 2),
    "OWASP ASVS 5.0, V9 Self-contained Tokens": numbers("9", 3, 4),
    "OWASP ASVS 5.0, V10 OAuth and OIDC": [
        *numbers("10", 2, 3),
        *("10.3", "10.4"),
        *sections("10.5", 5),
        *("10.6", "10.7"),
    ],
    "NIST SP 800-63B-4": [
        *("2.2.3", "5.1", "5.1, access tokens", "5.1.1, browser cookies", "5.2", "5.3"),
    ],
}


class Row(NamedTuple):
    table: str
    item: str
    asks: str
    where: str
    test: str

    def __str__(self) -> str:
        return f"{self.table.split(',')[0]} {self.item}"

    @property
    def excuses(self) -> set[str]:
        return set(re.findall(r"\*([A-Z][a-z ]+):\*", self.where))

    @property
    def functions(self) -> list[str]:
        return re.findall(r"``([a-z_]+(?:\.\w+)+)``", self.asks + self.where)

    @property
    def tests(self) -> list[str]:
        return re.findall(r"``([^`]+)``", self.test)


def rows() -> list[Row]:
    found = []
    parts = re.split(r"^([^\n]+)\n-{3,}\n", TEXT, flags=re.MULTILINE)[1:]
    for table, body in zip(parts[::2], parts[1::2], strict=True):
        for row in re.split(r"^   \* - ", body, flags=re.MULTILINE)[2:]:
            cells = [cell.strip() for cell in re.split(r"^     - ", row, flags=re.MULTILINE)]
            assert len(cells) == 4, row
            found.append(Row(table, *cells))
    return found


ROWS = rows()


def names_of_tests() -> dict[str, set[str]]:
    """The tests of each file, as they would be collected."""
    return {
        path.name: {
            node.name
            for node in ast.parse(path.read_text()).body
            if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)) and node.name.startswith("test_")
        }
        for path in (ROOT / "tests").glob("test_*.py")
    }


TESTS = names_of_tests()


def test_every_item_has_a_row() -> None:
    said: dict[str, list[str]] = {}
    for row in ROWS:
        said.setdefault(row.table, []).append(row.item)
    assert {table: sorted(items) for table, items in said.items()} == {
        table: sorted(items) for table, items in WANTED.items()
    }


def test_the_page_is_among_those_whose_words_are_held_against_the_code() -> None:
    assert PAGE in test_docs.PAGES
    assert "   standards\n" in (ROOT / "docs/reference/index.rst").read_text()


@pytest.mark.parametrize("row", ROWS, ids=str)
def test_no_row_is_empty(row: Row) -> None:
    """It says who does it, and what proves that; or else whose it is to do, or why it is not done."""
    assert row.excuses <= set(EXCUSES)
    assert len(row.asks) > 10
    assert row.functions or row.excuses or row.tests
    assert row.tests or (row.test == "none" and row.excuses)
    for excuse in row.excuses:
        assert len(row.where.partition(f"*{excuse}:*")[2]) > 10, "and it says what"


@pytest.mark.parametrize("row", ROWS, ids=str)
def test_what_a_row_says_does_it_is_there(row: Row) -> None:
    for function in row.functions:
        module, *names = function.split(".")
        found: object = importlib.import_module(f"stepup.{module}")
        for name in names:
            found = getattr(found, name)


@pytest.mark.parametrize("row", ROWS, ids=str)
def test_what_a_row_says_proves_it_is_there(row: Row) -> None:
    assert len(row.tests) == len(set(row.tests))
    for test in row.tests:
        file, _, name = test.partition("::")
        assert name in TESTS[file], test


def test_what_was_written_to_prove_a_row_is_named_by_one() -> None:
    named = {test.partition("::")[2] for row in ROWS for test in row.tests if test.startswith("test_conformance.py")}
    assert named == TESTS["test_conformance.py"]
