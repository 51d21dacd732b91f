"""Writes files whole or not at all: temporary names beside their places, synced to the disk, renamed at the end."""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Callable, Iterable
from contextlib import suppress
from pathlib import Path
from queue import Queue
from threading import Thread
from types import TracebackType

from graphopt.errors import GraphoptError
from graphopt.onnx_format.memory import release

BLOCK = 4 << 20  # bytes that one write hands over; larger blocks are not faster, and touch more of a mapping
AHEAD = 3  # blocks that may wait to be written
JOINED_BYTES = 1 << 18  # shorter chunks are joined up to a block


def check_writable(path: str | Path) -> None:
    """Find out before any work whether an output can be written; nothing is left behind.

    Raises:
        GraphoptError: it cannot; the sentence says why.
    """
    temporary = _temporary(_target(Path(path)))
    try:
        os.close(_create(temporary))
        temporary.unlink()
    except OSError as error:
        raise _unwritable(Path(path), error) from None


class AtomicOutput:
    """Files that appear all together, and only when everything went well.

    Inside the `with` block each file is written under a temporary name beside its place. At its end all are renamed
    to their places; on an error or interrupt the temporary files are removed and what stood there stays. A file that
    is a link is written where the link leads.
    """

    def __init__(self) -> None:
        self._files: list[tuple[Path, Path]] = []  # temporary name, place

    def __enter__(self) -> AtomicOutput:
        return self

    def write(self, path: str | Path, chunks: Iterable[bytes | memoryview]) -> int:
        """Write a file's bytes to the disk, under a temporary name; how many there were.

        Raises:
            GraphoptError: it cannot be written.
        """
        path = Path(path)
        target = _target(path)
        temporary = _temporary(target)
        self._files.append((temporary, target))
        try:
            descriptor = _create(temporary)
        except OSError as error:
            raise _unwritable(path, error) from None
        try:
            with suppress(OSError):  # a new file, or a file system without modes
                os.chmod(temporary, stat.S_IMODE(target.stat().st_mode))  # noqa: PTH101
            size = _stream(descriptor, chunks, path)
            try:
                os.fsync(descriptor)
            except OSError as error:
                raise _unwritable(path, error) from None
        finally:
            os.close(descriptor)
        return size

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            if kind is None:
                _rename_all(self._files)
        finally:
            for temporary, _ in self._files:
                with suppress(OSError):
                    temporary.unlink()


def _target(path: Path) -> Path:
    """Where an output's bytes go: `path`, or what it links to.

    Raises:
        GraphoptError: nothing can be written there, by its name and place alone.
    """
    try:
        target = Path(os.path.realpath(path))
        mode = target.stat().st_mode
    except FileNotFoundError:
        if not target.parent.is_dir():
            raise GraphoptError(f"{path}: there is no folder {target.parent}: create it first") from None
        return target
    except OSError as error:
        raise _unwritable(path, error) from None
    except ValueError:
        raise GraphoptError(f"{path!r} is no path: give the name of a file") from None
    if stat.S_ISDIR(mode):
        raise GraphoptError(f"{path}: it is a folder: give the name of a file in it")
    if not stat.S_ISREG(mode):
        raise GraphoptError(f"{path}: it is not a regular file: give the name of another")
    if not os.access(target, os.W_OK):
        raise GraphoptError(f"{path}: it is write-protected: permit writing, or give the name of another file")
    return target


def _temporary(target: Path) -> Path:
    return target.with_name(f".graphopt-{os.urandom(8).hex()}.tmp")


def _create(path: Path) -> int:
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | getattr(os, "O_BINARY", 0) | getattr(os, "O_CLOEXEC", 0)
    return os.open(path, flags, 0o666)  # the system takes the umask's bits away


def _unwritable(path: Path, error: OSError) -> GraphoptError:
    full = error.errno in {errno.ENOSPC, errno.EDQUOT}
    remedy = "make room on the disk" if full else "give the name of a file in a folder where you can write"
    return GraphoptError(f"{path}: it cannot be written ({error.strerror or error}): {remedy}")


