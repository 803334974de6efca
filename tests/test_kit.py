"""The test kit's clients, factories and assertions, in this process."""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Iterator, Mapping
from io import StringIO
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import jwt
import pytest
from asgiref.sync import async_to_sync
from django.conf import settings as django_settings
from django.contrib.auth.decorators import login_required
from django.contrib.auth.models import User
from django.core.cache import cache
from django.core.management import call_command
from django.db import IntegrityError
from django.db.models.signals import pre_save
from django.http import HttpRequest, HttpResponse, HttpResponseRedirect, JsonResponse, StreamingHttpResponse
from django.test import Client
from django.urls import include, path, re_path
from django.utils.decorators import method_decorator
from django.views import View
from django.views.decorators.cache import never_cache
from django.views.decorators.http import require_POST
from mozilla_django_oidc.views import OIDCAuthenticationCallbackView

from stepup import Requirement, clock, conf, documents, gate, id_token, links, logout_token, provider, session, signals
from stepup.assurance import Evidence
from stepup.backends import StepUpBackend
from stepup.challenge import step_up_url
from stepup.decorators import mfa_required, stepup_required
from stepup.dialects import MULTI_FACTOR
from stepup.exceptions import AccountRefused, ClaimError
from stepup.gate import Aged
from stepup.id_token import KeySet
from stepup.logout_token import Logout
from stepup.models import Identity
from stepup.statements import StatementRefused, record
from stepup.testing import op, site, tokens
from stepup.testing.assertions import assert_protected, assert_satisfied, assert_site_protected, assert_step_up_required
from stepup.testing.clients import AsyncStepUpClient, StepUpClient
from stepup.testing.driver import Person, StuckError
from stepup.testing.factories import ABSENT, ClaimsFactory, IDTokenFactory, LogoutTokenFactory, UserFactory
from stepup.testing.provider import ConfigurationError, RunningProvider
from stepup.testing.site import Clock, StepUpSettings
from stepup.testing.tokens import KEYS
from tests.urls import SECRET
from tests.urls import urlpatterns as site_urls


class Picky(StepUpBackend):
    """A site's own backend: it wants a group, and keeps names."""

    def verify_claims(self, claims: dict[str, Any]) -> bool:
        return "staff" in claims.get("groups", [])

    def get_userinfo(self, access_token: str, id_token: str, payload: dict[str, Any]) -> dict[str, Any]:
        return {**super().get_userinfo(access_token, id_token, payload), "given_name": "Asked"}

    def update_user(self, user: User, claims: Mapping[str, Any]) -> User:
        user.first_name = claims["given_name"]
        user.save()
        return user


def open_to_all(request: HttpRequest) -> HttpResponse:
    return HttpResponse("the salary list")


def by_hand(request: HttpRequest) -> HttpResponse:
    """Asks as a door does, and then shows the page as if none had asked."""
    return gate.check(request, "mfa") or open_to_all(request)


def round_in_circles(request: HttpRequest) -> HttpResponse:
    return HttpResponseRedirect(f"/circle/?{len(request.GET.get('n', ''))}&n={request.GET.get('n', '')}x")


@never_cache
def staff_only(request: HttpRequest) -> HttpResponse:
    return HttpResponse("no", status=404)


def streamed(request: HttpRequest) -> StreamingHttpResponse:
    return StreamingHttpResponse([b"{}"], status=401, content_type="application/json")


def ending(request: HttpRequest) -> HttpResponse:
    """A door behind which somebody signs out in another tab meanwhile."""
    assert request.user.is_authenticated
    type(request.session)(request.session.session_key).flush()
    return mfa_required(open_to_all)(request)


#: Where a step-up starts, for "mfa".
START = "/oidc/authenticate/?next=/&stepup=mfa"

GOLD, SILVER = (Requirement(acr=(value,), acr_values=(value,), name=value) for value in ("gold", "silver"))


@login_required
def second_factor(request: HttpRequest) -> HttpResponse:
    """The site's own page, with a form for a code."""
    if request.method != "POST":
        return HttpResponse("your code?")
    if request.POST["code"] != "123456":
        return HttpResponse("wrong")
    record(request, amr=["otp"])
    return HttpResponseRedirect(request.GET["next"])


CODE = Requirement(amr=("otp",), step_up_url="second-factor", name="code")
CODE_NOW = dataclasses.replace(CODE, max_age=0)

OWN = (
    Requirement(amr=("otp",), step_up_url="open", name="by-name"),
    Requirement(amr=("otp",), step_up_url="/open/?by=path", name="by-path"),
)

urlpatterns = [
    *site_urls,
    path("by-hand/", by_hand, name="by-hand"),
    path("circle/", mfa_required(round_in_circles), name="circle"),
    path("staff/", mfa_required(staff_only), name="staff"),
    path("payslip/<int:pk>/", mfa_required(open_to_all), name="payslip"),
    path("several/", stepup_required("mfa", "sudo")(open_to_all), name="several"),
    path("each-time/", stepup_required("mfa", max_age=0)(open_to_all), name="each-time"),
    path("forms/", stepup_required("mfa", max_age=60, submit_max_age=600)(open_to_all), name="forms"),
    path("classes/", stepup_required(GOLD, SILVER)(open_to_all), name="classes"),
    path("second-factor/", second_factor, name="second-factor"),
    path("code/", stepup_required(CODE)(open_to_all), name="code"),
    path("code-each-time/", stepup_required(CODE_NOW)(open_to_all), name="code-each-time"),
    path("both-each-time/", stepup_required(CODE_NOW, Aged("mfa", 0))(open_to_all), name="both-each-time"),
    path("code-and-mfa/", stepup_required(CODE, "mfa")(open_to_all), name="code-and-mfa"),
    path("own-page-by-name/", stepup_required(OWN[0])(open_to_all), name="own-page-by-name"),
    path("own-page-by-path/", stepup_required(OWN[1])(open_to_all), name="own-page-by-path"),
    path("elsewhere/", lambda request: HttpResponseRedirect("/other/"), name="elsewhere"),
    path("bounces/", mfa_required(lambda request: HttpResponseRedirect("/accounts/login/")), name="bounces"),
    path("json/", lambda request: JsonResponse({}, status=401), name="json"),
    path("list/", lambda request: JsonResponse([1], status=401, safe=False), name="list"),
    path("number/", lambda request: JsonResponse({"step_up_url": 1}, status=401), name="number"),
    path("broken/", lambda request: HttpResponse("{", status=401, content_type="application/json"), name="broken"),
    path("streamed/", streamed, name="streamed"),
    path("forbidden/", lambda request: HttpResponse("no", status=403), name="forbidden"),
    path("op/", lambda request: HttpResponseRedirect("https://op.example/?state=unknown"), name="to-op"),
    path("shop/", lambda request: HttpResponseRedirect("https://shop.example/"), name="shop"),
    path("unknown/", lambda request: HttpResponseRedirect("/oidc/authenticate/?stepup=none"), name="unknown"),
    path("another-host/", lambda request: HttpResponseRedirect(f"//a.example{START}"), name="another-host"),
    path("ending/", ending, name="ending"),
    path("signing-in/", lambda request: HttpResponseRedirect("/oidc/authenticate/?next=/"), name="signing-in"),
]


#: What looks like a challenge, and is none.
NO_CHALLENGES = [
    "/json/", "/list/", "/number/", "/broken/", "/streamed/", "/forbidden/", "/op/", "/shop/", "/unknown/",
    "/elsewhere/", "/another-host/", "/open/",
]  # fmt: skip


@pytest.fixture
def more_urls(settings: Any) -> None:
    settings.ROOT_URLCONF = "tests.test_kit"


@pytest.fixture
def dora(db: None) -> User:
    user: User = UserFactory.create(username="dora", email="dora@site.example", first_name="Dora")
    return user


def said_by(failing: Any, *args: Any, **kwargs: Any) -> str:
    with pytest.raises(AssertionError) as raised:
        failing(*args, **kwargs)
    return str(raised.value)


# ---- Signing in and being elevated ----


def test_a_client_signs_in_with_chosen_claims(stepup_client: StepUpClient, dora: User) -> None:
    user = stepup_client.sign_in(dora, amr=["pwd"])

    evidence = stepup_client.evidence()
    assert user == dora
    assert user.last_login is not None
    assert evidence is not None
    assert (evidence.issuer, evidence.subject) == (conf.current().issuer, "stepup|dora")
    assert set(evidence.proofs) == {"amr"}
    assert evidence.auth_time is not None
    assert 0 <= clock.now() - evidence.auth_time < 60
    assert stepup_client.get("/").content == b"dora|shut"


def test_a_client_that_is_not_signed_in_has_no_evidence(stepup_client: StepUpClient) -> None:
    assert stepup_client.evidence() is None


