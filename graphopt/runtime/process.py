"""One run of a command in a process of its own: how long, how much memory, or why it failed."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Literal, TypeAlias

from graphopt.runtime import launcher

if TYPE_CHECKING:
    import psutil

OUTPUT = "{output}"  # in a command: the file that it must write
TIMEOUT = 600.0  # seconds
POLL = 0.01  # seconds between looks at a process' memory where the system does not keep its peak
LONGEST_REASON = 240  # characters of a failing command's last words

Clock: TypeAlias = Literal["output", "exit", "reported"]


@dataclass(frozen=True)
class Contender:
    """A command to measure.

    Args:
        name: what tables call it.
        command: program and arguments; `{output}` in them stands for the file that must be written.
        environment: variables set beside those of this process.
        version: what tables say about its version.
    """

    name: str
    command: tuple[str, ...]
    environment: Mapping[str, str] = field(default_factory=dict)
    version: str = ""

    @property
    def writes(self) -> bool:
        """Whether it must leave an output file."""
        return any(OUTPUT in argument for argument in self.command)


@dataclass(frozen=True)
class Run:
    """One run: seconds by the comparison's clock and to the process' exit, and the largest resident memory in bytes."""

    seconds: float
    exit_seconds: float
    peak_bytes: int | None


def run(contender: Contender, output: Path, clock: Clock, timeout: float) -> Run | str:
    """One run of a contender, its output alone in a new folder; or one sentence that says how it failed."""
    shutil.rmtree(output.parent, ignore_errors=True)
    output.parent.mkdir(parents=True)
    if hasattr(os, "sync"):
        os.sync()  # what an earlier run left to be written must not be charged to this one
    with tempfile.TemporaryDirectory(prefix="graphopt-run-") as scratch:
        place = Path(scratch)
        report = place / "report.json"
        command = [argument.replace(OUTPUT, str(output)) for argument in contender.command]
        with (place / "out").open("wb") as out, (place / "err").open("wb") as err:
            process = subprocess.Popen(
                [sys.executable, "-I", "-S", launcher.__file__, str(report), str(output.parent), *command],
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=err,
                cwd=place,
                env={**os.environ, **contender.environment},
                start_new_session=True,
            )
            try:
                peak = _wait(process, timeout)
            except subprocess.TimeoutExpired:
                return f"took more than {timeout:g} s"
            finally:
                end(process)
        said, complaint = ((place / name).read_text(encoding="utf-8", errors="replace") for name in ("out", "err"))
        if not report.is_file():
            return _last_words(complaint) or "could not be started"
        entries = json.loads(report.read_text(encoding="utf-8"))
    if entries["status"]:
        words = _last_words(complaint) or _last_words(said)
        return f"exit code {entries['status']}" + (f": {words}" if words else "")
    if contender.writes and not (output.is_file() and output.stat().st_size):
        return "ended without an output file"
    exit_seconds, peak = float(entries["exit_seconds"]), entries["peak_bytes"] or peak
    seconds = _seconds(clock, exit_seconds, entries["output_seconds"], said)
    return seconds if isinstance(seconds, str) else Run(seconds, exit_seconds, peak)


def _seconds(clock: Clock, exit_seconds: float, output_seconds: float | None, said: str) -> float | str:
    if clock == "exit" or (clock == "output" and output_seconds is None):
        return exit_seconds
    if clock == "output":
        return min(output_seconds or exit_seconds, exit_seconds)
    word = (said.split() or [""])[-1]
    try:
        seconds = float(word)
    except ValueError:
        seconds = 0.0
    return seconds if 0 < seconds < float("inf") else f"should end with its time in seconds, but said {word!r}"


def _last_words(text: str) -> str:
    """The last line that says something, shortened."""
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    return lines[-1][:LONGEST_REASON] if lines else ""


def end(process: subprocess.Popen[bytes]) -> None:
    """End a process that still runs, with all that it started."""
    if process.poll() is not None:
        return
    if hasattr(os, "killpg"):
        os.killpg(process.pid, signal.SIGKILL)
    else:
        for child in _descendants(process.pid):
            child.kill()
        process.kill()
    process.wait()


def _wait(process: subprocess.Popen[bytes], timeout: float) -> int | None:
    """Wait for the launcher; the peak memory that was seen, in bytes, where the system does not keep it.

    Raises:
        subprocess.TimeoutExpired: it took too long.
    """
    if hasattr(os, "wait4"):
        process.wait(timeout)
        return None
    return watched_peak(process, timeout)


def watched_peak(process: subprocess.Popen[bytes], timeout: float) -> int:
    """Wait for `process`, looking at its children's memory every `POLL` seconds; the most that was seen, in bytes.

    Raises:
        subprocess.TimeoutExpired: it took too long.
    """
    import psutil

    peak, deadline = 0, time.monotonic() + timeout
    while process.poll() is None:
        for child in _descendants(process.pid):
            with contextlib.suppress(psutil.Error):
                memory = child.memory_info()
                peak = max(peak, getattr(memory, "peak_wset", memory.rss))
        if time.monotonic() > deadline:
            raise subprocess.TimeoutExpired(process.args, timeout)
        time.sleep(POLL)
    return peak


def _descendants(pid: int) -> list[psutil.Process]:
    import psutil

    with contextlib.suppress(psutil.Error):
        return psutil.Process(pid).children(recursive=True)
    return []
