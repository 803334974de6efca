"""The only reader of settings: `STEPUP`, and those that mozilla-django-oidc already has, as one frozen value.

`STEPUP` is parsed strictly. A typing mistake in `max_age` must not silently switch freshness off, so an unknown key is
an error, and while there is one, `current()` raises and no protected page opens.
"""

from __future__ import annotations

import difflib
import math
import os
import re
import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from types import MappingProxyType
from typing import Any, TypeVar

from django.conf import settings as django_settings
from django.core.exceptions import ImproperlyConfigured
from django.core.signals import setting_changed
from django.utils.encoding import force_bytes
from django.utils.module_loading import import_string

from stepup.algorithms import SIGNING_ALGORITHMS
from stepup.assurance import MAX_MAX_AGE, Decision, Evidence, Requirement, evaluate, is_link
from stepup.dialects import DIALECTS, Dialect

__all__ = ["Problem", "Settings", "current", "problems"]

DEFAULT_REQUIREMENT = "mfa"

#: How the client proves who it is (OpenID Connect Core 1.0, section 9).
CLIENT_AUTHENTICATIONS = ("client_secret_post", "client_secret_basic", "private_key_jwt")
#: When userinfo is asked for.
USERINFO = ("when_needed", "always", "never")
#: What becomes of the sessions that the OP says are over.
BACK_CHANNEL_LOGOUT = ("end", "lower")

#: The longest time-out, in seconds: nobody waits longer for a page, and clocks have limits.
MAX_TIMEOUT = 600

_CACHE = "the name of one of CACHES, or None"
_PATH = "the dotted path of a class"
_WHOLE = "a whole number from 1 to 1000"

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Problem:
    """A mistake in the settings: the id of the system check that reports it, what is wrong, and how to put it right."""

    id: str
    message: str
    hint: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """What the settings say. Times are in seconds, sizes in characters or bytes as named.

    Attributes:
        enforced: whether requirements are enforced at all: the site runs as one of ``CLIENTS_WITH_MFA``, or that is not
            set.
        endpoints: the OP's endpoints that are set explicitly, under the names that its metadata has for them.
        protected_views: URL names and patterns that end in ``*``, each with its requirement.
        report_only: the names of the requirements that are reported where they are not met, and not enforced.
        enforced_requirements: the others.
        max_evidence_age: how old evidence may be, whatever is required; None for any age.
        max_attempts: how often, within ``attempts_within`` seconds, a step-up that came to nothing is offered again.
        login_redirect_url: as it stands. It may be lazy, and to look into it would import the URLs, which import this.
        middleware: Django's ``MIDDLEWARE``.
        development_provider: ``STEPUP_PROVIDER`` as it stands, for the provider to read; production has none.
        client_authentication: one of :data:`CLIENT_AUTHENTICATIONS`.
        renewal_grace: for how long a user goes on whose sign-in cannot be renewed because the OP does not answer.
        keep_refresh_token: whether a refresh token that the OP gives is kept, to renew by.
        renewal_exempt: paths, URL names and compiled patterns of paths on which nothing is renewed.
        cache: the Django cache through which processes share the OP's metadata and keys; None where they do not.
        userinfo: one of :data:`USERINFO`.
        user_claims: the claims that the site's hooks need; None where it does not say.
        keep_forms: whether a form that is sent before its step-up is kept until after it.
        keep_forms_bytes: how large it may be.
        trust_unverified_email: whether an account is linked by an e-mail address that the OP does not say is verified.
        sign_out_at_provider: whether signing out here sends the browser to sign out at the OP as well.
        logout_url_method: the base library's own way there, which wins: a dotted path, empty where there is none.
        back_channel_logout: one of :data:`BACK_CHANNEL_LOGOUT`; None where the OP is not listened to.
        front_channel_logout: whether the OP may end a session from a frame in its browser.
        session_engine: the module of Django's session store.
    """

    dialect: Dialect
    issuer: str
    client_id: str
    client_secret: str = field(repr=False)
    client_ids: tuple[str, ...]
    enforced: bool
    requirements: Mapping[str, Requirement]
    protected_views: Mapping[str, Requirement]
    report_only: frozenset[str]
    enforced_requirements: Mapping[str, Requirement]
    leeway: int
    audience: str | None
    algorithms: tuple[str, ...]
    sign_key: Any = field(repr=False)
    match_kid: bool
    endpoints: Mapping[str, str]
    scopes: str
    extra_params: Mapping[str, Any]
    callback_url_name: str
    redirect_field_name: str
    redirect_hosts: tuple[str, ...]
    redirect_require_https: bool | None
    state_size: int
    nonce_size: int
    code_verifier_size: int
    max_pending: int
    pending_max_age: int
    keep_forms: bool
    keep_forms_bytes: int
    max_evidence_age: int | None
    max_attempts: int
    attempts_within: int
    renew_after: int
    renewal_grace: int
    keep_refresh_token: bool
    renewal_exempt: tuple[Any, ...]
    client_authentication: str
    private_key: str = field(repr=False)
    private_key_id: str
    pushed_requests: bool
    signed_requests: bool
    cache: str | None
    userinfo: str
    user_claims: tuple[str, ...] | None
    verify_tls: Any
    timeout: float
    proxies: Mapping[str, str] | None
    create_users: bool
    username_algorithm: Any
    trust_unverified_email: bool
    sign_out_at_provider: bool
    logout_url_method: str
    back_channel_logout: str | None
    front_channel_logout: bool
    session_engine: str
    documentation_url: str
    login_redirect_url: Any
    logout_redirect_url: Any
    session_cookie_name: str
    session_is_always_saved: bool
    authenticate_class: str
    callback_class: str
    middleware: tuple[str, ...]
    development_provider: Any = field(repr=False)

    def judge(self, evidence: Evidence | None, requirement: Requirement, *, now: float) -> Decision:
        """:func:`stepup.evaluate`, with this site's leeway and its upper age of all evidence."""
        return evaluate(evidence, requirement, now=now, leeway=self.leeway, limit=self.max_evidence_age)

    @property
    def proof_claims(self) -> frozenset[str]:
        """The claims, apart from ``amr`` and ``acr``, by which a named requirement is proved."""
        return frozenset().union(*(requirement.proof_claims for requirement in self.requirements.values()))

    def installed(self, base: type) -> Any:
        """The first middleware that is this class or a sub-class of it; None for none."""
        for path in self.middleware:
            try:
                found = import_string(path)
            except ImportError:
                continue  # Django says so itself, where the server starts
            if isinstance(found, type) and issubclass(found, base):
                return found
        return None


