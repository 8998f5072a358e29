"""Other tools read what leaves with their own packages, and write what comes in: `make test-real` prepares them."""

import json
import subprocess
from pathlib import Path
from typing import Any

import pytest
from django.conf import settings

from annotate.exports.bundle import open_download
from annotate.exports.tools import LABEL_STUDIO_CONFIG
from annotate.imports.expansion import Choices, expand
from annotate.imports.records import Item
from annotate.sources.formats import find_format

READERS = settings.BASE_DIR / ".venv-readers" / "bin" / "python"
pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not READERS.exists(), reason="`make test-real` prepares the readers"),
]

# Records are read as `dataset.records.from_json` does, and written as `to_json` does.
ARGILLA = """
import sys
from pathlib import Path
from argilla.records._io import JsonIO
records = JsonIO._records_from_json(sys.argv[1])
said = {"completion_a", "completion_b", "tie", "both_bad", "skip"}
for record in records:
    assert set(record.fields) == {"prompt", "completion_a", "completion_b"}, record.fields
    for answer in record.responses:
        assert answer.question_name in {"preference", "strength", "rationale"}, answer
        assert answer.question_name != "preference" or answer.value in said, answer
JsonIO.to_json(records, Path(sys.argv[2]))
"""
LABEL_STUDIO = """
import json, sys
from pathlib import Path
from label_studio_sdk.converter import Converter
from label_studio_sdk.label_interface import LabelInterface
config = Path(sys.argv[3]).read_text()
interface = LabelInterface(config)
interface.validate()
tasks = json.loads(Path(sys.argv[1]).read_text())
for number, task in enumerate(tasks, 1):
    task["id"] = number
    assert interface.validate_task({"data": task["data"]}), task["data"]
    for annotation in task["annotations"]:
        annotation.setdefault("id", number)
        for region in annotation["result"]:
            if region["type"] == "pairwise":  # of two texts, which the package's check does not know
                assert interface.get_control(region["from_name"]).to_name == region["to_name"].split(","), region
                continue
            assert not (wrong := interface.validate_region({"id": "one", **region}, return_errors=True)), wrong
Path(sys.argv[2]).mkdir()
prepared = Path(sys.argv[2]) / "in.json"
prepared.write_text(json.dumps(tasks))
converter = Converter(config, project_dir=None, upload_dir=None, download_resources=False)
converter.convert_to_json_min(str(prepared), sys.argv[2], is_dir=False)
"""


def run(program: str, *arguments: Path) -> None:
    command = [str(READERS), "-W", "ignore", "-c", program, *map(str, arguments)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def leave(select: Any, name: str, path: Path) -> list[Any]:
    content = b"".join(open_download(select(format=name, ties="include")).chunks)
    path.write_bytes(content)
    return list(json.loads(content))


def items(rows: list[Any]) -> list[Item]:
    """Return what rows would become here, as judged pairs, by the format that recognises them."""
    found = find_format(rows)
    assert found is not None
    return [
        item for row in rows for candidate in found.rows(row) for item in expand(candidate, Choices("judged"))
    ]


def essence(rows: list[Any]) -> list[Any]:
    """Return what rows say of texts and verdicts."""
    said = [
        (item.prompt, item.completions, [(one.verdict, one.preferred, one.strength) for one in item.opinions])
        for item in items(rows)
    ]
    return sorted(said, key=str)


def test_argilla_reads_and_writes_the_same(plain: Any, select: Any, tmp_path: Path) -> None:
    rows = leave(select, "argilla", tmp_path / "records.json")
    run(ARGILLA, tmp_path / "records.json", tmp_path / "again.json")
    again = json.loads((tmp_path / "again.json").read_text())
    assert len(rows) == len(plain)
    assert essence(again) == essence(rows)


def test_label_studio_takes_the_tasks_and_exports_them(plain: Any, select: Any, tmp_path: Path) -> None:
    rows = leave(select, "label_studio", tmp_path / "tasks.json")
    (tmp_path / "config.xml").write_text(LABEL_STUDIO_CONFIG)
    run(LABEL_STUDIO, tmp_path / "tasks.json", tmp_path / "out", tmp_path / "config.xml")
    (exported,) = (path for path in (tmp_path / "out").glob("*.json") if path.name != "in.json")
    written = json.loads(exported.read_text())
    assert len(rows) == len(plain)
    assert {row["prompt"] for row in written} >= {"Prompt 0", "Prompt 1", "Prompt 2"}
    assert {row["answer1"] for row in written} <= {row["data"]["answer1"] for row in rows}
