"""A MODEL as the source of a conversion."""

from __future__ import annotations

from typing import Any

import torch
from comfy import model_base
from torch import Tensor

from ..quantization.checkpoint import TensorInfo


class ModelSource:
    """
    The diffusion model of a MODEL, with its LoRAs in the weights, as core's Save Model writes it, but without a prefix.

    It holds the weights where they are now: make a new one after the model was moved.
    """

    def __init__(self, model: Any) -> None:
        """:param model: ComfyUI's MODEL; loaded, if more than its linear layers is to have its LoRAs."""
        self._tensors: dict[str, Tensor] = model.model_state_dict_for_saving(
            model.model.diffusion_model, "diffusion_model."
        )
        if model.model.model_type == model_base.ModelType.V_PREDICTION:
            self._tensors["v_pred"] = torch.empty(0)
            if getattr(model.get_model_object("model_sampling"), "zsnr", False):
                self._tensors["ztsnr"] = torch.empty(0)
        self.names = {
            name: TensorInfo(tensor.dtype, tuple(tensor.shape)) for name, tensor in self._tensors.items()
        }
        self.metadata: dict[str, str] = {}

    def read(self, name: str) -> Tensor:
        """A copy on the CPU."""
        return self._tensors[name].to("cpu").detach().clone()
