"""A site that used mozilla-django-oidc before, with everything that such a site overrides: it goes on, and steps up.

The second half goes through what the base library gets wrong, on that very site. Each has to be right here.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import textwrap
import time
from collections.abc import Callable, Iterator
from importlib import import_module
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
from django.contrib.auth import get_user_model
from django.test import Client
from django.urls import clear_url_caches, path

from stepup import clock, conf
from stepup.models import Identity
from stepup.testing.provider.launcher import RunningProvider
from tests.dropin_views import SiteCallbackView
from tests.hostile_op import ANNA, BEN, JWKS, TOKEN, USERINFO, HostileOP
from tests.tokens import ABSENT, KEYS, b64, claims, sign
from tests.visitor import Visitor, query, with_query

#: What is read where a server starts, and has to be read again for this site, and for the tests after it.
READ_AT_START = ("mozilla_django_oidc.urls", "tests.dropin_urls")


def forget() -> None:
    for name in READ_AT_START:
        sys.modules.pop(name, None)
    clear_url_caches()


def move_in(settings: Any, issuer: str) -> None:
    """Makes the site the one that the tests visit."""
    forget()
    os.environ["DROPIN_OP"] = issuer
    sys.modules.pop("tests.dropin_settings", None)
    dropin_settings = import_module("tests.dropin_settings")
    for name in dir(dropin_settings):
        if name.isupper() and name not in ("DATABASES", "INSTALLED_APPS"):
            setattr(settings, name, getattr(dropin_settings, name))


#: What says on a session that something was tried.
PASSING: dict[str, None] = {"stepup_pending": None, "stepup_attempts": None}


@pytest.fixture
def clean(settings: Any, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setenv("DROPIN_OP", "")  # so that it is as before afterwards
    yield
    forget()
    clock.offset = 0.0


@pytest.fixture
def site(settings: Any, op: RunningProvider, clean: None) -> RunningProvider:
    """The site, with the OP that ships with the package."""
    move_in(settings, op.issuer)
    return op


@pytest.fixture
def anna(site: RunningProvider) -> Visitor:
    return Visitor("anna")


@pytest.fixture
def hostile(settings: Any, db: None, clean: None) -> Iterator[HostileOP]:
    """The site, with an OP that vouches for whomever a test names."""
    with HostileOP() as op:
        move_in(settings, op.url)
        settings.OIDC_OP_TOKEN_ENDPOINT = op.at(TOKEN)
        settings.OIDC_OP_USER_ENDPOINT = op.at(USERINFO)
        settings.OIDC_OP_JWKS_ENDPOINT = op.at(JWKS)
        settings.OIDC_TIMEOUT = 2
        yield op


def come_back(client: Client, op: HostileOP, userinfo: Any = None, page: str = "/salary/", **vouched: Any) -> Any:
    callback = op.vouch(client.get(page)["Location"], userinfo, **vouched)
    return client.get(callback.removeprefix("http://testserver"))


def is_shown(visitor: Visitor) -> bool:
    response = visitor.get("/salary/")
    return bool(response.status_code == 200 and response.content == b"the salary list")


def who(visitor: Visitor) -> Any:
    return get_user_model().objects.get(pk=visitor.session["_auth_user_id"])


def expire(visitor: Visitor) -> None:
    """Let the ID token's quarter of an hour pass, after which `SessionRefresh` renews it."""
    session = visitor.session
    assert session["oidc_id_token_expiration"] > time.time()
    session["oidc_id_token_expiration"] = time.time() - 1
    session.save()


# The site goes on, and steps up


def test_it_signs_in_and_its_hooks_have_run(anna: Visitor) -> None:
    back = anna.sign_in()

    assert (back.status_code, back["Location"]) == (302, "/welcome/"), "its own success_url"
    assert anna.session["greeted"] == "Anna Lindqvist", "its own login_success"
    user = who(anna)
    assert (user.get_username(), user.first_name, user.last_name) == ("anna", "Anna Lindqvist", "payroll")
    assert anna.get("/notes/").content == b"anna|GET"


