"""`manage.py import_prompts`: a file by its name, and what is wrong with it in a sentence."""

import pytest
from django.core.management import CommandError, call_command


def test_the_command_imports_by_the_files_name(project, tmp_path, capsys):
    path = tmp_path / "prompts.csv"
    path.write_text("prompt\nOne\nTwo\n")
    call_command("import_prompts", "reviews", str(path))
    assert "2 prompts" in capsys.readouterr().out


def test_the_command_names_what_is_wrong_in_a_sentence(project, tmp_path):
    bad = tmp_path / "bad.jsonl"
    bad.write_text('{"prompt": ""}\n')
    with pytest.raises(CommandError, match=r"Line 1: prompt is empty\.\nNothing was imported\."):
        call_command("import_prompts", "reviews", str(bad))
    with pytest.raises(CommandError, match="cannot be read: No such file"):
        call_command("import_prompts", "reviews", str(tmp_path / "missing.txt"))
    with pytest.raises(CommandError, match="no project “other”"):
        call_command("import_prompts", "other", str(bad))


def test_the_command_says_what_differs_and_updates_it_if_told(project, tmp_path, capsys):
    path = tmp_path / "prompts.jsonl"
    path.write_text('{"prompt": "One", "id": "1"}\n')
    call_command("import_prompts", "reviews", str(path))
    path.write_text('{"prompt": "One", "id": "2"}\n')
    capsys.readouterr()
    call_command("import_prompts", "reviews", str(path))
    told = capsys.readouterr().out
    assert "1 different" in told
    assert "Line 1: id is “1” here and “2” in this row." in told
    assert "--update takes what the file says" in told
    call_command("import_prompts", "reviews", str(path), update=True)
    assert "1 updated" in capsys.readouterr().out
    assert project.prompts.get().external_id == "2"
