"""The OP ends sessions: back-channel logout with the OP's own logout tokens, to the right sessions and no others."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest
import requests
from django.contrib import auth
from django.contrib.auth import get_user_model, update_session_auth_hash
from django.contrib.auth.models import User
from django.contrib.auth.signals import user_logged_out
from django.contrib.sessions.backends.base import SessionBase, UpdateError
from django.contrib.sessions.backends.db import SessionStore as DatabaseStore
from django.contrib.sessions.backends.file import SessionStore as FileStore
from django.core.cache import cache
from django.core.cache.backends.locmem import LocMemCache
from django.db import OperationalError, connection
from django.db.models import Model
from django.http import HttpRequest, HttpResponse
from django.test import AsyncClient, Client
from django.test.utils import CaptureQueriesContext
from django.urls import path

from stepup import clock, conf, links, session, vault
from stepup.backends import StepUpBackend
from stepup.logout_token import Logout
from stepup.models import LogoutNotice, SessionLink
from stepup.testing.driver import Person
from stepup.testing.provider import Client as OPClient
from stepup.testing.provider import Configuration, launch
from stepup.testing.provider.launcher import ProviderError, RunningProvider
from tests import urls as site_urls
from tests.test_personalities import LOGOUTS
from tests.urls import SECRET
from tests.visitor import Visitor

WHERE = "/oidc/backchannel-logout/"
ENGINES = ("db", "cache", "cached_db", "file")

Visit = Callable[[str], Visitor]


@pytest.fixture(params=ENGINES)
def engine(request: Any, settings: Any, tmp_path: Any) -> str:
    settings.SESSION_FILE_PATH = str(tmp_path)
    settings.SESSION_ENGINE = f"django.contrib.sessions.backends.{request.param}"
    # Where that is it remembers from one test to the next.
    if "_storage_path" in vars(FileStore):
        delattr(FileStore, "_storage_path")
    return str(request.param)


def use(settings: Any, **changes: Any) -> None:
    settings.STEPUP = {**settings.STEPUP, **changes}


@pytest.fixture(autouse=True)
def ending(op: RunningProvider, settings: Any) -> None:
    use(settings, BACK_CHANNEL_LOGOUT="end")


@pytest.fixture
def lowering(ending: None, settings: Any) -> None:
    use(settings, BACK_CHANNEL_LOGOUT="lower")


def hand_in(token: str) -> Any:
    """What the site answers to the OP, which has no cookies and knows of no CSRF token."""
    return Client(enforce_csrf_checks=True).post(WHERE, {"logout_token": token})


def sid_of(visitor: Visitor) -> str:
    return str(links._under(visitor.session.session_key or "").get().sid)


def is_signed_in(visitor: Visitor) -> bool:
    return not visitor.get("/").content.startswith(b"|")


def is_open(visitor: Visitor) -> bool:
    return bool(visitor.get("/decorated/").content == SECRET.encode())


def proved(visit: Visit, name: str) -> Visitor:
    visitor = visit(name)
    assert visitor.step_up("/decorated/").status_code == 302
    assert is_open(visitor)
    return visitor


# The right sessions


@pytest.fixture
def everybody(op: RunningProvider, engine: str, visit: Visit) -> dict[str, Visitor]:
    """Two people, with two browsers each."""
    visitors = {name: visit(name.partition(" ")[0]) for name in ("anna 1", "anna 2", "ben 1", "ben 2")}
    for visitor in visitors.values():
        visitor.sign_in()
    return visitors


def still_in(everybody: dict[str, Visitor]) -> set[str]:
    return {name for name, visitor in everybody.items() if is_signed_in(visitor)}


def test_a_session_of_the_op_ends_those_that_came_about_through_it(
    op: RunningProvider, everybody: dict[str, Visitor]
) -> None:
    answer = hand_in(op.logout_token("site", sid=sid_of(everybody["anna 1"])))

    assert answer.status_code == 200
    assert still_in(everybody) == {"anna 2", "ben 1", "ben 2"}


def test_a_person_who_signs_out_everywhere_is_signed_out_everywhere_here(
    op: RunningProvider, everybody: dict[str, Visitor]
) -> None:
    assert hand_in(op.logout_token("site", sub="stepup|anna")).status_code == 200

    assert still_in(everybody) == {"ben 1", "ben 2"}


@pytest.mark.parametrize(("sub", "left"), [("stepup|ben", 3), ("stepup|anna", 4), ("STEPUP|BEN", 4)])
def test_where_both_are_named_both_have_to_fit(
    op: RunningProvider, everybody: dict[str, Visitor], sub: str, left: int
) -> None:
    assert hand_in(op.logout_token("site", sub=sub, sid=sid_of(everybody["ben 2"]))).status_code == 200

    assert len(still_in(everybody)) == left


@pytest.mark.parametrize("about", [{"sub": "stepup|cleo"}, {"sid": "another"}, {"sub": "stepup|ann"}], ids=str)
def test_what_is_about_nobody_here_ends_nothing_and_is_no_error(
    op: RunningProvider, everybody: dict[str, Visitor], about: dict[str, str], caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level("INFO", "stepup"):
        assert hand_in(op.logout_token("site", **about)).status_code == 200

    assert len(still_in(everybody)) == 4
    assert (caplog.records[-1].event, caplog.records[-1].sessions) == ("back_channel_logout", 0)  # type: ignore[attr-defined]


def test_one_session_at_the_op_may_be_several_here(
    op: RunningProvider, engine: str, visit: Visit, caplog: pytest.LogCaptureFixture
) -> None:
    first, second = visit("anna"), visit("anna")
    second.person = first.person
    first.sign_in()
    second.sign_in()
    assert sid_of(first) == sid_of(second)

    with caplog.at_level("INFO", "stepup"):
        hand_in(op.logout_token("site", sid=sid_of(first)))

    assert not is_signed_in(first)
    assert not is_signed_in(second)
    ended = next(each for each in caplog.records if getattr(each, "event", "") == "back_channel_logout")
    assert (ended.sessions, ended.mode) == (2, "end")  # type: ignore[attr-defined]
    assert "eyJ" not in caplog.text


def test_a_session_of_another_issuer_with_the_same_sid_goes_on(op: RunningProvider, visitor: Visitor) -> None:
    visitor.sign_in()
    SessionLink.objects.update(issuer="https://other.example/")

    hand_in(op.logout_token("site", sid=sid_of(visitor)))

    assert is_signed_in(visitor)


def test_a_person_who_was_signed_out_can_sign_in_again_under_a_new_session(op: RunningProvider, visit: Visit) -> None:
    anna = proved(visit, "anna")
    hand_in(op.logout_token("site", sub="stepup|anna", sid=sid_of(anna)))
    anna.person = Person("anna", "anna-password")

    assert anna.step_up("/decorated/", factor="totp").status_code == 302
    assert is_open(anna)


# What is refused


def test_the_op_has_no_logout_token_for_an_application_that_it_does_not_know(op: RunningProvider) -> None:
    with pytest.raises(ProviderError):
        op.logout_token("unknown", sub="stepup|anna")
    with pytest.raises(ProviderError):
        op.log_out("unknown", sub="stepup|anna")


@pytest.mark.parametrize("name", LOGOUTS)
def test_each_odd_logout_token_of_the_op(
    op: RunningProvider, settings: Any, visitor: Visitor, name: str, caplog: pytest.LogCaptureFixture
) -> None:
    visitor.sign_in()
    sid, reason = sid_of(visitor), LOGOUTS[name]
    op.behave(name)
    if reason == "jti: used":
        assert hand_in(op.logout_token("site", sid="another")).status_code == 200
        caplog.clear()

    answer = hand_in(op.logout_token("site", sub="stepup|anna", sid=sid))

    if reason == "accepted":
        assert answer.status_code == 200
    else:
        assert answer.status_code == 400
        assert answer.json() == {"error": "invalid_request", "error_description": reason}
        refused = next(each for each in caplog.records if getattr(each, "event", "") == "back_channel_refused")
        assert refused.reasons == (reason,)  # type: ignore[attr-defined]
        assert "eyJ" not in caplog.text
    assert "no-store" in answer["Cache-Control"]
    assert is_signed_in(visitor) is (reason != "accepted")


def test_a_logout_token_is_good_once(op: RunningProvider, visitor: Visitor) -> None:
    token = op.logout_token("site", sub="stepup|anna")
    assert hand_in(token).status_code == 200

    again = hand_in(token)

    assert (again.status_code, again.json()["error_description"]) == (400, "jti: used")


@pytest.mark.parametrize("data", [{}, {"logout_token": ""}, {"other": "x"}], ids=str)
def test_a_request_without_a_token_is_refused(visitor: Visitor, data: dict[str, str]) -> None:
    answer = Client().post(WHERE, data)

    assert (answer.status_code, answer.json()["error_description"]) == (400, "logout_token: missing")


def test_two_tokens_in_one_request_are_refused(op: RunningProvider, visitor: Visitor) -> None:
    visitor.sign_in()
    token = op.logout_token("site", sub="stepup|anna")

    answer = Client().post(WHERE, {"logout_token": [token, token]})

    assert (answer.status_code, answer.json()["error_description"]) == (400, "logout_token: more than one")
    assert is_signed_in(visitor)


def test_a_token_in_the_query_is_none(op: RunningProvider, visitor: Visitor) -> None:
    visitor.sign_in()

    assert Client().post(f"{WHERE}?logout_token={op.logout_token('site', sub='stepup|anna')}").status_code == 400
    assert is_signed_in(visitor)


@pytest.mark.parametrize("method", ["get", "head", "put", "patch", "delete", "options", "trace"])
def test_the_op_has_to_post(op: RunningProvider, method: str) -> None:
    answer = getattr(Client(), method)(WHERE)

    assert answer.status_code == 405
    assert answer["Allow"] == "POST"
    assert "no-store" in answer["Cache-Control"]


def test_where_it_is_off_there_is_nothing_and_a_sign_in_writes_nothing(
    op: RunningProvider, settings: Any, visitor: Visitor
) -> None:
    use(settings, BACK_CHANNEL_LOGOUT=None)
    with CaptureQueriesContext(
        connection,
    ) as captured:
        visitor.step_up("/decorated/")
        visitor.client.post("/oidc/logout/")

    assert not [each for each in captured.captured_queries if "sessionlink" in each["sql"] or "notice" in each["sql"]]
    assert hand_in(op.logout_token("site", sub="stepup|anna")).status_code == 404


def test_an_allowed_request_asks_nothing_more_of_the_database(op: RunningProvider, settings: Any, visit: Visit) -> None:
    def queries(mode: str | None) -> int:
        use(settings, BACK_CHANNEL_LOGOUT=mode)
        visitor = proved(visit, "anna")
        with CaptureQueriesContext(connection) as captured:
            assert is_open(visitor)
        return len(captured)

    settings.SESSION_ENGINE = "django.contrib.sessions.backends.db"
    before = queries(None)
    op.reset()
    assert queries("end") == before
    op.reset()
    assert queries("lower") == before


def test_keys_that_cannot_be_had_are_a_refusal(op: RunningProvider, settings: Any, visitor: Visitor) -> None:
    visitor.sign_in()
    token = op.logout_token("site", sub="stepup|anna")
    op.behave("jwks_server_error")
    use(settings, CACHE=None)

    answer = hand_in(token)

    assert (answer.status_code, answer.json()["error_description"]) == (400, "jwks: status 500")
    assert is_signed_in(visitor)


class Down(DatabaseStore):
    """A session store that cannot delete for the moment."""

    error: type[Exception] | None = None
    before: Callable[[str | None], object] = staticmethod(lambda key: None)

    def delete(self, session_key: str | None = None) -> None:
        self.before(session_key)
        if self.error is not None:
            raise self.error
        super().delete(session_key)


class SessionStore(Down):
    """Under the name that Django looks for."""


@pytest.mark.parametrize("mode", ["end", "lower"])
@pytest.mark.parametrize("error", [OperationalError, OSError, RuntimeError])
def test_a_session_store_that_fails_is_told_to_the_op_which_may_send_the_token_again(
    op: RunningProvider, settings: Any, visitor: Visitor, mode: str, error: type[Exception], monkeypatch: Any
) -> None:
    use(settings, BACK_CHANNEL_LOGOUT=mode)
    settings.SESSION_ENGINE = "tests.test_logout"
    visitor.step_up("/decorated/")
    token = op.logout_token("site", sub="stepup|anna")

    SessionStore.error = error
    answer = hand_in(token)
    assert (answer.status_code, answer.json()["error_description"]) == (400, f"sessions: {error.__name__}")
    assert is_open(visitor)

    SessionStore.error = None
    assert hand_in(token).status_code == 200
    assert not is_open(visitor)


class FlakyCache(LocMemCache):
    """A cache whose server goes away: which Django's sessions take for a session that is not there."""

    is_down = False

    def get(self, key: str, *args: Any, **kwargs: Any) -> Any:
        if self.is_down:
            raise ConnectionError
        return super().get(key, *args, **kwargs)

    def delete(self, key: str, *args: Any, **kwargs: Any) -> Any:
        if self.is_down:
            raise ConnectionError
        return super().delete(key, *args, **kwargs)


