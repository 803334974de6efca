"""Starts the provider in a process of its own, and speaks with it."""

from __future__ import annotations

import contextlib
import http.client
import json
import secrets
import ssl
import subprocess
import sys
import threading
from collections.abc import Mapping
from types import TracebackType
from typing import IO, Any, NamedTuple, cast, final
from urllib.parse import quote, urlencode, urlsplit

from stepup.testing.provider.configuration import KEYS_PATH, METADATA_PATH, Configuration

#: Seconds a provider is given to end by itself.
PATIENCE = 5.0


class ProviderError(RuntimeError):
    """The provider did not start, or has stopped."""


class RequestRecord(NamedTuple):
    """One request the provider received. Of a form it has the names of the fields only.

    Requests with the same `connection` came over one TCP connection.
    """

    method: str
    path: str
    query: dict[str, list[str]]
    form: list[str]
    connection: int


class AuthenticationRecord(NamedTuple):
    """An authentication request that was answered with a code, and what the person really did for it.

    `state` is the request's own; `auth_time` is when they gave their password, in epoch seconds.
    """

    client_id: str
    state: str
    subject: str
    second_factor: bool
    auth_time: float


class LogoutRecord(NamedTuple):
    """A logout token that was sent to an application, and the status of its answer: 0 where there was none."""

    client_id: str
    subject: str
    sid: str
    status: int


@final
class RunningProvider:
    """A provider that answers. Use it in a `with` statement, or call `stop`."""

    def __init__(
        self,
        process: subprocess.Popen[str],
        configuration: Configuration,
        issuer: str,
        control_secret: str,
        certificate: str = "",
    ) -> None:
        self._process = process
        #: What it has been told, last.
        self.configuration = configuration
        self._control_secret = control_secret
        self.issuer = issuer
        self.port = urlsplit(issuer).port or 80
        #: With TLS, the path of the certificate to trust (for `requests`: `verify`); else empty.
        self.certificate = certificate

    def __enter__(self) -> RunningProvider:
        return self

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc_value: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.stop()

    @property
    def documents(self) -> tuple[str, str]:
        """The addresses of what applications keep of it: its metadata, and its keys."""
        return self.issuer + METADATA_PATH, self.issuer + KEYS_PATH

    def requests(self) -> list[RequestRecord]:
        """All requests since the start or the last `reset`, in order of arrival. Raises `ProviderError`."""
        answer = json.loads(self._control("GET", "/control/requests"))
        return [RequestRecord(**each) for each in answer["requests"]]

    def authentications(self) -> list[AuthenticationRecord]:
        """What people have really done since the start or the last `reset`, in order. Raises `ProviderError`."""
        answer = json.loads(self._control("GET", "/control/authentications"))
        return [AuthenticationRecord(**each) for each in answer["authentications"]]

    def logouts(self) -> list[LogoutRecord]:
        """The logout tokens sent since the start or the last `reset`, in order. Raises `ProviderError`."""
        answer = json.loads(self._control("GET", "/control/logouts"))
        return [LogoutRecord(**each) for each in answer["logouts"]]

    def id_token(self, client_id: str, claims: Mapping[str, Any]) -> str:
        """An ID token for an application with these claims, whatever the personality, for which nobody has signed in.

        Raises `ProviderError`.
        """
        return self._control(
            "POST", f"/control/id-token?{urlencode({'client_id': client_id})}", json.dumps(claims)
        ).decode()

    def logout_token(self, client_id: str, *, sub: str = "", sid: str = "") -> str:
        """A logout token for an application, about a person or a session, as the personality has it.

        Raises `ProviderError`.
        """
        about = urlencode({"client_id": client_id, "sub": sub, "sid": sid})
        return self._control("POST", f"/control/logout-token?{about}").decode()

    def log_out(self, client_id: str, *, sub: str = "", sid: str = "") -> int:
        """Send one to the application's `backchannel_logout_uri`. Returns the status of its answer, 0 for none.

        Raises `ProviderError`.
        """
        about = urlencode({"client_id": client_id, "sub": sub, "sid": sid})
        return int(self._control("POST", f"/control/logout?{about}"))

    def behave(self, name: str) -> None:
        """Take on another personality, one of `personalities.PERSONALITIES`, until the next `reset` or `behave`.

        Raises `ProviderError` where there is none of that name.
        """
        self._control("POST", f"/control/behave/{quote(name, safe='')}")

    def configure(self, configuration: Configuration) -> None:
        """Know other people and applications, from now on and through each `reset`. It goes on listening where it is.

        Raises `ProviderError` where the configuration says that it listens elsewhere, or is wrong.
        """
        self._control("POST", "/control/configure", json.dumps(configuration.to_dict()))
        self.configuration = configuration

    def set_clock(self, ahead: float) -> None:
        """Be so many seconds ahead of the machine's clock (negative: behind it), until the next `reset`.

        Raises `ProviderError`.
        """
        self._control("POST", f"/control/clock/{round(ahead * 1000)}")

    def reset(self) -> None:
        """Forget sessions, codes, tokens and records, and behave as configured; the keys stay, and the clock is right.

        Raises `ProviderError`.
        """
        self._control("POST", "/control/reset")

    def wait(self) -> int:
        """Wait until the process ends by itself. Returns its exit status."""
        return self._process.wait()

    def stop(self) -> None:
        """End the process. Calling it again does nothing."""
        _end(self._process)

    def _control(self, method: str, path: str, body: str = "") -> bytes:
        # Not through a session of `requests`: tests replace those, and they may know of a proxy.
        host = urlsplit(self.issuer).hostname or ""
        connection: http.client.HTTPConnection
        if self.certificate:
            connection = http.client.HTTPSConnection(host, self.port, timeout=10, context=_trusting(self.certificate))
        else:
            connection = http.client.HTTPConnection(host, self.port, timeout=10)
        try:
            connection.request(method, path, body.encode() or None, headers={"X-Stepup-Control": self._control_secret})
            response = connection.getresponse()
            content = response.read()
        except OSError as error:
            raise ProviderError(f"the provider at {self.issuer} does not answer") from error
        finally:
            connection.close()
        if response.status >= 400:
            raise ProviderError(content.decode())
        return content


