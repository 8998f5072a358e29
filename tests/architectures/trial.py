"""One architecture through `train`, `score` and `sample` in a run directory, each number against an independent one.

The oracle is the model as transformers and PEFT load it: one plain forward of one sequence, without mask or cache.
"""

import json
import math
import random
import traceback
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from inspect import signature
from pathlib import Path
from typing import Any

import peft
import torch
import transformers

from tests.architectures.shapes import tiny_config
from tests.engine.conftest import VOCABULARY, make_model, make_tokenizer
from training.engine.adapters.loading import can_merge, load_policy
from training.engine.config import TrainConfig
from training.engine.errors import EngineError, first_line
from training.engine.rundir import RunDirectory, write_jsonl
from training.engine.sample import sample
from training.engine.score import score
from training.engine.train import train

_APART = 5e-3  # nats, of a whole completion: rounding is a hundredth of that
_GRADIENT_APART = 1e-3  # of the norm
# Prompt, chosen and rejected: some below, some beyond and one on both sides of what the shapes' windows hold.
_LENGTHS = ((3, 4, 6), (30, 28, 11), (22, 1, 14), (24, 40, 36))
_PROMPTS = ("the film", "it cost " + "the film was good and long " * 5, "bright")
_NEW_TOKENS = 10


@dataclass
class Result:
    """The outcome of one architecture. `faults` are numbers that differ from the oracle's, and tracebacks."""

    kind: str
    train: str = ""
    score: str = ""
    sample: str = ""
    merges: str = ""
    not_built: str = ""
    faults: list[str] = field(default_factory=list)


