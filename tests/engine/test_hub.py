"""What comes from the hub is known by its commit: here from a cache laid out by hand, without a network."""

import shutil
from pathlib import Path

import pytest
from huggingface_hub import constants

from tests.engine.conftest import make_model, make_tokenizer, tiny_llama
from training.engine.config import TrainConfig
from training.engine.errors import StaleCheckpointError
from training.engine.model import model_files
from training.engine.train import train

OLD, NEW = "0123456789abcdef" * 2 + "01234567", "fedcba9876543210" * 2 + "fedcba98"


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "hub"))
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    return tmp_path / "hub"


def publish(cache: Path, name: str, commit: str, folder: Path) -> None:
    """Lay `folder` down as `commit` of the repository `name`, and let main stand for it."""
    repository = cache / f"models--{name.replace('/', '--')}"
    shutil.copytree(folder, repository / "snapshots" / commit, dirs_exist_ok=True)
    (repository / "refs").mkdir(exist_ok=True)
    (repository / "refs" / "main").write_text(commit)


def files(**settings: object) -> dict[str, str]:
    return model_files(TrainConfig.from_dict({"base_model": "ada/tiny"} | settings))


def test_a_hub_model_is_named_by_the_commit_that_its_revision_stands_for(
    cache: Path, tiny_model: Path
) -> None:
    assert files(revision="v1") == {"base_model": "ada/tiny@v1"}  # nothing in the cache tells the commit
    assert files() == {"base_model": "ada/tiny@main"}
    publish(cache, "ada/tiny", OLD, tiny_model)
    (cache / "models--ada--tiny" / "refs" / "v1").write_text(OLD)
    assert files() == files(revision="v1") == files(revision=OLD) == {"base_model": f"ada/tiny@{OLD}"}
    publish(cache, "ada/tiny", NEW, tiny_model)
    assert files() == {"base_model": f"ada/tiny@{NEW}"}
    assert files(revision="v1") == {"base_model": f"ada/tiny@{OLD}"}


def test_a_start_adapter_from_the_hub_is_named_by_its_own_commit(
    cache: Path, tiny_model: Path, tmp_path: Path
) -> None:
    (tmp_path / "adapter").mkdir()
    (tmp_path / "adapter" / "adapter_config.json").write_text("{}")
    publish(cache, "ada/tiny", OLD, tiny_model)
    publish(cache, "bob/adapter", NEW, tmp_path / "adapter")
    found = files(revision=OLD, start_adapter="bob/adapter")
    assert found == {"base_model": f"ada/tiny@{OLD}", "start_adapter": f"bob/adapter@{NEW}"}
    assert files(start_adapter="eve/adapter", revision=OLD)["start_adapter"] == "eve/adapter@main"


def test_checkpoints_are_refused_when_main_has_moved_to_other_weights(
    cache: Path, tiny_model: Path, tmp_path: Path, make_run
) -> None:
    publish(cache, "ada/tiny", OLD, tiny_model)
    run = make_run(base_model="ada/tiny")
    train(run)
    moved = make_model(tiny_llama())
    moved.lm_head.weight.data[0, 0] += 1
    moved.save_pretrained(tmp_path / "moved")
    make_tokenizer(bos=True).save_pretrained(tmp_path / "moved")
    publish(cache, "ada/tiny", NEW, tmp_path / "moved")
    with pytest.raises(StaleCheckpointError, match="belong to another model"):
        train(run)
