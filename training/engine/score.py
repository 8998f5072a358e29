"""The verb `score`: log-probabilities and implicit-reward margins of pairs. `train` shares its parts."""

import sys
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import torch

from training.engine.adapters.loading import as_reference, load_scored, reference_adapter
from training.engine.adapters.lora import rounding_events
from training.engine.config import TrainConfig
from training.engine.data.tokens import EncodedPair
from training.engine.errors import ConfigError, DataError, DivergedError
from training.engine.model.base import LoadedModel, model_files, set_threads
from training.engine.model.logps import Scorer
from training.engine.model.threads import is_small
from training.engine.optimize.losses import accuracy, count_terms, make_loss, rewards, settle
from training.engine.records import read_pairs
from training.engine.rundir import RunDirectory, write_jsonl
from training.engine.selfcheck import check_causal, choose_form

# On a CPU longer rows of a large model only cost memory; those of a small one save calls.
_DEFAULT_MAX_TOKENS = {"cpu": 1024, "cuda": 16384}
_SMALL_MAX_TOKENS = 2048


def score(run: RunDirectory, pairs_file: Path | None = None) -> None:
    """Write scores.jsonl for `pairs_file` (pairs.jsonl).

    The policy is adapter/ against what it was trained against; where there is no adapter/ yet it is the start adapter
    against the base model, or against `reference` where that is named. Raises EngineError subclasses.
    """
    config = run.read_config()
    set_threads(config)
    with run.locked():
        started = time.monotonic()
        run.progress("loading")
        source = pairs_file or run.pairs
        pairs = read_pairs(source)
        policy = choose_scored(run, config)
        trained = policy == run.adapter
        beside = trained or config.reference != "start"
        inputs = run.hashes([run.config_file, source, *([run.adapter] if trained else [])])
        inputs |= model_files(config)
        loaded = load_scored(config, policy, beside_start=beside)
        encoded, left_out = loaded.make_encoder(config, run).encode_pairs(pairs)
        if not encoded:
            raise DataError(" ".join([f"No pair of {source.name} is left to score.", *left_out.refusals[:1]]))
        events = left_out.events + rounding_events(loaded.model, loaded.dtype)
        scorer = make_scorer(loaded, config, encoded, events.append)

        def measure(offset: int) -> torch.Tensor:
            return score_pairs(scorer, encoded, lambda done: _progress(run, offset + done, 2 * len(encoded)))

        policy_logps = measure(0)
        with as_reference(loaded.model):
            reference_logps = measure(len(encoded))
        check_finite(encoded, policy_logps, "policy")
        check_finite(encoded, reference_logps, "reference")
        margins = implicit_margins(config, policy_logps, reference_logps)
        write_jsonl(run.scores, score_lines(encoded, policy_logps, reference_logps, margins))
        summary = {
            "status": "scored",
            "pairs": len(encoded),
            "left_out": left_out.to_dict(),
            "accuracy": accuracy(margins),
            "margin": float(margins.mean()),
            "policy": str(policy) if policy else "base_model",
            "reference": (reference_adapter(config) if beside else None) or "base_model",
            "events": events,
            "packed": scorer.form == "packed",
            "dtype": str(loaded.dtype).removeprefix("torch."),
            "seconds": round(time.monotonic() - started, 3),
        }
        run.finish("score", summary, inputs, [run.scores])
        run.progress("done", len(encoded), len(encoded))
    for event in events:
        print(event, file=sys.stderr)


def choose_scored(run: RunDirectory, config: TrainConfig) -> Path | None:
    """Return the adapter that is scored, or None for the base model.

    Raises ConfigError where there is none to compare with an adapter that `reference` names.
    """
    if run.has_adapter:
        return run.adapter
    if config.start_adapter:
        return Path(config.start_adapter)
    if config.reference not in ("start", "base"):
        raise ConfigError("reference", "names an adapter, but there is neither adapter/ nor start_adapter.")
    return None


def score_lines(
    pairs: Sequence[EncodedPair], policy: torch.Tensor, reference: torch.Tensor, margins: torch.Tensor
) -> Iterator[dict[str, Any]]:
    """Yield the lines of scores.jsonl for log-probabilities (pairs, 2) each and margins (pairs,)."""
    figures = zip(pairs, policy.tolist(), reference.tolist(), margins.tolist(), strict=True)
    for pair, ours, theirs, margin in figures:
        yield {
            "id": pair.id,
            "policy_chosen_logp": ours[0] if pair.chosen else None,
            "policy_rejected_logp": ours[1] if pair.rejected else None,
            "reference_chosen_logp": theirs[0] if pair.chosen else None,
            "reference_rejected_logp": theirs[1] if pair.rejected else None,
            "margin": margin,
        }


