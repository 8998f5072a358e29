"""Figures of prompts, and the prompts that stand out by one of them."""

import pytest
from django.db import connection
from django.test.utils import CaptureQueriesContext

from annotate.errors import RefusalError
from annotate.judgments import drafts, judging, revising, undoing
from annotate.models import Comparison, Completion, Judgment
from annotate.queueing import queue
from annotate.reports import prompt_figures
from annotate.reports.prompt_figures import PromptFigures, add_figures, measure_prompts, rank_prompts
from tests.factories import SKIP, TIE, compare, compare_many, judge_all

BAD = {"both_bad": "both_bad", "ties": "tie", "skips": "skip"}


@pytest.fixture
def compared(project):
    """Return the comparisons of three prompts, each for three annotators."""
    project.min_seconds = 0  # a test reads nothing
    project.save()
    return [compare(project, text, "x", "y", needed=3) for text in ("Alpha", "Beta", "Gamma")]


def figures_of(comparison):
    return measure_prompts([comparison.prompt_id])[comparison.prompt_id]


def ranked(project, concern, **options):
    return rank_prompts(project.prompts.all(), project.prompts.all(), concern, **options)[0]


def test_a_prompt_without_judgments_has_figures_of_zero(compared):
    assert figures_of(compared[0]) == PromptFigures(completions=2)


def test_each_verdict_counts_for_its_prompt_alone(project, compared, three):
    alpha, beta, gamma = compared
    for person, what in zip(three, ("tie", "both_bad", "skip"), strict=True):
        judge_all(project, person, {alpha.pk: what, beta.pk: "first"}, default="second")
    assert figures_of(alpha) == PromptFigures(
        judgments=3, ties=1, both_bad=1, skips=1, met=1, disputed=1, completions=2
    )
    for agreed in (beta, gamma):
        assert figures_of(agreed) == PromptFigures(judgments=3, met=1, completions=2)


def test_a_note_explains_no_share_of_nothing(project, compared, three):
    for judged, notes in ((False, ["completions"]), (True, ["comparisons that two or more", "completions"])):
        if judged:
            for person in three[:2]:
                judge_all(project, person)
        named = prompt_figures.name_figures(figures_of(compared[0]))
        assert [note.removesuffix(" annotators judged") for _name, _share, note in named if note] == notes


def test_skips_are_counted_by_their_reason(project, compared, three):
    alpha = compared[0]
    judge_all(project, three[0], default="skip")
    judge_all(project, three[1], default="skip")
    Judgment.objects.filter(comparison=alpha, annotator=three[0]).update(skip_reason="not_mine")
    assert (figures_of(alpha).skips, figures_of(alpha).not_mine) == (2, 1)


def test_a_replaced_or_undone_judgment_does_not_count(project, compared, three):
    alpha = compared[0]
    judge_all(project, three[0])
    revising.revise(project, three[0], Judgment.objects.get(comparison=alpha).pk, SKIP)
    assert (figures_of(alpha).judgments, figures_of(alpha).ties, figures_of(alpha).skips) == (1, 0, 1)
    undoing.undo(project, three[0])
    assert figures_of(alpha).judgments == 0


def test_late_and_too_fast_judgments_are_counted(project, compared, three):
    alpha = compared[0]
    judge_all(project, three[0])
    judge_all(project, three[1])
    Judgment.objects.filter(comparison=alpha).update(late=True)
    Judgment.objects.filter(comparison=alpha, annotator=three[0]).update(too_fast=True)
    assert (figures_of(alpha).late, figures_of(alpha).too_fast) == (2, 1)


def test_imported_judgments_count_and_are_told_apart(project, compared, three):
    alpha = compared[0]
    judge_all(project, three[0])
    judge_all(project, three[1])
    Judgment.objects.filter(annotator=three[1]).update(import_batch="import 1")
    assert (figures_of(alpha).judgments, figures_of(alpha).imported) == (2, 1)


def test_a_repeat_does_not_count(project, compared, three):
    alpha = compared[0]
    judge_all(project, three[0])
    repeat = Comparison.objects.create(
        project=project, prompt=alpha.prompt, first=alpha.first, second=alpha.second, kind="repeat", repeat_of=alpha,
        reserved_for=three[0],
    )  # fmt: skip
    claim = queue.claim(project, three[0])
    assert claim.comparison_id == repeat.pk
    judging.record(project, three[0], claim.token, TIE)
    assert figures_of(alpha).judgments == 1


