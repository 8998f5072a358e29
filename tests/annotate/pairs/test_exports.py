"""Exports: what the annotators said, in TRL's format, with where each row came from, whole or not at all."""

import io
import json
import math
import subprocess
import sys
import tracemalloc
from datetime import timedelta
from typing import Any

import pytest
from django.conf import settings
from django.core.management import CommandError, call_command
from django.utils import timezone

from annotate.judgments import judging, revising, undoing
from annotate.models import Comparison, Judgment, Project, Prompt
from annotate.pairs import texts
from annotate.pairs.filters import Filters
from annotate.pairs.judgment_rows import JUDGMENT_COLUMNS, judgment_rows
from annotate.pairs.lines import lines
from annotate.pairs.pair_rows import PAIR_COLUMNS, pair_rows
from annotate.pairs.settings import PairSettings
from annotate.pairs.snapshots import take_snapshot
from tests.factories import compare, say


@pytest.fixture
def judged(project: Project, three: list[Any], make_comparisons: Any) -> list[Comparison]:
    """Two for one completion, one tie, one both bad, one skip; and one that is held out."""
    comparisons: list[Comparison] = make_comparisons(5, needed=2)
    for comparison, what in zip(comparisons, ("first", "tie", "both_bad", "skip", "second"), strict=True):
        say(three[0], comparison, what)
    say(three[1], comparisons[0], "first", 1, left="second")
    Prompt.objects.filter(pk=comparisons[4].prompt_id).update(held_out=True)
    return comparisons


# --- Pairs -------------------------------------------------------------------------------------------------------


def test_a_row_holds_the_pair_and_where_it_came_from(project, three, judged):
    (row,) = pair_rows(project)
    first, second = judged[0].first, judged[0].second
    judgments = list(judged[0].judgments.order_by("pk"))
    anna, bela = (f"annotator-{person.pk}" for person in three[:2])
    assert row == {
        "external_id": "",
        "metadata": "{}",
        "prompt": judged[0].prompt.content,
        "chosen": first.text,
        "rejected": second.text,
        "label": 1.0,
        "margin": 1.5,
        "weight": 1.0,
        "held_out": False,
        "comparison": judged[0].pk,
        "kind": "standard",
        "batch": "",
        "prompt_id": judged[0].prompt_id,
        "prompt_external_id": "",
        "prompt_metadata": "{}",
        "tools": None,
        "prompt_token_ids": None,
        "chosen_completion": first.pk,
        "chosen_policy": "starter",
        "chosen_token_ids": None,
        "chosen_finish_reason": "unknown",
        "chosen_seed": None,
        "chosen_logprob": None,
        "chosen_sampling": "{}",
        "rejected_completion": second.pk,
        "rejected_policy": "starter",
        "rejected_token_ids": None,
        "rejected_finish_reason": "unknown",
        "rejected_seed": None,
        "rejected_logprob": None,
        "rejected_sampling": "{}",
        "judgments": [judgment.pk for judgment in judgments],
        "annotators": [anna, bela],
        "verdicts": ["chosen", "chosen"],
        "strengths": [2, 1],
        "votes_chosen": 2,
        "votes_rejected": 0,
        "votes_tie": 0,
        "chosen_left": [True, False],
        "imported": [False, False],
        "snapshot": None,
    }


@pytest.mark.parametrize("settings", [None, PairSettings(ties="half")])
def test_ties_are_never_exported_as_chosen(project, judged, settings):
    """A peer exported ties as "B chosen"."""
    assert judged[1].pk not in {
        row["comparison"] for row in pair_rows(project, Filters(held_out="include"), settings)
    }


def test_ties_in_a_snapshot_are_not_exported_either(project, owner, judged):
    snapshot = take_snapshot(project, owner, PairSettings(ties="half"))
    assert snapshot.pairs.filter(comparison=judged[1]).exists()
    assert judged[1].pk not in {
        row["comparison"] for row in pair_rows(project, Filters(held_out="include"), None, snapshot)
    }


