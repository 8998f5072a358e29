"""Lineage as a drawing, as JSON and on the command line, both ways."""

import json
from io import StringIO
from typing import Any

import pytest
from django.core.management import CommandError, call_command
from django.urls import reverse

from annotate.models import Comparison, Judgment, Policy, Project, Snapshot
from annotate.people.pseudonyms import pseudonym
from tests.training.pages import text
from training.models import Round
from training.rounds.lineage import find_base, references_of_policies

pytestmark = pytest.mark.django_db


@pytest.fixture
def shaped(finished: Round) -> Round:
    """Return a finished round whose policy has a child."""
    Policy.objects.create(
        project=finished.project,
        name="<b>grandchild</b>",
        kind="adapter",
        base_model="starter",
        adapter="a",
        parent=finished.result_policy,
    )
    return finished


def printed(capfdbinary: Any, *arguments: str) -> Any:
    call_command("lineage", *arguments)
    return json.loads(capfdbinary.readouterr().out)


def test_only_readers_see_lineage(
    shaped: Round, owner: Any, researcher: Any, teammate: Any, outsider: Any, client_for: Any
) -> None:
    judgment = shaped.snapshot.pairs.first().judgments.first()  # type: ignore[union-attr]
    for name, pk in (("policy-lineage", shaped.result_policy_id), ("judgment-lineage", judgment.pk)):
        api = f"/api/v1/projects/reviews/{'policies' if 'policy' in name else 'judgments'}/{pk}/lineage/"
        for where in (*(reverse(one, args=["reviews", pk]) for one in (name, f"{name}-file")), api):
            for user, status in (
                (owner, 200),
                (researcher, 200),
                (teammate, 403),
                (outsider, 404),
                (None, 401 if where == api else 302),
            ):
                assert client_for(user).get(where).status_code == status, (where, user)
            assert client_for(owner).get(where.replace(f"/{pk}/", "/999999/")).status_code == 404
        file = client_for(owner).get(reverse(f"{name}-file", args=["reviews", pk]))
        assert json.loads(b"".join(file)) == json.loads(b"".join(client_for(owner).get(api)))


def test_the_drawing_and_the_list_say_the_same(
    shaped: Round, owner: Any, researcher: Any, teammate: Any, client_for: Any
) -> None:
    where = reverse("policy-lineage", args=["reviews", shaped.result_policy_id])
    page = text(client_for(researcher).get(where))
    drawing, _, listed = page.partition('<svg class="graph"')[2].partition("</svg>")
    for part in (drawing, listed):
        assert shaped.snapshot.digest[:12] in part  # type: ignore[union-attr]
        assert "&lt;b&gt;grandchild" in part
        assert ">starter<" in part
        assert "<b>grandchild" not in part
    assert "16 pairs" in listed
    assert pseudonym(teammate.pk) in listed
    assert "toni" not in page  # researchers see pseudonyms, admins names too
    assert "toni" in text(client_for(owner).get(where))


def test_a_judgment_leads_to_the_policies_that_it_shaped(
    shaped: Round, owner: Any, teammate: Any, client_for: Any, capfdbinary: Any
) -> None:
    judgment = shaped.snapshot.pairs.first().judgments.first()  # type: ignore[union-attr]
    page = text(client_for(owner).get(reverse("judgment-lineage", args=["reviews", judgment.pk])))
    assert "Round 1</a> trained on the pair" in page
    assert "came from round 1" in page
    found = printed(capfdbinary, "--judgment", str(judgment.pk), "--json", "-")
    assert [(one["name"], one["how"]) for one in found["policies"]] == [
        ("round 1", "round"),
        ("<b>grandchild</b>", "descent"),
    ]
    assert found["pairs"][0]["judgments"] == [judgment.pk]
    assert found["judgment"]["annotator"] == pseudonym(teammate.pk)
    assert [one["number"] for one in found["rounds"]] == [1]


