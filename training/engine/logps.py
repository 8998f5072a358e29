"""Log-probabilities of completions: of rows of pairs, under the policy or the reference.

The vocabulary projection is taken only where a completion token is predicted, in chunks, and no logits
are kept: the head is frozen, so the derivative of a token's log-probability by its hidden state,

    d log p(y) / d h = W[y] - softmax(W h) W        (1)

does not depend on what comes after it, and is computed in the forward pass while the chunk's logits are at
hand. The backward pass multiplies it by a number per token. Log-probabilities are float32 from the softmax
on, and their sums over a completion float64.
"""

import contextlib
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn
from torch.nn import functional

from training.engine.attention import PACKED
from training.engine.errors import ConfigError
from training.engine.packing import Row, pack, pad, share_pairs
from training.engine.tokens import EncodedPair

_CHUNK_BYTES = 64 << 20  # of one chunk's logits
_SOFTMAX_BYTES = 2 << 20  # of the float32 copy the softmax works on: stays in a core's cache


@dataclass(frozen=True)
class Head:
    """The frozen projection to the vocabulary, with what some architectures do to the logits after it."""

    weight: torch.Tensor  # (V, H)
    bias: torch.Tensor | None  # (V,)
    scale: float = 1.0  # Cohere multiplies, Granite divides
    softcap: float | None = None  # Gemma 2: c * tanh(logits / c)

    @classmethod
    def of(cls, base: Any) -> "Head":
        """The head of a transformers causal language model. Raises ConfigError if it is being trained."""
        layer, config = base.get_output_embeddings(), base.config.get_text_config()
        if not isinstance(layer, nn.Linear) or layer.weight.requires_grad:
            raise ConfigError("lora.target_modules must not include the vocabulary head.")
        scale = getattr(config, "logit_scale", None) or 1 / (getattr(config, "logits_scaling", None) or 1)
        return cls(layer.weight, layer.bias, scale, getattr(config, "final_logit_softcapping", None))


