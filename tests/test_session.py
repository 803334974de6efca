"""`stepup.session`: what is read back is checked as if it came from outside."""

from __future__ import annotations

import copy
import dataclasses
import json
import uuid
from collections.abc import Iterator
from typing import Any

import hypothesis
import pytest
from asgiref.sync import async_to_sync
from django.contrib.auth import update_session_auth_hash
from django.contrib.auth.models import AnonymousUser, User
from django.contrib.sessions.backends.base import SessionBase
from django.contrib.sessions.backends.db import SessionStore
from django.contrib.sessions.backends.signed_cookies import SessionStore as CookieStore
from django.core.signing import JSONSerializer
from hypothesis import given
from hypothesis import strategies as st

from stepup import Requirement, clock, conf, session
from stepup.session import Pending, Renewal
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
    request.session.modified = False
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
    request_.session.save()
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


@pytest.mark.parametrize("ended", ["the subject", "the evidence", "nothing"])
def test_what_a_step_up_has_satisfied_goes_with_the_evidence_that_it_was_satisfied_by(
    request_: Any, user: User, ended: str
) -> None:
    session.record(request_, user, claims())
    session.settle(request_, MFA, "/a/", now=NOW, since=NOW)
    if ended == "the evidence":
        session.forget_evidence(request_)

    session.record(request_, user, claims(sub="another") if ended == "the subject" else claims())
    session.record(request_, user, claims())

    assert session.settled(request_, MFA, "/a/", now=NOW) == (NOW if ended == "nothing" else None)


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


def bytes_added_to(store: SessionBase) -> int:
    """Beside what Django's own `login()` adds, as it is stored."""
    return len(JSONSerializer().dumps({k: v for k, v in store.items() if not k.startswith("_auth")}))


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
    assert bytes_added_to(request_.session) < 200


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
    request_.session.save()
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

    request_.session.save()
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
    request_.session.save()
    assert session.take_pending(request_, "s", conf.current(), now=NOW) is None


@pytest.mark.parametrize("stored", [None, [], "s", {"s": None}, {"s": {}}, {"s": {"at": "now"}}])
def test_what_is_no_pending_request_is_none(request_: Any, stored: Any) -> None:
    request_.session["stepup_pending"] = stored
    request_.session.save()
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


def test_of_two_answers_at_once_one_takes_the_request_that_they_answer_and_neither_the_others(request_: Any) -> None:
    request_.session["oidc_states"] = {"u": {"nonce": "n", "added_on": NOW}}
    request_.session.save()
    request_.session.modified = False
    for state in ("s", "t"):
        session.add_pending(request_, pending(state=state), conf.current())
    other = copy.copy(request_)
    other.session = SessionStore(request_.session.session_key)
    assert set(other.session["stepup_pending"]) == {"s", "t"}, "both have loaded the session"

    assert session.take_pending(request_, "s", conf.current(), now=NOW) is not None

    assert session.take_pending(other, "s", conf.current(), now=NOW) is None
    assert session.take_pending(other, "t", conf.current(), now=NOW) is not None
    left = SessionStore(request_.session.session_key)
    assert "stepup_pending" not in left
    assert set(left["oidc_states"]) == {"u"}


def test_of_a_session_that_has_ended_since_it_was_loaded_nothing_is_taken(request_: Any) -> None:
    session.add_pending(request_, pending(), conf.current())
    SessionStore(request_.session.session_key).delete()
    assert session.take_pending(request_, "s", conf.current(), now=NOW) is None


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

    request_.session.save()
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
    request_.session.save()
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


# What other requests have stored meanwhile


def another(request: Any, **changes: Any) -> SessionStore:
    """The same session, as a request that came at the same time has it; and stored with these changes."""
    store = SessionStore(request.session.session_key)
    store.update(changes)
    store.save()
    return store


def test_a_change_is_made_to_the_session_as_it_is_stored_and_stored_at_once(request_: Any) -> None:
    request_.session.update({"kept": 1, "dropped": 2})
    request_.session.save()
    request_.session.modified = False
    another(request_, theirs=3)
    mine = request_.session

    def change() -> None:
        assert request_.session is not mine
        request_.session["new"] = 4
        del request_.session["dropped"]

    assert session.merge(request_, change) is True
    assert request_.session is mine
    assert dict(SessionStore(mine.session_key).items()) == {"kept": 1, "theirs": 3, "new": 4}
    assert dict(mine.items()) == {"kept": 1, "new": 4}
    assert mine.modified is False, "it is stored, and would else undo what others do"
    mine["more"] = 5
    assert session.merge(request_, lambda: request_.session.update({"new": 6})) is True
    assert (mine["new"], mine.modified) == (6, True)


