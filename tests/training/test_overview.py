"""A project's front page: its progress and its next step."""

import re

import pytest

from annotate.judgments import judging
from annotate.models import Flag, Policy, Prompt
from annotate.projects.lifecycle import archive
from annotate.queueing import queue
from tests.factories import TIE, judge
from tests.training.pages import as_sent, shown_in, text
from training.models import Endpoint
from training.rounds import state_machine

pytestmark = pytest.mark.once

URL = "/p/reviews/"


@pytest.mark.parametrize(
    ("who", "status"),
    [("owner", 200), ("researcher", 200), ("teammate", 302), ("outsider", 404), (None, 302)],
)
def test_annotators_go_to_the_desk_and_others_to_the_overview(request, project, client_for, who, status):
    answer = client_for(request.getfixturevalue(who) if who else None).get(URL)
    assert answer.status_code == status
    if who == "teammate":
        assert answer.url == "/p/reviews/judge/"


def test_the_next_step_follows_the_project(project, owner, make_member, make_comparisons, client_for):
    def step():
        return client_for(owner).get(URL).context["overview"].step

    assert step() == "import"
    prompt = Prompt(project=project)
    prompt.set_content("Alone:")
    prompt.save()
    assert step() == "sample"
    make_comparisons(2)
    assert step() == "people"
    teammate = make_member("toni", "annotator")
    assert step() == "judge"
    while claim := queue.claim(project, teammate):
        judging.record(project, teammate, claim.token, TIE)
    assert step() == "round"


def test_without_a_model_no_step_leads_to_a_round(project, owner, teammate, make_comparisons, client_for):
    def seen():
        page = client_for(owner).get(URL)
        return page.context["overview"].step, "/rounds/ready/" in page.content.decode()

    make_comparisons(1)
    leave_without_model(project)
    assert seen() == ("judge", False)
    judging.record(project, teammate, queue.claim(project, teammate).token, TIE)
    assert seen() == ("export", False)
    project.comparisons.all().delete()
    assert seen() == ("model", False)


def leave_without_model(project):
    """Leave a project with policies that files named, alone."""
    project.current_policy = None
    project.save()
    project.policies.update(kind="external")


def leave_with_endpoint(project):
    """Leave a project with policies that files named, and one that an endpoint writes as."""
    leave_without_model(project)
    policy = Policy.objects.create(project=project, name="served", kind="external")
    Endpoint.objects.create(policy=policy, url="https://models.example/v1", model="one")


def test_an_endpoint_writes_and_no_step_leads_to_training(
    project, owner, teammate, make_comparisons, client_for
):
    def seen():
        page = client_for(owner).get(URL)
        return page.context["overview"].step, "/rounds/ready/" in page.content.decode()

    make_comparisons(1)
    leave_with_endpoint(project)
    assert seen() == ("judge", False)
    judge(project, teammate)
    assert seen() == ("export", False)
    desk = client_for(owner).get(f"{URL}judge/").content.decode()
    assert "Start a round" not in desk
    assert ">Export</a>" in desk
    project.comparisons.all().delete()
    assert seen() == ("sample", False)


def test_the_page_of_rounds_lets_an_endpoint_write_alone(project, owner, make_comparisons, client_for):
    make_comparisons(1)
    leave_with_endpoint(project)
    page = client_for(owner).get(f"{URL}rounds/").content.decode()
    assert "Write comparisons" in page
    assert "Start the round" not in page
    assert "no model that can be trained" in page


def test_what_the_page_shows_has_an_endpoint_write(project, owner, make_comparisons, client_for, settings):
    """An empty field would ask for the current policy, which the project does not have."""
    settings.ENDPOINTS = ["models.example"]
    make_comparisons(1)
    leave_with_endpoint(project)
    client = client_for(owner)
    page = client.get(f"{URL}rounds/")
    assert "The current policy</option>" not in page.content.decode()
    answer = client.post(f"{URL}rounds/", shown_in(page, page.context["write_form"], "write"))
    assert answer.status_code == 302
    assert project.rounds.get().start_policy.name == "served"


def test_no_writer_is_asked_for_where_there_is_one_alone(ready_project, owner, client_for):
    page = client_for(owner).get(f"{URL}rounds/")
    assert "policy" not in shown_in(page, page.context["write_form"], "write")


