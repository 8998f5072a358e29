"""A round's run directory as one archive, with which the round can be trained again on another machine.

It holds what training reads, without a path of this machine, and beside it what came of it here. The tar file is
made while it is sent: its length is known before its first byte.
"""

import hashlib
import io
import json
import tarfile
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any

from annotate.projects import base_models
from training.engine.config import TrainConfig
from training.engine.rundir import to_json
from training.models import Round
from training.provenance.portability import (
    REFERENCE,
    START_ADAPTER,
    adapter_members,
    is_path,
    portable_config,
    portable_summary,
)
from training.rounds.plan import Plan
from training.rounds.starts import RoundError, adapter_folder, named_adapters
from training.storage.folders import Folder, RunFile

BLOCK = 512
END_SIZE = 2 * BLOCK  # two empty blocks end a tar file
CHUNK = 1 << 20
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
- `result/` holds what came of it here: the adapter, metrics, samples, and the summary with the hashes of what each
  step read and wrote. A path in an `adapter_config.json` is a name here, and its hash is that of the file here.
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
        found |= _prefixed(START_ADAPTER, adapter_members(adapter_folder(start)))
    reference = Plan.from_dict(round_.settings).config.reference
    if reference not in ("start", "base"):
        found |= _prefixed(REFERENCE, adapter_members(adapter_folder(reference)))
    found |= {f"result/{name}": file for name in RESULTS if (file := files.find(name))}
    adapter = adapter_members(Folder(f"{round_.folder}/adapter"))
    found |= _prefixed("result/adapter", adapter)
    found["result/done.json"] = _json(portable_summary(round_, done))
    found["expected.sha256"] = "".join(
        f"{_hash(source)}  adapter/{name}\n"
        for name, source in adapter.items()
        if f"adapter/{name}" == WEIGHTS
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


def _prefixed(folder: str, members: dict[str, bytes | RunFile]) -> dict[str, bytes | RunFile]:
    return {f"{folder}/{name}": source for name, source in members.items()}


def _hash(source: bytes | RunFile) -> str:
    return hashlib.sha256(source).hexdigest() if isinstance(source, bytes) else source.sha256


def _readme(round_: Round, config: TrainConfig, start: str | None) -> str:
    if config.base_model == base_models.STARTER:
        where = "It comes with Whetstone."
    elif config.base_model == base_models.SMOLLM2:
        where = (
            "`make demo MODEL=smollm2` makes its folder, `var/models/smollm2`. Put its path into `config.json` as "
            "`base_model`; `result/done.json` has the hashes of its files."
        )
    elif is_path(Plan.from_dict(round_.settings).config.base_model):
        where = (
            "Set `base_model` in `config.json` to your copy; `result/done.json` has the hashes of its files."
        )
    else:
        where = "A repository of the Hugging Face hub."
    adapter = "none, training starts from the base model alone."
    if start:
        members = adapter_members(adapter_folder(start))
        hashes = [f"`{_hash(source)}` ({name})" for name, source in members.items()]
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
