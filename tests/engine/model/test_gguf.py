"""Models in GGUF files: the weights and the tokenizer that are in them, quantized or not."""

import json
import shutil
from pathlib import Path
from typing import Any

import gguf
import peft
import pytest
import torch
import transformers
from safetensors.torch import load_file

from tests.engine.adapters.test_start_adapters import save_foreign
from tests.engine.conftest import BOS, CHAT_TEMPLATE, EOS, SHAPE, TURN, make_model, make_tokenizer
from training.engine.__main__ import main
from training.engine.adapters.settings import PRECISIONS
from training.engine.config import TrainConfig
from training.engine.errors import ConfigError, ModelError
from training.engine.model.base import load_base, model_files
from training.engine.model.files import find_model
from training.engine.rundir import RunDirectory, read_jsonl, write_jsonl
from training.engine.sample import sample
from training.engine.train import train

NAMES = {
    "model.embed_tokens.weight": "token_embd.weight",
    "model.norm.weight": "output_norm.weight",
    "lm_head.weight": "output.weight",
    "input_layernorm": "attn_norm",
    "post_attention_layernorm": "ffn_norm",
    "self_attn.q_proj": "attn_q",
    "self_attn.k_proj": "attn_k",
    "self_attn.v_proj": "attn_v",
    "self_attn.o_proj": "attn_output",
    "mlp.gate_proj": "ffn_gate",
    "mlp.up_proj": "ffn_up",
    "mlp.down_proj": "ffn_down",
    "model.layers": "blk",
}


def qwen2() -> Any:
    return make_model(transformers.Qwen2Config(**SHAPE))  # type: ignore[arg-type]


def write_gguf(
    path: Path, model: Any, *, quantized: str = "", template: str = CHAT_TEMPLATE
) -> dict[str, torch.Tensor]:
    """Write a model of Qwen2's shape with the tests' tokenizer and return the weights that the file holds.

    `quantized` is the part of a weight's name that is stored in 8 bits.
    """
    tokenizer = make_tokenizer()
    parts = json.loads(tokenizer.backend_tokenizer.to_str())["model"]
    tokens = sorted(tokenizer.get_vocab(), key=tokenizer.get_vocab().__getitem__)
    special = set(tokenizer.get_added_vocab())
    path.parent.mkdir(parents=True, exist_ok=True)
    writer = gguf.GGUFWriter(path, "qwen2")
    writer.add_context_length(model.config.max_position_embeddings)
    writer.add_embedding_length(model.config.hidden_size)
    writer.add_block_count(model.config.num_hidden_layers)
    writer.add_feed_forward_length(model.config.intermediate_size)
    writer.add_head_count(model.config.num_attention_heads)
    writer.add_head_count_kv(model.config.num_key_value_heads)
    writer.add_rope_freq_base(model.config.rope_parameters["rope_theta"])
    writer.add_layer_norm_rms_eps(model.config.rms_norm_eps)
    writer.add_vocab_size(model.config.vocab_size)
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre("gpt-2")
    writer.add_token_list(tokens)
    writer.add_token_types([3 if token in special else 1 for token in tokens])
    writer.add_token_merges([" ".join(merge) for merge in parts["merges"]])
    writer.add_bos_token_id(tokenizer.convert_tokens_to_ids(BOS))
    writer.add_eos_token_id(tokenizer.convert_tokens_to_ids(EOS))
    writer.add_chat_template(template)
    held = {}
    for name, weight in model.state_dict().items():
        content, stored = weight.numpy(), None
        if quantized and quantized in name:
            stored = gguf.GGMLQuantizationType.Q8_0
            content = gguf.quantize(content, stored)
        held[name] = torch.from_numpy(gguf.dequantize(content, stored) if stored else content.copy())
        for ours, theirs in NAMES.items():
            name = name.replace(ours, theirs)  # noqa: PLW2901
        writer.add_tensor(name, content, raw_dtype=stored)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return held


