"""System checks: each mistake that would open a page that should be shut, or shut one that should open, has an id.

What `stepup.conf` can see in the settings alone has the ids E001 to E019; what needs a look at the rest of the project
has those from E020 and W040 on.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Iterator, Sequence
from ipaddress import ip_address
from urllib.parse import urlsplit

from django.conf import settings as django_settings
from django.core.checks import CheckMessage, Error, Tags, Warning, register
from django.core.signals import request_started
from django.urls import NoReverseMatch, reverse
from django.utils.module_loading import import_string

from stepup import conf
from stepup.algorithms import SIGNING_ALGORITHMS
from stepup.conf import Settings

logger = logging.getLogger("stepup")

#: Settings of mozilla-django-oidc's that are not read here, with the value that changes nothing.
IGNORED = (
    ("OIDC_USE_NONCE", True),
    ("OIDC_USE_PKCE", True),
    ("OIDC_PKCE_CODE_CHALLENGE_METHOD", "S256"),
    ("OIDC_MAX_STATES", 50),
    ("LOGIN_REDIRECT_URL_FAILURE", "/"),
)

MIDDLEWARE = "stepup.middleware.StepUpMiddleware"
RENEWAL_MIDDLEWARE = "stepup.middleware.SessionRenewalMiddleware"

#: Caches that each process has for itself.
OF_ONE_PROCESS = (
    "django.core.cache.backends.locmem.LocMemCache",
    "django.core.cache.backends.dummy.DummyCache",
)


@register(Tags.security)
def check_settings(app_configs: object, **kwargs: object) -> list[CheckMessage]:
    """All of them. They look at the settings as far as these can be read, so that one mistake does not hide others."""
    found: list[CheckMessage] = [
        Error(problem.message, hint=problem.hint, id=f"stepup.{problem.id}") for problem in conf.problems()
    ]
    loaded = conf.best_effort()
    for check in (
        _backend,
        _views,
        _middleware,
        _urls,
        _keys,
        _private_key,
        _transport,
        _enforcement,
        _sessions,
        _renewal,
        _logout,
        _base_library,
    ):
        found.extend(check(loaded))
    return found


class FirstRequest:
    """Logs what the checks find. A production server runs none, and a page that settings leave open shows no error.

    Requests that come meanwhile, on other threads, wait. The checks load most of what a request needs, and Python does
    not bear it when two threads load modules that need each other from different ends: one of them then finds a module
    that is half there.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._is_over = False

    def __call__(self, **kwargs: object) -> None:
        with self._lock:
            if self._is_over:
                return
            # Also where a check fails, so that no other request does.
            self._is_over = True
            try:
                self._tell()
            finally:
                request_started.disconnect(dispatch_uid="stepup.checks")

    @staticmethod
    def _tell() -> None:
        if django_settings.DEBUG:
            return
        for found in check_settings(None):
            logger.log(found.level, "%s: %s", found.id, found.msg, extra={"event": "misconfigured", "check": found.id})


def _backend(loaded: Settings) -> Iterator[CheckMessage]:
    from stepup.backends import StepUpBackend

    if not any(_is_subclass(path, StepUpBackend) for path in django_settings.AUTHENTICATION_BACKENDS):
        yield Error(
            "AUTHENTICATION_BACKENDS has no stepup.backends.StepUpBackend, nor a sub-class of it: nobody can sign in.",
            hint="Put it in place of mozilla_django_oidc.auth.OIDCAuthenticationBackend.",
            id="stepup.E020",
        )
    for path in django_settings.AUTHENTICATION_BACKENDS:
        if path == "mozilla_django_oidc.auth.OIDCAuthenticationBackend":
            yield Error(
                f"AUTHENTICATION_BACKENDS still has {path}, which accepts ID tokens that were made for others.",
                hint="Take it out: stepup.backends.StepUpBackend does its work.",
                id="stepup.E021",
            )


