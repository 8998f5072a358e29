"""The task of the training benchmark: models, lengths of pairs, and what a step of useful work costs.

Imports nothing heavy, so that the command starts at once and its arithmetic is cheap to test.
"""

import random
import string
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from training.engine.starter import reviews


@dataclass(frozen=True, kw_only=True)
class ModelShape:
    """A decoder with gated feed-forward layers and a head over the vocabulary (Llama, Qwen2)."""

    name: str
    layers: int
    hidden: int
    intermediate: int
    heads: int
    key_heads: int
    vocabulary: int
    tied: bool = True

    @property
    def linear_sizes(self) -> tuple[tuple[int, int], ...]:
        """(inputs, outputs) of the adapted layers of one decoder layer: query, key, value, output, gate, up, down."""
        keys = self.hidden // self.heads * self.key_heads
        square, narrow = (self.hidden, self.hidden), (self.hidden, keys)
        wide = (self.hidden, self.intermediate)
        return square, narrow, narrow, square, wide, wide, (self.intermediate, self.hidden)

    @property
    def parameters(self) -> int:
        """Weights of the linear layers and the embeddings; norms and biases are left out."""
        linear = self.layers * sum(fed * given for fed, given in self.linear_sizes)
        return linear + (1 if self.tied else 2) * self.vocabulary * self.hidden


@dataclass(frozen=True)
class Lengths:
    """Tokens of prompts or completions: log-normal about a median, kept within bounds."""

    median: int
    spread: float  # standard deviation of the logarithm
    low: int
    high: int

    def draw(self, rng: random.Random) -> int:
        """One length."""
        length = round(self.median * rng.lognormvariate(0, self.spread))
        return min(max(length, self.low), self.high)


@dataclass(frozen=True, kw_only=True)
class Case:
    """One line of the benchmark's table."""

    name: str
    about: str
    model: ModelShape | None  # None is the starter model
    prompts: Lengths | None = None  # None: film reviews
    completions: Lengths | None = None
    batch_size: int  # pairs per optimizer step
    steps: int
    learning_rate: float

    @property
    def pairs(self) -> int:
        """Pairs of a run: every batch is full."""
        return self.batch_size * self.steps


LORA_RANK = 16
STARTER = ModelShape(
    name="starter", layers=4, hidden=128, intermediate=384, heads=4, key_heads=4, vocabulary=1024
)
QWEN_8 = ModelShape(
    name="Qwen2, 8 layers",
    layers=8,
    hidden=896,
    intermediate=4864,
    heads=14,
    key_heads=2,
    vocabulary=151_936,
)
QWEN_05B = ModelShape(
    name="Qwen2.5-0.5B",
    layers=24,
    hidden=896,
    intermediate=4864,
    heads=14,
    key_heads=2,
    vocabulary=151_936,
)
QWEN_15B = ModelShape(
    name="Qwen2.5-1.5B",
    layers=28,
    hidden=1536,
    intermediate=8960,
    heads=12,
    key_heads=2,
    vocabulary=151_936,
)
QWEN_7B = ModelShape(
    name="Qwen2.5-7B",
    layers=28,
    hidden=3584,
    intermediate=18_944,
    heads=28,
    key_heads=4,
    vocabulary=152_064,
    tied=False,
)

# Dialogues of the kind of Anthropic's HH, and documents with a short completion.
HH_PROMPTS, HH_COMPLETIONS = Lengths(170, 0.6, 20, 700), Lengths(45, 0.5, 8, 150)
LONG_PROMPTS, SHORT_COMPLETIONS = Lengths(750, 0.25, 400, 1200), Lengths(16, 0.4, 4, 40)


def _hh(name: str, model: ModelShape, **how: object) -> Case:
    about = "HH-like: prompts of about 200 tokens, completions of about 50"
    return Case(name=name, about=about, model=model, prompts=HH_PROMPTS, completions=HH_COMPLETIONS, **how)  # type: ignore[arg-type]


def _long(name: str, model: ModelShape, **how: object) -> Case:
    about = "prompts of about 770 tokens, completions of about 17"
    return Case(
        name=name, about=about, model=model, prompts=LONG_PROMPTS, completions=SHORT_COMPLETIONS, **how
    )  # type: ignore[arg-type]


CPU_CASES = (
    Case(
        name="starter",
        about="film reviews: prompts of about 15 tokens, completions of about 55",
        model=None,
        batch_size=16,
        steps=32,
        learning_rate=1e-3,
    ),
    _hh("qwen2-8-hh", QWEN_8, batch_size=4, steps=6, learning_rate=2e-4),
    _long("qwen2-8-long", QWEN_8, batch_size=2, steps=3, learning_rate=2e-4),
)
CUDA_CASES = tuple(
    make(f"{label}-{suffix}", model, batch_size=32, steps=steps, learning_rate=1e-4)
    for label, model, steps in (("0.5b", QWEN_05B, 16), ("1.5b", QWEN_15B, 12), ("7b", QWEN_7B, 6))
    for make, suffix in ((_hh, "hh"), (_long, "long"))
)


@dataclass(frozen=True, kw_only=True)
class TrlConfiguration:
    """A configuration of TRL for the same training; every field is one of its own options."""

    dtype: str = "bfloat16"  # of the base weights, as `model_init_kwargs` sets it
    autocast: bool = True  # DPOConfig.bf16: mixed precision
    micro_batch: int = 1  # pairs per forward; accumulated up to the batch
    precompute: bool = True  # reference log-probabilities before training instead of in each step
    checkpointing: bool = False  # DPOConfig's default is True


