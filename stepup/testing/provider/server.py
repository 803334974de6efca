"""The process: Django with settings of its own, behind a threaded HTTP server that keeps connections open."""

from __future__ import annotations

import itertools
import secrets
import ssl
import sys
import warnings
from pathlib import Path
from typing import Any

import django
from django.conf import settings
from django.core.servers.basehttp import ThreadedWSGIServer, WSGIRequestHandler
from django.core.wsgi import get_wsgi_application

from stepup.testing.provider.configuration import Configuration
from stepup.testing.provider.oidc import Provider
from stepup.testing.provider.tls import server_context
from stepup.testing.provider.uris import LOOPBACK_HOSTS

_HERE = Path(__file__).parent

_connections = itertools.count(1)


class RequestHandler(WSGIRequestHandler):
    """One connection. It has a number, and stays open for as many requests as the client likes to send."""

    # The headers and the body are two writes; without this the second waits for the client's delayed
    # acknowledgement of the first, some 40 ms, on each request but the first of a connection.
    disable_nagle_algorithm = True

    def setup(self) -> None:
        super().setup()
        self.number = next(_connections)

    def get_environ(self) -> dict[str, Any]:
        return {**super().get_environ(), "stepup.connection": self.number, "stepup.hang_up": self.hang_up}

    def hang_up(self) -> None:
        """Close the connection after the answer that is being sent."""
        self.close_connection = True

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002 - named by the base class
        """No access log: tests read the record of requests, and people their own site's log."""


class Server(ThreadedWSGIServer):
    """One thread for each connection."""

    request_queue_size = 128

    def speak_tls(self, certificate: str, key: str) -> None:
        # The handshake is left to the thread of the connection: here it would have all others wait for it.
        self.socket = server_context(certificate, key).wrap_socket(
            self.socket, server_side=True, do_handshake_on_connect=False
        )
        self.base_environ["HTTPS"] = "on"

    def handle_error(self, request: Any, client_address: Any) -> None:
        # A client that hangs up, or does not like the certificate, is nothing to report.
        if not isinstance(sys.exc_info()[1], (ConnectionError, ssl.SSLError)):
            super().handle_error(request, client_address)


def configure_django(host: str) -> None:
    """Give this process its settings. The site's own are neither read nor needed."""
    settings.configure(
        DEBUG=False,
        SECRET_KEY=secrets.token_urlsafe(50),
        # Names of this machine only, so that no page of the web can rebind its own name to this address.
        ALLOWED_HOSTS=[_authority(each) for each in sorted({*LOOPBACK_HOSTS, host})],
        INSTALLED_APPS=[],
        ROOT_URLCONF="stepup.testing.provider.urls",
        MIDDLEWARE=[
            "stepup.testing.provider.middleware.RecordRequests",
            "stepup.testing.provider.middleware.SecurityHeaders",
            # It adds Content-Length, without which no connection can be kept.
            "django.middleware.common.CommonMiddleware",
            "stepup.testing.provider.middleware.AnswerApplications",
            "django.middleware.csrf.CsrfViewMiddleware",
        ],
        APPEND_SLASH=False,
        # Some of what is sent here is remembered for a while.
        DATA_UPLOAD_MAX_MEMORY_SIZE=64 * 1024,
        # Cookies are shared between the ports of a host: these must not meet those of the site.
        CSRF_COOKIE_NAME="stepup_op_csrf",
        CSRF_COOKIE_HTTPONLY=True,
        CSRF_FAILURE_VIEW="stepup.testing.provider.views.csrf_failure",
        TEMPLATES=[
            {
                "BACKEND": "django.template.backends.django.DjangoTemplates",
                "DIRS": [_HERE / "templates"],
            }
        ],
        USE_I18N=False,
        USE_TZ=True,
        LOGGING={
            "version": 1,
            "disable_existing_loggers": False,
            # An answer of 500 may be meant, see personalities; an exception is not.
            "filters": {
                "exceptions": {
                    "()": "django.utils.log.CallbackFilter",
                    "callback": lambda record: record.exc_info is not None,
                }
            },
            "handlers": {"stderr": {"class": "logging.StreamHandler", "filters": ["exceptions"]}},
            "loggers": {"django": {"handlers": ["stderr"], "level": "ERROR"}},
        },
    )
    # Its new name is not understood by the libraries of relying parties yet.
    warnings.filterwarnings("ignore", message="EdDSA is deprecated")
    django.setup()


def make_server(
    configuration: Configuration, control_secret: str, certificate: tuple[str, str] | None = None
) -> tuple[Server, Provider]:
    """Bind the port and build the provider behind it, with TLS where it gets a certificate and its key.

    Raises `OSError` where the port is taken, or the files are of no use.
    """
    configure_django(configuration.host)
    host = configuration.host
    server = Server((host, configuration.port), RequestHandler, ipv6=":" in host)
    if certificate is not None:
        server.speak_tls(*certificate)
    provider = Provider(
        configuration,
        f"{'http' if certificate is None else 'https'}://{_authority(host)}:{server.server_port}/",
        control_secret=control_secret,
    )
    server.base_environ["stepup.provider"] = provider
    server.set_app(get_wsgi_application())
    return server, provider


def _authority(host: str) -> str:
    return f"[{host}]" if ":" in host else host
