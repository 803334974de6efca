"""What a test does to the site that it is about, and what is put right after it: settings, the provider, the clock."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Protocol

from django.test import override_settings

from stepup import clock, conf, documents
from stepup.testing import op
from stepup.testing.provider import WELL_BEHAVED, RunningProvider

__all__ = ["Clock", "StepUpSettings"]

#: Where a page that is challenged leads to in a test without a provider. Nobody is there (RFC 2606, section 2).
NOWHERE = "https://provider.invalid/authorize"

#: What a site may have told mozilla-django-oidc of its provider, which for the provider of a test is not true.
OF_THE_PROVIDER = (
    "OIDC_OP_AUTHORIZATION_ENDPOINT", "OIDC_OP_TOKEN_ENDPOINT", "OIDC_OP_USER_ENDPOINT", "OIDC_OP_JWKS_ENDPOINT",
    "OIDC_RP_IDP_SIGN_KEY", "OIDC_PROXY",
)  # fmt: skip

_moving = threading.RLock()


class Changes(Protocol):
    """What changes settings, and puts them back after the test."""

    def set(self, **settings: Any) -> None:
        """Change some."""


class Overrides:
    """Changes settings one after the other, and puts them back in the opposite order."""

    def __init__(self) -> None:
        self._enabled: list[override_settings] = []

    def set(self, **settings: Any) -> None:
        override = override_settings(**settings)
        override.enable()
        self._enabled.append(override)

    def restore(self) -> None:
        """Put back what was changed."""
        while self._enabled:
            self._enabled.pop().disable()


class OverridesOfPytestDjango:
    """The same through its fixture `settings`: what a test changes with that has to be put back in order with these."""

    def __init__(self, fixture: Any) -> None:
        self._fixture = fixture

    def set(self, **settings: Any) -> None:
        for name, value in settings.items():
            setattr(self._fixture, name, value)


class StepUpSettings:
    """Changes settings for the rest of a test. Call it, as often as you like."""

    def __init__(self, changes: Changes) -> None:
        self._changes = changes

    def __call__(self, **settings: Any) -> None:
        """Change keys of ``STEPUP`` and, by their whole names, settings that begin with ``OIDC_``.

        The provider of the test learns of it: it asks for what the requirements name now.

        Raises:
            ImproperlyConfigured: there is a mistake in the settings now, with which no protected page opens.
            ConfigurationError: the provider of the test cannot serve such a site; the message says why.
        """
        ours = {name: value for name, value in settings.items() if not name.startswith("OIDC_")}
        others = {name: value for name, value in settings.items() if name not in ours}
        self._changes.set(STEPUP={**conf.raw(), **ours}, **others)
        conf.current()
        op.follow()

    def trust(self, provider: RunningProvider) -> None:
        """Have the site believe a provider of the tests, and no other."""
        stepup = {key: value for key, value in conf.raw().items() if key != "END_SESSION_ENDPOINT"}
        self._changes.set(**dict.fromkeys(OF_THE_PROVIDER), STEPUP={**stepup, "ISSUER": provider.issuer})

    def need_no_provider(self) -> None:
        """Have a challenge lead to nowhere in place of asking the network where the provider is."""
        if op.in_use is None and "authorization_endpoint" not in conf.current().endpoints:
            self._changes.set(OIDC_OP_AUTHORIZATION_ENDPOINT=NOWHERE)


class Clock:
    """The time that the package goes by, and with it the provider of the test. It runs; a test can move it."""

    def now(self) -> float:
        """What time it is, in seconds since the epoch."""
        return clock.now()

    def move(self, seconds: float) -> None:
        """Let time pass: so many seconds at once. Negative: go back.

        Raises:
            ProviderError: the provider of the test has gone.
        """
        with _moving:
            clock.offset += seconds
        self._tell()

    def reset(self) -> None:
        """Go back to the time of the machine."""
        with _moving:
            clock.offset = 0.0
        self._tell()

    @staticmethod
    def _tell() -> None:
        if op.in_use is not None:
            op.in_use.set_clock(clock.offset)


@contextmanager
def earlier(seconds: float) -> Iterator[None]:
    """Do something as if it had been done so many seconds ago."""
    with _moving:
        clock.offset -= seconds
        try:
            yield
        finally:
            clock.offset += seconds


@contextmanager
def provider_for(settings: StepUpSettings, personality: str = WELL_BEHAVED) -> Iterator[RunningProvider]:
    """A provider for one test, clean, and the site with nobody else to go to.

    Raises:
        ConfigurationError, ProviderError: see :func:`stepup.testing.op.serve`.
    """
    with serving(op.serve(personality), settings) as provider:
        yield provider


@contextmanager
def serving(provider: RunningProvider, settings: StepUpSettings) -> Iterator[RunningProvider]:
    """Have a provider be the one that the site goes to.

    What the site shares of its documents through a cache is of this provider as it is now, and stays with it: the next
    one has the same address, and may behave quite differently.
    """
    settings.trust(provider)
    _forget_documents(provider)
    before, op.in_use = op.in_use, provider
    try:
        yield provider
    finally:
        op.in_use = before
        _forget_documents(provider)


def _forget_documents(provider: RunningProvider) -> None:
    # A test may leave with settings that have a mistake in them. It is not to be told of it here.
    cache = conf.best_effort().cache
    for url in provider.documents:
        documents.forget(url, cache)


@contextmanager
def without_provider() -> Iterator[None]:
    """Let nothing that is done here ask the network for the site's provider."""
    overrides = Overrides()
    StepUpSettings(overrides).need_no_provider()
    try:
        yield
    finally:
        overrides.restore()
