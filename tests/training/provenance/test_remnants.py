"""Remnants of forgotten people and texts are looked for in every table."""

import json
from typing import Any

import pytest
from django.apps import apps
from django.db.models import Q

from annotate.models import ApiToken, Membership, Policy, Project, Prompt, StoredAnswer, TrailEntry, User
from annotate.people import invitations, password_links
from annotate.projects import trail
from tests import factories
from tests.training.provenance.test_forgetting import forget
from training.models import DryRun, MergedWeights, Trial

pytestmark = pytest.mark.django_db

MARKER = "A sentence of one prompt alone"
# Rows of an account, which stays where a person is forgotten in one project.
OF_ACCOUNTS = (ApiToken, StoredAnswer)


def links(person: User) -> set[str]:
    """Return the columns of rows that point at a person."""
    return {
        f"{model.__name__}.{field.name}"
        for model in apps.get_models()
        for field in model._meta.concrete_fields
        if field.related_model is User and model not in OF_ACCOUNTS
        if model._default_manager.filter(**{field.name: person}).exists()
    }


def tables_with(text: str) -> set[str]:
    """Return the tables in which a text is somewhere."""
    return {
        model.__name__
        for model in apps.get_models()
        if any(text in str(row) for row in model._default_manager.values_list())
    }


def test_no_row_of_a_project_points_at_a_forgotten_person(
    project: Project, owner: User, make_member: Any
) -> None:
    toni = make_member("toni-admin", "admin")
    policy = Policy.objects.create(project=project, name="brought", kind="external", brought_by=toni)
    Trial.objects.create(project=project, created_by=toni, content="Hello")
    DryRun.objects.create(project=project, kind="model", state="done", created_by=toni)
    MergedWeights.objects.create(policy=policy, created_by=toni, state="failed")
    factories.say(toni, factories.compare(project, "A prompt", "a", "b"), "first")
    forget("--annotator", "toni-admin")
    assert links(toni) == set()
    policy.refresh_from_db()
    assert policy.brought_by is None


def test_exports_by_others_name_a_forgotten_person_no_more(
    project: Project, owner: User, make_member: Any
) -> None:
    toni, rosa = (make_member(name, "annotator") for name in ("toni-judges", "rosa-judges"))
    for named in ("toni-judges", "rosa-judges, toni-judges", "toni-judges, toni-judges-2"):
        trail.record(trail.Verb.EXPORTED, owner, project=project, target="pairs.jsonl", annotator=named)
    trail.record(trail.Verb.SETTINGS, owner, project=project, guidelines="rosa-judges, toni-judges")
    forget("--annotator", toni.username)
    told = TrailEntry.objects.filter(Q(verb="exported") | Q(verb="settings")).order_by("pk")
    assert [list(entry.details.values()) for entry in told] == [
        ["(forgotten)"], ["rosa-judges, (forgotten)"], ["(forgotten), toni-judges-2"], ["rosa-judges, toni-judges"],
    ]  # fmt: skip
    assert rosa.username in json.dumps(told[1].details)


@pytest.mark.parametrize("everywhere", [False, True])
def test_those_whom_a_forgotten_admin_brought_name_them_no_more(
    project: Project, owner: User, make_member: Any, make_user: Any, everywhere: bool
) -> None:
    toni = make_member("toni-admin", "admin")
    rosa = make_user("rosa-judges")
    maker = Membership.objects.get(user=toni)
    invitation = invitations.invite(maker, rosa.username, "annotator")
    invitations.accept(rosa, invitation.pk)
    secret = password_links.make_link(Membership.objects.get(user=rosa), maker).rstrip("/").rpartition("/")[2]
    link = password_links.find_link(secret)
    assert link is not None
    password_links.use_link(link.pk, "a long password")
    if everywhere:
        maker.delete()
    forget("--annotator", toni.username, project=None if everywhere else "reviews")
    assert tables_with(toni.username) <= ({"User", "UsernameKey"} if not everywhere else set())


def test_no_table_keeps_the_text_of_a_forgotten_prompt(project: Project, owner: User) -> None:
    factories.say(owner, factories.compare(project, MARKER, "one", "two"), "first")
    DryRun.objects.create(
        project=project, kind="round", state="done", result={"preview": {"prompt": MARKER, "chosen": "one"}}
    )
    Trial.objects.create(project=project, created_by=owner, content=MARKER)
    other = Trial.objects.create(project=project, created_by=owner, content="Another")
    assert tables_with(MARKER) == {"Prompt", "DryRun", "Trial"}
    forget("--prompt", str(Prompt.objects.get(content=MARKER).pk))
    assert tables_with(MARKER) == set()
    assert Trial.objects.get() == other
