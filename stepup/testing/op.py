"""The provider of a test run: started when it is first wanted, told about the site, and clean for each test.

It listens on a free port, in a process of its own. Each process of a parallel run has one.
"""

from __future__ import annotations

import atexit
import os
from collections.abc import Iterable
from dataclasses import replace

from cryptography.hazmat.primitives import serialization
from django.conf import settings as django_settings
from django.contrib.auth.models import AbstractBaseUser
from django.urls import NoReverseMatch, reverse

from stepup import clock, conf
from stepup.assurance import Requirement
from stepup.testing.provider import (
    MULTI_FACTOR,
    WELL_BEHAVED,
    Client,
    Configuration,
    RunningProvider,
    User,
    launch,
)

__all__ = ["configuration", "follow", "serve"]

#: Where Django's test client says that it is.
TEST_HOST = "testserver"

_started: tuple[int, RunningProvider] | None = None

#: The provider that the site of the current test goes to.
in_use: RunningProvider | None = None

#: What it was told about the site, where that is all that it was told.
_told: Configuration | None = None


def running() -> RunningProvider:
    """The provider of this process, which is started where it does not run yet.

    Raises:
        ProviderError: it does not start; the message says why.
    """
    global _started  # noqa: PLW0603 - one for each process, made at its first use
    if _started is None or _started[0] != os.getpid():
        _started = (os.getpid(), launch(Configuration(purpose="tests", clients=())))
    return _started[1]


@atexit.register
def stop() -> None:
    """End the provider of this process. It is started again where it is wanted again."""
    global _started  # noqa: PLW0603 - see above
    if _started is not None and _started[0] == os.getpid():
        _started[1].stop()
    _started = None


def serve(personality: str = WELL_BEHAVED) -> RunningProvider:
    """A provider that nobody has visited yet, that knows this site, and what its requirements ask for.

    Args:
        personality: one of those in the table of personalities.

    Raises:
        ConfigurationError: it cannot serve this site; the message says why.
        ProviderError: it does not start, or has no such personality.
    """
    global _told  # noqa: PLW0603 - of the provider in use, which is one
    _told = configuration(personality)
    return clean(_told)


def follow() -> None:
    """Have the provider of the test know the site as its settings are now. It goes on with what it remembers.

    Raises:
        ConfigurationError, ProviderError: as :func:`serve`.
    """
    global _told  # noqa: PLW0603 - see above
    if in_use is None or _told is None or replace(in_use.configuration, users=_told.users) != _told:
        return  # there is none, or it was told something else, by somebody who knows better
    told = configuration(_told.personality)
    if told != _told:
        in_use.configure(replace(told, users=in_use.configuration.users))
        _told = told


def clean(told: Configuration) -> RunningProvider:
    """A provider that nobody has visited yet, and that was told this.

    Raises:
        ProviderError: it does not start, or does not understand it.
    """
    provider = running()
    if provider.configuration != told:
        provider.configure(told)
    provider.reset()
    if clock.offset:
        provider.set_clock(clock.offset)
    return provider


def configuration(personality: str = WELL_BEHAVED) -> Configuration:
    """What a provider for this site is told.

    Raises:
        ConfigurationError: none can serve this site; the message says why.
    """
    settings = conf.current()
    requirements = [
        part for each in (*settings.requirements.values(), *settings.protected_views.values()) for part in each.parts
    ]
    # What is proved on a page of the site's own the provider knows nothing of.
    at_provider = [each for each in requirements if not each.step_up_url]
    classes = [value for each in at_provider for value in (*each.acr_values, *each.acr)]
    callback = reverse(settings.callback_url_name)
    client = Client(
        client_id=settings.client_id,
        client_secret=settings.client_secret,
        redirect_uris=(f"loopback:{callback}", *_absolute(callback)),
        post_logout_redirect_uris=("loopback:/*", *_absolute("/"), *_absolute(_signed_out())),
        id_token_signed_response_alg=settings.algorithms[0],
        public_key=_public_key(settings.private_key),
    )
    return Configuration(
        purpose="tests",
        clients=(client,),
        personality=personality,
        acr_values=tuple(dict.fromkeys([MULTI_FACTOR, *classes])),
        proofs=_proofs(at_provider),
    )


def _proofs(requirements: Iterable[Requirement]) -> dict[str, dict[str, tuple[str, ...]]]:
    """What proves those that are asked for by a class or a claim, and no others. A second factor is one for all."""
    proofs: dict[str, dict[str, dict[str, None]]] = {}
    for each in requirements:
        for asked in (*(each.acr_values or each.acr), *each.claims):
            said = proofs.setdefault(asked, {"amr": {"mfa": None}})
            said["amr"].update(dict.fromkeys(each.amr))
            for claim, values in each.claims.items():
                said.setdefault(claim, {}).update(dict.fromkeys(values[:1]))
    return {asked: {claim: tuple(values) for claim, values in said.items()} for asked, said in proofs.items()}


def know(provider: RunningProvider, user: AbstractBaseUser, subject: str) -> str:
    """Have the provider know a user of this site, with a phone to approve on. Returns what they are called there."""
    known = provider.configuration.users
    for each in known:
        if each.sub == subject:
            return each.username
    name = user.get_username()
    if name in {each.username for each in known}:
        name = subject
    added = User(
        username=name,
        password=f"{name}-password",
        sub=subject,
        given_name=getattr(user, "first_name", ""),
        family_name=getattr(user, "last_name", ""),
        email=getattr(user, user.get_email_field_name(), "") or "",
        push=True,
    )
    provider.configure(replace(provider.configuration, users=(*known, added)))
    return name


def _absolute(path: str) -> Iterable[str]:
    hosts = [TEST_HOST, *(host for host in django_settings.ALLOWED_HOSTS if "*" not in host and host[:1] != ".")]
    return (f"{scheme}://{host}{path}" for host in dict.fromkeys(hosts) for scheme in ("http", "https"))


def _signed_out() -> str:
    try:
        return reverse("stepup_signed_out")
    except NoReverseMatch:
        return "/"  # the site has the URLs of the base library


def _public_key(private_key: str) -> str:
    if not private_key:
        return ""
    public = serialization.load_pem_private_key(private_key.encode(), None).public_key()
    return public.public_bytes(serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo).decode()
