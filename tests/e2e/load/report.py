"""The report of a run, for people."""

from __future__ import annotations

from tests.e2e.load.checker import Logs, Report

#: Violations that are written out; the others are counted.
SHOWN = 20


def text(title: str, seed: int, logs: Logs, report: Report) -> str:
    """The counts, and what should not have happened."""
    counts = dict(sorted(report.counts.items()))
    lines = [f"{title}, seed {seed}, {logs.took:.0f} s", ""]
    lines += [f"  {name:<52}{counts[name]:>8,}" for name in counts]
    lines += [f"  {'violations':<52}{len(report.violations):>8,}", ""]
    lines += [f"  ! {violation}" for violation in report.violations[:SHOWN]]
    return "\n".join(lines)