def test_a_session_that_has_ended_or_is_of_another_login_is_not_changed(request_: Any) -> None:
    request_.session.save()
    mine, made = request_.session, []
    another(request_, _auth_user_id="8")
    assert session.merge(request_, lambda: made.append(1)) is False
    assert session.adopt_renewal(request_) is False
    mine.delete(mine.session_key)
    assert session.merge(request_, lambda: made.append(1)) is False
    assert session.adopt_renewal(request_) is False
    assert (made, request_.session) == ([], mine)
    assert not SessionStore().exists(mine.session_key)


def test_a_session_that_ends_while_it_is_changed_stays_ended(request_: Any) -> None:
    request_.session.save()
    mine = request_.session
    assert session.merge(request_, lambda: mine.delete(mine.session_key)) is False
    assert request_.session is mine
    assert not SessionStore().exists(mine.session_key)


def test_a_pending_request_is_stored_at_once_where_the_request_stores_nothing_else(request_: Any) -> None:
    request_.session.save()
    request_.session.modified = False
    assert session.add_pending(request_, pending(), conf.current()) is True
    assert "stepup_pending" in SessionStore(request_.session.session_key)
    assert request_.session["stepup_pending"].keys() == {"s"}

    request_.session.modified = True
    assert session.add_pending(request_, pending("t"), conf.current()) is True
    assert SessionStore(request_.session.session_key)["stepup_pending"].keys() == {"s"}
    assert request_.session["stepup_pending"].keys() == {"s", "t"}

    request_.session.modified = False
    request_.session.delete(request_.session.session_key)
    assert session.add_pending(request_, pending("u"), conf.current()) is False


# Renewals


def test_how_it_stands_with_the_renewal_is_stored_as_little_as_it_takes(request_: Any, user: User) -> None:
    session.record(request_, user, claims())
    session.note_renewal(request_, due=NOW + 0.9)
    assert request_.session["oidc_id_token_expiration"] == NOW
    assert "stepup_renewal" not in request_.session
    assert session.renewal(request_) == Renewal()

    state = Renewal(locked="x", failing_since=NOW - 5.5, not_before=NOW + 60.5)
    session.note_renewal(request_, state, due=NOW)
    assert request_.session["stepup_renewal"] == {"token": "x", "since": NOW - 6, "next": NOW + 60, "n": 1}
    assert session.renewal(request_) == Renewal(locked="x", failing_since=NOW - 6, not_before=NOW + 60)

    session.note_renewal(request_, Renewal(ended="gone"), due=NOW)
    assert request_.session["stepup_renewal"] == {"ended": "gone", "n": 2}
    assert session.renewal(request_) == Renewal(ended="gone")

    session.note_renewal(request_, due=NOW)
    assert request_.session["stepup_renewal"] == {"n": 3}
    assert session.renewal(request_) == Renewal()


@pytest.mark.parametrize("stored", [1, [], {"token": 5, "since": "x", "next": None, "ended": 7, "n": "x"}])
def test_what_is_damaged_of_a_renewal_is_as_if_it_were_not_there(request_: Any, user: User, stored: Any) -> None:
    session.record(request_, user, claims())
    request_.session["stepup_renewal"] = stored
    assert session.renewal(request_) == Renewal()
    session.note_renewal(request_, due=NOW)
    assert request_.session["stepup_renewal"] == {"n": 1}


def test_a_renewal_is_of_whom_the_evidence_is_about_whatever_their_password(request_: Any, user: User) -> None:
    assert session.renewal(request_) == Renewal(), "a session without evidence may be renewed"
    session.record(request_, user, claims())
    session.note_renewal(request_, Renewal(ended="gone"), due=NOW)
    request_.session["_auth_user_hash"] = "another"
    assert session.renewal(request_) == Renewal(ended="gone")
    for whose in (user.pk, [], [user.pk + 1, ""], None):
        request_.session["stepup"] = {**request_.session["stepup"], "for": whose}
        assert session.renewal(request_) is None
    request_.session["stepup"] = {**request_.session["stepup"], "for": [str(user.pk), ""]}
    assert session.renewal(request_) == Renewal(ended="gone")