def test_training_on_a_gguf_file_is_training_on_its_model(make_run, tmp_path: Path) -> None:
    model = qwen2()
    model.save_pretrained(tmp_path / "folder")
    make_tokenizer().save_pretrained(tmp_path / "folder")
    write_gguf(tmp_path / "models" / "tiny.F32.gguf", model)
    adapters = {}
    for name in ("folder", "models", "models/tiny.F32.gguf"):
        short = {"max_new_tokens": 8}
        run = make_run(f"run-{Path(name).name}", base_model=str(tmp_path / name), sampling=short)
        write_jsonl(run.prompts, [{"id": 1, "prompt": [{"role": "user", "content": "the film"}], "n": 1}])
        train(run)
        sample(run)
        written = json.loads(run.samples.read_text())
        adapters[name] = load_file(run.adapter / "adapter_model.safetensors"), written
    weights_of_folder, of_folder = adapters["folder"]
    for weights, written in adapters.values():
        torch.testing.assert_close(weights, weights_of_folder)
        # The weights may lie elsewhere in memory, and be added up in another order.
        assert written["logprob"] == pytest.approx(of_folder["logprob"], abs=1e-4)
        assert written | {"logprob": None} == of_folder | {"logprob": None}
    assert set(run.read_done()["train"]["inputs"]) >= {"base_model/tiny.F32.gguf"}
    settings = json.loads((run.adapter / "adapter_config.json").read_text())
    assert settings["base_model_name_or_path"] == str(tmp_path / "models/tiny.F32.gguf")


def test_quantized_weights_are_unpacked_to_what_they_stand_for(tmp_path: Path) -> None:
    held = write_gguf(tmp_path / "tiny.Q8_0.gguf", qwen2(), quantized="q_proj.weight")
    loaded = load_base(TrainConfig.from_dict({"base_model": str(tmp_path), "dtype": "float32"}))
    for name, weight in loaded.base.state_dict().items():
        torch.testing.assert_close(weight, held[name], rtol=0, atol=0)
    assert (
        loaded.tokenizer("the film was $46")["input_ids"] == make_tokenizer()("the film was $46")["input_ids"]
    )
    assert loaded.tokenizer.chat_template == CHAT_TEMPLATE
    assert loaded.eos_ids == {1}


