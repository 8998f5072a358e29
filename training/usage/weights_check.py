"""Weights from outside, checked by their headers alone: nothing of them is loaded, and nothing in them can run.

The engine checks the rest when it loads them, in a process of its own.
"""

import json
import math
import re
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from django.utils.translation import gettext as _

from annotate.errors import RefusalError
from annotate.projects import base_models
from primitives.text import printable
from training.engine.adapters.settings import CONFIG_NAME, find_unhonoured
from training.engine.config import MOST_RANK

CONFIG, WEIGHTS = CONFIG_NAME, "adapter_model.safetensors"
MOST_CONFIG = 1 << 20  # bytes
MOST_SIDES = 8  # of a tensor
MOST_HEADER = 32 << 20  # bytes
TYPES = {"F64": 8, "F32": 4, "F16": 2, "BF16": 2, "F8_E4M3": 1, "F8_E5M2": 1}
PREFIX = "base_model.model."

Shapes = dict[str, list[int]]


def check_adapter(folder: Path, base_model: str, *, is_same_base: bool) -> None:
    """Check that a folder holds a LoRA adapter of a base model. Raises RefusalError, naming the field at fault."""
    settings = read_json(folder / CONFIG, CONFIG)
    if settings.get("peft_type") != "LORA":
        kind = printable(str(settings.get("peft_type")), 40)
        raise RefusalError(
            _("It is an adapter of the kind %(kind)s; only LoRA is known.") % {"kind": kind}, "file"
        )
    for name in ("r", "lora_alpha"):
        value = settings.get(name)
        if isinstance(value, bool) or not isinstance(value, int | float) or not 0 < value <= 1e6:
            raise RefusalError(
                _("In adapter_config.json, %(name)s is not a number above 0.") % {"name": name}, "file"
            )
    if not isinstance(settings["r"], int) or settings["r"] > MOST_RANK:
        raise RefusalError(_("In adapter_config.json, r is not a rank."), "file")
    if unhonoured := find_unhonoured(settings):
        problem = _(unhonoured[0]) % {"value": unhonoured[1]}
        raise RefusalError(_("The adapter %(problem)s.") % {"problem": printable(problem, 300)}, "file")
    named = settings.get("base_model_name_or_path")
    if not is_same_base and not _is_same(named, base_model):
        sentence = _(
            "It was trained on “%(named)s”, and the base model here is “%(base)s”. If both are the same model, say so."
        )
        names = {"named": printable(str(named), 120), "base": printable(base_model, 120)}
        raise RefusalError(sentence % names, "base")
    shapes = read_header(folder / WEIGHTS)
    lora = {name: shape for name, shape in shapes.items() if "lora_" in name}
    if not lora:
        raise RefusalError(_("The file of weights holds no LoRA matrix."), "file")
    if foreign := next((name for name in shapes if not name.startswith(PREFIX)), None):
        sentence = _("“%(name)s” is not a name that PEFT gives to weights.")
        raise RefusalError(sentence % {"name": printable(foreign, 120)}, "file")
    _check_ranks(lora, settings)
    _check_shapes(lora, base_model)
    _check_halves(lora)


def read_json(path: Path, name: str) -> dict[str, Any]:
    """Return a small JSON object. Raises RefusalError."""
    try:
        with path.open("rb") as file:
            content = file.read(MOST_CONFIG + 1)
        data = json.loads(content.decode("utf-8-sig")) if len(content) <= MOST_CONFIG else None
    except (ValueError, RecursionError):
        data = None
    if not isinstance(data, dict):
        raise make_json_error(name)
    return data


def make_json_error(name: str) -> RefusalError:
    return RefusalError(_("The file %(name)s is not a small JSON object.") % {"name": name}, "file")


def read_header(path: Path, field: str = "file") -> Shapes:
    """Return the names and shapes of the tensors in a safetensors file, whose whole layout is checked.

    Of a base model (`field` is not `file`) types that no adapter has are taken. Raises RefusalError.
    """
    try:
        header = _read_header(path)
        if field == "file":
            _check_types(header)
        return {name: list(one["shape"]) for name, one in header.items()}
    except (KeyError, TypeError, ValueError, RecursionError) as error:
        sentence = _("The file %(name)s is not a whole file of safetensors.")
        raise RefusalError(sentence % {"name": printable(path.name)}, field) from error


def count_weights(path: Path) -> Counter[str]:
    """Return how many weights of each type a safetensors file of a base model holds. Raises ValueError or OSError."""
    try:
        counts: Counter[str] = Counter()
        for one in _read_header(path).values():
            counts[str(one["dtype"])] += math.prod(one["shape"])
    except (KeyError, TypeError, RecursionError) as error:
        raise ValueError("It is not a whole file of safetensors.") from error
    return counts


