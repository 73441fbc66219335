"""The version, in a module of its own: every layer may name it, and none may import the package's public names."""

__version__ = "0.1.0"
