"""Files of a model or an adapter that are damaged end a run with one sentence, and the directory stays usable."""

import json
import shutil
from contextlib import nullcontext
from pathlib import Path
from unittest import mock

import pytest
import transformers

from tests.engine.conftest import SHAPE, make_model, make_tokenizer, tiny_llama
from training.engine.config import TrainConfig
from training.engine.errors import ModelError, first_line
from training.engine.model.base import load_base, model_files
from training.engine.model.files import find_model
from training.engine.rundir import write_jsonl
from training.engine.sample import sample
from training.engine.score import score
from training.engine.train import train


def cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-100])


def emptied(path: Path) -> None:
    path.write_bytes(b"")


def nonsense(path: Path) -> None:
    path.write_text("{}")


def pointer(path: Path) -> None:
    path.write_text("version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 1\n")


def folder_with(tiny_model: Path, folder: Path, files: list[str]) -> Path:
    """Copy the files of `tiny_model`, without those after a minus, and with those after a plus, empty."""
    shutil.copytree(tiny_model, folder)
    for name in files:
        (folder / name[1:]).unlink() if name.startswith("-") else (folder / name[1:]).touch()
    return folder


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


DEEP = '{"a":' * 100_000 + "1" + "}" * 100_000


@pytest.mark.parametrize("content", [DEEP, "[1]", "null", None], ids=["deep", "list", "null", "folder"])
@pytest.mark.parametrize(
    "name",
    [
        "config.json",
        "tokenizer_config.json",
        "generation_config.json",
        "special_tokens_map.json",
        "model.safetensors.index.json",
    ],
)
def test_json_that_is_no_object_is_one_sentence(
    tiny_model: Path, tmp_path: Path, name: str, content: str | None
) -> None:
    shutil.copytree(tiny_model, tmp_path / "model")
    if name == "model.safetensors.index.json":
        (tmp_path / "model" / "model.safetensors").unlink()
    file = tmp_path / "model" / name
    file.unlink(missing_ok=True)
    file.mkdir() if content is None else file.write_text(content)
    config = TrainConfig.from_dict({"base_model": str(tmp_path / "model")})
    is_needed = content is not None or name in ("config.json", "model.safetensors.index.json")
    says = pytest.raises(ModelError, match=r"^base_model .* cannot be loaded: [^\n]+\.$")
    with says if is_needed else nullcontext():
        model_files(config)
        load_base(config)


def test_weights_of_another_shape_are_named(tiny_model: Path, tmp_path: Path) -> None:
    shutil.copytree(tiny_model, tmp_path / "model")
    wider(tmp_path / "model" / "config.json")
    says = r"cannot be loaded: the matrix \S+ is \[.*\d+\], and \[.*64.*\] by its config.json; copy both"
    with pytest.raises(ModelError, match=says):
        load_base(TrainConfig.from_dict({"base_model": str(tmp_path / "model")}))


def test_fewer_layers_than_the_weights_have_are_refused(tiny_model: Path, tmp_path: Path) -> None:
    """The library leaves the others out, and half a model would be trained."""
    folder = shutil.copytree(tiny_model, tmp_path / "model")
    settings = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(settings | {"num_hidden_layers": 1}))
    says = r"its weights have model\.layers\.1\.\S+, for which its config\.json has no place; copy both"
    with pytest.raises(ModelError, match=says):
        load_base(TrainConfig.from_dict({"base_model": str(folder)}))


@pytest.mark.parametrize("called", ["num_nextn_predict_layers", "num_mtp_layers", "mtp_num_hidden_layers"])
def test_layers_of_multi_token_prediction_are_not_missed(
    tiny_model: Path, tmp_path: Path, called: str
) -> None:
    """DeepSeek and GLM keep them after the layers that the model has, under names of the same form."""
    folder = shutil.copytree(tiny_model, tmp_path / "model")
    settings = json.loads((folder / "config.json").read_text()) | {"num_hidden_layers": 1}
    config = TrainConfig.from_dict({"base_model": str(folder)})
    (folder / "config.json").write_text(json.dumps(settings | {called: 1}))
    assert load_base(config).base.config.num_hidden_layers == 1
    (folder / "config.json").write_text(json.dumps(settings | {called: 0}))
    with pytest.raises(ModelError, match=r"its weights have model\.layers\.1\."):
        load_base(config)


@pytest.mark.parametrize("damage", [cut, emptied])
def test_a_damaged_adapter_is_one_sentence_to_every_verb(make_run, tmp_path: Path, damage) -> None:
    run = make_run()
    train(run)
    shutil.copytree(run.adapter, tmp_path / "damaged")
    damage(tmp_path / "damaged" / "adapter_model.safetensors")
    other = make_run("other", start_adapter=str(tmp_path / "damaged"))
    write_jsonl(other.prompts, [{"id": 1, "prompt": "the"}])
    for verb in (train, score, sample):
        with pytest.raises(ModelError, match=r"^Adapter .*damaged cannot be loaded: .+"):
            verb(other)
    shutil.copytree(run.adapter, tmp_path / "damaged", dirs_exist_ok=True)
    train(other)
    assert other.adapter.is_dir()


NO_WEIGHTS = "-model.safetensors"
NO_TOKENIZER = ["-tokenizer.json", "-tokenizer_config.json"]


