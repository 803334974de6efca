"""One run: the users at their plans, the faults between, and all that was written down."""

from __future__ import annotations

import math
import os
import random
import signal
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

from stepup.documents import COOL_DOWN
from stepup.testing.provider import Client, Configuration, launch
from tests.e2e.demo import free_ports
from tests.e2e.load.checker import Logs
from tests.e2e.load.journal import Entry, Journal
from tests.e2e.load.people import Simulated, account, plan
from tests.e2e.load.servers import Postgres, Site, running_site

Sessions = Literal["database", "redis"]

#: How long it can take until keys that the OP has changed are known, in seconds: a cool-down may just have begun.
KEYS_SETTLE = COOL_DOWN + 5


#: How many come to an end at the same time, when all is calm: what is asked then is whether, not how fast.
IN_CALM = 32


@dataclass(frozen=True)
class Scale:
    """How much is done. The faults come after so many actions each, however long these take."""

    users: int
    actions: int
    kills: int
    rotations: int
    restarts: int

    @property
    def all_actions(self) -> int:
        return self.users * self.actions


class OP:
    """The provider that ships with the package, which is restarted on its port, and gets new keys."""

    def __init__(self, site_port: int, users: int, journal: Journal) -> None:
        self._configuration = Configuration(
            purpose="tests",
            clients=(
                Client(
                    client_id="site",
                    client_secret="a-client-secret-that-is-long-enough",
                    redirect_uris=(f"http://127.0.0.1:{site_port}/oidc/callback/",),
                ),
            ),
            # Twice as many, so that whoever takes another account disturbs nobody.
            users=tuple(account(number) for number in range(2 * users)),
        )
        self._journal = journal
        self._provider = launch(self._configuration)
        self._configuration = replace(self._configuration, port=self._provider.port)
        #: How often it has forgotten who is signed in.
        self._life = 0
        #: Who has really authenticated, and how. What happens while it is asked to end, it takes with it.
        self.authentications: list[Entry] = []
        #: How often it was given a refresh token.
        self.refreshes = 0

    @property
    def issuer(self) -> str:
        return self._provider.issuer

    def restart(self) -> None:
        """End it and start it anew, with other keys and no memory."""
        began = time.time()
        self.remember()
        self._provider.stop()
        self._provider = launch(self._configuration, timeout=120)
        self._life += 1
        self._journal.write(what="restart", began=began, ended=time.time())

    def rotate(self) -> None:
        """Give it another key while it goes on."""
        began = time.time()
        self._provider.behave("rotated_keys")
        self._journal.write(what="rotation", began=began, ended=time.time())

    def remember(self) -> None:
        """Ask it what it knows, before it forgets."""
        self.authentications += [record._asdict() | {"life": self._life} for record in self._provider.authentications()]
        self.refreshes += sum("refresh_token" in each.form for each in self._provider.requests())

    def stop(self) -> None:
        self._provider.stop()


