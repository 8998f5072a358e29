"""Taking pairs, judgments and snapshots out."""

import csv
import hashlib
import io
import json
import re

import pytest

from annotate.forms.pair_settings import name_pair_settings
from annotate.judgments import judging, undoing
from annotate.models import Comparison, Completion, Prompt, Snapshot
from annotate.pairs.settings import PairSettings
from annotate.pairs.snapshots import take_snapshot
from annotate.queueing import queue
from tests.factories import judge_all

pytestmark = pytest.mark.once  # no query is special to a database

PAGES = [
    "export/",
    "export/pairs.jsonl",
    "export/pairs.csv",
    "export/judgments.jsonl",
    "export/judgments.csv",
    "snapshots/",
]


@pytest.fixture
def judged(project, teammate, make_comparisons):
    """Six comparisons: three with a preference, a tie, both bad, and a skip; the first's prompt is held out."""
    comparisons = make_comparisons(6)
    Prompt.objects.filter(pk=comparisons[0].prompt_id).update(held_out=True)
    said = ["first", "first", "first", "tie", "both_bad", "skip"]
    judge_all(project, teammate, dict(zip((one.pk for one in comparisons), said, strict=True)))
    return comparisons


def rows(answer):
    assert answer.status_code == 200
    return [json.loads(line) for line in b"".join(answer.streaming_content).splitlines()]


@pytest.mark.parametrize("page", PAGES)
@pytest.mark.parametrize(
    ("who", "status"),
    [("owner", 200), ("researcher", 200), ("teammate", 403), ("outsider", 404), (None, 302)],
)
def test_admins_and_researchers_take_data_out(request, project, client_for, page, who, status):
    client = client_for(request.getfixturevalue(who) if who else None)
    assert client.get(f"/p/reviews/{page}").status_code == status


def test_pairs_come_in_trls_format_without_held_out_prompts(judged, researcher, client_for):
    answer = client_for(researcher).get("/p/reviews/export/pairs.jsonl")
    assert answer["Content-Disposition"] == 'attachment; filename="reviews-pairs.jsonl"'
    found = rows(answer)
    assert {row["comparison"] for row in found} == {judged[1].pk, judged[2].pk}
    for row in found:
        comparison = Comparison.objects.get(pk=row["comparison"])
        assert row["prompt"] == comparison.prompt.content
        assert (row["chosen"], row["rejected"]) == (comparison.first.text, comparison.second.text)


@pytest.mark.parametrize("name", ["pairs", "judgments"])
def test_csv_holds_the_rows_of_the_json_lines(judged, researcher, client_for, name):
    client = client_for(researcher)
    answer = client.get(f"/p/reviews/export/{name}.csv?held_out=include")
    assert answer["Content-Disposition"] == f'attachment; filename="reviews-{name}.csv"'
    found = list(csv.DictReader(io.StringIO(b"".join(answer.streaming_content).decode("utf-8-sig"))))
    expected = rows(client.get(f"/p/reviews/export/{name}.jsonl?held_out=include"))
    assert len(found) == len(expected) > 0
    for row, other in zip(found, expected, strict=True):
        assert row.keys() == other.keys()
        for column, value in other.items():
            assert row[column] == (
                "" if value is None else value if isinstance(value, str) else json.dumps(value)
            )


def table(answer):
    return list(csv.DictReader(io.StringIO(b"".join(answer.streaming_content).decode("utf-8-sig"))))


def test_texts_in_a_csv_are_as_they_are_unless_asked(project, researcher, client_for):
    chat = [{"role": "user", "content": 'Hé, "you"\n=1'}]
    prompt = Prompt(project=project)
    prompt.set_content(chat)
    prompt.save()
    first, second = (
        Completion.objects.create(prompt=prompt, policy=project.current_policy, text=text)
        for text in ("=HYPERLINK(1)", "- a list")
    )
    made = Comparison.objects.create(project=project, prompt=prompt, first=first, second=second)
    judging.record(
        project,
        researcher,
        queue.claim(project, researcher).token,
        judging.Verdict("prefer", first.pk, 2, rationale="=1+1"),
    )
    client = client_for(researcher)
    for query, rationale in (("", "=1+1"), ("?cells=raw", "=1+1"), ("?cells=safe", "'=1+1")):
        (row,) = table(client.get(f"/p/reviews/export/judgments.csv{query}"))
        assert row["rationale"] == rationale
    assert client.get("/p/reviews/export/judgments.csv?cells=x").status_code == 422
    body = b"".join(client.get("/p/reviews/export/pairs.csv").streaming_content).decode("utf-8-sig")
    (row,) = csv.DictReader(io.StringIO(body))
    assert json.loads(row["prompt"]) == chat
    assert json.loads(row["chosen"]) == [{"role": "assistant", "content": "=HYPERLINK(1)"}]
    assert int(row["comparison"]) == made.pk


