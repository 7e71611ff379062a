"""Given the documentation, expect it to say what the code does."""

from __future__ import annotations

import re
import shlex
import shutil
from collections.abc import Iterator
from dataclasses import fields
from pathlib import Path
from typing import Any

import pytest
import typer.main

from promptmill import driver
from promptmill.driver.cli import app
from promptmill.driver.recipe import Recipe
from promptmill.driver.testing import FakeComfy, object_info
from promptmill.errors import PromptmillError

ROOT = Path(__file__).resolve().parents[1]
DOCS = ROOT / "docs"
READMES = (ROOT / "README.md", ROOT / "README.zh-CN.md")
PAGES = [*ROOT.glob("*.md"), *DOCS.rglob("*.md")]
COMMANDS: dict[str, Any] = typer.main.get_command(app).commands  # type: ignore[attr-defined]
FENCE = re.compile(r"^```(\w*)\n(.*?)^```$", re.M | re.S)
DEFAULT_SERVER = "http://127.0.0.1:8188"


def read(path: Path) -> str:
    return path.read_text(encoding="utf-8")


def prose(path: Path) -> str:
    return FENCE.sub("", read(path))


def blocks(path: Path, language: str) -> list[str]:
    return [body for kind, body in FENCE.findall(read(path)) if kind == language]


def sections(path: Path) -> dict[str, str]:
    """Heading of the second level to what stands under it."""
    parts = re.split(r"^## (.+)$", prose(path), flags=re.M)[1:]
    return dict(zip(parts[::2], parts[1::2], strict=True))


def first_cells(text: str) -> Iterator[str]:
    for line in text.splitlines():
        if line.startswith("|"):
            yield line.split("|")[1]


def name(path: Path) -> str:
    return path.relative_to(ROOT).as_posix()


# Commands


def test_every_command_is_documented_and_no_other() -> None:
    assert set(sections(DOCS / "commands.md")) - {"Exit codes", "JSON lines"} == set(COMMANDS)


@pytest.mark.parametrize("command", COMMANDS)
def test_every_option_is_documented_and_no_other(command: str) -> None:
    section = sections(DOCS / "commands.md")[command]
    documented = {
        option for cell in first_cells(section) for option in re.findall(r"`(--?[a-z][a-z-]*)", cell)
    }
    exist = {
        option
        for parameter in COMMANDS[command].params
        if parameter.param_type_name == "option"
        for option in (*parameter.opts, *parameter.secondary_opts)
    }

    assert documented == exist - {"--help"}
    assert f"`promptmill {command} " in section


def test_every_error_code_is_documented_and_no_other() -> None:
    def codes(kind: type[PromptmillError]) -> Iterator[str]:
        yield kind.code
        for narrower in kind.__subclasses__():
            if narrower.__module__.startswith("promptmill."):
                yield from codes(narrower)

    assert driver.run  # which imports them all
    told = sections(DOCS / "commands.md")["JSON lines"].partition("| `error` |")[2]
    documented = {code for cell in first_cells(told) for code in re.findall(r"`(\w+)`", cell)}

    assert documented == set(codes(PromptmillError)) - {"problems"}


def command_lines() -> Iterator[Any]:
    for page in PAGES:
        for block in (*blocks(page, "console"), *blocks(page, "")):
            for line in block.splitlines():
                if line.startswith("promptmill "):
                    yield pytest.param(shlex.split(line), id=f"{name(page)}: {line[:40]}")


@pytest.mark.parametrize("words", list(command_lines()))
def test_command_lines_can_be_typed(words: list[str]) -> None:
    COMMANDS[words[1]].make_context(words[1], words[2:])


# The two READMEs


@pytest.mark.parametrize(
    ("english", "chinese"),
    [READMES, *((DOCS / f"{page}.md", DOCS / f"{page}.zh.md") for page in ("canvas", "quantization"))],
)
def test_both_languages_have_the_same_headings_and_code_blocks(english: Path, chinese: Path) -> None:
    def levels(page: Path) -> list[str]:
        return re.findall(r"^(#+) ", prose(page), re.M)

    assert levels(english) == levels(chinese)
    assert FENCE.findall(read(english)) == FENCE.findall(read(chinese))


