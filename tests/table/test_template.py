"""Templates fill in names, and do nothing else."""

from __future__ import annotations

from contextlib import suppress

import hypothesis.strategies as st
import pytest
from hypothesis import given

from promptmill.errors import TemplateError
from promptmill.table import Template

COLUMNS = ("sku", "提示词", "KSampler.cfg", "Title.a b", "x[0]", "种子", "style")
KNOWN = {"sku": "sku", "prompt": "提示词", "seed": "种子"}
FIELDS = {
    "sku": "007",
    "提示词": "红花瓶",
    "KSampler.cfg": "7.5",
    "Title.a b": "t",
    "x[0]": "y",
    "种子": "",
    "style": "街拍",
}
EXTRA = {"row": 3, "variant": 2, "id": "A-1", "seed": 99}


def fill(text):
    return Template(text).compile(COLUMNS, KNOWN, EXTRA)(FIELDS, EXTRA)


@pytest.mark.parametrize(
    ("text", "filled"),
    [
        ("plain", "plain"),
        ("", ""),
        ("{style}/{sku}_v{variant}.png", "街拍/007_v2.png"),
        ("{row:05}", "00003"),
        ("{提示词}|{prompt}", "红花瓶|红花瓶"),
        ("{KSampler.cfg}", "7.5"),
        ("{Title.a b} {x[0]}", "t y"),
        ("{{{sku}}}", "{007}"),
        ("{sku:05d}", "00007"),
        ("{sku:05}", "00007"),
        ("{sku:>5}", "  007"),
        ("{KSampler.cfg:.2f}", "7.50"),
        ("{prompt:.2}", "红花"),
        ("{id}", "A-1"),
    ],
)
def test_names_and_specs(text, filled):
    assert fill(text) == filled


def test_the_value_in_effect_wins_over_a_blank_cell():
    assert fill("{seed} {种子}") == "99 99"


def test_names_in_order_and_once():
    assert Template("{b}{a}{b:>3} {{c}}").names == ("b", "a")


def test_names_are_compared_in_composed_form():
    assert Template("{cafe\u0301}").compile(["caf\u00e9"], {})({"caf\u00e9": "x"}, {}) == "x"


@pytest.mark.parametrize(
    "text",
    [
        "{",
        "}",
        "{sku",
        "{}",
        "{ }",
        "{:5}",
        "{sku!r}",
        "{sku!s:5}",
        "{row:{variant}}",
        "{row:%Y}",
        "{row:9999}",
        "{row:.9999}",
        "{row:c}",
        "{row:n}",
        "{row:.3d}",
        "{sku:,s}",
    ],
)
def test_what_is_not_allowed(text):
    with pytest.raises(TemplateError) as caught:
        Template(text)

    assert caught.value.hint


@pytest.mark.parametrize("text", ["{sku.__class__}", "{x[1]}", "{0}", "{row.real}", "{stile}"])
def test_only_whole_names_are_known(text):
    with pytest.raises(TemplateError, match="no column or value has this name") as caught:
        fill(text)

    assert "KSampler.cfg, Title.a b, id, prompt, row, seed, sku, style, variant, x[0]" in caught.value.hint


def test_did_you_mean():
    with pytest.raises(TemplateError, match=r"did you mean \{style\}\?"):
        fill("{stile}")


def test_a_column_that_is_called_like_a_value_of_promptmill():
    template = Template("{sku}_{variant}")

    with pytest.raises(TemplateError, match="both a column and one of promptmill's own"):
        template.compile(["sku", "variant"], {"sku": "sku"}, ["variant"])
    assert Template("{sku}").compile(["sku", "variant"], {}, ["variant"])({"sku": "a"}, {}) == "a"


@pytest.mark.parametrize("value", ["A7", "", "７", "1_0", "7.0", "9" * 5000])
def test_text_that_is_no_number_where_one_is_wanted(value):
    compiled = Template("{sku:05d}").compile(["sku"], {})

    with pytest.raises(TemplateError, match=r"this value does not fit \{sku:05d\}") as caught:
        compiled({"sku": value}, {})

    assert caught.value.value == value


@given(st.text("{}:!.[]0123ab<>=,_%sdf \n"))
def test_no_template_does_anything_but_fill_in_or_refuse(text):
    with suppress(TemplateError):
        Template(text).compile(["a", "b"], {}, ["ab"])({"a": "1", "b": "x"}, {"ab": 3})
