"""Tiny models and tokenizers, made here: nothing is downloaded, and a forward takes a millisecond."""

import copy
import dataclasses
import json
import multiprocessing
import random
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
import transformers
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors, trainers

from training.engine.adapters.loading import load_policy, save_adapter
from training.engine.config import TrainConfig
from training.engine.data.tokens import EncodedPair
from training.engine.model.logps import Scorer
from training.engine.optimize.budget import RowBudget
from training.engine.optimize.distributed import Processes
from training.engine.optimize.state import State
from training.engine.optimize.steps import backward, step_metrics, update
from training.engine.optimize.task import Task
from training.engine.rundir import RunDirectory, write_jsonl

VOCABULARY = 320
BOS, EOS, TURN = "<s>", "</s>", "<|turn|>"
CHAT_TEMPLATE = (
    "{% for message in messages %}<|turn|>{{ message['role'] }}\n{{ message['content'] }}</s>\n{% endfor %}"
    "{% if add_generation_prompt %}<|turn|>assistant\n"
    "{% if enable_thinking is defined and not enable_thinking %}<think></think>{% endif %}{% endif %}"
)
WORDS = ["the", "film", "was", "good", "bad", "dull", "bright", "long", "short", "and", "it", "cost"]
STRANGE = ["$46", "今日は", "映画", "🎬🎉", "naïve"]


def make_tokenizer(*, bos: bool = False, metaspace: bool = False) -> transformers.PreTrainedTokenizerFast:
    """Return a BPE tokenizer: byte-level as GPT-2 and Qwen have, or with SentencePiece's word prefix as Llama 2 has."""
    rng = random.Random(0)
    corpus = [" ".join(rng.choices(WORDS + STRANGE, k=12)) for _ in range(200)]
    special = [BOS, EOS, TURN]
    if metaspace:
        tokenizer = Tokenizer(models.BPE(byte_fallback=True, unk_token=BOS))
        tokenizer.pre_tokenizer = pre_tokenizers.Metaspace(prepend_scheme="first")
        tokenizer.decoder = decoders.Metaspace(prepend_scheme="first")
        alphabet = [chr(code) for code in (10, *range(32, 127))]
    else:
        tokenizer = Tokenizer(models.BPE())
        tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
        tokenizer.decoder = decoders.ByteLevel()
        alphabet = pre_tokenizers.ByteLevel.alphabet()
    tokenizer.train_from_iterator(
        corpus,
        trainers.BpeTrainer(
            vocab_size=VOCABULARY, special_tokens=special, initial_alphabet=alphabet, show_progress=False
        ),
    )
    if bos:
        tokenizer.post_processor = processors.TemplateProcessing(
            single=f"{BOS} $A", special_tokens=[(BOS, tokenizer.token_to_id(BOS))]
        )
    return transformers.PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, bos_token=BOS, eos_token=EOS, chat_template=CHAT_TEMPLATE
    )


SHAPE: dict[str, object] = {
    "vocab_size": VOCABULARY,
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "max_position_embeddings": 128,
    "bos_token_id": 0,
    "eos_token_id": 1,
}


def tiny_llama(**changes: object) -> transformers.LlamaConfig:
    """Return a Llama of two layers."""
    return transformers.LlamaConfig(**(SHAPE | changes))


def make_model(config: transformers.PreTrainedConfig) -> transformers.PreTrainedModel:
    """Return a frozen model with random weights, large enough that log-probabilities differ from uniform."""
    torch.manual_seed(0)
    model = transformers.AutoModelForCausalLM.from_config(copy.deepcopy(config), dtype=torch.float32).eval()
    for weight in model.parameters():
        if weight.dim() > 1:
            torch.nn.init.normal_(weight, std=0.1)
    return model.requires_grad_(False)


def make_pairs(count: int, longest: int = 12) -> list[EncodedPair]:
    """Random pairs, completions of one token among them."""
    rng = random.Random(0)

    def ids(low: int, high: int) -> tuple[int, ...]:
        return tuple(rng.randrange(3, VOCABULARY) for _ in range(rng.randint(low, high)))

    return [
        EncodedPair(
            id=str(number),
            prompt=ids(1, longest),
            chosen=ids(1, longest),
            rejected=ids(1, 1 if number % 3 == 0 else longest),
            label=1.0,
            margin=0.0,
            weight=1.0,
        )
        for number in range(count)
    ]


