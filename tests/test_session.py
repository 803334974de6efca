"""`stepup.session`: what is read back is checked as if it came from outside."""

from __future__ import annotations

import json
from typing import Any

import hypothesis
import pytest
from asgiref.sync import async_to_sync
from django.contrib.auth.models import AnonymousUser, User
from django.contrib.sessions.backends.db import SessionStore
from django.contrib.sessions.backends.signed_cookies import SessionStore as CookieStore
from hypothesis import given
from hypothesis import strategies as st

from stepup import Requirement, conf, evaluate, session
from stepup.session import Pending
from tests.visitor import Visitor

ISSUER = "https://op.example/"
NOW = 1_800_000_000.0


@pytest.fixture
def user(db: None) -> User:
    user: User = User.objects.create_user("anna")
    return user


@pytest.fixture
def request_(rf: Any, user: User) -> Any:
    """A request of a user who is signed in, on a session that is stored."""
    request = rf.get("/")
    request.user, request.session = user, SessionStore()

    async def auser() -> User:
        return user

    request.auser = auser
    request.session.create()
    return request


def claims(**changes: Any) -> dict[str, Any]:
    return {
        "iss": ISSUER,
        "sub": "stepup|anna",
        "amr": ["mfa"],
        "auth_time": 100,
        "sid": "s1",
        "email": "a@b.c",
        **changes,
    }


def pending(state: str = "s", **changes: Any) -> Pending:
    values = {"state": state, "nonce": "n", "code_verifier": "v", "next": "/a/", "started": NOW, **changes}
    return Pending(**values)


def test_a_silent_request_is_known_as_one_when_its_answer_comes(request_: Any) -> None:
    settings = conf.current()
    for silent in (True, False):
        sent = pending(silent=silent)
        session.add_pending(request_, sent, settings)
        assert session.take_pending(request_, "s", settings, now=NOW) == sent


@pytest.mark.parametrize("junk", [1, "yes", None, ["silent"]])
def test_what_does_not_say_that_it_was_silent_was_not(request_: Any, junk: object) -> None:
    settings = conf.current()
    session.add_pending(request_, pending(), settings)
    request_.session["stepup_pending"]["s"]["silent"] = junk
    taken = session.take_pending(request_, "s", settings, now=NOW)
    assert taken is not None
    assert taken.silent is False


def test_what_is_recorded_is_read_back(request_: Any, user: User) -> None:
    recorded = session.record(request_, user, claims())

    assert session.evidence(request_) == recorded
    assert recorded.proofs == {"amr": {"mfa": 100}}
    assert async_to_sync(session.aevidence)(request_) == recorded
    assert session.claims(request_) == {
        "iss": ISSUER,
        "sub": "stepup|anna",
        "amr": ["mfa"],
        "auth_time": 100,
        "sid": "s1",
    }


def test_evidence_survives_being_stored(request_: Any, user: User) -> None:
    recorded = session.record(request_, user, claims(auth_time=None))
    request_.session.save()
    request_.session = SessionStore(request_.session.session_key)

    assert session.evidence(request_) == recorded


def test_new_evidence_of_the_same_subject_is_added(request_: Any, user: User) -> None:
    session.record(request_, user, claims())
    session.record(request_, user, claims(amr=["pwd"], auth_time=200))

    evidence = session.evidence(request_)
    assert evidence is not None
    assert evidence.proofs == {"amr": {"mfa": 100, "pwd": 200}}
    assert evidence.auth_time == 200
    assert session.claims(request_)["amr"] == ["pwd"], "the claims are the newest ID token's"


def test_the_claims_are_the_newest_id_tokens_whatever_else_has_been_proved(request_: Any, user: User) -> None:
    session.record(request_, user, claims(acr="urn:a"))
    assert "said" not in request_.session["stepup"], "the evidence says it"
    session.record(request_, user, {"iss": ISSUER, "sub": "stepup|anna", "acr": "urn:b"})

    assert session.claims(request_) == {"iss": ISSUER, "sub": "stepup|anna", "acr": "urn:b"}
    session.record(request_, user, claims(acr=["urn:b", "urn:a"]))
    assert session.claims(request_)["acr"] == ["urn:b", "urn:a"]


