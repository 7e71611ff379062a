from __future__ import annotations

from typing import Any

import pytest

from promptmill.driver.workflow.convert import same_graph, to_api

Json = dict[str, Any]


def test_both_formats_of_the_shipped_workflow_agree(api: Json, ui: Json, object_info: Json) -> None:
    assert same_graph(to_api(ui, object_info), api)


@pytest.mark.comfyui
def test_a_real_server_accepts_it(comfyui: Any, api: Json, ui: Json) -> None:
    assert to_api(ui, comfyui.object_info) == api
    status, answer = comfyui.post(api)
    assert (status, answer["node_errors"]) == (200, {})


@pytest.mark.comfyui
@pytest.mark.chromium
def test_the_real_canvas_loads_it_unchanged(canvas: Any, api: Json, ui: Json) -> None:
    loaded = canvas(ui)
    assert loaded["output"] == api
    assert {**loaded["workflow"], "extra": {}} == ui
