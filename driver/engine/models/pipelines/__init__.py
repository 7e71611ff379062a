"""Diffusers folders as checkpoints."""

from .loading import load_pipeline

__all__ = ["load_pipeline"]
