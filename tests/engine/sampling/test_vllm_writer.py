"""vLLM, as far as it goes without a GPU."""

import json
from pathlib import Path

import pytest

from training.engine.config import SamplingConfig, TrainConfig
from training.engine.errors import ConfigError
from training.engine.sampling import vllm_writer
from training.engine.sampling.decoding import Generation


def config(backend: str) -> TrainConfig:
    return TrainConfig.from_dict({"base_model": "x", "device": "cpu", "sampling": {"backend": backend}})


def test_vllm_that_cannot_run_is_refused_only_if_asked_for() -> None:
    assert not vllm_writer.wanted(config("auto"), None)
    assert not vllm_writer.wanted(config("native"), None)
    with pytest.raises(ConfigError, match="vllm"):
        vllm_writer.wanted(config("vllm"), None)


def test_vllm_is_given_the_same_settings() -> None:
    settings = SamplingConfig(
        temperature=0.7, top_p=0.9, top_k=40, min_p=0.1, repetition_penalty=1.2, max_new_tokens=12
    )
    given = vllm_writer.parameters(settings, frozenset({9, 2}), seed=5)
    assert (
        given.items()
        >= {
            "n": 1,
            "temperature": 0.7,
            "top_p": 0.9,
            "top_k": 40,
            "min_p": 0.1,
            "repetition_penalty": 1.2,
            "max_tokens": 12,
            "seed": 5,
            "stop_token_ids": [2, 9],
            "detokenize": False,
        }.items()
    )
    stopping = vllm_writer.parameters(SamplingConfig(stop=("\n\n",)), frozenset({2}), seed=5)
    assert (stopping["stop"], stopping["detokenize"]) == (["\n\n"], True)


@pytest.mark.parametrize(("theirs", "ours"), [("stop", "stop"), ("length", "length"), (None, "length")])
def test_vllm_completions_become_ours(theirs: str | None, ours: str) -> None:
    class Completion:
        token_ids, cumulative_logprob, finish_reason = [4, 5, 2], -3.5, theirs

    assert vllm_writer.as_written(Completion()) == Generation((4, 5, 2), -3.5, ours)


@pytest.mark.parametrize(("rank", "reserved"), [(4, 8), (8, 8), (24, 32), (512, 512)])
def test_vllm_reserves_the_rank_that_holds_the_adapters(tmp_path: Path, rank: int, reserved: int) -> None:
    for shape in ({"r": rank}, {"r": 1, "rank_pattern": {"q_proj": rank}}):
        (tmp_path / "adapter_config.json").write_text(json.dumps(shape))
        assert vllm_writer.reserved_rank(tmp_path) == reserved


def test_vllm_takes_no_rank_above_its_largest(tmp_path: Path) -> None:
    (tmp_path / "adapter_config.json").write_text(json.dumps({"r": 513}))
    with pytest.raises(ConfigError, match="513"):
        vllm_writer.reserved_rank(tmp_path)