@pytest.mark.parametrize(
    ("expiration", "is_due"),
    [(NOW, True), (NOW - 0.5, True), (NOW + 1, False), (0, True), (True, False), ("0", False), (None, False)],
)
def test_a_renewal_is_due_from_the_second_on_that_was_said(request_: Any, expiration: Any, is_due: bool) -> None:
    request_.session["oidc_id_token_expiration"] = expiration
    request_.session.save()
    key = request_.session.session_key
    for store in (request_.session, SessionStore(key)):
        assert session.is_renewal_due(store, now=NOW) is is_due
    assert async_to_sync(session.ais_renewal_due)(request_.session, now=NOW) is is_due
    nobodys = SessionStore()
    nobodys["oidc_id_token_expiration"] = expiration
    assert session.is_renewal_due(nobodys, now=NOW) is False
    assert async_to_sync(session.ais_renewal_due)(nobodys, now=NOW) is False


@pytest.mark.parametrize(
    ("modified", "accessed", "always", "is_overtaken"),
    [
        (True, True, False, True),
        (True, False, False, True),
        (False, True, False, False),
        (False, True, True, True),
        (False, False, True, False),
    ],
)
def test_only_a_session_that_is_stored_again_can_undo_a_renewal(
    request_: Any, modified: bool, accessed: bool, always: bool, is_overtaken: bool
) -> None:
    settings = dataclasses.replace(conf.current(), session_is_always_saved=always)
    for due, is_one in [(NOW, is_overtaken), (NOW + 1, False)]:
        request_.session["oidc_id_token_expiration"] = due
        request_.session.modified, request_.session.accessed = modified, accessed
        assert session.is_overtaken(request_, settings, now=NOW) is is_one


def test_the_newer_renewal_is_taken_over_and_an_older_one_is_not(request_: Any, user: User) -> None:
    session.record(request_, user, claims())
    session.note_renewal(request_, Renewal(locked="old"), due=NOW)
    request_.session["oidc_access_token"] = "old"
    request_.session.save()
    request_.session.modified = False
    for number, is_newer in [(1, False), (2, True), (0, False)]:
        another(request_, stepup_renewal={"token": f"t{number}", "n": number}, oidc_id_token_expiration=NOW + number)
        before = dict(request_.session.items())
        assert session.adopt_renewal(request_) is True
        assert request_.session.modified is False
        if is_newer:
            assert request_.session["stepup_renewal"] == {"token": "t2", "n": 2}
            assert request_.session["oidc_id_token_expiration"] == NOW + 2
        else:
            assert dict(request_.session.items()) == before
    gone = another(request_, stepup_renewal={"n": 3})
    del gone["oidc_access_token"], gone["stepup"]
    gone.save()
    request_.session["mine"] = 1
    assert session.adopt_renewal(request_) is True
    assert "oidc_access_token" not in request_.session
    assert session.evidence(request_) is None
    assert (request_.session["mine"], request_.session.modified) == (1, True)


def test_what_is_pending_in_other_tabs_goes_with_a_renewal(request_: Any) -> None:
    request_.session.save()
    theirs = another(request_, stepup_pending={"t": {"at": NOW}})
    assert session.adopt_renewal(request_) is True
    assert request_.session["stepup_pending"] == {"t": {"at": NOW}}
    request_.session["stepup_pending"] = {"s": {"at": NOW}, "t": {"at": NOW - 1}}
    assert session.adopt_renewal(request_) is True
    assert request_.session["stepup_pending"] == {"s": {"at": NOW}, "t": {"at": NOW}}
    theirs["stepup_pending"] = "x"
    theirs.save()
    assert session.adopt_renewal(request_) is True
    assert request_.session["stepup_pending"].keys() == {"s", "t"}


# Kept forms


def keep(request: Any, id: str = "f", form: str = "locked", now: float = NOW + 0.9) -> bool:  # noqa: A002
    return session.keep_form(request, id, form, conf.current(), now=now)


def kept_form(request: Any, id: str = "f", now: float = NOW) -> str | None:  # noqa: A002
    return session.kept_form(request, id, conf.current(), now=now)


def take(request: Any, id: str = "f", now: float = NOW) -> bool:  # noqa: A002
    return session.take_form(request, id, conf.current(), now=now)


