"""Try every causal class of transformers, and write docs/architectures.md: `python -m tests.architectures [KIND ...]`.

Each is tried in a process of its own, which may take so much time and memory and no more. With names of model types
only those are tried, and printed. Exits with 1 if a number differs from the oracle's, or anything ends in a traceback.
"""

import contextlib
import json
import os
import resource
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

import torch
import transformers

from tests.architectures.shapes import CLASSES
from tests.architectures.trial import Result, try_architecture

_SECONDS = 120  # of processor time
_BYTES = 10 << 30
TABLE = Path("docs/architectures.md")
_HEAD = """\
# Architectures

Every causal language model of transformers {version} ({count} types), tiny, with random weights in float32, through
`train`, `score` and `sample`. `make architectures` writes this table. Behind each "packed", "padded" and "yes" is an
independent computation: log-probabilities, the first gradient and each greedy token equal those of one plain forward of
one sequence in transformers and PEFT. Anything else is the sentence that the verb ends with, or says. Windows, sparse
attention and LongRoPE begin within a few dozen tokens here, and hybrid models have a layer of each kind.

Train: how rows of pairs are made. Sample: how completions are written, "yes" for the usual way. Merges: whether the
adapter can be added to the weights.

| model type | class | train | score | sample | merges |
| --- | --- | --- | --- | --- | --- |
"""


def main(kinds: Sequence[str]) -> int:
    """Try `kinds`, or all and write the table. Returns the exit code."""
    torch.set_num_threads(1)  # children are forked from a process without threads
    transformers.utils.logging.set_verbosity_error()
    results = []
    for kind in kinds or sorted(CLASSES):
        results.append(_apart(kind))
        print(json.dumps(asdict(results[-1])), flush=True)
    if not kinds:
        TABLE.write_text(
            _HEAD.format(version=transformers.__version__, count=len(CLASSES))
            + "".join(map(_line, sorted(results, key=lambda one: (CLASSES[one.kind], one.kind))))
        )
    wrong = [one for one in results if one.faults]
    for one in wrong:
        print(f"{one.kind}: {'; '.join(one.faults)}", file=sys.stderr)
    return 1 if wrong else 0


def _apart(kind: str) -> Result:
    """Try one architecture in a child process."""
    source, target = os.pipe()
    child = os.fork()
    if child == 0:
        os.close(source)
        os.write(target, json.dumps(asdict(_limited(kind))).encode())
        os._exit(0)
    os.close(target)
    with os.fdopen(source) as answer:
        said = answer.read()
    os.waitpid(child, 0)
    return (
        Result(**json.loads(said)) if said else Result(kind, not_built=f"takes more than {_SECONDS} s here")
    )


def _limited(kind: str) -> Result:
    resource.setrlimit(resource.RLIMIT_CPU, (_SECONDS, _SECONDS + 5))
    resource.setrlimit(resource.RLIMIT_AS, (_BYTES, _BYTES))
    with (
        tempfile.TemporaryDirectory() as folder,
        open(os.devnull, "w") as nowhere,
        contextlib.redirect_stderr(nowhere),
    ):
        return try_architecture(kind, Path(folder))


def _line(one: Result) -> str:
    name = f"| `{one.kind}` | {CLASSES[one.kind]} |"
    if one.not_built:
        return f"{name} not tried: {_cell(one.not_built)} | | | |\n"
    if one.train == one.score == one.sample:
        return f"{name} {_cell(one.train)} | the same | the same | |\n"
    cells = [_cell(text) for text in (one.train, one.score, one.sample, one.merges)]
    if one.faults:
        cells[-1] += f" **FAULT**: {_cell('; '.join(one.faults))}"
    return f"{name} {' | '.join(cells)} |\n"


def _cell(text: str) -> str:
    return " ".join(text.replace("|", "\\|").split())


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
