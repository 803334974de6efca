"""Signing out: here, at the OP as well, and back; and from a frame that the OP shows."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import requests
from django.contrib.auth import get_user_model
from django.core import signing
from django.test import Client
from django.urls import path

from stepup import clock, links, session, sign_out
from stepup.models import SessionLink
from stepup.testing.driver import Person
from stepup.testing.provider import Client as OPClient
from stepup.testing.provider import Configuration, launch
from stepup.testing.provider.launcher import RunningProvider
from stepup.views import AuthenticationCallbackView, AuthenticationRequestView, LogoutView
from tests.visitor import Visitor, query, with_query

BACK = "http://testserver/oidc/signed-out/"
MODEL_BACKEND = "django.contrib.auth.backends.ModelBackend"

Visit = Callable[[str], Visitor]


@pytest.fixture(autouse=True)
def by_way_of_the_op(op: RunningProvider, settings: Any) -> None:
    settings.STEPUP = {**settings.STEPUP, "SIGN_OUT_AT_PROVIDER": True}
    settings.OIDC_STORE_ID_TOKEN = True


@pytest.fixture
def anna(visitor: Visitor) -> Visitor:
    visitor.sign_in()
    return visitor


def leave(visitor: Visitor) -> Any:
    return visitor.client.post("/oidc/logout/")


def is_signed_in(visitor: Visitor) -> bool:
    return not visitor.get("/").content.startswith(b"|")


# To the OP, and back


def test_signing_out_ends_the_session_here_and_at_the_op_and_says_so(op: RunningProvider, anna: Visitor) -> None:
    id_token = anna.session["oidc_id_token"]

    answer = leave(anna)

    assert answer.status_code == 302
    assert answer["Location"].startswith(f"{op.issuer}oidc/logout?")
    sent = query(answer["Location"])
    state = sent.pop("state")
    assert sent == {"client_id": "site", "post_logout_redirect_uri": BACK, "id_token_hint": id_token}
    assert len(state) >= 22
    assert "no-store" in answer["Cache-Control"]
    assert not is_signed_in(anna)
    assert dict(anna.session.items()) == {}

    back = anna.person.sign_out(answer["Location"])
    assert back == f"{BACK}?state={state}"
    shown = anna.client.get(back)
    assert (shown.status_code, shown.templates[0].name) == (200, "stepup/signed_out.html")
    assert "and of your sign-in service" in shown.content.decode()
    assert "no-store" in shown["Cache-Control"]
    assert anna.client.cookies[sign_out.COOKIE].value == ""

    again = anna.client.get(back)
    assert "and of your sign-in service" not in again.content.decode(), "one use"
    assert b"password" in requests.get(anna.get("/oidc/authenticate/")["Location"], timeout=5).content


def test_without_the_id_token_the_op_asks(settings: Any, visitor: Visitor) -> None:
    settings.OIDC_STORE_ID_TOKEN = False
    visitor.sign_in()

    answer = leave(visitor)

    assert "id_token_hint" not in query(answer["Location"])
    assert visitor.person.sign_out(answer["Location"]).startswith(BACK)


def test_an_id_token_that_would_make_the_address_too_long_is_left_out(anna: Visitor) -> None:
    store = anna.session
    store["oidc_id_token"] = "x" * sign_out.MAX_HINT_LENGTH
    store.save()
    assert "id_token_hint" in query(leave(anna)["Location"])

    anna.sign_in()
    store = anna.session
    store["oidc_id_token"] = "x" * (sign_out.MAX_HINT_LENGTH + 1)
    store.save()
    assert "id_token_hint" not in query(leave(anna)["Location"])


@pytest.mark.parametrize("state", [None, "", "another", "x" * 5000])
def test_a_wrong_state_leads_to_the_ordinary_page_and_changes_nothing(anna: Visitor, state: str | None) -> None:
    back = anna.person.sign_out(leave(anna)["Location"])

    shown = anna.client.get(with_query(back, state=state))

    assert shown.status_code == 200
    assert "Nobody is signed in" in shown.content.decode()


@pytest.mark.parametrize("cookie", [None, "", "forged", "x:y:z"])
def test_a_browser_that_was_not_sent_there_gets_the_ordinary_page(anna: Visitor, cookie: str | None) -> None:
    back = anna.person.sign_out(leave(anna)["Location"])
    stranger = Client()
    if cookie is not None:
        stranger.cookies[sign_out.COOKIE] = cookie

    assert "Nobody is signed in" in stranger.get(back).content.decode()


class Earlier(signing.TimestampSigner):
    """Signs as it would have done a while ago."""

    def timestamp(self) -> str:
        return signing.b62_encode(int(clock.now()) - sign_out.COOKIE_MAX_AGE - 2)


def test_the_way_back_is_open_for_ten_minutes(anna: Visitor) -> None:
    answer = leave(anna)
    back = anna.person.sign_out(answer["Location"])
    cookie = answer.cookies[sign_out.COOKIE]
    assert (cookie["max-age"], cookie["samesite"], cookie["httponly"], cookie["path"]) == (
        600,
        "Lax",
        True,
        "/oidc/signed-out/",
    )
    assert not cookie["secure"]
    value = cookie.value
    salt = sign_out.COOKIE + sign_out.COOKIE
    key = signing.get_cookie_signer(salt=salt).key
    old = Earlier(key=key, salt=salt).sign(query(back)["state"])

    anna.client.cookies[sign_out.COOKIE] = old
    assert "Nobody is signed in" in anna.client.get(back).content.decode()
    anna.client.cookies[sign_out.COOKIE] = value
    assert "and of your sign-in service" in anna.client.get(back).content.decode()


def test_with_tls_the_cookie_goes_by_tls_alone(anna: Visitor) -> None:
    answer = anna.client.post("/oidc/logout/", secure=True)

    assert answer.cookies[sign_out.COOKIE]["secure"]
    assert query(answer["Location"])["post_logout_redirect_uri"].startswith("https://")


def test_somebody_who_is_signed_in_is_not_told_otherwise(anna: Visitor) -> None:
    answer = anna.client.get("/oidc/signed-out/?state=forged")

    assert (answer.status_code, answer["Location"]) == (302, "/")
    assert is_signed_in(anna)


def test_a_site_with_a_page_of_its_own_goes_there_in_the_end(anna: Visitor, settings: Any) -> None:
    settings.LOGOUT_REDIRECT_URL = "/goodbye/"
    back = anna.person.sign_out(leave(anna)["Location"])

    assert anna.client.get(back)["Location"] == "/goodbye/"
    assert anna.client.get("/oidc/signed-out/")["Location"] == "/goodbye/"


@pytest.mark.parametrize("chosen", ["stepup_signed_out", "/oidc/signed-out/", "/oidc/signed-out/?again"])
def test_a_site_that_has_everybody_come_here_after_signing_out_is_sent_in_no_circle(
    anna: Visitor, settings: Any, chosen: str
) -> None:
    settings.LOGOUT_REDIRECT_URL = chosen
    assert anna.client.get("/oidc/signed-out/")["Location"] == "/"

    back = anna.client.get(anna.person.sign_out(leave(anna)["Location"]).removeprefix("http://testserver"))
    assert (back.status_code, back.context["heading"]) == (200, "You are signed out")


@pytest.mark.parametrize("method", ["post", "put", "head", "delete"])
def test_the_way_back_is_a_get(method: str) -> None:
    assert getattr(Client(), method)("/oidc/signed-out/").status_code == 405


def test_without_our_urls_the_op_sends_the_browser_where_sign_out_leads(anna: Visitor, settings: Any) -> None:
    settings.ROOT_URLCONF = (
        path("oidc/callback/", AuthenticationCallbackView.as_view(), name="oidc_authentication_callback"),
        path("oidc/authenticate/", AuthenticationRequestView.as_view(), name="oidc_authentication_init"),
        path("oidc/logout/", LogoutView.as_view(), name="oidc_logout"),
    )
    settings.STEPUP = {**settings.STEPUP, "PROTECTED_VIEWS": {}}
    settings.LOGOUT_REDIRECT_URL = "/"

    answer = leave(anna)

    assert query(answer["Location"])["post_logout_redirect_uri"] == "http://testserver/"
    assert sign_out.COOKIE not in answer.cookies
    assert anna.person.sign_out(answer["Location"]).startswith("http://testserver/?state=")


# Not to the OP


def test_it_is_off_unless_it_is_switched_on(anna: Visitor, settings: Any) -> None:
    settings.STEPUP = {**settings.STEPUP, "SIGN_OUT_AT_PROVIDER": False}

    assert leave(anna)["Location"] == "/"
    assert not is_signed_in(anna)


def test_the_sites_own_way_there_wins(anna: Visitor, settings: Any) -> None:
    settings.OIDC_OP_LOGOUT_URL_METHOD = "tests.dropin_views.sign_out_url"

    assert leave(anna)["Location"].startswith("https://op.example/logout?who=")
    assert not is_signed_in(anna)


def test_who_has_signed_in_otherwise_has_nothing_to_end_there(
    settings: Any, client: Client, caplog: pytest.LogCaptureFixture
) -> None:
    client.force_login(get_user_model().objects.create_user("local"), MODEL_BACKEND)

    with caplog.at_level("INFO", "stepup"):
        assert client.post("/oidc/logout/")["Location"] == "/"

    assert caplog.records[-1].at_provider is False  # type: ignore[attr-defined]


def test_nobody_who_signs_out_goes_on_to_the_start(client: Client) -> None:
    assert client.post("/oidc/logout/")["Location"] == "/"


@pytest.mark.parametrize("personality", ["metadata_server_error", "metadata_html", "metadata_of_another_issuer"])
def test_while_the_op_cannot_be_asked_one_is_signed_out_here_and_told_so(
    op: RunningProvider, settings: Any, anna: Visitor, personality: str, caplog: pytest.LogCaptureFixture
) -> None:
    op.behave(personality)
    settings.STEPUP = {**settings.STEPUP, "CACHE": None}

    with caplog.at_level("INFO", "stepup"):
        answer = leave(anna)

    assert answer.status_code == 200
    assert "You may still be signed in there." in answer.content.decode()
    assert "no-store" in answer["Cache-Control"]
    assert not is_signed_in(anna)
    told = {each.event: each for each in caplog.records if hasattr(each, "event")}
    assert told.keys() >= {"sign_out_unavailable", "signed_out"}
    assert told["signed_out"].at_provider is False  # type: ignore[attr-defined]


def test_an_op_that_is_not_there_is_no_error(settings: Any, anna: Visitor) -> None:
    store = anna.session
    store["stepup"] = {**store["stepup"], "iss": session._mark("http://127.0.0.1:1/")}
    store.save()
    settings.STEPUP = {**settings.STEPUP, "ISSUER": "http://127.0.0.1:1/", "CACHE": None}

    assert "You may still be signed in there." in leave(anna).content.decode()
    assert not is_signed_in(anna)


@pytest.mark.parametrize(
    ("endpoint", "start"),
    [("https://op.example/bye", "https://op.example/bye?"), ("https://op.example/b?c=d", "https://op.example/b?c=d&")],
)
def test_the_settings_may_name_the_endpoint(anna: Visitor, settings: Any, endpoint: str, start: str) -> None:
    settings.STEPUP = {**settings.STEPUP, "END_SESSION_ENDPOINT": endpoint}

    assert leave(anna)["Location"].startswith(f"{start}client_id=site&")


def test_what_is_logged_of_it_holds_no_token_and_no_state(anna: Visitor, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level("INFO", "stepup"):
        sent = query(leave(anna)["Location"])

    (record,) = (each for each in caplog.records if getattr(each, "event", "") == "signed_out")
    assert record.at_provider is True  # type: ignore[attr-defined]
    assert record.user_pk == get_user_model().objects.get().pk  # type: ignore[attr-defined]
    assert sent["state"] not in caplog.text
    assert "eyJ" not in caplog.text


def test_a_sign_out_needs_a_csrf_token_and_a_post(anna: Visitor) -> None:
    strict = Client(enforce_csrf_checks=True)
    strict.cookies = anna.client.cookies

    assert strict.post("/oidc/logout/").status_code == 403
    assert strict.get("/oidc/logout/").status_code == 405
    assert is_signed_in(anna)


# In a frame


FRAME = "/oidc/frontchannel-logout/"


@pytest.fixture
def framed(anna: Visitor, settings: Any) -> Visitor:
    settings.STEPUP = {**settings.STEPUP, "FRONT_CHANNEL_LOGOUT": True, "BACK_CHANNEL_LOGOUT": "end"}
    settings.MIDDLEWARE = [*settings.MIDDLEWARE, "django.middleware.clickjacking.XFrameOptionsMiddleware"]
    cookies = anna.client.cookies
    anna.client = Client()
    anna.client.cookies = cookies
    anna.step_up("/decorated/")
    return anna


def about(visitor: Visitor) -> dict[str, str]:
    link = links._under(visitor.session.session_key or "").get()
    return {"iss": link.issuer, "sid": link.sid or ""}


def test_the_op_may_end_the_session_of_this_browser_from_a_frame(
    framed: Visitor, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level("INFO", "stepup"):
        answer = framed.client.get(FRAME, about(framed))

    assert answer.status_code == 200
    assert "X-Frame-Options" not in answer
    assert "no-store" in answer["Cache-Control"]
    assert not is_signed_in(framed)
    assert not SessionLink.objects.exists()
    assert [each.event for each in caplog.records if hasattr(each, "event")] == ["front_channel_logout"]
    assert framed.client.get("/")["X-Frame-Options"] == "DENY", "no other page may be framed"


@pytest.mark.parametrize(
    "changes",
    [{"iss": None}, {"sid": None}, {"iss": "https://evil.example/"}, {"sid": "another"}, {"sid": ""}, {"iss": ""}],
    ids=str,
)
def test_where_issuer_or_session_are_others_or_missing_nothing_happens(
    framed: Visitor, changes: dict[str, str | None]
) -> None:
    ended = framed.client.get(FRAME, about(framed))
    framed.sign_in()

    said = {name: value for name, value in {**about(framed), **changes}.items() if value is not None}
    answer = framed.client.get(FRAME, said)

    assert is_signed_in(framed)
    assert answer.content == ended.content, "nothing tells whether it was so"


def test_a_doubled_parameter_counts_for_nothing(framed: Visitor) -> None:
    said = about(framed)

    framed.client.get(FRAME, {"iss": said["iss"], "sid": [said["sid"], said["sid"]]})

    assert is_signed_in(framed)


def test_a_frame_in_another_browser_ends_nobodys_session(framed: Visitor, visit: Visit) -> None:
    ben = visit("ben")
    ben.sign_in()

    for client in (Client(), ben.client):
        assert client.get(FRAME, about(framed)).status_code == 200

    assert is_signed_in(framed)
    assert is_signed_in(ben)


def test_a_session_without_a_sid_is_not_ended_by_an_empty_one(framed: Visitor) -> None:
    store = framed.session
    issuer, stored = about(framed)["iss"], dict(store["stepup"])
    del stored["sid"]
    store["stepup"] = stored
    store.save()

    for sid in ("", "None"):
        framed.client.get(FRAME, {"iss": issuer, "sid": sid})

    assert is_signed_in(framed)


def test_a_frame_is_for_get_alone_and_for_sites_that_want_it(framed: Visitor, settings: Any) -> None:
    for method in ("post", "head", "put", "delete", "options"):
        assert getattr(framed.client, method)(FRAME).status_code == 405
    said = about(framed)
    settings.STEPUP = {**settings.STEPUP, "FRONT_CHANNEL_LOGOUT": False}

    assert framed.client.get(FRAME, said).status_code == 404
    assert is_signed_in(framed)


def test_the_op_shows_the_frame_when_somebody_signs_out_there(op: RunningProvider, settings: Any) -> None:
    settings.STEPUP = {**settings.STEPUP, "FRONT_CHANNEL_LOGOUT": True, "BACK_CHANNEL_LOGOUT": "end"}
    site = OPClient(
        client_id="site",
        client_secret=settings.OIDC_RP_CLIENT_SECRET,
        redirect_uris=("http://testserver/oidc/callback/",),
        post_logout_redirect_uris=("http://testserver/",),
        frontchannel_logout_uri=f"http://testserver{FRAME}",
    )
    with launch(Configuration(purpose="tests", clients=(site,))) as provider:
        settings.STEPUP = {**settings.STEPUP, "ISSUER": provider.issuer}
        anna = Visitor("anna")
        anna.sign_in()
        home = "http://testserver/"
        url = f"{provider.issuer}oidc/logout?client_id=site&post_logout_redirect_uri={home}"

        assert anna.person.sign_out(url) == home
        (frame,) = anna.person.frames

    assert query(frame) == about(anna)
    anna.client.get(frame)
    assert not is_signed_in(anna)


def test_both_are_open_under_login_required_middleware(op: RunningProvider, settings: Any, client: Client) -> None:
    settings.STEPUP = {**settings.STEPUP, "FRONT_CHANNEL_LOGOUT": True, "BACK_CHANNEL_LOGOUT": "end"}
    settings.MIDDLEWARE = [*settings.MIDDLEWARE, "django.contrib.auth.middleware.LoginRequiredMiddleware"]

    assert client.get("/oidc/signed-out/").status_code == 200
    assert client.get(FRAME).status_code == 200
    token = op.logout_token("site", sub="stepup|anna")
    assert client.post("/oidc/backchannel-logout/", {"logout_token": token}).status_code == 200


def test_none_of_them_can_be_protected_by_name(op: RunningProvider, settings: Any, client: Client) -> None:
    settings.STEPUP = {
        **settings.STEPUP,
        "FRONT_CHANNEL_LOGOUT": True,
        "BACK_CHANNEL_LOGOUT": "end",
        "PROTECTED_VIEWS": {"*": "mfa"},
    }

    assert client.get("/oidc/signed-out/").status_code == 200
    assert client.get(FRAME).status_code == 200
    token = op.logout_token("site", sub="stepup|anna")
    assert client.post("/oidc/backchannel-logout/", {"logout_token": token}).status_code == 200


def test_a_person_who_signs_in_at_the_op_as_another_ends_the_session_before(op: RunningProvider, settings: Any) -> None:
    site = OPClient(
        client_id="site",
        client_secret=settings.OIDC_RP_CLIENT_SECRET,
        redirect_uris=("http://testserver/oidc/callback/",),
        backchannel_logout_uri="http://127.0.0.1:1/",
    )
    with launch(Configuration(purpose="tests", clients=(site,))) as provider:
        settings.STEPUP = {**settings.STEPUP, "ISSUER": provider.issuer}
        anna, ben = Visitor("anna"), Visitor("ben")
        anna.sign_in()
        ben.person = Person("ben", "ben-password", session=anna.person.session)
        location = ben.get("/oidc/authenticate/")["Location"]
        ben.person.authenticate(f"{location}&prompt=login", factor=None)

        assert [(each.subject, each.status) for each in provider.logouts()] == [("stepup|anna", 0)]
