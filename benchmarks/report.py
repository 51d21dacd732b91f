"""What every benchmark's report has: the machine in words, and a section of docs/benchmarks.md of its own."""

from __future__ import annotations

import os
import platform
import re
import shlex
import sys
from pathlib import Path

import psutil

ABSOLUTE = re.compile(r"(?<![\w.…}])(?:[A-Za-z]:)?[/\\](?:[^\s/\\'\"`|]+[/\\])+")
PAGE = Path(__file__).resolve().parent.parent / "docs" / "benchmarks.md"
BUSY = 0.5  # of the cores, before anything is measured
HEAD = """# Benchmarks

This page is written by the scripts in `benchmarks/`; each section ends with the command that writes it again. Every
contender runs in a process of its own, in rounds of rotated order; the base runs twice in each round, and its second
row (A/A) shows what the method sees where there is no difference. A ratio is the median of the rounds' ratios, with
its bootstrap 95 % interval; a difference counts only when the interval excludes 1.
"""


def machine() -> str:
    """Processor, cores, memory, system and Python, in one line; no names of hosts or folders."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    memory = psutil.virtual_memory().total / 2**30
    system = f"{platform.system()} {platform.machine()}, Python {platform.python_version()}"
    return f"{processor()}, {cores} cores, {memory:.0f} GiB memory, {system}"


def busy() -> str:
    """A warning when other programs use the machine, '' when they do not or the system does not tell."""
    load = os.getloadavg()[0] if hasattr(os, "getloadavg") else 0.0
    if load < BUSY * (os.cpu_count() or 1):
        return ""
    return f"other programs keep {load:.1f} of {os.cpu_count()} cores busy: times will be too long, ratios uncertain"


def processor() -> str:
    """The processor's name, as well as the system knows it."""
    information = Path("/proc/cpuinfo")
    if information.is_file():
        found = re.search(r"^model name\s*:\s*(.+)$", information.read_text(encoding="utf-8"), re.MULTILINE)
        if found:
            return found[1].strip()
    return platform.processor() or platform.machine()


def command(script: str) -> str:
    """How this script was called, folders left out of its arguments."""
    words = [Path(word).name if os.sep in word else word for word in sys.argv[1:]]
    return shlex.join(["python", f"benchmarks/{script}", *words])


def without_folders(text: str) -> str:
    """`text` with the folders of absolute paths left out."""
    return ABSOLUTE.sub("…/", text)


def write_section(name: str, text: str, page: Path = PAGE) -> None:
    """Put `text` into the page's section `name`, in the place of the old one, and leave other sections alone."""
    begin, end = f"<!-- {name}: begin -->", f"<!-- {name}: end -->"
    old = page.read_text(encoding="utf-8") if page.is_file() else HEAD
    section = f"{begin}\n{text.strip()}\n{end}"
    before, found, rest = old.partition(begin)
    after = rest.partition(end)[2] if found else "\n"
    page.parent.mkdir(parents=True, exist_ok=True)
    page.write_text(f"{before.rstrip()}\n\n{section}{after}", encoding="utf-8")
