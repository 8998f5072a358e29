"""Agreement, against numbers worked out by hand."""

import random
from collections import Counter
from typing import Any

import pytest
from django.utils import timezone

from annotate.imports.records import Item, PairOpinion
from annotate.imports.writing import write
from annotate.judgments import judging, revising, undoing
from annotate.models import Comparison, Judgment, Moment, Project
from annotate.queueing import qualification
from annotate.reports import agreement
from annotate.reports.agreement import Meeting
from annotate.reports.alpha import measure_alpha
from primitives.reliability import PRIOR_ACCURACY
from primitives.statistics import NORMAL_95, Share
from tests.factories import say


@pytest.fixture
def table(project: Project, three: list[Any], make_comparisons: Any) -> list[Comparison]:
    """Six comparisons. anna: 1 1 1 2 2 t; bela: 1 1 2 2 t t; cleo, on the first three: 1 2 1."""
    comparisons: list[Comparison] = make_comparisons(6, needed=3)
    names = {"1": "first", "2": "second", "t": "tie"}
    for person, line in zip(three, ("11122t", "1122tt", "121"), strict=True):
        for comparison, what in zip(comparisons, line, strict=False):
            say(person, comparison, names[what])
    return comparisons


def test_pairwise_agreement(project, table):
    # anna and bela agree on 4 of 6, anna and cleo on 2 of 3, bela and cleo on 1 of 3.
    assert agreement.pairwise_agreement(project).everyone == Share(7, 12)


def test_the_unit_of_agreement_is_the_comparison(project, three, table):
    # (pairs that agree, pairs) of each comparison: (3, 3), (1, 3), (1, 3), (1, 1), (0, 1), (1, 1).
    share = 7 / 12
    spread = (3 - 3 * share) ** 2 + 2 * (1 - 3 * share) ** 2 + 2 * (1 - share) ** 2 + share**2
    found = agreement.pairwise_agreement(project)
    student = 2.571  # Student's quantile for five degrees of freedom
    expected = share * (1 - share) * 12**2 / (spread * 6 / 5) * (NORMAL_95 / student) ** 2
    assert found.everyone.worth == pytest.approx(expected, rel=0.03)
    assert found.with_external == Share(0, 0)
    cleo = agreement.agreement_with_others(agreement.meetings(project))[three[2].pk]
    assert (cleo.total, cleo.worth) == (6, 3)


def test_people_meet_the_annotators_of_files(project, three, table):
    type(three[0]).objects.filter(pk=three[2].pk).update(
        imported_into=project, is_active=False, email="", password="!"
    )
    found = agreement.pairwise_agreement(project)
    # cleo meets anna and bela on three comparisons: (2, 2), (0, 2), (1, 2).
    assert (found.everyone, found.with_external) == (Share(7, 12), Share(3, 6))
    assert found.with_external.worth == 3


def test_agreement_with_others(project, three, table):
    anna, bela, cleo = (person.pk for person in three)
    found = agreement.agreement_with_others(agreement.meetings(project))
    assert found == {anna: Share(6, 9), bela: Share(5, 9), cleo: Share(3, 6)}


def test_cohen_kappa(project, three, table):
    # anna: 3 first, 2 second, 1 tie; bela: 2, 2, 2. By chance 3/6 2/6 + 2/6 2/6 + 1/6 2/6 = 1/3; (4/6 - 1/3) / (2/3).
    met = agreement.meetings(project)
    anna, bela, _cleo = (person.pk for person in three)
    assert agreement.cohen_kappa(met, anna, bela) == pytest.approx(0.5)
    assert agreement.cohen_kappa(met, bela, anna) == pytest.approx(0.5)
    assert agreement.cohen_kappa(met, anna, -1) is None


def test_krippendorff_alpha(project, table):
    # Coincidences: 11 5, 12 and 21 2 each, 22 2, 2t and t2 1 each, tt 2; marginals 7, 5, 3 of 15.
    # Observed disagreement 6, expected (225 - 49 - 25 - 9) / 14 = 142 / 14.
    found = measure_alpha(project)
    assert found.value == pytest.approx(1 - 14 * 6 / 142)
    assert found.low < found.value < found.high


def test_coefficients_need_something_to_compare(project, three, make_comparisons):
    assert measure_alpha(project) is None
    (comparison,) = make_comparisons(1, needed=2)
    for person in three[:2]:
        say(person, comparison, "first")
    met = agreement.meetings(project)
    assert measure_alpha(project) is None  # everybody always says the same one thing
    assert agreement.cohen_kappa(met, three[0].pk, three[1].pk) is None
    assert agreement.pairwise_agreement(project).everyone == Share(1, 1)


def test_agreement_reads_completions_not_sides(project, three, make_comparisons):
    (comparison,) = make_comparisons(1, needed=2)
    say(three[0], comparison, "first", left="first")
    say(three[1], comparison, "first", left="second")
    assert agreement.pairwise_agreement(project).everyone == Share(1, 1)


