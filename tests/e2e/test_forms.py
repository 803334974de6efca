"""Anna fills in a form, and is asked for her second factor only when she sends it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from playwright.sync_api import expect

from tests.e2e.test_salary import step_up
from tests.e2e.windows import Phone, Window

READY = "Your form is ready to be sent"
SENT = "Your claim of €84.50 is on its way to you."


def fill_in(window: Window) -> None:
    """Fill in a claim with a receipt, and send it."""
    window.open("expenses/")
    window.page.get_by_label("What was it for?").fill("Paint for the Zoë, “two coats”")
    window.page.get_by_label("Amount").fill("84.50")
    window.page.get_by_label("Receipt").set_input_files(
        {"name": "quittung ä.pdf", "mimeType": "application/pdf", "buffer": bytes(range(256)) * 200}
    )
    window.page.get_by_role("button", name="Send the claim").click()
    window.expect_at_provider("Confirm that it is you")


def test_a_form_is_sent_by_itself_after_the_step_up(window: Window, phone: Phone) -> None:
    window.sign_in("anna")
    window.open("expenses/")
    window.picture("20-expenses")
    fill_in(window)
    step_up(window, phone, "anna")

    expect(window.heading).to_have_text(READY)
    expect(window.page.get_by_text("quittung ä.pdf")).to_be_visible()
    expect(window.page.get_by_text("Paint for the Zoë, “two coats”")).to_be_visible()
    expect(window.page.get_by_role("status")).to_have_text(
        "Your form is sent by itself in 5 seconds. Press “Wait” to look at it first."
    )
    window.picture("21-kept")

    window.expect_page("expenses/", "Expenses")
    expect(window.page.get_by_text(SENT)).to_be_visible()
    window.picture("22-claimed")


def test_the_back_button_sends_nothing_again(window: Window, phone: Phone) -> None:
    window.sign_in("anna")
    fill_in(window)
    step_up(window, phone, "anna")
    window.expect_page("expenses/", "Expenses")

    window.page.go_back()
    expect(window.heading).to_have_text("This was sent already, or is no longer there")
    window.picture("23-gone")
    window.open("expenses/")
    expect(window.page.get_by_text(SENT)).to_have_count(0)


def test_who_wants_to_look_first_waits_and_then_sends(window: Window, phone: Phone) -> None:
    window.sign_in("anna")
    fill_in(window)
    step_up(window, phone, "anna")
    expect(window.heading).to_have_text(READY)

    window.page.get_by_role("button", name="Wait").click()
    expect(window.page.get_by_role("button", name="Send it now")).to_be_focused()
    expect(window.page.get_by_role("status")).to_contain_text("Your form waits.")
    window.page.wait_for_timeout(7000)
    expect(window.heading).to_have_text(READY)
    window.picture("24-kept-waiting")
    window.page.keyboard.press("Enter")
    window.expect_page("expenses/", "Expenses")
    expect(window.page.get_by_text(SENT)).to_be_visible()


def test_who_does_not_want_to_send_it_goes_back(window: Window, phone: Phone) -> None:
    window.sign_in("anna")
    fill_in(window)
    step_up(window, phone, "anna")
    expect(window.heading).to_have_text(READY)

    window.page.get_by_role("button", name="Do not send it").click()
    window.expect_page("expenses/", "Expenses")
    expect(window.page.get_by_text(SENT)).to_have_count(0)


@pytest.mark.parametrize(("look", "options"), [("phone", {"phone": True}), ("dark", {"dark": True})])
def test_without_scripts_it_takes_one_press(
    look: str, options: dict[str, Any], open_window: Callable[..., Window], phone: Phone
) -> None:
    window = open_window(scripts=False, **options)
    window.sign_in("anna")
    fill_in(window)
    step_up(window, phone, "anna")

    expect(window.heading).to_have_text(READY)
    expect(window.page.get_by_role("button", name="Wait")).to_be_hidden()
    window.picture(f"{look}-kept-without-scripts")
    window.page.get_by_role("button", name="Send it now").click()
    window.expect_page("expenses/", "Expenses")
    expect(window.page.get_by_text(SENT)).to_be_visible()


@pytest.mark.parametrize(("look", "options"), [("phone", {"phone": True}), ("dark", {"dark": True})])
def test_the_page_is_fit_to_be_seen(
    look: str, options: dict[str, Any], open_window: Callable[..., Window], phone: Phone
) -> None:
    window = open_window(**options)
    window.sign_in("anna")
    window.open("expenses/")
    window.picture(f"{look}-expenses")
    fill_in(window)
    step_up(window, phone, "anna")

    expect(window.heading).to_have_text(READY)
    window.picture(f"{look}-kept")
    window.expect_page("expenses/", "Expenses")
