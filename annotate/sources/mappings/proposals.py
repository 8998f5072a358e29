"""Mappings proposed for columns, from their names and the first values. A person decides."""

import re
from collections.abc import Iterable, Mapping, Sequence
from itertools import product
from typing import Any

from django.utils.translation import gettext as _

from annotate.sources.formats import fields
from annotate.sources.formats.signs import FOREIGN, FOREIGN_ANSWER, HINT, VERDICT
from annotate.sources.formats.verdicts import CALLED, LOSER, read_verdict
from annotate.sources.mappings.mapping import MISSING, OF_STRENGTH, PAIRS, ROLES, SAYINGS, find_value
from annotate.sources.messages import is_chat, is_message
from primitives.text import printable

# Of a file with one message of a conversation a row, such as Open-Assistant's.
OF_FLAT_MESSAGES = {"message_id", "parent_id", "role", "text"}
NAMES = {  # of columns, without signs and in small letters
    "prompt": "prompt instruction question query input context messages conversation text source post task",
    "system": "system systemprompt systemmessage",
    "completion_a": "completiona responsea answera outputa texta completion1 response1 answer1 output1 modela left",
    "completion_b": "completionb responseb answerb outputb textb completion2 response2 answer2 output2 modelb right",
    "chosen": "chosen preferred chosenresponse preferredoutput better win winner accepted responsechosen",
    "rejected": "rejected rejectedresponse nonpreferredoutput dispreferred worse lose loser responserejected",
    "verdict": "verdict preference preferred label winner choice vote better humanlabel judgment",
    "loser": "loser losingmodel losermodel worse worsemodel worst worstmodel rejectedmodel",
    "score_a": "scorea ratinga score1 rating1 scorechosen",
    "score_b": "scoreb ratingb score2 rating2 scorerejected",
    "strength": "strength margin",
    "rationale": "rationale reason explanation comment comments justification",
    "annotator": "annotator annotatorid worker workerid rater raterid user judge labeler evaluator",
    "policy_a": "policya modelaname model1 sourcea generatora",
    "policy_b": "policyb modelbname model2 sourceb generatorb",
    "id": "id uid uuid exampleid itemid index key promptid rowid",
}
# Policies only beside chosen and rejected completions. Beside A and B such columns are verdicts.
POLICIES_OF_CHOSEN = {
    "policy_a": "chosenmodel",
    "policy_b": "rejectedmodel",
}
WEAK = {"preferred", "better", "win", "winner"}  # may as well name a side
GOOD = ("chosen", "preferred", "better", "winning", "winner", "accepted")
BAD = ("rejected", "dispreferred", "nonpreferred", "worse", "losing", "loser")
TEXT = ("response", "answer", "output", "completion", "text", "reply", "summary")
MORE_NAMES = {
    "chosen": " ".join(f"{word}{text} {text}{word}" for word, text in product(GOOD, TEXT)),
    "rejected": " ".join(f"{word}{text} {text}{word}" for word, text in product(BAD, TEXT)),
    "prompt": "userinput inputtext userprompt dialog dialogue 问题 問題 提示 提示词 指令 输入 プロンプト 質問 指示 질문"
    " 프롬프트 frage aufgabe eingabe pregunta consigne instrucción domanda pergunta вопрос запрос",
    "rationale": "why 理由 原因 이유 grund begründung raison razón motivo причина",
    "annotator": "标注员 标注者 评价者 評価者 평가자 annotateur anotador bewerter аннотатор",
    "policy_a": "modela",
    "policy_b": "modelb",
}
ALL_NAMES = {role: f"{names} {MORE_NAMES.get(role, '')}".split() for role, names in NAMES.items()}
# Columns that differ in one place: “response_a” and “response_b”, “Antwort 1” and “Antwort 2”, “回答A” and “回答B”. The
# Chinese number one is written by its code, as it looks like a dash.
PLACE = re.compile(r"(?<![a-z])(?:[ab]|left|right)(?![a-z])|(?<![0-9])[0-2](?![0-9])|[\u4e00二]")
SIDES = ({"a", "b"}, {"1", "2"}, {"0", "1"}, {"left", "right"}, {"\u4e00", "二"})
AUTHORS = re.compile(r"model|policy|generator", re.IGNORECASE)
NO_COMPLETIONS = re.compile(
    rf"{AUTHORS.pattern}|prompt|question|feedback|label|comment|{VERDICT.pattern}", re.IGNORECASE
)
NO_PROMPT = re.compile(
    r"(?<![a-z])(response|answer|output|completion|generation|reply|reason|rationale|explanation|comment|feedback|reference)s?(?![a-z])"
    r"|timestamp|^time(?![a-z])|time[\W\d_]*$|(?<![a-z])date(?![a-z])|e-?mail",
    re.IGNORECASE,
)
# Names of columns that say which completion is worse, and of faults that the worse one has.
WORSE = re.compile(
    rf"{LOSER.pattern}|weak(er|est)|poor(er|est)|inferior|discard|\bremove|\bdrop\b|exclude"
    r"|[更较較最][差糟坏劣]|失[败敗]|[败敗]者|[輸输]家|[拒][绝絕]|不[好良]|悪い|劣|敗|나쁜|못한|열등|패자|패배"
    r"|schlecht|verlierer|unterlegen|abgelehnt|wenig(er|sten)|\bpires?\b|\bmoins\b|perdant|rejet|mauvais"
    r"|\bpeor\b|\bmenos\b|perdedor|rechaz|\bpior\b|rejeit|peggior|\bmeno\b|perdente|rifiut|scart|хуж|худш|менее|проигр"
    r"|отклон|gorsz|przegran",
    re.IGNORECASE,
)
LESS = re.compile(r"(?<![a-z])(less|least|fewer|fewest|not|never)(?![a-z])", re.IGNORECASE)
FAULTY = re.compile(
    r"harm(?!less)|toxic|unsafe|danger|offens|bias|error|mistake|hallucinat|problem|wrong|incorrect|inaccura|(?<![a-z])bad"
    r"|fault|flaw|violat|unhelpful|spam|refus",
    re.IGNORECASE,
)
# The columns of numbers of AlpacaEval and PandaLM, and what they are about.
COUNTING = {"preference": {"output_1", "output_2"}, "annotator1": {"response1", "response2"}}
NAMELESS = re.compile("column [0-9]+")  # as tables call a column without a name
VALUES = 20  # records that are looked at
SHORT, LONGEST = 60, 200  # characters of a verdict in words, and of the name of a column
Records = Sequence[Mapping[str, Any]]


