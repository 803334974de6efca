"""The OP of the test kit, that knows the test site under several names, and visitors who go to both over HTTP."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator

import pytest
from django.conf import settings as django_settings

from stepup.testing import op as kit
from stepup.testing.provider import Client as OPClient
from stepup.testing.provider import Configuration
from stepup.testing.provider.launcher import RunningProvider
from stepup.testing.site import Clock, StepUpSettings, serving
from tests.visitor import CALLBACK, Visitor

#: Where the benchmarks are run, pytest has loaded it already.
pytest_plugins = [] if "stepup.testing.plugin" in sys.modules else ["pytester", "stepup.testing.plugin"]

CLIENT_SECRET = django_settings.OIDC_RP_CLIENT_SECRET


def op_client(client_id: str, alg: str = "RS256") -> OPClient:
    return OPClient(
        client_id=client_id,
        client_secret=CLIENT_SECRET,
        redirect_uris=(CALLBACK,),
        post_logout_redirect_uris=("http://testserver/", "http://testserver/oidc/signed-out/"),
        id_token_signed_response_alg=alg,
    )


#: The test site under several names: one of which no second factor is asked, and one for each algorithm.
CLIENTS = (
    op_client("site"),
    op_client("site-without-mfa"),
    *(op_client(f"site-{alg.lower()}", alg) for alg in ("HS256", "ES256", "PS256", "EdDSA")),
)
CONFIGURATION = Configuration(
    purpose="tests",
    clients=CLIENTS,
    clients_with_mfa=tuple(client.client_id for client in CLIENTS if client.client_id != "site-without-mfa"),
)


@pytest.fixture(autouse=True)
def the_clock_is_put_back(stepup_clock: Clock) -> None:
    """Whoever has moved it, by whatever means."""


@pytest.fixture
def running_op(stepup_provider_process: RunningProvider) -> RunningProvider:
    """The provider, fresh, whoever goes there."""
    return kit.clean(CONFIGURATION)


@pytest.fixture
def op(running_op: RunningProvider, stepup_settings: StepUpSettings, db: None) -> Iterator[RunningProvider]:
    """The same, and the site's settings pointing to it."""
    with serving(running_op, stepup_settings) as provider:
        yield provider


@pytest.fixture
def visitor(op: RunningProvider) -> Visitor:
    """Anna, who has a second factor, with a browser of her own."""
    return Visitor("anna")


@pytest.fixture
def visit(op: RunningProvider) -> Callable[[str], Visitor]:
    """Makes visitors: `visit("cleo")`."""
    return Visitor
