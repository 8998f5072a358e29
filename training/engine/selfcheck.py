"""Checks of a model before a run relies on it: one function for each silent fault.

Architectures differ in ways that no table of names would cover. So each is tried on the shortest and the longest of
the run's own texts. The one computation that needs no argument is the yardstick: a plain forward of one sequence,
without padding, mask or cache. A way that disagrees gives place to a slower one that does not, or is refused in one
sentence.
"""

from collections.abc import Callable, Sequence
from dataclasses import replace

import torch

from training.engine.data.packing import PairRow, pad
from training.engine.data.tokens import EncodedPair
from training.engine.errors import DataError, EngineError, ModelError, first_line, memory_short
from training.engine.model.attention import PACKED
from training.engine.model.base import LoadedModel
from training.engine.model.forwards import computed_by
from training.engine.model.logps import Form, Scorer
from training.engine.sampling.decoding import Decoder, close_ranks
from training.engine.sampling.grouping import Request

# What is still rounding between two forms of a row: nats a token, on average and at most.
_TOLERANCE = {torch.float32: (1e-3, 1e-2), torch.bfloat16: (5e-2, 0.5), torch.float16: (1e-2, 0.1)}
# The same between two packed rows that differ in tokens which the others must not see. Most models compute the same
# numbers then: only the products of experts have other shapes.
_LEAK = {torch.float32: (1e-4, 2e-3), torch.bfloat16: (5e-3, 0.1), torch.float16: (1e-3, 2e-2)}
# The same for the distribution of a next token that is written.
_WRITTEN_TOLERANCE = {
    torch.float32: (2e-4, 2e-3),
    torch.bfloat16: (0.1, 1.0),
    torch.float16: (2e-2, 0.2),
}
# How much of the largest logit may change at a token when a later one does, which is rounding.
_CHANGE = {torch.float32: 1e-4, torch.bfloat16: 1e-2, torch.float16: 2e-3}
_PROBED_TOKENS = 16
# Completion tokens of a pair that are compared: a logit of each for the whole vocabulary is in memory.
_PROBED = 64
_STEPS = 3  # tokens that are written to compare
_FALLBACKS: dict[Form, str] = {
    "padded": "Rows are not packed",
    "alone": "Each sequence is computed by itself",
}


def check_causal(loaded: LoadedModel, ids: Sequence[int]) -> None:
    """Check that no token sees a later one, as in BERT, on the first of `ids`. Raises ModelError.

    Dropout must be off, as a scorer turns it.
    """
    some = list(ids[:_PROBED_TOKENS])
    if len(some) < 2:
        return  # nothing to see
    other = [*some[:-1], (some[-1] + 1) % loaded.vocab_size]
    with torch.no_grad(), computed_by(loaded.base):
        both = (
            loaded.model(input_ids=torch.tensor([some, other], device=loaded.device)).logits[:, :-1].float()
        )
    if float((both[0] - both[1]).abs().max()) > _CHANGE[loaded.dtype] * float(both.abs().max()):
        raise ModelError(
            f"The base model ({loaded.base.config.model_type}) is not a causal language model:"
            " what it says of a token depends on those that follow."
        )


def choose_form(
    scorer: Scorer, pairs: Sequence[EncodedPair], packing: str, note: Callable[[str], None]
) -> None:
    """Let `scorer` make rows of the fastest form in which this model gives each sequence the log-probability it has
    alone, and tell `note` if that is not the first of those that `packing` allows.

    Raises DataError if packing is "on" and the model cannot be packed, ModelError if it cannot be computed at all.
    """
    some = probe(pairs)[::-1]  # the longest comes first in a row, so that much can leak into the shortest
    with torch.no_grad():
        with computed_by(scorer.base):
            alone = [_thinned(pad([pair], [0], alone=True)) for pair in some]
            truth = [scorer.token_logps(row) for row in alone]
        forms: tuple[Form, ...] = ("padded",) if packing == "off" else ("packed", "padded")
        for form, next_form in zip(forms, [*forms[1:], "alone"], strict=True):
            scorer.use(form)
            problem = _row_problem(scorer, some, truth)
            if not problem:
                return
            if packing == "on":
                raise DataError(f"packing is 'on', but this model cannot be packed: {problem}.")
            note(f"{_FALLBACKS[next_form]}, which is slower: {problem}.")
            if form == "packed":
                scorer.was_packed = not _row_problem(scorer, some[::-1], truth[::-1], for_leaks=False)
    scorer.use("alone")