def advise(columns: Iterable[str]) -> str:
    """Return what to do with records of which each is a part of what they say, or whose columns have no names.

    Otherwise it is an empty text.
    """
    known = set(columns)
    named = [name for name in known if not NAMELESS.fullmatch(name)]
    if 0 < 2 * len(named) < len(known):
        return _(
            "The first row names %(named)s of %(count)s columns. Delete the rows above the names of the columns."
        ) % {"named": len(named), "count": len(known)}
    if not known >= OF_FLAT_MESSAGES:
        return ""
    missing = "" if "message_tree_id" in known else _("The column message_tree_id is missing.") + " "
    return missing + _(
        "Each row is one message of a conversation, which names the one before it (parent_id). Such rows are joined "
        "where they are JSON Lines, JSON or Parquet, message_tree_id names their tree, and the rows of a tree follow "
        "each other. Otherwise import the file of whole trees. Open-Assistant has one beside each file of messages "
        "(“trees” in its name)."
    )


def warn(columns: Iterable[str]) -> str:
    """Return why a file whose numbers may mean the opposite is not read by itself, or an empty text."""
    known = list(columns)
    if strength := next((name for name in known if OF_STRENGTH.search(name)), ""):
        return _(
            "“%(column)s” may be how much better one completion is, and not which one. Where it says which, map it as "
            "the verdict, and say what its values mean."
        ) % {"column": printable(strength, 40)}
    counting = next((name for name, of in COUNTING.items() if {name, *of} <= {*known}), "")
    return counting and _(
        "Zeros and ones in “%(column)s” may count the completions from 0, or mean a tie and the first one. Find out "
        "what its values mean before you map it."
    ) % {"column": counting}


