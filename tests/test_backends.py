"""From the OP's answer to an account of this site: who is signed in, who is not, and what is left behind then."""

from __future__ import annotations

import json
import time
import unicodedata
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import pytest
import requests
from django.contrib.auth import authenticate, get_user_model
from django.contrib.auth.models import AnonymousUser, Permission, User
from django.core.exceptions import PermissionDenied, SuspiciousOperation
from django.db import connection
from django.test import Client

from stepup.backends import StepUpBackend
from stepup.exceptions import ProviderError
from stepup.models import Identity
from stepup.testing.provider.launcher import RunningProvider
from tests.hostile_op import ANNA, BEN, JWKS, METADATA, TOKEN, USERINFO, HostileOP, answer, closed_port, cut
from tests.tokens import ABSENT, CLIENT_SECRET, KEYS, b64, claims, sign
from tests.urls import SECRET
from tests.visitor import Visitor, query

MODEL_BACKEND = "django.contrib.auth.backends.ModelBackend"
NOWHERE = f"http://127.0.0.1:{closed_port()}/"


@pytest.fixture
def hostile(settings: Any, db: None) -> Iterator[HostileOP]:
    """An OP that vouches for whomever a test names."""
    with HostileOP() as op:
        settings.STEPUP = {**settings.STEPUP, "ISSUER": op.url}
        settings.OIDC_TIMEOUT = 2
        yield op


class Browser:
    """A browser that is sent to the OP and comes back with what the OP was told to say."""

    def __init__(self, op: HostileOP) -> None:
        self.op = op
        self.client = Client()

    def come_back(self, userinfo: Any = None, path: str = "/decorated/", **vouched: Any) -> Any:
        challenge = self.client.get(path)
        assert challenge.status_code == 302, challenge.content
        callback = self.op.vouch(challenge["Location"], userinfo, **vouched)
        return self.client.get(callback.removeprefix("http://testserver"))

    def sign_in(self, userinfo: Any = None) -> Any:
        """Sign in with a password alone."""
        return self.come_back(userinfo, "/oidc/authenticate/", id_token={"amr": None})

    @property
    def user(self) -> Any:
        pk = self.client.session.get("_auth_user_id")
        return None if pk is None else get_user_model().objects.get(pk=pk)

    @property
    def session(self) -> dict[str, Any]:
        """What is on the session, apart from what says that something was tried."""
        passing = ("stepup_pending", "stepup_attempts")
        return {key: value for key, value in self.client.session.items() if key not in passing}

    def is_shown(self) -> bool:
        response = self.client.get("/decorated/")
        return bool(response.status_code == 200 and response.content.decode() == SECRET)


@pytest.fixture
def browser(hostile: HostileOP) -> Browser:
    return Browser(hostile)


@pytest.fixture
def use(settings: Any) -> Callable[[type[StepUpBackend]], None]:
    """Puts a site's own backend in place of ours."""

    def put(backend: type[StepUpBackend]) -> None:
        settings.AUTHENTICATION_BACKENDS = [f"{backend.__module__}.{backend.__qualname__}", MODEL_BACKEND]

    return put


def verdict(response: Any) -> tuple[str, list[str]]:
    """The verdict and the reasons, of a page that is clear about it."""
    assert response.context is not None, (response.status_code, response.content)
    return response.context["verdict"], response.context["reasons"]


def assert_nobody(browser: Browser) -> None:
    assert browser.user is None
    assert browser.session == {}
    assert not browser.is_shown()


# The OP's answer


def test_an_honest_answer_signs_in(browser: Browser) -> None:
    back = browser.come_back()

    assert (back.status_code, back["Location"]) == (302, "/decorated/")
    assert browser.user.email == ANNA["email"]
    assert browser.is_shown()


@pytest.mark.parametrize(
    ("claim", "seconds", "reason"),
    [
        ("exp", -31, "exp: expired"),
        ("exp", -25, None),
        *((claim, seconds, None if seconds < 30 else f"{claim}: in the future")
          for claim in ("iat", "nbf", "auth_time") for seconds in (25, 40)),
    ],
)  # fmt: skip
def test_times_are_told_by_clocks_that_may_be_half_a_minute_apart(
    browser: Browser, claim: str, seconds: int, reason: str | None
) -> None:
    back = browser.come_back(id_token={claim: int(time.time()) + seconds})
    if reason is None:
        assert back["Location"] == "/decorated/"
    else:
        assert verdict(back) == ("invalid", [reason])
        assert_nobody(browser)


def test_a_client_secret_that_is_too_short_to_sign_with_opens_nothing(browser: Browser, settings: Any) -> None:
    secret = "x" * 31
    settings.OIDC_RP_SIGN_ALGO, settings.OIDC_RP_CLIENT_SECRET = "HS256", secret
    back = browser.come_back(id_token=sign(claims(iss=browser.op.url), "HS256", key=secret))
    assert verdict(back) == ("invalid", ["alg: client secret too short"])
    assert_nobody(browser)


@pytest.mark.parametrize("sub", ["ben", "ANNA", "anna ", "", None, ["anna"], 1, True, ABSENT])
def test_userinfo_about_another_subject_is_refused(browser: Browser, sub: Any) -> None:
    userinfo = {name: value for name, value in {**ANNA, "sub": sub}.items() if value is not ABSENT}

    back = browser.come_back(userinfo, id_token={"sub": "anna"})

    assert back.status_code == 400
    assert verdict(back) == ("invalid", ["sub: mismatch in userinfo"])
    assert_nobody(browser)
    assert not get_user_model().objects.exists()


@pytest.mark.parametrize("access_token", [ABSENT, None, 7, ["at"], {}])
def test_a_token_response_without_access_token_is_no_answer(browser: Browser, access_token: Any) -> None:
    browser.op.answers[TOKEN] = lambda request: answer(
        {
            name: value
            for name, value in {
                "id_token": browser.op._logins[request.form["code"]].id_token,
                "access_token": access_token,
            }.items()
            if value is not ABSENT
        }
    )

    assert verdict(browser.come_back()) == ("unavailable", ["token: no access_token"])
    assert_nobody(browser)


@pytest.mark.parametrize("id_token", [None, "", 7, ["e30.e30.AA"], {}])
def test_a_token_response_without_id_token_is_refused(browser: Browser, id_token: Any) -> None:
    back = browser.come_back(response={"id_token": id_token})

    assert verdict(back) == ("invalid", ["id_token: missing"])
    assert_nobody(browser)


@pytest.mark.parametrize("id_token", ["x", "a.b", "a.b.c.d.e", "e30.e30.", "e30.e30.AA", "é.é.é", "." * 70_000])
def test_an_id_token_that_is_none_is_refused(browser: Browser, id_token: str) -> None:
    assert verdict(browser.come_back(response={"id_token": id_token}))[0] == "invalid"
    assert_nobody(browser)


