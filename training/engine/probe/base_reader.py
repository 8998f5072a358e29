"""The frozen base model of a run, loaded to read features of completions."""

from collections.abc import Callable, Sequence
from typing import Any

from training.engine.adapters.loading import load_scored
from training.engine.config import TrainConfig
from training.engine.data.tokens import EncodedPair, Encoder
from training.engine.model.base import LoadedModel
from training.engine.model.files import find_model
from training.engine.model.logps import Scorer
from training.engine.probe.features import FeatureReader
from training.engine.rundir import RunDirectory
from training.engine.score import make_scorer


class BaseReader:
    """The base model without any adapter, its encoder, and its features."""

    def __init__(self, config: TrainConfig, run: RunDirectory) -> None:
        """Load the model. Raises ModelError."""
        self.config = config
        self.loaded: LoadedModel = load_scored(config, None, beside_start=False)
        self.encoder: Encoder = self.loaded.make_encoder(config, run)
        self._scorer: Scorer | None = None

    @property
    def dtype(self) -> str:
        """The precision that features are computed in."""
        return str(self.loaded.dtype).removeprefix("torch.")

    def features_of(
        self, pairs: Sequence[EncodedPair], layers: int, tokens: int, note: Callable[[str], None]
    ) -> FeatureReader:
        """Return the reader of features of `layers` layers and a sketch of `tokens` numbers.

        The model is checked on `pairs` first. Raises ModelError.
        """
        if self._scorer is None:
            self._scorer = make_scorer(self.loaded, self.config, pairs, note)
        ends = set(self.encoder.eos_ids)
        if self.encoder.tokenizer.chat_template and (turn := self.encoder.chats.ending.id) is not None:
            ends.add(turn)
        return FeatureReader(self._scorer, layers, tokens, frozenset(ends))


def base_digests(config: TrainConfig) -> dict[str, Any]:
    """Return what tells the base model's files from others. Raises ModelError."""
    return find_model(config.base_model, config.revision).digests
