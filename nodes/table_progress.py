"""How far a table is, on its node: a bar, a line of text, a preview."""

from __future__ import annotations

import time
from typing import Any

import latent_preview
from comfy.utils import ProgressBar
from torch import Tensor

from .progress_text import say


class TableProgress:
    """Tells the canvas. ``done`` counts all images that are there, ``made`` those of this run."""

    def __init__(self, node_id: str, total: int, model: Any) -> None:
        """
        :param total: images of the whole table.
        :param model: ComfyUI's MODEL, for the previews of the steps; None where nothing is to be made.
        """
        self.done = self.made = 0
        self._node_id = node_id
        self._total = total
        self._bar = ProgressBar(total, node_id)
        self._began = time.monotonic()
        self._previewer = model and latent_preview.get_previewer(
            model.load_device, model.get_model_object("latent_format")
        )

    def step(self, rows: float, x0: Tensor) -> None:
        """A step of a batch is over; ``rows``: how many rows' worth of it."""
        preview = self._previewer and self._previewer.decode_latent_to_preview_image("JPEG", x0)
        self._show(self.done + rows, preview)

    def skip(self) -> None:
        """An image was there already."""
        self.done += 1

    def finish(self, image: Tensor) -> None:
        """An image [height, width, channels] is made."""
        self.done += 1
        self.made += 1
        shown = latent_preview.preview_to_image(image, do_scale=False)
        self._show(self.done, ("JPEG", shown, latent_preview.MAX_PREVIEW_RESOLUTION))
        rate = self.made / (time.monotonic() - self._began)
        left = (self._total - self.done) / rate
        text = f"row {self.done} of {self._total}, {60 * rate:.1f}/min, {_duration(left)} left"
        say(text, self._node_id)

    def _show(self, value: float, preview: Any) -> None:
        """The bar never goes back: a batch is sampled as a whole, and its images are finished one by one."""
        self._bar.update_absolute(max(value, self._bar.current), preview=preview)


def _duration(seconds: float) -> str:
    if seconds < 90:
        return f"{seconds:.0f} s"
    if seconds < 90 * 60:
        return f"{seconds / 60:.0f} min"
    return f"{seconds / 3600:.1f} h"
