"""The model in this process: it writes, is scored, is measured against itself without its adapter, and is trained."""

import contextlib
import statistics
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from peft.tuners.lora.layer import LoraLayer

from benchmarks.paper.setting import Prompt, Setting
from training.engine.adapters.loading import as_reference, load_policy, save_adapter, trainable_parameters
from training.engine.data.tokens import EncodedPair
from training.engine.model.base import set_threads
from training.engine.model.logps import Scorer
from training.engine.records import SamplingPrompt
from training.engine.sample import encode_prompts, write_samples
from training.engine.sampling.decoding import Decoder

_ROW_TOKENS = 4096
_LOGITS = 1 << 24  # held at once


@dataclass(frozen=True)
class Written:
    """A completion, with the ids that it was sampled as."""

    prompt: Prompt
    text: str
    prompt_ids: tuple[int, ...]
    token_ids: tuple[int, ...]
    finish_reason: str


@dataclass(frozen=True)
class Measurement:
    """Texts of a policy, one for each fresh prompt, and the KL from the base model along it, in nats."""

    texts: list[str]
    kls: list[float]

    @property
    def kl(self) -> float:
        """The mean KL."""
        return statistics.fmean(self.kls)


def pair(first: Written, second: Written, number: int = 0) -> EncodedPair:
    """Return two completions of one prompt as the engine computes them, in one row."""
    return EncodedPair(
        id=str(number),
        prompt=first.prompt_ids,
        chosen=first.token_ids,
        rejected=second.token_ids,
        label=1.0,
        margin=0.0,
        weight=1.0,
    )


class Actor:
    """The base model with one trainable adapter, `adapter` or a fresh one that changes nothing."""

    def __init__(self, setting: Setting, *, seed: int = 0, adapter: Path | None = None) -> None:
        start: dict[str, Any] = {"start_adapter": str(adapter)} if adapter else {}
        self.config = setting.config(seed=seed, **start)
        set_threads(self.config)
        self.loaded = load_policy(self.config)
        self.encoder = self.loaded.make_encoder(self.config)
        model = self.loaded.model
        self.scorer = Scorer(model, self.loaded.base, max_tokens=_ROW_TOKENS, device=self.loaded.device)

    @property
    def parameters(self) -> list[torch.nn.Parameter]:
        """The adapter's weights."""
        return list(trainable_parameters(self.loaded.model).values())

    def save(self, folder: Path) -> Path:
        """Write the adapter as PEFT does, and return its folder."""
        save_adapter(self.loaded.model, folder)
        return folder

    def write(
        self, prompts: Sequence[Prompt], *, each: int = 1, seed: int = 0, temperature: float = 1.0
    ) -> list[list[Written]]:
        """Return `each` completions of every prompt."""
        sampling = replace(self.config.sampling, samples_per_prompt=each, seed=seed, temperature=temperature)
        self.scorer.use("padded")  # the model's own attention
        ends = self.loaded.eos_ids
        if any(isinstance(prompt, list) for prompt in prompts):
            turn = self.encoder.chats.ending.id
            ends = ends if turn is None else ends | {turn}
        decoder = Decoder(self.loaded.base, ends, self.loaded.device, sampling)
        asked = [SamplingPrompt(str(at), prompt) for at, prompt in enumerate(prompts)]
        encoded, _, _ = encode_prompts(asked, self.loaded, self.config, self.encoder)
        samples = write_samples(decoder, self.loaded.tokenizer, encoded, sampling)
        decoder.release()
        written = [
            Written(
                one.prompt.prompt,
                one.text,
                tuple(one.request.prompt),
                one.generation.token_ids,
                one.generation.finish_reason,
            )
            for one in samples
        ]
        return [written[at : at + each] for at in range(0, len(written), each)]

    def rows(self, pairs: Sequence[EncodedPair]) -> Iterator[tuple[list[int], list[torch.Tensor]]]:
        """Yield for each row the places of its pairs, and log-probabilities of tokens, chosen and rejected in turn.

        Gradients flow where they are enabled. A row is computed when it is asked for.
        """
        self.scorer.use("packed")
        for row in self.scorer.rows(pairs, self.scorer.groups(pairs, range(len(pairs)))):
            yield list(row.pairs), list(self.scorer.token_logps(row).split(row.lengths.tolist()))

    @torch.no_grad()
    def token_logps(
        self, pairs: Sequence[EncodedPair], *, reference: bool = False
    ) -> list[list[torch.Tensor]]:
        """Return log-probabilities of the tokens of both completions of each pair, by the policy or the base model."""
        found: list[list[torch.Tensor]] = [[] for _ in pairs]
        with as_reference(self.loaded.model) if reference else contextlib.nullcontext():
            for places, logps in self.rows(pairs):
                for at, place in enumerate(places):
                    found[place] = logps[2 * at : 2 * at + 2]
        return found

    @contextlib.contextmanager
    def scaled(self, scale: float) -> Iterator[None]:
        """Multiply the adapter's product by `scale` inside."""
        layers = [module for module in self.loaded.model.modules() if isinstance(module, LoraLayer)]
        before = [dict(layer.scaling) for layer in layers]
        try:
            for layer in layers:
                layer.scaling.update({name: value * scale for name, value in layer.scaling.items()})
            yield
        finally:
            for layer, scaling in zip(layers, before, strict=True):
                layer.scaling.update(scaling)

    def measure(self, prompts: Sequence[Prompt], *, seed: int = 0, scale: float = 1.0) -> Measurement:
        """Return what the policy writes at temperature 1, and how far it is from the base model along that."""
        with self.scaled(scale):
            written = [one[0] for one in self.write(prompts, seed=seed)]
            return Measurement([one.text for one in written], self.kls(written))

    @torch.no_grad()
    def kls(self, written: Sequence[Written]) -> list[float]:
        """Return for each completion the sum over its tokens of KL(policy || base) at each place, over the vocabulary.

        Its mean estimates the KL without bias, and with less variance than the log-ratio (Amini et al., 2504.10637).
        """
        self.scorer.use("padded")
        model, device, found = self.loaded.model, self.loaded.device, [0.0] * len(written)
        order = sorted(
            range(len(written)), key=lambda at: len(written[at].prompt_ids) + len(written[at].token_ids)
        )
        longest = len(written[order[-1]].prompt_ids) + len(written[order[-1]].token_ids)
        together = max(1, _LOGITS // (longest * self.loaded.vocab_size))
        for start in range(0, len(order), together):
            rows = [written[at] for at in order[start : start + together]]
            texts = [[*one.prompt_ids, *one.token_ids][:-1] for one in rows]
            ids = torch.zeros(len(rows), max(map(len, texts)), dtype=torch.long)
            for row, text in zip(ids, texts, strict=True):
                row[: len(text)] = torch.tensor(text)
            ids = ids.to(device)
            new = model(input_ids=ids).logits.float().log_softmax(-1)
            with as_reference(model):
                old = model(input_ids=ids).logits.float().log_softmax(-1)
            kls = (new.exp() * (new - old)).sum(-1).double().cpu()
            for row, one, at in zip(kls, rows, order[start:], strict=False):
                begin = len(one.prompt_ids) - 1
                found[at] = float(row[begin : begin + len(one.token_ids)].sum())
        return found
