"""Candidates made into what a project holds: prompts, comparisons to judge, judged pairs, or gold.

Rankings and ratings of several answers become pairs of them. Nothing is lost without a word: what a candidate says and
its items do not is counted in `Item.left_out`.
"""

import math
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations
from typing import Any, NamedTuple

from django.utils.functional import Promise
from django.utils.text import format_lazy
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy as _lazy

from annotate.imports.allowances import Allowance
from annotate.imports.contents import (
    EARLIEST,
    ID_LIMIT,
    POLICY_LIMIT,
    check_completion,
    check_metadata,
    check_name,
    check_opinion,
    check_prompt,
    check_tools,
    drop_largest,
    read_time,
)
from annotate.imports.ratings import ANSWERS
from annotate.imports.reader import RowError
from annotate.imports.records import BATCH, NO_GOLD, SIDES, Item, PairOpinion
from annotate.models import Judgment, prompt_digest
from annotate.sources.candidates import Answer, Candidate, CriterionOpinion, Opinion
from annotate.text.chats import Content, as_completion, content_key

BECOMES = ("prompts", "comparisons", "judged", "gold")
OPINIONS = 1_000

# Translated only where an error says them.
NAMES = [format_lazy("{name} {number}", name=_lazy("completion"), number=n + 1) for n in range(ANSWERS)]
ANNOTATOR, POLICY = _lazy("The name of the annotator"), _lazy("The name of the policy")
Verdict = Judgment.Verdict


@dataclass(frozen=True)
class Choices:
    """The choices of a person for the candidates of a file.

    `pairs`: of more than two answers, "all" pairs, or the "best" against each of the rest. `without_losses`: take
    candidates without what cannot be taken. `empty_completions`: take completions without a text.
    """

    becomes: str
    pairs: str = "all"
    without_losses: bool = False
    empty_completions: bool = False

    def __post_init__(self) -> None:
        if self.becomes not in BECOMES or self.pairs not in ("all", "best"):
            raise ValueError(f"{self.becomes}, {self.pairs} is not a choice.")


def expand(candidate: Candidate, choices: Choices, allowance: Allowance | None = None) -> list[Item]:
    """Return the items that a candidate becomes, one or more. Raises RowError.

    They are taken from the allowance of its record. Raises AllowanceError where it is spent.
    """
    allowance = allowance or Allowance()
    if candidate.losses and not choices.without_losses:
        raise RowError(
            _("It holds what cannot be taken: %(losses)s. Choose to import without it, or leave the row out.")
            % {"losses": ", ".join(candidate.losses)}
        )
    if choices.becomes == "prompts":
        allowance.spend_prompt(candidate)
        alone = _prompt_alone(candidate, choices)
        _count_left_out(alone, candidate.left_out)
        return [alone]
    found = _read(candidate, choices)
    allowance.spend_pairs(candidate, found.opinions, len(found.pairs))
    make = {"comparisons": _comparisons, "judged": _judged_pairs, "gold": _gold_pairs}[choices.becomes]
    left_out: defaultdict[str, int] = defaultdict(int, found.left_out)
    items = list(make(found, left_out))
    _count_left_out(items[0], left_out)
    _count_left_out(items[0], candidate.left_out)
    return items


# --- A candidate, checked ----------------------------------------------------------------------------------------


class _Checked(NamedTuple):
    """A candidate whose parts can be used. `opinions` are one for each annotator."""

    candidate: Candidate
    prompt: Mapping[str, Any]  # what an Item says of its prompt
    choices: Choices
    digest: str  # of the prompt
    contents: Sequence[Content]
    keys: Sequence[str]  # of the contents
    opinions: Sequence[Opinion]
    left_out: Mapping[str, int]
    pairs: Sequence[tuple[int, int]]  # the places of the chosen two answers that differ to who reads them


def _read(candidate: Candidate, choices: Choices) -> _Checked:
    answers = candidate.answers
    if len(answers) < 2:
        raise RowError(_too_few(candidate))
    if len(answers) > ANSWERS:
        raise RowError(
            _("It has %(count)s completions; at most %(limit)s are taken.")
            % {"count": len(answers), "limit": ANSWERS}
        )
    names: Sequence[str | Promise] = candidate.names or NAMES
    contents = [
        check_completion(answer.content, name, may_be_empty=choices.empty_completions)
        for answer, name in zip(answers, names, strict=False)
    ]
    prompt = _read_prompt(candidate, has_chat=any(not isinstance(content, str) for content in contents))
    opinions, earlier = _one_each(candidate)
    texts = [as_completion(content) for content in contents]
    pairs = [(one, other) for one, other in combinations(range(len(texts)), 2) if texts[one] != texts[other]]
    if not pairs:
        raise RowError(_("Its completions are the same."))
    left_out = {"opinions": earlier, "identical": math.comb(len(texts), 2) - len(pairs)}
    if choices.pairs == "best" and len(texts) > 2:
        best = _best(opinions, len(texts))
        pairs = [pair for pair in pairs if best in pair]
    digest, keys = prompt_digest(prompt["prompt"], prompt["tools"]), list(map(content_key, contents))
    return _Checked(candidate, prompt, choices, digest, contents, keys, opinions, left_out, pairs)


