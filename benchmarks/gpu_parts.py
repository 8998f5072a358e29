"""The parts of `make gpu-check`, each run as `python -m benchmarks.gpu_parts PART OUT DEVICE [--tiny] [CASE ...]`."""

import dataclasses
import functools
import gc
import importlib.util
import json
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import peft
import torch
import transformers
from torch import nn

from benchmarks import models
from benchmarks.shapes import CUDA_CASES, QWEN_05B, QWEN_15B, Case, Lengths, ModelShape, TrlConfiguration
from benchmarks.sides import ROOT, TRL_PYTHON, Workbench, trl_spec
from training.engine.adapters import loading, lora
from training.engine.config import SamplingConfig, TrainConfig
from training.engine.model.base import load_base
from training.engine.rundir import RunDirectory, read_jsonl
from training.engine.sample import Writer
from training.engine.sampling import vllm_writer
from training.engine.sampling.decoding import Decoder
from training.engine.sampling.grouping import Request
from training.engine.score import make_scorer, score_pairs

TRL_COMMAND = Path(sys.executable) if importlib.util.find_spec("trl") else TRL_PYTHON
TINY = ModelShape(name="tiny", layers=2, hidden=64, intermediate=96, heads=4, key_heads=2, vocabulary=512)
TINY_CASE = Case(
    name="tiny",
    about="",
    model=TINY,
    prompts=Lengths(20, 0.5, 4, 40),
    completions=Lengths(10, 0.5, 3, 20),
    batch_size=4,
    steps=2,
    learning_rate=1e-4,
)
# In the order in which they are run: what comes last is lost first when time is short.
DEFAULT_CASES = ("tiny", "0.5b-hh", "1.5b-hh", "7b-hh", "0.5b-long", "1.5b-long", "7b-long")
# TRL's configurations that were fastest on a GPU: mixed precision or not, by pairs a forward.
TRL = {
    f"bfloat16{'' if autocast else ' without autocast'}, {pairs} pairs": TrlConfiguration(
        autocast=autocast, micro_batch=pairs
    )
    for pairs in (16, 4)
    for autocast in (True, False)
}


