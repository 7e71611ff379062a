from __future__ import annotations

from collections.abc import Callable

import pytest

from promptmill.driver.workflow import Graph, Target
from promptmill.errors import AddressError


@pytest.mark.parametrize("address", ["#2.text", "Positive Prompt.text", " Positive Prompt.text "])
def test_by_id_and_by_title(graph: Graph, address: str) -> None:
    assert graph.find(address) == Target("2", "text")


def test_by_class_name(graph: Graph) -> None:
    assert str(graph.find("KSampler.cfg")) == "#5.cfg"


def test_titles_with_dots_and_chinese(graph: Graph) -> None:
    graph.api["2"]["_meta"]["title"] = "正面 v1.5 提示词"
    assert graph.find("正面 v1.5 提示词.text") == Target("2", "text")


def test_an_input_with_a_dot_in_its_name(edited: Callable[..., Graph]) -> None:
    inputs = {"images": ["6", 0], "filename_prefix": "x", "format": "png", "format.bit_depth": "8-bit"}
    graph = edited({"7": ("SaveImageAdvanced", inputs)})
    assert graph.find("SaveImageAdvanced.format.bit_depth") == Target("7", "format.bit_depth")


def test_several_matches_are_listed_with_something_to_type(graph: Graph) -> None:
    with pytest.raises(AddressError) as caught:
        graph.find("CLIPTextEncode.text")
    assert "#2.text (Positive Prompt), #3.text (Negative Prompt)" in str(caught.value)
    assert caught.value.hint == "say which: --set '#2.text={prompt}'"


@pytest.mark.parametrize(
    ("typo", "meant"), [("KSampler.cfgs", "KSampler.cfg"), ("positive promt.text", "Positive Prompt.text")]
)
def test_a_typo_gets_a_suggestion(graph: Graph, typo: str, meant: str) -> None:
    with pytest.raises(AddressError) as caught:
        graph.find(typo)
    assert meant in str(caught.value)
    assert "--set '#" in caught.value.hint


def test_nothing_alike_points_to_inspect(graph: Graph) -> None:
    with pytest.raises(AddressError, match="promptmill inspect"):
        graph.find("zzz")


def test_a_linked_input_names_the_literal_that_drives_it(edited: Callable[..., Graph]) -> None:
    graph = edited({"8": ("PrimitiveInt", {"value": 640})}, **{"4.width": ["8", 0]})
    with pytest.raises(AddressError) as caught:
        graph.find("#4.width")
    assert "link from #8 (PrimitiveInt); the value is #8.value" in str(caught.value)
    assert caught.value.hint == "--set '#8.value={value}'"


def test_a_connection_is_not_a_value(graph: Graph) -> None:
    with pytest.raises(AddressError, match=r"link from #1 \(Load Checkpoint\)"):
        graph.find("KSampler.model")


def test_a_link_from_a_node_that_computes_may_be_replaced(edited: Callable[..., Graph]) -> None:
    graph = edited({"8": ("ResolutionSelector", {"megapixels": 1.0, "multiple": 8})}, **{"4.width": ["8", 0]})
    target = graph.find("#4.width")
    assert target in [info.target for info in graph.inputs()]
    api, _ = graph.inject({target: 640}, None)
    assert api["4"]["inputs"]["width"] == 640


def test_inspect_lists_literals_with_the_addresses_that_work(graph: Graph) -> None:
    found = {info.target: info for info in graph.inputs()}
    assert Target("5", "model") not in found
    text, cfg = found[Target("2", "text")], found[Target("5", "cfg")]
    assert text.addresses == ("Positive Prompt.text", "#2.text")
    assert cfg.addresses == ("KSampler.cfg", "#5.cfg")
    assert (cfg.value, cfg.type, cfg.options["max"]) == (4.5, "FLOAT", 100.0)
    assert all(graph.find(address) == info.target for info in found.values() for address in info.addresses)