@pytest.mark.parametrize(
    ("query", "positions"),
    [
        ("held_out=include", [0, 1, 2]),
        ("held_out=only", [0]),
        ("annotator=toni", [1, 2]),
        ("annotator=olive", []),
        ("policy=starter", [1, 2]),
        ("kind=gate", []),
        ("min_judgments=2", []),
        ("since=2020-01-01", [1, 2]),
        ("since=2120-01-01", []),
    ],
)
def test_filters_choose_the_pairs(judged, owner, researcher, client_for, query, positions):
    found = rows(client_for(researcher).get(f"/p/reviews/export/pairs.jsonl?{query}"))
    assert {row["comparison"] for row in found} == {judged[position].pk for position in positions}


def test_the_account_adds_up_and_says_why_not(judged, researcher, client_for):
    page = client_for(researcher).get("/p/reviews/export/?count=1&held_out=include").context["account"]
    excluded = {str(reason): count for reason, count in page["excluded"]}
    assert excluded == {"tied": 1, "both bad": 1, "skipped by everybody": 1}
    assert (page["judgments"], page["comparisons"], page["pairs"], page["judgment_rows"]) == (6, 6, 3, 6)


def test_the_account_promises_what_the_download_holds(judged, researcher, client_for):
    client = client_for(researcher)
    for query in ("held_out=leave", "held_out=include", "held_out=only", "kind=gate", "min_judgments=2"):
        promised = client.get(f"/p/reviews/export/?count=1&{query}").context["account"]
        assert promised["pairs"] == len(rows(client.get(f"/p/reviews/export/pairs.jsonl?{query}")))
        assert promised["judgment_rows"] == len(
            rows(client.get(f"/p/reviews/export/judgments.jsonl?{query}"))
        )


def test_the_account_of_pairs_is_a_fragment_loaded_on_request(judged, researcher, client_for):
    client = client_for(researcher)
    fragment = client.get("/p/reviews/export/", headers={"HX-Request": "true"}).content
    assert b"<html" not in fragment
    assert b"both bad" in fragment
    assert client.get("/p/reviews/export/").context["account"] is None


@pytest.mark.parametrize(
    ("query", "field"),
    [
        ("votes=loudest", "votes"),
        ("annotator=outsider", "annotator"),
        ("batch=import+9", "batch"),
        ("since=yesterday", "since"),
        ("policy=none", "policy"),
        ("smoothing=-1", "smoothing"),
    ],
)
def test_a_bad_filter_is_named_and_nothing_is_sent(judged, researcher, client_for, query, field):
    for page in ("export/", "export/pairs.jsonl", "export/judgments.jsonl"):
        answer = client_for(researcher).get(f"/p/reviews/{page}?{query}")
        assert answer.status_code == 422
        assert f'id="id_{field}_error"' in answer.content.decode()


def test_judgments_are_exported_with_their_history(project, judged, teammate, researcher, client_for):
    undoing.undo(project, teammate)
    found = rows(client_for(researcher).get("/p/reviews/export/judgments.jsonl?held_out=include"))
    assert len(found) == 6
    assert sum(row["current"] for row in found) == 5


def test_annotators_are_not_named_in_exports(judged, researcher, client_for):
    for page in ("pairs", "judgments"):
        answer = client_for(researcher).get(f"/p/reviews/export/{page}.jsonl")
        assert b"toni" not in b"".join(answer.streaming_content)


def test_the_exact_download_hashes_to_the_snapshots_name(project, judged, owner, researcher, client_for):
    snapshot = take_snapshot(project, owner)
    client = client_for(researcher)
    url = f"/p/reviews/snapshots/{snapshot.digest}/"
    content = b"".join(client.get(f"{url}exact.jsonl").streaming_content)
    assert hashlib.sha256(content).hexdigest() == snapshot.digest
    assert len(rows(client.get(f"{url}trl.jsonl"))) == 3
    assert snapshot.digest in client.get(url).content.decode()


def test_a_snapshot_says_in_words_how_it_was_made(project, judged, owner, client_for):
    by = [project.current_policy.pk, 10**9]
    chosen = PairSettings(ties="half", both_bad="ratings", votes="probe", policies=by, smoothing=0.5)
    for snapshot in (take_snapshot(project, owner), take_snapshot(project, owner, chosen)):
        page = client_for(owner).get(f"/p/reviews/snapshots/{snapshot.digest}/").content.decode()
        facts = page.partition('<dl class="facts small">')[2].partition("</dl>")[0]
        assert facts.count("<dt>") == len(snapshot.settings)
        assert not re.findall(r"<dt>[a-z]|True|False|\[|<bdi>[a-z_]+<", facts)
    assert f"{project.current_policy.name}, #{10**9}" in facts


