"""Faster sampling: compiled blocks with FP8 and INT8 products."""

from .model import accelerate
from .shadow import Unsupported

__all__ = ["Unsupported", "accelerate"]
