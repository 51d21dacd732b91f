"""Start one command, wait for it, and write down its times and peak memory. `bench` runs this file as a script.

    python -I -S launcher.py REPORT FOLDER COMMAND...

A new process' peak memory begins at that of the process that started it, whose memory it shares until it becomes the
command. The measuring process holds NumPy and more; this one imports next to nothing, so that small commands are
measured too, and so that the clock is read without delay.

REPORT is written as JSON: `exit_seconds` from start to exit; `output_seconds` from start to when the last file in
FOLDER was closed after writing, or moved there (null without Linux's inotify); `peak_bytes` (null without `wait4`);
`status`, the exit code, negative for a signal.
"""

from __future__ import annotations

import json
import os
import select
import sys
import time

CLOSE_WRITE, MOVED_TO = 0x8, 0x80  # inotify(7)
KILOBYTE = 1024  # what Linux counts ru_maxrss in; macOS counts bytes


def watch(folder: str) -> int | None:
    """A descriptor that becomes readable when a file in `folder` is complete, or None where there is none."""
    if sys.platform != "linux" or not hasattr(os, "pidfd_open"):
        return None
    import ctypes

    libc = ctypes.CDLL(None)
    descriptor: int = libc.inotify_init1(os.O_CLOEXEC)
    if descriptor < 0 or libc.inotify_add_watch(descriptor, os.fsencode(folder), CLOSE_WRITE | MOVED_TO) < 0:
        return None
    return descriptor


def wait_watching(pid: int, events: int) -> float | None:
    """Wait until `pid` ends; when the last file was complete, or None if no file was."""
    process, last = os.pidfd_open(pid), None
    poll = select.poll()
    poll.register(process, select.POLLIN)
    poll.register(events, select.POLLIN)
    while True:
        ready = {descriptor for descriptor, _ in poll.poll()}
        if events in ready:
            last = time.perf_counter()
            os.read(events, 1 << 16)
        elif process in ready:
            os.close(process)
            return last


def launch(command: list[str], folder: str) -> dict[str, float | int | None]:
    """Run `command`; the report's entries."""
    if not hasattr(os, "wait4"):
        import subprocess

        start = time.perf_counter()
        status = subprocess.run(command, check=False).returncode
        seconds = time.perf_counter() - start
        return {"exit_seconds": seconds, "output_seconds": None, "peak_bytes": None, "status": status}
    events = watch(folder)
    start = time.perf_counter()
    pid = os.posix_spawnp(command[0], command, os.environ)
    complete = wait_watching(pid, events) if events is not None else None
    _, waited, usage = os.wait4(pid, 0)
    return {
        "exit_seconds": time.perf_counter() - start,
        "output_seconds": complete - start if complete is not None else None,
        "peak_bytes": usage.ru_maxrss * (1 if sys.platform == "darwin" else KILOBYTE),
        "status": os.waitstatus_to_exitcode(waited),
    }


def main() -> None:
    """Command line."""
    report, folder, *command = sys.argv[1:]
    try:
        entries = launch(command, folder)
    except OSError as error:
        sys.exit(f"{command[0]}: {error.strerror}")
    with open(report, "w", encoding="utf-8") as file:  # noqa: PTH123  # pathlib costs more than the rest
        json.dump(entries, file)


if __name__ == "__main__":
    main()
