"""Metadata of each completion stays with it, in whichever order a file names the two."""

import json

import pytest

from annotate.exports.bundle import open_download
from annotate.forms.exports import read_selection
from annotate.imports.expansion import Choices, expand
from annotate.imports.files.earlier import EarlierRecords
from annotate.imports.writing import compare, write
from annotate.models import Comparison, Project
from annotate.sources.formats import find_format

NUMBERS = range(6)  # enough that a hash decides for both orders


def pair(number, chosen_left=(None, None), annotators=("p1", "p2"), **more):
    """Return an exported pair, whose good completion has the seed 11."""
    return {
        **{"prompt": f"Once {number}", "chosen": f"good {number}", "rejected": f"bad {number}"},
        **{"comparison": 5, "prompt_id": 3, "chosen_policy": "m", "rejected_policy": "n"},
        **{"votes_chosen": 2, "votes_rejected": 0, "votes_tie": 0, "annotators": list(annotators)},
        **{"verdicts": ["chosen", "chosen"], "strengths": [None, None], "chosen_left": list(chosen_left)},
        **{"chosen_seed": 11, "rejected_seed": 22, **more},
    }


def read(*rows):
    format = find_format(rows)
    candidates = [candidate for row in rows for candidate in format.rows(row)]
    return list(enumerate([item for one in candidates for item in expand(one, Choices("judged"))], start=1))


def bring_in(project, *rows, update=False):
    return dict(write(project, read(*rows), update=update).counts)


def seeds(project):
    """Return the seeds of a project by the text of their completions."""
    return {
        text: said["seed"]
        for one in Comparison.objects.filter(prompt__project=project)
        for text, said in zip((one.first.text, one.second.text), one.metadata["completions"], strict=True)
    }


EXPECTED = {f"{name} {number}": seed for number in NUMBERS for name, seed in (("good", 11), ("bad", 22))}
SIDES = [(None, None), (True, True), (False, True), (True, False)]


@pytest.mark.parametrize("sides", SIDES)
def test_seeds_stay_with_their_completions(project, sides):
    bring_in(project, *(pair(number, sides) for number in NUMBERS))
    assert seeds(project) == EXPECTED


@pytest.mark.parametrize("update", [False, True])
@pytest.mark.parametrize("sides", SIDES)
def test_another_order_of_annotators_changes_nothing(project, sides, update):
    bring_in(project, *(pair(number, sides) for number in NUMBERS))
    again = [pair(number, sides[::-1], ("p2", "p1")) for number in NUMBERS]
    assert bring_in(project, *again, update=update) == {"duplicates": len(NUMBERS)}
    assert seeds(project) == EXPECTED


@pytest.mark.parametrize("sides", SIDES[1:])
def test_sides_that_become_known_move_no_seed(project, sides):
    bring_in(project, *(pair(number) for number in NUMBERS))
    assert bring_in(project, *(pair(number, sides) for number in NUMBERS), update=True) == {
        "updated": len(NUMBERS)
    }
    assert seeds(project) == EXPECTED


def test_an_update_gives_each_completion_its_new_seed(project):
    bring_in(project, *(pair(number) for number in NUMBERS))
    changed = [pair(number, (False, True), chosen_seed=33) for number in NUMBERS]
    bring_in(project, *changed, update=True)
    assert seeds(project) == {text: 33 if seed == 11 else seed for text, seed in EXPECTED.items()}


def test_a_check_knows_a_pair_in_another_order(project):
    rows = [pair(number, (True, False)) for number in NUMBERS]
    again = [pair(number, (False, True), ("p2", "p1")) for number in NUMBERS]
    with EarlierRecords() as memory:
        compare(project, read(*rows), memory)
        assert dict(compare(project, read(*again), memory).counts) == {"duplicates": len(NUMBERS)}


@pytest.mark.parametrize("name", ["jsonl", "comparisons"])
@pytest.mark.parametrize("sides", SIDES)
def test_seeds_come_in_again_as_they_left(project, sides, name):
    bring_in(project, *(pair(number, sides) for number in NUMBERS))
    download = open_download(read_selection(project, {"format": name}))
    rows = [json.loads(line) for line in b"".join(download.chunks).splitlines()]
    other = Project.objects.create(slug="other", name="Other")
    bring_in(other, *rows)
    assert seeds(other) == EXPECTED
    assert bring_in(other, *rows, update=True) == {"duplicates": len(NUMBERS)}


def test_a_corrected_policy_moves_no_seed(project):
    """The row that corrects it names the completions in the other order, and says nothing of their seeds."""
    texts = {"prompt": "Once", "id": "7"}
    wrong = texts | {"completion_a": "good", "completion_b": "bad", "policy_a": "m", "policy_b": "n"}
    wrong["metadata"] = {"completions": [{"seed": 11}, {"seed": 22}]}
    right = texts | {"completion_a": "bad", "completion_b": "good", "policy_a": "o", "policy_b": "m"}
    for row in (wrong, right):
        [candidate] = find_format([row]).rows(row)
        write(project, [(1, item) for item in expand(candidate, Choices("comparisons"))], update=True)
    corrected = Comparison.objects.get(withdrawn_at=None)
    assert corrected.first.text == "bad"
    assert corrected.metadata == {"completions": [{"seed": 22}, {"seed": 11}]}
