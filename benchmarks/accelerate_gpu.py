"""Compiled FP8 and INT8 sampling on an NVIDIA card against ComfyUI's own, with a full-size ERNIE-Image of random weights.

usage: python benchmarks/accelerate_gpu.py [options of gpu/faster.py, and of ComfyUI]

Holds up to 60 GB of the card. `--tiny --cpu` tries the script where there is no card.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

from batching_gpu import HOME, PACKAGE, PYTHON


def main() -> int:
    options = sys.argv[1:]
    if not shutil.which("nvidia-smi") and "--cpu" not in options:
        print("there is no NVIDIA card here")
        return 0
    with tempfile.TemporaryDirectory(prefix="promptmill-bench-") as path:
        Path(path, "promptmill").symlink_to(PACKAGE, target_is_directory=True)
        command = [PYTHON, Path(__file__).parent / "gpu" / "faster.py", *options]
        return subprocess.call(command, cwd=HOME, env={**os.environ, "PYTHONPATH": path})


if __name__ == "__main__":
    sys.exit(main())
