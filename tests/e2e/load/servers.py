"""PostgreSQL, Redis and gunicorn, each started for the test on a free port of the loopback and stopped by its id."""

from __future__ import annotations

import contextlib
import os
import pwd
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import psycopg
import redis

from tests.e2e.demo import ROOT, descendants, free_ports

#: Seconds that a server has to start, or to end.
PATIENCE = 60


@dataclass(frozen=True)
class Postgres:
    """A PostgreSQL that answers."""

    port: int

    def rows(self) -> list[tuple[str, str]]:
        """What has been posted: the id and the author of each row."""
        with self._connect() as connection:
            return [(id_, author) for id_, author in connection.execute("SELECT id, author FROM posts")]

    def is_ready(self) -> bool:
        try:
            self._connect().close()
        except psycopg.OperationalError:
            return False
        return True

    def _connect(self) -> psycopg.Connection[tuple[str, str]]:
        return psycopg.connect(host="127.0.0.1", port=self.port, user="postgres", dbname="postgres", connect_timeout=5)


@dataclass(frozen=True)
class Site:
    """The site, on the processes of gunicorn."""

    port: int
    master: int

    def workers(self) -> list[int]:
        """The process ids of the workers there are now."""
        return [int(pid) for pid in Path(f"/proc/{self.master}/task/{self.master}/children").read_text().split()]


@contextmanager
def running_postgres() -> Iterator[Postgres]:
    """A cluster of its own: the one that Debian's package makes is left alone."""
    found = sorted(Path("/usr/lib/postgresql").glob("*/bin/initdb"), key=lambda path: int(path.parts[-3]))
    assert found, "PostgreSQL is not there: `make e2e` installs it"
    # Not in a directory of pytest, which others than its owner cannot enter.
    with tempfile.TemporaryDirectory(prefix="stepup-load-") as directory:
        as_user: list[str] = []
        if os.getuid() == 0:
            # It refuses to run as root.
            owner = pwd.getpwnam("postgres")
            as_user = ["setpriv", f"--reuid={owner.pw_uid}", f"--regid={owner.pw_gid}", "--init-groups"]
            os.chown(directory, owner.pw_uid, owner.pw_gid)
        data = f"{directory}/data"
        options = ["--username=postgres", "--auth=trust", "--no-sync", "--encoding=UTF8"]
        initdb = [*as_user, str(found[-1]), f"--pgdata={data}", *options]
        made = subprocess.run(initdb, cwd=directory, capture_output=True, text=True, check=False)
        assert made.returncode == 0, made.stderr
        (port,) = free_ports(1)
        # What is acknowledged has to outlive processes here, not the machine.
        options = ["-h", "127.0.0.1", "-p", str(port), "-k", "", "-c", "fsync=off", "-c", "full_page_writes=off"]
        command = [*as_user, *_not_alone(signal.SIGINT), str(found[-1].with_name("postgres")), "-D", data, *options]
        postgres = Postgres(port)
        # SIGINT is its "fast shutdown": connections that are open do not hold it up.
        with _running(command, Path(directory, "log"), postgres.is_ready, stop=signal.SIGINT, cwd=Path(directory)):
            yield postgres


@contextmanager
def running_redis(directory: Path) -> Iterator[int]:
    """Its port. It keeps everything in memory."""
    program = shutil.which("redis-server")
    assert program, "Redis is not there: `make e2e` installs it"
    (port,) = free_ports(1)
    command = [
        *_not_alone(),
        program,
        "--port",
        str(port),
        "--bind",
        "127.0.0.1",
        "--save",
        "",
        "--dir",
        str(directory),
    ]

    def is_ready() -> bool:
        with redis.Redis(port=port) as client, contextlib.suppress(redis.ConnectionError):
            return bool(client.ping())
        return False

    with _running(command, directory / "redis.log", is_ready):
        yield port


@contextmanager
def running_site(directory: Path, port: int, environment: Mapping[str, str]) -> Iterator[Site]:
    """The site, with its tables made, under gunicorn."""
    own = {"LOAD_SITE_PORT": str(port), "DJANGO_SETTINGS_MODULE": "tests.e2e.load.settings"}
    env = {**os.environ, **environment, **own}
    subprocess.run([sys.executable, "-m", "tests.e2e.load.prepare"], cwd=ROOT, env=env, check=True)

    def is_ready() -> bool:
        with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), timeout=5) as connection:
            connection.sendall(b"GET /whoami/ HTTP/1.1\r\nHost: 127.0.0.1\r\nConnection: close\r\n\r\n")
            return connection.recv(12) == b"HTTP/1.1 200"
        return False

    command = [*_not_alone(), sys.executable, "-m", "gunicorn", "--config", "python:tests.e2e.load.serving"]
    with _running(command, directory / "gunicorn.log", is_ready, env=env) as process:
        yield Site(port, process.pid)


def _not_alone(stop: signal.Signals = signal.SIGTERM) -> list[str]:
    """What a command begins with that is told to stop too when the process that started it is killed."""
    return ["setpriv", f"--pdeathsig={stop.name.removeprefix('SIG')}"]


@contextmanager
def _running(
    command: list[str],
    log: Path,
    is_ready: Callable[[], bool],
    *,
    stop: signal.Signals = signal.SIGTERM,
    cwd: Path = ROOT,
    env: Mapping[str, str] | None = None,
) -> Iterator[subprocess.Popen[bytes]]:
    """A server, from when it answers on; told to stop at the end, and killed where it does not."""
    with log.open("wb") as output:
        process = subprocess.Popen(command, cwd=cwd, env=env, stdout=output, stderr=subprocess.STDOUT)
    try:
        until = time.monotonic() + PATIENCE
        while not is_ready():
            assert process.poll() is None, f"it has ended: {log.read_text()}"
            assert time.monotonic() < until, f"it does not answer: {log.read_text()}"
            time.sleep(0.1)
        yield process
    finally:
        process.send_signal(stop)
        try:
            process.wait(PATIENCE)
        except subprocess.TimeoutExpired:
            for pid in [*descendants(process.pid), process.pid]:
                os.kill(pid, signal.SIGKILL)
            process.wait()