def test_it_steps_up_and_the_salary_is_shown(anna: Visitor) -> None:
    anna.sign_in()
    assert not is_shown(anna)

    back = anna.step_up("/salary/")

    assert back["Location"] == "/salary/"
    assert is_shown(anna)


def test_its_extra_parameters_go_with_sign_ins_and_step_ups(anna: Visitor) -> None:
    anna.client.cookies["language"] = "sv"
    plain = query(anna.get("/oidc/authenticate/")["Location"])
    stepping_up = query(anna.get("/salary/")["Location"])

    for sent in (plain, stepping_up):
        assert (sent["site"], sent["ui_locales"]) == ("dropin", "sv")
    assert "acr_values" not in plain
    assert stepping_up["acr_values"]


def test_an_override_of_get_extra_params_finds_what_the_base_class_has_on_itself(
    anna: Visitor, settings: Any, site: RunningProvider
) -> None:
    settings.OIDC_AUTHENTICATE_CLASS = "tests.dropin_views.OldAuthenticationRequestView"
    forget()

    for page in ("/oidc/authenticate/", "/salary/"):
        sent = query(anna.get(page)["Location"])
        assert (sent["from"], sent["at"], sent["client"]) == (page, f"{site.issuer}authorize", "site")


def test_its_own_answer_to_a_failure_is_given_and_the_user_is_still_signed_in(anna: Visitor) -> None:
    anna.sign_in()

    back = anna.come_back(anna.authenticate(anna.get("/salary/"), cancel=True))

    assert (back.status_code, back["X-Site"], back.context["verdict"]) == (403, "sorry", "declined")
    assert anna.get("/notes/").content == b"anna|GET"


def test_its_endpoints_are_asked_and_no_metadata(anna: Visitor, site: RunningProvider) -> None:
    anna.step_up("/salary/")

    paths = {request.path for request in site.requests()}
    assert {"/oauth/token", "/userinfo"} <= paths
    assert "/.well-known/openid-configuration" not in paths


def test_people_whom_its_hook_turns_away_have_no_account(anna: Visitor, hostile: HostileOP) -> None:
    client = Client()

    back = come_back(client, hostile, {**ANNA, "email": "anna@elsewhere.example"})

    assert (back.status_code, back.context["verdict"], back["X-Site"]) == (403, "no_account", "sorry")
    assert not get_user_model().objects.exists()


def test_accounts_from_before_are_found_by_address_and_linked(anna: Visitor) -> None:
    before = get_user_model().objects.create_user("from-before", "anna@harbour.example")
    get_user_model().objects.create_user("robot-anna", "anna@harbour.example")

    anna.step_up("/salary/")

    assert who(anna) == before
    assert Identity.objects.get().user == before
    assert get_user_model().objects.count() == 2


@pytest.mark.parametrize("backend", ["tests.dropin_backends.SiteBackend", "stepup.backends.StepUpBackend"])
@pytest.mark.parametrize(
    ("algorithm", "name"),
    [
        ("tests.dropin_backends.username_from_email", "by-mail-anna"),
        ("tests.dropin_backends.username_from_claims", "by-claims-anna"),
    ],
)
def test_its_algorithm_makes_user_names_unless_its_backend_does(
    anna: Visitor, settings: Any, algorithm: str, name: str, backend: str
) -> None:
    settings.AUTHENTICATION_BACKENDS = [backend]
    settings.OIDC_USERNAME_ALGO = algorithm

    anna.sign_in()

    assert who(anna).get_username() == (name if backend.startswith("stepup") else "anna")


def test_its_algorithm_may_be_a_function_too(anna: Visitor, settings: Any) -> None:
    settings.AUTHENTICATION_BACKENDS = ["stepup.backends.StepUpBackend"]
    settings.OIDC_USERNAME_ALGO = lambda email, claims: claims["sub"]

    anna.sign_in()

    assert who(anna).get_username() == "stepup|anna"


