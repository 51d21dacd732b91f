"""The real models that tests run on, as pytest parameters.

Four groups: `pypi` (fetched by `fetch_models.py`), `onnx` (the onnx package's own light models, with
expected outputs), `shared` and `skeleton` (the folder `shared` beside the checkout, or $GRAPHOPT_SHARED).
A test takes them by

    @pytest.mark.parametrize("model", real_models())
    def test_compiles(model: RealModel) -> None: ...

`conftest.py` leaves out tests whose model is absent, and says at the end how many and what brings them.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import tomllib
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Literal, get_args

import numpy as np
import onnx
import pytest
from fetch_models import MANIFEST, models_folder, read_manifest
from numpy.typing import NDArray

Group = Literal["pypi", "onnx", "shared", "skeleton"]
GROUPS: tuple[Group, ...] = get_args(Group)
ROOT = Path(__file__).resolve().parent.parent
LIGHT = Path(onnx.__file__).parent / "backend" / "test" / "data" / "light"
LIGHT_RTOL, LIGHT_ATOL = 1e-3, 1e-7  # what the onnx package's own runner allows on these outputs


@dataclass(frozen=True)
class RealModel:
    """A model to test on: where it comes from, and under which licence."""

    id: str
    group: Group
    licence: str
    description: str
    source: Path  # the model itself, or its skeleton

    @property
    def available(self) -> bool:
        """Whether `path` can be had without a download."""
        return self.source.is_file()

    @property
    def path(self) -> Path:
        """The model's file; a skeleton is completed into the models' folder when first asked for."""
        return _filled(self.source) if self.group == "skeleton" else self.source

    def __str__(self) -> str:
        """The id, as pytest prints it."""
        return self.id


def shared_folder() -> Path:
    """The folder with `models/` and `tools/`: $GRAPHOPT_SHARED, else `shared` beside the checkout."""
    return Path(os.environ.get("GRAPHOPT_SHARED") or ROOT.parent / "shared")


@cache
def all_models() -> tuple[RealModel, ...]:
    """Every model known, available or not, group by group."""
    return (*_pypi_models(), *_light_models(), *_shared_models(), *_skeletons())


def real_models(*groups: Group, only: Sequence[str] = ()) -> list[pytest.ParameterSet]:
    """Parameters for `pytest.mark.parametrize`, marked `models`; skeletons are marked `slow` too.

    Args:
        groups: the groups wanted; all when none is named.
        only: ids wanted, for instance `"shared/mnist_8"`; all when empty.

    Raises:
        KeyError: an id in `only` names no model.
    """
    wanted = [model for model in all_models() if model.group in (groups or GROUPS)]
    unknown = set(only) - {model.id for model in wanted}
    if unknown:
        raise KeyError(f"no model {', '.join(sorted(unknown))}; `tests/models.toml` has the names")
    return [pytest.param(model, id=model.id, marks=_marks(model)) for model in wanted if not only or model.id in only]


def light_case(model: RealModel) -> tuple[dict[str, NDArray[np.float32]], list[NDArray[np.float32]]]:
    """Inputs by name and the expected outputs, in order, of a model of the group `onnx`.

    Compare with `rtol=LIGHT_RTOL, atol=LIGHT_ATOL`.
    """
    graph = onnx.load(model.path).graph
    constants = {initializer.name for initializer in graph.initializer}
    feeds = {}
    for value in graph.input:
        if value.name not in constants:
            shape = [dim.dim_value for dim in value.type.tensor_type.shape.dim]
            count = int(np.prod(shape))
            feeds[value.name] = (np.arange(count).reshape(shape) / count).astype(np.float32)
    stored = [model.path.with_name(f"{model.path.stem}_output_{index}.pb") for index in range(len(graph.output))]
    return feeds, [onnx.numpy_helper.to_array(onnx.load_tensor(path)) for path in stored]


def _marks(model: RealModel) -> list[pytest.MarkDecorator]:
    return [pytest.mark.models, pytest.mark.slow] if model.group == "skeleton" else [pytest.mark.models]


def _pypi_models() -> list[RealModel]:
    folder = models_folder()
    return [
        RealModel(model.id, "pypi", model.licence, model.description, model.place(folder))
        for package in read_manifest()
        for model in package.models
    ]


def _light_models() -> list[RealModel]:
    found = sorted(LIGHT.glob("light_*.onnx"))
    if not found:
        raise FileNotFoundError(f"{LIGHT}: the onnx package carries no light models here")
    described = "a classifier of the onnx package whose weights are made by ConstantOfShape"
    return [RealModel(f"onnx/{path.stem}", "onnx", "Apache-2.0", described, path) for path in found]


def _shared_models() -> list[RealModel]:
    folder = shared_folder() / "models"
    listed = tomllib.loads(MANIFEST.read_text(encoding="utf-8"))["shared"]
    unlisted = {"licence": "see the folder's README", "description": ""}
    names = sorted({*listed, *(path.stem for path in folder.glob("*.onnx"))})
    entries = {name: listed.get(name, unlisted) for name in names}
    return [
        RealModel(f"shared/{name}", "shared", entry["licence"], entry["description"], folder / f"{name}.onnx")
        for name, entry in entries.items()
    ]


def _skeletons() -> list[RealModel]:
    folder = shared_folder() / "models" / "skeletons"
    listed = tomllib.loads(MANIFEST.read_text(encoding="utf-8"))["skeletons"]
    names = sorted({*listed["names"], *(path.stem for path in folder.glob("*.onnx"))})
    described = "a well-known architecture with random weights"
    return [
        RealModel(f"skeleton/{name}", "skeleton", listed["licence"], described, folder / f"{name}.onnx")
        for name in names
    ]


def _filled(skeleton: Path) -> Path:
    """The completed model of `skeleton`, made by the shared folder's own tool, atomically."""
    target = models_folder() / "skeletons" / skeleton.name
    if target.is_file() and target.stat().st_mtime >= skeleton.stat().st_mtime:
        return target
    target.parent.mkdir(parents=True, exist_ok=True)
    tool = shared_folder() / "tools" / "skeleton.py"
    with tempfile.TemporaryDirectory(prefix=".fill-", dir=target.parent) as scratch:
        made = Path(scratch) / skeleton.name
        subprocess.run([sys.executable, str(tool), "fill", str(skeleton), str(made)], check=True)
        made.replace(target)
    return target
