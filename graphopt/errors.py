"""Every error that graphopt raises on purpose: one sentence that says what was expected, found, and to do."""

from __future__ import annotations


class GraphoptError(Exception):
    """Base of all errors of graphopt; its text is one sentence for a person."""


class ModelError(GraphoptError):
    """A model file that cannot be read: broken bytes, an impossible graph, missing external data."""


class GraphError(GraphoptError):
    """A graph that breaks a rule of the IR (order, single definition, dangling operand, type)."""


class TypeRuleError(GraphoptError):
    """Operands that an operator does not take: wrong rank, shape or dtype."""


class ParseError(GraphoptError):
    """Text that is not graphopt's IR; carries the line number."""


class OpsetError(GraphoptError):
    """An opset that an operator cannot be taken to."""


class UsageError(GraphoptError):
    """An option or argument that makes no sense, or contradicts another."""


class ProviderError(GraphoptError):
    """An execution provider that was asked for and cannot run."""


class VerificationError(GraphoptError):
    """A result that is not equal to its original, or that could not be compared."""


class RecordError(GraphoptError):
    """A compilation record that does not fit the schema, the graph, or this version."""