def test_a_form_is_kept_apart_from_the_session_and_for_so_long(request_: Any, user: User) -> None:
    assert keep(request_) is True
    entry = request_.session["stepup_forms"]["f"]
    assert entry == {"key": entry["key"], "at": NOW, "user": str(user.pk)}
    assert len(entry["key"]) == 32
    assert set(entry["key"]) <= set("abcdefghijklmnopqrstuvwxyz0123456789")
    apart = SessionStore(entry["key"])
    assert apart["stepup_forms"] == "locked"
    assert apart.get_expiry_age() == 900
    assert "stepup_forms" not in SessionStore(request_.session.session_key), "that is stored with the answer"
    assert (kept_form(request_), kept_form(request_, "g")) == ("locked", None)
    for now, is_there in [(NOW + 900, True), (NOW + 901, False), (NOW - 30, True), (NOW - 31, False)]:
        assert kept_form(request_, now=now) == ("locked" if is_there else None)
    apart["stepup_forms"] = 5
    apart.save()
    assert kept_form(request_) is None


@pytest.mark.parametrize(
    "change",
    [
        {"key": None},
        {"key": 5},
        {"key": "a" * 31},
        {"key": "a" * 33},
        {"key": "A" * 32},
        {"key": "a" * 31 + "/"},
        {"at": None},
        {"at": "x"},
        {"at": True},
    ],
)
def test_a_damaged_entry_of_a_form_is_none(request_: Any, change: dict[str, Any]) -> None:
    keep(request_)
    stored = request_.session["stepup_forms"]
    apart = SessionStore(stored["f"]["key"])
    forms: list[Any] = [{"f": {**stored["f"], **change}}, {"f": 5}, [], None]
    for damaged in forms:
        request_.session["stepup_forms"] = damaged
        assert kept_form(request_) is None
        assert take(request_) is False
    assert apart["stepup_forms"] == "locked"


def test_a_form_is_of_who_was_signed_in_and_of_whoever_signs_in_first_where_nobody_was(
    request_: Any, user: User
) -> None:
    other = User.objects.create_user("other")
    keep(request_, "mine")
    request_.user = AnonymousUser()
    keep(request_, "nobodys")
    assert "user" not in request_.session["stepup_forms"]["nobodys"]
    for who, mine in [(other, None), (user, "locked")]:
        request_.user = who
        assert kept_form(request_, "mine") == mine
        assert kept_form(request_, "nobodys") == "locked"
    request_.session.save()
    request_.session.modified = False
    session.claim_form(request_, "mine", conf.current(), now=NOW)
    assert not request_.session.modified, "it was theirs before"
    session.claim_form(request_, "nobodys", conf.current(), now=NOW)
    assert request_.session.modified
    assert request_.session["stepup_forms"]["nobodys"]["user"] == str(user.pk)
    request_.user = other
    assert kept_form(request_, "nobodys") is None


class Full(SessionStore):
    """An engine that has no room left."""

    def save(self, must_create: bool = False) -> None:
        raise OSError("no space left on device")


def test_a_form_that_finds_no_room_is_not_kept_and_leaves_no_entry(request_: Any) -> None:
    request_.session = Full(request_.session.session_key)
    assert keep(request_) is False
    assert "stepup_forms" not in request_.session


def test_the_oldest_form_makes_room_and_is_deleted(request_: Any) -> None:
    times = [NOW, NOW - 9, NOW - 5, NOW - 7, NOW - 8]
    for number, at in enumerate(times):
        keep(request_, f"f{number}", now=at)
    assert len(request_.session["stepup_forms"]) == 5
    keys = {name: entry["key"] for name, entry in request_.session["stepup_forms"].items()}
    keep(request_, "new")
    assert request_.session["stepup_forms"].keys() == {"f0", "f2", "f3", "f4", "new"}
    assert not SessionStore().exists(keys.pop("f1"))
    assert all(SessionStore().exists(key) for key in keys.values())


def test_a_form_is_taken_once_and_the_others_stay(request_: Any) -> None:
    keep(request_)
    keep(request_, "g")
    request_.session.save()
    key = request_.session["stepup_forms"]["f"]["key"]
    behind: Any = type("Request", (), {"session": SessionStore(request_.session.session_key), "user": request_.user})()
    assert kept_form(behind) == "locked"
    assert (take(request_, "h"), take(request_, now=NOW + 901)) == (False, False)

    assert take(request_) is True
    assert request_.session["stepup_forms"].keys() == {"g"}
    assert SessionStore(request_.session.session_key)["stepup_forms"].keys() == {"g"}, "at once"
    assert not SessionStore().exists(key)
    assert take(request_) is False
    assert take(behind) is False, "not by a request that has loaded the session before either"
    assert take(request_, "g") is True
    assert "stepup_forms" not in request_.session
    assert "stepup_forms" not in SessionStore(request_.session.session_key)