def _views(loaded: Settings) -> Iterator[CheckMessage]:
    from stepup import inventory
    from stepup.views import AuthenticationCallbackView, AuthenticationRequestView

    callbacks = {name: entry.callback for entry in inventory.entries(loaded) for name in entry.names}
    wanted = {
        "oidc_authentication_init": (AuthenticationRequestView, "OIDC_AUTHENTICATE_CLASS", "stepup.E023"),
        loaded.callback_url_name: (AuthenticationCallbackView, "OIDC_CALLBACK_CLASS", "stepup.E024"),
    }
    for name, (view_class, setting, id_) in wanted.items():
        if name not in callbacks:
            yield Error(
                f"No URL is named {name!r}, so that nobody can sign in.",
                hint='Include "stepup.urls", or keep "mozilla_django_oidc.urls".',
                id="stepup.E022",
            )
        elif not issubclass(getattr(callbacks[name], "view_class", object), view_class):
            yield Error(
                f"The view named {name!r} is no stepup.views.{view_class.__name__}, nor a sub-class of it.",
                hint=f'Set {setting} = "stepup.views.{view_class.__name__}".',
                id=id_,
            )

    if not _is_subclass(loaded.authenticate_class, object):
        yield Error(
            f"OIDC_AUTHENTICATE_CLASS is {loaded.authenticate_class!r}, which cannot be imported.",
            hint='Set it to "stepup.views.AuthenticationRequestView", or to a sub-class of yours.',
            id="stepup.E023",
        )


def _middleware(loaded: Settings) -> Iterator[CheckMessage]:
    from stepup.middleware import StepUpMiddleware

    installed = list(django_settings.MIDDLEWARE)
    position = next((place for place, path in enumerate(installed) if _is_subclass(path, StepUpMiddleware)), None)
    if position is None:
        if loaded.protected_views:
            yield Error(
                "STEPUP['PROTECTED_VIEWS'] protects nothing, because the middleware is not installed.",
                hint=f"Add {MIDDLEWARE!r} to MIDDLEWARE.",
                id="stepup.E025",
            )
        return
    yield from _needs(MIDDLEWARE, installed[position:])
    login_required = "django.contrib.auth.middleware.LoginRequiredMiddleware"
    if login_required in installed[:position]:
        yield Warning(
            f"{MIDDLEWARE} stands behind {login_required}: visitors who are not signed in go to the provider twice.",
            hint="Move it between AuthenticationMiddleware and LoginRequiredMiddleware.",
            id="stepup.W040",
        )


def _needs(middleware: str, behind: Sequence[str]) -> Iterator[CheckMessage]:
    for needed in (
        "django.contrib.sessions.middleware.SessionMiddleware",
        "django.contrib.auth.middleware.AuthenticationMiddleware",
    ):
        # A site may have its own in their place, which nobody can tell from here.
        if needed in behind:
            yield Error(
                f"{middleware} stands before {needed}, which it needs.",
                hint="Move it behind.",
                id="stepup.E026",
            )


def _urls(loaded: Settings) -> Iterator[CheckMessage]:
    from stepup import inventory

    found = list(inventory.entries(loaded))
    for protected in inventory.unmatched(loaded.protected_views, found):
        yield Error(
            f"STEPUP['PROTECTED_VIEWS'] names {protected!r}, but no URL has that name: nothing is protected by it.",
            id="stepup.E027",
        )
    for name, requirement in loaded.requirements.items():
        page = requirement.step_up_url
        if page and not page.startswith("/") and not _is_url_name(page):
            yield Error(
                f"The step_up_url of the requirement {name!r} is {page!r}, but no URL without arguments has that name.",
                id="stepup.E060",
            )
    for entry in found:
        for name in filter(None, map(inventory.requirement_name, inventory.noted(entry.callback))):
            if name not in loaded.requirements:
                yield Error(
                    f"The view {entry.view} wants the requirement {name!r}, which is not defined.",
                    hint="Define it in STEPUP['REQUIREMENTS'], or set STEPUP['PROVIDER'] to a dialect that defines it.",
                    id="stepup.E028",
                )


def _is_url_name(name: str) -> bool:
    try:
        reverse(name)
    except NoReverseMatch:
        return False
    return True


def _keys(loaded: Settings) -> Iterator[CheckMessage]:
    for algorithm in filter(SIGNING_ALGORITHMS.__contains__, map(str, loaded.algorithms)):
        if algorithm.startswith("HS") and len(loaded.client_secret.encode()) * 8 < int(algorithm[2:]):
            yield Error(
                f"OIDC_RP_CLIENT_SECRET is too short for {algorithm}: whoever has an ID token could find it by trying.",
                hint=f"It needs {int(algorithm[2:]) // 8} bytes (RFC 7518, 3.2). Better, have the provider sign "
                'with RS256 or ES256, and set OIDC_RP_SIGN_ALGO = "RS256".',
                id="stepup.E029",
            )
    from stepup.id_token import KeySet

    try:
        is_usable = loaded.sign_key is None or bool(KeySet.from_setting(loaded.sign_key).keys)
    except (TypeError, ValueError):
        is_usable = False
    if not is_usable:
        yield Error("OIDC_RP_IDP_SIGN_KEY is no public key, in PEM or as a JWK, that may be used.", id="stepup.E030")