@pytest.mark.parametrize("mode", ["end", "lower"])
def test_a_cache_that_does_not_answer_is_no_session_that_is_not_there(
    op: RunningProvider, settings: Any, visitor: Visitor, mode: str
) -> None:
    use(settings, BACK_CHANNEL_LOGOUT=mode)
    flaky = {"BACKEND": "tests.test_logout.FlakyCache", "LOCATION": "flaky"}
    settings.CACHES = {**settings.CACHES, "flaky": flaky}
    settings.SESSION_CACHE_ALIAS = "flaky"
    settings.SESSION_ENGINE = "django.contrib.sessions.backends.cache"
    visitor.step_up("/decorated/")
    token = op.logout_token("site", sub="stepup|anna")

    FlakyCache.is_down = True
    try:
        answer = hand_in(token)
    finally:
        FlakyCache.is_down = False
    assert (answer.status_code, answer.json()["error_description"]) == (400, "sessions: ConnectionError")
    assert is_open(visitor)

    assert hand_in(token).status_code == 200
    assert not is_open(visitor)


@contextmanager
def without_table(model: type[Model]) -> Iterator[None]:
    """As where the feature was switched on before `migrate` was run."""
    name = model._meta.db_table
    with connection.cursor() as cursor:
        cursor.execute(f"ALTER TABLE {name} RENAME TO away")
        try:
            yield
        finally:
            cursor.execute(f"ALTER TABLE away RENAME TO {name}")