def test_what_was_superseded_or_skipped_is_no_opinion(project, three, make_comparisons):
    (comparison,) = make_comparisons(1, needed=3)
    say(three[0], comparison, "first")
    say(three[1], comparison, "second")
    say(three[2], comparison, "skip")
    assert agreement.pairwise_agreement(project).everyone == Share(0, 1)
    undoing.undo(project, three[1])
    assert agreement.meetings(project) == []


@pytest.mark.parametrize(
    ("count", "total", "low", "high"),
    [(8, 10, 0.4902, 0.9433), (0, 10, 0.0, 0.2775), (10, 10, 0.7225, 1.0), (0, 0, 0.0, 1.0)],
)
def test_wilson_interval(count, total, low, high):
    assert Share(count, total).interval == pytest.approx((low, high), abs=5e-5)


def test_gold_accuracy_counts_ties_as_wrong_and_skips_not_at_all(project, three, make_comparisons):
    golds = make_comparisons(4, kind="gold")
    for comparison, what in zip(golds, ("first", "second", "tie", "skip"), strict=True):
        say(three[0], comparison, what)
    assert agreement.gold_accuracy(project) == {three[0].pk: Share(1, 3)}
    assert agreement.gold_accuracy(project, at=Moment(golds[0].created_at)) == {}  # nothing was judged then


@pytest.mark.parametrize("feedback", ["silent", "shown"])
@pytest.mark.parametrize("again", ["edit", "undo"])
def test_gold_counts_as_it_was_first_judged(project, three, make_comparisons, feedback, again):
    """Otherwise one could give a verdict, look at one's figure, and change it."""
    project.gold_feedback, project.qualification_size = feedback, 1
    project.save()
    (gold,) = make_comparisons(1, kind="gold")
    anna, right = three[0], judging.Verdict("prefer", gold.gold_preferred_id, 1)
    wrong = say(anna, gold, "second")
    if again == "edit":
        revising.revise(project, anna, wrong.pk, right)
    else:
        judging.record(project, anna, undoing.undo(project, anna).token, right)
    assert agreement.gold_accuracy(project) == {anna.pk: Share(0, 1)}
    assert qualification.find_standing(project, anna).failed


def test_a_verdict_after_a_skip_is_the_first_one(project, three, make_comparisons):
    (gold,) = make_comparisons(1, kind="gold")
    skipped = say(three[0], gold, "skip")
    revising.revise(project, three[0], skipped.pk, judging.Verdict("prefer", gold.gold_preferred_id, 1))
    assert agreement.gold_accuracy(project) == {three[0].pk: Share(1, 1)}


def test_left_bias_is_the_share_of_preferences_for_the_left_side(project, three, make_comparisons):
    for comparison, (what, left) in zip(
        make_comparisons(5),
        [("first", "first"), ("second", "second"), ("first", "second"), ("tie", "first"), ("skip", "first")],
        strict=True,
    ):
        say(three[0], comparison, what, left=left)
    (anna,) = agreement.annotators(project)
    assert anna.left == Share(2, 3)
    assert anna.verdicts == {"prefer": 3, "tie": 1, "skip": 1}


def test_self_consistency_is_the_same_verdict_on_a_repeat(project, three, make_comparisons):
    anna = three[0]
    said = [("first", "first", "first"), ("first", "second", "first"), ("second", "second", "tie")]
    for comparison, (before, side, again) in zip(make_comparisons(3), said, strict=True):
        say(anna, comparison, before)
        repeat = Comparison.objects.create(
            project=project,
            prompt=comparison.prompt,
            first=comparison.first,
            second=comparison.second,
            kind="repeat",
            repeat_of=comparison,
            reserved_for=anna,
        )
        say(anna, repeat, again, left=side)
    assert agreement.self_consistency(project) == {anna.pk: Share(2, 3)}
    assert agreement.meetings(project) == []


def test_pace_leaves_out_who_was_away(project, three, make_comparisons):
    from datetime import timedelta

    from django.utils import timezone

    for comparison, seconds in zip(make_comparisons(3), (4, 8, 3000), strict=True):
        say(three[0], comparison, "tie", seconds=seconds, now=timezone.now() + timedelta(hours=1))
    (anna,) = agreement.annotators(project)
    assert (anna.mean_seconds, anna.median_seconds) == (pytest.approx(6), 6)
    assert anna.late == 3


def test_a_half_read_page_does_not_move_the_median(project, three, make_comparisons):
    for comparison, seconds in zip(make_comparisons(3), (4.04, 5.02, 500), strict=True):
        say(three[0], comparison, "tie")
        Judgment.objects.filter(comparison=comparison).update(seconds=seconds)
    (anna,) = agreement.annotators(project)
    assert anna.median_seconds == 5.0
    assert anna.mean_seconds == pytest.approx(509.06 / 3)


# --- Reliability -------------------------------------------------------------------------------------------------


def test_without_evidence_reliability_is_the_prior():
    assert agreement.estimate_reliability([], {1: Share()}) == {1: PRIOR_ACCURACY}


