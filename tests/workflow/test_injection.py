from __future__ import annotations

import copy
from typing import Any

import pytest

from promptmill.driver.workflow import Graph, Target
from promptmill.driver.workflow.convert import same_graph, to_api

Json = dict[str, Any]
TEXT, SEED, WIDTH = Target("2", "text"), Target("5", "seed"), Target("4", "width")
BOX_TEXT, BOX_WIDTH, BOX_SEED = Target("10:2", "text"), Target("10:4", "width"), Target("10:5", "seed")


def widgets(ui: Json, node_id: int) -> list[Any]:
    return next(node["widgets_values"] for node in ui["nodes"] if node["id"] == node_id)


@pytest.fixture
def drawn(api: Json, ui: Json, object_info: Json) -> Graph:
    return Graph(api, object_info, ui)


@pytest.fixture
def boxed_graph(boxed: Json, object_info: Json) -> Graph:
    return Graph(to_api(boxed, object_info), object_info, boxed)


def test_the_template_graph_is_never_changed(drawn: Graph) -> None:
    before = copy.deepcopy((drawn.api, drawn.ui))
    api, ui = drawn.inject({TEXT: "a boat", SEED: 2**64 - 1}, "run/abc")
    assert (drawn.api, drawn.ui) == before
    assert api["2"]["inputs"]["text"] == "a boat"
    assert api["7"]["inputs"]["filename_prefix"] == "run/abc"
    assert api["4"] is drawn.api["4"]
    assert ui is not None


def test_without_a_canvas_there_is_none(graph: Graph) -> None:
    api, ui = graph.inject({SEED: 3}, None)
    assert (api["5"]["inputs"]["seed"], ui) == (3, None)
    assert graph.ui_gaps([SEED]) == []


def test_the_canvas_shows_the_row_and_keeps_its_own_prefix(drawn: Graph, object_info: Json) -> None:
    api, ui = drawn.inject({TEXT: "a boat", SEED: 7, WIDTH: 640}, "run/abc")
    assert ui is not None
    assert widgets(ui, 2) == ["a boat"]
    assert widgets(ui, 4)[0] == 640
    assert widgets(ui, 7) == ["promptmill"]
    assert same_graph(to_api(ui, object_info), api)


def test_a_seed_does_not_change_after_queueing(ui: Json, api: Json, object_info: Json) -> None:
    ui["nodes"][4]["widgets_values"][1] = "randomize"
    _, shown = Graph(api, object_info, ui).inject({SEED: 7}, None)
    assert shown is not None
    assert shown["nodes"][4]["widgets_values"][:2] == [7, "fixed"]
    assert "widgets_values_named" not in shown["nodes"][4]


@pytest.mark.parametrize("text", ["{a|b} cat", "1 | 2", "\\(x\\) [a:0.5]", "}", "一只猫"])
def test_dynamic_prompt_syntax_in_a_row_is_text(drawn: Graph, object_info: Json, text: str) -> None:
    api, ui = drawn.inject({TEXT: text}, None)
    assert api["2"]["inputs"]["text"] == text
    assert ui is not None
    assert to_api(ui, object_info)["2"]["inputs"]["text"] == text


@pytest.mark.parametrize("text", ["see http://x.y", "a /* b */ c", "\\{a"])
def test_a_text_that_the_canvas_cannot_hold_goes_without_a_canvas(drawn: Graph, text: str) -> None:
    assert drawn.inject({TEXT: "first"}, None)[1] is not None
    api, ui = drawn.inject({TEXT: text}, None)
    assert (api["2"]["inputs"]["text"], ui) == (text, None)


def test_a_value_without_a_widget_is_a_gap_and_no_canvas_is_shown(ui: Json, object_info: Json) -> None:
    ui["nodes"][3]["widgets_values"] = [1024, 1024]
    graph = Graph(to_api(ui, object_info), object_info, ui)
    batch = Target("4", "batch_size")
    assert graph.ui_gaps([SEED, batch]) == [batch]
    api, shown = graph.inject({SEED: 7, batch: 2}, None)
    assert (api["4"]["inputs"]["batch_size"], shown) == (2, None)