def test_its_sign_out_leads_by_way_of_the_op(anna: Visitor) -> None:
    anna.step_up("/salary/")

    assert anna.client.post("/oidc/logout/")["Location"] == "https://op.example/logout?who=anna"
    assert not is_shown(anna)


def test_its_callback_may_have_another_name(anna: Visitor, settings: Any) -> None:
    # The base library's URLs have the usual one too; the setting says which of the two the OP is told.
    patterns = import_module("tests.dropin_urls").urlpatterns
    patterns.insert(0, path("oidc/callback/", SiteCallbackView.as_view(), name="sso-callback"))
    settings.OIDC_AUTHENTICATION_CALLBACK_URL = "sso-callback"

    anna.step_up("/salary/")

    assert is_shown(anna)


def test_its_session_from_before_the_change_is_not_taken_for_one_of_ours(anna: Visitor) -> None:
    user = get_user_model().objects.create_user("from-before", "anna@harbour.example")
    anna.client.force_login(user, "mozilla_django_oidc.auth.OIDCAuthenticationBackend")

    assert anna.get("/notes/").content == b"|GET"
    anna.step_up("/salary/")
    assert who(anna) == user


def test_an_authentication_request_from_before_the_change_is_answered(anna: Visitor, site: RunningProvider) -> None:
    """Its `state` was stored by the base library, in a form of its own."""
    anna.sign_in()
    expire(anna)
    challenge = anna.get("/notes/")
    session = anna.session
    (state,) = session["oidc_states"]
    assert session["oidc_states"][state]["code_verifier"] is not None

    back = anna.come_back(anna.authenticate(challenge, None))

    assert back["Location"] == "/notes/"
    assert anna.session["oidc_states"] == {}


# With mozilla-django-oidc's SessionRefresh


def test_a_silent_renewal_keeps_the_evidence(anna: Visitor) -> None:
    anna.step_up("/salary/")
    expire(anna)

    challenge = anna.get("/notes/")
    assert query(challenge["Location"])["prompt"] == "none"
    back = anna.come_back(anna.authenticate(challenge, None))

    assert back["Location"] == "/notes/"
    assert is_shown(anna), "the renewed ID token has no amr, and takes none away"


def test_a_silent_renewal_proves_no_second_factor(anna: Visitor) -> None:
    anna.sign_in()
    expire(anna)
    anna.come_back(anna.authenticate(anna.get("/notes/"), None))

    assert not is_shown(anna)


def test_a_renewal_of_the_protected_page_itself_goes_on_to_it(anna: Visitor) -> None:
    anna.step_up("/salary/")
    expire(anna)

    back = anna.come_back(anna.authenticate(anna.get("/salary/"), None))

    assert back["Location"] == "/salary/"
    assert is_shown(anna)


def test_a_renewal_that_the_op_refuses_asks_the_user_and_signs_nobody_out(anna: Visitor, site: RunningProvider) -> None:
    anna.sign_in()
    expire(anna)
    challenge = anna.get("/notes/")
    site.reset()  # the OP has forgotten her session

    back = anna.come_back(anna.authenticate(challenge, None))

    assert back.status_code == 302
    assert "prompt" not in query(back["Location"])
    assert anna.session["_auth_user_id"]
    assert anna.come_back(anna.authenticate(back, None))["Location"] == "/notes/"


def test_a_renewal_that_comes_back_as_somebody_else_swaps_nobody(anna: Visitor) -> None:
    anna.step_up("/salary/")
    expire(anna)
    challenge = anna.get("/notes/")
    ben = Visitor("ben")
    ben.sign_in()
    before = anna.session["_auth_user_id"]

    back = anna.come_back(ben.authenticate(challenge, None))

    assert back.context["verdict"] == "wrong_user"
    assert anna.session["_auth_user_id"] == before