def test_an_id_token_without_amr_takes_nothing_away(request_: Any, user: User) -> None:
    session.record(request_, user, claims())
    session.record(request_, user, {"iss": ISSUER, "sub": "stepup|anna"})

    evidence = session.evidence(request_)
    assert evidence is not None
    assert evidence.proofs == {"amr": {"mfa": 100}}


def test_evidence_about_another_subject_replaces_the_old(request_: Any, user: User) -> None:
    session.record(request_, user, claims())
    session.record(request_, user, claims(sub="stepup|other", amr=["pwd"]))

    evidence = session.evidence(request_)
    assert evidence is not None
    assert evidence.proofs == {"amr": {"pwd": 100}}


def test_rotating_changes_the_session_key_and_keeps_what_was_proved(request_: Any, user: User) -> None:
    before = request_.session.session_key
    recorded = session.record(request_, user, claims())
    session.rotate(request_).delete()

    assert session.evidence(request_) == recorded
    assert request_.session.session_key != before
    assert not SessionStore().exists(before)


def test_claims_that_no_provider_sends_are_not_kept(request_: Any, user: User) -> None:
    session.record(request_, user, claims(amr=["x"] * 10_000))

    assert "amr" not in session.claims(request_)
    assert len(json.dumps(request_.session["stepup"])) < 500


def test_proof_by_other_claims_is_kept_where_asked_for(request_: Any, user: User) -> None:
    recorded = session.record(request_, user, claims(acrs=["c1"]), proof_claims=["acrs"])
    assert recorded.proofs["acrs"] == {"c1": 100}


def test_a_login_adds_under_200_bytes(request_: Any, user: User) -> None:
    session.record(
        request_,
        user,
        {
            "iss": "https://tenant.eu.auth0.com/",
            "sub": "auth0|64f0a1b2c3d4e5f6a7b8c9d0",
            "sid": "r4nd0m-s3ss10n-1d-0123456789abcd",
        },
    )
    session.note_renewal(request_, due=NOW)
    kept = {key: value for key, value in request_.session.items() if not key.startswith("_auth")}
    assert len(json.dumps(kept, separators=(",", ":"))) < 200


def test_nobody_has_no_evidence(request_: Any, user: User) -> None:
    session.record(request_, user, claims())
    request_.user = AnonymousUser()

    assert session.evidence(request_) is None
    assert session.claims(request_) == {}


def test_evidence_is_not_another_users(request_: Any, user: User) -> None:
    session.record(request_, user, claims())
    request_.user = User.objects.create_user("other")
    assert session.evidence(request_) is None


def test_evidence_of_an_issuer_that_is_no_longer_trusted_counts_for_nothing(
    request_: Any, user: User, settings: Any
) -> None:
    session.record(request_, user, claims())
    settings.STEPUP = {**settings.STEPUP, "ISSUER": "https://new.example/"}
    assert session.evidence(request_) is None


@pytest.mark.parametrize(
    "change",
    [
        {"iss": None},
        {"iss": "https://other.example/"},
        {"sub": None},
        {"sub": 1},
        {"proofs": None},
        {"proofs": []},
        {"pk": None},
    ],
)
def test_damaged_evidence_is_none(request_: Any, user: User, change: dict[str, Any]) -> None:
    session.record(request_, user, claims())
    request_.session["stepup"] = {**request_.session["stepup"], **change}
    assert session.evidence(request_) is None