def test_gold_moves_reliability_from_the_prior_by_its_weight():
    # c = (8 * 0.5 + right - wrong) / (8 + total); r = (1 + c) / 2.
    found = agreement.estimate_reliability([], {1: Share(12, 12), 2: Share(6, 12), 3: Share(0, 12)})
    assert found == pytest.approx({1: 0.9, 2: 0.6, 3: 0.5})


def test_reliability_is_found_from_agreement_alone():
    """Five annotators of known accuracy on 4,000 comparisons, each judged by all."""
    rng = random.Random(5)
    accuracy = {1: 0.95, 2: 0.9, 3: 0.8, 4: 0.7, 5: 0.6}
    counts: Counter[tuple[int, int, str, str]] = Counter()
    for _ in range(4_000):
        said = {one: "first" if rng.random() < right else "second" for one, right in accuracy.items()}
        counts.update(
            (one, other, said[one], said[other]) for one in accuracy for other in accuracy if one < other
        )
    met = [Meeting(*key, judged=5, count=count) for key, count in counts.items()]
    assert agreement.estimate_reliability(met, {}) == pytest.approx(accuracy, abs=0.03)


def test_ties_say_nothing_of_reliability():
    met = [Meeting(1, 2, "tie", "first", 2, 50), Meeting(1, 2, "both_bad", "both_bad", 2, 50)]
    assert agreement.estimate_reliability(met, {}) == {}


def test_figures_take_few_queries_however_many_annotators(
    project, make_member, make_comparisons, django_assert_max_num_queries
):
    comparisons = make_comparisons(2, needed=8)
    for number in range(8):
        person = make_member(f"annotator{number}", "annotator")
        for comparison in comparisons:
            say(person, comparison, "first" if number % 2 else "second")
    with django_assert_max_num_queries(5):
        assert len(agreement.annotators(project)) == 8


def test_agreement_counts_no_comparison_that_a_probe_chose(
    project: Project, three: list[Any], make_comparisons: Any
) -> None:
    chosen, control, plain = make_comparisons(3, needed=2)
    Comparison.objects.filter(pk=chosen.pk).update(arm="probe", propensity=0.8)
    Comparison.objects.filter(pk=control.pk).update(arm="control", propensity=0.2)
    for comparison, other in ((chosen, "first"), (control, "second"), (plain, "first")):
        say(three[0], comparison, "first")
        say(three[1], comparison, other)
    met = agreement.meetings(project)
    assert sum(one.count for one in met) == 3
    assert sum(one.count for one in agreement.on_random_pairs(met)) == 2
    assert agreement.pairwise_agreement(project).everyone == Share(1, 2)


def test_a_moments_meetings_count_what_stood_then(
    project: Project, three: list[Any], make_comparisons: Any
) -> None:
    kept, undone = make_comparisons(2, needed=3)
    for comparison in (kept, undone):
        for person in three[:2]:
            say(person, comparison, "first")
    moment, then = timezone.now(), agreement.meetings(project)
    say(three[2], kept, "second")
    undoing.undo(project, three[1])
    assert agreement.meetings(project) != then
    assert agreement.meetings(project, at=Moment(moment)) == then
    assert [(one.judged, one.count) for one in then] == [(2, 2)]


@pytest.mark.parametrize(("batch", "counts"), [("import 1", False), ("", True)])
def test_a_moment_knows_no_import_that_came_later(
    project: Project, three: list[Any], make_comparisons: Any, batch: str, counts: bool
) -> None:
    """Older as its judgments may be. A person's verdict has its time before it has its id."""
    gold, other = make_comparisons(1, kind="gold")[0], make_comparisons(1, needed=2)[0]
    said = [say(three[0], other, "first"), say(three[1], other, "first"), say(three[1], gold, "first")]
    Judgment.objects.filter(pk__in=[one.pk for one in said[1:]]).update(import_batch=batch)
    before, after = (Moment(timezone.now(), newest.pk) for newest in (said[0], said[2]))
    for moment, is_there in ((before, counts), (after, True)):
        assert bool(agreement.meetings(project, at=moment)) == is_there
        assert bool(agreement.gold_accuracy(project, at=moment)) == is_there


def test_a_skip_is_no_opinion_of_a_moment(project, three, make_comparisons):
    """Two verdicts met there: were the skip counted, each would weigh half in alpha and in reliability."""
    (comparison,) = make_comparisons(1, needed=3)
    for person, what in zip(three, ("first", "first", "skip"), strict=True):
        say(person, comparison, what)
    [now], [then] = agreement.meetings(project), agreement.meetings(project, at=Moment(timezone.now()))
    assert (now.judged, then) == (2, now)


def test_a_side_that_a_file_does_not_know_favours_none(project):
    """Maria is known to have seen one pair: the one that she prefers on the left."""
    for place, (preferred, left) in enumerate([(0, 0), (0, None), (1, None)]):
        said = PairOpinion("maria", "prefer", preferred, left=left)
        write(project, [(1, Item(prompt=f"P {place}", completions=("a", "b"), opinions=(said,)))])
    [maria] = agreement.annotators(project)
    assert maria.left == Share(1, 1)
