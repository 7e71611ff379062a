"""The workflows that are shipped, one at a time, and a real ComfyUI that has this pack and a file for each of their models."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import requests

ROOT = Path(__file__).resolve().parents[2]
WORKFLOWS = ROOT / "workflows"
NAMES = sorted(path.stem for path in WORKFLOWS.glob("*.json"))
LOAD = """async ui => {
    await window.app.loadGraphData(ui, true, false, null)
    const {output} = await window.app.graphToPrompt()
    const nodes = window.app.graph.nodes
    const wrong = node => (node.widgets ?? []).filter(({value, options}) =>
        Array.isArray(options?.values) && !options.values.includes(value))
    const previews = nodes.filter(node => node.type === "PromptmillPromptTable")
        .map(node => node.widgets.find(({name}) => name === "promptmill_preview").element)
    while (!previews.every(preview => preview.querySelector("table, pre"))) await new Promise(requestAnimationFrame)
    return JSON.stringify({
        output,
        refused: previews.flatMap(preview => preview.querySelector("pre")?.textContent ?? []),
        missing: nodes.filter(node => !(node.type in LiteGraph.registered_node_types)).map(node => node.type),
        red: nodes.filter(node => node.has_errors || wrong(node).length).map(node => node.title),
    })
}"""

Json = dict[str, Any]


def read(path: Path) -> Json:
    content: Json = json.loads(path.read_text(encoding="utf-8"))
    return content


@pytest.fixture(params=NAMES)
def name(request: pytest.FixtureRequest) -> str:
    found: str = request.param
    return found


@pytest.fixture
def ui(name: str) -> Json:
    return read(WORKFLOWS / f"{name}.json")


@pytest.fixture
def api(name: str) -> Json:
    return read(WORKFLOWS / "api" / f"{name}.json")


@pytest.fixture(scope="session")
def shipped() -> Callable[[str], tuple[Json, Json]]:
    """A workflow by the start of its title, in UI and in API format."""

    def find(start: str) -> tuple[Json, Json]:
        (found,) = WORKFLOWS.glob(f"{start}*.json")
        return read(found), read(WORKFLOWS / "api" / found.name)

    return find


class Comfy:
    """The server."""

    def __init__(self, url: str, base: Path) -> None:
        self.url = url
        self.output = base / "output"
        self.object_info: Json = self.get("/object_info").json()

    def get(self, path: str) -> requests.Response:
        reply = requests.get(self.url + path, timeout=30)
        reply.raise_for_status()
        return reply

    def post(self, path: str, content: Json) -> Json:
        answer: Json = requests.post(self.url + path, json=content, timeout=30).json()
        return answer

    def validate(self, api: Json) -> Json:
        """What the server says of a graph; what was queued is taken off again."""
        answer = self.post("/prompt", {"prompt": api})
        requests.post(f"{self.url}/queue", json={"clear": True}, timeout=30)
        requests.post(f"{self.url}/interrupt", json={}, timeout=30)
        return answer

    def run(self, api: Json) -> Json:
        """Make a graph's images. Gives what its nodes showed."""
        prompt_id = self.post("/prompt", {"prompt": api})["prompt_id"]
        while not (entry := self.get(f"/history/{prompt_id}").json()):
            time.sleep(0.1)
        status = entry[prompt_id]["status"]
        assert status["status_str"] == "success", status["messages"][-1]
        outputs: Json = entry[prompt_id]["outputs"]
        return outputs


@pytest.fixture(scope="module")
def comfyui(start_comfyui: Callable[..., Any], new_pack_base: Callable[[], Path]) -> Comfy:
    base = new_pack_base()
    for title in NAMES:
        for node in read(WORKFLOWS / f"{title}.json")["nodes"]:
            for model in node["properties"].get("models", ()):
                path = base / "models" / model["directory"] / model["name"]
                path.parent.mkdir(exist_ok=True)
                path.touch()
    return Comfy(start_comfyui(base, "--database-url", "sqlite:///:memory:").url, base)


@pytest.fixture(scope="module")
def canvas(comfyui: Comfy, browser: Any) -> Iterator[Callable[[Json], Json]]:
    """Load a workflow in the real frontend: what it would queue, what is not whole, and what the browser complains of."""
    requests.post(f"{comfyui.url}/settings", json={"Comfy.TutorialCompleted": True}, timeout=30)
    page = browser.new_page()
    page.goto(comfyui.url, wait_until="domcontentloaded")
    page.wait_for_function("window.app?.vueAppReady && window.app.graph.nodes.length > 0", timeout=120_000)
    trouble: list[str] = []

    def listen(message: Any) -> None:
        where = message.location.get("url", "")
        if message.type == "error" and (
            "Failed to load resource" not in message.text or "promptmill" in where
        ):
            trouble.append(f"{message.text} ({where})")

    page.on("console", listen)
    page.on("pageerror", lambda error: trouble.append(str(error)))

    def load(ui: Json) -> Json:
        trouble.clear()
        shown: Json = json.loads(page.evaluate(LOAD, ui))
        return {**shown, "trouble": trouble}

    yield load
    page.close()
