"""Options of an import, changed before anything is written: columns, encoding, and what the rows become."""

import json

import pytest
from django.core.files.storage import default_storage

from annotate.imports import uploads
from annotate.imports.files import reception
from annotate.models import Import, Judgment, Prompt
from tests.annotate.sources.test_lines import xlsx
from tests.annotate.views.uploading import URL, jsonl

pytestmark = pytest.mark.once

TRL = [{"prompt": f"Q{number}", "chosen": "a", "rejected": "b"} for number in range(3)]


@pytest.fixture
def check(owner, client_for):
    """check(upload, **fields): the page after the file was checked again, and the Import."""

    def check(made, **fields):
        page = client_for(owner).post(f"{URL}{made.pk}/check/", fields, follow=True)
        made.refresh_from_db()
        return page, made

    return check


def test_what_rows_become_is_chosen_with_counts(owner, upload, client_for, check):
    page, made = upload(jsonl(*TRL))
    assert made.counts["found"] == {"judged": 3}
    assert "Judged pairs, with the verdicts in the file (3)" in page.content.decode()
    page, made = check(made, becomes="comparisons")
    assert made.counts["found"] == {"pairs": 3}
    assert b"Verdicts in the file: 3" in page.content
    page, made = check(made, becomes="judged")
    client_for(owner).post(f"{URL}{made.pk}/start/")
    assert Judgment.objects.filter(preferred__text="a").count() == 3


def test_messages_apart_from_their_trees_get_advice(upload):
    rows = [{"message_id": "1", "parent_id": None, "role": "prompter", "text": "Why?"}]
    page, made = upload(jsonl(*rows))
    assert made.state == Import.State.MAPPING
    assert "Otherwise import the file of whole trees." in page.content.decode()
    assert not page.context["form"]["column_prompt"].value()


def test_a_page_says_why_strengths_are_asked_about(upload):
    rows = [{"prompt": "Why?", "response_1": "a b", "response_2": "c d", "preference_strength": 1}]
    page, made = upload(jsonl(*rows))
    assert made.state == Import.State.MAPPING
    assert "“preference_strength” may be how much better one completion is" in page.content.decode()
    assert not page.context["form"]["column_verdict"].value()


@pytest.mark.parametrize(
    ("content", "is_open"),
    [
        (b"question,team\r\nWhy?,a\r\n", False),
        (b"question;first;second;rater\r\nWhy?;because;so;kim\r\n", True),
    ],
)
def test_rare_columns_are_folded_until_one_is_mapped(upload, content, is_open):
    page, made = upload(content, "rows.csv")
    assert made.state == Import.State.MAPPING
    form = page.context["form"]
    usual, further = (field.name for field in form.usual_columns), (f.name for f in form.further_columns)
    assert sorted([*usual, *further]) == sorted(name for name in form.fields if name.startswith("column_"))
    html = " ".join(page.content.decode().split())
    assert ('<details class="advanced" open> <summary> Further columns' in html) == is_open


def test_columns_are_mapped_by_hand_and_remembered(owner, upload, client_for, check):
    content = b"question;first;second;said\r\nWhy?;because;so;0\r\n"
    page, made = upload(content, "rows.csv")
    assert made.state == Import.State.MAPPING
    assert "What are its columns?" in page.content.decode()
    assert not Prompt.objects.exists()
    page, made = check(made, by_hand="on", column_completion_a="first")
    assert (page.status_code, made.state) == (422, Import.State.MAPPING)
    assert b"Say which column is the prompt." in page.content
    columns = {"prompt": "question", "completion_a": "first", "completion_b": "second", "verdict": "said"}
    fields = {f"column_{role}": column for role, column in columns.items()}
    page, made = check(made, by_hand="on", **fields)
    assert made.errors == [[2, "“0” in said is not a known verdict. Say what it means."]]
    page, made = check(made, by_hand="on", meaning_a="0", **fields)
    assert (made.state, made.counts["found"]) == (Import.State.READY, {"judged": 1})
    _page, other = upload(content.replace(b"Why", b"How"), "more.csv")
    page, other = check(other, by_hand="on", **fields, meaning_a="0")
    proposed = client_for(owner).get(f"{URL}{other.pk}/").context["form"]
    assert {proposed[name].value() for name in fields} == set(columns.values())
    _page, third = upload(content, "third.csv")
    remembered = client_for(owner).get(f"{URL}{third.pk}/").context["form"]
    assert {name: remembered[name].value() for name in (*fields, "meaning_a")} == {**fields, "meaning_a": "0"}


