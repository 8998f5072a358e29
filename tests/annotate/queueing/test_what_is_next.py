"""The comparison that comes next: what was given back, what others hold in vain, and nothing that was withdrawn."""

from dataclasses import replace

from annotate.judgments import judging
from annotate.models import Claim, Comparison
from annotate.queueing import empty_queue, qualification, queue
from annotate.queueing.choosing import choose
from annotate.queueing.repeats import APART, make_repeat
from annotate.queueing.workload import Workload, count_workload
from tests.factories import TIE, judge, later, say


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


def test_a_skip_is_not_repeated(project, teammate, make_comparisons):
    for number, comparison in enumerate(make_comparisons(APART + 1)):
        say(teammate, comparison, "first" if number else "skip")
    assert make_repeat(project, teammate) is None


def test_repeats_come_last_once_they_are_turned_off(project, teammate, make_comparisons):
    for comparison in make_comparisons(APART + 1):
        say(teammate, comparison, "first")
    repeat = make_repeat(project, teammate)
    (other,) = make_comparisons(1)
    assert project.repeat_rate == 0
    assert [judge(project, teammate).comparison for _ in range(2)] == [other, repeat]


def test_gold_that_is_due_comes_behind_repeats(project, teammate, make_comparisons, monkeypatch):
    monkeypatch.setattr("random.random", lambda: 0.9)  # the dice ask for no gold
    for comparison in make_comparisons(APART + 2):
        say(teammate, comparison, "first")
    for _ in range(2):
        make_repeat(project, teammate)
    make_comparisons(1, kind="gold")
    project.gold_rate = 0.01
    project.save()
    claim, kinds = queue.claim(project, teammate), []
    while claim:
        kinds.append(claim.comparison.kind)
        queue.claim_next(project, teammate)
        claim = judging.judge_and_next(project, teammate, claim.token, TIE).live
    assert kinds == ["repeat", "repeat", "gold"]


def test_what_is_shown_beside_a_repeat_does_not_tell_it(project, teammate, make_comparisons):
    for comparison in make_comparisons(APART + 1, metadata={"source": "forum"}, batch="import 1"):
        say(teammate, comparison, "first")
    repeat = make_repeat(project, teammate)
    assert (repeat.metadata, repeat.batch) == ({"source": "forum"}, "import 1")


def test_the_dice_hand_out_no_more_gold_than_is_counted(project, teammate, make_comparisons, monkeypatch):
    """Half of the work is gold: two beside two others, even where the dice ask for gold each time."""
    monkeypatch.setattr("random.random", lambda: 0.0)
    project.gold_rate = 0.5
    project.save()
    make_comparisons(6, kind="gold")
    make_comparisons(2)
    kinds = []
    while claim := queue.claim(project, teammate):
        kinds.append(claim.comparison.kind)
        judging.record(project, teammate, claim.token, TIE)
    assert kinds == ["gold", "gold", "standard", "standard"]


def test_the_gold_of_the_qualification_takes_no_later_gold(project, teammate, make_comparisons):
    """Half of the work is gold: two of it are due beside two others, whatever was judged to qualify."""
    project.qualification_size, project.qualification_pass, project.gold_rate = 3, 0.0, 0.5
    project.save()
    make_comparisons(6, kind="gold")
    make_comparisons(2)
    assert count_workload(project, teammate).gold_due == 0
    for _ in range(3):
        judge(project, teammate, "first")
    qualification.admit_if_passed(project, teammate)
    assert count_workload(project, teammate).gold_due == 2


def test_the_first_comparisons_bring_no_repeats():
    """At a rate of one in five, four others bring a repeat: of 30, the first 20 bring none, and ten bring two."""
    extra = dict.fromkeys(("gold", "gold_held", "gold_had", "repeats", "repeats_held", "repeats_had"), 0)
    work = Workload(gold_rate=0.0, repeat_rate=0.2, open=10, held=0, judged=APART, **extra)
    assert work.repeats_due == 2
    assert replace(work, open=4).repeats_due == 1
    assert replace(work, open=3).repeats_due == 0
