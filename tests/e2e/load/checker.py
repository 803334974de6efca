"""Reads what the users, the site, the OP and the database have written down, and says what should not have happened.

It follows each session cookie through the requests of its browser: whose it is, whether the second factor was given in
it, whether it has ended, and whether the OP still vouches for its user. Where an answer was lost because its worker was
killed, what it did to the session is not known until the next answer tells. Nothing else is an excuse.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from typing import Any, Literal

from stepup.renewal import COOL_DOWN
from stepup.session import SETTLED_SECONDS
from tests.e2e.load import LEEWAY, RECENT_MAX_AGE, RENEW_AFTER
from tests.e2e.load.journal import Entry

SIGN_IN, CALLBACK, SIGN_OUT, POSTS = "/oidc/authenticate/", "/oidc/callback/", "/oidc/logout/", "/posts/"
PROTECTED = {"salary", "recent", "posted"}
#: What a callback may say no with, and must then leave everything as it was; unless it was proved, and too long ago.
REFUSALS = {"ignored", "stale", "proof_missing", "wrong_user", "no_account", "declined", "unmet", "invalid", "expired"}


@dataclass(frozen=True)
class Logs:
    """All that was written down in one run.

    Attributes:
        users: what the users sent and were answered, and how they went through the OP's pages; in order for each user.
        faults: when workers were killed, the OP restarted or given other keys, and when all was calm.
        site: what the workers have shown, and to whom.
        op: who has authenticated at the OP, how, and in which of its lives, of which none remembers the one before;
            without those that it took with it when it was restarted.
        refreshes: how often the OP was given a refresh token, as far as it could say.
        rows: the posts in the database: id and author.
        ended_well: whether each user was shown the protected page in the end.
        keys_settle: how long the site may take to learn of other keys, in seconds.
        took: how long it all took, in seconds.
    """

    users: list[Entry]
    faults: list[Entry] = field(default_factory=list)
    site: list[Entry] = field(default_factory=list)
    op: list[Entry] = field(default_factory=list)
    refreshes: int = 0
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
    """What is known of a session.

    Attributes:
        mfa: whether the second factor was proved in it.
        in_doubt: whether what was proved in it may have been forgotten meanwhile: the next answer tells.
        proved_at: when that was, where the OP has said so.
        life: the life of the OP in which it was signed in or renewed last; None where that is not known.
        disowned: whether the OP has said that it does not vouch for the user, so that they have to sign in anew; None
            where that is not known.
        due: the earliest that the browser is sent to the OP for a renewal.
        overdue: when it has to have been, if a page was opened.
        torn: since that, an answer was lost with which a refresh token may have gone.
    """

    user: str | None = None
    mfa: bool = False
    in_doubt: bool = False
    proved_at: float | None = None
    alive: Alive = "yes"
    life: int | None = None
    disowned: bool | None = False
    due: float = 0
    overdue: float = float("inf")
    torn: bool = False

    def without_proof(self) -> Session:
        return replace(self, mfa=False, in_doubt=False, proved_at=None)


#: What is known of a post: from nothing, over that it was kept, and no longer there when it was to be sent, to that it
#: is stored. What comes later in this order stands.
STAGES = ("", "refused", "kept", "gone", "unknown", "done")

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
        self.failed_renewals = {each["request"]: each for each in logs.site if each["what"] == "renewal_failed"}
        #: By user and time, what requests that were sent at once led to: what the OP was asked for, or "lost".
        self.at_once: defaultdict[tuple[str, float], list[str]] = defaultdict(list)
        for each in logs.users:
            if each["what"] == "request" and (each["asks"] or each["status"] is None):
                self.at_once[each["user"], each["began"]].append(each["asks"] or "lost")
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
        #: What has become of each post, see `STAGES`; and whose it is, or would be.
        self.posts: dict[str, tuple[str, str | None]] = {}
        #: By post that was kept, what it was kept for.
        self.kept: dict[str, str] = {}
        #: By post and time, how it was answered; a button can be pressed twice.
        self.sent_at_once: defaultdict[tuple[str, float], set[int | None]] = defaultdict(set)
        for each in logs.users:
            if each["what"] == "request" and each["post"]:
                self.sent_at_once[each["post"], each["began"]].add(each["status"])
        #: By user, the post that they had to do with last.
        self.last_post: dict[str, str] = {}

    def check(self) -> Report:
        for entry in self.logs.users:
            if entry["what"] == "walk":
                self._walk(entry)
            else:
                self._request(entry)
        self._site()
        self._renewals()
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
            self._keeps_cookie(entry, jar)
            self._page(entry, session)
        elif entry["path"] == CALLBACK:
            self._callback(entry, session)
        elif entry["path"] == SIGN_OUT:
            self._signed_out(entry, session)
        elif entry["beside"] and entry["status"] == 302:
            # To the OP or, where its session has just ended, to come again. Nobody follows it.
            self._keeps_cookie(entry, jar)
            self._expect(self.before[entry["user"]].user is not None, "nobody to renew", entry["path"], entry)
            self.sessions[entry["sent"]] = replace(session, overdue=float("inf"))
        elif entry["path"] == POSTS:
            self._not_posted(entry, session)
        elif entry["waiting"]:
            self._keeps_cookie(entry, jar)
            self._waits(entry, session)
        elif entry["path"] == SIGN_IN and entry["status"] == 410:
            # Looked for again after a press whose answer was lost.
            what = self.posts[self.last_post[entry["user"]]][0]
            self._expect(what in ("unknown", "done"), "a kept form lost", what, entry)
        elif entry["script"]:
            self._keeps_cookie(entry, jar)
            self._told_to_sign_in(entry, session)
        elif entry["asks"] == "renewal":
            self._keeps_cookie(entry, jar)
            self._renewal(entry, session)
        elif entry["asks"] == "sign-in" and entry["path"] != SIGN_IN:
            self._keeps_cookie(entry, jar)
            self._sign_in_anew(entry, session)
        elif entry["asked"]:
            self._challenge(entry, session)
        else:
            # A page that still asks after a step-up for it may say so, where the proof has become too old meanwhile.
            is_known = entry["path"] == "/recent/" and entry["verdict"] == "ignored"
            self._expect(is_known, "an answer that is none", entry["status"], entry)

    def _lost(self, entry: Entry, session: Session) -> None:
        self.report.counts["connections lost"] += 1
        self._expect(_overlap(entry, self.kills), "a connection lost for no reason", entry["error"], entry)
        if session.alive != "no":
            # A renewal, or nothing.
            session = replace(session, torn=True, overdue=float("inf"))
            if entry["path"] in (CALLBACK, SIGN_OUT):
                # Done or not done: the next answer tells.
                walk = self.walks.get(entry["state"])
                is_disowned = None if walk is not None and walk["silent"] else session.disowned
                session = replace(session, alive="unknown", disowned=is_disowned)
            self.sessions[entry["sent"]] = session
        if entry["path"] == CALLBACK and entry["sent"]:
            self.opened.add(entry["state"])
        if entry["path"] == POSTS:
            may = session.mfa and session.alive != "no"
            self._becomes(entry, "unknown", _address(session.user) if may else None)

    def _error(self, entry: Entry) -> None:
        is_down = entry["verdict"] == "unavailable" and self._is_soon_after(self.restarts, entry)
        # Whoever was to be renewed goes on without.
        is_silent = self.walks.get(entry["state"], {}).get("silent", False)
        is_excused = entry["status"] == 503 and is_down and not is_silent
        self.report.counts["refused: unavailable"] += is_excused
        if entry["path"] == CALLBACK and entry["sent"]:
            self.opened.add(entry["state"])
        if entry["path"] == POSTS:
            self._becomes(entry, "refused")
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
        self._vouched_for(entry, session)
        if session.alive != "no":
            self.sessions[entry["sent"]] = replace(session, alive="yes", disowned=False, in_doubt=False)
        if shown["page"] == "posted":
            is_first = self.posts.get(entry["post"], ("", None))[0] != "done"
            self._expect(is_first, "sent twice", entry["post"], entry)
            self._becomes(entry, "done", shown["user"])

    def _whoami(self, entry: Entry, session: Session) -> None:
        shown = entry["shown"]
        if session.alive == "unknown":
            alive: Alive = "yes" if shown["user"] is not None else "no"
            session = replace(session, alive=alive)
        expected = session.user if session.alive == "yes" else None
        self._expect(shown["user"] == _address(expected), "another user than before", shown["user"], entry)
        if session.alive == "yes" and session.user is not None:
            self._vouched_for(entry, session)
            is_forgotten = session.in_doubt and "mfa" not in shown["amr"]
            session = replace(session.without_proof() if is_forgotten else session, disowned=False, in_doubt=False)
        self.sessions[entry["sent"]] = session
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
        if entry["path"] != SIGN_IN and session.alive == "yes":
            self._vouched_for(entry, session)
            session = replace(session, disowned=False)
            self.sessions[entry["sent"]] = session = session.without_proof() if session.in_doubt else session
        if session.alive == "unknown" and session.mfa and entry["path"] in ("/salary/", POSTS):
            self.sessions[entry["sent"]] = session = replace(session, alive="no")
        if session.alive == "yes":
            is_lost = session.mfa and entry["path"] in ("/salary/", POSTS)
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
        if entry["status"] == 302 and entry["sent"] and walk is not None and walk["silent"]:
            self._back_from_renewal(entry, session, walk)
        elif entry["status"] == 302 and entry["sent"] and walk is not None and not entry["asked"]:
            self._accepted(entry, session, walk)
            if walk["dated"] and (asked := self.asked.get(state)) is not None:
                self.fresh[entry["held"]] = (asked["began"], entry["ended"])
        elif self._expect(entry["verdict"] in REFUSALS, "an answer that is none", entry["status"], entry):
            self.report.counts[f"refused: {entry['verdict']}"] += 1
            self._expect(
                self._is_excused(entry, session, walk, is_first), "refused for no reason", entry["verdict"], entry
            )
            if entry["verdict"] == "stale" and walk is not None:
                self._accepted(entry, session, walk)
                if entry["sent"] in self.fresh:
                    self.fresh[entry["held"]] = self.fresh[entry["sent"]]

    def _accepted(self, entry: Entry, session: Session, walk: Entry) -> None:
        """A sign-in or a step-up that the browser has been told of: from here on it counts."""
        counts = self.report.counts
        record, life = self._authentication(entry, walk)
        factor = walk["factor"] if record is None else record["second_factor"]
        was_in = session.alive == "yes" and session.user is not None
        if was_in:
            self._expect(walk["account"] == session.user, "the user swapped", walk["account"], entry)
        self._expect(entry["held"] not in ("", entry["sent"]), "the session's key kept", "", entry)
        self._is_new(entry)
        same = was_in or session.alive == "unknown"
        old = session if same and session.user == walk["account"] else NOBODY
        # What was proved in a session at the OP that it has forgotten is forgotten, if it has said so.
        lives = None if life is None or old.life is None else life != old.life
        forgets = False if old.disowned is False or lives is False else old.disowned and lives
        if forgets:
            old = old.without_proof()
        proved_at = record["auth_time"] // 1 if record is not None and factor and walk["dated"] else None
        self.sessions[entry["sent"]] = replace(session, alive="no")
        self.sessions[entry["held"]] = Session(
            user=walk["account"],
            mfa=factor or old.mfa,
            in_doubt=not factor and old.mfa and (forgets is None or old.in_doubt),
            proved_at=max(filter(None, (proved_at, old.proved_at)), default=None),
            life=life,
            **_renewed(entry),
        )
        if not walk["factor"] and entry["sent"] in self.fresh:
            # A sign-in asks for no proof, and leaves this to the session under its new key.
            self.fresh[entry["held"]] = self.fresh[entry["sent"]]
        counts["step-ups" if factor else "sign-ins"] += 1

    def _authentication(self, entry: Entry, walk: Entry) -> tuple[Entry | None, int | None]:
        """What the OP knows of the authentication that was accepted, and in which of its lives that was."""
        record = self.authenticated.get(entry["state"])
        if self._expect(
            record is not None or _overlap(walk, self.restarts), "accepted without the OP", entry["state"], entry
        ):
            self.report.counts["accepted, and the OP could not be asked any more"] += record is None
        subject = _subject(walk["account"]) if record is None else record["subject"]
        self._expect(subject == _subject(walk["account"]), "another's authentication", subject, entry)
        self._expect(not walk["declined"], "accepted though declined", entry["state"], entry)
        if record is not None:
            return record, record["life"]
        # What it takes with it is of the life that ends.
        ends = [number for number, restart in enumerate(self.restarts) if _overlap(walk, [restart])]
        return None, ends[0] if len(ends) == 1 else None

    def _renewal(self, entry: Entry, session: Session) -> None:
        """Sent to the OP to come back at once: pages only, of somebody who is signed in, and not before it is due."""
        self.report.counts["pages that led to the OP for a renewal"] += 1
        self._expect(entry["method"] == "GET", "a form interrupted", entry["path"], entry)
        self._expect(session.alive != "no" and session.user is not None, "nobody to renew", entry["path"], entry)
        self._vouched_for(entry, session)
        self._expect(entry["ended"] >= session.due, "renewed before it was due", session.due - entry["ended"], entry)
        self.asked[entry["asked"]] = entry
        due = max(session.due, entry["began"] + COOL_DOWN - 1)
        self.sessions[entry["sent"]] = replace(session, alive="yes", disowned=False, due=due, overdue=float("inf"))

    def _sign_in_anew(self, entry: Entry, session: Session) -> None:
        """A page is answered by a sign-in: only to whom the OP has ceased to vouch for."""
        self.report.counts["pages that led to a new sign-in"] += 1
        self._expect(session.alive != "no" and session.user is not None, "nobody to sign in anew", "", entry)
        self._expect(session.disowned is not False, "to sign in anew for no reason", entry["path"], entry)
        self.sessions[entry["sent"]] = replace(session, alive="yes", disowned=True)

    def _told_to_sign_in(self, entry: Entry, session: Session) -> None:
        """A script is never sent anywhere."""
        self.report.counts["scripts told to sign in"] += 1
        if self._expect(entry["status"] == 401, "a script interrupted", entry["status"], entry):
            if entry["beside"]:
                session = self.before[entry["user"]]
            self._expect(session.disowned is not False, "to sign in anew for no reason", entry["path"], entry)

    def _back_from_renewal(self, entry: Entry, session: Session, walk: Entry) -> None:
        """Renewed, or put off, or the OP does not vouch for them any more."""
        put_off = self.failed_renewals.get(entry["request"])
        may_stay = session.alive != "no" and session.user is not None
        self._expect(may_stay, "nobody to renew", entry["state"], entry)
        if entry["asked"]:
            self._expect(walk["declined"], "to sign in anew for no reason", entry["path"], entry)
            self._expect(entry["held"] == entry["sent"], "another session for no reason", "", entry)
            self.asked[entry["asked"]] = entry
            self.sessions[entry["sent"]] = replace(session, alive="yes", disowned=True)
        elif put_off is not None:
            self._expect(entry["held"] == entry["sent"], "another session for no reason", "", entry)
            due = max(session.due, entry["began"] + COOL_DOWN - 1)
            self.sessions[entry["sent"]] = replace(session, alive="yes", due=due, overdue=float("inf"))
        else:
            record, life = self._authentication(entry, walk)
            self._expect(record is None or not record["second_factor"], "a second factor given unasked", "", entry)
            self._expect(walk["account"] == session.user, "the user swapped", walk["account"], entry)
            session = replace(session, alive="yes", disowned=False, **_renewed(entry))
            is_same = entry["held"] == entry["sent"]
            if life is not None and session.life is not None:
                self._expect(is_same == (life == session.life), "evidence of another session at the OP", life, entry)
            if is_same:
                self.sessions[entry["sent"]] = replace(session, life=life)
            else:
                self.sessions[entry["sent"]] = replace(session, alive="no")
                self._is_new(entry)
                self.sessions[entry["held"]] = replace(session.without_proof(), life=life)

    def _vouched_for(self, entry: Entry, session: Session) -> None:
        """An answer to those only for whom the OP vouches; and not if it has to be asked whether it still does."""
        if session.alive != "yes" or session.user is None:
            return
        self._expect(session.disowned is not True, "shown though the OP had ceased to vouch", entry["path"], entry)
        # With a refresh token it is the server who asks. And it may find that the OP cannot be asked.
        if entry["asks"] != "renewal" and entry["method"] == "GET" and not entry["script"] and not entry["remember"]:
            # Of several pages at once one goes there.
            is_asked = {"renewal", "lost"} & set(self.at_once[entry["user"], entry["began"]])
            in_time = entry["began"] <= session.overdue or is_asked or entry["request"] in self.failed_renewals
            self._expect(bool(in_time), "not renewed though it was due", entry["began"] - session.overdue, entry)

    def _keeps_cookie(self, entry: Entry, jar: str) -> None:
        if entry["learnt"]:
            self._expect(entry["held"] == jar, "the browser's cookie taken away", jar, entry)

    def _is_excused(self, entry: Entry, session: Session, walk: Entry | None, is_first: bool) -> bool:
        verdict = entry["verdict"]
        if walk is None or verdict == "expired":
            # Another browser, or the address once more: that is what the verdict is for.
            is_crowded = self._is_crowded(entry)
            return verdict == "expired" and (
                entry["sent"] == "" or session.alive != "yes" or not is_first or is_crowded
            )
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
        """A form that has to wait for a step-up, or for a sign-in; or one that has waited, and is sent once more."""
        if entry["status"] == 410:
            self.report.counts["kept posts sent once more"] += 1
            if self.sent_at_once[entry["post"], entry["began"]] == {410}:
                self._becomes(entry, "gone")
            return
        if not self._expect(entry["status"] == 303 and entry["asked"], "a form not kept", entry["status"], entry):
            self._becomes(entry, "refused")
            return
        self.report.counts["posts kept"] += 1
        self.kept[entry["post"]] = entry["asks"]
        self._becomes(entry, "kept")
        if entry["asks"] == "sign-in":
            self._sign_in_anew(entry, session)
        elif self._expect(entry["asks"] == "step-up", "a form interrupted", entry["asks"], entry):
            self._challenge(entry, session)

    def _waits(self, entry: Entry, session: Session) -> None:
        """The page that shows a form that was kept, to whom it belongs and has proved what it needs."""
        self.report.counts["kept posts shown"] += 1
        what, _ = self.posts.get(entry["waiting"], ("", None))
        self._expect(what in ("kept", "unknown"), "a form that was not kept", what, entry)
        # Kept for a sign-in, it is for whoever has signed in; and its door asks for more when it is sent.
        may = session.alive != "no" and (session.mfa or self.kept.get(entry["waiting"]) == "sign-in")
        self._expect(may, "a kept form shown without evidence", "", entry)
        is_theirs = entry["waiting"].rpartition("-")[0] == session.user
        self._expect(is_theirs, "another's form", entry["waiting"], entry)
        self._vouched_for(entry, session)
        if session.alive != "no":
            self.sessions[entry["sent"]] = replace(session, alive="yes", disowned=False, in_doubt=False)

    def _becomes(self, entry: Entry, what: str, user: str | None = None) -> None:
        """What is known of a post; an answer that comes later, or at the same time, undoes nothing."""
        before, author = self.posts.get(entry["post"], ("", None))
        if what in STAGES[STAGES.index(before) :]:
            self.posts[entry["post"]] = (what, user or author)
        self.last_post[entry["user"]] = entry["post"]

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
        # What was proved on the way to a page is fresh for it, once, and for a moment.
        step_up = self.fresh.get(request["sent"], NEVER)
        asked, came_back = NEVER if step_up in self.used else step_up
        if request["status"] is not None:
            self.used.add(step_up)
        if entry["at"] - proved_at <= RECENT_MAX_AGE + LEEWAY + 1:
            return
        is_on_the_way = proved_at >= asked - LEEWAY - 1 and entry["at"] <= came_back + SETTLED_SECONDS + 1
        self._expect(is_on_the_way, "shown for an old proof", entry["at"] - proved_at, entry)

    def _renewals(self) -> None:
        """How they went, as the workers say."""
        counts, requests = self.report.counts, {}
        for each in self.logs.users:
            if each["what"] == "request":
                requests[each["request"]] = each
        for entry in self.logs.site:
            if entry["what"] not in ("renewed", "renewal_failed"):
                continue
            by = {"refresh_token": "by token", "prompt": "by browser"}[entry["by"]]
            request = requests[entry["request"]]
            session = self.made_with[entry["request"]]
            self._expect(session.user is not None, "nobody to renew", by, entry)
            if entry["what"] == "renewed":
                counts[f"renewals {by}"] += 1
                # The other way the OP itself has said so.
                if by == "by token" and session.life is not None:
                    is_there = not any(each["ended"] <= request["began"] for each in self.restarts[session.life :])
                    self._expect(is_there, "renewed by an OP that has forgotten", session.life, entry)
                continue
            counts[f"renewals that failed, {by}"] += 1
            is_known = self._is_failure_known(entry, session, request)
            self._expect(is_known, "a renewal failed for no reason", entry["reason"], entry)
        counts["refresh tokens that the OP was given"] = self.logs.refreshes
        known = counts["renewals by token"] + counts["renewals that failed, by token"] + counts["connections lost"]
        self._expect(self.logs.refreshes <= known, "refreshed more often than is known", self.logs.refreshes, {})

    def _is_failure_known(self, entry: Entry, session: Session, request: Entry) -> bool:
        is_another_life = session.life is None or any(
            each["began"] <= request["ended"] for each in self.restarts[session.life :]
        )
        if entry["reason"] == "error: login_required":
            return is_another_life
        if "invalid_grant" in entry["reason"]:
            # The OP has forgotten it; or a token was used twice, for which only a worker's end is an excuse.
            return is_another_life or session.torn or _overlap(request, self.kills)
        return self._is_soon_after(self.key_changes, request)

    def _is_crowded(self, entry: Entry) -> bool:
        """Whether requests sent at once led to the OP for different things, and one may have undone the other's."""
        asked = self.asked.get(entry["state"])
        return asked is not None and len(set(self.at_once[asked["user"], asked["began"]])) > 1

    def _rows(self) -> None:
        stored = Counter(self.logs.rows)
        for id_, (what, author) in self.posts.items():
            count = sum(number for (row, _), number in stored.items() if row == id_)
            entry = {"id": id_, "what": what}
            self._expect(what != "gone", "a kept form lost", count, entry)
            most = 1 if author and what in ("done", "unknown") else 0
            self._expect(count <= most, "posted twice, or though refused", count, entry)
            if what == "done":
                self._expect(stored[id_, author or ""] == 1, "a post lost", count, entry)
            self.report.counts["kept posts sent"] += what == "done" and id_ in self.kept
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


def _renewed(entry: Entry) -> dict[str, Any]:
    """When the sign-in that was accepted then has to be renewed. The site counts in whole seconds."""
    return {"due": entry["began"] + RENEW_AFTER - 1, "overdue": entry["ended"] + RENEW_AFTER + 1, "torn": False}


def _address(user: str | None) -> str | None:
    return f"{user}@harbour.example" if user else None


def _subject(user: str | None) -> str | None:
    return f"stepup|{user}" if user else None
