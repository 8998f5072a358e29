"""Runs one case on either side: prepares its files, starts the process, watches its memory, reads its results."""

import dataclasses
import hashlib
import json
import math
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
import transformers

from benchmarks import models
from benchmarks.shapes import LORA_RANK, STARTER, Case, TrlConfiguration, text_pairs, total_flops
from training.engine.config import TrainConfig
from training.engine.data.tokens import EncodedPair, Encoder
from training.engine.optimize.task import epoch_order
from training.engine.records import read_pairs
from training.engine.rundir import RunDirectory, write_json, write_jsonl

ROOT = Path(__file__).parent.parent
TRL_PYTHON = ROOT / ".venv-trl" / "bin" / "python"
BETA, SEED, MAX_LENGTH = 0.1, 0, 2048


@dataclass(frozen=True, kw_only=True)
class Measured:
    """One training run of either side."""

    losses: tuple[float, ...]
    seconds: float  # reference pass and steps
    training_seconds: float  # steps alone
    wall_seconds: float  # the whole process
    peak_bytes: int
    dtype: str


class Workbench:
    """The files of one case: model, initial adapter and pairs; and what training on them amounts to."""

    def __init__(self, case: Case, device: str, threads: int, scratch: Path) -> None:
        self.case, self.device, self.threads = case, device, threads
        self.folder = scratch / case.name
        self.folder.mkdir(parents=True)
        self.model = ROOT / "training" / "starter"
        if case.model:
            self.model = self.folder / "model"
            models.make_model(case.model, self.model, seed=SEED, device=device)
        self.adapter = self.folder / "initial-adapter"
        models.make_adapter(self.model, self.adapter, seed=SEED)
        self.pairs = self.folder / "pairs.jsonl"
        self.in_order = self.folder / "pairs-in-order.jsonl"
        rows = text_pairs(case, SEED)
        write_jsonl(self.pairs, rows)
        write_jsonl(self.in_order, (rows[at] for at in epoch_order(SEED, 0, len(rows))))
        self.encoded = self._encode()
        lengths = [(len(pair.prompt), len(pair.chosen), len(pair.rejected)) for pair in self.encoded]
        self.mean_lengths = [sum(column) / len(lengths) for column in zip(*lengths, strict=True)]
        self.flops = total_flops(case.model or STARTER, lengths)

    def ours(self, **settings: Any) -> Measured:
        """Train with our engine, under other `settings` than the usual ones. Exits if it did not pack its rows."""
        run = RunDirectory(self.folder / "ours")
        shutil.rmtree(run.root, ignore_errors=True)
        run.write_config(self._config(**settings))
        shutil.copy(self.pairs, run.pairs)
        wall, peak = watch([sys.executable, "-m", "training.engine", "train", str(run.root)])
        done = run.read_done()["train"]
        if not done["packed"]:
            raise SystemExit(f"Our run was not packed: {done['events']}")
        losses = [json.loads(line)["loss"] for line in run.metrics.read_text().splitlines()]
        return Measured(
            losses=tuple(losses),
            seconds=done["reference_seconds"] + done["training_seconds"],
            training_seconds=done["training_seconds"],
            wall_seconds=wall,
            peak_bytes=done["peak_memory_bytes"] if self.device == "cuda" else peak,
            dtype=done["dtype"],
        )

    def theirs(self, configuration: TrlConfiguration, limit: float = math.inf) -> Measured:
        """Train with TRL.

        Exits after `limit` seconds, where it does not fit into memory, or if it did not train on our ids in our order.
        """
        spec, result = self.folder / "spec.json", self.folder / "result.json"
        write_json(spec, trl_spec(self, configuration))
        command = [str(TRL_PYTHON), str(ROOT / "benchmarks/trl_side.py"), str(spec), str(result)]
        wall, peak = watch(command, limit)
        done = json.loads(result.read_text())
        if "error" in done:
            raise SystemExit(done["error"])
        if done["ids_sha256"] != self.ids_sha256():
            raise SystemExit(f"{self.case.name}: the two sides do not train on the same token ids.")
        return Measured(
            losses=tuple(done["losses"]),
            seconds=done["reference_seconds"] + done["training_seconds"],
            training_seconds=done["training_seconds"],
            wall_seconds=wall,
            peak_bytes=done["cuda_peak_bytes"] or peak,
            dtype=configuration.dtype,
        )

    def _encode(self) -> list[EncodedPair]:
        """Return the pairs in the order in which they are trained on, as our engine encodes them."""
        tokenizer = transformers.AutoTokenizer.from_pretrained(self.model)
        encoder = Encoder(
            tokenizer,
            eos_ids=frozenset({tokenizer.eos_token_id}),
            vocab_size=len(tokenizer),
            max_length=MAX_LENGTH,
        )
        encoded, left_out = encoder.encode_pairs(read_pairs(self.in_order))
        if left_out.dropped or left_out.truncated:
            raise SystemExit(f"{self.case.name}: pairs were dropped or cut: {left_out.to_dict()}")
        return encoded

    def _config(self, **settings: Any) -> TrainConfig:
        usual: dict[str, Any] = {
            "base_model": str(self.model),
            "start_adapter": str(self.adapter),
            "beta": BETA,
            "lora": {"r": LORA_RANK, "alpha": float(models.LORA_ALPHA)},
            "learning_rate": self.case.learning_rate,
            "schedule": "linear",
            "batch_size": self.case.batch_size,
            "threads": self.threads,
            "device": self.device,
            "seed": SEED,
        }
        return TrainConfig.from_dict(usual | settings)

    def ids_sha256(self) -> str:
        """Hash of the ids of the pairs in order, as `trl_side.py` takes it."""
        state = hashlib.sha256()
        for pair in self.encoded:
            state.update(repr((list(pair.prompt), list(pair.chosen), list(pair.rejected))).encode())
        return state.hexdigest()

    def matmul_rate(self, dtype: str) -> float:
        """Floating-point operations a second of matrix products alone, in the precision of our run."""
        if self.threads:
            torch.set_num_threads(self.threads)
        return models.matmul_rate(getattr(torch, dtype), self.device)


