"""Checkpoints: what they give to the nodes, and how they are loaded."""

from .checkpoint import Autoencoder, Checkpoint, Conditioning, Model, OnStep, Settings, TextEncoder
from .load import load

__all__ = [
    "Autoencoder",
    "Checkpoint",
    "Conditioning",
    "Model",
    "OnStep",
    "Settings",
    "TextEncoder",
    "load",
]
