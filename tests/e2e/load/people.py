"""What the users do: a plan for each, made from a seed, and the person at a browser who carries it out.

They know nothing of what should happen. They take what they are answered, write it down, and go on as people do; the
checker judges afterwards.
"""

from __future__ import annotations

import random
import time
from collections.abc import Callable
from urllib.parse import urlsplit

import requests

from stepup.testing.driver import Person, StuckError
from stepup.testing.provider import User
from tests.e2e.load import REMEMBER
from tests.e2e.load.browser import Answer, Browser, Request
from tests.e2e.load.journal import Journal

#: How long somebody waits who finds the OP closed before they try again, in seconds; and how often they do.
A_WHILE = (0.5, 1.5)
TRIES = 60

#: How often one page may lead to the OP: for a renewal, for a sign-in in its place, for a step-up, and once more.
MOST_TRIPS = 6

#: The requests of the user's own browser that are sent at once, at most.
BURST = 4
#: The requests of scripts that come with them.
SCRIPTS = 2


def account(number: int) -> User:
    """One of the OP's accounts. Each of them has a phone."""
    name = f"user-{number:03}"
    return User(username=name, password=f"{name}-password", email=f"{name}@harbour.example", push=True)


class Simulated:
    """A person with a browser, who signs in to the site through the OP, and all the rest.

    Args:
        me: whose browser it is.
        other: whose account they once in a while take by mistake.
        remember: whether they want to be remembered, and so are renewed by refresh token.
    """

    def __init__(
        self, me: User, other: User, port: int, journal: Journal, rng: random.Random, *, remember: bool = False
    ) -> None:
        self.me, self.other = me, other
        self.journal, self.rng = journal, rng
        self.browser = Browser(port)
        if remember:
            self.browser.cookies[REMEMBER] = "1"
        self.person = Person(me.username, me.password)

    # What a plan is made of

    def sign_in(self) -> None:
        """With the password alone."""
        self._go_through(self._get("/oidc/authenticate/?next=/whoami/"), factor=False)

    def step_up(self) -> None:
        """Open a page that wants a second factor, and give it."""
        self._go_through(self._get("/salary/"))

    def step_up_again(self) -> None:
        """Open a page that wants it to have been given lately."""
        answer = self._go_through(self._get("/recent/"))
        if answer is not None and answer.verdict == "stale" and answer.retry:
            self._go_through(self._get(answer.retry))

    def step_up_while_looking(self) -> None:
        """Other tabs ask for an open page just while the answer of the OP comes in."""
        self._go_through(self._get("/salary/"), beside=("/whoami/",))

    def post(self) -> None:
        """Send a form and, where it is kept for a step-up, mostly take the trouble."""
        if "csrftoken" not in self.browser.cookies:
            self._get("/whoami/")
        if "csrftoken" not in self.browser.cookies:
            return  # no page with a form on it
        id_ = f"{self.me.username}-{self.rng.getrandbits(64):016x}"
        answer = self._note(self.browser.open(Request("POST", "/posts/", {"id": id_})), post=id_)[0]
        if answer.asks and self.rng.random() < 0.7:
            self._send(self._go_through(answer), id_)

    def look(self) -> None:
        """Look at pages, and go nowhere from there, unless to renew the sign-in."""
        for path in ("/whoami/", "/salary/"):
            if (answer := self._get(path)).asks == "renewal":
                self._renew(answer)
        self._note(self.browser.open(Request("GET", "/whoami/", script=True)))

    def look_at_many(self) -> None:
        """Several tabs at once, and what scripts in them ask for. A tab that leads to the OP to renew goes there."""
        pages = [Request("GET", self.rng.choice(("/whoami/", "/salary/"))) for _ in range(BURST)]
        scripts = [Request("GET", "/whoami/", script=True) for _ in range(SCRIPTS)]
        for answer in self._note(self.browser.open(*pages, *scripts)):
            if answer.asks == "renewal":
                self._renew(answer)

    def cancel(self) -> None:
        """Begin a step-up, and leave it."""
        self._go_through(self._get("/salary/"), cancel=True)

    def take_the_other_account(self) -> None:
        """Be somebody else at the OP than here."""
        if self._is_signed_in():
            other = Person(self.other.username, self.other.password)
            self._go_through(
                self._get("/oidc/authenticate/?stepup=mfa&next=/salary/"), person=other, account=self.other
            )
            _close(other)

    def be_robbed(self) -> None:
        """Somebody else opens the address that the OP sends this browser to, before it does."""
        self._go_through(self._get("/salary/"), robbed=True)

    def sign_out(self) -> None:
        """And have a look whether the old cookie is still good for something."""
        if self._is_signed_in():
            old = dict(self.browser.cookies)
            self._note(self.browser.open(Request("POST", "/oidc/logout/", {})))
            self._replay(old)

    def come_to_an_end(self) -> bool:
        """When all is calm again: whether the protected page is shown in the end. Then they sign out."""
        for _ in range(3):
            answer = self._go_through(self._get("/salary/"))
            if answer is not None and answer.shown is not None:
                self.sign_out()
                return True
        return False

    def close(self) -> None:
        _close(self.person)

    def _send(self, page: Answer | None, id_: str) -> None:
        """Press the button under a form that was kept; some press twice. Where the site does not answer, look again."""
        for _ in range(TRIES):
            if page is None or page.button is None:
                return
            action, token = page.button
            presses = [
                Request("POST", action, {"csrfmiddlewaretoken": token}) for _ in range(self.rng.choice((1, 1, 2)))
            ]
            answers = self._note(self.browser.open(*presses), post=id_)
            if any(answer.status is None for answer in answers):
                page = self._go_through(self._get(page.request.path))
            else:
                # It may have to wait once more, if it was kept for a sign-in alone.
                page = self._go_through(next((answer for answer in answers if answer.asks), answers[0]))

    # What all of them do

    def _is_signed_in(self) -> bool:
        answer = self._get("/whoami/")
        if answer.asks == "renewal":
            answer = self._go_through(answer) or answer
        return answer.shown is not None and answer.shown["user"] == self.me.email

    def _get(self, path: str) -> Answer:
        return self._note(self.browser.open(Request("GET", path)))[0]

    def _replay(self, cookies: dict[str, str]) -> None:
        for path in ("/whoami/", "/salary/"):
            self._note(self.browser.open(Request("GET", path), cookies=cookies))

    def _go_through(
        self,
        answer: Answer,
        *,
        factor: bool = True,
        person: Person | None = None,
        account: User | None = None,
        cancel: bool = False,
        robbed: bool = False,
        beside: tuple[str, ...] = (),
    ) -> Answer | None:
        """Go to the OP as often as answers lead there, come back, and go where that leads.

        A renewal that is due comes before what was wanted, and what goes wrong on purpose is for that.

        Returns the page at the end of it; None where they did not get there.
        """
        for _ in range(MOST_TRIPS):
            if not answer.asks:
                return answer
            if answer.asks == "renewal":
                answer = self._renew(answer)
                continue
            back = self._walk(person or self.person, account or self.me, answer, factor, cancel)
            if not back:
                return None
            answer = self._come_back(back, answer.state, robbed=robbed, beside=beside)
        return answer

    def _renew(self, asked: Answer) -> Answer:
        """Through the OP without seeing anything of it; where it is closed, back to the page."""
        back = self._walk(self.person, self.me, asked, factor=False, cancel=False)
        return self._come_back(back, asked.state) if back else self._get(asked.request.path)

    def _come_back(self, back: str, state: str, *, robbed: bool = False, beside: tuple[str, ...] = ()) -> Answer:
        """Open the address that the OP sends the browser to, and the one that this leads to, if it is here."""
        parts = urlsplit(back)
        callback = Request("GET", f"{parts.path}?{parts.query}")
        if robbed:
            self._note(self.browser.open(Request("GET", callback.path), cookies={}), state=state)
        before = dict(self.browser.cookies)
        looks = (Request("GET", path) for path in beside)
        came_back = self._note(self.browser.open(callback, *looks), state=state)[0]
        if came_back.status is None:
            # As somebody does who is shown that the site does not answer.
            came_back = self._note(self.browser.open(Request("GET", callback.path)), state=state)[0]
        if came_back.status != 302 or came_back.asks:
            return came_back
        # Sent before the answer came, and late on the way: the cookie that it names is gone.
        self._note(self.browser.open(*(Request("GET", path) for path in beside), cookies=before, learn=True))
        page = self._get(came_back.location)
        if self.rng.random() < 0.2:
            self._replay(before)
        return page

    def _walk(self, person: Person, account: User, asked: Answer, factor: bool, cancel: bool) -> str:
        url, silent = asked.location, asked.asks == "renewal"
        began, back, error, tries = time.time(), "", "", 0
        # Whoever is shown an error where nothing should have been shown at all goes back at once.
        while not back and tries < (1 if silent else TRIES):
            tries += 1
            try:
                back = person.authenticate(url, factor="push" if factor else None, cancel=cancel)
            except StuckError as stuck:
                error = f"stuck: {stuck}"
                break
            except requests.RequestException as lost:
                error = f"lost: {type(lost).__name__}"
                time.sleep(self.rng.uniform(*A_WHILE))
        self.journal.write(
            what="walk",
            user=self.me.username,
            account=account.username,
            state=asked.state,
            factor=factor and asked.asks == "step-up",
            silent=silent,
            dated="max_age=" in url or "prompt=login" in url,
            began=began,
            ended=time.time(),
            back=bool(back),
            declined="error=" in urlsplit(back).query,
            tries=tries,
            error=error,
        )
        return back

    def _note(self, answers: list[Answer], *, state: str = "", post: str = "") -> list[Answer]:
        for answer in answers:
            request = answer.request
            self.journal.write(
                what="request",
                user=self.me.username,
                request=request.id,
                method=request.method,
                script=request.script,
                remember=REMEMBER in self.browser.cookies,
                path=urlsplit(request.path).path,
                post=post,
                waiting=answer.waiting,
                state=state if request.path.startswith("/oidc/callback/") else "",
                asks=answer.asks,
                asked=answer.state,
                beside=answer is not answers[0] and answers[0].request.path.startswith("/oidc/callback/"),
                began=answer.began,
                ended=answer.ended,
                status=answer.status,
                location=answer.location.partition("?")[0],
                verdict=answer.verdict,
                shown=answer.shown,
                error=answer.error,
                sent=answer.sent,
                held=answer.held,
                learnt=answer.learnt,
            )
        return answers


#: What a plan draws from, and how often. Another thing that users do is a method above, and a line here.
ACTIONS: dict[Callable[[Simulated], object], int] = {
    Simulated.sign_in: 3,
    Simulated.step_up: 8,
    Simulated.step_up_again: 3,
    Simulated.step_up_while_looking: 2,
    Simulated.post: 8,
    Simulated.look: 5,
    Simulated.look_at_many: 2,
    Simulated.cancel: 1,
    Simulated.take_the_other_account: 1,
    Simulated.be_robbed: 1,
    Simulated.sign_out: 2,
}


def plan(rng: random.Random, length: int) -> list[Callable[[Simulated], object]]:
    """What one user does, in order."""
    return rng.choices(list(ACTIONS), list(ACTIONS.values()), k=length)


def _close(person: Person) -> None:
    person.session.close()
    person.phone.close()
