"""The real frontend of a real ComfyUI, in a real browser."""

from __future__ import annotations

import json
import re
import time
import urllib.request
import uuid
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from playwright.sync_api import TimeoutError

SETTINGS = {
    "Comfy.TutorialCompleted": True,
    "Comfy.Locale": "en",
    "Comfy.VueNodes.Enabled": False,
}
BUILD = """
([nodes, links]) => {
  const made = {};
  for (const [name, [type, pos, values]] of Object.entries(nodes)) {
    const node = LiteGraph.createNode(type);
    node.pos = pos;
    app.graph.add(node);
    for (const [key, value] of Object.entries(values)) {
      const widget = node.widgets.find((w) => w.name === key);
      widget.value = value;
      widget.callback?.(value);
    }
    made[name] = node;
  }
  for (const [from, output, to, input] of links)
    made[from].connect(made[from].findOutputSlot(output), made[to], made[to].findInputSlot(input));
}
"""
DROP = """
([name, bytes, x, y]) => {
  const dataTransfer = new DataTransfer();
  dataTransfer.items.add(new File([new Uint8Array(bytes)], name));
  const how = { bubbles: true, cancelable: true, composed: true, clientX: x, clientY: y, dataTransfer };
  for (const type of ["dragenter", "dragover", "drop"])
    document.elementFromPoint(x, y).dispatchEvent(new DragEvent(type, how));
}
"""
FEWER_FRAMES = """
requestAnimationFrame = (draw) => setTimeout(() => draw(performance.now()), 50);
cancelAnimationFrame = clearTimeout;
"""
"""An idle page of 60 frames a second takes a tenth of a core, and pages stay open."""
PANEL = ".pm-panel"


