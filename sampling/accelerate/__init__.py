"""Faster sampling: compiled blocks with FP8 and INT8 products."""

from .model import accelerate

__all__ = ["accelerate"]
