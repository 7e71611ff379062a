"""Given files that call themselves .safetensors, expect the good ones to be read and the others to be named for what they are."""

from __future__ import annotations

import json
import os
import random

import pytest
import torch
from safetensors.torch import load_file

from promptmill.errors import CheckpointError
from promptmill.quantization.checkpoint import Checkpoint, quantization_of

EIGHT = {"dtype": "F32", "shape": [2], "data_offsets": [0, 8]}


def packed(header, data=b"\0" * 8):
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    return len(text).to_bytes(8, "little") + text + data


BAD = {
    "nothing": (b"", "no whole .safetensors"),
    "a few bytes": (b"\x10\0\0", "no whole .safetensors"),
    "header cut off": (packed({"a": EIGHT})[:30], "no whole .safetensors"),
    "header of a petabyte": ((1 << 50).to_bytes(8, "little") + b"{}", "no whole .safetensors"),
    "no JSON": (packed(b"{nonsense"), "header is damaged"),
    "a list": (packed([1, 2]), "header is damaged"),
    "no offsets": (packed({"a": {"dtype": "F32", "shape": [2]}}), "header is damaged"),
    "tensors cut off": (packed({"a": EIGHT}, b"\0" * 7), "truncated"),
    "too many bytes": (packed({"a": EIGHT}, b"\0" * 9), "1 bytes follow"),
    "overlapping": (
        packed({"a": EIGHT, "b": {**EIGHT, "data_offsets": [4, 12]}}, b"\0" * 12),
        "b begins at 4",
    ),
    "a hole": (packed({"a": {**EIGHT, "data_offsets": [4, 12]}}, b"\0" * 12), "a begins at 4"),
    "another size": (packed({"a": {**EIGHT, "shape": [3]}}), "its shape takes 12"),
    "negative shape": (packed({"a": {**EIGHT, "shape": [-1, -2]}}), "header is damaged"),
    "infinite shape": (
        packed(b'{"a": {"dtype": "F32", "shape": [Infinity], "data_offsets": [0, 8]}}'),
        "header is damaged",
    ),
    "lists in lists": (packed(b"[" * 100_000), "header is damaged"),
    "unknown dtype": (packed({"a": {**EIGHT, "dtype": "F7"}}), "dtype that is unknown"),
    "pickle": (b"\x80\x02}q\0(X\x05\0\0\0layer" + b"\0" * 50, "Python pickle"),
    "zip": (b"PK\x03\x04" + b"\0" * 50, "zip archive"),
    "GGUF": (b"GGUF\x03\0\0\0" + b"\0" * 50, "GGUF"),
    "web page": (b"<!DOCTYPE html><html><body>Log in</body></html>", "web page"),
    "LFS pointer": (b"version https://git-lfs.github.com/spec/v1\noid sha256:0", "LFS pointer"),
}


@pytest.mark.parametrize("what", BAD)
def test_a_bad_file_is_named_for_what_it_is(tmp_path, what):
    content, message = BAD[what]
    path = tmp_path / "model.safetensors"
    path.write_bytes(content)

    with pytest.raises(CheckpointError, match=message) as caught:
        Checkpoint(path)

    assert (caught.value.where, bool(caught.value.hint)) == (str(path), True)


def test_a_folder_and_a_missing_file_are_named(tmp_path):
    with pytest.raises(CheckpointError, match="folder"):
        Checkpoint(tmp_path)
    with pytest.raises(CheckpointError, match="cannot be read"):
        Checkpoint(tmp_path / "missing.safetensors")


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="there are no pipes in folders")
def test_a_pipe_keeps_nobody_waiting(tmp_path):
    os.mkfifo(tmp_path / "pipe.safetensors")
    with pytest.raises(CheckpointError, match="a pipe or a device"):
        Checkpoint(tmp_path / "pipe.safetensors")


def test_a_damaged_header_never_ends_in_another_error(write, ernie):
    path = write(ernie)
    whole, chance = path.read_bytes(), random.Random(0)
    length = int.from_bytes(whole[:8], "little")
    refused = 0
    for _ in range(500):
        damaged = bytearray(whole)
        for _ in range(chance.randint(1, 4)):
            damaged[chance.randrange(8 + length)] = chance.randrange(256)
        path.write_bytes(damaged)
        try:
            Checkpoint(path)
        except CheckpointError:
            refused += 1

    assert refused > 250


def test_tensors_and_metadata_are_read_as_safetensors_reads_them(write, ernie):
    more = {"empty": torch.zeros(0, 4), "one": torch.tensor(3.5), "flag": torch.tensor([True, False])}
    path = write(ernie | more, author="somebody")

    file = Checkpoint(path)

    assert file.metadata == {"author": "somebody"}
    for name, tensor in load_file(path).items():
        assert (file.names[name].dtype, file.names[name].shape) == (tensor.dtype, tuple(tensor.shape))
        assert torch.equal(file.read(name), tensor)
    assert file.read_bytes("odd", 2, 4).tolist() == [2, 3]


def test_a_file_that_becomes_shorter_while_it_is_read_is_an_error(write, ernie):
    path = write(ernie)
    file = Checkpoint(path)
    path.write_bytes(path.read_bytes()[:-1000])

    with pytest.raises(CheckpointError, match="ended within"):
        file.read(list(file.names)[-1])


def mark(config):
    return torch.tensor(list(json.dumps(config).encode()), dtype=torch.uint8)


def test_quantized_layers_are_found_in_all_three_ways(write):
    weight = torch.zeros(16, 16).to(torch.float8_e4m3fn)
    marked = write({"a.weight": weight, "a.comfy_quant": mark({"format": "nvfp4"})}, "marked.safetensors")
    named = write(
        {"a.weight": weight},
        "named.safetensors",
        _quantization_metadata=json.dumps({"layers": {"a": {"format": "int8_tensorwise"}}}),
    )
    old = write(
        {"a.weight": weight, "a.scale_weight": torch.ones(1), "scaled_fp8": torch.zeros(2).to(weight.dtype)},
        "old.safetensors",
    )
    plain = write({"a.weight": torch.zeros(16, 16)}, "plain.safetensors")

    found = [quantization_of(Checkpoint(path)) for path in (marked, named, old, plain)]

    assert found == [{"a": "nvfp4"}, {"a": "int8_tensorwise"}, {"a": "float8_e4m3fn"}, {}]


@pytest.mark.parametrize("text", ["[]", "garbage", '{"layers": null}', '{"layers": {"a": 5}}', "[" * 100_000])
def test_metadata_of_quantized_layers_that_is_none_is_told(write, text):
    path = write({"a.weight": torch.zeros(16, 16)}, _quantization_metadata=text)

    with pytest.raises(CheckpointError, match=r"_quantization_metadata, which .* is damaged") as caught:
        quantization_of(Checkpoint(path))

    assert caught.value.where == str(path)


@pytest.mark.parametrize(
    "tensor", [torch.tensor([1, 2, 3]).byte(), torch.tensor([1.5]), mark([]), mark(None)]
)
def test_a_mark_that_is_none_is_told(write, tensor):
    path = write({"a.weight": torch.zeros(16, 16), "a.comfy_quant": tensor})

    with pytest.raises(CheckpointError, match=r"a\.comfy_quant, which .* is damaged"):
        quantization_of(Checkpoint(path))
