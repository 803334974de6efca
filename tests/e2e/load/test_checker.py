"""The checker finds what should not happen: stories made by hand, and in each of them one thing that is wrong."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from tests.e2e.load.checker import Logs, check
from tests.e2e.load.journal import Entry


class Story:
    """What one user does, a second for each thing; as the journals would have it."""

    def __init__(self, user: str = "anna") -> None:
        self.user = user
        self.users: list[Entry] = []
        self.faults: list[Entry] = []
        self.site: list[Entry] = []
        self.op: list[Entry] = []
        self.rows: list[tuple[str, str]] = []
        self.ended_well: dict[str, bool] = {}
        self.refreshes = 0
        self.jar = ""
        self.clock = 1000.0

    def violations(self) -> list[str]:
        """The rules that were broken, in order."""
        logs = Logs(self.users, self.faults, self.site, self.op, self.refreshes, self.rows, self.ended_well)
        return [violation.rule for violation in check(logs).violations]

    def fault(self, what: str, *, ago: float = 0.5) -> None:
        self.faults.append({"what": what, "began": self.clock - ago, "ended": self.clock - ago + 0.1})

    def request(self, path: str, **more: Any) -> Entry:
        self.clock += 1
        entry = {
            "what": "request",
            "user": self.user,
            "request": str(len(self.users)),
            "method": "GET",
            "path": path,
            "post": "",
            "waiting": "",
            "state": "",
            "asks": "",
            "asked": "",
            "script": False,
            # Renewed by refresh token, unless the story is about something else.
            "remember": True,
            "beside": False,
            "began": self.clock - 0.9,
            "ended": self.clock,
            "status": 200,
            "location": "",
            "verdict": "",
            "shown": None,
            "error": "",
            "sent": "",
            # Somebody who tries another cookie than the browser's does not do it in the browser.
            "learnt": "held" in more or more.get("sent", "") == self.jar,
            **more,
        }
        entry.setdefault("held", entry["sent"])
        if entry["learnt"]:
            self.jar = entry["held"]
        self.users.append(entry)
        return entry

    def lost(self, path: str, cookie: str, **more: Any) -> Entry:
        """No answer came, since the worker was killed."""
        entry = self.request(path, sent=cookie, status=None, error="reset", **more)
        self.fault("kill")
        return entry

    def challenge(self, state: str, cookie: str = "", held: str = "", path: str = "/salary/") -> Entry:
        return self.request(path, status=302, asks="step-up", asked=state, sent=cookie, held=held or cookie)

    def walk(self, state: str, *, factor: bool = True, account: str = "", **more: Any) -> Entry:
        self.clock += 1
        account = account or self.user
        entry = {
            "what": "walk",
            "user": self.user,
            "account": account,
            "state": state,
            "factor": factor,
            "silent": False,
            "dated": False,
            "began": self.clock - 0.9,
            "ended": self.clock,
            "back": True,
            "declined": False,
            "tries": 1,
            "error": "",
            **more,
        }
        self.users.append(entry)
        self.op.append(
            {
                "state": state,
                "subject": f"stepup|{account}",
                "second_factor": factor,
                "auth_time": self.clock - 0.5,
                "life": len([each for each in self.faults if each["what"] == "restart"]),
            }
        )
        return entry

    def callback(self, state: str, cookie: str, held: str) -> Entry:
        return self.request("/oidc/callback/", state=state, sent=cookie, held=held, status=302, location="/salary/")

    def refused(self, state: str, cookie: str, verdict: str, status: int = 403) -> Entry:
        return self.request("/oidc/callback/", state=state, sent=cookie, status=status, verdict=verdict)

    def page(self, cookie: str, page: str = "salary", *, user: str | None = None, **more: Any) -> Entry:
        """A protected page that is shown, which the worker writes down too."""
        user = user or self.user
        seen = {"user": f"{user}@harbour.example", "subject": f"stepup|{user}", "amr": {"mfa": None}, **more}
        entry = self.request(f"/{page}/", sent=cookie, shown={"page": page, **seen})
        self.site.append({"what": "shown", "at": self.clock, "request": entry["request"], "page": page, **seen})
        return entry

    def whoami(self, cookie: str, user: str | None, *, mfa: bool = False, **more: Any) -> Entry:
        address = f"{user}@harbour.example" if user else None
        seen = {"user": address, "subject": f"stepup|{user}" if user else None, "amr": {"mfa": None} if mfa else {}}
        return self.request("/whoami/", sent=cookie, shown={"page": "whoami", **seen}, **more)

    def post(self, id_: str, cookie: str, *, rows: int = 1) -> Entry:
        entry = self.page(cookie, "posted")
        entry |= {"path": "/posts/", "method": "POST", "post": id_}
        self.rows += [(id_, f"{self.user}@harbour.example")] * rows
        return entry

    def post_kept(self, id_: str, cookie: str, *, asks: str = "step-up", state: str = "k1", **more: Any) -> Entry:
        """It has to wait, and the browser goes to the OP."""
        more = {"method": "POST", "post": id_, "status": 303, "asks": asks, "asked": state, **more}
        return self.request("/posts/", sent=cookie, **more)

    def waiting(self, id_: str, cookie: str) -> Entry:
        """The page that shows it then."""
        return self.request("/oidc/authenticate/", sent=cookie, waiting=id_)

    def gone(self, id_: str, cookie: str, **more: Any) -> Entry:
        return self.request("/posts/", method="POST", post=id_, sent=cookie, status=410, **more)

    def sign_out(self, cookie: str) -> Entry:
        return self.request("/oidc/logout/", method="POST", sent=cookie, held="", status=302)

    def renewal(self, state: str, cookie: str, path: str = "/whoami/", **more: Any) -> Entry:
        """A page that leads to the OP, to come back at once."""
        return self.request(path, status=302, asks="renewal", asked=state, sent=cookie, **more)

    def silent_walk(self, state: str, **more: Any) -> Entry:
        return self.walk(state, factor=False, silent=True, **more)

    def renewed(self, state: str, cookie: str, by: str = "prompt") -> None:
        """Through the browser, and back with the same cookie."""
        self.silent_walk(state)
        self.note(self.callback(state, cookie, cookie), "renewed", by)

    def note(self, entry: Entry, what: str, by: str, reason: str = "") -> None:
        """What a worker has logged of a request."""
        self.site.append({"what": what, "at": self.clock, "request": entry["request"], "by": by, "reason": reason})

    def disowned(self, state: str, cookie: str, asked: str) -> Entry:
        """The OP has forgotten the user, and so the browser is sent there once more."""
        self.silent_walk(state, declined=True)
        self.op.pop()
        entry = self.request("/oidc/callback/", state=state, status=302, asks="sign-in", asked=asked, sent=cookie)
        self.note(entry, "renewal_failed", "prompt", "error: login_required")
        return entry

    def sign_in_anew(self, state: str, cookie: str) -> Entry:
        return self.request("/whoami/", status=302, asks="sign-in", asked=state, sent=cookie)

    def script(self, cookie: str, status: int = 401) -> Entry:
        return self.request("/whoami/", script=True, sent=cookie, status=status)

    def signed_in(self) -> Story:
        """With the password alone, and the cookie "in"."""
        self.challenge("s0", "", "new", path="/oidc/authenticate/")
        self.walk("s0", factor=False)
        self.callback("s0", "new", "in")
        return self

    def stepped_up(self) -> Story:
        """With the cookie "up"; it was "in" before."""
        self.signed_in()
        self.challenge("s1", "in")
        self.walk("s1")
        self.callback("s1", "in", "up")
        return self


def test_nothing_is_found_where_all_is_well() -> None:
    story = Story().stepped_up()
    story.page("up")
    story.whoami("up", "anna", mfa=True)
    story.whoami("in", None)
    story.post("one", "up")
    story.challenge("s2", "up", path="/recent/")
    story.walk("s2", dated=True)
    story.callback("s2", "up", "recent")
    story.page("recent", "recent", amr={"mfa": int(story.op[-1]["auth_time"])})
    story.sign_out("recent")
    story.whoami("recent", None)
    story.challenge("s3", "recent", "another")
    story.post_kept("two", "another")
    story.walk("k1")
    story.callback("k1", "another", "up again")
    story.ended_well["anna"] = True

    assert story.violations() == []


def test_what_faults_explain_is_no_violation() -> None:
    story = Story().stepped_up()
    story.lost("/salary/", "up")
    story.page("up")
    story.lost("/posts/", "up", post="one")
    story.rows.append(("one", "anna@harbour.example"))
    story.lost("/posts/", "up", post="two")
    story.lost("/oidc/logout/", "up", method="POST")
    story.challenge("s2", "up", "fresh")
    story.walk("s2")
    story.lost("/oidc/callback/", "fresh", state="s2")
    story.refused("s2", "fresh", "expired", 400)
    story.whoami("fresh", None)
    story.fault("restart")
    story.request("/salary/", status=503, verdict="unavailable")
    story.challenge("s3", "", "other")
    story.walk("s3")
    story.refused("s3", "other", "invalid", 400)

    assert story.violations() == []


def test_renewals_change_nothing() -> None:
    story = Story().stepped_up()
    story.clock += 10
    story.renewal("r1", "up")
    story.renewed("r1", "up")
    story.page("up")
    story.whoami("up", "anna", mfa=True)
    story.clock += 10
    story.note(story.whoami("up", "anna", mfa=True), "renewed", "refresh_token")
    story.whoami("up", "anna", mfa=True)

    assert story.violations() == []


def test_what_was_proved_in_a_session_that_the_op_has_forgotten_is_forgotten_when_it_says_so() -> None:
    story = Story().stepped_up()
    story.fault("restart")
    story.clock += 10
    story.renewal("r1", "up")
    story.disowned("r1", "up", "s2")
    story.post_kept("anna-1", "up", asks="sign-in")
    story.script("up")
    story.sign_in_anew("s3", "up")
    story.walk("s3", factor=False)
    story.callback("s3", "up", "in again")
    story.whoami("in again", "anna")
    story.waiting("anna-1", "in again")
    story.post_kept("anna-1", "in again", state="s4")
    story.walk("s4")
    story.callback("s4", "in again", "up again")
    story.waiting("anna-1", "up again")
    story.post("anna-1", "up again")
    story.page("up again")
    # Signed in there anew, for another site.
    story.fault("restart")
    story.clock += 10
    story.renewal("r2", "up again")
    story.silent_walk("r2")
    story.note(story.callback("r2", "up again", "renewed"), "renewed", "prompt")
    story.whoami("renewed", "anna")

    assert story.violations() == []


def test_a_sign_in_to_an_op_that_has_not_been_asked_since_its_restart_forgets_nothing() -> None:
    story = Story().stepped_up()
    story.fault("restart")
    story.challenge("s2", "up", path="/oidc/authenticate/")
    story.walk("s2", factor=False)
    story.callback("s2", "up", "again")
    story.page("again")

    assert story.violations() == []


def test_a_renewal_that_cannot_be_had_puts_nobody_off() -> None:
    story = Story().stepped_up()
    story.clock += 10
    story.fault("restart")
    story.renewal("r1", "up")
    story.walk("r1", factor=False, silent=True, back=False, error="lost: ConnectionError")
    story.op.pop()
    story.page("up")
    story.challenge("s2", "up", path="/oidc/authenticate/")
    story.walk("s2", factor=False)
    story.callback("s2", "up", "again")
    story.clock += 10
    story.fault("restart")
    story.renewal("r2", "again")
    story.silent_walk("r2")
    story.note(story.callback("r2", "again", "again"), "renewal_failed", "prompt", "token: ConnectionError")
    story.page("again")

    assert story.violations() == []


def test_what_a_killed_worker_did_to_a_renewal_the_next_answers_tell() -> None:
    story = Story().stepped_up()
    story.clock += 10
    story.lost("/whoami/", "up")
    story.note(story.page("up"), "renewal_failed", "refresh_token", "token request refused: invalid_grant")
    story.clock += 60
    story.fault("restart", ago=30)
    for number, told in enumerate(("shown", "sign in", "nothing")):
        cookie = f"up {number}"
        story.challenge(f"s{number}2", "up" if number == 0 else f"again {number - 1}", path="/oidc/authenticate/")
        story.walk(f"s{number}2")
        story.callback(f"s{number}2", "up" if number == 0 else f"again {number - 1}", cookie)
        story.fault("restart")
        story.clock += 10
        story.renewal(f"r{number}", cookie)
        story.silent_walk(f"r{number}", declined=True)
        story.op.pop()
        story.lost("/oidc/callback/", cookie, state=f"r{number}")
        story.refused(f"r{number}", cookie, "expired", 400)
        if told == "shown":
            story.page(cookie)
        elif told == "sign in":
            story.sign_in_anew(f"s{number}3", cookie)
        story.challenge(f"s{number}4", cookie, path="/oidc/authenticate/")
        story.walk(f"s{number}4", factor=False)
        story.callback(f"s{number}4", cookie, f"again {number}")
        story.whoami(f"again {number}", "anna", mfa=told == "shown")

    assert story.violations() == []


def kept_and_waiting(story: Story) -> None:
    """With the cookie "up"."""
    story.signed_in()
    story.post_kept("anna-1", "in")
    story.walk("k1")
    story.callback("k1", "in", "up")
    story.waiting("anna-1", "up")


def test_a_form_that_was_kept_is_sent_once_however_often_the_button_is_pressed() -> None:
    story = Story()
    kept_and_waiting(story)
    sent = story.post("anna-1", "up")
    story.gone("anna-1", "up", began=sent["began"])
    story.gone("anna-1", "up")

    assert story.violations() == []


@pytest.mark.parametrize("rows", [0, 1])
def test_a_kept_form_whose_sending_was_lost_may_have_arrived(rows: int) -> None:
    story = Story()
    kept_and_waiting(story)
    story.lost("/posts/", "up", method="POST", post="anna-1")
    story.request("/oidc/authenticate/", sent="up", status=410)
    story.rows = [("anna-1", "anna@harbour.example")] * rows

    assert story.violations() == []


def test_of_pages_at_once_one_is_renewed() -> None:
    story = Story().stepped_up()
    story.clock += 10
    shown = story.page("up")
    shown["remember"] = False
    story.renewal("r1", "up", began=shown["began"])

    assert story.violations() == []


def test_what_is_shown_while_an_answer_comes_does_not_tell_what_became_of_it() -> None:
    story = Story().stepped_up()
    story.lost("/oidc/logout/", "up", method="POST")
    story.challenge("s2", "up", path="/recent/")
    story.walk("s2")
    story.callback("s2", "up", "recent")
    story.whoami("up", "anna", mfa=True, beside=True)
    story.whoami("up", None)
    story.page("recent")

    assert story.violations() == []


def shown_for_a_proof_on_the_way(story: Story) -> None:
    """The proof was given while the page was waited for, and the way back took long; a sign-in came between."""
    story.stepped_up()
    story.challenge("s2", "up", path="/recent/")
    story.walk("s2", dated=True)
    story.clock += 15
    story.callback("s2", "up", "recent")
    story.challenge("s3", "recent", path="/oidc/authenticate/")
    story.walk("s3", factor=False)
    story.callback("s3", "recent", "again")
    story.page("again", "recent", amr={"mfa": int(story.op[1]["auth_time"]) + 3})


def test_what_was_proved_on_the_way_is_fresh_for_the_page() -> None:
    story = Story()
    shown_for_a_proof_on_the_way(story)

    assert story.violations() == []


def test_what_was_proved_too_long_ago_for_a_page_is_proved_all_the_same() -> None:
    story = Story().signed_in()
    story.challenge("s1", "in", path="/recent/")
    story.walk("s1", dated=True)
    story.clock += 15
    story.refused("s1", "in", "stale")["held"] = "up"
    story.jar = "up"
    story.page("up")
    story.whoami("in", None)

    assert story.violations() == []


def test_a_page_that_was_shown_when_a_sign_out_was_lost_tells_that_it_did_not_happen() -> None:
    story = Story().stepped_up()
    story.lost("/oidc/logout/", "up", method="POST")
    story.page("up")
    story.challenge("s2", "up")

    assert story.violations() == ["an elevation lost"]


def shown_to_nobody(story: Story) -> None:
    story.page("made-up")


def shown_and_not_written_down(story: Story) -> None:
    story.stepped_up().page("up")
    story.site.clear()


def shown_and_not_asked_for(story: Story) -> None:
    story.stepped_up().page("up")
    story.site.append({**story.site[-1], "request": "another"})


def shown_after_a_sign_in(story: Story) -> None:
    story.signed_in().page("in")


def shown_after_a_refusal(story: Story) -> None:
    story.signed_in()
    story.challenge("s1", "in")
    story.walk("s1", declined=True)
    story.op.pop()
    story.refused("s1", "in", "declined")
    story.page("in")


def shown_by_the_old_cookie_after_a_lost_answer(story: Story) -> None:
    story.signed_in()
    story.challenge("s1", "in")
    story.walk("s1")
    story.lost("/oidc/callback/", "in", state="s1")
    story.page("in")


def shown_only_by_the_worker(story: Story) -> None:
    """Its answer was lost, but nobody should have been shown it."""
    story.signed_in()
    story.page("in")
    entry = story.users.pop()
    story.lost("/salary/", "in", request=entry["request"])


def the_op_knows_of_no_second_factor(story: Story) -> None:
    story.stepped_up()
    story.op[-1]["second_factor"] = False
    story.page("up")


def shown_without_proof_in_the_evidence(story: Story) -> None:
    story.stepped_up().page("up", amr={})


def challenged_again(story: Story) -> None:
    story.stepped_up().challenge("s2", "up")


def challenged_again_though_a_worker_was_killed_elsewhere(story: Story) -> None:
    story.stepped_up()
    story.lost("/salary/", "up")
    story.challenge("s2", "up")


def a_recent_proof_forgotten(story: Story) -> None:
    story.stepped_up()
    story.challenge("s2", "up", path="/recent/")
    story.walk("s2", dated=True)
    story.callback("s2", "up", "recent")
    story.challenge("s3", "recent", path="/recent/")


def nothing_known_any_more(story: Story) -> None:
    story.stepped_up().whoami("up", "anna")


def signed_out_by_accident(story: Story) -> None:
    story.signed_in().whoami("in", None)


def another_on_the_page(story: Story) -> None:
    story.stepped_up().page("up", user="ben")


def the_evidence_of_another(story: Story) -> None:
    story.stepped_up().page("up", subject="stepup|ben")


def another_after_the_step_up(story: Story) -> None:
    story.signed_in()
    story.challenge("s1", "in")
    story.walk("s1", account="ben")
    story.callback("s1", "in", "up")


def the_code_of_another(story: Story) -> None:
    story.stepped_up()
    story.op[-1]["subject"] = "stepup|ben"


def accepted_without_the_op(story: Story) -> None:
    story.stepped_up()
    story.op.clear()


def accepted_though_declined(story: Story) -> None:
    story.signed_in()
    story.challenge("s1", "in")
    story.walk("s1", declined=True)
    story.callback("s1", "in", "up")


def accepted_in_another_browser(story: Story) -> None:
    story.signed_in()
    story.challenge("s1", "in")
    story.walk("s1")
    story.callback("s1", "", "")


def the_old_key_kept(story: Story) -> None:
    story.signed_in()
    story.challenge("s1", "in")
    story.walk("s1")
    story.callback("s1", "in", "in")


def the_old_key_still_good(story: Story) -> None:
    story.stepped_up().whoami("in", "anna")


def one_key_for_two(story: Story) -> None:
    story.stepped_up()
    story.challenge("s5", "", "up")


def the_new_cookie_deleted(story: Story) -> None:
    """By the answer to a request that was on its way with the old one."""
    story.stepped_up().whoami("in", None, held="")


def an_error(story: Story) -> None:
    story.request("/whoami/", status=500)


def unavailable_though_the_op_was_there(story: Story) -> None:
    story.request("/salary/", status=503, verdict="unavailable")


def unavailable_long_after(story: Story) -> None:
    story.fault("restart", ago=60)
    story.request("/salary/", status=503, verdict="unavailable")


def an_exception_behind_a_lost_answer(story: Story) -> None:
    story.site.append({"what": "exception", "request": "", "traceback": "Traceback\nValueError: no"})


def a_connection_lost(story: Story) -> None:
    story.request("/whoami/", status=None)


def an_answer_of_no_kind(story: Story) -> None:
    story.request("/salary/", status=404)


def refused_for_no_reason(story: Story) -> None:
    story.signed_in()
    story.challenge("s1", "in")
    story.walk("s1")
    story.refused("s1", "in", "invalid", 400)


def expired_for_no_reason(story: Story) -> None:
    story.signed_in()
    story.challenge("s1", "in")
    story.walk("s1")
    story.refused("s1", "in", "expired", 400)


def the_wrong_user_for_no_reason(story: Story) -> None:
    story.signed_in()
    story.challenge("s1", "in")
    story.walk("s1")
    story.refused("s1", "in", "wrong_user")


def stuck_for_no_reason(story: Story) -> None:
    story.challenge("s1", "", "new")
    story.walk("s1", back=False, error="stuck: at a page")


def a_post_twice(story: Story) -> None:
    story.stepped_up().post("one", "up", rows=2)


def a_post_lost(story: Story) -> None:
    story.stepped_up().post("one", "up", rows=0)


def a_post_of_another(story: Story) -> None:
    story.stepped_up().post("one", "up")
    story.rows = [("one", "ben@harbour.example")]


def a_post_though_refused(story: Story) -> None:
    story.signed_in().post_kept("one", "in")
    story.rows.append(("one", "anna@harbour.example"))


def a_post_that_nobody_sent(story: Story) -> None:
    story.rows.append(("one", "anna@harbour.example"))


def a_post_of_somebody_who_may_not_and_a_lost_answer(story: Story) -> None:
    story.signed_in().lost("/posts/", "in", post="one")
    story.rows.append(("one", "anna@harbour.example"))


def shown_after_the_sign_out(story: Story) -> None:
    story.stepped_up().sign_out("up")
    story.page("up")


def signed_in_after_the_sign_out(story: Story) -> None:
    story.stepped_up().sign_out("up")
    story.whoami("up", "anna")


def not_signed_out(story: Story) -> None:
    story.stepped_up().sign_out("up")["status"] = 403


def shown_for_an_old_proof(story: Story) -> None:
    story.stepped_up()
    story.page("up", "recent", amr={"mfa": int(story.clock) - 20})


def shown_twice_for_a_proof_on_the_way(story: Story) -> None:
    shown_for_a_proof_on_the_way(story)
    story.page("again", "recent", amr={"mfa": int(story.op[1]["auth_time"]) + 3})


def shown_long_after_the_way(story: Story) -> None:
    shown_for_a_proof_on_the_way(story)
    story.users[-1]["status"] = None
    story.fault("kill")
    story.clock += 15
    story.page("again", "recent", amr={"mfa": int(story.op[1]["auth_time"]) + 3})


def shown_for_a_proof_of_no_time(story: Story) -> None:
    story.stepped_up().page("up", "recent")


def another_while_the_answer_came(story: Story) -> None:
    story.stepped_up().whoami("in", "ben", beside=True)


def more_proved_while_the_answer_came(story: Story) -> None:
    story.stepped_up().whoami("in", "anna", mfa=True, beside=True)


def not_let_in_at_the_end(story: Story) -> None:
    story.ended_well["anna"] = False


def a_form_not_kept(story: Story) -> None:
    story.signed_in().request("/posts/", method="POST", post="anna-1", sent="in", status=403)


def a_form_sent_to_the_op_for_a_renewal(story: Story) -> None:
    story.stepped_up().clock += 10
    story.post_kept("anna-1", "up", asks="renewal")


def a_form_kept_that_could_have_been_sent(story: Story) -> None:
    story.stepped_up().post_kept("anna-1", "up")


def a_kept_form_shown_without_evidence(story: Story) -> None:
    story.signed_in().post_kept("anna-1", "in")
    story.waiting("anna-1", "in")


def a_kept_form_shown_to_another(story: Story) -> None:
    kept_and_waiting(story)
    story.users[-1]["waiting"] = "ben-1"


def a_kept_form_sent_twice(story: Story) -> None:
    kept_and_waiting(story)
    story.post("anna-1", "up")
    story.post("anna-1", "up")


def a_kept_form_sent_by_nobody(story: Story) -> None:
    kept_and_waiting(story)
    story.rows.append(("anna-1", "anna@harbour.example"))


def a_kept_form_lost(story: Story) -> None:
    kept_and_waiting(story)
    story.gone("anna-1", "up")


def a_kept_form_lost_before_its_page(story: Story) -> None:
    kept_and_waiting(story)
    story.users[-1] |= {"waiting": "", "status": 410}


def renewed_before_it_was_due(story: Story) -> None:
    story.stepped_up().renewal("r1", "up")


def renewed_again_at_once(story: Story) -> None:
    story.stepped_up().clock += 10
    story.renewal("r1", "up")
    story.clock += 10
    story.renewal("r2", "up")


def not_renewed(story: Story) -> None:
    story.stepped_up().clock += 10
    story.page("up")["remember"] = False


def a_form_renewed(story: Story) -> None:
    story.stepped_up().clock += 10
    story.renewal("r1", "up", "/other/", method="POST")


def a_script_sent_to_the_op(story: Story) -> None:
    story.stepped_up().clock += 10
    story.renewal("r1", "up", script=True)


def a_script_told_to_sign_in(story: Story) -> None:
    story.stepped_up().script("up")


def unavailable_for_a_renewal(story: Story) -> None:
    story.stepped_up().clock += 10
    story.fault("restart")
    story.renewal("r1", "up")
    story.silent_walk("r1")
    story.refused("r1", "up", "unavailable", 503)


def nobody_renewed(story: Story) -> None:
    story.renewal("r1", "")


def a_sign_in_anew_for_no_reason(story: Story) -> None:
    story.stepped_up().sign_in_anew("s2", "up")


def shown_though_disowned(story: Story) -> None:
    story.stepped_up()
    story.fault("restart")
    story.clock += 10
    story.renewal("r1", "up")
    story.disowned("r1", "up", "s2")
    story.page("up")


def shown_for_what_the_op_has_forgotten(story: Story) -> None:
    story.stepped_up()
    story.fault("restart")
    story.clock += 10
    story.renewal("r1", "up")
    story.disowned("r1", "up", "s2")
    story.walk("s2", factor=False)
    story.callback("s2", "up", "again")
    story.page("again")


def shown_after_a_renewal_in_another_session_there(story: Story) -> None:
    story.stepped_up()
    story.fault("restart")
    story.clock += 10
    story.renewal("r1", "up")
    story.renewed("r1", "up")


def proof_lost_by_a_renewal(story: Story) -> None:
    story.stepped_up().clock += 10
    story.renewal("r1", "up")
    story.renewed("r1", "up")
    story.challenge("s2", "up")


def proof_given_by_a_renewal(story: Story) -> None:
    story.signed_in().clock += 10
    story.renewal("r1", "in")
    story.renewed("r1", "in")
    story.page("in")


def disowned_for_no_reason(story: Story) -> None:
    story.stepped_up().clock += 10
    story.renewal("r1", "up")
    story.disowned("r1", "up", "s2")


def a_refresh_token_used_twice(story: Story) -> None:
    story.stepped_up()
    story.note(story.page("up"), "renewal_failed", "refresh_token", "token request refused: invalid_grant")


def a_refresh_that_nobody_knows_of(story: Story) -> None:
    story.stepped_up().refreshes = 1


def a_refresh_failed_for_no_reason(story: Story) -> None:
    story.stepped_up()
    story.note(story.page("up"), "renewal_failed", "refresh_token", "token: ConnectionError")


def renewed_by_an_op_that_has_forgotten(story: Story) -> None:
    story.stepped_up()
    story.fault("restart")
    story.clock += 1
    story.note(story.page("up"), "renewed", "refresh_token")


WRONG: dict[Callable[[Story], None], set[str]] = {
    shown_to_nobody: {"shown without evidence", "another's page", "another's evidence"},
    shown_and_not_written_down: {"shown and not written down"},
    shown_and_not_asked_for: {"shown to nobody"},
    shown_after_a_sign_in: {"shown without evidence"},
    shown_after_a_refusal: {"shown without evidence"},
    shown_by_the_old_cookie_after_a_lost_answer: {"shown without evidence"},
    shown_only_by_the_worker: {"shown without evidence"},
    the_op_knows_of_no_second_factor: {"shown without evidence"},
    shown_without_proof_in_the_evidence: {"shown without evidence"},
    challenged_again: {"an elevation lost"},
    challenged_again_though_a_worker_was_killed_elsewhere: {"an elevation lost"},
    a_recent_proof_forgotten: {"an elevation lost"},
    nothing_known_any_more: {"another proof than before"},
    signed_out_by_accident: {"another user than before"},
    another_on_the_page: {"another's page", "another's evidence"},
    the_evidence_of_another: {"another's evidence"},
    another_after_the_step_up: {"the user swapped"},
    the_code_of_another: {"another's authentication"},
    accepted_without_the_op: {"accepted without the OP"},
    accepted_though_declined: {"accepted though declined"},
    accepted_in_another_browser: {"an answer that is none"},
    the_old_key_kept: {"the session's key kept", "a session key given out twice"},
    the_old_key_still_good: {"another user than before"},
    one_key_for_two: {"a session key given out twice"},
    the_new_cookie_deleted: {"the browser's cookie taken away"},
    an_error: {"a server error"},
    unavailable_though_the_op_was_there: {"a server error"},
    unavailable_long_after: {"a server error"},
    an_exception_behind_a_lost_answer: {"an exception"},
    a_connection_lost: {"a connection lost for no reason"},
    an_answer_of_no_kind: {"an answer that is none"},
    refused_for_no_reason: {"refused for no reason"},
    expired_for_no_reason: {"refused for no reason"},
    the_wrong_user_for_no_reason: {"refused for no reason"},
    stuck_for_no_reason: {"stuck at the OP"},
    a_post_twice: {"posted twice, or though refused", "a post lost"},
    a_post_lost: {"a post lost"},
    a_post_of_another: {"a post lost"},
    a_post_though_refused: {"posted twice, or though refused"},
    a_post_that_nobody_sent: {"a post of nobody"},
    a_post_of_somebody_who_may_not_and_a_lost_answer: {"posted twice, or though refused"},
    shown_after_the_sign_out: {"shown after the session had ended"},
    signed_in_after_the_sign_out: {"another user than before"},
    not_signed_out: {"not signed out"},
    shown_for_an_old_proof: {"shown for an old proof"},
    shown_twice_for_a_proof_on_the_way: {"shown for an old proof"},
    shown_long_after_the_way: {"shown for an old proof"},
    shown_for_a_proof_of_no_time: {"shown without a time"},
    another_while_the_answer_came: {"another user than before"},
    more_proved_while_the_answer_came: {"another proof than before"},
    a_form_not_kept: {"a form not kept"},
    a_form_sent_to_the_op_for_a_renewal: {"a form interrupted"},
    a_form_kept_that_could_have_been_sent: {"an elevation lost"},
    a_kept_form_shown_without_evidence: {"a kept form shown without evidence"},
    a_kept_form_shown_to_another: {"another's form", "a form that was not kept"},
    a_kept_form_sent_twice: {"sent twice", "posted twice, or though refused", "a post lost"},
    a_kept_form_sent_by_nobody: {"posted twice, or though refused"},
    a_kept_form_lost: {"a kept form lost"},
    a_kept_form_lost_before_its_page: {"a kept form lost"},
    renewed_before_it_was_due: {"renewed before it was due"},
    renewed_again_at_once: {"renewed before it was due"},
    not_renewed: {"not renewed though it was due"},
    a_form_renewed: {"a form interrupted"},
    a_script_sent_to_the_op: {"a script interrupted"},
    a_script_told_to_sign_in: {"to sign in anew for no reason"},
    unavailable_for_a_renewal: {"a server error"},
    nobody_renewed: {"nobody to renew"},
    a_sign_in_anew_for_no_reason: {"to sign in anew for no reason"},
    shown_though_disowned: {"shown though the OP had ceased to vouch"},
    shown_for_what_the_op_has_forgotten: {"shown without evidence"},
    shown_after_a_renewal_in_another_session_there: {"evidence of another session at the OP"},
    proof_lost_by_a_renewal: {"an elevation lost"},
    proof_given_by_a_renewal: {"shown without evidence"},
    disowned_for_no_reason: {"a renewal failed for no reason"},
    a_refresh_token_used_twice: {"a renewal failed for no reason"},
    a_refresh_that_nobody_knows_of: {"refreshed more often than is known"},
    a_refresh_failed_for_no_reason: {"a renewal failed for no reason"},
    renewed_by_an_op_that_has_forgotten: {"renewed by an OP that has forgotten"},
    not_let_in_at_the_end: {"not let in though all was calm"},
}


@pytest.mark.parametrize("wrong", WRONG, ids=lambda wrong: wrong.__name__)
def test_it_is_found(wrong: Callable[[Story], None]) -> None:
    story = Story()
    wrong(story)

    assert set(story.violations()) == WRONG[wrong]
