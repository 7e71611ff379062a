"""Makes contact-sheet.png: the contact sheet of `promptmill demo`.

python docs/images/contact_sheet.py (needs Chromium: CHROMIUM, or /usr/bin/chromium)
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from pathlib import Path

from PIL import Image
from playwright.sync_api import sync_playwright


def main() -> None:
    """Run the demo and photograph its page."""
    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder, "demo")
        subprocess.run([sys.executable, "-m", "promptmill", "demo", "--out", out], check=True)
        with sync_playwright() as playwright:
            browser = playwright.chromium.launch(
                executable_path=os.environ.get("CHROMIUM", "/usr/bin/chromium"), args=["--no-sandbox"]
            )
            page = browser.new_page(viewport={"width": 1440, "height": 910})
            page.goto((out / "index.html").as_uri(), wait_until="networkidle")
            shot = Path(folder, "page.png")
            page.screenshot(path=shot)
            browser.close()
        picture = Image.open(shot).convert("RGB")
        palette = picture.quantize(256, kmeans=4)
        picture.quantize(palette=palette).save(Path(__file__).with_name("contact-sheet.png"), optimize=True)


if __name__ == "__main__":
    main()
