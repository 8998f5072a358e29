"""The views of a record in which a format may find it: its known names in small letters, and its cells opened."""

import ast
import re
from collections import Counter
from collections.abc import Collection, Iterator, Mapping, Sequence
from functools import lru_cache
from typing import Any

from annotate.sources.messages import is_chat, is_known_chat
from annotate.sources.tables import TableRow
from annotate.text.json_values import JSONError, parse_json

Record = Mapping[str, Any]

# Names that formats look for, and that a table may write with capital letters and blanks.
NAMES = (
    " all_preferences_unprocessed annotator annotator_id annotator_index annotators answer answer1 answer2 answer_0"
    " answer_1 answer_2 answer_a answer_b answers better_response_id candidate_0 candidate_1 candidates choice chosen"
    " chosen_conversations chosen_messages chosen_model chosen_policy chosen_response chosen_reward completion"
    " completion_a completion_b completions context conversation conversation_a conversation_b conversations"
    " created_at dispreferred domain explanation external_id functions generation_models generations generator"
    " generator_1 generator_2 gold helpfulness history id image images individual_preference initial_reason_steps"
    " input instruction is_safe items judge kto_tag label language losing_answer losing_response messages metadata"
    " model_1 model_2 model_a model_b models neg_resp non_preferred_output output output_1 output_2 output_a output_b"
    " overall_preference overall_response policy_a policy_b pos_resp preference preference_elaboration"
    " preference_statement preference_strength preferred preferred_output prompt prompt_id qid query question"
    " question_id ratings rationale rejected rejected_conversations rejected_messages rejected_model rejected_policy"
    " rejected_response rejected_reward request response response1 response2 response_0 response_0_source response_1"
    " response_1_source response_2 response_a response_b response_chosen response_j response_k response_rejected"
    " responses score_0 score_1 score_chosen score_rejected source strength system system_prompt text text_a text_b"
    " three_most_similar_preferences tools turn turns user user_id videos winner winner_model_a winner_model_b"
    " winner_tie winning_answer winning_response"
)
KNOWN = frozenset(NAMES.split())
NAME_LENGTH = 60  # characters of a name that may be a known one
# The beginning of a list or an object that Python prints, and the characters and brackets of one that are parsed.
PRINTED = re.compile(r"\s*(?:\[\s*[\[({'\"]|\{\s*['\"])")
PRINTED_LENGTH, BRACKETS = 64 * 1024, 2_000
NEARLY_ALL = 0.75  # of a column's values
BETWEEN = re.compile(r"(?<=[}'\"\])])\s+(?=[{'\"\[(])")  # the items of an array, as NumPy prints them
SIDES = ("chosen", "rejected")
OBJECTS = ("metadata", "prompt_metadata")  # columns that hold metadata of their own
ESCAPE = re.compile(r"\\[\\'\"nrtxuU]")  # as Python writes them: it warns of others that it reads
GAPS = re.compile(r"[ -]+")


def views(record: Record) -> Iterator[Record]:
    """Yield a record, and in a table it under its known names, then with the JSON in its cells opened.

    Several chats in cells are opened from the start, except for formats that open cells themselves: see `plain_view`.
    The last view opens lists of objects alone: any other text that happens to be JSON stays a text there. A list of
    texts under `chosen` or `rejected` is not opened: it may be one completion, or several.
    """
    named = _open_chats(plain_view(record))
    yield named
    if not isinstance(named, TableRow):
        return
    opened = {
        key: named[key] if key in SIDES and is_list_of_texts(value) else value
        for key, value in open_cells(named).items()
    }
    if opened == named:
        return
    yield TableRow(opened)
    lists = {key: value if _is_of_objects(value) else named[key] for key, value in opened.items()}
    if lists != opened:
        yield TableRow(lists)


def plain_view(record: Record) -> Record:
    """Return a record with its cells as they are: in a table, under its known names."""
    names = fold_names(record)
    return TableRow({names.get(key, key): value for key, value in record.items()}) if names else record


def open_columns(record: Record, columns: Collection[str]) -> Record:
    """Return a row of a table with the cells opened that these columns lie in, and the chats in several of them."""
    if not isinstance(record, TableRow):
        return record
    outer = {name.partition(".")[0] for name in columns if name not in record}
    cells = {key: open_cell(text) for key in outer if isinstance(text := record.get(key), str)}
    mapped = TableRow({key: record[key] for key in columns if key in record})
    return TableRow({**record, **cells, **_open_chats(mapped)})


