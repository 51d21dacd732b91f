"""Measuring commands against each other: each in its own process, in rounds, with an interval for every ratio.

A *contender* is a command line. In each round every contender runs once, the order rotates from round to round, and
the *base* runs twice: its second row (A/A) shows what the method sees where there is no difference. Times are compared
within a round, so that a machine that slows down for a while slows all. A contender that fails or takes too long is
not run again; its row says so.

    comparison = measure([Contender("a", ("python", "a.py", OUTPUT)), Contender("b", ...)], base="a")
    print(comparison.row("b").ratio)

Needs the extra `bench` (scipy for the intervals; psutil for peak memory where the system does not tell).
"""

from __future__ import annotations

import contextlib
import re
import statistics
import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from graphopt.errors import GraphoptError, UsageError
from graphopt.runtime.process import OUTPUT, TIMEOUT, Clock, Contender, Run, run

if TYPE_CHECKING:
    from rich.table import Table

__all__ = [
    "OUTPUT",
    "Column",
    "Comparison",
    "Contender",
    "Ratio",
    "Row",
    "Run",
    "again",
    "markdown",
    "measure",
    "output_path",
    "paired_ratio",
    "rich_table",
]

ROUNDS = 7
LEAST_ROUNDS = 6  # with fewer, not even all rounds on one side of 1 make 95 %: 1 − 2 · ½⁶ = 97 %, 1 − 2 · ½⁵ = 94 %
CONFIDENCE = 0.95
RESAMPLES, SEED = 9999, 0


@dataclass(frozen=True)
class Ratio:
    """The median of the rounds' ratios, contender over base, with its bootstrap interval."""

    value: float
    low: float
    high: float
    rounds: int

    @property
    def counts(self) -> bool:
        """Whether there is a difference: the interval excludes 1, and the rounds suffice to say so."""
        return self.rounds >= LEAST_ROUNDS and not self.low <= 1 <= self.high

    def __str__(self) -> str:
        text = f"{self.value:.2f} [{self.low:.2f}, {self.high:.2f}]"
        if self.rounds < LEAST_ROUNDS:
            return f"{text} (too few rounds to tell)"
        return text if self.counts else f"{text} (no difference seen)"


@dataclass(frozen=True)
class Row:
    """All runs of one contender, in the order of rounds; `error` says why there are none."""

    name: str
    version: str
    runs: tuple[Run, ...] = ()
    ratio: Ratio | None = None
    error: str = ""

    @property
    def seconds(self) -> float | None:
        """The median time by the comparison's clock."""
        return statistics.median(run.seconds for run in self.runs) if self.runs else None

    @property
    def exit_seconds(self) -> float | None:
        """The median time to the process' exit."""
        return statistics.median(run.exit_seconds for run in self.runs) if self.runs else None

    @property
    def peak_bytes(self) -> int | None:
        """The largest resident memory of all runs."""
        return max((run.peak_bytes for run in self.runs if run.peak_bytes is not None), default=None)

    def to_json(self) -> dict[str, object]:
        """Plain data, every run included."""
        ratio = self.ratio
        return {
            "name": self.name,
            "version": self.version,
            "error": self.error or None,
            "seconds": self.seconds,
            "exit_seconds": self.exit_seconds,
            "peak_bytes": self.peak_bytes,
            "ratio": ratio and {"value": ratio.value, "low": ratio.low, "high": ratio.high, "counts": ratio.counts},
            "runs": [[run.seconds, run.exit_seconds, run.peak_bytes] for run in self.runs],
        }


@dataclass(frozen=True)
class Comparison:
    """What was measured: the base's row first, then its second row (A/A), then the others."""

    base: str
    clock: Clock
    rounds: int
    rows: tuple[Row, ...]

    def row(self, name: str) -> Row:
        """The row of a contender.

        Raises:
            UsageError: there is none of this name.
        """
        for row in self.rows:
            if row.name == name:
                return row
        raise UsageError(f"no row `{name}` was measured; there are {', '.join(row.name for row in self.rows)}")

    def to_json(self) -> dict[str, object]:
        """Plain data, with what the intervals rest on."""
        return {
            "base": self.base,
            "clock": self.clock,
            "rounds": self.rounds,
            "interval": {"confidence": CONFIDENCE, "resamples": RESAMPLES, "seed": SEED},
            "rows": [row.to_json() for row in self.rows],
        }


def again(name: str) -> str:
    """What the base's second row (A/A) is called."""
    return f"{name} (A/A)"


def output_path(folder: Path, name: str, output: str = "output.onnx") -> Path:
    """Where `measure` lets the contender `name` write below `folder`."""
    return folder / re.sub(r"\W+", "-", name).strip("-") / output


def paired_ratio(values: Sequence[float], base: Sequence[float]) -> Ratio:
    """The median of `values[i] / base[i]` over rounds, with its bootstrap 95 % interval, the same on every call.

    Args:
        values: one positive number for each round.
        base: what to compare with, in the same rounds.

    Raises:
        UsageError: not one number for each round, or none.
        GraphoptError: scipy is not installed.
    """
    if len(values) != len(base) or not len(values):
        raise UsageError(f"paired samples are wanted, one of each in every round; got {len(values)} and {len(base)}")
    ratios = np.asarray(values, np.float64) / np.asarray(base, np.float64)
    middle = float(np.median(ratios))
    if len(ratios) == 1 or np.all(ratios == ratios[0]):
        return Ratio(middle, middle, middle, len(ratios))
    require_scipy()
    from scipy.stats import bootstrap

    interval = bootstrap(
        (ratios,),
        np.median,
        n_resamples=RESAMPLES,
        confidence_level=CONFIDENCE,
        method="percentile",
        random_state=np.random.default_rng(SEED),
    ).confidence_interval
    return Ratio(middle, float(interval.low), float(interval.high), len(ratios))


