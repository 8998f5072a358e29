"""Files of a model or an adapter that are damaged end a run with one sentence, and the directory stays usable."""

import json
import shutil
from pathlib import Path

import pytest

from training.engine.errors import ModelError
from training.engine.rundir import write_jsonl
from training.engine.sampling import sample
from training.engine.scoring import score
from training.engine.train import train


def cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-100])


def emptied(path: Path) -> None:
    path.write_bytes(b"")


def nonsense(path: Path) -> None:
    path.write_text("{}")


def wider(path: Path) -> None:
    path.write_text(json.dumps(json.loads(path.read_text()) | {"hidden_size": 64}))


@pytest.mark.parametrize(
    ("name", "damage"),
    [
        ("model.safetensors", cut),
        ("model.safetensors", emptied),
        ("model.safetensors", Path.unlink),
        ("tokenizer.json", cut),
        ("tokenizer.json", nonsense),
        ("config.json", cut),
        ("config.json", nonsense),
        ("config.json", wider),
    ],
    ids=lambda value: getattr(value, "__name__", value),
)
def test_a_damaged_model_is_one_sentence(
    make_run, tiny_model: Path, tmp_path: Path, name: str, damage
) -> None:
    model = tmp_path / "model"
    shutil.copytree(tiny_model, model)
    damage(model / name)
    run = make_run(base_model=str(model))
    with pytest.raises(ModelError, match=r"^base_model .*model cannot be loaded: .+") as told:
        train(run)
    assert "\n" not in str(told.value)
    shutil.copytree(tiny_model, model, dirs_exist_ok=True)
    train(run)
    assert run.adapter.is_dir()


@pytest.mark.parametrize("damage", [cut, emptied])
def test_a_damaged_adapter_is_one_sentence_to_every_verb(make_run, tmp_path: Path, damage) -> None:
    run = make_run()
    train(run)
    shutil.copytree(run.adapter, tmp_path / "damaged")
    damage(tmp_path / "damaged" / "adapter_model.safetensors")
    other = make_run("other", start_adapter=str(tmp_path / "damaged"))
    write_jsonl(other.prompts, [{"id": 1, "prompt": "the"}])
    for verb in (train, score, sample):
        with pytest.raises(ModelError, match=r"^Adapter .*damaged does not fit the base model: .+"):
            verb(other)
    shutil.copytree(run.adapter, tmp_path / "damaged", dirs_exist_ok=True)
    train(other)
    assert other.adapter.is_dir()
