"""Exactness on a GPU: what a small adapter adds, the engine's tests, and a run that is killed."""

import dataclasses
import json
import os
import shutil
import subprocess
import sys
import threading
import time
from typing import Any

import peft
import torch
from torch import nn

from benchmarks.gpu_parts.part import Part
from benchmarks.sides import ROOT, Workbench
from training.engine.adapters import loading, lora
from training.engine.model.base import load_base
from training.engine.rundir import RunDirectory, read_jsonl
from training.engine.score import make_scorer, score_pairs

_TESTS_SECONDS = 130  # a little less than the limit of a part that runs tests, in gpu_check.py
_LATE = 124  # as `timeout` exits


def products(part: Part) -> None:
    """Measure how much of a small adapter arrives through one layer, and the cost of adding it."""
    torch.manual_seed(0)
    shapes = {"tiny": (64, 96)} if part.tiny else {"0.5B": (896, 4864), "7B": (3584, 18_944)}
    for name, (inputs, outputs) in shapes.items():
        for bias in (False, True):
            figures = _measure_layer(part, inputs, outputs, bias)
            part.keep(f"{name} up projection{' with bias' if bias else ''}", figures)


def _measure_layer(part: Part, inputs: int, outputs: int, bias: bool) -> dict[str, Any]:
    base = nn.Linear(inputs, outputs, bias=bias, device=part.device, dtype=torch.bfloat16)
    nn.init.normal_(base.weight, std=inputs**-0.5)
    config = peft.LoraConfig(r=16, lora_alpha=32, target_modules=["0"])
    model = peft.get_peft_model(nn.Sequential(base).requires_grad_(False), config)  # type: ignore[arg-type]
    layer = model.base_model.model[0]
    a, b = layer.lora_A["default"].weight, layer.lora_B["default"].weight
    tokens = 64 if part.tiny else 8192
    x = torch.randn(tokens, inputs, device=part.device).bfloat16().requires_grad_()
    dy = torch.randn(tokens, outputs, device=part.device).bfloat16()

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
            "ms forward": part.milliseconds(lambda: layer(x)),
            "ms forward and backward": part.milliseconds(both_ways),
        }
    with torch.no_grad():
        figures["linear alone, ms forward"] = part.milliseconds(
            lambda: nn.functional.linear(x, base.weight, base.bias)
        )
    return figures


def margins(part: Part) -> None:
    """Return the margin of one adapter in bfloat16, by the engine and by PEFT, and in float32."""
    case = part.case("0.5b-hh")
    for rate in (1e-6, 5e-6, 2e-5):
        small = dataclasses.replace(case, batch_size=8, steps=2, learning_rate=rate, name=f"margins-{rate}")
        bench = Workbench(small, part.device, 0, part.scratch)
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
            part.free()
        figures["engine's last metrics, bfloat16"] = round(
            json.loads(run.metrics.read_text().splitlines()[-1])["rewards/margins"] / config.beta, 4
        )
        figures["losses, first and last"] = [ours.losses[0], ours.losses[-1]]  # type: ignore[assignment]
        part.keep(f"learning rate {rate:g}, 16 steps: margin / beta, nats", figures)
        shutil.rmtree(bench.folder)


def tests(part: Part) -> None:
    """The engine's tests, in float32 on the device unless a test says otherwise."""
    others = ("optimize/test_reference", "model/test_precision", "test_selfcheck", "test_cli")
    _run_tests(part, {"on CUDA": ("test_cuda",), "others": others})


def architectures(part: Part) -> None:
    """Tiny models of many architectures: that bfloat16 is computed at all, and that float32 is exact."""
    _run_tests(part, {"in bfloat16": ("test_cuda_architectures",), "in float32": ("test_architectures",)})


def _run_tests(part: Part, groups: dict[str, tuple[str, ...]]) -> None:
    """Run groups of test files, each in its share of the time that is left. Exits with the worst code.

    What they say is written on as they say it: the part may be killed at any moment.
    """
    worst, until = 0, time.monotonic() + _TESTS_SECONDS
    for left, (name, files) in zip(range(len(groups), 0, -1), groups.items(), strict=True):
        code, said = _run_streaming(pytest_command(*files), (until - time.monotonic()) / left)
        failed = [line for line in said if line.startswith(("FAILED", "ERROR"))]
        part.keep(name, {"code": code, "end": said[-1:], "failed": failed})
        worst = max(worst, code)
    if worst:
        sys.exit(worst)


def _run_streaming(command: list[str], seconds: float) -> tuple[int, list[str]]:
    """Run a command that may take so many seconds. Returns its exit code, 124 for one that was ended, and its lines."""
    child = subprocess.Popen(
        command,
        cwd=ROOT,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        errors="replace",
    )
    was_late = threading.Event()

    def end() -> None:
        was_late.set()
        child.kill()

    timer = threading.Timer(max(seconds, 1), end)
    timer.start()
    lines = []
    with child:
        for line in child.stdout or ():
            print(line, end="", flush=True)
            if line.strip():
                lines.append(line.strip())
    timer.cancel()
    return (_LATE if was_late.is_set() else child.returncode), lines


def pytest_command(*files: str) -> list[str]:
    """Return the command that runs files of the engine's tests, without the plugins and fixtures that need Django."""
    command = [sys.executable, "-m", "pytest", "-c", os.devnull, "--rootdir", str(ROOT)]
    command += ["--confcutdir", str(ROOT / "tests" / "engine"), "-o", f"pythonpath={ROOT}"]
    command += ["-p", "no:cacheprovider", "-v", "--tb=line", "--durations=5"]
    return command + [f"tests/engine/{name}.py" for name in files]


def resume(part: Part) -> None:
    """Check that a run that is killed in the middle ends as one that was not, up to the order of sums."""
    from safetensors.torch import load_file

    case = part.case("0.5b-hh")
    bench = Workbench(dataclasses.replace(case, batch_size=8, steps=8), part.device, 0, part.scratch)
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
    part.keep(
        "kill and resume",
        {
            "killed after step": steps,
            "events": events,
            "largest difference of a weight": apart,
            "largest weight of B": size,
            "largest difference of a loss": losses[0],
        },
    )
