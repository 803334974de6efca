"""A real OP for the whole run, and visitors who go to the site and to it over HTTP."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest
from django.conf import settings as django_settings
from django.core.cache import cache

from stepup.testing.provider import Client as OPClient
from stepup.testing.provider import Configuration, launch
from stepup.testing.provider.launcher import RunningProvider
from tests.visitor import CALLBACK, Visitor

CLIENT_SECRET = django_settings.OIDC_RP_CLIENT_SECRET


def op_client(client_id: str, alg: str = "RS256") -> OPClient:
    return OPClient(
        client_id=client_id,
        client_secret=CLIENT_SECRET,
        redirect_uris=(CALLBACK,),
        post_logout_redirect_uris=("http://testserver/", "http://testserver/oidc/signed-out/"),
        id_token_signed_response_alg=alg,
    )


@pytest.fixture(scope="session")
def running_op() -> Iterator[RunningProvider]:
    """The provider that ships with the package, in a process of its own, for the whole run."""
    clients = [op_client("site"), op_client("site-without-mfa")]
    clients += [op_client(f"site-{alg.lower()}", alg) for alg in ("HS256", "ES256", "PS256", "EdDSA")]
    configuration = Configuration(
        purpose="tests",
        clients=tuple(clients),
        clients_with_mfa=tuple(client.client_id for client in clients if client.client_id != "site-without-mfa"),
    )
    with launch(configuration) as provider:
        yield provider


@pytest.fixture(autouse=True)
def nothing_is_cached() -> None:
    """What processes share of the OP's documents would go from test to test."""
    cache.clear()


@pytest.fixture
def op(running_op: RunningProvider, settings: Any, db: None) -> RunningProvider:
    """The provider, fresh, and the site's settings pointing to it."""
    running_op.reset()
    settings.STEPUP = {**settings.STEPUP, "ISSUER": running_op.issuer}
    return running_op


@pytest.fixture
def visitor(op: RunningProvider) -> Visitor:
    """Anna, who has a second factor, with a browser of her own."""
    return Visitor("anna")


@pytest.fixture
def visit(op: RunningProvider) -> Callable[[str], Visitor]:
    """Makes visitors: `visit("cleo")`."""
    return Visitor
