"""Reading prompts, pairs and gold comparisons from files: JSON Lines, CSV, or one prompt a line.

A file is streamed: one record is in memory at a time, whatever its size. A record that cannot be used is named by
its line, in one sentence. `import_file` checks the whole file first and then writes it in one transaction; `Reader`,
`parse` and `write` are its parts, for a caller that works through a large upload in steps.

Keys of a record: `prompt` (text, or a list of chat messages), `id`, `metadata`; for a pair also `completion_a` and
`completion_b`, with `policy_a` and `policy_b` for who wrote them; for gold also `gold`: "a" or "b". In CSV they are
columns; further columns become metadata.
"""

import random
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, BinaryIO

from django.db import IntegrityError, transaction
from django.utils.translation import gettext as _

from annotate.errors import RefusalError
from annotate.imports.messages import check_message, size_of
from annotate.imports.reader import (
    FORMATS,
    KEYS,
    WHOLE_FILE,
    Portion,
    Reader,
    RowError,
    guess_format,
    nothing_in,
)
from annotate.models import Comparison, Completion, Policy, Project, Prompt, prompt_digest
from annotate.projects import trail
from annotate.text.chats import Content
from annotate.text.json_values import DEPTH, JSONError, clean_json
from primitives.text import is_storable, printable

__all__ = [
    "FORMATS",
    "ImportRefusedError",
    "Item",
    "Reader",
    "RowError",
    "Sources",
    "check",
    "guess_format",
    "import_file",
    "is_new",
    "parse",
    "parse_record",
    "placed",
    "portion",
    "write",
]

TEXT_LIMIT = 100_000  # characters of a prompt or a completion
MESSAGES = 1_000  # of a chat
METADATA_LIMIT = 64 * 1024  # bytes, as JSON
POLICIES = 200  # from elsewhere, of a project: its pages list them all
ERRORS_KEPT = 20
ROWS_AT_A_TIME = 500
BYTES_AT_A_TIME = 4 * 1024 * 1024  # of the file, in one step: what bounds the memory it takes
SECONDS_AT_A_TIME = 1.5
BATCH = "import"  # Comparison.batch, and the policy of completions that name none


class ImportRefusedError(RefusalError):
    """The file cannot be imported; nothing was changed. `errors` holds (line, sentence) of the first ones.

    The line is WHOLE_FILE where the file as such is wrong.
    """

    def __init__(self, errors: list[tuple[int, str]], count: int) -> None:
        self.errors, self.count = errors, count
        more = _(" (and %(count)s more)") % {"count": count - 1} if count > 1 else ""
        super().__init__(placed(*errors[0]) + more)


def placed(line: int, sentence: str) -> str:
    """Return an error with its place, for where there are no columns."""
    if line == WHOLE_FILE:
        return sentence
    return _("Line %(line)s: %(sentence)s") % {"line": line, "sentence": sentence}


@dataclass(frozen=True)
class Item:
    """A record, checked: a prompt, with two completions if it is a pair."""

    prompt: Content
    external_id: str = ""
    metadata: Mapping[str, Any] = field(default_factory=dict)
    completions: tuple[str, str] | None = None
    policies: tuple[str, str] = (BATCH, BATCH)
    gold: str | None = None


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
    completions = _completions(row)
    gold = row.get("gold")
    if gold is not None and (completions is None or gold not in ("a", "b")):
        raise RowError(_("gold must be “a” or “b”, beside completion_a and completion_b."))
    return Item(
        prompt=_prompt(row["prompt"]),
        external_id=_short(row.get("id", ""), "id", 200),
        metadata=_metadata(row.get("metadata", {})),
        completions=completions,
        policies=(_policy(row, "policy_a"), _policy(row, "policy_b")),
        gold=gold,
    )


def _metadata(value: object) -> dict[str, Any]:
    if not isinstance(value, dict):
        raise RowError(_("metadata must be an object."))
    try:
        return dict(clean_json(value, depth=DEPTH, size=METADATA_LIMIT))
    except JSONError as error:
        raise RowError(_("metadata: %(error)s") % {"error": error}) from error


def _prompt(content: object) -> Content:
    if isinstance(content, str):
        return _text(content, "prompt")
    if not isinstance(content, list) or not content:
        raise RowError(_("The prompt must be text or a list of chat messages."))
    if len(content) > MESSAGES:
        raise RowError(
            _("The prompt has %(count)s messages; at most %(limit)s are taken.")
            % {"count": f"{len(content):,}", "limit": f"{MESSAGES:,}"}
        )
    messages = [
        check_message(message, _message_name(number)) for number, message in enumerate(content, start=1)
    ]
    if messages[-1]["role"] == "assistant":
        raise RowError(
            _("The last message of the prompt is the assistant's; its completion is what is judged.")
        )
    if (size := sum(size_of(message) for message in messages)) > TEXT_LIMIT:
        raise RowError(_too_long("prompt", size))
    return messages


def _message_name(number: int) -> str:
    return _("message %(number)s of the prompt") % {"number": number}


