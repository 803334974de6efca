"""The round trip end to end: a site, a real OP over HTTP, real signed ID tokens."""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Callable
from typing import Any
from urllib.parse import urlsplit

import pytest
from django.contrib.auth import get_user_model
from django.contrib.auth.models import User

from stepup import session as stepup_session
from stepup.dialects import MULTI_FACTOR
from stepup.models import Identity
from stepup.testing.provider.launcher import RunningProvider
from tests.test_session import bytes_added_to
from tests.urls import SECRET
from tests.visitor import CALLBACK, Visitor, query, with_query


def is_shown(response: Any) -> bool:
    return bool(response.status_code == 200 and response.content.decode() == SECRET)


def signed_in_as(visitor: Visitor) -> User | None:
    pk = visitor.session.get("_auth_user_id")
    return None if pk is None else get_user_model().objects.get(pk=pk)


def test_the_salary_page_opens_after_multi_factor_authentication(visitor: Visitor) -> None:
    back = visitor.step_up("/decorated/")

    assert back.status_code == 302
    assert back["Location"] == "/decorated/"
    assert is_shown(visitor.get("/decorated/"))


def test_the_second_visit_asks_nothing(visitor: Visitor, op: RunningProvider) -> None:
    visitor.step_up("/decorated/")
    visitor.get("/decorated/")
    op.reset()

    assert is_shown(visitor.get("/decorated/"))
    assert op.requests() == []


def test_a_new_session_asks_again(visitor: Visitor) -> None:
    visitor.step_up("/decorated/")
    visitor.client.post("/oidc/logout/")

    assert visitor.get("/decorated/").status_code == 302


def test_a_user_who_is_signed_in_steps_up_and_stays_signed_in(visitor: Visitor) -> None:
    visitor.sign_in()
    before = signed_in_as(visitor)
    assert visitor.get("/decorated/").status_code == 302

    visitor.step_up("/decorated/")

    assert signed_in_as(visitor) == before
    assert is_shown(visitor.get("/decorated/"))


def test_the_authentication_request_carries_what_the_specification_asks(visitor: Visitor, settings: Any) -> None:
    settings.STEPUP = {**settings.STEPUP, "AUDIENCE": "https://api.example/"}

    sent = query(visitor.get("/decorated/")["Location"])

    assert sent["response_type"] == "code"
    assert sent["client_id"] == "site"
    assert sent["redirect_uri"] == CALLBACK
    assert "openid" in sent["scope"].split()
    assert sent["audience"] == "https://api.example/"
    assert sent["acr_values"] == MULTI_FACTOR
    assert sent["code_challenge_method"] == "S256"
    assert len(sent["state"]) >= 22
    assert len(sent["nonce"]) >= 22
    (pending,) = visitor.session["stepup_pending"].values()
    digest = hashlib.sha256(pending["pkce"].encode()).digest()
    assert sent["code_challenge"] == base64.urlsafe_b64encode(digest).rstrip(b"=").decode()


def test_acr_values_do_not_leak_into_any_other_request(visitor: Visitor, settings: Any) -> None:
    settings.OIDC_AUTH_REQUEST_EXTRA_PARAMS = {"ui_locales": "en"}
    asked = query(visitor.get("/decorated/")["Location"])
    plain = query(visitor.get("/oidc/authenticate/")["Location"])

    assert (asked["ui_locales"], asked["acr_values"]) == ("en", MULTI_FACTOR)
    assert plain["ui_locales"] == "en"
    assert "acr_values" not in plain
    assert settings.OIDC_AUTH_REQUEST_EXTRA_PARAMS == {"ui_locales": "en"}


def test_a_sign_in_keeps_the_validated_claims_and_the_evidence_on_the_session(
    visitor: Visitor, op: RunningProvider, rf: Any
) -> None:
    visitor.step_up("/decorated/")
    request = rf.get("/")
    request.session, request.user = visitor.session, signed_in_as(visitor)

    claims = stepup_session.claims(request)
    evidence = stepup_session.evidence(request)

    assert claims["iss"] == op.issuer
    assert claims["sub"] == "stepup|anna"
    assert claims["amr"] == ["mfa"]
    assert claims["acr"] == MULTI_FACTOR
    assert evidence is not None
    assert evidence.proofs == {"amr": {"mfa": None}, "acr": {MULTI_FACTOR: None}}


def test_signing_in_with_a_password_proves_no_second_factor(visitor: Visitor) -> None:
    visitor.sign_in()

    assert signed_in_as(visitor) is not None
    assert "proofs" not in visitor.session["stepup"]
    assert visitor.get("/").content == b"%s|shut" % signed_in_as(visitor).get_username().encode()  # type: ignore[union-attr]


def test_the_user_who_cancels_is_still_signed_in_as_before(visitor: Visitor) -> None:
    visitor.sign_in()
    before = dict(visitor.session)

    back = visitor.come_back(visitor.authenticate(visitor.get("/decorated/"), cancel=True))

    assert back.status_code == 403
    assert back.context["verdict"] == "declined"
    assert {**visitor.session, "stepup_attempts": None} == {**before, "stepup_attempts": None}
    assert visitor.get("/decorated/").status_code == 302


