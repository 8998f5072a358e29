"""Our losses beside TRL's: five steps of both trainers on the same pairs, from the same adapter, in float32.

TRL runs in an environment of its own, which `make test-real` makes. The two sides share nothing but files.
"""

import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
import safetensors.torch
import torch
import transformers

from benchmarks import sides
from tests.engine.conftest import make_model, make_tokenizer, pair_lines, read_metrics, tiny_llama
from training.engine.adapters.loading import load_policy, save_adapter
from training.engine.config import TrainConfig
from training.engine.data.tokens import Encoder
from training.engine.optimize.task import epoch_order
from training.engine.records import read_pairs
from training.engine.rundir import RunDirectory, write_json, write_jsonl
from training.engine.train import train

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]

STEPS, BATCH, SEED, RATE = 5, 4, 0, 1e-2
TEMPLATE = (
    "<s>{% for message in messages %}<|turn|>{{ message['role'] }}\n{{ message['content'] }}</s>{% endfor %}"
    "{% if add_generation_prompt %}<|turn|>assistant\n{% endif %}"
)
METRICS = (
    "loss",
    "logps/chosen",
    "logps/rejected",
    "rewards/chosen",
    "rewards/rejected",
    "rewards/margins",
    "rewards/accuracies",
    "grad_norm",
    "learning_rate",
)
# TRL logs the sums of log-probabilities as rewards, even for losses of means. Ours are what the loss uses.
NO_REWARDS = tuple(name for name in METRICS if not name.startswith("rewards"))


@dataclass(frozen=True, kw_only=True)
class Case:
    """A loss under our settings, and the same under TRL's."""

    ours: dict[str, Any]
    theirs: dict[str, Any]
    trainer: str = "dpo"
    metrics: tuple[str, ...] = METRICS
    # Pairs of one forward of TRL: its mean over tokens is of these.
    micro: int = BATCH
    renamed: dict[str, str] = field(default_factory=dict)


CASES = {
    "sigmoid": Case(ours={}, theirs={}),
    "sigmoid-strong": Case(ours={"beta": 0.5}, theirs={"beta": 0.5}),
    "sigmoid-rmsprop": Case(
        # Its first step is ten times the rate.
        ours={"optimizer": "rmsprop", "schedule": "constant", "learning_rate": RATE / 10},
        theirs={"optim": "rmsprop", "lr_scheduler_type": "constant", "learning_rate": RATE / 10},
    ),
    "sigmoid-decay": Case(
        ours={"weight_decay": 0.3, "schedule": "cosine", "max_grad_norm": 0.05},
        theirs={"weight_decay": 0.3, "lr_scheduler_type": "cosine", "max_grad_norm": 0.05},
    ),
    "sigmoid_norm": Case(
        ours={"loss": "sigmoid_norm", "beta": 5.0},
        theirs={"loss_type": ["sigmoid_norm"], "beta": 5.0},
        metrics=NO_REWARDS,
    ),
    "ipo_norm": Case(ours={"loss": "ipo_norm"}, theirs={"loss_type": ["ipo"]}, metrics=NO_REWARDS),
    "hinge": Case(ours={"loss": "hinge"}, theirs={"loss_type": ["hinge"]}),
    "robust": Case(
        ours={"loss": "robust", "label_smoothing": 0.2},
        theirs={"loss_type": ["robust"], "label_smoothing": 0.2},
    ),
    "apo_zero": Case(ours={"loss": "apo_zero"}, theirs={"loss_type": ["apo_zero"]}),
    "apo_down": Case(ours={"loss": "apo_down"}, theirs={"loss_type": ["apo_down"]}),
    "nll": Case(
        ours={"nll_weight": 0.7},
        theirs={"loss_type": ["sigmoid", "sft"], "loss_weights": [1.0, 0.7]},
        micro=1,
    ),
    "simpo": Case(
        ours={"loss": "simpo", "beta": 2.0, "simpo_gamma": 0.8},
        theirs={"loss_type": "simpo", "beta": 2.0, "simpo_gamma": 0.8, "cpo_alpha": 0.0},
        trainer="cpo",
        metrics=("loss", "rewards/chosen", "rewards/rejected", "rewards/margins", "grad_norm"),
    ),
    "kto": Case(
        ours={"loss": "kto", "desirable_weight": 1.5, "undesirable_weight": 0.8},
        theirs={"desirable_weight": 1.5, "undesirable_weight": 0.8},
        trainer="kto",
        metrics=("loss", "logps/chosen", "logps/rejected", "rewards/chosen", "rewards/rejected", "z0"),
        renamed={"z0": "kl"},
    ),
}


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Path of a chat model whose turns end with EOS and nothing behind it."""
    path = tmp_path_factory.mktemp("trl") / "model"
    make_model(tiny_llama()).save_pretrained(path)
    tokenizer = make_tokenizer()
    tokenizer.chat_template, tokenizer.pad_token = TEMPLATE, "<s>"
    tokenizer.save_pretrained(path)
    return path


@pytest.fixture(scope="module")
def adapter(model: Path) -> Path:
    """Path of an adapter that moves the model, so that no reward begins at 0."""
    policy = load_policy(
        TrainConfig.from_dict({"base_model": str(model), "lora": {"r": 4, "alpha": 8}})
    ).model
    torch.manual_seed(3)
    for weight in policy.parameters():
        if weight.requires_grad:
            torch.nn.init.normal_(weight, std=0.1)
    save_adapter(policy, model.parent / "adapter")
    return model.parent / "adapter"


def chats(name: str) -> list[dict[str, Any]]:
    """Return the pairs of a case, as chats: for KTO as many ratings as one step has."""
    turns = [
        {
            "id": line["id"],
            "prompt": [
                {"role": "system", "content": "it was long"},
                {"role": "user", "content": line["prompt"]},
            ],
            **{side: [{"role": "assistant", "content": line[side]}] for side in ("chosen", "rejected")},
        }
        for line in pair_lines(2 * BATCH if name == "kto" else STEPS * BATCH)
    ]
    if name != "kto":
        return turns
    return [
        {
            "id": turn["id"],
            "prompt": turn["prompt"],
            "completion": turn["chosen" if at % 3 else "rejected"],
            "label": at % 3 > 0,
        }
        for at, turn in enumerate(turns)
    ]


def in_order(name: str) -> list[dict[str, Any]]:
    """Return the rows in the order of our first epoch.

    For KTO it is backwards: TRL puts the completion of the row before behind a prompt, and ours that of the row after.
    """
    rows = chats(name)
    ordered = [rows[at] for at in epoch_order(SEED, 0, len(rows))]
    return ordered[::-1] if name == "kto" else ordered


def trl_arguments(name: str) -> dict[str, Any]:
    """Return the arguments of TRL's trainer."""
    rows = len(chats(name))
    micro = rows if name == "kto" else CASES[name].micro
    return {
        "beta": 0.1,
        "learning_rate": RATE,
        "lr_scheduler_type": "linear",
        "warmup_steps": 0,
        "weight_decay": 0.0,
        "max_grad_norm": 1.0,
        "optim": "adamw_torch",
        "num_train_epochs": STEPS if name == "kto" else 1,
        "per_device_train_batch_size": micro,
        "gradient_accumulation_steps": (rows if name == "kto" else BATCH) // micro,
        "max_length": 128,
        "seed": SEED,
        **CASES[name].theirs,
    }