def test_a_code_that_was_used_before_is_refused(visitor: Visitor, op: RunningProvider) -> None:
    challenge = visitor.get("/decorated/")
    callback = visitor.authenticate(challenge)
    (pending,) = visitor.session["stepup_pending"].values()
    thief = requests.post(
        f"{op.issuer}oauth/token",
        data={
            "grant_type": "authorization_code",
            "code": query(callback)["code"],
            "redirect_uri": query(challenge["Location"])["redirect_uri"],
            "code_verifier": pending["pkce"],
            "client_id": "site",
            "client_secret": CLIENT_SECRET,
        },
        timeout=10,
    )
    assert thief.status_code == 200, "the code was good, once"

    back = visitor.come_back(callback)

    assert (back.status_code, *verdict(back)) == (400, "invalid", ["token request refused: invalid_grant"])
    assert "_auth_user_id" not in visitor.session


def test_a_client_secret_that_the_op_does_not_take_is_refused_and_said_so(visitor: Visitor, settings: Any) -> None:
    settings.OIDC_RP_CLIENT_SECRET = "not the secret that the provider knows, at all"

    assert verdict(visitor.step_up("/decorated/")) == ("invalid", ["token request refused: invalid_client"])


@pytest.mark.parametrize("path", [TOKEN, JWKS, USERINFO])
@pytest.mark.parametrize(
    ("wrong", "reason"),
    [
        (answer({}, 500), "status 500"),
        (answer(b"<html>", kind="text/html"), "not JSON"),
        (answer({}, 302, Location="http://127.0.0.1:1/"), "status 302"),
        (cut(b""), "ConnectionError"),
    ],
)
def test_an_op_that_fails_midway_is_unavailable_and_everything_is_as_before(
    browser: Browser, path: str, wrong: Any, reason: str
) -> None:
    browser.op.answers[path] = wrong

    back = browser.come_back()

    name = {TOKEN: "token", JWKS: "jwks", USERINFO: "userinfo"}[path]
    assert (back.status_code, *verdict(back)) == (503, "unavailable", [f"{name}: {reason}"])
    assert_nobody(browser)

    # And again, as somebody who is signed in.
    browser.op.answers.clear()
    browser.client.force_login(get_user_model().objects.create_user("anna", ANNA["email"]), MODEL_BACKEND)
    before = browser.session
    browser.op.answers[path] = wrong
    assert verdict(browser.come_back())[0] == "unavailable"
    assert browser.session == before


def test_an_op_whose_metadata_fails_is_unavailable(browser: Browser) -> None:
    browser.op.answers[METADATA] = answer({}, 500)

    response = browser.client.get("/decorated/")

    assert (response.status_code, *verdict(response)) == (503, "unavailable", ["metadata: status 500"])
    assert_nobody(browser)


@pytest.mark.parametrize("endpoint", ["http://[", "http://[::1", "javascript:alert(1)"])
def test_an_op_whose_metadata_is_nonsense_is_unavailable(browser: Browser, endpoint: str) -> None:
    browser.op.metadata["authorization_endpoint"] = endpoint

    response = browser.client.get("/decorated/")

    assert (response.status_code, verdict(response)[0]) == (503, "unavailable")


# Signed userinfo


def signed_userinfo(op: HostileOP, **changes: Any) -> str:
    return sign({**ANNA, "iss": op.url, "aud": "site", **changes})


def test_signed_userinfo_is_read(browser: Browser) -> None:
    browser.come_back(signed_userinfo(browser.op))

    assert browser.user.email == ANNA["email"]


def test_signed_userinfo_need_not_say_whose_it_is(browser: Browser) -> None:
    browser.come_back(sign(ANNA))

    assert browser.user.email == ANNA["email"]


@pytest.mark.parametrize(
    ("make", "reason"),
    [
        (lambda op: signed_userinfo(op)[:-8] + "AAAAAAAA", "signature: mismatch"),
        (lambda op: sign(ANNA, key=KEYS["other_rsa"]), "kid: unknown"),
        (lambda op: sign(ANNA, key=KEYS["other_rsa"], header={"kid": KEYS["rsa"].kid}), "signature: mismatch"),
        (lambda op: sign(ANNA, "HS256", key=KEYS["rsa"].pem), "alg: not allowed"),
        (lambda op: f"{b64(json.dumps({'alg': 'none'}))}.{b64(json.dumps(ANNA))}.", "signature: missing"),
        (lambda op: json.dumps(ANNA), "id_token: malformed"),
        (lambda op: signed_userinfo(op, iss="https://other.example/"), "iss: mismatch"),
        (lambda op: signed_userinfo(op, aud="another-site"), "aud: mismatch"),
        (lambda op: signed_userinfo(op, sub="ben"), "sub: mismatch in userinfo"),
        (lambda op: sign(b'{"sub": "ben", "sub": "anna"}'), "payload: malformed"),
        (lambda op: sign(b'["anna"]'), "payload: malformed"),
        (lambda op: "", "id_token: missing"),
    ],
)
def test_signed_userinfo_that_is_not_right_is_refused(
    browser: Browser, make: Callable[[HostileOP], str], reason: str
) -> None:
    assert verdict(browser.come_back(make(browser.op))) == ("invalid", [reason])
    assert_nobody(browser)
    assert not get_user_model().objects.exists()


# Keys that change


def test_a_new_key_of_the_op_is_learnt_on_the_way(browser: Browser, hostile: HostileOP) -> None:
    browser.come_back()
    hostile.keys = [KEYS["other_rsa"]]

    another = Browser(hostile)
    another.come_back()

    assert another.user == browser.user
    assert len(hostile.asked(JWKS)) == 2


def test_forged_keys_do_not_disturb_good_sign_ins_even_while_the_keys_cannot_be_had(
    browser: Browser, hostile: HostileOP
) -> None:
    browser.come_back()
    hostile.answers[JWKS] = answer({}, 500)

    for number in range(20):
        forged = sign(ANNA, key=KEYS["other_rsa"], header={"kid": f"random-{number}"})
        assert verdict(Browser(hostile).come_back(response={"id_token": forged})) == ("invalid", ["kid: unknown"])
        another = Browser(hostile)
        another.come_back()
        assert another.user == browser.user

    assert len(hostile.asked(JWKS)) == 2


# Which account


@pytest.fixture
def local_anna(db: None) -> User:
    """An account that was there before, with a password of this site."""
    account: User = get_user_model().objects.create_user("anna", str(ANNA["email"]), "anna-local-password")
    return account


