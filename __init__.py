"""promptmill: a table of prompts in, one verified, named image per row out, through ComfyUI."""

from __future__ import annotations

from typing import Any

WEB_DIRECTORY = "./web"


async def comfy_entrypoint() -> Any:
    """ComfyUI asks for the node pack here."""
    from .nodes import PromptmillExtension

    return PromptmillExtension()
