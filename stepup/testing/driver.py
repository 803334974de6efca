"""A person who walks through the provider's pages over HTTP, as a browser would, so that tests need none.

    person = Person("anna", "anna-password")
    back = person.authenticate(authorization_url, factor="push")

`back` is where the provider sends the browser in the end: the redirect URI of the application, with a code or an
error. It is not requested.
"""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from html.parser import HTMLParser
from typing import Literal
from urllib.parse import urljoin, urlsplit

import requests

Factor = Literal["push", "totp"]

#: Seconds to wait for one page.
PATIENCE = 10


class StuckError(AssertionError):
    """The person cannot go on. The message names the page and what it says."""


@dataclass
class Form:
    """A form as it would be sent: where to, and what its fields hold. `choices` are the values of radio buttons."""

    action: str
    fields: dict[str, str] = field(default_factory=dict)
    choices: dict[str, list[str]] = field(default_factory=dict)


class Page(HTMLParser):
    """What a person sees of a page: its name, heading and notices, forms and links, texts by id, and what is framed."""

    def __init__(self, response: requests.Response) -> None:
        super().__init__()
        self.url = response.url
        self.status = response.status_code
        self.name = ""
        self.heading = ""
        self.notices: list[str] = []
        self.forms: dict[str, Form] = {}
        self.links: dict[str, str] = {}
        self.texts: dict[str, str] = {}
        self.frames: list[str] = []
        self._form: Form | None = None
        self._reading = ""
        self.feed(response.text)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        given = {name: value or "" for name, value in attrs}
        if "data-page" in given:
            self.name = given["data-page"]
        if tag == "form":
            self._form = Form(urljoin(self.url, given.get("action", "")))
            self.forms[given.get("id", f"form-{len(self.forms)}")] = self._form
        elif tag == "input" and self._form is not None:
            self._input(self._form, given)
        elif tag == "a" and "id" in given:
            self.links[given["id"]] = urljoin(self.url, given.get("href", ""))
        elif tag == "iframe":
            self.frames.append(given.get("src", ""))
        elif tag == "output" and "id" in given:
            self._reading = given["id"]
        elif tag == "h1":
            self._reading = "heading"
        elif given.get("role") in {"alert", "status"}:
            self._reading = "notice"

    def handle_endtag(self, tag: str) -> None:
        if tag == "form":
            self._form = None
        self._reading = ""

    def handle_data(self, data: str) -> None:
        if self._reading == "heading":
            self.heading += data
        elif self._reading == "notice":
            self.notices.append(data.strip())
        elif self._reading:
            self.texts[self._reading] = data.strip()

    def __str__(self) -> str:
        said = f": {' '.join(self.notices)}" if self.notices else ""
        return f"{self.name or 'not a page of the provider'} ({self.status}, {self.heading!r}{said})"

    @staticmethod
    def _input(form: Form, given: dict[str, str]) -> None:
        name, value = given.get("name", ""), given.get("value", "")
        if given.get("type") == "radio":
            form.choices.setdefault(name, []).append(value)
        else:
            form.fields[name] = value