def test_an_account_with_the_same_e_mail_address_that_the_op_has_verified_is_linked_for_good(
    browser: Browser, local_anna: User
) -> None:
    browser.come_back()

    assert browser.user == local_anna
    assert Identity.objects.get() == Identity.objects.get(issuer=browser.op.url, subject="anna", user=local_anna)

    another = Browser(browser.op)
    another.come_back({"sub": "anna", "email": "married@harbour.example", "email_verified": False})
    assert another.user == local_anna, "from now on the subject finds it"
    assert get_user_model().objects.count() == 1


@pytest.mark.parametrize("email_verified", [True, "true"])
def test_an_address_that_the_op_has_verified_may_be_said_so_with_a_string(
    browser: Browser, local_anna: User, email_verified: Any
) -> None:
    browser.come_back({"sub": "anna", "email": ANNA["email"], "email_verified": email_verified})
    assert browser.user == local_anna


@pytest.mark.parametrize("email_verified", [ABSENT, False, None, "True", "false", 1, 0, [True], {}])
def test_an_account_is_not_linked_by_an_address_that_the_op_has_not_verified(
    browser: Browser, local_anna: User, email_verified: Any
) -> None:
    userinfo = {"sub": "anna", "email": ANNA["email"], "email_verified": email_verified}

    back = browser.come_back({name: value for name, value in userinfo.items() if value is not ABSENT})

    assert (back.status_code, *verdict(back)) == (403, "no_account", ["account: unlinked"])
    assert_nobody(browser)
    assert not Identity.objects.exists()
    assert get_user_model().objects.get() == local_anna


@pytest.mark.parametrize("email", ["Anna@harbour.example", "anna@HARBOUR.example", "ANNA@HARBOUR.EXAMPLE"])
def test_an_account_is_not_linked_by_an_address_in_other_case(browser: Browser, local_anna: User, email: str) -> None:
    assert verdict(browser.come_back({**ANNA, "email": email})) == ("no_account", ["account: unlinked"])
    assert_nobody(browser)
    assert not Identity.objects.exists()


def test_an_account_that_has_a_subject_is_not_given_to_another_with_the_same_address(
    browser: Browser, hostile: HostileOP
) -> None:
    browser.come_back()
    stranger = Browser(hostile)

    back = stranger.come_back({**ANNA, "sub": "somebody else"})

    assert verdict(back) == ("no_account", ["account: unlinked"])
    assert_nobody(stranger)
    assert Identity.objects.count() == 1


def test_a_subject_in_other_case_is_somebody_else_even_where_the_database_does_not_tell_them_apart(
    browser: Browser, hostile: HostileOP
) -> None:
    if connection.vendor != "sqlite":
        pytest.skip("makes a table whose collation is like MySQL's default, for SQLite")
    with connection.cursor() as cursor:
        cursor.execute("DROP TABLE stepup_identity")
        cursor.execute(
            "CREATE TABLE stepup_identity (id integer PRIMARY KEY AUTOINCREMENT,"
            " issuer varchar(255) NOT NULL COLLATE NOCASE, subject varchar(255) NOT NULL COLLATE NOCASE,"
            " created datetime NOT NULL, user_id integer NOT NULL REFERENCES auth_user (id),"
            " UNIQUE (issuer, subject))"
        )
    browser.come_back()
    stranger = Browser(hostile)

    back = stranger.come_back({"sub": "ANNA", "email": "stranger@harbour.example", "email_verified": True})

    assert verdict(back)[0] == "no_account"
    assert_nobody(stranger)


def test_unverified_addresses_can_be_trusted_by_a_setting_that_says_it_is_unsafe(
    browser: Browser, local_anna: User, settings: Any
) -> None:
    settings.STEPUP = {**settings.STEPUP, "UNSAFE_TRUST_UNVERIFIED_EMAIL": True}

    browser.come_back({"sub": "anna", "email": ANNA["email"]})

    assert browser.user == local_anna


@pytest.mark.parametrize(
    "changes", [{"email_verified": False}, {"email_verified": "false"}, {"email": "Anna@harbour.example"}]
)
def test_even_then_not_an_address_that_the_op_says_is_not_verified_nor_one_in_other_case(
    browser: Browser, local_anna: User, settings: Any, changes: Mapping[str, Any]
) -> None:
    settings.STEPUP = {**settings.STEPUP, "UNSAFE_TRUST_UNVERIFIED_EMAIL": True}

    assert verdict(browser.come_back({**ANNA, **changes})) == ("no_account", ["account: unlinked"])
    assert_nobody(browser)


def test_an_address_that_two_accounts_have_finds_neither(browser: Browser, local_anna: User) -> None:
    get_user_model().objects.create_user("anna-2", "ANNA@harbour.example")

    assert verdict(browser.come_back()) == ("no_account", ["account: ambiguous"])
    assert_nobody(browser)


def test_an_account_is_created_with_the_address_and_a_name_that_does_not_show_it(browser: Browser) -> None:
    browser.come_back()

    assert browser.user.email == ANNA["email"]
    assert "anna" not in browser.user.get_username()
    assert not browser.user.has_usable_password()
    assert (browser.user.is_staff, browser.user.is_superuser) == (False, False)


def test_people_without_an_address_get_accounts_of_their_own(browser: Browser, hostile: HostileOP) -> None:
    another = Browser(hostile)
    browser.come_back({"sub": "one", "email": ""})
    another.come_back({"sub": "two", "email": None})

    assert None is not browser.user != another.user is not None
    assert browser.user.get_username() != another.user.get_username()


@pytest.mark.parametrize("email_verified", [ABSENT, False, None, "yes", 1])
def test_no_account_is_created_with_an_address_that_may_be_somebody_elses(
    browser: Browser, email_verified: Any
) -> None:
    userinfo = {"sub": "mallory", "email": ANNA["email"], "email_verified": email_verified}

    back = browser.come_back({name: value for name, value in userinfo.items() if value is not ABSENT})

    assert verdict(back) == ("no_account", ["account: unverified e-mail"])
    assert_nobody(browser)
    assert not get_user_model().objects.exists()


def test_by_the_setting_that_says_it_is_unsafe_one_is(browser: Browser, settings: Any) -> None:
    settings.STEPUP = {**settings.STEPUP, "UNSAFE_TRUST_UNVERIFIED_EMAIL": True}

    browser.come_back({"sub": "anna", "email": ANNA["email"]})

    assert browser.user.email == ANNA["email"]


@pytest.fixture
def folding_database(db: None) -> Iterator[None]:
    """A database that, like MySQL by default and like PostgreSQL's UPPER, takes more letters for equal than Python."""

    def folded(text: str) -> str:
        plain = unicodedata.normalize("NFKD", text.upper()).lower()
        return "".join(letter for letter in plain if not unicodedata.combining(letter))

    def fold(execute: Any, sql: str, params: Any, many: bool, context: Any) -> Any:
        # What it is asked for, since what it has is plain.
        if '"email" LIKE' in sql:
            params = tuple(folded(param) if isinstance(param, str) else param for param in params)
        return execute(sql, params, many, context)

    with connection.execute_wrapper(fold):
        yield


