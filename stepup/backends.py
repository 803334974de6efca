"""The authentication backend: from the OP's answer to a user of this site, or to an error that says why not.

It keeps mozilla-django-oidc's hooks, so that a site's own sub-class goes on working. Unlike the base class it writes
nothing to the session: that is for the callback view, once the user is known and is the right one.
"""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import requests
from django.contrib.auth import get_user_model
from django.contrib.auth.models import AbstractBaseUser
from django.core.exceptions import SuspiciousOperation
from django.db import DataError, IntegrityError, transaction
from django.http import HttpRequest
from django.views.decorators.debug import sensitive_variables
from mozilla_django_oidc.auth import OIDCAuthenticationBackend

from stepup import challenge, conf, id_token, provider, session
from stepup.exceptions import AccountRefused, ClaimError, ProviderError, StepUpError, WrongUser
from stepup.models import Identity

__all__ = ["StepUpBackend", "VerifiedLogin"]


#: Hooks that are given claims. A site's own may look for any.
HOOKS_THAT_READ_CLAIMS = (
    "verify_claims",
    "filter_users_by_claims",
    "create_user",
    "update_user",
    "get_username",
    "may_link",
)


@dataclass(frozen=True, slots=True, repr=False)
class VerifiedLogin:
    """What the backend found out on the way to a user, for the callback view to put on the session."""

    backend: StepUpBackend
    claims: dict[str, Any]
    access_token: str
    id_token: str
    refresh_token: str | None = None


