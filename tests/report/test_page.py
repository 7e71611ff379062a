"""The contact sheet in a real browser, opened from the file system."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from promptmill.driver.report import Entry, save_thumbnail, write_contact_sheet

pytestmark = pytest.mark.chromium
MakeEntry = Callable[..., Entry]
HOSTILE = "</script><script>alert(1)</script><img src=x onerror=alert(2)> \u2028 \u202e \" ' & {{ 7 * 7 }}"


class Sheet:
    """An open page, with what a browser complains about or asks for."""

    def __init__(self, browser: Any, out: Path, **options: Any) -> None:
        self.trouble: list[str] = []
        self.requests: list[str] = []
        self.context = browser.new_context(viewport={"width": 1280, "height": 800}, **options)
        self.page = self.context.new_page()
        self.page.on("console", lambda message: self.trouble.append(message.text))
        self.page.on("pageerror", lambda error: self.trouble.append(str(error)))
        self.page.on("dialog", self.refuse)
        self.page.on("request", lambda request: self.requests.append(request.url))
        self.page.goto((out / "index.html").as_uri())

    def refuse(self, dialog: Any) -> None:
        self.trouble.append(dialog.message)
        dialog.dismiss()

    def ids(self) -> list[str]:
        """Every card's id, found by scrolling through the whole page."""
        seen: dict[int, str] = {}
        self.page.evaluate("scrollTo(0, 0)")
        while True:
            self.page.evaluate(
                "new Promise((done) => requestAnimationFrame(() => requestAnimationFrame(done)))"
            )
            seen.update(
                self.page.eval_on_selector_all(
                    ".card",
                    "cards => cards.map((c) => [+c.ariaPosInSet, c.querySelector('bdi').textContent])",
                )
            )
            if self.page.evaluate("scrollY + innerHeight >= document.documentElement.scrollHeight - 1"):
                return [seen[place] for place in sorted(seen)]
            self.page.evaluate("scrollBy(0, innerHeight)")

    def type(self, words: str) -> None:
        self.page.fill("#words", words)
        self.page.wait_for_timeout(200)


@pytest.fixture
def sheet(browser: Any, tmp_path: Path) -> Iterator[Callable[..., Sheet]]:
    opened: list[Sheet] = []

    def open_sheet(entries: Iterable[Entry], title: str = "a run", **options: Any) -> Sheet:
        write_contact_sheet(tmp_path, title, entries, {"Servers": 2})
        opened.append(Sheet(browser, tmp_path, **options))
        return opened[-1]

    yield open_sheet
    for each in opened:
        each.context.close()
        assert each.trouble == []
        assert [url for url in each.requests if not url.startswith("file:")] == []


def without_pictures(make_entry: MakeEntry, number: int, **changes: Any) -> Entry:
    return make_entry(number, **{"file": "", "status": "pending", **changes})


def test_every_row_is_reached_by_scrolling_though_few_cards_exist(
    sheet: Callable[..., Sheet], make_entry: MakeEntry
) -> None:
    shown = sheet(without_pictures(make_entry, i) for i in range(1, 1001))

    assert shown.page.locator(".card").count() < 100
    assert shown.ids() == [f"MUG-{i:03}" for i in range(1, 1001)]


def test_status_and_text_filter_the_whole_run(sheet: Callable[..., Sheet], make_entry: MakeEntry) -> None:
    shown = sheet(
        without_pictures(
            make_entry,
            i,
            status="failed" if i % 100 == 0 else "pending",
            error="out of memory" if i % 200 == 0 else "",
        )
        for i in range(1, 1001)
    )

    shown.page.click("#chips button:has-text('failed')")
    assert shown.ids() == [f"MUG-{i:03}" for i in range(100, 1001, 100)]
    assert shown.page.text_content("#count") == "10 of 1,000"

    shown.type("MEMORY  out")
    assert shown.ids() == [f"MUG-{i:03}" for i in range(200, 1001, 200)]

    shown.type("no such words")
    assert shown.ids() == []
    shown.page.click("text=Show all")
    assert len(shown.ids()) == 1000


@pytest.mark.parametrize("column", ["id", "file", "prompt", "negative", "server", "error"])
def test_text_is_looked_for_in_every_column(
    sheet: Callable[..., Sheet], make_entry: MakeEntry, tmp_path: Path, column: str
) -> None:
    Image.new("RGB", (8, 8)).save(tmp_path / "Käse 奶酪.png")
    shown = sheet(
        [without_pictures(make_entry, 1), without_pictures(make_entry, 2, **{column: "Käse 奶酪.png"})]
    )

    shown.type("käse 奶酪")

    assert shown.page.locator(".card").count() == 1


def test_rows_are_sorted_by_time(sheet: Callable[..., Sheet], make_entry: MakeEntry) -> None:
    times = (2.0, None, 9.0, 0.5)
    shown = sheet(without_pictures(make_entry, i, seconds=s) for i, s in enumerate(times, 1))

    shown.page.select_option("#order", "slowest")

    assert shown.ids() == ["MUG-003", "MUG-001", "MUG-004", "MUG-002"]