def _private_key(loaded: Settings) -> Iterator[CheckMessage]:
    from stepup.id_token import signing_key

    if loaded.private_key:
        try:
            signing_key(loaded.private_key)
        except (TypeError, ValueError):
            yield Error("STEPUP['PRIVATE_KEY'] is no private key in PEM that may be used.", id="stepup.E034")


def _transport(loaded: Settings) -> Iterator[CheckMessage]:
    if django_settings.DEBUG:
        return
    for what, url in (("STEPUP['ISSUER']", loaded.issuer), *loaded.endpoints.items()):
        if url and not _is_safe(url):
            yield Error(
                f"{what} is not https: whoever is on the way can sign in as anybody.",
                hint="Only with DEBUG, or on this very machine, may it be plain http.",
                id="stepup.E031",
            )
    if not loaded.verify_tls and loaded.verify_tls is not None:
        yield Error(
            "OIDC_VERIFY_SSL is off: whoever is on the way can sign in as anybody.",
            hint="Give the path of your own certificate authority's bundle instead of False.",
            id="stepup.E032",
        )


def _enforcement(loaded: Settings) -> Iterator[CheckMessage]:
    if not loaded.enforced:
        yield Warning(
            f"Step-up is off: STEPUP['CLIENTS_WITH_MFA'] leaves out this site's client id {loaded.client_id!r}, "
            "so that being signed in opens every protected page.",
            id="stepup.W041",
        )
    if loaded.report_only:
        from django.contrib.auth.middleware import LoginRequiredMiddleware

        signed_in = loaded.installed(LoginRequiredMiddleware) is not None
        yield Warning(
            f"STEPUP['REPORT_ONLY'] names {', '.join(sorted(loaded.report_only))}: who does not satisfy "
            f"{'it' if len(loaded.report_only) == 1 else 'them'} is reported, and let through"
            f"{'' if signed_in else ', also without being signed in'}.",
            hint="Take it out when the log shows what you expect.",
            id="stepup.W048",
        )
    if loaded.trust_unverified_email:
        yield Warning(
            "STEPUP['UNSAFE_TRUST_UNVERIFIED_EMAIL'] is on: whoever can have an e-mail address on their account at the "
            "provider gets the account here that has the same.",
            hint="Safe only where nobody but the provider's administrators can set that address.",
            id="stepup.W042",
        )


def _sessions(loaded: Settings) -> Iterator[CheckMessage]:
    if django_settings.SESSION_ENGINE == "django.contrib.sessions.backends.signed_cookies":
        yield Warning(
            "Sessions are kept in cookies: evidence cannot be withdrawn, an old cookie stays good after sign-out, and "
            "a few pending sign-ins fill the cookie.",
            hint="Use a session engine that keeps sessions on the server.",
            id="stepup.W043",
        )
    if str(django_settings.SESSION_COOKIE_SAMESITE).lower() == "strict":
        yield Error(
            "SESSION_COOKIE_SAMESITE is 'Strict': the browser does not send the session on the way back from the "
            "provider, so that no sign-in can be completed.",
            hint="Set it to 'Lax'.",
            id="stepup.E033",
        )


def _renewal(loaded: Settings) -> Iterator[CheckMessage]:
    from stepup.middleware import SessionRenewalMiddleware

    installed = list(django_settings.MIDDLEWARE)
    position = next(
        (place for place, path in enumerate(installed) if _is_subclass(path, SessionRenewalMiddleware)), None
    )
    if position is not None:
        yield from _needs(RENEWAL_MIDDLEWARE, installed[position:])
    if not loaded.keep_refresh_token:
        return
    if position is None:
        yield Warning(
            "STEPUP['KEEP_REFRESH_TOKEN'] is on, but nothing uses a refresh token that is kept.",
            hint=f"Add {RENEWAL_MIDDLEWARE!r} to MIDDLEWARE, or take the setting out.",
            id="stepup.W050",
        )
    if loaded.session_engine == "django.contrib.sessions.backends.signed_cookies":
        yield Warning(
            "STEPUP['KEEP_REFRESH_TOKEN'] is on, but no refresh token is kept in sessions that are cookies: it would "
            "come back with an old cookie, and be one that was used.",
            hint="Use a session engine that keeps sessions on the server.",
            id="stepup.W051",
        )
    elif not django_settings.DEBUG and _is_of_one_process(loaded.cache):
        yield Warning(
            "STEPUP['KEEP_REFRESH_TOKEN'] is on, but the processes of the site share no cache: two that use a refresh "
            "token at the same time look to the provider like a thief, and it ends what the token is for.",
            hint="Name a cache in STEPUP['CACHE'] that all processes share, such as Redis.",
            id="stepup.W052",
        )