def test_the_export_says_what_was_said_now_not_before(project, three, judged):
    """argilla#5424: the exported status was always the same."""
    for judgment in judged[0].judgments.filter(superseded_at=None):
        revising.revise(
            project, judgment.annotator, judgment.pk, judging.Verdict("prefer", judged[0].second_id, 3)
        )
    (row,) = pair_rows(project)
    assert (row["chosen"], row["margin"]) == (judged[0].second.text, 3.0)


@pytest.mark.parametrize(("held_out", "expected"), [("leave", [0]), ("include", [0, 4]), ("only", [4])])
def test_held_out_prompts_are_left_out_unless_asked_for(project, owner, judged, held_out, expected):
    keys = [judged[number].pk for number in expected]
    for snapshot in (None, take_snapshot(project, owner)):
        assert [
            row["comparison"] for row in pair_rows(project, Filters(held_out=held_out), None, snapshot)
        ] == keys


def test_filters(project, three, judged, make_comparisons):
    (gate,) = make_comparisons(1, kind="gate", batch="round 1")
    other = project.policies.create(name="other", kind="external")
    foreign = compare(project, "Foreign", "one", "two", policies=(project.current_policy, other))
    say(three[1], gate, "first")
    say(three[1], foreign, "first")

    def found(**filters: Any) -> list[int]:
        return [row["comparison"] for row in pair_rows(project, Filters(**filters))]

    assert found() == [judged[0].pk, gate.pk, foreign.pk]
    assert found(annotators=[three[0].pk]) == [judged[0].pk]
    assert found(kind="gate") == [gate.pk]
    assert found(batch="round 1") == [gate.pk]
    assert found(policy=other.pk) == [foreign.pk]
    assert found(policy=project.current_policy.pk) == found()
    Judgment.objects.exclude(comparison=gate).update(created_at=timezone.now() - timedelta(days=2))
    assert found(since=timezone.now() - timedelta(days=1)) == [gate.pk]


def test_a_span_of_time_takes_what_was_judged_in_it(project, judged):
    now, day = timezone.now(), timedelta(days=1)
    early, _late = judged[0].judgments.order_by("pk")
    Judgment.objects.filter(pk=early.pk).update(created_at=now - 4 * day)

    def found(since: timedelta, until: timedelta) -> list[list[int]]:
        rows = pair_rows(project, Filters(since=now - since, until=now - until))
        return [row["judgments"] for row in rows]

    assert found(5 * day, day) == [[early.pk]]
    assert found(2 * day, day) == []


def test_a_tie_that_is_asked_for_needs_no_agreement(project, three, make_comparisons):
    (comparison,) = make_comparisons(1)
    say(three[0], comparison, "tie")
    for ties, labels in (("include", [0.5]), ("only", [0.5]), ("leave", [])):
        rows = pair_rows(project, Filters(ties=ties, agreement=0.9, strength=1.0))
        assert [row["label"] for row in rows] == labels


def test_what_was_taken_back_makes_no_comparison_newer(project, three, make_comparisons):
    (comparison,) = make_comparisons(1, needed=2)
    day = timedelta(days=1)
    early = say(three[0], comparison, "first")
    Judgment.objects.filter(pk=early.pk).update(created_at=timezone.now() - 4 * day)
    say(three[1], comparison, "first")
    undoing.undo(project, three[1])
    since = [list(pair_rows(project, Filters(since=timezone.now() - days * day))) for days in (5, 1)]
    assert [len(rows) for rows in since] == [1, 0]


def test_an_annotators_export_holds_their_verdicts_alone(project, three, judged):
    (row,) = pair_rows(project, Filters(annotators=[three[1].pk]))
    assert (row["annotators"], row["margin"]) == ([f"annotator-{three[1].pk}"], 1.0)


