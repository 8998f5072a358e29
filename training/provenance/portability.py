"""Files of rounds and adapters as they leave this server: with names in place of its paths."""

import codecs
import hashlib
import json
import re
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import replace
from typing import Any, BinaryIO

from django.conf import settings as site

from annotate.projects import base_models
from training.engine.config import TrainConfig
from training.engine.rundir import to_json
from training.models import Round
from training.rounds.plan import Plan
from training.rounds.starts import RoundError, adapter_folder, named_adapters
from training.storage.folders import Folder, RunFile
from training.storage.hiding import hide_folders
from training.storage.objects import StorageFaultError

START_ADAPTER, REFERENCE = "start_adapter", "reference"
ADAPTER_CONFIG = "adapter_config.json"
MOST_CONFIG = 1 << 20  # bytes of a file of settings: one that is larger is not what it is called
LINE = 1 << 20  # bytes of a log's line that are looked at together
LONGEST_PATH = 4096  # characters, as Linux has it
_PATH_BEGINS = re.compile(r"(?<![\w./~-])~?/")
# Settings that may be paths, and what each is called elsewhere; None is the last part of the path.
_PATHS = {"base_model": None, "start_adapter": START_ADAPTER, "reference": REFERENCE, "probe": "probe"}


def portable_config(round_: Round, trained: dict[str, Any]) -> TrainConfig:
    """Return the round's configuration for another machine: no paths, and what was found out by itself made fixed."""
    config = Plan.from_dict(round_.settings).config
    found = {name: trained[name] for name in ("device", "dtype", "threads") if name in trained}
    fixed = {name: value for name, value in found.items() if getattr(config, name) in ("auto", None, 0)}
    return replace(
        config,
        base_model=_portable_model(config.base_model),
        start_adapter=START_ADAPTER if config.start_adapter else None,
        reference=config.reference if config.reference in ("start", "base") else REFERENCE,
        **fixed,
    )


def portable_summary(round_: Round, done: dict[str, Any]) -> dict[str, Any]:
    """Return the content of done.json without the paths of this machine, and with the hashes of what is sent."""
    # Of the worker's machine, as far as they can be told: its run directory, and what its configuration names.
    there = re.compile(rf"/[^\s'\"]*/{re.escape(round_.folder)}(?![\w-])")
    found = dict(_without_paths(done, _places(round_), there))
    return _with_hashes(found, _hashes_as_sent(round_))


def names_paths(name: str) -> bool:
    """Return whether a file of a run directory may name paths of the machine that wrote it."""
    return name.endswith((".log", "config.json", "done.json"))


class PortableChunks(Iterator[bytes]):
    """An open file that `names_paths` in chunks, with names in their place. It is closed at its end, or by `close`."""

    def __init__(self, round_: Round, name: str, file: BinaryIO) -> None:
        """Take the file over: nothing else closes it."""
        self._file, self._chunks = file, _portable_chunks(round_, name, file)

    def __next__(self) -> bytes:
        try:
            return next(self._chunks)
        except BaseException:
            self.close()
            raise

    def close(self) -> None:
        """Close the file, even if none of it was read."""
        self._file.close()


def _portable_chunks(round_: Round, name: str, file: BinaryIO) -> Iterator[bytes]:
    if not name.endswith(".log"):
        content = file.read()
        try:
            data = json.loads(content)
        except (ValueError, RecursionError):
            data = None
        if isinstance(data, dict):
            is_summary = name == "done.json"
            found = portable_summary(round_, data) if is_summary else _without_paths_of_settings(data)
            yield content if found == data else to_json(found, indent=2).encode() + b"\n"
            return
        file.seek(0)  # it is torn, or not what it is called
    for text in _whole_paths(file):
        yield hide_folders(text, round_.start_policy.base_model).encode()


