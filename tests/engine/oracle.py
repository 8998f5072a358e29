"""A run's figures computed independently: plain PEFT on a fresh base, one forward of one sequence at a time."""

import json
import warnings
from pathlib import Path

import peft
import torch
import transformers
from torch import nn

from tests.engine.conftest import make_tokenizer, pair_lines
from training.engine.config import TrainConfig
from training.engine.data.tokens import EncodedPair, Encoder
from training.engine.records import read_pairs
from training.engine.rundir import RunDirectory, write_jsonl
from training.engine.sample import sample
from training.engine.score import score
from training.engine.train import train

SAMPLING = {"max_new_tokens": 4, "samples_per_prompt": 1, "temperature": 1.0}


def save_model(folder: Path, config: transformers.PreTrainedConfig, kind: type | None = None) -> Path:
    """Save a model with random weights, of the class that its files name, and a tokenizer."""
    torch.manual_seed(0)
    model = (kind or transformers.AutoModelForCausalLM).from_config(config)
    for weight in model.parameters():
        if weight.dim() > 1:
            nn.init.normal_(weight, std=0.1)
    model.save_pretrained(folder)
    make_tokenizer().save_pretrained(folder)
    return folder


def make_run(folder: Path, model: Path, **settings: object) -> RunDirectory:
    """Return a run directory with six pairs and two prompts, whose few steps change the policy by nats."""
    run = RunDirectory(folder)
    defaults: dict[str, object] = {
        "base_model": str(model),
        "batch_size": 3,
        "learning_rate": 2e-2,
        "dtype": "float32",
        "device": "cpu",
        "threads": 1,
        "lora": {"r": 2, "alpha": 8},
        "sampling": SAMPLING,
    }
    run.write_config(TrainConfig.from_dict(defaults | settings))
    write_jsonl(run.pairs, pair_lines(6))
    write_jsonl(run.heldout, pair_lines(3, seed=1))
    write_jsonl(run.prompts, [{"id": 1, "prompt": "the film"}, {"id": 2, "prompt": "it was long and"}])
    return run


def fresh(model: Path, adapter: Path | None = None) -> nn.Module:
    """Return the class that the files name, with the adapter that plain PEFT loads. No weight is missing."""
    (name,) = json.loads((model / "config.json").read_text())["architectures"]
    base = getattr(transformers, name).from_pretrained(model, dtype=torch.float32)
    if adapter is None:
        return base.eval()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        warnings.filterwarnings("error", ".*missing adapter keys.*")
        return peft.PeftModel.from_pretrained(base, adapter).eval()


@torch.no_grad()
def logp(model: nn.Module, prompt: tuple[int, ...], completion: tuple[int, ...]) -> float:
    """Return the completion's log-probability, by one forward of the sequence."""
    scores = (
        model(input_ids=torch.tensor([[*prompt, *completion]]), use_cache=False).logits[0].log_softmax(-1)
    )
    places = range(len(prompt) - 1, len(prompt) + len(completion) - 1)
    return sum(float(scores[place, token]) for place, token in zip(places, completion, strict=True))


def encode(run: RunDirectory) -> list[EncodedPair]:
    """Return the held-out pairs of a run as token ids."""
    tokenizer = transformers.AutoTokenizer.from_pretrained(run.read_config().base_model)
    encoder = Encoder(tokenizer, eos_ids=frozenset({1}), vocab_size=320, max_length=128)
    return encoder.encode_pairs(read_pairs(run.heldout))[0]


def check_run(run: RunDirectory) -> None:
    """Train, score and sample in `run`, and check all that it says against plain PEFT on a freshly loaded base."""
    config = run.read_config()
    model, start = Path(config.base_model), config.start_adapter and Path(config.start_adapter)
    train(run)
    score(run, run.heldout)
    sample(run)
    policy, reference = fresh(model, run.adapter), fresh(model, start)
    tokenizer = transformers.AutoTokenizer.from_pretrained(model)
    lines = [json.loads(line) for line in run.scores.read_text().splitlines()]
    margins = []
    for pair, line in zip(encode(run), lines, strict=True):
        figures = [
            logp(one, pair.prompt, completion)
            for one in (policy, reference)
            for completion in (pair.chosen, pair.rejected)
        ]
        names = (
            "policy_chosen_logp",
            "policy_rejected_logp",
            "reference_chosen_logp",
            "reference_rejected_logp",
        )
        assert_close([line[name] for name in names], figures)
        margins.append(config.beta * (figures[0] - figures[2] - figures[1] + figures[3]))
    assert max(map(abs, margins)) > 0.01  # the policy is another than its reference
    assert_close([run.read_done()["train"]["heldout"]["after"]["margin"]], [sum(margins) / len(margins)])
    for line in (json.loads(line) for line in run.samples.read_text().splitlines()):
        prompt = tuple(tokenizer("the film" if line["id"] == "1" else "it was long and").input_ids)
        assert_close([line["logprob"]], [logp(policy, prompt, tuple(line["token_ids"]))])


def assert_close(found: list[float], expected: list[float]) -> None:
    torch.testing.assert_close(torch.tensor(found), torch.tensor(expected), atol=2e-4, rtol=1e-5)