@pytest.mark.parametrize("mode", ["end", "lower"])
def test_a_step_up_that_cannot_be_written_down_grants_nothing_and_signs_nobody_out(
    op: RunningProvider, settings: Any, visitor: Visitor, mode: str, caplog: pytest.LogCaptureFixture
) -> None:
    use(settings, BACK_CHANNEL_LOGOUT=mode)
    visitor.sign_in()
    callback = visitor.authenticate(visitor.get("/decorated/"))
    with without_table(LogoutNotice):
        back = visitor.come_back(callback)

    assert (back.status_code, back.context["verdict"]) == (503, "unavailable")
    assert back.context["reasons"] == ["sessions: OperationalError"]
    assert "elevated" not in {getattr(each, "event", "") for each in caplog.records[-1:]}
    assert is_signed_in(visitor)
    assert not is_open(visitor)


def test_a_sign_in_that_cannot_be_written_down_signs_nobody_in(op: RunningProvider, visitor: Visitor) -> None:
    callback = visitor.authenticate(visitor.get("/decorated/"))
    with without_table(SessionLink):
        back = visitor.come_back(callback)

    assert (back.status_code, back.context["verdict"]) == (503, "unavailable")
    assert not is_signed_in(visitor)


def test_an_elevation_that_the_op_has_ended_meanwhile_is_announced_to_nobody(
    op: RunningProvider, visitor: Visitor, caplog: pytest.LogCaptureFixture
) -> None:
    callback = visitor.authenticate(visitor.get("/decorated/"))
    hand_in(op.logout_token("site", sub="stepup|anna"))
    caplog.set_level("INFO", "stepup")

    assert visitor.come_back(callback).context["verdict"] == "expired"

    assert "elevated" not in {getattr(each, "event", "") for each in caplog.records}


