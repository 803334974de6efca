"""Each mistake in a project has the id of one system check, and what is right has none."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from django.core.checks import Error, Tags, Warning, run_checks
from django.core.management import CommandError, call_command
from django.http import HttpRequest, HttpResponse
from django.test import override_settings
from django.urls import include, path
from django.utils.decorators import method_decorator
from django.views.generic import View
from mozilla_django_oidc.views import OIDCAuthenticationCallbackView, OIDCAuthenticationRequestView

import stepup
from stepup import checks, conf
from stepup.assurance import Requirement
from stepup.backends import StepUpBackend
from stepup.decorators import stepup_required
from stepup.middleware import StepUpMiddleware
from stepup.mixins import StepUpRequiredMixin
from stepup.views import AuthenticationCallbackView, AuthenticationRequestView, BackChannelLogoutView
from tests import settings as site
from tests.tokens import CLIENT_SECRET, KEYS


class OwnBackend(StepUpBackend):
    pass


class OwnMiddleware(StepUpMiddleware):
    pass


class OwnRequestView(AuthenticationRequestView):
    pass


class Protected(StepUpRequiredMixin, View):
    requirement = "sudo"


class OnePost(View):
    def get(self, request: HttpRequest) -> HttpResponse:
        raise NotImplementedError

    @method_decorator(stepup_required("unknown"))
    def post(self, request: HttpRequest) -> HttpResponse:
        raise NotImplementedError


class Callable_:  # noqa: N801 - a view that is an instance
    stepup_requirement = "unknown"

    def __call__(self, request: HttpRequest) -> HttpResponse:
        raise NotImplementedError


def page(request: HttpRequest) -> HttpResponse:
    raise NotImplementedError


class OwnBackChannelLogoutView(BackChannelLogoutView):
    pass


SIGNED_COOKIES = "django.contrib.sessions.backends.signed_cookies"
BASE_BACKEND = "mozilla_django_oidc.auth.OIDCAuthenticationBackend"
MIDDLEWARE = "stepup.middleware.StepUpMiddleware"
RENEWAL = "stepup.middleware.SessionRenewalMiddleware"
SESSIONS = "django.contrib.sessions.middleware.SessionMiddleware"
AUTHENTICATION = "django.contrib.auth.middleware.AuthenticationMiddleware"
LOGIN_REQUIRED = "django.contrib.auth.middleware.LoginRequiredMiddleware"

#: A site that renews its sign-ins, a cache that all its processes share, and sessions that are not.
RENEWING = {"MIDDLEWARE": [SESSIONS, AUTHENTICATION, RENEWAL, MIDDLEWARE]}
SHARED = {"default": {"BACKEND": "django.core.cache.backends.redis.RedisCache", "LOCATION": "redis://127.0.0.1:1"}}
IN_COOKIES = {"SESSION_ENGINE": "django.contrib.sessions.backends.signed_cookies"}

START = path("start/", AuthenticationRequestView.as_view(), name="oidc_authentication_init")
BACK = path("back/", AuthenticationCallbackView.as_view(), name="oidc_authentication_callback")
PAYROLL = path("payroll/", include(([path("list/", page, name="list")], "payroll")))


def urls(*more: Any, start: Any = START, back: Any = BACK) -> dict[str, Any]:
    """Settings of a site with these URLs, and nothing protected by name."""
    patterns = tuple(pattern for pattern in (start, back, *more) if pattern is not None)
    return {"ROOT_URLCONF": patterns, **stepup_with(PROTECTED_VIEWS={})}


def stepup_with(**changes: Any) -> dict[str, Any]:
    return {"STEPUP": {**site.STEPUP, **changes}}


def stepup_without(*keys: str, **changes: Any) -> dict[str, Any]:
    return {"STEPUP": {key: value for key, value in {**site.STEPUP, **changes}.items() if key not in keys}}


def own_page(step_up_url: str) -> dict[str, Any]:
    return {**site.STEPUP["REQUIREMENTS"], "own": {"amr": ["otp"], "step_up_url": step_up_url}}  # type: ignore[dict-item] # it is a dictionary


def secret(length: int, alg: str) -> dict[str, Any]:
    return {"OIDC_RP_CLIENT_SECRET": "x" * length, "OIDC_RP_SIGN_ALGO": alg}


OWN_KEY = stepup_with(CLIENT_AUTHENTICATION="private_key_jwt", PRIVATE_KEY=KEYS["p256"].private_pem)

#: For each check: a mistake that it is for, and the nearest that is right.
CASES: dict[str, list[tuple[dict[str, Any], dict[str, Any]]]] = {
    "E001": [({"STEPUP": []}, stepup_with())],
    "E002": [(stepup_with(LEEEWAY=30), stepup_with(LEEWAY=30))],
    "E003": [(stepup_with(LEEWAY="30"), stepup_with(LEEWAY=0))],
    "E004": [(stepup_with(PROVIDER="Auth0"), stepup_with(PROVIDER="auth0"))],
    "E005": [
        (
            stepup_with(REQUIREMENTS={"extra": {"maxage": 5}, "sudo": {"max_age": 5}}),
            stepup_with(REQUIREMENTS={"extra": {"max_age": 5}, "sudo": {"max_age": 5}}),
        )
    ],
    "E006": [(stepup_with(PROTECTED_VIEWS={"open": "MFA"}), stepup_with(PROTECTED_VIEWS={"open": "mfa"}))],
    "E007": [(stepup_with(PROTECTED_VIEWS={"pay*:list": "mfa"}), stepup_with(PROTECTED_VIEWS={"payroll:*": "mfa"}))],
    "E008": [(stepup_without("ISSUER"), stepup_with())],
    "E009": [
        ({"OIDC_RP_CLIENT_ID": ""}, {}),
        ({"OIDC_RP_CLIENT_SECRET": ""}, {}),
        (
            {**OWN_KEY, "OIDC_RP_CLIENT_SECRET": None, "OIDC_RP_SIGN_ALGO": "HS256"},
            {**OWN_KEY, "OIDC_RP_CLIENT_SECRET": None, "OIDC_RP_SIGN_ALGO": "RS256"},
        ),
    ],
    "E010": [(stepup_with(CLIENT_IDS=["other"]), stepup_with(CLIENT_IDS=["other", "site"]))],
    "E011": [({"OIDC_RP_SIGN_ALGO": alg}, {"OIDC_RP_SIGN_ALGO": "RS512"}) for alg in ("none", "RS1", "HS", "HSxyz")],
    "E012": [({"OIDC_ALLOW_UNSECURED_JWT": True}, {"OIDC_ALLOW_UNSECURED_JWT": False})],
    "E013": [({"OIDC_STATE_SIZE": "32"}, {"OIDC_STATE_SIZE": 64})],
    "E014": [
        (
            stepup_with(REQUIREMENTS={**site.STEPUP["REQUIREMENTS"], "mfa": Requirement(max_age=60)}),  # type: ignore[dict-item] # it is a dictionary
            stepup_with(REQUIREMENTS={**site.STEPUP["REQUIREMENTS"], "mfa": {"max_age": 60}}),  # type: ignore[dict-item]
        )
    ],
    "E015": [
        (
            stepup_with(CLIENT_AUTHENTICATION="private_key_jwt"),
            OWN_KEY,
        ),
    ],
    "E016": [
        (
            stepup_with(SIGNED_REQUESTS=True),
            {"STEPUP": stepup_with(SIGNED_REQUESTS=True)["STEPUP"] | {"PRIVATE_KEY": OWN_KEY["STEPUP"]["PRIVATE_KEY"]}},
        ),
    ],
    "E018": [
        (stepup_with(REPORT_ONLY=["sodu"]), stepup_with(REPORT_ONLY=[])),
        (stepup_with(REPORT_ONLY=["anything"]), stepup_with(REPORT_ONLY=())),
    ],
    "E020": [
        (
            {"AUTHENTICATION_BACKENDS": ["django.contrib.auth.backends.ModelBackend"]},
            {"AUTHENTICATION_BACKENDS": [f"{__name__}.OwnBackend"]},
        ),
        (
            {"AUTHENTICATION_BACKENDS": ["missing.Backend", f"{__name__}.page", f"{__name__}.missing"]},
            {"AUTHENTICATION_BACKENDS": ["missing.Backend", "stepup.backends.StepUpBackend"]},
        ),
    ],
    "E021": [
        (
            {"AUTHENTICATION_BACKENDS": ["stepup.backends.StepUpBackend", BASE_BACKEND]},
            {"AUTHENTICATION_BACKENDS": ["stepup.backends.StepUpBackend"]},
        )
    ],
    "E022": [
        (urls(start=None), urls()),
        (urls(back=None), urls()),
        ({**urls(), "OIDC_AUTHENTICATION_CALLBACK_URL": "own"}, urls()),
        (
            urls(start=None, back=None) | {"ROOT_URLCONF": (path("o/", include(([START], "oidc"))), BACK)},
            urls(start=None, back=None) | {"ROOT_URLCONF": (path("o/", include([START])), BACK)},
        ),
        (
            {**urls(back=path("o/", include(([BACK], "oidc")))), "OIDC_AUTHENTICATION_CALLBACK_URL": "o:back"},
            {
                **urls(back=path("o/", include(([BACK], "oidc")))),
                "OIDC_AUTHENTICATION_CALLBACK_URL": "oidc:oidc_authentication_callback",
            },
        ),
        (
            {**urls(back=None), "OIDC_AUTHENTICATION_CALLBACK_URL": "oidc:oidc_authentication_callback"},
            {
                **urls(back=path("o/", include(([BACK], "oidc"), namespace="sign-in"))),
                "OIDC_AUTHENTICATION_CALLBACK_URL": "oidc:oidc_authentication_callback",
            },
        ),
    ],
    "E023": [
        (
            urls(start=path("start/", OIDCAuthenticationRequestView.as_view(), name="oidc_authentication_init")),
            urls(start=path("start/", OwnRequestView.as_view(), name="oidc_authentication_init")),
        ),
        (urls(start=path("start/", page, name="oidc_authentication_init")), urls()),
        ({"OIDC_AUTHENTICATE_CLASS": "missing.View"}, {"OIDC_AUTHENTICATE_CLASS": f"{__name__}.OwnRequestView"}),
    ],
    "E024": [
        (
            urls(back=path("back/", OIDCAuthenticationCallbackView.as_view(), name="oidc_authentication_callback")),
            {
                **urls(back=path("back/", AuthenticationCallbackView.as_view(), name="own")),
                "OIDC_AUTHENTICATION_CALLBACK_URL": "own",
            },
        )
    ],
    "E025": [
        (
            {"MIDDLEWARE": [SESSIONS, AUTHENTICATION]},
            {"MIDDLEWARE": [SESSIONS, AUTHENTICATION], **stepup_without("PROTECTED_VIEWS")},
        ),
        (
            {"MIDDLEWARE": [SESSIONS, AUTHENTICATION, f"{__name__}.missing"]},
            {"MIDDLEWARE": [SESSIONS, AUTHENTICATION, f"{__name__}.OwnMiddleware"]},
        ),
    ],
    "E026": [
        (
            {"MIDDLEWARE": [SESSIONS, MIDDLEWARE, AUTHENTICATION]},
            {"MIDDLEWARE": [SESSIONS, AUTHENTICATION, MIDDLEWARE]},
        ),
        ({"MIDDLEWARE": [MIDDLEWARE, SESSIONS]}, {"MIDDLEWARE": ["own.Sessions", "own.Authentication", MIDDLEWARE]}),
        (
            {"MIDDLEWARE": [RENEWAL, SESSIONS, AUTHENTICATION, MIDDLEWARE]},
            {"MIDDLEWARE": [SESSIONS, AUTHENTICATION, RENEWAL, MIDDLEWARE]},
        ),
    ],
    "E060": [
        (stepup_with(REQUIREMENTS=own_page("nowhere")), stepup_with(REQUIREMENTS=own_page("oidc_authentication_init"))),
        (stepup_with(REQUIREMENTS=own_page("ns:nowhere")), stepup_with(REQUIREMENTS=own_page("/nowhere/"))),
    ],
    "E027": [
        (stepup_with(PROTECTED_VIEWS={"openn": "mfa"}), stepup_with(PROTECTED_VIEWS={"open": "mfa"})),
        (stepup_with(PROTECTED_VIEWS={"list": "mfa"}), stepup_with(PROTECTED_VIEWS={"payroll:list": "mfa"})),
        (stepup_with(PROTECTED_VIEWS={"payrol:*": "mfa"}), stepup_with(PROTECTED_VIEWS={"pay*": "mfa"})),
        (stepup_with(PROTECTED_VIEWS=["ope"]), stepup_with(PROTECTED_VIEWS=["*"])),
        *(
            ({**hr, **stepup_with(PROTECTED_VIEWS=[wrong])}, {**hr, **stepup_with(PROTECTED_VIEWS=[right])})
            for hr in [urls(path("hr/", include(([path("list/", page, name="list")], "payroll"), namespace="hr")))]
            for wrong, right in (("hr", "hr:list"), ("payroll:lists", "payroll:list"))
        ),
    ],
    "E028": [
        (
            urls(path("x/", stepup_required("MFA")(page))),
            urls(
                path("a/", stepup_required("mfa")(page)),
                path("b/", stepup_required("sudo", max_age=5)(page)),
                path("c/", stepup_required(Requirement(max_age=5, name="unknown"))(page)),
                path("d/", Protected.as_view()),
            ),
        ),
        (urls(path("x/", stepup_required("MFA", max_age=5)(page))), urls()),
        (urls(path("x/", Protected.as_view(requirement="SUDO"))), urls()),
        (urls(path("in/", include([path("x/", Callable_())]))), urls(PAYROLL)),
    ],
    "E029": [
        (secret(31, "HS256"), secret(32, "HS256")),
        (secret(47, "HS384"), secret(48, "HS384")),
        (secret(63, "HS512"), secret(64, "HS512")),
        ({**secret(31, "RS256"), **stepup_with(SIGNING_ALGORITHMS=["RS256", "HS256"])}, secret(31, "RS256")),
    ],
    "E030": [
        ({"OIDC_RP_IDP_SIGN_KEY": "junk"}, {"OIDC_RP_IDP_SIGN_KEY": KEYS["p256"].pem.decode()}),
        ({"OIDC_RP_IDP_SIGN_KEY": b"junk"}, {"OIDC_RP_IDP_SIGN_KEY": KEYS["p256"].pem}),
        ({"OIDC_RP_IDP_SIGN_KEY": ""}, {"OIDC_RP_IDP_SIGN_KEY": None}),
        (
            {"OIDC_RP_IDP_SIGN_KEY": {"kty": "oct", "k": "AAAA"}},
            {"OIDC_RP_IDP_SIGN_KEY": KEYS["p256"].jwk()},
        ),
        ({"OIDC_RP_IDP_SIGN_KEY": 5}, {}),
    ],
    "E034": [
        (stepup_with(PRIVATE_KEY=key), stepup_with(PRIVATE_KEY=KEYS["ed448"].private_pem))
        for key in ("junk", KEYS["rsa"].pem.decode(), KEYS["rsa_1024"].private_pem)
    ],
    "E031": [
        (stepup_with(ISSUER="http://op.example/"), {**stepup_with(ISSUER="http://op.example/"), "DEBUG": True}),
        (stepup_with(ISSUER="http://localhost.example/"), stepup_with(ISSUER="http://localhost:9000/")),
        (stepup_with(ISSUER="http://10.0.0.1/"), stepup_with(ISSUER="http://127.0.0.1:9000/")),
        (stepup_with(ISSUER="http://127.0.0.1@op.example/"), stepup_with(ISSUER="http://[::1]:9000/")),
        (stepup_with(ISSUER="op.example"), stepup_with(ISSUER="https://op.example")),
        (stepup_with(ISSUER="https://["), stepup_with(ISSUER="HTTPS://op.example")),
        *(
            ({f"OIDC_OP_{name}_ENDPOINT": "http://op.example/"}, {f"OIDC_OP_{name}_ENDPOINT": "https://op.example/"})
            for name in ("AUTHORIZATION", "TOKEN", "USER", "JWKS")
        ),
    ],
    "E032": [
        ({"OIDC_VERIFY_SSL": False}, {"OIDC_VERIFY_SSL": True}),
        ({"OIDC_VERIFY_SSL": False}, {"OIDC_VERIFY_SSL": False, "DEBUG": True}),
        ({"OIDC_VERIFY_SSL": 0}, {"OIDC_VERIFY_SSL": "/etc/ssl/own.pem"}),
        ({"OIDC_VERIFY_SSL": ""}, {}),
    ],
    "E033": [
        ({"SESSION_COOKIE_SAMESITE": "Strict"}, {"SESSION_COOKIE_SAMESITE": "Lax"}),
        ({"SESSION_COOKIE_SAMESITE": "strict"}, {"SESSION_COOKIE_SAMESITE": "None"}),
        ({"SESSION_COOKIE_SAMESITE": "Strict"}, {"SESSION_COOKIE_SAMESITE": False}),
    ],
    "E050": [
        (
            {**stepup_with(BACK_CHANNEL_LOGOUT="end"), "SESSION_ENGINE": SIGNED_COOKIES},
            stepup_with(BACK_CHANNEL_LOGOUT="end"),
        ),
        (
            {**stepup_with(BACK_CHANNEL_LOGOUT="lower"), "SESSION_ENGINE": SIGNED_COOKIES},
            stepup_with(BACK_CHANNEL_LOGOUT="lower"),
        ),
    ],
    "E051": [
        (
            {**stepup_with(BACK_CHANNEL_LOGOUT="end", PROTECTED_VIEWS={}), "MIDDLEWARE": [SESSIONS, AUTHENTICATION]},
            {**stepup_with(PROTECTED_VIEWS={}), "MIDDLEWARE": [SESSIONS, AUTHENTICATION]},
        ),
        (
            {**stepup_with(BACK_CHANNEL_LOGOUT="end", PROTECTED_VIEWS={}), "MIDDLEWARE": [SESSIONS, AUTHENTICATION]},
            {
                **stepup_with(BACK_CHANNEL_LOGOUT="end"),
                "MIDDLEWARE": [SESSIONS, AUTHENTICATION, "tests.test_checks.OwnMiddleware"],
            },
        ),
    ],
    "E052": [
        (
            {**urls(), **stepup_with(BACK_CHANNEL_LOGOUT="end", PROTECTED_VIEWS={})},
            stepup_with(BACK_CHANNEL_LOGOUT="end"),
        ),
        (
            {**urls(), **stepup_with(BACK_CHANNEL_LOGOUT="end", PROTECTED_VIEWS={})},
            {
                **urls(path("told/", OwnBackChannelLogoutView.as_view())),
                **stepup_with(BACK_CHANNEL_LOGOUT="end", PROTECTED_VIEWS={}),
            },
        ),
        (
            {**urls(), **stepup_with(FRONT_CHANNEL_LOGOUT=True, PROTECTED_VIEWS={}), "SESSION_COOKIE_SAMESITE": "None"},
            {**stepup_with(FRONT_CHANNEL_LOGOUT=True), "SESSION_COOKIE_SAMESITE": "None"},
        ),
        (
            {**urls(), **stepup_with(SIGN_OUT_AT_PROVIDER=True, PROTECTED_VIEWS={})},
            stepup_with(SIGN_OUT_AT_PROVIDER=True),
        ),
        (
            {**urls(), **stepup_with(SIGN_OUT_AT_PROVIDER=True, PROTECTED_VIEWS={})},
            {
                **urls(),
                **stepup_with(SIGN_OUT_AT_PROVIDER=True, PROTECTED_VIEWS={}),
                "OIDC_OP_LOGOUT_URL_METHOD": "site.sign_out_url",
            },
        ),
    ],
    "W040": [
        (
            {"MIDDLEWARE": [SESSIONS, AUTHENTICATION, LOGIN_REQUIRED, MIDDLEWARE]},
            {"MIDDLEWARE": [SESSIONS, AUTHENTICATION, MIDDLEWARE, LOGIN_REQUIRED]},
        )
    ],
    "W041": [
        (stepup_with(CLIENTS_WITH_MFA=["other"]), stepup_with(CLIENTS_WITH_MFA=["site"])),
        (stepup_with(CLIENTS_WITH_MFA=[]), stepup_with()),
    ],
    "W042": [
        (
            stepup_with(UNSAFE_TRUST_UNVERIFIED_EMAIL=True),
            stepup_with(UNSAFE_TRUST_UNVERIFIED_EMAIL=False),
        )
    ],
    "W043": [
        (
            {"SESSION_ENGINE": "django.contrib.sessions.backends.signed_cookies"},
            {"SESSION_ENGINE": "django.contrib.sessions.backends.cached_db"},
        )
    ],
    "W053": [
        (
            stepup_with(FRONT_CHANNEL_LOGOUT=True),
            {**stepup_with(FRONT_CHANNEL_LOGOUT=True), "SESSION_COOKIE_SAMESITE": "None"},
        ),
        ({**stepup_with(FRONT_CHANNEL_LOGOUT=True), "SESSION_COOKIE_SAMESITE": False}, stepup_with()),
    ],
    "W044": [
        (
            {"MIDDLEWARE": [*site.MIDDLEWARE, "mozilla_django_oidc.middleware.SessionRefresh"]},
            {"MIDDLEWARE": site.MIDDLEWARE},
        )
    ],
    "W045": [
        ({"OIDC_USE_NONCE": False}, {"OIDC_USE_NONCE": True}),
        ({"OIDC_USE_PKCE": False}, {"OIDC_USE_PKCE": True}),
        ({"OIDC_PKCE_CODE_CHALLENGE_METHOD": "plain"}, {"OIDC_PKCE_CODE_CHALLENGE_METHOD": "S256"}),
        ({"OIDC_MAX_STATES": 5}, {"OIDC_MAX_STATES": 50}),
        ({"LOGIN_REDIRECT_URL_FAILURE": "/oh-no/"}, {"LOGIN_REDIRECT_URL_FAILURE": "/"}),
    ],
    "W050": [
        (
            {**stepup_with(KEEP_REFRESH_TOKEN=True), "CACHES": SHARED},
            {**stepup_with(KEEP_REFRESH_TOKEN=True), "CACHES": SHARED, **RENEWING},
        )
    ],
    "W051": [
        (
            {**stepup_with(KEEP_REFRESH_TOKEN=True), "CACHES": SHARED, **RENEWING, **IN_COOKIES},
            {**stepup_with(KEEP_REFRESH_TOKEN=True), "CACHES": SHARED, **RENEWING},
        )
    ],
    "W052": [
        (
            {**stepup_with(KEEP_REFRESH_TOKEN=True), **RENEWING},
            {**stepup_with(KEEP_REFRESH_TOKEN=True), **RENEWING, "DEBUG": True},
        ),
        (
            {**stepup_with(KEEP_REFRESH_TOKEN=True, CACHE=None), **RENEWING, "CACHES": SHARED},
            {**stepup_with(KEEP_REFRESH_TOKEN=False, CACHE=None), **RENEWING},
        ),
        (
            {
                **stepup_with(KEEP_REFRESH_TOKEN=True),
                **RENEWING,
                "CACHES": {"default": {"BACKEND": "django.core.cache.backends.dummy.DummyCache"}},
            },
            {**stepup_with(KEEP_REFRESH_TOKEN=True), **RENEWING, "CACHES": SHARED},
        ),
    ],
    "W048": [(stepup_with(REPORT_ONLY=["sudo"]), stepup_with(REPORT_ONLY=[]))],
}

#: Mistakes that cannot be made without one of these others.
TOGETHER_WITH = {
    "E001": {"E008", "E025", "E027", "E028"},  # nothing can be read of a STEPUP that is no dictionary
    "E004": {"E006", "E028"},  # the requirement "mfa" is not there then
    "E050": {"W043"},  # that such sessions end nowhere is said in any case
    "E009": {"E029"},  # no secret is a short one too, where it signs
    "W051": {"W043"},
}


def found(**changes: Any) -> list[Any]:
    with override_settings(**changes):
        return list(checks.check_settings(None))


def ids(**changes: Any) -> list[str]:
    return [message.id.removeprefix("stepup.") for message in found(**changes)]


def test_the_test_site_has_no_mistake() -> None:
    assert ids() == []


@pytest.mark.parametrize(
    ("id_", "mistake"),
    [(id_, mistake) for id_, cases in CASES.items() for mistake, _ in cases],
)
def test_a_mistake_has_its_id(id_: str, mistake: dict[str, Any]) -> None:
    raised = set(ids(**mistake))
    assert id_ in raised
    assert raised - {id_} <= TOGETHER_WITH.get(id_, set())


@pytest.mark.parametrize(
    ("id_", "right"),
    [(id_, right) for id_, cases in CASES.items() for _, right in cases],
)
def test_what_is_right_has_none(id_: str, right: dict[str, Any]) -> None:
    assert ids(**right) == []


@pytest.mark.parametrize("id_", CASES)
def test_an_error_is_what_has_an_e_and_a_warning_what_has_a_w(id_: str) -> None:
    (mistake, _), *_ = CASES[id_]
    (message, *_) = [message for message in found(**mistake) if message.id == f"stepup.{id_}"]
    assert type(message) is (Error if id_.startswith("E") else Warning)
    assert message.msg.endswith(".")


def test_no_check_is_without_a_test() -> None:
    sources = [Path(stepup.__file__).with_name(name).read_text() for name in ("checks.py", "conf.py")]
    assert {id_ for source in sources for id_ in re.findall(r'"(?:stepup\.)?([EW]\d{3})"', source)} == CASES.keys()


@pytest.mark.parametrize(
    ("names", "middleware", "said"),
    [
        (
            ["sudo"],
            [],
            "names sudo: who does not satisfy it is reported, and let through, also without being signed in.",
        ),
        (["sudo", "mfa"], [], "names mfa, sudo: who does not satisfy them is reported, and let through, also without"),
        (["sudo"], [LOGIN_REQUIRED], "names sudo: who does not satisfy it is reported, and let through."),
    ],
)
def test_what_is_only_reported_is_not_forgotten(names: list[str], middleware: list[str], said: str) -> None:
    (message,) = found(**stepup_with(REPORT_ONLY=names), MIDDLEWARE=[*site.MIDDLEWARE, *middleware])
    assert said in message.msg


def test_a_door_before_one_method_is_looked_at_too() -> None:
    assert ids(**urls(path("x/", OnePost.as_view()))) == ["E028"]


def test_one_mistake_does_not_hide_another() -> None:
    changes = {
        **stepup_with(LEEWAY="30", CLIENTS_WITH_MFA=[]),
        "OIDC_VERIFY_SSL": False,
        "SESSION_COOKIE_SAMESITE": "Strict",
        "AUTHENTICATION_BACKENDS": [],
    }
    assert set(ids(**changes)) == {"E003", "W041", "E032", "E033", "E020"}


def test_django_runs_them() -> None:
    def told() -> list[str]:
        raised = [str(message.id) for message in run_checks(tags=[Tags.security])]
        return [id_ for id_ in raised if id_.startswith("stepup.")]

    assert told() == []
    with override_settings(**stepup_with(LEEWAY="30")):
        assert told() == ["stepup.E003"]
        with pytest.raises(CommandError, match=r"stepup\.E003"):
            call_command("check")


def test_a_message_about_a_view_names_it() -> None:
    named = [message.msg for message in found(**urls(path("a/", Protected.as_view(requirement="A"))))]
    named += [message.msg for message in found(**urls(path("a/", stepup_required("A")(page))))]
    named += [message.msg for message in found(**urls(path("a/", Callable_())))]
    assert [message.split()[2] for message in named] == [
        f"{__name__}.{name}" for name in ("Protected", "page", "Callable_")
    ]


@pytest.mark.parametrize("urlconf", ["missing.urls", "tests.tokens", None])
def test_a_project_without_urls_hears_of_that_from_django(urlconf: str | None) -> None:
    assert set(ids(ROOT_URLCONF=urlconf)) == {"E022", "E027"}


def test_no_message_shows_a_secret() -> None:
    for changes in (secret(31, "HS256"), {"OIDC_RP_IDP_SIGN_KEY": CLIENT_SECRET}, {"OIDC_RP_CLIENT_ID": ""}):
        messages = found(**changes)
        assert messages
        assert not any(CLIENT_SECRET in repr(message) or "x" * 31 in repr(message) for message in messages)


def test_what_is_no_url_pattern_is_left_to_django() -> None:
    assert ids(**urls("no pattern")) == []


JUNK: list[Any] = [
    None,
    True,
    0,
    -1,
    3.5,
    float("nan"),
    "",
    "x",
    "\ud800",
    "https://[",
    b"x",
    [],
    [None],
    ["x"],
    {},
    {"x": 1},
    {None: None},
    (5, None),
    {"x"},
    object(),
    int,
]
STEPUP_KEYS = re.findall(r'take\(\s*"([A-Z_]+)"', Path(conf.__file__).read_text())
OIDC_NAMES = sorted(
    set(re.findall(r'"((?:OIDC|STEPUP)_[A-Z_]+)"', Path(conf.__file__).read_text()))
    | {name for name, _ in checks.IGNORED}
)


def _stepup_of(key: str) -> Callable[[Any], dict[str, Any]]:
    return lambda junk: stepup_with(**{key: junk})


def _setting_of(name: str) -> Callable[[Any], dict[str, Any]]:
    return lambda junk: {name: junk}


@pytest.mark.parametrize(
    "changes",
    [*map(_stepup_of, STEPUP_KEYS), *map(_setting_of, ["STEPUP", *OIDC_NAMES, "OIDC_TIMEOUT"])],
    ids=[*STEPUP_KEYS, "STEPUP", *OIDC_NAMES, "TIMEOUT"],
)
def test_whatever_a_setting_says_the_checks_tell_and_do_not_fall_over(
    changes: Callable[[Any], dict[str, Any]],
) -> None:
    for junk in JUNK:
        with override_settings(**changes(junk)):
            told = {message.id for message in checks.check_settings(None)}
            assert {f"stepup.{problem.id}" for problem in conf.problems()} <= told
