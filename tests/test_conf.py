"""Settings are parsed strictly, and all mistakes are told at once."""

from __future__ import annotations

import re
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from django.conf import settings as django_settings
from django.core.exceptions import ImproperlyConfigured
from django.test import override_settings

from stepup import conf
from stepup.algorithms import SIGNING_ALGORITHMS
from stepup.assurance import Requirement
from stepup.dialects import DIALECTS, MULTI_FACTOR
from tests import settings as site

ROOT = Path(__file__).resolve().parent.parent
MFA = DIALECTS["auth0"].requirements["mfa"]


def stepup(**changes: Any) -> Any:
    """The test site's `STEPUP` with some keys changed, and without those that refer to others."""
    return override_settings(STEPUP={"PROVIDER": "auth0", "ISSUER": "https://op.example/", **changes})


@contextmanager
def without(name: str) -> Iterator[None]:
    """Take a setting away. Django tells nobody of that, but of what stands in its place before and after."""
    with override_settings(**{name: None}):
        delattr(django_settings, name)
        yield


def found() -> list[str]:
    return [problem.id for problem in conf.problems()]


def test_the_settings_are_one_frozen_value_that_is_read_once() -> None:
    assert conf.current() is conf.current()
    with pytest.raises(AttributeError):
        conf.current().leeway = 0  # type: ignore[misc] # which is the point
    with pytest.raises(TypeError):
        conf.current().requirements["mfa"] = Requirement(max_age=1)  # type: ignore[index] # which is the point


def test_overridden_settings_take_effect_at_once_and_end_with_the_override() -> None:
    assert conf.current().leeway == 30
    with stepup(LEEWAY=5), override_settings(OIDC_RP_CLIENT_ID="another"):
        assert (conf.current().leeway, conf.current().client_id) == (5, "another")
    assert (conf.current().leeway, conf.current().client_id) == (30, "site")


@override_settings(
    STEPUP={"ISSUER": "https://op.example/"},
    OIDC_RP_CLIENT_ID="site",
    OIDC_RP_CLIENT_SECRET="a secret",
    OIDC_RP_SIGN_ALGO="RS256",
)
def test_little_has_to_be_said() -> None:
    settings = conf.current()
    assert settings.dialect == DIALECTS["generic"]
    assert settings.client_ids == ("site",)
    assert settings.enforced
    assert settings.requirements == {}
    assert settings.protected_views == {}
    assert settings.algorithms == ("RS256",)
    assert settings.audience is None
    assert settings.endpoints == {}
    assert settings.sign_key is None
    assert settings.match_kid
    assert settings.verify_tls is True
    assert not settings.trust_unverified_email
    assert not settings.sign_out_at_provider
    assert (settings.back_channel_logout, settings.front_channel_logout) == (None, False)
    assert settings.session_engine == "django.contrib.sessions.backends.db"
    assert settings.proof_claims == frozenset()
    assert settings.report_only == frozenset()
    assert (settings.leeway, settings.timeout, settings.pending_max_age, settings.renew_after) == (30, 10, 900, 900)
    assert (settings.max_pending, settings.state_size, settings.nonce_size) == (20, 32, 32)
    assert (settings.login_redirect_url, settings.logout_redirect_url) == ("/", None)


FULL = {
    "PROVIDER": "auth0",
    "ISSUER": "https://op.example/".ljust(255, "x"),
    "CLIENT_IDS": ["site", "app"],
    "CLIENTS_WITH_MFA": ("site",),
    "REQUIREMENTS": {
        "sudo": {"max_age": 300},
        "assured": Requirement(claims={"vot": ("P2",)}, name="called otherwise"),
    },
    "PROTECTED_VIEWS": {"salary": "mfa", "payroll:*": "sudo"},
    "LEEWAY": 0,
    "AUDIENCE": "https://api.example/",
    "SIGNING_ALGORITHMS": ["ES256", "RS256"],
    "MAX_PENDING": 5,
    "PENDING_MAX_AGE": 60,
    "KEEP_FORMS": False,
    "KEEP_FORMS_BYTES": 1024,
    "UNSAFE_TRUST_UNVERIFIED_EMAIL": True,
    "SIGN_OUT_AT_PROVIDER": True,
    "END_SESSION_ENDPOINT": "https://op.example/bye",
    "BACK_CHANNEL_LOGOUT": "lower",
    "FRONT_CHANNEL_LOGOUT": True,
    "DOCUMENTATION_URL": "https://help.example/",
    "CLIENT_AUTHENTICATION": "private_key_jwt",
    "PRIVATE_KEY": "a private key",
    "PRIVATE_KEY_ID": "its name",
    "PUSHED_REQUESTS": True,
    "SIGNED_REQUESTS": True,
    "CACHE": None,
    "USERINFO": "never",
    "USER_CLAIMS": ["email", "groups"],
    "KEEP_REFRESH_TOKEN": True,
    "RENEWAL_GRACE": 0,
    "REPORT_ONLY": ["sudo"],
}


