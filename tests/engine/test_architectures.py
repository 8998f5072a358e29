"""Architectures through every verb: the quick ones here, slow ones in `make test-real`, all in `make architectures`."""

from pathlib import Path

import pytest

from tests.architectures.trial import try_architecture
from tests.variants import slow_but

NOT_CAUSAL = "The base model (bert) is not a causal language model"
UNCACHED = "Completions are written without a cache"
LIBRARY = "Completions are written by the library's attention"
KINDS = {
    "llama": ("packed", "yes"),
    "gpt2": ("packed", "yes"),
    "mixtral": ("packed", "yes"),
    "phi3": ("packed", "yes"),  # LongRoPE, with pairs on both sides of its original length
    "jamba": ("padded", "yes"),
    "qwen3_next": ("padded", "yes"),
    "mamba": ("padded", "yes"),
    "mamba2": ("padded", "yes"),
    "falcon_mamba": ("padded", "yes"),
    "recurrent_gemma": ("padded", UNCACHED),  # it keeps its state in its modules
    "deepseek_v32": ("padded", LIBRARY),  # sparse attention
    "reformer": ("The model (ReformerModelWithLMHead) cannot be trained: no gradient", UNCACHED),
    "bert": (NOT_CAUSAL, NOT_CAUSAL),
}


@pytest.mark.parametrize("kind", slow_but(KINDS, "llama", "mamba", "bert"))
def test_an_architecture_is_exact_or_refused(kind: str, tmp_path: Path) -> None:
    result = try_architecture(kind, tmp_path)
    assert (result.not_built, result.faults) == ("", [])
    train, sample = KINDS[kind]
    assert result.train.startswith(train)
    assert result.sample.startswith(sample)
