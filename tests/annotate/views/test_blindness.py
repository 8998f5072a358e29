"""Ids tell annotators neither which policy wrote what, nor which side of gold is right."""

import re

import pytest

from annotate.imports.records import Item
from annotate.imports.writing import write
from annotate.models import Claim, Comparison, Completion, Project, Prompt
from tests.annotate.desk import FRAGMENT, url

pytestmark = pytest.mark.once  # ids are drawn in Python

PAIRS = 60


def imported(project, **fields) -> list[Comparison]:
    """Pairs of two policies, imported in one go."""
    rows = [
        (
            number,
            Item(
                f"Review {number} begins",
                completions=(f"One {number}", f"Two {number}"),
                policies=("ours", "theirs"),
                **fields,
            ),
        )
        for number in range(PAIRS)
    ]
    write(project, rows)
    return list(Comparison.objects.select_related("first__policy", "second__policy"))


def is_told(lower: int) -> bool:
    """Return whether `lower` of PAIRS could not be chance: the odds of this are one in ten thousand."""
    return not 15 <= lower <= PAIRS - 15


def test_ids_of_an_import_do_not_tell_the_policy(project):
    pairs = [(one.first, one.second) for one in imported(project)]
    lower = sum(min(pair, key=lambda completion: completion.pk).policy.name == "ours" for pair in pairs)
    assert not is_told(lower)


def test_ids_of_gold_do_not_tell_the_right_side(project):
    pairs = imported(project, gold="a")
    lower = sum(one.gold_preferred_id == min(one.first_id, one.second_id) for one in pairs)
    assert not is_told(lower)


@pytest.mark.parametrize("kind", ["standard", "gold"])
def test_no_page_of_an_annotator_holds_a_completions_id(project, teammate, client_for, kind):
    prompt = Prompt(project=project)
    prompt.set_content("A review begins")
    prompt.save()
    first, second = (  # ids that stand out from counts, dates and versions
        Completion.objects.create(pk=pk, prompt=prompt, policy=project.current_policy, text=text)
        for pk, text in ((7310451, "One"), (7310462, "Two"))
    )
    gold = first if kind == "gold" else None
    Comparison.objects.create(
        project=project, prompt=prompt, first=first, second=second, kind=kind, gold_preferred=gold
    )
    Project.objects.update(gold_rate=0.5)
    client = client_for(teammate)
    pages = [client.get(url("judge"), headers=FRAGMENT)]
    while not Claim.objects.exists() and len(pages) < 60:  # gold comes when the dice say so
        pages.append(client.get(url("judge")))
    claim = Claim.objects.get()
    pages.append(client.get(url("judge")))
    pages.append(client.get(url("texts", claim.token), headers=FRAGMENT))
    pages.append(client.post(url("judge"), {"token": claim.token, "verdict": "b2"}, headers=FRAGMENT))
    pages.append(client.post(url("undo"), headers=FRAGMENT))
    claim.refresh_from_db()
    pages.append(client.post(url("judge"), {"token": claim.token, "verdict": "b1"}, follow=True))
    history = client.get(url("history"))
    pages += [history, client.get(re.search(r'href="([^"]+/history/\d+/)"', history.content.decode())[1])]
    for page in pages:
        assert page.status_code == 200
        assert b"73104" not in page.content + str(page.headers).encode()
