"""What counts as proof, and what comparing it with a requirement gives."""

from __future__ import annotations

import copy
import json
import math
import pickle
from collections.abc import Callable, Iterable, Mapping
from dataclasses import replace
from fractions import Fraction
from typing import Any

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from stepup.assurance import MAX_MAX_AGE, MAX_VALUE_LENGTH, MAX_VALUES, Decision, Evidence, Requirement, Unmet, evaluate

NOW = 1_700_000_000
ISSUER, SUBJECT = "https://op.example/", "auth0|1"

MFA = Requirement(amr=("mfa",))
FRESH_MFA = Requirement(amr=("mfa",), max_age=300)
FRESH = Requirement(max_age=300)


def evidence(auth_time: float | None = None, **proofs: Mapping[str, float | None]) -> Evidence:
    return Evidence(issuer=ISSUER, subject=SUBJECT, auth_time=auth_time, proofs=proofs)


def from_claims(proof_claims: Iterable[str] = (), **claims: Any) -> Evidence:
    return Evidence.from_claims({"iss": ISSUER, "sub": SUBJECT, **claims}, proof_claims=proof_claims)


def reasons(found: Evidence | None, requirement: Requirement, *, leeway: float = 0) -> list[str]:
    return [str(unmet) for unmet in evaluate(found, requirement, now=NOW, leeway=leeway).unmet]


# The evidence in claims


@pytest.mark.parametrize(
    "amr",
    [
        "mfa",
        "mfa-not",
        ["MFA"],
        ["mfa-not"],
        ["mfa "],
        [["mfa"]],
        {"mfa": 1},
        None,
        [1],
        ["mfa", 1],
        ["mfa", None],
        ["mfa", ""],
        ["mfa"] * 10_000,
        ["mfa", *map(str, range(MAX_VALUES))],
        ["mfa", "x" * (MAX_VALUE_LENGTH + 1)],
        [],
        True,
        ("mfa",),
    ],
    ids=lambda amr: repr(amr)[:30],
)
def test_amr_that_is_no_array_of_strings_with_the_method_proves_nothing(amr: object) -> None:
    assert reasons(from_claims(amr=amr, auth_time=NOW), MFA) == ["amr: missing"]


def test_amr_without_a_claim_proves_nothing() -> None:
    assert from_claims(auth_time=NOW).proofs == {}


def test_the_longest_amr_that_is_looked_at_proves() -> None:
    amr = ["mfa", "x" * MAX_VALUE_LENGTH, *map(str, range(MAX_VALUES - 2))]
    assert len(amr) == MAX_VALUES
    assert evaluate(from_claims(amr=amr), MFA, now=NOW)


@pytest.mark.parametrize("acr", ["urn:mfa", ["urn:mfa"], ["urn:other", "urn:mfa"]])
def test_acr_proves_as_a_string_and_as_an_array_of_strings(acr: object) -> None:
    assert evaluate(from_claims(acr=acr), Requirement(acr=("urn:mfa",)), now=NOW)


@pytest.mark.parametrize("acr", ["urn:mfa:not", "URN:MFA", "", "0", 0, None, {"urn:mfa": 1}, [["urn:mfa"]]])
def test_acr_of_another_class_or_kind_proves_nothing(acr: object) -> None:
    assert reasons(from_claims(acr=acr), Requirement(acr=("urn:mfa",))) == ["acr: missing"]


def test_another_claim_proves_only_where_it_is_named_as_one_that_does() -> None:
    requirement = Requirement(claims={"acrs": ("c1", "c2")})
    assert requirement.proof_claims == {"acrs"}
    assert evaluate(from_claims(requirement.proof_claims, acrs=["c2"]), requirement, now=NOW)
    assert reasons(from_claims(acrs=["c2"]), requirement) == ["acrs: missing"]


