"""The file side of models: mapped input, external data that stays in its folder, output that is all or nothing."""

from __future__ import annotations

import mmap
import os
import shutil
import tempfile
from collections.abc import Callable, Iterable
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import TypeAlias

from graphopt.errors import GraphoptError, ModelError, UsageError

Buffer: TypeAlias = bytes | memoryview

GATHER = 1 << 20  # small chunks are gathered to writes of this size
_FOREIGN = (
    (b"version https://git-lfs", "is a Git LFS pointer: run `git lfs pull`"),
    (b"<!DOCTYPE", "is a web page: download the model itself"),
    (b"<html", "is a web page: download the model itself"),
    (b"PK\x03\x04", "is a zip archive (a PyTorch checkpoint?): unpack it, or export the model to ONNX"),
    (b"{", "is text: export the model to ONNX"),
    (b"#", "is text: export the model to ONNX"),
)


class Mapped:
    """A file in memory as the system pages it in; it is unmapped with the last view of it."""

    def __init__(self, path: Path, mapping: mmap.mmap) -> None:
        self.path = path
        self._mapping = mapping
        self.view = memoryview(mapping)
        self._base = self.view.obj

    def release(self, data: memoryview) -> None:
        """Let the system take back the pages of a view that has been used; they are read again if needed."""
        advise = getattr(self._mapping, "madvise", None)
        if advise is None or not hasattr(mmap, "MADV_DONTNEED"):
            return
        import numpy as np

        whole = np.frombuffer(self.view, np.uint8)
        part = np.frombuffer(data, np.uint8)
        start = part.ctypes.data - whole.ctypes.data
        first = -(-start // mmap.PAGESIZE) * mmap.PAGESIZE
        last = (start + len(part)) // mmap.PAGESIZE * mmap.PAGESIZE
        if last > first:
            advise(mmap.MADV_DONTNEED, first, last - first)


def open_bytes(path: Path) -> Mapped:
    """Map a file for reading.

    Raises:
        ModelError: it is missing, a directory, empty, or plainly something else than a model.
    """
    try:
        with path.open("rb") as file:
            size = os.fstat(file.fileno()).st_size
            if not size:
                raise ModelError("the file is empty: export the model again")
            mapping = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
    except FileNotFoundError:
        raise ModelError("there is no such file: check the path") from None
    except IsADirectoryError:
        raise ModelError("it is a directory: name the .onnx file in it") from None
    except (PermissionError, OSError) as error:
        raise ModelError(f"it cannot be read ({error.strerror or error}): check its permissions") from None
    head = mapping[:32].lstrip()
    for magic, what in _FOREIGN:
        if head.startswith(magic):
            raise ModelError(f"it {what}")
    return Mapped(path, mapping)


def external(folder: Path, location: str, offset: int, length: int, *, tensor: str = "") -> memoryview:
    """Bytes of a tensor that lie in a file beside the model.

    Raises:
        ModelError: the file is missing, too short, or outside of the model's folder.
    """
    what = f"the external data of `{tensor}`"
    if not location or Path(location).is_absolute() or ".." in Path(location).parts or "\\" in location:
        raise ModelError(f"{what} is said to lie in {location!r}, outside of the model's folder: it is not read")
    path = folder / location
    if not path.resolve().is_relative_to(folder.resolve()):
        raise ModelError(f"{what} lies in {location!r}, a link that leaves the model's folder: it is not read")
    try:
        mapped = open_bytes(path)
    except ModelError:
        raise ModelError(f"{what} is missing: put {location!r} beside the model") from None
    if offset < 0 or length < 0 or offset + length > len(mapped.view):
        raise ModelError(
            f"{what} should be {length:,} bytes at {offset:,} of {location!r}, which has {len(mapped.view):,}: "
            "copy or export it again"
        )
    return mapped.view[offset : offset + length]


def check_writable(path: Path) -> None:
    """Make sure, before any work, that a file can be written there.

    Raises:
        UsageError: the folder is missing or not writable, or the path is a directory.
    """
    folder = path.parent
    if path.is_dir():
        raise UsageError(f"{path}: it is a directory: name a file in it")
    if not folder.is_dir():
        raise UsageError(f"{path}: its folder does not exist: create {folder} first")
    if not os.access(folder, os.W_OK) or (path.exists() and not os.access(path, os.W_OK)):
        raise UsageError(f"{path}: it cannot be written: check the permissions, or name another file")


class AtomicOutput:
    """Writes files so that all take their places together, or none: staged in a folder beside, flushed, renamed.

    with AtomicOutput() as output:
        output.write(path, chunks)
        check(output.staged(path))     # may raise: then nothing took its place
    """

    def __init__(self) -> None:
        self._staged: dict[Path, Path] = {}
        self._folder: Path | None = None

    def __enter__(self) -> AtomicOutput:
        return self

    def staged(self, path: Path) -> Path:
        """Where `path`'s bytes are until they take their place; files staged together lie together."""
        return self._staged[path]

    def write(self, path: Path, chunks: Iterable[Buffer]) -> None:
        """Stage a file.

        Raises:
            UsageError: the path cannot be written.
        """
        check_writable(path)
        try:
            if self._folder is None:
                self._folder = Path(tempfile.mkdtemp(prefix=f".{path.name}.", dir=path.parent))
            target = self._folder / path.name
            with target.open("wb", buffering=0) as file:
                _stream(file.write, chunks)
                os.fsync(file.fileno())
        except OSError as error:
            raise UsageError(f"{path}: it cannot be written ({error.strerror or error})") from None
        self._staged[path] = target

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            if kind is None:
                for path, target in reversed(self._staged.items()):
                    os.replace(target, path)
                    _flush_folder(path.parent)
        except OSError as failure:
            raise GraphoptError(f"the output cannot take its place ({failure.strerror or failure})") from None
        finally:
            if self._folder is not None:
                shutil.rmtree(self._folder, ignore_errors=True)


def _stream(write: Callable[[Buffer], int | None], chunks: Iterable[Buffer]) -> None:
    gathered = bytearray()
    for chunk in chunks:
        if len(chunk) < GATHER:
            gathered += chunk
            if len(gathered) < GATHER:
                continue
            chunk, gathered = bytes(gathered), bytearray()  # noqa: PLW2901  # what is written now
        elif gathered:
            _write_all(write, bytes(gathered))
            gathered = bytearray()
        _write_all(write, chunk)
    _write_all(write, bytes(gathered))


def _write_all(write: Callable[[Buffer], int | None], data: Buffer) -> None:
    view = memoryview(data).cast("B") if len(data) else memoryview(b"")
    while len(view):
        view = view[write(view[: 1 << 24]) or 0 :]


def _flush_folder(folder: Path) -> None:
    with suppress(OSError):  # not every system lets a folder be flushed
        handle = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)