@pytest.mark.parametrize(
    "needs", ["mfa", "sudo", Aged("mfa", 300), Requirement(acr=("urn:own",)), lambda request: "mfa"]
)
def test_a_client_is_elevated_to_whatever_a_door_may_be_given(stepup_client: StepUpClient, needs: Any) -> None:
    user = stepup_client.elevate(needs)

    assert user.is_authenticated
    assert_satisfied(stepup_client, needs)


def test_claims_other_than_amr_and_acr_prove_too(stepup_client: StepUpClient, stepup_settings: StepUpSettings) -> None:
    stepup_settings(REQUIREMENTS={"context": {"claims": {"acrs": ["c1", "c2"]}}, "sudo": {"max_age": 300}})
    stepup_client.elevate("context")
    assert_satisfied(stepup_client, "context")


def test_what_was_proved_before_stays_proved_when_a_client_is_elevated(stepup_client: StepUpClient, dora: User) -> None:
    stepup_client.sign_in(dora, amr=["pwd"])
    before = stepup_client.cookies["sessionid"].value

    assert stepup_client.elevate("mfa") == dora

    evidence = stepup_client.evidence()
    assert evidence is not None
    assert set(evidence.proofs["amr"]) == {"pwd", "mfa"}
    assert stepup_client.cookies["sessionid"].value != before, "an elevation gives the session a new key"
    assert not stepup_client.session.exists(before)


def test_evidence_has_the_age_that_is_asked_for_and_the_sign_in_is_not_due_for_renewal(
    stepup_client: StepUpClient,
) -> None:
    stepup_client.elevate("mfa", age=3600)

    evidence = stepup_client.evidence()
    assert evidence is not None
    assert evidence.auth_time is not None
    assert 3600 <= clock.now() - evidence.auth_time < 3660
    assert clock.offset == 0
    assert not session.is_renewal_due(stepup_client.session, now=clock.now())
    assert_step_up_required(stepup_client.get("/fresh/"), "mfa", max_age=300)


def test_an_elevation_is_announced_as_in_production(stepup_client: StepUpClient, dora: User) -> None:
    heard = []

    def hear(**said: Any) -> None:
        heard.append((said["user"], said["requirement"].name))

    signals.elevated.connect(hear)
    try:
        stepup_client.elevate("mfa", user=dora)
    finally:
        signals.elevated.disconnect(hear)
    assert heard == [(dora, "mfa")]


def test_claims_that_prove_something_else_elevate_nobody(stepup_client: StepUpClient) -> None:
    said = said_by(stepup_client.elevate, "mfa", amr=["pwd"], acr=ABSENT)
    assert said == "These claims do not satisfy mfa: {'amr': ['pwd']}"


def test_somebody_else_who_signs_in_signs_out_the_first(stepup_client: StepUpClient, dora: User) -> None:
    stepup_client.elevate("mfa", user=dora)
    other = stepup_client.sign_in(UserFactory.create())

    assert stepup_client.get("/").content.decode() == f"{other.username}|shut"
    evidence = stepup_client.evidence()
    assert evidence is not None
    assert "amr" not in evidence.proofs


def test_an_inactive_user_is_refused_as_the_backend_refuses_them(stepup_client: StepUpClient) -> None:
    with pytest.raises(AccountRefused, match="inactive"):
        stepup_client.sign_in(UserFactory.create(is_active=False))
    assert stepup_client.evidence() is None


def test_the_hooks_of_the_sites_own_backend_are_asked(stepup_client: StepUpClient, dora: User, settings: Any) -> None:
    settings.AUTHENTICATION_BACKENDS = ["django.contrib.auth.backends.ModelBackend", "tests.test_kit.Picky"]

    with pytest.raises(AccountRefused, match="claims"):
        stepup_client.sign_in(dora)
    user = stepup_client.sign_in(dora, groups=["staff"])

    assert user.first_name == "Asked"
    assert stepup_client.session["_auth_user_backend"] == "tests.test_kit.Picky"


def test_the_backend_finds_or_makes_an_account_for_a_subject(stepup_client: StepUpClient, dora: User) -> None:
    Identity.objects.create(issuer=conf.current().issuer, subject="auth0|dora", user=dora)

    assert stepup_client.sign_in(sub="auth0|dora", email="dora@site.example") == dora
    new = stepup_client.sign_in(sub="auth0|new", email="new@site.example", email_verified=True)

    assert new != dora
    assert new.email == "new@site.example"
    assert new.stepup_identities.get().subject == "auth0|new"


def test_a_site_without_the_backend_is_told_so(stepup_client: StepUpClient, settings: Any) -> None:
    settings.AUTHENTICATION_BACKENDS = [
        "django.contrib.auth.backends.ModelBackend",
        "django.contrib.auth.backends.AllowAllUsersModelBackend",
    ]
    assert "has no StepUpBackend" in said_by(stepup_client.sign_in)


def test_a_callback_view_of_the_base_library_is_replaced(stepup_client: StepUpClient, settings: Any) -> None:
    settings.OIDC_CALLBACK_CLASS = f"{OIDCAuthenticationCallbackView.__module__}.OIDCAuthenticationCallbackView"
    stepup_client.elevate("mfa")
    assert_satisfied(stepup_client, "mfa")


def test_a_session_that_the_provider_has_ended_since_is_not_begun(
    stepup_client: StepUpClient, dora: User, stepup_settings: StepUpSettings
) -> None:
    stepup_settings(BACK_CHANNEL_LOGOUT="end")
    stepup_client.sign_in(dora)
    assert stepup_client.session["_auth_user_id"]
    now, issuer = int(clock.now()), conf.current().issuer
    links.end(Logout(issuer=issuer, subject="stepup|dora", sid=None, jti="id", issued_at=now))

    assert stepup_client.evidence() is None
    assert "the provider has ended their session" in said_by(stepup_client.sign_in, dora, age=600)


def test_what_the_site_has_verified_itself_is_stated_as_in_production(stepup_client: StepUpClient, dora: User) -> None:
    heard = []

    def hear(**said: Any) -> None:
        heard.append((said["user"], said["by"]))

    stepup_client.sign_in(dora, amr=["pwd"])
    assert_step_up_required(stepup_client.get("/decorated/"), "mfa")
    before = stepup_client.cookies["sessionid"].value
    signals.elevated.connect(hear)
    try:
        evidence = stepup_client.record(amr=["mfa"], age=400)
    finally:
        signals.elevated.disconnect(hear)

    assert evidence == stepup_client.evidence()
    assert set(evidence.proofs["amr"]) == {"pwd", "mfa"}
    assert heard == [(dora, "site")]
    assert stepup_client.cookies["sessionid"].value != before
    assert stepup_client.get("/decorated/").content.decode() == SECRET
    assert_step_up_required(stepup_client.get("/fresh/"), "mfa", max_age=300)


@pytest.fixture
def heard() -> Iterator[list[tuple[str, str]]]:
    """Who is said to have elevated somebody, and to what."""
    said: list[tuple[str, str]] = []

    def hear(**announced: Any) -> None:
        said.append((announced["by"], announced["requirement"].name if announced["requirement"] else ""))

    signals.elevated.connect(hear)
    yield said
    signals.elevated.disconnect(hear)


@pytest.mark.usefixtures("more_urls")
def test_what_is_proved_on_a_page_of_the_sites_own_is_stated_and_not_said_by_the_provider(
    stepup_client: StepUpClient, dora: User, heard: list[tuple[str, str]]
) -> None:
    assert stepup_client.elevate(CODE, user=dora, age=60) == dora
    assert heard == [("provider", ""), ("site", "")], "she signs in first"
    assert stepup_client.get("/code/").content == b"the salary list"
    assert_protected("/code/", CODE)

    evidence = stepup_client.evidence()
    assert evidence is not None
    assert set(evidence.proofs) == {"amr"}
    assert {60 <= clock.now() - time < 120 for time in evidence.proofs["amr"].values() if time} == {True}

    heard.clear()
    assert stepup_client.elevate(CODE) == dora
    assert heard == [("site", "")], "who is signed in stays so"
    other = UserFactory.create()
    assert stepup_client.elevate(CODE, user=other) == other
    assert stepup_client.get("/").content.decode() == f"{other.username}|shut"


@pytest.mark.usefixtures("more_urls")
def test_what_is_proved_in_two_places_comes_from_both(
    stepup_client: StepUpClient, heard: list[tuple[str, str]]
) -> None:
    stepup_client.elevate((CODE, "mfa"))
    assert heard == [("provider", ""), ("site", ""), ("provider", "code & mfa")]
    assert stepup_client.get("/code-and-mfa/").content == b"the salary list"
    assert_protected("/code-and-mfa/", (CODE, "mfa"))
    assert_protected("/both-each-time/", (CODE_NOW, Aged("mfa", 0)))
    assert "do not satisfy code & mfa" in said_by(StepUpClient().elevate, (CODE, "mfa"), amr=["otp"], acr=ABSENT)


