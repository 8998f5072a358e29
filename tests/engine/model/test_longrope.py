"""A position encoding that depends on the sequence's length: each sequence is computed as if it were alone."""

import json
from pathlib import Path

import pytest
import torch
import transformers

from tests.architectures.shapes import LONG, tiny_config
from tests.engine.conftest import make_model, make_tokenizer, numbered, pair_of_lengths
from training.engine.config import SamplingConfig, TrainConfig
from training.engine.errors import ConfigError
from training.engine.model.base import LoadedModel
from training.engine.model.longrope import Sides
from training.engine.rundir import write_jsonl
from training.engine.sample import sample
from training.engine.sampling.decoding import Decoder
from training.engine.sampling.grouping import Request
from training.engine.score import make_scorer, score_pairs


@pytest.fixture
def model() -> transformers.PreTrainedModel:
    return make_model(tiny_config("phi3"))


# Within the original length, up to it, on both sides of it, and beyond.
LENGTHS = [(5, 6, 4), (LONG - 4, 5, 5), (LONG - 4, 5, 6), (20, 30, 2), (40, 4, 8)]
PAIRS = [pair_of_lengths(*lengths) for lengths in LENGTHS]


def next_logps(model: transformers.PreTrainedModel, sequence: tuple[int, ...]) -> torch.Tensor:
    """Log-probabilities (T, V) by one plain forward."""
    with torch.no_grad():
        return model(input_ids=torch.tensor([sequence]), use_cache=False).logits[0].double().log_softmax(-1)


def make_loaded(model: transformers.PreTrainedModel) -> LoadedModel:
    return LoadedModel(model, None, torch.device("cpu"), model.dtype, frozenset({1}), 128)


@pytest.mark.parametrize("packing", ["on", "off"])
def test_a_pair_scores_the_same_beside_longer_ones(model: transformers.PreTrainedModel, packing: str) -> None:
    config = TrainConfig.from_dict({"base_model": "m", "packing": packing})
    scorer = make_scorer(make_loaded(model), config, PAIRS, pytest.fail)
    found = score_pairs(scorer, PAIRS)
    scorer.use("padded")  # which gives the model its own attention back
    for one, scores in zip(PAIRS, found.tolist(), strict=True):
        for completion, logp in zip((one.chosen, one.rejected), scores, strict=True):
            table = next_logps(model, (*one.prompt, *completion[:-1]))[len(one.prompt) - 1 :]
            true = table.gather(1, torch.tensor(completion)[:, None]).sum()
            assert logp == pytest.approx(float(true), abs=1e-3), one.id


def test_completions_are_those_of_one_prompt_alone(model: transformers.PreTrainedModel) -> None:
    prompts = [numbered(count, 5) for count in (4, LONG - 3, LONG, LONG + 1, 50, 12)]
    settings = SamplingConfig(max_new_tokens=8, temperature=0.0)
    written = Decoder(model, frozenset(), torch.device("cpu"), settings).write(
        [Request(one, 0) for one in prompts]
    )
    for prompt, one in zip(prompts, written, strict=True):
        sequence, logprob = prompt, 0.0
        for _ in range(settings.max_new_tokens):  # each token by a forward of all before it
            best = next_logps(model, sequence)[-1].max(dim=-1)
            sequence, logprob = (*sequence, int(best.indices)), logprob + float(best.values)
        assert one.token_ids == sequence[len(prompt) :], len(prompt)
        assert one.logprob == pytest.approx(logprob, abs=1e-3)


def test_a_completion_that_passes_the_length_is_kept(
    model: transformers.PreTrainedModel, make_run, tmp_path: Path
) -> None:
    model.save_pretrained(tmp_path / "model")
    make_tokenizer(bos=True).save_pretrained(tmp_path / "model")
    run = make_run(base_model=str(tmp_path / "model"), sampling={"max_new_tokens": 30})
    write_jsonl(run.prompts, [{"id": 1, "prompt": "the film was good"}, {"id": 2, "prompt": "bad"}])
    sample(run)
    written = [json.loads(line)["token_ids"] for line in run.samples.read_text().splitlines()]
    assert max(map(len, written)) > LONG - 8  # behind a prompt of at least that


def test_shard_refuses_pairs_that_must_be_computed_apart(model: transformers.PreTrainedModel) -> None:
    config = TrainConfig.from_dict({"base_model": "m", "shard": True})
    with pytest.raises(ConfigError, match="side by side"):
        make_scorer(make_loaded(model), config, PAIRS, pytest.fail)


def test_models_without_longrope_have_one_side() -> None:
    sides = Sides(tiny_config("llama"))
    assert {sides.side_of(length) for length in (1, LONG, LONG + 1, 10**6)} == {0}
    sides = Sides(tiny_config("phi3"))
    assert [sides.side_of(length) for length in (1, LONG, LONG + 1)] == [0, 0, 1]
    assert [sides.is_first(length) for length in (LONG, LONG + 1, LONG + 2)] == [False, True, False]