@override_settings(STEPUP=FULL)
def test_everything_can_be_said() -> None:
    settings = conf.current()
    assert settings.client_ids == ("site", "app")
    assert settings.enforced
    assert settings.requirements == {
        "mfa": MFA,
        "sudo": Requirement(max_age=300),
        "assured": Requirement(claims={"vot": ("P2",)}),
    }
    assert {name: requirement.name for name, requirement in settings.requirements.items()} == {
        "mfa": "mfa",
        "sudo": "sudo",
        "assured": "assured",
    }
    assert settings.protected_views == {"salary": MFA, "payroll:*": Requirement(max_age=300)}
    assert settings.leeway == 0
    assert settings.audience == "https://api.example/"
    assert settings.algorithms == ("ES256", "RS256")
    assert (settings.max_pending, settings.pending_max_age) == (5, 60)
    assert (settings.keep_forms, settings.keep_forms_bytes) == (False, 1024)
    assert settings.trust_unverified_email
    assert settings.sign_out_at_provider
    assert settings.endpoints == {"end_session_endpoint": "https://op.example/bye"}
    assert (settings.back_channel_logout, settings.front_channel_logout) == ("lower", True)
    assert settings.documentation_url == "https://help.example/"
    assert settings.proof_claims == {"vot"}
    assert settings.client_authentication == "private_key_jwt"
    assert (settings.private_key, settings.private_key_id) == ("a private key", "its name")
    assert settings.pushed_requests
    assert settings.signed_requests
    assert settings.cache is None
    assert (settings.userinfo, settings.user_claims) == ("never", ("email", "groups"))
    assert (settings.keep_refresh_token, settings.renewal_grace) == (True, 0)
    assert settings.report_only == {"sudo"}
    assert settings.enforced_requirements.keys() == {"mfa", "assured"}
    assert "a private key" not in repr(settings)


OIDC = {
    "OIDC_OP_AUTHORIZATION_ENDPOINT": "https://op.example/authorize",
    "OIDC_OP_TOKEN_ENDPOINT": "https://op.example/token",
    "OIDC_OP_USER_ENDPOINT": "https://op.example/userinfo",
    "OIDC_OP_JWKS_ENDPOINT": "https://op.example/jwks",
    "OIDC_RP_IDP_SIGN_KEY": "a key",
    "OIDC_VERIFY_KID": False,
    "OIDC_RP_SCOPES": "openid groups",
    "OIDC_AUTH_REQUEST_EXTRA_PARAMS": {"ui_locales": "de"},
    "OIDC_AUTHENTICATION_CALLBACK_URL": "back",
    "OIDC_REDIRECT_FIELD_NAME": "to",
    "OIDC_REDIRECT_ALLOWED_HOSTS": ["app.example"],
    "OIDC_REDIRECT_REQUIRE_HTTPS": True,
    "OIDC_RENEW_ID_TOKEN_EXPIRY_SECONDS": 60,
    "OIDC_EXEMPT_URLS": ["health", "/feed/", re.compile("/ticker/[0-9]+/")],
    "SESSION_SAVE_EVERY_REQUEST": True,
    "OIDC_TOKEN_USE_BASIC_AUTH": True,
    "OIDC_VERIFY_SSL": "/etc/ssl/own.pem",
    "OIDC_PROXY": {"https": "http://proxy.example"},
    "OIDC_CREATE_USER": False,
    "OIDC_USERNAME_ALGO": "site.users.name",
    "OIDC_AUTHENTICATE_CLASS": "site.views.Authenticate",
    "OIDC_CALLBACK_CLASS": "site.views.Callback",
    "OIDC_OP_LOGOUT_URL_METHOD": "site.sign_out.url",
    "LOGIN_REDIRECT_URL": "/start/",
    "LOGOUT_REDIRECT_URL": "/bye/",
    "STEPUP_PROVIDER": {"users": []},
}


