"""The settings of `sample`: `sampling`."""

from dataclasses import dataclass

from primitives.text import marked as _
from training.engine.config.options import MOST_HELD, MOST_LENGTH, option

MOST_COMPLETIONS = 10_000_000  # that one run writes: all of them are in memory at its end


@dataclass(frozen=True, kw_only=True)
class SamplingConfig:
    """Settings of `sample`."""

    temperature: float = option(1.0, _("Softmax temperature; 0 takes the likeliest token."), low=0)
    top_p: float = option(1.0, _("Keep the smallest set of tokens with this probability."), above=0, high=1)
    top_k: int = option(0, _("Keep this many likeliest tokens; 0 keeps all."), low=0, high=1_000_000)
    min_p: float = option(
        0.0, _("Leave out tokens below this share of the likeliest one's probability."), low=0, below=1
    )
    repetition_penalty: float = option(
        1.0,
        _("Divide the scores of tokens that the text holds already, prompt included; 1 is none."),
        above=0,
    )
    max_new_tokens: int = option(128, _("Longest completion, in tokens."), low=1, high=MOST_LENGTH)
    stop: tuple[str, ...] = option(
        (),
        _(
            "End a completion before any of these texts, at most 16 of 100 characters; they are not part of it."
        ),
        most=16,
        longest_item=100,
        may_be_empty=True,
    )
    samples_per_prompt: int = option(2, _("Completions per prompt."), low=1, high=MOST_COMPLETIONS)
    seed: int = option(
        0, _("Seed; each completion derives its own from it, the prompt id and its number."), low=0
    )
    distinct: bool = option(
        False, _("Draw again where completions of one prompt have the same text, up to seven times.")
    )
    skip_long: bool = option(
        False,
        _(
            "Pass over prompts that leave no room to write, and name them in done.json, instead of refusing them."
        ),
    )
    policy: str = option(
        "auto",
        _(
            "Who writes: trained is adapter/, start is start_adapter, base the base model; auto is the first there is."
        ),
        choices=("auto", "trained", "start", "base"),
    )
    reference: str | None = option(
        None,
        _(
            'Score each completion under this policy too, as reference_logprob: "base", "start", or an adapter\'s path.'
        ),
    )
    batch_size: int = option(256, _("Most completions that are written at once."), low=1, high=100_000)
    max_tokens: int | None = option(
        None,
        _("Most tokens, prompts included, that are held at once; unset is what fits into memory."),
        low=1,
        high=MOST_HELD,
    )
    backend: str = option(
        "auto",
        _(
            "This engine's own loop, or vLLM, which auto takes for a base model alone where it is installed with a GPU."
        ),
        choices=("auto", "native", "vllm"),
    )