@pytest.mark.usefixtures("folding_database")
@pytest.mark.parametrize("trusted", [False, True])
@pytest.mark.parametrize("email_verified", [False, True])
@pytest.mark.parametrize("email", ["ánna@harbour.example", "anna@harbour.examplé", "\uff41nna@harbour.example"])
def test_an_account_is_not_linked_by_an_address_that_only_the_database_takes_for_the_same(
    browser: Browser, local_anna: User, settings: Any, email: str, email_verified: bool, trusted: bool
) -> None:
    settings.STEPUP = {**settings.STEPUP, "UNSAFE_TRUST_UNVERIFIED_EMAIL": trusted}
    assert get_user_model().objects.filter(email__iexact=email).exists()

    back = browser.come_back({"sub": "mallory", "email": email, "email_verified": email_verified})

    assert verdict(back) == ("no_account", ["account: unlinked"])
    assert_nobody(browser)


@pytest.mark.usefixtures("folding_database")
def test_nor_by_a_dotless_i(browser: Browser) -> None:
    get_user_model().objects.create_user("mike", "mike@harbour.example")
    email = "m\u0131ke@harbour.example"
    assert get_user_model().objects.filter(email__iexact=email).exists()

    back = browser.come_back({"sub": "mallory", "email": email, "email_verified": True})

    assert verdict(back) == ("no_account", ["account: unlinked"])
    assert_nobody(browser)


@pytest.mark.parametrize("email", [None, "", 7, 1.5, True, [], ["anna@harbour.example"], {"value": "x"}, "x" * 400])
def test_an_address_of_any_kind_gives_a_clear_answer(browser: Browser, email: Any) -> None:
    back = browser.come_back({"sub": "anna", "email": email, "email_verified": True})

    assert back.status_code == 302 or verdict(back)[0] in ("no_account", "invalid")


def test_userinfo_without_an_address_is_not_enough_where_the_scope_asks_for_it(browser: Browser) -> None:
    assert verdict(browser.come_back({"sub": "anna"})) == ("no_account", ["account: claims"])
    assert_nobody(browser)


def test_where_no_accounts_are_created_somebody_unknown_has_none(browser: Browser, settings: Any) -> None:
    settings.OIDC_CREATE_USER = False

    assert verdict(browser.come_back()) == ("no_account", ["account: unknown"])
    assert_nobody(browser)
    assert not get_user_model().objects.exists()


def test_where_no_accounts_are_created_those_that_are_there_are_linked(
    browser: Browser, settings: Any, local_anna: User
) -> None:
    settings.OIDC_CREATE_USER = False

    browser.come_back()

    assert browser.user == local_anna


def test_a_user_name_that_is_taken_is_not_taken_over(browser: Browser, settings: Any) -> None:
    settings.OIDC_USERNAME_ALGO = "tests.dropin_backends.username_from_email"
    taken = get_user_model().objects.create_user("by-mail-anna", "other@harbour.example")

    assert verdict(browser.come_back()) == ("no_account", ["account: conflict"])
    assert_nobody(browser)
    assert get_user_model().objects.get() == taken
    assert not Identity.objects.exists()


@pytest.mark.parametrize("names_are_unique", [True, False], ids=["by its name", "by its identity"])
def test_the_slower_of_two_first_sign_ins_gets_the_account_of_the_faster(
    browser: Browser, settings: Any, names_are_unique: bool
) -> None:
    if not names_are_unique:
        settings.OIDC_USERNAME_ALGO = "tests.test_backends.a_new_name"
    arrived: list[bool] = []

    def rival(execute: Any, sql: str, params: Any, many: bool, context: Any) -> Any:
        # What the other worker has committed shows as soon as this one's own attempt is rolled back.
        result = execute(sql, params, many, context)
        if sql.startswith("ROLLBACK TO SAVEPOINT") and not arrived:
            arrived.append(True)
            user = get_user_model().objects.create_user("faster", ANNA["email"])
            Identity.objects.create(issuer=browser.op.url, subject="anna", user=user)
        return result

    def clash(execute: Any, sql: str, params: Any, many: bool, context: Any) -> Any:
        # The attempt itself meets the other's rows, which it cannot see.
        if sql.startswith(f'INSERT INTO "{"auth_user" if names_are_unique else "stepup_identity"}"') and not arrived:
            execute(sql, params, many, context)
        return execute(sql, params, many, context)

    with connection.execute_wrapper(rival), connection.execute_wrapper(clash):
        back = browser.come_back()

    assert arrived
    assert back.status_code == 302, verdict(back)
    assert browser.user == get_user_model().objects.get()
    assert browser.is_shown()


def a_new_name(email: str) -> str:
    return f"user-{get_user_model().objects.count()}"


# Accounts that are not in use any more


def test_an_account_that_has_been_deactivated_is_not_signed_in(browser: Browser, hostile: HostileOP) -> None:
    browser.come_back()
    get_user_model().objects.update(is_active=False)
    another = Browser(hostile)

    assert verdict(another.come_back()) == ("no_account", ["account: inactive"])
    assert_nobody(another)
    assert not browser.is_shown(), "nor does the session it has still work"


def test_an_account_that_is_deactivated_is_not_linked(browser: Browser, local_anna: User) -> None:
    get_user_model().objects.update(is_active=False)

    assert verdict(browser.come_back()) == ("no_account", ["account: inactive"])
    assert_nobody(browser)
    assert not Identity.objects.exists()


@pytest.mark.parametrize("fate", ["deactivated", "deleted"])
@pytest.mark.parametrize("known", [True, False], ids=["signed in before", "anonymous before"])
def test_an_account_that_goes_while_the_person_is_at_the_op_is_not_signed_in(
    browser: Browser, settings: Any, fate: str, known: bool
) -> None:
    settings.OIDC_CREATE_USER = False
    user = get_user_model().objects.create_user("anna", ANNA["email"])
    if known:
        browser.sign_in()
        assert browser.user == user
    challenge = browser.client.get("/decorated/")
    callback = browser.op.vouch(challenge["Location"])
    if fate == "deleted":
        user.delete()
    else:
        get_user_model().objects.update(is_active=False)

    back = browser.client.get(callback.removeprefix("http://testserver"))

    assert verdict(back)[0] == ("expired" if known else "no_account")
    assert browser.client.get("/").content == b"|shut"
    assert not browser.is_shown()


