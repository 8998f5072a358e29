"""The verb `serve`: prompts on standard input, answered on standard output, with models kept warm in between.

One JSON object a line. A request is {"config": {...}, "prompt": "..." or [...], "id": "1"}, with the settings of
config.json; `start_adapter` is the policy that writes. Answers to it are {"phase": "loading"}, then about twice a
second {"phase": "writing", "share": 0.5, "text": "so far"}, and at last {"sample": {...}}, which is a line of
samples.jsonl, or {"error": "...", "code": 5}. The line {"stop": true} ends the answer that is being written, which is
{"stopped": true} then. The process ends with its input, or when nothing was asked for a while.
"""

import json
import os
import select
import time
from collections import OrderedDict
from collections.abc import Callable
from contextlib import AbstractContextManager, suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch

from training.engine.config import TrainConfig
from training.engine.data.tokens import Encoder
from training.engine.errors import DataError, EngineError, disk_full, first_line, memory_short
from training.engine.model.base import LoadedModel, set_threads
from training.engine.records import LONGEST_REQUEST, SamplingPrompt, read_prompt
from training.engine.rescoring import fill_logprobs
from training.engine.rundir import parse_json
from training.engine.sample import (
    check_writing,
    check_written,
    encode_prompts,
    load_native,
    sample_line,
    write_samples,
)
from training.engine.sampling.decoding import Decoder
from training.engine.sampling.drafts import Draft
from training.engine.sampling.grouping import Request
from training.engine.sampling.reading import Way
from training.engine.sampling.stopping import stops_of

IDLE_SECONDS = 300.0
LONGEST_STOP = 100  # bytes of a wish to stop
SMALL = 1 << 30  # bytes of weights; larger models are not kept beside one another
MOST_KEPT = 4
PACE = 0.5  # seconds between two parts of an answer

Say = Callable[[dict[str, Any]], None]


@dataclass
class _Kept:
    """A policy that is ready to write, in the way that was found to be exact for it.

    `checked` is the most new tokens that were asked for when that was found. An answer may be longer: it is checked.
    """

    loaded: LoadedModel
    decoder: Decoder
    encoder: Encoder
    way: Way | None = None
    checked: int = 0


def serve(idle: float = IDLE_SECONDS) -> None:
    """Answer requests until the input ends, or nothing was asked for `idle` seconds."""
    answers = os.fdopen(os.dup(1), "w", buffering=1)  # what libraries print must not come between
    os.dup2(2, 1)

    def say(answer: dict[str, Any]) -> None:
        answers.write(json.dumps(answer) + "\n")
        answers.flush()

    with suppress(BrokenPipeError), Requests(os.dup(0)) as requests:
        desk = Desk(say, wants_stop=requests.wants_stop)
        say({"phase": "ready"})
        while (line := requests.wait(idle)) is not None:
            desk.answer(line)


class Requests(AbstractContextManager["Requests"]):
    """The lines that are asked, read from a file descriptor: requests, and wishes to stop."""

    def __init__(self, source: int) -> None:
        self.source, self.rest, self.has_ended = source, b"", False
        self.is_cut = False  # the rest begins within a line that was too long

    def __exit__(self, *_raised: object) -> None:
        os.close(self.source)

    def wait(self, seconds: float) -> bytes | None:
        """Return the next request, or None if the input has ended or nothing came for so many seconds.

        A wish to stop that came after its answer is dropped.
        """
        while True:
            line = self._take()
            if line is not None and not _is_stop(line):
                return line
            if line is None and not self._read(seconds):
                return None

    def wants_stop(self) -> bool:
        """Return whether the next line wishes to stop, without waiting for it. Such a line is taken."""
        while (line := self._next()) is None and self._read(0):
            pass
        if line is None or not _is_stop(line):
            return False
        self._take()
        return True

    def _next(self) -> bytes | None:
        """Return the next line, if it is there whole. Of a line that is too long, only its beginning is a line."""
        if self.is_cut:
            _dropped, newline, self.rest = self.rest.partition(b"\n")
            self.is_cut = not newline
        end = self.rest.find(b"\n", 0, LONGEST_REQUEST) + 1
        if not end and (self.has_ended or len(self.rest) >= LONGEST_REQUEST):
            end = min(len(self.rest), LONGEST_REQUEST)
        return self.rest[:end] if end else None

    def _take(self) -> bytes | None:
        line = self._next()
        if line is not None:
            self.rest = self.rest[len(line) :]
            self.is_cut = not line.endswith(b"\n")
        return line

    def _read(self, seconds: float) -> bool:
        """Return whether something came, or the input has just ended."""
        if self.has_ended or not select.select([self.source], [], [], seconds)[0]:
            return False
        part = os.read(self.source, 1 << 16)
        self.rest += part
        self.has_ended = not part
        return True


