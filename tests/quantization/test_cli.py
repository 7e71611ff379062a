"""Given files, expect `promptmill quantize` to convert them and to say what it did."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest
import torch

from promptmill.driver.cli import app
from promptmill.driver.cli import quantize as command
from promptmill.quantization.checkpoint import Checkpoint, quantization_of


@pytest.fixture
def quantize(capsys):
    """Run the command: exit code, stdout, stderr."""

    def run(*options):
        with pytest.raises(SystemExit) as ended:
            app(["quantize", *map(str, options)])
        told = capsys.readouterr()
        return ended.value.code, told.out, told.err

    return run


def test_it_writes_the_file_and_reports(write, ernie, tmp_path, quantize):
    source, target, report = write(ernie), tmp_path / "out.safetensors", tmp_path / "report.json"

    code, out, err = quantize(source, target, "--format", "int8", "--keep", r"1\.mlp", "--report", report)

    found = json.loads(report.read_text(encoding="utf-8"))
    assert code == 0
    assert set(quantization_of(Checkpoint(target)).values()) == {"int8_tensorwise"}
    assert "4 layers quantized" in out
    assert r"2  --keep 1\.mlp" in out
    assert "Load Diffusion Model" in out
    assert "converting: 100 %" in err
    assert len(found["layers"]) == 8
    assert found["kept"] == {"kept in ernie-image": 2, r"--keep 1\.mlp": 2}
    assert found["after"] == target.stat().st_size


def test_with_json_the_report_is_one_line(write, ernie, tmp_path, quantize):
    code, out, _ = quantize(write(ernie), tmp_path / "out.safetensors", "--format", "fp8", "--json")

    (line,) = out.splitlines()
    assert (code, json.loads(line)["architecture"]) == (0, "ernie-image")


def test_a_mistake_is_told_with_a_hint(write, ernie, tmp_path, quantize):
    source = write(ernie)
    source.write_bytes(source.read_bytes()[:-100])

    code, _, err = quantize(source, tmp_path / "out.safetensors", "--format", "fp8")

    assert code == 2
    assert "the file is truncated" in err
    assert "hint: download it again" in err
    assert [path.name for path in tmp_path.iterdir()] == [source.name]


def test_a_report_that_cannot_be_written_is_told_before_anything_is_converted(
    write, ernie, tmp_path, quantize
):
    target = tmp_path / "out.safetensors"

    for report in (tmp_path / "nowhere" / "report.json", tmp_path):
        code, _, err = quantize(write(ernie), target, "--format", "fp8", "--report", report)

        assert (code, target.exists()) == (2, False)
        assert f"{report}: the report cannot be written" in err


def test_a_report_does_not_replace_a_model(write, ernie, tmp_path, quantize):
    source, target = write(ernie), tmp_path / "out.safetensors"
    before = source.read_bytes()

    for report in (source, target):
        code, _, err = quantize(source, target, "--format", "fp8", "--report", report)

        assert (code, target.exists(), source.read_bytes()) == (2, False, before)
        assert "the report would replace the model" in err


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is CUDA here")
def test_cuda_that_is_not_there_is_told(write, ernie, tmp_path, quantize):
    code, _, err = quantize(write(ernie), tmp_path / "out.safetensors", "--format", "fp8", "--device", "cuda")

    assert code == 2
    assert "hint: --device cpu" in err
    assert [path.name for path in tmp_path.iterdir()] == ["source.safetensors"]


@pytest.mark.parametrize("budget", ["1", "-0.5"])
def test_a_budget_that_is_no_share_is_told(write, ernie, tmp_path, quantize, budget):
    code, _, err = quantize(
        write(ernie), tmp_path / "out.safetensors", "--format", "fp8", f"--budget={budget}"
    )

    assert code == 2
    assert "a share from 0 to below 1" in err


def test_a_missing_package_is_told_with_what_installs_it(write, ernie, tmp_path, quantize, monkeypatch):
    monkeypatch.setattr(command, "PACKAGES", ("torch", "not_there"))

    code, _, err = quantize(write(ernie), tmp_path / "out.safetensors", "--format", "fp8")

    assert code == 2
    assert "there is no not_there" in err
    assert 'pip install ".[driver,quantization]"' in err


def test_the_command_line_starts_without_torch():
    code = "import sys, promptmill.driver.cli; print('torch' in sys.modules)"
    assert subprocess.check_output([sys.executable, "-c", code], text=True).strip() == "False"
