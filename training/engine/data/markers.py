"""Control tokens in texts from outside, encoded as plain text.

A tokenizer turns `<|im_end|>` into the token that ends a turn, wherever it is. So a user could forge a system
turn. Texts are marked before a chat template sees them, with two private characters around each control token;
what the template itself writes stays a control token. Text without one is tokenized as it always was.
"""

import re
from collections.abc import Sequence
from typing import Any

import transformers
from transformers.utils import chat_template_utils

from training.engine.errors import ConfigError, DataError

# The library's own marks, which its encode_marked_chat understands.
_START, _END = "\U000f0000", "\U000f0001"
_NOTHING = re.compile("(?!)")
_THOUGHTS = frozenset({"<think>", "</think>", "[THINK]", "[/THINK]"})


class ChatRefusedError(DataError):
    """One chat or text cannot be rendered and encoded for this model."""


class Markers:
    """The control tokens of one tokenizer and chat template, in texts."""

    def __init__(self, tokenizer: Any, template: str, *, in_text: bool) -> None:
        """With `in_text`, control tokens in texts count as such: nothing is marked."""
        self.tokenizer = tokenizer
        added = tokenizer.added_tokens_decoder.values()
        self.special = {token.content for token in added if token.special}
        self.named = {
            token.content
            for token in added
            if token.content in template and not token.content.isspace() and not token.content.isalnum()
        }
        self._special = _NOTHING if in_text else _pattern(self.special)
        self._foreign = _NOTHING if in_text else _pattern(self.special - _THOUGHTS)
        self._all = _NOTHING if in_text else _pattern(self.special | self.named)

    def mark_chat(self, messages: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
        """Return messages with their control tokens marked.

        The assistant's may hold tokens of thoughts, and those that are not special: the model writes them itself.
        """
        return [
            self._mark(message, self._foreign if message["role"] == "assistant" else self._all)
            for message in messages
        ]

    def mark_tools(self, tools: list[dict[str, Any]] | None) -> list[dict[str, Any]] | None:
        """Return descriptions of tools with their control tokens marked."""
        return self._mark(tools, self._all) if tools else None

    def mark_text(self, text: str) -> str:
        """Return text outside a chat with its special tokens marked."""
        return str(self._mark(text, self._special))

    def ids(self, text: str) -> list[int] | None:
        """Return the ids of marked text, or None if nothing in it is marked. Raises ChatRefusedError."""
        if self._special is _NOTHING or not (_START in text or _END in text):
            return None
        try:
            return list(chat_template_utils.encode_marked_chat(self.tokenizer, text))
        except ValueError:
            raise ChatRefusedError("The tokenizer makes a control token of plain text.") from None

    def _mark(self, value: Any, pattern: re.Pattern[str]) -> Any:
        if pattern is _NOTHING:
            return value
        if isinstance(value, dict):
            return {key: self._mark(one, pattern) for key, one in value.items()}
        if isinstance(value, list):
            return [self._mark(one, pattern) for one in value]
        if not isinstance(value, str):
            return value
        if _START in value or _END in value:
            raise ChatRefusedError("A text holds U+F0000 or U+F0001, which mark control tokens here.")
        if not pattern.search(value):
            return value
        _check_library()
        return chat_template_utils.mark_control_tokens(value, pattern)


def _check_library() -> None:
    """Refuse a version of transformers that makes control tokens of what is marked as plain text."""
    if not hasattr(chat_template_utils, "encode_marked_chat"):
        raise ConfigError(
            "control_tokens_in_text",
            f"is unset, and texts hold control tokens: transformers {transformers.__version__} cannot encode them as "
            "plain text; install 5.23 or later, or set it to encode them as control tokens.",
        )


def _pattern(names: set[str]) -> re.Pattern[str]:
    """Match any of `names`, the longest first."""
    longest_first = sorted(names, key=lambda name: (-len(name), name))
    return re.compile("|".join(map(re.escape, longest_first))) if names else _NOTHING