@pytest.mark.parametrize(
    "proofs",
    [
        {"amr": ["mfa"]},
        {"amr": "mfa"},
        {"amr": {"mfa": "yesterday"}},
        {"amr": {"mfa": True}},
        {"amr": {"mfa": -1}},
        {"amr": {"mfa": float("inf")}},
        {"amr": {"mfa": float("nan")}},
        {"amr": {"mfa": [100]}},
    ],
)
def test_damaged_proof_proves_nothing(request_: Any, user: User, proofs: dict[str, Any]) -> None:
    session.record(request_, user, claims())
    request_.session["stepup"] = {**request_.session["stepup"], "proofs": {**proofs, "acr": {"urn:a": None}}}

    evidence = session.evidence(request_)

    assert evidence is not None
    assert not evidence.proofs.get("amr")
    assert evidence.proofs["acr"] == {"urn:a": None}
    assert not session.shows(request_.session, user, Requirement(amr=("mfa",)), conf.current())


def test_claims_beside_damaged_proofs_are_those_of_the_subject(request_: Any, user: User) -> None:
    session.record(request_, user, claims())
    request_.session["stepup"] = {**request_.session["stepup"], "proofs": "mfa"}
    assert session.claims(request_) == {"iss": ISSUER, "sub": "stepup|anna", "sid": "s1"}


@pytest.mark.parametrize("auth_time", ["now", True, -1, [1]])
def test_a_damaged_time_is_unknown(request_: Any, user: User, auth_time: Any) -> None:
    session.record(request_, user, claims())
    request_.session["stepup"] = {**request_.session["stepup"], "at": auth_time}
    evidence = session.evidence(request_)
    assert evidence is not None
    assert evidence.auth_time is None


odd = (
    st.none() | st.booleans() | st.integers(-5, 5) | st.floats() | st.text(max_size=2) | st.lists(st.none(), max_size=1)
)
methods = st.sampled_from(["mfa", "pwd", "otp"])
times = st.none() | st.integers(0, 10) | st.floats() | st.booleans() | st.text(max_size=1)
stored_evidence = odd | st.fixed_dictionaries(
    {},
    optional={
        "pk": st.sampled_from(["7", "8"]) | odd,
        "iss": st.sampled_from([ISSUER, "x"]) | odd,
        "sub": st.just("s") | odd,
        "proofs": odd
        | st.fixed_dictionaries(
            {}, optional={"amr": odd | st.lists(methods) | st.dictionaries(methods, times), "acr": odd}
        ),
        "at": odd,
    },
)
requirements = st.builds(
    Requirement,
    amr=st.lists(methods, min_size=1, max_size=2),
    acr=st.just(()) | st.just(("urn:a",)),
    claims=st.just({}) | st.just({"acrs": ["c1"]}),
    max_age=st.none() | st.integers(0, 5),
)


@hypothesis.settings(max_examples=1500, deadline=None)
@given(stored=stored_evidence, requirement=requirements, is_signed_in=st.booleans())
def test_a_quick_yes_says_yes_to_nothing_that_the_evidence_does_not_satisfy(
    stored: Any, requirement: Requirement, is_signed_in: bool
) -> None:
    store, user = SessionStore(), User(pk=7) if is_signed_in else AnonymousUser()
    store._session_cache = {"stepup": stored}  # type: ignore[attr-defined] # loaded, without a database

    if session.shows(store, user, requirement, conf.current()):
        evidence = session.read_evidence(store, user)
        assert evaluate(evidence, requirement, now=5).satisfied


def test_what_is_plainly_proved_has_its_quick_yes(request_: Any, user: User) -> None:
    session.record(request_, user, claims(amr=["mfa", "pwd"]))
    for requirement, is_shown in [
        (Requirement(amr=("mfa",)), True),
        (Requirement(amr=("pwd", "mfa")), True),
        (Requirement(amr=("hwk",)), False),
        (Requirement(amr=("mfa",), max_age=10**9), False),
    ]:
        assert session.shows(request_.session, user, requirement, conf.current()) == is_shown
    assert not session.shows(request_.session, AnonymousUser(), Requirement(amr=("mfa",)), conf.current())
    request_.session["stepup"]["pk"] = "None"
    assert not session.shows(request_.session, AnonymousUser(), Requirement(amr=("mfa",)), conf.current())


@pytest.mark.parametrize("stored", [None, [], "mfa", 1, {}])
def test_what_is_no_evidence_at_all_is_none(request_: Any, stored: Any) -> None:
    request_.session["stepup"] = stored
    assert session.evidence(request_) is None