_ENDPOINTS = {
    "OIDC_OP_AUTHORIZATION_ENDPOINT": "authorization_endpoint",
    "OIDC_OP_TOKEN_ENDPOINT": "token_endpoint",
    "OIDC_OP_USER_ENDPOINT": "userinfo_endpoint",
    "OIDC_OP_JWKS_ENDPOINT": "jwks_uri",
}

_loaded: tuple[Settings, tuple[Problem, ...]] | None = None
_lock = threading.Lock()


def current() -> Settings:
    """The settings in force.

    Raises:
        ImproperlyConfigured: there is a mistake in them; the message names all.
    """
    loaded, found = _loaded or _load_once()
    if found:
        raise ImproperlyConfigured("; ".join(f"stepup.{problem.id}: {problem.message}" for problem in found))
    return loaded


def raw() -> dict[str, Any]:
    """`STEPUP` as it stands, for the test kit to change in part."""
    return dict(getattr(django_settings, "STEPUP", {}))


def secret_keys() -> tuple[bytes, ...]:
    """Django's `SECRET_KEY` and `SECRET_KEY_FALLBACKS`. Read where one is needed: a build may do without."""
    return tuple(map(force_bytes, (django_settings.SECRET_KEY, *django_settings.SECRET_KEY_FALLBACKS)))


def problems() -> tuple[Problem, ...]:
    """The mistakes in the settings that can be seen without looking at anything else."""
    return _load_once()[1]


def best_effort() -> Settings:
    """The settings with what is malformed left at its default, for system checks to look at; not to be served from."""
    return _load_once()[0]


def _load_once() -> tuple[Settings, tuple[Problem, ...]]:
    global _loaded  # noqa: PLW0603 - one value per process, made at its first use
    loaded = _loaded
    if loaded is None:
        with _lock:  # or else each thread that comes first would have settings, and with them a provider, of its own
            loaded = _loaded = _loaded or _load()
    return loaded


def _reset(**kwargs: object) -> None:
    global _loaded  # noqa: PLW0603 - see above
    _loaded = None


setting_changed.connect(_reset)


