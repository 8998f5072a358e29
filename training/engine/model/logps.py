"""Log-probabilities of completions: of rows of pairs, under the policy or the reference.

The vocabulary projection is taken only where a completion token is predicted, and no logits are kept: the head
is frozen, so the derivative of a token's log-probability by its hidden state,

    d log p(y) / d h = W[y] - softmax(W h) W        (1)

does not depend on what comes after it, and is computed in the forward pass. Both terms come from one pass over blocks
of the vocabulary, each multiplied while it is in the cache. The softmax's largest score and sum are corrected from
block to block (Milakov & Gimelshein, 1805.02867, as FlashAttention does over keys). The backward pass multiplies by a
number per token. Log-probabilities are float32 from the softmax on, and their sums over a completion float64.
"""

import contextlib
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import torch
import transformers
from torch import nn
from torch.nn import functional

from training.engine.data.packing import PairRow, distribute, pack, pad, padding, row_multiple, width_of
from training.engine.data.tokens import EncodedPair
from training.engine.errors import ConfigError
from training.engine.model.attention import PACKED
from training.engine.model.forwards import AttentionChoice, ForwardArguments
from training.engine.model.longrope import Sides
from training.engine.model.wrappers import head_of, text_part

# How pairs become forwards: prompts computed once, sequences side by side, or each by itself.
Form = Literal["packed", "padded", "alone"]

_TAKES_MASK = hasattr(transformers.modeling_utils, "slice_logits_to_keep")
_BLOCK = {"cpu": 2048, "cuda": 16_384}  # vocabulary entries multiplied at once; measured on the CPU


@dataclass(frozen=True)
class Head:
    """The frozen projection to the vocabulary, with what some architectures do to the logits after it."""

    weight: torch.Tensor  # (V, H)
    bias: torch.Tensor | None  # (V,)
    scale: float = 1.0  # Cohere multiplies, Granite divides
    softcap: float | None = None  # Gemma 2: c * tanh(logits / c)

    @classmethod
    def from_model(cls, base: Any) -> "Head | None":
        """Return the head of a transformers causal language model, None if that is another kind of layer.

        Raises ConfigError if it is being trained.
        """
        layer, config = head_of(base), base.config.get_text_config()
        if layer is not None and any(weight.requires_grad for weight in layer.parameters()):
            raise ConfigError("lora.target_modules", "must not include the vocabulary head.")
        if not isinstance(layer, nn.Linear):
            return None
        scale = getattr(config, "logit_scale", None) or 1 / (getattr(config, "logits_scaling", None) or 1)
        return cls(layer.weight, layer.bias, scale, getattr(config, "final_logit_softcapping", None))

    def finish(self, logits: torch.Tensor, slope: bool) -> tuple[torch.Tensor, torch.Tensor | None]:
        """Return scores (N, n) for the softmax, in the logits' memory.

        With `slope` and a softcap, their derivative by the scaled logits comes too.
        """
        scores = logits.mul_(self.scale) if self.scale != 1 else logits
        if self.softcap is None:
            return scores, None
        bent = scores.div_(self.softcap).tanh_()
        bend = 1 - bent**2 if slope else None
        return bent.mul_(self.softcap), bend


class TokenLogps(torch.autograd.Function):
    """Log-probabilities (N,) of `targets` (N,) given hidden states (N, H), without keeping logits."""

    @staticmethod
    def forward(ctx: Any, hidden: torch.Tensor, targets: torch.Tensor, head: Head) -> torch.Tensor:
        """Return float32 (N,); keeps equation (1), of hidden's shape and type, if a gradient is wanted."""
        wants_slope, count = ctx.needs_input_grad[0], len(hidden)
        if missing := padding(count, row_multiple(hidden.dtype, hidden.device)):
            hidden, targets = (
                functional.pad(hidden, (0, 0, 0, missing)),
                functional.pad(targets, (0, missing)),
            )
        largest = hidden.new_full((len(hidden), 1), -torch.inf, dtype=torch.float32)
        total = torch.zeros_like(largest)  # of exp(score - largest)
        found = torch.zeros_like(largest)  # the target's score
        mean = torch.zeros_like(hidden, dtype=torch.float32) if wants_slope else None  # of W, times total
        bends = torch.ones_like(largest)  # derivative of the target's score by its logit
        for start in range(0, len(head.weight), block := _BLOCK[hidden.device.type]):
            weight = head.weight[start : start + block].to(hidden.dtype)
            bias = None if head.bias is None else head.bias[start : start + block]
            scores, bend = head.finish(functional.linear(hidden, weight, bias).float(), wants_slope)
            inside = (targets[:, None] >= start) & (targets[:, None] < start + len(weight))
            place = (targets[:, None] - start).clamp(0, len(weight) - 1)
            found = torch.where(inside, scores.gather(1, place), found)
            before, largest = largest, torch.maximum(largest, scores.amax(dim=1, keepdim=True))
            shrunk = (before - largest).exp_()
            odds = scores.sub_(largest).exp_()
            total = total.mul_(shrunk).add_(odds.sum(dim=1, keepdim=True))
            if mean is None:
                continue
            if bend is not None:
                bends = torch.where(inside, bend.gather(1, place), bends)
                odds = odds.mul_(bend)
            mean.mul_(shrunk)
            if hidden.dtype == torch.float32:
                mean.addmm_(odds, weight)
            else:
                mean.add_(odds.to(hidden.dtype) @ weight)
        if mean is not None:
            wanted = head.weight[targets].float().mul_(bends)
            slope = wanted.sub_(mean.div_(total)).mul_(head.scale)
            ctx.save_for_backward(slope[:count].to(hidden.dtype))
        return (found - largest - total.log())[:count, 0]

    @staticmethod
    def backward(ctx: Any, *upstream: torch.Tensor) -> tuple[torch.Tensor, None, None]:
        """Return (N, H): the upstream gradient of each token times equation (1)."""
        (slope,) = ctx.saved_tensors
        return slope * upstream[0][:, None].to(slope.dtype), None, None