class Part:
    """One part: where it writes, on which device, in which shapes."""

    def __init__(self, out: Path, device: str, tiny: bool, cases: list[str], scratch: Path) -> None:
        self.out, self.device, self.tiny, self.scratch = out, device, tiny, scratch
        known = (TINY_CASE,) if tiny else CUDA_CASES
        wanted = cases or DEFAULT_CASES
        self.cases = sorted(
            (case for case in known if case.name in wanted), key=lambda case: wanted.index(case.name)
        )
        self.found: dict[str, Any] = {}

    def keep(self, name: str, figures: Any) -> None:
        """Add a finding to what is on the disk."""
        self.found[name] = figures
        path = self.out / f"{sys.argv[1]}.json"
        path.write_text(json.dumps(self.found, indent=1) + "\n")
        print(name, figures, flush=True)

    def products(self) -> None:
        """Measure how much of a small adapter arrives through one layer, and the cost of adding it."""
        torch.manual_seed(0)
        shapes = {"tiny": (64, 96)} if self.tiny else {"0.5B": (896, 4864), "7B": (3584, 18_944)}
        for name, (inputs, outputs) in shapes.items():
            for bias in (False, True):
                figures = self._layer(inputs, outputs, bias)
                self.keep(f"{name} up projection{' with bias' if bias else ''}", figures)

    def _layer(self, inputs: int, outputs: int, bias: bool) -> dict[str, Any]:
        base = nn.Linear(inputs, outputs, bias=bias, device=self.device, dtype=torch.bfloat16)
        nn.init.normal_(base.weight, std=inputs**-0.5)
        config = peft.LoraConfig(r=16, lora_alpha=32, target_modules=["0"])
        model = peft.get_peft_model(nn.Sequential(base).requires_grad_(False), config)  # type: ignore[arg-type]
        layer = model.base_model.model[0]
        a, b = layer.lora_A["default"].weight, layer.lora_B["default"].weight
        tokens = 64 if self.tiny else 8192
        x = torch.randn(tokens, inputs, device=self.device).bfloat16().requires_grad_()
        dy = torch.randn(tokens, outputs, device=self.device).bfloat16()

        def passes(on: bool) -> tuple[torch.Tensor, torch.Tensor]:
            layer.enable_adapters(on)
            y = layer(x)
            (dx,) = torch.autograd.grad(y, x, dy)
            return y.detach().float(), dx.float()

        def both_ways() -> None:
            torch.autograd.grad(layer(x), (x, a, b), dy)

        figures: dict[str, Any] = {}
        for way in ("PEFT", "ours"):
            if way == "ours":
                lora.fuse(model)
            nn.init.zeros_(b)
            fresh = all(torch.equal(*both) for both in zip(passes(True), passes(False), strict=True))
            nn.init.normal_(b, std=5e-5)
            changed = [on - off for on, off in zip(passes(True), passes(False), strict=True)]
            with torch.no_grad():
                true = 2 * (x.float() @ a.t() @ b.t()), 2 * (dy.float() @ b @ a)
            layer.enable_adapters(True)
            figures[way] = {
                "share of the adapter, forward and backward": [
                    round(float((found * exact).sum() / exact.pow(2).sum()), 4)
                    for found, exact in zip(changed, true, strict=True)
                ],
                "a fresh adapter changes nothing": fresh,
                "ms forward": self._milliseconds(lambda: layer(x)),
                "ms forward and backward": self._milliseconds(both_ways),
            }
        with torch.no_grad():
            figures["linear alone, ms forward"] = self._milliseconds(
                lambda: nn.functional.linear(x, base.weight, base.bias)
            )
        return figures

    def _milliseconds(self, call: Callable[[], Any]) -> float:
        """Median of 30 calls."""
        times = []
        for _ in range(33):
            self._synchronize()
            began = time.perf_counter()
            call()
            self._synchronize()
            times.append(1e3 * (time.perf_counter() - began))
        return round(statistics.median(times[3:]), 4)

    def _synchronize(self) -> None:
        if self.device == "cuda":
            torch.cuda.synchronize()

    def margins(self) -> None:
        """Return the margin of one adapter in bfloat16, by the engine and by PEFT, and in float32."""
        case = self.cases[0] if self.tiny else next(one for one in CUDA_CASES if one.name == "0.5b-hh")
        for rate in (1e-6, 5e-6, 2e-5):
            small = dataclasses.replace(
                case, batch_size=8, steps=2, learning_rate=rate, name=f"margins-{rate}"
            )
            bench = Workbench(small, self.device, 0, self.scratch)
            ours = bench.ours(epochs=8, dtype="bfloat16", schedule="constant")
            run = RunDirectory(bench.folder / "ours")
            config = run.read_config()
            figures: dict[str, float] = {}
            for name, dtype in (
                ("engine, bfloat16", "bfloat16"),
                ("PEFT, bfloat16", "bfloat16"),
                ("true", "float32"),
            ):
                chosen = dataclasses.replace(config, dtype=dtype)
                if name.startswith("engine"):
                    loaded = loading.load_scored(chosen, run.adapter, beside_start=False)
                else:  # PEFT's layers as they are
                    loaded = load_base(chosen)
                    loaded.model = peft.PeftModel.from_pretrained(loaded.model, str(run.adapter)).eval()
                scorer = make_scorer(loaded, chosen, bench.encoded, print)
                if not name.startswith("engine"):
                    scorer.use("padded")
                policy = score_pairs(scorer, bench.encoded)
                with loading.as_reference(loaded.model):
                    gains = policy - score_pairs(scorer, bench.encoded)
                figures[name] = round(float((gains[:, 0] - gains[:, 1]).mean()), 4)
                del loaded, scorer
                self._empty()
            figures["engine's last metrics, bfloat16"] = round(
                json.loads(run.metrics.read_text().splitlines()[-1])["rewards/margins"] / config.beta, 4
            )
            figures["losses, first and last"] = [ours.losses[0], ours.losses[-1]]  # type: ignore[assignment]
            self.keep(f"learning rate {rate:g}, 16 steps: margin / beta, nats", figures)
            shutil.rmtree(bench.folder)

    def tests(self) -> None:
        """The engine's tests, in float32 on the device unless a test says otherwise."""
        command = [
            sys.executable,
            "-m",
            "pytest",
            "-c",
            os.devnull,
            "--rootdir",
            str(ROOT),
            "-o",
            f"pythonpath={ROOT}",
        ]
        command += ["-p", "no:cacheprovider", "-q", "--tb=line", "--durations=5", "tests/engine/test_cuda.py"]
        rest = ("optimize/test_reference", "model/test_precision", "test_selfcheck", "test_cli")
        for files in ([], [f"tests/engine/{name}.py" for name in rest]):
            chosen = command if not files else [*command[:-1], *files]
            ended = subprocess.run(chosen, capture_output=True, text=True, cwd=ROOT, check=False)
            print(ended.stdout, ended.stderr, flush=True)
            lines = ended.stdout.strip().splitlines()
            failed = [line for line in lines if line.startswith(("FAILED", "ERROR"))]
            self.keep("on CUDA" if not files else "others", {"end": lines[-1:], "failed": failed})

    def train(self) -> None:
        """Training against TRL's best configuration of a few."""
        for case in (dataclasses.replace(one, steps=min(one.steps, 4)) for one in self.cases):
            bench = Workbench(case, self.device, 0, self.scratch)
            ours = bench.ours()
            rate = bench.matmul_rate(ours.dtype)
            figures: dict[str, Any] = {
                "pairs": case.pairs,
                "tokens of prompt, chosen, rejected": [round(mean, 1) for mean in bench.mean_lengths],
                "ours, pairs/s": round(case.pairs / ours.seconds, 2),
                "ours, peak GB": round(ours.peak_bytes / 1e9, 2),
                "ours, wall seconds": round(ours.wall_seconds, 1),
                "matrix products, TFLOP/s": round(rate / 1e12, 1),
                "utilization": round(bench.flops / ours.seconds / rate, 3),
                "losses": ours.losses,
            }
            self.keep(case.name, figures)
            theirs = self._trl(bench) if TRL_COMMAND.exists() else {}
            best = max(theirs, key=lambda name: theirs[name].get("pairs/s", 0.0), default="")
            if best and "pairs/s" in theirs[best]:
                losses = theirs[best]["losses"]
                figures |= {
                    "TRL's best": best,
                    "speed ratio": round(figures["ours, pairs/s"] / theirs[best]["pairs/s"], 2),
                    "memory ratio": round(figures["ours, peak GB"] / theirs[best]["peak GB"], 3),
                    "largest loss gap": max(abs(a - b) for a, b in zip(ours.losses, losses, strict=True)),
                }
            self.keep(case.name, figures | {"TRL": theirs})
            shutil.rmtree(bench.folder)

    def _trl(self, bench: Workbench) -> dict[str, dict[str, Any]]:
        """All configurations, one after the other in one process; what it writes survives a crash of the next."""
        arguments = []
        for number, configuration in enumerate(TRL.values()):
            spec, result = (bench.folder / f"{kind}-{number}.json" for kind in ("spec", "result"))
            spec.write_text(json.dumps(trl_spec(bench, configuration)))
            arguments += [str(spec), str(result)]
        command = [str(TRL_COMMAND), str(ROOT / "benchmarks/trl_side.py"), *arguments]
        try:
            ended = subprocess.run(
                command, capture_output=True, text=True, cwd=ROOT, check=False, timeout=140
            )
            print(ended.stdout[-2000:], ended.stderr[-4000:], flush=True)
        except subprocess.TimeoutExpired as late:
            print("TRL was stopped", (late.stderr or b"")[-2000:], flush=True)
        found: dict[str, dict[str, Any]] = {}
        for name, result in zip(TRL, arguments[1::2], strict=True):
            if not Path(result).exists():
                found[name] = {"failed": True}
                continue
            done = json.loads(Path(result).read_text())
            if "error" in done:
                found[name] = {"failed": done["error"][:300]}
                continue
            seconds = done["reference_seconds"] + done["training_seconds"]
            found[name] = {
                "pairs/s": round(bench.case.pairs / seconds, 2),
                "peak GB": round(done["cuda_peak_bytes"] / 1e9 or 1.0, 2),
                "same ids": done["ids_sha256"] == bench.ids_sha256(),
                "losses": done["losses"],
            }
        return found

    def sample(self) -> None:
        """Tokens a second of our decoder, with an adapter and without, and of `generate` with none."""
        shapes = {"tiny": TINY} if self.tiny else {"0.5B": QWEN_05B, "1.5B": QWEN_15B}
        count, longest = (8, 8) if self.tiny else (128, 64)
        for name, shape in shapes.items():
            folder = self.scratch / name
            models.make_model(shape, folder / "model", seed=0, device=self.device)
            models.make_adapter(folder / "model", folder / "adapter", seed=0)
            config = TrainConfig.from_dict({"base_model": str(folder / "model"), "dtype": "bfloat16"})
            torch.manual_seed(0)
            prompts = [torch.randint(0, 250, (24 + number % 64,)).tolist() for number in range(count)]
            requests = [Request(tuple(ids), 2 * at + n) for at, ids in enumerate(prompts) for n in range(2)]
            title = f"{name}, {2 * count} completions of {longest} tokens, tokens/s"
            figures: dict[str, float] = {}
            for way, adapter in (("ours, no adapter", None), ("ours, with an adapter", folder / "adapter")):
                loaded = loading.load_sampled(config, adapter)
                settings = SamplingConfig(max_new_tokens=longest, batch_size=512)
                decoder = Decoder(loaded.model, frozenset({256}), loaded.device, settings)
                figures[way] = max(
                    self._rate(functools.partial(write_ours, decoder, requests)) for _ in range(2)
                )
                del loaded, decoder
                self._empty()
                self.keep(title, figures)
            model = transformers.AutoModelForCausalLM.from_pretrained(folder / "model", dtype=torch.bfloat16)
            model.to(self.device).eval()
            write = functools.partial(generate, model, prompts, count, longest)
            figures["generate, no adapter"] = max(self._rate(write) for _ in range(2))
            del model
            self._empty()
            self.keep(title, figures)
            if vllm_writer.wanted(config, None):
                writer = vllm_writer.VllmWriter(
                    dataclasses.replace(config, sampling=SamplingConfig(max_new_tokens=longest)),
                    None,
                    frozenset({256}),
                )
                figures["vLLM, no adapter"] = max(
                    self._rate(functools.partial(write_ours, writer, requests)) for _ in range(2)
                )
                del writer
                self._empty()
                self.keep(title, figures)
            shutil.rmtree(folder)

    def _rate(self, write: Callable[[], int]) -> float:
        self._synchronize()
        began = time.perf_counter()
        tokens = write()
        self._synchronize()
        return round(tokens / (time.perf_counter() - began), 1)

    def resume(self) -> None:
        """Check that a run that is killed in the middle ends as one that was not, up to the order of sums."""
        from safetensors.torch import load_file

        case = self.cases[0] if self.tiny else next(one for one in CUDA_CASES if one.name == "0.5b-hh")
        bench = Workbench(dataclasses.replace(case, batch_size=8, steps=8), self.device, 0, self.scratch)
        bench.ours(checkpoint_steps=2)
        ours = bench.folder / "ours"
        whole = load_file(ours / "adapter" / "adapter_model.safetensors")
        killed = RunDirectory(bench.folder / "killed")
        killed.root.mkdir()
        for file in ("config.json", "pairs.jsonl"):
            shutil.copy(ours / file, killed.root)
        command = [sys.executable, "-m", "training.engine", "train", str(killed.root)]
        child = subprocess.Popen(command, cwd=ROOT)
        while not list(killed.checkpoints.glob("*.json")):
            if child.poll() is not None:
                break
            time.sleep(0.01)
        child.kill()
        child.wait()
        steps = len(killed.metrics.read_text().splitlines()) if killed.metrics.exists() else 0
        subprocess.run(command, cwd=ROOT, check=True)
        again = load_file(killed.adapter / "adapter_model.safetensors")
        apart = max(float((again[name] - whole[name]).abs().max()) for name in whole)
        size = max(float(weight.abs().max()) for name, weight in whole.items() if "lora_B" in name)
        losses = [
            max(abs(a["loss"] - b["loss"]) for (_, a), (_, b) in zip(*both, strict=True))
            for both in [(list(read_jsonl(ours / "metrics.jsonl")), list(read_jsonl(killed.metrics)))]
        ]
        events = killed.read_done()["train"]["events"]
        self.keep(
            "kill and resume",
            {
                "killed after step": steps,
                "events": events,
                "largest difference of a weight": apart,
                "largest weight of B": size,
                "largest difference of a loss": losses[0],
            },
        )

    def qlora(self) -> None:
        """Training over a base in 4 bits, and the policy that then writes."""
        case = self.cases[0] if self.tiny else next(one for one in CUDA_CASES if one.name == "1.5b-hh")
        bench = Workbench(dataclasses.replace(case, batch_size=16, steps=4), self.device, 0, self.scratch)
        for name, how in (("bfloat16", {}), ("nf4", {"quantization": "nf4"})):
            ours = bench.ours(**how)
            self.keep(
                name,
                {
                    "pairs/s": round(bench.case.pairs / ours.seconds, 2),
                    "peak GB": round(ours.peak_bytes / 1e9, 2),
                    "losses": ours.losses,
                },
            )
        run = RunDirectory(bench.folder / "ours")
        (run.prompts).write_text('{"id": 1, "prompt": "abc def"}\n{"id": 2, "prompt": "The film"}\n')
        command = [sys.executable, "-m", "training.engine", "sample", str(run.root)]
        ended = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
        done = run.read_done().get("sample", {})
        self.keep(
            "sample", {"code": ended.returncode, "said": ended.stderr[-500:], "events": done.get("events")}
        )

    def _empty(self) -> None:
        gc.collect()
        if self.device == "cuda":
            torch.cuda.empty_cache()