@pytest.mark.parametrize(
    ("leave", "is_offered"), [("leave_with_endpoint", True), ("leave_without_model", False)]
)
def test_imported_prompts_lead_to_a_policy_that_writes(project, owner, client_for, leave, is_offered):
    globals()[leave](project)
    made = {"made": {"prompts": 3}}
    upload = project.imports.create(created_by=owner, state="done", format="jsonl", size=1, counts=made)
    page = client_for(owner).get(f"{URL}import/{upload.pk}/").content.decode()
    assert ("Let the policy write for the prompts" in page) == is_offered
    assert ('<a class="button primary" href="/p/reviews/rounds/#write">' in page) == is_offered


@pytest.mark.parametrize(("closed", "said"), [("archived", "opened again"), ("no_model", "has no model")])
def test_rounds_that_cannot_start_have_no_form_but_a_reason(project, owner, client_for, closed, said):
    if closed == "archived":
        archive(project)
    else:
        leave_without_model(project)
    page = client_for(owner).get(f"{URL}rounds/").content.decode()
    assert said in page
    assert "start-round" not in page


ARCHIVED = "The project is archived; open it again in its settings first."


@pytest.mark.parametrize("form", ["form", "write_form"])
def test_no_round_starts_in_an_archived_project(ready_project, owner, client_for, form):
    client = client_for(owner)
    filled = as_sent(client.get(f"{URL}rounds/").context[form])
    archive(ready_project)
    page = client.post(f"{URL}rounds/", filled | {"action": "write" if form == "write_form" else ""})
    assert page.status_code == 422
    assert ARCHIVED in page.content.decode()
    assert not ready_project.rounds.exists()


@pytest.mark.parametrize(
    ("address", "given"),
    [
        ("rounds/", {}),
        ("rounds/writing/", {"count": 4}),
        ("rounds/estimates/", {"kind": "round"}),
        ("rounds/estimates/", {"kind": "writing", "count": 4}),
        ("rounds/estimates/", {"kind": "model", "base_model": "starter"}),
        ("rounds/1/resume/", {}),
    ],
)
def test_no_work_is_given_out_by_the_api_once_archived(
    ready_project, make_round, owner, client_for, address, given
):
    failed = make_round("failed") if "resume" in address else None
    archive(ready_project)
    where = f"/api/v1/projects/reviews/{address}"
    answer = client_for(owner).post(where, given, content_type="application/json")
    assert (answer.status_code, answer.json()["error"]) == (400, ARCHIVED)
    assert not ready_project.rounds.filter(state="queued").exists()
    assert not ready_project.estimates.exists()
    if failed:
        failed.refresh_from_db()
        assert failed.state == "failed"


def test_a_failed_round_offers_no_resume_once_archived(ready_project, make_round, owner, client_for):
    failed = make_round("failed")
    client, offer = client_for(owner), 'value="resume'
    assert client.get(failed.get_absolute_url()).content.decode().count(offer) == 2
    archive(ready_project)
    page = client.get(failed.get_absolute_url()).content.decode()
    assert offer not in page
    assert "Once it is opened again, the round can be resumed." in page
    page = client.post(failed.get_absolute_url(), {"action": "resume"}, follow=True).content.decode()
    assert ARCHIVED in page
    failed.refresh_from_db()
    assert failed.state == "failed"


def test_an_archived_project_is_retrained_without_the_forgotten(ready_project, make_round, owner):
    original = make_round("cancelled")
    archive(ready_project)
    assert state_machine.retrain(original, original.start_policy, owner).state == "queued"


def test_members_of_an_archived_project_are_not_promised_one(project, owner, client_for):
    archive(project)
    page = client_for(owner).post(f"{URL}members/", {"person": "nora", "role": "annotator"}).content.decode()
    assert "Invited people see their invitation once the project is opened again" in page
    assert "when they next sign in" not in page


def test_no_more_annotators_are_active_than_there_are(project, owner, teammate, make_comparisons, client_for):
    make_comparisons(3, needed=2)
    for person in (owner, teammate):
        judge(project, person)
    found = client_for(owner).get(URL).context["overview"]
    assert (found.active, found.people) == (2, 2)
    project.memberships.filter(user=teammate).delete()
    found = client_for(owner).get(URL).context["overview"]
    assert (found.active, found.people) == (1, 1)


