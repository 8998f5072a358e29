"""Uploading files: checked whole before anything changes, worked through in short steps, never twice."""

import json
import tracemalloc

import pytest
from django.core.files.base import ContentFile
from django.core.files.storage import default_storage
from django.core.files.uploadedfile import SimpleUploadedFile

from annotate.imports import records, uploads, writing
from annotate.imports.files import checking, preview, reception
from annotate.judgments import judging
from annotate.models import Comparison, Completion, Import, Policy, Prompt
from annotate.queueing import queue
from tests.annotate.views.uploading import URL, jsonl, pair
from tests.factories import SKIP, TIE

pytestmark = pytest.mark.once  # no query is special to a database


@pytest.mark.parametrize(
    ("who", "status"),
    [("owner", 200), ("teammate", 403), ("researcher", 403), ("outsider", 404), (None, 302)],
)
def test_only_admins_import(request, project, client_for, who, status):
    client = client_for(request.getfixturevalue(who) if who else None)
    assert client.get(URL).status_code == status
    sent = client.post(URL, {"file": SimpleUploadedFile("a.txt", b"a prompt"), "format": ""})
    assert sent.status_code == (302 if status == 200 else status)
    assert Import.objects.count() == (status == 200)


@pytest.mark.parametrize("who", ["teammate", "researcher", "outsider"])
def test_nobody_else_steps_starts_or_cancels_one(request, upload, client_for, who):
    _page, made = upload(jsonl(pair(1)))
    client = client_for(request.getfixturevalue(who))
    for action in ("", "start/", "cancel/"):
        assert client.post(f"{URL}{made.pk}/{action}").status_code in (403, 404)
    made.refresh_from_db()
    assert made.state == Import.State.READY


def test_a_file_is_checked_and_shown_before_anything_changes(project, upload):
    page, made = upload(jsonl(pair(1), pair(2, gold="b"), {"prompt": "alone"}))
    assert made.state == Import.State.READY
    assert made.counts["found"] == {"pairs": 1, "gold": 1, "prompts": 1}
    assert b"Nothing has been changed yet" in page.content
    assert b"alone" in page.content
    assert not Prompt.objects.exists()


def test_starting_it_brings_everything_in_and_forgets_the_file(project, owner, upload, client_for):
    _page, made = upload(jsonl(pair(1), pair(2, gold="b"), {"prompt": "alone"}))
    name = made.file.name
    page = client_for(owner).post(f"{URL}{made.pk}/start/", follow=True)
    made.refresh_from_db()
    assert made.state == Import.State.DONE
    assert made.counts["made"] == {"prompts": 3, "pairs": 1, "gold": 1}
    assert Comparison.objects.get(kind="gold").gold_preferred.text == "two"
    assert b"Imported." in page.content
    assert not default_storage.exists(name)


def test_bad_rows_are_named_and_do_not_stop_good_ones(owner, upload, client_for):
    rows = jsonl(pair(1)) + b"\n{broken\n" + jsonl({"prompt": ""}, pair(4))
    page, made = upload(rows)
    assert made.state == Import.State.READY
    assert [line for line, _sentence in made.errors] == [3, 4]
    assert b"2 of 4 rows can be imported." in page.content
    assert not Prompt.objects.exists()
    client = client_for(owner)
    answer = client.get(f"{URL}{made.pk}/refused/")
    found = [json.loads(line) for line in b"".join(answer.streaming_content).splitlines()]
    assert [(row["line"], row["record"]) for row in found] == [(3, "{broken"), (4, {"prompt": ""})]
    assert found[1]["reason"] == "prompt is empty."
    client.post(f"{URL}{made.pk}/start/")
    made.refresh_from_db()
    assert (made.state, made.counts["made"]) == (Import.State.DONE, {"prompts": 2, "pairs": 2})


def test_a_file_with_errors_cannot_be_started(owner, upload, client_for):
    _page, made = upload(b"{broken\n")
    client_for(owner).post(f"{URL}{made.pk}/start/")
    made.refresh_from_db()
    assert made.state == Import.State.REFUSED


def test_an_empty_file_is_refused(upload):
    page, made = upload(b"")
    assert made.state == Import.State.REFUSED
    assert b"The file is empty." in page.content
    assert b"1 line cannot be used" not in page.content


