"""Hundreds of users on several processes, with workers killed and the OP restarted: nothing gained, nothing lost."""

from __future__ import annotations

import os
import secrets
import shutil
from collections.abc import Iterator

import pytest

from tests.e2e.demo import ROOT
from tests.e2e.load import report
from tests.e2e.load.checker import check
from tests.e2e.load.run import Scale, Sessions, run
from tests.e2e.load.servers import Postgres, running_postgres, running_redis

#: Where the report is left.
REPORT = ROOT / "build" / "load-report.txt"

#: Where the journals of a run and the log of its server are left, to look into a violation.
LOGS = ROOT / "build" / "load"

SCALE = Scale(users=220, actions=9, kills=12, rotations=1, restarts=2)

#: What has to have happened, or the run has shown nothing.
HAPPENED = (
    *("sign-ins", "step-ups", "posts", "posts kept", "kept posts sent", "sign-outs", "pages shown", "challenges"),
    *("renewals by token", "renewals by browser", "renewals that failed, by token", "renewals that failed, by browser"),
    *("refused: wrong_user", "refused: declined", "refused: expired"),
)


@pytest.fixture
def postgres() -> Iterator[Postgres]:
    with running_postgres() as postgres:
        yield postgres


@pytest.fixture(scope="module")
def redis_port(tmp_path_factory: pytest.TempPathFactory) -> Iterator[int]:
    with running_redis(tmp_path_factory.mktemp("redis")) as port:
        yield port


@pytest.fixture(scope="module")
def seed() -> int:
    """`STEPUP_LOAD_SEED` plans the same again; what happens at the same time is never the same."""
    return int(os.environ.get("STEPUP_LOAD_SEED") or secrets.randbelow(10**9))


@pytest.fixture(scope="module")
def reports() -> Iterator[list[str]]:
    """What is left in `build/load-report.txt`, whatever comes of the runs."""
    reports: list[str] = []
    yield reports
    REPORT.parent.mkdir(parents=True, exist_ok=True)
    REPORT.write_text("\n\n".join(reports) + "\n", encoding="utf-8")


@pytest.mark.parametrize("sessions", ["database", "redis"])
def test_every_answer_is_right_while_workers_are_killed_and_the_op_is_restarted(
    sessions: Sessions,
    postgres: Postgres,
    redis_port: int,
    seed: int,
    reports: list[str],
    capsys: pytest.CaptureFixture[str],
) -> None:
    directory = LOGS / sessions
    shutil.rmtree(directory, ignore_errors=True)
    directory.mkdir(parents=True)
    logs = run(directory, sessions, SCALE, postgres, redis_port, seed)
    found = check(logs)
    reports.append(report.text(f"Sessions in {sessions}", seed, logs, found))
    with capsys.disabled():
        print(f"\n\n{reports[-1]}")  # noqa: T201 - it is what the run is for
    assert [str(violation) for violation in found.violations] == []
    assert [what for what in HAPPENED if not found.counts[what]] == []
    assert found.counts["worker kills"] == SCALE.kills
    assert found.counts["OP restarts"] == SCALE.restarts
