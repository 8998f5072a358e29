"""The verb `score`: log-probabilities and implicit-reward margins of pairs; and what `train` shares with it."""

import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch

from training.engine.attention import PACKED
from training.engine.config import TrainConfig
from training.engine.errors import DataError
from training.engine.logps import Scorer
from training.engine.losses import check_honoured, make_loss
from training.engine.model import Loaded, as_reference, load_scored, set_threads
from training.engine.packing import pack, pad
from training.engine.records import read_pairs
from training.engine.rundir import RunDirectory, write_jsonl
from training.engine.tokens import EncodedPair
from training.engine.trainer import accuracy

_DEFAULT_MAX_TOKENS = {"cpu": 2048, "cuda": 16384}
# Largest mean difference per token between the packed and the plain form of a pair that is still rounding.
_TOLERANCE = {torch.float32: 1e-3, torch.bfloat16: 5e-2}


def score(run: RunDirectory, pairs_file: Path | None = None) -> None:
    """Write scores.jsonl for `pairs_file` (pairs.jsonl).

    The policy is adapter/ against the start adapter (or the base model); where there is no adapter/ yet it is
    the start adapter against the base model. Raises EngineError subclasses.
    """
    config = run.read_config()
    set_threads(config)
    with run.locked():
        started = time.monotonic()
        run.progress("loading")
        source = pairs_file or run.pairs
        pairs = read_pairs(source)
        trained = (run.adapter / "adapter_model.safetensors").is_file()
        policy = run.adapter if trained else Path(config.start_adapter) if config.start_adapter else None
        loaded = load_scored(config, policy, beside_start=trained)
        encoded, left_out = loaded.encoder(config).encode_pairs(pairs)
        if not encoded:
            raise DataError(f"No pair of {source.name} is left to score.")
        events: list[str] = []
        scorer = make_scorer(loaded, config, encoded, events.append)

        def measure(offset: int) -> torch.Tensor:
            return score_pairs(scorer, encoded, lambda done: _progress(run, offset + done, 2 * len(encoded)))

        policy_logps = measure(0)
        with as_reference(loaded.model):
            reference_logps = measure(len(encoded))
        margins = implicit_margins(config, policy_logps, reference_logps)
        write_jsonl(
            run.scores,
            (
                {
                    "id": pair.id,
                    "policy_chosen_logp": ours[0],
                    "policy_rejected_logp": ours[1],
                    "reference_chosen_logp": theirs[0],
                    "reference_rejected_logp": theirs[1],
                    "margin": margin,
                }
                for pair, ours, theirs, margin in zip(
                    encoded, policy_logps.tolist(), reference_logps.tolist(), margins.tolist(), strict=True
                )
            ),
        )
        summary = {
            "status": "scored",
            "pairs": len(encoded),
            "left_out": left_out.to_dict(),
            "accuracy": accuracy(margins),
            "margin": float(margins.mean()),
            "policy": str(policy) if policy else "base_model",
            "events": events,
            "packed": scorer.packed,
            "dtype": str(loaded.dtype).removeprefix("torch."),
            "seconds": round(time.monotonic() - started, 3),
        }
        run.finish("score", summary, [run.config_file, source], [run.scores])
        run.progress("done", len(encoded), len(encoded))
    for event in events:
        print(event, file=sys.stderr)


def score_pairs(
    scorer: Scorer, pairs: Sequence[EncodedPair], report: Callable[[int], None] = lambda done: None
) -> torch.Tensor:
    """Log-probabilities (pairs, 2) of chosen and rejected completions, float64, as the model now stands."""
    found = torch.empty(len(pairs), 2, dtype=torch.float64)
    done = 0
    groups = scorer.groups(pairs, range(len(pairs)))
    for row, chosen, rejected in scorer.score(scorer.rows(pairs, groups)):
        found[list(row.pairs)] = torch.stack([chosen, rejected], dim=1)
        done += len(row.pairs)
        report(done)
    return found


def implicit_margins(config: TrainConfig, policy: torch.Tensor, reference: torch.Tensor) -> torch.Tensor:
    """beta times the policy's gain on the chosen over that on the rejected completion, (pairs,)."""
    gains = policy - reference
    return config.beta * (gains[:, 0] - gains[:, 1])


def held_out_figures(
    config: TrainConfig, pairs: Sequence[EncodedPair], policy: torch.Tensor, reference: torch.Tensor
) -> dict[str, Any]:
    """Accuracy (ties half), mean margin and mean loss, unweighted, of log-probabilities (pairs, 2) each.

    `logp_accuracy` is the share of pairs whose chosen completion the policy finds likelier, reference apart.
    """
    check_honoured(config, pairs)
    h = implicit_margins(config, policy, reference)
    label = torch.tensor([pair.label for pair in pairs], dtype=torch.float64)
    margin = torch.tensor([pair.margin for pair in pairs], dtype=torch.float64)
    loss = make_loss(config)(h, label, margin)
    return {
        "pairs": len(pairs),
        "accuracy": accuracy(h),
        "logp_accuracy": accuracy(policy[:, 0] - policy[:, 1]),
        "margin": float(h.mean()),
        "loss": float(loss.mean()),
    }


def make_scorer(
    loaded: Loaded, config: TrainConfig, pairs: Sequence[EncodedPair], note: Callable[[str], None]
) -> Scorer:
    """A scorer in packed rows where the model's architecture allows it, else in the plain form.

    Under packing "auto" the first pairs are scored both ways, and a disagreement is told to `note`.
    """
    scorer = Scorer(
        loaded.model,
        loaded.base,
        device=loaded.device,
        max_tokens=config.max_tokens or _DEFAULT_MAX_TOKENS[loaded.device.type],
    )
    if config.packing == "off":
        scorer.use(packed=False)
        return scorer
    problem = _packing_problem(scorer, pairs[:2], _TOLERANCE[loaded.dtype])
    if problem and config.packing == "on":
        raise DataError(f"packing is 'on', but this model cannot be packed: {problem}.")
    if problem:
        note(f"Rows are not packed, which is slower: {problem}.")
    scorer.use(packed=not problem)
    return scorer


def _packing_problem(scorer: Scorer, pairs: Sequence[EncodedPair], tolerance: float) -> str:
    """Why packed rows of this model cannot be trusted, or ""."""
    with torch.no_grad():
        positions = range(len(pairs))
        scorer.use(packed=False)
        plain = scorer.token_logps(pad(pairs, positions))
        try:
            scorer.use(packed=True)
            packed = scorer.token_logps(pack(pairs, positions))
        except (NotImplementedError, TypeError, ValueError, RuntimeError) as error:
            return f"its attention does not go through {PACKED} ({str(error).splitlines()[0]})"
    apart = float((plain - packed).abs().mean())
    if apart <= tolerance:
        return ""
    return f"packed and plain log-probabilities differ by {apart:.2g} nats a token"


def _progress(run: RunDirectory, done: int, total: int) -> None:
    run.progress("scoring", done, total)
