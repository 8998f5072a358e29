"""The choice among a round's samples: from files to rows, the same on each attempt, and unseen by annotators."""

from collections import Counter
from typing import Any

import pytest
from django.test import Client
from django.urls import reverse

from annotate.models import ApiToken, Comparison, Completion, Policy, Project, Prompt, TrailEntry
from tests import factories
from tests.annotate.api.caller import Caller
from training.engine.rundir import RunDirectory, read_jsonl, write_jsonl
from training.models import Round
from training.rounds import results, state_machine
from training.rounds.choosing.choice import choose, read_shown
from training.rounds.choosing.settings import Choosing, ChoosingError
from training.rounds.choosing.terms import AT_RANDOM, Terms, decide_terms, read_terms
from training.rounds.choosing.votes import project_votes
from training.rounds.plan import Plan, find_bad_default
from training.rounds.starts import RoundError

pytestmark = pytest.mark.django_db
TERMS = Terms(by_probe=True, candidates=4, control=0.25)


@pytest.fixture
def sampled(make_round: Any, ready_project: Project) -> tuple[Round, RunDirectory]:
    """Return a round with four candidates for each of twelve prompts, written and rated: the higher the better."""
    round_ = make_round("sampling")
    for number in range(12):
        prompt = Prompt(project=ready_project)
        prompt.set_content(f"Opening {number}")
        prompt.save()
    prompts = list(
        ready_project.prompts.filter(held_out=False).order_by("-pk").values_list("pk", flat=True)[:12]
    )
    files = RunDirectory(round_.run_dir)
    files.root.mkdir(parents=True, exist_ok=True)
    ids = [(f"fresh/{round_.number}/{pk}", index) for pk in prompts for index in range(4)]
    samples = [
        {"id": entry, "index": index, "completion": f" Take {index} of {entry}.", "token_ids": [1, index],
         "logprob": -1.0, "finish_reason": "stop", "seed": index, "temperature": 1.0}
        for entry, index in ids
    ]  # fmt: skip
    write_jsonl(files.samples, samples)
    write_jsonl(
        files.ratings,
        [{"id": entry, "index": index, "score": float(index), "sd": 0.1} for entry, index in ids],
    )
    return round_, files


def store(round_: Round, files: RunDirectory) -> list[Comparison]:
    """Let the round's fresh comparisons be those that were chosen."""
    new = Policy.objects.create(
        project=round_.project, name="new", kind="adapter", base_model="starter", adapter="runs/x/adapter"
    )
    samples = [row for _line, row in read_jsonl(files.samples)]
    results.make_comparisons(round_, new, samples, [], read_shown(files)).save(round_)
    return list(round_.fresh.order_by("pk"))


def test_comparisons_keep_their_arm_and_propensity(sampled: Any) -> None:
    round_, files = sampled
    summary = choose(files, files.ratings, TERMS, 8, "reviews-1")
    assert (summary["groups"], summary["chosen"], summary["control"]) == (12, 6, 2)
    before = Completion.objects.count()
    fresh = store(round_, files)
    assert Counter(one.arm for one in fresh) == {"probe": 6, "control": 2}
    # Of 48 candidates, those that no annotator sees stay in the files.
    assert Completion.objects.count() == before + 16
    for one in fresh:
        shown = {one.first.seed, one.second.seed}
        assert one.propensity is not None
        if one.arm == "probe":
            assert shown == {0, 3}
            assert one.propensity > 0.5
        elif shown != {0, 3}:
            assert one.propensity < 0.2


def test_a_choice_of_an_unstorable_completion_is_left_out(sampled: Any) -> None:
    round_, files = sampled
    choose(files, files.ratings, TERMS, 8, "reviews-1")
    shown = read_shown(files)
    assert shown is not None
    bad = shown[0].keys[1]
    rows = [row for _line, row in read_jsonl(files.samples)]
    # As an earlier version had it, which chose such completions too.
    for row in rows:
        if (row["id"], row["index"]) == bad:
            row["completion"] += "\0"
    write_jsonl(files.samples, rows)
    made = results.make_comparisons(round_, round_.start_policy, rows, [], shown)
    assert dict(made.counts) == {"unstorable": 1}
    made.save(round_)
    assert round_.fresh.count() == 7


