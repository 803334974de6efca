"""The authentication backend: from the OP's answer to a user of this site, or to an error that says why not.

It keeps mozilla-django-oidc's hooks, so that a site's own sub-class goes on working. Unlike the base class it writes
nothing to the session: that is for the callback view, once the user is known and is the right one.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Any

import requests
from django.contrib.auth import get_user_model
from django.contrib.auth.models import AbstractBaseUser
from django.core.exceptions import SuspiciousOperation
from django.db import IntegrityError, transaction
from django.http import HttpRequest
from mozilla_django_oidc.auth import OIDCAuthenticationBackend

from stepup import challenge, clock, conf, id_token, provider, session
from stepup.exceptions import AccountRefused, ClaimError, ProviderError, WrongUser
from stepup.id_token import KeySet, UnknownKey
from stepup.models import Identity

__all__ = ["StepUpBackend", "VerifiedLogin"]


@dataclass(frozen=True, slots=True, repr=False)
class VerifiedLogin:
    """What the backend found out on the way to a user, for the callback view to put on the session."""

    claims: dict[str, Any]
    access_token: str | None
    id_token: str


class StepUpBackend(OIDCAuthenticationBackend):
    """Authenticates with an authorization code (OpenID Connect Core 1.0, 3.1.3).

    Hooks for sub-classes, as in the base class: `verify_claims`, `filter_users_by_claims`, `create_user`,
    `update_user`, `get_username`, `get_userinfo`, `store_tokens`. To these comes :meth:`may_link`.
    """

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        # Not the base class's, which wants the endpoints in the settings. Django makes a backend for every request.
        self.UserModel = get_user_model()

    @cached_property
    def OIDC_OP_TOKEN_ENDPOINT(self) -> str:  # noqa: N802 - the base class's names
        return provider.current().endpoint("token_endpoint")

    @cached_property
    def OIDC_OP_USER_ENDPOINT(self) -> str:  # noqa: N802
        return provider.current().endpoint("userinfo_endpoint")

    @cached_property
    def OIDC_OP_JWKS_ENDPOINT(self) -> str:  # noqa: N802
        return provider.current().endpoint("jwks_uri")

    @cached_property
    def OIDC_RP_CLIENT_ID(self) -> str:  # noqa: N802
        return conf.current().client_id

    @cached_property
    def OIDC_RP_CLIENT_SECRET(self) -> str:  # noqa: N802
        return conf.current().client_secret

    @cached_property
    def OIDC_RP_SIGN_ALGO(self) -> str:  # noqa: N802
        return conf.current().algorithms[0]

    @cached_property
    def OIDC_RP_IDP_SIGN_KEY(self) -> Any:  # noqa: N802
        return conf.current().sign_key

    def authenticate(self, request: HttpRequest | None, **kwargs: Any) -> AbstractBaseUser | None:
        """The user for the authorization code in this request; None where the credentials are not this backend's.

        Args:
            nonce: what the ID token has to repeat.
            code_verifier: the secret behind the `code_challenge` (RFC 7636), if one was sent.

        Raises:
            ClaimError: the ID token, or userinfo, is refused.
            ProviderError: the OP gives no usable answer.
            TokenRequestRefused: the OP does not accept the authorization code.
            WrongUser: somebody is signed in, and it is somebody else.
            AccountRefused: this site has no account for the person.
        """
        nonce = kwargs.get("nonce")
        if request is None or not isinstance(nonce, str) or not (code := request.GET.get("code")):
            return None
        self.request = request
        form = {"grant_type": "authorization_code", "code": code, "redirect_uri": challenge.redirect_uri(request)}
        if kwargs.get("code_verifier") is not None:
            form["code_verifier"] = kwargs["code_verifier"]
        answer = self._asked(self.get_token, form)
        token, access_token = answer.get("id_token"), answer.get("access_token")
        if not isinstance(access_token, str):
            raise ProviderError("token", "no access_token")
        claims = self.verify_token(token, nonce=nonce, access_token=access_token)

        self._expect_subject(claims)
        try:
            user = self.get_or_create_user(access_token, token, claims)
        except SuspiciousOperation:
            # How the base class's hooks, and sites' own, say no.
            raise AccountRefused("claims") from None
        if user is None:
            raise AccountRefused("unknown")
        self._expect_user(user)
        if not self.user_can_authenticate(user):
            raise AccountRefused("inactive")
        user.stepup_login = VerifiedLogin(claims, access_token, token)
        return user  # type: ignore[no-any-return] # a site may return what it likes

    def get_token(self, payload: dict[str, Any]) -> dict[str, Any]:
        """The OP's answer to a token request; the client's own authentication is added on the way."""
        return provider.current().token_request(payload)

    def verify_token(self, token: Any, **kwargs: Any) -> dict[str, Any]:
        """The claims of an ID token in which everything is as it must be.

        Args:
            nonce: what it has to repeat.
            access_token: what came with it, for `at_hash`.

        Raises:
            ClaimError: it is refused.
            ProviderError: the keys to verify it with cannot be had.
        """
        settings = conf.current()

        def verify(keys: KeySet) -> dict[str, Any]:
            return id_token.verify(
                token,
                keys,
                algorithms=settings.algorithms,
                issuer=settings.issuer,
                audiences=settings.client_ids,
                now=clock.now(),
                leeway=settings.leeway,
                nonce=kwargs.get("nonce"),
                access_token=kwargs.get("access_token"),
                match_kid=settings.match_kid,
            )

        return self._with_keys(verify)

    def get_userinfo(self, access_token: str, id_token: str, payload: dict[str, Any]) -> dict[str, Any]:
        """The claims at the userinfo endpoint, which must be about the subject of the ID token.

        Raises:
            ClaimError: they are about another subject (OpenID Connect Core 1.0, 5.3.2), or signed by another.
            ProviderError: they cannot be had.
        """
        answer = provider.current().userinfo(access_token)
        userinfo = self._verify_userinfo(answer) if isinstance(answer, str) else answer
        if userinfo.get("sub") != payload["sub"]:
            raise ClaimError("sub", "mismatch in userinfo")
        return userinfo

    def get_or_create_user(self, access_token: str, id_token: str, payload: dict[str, Any] | None) -> Any:
        """The account of the person that the ID token is about.

        It is found by issuer and subject. Where these are not known yet, an account that `filter_users_by_claims` finds
        is linked to them if :meth:`may_link` allows; where there is none, one is created if `OIDC_CREATE_USER` is set.

        Raises:
            AccountRefused: there is no account, or none that may be linked.
            WrongUser: somebody is signed in, and the account is not theirs.
        """
        if payload is None:
            # The base library's REST framework class has nothing but an access token, which may be another client's.
            raise SuspiciousOperation("An access token alone identifies nobody.")
        userinfo = self._asked(self.get_userinfo, access_token, id_token, payload)
        if not self.verify_claims(userinfo):
            raise AccountRefused("claims")
        issuer, subject = payload["iss"], payload["sub"]
        try:
            with transaction.atomic():
                return self._account(issuer, subject, userinfo)
        except IntegrityError:
            # Two first sign-ins at once: the other one has created the account in the meantime. Or else the user name
            # is taken by an account that is not to be linked.
            known = Identity.objects.filter(issuer=issuer, subject=subject).select_related("user").first()
            if known is None:
                raise AccountRefused("conflict") from None
            return known.user

    def may_link(self, user: Any, claims: dict[str, Any]) -> bool:
        """Whether an account that `filter_users_by_claims` found may be linked to the claims' subject, for good.

        By default, only where the OP says that it has verified the e-mail address, and it is the account's to the
        letter. A site that finds accounts by other claims has decided that itself, so then they may.
        """
        if type(self).filter_users_by_claims is not StepUpBackend.filter_users_by_claims:
            return True
        is_verified = claims.get("email_verified", conf.current().trust_unverified_email)
        return is_verified is True and getattr(user, user.get_email_field_name(), None) == claims.get("email")

    def get_user(self, user_id: Any) -> Any:
        """The user of a session; None also where the account has been deactivated since."""
        user = super().get_user(user_id)
        return user if user is not None and self.user_can_authenticate(user) else None

    def _account(self, issuer: str, subject: str, userinfo: dict[str, Any]) -> Any:
        known = Identity.objects.filter(issuer=issuer, subject=subject).select_related("user").first()
        if known is not None:
            return self._update(known.user, userinfo)
        found = list(self.filter_users_by_claims(userinfo)[:2])
        if len(found) > 1:
            raise AccountRefused("ambiguous")
        if found:
            user = found[0]
            # An account that has another subject already is somebody else's, whatever their e-mail address.
            if Identity.objects.filter(issuer=issuer, user=user).exists() or not self.may_link(user, userinfo):
                raise AccountRefused("unlinked")
            user = self._update(user, userinfo)
        elif self._signed_in() is not None:
            raise WrongUser
        elif not conf.current().create_users:
            return None
        else:
            user = self.create_user(userinfo)
        Identity.objects.create(issuer=issuer, subject=subject, user=user)
        return user

    def _update(self, user: Any, userinfo: dict[str, Any]) -> Any:
        self._expect_user(user)
        if not self.user_can_authenticate(user):
            raise AccountRefused("inactive")
        return self.update_user(user, userinfo)

    def _signed_in(self) -> Any:
        user = self.request.user
        return user if user.is_authenticated else None

    def _expect_subject(self, claims: dict[str, Any]) -> None:
        """Before any hook runs: whoever is signed in through the OP already is a known subject."""
        known = session.evidence(self.request)
        if known is not None and known.subject != claims["sub"]:
            raise WrongUser

    def _expect_user(self, user: Any) -> None:
        signed_in = self._signed_in()
        if signed_in is not None and signed_in.pk != user.pk:
            raise WrongUser

    def _verify_userinfo(self, token: str) -> dict[str, Any]:
        settings = conf.current()
        return self._with_keys(
            lambda keys: id_token.verify_userinfo(
                token,
                keys,
                algorithms=settings.algorithms,
                issuer=settings.issuer,
                audiences=settings.client_ids,
                match_kid=settings.match_kid,
            )
        )

    @staticmethod
    def _with_keys(verify: Any) -> dict[str, Any]:
        """Verify with the keys at hand and, if the OP may have changed them since, once more with newer ones."""
        at_hand = provider.current().keys()
        try:
            return verify(at_hand)  # type: ignore[no-any-return]
        except UnknownKey:
            newer = provider.current().keys(newer_than=at_hand)
            if newer == at_hand:
                raise
            return verify(newer)  # type: ignore[no-any-return]

    @staticmethod
    def _asked(ask: Any, *args: Any) -> Any:
        """Call a hook that asks the OP; a site's own may do that with `requests`, as the base class does."""
        try:
            return ask(*args)
        except requests.RequestException as error:
            raise ProviderError(ask.__name__.removeprefix("get_"), type(error).__name__) from None