@pytest.mark.parametrize("auth_time", [NOW, float(NOW), NOW - 0.25, 0])
def test_the_time_proved_is_auth_time(auth_time: float) -> None:
    found = from_claims(amr=["mfa"], auth_time=auth_time, iat=NOW + 5)
    assert found.auth_time == auth_time
    assert found.proofs == {"amr": {"mfa": auth_time}}


@pytest.mark.parametrize("auth_time", [None, str(NOW), True, -1, math.inf, math.nan, [NOW], {"seconds": NOW}], ids=repr)
def test_the_time_is_unknown_where_auth_time_is_no_time_whatever_iat_says(auth_time: object) -> None:
    found = from_claims(amr=["mfa"], auth_time=auth_time, iat=NOW)
    assert found.auth_time is None
    assert found.proofs == {"amr": {"mfa": None}}


# Evidence added to evidence


def test_newer_evidence_erases_none_that_is_older() -> None:
    before = evidence(NOW - 900, amr={"mfa": NOW - 900})
    assert before.add(from_claims(auth_time=NOW)) == evidence(NOW, amr={"mfa": NOW - 900})


@pytest.mark.parametrize(
    ("first", "second", "together"), [(None, 5, 5), (5, None, 5), (5, 7, 7), (7, 5, 7), (None, None, None)]
)
def test_of_two_times_the_later_that_is_known_counts(
    first: float | None, second: float | None, together: float | None
) -> None:
    added = evidence(first, amr={"mfa": first}).add(evidence(second, amr={"mfa": second}))
    assert added == evidence(together, amr={"mfa": together})


@pytest.mark.parametrize("other", [{"issuer": "https://other.example/"}, {"subject": "auth0|2"}])
def test_evidence_about_somebody_else_cannot_be_added(other: dict[str, Any]) -> None:
    newer = replace(evidence(NOW, amr={"mfa": NOW}), **other)
    with pytest.raises(ValueError, match="another"):
        evidence(NOW).add(newer)


def test_an_op_that_has_a_new_value_each_time_does_not_fill_the_session() -> None:
    found = evidence(0, acr={"first": 0})
    for second in range(1, MAX_VALUES * 2):
        found = found.add(from_claims(acr=f"class-{second}", auth_time=second))
    kept = range(MAX_VALUES, MAX_VALUES * 2)
    assert found.proofs == {"acr": {f"class-{second}": second for second in kept}}


@pytest.mark.parametrize("auth_time", [NOW, None])
def test_what_was_proved_just_now_is_kept_however_much_there_is(auth_time: float | None) -> None:
    found = from_claims(amr=["mfa", "first"], auth_time=auth_time)
    for visit in range(MAX_VALUES * 2):
        found = found.add(from_claims(amr=["mfa", f"device-{visit}"], auth_time=auth_time))
        assert {"mfa", f"device-{visit}"} <= found.proofs["amr"].keys()


def test_adding_leaves_both_as_they_were() -> None:
    before, newer = evidence(1, amr={"pwd": 1}), evidence(2, amr={"mfa": 2})
    before.add(newer)
    assert (before, newer) == (evidence(1, amr={"pwd": 1}), evidence(2, amr={"mfa": 2}))


# Evidence compared with a requirement