# What the base library gets wrong


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"aud": "another-site"}, "aud: mismatch"),
        ({"aud": None}, "aud: missing"),
        ({"aud": ["site", "another-site"], "azp": "site"}, "aud: mismatch"),
        ({"iss": "https://other.example/"}, "iss: mismatch"),
        ({"iss": None}, "iss: missing"),
        ({"azp": "another-site"}, "azp: mismatch"),
        ({"sub": None}, "sub: missing"),
        ({"exp": None}, "exp: missing"),
        ({"iat": None}, "iat: missing"),
        ({"nonce": None}, "nonce: missing"),
        ({"nonce": "of another request"}, "nonce: mismatch"),
        ({"at_hash": "of-another-access-token"}, "at_hash: mismatch"),
    ],
)
def test_1_an_id_token_that_is_not_for_this_site_signs_nobody_in(
    hostile: HostileOP, changes: dict[str, Any], reason: str
) -> None:
    client = Client()

    back = come_back(client, hostile, id_token=changes)

    assert (back.status_code, back.context["verdict"], back.context["reasons"]) == (400, "invalid", [reason])
    assert "_auth_user_id" not in client.session
    assert not get_user_model().objects.exists()


def test_2_userinfo_of_another_subject_signs_nobody_in(hostile: HostileOP) -> None:
    client = Client()

    back = come_back(client, hostile, ANNA, id_token={"sub": "ben"})

    assert (back.status_code, back.context["verdict"]) == (400, "invalid")
    assert "_auth_user_id" not in client.session


@pytest.mark.parametrize("changes", [{"email_verified": False}, {"email": "ANNA@harbour.example"}])
def test_2_an_account_is_not_matched_by_an_unverified_or_case_folded_address(
    hostile: HostileOP, changes: dict[str, Any]
) -> None:
    get_user_model().objects.create_user("from-before", ANNA["email"])
    client = Client()

    back = come_back(client, hostile, {**ANNA, **changes})

    assert (back.status_code, back.context["verdict"]) == (403, "no_account")
    assert "_auth_user_id" not in client.session


@pytest.mark.parametrize(
    ("make", "reason"),
    [
        (lambda good: sign({**good, "exp": good["iat"] - 60}), "exp: expired"),
        (lambda good: f"{b64(json.dumps({'alg': 'none'}))}.{b64(json.dumps(good))}.", "signature: missing"),
        (lambda good: f"{b64(json.dumps({'alg': 'none'}))}.{b64(json.dumps(good))}.AA", "alg: not allowed"),
        (lambda good: sign(good, header={"alg": "RS512"}), "alg: not allowed"),
        (lambda good: sign(good, key=KEYS["other_rsa"]), "kid: unknown"),
        (lambda good: "not.a.token", "header: malformed"),
    ],
)
def test_3_an_id_token_that_is_expired_unsigned_or_nonsense_is_a_page_and_no_500(
    hostile: HostileOP, make: Callable[[dict[str, Any]], str], reason: str
) -> None:
    client = Client()
    asked = query(client.get("/salary/")["Location"])
    good = claims(iss=hostile.url, sub="anna", nonce=asked["nonce"])
    callback = hostile.vouch(f"{hostile.url}?{urlsplit(client.get('/salary/')['Location']).query}", id_token=make(good))

    back = client.get(with_query(callback, state=asked["state"]).removeprefix("http://testserver"))

    assert (back.status_code, back.context["verdict"], back.context["reasons"]) == (400, "invalid", [reason])
    assert "_auth_user_id" not in client.session


def test_3_an_id_token_whose_header_names_no_key_is_accepted_where_a_key_fits(hostile: HostileOP) -> None:
    client = Client()
    challenge = client.get("/salary/")["Location"]
    good = claims(iss=hostile.url, sub="anna", nonce=query(challenge)["nonce"], amr=["mfa"])
    without = sign(good, header={"kid": ABSENT})

    callback = hostile.vouch(challenge, id_token=without)

    assert client.get(callback.removeprefix("http://testserver"))["Location"] == "/salary/"