def _too_few(candidate: Candidate) -> str:
    if not candidate.answers:
        return _("It has no completions.")
    if candidate.opinions:
        return _(
            "It rates one completion alone. A rating makes a pair only beside the rating of another completion of the "
            "same prompt."
        )
    return _("It has one completion, and two make a comparison.")


def _read_prompt(candidate: Candidate, *, has_chat: bool) -> dict[str, Any]:
    """Return what an Item says of its prompt. After a prompt of plain text no completion can be messages."""
    content = check_prompt(candidate.prompt if isinstance(candidate.prompt, str) else list(candidate.prompt))
    if has_chat and isinstance(content, str):
        content = [{"role": "user", "content": content}]
    metadata = candidate.prompt_metadata
    return {
        "prompt": content,
        "tools": check_tools(candidate.tools),
        "prompt_external_id": check_name(candidate.prompt_external_id, "prompt_external_id", ID_LIMIT),
        "prompt_metadata": None if metadata is None else check_metadata(dict(metadata), "prompt_metadata"),
    }


def _one_each(candidate: Candidate) -> tuple[list[Opinion], int]:
    """Return one opinion for each annotator, the latest, and how many earlier ones that leaves out.

    Annotators without a name are different people.
    """
    if len(candidate.opinions) > OPINIONS:
        raise RowError(
            _("It has %(count)s opinions; at most %(limit)s are taken.")
            % {"count": len(candidate.opinions), "limit": OPINIONS}
        )
    found: dict[str, Opinion] = {}
    nameless = 0
    for opinion in sorted(candidate.opinions, key=lambda one: read_time(one.at) or EARLIEST):
        name = check_name(opinion.annotator, ANNOTATOR, ID_LIMIT)
        if not name:
            nameless += 1
            name = str(nameless) if nameless > 1 else ""
        found[name] = opinion
    checked = [check_opinion(opinion, name, len(candidate.answers)) for name, opinion in found.items()]
    return checked, len(candidate.opinions) - len(found)


# --- What it becomes ---------------------------------------------------------------------------------------------


def _prompt_alone(candidate: Candidate, choices: Choices) -> Item:
    said = _read_prompt(candidate, has_chat=False)
    fitting, too_large = _fit_metadata(dict(candidate.metadata or {}), choices)
    own = None if candidate.metadata is None else fitting
    said["prompt_external_id"] = said["prompt_external_id"] or check_name(
        candidate.external_id, "id", ID_LIMIT
    )
    if said["prompt_metadata"] is None or own is None:
        said["prompt_metadata"] = own if said["prompt_metadata"] is None else said["prompt_metadata"]
    else:
        said["prompt_metadata"] = {**own, **said["prompt_metadata"]}
    left_out = {
        "completions": len(candidate.answers),
        "opinions": len(candidate.opinions),
        "metadata": too_large,
    }
    return Item(
        **said,
        withdrawn=candidate.withdrawn,
        left_out={name: count for name, count in left_out.items() if count},
    )


def _comparisons(found: _Checked, left_out: defaultdict[str, int]) -> Iterator[Item]:
    left_out["opinions"] += len(found.opinions)
    for pair in found.pairs:
        yield _item(found, pair)


def _judged_pairs(found: _Checked, left_out: defaultdict[str, int]) -> Iterator[Item]:
    """Yield each pair that an annotator said something of, with what each of them said."""
    made = 0
    for pair in found.pairs:
        opinions = tuple(said for one in found.opinions if (said := _opinion_on(pair, one, found)))
        if opinions:
            made += 1
            yield _item(found, pair, opinions=opinions)
        else:
            left_out["unjudged"] += 1
    if not made:
        raise RowError(_("It does not say which of its completions is better."))


def _gold_pairs(found: _Checked, left_out: defaultdict[str, int]) -> Iterator[Item]:
    """Yield each pair of which all annotators prefer the same completion."""
    made = 0
    if found.candidate.gold in SIDES:
        left_out["opinions"] += len(found.opinions)
        yield _item(found, (0, 1))
        return
    for pair in found.pairs:
        said = [one for opinion in found.opinions if (one := _opinion_on(pair, opinion, found))]
        preferred = {one.preferred for one in said if one.verdict != Verdict.SKIP}
        if len(preferred) == 1 and (better := preferred.pop()) is not None:
            made += 1
            yield _item(found, pair, gold=SIDES[better])
        else:
            left_out["disagreed"] += 1
    if not made:
        raise RowError(_("Its opinions do not agree on the better completion."))


