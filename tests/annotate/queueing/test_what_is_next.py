"""The comparison that comes next: what was given back, what others hold in vain, and nothing that was withdrawn."""

from annotate.judgments import judging
from annotate.models import Claim, Comparison
from annotate.queueing import empty_queue, queue
from annotate.queueing.choosing import choose
from annotate.queueing.repeats import APART, make_repeat
from tests.factories import TIE, later, say


def test_a_page_that_was_left_shows_its_comparison_first(project, teammate, make_comparisons):
    make_comparisons(20)
    live, ahead = queue.claim(project, teammate), queue.claim_next(project, teammate)
    assert queue.leave(project, teammate) == 2
    assert queue.claim(project, teammate) == live
    assert queue.claim_next(project, teammate) == ahead


def test_an_archived_project_keeps_what_is_on_screen_alone(project, teammate, make_comparisons):
    """A page shows at once what it fetched ahead, and its heart may beat before it hears of the archiving."""
    make_comparisons(3)
    live, ahead = queue.claim(project, teammate), queue.claim_next(project, teammate)
    project.archived_at = later(0)
    project.save()
    assert queue.renew(project, teammate, live.token)
    judging.record(project, teammate, live.token, TIE)
    assert not queue.renew(project, teammate, ahead.token)
    ahead.refresh_from_db()
    assert ahead.state == Claim.State.NEXT


def test_a_claim_without_a_place_stays_with_its_holder(
    project, teammate, owner, make_member, make_comparisons
):
    """A late verdict fills what was fetched ahead: freeing that claim makes no place for another annotator."""
    make_comparisons(2)
    queue.claim(project, teammate)
    ahead = queue.claim_next(project, teammate)
    say(make_member("late", "annotator"), ahead.comparison, "first")
    assert queue.claim(project, owner) is None
    ahead.refresh_from_db()
    assert ahead.state == Claim.State.NEXT


def test_gold_that_others_hold_keeps_no_annotator_waiting(project, teammate, owner, make_comparisons):
    make_comparisons(1, kind="gold")
    assert choose(project, teammate, Claim.State.LIVE, later(0), queue.get_lease(project), only_gold=True)
    assert empty_queue.explain(project, owner).reason == empty_queue.Reason.DONE


def test_a_withdrawn_comparison_is_not_repeated(project, teammate, make_comparisons):
    judged = make_comparisons(APART + 1)
    for comparison in judged:
        say(teammate, comparison, "first")
    assert judged[0].withdraw()
    assert make_repeat(project, teammate) is None
    assert judged[0].restore()
    assert make_repeat(project, teammate) == Comparison.objects.get(repeat_of=judged[0])
