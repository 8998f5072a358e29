"""Speed on a GPU: training beside TRL's, sampling beside `generate`, and a base in 4 bits."""

import dataclasses
import functools
import importlib.util
import json
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import torch
import transformers

from benchmarks import models
from benchmarks.gpu_parts.part import TINY, Part
from benchmarks.shapes import QWEN_05B, QWEN_15B, Case, TrlConfiguration
from benchmarks.sides import ROOT, TRL_PYTHON, Workbench, trl_spec
from training.engine.adapters import loading
from training.engine.config import SamplingConfig, TrainConfig
from training.engine.rundir import RunDirectory
from training.engine.sample import Writer
from training.engine.sampling import vllm_writer
from training.engine.sampling.decoding import Decoder
from training.engine.sampling.grouping import Request

TRL_COMMAND = Path(sys.executable) if importlib.util.find_spec("trl") else TRL_PYTHON
# Pairs that TRL feeds at once: as many as fit beside what its process holds else, on a GPU of 80 GB or more. It feeds a
# prompt twice, pads, and keeps the logits of all positions.
TRL_PAIRS = {"0.5b-hh": 16, "1.5b-hh": 16, "7b-hh": 8, "0.5b-long": 8, "1.5b-long": 4, "7b-long": 2}
TRL_SECONDS = 140  # for both configurations of a case


def trl_configurations(case: Case) -> dict[str, TrlConfiguration]:
    """Return those of TRL that were fastest on a GPU: with mixed precision or not, with many pairs a forward."""
    pairs = TRL_PAIRS.get(case.name, 1)
    return {
        f"bfloat16{'' if autocast else ' without autocast'}, {pairs} pairs": TrlConfiguration(
            autocast=autocast, micro_batch=pairs
        )
        for autocast in (False, True)
    }


def train(part: Part) -> None:
    """Training against TRL's best configuration of a few."""
    for case in part.cases:
        bench = Workbench(case, part.device, 0, part.scratch)
        part.free()
        ours = bench.ours()
        rate = bench.matmul_rate(ours.dtype)
        figures: dict[str, Any] = {
            "pairs": case.pairs,
            "tokens of prompt, chosen, rejected": [round(mean, 1) for mean in bench.mean_lengths],
            "ours, pairs/s": round(case.pairs / ours.seconds, 2),
            "ours, pairs/s of the steps alone": round(case.pairs / ours.training_seconds, 2),
            "ours, peak GB": round(ours.peak_bytes / 1e9, 2),
            "ours, wall seconds": round(ours.wall_seconds, 1),
            "matrix products, TFLOP/s": round(rate / 1e12, 1),
            "utilization": round(bench.flops / ours.seconds / rate, 3),
            "losses": ours.losses,
        }
        part.keep(case.name, figures)
        part.free()  # what made the model and measured the rate
        theirs = _measure_trl(bench) if TRL_COMMAND.exists() else {}
        best = max(theirs, key=lambda name: theirs[name].get("pairs/s", 0.0), default="")
        if best and "pairs/s" in theirs[best]:
            losses = theirs[best]["losses"]
            figures |= {
                "TRL's best": best,
                "speed ratio": round(figures["ours, pairs/s"] / theirs[best]["pairs/s"], 2),
                "speed ratio of the steps alone": round(
                    figures["ours, pairs/s of the steps alone"] / theirs[best]["pairs/s of the steps alone"],
                    2,
                ),
                "memory ratio": round(figures["ours, peak GB"] / theirs[best]["peak GB"], 3),
                "largest loss gap": max(abs(a - b) for a, b in zip(ours.losses, losses, strict=True)),
            }
        part.keep(case.name, figures | {"TRL": theirs})
        shutil.rmtree(bench.folder)


def _measure_trl(bench: Workbench) -> dict[str, dict[str, Any]]:
    """All configurations, one after the other in one process; what it writes survives a crash of the next."""
    arguments, configurations = [], trl_configurations(bench.case)
    for number, configuration in enumerate(configurations.values()):
        spec, result = (bench.folder / f"{kind}-{number}.json" for kind in ("spec", "result"))
        spec.write_text(json.dumps(trl_spec(bench, configuration)))
        arguments += [str(spec), str(result)]
    command = [str(TRL_COMMAND), str(ROOT / "benchmarks/trl_side.py"), *arguments]
    try:
        ended = subprocess.run(
            command, capture_output=True, text=True, cwd=ROOT, check=False, timeout=TRL_SECONDS
        )
        print(ended.stdout[-2000:], ended.stderr[-4000:], flush=True)
    except subprocess.TimeoutExpired as late:
        print("TRL was stopped", (late.stderr or b"")[-2000:], flush=True)
    found: dict[str, dict[str, Any]] = {}
    for name, result in zip(configurations, arguments[1::2], strict=True):
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
            "pairs/s of the steps alone": round(bench.case.pairs / done["training_seconds"], 2),
            "peak GB": round(done["cuda_peak_bytes"] / 1e9 or 1.0, 2),
            "same ids": done["ids_sha256"] == bench.ids_sha256(),
            "losses": done["losses"],
        }
    return found


def sample(part: Part) -> None:
    """Tokens a second of our decoder, with an adapter and without, and of `generate` with none."""
    shapes = {"tiny": TINY} if part.tiny else {"0.5B": QWEN_05B, "1.5B": QWEN_15B}
    count, longest = (8, 8) if part.tiny else (128, 128)
    for name, shape in shapes.items():
        folder = part.scratch / name
        models.make_model(shape, folder / "model", seed=0, device=part.device)
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
            figures[way] = max(part.rate(functools.partial(write_ours, decoder, requests)) for _ in range(2))
            del loaded, decoder
            part.free()
            part.keep(title, figures)
        model = transformers.AutoModelForCausalLM.from_pretrained(folder / "model", dtype=torch.bfloat16)
        model.to(part.device).eval()
        write = functools.partial(generate, model, prompts, count, longest)
        figures["generate, no adapter"] = max(part.rate(write) for _ in range(2))
        del model
        part.free()
        part.keep(title, figures)
        if vllm_writer.wanted(config, None):
            settings = SamplingConfig(max_new_tokens=longest)
            writer = vllm_writer.VllmWriter(
                dataclasses.replace(config, sampling=settings), None, frozenset({256})
            )
            rate = functools.partial(write_ours, writer, requests)
            figures["vLLM, no adapter"] = max(part.rate(rate) for _ in range(2))
            del writer
            part.free()
            part.keep(title, figures)
        shutil.rmtree(folder)


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


def qlora(part: Part) -> None:
    """Training over a base in 4 bits, and the policy that then writes."""
    case = part.case("1.5b-hh")
    bench = Workbench(dataclasses.replace(case, batch_size=16, steps=4), part.device, 0, part.scratch)
    for name, how in (("bfloat16", {}), ("nf4", {"quantization": "nf4"})):
        ours = bench.ours(**how)
        part.keep(
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
    part.keep("sample", {"code": ended.returncode, "said": ended.stderr[-500:], "events": done.get("events")})