@override_settings(**OIDC)
def test_what_the_base_library_has_settings_for_is_read_from_these() -> None:
    settings = conf.current()
    assert settings.endpoints == {
        "authorization_endpoint": "https://op.example/authorize",
        "token_endpoint": "https://op.example/token",
        "userinfo_endpoint": "https://op.example/userinfo",
        "jwks_uri": "https://op.example/jwks",
    }
    assert settings.logout_url_method == "site.sign_out.url"
    assert (settings.sign_key, settings.match_kid, settings.scopes) == ("a key", False, "openid groups")
    assert settings.extra_params == {"ui_locales": "de"}
    assert (settings.callback_url_name, settings.redirect_field_name) == ("back", "to")
    assert (settings.redirect_hosts, settings.redirect_require_https) == (("app.example",), True)
    assert (settings.renew_after, settings.client_authentication, settings.create_users) == (
        60,
        "client_secret_basic",
        False,
    )
    assert settings.renewal_exempt == ("health", "/feed/", re.compile("/ticker/[0-9]+/"))
    assert settings.session_is_always_saved
    assert settings.username_algorithm == "site.users.name"
    assert (settings.verify_tls, settings.proxies) == ("/etc/ssl/own.pem", {"https": "http://proxy.example"})
    assert (settings.authenticate_class, settings.callback_class) == ("site.views.Authenticate", "site.views.Callback")
    assert (settings.login_redirect_url, settings.logout_redirect_url) == ("/start/", "/bye/")
    assert settings.development_provider == {"users": []}


def test_extra_params_are_a_copy_that_nothing_leaks_into() -> None:
    params = {"ui_locales": "de"}
    with override_settings(OIDC_AUTH_REQUEST_EXTRA_PARAMS=params):
        settings = conf.current()
        params["acr_values"] = "leaked"
        assert settings.extra_params == {"ui_locales": "de"}
        with pytest.raises(TypeError):
            settings.extra_params["acr_values"] = "leaked"  # type: ignore[index] # which is the point


SLOW_SETTINGS = """
import os, sys, threading, warnings
import django
from django.conf import settings
from stepup import conf

class Slow(dict):
    is_read, may_go_on = threading.Event(), threading.Event()

    def __iter__(self):
        self.is_read.set()
        assert self.may_go_on.wait(10)
        return super().__iter__()

settings.STEPUP = slow = Slow(settings.STEPUP)
thread = threading.Thread(target=conf.current, daemon=True)
thread.start()
assert slow.is_read.wait(10)
warnings.simplefilter("ignore")  # that a process with threads is forked, which is what servers do
child = os.fork()
slow.may_go_on.set()
if not child:
    sys.exit(conf.current().client_id != "site")
thread.join()
print(os.waitpid(child, 0)[1], conf.current() is conf.current())
"""


def test_a_process_that_is_forked_while_settings_are_read_can_read_them_itself() -> None:
    done = subprocess.run(
        [sys.executable, "-c", SLOW_SETTINGS], cwd=ROOT, capture_output=True, text=True, timeout=30, check=False
    )
    assert (done.stdout, done.stderr) == ("0 True\n", "")


# Mistakes


@pytest.mark.parametrize("value", [None, [], "auth0", 5, [("PROVIDER", "auth0")]])
def test_stepup_has_to_be_a_dictionary(value: object) -> None:
    with override_settings(STEPUP=value):
        assert found()[0] == "E001"


@pytest.mark.parametrize(
    ("key", "hint"),
    [
        ("LEEEWAY", "Did you mean 'LEEWAY'?"),
        ("CLIENT_WITH_MFA", "Did you mean 'CLIENTS_WITH_MFA'?"),
        ("PROTECTED_VIEW", "Did you mean 'PROTECTED_VIEWS'?"),
        ("max_age", None),
        ("", None),
        (5, None),
    ],
)
def test_an_unknown_key_is_an_error_that_names_the_one_that_was_meant(key: Any, hint: str | None) -> None:
    with override_settings(STEPUP={"PROVIDER": "auth0", "ISSUER": "https://op.example/", key: 1}):
        assert conf.problems() == (conf.Problem("E002", f"STEPUP has an unknown key {key!r}.", hint),)


