"""Anna wants to see her salary, which asks for her second factor."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from playwright.sync_api import Route, expect

from tests.e2e.windows import Phone, Window

SALARY = "Your salary"


def step_up(window: Window, phone: Phone, name: str) -> None:
    """From the OP's question for a second factor back to the page that wanted it."""
    phone.approve(name, window.ask_phone())


@pytest.fixture
def anna(window: Window) -> Window:
    """Anna's window, in which she has signed in with her password."""
    window.sign_in("anna")
    return window


def test_salary_opens_after_an_approval_on_the_phone(anna: Window, phone: Phone) -> None:
    anna.picture("02-start-before")
    expect(anna.page.locator(".tile", has_text="Asks for a second factor")).to_have_count(3)

    anna.page.get_by_role("link", name="Your salary").click()
    anna.expect_at_provider("Confirm that it is you")
    anna.picture("03-provider-second-factor")
    number = anna.ask_phone()
    anna.picture("04-provider-number")
    phone.look("anna")
    phone.picture("05-phone-question")
    phone.approve("anna", number)
    phone.picture("06-phone-approved")

    anna.expect_page("salary/", SALARY)
    expect(anna.page.get_by_text("€3,340")).to_be_visible()
    anna.picture("07-salary")

    anna.open("")
    expect(anna.page.locator(".tile", has_text="Open in this session")).to_have_count(3)
    expect(anna.page.get_by_role("listitem").filter(has_text="Multi-factor authentication")).to_contain_text(
        "just now, at"
    )
    anna.picture("08-start-after")


def test_nothing_is_asked_a_second_time_in_the_same_session(anna: Window, phone: Phone) -> None:
    anna.open("salary/")
    step_up(anna, phone, "anna")
    anna.expect_page("salary/", SALARY)

    requests: list[str] = []
    anna.page.on("request", lambda request: requests.append(request.url))
    for path, heading in [
        ("salary/", SALARY),
        ("payroll/", "Payroll"),
        ("account/password/", "Network drive password"),
        ("salary/", SALARY),
    ]:
        anna.open(path)
        anna.expect_page(path, heading)
    assert [url for url in requests if url.startswith(anna.demo.provider)] == []


def test_a_new_session_asks_again(anna: Window, phone: Phone) -> None:
    anna.open("salary/")
    step_up(anna, phone, "anna")
    anna.expect_page("salary/", SALARY)
    anna.sign_out()

    anna.sign_in("anna")
    anna.open("salary/")
    anna.expect_at_provider("Confirm that it is you")


def test_two_browsers_of_one_person_prove_it_each_for_itself(
    anna: Window, phone: Phone, open_window: Callable[..., Window]
) -> None:
    anna.open("salary/")
    step_up(anna, phone, "anna")
    anna.expect_page("salary/", SALARY)

    other = open_window()
    other.sign_in("anna")
    other.open("salary/")
    other.expect_at_provider("Confirm that it is you")


def test_one_trip_is_enough_for_who_is_not_signed_in_yet(window: Window, phone: Phone) -> None:
    window.open("salary/")
    window.expect_at_provider("Sign in")
    window.give_password("anna")
    step_up(window, phone, "anna")
    window.expect_page("salary/", SALARY)


def test_a_denial_on_the_phone_leaves_the_page_shut_and_anna_signed_in(anna: Window, phone: Phone) -> None:
    anna.open("salary/")
    anna.ask_phone()
    phone.deny("anna")
    expect(anna.heading).to_have_text("The confirmation was cancelled")
    expect(anna.page.get_by_text(SALARY)).to_have_count(0)
    expect(anna.page.get_by_text("You are still signed in, as before.")).to_be_visible()
    anna.picture("09-verdict-declined")

    anna.page.get_by_role("link", name="Try again").click()
    step_up(anna, phone, "anna")
    anna.expect_page("salary/", SALARY)


def test_a_wrong_number_on_the_phone_approves_nothing(anna: Window, phone: Phone) -> None:
    anna.open("salary/")
    number = anna.ask_phone()
    phone.look("anna")
    wrong = next(radio for radio in phone.page.get_by_role("radio").all() if radio.get_attribute("value") != number)
    wrong.check()
    phone.page.get_by_role("button", name="Approve").click()
    expect(anna.heading).to_have_text("Nothing was approved")
    anna.picture("10-provider-wrong-number")

    anna.page.get_by_role("button", name="Ask my phone again").click()
    expect(anna.heading).to_have_text("Look at your phone")
    phone.approve("anna", anna.page.locator("#number").inner_text())
    anna.expect_page("salary/", SALARY)


def test_cancelling_goes_back_to_the_site_with_nothing_changed(anna: Window) -> None:
    anna.open("salary/")
    anna.expect_at_provider("Confirm that it is you")
    anna.page.get_by_role("button", name="Cancel").click()
    expect(anna.heading).to_have_text("The confirmation was cancelled")

    anna.page.get_by_role("link", name="Go to the start page").click()
    anna.expect_page("", "Hello Anna")
    expect(anna.page.locator(".tile", has_text="Asks for a second factor")).to_have_count(3)


def test_a_one_time_code_does_as_well(window: Window, phone: Phone) -> None:
    window.sign_in("ben")
    window.open("payroll/")
    window.expect_at_provider("Confirm that it is you")
    code = phone.code("ben")
    phone.picture("11-phone-code")
    window.page.get_by_role("textbox", name="Code").fill(code)
    window.page.get_by_role("button", name="Check the code").click()
    window.expect_page("payroll/", "Payroll")
    expect(window.page.get_by_role("row", name="All")).to_contain_text("142,575")
    window.picture("12-payroll")


def test_two_tabs_land_each_on_its_own_page(anna: Window, phone: Phone) -> None:
    other = anna.beside()
    anna.open("salary/")
    other.open("payroll/")
    anna.expect_at_provider("Confirm that it is you")
    other.expect_at_provider("Confirm that it is you")

    step_up(other, phone, "anna")
    other.expect_page("payroll/", "Payroll")
    step_up(anna, phone, "anna")
    anna.expect_page("salary/", SALARY)


def test_an_address_stripped_of_the_question_proves_nothing(anna: Window, phone: Phone) -> None:
    def strip(route: Route) -> None:
        response = route.fetch(max_redirects=0)
        location = response.headers["location"].replace("acr_values=", "other_values=")
        route.fulfill(response=response, headers={**response.headers, "location": location})

    anna.page.route("**/salary/", strip)
    anna.open("salary/")
    expect(anna.heading).to_have_text("Multi-factor authentication was not confirmed")
    anna.page.get_by_text("Technical details").click()
    anna.picture("13-verdict-proof-missing")

    # The next try asks for everything anew.
    anna.page.unroute("**/salary/")
    anna.page.get_by_role("link", name="Try again").click()
    anna.give_password("anna")
    step_up(anna, phone, "anna")
    anna.expect_page("salary/", SALARY)
