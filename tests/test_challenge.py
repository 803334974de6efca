"""`stepup.challenge`: authentication requests, where they lead afterwards, and who they are sent for."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import jwt
import pytest
from cryptography.hazmat.primitives.serialization import load_pem_public_key
from django.contrib.auth.models import User
from django.test import Client

from stepup import Requirement, challenge, conf
from stepup.dialects import MULTI_FACTOR
from stepup.testing.provider import Client as OPClient
from stepup.testing.provider import Configuration, launch
from stepup.testing.provider.launcher import RunningProvider
from stepup.views import AuthenticationRequestView
from tests import hostile_op
from tests.hostile_op import HostileOP
from tests.tokens import KEYS
from tests.visitor import Visitor, query, with_query

HOSTILE_NEXT = [
    "//evil.example",
    "///evil.example",
    "/\\evil.example",
    "\\\\evil.example",
    "https:evil.example",
    "https://evil.example/",
    "http://testserver@evil.example/",
    "http://testserver.evil.example/",
    "http:///evil.example",
    "javascript:alert(1)",
    "data:text/html,x",
    "\t//evil.example",
    "/\t/evil.example",
    "/\n/evil.example",
    "/ok\r\nSet-Cookie: a=b",
    "http://[::1",
    "http://[evil/",
    "/\x00",
    "",
    "/" + "a" * 2001,
]


@pytest.mark.parametrize("url", HOSTILE_NEXT)
def test_next_never_leaves_the_site(rf: Any, url: str) -> None:
    assert challenge.safe_next(rf.get("/"), url) == "/"


@pytest.mark.parametrize("url", ["/salary/?month=5#top", "http://testserver/salary/", "/%2f%2fevil.example", "?page=2"])
def test_next_on_this_site_is_kept(rf: Any, url: str) -> None:
    assert challenge.safe_next(rf.get("/"), url) == url


def test_next_may_lead_to_hosts_that_the_settings_allow(rf: Any, settings: Any) -> None:
    settings.OIDC_REDIRECT_ALLOWED_HOSTS = ["intranet.example"]
    assert challenge.safe_next(rf.get("/"), "https://intranet.example/") == "https://intranet.example/"


def test_next_does_not_fall_back_from_https_to_http(rf: Any, settings: Any) -> None:
    assert challenge.safe_next(rf.get("/", secure=True), "http://testserver/") == "/"
    settings.OIDC_REDIRECT_REQUIRE_HTTPS = False
    assert challenge.safe_next(rf.get("/", secure=True), "http://testserver/") == "http://testserver/"


@pytest.mark.parametrize("url", HOSTILE_NEXT)
def test_a_sign_in_with_a_hostile_next_ends_on_this_site(visitor: Visitor, url: str) -> None:
    started = visitor.client.get("/oidc/authenticate/", {"next": url})
    back = visitor.come_back(visitor.authenticate(started, None))

    assert (back.status_code, back["Location"]) == (302, "/")


def test_forwarded_headers_change_no_redirect_uri_unless_django_is_told_to_trust_them(
    op: RunningProvider, settings: Any
) -> None:
    headers = {"X-Forwarded-Host": "evil.example", "X-Forwarded-Proto": "https"}
    sent = query(Client().get("/decorated/", headers=headers)["Location"])
    assert sent["redirect_uri"] == "http://testserver/oidc/callback/"

    settings.SECURE_PROXY_SSL_HEADER = ("HTTP_X_FORWARDED_PROTO", "https")
    sent = query(Client().get("/decorated/", headers=headers)["Location"])
    assert sent["redirect_uri"].startswith("https://testserver")


def test_an_essential_requirement_is_asked_through_the_claims_parameter(op: RunningProvider, settings: Any) -> None:
    settings.STEPUP = {
        **settings.STEPUP,
        "REQUIREMENTS": {
            "mfa": {
                "acr_values": ["gold", "silver"],
                "acr": ["gold", "silver"],
                "claims": {"acrs": ["c1"]},
                "essential": True,
                "prompt": "select_account",
                "params": {"ui_hint": "gold"},
            },
            "sudo": {"max_age": 300},
        },
    }

    sent = query(Client().get("/decorated/")["Location"])

    assert json.loads(sent["claims"]) == {
        "id_token": {
            "acr": {"essential": True, "values": ["gold", "silver"]},
            "acrs": {"essential": True, "value": "c1"},
        }
    }
    assert "acr_values" not in sent
    assert (sent["prompt"], sent["ui_hint"]) == ("select_account", "gold")


def test_an_essential_requirement_without_acr_asks_for_its_other_claims_alone(
    op: RunningProvider, settings: Any
) -> None:
    settings.STEPUP = {
        **settings.STEPUP,
        "PROVIDER": "generic",
        "REQUIREMENTS": {"mfa": {"claims": {"acrs": ["c1"]}, "essential": True}, "sudo": {"max_age": 300}},
    }

    sent = query(Client().get("/decorated/")["Location"])

    assert json.loads(sent["claims"]) == {"id_token": {"acrs": {"essential": True, "value": "c1"}}}


def test_a_requirement_of_the_views_own_is_asked_with_its_own_acr_values(op: RunningProvider) -> None:
    assert query(Client().get("/own/")["Location"])["acr_values"] == "urn:own"


def test_the_user_who_is_signed_in_is_hinted_by_email(visitor: Visitor) -> None:
    assert "login_hint" not in query(visitor.get("/decorated/")["Location"])
    visitor.sign_in()
    assert query(visitor.get("/decorated/")["Location"])["login_hint"] == "anna@harbour.example"


def test_a_user_without_email_is_not_hinted(op: RunningProvider, client: Client) -> None:
    client.force_login(User.objects.create_user("nobody"), "stepup.backends.StepUpBackend")
    assert "login_hint" not in query(client.get("/decorated/")["Location"])


def test_the_id_token_is_the_hint_on_sites_that_keep_it_unless_it_is_too_long(visitor: Visitor, settings: Any) -> None:
    settings.OIDC_STORE_ID_TOKEN = True
    visitor.sign_in()
    sent = query(visitor.get("/decorated/")["Location"])
    assert sent["id_token_hint"] == visitor.session["oidc_id_token"]
    assert "login_hint" not in sent

    session = visitor.session
    session["oidc_id_token"] = "x" * 1501
    session.save()
    sent = query(visitor.get("/decorated/")["Location"])
    assert "id_token_hint" not in sent
    assert sent["login_hint"] == "anna@harbour.example"


@pytest.mark.parametrize(("configured", "sent"), [("email", "openid email"), ("email openid", "email openid")])
def test_the_scope_always_has_openid(op: RunningProvider, settings: Any, configured: str, sent: str) -> None:
    settings.OIDC_RP_SCOPES = configured
    assert query(Client().get("/decorated/")["Location"])["scope"] == sent


def test_an_authorization_endpoint_that_has_a_query_keeps_it(op: RunningProvider, settings: Any) -> None:
    settings.OIDC_OP_AUTHORIZATION_ENDPOINT = "https://op.example/authorize?policy=b2c"
    assert Client().get("/decorated/")["Location"].startswith("https://op.example/authorize?policy=b2c&")


class Localized(AuthenticationRequestView):
    def get_extra_params(self, request: Any) -> dict[str, str]:
        return {**super().get_extra_params(request), "ui_locales": "de", "state": "fixed", "scope": "openid phone"}


def test_the_sites_own_extra_parameters_go_with_every_request_but_replace_none_of_ours(
    op: RunningProvider, settings: Any
) -> None:
    settings.OIDC_AUTHENTICATE_CLASS = "tests.test_challenge.Localized"
    settings.OIDC_AUTH_REQUEST_EXTRA_PARAMS = {"acr_values": "bronze"}

    sent = query(Client().get("/decorated/")["Location"])

    assert (sent["ui_locales"], sent["scope"]) == ("de", "openid phone")
    assert sent["state"] != "fixed"
    assert sent["acr_values"] == MULTI_FACTOR


def test_extra_parameters_come_from_settings_where_the_view_is_not_ours(op: RunningProvider, settings: Any) -> None:
    settings.OIDC_AUTHENTICATE_CLASS = "mozilla_django_oidc.views.OIDCAuthenticationRequestView"
    settings.OIDC_AUTH_REQUEST_EXTRA_PARAMS = {"ui_locales": "fr"}
    assert query(Client().get("/decorated/")["Location"])["ui_locales"] == "fr"


def test_where_the_op_does_not_answer_the_page_says_so_and_nobody_is_signed_out(
    visitor: Visitor, settings: Any
) -> None:
    visitor.sign_in()
    settings.STEPUP = {**settings.STEPUP, "ISSUER": "http://127.0.0.1:9/"}

    response = visitor.get("/decorated/")

    assert (response.status_code, response.context["verdict"]) == (503, "unavailable")
    assert response.context["retry_url"] == "/oidc/authenticate/?next=%2Fdecorated%2F&stepup=mfa"
    assert visitor.session["_auth_user_id"]


@pytest.fixture
def signing(settings: Any) -> Iterator[RunningProvider]:
    """An OP that takes signed requests of this site alone, and the site that signs them."""
    key = KEYS["p256"]
    site = OPClient(
        client_id="site",
        client_secret="",
        redirect_uris=("http://testserver/oidc/callback/",),
        public_key=key.pem.decode(),
        require_signed=True,
    )
    with launch(Configuration(purpose="tests", clients=(site,))) as op:
        settings.STEPUP = {
            **settings.STEPUP,
            "ISSUER": op.issuer,
            "SIGNED_REQUESTS": True,
            "CLIENT_AUTHENTICATION": "private_key_jwt",
            "PRIVATE_KEY": key.private_pem,
        }
        yield op


@pytest.mark.parametrize("pushed", [False, True])
def test_a_signed_request_is_answered_as_it_was_made_and_no_other(
    db: None, signing: RunningProvider, settings: Any, pushed: bool
) -> None:
    settings.STEPUP = {**settings.STEPUP, "PUSHED_REQUESTS": pushed}
    settings.OIDC_AUTH_REQUEST_EXTRA_PARAMS = {"claims": '{"userinfo": {"email": null}}'}
    visitor = Visitor("anna")

    challenge = visitor.get("/fresh/")

    sent = query(challenge["Location"])
    assert sent.keys() == (
        {"client_id", "request_uri"} if pushed else {"client_id", "response_type", "scope", "request"}
    )
    if not pushed:
        public: Any = load_pem_public_key(KEYS["p256"].pem)
        claims = jwt.decode(sent["request"], public, ["ES256"], audience=signing.issuer, issuer="site")
        assert jwt.get_unverified_header(sent["request"])["typ"] == "oauth-authz-req+jwt"
        assert claims["claims"] == {"userinfo": {"email": None}}
        assert (claims["max_age"], claims["acr_values"], claims["client_id"]) == (300, MULTI_FACTOR, "site")
        assert claims["nbf"] == claims["iat"] == claims["exp"] - 330, "an OP's clock may be behind by the leeway"
        tampered = with_query(challenge["Location"], acr_values=None, scope="openid")
        assert visitor.come_back(visitor.person.authenticate(tampered))["Location"] == "/fresh/"
    else:
        assert visitor.come_back(visitor.authenticate(challenge))["Location"] == "/fresh/"
    assert visitor.get("/fresh/").status_code == 200


def test_a_request_that_cannot_be_signed_is_not_sent_unsigned_instead(
    db: None, signing: RunningProvider, settings: Any
) -> None:
    settings.STEPUP = {**settings.STEPUP, "PRIVATE_KEY": "junk"}
    client = Client()

    refused = client.get("/decorated/")

    assert (refused.status_code, refused.context["verdict"]) == (503, "unavailable")
    assert refused.context["reasons"] == ["authorize: private key not usable"]
    assert "stepup_pending" not in client.session


@pytest.fixture
def pushing(settings: Any) -> Iterator[HostileOP]:
    with HostileOP() as op:
        settings.STEPUP = {**settings.STEPUP, "ISSUER": op.url, "PUSHED_REQUESTS": True}
        op.metadata["pushed_authorization_request_endpoint"] = op.at("/par")
        yield op


def test_a_pushed_request_leaves_nothing_in_the_url_to_change(db: None, pushing: HostileOP) -> None:
    pushing.answers["/par"] = hostile_op.answer({"request_uri": "urn:r:1", "expires_in": 60}, 201)
    client = Client()

    sent = query(client.get("/decorated/")["Location"])

    assert sent == {"client_id": "site", "request_uri": "urn:r:1"}
    (request,) = pushing.asked("/par")
    (state,) = client.session["stepup_pending"]
    assert request.form["state"] == state
    assert request.form["acr_values"] == MULTI_FACTOR
    assert request.form["code_challenge_method"] == "S256"


@pytest.mark.parametrize(
    ("said", "status", "reason"),
    [
        ({"error": "invalid_request"}, 400, "token request refused: invalid_request"),
        ({}, 500, "par: status 500"),
    ],
)
def test_a_request_that_cannot_be_pushed_is_not_sent_openly_instead(
    db: None, pushing: HostileOP, said: dict[str, str], status: int, reason: str
) -> None:
    pushing.answers["/par"] = hostile_op.answer(said, status)
    client = Client()

    response: Any = client.get("/decorated/")

    assert (response.status_code, response.context["verdict"]) == (503, "unavailable")
    assert response.context["reasons"] == [reason]
    assert "stepup_pending" not in client.session


def test_a_step_up_url_of_a_named_requirement_names_it() -> None:
    named = Requirement(name="mfa", amr=("mfa",), acr_values=(MULTI_FACTOR,))
    assert challenge.step_up_url(named, "/a/") == "/oidc/authenticate/?next=%2Fa%2F&stepup=mfa"
    assert challenge.step_up_url(None, "/a/") == "/oidc/authenticate/?next=%2Fa%2F"


def test_a_step_up_url_of_another_requirement_is_signed_and_reads_back(rf: Any) -> None:
    own = Requirement(name="own", acr=("urn:own",), max_age=60)
    request = rf.get(challenge.step_up_url(own, "/a/", again=True))

    assert challenge.requirement_from(request) == own
    assert request.GET["again"] == "1"


def test_a_requirement_that_only_shares_a_name_with_one_of_the_settings_is_not_taken_for_it(rf: Any) -> None:
    other = Requirement(name="mfa", acr=("urn:own",))
    assert challenge.requirement_from(rf.get(challenge.step_up_url(other, "/a/"))) == other


@pytest.mark.parametrize("text", ["unknown", "", "eyJhbXIiOlsibWZhIl19:1:2", '{"max_age": 99999}'])
def test_a_requirement_that_this_site_did_not_sign_is_refused(op: RunningProvider, text: str) -> None:
    response: Any = Client().get("/oidc/authenticate/", {"stepup": text})

    assert (response.status_code, response.context["verdict"]) == (400, "expired")


def test_a_page_that_still_asks_after_a_satisfied_step_up_is_answered_and_not_sent_round_again(
    visitor: Visitor, settings: Any
) -> None:
    back = visitor.step_up("/decorated/")
    assert back["Location"] == "/decorated/"
    # The page and the callback disagree: here because what was proved has been taken off the session in between.
    session = visitor.session
    del session["stepup"]
    session.save()

    response = visitor.get("/decorated/")

    assert (response.status_code, response.context["verdict"]) == (403, "ignored")
    assert visitor.get("/class/").status_code == 302, "another page is another matter"


# What the test kit reads


@pytest.mark.parametrize(
    ("status", "headers"),
    [
        (302, {}),
        (401, {"HX-Request": "true"}),
        (401, {"Accept": "application/json"}),
    ],
)
@pytest.mark.parametrize(("path", "needs"), [("/decorated/", "mfa"), ("/sudo/", "sudo")])
def test_each_challenge_has_a_note_of_what_it_asks_for(
    visitor: Visitor, path: str, needs: str, status: int, headers: dict[str, str]
) -> None:
    visitor.sign_in()
    asked = visitor.get(path, **headers)
    assert asked.status_code == status
    assert asked._stepup_requirement == conf.current().requirements[needs]


def test_a_challenge_to_a_form_that_is_not_kept_has_the_note_too(visitor: Visitor, settings: Any) -> None:
    settings.STEPUP = {**settings.STEPUP, "KEEP_FORMS": False}
    visitor.sign_in()
    asked: Any = visitor.client.post("/decorated/")
    assert asked.status_code == 403
    assert asked._stepup_requirement.name == "mfa"


def test_a_redirect_to_a_page_of_the_sites_own_has_the_note_too_and_one_to_sign_in_a_note_of_nothing(
    visitor: Visitor, settings: Any
) -> None:
    own = {"sudo": {"max_age": 300}, "mfa": {"amr": ["otp"], "step_up_url": "open"}}
    settings.STEPUP = {**settings.STEPUP, "REQUIREMENTS": own}
    assert visitor.get("/oidc/authenticate/")._stepup_requirement is None
    visitor.sign_in()
    asked = visitor.get("/decorated/")
    assert asked["Location"] == "/open/?next=%2Fdecorated%2F"
    assert asked._stepup_requirement == conf.current().requirements["mfa"]
