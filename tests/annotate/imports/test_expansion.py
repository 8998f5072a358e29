"""Candidates become prompts, comparisons, judged pairs or gold, and what it says beyond that."""

import io
from datetime import UTC, datetime, timedelta

import pytest
from django.utils import timezone

from annotate.imports.expansion import Choices, expand
from annotate.imports.files.spool import Spool
from annotate.imports.ratings import pair_ratings
from annotate.imports.reader import RowError
from annotate.imports.records import Item, PairOpinion
from annotate.sources.candidates import Answer, Candidate, Opinion
from annotate.sources.formats.trainers import trl

TWO = (Answer("a", "red"), Answer("b", "blue"))
THREE = (*TWO, Answer("c"))
CALL = {"role": "assistant", "content": None, "tool_calls": [{"function": {"name": "look_up"}}]}
NOW = timezone.now()


def candidate(answers=TWO, *opinions, **more):
    return Candidate("Once", answers, opinions, **more)


def judged(*opinions, answers=TWO, pairs="all", **more):
    return expand(candidate(answers, *opinions, **more), Choices("judged", pairs))


def pairs_of(items):
    return ["".join(item.completions) for item in items]


def said(item):
    return [(one.annotator, one.verdict, one.preferred, one.strength) for one in item.opinions]


def test_a_prompt_says_what_of_its_record_is_left_out():
    (item,) = expand(candidate(TWO, Opinion((1, 0)), external_id="7", metadata={"a": 1}), Choices("prompts"))
    assert (item.kind, item.prompt_external_id, item.prompt_metadata) == ("prompts", "7", {"a": 1})
    assert item.left_out == {"completions": 2, "opinions": 1}


def test_comparisons_are_all_pairs_or_the_best_against_the_rest():
    ranked = candidate(THREE, Opinion((1, 3, 2)), Opinion((1, 3, None)), external_id="7")
    every = expand(ranked, Choices("comparisons"))
    assert pairs_of(every) == ["ab", "ac", "bc"]
    assert [item.external_id for item in every] == ["7/1-2", "7/1-3", "7/2-3"]
    assert every[0].policies == ("red", "blue")
    assert every[2].policies == ("blue", "import")
    assert pairs_of(expand(ranked, Choices("comparisons", "best"))) == ["ab", "bc"]
    assert every[0].left_out == {"opinions": 2}


def test_each_annotator_judges_each_pair_that_they_scored():
    items = judged(
        Opinion((5, 1, 5), annotator="maria", strength=3),
        Opinion((1, 2, None), annotator="jan", rationale=" Because ", seconds=4.5, at=NOW),
        Opinion(verdict="both_bad", annotator="eve"),
        answers=THREE,
    )
    assert said(items[0]) == [
        ("maria", "prefer", 0, 3),
        ("eve", "both_bad", None, None),
        ("jan", "prefer", 1, None),
    ]
    assert said(items[1]) == [("maria", "tie", None, None), ("eve", "both_bad", None, None)]
    assert items[0].opinions[2] == PairOpinion("jan", "prefer", 1, None, "Because", 4.5, NOW)


def test_a_pair_without_an_opinion_is_left_out_and_counted():
    items = judged(Opinion((1, 2, None)), answers=THREE)
    assert pairs_of(items) == ["ab"]
    assert items[0].left_out == {"unjudged": 2}


def test_who_names_the_best_says_nothing_of_two_others():
    items = judged(Opinion((0, 1, 0), annotator="maria", names_best=True), answers=THREE)
    assert pairs_of(items) == ["ab", "bc"]
    assert [said(item) for item in items] == [[("maria", "prefer", 1, None)], [("maria", "prefer", 0, None)]]
    assert items[0].left_out == {"unjudged": 1}


def test_the_latest_opinion_of_an_annotator_counts():
    old = Opinion((1, 0), annotator="maria", at=datetime(2024, 1, 1, tzinfo=UTC))
    new = Opinion((0, 1), annotator="maria", at=datetime(2024, 1, 2, tzinfo=UTC))
    (item,) = judged(new, old)
    assert said(item) == [("maria", "prefer", 1, None)]
    assert item.left_out == {"opinions": 1}


