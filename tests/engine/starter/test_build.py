"""The starter model as it lies in the repository, and how it is made."""

import json
import statistics
from pathlib import Path

import pytest
import torch
import transformers
from safetensors import safe_open

from training.engine.config import SamplingConfig, TrainConfig
from training.engine.records import SamplingPrompt
from training.engine.sample import Sample, write_samples
from training.engine.sampling.decoding import Decoder
from training.engine.starter import build
from training.engine.starter.reviews import distinct_2, openings, reward

HOME = Path(build.__file__).parents[2] / "starter"


@pytest.fixture(scope="module")
def tokenizer() -> transformers.PreTrainedTokenizerFast:
    return transformers.AutoTokenizer.from_pretrained(HOME)


@pytest.fixture(scope="module")
def samples(tokenizer: transformers.PreTrainedTokenizerFast) -> list[Sample]:
    """Two completions for each of 150 openings."""
    model = transformers.AutoModelForCausalLM.from_pretrained(HOME, dtype=torch.float32).eval()
    settings = SamplingConfig(max_new_tokens=96)
    writer = Decoder(model, frozenset({tokenizer.eos_token_id}), torch.device("cpu"), settings)
    prompts = [
        (SamplingPrompt(str(number), text), tuple(tokenizer(text).input_ids))
        for number, text in enumerate(openings(150, seed=1))
    ]
    return write_samples(writer, tokenizer, prompts, settings)


def test_the_weights_are_half_precision_and_small() -> None:
    weights = HOME / "model.safetensors"
    assert weights.stat().st_size <= 3 << 20
    with safe_open(weights, "pt") as stored:
        assert {stored.get_slice(name).get_dtype() for name in stored.keys()} == {"F16"}  # noqa: SIM118 - not a dict
    config = transformers.AutoConfig.from_pretrained(HOME)
    assert (config.model_type, config.vocab_size) == ("llama", build.VOCABULARY)


def test_texts_begin_with_one_bos_and_come_back_unchanged(
    tokenizer: transformers.PreTrainedTokenizerFast,
) -> None:
    for text in (openings(1)[0], "Naïve — 今日は 🎬\n\n  two  spaces "):
        ids = tokenizer(text).input_ids
        assert ids.count(tokenizer.bos_token_id) == 1
        assert ids[0] == tokenizer.bos_token_id
        assert tokenizer.decode(ids, skip_special_tokens=True) == text
    assert len({tokenizer.bos_token_id, tokenizer.eos_token_id, tokenizer.pad_token_id}) == 3


def test_every_sample_ends_itself_at_a_sensible_length(samples: list[Sample]) -> None:
    assert {one.generation.finish_reason for one in samples} == {"stop"}
    assert 30 <= statistics.mean(len(one.generation.token_ids) for one in samples) <= 60
    assert all(one.text.startswith(" ") and one.text.endswith(".") for one in samples)


def test_samples_praise_as_often_as_they_blame_and_differ(samples: list[Sample]) -> None:
    rewards = [reward(one.text) for one in samples]
    assert abs(statistics.mean(rewards)) < 0.1
    assert statistics.pstdev(rewards) > 0.5
    pairs = list(zip(rewards[::2], rewards[1::2], strict=True))
    assert statistics.mean(first != second for first, second in pairs) > 0.7
    assert distinct_2(one.text for one in samples) > 0.15


def test_recommended_settings_are_ones_that_the_engine_takes() -> None:
    recommended = json.loads((HOME / "recommended.json").read_text())
    TrainConfig.from_dict(
        {"base_model": str(HOME), **recommended["training"], "sampling": recommended["sampling"]}
    )


def test_same_seed_builds_the_same_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, few in (("HELD_OUT", 20), ("SHOWN", 3), ("BATCH", 8), ("THREADS", 1)):
        monkeypatch.setattr(build, name, few)

    def built(name: str, seed: int) -> dict[str, bytes]:
        build.build(tmp_path / name, seed=seed, steps=2)
        return {file.name: file.read_bytes() for file in (tmp_path / name).iterdir()}

    first, second, other = built("first", 0), built("second", 0), built("other", 1)
    assert first == second
    assert {"model.safetensors", "tokenizer.json", "generation_config.json", "README.md"} <= set(first)
    assert other["model.safetensors"] != first["model.safetensors"]
    assert "nats per token" in first["README.md"].decode()
