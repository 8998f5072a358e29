"""Ids of another project or person, in addresses and in bodies: they open nothing, and change nothing."""

import pytest

from annotate.models import Claim
from tests.security.addresses import addresses
from tests.security.conftest import Tally
from tests.security.site import Site
from tests.security.test_roles import fingerprint

KIND = "ids of another project or person"
REFUSED = (400, 403, 404, 405, 409, 410, 415, 422)


@pytest.mark.parametrize("person", ["our admin", "our annotator", "our researcher", "both"])
@pytest.mark.parametrize("method", ["GET", "POST"])
def test_an_id_of_another_project_leads_nowhere(site: Site, tally: Tally, person: str, method: str) -> None:
    before = fingerprint()
    callers = [site.browser(person), site.script(person)]
    foreign = site.theirs.values | {"slug": site.ours.project.slug}
    same = {name for name, value in site.ours.values.items() if site.theirs.values[name] == value}
    for address in addresses():
        named = {name for name in site.theirs.values if f":{name}>" in address.route} - {"slug"} - same
        if not address.of_project or not named:
            continue
        for client in callers:
            answer = client.generic(method, address.path(foreign), b"{}", content_type="application/json")
            # A form goes back to its page, with a sentence.
            is_refused = answer.status_code in (
                *REFUSED,
                302,
            )
            tally.refuse(is_refused, (person, method, address.path(foreign), answer.status_code))
    assert fingerprint() == before


def bodies(site: Site) -> list[tuple[str, str, dict]]:
    """Return requests that name another project's rows: (sender, address, form)."""
    theirs = site.theirs.values
    completion = site.theirs.project.comparisons.earliest("pk").first_id
    policy = site.theirs.project.policies.latest("pk").pk
    token = {"token": str(theirs["token"])}
    judge = "/p/ours/judge/"
    return [
        ("our annotator", judge, token | {"verdict": "a2"}),
        ("both", judge, token | {"verdict": "tie"}),
        ("both", judge + "draft/", token | {"rationale": "mine"}),
        ("both", judge + "renew/", token),
        ("both", judge + "flag/", token | {"flag_note": "x"}),
        (
            "our admin",
            f"/p/ours/comparisons/{site.ours.values['comparison_id']}/change/",
            {"action": "gold", "preferred": completion},
        ),
        ("our admin", "/p/ours/rounds/", {"start_policy": policy}),
    ]


def untouched(site: Site) -> tuple[object, ...]:
    """Everything but the sender's own claims, which a refusal renews."""
    found = fingerprint()
    del found["Claim"], found["Comparison"]
    return found, list(Claim.objects.filter(project=site.theirs.project).order_by("pk").values())


def test_an_id_of_another_project_in_a_form_changes_nothing(site: Site, tally: Tally) -> None:
    for person, path, form in bodies(site):
        before = untouched(site)
        answer = site.browser(person).post(path, form)
        is_refused = answer.status_code in (*REFUSED, 302) and untouched(site) == before
        tally.refuse(is_refused, (person, path, form, answer.status_code))


def test_an_id_of_another_project_in_a_query_narrows_to_nothing(site: Site, tally: Tally) -> None:
    policy = site.theirs.project.policies.latest("pk")
    person = site.theirs.people["annotator"]
    for query in (f"policy={policy.name}x", f"annotator={person.username}"):
        for path in ("/p/ours/export/pairs.jsonl", "/api/v1/projects/ours/pairs/"):
            answer = site.browser("our researcher").get(f"{path}?{query}")
            tally.refuse(answer.status_code in (302, 400, 422), (path, query, answer.status_code))
