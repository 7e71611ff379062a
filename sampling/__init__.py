"""Rows as exact batches, inside ComfyUI."""

from .encode import Encoder
from .guider import RowGuider
from .noise import RowNoise
from .samplers import row_sampler
from .stream import RowImage, Setup, TableSampler

__all__ = ["Encoder", "RowGuider", "RowImage", "RowNoise", "Setup", "TableSampler", "row_sampler"]