def test_only_the_first_errors_are_kept_and_all_are_counted(upload):
    page, made = upload(b"{broken\n" * 30)
    assert (len(made.errors), made.counts["wrong"]) == (20, 30)
    assert b"30 lines cannot be used" in page.content


def test_neither_file_nor_text_is_an_error_naming_the_field(project, owner, client_for):
    answer = client_for(owner).post(URL, {"format": ""})
    assert answer.status_code == 422
    assert b'id="id_file_error"' in answer.content
    assert not Import.objects.exists()


def test_a_file_above_the_limit_is_refused(upload, settings):
    settings.IMPORT_LIMIT = 100
    page, made = upload(b"x" * 101, "prompts.txt")
    assert made is None
    assert b"Split it" in page.content


def test_pasted_prompts_are_taken_a_line_each(project, owner, client_for):
    client = client_for(owner)
    client.post(URL, {"text": "one\r\n\r\n two words \n", "format": "csv"})
    made = Import.objects.get()
    client.post(f"{URL}{made.pk}/start/")
    assert {prompt.content for prompt in Prompt.objects.all()} == {"one", "two words"}


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("rows.csv", b'prompt,completion_a,completion_b\r\n"two\r\nlines",a,b\r\n"three, four",c,d\r\n'),
        (
            "rows.jsonl",
            jsonl(*({"prompt": f"{n}", "completion_a": "a", "completion_b": "b"} for n in range(2))),
        ),
    ],
)
@pytest.mark.parametrize(
    "limit",
    [
        [(uploads, "ROWS_AT_A_TIME"), (checking, "ROWS_AT_A_TIME")],
        [(writing, "BYTES_AT_A_TIME")],
        [(writing, "SECONDS_AT_A_TIME")],
    ],
)
def test_steps_of_one_row_bring_in_what_one_step_would(
    upload, owner, client_for, monkeypatch, name, content, limit
):
    """Each step reopens the file where the last one stopped, even inside CSV with quoted line ends."""
    for module, constant in limit:
        monkeypatch.setattr(module, constant, int(module is not writing))
    _page, made = upload(content, name)
    assert made.counts["found"] == {"pairs": 2}
    client_for(owner).post(f"{URL}{made.pk}/start/")
    made.refresh_from_db()
    assert made.counts["made"] == {"prompts": 2, "pairs": 2}
    assert Comparison.objects.count() == 2


@pytest.mark.parametrize("content", [b"\n" * 30, b'"\n' * 30])
@pytest.mark.parametrize(("limit", "most"), [("BYTES_AT_A_TIME", 10), ("SECONDS_AT_A_TIME", 0)])
def test_a_step_ends_by_bytes_and_by_time(project, owner, monkeypatch, content, limit, most):
    """Blank lines too, of which no record comes."""
    monkeypatch.setattr(writing, limit, most)
    made = reception.receive(project, owner, ContentFile(content, "prompts.txt"), "txt")
    uploads._check_some(made)
    made.refresh_from_db()
    assert (made.state, made.position) == (Import.State.CHECKING, max(most, content.index(b"\n") + 1))
    assert uploads.work(made.pk, 60).state in (Import.State.REFUSED, Import.State.READY)


@pytest.mark.parametrize("format", ["csv", "jsonl", "txt"])
def test_a_preview_reads_no_further_than_its_bytes(project, owner, monkeypatch, format):
    monkeypatch.setattr(preview, "PREVIEW_BYTES", 100)
    rows = {"csv": ("prompt\nOne", "Two"), "jsonl": ('{"prompt": "One"}', '{"prompt": "Two"}')}
    first, second = rows.get(format, ("One", "Two"))
    content = f"{first}\n" + "\n" * 200 + f"{second}\n"
    made = reception.receive(project, owner, ContentFile(content.encode(), "rows"), format)
    assert [row.text for row in preview.preview(made)] == ["One"]
    assert uploads.work(made.pk, 60).counts["found"] == {"prompts": 2}


