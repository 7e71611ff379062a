"""The ComfyUI nodes: thin, a file each; the logic is in ``table`` and ``sampling``."""

from comfy_api.latest import ComfyExtension, io

from .calibrate_model import CalibrateModel
from .encode_rows import EncodeRows
from .load_model import LoadCheckpoint, LoadModel
from .prompt_table import PromptTable
from .routes import add_routes
from .row_guider import RowGuiderNode
from .row_noise import RowNoiseNode
from .sample_table import SampleTable
from .save_rows import SaveRows
from .skip_if_done import SkipIfDone
from .table_column import TableColumn
from .table_row import TableRow

NODES: list[type[io.ComfyNode]] = [
    PromptTable,
    TableRow,
    TableColumn,
    EncodeRows,
    RowNoiseNode,
    RowGuiderNode,
    SampleTable,
    SaveRows,
    SkipIfDone,
    LoadModel,
    LoadCheckpoint,
    CalibrateModel,
]


class PromptmillExtension(ComfyExtension):
    """What ComfyUI loads."""

    async def on_load(self) -> None:
        """Add the one route that the canvas asks for a look at a table."""
        add_routes()

    async def get_node_list(self) -> list[type[io.ComfyNode]]:
        """All nodes of the pack."""
        return NODES


__all__ = ["NODES", "PromptmillExtension"]
