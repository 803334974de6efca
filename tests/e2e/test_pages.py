"""The same trip on a small screen, in the dark, without scripts, and with the keyboard alone."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from playwright.sync_api import Browser, expect

from tests.e2e.demo import Demo
from tests.e2e.test_salary import SALARY, step_up
from tests.e2e.windows import Phone, Window


@pytest.mark.parametrize(("look", "options"), [("phone", {"phone": True}), ("dark", {"dark": True})])
def test_every_page_is_fit_to_be_seen(
    look: str, options: dict[str, bool], open_window: Callable[..., Window], phone: Phone
) -> None:
    window = open_window(**options)
    window.open("")
    window.picture(f"{look}-welcome")
    window.page.get_by_role("link", name="Sign in with Harbour ID").click()
    window.picture(f"{look}-provider-sign-in")
    window.give_password("anna")
    window.expect_page("", "Hello Anna")
    window.picture(f"{look}-start-before")

    window.open("salary/")
    window.expect_at_provider("Confirm that it is you")
    window.picture(f"{look}-provider-second-factor")
    window.page.get_by_role("button", name="Cancel").click()
    expect(window.heading).to_have_text("The confirmation was cancelled")
    window.page.get_by_text("Technical details").click()
    window.picture(f"{look}-verdict-declined")

    window.page.get_by_role("link", name="Try again").click()
    number = window.ask_phone()
    window.picture(f"{look}-provider-number")
    phone.approve("anna", number)
    window.expect_page("salary/", SALARY)
    window.picture(f"{look}-salary")
    for path, name in [
        ("", "start-after"),
        ("news/", "news"),
        ("payroll/", "payroll"),
        ("account/password/", "password"),
    ]:
        window.open(path)
        window.picture(f"{look}-{name}")


def test_the_phone_page_is_fit_to_be_seen_in_the_dark(browser: Browser, demo: Demo, window: Window) -> None:
    window.open("salary/")
    window.give_password("anna")
    window.ask_phone()
    phone = Phone(browser, demo, dark=True)
    phone.look("anna")
    phone.picture("dark-phone-question")
    phone.deny("anna")
    expect(window.heading).to_have_text("The confirmation was cancelled")
    phone.context.close()
    assert phone.problems == []


def test_no_page_needs_scripts(open_window: Callable[..., Window], phone: Phone) -> None:
    window = open_window(scripts=False)
    window.sign_in("anna")
    window.open("salary/")
    step_up(window, phone, "anna")
    window.expect_page("salary/", SALARY)
    window.sign_out()


def test_the_keyboard_is_enough(window: Window, phone: Phone) -> None:
    keyboard = window.page.keyboard
    window.open("")
    window.tab_to("Sign in with Harbour ID")
    keyboard.press("Enter")
    window.expect_at_provider("Sign in")
    # The field has the focus already.
    keyboard.type("anna")
    keyboard.press("Tab")
    keyboard.type("lighthouse")
    keyboard.press("Enter")
    window.expect_page("", "Hello Anna")

    keyboard.press("Tab")
    expect(window.page.get_by_role("link", name="Skip to the content")).to_be_in_viewport()
    window.picture("25-skip-link")
    keyboard.press("Enter")
    window.tab_to("Your salary")
    window.picture("26-focus")
    keyboard.press("Enter")
    window.expect_at_provider("Confirm that it is you")
    window.tab_to("Ask my phone")
    keyboard.press("Enter")
    expect(window.heading).to_have_text("Look at your phone")
    phone.approve("anna", window.page.locator("#number").inner_text())
    window.expect_page("salary/", SALARY)