class GoneMeanwhile(StepUpBackend):
    """A site whose administrator acts while the OP is being asked."""

    fate = "deactivated"

    def get_token(self, payload: dict[str, Any]) -> dict[str, Any]:
        answered: dict[str, Any] = super().get_token(payload)
        if self.fate == "deleted":
            get_user_model().objects.all().delete()
        else:
            get_user_model().objects.update(is_active=False)
        return answered


class DeletedMeanwhile(GoneMeanwhile):
    fate = "deleted"


@pytest.mark.parametrize("backend", [GoneMeanwhile, DeletedMeanwhile])
def test_an_account_that_goes_while_the_op_is_asked_is_not_signed_in(
    browser: Browser, use: Callable[..., None], backend: type[StepUpBackend], settings: Any
) -> None:
    settings.OIDC_CREATE_USER = False
    browser.client.force_login(get_user_model().objects.create_user("anna", ANNA["email"]), MODEL_BACKEND)
    use(backend)

    back = browser.come_back()

    assert verdict(back)[0] in ("no_account", "expired", "wrong_user")
    assert browser.client.get("/").content == b"|shut"


def test_get_user_gives_nobody_for_an_account_that_is_not_in_use(db: None) -> None:
    active = get_user_model().objects.create_user("active")
    inactive = get_user_model().objects.create_user("inactive", is_active=False)

    backend = StepUpBackend()

    assert backend.get_user(active.pk) == active
    assert backend.get_user(inactive.pk) is None
    assert backend.get_user(10**6) is None


# Somebody is signed in already


def signed_in_locally(browser: Browser, user: User) -> None:
    assert browser.client.login(username=user.get_username(), password="anna-local-password")
    assert browser.client.session["_auth_user_backend"] == MODEL_BACKEND


def test_somebody_signed_in_with_a_local_password_steps_up_at_the_op_and_is_linked(
    browser: Browser, local_anna: User
) -> None:
    signed_in_locally(browser, local_anna)
    key = browser.client.session.session_key

    back = browser.come_back()

    assert (back.status_code, back["Location"]) == (302, "/decorated/")
    assert browser.user == local_anna
    assert Identity.objects.get().user == local_anna
    assert browser.is_shown()
    assert browser.client.session.session_key != key


def test_somebody_signed_in_who_comes_back_as_a_person_without_account_is_the_wrong_user(
    browser: Browser, local_anna: User
) -> None:
    signed_in_locally(browser, local_anna)
    before = browser.session

    back = browser.come_back(BEN)

    assert (back.status_code, *verdict(back)) == (403, "wrong_user", ["sub: mismatch"])
    assert browser.session == before
    assert get_user_model().objects.get() == local_anna, "no account was made"
    assert not Identity.objects.exists()
    assert not browser.is_shown()


@pytest.mark.parametrize("linked", [True, False])
def test_somebody_signed_in_who_comes_back_as_another_account_is_the_wrong_user_and_nothing_changes(
    browser: Browser, hostile: HostileOP, local_anna: User, linked: bool, use: Callable[..., None]
) -> None:
    get_user_model().objects.create_user("ben", BEN["email"], first_name="Ben")
    if linked:
        Browser(hostile).come_back(BEN)
    use(Renaming)
    signed_in_locally(browser, local_anna)
    before, identities = browser.session, Identity.objects.count()

    back = browser.come_back({**BEN, "given_name": "Mallory"})

    assert verdict(back) == ("wrong_user", ["sub: mismatch"])
    assert browser.session == before
    assert get_user_model().objects.get(username="ben").first_name == "Ben", "no hook of the site has run"
    assert Identity.objects.count() == identities


class Renaming(StepUpBackend):
    def update_user(self, user: Any, claims: dict[str, Any]) -> Any:
        user.first_name = claims.get("given_name", "")
        user.save()
        return user


def test_somebody_signed_in_through_the_op_who_comes_back_as_another_subject_is_the_wrong_user_before_any_hook(
    browser: Browser, use: Callable[..., None]
) -> None:
    use(Counting)
    Counting.called.clear()
    browser.sign_in()
    before, called = browser.session, list(Counting.called)
    assert called == ["get_userinfo", "verify_claims", "filter_users_by_claims", "create_user", "get_username"]

    back = browser.come_back(BEN)

    assert verdict(back) == ("wrong_user", ["sub: mismatch"])
    assert browser.session == before
    assert Counting.called == called


class Counting(StepUpBackend):
    """Notes which hooks have been called."""

    called: list[str] = []  # noqa: RUF012 - for all instances

    def get_userinfo(self, access_token: str, id_token: str, payload: dict[str, Any]) -> dict[str, Any]:
        self.called.append("get_userinfo")
        return super().get_userinfo(access_token, id_token, payload)

    def verify_claims(self, claims: dict[str, Any]) -> Any:
        self.called.append("verify_claims")
        return super().verify_claims(claims)

    def filter_users_by_claims(self, claims: dict[str, Any]) -> Any:
        self.called.append("filter_users_by_claims")
        return super().filter_users_by_claims(claims)

    def create_user(self, claims: dict[str, Any]) -> Any:
        self.called.append("create_user")
        return super().create_user(claims)

    def get_username(self, claims: dict[str, Any]) -> Any:
        self.called.append("get_username")
        return super().get_username(claims)

    def update_user(self, user: Any, claims: dict[str, Any]) -> Any:
        self.called.append("update_user")
        return super().update_user(user, claims)


def test_a_known_user_is_updated_by_the_sites_hook_and_looked_up_by_none(
    browser: Browser, hostile: HostileOP, use: Callable[..., None]
) -> None:
    browser.come_back()
    use(Counting)
    Counting.called.clear()

    Browser(hostile).come_back()

    assert Counting.called == ["get_userinfo", "verify_claims", "update_user"]


# What hooks of a site may do


class Refusing(StepUpBackend):
    """A site that says no in the way of the base class, in the hook that is named."""

    hook = ""
    error: type[Exception] = SuspiciousOperation

    def _refuse(self, hook: str) -> None:
        if hook == self.hook:
            raise self.error("somebody@harbour.example may not")

    def get_token(self, payload: dict[str, Any]) -> dict[str, Any]:
        self._refuse("get_token")
        return super().get_token(payload)

    def verify_token(self, token: Any, **kwargs: Any) -> dict[str, Any]:
        self._refuse("verify_token")
        return super().verify_token(token, **kwargs)

    def get_userinfo(self, access_token: str, id_token: str, payload: dict[str, Any]) -> dict[str, Any]:
        self._refuse("get_userinfo")
        return super().get_userinfo(access_token, id_token, payload)

    def verify_claims(self, claims: dict[str, Any]) -> Any:
        self._refuse("verify_claims")
        return super().verify_claims(claims)

    def filter_users_by_claims(self, claims: dict[str, Any]) -> Any:
        self._refuse("filter_users_by_claims")
        return super().filter_users_by_claims(claims)

    def create_user(self, claims: dict[str, Any]) -> Any:
        self._refuse("create_user")
        return super().create_user(claims)

    def get_username(self, claims: dict[str, Any]) -> Any:
        self._refuse("get_username")
        return super().get_username(claims)

    def update_user(self, user: Any, claims: dict[str, Any]) -> Any:
        self._refuse("update_user")
        return super().update_user(user, claims)

    def get_or_create_user(self, access_token: str, id_token: str, payload: dict[str, Any] | None) -> Any:
        self._refuse("get_or_create_user")
        return super().get_or_create_user(access_token, id_token, payload)


