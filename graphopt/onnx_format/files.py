"""Reads files: models mapped into memory, and the data beside them, which is confined to their folder."""

from __future__ import annotations

import mmap
import os
import stat
from pathlib import Path, PureWindowsPath
from typing import Final

from graphopt.errors import ModelError
from graphopt.onnx_format.atomic import AtomicOutput, check_writable
from graphopt.onnx_format.memory import release

__all__ = ["AtomicOutput", "ExternalData", "Mapped", "check_writable", "external", "open_bytes", "release"]

MAPPED_BYTES = 1 << 16  # a shorter file is read: a mapping holds a file descriptor and takes as long
HEAD_BYTES = 1024  # looked at to tell what a file is that is no model
# What people hand over in place of a model, by how it begins; no ModelProto begins so.
_OTHERS: Final = (
    (b"version https://git-lfs", "it is a Git LFS pointer, not the model: fetch the model with `git lfs pull`"),
    (b"PK\x03\x04", "it is a zip archive (PyTorch saves so too), not an ONNX model: unpack it, or export it to ONNX"),
    (b"\x1f\x8b", "it is compressed with gzip: unpack it first"),
    *((bytes((0x80, n)), "it is a Python pickle, not an ONNX model: export the model to ONNX") for n in (2, 3, 4, 5)),
    (b"\x93NUMPY", "it is a NumPy array, not an ONNX model"),
    (b"\x89HDF\r\n\x1a\n", "it is an HDF5 file, not an ONNX model: export the model to ONNX"),
)
_MARKUP: Final = (b"<!doctype", b"<html", b"<?xml")


class Mapped:
    """A file's bytes, read-only; the file is closed when nobody holds this object or a view of it any more.

    Attributes:
        path: the file.
        view: all of its bytes.
    """

    __slots__ = ("path", "view")

    def __init__(self, path: Path, view: memoryview) -> None:
        self.path = path
        self.view = view

    def release(self, data: memoryview | None = None) -> None:
        """Tell the system that `data`, by default all of the file, is not needed in memory for now."""
        release(self.view if data is None else data)


def open_bytes(path: str | Path) -> Mapped:
    """The bytes of a model's file.

    Raises:
        ModelError: there is no such file, it cannot be read, is empty, or is plainly something else.
    """
    path = Path(path)
    try:
        mapped = Mapped(path, _map(path))
    except OSError as error:
        raise ModelError(f"{path}: {_why_unreadable(error)}") from None
    except ValueError:
        raise ModelError(f"{path!r} is no path: give the name of an ONNX file") from None
    if what := _something_else(bytes(mapped.view[:HEAD_BYTES])):
        raise ModelError(f"{path}: {what}")
    return mapped


class ExternalData:
    """The files beside a model that hold its weights; each is opened once, however many weights lie in it.

    Args:
        folder: the model's folder, which nothing leaves.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._files: dict[str, memoryview] = {}

    def view(self, location: str, offset: int, length: int | None, *, tensor: str = "") -> memoryview:
        """`length` bytes of a file from `offset` on, or all from there.

        Args:
            location: the file's path, relative to the folder.
            offset: in bytes.
            length: in bytes; None stands for the rest of the file.
            tensor: whose data it is, for the errors.

        Raises:
            ModelError: the path leaves the folder, the file is missing or too short.
        """
        whose = f"the data of `{tensor}`" if tensor else "external data"
        file = self._files.get(location)
        if file is None:
            file = self._files[location] = self._open(location, whose)
        stop = file.nbytes if length is None else offset + length
        if offset < 0 or stop < offset or stop > file.nbytes:
            raise ModelError(
                f"{whose} is said to be {stop - offset:,} bytes from byte {offset:,} on of `{location}`, "
                f"which has {file.nbytes:,} bytes: copy the file again, or export the model again"
            )
        return file[offset:stop]

    def _open(self, location: str, whose: str) -> memoryview:
        parts = PureWindowsPath(location)  # knows both kinds of slashes, and drives
        if parts.anchor or ".." in parts.parts or not parts.parts or "\0" in location:
            raise ModelError(
                f"{whose} is said to lie in {location!r}, which is no path below the model's folder: "
                "export the model again with its data beside it"
            )
        real = Path(os.path.realpath(self._folder / location))
        if not real.is_relative_to(os.path.realpath(self._folder)):
            raise ModelError(
                f"{whose} lies in `{location}`, a link that leads out of the model's folder: "
                "copy the file that it leads to into the folder"
            )
        try:
            return _map(real)
        except FileNotFoundError:
            raise ModelError(
                f"{whose} lies in `{location}`, and {real} does not exist: put that file beside the model"
            ) from None
        except OSError as error:
            raise ModelError(f"{whose} lies in `{location}`, and {real} cannot be read: {_reason(error)}") from None


def external(folder: Path, location: str, offset: int, length: int | None, *, tensor: str = "") -> memoryview:
    """One piece of external data; see `ExternalData`, which opens a file only once.

    Raises:
        ModelError: the path leaves the folder, the file is missing or too short.
    """
    return ExternalData(folder).view(location, offset, length, tensor=tensor)


def _map(path: Path) -> memoryview:
    """A read-only view of a regular file; raises OSError, or ValueError where the name cannot be one."""
    descriptor = os.open(path, os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0))
    try:  # not blocking: the open of a named pipe would wait for its other end
        status = os.fstat(descriptor)
        if stat.S_ISDIR(status.st_mode):
            raise IsADirectoryError
        if not stat.S_ISREG(status.st_mode):
            raise OSError("it is not a regular file")
        if status.st_size < MAPPED_BYTES:
            with open(descriptor, "rb", closefd=False) as file:
                return memoryview(file.read(MAPPED_BYTES))
        return memoryview(mmap.mmap(descriptor, status.st_size, access=mmap.ACCESS_READ))
    finally:
        os.close(descriptor)


def _why_unreadable(error: OSError) -> str:
    if isinstance(error, FileNotFoundError):
        return "there is no such file: check the path"
    if isinstance(error, IsADirectoryError):
        return "it is a folder: give the name of an ONNX file"
    if isinstance(error, PermissionError):
        return "it may not be read: check its permissions"
    return f"it cannot be read: {_reason(error)}"


def _reason(error: OSError) -> str:
    return "it is a folder" if isinstance(error, IsADirectoryError) else error.strerror or str(error)


def _something_else(head: bytes) -> str | None:
    """What a file is, and what to do, where its first bytes show that it is no ONNX model."""
    if not head:
        return "it is empty: export or copy the model again"
    for start, what in _OTHERS:
        if head.startswith(start):
            return what
    if head[3:8] == b"\0TFL3":
        return "it is a TensorFlow Lite model: convert it to ONNX first"
    if head[3:8] == b"\0ORTM":
        return "it is in ONNX Runtime's own format: give the ONNX file that it was made from"
    if head.lstrip().lower().startswith(_MARKUP):
        return "it is a web page or XML, not an ONNX model: download the file itself"
    if _is_text(head):
        return "it is a text file, not an ONNX model: give the model's binary file"
    return None


def _is_text(head: bytes) -> bool:
    """Whether all is UTF-8 without the control characters that protobuf's tags and lengths are."""
    try:
        text = head.decode()
    except UnicodeDecodeError as error:
        if len(head) < HEAD_BYTES or error.start < len(head) - 3:  # else the cut goes through a character
            return False
        text = head[: error.start].decode()
    return all(character >= " " or character in "\t\n\r\f" for character in text)
