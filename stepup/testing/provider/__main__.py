"""The provider's process, as `launcher.launch` starts it.

One line of JSON comes in on the standard input, one goes out on the standard output: the issuer, or an error. The
process ends when its standard input does, so it never outlives the process that started it.
"""

from __future__ import annotations

import json
import signal
import sys
import tempfile
import threading
from pathlib import Path

from stepup.testing.provider.configuration import Configuration, ConfigurationError


def main() -> int:
    """Serve until the standard input is closed. Returns the exit status."""
    # Ctrl-C reaches all processes of a terminal; the parent hears it and closes our input.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
    given = json.loads(sys.stdin.readline())
    try:
        configuration = Configuration.from_dict(given["configuration"])
    except ConfigurationError as error:
        return _fail(str(error))
    with tempfile.TemporaryDirectory(prefix="stepup-provider-") as folder:
        try:
            from stepup.testing.provider.server import make_server
            from stepup.testing.provider.tls import make_certificate

            tls = configuration.tls
            certificate = tls if isinstance(tls, tuple) else make_certificate(Path(folder), configuration.host)
            server, provider = make_server(configuration, given["control_secret"], certificate if tls else None)
        except ImportError as error:
            return _fail(f"it needs the packages of django-stepup[provider] ({error})")
        except ConfigurationError as error:
            return _fail(str(error))
        except OSError as error:
            return _fail(f"port {configuration.port} of {configuration.host}: {error.strerror}")
        threading.Thread(target=server.serve_forever, daemon=True).start()
        _say(issuer=provider.issuer, certificate=certificate[0] if tls else "")
        sys.stdin.read()
    return 0


def _fail(error: str) -> int:
    _say(error=error)
    return 1


def _say(**message: str) -> None:
    sys.stdout.write(json.dumps(message) + "\n")
    sys.stdout.flush()


if __name__ == "__main__":
    sys.exit(main())
