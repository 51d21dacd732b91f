"""Rooms that are loaded when they are asked for: the table says where each is, and no name hides another."""

import subprocess
import sys

import pytest

from graphopt import ops
from graphopt.ops.registry import RARE, find_room, load, rooms


def test_the_table_names_what_its_modules_declare():
    for module, names in RARE.items():
        load(module)
        declared = {
            f"{domain}::{name}" if domain else name
            for (domain, name), room in rooms().items()
            if room.__module__ == f"graphopt.ops.{module}"
        }
        former = {room.formerly[0] for room in rooms().values() if room.formerly is not None}
        assert declared <= set(names), module
        assert set(names) <= declared | former, module


def test_the_table_is_sorted():
    assert list(RARE) == sorted(RARE)
    assert all(list(names) == sorted(names) for names in RARE.values())


def test_no_module_has_the_name_of_a_function():
    """Loading it would put the module in the function's place."""
    public = {name for module in RARE for name in getattr(load(module), "__all__", ())}
    assert public.isdisjoint(RARE)
    assert all(callable(getattr(ops, name)) for name in public)
    with pytest.raises(AttributeError, match=r"graphopt\.ops has no 'no_such_operator'"):
        _ = ops.no_such_operator


def test_rare_families_are_not_loaded_at_the_start():
    code = "import sys, graphopt.api; print(*sorted(m for m in sys.modules if m.startswith('graphopt.ops.')))"
    loaded = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.split()
    rare = {f"graphopt.ops.{module}" for module in RARE} & set(loaded)
    assert rare <= {"graphopt.ops.control_flow", "graphopt.ops.sequence"}  # a pass puts branches in place


def test_an_operator_without_a_room():
    assert find_room("ImageDecoder") is None
    assert find_room("Relu", "somewhere") is None
