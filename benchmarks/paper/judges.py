"""Automatic judges of two completions: a weak classifier of texts, and any endpoint that speaks OpenAI's protocol."""

import http.client
import json
import math
import re
import time
from collections import Counter
from collections.abc import Sequence
from contextlib import closing
from dataclasses import dataclass
from typing import Any, Protocol
from urllib.parse import urlsplit

FIRST, SECOND, TIE = "first", "second", "tie"
_WORD = re.compile(r"[a-z']+")
_LONGEST_ANSWER = 1 << 20  # bytes
_SECONDS = 60.0  # of one request
_TRIES = 4


class JudgeError(Exception):
    """A reason why a judge does not answer, in a sentence."""


class Judge(Protocol):
    """One that says which of two completions is better."""

    def compare(self, prompt: Any, first: str, second: str) -> str:
        """Return FIRST, SECOND or TIE."""
        ...


class WordJudge:
    """A naive Bayes classifier of good and bad texts by their words, which has read a few labelled ones."""

    def __init__(self, texts: Sequence[str], good: Sequence[bool]) -> None:
        counts: dict[bool, Counter[str]] = {True: Counter(), False: Counter()}
        for text, label in zip(texts, good, strict=True):
            counts[label].update(set(_words(text)))
        known = counts[True].keys() | counts[False].keys()
        told = {label: sum(one == label for one in good) for label in counts}
        # A word that is in k of n texts of a label has the chance (k + 1) / (n + 2) there.
        self.odds = {
            word: math.log((counts[True][word] + 1) / (told[True] + 2))
            - math.log((counts[False][word] + 1) / (told[False] + 2))
            for word in known
        }

    def score(self, text: str) -> float:
        """Return the mean log-odds of the words that it knows, so that longer texts are not surer."""
        known = [self.odds[word] for word in set(_words(text)) if word in self.odds]
        return math.fsum(known) / len(known) if known else 0.0

    def compare(self, prompt: Any, first: str, second: str) -> str:
        """Return the completion of the higher score."""
        difference = self.score(first) - self.score(second)
        return TIE if difference == 0 else FIRST if difference > 0 else SECOND


@dataclass(frozen=True)
class EndpointJudge:
    """A model behind `url`, such as http://localhost:8000/v1. It is asked in both orders, so that no place wins."""

    url: str
    model: str
    what: str  # completes "Which ...?"
    key: str = ""

    def compare(self, prompt: Any, first: str, second: str) -> str:
        """Return the completion that it names in both orders, TIE if it changes its mind or names none.

        Raises JudgeError.
        """
        one = self._ask(_question(self.what, prompt, first, second))
        other = self._ask(_question(self.what, prompt, second, first))
        return {("A", "B"): FIRST, ("B", "A"): SECOND}.get((one, other), TIE)

    def _ask(self, question: str) -> str:
        """Return A, B or "". Raises JudgeError."""
        body = {
            "model": self.model,
            "messages": [{"role": "user", "content": question}],
            "temperature": 0,
            "max_tokens": 4,
        }
        answer = self._post(json.dumps(body).encode())
        try:
            said = json.loads(answer)["choices"][0]["message"]["content"]
        except (ValueError, LookupError, TypeError):
            raise JudgeError(f"{self.url} answered something else than a chat completion.") from None
        found = re.match(r"\W*([AB])\b", said if isinstance(said, str) else "")
        return found[1] if found else ""

    def _post(self, body: bytes) -> bytes:
        """Return the answer's body. A busy server is asked again; no redirect is followed. Raises JudgeError."""
        place = urlsplit(self.url)
        if place.scheme not in ("http", "https") or not place.hostname:
            raise JudgeError(f"{self.url!r} is not the address of an endpoint.")
        kind = http.client.HTTPSConnection if place.scheme == "https" else http.client.HTTPConnection
        headers = {"Content-Type": "application/json"}
        if self.key:
            headers["Authorization"] = f"Bearer {self.key}"
        said = "nothing"
        for attempt in range(_TRIES):
            if attempt:
                time.sleep(0.25 * 2**attempt)
            try:
                with closing(kind(place.hostname, place.port, timeout=_SECONDS)) as connection:
                    path = f"{place.path.rstrip('/')}/chat/completions"
                    connection.request("POST", path, body, headers)
                    answer = connection.getresponse()
                    content = answer.read(_LONGEST_ANSWER + 1)
            except (OSError, http.client.HTTPException) as error:
                said = type(error).__name__
                continue
            if len(content) > _LONGEST_ANSWER:
                raise JudgeError(f"The answer of {self.url} is too long.")
            if answer.status == 200:
                return content
            said = f"status {answer.status}"
            if answer.status < 500 and answer.status != 429:
                break
        raise JudgeError(f"{self.url} cannot judge: {said}.")


def _question(what: str, prompt: Any, first: str, second: str) -> str:
    begun = prompt if isinstance(prompt, str) else "\n".join(turn["content"] for turn in prompt)
    return (
        f"Which {what}, A or B? Answer with one letter.\n\n"
        f"Given:\n{begun}\n\nA:\n{first.strip()}\n\nB:\n{second.strip()}\n\nAnswer:"
    )


def _words(text: str) -> list[str]:
    return _WORD.findall(text.lower())
