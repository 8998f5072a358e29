"""A round's run directory as one archive, with which the round can be trained again on another machine.

It holds what training reads, without a path of this machine, and beside it what came of it here. The tar file is
made while it is sent: its length is known before its first byte.
"""

import io
import json
import re
import tarfile
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from typing import Any

from django.conf import settings as site

from training.engine.config import TrainConfig
from training.engine.rundir import to_json
from training.models import Round
from training.rounds.plan import Plan
from training.rounds.starts import RoundError, adapter_folder, model_path, named_adapters
from training.storage.folders import Folder, RunFile

BLOCK = 512
END_SIZE = 2 * BLOCK  # two empty blocks end a tar file
CHUNK = 1 << 20
START_ADAPTER, REFERENCE = "start_adapter", "reference"
WEIGHTS = "adapter/adapter_model.safetensors"
INPUTS = ("pairs.jsonl", "assisted_pairs.jsonl", "heldout.jsonl", "prompts.jsonl", "template_date.txt")
RESULTS = ("metrics.jsonl", "evals.jsonl", "samples.jsonl", "scores.jsonl", "ratings.jsonl", "choices.jsonl")

README = """\
# Round {number} of {project}

Everything that this round was trained from. In a checkout of Whetstone, with this folder's name in place of DIR:

    python -m training.engine train DIR{scale}
    cd DIR && sha256sum --check expected.sha256

On the same kind of processor, with the same versions of the libraries, the adapter is the same to the byte.
`result/done.json` names the versions, the device and the number of threads that it was trained with here.

- Base model: `{base_model}`{revision}. {where}
- Start adapter: {adapter}
- `config.json`, `pairs.jsonl` and, if there, `assisted_pairs.jsonl`, `heldout.jsonl` and `template_date.txt` are what
  training reads.
- `prompts.jsonl` is what the policy wrote for: `python -m training.engine sample DIR` after training.
- `result/` holds what came of it here: the adapter, metrics, samples, and the summary with hashes of every file.
"""


