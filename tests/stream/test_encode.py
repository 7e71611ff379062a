"""Given ComfyUI's own tokenizers, expect few encodings, bounded memory, and a word where T5 does not know a prompt."""

from __future__ import annotations

import json
import os
import subprocess
from pathlib import Path
from typing import Any

import pytest

pytestmark = pytest.mark.comfyui

ROOT = Path(__file__).resolve().parents[2]

SCRIPT = """
import json, logging, sys
from comfy.cli_args import args
args.cpu = True
import torch
from comfy.text_encoders.sd3_clip import SD3Tokenizer
from comfy.text_encoders.z_image import ZImageTokenizer
from promptmill.sampling import Encoder

class Clip:
    def __init__(self, tokenizer):
        self.encoded, self.tokenize = [], tokenizer.tokenize_with_weights
    def encode_from_tokens_scheduled(self, tokens):
        self.encoded.append(tokens)
        return [[torch.zeros(1, 100, 10), {"pooled_output": torch.zeros(1, 10), "other": 1}]]

warnings = []
logging.getLogger().addHandler(type("Keep", (logging.Handler,), {"emit": lambda self, record: warnings.append(record.getMessage())})())
found = {}
for name, tokenizer in (("sd3", SD3Tokenizer()), ("z-image", ZImageTokenizer())):
    for kind, text in (("english", "a red mug, 50 mm lens"), ("chinese", "一只橘猫")):
        warnings.clear()
        encode = Encoder(Clip(tokenizer))
        encode(text), encode(text + " "), encode("a mug")
        found[f"{name} {kind}"] = list(warnings)
of_one = 4 * (100 * 10 + 10)
clip = Clip(tokenizer)
encode = Encoder(clip, keep=3 * of_one)
for prompt in ("one", "one", "two", "three", "four", "one"):
    encode(prompt), encode("negative")
found["encodings"] = len(clip.encoded)
print(json.dumps(found))
"""


@pytest.fixture(scope="module")
def found(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    path = tmp_path_factory.mktemp("path")
    (path / "promptmill").symlink_to(ROOT, target_is_directory=True)
    outside: Any = request.config.pluginmanager.get_plugin(str(ROOT / "tests" / "conftest.py"))
    home = str(outside.comfyui_home())
    told = subprocess.check_output(
        [outside.comfyui_python(), "-c", SCRIPT],
        text=True,
        cwd=home,
        env={**os.environ, "PYTHONPATH": os.pathsep.join([str(path), home]), "OMP_NUM_THREADS": "1"},
    )
    return json.loads(told.splitlines()[-1])  # type: ignore[no-any-return]


def test_what_t5_does_not_know_is_told_once(found: dict[str, Any]) -> None:
    assert len(found["sd3 chinese"]) == 1
    assert "T5" in found["sd3 chinese"][0]


@pytest.mark.parametrize("case", ["sd3 english", "z-image english", "z-image chinese"])
def test_what_is_known_is_not_told(found: dict[str, Any], case: str) -> None:
    assert found[case] == []


def test_the_oldest_text_is_forgotten_and_the_negative_stays(found: dict[str, Any]) -> None:
    """Three fit: one, negative, two; three takes the place of one, four that of two, and so one comes anew."""
    assert found["encodings"] == len(["one", "negative", "two", "three", "four", "one"])
