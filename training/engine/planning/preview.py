"""The first pair or prompt as the model is given it, special tokens visible."""

from collections.abc import Sequence
from typing import Any

from training.engine.data.tokens import EncodedPair

_LONGEST = 3000  # characters of a text that are shown; the middle of a longer one is left out


def show_pair(tokenizer: Any, pair: EncodedPair) -> dict[str, Any]:
    """Return the texts of a pair's ids."""
    parts = {"prompt": pair.prompt, "chosen": pair.chosen, "rejected": pair.rejected}
    return {"id": pair.id} | {name: show(tokenizer, ids) for name, ids in parts.items()}


def show(tokenizer: Any, ids: Sequence[int]) -> str:
    """Return the text of some ids, control tokens among it."""
    text = str(tokenizer.decode(list(ids), skip_special_tokens=False, clean_up_tokenization_spaces=False))
    if len(text) <= _LONGEST:
        return text
    half = _LONGEST // 2
    return f"{text[:half]} […] {text[-half:]}"
