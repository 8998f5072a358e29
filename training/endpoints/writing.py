"""The samples of a round by an endpoint: a few requests at once, each kept as it comes, so that a retry goes on.

The run directory is that of the engine's verb `sample`: prompts.jsonl in, samples.jsonl and done.json out. What came so
far is in answers.jsonl.
"""

import hashlib
import json
import threading
import time
from collections.abc import Mapping
from concurrent.futures import FIRST_EXCEPTION, Future, ThreadPoolExecutor, wait
from contextlib import AbstractContextManager
from typing import Any

from django.conf import settings as site
from django.utils.translation import gettext as _

from annotate.errors import RefusalError
from training.endpoints.client import Server
from training.endpoints.errors import PromptRefusedError, StoppedError
from training.engine.records import SamplingPrompt, read_prompts
from training.engine.rundir import Log, RunDirectory, write_jsonl
from training.models import Endpoint

DEADLINE = 900.0  # seconds for one completion, retries included
SENT = ("max_new_tokens", "temperature", "top_p")

Key = tuple[str, int]  # a prompt's id, and the number of its completion


class EndpointWriting(AbstractContextManager["EndpointWriting"]):
    """The writing of one run directory. Leaving the context stops what has not begun, and waits for the rest."""

    def __init__(self, files: RunDirectory, endpoint: Endpoint, sampling: Mapping[str, Any]) -> None:
        self.files, self.server = files, Server(endpoint.url, endpoint.model)
        self.sampling = {name: sampling.get(name) for name in SENT} | endpoint.sampling
        self.seed, self.each = int(sampling["seed"]), int(sampling["samples_per_prompt"])
        self.started = time.monotonic()
        self.stop, self.lock = threading.Event(), threading.Lock()
        self.prompts = list(read_prompts(files.prompts))
        self.path = files.root / "answers.jsonl"
        self.answers = self._read_answers()
        self.wanted = [(prompt, index) for prompt in self.prompts for index in range(prompt.n or self.each)]
        self.pool = ThreadPoolExecutor(max(1, site.ENDPOINT_REQUESTS))
        self.futures: list[Future[None]] = []

    def __enter__(self) -> "EndpointWriting":
        self.log = Log(self.path, self.path.stat().st_size if self.path.exists() else 0)
        missing = [(prompt, at) for prompt, at in self.wanted if (prompt.id, at) not in self.answers]
        self.futures = [self.pool.submit(self._write, prompt, at) for prompt, at in missing]
        return self

    def __exit__(self, *raised: object) -> None:
        self.stop.set()
        self.pool.shutdown(cancel_futures=True)
        self.log.__exit__(*raised)

    def wait(self, seconds: float) -> bool:
        """Wait so long for the end. Return whether all is written. Raises RefusalError if it cannot be."""
        done, left = wait(self.futures, seconds, FIRST_EXCEPTION)
        for future in done:
            future.result()
        if left:
            return False
        self._finish()
        return True

    def progress(self) -> dict[str, Any]:
        """Return how far it is, as the fields of Round."""
        with self.lock:
            done = len(self.answers)
        return {"phase": "sampling", "step": done, "total_steps": len(self.wanted), "seconds_left": None}

    def _write(self, prompt: SamplingPrompt, index: int) -> None:
        seed = _seed(self.seed if prompt.seed is None else prompt.seed, prompt.id, index)
        line: dict[str, Any] = {"id": prompt.id, "index": index, "seed": seed}
        try:
            found = self.server.write(
                prompt.prompt,
                {**self.sampling, "seed": seed},
                seconds=DEADLINE,
                stop=self.stop,
                tools=prompt.tools,
            )
        except StoppedError:
            return
        except PromptRefusedError as refused:
            line["refused"] = refused.message
        else:
            line |= {
                "completion": found["text"],
                "finish_reason": found["finish_reason"],
                "model": found["model"],
                **({"messages": found["messages"]} if "messages" in found else {}),
            }
        with self.lock:
            self.log.append(line)
            self.answers[prompt.id, index] = line

    def _read_answers(self) -> dict[Key, dict[str, Any]]:
        """Return what an earlier attempt kept. A line that was cut off by its end is dropped."""
        if not self.path.exists():
            return {}
        content = self.path.read_bytes()
        whole = content[: content.rfind(b"\n") + 1]
        if len(whole) < len(content):
            with self.path.open("r+b") as file:
                file.truncate(len(whole))
        return {(row["id"], row["index"]): row for row in map(json.loads, whole.splitlines())}

    def _finish(self) -> None:
        """Write samples.jsonl and done.json. Raises RefusalError if every prompt was refused."""
        rows = [self.answers[prompt.id, index] for prompt, index in self.wanted]
        written = [row for row in rows if "refused" not in row]
        refused = {row["id"]: row["refused"] for row in rows if "refused" in row}
        if refused and not written:
            raise RefusalError(next(iter(refused.values())))
        settings = {name: self.sampling.get(name) for name in SENT} | {"endpoint": self.server.url}
        told = {"token_ids": None, "logprob": None}
        write_jsonl(self.files.samples, ({**row, **told, **settings} for row in written))
        events = [
            _("Prompt %(id)s is left out. %(why)s") % {"id": name, "why": why}
            for name, why in refused.items()
        ]
        summary = {
            "status": "sampled",
            "policy": f"{self.server.model} at {self.server.url}",
            "prompts": len(self.prompts),
            "too_long": [],
            "refused": len(refused),
            "completions": len(written),
            "ended": sum(row["finish_reason"] == "stop" for row in written),
            "events": events[:20],
            "seconds": round(time.monotonic() - self.started, 3),
        }
        inputs = self.files.hashes([self.files.config_file, self.files.prompts])
        self.files.finish("sample", summary, inputs, [self.files.samples])


def _seed(seed: int, prompt: str, index: int) -> int:
    """Return the seed of one completion: 31 bits, as the interface has it."""
    name = "\0".join(map(str, (seed, prompt, index)))
    return int.from_bytes(hashlib.sha256(name.encode()).digest()[:4], "big") >> 1
