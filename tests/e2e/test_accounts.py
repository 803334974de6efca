"""Who is who: colleagues without a second factor, several accounts at the OP, signing out, and the password form."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack

import pytest
from playwright.sync_api import Page, Route, expect

from tests.e2e.test_salary import SALARY, step_up
from tests.e2e.windows import Phone, Window

PASSWORD = "Network drive password"


@pytest.fixture
def anna(window: Window) -> Window:
    """Anna's window, in which she has signed in with her password."""
    window.sign_in("anna")
    return window


def test_the_public_front_page_says_nothing_private(window: Window) -> None:
    window.open("")
    window.expect_page("", "Good to see you at the yard.")
    expect(window.page.get_by_role("navigation")).to_have_count(0)
    window.picture("00-welcome")
    window.page.get_by_role("link", name="Sign in with Harbour ID").click()
    window.expect_at_provider("Sign in")
    window.picture("01-provider-sign-in")


def test_the_news_are_open_to_everyone_who_is_signed_in(window: Window) -> None:
    window.open("news/")
    window.expect_at_provider("Sign in")
    window.give_password("carl")
    window.expect_page("news/", "Notice board")
    window.picture("14-news")


def test_who_has_no_second_factor_is_told_so_and_stays_signed_in(window: Window) -> None:
    window.sign_in("carl")
    window.open("salary/")
    window.expect_at_provider("You have no second factor")
    window.picture("15-provider-no-second-factor")
    window.page.get_by_role("button", name="Back to the application").click()
    expect(window.heading).to_have_text("The confirmation was cancelled")
    expect(window.page.get_by_text("set one up at your sign-in service")).to_be_visible()
    window.picture("16-verdict-no-second-factor")

    window.page.get_by_role("link", name="Go to the start page").click()
    window.expect_page("", "Hello Carl")


def test_another_user_at_the_provider_changes_nothing_here(anna: Window, phone: Phone) -> None:
    # Her session at the OP has ended, and the next to sit down at this computer is Ben.
    anna.forget_provider()
    anna.open("salary/")
    anna.expect_at_provider("Sign in")
    anna.give_password("ben")
    step_up(anna, phone, "ben")
    expect(anna.heading).to_have_text("You confirmed as somebody else")
    expect(anna.page.get_by_text("€")).to_have_count(0)
    anna.picture("17-verdict-wrong-user")

    anna.page.get_by_role("link", name="Go to the start page").click()
    anna.expect_page("", "Hello Anna")
    expect(anna.page.locator(".tile", has_text="Asks for a second factor")).to_have_count(3)


def test_after_the_wrong_user_the_right_one_can_try_again(anna: Window, phone: Phone) -> None:
    anna.forget_provider()
    anna.open("salary/")
    anna.give_password("ben")
    step_up(anna, phone, "ben")
    expect(anna.heading).to_have_text("You confirmed as somebody else")

    anna.page.get_by_role("link", name="Try again").click()
    anna.give_password("anna")
    step_up(anna, phone, "anna")
    anna.expect_page("salary/", SALARY)
    expect(anna.page.get_by_text("Anna Lindqvist · Naval architect")).to_be_visible()


def test_after_the_wrong_user_the_other_one_can_take_over_by_signing_out(anna: Window, phone: Phone) -> None:
    anna.forget_provider()
    anna.open("salary/")
    anna.give_password("ben")
    step_up(anna, phone, "ben")
    anna.page.get_by_role("button", name="Sign out and use the other account").click()
    # The OP knows Ben, while the site signs out Anna: it asks before it signs out somebody else.
    anna.expect_at_provider("Sign out?")
    anna.picture("18-provider-sign-out")
    anna.page.get_by_role("button", name="Sign out").click()
    anna.expect_page("", "Good to see you at the yard.")
    anna.sign_in("ben")


def test_signing_out_ends_both_sessions_and_the_back_button_shows_nothing(anna: Window, phone: Phone) -> None:
    anna.open("salary/")
    step_up(anna, phone, "anna")
    anna.expect_page("salary/", SALARY)
    anna.sign_out()

    seen = pages_behind(anna.page)
    assert len(seen) > 3
    for private in ("3,340", "Payslip for", "What this session has proved"):
        assert not any(private in page for page in seen)

    # The OP wants the password again too.
    anna.open("salary/")
    anna.expect_at_provider("Sign in")


