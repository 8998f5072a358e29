"""The run directory: one run's files, written whole, readable by people, runnable without the web application.

| file            | written by       | content                                                        |
| --------------- | ---------------- | -------------------------------------------------------------- |
| config.json     | caller           | every setting (`training.engine.config`)                       |
| pairs.jsonl     | caller           | preference pairs to train on or to score                       |
| heldout.jsonl   | caller, optional | pairs that `train` scores before and after, never trains on    |
| prompts.jsonl   | caller           | prompts for `sample`                                           |
| template_date.txt | each verb      | the day that a chat template was told first, where it asks for one |
| metrics.jsonl   | train            | one object per optimizer step                                  |
| evals.jsonl     | train            | held-out figures every `eval_steps` steps                      |
| progress.json   | each verb        | phase, step, total_steps, eta_seconds: replaced during the work |
| adapter/        | train            | the trained PEFT adapter                                       |
| checkpoints/    | train            | what an interrupted run resumes from                           |
| unscaled/       | scale            | the adapter as it was trained                                  |
| samples.jsonl   | sample           | completions                                                    |
| scores.jsonl    | score            | log-probabilities per pair                                     |
| votes.jsonl     | caller           | comparisons with everybody's votes, for `probe`                |
| probe/          | probe            | a small judge of completions, fitted to the votes              |
| probe_labels.jsonl | probe         | the chance that each comparison's first completion is better   |
| ratings.jsonl   | rate             | what the probe makes of samples.jsonl                          |
| assist/         | assist           | a run directory in which the reference writes what the probe rates |
| assisted_pairs.jsonl | assist      | pairs that the probe labels, which `train` takes beside pairs.jsonl |
| done.json       | each verb, last  | one summary per verb: {"train": {...}, "score": {...}}         |

Imports nothing heavy, so that the web application can write and read run directories without PyTorch.
"""

import contextlib
import fcntl
import json
import math
import os
import shutil
import socket
import time
from collections.abc import Iterable, Iterator
from dataclasses import replace
from datetime import date
from pathlib import Path
from typing import Any

from primitives import files
from training.engine.config import TrainConfig
from training.engine.errors import ConfigError, DataError, LockedError, StorageError, disk_full
from training.engine.identity import digest, library_versions

STARTER = "starter"  # the name of the model that comes with Whetstone, in a run directory that is to be moved
_STARTER_FOLDER = Path(__file__).resolve().parents[1] / "starter"


