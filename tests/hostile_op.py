"""An OP that misbehaves over real HTTP, as a test tells it to; where it is told nothing it behaves.

It has no pages: it vouches for whom a test names, with ID tokens that are really signed.
"""

from __future__ import annotations

import contextlib
import datetime as dt
import http.server
import ipaddress
import json
import socket
import socketserver
import ssl
import threading
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Any, final
from urllib.parse import parse_qsl, urlencode, urljoin, urlsplit

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from stepup import documents
from tests.tokens import KEYS, SigningKey, claims, jwks, sign

METADATA = "/.well-known/openid-configuration"
JWKS = "/jwks"
TOKEN = "/token"
USERINFO = "/userinfo"

#: For how long a server that drips goes on, in seconds: much longer than any client should wait, not for ever.
DRIPS_FOR = 4.0

ANNA = {"sub": "anna", "email": "anna@harbour.example", "email_verified": True}
BEN = {"sub": "ben", "email": "ben@harbour.example", "email_verified": True}


@dataclass(frozen=True)
class Request:
    """A request as it arrived. Those with the same `connection` came over one TCP connection."""

    method: str
    target: str
    headers: Mapping[str, str]
    form: Mapping[str, str]
    connection: int

    @property
    def path(self) -> str:
        return urlsplit(self.target).path


@dataclass(frozen=True)
class Answer:
    """What goes down the wire: bytes are sent, numbers are seconds to wait."""

    pieces: Iterable[bytes | float]
    #: Whether the connection is closed afterwards, even where the answer promised more.
    closes: bool = False


Script = Answer | Callable[[Request], Answer]


def head(status: int = 200, **headers: str | int) -> bytes:
    """The first lines of a response; in the names of headers, `_` stands for `-`."""
    lines = [f"HTTP/1.1 {status} Status", *(f"{name.replace('_', '-')}: {value}" for name, value in headers.items())]
    return ("\r\n".join(lines) + "\r\n\r\n").encode("latin-1")


def answer(body: Any = b"", status: int = 200, kind: str = "application/json", **headers: str | int) -> Answer:
    """A whole answer. A body that is not bytes is sent as JSON."""
    data = body if isinstance(body, bytes) else json.dumps(body).encode()
    given = {"Content_Type": kind, "Content_Length": len(data), **headers}
    return Answer((head(status, **given) + data,))


def cut(data: bytes) -> Answer:
    """These bytes, and then the connection is closed."""
    return Answer((data,), closes=True)


def dripping(start: bytes, drop: bytes = b" ", pause: float = 0.1) -> Answer:
    """Some bytes at once, and then drops that each come sooner than a time-out between two receives."""
    return Answer((start, *(piece for _ in range(round(DRIPS_FOR / pause)) for piece in (pause, drop))), closes=True)


@dataclass
class _Login:
    id_token: str
    userinfo: Any
    response: Mapping[str, Any]