def test_a_form_that_another_request_has_taken_off_the_session_meanwhile_breaks_nothing(request_: Any) -> None:
    keep(request_)
    keep(request_, "g")
    request_.session.save()
    theirs = another(request_, stepup_forms={"g": request_.session["stepup_forms"]["g"]})
    assert take(request_) is True
    assert (take(request_), kept_form(request_)) == (False, None)
    del theirs["stepup_forms"]
    theirs.save()
    assert take(request_, "g") is True
    assert "stepup_forms" not in SessionStore(request_.session.session_key)


def test_a_form_of_a_session_that_is_gone_is_not_taken_and_stays_where_it_was(request_: Any) -> None:
    keep(request_)
    request_.session.save()
    entry = request_.session["stepup_forms"]["f"]
    request_.session.delete(request_.session.session_key)
    assert take(request_) is False
    assert SessionStore(entry["key"])["stepup_forms"] == "locked"
    request_.session = SessionStore()
    request_.session["stepup_forms"] = {"f": entry}
    request_.session.save()
    assert take(request_) is True, "under another key it can be had"


# Attempts


MFA = Requirement(name="mfa", amr=("mfa",))


def note(request: Any, requirement: Requirement = MFA, *, now: float = NOW, lasting: bool = False) -> None:
    session.note_attempt(request, requirement, conf.current(), now=now, lasting=lasting)


def to_wait(request: Any, now: float = NOW, requirement: Requirement = MFA) -> float:
    return session.seconds_to_wait(request, requirement, conf.current(), now=now)


def test_who_has_tried_so_often_waits_until_enough_of_it_is_long_ago(request_: Any) -> None:
    for at in (NOW - 500, NOW - 400, NOW - 300):
        note(request_, now=at)
        assert to_wait(request_) == 0
    note(request_, now=NOW - 200)
    assert to_wait(request_) == 100, "until the first of the four counts no more"
    assert (to_wait(request_, NOW + 99), to_wait(request_, NOW + 100)) == (1, 0)
    note(request_, now=NOW)
    assert to_wait(request_) == 200
    assert to_wait(request_, requirement=Requirement(amr=("hwk",))) == 0


def test_an_attempt_counts_to_the_second_and_of_a_clock_that_is_ahead_by_so_much(request_: Any) -> None:
    for age, counts in [(599, True), (600, False), (-30, True), (-31, False)]:
        request_.session.pop("stepup_attempts", None)
        for _ in range(4):
            note(request_, now=NOW)
        assert (to_wait(request_, NOW + age) > 0) is counts
    assert to_wait(request_, NOW - 30) == 600, "nobody waits for longer than that"


def test_what_lasts_counts_with_the_rest_and_is_not_forgotten_with_it(request_: Any, user: User) -> None:
    for number in range(4):
        note(request_, lasting=number > 1)
    assert to_wait(request_) == 600
    assert {len(times) for times in request_.session["stepup_attempts"]["at"].values()} == {2}
    assert request_.session["stepup_attempts"]["for"] == str(user.pk)
    request_.session.modified = False
    session.forget_attempts(request_, Requirement(amr=("hwk",)))
    assert not request_.session.modified
    session.forget_attempts(request_, MFA)
    assert request_.session.modified
    assert to_wait(request_) == 0
    for _ in range(2):
        note(request_)
    assert to_wait(request_) == 600, "what lasts is still there"


def test_where_nothing_is_counted_any_more_nothing_is_kept(request_: Any) -> None:
    session.note_attempt(request_, MFA, conf.current(), now=NOW)
    note(request_, Requirement(amr=("hwk",)))
    session.forget_attempts(request_, MFA)
    assert len(request_.session["stepup_attempts"]["at"]) == 1
    session.forget_attempts(request_, Requirement(amr=("hwk",)))
    assert "stepup_attempts" not in request_.session
    session.forget_attempts(request_, MFA)


# The site's own page


