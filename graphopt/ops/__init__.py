"""Operators: one room each, by family, and the functions that apply them (`ops.relu(x)`, `ops.conv(x, w)`)."""

from graphopt.ops import registry
from graphopt.ops.activation import *  # noqa: F403
from graphopt.ops.conv import *  # noqa: F403
from graphopt.ops.create import *  # noqa: F403
from graphopt.ops.dropout import *  # noqa: F403
from graphopt.ops.elementwise import *  # noqa: F403
from graphopt.ops.linear import *  # noqa: F403
from graphopt.ops.movement import *  # noqa: F403
from graphopt.ops.norm import *  # noqa: F403
from graphopt.ops.pad import *  # noqa: F403
from graphopt.ops.pool import *  # noqa: F403
from graphopt.ops.reduce import *  # noqa: F403
from graphopt.ops.resize import *  # noqa: F403
from graphopt.ops.shape import *  # noqa: F403
from graphopt.ops.softmax import *  # noqa: F403
from graphopt.ops.unary import *  # noqa: F403


def __getattr__(name: str) -> object:
    """Functions of the families that are loaded when they are asked for."""
    if not name.startswith("_"):
        for module in map(registry.load, registry.RARE):
            if name in getattr(module, "__all__", ()):
                return getattr(module, name)
    raise AttributeError(f"graphopt.ops has no {name!r}")
