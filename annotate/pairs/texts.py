"""Comparisons with their texts as plain tuples, a chunk at a time: rows of models cost several times as much.

Columns of JSON come as they are written in the database. Most are empty, or repeat, and need no parser.
"""

import json
from collections.abc import Callable, Iterable, Iterator
from functools import cache, lru_cache
from typing import Any, NamedTuple, TypeVar

import orjson
from django.db import connection
from django.db.models import BooleanField, TextField
from django.db.models.expressions import RawSQL
from django.db.models.functions import Cast

from annotate.models import Comparison
from annotate.models import Completion as CompletionRow
from annotate.models.conflicts import RaceError
from annotate.pairs.aggregation import Pair, Rating
from annotate.pairs.streams import Stream, open_connection
from annotate.text.chats import Content
from primitives.chunks import chunks

AT_A_TIME = 500  # comparisons whose texts are in memory together
# Of those that are read ahead: what about fits into the socket between the server and Python.
ASKED_AT_A_TIME = 125
SHORT = 1_000  # characters
T = TypeVar("T")
Frozen = TypeVar("Frozen", Pair, Rating)


class Completion(NamedTuple):
    """The columns of a completion that rows hold."""

    pk: int
    text: str
    messages: str | None
    policy: str
    base_model: str
    token_ids: str | None
    finish_reason: str
    seed: int | None
    logprob: float | None
    sampling: str
    prompt_token_ids: str | None

    @property
    def content(self) -> Content:
        """The text, or the messages of one that is more than text."""
        return self.text if self.messages is None else parse(self.messages)


class Texts(NamedTuple):
    """A comparison with its prompt and both completions."""

    kind: str
    batch: str
    external_id: str
    metadata: str
    prompt_id: int
    prompt: str
    held_out: bool
    prompt_external_id: str
    prompt_metadata: str
    tools: str | None
    first: Completion
    second: Completion

    def completions(self, chosen: int) -> tuple[Completion, Completion]:
        """Return the chosen and the rejected completion."""
        return (self.first, self.second) if chosen == self.first.pk else (self.second, self.first)

    def completion(self, key: int) -> Completion:
        """Return one of the two completions."""
        return self.first if key == self.first.pk else self.second


_OF_COMPLETION = (
    "pk", "text", "messages", "policy__name", "policy__base_model", "token_ids", "finish_reason", "seed", "logprob",
    "sampling", "prompt_token_ids",
)  # fmt: skip
_OF_COMPARISON = (
    "pk", "kind", "batch", "external_id", "metadata", "prompt_id", "prompt__content", "prompt__held_out",
    "prompt__external_id", "prompt__metadata", "prompt__tools",
)  # fmt: skip
# The ends of the names of columns of JSON.
_JSON = ("metadata", "content", "tools", "messages", "token_ids", "sampling", "reasons", "criteria")
_FIRST, _SECOND = len(_OF_COMPARISON), len(_OF_COMPARISON) + len(_OF_COMPLETION)


def with_texts(rows: Iterable[Frozen]) -> Iterator[tuple[Frozen, Texts]]:
    """Yield pairs or ratings, which are in the order of their comparisons, with their texts.

    Raises RaceError if a comparison was forgotten since the rows were read.
    """
    for some in chunks(rows, AT_A_TIME):
        texts = read_texts([row.comparison for row in some])
        for row in some:
            if row.comparison not in texts:
                raise RaceError("A comparison was forgotten meanwhile.")
            yield row, texts[row.comparison]


def read_texts(keys: Iterable[int]) -> dict[int, Texts]:
    """Return comparisons by their keys."""
    with connection.cursor() as cursor:
        cursor.execute(texts_statement(connection.vendor), [_as_parameter(list(keys), connection.vendor)])
        return as_texts(cursor.fetchall())


def as_texts(rows: Iterable[tuple[Any, ...]]) -> dict[int, Texts]:
    """Return the rows of `texts_statement` by the keys of their comparisons."""
    return {row[0]: _texts(row) for row in rows}


def _texts(row: tuple[Any, ...]) -> Texts:
    first, second = Completion._make(row[_FIRST:_SECOND]), Completion._make(row[_SECOND:])
    return Texts._make((*row[1:_FIRST], first, second))


# PostgreSQL scans the whole table for `IN (SELECT unnest(...))` where a look at its index would do.
_AMONG = {
    "sqlite": '"annotate_comparison"."id" IN (SELECT value FROM json_each(%s))',
    "postgresql": '"annotate_comparison"."id" = ANY(%s::bigint[])',
}


