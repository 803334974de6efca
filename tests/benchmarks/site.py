"""A site in a process of its own, whose CPU time is its alone: with the package, the base library, or by hand.

Its input is a line of JSON for each thing to do, its output a line for what came of it.
"""

from __future__ import annotations

import gc
import http.client
import json
import statistics
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from http.cookies import SimpleCookie
from typing import Any
from urllib.parse import parse_qs, quote, urlsplit

import django
from django.conf import settings as django_settings
from django.test import RequestFactory

settings: Any = django_settings

THREADS = 8
EMAIL = "anna@example.com"

#: What a site of each kind is made of: its app, its backend, its URLs, and the middleware that comes to Django's.
KINDS: dict[str, dict[str, Any]] = {
    "ours": {
        "app": ["stepup"],
        "backend": "stepup.backends.StepUpBackend",
        "urls": "stepup.urls",
        "middleware": ["stepup.middleware.StepUpMiddleware"],
    },
    "base": {
        "app": ["mozilla_django_oidc"],
        "backend": "mozilla_django_oidc.auth.OIDCAuthenticationBackend",
        "urls": "mozilla_django_oidc.urls",
        "middleware": [],
        "endpoints": {
            "OIDC_OP_AUTHORIZATION_ENDPOINT": "authorize",
            "OIDC_OP_TOKEN_ENDPOINT": "token",
            "OIDC_OP_USER_ENDPOINT": "userinfo",
            "OIDC_OP_JWKS_ENDPOINT": "keys",
        },
    },
    "floor": {
        "app": [],
        "backend": "django.contrib.auth.backends.ModelBackend",
        "urls": "tests.benchmarks.floor",
        "middleware": [],
    },
}


def configure(kind: str, sessions: str, issuer: str, database: str, bundle: str) -> None:
    parts = KINDS[kind]
    settings.configure(
        SECRET_KEY="a-key-for-benchmarks-only-which-is-long-enough-for-django",
        ALLOWED_HOSTS=["testserver"],
        ROOT_URLCONF="tests.benchmarks.urls",
        ROUND_TRIP_URLS=parts["urls"],
        USE_TZ=True,
        DATABASES={
            "default": {
                "ENGINE": "django.db.backends.sqlite3",
                "NAME": database,
                "OPTIONS": {
                    "timeout": 30,
                    "transaction_mode": "IMMEDIATE",
                    # No disk is measured here.
                    "init_command": "PRAGMA journal_mode=WAL; PRAGMA synchronous=OFF;",
                },
            }
        },
        INSTALLED_APPS=[
            "django.contrib.auth",
            "django.contrib.contenttypes",
            "django.contrib.sessions",
            *parts["app"],
        ],
        MIDDLEWARE=[
            "django.contrib.sessions.middleware.SessionMiddleware",
            "django.middleware.common.CommonMiddleware",
            "django.middleware.csrf.CsrfViewMiddleware",
            "django.contrib.auth.middleware.AuthenticationMiddleware",
            *parts["middleware"],
        ],
        AUTHENTICATION_BACKENDS=[parts["backend"]],
        SESSION_ENGINE=f"django.contrib.sessions.backends.{sessions}",
        LOGIN_REDIRECT_URL="/",
        ISSUER=issuer,
        STEPUP={"PROVIDER": "auth0", "ISSUER": issuer},
        OIDC_RP_CLIENT_ID="site",
        OIDC_RP_CLIENT_SECRET="a-client-secret-that-is-long-enough",
        OIDC_RP_SIGN_ALGO="RS256",
        OIDC_RP_SCOPES="openid email",
        OIDC_VERIFY_SSL=bundle,
        OIDC_TIMEOUT=10,
        OIDC_USE_PKCE=True,
        **{name: f"{issuer}{path}" for name, path in parts.get("endpoints", {}).items()},
    )
    django.setup()


