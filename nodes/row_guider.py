"""Row Guider: a batch in which every image follows its own prompt."""

from __future__ import annotations

from typing import Any

from comfy_api.latest import io

from ..sampling import RowGuider
from .sockets import CATEGORY, EncodedSocket, EncodedValue


class RowGuiderNode(io.ComfyNode):
    """See the module's docstring."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        """The face of the node."""
        return io.Schema(
            node_id="PromptmillRowGuider",
            display_name="Row Guider",
            category=CATEGORY,
            description="Guides each image of a batch by its own row's prompt, exactly as if it were made alone. For "
            "SamplerCustomAdvanced, with Row Noise.",
            inputs=[
                io.Model.Input("model"),
                EncodedSocket.Input("encoded"),
                io.Float.Input("cfg", default=4.0, min=0.0, max=100.0, step=0.1, round=0.01),
            ],
            outputs=[io.Guider.Output("guider", display_name="guider")],
        )

    @classmethod
    def execute(cls, model: Any, encoded: EncodedValue, cfg: float) -> io.NodeOutput:
        """A guider of core's kind."""
        return io.NodeOutput(RowGuider(model, encoded.positive, encoded.negative, cfg, encoded.seeds))