def _after_fork() -> None:
    # A child that was forked while another thread held the lock would find it held for ever.
    global _lock  # noqa: PLW0603 - see above
    _lock = threading.Lock()


os.register_at_fork(after_in_child=_after_fork)


class _Reader:
    """Takes known keys out of the `STEPUP` dictionary, and keeps an account of what was wrong with them."""

    def __init__(self) -> None:
        self.problems: list[Problem] = []
        raw = getattr(django_settings, "STEPUP", {})
        if not isinstance(raw, Mapping):
            self.add("E001", "STEPUP must be a dictionary.")
            raw = {}
        self.raw: Mapping[Any, Any] = raw
        self.known: list[str] = []

    def add(self, id: str, message: str, hint: str | None = None) -> None:  # noqa: A002 - the word for it
        self.problems.append(Problem(id, message, hint))

    def take(self, key: str, default: T, valid: Callable[[Any], bool], what: str) -> T:
        self.known.append(key)
        value = self.raw.get(key, default)
        if key in self.raw and not valid(value):
            self.add("E003", f"STEPUP[{key!r}] must be {what}.")
            return default
        return value  # type: ignore[no-any-return] # `valid` has seen to it

    def oidc(self, name: str, default: Any = None, valid: Callable[[Any], bool] | None = None, what: str = "") -> Any:
        """A setting beside `STEPUP`, most of them mozilla-django-oidc's."""
        value = getattr(django_settings, name, default)
        if valid is not None and value is not default and not valid(value):
            self.add("E013", f"{name} must be {what}.")
            return default
        return value

    def finish(self) -> None:
        for key in self.raw:
            if key not in self.known:
                near = difflib.get_close_matches(str(key), self.known, n=1)
                self.add("E002", f"STEPUP has an unknown key {key!r}.", f"Did you mean {near[0]!r}?" if near else None)