@pytest.mark.parametrize(
    ("files", "sentence"),
    [
        ([NO_WEIGHTS], "it holds no weights, and weights are read from model.safetensors or a GGUF file"),
        (
            [NO_WEIGHTS, "+pytorch_model.bin"],
            r"in pytorch_model.bin, .* convert them in Python: .*save_pretrained",
        ),
        (
            [NO_WEIGHTS, "+consolidated.safetensors"],
            "it holds consolidated.safetensors, and weights are read from",
        ),
        (
            [NO_WEIGHTS, "+model-00001-of-00002.safetensors"],
            "it holds no model.safetensors.index.json, which says",
        ),
        (
            [NO_WEIGHTS, "+a.Q4_0.gguf", "+b.gguf"],
            r"it holds a.Q4_0.gguf, b.gguf; name one of them, as .*/a.Q4_0.gguf",
        ),
        (["-config.json"], "it holds no config.json; copy that of the same model into it"),
        (NO_TOKENIZER, "it holds no tokenizer; copy tokenizer.json and tokenizer_config.json"),
        (
            [*NO_TOKENIZER, "+tokenizer.model"],
            "pip install sentencepiece( protobuf)?, or copy tokenizer.json into it",
        ),
        (["+adapter_config.json"], r"it holds an adapter \(adapter_config.json\)"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_a_folder_that_cannot_be_used_says_what_to_do(
    tiny_model: Path, tmp_path: Path, files: list[str], sentence: str
) -> None:
    folder = folder_with(tiny_model, tmp_path / "model", files)
    with pytest.raises(ModelError, match=rf"^base_model .*model cannot be loaded: .*{sentence}.*\.$") as told:
        load_base(TrainConfig.from_dict({"base_model": str(folder)}))
    assert "\n" not in str(told.value)


@pytest.mark.parametrize("name", ["model.safetensors", "tokenizer.json", "config.json"])
def test_a_pointer_of_git_lfs_is_named(tiny_model: Path, tmp_path: Path, name: str) -> None:
    shutil.copytree(tiny_model, tmp_path / "model")
    pointer(tmp_path / "model" / name)
    with pytest.raises(
        ModelError, match=f"{name} is a pointer of Git LFS and not the file; run git lfs pull"
    ):
        find_model(str(tmp_path / "model"), None)


def test_shards_that_are_missing_or_cut_are_named(tmp_path: Path) -> None:
    folder = tmp_path / "model"
    make_model(tiny_llama()).save_pretrained(folder, max_shard_size="40KB")
    make_tokenizer(bos=True).save_pretrained(folder)
    shards = sorted(folder.glob("model-*"))
    assert len(shards) > 2
    find_model(str(folder), None)
    cut(shards[1])
    with pytest.raises(ModelError, match=f"{shards[1].name} is damaged or cut short .*; copy it again"):
        find_model(str(folder), None)
    shards[1].unlink()
    with pytest.raises(
        ModelError, match=f"of the {len(shards)} files of its weights, it lacks {shards[1].name}"
    ):
        find_model(str(folder), None)
    (folder / "model.safetensors.index.json").write_text("[]")
    with pytest.raises(ModelError, match=r"index\.json is damaged; copy it again"):
        find_model(str(folder), None)


@pytest.mark.parametrize(
    ("method", "told"),
    [
        ({"quant_method": "zip"}, "its weights are quantized by zip, which transformers .* does not know"),
        # The library's own sentence where the package is not installed.
        ({"quant_method": "gptq", "bits": 4}, "requires optimum"),
        ({"quant_method": "bitsandbytes", "load_in_4bit": True}, "requires bitsandbytes"),
        ({"quant_method": "bitsandbytes", "load_in_8bit": True}, "requires bitsandbytes"),
    ],
)
def test_quantization_that_cannot_be_read_is_refused(
    method: dict[str, object], told: str, tiny_model: Path, tmp_path: Path
) -> None:
    shutil.copytree(tiny_model, tmp_path / "model")
    config = tmp_path / "model" / "config.json"
    config.write_text(json.dumps(json.loads(config.read_text()) | {"quantization_config": method}))
    with pytest.raises(ModelError, match=told):
        load_base(TrainConfig.from_dict({"base_model": str(tmp_path / "model")}))


def test_a_file_that_exists_is_not_said_not_to(tiny_model: Path) -> None:
    with pytest.raises(ModelError, match="is a file, but not a GGUF file; name the folder that it is in"):
        find_model(str(tiny_model / "model.safetensors"), None)
    with pytest.raises(ModelError, match="does not exist"):
        find_model(str(tiny_model / "gone"), None)


def test_a_tokenizer_beside_that_of_mistral_is_taken(tiny_model: Path, tmp_path: Path) -> None:
    folder = tmp_path / "model"
    make_model(transformers.MistralConfig(**SHAPE)).save_pretrained(folder)  # type: ignore[arg-type]
    make_tokenizer(bos=True).save_pretrained(folder)
    (folder / "tekken.json").write_text("{}")
    # As if mistral-common were installed, which vLLM brings: its tokenizer would have no chat template.
    with mock.patch(
        "transformers.integrations.mistral.tokenizer.is_mistral_common_available", return_value=True
    ):
        assert load_base(TrainConfig.from_dict({"base_model": str(folder)})).tokenizer.chat_template


@pytest.mark.parametrize(
    ("said", "line"),
    [
        ("One thing.\nAnother.", "One thing."),
        (
            "Errors in loading:\n\tsize mismatch for a: of 3\n\tsize",
            "Errors in loading: size mismatch for a: of 3",
        ),
        ("None of:\n(1) one,\n(2) two", "None of: (1) one, (2) two"),
        ("", "ValueError"),
        ("word " * 200, "word " * 99 + "…"),
    ],
)
def test_the_first_line_of_an_error_is_not_cut_at_a_colon(said: str, line: str) -> None:
    assert first_line(ValueError(said)) == line
