"""The README's blocks, executed: its shell blocks (the tests' own excepted), then its Python blocks.

They run one after the other in one empty folder, as a reader would run them, in this environment:
lines that install are left out, `.ci/run` runs those.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

README = Path(__file__).resolve().parent.parent / "README.md"
FENCE = re.compile(r"^```(\w+)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
SHELL = {"sh", "bash", "shell"}
INSTALLS = re.compile(r"^(python[\d.]* -m venv|\. |source |pip install|git clone|cd )")


def blocks(*languages: str) -> list[str]:
    """The README's fenced blocks of these languages, in order."""
    return [body for language, body in FENCE.findall(README.read_text(encoding="utf-8")) if language in languages]


def without_installing(block: str) -> str:
    return "".join(line for line in block.splitlines(keepends=True) if not INSTALLS.match(line))


def run(command: list[str], folder: Path) -> str:
    """Output of `command` in `folder`, with this environment's programs first."""
    path = os.pathsep.join([str(Path(sys.executable).parent), os.environ.get("PATH", "")])
    environment = {**os.environ, "PATH": path}
    done = subprocess.run(
        command,
        cwd=folder,
        env=environment,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout + done.stderr


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("readme")


def test_the_first_two_blocks_set_everything_up() -> None:
    first, second, *_ = blocks(*SHELL)
    assert re.search(r"^pip install \.$", first, re.MULTILINE)
    assert re.search(r"^graphopt compile zoo:resnet18 -o resnet18\.onnx$", first, re.MULTILINE)
    assert second.splitlines()[0] == 'pip install ".[test]"'
    assert re.match(r"pytest\b", second.splitlines()[-1])


def test_first_shell_block(folder: Path) -> None:
    said = run(["bash", "-euo", "pipefail", "-c", without_installing(blocks(*SHELL)[0])], folder)
    assert (folder / "resnet18.onnx").stat().st_size > 1_000_000
    assert "verified" in said


def test_other_shell_blocks(folder: Path) -> None:
    for block in blocks(*SHELL)[2:]:
        run(["bash", "-euo", "pipefail", "-c", without_installing(block)], folder)


def test_python_blocks(folder: Path) -> None:
    code = "\n".join(blocks("python"))
    assert code
    run([sys.executable, "-c", code], folder)