def test_another_attempt_chooses_the_same(sampled: Any) -> None:
    _round, files = sampled
    choose(files, files.ratings, TERMS, 8, "reviews-1")
    first = (files.root / "choices.jsonl").read_bytes()
    choose(files, files.ratings, TERMS, 8, "reviews-1")
    assert (files.root / "choices.jsonl").read_bytes() == first
    lines = [row for _line, row in read_jsonl(files.root / "choices.jsonl")]
    assert sum(row["chance"] for row in lines) == pytest.approx(8)


def test_annotators_are_not_told_what_was_chosen(
    sampled: Any, teammate: Any, owner: Any, client: Client
) -> None:
    round_, files = sampled
    choose(files, files.ratings, TERMS, 8, "reviews-1")
    store(round_, files)
    project = round_.project
    client.force_login(teammate)
    script, admin = (Caller(ApiToken.issue(user, "a test")[1]) for user in (teammate, owner))
    for _ in range(8):
        page = client.get(reverse("judge", args=[project.slug])).content.decode()
        claimed = script.post(f"{project.slug}/next/").content.decode()
        for word in ("propensity", "probe", "as control", '"arm"'):
            assert word not in page
            assert word not in claimed
        factories.judge(project, teammate, "first")
    client.force_login(owner)
    chosen = round_.fresh.filter(arm="probe").earliest("pk")
    assert (
        "Chosen by the probe"
        in client.get(reverse("comparison", args=[project.slug, chosen.pk])).content.decode()
    )
    assert admin.get(f"{project.slug}/comparisons/{chosen.pk}/").json()["arm"] == "probe"


# --- Terms -------------------------------------------------------------------------------------------------------


def test_terms_are_decided_once(sampled: Any) -> None:
    round_, files = sampled
    choosing, skill = Choosing(candidates=6), {"has_skill": True}
    assert decide_terms(round_, choosing, 10, files, skill) == Terms(
        by_probe=True, candidates=6, control=0.25
    )
    assert decide_terms(round_, Choosing(by="random"), 10, files, None) == read_terms(files)


@pytest.mark.parametrize(
    ("choosing", "skill", "why"),
    [
        (Choosing(by="random"), {"has_skill": True}, ""),
        (Choosing(), None, "There are too few judgments to fit a probe to."),
        (Choosing(), {"has_skill": False}, "The probe does not predict held-out judgments yet."),
    ],
)
def test_without_a_probe_of_skill_it_is_at_random(
    sampled: Any, choosing: Choosing, skill: Any, why: str
) -> None:
    round_, files = sampled
    found = decide_terms(round_, choosing, 10, files, skill)
    assert found == Terms(why=why)
    entries = results.fresh_entries(round_, 10, found)
    assert [one["n"] for one in entries] == [2] * 10
    assert entries == results.fresh_entries(round_, 10, AT_RANDOM)


def test_more_prompts_are_written_for_than_are_asked_about(sampled: Any) -> None:
    round_, _files = sampled
    assert [one["n"] for one in results.fresh_entries(round_, 8, TERMS)] == [4] * 12
    # No prompts are left over.
    assert sum(one["n"] for one in results.fresh_entries(round_, 60, TERMS)) == 240


def test_no_probe_chooses_on_held_out_prompts(sampled: Any) -> None:
    round_, _files = sampled
    round_.trains = False
    held_out = set(round_.project.prompts.filter(held_out=True).values_list("pk", flat=True))
    entries = results.fresh_entries(round_, round_.project.prompts.count(), TERMS)
    plain = {int(one["id"].split("/")[2]): one["n"] for one in entries if one["id"].startswith("plain/")}
    assert plain == dict.fromkeys(held_out, 2)
    assert all(one["n"] == 4 for one in entries if one["id"].startswith("fresh/"))