def _load() -> tuple[Settings, tuple[Problem, ...]]:
    read = _Reader()

    oidc = read.oidc
    provider = read.take("PROVIDER", "generic", lambda v: isinstance(v, str), "the name of a provider dialect")
    if provider not in DIALECTS:
        read.add("E004", f"STEPUP['PROVIDER'] is {provider!r}, which is unknown.", f"Known: {', '.join(DIALECTS)}.")
        provider = "generic"
    dialect = DIALECTS[provider]

    client_id = oidc("OIDC_RP_CLIENT_ID", "", _string, "a string")
    client_ids = tuple(
        read.take("CLIENT_IDS", [client_id] if client_id else [], _some_strings, "a list of client ids, and not empty")
    )
    with_mfa: Any = read.take("CLIENTS_WITH_MFA", None, _strings, "a list of client ids")
    requirements = _requirements(read, dialect)
    report_only = _report_only(read, requirements)
    endpoints = {ours: url for name, ours in _ENDPOINTS.items() if (url := oidc(name, None, _string, "a URL"))}
    if end_session := read.take("END_SESSION_ENDPOINT", "", _string, "a URL"):
        endpoints["end_session_endpoint"] = end_session
    loaded = Settings(
        dialect=dialect,
        issuer=read.take(
            "ISSUER", "", lambda v: _string(v) and len(v) <= 255, "the issuer's URL, of at most 255 characters"
        ),
        client_id=client_id,
        client_secret=oidc("OIDC_RP_CLIENT_SECRET", "", lambda v: v is None or isinstance(v, str), "a string") or "",
        client_ids=client_ids,
        enforced=with_mfa is None or client_id in with_mfa,
        requirements=MappingProxyType(requirements),
        protected_views=MappingProxyType(_protected_views(read, requirements)),
        report_only=report_only,
        enforced_requirements=MappingProxyType({k: v for k, v in requirements.items() if k not in report_only}),
        leeway=read.take("LEEWAY", 30, _whole(0, 600), "a whole number of seconds from 0 to 600"),
        audience=read.take("AUDIENCE", None, _string, "the identifier of an API"),
        algorithms=tuple(
            read.take(
                "SIGNING_ALGORITHMS",
                [oidc("OIDC_RP_SIGN_ALGO", "HS256")],
                lambda v: _some_strings(v) and SIGNING_ALGORITHMS.issuperset(v),
                f"a list of some of {', '.join(sorted(SIGNING_ALGORITHMS))}",
            )
        ),
        sign_key=oidc("OIDC_RP_IDP_SIGN_KEY"),
        match_kid=oidc("OIDC_VERIFY_KID", True),
        endpoints=MappingProxyType(endpoints),
        scopes=oidc("OIDC_RP_SCOPES", "openid email", _string, "scopes, separated by spaces"),
        extra_params=MappingProxyType(dict(oidc("OIDC_AUTH_REQUEST_EXTRA_PARAMS", {}, _is_mapping, "a dictionary"))),
        callback_url_name=oidc(
            "OIDC_AUTHENTICATION_CALLBACK_URL", "oidc_authentication_callback", _string, "a URL name"
        ),
        redirect_field_name=oidc("OIDC_REDIRECT_FIELD_NAME", "next", _string, "a string"),
        redirect_hosts=tuple(oidc("OIDC_REDIRECT_ALLOWED_HOSTS", (), _strings, "a list of host names")),
        redirect_require_https=oidc("OIDC_REDIRECT_REQUIRE_HTTPS"),
        # Never less than what cannot be guessed (RFC 6749, 10.10) or what RFC 7636, 4.1 allows.
        state_size=max(oidc("OIDC_STATE_SIZE", 32, _whole(1, 1000), _WHOLE), 22),
        nonce_size=max(oidc("OIDC_NONCE_SIZE", 32, _whole(1, 1000), _WHOLE), 22),
        code_verifier_size=min(max(oidc("OIDC_PKCE_CODE_VERIFIER_SIZE", 64, _whole(1, 1000), _WHOLE), 43), 128),
        max_pending=read.take("MAX_PENDING", 20, _whole(1, 100), "a whole number from 1 to 100"),
        pending_max_age=read.take("PENDING_MAX_AGE", 900, _whole(60, 86400), "seconds, from 60 to 86400"),
        keep_forms=read.take("KEEP_FORMS", True, _is_bool, "True or False"),
        keep_forms_bytes=read.take(
            "KEEP_FORMS_BYTES", 1024 * 1024, _whole(1024, 16 * 1024 * 1024), "bytes, from 1024 to 16777216"
        ),
        max_evidence_age=read.take(
            "MAX_EVIDENCE_AGE",
            12 * 3600,
            lambda v: v is None or _whole(60, MAX_MAX_AGE)(v),
            f"a whole number of seconds from 60 to {MAX_MAX_AGE}, or None",
        ),
        max_attempts=read.take("MAX_ATTEMPTS", 3, _whole(0, 100), "a whole number from 0 to 100"),
        attempts_within=read.take("ATTEMPTS_WITHIN", 600, _whole(1, 86400), "seconds, from 1 to 86400"),
        renew_after=oidc(
            "OIDC_RENEW_ID_TOKEN_EXPIRY_SECONDS",
            60 * 15,
            lambda v: _is_number(v) and 1 <= v <= MAX_MAX_AGE,
            f"a number of seconds, from 1 to {MAX_MAX_AGE}",
        ),
        renewal_grace=read.take("RENEWAL_GRACE", 3600, _whole(0, 86400), "a whole number of seconds from 0 to 86400"),
        keep_refresh_token=read.take("KEEP_REFRESH_TOKEN", False, _is_bool, "True or False"),
        renewal_exempt=tuple(
            oidc("OIDC_EXEMPT_URLS", (), _are_paths, "a list of URL names, paths and compiled regular expressions")
        ),
        client_authentication=read.take(
            "CLIENT_AUTHENTICATION",
            "client_secret_basic" if oidc("OIDC_TOKEN_USE_BASIC_AUTH", False) else "client_secret_post",
            _one_of(CLIENT_AUTHENTICATIONS),
            f"one of {', '.join(CLIENT_AUTHENTICATIONS)}",
        ),
        private_key=read.take("PRIVATE_KEY", "", _string, "a private key in PEM"),
        private_key_id=read.take("PRIVATE_KEY_ID", "", _string, "the name of the private key"),
        pushed_requests=read.take("PUSHED_REQUESTS", False, _is_bool, "True or False"),
        signed_requests=read.take("SIGNED_REQUESTS", False, _is_bool, "True or False"),
        cache=read.take(
            "CACHE", "default", lambda v: v is None or (_string(v) and v in django_settings.CACHES), _CACHE
        ),
        userinfo=read.take("USERINFO", USERINFO[0], _one_of(USERINFO), f"one of {', '.join(USERINFO)}"),
        user_claims=_optional_tuple(read.take("USER_CLAIMS", None, _strings, "a list of names of claims")),
        verify_tls=oidc("OIDC_VERIFY_SSL", True),
        timeout=_seconds(oidc("OIDC_TIMEOUT", None, _is_timeout, f"a number of seconds up to {MAX_TIMEOUT}, or two")),
        proxies=oidc("OIDC_PROXY", None, _is_mapping, "a dictionary of proxies by scheme"),
        username_algorithm=oidc("OIDC_USERNAME_ALGO"),
        create_users=bool(oidc("OIDC_CREATE_USER", True)),
        trust_unverified_email=read.take("UNSAFE_TRUST_UNVERIFIED_EMAIL", False, _is_bool, "True or False"),
        sign_out_at_provider=read.take("SIGN_OUT_AT_PROVIDER", False, _is_bool, "True or False"),
        logout_url_method=oidc("OIDC_OP_LOGOUT_URL_METHOD", "") or "",
        back_channel_logout=read.take(
            "BACK_CHANNEL_LOGOUT",
            None,
            lambda v: v is None or v in BACK_CHANNEL_LOGOUT,
            f"one of {', '.join(BACK_CHANNEL_LOGOUT)}, or None",
        ),
        front_channel_logout=read.take("FRONT_CHANNEL_LOGOUT", False, _is_bool, "True or False"),
        session_engine=django_settings.SESSION_ENGINE,
        documentation_url=read.take("DOCUMENTATION_URL", "", is_link, "an http or https URL, or a path"),
        login_redirect_url=django_settings.LOGIN_REDIRECT_URL,
        logout_redirect_url=django_settings.LOGOUT_REDIRECT_URL,
        session_cookie_name=django_settings.SESSION_COOKIE_NAME,
        session_is_always_saved=bool(django_settings.SESSION_SAVE_EVERY_REQUEST),
        authenticate_class=oidc("OIDC_AUTHENTICATE_CLASS", "stepup.views.AuthenticationRequestView", _string, _PATH),
        callback_class=oidc("OIDC_CALLBACK_CLASS", "stepup.views.AuthenticationCallbackView", _string, _PATH),
        middleware=tuple(django_settings.MIDDLEWARE),
        development_provider=oidc("STEPUP_PROVIDER", {}),
    )
    read.finish()
    _check_values(read, loaded)
    return loaded, tuple(read.problems)


