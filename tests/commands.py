"""The command line called from tests: in this process, which is fast, or in one of its own."""

from __future__ import annotations

import contextlib
import io
import subprocess
import sys
from dataclasses import dataclass
from unittest import mock

from graphopt.cli import app


@dataclass(frozen=True)
class Ended:
    """How a command ended."""

    code: int
    out: str
    err: str


def graphopt(*words) -> Ended:
    """`graphopt WORDS` in this process."""
    out, err = io.StringIO(), io.StringIO()
    argv = ["graphopt", *map(str, words)]
    code = None
    with mock.patch.object(sys, "argv", argv), contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        try:
            app.main()
        except SystemExit as ended:
            code = ended.code
    assert isinstance(code, int)
    return Ended(code, out.getvalue(), err.getvalue())


def subprocess_graphopt(*words, **options) -> Ended:
    """`graphopt WORDS` in a process of its own."""
    command = [sys.executable, "-m", "graphopt.cli.app", *map(str, words)]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=300, **options)
    return Ended(done.returncode, done.stdout, done.stderr)


def done(*words) -> str:
    """What a command that must succeed said on standard output; it said nothing else."""
    ended = graphopt(*words)
    assert (ended.code, ended.err) == (0, "")
    return ended.out


def refused(*words, code: int = 2) -> str:
    """The one sentence that a refused command says; it says nothing else."""
    ended = graphopt(*words)
    assert (ended.code, ended.out) == (code, ""), ended
    line, newline, rest = ended.err.partition("\n")
    assert newline
    assert not rest, ended.err
    assert line.startswith("graphopt: ")
    assert "Traceback" not in line
    assert line == line.strip()
    return line.removeprefix("graphopt: ")
