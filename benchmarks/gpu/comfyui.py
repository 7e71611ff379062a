"""ComfyUI in this process, as its main.py sets it up, without its server."""

from __future__ import annotations

import atexit
import shutil
import sys
import tempfile
from pathlib import Path


def start(*options: str) -> None:
    """Set ComfyUI up with its command line's options; to be called before torch is imported.

    Its working directory is ComfyUI's.
    """
    home = tempfile.mkdtemp(prefix="promptmill-bench-")
    atexit.register(shutil.rmtree, home, ignore_errors=True)
    Path(home, "custom_nodes").mkdir()
    sys.path.insert(0, str(Path.cwd()))
    sys.argv = ["main.py", "--base-directory", home, "--verbose", "WARNING", *options]
    import comfy.options

    comfy.options.enable_args_parsing()
    import cuda_malloc  # noqa: F401
    import main  # noqa: F401
    from comfy import utils

    utils.PROGRESS_BAR_ENABLED = False


def end_of_node() -> None:
    """What ComfyUI does after each node."""
    import comfy_aimdo.model_vbar
    from comfy import memory_management, model_management, model_prefetch

    if memory_management.aimdo_enabled:
        model_management.reset_cast_buffers()
        model_prefetch.cleanup_prefetch_queues()
        comfy_aimdo.model_vbar.vbars_reset_watermark_limits()