def _completions(row: Mapping[str, Any]) -> tuple[str, str] | None:
    given = [key for key in ("completion_a", "completion_b") if key in row]
    if not given:
        return None
    if len(given) == 1:
        raise RowError(_("A pair needs both completion_a and completion_b."))
    both = _text(row["completion_a"], "completion_a"), _text(row["completion_b"], "completion_b")
    if both[0] == both[1]:
        raise RowError(_("completion_a and completion_b are the same."))
    return both


def _policy(row: Mapping[str, Any], key: str) -> str:
    return _short(row.get(key, BATCH), key, 120) or BATCH


def _short(value: object, name: str, limit: int) -> str:
    if isinstance(value, int) and not isinstance(value, bool):
        value = str(value)
    if not isinstance(value, str) or len(value) > limit:
        raise RowError(
            _("%(name)s must be text of at most %(limit)s characters.") % {"name": name, "limit": limit}
        )
    if not is_storable(value):
        raise RowError(_unstorable(name))
    return value.strip()


def _text(value: object, name: str) -> str:
    """Return `value`, text that can be used. `name` is its key, for the error."""
    if isinstance(value, str) and value.strip() and len(value) <= TEXT_LIMIT and is_storable(value):
        return value
    if not isinstance(value, str):
        raise RowError(_("%(name)s must be text.") % {"name": name})
    if not value.strip():
        raise RowError(_("%(name)s is empty.") % {"name": name})
    if len(value) > TEXT_LIMIT:
        raise RowError(_too_long(name, len(value)))
    raise RowError(_unstorable(name))


def _too_long(name: str, count: int) -> str:
    return _("%(name)s has %(count)s characters; at most %(limit)s are taken.") % {
        "name": name,
        "count": f"{count:,}",
        "limit": f"{TEXT_LIMIT:,}",
    }


def _unstorable(name: str) -> str:
    return _("%(name)s holds a NUL or half a character.") % {"name": name}


class Sources:
    """The policies that pairs say they are from. `new`: the names among them that the project does not have."""

    def __init__(self, project: Project, new: Iterable[str] = ()) -> None:
        kinds = dict(Policy.objects.filter(project=project).values_list("name", "kind"))
        self.external = {name for name, kind in kinds.items() if kind == Policy.Kind.EXTERNAL}
        self.own = kinds.keys() - self.external
        self.new = set(new) - kinds.keys()

    def add(self, item: Item) -> None:
        """Take in the names of an item's policies. Raises RowError."""
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


# --- Writing -----------------------------------------------------------------------------------------------------


def check(file: BinaryIO, format: str) -> Counter[str]:
    """Read the whole file; returns how many prompts, pairs and gold it holds. Raises ImportRefusedError."""
    counts: Counter[str] = Counter()
    errors: list[tuple[int, str]] = []
    wrong = 0
    rows = Reader(file, format)
    for line, row in rows:
        try:
            item = parse_record(row)
        except RowError as error:
            wrong += 1
            if len(errors) < ERRORS_KEPT:
                errors.append((line, str(error)))
        else:
            counts["gold" if item.gold else "pairs" if item.completions else "prompts"] += 1
    if not wrong and not counts:
        wrong, errors = 1, [(WHOLE_FILE, nothing_in(rows))]
    if errors:
        raise ImportRefusedError(errors, wrong)
    return counts


def import_file(project: Project, file: BinaryIO, format: str, name: str = "") -> Counter[str]:
    """Check the whole file, then write it all or nothing; returns the counts of `write`. Raises ImportRefusedError.

    If it held anything new, the trail says so, and calls the file by `name`.
    """
    check(file, format)
    counts: Counter[str] = Counter()
    with transaction.atomic():
        rows, over = Reader(file, format), False
        while not over:
            some = portion(rows, ROWS_AT_A_TIME)
            counts += write(project, [(line, parse_record(record)) for line, record in some])
            over = some.over
        if is_new(counts):
            trail.record(trail.Verb.IMPORTED, None, project=project, target=name)
    return counts


def portion(rows: Reader, most: int) -> Portion:
    """Return the next rows, as many as one step may check or write. Bytes and time bound them too."""
    return Portion(rows, rows=most, size=BYTES_AT_A_TIME, seconds=SECONDS_AT_A_TIME)


def write(project: Project, items: Iterable[tuple[int, Item]], batch: str = BATCH) -> Counter[str]:
    """Write some (line, item) in one transaction, in a handful of queries. `batch` names what made the comparisons.

    Returns how many `prompts`, `pairs` and `gold` comparisons are new, and how many records were `duplicates`: all
    that they say was there already. Raises ImportRefusedError, with nothing written.
    """
    rows = list(items)
    with transaction.atomic():
        # Of two imports into one project, as of a request sent again, the second sees what the first wrote.
        Project.objects.select_for_update(no_key=True).get(pk=project.pk)
        policies = _write_policies(project, rows)
        prompts, new_prompts = _write_prompts(project, [item for _line, item in rows])
        pairs = [item for _line, item in rows if item.completions is not None]
        completions = _write_completions(prompts, policies, pairs)
        new = _write_comparisons(project, prompts, completions, policies, pairs, batch=batch)
    counts = Counter({"prompts": len(new_prompts), **new})
    fresh_pairs = new["pairs"] + new["gold"]
    fresh_lines = {
        prompt_digest(item.prompt) for _line, item in rows if item.completions is None
    } & new_prompts
    counts["duplicates"] = len(rows) - fresh_pairs - len(fresh_lines)
    return +counts


