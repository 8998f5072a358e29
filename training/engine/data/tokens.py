"""Text to token ids: prompts, completions, pairs, and what truncation keeps.

Rules that hold for every pair:

- The prompt's ids are an exact prefix of both sequences, even where the tokenizer would merge characters
  across the boundary; ids that were sampled are the ids that are trained on.
- One BOS where the tokenizer adds one. EOS is scored once when the model ended, and absent when it was cut.
- After a chat a completion is what the chat template's rendering of the finished turn adds to the prompt's.
- Control tokens come from the tokenizer and the chat template. In a text they are plain text, unless asked for.
- Truncation takes the middle of the prompt's longest turn (`training.engine.data.truncation`). It takes from the end of
  a completion only when the completions leave the prompt less than a quarter of the room. No pair comes out empty,
  identical or without a prompt; what was dropped is counted by reason.
"""

import hashlib
from array import array
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from training.engine.data.chats import Chats, UnmatchedTurnError, without_end
from training.engine.data.markers import ChatRefusedError
from training.engine.data.truncation import common_prefix, cut_middle
from training.engine.errors import DataError
from training.engine.records import Message, SamplingPrompt, Text, TrainingCompletion, TrainingPair

_INSTRUCTING = ("system", "developer")  # roles whose messages are kept whole
_NAMED = 5  # of the pairs or prompts that are left out for one reason


@dataclass(frozen=True, kw_only=True, slots=True)
class EncodedPair:
    """One pair as ids. `prompt + chosen` and `prompt + rejected` are the two sequences.

    Of a rating, the one that is not there is empty.
    """

    id: str
    prompt: tuple[int, ...]
    chosen: tuple[int, ...]
    rejected: tuple[int, ...]
    label: float
    margin: float
    weight: float
    gap: float | None = None

    @property
    def tokens(self) -> int:
        """Tokens of a packed row that this pair takes: the prompt once, and both completions."""
        return len(self.prompt) + len(self.chosen) + len(self.rejected)

    @property
    def completions(self) -> tuple[tuple[int, ...], ...]:
        """Both completions, or the one of a rating."""
        return tuple(ids for ids in (self.chosen, self.rejected) if ids)


@dataclass
class EncodingReport:
    """Counts of the pairs left out or cut, by reason. `examples` names the first of each."""

    dropped: Counter[str] = field(default_factory=Counter)
    truncated: Counter[str] = field(default_factory=Counter)
    examples: dict[str, list[str]] = field(default_factory=dict)
    refusals: list[str] = field(default_factory=list)  # a sentence for each of the first chats refused
    # Those whose tools the template leaves out.
    hidden: list[TrainingPair | SamplingPrompt] = field(default_factory=list)
    longest: int = 0  # tokens of the longest prompt and completion, before any cut

    def note(self, counter: Counter[str], reason: str, identity: str) -> None:
        """Count one pair under `reason`."""
        counter[reason] += 1
        names = self.examples.setdefault(reason, [])
        if len(names) < _NAMED:
            names.append(identity)

    def refuse(self, one: TrainingPair | SamplingPrompt, refusal: ChatRefusedError) -> None:
        """Count a pair or prompt whose chat the template refused, or finishes otherwise than it begins it."""
        unmatched = isinstance(refusal, UnmatchedTurnError)
        self.note(self.dropped, "unmatched_turn" if unmatched else "refused_by_template", one.id)
        if len(self.refusals) < _NAMED:
            kind = "Pair" if isinstance(one, TrainingPair) else "Prompt"
            self.refusals.append(f"{kind} {one.id} ({one.where}) is left out: {refusal}")

    @property
    def events(self) -> list[str]:
        """Sentences for `done.json` and standard error."""
        if not self.hidden:
            return list(self.refusals)
        kind = "pair" if isinstance(self.hidden[0], TrainingPair) else "prompt"
        count = f"{len(self.hidden)} {kind}{'s' if len(self.hidden) > 1 else ''}"
        named = ", ".join(str(one.id) for one in self.hidden[:_NAMED])
        named += ", …" if len(self.hidden) > _NAMED else ""
        return [
            *self.refusals,
            f"The chat template leaves out tools, or their calls and results, of {count} ({named}):"
            " the model does not see them. Set chat_template to one that shows them.",
        ]

    def to_dict(self) -> dict[str, Any]:
        """Return JSON values for `done.json`."""
        return {
            "dropped": dict(self.dropped),
            "truncated": dict(self.truncated),
            "examples": self.examples,
        }