def _stream(descriptor: int, chunks: Iterable[bytes | memoryview], path: Path) -> int:
    """Write all chunks: short ones joined into blocks, long ones without a copy; how many bytes there were.

    Blocks are written in a thread of its own while the next chunks are made.
    """
    waiting: Queue[memoryview | None] = Queue(AHEAD)
    failed: list[OSError] = []

    def write() -> None:
        place = 0
        while (view := waiting.get()) is not None:
            try:
                while view.nbytes and not failed:
                    written = os.write(descriptor, view[:BLOCK])
                    _begin_sync(descriptor, place, written)
                    release(view[:written])  # here: whoever gave the view is ahead of what is written
                    place += written
                    view = view[written:]
            except OSError as error:
                failed.append(error)

    def put(view: memoryview) -> None:
        if failed:
            raise _unwritable(path, failed[0])
        waiting.put(view)

    writer = Thread(target=write)
    writer.start()
    try:
        size = _blocks(chunks, put)
    finally:
        waiting.put(None)
        writer.join()
    if failed:
        raise _unwritable(path, failed[0])
    return size


def _begin_sync(descriptor: int, start: int, length: int) -> None:
    """Have the system begin to bring bytes to the disk, so that the sync at the end waits for the last ones only."""
    if hasattr(os, "posix_fadvise") and length >= JOINED_BYTES:
        with suppress(OSError):  # advice only: a file system may not take it
            os.posix_fadvise(descriptor, start, length, os.POSIX_FADV_DONTNEED)


def _blocks(chunks: Iterable[bytes | memoryview], put: Callable[[memoryview], None]) -> int:
    """Hand on all bytes in blocks worth writing; how many bytes there were."""
    size = 0
    joined = bytearray()
    for chunk in chunks:
        length = memoryview(chunk).nbytes
        size += length
        if length < JOINED_BYTES:
            joined += chunk
            if len(joined) < BLOCK:
                continue
        if joined:
            put(memoryview(joined))
            joined = bytearray()
        if length >= JOINED_BYTES:
            view = memoryview(chunk).cast("B")
            for start in range(0, length, BLOCK):  # so that few long chunks are held at a time
                put(view[start : start + BLOCK])
    put(memoryview(joined))
    return size


def _rename_all(files: list[tuple[Path, Path]]) -> None:
    """Rename every file to its place, or, where one fails, none."""
    undo: list[tuple[Path, Path | None]] = []  # place, where what stood there is kept
    place = Path()
    try:
        for temporary, place in files:
            undo.append((place, _second_name(place) if len(files) > 1 else None))
            os.replace(temporary, place)  # noqa: PTH105
    except BaseException as error:
        if len(files) > 1:
            _take_back(files, undo)
        if isinstance(error, OSError):
            raise _unwritable(place, error) from None
        raise
    for _, before in undo:
        if before is not None:
            before.unlink(missing_ok=True)
    for folder in {place.parent for _, place in files}:
        _sync_folder(folder)


def _second_name(place: Path) -> Path | None:
    """A further name for the file at `place`; None where nothing is there."""
    if not place.exists():
        return None
    name = _temporary(place)
    try:
        name.hardlink_to(place)
    except OSError:  # a file system without second names
        place.rename(name)
    return name


def _take_back(files: list[tuple[Path, Path]], undo: list[tuple[Path, Path | None]]) -> None:
    for (temporary, _), (place, before) in zip(files, undo, strict=False):
        with suppress(OSError):
            if before is not None:
                os.replace(before, place)  # noqa: PTH105
                before.unlink(missing_ok=True)  # two names of one file: the rename did nothing
            elif not temporary.exists():
                place.unlink()


def _sync_folder(folder: Path) -> None:
    """Make the renames last through a power failure, where the system can sync a folder."""
    with suppress(OSError):
        descriptor = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