WRONG: dict[str, list[object]] = {
    "PROVIDER": [None, 5, ["auth0"]],
    "CLIENT_AUTHENTICATION": [None, "", "none", 5, ["client_secret_post"]],
    "PRIVATE_KEY": [None, "", 5, b"key"],
    "PRIVATE_KEY_ID": [None, "", 5],
    "PUSHED_REQUESTS": [None, 1, "yes"],
    "SIGNED_REQUESTS": [None, 1, "yes"],
    "CACHE": ["", "unknown", 5, ["default"], False],
    "USERINFO": [None, "", True, "sometimes"],
    "USER_CLAIMS": [None, "email", [5], [""], {"email": 1}],
    "ISSUER": [None, "", 5, ["https://op.example/"], "https://op.example/".ljust(256, "x")],
    "CLIENT_IDS": [None, "site", [], ["site", ""], ["site", 5], {"site": 1}],
    "CLIENTS_WITH_MFA": [None, "site", [5], [""], {"site": 1}, True],
    "REQUIREMENTS": [None, [], "mfa", {"mfa"}],
    "PROTECTED_VIEWS": [None, "salary", [5], [""], {"salary": 5}, {"salary": ""}, {5: "mfa"}, {"salary": ["mfa"]}],
    "LEEWAY": [None, "30", 30.0, -1, 601, True, float("inf")],
    "AUDIENCE": [None, "", 5, ["api"]],
    "SIGNING_ALGORITHMS": [None, "RS256", [], ["none"], ["RS256", "RS1"], [5], ["rs256"]],
    "MAX_PENDING": [None, 0, 101, "20", 20.0, True],
    "PENDING_MAX_AGE": [None, 59, 86401, "900", 900.0],
    "KEEP_FORMS": [None, 1, "True", []],
    "KEEP_FORMS_BYTES": [None, 1023, 16 * 1024 * 1024 + 1, "1024", 1024.0, True],
    "UNSAFE_TRUST_UNVERIFIED_EMAIL": [None, 1, "True", "False", []],
    "SIGN_OUT_AT_PROVIDER": [None, 1, "True", []],
    "END_SESSION_ENDPOINT": [None, "", 5, ["https://op.example/bye"]],
    "BACK_CHANNEL_LOGOUT": ["", "ended", 1, True, False, ["end"], {"end": 1}],
    "FRONT_CHANNEL_LOGOUT": [None, 1, "True", "end"],
    "DOCUMENTATION_URL": [None, "", 5],
    "KEEP_REFRESH_TOKEN": [None, 1, "yes"],
    "RENEWAL_GRACE": [None, -1, 86401, "3600", 3600.0, True],
    "REPORT_ONLY": [None, "sudo", True, [5], [""], {"sudo": 1}],
}


def test_a_requirement_that_is_only_reported_has_to_be_one() -> None:
    with stepup(REPORT_ONLY=["sudo", "mfaa", "mfa"]):
        assert conf.problems() == (
            conf.Problem(
                "E018",
                "STEPUP['REPORT_ONLY'] names the requirement 'mfaa', which is not defined.",
                "Did you mean 'mfa'?",
            ),
            conf.Problem("E018", "STEPUP['REPORT_ONLY'] names the requirement 'sudo', which is not defined.", None),
        )
        assert conf.best_effort().report_only == {"mfa"}


def test_wrong_values_are_tried_for_every_key() -> None:
    assert WRONG.keys() == FULL.keys()


@pytest.mark.parametrize(("key", "value"), [(key, value) for key, values in WRONG.items() for value in values])
def test_a_value_of_the_wrong_kind_is_an_error_that_names_its_key(key: str, value: object) -> None:
    with stepup(**{key: value}):
        problem = conf.problems()[0]
    assert problem.id == "E003"
    assert problem.message.startswith(f"STEPUP['{key}'] must be ")


@pytest.mark.parametrize("provider", ["Auth0", "auth0 ", "", "okta"])
def test_an_unknown_provider_is_an_error_that_names_the_known_ones(provider: str) -> None:
    with stepup(PROVIDER=provider):
        (problem,) = conf.problems()
    assert problem.id == "E004"
    assert problem.hint == "Known: auth0, generic."