def launch(configuration: Configuration, *, timeout: float = 30) -> RunningProvider:
    """Start a provider, and return as soon as it answers.

    `timeout` is in seconds. Raises `ProviderError` where it did not start; the message says why.
    """
    control_secret = secrets.token_urlsafe(32)
    process = subprocess.Popen(
        [sys.executable, "-m", "stepup.testing.provider"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    # The configuration has passwords in it: the arguments of a process are everybody's to read, a pipe is not.
    given = {"configuration": configuration.to_dict(), "control_secret": control_secret}
    too_late = threading.Timer(timeout, process.kill)
    too_late.start()
    try:
        message = _exchange(process, json.dumps(given))
    finally:
        too_late.cancel()
    if "issuer" not in message:
        _end(process)
        raise ProviderError(message.get("error", "the provider did not start"))
    return RunningProvider(process, configuration, message["issuer"], control_secret, message["certificate"])


def _exchange(process: subprocess.Popen[str], line: str) -> dict[str, Any]:
    try:
        _stdin(process).write(line + "\n")
        _stdin(process).flush()
        answer: dict[str, Any] = json.loads(_stdout(process).readline() or "{}")
    except (BrokenPipeError, ValueError):
        return {}
    return answer


def _trusting(certificate: str) -> ssl.SSLContext:
    """Trusts this certificate and no other, whoever has signed it and whatever name is in it."""
    context = ssl.create_default_context(cafile=certificate)
    context.verify_flags |= ssl.VERIFY_X509_PARTIAL_CHAIN
    context.check_hostname = False
    return context


def _end(process: subprocess.Popen[str]) -> None:
    """Close its input, upon which it ends; where it does not, kill it."""
    with contextlib.suppress(OSError):
        _stdin(process).close()
    try:
        process.wait(PATIENCE)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
    _stdout(process).close()


def _stdin(process: subprocess.Popen[str]) -> IO[str]:
    return cast("IO[str]", process.stdin)


def _stdout(process: subprocess.Popen[str]) -> IO[str]:
    return cast("IO[str]", process.stdout)