class Canvas:
    """An open page, with what the browser complains about."""

    def __init__(self, context: Any, server: Any) -> None:
        self.url = server.url
        self.base = server.base
        self.folder = ""
        """The output folder of this test's tables."""
        self.trouble: list[str] = []
        self.refusals: set[int] = set()
        """HTTP statuses that the test provokes; the browser tells of each."""
        context.add_init_script(FEWER_FRAMES)
        self.page = context.new_page()
        self.page.set_default_timeout(120_000)
        self.page.on("console", self._hear)
        self.page.on("pageerror", lambda error: self.trouble.append(error.stack or str(error)))
        self.page.goto(self.url)
        self.wait_until_ready()

    def begin(self) -> None:
        """An empty canvas for a test."""
        self.folder = f"run-{uuid.uuid4().hex[:8]}"
        self.refusals = set()
        self.trouble = []
        self.execute("Comfy.NewBlankWorkflow")
        self.page.evaluate("app.extensionManager.toast.removeAll()")
        if self.page.locator(PANEL).count():
            self.close_panel()

    def _hear(self, message: Any) -> None:
        if message.type in ("warning", "error"):
            where = message.location.get("url", "")
            provoked = any(
                f"the server responded with a status of {status} " in message.text for status in self.refusals
            )
            if not provoked and ("promptmill" in where or "promptmill" in message.text.lower()):
                self.trouble.append(f"{message.type}: {message.text} ({where})")

    def wait_until_ready(self) -> None:
        self.page.wait_for_function("window.app?.vueAppReady && window.app.graph.nodes.length > 0")

    def build(self, nodes: dict[str, Any], links: list[Any]) -> None:
        self.page.evaluate(BUILD, [nodes, links])

    def build_rows(self, text: str, save: dict[str, Any] | None = None, **table: Any) -> None:
        """Prompt Table, Table Row, an image of one colour, Save Rows."""
        self.build(
            {
                "table": ["PromptmillPromptTable", [40, 60], self.pasted(text, **table)],
                "row": ["PromptmillTableRow", [480, 60], {"width": 64, "height": 64}],
                "image": ["EmptyImage", [860, 60], {}],
                "save": ["PromptmillSaveRows", [1160, 60], save or {}],
            },
            [
                ["table", "table", "row", "table"],
                ["row", "width", "image", "width"],
                ["row", "height", "image", "height"],
                ["image", "IMAGE", "save", "images"],
                ["row", "row", "save", "rows"],
            ],
        )

    def build_demo(self, steps: int = 8, **table: Any) -> None:
        """Prompt Table, Table Row, the stock graph with the demo checkpoint, Save Rows."""
        self.build(
            {
                "table": ["PromptmillPromptTable", [40, 60], {"folder": self.folder, **table}],
                "row": ["PromptmillTableRow", [480, 60], {}],
                "loader": [
                    "CheckpointLoaderSimple",
                    [480, 620],
                    {"ckpt_name": "promptmill-demo.safetensors"},
                ],
                "positive": ["CLIPTextEncode", [840, 60], {}],
                "negative": ["CLIPTextEncode", [840, 320], {}],
                "latent": ["EmptySD3LatentImage", [840, 580], {"width": 128, "height": 128}],
                "sampler": ["KSampler", [1280, 60], {"steps": steps, "cfg": 4.0}],
                "decoder": ["VAEDecode", [1280, 420], {}],
                "save": ["PromptmillSaveRows", [1640, 60], {}],
            },
            [
                ["table", "table", "row", "table"],
                ["row", "prompt", "positive", "text"],
                ["row", "negative", "negative", "text"],
                ["row", "seed", "sampler", "seed"],
                ["loader", "CLIP", "positive", "clip"],
                ["loader", "CLIP", "negative", "clip"],
                ["loader", "MODEL", "sampler", "model"],
                ["loader", "VAE", "decoder", "vae"],
                ["positive", "CONDITIONING", "sampler", "positive"],
                ["negative", "CONDITIONING", "sampler", "negative"],
                ["latent", "LATENT", "sampler", "latent_image"],
                ["sampler", "LATENT", "decoder", "samples"],
                ["decoder", "IMAGE", "save", "images"],
                ["row", "row", "save", "rows"],
            ],
        )

    def pasted(self, text: str, **table: Any) -> dict[str, Any]:
        return {"file": "(pasted text)", "text": text, "folder": self.folder, **table}

    def drop(self, name: str, content: bytes, x: int, y: int) -> None:
        self.page.evaluate(DROP, [name, list(content), x, y])

    def values(self, type: str) -> Any:
        """The values of the only node of a type."""
        return self.page.evaluate(
            """(type) => {
              const [node, ...more] = app.graph.nodes.filter((each) => each.type === type);
              if (!node || more.length) throw new Error(`not one ${type}`);
              return Object.fromEntries(node.widgets.map((widget) => [widget.name, widget.value]));
            }""",
            type,
        )

    def change(self, type: str, name: str, value: Any) -> None:
        """Change a value of the only node of a type, as a user does."""
        self.page.evaluate(
            """([type, name, value]) => {
              const widget = app.graph.nodes.find((n) => n.type === type).widgets.find((w) => w.name === name);
              widget.value = value;
              widget.callback(value);
            }""",
            [type, name, value],
        )

    def save_draft(self) -> None:
        """Let the frontend keep the graph for the next page."""
        self.page.evaluate("app.extensionManager.workflow.activeWorkflow.changeTracker.captureCanvasState()")
        self.page.wait_for_function(
            "folder => Object.values(localStorage).some((draft) => draft.includes(folder))", arg=self.folder
        )

    def execute(self, command: str) -> None:
        self.page.evaluate("(id) => app.extensionManager.command.execute(id)", command)

    def open_panel(self) -> None:
        self.execute("Workspace.ToggleSidebarTab.promptmill")
        self.page.wait_for_selector(f"{PANEL} .pm-line")

    def close_panel(self) -> None:
        self.execute("Workspace.ToggleSidebarTab.promptmill")
        self.page.wait_for_selector(PANEL, state="detached")

    def queue_all(self) -> None:
        self.page.click(f"{PANEL} .pm-primary")

    def refresh(self) -> None:
        self.page.click(f"{PANEL} >> text=Refresh")

    def wait_for_words(self, words: str | re.Pattern[str]) -> None:
        """Wait until the panel says so."""
        try:
            self.page.locator(f"{PANEL} .pm-progress .pm-words", has_text=words).wait_for()
        except TimeoutError as error:
            shown = self.page.locator(f"{PANEL}, .p-toast").all_inner_texts()
            raise AssertionError(f"{words} is not in {shown}; {self.get('/queue')}") from error

    def wait_until_idle(self) -> None:
        self.page.wait_for_selector(f"{PANEL} .pm-buttons button:nth-child(2):disabled")

    def files(self) -> list[str]:
        return sorted(path.name for path in (self.base / "output" / self.folder).rglob("*.png"))

    def manifest(self) -> list[Any]:
        text = (self.base / "output" / self.folder / "manifest.jsonl").read_text(encoding="utf-8")
        return [json.loads(line) for line in text.splitlines()]

    def get(self, route: str) -> Any:
        with urllib.request.urlopen(self.url + route, timeout=60) as answer:
            return json.load(answer)

    def post(self, route: str, body: Any) -> None:
        post(self.url + route, body)

    def hold(self) -> Callable[[], None]:
        """Let a long prompt of somebody else run next, and wait until it does. Gives what ends it."""
        loader, size = ["1", 0], {"width": 128, "height": 128, "batch_size": 1}
        sampling = {"seed": time.time_ns(), "steps": 10_000, "cfg": 1.0, "denoise": 1.0}
        names = {"sampler_name": "euler", "scheduler": "simple"}
        links = {"model": loader, "positive": ["2", 0], "negative": ["2", 0], "latent_image": ["3", 0]}
        graph = {
            "1": ("CheckpointLoaderSimple", {"ckpt_name": "promptmill-demo.safetensors"}),
            "2": ("CLIPTextEncode", {"text": "a red mug", "clip": ["1", 1]}),
            "3": ("EmptySD3LatentImage", size),
            "4": ("KSampler", {**links, **sampling, **names}),
            "5": ("VAEDecode", {"samples": ["4", 0], "vae": ["1", 2]}),
            "6": ("PreviewImage", {"images": ["5", 0]}),
        }
        prompt = {id: {"class_type": type, "inputs": inputs} for id, (type, inputs) in graph.items()}
        prompt_id = str(uuid.uuid4())
        self.post("/prompt", {"prompt": prompt, "prompt_id": prompt_id, "front": True})
        self.wait_for(lambda: prompt_id in str(self.get("/queue")["queue_running"]))
        return lambda: self.post("/interrupt", {"prompt_id": prompt_id})

    def delay(
        self, ask: Callable[[], object], address: re.Pattern[str], times: int = 1
    ) -> Callable[[], None]:
        """Let something ask the server there, and keep back so many answers; gives what delivers them."""
        kept: list[Any] = []

        def keep(route: Any) -> None:
            kept.append((route, route.fetch()))

        def deliver() -> None:
            for route, response in kept:
                route.fulfill(response=response)
            self.page.unroute(address, keep)
            self.page.wait_for_timeout(500)

        self.page.route(address, keep, times=times)
        ask()
        self.wait_for(lambda: kept)
        return deliver

    def wait_for(self, condition: Callable[[], Any]) -> None:
        """Wait for something outside of the page."""
        deadline = time.monotonic() + 240
        while not condition():
            assert time.monotonic() < deadline
            self.page.wait_for_timeout(100)


