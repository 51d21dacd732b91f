"""The command line called from tests: in this process, which is fast, or in one of its own.

What it keeps in the user's cache folder goes to `CACHE`, which is removed when the tests end.
"""

from __future__ import annotations

import contextlib
import io
import os
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from unittest import mock

from graphopt.cli import app

_cache = TemporaryDirectory(prefix="graphopt-tests-")
CACHE = Path(_cache.name)


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
    cache = mock.patch("platformdirs.user_cache_path", return_value=CACHE)
    argv_given = mock.patch.object(sys, "argv", argv)
    with cache, argv_given, contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        try:
            app.main()
        except SystemExit as ended:
            code = ended.code
    assert isinstance(code, int)
    return Ended(code, out.getvalue(), err.getvalue())


def subprocess_graphopt(*words, **options) -> Ended:
    """`graphopt WORDS` in a process of its own."""
    command = [sys.executable, "-m", "graphopt.cli.app", *map(str, words)]
    env = {**os.environ, "XDG_CACHE_HOME": str(CACHE)}
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=300, env=env, **options)
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