class TokenLogps(torch.autograd.Function):
    """Log-probabilities (N,) of `targets` (N,) given hidden states (N, H), without keeping logits."""

    @staticmethod
    def forward(ctx: Any, hidden: torch.Tensor, targets: torch.Tensor, head: Head) -> torch.Tensor:
        """Return float32 (N,); keeps equation (1), of hidden's shape and type, if a gradient is wanted."""
        slope = torch.empty_like(hidden) if ctx.needs_input_grad[0] else None
        logps = torch.empty(len(targets), dtype=torch.float32, device=hidden.device)
        rows = max(1, _CHUNK_BYTES // (head.weight.shape[0] * hidden.element_size()))
        chunks = -(-len(targets) // rows) or 1
        rows = max(1, -(-len(targets) // chunks))  # even chunks: the last is as efficient as the first
        for start in range(0, len(targets), rows):
            part = slice(start, start + rows)
            logits = functional.linear(hidden[part], head.weight, head.bias)
            logps[part] = _softmax_in_place(logits, targets[part], head, slope is not None)
            if slope is not None:
                torch.mm(logits, head.weight, out=slope[part])
        if slope is not None:
            ctx.save_for_backward(slope)
        return logps

    @staticmethod
    def backward(ctx: Any, *upstream: torch.Tensor) -> tuple[torch.Tensor, None, None]:
        """(N, H): the upstream gradient of each token times equation (1)."""
        (slope,) = ctx.saved_tensors
        return slope * upstream[0][:, None].to(slope.dtype), None, None


def _softmax_in_place(logits: torch.Tensor, targets: torch.Tensor, head: Head, slope: bool) -> torch.Tensor:
    """Log-probabilities (n,) of `targets`; with `slope`, logits (n, V) become d log p(target) / d W h."""
    found = torch.empty(len(targets), dtype=torch.float32, device=logits.device)
    rows = max(1, _SOFTMAX_BYTES // (logits.shape[1] * 4)) if logits.device.type == "cpu" else len(targets)
    for start in range(0, len(targets), rows):
        part = slice(start, start + rows)
        scores = logits[part].float()
        scores = scores.mul_(head.scale) if head.scale != 1 else scores
        if head.softcap is not None:
            scores = scores.div_(head.softcap).tanh_().mul_(head.softcap)
        wanted = targets[part, None]
        logsumexp = scores.logsumexp(dim=-1, keepdim=True)
        found[part] = (scores.gather(1, wanted) - logsumexp)[:, 0]
        if not slope:
            continue
        bend = None if head.softcap is None else 1 - (scores / head.softcap) ** 2
        grad = scores.sub_(logsumexp).exp_().neg_()
        grad.scatter_add_(1, wanted, torch.ones_like(wanted, dtype=grad.dtype))
        if bend is not None:
            grad.mul_(bend)
        logits[part] = grad.mul_(head.scale) if head.scale != 1 else grad
    return found


class Scorer:
    """Computes log-probabilities with one model, in packed rows or in the plain form."""

    def __init__(self, model: Any, base: Any, *, max_tokens: int, device: torch.device) -> None:
        """`model` is the PeftModel or `base` itself; `use` decides on the form of its rows."""
        self.model, self.base, self.device = model, base, device
        self.max_tokens = max_tokens
        self.head = Head.of(base)
        self.packed = False
        self._plain_attention = base.config._attn_implementation
        self._drop(False)  # PEFT makes its layers in training mode

    def use(self, *, packed: bool) -> None:
        """Switch to packed rows or to the plain form, and the model's attention with it."""
        self.packed = packed
        self.base.set_attn_implementation(PACKED if packed else self._plain_attention)

    @contextlib.contextmanager
    def dropout(self) -> Iterator[None]:
        """Let the adapter drop inputs inside; outside it never does, and the base model never anywhere."""
        self._drop(True)
        try:
            yield
        finally:
            self._drop(False)

    def _drop(self, on: bool) -> None:
        for name, module in self.model.named_modules():
            if "lora_dropout" in name:
                module.train(on)

    def groups(
        self, pairs: Sequence[EncodedPair], positions: Sequence[int], at_least: int = 1
    ) -> list[list[int]]:
        """Which of the pairs at `positions` share a row."""
        return share_pairs(
            pairs, positions, packed=self.packed, max_tokens=self.max_tokens, at_least=at_least
        )

    def rows(self, pairs: Sequence[EncodedPair], groups: Iterable[Sequence[int]]) -> Iterator[Row]:
        """The rows of `groups`, each made when it is asked for."""
        form = pack if self.packed else pad
        return (form(pairs, group) for group in groups)

    def token_logps(self, row: Row) -> torch.Tensor:
        """Log-probabilities (N,) of the row's completion tokens, float32."""
        row = row.to(self.device)
        if row.spans is None:
            predicting = torch.zeros_like(row.input_ids, dtype=torch.bool)
            predicting.view(-1)[row.index] = True  # the index ascends: logits come back in its order
            logits = self.model(
                input_ids=row.input_ids,
                attention_mask=row.attention_mask,
                position_ids=row.position_ids,
                logits_to_keep=predicting,
            ).logits.float()
            return logits.log_softmax(dim=-1).gather(1, row.targets[:, None])[:, 0]
        hidden = self.base.base_model(
            input_ids=row.input_ids, position_ids=row.position_ids, spans=row.spans, use_cache=False
        ).last_hidden_state
        return TokenLogps.apply(hidden[0].index_select(0, row.index), row.targets, self.head)

    def pair_logps(self, row: Row) -> tuple[torch.Tensor, torch.Tensor]:
        """Summed log-probabilities of the row's chosen and rejected completions, each (B,), float64."""
        lengths = row.lengths.tolist()
        sums = torch.stack([part.sum() for part in self.token_logps(row).double().split(lengths)])
        return sums[0::2], sums[1::2]

    @torch.no_grad()
    def score(self, row: Row) -> torch.Tensor:
        """What `pair_logps` gives as (B, 2), on the CPU and without gradients."""
        return torch.stack(self.pair_logps(row), dim=1).cpu()