@pytest.fixture(scope="session")
def pages(pack_server: Any, browser: Any) -> Iterator[dict[str, Canvas]]:
    """A page for each choice of settings: opening one takes seconds."""
    opened: dict[str, Canvas] = {}
    yield opened
    for canvas in opened.values():
        canvas.page.context.close()


@pytest.fixture
def open_canvas(
    pack_server: Any, browser: Any, pages: dict[str, Canvas], request: pytest.FixtureRequest
) -> Iterator[Callable[..., Canvas]]:
    """The canvas, ``open_canvas(**{"Comfy.Locale": "zh"})``; nothing of ours may complain until the end."""
    used: list[Canvas] = []
    failed = request.session.testsfailed

    def start(**settings: Any) -> Canvas:
        post(pack_server.url + "/settings", {**SETTINGS, **settings})
        if str(settings) not in pages:
            context = browser.new_context(viewport={"width": 1600, "height": 900})
            pages[str(settings)] = Canvas(context, pack_server)
        used.append(pages[str(settings)])
        used[-1].begin()
        return used[-1]

    yield start
    post(pack_server.url + "/queue", {"clear": True})
    post(pack_server.url + "/interrupt", {})
    if request.session.testsfailed > failed:
        while pages:  # what the test was about to mend is not the next one's trouble
            pages.popitem()[1].page.context.close()
    for canvas in used:
        assert canvas.trouble == []


@pytest.fixture(params=[False, True], ids=["classic", "nodes-2.0"])
def canvas(open_canvas: Callable[..., Canvas], request: Any) -> Canvas:
    """The canvas in each of the frontend's two ways to draw nodes."""
    return open_canvas(**{"Comfy.VueNodes.Enabled": request.param})


@pytest.fixture
def classic(open_canvas: Callable[..., Canvas]) -> Canvas:
    """The canvas, where the way to draw makes no difference."""
    return open_canvas()


def post(url: str, body: Any) -> None:
    headers = {"Content-Type": "application/json"}
    urllib.request.urlopen(
        urllib.request.Request(url, json.dumps(body).encode(), headers), timeout=60
    ).close()
