"""mypy over the package, whatever the folder of this checkout is called."""

import os
import subprocess
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]

with tempfile.TemporaryDirectory() as folder:
    Path(folder, "promptmill").symlink_to(ROOT, target_is_directory=True)
    command = [
        sys.executable,
        "-m",
        "mypy",
        "-p",
        "promptmill.errors",
        "-p",
        "promptmill.files",
        "-p",
        "promptmill.table",
        "-p",
        "promptmill.quantization",
        "-p",
        "promptmill.sampling",
        "-p",
        "promptmill.nodes",
        "-p",
        "promptmill.driver",
    ]
    sys.exit(
        subprocess.call(
            [
                *command,
                "--config-file",
                str(ROOT / "pyproject.toml"),
                "--cache-dir",
                str(ROOT / ".mypy_cache"),
            ],
            env={**os.environ, "MYPYPATH": folder},
            cwd=folder,
        )
    )
