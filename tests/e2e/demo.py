"""The example project and its OP, started as `make demo` starts them, on ports and with a database of their own."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
START_TIMEOUT = 90


@dataclass(frozen=True)
class Demo:
    """A demo that is running: the addresses of the site and of the OP, and the process that started both."""

    site: str
    provider: str
    process: subprocess.Popen[str]
    introduction: str

    @contextmanager
    def frozen_provider(self) -> Iterator[None]:
        """An OP that accepts connections and answers none."""
        pid = next(
            pid
            for pid in descendants(self.process.pid)
            if "stepup.testing.provider" in Path(f"/proc/{pid}/cmdline").read_text().split("\0")
        )
        os.kill(pid, signal.SIGSTOP)
        try:
            yield
        finally:
            os.kill(pid, signal.SIGCONT)


def descendants(pid: int) -> Iterator[int]:
    """The processes that a process has started, and those that they have."""
    for child in map(int, Path(f"/proc/{pid}/task/{pid}/children").read_text().split()):
        yield child
        yield from descendants(child)


@contextmanager
def running_demo(directory: Path) -> Iterator[Demo]:
    """Start the demo, wait until it says what to try, and stop it as Ctrl-C would."""
    port, provider_port = free_ports(2)
    with start(port, provider_port, directory) as process:
        assert process.stdout is not None
        # The introduction ends with how to stop; a demo that fails ends its output instead.
        stuck = threading.Timer(START_TIMEOUT, process.kill)
        stuck.start()
        lines = []
        for line in process.stdout:
            lines.append(line)
            if "Ctrl-C" in line:
                break
        stuck.cancel()
        introduction = "".join(lines)
        assert process.poll() is None, introduction
        try:
            yield Demo(
                f"http://127.0.0.1:{port}/",
                f"http://127.0.0.1:{provider_port}/",
                process,
                introduction,
            )
        finally:
            process.send_signal(signal.SIGINT)
            assert process.wait(20) == 0


def start(port: int, provider_port: int, directory: Path) -> subprocess.Popen[str]:
    """The demo's process, with its output as text."""
    return subprocess.Popen(
        [sys.executable, "-m", "example_project.demo"],
        cwd=ROOT,
        env={
            **os.environ,
            "STEPUP_DEMO_PORT": str(port),
            "STEPUP_DEMO_PROVIDER_PORT": str(provider_port),
            "STEPUP_DEMO_DATABASE": str(directory / "demo.sqlite3"),
        },
        stdout=subprocess.PIPE,
        text=True,
    )


def free_ports(count: int) -> list[int]:
    """Ports that nothing listens on at the moment."""
    sockets = [socket.socket() for _ in range(count)]
    try:
        for each in sockets:
            each.bind(("127.0.0.1", 0))
        return [each.getsockname()[1] for each in sockets]
    finally:
        for each in sockets:
            each.close()
