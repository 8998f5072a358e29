"""Records of prompts, pairs and gold comparisons, checked: what each must hold, and what it says.

A record that cannot be used is named by its line, in one sentence.

Keys of a record: `prompt` (text, or a list of chat messages), `id`, `metadata`; for a pair also `completion_a` and
`completion_b`, with `policy_a` and `policy_b` for who wrote them; for gold also `gold`: "a", "b", or "none" to take it
back. The id and the metadata of a pair are the comparison's; `prompt_external_id` and `prompt_metadata` are its
prompt's. `withdrawn` says whether it is out of use. In CSV they are columns; further columns become metadata.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from functools import cached_property
from typing import Any, NamedTuple

from django.utils.translation import gettext as _

from annotate.errors import RefusalError
from annotate.imports.contents import (
    ID_LIMIT,
    POLICY_LIMIT,
    check_metadata,
    check_name,
    check_prompt,
    check_text,
)
from annotate.imports.reader import KEYS, WHOLE_FILE, RowError
from annotate.models import Policy, Project, prompt_digest
from annotate.models.aspects import ASPECT_COLUMNS
from annotate.sources.candidates import CriterionOpinion
from annotate.text.chats import Content, content_key
from primitives.text import printable

POLICIES = 200  # from elsewhere, of a project: its pages list them all
ASPECTS_LIMIT = 200  # reasons of a project with those of files, and criteria: its settings list them all
ERRORS_KEPT = 20
BATCH = "import"  # Comparison.batch, and the policy of completions that name none

SIDES, NO_GOLD = ("a", "b"), "none"
CONTENTS = ("prompt", "completion_a", "completion_b")


class ImportRefusedError(RefusalError):
    """The file cannot be imported; nothing was changed. `errors` holds (line, sentence) of the first ones.

    The line is WHOLE_FILE where the file as such is wrong.
    """

    def __init__(self, errors: list[tuple[int, str]], count: int) -> None:
        self.errors, self.count = errors, count
        more = _(" (and %(count)s more)") % {"count": count - 1} if count > 1 else ""
        super().__init__(placed(*errors[0]) + more)


def placed(line: int, sentence: str) -> str:
    """Return an error with its place, for a file without columns."""
    if line == WHOLE_FILE:
        return sentence
    return _("Line %(line)s: %(sentence)s") % {"line": line, "sentence": sentence}


class PairOpinion(NamedTuple):
    """An opinion of an annotator from elsewhere on the two completions of an item, as a Judgment has it.

    `preferred` is 0 or 1, the place of the better completion, and `left` that of the one that the annotator saw on the
    left. `strength` and `left` are None where they are not known. `reasons` are titles, and `criteria` name one of
    these two places. None is what the record does not say.
    """

    annotator: str
    verdict: str
    preferred: int | None = None
    strength: int | None = None
    rationale: str = ""
    seconds: float | None = None
    at: datetime | None = None
    left: int | None = None
    too_fast: bool | None = None
    late: bool | None = None
    reasons: tuple[str, ...] | None = None
    criteria: tuple[CriterionOpinion, ...] | None = None


@dataclass
class Item:
    """A record, checked: a prompt, with two completions if it is a pair, and with what annotators said of them.

    What the record does not say is None, or empty. `external_id` and `metadata` are of the pair. `left_out` counts what
    of the record is not taken, by name.
    """

    prompt: Content
    tools: tuple[Mapping[str, Any], ...] = ()
    prompt_external_id: str = ""
    prompt_metadata: Mapping[str, Any] | None = None
    completions: tuple[Content, Content] | None = None
    policies: tuple[str, str] = (BATCH, BATCH)
    external_id: str = ""
    metadata: Mapping[str, Any] | None = None
    gold: str | None = None  # "a", "b", NO_GOLD, or None where nothing is said
    withdrawn: bool = False
    opinions: tuple[PairOpinion, ...] = ()
    left_out: Mapping[str, int] = field(default_factory=dict)

    @property
    def kind(self) -> str:
        """Return what it is counted as: prompts, pairs, judged pairs or gold."""
        if self.completions is None:
            return "prompts"
        if self.gold in SIDES:
            return "gold"
        return "judged" if self.opinions else "pairs"

    @cached_property
    def digest(self) -> str:
        """The digest of its prompt, by which the prompt is known."""
        return prompt_digest(self.prompt, self.tools)

    @cached_property
    def keys(self) -> tuple[str, ...]:
        """The keys of its completions, by which each is known among those of its prompt."""
        return tuple(content_key(content) for content in self.completions or ())

    @cached_property
    def pair_key(self) -> tuple[str, frozenset[str]]:
        """The digest and the keys, which both orders of a pair share."""
        return self.digest, frozenset(self.keys)

    @property
    def gold_key(self) -> str:
        """The key of the completion that it says is the better one, or an empty text."""
        return self.keys[SIDES.index(self.gold)] if self.completions and self.gold in SIDES else ""


# --- Checking ----------------------------------------------------------------------------------------------------


def parse_record(record: Mapping[str, Any] | RowError) -> Item:
    """Return the Item that a Reader's record describes. Raises RowError."""
    if isinstance(record, RowError):
        raise record
    return parse(record)


