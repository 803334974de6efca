"""The salary scenario, with the test kit: who sees a payslip, and who is asked to prove more first."""

from pathlib import Path

import pytest
from django.contrib.auth.models import User

from stepup.testing.assertions import assert_protected, assert_satisfied, assert_site_protected, assert_step_up_required
from stepup.testing.clients import StepUpClient
from stepup.testing.provider import RunningProvider


@pytest.mark.parametrize("page", ["/salary/", "/payroll/", "/account/password/"])
def test_pages_about_money_need_a_second_factor(db: None, page: str) -> None:
    assert_protected(page, "mfa")


def test_the_site_is_protected_as_it_was_reviewed(db: None) -> None:
    assert_site_protected(Path(__file__).parent.parent / "protected-views.txt")


def test_the_news_need_a_password_only(stepup_client: StepUpClient, stepup_user: User) -> None:
    stepup_client.sign_in(stepup_user)
    assert stepup_client.get("/news/").status_code == 200
    assert_step_up_required(stepup_client.get("/salary/"), "mfa")


def test_anna_steps_up_on_her_phone_and_sees_her_payslip(
    stepup_client: StepUpClient, stepup_provider: RunningProvider
) -> None:
    page = stepup_client.step_up(stepup_client.get("/salary/"), "anna")
    assert page.status_code == 200
    assert_satisfied(stepup_client, "mfa")
    assert stepup_provider.authentications()[-1].second_factor


@pytest.mark.stepup_provider("ignores_acr_values")
def test_a_provider_that_does_not_ask_opens_nothing(stepup_client: StepUpClient) -> None:
    page = stepup_client.step_up(stepup_client.get("/salary/"), "anna")
    assert page.status_code == 403
    assert_step_up_required(stepup_client.get("/salary/"), "mfa")