class StepUpBackend(OIDCAuthenticationBackend):
    """Authenticates with an authorization code (OpenID Connect Core 1.0, 3.1.3).

    Hooks for sub-classes, as in the base class: `verify_claims`, `filter_users_by_claims`, `create_user`,
    `update_user`, `get_username`, `get_userinfo`, `store_tokens`. To these comes :meth:`may_link`.
    """

    _asked_by_email = False

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

    @sensitive_variables()
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
        form = {
            "client_id": self.OIDC_RP_CLIENT_ID,
            "client_secret": self.OIDC_RP_CLIENT_SECRET,
            "grant_type": "authorization_code",
            "code": code,
            "redirect_uri": challenge.redirect_uri(request),
        }
        if kwargs.get("code_verifier") is not None:
            form["code_verifier"] = kwargs["code_verifier"]
        with _refusals_as(lambda: ClaimError("id_token", "refused by the site"), asking="token"):
            answer = self.get_token(form)
            token: Any = answer.get("id_token")
            access_token = answer.get("access_token")
            if not isinstance(access_token, str):
                raise ProviderError("token", "no access_token")
            claims = self.verify_token(token, nonce=nonce, access_token=access_token)

        user = self._known_subject(claims)
        if user is None:
            user = self._user_for(access_token, token, claims)
        refresh_token = answer.get("refresh_token")
        user.stepup_login = VerifiedLogin(
            self, claims, access_token, token, refresh_token if isinstance(refresh_token, str) else None
        )
        return user  # type: ignore[no-any-return] # a site may return what it likes

    def _user_for(self, access_token: str, token: str, claims: dict[str, Any]) -> Any:
        with _refusals_as(lambda: AccountRefused("claims"), asking="userinfo"):
            user = self.get_or_create_user(access_token, token, claims)
        if user is None:
            raise AccountRefused("unknown")
        self._expect_user(user)
        if not self.user_can_authenticate(user):
            raise AccountRefused("inactive")
        return user

    @sensitive_variables()
    def get_token(self, payload: dict[str, Any]) -> dict[str, Any]:
        """The OP's answer to a token request; the client authenticates as the settings say."""
        return provider.current().token_request(payload)

    @sensitive_variables()
    def verify_token(self, token: Any, **kwargs: Any) -> dict[str, Any]:
        """The claims of an ID token in which everything is as it must be.

        Args:
            nonce: what it has to repeat.
            access_token: what came with it, for `at_hash`.

        Raises:
            ClaimError: it is refused.
            ProviderError: the keys to verify it with cannot be had.
        """
        return provider.current().verified(
            id_token.verify, token, nonce=kwargs.get("nonce"), access_token=kwargs.get("access_token")
        )

    @sensitive_variables()
    def verify_renewal(self, answer: dict[str, Any]) -> tuple[dict[str, Any] | None, str]:
        """What the answer to a refresh token is worth (OpenID Connect Core 1.0, 12.2), by itself.

        Returns:
            The claims of the ID token, or None where none came, as is allowed; and the access token.

        Raises:
            ClaimError: the ID token is refused.
            ProviderError: there is no access token, or the keys to verify with cannot be had.
        """
        access_token, token = answer.get("access_token"), answer.get("id_token")
        if not isinstance(access_token, str):
            raise ProviderError("token", "no access_token")
        if token is None:
            return None, access_token
        with _refusals_as(lambda: ClaimError("id_token", "refused by the site"), asking="token"):
            return self.verify_token(token, nonce=None, access_token=access_token), access_token

    @sensitive_variables()
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

    @sensitive_variables()
    def get_or_create_user(self, access_token: str, id_token: str, payload: dict[str, Any] | None) -> Any:
        """The account of the person that the ID token is about.

        It is found by issuer and subject. Where these are not known yet, an account that `filter_users_by_claims`
        finds is linked to them if :meth:`may_link` allows; where there is none, one is created if `OIDC_CREATE_USER`
        is set.

        Raises:
            AccountRefused: there is no account, or none that may be linked.
            WrongUser: somebody is signed in, and the account is not theirs.
        """
        if payload is None:
            # The base library's REST framework class has nothing but an access token, which may be another client's.
            raise SuspiciousOperation("An access token alone identifies nobody.")
        userinfo = payload
        if self._needs_userinfo(payload):
            userinfo = self.get_userinfo(access_token, id_token, payload)
        if userinfo.get("sub", payload["sub"]) != payload["sub"]:
            # Once more, because a site's own `get_userinfo` may have asked.
            raise ClaimError("sub", "mismatch in userinfo")
        if not isinstance(userinfo.get("email") or "", str) or not self.verify_claims(userinfo):
            raise AccountRefused("claims")
        issuer, subject = payload["iss"], payload["sub"]
        known = _known_user(issuer, subject)
        if known is not None:
            return self._update(known, userinfo)
        try:
            with transaction.atomic():
                return self._first_account(issuer, subject, userinfo)
        except (IntegrityError, DataError):
            # Two first sign-ins at once: the other one has created the account in the meantime. Or else the user name
            # is taken by an account that is not to be linked, or the database cannot hold what a claim says.
            known = _known_user(issuer, subject)
            if known is None:
                raise AccountRefused("conflict") from None
            return known

    def get_username(self, claims: dict[str, Any]) -> str:
        """A name for a new account: by `OIDC_USERNAME_ALGO`, or else made of issuer and subject, which never change.

        The base class makes it of the e-mail address, so that all people without one would be one and the same.
        """
        settings = conf.current()
        if settings.username_algorithm:
            return super().get_username(claims)  # type: ignore[no-any-return] # the base class has no types
        digest = hashlib.sha256(f"{settings.issuer} {claims['sub']}".encode()).digest()
        return base64.urlsafe_b64encode(digest[:20]).rstrip(b"=").decode()

    def filter_users_by_claims(self, claims: dict[str, Any]) -> Any:
        """The accounts with the claims' e-mail address, in any case, or what the database takes for it."""
        self._asked_by_email = True
        email, field = claims.get("email"), self.UserModel.get_email_field_name()
        if not email or field not in {known.name for known in self.UserModel._meta.get_fields()}:
            return self.UserModel._default_manager.none()
        return self.UserModel._default_manager.filter(**{f"{field}__iexact": email})

    @sensitive_variables()
    def may_link(self, user: Any, claims: dict[str, Any]) -> bool:
        """Whether an account that `filter_users_by_claims` found may be linked to the claims' subject, for good.

        By default, where its e-mail address is not what it may have been found by, or else is the account's to the
        letter and the OP says that it has verified it. A site that knows better overrides this.
        """
        ours = getattr(user, user.get_email_field_name(), None) or ""
        claimed = claims.get("email") or ""
        if not self._asked_by_email and (not claimed or ours.casefold() != claimed.casefold()):
            return True
        return ours == claimed and self._is_verified(claims)

    def get_user(self, user_id: Any) -> Any:
        """The user of a session; None also where the account has been deactivated since."""
        user = super().get_user(user_id)
        return user if user is not None and self.user_can_authenticate(user) else None

    def _first_account(self, issuer: str, subject: str, userinfo: dict[str, Any]) -> Any:
        self._asked_by_email = False
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
        elif userinfo.get("email") and not self._is_verified(userinfo):
            # Whoever the address really belongs to would find it taken, and others would think it theirs.
            raise AccountRefused("unverified e-mail")
        else:
            user = self.create_user(userinfo)
        Identity.objects.create(issuer=issuer, subject=subject, user=user)
        return user

    @staticmethod
    def _is_verified(claims: dict[str, Any]) -> bool:
        said = claims.get("email_verified", conf.current().trust_unverified_email)
        # Some OPs say it with a string (Amazon Cognito), where OpenID Connect Core 1.0, 5.1 has a boolean.
        return said is True or said == "true"

    def _update(self, user: Any, userinfo: dict[str, Any]) -> Any:
        self._expect_user(user)
        if not self.user_can_authenticate(user):
            raise AccountRefused("inactive")
        return self.update_user(user, userinfo)

    def _needs_userinfo(self, claims: dict[str, Any]) -> bool:
        settings, mine = conf.current(), type(self)
        if mine.get_userinfo is not StepUpBackend.get_userinfo:
            return True
        if settings.userinfo != "when_needed":
            return settings.userinfo == "always"
        needed = settings.user_claims
        if needed is None:
            if settings.username_algorithm or any(
                getattr(mine, hook) is not getattr(StepUpBackend, hook) for hook in HOOKS_THAT_READ_CLAIMS
            ):
                return True  # nobody but the site knows what they look for
            needed = ("email", "email_verified") if "email" in settings.scopes.split() else ()
        return not claims.keys() >= set(needed)

    def _signed_in(self) -> Any:
        user = self.request.user
        return user if user.is_authenticated else None

    def _known_subject(self, claims: dict[str, Any]) -> Any:
        """The user who is signed in, where it is they who authenticated again; None where nobody is, through the OP.

        Nothing about them needs to be found out, so neither userinfo nor a hook is asked.
        """
        known = session.evidence(self.request)
        if known is None or not known.subject:
            return None  # what the site itself has stated says nothing of who they are at the OP
        if known.subject != claims["sub"]:
            raise WrongUser
        return self.request.user

    def _expect_user(self, user: Any) -> None:
        signed_in = self._signed_in()
        if signed_in is not None and signed_in.pk != user.pk:
            raise WrongUser

    @staticmethod
    def _verify_userinfo(token: str) -> dict[str, Any]:
        return provider.current().verified(id_token.verify_userinfo, token)


def _known_user(issuer: str, subject: str) -> Any:
    """The user of an identity. Some databases take "ANNA" for "anna"; a subject is case-sensitive (Core 1.0, 2)."""
    known = Identity.objects.filter(issuer=issuer, subject=subject).select_related("user").first()
    return known.user if known is not None and (known.issuer, known.subject) == (issuer, subject) else None


@contextmanager
def _refusals_as(refusal: Callable[[], StepUpError], *, asking: str) -> Iterator[None]:
    """Hooks say no with `SuspiciousOperation`, as the base class's do, and may ask others with `requests` too."""
    try:
        yield
    except SuspiciousOperation:
        raise refusal() from None
    except requests.RequestException as error:
        raise ProviderError(asking, type(error).__name__) from None