@pytest.mark.usefixtures("more_urls")
def test_what_is_proved_on_two_pages_of_the_sites_own_is_stated_on_each(
    stepup_client: StepUpClient, heard: list[tuple[str, str]]
) -> None:
    key = Requirement(amr=("hwk",), step_up_url="open")
    stepup_client.elevate((CODE, key))
    assert [by for by, _ in heard] == ["provider", "site", "site"]
    assert_satisfied(stepup_client, (CODE, key))


@pytest.mark.usefixtures("more_urls")
def test_proof_for_one_showing_is_stated_for_the_page_that_it_is_for(stepup_client: StepUpClient) -> None:
    assert_protected("/code-each-time/", CODE_NOW)
    stepup_client.elevate(CODE_NOW, path="/code-each-time/")
    assert stepup_client.get("/code-each-time/").status_code == 200
    assert stepup_client.get("/code-each-time/").status_code == 302


@pytest.mark.parametrize(
    ("needs", "claims", "proofs"),
    [
        (CODE, {"amr": ["otp", "pwd"], "email": "other@site.example"}, {"amr": {"otp", "pwd"}}),
        (Requirement(acr=("gold",), step_up_url="open"), {}, {"acr": {"gold"}}),
        (Requirement(max_age=60, step_up_url="open"), {}, {}),
        ("context", {"acrs": "c1"}, {"acrs": {"c1"}}),
    ],
)
def test_a_test_chooses_what_a_page_of_the_sites_own_states(
    stepup_client: StepUpClient,
    stepup_settings: StepUpSettings,
    dora: User,
    needs: Any,
    claims: dict[str, Any],
    proofs: dict[str, set[str]],
) -> None:
    context = {"claims": {"acrs": ["c1", "c2"]}, "step_up_url": "open"}
    stepup_settings(REQUIREMENTS={"context": context, "sudo": {"max_age": 300}})
    stepup_client.sign_in(dora)

    stepup_client.elevate(needs, **claims)

    evidence = stepup_client.evidence()
    assert evidence is not None
    assert {claim: set(values) for claim, values in evidence.proofs.items()} == proofs
    assert_satisfied(stepup_client, needs)


def test_what_is_stated_may_be_too_little_or_too_old(
    stepup_client: StepUpClient, stepup_settings: StepUpSettings
) -> None:
    said = said_by(stepup_client.elevate, CODE, amr=["pwd"])
    assert said == "These claims do not satisfy code: {'amr': ['pwd']}"
    aged = dataclasses.replace(CODE, max_age=60)
    assert "do not satisfy code" in said_by(stepup_client.elevate, aged, auth_time=clock.now() - 600)
    stepup_settings(CLIENTS_WITH_MFA=["another"])
    stepup_client.elevate(aged, auth_time=clock.now() - 600)
    assert stepup_client.evidence() is not None


def test_nothing_is_stated_of_nobody(stepup_client: StepUpClient) -> None:
    with pytest.raises(StatementRefused, match="anonymous"):
        stepup_client.record(amr=["mfa"])


def test_asynchronous_tests_state_it_too(stepup_async_client: AsyncStepUpClient) -> None:
    async_to_sync(stepup_async_client.sign_in)()
    evidence = async_to_sync(stepup_async_client.record)(acr=["gold"], claims=None)
    assert set(evidence.proofs["acr"]) == {"gold"}
    assert evidence == async_to_sync(stepup_async_client.evidence)()


def test_the_cookie_of_a_session_is_the_one_that_the_site_would_set(stepup_client: StepUpClient, settings: Any) -> None:
    settings.SESSION_COOKIE_PATH = "/decorated/"
    settings.SESSION_COOKIE_DOMAIN = "testserver"
    stepup_client.elevate("mfa")
    cookie = stepup_client.cookies["sessionid"]
    assert (cookie["path"], cookie["domain"]) == ("/decorated/", "testserver")
    assert stepup_client.get("/decorated/").content.decode() == SECRET


def test_sessions_in_cookies_are_elevated_too(stepup_client: StepUpClient, settings: Any) -> None:
    settings.SESSION_ENGINE = "django.contrib.sessions.backends.signed_cookies"
    stepup_client.elevate("mfa")
    assert stepup_client.get("/decorated/").content.decode() == SECRET


# ---- The round trip ----


@pytest.mark.parametrize(
    "needs",
    [
        {"acr": ["gold"], "acr_values": [], "essential": True},
        {"claims": {"acrs": ["c1", "c2"]}, "acr_values": [], "essential": True},
        {"claims": {"acrs": ["c1"], "vot": ["P2"]}, "acr_values": ["urn:high"]},
    ],
)
def test_what_is_asked_for_claim_by_claim_is_stepped_up_too(
    stepup_provider: RunningProvider,
    stepup_client: StepUpClient,
    stepup_settings: StepUpSettings,
    needs: dict[str, Any],
) -> None:
    stepup_settings(REQUIREMENTS={"mfa": {"amr": [], **needs}, "sudo": {"max_age": 300}})

    page = stepup_client.step_up(stepup_client.get("/decorated/"))

    assert page.content.decode() == SECRET
    assert_satisfied(stepup_client, "mfa")


def test_what_is_essential_and_what_is_not_are_asked_for_together(
    stepup_provider: RunningProvider, stepup_client: StepUpClient, stepup_settings: StepUpSettings
) -> None:
    gold = {"acr": ["gold"], "acr_values": ["gold"], "essential": True}
    silver = {"amr": ["otp"], "acr_values": ["silver"]}
    stepup_settings(REQUIREMENTS={"mfa": gold, "other": silver, "sudo": {"max_age": 300}})
    both = conf.current().requirements["mfa"], conf.current().requirements["other"]
    url = step_up_url(Requirement.all_of(*both), "/open/")
    stepup_client.step_up(stepup_client.get(url))
    assert_satisfied(stepup_client, "other")
    assert set((stepup_client.evidence() or Evidence(issuer="", subject="")).proofs["acr"]) == {"gold"}


def test_a_person_without_a_second_factor_opens_nothing_that_is_asked_for_claim_by_claim(
    stepup_provider: RunningProvider, stepup_client: StepUpClient, stepup_settings: StepUpSettings
) -> None:
    stepup_settings(
        REQUIREMENTS={"mfa": {"acr": ["gold"], "acr_values": ["gold"], "essential": True}, "sudo": {"max_age": 300}}
    )
    page = stepup_client.step_up(stepup_client.get("/decorated/"), "cleo")
    assert (page.status_code, page.context["verdict"]) == (403, "declined")


def test_the_provider_proves_what_it_was_asked_for_and_nothing_that_other_requirements_need(
    stepup_provider: RunningProvider, stepup_client: StepUpClient, stepup_settings: StepUpSettings
) -> None:
    gold = {"acr_values": ["gold"], "acr": ["gold"], "amr": ["hwk"], "claims": {"vot": ["P2"]}}
    stepup_settings(
        REQUIREMENTS={
            "sudo": {"max_age": 300},
            "gold": gold,
            "code": {"amr": ["otp"], "acr_values": [MULTI_FACTOR], "step_up_url": "/open/"},
        }
    )
    stepup_client.step_up(stepup_client.get("/decorated/"))
    assert_satisfied(stepup_client, "mfa")
    for other in ("gold", "code"):
        assert "is not satisfied" in said_by(assert_satisfied, stepup_client, other)

    stepup_client.step_up(stepup_client.get("/oidc/authenticate/?stepup=gold&next=/open/"))
    assert_satisfied(stepup_client, "gold")
    assert "is not satisfied" in said_by(assert_satisfied, stepup_client, "code")


def test_settings_that_change_in_a_test_change_what_its_provider_asks_for_and_nothing_that_it_remembers(
    stepup_provider: RunningProvider, stepup_client: StepUpClient, stepup_settings: StepUpSettings, dora: User
) -> None:
    stepup_client.sign_in(dora)
    stepup_client.step_up(stepup_client.get("/decorated/"))
    people = stepup_provider.configuration.users

    stepup_settings(
        REQUIREMENTS={"mfa": {"acr": ["gold"], "acr_values": ["gold"]}, "sudo": {"max_age": 300}},
        OIDC_RP_SIGN_ALGO="ES256",
    )

    assert stepup_client.step_up(stepup_client.get("/decorated/")).content.decode() == SECRET
    assert stepup_client.evidence() is not None
    assert_satisfied(stepup_client, "mfa")
    assert [each.subject for each in stepup_provider.authentications()] == ["stepup|dora"] * 2
    assert stepup_provider.configuration.users == people