class _Texts(NamedTuple):
    """The texts of one pair, with their control tokens marked; None in place of ids that were sampled.

    Of a rating, the one that is not there is empty.
    """

    pair: TrainingPair
    hides_tools: bool
    prompt: str
    chosen: str | None
    rejected: str | None


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
        template_date: str | None = None,
        unmatched_turns: str = "refuse",
        control_tokens_in_text: bool = False,
    ) -> None:
        """`eos_ids` are all ids on which generation ends; `max_length` bounds prompt plus completion.

        The last five are settings of the run; `chat_template` is None for the tokenizer's own.
        """
        self.tokenizer = tokenizer
        self.eos_ids = eos_ids
        self.vocab_size = vocab_size
        self.max_length = max_length
        self.chats = Chats(
            tokenizer,
            eos_ids=eos_ids,
            template=chat_template,
            variables=chat_template_kwargs,
            today=template_date,
            unmatched_turns=unmatched_turns,
            control_tokens_in_text=control_tokens_in_text,
        )
        plain = self._ids(["a"])[0]
        self.bos = _find_bos(tokenizer, plain)
        markers = self.chats.markers
        self.special_ids = frozenset(tokenizer.convert_tokens_to_ids(list(markers.special)))
        named = tokenizer.convert_tokens_to_ids(list(markers.named))
        # An unknown word is a special token too, and ends no turn.
        self.control_ids = (self.special_ids | frozenset(named)) - {tokenizer.unk_token_id}
        self._prefixes_words = tokenizer.convert_ids_to_tokens(plain)[0].startswith("\u2581")
        self.eos = self._plain_eos()

    def prompt_ids(self, prompt: Text, tools: list[dict[str, Any]] | None = None) -> tuple[int, ...]:
        """Return the ids of one prompt as the model is given it, with BOS, before truncation. May be empty.

        Raises ModelError if chat messages come without a chat template to render them, ChatRefusedError if that
        cannot.
        """
        ids = self._ids([self.prompt_text(prompt, tools)])[0]
        return tuple(ids) if isinstance(prompt, list) else self._with_bos(ids)

    def prompt_text(self, prompt: Text, tools: list[dict[str, Any]] | None = None) -> str:
        """Return the text of a prompt, without the BOS that plain text may bring, its control tokens marked.

        Raises ChatRefusedError.
        """
        if isinstance(prompt, list):
            return self.chats.render(prompt, tools)
        if self.bos == (self.tokenizer.bos_token_id,):
            prompt = prompt.removeprefix(self.tokenizer.bos_token)
        return self.chats.markers.mark_text(prompt)

    def hides_tools(self, one: TrainingPair | SamplingPrompt) -> bool:
        """Return whether the chat template leaves out tools of a prompt. Raises ChatRefusedError."""
        return isinstance(one.prompt, list) and self.chats.hides_tools(one.prompt, one.tools)

    def check_known(self, ids: Sequence[int], subject: str) -> None:
        """Raise DataError, with a sentence that begins with `subject`, if the model has no embedding for an id."""
        largest = max(ids, default=0)
        if largest < self.vocab_size:
            return
        sentence = f"{subject} holds token id {largest}, but the model knows {self.vocab_size} tokens."
        if largest < len(self.tokenizer):
            token = self.tokenizer.convert_ids_to_tokens(largest)
            sentence += f" Its tokenizer names it {token}. Copy tokenizer and weights from the same model."
        raise DataError(sentence)

    def truncate_prompt(
        self, ids: Sequence[int], room: int, prompt: Text = "", tools: list[dict[str, Any]] | None = None
    ) -> tuple[int, ...]:
        """Return the ids of `prompt` in `room` tokens: without the middle of its longest turn, or several."""
        if len(ids) <= room:
            return tuple(ids)
        first = len(self.bos) if tuple(ids[: len(self.bos)]) == self.bos else 0
        kept = self._instructions(ids, prompt, tools) if isinstance(prompt, list) else []
        return cut_middle(ids, room, control=self.control_ids, kept=kept, first=first)

    def _instructions(
        self, ids: Sequence[int], chat: Sequence[Message], tools: list[dict[str, Any]] | None
    ) -> list[range]:
        """Return where the ids of a chat hold its system messages, and all before its first turn, tools among it."""
        try:
            text = self.prompt_text(list(chat), tools)
        except ChatRefusedError:  # of sampled ids, by a template that is another now
            return []
        places, first, behind = [], 0, 0
        for message in self.chats.markers.mark_chat(chat):
            said = str(message.get("content") or "").strip()
            at = text.find(said, behind) if said else -1
            if message["role"] not in _INSTRUCTING:
                # Some templates put the system message into the last turn.
                first = at if at >= 0 else max(text.find(said), 0)
                break
            if at >= 0:
                behind = at + len(said)
                places.append((at, behind))
        ends = [(0, first), *places]
        return [range(*(common_prefix(ids, self._ids([text[:end]])[0]) for end in one)) for one in ends]

    def encode_pairs(self, pairs: Sequence[TrainingPair]) -> tuple[list[EncodedPair], EncodingReport]:
        """Encode `pairs` in order, leaving out those that cannot be trained on, counted by reason.

        Raises DataError if token ids lie outside the vocabulary.
        """
        report = EncodingReport()
        texts = []
        for pair in pairs:
            try:
                texts.append(self._texts(pair))
            except ChatRefusedError as refusal:
                report.refuse(pair, refusal)
        prompts = self._ids([one.prompt for one in texts])
        chosen = self._completions(texts, prompts, [(one.pair.chosen, one.chosen) for one in texts])
        rejected = self._completions(texts, prompts, [(one.pair.rejected, one.rejected) for one in texts])
        encoded = []
        for one, ids, better, worse in zip(texts, prompts, chosen, rejected, strict=True):
            pair = one.pair
            given = tuple(ids) if isinstance(pair.prompt, list) else self._with_bos(ids)
            fitted = self._fit(pair, pair.prompt_token_ids or given, better, worse, report)
            if fitted is not None:
                encoded.append(fitted)
                if one.hides_tools:
                    report.hidden.append(pair)
        return encoded, report

    def _texts(self, pair: TrainingPair) -> "_Texts":
        """Return the texts of a pair. Raises ChatRefusedError."""
        known = [one.token_ids for one in (pair.chosen, pair.rejected) if one]
        before = (
            "" if None not in (pair.prompt_token_ids, *known) else self.prompt_text(pair.prompt, pair.tools)
        )
        both = [
            self._completion_text(pair, one, before) if one else "" for one in (pair.chosen, pair.rejected)
        ]
        for text in (before, *both):
            self.chats.markers.ids(text or "")  # refuses what cannot be encoded
        # Not of sampled ids, which the template may not have written.
        hides_tools = bool(before) and self.hides_tools(pair)
        return _Texts(pair, hides_tools, before, *both)

    def _completion_text(self, pair: TrainingPair, completion: TrainingCompletion, before: str) -> str | None:
        """Return what follows the prompt's text `before`, or None for sampled ids. Raises ChatRefusedError."""
        if completion.token_ids is not None:
            return None
        if isinstance(pair.prompt, list):
            return self.chats.render_turn(pair.prompt, pair.tools, before, completion)
        text = completion.text if isinstance(completion.text, str) else str(completion.text[0]["content"])
        return self.chats.markers.mark_text(without_end(text, list(self.chats.ends)))

    def _fit(
        self,
        pair: TrainingPair,
        prompt: Sequence[int],
        chosen: list[int],
        rejected: list[int],
        report: EncodingReport,
    ) -> EncodedPair | None:
        """Return one encoded pair within `max_length`, or None with its reason noted."""
        self.check_known([*prompt, *chosen, *rejected], f"Pair {pair.id} ({pair.where})")
        reason = _why_unfit(pair, prompt, chosen, rejected)
        longest = max(len(chosen), len(rejected))
        report.longest = max(report.longest, len(prompt) + longest)
        if not reason and len(prompt) + longest > self.max_length:
            room = max(self.max_length - longest, self.max_length // 4, 1)
            if room < len(prompt):
                prompt = self.truncate_prompt(prompt, room, pair.prompt, pair.tools)
                report.note(report.truncated, "prompt_middle", pair.id)
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
            gap=pair.gap,
        )

    def _completions(
        self,
        texts: Sequence["_Texts"],
        prompts: Sequence[list[int]],
        completions: Sequence[tuple[TrainingCompletion | None, str | None]],
    ) -> list[list[int]]:
        """Return the ids of each completion after its prompt, ended as its finish reason says.

        Prompt and completion are tokenized together and split, which gives the completion the ids that it
        would have as running text; where the split falls inside a token, the completion is tokenized alone.
        """
        together = self._ids(
            [one.prompt + text if text else "" for one, (_, text) in zip(texts, completions, strict=True)]
        )
        encoded: list[list[int]] = []
        for one, before, joint, (completion, text) in zip(texts, prompts, together, completions, strict=True):
            if completion is None or text == "":
                encoded.append([])
                continue
            if text is None:
                ids = list(completion.token_ids or ())
            elif joint[: len(before)] == before and len(joint) > len(before):
                ids = joint[len(before) :]
            else:
                ids = self._alone(text)
            if completion.ended:
                is_chat = isinstance(one.pair.prompt, list)
                ids = self._with_end(ids, is_chat=is_chat, is_rendered=is_chat and text is not None)
            encoded.append(ids)
        return encoded

    def _with_end(self, ids: list[int], *, is_chat: bool, is_rendered: bool) -> list[int]:
        """Return the ids of a completion that the model ended, with the token that ends it.

        Where the template has rendered it, one of the template's special tokens may end it already.
        """
        end = self.chats.ending.id if is_chat else self.eos
        ends = self.eos_ids | {end} | (self.special_ids if is_rendered else set())
        return ids if end is None or (ids and ids[-1] in ends) else [*ids, end]

    def _alone(self, text: str) -> list[int]:
        """Return the ids of text that continues other text, without the blank that SentencePiece puts first."""
        if self._prefixes_words:
            anchor, joint = self._ids(["\n", "\n" + text])
            if joint[: len(anchor)] == anchor:
                return joint[len(anchor) :]
        return self._ids([text])[0]

    def _with_bos(self, ids: Sequence[int]) -> tuple[int, ...]:
        """Return `ids` after one BOS, even where the text itself begins with one."""
        if self.bos and tuple(ids[: len(self.bos)]) == self.bos:
            return tuple(ids)
        return self.bos + tuple(ids)

    def _plain_eos(self) -> int | None:
        eos: int | None = self.tokenizer.eos_token_id
        return eos if eos is not None else min(self.eos_ids, default=None)

    def _ids(self, texts: Sequence[str]) -> list[list[int]]:
        """Return the ids of each text, in which control tokens may be marked, nothing added."""
        if not texts:
            return []
        batch = self.tokenizer(
            list(texts), add_special_tokens=False, return_attention_mask=False, verbose=False
        )
        return [
            self.chats.markers.ids(text) or list(ids)
            for text, ids in zip(texts, batch["input_ids"], strict=True)
        ]