@dataclass(frozen=True)
class Predictions:
    """The predictions of a model at N places: hidden states with the head that makes logits of them, or logits."""

    states: torch.Tensor  # (N, H), or (N, V) without a head
    head: Head | None

    def log_probabilities(self, places: slice) -> torch.Tensor:
        """Return the log-probability of each token of the vocabulary at some of the places, (n, V) in float32."""
        states = self.states[places]
        if self.head is not None:
            logits = functional.linear(states, self.head.weight.to(states.dtype), self.head.bias).float()
            states = self.head.finish(logits, slope=False)[0]
        return states.log_softmax(dim=-1)


class Scorer:
    """One model that computes log-probabilities, in rows of one form."""

    def __init__(self, model: Any, base: Any, *, max_tokens: int, device: torch.device) -> None:
        """`model` is the PeftModel or `base` itself; `use` decides on the form of its rows."""
        self.model, self.base, self.device = model, base, device
        self.max_tokens = max_tokens
        self.head, self._text = Head.from_model(base), text_part(base)
        self.form: Form = "padded"
        self.was_packed = False  # by former versions, though texts see one another in its packed rows
        self.sides = Sides(base.config)
        self._arguments = ForwardArguments(base)
        self._attention = AttentionChoice(base)
        self._dropouts = [module for name, module in model.named_modules() if "lora_dropout" in name]
        self._drop(False)  # PEFT makes its layers in training mode

    def use(self, form: Form) -> None:
        """Make rows of this form from now on."""
        self.form = form
        self._attention.use(PACKED if form == "packed" else None)

    def release(self) -> None:
        """Give the model its own attention back."""
        self._attention.use(None)

    @contextlib.contextmanager
    def dropout(self) -> Iterator[None]:
        """Let the adapter drop inputs inside; outside it never does, and the base model never anywhere."""
        self._drop(True)
        try:
            yield
        finally:
            self._drop(False)

    def _drop(self, on: bool) -> None:
        for module in self._dropouts:
            module.train(on)

    def groups(
        self, pairs: Sequence[EncodedPair], positions: Sequence[int], at_least: int = 1
    ) -> list[list[int]]:
        """Return which of the pairs at `positions` share a row: none whose numbers its neighbours would change.

        There are at least `at_least` groups if there are pairs enough.
        """
        like: dict[object, list[int]] = {}
        for at in positions:
            sides = self._sides(pairs[at])
            like.setdefault(at if len(sides) > 1 else sides, []).append(at)
        return [
            [some[item] for item in group]
            for some in like.values()
            for group in distribute(
                self._tokens_in_row([pairs[at] for at in some]), self.max_tokens, at_least
            )
        ]

    def _tokens_in_row(self, pairs: Sequence[EncodedPair]) -> list[int]:
        """Return how many tokens of a row each pair takes; padded, all are as long as the longest."""
        if self.form != "padded":
            return [pair.tokens for pair in pairs]
        longest = max(len(pair.prompt) + max(len(pair.chosen), len(pair.rejected)) for pair in pairs)
        return [2 * width_of(longest, self._multiple)] * len(pairs)

    @property
    def _multiple(self) -> int:
        return row_multiple(self.base.dtype, self.device)

    def rows(self, pairs: Sequence[EncodedPair], groups: Iterable[Sequence[int]]) -> Iterator[PairRow]:
        """Yield the rows of `groups`."""
        for group in groups:
            if self.is_alone(pairs[group[0]]):
                yield pad(pairs, group, alone=True)
            else:
                make = pack if self.form == "packed" else pad
                yield make(pairs, group, self._multiple)

    def is_alone(self, pair: EncodedPair) -> bool:
        """Return whether the two sequences of a pair are computed apart."""
        return self.form == "alone" or len(self._sides(pair)) > 1

    def _sides(self, pair: EncodedPair) -> frozenset[int]:
        """Return which position encodings the sequences of a pair are computed with."""
        fed = (len(pair.prompt) + len(one) - 1 for one in pair.completions)
        return frozenset(self.sides.side_of(length) for length in fed)

    def token_logps(self, row: PairRow) -> torch.Tensor:
        """Return log-probabilities (N,) of the row's completion tokens, float32."""
        row = row.to(self.device)
        self._prepare(row)
        if row.spans is not None:
            return TokenLogps.apply(self._packed_states(row), row.targets, self._packing_head())
        return self._row_logits(row).log_softmax(dim=-1).gather(1, row.targets[:, None])[:, 0]

    @torch.no_grad()
    def predictions(self, row: PairRow) -> "Predictions":
        """Return what is predicted at the places of the row's N completion tokens, over the whole vocabulary."""
        row = row.to(self.device)
        self._prepare(row)
        if row.spans is not None:
            return Predictions(self._packed_states(row), self._packing_head())
        return Predictions(self._row_logits(row), None)

    def _prepare(self, row: PairRow) -> None:
        # Not changed back behind it: the row's backward pass may compute attention again.
        self._attention.use(PACKED if row.spans is not None else None)

    def _row_logits(self, row: PairRow) -> torch.Tensor:
        """Return logits (N, V) in float32 of a row that is not packed, which is on the device."""
        predicting = torch.zeros_like(row.input_ids, dtype=torch.bool)
        predicting.view(-1)[row.index] = True  # the index ascends: logits come back in its order
        if not row.alone:
            return self._plain_logits(
                predicting,
                input_ids=row.input_ids,
                attention_mask=row.attention_mask,
                position_ids=row.position_ids,
            )
        lengths: list[int] = [] if row.attention_mask is None else row.attention_mask.sum(dim=1).tolist()
        parts = [
            self._plain_logits(predicting[[at], :length], input_ids=row.input_ids[[at], :length])
            for at, length in enumerate(lengths)
            if row.lengths[at]  # a rating has one completion
        ]
        return torch.cat(parts)

    def feed(self, row: PairRow, at: int | None = None) -> None:
        """Run the model over a row for what its modules return, with hardly any logits. `at` is one sequence of it."""
        row = row.to(self.device)
        self._attention.use(PACKED if row.spans is not None else None)
        if row.spans is not None:
            self._text(
                input_ids=row.input_ids, position_ids=row.position_ids, spans=row.spans, use_cache=False
            )
            return
        inputs = {"attention_mask": row.attention_mask, "position_ids": row.position_ids}
        ids = row.input_ids
        if at is not None and row.attention_mask is not None:
            inputs, ids = {}, ids[[at], : int(row.attention_mask[at].sum())]
        self.model(**self._arguments.accepted({"input_ids": ids, "logits_to_keep": 1, **inputs}))

    def _plain_logits(self, predicting: torch.Tensor, **inputs: torch.Tensor | None) -> torch.Tensor:
        """Return logits (N, V) in float32 where `predicting` (R, T) is true, by the model's own forward."""
        # Before 5.23, transformers took columns here, the same for every sequence, and no mask.
        columns = None if _TAKES_MASK else predicting.any(dim=0).nonzero()[:, 0]
        wanted: dict[str, Any] = {"logits_to_keep": predicting if columns is None else columns, **inputs}
        logits: torch.Tensor = self.model(**self._arguments.accepted(wanted)).logits
        if logits.shape[:-1] == predicting.shape:  # of a model that keeps all
            logits = logits[predicting]
        elif columns is not None:
            logits = logits[predicting[:, columns]]
        return logits.float()

    def _packing_head(self) -> Head:
        if self.head is None:
            raise NotImplementedError("its vocabulary head is not a linear layer")
        return self.head

    def _packed_states(self, row: PairRow) -> torch.Tensor:
        """Return the hidden states (N, H) that predict the completion tokens of a packed row."""
        self._packing_head()
        hidden = self._text(
            input_ids=row.input_ids, position_ids=row.position_ids, spans=row.spans, use_cache=False
        ).last_hidden_state
        states: torch.Tensor = hidden[0].index_select(0, row.index)
        return states

    def pair_logps(self, row: PairRow) -> tuple[torch.Tensor, torch.Tensor]:
        """Return summed log-probabilities of the row's chosen and rejected completions, each (B,), float64."""
        lengths = row.lengths.tolist()
        sums = torch.stack([part.sum() for part in self.token_logps(row).double().split(lengths)])
        return sums[0::2], sums[1::2]

    @torch.no_grad()
    def score(self, row: PairRow) -> torch.Tensor:
        """Return what `pair_logps` does as (B, 2), on the CPU and without gradients."""
        return torch.stack(self.pair_logps(row), dim=1).cpu()
