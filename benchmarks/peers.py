"""The other optimizers of ONNX files, each in a virtual environment of its own, made when first needed.

Each is run in the way its own documentation shows; where it shows several, in the one that was fastest on the
ResNet-152 of `raw_export.py`. Versions are pinned, so that a table can be made again; raise them by hand.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import subprocess
import sys
import tempfile
import venv
from dataclasses import dataclass
from pathlib import Path

from platformdirs import user_cache_path

from graphopt.errors import GraphoptError
from graphopt.runtime.bench import OUTPUT, Contender

ISOLATED = {"PYTHONPATH": "", "PYTHONNOUSERSITE": "1"}
PYTHON = "Scripts/python.exe" if sys.platform == "win32" else "bin/python"

ONNX, RUNTIME = "onnx==1.23.2", "onnxruntime==1.32.0"
ONNXRUNTIME = """
import sys
import onnxruntime as ort
options = ort.SessionOptions()
options.graph_optimization_level = ort.GraphOptimizationLevel.{level}
options.optimized_model_filepath = sys.argv[2]
ort.InferenceSession(sys.argv[1], options, providers=["CPUExecutionProvider"])
"""


@dataclass(frozen=True)
class Peer:
    """An optimizer: what to install, the package whose version is told, and a script from argv[1] to argv[2]."""

    name: str
    package: str
    requirements: tuple[str, ...]
    script: str
    note: str


PEERS = (
    Peer(
        "onnxsim",
        "onnxsim",
        ("onnxsim==0.8.1", ONNX, RUNTIME),
        "import sys, onnx, onnxsim\nmodel, _ = onnxsim.simplify(sys.argv[1])\nonnx.save(model, sys.argv[2])\n",
        "`onnxsim.simplify(path)`, `onnx.save`; its command line took more than twice the time",
    ),
    Peer(
        "onnxslim",
        "onnxslim",
        ("onnxslim==0.1.98", ONNX, RUNTIME),
        "import sys, onnxslim\nonnxslim.slim(sys.argv[1], sys.argv[2])\n",
        "`onnxslim.slim(path, path)`",
    ),
    Peer(
        "onnxoptimizer",
        "onnxoptimizer",
        ("onnxoptimizer==0.4.2", ONNX),
        "import sys, onnx, onnxoptimizer\n"
        "onnx.save(onnxoptimizer.optimize(onnx.load(sys.argv[1]),"
        " onnxoptimizer.get_fuse_and_elimination_passes()), sys.argv[2])\n",
        "`onnxoptimizer.optimize` with its fuse and elimination passes, as its command line does",
    ),
    Peer(
        "onnxscript",
        "onnxscript",
        ("onnxscript==0.7.2", "onnx-ir==1.1.0", ONNX),
        "import sys, onnx, onnxscript.optimizer\n"
        "onnx.save(onnxscript.optimizer.optimize(onnx.load(sys.argv[1])), sys.argv[2])\n",
        "`onnxscript.optimizer.optimize`, `onnx.save`",
    ),
    Peer(
        "onnxruntime basic",
        "onnxruntime",
        (RUNTIME,),
        ONNXRUNTIME.format(level="ORT_ENABLE_BASIC"),
        "`SessionOptions.optimized_model_filepath` at `ORT_ENABLE_BASIC`: standard operators only, as portable as "
        "graphopt's default target",
    ),
    Peer(
        "onnxruntime extended",
        "onnxruntime",
        (RUNTIME,),
        ONNXRUNTIME.format(level="ORT_ENABLE_EXTENDED"),
        "the same at `ORT_ENABLE_EXTENDED`: operators of ONNX Runtime's own, for this runtime and provider only",
    ),
)


def cache() -> Path:
    """The folder for environments and models."""
    return user_cache_path("graphopt") / "benchmarks"


def contender(peer: Peer, model: Path) -> Contender:
    """The peer on `model`; its environment is made when there is none.

    Raises:
        GraphoptError: the environment could not be made.
    """
    python = environment(peer.requirements)
    return Contender(peer.name, (str(python), "-c", peer.script, str(model), OUTPUT), ISOLATED, version(peer, python))


def version(peer: Peer, python: Path) -> str:
    """The version of the peer's package that is installed beside `python`."""
    code = f"import importlib.metadata; print(importlib.metadata.version({peer.package!r}))"
    command: list[str | Path] = [python, "-c", code]
    done = subprocess.run(command, capture_output=True, text=True, check=False, env={**os.environ, **ISOLATED})
    return done.stdout.strip()


def environment(requirements: tuple[str, ...]) -> Path:
    """The Python of a virtual environment that holds `requirements`, made when there is none.

    Raises:
        GraphoptError: pip could not install them.
    """
    key = json.dumps([sorted(requirements), sys.version])
    folder = (
        cache() / "environments" / f"{requirements[0].split('==')[0]}-{hashlib.sha256(key.encode()).hexdigest()[:12]}"
    )
    python = folder / PYTHON
    if not folder.is_dir():
        folder.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(prefix=".making-", dir=folder.parent, ignore_cleanup_errors=True) as scratch:
            install(Path(scratch) / "environment", requirements)
            with contextlib.suppress(OSError):  # another process was faster
                (Path(scratch) / "environment").rename(folder)
    return python


def install(folder: Path, requirements: tuple[str, ...]) -> None:
    """Make a virtual environment that can be moved: it is used by its Python alone.

    Raises:
        GraphoptError: it could not be made, or pip could not install the requirements.
    """
    needed = " ".join(requirements)
    try:
        venv.create(folder, with_pip=True)
    except subprocess.CalledProcessError as error:
        raise GraphoptError(f"no environment for {needed}: {error}") from error
    command: list[str | Path] = [folder / PYTHON, "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
    done = subprocess.run(
        [*command, *requirements], capture_output=True, text=True, check=False, env={**os.environ, **ISOLATED}
    )
    if done.returncode:
        said = next((line for line in done.stderr.splitlines() if line.startswith("ERROR")), "pip said nothing")
        raise GraphoptError(f"{needed} could not be installed: {said}")
