"""The demo checkpoint: 13 MB of weights, trained on drawings (MODEL_CARD.md), and the full file for ComfyUI made of them."""

from __future__ import annotations

from pathlib import Path

NAME = "promptmill-demo.safetensors"
PATH = Path(__file__).parent / NAME