def _whole_paths(file: BinaryIO) -> Iterator[str]:
    """Yield the text of a file by lines, and long ones in parts between which there is no path."""
    decoder, text, line = codecs.getincrementaldecoder("utf-8")(errors="replace"), "", b"\n"
    while line:
        line = file.readline(LINE)
        text += decoder.decode(line, final=not line)
        cut = len(text)
        if line and not line.endswith(b"\n"):
            begins = _PATH_BEGINS.search(text, max(0, len(text) - LONGEST_PATH))
            cut = begins.start() if begins else cut
        if cut:
            yield text[:cut]
        text = text[cut:]


def adapter_members(folder: Folder) -> dict[str, bytes | RunFile]:
    """Return the files of a PEFT adapter by name, its configuration without a path of the base model."""
    found: dict[str, bytes | RunFile] = {}
    for file in folder.files():
        if file.path.endswith((".json", ".safetensors")):
            found[file.path] = _adapter_config(file) if file.path == ADAPTER_CONFIG else file
    return found


def is_path(base_model: str) -> bool:
    """Return whether a name of a base model is a path of this server."""
    return base_model.startswith(("/", "~"))


def _adapter_config(file: RunFile) -> bytes | RunFile:
    content = file.read_bytes() if file.size <= MOST_CONFIG else b""
    try:
        data = json.loads(content)
    except (ValueError, RecursionError):
        return file
    if not isinstance(data, dict) or (portable := _without_paths_of_settings(data)) == data:
        return file
    return to_json(portable, indent=2).encode() + b"\n"


def _hashes_as_sent(round_: Round) -> dict[str, str]:
    """Map the hash of each configuration of the round's adapters that is sent otherwise to the hash of what is sent."""
    folders = [Folder(f"{round_.folder}/adapter")]
    with suppress(RoundError, ValueError):  # of settings or names that an archive brought
        folders += [adapter_folder(name) for name in named_adapters(Plan.from_dict(round_.settings).config)]
    found = {}
    for folder in folders:
        with suppress(OSError, StorageFaultError):  # what cannot be read is not sent
            file = folder.find(ADAPTER_CONFIG)
            if file and isinstance(content := _adapter_config(file), bytes):
                found[file.sha256] = hashlib.sha256(content).hexdigest()
    return found


def _with_hashes(summary: dict[str, Any], hashes: dict[str, str]) -> dict[str, Any]:
    """Return a run's summary with other hashes of the files that each verb read and wrote."""
    found = dict(summary)
    for verb, report in summary.items():
        listed = {
            name: {
                path: hashes.get(value, value) if isinstance(value, str) else value
                for path, value in files.items()
            }
            for name in ("inputs", "outputs")
            if isinstance(report, dict) and isinstance(files := report.get(name), dict)
        }
        found[verb] = report | listed if listed else report
    return found


def _without_paths_of_settings(data: dict[str, Any]) -> dict[str, Any]:
    """Return settings of a run or of an adapter without paths of models and adapters."""
    found = dict(data)
    for setting, name in (*_PATHS.items(), ("base_model_name_or_path", None)):
        value = data.get(setting)
        if isinstance(value, str) and is_path(value):
            found[setting] = name or _portable_model(value)
    return found


def _portable_model(base_model: str) -> str:
    return base_model.rstrip("/").rsplit("/", 1)[-1] if is_path(base_model) else base_model


def _places(round_: Round) -> dict[str, str]:
    """Map the paths of this machine that a run's summary may name to what they are called elsewhere."""
    places = {str(round_.run_dir): ".", str(site.VAR): "var", str(site.BASE_DIR): "whetstone"}
    ran_with = Folder(round_.folder).read_json("config.json")
    for setting, name in _PATHS.items() if isinstance(ran_with, dict) else ():
        path = ran_with.get(setting)
        if isinstance(path, str) and path.startswith("/"):
            places[path] = name or _portable_model(path)
    named = round_.start_policy.base_model
    for base in (base_models.locate(named) or "", named):
        if base.startswith("/"):
            places[base] = _portable_model(base)
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