def test_nobody_is_kept_from_signing_out_where_the_link_cannot_be_taken_out(
    op: RunningProvider, visitor: Visitor, caplog: pytest.LogCaptureFixture
) -> None:
    visitor.sign_in()
    with without_table(SessionLink):
        assert visitor.client.post("/oidc/logout/").status_code == 302

    assert not is_signed_in(visitor)
    assert "links_failed" in {getattr(each, "event", "") for each in caplog.records}


def test_a_sign_out_without_a_request_or_a_session_is_none_of_a_session(op: RunningProvider, visitor: Visitor) -> None:
    visitor.sign_in()
    for request in (None, HttpRequest()):
        user_logged_out.send(sender=User, request=request, user=User.objects.get())
    assert SessionLink.objects.count() == 1


def test_a_logout_that_was_stopped_half_way_is_carried_out_when_it_comes_again(
    op: RunningProvider, visitor: Visitor
) -> None:
    visitor.step_up("/decorated/")
    token = op.logout_token("site", sub="stepup|anna")
    with without_table(SessionLink):
        assert hand_in(token).json()["error_description"] == "sessions: OperationalError"
    assert not LogoutNotice.objects.get().is_done
    assert is_open(visitor)

    assert hand_in(token).status_code == 200
    assert not is_open(visitor)
    assert hand_in(token).json()["error_description"] == "jti: used"


@pytest.mark.parametrize("looks_first", [False, True])
def test_who_signs_in_here_with_a_password_after_the_op_has_ended_their_session_is_signed_in(
    op: RunningProvider, pages: None, visitor: Visitor, looks_first: bool
) -> None:
    visitor.sign_in()
    name = User.objects.get().get_username()
    hand_in(op.logout_token("site", sid=sid_of(visitor)))
    if looks_first:
        assert not is_signed_in(visitor)

    visitor.get(f"/locally/?name={name}")

    assert is_signed_in(visitor)


def test_a_session_that_came_about_with_a_password_here_is_not_the_ops_to_end(
    op: RunningProvider, pages: None, visitor: Visitor
) -> None:
    visitor.sign_in()
    name, sid = User.objects.get().get_username(), sid_of(visitor)
    visitor.session.delete(visitor.session.session_key)  # as where it has expired
    visitor.get(f"/locally/?name={name}")

    assert hand_in(op.logout_token("site", sid=sid)).status_code == 200

    assert is_signed_in(visitor)


# The key of the session changes


def locally(request: HttpRequest) -> HttpResponse:
    """A sign-in with a password of the site's own."""
    user = User.objects.get(username=request.GET["name"])
    auth.login(request, user, "django.contrib.auth.backends.ModelBackend")
    return HttpResponse()


def changing(request: HttpRequest) -> HttpResponse:
    """A page of the site's own that gives the session another key."""
    user: Any = request.user
    if request.GET["how"] == "password":
        user.set_password("another password")
        user.save()
        update_session_auth_hash(request, user)
    elif request.GET["how"] == "again":
        auth.login(request, user, "django.contrib.auth.backends.ModelBackend")
    elif request.GET["how"] == "acting":
        # As packages do that let staff act as somebody else.
        request.session["_auth_user_id"] = str(get_user_model().objects.get(username="other").pk)
        request.session.cycle_key()
    else:
        other = get_user_model().objects.get(username="other")
        auth.login(request, other, "django.contrib.auth.backends.ModelBackend")
    return HttpResponse()


async def achanging(request: HttpRequest) -> HttpResponse:
    user = await request.auser()
    assert isinstance(user, User)
    user.set_password("another password")
    await user.asave()
    request.user = user  # which Django 5.2 would load here, and may not in asynchronous code
    await auth.aupdate_session_auth_hash(request, user)
    return HttpResponse()


def hooked(request: HttpRequest) -> HttpResponse:
    """A page that has loaded the session, and saves it after something else has happened."""
    seen = dict(request.session.items())
    meanwhile()
    request.session["cart"] = len(seen)
    if request.GET.get("how") == "password":
        return changing(request)
    return HttpResponse()


meanwhile: Callable[[], object] = dict


