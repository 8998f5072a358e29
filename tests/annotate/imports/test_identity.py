"""The rows that a record means: each row has its own id and metadata, and a known one is compared, not passed over."""

from typing import Any

import pytest

from annotate.imports import records, writing
from annotate.judgments import judging
from annotate.models import Comparison, Completion, Judgment, Policy, Prompt
from annotate.queueing import queue, repeats
from tests.factories import SKIP, TIE

A = {"prompt": "Q", "completion_a": "a", "completion_b": "b"}
B = {"prompt": "Q", "completion_a": "c", "completion_b": "d"}


@pytest.fixture
def bring_in(project: Any) -> Any:
    def bring_in(*rows: dict[str, Any], update: bool = False) -> writing.Outcome:
        items = [(number, records.parse(row)) for number, row in enumerate(rows, start=1)]
        promised = writing.compare(project, items)
        outcome = writing.write(project, items, update=update)
        if not update:
            assert promised == outcome
        return outcome

    return bring_in


def said(outcome: writing.Outcome) -> str:
    return " ".join(sentence for _line, sentence in outcome.remarks)


# --- Ids and metadata --------------------------------------------------------------------------------------------


def test_two_pairs_of_one_prompt_keep_both_ids_and_metadata(bring_in):
    bring_in({**A, "id": "1", "metadata": {"lang": "de"}}, {**B, "id": "2", "metadata": {"lang": "fr"}})
    stored = list(Comparison.objects.order_by("pk").values_list("external_id", "metadata"))
    assert stored == [("1", {"lang": "de"}), ("2", {"lang": "fr"})]
    prompt = Prompt.objects.get()
    assert (prompt.external_id, prompt.metadata) == ("", {})


def test_a_prompt_is_named_beside_its_pair_or_alone(bring_in):
    of_prompt = {"prompt_external_id": "p", "prompt_metadata": {"topic": "x"}}
    bring_in({**A, "id": "1", **of_prompt}, {"prompt": "R", "id": "r", "metadata": {"n": 1}})
    stored = list(Prompt.objects.order_by("pk").values_list("external_id", "metadata"))
    assert stored == [("p", {"topic": "x"}), ("r", {"n": 1})]
    assert Comparison.objects.get().external_id == "1"


def test_new_completions_of_a_known_prompt_keep_their_id(bring_in):
    bring_in({**A, "id": "1"})
    assert bring_in({**B, "id": "3"}).counts == {"pairs": 1}
    assert Comparison.objects.filter(external_id="3", first__text="c").exists()


def test_one_id_on_two_prompts_or_pairs_is_said(bring_in):
    outcome = bring_in({"prompt": "One", "id": "x"}, {"prompt": "Two", "id": "x"})
    assert outcome.counts == {"prompts": 2, "shared_ids": 1}
    assert outcome.remarks == [(2, "The id “x” names another prompt too.")]
    outcome = bring_in({**A, "id": "y"}, {**B, "id": "y"})
    assert outcome.remarks == [(2, "The id “y” names another comparison too.")]
    assert "another comparison" in said(bring_in({**A, "completion_a": "corrected", "id": "y"}))
    assert not bring_in({"prompt": "Three", "id": "z"}, {**A, "prompt": "Three", "id": "z"}).remarks


def test_an_id_tells_pairs_of_other_policies_apart(bring_in):
    yes = {"prompt": "Q", "completion_a": "yes", "completion_b": "no", "policy_a": "gpt"}
    assert (
        bring_in({**yes, "policy_b": "x", "id": "1"}, {**yes, "policy_b": "y", "id": "2"}).counts["pairs"]
        == 2
    )
    assert bring_in({**yes, "policy_b": "z"}).counts == {"pairs": 1}
    assert bring_in({**yes, "policy_b": "y"}).counts == {"duplicates": 1}


# --- A known row again -------------------------------------------------------------------------------------------

CHANGES = [
    ({**A, "gold": "b"}, {"gold": "a"}, "gold is “b” here and “a” in this row."),
    (A, {"gold": "a"}, "gold is “none” here and “a” in this row."),
    ({**A, "gold": "b"}, {"gold": "none"}, "gold is “b” here and “none” in this row."),
    ({**A, "gold": "b"}, {"gold": None}, "gold is “b” here and “none” in this row."),
    (
        {**A, "metadata": {"l": "xx"}},
        {"metadata": {"l": "de"}},
        "metadata.l is “xx” here and “de” in this row.",
    ),
    ({**A, "metadata": {"n": 1}}, {"metadata": {"n": True}}, "metadata.n is 1 here and true in this row."),
    ({**A, "metadata": {"n": 1}}, {"metadata": {}}, "metadata.n is 1 here and missing in this row."),
    (A, {"id": "7"}, "id is missing here and “7” in this row."),
    (A, {"prompt_external_id": "p"}, "prompt_external_id is missing here and “p” in this row."),
    ({**A, "withdrawn": True}, {"withdrawn": False}, "withdrawn is true here and false in this row."),
    (A, {"withdrawn": True}, "withdrawn is false here and true in this row."),
    (
        {**A, "policy_a": "gtp", "id": "1"},
        {"policy_a": "gpt"},
        "policy_a is “gtp” here and “gpt” in this row.",
    ),
    (A, {"policy_b": "human"}, "policy_b is “import” here and “human” in this row."),
]