def test_settings_of_choosing_are_checked() -> None:
    assert Choosing.from_settings({"candidates": 4}, {"control": 1}) == Choosing(candidates=4, control=1)
    for bad, field in (({"by": "taste"}, "by"), ({"candidates": 1}, "candidates"), ({"control": 0.05}, "control"),
                       ({"seed": 1}, "seed"), ([], ""), ({"by": ["probe"]}, "by"), ({"by": {}}, "by")):  # fmt: skip
        with pytest.raises(ChoosingError) as caught:
            Choosing.from_settings(bad)
        assert caught.value.field == field


def test_a_round_from_before_draws_at_random(make_round: Any) -> None:
    settings = make_round("queued").settings
    assert Plan.from_dict(settings).choosing == Choosing()
    del settings["choosing"]
    assert Plan.from_dict(settings).choosing.by == "random"


def test_an_admin_goes_on_choosing_regardless(
    ready_project: Project, owner: Any, researcher: Any, client_for: Any
) -> None:
    address = reverse("choose-regardless", args=[ready_project.slug])
    assert client_for(researcher).post(address, {"by": "always"}).status_code == 403
    client_for(owner).post(address, {"by": "taste"})
    ready_project.refresh_from_db()
    assert ready_project.sampling_settings == {}
    client_for(owner).post(address, {"by": "always"})
    ready_project.refresh_from_db()
    assert ready_project.sampling_settings == {"choosing": {"by": "always"}}
    policy = ready_project.current_policy
    assert policy is not None
    assert Plan.for_project(ready_project, policy, {}).choosing == Choosing(by="always")
    assert TrailEntry.objects.filter(project=ready_project, verb="settings").count() == 1
    page = client_for(owner).get(reverse("rounds", args=[ready_project.slug])).content.decode()
    assert "Choose only while it saves judgments" in page


def test_a_bad_choice_is_refused_at_its_field(ready_project: Project, owner: Any, client_for: Any) -> None:
    assert find_bad_default({}, {"choosing": {"candidates": 1}}) == (
        "sampling_settings",
        "choosing.candidates must be from 2 to 64, not 1.",
    )
    answer = client_for(owner).post(
        reverse("rounds", args=[ready_project.slug]),
        {"action": "write", "count": 2, "choosing.control": "0.01"},
    )
    assert answer.status_code == 422
    assert "Ensure this value is greater than or equal to 0.1" in answer.content.decode()
    with pytest.raises(RoundError) as caught:
        state_machine.write(ready_project, owner, 2, choosing={"by": "taste"})
    assert caught.value.field == "choosing.by"


# --- Votes -------------------------------------------------------------------------------------------------------


def test_votes_leave_out_what_cannot_be_trained_on(ready_project: Project, owner: Any) -> None:
    several = [{"role": "assistant", "content": "one"}, {"role": "assistant", "content": "more"}]
    prompt = factories.compare(ready_project, [{"role": "user", "content": "Hello"}], "a", "b").prompt
    chat = Completion.objects.create(
        prompt=prompt, policy=ready_project.current_policy, text="", messages=several
    )
    other = prompt.completions.exclude(pk=chat.pk).first()
    comparison = Comparison.objects.create(project=ready_project, prompt=prompt, first=chat, second=other)
    factories.say(owner, comparison, "first")
    assert len(list(project_votes(ready_project, "starter"))) == 12


def test_votes_name_sides_and_leave_held_out_prompts_out(ready_project: Project, teammate: Any) -> None:
    rows = list(project_votes(ready_project, "starter"))
    assert len(rows) == 12
    assert [row["id"] for row in rows] == sorted((row["id"] for row in rows), key=int)
    for row in rows:
        ((vote),) = row["votes"]
        assert vote["annotator"] == f"annotator-{teammate.pk}"
        assert ("splendidly" in row[vote["prefers"]]) is True
