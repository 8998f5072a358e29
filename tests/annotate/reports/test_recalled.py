"""Figures that are measured once for the same judgments."""

from django.db.models import Q

from annotate.judgments import undoing
from annotate.models import Comparison, Judgment
from annotate.pairs.aggregation import find_label
from annotate.reports.recalled import recall, recall_comparisons, recall_equal
from tests.factories import compare, say


def test_figures_are_measured_once_for_the_same_judgments(project, three, make_comparisons):
    first, second = make_comparisons(2, needed=3)
    measured: list[int] = []

    def look() -> int:
        return recall(project, "tries", lambda: measured.append(1) or len(measured))

    assert [look(), look()] == [1, 1]
    said = say(three[0], first, "first")
    assert [look(), look()] == [2, 2]
    say(three[1], second, "first")
    assert look() == 3
    type(said).objects.filter(pk=said.pk).update(superseded_at=said.created_at)
    assert look() == 4


def test_a_page_reads_its_votes_alone_once_weights_are_known(
    project, three, make_comparisons, django_assert_num_queries
):
    for comparison in make_comparisons(30, needed=2):
        for person in three[:2]:
            say(person, comparison, "first")
    comparison = Comparison.objects.select_related("project").latest("pk")
    fresh = find_label(comparison)
    with django_assert_num_queries(2):  # its votes, and whether there are new judgments
        assert find_label(comparison) == fresh
    assert fresh is not None
    assert fresh.evidence == ["colleagues on the same comparisons"]


def test_equal_texts_of_a_restored_database_are_its_own(project):
    """A database that is restored from a copy gives keys again, to comparisons that were made later."""
    key = compare(project, "Say it.", "the same", "the same").pk
    assert recall_equal(project) == {key}
    Comparison.objects.get(pk=key).delete()
    compare(project, "Say more.", "this", "that", pk=key)
    assert recall_equal(project) == frozenset()


def test_no_more_comparisons_are_remembered_than_are_asked_for(project, make_comparisons):
    made = {comparison.pk for comparison in make_comparisons(5)}
    some = recall_comparisons(project, "some", Q(), enough=3)
    assert (len(some), some < made) == (3, True)
    made |= {comparison.pk for comparison in make_comparisons(2)}
    assert recall_comparisons(project, "some", Q(), enough=3) == some
    assert recall_comparisons(project, "all", Q()) == made


def test_a_redo_measures_again(project, three, make_comparisons):
    """It changes neither how many judgments there are, nor the newest of them, nor when the last was undone."""
    xena, yuri, _zoe = three
    first, second, third = make_comparisons(3, needed=2)
    for annotator, comparison in ((xena, first), (xena, second), (yuri, third)):
        say(annotator, comparison, "first")

    def look() -> int:
        return recall(project, "current", project.judgments.current().count)

    undoing.undo(project, xena)
    undoing.undo(project, yuri)
    assert look() == 1
    undoing.redo(project, xena)
    assert look() == 2


def test_an_undo_at_the_same_time_as_a_redo_measures_again(project, three, make_comparisons):
    """A web server with a clock behind can record an undo before the newest one."""
    said = [
        say(person, one, "first") for person, one in zip(three, make_comparisons(3, needed=1), strict=True)
    ]

    def look() -> set[int]:
        return recall(project, "which", lambda: set(project.judgments.current().values_list("pk", flat=True)))

    undone, undone_last, kept = (Judgment.objects.filter(pk=one.pk) for one in said)
    undone.update(superseded_at=said[0].created_at)
    undone_last.update(superseded_at=said[2].created_at)
    assert look() == {said[2].pk}
    undone.update(superseded_at=None)
    kept.update(superseded_at=said[1].created_at)
    assert look() == {said[0].pk}