def go(request: Any, requirement: Requirement = MFA, path: str = "/a/", now: float = NOW) -> bool:
    return session.may_go(request, requirement, path, conf.current(), now=now)


def test_nobody_goes_to_the_sites_own_page_for_the_same_more_often_than_a_person_would(request_: Any) -> None:
    for number in range(5):
        assert go(request_, now=NOW + number) is True
    need = {"amr": ["mfa"], "name": "mfa"}
    assert request_.session["stepup_way"] == {"need": need, "next": "/a/", "at": [NOW + each for each in range(5)]}
    assert go(request_, now=NOW + 5) is False
    assert "stepup_way" not in request_.session, "a person who sees the page may try again"
    for _ in range(3):
        for other, path in [(MFA, "/a/"), (MFA, "/b/"), (Requirement(amr=("otp",)), "/b/")]:
            assert go(request_, other, path) is True
    for number in range(12):
        assert go(request_, path="/ab/"[number % 2 :]) is True, "each page counts by itself"
    for number in range(12):
        assert go(request_, now=NOW + 100 + 2.5 * number) is True, "slowly, as often as they like"


def test_the_last_ten_seconds_count(request_: Any) -> None:
    for late in (0, 1, 2, 3, 4, 10):
        assert go(request_, now=NOW + late) is True
    assert go(request_, now=NOW + 10.9) is False


@pytest.mark.parametrize("late", [0, 900, 901])
@pytest.mark.parametrize("named", [False, True])
def test_what_is_proved_on_the_sites_own_page_is_fresh_for_the_page_that_led_there(
    request_: Any, user: User, named: bool, late: int
) -> None:
    needed = conf.current().requirements["mfa"] if named else MFA

    def arrive(amr: list[str]) -> None:
        evidence = session.record(request_, user, claims(amr=amr, auth_time=NOW), stated=True)
        session.arrive(request_, evidence, conf.current(), now=NOW + late)

    go(request_, needed, now=NOW - 5)
    go(request_, needed, now=NOW)
    arrive(["pwd"])
    assert "stepup_settled" not in request_.session
    assert "stepup_way" in request_.session
    arrive(["mfa"])
    is_fresh = late <= 900
    assert (session.settled(request_, needed, "/a/", now=NOW + late) == NOW + late) is is_fresh
    assert ("stepup_way" not in request_.session) is is_fresh


@pytest.mark.parametrize(
    "change",
    [{"need": "gone"}, {"need": 5}, {"need": {"amr": ["mfa"]}}, {"next": 5}, {"at": []}, {"at": None}, {"at": ["x"]}],
)
def test_a_damaged_way_leads_nowhere(request_: Any, user: User, change: dict[str, Any]) -> None:
    go(request_)
    whole = request_.session["stepup_way"]
    evidence = session.record(request_, user, claims(auth_time=NOW), stated=True)
    for damaged in ({**whole, **change}, 5, None):
        request_.session["stepup_way"] = damaged
        session.arrive(request_, evidence, conf.current(), now=NOW)
        assert "stepup_settled" not in request_.session
        assert go(request_) is True


# What the site states itself


def test_what_the_site_states_is_added_and_what_the_op_has_said_stays(request_: Any, user: User) -> None:
    session.record(request_, user, claims(acr="a", auth_time=NOW))
    said = session.claims(request_)
    stated = {"iss": ISSUER, "sub": "stepup|anna", "amr": ["otp"], "auth_time": NOW + 5}
    evidence = session.record(request_, user, stated, stated=True)
    assert evidence.proofs["amr"] == {"mfa": NOW, "otp": NOW + 5}
    assert evidence.auth_time == NOW + 5
    assert session.claims(request_) == said
    assert session.is_of(request_, "s1") is True


def test_what_was_stated_of_a_user_stays_when_the_op_says_who_they_are(request_: Any, user: User) -> None:
    session.record(request_, user, {"iss": ISSUER, "sub": "", "amr": ["otp"], "auth_time": NOW}, stated=True)
    assert session.claims(request_) == {}
    evidence = session.record(request_, user, claims(auth_time=NOW + 5))
    assert (evidence.subject, evidence.proofs["amr"]) == ("stepup|anna", {"otp": NOW, "mfa": NOW + 5})
    assert session.evidence(request_) == evidence


