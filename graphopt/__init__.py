"""graphopt: a graph compiler and optimizer for convolutional networks."""

from graphopt._version import __version__

__all__ = ["__version__"]
