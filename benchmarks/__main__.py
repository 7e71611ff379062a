"""``python -m benchmarks [NAME ...]``: run all benchmarks, or those named. Each also runs by itself."""

import subprocess
import sys
from pathlib import Path

HERE = Path(__file__).parent
every = sorted(path.stem for path in HERE.glob("*.py") if not path.stem.startswith("__"))
failed = 0
for name in sys.argv[1:] or every:
    print(f"== {name}", flush=True)
    failed |= subprocess.call([sys.executable, str(HERE / f"{name}.py")])
sys.exit(failed)