@pytest.mark.parametrize(
    "changed",
    [
        {"OIDC_RP_CLIENT_ID": "another"},
        {"OIDC_RP_CLIENT_SECRET": "another secret of the site that is long enough"},
        {"OIDC_RP_SIGN_ALGO": "ES256"},
        {"ALLOWED_HOSTS": ["pay.example"]},
    ],
    ids=str,
)
@pytest.mark.parametrize("personality", ["well_behaved", "ignores_acr_values"])
def test_settings_that_a_test_changes_by_other_means_are_known_at_the_provider_when_somebody_goes_there(
    stepup_provider: RunningProvider,
    stepup_client: StepUpClient,
    settings: Any,
    changed: dict[str, Any],
    personality: str,
) -> None:
    assert stepup_client.step_up(stepup_client.get("/decorated/")).status_code == 200
    for name, value in changed.items():
        setattr(settings, name, value)
    stepup_provider.behave(personality)

    host = settings.ALLOWED_HOSTS[0]
    client = StepUpClient(headers={"host": host})
    page = client.step_up(client.get("/decorated/"))

    assert page.wsgi_request.get_host() == host
    assert page.status_code == (200 if personality == "well_behaved" else 403)


def test_a_site_knows_nothing_of_a_provider_from_the_test_before(
    stepup_provider_process: RunningProvider, stepup_settings: StepUpSettings
) -> None:
    known = []
    for _ in range(2):
        with site.provider_for(stepup_settings) as running:
            known.append(provider.current())
            assert known[-1].keys().keys
            stepup_settings(LEEWAY=1)  # makes it anew here, and leaves what is shared with other processes
            known.append(provider.current())
            assert known[-1].keys().keys
            asked = [urlsplit(running.issuer)._replace(path=each.path).geturl() for each in running.requests()]
            assert asked == list(running.documents)
    assert len(set(map(id, known))) == 4


def test_a_test_that_leaves_with_a_mistake_in_the_settings_is_told_of_it_where_it_is(
    stepup_provider_process: RunningProvider, stepup_settings: StepUpSettings, settings: Any
) -> None:
    with site.provider_for(stepup_settings) as running:
        provider.current().keys()
        assert all(cache.get(documents._key(url)) for url in running.documents)
        settings.STEPUP = {**settings.STEPUP, "LEEWEY": 1}
    assert op.in_use is None
    assert not any(cache.get(documents._key(url)) for url in running.documents)


def test_a_provider_that_was_told_something_else_in_a_test_keeps_to_it(
    stepup_provider: RunningProvider, stepup_settings: StepUpSettings
) -> None:
    told = dataclasses.replace(stepup_provider.configuration, amr=("otp",))
    stepup_provider.configure(told)
    stepup_settings(REQUIREMENTS={"mfa": {"acr": ["gold"], "acr_values": ["gold"]}, "sudo": {"max_age": 300}})
    assert stepup_provider.configuration == told


def test_a_provider_that_cannot_serve_the_site_any_more_says_so(
    stepup_provider: RunningProvider, stepup_settings: StepUpSettings
) -> None:
    with pytest.raises(ConfigurationError, match="HS256 needs a client secret of at least 32 octets"):
        stepup_settings(OIDC_RP_SIGN_ALGO="HS256", OIDC_RP_CLIENT_SECRET="short")


@pytest.mark.usefixtures("more_urls")
def test_a_page_of_the_sites_own_is_for_the_test_to_walk_through(
    stepup_provider: RunningProvider, stepup_client: StepUpClient
) -> None:
    stepup_client.sign_in()
    asked = stepup_client.get("/own-page-by-name/")
    assert said_by(stepup_client.step_up, asked) == (
        "Status 302 is no challenge: there is nothing to step up for at the provider. It leads to /open/. Where that "
        "is a page of the site's own (step_up_url), say with own= what a person does there, or state it with record()."
    )
    script = stepup_client.get("/own-page-by-name/", headers={"Accept": "application/json"})
    assert script.status_code == 401
    assert "say with own= what a person does there" in said_by(stepup_client.step_up, script)


def enter_the_code(client: StepUpClient, url: str) -> Any:
    """What a person does on the site's own page."""
    assert client.get(url).status_code == 200
    return client.post(url, {"code": "123456"})


@pytest.mark.usefixtures("more_urls")
@pytest.mark.parametrize("headers", [{}, {"Accept": "application/json"}, {"HX-Request": "true"}])
@pytest.mark.parametrize("is_signed_in", [True, False])
def test_a_page_of_the_sites_own_is_walked_through_as_the_test_says(
    stepup_provider: RunningProvider, stepup_client: StepUpClient, is_signed_in: bool, headers: dict[str, str]
) -> None:
    if is_signed_in:
        stepup_client.sign_in()
    here = "http://testserver/code/?x=1"
    asked = stepup_client.get("/code/?x=1", headers={"Referer": here, "HX-Current-URL": here, **headers})

    page = stepup_client.step_up(asked, own=enter_the_code)

    assert page.wsgi_request.get_full_path() == "/code/?x=1"
    assert page.content == b"the salary list"
    assert len(stepup_provider.authentications()) == (not is_signed_in)


@pytest.mark.usefixtures("more_urls")
def test_a_page_of_the_sites_own_and_the_provider_are_gone_to_one_after_the_other(
    stepup_provider: RunningProvider, stepup_client: StepUpClient
) -> None:
    seen = []

    def own(client: StepUpClient, url: str) -> Any:
        seen.append(url)
        return enter_the_code(client, url)

    page = stepup_client.step_up(stepup_client.get("/code-and-mfa/"), own=own)

    assert page.content == b"the salary list"
    assert seen == ["/second-factor/?next=%2Fcode-and-mfa%2F"]
    assert [each.second_factor for each in stepup_provider.authentications()] == [False, True]


@pytest.mark.usefixtures("more_urls", "stepup_provider")
def test_a_form_waits_for_a_page_of_the_sites_own_too(stepup_client: StepUpClient) -> None:
    stepup_client.sign_in()
    page = stepup_client.step_up(stepup_client.post("/code/"), own=enter_the_code)
    assert stepup_client.post(page.context["action"]).content == b"the salary list"


@pytest.mark.usefixtures("more_urls", "stepup_provider")
def test_whoever_shows_nothing_on_a_page_of_the_sites_own_stays_there(stepup_client: StepUpClient) -> None:
    stepup_client.sign_in()
    asked = stepup_client.get("/code/")

    page = stepup_client.step_up(asked, own=lambda client, url: client.post(url, {"code": "000000"}))

    assert (page.status_code, page.content) == (200, b"wrong")
    assert_step_up_required(stepup_client.get("/code/"), CODE)
    page = stepup_client.step_up(asked, own=lambda client, url: client.get("/code/"))
    assert page.context["verdict"] == "ignored", "which goes round in circles until the site says so"


@pytest.mark.usefixtures("more_urls")
def test_a_test_that_says_what_is_done_on_a_page_of_the_sites_own_still_needs_a_challenge(
    stepup_client: StepUpClient,
) -> None:
    for page in ("/open/", "/elsewhere/"):
        assert "is no challenge" in said_by(stepup_client.step_up, stepup_client.get(page), own=enter_the_code)


@pytest.mark.usefixtures("more_urls", "stepup_provider")
def test_a_test_that_says_nothing_of_a_page_of_the_sites_own_gets_it_where_it_comes_after_the_provider(
    stepup_client: StepUpClient,
) -> None:
    page = stepup_client.step_up(stepup_client.get("/oidc/authenticate/?next=/code/"))
    assert page.wsgi_request.get_full_path() == "/second-factor/?next=%2Fcode%2F"


@pytest.mark.usefixtures("more_urls", "stepup_provider")
def test_asynchronous_tests_walk_through_a_page_of_the_sites_own_too(stepup_async_client: AsyncStepUpClient) -> None:
    async def own(client: AsyncStepUpClient, url: str) -> Any:
        return await client.post(url, {"code": "123456"})

    async def walk() -> Any:
        return await stepup_async_client.step_up(await stepup_async_client.get("/code/"), own=own)

    assert async_to_sync(walk)().content == b"the salary list"


def test_anybody_who_is_signed_in_can_step_up(
    stepup_provider: RunningProvider, stepup_client: StepUpClient, dora: User
) -> None:
    stepup_client.sign_in(dora)

    page = stepup_client.step_up(stepup_client.get("/decorated/"))

    assert page.content.decode() == SECRET
    assert [each.subject for each in stepup_provider.authentications()] == ["stepup|dora"]
    again = stepup_client.step_up(stepup_client.get("/fresh/"))
    assert again.content.decode() == SECRET
    assert sum(each.username == "dora" for each in stepup_provider.configuration.users) == 1


