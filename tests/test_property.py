"""Whatever the OP does and in whatever order a browser comes and goes: nothing opens that was not proved.

What was proved is told by the OP's honest record of what people did, not by anything that it sent to the site.
`STEPUP_PROPERTY_EXAMPLES=1000` tries so many sequences, other ones each time.
"""

from __future__ import annotations

import os
import random
import secrets
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any
from urllib.parse import parse_qsl, urlencode, urlsplit

import pytest
from django.contrib.auth import get_user_model
from django.contrib.sessions.models import Session
from django.core.cache import cache
from django.core.signals import setting_changed
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)

from stepup import clock
from stepup.models import Identity
from stepup.testing.driver import StuckError
from stepup.testing.provider import (
    DEFAULT_USERS,
    WELL_BEHAVED,
    AuthenticationRecord,
    Configuration,
    RunningProvider,
    User,
    launch,
)
from stepup.testing.provider.personalities import PERSONALITIES
from tests.conftest import op_client
from tests.urls import SECRET
from tests.visitor import CALLBACK, Visitor, query, with_query

EXAMPLES = int(os.environ.get("STEPUP_PROPERTY_EXAMPLES", "0"))

#: Somebody else with a second factor on the phone.
BEA = User("bea", "bea-password", email="bea@harbour.example", push=True)

MFA_PAGES = ("/decorated/", "/class-async/", "/by-name/")
FRESH_PAGES = ("/sudo/",)
OPEN_PAGES = ("/open/", "/")

#: Those that keep nobody waiting.
QUICK = sorted(name for name, kind in PERSONALITIES.items() if not kind.patience_needed)

#: Those that get wrong how, or when, people have authenticated.
LIES = [name for name in QUICK if name.startswith(("amr", "answers_acr", "ignores")) or name.endswith("auth_time")]