def check_gradient(scorer: Scorer, pairs: Sequence[EncodedPair]) -> None:
    """Check that the shortest pair's log-probabilities have a gradient by the adapter. Raises ModelError."""
    with computed_by(scorer.base):
        (row,) = scorer.rows(some := probe(pairs)[:1], scorer.groups(some, [0]))
        total = scorer.token_logps(row).sum()
        if not total.requires_grad:
            raise ModelError(
                f"The model ({type(scorer.base).__name__}) cannot be trained: no gradient reaches its adapter."
            )
        total.backward()
    scorer.model.zero_grad(set_to_none=True)


def probe(pairs: Sequence[EncodedPair]) -> list[EncodedPair]:
    """Return the shortest pair and the longest: padding shows on the one, a window on the other."""
    order = sorted(pairs, key=lambda pair: pair.tokens)
    return [order[0], order[-1]] if len(order) > 1 else order


def _row_problem(
    scorer: Scorer, pairs: Sequence[EncodedPair], truth: Sequence[torch.Tensor], *, for_leaks: bool = True
) -> str:
    """Return why rows in the scorer's present form cannot be trusted, by all of `pairs`, or ""."""
    groups = scorer.groups(pairs, range(len(pairs)))
    found: dict[int, torch.Tensor] = {}
    leaks: list[torch.Tensor] = []
    try:
        for row in map(_thinned, scorer.rows(pairs, groups)):
            counts = row.lengths.view(-1, 2).sum(dim=1).tolist()
            logps = scorer.token_logps(row)
            found.update(zip(row.pairs, logps.split(counts), strict=True))
            if for_leaks and row.spans is not None:
                leaks.append(_leak(scorer, row, logps))
    except Exception as error:  # a model's own code can raise anything
        if isinstance(error, EngineError) or memory_short(error):
            raise
        if scorer.form == "packed":
            return f"its attention does not go through {PACKED} ({first_line(error)})"
        return f"it cannot be computed with padding ({first_line(error)})"
    apart = (torch.cat([found[at] for at in range(len(pairs))]) - torch.cat([*truth])).abs()
    if not _is_rounding(apart, _TOLERANCE[scorer.base.dtype]):
        what = "packed and plain" if scorer.form == "packed" else "padded and plain"
        return f"{what} log-probabilities differ by up to {float(apart.max()):.2g} nats a token"
    for leak in leaks:
        if len(leak) and not _is_rounding(leak, _LEAK[scorer.base.dtype]):
            return f"packed log-probabilities change by up to {float(leak.max()):.2g} nats with other texts"
    return ""


def _leak(scorer: Scorer, row: PairRow, logps: torch.Tensor) -> torch.Tensor:
    """Return how much log-probabilities of a packed row's last completion change with all that it must not see.

    `logps` are those of the whole row. In bfloat16, a leak can be less than rounding may change between two forms of
    a row.
    """
    *before, last = (row.spans or ())[: len(row.pairs)]
    start = sum(span.prompt + span.chosen + span.rejected for span in before)
    unseen = torch.zeros_like(row.input_ids, dtype=torch.bool)
    unseen[:, :start] = True
    chosen, rejected = row.lengths[-2:].tolist()
    if rejected:
        unseen[:, start + last.prompt : start + last.prompt + last.chosen] = True
    if not unseen.any():
        return logps[:0]
    known = row.input_ids.unique()
    other = known.roll(1)[torch.searchsorted(known, row.input_ids)]
    changed = scorer.token_logps(replace(row, input_ids=torch.where(unseen, other, row.input_ids)))
    return (changed - logps)[-(rejected or chosen) :].abs()


def _thinned(row: PairRow) -> PairRow:
    """Return the row with at most `_PROBED` evenly spread tokens of each pair to predict, first and last included."""
    kept, lengths, start = [], [], 0
    for first, second in row.lengths.view(-1, 2).tolist():
        count = first + second
        places = torch.linspace(0, count - 1, min(count, _PROBED)).round().long()
        kept.append(start + places)
        lengths += [int((places < first).sum()), int((places >= first).sum())]
        start += count
    places = torch.cat(kept)
    return replace(row, index=row.index[places], targets=row.targets[places], lengths=torch.tensor(lengths))