def _is_of_one_process(cache: str | None) -> bool:
    return cache is None or django_settings.CACHES.get(cache, {}).get("BACKEND") in OF_ONE_PROCESS


def _logout(loaded: Settings) -> Iterator[CheckMessage]:
    from stepup import inventory
    from stepup.sign_out import BackChannelLogoutView, FrontChannelLogoutView, LogoutView

    if loaded.back_channel_logout is not None:
        from stepup.middleware import StepUpMiddleware

        if loaded.session_engine == "django.contrib.sessions.backends.signed_cookies":
            yield Error(
                "STEPUP['BACK_CHANNEL_LOGOUT'] is on, but sessions are kept in cookies, where nobody can end them.",
                hint="Use a session engine that keeps sessions on the server.",
                id="stepup.E050",
            )
        if not any(_is_subclass(path, StepUpMiddleware) for path in django_settings.MIDDLEWARE):
            yield Error(
                "STEPUP['BACK_CHANNEL_LOGOUT'] is on, but the middleware is not installed: a session whose key changes "
                "is not found again.",
                hint=f"Add {MIDDLEWARE!r} to MIDDLEWARE.",
                id="stepup.E051",
            )
    for is_on, setting, view_class in (
        (loaded.back_channel_logout is not None, "BACK_CHANNEL_LOGOUT", BackChannelLogoutView),
        (loaded.front_channel_logout, "FRONT_CHANNEL_LOGOUT", FrontChannelLogoutView),
        (loaded.sign_out_at_provider and not loaded.logout_url_method, "SIGN_OUT_AT_PROVIDER", LogoutView),
    ):
        if is_on and not any(
            issubclass(getattr(entry.callback, "view_class", object), view_class) for entry in inventory.entries(loaded)
        ):
            yield Error(
                f"STEPUP[{setting!r}] is on, but no URL leads to stepup.views.{view_class.__name__}.",
                hint='Include "stepup.urls", or give that view a URL.',
                id="stepup.E052",
            )
    if loaded.front_channel_logout and str(django_settings.SESSION_COOKIE_SAMESITE).lower() != "none":
        yield Warning(
            "STEPUP['FRONT_CHANNEL_LOGOUT'] is on, but browsers do not send the session cookie in a frame of another "
            "site: unless the provider is of the same site, nothing will ever happen.",
            hint="Use STEPUP['BACK_CHANNEL_LOGOUT'], which needs no browser.",
            id="stepup.W053",
        )


def _base_library(loaded: Settings) -> Iterator[CheckMessage]:
    if "mozilla_django_oidc.middleware.SessionRefresh" in django_settings.MIDDLEWARE:
        yield Warning(
            "mozilla_django_oidc.middleware.SessionRefresh interrupts fetches, and asks with parameters of "
            "its own. It works, but a step-up may ask again after it.",
            hint=f"Put {RENEWAL_MIDDLEWARE!r} in its place. While you keep it, keep OIDC_OP_AUTHORIZATION_ENDPOINT in "
            "the settings, where it reads that.",
            id="stepup.W044",
        )
    ignored = [name for name, value in IGNORED if getattr(django_settings, name, value) != value]
    if ignored:
        yield Warning(
            f"{', '.join(ignored)} {'is' if len(ignored) == 1 else 'are'} ignored: nonce and PKCE with S256 are always "
            "used, pending sign-ins are bounded by STEPUP['MAX_PENDING'], and what went wrong is told on a page.",
            id="stepup.W045",
        )


def _is_safe(url: str) -> bool:
    """Whether it is https, or never leaves this machine (RFC 8252, 8.3)."""
    try:
        parts = urlsplit(url)
        return parts.scheme == "https" or parts.hostname == "localhost" or ip_address(parts.hostname or "").is_loopback
    except ValueError:
        return False


def _is_subclass(path: str, base: type) -> bool:
    try:
        loaded = import_string(path)
    except ImportError:
        return False
    return isinstance(loaded, type) and issubclass(loaded, base)
