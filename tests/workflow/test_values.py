from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from promptmill.driver.workflow import Graph, Target, checker
from promptmill.driver.workflow.checks import compile_check
from promptmill.driver.workflow.schema import Spec
from promptmill.errors import ValueRefused

SEED = Spec("INT", {"min": 0, "max": 2**64 - 1}, True)
CFG = Spec("FLOAT", {"min": 0.0, "max": 100.0}, True)
FLAG = Spec("BOOLEAN", {}, True)
TEXT = Spec("STRING", {"multiline": True}, True)


def combo(*choices: Any, **options: Any) -> Spec:
    return Spec("COMBO", {"options": list(choices), **options}, True)


@pytest.mark.parametrize(
    ("spec", "given", "expected"),
    [
        (SEED, "0", 0), (SEED, " 42 ", 42), (SEED, str(2**64 - 1), 2**64 - 1), (SEED, 7, 7),
        (CFG, "7", 7.0), (CFG, ".5", 0.5), (CFG, "1e1", 10.0), (CFG, 4, 4.0),
        (FLAG, "TRUE", True), (FLAG, "否", False), (FLAG, "1", True), (FLAG, False, False),
        (TEXT, " as it is ", " as it is "), (TEXT, 5, "5"),
        (combo("euler", "lcm"), "lcm", "lcm"), (combo(1, 2), "2", 2),
        (combo("cat.png", image_upload=True), "sub/dog.png", "sub/dog.png"),
        (combo("cat.png", image_upload=True), "dog.png [output]", "dog.png [output]"),
    ],
)  # fmt: skip
def test_accepted(spec: Spec, given: Any, expected: Any) -> None:
    value = compile_check(spec, "#5.x")(given)
    assert value == expected
    assert type(value) is type(expected)


@pytest.mark.parametrize(
    ("spec", "given", "right"),
    [
        *((SEED, bad, "a whole number from 0 to 18446744073709551615")
          for bad in ("", "1.0", "1e5", "1_000", "１２", "-1", str(2**64), "0x10", True, 1.0, None)),
        *((CFG, bad, "a number from 0.0 to 100.0") for bad in ("", "7,5", "nan", "inf", "1e999", "-0.1", "100.5", "1_0", True)),
        *((FLAG, bad, "true or false") for bad in ("", "2", "maybe")),
        (combo("euler"), "eular", "one of the choices"),
        (combo("cat.png", image_upload=True), "dog.png", "one of the choices"),
        (combo(), "a.safetensors", "available: none"),
    ],
)  # fmt: skip
def test_refused_with_what_would_be_right(spec: Spec, given: Any, right: str) -> None:
    with pytest.raises(ValueRefused) as caught:
        compile_check(spec, "#5.x")(given)
    assert right in str(caught.value)
    assert (caught.value.where, caught.value.value) == ("#5.x", given)
    assert caught.value.hint


def test_a_model_that_is_not_there_gets_a_suggestion(graph: Graph) -> None:
    with pytest.raises(ValueRefused) as caught:
        checker(graph, Target("1", "ckpt_name"))("SD3.5_large_fp8.safetensors")
    assert "is not a model file on the server" in str(caught.value)
    assert caught.value.hint.startswith("did you mean 'sd3.5_large_fp8_scaled.safetensors'")


def test_a_switching_input_and_what_hangs_on_it(edited: Callable[..., Graph]) -> None:
    inputs = {"images": ["6", 0], "filename_prefix": "x", "format": "png", "format.bit_depth": "8-bit"}
    graph = edited({"7": ("SaveImageAdvanced", inputs)})
    assert checker(graph, Target("7", "format"))("exr") == "exr"
    assert checker(graph, Target("7", "format.bit_depth"))("16-bit") == "16-bit"
    with pytest.raises(ValueRefused):
        checker(graph, Target("7", "format"))("gif")


def test_a_class_the_server_lacks_constrains_nothing(edited: Callable[..., Graph]) -> None:
    assert checker(edited({"8": ("Unknown", {"x": 1})}), Target("8", "x"))("any") == "any"


@given(st.integers(-(2**65), 2**65))
def test_integers_as_text_are_taken_exactly_where_the_server_takes_them(number: int) -> None:
    check = compile_check(SEED, "#5.seed")
    if 0 <= number < 2**64:
        assert check(str(number)) == number
    else:
        with pytest.raises(ValueRefused):
            check(str(number))


@given(st.text())
@example("0\x1f")
def test_whatever_is_accepted_is_what_python_reads(text: str) -> None:
    for spec, convert in ((SEED, int), (CFG, float)):
        try:
            value = compile_check(spec, "x")(text)
        except ValueRefused:
            continue
        assert value == convert(text)
