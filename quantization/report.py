"""What a conversion did."""

from __future__ import annotations

from collections import Counter
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

WORST = 5


@dataclass(frozen=True)
class LayerReport:
    """What became of a weight."""

    name: str
    format: str | None
    """As ComfyUI names it; None: kept as it was."""
    why_kept: str
    error: float | None
    """Relative Frobenius error of the weight."""
    before: int
    """Bytes."""
    after: int
    """Bytes, scales included."""


@dataclass(frozen=True)
class Report:
    """What a conversion did; sizes in bytes."""

    target: Path
    architecture: str | None
    """None: not known, the layers were chosen by measuring."""
    format: str
    before: int
    """Size of the source."""
    after: int
    """Size of the target."""
    layers: list[LayerReport]
    seconds: float
    converted: int
    """Bytes of the source that this call converted; the rest was done by an earlier one."""
    whole: bool
    """Whether the source is a whole checkpoint: text encoder and VAE as well."""

    @property
    def quantized(self) -> list[LayerReport]:
        """The quantized layers, the one with the largest error first."""
        found = [layer for layer in self.layers if layer.format]
        return sorted(found, key=lambda layer: -(layer.error or 0))

    @property
    def kept(self) -> dict[str, int]:
        """How many layers were kept for which reason."""
        return dict(Counter(layer.why_kept for layer in self.layers if not layer.format).most_common())

    def as_dict(self) -> dict[str, Any]:
        """All of it, for JSON."""
        return {
            **asdict(self),
            "target": str(self.target),
            "ratio": round(self.after / self.before, 4),
            "kept": self.kept,
            "load": self.how_to_load(),
        }

    def how_to_load(self) -> str:
        """What to do with the file."""
        if self.whole:
            return "in ComfyUI: put it into models/checkpoints, node Load Checkpoint; not for diffusers"
        return "in ComfyUI: put it into models/diffusion_models, node Load Diffusion Model; not for diffusers"

    def text(self) -> str:
        """The most of it, for people."""
        quantized = self.quantized
        errors = sorted(layer.error for layer in quantized if layer.error is not None)
        architecture = self.architecture or "unknown architecture, layers chosen by measuring them"
        speed = self.converted / 1e6 / max(self.seconds, 1e-9)
        lines = [
            f"{self.target}: {self.format}, {architecture}",
            f"  {readable_size(self.before)} -> {readable_size(self.after)} ({self.after / self.before:.0%}) "
            f"in {self.seconds:.1f} s, {speed:.0f} MB/s",
            f"  {len(quantized)} layers quantized, {readable_size(sum(layer.before for layer in quantized))} -> "
            f"{readable_size(sum(layer.after for layer in quantized))}; relative error of the weights {errors[len(errors) // 2]:.2%} in the middle; the worst:",
            *(f"    {layer.error:.2%}  {layer.name}" for layer in quantized[:WORST]),
            f"  {sum(self.kept.values())} layers kept as they were" + (":" if self.kept else ""),
            *(f"    {count}  {why}" for why, count in self.kept.items()),
            f"  {self.how_to_load()}",
        ]
        return "\n".join(lines)


def readable_size(count: int) -> str:
    """Bytes as GB or MB."""
    return f"{count / 1e9:.2f} GB" if count >= 1e9 else f"{count / 1e6:.1f} MB"