def test_4_a_login_makes_two_requests_on_a_connection_that_is_kept(anna: Visitor, site: RunningProvider) -> None:
    anna.sign_in()  # and with it the keys are known
    anna.client.logout()
    made = []

    for _ in range(3):
        callback = anna.authenticate(anna.get("/oidc/authenticate/"), None)
        before = len(site.requests())
        anna.come_back(callback)
        made.append(site.requests()[before:])
        anna.client.logout()

    assert [[request.path for request in requests] for requests in made] == [["/oauth/token", "/userinfo"]] * 3
    assert len({request.connection for requests in made for request in requests}) == 1


def test_4_there_is_a_time_out_where_none_is_set(site: RunningProvider, settings: Any) -> None:
    assert not hasattr(settings, "OIDC_TIMEOUT")

    assert conf.current().timeout == 10


@pytest.mark.parametrize("state", ["forged", "", None])
def test_5_an_error_with_a_forged_state_signs_nobody_out(anna: Visitor, state: str | None) -> None:
    anna.step_up("/salary/")
    before = dict(anna.session)

    back = anna.client.get(with_query("/oidc/callback/?error=access_denied", state=state))

    assert back.status_code == 400
    assert dict(anna.session) == before
    assert is_shown(anna)


def test_6_two_tabs_land_each_on_their_own_page(anna: Visitor) -> None:
    anna.sign_in()
    first = anna.get("/oidc/authenticate/?next=/notes/")
    second = anna.get("/salary/")

    assert anna.come_back(anna.authenticate(first, None))["Location"] == "/notes/"
    assert anna.come_back(anna.authenticate(second))["Location"] == "/salary/"


def test_7_nothing_of_a_login_that_failed_stays_on_the_session(hostile: HostileOP, settings: Any) -> None:
    settings.OIDC_STORE_ID_TOKEN = settings.OIDC_STORE_ACCESS_TOKEN = True
    client = Client()
    come_back(client, hostile, ANNA, "/oidc/authenticate/", id_token={"amr": None})
    before = {name: value for name, value in client.session.items() if name not in PASSING}

    for userinfo in (BEN, {**BEN, "email": "ben@elsewhere.example"}):
        back = come_back(client, hostile, userinfo)
        assert back.context["verdict"] == "wrong_user"

    after = {name: value for name, value in client.session.items() if name not in PASSING}
    assert after == before


def test_8_coming_back_as_the_same_user_changes_the_session_key(anna: Visitor) -> None:
    anna.sign_in()
    before = str(anna.session.session_key)

    anna.step_up("/salary/")

    assert anna.session.session_key != before
    assert not anna.session.exists(before)


def test_8_coming_back_as_another_user_swaps_nobody(anna: Visitor) -> None:
    anna.sign_in()
    before = dict(anna.session)

    back = anna.come_back(Visitor("ben").authenticate(anna.get("/salary/"), "totp"))

    assert back.context["verdict"] == "wrong_user"
    assert {**anna.session, **PASSING} == {**before, **PASSING}


def test_9_what_an_override_adds_to_the_extra_parameters_leaks_nowhere(anna: Visitor, settings: Any) -> None:
    anna.client.cookies["language"] = "sv"
    assert query(anna.get("/salary/")["Location"])["ui_locales"] == "sv"
    anna.client.cookies["language"] = ""

    sent = query(anna.get("/oidc/authenticate/")["Location"])

    assert sent["ui_locales"] == "en"
    assert "acr_values" not in sent
    assert settings.OIDC_AUTH_REQUEST_EXTRA_PARAMS == {"site": "dropin"}


def test_10_what_session_refresh_asks_for_does_not_change_what_a_step_up_asks_for(anna: Visitor) -> None:
    anna.sign_in()
    expire(anna)
    renewal = query(anna.get("/salary/")["Location"])
    assert renewal["prompt"] == "none"
    anna.come_back(anna.authenticate(anna.get("/salary/"), None))

    sent = query(anna.get("/salary/")["Location"])

    assert "prompt" not in sent
    assert (sent["site"], sent["ui_locales"]) == ("dropin", "en")
    assert sent["acr_values"]


