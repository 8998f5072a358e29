"""Everything that only a GPU can show, in one command: `make gpu-check`, or `python -m benchmarks.gpu_check --help`.

Needs torch, transformers, PEFT and pytest, and neither Django nor a network; TRL and bitsandbytes are used where they
are installed. Each part is a process of its own with a time limit, so that one that fails costs the others nothing.
What a part has found is on the disk as soon as it is known.
"""

import argparse
import importlib.util
import json
import os
import signal
import subprocess
import sys
import time
from importlib import metadata
from pathlib import Path
from typing import Any

from primitives.files import write_whole

ROOT = Path(__file__).parent.parent
# Parts with their limits in seconds. Those of one line share the GPU, which is for what is not timed. The last one has
# many cases, and takes whatever time is left.
GROUPS = (
    {"products": 60},
    {"sample": 100},
    {"tests": 150, "architectures": 150, "margins": 150, "resume": 150},
    {"qlora": 90},
    {"train": 330},
)
PARTS = [part for group in GROUPS for part in group]


def main() -> None:
    """Run the parts that are asked for and write one JSON after each."""
    options = _options()
    options.out.mkdir(parents=True, exist_ok=True)
    if options.wheels:
        _install(options.wheels)
    report: dict[str, Any] = {
        "date": time.strftime("%Y-%m-%d"),
        "machine": _machine(options.device),
        "parts": {},
    }
    until = time.monotonic() + options.seconds
    for group in GROUPS:
        wanted = {part: limit for part, limit in group.items() if part in (options.part or PARTS)}
        if not wanted:
            continue
        began = time.monotonic()
        children = {part: _start(part, options) for part in wanted}
        for part, child in children.items():
            problem = _finish(child, min(wanted[part], until - began) - (time.monotonic() - began))
            found = options.out / f"{part}.json"
            figures = json.loads(found.read_text()) if found.exists() else {}
            if problem:
                said = (options.out / f"{part}.log").read_text(errors="replace")
                figures["problem"] = f"{problem}: {said[-1500:]}"
            report["parts"][part] = figures | {"seconds": round(time.monotonic() - began, 1)}
            report["targets"] = targets(report["parts"])
            write_whole(options.out / "gpu-check.json", (json.dumps(report, indent=1) + "\n").encode())
            print(f"{part}: {json.dumps(report['parts'][part])}\n", flush=True)


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.gpu_check",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--out", type=Path, default=ROOT / "var" / "gpu-check", help="folder of the results")
    parser.add_argument("--part", action="append", choices=PARTS, help="only this one; may be given again")
    parser.add_argument(
        "--case", action="append", default=[], help="only this training case; may be given again"
    )
    parser.add_argument("--wheels", type=Path, help="folder of wheels to install first, without a network")
    parser.add_argument("--seconds", type=float, default=480, help="for all parts together (480)")
    parser.add_argument("--device", choices=("cuda", "cpu"), default="cuda")
    parser.add_argument("--tiny", action="store_true", help="tiny shapes: does the script work?")
    return parser.parse_args()


def _install(wheels: Path) -> None:
    """Install all wheels of a folder beside the torch and transformers that are there, whole ones at least."""
    command = [sys.executable, "-m", "pip", "install", "--quiet", "--no-index", "--no-deps"]
    files = sorted(str(path) for path in wheels.glob("*.whl"))
    if subprocess.run([*command, *files], check=False).returncode:
        for file in files:  # a broken one costs itself alone; pip says which
            subprocess.run([*command, file], check=False)
    importlib.invalidate_caches()


def targets(parts: dict[str, Any]) -> dict[str, dict[str, Any]]:
    """Return the figures that have a target: what it is, what was found, and whether all of it reaches it."""
    training = [one for one in parts.get("train", {}).values() if isinstance(one, dict)]
    sampling = [one for one in parts.get("sample", {}).values() if isinstance(one, dict)]
    ratios = [
        one["ours, no adapter"] / one["generate, no adapter"]
        for one in sampling
        if {"ours, no adapter", "generate, no adapter"} <= one.keys()
    ]
    found = {
        "times TRL's best": (2.0, [one["speed ratio"] for one in training if "speed ratio" in one]),
        "utilization": (0.45, [one["utilization"] for one in training if "utilization" in one]),
        "times generate": (5.0, [round(ratio, 2) for ratio in ratios]),
    }
    return {
        name: {"target": target, "found": values, "reached": all(value >= target for value in values)}
        for name, (target, values) in found.items()
        if values
    }


def _machine(device: str) -> dict[str, Any]:
    import torch

    names = ("torch", "transformers", "peft", "trl", "bitsandbytes")
    versions = {name: metadata.version(name) for name in names if importlib.util.find_spec(name)}
    card = torch.cuda.get_device_name() if device == "cuda" else "CPU"
    return {"card": card, "cuda": torch.version.cuda, "versions": versions}


def _start(part: str, options: argparse.Namespace) -> subprocess.Popen[bytes]:
    """Start one part in a process of its own, which leads a group. What it found in an earlier check is dropped."""
    (options.out / f"{part}.json").unlink(missing_ok=True)
    command = [sys.executable, "-m", "benchmarks.gpu_parts", part, str(options.out), options.device]
    command += (["--tiny"] if options.tiny else []) + options.case
    environment = os.environ | {
        "OMP_WAIT_POLICY": "passive",
        "HF_HUB_OFFLINE": "1",
        "TOKENIZERS_PARALLELISM": "false",
        "TQDM_DISABLE": "1",
        "PYTHONUNBUFFERED": "1",
    }
    with (options.out / f"{part}.log").open("w") as said:
        return subprocess.Popen(
            command, cwd=ROOT, env=environment, stdout=said, stderr=subprocess.STDOUT, start_new_session=True
        )


def _finish(child: subprocess.Popen[bytes], seconds: float) -> str:
    """Wait for a part and return what went wrong, if anything did. What takes too long is ended, with its children."""
    try:
        code = child.wait(max(seconds, 1))
    except subprocess.TimeoutExpired:
        os.killpg(child.pid, signal.SIGKILL)
        child.wait()
        return "it was stopped, as its time was up"
    return f"it ended with code {code}" if code else ""


if __name__ == "__main__":
    main()