def test_a_resolved_flag_does_not_count(project, compared, three):
    alpha = compared[0]
    alpha.flags.create(annotator=three[0])
    assert figures_of(alpha).flags == 1
    drafts.resolve_flag(project, alpha.flags.create(annotator=three[1]).pk)
    assert figures_of(alpha).flags == 1


def test_completions_that_the_limit_cut_are_counted(project, compared):
    alpha, _beta, _gamma = compared
    Completion.objects.create(
        prompt=alpha.prompt,
        policy=project.current_policy,
        text="z",
        finish_reason=Completion.FinishReason.LENGTH,
    )
    assert (figures_of(alpha).completions, figures_of(alpha).cut) == (3, 1)
    assert ranked(project, "cut") == [alpha.prompt_id]


@pytest.mark.parametrize("concern", BAD)
def test_the_largest_share_comes_first(project, compared, three, concern):
    alpha, beta, _gamma = compared
    for person in three:
        said = {alpha.pk: BAD[concern]} | ({beta.pk: BAD[concern]} if person == three[0] else {})
        judge_all(project, person, said, default="first")
    assert ranked(project, concern) == [alpha.prompt_id, beta.prompt_id]


def test_one_skip_is_not_the_largest_share(project, compared, three):
    _alpha, beta, _gamma = compared
    lone = compare(project, "Delta", "x", "y")
    judge_all(project, three[0], {beta.pk: "skip", lone.pk: "skip"}, default="first")
    for person in three[1:]:
        judge_all(project, person, default="first")
    Judgment.objects.filter(comparison=lone).exclude(annotator=three[0]).delete()
    assert ranked(project, "skips") == [beta.prompt_id]
    assert ranked(project, "skips", least=1) == [lone.prompt_id, beta.prompt_id]


def test_disagreement_is_of_comparisons_that_two_judged(project, compared, three):
    alpha, beta, _gamma = compared
    for person, what in zip(three, ("first", "second", "first"), strict=True):
        judge_all(project, person, {alpha.pk: what, beta.pk: "first"}, default="tie")
    assert ranked(project, "disagreement") == [alpha.prompt_id]


def test_flagged_prompts_are_ranked_by_their_flags(project, compared, three):
    alpha, beta, _gamma = compared
    for person in three[:2]:
        alpha.flags.create(annotator=person)
    beta.flags.create(annotator=three[0])
    assert ranked(project, "flags") == [alpha.prompt_id, beta.prompt_id]


def test_only_the_prompts_that_are_asked_about_are_ranked(project, compared, three):
    for person in three:
        judge_all(project, person, default="tie")
    asked = project.prompts.filter(pk=compared[1].prompt_id)
    assert rank_prompts(project.prompts.all(), asked, "ties") == ([compared[1].prompt_id], None)


def test_a_ranking_whose_time_is_up_can_go_on(project, compared, three, monkeypatch):
    monkeypatch.setattr(prompt_figures, "FIRST_WINDOW", 1)
    for person in three:
        judge_all(project, person, default="tie")
    everything, seen, before = project.prompts.all(), [], None
    while True:
        keys, before = rank_prompts(everything, everything, "ties", before=before, seconds=-1)
        seen.append(keys)
        if before is None:
            break
    assert seen == [[one.prompt_id] for one in reversed(compared)]


def test_windows_make_the_ranking_of_the_whole(project, compared, three, monkeypatch):
    alpha, beta, gamma = compared
    for number, person in enumerate(three):
        said = {alpha.pk: "tie", beta.pk: "tie" if number == 0 else "first", gamma.pk: "first"}
        judge_all(project, person, said)
    whole = ranked(project, "ties")
    monkeypatch.setattr(prompt_figures, "FIRST_WINDOW", 1)
    monkeypatch.setattr(prompt_figures, "LARGEST_WINDOW", 1)
    assert ranked(project, "ties") == whole == [alpha.prompt_id, beta.prompt_id]