LATE_HOOKS = [
    "get_userinfo",
    "verify_claims",
    "filter_users_by_claims",
    "create_user",
    "get_username",
    "update_user",
    "get_or_create_user",
]


@pytest.fixture
def refuse(monkeypatch: pytest.MonkeyPatch, use: Callable[..., None]) -> Callable[[str, type[Exception]], None]:
    def choose(hook: str, error: type[Exception]) -> None:
        monkeypatch.setattr(Refusing, "hook", hook)
        monkeypatch.setattr(Refusing, "error", error)
        use(Refusing)

    return choose


@pytest.mark.parametrize("hook", LATE_HOOKS)
def test_a_hook_that_finds_something_suspicious_means_no_account(
    browser: Browser, refuse: Callable[..., None], hook: str, caplog: pytest.LogCaptureFixture
) -> None:
    if hook == "update_user":
        get_user_model().objects.create_user("anna", ANNA["email"])
    users = get_user_model().objects.count()
    refuse(hook, SuspiciousOperation)

    back = browser.come_back()

    assert (back.status_code, *verdict(back)) == (403, "no_account", ["account: claims"])
    assert_nobody(browser)
    assert get_user_model().objects.count() == users
    assert not Identity.objects.exists()
    assert "somebody@harbour.example" not in caplog.text + back.content.decode()


@pytest.mark.parametrize("hook", ["get_token", "verify_token"])
def test_a_hook_that_finds_the_answer_itself_suspicious_refuses_it(
    browser: Browser, refuse: Callable[..., None], hook: str
) -> None:
    refuse(hook, SuspiciousOperation)

    assert browser.come_back().status_code == 400
    assert browser.user is None


@pytest.mark.parametrize("hook", ["get_token", "verify_token", *LATE_HOOKS])
def test_a_hook_that_denies_permission_means_no_account(
    browser: Browser, refuse: Callable[..., None], hook: str
) -> None:
    if hook == "update_user":
        get_user_model().objects.create_user("anna", ANNA["email"])
    refuse(hook, PermissionDenied)

    assert verdict(browser.come_back()) == ("no_account", ["backend: no user"])
    assert_nobody(browser)
    assert not Identity.objects.exists()


class Refused(StepUpBackend):
    def verify_claims(self, claims: dict[str, Any]) -> bool:
        return False


def test_claims_that_a_site_does_not_want_mean_no_account(browser: Browser, use: Callable[..., None]) -> None:
    use(Refused)

    assert verdict(browser.come_back()) == ("no_account", ["account: claims"])
    assert_nobody(browser)


class CreatesNobody(StepUpBackend):
    def create_user(self, claims: dict[str, Any]) -> None:
        return None


class CreatesInactive(StepUpBackend):
    """A site whose administrators let new people in one by one."""

    def create_user(self, claims: dict[str, Any]) -> Any:
        user = super().create_user(claims)
        user.is_active = False
        user.save()
        return user


def test_an_account_that_is_created_for_somebody_to_approve_is_not_signed_in_until_then(
    browser: Browser, hostile: HostileOP, use: Callable[..., None]
) -> None:
    use(CreatesInactive)

    for _ in range(2):
        assert verdict(browser.come_back()) == ("no_account", ["account: inactive"])
        assert_nobody(browser)
    get_user_model().objects.update(is_active=True)

    browser.come_back()
    assert browser.user == get_user_model().objects.get()


class UpdatesNobody(StepUpBackend):
    def update_user(self, user: Any, claims: dict[str, Any]) -> None:
        return None


class ReturnsNobody(StepUpBackend):
    def get_or_create_user(self, access_token: str, id_token: str, payload: dict[str, Any] | None) -> None:
        return None


@pytest.mark.parametrize("backend", [CreatesNobody, UpdatesNobody, ReturnsNobody])
@pytest.mark.parametrize("known", ["nobody", "unlinked", "linked"])
def test_a_hook_that_returns_nobody_means_no_account(
    browser: Browser, hostile: HostileOP, use: Callable[..., None], backend: type[StepUpBackend], known: str
) -> None:
    if known == "unlinked":
        get_user_model().objects.create_user("anna", ANNA["email"])
    if known == "linked":
        Browser(hostile).come_back()
    use(backend)

    back = browser.come_back()

    if (backend is CreatesNobody and known != "nobody") or (backend is UpdatesNobody and known == "nobody"):
        assert back.status_code == 302, "that hook was not asked"
    else:
        assert verdict(back)[0] == "no_account"
        assert_nobody(browser)


class AsksOthers(StepUpBackend):
    """A site that asks a service of its own, which is down, in the hook that is named."""

    hook = ""

    def _ask(self, hook: str) -> None:
        if hook == self.hook:
            requests.get(NOWHERE, timeout=1).raise_for_status()

    def get_token(self, payload: dict[str, Any]) -> dict[str, Any]:
        self._ask("get_token")
        return super().get_token(payload)

    def get_userinfo(self, access_token: str, id_token: str, payload: dict[str, Any]) -> dict[str, Any]:
        self._ask("get_userinfo")
        return super().get_userinfo(access_token, id_token, payload)

    def verify_claims(self, claims: dict[str, Any]) -> Any:
        self._ask("verify_claims")
        return super().verify_claims(claims)

    def create_user(self, claims: dict[str, Any]) -> Any:
        self._ask("create_user")
        return super().create_user(claims)

    def update_user(self, user: Any, claims: dict[str, Any]) -> Any:
        self._ask("update_user")
        return super().update_user(user, claims)