def test_the_readmes_link_the_same_pages() -> None:
    """Or the Chinese page of the same name, where there is one."""
    english, chinese = (
        [link for link in re.findall(r"\]\(([^)]+)\)", read(page)) if "README" not in link]
        for page in READMES
    )

    assert english == [link.replace("_zh.png", "_en.png").replace(".zh.md", ".md") for link in chinese]


# Links


def anchors(page: Path) -> set[str]:
    headings = re.findall(r"^#+ (.+)$", prose(page), re.M)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


@pytest.mark.parametrize("page", PAGES, ids=name)
def test_links_and_images_exist(page: Path) -> None:
    for link in re.findall(r"\]\(([^)\s]+)\)", prose(page)):
        if re.match(r"[a-z]+:", link):
            continue
        path, _, anchor = link.partition("#")
        target = (page.parent / path).resolve() if path else page
        assert target.exists(), f"{name(page)} links {link}"
        assert not anchor or anchor in anchors(target), f"{name(page)} links {link}"


def test_the_places_that_the_architecture_names_exist() -> None:
    for place in re.findall(r"`((?:driver|table|tests)/[\w/.]*|\w+\.py)`", read(DOCS / "architecture.md")):
        assert (ROOT / place).exists(), place


# Samples


@pytest.fixture
def shop(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[FakeComfy]:
    """A folder with what the pages speak of, and a server that has the shipped workflow's model."""
    shutil.copy(ROOT / "samples" / "products.csv", tmp_path)
    shutil.copytree(ROOT / "workflows", tmp_path / "workflows")
    shutil.copy(ROOT / "workflows" / "text_to_image.json", tmp_path / "workflow.json")
    monkeypatch.chdir(tmp_path)
    with FakeComfy(object_info=object_info(models=["sd3.5_large_fp8_scaled.safetensors"])) as fake:
        yield fake


def test_python_samples_run(shop: FakeComfy) -> None:
    page = DOCS / "python-api.md"
    code = "\n".join(blocks(page, "python")).replace(DEFAULT_SERVER, shop.url)

    exec(compile(code, str(page), "exec"), {"__name__": "sample"})  # noqa: S102

    assert len(list(Path("output/products").glob("*/*_v[12].png"))) == len(shop.posts) == 6


@pytest.mark.parametrize("recipe", blocks(DOCS / "recipes.md", "toml"))
def test_recipes_can_be_used(shop: FakeComfy, recipe: str) -> None:
    path = Path("shop.toml")
    path.write_text(recipe, encoding="utf-8")

    prepared = driver.prepare(driver.Request(Path("products.csv"), path, (shop.url,)))

    assert prepared.jobs == 48


def test_every_key_of_a_recipe_is_documented_and_no_other() -> None:
    intro = read(DOCS / "recipes.md").partition("## Bindings")[0]
    documented = [key for cell in first_cells(intro) for key in re.findall(r"`(\w+)`", cell)]

    assert documented == [field.name for field in fields(Recipe)]


@pytest.mark.parametrize("part", driver.__all__)
def test_the_public_names_and_their_fields_are_documented(part: str) -> None:
    page = prose(DOCS / "python-api.md")
    found = getattr(driver, part)
    names = [field.name for field in fields(found)] if hasattr(found, "__dataclass_fields__") else []

    for word in (part, *names):
        assert re.search(rf"`{word}\b", page), word


def test_the_readmes_quick_start_does_what_it_says(shop: FakeComfy) -> None:
    commands = "".join(blocks(READMES[0], "console")).splitlines()
    line = next(line for line in commands if line.startswith("promptmill"))
    words = [shop.url if word == DEFAULT_SERVER else word for word in shlex.split(line)[1:]]

    with pytest.raises(SystemExit) as ended:
        app(words)

    assert ended.value.code == 0
    for told in re.findall(r"`([\w/.-]+\.\w+)`", sections(READMES[0])["What you get"]):
        assert Path("output/products", told).is_file(), told
    assert len(shop.posts) == 48


def test_the_screenshot_is_small() -> None:
    assert (DOCS / "images" / "contact-sheet.png").stat().st_size <= 300_000