def propose(columns: Iterable[str], records: Records = ()) -> dict[str, str]:
    """Return roles with the columns that their names suggest. Empty for rows that `advise` warns of.

    Where records are given, a column whose values are names or sides is not proposed as one of completions.
    """
    known = list(columns)
    if advise(known):
        return {}
    known = [name for name in known if not _is_object(name, known)]
    plain = {_plain(name): name for name in reversed(known)}
    found = _find_completions(known, plain, records[:VALUES])
    for role, names in ALL_NAMES.items():
        if role in {*PAIRS[0], *PAIRS[1]}:
            continue
        if role in (*SAYINGS, "score_b") and "completion_a" not in found:
            continue  # the columns say already which one is better, or there are none
        more = [POLICIES_OF_CHOSEN.get(role, "")] if "chosen" in found else []
        named = [plain[name] for name in (*names, *more) if name in plain]
        named = [name for name in named if role != "id" or not _is_shared(name, records)]
        if role == "prompt" and "target" not in plain and not {*PAIRS[0], *PAIRS[1]} & found.keys():
            named = [name for name in named if not _names_source(name, records)]
        if column := next((name for name in named if name not in found.values()), ""):
            found[role] = column
    _keep_one_saying(found)
    if "completion_a" in found and not {*SAYINGS} & found.keys():
        found |= _find_verdict(known, found, records[:VALUES])
    if "prompt" not in found:
        found |= _find_prompt(known, found, records[:VALUES])
    return {role: found[role] for role in ROLES if role in found}


def _is_shared(column: str, records: Records) -> bool:
    """Return whether an id inside an object is that of something else, such as a model: several rows have it."""
    values = [str(value) for value in _values(column, records[:VALUES])]
    return "." in column and len(set(values)) < len(values)


def _names_source(column: str, records: Records) -> bool:
    """Return whether a “source” may be where rows are from, in a word, and no text to write from."""
    values = [str(value) for value in _values(column, records[:VALUES])]
    return _plain(column) == "source" and bool(values) and all(len(value.split()) == 1 for value in values)


def _plain(name: str) -> str:
    return re.sub(r"[\W_]", "", name.rpartition(".")[2].casefold())


def _is_object(name: str, known: Sequence[str]) -> bool:
    """Return whether a column holds objects or lists that are offered in parts, and are not messages."""
    parts = {other.removeprefix(f"{name}.") for other in known if other.startswith(f"{name}.")}
    return bool(parts) and not parts & {"role", "from"}


def _find_completions(known: Sequence[str], plain: Mapping[str, str], records: Records) -> dict[str, str]:
    """Return the columns of completions A and B, or of the chosen and the rejected one; of neither if none are."""
    sides, chosen = (
        {role: column for role in pair if (column := _find_texts(role, plain, records))} for pair in PAIRS[:2]
    )
    if len(sides) < len(PAIRS[0]):
        sides = _find_twins(known, records)
    is_weak = bool(sides) and _plain(chosen.get("chosen", "")) in WEAK and not records
    if len(chosen) == len(PAIRS[1]) and not is_weak and not _name_sides(chosen, sides, records):
        return chosen
    return sides


def _name_sides(chosen: Mapping[str, str], sides: Mapping[str, str], records: Records) -> bool:
    """Return whether short texts beside two completions are other texts than these: they may name who wrote them."""
    texts = [value for column in sides.values() for value in _values(column, records)]
    names = [value for column in chosen.values() for value in _values(column, records)]
    return bool(sides and names) and all(len(str(name)) <= SHORT and name not in texts for name in names)


def _find_texts(role: str, plain: Mapping[str, str], records: Records) -> str:
    """Return the column with a name of a completion, unless its values are names or sides."""
    named = [plain[name] for name in ALL_NAMES[role] if name in plain]
    return next((name for name in named if not _holds_names(name, records, is_chosen=role in PAIRS[1])), "")


def _holds_names(column: str, records: Records, *, is_chosen: bool) -> bool:
    """Return whether the values of a column only name what is elsewhere: “model_a”, and “winner” beside completions."""
    values = _values(column, records)
    are_words = bool(values) and all(
        isinstance(value, str) and (len(value.split()) < 2 or read_verdict(value) is not None)
        for value in values
    )
    is_always_same = len(values) > 1 and len({*map(str, values)}) == 1
    return are_words and (is_chosen or is_always_same or AUTHORS.search(column) is not None)


def _values(column: str, records: Records) -> list[Any]:
    found = [find_value(record, column) for record in records]
    return [value for value in found if value is not MISSING and value not in (None, "")]


