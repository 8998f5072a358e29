"""Bounds on rows: of two requests at the same moment, the second counts the first."""

import pytest

from annotate.exports import jobs as exports
from annotate.forms.exports import read_selection
from annotate.models import ApiToken, Export, Invitation, Membership, SnapshotJob
from annotate.pairs.frozen import jobs as snapshots
from annotate.pairs.settings import PairSettings
from annotate.people import invitations
from annotate.projects import sizes
from annotate.views import account

pytestmark = pytest.mark.django_db(transaction=True)


def test_two_tokens_at_once_keep_to_the_bound(owner, client_for, commits_first, monkeypatch):
    monkeypatch.setattr(account, "MOST_TOKENS", 1)
    both = [client_for(owner), client_for(owner)]
    first = commits_first(lambda: both[0].post("/tokens/", {"name": "one"}))
    assert both[1].post("/tokens/", {"name": "another"}).status_code == 422
    first.result()
    assert ApiToken.objects.count() == 1


def test_two_files_asked_for_at_once_keep_to_the_bound(
    judged, project, owner, client_for, commits_first, monkeypatch
):
    monkeypatch.setattr(exports, "LIVE_AT_MOST", 1)
    first = commits_first(lambda: exports.request(read_selection(project, {}), owner, {}, lambda _job: None))
    assert client_for(owner).post("/p/reviews/export/prepare/", {}).status_code == 422
    first.result()
    assert Export.objects.count() == 1


def test_two_snapshots_asked_for_at_once_keep_to_the_bound(
    judged, project, owner, client_for, commits_first, monkeypatch
):
    monkeypatch.setattr(sizes, "LARGE", 0)
    monkeypatch.setattr(snapshots, "LIVE_AT_MOST", 1)
    first = commits_first(
        lambda: snapshots.request(project, owner, PairSettings(ties="half"), lambda _job: None)
    )
    assert client_for(owner).post("/p/reviews/snapshots/").status_code == 422
    first.result()
    assert SnapshotJob.objects.count() == 1


def test_the_same_snapshot_asked_for_at_once_is_one_job(judged, project, owner, commits_first, monkeypatch):
    monkeypatch.setattr(snapshots, "LIVE_AT_MOST", 1)
    wanted = PairSettings(ties="half")
    first = commits_first(lambda: snapshots.request(project, owner, wanted, lambda _job: None))
    found = snapshots.request(project, owner, wanted, lambda _job: None)
    first.result()
    assert found == SnapshotJob.objects.get()


def test_two_invitations_at_once_keep_to_the_bound(project, owner, client_for, commits_first, monkeypatch):
    monkeypatch.setattr(invitations, "MOST_OPEN", 1)
    by = Membership.objects.get(project=project, user=owner)
    first = commits_first(lambda: invitations.invite(by, "mia", "annotator"))
    invited = client_for(owner).post("/p/reviews/members/invite/", {"person": "noah", "role": "annotator"})
    assert invited.status_code == 422
    first.result()
    assert Invitation.objects.count() == 1