def test_a_renewal_that_leaves_the_session_at_the_op_out_keeps_the_one_that_is_known(request_: Any, user: User) -> None:
    without = {key: value for key, value in claims().items() if key != "sid"}
    for renewal, sid, known in [(True, None, True), (True, "s2", False), (False, None, None)]:
        session.record(request_, user, claims())
        session.record(request_, user, without if sid is None else {**without, "sid": sid}, renewal=renewal)
        assert session.is_of(request_, "s1") is known


def test_where_nobody_says_the_time_it_is_stored_when_it_came(request_: Any, user: User) -> None:
    clock.offset = NOW + 0.5 - clock.now()
    session.record(request_, user, {"iss": ISSUER, "sub": "s", "amr": ["mfa"]})
    assert request_.session["stepup"]["at"] in (-NOW, -NOW - 1)
    assert request_.session["stepup"]["proofs"] == {"amr": ["mfa"]}


def test_a_user_whose_key_is_no_number_is_known_by_its_text_and_a_time_may_be_the_first_of_all(request_: Any) -> None:
    class ByText:
        pk = uuid.UUID(int=5)
        is_authenticated = True

    somebody: Any = ByText()
    request_.user = somebody
    session.record(request_, somebody, claims(auth_time=0))
    assert request_.session["stepup"]["for"] == [str(uuid.UUID(int=5)), ""]
    evidence = session.evidence(request_)
    assert evidence is not None
    assert (evidence.auth_time, evidence.proofs["amr"]) == (0, {"mfa": 0})
    request_.session["_auth_user_hash"] = "abcdefgh"
    session.record(request_, somebody, claims(auth_time=int(clock.now())))
    assert session.shows(request_.session, somebody, MFA, None, conf.current())


def test_no_quick_yes_is_for_one_showing_and_one_second_is_an_age(request_: Any, user: User) -> None:
    request_.session["_auth_user_hash"] = "abcdefgh"
    session.record(request_, user, claims(auth_time=int(clock.now())))
    assert session.shows(request_.session, user, MFA, 1, conf.current())
    assert not session.shows(request_.session, user, MFA, 0, conf.current())
    session.settle(request_, MFA, "/a/", now=clock.now(), since=clock.now() - 500)
    assert not session.shows(request_.session, user, MFA, None, conf.current())


# Sessions as a whole


def test_a_session_that_is_lowered_keeps_who_is_signed_in_and_nothing_that_the_op_has_given(
    request_: Any, user: User
) -> None:
    kept = {"_auth_user_id": str(user.pk), "own": 1, "stepup_pending": {}}
    proof = ["stepup", "stepup_settled", "stepup_renewal"]
    proof += ["oidc_id_token_expiration", "oidc_id_token", "oidc_access_token"]
    request_.session.update({**kept, **dict.fromkeys(proof, "x")})
    assert session.holds_evidence(request_.session) is True
    before = dict(request_.session.items())
    key = session.lowered(request_.session, conf.current())
    assert dict(SessionStore(key).items()) == kept
    assert key != request_.session.session_key
    assert dict(request_.session.items()) == before
    session.lower(request_.session)
    assert dict(request_.session.items()) == kept
    assert session.holds_evidence(request_.session) is False
    session.lower(request_.session)


def test_forgetting_evidence_is_of_no_other_key_and_possible_twice(request_: Any, user: User) -> None:
    session.record(request_, user, claims())
    request_.session["own"] = 1
    session.forget_evidence(request_)
    session.forget_evidence(request_)
    assert dict(request_.session.items()) == {"own": 1}


@pytest.mark.parametrize(("stored", "path", "pk"), [("7", "7", "7"), ("", "", ""), (7, "", None), (None, "", None)])
def test_the_login_of_a_session_is_text_or_none(request_: Any, stored: Any, path: str, pk: str | None) -> None:
    request_.session.update({"_auth_user_id": stored, "_auth_user_backend": stored})
    assert session.login_backend(request_.session) == path
    assert session.login_pk(request_.session) == pk
    assert session.login_backend(SessionStore()) == ""
    assert session.login_pk(SessionStore()) is None


