"""For those who write :class:`django.test.TestCase`: what the pytest fixtures give, as a mixin. It needs no pytest."""

from __future__ import annotations

from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from stepup import conf, gate
from stepup.testing import assertions, op
from stepup.testing.clients import AsyncStepUpClient, StepUpClient
from stepup.testing.provider import WELL_BEHAVED, ConfigurationError, RunningProvider
from stepup.testing.site import Clock, Overrides, StepUpSettings, provider_for

if TYPE_CHECKING:
    from django.test import SimpleTestCase

    _Mixed = SimpleTestCase  # which it is with any of them
else:
    _Mixed = object

__all__ = ["StepUpTestMixin"]


class StepUpTestMixin(_Mixed):
    """Goes before ``django.test.TestCase``, or another of its kind.

    ``self.client`` and ``self.async_client`` are those of ``stepup.testing.clients``. Nothing asks the network.

    Attributes:
        stepup_personality: that of the provider, see the table of personalities. Where it is set, each test has a
            provider from the start; where it is empty, from when it is asked for, and then it is well-behaved.
    """

    client: StepUpClient
    async_client: AsyncStepUpClient
    client_class = StepUpClient
    async_client_class = AsyncStepUpClient
    stepup_personality: ClassVar[str] = ""

    def setUp(self) -> None:
        super().setUp()
        overrides = Overrides()
        self.addCleanup(overrides.restore)
        # A test that has `override_settings` on it, or `self.settings()` in it, puts back its own before these are.
        # What it would bring back with them has to end somewhere: with the first of these, whether more follow or not.
        overrides.set(STEPUP=conf.raw())
        self.stepup_settings = StepUpSettings(overrides)
        self.stepup_clock = Clock()
        self.addCleanup(self.stepup_clock.reset)
        self.stepup_settings.need_no_provider()
        if self.stepup_personality:
            self.stepup_provider  # noqa: B018 - begins

    @cached_property
    def stepup_provider(self) -> RunningProvider:
        """A real OpenID Provider, that the site trusts from the first use in a test until its end.

        Where the class says how it misbehaves, or pytest's marker has a test use it, it is there from the start.

        Raises:
            ConfigurationError: it cannot serve this site, or the class and the marker say different things of it; the
                message says why.
            ProviderError: it does not start, or has no such personality.
        """
        if op.in_use is not None:
            marked = op.in_use.configuration.personality
            if self.stepup_personality in ("", marked):
                return op.in_use
            if marked != WELL_BEHAVED:
                raise ConfigurationError(
                    f"The marker has the provider behave as {marked!r}, and stepup_personality as "
                    f"{self.stepup_personality!r}: say one of them."
                )
        serving = provider_for(self.stepup_settings, self.stepup_personality or WELL_BEHAVED)
        provider = serving.__enter__()
        self.addCleanup(serving.__exit__, None, None, None)
        return provider

    def assertStepUpRequired(  # noqa: N802 - as unittest names them
        self, response: Any, needs: gate.Needs = "mfa", *, max_age: int | None = None
    ) -> None:
        """See :func:`stepup.testing.assertions.assert_step_up_required`."""
        assertions.assert_step_up_required(response, needs, max_age=max_age)

    def assertSatisfied(  # noqa: N802
        self, client: Any, needs: gate.Needs = "mfa", *, max_age: int | None = None
    ) -> None:
        """See :func:`stepup.testing.assertions.assert_satisfied`."""
        assertions.assert_satisfied(client, needs, max_age=max_age)

    def assertProtected(self, url: str, needs: gate.Needs = "mfa", **how: Any) -> None:  # noqa: N802
        """See :func:`stepup.testing.assertions.assert_protected`."""
        assertions.assert_protected(url, needs, **how)

    def assertSiteProtected(self, file: str | Path, **how: Any) -> list[str]:  # noqa: N802
        """See :func:`stepup.testing.assertions.assert_site_protected`."""
        return assertions.assert_site_protected(file, **how)