#: Where to go, and what the OP turns to before; None: it stays as it is.
RIDES = MFA_PAGES[:1] + FRESH_PAGES
LIE_OR_NOT = [WELL_BEHAVED] * len(LIES) + [None] * (len(LIES) // 2) + LIES

#: How long a person waits, in seconds: until what could not be had is tried again, and until a sign-in is due again.
WAITS = (61, 901)

#: What the OP may be when it is asked to renew: mostly one that does something odd then.
RENEWED_BY = [name for name in QUICK if name.startswith("refresh")] * 3 + [WELL_BEHAVED] * 20 + QUICK

#: Which of those that there are, whatever their number.
INDEX = st.integers(0, 1000)

#: What somebody on the way may make of an authorization response.
TAMPERINGS = ("forged state", "no state", "two codes", "wrong issuer", "error", "code of another")


@dataclass
class Tab:
    """An authentication request that the site has made, and that waits in the browser."""

    url: str
    page: str


class Browsing(RuleBasedStateMachine):
    """One browser at the site. At the OP it may be Anna, or Bea, who sits beside her."""

    op: RunningProvider
    site_settings: Any

    def __init__(self) -> None:
        super().__init__()
        self.op.reset()
        for model in (Identity, Session, get_user_model()):
            model._default_manager.all().delete()
        self.visitor = Visitor("anna")
        self.bea = Visitor("bea").person
        self.personality = WELL_BEHAVED
        self.has_forgotten = True
        self.tabs: list[Tab] = []
        self.callbacks: list[tuple[str, str]] = []
        #: The states of requests that were made in this session, and those whose answers were handed in as they were.
        self.asked: set[str] = set()
        self.answered: set[str] = set()
        self.subject: str | None = None
        self.forget()

    @initialize(known=st.booleans())
    def have_been_here_before(self, known: bool) -> None:
        """Both have accounts already, or nobody has."""
        if known:
            for name in ("anna", "bea"):
                Visitor(name).sign_in()

    # What people, and the OP, may do

    @rule(name=st.sampled_from(QUICK), forget=st.booleans())
    def misbehave(self, name: str, forget: bool) -> None:
        if name == "other_subject" and self.site_settings.STEPUP["USERINFO"] != "always":
            return  # whom an ID token is about is the OP's word, where nothing else is asked for
        self.personality = name
        self.op.behave(name)
        self.has_forgotten = forget
        if forget:
            self.forget()

    @rule()
    def behave_again(self) -> None:
        self.misbehave(WELL_BEHAVED, forget=True)

    @rule(page=st.sampled_from(MFA_PAGES + FRESH_PAGES + OPEN_PAGES))
    def visit(self, page: str) -> None:
        self.opened(page, self.visitor.get(page))

    @rule()
    def begin_to_sign_in(self) -> None:
        self.opened("/", self.visitor.get("/oidc/authenticate/"))

    @precondition(lambda self: self.tabs)
    @rule(
        which=INDEX,
        factor=st.sampled_from(["push", None]),
        ending=st.sampled_from(["", "", "", "cancel", "deny"]),
        is_bea=st.sampled_from([False, False, False, True]),
        strips_acr_values=st.sampled_from([False, False, False, True]),
    )
    def go_to_the_op(self, which: int, factor: Any, ending: str, is_bea: bool, strips_acr_values: bool) -> None:
        tab = self.tabs.pop(which % len(self.tabs))
        url = with_query(tab.url, acr_values=None) if strips_acr_values else tab.url
        self.walk(tab, url, factor, ending, is_bea)

    @precondition(lambda self: self.callbacks)
    @rule(which=INDEX)
    def come_back(self, which: int) -> None:
        """With the answer to any request: the first one, one from another tab, or one that was used."""
        self.hand_in(*self.callbacks[which % len(self.callbacks)])

    @precondition(lambda self: self.callbacks)
    @rule(which=INDEX, other_one=INDEX, tampering=st.sampled_from(TAMPERINGS))
    def come_back_with_something_else(self, which: int, other_one: int, tampering: str) -> None:
        callback, _ = self.callbacks[which % len(self.callbacks)]
        other, _ = self.callbacks[other_one % len(self.callbacks)]
        self.judged(self.visitor.client.get(tampered(callback, other, tampering)), subjects=set())

    @rule(page=st.sampled_from(RIDES), name=st.sampled_from(LIE_OR_NOT))
    def step_up(self, page: str, name: str | None) -> None:
        """All the way, with all that is asked for."""
        self.ride(page, name)
        if self.personality == WELL_BEHAVED and self.has_forgotten:
            assert is_shown(self.visitor.get(page)), "an OP that behaves, and a person who does as well"

    @rule(page=st.sampled_from(RIDES), name=st.sampled_from(LIE_OR_NOT))
    def step_up_with_nothing_asked_for(self, page: str, name: str | None) -> None:
        """All the way, after somebody has taken the requirement out of the URL."""
        self.ride(page, name, is_stripped=True)

    @rule(page=st.sampled_from(RIDES), name=st.sampled_from(LIE_OR_NOT))
    def step_up_as_somebody_else(self, page: str, name: str | None) -> None:
        self.ride(page, name, is_other=True)

    @rule()
    def sign_out(self) -> None:
        response = self.visitor.client.post("/oidc/logout/")
        assert response.status_code == 302
        if self.subject is not None:  # else it is the same session as before
            self.asked.clear()
            self.answered.clear()
        self.subject = None
        assert self.signed_in() is None
        for page in MFA_PAGES + FRESH_PAGES:
            self.opened(page, self.visitor.get(page))

    # What must be so

    @invariant()
    def nothing_opens_that_was_not_proved(self) -> None:
        if self.subject is None:
            proved, authenticated = False, False
        else:
            records = [each for each in self.honest() if each.subject == self.subject and each.state in self.answered]
            proved, authenticated = any(each.second_factor for each in records), bool(records)
        for pages, may_open in ((MFA_PAGES[:1], proved), (FRESH_PAGES, authenticated)):
            for page in pages:
                response = self.visitor.get(page)
                self.opened(page, response)
                assert may_open or not is_shown(response), page

    @invariant()
    def the_user_is_who_it_was(self) -> None:
        assert self.signed_in() == self.subject

    # How it is told

    def forget(self) -> None:
        """Have the site know nothing of the OP any more."""
        cache.clear()
        setting_changed.send(Browsing, setting="STEPUP", value=self.site_settings.STEPUP, enter=True)

    def honest(self) -> list[AuthenticationRecord]:
        return self.op.authentications()

    def signed_in(self) -> str | None:
        pk = self.visitor.session.get("_auth_user_id")
        return None if pk is None else Identity.objects.get(user_id=pk).subject

    def opened(self, page: str, response: Any) -> None:
        """A page was asked for: it is shown, leads to the OP, or says why neither."""
        sound(response)
        if response.status_code == 302:
            assert response["Location"].startswith(self.op.issuer)
            self.asked.add(query(response["Location"])["state"])
            self.tabs.append(Tab(response["Location"], page))
        else:
            assert response.status_code in (200, 503)

    def ride(self, page: str, name: str | None, *, is_stripped: bool = False, is_other: bool = False) -> None:
        """Open a page, do what the OP asks with all that is needed for it, and come back."""
        if name is not None:
            self.misbehave(name, forget=True)
        tabs, callbacks = len(self.tabs), len(self.callbacks)
        self.opened(page, self.visitor.get(page))
        if len(self.tabs) == tabs:
            return
        tab = self.tabs.pop()
        url = with_query(tab.url, acr_values=None) if is_stripped else tab.url
        self.walk(tab, url, "push", "", is_bea=(self.subject == "stepup|bea") != is_other)
        if len(self.callbacks) > callbacks:
            self.hand_in(*self.callbacks[-1])

    def walk(self, tab: Tab, url: str, factor: Any, ending: str, is_bea: bool) -> None:
        person = self.bea if is_bea else self.visitor.person
        how = {ending: True} if ending else {}
        try:
            callback = person.authenticate(url, factor=factor, **how)
        except StuckError:
            return  # at the second factor, with none at hand
        assert callback.startswith(CALLBACK)
        self.callbacks.append((callback, tab.page))

    def hand_in(self, callback: str, page: str) -> None:
        """What the OP answered, as it did."""
        try:
            state = query(callback).get("state", "")
        except AssertionError:  # it was doubled
            state = ""
        if state in self.asked:
            self.answered.add(state)
        subjects = {each.subject for each in self.honest() if each.state == state and state in self.asked}
        response = self.visitor.come_back(callback)
        if response.status_code == 302:
            self.landed(page, response, state)
        self.judged(response, subjects)

    def landed(self, page: str, response: Any, state: str) -> None:
        """The answer to this request was good."""
        assert response["Location"] == page
        followed = self.visitor.get(page)
        assert followed.status_code == 200, "no second trip to the OP after one that was good"

    def judged(self, response: Any, subjects: set[str]) -> None:
        """The callback has answered: nobody is signed out or swapped, and whoever is new has authenticated."""
        sound(response)
        now = self.signed_in()
        assert self.subject in (None, now)
        assert now == self.subject or now in subjects
        self.subject = now


class Renewing(Browsing):
    """The same while time passes, on a site that renews sign-ins: by refresh token, or through the browser."""

    def __init__(self) -> None:
        clock.offset = 0.0
        super().__init__()
        # Pages that a person opens: nothing else is sent through the OP for a renewal.
        self.visitor.client.defaults |= {"HTTP_ACCEPT": "text/html", "HTTP_SEC_FETCH_MODE": "navigate"}
        #: The states of requests that were made behind the person's back, and of these and sign-ins in their place.
        self.silent: set[str] = set()
        self.without_proof: set[str] = set()

    @rule(seconds=st.sampled_from(WAITS))
    def wait(self, seconds: int) -> None:
        clock.offset += seconds
        self.op.set_clock(clock.offset)

    @rule(page=st.sampled_from(RIDES), name=st.sampled_from(RENEWED_BY))
    def be_renewed(self, page: str, name: str) -> None:
        self.misbehave(name, forget=True)
        self.wait(WAITS[-1])
        self.ride(page, None)

    def opened(self, page: str, response: Any) -> None:
        super().opened(page, response)
        if response.status_code == 302:
            sent = query(response["Location"])
            if sent.get("prompt") == "none":
                self.silent.add(sent["state"])
            if not {"acr_values", "max_age"} & sent.keys():
                self.without_proof.add(sent["state"])

    def ride(self, page: str, name: str | None, *, is_stripped: bool = False, is_other: bool = False) -> None:
        """For a renewal, for a sign-in in its place, and for the step-up: as often as it takes."""
        for _ in range(3):
            trips = len(self.tabs)
            super().ride(page, name, is_stripped=is_stripped, is_other=is_other)
            name = None
            # What an answer has led to in its turn, which is somewhere in this browser too.
            while len(self.tabs) > trips:
                tab = self.tabs.pop()
                callbacks = len(self.callbacks)
                self.walk(tab, tab.url, "push", "", is_bea=(self.subject == "stepup|bea") != is_other)
                if len(self.callbacks) > callbacks:
                    self.hand_in(*self.callbacks[-1])

    def landed(self, page: str, response: Any, state: str) -> None:
        if response["Location"].startswith(self.op.issuer):
            assert state in self.silent, "only a renewal that has come to nothing leads to a sign-in"
            self.opened(page, response)
        elif state in self.without_proof:
            assert response["Location"] == page
            self.opened(page, self.visitor.get(page))
        else:
            super().landed(page, response, state)


def sound(response: Any) -> None:
    assert response.status_code < 500 or (response.status_code, response.context["verdict"]) == (503, "unavailable")


def is_shown(response: Any) -> bool:
    return bool(response.status_code == 200 and response.content.decode() == SECRET)


def tampered(callback: str, other: str, how: str) -> str:
    """The path and query of a callback that somebody has changed. Something about it is never as the OP sent it."""
    parts = urlsplit(callback)
    sent = [pair for pair in _pairs(parts.query) if pair[0] != ("state" if how in ("forged state", "no state") else "")]
    if how == "forged state":
        sent.append(("state", "forged"))
    elif how == "two codes":
        sent += [("code", "another"), ("code", "yet-another")]
    elif how == "wrong issuer":
        sent = [pair for pair in sent if pair[0] != "iss"] + [("iss", "https://other-provider.example/")]
    elif how == "error":
        sent = [pair for pair in sent if pair[0] != "error"] + [("error", "access_denied")]
    elif how == "code of another":
        codes = [value for name, value in _pairs(urlsplit(other).query) if name == "code" and other != callback]
        sent = [pair for pair in sent if pair[0] != "code"] + [("code", code) for code in codes or ["made-up"]]
    return f"{parts.path}?{urlencode(sent)}"


def _pairs(text: str) -> list[tuple[str, str]]:
    return parse_qsl(text, keep_blank_values=True)


@pytest.fixture(scope="module")
def op_of_two() -> Iterator[RunningProvider]:
    """An OP at which Anna and Bea each have a phone."""
    users = (DEFAULT_USERS[0], BEA)
    with launch(Configuration(purpose="tests", clients=(op_client("site"),), users=users)) as provider:
        yield provider


@pytest.mark.parametrize("userinfo", ["always", "when_needed"])
def test_no_order_of_visits_and_no_personality_opens_what_was_not_proved(
    op_of_two: RunningProvider, settings: Any, db: None, userinfo: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Attempts that have run out would keep it from trying the rest.
    settings.STEPUP = {**settings.STEPUP, "ISSUER": op_of_two.issuer, "USERINFO": userinfo, "MAX_ATTEMPTS": 100}
    monkeypatch.setattr(Browsing, "op", op_of_two, raising=False)
    monkeypatch.setattr(Browsing, "site_settings", settings, raising=False)
    # Hypothesis finds the shortest way to a mistake, and tries odd ways; chance alone spreads more evenly.
    run_state_machine_as_test(Browsing, settings=how_long())
    for seed in range(EXAMPLES or 12):
        wander(random.Random(f"{userinfo} {secrets.token_hex(8) if EXAMPLES else seed}"))  # noqa: S311 - no secret


@pytest.mark.parametrize("by_token", [True, False])
def test_none_does_so_while_sign_ins_are_renewed(
    op_of_two: RunningProvider, settings: Any, db: None, by_token: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    ours = {"ISSUER": op_of_two.issuer, "USERINFO": "when_needed", "KEEP_REFRESH_TOKEN": by_token}
    settings.STEPUP = {**settings.STEPUP, **ours, "MAX_ATTEMPTS": 100}
    settings.OIDC_RP_SCOPES = "openid email profile offline_access"
    before = settings.MIDDLEWARE.index("stepup.middleware.StepUpMiddleware")
    settings.MIDDLEWARE = [
        *settings.MIDDLEWARE[:before],
        "stepup.middleware.SessionRenewalMiddleware",
        *settings.MIDDLEWARE[before:],
    ]
    monkeypatch.setattr(Browsing, "op", op_of_two, raising=False)
    monkeypatch.setattr(Browsing, "site_settings", settings, raising=False)
    run_state_machine_as_test(Renewing, settings=how_long())
    for seed in range(EXAMPLES or 12):
        wander(random.Random(f"renewing {by_token} {secrets.token_hex(8) if EXAMPLES else seed}"), Renewing)  # noqa: S311 - see above


def wander(chance: random.Random, kind: type[Browsing] = Browsing, steps: int = 20) -> None:
    """One browser that does this and that. What it did is said where something is found."""
    did: list[str] = []
    browsing = kind()
    try:
        browsing.have_been_here_before(chance.random() < 0.7)
        for _ in range(steps):
            did.append(wander_on(browsing, chance))
            browsing.nothing_opens_that_was_not_proved()
            browsing.the_user_is_who_it_was()
    except Exception as error:
        raise AssertionError(f"after {', '.join(did) or 'nothing'}") from error


def wander_on(browsing: Browsing, chance: random.Random) -> str:
    """One step, and how it is called."""
    which = chance.randrange(1000)
    ride = (chance.choice(RIDES), chance.choice(LIE_OR_NOT))
    steps: list[tuple[Callable[..., None], tuple[Any, ...]]] = [
        (browsing.misbehave, (chance.choice(QUICK), chance.random() < 0.5)),
        (browsing.behave_again, ()),
        (browsing.visit, (chance.choice(MFA_PAGES + FRESH_PAGES + OPEN_PAGES),)),
        (browsing.begin_to_sign_in, ()),
        (browsing.step_up, ride),
        (browsing.step_up_with_nothing_asked_for, ride),
        (browsing.step_up_as_somebody_else, ride),
        (browsing.sign_out, ()),
    ]
    if isinstance(browsing, Renewing):
        steps += [(browsing.wait, (chance.choice(WAITS),))]
        steps += [(browsing.be_renewed, (chance.choice(RIDES), chance.choice(RENEWED_BY)))] * 4
    if browsing.tabs:
        ending = chance.choice(["", "", "", "cancel", "deny"])
        choices = (which, chance.choice(["push", None]), ending, chance.random() < 0.2, chance.random() < 0.2)
        steps += [(browsing.go_to_the_op, choices)] * 2
    if browsing.callbacks:
        steps.append((browsing.come_back, (which,)))
        steps.append((browsing.come_back, (-1,)))  # the newest one
        steps.append(
            (browsing.come_back_with_something_else, (which, chance.randrange(1000), chance.choice(TAMPERINGS)))
        )
    step, arguments = chance.choice(steps)
    step(*arguments)
    return f"{step.__name__}{arguments}"


def how_long() -> settings:
    return settings(
        max_examples=EXAMPLES or 8,
        stateful_step_count=20,
        derandomize=not EXAMPLES,
        database=None,
        deadline=None,
        suppress_health_check=list(HealthCheck),
    )