def read_with(tokenizer: Any, path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """Return the tokenizer of a file that the library reads as `tokenizer`."""
    write_gguf(path, qwen2())
    monkeypatch.setattr(transformers.AutoTokenizer, "from_pretrained", lambda *_paths, **_options: tokenizer)
    return load_base(TrainConfig.from_dict({"base_model": str(path)}))


def test_texts_end_as_the_file_names_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Transformers 5.17 names one of its own, and a round would train the model to write it."""
    other = make_tokenizer()
    other.eos_token = TURN
    loaded = read_with(other, tmp_path / "tiny.gguf", monkeypatch)
    assert (loaded.tokenizer.eos_token, loaded.tokenizer.eos_token_id) == (EOS, 1)
    assert loaded.eos_ids == {1}
    assert loaded.tokenizer(f"the film{EOS}")["input_ids"][-1] == 1


def test_an_end_that_is_another_token_here_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    other = make_tokenizer()
    content = other.backend_tokenizer.to_str().replace(f'"{EOS}"', '"<|other|>"')
    shifted = transformers.PreTrainedTokenizerFast(
        tokenizer_object=other.backend_tokenizer.from_str(content), bos_token=BOS, eos_token=TURN
    )
    with pytest.raises(
        ModelError, match=r"texts end with </s>, which transformers .* reads as <\|other\|>; install"
    ):
        read_with(shifted, tmp_path / "tiny.gguf", monkeypatch)


def test_what_a_gguf_file_cannot_be_used_for_is_a_sentence(tmp_path: Path) -> None:
    path = tmp_path / "tiny.gguf"
    write_gguf(path, qwen2())
    whole = path.read_bytes()

    def told(name: Path) -> str:
        with pytest.raises(ModelError) as refused:
            find_model(str(name), None)
        return str(refused.value).removeprefix(f"base_model {name} cannot be loaded: ")

    for content in (whole[:-100], whole[:1000], b"GGUF", whole.replace(b"GGUF", b"GGML", 1)):
        path.write_bytes(content)
        assert told(path).startswith("tiny.gguf is damaged or cut short; copy it again")
    path.write_bytes(b"version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 1\n")
    assert told(path) == "tiny.gguf is a pointer of Git LFS and not the file; run git lfs pull in its folder."
    path.write_bytes(whole)
    shutil.copy(path, tmp_path / "tiny.Q4_1.gguf")
    assert (
        told(tmp_path)
        == f"it holds tiny.Q4_1.gguf, tiny.gguf; name one of them, as {tmp_path}/tiny.Q4_1.gguf."
    )
    assert told(tmp_path / "gone.gguf").endswith("it is neither a file, nor a folder, nor a hub id.")
    path.rename(tmp_path / "tiny-00001-of-00002.gguf")
    assert "join them" in told(tmp_path / "tiny-00001-of-00002.gguf")
    settings = {"base_model": str(tmp_path / "tiny.Q4_1.gguf"), "quantization": "nf4"}
    with pytest.raises(ConfigError, match="quantization has no effect"):
        load_base(TrainConfig.from_dict(settings))


@pytest.mark.parametrize(
    ("metadata", "reason"),
    [
        ({"general.type": "adapter"}, "tiny.gguf is an adapter; name the base model that it belongs to."),
        ({"general.type": "mmproj"}, "tiny.gguf only encodes images or sound; name the file of the model"),
        ({"general.type": "imatrix"}, "tiny.gguf is not a model: its general.type is imatrix."),
        ({"split.count": 3}, "tiny.gguf is one of 3 parts; join them with llama-gguf-split --merge."),
        ({}, "tiny.gguf holds no tokenizer; name a file that has one"),
        ({"tokens": True}, "tiny.gguf holds a vocabulary and no weights; name the file of the model."),
    ],
    ids=["adapter", "mmproj", "imatrix", "part", "no-tokenizer", "no-weights"],
)
def test_a_gguf_file_that_is_not_a_model_is_refused(tmp_path: Path, metadata: dict, reason: str) -> None:
    writer = gguf.GGUFWriter(tmp_path / "tiny.gguf", "llama")
    for name, value in metadata.items():
        if name == "tokens":
            writer.add_token_list(["a", "b"])
        elif isinstance(value, str):
            writer.add_string(name, value)
        else:
            writer.add_uint16(name, value)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    with pytest.raises(ModelError) as refused:
        find_model(str(tmp_path / "tiny.gguf"), None)
    assert reason in str(refused.value)


def test_parts_of_a_model_in_a_folder_are_to_be_joined(tmp_path: Path) -> None:
    for part in (1, 2):
        (tmp_path / f"tiny-0000{part}-of-00002.gguf").write_bytes(b"GGUF")
    with pytest.raises(ModelError, match="parts of a model; join them with llama-gguf-split --merge"):
        find_model(str(tmp_path), None)


def test_chats_are_written_in_the_template_of_the_file(make_run, tmp_path: Path) -> None:
    template = "{% for one in messages %}{{ one['content'] }} was {% endfor %}"
    write_gguf(tmp_path / "tiny.gguf", qwen2(), template=template)
    run = make_run("run", base_model=str(tmp_path), sampling={"max_new_tokens": 2})
    write_jsonl(run.prompts, [{"id": 1, "prompt": [{"role": "user", "content": "the film"}], "n": 1}])
    sample(run)
    [(_, row)] = read_jsonl(run.samples)
    assert row["prompt_token_ids"] == make_tokenizer()("the film was ")["input_ids"]


def test_a_file_is_unpacked_into_a_folder_once_and_whole(tmp_path: Path, capsys) -> None:
    file, folder = tmp_path / "tiny.Q8_0.gguf", tmp_path / "models" / "tiny"
    held = write_gguf(file, qwen2(), quantized="q_proj.weight")
    assert main(["unpack", str(file), str(folder)]) == 0
    stored = load_file(folder / "model.safetensors")
    assert set(held) - set(stored) <= {"lm_head.weight"}  # tied to the embeddings
    for name, weight in stored.items():
        torch.testing.assert_close(weight, held[name].to(torch.bfloat16), rtol=0, atol=0)
    loaded = load_base(TrainConfig.from_dict({"base_model": str(folder)}))
    assert loaded.tokenizer.chat_template == CHAT_TEMPLATE
    assert loaded.eos_ids == {1}

    assert main(["unpack", str(file), str(folder)]) == 3
    assert "exists already; name a folder that does not." in capsys.readouterr().err
    file.write_bytes(file.read_bytes()[:-100])
    assert main(["unpack", str(file), str(tmp_path / "models" / "other")]) == 5
    assert "damaged or cut short" in capsys.readouterr().err
    assert main(["unpack", str(folder), str(tmp_path / "models" / "other")]) == 3
    assert "is not a GGUF file, nor a folder with one." in capsys.readouterr().err
    assert list((tmp_path / "models").iterdir()) == [folder]


def test_another_quantization_of_a_model_is_another_model(tmp_path: Path) -> None:
    for name in ("a", "b"):
        write_gguf(tmp_path / f"{name}.gguf", qwen2(), quantized="q_proj.weight" if name == "b" else "")
    one, other = (
        model_files(TrainConfig.from_dict({"base_model": str(tmp_path / f"{name}.gguf")}))
        for name in ("a", "b")
    )
    assert set(one) == {"base_model/a.gguf"}
    assert set(one.values()) != set(other.values())


def merge_run(tmp_path: Path) -> tuple[RunDirectory, dict[str, torch.Tensor]]:
    """Return a run directory to merge, of a GGUF file with an adapter, and the weights that the file holds."""
    model, file = qwen2(), tmp_path / "tiny.Q8_0.gguf"
    model.save_pretrained(tmp_path / "folder")
    held = write_gguf(file, model, quantized="q_proj.weight")
    adapter = save_foreign(tmp_path / "folder", tmp_path / "foreign", target_modules=["q_proj", "down_proj"])
    run = RunDirectory(tmp_path / "run")
    config = {"base_model": str(file), "start_adapter": str(adapter)}
    run.write_config(TrainConfig.from_dict(config))
    return run, held


@pytest.mark.filterwarnings("ignore")  # PEFT's, of the adapter that is made here
@pytest.mark.parametrize("precision", PRECISIONS)
def test_an_adapter_is_merged_into_a_gguf_file(precision: str, tmp_path: Path) -> None:
    run, held = merge_run(tmp_path)
    out, written = tmp_path / "merged", "float16" if precision == "base" else precision
    assert main(["merge", str(run.root), str(out), "--dtype", precision]) == 0
    assert run.read_done()["merge"]["dtype"] == written
    assert json.loads((out / "config.json").read_text())["dtype"] == written
    assert {str(one.dtype) for one in load_file(out / "model.safetensors").values()} == {f"torch.{written}"}
    base = qwen2()
    base.load_state_dict(held)
    adapter = str(run.read_config().start_adapter)
    policy = peft.PeftModel.from_pretrained(base, adapter).merge_and_unload()
    merged = transformers.AutoModelForCausalLM.from_pretrained(out, dtype=torch.float32)
    with torch.inference_mode():
        ids = torch.tensor([[5, 9, 40, 17, 300, 22]])
        found, wanted = merged(ids).logits, policy(ids).logits
    torch.testing.assert_close(found, wanted, rtol=0, atol=1e-5 if written == "float32" else 0.02)
    assert load_base(TrainConfig.from_dict({"base_model": str(out)})).tokenizer.chat_template == CHAT_TEMPLATE


@pytest.mark.filterwarnings("ignore")
def test_what_float16_cannot_hold_of_a_gguf_file_is_named(tmp_path: Path, capsys) -> None:
    """Such files are written in it where no other precision is asked for."""
    run, _ = merge_run(tmp_path)
    model = qwen2()
    model.model.norm.weight.data.mul_(1e6)
    write_gguf(tmp_path / "tiny.Q8_0.gguf", model)
    assert main(["merge", str(run.root), str(tmp_path / "merged")]) == ModelError.exit_code
    assert "Weight model.norm.weight has values beyond 65,504" in capsys.readouterr().err
    assert main(["merge", str(run.root), str(tmp_path / "merged"), "--dtype", "float32"]) == 0