def _is_stop(line: bytes) -> bool:
    if len(line) > LONGEST_STOP:
        return False
    with suppress(ValueError, RecursionError):
        return bool(json.loads(line) == {"stop": True})
    return False


class _StoppedError(Exception):
    """The end of an answer that is not wanted any more."""


class _Telling:
    """The progress of an answer, with its text so far, said as its pace allows."""

    def __init__(self, desk: "Desk", draft: Draft) -> None:
        self.desk, self.draft = desk, draft
        self.next = 0.0
        self.ids: torch.Tensor | None = None

    def watch(self, ids: torch.Tensor) -> None:
        """Remember the ids. They are read only when it is time."""
        self.ids = ids

    def report(self, _done: int, _total: int, share: float) -> None:
        """Say it, unless the last part is too fresh. Raises _StoppedError if the answer is not wanted any more."""
        self.desk.check_wanted()
        now = time.monotonic()
        if now < self.next or self.ids is None:
            return
        self.next = now + self.desk.pace
        self.desk.say(
            {"phase": "writing", "share": round(share, 3), "text": self.draft.grow(self.ids.tolist())}
        )


class Desk:
    """The policies that are kept, and the requests that they answer, one after the other."""

    def __init__(self, say: Say, pace: float = PACE, wants_stop: Callable[[], bool] = lambda: False) -> None:
        self.say, self.pace, self.wants_stop = say, pace, wants_stop
        self.kept: OrderedDict[str, _Kept] = OrderedDict()

    def answer(self, line: bytes) -> None:
        """Answer one request, with an error if it cannot be."""
        try:
            self.say({"sample": self._sample(*_read(line))})
        except _StoppedError:
            self.say({"stopped": True})
        except EngineError as error:
            self.say({"error": str(error), "code": error.exit_code})
        except Exception as error:  # noqa: BLE001 - whatever comes of it, the next request may be answered
            known = memory_short(error) or disk_full(error)
            self.kept.clear()
            self.say({"error": str(known or first_line(error)), "code": known.exit_code if known else 1})

    def check_wanted(self) -> None:
        """Raise _StoppedError if the answer is not wanted any more."""
        if self.wants_stop():
            raise _StoppedError

    def _sample(self, config: TrainConfig, prompt: SamplingPrompt) -> dict[str, Any]:
        kept = self._policy(config, chat=isinstance(prompt.prompt, list))
        self.check_wanted()
        settings = config.sampling
        kept.decoder.settings = settings = replace(settings, skip_long=False)
        kept.decoder.stops = stops_of(settings, kept.loaded.tokenizer)
        [(_prompt, ids)] = encode_prompts([prompt], kept.loaded, config, kept.encoder)[0]
        way = kept.way if settings.max_new_tokens <= kept.checked else None
        if way is None:
            check_writing(kept.loaded, kept.decoder, [ids])
        else:
            kept.decoder.use(way)

        tokenizer = kept.loaded.tokenizer
        telling = _Telling(self, Draft(tokenizer, Request(ids, 0), settings.stop))
        kept.decoder.watch = telling.watch
        try:
            samples = write_samples(kept.decoder, tokenizer, [(prompt, ids)], settings, telling.report)
        finally:
            kept.decoder.release()
        if way is None:
            check_written(kept.loaded, samples, native=True)
            kept.way, kept.checked = kept.decoder.way, settings.max_new_tokens
        fill_logprobs(kept.loaded, config, samples)
        return sample_line(samples[0], settings)

    def _policy(self, config: TrainConfig, *, chat: bool) -> _Kept:
        """Return the policy of a configuration, loaded if it is not kept. Large models give way to one another."""
        settings = {name: value for name, value in config.to_dict().items() if name != "sampling"}
        key = json.dumps([chat, settings], sort_keys=True)
        if key in self.kept:
            self.kept.move_to_end(key)
            return self.kept[key]
        if any(_size(one.loaded) > SMALL for one in self.kept.values()):
            self.kept.clear()
        while len(self.kept) >= MOST_KEPT:
            self.kept.popitem(last=False)
        self.say({"phase": "loading"})
        set_threads(config)
        adapter = Path(config.start_adapter) if config.start_adapter else None
        loaded, decoder = load_native(config, adapter, chats=chat)
        if _size(loaded) > SMALL:
            self.kept.clear()
        self.kept[key] = _Kept(loaded, decoder, loaded.make_encoder(config))
        return self.kept[key]


def _size(loaded: LoadedModel) -> int:
    return sum(weight.numel() * weight.element_size() for weight in loaded.model.parameters())


def _read(line: bytes) -> tuple[TrainConfig, SamplingPrompt]:
    """Return the parts of a request. Raises DataError or ConfigError."""
    try:
        request = parse_json(line)
        config, row = request["config"], {"id": "1", **request, "n": 1}
    except (ValueError, KeyError, TypeError):
        raise DataError("A request is one JSON object a line, with config and prompt.") from None
    return TrainConfig.from_dict(config), read_prompt(row, "the request")