@pytest.mark.parametrize(
    ("name", "raw", "complaint"),
    [
        ("sudo", {"maxage": 300}, "unknown key 'maxage'"),
        ("sudo", {"max_age": "300"}, "max_age"),
        ("sudo", {"amr": "mfa"}, "amr"),
        ("sudo", {}, "demands no proof"),
        ("sudo", None, "dictionary"),
        ("sudo", "mfa", "dictionary"),
        ("sudo", ["max_age"], "dictionary"),
        ("sudo", {5: 5}, "unknown key 5"),
        ("mfa", {"amr": []}, "demands no proof"),
        ("mfa", {"maxage": 300}, "unknown key 'maxage'"),
        ("mfa", None, "dictionary"),
        ("", {"max_age": 300}, "the name must be a string"),
        (5, {"max_age": 300}, "the name must be a string"),
        (None, Requirement(max_age=300), "the name must be a string"),
    ],
)
def test_what_is_no_requirement_is_an_error_that_says_why(name: Any, raw: Any, complaint: str) -> None:
    with stepup(REQUIREMENTS={name: raw}):
        (problem,) = conf.problems()
    assert problem.id == "E005"
    assert repr(name) in problem.message
    assert complaint in problem.message


def test_a_requirement_that_the_dialect_defines_is_refined_and_not_replaced() -> None:
    with stepup(REQUIREMENTS={"mfa": {"max_age": 3600}}):
        assert conf.current().requirements["mfa"] == Requirement(amr=("mfa",), acr_values=(MULTI_FACTOR,), max_age=3600)
    with stepup(REQUIREMENTS={"mfa": {"amr": ["otp"], "prompt": "login"}}):
        assert conf.current().requirements["mfa"] == Requirement(
            amr=("otp",), acr_values=(MULTI_FACTOR,), prompt="login"
        )


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({"REQUIREMENTS": {"mfa": Requirement(max_age=60)}}, ["E014"]),
        ({"PROVIDER": "generic", "REQUIREMENTS": {"mfa": {"max_age": 60}}}, ["E014"]),
        ({"REQUIREMENTS": {"mfa": {"amr": [], "max_age": 60}}}, ["E014"]),
        ({"PROVIDER": "generic", "REQUIREMENTS": {"mfa": {"acr": ["urn:mfa"]}}}, []),
        ({"PROVIDER": "generic", "REQUIREMENTS": {"mfa": {"claims": {"vot": ["P2"]}}}}, []),
        ({"PROVIDER": "generic", "REQUIREMENTS": {"sudo": {"max_age": 60}}}, []),
    ],
)
def test_what_is_called_mfa_has_to_ask_for_more_than_a_password(changes: dict[str, Any], expected: list[str]) -> None:
    with stepup(**changes):
        assert found() == expected


@pytest.mark.parametrize(
    ("views", "expected"),
    [
        ({"salary": "mfa", "payroll:*": "mfa", "*": "mfa"}, []),
        (["salary", "payroll:*"], []),
        (("salary",), []),
        ({"salary"}, []),
        ([], []),
        ({"salary": "sudo"}, ["E006"]),
        ({"salary": "MFA"}, ["E006"]),
        ({"sal*ry": "mfa"}, ["E007"]),
        ({"*:salary": "mfa"}, ["E007"]),
        ({"**": "mfa"}, ["E007"]),
        (["sal*ry", "ok"], ["E007"]),
    ],
)
def test_protected_views_name_views_and_requirements_that_there_are(views: Any, expected: list[str]) -> None:
    with stepup(PROTECTED_VIEWS=views):
        assert found() == expected
        assert set(conf.best_effort().protected_views.values()) <= {MFA}


def test_a_list_of_protected_views_needs_the_default_requirement() -> None:
    with stepup(PROVIDER="generic", PROTECTED_VIEWS=["salary"]):
        (problem,) = conf.problems()
    assert problem.id == "E006"
    assert "'mfa' for 'salary'" in problem.message


