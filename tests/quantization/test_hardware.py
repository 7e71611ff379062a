"""Given cards and models, expect the format, and how it runs, that the rules promise."""

from __future__ import annotations

import pytest

from promptmill.quantization.hardware import (
    AS_IT_IS,
    Device,
    advise,
    best_format,
    device_of_server,
    runs,
)

LARGE, SMALL = int(16.07e9), int(5e9)


def card(name: str, gigabytes: float, capability: tuple[int, int] | None, **facts) -> Device:
    return Device(
        name,
        **{"kind": "cuda", "cuda": (13, 0), **facts},
        memory=int(gigabytes * 2**30),
        capability=capability,
    )


RTX_3060 = card("RTX 3060", 12, (8, 6))
RTX_3090 = card("RTX 3090", 24, (8, 6))
A4000 = card("RTX A4000", 16, (8, 6))
RTX_4090 = card("RTX 4090", 24, (8, 9))
RTX_4060 = card("RTX 4060", 8, (8, 9))
RTX_5090 = card("RTX 5090", 32, (12, 0))
T4 = card("T4", 15, (7, 5))
V100 = card("V100", 16, (7, 0))
P40 = card("P40", 24, (6, 1))
H100 = card("H100", 79, (9, 0))
RADEON = card("RX 7900", 24, None, kind="rocm", cuda=None)
APPLE = Device("mps", "mps", 0)
CPU = Device("cpu", "cpu", 0)


@pytest.mark.parametrize(
    ("device", "large", "small"),
    [
        (RTX_3060, "int8", AS_IT_IS),
        (A4000, "int8", AS_IT_IS),
        (RTX_3090, AS_IT_IS, AS_IT_IS),
        (RTX_4090, "fp8", "fp8"),
        (RTX_5090, "fp8", "fp8"),
        (T4, "int8", AS_IT_IS),
        (H100, "fp8", "fp8"),
        (V100, AS_IT_IS, AS_IT_IS),
        (P40, AS_IT_IS, AS_IT_IS),
        (RADEON, AS_IT_IS, AS_IT_IS),
        (APPLE, AS_IT_IS, AS_IT_IS),
        (CPU, AS_IT_IS, AS_IT_IS),
    ],
    ids=lambda value: getattr(value, "name", value),
)
def test_auto(device, large, small):
    assert best_format(device, LARGE).format == large
    assert best_format(device, SMALL).format == small


@pytest.mark.parametrize(
    ("device", "fp8", "int8", "nvfp4"),
    [
        (RTX_5090, "natively", "natively", "natively"),
        (H100, "natively", "natively", "emulated"),
        (RTX_4090, "natively", "natively", "emulated"),
        (RTX_3060, "emulated", "natively", "emulated"),
        (T4, "emulated", "natively", "emulated"),
        (P40, "emulated", "not at all", "emulated"),
        (RADEON, "not known", "by PyTorch", "emulated"),
        (CPU, "emulated", "by PyTorch", "emulated"),
        (APPLE, "not at all", "not at all", "not at all"),
    ],
    ids=lambda value: getattr(value, "name", value),
)
def test_how_formats_run(device, fp8, int8, nvfp4):
    assert [runs(name, device).how for name in ("fp8", "int8", "nvfp4")] == [fp8, int8, nvfp4]


def test_an_older_cuda_has_no_kernels_for_int8_and_is_told():
    old = card("RTX 3060", 12, (8, 6), cuda=(12, 8))

    assert "PyTorch for CUDA 13, this one is for 12.8" in runs("int8", old).why
    assert "PyTorch" not in runs("int8", RTX_3060).why
    assert "PyTorch" not in runs("fp8", card("RTX 4090", 24, (8, 9), cuda=(12, 8))).why


@pytest.mark.parametrize(
    ("device", "fits", "rows"),
    [
        (H100, True, 1),
        (RTX_4090, True, 1),
        (RTX_4060, False, 4),
        (RTX_3060, True, 1),
        (card("x", 2, (8, 9)), False, 2),
    ],
)
def test_rows_of_a_batch_pay_where_weights_are_streamed(device, fits, rows):
    found = advise(device)

    assert (found.fits, found.rows) == (fits, rows)
    assert found.memory == pytest.approx(8.22e9 + 0.02e9 + rows * 0.52e9)


@pytest.mark.parametrize(
    ("name", "capability"),
    [
        ("cuda:0 NVIDIA GeForce RTX 3060 : cudaMallocAsync", (8, 6)),
        ("cuda:0 NVIDIA GeForce RTX 4090 Laptop GPU : native", (8, 9)),
        ("cuda:0 NVIDIA GeForce RTX 5090 : native", (12, 0)),
        ("cuda:1 NVIDIA RTX PRO 6000 Blackwell Server Edition : native", (12, 0)),
        ("cuda:0 NVIDIA RTX 6000 Ada Generation : native", (8, 9)),
        ("cuda:0 NVIDIA RTX A6000 : native", (8, 6)),
        ("cuda:0 NVIDIA H100 80GB HBM3 : native", (9, 0)),
        ("cuda:0 NVIDIA H200 : native", (9, 0)),
        ("cuda:0 NVIDIA GH200 480GB : native", (9, 0)),
        ("cuda:0 NVIDIA A100-SXM4-80GB : native", (8, 0)),
        ("cuda:0 NVIDIA A10G : native", (8, 6)),
        ("cuda:0 NVIDIA L4 : native", (8, 9)),
        ("cuda:0 NVIDIA L40S : native", (8, 9)),
        ("cuda:0 Tesla T4 : native", (7, 5)),
        ("cuda:0 NVIDIA RTX 5000 Ada Generation : native", (8, 9)),
        ("cuda:0 NVIDIA RTX 4000 SFF Ada Generation : native", (8, 9)),
        ("cuda:0 NVIDIA GeForce RTX 2050 : native", (8, 6)),
        ("cuda:0 NVIDIA GeForce RTX 2080 Ti : native", (7, 5)),
        ("cuda:0 Quadro RTX 6000 : native", (7, 5)),
        ("cuda:0 Quadro RTX 5000 : native", (7, 5)),
        ("cuda:0 Quadro RTX 4000 : native", (7, 5)),
        ("cuda:0 Quadro RTX 3000 : native", (7, 5)),
        ("cuda:0 Tesla V100-SXM2-16GB : native", (7, 0)),
        ("cuda:0 Tesla P40 : native", (6, 1)),
        ("cuda:0 NVIDIA GeForce GTX 1080 Ti : native", (6, 1)),
        ("cuda:0 NVIDIA Graphics Device : native", None),
    ],
)
def test_a_servers_card_is_known_by_its_name(name, capability):
    found = device_of_server({"name": name, "type": "cuda", "vram_total": 8}, "2.11.0+cu130")

    assert (found.capability, found.cuda, found.memory) == (capability, (13, 0), 8)
    assert "cuda:" not in found.name
    assert " : " not in found.name


def test_what_is_not_known_is_not_guessed():
    unknown = device_of_server({"name": "cuda:0 NVIDIA X : native", "type": "cuda", "vram_total": 8}, "2.9.1")

    assert unknown.cuda is None
    assert "natively from compute capability 8.9 (RTX 40) on" in runs("fp8", unknown).why
    assert {runs(name, unknown).how for name in ("fp8", "int8", "nvfp4")} == {"not known"}


def test_an_amd_card_is_none_of_nvidias():
    found = device_of_server(
        {"name": "cuda:0 AMD Radeon : native", "type": "cuda", "vram_total": 8}, "2.9.1+rocm6.4"
    )

    assert (found.kind, found.capability) == ("rocm", None)