@dataclass(frozen=True)
class Member:
    """A file of the archive: its name, and its content or where that is."""

    name: str
    source: bytes | RunFile
    size: int

    @property
    def size_in_archive(self) -> int:
        return len(self.header) + -(-self.size // BLOCK) * BLOCK

    @property
    def header(self) -> bytes:
        info = tarfile.TarInfo(self.name)
        info.size = self.size
        return info.tobuf(tarfile.PAX_FORMAT)


def can_repeat(round_: Round) -> bool:
    """Return whether this server has all that the round was trained from, and the round was trained."""
    files = Folder(round_.folder)
    if not round_.trains or not files.find("pairs.jsonl") or not files.find(WEIGHTS):
        return False
    if not round_.summary.get("train") and "train" not in files.read_done():
        return False
    try:
        config = Plan.of_round(round_.settings).config
        return all(adapter_folder(name).exists() for name in named_adapters(config))
    except RoundError:  # of settings or names that an archive brought
        return False


def list_members(round_: Round) -> list[Member]:
    """Return the files of the archive, all in one folder named after the round."""
    files = Folder(round_.folder)
    done = files.read_done()
    config = portable_config(round_, done.get("train", {}))
    found: dict[str, bytes | RunFile] = {"config.json": _json(config.to_dict())}
    found |= {name: file for name in INPUTS if (file := files.find(name))}
    start = Plan.from_dict(round_.settings).config.start_adapter
    if start:
        found |= {f"{START_ADAPTER}/{file.path}": file for file in adapter_files(adapter_folder(start))}
    reference = Plan.from_dict(round_.settings).config.reference
    if reference not in ("start", "base"):
        found |= {f"{REFERENCE}/{file.path}": file for file in adapter_files(adapter_folder(reference))}
    found |= {f"result/{name}": file for name in RESULTS if (file := files.find(name))}
    adapter = list(adapter_files(Folder(f"{round_.folder}/adapter")))
    found |= {f"result/adapter/{file.path}": file for file in adapter}
    found["result/done.json"] = _json(portable_summary(round_, done))
    found["expected.sha256"] = "".join(
        f"{file.sha256}  adapter/{file.path}\n" for file in adapter if f"adapter/{file.path}" == WEIGHTS
    ).encode()
    found["README.md"] = _readme(round_, config, start).encode()
    folder = f"{round_.project.slug}-{round_.number}"
    return [
        Member(f"{folder}/{name}", source, len(source) if isinstance(source, bytes) else source.size)
        for name, source in sorted(found.items())
    ]


def archive_chunks(members: Iterable[Member]) -> Iterator[bytes]:
    """Yield the tar file of these members, a chunk at a time. A file that has grown since is cut to its size."""
    for member in members:
        yield member.header
        left = member.size
        with io.BytesIO(member.source) if isinstance(member.source, bytes) else member.source.open() as file:
            while left and (chunk := file.read(min(CHUNK, left))):
                left -= len(chunk)
                yield chunk
        if left:
            raise OSError(f"{member.name} has become shorter while it was sent.")
        yield bytes(-member.size % BLOCK)
    yield bytes(END_SIZE)


def portable_config(round_: Round, trained: dict[str, Any]) -> TrainConfig:
    """Return the round's configuration for another machine: no paths, and what was found out by itself made fixed."""
    config = Plan.from_dict(round_.settings).config
    found = {name: trained[name] for name in ("device", "dtype", "threads") if name in trained}
    fixed = {name: value for name, value in found.items() if getattr(config, name) in ("auto", None, 0)}
    return replace(
        config,
        base_model=config.base_model.rstrip("/").rsplit("/", 1)[-1]
        if _is_path(config)
        else config.base_model,
        start_adapter=START_ADAPTER if config.start_adapter else None,
        reference=config.reference if config.reference in ("start", "base") else REFERENCE,
        **fixed,
    )


def portable_summary(round_: Round, done: dict[str, Any]) -> dict[str, Any]:
    """Return the content of done.json without the paths of this machine."""
    # Of the worker's machine, as far as they can be told: its run directory, and what its configuration names.
    there = re.compile(rf"/[^\s'\"]*/{re.escape(round_.folder)}(?![\w-])")
    return dict(_without_paths(done, _places(round_), there))


def adapter_files(folder: Folder) -> Iterator[RunFile]:
    """Yield the files of a PEFT adapter."""
    return (file for file in folder.files() if file.path.endswith((".json", ".safetensors")))


def _is_path(config: TrainConfig) -> bool:
    return config.base_model.startswith(("/", "~"))


def _places(round_: Round) -> dict[str, str]:
    """Map the paths of this machine that a run's summary may name to what they are called elsewhere."""
    config = Plan.from_dict(round_.settings).config
    places = {str(round_.run_dir): ".", str(site.VAR): "var", str(site.BASE_DIR): "whetstone"}
    ran_with = Folder(round_.folder).read_json("config.json")
    if isinstance(ran_with, dict):
        for setting in ("base_model", "start_adapter", "reference"):
            if str(ran_with.get(setting, "")).startswith("/"):
                places[ran_with[setting]] = getattr(portable_config(round_, {}), setting) or setting
    try:
        base = model_path(config.base_model)
    except RoundError:  # no longer allowed on this site
        base = config.base_model
    if base.startswith("/"):
        places[base] = portable_config(round_, {}).base_model
    return dict(sorted(places.items(), key=lambda place: -len(place[0])))


def _without_paths(value: Any, places: dict[str, str], there: re.Pattern[str]) -> Any:
    if isinstance(value, str):
        for path, name in places.items():
            value = value.replace(path, name)
        return there.sub(".", value)
    if isinstance(value, dict):
        pairs = value.items()
        return {_without_paths(key, places, there): _without_paths(one, places, there) for key, one in pairs}
    return [_without_paths(one, places, there) for one in value] if isinstance(value, list) else value


def _readme(round_: Round, config: TrainConfig, start: str | None) -> str:
    if config.base_model == "starter":
        where = "It comes with Whetstone."
    elif _is_path(Plan.from_dict(round_.settings).config):
        where = (
            "Set `base_model` in `config.json` to your copy; `result/done.json` has the hashes of its files."
        )
    else:
        where = "A repository of the Hugging Face hub."
    adapter = "none, training starts from the base model alone."
    if start:
        hashes = [f"`{file.sha256}` ({file.path})" for file in adapter_files(adapter_folder(start))]
        adapter = f"`{START_ADAPTER}/`, SHA-256 {', '.join(hashes)}."
    return README.format(
        number=round_.number,
        project=round_.project.slug,
        scale="\n    python -m training.engine scale DIR" if round_.summary.get("scale") else "",
        base_model=config.base_model,
        revision=f" at revision `{config.revision}`" if config.revision else "",
        where=where,
        adapter=adapter,
    )


def _json(value: Any) -> bytes:
    return (to_json(json.loads(to_json(value)), indent=2) + "\n").encode()
