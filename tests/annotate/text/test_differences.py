"""Two texts side by side: what differs is marked, and nothing else is changed."""

import re
import time
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from annotate.text import hidden_characters
from annotate.text.differences import FENCED, WORD_LIMIT, common, mark_differences

words = st.lists(st.sampled_from("abcd"), max_size=12)


@given(words, words)
def test_the_common_subsequence_is_common_and_longest(left: list[str], right: list[str]) -> None:
    pairs = common(left, right)
    assert all(left[i] == right[j] for i, j in pairs)
    assert all(a[0] < b[0] and a[1] < b[1] for a, b in pairwise(pairs))
    # The textbook table.
    table = [[0] * (len(right) + 1) for _ in range(len(left) + 1)]
    for i, a in enumerate(left):
        for j, b in enumerate(right):
            table[i + 1][j + 1] = table[i][j] + 1 if a == b else max(table[i][j + 1], table[i + 1][j])
    assert len(pairs) == table[-1][-1]


LINE_END = '<span class="line-end"></span>\n'


def mark(left: str, right: str) -> tuple[str, str]:
    """Return both texts with their differences marked, but without the numbers of these."""
    one, other = (re.sub(r' data-at="\d+"', "", html) for html in mark_differences(left, right).html)
    return one, other


def numbers(html: str) -> list[str]:
    return list(dict.fromkeys(re.findall(r'data-at="(\d+)"', html)))


def test_differing_words_and_spaces_are_marked() -> None:
    assert mark("the cat sat  down", "the dog sat\ndown") == (
        'the <mark>cat</mark> sat<mark class="space">  </mark>down',
        f'the <mark>dog</mark> sat<mark class="space">{LINE_END}</mark>down',
    )
    assert mark(" a", "\na")[1] == f'<mark class="space">{LINE_END}</mark>a'


GAP = '<mark class="gap"></mark>'


def test_where_one_text_holds_more_the_other_has_a_gap() -> None:
    assert mark("go home", "go straight home") == (f"go {GAP}home", "go <mark>straight</mark> home")
    assert mark("a\n", "a") == (f'a<mark class="space">{LINE_END}</mark>', f"a{GAP}")
    assert mark("", "a") == (GAP, "<mark>a</mark>")


def test_blocks_of_code_are_told_from_prose() -> None:
    assert mark("See:\n```python\nx = 1\n```\nDone.", "See:\n```python\nx = 2\n```\nDone.")[0] == (
        'See:\n<span class="code">```python\nx = <mark>1</mark>\n```</span>\nDone.'
    )
    assert mark("```\nx", "```\ny")[1] == '<span class="code">```\n<mark>y</mark></span>'


def test_a_difference_across_the_edge_of_code_is_marked() -> None:
    left, _right = mark_differences("a\n```\nb\n```", "a").html
    assert re.sub("<[^>]+>", "", left) == "a\n```\nb\n```"
    assert numbers(left) == ["0"]
    assert left.count("<mark") == 2


@pytest.mark.parametrize(
    ("left", "right", "marked"),
    [
        ("see 👨‍👩‍👧", "see 👨‍👩‍👦", "see <mark>👨‍👩‍👧</mark>"),
        ("press 2️⃣", "press 3️⃣", "press <mark>2️⃣</mark>"),
        ("क्षमा करें", "क्षमा करो", "क्षमा <mark>करें</mark>"),
        ("ภาษาไทยดี", "ภาษาไทยนี้", "ภาษาไทย<mark>ดี</mark>"),
        ("می‌خواهم", "می‌روم", "<mark>می‌خواهم</mark>"),
    ],
)
def test_no_letter_is_divided_by_a_mark(left: str, right: str, marked: str) -> None:
    assert mark(left, right)[0] == marked


def test_scripts_without_spaces_are_compared_by_character() -> None:
    assert mark("静かな映画", "静かな音楽")[0] == "静かな<mark>映画</mark>"


plain_text = st.lists(st.sampled_from(["```\n", *"ab <&é映画,.\n\t\u202e"]), max_size=60).map("".join)


@given(plain_text, plain_text)
def test_differences_keep_every_character(left: str, right: str) -> None:
    for text, html in zip((left, right), mark_differences(left, right).html, strict=True):
        expected = hidden_characters.make_visible(text)
        assert without_tags(html) == without_tags(expected)


def without_tags(html: str) -> str:
    return re.sub("<[^>]*>", "", html)


@given(plain_text, plain_text)
def test_both_texts_number_their_differences_alike(left: str, right: str) -> None:
    found = [numbers(html) for html in mark_differences(left, right).html]
    assert found[0] == found[1] == [str(number) for number in range(len(found[0]))]


@pytest.mark.parametrize("word", ["one ", "語"])
def test_words_beyond_the_limit_are_unmarked_and_counted_out(word: str) -> None:
    found = mark_differences(word * (WORD_LIMIT + 1), "other")
    assert found.stopped == (True, False)
    assert found.html[0].endswith("</mark>" + word.rstrip()) or found.html[0].endswith("</mark> " + word)
    assert mark_differences(word * WORD_LIMIT, "other").stopped == (False, False)


def test_a_difference_far_into_two_texts_is_marked() -> None:
    same = "one two " * WORD_LIMIT
    found = mark_differences(same[:40_000] + "red " + same[:8_000], same[:40_000] + "blue " + same[:8_000])
    assert [html.count("<mark") for html in found.html] == [1, 1]
    assert '<mark data-at="0">blue</mark>' in found.html[1]
    assert found.stopped == (False, False)


def test_a_tab_is_told_from_spaces() -> None:
    spaces, tab = mark("if:\n    go", "if:\n\tgo")
    assert tab == f'if:<mark class="space">{LINE_END}<span class="tab"></span>\t</mark>go'
    assert spaces == f'if:<mark class="space">{LINE_END}    </mark>go'


@pytest.mark.parametrize(
    ("text", "code"),
    [
        ("```code``` is inline\nb", []),
        ("~~~ a `b`\nc\n~~~\nd", ["~~~ a `b`\nc\n~~~"]),
        ("````\n```\na\n````\nb", ["````\n```\na\n````"]),
        ("```\na\n```b\nc", ["```\na\n```b\nc"]),
        ("```\na\n~~~\n```\nb", ["```\na\n~~~\n```"]),
    ],
)
def test_a_block_of_code_is_between_two_fences_of_a_kind(text: str, code: list[str]) -> None:
    assert re.findall(r'<span class="code">(.*?)</span>', mark(text, text)[0], re.DOTALL) == code


def test_no_line_end_is_divided_at_a_fence() -> None:
    left, right = "```\r\na\r\n```\r\nb", "```\r\na\r\n``` \r\nb"
    assert mark(left, left)[0] == '<span class="code">```\r\na\r\n```</span>\r\nb'
    ends = f'</span><mark class="space">%s\r{LINE_END}</mark>b'
    assert [
        html.endswith(ends % space) for html, space in zip(mark(left, right), ("", " "), strict=True)
    ] == [
        True,
        True,
    ]


@pytest.mark.parametrize("sign", ["~", "`", "~~~\n~", "```x\n", "```x`\n", " ", "~~~ \r\n", "``` a "])
def test_fences_of_any_length_take_linear_time(sign: str) -> None:
    def measure(size: int) -> float:
        text = "x\n" + (sign * size)[:size]
        begun = time.process_time()
        for _ in FENCED.finditer(text):
            pass
        return time.process_time() - begun

    measure(1_000)
    # It takes a hundred times as long where each place is tried.
    assert measure(50_000) < 0.02 + 30 * min(measure(5_000) for _ in range(3))
