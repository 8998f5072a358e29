"""The folder of a base model, looked at before anything of it is loaded: whether it is whole, and what to do if not.

Names, small JSON files and the headers of weights are read, all of them bounded. Reasons begin in small letters and
have no full stop, so that they fit into sentences.
"""

import json
import re
import struct
from collections.abc import Collection
from pathlib import Path
from typing import Any

CONFIG, TOKENIZER = "config.json", "tokenizer.json"
WEIGHTS, INDEX = "model.safetensors", "model.safetensors.index.json"
SMALL = (".json", ".jinja", ".txt", ".model", ".tiktoken")  # suffixes of what is not weights
READ = (".safetensors", ".gguf", *SMALL)
PART = re.compile(r"-\d+-of-\d+\.gguf$")
_OTHER_WEIGHTS = (".safetensors", ".bin", ".pth", ".pt", ".h5", ".onnx", ".msgpack")
_VOCABULARIES = (
    *(TOKENIZER, "tokenizer.model", "tokenizer.model.v3", "tekken.json", "vocab.json", "vocab.txt"),
    *("spiece.model", "spm.model", "sentencepiece.bpe.model"),
)
_SHARD = re.compile(r"model-\d+-of-\d+\.safetensors")
_READ_BESIDE = {  # of a model and its tokenizer, beside the weights
    *(
        CONFIG,
        "generation_config.json",
        "tokenizer_config.json",
        "special_tokens_map.json",
        "added_tokens.json",
    ),
    *(*_VOCABULARIES, "merges.txt", "chat_template.json"),
}
_ALL_READ = (".jinja", ".model", ".tiktoken")  # suffixes of templates and vocabularies of any name
_POINTER = b"version https://git-lfs.github.com/"
_MENTIONED = 5  # files that a sentence lists
_MOST = {CONFIG: 16 << 20, INDEX: 64 << 20}  # bytes; they have kilobytes, and up to 20 MiB for many experts
_MOST_HEADER = 100 << 20  # bytes, as the library reads no longer one
_END = 4096  # bytes in which a JSON file begins and ends, with blanks around it


def find_problem(folder: Path, name: str) -> str:
    """Return why a folder in transformers' format cannot be used and what to do about it, or "".

    `name` is what the folder is called where it is named. Raises OSError.
    """
    names = list_names(folder)
    problem = find_common_problem(folder, names) or (
        "" if {WEIGHTS, INDEX} & names else explain_missing_weights(name, names)
    )
    return problem or find_format_problem(folder, names)


def find_common_problem(folder: Path, names: Collection[str], gguf: str | None = None) -> str:
    """Return what is wrong with a folder in any format, or with one whose weights are in `gguf`, or "".

    Only files that are read count. Raises OSError.
    """
    present = {path.name for path in folder.iterdir()}  # with links to nothing
    read = [name for name in present if name in _READ_BESIDE or name.endswith(_ALL_READ)]
    if gguf or not {WEIGHTS, INDEX} & set(names):
        read += [gguf] if gguf else [*({WEIGHTS, INDEX} & present), *list_ggufs(present)]
    else:
        read.append(WEIGHTS if WEIGHTS in names else INDEX)
    return _content_problem(folder, sorted(read)) or adapter_problem(names)


def find_format_problem(folder: Path, names: Collection[str]) -> str:
    """Return what is wrong with a folder in transformers' format that has weights, or "". Raises OSError."""
    if CONFIG not in names:
        return "it holds no config.json; copy that of the same model into it"
    return _config_problem(folder) or _shards_problem(folder, names) or _tokenizer_problem(folder, names)


def adapter_problem(names: Collection[str]) -> str:
    """Return what to do instead if there is an adapter, which transformers would load unsaid, or ""."""
    found = [name for name in names if name.startswith(("adapter_config.json", "adapter_model"))]
    return f"it holds an adapter ({min(found)}); name the base model that it belongs to" if found else ""


def explain_missing_weights(model: str, names: Collection[str]) -> str:
    """Return what there is in place of weights that can be read, and what to do with it."""
    if (ggufs := list_ggufs(names)) and all(map(PART.search, ggufs)):
        return f"it holds {write_listing(ggufs)}, parts of a model; join them with llama-gguf-split --merge"
    if ggufs:
        return f"it holds {write_listing(ggufs)}; name one of them, as {model}/{ggufs[0]}"
    if any(map(_SHARD.fullmatch, names)):
        return f"it holds no {INDEX}, which says what is in which file; copy it, too"
    if any(name.startswith("pytorch_model") and name.endswith(".bin") for name in names):
        return (
            "its weights are in pytorch_model.bin, and only safetensors are read; if you trust them, convert them in "
            "Python: transformers.AutoModelForCausalLM.from_pretrained(FOLDER, dtype='auto').save_pretrained(FOLDER)"
        )
    held = write_listing([name for name in names if name.endswith(_OTHER_WEIGHTS)]) or "no weights"
    return f"it holds {held}, and weights are read from {WEIGHTS} or a GGUF file"