def test_an_admin_who_judges_alone_is_one_of_one(project, owner, make_comparisons, client_for):
    make_comparisons(3)
    assert "Judged this week" not in text(client_for(owner).get(URL))
    judge(project, owner)
    assert re.search(r"Judged this week\D+1\s+<small>\s+of 1 person\s", text(client_for(owner).get(URL)))


def test_gold_repeats_and_what_is_withdrawn_are_no_work_left(project, owner, make_comparisons, client_for):
    make_comparisons(2, needed=2)
    make_comparisons(1, kind="gold")
    [withdrawn] = make_comparisons(1)
    withdrawn.withdraw()
    found = client_for(owner).get(URL).context["overview"]
    assert (found.total, found.judgments_needed, found.left) == (2, 4, 4)


def test_extra_judgments_do_not_make_up_for_missing_ones(
    project, owner, teammate, make_comparisons, client_for
):
    one, _other = make_comparisons(2, needed=2)
    for person in (owner, teammate):
        for claim in iter(lambda: queue.claim(project, person), None):  # noqa: B023 - consumed in this round
            verdict = "tie" if claim.comparison_id == one.pk else "skip"
            judging.record(project, person, claim.token, judging.Verdict(verdict))
    type(one).objects.filter(pk=one.pk).update(needed=1)
    found = client_for(owner).get(URL).context["overview"]
    assert (found.judgments, found.judgments_needed, found.finished) == (1, 3, 1)


def test_open_flags_are_shown_to_admins(project, owner, researcher, teammate, make_comparisons, client_for):
    [comparison] = make_comparisons()
    Flag.objects.create(comparison=comparison, annotator=teammate)
    assert b"1 comparison is flagged" in client_for(owner).get(URL).content
    assert b"is flagged" not in client_for(researcher).get(URL).content


def test_the_number_of_queries_does_not_depend_on_the_size(
    project, owner, teammate, make_comparisons, client_for, django_assert_max_num_queries
):
    make_comparisons(20)
    for _ in range(10):
        judge(project, teammate)
    client = client_for(owner)
    with django_assert_max_num_queries(15):
        client.get(URL)


def test_a_round_that_runs_or_waits_comes_before_everything_else(
    project, owner, researcher, make_comparisons, client_for
):
    make_comparisons(2)
    [gate] = make_comparisons(1, kind="gate")
    round_ = project.rounds.create(
        number=1, state="sampling", trains=False, start_policy=project.current_policy, folder="runs/overview"
    )
    page = client_for(owner).get(URL).content.decode()
    assert "Round 1 is sampling" in page
    assert f'href="{round_.get_absolute_url()}">Follow it</a>' in page
    assert "Start a round" not in page

    new = project.policies.create(name="round 1", kind="adapter", base_model="starter", adapter="a")
    snapshot = project.snapshots.create(digest="d", counts={})
    type(round_).objects.update(state="ready", trains=True, result_policy=new, snapshot=snapshot)
    round_.gate.add(gate)
    page = client_for(owner).get(URL).content.decode()
    assert "Round 1: 0 of 1 gate comparison judged" in page
    assert f'href="{round_.get_absolute_url()}">Open round</a>' in page
    assert "Start a round" not in page
    assert "Open round" not in client_for(researcher).get(URL).content.decode()  # who cannot decide


def test_a_pace_without_an_end_in_sight_gives_no_days_left(
    project, owner, teammate, make_comparisons, client_for
):
    make_comparisons(40)
    claim = queue.claim(project, teammate)
    judging.record(project, teammate, claim.token, TIE)
    assert client_for(owner).get(URL).context["overview"].days_left is None  # 39 at one a week
    for _ in range(9):
        judge(project, teammate)
    assert client_for(owner).get(URL).context["overview"].days_left == 21  # 30 at ten a week


def test_an_archived_project_has_no_pace_and_no_import(
    project, owner, teammate, make_comparisons, client_for
):
    make_comparisons(6)
    judge(project, teammate)
    signs = ("Import", "Judged this week", "Judgments a day", "day left", "days left")
    pages = (URL, f"{URL}comparisons/", f"{URL}prompts/")

    def shown():
        contents = [client_for(owner).get(page).content.decode().partition("<main")[2] for page in pages]
        return [sign for sign in signs if any(sign in content for content in contents)]

    assert shown()[:3] == list(signs[:3])
    client_for(owner).post(f"{URL}settings/archive/")
    assert shown() == []