@pytest.mark.parametrize(("first", "change", "sentence"), CHANGES)
def test_what_differs_is_said_and_changed_only_if_asked(bring_in, first, change, sentence):
    bring_in(first)
    before = list(Comparison.objects.values())
    again = {**first, **change}
    outcome = bring_in(again)
    assert outcome.counts == {"different": 1}
    assert outcome.remarks == [(1, sentence)]
    assert list(Comparison.objects.values()) == before
    outcome = bring_in(again, update=True)
    assert (outcome.counts, outcome.remarks) == ({"updated": 1}, [(1, sentence)])
    assert bring_in(again).counts == {"duplicates": 1}


def test_what_a_row_does_not_say_is_no_difference(bring_in):
    bring_in({**A, "id": "1", "metadata": {"l": "de"}, "gold": "a", "policy_a": "gpt"})
    assert bring_in(A, update=True).counts == {"duplicates": 1}
    comparison = Comparison.objects.get()
    assert (comparison.external_id, comparison.metadata, comparison.kind) == ("1", {"l": "de"}, "gold")


def test_another_id_without_policies_is_another_pair(bring_in):
    bring_in({**A, "id": "1", "policy_a": "p", "policy_b": "q"})
    assert bring_in({**A, "id": "1"}).counts == {"duplicates": 1}
    assert bring_in(A).counts == {"duplicates": 1}
    assert bring_in({**A, "id": "2"}).counts == {"pairs": 1}


def test_a_side_is_known_by_its_text(bring_in):
    bring_in({**A, "gold": "a"})
    swapped = {"prompt": "Q", "completion_a": "b", "completion_b": "a"}
    assert bring_in({**swapped, "gold": "b"}).counts == {"duplicates": 1}
    bring_in({**swapped, "gold": "a"}, update=True)
    assert Comparison.objects.get().gold_preferred.text == "b"


def test_two_rows_of_a_file_that_disagree_are_said(bring_in):
    outcome = bring_in({**A, "gold": "a"}, {**A, "gold": "b"})
    assert outcome.counts == {"prompts": 1, "gold": 1, "different": 1}
    assert outcome.remarks == [(2, "gold is “a” here and “b” in this row.")]
    assert Comparison.objects.get().gold_preferred.text == "a"


def test_a_prompt_row_updates_its_prompt(bring_in):
    bring_in(A, {"prompt": "R", "metadata": {"n": 1}})
    rows = {"prompt": "Q", "id": "q"}, {"prompt": "R", "metadata": {"n": 2}, "withdrawn": True}
    assert bring_in(*rows).counts == {"different": 2}
    assert bring_in(*rows, update=True).counts == {"updated": 2}
    q, r = Prompt.objects.order_by("pk")
    assert (q.external_id, r.metadata, r.withdrawn_at is None) == ("q", {"n": 2}, False)


def test_gold_never_changes_a_judgment(project, teammate, bring_in):
    bring_in(A)
    claim = queue.claim(project, teammate)
    judging.record(project, teammate, claim.token, TIE)
    before = list(Judgment.objects.values())
    for gold in ("a", "b", "none"):
        assert bring_in({**A, "gold": gold}, update=True).counts == {"updated": 1}
    assert list(Judgment.objects.values()) == before
    comparison = Comparison.objects.get()
    assert (comparison.kind, comparison.gold_preferred, comparison.judged) == ("standard", None, 1)


def test_a_corrected_policy_replaces_a_pair_that_none_has_seen(bring_in):
    wrong = {**A, "id": "1", "policy_a": "gtp", "metadata": {"l": "de"}, "gold": "b"}
    bring_in(wrong)
    bring_in({**A, "id": "1", "policy_a": "gpt"}, update=True)
    old, new = Comparison.objects.order_by("pk")
    assert (old.withdrawn_at is None, new.withdrawn_at) == (False, None)
    assert {new.first.policy.name, new.second.policy.name} == {"gpt", "import"}
    assert (new.external_id, new.metadata, new.gold_preferred.text) == ("1", {"l": "de"}, "b")
    assert Completion.objects.count() == 3
    bring_in(wrong, update=True)
    assert list(Comparison.objects.filter(withdrawn_at=None)) == [old]
    assert bring_in(wrong).counts == {"duplicates": 1}


@pytest.mark.parametrize("verdict", [TIE, SKIP, None], ids=["judged", "skipped", "on a screen"])
def test_a_pair_that_was_seen_keeps_its_policies(project, teammate, bring_in, verdict):
    bring_in({**A, "id": "1", "policy_a": "gtp"})
    claim = queue.claim(project, teammate)
    if verdict:
        judging.record(project, teammate, claim.token, verdict)
    outcome = bring_in({**A, "id": "1", "policy_a": "gpt"}, update=True)
    assert outcome.counts == {"different": 1}
    assert "its policies stay" in said(outcome)
    assert (Comparison.objects.count(), Policy.objects.filter(name="gpt").exists()) == (1, False)


def test_a_known_row_makes_no_policy_of_its_own(bring_in):
    bring_in({**A, "policy_a": "x", "policy_b": "y"})
    bring_in(A, update=True)
    assert set(Policy.objects.exclude(name="starter").values_list("name", flat=True)) == {"x", "y"}


def test_a_repeat_shows_the_metadata_of_what_it_repeats(project, teammate, bring_in, monkeypatch):
    monkeypatch.setattr(repeats, "APART", 0)
    bring_in({**A, "metadata": {"source": "web"}})
    claim = queue.claim(project, teammate)
    judging.record(project, teammate, claim.token, TIE)
    repeat = repeats.make_repeat(project, teammate)
    assert (repeat.metadata, repeat.external_id) == ({"source": "web"}, "")
    bring_in({**A, "id": "1", "metadata": {"source": "book"}}, update=True)
    assert {tuple(one.metadata.items()) for one in Comparison.objects.all()} == {(("source", "book"),)}