def test_a_session_is_known_by_the_cookie_of_the_sites_own_name(request_: Any, settings: Any) -> None:
    settings.SESSION_COOKIE_NAME = "own"
    key = request_.session.session_key
    for cookies, modified, is_known, former in [
        ({"own": key}, True, True, None),
        ({"own": "other"}, True, False, "other"),
        ({"own": "other"}, False, False, None),
        ({"sessionid": "other"}, True, False, None),
        ({"sessionid": key}, True, False, None),
        ({"own": ""}, True, False, None),
    ]:
        request_.COOKIES, request_.session.modified = cookies, modified
        assert session.is_known_to_browser(request_, conf.current()) is is_known
        assert session.former_key(request_, conf.current()) == former
    request_.session, request_.COOKIES = SessionStore(), {"own": key}
    request_.session.modified = True
    assert session.former_key(request_, conf.current()) is None
    request_.COOKIES = {}
    assert session.is_known_to_browser(request_, conf.current()) is False


def test_to_look_whether_a_session_is_there_is_no_use_of_it(request_: Any) -> None:
    key = request_.session.session_key
    for accessed in (True, False):
        store = SessionStore(key)
        store.accessed = accessed
        assert session.is_there(store) is True
        assert store.accessed is accessed
    assert session.is_there(SessionStore("a" * 32)) is False
    assert session.stored(key, conf.current()).session_key == key
    assert session.stored(None, conf.current()).session_key is None
    assert session.is_on_server(request_.session) is True
    assert session.is_on_server(CookieStore()) is False


# Proof for one showing


def test_proof_for_one_showing_is_used_up_by_one_request_and_stored_at_once(request_: Any) -> None:
    settings = conf.current()
    assert session.is_settled(request_) is False
    session.settle(request_, MFA, "/a/", now=NOW, since=NOW)
    assert session.is_settled(request_) is True
    request_.session.save()
    request_.session.modified = False
    behind: Any = type("Request", (), {"session": SessionStore(request_.session.session_key), "user": request_.user})()
    assert session.is_settled(behind) is True
    assert session.use_up_settled(request_, settings, for_good=True) is True
    assert "stepup_settled" not in SessionStore(request_.session.session_key)
    assert (session.is_settled(request_), request_.session.modified) == (False, False)
    assert session.use_up_settled(behind, settings, for_good=True) is False
    assert (session.is_settled(behind), behind.session.modified) == (False, False)


def test_a_request_that_comes_too_late_for_it_still_stores_what_it_has_changed_itself(request_: Any) -> None:
    settings = conf.current()
    session.settle(request_, MFA, "/a/", now=NOW, since=NOW)
    request_.session.save()
    behind: Any = type("Request", (), {"session": SessionStore(request_.session.session_key), "user": request_.user})()
    behind.session["own"] = 1
    assert session.use_up_settled(request_, settings, for_good=True) is True
    assert session.use_up_settled(behind, settings, for_good=True) is False
    assert behind.session.modified is True


def test_where_the_browser_has_the_session_proof_for_one_showing_is_used_up_once_each_time(request_: Any) -> None:
    settings, request_.session = conf.current(), CookieStore()
    for _ in range(2):
        session.settle(request_, MFA, "/a/", now=NOW, since=NOW)
        held = dict(request_.session.items())
        request_.session.save()
        assert session.use_up_settled(request_, settings, for_good=True) is True
        assert (session.is_settled(request_), request_.session.modified) == (False, True)
        again: Any = type("Request", (), {"session": CookieStore(), "user": request_.user})()
        again.session.update(held)
        again.session.modified = False
        assert session.use_up_settled(again, settings, for_good=True) is False
        assert (session.is_settled(again), again.session.modified) == (False, True), "the browser is to have it so"


def test_where_something_else_proves_enough_it_goes_with_the_answer(request_: Any) -> None:
    session.settle(request_, MFA, "/a/", now=NOW, since=NOW)
    request_.session.save()
    request_.session.modified = False
    assert session.use_up_settled(request_, conf.current(), for_good=False) is True
    assert (session.is_settled(request_), request_.session.modified) == (False, True)
    assert "stepup_settled" in SessionStore(request_.session.session_key)


def test_pending_requests_can_be_looked_at_and_stay(request_: Any) -> None:
    settings = conf.current()
    sudo = pending("t", requirement=settings.requirements["sudo"])
    for each in (pending("s"), sudo):
        session.add_pending(request_, each, settings)
    request_.session["stepup_pending"] = {**request_.session["stepup_pending"], "x": {"at": NOW}, "y": 5}
    before = dict(request_.session.items())
    assert session.pendings(request_, settings, now=NOW) == [pending("s"), sudo]
    assert session.pendings(request_, settings, now=NOW + 901) == []
    assert dict(request_.session.items()) == before