def trl_spec(bench: Workbench, configuration: TrlConfiguration) -> dict[str, Any]:
    """Return the task of `trl_side.py`."""
    micro = min(configuration.micro_batch, bench.case.batch_size)
    return {
        "model": str(bench.model),
        "adapter": str(bench.adapter),
        "pairs": str(bench.in_order),
        "scratch": str(bench.folder / "trl"),
        "configuration": dataclasses.asdict(configuration) | {"micro_batch": micro},
        "batch_size": bench.case.batch_size,
        "learning_rate": bench.case.learning_rate,
        "beta": BETA,
        "seed": SEED,
        "max_length": MAX_LENGTH,
        "threads": bench.threads,
        "device": bench.device,
    }


def watch(command: Sequence[str], limit: float = math.inf) -> tuple[float, int]:
    """Run a command; return its seconds and its largest resident memory in bytes (0 where there is no /proc).

    Exits with its last lines if it fails, and if it takes more than `limit` seconds.
    """
    # Threads sleep while they wait, on both sides: on a shared machine spinning costs either many times more.
    environment = os.environ | {
        "OMP_WAIT_POLICY": "passive",
        "HF_HUB_OFFLINE": "1",
        "TOKENIZERS_PARALLELISM": "false",
        "TQDM_DISABLE": "1",
    }
    with tempfile.TemporaryFile("w+", errors="replace") as said:
        started = time.perf_counter()
        child = subprocess.Popen(command, cwd=ROOT, env=environment, stdout=said, stderr=subprocess.STDOUT)
        peak = 0
        while child.poll() is None:
            peak = max(peak, _high_water(child.pid))
            if time.perf_counter() - started > limit:
                child.kill()
                child.wait()
                raise SystemExit(f"stopped after {limit:.0f} s")
            time.sleep(0.02)
        wall = time.perf_counter() - started
        said.seek(0)
        if child.returncode:
            raise SystemExit(f"{' '.join(command)} failed:\n" + "".join(said.readlines()[-15:]))
    return wall, peak


def _high_water(pid: int) -> int:
    """Return the kernel's own record of the process's largest resident memory, bytes; it only grows."""
    try:
        status = Path(f"/proc/{pid}/status").read_text()
    except (FileNotFoundError, ProcessLookupError):
        return 0
    found = [line for line in status.splitlines() if line.startswith("VmHWM:")]
    return int(found[0].split()[1]) * 1024 if found else 0