@pytest.fixture
def pages(settings: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    urls = type("urls", (), {})
    urls.urlpatterns = [  # type: ignore[attr-defined]
        *site_urls.urlpatterns,
        path("locally/", locally),
        path("changing/", changing),
        path("achanging/", achanging),
        path("hooked/", hooked),
    ]
    settings.ROOT_URLCONF = urls
    settings.AUTHENTICATION_BACKENDS = ["stepup.backends.StepUpBackend", "django.contrib.auth.backends.ModelBackend"]


@pytest.fixture
def interrupted() -> Iterator[Callable[[Callable[[], object]], None]]:
    """Says what happens while the page `hooked` is being made."""

    def during(what: Callable[[], object]) -> None:
        global meanwhile  # noqa: PLW0603 - the page has no other way to know
        meanwhile = what

    yield during
    during(dict)


@pytest.mark.parametrize("how", ["password", "again"])
def test_a_session_under_another_key_is_found_still(
    op: RunningProvider, engine: str, pages: None, visitor: Visitor, how: str
) -> None:
    visitor.sign_in()
    sid, key = sid_of(visitor), visitor.session.session_key
    visitor.get(f"/changing/?how={how}")
    assert is_signed_in(visitor)
    assert (visitor.session.session_key != key) is (how == "password"), "signing in once more keeps it"

    assert hand_in(op.logout_token("site", sid=sid)).status_code == 200

    assert not is_signed_in(visitor)


async def test_a_session_under_another_key_is_found_still_where_all_is_asynchronous(
    transactional_db: None, op: RunningProvider, settings: Any, pages: None
) -> None:
    from asgiref.sync import sync_to_async

    anna = await sync_to_async(Visitor)("anna")
    await sync_to_async(anna.sign_in)()
    sid = await sync_to_async(sid_of)(anna)
    client = AsyncClient()
    client.cookies = anna.client.cookies
    answer = await client.get("/achanging/")
    assert answer.status_code == 200

    await sync_to_async(hand_in)(op.logout_token("site", sid=sid))

    assert (await client.get("/")).content.startswith(b"|")


def test_somebody_else_who_signs_in_in_the_same_browser_does_not_inherit_it(
    op: RunningProvider, pages: None, visitor: Visitor
) -> None:
    get_user_model().objects.create_user("other")
    visitor.sign_in()
    visitor.get("/changing/?how=other")

    assert hand_in(op.logout_token("site", sub="stepup|anna")).status_code == 200

    assert visitor.get("/").content.startswith(b"other|")


def test_whoever_acts_as_somebody_else_has_proved_nothing_and_goes_on_when_the_op_ends_what_was(
    op: RunningProvider, pages: None, visitor: Visitor
) -> None:
    other = get_user_model().objects.create_user("other")
    visitor.step_up("/decorated/")
    sid = sid_of(visitor)
    # The session is kept, and is another user's from here on: evidence is bound to the one who gave it.
    visitor.get("/changing/?how=acting")
    assert visitor.session["_auth_user_id"] == str(other.pk)
    assert not SessionLink.objects.exists()
    assert not is_open(visitor)

    assert hand_in(op.logout_token("site", sid=sid)).status_code == 200


def test_a_step_up_moves_the_link_and_a_sign_out_removes_it(op: RunningProvider, visitor: Visitor) -> None:
    visitor.sign_in()
    before = SessionLink.objects.get()
    visitor.step_up("/decorated/")
    after = SessionLink.objects.get()

    assert before.pk == after.pk
    assert before.key_digest != after.key_digest
    assert visitor.session.session_key not in (after.key_digest, after.locked_key)
    assert vault.unlock(after.locked_key, purpose="session").decode() == visitor.session.session_key
    assert (after.issuer, after.subject, after.sid) == (op.issuer, "stepup|anna", sid_of(visitor))
    assert str(after) == f"stepup|anna ({op.issuer})"

    visitor.client.post("/oidc/logout/")
    assert not SessionLink.objects.exists()


def test_signing_out_where_nobody_is_signed_in_removes_nothing(op: RunningProvider, visitor: Visitor) -> None:
    visitor.sign_in()
    request = HttpRequest()
    request.session = DatabaseStore()
    auth.logout(request)

    assert SessionLink.objects.count() == 1


def test_a_session_from_before_it_was_switched_on_is_linked_by_its_next_step_up(
    op: RunningProvider, settings: Any, visitor: Visitor
) -> None:
    use(settings, BACK_CHANNEL_LOGOUT=None)
    visitor.sign_in()
    use(settings, BACK_CHANNEL_LOGOUT="end")
    visitor.step_up("/decorated/")

    hand_in(op.logout_token("site", sid=sid_of(visitor)))

    assert not is_signed_in(visitor)


def test_a_sign_in_whose_session_at_the_op_has_no_sound_name_is_found_by_its_person(
    op: RunningProvider, visitor: Visitor, rf: Any
) -> None:
    visitor.sign_in()
    user = get_user_model().objects.get()
    request = rf.get("/")
    request.session, request.user = visitor.session, user
    SessionLink.objects.all().delete()
    claims = {"iss": op.issuer, "sub": "stepup|anna", "iat": clock.now()}
    for sid in ("x" * 256, 5, None):
        assert links.keep(request, user, {**claims, "sid": sid}, before=visitor.session.session_key)

    assert SessionLink.objects.get().sid == ""
    assert hand_in(op.logout_token("site", sub="stepup|anna")).status_code == 200
    assert not is_signed_in(visitor)


def test_a_new_secret_key_with_the_old_as_a_fallback_finds_sessions_still(
    op: RunningProvider, settings: Any, visitor: Visitor
) -> None:
    visitor.sign_in()
    sid, old = sid_of(visitor), settings.SECRET_KEY
    settings.SECRET_KEY, settings.SECRET_KEY_FALLBACKS = "another key that is as long as Django wants it to be", [old]
    visitor.step_up("/decorated/")
    assert SessionLink.objects.count() == 1

    hand_in(op.logout_token("site", sid=sid))

    assert not is_signed_in(visitor)


def test_a_secret_key_that_is_no_more_leaves_nothing_to_end(
    op: RunningProvider, settings: Any, visitor: Visitor, caplog: pytest.LogCaptureFixture
) -> None:
    visitor.sign_in()
    sid = sid_of(visitor)
    settings.SECRET_KEY = "another key that is as long as Django wants it to be"

    with caplog.at_level("INFO", "stepup"):
        assert hand_in(op.logout_token("site", sid=sid)).status_code == 200

    assert "Back-channel logout: 0 sessions" in caplog.text
    assert not is_signed_in(visitor)


def test_a_session_that_ended_otherwise_is_not_counted(
    op: RunningProvider, engine: str, visitor: Visitor, caplog: pytest.LogCaptureFixture
) -> None:
    visitor.sign_in()
    sid = sid_of(visitor)
    visitor.session.delete()

    with caplog.at_level("INFO", "stepup"):
        hand_in(op.logout_token("site", sid=sid))

    assert "Back-channel logout: 0 sessions" in caplog.text


def test_sessions_in_cookies_cannot_be_ended_and_are_not_in_the_way(
    op: RunningProvider, settings: Any, visit: Visit, caplog: pytest.LogCaptureFixture
) -> None:
    settings.SESSION_ENGINE = "django.contrib.sessions.backends.signed_cookies"
    for mode in ("end", "lower"):
        use(settings, BACK_CHANNEL_LOGOUT=mode)
        for visitor in (visit("anna"), visit("ben")):
            assert visitor.sign_in().status_code == 302
            assert hand_in(op.logout_token("site", sub=f"stepup|{visitor.person.username}")).status_code == 200
            assert is_signed_in(visitor)
    assert not SessionLink.objects.exists()


# On the way


class Waiting(StepUpBackend):
    """While it asks the OP, something happens."""

    def get_token(self, payload: dict[str, Any]) -> dict[str, Any]:
        answer = super().get_token(payload)
        meanwhile()
        return answer


@pytest.mark.parametrize("is_signed_in_before", [False, True])
@pytest.mark.parametrize("mode", ["end", "lower"])
def test_a_logout_that_overtakes_a_sign_in_or_step_up_is_not_undone_by_it(
    op: RunningProvider,
    engine: str,
    settings: Any,
    visitor: Visitor,
    interrupted: Any,
    mode: str,
    is_signed_in_before: bool,
) -> None:
    use(settings, BACK_CHANNEL_LOGOUT=mode)
    settings.AUTHENTICATION_BACKENDS = ["tests.test_logout.Waiting"]
    if is_signed_in_before:
        visitor.sign_in()
    callback = visitor.authenticate(visitor.get("/decorated/"))
    interrupted(lambda: hand_in(op.logout_token("site", sub="stepup|anna")))

    back = visitor.come_back(callback)

    assert (back.status_code, back.context["verdict"]) == (400, "expired")
    assert not is_open(visitor)
    assert is_signed_in(visitor) is (mode == "lower")
    assert "stepup" not in visitor.session


def test_a_logout_of_another_session_does_not_stop_a_sign_in(
    op: RunningProvider, settings: Any, visitor: Visitor, interrupted: Any
) -> None:
    settings.AUTHENTICATION_BACKENDS = ["tests.test_logout.Waiting"]

    def others() -> None:
        for about in ({"sid": "another"}, {"sub": "stepup|ben"}, {"sub": "stepup|anna", "sid": "another"}):
            hand_in(op.logout_token("site", **about))

    interrupted(others)

    assert visitor.step_up("/decorated/").status_code == 302
    assert is_open(visitor)


def test_a_session_that_is_ended_while_its_key_changes_is_ended_under_either(
    op: RunningProvider, engine: str, visitor: Visitor, rf: Any
) -> None:
    visitor.step_up("/decorated/")
    request = rf.get("/")
    request.session, request.user = visitor.session, get_user_model().objects.get()
    before, sid = request.session.session_key, sid_of(visitor)
    session.rotate(request).delete()
    hand_in(op.logout_token("site", sid=sid))

    claims = {"iss": op.issuer, "sub": "stepup|anna", "sid": sid, "iat": clock.now() + 60}

    assert not links.keep(request, request.user, claims, before=before)
    assert not SessionLink.objects.filter(ended=False).exists()


def test_a_session_that_moves_on_while_it_is_being_ended_is_found_where_it_is_then(
    op: RunningProvider, settings: Any, visitor: Visitor
) -> None:
    visitor.sign_in()
    link = SessionLink.objects.get()
    stale = SessionLink.objects.get()
    moved = session.stored(None, conf.current())
    moved.update(visitor.session.items())
    moved.create()
    SessionLink.objects.filter(pk=link.pk).update(
        key_digest=vault.digests(str(moved.session_key).encode(), purpose="session")[0],
        locked_key=vault.lock(str(moved.session_key).encode(), purpose="session"),
    )

    for mode in ("lower", "end"):
        use(settings, BACK_CHANNEL_LOGOUT=mode)
        assert not links._end(stale, conf.current()), "which is no longer where it was"
    hand_in(op.logout_token("site", sid=link.sid))

    assert not moved.exists(str(moved.session_key))


def test_where_sessions_move_faster_than_they_are_ended_the_op_hears_that_it_failed(
    op: RunningProvider, settings: Any, visitor: Visitor, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings.SESSION_ENGINE = "tests.test_logout"
    visitor.sign_in()
    token = op.logout_token("site", sub="stepup|anna")

    def move(key: str | None) -> None:
        moved = DatabaseStore()
        moved["moved"] = True
        moved.create()
        encoded = str(moved.session_key).encode()
        SessionLink.objects.update(
            key_digest=vault.digests(encoded, purpose="session")[0], locked_key=vault.lock(encoded, purpose="session")
        )

    with monkeypatch.context() as patch:
        patch.setattr(SessionStore, "before", staticmethod(move))
        answer = hand_in(token)

    assert (answer.status_code, answer.json()["error_description"]) == (400, "sessions: always on the move")
    assert hand_in(token).status_code == 200


# Requests that are being answered meanwhile


@pytest.mark.parametrize("mode", ["end", "lower"])
@pytest.mark.parametrize("how", ["", "password"])
def test_a_request_that_has_loaded_the_session_before_does_not_bring_the_evidence_back(
    op: RunningProvider,
    engine: str,
    settings: Any,
    pages: None,
    visitor: Visitor,
    interrupted: Any,
    mode: str,
    how: str,
) -> None:
    use(settings, BACK_CHANNEL_LOGOUT=mode)
    visitor.step_up("/decorated/")
    sid, key = sid_of(visitor), visitor.client.cookies["sessionid"].value
    interrupted(lambda: hand_in(op.logout_token("site", sid=sid)))

    answer = visitor.get(f"/hooked/?how={how}")

    # Where it cannot be saved any more, Django says so; where a new key was made, it is one that proves nothing.
    assert answer.status_code == (200 if how else 400)
    interrupted(dict)
    assert not is_open(visitor)
    assert not session.stored(key, conf.current()).get("stepup")
    if not how:
        visitor.client.cookies["sessionid"] = key
        assert is_signed_in(visitor) is (mode == "lower")
        assert not is_open(visitor)


def test_what_is_saved_too_late_is_refused_by_the_store(op: RunningProvider, engine: str, visitor: Visitor) -> None:
    visitor.step_up("/decorated/")
    stale, sid = visitor.session, sid_of(visitor)
    assert stale["stepup"]

    hand_in(op.logout_token("site", sid=sid))

    stale["cart"] = 1
    with pytest.raises(UpdateError):
        stale.save()


# Lowered sessions


def test_a_lowered_session_stays_signed_in_and_has_proved_nothing(
    op: RunningProvider, engine: str, lowering: None, visit: Visit, caplog: pytest.LogCaptureFixture
) -> None:
    anna, other, ben = proved(visit, "anna"), proved(visit, "anna"), visit("ben")
    ben.step_up("/decorated/", factor="totp")
    store = anna.session
    store["cart"] = "full"
    store.save()
    key, sid = store.session_key, sid_of(anna)

    with caplog.at_level("INFO", "stepup"):
        assert hand_in(op.logout_token("site", sid=sid)).status_code == 200

    assert next(each.mode for each in caplog.records if getattr(each, "event", "") == "back_channel_logout") == "lower"  # type: ignore[attr-defined]
    assert is_signed_in(anna)
    assert anna.session["cart"] == "full"
    assert anna.client.cookies["sessionid"].value != key
    assert anna.get("/decorated/").status_code == 302
    assert "stepup" not in anna.session
    assert is_open(other)
    assert is_open(ben)

    anna.person = Person("anna", "anna-password")
    anna.step_up("/decorated/", factor="push")
    assert is_open(anna)


def test_a_lowered_session_is_found_by_each_request_that_still_has_its_old_key(
    op: RunningProvider, engine: str, lowering: None, visitor: Visitor
) -> None:
    visitor.step_up("/decorated/")
    key = visitor.client.cookies["sessionid"].value
    hand_in(op.logout_token("site", sid=sid_of(visitor)))

    for _ in range(2):
        visitor.client.cookies["sessionid"] = key
        assert is_signed_in(visitor)
        assert not is_open(visitor)


def test_a_step_up_that_is_waiting_when_the_session_is_lowered_can_be_completed(
    op: RunningProvider, engine: str, lowering: None, visitor: Visitor
) -> None:
    visitor.sign_in()
    sid = sid_of(visitor)
    challenge = visitor.get("/decorated/")
    hand_in(op.logout_token("site", sid=sid))
    visitor.person = Person("anna", "anna-password")

    assert visitor.come_back(visitor.authenticate(challenge)).status_code == 302
    assert is_open(visitor)


async def test_a_lowered_session_stays_signed_in_where_all_is_asynchronous(
    transactional_db: None, op: RunningProvider, settings: Any
) -> None:
    from asgiref.sync import sync_to_async

    use(settings, BACK_CHANNEL_LOGOUT="lower")
    anna = await sync_to_async(Visitor)("anna")
    await sync_to_async(anna.step_up)("/decorated/")
    client = AsyncClient()
    client.cookies = anna.client.cookies
    assert (await client.get("/decorated-async/")).status_code == 200

    await sync_to_async(hand_in)(op.logout_token("site", sub="stepup|anna"))

    assert (await client.get("/decorated-async/")).status_code == 302
    assert not (await client.get("/")).content.startswith(b"|")


@pytest.mark.parametrize("cookie", [None, "", "unknown", "x" * 5000])
def test_a_key_of_no_session_is_nobodys(op: RunningProvider, lowering: None, cookie: str | None) -> None:
    client = Client()
    if cookie is not None:
        client.cookies["sessionid"] = cookie

    assert client.get("/").content.startswith(b"|")


def test_an_ended_session_is_not_gone_on_with_where_sessions_are_lowered_later(
    op: RunningProvider, settings: Any, visitor: Visitor
) -> None:
    visitor.sign_in()
    hand_in(op.logout_token("site", sid=sid_of(visitor)))
    use(settings, BACK_CHANNEL_LOGOUT="lower")

    assert not is_signed_in(visitor)


def test_what_a_lowered_session_has_become_may_end_too(
    op: RunningProvider, engine: str, lowering: None, visitor: Visitor
) -> None:
    visitor.sign_in()
    key = visitor.client.cookies["sessionid"].value
    hand_in(op.logout_token("site", sid=sid_of(visitor)))
    assert is_signed_in(visitor)
    visitor.client.post("/oidc/logout/")

    visitor.client.cookies["sessionid"] = key
    assert not is_signed_in(visitor)


def test_a_page_that_does_not_look_at_the_session_does_not_vary_by_it(
    op: RunningProvider, lowering: None, visitor: Visitor
) -> None:
    visitor.sign_in()

    assert "Cookie" not in visitor.get("/open/").get("Vary", "")


# What is kept


def test_what_has_expired_is_taken_out_and_what_was_prolonged_is_not(op: RunningProvider, visit: Visit) -> None:
    gone, prolonged, ended = visit("anna"), visit("ben"), visit("cleo")
    for visitor in (gone, prolonged, ended):
        visitor.sign_in()
    hand_in(op.logout_token("site", sub="stepup|cleo"))
    gone.session.delete()
    SessionLink.objects.update(expires=1)
    LogoutNotice.objects.update(expires=1)

    visit("anna").sign_in()

    left = SessionLink.objects.order_by("pk")
    assert [(each.subject, each.expires > clock.now()) for each in left] == [
        ("stepup|ben", True),
        ("stepup|anna", True),
    ]
    assert not LogoutNotice.objects.exists()


def test_few_are_taken_out_at_a_time(op: RunningProvider, visitor: Visitor) -> None:
    visitor.sign_in()
    user = get_user_model().objects.get()
    for number in range(links.TIDIED + 5):
        SessionLink.objects.create(
            key_digest=str(number), locked_key="x", issuer=op.issuer, subject="s", user=user, expires=number
        )

    visitor.step_up("/decorated/")

    assert SessionLink.objects.count() == 5 + 1


def test_a_logout_notice_reads_as_what_has_ended() -> None:
    assert str(LogoutNotice(sid="s-1", subject="anna", issuer="https://op.example/")) == "s-1 (https://op.example/)"
    assert str(LogoutNotice(subject="anna", issuer="https://op.example/")) == "anna (https://op.example/)"


def test_a_database_that_takes_capitals_for_small_letters_ends_nobody_elses_session() -> None:
    anna = Logout("https://op.example/", "anna", None, 0, "j")

    assert links._is_about(anna, "https://op.example/", "anna", "s-1")
    assert not links._is_about(anna, "https://op.example/", "ANNA", "s-1")
    assert not links._is_about(anna, "https://OP.example/", "anna", "s-1")


# All of it, over HTTP


def test_the_op_tells_a_running_site_that_somebody_has_signed_out_elsewhere(
    transactional_db: None, live_server: Any, settings: Any
) -> None:
    site = OPClient(
        client_id="site",
        client_secret=settings.OIDC_RP_CLIENT_SECRET,
        redirect_uris=(f"{live_server.url}/oidc/callback/",),
        backchannel_logout_uri=f"{live_server.url}{WHERE}",
        backchannel_logout_session_required=True,
    )
    with launch(Configuration(purpose="tests", clients=(site,))) as provider:
        use(settings, ISSUER=provider.issuer)
        browsers = {}
        for name in ("anna", "ben"):
            browser = requests.Session()
            browser.trust_env = False
            person = Person(name, f"{name}-password")
            challenge = browser.get(f"{live_server.url}/decorated/", allow_redirects=False)
            back = person.authenticate(challenge.headers["Location"], factor="totp")
            assert browser.get(back).text == SECRET
            browsers[name] = (browser, person)

        browsers["anna"][1].sign_out(f"{provider.issuer}oidc/logout?client_id=site")

        (sent,) = provider.logouts()
        assert (sent.client_id, sent.subject, sent.status) == ("site", "stepup|anna", 200)
        assert sent.sid
        anna, ben = (browsers[name][0].get(f"{live_server.url}/").text for name in ("anna", "ben"))
        assert anna.startswith("|")
        assert re.fullmatch(r".+\|open", ben)

        assert provider.log_out("site", sub="stepup|ben") == 200
        assert browsers["ben"][0].get(f"{live_server.url}/").text.startswith("|")


def test_nothing_here_outlives_the_cache(visitor: Visitor, op: RunningProvider) -> None:
    """That a token was used is in the database: a cache that is emptied, or down, forgets no logout and stops none."""
    token = op.logout_token("site", sub="stepup|anna")
    hand_in(token)
    cache.clear()

    assert hand_in(token).json()["error_description"] == "jti: used"


def test_what_is_there_is_a_session_of_the_engine_of_the_settings(engine: str, settings: Any) -> None:
    store: SessionBase = session.stored(None, conf.current())

    assert type(store).__module__ == settings.SESSION_ENGINE
