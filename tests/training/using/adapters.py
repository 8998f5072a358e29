"""Small adapters of the starter model, written by hand: PEFT's two files, with random weights and without PyTorch."""

import io
import json
import random
import struct
import tarfile
import zipfile
from pathlib import Path
from typing import Any

from django.conf import settings

PREFIX = "base_model.model."


def starter_shapes() -> dict[str, list[int]]:
    """Return the shapes of the starter's matrices."""
    with (settings.STARTER_MODEL / "model.safetensors").open("rb") as file:
        header = json.loads(file.read(struct.unpack("<Q", file.read(8))[0]))
    return {name: one["shape"] for name, one in header.items() if name != "__metadata__"}


def config(**changes: Any) -> bytes:
    usual = {
        "peft_type": "LORA",
        "task_type": "CAUSAL_LM",
        "base_model_name_or_path": "/models/starter",
        "r": 2,
        "lora_alpha": 4,
        "target_modules": ["q_proj", "v_proj"],
        "lora_dropout": 0.0,
        "inference_mode": True,
    }
    return json.dumps(usual | changes).encode()


def tensors(shapes: dict[str, list[int]], kind: str = "F32") -> bytes:
    """Return a file of safetensors with small random numbers."""
    rng, header, content = random.Random(0), {}, b""
    for name, shape in shapes.items():
        count = shape[0] * shape[1]
        values = struct.pack(f"<{count}f", *(rng.uniform(-0.3, 0.3) for _ in range(count)))
        header[name] = {
            "dtype": kind,
            "shape": shape,
            "data_offsets": [len(content), len(content) + len(values)],
        }
        content += values
    head = json.dumps(header).encode()
    return struct.pack("<Q", len(head)) + head + content


def weights(r: int = 2, **changes: list[int]) -> bytes:
    found: dict[str, list[int]] = {}
    for name, (rows, columns) in (
        (name, shape) for name, shape in starter_shapes().items() if "q_proj" in name or "v_proj" in name
    ):
        layer = PREFIX + name.removesuffix(".weight")
        found |= {f"{layer}.lora_A.weight": [r, columns], f"{layer}.lora_B.weight": [rows, r]}
    return tensors(found | changes)


def write(folder: Path, **changes: Any) -> Path:
    """Write an adapter into a folder."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "adapter_config.json").write_bytes(config(**changes))
    (folder / "adapter_model.safetensors").write_bytes(weights())
    return folder


def zipped(files: dict[str, bytes], links: tuple[str, ...] = ()) -> bytes:
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in files.items():
            info = zipfile.ZipInfo(name)
            info.external_attr = (0o120777 if name in links else 0o100644) << 16
            info.compress_type = zipfile.ZIP_DEFLATED
            archive.writestr(info, content)
    return out.getvalue()


def tarred(files: dict[str, bytes], links: tuple[str, ...] = ()) -> bytes:
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w:gz") as archive:
        for name, content in files.items():
            info = tarfile.TarInfo(name)
            if name in links:
                info.type, info.linkname = tarfile.SYMTYPE, "/etc/passwd"
                archive.addfile(info)
            else:
                info.size = len(content)
                archive.addfile(info, io.BytesIO(content))
    return out.getvalue()


def files(folder: str = "", **changes: Any) -> dict[str, bytes]:
    """Return the two files of an adapter by their names in an archive."""
    return {
        f"{folder}adapter_config.json": config(**changes),
        f"{folder}adapter_model.safetensors": weights(),
    }