class Faults:
    """What is done to the servers, each time that the users have done a share of their actions."""

    def __init__(self, scale: Scale, site: Site, op: OP, journal: Journal, rng: random.Random) -> None:
        self._site, self._journal, self._rng = site, journal, rng
        self._lock = threading.Lock()
        self._done = 0.0
        self._due = threading.Condition(self._lock)
        every: list[tuple[int, Callable[[], None]]] = []
        for count, fault in ((scale.kills, self.kill), (scale.rotations, op.rotate), (scale.restarts, op.restart)):
            every += [(scale.all_actions * number // (count + 1), fault) for number in range(1, count + 1)]
        self._schedule = sorted(every, key=lambda each: each[0])

    def count(self) -> None:
        """A user has done something."""
        with self._due:
            self._done += 1
            self._due.notify()

    def hurry(self) -> None:
        """The users do nothing any more."""
        with self._due:
            self._done = math.inf
            self._due.notify()

    def run(self) -> None:
        for after, fault in self._schedule:
            with self._due:
                self._due.wait_for(lambda after=after: self._done >= after)  # type: ignore[misc]
            fault()

    def kill(self) -> None:
        """Kill one of the workers, whatever it is doing."""
        while not (workers := self._site.workers()):
            time.sleep(0.005)
        worker = self._rng.choice(workers)
        began = time.time()
        os.kill(worker, signal.SIGKILL)
        while worker in self._site.workers():
            time.sleep(0.005)
        self._journal.write(what="kill", began=began, ended=time.time(), pid=worker)


def run(directory: Path, sessions: Sessions, scale: Scale, postgres: Postgres, redis_port: int, seed: int) -> Logs:
    """Let them all loose. Returns what was written down."""
    with _journals(directory) as (users_journal, faults_journal, site_journal):
        (port,) = free_ports(1)
        op = OP(port, scale.users, faults_journal)
        try:
            environment = {
                "LOAD_SESSIONS": sessions,
                "LOAD_POSTGRES_PORT": str(postgres.port),
                "LOAD_REDIS_PORT": str(redis_port),
                "LOAD_ISSUER": op.issuer,
                "LOAD_SITE_JOURNAL": str(site_journal.path),
                "LOAD_PRELOAD": "1" if sessions == "redis" else "0",
            }
            with running_site(directory, port, environment) as site:
                began = time.time()
                faults = Faults(scale, site, op, faults_journal, _random(seed, "faults"))
                ended_well = _live(scale, port, users_journal, faults_journal, faults, seed)
                took = time.time() - began
                op.remember()
        finally:
            op.stop()
        return Logs(
            users=users_journal.read(),
            faults=faults_journal.read(),
            site=site_journal.read(),
            op=op.authentications,
            refreshes=op.refreshes,
            rows=postgres.rows(),
            ended_well=ended_well,
            keys_settle=KEYS_SETTLE,
            took=took,
        )


def _live(
    scale: Scale, port: int, journal: Journal, faults_journal: Journal, faults: Faults, seed: int
) -> dict[str, bool]:
    """Whether each user, by name, was shown the protected page when all was calm again."""
    # Each second one wants to be remembered, and is renewed by refresh token; the others through their browsers.
    people = [
        Simulated(
            account(number),
            account(scale.users + number),
            port,
            journal,
            _random(seed, number),
            remember=number % 2 == 0,
        )
        for number in range(scale.users)
    ]

    def live(person: Simulated) -> None:
        for action in plan(person.rng, scale.actions):
            action(person)
            faults.count()

    # As many threads as people, so that each of them waits for nobody but the servers.
    with ThreadPoolExecutor(scale.users + 1) as pool:
        troubles = pool.submit(faults.run)
        try:
            for life in [pool.submit(live, person) for person in people]:
                life.result()
        finally:
            faults.hurry()
        troubles.result()
        keys_changed = max(each["ended"] for each in faults_journal.read() if each["what"] != "kill")
        time.sleep(max(0.0, keys_changed + KEYS_SETTLE - time.time()))
        faults_journal.write(what="calm", began=time.time(), ended=time.time())
    with ThreadPoolExecutor(IN_CALM) as pool:
        names = (person.me.username for person in people)
        ended_well = dict(zip(names, pool.map(Simulated.come_to_an_end, people), strict=True))
    for person in people:
        person.close()
    return ended_well


def _random(seed: int, whose: object) -> random.Random:
    """Numbers of somebody's own, so that a seed plans the same for them whatever the others do."""
    return random.Random(f"{seed} {whose}")  # noqa: S311 - nothing is kept secret with it


@contextmanager
def _journals(directory: Path) -> Iterator[list[Journal]]:
    journals = [Journal(directory / f"{name}.jsonl") for name in ("users", "faults", "site")]
    try:
        yield journals
    finally:
        for journal in journals:
            journal.close()