def test_a_step_does_a_little_and_says_how_far_it_is(project, owner, client_for, monkeypatch):
    monkeypatch.setattr(checking, "ROWS_AT_A_TIME", 2)
    content = jsonl(*(pair(number) for number in range(5)))
    made = reception.receive(project, owner, ContentFile(content, "rows.jsonl"), "jsonl")
    made = uploads.work(made.pk, seconds=0)
    assert (made.state, made.line) == (Import.State.CHECKING, 2)
    assert 0 < made.position < made.size
    client = client_for(owner)
    page = client.get(f"{URL}{made.pk}/")
    assert b"2 lines read" in page.content
    fragment = client.post(f"{URL}{made.pk}/", headers={"HX-Request": "true"})
    assert b"<html" not in fragment.content
    assert b"Import it" in fragment.content  # the step took it to the end


def test_of_two_windows_one_does_each_step(project, owner):
    """The second one has read the same rows: it must not write them again, nor move on."""
    content = jsonl(*(pair(number) for number in range(3)))
    made = reception.receive(project, owner, ContentFile(content, "rows.jsonl"), "jsonl")
    uploads.work(made.pk, 5)
    made.refresh_from_db()
    uploads.start(made)
    first, second = Import.objects.get(pk=made.pk), Import.objects.get(pk=made.pk)
    uploads._write_some(first)
    again = Import.objects.filter(pk=made.pk)
    again.update(state=Import.State.RUNNING)  # as if more were left
    second.file.storage.save(second.file.name, ContentFile(content))
    uploads._write_some(second)
    made.refresh_from_db()
    assert made.counts["made"] == {"prompts": 3, "pairs": 3}
    assert Completion.objects.count() == 6


def test_cancelling_keeps_what_was_brought_in(project, owner, client_for, monkeypatch):
    monkeypatch.setattr(uploads, "ROWS_AT_A_TIME", 1)
    made = reception.receive(project, owner, ContentFile(jsonl(pair(1), pair(2)), "rows.jsonl"), "jsonl")
    made = uploads.work(made.pk, 5)
    uploads.start(made)
    uploads.work(made.pk, 0)
    name = made.file.name
    page = client_for(owner).post(f"{URL}{made.pk}/cancel/", follow=True)
    assert "Already imported, and kept: 1 prompt, 1 pair to judge." in " ".join(page.content.decode().split())
    assert Comparison.objects.count() == 1
    assert not default_storage.exists(name)
    assert uploads.work(made.pk, 5).state == Import.State.CANCELLED
    assert Comparison.objects.count() == 1


def test_importing_a_file_again_adds_nothing(owner, upload, client_for):
    for _ in range(2):
        _page, made = upload(jsonl(pair(1), {"prompt": "alone"}))
        page = client_for(owner).post(f"{URL}{made.pk}/start/", follow=True)
    made.refresh_from_db()
    assert made.counts["made"] == {"duplicates": 2}
    assert (Prompt.objects.count(), Comparison.objects.count()) == (2, 1)
    assert b"2 there already" in page.content


def test_imported_completions_cannot_name_a_sampled_policy(upload):
    _page, made = upload(jsonl(pair(1, policy_a="starter")))
    assert made.state == Import.State.REFUSED
    assert "samples itself" in made.errors[0][1]
    assert set(Policy.objects.values_list("name", flat=True)) == {"starter"}


def test_policies_are_counted_over_all_steps_of_the_check(project, owner, monkeypatch):
    monkeypatch.setattr(records, "POLICIES", 3)
    monkeypatch.setattr(checking, "ROWS_AT_A_TIME", 1)
    rows = [pair(number, policy_a=f"policy {number}") for number in range(4)]
    made = reception.receive(project, owner, ContentFile(jsonl(*rows), "rows.jsonl"), "jsonl")
    made = uploads.work(made.pk, 60)
    assert (made.state, made.counts["wrong"]) == (Import.State.READY, 2)
    assert made.errors[0] == [3, "The project would have more than 3 policies from elsewhere."]
    uploads.start(made)
    assert uploads.work(made.pk, 60).counts["made"] == {"prompts": 2, "pairs": 2}


def test_a_file_that_was_lost_is_said_to_be_lost(owner, upload, client_for):
    _page, made = upload(jsonl(pair(1)))
    default_storage.delete(made.file.name)
    page = client_for(owner).post(f"{URL}{made.pk}/start/", follow=True)
    assert b"upload it again" in page.content


