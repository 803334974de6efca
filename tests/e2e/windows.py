"""A browser of its own for each person, which notices everything that goes wrong on any page."""

from __future__ import annotations

import copy
import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from playwright.sync_api import (
    Browser,
    BrowserContext,
    ConsoleMessage,
    Locator,
    Page,
    Request,
    Response,
    ViewportSize,
    expect,
    sync_playwright,
)

from tests.e2e.demo import ROOT, Demo

SCREENSHOTS = ROOT / "build" / "screenshots"
DESKTOP: ViewportSize = {"width": 1100, "height": 760}
PHONE: ViewportSize = {"width": 360, "height": 740}

PASSWORDS = {"anna": "lighthouse", "ben": "drydock", "carl": "mooring"}

#: What a page has to look like whatever it shows. Runs in the page; returns what is wrong.
EXAMINATION = (Path(__file__).parent / "examination.js").read_text(encoding="utf-8")


CHROMIUM = "/usr/bin/chromium"
FLAGS = (
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
)


@contextmanager
def running_browser() -> Iterator[Browser]:
    """Debian's Chromium, without a window of its own on the screen."""
    assert Path(CHROMIUM).exists(), f"{CHROMIUM} is not there: `make e2e` installs it"
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(
            executable_path=CHROMIUM,
            args=FLAGS,
            # As people have it: a page that is left may be kept, and come back, whole, with the back button.
            ignore_default_args=["--disable-back-forward-cache"],
        )
        yield browser
        browser.close()


class Window:
    """One browser window: cookies, cache and history of its own, and one page to begin with."""

    def __init__(
        self,
        browser: Browser,
        demo: Demo,
        *,
        phone: bool = False,
        dark: bool = False,
        scripts: bool = True,
        scale: float = 1,
    ) -> None:
        self.demo = demo
        self.problems: list[str] = []
        self.context: BrowserContext = browser.new_context(
            viewport=PHONE if phone else DESKTOP,
            has_touch=phone,
            is_mobile=phone,
            color_scheme="dark" if dark else "light",
            java_script_enabled=scripts,
            device_scale_factor=scale,
            locale="en-GB",
        )
        self.context.set_default_timeout(15_000)
        self.context.on("console", self._console)
        self.context.on("weberror", lambda error: self.problems.append(f"script error: {error.error}"))
        self.context.on("response", self._response)
        self.context.on("requestfailed", self._request_failed)
        self.page = self.context.new_page()

    def beside(self) -> Window:
        """Another tab of the same browser."""
        tab = copy.copy(self)
        tab.page = self.context.new_page()
        return tab

    # What people do

    def open(self, path: str) -> None:
        """Go to a page of the intranet, as if its address had been typed."""
        self.page.goto(self.demo.site + path)

    def sign_in(self, name: str) -> None:
        """From the public front page to the start page, with a password."""
        self.open("")
        self.page.get_by_role("link", name="Sign in with Harbour ID").click()
        self.give_password(name)
        expect(self.heading).to_have_text(f"Hello {name.capitalize()}")

    def give_password(self, name: str) -> None:
        """Fill in the sign-in page of the OP."""
        expect(self.heading).to_have_text("Sign in")
        self.page.get_by_label("Username").fill(name)
        self.page.get_by_label("Password").fill(PASSWORDS[name])
        self.page.get_by_role("button", name="Sign in").click()

    def ask_phone(self) -> str:
        """Have the OP ask the phone; the number to choose there."""
        expect(self.heading).to_have_text("Confirm that it is you")
        self.page.get_by_role("button", name="Ask my phone").click()
        expect(self.heading).to_have_text("Look at your phone")
        return self.page.locator("#number").inner_text()

    def tab_to(self, name: str) -> None:
        """Press Tab until the link or button of this name has the focus."""
        for _ in range(40):
            self.page.keyboard.press("Tab")
            if self.page.locator(":focus").inner_text() == name:
                return
        raise AssertionError(f"{name!r} cannot be reached with the keyboard")

    def sign_out(self) -> None:
        self.page.get_by_role("button", name="Sign out").click()
        expect(self.page.get_by_role("link", name="Sign in with Harbour ID")).to_be_visible()

    def forget_provider(self) -> None:
        """The OP's session ends, and that of the site goes on."""
        self.context.clear_cookies(name="stepup_op_session")

    # What they see

    @property
    def heading(self) -> Locator:
        return self.page.get_by_role("heading", level=1)

    def expect_page(self, path: str, heading: str) -> None:
        """The browser has come to this page of the intranet, and its query is clean."""
        expect(self.page).to_have_url(re.compile(re.escape(self.demo.site + path) + "$"), timeout=15_000)
        expect(self.heading).to_have_text(heading)

    def expect_at_provider(self, heading: str) -> None:
        """The browser is at the OP."""
        expect(self.page).to_have_url(re.compile(re.escape(self.demo.provider)))
        expect(self.heading).to_have_text(heading)

    def picture(self, name: str) -> None:
        """Keep what the page looks like, and examine it."""
        self.page.screenshot(path=SCREENSHOTS / f"{name}.png", full_page=True)
        self.problems += [f"{name}: {problem}" for problem in self.page.evaluate(EXAMINATION)]

    # What goes wrong

    def _console(self, message: ConsoleMessage) -> None:
        # A page with an error status is also reported as a resource that failed to load; `_response` judges those.
        if message.type in ("error", "warning") and not message.text.startswith("Failed to load resource"):
            self.problems.append(f"{message.page.url if message.page else ''}: {message.text}")

    def _response(self, response: Response) -> None:
        if response.status >= 400 and not response.request.is_navigation_request():
            self.problems.append(f"{response.url}: status {response.status}")

    def _request_failed(self, request: Request) -> None:
        # Going on before the old page has loaded everything is no failure.
        if request.failure != "net::ERR_ABORTED":
            self.problems.append(f"{request.url}: {request.failure}")


class Phone(Window):
    """The phone of a person: the OP's page that plays it."""

    def __init__(self, browser: Browser, demo: Demo, *, dark: bool = False, scale: float = 1) -> None:
        super().__init__(browser, demo, phone=True, dark=dark, scale=scale)

    def look(self, name: str) -> Page:
        self.page.goto(f"{self.demo.provider}phone/?user={name}")
        return self.page

    def approve(self, name: str, number: str) -> None:
        self.look(name)
        # Several may be waiting; the newest comes last.
        radio = self.page.get_by_role("radio", name=number, exact=True).last
        radio.check()
        self.page.locator("form", has=radio).last.get_by_role("button", name="Approve").click()
        expect(self.page.get_by_text("Approved.")).to_be_visible()

    def deny(self, name: str) -> None:
        self.look(name)
        self.page.get_by_role("button", name="Deny").last.click()
        expect(self.page.get_by_text("Denied.")).to_be_visible()

    def code(self, name: str) -> str:
        """The one-time code that the authenticator app shows."""
        return self.look(name).locator("#code").inner_text()
