"""Factories for what a site with `stepup` is tested with: users, claims, ID tokens and logout tokens.

They need the packages of ``django-stepup[testing]``. What is not said is as the settings of the site have it.
"""

from __future__ import annotations

import secrets
from typing import TYPE_CHECKING, Any

from django.conf import settings as django_settings
from factory.base import DictFactory
from factory.declarations import LazyAttribute, LazyFunction, SelfAttribute, Sequence, Trait
from factory.django import DjangoModelFactory
from factory.helpers import post_generation

from stepup import clock, conf
from stepup.testing import tokens
from stepup.testing.clients import link
from stepup.testing.tokens import ABSENT, LIFETIME

__all__ = ["ABSENT", "ClaimsFactory", "IDTokenFactory", "LogoutTokenFactory", "UserFactory"]

#: The member of `events` that makes a logout token one (OpenID Connect Back-Channel Logout 1.0, section 2.4).
LOGOUT_EVENT = "http://schemas.openid.net/event/backchannel-logout"


class UserFactory(DjangoModelFactory[Any]):
    """Users of the site's own model, whose password is at the provider: they have none here unless one is given.

    >>> UserFactory(email="dora@site.example", subject="auth0|dora")  # doctest: +SKIP

    ``subject`` links them to that subject of the provider, as a sign-in does.
    """

    class Meta:
        model = django_settings.AUTH_USER_MODEL
        skip_postgeneration_save = True

    username = Sequence(lambda number: f"person{number}")
    email = Sequence(lambda number: f"person{number}@site.example")
    is_active = True
    password = None

    if TYPE_CHECKING:  # what a call of it makes, which the library does not say

        def __new__(cls, **kwargs: Any) -> Any: ...

    @classmethod
    def _build(cls, model_class: Any, *args: Any, **kwargs: Any) -> Any:
        """The site's own model may have other fields: only those of it that there are get a value."""
        password, name_field = kwargs.pop("password"), model_class.USERNAME_FIELD
        username, email = kwargs.pop("username"), kwargs.pop("email")
        fields = {field.name for field in model_class._meta.get_fields()}
        given = {
            "username": username,
            model_class.get_email_field_name(): email,
            name_field: email if name_field == model_class.get_email_field_name() else username,
            **kwargs,
        }
        user = model_class(**{name: value for name, value in given.items() if name in fields})
        if password is None:
            user.set_unusable_password()
        else:
            user.set_password(password)
        return user

    @classmethod
    def _create(cls, model_class: Any, *args: Any, **kwargs: Any) -> Any:
        user = cls._build(model_class, *args, **kwargs)
        user.save()
        return user

    @post_generation  # type: ignore[untyped-decorator] # factory-boy has no type for it
    def subject(self, create: bool, extracted: str | None, **kwargs: Any) -> None:
        if create and extracted:
            link(self, extracted)


class ClaimsFactory(DictFactory):
    """The claims of a good ID token for this site (OpenID Connect Core 1.0, section 2).

    >>> ClaimsFactory(with_mfa=True, exp=ABSENT)  # doctest: +SKIP

    Any claim can be given another value, and ``ABSENT`` leaves it out. ``age`` is how many seconds ago it was made and
    its subject authenticated. Traits, after the two examples in Auth0's documentation of step-up
    authentication for web applications: ``with_mfa`` has what it says after multi-factor authentication (``amr`` and
    ``acr``), ``without_mfa`` what it says without (neither); in both ``auth_time`` is left out, as there.
    """

    class Params:
        age = 0
        made = LazyAttribute(lambda claims: int(clock.now()) - claims.age)
        with_mfa = Trait(**tokens.WITH_MFA)
        without_mfa = Trait(**tokens.WITHOUT_MFA)

    iss = LazyFunction(lambda: conf.current().issuer)
    sub = tokens.SUBJECT
    aud = LazyFunction(lambda: conf.current().client_id)
    iat = SelfAttribute("made")
    auth_time = SelfAttribute("made")
    exp = LazyAttribute(lambda claims: claims.made + LIFETIME)

    if TYPE_CHECKING:

        def __new__(cls, **kwargs: Any) -> dict[str, Any]: ...  # type: ignore[misc] # see UserFactory

    @classmethod
    def _build(cls, model_class: Any, *args: Any, **kwargs: Any) -> Any:
        return tokens.present(kwargs)

    _create = _build


class IDTokenFactory(ClaimsFactory):
    """ID tokens of this site's provider, as text, signed (RFC 7515, section 3.1).

    >>> IDTokenFactory(alg="ES256", nonce="n", aud="another-application")  # doctest: +SKIP

    It takes claims as :class:`ClaimsFactory` does, and ``alg`` (the site's own, by default), ``key`` (a
    :class:`~stepup.testing.tokens.SigningKey` or a secret) and ``header`` (parameters, of which ``ABSENT`` leaves one
    out). ``KEYS`` of ``stepup.testing.tokens`` are the keys that sign where none is given; the site believes one of
    them with ``stepup_settings(OIDC_RP_IDP_SIGN_KEY=KEYS["rsa"].pem.decode())``.
    """

    alg = LazyFunction(lambda: conf.current().algorithms[0])
    key = None
    header: Any = LazyFunction(dict)

    @classmethod
    def _build(cls, model_class: Any, *args: Any, **kwargs: Any) -> Any:
        alg, key, header = (kwargs.pop(name) for name in ("alg", "key", "header"))
        return tokens.sign(tokens.present(kwargs), alg, key=key, header={**cls.typ(), **header})

    _create = _build

    @classmethod
    def typ(cls) -> dict[str, str]:
        """The type of token, as its header says it."""
        return {}

    if TYPE_CHECKING:

        def __new__(cls, **kwargs: Any) -> str: ...  # type: ignore[misc] # see UserFactory

        @classmethod
        def build(cls, **kwargs: Any) -> str:
            """A token."""


class LogoutTokenFactory(IDTokenFactory):
    """Logout tokens, as text, signed (OpenID Connect Back-Channel Logout 1.0, section 2.4).

    >>> LogoutTokenFactory(sub="auth0|dora")  # doctest: +SKIP

    It takes what :class:`IDTokenFactory` takes. ``sid`` names one session; by default they are about all of a subject.
    """

    auth_time = ABSENT
    events = LazyFunction(lambda: {LOGOUT_EVENT: {}})
    jti = LazyFunction(lambda: secrets.token_urlsafe(16))

    @classmethod
    def typ(cls) -> dict[str, str]:
        return {"typ": "logout+jwt"}
