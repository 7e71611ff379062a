"""Row Noise: the noise of each row's own seed, as one batch."""

from __future__ import annotations

from comfy_api.latest import io

from ..sampling import RowNoise
from .sockets import CATEGORY, RowsSocket, RowsValue


class RowNoiseNode(io.ComfyNode):
    """See the module's docstring."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        """The face of the node."""
        return io.Schema(
            node_id="PromptmillRowNoise",
            display_name="Row Noise",
            category=CATEGORY,
            description="Noise for a batch of rows: each row's is what its seed gives alone. For SamplerCustomAdvanced.",
            inputs=[RowsSocket.Input("rows")],
            outputs=[io.Noise.Output("noise", display_name="noise")],
        )

    @classmethod
    def execute(cls, rows: RowsValue) -> io.NodeOutput:
        """One seed a row."""
        return io.NodeOutput(RowNoise([job.seed for job in rows.jobs]))