@pytest.fixture(scope="module")
def theirs(model: Path, adapter: Path) -> dict[str, Any]:
    """Return TRL's figures of all cases, from one process."""
    if not sides.TRL_PYTHON.exists():
        pytest.fail("There is no .venv-trl: `make test-real` makes it.")
    cases = [
        {
            "name": name,
            "trainer": case.trainer,
            "arguments": trl_arguments(name),
            "rows": [{key: row[key] for key in row if key != "id"} for row in in_order(name)],
        }
        for name, case in CASES.items()
    ]
    spec, result = model.parent / "spec.json", model.parent / "result.json"
    write_json(
        spec,
        {"model": str(model), "adapter": str(adapter), "scratch": str(model.parent / "trl"), "cases": cases},
    )
    sides.watch([str(sides.TRL_PYTHON), str(sides.ROOT / "benchmarks/trl_losses.py"), str(spec), str(result)])
    return json.loads(result.read_text())


def train_ours(name: str, model: Path, adapter: Path, folder: Path) -> RunDirectory:
    """Train a case with our engine, with the base model as its reference, as TRL does."""
    run, rows = RunDirectory(folder), chats(name)
    settings = {
        "base_model": str(model),
        "start_adapter": str(adapter),
        "reference": "base",
        "learning_rate": RATE,
        "schedule": "linear",
        "epochs": STEPS if name == "kto" else 1,
        "batch_size": len(rows) if name == "kto" else BATCH,
        "dtype": "float32",
        "seed": SEED,
        "lora": {"r": 4, "alpha": 8},
        "kl_samples": 0,
        **CASES[name].ours,
    }
    run.write_config(TrainConfig.from_dict(settings))
    write_jsonl(run.pairs, rows)
    train(run)
    return run


def encoded_ids(run: RunDirectory, model: Path) -> list[tuple[list[int], ...]]:
    """Return prompt and completions of each row of the run, as ids."""
    tokenizer = transformers.AutoTokenizer.from_pretrained(model)
    encoder = Encoder(
        tokenizer, eos_ids=frozenset({tokenizer.eos_token_id}), vocab_size=len(tokenizer), max_length=128
    )
    pairs, left_out = encoder.encode_pairs(read_pairs(run.pairs))
    assert not left_out.dropped
    return [(list(one.prompt), *map(list, one.completions)) for one in pairs]


def trl_ids(row: dict[str, list[int]]) -> tuple[list[int], ...]:
    """Return the ids of a row of TRL in the same form; those of its CPO trainer hold the prompt twice."""
    if "prompt_input_ids" in row:
        prompt = row["prompt_input_ids"]
        return (prompt, *(row[f"{side}_input_ids"][len(prompt) :] for side in ("chosen", "rejected")))
    return tuple(
        row[f"{part}_ids"] for part in ("prompt", "completion", "chosen", "rejected") if f"{part}_ids" in row
    )


@pytest.mark.parametrize("name", CASES)
def test_five_steps_are_those_of_trl(
    name: str, model: Path, adapter: Path, theirs: dict[str, Any], tmp_path: Path
) -> None:
    case, trl = CASES[name], theirs[name]
    run = train_ours(name, model, adapter, tmp_path / "run")
    assert sorted(encoded_ids(run, model)) == sorted(map(trl_ids, trl["ids"]))
    for ours, logged in zip(read_metrics(run), trl["logs"], strict=True):
        for key in case.metrics:
            expected = logged[case.renamed.get(key, key)]
            assert ours[key] == pytest.approx(expected, rel=1e-4, abs=1e-4), (ours["step"], key)
    weights = safetensors.torch.load_file(run.adapter / "adapter_model.safetensors")
    others = safetensors.torch.load_file(Path(trl["adapter"]) / "adapter_model.safetensors")
    begun = safetensors.torch.load_file(adapter / "adapter_model.safetensors")
    assert weights.keys() == others.keys()
    for key, weight in weights.items():
        moved = (weight - begun[key]).abs().max()
        assert moved > 1e-3
        assert (weight - others[key]).abs().max() < 5e-3 * moved, key