def test_denying_the_push_is_declining(visitor: Visitor) -> None:
    visitor.sign_in()

    back = visitor.come_back(visitor.authenticate(visitor.get("/decorated/"), "push", deny=True))

    assert (back.status_code, back.context["verdict"]) == (403, "declined")
    assert signed_in_as(visitor) is not None


def test_somebody_without_a_second_factor_is_told_and_gets_nothing(visit: Callable[[str], Visitor]) -> None:
    cleo = visit("cleo")
    cleo.sign_in()

    back = cleo.come_back(cleo.authenticate(cleo.get("/decorated/"), "push"))

    assert (back.status_code, back.context["verdict"]) == (403, "declined")
    assert signed_in_as(cleo) is not None
    assert not is_shown(cleo.get("/decorated/"))


def test_an_op_that_ignores_the_request_gets_a_verdict_and_no_loop(visitor: Visitor) -> None:
    visitor.sign_in()
    challenge = visitor.get("/decorated/")
    stripped = with_query(challenge["Location"], acr_values=None)

    back = visitor.come_back(visitor.person.authenticate(stripped, factor=None))

    assert (back.status_code, back.context["verdict"]) == (403, "proof_missing")
    assert not is_shown(visitor.get("/decorated/"))


def test_a_client_that_the_op_asks_no_factor_of_gets_a_verdict(visitor: Visitor, settings: Any) -> None:
    settings.OIDC_RP_CLIENT_ID = "site-without-mfa"

    back = visitor.come_back(visitor.authenticate(visitor.get("/decorated/"), None))

    assert (back.status_code, back.context["verdict"]) == (403, "proof_missing")
    assert signed_in_as(visitor) is not None, "the sign-in itself was good"


def test_trying_again_asks_the_op_to_authenticate_anew(visitor: Visitor) -> None:
    visitor.sign_in()
    stripped = with_query(visitor.get("/decorated/")["Location"], acr_values=None)
    back = visitor.come_back(visitor.person.authenticate(stripped, factor=None))

    again = visitor.get(back.context["retry_url"])

    assert query(again["Location"])["prompt"] == "login"
    assert query(again["Location"])["acr_values"] == MULTI_FACTOR
    assert visitor.come_back(visitor.authenticate(again))["Location"] == "/decorated/"


def test_another_subject_than_the_one_signed_in_changes_nothing_at_all(
    visitor: Visitor, visit: Callable[[str], Visitor]
) -> None:
    visitor.sign_in()
    before, users = dict(visitor.session), get_user_model().objects.count()
    ben = visit("ben")

    back = visitor.come_back(ben.authenticate(visitor.get("/decorated/"), "totp"))

    assert (back.status_code, back.context["verdict"]) == (403, "wrong_user")
    assert {**visitor.session, "stepup_attempts": None} == {**before, "stepup_attempts": None}
    assert get_user_model().objects.count() == users, "no account was made for the other one"
    assert back.context["sign_out_url"] == "/oidc/logout/"


def test_an_ordinary_sign_in_as_somebody_else_swaps_nobody_either(
    visitor: Visitor, visit: Callable[[str], Visitor]
) -> None:
    visitor.sign_in()
    anna = signed_in_as(visitor)

    back = visitor.come_back(visit("ben").authenticate(visitor.get("/oidc/authenticate/"), None))

    assert back.context["verdict"] == "wrong_user"
    assert signed_in_as(visitor) == anna


def test_two_tabs_land_each_on_their_own_page(visitor: Visitor) -> None:
    first, second = visitor.get("/decorated/"), visitor.get("/class/")

    # The second tab finishes first.
    back_second = visitor.come_back(visitor.authenticate(second))
    back_first = visitor.come_back(visitor.authenticate(first))

    assert back_second["Location"] == "/class/"
    assert back_first["Location"] == "/decorated/"


def test_the_session_key_from_before_the_elevation_is_dead(visitor: Visitor) -> None:
    visitor.sign_in()
    before = visitor.client.cookies["sessionid"].value

    visitor.step_up("/decorated/")

    assert visitor.client.cookies["sessionid"].value != before
    assert not visitor.session.exists(before)


def test_the_session_key_from_before_the_login_is_dead(visitor: Visitor) -> None:
    challenge = visitor.get("/oidc/authenticate/")
    before = visitor.client.cookies["sessionid"].value

    visitor.come_back(visitor.authenticate(challenge, None))

    assert visitor.client.cookies["sessionid"].value != before
    assert not visitor.session.exists(before)


@pytest.mark.parametrize("alg", ["HS256", "ES256", "PS256", "EdDSA"])
def test_id_tokens_of_each_configured_algorithm_are_accepted(visitor: Visitor, settings: Any, alg: str) -> None:
    settings.OIDC_RP_CLIENT_ID = f"site-{alg.lower()}"
    settings.OIDC_RP_SIGN_ALGO = alg

    assert visitor.step_up("/decorated/")["Location"] == "/decorated/"
    assert is_shown(visitor.get("/decorated/"))