def pages_behind(page: Page) -> list[str]:
    """What the back button shows, step by step, until there is nothing to go back to."""
    seen: list[str] = []
    while page.url != "about:blank" and len(seen) < 20:
        # Not `page.go_back()`: it waits for a page to load, and one that was kept whole does not load again.
        page.evaluate("setTimeout(() => history.back())")
        page.wait_for_timeout(1000)
        seen.append(page.locator("body").inner_text() if page.url != "about:blank" else "")
    return seen


def test_the_password_is_changed_after_the_second_factor_only(anna: Window, phone: Phone) -> None:
    anna.page.get_by_role("navigation").get_by_role("link", name="Password").click()
    anna.expect_at_provider("Confirm that it is you")
    step_up(anna, phone, "anna")
    anna.expect_page("account/password/", PASSWORD)
    anna.picture("19-password")

    anna.page.get_by_label("New password", exact=False).first.fill("buoys and gulls")
    anna.page.get_by_label("confirmation").fill("buoys and bells")
    anna.page.get_by_role("button", name="Change password").click()
    expect(anna.page.get_by_text("The two password fields")).to_be_visible()
    anna.picture("20-password-mismatch")

    anna.page.get_by_label("New password", exact=False).first.fill("buoys and gulls")
    anna.page.get_by_label("confirmation").fill("buoys and gulls")
    anna.page.get_by_role("button", name="Change password").click()
    anna.expect_page("", "Hello Anna")
    expect(anna.page.get_by_role("status")).to_contain_text("has been changed")
    anna.picture("21-password-changed")

    # She is signed in still; what had been proved ended with the old password.
    anna.open("salary/")
    anna.expect_at_provider("Confirm that it is you")


def test_a_form_sent_without_the_second_factor_waits_for_it(anna: Window, phone: Phone) -> None:
    # The page was open in a session that had proved it, and is sent in one that has not.
    anna.page.evaluate(
        """() => {
            const form = document.querySelector("form");
            form.action = "/account/password/";
            form.requestSubmit();
        }"""
    )
    anna.expect_at_provider("Confirm that it is you")
    step_up(anna, phone, "anna")
    expect(anna.heading).to_have_text("Your form is ready to be sent")
    anna.page.get_by_role("button", name="Do not send it").click()

    anna.expect_page("", "Hello Anna")
    expect(anna.page.locator(".tile", has_text="Open in this session")).to_have_count(3)


def test_after_several_tries_in_vain_the_page_says_whom_to_ask(anna: Window) -> None:
    anna.open("salary/")
    for _ in range(3):
        anna.page.get_by_role("button", name="Cancel").click()
        anna.page.get_by_role("link", name="Try again").click()
    anna.page.get_by_role("button", name="Cancel").click()
    expect(anna.heading).to_have_text("The confirmation was cancelled")
    expect(anna.page.get_by_role("link", name="Try again")).to_have_count(0)
    expect(anna.page.get_by_text("You can try again in 10 minutes.")).to_be_visible()
    anna.picture("27-verdict-last-try")

    anna.open("salary/")
    expect(anna.heading).to_have_text("This was tried often enough for now")
    anna.picture("28-verdict-exhausted")
    anna.page.get_by_role("link", name="Go to the start page").click()
    anna.expect_page("", "Hello Anna")


def test_a_used_answer_of_the_provider_is_refused_and_nobody_is_signed_out(anna: Window) -> None:
    anna.open("salary/")
    anna.page.get_by_role("button", name="Cancel").click()
    expect(anna.heading).to_have_text("The confirmation was cancelled")
    anna.page.reload()
    expect(anna.heading).to_have_text("This sign-in link is no longer valid")
    anna.picture("23-verdict-expired")
    anna.page.get_by_role("link", name="Go to the start page").click()
    anna.expect_page("", "Hello Anna")


def test_a_provider_that_does_not_answer_is_said_so_in_time(
    anna: Window, phone: Phone, frozen_provider: ExitStack
) -> None:
    # The OP sends the browser back, and is silent when the site asks it for the ID token.
    def freeze(route: Route) -> None:
        answer = route.fetch(max_redirects=0)
        if answer.status == 302:
            frozen_provider.enter_context(anna.demo.frozen_provider())
        route.fulfill(response=answer)

    anna.open("salary/")
    number = anna.ask_phone()
    anna.page.route("**/push/*", freeze)
    phone.approve("anna", number)
    expect(anna.heading).to_have_text("Your sign-in service does not answer")
    anna.picture("24-verdict-unavailable")
    anna.page.get_by_role("link", name="Go to the start page").click()
    anna.expect_page("", "Hello Anna")


@pytest.fixture
def frozen_provider() -> Iterator[ExitStack]:
    """What is entered here ends with the test, whatever becomes of it."""
    with ExitStack() as stack:
        yield stack