def is_new(counts: Counter[str]) -> bool:
    """Return whether any of what `write` counted was new to the project."""
    return bool(counts.keys() - {"duplicates"})


def _write_policies(project: Project, rows: list[tuple[int, Item]]) -> dict[str, Policy]:
    """Return the external policies that the pairs name, creating those that are missing. Raises ImportRefusedError."""
    sources = Sources(project)
    for line, item in rows:
        try:
            sources.add(item)
        except RowError as error:
            raise ImportRefusedError([(line, str(error))], 1) from error
    Policy.objects.bulk_create(
        Policy(project=project, name=name, kind=Policy.Kind.EXTERNAL) for name in sorted(sources.new)
    )
    named = {name for _line, item in rows if item.completions for name in item.policies}
    return {policy.name: policy for policy in Policy.objects.filter(project=project, name__in=named)}


def _write_prompts(project: Project, items: list[Item]) -> tuple[dict[str, Prompt], set[str]]:
    """Return the prompts by digest, and the digests of those that are new."""
    wanted = {prompt_digest(item.prompt): item for item in reversed(items)}
    known = set(Prompt.objects.filter(project=project, digest__in=wanted).values_list("digest", flat=True))
    missing = []
    for digest, item in wanted.items():
        if digest not in known:
            prompt = Prompt(project=project, external_id=item.external_id, metadata=dict(item.metadata))
            prompt.set_content(item.prompt)
            missing.append(prompt)
    Prompt.objects.bulk_create(reversed(missing))
    stored = {
        prompt.digest: prompt
        for prompt in Prompt.objects.filter(project=project, digest__in=wanted).only("digest")
    }
    if lost := len(wanted.keys() - stored.keys()):
        raise IntegrityError(f"{lost} of {len(missing)} prompts were not stored.")
    return stored, wanted.keys() - known


Written = dict[tuple[int, int, str], int]  # (prompt, policy, text) -> completion


def _write_completions(
    prompts: Mapping[str, Prompt], policies: Mapping[str, Policy], pairs: list[Item]
) -> Written:
    wanted: dict[tuple[int, int, str], None] = {}
    for item in pairs:
        for name, text in zip(item.policies, item.completions or (), strict=True):
            wanted[prompts[prompt_digest(item.prompt)].pk, policies[name].pk, text] = None
    known = Completion.objects.filter(
        prompt__in={prompt for prompt, _policy, _text in wanted},
        policy__in=[one.pk for one in policies.values()],
    )
    written = {
        (row["prompt_id"], row["policy_id"], row["text"]): row["pk"]
        for row in known.values("pk", "prompt_id", "policy_id", "text")
    }
    missing = [key for key in wanted if key not in written]
    random.shuffle(missing)  # the order of ids must not tell who wrote what, or which side of gold is right
    rows = Completion.objects.bulk_create(
        Completion(prompt_id=prompt, policy_id=policy, text=text) for prompt, policy, text in missing
    )
    return written | {key: row.pk for key, row in zip(missing, rows, strict=True)}


def _write_comparisons(
    project: Project,
    prompts: Mapping[str, Prompt],
    written: Written,
    policies: Mapping[str, Policy],
    pairs: list[Item],
    *,
    batch: str,
) -> Counter[str]:
    wanted: dict[tuple[int, int], Comparison] = {}
    for item in pairs:
        prompt = prompts[prompt_digest(item.prompt)]
        first, second = (
            written[prompt.pk, policies[name].pk, text]
            for name, text in zip(item.policies, item.completions or (), strict=True)
        )
        gold = {"a": first, "b": second}[item.gold] if item.gold else None
        wanted.setdefault(
            (min(first, second), max(first, second)),
            Comparison(
                project=project,
                prompt=prompt,
                first_id=first,
                second_id=second,
                kind=Comparison.Kind.GOLD if gold else Comparison.Kind.STANDARD,
                gold_preferred_id=gold,
                needed=project.judgments_needed,
                batch=batch,
            ),
        )
    both = [*{key for keys in wanted for key in keys}]
    known = Comparison.objects.filter(first__in=both, second__in=both).values_list("first_id", "second_id")
    there = {(min(pair), max(pair)) for pair in known}
    missing = [comparison for key, comparison in wanted.items() if key not in there]
    Comparison.objects.bulk_create(missing)
    return Counter("gold" if comparison.kind == Comparison.Kind.GOLD else "pairs" for comparison in missing)
