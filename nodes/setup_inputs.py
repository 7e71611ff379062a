"""What nodes that sample a table take where its rows say nothing."""

from __future__ import annotations

from comfy.samplers import SAMPLER_NAMES, SCHEDULER_NAMES
from comfy_api.latest import io

from .table_row import SIZE


def setup_inputs() -> list[io.Input]:
    """The inputs of a `Setup`."""
    blank = "Where a row gives none."
    return [
        io.Int.Input("steps", default=20, min=1, max=10000, tooltip=blank),
        io.Float.Input("cfg", default=4.0, min=0.0, max=100.0, step=0.1, round=0.01, tooltip=blank),
        io.Combo.Input("sampler", options=SAMPLER_NAMES),
        io.Combo.Input("scheduler", options=SCHEDULER_NAMES),
        io.Int.Input("width", default=1024, **SIZE, tooltip=blank),
        io.Int.Input("height", default=1024, **SIZE, tooltip=blank),
    ]
