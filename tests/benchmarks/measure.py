"""Measuring several things in turn, and the table of what came of it."""

from __future__ import annotations

import gc
import statistics
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

__all__ = ["Other", "Row", "Table", "interleaved"]


@dataclass(frozen=True, slots=True)
class Other:
    """What ours is compared with. `target` is what the ratio is to be at the most; None where it need only be known."""

    value: float
    target: float | None = None
    name: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """What something of ours takes, and how much of what others do.

    Attributes:
        floor: the least that it could take.
        peer: what a site would have in place of it.
        limit: what ours is to stay under, in its unit; None where that is not said.
    """

    what: str
    unit: str
    ours: float
    floor: Other | None = None
    peer: Other | None = None
    limit: float | None = None

    @property
    def reached(self) -> str:
        """Whether all that was aimed at is reached; empty where nothing was."""
        aims = [self.ours / other.value <= other.target for other in (self.floor, self.peer) if other and other.target]
        if self.limit is not None:
            aims.append(self.ours < self.limit)
        return ("yes" if all(aims) else "no") if aims else ""

    def cells(self) -> tuple[str, ...]:
        floor, peer = self._compared(self.floor), self._compared(self.peer)
        limit = "" if self.limit is None else f"< {self.limit:g}"
        return (self.what, f"{_number(self.ours)} {self.unit}", limit, *floor, *peer, self.peer_name, self.reached)

    @property
    def peer_name(self) -> str:
        return self.peer.name if self.peer else ""

    def _compared(self, other: Other | None) -> tuple[str, str, str]:
        if other is None:
            return "", "", ""
        target = "" if other.target is None else f"<= {other.target:g}"
        return _number(other.value), _number(self.ours / other.value), target


class Table:
    """What a run has measured, in the order in which it did."""

    HEAD = ("", "ours", "target", "floor", "ratio", "target", "peer", "ratio", "target", "the peer is", "reached")

    def __init__(self) -> None:
        self.rows: list[Row] = []

    def __str__(self) -> str:
        cells = [self.HEAD, *(row.cells() for row in self.rows)]
        widths = [max(map(len, column)) for column in zip(*cells, strict=True)]
        rule = tuple("-" * width for width in widths)
        lines = (zip(row, widths, strict=True) for row in (cells[0], rule, *cells[1:]))
        return "\n".join("  ".join(cell.ljust(width) for cell, width in line).rstrip() for line in lines)


def interleaved(benchmark: Any, rounds: int, ours: str, subjects: Mapping[str, Callable[[], Any]]) -> dict[str, Any]:
    """The median of what each of some subjects returns, in rounds in which they come one after the other.

    What disturbs a machine for a while so disturbs all of them, and a ratio stays what it is. The collector of garbage
    comes between the subjects, and not in them.

    Args:
        benchmark: pytest-benchmark's fixture, which keeps its own account of `ours`.
        ours: the name of the subject that it is about.
        subjects: by name, functions that measure once.
    """
    results: dict[str, list[Any]] = {name: [] for name in subjects}

    def others() -> None:
        for name, subject in subjects.items():
            if name != ours:
                results[name].append(_undisturbed(subject))
        gc.collect()

    benchmark.pedantic(lambda: results[ours].append(subjects[ours]()), setup=others, rounds=rounds, iterations=1)
    medians = {name: _median(values) for name, values in results.items()}
    benchmark.extra_info["medians"] = medians
    return medians


def _undisturbed(subject: Callable[[], Any]) -> Any:
    gc.collect()
    gc.disable()
    try:
        return subject()
    finally:
        gc.enable()


def _median(values: list[Any]) -> Any:
    if isinstance(values[0], Mapping):
        return {key: statistics.median(value[key] for value in values) for key in values[0]}
    return statistics.median(values)


def _number(value: float) -> str:
    """Three significant digits, without an exponent."""
    return f"{value:.0f}" if value >= 100 else f"{value:.1f}" if value >= 10 else f"{value:.2f}"
