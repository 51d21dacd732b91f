"""The house's own rules: layers, what loads when, public names, sizes of files, what is tracked."""

from __future__ import annotations

import ast
import importlib.metadata
import inspect
import os
import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

import graphopt

ROOT = Path(__file__).resolve().parent.parent
PACKAGE = ROOT / "graphopt"
HEAVY = {"networkx", "onnx", "onnxruntime", "scipy", "torch", "jsonschema"}
LONGEST = 400  # lines; a longer file is asked what its second purpose is
LONG_FILES = {
    "ir/graph.py": "Graph, Node and Value keep each other's uses in step, by fields private to the three",
}
SCREEN = 40  # public names that fit on one
# Folders of one machine: a home, a build host's checkout. Spelt so that this file does not match itself.
MACHINE_PATH = re.compile(r"(?<![\w.$}-])/(?:[w]ork|[r]oot|[h]ome/\w+|[U]sers/\w+|[o]pt/pypi)\b|[C]:\\\\?Users")


def modules() -> list[Path]:
    return sorted(PACKAGE.rglob("*.py"))


def tracked_files() -> list[Path]:
    """What the repository tracks; of an unpacked source distribution, everything in it."""
    listed = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, check=False)
    if listed.returncode:
        return [path for path in ROOT.rglob("*") if path.is_file()]
    return [path for name in listed.stdout.decode().split("\0") if name and (path := ROOT / name).is_file()]


def run_python(code: str) -> str:
    """Standard output of `code` in a fresh interpreter."""
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_layers() -> None:
    lint = Path(sys.executable).with_name("lint-imports")
    done = subprocess.run([lint, "--no-cache"], cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


def test_every_room_has_a_layer() -> None:
    """A new package or module below graphopt must be placed in the layers, or be one of those beside them."""
    config = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    layers = {
        name.strip().removeprefix("graphopt.")
        for contract in config["tool"]["importlinter"]["contracts"]
        for layer in contract.get("layers", [])
        for name in re.split("[|:]", layer)
    }
    beside = {"__init__", "__main__", "_version", "errors"}
    rooms = {path.stem for path in PACKAGE.iterdir() if path.suffix == ".py" or (path / "__init__.py").is_file()}
    assert rooms - beside == layers


@pytest.mark.parametrize(
    "code",
    ["import graphopt", "from graphopt.cli.app import main; main(['--version'])"],
    ids=["import", "--version"],
)
def test_start_loads_nothing_heavy(code: str) -> None:
    watch = "import atexit, sys; atexit.register(lambda: print('loaded', *(m for m in sys.modules if '.' not in m)))"
    said = run_python(f"{watch}\n{code}")
    loaded = set(said.splitlines()[-1].split()[1:])
    assert "graphopt" in loaded
    assert not loaded & HEAVY


def test_version_is_said_by_the_command_and_the_package() -> None:
    command = [sys.executable, "-m", "graphopt", "--version"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert graphopt.__version__ in done.stdout


def test_public_names_fit_on_one_screen() -> None:
    assert len(graphopt.__all__) <= SCREEN
    assert len(set(graphopt.__all__)) == len(graphopt.__all__)
    assert set(dir(graphopt)) >= set(graphopt.__all__)


@pytest.mark.parametrize("name", graphopt.__all__)
def test_public_name_is_documented(name: str) -> None:
    value = getattr(graphopt, name)
    assert inspect.getdoc(value), f"graphopt.{name} has no docstring"
    if inspect.isclass(value):
        own = {key: member for key, member in vars(value).items() if not key.startswith("_")}
        described = {key: inspect.getdoc(member) for key, member in own.items() if callable(member)}
        assert all(described.values()), f"graphopt.{name}: {[key for key, doc in described.items() if not doc]}"


def test_an_unknown_name_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="no_such_name"):
        _ = graphopt.no_such_name  # type: ignore[attr-defined]


def test_long_files_have_a_reason() -> None:
    long = {
        path.relative_to(PACKAGE).as_posix()
        for path in modules()
        if len(path.read_text(encoding="utf-8").splitlines()) > LONGEST
    }
    assert long == set(LONG_FILES)


@pytest.mark.parametrize("path", modules(), ids=lambda path: path.relative_to(PACKAGE).as_posix())
def test_module_says_what_it_is_for(path: Path) -> None:
    tree = ast.parse(path.read_text(encoding="utf-8"))
    assert not tree.body or ast.get_docstring(tree)


def test_licence_and_types_are_packaged() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    assert project["license"] == "Apache-2.0"
    assert project["license-files"] == ["LICENSE"]
    licence = (ROOT / "LICENSE").read_text(encoding="utf-8")
    assert "Apache License" in licence
    assert "END OF TERMS AND CONDITIONS" in licence
    assert (Path(graphopt.__file__).parent / "py.typed").is_file()


def test_an_installed_package_has_its_licence_and_version() -> None:
    """Whatever is installed as graphopt, if anything is, is this version, under this licence."""
    found = [d for d in importlib.metadata.distributions() if d.metadata["Name"] == "graphopt"]
    assert {d.version for d in found} <= {graphopt.__version__}
    assert {d.metadata["License-Expression"] for d in found} <= {"Apache-2.0"}
    assert len(found) == 1 or not os.environ.get("CI")


def test_changelog_has_the_version() -> None:
    changelog = (ROOT / "CHANGELOG.md").read_text(encoding="utf-8")
    assert re.search(rf"^## {re.escape(graphopt.__version__)}\b", changelog, re.MULTILINE)


def test_nothing_tracked_is_a_model_or_large() -> None:
    tracked = tracked_files()
    assert tracked
    assert not [path for path in tracked if ".onnx" in path.suffixes or path.stat().st_size > 1_000_000]


def test_no_path_of_a_machine_is_tracked() -> None:
    found = []
    for path in tracked_files():
        text = path.read_bytes().decode(errors="replace")
        found += [f"{path.relative_to(ROOT)}: {match.group()}" for match in MACHINE_PATH.finditer(text)]
    assert not found


@pytest.mark.parametrize(
    "text", ["cd /" + "work/main", "'/" + "root/.cache'", "see /" + "home/ann/x", "C:\\" + "Users"]
)
def test_paths_of_a_machine_are_recognized(text: str) -> None:
    assert MACHINE_PATH.search(text)