@cache
def texts_statement(vendor: str) -> str:
    """Return the query for comparisons by one list of keys. Django takes longer to compile it than to run it."""
    among = RawSQL(_AMONG[vendor], [None], output_field=BooleanField())  # noqa: S611 - constants
    found = Comparison.objects.filter(among)
    statement, _parameters = found.order_by().values_list(*_columns()).query.sql_with_params()
    return statement


def _as_parameter(keys: list[int], vendor: str) -> Any:
    return json.dumps(keys) if vendor == "sqlite" else keys


def _columns() -> list[Any]:
    sides = (f"{side}__{name}" for side in ("first", "second") for name in _OF_COMPLETION)
    return with_json_as_text((*_OF_COMPARISON, *sides))


def with_json_as_text(names: Iterable[str]) -> list[Any]:
    """Return columns for `values_list`, where those of JSON come as they are written."""
    return [Cast(name, TextField()) if name.endswith(_JSON) else name for name in names]


# --- Reading ahead ----------------------------------------------------------------------------------------------


def read_ahead(rows: Iterable[T], key: Callable[[T], int]) -> Iterator[tuple[list[T], dict[int, Texts]]]:
    """Yield some rows at a time, with the texts of their comparisons. `key` returns the comparison of a row.

    PostgreSQL looks for the next texts while Python writes the last ones.
    """
    own = open_connection()
    if own is None:
        for some in chunks(rows, AT_A_TIME):
            yield some, read_texts([key(row) for row in some])
        return
    stream = Stream(own, texts_statement(own.vendor).replace("%s", "$1"))
    try:
        yield from _read_ahead(stream, chunks(rows, ASKED_AT_A_TIME), key)
    finally:
        stream.close()


def _read_ahead(
    stream: Stream, parts: Iterable[list[T]], key: Callable[[T], int]
) -> Iterator[tuple[list[T], dict[int, Texts]]]:
    asked: list[T] = []
    for some in parts:
        found = as_texts(stream.take()) if asked else {}
        stream.ask([key(row) for row in some])
        if asked:
            yield asked, found
        asked = some
    if asked:
        yield asked, as_texts(stream.take())


# --- Columns -----------------------------------------------------------------------------------------------------


def parse(text: str | None) -> Any:
    """Return the value of a column of JSON. The fast parser reads texts alone: it would round large numbers."""
    if text is None:
        return None
    if text == "{}":
        return {}
    if text[0] == '"':
        if "\\" not in text:
            return text[1:-1]
        try:
            return orjson.loads(text)
        except orjson.JSONDecodeError:  # half a surrogate pair
            pass
    return json.loads(text)


def in_order(text: str) -> str:
    """Return an object of JSON with its keys in order."""
    if text == "{}":
        return text
    return _in_order(text) if len(text) <= SHORT else _in_order.__wrapped__(text)


@lru_cache(maxsize=1_000)
def _in_order(text: str) -> str:
    """Remember short ones: settings of sampling, and often metadata, repeat from row to row."""
    return as_text(json.loads(text))


def as_text(value: Any) -> str:
    """Return an object as JSON with its keys in order."""
    return json.dumps(value, sort_keys=True, ensure_ascii=False) if value else "{}"


def in_one_type(prompt: Content, one: Content, other: Content) -> tuple[Content, Content, Content]:
    """Return a prompt and completions as TRL has them: all text, or all messages, if one of them is more than text."""
    if isinstance(prompt, str):
        if isinstance(one, str) and isinstance(other, str):
            return prompt, one, other
        prompt = [{"role": "user", "content": prompt}]
    return prompt, as_prompted(prompt, one), as_prompted(prompt, other)


def as_prompted(prompt: Content, completion: Content) -> Content:
    """Return a completion in the form of its prompt, as TRL has it: text to text, an assistant's message to a chat."""
    if isinstance(prompt, str) or not isinstance(completion, str):
        return completion
    return [{"role": "assistant", "content": completion}]


def as_sampled(name: str, completion: Completion, base_model: str | None) -> dict[str, Any]:
    """Return the token ids of a completion, and why it ended, by the keys of a run directory, where they are known.

    Ids of another model than `base_model` mean other words to it.
    """
    found: dict[str, Any] = {}
    if base_model in (None, completion.base_model) and (ids := parse(completion.token_ids)):
        found[f"{name}_token_ids"] = ids
    if completion.finish_reason != CompletionRow.FinishReason.UNKNOWN:
        found[f"{name}_finish_reason"] = completion.finish_reason
    return found


def shared_prompt_ids(one: Completion, other: Completion) -> list[int] | None:
    """Return the prompt's ids that both completions were sampled after, or None if they differ or are not known."""
    same = one.prompt_token_ids == other.prompt_token_ids
    return (parse(one.prompt_token_ids) or None) if same else None