@pytest.mark.parametrize(
    "requirement",
    [
        None,
        Requirement(name="own", acr=("urn:own",), max_age=0, params={"a": "b"}, claims={"acrs": ("c1",)}),
        Requirement(acr=("urn:own",)),
    ],
)
def test_a_pending_request_is_taken_once(request_: Any, requirement: Requirement | None) -> None:
    sent = pending(requirement=requirement, user="7")
    session.add_pending(request_, sent, conf.current())

    assert session.take_pending(request_, "s", conf.current(), now=NOW + 1) == sent
    assert session.take_pending(request_, "s", conf.current(), now=NOW + 1) is None


def test_a_named_requirement_is_kept_by_its_name_and_judged_by_the_settings_of_the_day(
    request_: Any, settings: Any
) -> None:
    sudo = conf.current().requirements["sudo"]
    session.add_pending(request_, pending(requirement=sudo), conf.current())
    assert request_.session["stepup_pending"]["s"]["need"] == "sudo"
    settings.STEPUP = {**settings.STEPUP, "REQUIREMENTS": {"sudo": {"max_age": 60}}}

    taken = session.take_pending(request_, "s", conf.current(), now=NOW)

    assert taken is not None
    assert taken.requirement is not None
    assert taken.requirement.max_age == 60


def test_a_pending_request_for_a_requirement_that_is_gone_is_refused(request_: Any, settings: Any) -> None:
    session.add_pending(request_, pending(requirement=conf.current().requirements["sudo"]), conf.current())
    settings.STEPUP = {**settings.STEPUP, "REQUIREMENTS": {}}
    assert session.take_pending(request_, "s", conf.current(), now=NOW) is None


@pytest.mark.parametrize(
    "change",
    [
        {"nonce": None},
        {"nonce": 5},
        {"next": 5},
        {"pkce": None},
        {"user": 5},
        {"need": {"amr": []}},
        {"need": {"name": "x", "amr": "mfa"}},
        {"need": 5},
        {"need": {"name": "x", "bogus": 1}},
    ],
)
def test_a_damaged_pending_request_is_refused(request_: Any, change: dict[str, Any]) -> None:
    session.add_pending(request_, pending(), conf.current())
    entry = {**request_.session["stepup_pending"]["s"], **change}
    if entry["nonce"] is None:
        del entry["nonce"]
    request_.session["stepup_pending"] = {"s": entry}
    assert session.take_pending(request_, "s", conf.current(), now=NOW) is None


@pytest.mark.parametrize("stored", [None, [], "s", {"s": None}, {"s": {}}, {"s": {"at": "now"}}])
def test_what_is_no_pending_request_is_none(request_: Any, stored: Any) -> None:
    request_.session["stepup_pending"] = stored
    assert session.take_pending(request_, "s", conf.current(), now=NOW) is None


@pytest.mark.parametrize(("late", "is_taken"), [(-31, False), (-30, True), (900, True), (901, False)])
def test_a_pending_request_expires_and_is_not_of_the_future(request_: Any, late: int, is_taken: bool) -> None:
    session.add_pending(request_, pending(), conf.current())
    taken = session.take_pending(request_, "s", conf.current(), now=NOW + late)
    assert (taken is not None) == is_taken


def test_the_oldest_pending_requests_make_room(request_: Any, settings: Any) -> None:
    settings.STEPUP = {**settings.STEPUP, "MAX_PENDING": 3}
    for age in range(5):
        session.add_pending(request_, pending(f"s{age}", started=NOW + age), conf.current())
    assert sorted(request_.session["stepup_pending"]) == ["s2", "s3", "s4"]


def test_taking_saves_the_session_at_once_and_not_again_with_the_response(request_: Any) -> None:
    session.add_pending(request_, pending(), conf.current())
    request_.session.save()

    session.take_pending(request_, "s", conf.current(), now=NOW)

    assert "stepup_pending" not in SessionStore(request_.session.session_key)
    assert not request_.session.modified