def test_a_row_tells_of_the_votes_that_made_it_alone(project, three, make_comparisons):
    (comparison,) = make_comparisons(1, needed=3)
    for person, what in zip(three, ("first", "skip", "both_bad"), strict=True):
        say(person, comparison, what)
    (row,) = pair_rows(project)
    assert (row["verdicts"], row["votes_tie"], len(row["judgments"])) == (["chosen"], 0, 1)


def test_a_snapshot_exports_what_was_frozen(project, owner, three, judged):
    snapshot = take_snapshot(project, owner)
    for judgment in judged[0].judgments.filter(superseded_at=None):
        revising.revise(
            project, judgment.annotator, judgment.pk, judging.Verdict("prefer", judged[0].second_id, 3)
        )
    (row,) = pair_rows(project, snapshot=snapshot)
    assert (row["chosen"], row["margin"], row["snapshot"]) == (judged[0].first.text, 1.5, snapshot.digest)


def test_exports_name_no_person(project, three, judged):
    text = "".join(map(json.dumps, [*pair_rows(project), *judgment_rows(project)]))
    assert not any(person.username in text for person in three)


def test_every_row_has_the_same_keys_and_types_of_values(project, three, make_comparisons):
    """So that a reader of tables (datasets, pandas) takes the file: free-form objects are JSON text."""
    comparisons = make_comparisons(2)
    for comparison, metadata in zip(comparisons, ({"n": 1}, {"n": "one", "more": [1]}), strict=True):
        Prompt.objects.filter(pk=comparison.prompt_id).update(metadata=metadata)
        say(three[0], comparison, "first")
    one, other = pair_rows(project)
    assert list(one) == list(other)
    assert [type(value) for value in one.values()] == [type(value) for value in other.values()]
    assert json.loads(other["prompt_metadata"]) == {"n": "one", "more": [1]}


def test_memory_and_queries_do_not_grow_with_the_rows(
    project, three, make_comparisons, django_assert_num_queries
):
    for comparison in make_comparisons(60):
        say(three[0], comparison, "first")
    rows = pair_rows(project)
    # Four for what tells of annotators' reliability, the judgments, and the texts of a batch.
    with django_assert_num_queries(6):
        assert sum(1 for _ in rows) == 60


def test_large_texts_are_held_a_batch_at_a_time(project, three, make_comparisons, monkeypatch):
    from annotate.models import Completion

    monkeypatch.setattr(texts, "AT_A_TIME", 5)
    size = 200_000
    for comparison in make_comparisons(40):
        first = Completion.objects.create(
            prompt=comparison.prompt, policy=project.current_policy, text="x" * size
        )
        large = Comparison.objects.create(
            project=project, prompt=comparison.prompt, first=first, second=comparison.second
        )
        say(three[0], large, "first")
    tracemalloc.start()
    assert sum(len(line) > size for line in lines(pair_rows(project))) == 40
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 20 * size  # 40 in all


# --- Judgments ---------------------------------------------------------------------------------------------------


def test_judgments_are_exported_one_a_row_with_their_history(project, three, judged):
    judgment = judged[1].judgments.get()
    revising.revise(
        project,
        three[0],
        judgment.pk,
        judging.Verdict("prefer", judged[1].first_id, 3, rationale="On reflection"),
    )
    rows = list(judgment_rows(project))
    assert len(rows) == 7
    old, new = (row for row in rows if row["comparison"] == judged[1].pk)
    assert (old["verdict"], old["current"], new["replaces"]) == ("tie", False, old["judgment"])
    assert (new["verdict"], new["preferred"], new["strength"]) == ("prefer", judged[1].first_id, 3)
    assert (new["rationale"], new["left"], new["current"]) == ("On reflection", judged[1].first_id, True)
    assert {row["verdict"] for row in rows} == {"prefer", "tie", "both_bad", "skip"}