@pytest.mark.parametrize(
    ("found", "requirement", "expected"),
    [
        (None, MFA, ["amr: missing"]),
        (None, FRESH, ["auth_time: missing"]),
        (evidence(NOW), MFA, ["amr: missing"]),
        (evidence(NOW, amr={"pwd": NOW}), MFA, ["amr: missing"]),
        (evidence(amr={"mfa": None}), MFA, []),
        (evidence(amr={"mfa": 1}), MFA, []),
        (evidence(amr={"mfa": None}), FRESH_MFA, ["amr: time_unknown"]),
        (evidence(NOW, amr={"mfa": NOW - 301}), FRESH_MFA, ["amr: stale"]),
        (evidence(NOW, amr={"mfa": NOW - 300}), FRESH_MFA, []),
        (evidence(NOW, amr={"mfa": NOW}), FRESH_MFA, []),
        (evidence(NOW, amr={"mfa": NOW + 1}), FRESH_MFA, ["amr: future"]),
        (evidence(NOW, amr={"pwd": NOW}), Requirement(amr=("pwd", "mfa")), ["amr: missing"]),
        (evidence(NOW), Requirement(amr=("pwd", "mfa")), ["amr: missing", "amr: missing"]),
        (evidence(NOW, acr={"b": NOW}), Requirement(acr=("a", "b")), []),
        (evidence(NOW, acr={"c": NOW}), Requirement(acr=("a", "b")), ["acr: missing"]),
        (evidence(NOW, acr={"a": NOW}), Requirement(amr=("mfa",), acr=("a",)), ["amr: missing"]),
        (evidence(NOW, vot={"P2": 1}), Requirement(claims={"vot": ("P2",), "aal": ("2",)}), ["aal: missing"]),
        (evidence(NOW, vot={"P2": 1}, aal={"2": 1}), Requirement(claims={"vot": ("P2",), "aal": ("2", "3")}), []),
        (evidence(), FRESH, ["auth_time: time_unknown"]),
        (evidence(NOW - 300), FRESH, []),
        (evidence(NOW - 301), FRESH, ["auth_time: stale"]),
        (evidence(NOW + 1), FRESH, ["auth_time: future"]),
        (
            Evidence(issuer=ISSUER, subject=SUBJECT, proofs={"auth_time": {"": NOW}}),
            FRESH,
            ["auth_time: time_unknown"],
        ),
        (evidence(NOW, amr={"pwd": NOW}), Requirement(max_age=0), []),
    ],
)
def test_a_requirement_is_met_by_exactly_what_it_demands(
    found: Evidence | None, requirement: Requirement, expected: list[str]
) -> None:
    assert reasons(found, requirement) == expected


@pytest.mark.parametrize(
    ("time", "expected"),
    [
        (NOW - 331, ["amr: stale"]),
        (NOW - 330.25, ["amr: stale"]),
        (NOW - 330, []),
        (NOW + 30, []),
        (NOW + 30.25, ["amr: future"]),
    ],
)
def test_leeway_widens_the_window_at_both_ends_and_is_exact(time: float, expected: list[str]) -> None:
    assert reasons(evidence(amr={"mfa": time}), FRESH_MFA, leeway=30) == expected


@pytest.mark.parametrize(
    ("times", "reason"),
    [
        ({}, "missing"),
        ({"a": NOW + 1}, "future"),
        ({"a": NOW + 1, "b": None}, "time_unknown"),
        ({"a": None, "b": NOW - 900, "c": NOW + 1}, "stale"),
    ],
)
def test_of_several_values_that_would_do_the_nearest_to_proof_gives_the_reason(
    times: dict[str, float | None], reason: str
) -> None:
    decision = evaluate(evidence(acr=times), Requirement(acr=("a", "b", "c"), max_age=300), now=NOW)
    assert decision.unmet == (Unmet("acr", reason, ("a", "b", "c")),)


def test_without_a_word_about_leeway_there_is_none() -> None:
    assert evaluate(evidence(NOW - 300), FRESH, now=NOW)
    assert not evaluate(evidence(NOW - 301), FRESH, now=NOW)


def test_an_unmet_demand_names_what_would_have_done() -> None:
    decision = evaluate(None, Requirement(amr=("mfa",), acr=("a", "b"), claims={"vot": ("P2",)}), now=NOW)
    assert decision.unmet == (
        Unmet("amr", "missing", ("mfa",)),
        Unmet("acr", "missing", ("a", "b")),
        Unmet("vot", "missing", ("P2",)),
    )
    assert evaluate(None, FRESH, now=NOW).unmet == (Unmet("auth_time", "missing"),)