def make_task(
    config: TrainConfig, scorer: Scorer, pairs: Sequence[EncodedPair], reference: torch.Tensor | None = None
) -> Task:
    """Return a task of one process; without `reference`, measured by the policy as it is."""
    longest = max(pair.tokens for pair in pairs)
    budget = RowBudget(scorer, longest, fixed=False, recomputes=config.gradient_checkpointing, note=print)
    task = Task(config, scorer, budget, Processes(), pairs)
    if reference is None:
        reference = torch.empty(len(pairs), 2, dtype=torch.float64)
        for step in range(task.steps_per_epoch):  # on the very rows that are trained on, to the last bit
            for row in task.rows(step):
                reference[list(row.pairs)] = scorer.score(row)
    return dataclasses.replace(task, reference=reference)


def take_step(task: Task, state: State, step: int | None = None) -> dict[str, Any]:
    """Take the next step, or optimizer step `step`, and return its metrics."""
    state.step = state.step if step is None else step
    figures = backward(task, state)
    update(task, state, figures)
    return step_metrics(task, state, figures)


def pair_lines(count: int, seed: int = 0) -> list[dict[str, object]]:
    """Lines for pairs.jsonl, of differing lengths."""
    rng = random.Random(seed)

    def text(low: int, high: int) -> str:
        return " ".join(rng.choices(WORDS, k=rng.randint(low, high)))

    return [
        {
            "id": number,
            "prompt": text(2, 6),
            "chosen": f" good {text(1, 5)}",
            "rejected": f" bad {text(1, 5)}",
        }
        for number in range(count)
    ]


def numbered(count: int, first: int) -> tuple[int, ...]:
    """Return `count` token ids that begin where `first` says."""
    return tuple(3 + (first + 7 * at) % 300 for at in range(count))


def pair_of_lengths(prompt: int, chosen: int, rejected: int) -> EncodedPair:
    """Return a pair of so many tokens in its prompt and completions."""
    return EncodedPair(
        id=f"{prompt}+{chosen}+{rejected}",
        prompt=numbered(prompt, 0),
        chosen=numbered(chosen, 11),
        rejected=numbered(rejected, 23),
        label=1.0,
        margin=0.0,
        weight=1.0,
    )


@pytest.fixture(scope="session")
def tiny_model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Path of a saved Llama with a byte-level tokenizer that adds BOS."""
    path = tmp_path_factory.mktemp("models") / "tiny"
    make_model(tiny_llama()).save_pretrained(path)
    make_tokenizer(bos=True).save_pretrained(path)
    return path


@pytest.fixture
def make_run(tmp_path: Path, tiny_model: Path):
    """Make a run directory: `make_run("name", pairs=lines, **settings)`."""

    def make(name: str = "run", pairs: list[dict] | None = None, **settings: object) -> RunDirectory:
        run = RunDirectory(tmp_path / name)
        defaults: dict[str, object] = {
            "base_model": str(tiny_model),
            "batch_size": 4,
            "learning_rate": 1e-2,
            "checkpoint_steps": 2,
            "lora": {"r": 4, "alpha": 8},
        }
        if torch.cuda.is_available():  # where `auto` would round what the tests compare
            defaults["dtype"] = "float32"
        run.write_config(TrainConfig.from_dict(defaults | settings))
        write_jsonl(run.pairs, pair_lines(10) if pairs is None else pairs)
        return run

    return make


@pytest.fixture(scope="session")
def children():
    """Return processes that start in milliseconds, forked from one that has the engine loaded."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["tests.engine.preloaded"])
    return context


def read_metrics(run: RunDirectory) -> list[dict]:
    """Return the lines of metrics.jsonl."""
    return [json.loads(line) for line in run.metrics.read_text().splitlines()]


@pytest.fixture(autouse=True, scope="session")
def _one_thread() -> None:
    torch.set_num_threads(1)


@pytest.fixture
def make_adapter(tmp_path: Path, tiny_model: Path):
    """Save an adapter with weights large enough to matter."""

    def make(name: str, seed: int, size: float = 0.2) -> Path:
        config = TrainConfig.from_dict({"base_model": str(tiny_model), "lora": {"r": 4, "alpha": 8}})
        model = load_policy(config).model
        torch.manual_seed(seed)
        for weight in model.parameters():
            if weight.requires_grad:
                torch.nn.init.normal_(weight, std=size)
        save_adapter(model, tmp_path / name)
        return tmp_path / name

    return make