def test_a_user_who_is_called_as_somebody_else_at_the_provider_is_another_person_there(
    stepup_provider: RunningProvider, stepup_client: StepUpClient
) -> None:
    anna = UserFactory.create(username="anna", subject="auth0|another-anna")
    stepup_client.sign_in(anna)

    page = stepup_client.step_up(stepup_client.get("/decorated/"))

    assert page.content.decode() == SECRET
    assert stepup_provider.authentications()[-1].subject == "auth0|another-anna"


@pytest.mark.parametrize("headers", [{"Accept": "application/json"}, {"HX-Request": "true"}])
def test_challenges_for_scripts_are_followed_too(
    stepup_provider: RunningProvider, stepup_client: StepUpClient, headers: dict[str, str]
) -> None:
    stepup_client.sign_in()
    asked = stepup_client.get("/decorated/", headers={"Referer": "http://testserver/decorated/", **headers})

    assert_step_up_required(asked, "mfa")
    stepup_client.step_up(asked)

    assert_satisfied(stepup_client, "mfa")


def test_a_challenge_to_a_form_is_followed_too(stepup_provider: RunningProvider, stepup_client: StepUpClient) -> None:
    asked = stepup_client.post("/class/")
    assert_step_up_required(asked, "mfa")

    page = stepup_client.step_up(asked)

    assert stepup_client.post(page.context["action"]).content.decode() == SECRET


def test_a_challenge_to_a_form_that_is_not_kept_is_followed_too(
    stepup_provider: RunningProvider, stepup_client: StepUpClient
) -> None:
    asked = stepup_client.post(f"/class/?{'x' * 3000}")
    assert asked.status_code == 403
    assert_step_up_required(asked, "mfa")
    stepup_client.step_up(asked)
    assert_satisfied(stepup_client, "mfa")


def test_signing_in_is_followed_too(stepup_provider: RunningProvider, stepup_client: StepUpClient) -> None:
    page = stepup_client.step_up(stepup_client.get("/oidc/authenticate/"), "cleo", factor=None)
    assert page.status_code == 200
    assert page.context["user"].email == "cleo@harbour.example"


@pytest.mark.parametrize(("choice", "factor"), [("deny", "push"), ("cancel", "push"), ("cancel", None)])
def test_whoever_changes_their_mind_gets_the_page_that_says_so(
    stepup_provider: RunningProvider, stepup_client: StepUpClient, choice: str, factor: Any
) -> None:
    choices: dict[str, Any] = {choice: True}
    page = stepup_client.step_up(stepup_client.get("/decorated/"), factor=factor, **choices)
    assert (page.status_code, page.context["verdict"]) == (403, "declined")


def test_another_persons_browser_brings_the_verdict_wrong_user(
    stepup_provider: RunningProvider, stepup_client: StepUpClient
) -> None:
    stepup_client.sign_in()
    page = stepup_client.step_up(stepup_client.get("/decorated/"), "ben", factor="totp")
    assert page.context["verdict"] == "wrong_user"


def test_somebody_whom_nobody_knows_is_stuck(stepup_provider: RunningProvider, stepup_client: StepUpClient) -> None:
    with pytest.raises(StuckError, match="sign-in"):
        stepup_client.step_up(stepup_client.get("/decorated/"), "nobody")


def test_a_site_with_tls_and_a_name_of_its_own_is_gone_back_to(
    stepup_provider: RunningProvider, stepup_client: StepUpClient, settings: Any
) -> None:
    settings.ALLOWED_HOSTS = ["pay.example", ".others.example", "*"]
    settings.SECURE_SSL_REDIRECT = True
    settings.MIDDLEWARE = ["django.middleware.security.SecurityMiddleware", *settings.MIDDLEWARE]
    stepup_provider.configure(op.configuration())
    asked = stepup_client.get("/decorated/", secure=True, headers={"host": "pay.example"})

    page = stepup_client.step_up(asked)

    assert page.content.decode() == SECRET
    assert page.wsgi_request.build_absolute_uri() == "https://pay.example/decorated/"


@pytest.mark.usefixtures("more_urls", "stepup_provider")
def test_a_page_that_leads_in_circles_is_left(stepup_client: StepUpClient) -> None:
    page = stepup_client.step_up(stepup_client.get("/circle/"))
    assert page.status_code == 302


def test_without_a_provider_there_is_no_round_trip(stepup_client: StepUpClient) -> None:
    said = said_by(stepup_client.step_up, stepup_client.get("/decorated/"))
    assert said.startswith("The challenge leads to provider.invalid, which is no provider of this test.")
    assert "stepup_provider" in said


def test_what_is_no_challenge_cannot_be_followed(stepup_client: StepUpClient) -> None:
    assert "Status 200 is no challenge" in said_by(stepup_client.step_up, stepup_client.get("/open/"))


def test_pushed_requests_are_followed_though_they_show_nothing(
    stepup_provider: RunningProvider, stepup_client: StepUpClient, stepup_settings: StepUpSettings
) -> None:
    stepup_settings(PUSHED_REQUESTS=True)
    asked = stepup_client.get("/decorated/")
    assert "state" not in asked["Location"]
    assert_step_up_required(asked, "mfa")
    assert stepup_client.step_up(asked).content.decode() == SECRET


def test_a_site_that_signs_assertions_is_known_by_its_key(
    stepup_client: StepUpClient, stepup_settings: StepUpSettings, request: pytest.FixtureRequest
) -> None:
    stepup_settings(CLIENT_AUTHENTICATION="private_key_jwt", PRIVATE_KEY=KEYS["p256"].private_pem)
    request.getfixturevalue("stepup_provider")
    assert stepup_client.step_up(stepup_client.get("/decorated/")).content.decode() == SECRET


def test_whoever_has_signed_in_here_can_sign_out_there(
    stepup_provider: RunningProvider, stepup_client: StepUpClient, stepup_settings: StepUpSettings, settings: Any
) -> None:
    settings.OIDC_STORE_ID_TOKEN = True
    stepup_settings(SIGN_OUT_AT_PROVIDER=True)
    stepup_client.sign_in()
    left = stepup_client.post("/oidc/logout/")

    back = Person("anna", "anna-password").sign_out(left["Location"])

    assert back.startswith("http://testserver/oidc/signed-out/")


def test_time_passes_at_the_provider_too(
    stepup_provider: RunningProvider, stepup_client: StepUpClient, stepup_clock: Clock
) -> None:
    stepup_client.step_up(stepup_client.get("/fresh/"))
    stepup_clock.move(86400)
    assert stepup_clock.now() == pytest.approx(clock.now(), abs=5)
    assert_step_up_required(stepup_client.get("/fresh/"), "mfa", max_age=300)

    assert stepup_client.step_up(stepup_client.get("/fresh/")).content.decode() == SECRET
    assert stepup_provider.authentications()[-1].auth_time == pytest.approx(clock.now(), abs=60)
    stepup_clock.move(-86400)
    assert clock.offset == 0


def test_a_provider_that_comes_after_the_clock_was_moved_has_its_time(
    stepup_clock: Clock, stepup_client: StepUpClient, request: pytest.FixtureRequest
) -> None:
    stepup_clock.move(-86400)
    provider = request.getfixturevalue("stepup_provider")
    stepup_client.step_up(stepup_client.get("/fresh/"))
    assert provider.authentications()[-1].auth_time == pytest.approx(clock.now(), abs=60)


def test_a_provider_can_be_had_by_sites_with_the_urls_of_the_base_library(settings: Any) -> None:
    settings.ROOT_URLCONF = "tests.dropin_urls"
    (client,) = op.configuration().clients
    assert "https://testserver/" in client.post_logout_redirect_uris


def test_a_site_that_no_provider_can_serve_is_told_so(stepup_settings: StepUpSettings) -> None:
    stepup_settings(OIDC_RP_SIGN_ALGO="ES512")
    with pytest.raises(ConfigurationError, match="id_token_signed_response_alg"):
        op.configuration()