def test_annotators_without_a_name_are_different_people():
    (item,) = judged(Opinion((1, 0)), Opinion((0, 1)))
    assert said(item) == [("", "prefer", 0, None), ("2", "prefer", 1, None)]


def test_gold_is_what_all_opinions_agree_on():
    (item,) = expand(candidate(TWO, Opinion((0, 1)), Opinion((2, 3))), Choices("gold"))
    assert (item.kind, item.gold) == ("gold", "b")
    (item,) = expand(candidate(TWO, Opinion((0, 1)), Opinion((), "skip")), Choices("gold"))
    assert item.gold == "b"  # who skips says nothing against it
    ranked = candidate(THREE, Opinion((3, 2, 1)), Opinion((3, 1, 2)))
    items = expand(ranked, Choices("gold"))
    assert (pairs_of(items), [item.gold for item in items]) == (["ab", "ac"], ["a", "a"])
    assert items[0].left_out == {"disagreed": 1}


def test_messages_stay_whole_and_make_the_prompt_a_chat():
    answers = (
        Answer([CALL, {"role": "tool", "content": "3"}]),
        Answer([{"role": "assistant", "content": "b"}]),
    )
    (item,) = expand(candidate(answers, tools=({"name": "look_up"},)), Choices("comparisons"))
    assert item.prompt == [{"role": "user", "content": "Once"}]
    assert item.completions == ([CALL, {"role": "tool", "content": "3"}], "b")
    assert item.tools == ({"name": "look_up"},)


def test_identical_completions_are_counted():
    items = expand(candidate((*TWO, Answer("a"))), Choices("comparisons"))
    assert (pairs_of(items), items[0].left_out) == (["ab", "ba"], {"identical": 1})


def test_a_spool_returns_what_it_was_given():
    chat = [
        {
            "role": "assistant",
            "content": None,
            "tool_calls": [{"function": {"name": "é\n", "arguments": "{}"}}],
        }
    ]
    tools = ({"type": "function", "function": {"name": "f"}},)
    at = datetime(2024, 2, 3, 4, 5, 6, 700, tzinfo=UTC)
    said = PairOpinion("Ada", "prefer", 1, 3, "why", 1.5, at, 1)
    items = [
        Item(
            "One",
            external_id="1",
            metadata={"a": [1.0, None]},
            gold="a",
            completions=("x", chat),
            opinions=(said,),
        ),
        Item(chat, tools, "p", {}, completions=("", "y"), policies=("m", "n"), withdrawn=True),
        Item("Alone", prompt_metadata={"k": True}),
    ]
    spool = Spool(io.BytesIO())
    spool.write(list(enumerate(items[:2])))
    spool.write([])
    spool.write([(7, items[2])])
    found = [placed for block in spool.blocks() for placed in block]
    assert found == [(0, items[0]), (1, items[1]), (7, items[2])]
    assert [item.digest for _line, item in found] == [item.digest for item in items]


def test_a_refusal_names_the_key_of_the_completion():
    (found,) = trl.PREFERENCES.rows({"prompt": "Name one.", "chosen": "Blue.", "rejected": ""})
    with pytest.raises(RowError, match="rejected is empty"):
        expand(found, Choices("judged"))


def test_an_empty_completion_is_taken_only_when_asked():
    empty = candidate((Answer("a"), Answer("")))
    with pytest.raises(RowError, match="completion 2 is empty"):
        expand(empty, Choices("comparisons"))
    assert expand(empty, Choices("comparisons", empty_completions=True))[0].completions == ("a", "")


def test_what_cannot_be_taken_is_lost_only_when_asked():
    lossy = candidate(losses=("images referred to by URL",))
    with pytest.raises(RowError, match="images referred to by URL"):
        expand(lossy, Choices("comparisons"))
    assert expand(lossy, Choices("comparisons", without_losses=True))


def test_metadata_of_answers_is_kept_beside_the_pair():
    answers = Answer("a", metadata={"length": 1}), Answer("b")
    (item,) = expand(candidate(answers, metadata={"lang": "de"}), Choices("comparisons"))
    assert item.metadata == {"lang": "de", "completions": [{"length": 1}, {}]}


