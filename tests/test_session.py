"""`stepup.session`: what is read back is checked as if it came from outside."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Iterator
from typing import Any

import hypothesis
import pytest
from asgiref.sync import async_to_sync
from django.contrib.auth import update_session_auth_hash
from django.contrib.auth.models import AnonymousUser, User
from django.contrib.sessions.backends.db import SessionStore
from django.contrib.sessions.backends.signed_cookies import SessionStore as CookieStore
from hypothesis import given
from hypothesis import strategies as st

from stepup import Requirement, clock, conf, session
from stepup.session import Pending
from tests.visitor import Visitor

ISSUER = "https://op.example/"
NOW = 1_800_000_000


@pytest.fixture(autouse=True)
def clock_is_put_back() -> Iterator[None]:
    yield
    clock.offset = 0.0


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
    }


def test_evidence_survives_being_stored(request_: Any, user: User) -> None:
    for sign_in in (claims(auth_time=None), claims(acr="urn:a"), claims(amr=["mfa", "hwk"], auth_time=200)):
        recorded = session.record(request_, user, sign_in)
        request_.session.save()
        request_.session = SessionStore(request_.session.session_key)

        assert session.evidence(request_) == recorded


def test_where_the_time_of_proof_is_unknown_it_is_kept_when_it_came(request_: Any, user: User) -> None:
    clock.offset = NOW - clock.now()
    recorded = session.record(request_, user, claims(auth_time=None, amr=["mfa", "pwd"]))
    assert recorded.auth_time is None
    assert recorded.proofs == {"amr": {"mfa": None, "pwd": None}}
    assert recorded.recorded == {"amr": {"mfa": NOW, "pwd": NOW}}

    clock.offset += 60
    assert session.record(request_, user, claims(auth_time=None), renewal=True).recorded == recorded.recorded
    again = session.record(request_, user, claims(auth_time=None))
    assert again.recorded == {"amr": {"mfa": NOW + 60, "pwd": NOW}}
    assert session.evidence(request_) == again


def test_whether_it_is_the_same_session_at_the_op(request_: Any, user: User) -> None:
    assert session.is_of(request_, "s1") is None
    session.record(request_, user, claims())
    assert session.is_of(request_, "s1") is True
    assert session.is_of(request_, "s2") is False
    assert session.is_of(request_, None) is None
    assert session.is_of(request_, 1) is None
    session.record(request_, user, {"iss": ISSUER, "sub": "stepup|anna"}, renewal=True)
    assert session.is_of(request_, "s1") is True, "many an OP leaves it out in a renewal"
    session.record(request_, user, {"iss": ISSUER, "sub": "stepup|anna"})
    assert session.is_of(request_, "s1") is None
    session.record(request_, user, claims(sid=5))
    assert session.is_of(request_, "5") is None


def test_a_change_of_password_ends_what_was_proved(request_: Any, user: User) -> None:
    user.set_password("one")
    user.save()
    request_.session["_auth_user_hash"] = user.get_session_auth_hash()
    session.record(request_, user, claims())
    assert session.evidence(request_) is not None
    assert session.shows(request_.session, user, Requirement(amr=("mfa",)), None, conf.best_effort()) is False

    user.set_password("two")
    update_session_auth_hash(request_, user)

    assert session.evidence(request_) is None
    assert session.claims(request_) == {}


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
        {"for": None},
        {"for": [4711, ""]},
        {"for": 4711},
    ],
)
def test_damaged_evidence_is_none(request_: Any, user: User, change: dict[str, Any]) -> None:
    session.record(request_, user, claims())
    request_.session["stepup"] = {**request_.session["stepup"], **change}
    assert session.evidence(request_) is None


@pytest.mark.parametrize(
    "proofs",
    [
        {"amr": [["mfa"]]},
        {"amr": [None, 5]},
        {"amr": "mfa"},
        {"amr": {"mfa": "yesterday"}},
        {"amr": {"mfa": True}},
        {"amr": {"mfa": None}},
        {"amr": {"mfa": float("-inf")}},
        {"amr": {"mfa": float("inf")}},
        {"amr": {"mfa": float("nan")}},
        {"amr": {"mfa": [100]}},
    ],
)
def test_damaged_proof_proves_nothing(request_: Any, user: User, proofs: dict[str, Any]) -> None:
    session.record(request_, user, claims())
    request_.session["stepup"] = {**request_.session["stepup"], "proofs": {**proofs, "acr": {"urn:a": 100}}}

    evidence = session.evidence(request_)

    assert evidence is not None
    assert not evidence.proofs.get("amr")
    assert evidence.proofs["acr"] == {"urn:a": 100}
    assert not session.shows(request_.session, user, Requirement(amr=("mfa",)), None, conf.current())


def test_claims_beside_damaged_proofs_are_those_of_the_subject(request_: Any, user: User) -> None:
    session.record(request_, user, claims())
    request_.session["stepup"] = {**request_.session["stepup"], "proofs": "mfa"}
    assert session.claims(request_) == {"iss": ISSUER, "sub": "stepup|anna"}


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
times = (
    st.none()
    | st.integers(NOW - 10, NOW + 10)
    | st.integers(-NOW - 10, -NOW + 10)
    | st.floats()
    | st.booleans()
    | st.text(max_size=1)
)
stored_evidence = odd | st.fixed_dictionaries(
    {},
    optional={
        "for": st.sampled_from([[7, "abcdef"], [8, "abcdef"], [7, "fedcba"]]) | odd,
        "iss": st.sampled_from([session._mark(ISSUER), ISSUER]) | odd,
        "sub": st.just("s") | odd,
        "proofs": odd
        | st.fixed_dictionaries(
            {},
            optional={
                "amr": odd | st.lists(methods) | st.dictionaries(methods, times),
                "acr": odd | st.lists(st.just("urn:a")) | st.dictionaries(st.just("urn:a"), times),
                "acrs": odd | st.lists(st.just("c1")) | st.dictionaries(st.just("c1"), times),
            },
        ),
        "at": times | st.integers(NOW - 10, NOW + 10),
    },
)
requirements = st.builds(
    Requirement,
    amr=st.lists(methods, max_size=2),
    acr=st.just(()) | st.just(("urn:b", "urn:a")),
    claims=st.just({}) | st.just({"acrs": ["c1"]}),
    max_age=st.integers(0, 5),
) | st.builds(Requirement, amr=st.lists(methods, min_size=1, max_size=2), max_age=st.none())


@hypothesis.settings(max_examples=1500, deadline=None)
@given(
    stored=stored_evidence,
    requirement=requirements,
    max_age=st.none() | st.integers(0, 5),
    is_signed_in=st.booleans(),
)
def test_a_quick_yes_says_yes_to_nothing_that_the_evidence_does_not_satisfy(
    stored: Any, requirement: Requirement, max_age: int | None, is_signed_in: bool
) -> None:
    store, user = SessionStore(), User(pk=7) if is_signed_in else AnonymousUser()
    # Loaded, without a database.
    store._session_cache = {"stepup": stored, "_auth_user_hash": "abcdefgh"}  # type: ignore[attr-defined]
    clock.offset = NOW - clock.now()
    loaded = dataclasses.replace(conf.current(), leeway=1, max_evidence_age=8)

    if session.shows(store, user, requirement, max_age, loaded):
        evidence = session.read_evidence(store, user)
        age = requirement.max_age if max_age is None else max_age
        assert loaded.judge(evidence, dataclasses.replace(requirement, max_age=age), now=clock.now()).satisfied


def test_what_is_plainly_proved_has_its_quick_yes(request_: Any, user: User) -> None:
    clock.offset, settings = NOW - clock.now(), conf.current()
    request_.session["_auth_user_hash"] = "abcdefgh"
    for auth_time in (NOW - 100, None):
        request_.session.pop("stepup", None)
        session.record(
            request_,
            user,
            claims(amr=["mfa", "pwd"], acr="urn:a", acrs=["c"], auth_time=auth_time),
            proof_claims=["acrs"],
        )
        is_known = auth_time is not None
        for requirement, max_age, is_shown in [
            (Requirement(amr=("mfa",)), None, True),
            (Requirement(amr=("pwd", "mfa")), None, True),
            (Requirement(amr=("hwk",)), None, False),
            (Requirement(amr=("mfa", "hwk")), None, False),
            (Requirement(amr=("mfa",)), 100, is_known),
            (Requirement(amr=("mfa",)), 100 - settings.leeway - 1, False),
            (Requirement(amr=("mfa",)), 0, False),
            (Requirement(max_age=1), 100, is_known),
            (Requirement(acr=("urn:b", "urn:a")), None, True),
            (Requirement(acr=("urn:b",)), None, False),
            (Requirement(amr=("mfa",), acr=("urn:b",)), None, False),
            (Requirement(amr=("mfa",), claims={"acrs": ("c",)}), None, True),
            (Requirement(amr=("mfa",), claims={"acrs": ("d",)}), None, False),
            (Requirement(amr=("mfa",), claims={"other": ("c",)}), None, False),
            (Requirement.all_of(Requirement(amr=("mfa",)), Requirement(amr=("pwd",))), None, False),
        ]:
            assert session.shows(request_.session, user, requirement, max_age, settings) == is_shown, requirement
    assert not session.shows(request_.session, AnonymousUser(), Requirement(amr=("mfa",)), None, settings)
    request_.session["stepup"]["for"] = ["None", "abcdef"]
    assert not session.shows(request_.session, AnonymousUser(), Requirement(amr=("mfa",)), None, settings)


def test_no_quick_yes_is_for_proof_that_is_too_old_whatever_is_required(request_: Any, user: User) -> None:
    clock.offset, settings = NOW - clock.now(), conf.current()
    request_.session["_auth_user_hash"] = "abcdefgh"
    requirement, oldest = Requirement(amr=("mfa",)), NOW - 12 * 3600 - settings.leeway
    for auth_time, is_shown in [(oldest + 5, True), (oldest - 5, False), (NOW + settings.leeway + 5, False)]:
        request_.session.pop("stepup", None)
        session.record(request_, user, claims(auth_time=auth_time))
        for max_age in (None, 10**6):
            assert session.shows(request_.session, user, requirement, max_age, settings) == is_shown
        decision = settings.judge(session.evidence(request_), requirement, now=clock.now())
        assert decision.satisfied == is_shown
    unlimited = dataclasses.replace(settings, max_evidence_age=None)
    session.record(request_, user, claims(auth_time=5, amr=["hwk"]))
    assert session.shows(request_.session, user, Requirement(amr=("hwk",)), None, unlimited)


def test_while_a_step_up_has_yet_to_be_used_up_no_quick_yes_is_given(request_: Any, user: User) -> None:
    clock.offset, settings = NOW - clock.now(), conf.current()
    request_.session["_auth_user_hash"] = "abcdefgh"
    session.record(request_, user, claims(auth_time=NOW))
    requirement = Requirement(amr=("mfa",))
    session.settle(request_, requirement, "/a/", now=NOW, since=NOW)
    assert not session.shows(request_.session, user, requirement, None, settings)
    clock.offset += 11
    assert session.shows(request_.session, user, requirement, None, settings)
    malformed: list[Any] = [[], [1, 2], [1, 2, "x"], 5, {}]
    for odd_ in malformed:
        request_.session["stepup_settled"] = odd_
        assert not session.shows(request_.session, user, requirement, None, settings)


def test_several_requirements_are_settled_together_and_each_by_itself(request_: Any, user: User) -> None:
    mfa, sudo, other = Requirement(name="mfa", amr=("mfa",)), Requirement(max_age=0), Requirement(acr=("urn:a",))
    session.settle(request_, Requirement.all_of(mfa, sudo), "/a/", now=NOW, since=NOW - 5)
    for requirement in (mfa, sudo, Requirement.all_of(sudo, mfa)):
        assert session.settled(request_, requirement, "/a/", now=NOW) == NOW - 5
        assert session.settled(request_, requirement, "/b/", now=NOW) is None
    for requirement in (other, Requirement.all_of(mfa, other)):
        assert session.settled(request_, requirement, "/a/", now=NOW) is None
    request_.session.save()
    assert session.use_up_settled(request_, conf.current(), for_good=True)
    assert session.settled(request_, mfa, "/a/", now=NOW) is None


@pytest.mark.parametrize("named", [True, False])
def test_a_pending_request_for_several_requirements_is_taken_as_it_was_sent(
    request_: Any, settings: Any, named: bool
) -> None:
    own = {"sudo": {"max_age": 60}, "mfa": {"amr": ["mfa"]}} if named else {"mfa": {"amr": ["mfa"]}}
    settings.STEPUP = {**settings.STEPUP, "REQUIREMENTS": own}
    parts = Requirement(name="mfa", amr=("mfa",)), Requirement(name="sudo", max_age=60)
    together = Requirement.all_of(*parts)
    assert together.name == "mfa & sudo"
    session.add_pending(request_, pending(requirement=together), conf.current())
    taken = session.take_pending(request_, "s", conf.current(), now=NOW)
    assert taken is not None
    assert taken.requirement == together
    assert taken.requirement.name == together.name
    assert [part.name for part in taken.requirement.parts] == ["mfa", "sudo"]


@pytest.mark.parametrize(
    "need", [[], [[]], ["unknown"], ["mfa", 5], [{}], [{"name": "x"}], {"name": "x", "amr": "mfa"}]
)
def test_a_pending_request_for_what_nobody_knows_is_none(request_: Any, need: object) -> None:
    session.add_pending(request_, pending(), conf.current())
    request_.session["stepup_pending"]["s"]["need"] = need
    assert session.take_pending(request_, "s", conf.current(), now=NOW) is None


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


@pytest.mark.parametrize("stored", [None, [], ["x", "/a/", 1, 1], [1], "x", ["x", "/a/", "now", 1, "k"]])
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
    assert session.use_up_settled(request_, conf.current(), for_good=False)
    assert session.settled(request_, mfa, "/a/", now=NOW + 9) is None


def test_a_pending_request_adds_under_300_bytes(visitor: Visitor) -> None:
    visitor.get("/decorated/")
    assert len(json.dumps(visitor.session["stepup_pending"])) < 300