def try_architecture(kind: str, folder: Path, **changes: Any) -> Result:
    """Build a tiny model of type `kind` in `folder`, run every verb with it, and check what they wrote."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            make_model(tiny_config(kind, **changes)).save_pretrained(folder / "base")
        except Exception as error:  # noqa: BLE001 - a shape that does not fit, or a package that is not installed
            return Result(kind, not_built=f"{type(error).__name__}: {first_line(error)}")
        make_tokenizer(bos=True).save_pretrained(folder / "base")
        return _Trial(kind, folder).go()


class _Trial:
    def __init__(self, kind: str, folder: Path) -> None:
        self.base, self.result = folder / "base", Result(kind)
        self.run = RunDirectory(folder / "run")
        self.config = TrainConfig.from_dict(
            {
                "base_model": str(self.base),
                "batch_size": len(_LENGTHS),
                "epochs": 1,
                "learning_rate": 1e-2,
                "dtype": "float32",
                "threads": 1,
                "lora": {"r": 4, "alpha": 8},
                "sampling": {"max_new_tokens": _NEW_TOKENS, "samples_per_prompt": 1, "temperature": 0.0},
            }
        )
        self.run.write_config(self.config)
        self.pairs = [_pair(number, lengths) for number, lengths in enumerate(_LENGTHS)]
        write_jsonl(self.run.pairs, self.pairs)
        write_jsonl(self.run.prompts, [{"id": at, "prompt": text} for at, text in enumerate(_PROMPTS)])

    def go(self) -> Result:
        """Run the verbs, and check what each of them wrote."""
        result = self.result
        result.train = self._verb("train", train)
        if result.train == "":
            done = self.run.read_done()["train"]
            result.train = "packed" if done["packed"] else done.get("rows", "padded")
            self._check("train", self._check_training)
        result.score = self._verb("score", score)
        if result.score == "":
            result.score = "yes"
            self._check("score", self._check_scores)
        result.sample = self._verb("sample", sample)
        if result.sample == "":
            result.sample = "yes"
            for event in self.run.read_done()["sample"]["events"]:
                result.sample = event
            self._check("sample", self._check_samples)
        if (self.run.adapter / "adapter_config.json").is_file():
            result.merges = "yes" if can_merge(self._policy()) else "no"
        return result

    def _verb(self, name: str, verb: Callable[[RunDirectory], None]) -> str:
        """Return the sentence that a verb ended with, or "" if it did its work."""
        try:
            verb(self.run)
        except EngineError as error:
            return f"{error} ({error.exit_code})".replace(str(self.base), "…")
        except Exception as error:  # noqa: BLE001 - what the engine lets through is what is looked for
            where = traceback.extract_tb(error.__traceback__)[-1]
            self.result.faults.append(
                f"{name}: {type(error).__name__}: {error} [{Path(where.filename).name}:{where.lineno}]"
            )
            return "traceback"
        return ""

    def _check(self, name: str, check: Callable[[], None]) -> None:
        try:
            check()
        except Exception as error:  # noqa: BLE001 - a model that transformers itself cannot compute this way
            self.result.faults.append(f"{name}: no oracle: {type(error).__name__}: {error}")

    def _plain(self) -> Any:
        return transformers.AutoModelForCausalLM.from_pretrained(self.base, dtype=torch.float32).eval()

    def _policy(self) -> Any:
        if not (self.run.adapter / "adapter_config.json").is_file():
            return self._plain()
        return peft.PeftModel.from_pretrained(self._plain(), self.run.adapter).eval()

    def _check_training(self) -> None:
        """Check that the first step has margins of exactly 0 and the gradient that autograd finds with PEFT alone."""
        first = json.loads(self.run.metrics.read_text().splitlines()[0])
        if abs(first["loss"] - math.log(2)) > 1e-6:
            self.result.faults.append(f"train: the first loss is {first['loss']}, not log 2")
        settings = peft.PeftConfig.from_pretrained(self.run.adapter)
        settings.inference_mode = False
        model = peft.get_peft_model(self._plain(), settings).eval()
        drawn = dict(load_policy(self.config).model.named_parameters())
        with torch.no_grad():
            for name, weight in model.named_parameters():
                if weight.requires_grad:  # the random half of the adapter; the other is 0
                    weight.copy_(drawn[name])
        total = torch.zeros(())
        for pair in self.pairs:
            chosen, rejected = (
                _logps(model, pair["prompt_token_ids"], pair[f"{side}_token_ids"]).sum()
                for side in ("chosen", "rejected")
            )
            h = self.config.beta * ((chosen - chosen.detach()) - (rejected - rejected.detach()))
            total = total - torch.nn.functional.logsigmoid(h) / len(self.pairs)
        total.backward()
        norm = torch.nn.utils.get_total_norm([one.grad for one in model.parameters() if one.grad is not None])
        if not abs(first["grad_norm"] - norm) <= _GRADIENT_APART * norm:
            self.result.faults.append(
                f"train: the first gradient has norm {first['grad_norm']:.6g}, not {norm:.6g}"
            )

    @torch.no_grad()
    def _check_scores(self) -> None:
        rows = [json.loads(line) for line in self.run.scores.read_text().splitlines()]
        for whose, model in (("policy", self._policy()), ("reference", self._plain())):
            for row, pair in zip(rows, self.pairs, strict=True):
                for side in ("chosen", "rejected"):
                    true = float(_logps(model, pair["prompt_token_ids"], pair[f"{side}_token_ids"]).sum())
                    self._compare(f"score: {whose} of {side} {pair['id']}", row[f"{whose}_{side}_logp"], true)

    @torch.no_grad()
    def _check_samples(self) -> None:
        rows = [json.loads(line) for line in self.run.samples.read_text().splitlines()]
        tokenizer, model = transformers.AutoTokenizer.from_pretrained(self.base), self._policy()
        for row, text in zip(rows, _PROMPTS, strict=True):
            prompt, written = tokenizer(text).input_ids, row["token_ids"]
            table = _logits(model, [*prompt, *written[:-1]])[len(prompt) - 1 :].log_softmax(dim=-1)
            logps = table.gather(1, torch.tensor(written)[:, None])[:, 0]
            self._compare(f"sample: completion {row['id']}", row["logprob"], float(logps.sum()))
            if float((table.amax(dim=1) - logps).max()) > _APART:
                self.result.faults.append(f"sample: completion {row['id']} is not the likeliest")

    def _compare(self, what: str, found: float, true: float) -> None:
        if not abs(found - true) <= _APART:
            self.result.faults.append(f"{what} is {found:.4f}, not {true:.4f}")


def _logits(model: Any, ids: Sequence[int]) -> torch.Tensor:
    """Logits (T, V) of one sequence by one plain forward."""
    base = model.get_base_model() if isinstance(model, peft.PeftModel) else model
    without = {"use_cache": False} if "use_cache" in signature(base.forward).parameters else {}
    logits: torch.Tensor = model(input_ids=torch.tensor([list(ids)]), **without).logits[0].double()
    return logits


def _logps(model: Any, prompt: Sequence[int], completion: Sequence[int]) -> torch.Tensor:
    """Log-probabilities (N,) of a completion's tokens."""
    table = _logits(model, [*prompt, *completion[:-1]])[len(prompt) - 1 :].log_softmax(dim=-1)
    return table.gather(1, torch.tensor(list(completion))[:, None])[:, 0]


def _pair(number: int, lengths: tuple[int, int, int]) -> dict[str, Any]:
    rng = random.Random(number)
    prompt, chosen, rejected = ([rng.randrange(3, VOCABULARY) for _ in range(count)] for count in lengths)
    texts = {"prompt": f"{number}", "chosen": "good", "rejected": "bad"}
    ids = {"prompt_token_ids": prompt, "chosen_token_ids": chosen, "rejected_token_ids": rejected}
    return (
        {"id": number} | texts | ids | {"chosen_finish_reason": "length", "rejected_finish_reason": "length"}
    )