def test_a_setting_of_another_version_keeps_its_name(project):
    assert name_pair_settings({"later": "x"}, project) == [("later", "x")]


def test_a_snapshot_stays_as_it_was(project, judged, teammate, owner, client_for):
    snapshot = take_snapshot(project, owner)
    client = client_for(owner)
    url = f"/p/reviews/snapshots/{snapshot.digest}/exact.jsonl"
    before = b"".join(client.get(url).streaming_content)
    for _ in range(6):
        undoing.undo(project, teammate)
    assert b"".join(client.get(url).streaming_content) == before


def test_a_researcher_freezes_the_pairs_and_twice_is_once(project, judged, researcher, client_for):
    client = client_for(researcher)
    first, second = (client.post("/p/reviews/snapshots/") for _ in range(2))
    snapshot = Snapshot.objects.get()
    assert first.url == second.url == f"/p/reviews/snapshots/{snapshot.digest}/"
    assert snapshot.created_by == researcher


def test_nobody_else_freezes_them(judged, teammate, outsider, client_for):
    assert client_for(teammate).post("/p/reviews/snapshots/").status_code == 403
    assert client_for(outsider).post("/p/reviews/snapshots/").status_code == 404
    assert not Snapshot.objects.exists()


@pytest.mark.parametrize("page", ["", "exact.jsonl", "trl.jsonl"])
def test_admins_and_researchers_read_their_projects_snapshots(
    project, judged, owner, teammate, make_member, client_for, page
):
    from annotate.models import Project

    snapshot = take_snapshot(project, owner)
    other = Project.objects.create(slug="other", name="Other")
    stranger = make_member("sam", "admin", in_project=other)
    url = f"snapshots/{snapshot.digest}/{page}"
    assert client_for(owner).get(f"/p/reviews/{url}").status_code == 200
    assert client_for(teammate).get(f"/p/reviews/{url}").status_code == 403
    assert client_for(stranger).get(f"/p/reviews/{url}").status_code == 404
    assert client_for(stranger).get(f"/p/other/{url}").status_code == 404


def test_an_unknown_filter_is_named_and_nothing_is_sent(judged, researcher, client_for):
    for page in ("export/?count=1&", "export/pairs.jsonl?", "export/judgments.csv?"):
        answer = client_for(researcher).get(f"/p/reviews/{page}annotater=toni")
        assert answer.status_code == 422
        assert "There is no filter “annotater”." in answer.content.decode()


def test_who_left_can_still_be_exported(project, judged, teammate, researcher, client_for):
    project.memberships.filter(user=teammate).delete()
    client = client_for(researcher)
    assert len(rows(client.get("/p/reviews/export/pairs.jsonl?annotator=toni"))) == 2
    assert "toni (former member)" in client.get("/p/reviews/export/").content.decode()


def test_freezing_takes_settings_or_refuses_them(project, judged, researcher, client_for):
    client = client_for(researcher)
    for given, says in (
        ({"smoothing": "-5"}, "Smoothing"),
        ({"smothing": "1"}, "There is no filter “smothing”."),
    ):
        answer = client.post("/p/reviews/snapshots/", given)
        assert (answer.status_code, says in answer.content.decode()) == (422, True)
    assert not Snapshot.objects.exists()
    client.post("/p/reviews/snapshots/", {"smoothing": "0.5"})
    assert Snapshot.objects.get().settings["smoothing"] == 0.5


def test_judgments_include_held_out_work_unless_told(judged, researcher, client_for):
    client = client_for(researcher)
    for query, count in (("", 6), ("?held_out=leave", 5), ("?held_out=only", 1)):
        found = rows(client.get(f"/p/reviews/export/judgments.jsonl{query}"))
        assert len(found) == count
        page = client.get(f"/p/reviews/export/{query or '?'}&count=1").context["account"]
        assert page["judgment_rows"] == count
        assert page["held_out_rows"] == sum(row["held_out"] for row in found)
    assert len(rows(client.get("/p/reviews/export/pairs.jsonl"))) == 2


@pytest.mark.parametrize("name", ["pairs", "judgments"])
def test_an_empty_csv_has_its_header(project, researcher, client_for, name):
    answer = client_for(researcher).get(f"/p/reviews/export/{name}.csv")
    (header,) = csv.reader(io.StringIO(b"".join(answer.streaming_content).decode("utf-8-sig")))
    assert {"comparison", "external_id", "metadata", "prompt_id", "held_out", "batch"} <= set(header)


def test_only_admins_see_which_name_a_number_stands_for(judged, owner, researcher, teammate, client_for):
    told = f"annotator-{teammate.pk}"
    assert told in client_for(owner).get("/p/reviews/export/").content.decode()
    assert told not in client_for(researcher).get("/p/reviews/export/").content.decode()