@pytest.mark.once  # the memory is the reader's
def test_memory_does_not_grow_with_the_file(project, owner):
    """8 MB are checked with less than 2 MB at a time: a row, and the reader's buffer."""
    rows = jsonl(*({"prompt": f"{number} " + "x" * 2_000} for number in range(4_000)))
    made = reception.receive(project, owner, ContentFile(rows, "rows.jsonl"), "jsonl")
    del rows
    tracemalloc.start()
    made = uploads.work(made.pk, 60)
    _now, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert made.counts["found"] == {"prompts": 4_000}
    assert peak < 2 * 1024 * 1024


def test_another_projects_import_cannot_be_seen(project, owner, upload, make_member, client_for):
    from annotate.models import Membership, Project

    other = Project.objects.create(slug="other", name="Other")
    stranger = make_member("sam", "admin", in_project=other)
    Membership.objects.get(user=stranger)
    _page, made = upload(jsonl(pair(1)))
    assert client_for(stranger).get(f"/p/other/import/{made.pk}/").status_code == 404
    assert client_for(stranger).post(f"/p/other/import/{made.pk}/start/").status_code == 404


@pytest.fixture
def imported(project, owner, upload, client_for):
    """Three pairs and a gold comparison of one import, and a pair of another."""
    _page, made = upload(jsonl(pair(1), pair(2), pair(3), pair(4, gold="a")))
    client_for(owner).post(f"{URL}{made.pk}/start/")
    _page, other = upload(jsonl(pair(5)))
    client_for(owner).post(f"{URL}{other.pk}/start/")
    return made


def in_queue():
    return Comparison.objects.filter(withdrawn_at=None)


def test_an_import_is_withdrawn_where_nobody_touched_it(
    project, owner, teammate, make_member, imported, client_for
):
    Comparison.objects.exclude(batch=f"import {imported.pk}").delete()
    people = owner, teammate, make_member("mia", "annotator")
    judged, skipped, held = (queue.claim(project, person) for person in people)
    judging.record(project, owner, judged.token, TIE)
    judging.record(project, teammate, skipped.token, SKIP)
    touched = {claim.comparison_id for claim in (judged, skipped, held)}
    client = client_for(owner)
    page = client.get(f"{URL}{imported.pk}/").content.decode()
    assert "Withdraw the 1 unjudged comparison of this import" in page
    page = client.post(f"{URL}{imported.pk}/withdraw/", follow=True).content.decode()
    assert "1 comparison withdrawn" in page
    assert "unjudged comparison" not in page
    assert set(in_queue().values_list("pk", flat=True)) == touched
    page = client.post(f"{URL}{imported.pk}/withdraw/", follow=True).content.decode()
    assert "0 comparisons withdrawn" in page
    assert set(in_queue().values_list("pk", flat=True)) == touched


def test_withdrawing_keeps_other_imports_and_can_be_reversed(project, owner, imported, client_for):
    client = client_for(owner)
    client.post(f"{URL}{imported.pk}/withdraw/")
    assert [comparison.prompt.text for comparison in in_queue()] == ["prompt 5"]
    one = Comparison.objects.filter(batch=f"import {imported.pk}").first()
    client.post(f"/p/reviews/comparisons/{one.pk}/change/", {"action": "restore"})
    assert {comparison.prompt.text for comparison in in_queue()} == {"prompt 5", one.prompt.text}


@pytest.mark.parametrize(
    ("who", "status"), [("teammate", 403), ("researcher", 403), ("outsider", 404), (None, 302)]
)
def test_nobody_but_an_admin_withdraws_an_import(request, imported, client_for, who, status):
    client = client_for(request.getfixturevalue(who) if who else None)
    assert client.post(f"{URL}{imported.pk}/withdraw/").status_code == status
    assert in_queue().count() == 5


def test_a_stopped_import_counts_its_rows_and_can_be_withdrawn(project, owner, client_for, monkeypatch):
    monkeypatch.setattr(uploads, "ROWS_AT_A_TIME", 2)
    content = jsonl(*(pair(number) for number in range(6)))
    made = reception.receive(project, owner, ContentFile(content, "rows.jsonl"), "jsonl")
    uploads.start(uploads.work(made.pk, 5))
    uploads.work(made.pk, 0)
    client = client_for(owner)
    page = client.post(f"{URL}{made.pk}/cancel/", follow=True).content.decode()
    assert "Withdraw the 2 unjudged comparisons of this import" in page
    client.post(f"{URL}{made.pk}/withdraw/")
    assert not in_queue().exists()