def _requirements(read: _Reader, dialect: Dialect) -> dict[str, Requirement]:
    requirements = dict(dialect.requirements)
    named: Mapping[Any, Any] = read.take("REQUIREMENTS", {}, _is_mapping, "a dictionary of requirements by name")
    for name, raw in named.items():
        try:
            if not _string(name):
                raise ValueError("the name must be a string")
            if isinstance(raw, Requirement):
                requirements[name] = replace(raw, name=name)
            elif (known := dialect.requirements.get(name)) and _is_mapping(raw):
                # What is not said stays as it is: "mfa, but an hour old at the most" must go on asking for proof.
                requirements[name] = Requirement.from_mapping({**known.to_mapping(), **raw}, name=name)
            else:
                requirements[name] = Requirement.from_mapping(raw, name=name)
        except (TypeError, ValueError) as error:
            read.add("E005", f"STEPUP['REQUIREMENTS'][{name!r}] is no requirement: {error}.")
    mfa = requirements.get(DEFAULT_REQUIREMENT)
    if mfa is not None and not (mfa.amr or mfa.acr or mfa.claims):
        read.add(
            "E014",
            f"The requirement {DEFAULT_REQUIREMENT!r} asks for no proof but a recent sign-in, which a password gives.",
            "Say what proves multi-factor authentication, with amr, acr or claims.",
        )
    return requirements


def _protected_views(read: _Reader, requirements: Mapping[str, Requirement]) -> dict[str, Requirement]:
    listed: Any = read.take(
        "PROTECTED_VIEWS",
        {},
        lambda v: _strings(v) or (isinstance(v, Mapping) and all(map(_string, [*v, *v.values()]))),
        "a dictionary of requirements by URL name, or a list of URL names",
    )
    by_name = listed if isinstance(listed, Mapping) else dict.fromkeys(listed, DEFAULT_REQUIREMENT)
    protected = {}
    for view, requirement in by_name.items():
        if "*" in view[:-1]:
            read.add("E007", f"STEPUP['PROTECTED_VIEWS'] has {view!r}: a * can only stand at the end of a name.")
        elif requirement in requirements:
            protected[view] = requirements[requirement]
        else:
            read.add(
                "E006",
                f"STEPUP['PROTECTED_VIEWS'] wants the requirement {requirement!r} for {view!r}, which is not defined.",
                "Define it in STEPUP['REQUIREMENTS'], or set STEPUP['PROVIDER'] to a dialect that defines it.",
            )
    return protected