def test_a_judgment_says_where_its_comparison_came_from(project, three, make_comparisons):
    (comparison,) = make_comparisons(
        1, external_id="c1", metadata={"lang": "de"}, batch="import 3", kind="gold"
    )
    prompt = {"external_id": "p1", "metadata": {"topic": "x"}, "held_out": True}
    Prompt.objects.filter(pk=comparison.prompt_id).update(**prompt)
    say(three[0], comparison, "first")
    repeat = Comparison.objects.create(
        project=project,
        prompt_id=comparison.prompt_id,
        first_id=comparison.first_id,
        second_id=comparison.second_id,
        kind="repeat",
        repeat_of=comparison,
        reserved_for=three[0],
        metadata=comparison.metadata,
    )
    say(three[0], repeat, "tie")
    told, again = judgment_rows(project)
    expected = {
        "comparison": comparison.pk, "external_id": "c1", "metadata": '{"lang": "de"}', "batch": "import 3",
        "gold": comparison.first_id, "held_out": True, "prompt_id": comparison.prompt_id, "prompt_external_id": "p1",
        "prompt_metadata": '{"topic": "x"}', "annotator": f"annotator-{three[0].pk}", "left_policy": "starter",
        "right_policy": "starter",
    }  # fmt: skip
    assert {name: told[name] for name in expected} == expected
    assert (again["comparison"], again["external_id"], again["metadata"]) == (
        repeat.pk,
        "c1",
        '{"lang": "de"}',
    )
    assert tuple(told) == JUDGMENT_COLUMNS


def test_page_api_and_command_give_the_same_judgments(project, judged, owner, client_for, capfdbinary):
    client = client_for(owner)
    for name in ("judgments.jsonl", "judgments.csv"):
        by_page = b"".join(client.get(f"/p/reviews/export/{name}").streaming_content)
        by_api = b"".join(client.get(f"/api/v1/projects/reviews/{name}").streaming_content)
        call_command("export", "reviews", "--output", "-", "--format", "judgments", csv=name.endswith("csv"))
        assert by_page == by_api == capfdbinary.readouterr().out
        assert by_page.count(b"\n") == 6 + name.endswith("csv")


def test_pairs_hold_the_columns_that_their_header_names(project, judged):
    assert tuple(next(pair_rows(project))) == PAIR_COLUMNS


# --- The command ---------------------------------------------------------------------------------------------------


def test_the_command_writes_a_file(project, judged, tmp_path, capsys):
    path = tmp_path / "pairs.jsonl"
    call_command("export", "reviews", "--output", str(path))
    assert [json.loads(line) for line in path.read_text().splitlines()] == list(pair_rows(project))
    assert "Pairs written to" in capsys.readouterr().err


