"""An OpenID Provider that does next to nothing, so that what is measured is the site: in its own process, over HTTP.

It signs the ID token when the browser comes, and hands it out when the site asks. Whoever starts it reads one line of
JSON from its output, and closes its input to stop it.
"""

from __future__ import annotations

import json
import secrets
import socket
import ssl
import sys
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, ClassVar
from urllib.parse import parse_qs, urlencode, urlsplit

from stepup.testing.tokens import WITH_MFA
from tests import tokens

EMAIL = "anna@example.com"


class Handler(BaseHTTPRequestHandler):
    """HTTP/1.1, which keeps connections alive. Each answer is one write, so that none waits for an acknowledgement."""

    protocol_version = "HTTP/1.1"
    wbufsize = -1
    disable_nagle_algorithm = True
    server: Server

    issued: ClassVar[dict[str, bytes]] = {}
    #: Seconds that the token, keys and userinfo endpoints take.
    latency: ClassVar[float] = 0.0

    def setup(self) -> None:
        if self.server.tls is not None:
            # Here, in the connection's own thread: one slow handshake must not keep the others waiting.
            self.request: socket.socket = self.server.tls.wrap_socket(self.request, server_side=True)
        super().setup()

    def do_GET(self) -> None:
        url = urlsplit(self.path)
        if url.path == "/authorize":
            self._authorize({name: values[0] for name, values in parse_qs(url.query).items()})
        elif url.path == "/latency":
            Handler.latency = float(url.query)
            self._answer({})
        elif url.path == "/.well-known/openid-configuration":
            self._answer(self.server.metadata)
        elif url.path == "/keys":
            self._answer_late(tokens.jwks(tokens.KEYS["rsa"], tokens.KEYS["other_rsa"]))
        else:
            self._answer_late({"sub": tokens.SUBJECT, "email": EMAIL, "email_verified": True})

    def do_POST(self) -> None:
        form = parse_qs(self.rfile.read(int(self.headers["Content-Length"])).decode())
        self._answer_late(self.issued.pop(form["code"][0]))

    def _authorize(self, params: dict[str, str]) -> None:
        code, access_token = secrets.token_urlsafe(16), secrets.token_urlsafe(32)
        # As Auth0 does: what was proved is said where it was asked for.
        proof = WITH_MFA if params.get("acr_values") else {}
        claims = tokens.claims(
            **{"auth_time": tokens.ABSENT, **proof},
            iss=params["issuer"],  # the browser comes without TLS, whatever the site does
            nonce=params["nonce"],
            sid="Hq2dJ0xR5vYw8bTnLk3sZc7mPf1gUa9e",
            email=EMAIL,
            email_verified=True,
            at_hash=tokens.half_hash(access_token),
        )
        answer = {
            "access_token": access_token,
            "token_type": "Bearer",
            "expires_in": 300,
            "id_token": tokens.sign(claims),
        }
        self.issued[code] = json.dumps(answer).encode()
        self._answer({"callback": f"{params['redirect_uri']}?{urlencode({'code': code, 'state': params['state']})}"})

    def _answer_late(self, content: Any) -> None:
        time.sleep(self.latency)
        self._answer(content)

    def _answer(self, content: Any) -> None:
        body = content if isinstance(content, bytes) else json.dumps(content).encode()
        self.send_response_only(200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)


class Server(ThreadingHTTPServer):
    request_queue_size = 64

    def __init__(self, tls: ssl.SSLContext | None) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.tls = tls
        self.issuer = f"{'http' if tls is None else 'https'}://127.0.0.1:{self.server_port}/"
        self.metadata = {
            "issuer": self.issuer,
            "authorization_endpoint": f"{self.issuer}authorize",
            "token_endpoint": f"{self.issuer}token",
            "userinfo_endpoint": f"{self.issuer}userinfo",
            "jwks_uri": f"{self.issuer}keys",
        }

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A connection that its other end closes is nothing to be told of."""


def main() -> None:
    tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    tls.load_cert_chain(sys.argv[1])
    servers = {"http": Server(None), "https": Server(tls)}
    for server in servers.values():
        threading.Thread(target=server.serve_forever, daemon=True).start()
    sys.stdout.write(json.dumps({scheme: server.issuer for scheme, server in servers.items()}) + "\n")
    sys.stdout.flush()
    sys.stdin.read()


if __name__ == "__main__":
    main()