def _report_only(read: _Reader, requirements: Mapping[str, Requirement]) -> frozenset[str]:
    listed: frozenset[str] = frozenset(read.take("REPORT_ONLY", [], _strings, "a list of names of requirements"))
    for name in sorted(listed - requirements.keys()):
        near = difflib.get_close_matches(name, requirements, n=1)
        read.add(
            "E018",
            f"STEPUP['REPORT_ONLY'] names the requirement {name!r}, which is not defined.",
            f"Did you mean {near[0]!r}?" if near else None,
        )
    return listed & requirements.keys()


def _check_values(read: _Reader, loaded: Settings) -> None:
    if not loaded.issuer and "ISSUER" not in read.raw:
        read.add(
            "E008",
            "STEPUP['ISSUER'] is not set, so that nobody can tell whose ID tokens are accepted.",
            "It is the `issuer` in the provider's /.well-known/openid-configuration, to the letter.",
        )
    needed = ["OIDC_RP_CLIENT_ID"]
    if loaded.client_authentication != "private_key_jwt" or any(str(alg).startswith("HS") for alg in loaded.algorithms):
        needed.append("OIDC_RP_CLIENT_SECRET")
    elif not loaded.private_key:
        read.add("E015", "STEPUP['CLIENT_AUTHENTICATION'] is 'private_key_jwt', but STEPUP['PRIVATE_KEY'] is not set.")
    if loaded.signed_requests and not loaded.private_key:
        read.add("E016", "STEPUP['SIGNED_REQUESTS'] is on, but STEPUP['PRIVATE_KEY'] is not set.")
    for name in needed:
        if not _string(getattr(django_settings, name, None)):
            read.add("E009", f"{name} is not set.")
    if loaded.client_id and loaded.client_id not in loaded.client_ids:
        read.add("E010", "STEPUP['CLIENT_IDS'] leaves out OIDC_RP_CLIENT_ID, so that every ID token would be refused.")
    if unknown := sorted(set(map(str, loaded.algorithms)) - SIGNING_ALGORITHMS):
        read.add("E011", f"ID tokens cannot be signed with {', '.join(unknown)}.")
    if getattr(django_settings, "OIDC_ALLOW_UNSECURED_JWT", False):
        read.add("E012", "OIDC_ALLOW_UNSECURED_JWT is set, but an ID token without a signature proves nothing.")


def _is_mapping(value: object) -> bool:
    return isinstance(value, Mapping)


def _is_bool(value: object) -> bool:
    return isinstance(value, bool)


def _one_of(choices: tuple[str, ...]) -> Callable[[object], bool]:
    return lambda value: value in choices


def _optional_tuple(value: Any) -> tuple[str, ...] | None:
    return None if value is None else tuple(value)


def _is_number(value: object) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool)


def _string(value: object) -> bool:
    return isinstance(value, str) and value != ""


def _strings(value: object) -> bool:
    return isinstance(value, (list, tuple, set, frozenset)) and all(map(_string, value))


def _are_paths(value: object) -> bool:
    return isinstance(value, (list, tuple, set, frozenset)) and all(
        _string(path) or (isinstance(path, re.Pattern) and isinstance(path.pattern, str)) for path in value
    )


def _some_strings(value: Any) -> bool:
    return _strings(value) and len(value) > 0


def _whole(least: int, most: int) -> Callable[[object], bool]:
    return lambda value: type(value) is int and least <= value <= most


def _is_timeout(value: Any) -> bool:
    parts = value if isinstance(value, (tuple, list)) else [value]
    return all(part is None or (_is_number(part) and 0 <= part <= MAX_TIMEOUT) for part in parts)


def _seconds(timeout: Any) -> float:
    """`OIDC_TIMEOUT` as one number: requests also takes a pair of connect and read time-outs, or None for no end."""
    parts = timeout if isinstance(timeout, (tuple, list)) else [timeout]
    return float(max((part for part in parts if _is_number(part) and 0 < part < math.inf), default=10))