def test_a_forked_process_has_a_provider_of_its_own(
    stepup_provider_process: RunningProvider, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(op, "_started", op._started)
    first = op.running()
    assert first is stepup_provider_process
    monkeypatch.setattr(os, "getpid", lambda: -1)
    second = op.running()
    op.stop()
    op.stop()
    monkeypatch.undo()
    assert first.issuer != second.issuer


# ---- Settings ----


def test_a_mistake_in_the_settings_is_an_error_at_once(stepup_settings: StepUpSettings) -> None:
    with pytest.raises(Exception, match="unknown key 'LEEWEY'"):
        stepup_settings(LEEWEY=1)


def test_settings_are_changed_one_upon_the_other_and_put_back() -> None:
    overrides = site.Overrides()
    change = StepUpSettings(overrides)
    change(LEEWAY=1)
    change(MAX_PENDING=2, OIDC_TIMEOUT=3)
    assert (conf.current().leeway, conf.current().max_pending, conf.current().timeout) == (1, 2, 3)
    overrides.restore()
    assert (conf.current().leeway, conf.current().max_pending) == (30, 20)
    assert not hasattr(django_settings, "OIDC_TIMEOUT")


# ---- Factories ----


def test_users_are_made_without_a_password_or_with_one(db: None) -> None:
    first, second = UserFactory.create(), UserFactory.create(password="a password of this site")
    assert first.username != second.username
    assert not first.has_usable_password()
    assert second.check_password("a password of this site")
    assert not Identity.objects.filter(user=first).exists()


def test_users_can_be_made_without_being_stored() -> None:
    assert UserFactory.build(subject="auth0|x").pk is None


def test_users_that_are_told_a_subject_are_linked_to_it(db: None) -> None:
    user = UserFactory.create(subject="auth0|dora")
    assert user.stepup_identities.get().subject == "auth0|dora"


def test_a_factory_can_be_called() -> None:
    assert ClaimsFactory(nonce="n")["nonce"] == "n"


def test_claims_are_those_of_a_good_id_token_and_any_can_be_wrong_or_missing() -> None:
    good = ClaimsFactory.build()
    assert set(good) == {"iss", "sub", "aud", "iat", "exp", "auth_time"}
    assert (good["iss"], good["aud"]) == (conf.current().issuer, conf.current().client_id)
    odd = ClaimsFactory.build(exp=ABSENT, aud="another", age=60, nonce="n")
    assert set(odd) == {"iss", "sub", "aud", "iat", "auth_time", "nonce"}
    assert odd["aud"] == "another"
    assert good["iat"] - odd["iat"] in (59, 60)


def test_the_two_examples_are_traits() -> None:
    with_mfa, without = ClaimsFactory.build(with_mfa=True), ClaimsFactory.build(without_mfa=True)
    assert (with_mfa["amr"], with_mfa["acr"]) == (["mfa"], MULTI_FACTOR)
    assert set(with_mfa) - set(without) == {"amr", "acr"}
    assert "auth_time" not in with_mfa


def verified(token: str, alg: str = "RS256") -> Mapping[str, Any]:
    settings = conf.current()
    return id_token.verify(
        token,
        KeySet.from_jwks(tokens.jwks(*(KEYS[name] for name in ("rsa", "p256")))),
        issuer=settings.issuer,
        audiences=[settings.client_id],
        algorithms=[alg],
        now=clock.now(),
    )


def test_id_tokens_are_signed_as_the_site_wants_them() -> None:
    assert verified(IDTokenFactory.build(with_mfa=True))["amr"] == ["mfa"]
    assert verified(IDTokenFactory.build(alg="ES256"), "ES256")["sub"] == tokens.SUBJECT


@pytest.mark.parametrize(
    ("wrong", "claim"),
    [
        ({"aud": "another"}, "aud"),
        ({"exp": ABSENT}, "exp"),
        ({"key": "another"}, "kid"),
        ({"header": {"alg": "none"}}, "alg"),
        ({"age": 3600}, "exp"),
    ],
    ids=str,
)
def test_id_tokens_can_be_wrong_in_any_way(wrong: dict[str, Any], claim: str) -> None:
    if "key" in wrong:
        wrong = {"key": KEYS["other_rsa"]}
    with pytest.raises(ClaimError) as refused:
        verified(IDTokenFactory.build(**wrong))
    assert refused.value.claim in (claim, "signature")


def test_secrets_sign_too() -> None:
    token = IDTokenFactory.build(alg="HS256")
    assert jwt.decode(token, conf.current().client_secret, algorithms=["HS256"], audience="site")["sub"]


def test_logout_tokens_are_good_and_can_be_odd() -> None:
    settings = conf.current()
    keys = KeySet.from_jwks(tokens.jwks(KEYS["rsa"]))
    expected: dict[str, Any] = {
        "issuer": settings.issuer, "audiences": [settings.client_id], "algorithms": ["RS256"], "now": clock.now(),
    }  # fmt: skip
    assert logout_token.verify(LogoutTokenFactory.build(sub="auth0|dora"), keys, **expected).subject == "auth0|dora"
    with pytest.raises(ClaimError):
        logout_token.verify(LogoutTokenFactory.build(events=ABSENT), keys, **expected)


def test_keys_are_made_when_they_are_asked_for() -> None:
    assert len(KEYS) == len({KEYS[name].kid for name in KEYS if name != "rsa_1024"}) + 1


# ---- Assertions ----


@pytest.mark.parametrize(("path", "needs"), [("/decorated/", "mfa"), ("/sudo/", "sudo"), ("/class-async/", "mfa")])
def test_a_page_that_is_protected_is_found_to_be(db: None, path: str, needs: str) -> None:
    assert_protected(path, needs)


def test_a_page_is_visited_as_its_test_says(db: None, dora: User) -> None:
    assert_protected("/class/", user=dora, method="post", data={"n": "1"})
    assert_protected("/fresh/", "mfa", max_age=300)


def test_a_page_that_is_open_is_found_open_by_everybody(db: None) -> None:
    said = said_by(assert_protected, "/open/", "mfa")
    assert said.startswith("GET /open/ is not protected as it should be.\nNot signed in:\n")
    assert said.count("No step-up is asked for: it is status 200.") == 3
    assert "Nobody is signed in." in said
    assert "Missing: amr mfa is missing" in said
    assert "With proof:\n  It is open, but caches may keep it" in said


def test_a_page_that_asks_for_something_else_is_told(db: None) -> None:
    said = said_by(assert_protected, "/sudo/", "mfa")
    assert 'A step-up is asked for, but for sudo {"max_age": 300}.' in said
    assert 'Required: mfa {"acr_values"' in said
    assert "With proof:" not in said, "who has just authenticated is let in"


@pytest.mark.usefixtures("db", "more_urls")
def test_pages_that_need_several_proofs_or_new_ones_are_found_protected() -> None:
    assert_protected("/several/", ("mfa", "sudo"))
    assert_protected("/classes/", (GOLD, SILVER))
    assert_protected("/each-time/", "mfa", max_age=0)
    assert_protected("/forms/", Aged("mfa", 60, 600))
    assert_protected("/forms/", Aged("mfa", 60, 600), method="post")


@pytest.mark.usefixtures("db", "more_urls")
def test_of_several_proofs_only_those_that_are_enforced_are_asked_for(stepup_settings: StepUpSettings) -> None:
    stepup_settings(REPORT_ONLY=["sudo"])
    assert_protected("/several/", ("mfa", "sudo"))


@pytest.mark.usefixtures("db", "more_urls")
def test_pages_that_send_people_to_one_of_the_sites_own_are_found_protected() -> None:
    by_name, by_path = OWN
    assert_protected("/own-page-by-name/", by_name)
    assert_protected("/own-page-by-path/", by_path)
    said = said_by(assert_protected, "/own-page-by-path/", Requirement(amr=("hwk",), step_up_url="/open/?by=path"))
    assert (
        'With proof:\n  A step-up is still asked for: by-path {"amr": ["otp"], "step_up_url": "/open/?by=path"}.'
        in said
    )


@pytest.mark.usefixtures("more_urls")
@pytest.mark.parametrize(
    ("needs", "max_age"),
    [
        (Requirement(amr=("otp", "hwk"), step_up_url="open"), None),
        ((OWN[0], "mfa"), None),
        ("own", 10),
        ("more", None),
    ],
    ids=str,
)
def test_a_door_that_sends_people_to_the_same_page_for_less_is_found_wanting(
    stepup_client: StepUpClient, stepup_settings: StepUpSettings, needs: Any, max_age: int | None
) -> None:
    stepup_settings(
        REQUIREMENTS={
            "own": {"amr": ["otp"], "step_up_url": "open"},
            "more": {"amr": ["otp", "hwk"], "step_up_url": "open"},
            "sudo": {"max_age": 300},
        }
    )
    stepup_client.sign_in()
    asked = stepup_client.get("/own-page-by-name/")
    assert_step_up_required(asked, "own")
    said = said_by(assert_step_up_required, asked, needs, max_age=max_age)
    assert said.startswith('A step-up is asked for, but for by-name {"amr": ["otp"], "step_up_url": "open"}.')
    assert "is not protected" in said_by(assert_protected, "/own-page-by-name/", needs, max_age=max_age)


@pytest.mark.usefixtures("more_urls")
def test_a_form_is_sent_to_one_of_the_sites_own_pages_too(stepup_client: StepUpClient) -> None:
    stepup_client.sign_in()
    asked = stepup_client.post("/own-page-by-name/", {"n": "1"})
    assert (asked.status_code, asked["Location"].partition("?")[0]) == (303, "/open/")
    assert_step_up_required(asked, OWN[0])


def test_proof_of_any_age_is_enough_where_the_site_says_so(db: None, stepup_settings: StepUpSettings) -> None:
    assert_protected("/decorated/")
    stepup_settings(MAX_EVIDENCE_AGE=None)
    assert_protected("/decorated/")


@pytest.mark.usefixtures("more_urls")
def test_a_page_that_is_shut_to_those_with_proof_is_told(db: None) -> None:
    assert "With proof:\n  It is shut: status 404." in said_by(assert_protected, "/staff/")
    assert "With proof:\n  A step-up is still asked for: " in said_by(assert_protected, "/own/", "sudo")
    assert "still asked for: signing in" in said_by(assert_protected, "/signing-in/")
    assert "Not signed in:\n  Signing in is asked for, and no step-up." in said_by(assert_protected, "/signing-in/")
    assert "status 302, to /other/" in said_by(assert_protected, "/elsewhere/")
    assert "caches may keep it" in said_by(assert_protected, "/by-hand/")


def test_a_client_with_too_little_is_told_what_is_missing(stepup_client: StepUpClient, dora: User) -> None:
    assert "Nobody is signed in." in said_by(assert_satisfied, stepup_client)
    stepup_client.sign_in(dora, amr=["pwd"], age=5, auth_time=ABSENT)
    assert said_by(assert_satisfied, stepup_client, "mfa").splitlines() == [
        "mfa is not satisfied.",
        f'Required: mfa {{"acr_values": ["{MULTI_FACTOR}"], "amr": ["mfa"]}}',
        "Proved by dora: amr pwd (nobody says when)",
        "Missing: amr mfa is missing",
    ]
    stepup_client.elevate("mfa", age=400)
    said = said_by(assert_satisfied, stepup_client, "mfa", max_age=300)
    assert "amr mfa (40" in said
    assert "authentication (40" in said
    assert "Missing: amr mfa is stale" in said
    stepup_client.force_login(UserFactory.create(), backend="stepup.backends.StepUpBackend")
    said = said_by(assert_satisfied, stepup_client, Requirement(acr=("gold", "silver")))
    assert "The requirement is not satisfied." in said
    assert "Missing: acr gold or silver is missing" in said
    assert ": nothing" in said


def test_a_client_that_has_proved_nothing_but_a_sign_in_is_told(stepup_client: StepUpClient, dora: User) -> None:
    stepup_client.sign_in(dora, auth_time=ABSENT)
    assert "Proved by dora: nothing" in said_by(assert_satisfied, stepup_client)


def test_nothing_is_satisfied_where_step_up_is_off(
    stepup_client: StepUpClient, stepup_settings: StepUpSettings
) -> None:
    stepup_client.elevate("mfa")
    stepup_settings(CLIENTS_WITH_MFA=["another"])
    assert "CLIENTS_WITH_MFA leaves out" in said_by(assert_satisfied, stepup_client)
    assert "CLIENTS_WITH_MFA leaves out" in said_by(assert_protected, "/decorated/")
    stepup_settings(CLIENTS_WITH_MFA=["site"], REPORT_ONLY=["mfa"])
    assert "REPORT_ONLY names it" in said_by(assert_satisfied, stepup_client)
    assert "REPORT_ONLY names it" in said_by(assert_protected, "/decorated/")


@pytest.mark.usefixtures("more_urls")
@pytest.mark.parametrize("path", NO_CHALLENGES)
def test_what_looks_like_a_challenge_and_is_none_is_not_taken_for_one(stepup_client: StepUpClient, path: str) -> None:
    stepup_client.get("/decorated/")
    assert "No step-up is asked for" in said_by(assert_step_up_required, stepup_client.get(path))


def test_a_provider_that_cannot_be_asked_is_told(db: None, settings: Any) -> None:
    settings.STEPUP = {**settings.STEPUP, "ISSUER": "http://127.0.0.1:1/"}
    response = Client().get("/decorated/")
    assert "because the provider could not be asked" in said_by(assert_step_up_required, response)


def test_a_verdict_is_told(stepup_client: StepUpClient) -> None:
    response = stepup_client.get("/oidc/callback/?state=unknown")
    assert "status 400, with the verdict expired" in said_by(assert_step_up_required, response)


def test_a_response_that_no_test_client_has_got_is_no_answer() -> None:
    assert "HttpResponse is no response" in said_by(assert_step_up_required, HttpResponse())


def test_a_challenge_without_a_body_asks_too_and_cannot_be_followed(stepup_client: StepUpClient) -> None:
    asked = stepup_client.head("/decorated/")
    assert (asked.status_code, asked.content) == (401, b"")
    assert_step_up_required(asked, "mfa")
    assert said_by(stepup_client.step_up, asked) == (
        "The challenge has no body to say where it leads to: ask for the page with GET."
    )
    assert_protected("/decorated/", "mfa", method="head")


def test_a_request_that_was_pushed_asks_for_what_it_was_pushed_for(
    stepup_provider: RunningProvider, stepup_client: StepUpClient, stepup_settings: StepUpSettings
) -> None:
    stepup_settings(PUSHED_REQUESTS=True)
    asked, sudo = stepup_client.get("/decorated/"), stepup_client.get("/sudo/")
    assert "state=" not in asked["Location"]
    assert_step_up_required(asked, "mfa")
    assert_step_up_required(sudo, "sudo")
    assert "but for sudo" in said_by(assert_step_up_required, sudo, "mfa")


def test_a_session_that_has_gone_is_no_challenge(stepup_client: StepUpClient, more_urls: None) -> None:
    stepup_client.sign_in()
    asked = stepup_client.get("/ending/")
    assert (asked.status_code, asked["Location"]) == (302, "/ending/")
    assert "No step-up is asked for" in said_by(assert_step_up_required, asked)


def test_django_clients_do_where_nothing_is_proved(db: None, stepup_settings: StepUpSettings) -> None:
    stepup_settings.need_no_provider()
    assert_step_up_required(Client().get("/decorated/"), "mfa")


# ---- The whole site ----


@pytest.fixture
def reviewed(tmp_path: Path, more_urls: None) -> Path:
    file = tmp_path / "protected-views.txt"
    call_command("stepup_status", write=str(file), stdout=StringIO())
    return file


def test_a_site_is_protected_as_its_list_says_and_really_asks(db: None, reviewed: Path) -> None:
    visited = assert_site_protected(reviewed, arguments={"payslip": {"pk": 27}})
    assert {"/decorated/", "/by-name/", "/payroll/list/", "/payslip/27/"} <= set(visited)
    assert "/open/" not in visited
    assert "/payslip/1/" in assert_site_protected(reviewed), "where no arguments are given, some are made up"


def test_what_need_not_be_visited_is_not(db: None, reviewed: Path) -> None:
    everything = set(assert_site_protected(reviewed))
    left_out = everything - set(assert_site_protected(reviewed, unvisited=["payslip", "payroll:*"]))
    assert {"/payslip/1/", "/payroll/list/"} <= left_out
    assert all(path.startswith(("/payslip/", "/payroll/")) for path in left_out)


def test_names_of_urls_that_there_are_not_are_told(db: None, reviewed: Path) -> None:
    said = said_by(assert_site_protected, reviewed, arguments={"paslip": {"pk": 1}}, unvisited=["payrol:*", "payslip"])
    assert said.splitlines()[1:] == [f"There is no URL {name}, which is named here." for name in ("paslip", "payrol:*")]


@pytest.mark.parametrize(("given", "why"), [({"id": 1}, "does not take id"), ({}, "does not take no arguments")])
def test_arguments_that_do_not_fit_are_told(db: None, reviewed: Path, given: dict[str, int], why: str) -> None:
    said = said_by(assert_site_protected, reviewed, arguments={"payslip": given})
    assert said.splitlines()[1:] == [
        f"payslip was not visited: its URL {why}. Give arguments, or name it in unvisited."
    ]


def listed(tmp_path: Path, settings: Any, *urls: Any) -> Path:
    """The list of a site that has these URLs, as it is."""
    settings.ROOT_URLCONF = type("Site", (), {"urlpatterns": [ROUND_TRIP, *urls]})
    found = tmp_path / "list"
    call_command("stepup_status", write=str(found), stdout=StringIO())
    return found


def once_signed_in(request: HttpRequest) -> HttpResponse:
    return open_to_all(request) if request.user.is_authenticated else mfa_required(open_to_all)(request)


def signing_in_first(request: HttpRequest) -> HttpResponse:
    return HttpResponseRedirect("/oidc/authenticate/?next=/")


def looking_protected(view: Any) -> Any:
    """What was noted on the view is there still, and its door is not."""
    view.stepup_doors = mfa_required(open_to_all).stepup_doors  # type: ignore[attr-defined]
    return view


class OnlyPosts(View):
    """A door of one method."""

    @method_decorator(mfa_required)
    def post(self, request: HttpRequest) -> HttpResponse:
        return open_to_all(request)


class HalfOpen(View):
    """Two doors, of which one is not there."""

    @method_decorator(mfa_required)
    def get(self, request: HttpRequest) -> HttpResponse:
        return open_to_all(request)

    def post(self, request: HttpRequest) -> HttpResponse:
        return open_to_all(request)


HalfOpen.post.stepup_doors = (("decorator", "sudo"),)  # type: ignore[attr-defined]
PROTECTED = mfa_required(open_to_all)
#: What each site has.
ROUND_TRIP = path("oidc/", include("stepup.urls"))
NOT_FILLED_IN = (
    "page was not visited: its URL, /page/(\\w+)/$, is not one that arguments can be made up for. "
    "Give arguments, or name it in unvisited."
)
OPEN_PAGES = [
    (
        path("page/", looking_protected(lambda request: HttpResponse("all")), name="page"),
        [f"page: GET /page/ asks {who} for no step-up: it is status 200."
         for who in ("anybody", "somebody who has proved nothing")],
    ),
    (
        path("page/", looking_protected(once_signed_in), name="page"),
        ["page: GET /page/ asks somebody who has proved nothing for no step-up: it is status 200."],
    ),
    (
        path("page/", looking_protected(signing_in_first), name="page"),
        ["page: GET /page/ asks somebody who has proved nothing to sign in, and for no step-up."],
    ),
    (
        path("page/", looking_protected(staff_only), name="page"),
        [f"page: GET /page/ asks {who} for no step-up: it is status 404."
         for who in ("anybody", "somebody who has proved nothing")],
    ),
    (
        re_path(r"^page/(\w+)/$", PROTECTED, name="page"),
        [NOT_FILLED_IN],
    ),
]  # fmt: skip


@pytest.mark.parametrize(("url", "problems"), OPEN_PAGES)
def test_a_page_that_asks_one_of_its_visitors_for_nothing_is_told(
    db: None, tmp_path: Path, settings: Any, url: Any, problems: list[str]
) -> None:
    said = said_by(assert_site_protected, listed(tmp_path, settings, url))
    assert said.splitlines()[1:] == problems


def test_a_page_that_another_hides_is_told(db: None, tmp_path: Path, settings: Any) -> None:
    hidden = listed(
        tmp_path, settings, path("<slug:any>/", open_to_all, name="any"), path("page/", PROTECTED, name="page")
    )
    said = said_by(assert_site_protected, hidden)
    assert said.splitlines()[1] == (
        "page was not visited: /page/ leads to another view. Give arguments, or name it in unvisited."
    )


def test_pages_without_a_name_with_arguments_of_each_kind_and_for_some_methods_are_visited(
    db: None, tmp_path: Path, settings: Any
) -> None:
    found = listed(
        tmp_path,
        settings,
        path("unnamed/", PROTECTED),
        path("a/<int:a>/<slug:b>/<uuid:c>/<d>/<path:e>", PROTECTED, name="arguments"),
        path("posted/", require_POST(PROTECTED), name="posted"),
        path("half/", OnlyPosts.as_view(), name="half"),
        path("staff-first/", login_required(PROTECTED, login_url="/elsewhere/"), name="staff-first"),
    )
    assert assert_site_protected(found) == [
        "/unnamed/",
        "/a/1/x/00000000-0000-0000-0000-000000000000/x/x",
        "/posted/",
        "/half/",
        "/staff-first/",
    ]


def test_of_urls_with_one_name_each_is_visited_whichever_the_arguments_are_for(
    db: None, tmp_path: Path, settings: Any
) -> None:
    undone = looking_protected(lambda request, pk: HttpResponse("all"))
    urls = path("page/", PROTECTED, name="page"), path("page/<int:pk>/", undone, name="page")
    said = said_by(assert_site_protected, listed(tmp_path, settings, *urls), arguments={"page": {}})
    assert [line.partition(" asks ")[0] for line in said.splitlines()[1:]] == ["page: GET /page/1/"] * 2


def test_each_method_that_has_a_door_is_tried(db: None, tmp_path: Path, settings: Any) -> None:
    found = listed(tmp_path, settings, path("half/", HalfOpen.as_view(), name="half"))
    assert "half  GET: mfa + POST: sudo" in found.read_text()
    said = said_by(assert_site_protected, found)
    assert [line.partition(" asks ")[0] for line in said.splitlines()[1:]] == ["half: POST /half/"] * 2


def test_a_site_that_wants_tls_is_visited_with_it(db: None, reviewed: Path, settings: Any) -> None:
    settings.MIDDLEWARE = ["django.middleware.security.SecurityMiddleware", *settings.MIDDLEWARE]
    settings.SECURE_SSL_REDIRECT = True
    assert assert_site_protected(reviewed)


def test_a_site_may_want_its_visitors_to_be_somebody(db: None, reviewed: Path, settings: Any, dora: User) -> None:
    settings.AUTHENTICATION_BACKENDS = ["tests.test_kit.Picky"]
    with pytest.raises(AccountRefused):
        assert_site_protected(reviewed)
    assert assert_site_protected(reviewed, user=dora, claims={"groups": ["staff"]})
    assert_protected("/decorated/", claims={"groups": ["staff"]})


def test_a_site_that_differs_from_its_list_is_told_how(
    db: None, reviewed: Path, stepup_settings: StepUpSettings
) -> None:
    stepup_settings(PROTECTED_VIEWS={"payroll:*": "mfa"})
    said = said_by(assert_site_protected, reviewed)
    assert said.startswith(
        f"The site is not protected as {reviewed} says.\nby-name has lost its protection: it was mfa."
    )


def test_a_page_that_opens_for_anybody_whatever_is_noted_on_it_is_told(
    db: None, reviewed: Path, stepup_settings: StepUpSettings
) -> None:
    stepup_settings(CLIENTS_WITH_MFA=["another"])
    assert said_by(assert_site_protected, reviewed) == (
        "Nothing needs to be proved here. Step-up is off: CLIENTS_WITH_MFA leaves out this site's client id."
    )
    stepup_settings(CLIENTS_WITH_MFA=["site"], REPORT_ONLY=["mfa"])
    said = said_by(assert_site_protected, reviewed)
    assert "decorated requires mfa (report only), and it was mfa." in said


def test_a_redirect_is_no_page_unless_the_test_says_so(db: None, more_urls: None) -> None:
    said = said_by(assert_protected, "/bounces/")
    assert said.splitlines()[1:] == ["With proof:", "  It is shut: status 302, to /accounts/login/."]
    assert_protected("/bounces/", status=302)
    assert "It is shut: status 302" in said_by(assert_protected, "/bounces/", status=200)
    assert_protected("/bounces/", method="post")


def test_what_is_sent_along_is_a_part_of_the_page_that_is_shown_once(db: None, more_urls: None) -> None:
    assert_protected("/each-time/", max_age=0, data={"q": "1", "r": ["a", "b"]}, headers={"Accept": "text/html"})
    assert "It is shut" not in said_by(assert_protected, "/each-time/", "sudo", data={"q": "1"})


def test_a_site_that_wants_tls_is_asked_with_it(db: None, settings: Any) -> None:
    settings.MIDDLEWARE = ["django.middleware.security.SecurityMiddleware", *settings.MIDDLEWARE]
    settings.SECURE_SSL_REDIRECT = True
    said = said_by(assert_protected, "/decorated/")
    assert "it is status 301, to https://testserver/decorated/: ask with secure=True." in said
    assert "Who asks was not looked at" in said
    assert_protected("/decorated/", secure=True)


def test_another_client_than_those_of_the_kit_is_told(db: None) -> None:
    with pytest.raises(TypeError, match="Client is no client of the kit"):
        assert_satisfied(Client())


def test_why_proof_that_is_new_does_not_satisfy_an_age_of_nothing_is_said(stepup_client: StepUpClient) -> None:
    stepup_client.elevate("mfa")
    assert said_by(assert_satisfied, stepup_client, max_age=0).splitlines()[-1] == (
        "A max_age of 0 is satisfied by one showing of one page, and else never: ask for the page."
    )


def test_a_user_who_cannot_be_made_is_for_the_test_to_give(stepup_client: StepUpClient) -> None:
    def want_more(**_: Any) -> None:
        raise IntegrityError("NOT NULL constraint failed: department")

    pre_save.connect(want_more, sender=User)
    try:
        said = said_by(stepup_client.sign_in)
    finally:
        pre_save.disconnect(want_more, sender=User)
    assert said == (
        "No user could be made, so that the test has to give one: "
        "IntegrityError('NOT NULL constraint failed: department')"
    )


def test_an_unknown_list_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        assert_site_protected(tmp_path / "none")