def may_be_several(record: Record) -> bool:
    """Return whether a completion in a table is the JSON of a list of texts: it may be one, or several."""
    texts = [record.get(side) for side in SIDES] if isinstance(record, TableRow) else []
    return any(isinstance(text, str) and is_list_of_texts(open_cell(text)) for text in texts)


def _open_chats(record: Record) -> Record:
    """Return a row of a table with the chats in its cells, where several are of known speakers: one may be a text."""
    if not isinstance(record, TableRow):
        return record
    chats = {
        key: value
        for key, text in record.items()
        if isinstance(text, str) and text.startswith("[") and is_chat(value := open_cell(text))
    }
    return TableRow({**record, **chats}) if sum(map(is_known_chat, chats.values())) > 1 else record


def fold_names(record: Record) -> Mapping[str, str]:
    """Return the names of columns that views change, each with what it becomes: “Output 1” is output_1.

    A name that its metadata has too stays: both are metadata.
    """
    if not isinstance(record, TableRow):
        return {}
    folded = {name: short for name in record if len(name) <= NAME_LENGTH and (short := _fold(name)) != name}
    inside = {
        key
        for name, value in (record.items() if folded else ())
        if folded.get(name, name) in OBJECTS
        for key in _keys_of(value)
    }
    folded = {name: short for name, short in folded.items() if short not in inside}
    if len({folded.get(name, name) for name in record}) < len(record):
        return {}  # two would be one
    return folded


def open_cells(record: Record) -> Record:
    """Return a row of a table with each text that is the JSON of a list or an object as that."""
    if not isinstance(record, TableRow):
        return record
    opened = {
        key: value
        for key, text in record.items()
        if isinstance(text, str) and (value := open_cell(text)) is not text
    }
    return TableRow({**record, **opened}) if opened else record


def open_cell(text: str) -> Any:
    """Return the list or the object whose JSON a text is, or the text."""
    if text.lstrip()[:1] not in ("[", "{"):
        return text
    try:
        return parse_json(text)
    except JSONError:
        return text


def find_printed(records: Sequence[Record]) -> list[str]:
    """Return the columns in which nearly all values are lists or objects as Python prints them.

    One among others may be what a program prints, and a text.
    """
    values, printed = Counter[str](), Counter[str]()
    for record in records:
        for key, text in record.items() if isinstance(record, TableRow) else ():
            if text not in (None, ""):
                values[key] += 1
                printed[key] += (
                    isinstance(text, str) and open_cell(text) is text and _peek_cell(text) is not text
                )
    return [key for key, count in printed.items() if count and count >= NEARLY_ALL * values[key]]


def peek_cells(record: Record, columns: Collection[str]) -> Record:
    """Return a record with what Python printed in these columns: to tell what it is, and not to import it."""
    peeked = {key: _peek_cell(text) for key in columns if isinstance(text := record.get(key), str)}
    return TableRow({**record, **peeked})


def _peek_cell(text: str) -> Any:
    opened = open_cell(text)
    if opened is not text or len(text) > PRINTED_LENGTH or not PRINTED.match(text):
        return opened
    if sum(text.count(bracket) for bracket in "[({") > BRACKETS or "\\" in ESCAPE.sub("", text):
        return text
    try:
        return ast.literal_eval(BETWEEN.sub(", ", text.strip()))
    except (ValueError, TypeError, SyntaxError, MemoryError, RecursionError):
        return text


def _keys_of(value: object) -> Collection[Any]:
    found = open_cell(value) if isinstance(value, str) else value
    return found.keys() if isinstance(found, Mapping) else ()


def is_list_of_texts(value: object) -> bool:
    return isinstance(value, list) and bool(value) and all(isinstance(text, str) for text in value)


def _is_of_objects(value: object) -> bool:
    return isinstance(value, list) and bool(value) and all(isinstance(item, Mapping) for item in value)


@lru_cache(maxsize=1024)
def _fold(name: str) -> str:
    """Return a known name in small letters. Any other name, and one in small letters, stays as it is."""
    folded = GAPS.sub("_", name.strip().casefold())
    return folded if folded in KNOWN and name != name.casefold() else name