class RunDirectory:
    """Paths and whole-file reading and writing inside one run directory."""

    def __init__(self, root: str | Path) -> None:
        self.root = Path(root)
        self.config_file = self.root / "config.json"
        self.pairs = self.root / "pairs.jsonl"
        self.heldout = self.root / "heldout.jsonl"
        self.prompts = self.root / "prompts.jsonl"
        self.template_date = self.root / "template_date.txt"
        self.metrics = self.root / "metrics.jsonl"
        self.evals = self.root / "evals.jsonl"
        self.progress_file = self.root / "progress.json"
        self.adapter = self.root / "adapter"
        self.unscaled = self.root / "unscaled"
        self.checkpoints = self.root / "checkpoints"
        self.samples = self.root / "samples.jsonl"
        self.scores = self.root / "scores.jsonl"
        self.votes = self.root / "votes.jsonl"
        self.probe = self.root / "probe"
        self.probe_labels = self.root / "probe_labels.jsonl"
        self.ratings = self.root / "ratings.jsonl"
        self.assisted_pairs = self.root / "assisted_pairs.jsonl"
        self.done = self.root / "done.json"

    def read_config(self) -> TrainConfig:
        """Return the checked configuration. Raises ConfigError."""
        try:
            data = parse_json(self.config_file.read_bytes())
        except FileNotFoundError:
            raise ConfigError(None, f"{self.config_file} does not exist.") from None
        except OSError as error:
            raise ConfigError(None, f"{self.config_file} cannot be read: {error.strerror}.") from None
        except ValueError as error:
            raise ConfigError(None, f"{self.config_file} is not valid JSON: {error}.") from None
        return self._found(TrainConfig.from_dict(data))

    def _found(self, config: TrainConfig) -> TrainConfig:
        """Return the configuration with what a moved run directory names: its own adapters, the starter model."""
        for name in ("start_adapter", "reference", "probe"):
            adapter = getattr(config, name)
            if adapter in (None, "start", "base") or Path(adapter).is_absolute():
                continue
            if (self.root / adapter).is_dir():
                inside: dict[str, Any] = {name: str(self.root / adapter)}
                config = replace(config, **inside)
        if config.base_model == STARTER and not Path(STARTER).exists():
            config = replace(config, base_model=str(_STARTER_FOLDER))
        return config

    @property
    def has_adapter(self) -> bool:
        """True if adapter/ holds a trained adapter."""
        return (self.adapter / "adapter_model.safetensors").is_file()

    def write_config(self, config: TrainConfig) -> None:
        """Write every setting, defaults filled in; creates the directory. Raises StorageError."""
        with storing(self.root):
            self.root.mkdir(parents=True, exist_ok=True)
        write_json(self.config_file, config.to_dict())

    def keep_template_date(self) -> str:
        """Return the day of the first call in this directory, today's the first time. Raises StorageError.

        When several processes call it at once, one writes, and all return what it wrote.
        """
        path = self.template_date
        part = path.with_name(f".{path.name}.{os.getpid()}.part")
        with storing(path):
            if not path.exists():
                part.write_text(date.today().isoformat())  # noqa: DTZ011 - as a template's clock tells it
                with contextlib.suppress(FileExistsError):
                    os.link(part, path)
                part.unlink()
            return path.read_text().strip()

    def read_done(self) -> dict[str, Any]:
        """Return the summaries of done.json, by verb; {} before the first verb ended.

        What is not a summary is passed over. Raises DataError if the file cannot be read.
        """
        try:
            done = read_object(self.done)
        except (FileNotFoundError, ValueError):
            return {}
        except OSError as error:
            raise DataError(f"{self.done} cannot be read: {error.strerror}.") from None
        return {verb: entry for verb, entry in done.items() if _is_summary(entry)}

    def has_done(self, verb: str) -> bool:
        """Return whether `verb` ended, and the files that it recorded are still here."""
        entry = self.read_done().get(verb)
        return entry is not None and all((self.root / path).is_file() for path in entry.get("outputs", {}))

    def drop_done(self, *verbs: str) -> None:
        """Remove these verbs from done.json, whose results are to be redone."""
        done = self.read_done()
        if done.keys() & set(verbs):
            write_json(self.done, {verb: entry for verb, entry in done.items() if verb not in verbs})

    def finish(
        self, verb: str, summary: dict[str, Any], inputs: dict[str, str], outputs: Iterable[Path]
    ) -> None:
        """Record that `verb` ended: its summary, hashes of what it read and wrote, library versions.

        `inputs` are hashes of what was read, taken then: a file may have been replaced since.
        """
        entry = summary | {
            "inputs": inputs,
            "outputs": self.hashes(outputs),
            "versions": library_versions(),
            "finished_at": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
        }
        write_json(self.done, self.read_done() | {verb: entry})

    def hashes(self, paths: Iterable[Path]) -> dict[str, str]:
        """Return content digests of the files that exist, by path, relative if inside the run directory."""
        found: dict[str, str] = {}
        for path in paths:
            for file in sorted(path.rglob("*")) if path.is_dir() else [path]:
                if file.is_file():
                    inside = file.is_relative_to(self.root)
                    found[str(file.relative_to(self.root) if inside else file)] = digest(file)
        return found

    def progress(
        self, phase: str, step: int = 0, total_steps: int = 0, eta_seconds: float | None = None
    ) -> None:
        """Say how far the work is: loading, reference, training, scoring, sampling, measuring, scaling, saving or done.

        Within `reference`, `scoring`, `sampling` and `measuring` the steps are pairs or completions, not optimizer
        steps, and within `scaling` the scales that were tried.
        """
        state = {"phase": phase, "step": step, "total_steps": total_steps, "eta_seconds": eta_seconds}
        write_json(self.progress_file, state | {"at": time.time()}, durable=False)

    @contextlib.contextmanager
    def locked(self) -> Iterator[None]:
        """Keep other trainers out, and clear away what a killed one left half written.

        The kernel drops the lock with the process, however it ends. Raises LockedError if another process holds
        it, DataError if there is no such directory, StorageError if it cannot be written.
        """
        if not self.root.is_dir():
            raise DataError(f"{self.root} is not a directory.")
        with storing(self.root):
            lock = (self.root / ".lock").open("ab+", buffering=0)  # unbuffered: closing it writes nothing
        with lock:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except OSError:
                lock.seek(0)
                pid, _, host = lock.read().decode().partition(" ")
                holder = f"process {pid} on {host}" if host else "another process"
                raise LockedError(f"{self.root} is in use by {holder}.") from None
            with storing(self.root):
                lock.truncate(0)
                lock.write(f"{os.getpid()} {socket.gethostname()}".encode())
                for folder in (self.root, self.checkpoints):
                    for stale in folder.glob(".*.part"):
                        _remove(stale)
            yield


def _is_summary(entry: Any) -> bool:
    """Return whether an entry of done.json is one that `finish` may have written."""
    return isinstance(entry, dict) and all(
        isinstance(entry.get(name, {}), dict) for name in ("inputs", "outputs")
    )


@contextlib.contextmanager
def storing(path: Path) -> Iterator[None]:
    """Raise StorageError naming `path` if the system refuses to write inside."""
    try:
        yield
    except OSError as error:
        if full := disk_full(error, path):
            raise full from error
        raise StorageError(f"{path} could not be written: {error.strerror or error}.") from error
    except Exception as error:
        if full := disk_full(error, path):
            raise full from error
        raise