def _find_twins(known: Sequence[str], records: Records) -> dict[str, str]:
    """Return the two columns of texts whose names differ in a letter, a number or a side, as A and B.

    Of several such twins, those that are called completions are meant. Nothing where that leaves several.
    """
    found: dict[str, dict[str, str]] = {}
    for name in known:
        if (
            len(name) > LONGEST
            or NO_COMPLETIONS.search(name)
            or (records and not _holds_texts(values := _values(name, records)))
            or (records and all(read_verdict(value) for value in values))
        ):
            continue
        plain = name.casefold()
        for match in PLACE.finditer(plain):
            stem = f"{plain[: match.start()]}#{plain[match.end() :]}"
            found.setdefault(stem, {})[match[0]] = name
    pairs = {stem: twins for stem, twins in found.items() if twins.keys() in SIDES}
    if called := {stem: twins for stem, twins in pairs.items() if _is_called(stem)}:
        pairs = called
    if len(pairs) != 1:
        return {}
    [twins] = pairs.values()
    return dict(zip(PAIRS[0], (twins[place] for place in sorted(twins)), strict=True))


def _is_called(stem: str) -> bool:
    """Return whether a name whose place is a # is that of completions."""
    words = [part.strip(" _-.") for part in stem.split("#")]
    return FOREIGN_ANSWER.search(stem) is not None or any(CALLED.fullmatch(word) for word in words)


def _holds_texts(values: Sequence[Any]) -> bool:
    """Return whether values are messages or texts, one of which at least is more than a word."""
    return all(isinstance(value, str | list) or is_message(value) for value in values) and any(
        not isinstance(value, str) or len(value.split()) > 1 or not value.isascii() for value in values
    )


def _keep_one_saying(found: dict[str, str]) -> None:
    """Drop all columns but one that say which completion is better: a mapping has one of them."""
    scores = {*PAIRS[2]}
    kept = next(
        (role for role in SAYINGS if role in found and (role not in scores or scores <= found.keys())), ""
    )
    for role in {*SAYINGS, "score_b"} - {kept, "score_b" if kept == "score_a" else ""}:
        found.pop(role, None)


def _find_verdict(known: Sequence[str], found: Mapping[str, str], records: Records) -> dict[str, str]:
    """Return the one other column that says which completion is better, by its values or by its name.

    One that names the worse completion is proposed as such, by its values alone.
    """
    others = [name for name in known if name not in found.values()]
    completions = [found[role] for role in PAIRS[0]]
    read = [
        name
        for name in others
        if (values := _values(name, records)) and all(read_verdict(value, completions) for value in values)
    ]
    named = [
        name
        for name in others
        if (VERDICT.search(name) or re.search(FOREIGN, name, re.IGNORECASE) or HINT.fullmatch(name))
        and _find_direction(name) == "verdict"
        and all(not isinstance(value, list | Mapping) for value in _values(name, records))
        and all(len(str(value)) <= SHORT for value in _values(name, records))
        and not (OF_STRENGTH.search(name) and all(map(fields.is_number, _values(name, records))))
    ]
    better = [name for name in read if _find_direction(name) == "verdict"]
    worse = [name for name in read if _find_direction(name) == "loser"]
    proposals = ((better, "verdict"), (named, "verdict"), (worse, "loser"))
    return next(({role: columns[0]} for columns, role in proposals if len(columns) == 1), {})


def _find_direction(name: str) -> str:
    """Return the role of a column that names one of two completions: the better, the worse, or neither for sure.

    “Less harmful” may be praise, so it has none.
    """
    is_less, is_faulty = LESS.search(name) is not None, FAULTY.search(name) is not None
    if is_less and is_faulty:
        return ""
    return "loser" if is_less or is_faulty or WORSE.search(name) else "verdict"


def _find_prompt(known: Sequence[str], found: Mapping[str, str], records: Records) -> dict[str, str]:
    """Return the first other column that holds messages, or texts of several words, and is called nothing else."""
    for name in known:
        if NO_PROMPT.search(name[:LONGEST].rpartition(".")[2]):
            continue
        values = _values(name, records) if name not in found.values() else []
        if _holds_texts(values) and all(isinstance(value, str) or is_chat(value) for value in values):
            return {"prompt": name}
    return {}