def test_too_large_metadata_is_left_out_only_if_agreed():
    candidate = Candidate(
        "Sky?",
        (Answer("Blue.", "", {"raw": "y" * 40_000}), Answer("Green.")),
        metadata={"log": "x" * 70_000, "n": 1},
    )
    for becomes in ("comparisons", "prompts"):
        with pytest.raises(RowError, match="at most 65,536 are taken"):
            expand(candidate, Choices(becomes))
    [pair] = expand(candidate, Choices("comparisons", without_losses=True))
    assert (pair.metadata, pair.left_out) == (
        {"n": 1, "completions": [{"raw": "y" * 40_000}, {}]},
        {"metadata": 1},
    )
    [prompt] = expand(candidate, Choices("prompts", without_losses=True))
    assert (prompt.prompt_metadata, prompt.left_out) == ({"n": 1}, {"completions": 2, "metadata": 1})


def test_a_message_without_content_is_an_empty_completion():
    candidate = Candidate("Sky?", (Answer([{"role": "assistant"}]), Answer("Blue.")))
    with pytest.raises(RowError, match="completion 1 is empty"):
        expand(candidate, Choices("comparisons"))


def test_ratings_in_a_pair_keep_what_each_says_by_itself():
    good, bad = (
        Candidate("Sky?", (Answer(text),), (Opinion((score,)),), metadata={"set": "x", "tone": tone})
        for text, score, tone in (("Blue.", 1.0, 4), ("Green.", 0.0, 2))
    )
    [(_line, found)] = pair_ratings(enumerate([good, bad]))
    assert found.metadata == {"set": "x"}
    assert [answer.metadata for answer in found.answers] == [{"tone": 4}, {"tone": 2}]


def test_ratings_that_follow_each_other_become_pairs():
    thumbs = [
        Candidate(prompt, (Answer(text),), (Opinion((score,)),), external_id=text)
        for prompt, text, score in [("P", "g", 1), ("P", "b", 0), ("P", "h", 1), ("Q", "x", 1), ("P", "c", 0)]
    ]
    found = list(pair_ratings(enumerate(thumbs)))
    assert [(line, one.external_id) for line, one in found] == [(1, "g/b"), (2, "b/h"), (3, "x"), (4, "c")]
    (item,) = expand(found[1][1], Choices("judged"))
    assert said(item) == [("", "prefer", 1, None)]
    with pytest.raises(RowError, match="rates one completion alone"):
        expand(found[2][1], Choices("judged"))


@pytest.mark.parametrize(
    ("answers", "opinions", "says"),
    [
        ((), (), "no completions"),
        (TWO[:1], (), "one completion, and two make"),
        ((Answer("a"), Answer("a")), (), "are the same"),
        (TWO, (), "does not say which"),
        (TWO, (Opinion((1, None)),), "does not say which"),
        (TWO, (Opinion((1,)),), "a score for each"),
        (TWO, (Opinion((1, float("nan"))),), "not a number"),
        (TWO, (Opinion((1, 0), strength=4),), "1, 2 or 3"),
        (TWO, (Opinion(verdict="worse"),), "“worse” is not a verdict"),
        (TWO, (Opinion((1, 0), seconds=-1),), "seconds"),
        (TWO, (Opinion((1, 0), at=NOW + timedelta(days=9)),), "not possible"),
        (TWO, (Opinion((1, 0), annotator="x" * 201),), "annotator must be text of at most 200"),
        (TWO, (Opinion((1, 0), rationale="a\x00"),), "not text"),
        (TWO, (Opinion((1, 0)),) * 1_001, "1001 opinions"),
        (
            (Answer([{"role": "user", "content": "x", "name": "n"}]), TWO[1]),
            (),
            "begin with a message of the",
        ),
        (tuple(Answer(str(n)) for n in range(65)), (), "65 completions; at most 64"),
    ],
)
def test_a_candidate_that_makes_no_judged_pair_is_refused(answers, opinions, says):
    with pytest.raises(RowError) as refused:
        judged(*opinions, answers=answers)
    assert says in str(refused.value)
