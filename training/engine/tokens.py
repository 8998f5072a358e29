"""Text to token ids: prompts, completions, pairs, and what truncation keeps.

Rules that hold for every pair:

- The prompt's ids are an exact prefix of both sequences, also where the tokenizer would merge characters
  across the boundary; ids that were sampled are the ids that are trained on.
- One BOS where the tokenizer adds one. EOS is scored once when the model ended, and absent when it was cut.
- Truncation takes from the start of the prompt (its BOS stays), and from the end of a completion only when
  the completions leave the prompt less than a quarter of the room. No pair comes out empty, identical or
  without a prompt; what was dropped is counted by reason.
"""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from training.engine.errors import DataError, ModelError, first_line
from training.engine.limits import within
from training.engine.records import Completion, Message, Pair, Prompt, Text

_TEMPLATE_SECONDS = 5  # of processor time, for what takes a millisecond
_LONGEST_RENDERED = 1 << 24  # characters
_SENTINEL = "whetstone"  # stands for a completion while the chat template is probed
_SPEAKERS = ("system", "user", "assistant")  # what a tool returned may be rendered as JSON
_NAMED = 5  # of the pairs or prompts that are left out for one reason
_THOUGHTS_END = "</think>"  # templates drop the thoughts of earlier turns


class ChatRefusedError(DataError):
    """The chat template cannot render one chat."""


@dataclass(frozen=True, kw_only=True, slots=True)
class EncodedPair:
    """One pair as ids. `prompt + chosen` and `prompt + rejected` are the two sequences."""

    id: str
    prompt: tuple[int, ...]
    chosen: tuple[int, ...]
    rejected: tuple[int, ...]
    label: float
    margin: float
    weight: float

    @property
    def tokens(self) -> int:
        """Tokens of a packed row that this pair takes: the prompt once, and both completions."""
        return len(self.prompt) + len(self.chosen) + len(self.rejected)


@dataclass
class EncodingReport:
    """What encoding had to leave out or cut, by reason; `examples` names the first pairs of each."""

    dropped: Counter[str] = field(default_factory=Counter)
    truncated: Counter[str] = field(default_factory=Counter)
    examples: dict[str, list[str]] = field(default_factory=dict)
    refusals: list[str] = field(default_factory=list)  # a sentence for each of the first chats refused

    def note(self, counter: Counter[str], reason: str, identity: str) -> None:
        """Count one pair under `reason`."""
        counter[reason] += 1
        names = self.examples.setdefault(reason, [])
        if len(names) < _NAMED:
            names.append(identity)

    def refuse(self, one: Pair | Prompt, refusal: ChatRefusedError) -> None:
        """Count a pair or prompt whose chat the template refused."""
        self.note(self.dropped, "refused_by_template", one.id)
        if len(self.refusals) < _NAMED:
            kind = "Pair" if isinstance(one, Pair) else "Prompt"
            self.refusals.append(f"{kind} {one.id} ({one.where}) is left out: {refusal}")

    def to_dict(self) -> dict[str, Any]:
        """JSON values for `done.json`."""
        return {
            "dropped": dict(self.dropped),
            "truncated": dict(self.truncated),
            "examples": self.examples,
        }


