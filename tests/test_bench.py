"""Measuring: rounds, pairing, intervals, failures, tables."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import psutil
import pytest

from graphopt.errors import GraphoptError, UsageError
from graphopt.runtime import bench, process
from graphopt.runtime.bench import (
    OUTPUT,
    Comparison,
    Contender,
    Ratio,
    Row,
    Run,
    again,
    markdown,
    measure,
    output_path,
    paired_ratio,
    rich_table,
)


def python(code: str, *arguments: str) -> tuple[str, ...]:
    return (sys.executable, "-I", "-S", "-c", code, *arguments)


def counting(log: Path, name: str, first: float = 1.0, step: float = 0.0) -> Contender:
    """Appends its name to `log`, and reports `first`, `first + step`, ... seconds in turn."""
    code = (
        "import sys; log, name, first, step = sys.argv[1:]\n"
        "try: turn = open(log).read().split().count(name)\n"
        "except FileNotFoundError: turn = 0\n"
        "open(log, 'a').write(name + ' ')\n"
        "print('some words', float(first) + turn * float(step))"
    )
    return Contender(name, python(code, str(log), name, str(first), str(step)))


# Intervals


def test_interval_holds_the_ratio_that_is_there() -> None:
    rng = np.random.default_rng(1)
    base = rng.lognormal(0, 0.5, 21)  # rounds differ by more than the contenders do
    ratio = paired_ratio(1.3 * base * rng.lognormal(0, 0.03, 21), base)
    assert ratio.low < 1.3 < ratio.high
    assert ratio.high - ratio.low < 0.1
    assert ratio.counts


def test_interval_of_equals_holds_1_as_often_as_it_says() -> None:
    rng = np.random.default_rng(2)
    trials, held = 100, 0
    for _ in range(trials):
        base, other = rng.lognormal(0, 0.1, (2, 9))
        held += not paired_ratio(other, base).counts
    assert held >= 0.9 * trials


def test_interval_is_the_same_on_every_call() -> None:
    values, base = np.random.default_rng(3).uniform(1, 2, (2, 8))
    assert paired_ratio(values, base) == paired_ratio(list(values), list(base))


def test_pairs_are_by_round() -> None:
    assert paired_ratio([2.0, 20.0, 200.0], [1.0, 10.0, 100.0]) == Ratio(2, 2, 2, 3)


def test_too_few_rounds_claim_nothing() -> None:
    few, enough = (paired_ratio([2.0 + i for i in range(n)], [1.0] * n) for n in (5, 6))
    assert few.low > 1
    assert not few.counts
    assert "too few rounds" in str(few)
    assert enough.counts


@pytest.mark.parametrize(
    ("low", "high", "counts"), [(0.9, 1.1, False), (1.0, 1.2, False), (1.01, 1.2, True), (0.5, 0.99, True)]
)
def test_a_difference_counts_when_the_interval_excludes_1(low: float, high: float, counts: bool) -> None:
    ratio = Ratio((low + high) / 2, low, high, 7)
    assert ratio.counts == counts
    assert ("no difference seen" in str(ratio)) != counts


@pytest.mark.parametrize(("values", "base"), [([], []), ([1.0], [1.0, 2.0])])
def test_samples_that_do_not_pair(values: list[float], base: list[float]) -> None:
    with pytest.raises(UsageError, match="paired"):
        paired_ratio(values, base)


def test_without_scipy(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(bench, "find_spec", lambda name: None)
    with pytest.raises(GraphoptError, match=r'pip install "graphopt\[bench\]"'):
        paired_ratio([1.0, 2.0], [1.0, 3.0])
    with pytest.raises(GraphoptError, match=r'pip install "graphopt\[bench\]"'):
        measure([counting(tmp_path / "log", "a")], base="a", rounds=1)
    assert not (tmp_path / "log").exists()


# Rounds


def test_rounds_rotate_and_the_base_runs_twice(tmp_path: Path) -> None:
    log = tmp_path / "log"
    contenders = [counting(log, name) for name in ("b", "a", "c")]
    comparison = measure(contenders, base="a", rounds=5, clock="reported")
    order = log.read_text().split()
    assert order[:3] == ["c", "a", "b"]  # the round before the first one: a's two runs are one here
    assert ["".join(order[i : i + 4]) for i in range(3, len(order), 4)] == ["aabc", "abca", "bcaa", "caab", "aabc"]
    assert [row.name for row in comparison.rows] == ["a", again("a"), "b", "c"]
    assert all(len(row.runs) == 5 for row in comparison.rows)


def test_times_are_paired_within_rounds(tmp_path: Path) -> None:
    # The base's runs report 1, 2, 3, ... in their order; b's report 10, 20, ... : one to ten in each round.
    contenders = [counting(tmp_path / "a", "a", 1, 1), counting(tmp_path / "b", "b", 20, 20)]
    comparison = measure(contenders, base="a", rounds=6, warmups=0, clock="reported")
    first, second = comparison.row("a").runs, comparison.row(again("a")).runs
    assert sorted(run.seconds for run in (*first, *second)) == list(range(1, 13))
    ratio = comparison.row("b").ratio
    assert ratio is not None
    assert ratio.value == pytest.approx(np.median([20 * (i + 1) / run.seconds for i, run in enumerate(first)]))
    assert ratio.counts


def test_a_against_a_sees_no_difference(tmp_path: Path) -> None:
    code = "import sys, os; print(1 + int.from_bytes(os.urandom(4), 'big') / 2**34)"
    comparison = measure([Contender("a", python(code))], base="a", rounds=9, clock="reported")
    ratio = comparison.row(again("a")).ratio
    assert ratio is not None
    assert 1 / 1.25 <= ratio.low <= ratio.value <= ratio.high <= 1.25
    assert comparison.row("a").ratio is None


@pytest.mark.parametrize(
    ("command", "error"),
    [
        (python("raise SystemExit('no such model')"), "exit code 1: no such model"),
        (python("import os; os.kill(os.getpid(), 9)"), "exit code -9"),
        (python("pass", OUTPUT), "ended without an output file"),
        (python("import sys; open(sys.argv[1], 'w')", OUTPUT), "ended without an output file"),
        (python("import time; time.sleep(60)"), "took more than 1 s"),
        (("graphopt-no-such-program",), "graphopt-no-such-program: No such file or directory"),
    ],
    ids=["exit", "signal", "no-file", "empty-file", "time", "no-program"],
)
def test_a_failure_is_a_row(tmp_path: Path, command: tuple[str, ...], error: str) -> None:
    fine = Contender("fine", python("import sys; open(sys.argv[1], 'w').write('x')", OUTPUT))
    comparison = measure(
        [fine, Contender("bad", command)], base="fine", rounds=2, timeout=1 if "60" in command[-1] else 60
    )
    row = comparison.row("bad")
    assert row == Row("bad", "", error=error)
    assert row.seconds is row.peak_bytes is None
    assert len(comparison.row("fine").runs) == len(comparison.row(again("fine")).runs) == 2
    assert error in markdown(comparison)


def test_a_failed_contender_is_not_run_again(tmp_path: Path) -> None:
    log = tmp_path / "log"
    bad = Contender("bad", python("import sys; open(sys.argv[1], 'a').write('x'); sys.exit(3)", str(log)))
    measure([Contender("fine", python("pass")), bad], base="fine", rounds=3)
    assert log.read_text() == "x"


def test_a_failed_base_leaves_times_but_no_ratios() -> None:
    contenders = [Contender("bad", python("raise SystemExit(4)")), Contender("fine", python("pass"))]
    comparison = measure(contenders, base="bad", rounds=2)
    assert comparison.row("bad").error == comparison.row(again("bad")).error == "exit code 4"
    assert len(comparison.row("fine").runs) == 2
    assert comparison.row("fine").ratio is None


def test_a_reported_time_must_be_one() -> None:
    for said in ("", "soon", "-1", "nan", "inf"):
        comparison = measure([Contender("a", python(f"print({said!r})"))], base="a", rounds=1, clock="reported")
        assert "time in seconds" in comparison.row("a").error


def test_names_and_rounds() -> None:
    a = Contender("a", python("pass"))
    for contenders, base, rounds in (([a], "b", 1), ([a, a], "a", 1), ([a], "a", 0)):
        with pytest.raises(UsageError):
            measure(contenders, base=base, rounds=rounds)
    with pytest.raises(UsageError, match="`c`"):
        Comparison("a", "exit", 1, (Row("a", ""),)).row("c")


# One run


def test_outputs_stay_in_the_folder_that_is_given(tmp_path: Path) -> None:
    code = "import sys; open(sys.argv[1], 'w').write('it')"
    measure([Contender("a b/c", python(code, OUTPUT))], base="a b/c", rounds=1, folder=tmp_path, output="x.txt")
    assert output_path(tmp_path, "a b/c", "x.txt").read_text() == "it"
    assert output_path(tmp_path, again("a b/c"), "x.txt").parent.parent == tmp_path


@pytest.mark.skipif(sys.platform != "linux", reason="elsewhere the clock stops at exit")
@pytest.mark.parametrize(
    "code", ["open(path, 'w').write('it')", "open(path + '.part', 'w').write('it'); os.replace(path + '.part', path)"]
)
def test_the_clock_stops_when_the_output_is_complete(tmp_path: Path, code: str) -> None:
    contender = Contender("a", python(f"import os, sys; path = sys.argv[1]; {code}", OUTPUT))
    output, exit_ = (process.run(contender, tmp_path / "a" / "out", clock, 60) for clock in ("output", "exit"))
    assert isinstance(output, Run)
    assert isinstance(exit_, Run)
    assert 0 < output.seconds < output.exit_seconds
    assert exit_.seconds == exit_.exit_seconds


def test_peak_memory_is_the_commands_own(tmp_path: Path) -> None:
    mine = bytearray(300_000_000)
    mine[::4096] = b"x" * len(mine[::4096])
    code = "x = bytearray(int({})); x[::4096] = b'x' * len(x[::4096])"
    small, large = (
        process.run(Contender("a", python(code.format(size))), tmp_path / "a" / "out", "exit", 60)
        for size in (1e3, 1e8)
    )
    assert isinstance(small, Run)
    assert isinstance(large, Run)
    assert small.peak_bytes is not None
    assert large.peak_bytes is not None
    assert small.peak_bytes < 100_000_000  # neither this process' memory nor another run's
    assert 95_000_000 < large.peak_bytes - small.peak_bytes < 150_000_000
    assert len(mine) == 300_000_000


def test_peak_memory_where_the_system_does_not_keep_it() -> None:
    child = "import time; x = bytearray(10**8); x[::4096] = b'x' * len(x[::4096]); time.sleep(0.5)"
    parent = f"import subprocess, sys; subprocess.run([sys.executable, '-I', '-S', '-c', {child!r}])"
    launched = subprocess.Popen(python(parent))
    assert 1e8 < process.watched_peak(launched, 60) < 3e8
    slow = subprocess.Popen(python("import time; time.sleep(60)"), start_new_session=True)
    with pytest.raises(subprocess.TimeoutExpired):
        process.watched_peak(slow, 0.05)
    process.end(slow)
    assert slow.poll() is not None


def test_a_command_that_takes_too_long_is_ended_with_its_children(tmp_path: Path) -> None:
    inner = "import time; print(flush=True); time.sleep(600)"
    code = (
        "import subprocess, sys\n"
        f"child = subprocess.Popen([sys.executable, '-c', {inner!r}], stdout=subprocess.PIPE)\n"
        f"child.stdout.readline(); open({str(tmp_path / 'pid')!r}, 'w').write(str(child.pid)); child.wait()"
    )
    error = process.run(Contender("a", python(code)), tmp_path / "a" / "out", "exit", 3)
    assert error == "took more than 3 s"
    pid = int((tmp_path / "pid").read_text())
    psutil.wait_procs([p for p in psutil.process_iter() if p.pid == pid], timeout=30)
    assert not psutil.pid_exists(pid) or psutil.Process(pid).status() == psutil.STATUS_ZOMBIE


def test_environment_is_added(tmp_path: Path) -> None:
    code = "import os; print(os.environ['GRAPHOPT_TEST'], 7 if os.environ.get('PATH') else 8)"
    contender = Contender("a", python(code), {"GRAPHOPT_TEST": "it"})
    result = process.run(contender, tmp_path / "a" / "out", "reported", 60)
    assert isinstance(result, Run)
    assert result.seconds == 7


# What comes out


def comparison() -> Comparison:
    runs = tuple(Run(seconds, seconds + 1, 10_000_000 * (i + 1)) for i, seconds in enumerate((0.5, 0.25, 3.0)))
    slow = tuple(Run(run.seconds * 4, run.exit_seconds * 4, None) for run in runs)
    ratio = paired_ratio([run.seconds for run in slow], [run.seconds for run in runs])
    rows = (Row("a", "1.0", runs), Row("slow", "", slow, ratio), Row("bad|one", "2", error="out of [memory]"))
    return Comparison("a", "output", 3, rows)


def test_json_holds_every_run() -> None:
    data = json.loads(json.dumps(comparison().to_json()))
    assert [row["name"] for row in data["rows"]] == ["a", "slow", "bad|one"]
    assert data["rows"][0]["runs"] == [[0.5, 1.5, 10_000_000], [0.25, 1.25, 20_000_000], [3.0, 4.0, 30_000_000]]
    assert (data["rows"][0]["seconds"], data["rows"][0]["exit_seconds"], data["rows"][0]["peak_bytes"]) == (
        0.5,
        1.5,
        3e7,
    )
    assert data["rows"][1]["ratio"] == {"value": 4.0, "low": 4.0, "high": 4.0, "counts": False}
    assert data["rows"][2]["error"] == "out of [memory]"
    assert data["rows"][2]["ratio"] is data["rows"][2]["seconds"] is None
    assert data["interval"]["confidence"] == 0.95


def test_tables() -> None:
    nodes = bench.Column("nodes", lambda row: f"{row.name}'s")
    lines = markdown(comparison(), [nodes]).splitlines()
    assert lines[2] == "| a 1.0 | 500 ms | 1.50 s | – | 30 MB | a's |"
    assert lines[3].startswith("| slow | 2.00 s | 6.00 s | 4.00 [4.00, 4.00] (too few")
    assert lines[4] == "| bad/one 2 | failed: out of [memory] | – | – | – | – |"
    table = rich_table(comparison(), "title", [nodes])
    assert table.row_count == 3
    assert [str(cell) for cell in table.columns[1].cells] == ["500 ms", "2.00 s", "failed: out of [memory]"]
