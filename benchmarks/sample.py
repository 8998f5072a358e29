"""Our sampler against transformers' `generate`: `make bench-sample`, or `python -m benchmarks.sample --help`.

Both write two completions for each of 512 prompts of mixed lengths with the starter model, by turns, on the same
threads in the same process and precision. The seconds of a turn are those from tokenized prompts to token ids.
`generate` gets what speeds it up without changing what it does. Its prompts are sorted by length and padded on the
left, and both completions of a prompt are in one batch (`num_return_sequences`). It has fused attention and
inference mode. Each side has the batch size that was fastest for it. Ours also records log-probabilities and draws
each completion by a seed of its own; `generate` does neither.
"""

import argparse
import random
import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
import transformers

from benchmarks import report
from training.engine.config import SamplingConfig
from training.engine.sampling.decoding import Decoder
from training.engine.sampling.grouping import Request
from training.engine.starter import reviews

STARTER = report.FOLDER.parent / "training" / "starter"
NEW_TOKENS = 96
BATCHES = (64, 128, 256, 512, 1024)
Ids = list[int]


@dataclass(frozen=True)
class Turn:
    """One pass over all prompts; `busy` is processor time, over all threads."""

    tokens: int
    seconds: float
    busy: float

    @property
    def rate(self) -> float:
        """Tokens a second."""
        return self.tokens / self.seconds


def main() -> None:
    """Parse the command line and run."""
    options = _options()
    if options.threads:
        torch.set_num_threads(options.threads)
    tokenizer = transformers.AutoTokenizer.from_pretrained(STARTER)
    prompts = tokenizer(make_prompts(options.prompts)).input_ids
    ours, theirs = Ours(prompts), Theirs(prompts, tokenizer)
    batch = {side.name: _fastest(side, options.prompts) for side in (ours, theirs)}
    turns: dict[str, list[Turn]] = {side.name: [] for side in (ours, theirs)}
    for turn in range(options.rounds):
        for side in (ours, theirs):
            turns[side.name].append(measure(side.write, batch[side.name]))
        pair = turns[ours.name][-1], turns[theirs.name][-1]
        print(
            f"turn {turn + 1}: ours {pair[0].rate:,.0f} tokens/s, generate {pair[1].rate:,.0f},"
            f" ratio {pair[0].rate / pair[1].rate:.2f}",
            flush=True,
        )
    text = summary(prompts, batch, turns)
    print("\n" + text)
    if options.publish:
        report.RESULTS.mkdir(exist_ok=True)
        (report.RESULTS / "sample.md").write_text(text)
        report.publish("sample", text)


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.sample",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--prompts", type=int, default=512, help="prompts, with two completions each (512)")
    parser.add_argument("--rounds", type=int, default=5, help="turns of each side (5)")
    parser.add_argument("--threads", type=int, default=0, help="CPU threads of both sides (all)")
    parser.add_argument("--publish", action="store_true", help="write benchmarks/results and the README")
    return parser.parse_args()


def make_prompts(count: int) -> list[str]:
    """Return openings of reviews, every second one with one to four sentences: 9 to about 70 tokens."""
    rng = random.Random(0)
    prompts = []
    for number in range(count):
        opening, continuation = reviews.review(rng)
        sentences = continuation.split(". ")
        shown = sentences[: rng.randint(1, 4)] if number % 2 else []
        prompts.append(opening + ". ".join(shown) + ("." if shown and len(shown) < len(sentences) else ""))
    return prompts


class Ours:
    """The engine's decoder."""

    name = "Whetstone"

    def __init__(self, prompts: Sequence[Ids]) -> None:
        self.model = _load()
        self.requests = [Request(tuple(ids), 2 * at + n) for at, ids in enumerate(prompts) for n in range(2)]

    def write(self, batch: int) -> int:
        """Write everything, `batch` completions at once; returns the tokens written, end ids included."""
        eos = frozenset({self.model.config.eos_token_id})
        settings = SamplingConfig(max_new_tokens=NEW_TOKENS, batch_size=batch)
        decoder = Decoder(self.model, eos, torch.device("cpu"), settings)
        return sum(len(one.token_ids) for one in decoder.write(self.requests))