def write_ours(writer: Writer, requests: list[Request]) -> int:
    """Every completion by our decoder, or by vLLM; returns the tokens written."""
    return sum(len(one.token_ids) for one in writer.write(requests))


@torch.inference_mode()
def generate(model: Any, prompts: list[list[int]], batch: int, longest: int) -> int:
    """Two completions of each prompt by `generate`, padded on the left; returns the tokens written."""
    tokens = 0
    ordered = sorted(prompts, key=len)
    for start in range(0, len(ordered), batch):
        some = ordered[start : start + batch]
        width = max(map(len, some))
        ids = torch.tensor([[0] * (width - len(one)) + one for one in some], device=model.device)
        mask = torch.tensor([[0] * (width - len(one)) + [1] * len(one) for one in some], device=model.device)
        written = model.generate(
            input_ids=ids,
            attention_mask=mask,
            do_sample=True,
            temperature=1.0,
            top_k=0,
            num_return_sequences=2,
            max_new_tokens=longest,
            pad_token_id=256,
        )
        tokens += int((written[:, width:] != 256).sum())
    return tokens


def main(part: str, out: str, device: str, *rest: str) -> None:
    """Run one part."""
    cases = [one for one in rest if one != "--tiny"]
    with tempfile.TemporaryDirectory(prefix="gpu-check-") as scratch:
        getattr(Part(Path(out), device, "--tiny" in rest, cases, Path(scratch)), part)()


if __name__ == "__main__":
    main(*sys.argv[1:])