@pytest.mark.parametrize(
    ("text", "is_unsure"), [("Да", True), ("Да".encode(), False), ("Напиши стих о весне", False)]
)
def test_an_unsure_encoding_is_told_before_anything_is_written(upload, check, text, is_unsure):
    line = text if isinstance(text, bytes) else text.encode("koi8-r")
    page, made = upload(b"prompt,topic\n" + line + b",x\n", "rows.csv")
    assert ("The encoding of this file is unsure" in page.content.decode()) == is_unsure
    assert not Prompt.objects.exists()
    page, _made = check(made, encoding="koi8-r")
    assert "is unsure" not in page.content.decode()


def test_of_much_text_it_is_not_said_that_there_is_little(upload):
    verse = (
        "Мороз и солнце день чудесный ещё ты дремлешь друг прелестный пора красавица проснись открой сомкнуты "
        "негой взоры навстречу северной авроры звездою севера явись вечор помнишь вьюга злилась мутном небе мгла "
        "носилась луна как бледное пятно сквозь тучи мрачные желтела печальная сидела нынче погляди окно"
    )
    page, _made = upload(f"prompt,topic\n{verse},x\n".encode("cp866"), "rows.csv")
    html = " ".join(page.content.decode().split())
    assert "another encoding may fit its letters better" in html
    assert "too little text" not in html


def test_another_encoding_starts_the_check_again(upload, check, client_for, owner):
    texts = [
        "Où est passé le garçon ? Élève très doué, il préfère la forêt à l’école.",
        "Dès l’été, il s’y promène",
    ]
    content = "".join(["prompt;id\r\n", *(f"{text};{len(text)}\r\n" for text in texts)]).encode("cp1252")
    page, made = upload(content, "rows.csv")
    assert made.options["encoding"] == "cp1252"
    names = {made.file.name, made.original.name}
    assert "l’été" in page.content.decode()
    page, made = check(made, encoding="cp1251")
    assert (made.state, made.counts["rows"]) == (Import.State.READY, 2)
    assert "йtй" in page.content.decode()
    page, made = check(made, encoding="cp1252")
    assert made.options["encoding"] == "cp1252"
    client_for(owner).post(f"{URL}{made.pk}/start/")
    assert set(Prompt.objects.values_list("content", flat=True)) == set(texts)
    made.refresh_from_db()
    assert not any(map(default_storage.exists, {*names, made.file.name, made.original.name} - {""}))


def test_another_sheet_of_a_workbook_is_chosen(upload, check, client_for, owner):
    rows = {"A1": "prompt", "A2": "one"}
    page, made = upload(xlsx({"A1": "About this workbook"}, Two=rows, Three={**rows, "A3": "two"}), "a.xlsx")
    assert "sheet “Two”, one of 3" in page.content.decode()
    page, made = check(made, sheet="One")
    assert made.errors == [[0, "The file holds no records."]]
    page, made = check(made, sheet="Three")
    assert (made.state, made.counts["found"]) == (Import.State.READY, {"prompts": 2})
    assert "sheet “Three”, one of 3" in page.content.decode()
    address = f"/api/v1/projects/reviews/imports/{made.pk}/options/"
    ask = {"content_type": "application/json"}
    answer = client_for(owner).patch(address, {"sheet": "Two"}, **ask).json()
    assert (answer["options"]["sheet"], answer["counts"]["found"]) == ("Two", {"prompts": 1})
    refused = client_for(owner).patch(address, {"sheet": "Four"}, **ask)
    assert (refused.status_code, refused.json()["field"]) == (400, "sheet")


