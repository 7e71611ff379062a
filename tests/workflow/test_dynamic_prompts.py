"""Against comfy-cli's port of the frontend's code, told to take first alternatives."""

from __future__ import annotations

from unittest.mock import patch

from comfy_cli.workflow_to_api import process_dynamic_prompt
from hypothesis import given
from hypothesis import strategies as st

from promptmill.driver.workflow.dynamic import draw, escape

SYNTAX = st.text(alphabet="{}|\\/*ab \n", max_size=14)


@given(SYNTAX)
def test_draws_what_the_reference_draws(text: str) -> None:
    with patch("random.choice", lambda options: options[0]):
        assert draw(text) == process_dynamic_prompt(text)


@given(st.text(alphabet="{}|ab \n一"))
def test_an_escaped_text_draws_back_to_itself(text: str) -> None:
    assert draw(escape(text)) == text
