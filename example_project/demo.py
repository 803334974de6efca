"""Start the OP and the intranet side by side, say what to try, and stop both on Ctrl-C or SIGTERM."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Mapping
from pathlib import Path
from types import FrameType
from typing import Any

from example_project import settings

ROOT = Path(__file__).resolve().parent.parent
MANAGE = [sys.executable, str(ROOT / "manage.py")]

#: Seconds that each of the two may take to answer for the first time, and to stop.
START_TIMEOUT = 60
STOP_TIMEOUT = 5


class DemoError(Exception):
    """The demo cannot run, for a reason that the user can do something about."""


def main() -> int:
    """Run until a signal, or until one of the two processes ends. Returns the exit status."""
    for name in ("SIGTERM", "SIGHUP"):
        if number := getattr(signal, name, None):
            signal.signal(number, _interrupt)
    processes: dict[str, subprocess.Popen[bytes]] = {}
    try:
        for variable, port in settings.PORTS.items():
            check_port(variable, port)
        manage("migrate", "--verbosity=0")
        processes["The OP"] = start("stepup_provider")
        processes["The site"] = start("runserver", "--noreload", f"127.0.0.1:{settings.PORT}")
        wait_for(f"{settings.PROVIDER_ORIGIN}/.well-known/openid-configuration", processes)
        wait_for(f"{settings.SITE_ORIGIN}/", processes)
        print(introduction(), flush=True)
        while True:
            check_running(processes)
            time.sleep(0.5)
    except DemoError as error:
        print(f"\n{error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("\nStopping the site and the OP.", flush=True)
        return 0
    finally:
        stop(processes)


def check_port(variable: str, port: int) -> None:
    """Fail early, and with advice, where something else listens already."""
    with socket.socket() as probe:
        # As the servers do: a port that was in use a moment ago is free.
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
        except OSError as error:
            raise DemoError(
                f"Port {port} cannot be used ({error.strerror}).\n"
                f"Choose another with an environment variable: {variable}={port + 10} make demo"
            ) from error


def manage(*arguments: str) -> None:
    if subprocess.run([*MANAGE, *arguments], cwd=ROOT, env=environment(), check=False).returncode:  # noqa: S603
        raise DemoError(f"manage.py {arguments[0]} failed.")


def start(*arguments: str) -> subprocess.Popen[bytes]:
    """A server in a process group of its own, so that Ctrl-C reaches this process alone."""
    return subprocess.Popen(  # noqa: S603
        [*MANAGE, *arguments],
        cwd=ROOT,
        # The servers greet on standard output; what they log goes to standard error.
        stdout=subprocess.DEVNULL,
        start_new_session=True,
        env=environment(),
    )


def environment() -> dict[str, str]:
    """What the processes are told beside what this one was."""
    # A proxy for the way out must not come between two servers on this machine.
    direct = ",".join(filter(None, [os.environ.get("no_proxy"), os.environ.get("NO_PROXY"), "127.0.0.1"]))
    return {
        **os.environ,
        "DJANGO_SETTINGS_MODULE": settings.__name__,
        "DJANGO_RUNSERVER_HIDE_WARNING": "true",
        "PYTHONUNBUFFERED": "1",
        "NO_PROXY": direct,
        "no_proxy": direct,
    }


def wait_for(url: str, processes: dict[str, subprocess.Popen[bytes]]) -> None:
    """Return when the address answers with success."""
    direct = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    deadline = time.monotonic() + START_TIMEOUT
    while time.monotonic() < deadline:
        check_running(processes)
        try:
            with direct.open(url, timeout=5):
                return
        except urllib.error.HTTPError as error:
            raise DemoError(f"{url} answers with status {error.code}.") from error
        except OSError:
            time.sleep(0.1)
    raise DemoError(f"{url} does not answer after {START_TIMEOUT} seconds.")


def check_running(processes: dict[str, subprocess.Popen[bytes]]) -> None:
    for name, process in processes.items():
        if (status := process.poll()) is not None:
            raise DemoError(f"{name} has stopped (exit status {status}).")


def stop(processes: dict[str, subprocess.Popen[bytes]]) -> None:
    for process in processes.values():
        process.terminate()
    for process in processes.values():
        try:
            process.wait(STOP_TIMEOUT)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def _interrupt(_signal: int, _frame: FrameType | None) -> None:
    raise KeyboardInterrupt


def introduction() -> str:
    """What is running, who can sign in, and what there is to see."""
    people = "\n".join(
        f"    {user['username']:<6}  {user['password']:<12}  {second_factor(user)}"
        for user in settings.STEPUP_PROVIDER["USERS"]
    )
    return f"""
  Tidewater Works, the intranet:   {settings.SITE_ORIGIN}/
  Harbour ID, its OP:              {settings.PROVIDER_ORIGIN}/

  Who can sign in:
    name    password      second factor
{people}

  What to try:
    1. Sign in as anna. The password is enough for the start page and the news.
    2. Open "Salary". Now the OP asks for the second factor: approve it on the phone page.
    3. Open "Payroll" and "Password". Nothing is asked: this session has proved it.
    4. Sign out, sign in again, and open "Salary": a new session has proved nothing yet.
    5. Open "Salary" once more in a new session and deny it on the phone, or cancel.
    6. Sign in as carl, who has no second factor, and open "Salary".

  Ctrl-C stops both.
"""


def second_factor(user: Mapping[str, Any]) -> str:
    factors = ["approval on the phone"] if user.get("push") else []
    if secret := user.get("totp_secret"):
        factors.append(f"one-time code from an app (key {secret})")
    return ", or ".join(factors) or "none"


if __name__ == "__main__":
    sys.exit(main())
