"""Architectures in bfloat16 on a GPU: mixtures of experts, hybrids, caps, windows and sinks. Skipped without one."""

import math
from pathlib import Path

import pytest
import torch

from tests.architectures.shapes import tiny_config
from tests.engine.conftest import make_model, make_tokenizer, read_metrics
from training.engine.rundir import write_jsonl
from training.engine.sample import sample
from training.engine.score import score
from training.engine.train import train

pytestmark = [
    pytest.mark.skipif(not torch.cuda.is_available(), reason="there is no GPU"),
    pytest.mark.filterwarnings("ignore"),
]
KINDS = """
    mixtral qwen3_moe deepseek_v3 gpt_oss llama4_text gemma2 gemma3_text gemma3n_text mistral jamba zamba2 falcon_h1
    granitemoehybrid nemotron_h qwen3_next lfm2
""".split()  # noqa: SIM905 - one line is easier to read than a dozen


@pytest.mark.parametrize("kind", KINDS)
def test_an_architecture_trains_scores_and_writes(kind: str, make_run, tmp_path: Path) -> None:
    """Each verb checks by itself that its way of computing agrees with a plain forward."""
    base = tmp_path / "base"
    make_model(tiny_config(kind)).bfloat16().save_pretrained(base)
    make_tokenizer(bos=True).save_pretrained(base)
    writing = {"max_new_tokens": 8, "samples_per_prompt": 2}
    run = make_run(base_model=str(base), dtype="bfloat16", sampling=writing)
    write_jsonl(run.prompts, [{"id": 1, "prompt": "the film"}, {"id": 2, "prompt": "it was long and dull"}])
    train(run)
    score(run)
    sample(run)
    metrics = read_metrics(run)
    assert metrics[0]["loss"] == pytest.approx(math.log(2), abs=1e-6)
    assert all(math.isfinite(row["loss"]) and math.isfinite(row["grad_norm"]) for row in metrics)
    done = run.read_done()
    print(kind, done["train"]["rows"], done["train"]["events"], done["sample"]["events"])