def test_a_withdrawn_import_comes_back_corrected(project, owner, upload, client_for):
    """Withdraw, correct the file, import it again: the corrected rows are in use."""
    client = client_for(owner)
    _page, made = upload(jsonl(pair(1, gold="b", metadata={"lang": "xx"}), pair(2)))
    client.post(f"{URL}{made.pk}/start/")
    client.post(f"{URL}{made.pk}/withdraw/")
    assert not in_queue().exists()
    assert not Prompt.objects.in_use().exists()
    page, made = upload(jsonl(pair(1, gold="a", metadata={"lang": "de"}), pair(2)))
    assert made.counts["expected"] == {"different": 2}
    for sentence in (
        "There already, but different",
        "gold is “b” here and “a” in this row.",
        "withdrawn is true",
    ):
        assert sentence in page.content.decode()
    page = client.post(f"{URL}{made.pk}/start/", {"update": "1"}, follow=True)
    assert b"2 updated" in page.content
    assert b"There already" not in page.content
    assert (in_queue().count(), Prompt.objects.in_use().count()) == (2, 2)
    gold = Comparison.objects.get(kind="gold")
    assert (gold.gold_preferred.text, gold.metadata) == ("one", {"lang": "de"})


def test_what_differs_stays_as_it_is_unless_asked(project, owner, upload, client_for):
    client = client_for(owner)
    for gold in ("b", "a"):
        _page, made = upload(jsonl(pair(1, gold=gold), pair(f"new {gold}")))
        page = client.post(f"{URL}{made.pk}/start/", follow=True)
    assert b"1 there already but different" in page.content
    assert "What differs was left as it was." in page.content.decode()
    assert Comparison.objects.get(kind="gold").gold_preferred.text == "two"
    assert Comparison.objects.count() == 3


def test_the_page_of_an_import_says_what_was_withdrawn_since(project, owner, upload, client_for):
    _page, made = upload(jsonl(pair(1), pair(2), pair(3)))
    client = client_for(owner)
    before = client.post(f"{URL}{made.pk}/start/", follow=True).content.decode()
    assert "Withdrawn since:" not in before
    assert "See the comparisons" in before
    Comparison.objects.earliest("pk").withdraw()
    some = client.get(f"{URL}{made.pk}/").content.decode()
    assert "Withdrawn since: 1 comparison." in " ".join(some.split())
    assert "See the comparisons" in some
    client.post(f"{URL}{made.pk}/withdraw/")
    after = client.get(f"{URL}{made.pk}/").content.decode()
    assert "Withdrawn since: 3 comparisons, 3 prompts." in " ".join(after.split())
    assert "See the comparisons" not in after
    assert "Let the policy write" not in after


def test_prompts_imported_by_mistake_are_withdrawn(project, owner, upload, client_for):
    client = client_for(owner)
    _page, made = upload(b"prompt\tid\nQ\t1\n", "a.tsv")
    page = client.post(f"{URL}{made.pk}/start/", follow=True)
    assert b"Withdraw the 1 prompt of this import" in page.content
    page = client.post(f"{URL}{made.pk}/withdraw/", follow=True)
    assert b"1 prompt withdrawn: no round writes for it." in page.content
    assert not project.prompts.in_use().exists()
    assert b"Import something to judge" in client.get("/p/reviews/").content


def test_a_prompt_with_comparisons_of_others_outlives_its_import(
    project, owner, imported, upload, client_for
):
    client = client_for(owner)
    _page, other = upload(jsonl({**pair(1), "completion_a": "three"}))
    client.post(f"{URL}{other.pk}/start/")
    client.post(f"{URL}{imported.pk}/withdraw/")
    assert {prompt.text for prompt in Prompt.objects.in_use()} == {"prompt 1", "prompt 5"}


def test_all_earlier_imports_can_be_reached(project, owner, client_for):
    for number in range(25):
        Import.objects.create(
            project=project, filename=f"file {number}.txt", format="txt", size=1, state=Import.State.DONE
        )
    client = client_for(owner)
    pages = client.get(URL).content.decode() + client.get(f"{URL}?page=2").content.decode()
    assert all(f"file {number}.txt" in pages for number in range(25))
    assert client.get(f"{URL}?page=nonsense").status_code == 200