def test_a_canvas_of_another_graph_is_not_shown(api: Json, ui: Json, object_info: Json) -> None:
    api["5"]["inputs"]["steps"] = 99
    assert Graph(api, object_info, ui).inject({SEED: 7}, None)[1] is None


def test_widgets_of_a_subgraph_node(boxed_graph: Graph, object_info: Json) -> None:
    text = "{not drawn} // in promoted widgets"
    api, ui = boxed_graph.inject({BOX_TEXT: text, BOX_SEED: 99}, None)
    assert ui is not None
    assert widgets(ui, 10)[0] == text
    assert same_graph(to_api(ui, object_info), api)
    assert api["10:7"]["inputs"]["source"] == text, "one widget drives both"
    inner = ui["definitions"]["subgraphs"][0]["nodes"][4]
    assert inner["widgets_values"][:2] == [99, "fixed"]


def test_a_replaced_link_is_cut_on_the_canvas(boxed_graph: Graph, object_info: Json) -> None:
    assert boxed_graph.automatic()["width"] == (BOX_WIDTH,)
    api, ui = boxed_graph.inject({BOX_WIDTH: 640}, None)
    assert ui is not None
    assert api["10:4"]["inputs"] == {"width": 640, "height": ["20", 1], "batch_size": 1}
    assert widgets(ui, 10)[1] == 640
    assert [link[0] for link in ui["links"]] == [2, 3]
    assert ui["nodes"][0]["outputs"][0]["links"] == []
    assert [entry["link"] for entry in ui["nodes"][1]["inputs"]] == [None, None, 2]
    assert same_graph(to_api(ui, object_info), api)


def test_two_uses_of_one_subgraph_keep_their_own_values(boxed: Json, object_info: Json) -> None:
    second = copy.deepcopy(boxed["nodes"][1]) | {"id": 11}
    for entry in second["inputs"]:
        entry["link"] = None
    boxed["nodes"].append(second)
    graph = Graph(to_api(boxed, object_info), object_info, boxed)
    api, ui = graph.inject({BOX_TEXT: "left", Target("11:2", "text"): "right"}, None)
    assert ui is not None
    assert (widgets(ui, 10)[0], widgets(ui, 11)[0]) == ("left", "right")
    assert same_graph(to_api(ui, object_info), api)
    assert graph.ui_gaps([BOX_SEED]) == [BOX_SEED], "the seed inside is one widget for both"
    api, ui = graph.inject({BOX_SEED: 5}, None)
    assert (api["10:5"]["inputs"]["seed"], api["11:5"]["inputs"]["seed"], ui) == (5, 7, None)


def test_a_primitive_node_drives_what_it_feeds(ui: Json, object_info: Json) -> None:
    for node_id, index in ((2, 1), (3, 2)):
        entry = {"name": "text", "type": "STRING", "widget": {"name": "text"}, "link": 20 + index}
        ui["nodes"][node_id - 1]["inputs"].append(entry)
        ui["links"].append([20 + index, 50, 0, node_id, 1, "STRING"])
    primitive = {"id": 50, "type": "PrimitiveNode", "mode": 0, "inputs": [], "widgets_values": ["both"]}
    ui["nodes"].append(primitive | {"outputs": [{"name": "STRING", "type": "STRING", "links": [21, 22]}]})
    graph = Graph(to_api(ui, object_info), object_info, ui)
    assert graph.api["2"]["inputs"]["text"] == "both"
    api, shown = graph.inject({TEXT: "a boat"}, None)
    assert api["3"]["inputs"]["text"] == "a boat"
    assert shown is not None
    assert widgets(shown, 50) == ["a boat"]
    negative = Target("3", "text")
    assert graph.inject({TEXT: "a", negative: "a"}, None)[1] is not None
    assert graph.inject({TEXT: "a", negative: "b"}, None)[1] is None, "one widget, two values"