def _best(opinions: Sequence[Opinion], count: int) -> int:
    """Return the place of the answer with the highest mean score, the first of several. Raises RowError."""
    means = {}
    for place in range(count):
        scores = [opinion.scores[place] for opinion in opinions if opinion.scores]
        known = [score for score in scores if score is not None]
        if known:
            means[place] = sum(known) / len(known)
    if not means:
        raise RowError(_("None of its completions has a score, so none is the best."))
    return max(means, key=lambda place: means[place])


def _opinion_on(pair: tuple[int, int], opinion: Opinion, found: _Checked) -> PairOpinion | None:
    """Return what an opinion says of two answers, or None if it does not compare them."""
    preferred = strength = None
    verdict = opinion.verdict
    if not verdict:
        one, other = (opinion.scores[place] for place in pair)
        if one is None or other is None or (one == other and opinion.names_best):
            return None
        verdict = Verdict.TIE if one == other else Verdict.PREFER
        if one != other:
            preferred, strength = int(other > one), opinion.strength
    return PairOpinion(
        opinion.annotator,
        str(verdict),
        preferred,
        strength,
        opinion.rationale,
        opinion.seconds,
        opinion.at,
        _left_of(pair, opinion, found.candidate),
        opinion.too_fast,
        opinion.late,
        opinion.reasons,
        opinion.criteria and _criteria_on(pair, opinion.criteria),
    )


def _criteria_on(
    pair: tuple[int, int], criteria: tuple[CriterionOpinion, ...]
) -> tuple[CriterionOpinion, ...]:
    """Return what was said by criteria of the two answers of a pair, by their places in it."""
    return tuple(
        one if one.preferred is None else one._replace(preferred=pair.index(one.preferred))
        for one in criteria
        if one.preferred is None or one.preferred in pair
    )


def _left_of(pair: tuple[int, int], opinion: Opinion, candidate: Candidate) -> int | None:
    """Return the place in a pair of the answer that the annotator saw on the left, or None if that is not known."""
    if opinion.left in pair:
        return pair.index(opinion.left)
    return 0 if candidate.sides_known else None


# --- Items -------------------------------------------------------------------------------------------------------


def _item(
    found: _Checked,
    pair: tuple[int, int],
    *,
    opinions: tuple[PairOpinion, ...] = (),
    gold: str | None = None,
) -> Item:
    candidate = found.candidate
    one, other = (candidate.answers[place] for place in pair)
    metadata, too_large = _metadata(found, one, other)
    item = Item(
        **found.prompt,
        completions=(found.contents[pair[0]], found.contents[pair[1]]),
        policies=(_policy(one), _policy(other)),
        external_id=_external_id(found, pair),
        metadata=metadata,
        gold=gold or _gold(candidate),
        withdrawn=candidate.withdrawn,
        opinions=opinions,
        left_out={"metadata": too_large} if too_large else {},
    )
    # Computed once for all pairs, which share them.
    item.__dict__.update(digest=found.digest, keys=(found.keys[pair[0]], found.keys[pair[1]]))
    return item


def _policy(answer: Answer) -> str:
    return check_name(answer.policy, POLICY, POLICY_LIMIT) or BATCH


def _external_id(found: _Checked, pair: tuple[int, int]) -> str:
    """Return the id of a pair: the candidate's, and of more than two answers with their numbers behind it."""
    external_id = check_name(found.candidate.external_id, "id", ID_LIMIT)
    if not external_id or len(found.contents) == 2:
        return external_id
    return check_name(f"{external_id}/{pair[0] + 1}-{pair[1] + 1}", "id", ID_LIMIT)


def _metadata(found: _Checked, *answers: Answer) -> tuple[dict[str, Any] | None, int]:
    """Return the metadata of a pair, and how many of its values are left out.

    It is the candidate's, and under `completions` that of its answers.
    """
    own, has_more = found.candidate.metadata, any(answer.metadata for answer in answers)
    if own is None and not has_more:
        return None, 0
    more = {"completions": [dict(answer.metadata) for answer in answers]} if has_more else {}
    return _fit_metadata({**(own or {}), **more}, found.choices)


def _fit_metadata(metadata: dict[str, Any], choices: Choices) -> tuple[dict[str, Any], int]:
    """Return metadata that can be stored, and how many of the largest values were left out, if the person agrees."""
    if choices.without_losses:
        whole = len(metadata)
        metadata = drop_largest(metadata)
        return check_metadata(metadata, "metadata"), whole - len(metadata)
    return check_metadata(metadata, "metadata"), 0


def _gold(candidate: Candidate) -> str | None:
    if candidate.gold is None or len(candidate.answers) != 2:
        return None
    if candidate.gold not in (*SIDES, NO_GOLD):
        raise RowError(_("gold must be “a”, “b” or “none”, beside completion_a and completion_b."))
    return candidate.gold


def _count_left_out(item: Item, left_out: Mapping[str, int]) -> None:
    """Let an item say what its candidate said beyond it."""
    if counts := {name: count for name, count in left_out.items() if count}:
        item.left_out = {**item.left_out, **counts}