class Encoder:
    """Encodes prompts and completions for one model."""

    def __init__(
        self,
        tokenizer: Any,
        *,
        eos_ids: frozenset[int],
        vocab_size: int,
        max_length: int,
        chat_template: str | None = None,
        chat_template_kwargs: dict[str, Any] | None = None,
    ) -> None:
        """`eos_ids` are all ids on which generation ends; `max_length` bounds prompt plus completion."""
        self.tokenizer = tokenizer
        self.eos_ids = eos_ids
        self.vocab_size = vocab_size
        self.max_length = max_length
        self.chat_template = chat_template  # None for the tokenizer's own
        self.chat_template_kwargs = chat_template_kwargs or {}
        plain, special = self._ids(["a"])[0], tokenizer("a", verbose=False)["input_ids"]
        self.bos: tuple[int, ...] = ()
        for start in range(1, len(special) - len(plain) + 1):
            if special[start : start + len(plain)] == plain:
                self.bos = tuple(special[:start])
                break
        self._prefixes_words = tokenizer.convert_ids_to_tokens(plain)[0].startswith("\u2581")
        self.eos = self._plain_eos()
        self._turn_end: int | None = None

    def prompt_ids(self, prompt: Text, tools: list[dict[str, Any]] | None = None) -> tuple[int, ...]:
        """Ids of one prompt as the model is given it, with BOS, before truncation. May be empty.

        Raises ModelError if chat messages come without a chat template to render them, ChatRefusedError if that
        cannot.
        """
        if isinstance(prompt, str):
            ids = self._ids([prompt])[0]
            return self._with_bos(ids)
        return tuple(self._ids([self.render(prompt, tools)])[0])

    def render(self, messages: Sequence[Message], tools: list[dict[str, Any]] | None = None) -> str:
        """The text of a chat up to where the assistant begins, or goes on, to write.

        Raises ChatRefusedError if the template refuses it or leaves out what a message says.
        """
        prefill = messages[-1]["role"] == "assistant"
        told = {"tools": tools} if tools else {}
        rendered = self._template(
            messages, add_generation_prompt=not prefill, continue_final_message=prefill, **told
        )
        for message in messages:
            said = str(message.get("content") or "").rpartition(_THOUGHTS_END)[2].strip()
            if message["role"] in _SPEAKERS and said not in rendered:
                raise ChatRefusedError(f"The chat template leaves out what the {message['role']} says.")
        return rendered

    def truncate_prompt(self, ids: Sequence[int], room: int) -> tuple[int, ...]:
        """The end of a prompt in `room` tokens, its BOS kept if there is room for that and one token more."""
        if len(ids) <= room:
            return tuple(ids)
        bos = self.bos if tuple(ids[: len(self.bos)]) == self.bos and room > len(self.bos) else ()
        return bos + tuple(ids[len(ids) - (room - len(bos)) :])

    def encode_pairs(self, pairs: Sequence[Pair]) -> tuple[list[EncodedPair], EncodingReport]:
        """Encode `pairs` in order, leaving out those that cannot be trained on, counted by reason.

        Raises DataError if token ids lie outside the vocabulary.
        """
        report = EncodingReport()
        texts, kept = [], []
        for pair in pairs:
            try:
                prompt = pair.prompt
                texts.append(prompt if isinstance(prompt, str) else self.render(prompt, pair.tools))
                kept.append(pair)
            except ChatRefusedError as refusal:
                report.refuse(pair, refusal)
        pairs = kept
        prompts = self._ids(texts)
        chosen = self._completions(pairs, texts, prompts, [pair.chosen for pair in pairs])
        rejected = self._completions(pairs, texts, prompts, [pair.rejected for pair in pairs])
        encoded = []
        for pair, ids, *both in zip(pairs, prompts, chosen, rejected, strict=True):
            given = tuple(ids) if isinstance(pair.prompt, list) else self._with_bos(ids)
            one = self._fit(pair, pair.prompt_token_ids or given, both[0], both[1], report)
            if one is not None:
                encoded.append(one)
        return encoded, report

    def _fit(
        self,
        pair: Pair,
        prompt: Sequence[int],
        chosen: list[int],
        rejected: list[int],
        report: EncodingReport,
    ) -> EncodedPair | None:
        """One encoded pair within `max_length`, or None with its reason noted."""
        for ids in (prompt, chosen, rejected):
            if ids and max(ids) >= self.vocab_size:
                raise DataError(
                    f"Pair {pair.id} holds token id {max(ids)}, but the model knows {self.vocab_size} tokens."
                )
        reason = ""
        if not prompt:
            reason = "empty_prompt"
        elif not chosen or not rejected:
            reason = "empty_completion"
        elif chosen == rejected:
            reason = "identical_completions"
        longest = max(len(chosen), len(rejected))
        if not reason and len(prompt) + longest > self.max_length:
            room = max(self.max_length - longest, self.max_length // 4, 1)
            if room < len(prompt):
                prompt = self.truncate_prompt(prompt, room)
                report.note(report.truncated, "prompt", pair.id)
            left = self.max_length - len(prompt)
            if longest > left:
                chosen, rejected = chosen[:left], rejected[:left]
                report.note(report.truncated, "completion", pair.id)
            if chosen == rejected:
                reason = "identical_after_truncation"
        if reason:
            report.note(report.dropped, reason, pair.id)
            return None
        return EncodedPair(
            id=pair.id,
            prompt=tuple(prompt),
            chosen=tuple(chosen),
            rejected=tuple(rejected),
            label=pair.label,
            margin=pair.margin,
            weight=pair.weight,
        )

    def _completions(
        self,
        pairs: Sequence[Pair],
        prompt_texts: Sequence[str],
        prompt_ids: Sequence[list[int]],
        completions: Sequence[Completion],
    ) -> list[list[int]]:
        """Ids of each completion after its prompt, ended as its finish reason says.

        Prompt and completion are tokenized together and split, which gives the completion the ids that it
        would have as running text; where the split falls inside a token, the completion is tokenized alone.
        """
        texts = [
            one.text if isinstance(one.text, str) else str(one.text[0]["content"]) for one in completions
        ]
        together = self._ids([prompt + text for prompt, text in zip(prompt_texts, texts, strict=True)])
        encoded: list[list[int]] = []
        for index, one in enumerate(completions):
            before, joint = prompt_ids[index], together[index]
            if one.token_ids is not None:
                ids = list(one.token_ids)
            elif not texts[index]:
                encoded.append([])
                continue
            elif joint[: len(before)] == before and len(joint) > len(before):
                ids = joint[len(before) :]
            else:
                ids = self._alone(texts[index])
            ended = one.finish_reason == "stop" or (one.finish_reason is None and one.token_ids is None)
            eos = self._eos_after(pairs[index].prompt)
            if ended and eos is not None and (not ids or ids[-1] not in self.eos_ids):
                ids = [*ids, eos]
            encoded.append(ids)
        return encoded

    def _alone(self, text: str) -> list[int]:
        """Ids of text that goes on from other text: without the space SentencePiece puts before a first word."""
        if self._prefixes_words:
            anchor, joint = self._ids(["\n", "\n" + text])
            if joint[: len(anchor)] == anchor:
                return joint[len(anchor) :]
        return self._ids([text])[0]

    def _with_bos(self, ids: Sequence[int]) -> tuple[int, ...]:
        """`ids` after one BOS, also where the text itself already begins with it."""
        if self.bos and tuple(ids[: len(self.bos)]) == self.bos:
            return tuple(ids)
        return self.bos + tuple(ids)

    def _eos_after(self, prompt: Text) -> int | None:
        """The id that ends a completion: EOS, or after a chat the one that ends the assistant's turn."""
        if isinstance(prompt, str):
            return self.eos
        if self._turn_end is None:
            turn = [{"role": "user", "content": "a"}, {"role": "assistant", "content": _SENTINEL}]
            try:
                rendered = self._template(turn, add_generation_prompt=False, continue_final_message=False)
            except ChatRefusedError:  # it asks for more than a user's turn
                rendered = _SENTINEL
            ids = self._ids([rendered.rpartition(_SENTINEL)[2]])[0]
            self._turn_end = next((one for one in ids if one in self.eos_ids), self.eos)
        return self._turn_end

    def _plain_eos(self) -> int | None:
        eos: int | None = self.tokenizer.eos_token_id
        return eos if eos is not None else min(self.eos_ids, default=None)

    def _template(self, messages: Sequence[Message], **how: Any) -> str:
        """Render a chat. Raises ChatRefusedError if the template refuses it, DataError if it does too much."""
        if self.chat_template is None and self.tokenizer.chat_template is None:
            raise ModelError("The prompts are chat messages, but the model's tokenizer has no chat template.")
        overtime = DataError(f"The chat template takes longer than {_TEMPLATE_SECONDS} s for one prompt.")
        try:
            with within(_TEMPLATE_SECONDS, overtime):
                rendered = self.tokenizer.apply_chat_template(
                    list(messages),
                    chat_template=self.chat_template,
                    tokenize=False,
                    **(self.chat_template_kwargs | how),
                )
        except DataError:
            raise
        except Exception as error:  # noqa: BLE001 - templates are programs that come with the model
            raise ChatRefusedError(f"The chat template refused a prompt: {first_line(error)}.") from None
        if len(rendered) > _LONGEST_RENDERED:
            raise DataError(f"The chat template makes {len(rendered)} characters of one prompt.")
        return str(rendered)

    def _ids(self, texts: Sequence[str]) -> list[list[int]]:
        """Ids of each text as it stands, nothing added."""
        if not texts:
            return []
        batch = self.tokenizer(
            list(texts), add_special_tokens=False, return_attention_mask=False, verbose=False
        )
        return [list(ids) for ids in batch["input_ids"]]