@dataclass
class Certificate:
    """A certificate that nobody but its own holder has signed, and where it is."""

    path: Path
    key_path: Path

    @classmethod
    def make(cls, folder: Path, host: str = "127.0.0.1") -> Certificate:
        """For one host: an address or a name."""
        key = ec.generate_private_key(ec.SECP256R1())
        name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "hostile.example")])
        try:
            alternative: x509.GeneralName = x509.IPAddress(ipaddress.ip_address(host))
        except ValueError:
            alternative = x509.DNSName(host)
        now = dt.datetime.now(dt.timezone.utc)
        made = (
            x509.CertificateBuilder()
            .subject_name(name)
            .issuer_name(name)
            .public_key(key.public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(now - dt.timedelta(days=1))
            .not_valid_after(now + dt.timedelta(days=1))
            .add_extension(x509.SubjectAlternativeName([alternative]), critical=False)
            .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
            .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
            .sign(key, hashes.SHA256())
        )
        certificate = cls(folder / "certificate.pem", folder / "key.pem")
        certificate.path.write_bytes(made.public_bytes(serialization.Encoding.PEM))
        certificate.key_path.write_bytes(
            key.private_bytes(
                serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
            )
        )
        return certificate


class _Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: _Server

    def setup(self) -> None:
        super().setup()
        self.number = self.server.opened(self.connection)

    def finish(self) -> None:
        with contextlib.suppress(OSError):
            super().finish()
        self.server.closed(self.number)

    def do_GET(self) -> None:
        self._respond({})

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length", 0))).decode()
        self._respond(dict(parse_qsl(body, keep_blank_values=True)))

    def do_CONNECT(self) -> None:
        self._respond({})

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002 - the base class's name
        """Say nothing: what arrived is on record."""

    def _respond(self, form: Mapping[str, str]) -> None:
        headers = {name.lower(): value for name, value in self.headers.items()}
        script = self.server.op.answer_to(Request(self.command, self.path, headers, form, self.number))
        for piece in script.pieces:
            if isinstance(piece, bytes):
                self.wfile.write(piece)
                self.wfile.flush()
            elif self.server.stopping.wait(piece):
                self.close_connection = True
                return
        if script.closes:
            self.close_connection = True


class _Server(socketserver.ThreadingTCPServer):
    allow_reuse_address = True
    request_queue_size = 100

    def __init__(self, op: HostileOP) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.op = op
        self.stopping = threading.Event()
        self._lock = threading.Lock()
        self._connections: dict[int, socket.socket] = {}
        self._count = 0

    def opened(self, connection: socket.socket) -> int:
        with self._lock:
            self._count += 1
            self._connections[self._count] = connection
            return self._count

    def closed(self, number: int) -> None:
        with self._lock:
            del self._connections[number]

    def hang_up(self) -> None:
        """Close every connection that is open, so that nobody waits for its next request."""
        with self._lock:
            for connection in self._connections.values():
                with contextlib.suppress(OSError):
                    connection.shutdown(socket.SHUT_RDWR)

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A client that has had enough closes the connection, and may."""


@final
@dataclass
class HostileOP:
    """The server. Use it in a `with` statement.

    Attributes:
        answers: what it says at a path, in place of what an honest OP would.
        requests: what has arrived.
        keys: what it publishes. It signs with the first.
    """

    certificate: Certificate | None = None
    answers: dict[str, Script] = field(default_factory=dict)
    requests: list[Request] = field(default_factory=list)
    keys: list[SigningKey] = field(default_factory=lambda: [KEYS["rsa"]])
    #: Members of the metadata in place of its own.
    metadata: dict[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self._logins: dict[str, _Login] = {}
        self._server = _Server(self)
        scheme = "http"
        if self.certificate is not None:
            scheme, context = "https", ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            context.load_cert_chain(self.certificate.path, self.certificate.key_path)
            self._server.socket = context.wrap_socket(self._server.socket, server_side=True)
        self.url = f"{scheme}://127.0.0.1:{self._server.server_address[1]}/"
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.01,), daemon=True)

    def __enter__(self) -> HostileOP:
        for path in (METADATA, JWKS):  # of another one, which was at this port before
            documents.forget(urljoin(self.url, path), "default")
        self._thread.start()
        return self

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc_value: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.stop()

    def stop(self) -> None:
        """Answer nobody any more: from now on connections are refused. Calling it again does nothing."""
        if self._thread.is_alive():
            self._server.shutdown()
            self._thread.join()
            self._server.stopping.set()
            self._server.hang_up()
            self._server.server_close()

    def hang_up(self) -> None:
        """Close the connections that are open; new ones are welcome."""
        self._server.hang_up()

    def at(self, path: str) -> str:
        """The URL of a path."""
        return self.url.removesuffix("/") + path

    def asked(self, path: str) -> list[Request]:
        """The requests for a path so far."""
        return [request for request in self.requests if request.path == path]

    def answer_to(self, request: Request) -> Answer:
        self.requests.append(request)
        script = self.answers.get(request.path)
        if script is None:
            return self.honest(request)
        return script if isinstance(script, Answer) else script(request)

    def honest(self, request: Request) -> Answer:
        """What an OP says that is up to nothing."""
        if request.path == METADATA:
            endpoints = {
                "authorization_endpoint": "/authorize",
                "token_endpoint": TOKEN,
                "userinfo_endpoint": USERINFO,
                "jwks_uri": JWKS,
            }
            named = {name: self.at(path) for name, path in endpoints.items()}
            return answer({"issuer": self.url, **named, **self.metadata})
        if request.path == JWKS:
            return answer(jwks(*self.keys))
        if request.path == TOKEN:
            code = request.form.get("code", "")
            if code not in self._logins:
                return answer({"error": "invalid_grant"}, 400)
            login = self._logins[code]
            return answer(
                {"access_token": f"at-{code}", "token_type": "Bearer", "id_token": login.id_token, **login.response}
            )
        if request.path == USERINFO:
            sent = request.headers.get("authorization", "")
            code = sent.removeprefix("Bearer at-")
            if code not in self._logins:
                return answer({"error": "invalid_token"}, 401)
            userinfo = self._logins[code].userinfo
            if isinstance(userinfo, str):
                return answer(userinfo.encode(), kind="application/jwt")
            return answer(userinfo)
        return answer({}, 404)

    def vouch(
        self,
        authorization_url: str,
        userinfo: Any = None,
        *,
        id_token: Mapping[str, Any] | str | None = None,
        response: Mapping[str, Any] | None = None,
    ) -> str:
        """Answer an authentication request without asking anybody. Returns where the browser is sent to.

        Args:
            userinfo: what the userinfo endpoint says; `ANNA` if nothing is given. A string is a signed response.
            id_token: claims in place of the good ones, or the whole ID token.
            response: members of the token response in place of the good ones.
        """
        userinfo = ANNA if userinfo is None else userinfo
        asked = dict(parse_qsl(urlsplit(authorization_url).query))
        code = f"code-{len(self._logins)}"
        if not isinstance(id_token, str):
            subject = userinfo.get("sub") if isinstance(userinfo, dict) else ANNA["sub"]
            good = claims(iss=self.url, sub=subject, nonce=asked["nonce"], amr=["mfa"])
            changed = {**good, **(id_token or {})}
            id_token = sign({name: value for name, value in changed.items() if value is not None}, key=self.keys[0])
        self._logins[code] = _Login(id_token, userinfo, response or {})
        return f"{asked['redirect_uri']}?{urlencode({'code': code, 'state': asked['state']})}"


def closed_port() -> int:
    """A port that nobody listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
