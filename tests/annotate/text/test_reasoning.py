"""Reasoning is folded away behind the answer, and nothing of either is lost."""

import pytest

from annotate.text.reasoning import MARKERS, Parts, split_reasoning
from annotate.text.rendering import DISPLAY_LIMIT, render_markdown
from tests.annotate.text.html import text_of


@pytest.mark.parametrize(("opening", "closing"), MARKERS)
def test_each_marker_parts_reasoning_from_the_answer(opening: str, closing: str) -> None:
    assert split_reasoning(f"\n{opening}\nHm.{closing}\n\n42") == Parts("\nHm.", "\n\n42")
    assert split_reasoning(f"Hm.{closing}42") == Parts("Hm.", "42")  # the prompt ends with the opening marker
    assert split_reasoning(f"{opening}Hm") == Parts("Hm", "", is_whole=False)


@pytest.mark.parametrize("text", ["", "42", "Use <think> tags.", "Write <think>a</think> so."])
def test_text_without_reasoning_is_all_answer(text: str) -> None:
    assert split_reasoning(text) == Parts("", text)


def test_the_answer_comes_first_and_the_reasoning_is_folded() -> None:
    html = render_markdown("<think>" + "*Why* not. " * 100 + "</think>\n\n**42**")
    answer, _, folded = html.partition(
        '<details class="reasoning"><summary>Reasoning, 1,100 characters</summary>'
    )
    assert "<strong>42</strong>" in answer
    assert folded.count("<em>Why</em>") == 100


def test_reasoning_that_was_cut_off_is_open() -> None:
    html = render_markdown("<think>Let me see")
    assert html.startswith('<details class="reasoning" open><summary>Reasoning without an end, 10 characters')
    assert "Let me see" in html


def test_an_empty_block_of_reasoning_leaves_the_answer_alone() -> None:
    assert render_markdown("<think>\n\n</think>\n\n42") == render_markdown("\n\n42")


def test_long_reasoning_leaves_room_for_the_answer() -> None:
    shown = text_of(render_markdown("<think>" + "x" * DISPLAY_LIMIT + "</think>" + "y" * 1_000))
    assert (shown.count("x"), shown.count("y")) == (DISPLAY_LIMIT - 1_000, 1_000)