def test_only_the_worst_are_kept_of_all_windows(project, compared, three, monkeypatch):
    monkeypatch.setattr(prompt_figures, "MOST_RANKED", 1)
    alpha, beta, gamma = compared
    for number, person in enumerate(three):
        said = {alpha.pk: "first", beta.pk: "tie", gamma.pk: "tie" if number == 0 else "first"}
        judge_all(project, person, said)
    assert ranked(project, "ties") == [beta.prompt_id]
    monkeypatch.setattr(prompt_figures, "FIRST_WINDOW", 1)
    assert ranked(project, "ties") == [beta.prompt_id]


@pytest.mark.parametrize("first_window", [1, 1_000])
def test_equal_shares_rank_by_count_and_then_by_age(project, compared, three, monkeypatch, first_window):
    """The order is the same when only a few are kept."""
    monkeypatch.setattr(prompt_figures, "FIRST_WINDOW", first_window)
    alpha, beta, gamma = compared
    for person in three:
        judge_all(project, person)
    Judgment.objects.filter(comparison__in=(alpha, gamma), annotator=three[0]).delete()
    order = [beta.prompt_id, gamma.prompt_id, alpha.prompt_id]
    for most in (1, 2, 3):
        monkeypatch.setattr(prompt_figures, "MOST_RANKED", most)
        assert ranked(project, "ties", least=1) == order[:most]


@pytest.mark.parametrize(("largest", "windows"), [(1, 3), (1_000, 1)])
def test_a_window_grows_to_a_limit(project, compared, monkeypatch, largest, windows):
    monkeypatch.setattr(prompt_figures, "FIRST_WINDOW", largest)
    monkeypatch.setattr(prompt_figures, "LARGEST_WINDOW", largest)
    with CaptureQueriesContext(connection) as queries:
        ranked(project, "flags")
    assert sum("annotate_flag" in query["sql"] for query in queries) == windows


@pytest.mark.parametrize(
    ("window", "took", "following"),
    [(1_000, 0.1, 4_000), (64_000, 0.1, 64_000), (1_000, 0.7, 1_000), (1_000, 2.0, 250), (2, 2.0, 1)],
)
def test_a_window_after_a_slow_one_is_smaller(window, took, following):
    assert prompt_figures.size_window(window, took, seconds=4.0) == following


@pytest.mark.django_db(transaction=True)
@pytest.mark.skipif("connection.vendor != 'postgresql'", reason="SQLite has no limit of a statement")
def test_a_ranking_that_takes_too_long_is_refused(project, compared, owner, client_for, monkeypatch):
    """Another connection holds the table that it reads."""
    monkeypatch.setattr(prompt_figures, "LONGEST_STATEMENT", 0.1)
    other = connection.copy()
    try:
        other.set_autocommit(False)
        other.cursor().execute("LOCK TABLE annotate_completion IN ACCESS EXCLUSIVE MODE")
        with pytest.raises(RefusalError, match="takes too long"):
            ranked(project, "cut")
        page = client_for(owner).get("/p/reviews/prompts/?order=cut")
    finally:
        other.rollback()
        other.close()
    assert (page.status_code, "takes too long" in page.content.decode()) == (422, True)
    assert ranked(project, "cut") == []


@pytest.mark.skipif("connection.vendor != 'postgresql'", reason="SQLite has no limit of a statement")
@pytest.mark.parametrize(("limit", "other"), [("0", "8s"), ("2s", "2s"), ("2min", "8s")])
def test_a_role_with_a_stricter_limit_keeps_it(db, limit, other):
    with connection.cursor() as cursor:
        cursor.execute("SELECT set_config('statement_timeout', %s, true)", [limit])
        with prompt_figures._limit_statement():
            cursor.execute("SHOW statement_timeout")
            assert cursor.fetchone() == (other,)


def test_figures_take_few_queries_however_many_prompts(project, django_assert_num_queries):
    compare_many(project, [(f"Prompt {number}", "x", "y") for number in range(20)])
    prompts = list(project.prompts.all())
    for count in (2, 20):
        with django_assert_num_queries(4):
            add_figures(prompts[:count])


@pytest.mark.parametrize("concern", prompt_figures.CONCERNS)
def test_a_project_without_prompts_has_no_ranking(project, concern):
    assert rank_prompts(project.prompts.all(), project.prompts.all(), concern) == ([], None)