def _find_bos(tokenizer: Any, plain: list[int]) -> tuple[int, ...]:
    """Return what the tokenizer puts before a text, by what it makes of “a”, whose own ids are `plain`."""
    special = tokenizer("a", verbose=False)["input_ids"]
    for start in range(1, len(special) - len(plain) + 1):
        if special[start : start + len(plain)] == plain:
            return tuple(special[:start])
    return ()


def _why_unfit(pair: TrainingPair, prompt: Sequence[int], chosen: list[int], rejected: list[int]) -> str:
    """Return the reason why a pair with these ids teaches nothing, or ""."""
    if not prompt:
        return "empty_prompt"
    if (pair.chosen and not chosen) or (pair.rejected and not rejected):
        return "empty_completion"
    if pair.chosen and pair.rejected and chosen == rejected:
        if pair.chosen.token_ids is pair.rejected.token_ids and pair.chosen.text != pair.rejected.text:
            return "identical_to_tokenizer"  # which drops the blanks that they differ in
        return "identical_completions"
    return ""


def digest_pairs(pairs: Sequence[EncodedPair]) -> str:
    """Return the SHA-256 of the ids of all pairs, in their order."""
    sha = hashlib.sha256()
    for pair in pairs:
        for ids in (pair.prompt, pair.chosen, pair.rejected):
            sha.update(array("q", (len(ids), *ids)).tobytes())
    return sha.hexdigest()