def require_scipy() -> None:
    """Say so before anything runs.

    Raises:
        GraphoptError: scipy is not installed.
    """
    if find_spec("scipy") is None:
        raise GraphoptError('intervals need scipy, which is not installed: run `pip install "graphopt[bench]"`')


def rotated(names: Sequence[str], turn: int) -> tuple[str, ...]:
    """`names` in the order of round `turn`."""
    start = turn % len(names) if names else 0
    return (*names[start:], *names[:start])


def measure(
    contenders: Sequence[Contender],
    *,
    base: str,
    rounds: int = ROUNDS,
    warmups: int = 1,
    timeout: float = TIMEOUT,
    clock: Clock = "output",
    folder: Path | None = None,
    output: str = "output.onnx",
    say: Callable[[str], None] = lambda what: None,
) -> Comparison:
    """Run all contenders in rounds.

    Args:
        contenders: what to run; names must differ.
        base: the name that the others are compared with; it runs twice in each round.
        rounds: measured runs of each; below `LEAST_ROUNDS` no difference is ever claimed.
        warmups: unmeasured runs of each before, which bring files and programs into the system's caches.
        timeout: seconds that a run may take.
        clock: where a run's time ends: when its `output` is complete (on Linux; at exit elsewhere), at the process'
            `exit`, or `reported`, the last word that it prints, in seconds.
        folder: where outputs go; the last round's stay, at `output_path`. A temporary one by default.
        output: the output file's name.
        say: is told what runs next.

    Raises:
        UsageError: a name that is missing or there twice, or fewer than one round.
        GraphoptError: scipy is not installed.
    """
    entries = {contender.name: contender for contender in contenders}
    if base not in entries or len(entries) != len(contenders):
        raise UsageError(f"contenders need names of their own, one of them the base `{base}`; got {list(entries)}")
    if rounds < 1:
        raise UsageError(f"rounds must be at least 1, got {rounds}")
    require_scipy()
    others = {name: contender for name, contender in entries.items() if name != base}
    entries = {base: entries[base], again(base): entries[base], **others}
    runs: dict[str, list[Run]] = {name: [] for name in entries}
    errors: dict[str, str] = {}
    with contextlib.ExitStack() as stack:
        if folder is None:
            folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="graphopt-bench-")))
        for turn in range(-warmups, rounds):
            for name in rotated(list(entries), turn):
                if name in errors or (turn < 0 and name == again(base)):
                    continue
                say(f"{name}, round {turn + 1} of {rounds}" if turn >= 0 else f"{name}, warming up")
                result = run(entries[name], output_path(folder, name, output), clock, timeout)
                if isinstance(result, str):
                    errors[name] = result
                elif turn >= 0:
                    runs[name].append(result)
    return Comparison(base, clock, rounds, tuple(_row(entries[name], name, base, runs, errors) for name in entries))


def _row(
    contender: Contender, name: str, base: str, runs: Mapping[str, Sequence[Run]], errors: Mapping[str, str]
) -> Row:
    if name in errors:
        return Row(name, contender.version, error=errors[name])
    own, other = (tuple(run.seconds for run in runs[entry]) for entry in (name, base))
    ratio = paired_ratio(own, other) if name != base and base not in errors else None
    return Row(name, contender.version, tuple(runs[name]), ratio)


@dataclass(frozen=True)
class Column:
    """A column of a table: its head, and what a row has there."""

    head: str
    cell: Callable[[Row], str]


def columns(comparison: Comparison) -> tuple[Column, ...]:
    """Time, ratio and peak memory, as every table of measurements has them."""
    times = [Column("time", lambda row: _seconds(row.seconds))]
    if comparison.clock != "exit":
        times.append(Column("to exit", lambda row: _seconds(row.exit_seconds)))
    return (
        *times,
        Column(f"time ÷ {comparison.base}", lambda row: str(row.ratio) if row.ratio else "–"),
        Column("peak memory", lambda row: f"{row.peak_bytes / 1e6:,.0f} MB" if row.peak_bytes is not None else "–"),
    )


def _seconds(value: float | None) -> str:
    if value is None:
        return "–"
    return f"{value:.2f} s" if value >= 1 else f"{value * 1000:.3g} ms"


def _lines(comparison: Comparison, extra: Sequence[Column]) -> tuple[list[str], list[list[str]]]:
    """Heads, and the cells of every row; a row that failed has its reason and nothing else."""
    shown = (*columns(comparison), *extra)
    rows = []
    for row in comparison.rows:
        name = f"{row.name} {row.version}".rstrip()
        rest = [f"failed: {row.error}", *["–"] * (len(shown) - 1)] if row.error else [c.cell(row) for c in shown]
        rows.append([name, *rest])
    return ["", *(column.head for column in shown)], rows


def rich_table(comparison: Comparison, title: str = "", extra: Sequence[Column] = ()) -> Table:
    """The comparison for a terminal, with columns of the caller's own at the end."""
    from rich.table import Table
    from rich.text import Text

    heads, rows = _lines(comparison, extra)
    table = Table(title=Text(title) if title else None, title_justify="left")
    for index, head in enumerate(heads):
        table.add_column(head, justify="right" if index else "left")
    for cells in rows:
        table.add_row(*(Text(cell) for cell in cells))
    return table


def markdown(comparison: Comparison, extra: Sequence[Column] = ()) -> str:
    """The comparison as a Markdown table, with columns of the caller's own at the end."""
    heads, rows = _lines(comparison, extra)
    ruler = ["---", *["---:"] * (len(heads) - 1)]
    return "\n".join(f"| {' | '.join(cell.replace('|', '/') for cell in cells)} |" for cells in (heads, ruler, *rows))
