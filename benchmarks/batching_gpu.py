"""Rows in batches on an NVIDIA card, with ComfyUI's own classes and a full-size ERNIE-Image of random weights.

- rows: sampling alone, ComfyUI's KSampler against Row Guider with 1, 2, 4 and 8 rows, with all of the card and with 8 GB of it;
- table: whole tables with decoding and saving, ComfyUI's own nodes against Sample Table, and how long that waits for a PNG;
- exact: how far a row of a batch is from the row made alone.

usage: python benchmarks/batching_gpu.py [rows | table | exact] [options of gpu/rows.py, gpu/table.py, and of ComfyUI]

With all of the card it holds up to 20 GB of it. `--tiny --cpu` tries the scripts where there is no card.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

import promptmill

PACKAGE = Path(promptmill.__file__).parent
HOME = Path(os.environ.get("COMFYUI_PATH") or Path.home() / "comfy" / "ComfyUI")
PYTHON = os.environ.get("COMFYUI_PYTHON") or HOME / ".venv" / "bin" / "python"
PARTS = {"rows": [["--model", "bf16"], ["--model", "fp8"]], "table": [[]], "exact": [[]]}


def main() -> int:
    named = [sys.argv[1]] if sys.argv[1:2] and sys.argv[1] in PARTS else []
    options = sys.argv[1 + len(named) :]
    if not shutil.which("nvidia-smi") and "--cpu" not in options:
        print("there is no NVIDIA card here")
        return 0
    failed = 0
    with tempfile.TemporaryDirectory(prefix="promptmill-bench-") as path:
        Path(path, "promptmill").symlink_to(PACKAGE, target_is_directory=True)
        for part in named or PARTS:
            for given in PARTS[part]:
                command = [PYTHON, Path(__file__).parent / "gpu" / f"{part}.py", *given, *options]
                failed |= subprocess.call(command, cwd=HOME, env={**os.environ, "PYTHONPATH": path})
    return failed


if __name__ == "__main__":
    sys.exit(main())