def _read_header(path: Path) -> dict[str, Any]:
    """Return the header of a file whose tensors fill it without a gap. Raises ValueError, KeyError or TypeError."""
    size = path.stat().st_size
    with path.open("rb") as file:
        start = file.read(8)
        length = int.from_bytes(start, "little")
        if len(start) < 8 or length > min(MOST_HEADER, size):
            raise ValueError("The header is longer than the file.")
        header: dict[str, Any] = json.loads(file.read(length))
    if not isinstance(header, dict):
        raise TypeError("The header is not an object.")
    header.pop("__metadata__", None)
    place = 0
    for begin, end, shape in sorted((*one["data_offsets"], list(one["shape"])) for one in header.values()):
        if type(begin) is not int or type(end) is not int or begin != place or end < begin:
            raise ValueError("The tensors leave a gap, or lie over each other.")
        if len(shape) > MOST_SIDES or any(type(side) is not int or not 0 <= side < 2**48 for side in shape):
            raise ValueError("A tensor has no possible shape.")
        place = end
    if 8 + length + place != size:
        raise ValueError("The file has another length than its tensors.")
    return header


def _check_types(header: Mapping[str, Any]) -> None:
    """Check that tensors have types that adapters have, and are as long as their shapes. Raises ValueError."""
    for name, one in header.items():
        width = TYPES.get(one["dtype"])
        if width is None:
            sentence = _("“%(name)s” has the type %(type)s, which no adapter has.")
            names = {"name": printable(name, 120), "type": printable(str(one["dtype"]), 20)}
            raise RefusalError(sentence % names, "file")
        begin, end = one["data_offsets"]
        if end - begin != math.prod(one["shape"]) * width:
            raise ValueError("A tensor is not as long as its shape.")


def _is_same(named: object, base_model: str) -> bool:
    """Return whether two names of a base model may mean the same: a repository by its id, a folder by its name."""
    if not isinstance(named, str):
        return False
    return named == base_model or _last(named) == _last(base_model)


def _last(name: str) -> str:
    return name.rstrip("/").rpartition("/")[2].casefold()


def _check_halves(lora: Shapes) -> None:
    """Check that each layer has both of its matrices."""
    for name in lora:
        for one, other in (("A", "B"), ("B", "A")):
            beside = re.sub(rf"\.lora_(embedding_)?{one}\b", rf".lora_\1{other}", name)
            if beside not in lora and not name.endswith(".bias"):
                sentence = _("“%(name)s” has no lora_%(other)s beside it.")
                raise RefusalError(sentence % {"name": printable(name, 120), "other": other}, "file")


def _check_ranks(lora: Shapes, settings: Mapping[str, Any]) -> None:
    """Check that matrices have the rank of their configuration, unless it names several."""
    if settings.get("rank_pattern") or settings.get("target_parameters"):
        return
    for part, side in (("lora_A", 0), ("lora_B", 1)):
        for name, shape in lora.items():
            if name.endswith(f".{part}.weight") and len(shape) > side and shape[side] != settings["r"]:
                sentence = _("In adapter_config.json, r is %(r)d, and the matrices have the rank %(rank)d.")
                raise RefusalError(sentence % {"r": settings["r"], "rank": shape[side]}, "file")


def _check_shapes(lora: Shapes, base_model: str) -> None:
    """Check that each LoRA matrix fits a matrix of the base model, where its files are on this machine."""
    found = base_models.locate(base_model)
    if found is None or not found.startswith("/") or not Path(found).is_dir():
        return
    base: Shapes = {}
    for path in sorted(Path(found).glob("*.safetensors")):
        base |= read_header(path, field="base")
    if not base:
        return
    fitting = [fits for name, shape in lora.items() if (fits := _fits(name, shape, base)) is not None]
    if not all(fitting):
        raise RefusalError(
            _("Its matrices do not fit the base model: it was trained on another one."), "base"
        )
    if not fitting and any("lora_A.weight" in name for name in lora):
        raise RefusalError(
            _("None of its layers is one of the base model: it was trained on another one."), "base"
        )


def _fits(name: str, shape: list[int], base: Mapping[str, list[int]]) -> bool | None:
    """Return whether a matrix fits; None where the base model's file calls the layer otherwise, or keeps it stacked."""
    for part, side in (("lora_A", 1), ("lora_B", 0)):
        layer, mark, _rest = name.removeprefix(PREFIX).partition(f".{part}.weight")
        matrix = base.get(f"{layer}.weight") if mark else None
        if matrix is not None and len(matrix) == 2 and len(shape) == 2:
            return (
                shape[side] in (matrix[side], matrix[1 - side])
                if "c_" in layer
                else shape[side] == matrix[side]
            )
    return None
