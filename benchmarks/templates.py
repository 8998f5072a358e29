"""Chats under each chat template that TRL ships: `make templates` writes docs/templates.md.

The measure is the tokenizer's own rendering of the whole conversation. A row is exact if our ids are its ids, up to
and with the token that ends the turn. The prompt's ids must also be what the tokenizer gives for the prompt alone.
"""

import argparse
import json
import re
import sys
from collections import Counter
from pathlib import Path
from typing import Any, NamedTuple

import transformers
from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers

from training.engine.data.tokens import EncodedPair, Encoder
from training.engine.records import Message, TrainingCompletion, TrainingPair

PAGE = Path("docs/templates.md")
TITLE = """\
# Chat templates

`make templates` writes this page. It encodes five chats with each of the {count} chat templates that TRL {version}
ships, and compares the ids with the tokenizer's own rendering of the whole conversation. Each template is on a
byte-level tokenizer that knows its control tokens.

| cell | what becomes of the chat |
| --- | --- |
| exact | prompt and completion have the tokenizer's ids up to and with the token that ends the turn, scored once |
| exact, end added | so, but the template ends a last turn with nothing: the end that the model's files name is added |
| unmatched turn | the finished turn does not begin with the generation prompt: left out (see `unmatched_turns`) |
| a sentence | the pair is left out, with this sentence |
| no rendering | the tokenizer itself refuses the conversation, and so does Whetstone |

- *text*: a user's question and an answer;
- *turns*: a system message, a question, an answer with thoughts before it, another question, and an answer;
- *tools*: a question, and a call of a tool as the completion;
- *reasoning*: an answer with `reasoning_content`;
- *prefill*: a prompt that ends with the beginning of the answer and a blank.

"""
MARKER = re.compile(
    r"<\|[^|<>\s'\"]+\|>|<｜[^｜<>\s]+｜>|<\|[a-z_\"]+>|<[a-z_\"]+\|>|</?(?:think|tool_call|tool_response|tools)>"
    r"|<(?:start|end)_of_(?:turn|utterance)>|\[/?[A-Z_]+\]"
)
TAGS = re.compile(r"</?(think|tool_call|tool_response|tools)>")  # which tokenizers know as ordinary tokens
ENDS = (
    *("<|im_end|>", "<|eot_id|>", "<|end|>", "<end_of_turn>", "<turn|>", "<|return|>", "<|call|>", "<|eot|>"),
    *(
        "<|END_OF_TURN_TOKEN|>",
        "<end_of_utterance>",
        "<|user|>",
        "<|observation|>",
        "<|eom_id|>",
        "<|tool_response>",
    ),
    "<｜end▁of▁sentence｜>",
)
TOOL = {
    "type": "function",
    "function": {
        "name": "price_of",
        "description": "Tells a price.",
        "parameters": {
            "type": "object",
            "properties": {"thing": {"type": "string", "description": "What it is."}},
            "required": ["thing"],
        },
    },
}


class Case(NamedTuple):
    """One chat to encode."""

    prompt: list[Message]
    message: Message
    tools: list[dict[str, Any]] | None = None


def say(role: str, content: str | None, **more: Any) -> Message:
    """Return a message."""
    return {"role": role, "content": content} | more


CALL = {"type": "function", "function": {"name": "price_of", "arguments": {"thing": "film"}}}
OTHER = {"type": "function", "function": {"name": "price_of", "arguments": {"thing": "book"}}}
ASKED = say("user", "What did it cost?")
CASES = {
    "text": Case([ASKED], say("assistant", "46 coins")),
    "turns": Case(
        [say("system", "Be short."), ASKED, say("assistant", "<think>\nhm\n</think>\n\nMuch."), ASKED],
        say("assistant", "46 coins"),
    ),
    "tools": Case([ASKED], say("assistant", "", tool_calls=[CALL]), [TOOL]),
    "reasoning": Case([ASKED], say("assistant", "46 coins", reasoning_content="A sum of twos.")),
    "prefill": Case([ASKED, say("assistant", "It cost ")], say("assistant", "46 coins")),
}


def make_tokenizer(template: str) -> tuple[Any, frozenset[int]]:
    """Return a byte-level tokenizer that knows the control tokens of a template, and its ends."""
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    tokenizer = Tokenizer(models.BPE({letter: at for at, letter in enumerate(alphabet)}, []))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    tokenizer.decoder = decoders.ByteLevel()
    markers = sorted({"<s>", "</s>", *MARKER.findall(template)})
    tokenizer.add_tokens([AddedToken(one, special=not TAGS.fullmatch(one)) for one in markers])
    wrapped = transformers.PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, bos_token="<s>", eos_token="</s>", chat_template=template
    )
    ends = {"</s>", *(one for one in ENDS if one in markers)}
    if "<|return|>" in ends:
        ends -= {"<|end|>", "<|user|>"}  # which end a message there, and not the turn
    if ends & {"<|im_end|>", "<|end|>", "<|eot_id|>"}:
        ends -= {"<|user|>", "<|observation|>"}  # headers
    return wrapped, frozenset(wrapped.convert_tokens_to_ids(list(ends)))


