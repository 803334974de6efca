"""Reads what the users, the site, the OP and the database have written down, and says what should not have happened.

It follows each session cookie through the requests of its browser: whose it is, whether the second factor was given in
it, and whether it has ended. Where an answer was lost because its worker was killed, what it did to the session is not
known until the next answer tells. Nothing else is an excuse.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from typing import Any, Literal

from stepup.session import SETTLED_SECONDS
from tests.e2e.load import LEEWAY, RECENT_MAX_AGE
from tests.e2e.load.journal import Entry

CALLBACK, SIGN_OUT, POSTS = "/oidc/callback/", "/oidc/logout/", "/posts/"
PROTECTED = {"salary", "recent", "posted"}
#: What a callback may say no with, and must then leave everything as it was.
REFUSALS = {"ignored", "stale", "proof_missing", "wrong_user", "no_account", "declined", "unmet", "invalid", "expired"}


@dataclass(frozen=True)
class Logs:
    """All that was written down in one run.

    Attributes:
        users: what the users sent and were answered, and how they went through the OP's pages; in order for each user.
        faults: when workers were killed, the OP restarted or given other keys, and when all was calm.
        site: what the workers have shown, and to whom.
        op: who has authenticated at the OP, and how; without those that it took with it when it was restarted.
        rows: the posts in the database: id and author.
        ended_well: whether each user was shown the protected page in the end.
        keys_settle: how long the site may take to learn of other keys, in seconds.
        took: how long it all took, in seconds.
    """

    users: list[Entry]
    faults: list[Entry] = field(default_factory=list)
    site: list[Entry] = field(default_factory=list)
    op: list[Entry] = field(default_factory=list)
    rows: list[tuple[str, str]] = field(default_factory=list)
    ended_well: dict[str, bool] = field(default_factory=dict)
    keys_settle: float = 15
    took: float = 0


@dataclass(frozen=True)
class Violation:
    """Something that should not have happened: the rule, and what was seen."""

    rule: str
    seen: str
    entry: Entry = field(default_factory=dict)

    def __str__(self) -> str:
        return f"{self.rule}: {self.seen} {self.entry}"


@dataclass
class Report:
    """What was counted and found."""

    counts: Counter[str] = field(default_factory=Counter)
    violations: list[Violation] = field(default_factory=list)


Alive = Literal["yes", "no", "unknown"]


@dataclass(frozen=True)
class Session:
    """What is known of a session. `proved_at`: when the second factor was proved, where the OP has said so."""

    user: str | None = None
    mfa: bool = False
    proved_at: float | None = None
    alive: Alive = "yes"


#: Of a step-up that there was not: asked for at no time, back at none.
NEVER = (float("inf"), -float("inf"))

NOBODY = Session(alive="no")


def check(logs: Logs) -> Report:
    """Go through all that was written down."""
    return _Checker(logs).check()


class _Checker:
    def __init__(self, logs: Logs) -> None:
        self.logs = logs
        self.report = Report()
        self.sessions: dict[str, Session] = {}
        self.walks = {each["state"]: each for each in logs.users if each["what"] == "walk"}
        self.authenticated = {each["state"]: each for each in logs.op}
        self.kills = [each for each in logs.faults if each["what"] == "kill"]
        self.restarts = [each for each in logs.faults if each["what"] == "restart"]
        self.key_changes = [each for each in logs.faults if each["what"] in ("restart", "rotation")]
        self.shown_by_site = {each["request"]: each for each in logs.site if each["what"] == "shown"}
        #: The session that a request was made with, as far as it was known before the answer.
        self.made_with: dict[str, Session] = {}
        #: The states whose callback the browser has opened that they belong to.
        self.opened: set[str] = set()
        #: The requests that an authentication request was the answer to, by its state.
        self.asked: dict[str, Entry] = {}
        #: By cookie, when the step-up was asked for, and came back, for which `/recent/` may be shown once.
        self.fresh: dict[str, tuple[float, float]] = {}
        self.used: set[tuple[float, float]] = set()
        #: By user, the session with which a callback was opened.
        self.before: dict[str, Session] = {}
        #: By user, the session cookie that their browser has.
        self.jars: dict[str, str] = {}
        self.posts: dict[str, tuple[str, str | None]] = {}

    def check(self) -> Report:
        for entry in self.logs.users:
            if entry["what"] == "walk":
                self._walk(entry)
            else:
                self._request(entry)
        self._site()
        self._rows()
        self._end()
        counts = self.report.counts
        counts["users"] = len({entry["user"] for entry in self.logs.users})
        counts["worker kills"] = len(self.kills)
        counts["OP restarts"] = len(self.restarts)
        counts["other keys while running"] = len(self.key_changes) - len(self.restarts)
        return self.report

    # What is looked for

    def _expect(self, is_so: bool, rule: str, seen: object, entry: Entry) -> bool:
        self.report.counts["checks"] += 1
        if not is_so:
            self.report.violations.append(Violation(rule, str(seen), entry))
        return is_so

    def _walk(self, walk: Entry) -> None:
        self.report.counts["ways through the OP"] += 1
        self.report.counts["tries that found the OP closed"] += walk["tries"] - 1
        if walk["back"]:
            return
        self.report.counts["ways through the OP that broke off"] += 1
        # A page that does not come in time is nothing to judge by on a machine that is busy; one that leads nowhere is.
        if walk["error"].startswith("stuck"):
            self._expect(_overlap(walk, self.restarts), "stuck at the OP", walk["error"], walk)

    def _request(self, entry: Entry) -> None:
        counts = self.report.counts
        counts["requests"] += 1
        session = self.sessions.get(entry["sent"], NOBODY)
        self.made_with[entry["request"]] = session
        if entry["path"] == CALLBACK:
            self.before[entry["user"]] = session
        jar = self.jars.get(entry["user"], "")
        if entry["learnt"]:
            self.jars[entry["user"]] = entry["held"]
        if entry["status"] is None:
            self._lost(entry, session)
        elif entry["status"] >= 500:
            self._error(entry)
        elif entry["shown"] is not None:
            if entry["learnt"]:
                self._expect(entry["held"] == jar, "the browser's cookie taken away", jar, entry)
            self._page(entry, session)
        elif entry["path"] == CALLBACK:
            self._callback(entry, session)
        elif entry["path"] == SIGN_OUT:
            self._signed_out(entry, session)
        elif entry["path"] == POSTS:
            self._not_posted(entry, session)
        elif entry["asked"]:
            self._challenge(entry, session)
        else:
            # A page that still asks after a step-up for it may say so, where the proof has become too old meanwhile.
            is_known = entry["path"] == "/recent/" and entry["verdict"] == "ignored"
            self._expect(is_known, "an answer that is none", entry["status"], entry)

    def _lost(self, entry: Entry, session: Session) -> None:
        self.report.counts["connections lost"] += 1
        self._expect(_overlap(entry, self.kills), "a connection lost for no reason", entry["error"], entry)
        if entry["path"] in (CALLBACK, SIGN_OUT) and session.alive == "yes":
            # Done or not done: the next answer tells.
            self.sessions[entry["sent"]] = replace(session, alive="unknown")
        if entry["path"] == CALLBACK and entry["sent"]:
            self.opened.add(entry["state"])
        if entry["path"] == POSTS:
            self.posts[entry["form"]["id"]] = ("unknown", session.user if session.mfa else None)

    def _error(self, entry: Entry) -> None:
        is_excused = (
            entry["status"] == 503 and entry["verdict"] == "unavailable" and self._is_soon_after(self.restarts, entry)
        )
        self.report.counts["refused: unavailable"] += is_excused
        if entry["path"] == CALLBACK and entry["sent"]:
            self.opened.add(entry["state"])
        if entry["path"] == POSTS:
            self.posts[entry["form"]["id"]] = ("refused", None)
        self._expect(is_excused, "a server error", entry["status"], entry)

    def _page(self, entry: Entry, session: Session) -> None:
        shown = entry["shown"]
        if shown["page"] == "whoami":
            self.report.counts["open pages"] += 1
            if entry["beside"]:
                self._meanwhile(entry, self.before[entry["user"]])
            else:
                self._whoami(entry, session)
            return
        self.report.counts["posts" if shown["page"] == "posted" else "pages shown"] += 1
        self._is_allowed(entry, session, shown)
        self._expect(entry["request"] in self.shown_by_site, "shown and not written down", shown["page"], entry)
        if session.alive == "unknown":
            self.sessions[entry["sent"]] = replace(session, alive="yes")
        if shown["page"] == "posted":
            self.posts[entry["form"]["id"]] = ("done", shown["user"])

    def _whoami(self, entry: Entry, session: Session) -> None:
        shown = entry["shown"]
        if session.alive == "unknown":
            alive: Alive = "yes" if shown["user"] is not None else "no"
            self.sessions[entry["sent"]] = session = replace(session, alive=alive)
        expected = session.user if session.alive == "yes" else None
        self._expect(shown["user"] == _address(expected), "another user than before", shown["user"], entry)
        has_proof = session.alive == "yes" and session.mfa
        self._expect(("mfa" in shown["amr"]) == has_proof, "another proof than before", shown["amr"], entry)

    def _meanwhile(self, entry: Entry, before: Session) -> None:
        """Asked for while a callback was being answered: all is as it was before, or the session has ended already."""
        shown = entry["shown"]
        may_be = {None} if before.alive == "no" else {None, _address(before.user)}
        self._expect(shown["user"] in may_be, "another user than before", shown["user"], entry)
        is_as_before = ("mfa" in shown["amr"]) == (before.mfa and shown["user"] is not None)
        self._expect(is_as_before, "another proof than before", shown["amr"], entry)

    def _is_allowed(self, entry: Entry, session: Session, shown: dict[str, Any]) -> None:
        may = session.alive != "no" and session.mfa
        rule = "shown after the session had ended" if session.mfa else "shown without evidence"
        self._expect(may, rule, shown["page"], entry)
        self._expect(shown["user"] == _address(session.user), "another's page", shown["user"], entry)
        self._expect(shown["subject"] == _subject(session.user), "another's evidence", shown["subject"], entry)
        self._expect("mfa" in shown["amr"], "shown without evidence", shown["amr"], entry)

    def _challenge(self, entry: Entry, session: Session) -> None:
        self.report.counts["challenges"] += 1
        self.asked[entry["asked"]] = entry
        if session.alive == "unknown" and session.mfa and entry["path"] == "/salary/":
            self.sessions[entry["sent"]] = session = replace(session, alive="no")
        if session.alive == "yes":
            is_lost = session.mfa and entry["path"] == "/salary/"
            if entry["path"] == "/recent/" and session.mfa and session.proved_at is not None:
                is_lost = entry["ended"] - session.proved_at <= RECENT_MAX_AGE
            self._expect(not is_lost, "an elevation lost", entry["path"], entry)
            self._expect(entry["held"] == entry["sent"], "another session for no reason", "", entry)
        if entry["held"] != entry["sent"]:
            self.sessions[entry["sent"]] = replace(session, alive="no")
            self._is_new(entry)
            self.sessions[entry["held"]] = Session()

    def _callback(self, entry: Entry, session: Session) -> None:
        state, walk = entry["state"], self.walks.get(entry["state"])
        is_first = state not in self.opened
        if entry["sent"]:
            self.opened.add(state)
        if entry["status"] == 302 and entry["sent"] and walk is not None:
            self._accepted(entry, session, walk)
        elif self._expect(entry["verdict"] in REFUSALS, "an answer that is none", entry["status"], entry):
            self.report.counts[f"refused: {entry['verdict']}"] += 1
            self._expect(
                self._is_excused(entry, session, walk, is_first), "refused for no reason", entry["verdict"], entry
            )

    def _accepted(self, entry: Entry, session: Session, walk: Entry) -> None:
        """A sign-in or a step-up that the browser has been told of: from here on it counts."""
        counts = self.report.counts
        record = self.authenticated.get(entry["state"])
        if self._expect(
            record is not None or _overlap(walk, self.restarts), "accepted without the OP", entry["state"], entry
        ):
            counts["accepted, and the OP could not be asked any more"] += record is None
        factor = walk["factor"] if record is None else record["second_factor"]
        subject = _subject(walk["account"]) if record is None else record["subject"]
        self._expect(subject == _subject(walk["account"]), "another's authentication", subject, entry)
        self._expect(not walk["declined"], "accepted though declined", entry["state"], entry)
        was_in = session.alive == "yes" and session.user is not None
        if was_in:
            self._expect(walk["account"] == session.user, "the user swapped", walk["account"], entry)
        self._expect(entry["held"] not in ("", entry["sent"]), "the session's key kept", "", entry)
        self._is_new(entry)
        same = was_in or session.alive == "unknown"
        old = session if same and session.user == walk["account"] else NOBODY
        proved_at = record["auth_time"] // 1 if record is not None and factor and walk["dated"] else None
        self.sessions[entry["sent"]] = replace(session, alive="no")
        self.sessions[entry["held"]] = Session(
            user=walk["account"],
            mfa=factor or old.mfa,
            proved_at=max(filter(None, (proved_at, old.proved_at)), default=None),
        )
        if walk["dated"] and (asked := self.asked.get(entry["state"])) is not None:
            self.fresh[entry["held"]] = (asked["began"], entry["ended"])
        elif not walk["factor"] and entry["sent"] in self.fresh:
            # A sign-in asks for no proof, and leaves this to the session under its new key.
            self.fresh[entry["held"]] = self.fresh[entry["sent"]]
        counts["step-ups" if factor else "sign-ins"] += 1

    def _is_excused(self, entry: Entry, session: Session, walk: Entry | None, is_first: bool) -> bool:
        verdict = entry["verdict"]
        if walk is None or verdict == "expired":
            # Another browser, or the address once more: that is what the verdict is for.
            return verdict == "expired" and (entry["sent"] == "" or session.alive != "yes" or not is_first)
        if verdict == "invalid":
            return self._is_soon_after(self.key_changes, {**entry, "began": walk["began"]})
        if verdict == "declined":
            return bool(walk["declined"])
        if verdict == "wrong_user":
            return bool(walk["account"] != session.user)
        # It took longer than the page allows, and says so.
        return verdict == "stale" and bool(walk["dated"])

    def _signed_out(self, entry: Entry, session: Session) -> None:
        if self._expect(entry["status"] == 302, "not signed out", entry["status"], entry):
            self.report.counts["sign-outs"] += session.user is not None
            self.sessions[entry["sent"]] = replace(session, alive="no")

    def _not_posted(self, entry: Entry, session: Session) -> None:
        self.report.counts["posts refused"] += 1
        self.posts[entry["form"]["id"]] = ("refused", None)
        self._expect(entry["status"] == 403, "an answer that is none", entry["status"], entry)
        if session.mfa and session.alive == "unknown":
            self.sessions[entry["sent"]] = session = replace(session, alive="no")
        self._expect(not (session.mfa and session.alive == "yes"), "an elevation lost", entry["path"], entry)

    def _site(self) -> None:
        """What the workers say that they have shown, the answers that were lost included."""
        requests = {each["request"]: each for each in self.logs.users if each["what"] == "request"}
        for entry in self.logs.site:
            if entry["what"] == "exception":
                self._expect(False, "an exception", entry["traceback"].strip().rpartition("\n")[2], entry)
            elif entry["what"] == "shown":
                request = requests.get(entry["request"])
                if self._expect(request is not None, "shown to nobody", entry["page"], entry) and request is not None:
                    self._is_allowed(entry, self.made_with[entry["request"]], entry)
                    if entry["page"] == "recent":
                        self._is_recent(entry, request)

    def _is_recent(self, entry: Entry, request: Entry) -> None:
        proved_at = entry["amr"].get("mfa")
        if not self._expect(proved_at is not None, "shown without a time", entry["amr"], entry):
            return
        if entry["at"] - proved_at <= RECENT_MAX_AGE + LEEWAY + 1:
            return
        # What was proved on the way to a page is fresh for it, once, and for a moment.
        step_up = self.fresh.get(request["sent"], NEVER)
        asked, came_back = NEVER if step_up in self.used else step_up
        if request["status"] is not None:
            self.used.add(step_up)
        is_on_the_way = proved_at >= asked - LEEWAY - 1 and entry["at"] <= came_back + SETTLED_SECONDS + 1
        self._expect(is_on_the_way, "shown for an old proof", entry["at"] - proved_at, entry)

    def _rows(self) -> None:
        stored = Counter(self.logs.rows)
        for id_, (outcome, author) in self.posts.items():
            count = sum(number for (row, _), number in stored.items() if row == id_)
            most = {"done": 1, "refused": 0, "unknown": 1 if author else 0}[outcome]
            entry = {"id": id_, "outcome": outcome}
            self._expect(count <= most, "posted twice, or though refused", count, entry)
            if outcome == "done":
                self._expect(stored[id_, author or ""] == 1, "a post lost", count, entry)
        for id_, _ in stored:
            self._expect(id_ in self.posts, "a post of nobody", id_, {})

    def _end(self) -> None:
        for user, well in self.logs.ended_well.items():
            self._expect(well, "not let in though all was calm", user, {})

    def _is_new(self, entry: Entry) -> None:
        self._expect(entry["held"] not in self.sessions, "a session key given out twice", "", entry)

    def _is_soon_after(self, changes: list[Entry], entry: Entry) -> bool:
        """Whether the OP had not been there, or had other keys, so lately that the site may not know yet."""
        settle = self.logs.keys_settle
        return any(
            entry["began"] <= change["ended"] + settle and entry["ended"] >= change["began"] for change in changes
        )


def _overlap(entry: Entry, others: Iterable[Entry]) -> bool:
    return any(entry["began"] <= other["ended"] and entry["ended"] >= other["began"] for other in others)


def _address(user: str | None) -> str | None:
    return f"{user}@harbour.example" if user else None


def _subject(user: str | None) -> str | None:
    return f"stepup|{user}" if user else None
