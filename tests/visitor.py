"""A person with a browser: Django's test client for the site, and their own walk through the OP's pages."""

from __future__ import annotations

from typing import Any
from urllib.parse import parse_qs, urlencode, urlsplit, urlunsplit

from django.contrib.sessions.backends.base import SessionBase
from django.test import Client

from stepup.testing.clients import StepUpClient
from stepup.testing.driver import Factor, Person

CALLBACK = "http://testserver/oidc/callback/"


class Visitor:
    """Walks between the site and the OP. What the OP sends back is for the test to carry over, or to tamper with."""

    def __init__(self, username: str) -> None:
        self.client: Client = StepUpClient()
        self.person = Person(username, f"{username}-password")

    @property
    def session(self) -> SessionBase:
        return self.client.session

    def get(self, path: str, **headers: str) -> Any:
        return self.client.get(path, headers=headers)

    def authenticate(self, challenge: Any, factor: Factor | None = "push", **choices: Any) -> str:
        """Do what the OP asks, after a challenge of the site. Returns where the OP sends the browser: the callback."""
        assert challenge.status_code in (302, 303), challenge.content
        return self.person.authenticate(challenge["Location"], factor=factor, **choices)

    def come_back(self, callback: str) -> Any:
        assert callback.startswith(CALLBACK), callback
        return self.client.get(callback.removeprefix("http://testserver"))

    def sign_in(self) -> Any:
        """Sign in with a password alone."""
        return self.come_back(self.authenticate(self.get("/oidc/authenticate/"), None))

    def step_up(self, path: str, factor: Factor = "push") -> Any:
        """Open a protected page, and do all that is asked. Returns what the callback answers."""
        return self.come_back(self.authenticate(self.get(path), factor))


def query(url: str) -> dict[str, str]:
    """The query of a URL in which no parameter stands twice."""
    values = parse_qs(urlsplit(url).query, keep_blank_values=True)
    assert all(len(value) == 1 for value in values.values()), url
    return {name: value[0] for name, value in values.items()}


def with_query(url: str, **changes: str | None) -> str:
    """The URL with some parameters changed or, where None, taken out."""
    parts = urlsplit(url)
    params = {name: value for name, value in {**query(url), **changes}.items() if value is not None}
    return urlunsplit(parts._replace(query=urlencode(params)))