def test_a_decision_is_true_only_when_satisfied() -> None:
    unmet, satisfied = evaluate(None, MFA, now=NOW), evaluate(evidence(amr={"mfa": 1}), MFA, now=NOW)
    assert (bool(unmet), unmet.satisfied) == (False, False)
    assert (bool(satisfied), satisfied.satisfied, satisfied) == (True, True, Decision())


# Requirements


@pytest.mark.parametrize(
    ("fields", "complaint"),
    [
        ({}, "demands no proof"),
        ({"acr_values": ["urn:mfa"], "essential": True}, "demands no proof"),
        ({"amr": "mfa"}, "amr: must be a list"),
        ({"amr": 5}, "amr: must be a list"),
        ({"amr": b"mfa"}, "amr: must be a list"),
        ({"amr": {"mfa"}}, "amr: must be a list"),
        ({"amr": {"mfa": 1}}, "amr: must be a list"),
        ({"amr": iter(["mfa"])}, "amr: must be a list"),
        ({"amr": [""]}, "amr: must be a string"),
        ({"amr": [["mfa"]]}, "amr: must be a string"),
        ({"acr": "urn:mfa"}, "acr: must be a list"),
        ({"acr": ["a"], "acr_values": "urn:mfa"}, "acr_values: must be a list"),
        ({"acr": ["a"], "acr_values": ["urn:mfa urn:pwd"]}, "white space"),
        ({"acr": ["a"], "acr_values": [" "]}, "white space"),
        ({"acr": ["a"], "acr_values": [" urn:mfa"]}, "white space"),
        ({"acr": ["a"], "acr_values": ["urn:mfa\n"]}, "white space"),
        ({"claims": ["vot"]}, "claims: must be a dictionary"),
        ({"claims": {"vot": "P2"}}, r"claims\['vot'\]: must be a list"),
        ({"claims": {"vot": []}}, "each needs a value"),
        ({"claims": {"": ["P2"]}}, "claims: must be a string"),
        ({"claims": {1: ["P2"]}}, "claims: must be a string"),
        ({"claims": {"amr": ["mfa"]}}, "fields of their own"),
        ({"claims": {"acr": ["mfa"]}}, "fields of their own"),
        ({"claims": {"auth_time": ["1"]}}, "fields of their own"),
        ({"max_age": -1}, "max_age"),
        ({"max_age": "300"}, "max_age"),
        ({"max_age": 300.0}, "max_age"),
        ({"max_age": True}, "max_age"),
        ({"max_age": MAX_MAX_AGE + 1}, "max_age"),
        ({"max_age": 10**400}, "max_age"),
        ({"max_age": 1, "essential": 1}, "essential"),
        ({"max_age": 1, "prompt": ""}, "prompt"),
        ({"max_age": 1, "prompt": ["login"]}, "prompt"),
        ({"max_age": 1, "params": "a=b"}, "params: must be a dictionary"),
        ({"max_age": 1, "params": {"a": 1}}, "params: must be a string"),
        ({"max_age": 1, "params": {1: "a"}}, "params: must be a string"),
        ({"max_age": 1, "name": None}, "name"),
    ],
    ids=lambda part: str(sorted(part)) if isinstance(part, dict) else part,
)
def test_a_malformed_requirement_is_refused(fields: dict[str, Any], complaint: str) -> None:
    with pytest.raises(ValueError, match=complaint):
        Requirement(**fields)


def test_the_largest_max_age_is_31_years() -> None:
    assert Requirement(max_age=MAX_MAX_AGE).max_age == 10**9


@pytest.mark.parametrize(
    "param",
    [
        "response_type", "client_id", "redirect_uri", "scope", "state", "nonce", "code_challenge",
        "code_challenge_method", "acr_values", "max_age", "prompt", "claims", "request", "request_uri",
        "response_mode", "id_token_hint",
    ],
)  # fmt: skip
def test_a_requirement_cannot_set_a_parameter_that_protects_the_request(param: str) -> None:
    with pytest.raises(ValueError, match=param):
        Requirement(max_age=1, params={"audience": "api", param: "x"})