@pytest.mark.parametrize(
    ("setting", "value"),
    [
        ("OIDC_RP_CLIENT_ID", 5),
        ("OIDC_RP_CLIENT_SECRET", b"bytes"),
        ("OIDC_OP_AUTHORIZATION_ENDPOINT", 5),
        ("OIDC_OP_TOKEN_ENDPOINT", ["https://op.example/token"]),
        ("OIDC_OP_USER_ENDPOINT", ""),
        ("OIDC_OP_JWKS_ENDPOINT", True),
        ("OIDC_RP_SCOPES", ["openid"]),
        ("OIDC_AUTH_REQUEST_EXTRA_PARAMS", None),
        ("OIDC_AUTH_REQUEST_EXTRA_PARAMS", "a=b"),
        ("OIDC_REDIRECT_ALLOWED_HOSTS", None),
        ("OIDC_REDIRECT_ALLOWED_HOSTS", "app.example"),
        ("OIDC_STATE_SIZE", "32"),
        ("OIDC_STATE_SIZE", 32.0),
        ("OIDC_STATE_SIZE", 0),
        ("OIDC_NONCE_SIZE", None),
        ("OIDC_PKCE_CODE_VERIFIER_SIZE", -1),
        ("OIDC_PKCE_CODE_VERIFIER_SIZE", 64.0),
        ("OIDC_RENEW_ID_TOKEN_EXPIRY_SECONDS", "900"),
        ("OIDC_RENEW_ID_TOKEN_EXPIRY_SECONDS", True),
        ("OIDC_RENEW_ID_TOKEN_EXPIRY_SECONDS", 0),
        ("OIDC_RENEW_ID_TOKEN_EXPIRY_SECONDS", -5),
        ("OIDC_RENEW_ID_TOKEN_EXPIRY_SECONDS", float("inf")),
        ("OIDC_RENEW_ID_TOKEN_EXPIRY_SECONDS", float("nan")),
        ("OIDC_EXEMPT_URLS", None),
        ("OIDC_EXEMPT_URLS", "health"),
        ("OIDC_EXEMPT_URLS", ["health", ""]),
        ("OIDC_EXEMPT_URLS", [re.compile(b"health")]),
        ("OIDC_PROXY", "http://proxy.example"),
        ("OIDC_AUTHENTICATION_CALLBACK_URL", ["back"]),
        ("OIDC_REDIRECT_FIELD_NAME", None),
        ("OIDC_AUTHENTICATE_CLASS", 5),
        ("OIDC_CALLBACK_CLASS", int),
    ],
)
def test_a_setting_of_the_base_library_of_the_wrong_kind_is_an_error_that_names_it(setting: str, value: Any) -> None:
    with override_settings(**{setting: value}):
        named = [problem.message for problem in conf.problems() if problem.id == "E013"]
    assert [message.split()[0] for message in named] == [setting]


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({"OIDC_RP_CLIENT_ID": ""}, ["E009"]),
        ({"OIDC_RP_CLIENT_SECRET": ""}, ["E009"]),
        ({"OIDC_RP_CLIENT_ID": "", "OIDC_RP_CLIENT_SECRET": ""}, ["E009", "E009"]),
        ({"OIDC_RP_SIGN_ALGO": "none"}, ["E011"]),
        ({"OIDC_RP_SIGN_ALGO": "RS1"}, ["E011"]),
        ({"OIDC_RP_SIGN_ALGO": None}, ["E011"]),
        ({"OIDC_RP_SIGN_ALGO": ["RS256"]}, ["E011"]),
        ({"OIDC_ALLOW_UNSECURED_JWT": True}, ["E012"]),
        ({"OIDC_ALLOW_UNSECURED_JWT": False}, []),
    ],
)
def test_what_no_sign_in_can_be_accepted_with_is_an_error(changes: dict[str, Any], expected: list[str]) -> None:
    with override_settings(**changes):
        assert found() == expected


@pytest.mark.parametrize("setting", ["OIDC_RP_CLIENT_ID", "OIDC_RP_CLIENT_SECRET"])
def test_a_setting_that_has_to_be_there_and_is_not_is_an_error(setting: str) -> None:
    with without(setting):
        assert found() == ["E009"]


def test_without_an_issuer_nobody_can_tell_whose_tokens_are_accepted() -> None:
    with without("STEPUP"):
        assert found() == ["E008"]


def test_the_sites_own_client_id_has_to_be_among_those_that_are_accepted() -> None:
    with stepup(CLIENT_IDS=["another"]):
        assert found() == ["E010"]


def test_all_mistakes_are_told_at_once() -> None:
    with (
        override_settings(STEPUP={"PROVIDER": "okta", "LEEWAY": "30", "LEWAY": 1}, OIDC_RP_CLIENT_SECRET=""),
        pytest.raises(ImproperlyConfigured) as caught,
    ):
        conf.current()
    told = str(caught.value)
    assert all(f"stepup.{id_}: " in told for id_ in ("E002", "E003", "E004", "E008", "E009"))


