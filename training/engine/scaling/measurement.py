"""A policy measured on completions that it writes for the same prompts, with the same seeds, at any scale."""

import itertools
import statistics
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

from training.engine.adapters.loading import as_reference
from training.engine.config import SamplingConfig, TrainConfig
from training.engine.data.tokens import EncodedPair, Encoder
from training.engine.errors import DataError
from training.engine.model.base import LoadedModel
from training.engine.model.logps import Scorer
from training.engine.records import SamplingPrompt
from training.engine.sample import check_writing, check_written, encode_prompts, ends_of, write_samples
from training.engine.sampling.decoding import Decoder, Sample
from training.engine.sampling.stopping import stops_of
from training.engine.scaling.divergence import as_rating, read_completions
from training.engine.scaling.intervals import Interval, mean_interval
from training.engine.scaling.weights import ScaledWeights, place
from training.engine.score import held_out_figures, make_scorer, score_pairs

_MOST_TOKENS = 2048  # of a row, where that is not chosen: whole vocabularies are compared
Report = Callable[[int, int], None]


@dataclass(frozen=True)
class Figures:
    """The figures of a policy's completions. `reward` is in the unit of the loss: beta times a log-ratio.

    It is the implicit reward that training ended with, before any scaling, so that completions of all policies are
    measured by the same.
    """

    scale: float
    kl: Interval
    reward: Interval
    length: float  # mean tokens
    distinct_2: float | None  # share of different pairs of neighbouring tokens
    probe: Interval | None = None  # mean score by a probe with skill

    def to_dict(self) -> dict[str, Any]:
        """Return the figures as done.json keeps them."""
        return asdict(self)


Written = dict[Figures, list[Sample]]  # the completions behind figures


class Meter:
    """One trained policy that writes and is read at any scale, on one set of prompts."""

    def __init__(
        self,
        config: TrainConfig,
        loaded: LoadedModel,
        encoder: Encoder,
        weights: ScaledWeights,
        prompts: Sequence[SamplingPrompt],
    ) -> None:
        """Encode the prompts. Raises DataError if none is left to write for."""
        self.loaded, self.weights, self.config = loaded, weights, config
        # The policy itself: temperature 1, with nothing cut off and nothing drawn again.
        self.sampling = SamplingConfig(
            max_new_tokens=config.sampling.max_new_tokens,
            stop=config.sampling.stop,
            batch_size=config.sampling.batch_size,
            max_tokens=config.sampling.max_tokens,
            skip_long=True,
        )
        settings = replace(config, sampling=self.sampling)
        self.prompts, too_long, refused = encode_prompts(prompts, loaded, settings, encoder)
        if not self.prompts:
            raise DataError("No prompt is left to measure KL on: all of them fill the model's context.")
        self.events = refused.refusals
        self.left_out = len(too_long) + refused.dropped.total()
        self._ends = ends_of(loaded, config, chats=any(isinstance(one.prompt, list) for one in prompts))
        self._way: Any = None
        self._scorer: Scorer | None = None
        self._scale = 1.0  # of the weights in the model
        self.written: Written = {}

    def reference(self, seed: int, report: Report) -> Figures:
        """Return the figures of the reference's own completions."""
        with as_reference(self.loaded.model):
            samples = self._write(seed, report)
        return self._figures(samples, scale=0.0)

    def policy(self, scale: float, seed: int, report: Report = lambda done, total: None) -> Figures:
        """Return the figures of the policy at a scale. The same seed draws by the same numbers."""
        self._place(scale)
        samples = self._write(seed, report)
        return self._figures(samples, scale)

    def _place(self, scale: float) -> None:
        if scale != self._scale:
            place(self.loaded.model, self.weights.at(scale))
            self._scale = scale

    def _write(self, seed: int, report: Report) -> list[Sample]:
        sampling = replace(self.sampling, seed=seed)
        stops = stops_of(sampling, self.loaded.tokenizer)
        decoder = Decoder(self.loaded.base, self._ends, self.loaded.device, sampling, stops)
        is_first = self._way is None
        if is_first:
            self.events += check_writing(self.loaded, decoder, [ids for _, ids in self.prompts])
            self._way = decoder.way
        decoder.use(self._way)
        samples = write_samples(
            decoder,
            self.loaded.tokenizer,
            self.prompts,
            sampling,
            lambda done, total, share: report(done, total),
        )
        decoder.release()
        if is_first:
            self.events += check_written(self.loaded, samples, native=True)
        return samples

    def _figures(self, samples: Sequence[Sample], scale: float) -> Figures:
        scorer = self._scorer_for([as_rating(one) for one in samples if one.drawn.token_ids])
        kls = [one.kl for one in read_completions(scorer, samples)] if 0 < scale < 1 else None
        self._place(1.0)
        trained = read_completions(scorer, samples)
        scorer.release()
        rewards = [self.config.beta * (one.logprob - one.reference_logprob) for one in trained]
        if kls is None:
            kls = [one.kl * scale for one in trained]  # of the trained policy itself, or 0 of the reference
        texts = [one.drawn.token_ids for one in samples]
        figures = Figures(
            scale=scale,
            kl=mean_interval(_by_prompt(samples, kls), least=0.0),
            reward=mean_interval(_by_prompt(samples, rewards)),
            length=statistics.fmean(map(len, texts)),
            distinct_2=distinct_pairs(texts),
        )
        self.written[figures] = list(samples)
        return figures

    def held_out(self, scale: float, pairs: Sequence[EncodedPair]) -> dict[str, Any]:
        """Return the figures of held-out pairs under the policy at a scale."""
        scorer = self._scorer_for(pairs)
        self._place(scale)
        ours = score_pairs(scorer, pairs)
        with as_reference(self.loaded.model):
            theirs = score_pairs(scorer, pairs)
        scorer.release()
        return held_out_figures(self.config, pairs, ours, theirs)

    def _scorer_for(self, pairs: Sequence[EncodedPair]) -> Scorer:
        """Return the scorer, made with the first completions that it is for."""
        if self._scorer is None:
            if not pairs:
                raise DataError("The policy writes nothing, so there is nothing to measure KL on.")
            config = replace(self.config, max_tokens=self.config.max_tokens or _MOST_TOKENS)
            self._scorer = make_scorer(self.loaded, config, pairs, self.events.append)
        return self._scorer


def _by_prompt(samples: Sequence[Sample], values: Sequence[float]) -> list[float]:
    """Return the mean of each prompt's values: completions of one prompt are not independent of each other."""
    found: dict[str, list[float]] = {}
    for one, value in zip(samples, values, strict=True):
        found.setdefault(one.prompt.id, []).append(value)
    return [statistics.fmean(some) for some in found.values()]


def distinct_pairs(texts: Sequence[Sequence[int]]) -> float | None:
    """Return the share of different pairs among all pairs of neighbouring tokens (Li et al., 1510.03055, section 5)."""
    pairs = [pair for ids in texts for pair in itertools.pairwise(ids)]
    return len(set(pairs)) / len(pairs) if pairs else None
