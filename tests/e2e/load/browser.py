"""A browser as far as a server can tell: cookies, one connection for each request, and several requests at once.

`requests` repeats a request that it could not send. Here a lost connection is what it is, and is written down.
"""

from __future__ import annotations

import html
import http.client
import itertools
import json
import re
import time
from dataclasses import dataclass, field
from http.cookies import SimpleCookie
from typing import Any
from urllib.parse import parse_qs, urlencode, urlsplit

#: Seconds that an answer may take. None takes as long, unless it never comes.
PATIENCE = 120

_numbers = itertools.count(1)


@dataclass(frozen=True)
class Request:
    """One request, of a whole page or of a `script`. `id` goes with it, for the site to write down."""

    method: str
    path: str
    form: dict[str, str] | None = None
    script: bool = False
    id: str = field(default_factory=lambda: str(next(_numbers)))


@dataclass(frozen=True)
class Answer:
    """What came of a request: no status where the connection was lost.

    `sent` and `held` are the session cookies that went with it and that the browser had afterwards, if it has learnt
    those of the answer; times are in seconds since the epoch.
    """

    request: Request
    began: float
    ended: float
    status: int | None
    location: str
    body: str
    error: str
    sent: str
    held: str
    learnt: bool

    @property
    def shown(self) -> dict[str, Any] | None:
        """What the page says, where it is one of the site's own."""
        return json.loads(self.body) if self.status == 200 and self.body.startswith('{"page"') else None

    @property
    def asks(self) -> str:
        """What the OP is asked for where the answer leads there; empty where it does not."""
        parts = urlsplit(self.location)
        if self.status not in (302, 303) or not parts.netloc:
            return ""
        asked = parse_qs(parts.query)
        if asked.get("prompt") == ["none"]:
            return "renewal"
        return "step-up" if "acr_values" in asked else "sign-in"

    @property
    def state(self) -> str:
        """The `state` of that request; empty where there is none."""
        return parse_qs(urlsplit(self.location).query)["state"][0] if self.asks else ""

    @property
    def verdict(self) -> str:
        """The verdict on a page that says why a step-up came to nothing."""
        found = re.search(r"stepup-verdict-(\w+)", self.body)
        return found[1] if found else ""

    @property
    def waiting(self) -> str:
        """The post that waits on this page, until the person sends it; empty where none does."""
        found = re.search(r"<dd>(user-[0-9a-f-]+)</dd>", self.body)
        return found[1] if found and self.button else ""

    @property
    def button(self) -> tuple[str, str] | None:
        """Where the button on such a page sends its form, and with which token; None where there is none."""
        form = r'action="([^"]+)" data-stepup-send>\s*<input type="hidden" name="csrfmiddlewaretoken" value="(\w+)">'
        found = re.search(form, self.body)
        return (html.unescape(found[1]), found[2]) if found else None

    @property
    def retry(self) -> str:
        """Where "Try again" leads on such a page; empty where it is not offered."""
        found = re.search(r'href="([^"]+)">Try again<', self.body)
        return html.unescape(found[1]) if found else ""


class Browser:
    """The cookies of one browser, on one site."""

    def __init__(self, port: int) -> None:
        self.port = port
        self.cookies: dict[str, str] = {}

    def open(
        self, *requests: Request, cookies: dict[str, str] | None = None, learn: bool | None = None
    ) -> list[Answer]:
        """Send requests at once and read their answers, in order.

        With other `cookies` than the browser's it does not `learn` those of the answers, unless it is told to.
        """
        learn = cookies is None if learn is None else learn
        given = self.cookies if cookies is None else cookies
        sent = given.get("sessionid", "")
        began = time.time()
        lines = [self._send(request, given) for request in requests]
        answers = []
        for request, line in zip(requests, lines, strict=True):
            status, location, body, error = None, "", "", ""
            try:
                if isinstance(line, str):
                    raise ConnectionError(line)
                response = line.getresponse()
                body = response.read().decode()
                status, location = response.status, response.getheader("Location") or ""
                if learn:
                    self._learn(response)
            except (OSError, http.client.HTTPException) as lost:
                error = repr(lost)
            finally:
                if not isinstance(line, str):
                    line.close()
            held = self.cookies.get("sessionid", "") if learn else sent
            answers.append(Answer(request, began, time.time(), status, location, body, error, sent, held, learn))
        return answers

    def _send(self, request: Request, cookies: dict[str, str]) -> http.client.HTTPConnection | str:
        """The connection on which the answer will come, or why none will."""
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=PATIENCE)
        headers = {
            "Accept": "application/json" if request.script else "text/html",
            "Connection": "close",
            "Cookie": "; ".join(f"{name}={value}" for name, value in cookies.items()),
            "X-Request-Id": request.id,
        }
        body = None
        if request.form is not None:
            headers |= {
                "Content-Type": "application/x-www-form-urlencoded",
                "X-CSRFToken": cookies.get("csrftoken", ""),
            }
            body = urlencode(request.form)
        try:
            connection.request(request.method, request.path, body, headers)
        except OSError as lost:
            connection.close()
            return repr(lost)
        return connection

    def _learn(self, response: http.client.HTTPResponse) -> None:
        for line in response.headers.get_all("Set-Cookie") or ():
            for name, morsel in SimpleCookie(line).items():
                if morsel.value and morsel["max-age"] != "0":
                    self.cookies[name] = morsel.value
                else:
                    self.cookies.pop(name, None)