def test_an_id_token_of_another_algorithm_than_configured_is_refused(visitor: Visitor, settings: Any) -> None:
    settings.OIDC_RP_SIGN_ALGO = "ES256"

    back = visitor.step_up("/decorated/")

    assert (back.status_code, back.context["verdict"]) == (400, "invalid")
    assert back.context["reasons"] == ["alg: not allowed"]
    assert signed_in_as(visitor) is None


def test_freshness_is_asked_with_max_age_and_proved_by_auth_time(visitor: Visitor) -> None:
    challenge = visitor.get("/fresh/")
    assert query(challenge["Location"])["max_age"] == "300"

    assert visitor.come_back(visitor.authenticate(challenge))["Location"] == "/fresh/"
    assert is_shown(visitor.get("/fresh/"))


def test_multi_factor_authentication_at_an_unknown_time_is_not_fresh_and_the_op_is_told_to_ask_again(
    visitor: Visitor,
) -> None:
    visitor.step_up("/decorated/")

    sent = query(visitor.get("/fresh/")["Location"])

    assert (sent["max_age"], sent["prompt"]) == ("300", "login")


def test_freshness_alone_can_be_required(visitor: Visitor) -> None:
    assert visitor.come_back(visitor.authenticate(visitor.get("/sudo/"), None))["Location"] == "/sudo/"
    assert is_shown(visitor.get("/sudo/"))
    assert visitor.get("/decorated/").status_code == 302, "which proves no second factor"


def test_a_used_link_is_refused_and_nobody_is_signed_out(visitor: Visitor) -> None:
    visitor.sign_in()
    callback = visitor.authenticate(visitor.get("/decorated/"))
    visitor.come_back(callback)
    before = dict(visitor.session)

    again = visitor.come_back(callback)

    assert (again.status_code, again.context["verdict"]) == (400, "expired")
    assert dict(visitor.session) == before
    assert is_shown(visitor.get("/decorated/"))


def test_the_user_is_found_by_issuer_and_subject(visitor: Visitor, op: RunningProvider) -> None:
    visitor.sign_in()
    user = signed_in_as(visitor)
    assert user is not None
    user.email = "somewhere@else.example"
    user.save()
    visitor.client.logout()

    visitor.sign_in()

    assert signed_in_as(visitor) == user
    assert Identity.objects.get() == Identity.objects.get(issuer=op.issuer, subject="stepup|anna", user=user)


def test_a_login_and_a_pending_request_add_little_to_the_session(visitor: Visitor) -> None:
    asked = visitor.get("/oidc/authenticate/")
    assert bytes_added_to(visitor.session) < 300
    visitor.come_back(visitor.authenticate(asked, None))
    login = bytes_added_to(visitor.session)
    assert login < 200
    visitor.get("/decorated/")
    assert bytes_added_to(visitor.session) - login < 300


def test_a_step_up_makes_one_request_to_the_op_on_a_connection_that_is_kept(
    visitor: Visitor, op: RunningProvider
) -> None:
    visitor.sign_in()
    connections = set()
    for path in ("/decorated/", "/fresh/", "/own/"):
        callback = visitor.authenticate(visitor.get(path))
        before = len(op.requests())
        visitor.come_back(callback)
        asked = op.requests()[before:]
        assert [urlsplit(request.path).path for request in asked] == ["/oauth/token"]
        connections |= {request.connection for request in asked}
    assert len(connections) == 1


def test_a_sign_in_whose_id_token_has_what_is_needed_makes_one_request_too(
    visitor: Visitor, visit: Callable[[str], Visitor], op: RunningProvider
) -> None:
    visitor.sign_in()  # which has the metadata and the keys
    connections = set()
    for username in ("ben", "cleo", "anna"):
        other = visit(username)
        callback = other.authenticate(other.get("/oidc/authenticate/"), None)
        before = len(op.requests())
        other.come_back(callback)
        asked = op.requests()[before:]
        assert [urlsplit(request.path).path for request in asked] == ["/oauth/token"]
        connections |= {request.connection for request in asked}
        assert signed_in_as(other) is not None
    assert len(connections) == 1


@pytest.mark.parametrize(
    ("changes", "is_asked"),
    [
        ({}, False),
        ({"USER_CLAIMS": ["given_name"]}, False),
        ({"USER_CLAIMS": ["given_name", "shoe_size"]}, True),
        ({"USERINFO": "always"}, True),
        ({"USERINFO": "never", "USER_CLAIMS": ["shoe_size"]}, False),
    ],
)
def test_userinfo_is_asked_where_a_claim_is_missing_that_the_site_needs(
    visitor: Visitor, op: RunningProvider, settings: Any, changes: dict[str, Any], is_asked: bool
) -> None:
    settings.STEPUP = {**settings.STEPUP, **changes}
    visitor.sign_in()
    assert ("/userinfo" in {request.path for request in op.requests()}) == is_asked
    assert signed_in_as(visitor) is not None


def test_without_an_email_scope_nothing_is_missing(visitor: Visitor, op: RunningProvider, settings: Any) -> None:
    settings.OIDC_RP_SCOPES = "openid"
    visitor.sign_in()
    assert "/userinfo" not in {request.path for request in op.requests()}
