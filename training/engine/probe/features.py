"""Features of a completion: mean and deviation of the frozen base model's hidden states over its tokens, and a sketch
of these tokens.

The mean says what a completion is like, the deviation how much it changes on the way, the sketch what it is made of.
With each the probe foretells more (docs/learning.md). A token that ended the completion is not a part of it. Layers are
spread over the last third of the model: what is written shows there, and the very last ones turn to the next token.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from functools import partial
from typing import Any

import torch
from torch import nn

from training.engine.data.packing import PairRow
from training.engine.data.tokens import EncodedPair
from training.engine.errors import ModelError
from training.engine.model.forwards import computed_by
from training.engine.model.logps import Scorer
from training.engine.model.wrappers import text_part
from training.engine.probe.sketch import sketch_tokens

FIRST_DEPTH = 2 / 3  # of the model, from where on layers are read
_AT_A_TIME = 1024  # pairs that share rows


class FeatureReader:
    """The reader of features by one model: of pairs, in rows as training has them."""

    def __init__(self, scorer: Scorer, layers: int, tokens: int, ends: frozenset[int]) -> None:
        """`layers` is how many are read, `tokens` the size of the sketch, `ends` the ids that end a completion."""
        self.scorer, self.tokens, self.ends = scorer, tokens, ends
        self.layers = choose_layers(scorer.base, layers)

    def read(
        self, pairs: Sequence[EncodedPair], report: Callable[[int], None] = lambda done: None
    ) -> Iterator[tuple[list[int], torch.Tensor]]:
        """Yield places in `pairs`, and their completions' features (places, 2, size), float32 on the CPU.

        A rating's other completion has features of 0. A completion has the same features in any company, up to
        rounding. Long pairs come first, so that a padded row holds pairs of like length.
        """
        fed = [_fed(pair, self.ends) for pair in pairs]
        order = sorted(range(len(fed)), key=lambda at: (-fed[at].tokens, at))
        done = 0
        for start in range(0, len(order), _AT_A_TIME):
            some = order[start : start + _AT_A_TIME]
            for row in self.scorer.rows(fed, self.scorer.groups(fed, some)):
                with torch.no_grad(), computed_by(self.scorer.base):
                    features = self._read_row(row)
                yield list(row.pairs), features
                done += len(row.pairs)
                report(done)

    def _read_row(self, row: PairRow) -> torch.Tensor:
        """Return the features (B, 2, size) of one row."""
        # The first token of each is foretold by the prompt's last, and the last of each is not a part of it.
        places = [part[1:] for part in row.index.split(row.lengths.tolist())]
        tokens = [part[:-1] for part in row.targets.split(row.lengths.tolist())]
        feed = partial(self.scorer.feed, row)
        found = self._read_apart(row, places) if row.alone else self._watch(feed, places)
        sketches = torch.stack([sketch_tokens(ids, self.tokens) for ids in tokens])
        return torch.cat([found, sketches], dim=1).view(len(row.pairs), 2, -1)

    def _read_apart(self, row: PairRow, places: Sequence[torch.Tensor]) -> torch.Tensor:
        """Return features (2B, size), each sequence by a forward of its own."""
        width = row.input_ids.shape[1]
        found = {
            at: self._watch(partial(self.scorer.feed, row, at), [part - at * width])[0]
            for at, part in enumerate(places)
            if len(part)
        }
        nothing = torch.zeros_like(next(iter(found.values())))
        return torch.stack([found.get(at, nothing) for at in range(len(places))])

    def _watch(self, feed: Callable[[], None], places: Sequence[torch.Tensor]) -> torch.Tensor:
        """Return features (completions, size) over flat places of what the layers return while `feed` runs."""
        found: dict[int, torch.Tensor] = {}

        def keep(number: int) -> Callable[[nn.Module, Any, Any], None]:
            def hook(_module: nn.Module, _inputs: Any, output: Any) -> None:
                found[number] = _moments(_hidden(output), places)

            return hook

        hooks = [layer.register_forward_hook(keep(number)) for number, layer in enumerate(self.layers)]
        try:
            feed()
        finally:
            for hook in hooks:
                hook.remove()
        return torch.cat([found[number] for number in range(len(self.layers))], dim=1).cpu()


def choose_layers(base: Any, count: int) -> list[nn.Module]:
    """Return the modules whose outputs are read: the text part as a whole for the last one, before it single layers."""
    whole = text_part(base)
    total = base.config.get_text_config(decoder=True).num_hidden_layers
    stack = next(
        (one for one in whole.modules() if isinstance(one, nn.ModuleList) and len(one) == total), None
    )
    if stack is None or count == 1:
        return [whole]
    depths = torch.linspace(FIRST_DEPTH, 1, count)[:-1].tolist()
    places = sorted({min(max(round(depth * total), 1), total - 1) for depth in depths})
    return [*(stack[place - 1] for place in places), whole]


def _fed(pair: EncodedPair, ends: frozenset[int]) -> EncodedPair:
    """Return a pair of which each completion's words are fed: rows leave the last token of each out."""

    def fed(ids: tuple[int, ...]) -> tuple[int, ...]:
        return ids if len(ids) > 1 and ids[-1] in ends else (*ids, 0) if ids else ids

    return replace(pair, chosen=fed(pair.chosen), rejected=fed(pair.rejected))


def _hidden(output: Any) -> torch.Tensor:
    """Return the hidden states (rows, tokens, size) that a module returned."""
    hidden = getattr(output, "last_hidden_state", None)
    if hidden is None:
        hidden = output[0] if isinstance(output, (tuple, list)) else output
    if not isinstance(hidden, torch.Tensor) or hidden.ndim != 3:
        raise ModelError("The model's layers return no hidden state for each token, which a probe reads.")
    return hidden


def _moments(hidden: torch.Tensor, places: Sequence[torch.Tensor]) -> torch.Tensor:
    """Return means and deviations (completions, 2 size) over flat places, in float32; 0 over no place."""
    flat = hidden.reshape(-1, hidden.shape[-1])
    zero = torch.zeros(2 * hidden.shape[-1], dtype=torch.float32, device=hidden.device)
    return torch.stack([_both(flat[some.to(flat.device)].float()) if len(some) else zero for some in places])


def _both(states: torch.Tensor) -> torch.Tensor:
    """Return the mean and the deviation over tokens (T, size), one behind the other."""
    spread, mean = torch.std_mean(states, dim=0, correction=0)
    return torch.cat([mean, spread])
