"""The embedded engine: ComfyUI's protocol on diffusers, for machines without ComfyUI."""

from .server import Engine

__all__ = ["Engine"]