def test_10_a_form_is_not_dropped_while_a_renewal_is_due(anna: Visitor) -> None:
    anna.sign_in()
    expire(anna)

    assert anna.client.post("/notes/").content == b"anna|POST"
    protected = anna.client.post("/salary/", {"raise": "10 %"})
    assert (protected.status_code, len(anna.session["stepup_forms"])) == (303, 1)


def test_a_form_is_kept_and_sent_with_the_base_librarys_urls(anna: Visitor) -> None:
    anna.sign_in()
    back = anna.come_back(anna.authenticate(anna.client.post("/salary/", {"raise": "10 %"})))

    page = anna.get(back["Location"])
    assert page.context["shown"]["rows"] == [{"name": "raise", "value": "10 %", "size": None}]
    assert anna.client.post(page.context["action"]).status_code == 200
    assert anna.client.post(page.context["action"]).status_code == 410


def test_11_pending_requests_are_few_and_end(anna: Visitor) -> None:
    challenges = [anna.get("/salary/") for _ in range(60)]
    assert len(anna.session["stepup_pending"]) == 20

    oldest = anna.come_back(anna.authenticate(challenges[0]))
    newest = anna.authenticate(challenges[-1])
    clock.offset = conf.current().pending_max_age + 1
    late = anna.come_back(newest)

    for back in (oldest, late):
        assert (back.status_code, back.context["verdict"]) == (400, "expired")
    assert "_auth_user_id" not in anna.session


def test_12_login_required_middleware_does_not_send_the_login_view_to_itself(anna: Visitor, settings: Any) -> None:
    settings.MIDDLEWARE = [*settings.MIDDLEWARE, "django.contrib.auth.middleware.LoginRequiredMiddleware"]
    visitor = Visitor("anna")

    first = visitor.get("/notes/")
    assert urlsplit(first["Location"]).path == "/oidc/authenticate/"
    second = visitor.get(first["Location"])
    assert urlsplit(second["Location"]).path == "/authorize"
    assert visitor.come_back(visitor.authenticate(second, None))["Location"] == "/notes/"


def test_12_under_it_a_protected_page_takes_one_trip_to_the_op_and_not_two(anna: Visitor, settings: Any) -> None:
    settings.MIDDLEWARE = [*settings.MIDDLEWARE, "django.contrib.auth.middleware.LoginRequiredMiddleware"]
    visitor = Visitor("anna")

    assert visitor.step_up("/salary/")["Location"] == "/salary/"
    assert is_shown(visitor)


def test_13_an_inactive_user_is_nobody(anna: Visitor) -> None:
    anna.step_up("/salary/")
    get_user_model().objects.update(is_active=False)

    assert anna.get("/notes/").content == b"|GET"
    assert not is_shown(anna)


# In a process of its own, as it is served


WALK = textwrap.dedent(
    """
    import json

    import django

    django.setup()

    from django.core.management import call_command
    from django.test.utils import setup_test_environment

    from tests.visitor import Visitor

    setup_test_environment()
    call_command("check", fail_level="ERROR")
    call_command("migrate", verbosity=0)
    anna = Visitor("anna")
    steps = [anna.sign_in()["Location"], anna.get("/salary/").status_code, anna.step_up("/salary/")["Location"]]
    print(json.dumps([*steps, anna.get("/salary/").content.decode()]))
    """
)


def test_it_starts_passes_the_system_checks_and_steps_up_in_a_process_of_its_own(op: RunningProvider) -> None:
    run = subprocess.run(
        [sys.executable, "-c", WALK],
        env={**os.environ, "DJANGO_SETTINGS_MODULE": "tests.dropin_settings", "DROPIN_OP": op.issuer},
        cwd=Path(__file__).parent.parent,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )

    assert run.returncode == 0, run.stderr
    assert json.loads(run.stdout.splitlines()[-1]) == ["/welcome/", 302, "/salary/", "the salary list"]
    assert "stepup.W044" in run.stderr, "it is told about SessionRefresh"
