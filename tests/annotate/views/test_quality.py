"""The quality page: figures, warnings that leave room for chance, and leaks of identity."""

import pytest
from django.db import connection
from django.test.utils import CaptureQueriesContext

from annotate.models import Comparison, Completion, Policy, User
from annotate.reports.agreement import AnnotatorFigures
from annotate.reports.quality import _warnings, assess, identity_leaks
from annotate.views.quality import in_words
from primitives.statistics import Share, percent
from tests.factories import judge, judge_all

pytestmark = pytest.mark.once

URL = "/p/reviews/quality/"


@pytest.mark.parametrize(
    ("who", "status"),
    [("owner", 200), ("researcher", 200), ("teammate", 403), ("outsider", 404), (None, 302)],
)
def test_annotators_do_not_see_each_others_figures(request, project, client_for, who, status):
    client = client_for(request.getfixturevalue(who) if who else None)
    assert client.get(URL).status_code == status


def test_without_verdicts_the_page_says_what_to_do(project, owner, client_for):
    assert b"Choose gold comparisons" in client_for(owner).get(URL).content


def test_figures_of_a_small_project(project, owner, teammate, make_comparisons):
    """Three comparisons judged by two: the same preference, opposite ones, one tie against a preference."""
    made = make_comparisons(3, needed=2)
    said = {owner: ["first", "first", "tie"], teammate: ["first", "second", "first"]}
    for person, choices in said.items():
        judge_all(project, person, dict(zip((one.pk for one in made), choices, strict=True)))
    found = assess(project)
    assert found.total == 6
    assert (found.pairwise.count, found.pairwise.total) == (1, 3)
    assert {str(name): share.count for name, share in found.verdicts} == {
        "Much better": 0, "Better": 5, "Slightly better": 0, "Tie": 1, "Both bad": 0, "Skipped": 0,
    }  # fmt: skip
    assert found.days[-1].count == 6
    [(one, other, met, kappa)] = found.kappas
    assert {one, other} == {owner, teammate}
    # Observed 1/3; owner says first 2/3, tie 1/3, the other first 2/3, second 1/3: by chance 4/9. (1/3-4/9)/(5/9)
    assert (met, round(kappa, 6)) == (3, -0.2)


def test_each_share_has_its_interval(project, owner, teammate, make_comparisons, client_for):
    made = make_comparisons(3, needed=2)
    for person in (owner, teammate):
        judge_all(project, person, {one.pk: "first" for one in made})
    found = assess(project)
    page = " ".join(client_for(owner).get(URL).content.decode().split())
    for share in (found.pairwise, found.left):
        low, high = (f"{100 * end:.0f}" for end in share.interval)
        assert f"{percent(share.value)} <small>{low} – {high} %</small>" in page


def figures(**known):
    return AnnotatorFigures(1, **known)


@pytest.mark.parametrize(
    ("known", "words"),
    [
        ({"gold": Share(12, 30)}, "right on 12 of 30"),
        ({"left": Share(60, 80)}, "prefers the left"),
        ({"left": Share(20, 80)}, "prefers the right"),
        ({"repeats": Share(4, 20)}, "4 of 20 repeated"),
    ],
)
def test_what_chance_does_not_explain_is_worth_a_warning(project, known, words):
    [warning] = _warnings(project, "toni", figures(**known), Share(0, 100), Share(0, 100))
    assert words in warning
    assert warning.startswith("toni ")


@pytest.mark.parametrize(
    "known",
    [
        {"gold": Share(2, 5)},  # too few
        {"gold": Share(14, 20)},  # 70 %, but the interval reaches the bar of 80 %
        {"left": Share(16, 20)},
        {"left": Share(44, 80)},
        {"left": Share(5_300, 10_000)},  # sure, and too little to matter
        {"repeats": Share(6, 12)},
    ],
)
def test_what_chance_may_explain_is_not(project, known):
    assert not list(_warnings(project, "toni", figures(**known), Share(0, 100), Share(0, 100)))


def test_haste_and_skipping_are_worth_a_warning(project):
    fast, skipped = _warnings(project, "toni", figures(), Share(30, 100), Share(40, 100))
    assert "faster than they can be read" in fast
    assert "skipped 40 of 100" in skipped
    assert not list(_warnings(project, "toni", figures(), Share(5, 10), Share(5, 10)))


def test_a_completion_that_names_the_projects_own_model_is_found(project, make_comparisons):
    Policy.objects.filter(pk=project.current_policy_id).update(base_model="example/Quillon-2")
    [made] = make_comparisons()
    assert identity_leaks(project) == []
    leak = Completion.objects.create(
        prompt=made.prompt, policy=made.first.policy, text="I am Quillon, and I liked it."
    )
    found = Comparison.objects.create(project=project, prompt=made.prompt, first=leak, second=made.second)
    assert identity_leaks(project) == [found.pk]


def test_a_leak_is_shown_with_its_comparison(project, owner, teammate, make_comparisons, client_for):
    [made] = make_comparisons()
    leak = Completion.objects.create(
        prompt=made.prompt, policy=made.first.policy, text="As an AI language model I liked it."
    )
    comparison = Comparison.objects.create(
        project=project, prompt=made.prompt, first=leak, second=made.second
    )
    judge(project, teammate)
    page = client_for(owner).get(URL).content.decode()
    assert "1 comparison is not blind" in page
    assert f"/p/reviews/comparisons/{comparison.pk}/" in page
    comparison.withdraw()
    assert "not blind" not in client_for(owner).get(URL).content.decode()


def test_the_number_of_queries_does_not_depend_on_the_size(
    project, owner, make_member, make_comparisons, client_for
):
    def queries():
        with CaptureQueriesContext(connection) as captured:
            client.get(URL)
        return len(captured)

    client = client_for(owner)
    make_comparisons(4, needed=5)
    people = [make_member(f"person{number}", "annotator") for number in range(2)]
    for person in people:
        judge(project, person)
    few = queries()
    make_comparisons(10, needed=5)
    people += [make_member(f"more{number}", "annotator") for number in range(4)]
    for person in people:
        for _ in range(3):
            judge(project, person)
    assert queries() == few <= 20
    assert User.objects.count() == 7


def test_words_for_figures():
    assert [in_words(value) for value in (-0.1, 0.5, 0.95)] == [
        "no better than chance", "moderate", "almost perfect",
    ]  # fmt: skip
    assert (percent(0.583), percent(None)) == ("58 %", "–")


def test_a_warning_leads_to_the_judgments_that_it_is_about(
    project, owner, teammate, make_comparisons, client_for
):
    project.min_seconds = 60
    project.save()
    make_comparisons(25)
    for _ in range(25):
        judge(project, teammate)
    page = " ".join(client_for(owner).get(URL).content.decode().split())
    warning = page.index("toni judged 25 of 25 comparisons faster than they can be read")
    assert f'<a href="/p/reviews/comparisons/?annotator={teammate.pk}">Read' in page[warning : warning + 250]
