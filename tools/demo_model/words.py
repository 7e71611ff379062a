"""
Look up the CLIP token ids of the demo's words, once.

    python -m promptmill.tools.demo_model.words VOCAB_JSON

takes CLIP's vocabulary (vocab.json of any CLIP-L tokenizer) and writes words.json beside this file.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

from .scenes import WORDS


def main(vocabulary: Path) -> None:
    """:raises KeyError: a word is not a single token of CLIP's."""
    ids = json.loads(vocabulary.read_text(encoding="utf-8"))
    found = {word: ids[f"{word}</w>"] for word in sorted(WORDS)}
    Path(__file__).with_name("words.json").write_text(json.dumps(found, indent=0) + "\n")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