def score_pairs(
    scorer: Scorer, pairs: Sequence[EncodedPair], report: Callable[[int], None] = lambda done: None
) -> torch.Tensor:
    """Return log-probabilities (pairs, 2) of chosen and rejected completions, float64, as the model is now."""
    found = torch.empty(len(pairs), 2, dtype=torch.float64)
    done = 0
    groups = scorer.groups(pairs, range(len(pairs)))
    for row in scorer.rows(pairs, groups):
        found[list(row.pairs)] = scorer.score(row)
        done += len(row.pairs)
        report(done)
    return found


def check_finite(pairs: Sequence[EncodedPair], logps: torch.Tensor, whose: str) -> None:
    """Refuse log-probabilities (pairs, 2) that are not finite. Raises DivergedError naming the first pair."""
    broken = (~logps.isfinite()).any(dim=1).nonzero()
    if len(broken):
        raise DivergedError(
            f"The {whose}'s log-probability of pair {pairs[int(broken[0])].id} is not a finite number:"
            " its weights are damaged, it was trained at too high a learning_rate, or it is too much for dtype"
            " float16; set that to float32."
        )


def implicit_margins(config: TrainConfig, policy: torch.Tensor, reference: torch.Tensor) -> torch.Tensor:
    """Return beta times the policy's gain on the chosen over that on the rejected completion, (pairs,).

    Of a rating it is the gain on its completion, or the loss on an undesirable one.
    """
    gains = policy - reference
    return config.beta * (gains[:, 0] - gains[:, 1])


def held_out_figures(
    config: TrainConfig,
    pairs: Sequence[EncodedPair],
    policy: torch.Tensor,
    reference: torch.Tensor,
    z0: float = 0.0,
) -> dict[str, Any]:
    """Return accuracy (ties half), mean margin and mean loss, unweighted, of log-probabilities (pairs, 2) each.

    `logp_accuracy` is the share of pairs whose chosen completion the policy finds likelier, reference apart; None where
    there are ratings alone. `z0` is what `make_loss` takes.
    """
    lengths = torch.tensor([[len(pair.chosen), len(pair.rejected)] for pair in pairs])
    found = rewards(config, policy, reference, lengths)
    h = found[:, 0] - found[:, 1]
    label = torch.tensor([pair.label for pair in pairs], dtype=torch.float64)
    margin = torch.tensor([pair.margin for pair in pairs], dtype=torch.float64)
    loss = make_loss(config, z0)(settle(found, lengths), label, margin)
    likelier = (policy[:, 0] - policy[:, 1])[lengths.all(dim=1)]
    return {
        "pairs": len(pairs),
        "accuracy": accuracy(h),
        "logp_accuracy": accuracy(likelier) if len(likelier) else None,
        "margin": float(h.mean()),
        "loss": float(loss.sum()) / count_terms(config, pairs),
    }


def make_scorer(
    loaded: LoadedModel, config: TrainConfig, pairs: Sequence[EncodedPair], note: Callable[[str], None]
) -> Scorer:
    """Return a scorer with the fastest form of rows in which each sequence is computed as if it were alone.

    `note` is told of a slower one. Raises ModelError if the model is not causal, or cannot be computed.
    """
    scorer = Scorer(
        loaded.model,
        loaded.base,
        device=loaded.device,
        max_tokens=config.max_tokens or _default_max_tokens(loaded),
    )
    check_causal(loaded, (*pairs[0].prompt, *pairs[0].completions[0]))
    choose_form(scorer, pairs, config.packing, note)
    if config.shard and any(scorer.is_alone(pair) for pair in pairs):
        raise ConfigError(
            "shard", "needs sequences that can be computed side by side, and those of this model cannot."
        )
    return scorer


def _default_max_tokens(loaded: LoadedModel) -> int:
    usual = _DEFAULT_MAX_TOKENS[loaded.device.type]
    return max(usual, _SMALL_MAX_TOKENS) if is_small(loaded.base.config) else usual


def _progress(run: RunDirectory, done: int, total: int) -> None:
    run.progress("scoring", done, total)
