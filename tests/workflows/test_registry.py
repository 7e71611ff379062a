"""Given the pack as the registry gets it, expect its checks to find nothing, and the archive to hold what users need."""

from __future__ import annotations

import os
import subprocess
import sys
import zipfile
from pathlib import Path
from urllib.parse import urlsplit

import pytest
from comfy_cli.file_utils import zip_files
from comfy_cli.registry.config_parser import extract_node_configuration
from PIL import Image

ROOT = Path(__file__).resolve().parents[2]


def test_comfy_node_validate_is_clean() -> None:
    command = [sys.executable, "-m", "comfy_cli", "--no-enable-telemetry", "node", "validate"]
    ran = subprocess.run(
        command,
        cwd=ROOT,
        capture_output=True,
        text=True,
        encoding="utf-8",
        env={**os.environ, "NO_COLOR": "1"},
    )

    assert ran.returncode == 0, ran.stdout + ran.stderr
    assert "Warning" not in ran.stdout + ran.stderr


def test_the_registry_reads_all_that_it_shows() -> None:
    config = extract_node_configuration(str(ROOT / "pyproject.toml"))

    assert config is not None
    assert config.project.supported_comfyui_version == ">=0.27.0"
    assert (config.tool_comfy.publisher_id, config.tool_comfy.display_name) == ("promptmill", "promptmill")
    assert not config.tool_comfy.web, "WEB_DIRECTORY already names the scripts: both would load them twice"
    for url, size in ((config.tool_comfy.icon, (400, 400)), (config.tool_comfy.banner_url, (1260, 540))):
        path = urlsplit(url).path.removeprefix("/promptmill/promptmill/main/")
        assert Image.open(ROOT / path).size == size


@pytest.mark.skipif(not (ROOT / ".git").exists(), reason="NOT RUN, the archive is made of what git tracks")
@pytest.mark.filterwarnings("ignore:GitWildMatchPattern")
def test_the_archive_has_the_pack_and_the_driver_but_no_tests(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(ROOT)

    zip_files(tmp_path / "node.zip")

    names = zipfile.ZipFile(tmp_path / "node.zip").namelist()
    folders = {name.split("/")[0] for name in names}
    assert {"__init__.py", "nodes", "sampling", "table", "driver", "web", "workflows", "docs"} <= folders
    assert not {"tests", "benchmarks", "tools", ".github"} & folders
    assert any(name.endswith("promptmill-demo.safetensors") for name in names)