def test_the_command_writes_to_standard_output(project, owner, judged, monkeypatch):
    snapshot = take_snapshot(project, owner)

    def export(*arguments: str) -> list[dict[str, Any]]:
        out = io.TextIOWrapper(io.BytesIO())
        monkeypatch.setattr(sys, "stdout", out)
        call_command("export", "reviews", "--output", "-", *arguments)
        return [json.loads(line) for line in out.buffer.getvalue().splitlines()]  # type: ignore[attr-defined]

    assert len(export()) == 1
    assert len(export("--held-out", "include")) == 2
    assert len(export("--format", "judgments")) == 6
    assert len(export("--format", "judgments", "--held-out", "leave")) == 5
    assert export("--snapshot", snapshot.digest[:10])[0]["snapshot"] == snapshot.digest
    assert export(
        "--annotator", "bela", "--since", "2020-01-01", "--policy", "starter", "--min-judgments", "1"
    )
    assert export("--since", "2999-01-01T10:00") == []
    assert export("--kind", "gold") == []
    assert export("--smoothing", "0.5")[0]["label"] == 0.833333333  # (2 + 0.5) / (2 + 1)
    assert export("--weights", "judgments")[0]["weight"] == 2.0
    Judgment.objects.update(too_fast=True)
    assert export("--too-fast", "leave") == []


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["nothing", "--output", "-"], "There is no project “nothing”; there is: reviews."),
        (
            ["reviews", "--output", "/no/such/folder/pairs.jsonl"],
            "cannot be written: No such file or directory",
        ),
        (["reviews", "--output", "-", "--snapshot", "abc"], "no one snapshot that begins with abc"),
        (["reviews", "--output", "-", "--annotator", "nobody"], "“nobody” is not, and was not, an annotator"),
        (["reviews", "--output", "-", "--batch", "import 9"], "--batch: “import 9” is not a batch"),
        (
            ["reviews", "--output", "-", "--min-judgments", "0"],
            "--min-judgments: Ensure this value is greater",
        ),
        (["reviews", "--output", "-", "--format", "judgments", "--min-judgments", "2"], "about pairs"),
        (["reviews", "--output", "-", "--format", "judgments", "--snapshot", "abc"], "about pairs"),
        (["reviews", "--output", "-", "--snapshot", "abc", "--kind", "gold"], "--kind does not narrow it"),
        (["reviews", "--output", "-", "--policy", "none"], "--policy: “none” is not a policy"),
        (["reviews", "--output", "-", "--smoothing", "-5"], "--smoothing: Ensure this value is greater"),
        (["reviews", "--output", "-", "--too-fast", "maybe"], "--too-fast: Select a valid choice"),
        (["reviews", "--output", "-", "--since", "yesterday"], "a date such as 2026-03-01, not “yesterday”"),
        (["reviews", "--output", "-", "--since", "2026-02-31"], "a date such as 2026-03-01"),
    ],
)
def test_the_command_says_what_is_wrong_in_a_sentence(project, arguments, says):
    with pytest.raises(CommandError, match=says):
        call_command("export", *arguments)


def test_a_chat_is_exported_in_trls_conversational_format(project, three, make_comparisons):
    chat = [{"role": "user", "content": "Hello"}]
    (comparison,) = make_comparisons(1)
    Prompt.objects.filter(pk=comparison.prompt_id).update(content=chat)
    say(three[0], comparison, "second")
    (row,) = pair_rows(project)
    assert (row["prompt"], row["chosen"]) == (
        chat,
        [{"role": "assistant", "content": comparison.second.text}],
    )


TRL = settings.BASE_DIR / ".venv-trl" / "bin" / "python"
TRL_TRAINS = """
import sys, datasets, trl
rows = datasets.load_dataset("json", data_files=sys.argv[1], split="train", cache_dir=sys.argv[3])
how = dict(max_steps=1, per_device_train_batch_size=2, use_cpu=True, bf16=False, save_strategy="no", report_to=[])
trainer = trl.DPOTrainer(
    model=sys.argv[2], args=trl.DPOConfig(output_dir=sys.argv[3], logging_steps=1, **how), train_dataset=rows
)
trainer.train()
print(len(rows), trainer.state.log_history[0]["loss"])
"""


@pytest.mark.slow
@pytest.mark.skipif(not TRL.exists(), reason="`make test-real` prepares an environment with TRL")
@pytest.mark.timeout(600)
def test_trl_trains_on_the_export(project, three, make_comparisons, tmp_path):
    for comparison in make_comparisons(4):
        say(three[0], comparison, "first")
    call_command("export", "reviews", "--output", str(tmp_path / "pairs.jsonl"), stdout=io.StringIO())
    arguments = [str(tmp_path / "pairs.jsonl"), str(settings.STARTER_MODEL), str(tmp_path / "trl")]
    done = subprocess.run(
        [str(TRL), "-W", "ignore", "-c", TRL_TRAINS, *arguments], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    rows, loss = done.stdout.split()[-2:]
    assert (int(rows), float(loss)) == (4, pytest.approx(math.log(2), abs=1e-3))