def choose_way(decoder: Decoder, loaded: LoadedModel, prompts: Sequence[tuple[int, ...]]) -> str:
    """Let `decoder` write in the fastest way in which each next token has the distribution of a plain forward.

    Tried on the shortest and the longest prompt. Returns a sentence if that is not the usual way, or "". Raises
    ModelError if there is no such way.
    """
    order = sorted(prompts, key=len)
    some = list(dict.fromkeys([order[0], order[-1]]))
    steps = min(_STEPS, decoder.settings.max_new_tokens - 1)
    # Any tokens will do: those of the longest prompt, which the model has in its vocabulary.
    continued = [order[-1][at % len(order[-1])] for at in range(steps)]
    with torch.inference_mode():
        decoder.use(decoder.ways[-1])
        with computed_by(loaded.base):
            truth = {ids: _next_tokens(decoder, ids, continued) for ids in some}
        if not all(bool(one.isfinite().all()) for one in truth.values()):
            decoder.use(decoder.ways[0])
            return ""  # said of the first completion, with its name
        first = ""
        for way in decoder.ways:
            decoder.use(way)
            problem = _writing_problem(decoder, truth, continued, _WRITTEN_TOLERANCE[loaded.dtype])
            if not problem:
                return f"Completions are written {way.name}, which is slower: {first}." if first else ""
            first = first or problem
    raise ModelError(f"The base model ({type(loaded.base).__name__}) cannot be written with: {problem}.")


def _next_tokens(decoder: Decoder, ids: tuple[int, ...], continued: Sequence[int]) -> torch.Tensor:
    """Return log-probabilities (steps + 1, V) of what follows `ids` and each further token, by plain forwards."""
    whole, count = torch.tensor([[*ids, *continued]], device=decoder.device), len(continued) + 1
    # The length has a part in it.
    if len({decoder.sides.side_of(len(ids) + step) for step in range(count)}) > 1:
        parts = [whole[:, : len(ids) + step] for step in range(count)]
        logits = torch.cat([decoder.reader.reread(decoder.model, part)[0] for part in parts])
    else:
        logits = decoder.reader.reread(decoder.model, whole, last=count)[0]
    return logits.float().log_softmax(dim=-1)


def _writing_problem(
    decoder: Decoder,
    truth: dict[tuple[int, ...], torch.Tensor],
    continued: Sequence[int],
    tolerance: tuple[float, float],
) -> str:
    """Return how next tokens in the decoder's present way differ from those of `truth`, or "".

    The shortest prompt has two rows. One row leaves before the last token, as a completion that ended.
    """
    prompts = [*truth, next(iter(truth))]
    requests = [Request(ids, 0) for ids in prompts]
    apart = []
    try:
        for group in decoder.groups(requests):
            rows = torch.tensor(group)
            some = [prompts[at] for at in group]
            logits, read = decoder.reader.read(decoder.model, some, decoder.way, len(continued))
            for step in range(len(continued) + 1):
                true = torch.stack([truth[prompts[at]][step] for at in rows.tolist()])
                odds = logits.float().log_softmax(dim=-1)
                apart.append((true.exp() * (odds - true).abs()).nan_to_num(posinf=1e9).sum(dim=1))
                if step == len(continued):
                    break
                if step + 1 == len(continued) and len(rows) > 1:
                    kept, moved = close_ranks(torch.arange(1, len(rows), device=decoder.device))
                    read.keep(kept, moved)
                    rows = rows[kept.cpu()]
                logits = read.add(torch.full((len(rows),), continued[step], device=decoder.device))
    except Exception as error:  # a model's own code can raise anything
        if isinstance(error, EngineError) or memory_short(error):
            raise
        return f"its forward fails ({first_line(error)})"
    found = torch.cat(apart)
    if _is_rounding(found, tolerance):
        return ""
    return (
        f"next tokens have other log-probabilities than in a plain forward, by {float(found.max()):.2g} nats"
    )


def _is_rounding(apart: torch.Tensor, tolerance: tuple[float, float]) -> bool:
    mean, most = tolerance
    return float(apart.mean()) <= mean and float(apart.max()) <= most
