"""The test kit as a site uses it that has strict types. It is checked by mypy, and never run."""

from __future__ import annotations

import pytest
from django.contrib.auth.models import User
from django.test import TestCase

from stepup.testing.assertions import assert_step_up_required
from stepup.testing.clients import AsyncStepUpClient, StepUpClient
from stepup.testing.factories import ABSENT, ClaimsFactory, IDTokenFactory, LogoutTokenFactory, UserFactory
from stepup.testing.provider import RunningProvider
from stepup.testing.site import Clock, StepUpSettings
from stepup.testing.testcase import StepUpTestMixin


def test_one(
    stepup_client: StepUpClient, stepup_user: User, stepup_clock: Clock, stepup_settings: StepUpSettings
) -> None:
    stepup_client.sign_in(stepup_user, amr=["pwd"])
    stepup_clock.move(3)
    stepup_settings(LEEWAY=0)
    assert_step_up_required(stepup_client.get("/salary/"), "mfa")
    evidence = stepup_client.evidence()
    assert evidence is not None
    assert evidence.subject


@pytest.mark.stepup_provider("expired")
def test_two(stepup_client: StepUpClient, stepup_provider: RunningProvider) -> None:
    page = stepup_client.step_up(stepup_client.get("/salary/"), "anna", deny=True)
    assert page.status_code == 403
    assert stepup_provider.authentications()[-1].second_factor


async def test_three(stepup_async_client: AsyncStepUpClient) -> None:
    await stepup_async_client.elevate("mfa")
    response = await stepup_async_client.get("/salary/")
    assert response.status_code == 200


class CaseTests(StepUpTestMixin, TestCase):
    def test_it(self) -> None:
        self.assertProtected("/salary/", "mfa")
        self.client.elevate("mfa")
        self.stepup_clock.move(4)
        self.assertSatisfied(self.client)
        self.stepup_provider.requests()

    async def test_a(self) -> None:
        await self.async_client.elevate("mfa")


def test_claims() -> None:
    assert ClaimsFactory(with_mfa=True)["amr"] == ["mfa"]
    assert "exp" not in ClaimsFactory(exp=ABSENT)
    assert IDTokenFactory(alg="ES256", aud="another").count(".") == 2
    assert LogoutTokenFactory(sub="x").count(".") == 2
    assert UserFactory(email="x").pk
    assert UserFactory.create(email="x").pk