class Person:
    """One person with one browser and one phone.

    The browser's cookies are those of `session`; `phone` is a device of its own. A `session` that also visits the
    application shares its cookies with the provider, as a browser does where both are on one host. `certificate` is
    the path of the one to trust where the provider speaks TLS.
    """

    #: Pages between the authorization request and its answer, at most; more of them go round in circles.
    most_pages = 20

    def __init__(
        self, username: str, password: str, *, session: requests.Session | None = None, certificate: str = ""
    ) -> None:
        self.username = username
        self.password = password
        self.session = _direct(certificate) if session is None else session
        self.phone = _direct(certificate)
        #: What the page after signing out had in frames.
        self.frames: list[str] = []
        #: The last code read from the phone, which is good only once.
        self._used_code = ""

    def authenticate(
        self,
        url: str,
        *,
        factor: Factor | None = "push",
        deny: bool = False,
        cancel: bool = False,
    ) -> str:
        """Open an authorization URL, and do what the pages ask for. Returns where the provider sends the browser.

        `factor` is what this person proves when asked for a second one; None: they have none at hand. With `deny` they
        deny on the phone, with `cancel` they press "Cancel" on the first page that has it. A code from the phone may
        have been used a moment ago; then they wait for the next one, up to half a minute.
        Raises `StuckError`.
        """
        steps = 0
        response = self._get(url)
        while not (back := _leaves(response, url)):
            steps += 1
            if steps > self.most_pages:
                raise StuckError(f"going round in circles at {response.url}")
            if response.is_redirect:
                response = self._get(urljoin(response.url, response.headers["Location"]))
                continue
            page = Page(response)
            if cancel and "cancel" in page.forms:
                response = self._send(page, "cancel")
            else:
                response = self._go_on(page, factor, deny=deny)
        return back

    def wait(self, seconds: int) -> None:
        """Wait for the next code from the authenticator app."""
        time.sleep(seconds)

    def sign_out(self, url: str) -> str:
        """Open an end session URL, and confirm it where asked. Returns where the provider sends the browser.

        That is the URL of its own page where it sends the browser nowhere. What that page has in frames, to tell other
        applications, is in `frames` then, and is not requested. Raises `StuckError`.
        """
        self.frames = []
        response = self._get(url)
        if not response.is_redirect and (page := Page(response)).name == "sign-out":
            response = self._send(page, "confirm")
        if back := _leaves(response, url):
            return back
        page = Page(response)
        if page.name != "signed-out":
            raise StuckError(f"not signed out, at {page}")
        self.frames = page.frames
        return page.links.get("continue", page.url)

    def _go_on(self, page: Page, factor: Factor | None, *, deny: bool) -> requests.Response:
        if page.notices or page.status != 200:
            return self._after_notice(page)
        if page.name == "sign-in":
            return self._send(page, "sign-in", username=self.username, password=self.password)
        if page.name == "choose-account":
            return self._send(page, "continue")
        if page.name == "no-second-factor":
            return self._send(page, "cancel")
        if page.name == "second-factor" and factor == "push":
            return self._send(page, "push", push="1")
        if page.name == "second-factor" and factor == "totp":
            self._used_code = self._code(page)
            return self._send(page, "code", code=self._used_code)
        if page.name == "push":
            self._answer_phone(page, deny=deny)
            return self._get(page.links["continue"])
        raise StuckError(f"stuck at {page}, with {factor or 'no second factor'} at hand")

    def _after_notice(self, page: Page) -> requests.Response:
        if page.name == "second-factor" and any("used already" in notice for notice in page.notices):
            return self._get(page.url)
        raise StuckError(f"stuck at {page}")

    def _answer_phone(self, page: Page, *, deny: bool) -> None:
        phone = self._phone_page(page)
        number = page.texts["number"]
        for form in phone.forms.values():
            if number in form.choices.get("number", []):
                pressed = {"deny": "1"} if deny else {"approve": "1", "number": number}
                answer = self.phone.post(
                    form.action, data={**form.fields, **pressed}, headers=_from(form), timeout=PATIENCE
                )
                answer.raise_for_status()
                return
        raise StuckError(f"the phone of {self.username} was not asked about {number}")

    def _code(self, page: Page) -> str:
        """A code from the phone that has not been used yet."""
        while True:
            phone = self._phone_page(page)
            code = phone.texts.get("code", "")
            if not code:
                raise StuckError(f"the phone of {self.username} has no authenticator app")
            if code != self._used_code:
                return code
            self.wait(int(phone.texts["seconds"]))

    def _phone_page(self, page: Page) -> Page:
        response = self.phone.get(urljoin(page.url, "/phone/"), params={"user": self.username}, timeout=PATIENCE)
        return Page(response)

    def _get(self, url: str) -> requests.Response:
        return self.session.get(url, allow_redirects=False, timeout=PATIENCE)

    def _send(self, page: Page, name: str, **fields: str) -> requests.Response:
        if name not in page.forms:
            raise StuckError(f"there is no form {name!r} on {page}")
        form = page.forms[name]
        return self.session.post(
            form.action,
            data={**form.fields, **fields},
            headers=_from(form),
            allow_redirects=False,
            timeout=PATIENCE,
        )


def _leaves(response: requests.Response, url: str) -> str:
    """The address a response redirects to, where that is not at the provider; else nothing."""
    if not response.is_redirect:
        return ""
    target = urljoin(response.url, response.headers["Location"])
    there, here = urlsplit(target), urlsplit(url)
    return "" if (there.scheme, there.netloc) == (here.scheme, here.netloc) else target


def _from(form: Form) -> dict[str, str]:
    """Where the form was, which browsers say and a site with TLS wants to know."""
    parts = urlsplit(form.action)
    return {"Origin": f"{parts.scheme}://{parts.netloc}"}


def _direct(certificate: str) -> requests.Session:
    session = requests.Session()
    session.verify = certificate or True
    # No proxy and no .netrc of the machine: the provider is on this one.
    session.trust_env = False
    return session