def list_shards(folder: Path) -> list[str]:
    """Return the names of the files that hold a model's weights, as its index says. Raises ValueError, OSError."""
    index = folder / INDEX
    if (folder / WEIGHTS).is_file() or not index.is_file():
        return [WEIGHTS]
    shards = (read_object(index) or {}).get("weight_map")
    if not isinstance(shards, dict) or not all(isinstance(name, str) for name in shards.values()):
        raise ValueError("it has no weight_map")
    return sorted(set(shards.values()))


def list_ggufs(names: Collection[str]) -> list[str]:
    """Return the GGUF files among some, without those that only encode images."""
    return sorted(name for name in names if name.endswith(".gguf") and not name.startswith("mmproj"))


def only_gguf(names: Collection[str]) -> str | None:
    """Return the GGUF file that holds a folder's weights, if it is the only one and no safetensors are beside it."""
    found = list_ggufs(names)
    return found[0] if len(found) == 1 and not {WEIGHTS, INDEX} & set(names) else None


def list_names(folder: Path) -> set[str]:
    """Return the names of the files in a folder. Raises OSError."""
    return {file.name for file in folder.iterdir() if file.is_file()}


def write_listing(names: Collection[str]) -> str:
    """Return file names as a text, the first few of many."""
    rest = len(names) - _MENTIONED
    return ", ".join(sorted(names)[:_MENTIONED]) + (f" and {rest} more" if rest > 0 else "")


def _content_problem(folder: Path, read: Collection[str]) -> str:
    """Return which of the files that are read is a link to nothing, or a pointer, or "". Raises OSError."""
    for path in (folder / name for name in read):
        if path.is_symlink() and not path.exists():
            return f"{path.name} is a link to a file that is not there; copy the file itself"
    for path in (folder / name for name in read):
        if not path.is_file():
            continue
        with path.open("rb") as file:
            if file.read(len(_POINTER)) == _POINTER:
                return f"{path.name} is a pointer of Git LFS and not the file; run git lfs pull in its folder"
    return ""


def _config_problem(folder: Path) -> str:
    if problem := _size_problem(folder / CONFIG):
        return problem
    if read_object(folder / CONFIG) is None:
        return f"{CONFIG} is damaged or cut short, or not an object of JSON; copy it again"
    return ""


def _size_problem(path: Path) -> str:
    size, most = path.stat().st_size, _MOST[path.name]
    return f"{path.name} has {size:,} bytes, and no more than {most:,} are read" if size > most else ""


def _shards_problem(folder: Path, names: Collection[str]) -> str:
    if WEIGHTS not in names and (problem := _size_problem(folder / INDEX)):
        return problem
    try:
        shards = list_shards(folder)
    except ValueError:
        return f"{INDEX} is damaged; copy it again"
    present = {path.name for path in folder.iterdir()}
    if problem := _content_problem(folder, [name for name in shards if name in present]):
        return problem
    if missing := [name for name in shards if name not in names]:
        of_it = f"of the {len(shards)} files of its weights, it lacks {write_listing(missing)}"
        return f"{of_it}; copy what is missing"
    for name in shards:
        if reason := _weights_problem(folder / name):
            return f"{name} is damaged or cut short ({reason}); copy it again"
    return ""


def _weights_problem(path: Path) -> str:
    """Return why a file is not a whole one of safetensors, or ""."""
    size = path.stat().st_size
    with path.open("rb") as file:
        start = file.read(8)
        length = struct.unpack("<Q", start)[0] if len(start) == 8 else 0
        if not 0 < length <= min(_MOST_HEADER, size - 8):
            return "it has no header"
        try:
            header = json.loads(file.read(length))
            ends = [one["data_offsets"][1] for name, one in header.items() if name != "__metadata__"]
            whole = 8 + length + max(ends, default=0)
        except (ValueError, RecursionError, AttributeError, TypeError, LookupError):
            return "its header cannot be read"
    return "" if whole == size else f"it has {size:,} bytes, and {whole:,} by its header"


def _tokenizer_problem(folder: Path, names: Collection[str]) -> str:
    """Return what is missing for a tokenizer to be read, or ""."""
    if not any(name in _VOCABULARIES or name.endswith(".tiktoken") for name in names):
        return (
            "it holds no tokenizer; copy tokenizer.json and tokenizer_config.json of the same model into it"
        )
    if TOKENIZER not in names:
        return ""
    with (folder / TOKENIZER).open("rb") as file:  # of tens of megabytes: its ends are looked at
        is_begun = file.read(_END).lstrip(b"\xef\xbb\xbf \t\r\n").startswith(b"{")
        file.seek(max(0, (folder / TOKENIZER).stat().st_size - _END))
        is_ended = file.read(_END).rstrip().endswith(b"}")
    return "" if is_begun and is_ended else f"{TOKENIZER} is damaged or cut short; copy it again"


def read_object(path: Path) -> dict[str, Any] | None:
    """Return the object of a JSON file; None if it holds none, is damaged, or is larger than any. Raises OSError."""
    most = _MOST[path.name]
    with path.open("rb") as file:
        content = file.read(most + 1)
    try:
        found = json.loads(content.decode("utf-8-sig")) if len(content) <= most else None
    except (ValueError, RecursionError):
        return None
    return found if isinstance(found, dict) else None