@pytest.mark.parametrize("hook", ["get_token", "get_userinfo", "verify_claims", "create_user", "update_user"])
def test_a_hook_whose_own_request_fails_means_unavailable(
    browser: Browser, use: Callable[..., None], hook: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    if hook == "update_user":
        get_user_model().objects.create_user("anna", ANNA["email"])
    monkeypatch.setattr(AsksOthers, "hook", hook)
    use(AsksOthers)

    back = browser.come_back()

    assert (back.status_code, verdict(back)[0]) == (503, "unavailable")
    assert_nobody(browser)
    assert not Identity.objects.exists()


class OwnUserinfo(StepUpBackend):
    """A site that asks the userinfo endpoint itself, in the way of the base class: it trusts what comes."""

    def get_userinfo(self, access_token: str, id_token: str, payload: dict[str, Any]) -> Any:
        headers = {"Authorization": f"Bearer {access_token}"}
        return requests.get(self.OIDC_OP_USER_ENDPOINT, headers=headers, timeout=2).json()


def test_a_sites_own_get_userinfo_cannot_bring_in_another_subject(browser: Browser, use: Callable[..., None]) -> None:
    use(OwnUserinfo)

    back = browser.come_back(BEN, id_token={"sub": "anna"})

    assert verdict(back) == ("invalid", ["sub: mismatch in userinfo"])
    assert_nobody(browser)


def test_a_sites_own_get_userinfo_works(browser: Browser, use: Callable[..., None]) -> None:
    use(OwnUserinfo)
    browser.come_back()

    assert browser.user.email == ANNA["email"]


class FromTheIdToken(StepUpBackend):
    """A site whose OP has no userinfo endpoint."""

    def get_userinfo(self, access_token: str, id_token: str, payload: dict[str, Any]) -> dict[str, Any]:
        return payload


def test_a_site_may_take_the_claims_of_the_id_token_instead_of_userinfo(
    browser: Browser, hostile: HostileOP, use: Callable[..., None]
) -> None:
    hostile.metadata["userinfo_endpoint"] = None
    use(FromTheIdToken)

    browser.come_back(id_token={"email": ANNA["email"], "email_verified": True})

    assert browser.user.email == ANNA["email"]
    assert hostile.asked(USERINFO) == []


class ByEmployee(StepUpBackend):
    """A site that knows its people by a claim that is nobody's to choose."""

    def filter_users_by_claims(self, claims: dict[str, Any]) -> Any:
        return get_user_model().objects.filter(username=claims["employee"])


def test_a_site_that_finds_accounts_by_another_claim_has_decided_that_they_may_be_linked(
    browser: Browser, use: Callable[..., None], local_anna: User
) -> None:
    use(ByEmployee)

    browser.come_back({"sub": "anna", "email": "private@elsewhere.example", "employee": "anna"})

    assert browser.user == local_anna


class ActiveOnly(StepUpBackend):
    """A site that only narrows what the e-mail address finds."""

    def filter_users_by_claims(self, claims: dict[str, Any]) -> Any:
        return super().filter_users_by_claims(claims).filter(is_active=True)


def test_a_site_that_only_narrows_what_the_address_finds_has_not_decided_to_trust_unverified_ones(
    browser: Browser, use: Callable[..., None], local_anna: User
) -> None:
    use(ActiveOnly)

    back = browser.come_back({**ANNA, "sub": "mallory", "email_verified": False})

    assert verdict(back) == ("no_account", ["account: unlinked"])
    assert_nobody(browser)


class LinksNobody(StepUpBackend):
    def may_link(self, user: Any, claims: dict[str, Any]) -> bool:
        return False


def test_a_site_may_forbid_linking(browser: Browser, use: Callable[..., None], local_anna: User) -> None:
    use(LinksNobody)

    assert verdict(browser.come_back()) == ("no_account", ["account: unlinked"])


class ClientAssertion(StepUpBackend):
    """A site that authenticates to the token endpoint in its own way, on the base class's payload."""

    def get_token(self, payload: dict[str, Any]) -> Any:
        secret = payload.pop("client_secret")
        assert payload["client_id"] == self.OIDC_RP_CLIENT_ID
        form = {**payload, "client_assertion": f"made-with-{secret[:8]}"}
        response = requests.post(self.OIDC_OP_TOKEN_ENDPOINT, data=form, timeout=2)
        response.raise_for_status()
        return response.json()


def test_a_sites_own_get_token_finds_the_client_in_the_payload_as_in_the_base_class(
    browser: Browser, hostile: HostileOP, use: Callable[..., None]
) -> None:
    use(ClientAssertion)
    browser.come_back()

    assert browser.user.email == ANNA["email"]
    assert hostile.asked(TOKEN)[0].form["client_assertion"] == f"made-with-{CLIENT_SECRET[:8]}"


# What is left on the session


class Storing(StepUpBackend):
    """A site that keeps things on the session as soon as it has them, as the base class itself does."""

    def get_token(self, payload: dict[str, Any]) -> dict[str, Any]:
        answered: dict[str, Any] = super().get_token(payload)
        self.request.session["site_token"] = answered["access_token"]
        return answered

    def get_userinfo(self, access_token: str, id_token: str, payload: dict[str, Any]) -> dict[str, Any]:
        userinfo = super().get_userinfo(access_token, id_token, payload)
        self.request.session["site_claims"] = userinfo["email"]
        return userinfo

    def verify_claims(self, claims: dict[str, Any]) -> bool:
        self.request.session.setdefault("site_seen", []).append(claims["sub"])
        return not claims.get("refuse")


def test_what_a_hook_stores_on_the_session_is_there_after_the_sign_in(
    browser: Browser, use: Callable[..., None]
) -> None:
    use(Storing)
    browser.come_back()

    assert browser.user.email == ANNA["email"]
    assert browser.session["site_claims"] == ANNA["email"]
    assert browser.session["site_token"].startswith("at-")


def test_what_a_hook_stores_on_the_session_is_gone_after_a_sign_in_that_failed(
    browser: Browser, use: Callable[..., None]
) -> None:
    use(Storing)

    assert verdict(browser.come_back({**ANNA, "refuse": True}))[0] == "no_account"

    assert_nobody(browser)


def test_the_user_who_is_signed_in_does_not_keep_what_came_with_another(
    browser: Browser, use: Callable[..., None], local_anna: User
) -> None:
    signed_in_locally(browser, local_anna)
    use(Storing)
    session = browser.client.session
    session["site_seen"] = ["anna"]
    session.save()
    before = browser.session

    assert verdict(browser.come_back(BEN))[0] == "wrong_user"

    assert browser.session == before


@pytest.mark.parametrize(
    ("kept", "names"),
    [
        ({}, set()),
        ({"OIDC_STORE_ID_TOKEN": True}, {"oidc_id_token"}),
        ({"OIDC_STORE_ACCESS_TOKEN": True}, {"oidc_access_token"}),
        ({"OIDC_STORE_ID_TOKEN": True, "OIDC_STORE_ACCESS_TOKEN": True}, {"oidc_id_token", "oidc_access_token"}),
    ],
)
def test_tokens_are_stored_where_the_settings_say(
    browser: Browser, settings: Any, kept: dict[str, bool], names: set[str]
) -> None:
    for name, value in kept.items():
        setattr(settings, name, value)

    browser.come_back()

    assert {name for name in browser.session if name.startswith("oidc_") and name.endswith("token")} == names
    if "oidc_access_token" in names:
        assert browser.session["oidc_access_token"] == "at-code-0"
    if "oidc_id_token" in names:
        assert browser.session["oidc_id_token"].count(".") == 2


@pytest.mark.parametrize("userinfo", [BEN, {**BEN, "email_verified": False}, {"sub": "ben"}, {"sub": "x", **ANNA}])
def test_tokens_of_somebody_else_are_never_stored(
    browser: Browser, settings: Any, local_anna: User, userinfo: Any
) -> None:
    settings.OIDC_STORE_ID_TOKEN = settings.OIDC_STORE_ACCESS_TOKEN = True
    signed_in_locally(browser, local_anna)
    before = browser.session

    browser.come_back(userinfo, id_token={"sub": "ben"})

    assert browser.session == before


class KeepsRefreshTokens(StepUpBackend):
    """A site that keeps the refresh token: noted in one hook, stored in another."""

    def get_token(self, payload: dict[str, Any]) -> dict[str, Any]:
        self.token_info: dict[str, Any] = super().get_token(payload)
        return self.token_info

    def store_tokens(self, access_token: str, id_token: str) -> None:
        super().store_tokens(access_token, id_token)
        self.request.session["site_refresh_token"] = self.token_info["refresh_token"]


def test_what_one_hook_notes_on_the_backend_another_finds(browser: Browser, use: Callable[..., None]) -> None:
    use(KeepsRefreshTokens)

    browser.come_back(response={"refresh_token": "rt"})

    assert browser.session["site_refresh_token"] == "rt"


# The backend itself


@pytest.mark.parametrize(
    ("target", "credentials"),
    [
        (None, {"nonce": "n", "code_verifier": "v"}),
        ("/?code=c&state=s", {}),
        ("/?code=c&state=s", {"username": "anna", "password": "anna-local-password"}),
        ("/?code=c&state=s", {"nonce": None}),
        ("/?code=c&state=s", {"nonce": 7}),
        ("/?state=s", {"nonce": "n"}),
        ("/?code=&state=s", {"nonce": "n"}),
    ],
)
def test_credentials_of_another_kind_are_not_this_backends(
    hostile: HostileOP, rf: Any, target: str | None, credentials: dict[str, Any]
) -> None:
    request = None if target is None else rf.get(target)

    assert StepUpBackend().authenticate(request, **credentials) is None
    assert hostile.requests == []


def test_a_password_still_signs_in_beside_it(hostile: HostileOP, rf: Any, local_anna: User) -> None:
    assert authenticate(rf.get("/?code=c"), username="anna", password="anna-local-password") == local_anna
    assert authenticate(username="anna", password="anna-local-password") == local_anna
    assert authenticate(rf.get("/?code=c"), username="anna", password="wrong") is None


def test_without_a_code_verifier_none_is_sent(hostile: HostileOP, rf: Any) -> None:
    callback = hostile.vouch("http://op/?nonce=n&state=s&redirect_uri=http://testserver/oidc/callback/")
    request = rf.get(callback.removeprefix("http://testserver"))
    request.user, request.session = AnonymousUser(), Client().session

    user = StepUpBackend().authenticate(request, nonce="n")

    assert user is not None
    assert "code_verifier" not in hostile.asked(TOKEN)[0].form
    assert hostile.asked(TOKEN)[0].form["redirect_uri"] == "http://testserver/oidc/callback/"


def test_sub_classes_find_the_base_class_s_attributes(hostile: HostileOP, settings: Any) -> None:
    settings.OIDC_RP_IDP_SIGN_KEY = KEYS["rsa"].pem
    backend = StepUpBackend()

    assert backend.UserModel is get_user_model()
    expected = {
        "OIDC_OP_TOKEN_ENDPOINT": hostile.at(TOKEN),
        "OIDC_OP_USER_ENDPOINT": hostile.at(USERINFO),
        "OIDC_OP_JWKS_ENDPOINT": hostile.at(JWKS),
        "OIDC_RP_CLIENT_ID": "site",
        "OIDC_RP_CLIENT_SECRET": CLIENT_SECRET,
        "OIDC_RP_SIGN_ALGO": "RS256",
        "OIDC_RP_IDP_SIGN_KEY": KEYS["rsa"].pem,
    }
    assert {name: getattr(backend, name) for name in expected} == expected


def test_making_a_backend_asks_nobody(hostile: HostileOP) -> None:
    StepUpBackend().get_user(1)

    assert hostile.requests == []


def test_an_endpoint_that_cannot_be_had_is_a_provider_error_for_a_sub_class(hostile: HostileOP) -> None:
    hostile.answers[METADATA] = answer({}, 500)

    with pytest.raises(ProviderError):
        _ = StepUpBackend().OIDC_OP_TOKEN_ENDPOINT


def test_permissions_are_looked_up_as_by_django_s_own_backend(browser: Browser, settings: Any) -> None:
    settings.AUTHENTICATION_BACKENDS = ["stepup.backends.StepUpBackend"]
    browser.come_back()
    browser.user.user_permissions.add(Permission.objects.get(codename="delete_user"))

    assert browser.user.has_perm("auth.delete_user")
    assert not browser.user.has_perm("auth.add_user")


def test_what_the_backend_found_out_does_not_show_tokens(hostile: HostileOP, rf: Any) -> None:
    callback = hostile.vouch("http://op/?nonce=n&state=s&redirect_uri=http://testserver/oidc/callback/")
    request = rf.get(callback.removeprefix("http://testserver"))
    request.user, request.session = AnonymousUser(), Client().session

    user: Any = StepUpBackend().authenticate(request, nonce="n")

    assert "at-code" not in repr(user.stepup_login)
    assert user.stepup_login.id_token not in repr(user.stepup_login)


def test_the_base_library_s_bearer_authentication_gets_a_refusal_and_no_crash(db: None) -> None:
    with pytest.raises(SuspiciousOperation):
        StepUpBackend().get_or_create_user("an-access-token", None, None)  # type: ignore[arg-type] # as it calls it


@pytest.mark.parametrize("settled", [True, False])
def test_the_debug_log_says_nothing_about_the_person(
    browser: Browser, settings: Any, caplog: pytest.LogCaptureFixture, settled: bool
) -> None:
    caplog.set_level("DEBUG", logger="stepup")
    settings.OIDC_CREATE_USER = settled

    browser.come_back()

    assert caplog.records
    assert str(ANNA["email"]) not in caplog.text
    assert "at-code" not in caplog.text
