"""Given a server with a card, expect `promptmill doctor` to say what runs on it and how."""

from __future__ import annotations

import json

import pytest

from promptmill.driver.cli import app
from promptmill.driver.testing import FakeComfy
from promptmill.driver.testing.incarnation import Incarnation


@pytest.fixture
def doctor(capsys, monkeypatch):
    """What it says of a server with this card: the text, and the record of the card."""

    def ask(name, gigabytes, torch="2.11.0+cu130"):
        told = Incarnation.system_stats

        def system_stats(self):
            stats = told(self)
            stats["system"]["pytorch_version"] = torch
            stats["devices"][0] |= {"name": f"cuda:0 {name} : native", "vram_total": int(gigabytes * 2**30)}
            return stats

        monkeypatch.setattr(Incarnation, "system_stats", system_stats)
        outputs = []
        with FakeComfy() as fake:
            for option in ([], ["--json"]):
                with pytest.raises(SystemExit):
                    app(["doctor", "--server", fake.url, *option])
                outputs.append(capsys.readouterr().out)
        monkeypatch.undo()
        return outputs[0], json.loads(outputs[1].splitlines()[1])

    return ask


def test_a_large_card_with_fp8(doctor):
    text, record = doctor("NVIDIA H100 80GB HBM3", 79)

    assert "NVIDIA H100 80GB HBM3 (compute capability 9.0, 79 GiB)" in text
    assert [record[name]["how"] for name in ("fp8", "int8", "nvfp4")] == ["natively", "natively", "emulated"]
    assert "a model of 8 B: fp8" in text
    assert record["model_8b"] | {"why": ""} == {
        "format": "fp8",
        "why": "",
        "rows_per_batch": 1,
        "fits": True,
        "bytes": 8_760_000_000,
    }


def test_a_small_card_without_fp8(doctor):
    text, record = doctor("NVIDIA GeForce RTX 3070", 8, "2.7.0+cu128")

    assert "int8: natively (slowly: comfy-kitchen's kernels need a PyTorch for CUDA 13" in text
    assert "which are streamed" in text
    assert (record["model_8b"]["format"], record["model_8b"]["rows_per_batch"]) == ("int8", 4)


def test_a_card_that_is_not_known(doctor):
    text, record = doctor("NVIDIA Graphics Device", 24)

    assert "natively from compute capability 8.9 (RTX 40) on; what this card has is not known" in text
    assert record["model_8b"]["format"] == "as it is"
