"""The pytest plugin, which is there as soon as the package is installed.

It costs a suite that does not use it next to nothing: neither Django nor anything else is imported before a fixture of
it runs. The fixtures need the packages of ``django-stepup[testing]``, pytest-django among them: whose ``db`` makes the
database, and whose ``settings`` puts back in one order what a test has changed through it and through these.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from stepup.testing.clients import AsyncStepUpClient, StepUpClient
    from stepup.testing.provider import RunningProvider
    from stepup.testing.site import Clock, StepUpSettings

MARKER = "stepup_provider"


def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line(
        "markers",
        f"{MARKER}(personality): have a provider for this test; a personality says how it misbehaves (django-stepup).",
    )


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        names = getattr(item, "fixturenames", None)
        marker = item.get_closest_marker(MARKER)
        if marker is not None:
            _personality(marker)  # what is wrong with it is told before anything runs
        if names is not None and MARKER not in names and marker is not None:
            # A list of its own: with another parameter the same test may have no marker. At the end: what the whole run
            # needs of Django comes first, and must not be put back with the settings of one test.
            item.fixturenames = [*names, MARKER]  # type: ignore[attr-defined] # that of pytest.Function


@pytest.fixture
def stepup_settings(settings: Any) -> StepUpSettings:
    """Change settings until the end of the test: ``stepup_settings(LEEWAY=0, OIDC_RP_SIGN_ALGO="ES256")``.
    Names that begin with "OIDC" are settings of their own, all others are keys of STEPUP. A mistake in them is an error
    at once.
    """
    from stepup.testing.site import OverridesOfPytestDjango, StepUpSettings

    return StepUpSettings(OverridesOfPytestDjango(settings))


@pytest.fixture
def stepup_clock() -> Iterator[Clock]:
    """The time that stepup goes by, and the provider of the test with it: ``stepup_clock.move(301)``.
    It is right again after the test. Django's own time, such as the end of a session, stays what it is.
    """
    from stepup.testing.site import Clock

    clock = Clock()
    yield clock
    clock.reset()


@pytest.fixture
def stepup_client(db: None, stepup_settings: StepUpSettings) -> StepUpClient:
    """Django's test client, that can sign in, be elevated, and step up at the provider.
    ``stepup_client.sign_in(user, amr=["pwd"])`` signs in through the backend, with these claims.
    ``stepup_client.elevate("mfa", age=60)`` has its session prove a requirement, as of a minute ago.
    ``stepup_client.step_up(response)`` follows a challenge to the provider and back, and returns the page at the end.
    The database is there. Nothing asks the network.
    """
    from stepup.testing.clients import StepUpClient

    stepup_settings.need_no_provider()
    return StepUpClient()


@pytest.fixture
def stepup_async_client(db: None, stepup_settings: StepUpSettings) -> AsyncStepUpClient:
    """The same as stepup_client for asynchronous tests: ``await stepup_async_client.elevate("mfa")``."""
    from stepup.testing.clients import AsyncStepUpClient

    stepup_settings.need_no_provider()
    return AsyncStepUpClient()


@pytest.fixture
def stepup_user(db: None) -> Any:
    """A user of the site, with no password and no proof of anything."""
    from stepup.testing.clients import new_user

    return new_user()


@pytest.fixture(scope="session")
def stepup_provider_process() -> Iterator[RunningProvider]:
    """The provider's process: one for a run, or for each process of a parallel run. Tests want stepup_provider."""
    from stepup.testing import op

    yield op.running()
    op.stop()


@pytest.fixture
def stepup_provider(
    request: pytest.FixtureRequest, stepup_settings: StepUpSettings, stepup_provider_process: RunningProvider
) -> Iterator[RunningProvider]:
    """A real OpenID Provider on a free port of this machine, that knows the site and whom nobody has visited yet.
    The site trusts it until the end of the test. ``@pytest.mark.stepup_provider("ignores_acr_values")`` has it
    misbehave from the start, ``stepup_provider.behave("expired")`` from there on. ``stepup_provider.requests()`` is
    what it was asked, ``stepup_provider.authentications()`` what people really did there.
    """
    from stepup.testing.site import provider_for

    with provider_for(stepup_settings, *_personality(request.node.get_closest_marker(MARKER))) as provider:
        yield provider


def _personality(marker: pytest.Mark | None) -> list[str]:
    """What a marker says of how the provider behaves: one name, or none.

    Raises:
        pytest.UsageError: it says something else.
    """
    if marker is None:
        return []
    said = [*marker.args, *marker.kwargs.values()]
    if len(said) > 1 or not marker.kwargs.keys() <= {"personality"} or not all(isinstance(each, str) for each in said):
        given = ", ".join([*map(repr, marker.args), *(f"{name}={value!r}" for name, value in marker.kwargs.items())])
        raise pytest.UsageError(f"The marker {MARKER} takes one personality, or none: not {MARKER}({given}).")
    return said
