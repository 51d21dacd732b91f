"""Nodes of every opset from 7 on, beside ONNX Runtime: up to their rooms, through the kernels, and down again."""

from __future__ import annotations

import importlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from graphopt.onnx_format.opset import OLDEST
from graphopt.ops.registry import find_room
from graphopt.ops.room import NEWEST
from ops.cases import Case
from ops.harness import check_old

MODULES = [importlib.import_module(f"ops.{path.stem}") for path in sorted(Path(__file__).parent.glob("cases*.py"))]
CASES: Mapping[str, Case] = {name: case for module in MODULES for name, case in module.CASES.items()}


@pytest.mark.parametrize("name", CASES)
@settings(deadline=None)
@given(st.data())
def test_up_and_down(name: str, data: Any) -> None:
    room = find_room(name, "")
    assert room is not None
    opset = data.draw(st.integers(max(OLDEST, room.since), NEWEST), label="opset")
    arrays, attributes, results, held, ulps = CASES[name](data, opset)
    check_old(
        name, arrays, attributes, opset, results=results, constants=range(1, len(arrays)) if held else (), ulps=ulps
    )
