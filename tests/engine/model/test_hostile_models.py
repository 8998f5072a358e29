"""Model folders made to run code, or to load what was not named: neither happens, whatever is answered."""

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from training.engine.config import TrainConfig
from training.engine.errors import ConfigError, ModelError
from training.engine.model.base import load_base

CODE = """
import os, pathlib
pathlib.Path(os.environ["MARKER"]).touch()
from transformers import {base} as Base
class Hostile(Base):
    model_type = "hostile"
"""
# Loads every folder below its argument, and answers each question with yes: standard input says so.
LOAD_ALL = """
import json, sys
from pathlib import Path
from training.engine.config import TrainConfig
from training.engine.errors import EngineError
from training.engine.model.base import load_base
said = {}
for folder in sorted(Path(sys.argv[1]).iterdir()):
    try:
        loaded = load_base(TrainConfig.from_dict({"base_model": str(folder)}))
        said[folder.name] = "loaded with " + loaded.base.config._attn_implementation
    except EngineError as error:
        said[folder.name] = str(error)
print(json.dumps(said))
"""


def change(path: Path, **fields: Any) -> None:
    path.write_text(json.dumps(json.loads(path.read_text()) | fields))


def own_config(folder: Path) -> None:
    (folder / "hostile.py").write_text(CODE.format(base="LlamaConfig"))
    change(folder / "config.json", model_type="hostile", auto_map={"AutoConfig": "hostile.Hostile"})


def own_model(folder: Path) -> None:
    (folder / "hostile.py").write_text(CODE.format(base="LlamaForCausalLM"))
    change(folder / "config.json", auto_map={"AutoModelForCausalLM": "hostile.Hostile"})


def own_tokenizer(folder: Path) -> None:
    (folder / "hostile.py").write_text(CODE.format(base="PreTrainedTokenizerFast"))
    settings = {"tokenizer_class": "Hostile", "auto_map": {"AutoTokenizer": [None, "hostile.Hostile"]}}
    change(folder / "tokenizer_config.json", **settings)


def own_generate(folder: Path) -> None:
    (folder / "custom_generate").mkdir()
    code = "import os, pathlib\npathlib.Path(os.environ['MARKER']).touch()\ndef generate(model): pass\n"
    (folder / "custom_generate" / "generate.py").write_text(code)


def kernel(folder: Path) -> None:
    change(folder / "config.json", attn_implementation="eve/kernel")


def adapter(folder: Path) -> None:
    (folder / "adapter_config.json").write_text(
        '{"base_model_name_or_path": "/elsewhere", "peft_type": "LORA"}'
    )


def adapter_weights(folder: Path) -> None:
    (folder / "adapter_model.bin").write_bytes(b"")


HOSTILE: tuple[Callable[[Path], None], ...] = (
    own_config, own_model, own_tokenizer, own_generate, kernel, adapter, adapter_weights,
)  # fmt: skip


def test_no_model_folder_runs_code_or_names_another_model(tiny_model: Path, tmp_path: Path) -> None:
    folders, marker = tmp_path / "models", tmp_path / "code-ran"
    for spoil in HOSTILE:
        shutil.copytree(tiny_model, folders / spoil.__name__)
        spoil(folders / spoil.__name__)
    done = subprocess.run(
        [sys.executable, "-c", LOAD_ALL, str(folders)],
        input="y\n" * 100,
        capture_output=True,
        text=True,
        env=os.environ | {"MARKER": str(marker), "HF_MODULES_CACHE": str(tmp_path / "cache")},
        check=True,
    )
    said = json.loads(done.stdout.splitlines()[-1])
    assert not marker.exists()
    assert "brings code for its type hostile, which is never run here" in said["own_config"]
    # The library's own classes are taken where it has them, as for any other folder.
    assert {said[name] for name in ("own_model", "own_generate", "kernel")} == {"loaded with sdpa"}
    assert "holds an adapter (adapter_config.json)" in said["adapter"]
    assert "holds an adapter (adapter_model.bin)" in said["adapter_weights"]


@pytest.mark.parametrize("kind", [None, "", ["llama"], {}], ids=str)
def test_own_code_without_a_type_is_refused(tiny_model: Path, tmp_path: Path, kind: Any) -> None:
    folder = tmp_path / "model"
    shutil.copytree(tiny_model, folder)
    change(folder / "config.json", model_type=kind, auto_map={"AutoConfig": "hostile.Hostile"})
    with pytest.raises(
        ModelError,
        match=r"brings code of its own, which is never .* its config.json names no model_type; name",
    ):
        load_base(TrainConfig.from_dict({"base_model": str(folder)}))


def test_a_hub_id_never_opens_a_folder_of_that_name(
    tiny_model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shutil.copytree(tiny_model, tmp_path / "ada" / "tiny")
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ConfigError, match=r"write \./ada/tiny for the folder"):
        load_base(TrainConfig.from_dict({"base_model": "ada/tiny"}))
    load_base(TrainConfig.from_dict({"base_model": "./ada/tiny"}))


def test_a_hub_repository_that_is_an_adapter_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from huggingface_hub import constants

    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path))
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    commit = "0123456789" * 4
    snapshot = tmp_path / "models--bob--adapter" / "snapshots" / commit
    snapshot.mkdir(parents=True)
    adapter(snapshot)
    (tmp_path / "models--bob--adapter" / "refs").mkdir()
    (tmp_path / "models--bob--adapter" / "refs" / "main").write_text(commit)
    with pytest.raises(ModelError, match=r"^base_model bob/adapter cannot be loaded: it holds an adapter"):
        load_base(TrainConfig.from_dict({"base_model": "bob/adapter"}))