class Site:
    """The site, with people who sign in and step up."""

    def __init__(self, browsers_go_to: str) -> None:
        from django.contrib.auth import get_user_model
        from django.core.handlers.base import BaseHandler
        from django.core.management import call_command

        call_command("migrate", verbosity=0)
        get_user_model().objects.create_user("anna", email=EMAIL)
        self.handler = BaseHandler()
        self.handler.load_middleware()
        self.factory = RequestFactory()
        self.op = http.client.HTTPConnection(urlsplit(browsers_go_to).netloc)
        self.pool = ThreadPoolExecutor(THREADS)
        self.signed_in: list[str] = []

    def callbacks(self, count: int, *, step_up: bool) -> list[Any]:
        """Requests for the callback, each of a browser of its own that has been to the OP."""
        if step_up:
            while len(self.signed_in) < count:
                self.signed_in.append(self._session_key(self._serve(self._callback(None))))
        return [self._callback(self.signed_in[number] if step_up else None) for number in range(count)]

    def measure(self, count: int, threads: int, *, step_up: bool) -> dict[str, float]:
        """Milliseconds for each callback: CPU time of this process (the mean), and wall time (the median)."""
        requests = self.callbacks(count, step_up=step_up)
        walls: list[float] = []
        barrier = threading.Barrier(threads)

        def work(mine: list[Any]) -> list[Any]:
            responses = []
            barrier.wait()
            for request in mine:
                start = time.perf_counter()
                responses.append(self.handler.get_response(request))
                walls.append(time.perf_counter() - start)
            return responses

        shares = [requests[number::threads] for number in range(threads)]
        gc.collect()
        gc.disable()
        start = time.process_time()
        responses = [response for share in self.pool.map(work, shares) for response in share]
        spent = time.process_time() - start
        gc.enable()
        keys = [self._session_key(response) for response in responses]
        if step_up:
            self.signed_in[:count] = keys
        return {"cpu": spent / count * 1000, "wall": statistics.median(walls) * 1000}

    def queries(self, *, step_up: bool) -> int:
        from django.db import connection
        from django.test.utils import CaptureQueriesContext

        (request,) = self.callbacks(1, step_up=step_up)
        with CaptureQueriesContext(connection) as captured:
            response = self.handler.get_response(request)
        if step_up:
            self.signed_in[0] = self._session_key(response)
        return len(captured)

    def bytes_added(self) -> dict[str, int]:
        """What a sign-in adds to the session before and after its answer, and then a step-up, in bytes of JSON."""
        response = self._serve(self._request("/oidc/authenticate/?next=/salary/", None))
        key = self._session_key(response)
        pending = self._size(key)
        signed_in = self._session_key(self._serve(self._request(self._at_op(response["Location"]), key)))
        login = self._size(signed_in)
        response = self._serve(self._request("/oidc/authenticate/?stepup=mfa&next=/salary/", signed_in))
        asked = self._size(signed_in) - login
        elevated = self._session_key(self._serve(self._request(self._at_op(response["Location"]), signed_in)))
        return {"pending": pending, "login": login, "pending step-up": asked, "elevated": self._size(elevated)}

    @staticmethod
    def _size(key: str) -> int:
        from django.contrib.sessions.backends.db import SessionStore
        from django.core.signing import JSONSerializer

        # Django's own, and what is there for the seconds until the page is shown, are no part of it.
        apart = ("_auth_user_", "stepup_settled")
        stored = dict(SessionStore(key).items())
        return len(JSONSerializer().dumps({k: v for k, v in stored.items() if not k.startswith(apart)}))

    def _callback(self, key: str | None) -> Any:
        response = self._serve(self._request("/oidc/authenticate/?next=/" + ("&stepup=mfa" if key else ""), key))
        return self._request(self._at_op(response["Location"]), key or self._session_key(response))

    def _request(self, path: str, key: str | None) -> Any:
        request = self.factory.get(path)
        if key is not None:
            request.COOKIES[settings.SESSION_COOKIE_NAME] = key
        return request

    def _serve(self, request: Any) -> Any:
        return self.handler.get_response(request)

    def _at_op(self, location: str) -> str:
        """Where the OP sends the browser: the callback."""
        self.op.request("GET", f"/authorize?{urlsplit(location).query}&issuer={quote(settings.ISSUER)}")
        callback = json.loads(self.op.getresponse().read())["callback"]
        return str(callback).removeprefix("http://testserver")

    @staticmethod
    def _session_key(response: Any) -> str:
        if response.status_code != 302 or parse_qs(urlsplit(response["Location"]).query).get("error"):
            raise AssertionError(f"{response.status_code}: {response.content.decode()}")
        cookies: SimpleCookie = response.cookies
        return cookies[settings.SESSION_COOKIE_NAME].value


def main() -> None:
    kind, sessions, issuer, browsers_go_to, database, bundle = sys.argv[1:]
    configure(kind, sessions, issuer, database, bundle)
    site = Site(browsers_go_to)
    for line in sys.stdin:
        order = json.loads(line)
        result = getattr(site, order.pop("do"))(**order)
        sys.stdout.write(json.dumps(result) + "\n")
        sys.stdout.flush()


if __name__ == "__main__":
    main()