def test_the_json_names_every_pair_and_judgment(shaped: Round, capfdbinary: Any) -> None:
    found = printed(capfdbinary, "<b>grandchild</b>", "--json", "-", "--project", "reviews")
    assert [one["name"] for one in found["parents"]] == ["round 1", "starter"]
    assert [one["digest"] for one in found["snapshots"]] == [shaped.snapshot.digest]  # type: ignore[union-attr]
    assert len(found["pairs"]) == 16
    assert {pk for pair in found["pairs"] for pk in pair["judgments"]} == {
        one["judgment"] for one in found["judgments"]
    }
    assert {one["annotator"] for one in found["judgments"]} == {
        one["annotator"] for one in found["annotators"]
    }
    assert "toni" not in json.dumps(found)


def test_the_command_tells_policies_apart(shaped: Round) -> None:
    output = StringIO()
    call_command("lineage", "round 1", stdout=output)
    assert "16 pairs of 16 judgments by 1 annotators" in output.getvalue()
    for arguments, told in (
        (("nothing",), "There is no policy"),
        ((), "Give a POLICY"),
        (("--judgment", "999999"), "There is no judgment"),
        (("starter", "--project", "no"), "There is no project"),
    ):
        with pytest.raises(CommandError, match=told):
            call_command("lineage", *arguments)


def test_a_judgment_that_shaped_nothing_says_so(
    project: Any, owner: Any, teammate: Any, make_comparisons: Any, judge: Any, client_for: Any
) -> None:
    make_comparisons(1)
    judge(project, teammate)
    where = reverse("judgment-lineage", args=["reviews", Judgment.objects.get().pk])
    assert "No policy yet" in text(client_for(owner).get(where))
    assert Comparison.objects.count() == 1


def test_a_reference_that_was_named_is_shown_as_one(finished: Round, owner: Any, client_for: Any) -> None:
    project, reference = finished.project, finished.result_policy
    assert reference is not None
    against = Policy.objects.create(
        project=project,
        name="round 2",
        kind="adapter",
        base_model="starter",
        adapter="runs/reviews-2/adapter",
        parent=finished.start_policy,
    )
    Round.objects.create(
        project=project,
        number=2,
        state="rejected",
        start_policy=finished.start_policy,
        result_policy=against,
        snapshot=Snapshot.objects.create(project=project, digest="nothing", counts={}),
        settings={"config": {"reference": reference.adapter}},
        folder="runs/reviews-2",
    )
    judgment = finished.snapshot.pairs.first().judgments.first()  # type: ignore[union-attr]
    client, comparison = client_for(owner), judgment.comparison_id
    for where in (
        reverse("judgment-lineage", args=["reviews", judgment.pk]),
        reverse("shaped", args=["reviews", comparison]),
        reverse("policy-lineage", args=["reviews", against.pk]),
        reverse("policy-lineage", args=["reviews", reference.pk]),
    ):
        page = " ".join(text(client.get(where)).split())
        link = reverse("policy", args=["reviews", reference.pk])
        said = f'trained against <a href="{link}">{reference.name}</a> <span class="badge">reference</span>'
        assert said in page, where
        assert "came from starter" not in page  # which no judgment shaped
        assert ("edge reference" in page) is ("comparisons" not in where), where


def test_a_lineage_begins_with_what_was_brought_in(make_round: Any, ready_project: Any) -> None:
    """The nearest policy that no round made is the base of rounds, and not what that one came from elsewhere."""
    base = ready_project.current_policy
    brought = Policy.objects.create(
        project=ready_project, name="brought", kind=Policy.Kind.BASE, base_model="starter", parent=base
    )
    Project.objects.filter(pk=ready_project.pk).update(current_policy=brought)
    trained = make_round("promoted").result_policy
    assert find_base(trained) == find_base(brought) == brought
    assert find_base(base) == base


@pytest.mark.parametrize("is_parent", [True, False])
def test_a_reference_is_told_where_it_is_not_the_parent(make_round: Any, is_parent: bool) -> None:
    round_ = make_round("ready")
    child = round_.result_policy
    named = Policy.objects.create(
        project=round_.project,
        name="named",
        kind="adapter",
        base_model="starter",
        adapter="runs/named/adapter",
    )
    round_.settings["config"]["reference"] = named.adapter
    round_.save(update_fields=["settings"])
    if is_parent:
        Policy.objects.filter(pk=child.pk).update(parent=named)
    assert references_of_policies(round_.project_id) == ({} if is_parent else {child.pk: named.pk})