def test_refused_rows_are_corrected_and_imported_from_their_file(upload, client_for, owner):
    _page, made = upload(jsonl({"prompt": "a"}, {"prompt": "", "id": "7"}), "rows.jsonl")
    hint = b"Correct the records in that file, then import the file."
    assert hint in client_for(owner).get(f"{URL}{made.pk}/").content
    _page, table = upload(b"prompt,id\n,1\na,2\n", "rows.csv")  # whose header is not in the file
    assert hint not in client_for(owner).get(f"{URL}{table.pk}/").content
    file = b"".join(client_for(owner).get(f"{URL}{made.pk}/refused/").streaming_content)
    _page, made = upload(file.replace(b'"prompt": ""', b'"prompt": "mended"'), "rows-refused.jsonl")
    assert (made.state, made.counts["found"]) == (Import.State.READY, {"prompts": 1})
    client_for(owner).post(f"{URL}{made.pk}/start/")
    assert Prompt.objects.get().external_id == "7"


def test_a_text_of_json_is_shown_as_it_is(upload):
    page, made = upload(b'q;one;first\r\nWhy?;{"a":1};"{""text"":""b""}"\r\n', "rows.csv")
    assert made.state == Import.State.MAPPING
    raw = page.context["raw"]
    shown = dict(zip(raw.columns, raw.rows[0], strict=True))
    assert (shown["one"], shown["first"]) == ('{"a":1}', '{"text":"b"}')


def test_columns_that_are_mapped_are_shown_before_others(upload):
    names = [f"c{number}" for number in range(20)] + ["frage", "antwort 1", "antwort 2"]
    page, _made = upload(",".join(names).encode() + b"\n" + b",".join([b"two words"] * 23), "wide.csv")
    assert page.context["raw"].columns[:3] == ["frage", "antwort 1", "antwort 2"]
    assert "11 more columns are not shown." in page.content.decode()


def test_a_check_by_earlier_options_writes_nothing_more(upload, monkeypatch):
    """A step of another window that read the file by the options of before."""
    _page, made = upload(jsonl(*TRL))
    Import.objects.filter(pk=made.pk).update(state=Import.State.CHECKING, position=0)
    stale = Import.objects.get(pk=made.pk)
    assert uploads.check_again(made, uploads.Options.of(made))
    uploads._check_some(stale)
    made.refresh_from_db()
    assert (made.position, made.state) == (0, Import.State.CHECKING)


def test_a_file_that_cannot_be_read_is_refused_at_the_door(upload):
    page, made = upload(b"[1, 2", "rows.json")
    assert (page.status_code, made) == (422, None)
    assert "The list is not closed" in page.content.decode()


def test_rows_of_a_document_are_named_by_their_number(upload):
    page, made = upload(json.dumps([{"prompt": "a"}, {"prompt": ""}], indent=2).encode(), "rows.json")
    assert made.errors == [[2, "prompt is empty."]]
    assert b">Row</th>" in page.content


@pytest.mark.parametrize(
    ("who", "status"), [("teammate", 403), ("researcher", 403), ("outsider", 404), (None, 302)]
)
def test_only_admins_check_again_and_see_refused_rows(request, upload, client_for, who, status):
    _page, made = upload(jsonl({"prompt": ""}, {"prompt": "a"}))
    client = client_for(request.getfixturevalue(who) if who else None)
    assert client.post(f"{URL}{made.pk}/check/", {"becomes": "prompts"}).status_code == status
    assert client.get(f"{URL}{made.pk}/refused/").status_code == status
    made.refresh_from_db()
    assert made.state == Import.State.READY


def test_another_encoding_forgets_the_rows_refused_before(upload, check, client_for, owner):
    content = b'{"prompt": "caf\xe9"}\n{"prompt": ""}\n'
    _page, made = upload(content, "a.jsonl")
    other = {"cp1252": "cp1251", "cp1251": "cp1252"}.get(made.options["encoding"], "cp1252")
    made.refused_rows.update(reason="as it was read before")
    _page, made = check(made, encoding=other)
    assert made.options["encoding"] == other
    assert list(made.refused_rows.values_list("line", "reason")) == [(2, "prompt is empty.")]


def test_another_encoding_takes_no_started_import_back(upload):
    _page, seen = upload(b"caf\xe9\n", "a.txt")
    before = seen.options["encoding"]
    assert uploads.start(Import.objects.get())
    files = set(default_storage.listdir("imports")[1])
    assert not reception.read_otherwise(seen, encoding="cp1251")
    made = Import.objects.get()
    assert (made.state, made.options["encoding"]) == (Import.State.RUNNING, before)
    assert set(default_storage.listdir("imports")[1]) == files