@pytest.mark.parametrize("raw", [{"maxage": 300}, {"name": "mfa", "max_age": 1}, {1: 2, "max_age": 1}])
def test_a_key_that_no_requirement_has_is_refused(raw: dict[Any, Any]) -> None:
    with pytest.raises(ValueError, match="unknown key"):
        Requirement.from_mapping(raw)


@pytest.mark.parametrize("raw", [None, "mfa", ["max_age"], 300])
def test_what_is_no_mapping_describes_no_requirement(raw: Any) -> None:
    with pytest.raises(ValueError, match="must be a dictionary"):
        Requirement.from_mapping(raw)


def test_a_requirement_cannot_be_changed_through_what_it_was_made_from() -> None:
    amr, claims, params = ["mfa"], {"vot": ["P2"]}, {"audience": "api"}
    requirement = Requirement(amr=amr, claims=claims, params=params)  # type: ignore[arg-type] # as settings have it
    amr.clear()
    claims.clear()
    params.clear()
    assert requirement == Requirement(amr=("mfa",), claims={"vot": ("P2",)}, params={"audience": "api"})
    with pytest.raises(TypeError):
        requirement.claims["vot"] = ()  # type: ignore[index] # which is the point


def test_requirements_that_say_the_same_are_equal_whatever_they_are_called() -> None:
    assert Requirement(amr=("mfa",), name="a") == Requirement(amr=("mfa",), name="b")
    assert len({Requirement(max_age=1, name="a"), Requirement(max_age=1, name="b")}) == 1
    assert Requirement(max_age=1, params={"a": "b"}) != Requirement(max_age=1)


@pytest.mark.parametrize(
    ("max_age", "seconds", "expected"),
    [(300, 299, 300), (300, 300, 300), (300, 300.25, 301), (0, 12.5, 13), (0, -5, 0), (None, 10**6, None)],
)
def test_a_requirement_within_some_seconds_is_as_strict_as_before_or_as_old_as_that(
    max_age: int | None, seconds: float, expected: int | None
) -> None:
    requirement = Requirement(amr=("mfa",), max_age=max_age, name="mfa")
    relaxed = requirement.within(seconds)
    assert (relaxed, relaxed.name) == (replace(requirement, max_age=expected), "mfa")


@pytest.mark.parametrize("duplicate", [copy.deepcopy, lambda value: pickle.loads(pickle.dumps(value))])  # noqa: S301 - our own
def test_a_requirement_can_be_copied_and_sent_to_another_process(
    duplicate: Callable[[Requirement], Requirement],
) -> None:
    requirement = Requirement(amr=("mfa",), claims={"vot": ("P2",)}, params={"audience": "api"}, name="mfa")
    copied = duplicate(requirement)
    assert (copied, copied.name) == (requirement, "mfa")


def test_a_mapping_of_a_requirement_has_nothing_that_is_at_its_default() -> None:
    assert Requirement(max_age=0).to_mapping() == {"max_age": 0}
    assert MFA.to_mapping() == {"amr": ["mfa"]}


# What holds for all of them

#: However busy the machine is.
patient = settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])

VALUES = ("mfa", "pwd", "otp")
CLAIMS = ("vot", "aal")

#: Quarters of a second, which are exact as floats too; many of them near the edges of the window.
times = st.one_of(
    st.integers(NOW - 700, NOW + 100),
    st.integers((NOW - 700) * 4, (NOW + 100) * 4).map(lambda quarters: quarters / 4),
)
known_or_not = st.none() | times
some_values = st.sampled_from(VALUES)
some_ages = st.integers(0, 600)
leeways = st.sampled_from([0, 0.25, 30, 60])


