"""Names, tooltips, texts and help pages in both languages, held to the schemas of a real server."""

from __future__ import annotations

import json
import re
import urllib.request
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parents[2]
LANGUAGES = ("en", "zh")
SOURCES = "".join(
    path.read_text(encoding="utf-8")
    for folder in ("table", "quantization", "nodes", "sampling")
    for path in (ROOT / folder).glob("*.py")
)
CODE = "".join(path.read_text(encoding="utf-8") for path in (ROOT / "web").glob("*.js"))


def words(language: str, name: str) -> Any:
    return json.loads((ROOT / "locales" / language / f"{name}.json").read_text(encoding="utf-8"))


def compiled(text: str) -> str:
    """What vue-i18n shows of a message: {'{'} is a brace. The frontend compiles names and descriptions, and no tooltips."""
    assert not re.search(r"[{}@|]", re.sub(r"\{'[{}@|]'\}", "", text)), text
    return re.sub(r"\{'([{}@|])'\}", r"\1", text)


def is_chinese(text: str) -> bool:
    return re.search(r"[\u4e00-\u9fff]", text) is not None


@pytest.fixture(scope="session")
def nodes(pack_server: Any) -> dict[str, Any]:
    with urllib.request.urlopen(pack_server.url + "/object_info", timeout=60) as answer:
        info = json.load(answer)
    return {name: node for name, node in info.items() if name.startswith("Promptmill")}


def inputs_of(node: Any) -> dict[str, Any]:
    groups = (node["input"].get(group, {}) for group in ("required", "optional"))
    return {name: spec[1] for group in groups for name, spec in group.items()}


@pytest.mark.comfyui
@pytest.mark.parametrize("language", LANGUAGES)
def test_every_node_input_and_output_has_its_words_and_there_are_no_others(
    nodes: dict[str, Any], language: str
) -> None:
    found = words(language, "nodeDefs")

    assert found.keys() == nodes.keys()
    for name, node in nodes.items():
        inputs, own = inputs_of(node), found[name]["inputs"]
        assert own.keys() == inputs.keys(), name
        assert {key for key in own if "tooltip" in own[key]} == {
            key for key in inputs if inputs[key].get("tooltip")
        }, name
        outputs = dict(enumerate(node["output_tooltips"]))
        assert {int(key) for key in found[name]["outputs"]} == outputs.keys(), name
        assert {int(key) for key, value in found[name]["outputs"].items() if "tooltip" in value} == {
            key for key, tooltip in outputs.items() if tooltip
        }, name


@pytest.mark.comfyui
def test_the_english_words_are_the_schemas(nodes: dict[str, Any]) -> None:
    for name, own in words("en", "nodeDefs").items():
        node = nodes[name]
        assert own["display_name"] == node["display_name"]
        assert compiled(own["description"]) == node["description"]
        for key, options in inputs_of(node).items():
            assert own["inputs"][key].get("tooltip", "") == (options.get("tooltip") or "")
        for place, (output, tooltip) in enumerate(
            zip(node["output_name"], node["output_tooltips"], strict=True)
        ):
            assert own["outputs"][str(place)]["name"] == output
            assert own["outputs"][str(place)].get("tooltip", "") == (tooltip or "")


def test_the_chinese_words_are_chinese_and_name_the_same_columns() -> None:
    english, chinese = (words(language, "nodeDefs") for language in LANGUAGES)
    for name, node in chinese.items():
        assert is_chinese(node["display_name"])
        for group in ("inputs", "outputs"):
            for key, own in node[group].items():
                if "tooltip" in own:
                    assert is_chinese(own["tooltip"]), (name, key)
                    places = [
                        set(re.findall(r"\{\w+\}", each[name][group][key]["tooltip"]))
                        for each in (english, chinese)
                    ]
                    assert places[0] == places[1], (name, key)


def test_the_texts_of_the_canvas_are_in_both_languages_with_the_same_places_and_all_are_used() -> None:
    english, chinese = (words(language, "main")["promptmill"] for language in LANGUAGES)
    assert english.keys() == chinese.keys()
    for key, text in english.items():
        assert set(re.findall(r"\{\w+\}", text)) == set(re.findall(r"\{\w+\}", chinese[key])), key
        assert is_chinese(chinese[key]) or key == "rate", key
    assert english.keys() >= set(re.findall(r'text\("(\w+)"', CODE))
    for key in english:
        assert f'"{key}"' in CODE or key.startswith("state_"), key


def test_commands_have_words_in_both_languages() -> None:
    ids = {id.replace(".", "_") for id in re.findall(r'id: "(Promptmill\.\w+)"', CODE)}

    assert words("en", "commands").keys() == words("zh", "commands").keys() == ids


def page(language: str, name: str) -> str:
    path = f"{name}.md" if language == "en" else f"{name}/{language}.md"
    return (ROOT / "web" / "docs" / path).read_text(encoding="utf-8")


@pytest.mark.comfyui
@pytest.mark.parametrize("language", LANGUAGES)
def test_every_node_has_a_help_page_that_names_its_inputs_and_outputs(
    nodes: dict[str, Any], language: str
) -> None:
    names = words(language, "nodeDefs")
    assert {path.stem for path in (ROOT / "web" / "docs").glob("*.md")} == nodes.keys()
    for name, node in nodes.items():
        text = page(language, name)
        assert text.startswith(f"# {names[name]['display_name']}\n")
        mentioned = set(re.findall(r"`(\w+)`", text))
        assert mentioned >= inputs_of(node).keys() | set(node["output_name"]), name


@pytest.mark.parametrize("path", sorted((ROOT / "web" / "docs").glob("*.md")), ids=lambda path: path.stem)
def test_the_help_pages_are_in_step_and_quote_real_messages(path: Path) -> None:
    english, chinese = (page(language, path.stem) for language in LANGUAGES)
    shape = [re.findall(r"^(?:#+ |\|(?= `))", text, re.M) for text in (english, chinese)]
    assert shape[0] == shape[1]
    messages = [
        re.findall(r"^\| ([a-z_][^`|]*?) \|", text.partition("| --- | --- |\n")[2], re.M)
        for text in (english, chinese)
    ]
    assert [m for m in messages[0] if m != "message"] == messages[1]
    for message in messages[1]:
        assert message in SOURCES, message
