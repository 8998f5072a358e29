"""The one shape that every format of preference data is read into.

A record of a file becomes one candidate, or several (a tree of replies). What a candidate becomes in a project (a
prompt, comparisons, judged pairs, gold) is chosen later.
"""

from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from types import MappingProxyType
from typing import Any, NamedTuple, TypeGuard

Message = Mapping[str, Any]
Content = str | list[Message]  # plain text, or chat messages


class Answer(NamedTuple):
    """One completion of a candidate. `content` is text, or messages that follow the prompt's, the assistant's first."""

    content: Content
    policy: str = ""  # who wrote it; empty where the file does not say
    metadata: Mapping[str, Any] = MappingProxyType({})


class CriterionOpinion(NamedTuple):
    """One annotator’s say by one criterion. `preferred` is the place of the better answer.

    The key and the title are those of the file. One of them may be empty.
    """

    key: str
    title: str
    verdict: str
    preferred: int | None = None
    strength: int | None = None


class Opinion(NamedTuple):
    """One annotator’s say about a candidate’s answers.

    `scores` has a number for each answer (higher is better, equal is a tie), or None where the annotator said nothing
    of it. `verdict` is empty, or "both_bad" or "skip" in place of the scores. `annotator` is the name or number in the
    file, and empty where the file has one annotator without a name.
    `names_best` says that the scores name the best of several answers: equal scores of two others say nothing of them.
    `left` is the place of the answer that this annotator saw on the left, where the file says so of each of them.
    `reasons` are titles. They and `criteria` are None where the file does not say them.
    """

    scores: tuple[float | None, ...] = ()
    verdict: str = ""
    annotator: str = ""
    strength: int | None = None  # 1 to 3, as in a judgment; None where the file does not say
    rationale: str = ""
    seconds: float | None = None
    at: datetime | None = None
    names_best: bool = False
    left: int | None = None
    too_fast: bool | None = None  # as the file calls it
    late: bool | None = None  # the same
    reasons: tuple[str, ...] | None = None
    criteria: tuple[CriterionOpinion, ...] | None = None


@dataclass
class Candidate:
    """A prompt, with any number of answers, and opinions about them: all that a record says.

    `losses` names what of the record cannot be taken (“images referred to by URL”): such a candidate is imported only
    where the person agrees to do without. `sides_known` says that the answers stand in the order in which all
    annotators saw them, the left one first. Where it differed, each opinion says its `left`. `names` are the keys of
    the record that have the answers, if each has one: an error names them. `left_out` counts by name what the format
    knows and no import takes.
    """

    prompt: Content
    answers: tuple[Answer, ...] = ()
    opinions: tuple[Opinion, ...] = ()
    tools: tuple[Mapping[str, Any], ...] = ()  # that the chat template is told of
    external_id: str = ""
    metadata: Mapping[str, Any] | None = None
    prompt_external_id: str = ""
    prompt_metadata: Mapping[str, Any] | None = None
    gold: str | None = None  # Whetstone's own: "a", "b", "none"
    withdrawn: bool = False
    sides_known: bool = False
    losses: tuple[str, ...] = ()
    names: tuple[str, ...] = field(default=(), compare=False)
    left_out: Mapping[str, int] = field(default_factory=dict, compare=False)


def order_completions(
    metadata: Mapping[str, Any] | None, keys: Sequence[Hashable], order: Sequence[Hashable]
) -> Mapping[str, Any] | None:
    """Return the metadata of a pair with what it says of each completion in another order of the two.

    It says that under `completions`, as a list of two objects.
    """
    said = metadata and metadata.get("completions")
    if not metadata or list(keys) == list(order) or not holds_completions(said):
        return metadata
    return {**metadata, "completions": [said[1], said[0]]}


def holds_completions(said: object) -> TypeGuard[list[Mapping[str, Any]]]:
    """Return whether a value has an object for each of two completions."""
    return isinstance(said, list) and len(said) == 2 and all(isinstance(one, Mapping) for one in said)