def evidences(when: st.SearchStrategy[Any]) -> st.SearchStrategy[Evidence]:
    proofs = st.dictionaries(
        st.sampled_from(("amr", "acr", *CLAIMS, "auth_time")), st.dictionaries(st.sampled_from(VALUES), when)
    )
    return st.builds(Evidence, issuer=st.just(ISSUER), subject=st.just(SUBJECT), auth_time=when, proofs=proofs)


def tuples(values: st.SearchStrategy[str], least: int = 0) -> st.SearchStrategy[tuple[str, ...]]:
    return st.lists(values, min_size=least, max_size=3).map(tuple)


@st.composite
def requirements(
    draw: st.DrawFn,
    values: st.SearchStrategy[str] = some_values,
    max_ages: st.SearchStrategy[int] = some_ages,
) -> Requirement:
    amr, acr = draw(tuples(values)), draw(tuples(values))
    claims = draw(st.dictionaries(st.sampled_from(CLAIMS), tuples(values, 1), max_size=2))
    max_age = draw(st.none() | max_ages if amr or acr or claims else max_ages)
    return Requirement(amr=amr, acr=acr, claims=claims, max_age=max_age)


def in_window(time: float | None, requirement: Requirement, leeway: float) -> bool:
    if requirement.max_age is None:
        return True
    if time is None or not math.isfinite(time):
        return False
    age = Fraction(NOW) - Fraction(time)
    return -Fraction(leeway) <= age <= requirement.max_age + Fraction(leeway)


def is_proved(found: Evidence | None, requirement: Requirement, leeway: float) -> bool:
    """The rule once more, as the design words it: every method, any class, any value of each other claim."""

    def has(claim: str, value: str) -> bool:
        values = found.proofs.get(claim, {}) if found else {}
        return value in values and in_window(values[value], requirement, leeway)

    if not requirement.amr and not requirement.acr and not requirement.claims:
        return found is not None and in_window(found.auth_time, requirement, leeway)
    return (
        all(has("amr", method) for method in requirement.amr)
        and (not requirement.acr or any(has("acr", value) for value in requirement.acr))
        and all(any(has(claim, value) for value in values) for claim, values in requirement.claims.items())
    )


@patient
@given(st.none() | evidences(known_or_not | st.just(math.nan)), requirements(), leeways)
@example(evidence(math.nan), FRESH, 0)
@example(evidence(amr={"mfa": math.nan}), FRESH_MFA, 0)
def test_satisfied_is_what_an_independent_reading_of_the_rule_says(
    found: Evidence | None, requirement: Requirement, leeway: float
) -> None:
    assert evaluate(found, requirement, now=NOW, leeway=leeway).satisfied == is_proved(found, requirement, leeway)


@st.composite
def met(draw: st.DrawFn) -> tuple[Evidence, Requirement, float]:
    """Evidence, a requirement that it satisfies, and the leeway with which it does."""
    found, requirement, leeway = draw(evidences(known_or_not)), draw(requirements()), draw(leeways)
    age = st.integers(-4 * int(leeway), 4 * ((requirement.max_age or 0) + int(leeway)))
    when = st.none() | times if requirement.max_age is None else age.map(lambda quarters: NOW - quarters / 4)
    wanted = [("amr", method) for method in requirement.amr]
    for claim, values in {"acr": requirement.acr, **requirement.claims}.items():
        if values:
            wanted.append((claim, draw(st.sampled_from(values))))
    proofs = {claim: dict(values) for claim, values in found.proofs.items()}
    for claim, value in wanted:
        proofs.setdefault(claim, {})[value] = draw(when)
    return replace(found, proofs=proofs, auth_time=draw(when)), requirement, leeway