def test_a_session_in_a_cookie_is_still_sent_with_the_response(request_: Any) -> None:
    request_.session = CookieStore()
    session.add_pending(request_, pending(), conf.current())
    session.take_pending(request_, "s", conf.current(), now=NOW)
    assert request_.session.modified


def test_taking_what_is_not_there_leaves_the_session_alone(request_: Any) -> None:
    request_.session.save()
    request_.session.modified = False
    session.take_pending(request_, "s", conf.current(), now=NOW)
    assert not request_.session.modified


def test_requests_of_the_base_librarys_middleware_are_taken_once(request_: Any, user: User) -> None:
    request_.session["oidc_states"] = {"s": {"nonce": "n", "code_verifier": None, "added_on": NOW}}
    request_.session["oidc_login_next"] = "/b/"
    request_.session["_auth_user_id"] = str(user.pk)

    taken = session.take_pending(request_, "s", conf.current(), now=NOW)

    assert taken == pending(code_verifier=None, next="/b/", user=str(user.pk), silent=True)
    assert session.take_pending(request_, "s", conf.current(), now=NOW) is None


@pytest.mark.parametrize(
    "entry",
    [
        None,
        [],
        {"nonce": None, "added_on": NOW},
        {"nonce": "n"},
        {"nonce": "n", "added_on": "x"},
        {"nonce": "n", "added_on": NOW - 901},
    ],
)
def test_damaged_or_old_requests_of_the_base_library_are_refused(request_: Any, entry: Any) -> None:
    request_.session["oidc_states"] = {"s": entry}
    assert session.take_pending(request_, "s", conf.current(), now=NOW) is None


def test_what_hooks_have_put_on_the_session_is_known_and_can_be_taken_back(request_: Any) -> None:
    store = request_.session
    store.update({"kept": 1, "list": [1], "removed": 1})
    store.save()
    before = session.snapshot(store)
    store["list"].append(2)
    store.update({"new": 1})
    del store["removed"]

    assert session.changed_since(store, before) == {"list": [1, 2], "new": 1}
    session.revert(store, before)
    assert dict(store.items()) == {"kept": 1, "list": [1], "removed": 1}
    assert not store.modified


def test_a_session_that_is_gone_has_no_renewed_one(request_: Any) -> None:
    assert session.renewed(request_.session) is not None
    request_.session.delete()
    assert session.renewed(request_.session) is None


def test_a_session_in_a_cookie_is_renewed_from_what_it_holds(rf: Any) -> None:
    store = CookieStore()
    store["a"] = 1
    store.save()
    renewed = session.renewed(store)
    assert renewed is not None
    assert renewed["a"] == 1


@pytest.mark.parametrize("stored", [None, [], ["x", "/a/", 1, 1], [1], "x", ["x", "/a/", "now", 1]])
def test_what_is_no_settlement_settles_nothing(request_: Any, stored: Any) -> None:
    request_.session["stepup_settled"] = stored
    assert session.settled(request_, Requirement(amr=("mfa",)), "/a/", now=NOW) is None


def test_a_settlement_is_for_one_requirement_one_page_a_moment_and_once(request_: Any) -> None:
    mfa, sudo = Requirement(amr=("mfa",)), Requirement(max_age=300)
    session.settle(request_, mfa, "/a/", now=NOW, since=NOW - 40)

    assert session.settled(request_, mfa, "/a/", now=NOW + 9) == NOW - 40
    assert session.settled(request_, mfa, "/a/", now=NOW + 10) is None
    assert session.settled(request_, mfa, "/b/", now=NOW) is None
    assert session.settled(request_, sudo, "/a/", now=NOW) is None
    session.use_up_settled(request_)
    assert session.settled(request_, mfa, "/a/", now=NOW + 9) is None


def test_a_pending_request_adds_under_300_bytes(visitor: Visitor) -> None:
    visitor.get("/decorated/")
    assert len(json.dumps(visitor.session["stepup_pending"])) < 300