def test_while_there_is_a_mistake_there_are_no_settings() -> None:
    with stepup(LEEWAY="30"):
        for _ in range(2):
            with pytest.raises(ImproperlyConfigured, match=r"stepup\.E003: STEPUP\['LEEWAY'\]"):
                conf.current()
        assert conf.best_effort().leeway == 30
    assert conf.current().leeway == 30


# What is enforced, and how much


@pytest.mark.parametrize(
    ("clients", "is_enforced"), [(["site"], True), (["other", "site"], True), (["other"], False), ([], False)]
)
def test_requirements_are_enforced_where_the_site_runs_as_a_client_with_mfa(
    clients: list[str], is_enforced: bool
) -> None:
    with stepup(CLIENTS_WITH_MFA=clients):
        assert conf.current().enforced is is_enforced


@pytest.mark.parametrize(
    ("setting", "attribute", "asked", "granted"),
    [
        ("OIDC_STATE_SIZE", "state_size", 1, 22),
        ("OIDC_STATE_SIZE", "state_size", 64, 64),
        ("OIDC_NONCE_SIZE", "nonce_size", 1, 22),
        ("OIDC_NONCE_SIZE", "nonce_size", 64, 64),
        ("OIDC_PKCE_CODE_VERIFIER_SIZE", "code_verifier_size", 1, 43),
        ("OIDC_PKCE_CODE_VERIFIER_SIZE", "code_verifier_size", 100, 100),
        ("OIDC_PKCE_CODE_VERIFIER_SIZE", "code_verifier_size", 500, 128),
    ],
)
def test_what_has_to_be_beyond_guessing_is_never_shorter(
    setting: str, attribute: str, asked: int, granted: int
) -> None:
    with override_settings(**{setting: asked}):
        assert getattr(conf.current(), attribute) == granted


@pytest.mark.parametrize(
    ("timeout", "seconds"),
    [
        (None, 10),
        (3, 3),
        (2.5, 2.5),
        ((1, 7), 7),
        (600, 600),
        ([5, None], 5),
        ((None, None), 10),
        ((), 10),
        (0, 10),
    ],
)
def test_there_is_always_a_timeout(timeout: object, seconds: float) -> None:
    with override_settings(OIDC_TIMEOUT=timeout):
        assert conf.current().timeout == seconds


@pytest.mark.parametrize(
    "timeout", ["5", -1, True, ("3", 10), [3.05, [27]], float("nan"), float("inf"), 600.1, 1e10, {"connect": 3}]
)
def test_a_timeout_that_is_none_is_a_mistake(timeout: object) -> None:
    with override_settings(OIDC_TIMEOUT=timeout):
        (problem,) = conf.problems()
        assert problem.id == "E013"
        assert conf.best_effort().timeout == 10


def test_the_algorithm_is_the_base_librarys_unless_several_are_named() -> None:
    with override_settings(OIDC_RP_SIGN_ALGO="ES256"):
        assert conf.current().algorithms == ("ES256",)
        with stepup(SIGNING_ALGORITHMS=sorted(SIGNING_ALGORITHMS)):
            assert set(conf.current().algorithms) == SIGNING_ALGORITHMS


def test_the_base_librarys_default_algorithm_is_kept() -> None:
    with without("OIDC_RP_SIGN_ALGO"):
        assert conf.current().algorithms == ("HS256",)


# Secrets


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"OIDC_RP_IDP_SIGN_KEY": site.OIDC_RP_CLIENT_SECRET},
        {"STEPUP_PROVIDER": {"client_secret": site.OIDC_RP_CLIENT_SECRET}},
    ],
    ids=["client secret", "key", "development provider"],
)
def test_no_secret_is_shown_by_the_settings(changes: dict[str, Any]) -> None:
    with override_settings(**changes):
        assert site.OIDC_RP_CLIENT_SECRET not in repr(conf.current())


def test_a_build_needs_no_secret_key() -> None:
    with override_settings(SECRET_KEY=""):
        assert conf.problems() == ()


@pytest.mark.parametrize("secret", ["s3cret", b"s3cret", ["s3cret"], {"s3cret": "s3cret"}])
def test_no_mistake_shows_a_secret(secret: Any) -> None:
    with override_settings(STEPUP=None, OIDC_RP_CLIENT_SECRET=secret, OIDC_RP_IDP_SIGN_KEY=secret):
        assert not any("s3cret" in f"{problem}" for problem in conf.problems())
