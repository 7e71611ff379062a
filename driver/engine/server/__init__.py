"""The engine's server: HTTP, websockets, and the worker that runs prompts."""

from .engine import Engine

__all__ = ["Engine"]
