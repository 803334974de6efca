"""`stepup.views`: the callback, with answers that are late, foreign, doubled or forged."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest
from django.contrib.auth import get_user_model
from django.contrib.auth.models import User
from django.contrib.sessions.backends.db import SessionStore
from django.http import HttpRequest, HttpResponse, HttpResponseRedirect
from django.urls import include, path
from django.views.debug import ExceptionReporter

from stepup import clock, gate
from stepup.backends import StepUpBackend
from stepup.decorators import stepup_required
from stepup.testing.provider.launcher import RunningProvider
from stepup.views import AuthenticationCallbackView
from tests.urls import SECRET, plain
from tests.visitor import Visitor, query, with_query


class Interrupted(StepUpBackend):
    """While it asks the OP, something happens in another tab."""

    meanwhile: Callable[[], object] = dict
    at_last: Callable[[], object] = dict

    def get_token(self, payload: dict[str, Any]) -> dict[str, Any]:
        answer = super().get_token(payload)
        type(self).meanwhile()
        return answer

    def store_tokens(self, access_token: str, id_token: str) -> None:
        type(self).at_last()
        super().store_tokens(access_token, id_token)


class Swaps(Interrupted):
    """A backend of the site's own that passes off what was verified for one user as another's."""

    def authenticate(self, request: HttpRequest | None, **kwargs: Any) -> Any:
        user, other = super().authenticate(request, **kwargs), get_user_model().objects.get(username="other")
        other.stepup_login = user.stepup_login  # type: ignore[union-attr]
        return other


class LetsAnybodyIn:
    """A backend of the site's own that takes the callback's credentials for its own."""

    def authenticate(self, request: HttpRequest, **credentials: Any) -> User | None:
        user: User | None = get_user_model().objects.first()
        return user

    def get_user(self, user_id: int) -> User | None:
        return None


@pytest.fixture(autouse=True)
def uninterrupted(settings: Any) -> Iterator[None]:
    settings.AUTHENTICATION_BACKENDS = ["tests.test_views.Interrupted"]
    yield
    Interrupted.meanwhile = Interrupted.at_last = dict


def assert_refused_and_untouched(visitor: Visitor, callback: str, status: int, verdict: str, reason: str) -> None:
    """The answer is refused with this verdict, nobody is signed out or in, and no evidence comes or goes."""
    before = dict(visitor.session)
    key = visitor.client.cookies.get("sessionid")
    cookie = key.value if key else None

    back = visitor.come_back(callback)

    assert (back.status_code, back.context["verdict"], back.context["reasons"]) == (status, verdict, [reason])
    assert "no-store" in back["Cache-Control"]
    after = dict(visitor.session)
    for passing in ("stepup_pending", "stepup_attempts"):
        before.pop(passing, None)
        after.pop(passing, None)
    assert after == before
    assert (visitor.client.cookies["sessionid"].value if cookie else None) == cookie


@pytest.fixture
def waiting(visitor: Visitor) -> tuple[Visitor, str]:
    """Anna is signed in, has stepped up at the OP, and the answer is on its way."""
    visitor.sign_in()
    return visitor, visitor.authenticate(visitor.get("/decorated/"))


@pytest.mark.parametrize("state", [None, "", "unknown", "x" * 5000, "%00"])
def test_an_unknown_state_is_refused(waiting: tuple[Visitor, str], state: str | None) -> None:
    visitor, callback = waiting
    assert_refused_and_untouched(visitor, with_query(callback, state=state), 400, "expired", "state: unknown")


@pytest.mark.parametrize("error", ["access_denied", "login_required", "server_error"])
def test_an_error_with_a_forged_state_signs_nobody_out(waiting: tuple[Visitor, str], error: str) -> None:
    visitor, callback = waiting
    forged = with_query(callback, state="forged", error=error, code=None)
    assert_refused_and_untouched(visitor, forged, 400, "expired", "state: unknown")


def test_a_state_of_another_browser_is_refused(waiting: tuple[Visitor, str], visit: Callable[[str], Visitor]) -> None:
    _, callback = waiting
    mallory = visit("ben")
    mallory.sign_in()
    assert_refused_and_untouched(mallory, callback, 400, "expired", "state: unknown")


def test_a_state_that_waited_too_long_is_refused(waiting: tuple[Visitor, str]) -> None:
    visitor, callback = waiting
    clock.offset = 901
    assert_refused_and_untouched(visitor, callback, 400, "expired", "state: unknown")


@pytest.mark.parametrize("name", ["state", "code", "iss", "error"])
def test_a_doubled_parameter_is_refused(waiting: tuple[Visitor, str], name: str) -> None:
    visitor, callback = waiting
    doubled = f"{callback}&{name}=x&{name}=y"
    assert_refused_and_untouched(visitor, doubled, 400, "invalid", "response: duplicate parameter")


@pytest.mark.parametrize("method", ["post", "put", "delete", "head", "options"])
def test_an_answer_comes_by_get_alone(waiting: tuple[Visitor, str], method: str) -> None:
    visitor, callback = waiting
    path = callback.removeprefix("http://testserver")

    assert getattr(visitor.client, method)(path).status_code == 405
    assert visitor.come_back(callback).status_code == 302, "and is still good"


@pytest.mark.parametrize("issuer", ["https://evil.example/", "", "http://127.0.0.1"])
def test_an_answer_of_another_issuer_is_refused_before_the_token_request(
    waiting: tuple[Visitor, str], op: RunningProvider, issuer: str
) -> None:
    visitor, callback = waiting
    before = len(op.requests())
    assert_refused_and_untouched(visitor, with_query(callback, iss=issuer), 400, "invalid", "iss: mismatch")
    assert len(op.requests()) == before


def test_an_answer_without_the_issuer_that_the_metadata_promises_is_refused(waiting: tuple[Visitor, str]) -> None:
    visitor, callback = waiting
    assert_refused_and_untouched(visitor, with_query(callback, iss=None), 400, "invalid", "iss: missing")


def test_an_answer_without_a_code_is_refused(waiting: tuple[Visitor, str]) -> None:
    visitor, callback = waiting
    assert_refused_and_untouched(visitor, with_query(callback, code=None), 400, "invalid", "code: missing")


def test_a_code_that_the_op_does_not_know_is_refused(waiting: tuple[Visitor, str]) -> None:
    visitor, callback = waiting
    invented = with_query(callback, code="invented")
    reason = "token request refused: invalid_grant"
    assert_refused_and_untouched(visitor, invented, 400, "invalid", reason)


def test_another_sessions_code_is_refused_by_pkce(
    waiting: tuple[Visitor, str], visit: Callable[[str], Visitor]
) -> None:
    visitor, callback = waiting
    mallory = visit("ben")
    foreign = query(mallory.authenticate(mallory.get("/decorated/"), "totp"))["code"]
    reason = "token request refused: invalid_grant"
    assert_refused_and_untouched(visitor, with_query(callback, code=foreign), 400, "invalid", reason)


def test_the_code_of_another_tab_is_refused(visitor: Visitor) -> None:
    visitor.sign_in()
    first = visitor.authenticate(visitor.get("/decorated/"))
    second = visitor.authenticate(visitor.get("/class/"))
    crossed = with_query(first, code=query(second)["code"])
    assert_refused_and_untouched(visitor, crossed, 400, "invalid", "token request refused: invalid_grant")


@pytest.mark.parametrize(
    ("error", "status", "verdict", "reason"),
    [
        ("access_denied", 403, "declined", "error: access_denied"),
        ("unmet_authentication_requirements", 403, "unmet", "error: unmet_authentication_requirements"),
        ("interaction_required", 403, "unmet", "error: interaction_required"),
        ("login_required", 403, "unmet", "error: login_required"),
        ("consent_required", 403, "unmet", "error: consent_required"),
        ("account_selection_required", 403, "unmet", "error: account_selection_required"),
        ("server_error", 503, "unavailable", "error: server_error"),
        ("temporarily_unavailable", 503, "unavailable", "error: temporarily_unavailable"),
        ("invalid_scope", 400, "invalid", "error: other"),
        ("<script>alert(1)</script>", 400, "invalid", "error: other"),
    ],
)
def test_each_error_of_the_op_has_its_verdict_and_the_user_stays_signed_in(
    waiting: tuple[Visitor, str], error: str, status: int, verdict: str, reason: str
) -> None:
    visitor, callback = waiting
    answer = with_query(callback, code=None, error=error, error_description="<b>Call 0800-EVIL</b>")
    assert_refused_and_untouched(visitor, answer, status, verdict, reason)


def test_what_the_op_writes_about_an_error_is_not_shown(waiting: tuple[Visitor, str]) -> None:
    visitor, callback = waiting
    answer = with_query(callback, code=None, error="access_denied", error_description="Call 0800-EVIL")
    assert b"EVIL" not in visitor.come_back(answer).content


def test_each_verdict_page_offers_what_makes_sense(waiting: tuple[Visitor, str]) -> None:
    visitor, callback = waiting
    back = visitor.come_back(with_query(callback, code=None, error="access_denied"))

    assert back.context["retry_url"] == "/oidc/authenticate/?next=%2Fdecorated%2F&stepup=mfa"
    assert back.context["home_url"] == "/"
    assert back.context["signed_in"] is True
    assert back.context["sign_out_url"] == ""


def test_elevations_pending_in_two_tabs_are_each_judged_by_their_own_requirement(visitor: Visitor) -> None:
    visitor.sign_in()
    sudo, mfa = visitor.get("/sudo/"), visitor.get("/decorated/")

    back_sudo = visitor.come_back(visitor.authenticate(sudo, None))
    back_mfa = visitor.come_back(visitor.person.authenticate(with_query(mfa["Location"], acr_values=None), factor=None))

    assert back_sudo["Location"] == "/sudo/"
    assert (back_mfa.status_code, back_mfa.context["verdict"]) == (403, "proof_missing")
    assert visitor.get("/decorated/").status_code == 302


def test_a_session_that_ended_while_the_op_was_asked_stays_ended(waiting: tuple[Visitor, str], settings: Any) -> None:
    visitor, callback = waiting
    Interrupted.meanwhile = visitor.session.delete

    back = visitor.come_back(callback)

    assert (back.status_code, back.context["verdict"]) == (400, "expired")
    assert back.context["reasons"] == ["session: ended meanwhile"]
    assert "sessionid" not in back.cookies, "the browser keeps the cookie that another tab may have got"
    assert visitor.get("/decorated/").status_code == 302
    assert not visitor.session.get("_auth_user_id")


class EndsMeanwhile:
    """Between the load of the session and the view, another tab has signed out."""

    def __init__(self, get_response: Callable[[HttpRequest], HttpResponse]) -> None:
        self.get_response = get_response

    def __call__(self, request: HttpRequest) -> HttpResponse:
        if request.user.is_authenticated and request.path == "/oidc/callback/":
            SessionStore(request.session.session_key).delete()
        return self.get_response(request)


def test_a_session_that_ended_just_before_its_answer_came_is_an_old_link(visitor: Visitor, settings: Any) -> None:
    settings.MIDDLEWARE = [*settings.MIDDLEWARE, "tests.test_views.EndsMeanwhile"]
    visitor.sign_in()
    callback = visitor.authenticate(visitor.get("/decorated/"))

    back = visitor.come_back(callback)
    assert (back.status_code, back.context["verdict"]) == (400, "expired")
    assert "sessionid" not in back.cookies


def test_a_user_who_signed_out_and_another_in_while_the_op_was_asked_is_not_swapped(
    waiting: tuple[Visitor, str], settings: Any
) -> None:
    visitor, callback = waiting
    other = get_user_model().objects.create_user("other")

    def swap() -> None:
        session = visitor.session
        session["_auth_user_id"] = str(other.pk)
        session["_auth_user_hash"] = other.get_session_auth_hash()
        session.pop("stepup")
        session.save()

    Interrupted.meanwhile = swap
    back = visitor.come_back(callback)

    assert (back.status_code, back.context["verdict"]) == (400, "expired")
    assert visitor.session["_auth_user_id"] == str(other.pk)
    assert "stepup" not in visitor.session


def test_somebody_who_signed_in_in_another_tab_meanwhile_is_not_swapped(visitor: Visitor, settings: Any) -> None:
    callback = visitor.authenticate(visitor.get("/oidc/authenticate/"), None)
    other = get_user_model().objects.create_user("other")

    def sign_in() -> None:
        session = visitor.session
        session["_auth_user_id"] = str(other.pk)
        session["_auth_user_backend"] = "tests.test_views.Interrupted"
        session["_auth_user_hash"] = other.get_session_auth_hash()
        session.save()

    Interrupted.meanwhile = sign_in
    back = visitor.come_back(callback)

    assert (back.status_code, back.context["verdict"]) == (400, "expired")
    assert visitor.session["_auth_user_id"] == str(other.pk)


def test_a_first_sign_in_survives_the_end_of_its_anonymous_session(visitor: Visitor, settings: Any) -> None:
    callback = visitor.authenticate(visitor.get("/decorated/"))
    Interrupted.meanwhile = visitor.session.delete

    assert visitor.come_back(callback)["Location"] == "/decorated/"
    assert visitor.get("/decorated/").content.decode() == SECRET


def test_what_parallel_requests_stored_while_the_op_was_asked_is_kept(
    waiting: tuple[Visitor, str], settings: Any
) -> None:
    visitor, callback = waiting

    def store() -> None:
        session = visitor.session
        session["basket"] = ["a book"]
        session.save()

    Interrupted.meanwhile = store
    visitor.come_back(callback)

    assert visitor.session["basket"] == ["a book"]
    assert visitor.get("/decorated/").content.decode() == SECRET


def test_somebody_who_signed_out_before_the_answer_came_is_not_signed_in_by_it(waiting: tuple[Visitor, str]) -> None:
    visitor, callback = waiting
    pending = visitor.session["stepup_pending"]
    visitor.client.logout()
    session = visitor.session
    session["stepup_pending"] = pending
    session.save()
    visitor.client.cookies["sessionid"] = str(session.session_key)

    back = visitor.come_back(callback)

    assert back.context["reasons"] == ["session: another user than at the start"]
    assert not visitor.session.get("_auth_user_id")


def test_somebody_who_needs_long_for_the_second_factor_is_fresh_for_the_page_they_came_from_once(
    visitor: Visitor, settings: Any
) -> None:
    settings.STEPUP = {**settings.STEPUP, "REQUIREMENTS": {"sudo": {"max_age": 0}}, "LEEWAY": 0}
    challenge = visitor.get("/sudo/")
    callback = visitor.authenticate(challenge, None)
    clock.offset = 90  # the OP's clock, by which `auth_time` is told, stands still meanwhile

    assert visitor.come_back(callback)["Location"] == "/sudo/"
    assert visitor.get("/sudo-class/").status_code == 302, "another page has to ask for itself"
    assert visitor.get("/sudo/").content.decode() == SECRET
    assert query(visitor.get("/sudo/")["Location"])["prompt"] == "login", "and this one again, next time"


@pytest.mark.parametrize("page", ["/twice/", "/demanded/"])
def test_all_doors_of_the_page_that_it_was_for_take_it_for_fresh(visitor: Visitor, settings: Any, page: str) -> None:
    settings.STEPUP = {
        **settings.STEPUP,
        "REQUIREMENTS": {"sudo": {"max_age": 0}},
        "PROTECTED_VIEWS": {"twice": "sudo"},
        "LEEWAY": 0,
    }
    settings.ROOT_URLCONF = "tests.test_views"
    callback = visitor.authenticate(visitor.get(page), None)
    clock.offset = 90

    assert visitor.come_back(callback)["Location"] == page
    assert visitor.get(page).content.decode() == SECRET
    assert visitor.get(page).status_code == 302


def test_an_answer_that_was_kept_is_not_fresh_when_it_is_handed_in(visitor: Visitor, settings: Any) -> None:
    settings.STEPUP = {**settings.STEPUP, "REQUIREMENTS": {"sudo": {"max_age": 60}}, "LEEWAY": 0}
    callback = visitor.authenticate(visitor.get("/sudo/"), None)
    clock.offset = 121

    back = visitor.come_back(callback)

    assert (back.status_code, back.context["verdict"]) == (403, "stale")
    assert visitor.get("/sudo/").status_code == 302


def test_what_was_proved_before_the_request_went_out_is_not_made_fresh_by_the_trip(
    visitor: Visitor, settings: Any
) -> None:
    settings.STEPUP = {**settings.STEPUP, "REQUIREMENTS": {"sudo": {"max_age": 0}}, "LEEWAY": 0}
    visitor.come_back(visitor.authenticate(visitor.get("/oidc/authenticate/"), None))
    clock.offset = 60
    challenge = visitor.get("/sudo/")
    # An OP that remembers the user, and ignores that it was told to ask.
    remembered = with_query(challenge["Location"], prompt=None, max_age="9999")
    clock.offset = 90
    back = visitor.come_back(visitor.person.authenticate(remembered, factor=None))

    assert (back.status_code, back.context["verdict"]) == (403, "stale")
    assert visitor.get("/sudo/").status_code == 302


def test_a_request_that_comes_with_the_key_from_before_an_elevation_does_not_delete_the_new_cookie(
    visitor: Visitor,
) -> None:
    visitor.sign_in()
    late = str(visitor.session.session_key)
    visitor.step_up("/decorated/")
    new = str(visitor.session.session_key)
    visitor.client.cookies["sessionid"] = late

    response = visitor.get("/")

    assert "sessionid" not in response.cookies
    visitor.client.cookies["sessionid"] = new
    assert visitor.get("/decorated/").content.decode() == SECRET
    response = visitor.client.post("/oidc/logout/")
    assert response.cookies["sessionid"].value == "", "who signs out has the cookie deleted as ever"


def demanding(request: HttpRequest) -> HttpResponse:
    gate.demand(request, "sudo")
    return HttpResponse(SECRET)


urlpatterns = [
    path("twice/", stepup_required("sudo")(plain), name="twice"),
    path("demanded/", demanding),
    path("oidc/", include("stepup.urls")),
]


def fail() -> None:
    raise RuntimeError("the site's own hook is broken")


@pytest.mark.parametrize("hook", ["meanwhile", "at_last"])
def test_a_hook_that_breaks_signs_nobody_out(waiting: tuple[Visitor, str], hook: str) -> None:
    visitor, callback = waiting
    before, key = dict(visitor.session), visitor.client.cookies["sessionid"].value
    visitor.client.raise_request_exception = False
    setattr(Interrupted, hook, fail)

    assert visitor.come_back(callback).status_code == 500

    assert visitor.client.cookies["sessionid"].value == key
    del before["stepup_pending"]
    assert dict(visitor.session) == before


def test_what_is_secret_is_not_in_the_report_of_a_hook_that_breaks(waiting: tuple[Visitor, str], settings: Any) -> None:
    visitor, callback = waiting
    visitor.client.raise_request_exception = False
    (pending,) = visitor.session["stepup_pending"].values()
    Interrupted.at_last = fail

    response = visitor.come_back(callback)

    reporter = ExceptionReporter(response.wsgi_request, *response.exc_info)
    report = reporter.get_traceback_html() + reporter.get_traceback_text()
    assert "store_tokens" in report
    for secret in (pending["nonce"], pending["pkce"], settings.OIDC_RP_CLIENT_SECRET):
        assert secret not in report


def test_where_no_backend_of_ours_is_configured_nobody_is_signed_in(visitor: Visitor, settings: Any) -> None:
    callback = visitor.authenticate(visitor.get("/decorated/"))
    settings.AUTHENTICATION_BACKENDS = ["django.contrib.auth.backends.ModelBackend"]

    assert_refused_and_untouched(visitor, callback, 403, "no_account", "backend: no user")


def test_a_user_that_another_backend_vouches_for_is_not_taken(visitor: Visitor, settings: Any) -> None:
    callback = visitor.authenticate(visitor.get("/decorated/"))
    get_user_model().objects.create_user("anybody")
    settings.AUTHENTICATION_BACKENDS = ["tests.test_views.LetsAnybodyIn"]

    assert_refused_and_untouched(visitor, callback, 403, "no_account", "backend: no user")


@pytest.mark.parametrize("is_signed_in", [True, False])
def test_what_was_verified_for_one_user_elevates_no_other_whatever_a_backend_says(
    visitor: Visitor, settings: Any, is_signed_in: bool
) -> None:
    settings.AUTHENTICATION_BACKENDS = ["tests.test_views.Swaps"]
    get_user_model().objects.create_user("other")
    anna = get_user_model().objects.create_user("anna", email="anna@harbour.example")
    if is_signed_in:
        visitor.client.force_login(anna, "tests.test_views.Swaps")
    callback = visitor.authenticate(visitor.get("/decorated/"))
    if not is_signed_in:  # but in another tab, meanwhile
        visitor.client.force_login(anna, "tests.test_views.Swaps")

    assert_refused_and_untouched(visitor, callback, 400, "expired", "session: another user meanwhile")


def test_a_step_up_that_mozillas_refresh_middleware_asks_for_silently_is_answered_too(
    op: RunningProvider, visitor: Visitor
) -> None:
    visitor.sign_in()
    session = visitor.session
    session["oidc_states"] = {"theirs": {"nonce": "n", "code_verifier": None, "added_on": clock.now()}}
    session["oidc_login_next"] = "/open/"
    session.save()

    back = visitor.client.get(
        "/oidc/callback/",
        {"state": "theirs", "error": "login_required", "iss": op.issuer},
    )

    assert back.status_code == 302
    sent = query(back["Location"])
    assert "prompt" not in sent
    assert visitor.come_back(visitor.authenticate(back, None))["Location"] == "/open/"


def test_a_sub_class_may_answer_success_and_failure_itself(visitor: Visitor, rf: Any) -> None:
    class Own(AuthenticationCallbackView):
        def login_failure(self) -> HttpResponse:
            return HttpResponseRedirect("/sorry/")

    request: Any = rf.get("/oidc/callback/?state=unknown")
    request.session, request.user = visitor.session, get_user_model()()
    assert Own.as_view()(request)["Location"] == "/sorry/"


def test_outside_of_an_answer_success_leads_where_sign_ins_go(rf: Any) -> None:
    view = AuthenticationCallbackView()
    view.setup(rf.get("/"))
    assert view.success_url == "/"


def test_both_views_are_open_under_login_required_middleware(visitor: Visitor, settings: Any) -> None:
    settings.MIDDLEWARE = [*settings.MIDDLEWARE, "django.contrib.auth.middleware.LoginRequiredMiddleware"]

    started = visitor.get("/oidc/authenticate/?next=/open/")
    assert started["Location"].startswith("http://127.0.0.1:")
    assert visitor.come_back(visitor.authenticate(started, None))["Location"] == "/open/"
    assert visitor.client.post("/oidc/logout/")["Location"] == "/"
    assert visitor.client.post("/oidc/logout/")["Location"] == "/", "signing out twice does no harm"


def test_signing_out_ends_the_evidence(visitor: Visitor) -> None:
    visitor.step_up("/decorated/")
    visitor.client.post("/oidc/logout/")
    assert "stepup" not in visitor.session
    assert visitor.get("/decorated/").status_code == 302


def test_signing_out_needs_a_post(visitor: Visitor) -> None:
    visitor.sign_in()
    assert visitor.get("/oidc/logout/").status_code == 405
    assert visitor.session["_auth_user_id"]


def test_a_thousand_abandoned_step_ups_leave_a_small_session_and_the_newest_completes(visitor: Visitor) -> None:
    visitor.sign_in()
    for _ in range(1000):
        challenge = visitor.get("/decorated/")
    assert len(visitor.session["stepup_pending"]) == 20
    assert visitor.come_back(visitor.authenticate(challenge))["Location"] == "/decorated/"