def test_a_hostile_prompt_is_shown_as_it_is_and_does_nothing(
    sheet: Callable[..., Sheet], make_entry: MakeEntry
) -> None:
    texts = dict.fromkeys(("id", "prompt", "negative", "server", "error"), HOSTILE)
    shown = sheet([without_pictures(make_entry, 1, **texts)], title=HOSTILE)

    assert shown.page.text_content(".card .prompt") == HOSTILE
    assert shown.page.text_content(".card bdi") == HOSTILE
    assert shown.page.text_content("h1") == HOSTILE
    shown.page.click(".shot")
    assert HOSTILE in shown.page.locator("#viewer pre").all_text_contents()
    assert shown.page.locator("img").count() == 0


@pytest.mark.parametrize(
    "name",
    [
        "lifestyle/杯子 #1 100%.png",
        'it\'s (a) "mug" & more?.png' if os.name == "posix" else "it's (a) mug & more.png",
        "a+b;c=d,e@f.png",
    ],
)
def test_an_image_under_any_name_is_shown_and_opens(
    sheet: Callable[..., Sheet], make_entry: MakeEntry, tmp_path: Path, name: str
) -> None:
    image = Image.new("RGB", (640, 480), "teal")
    (tmp_path / name).parent.mkdir(exist_ok=True)
    image.save(tmp_path / name)
    shown = sheet([make_entry(file=name, thumbnail=save_thumbnail(image, tmp_path, "cd" * 32))])
    width = "image => image.decode().then(() => image.naturalWidth)"

    assert shown.page.locator(".card img").evaluate(width) == 256
    shown.page.click(".card .shot")
    assert shown.page.locator("#viewer img").evaluate(width) == 640
    with shown.context.expect_page() as opened:
        shown.page.click("#viewer dd a")
    opened.value.wait_for_load_state()
    assert opened.value.locator("img").evaluate(width) == 640


def test_a_failed_row_shows_its_error_and_a_lost_file_says_so(
    sheet: Callable[..., Sheet], make_entry: MakeEntry
) -> None:
    shown = sheet(
        [without_pictures(make_entry, 1, status="failed", error="CUDA error"), make_entry(2, file="lost.png")]
    )

    assert shown.page.text_content(".card:nth-child(1) .error") == "CUDA error"
    shown.page.wait_for_selector(".card:nth-child(2) >> text=The image file is missing.")
    shown.trouble.remove("Failed to load resource: net::ERR_FILE_NOT_FOUND")


def test_the_keyboard_opens_walks_and_closes_the_viewer(
    sheet: Callable[..., Sheet], make_entry: MakeEntry
) -> None:
    shown = sheet(without_pictures(make_entry, i) for i in range(1, 201))
    keyboard = shown.page.keyboard

    shown.page.focus(".shot")
    keyboard.press("Enter")
    for _ in range(150):
        keyboard.press("ArrowRight")
    keyboard.press("ArrowLeft")
    assert shown.page.text_content("#viewer h2 bdi") == "MUG-150"

    keyboard.press("Escape")
    shown.page.wait_for_function("document.activeElement.closest('.card')?.textContent.includes('MUG-150')")


@pytest.mark.parametrize("clipboard", [True, False])
def test_a_long_seed_and_the_prompt_are_copied_exactly(
    sheet: Callable[..., Sheet], make_entry: MakeEntry, clipboard: bool
) -> None:
    shown = sheet(
        [without_pictures(make_entry, 1, seed=2**64 - 1, prompt="一只\n猫")],
        permissions=["clipboard-read", "clipboard-write"],
    )
    if not clipboard:
        shown.page.evaluate(
            "Object.defineProperty(navigator, 'clipboard', {value: undefined, configurable: true})"
        )
    copied = []

    for button in ("Copy seed", "Copy prompt"):
        shown.page.click(f".card [title='{button}']")
        shown.page.wait_for_selector("text=Copied")
        shown.page.evaluate("delete navigator.clipboard")
        copied.append(shown.page.evaluate("navigator.clipboard.readText()"))

    assert copied == [str(2**64 - 1), "一只\n猫"]


def test_the_page_speaks_the_readers_language(sheet: Callable[..., Sheet], make_entry: MakeEntry) -> None:
    shown = sheet([without_pictures(make_entry, 1)], locale="zh-CN")

    assert shown.page.get_attribute("html", "lang") == "zh"
    assert "等待中" in shown.page.inner_text("#chips")
    assert "服务器" in shown.page.inner_text("#summary")


@pytest.mark.parametrize("width", [360, 1280, 2560])
def test_the_page_never_scrolls_sideways(
    sheet: Callable[..., Sheet], make_entry: MakeEntry, width: int
) -> None:
    long = "x" * 300
    shown = sheet(
        [without_pictures(make_entry, 1, id=long, prompt=long, server=long, error=long)], title=long
    )

    shown.page.set_viewport_size({"width": width, "height": 800})

    assert shown.page.evaluate("document.documentElement.scrollWidth") <= width
    shown.page.click(".shot")
    assert shown.page.evaluate("document.getElementById('viewer').scrollWidth") <= width