class Theirs:
    """`generate`, over batches of prompts of like length."""

    name = "generate"

    def __init__(self, prompts: Sequence[Ids], tokenizer: transformers.PreTrainedTokenizerFast) -> None:
        self.model, self.tokenizer = _load(), tokenizer
        self.prompts = sorted(prompts, key=len)

    @torch.inference_mode()
    def write(self, batch: int) -> int:
        """Write everything, `batch` completions at once; returns the tokens written, end ids included."""
        tokens = 0
        for start in range(0, len(self.prompts), batch // 2):
            some = {"input_ids": self.prompts[start : start + batch // 2]}
            inputs = self.tokenizer.pad(some, padding_side="left", return_tensors="pt")
            written = self.model.generate(
                input_ids=inputs["input_ids"],
                attention_mask=inputs["attention_mask"],
                do_sample=True,
                temperature=1.0,
                top_k=0,
                num_return_sequences=2,
                max_new_tokens=NEW_TOKENS,
            )
            new = written[:, inputs["input_ids"].shape[1] :]
            tokens += int((new != self.tokenizer.pad_token_id).sum())
        return tokens


def _load() -> transformers.PreTrainedModel:
    model = transformers.AutoModelForCausalLM.from_pretrained(
        STARTER, dtype=torch.float32, attn_implementation="sdpa"
    )
    return model.eval()


def measure(write: Callable[[int], int], batch: int) -> Turn:
    """One turn of one side."""
    started, busy = time.perf_counter(), time.process_time()
    tokens = write(batch)
    return Turn(tokens, time.perf_counter() - started, time.process_time() - busy)


def _fastest(side: Ours | Theirs, prompts: int) -> int:
    """Return the batch size that took a side the least processor time, by one turn of each after a warm-up.

    Processor time, because it tells batch sizes apart also on a machine that does other things beside.
    """
    side.write(BATCHES[0])
    sizes = [batch for batch in BATCHES if batch <= 2 * prompts]
    found = {batch: measure(side.write, batch) for batch in sizes}
    best = min(found, key=lambda batch: found[batch].busy / found[batch].tokens)
    tried = ", ".join(f"{batch}: {turn.tokens / turn.busy:,.0f}" for batch, turn in found.items())
    print(f"{side.name}: batches of {best} (tokens per second of processor time, {tried})", flush=True)
    return best


def summary(prompts: Sequence[Ids], batch: dict[str, int], turns: dict[str, list[Turn]]) -> str:
    """Return the report in Markdown. Ratios are taken turn by turn; the figures of a side are medians over turns."""
    ours, theirs = turns[Ours.name], turns[Theirs.name]
    rows = [
        (
            name,
            batch[name],
            f"{statistics.median(turn.rate for turn in side):,.0f}",
            f"{statistics.median(turn.tokens / turn.busy for turn in side):,.0f}",
            f"{statistics.mean(turn.tokens for turn in side) / (2 * len(prompts)):.1f}",
        )
        for name, side in turns.items()
    ]
    ratios = sorted(a.rate / b.rate for a, b in zip(ours, theirs, strict=True))
    busy = [(a.tokens / a.busy) / (b.tokens / b.busy) for a, b in zip(ours, theirs, strict=True)]
    lengths = sorted(map(len, prompts))
    header = ("sampler", "batch", "tokens/s", "tokens per CPU second", "mean completion, tokens")
    return (
        f"{report.today()}, {report.hardware()}, {torch.get_num_threads()} threads, torch {torch.__version__}, "
        f"transformers {transformers.__version__}. Starter model, float32; {len(prompts)} prompts of {lengths[0]} "
        f"to {lengths[-1]} tokens (median {lengths[len(lengths) // 2]}), two completions each of at most "
        f"{NEW_TOKENS} tokens, temperature 1; {len(ours)} turns each, by turns.\n\n"
        f"{report.table(header, rows)}\n"
        f"Ratio of tokens/s, turn by turn: **{statistics.median(ratios):.2f}** (median; {ratios[0]:.2f} to "
        f"{ratios[-1]:.2f}). Of tokens per CPU second: {statistics.median(busy):.2f}.\n"
    )


if __name__ == "__main__":
    main()