def write_whole(path: Path, content: bytes, *, durable: bool = True) -> None:
    """Write a file whole, and unless `durable` is false wait until it is on the disk. Raises StorageError."""
    with storing(path):
        files.write_whole(path, content, durable=durable)


@contextlib.contextmanager
def whole_directory(target: Path, *, replaces: bool = True) -> Iterator[Path]:
    """Yield an empty folder to fill, which then replaces `target`, or may only become it. Raises StorageError."""
    aside = target.with_name(f".{target.name}.part")
    try:
        with storing(target):
            _remove(aside)
            aside.mkdir(parents=True)
        yield aside
        with storing(target):
            for file in aside.iterdir():
                with file.open("rb") as handle:
                    os.fsync(handle.fileno())
            if replaces:
                _remove(target)
            aside.rename(target)  # onto a folder with anything in it, it fails
            files.sync_directory(target.parent)
    finally:
        shutil.rmtree(aside, ignore_errors=True)


def check_new(path: Path) -> None:
    """Refuse a path that exists, which a new folder would replace with all that is in it. Raises ConfigError."""
    if os.path.lexists(path):
        raise ConfigError(None, f"{path} exists already; name a folder that does not.")


def _remove(path: Path) -> None:
    """Remove a file or a folder, if it is there."""
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)


def write_json(path: Path, value: Any, *, durable: bool = True) -> None:
    """Write one JSON document whole."""
    write_whole(path, (to_json(value, indent=2) + "\n").encode(), durable=durable)


def write_jsonl(path: Path, rows: Iterable[dict[str, Any]]) -> None:
    """Write one JSON object a line, whole."""
    write_whole(path, "".join(to_json(row) + "\n" for row in rows).encode())


def to_json(value: Any, indent: int | None = None) -> str:
    """Return JSON text, in which a number that is not finite is null: JSON has no word for it."""
    try:
        return json.dumps(value, ensure_ascii=False, allow_nan=False, indent=indent)
    except ValueError:
        return json.dumps(_finite(value), ensure_ascii=False, allow_nan=False, indent=indent)


def _finite(value: Any) -> Any:
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, dict):
        return {key: _finite(one) for key, one in value.items()}
    return [_finite(one) for one in value] if isinstance(value, (list, tuple)) else value


def parse_json(content: bytes) -> Any:
    """Return the value of JSON in UTF-8, behind a byte order mark or not. Raises ValueError saying what is wrong."""
    try:
        return json.loads(content.decode("utf-8-sig"))
    except (json.JSONDecodeError, UnicodeDecodeError):
        raise
    except RecursionError:
        raise ValueError("its lists and objects are nested too deeply") from None
    except ValueError:
        raise ValueError("it holds a number of too many digits") from None


def read_object(path: Path) -> dict[str, Any]:
    """Return the object of a JSON file. Raises ValueError saying what is wrong, OSError if it cannot be read."""
    value = parse_json(path.read_bytes())
    if not isinstance(value, dict):
        raise ValueError("it is not an object")
    return value


def read_jsonl(path: Path) -> Iterator[tuple[int, dict[str, Any]]]:
    """Yield (line number from 1, object) for each line that is not blank.

    Raises DataError naming file and line if one is not a JSON object, or if the file does not exist.
    """
    try:
        file = path.open("rb")
    except FileNotFoundError:
        raise DataError(f"{path} does not exist.") from None
    except OSError as error:
        raise DataError(f"{path} cannot be read: {error.strerror}.") from None
    with file:
        for number, line in enumerate(file, start=1):
            if not line.strip():
                continue
            try:
                row = parse_json(line)
            except ValueError as error:
                raise DataError(f"{path.name} line {number} is not valid JSON: {error}.") from None
            if not isinstance(row, dict):
                raise DataError(f"{path.name} line {number} is not a JSON object.")
            yield number, row


class Log(contextlib.AbstractContextManager["Log"]):
    """A JSON Lines file that grows a line at a time and can be cut back to a checkpoint."""

    def __init__(self, path: Path, size: int = 0) -> None:
        """Open `path` for appending after its first `size` bytes; the rest is dropped.

        Raises StorageError, even when fewer than `size` bytes are left.
        """
        self.path = path
        if size and (not path.exists() or path.stat().st_size < size):
            raise StorageError(f"{path} is shorter than the checkpoint that belongs to it.")
        with storing(path):
            self._file = path.open("ab", buffering=0)
            self._file.truncate(size)

    def append(self, row: dict[str, Any]) -> None:
        """Add one line; other processes see it at once."""
        left = to_json(row).encode() + b"\n"
        with storing(self.path):
            while left:
                left = left[self._file.write(left) :]

    def sync(self) -> int:
        """Make what was written durable and return the size in bytes."""
        with storing(self.path):
            os.fsync(self._file.fileno())
        return os.fstat(self._file.fileno()).st_size

    def __exit__(self, *raised: object) -> None:
        self._file.close()