# By how they compute, then by pairs a forward. Within a family, the first is tried first.
TRL = {
    "float32": {
        "float32, 1 pair": TrlConfiguration(dtype="float32", autocast=False),
        "float32, 4 pairs": TrlConfiguration(dtype="float32", autocast=False, micro_batch=4),
        "float32, 16 pairs": TrlConfiguration(dtype="float32", autocast=False, micro_batch=16),
        "float32, 16 pairs, reference in step": TrlConfiguration(
            dtype="float32", autocast=False, micro_batch=16, precompute=False
        ),
    },
    "bfloat16": {
        "bfloat16, 1 pair": TrlConfiguration(),
        "bfloat16, 4 pairs": TrlConfiguration(micro_batch=4),
        "bfloat16, 16 pairs": TrlConfiguration(micro_batch=16),
        "bfloat16, 4 pairs, reference in step": TrlConfiguration(micro_batch=4, precompute=False),
    },
    "bfloat16 without autocast": {
        "bfloat16 without autocast, 1 pair": TrlConfiguration(autocast=False),
        "bfloat16 without autocast, 4 pairs": TrlConfiguration(autocast=False, micro_batch=4),
        "bfloat16 without autocast, 16 pairs": TrlConfiguration(autocast=False, micro_batch=16),
    },
    "float32 under autocast": {
        "float32 under autocast, 1 pair": TrlConfiguration(dtype="float32"),
        "float32 under autocast, 4 pairs": TrlConfiguration(dtype="float32", micro_batch=4),
    },
    "TRL's defaults": {
        "TRL's defaults, 4 pairs": TrlConfiguration(
            dtype="float32", micro_batch=4, precompute=False, checkpointing=True
        ),
    },
}


def text_pairs(case: Case, seed: int) -> list[dict[str, str]]:
    """Return the pairs of a case as text, the same for the same seed.

    With a random model, a token is a letter (`models.byte_tokenizer`), and the two completions draw theirs from
    two halves of the alphabet with different odds, so that there is something to learn.
    """
    rng = random.Random(f"{case.name}:{seed}")
    if case.prompts is None or case.completions is None:
        return [_review_pair(rng, number) for number in range(case.pairs)]
    rows = []
    for number in range(case.pairs):
        prompt = _letters(rng, case.prompts.draw(rng), 0.5)
        chosen = _letters(rng, case.completions.draw(rng) - 1, 0.7)  # the end of sequence is a token too
        rejected = _letters(rng, case.completions.draw(rng) - 1, 0.3)
        rows.append({"id": str(number), "prompt": prompt, "chosen": chosen, "rejected": rejected})
    return rows


def _letters(rng: random.Random, count: int, upper: float) -> str:
    """Random letters, capitals with probability `upper`."""
    odds = [1 - upper] * 26 + [upper] * 26
    return "".join(rng.choices(string.ascii_letters, odds, k=count))


def _review_pair(rng: random.Random, number: int) -> dict[str, str]:
    """Two continuations of one opening, the one that praises more preferred."""
    while True:
        (opening, first), (_, second) = reviews.review(rng), reviews.review(rng)
        better, worse = sorted((first, second), key=reviews.reward, reverse=True)
        if reviews.reward(better) > reviews.reward(worse):
            return {"id": str(number), "prompt": opening, "chosen": better, "rejected": worse}


def forward_flops(model: ModelShape, prompt: int, completions: Sequence[int]) -> int:
    """Return the useful floating-point operations of a pair's forward: the prompt once, then each completion.

    A multiply-add counts as two. Linear layers with their adapters at every token that is fed (a completion's
    last token is only predicted), attention scores and sums over the tokens that each token sees, and the
    head where a completion token is predicted. Norms, activations and rotations count as nothing.
    """
    fed = prompt + sum(length - 1 for length in completions)
    weights = sum(a * b + LORA_RANK * (a + b) for a, b in model.linear_sizes)
    seen = prompt * (prompt + 1) // 2
    seen += sum((length - 1) * prompt + (length - 1) * length // 2 for length in completions)
    layer = 2 * weights * fed + 4 * model.hidden * seen
    return model.layers * layer + 2 * model.hidden * model.vocabulary * sum(completions)


def training_flops(model: ModelShape, prompt: int, completions: Sequence[int]) -> int:
    """Return the useful operations of one pair's training: reference forward, policy forward and backward.

    The reference has no adapter. Backward takes the gradient by activations of every product (one more product
    for a linear layer, two more for attention) and by the adapter's weights; frozen weights have no gradient.
    """
    fed = prompt + sum(length - 1 for length in completions)
    adapter = 2 * model.layers * LORA_RANK * sum(a + b for a, b in model.linear_sizes) * fed
    forward = forward_flops(model, prompt, completions)
    seen = prompt * (prompt + 1) // 2
    seen += sum((length - 1) * prompt + (length - 1) * length // 2 for length in completions)
    attention = 4 * model.layers * model.hidden * seen
    reference = forward - adapter
    backward = forward + attention + adapter
    return reference + forward + backward


def total_flops(model: ModelShape, lengths: Iterable[tuple[int, int, int]]) -> int:
    """`training_flops` over pairs given as tokens of (prompt, chosen, rejected)."""
    return sum(training_flops(model, prompt, both) for prompt, *both in lengths)