@patient
@given(met(), evidences(st.none() | st.integers(NOW - 700, NOW)))
def test_more_evidence_never_makes_a_satisfied_requirement_unmet(
    met: tuple[Evidence, Requirement, float], more: Evidence
) -> None:
    found, requirement, leeway = met
    assert evaluate(found, requirement, now=NOW, leeway=leeway)
    assert evaluate(found.add(more), requirement, now=NOW, leeway=leeway)


@patient
@given(met(), st.integers(0, 600), st.integers(0, 600), st.booleans())
def test_a_larger_max_age_or_leeway_never_makes_a_satisfied_requirement_unmet(
    met: tuple[Evidence, Requirement, float], older: int, skew: int, any_age: bool
) -> None:
    found, requirement, leeway = met
    max_age = requirement.max_age
    if max_age is not None:
        has_values = requirement.amr or requirement.acr or requirement.claims
        requirement = replace(requirement, max_age=None if any_age and has_values else max_age + older)
    assert evaluate(found, requirement, now=NOW, leeway=leeway + skew)


@patient
@given(evidences(st.none()), requirements(), leeways, st.integers(0, 600))
def test_an_unknown_time_never_satisfies_a_max_age(
    found: Evidence, requirement: Requirement, leeway: float, max_age: int
) -> None:
    requirement = replace(requirement, max_age=max_age)
    assert not evaluate(found, requirement, now=NOW, leeway=leeway)


@patient
@given(evidences(known_or_not), evidences(known_or_not), evidences(known_or_not))
def test_evidence_adds_up_to_the_same_in_any_order_and_however_often(a: Evidence, b: Evidence, c: Evidence) -> None:
    assert a.add(b) == b.add(a)
    assert a.add(b).add(c) == a.add(b.add(c))
    assert a.add(b).add(b) == a.add(b)


anything = st.none() | st.floats() | st.integers()


@patient
@given(
    st.none() | evidences(anything),
    requirements(max_ages=st.integers(0, MAX_MAX_AGE)),
    st.floats(-1e300, 1e300),
    leeways,
)
@example(evidence(10**400), FRESH, 1.5, 0.25)
def test_comparing_never_raises(found: Evidence | None, requirement: Requirement, now: float, leeway: float) -> None:
    assert evaluate(found, requirement, now=now, leeway=leeway).satisfied in (True, False)


words = st.text(min_size=1, max_size=8)


@patient
@given(
    requirements(values=words),
    tuples(words.filter(lambda word: word.split() == [word])),
    st.booleans(),
    st.none() | words,
    st.dictionaries(words.map("x-{}".format), words, max_size=3),
)
def test_a_requirement_survives_the_trip_through_a_mapping_and_json(
    proved: Requirement, acr_values: tuple[str, ...], essential: bool, prompt: str | None, params: dict[str, str]
) -> None:
    requirement = Requirement.from_mapping(
        {
            **proved.to_mapping(),
            "acr_values": acr_values,
            "essential": essential,
            "prompt": prompt,
            "params": params,
        },
        name="any",
    )
    there = requirement.to_mapping()
    assert json.loads(json.dumps(there)) == there
    back = Requirement.from_mapping(json.loads(json.dumps(there)), name="any")
    assert (back, back.name) == (requirement, "any")
    assert Requirement.from_mapping(there) == requirement
    assert hash(back) == hash(requirement)


claims_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5) | st.sampled_from(VALUES),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=3), inner, max_size=3),
    max_leaves=8,
)


@patient
@given(st.fixed_dictionaries({}, optional=dict.fromkeys(("amr", "acr", "vot", "auth_time"), claims_values)))
def test_whatever_claims_say_only_strings_are_proved_and_only_at_auth_time(claims: dict[str, Any]) -> None:
    found = from_claims(("vot",), **claims)
    for claim, values in found.proofs.items():
        listed = claims[claim] if isinstance(claims[claim], list) else [claims[claim]]
        assert set(values) == set(listed)
        assert all(type(value) is str and value for value in values)
        assert all(time is None or time == claims["auth_time"] for time in values.values())
