"""One demo and one Chromium for all tests; windows that must end without a complaint."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest
from playwright.sync_api import Browser, expect

from tests.e2e.demo import Demo, running_demo
from tests.e2e.windows import SCREENSHOTS, Phone, Window, running_browser

expect.set_options(timeout=15_000)


@pytest.fixture(scope="session")
def demo(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Demo]:
    SCREENSHOTS.mkdir(parents=True, exist_ok=True)
    with running_demo(tmp_path_factory.mktemp("demo")) as running:
        yield running


@pytest.fixture(scope="session")
def browser() -> Iterator[Browser]:
    with running_browser() as browser:
        yield browser


@pytest.fixture
def open_window(browser: Browser, demo: Demo) -> Iterator[Callable[..., Window]]:
    """Opens windows, and at the end asks all of them whether anything went wrong on any page."""
    windows: list[Window] = []

    def open_window(**options: Any) -> Window:
        windows.append(Window(browser, demo, **options))
        return windows[-1]

    yield open_window
    _close(windows)


@pytest.fixture
def window(open_window: Callable[..., Window]) -> Window:
    return open_window()


@pytest.fixture
def phone(browser: Browser, demo: Demo) -> Iterator[Phone]:
    phone = Phone(browser, demo)
    yield phone
    _close([phone])


def _close(windows: list[Window]) -> None:
    problems = [problem for window in windows for problem in window.problems]
    for window in windows:
        window.context.close()
    assert problems == []