def parse(row: Mapping[str, Any]) -> Item:
    """Return a record as an Item. Raises RowError."""
    if {"chosen", "rejected"} & row.keys():
        raise RowError(
            _(
                "Name the two completions completion_a and completion_b; say which is better with gold, “a” or “b”."
            )
        )
    if unknown := sorted(row.keys() - set(KEYS)):
        raise RowError(
            _("There is no key “%(key)s”; the keys are %(keys)s. Put the rest into metadata.")
            % {"key": printable(unknown[0]), "keys": ", ".join(KEYS)}
        )
    if "prompt" not in row:
        raise RowError(_("The prompt is missing."))
    # An empty text and null say nothing, as the empty cell of a table. That gold is null says that there is none.
    row = {
        key: value
        for key, value in row.items()
        if key in CONTENTS or (value != "" and (value is not None or key == "gold"))
    }
    completions = _completions(row)
    own_id, own_metadata = check_name(row.get("id", ""), "id", ID_LIMIT), _metadata(row, "metadata")
    prompt_id = check_name(row.get("prompt_external_id", ""), "prompt_external_id", ID_LIMIT)
    prompt_metadata = _metadata(row, "prompt_metadata")
    if completions is None:  # the row is the prompt
        _refuse_two("id", own_id, prompt_id)
        _refuse_two("metadata", own_metadata, prompt_metadata)
        prompt_id, own_id = own_id or prompt_id, ""
        prompt_metadata, own_metadata = own_metadata if prompt_metadata is None else prompt_metadata, None
    return Item(
        prompt=check_prompt(row["prompt"]),
        prompt_external_id=prompt_id,
        prompt_metadata=prompt_metadata,
        completions=completions,
        policies=(_policy(row, "policy_a"), _policy(row, "policy_b")),
        external_id=own_id,
        metadata=own_metadata,
        gold=_gold(row, is_pair=completions is not None),
        withdrawn=_withdrawn(row.get("withdrawn", False)),
    )


def _refuse_two(name: str, own: object, of_prompt: object) -> None:
    if own and of_prompt and own != of_prompt:
        raise RowError(
            _("A row without completions is the prompt: give one of %(name)s and %(other)s.")
            % {"name": name, "other": "prompt_external_id" if name == "id" else "prompt_metadata"}
        )


def _gold(row: Mapping[str, Any], *, is_pair: bool) -> str | None:
    if "gold" not in row or (row["gold"] is None and not is_pair):
        return None
    gold = NO_GOLD if row["gold"] is None else row["gold"]
    if not is_pair or gold not in (*SIDES, NO_GOLD):
        raise RowError(_("gold must be “a”, “b” or “none”, beside completion_a and completion_b."))
    return str(gold)


def _withdrawn(value: object) -> bool:
    if isinstance(value, str):
        value = {"true": True, "false": False}.get(value.strip().lower())
    if not isinstance(value, bool):
        raise RowError(_("withdrawn must be true or false."))
    return value


def _metadata(row: Mapping[str, Any], name: str) -> dict[str, Any] | None:
    return check_metadata(row[name], name) if name in row else None


def _completions(row: Mapping[str, Any]) -> tuple[str, str] | None:
    given = [key for key in ("completion_a", "completion_b") if key in row]
    if not given:
        return None
    if len(given) == 1:
        raise RowError(_("A pair needs both completion_a and completion_b."))
    both = check_text(row["completion_a"], "completion_a"), check_text(row["completion_b"], "completion_b")
    if both[0] == both[1]:
        raise RowError(_("completion_a and completion_b are the same."))
    return both


def _policy(row: Mapping[str, Any], key: str) -> str:
    return check_name(row.get(key, BATCH), key, POLICY_LIMIT) or BATCH


class Sources:
    """The policies that pairs say they are from, and the titles of what was said beside their verdicts.

    `new` are the names of policies that the project does not have. `titles` are those of reasons and criteria, by
    column. Earlier steps of a check give both on to the next one.
    """

    def __init__(
        self, project: Project, new: Iterable[str] = (), titles: Mapping[str, Iterable[str]] | None = None
    ) -> None:
        kinds = dict(Policy.objects.filter(project=project).values_list("name", "kind"))
        self.external = {name for name, kind in kinds.items() if kind == Policy.Kind.EXTERNAL}
        self.own = kinds.keys() - self.external
        self.new = set(new) - kinds.keys()
        stored = Project.objects.only(*ASPECT_COLUMNS).get(pk=project.pk)  # as an earlier step left it
        here = {"reasons": stored.all_reasons, "criteria": stored.all_criteria}
        self._stored = {kind: {one.title for one in aspects} for kind, aspects in here.items()}
        self._titles = {kind: known | {*(titles or {}).get(kind, ())} for kind, known in self._stored.items()}

    @property
    def titles(self) -> dict[str, list[str]]:
        """Return the titles of reasons and of criteria that the project does not have."""
        return {kind: sorted(known - self._stored[kind]) for kind, known in self._titles.items()}

    def add(self, item: Item) -> None:
        """Take in the names of an item's policies, reasons and criteria. Raises RowError."""
        for opinion in item.opinions:
            if opinion.reasons or opinion.criteria:
                self._add_titles("reasons", opinion.reasons or ())
                self._add_titles("criteria", [one.title or one.key for one in opinion.criteria or ()])
        named = set(item.policies) if item.completions else set()
        if named & self.own:
            raise RowError(
                _("“%(name)s” is a policy that this project samples itself; name the source otherwise.")
                % {"name": printable(min(named & self.own))}
            )
        new = self.new | (named - self.external)
        if len(new) > len(self.new) and len(self.external) + len(new) > POLICIES:
            raise RowError(
                _("The project would have more than %(limit)s policies from elsewhere.") % {"limit": POLICIES}
            )
        self.new = new

    def _add_titles(self, kind: str, titles: Iterable[str]) -> None:
        known = self._titles[kind]
        if new := {*titles} - known:
            if len(known) + len(new) > ASPECTS_LIMIT:
                raise RowError(
                    _("The project would have more than %(limit)s %(name)s, with those of files.")
                    % {"limit": ASPECTS_LIMIT, "name": kind}
                )
            known |= new