def outcome(template: str, case: Case) -> str:
    """Return "exact", a sentence of refusal, or the fault."""
    tokenizer, ends = make_tokenizer(template)
    encoder = Encoder(tokenizer, eos_ids=ends, vocab_size=len(tokenizer), max_length=100_000)
    prefill = case.prompt[-1]["content"] if case.prompt[-1]["role"] == "assistant" else ""
    before = case.prompt[:-1] if prefill else case.prompt
    final = case.message | {"content": prefill + case.message["content"]}
    whole, given = render(tokenizer, [*before, final], case), render(tokenizer, before, case, True)
    other = case.message | ({"tool_calls": [OTHER]} if case.tools else {"content": "another"})
    pair = TrainingPair(
        id="1",
        prompt=case.prompt,
        tools=case.tools,
        chosen=TrainingCompletion(text=[case.message]),
        rejected=TrainingCompletion(text=[other]),
    )
    encoded, report = encoder.encode_pairs([pair])
    if not encoded:
        sentence = report.refusals[0].partition("left out: ")[2]
        return "unmatched turn" if report.dropped["unmatched_turn"] else sentence if whole else "no rendering"
    if whole is None or given is None:
        return "WRONG: encoded what the tokenizer refuses"
    return compare(tokenizer, ends, (prefill, given, whole), encoded[0])


def compare(
    tokenizer: Any, ends: frozenset[int], theirs: tuple[str, list[int], list[int]], pair: EncodedPair
) -> str:
    """Our ids against the tokenizer's: of the prompt, after its `prefill`, and of the whole conversation."""
    prefill, given, whole = theirs
    prompt, chosen = list(pair.prompt), list(pair.chosen)
    if prefill:
        text = tokenizer.decode(prompt)
        if not text.endswith(prefill) or whole[: len(prompt)] != prompt:
            return f"WRONG: the prompt is {text!r}"
    elif prompt != given:
        return f"WRONG: the prompt is {tokenizer.decode(prompt)!r}"
    ours = prompt + chosen
    if sum(one in ends for one in chosen) != 1 or chosen[-1] not in ends:
        return f"WRONG: the ends of {tokenizer.decode(chosen)!r}"
    if ours == whole[: len(ours)] and blank(tokenizer, whole[len(ours) :]):
        return "exact"
    if ours[:-1] == whole[: len(ours) - 1] and blank(tokenizer, whole[len(ours) - 1 :]):
        return "exact, end added"
    return f"WRONG: {tokenizer.decode(ours)!r} is not {tokenizer.decode(whole)!r}"


def render(tokenizer: Any, chat: list[Message], case: Case, prompt: bool = False) -> list[int] | None:
    """Return the tokenizer's own ids of a chat, or None where it refuses that.

    Given as the template wants it: content as text or in parts, calls as objects or as JSON.
    """
    parts = [one | {"content": [{"type": "text", "text": one["content"]}]} for one in chat]
    written = [one | ({"tool_calls": [as_json(CALL)]} if "tool_calls" in one else {}) for one in chat]
    for form in (chat, written, parts):
        try:
            ids = tokenizer.apply_chat_template(
                form, tools=case.tools, add_generation_prompt=prompt, tokenize=True, return_dict=False
            )
        except Exception:  # noqa: BLE001, S112 - templates are programs
            continue
        if ASKED["content"] in tokenizer.decode(ids):
            return list(ids)
    return None


def as_json(call: dict[str, Any]) -> dict[str, Any]:
    """Return a call of a tool with its arguments as JSON."""
    function = call["function"] | {"arguments": json.dumps(call["function"]["arguments"])}
    return call | {"function": function}


def blank(tokenizer: Any, ids: list[int]) -> bool:
    """Return whether nothing but blanks and the end of the text follows a turn."""
    return not tokenizer.decode([one for one in ids if one != tokenizer.eos_token_id]).strip()


def main() -> int:
    """Write the page. Returns 1 if something is wrong in silence."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path, help="TRL's chat_templates")
    parser.add_argument("--version", default="1.16.0")
    chosen = parser.parse_args()
    paths = sorted(chosen.folder.glob("*.jinja"))
    lines = [TITLE.format(count=len(paths), version=chosen.version)]
    lines += [f"| template | {' | '.join(CASES)} |\n", f"| --- |{' --- |' * len(CASES)}\n"]
    counts: Counter[str] = Counter()
    wrong = []
    for path in paths:
        template = path.read_text(encoding="utf-8")
        cells = []
        for name, case in CASES.items():
            found = outcome(template, case)
            kind = found if found.startswith("exact") else found.partition(":")[0]
            counts["WRONG" if kind == "WRONG" else "exact" if kind.startswith("exact") else "refused"] += 1
            if kind == "WRONG":
                wrong.append(f"{path.stem}, {name}: {found}")
            cells.append(found.replace("|", "\\|"))
        lines.append(f"| {path.stem} | {' | '.join(cells)} |\n")
    PAGE.write_text("".join(lines), encoding="utf-8")
    print(dict(counts), *wrong, sep="\n")
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
