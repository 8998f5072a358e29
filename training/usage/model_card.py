"""The model card of a policy: how it was made, measured and licensed, from its round and the judgments behind it.

The text is English, like every card: it leaves the site.
"""

import enum
import json
import re
from collections.abc import Iterator, Sequence
from pathlib import Path

from django.conf import settings as site
from django.utils import timezone

from annotate.models import Policy, Project
from annotate.projects import base_models
from primitives.statistics import Estimate
from primitives.text import printable
from training.models import Round
from training.rounds import lineage
from training.rounds.plan import dotted
from training.standings.drift import measure_drift
from training.standings.gates import measure_gate
from training.standings.policies import measure_held_out
from training.standings.sides import measure_left
from training.usage.serving import base_name

LONGEST_README = 256 * 1024  # bytes of a base model's card
_LICENCE = re.compile(r"^license:\s*[\"']?([A-Za-z0-9][\w.+-]{0,59})[\"']?\s*$", re.M)


class Kind(enum.Enum):
    """The files that a card lies beside."""

    ADAPTER = "adapter"
    MERGED = "merged"


def write(policy: Policy, kind: Kind = Kind.ADAPTER, *, dtype: str = "", limits: Sequence[str] = ()) -> str:
    """Return the card as README.md, with the header that the hub reads.

    `dtype` is the precision of merged weights, and `limits` are further ones, of the files.
    """
    history = lineage.trace_back(policy)
    rounds = [one.round for one in history if one.round is not None]
    made = rounds[0] if rounds and rounds[0].result_policy_id == policy.pk else None
    sections = [
        _header(policy, kind, was_trained=bool(rounds)),
        f"# {_plain(policy.name)}\n\n{_summary(policy, made, kind)}{_precision(dtype)}",
        f"## How it was made\n\n{_making(policy, history)}",
        f"## Data\n\n{_data(rounds)}",
        f"## Measured\n\n{_measured(made)}",
        f"## Settings\n\n{_settings(made)}",
        f"## Use it\n\n{_use(policy, kind)}",
        "## Limits\n\n" + "\n- ".join([_LIMITS if rounds else _LIMITS_OF_OTHERS, *limits]),
        f"## Licence\n\n{_licence(policy)}",
        f"## How to cite\n\n{_citation(policy, rounds)}",
    ]
    return "\n\n".join(sections) + "\n"


def base_licence(base_model: str) -> str:
    """Return the licence that a base model's own card names, or ""."""
    if base_model == base_models.STARTER:
        return "apache-2.0"  # Whetstone's own
    found = base_models.locate(base_model)
    for folder in _base_folders(found) if found else ():
        try:
            with (folder / "README.md").open("rb") as file:
                head = file.read(LONGEST_README).decode(errors="replace")
        except OSError:
            continue
        parts = head.split("\n---", 1)
        if head.startswith("---") and (named := _LICENCE.search(parts[0])):
            return named[1]
    return ""


def _base_folders(found: str) -> Iterator[Path]:
    if found.startswith("/"):
        yield Path(found) if Path(found).is_dir() else Path(found).parent
        return
    cached = site.HUB_CACHE / f"models--{'--'.join(found.split('/')[:2])}" / "snapshots"
    if cached.is_dir():
        yield from sorted(cached.iterdir(), reverse=True)


# --- The parts ---------------------------------------------------------------------------------------------------


def _header(policy: Policy, kind: Kind, *, was_trained: bool) -> str:
    licence, base = base_licence(policy.base_model), base_name(policy)
    is_on_hub = "/" in base
    tags = ["dpo", "preference", "human-feedback", "whetstone"] if was_trained else []
    tags += ["lora"] if kind is Kind.ADAPTER else []
    lines = [
        "---",
        *([f"license: {json.dumps(licence)}"] if licence else []),
        *([f"base_model: {json.dumps(base)}"] if is_on_hub else []),
        *(
            [f"base_model_relation: {kind.value if kind is Kind.ADAPTER else 'finetune'}"]
            if is_on_hub
            else []
        ),
        f"library_name: {'peft' if kind is Kind.ADAPTER else 'transformers'}",
        "pipeline_tag: text-generation",
        *(["tags:"] if tags else []),
        *(f"- {tag}" for tag in tags),
        "---",
    ]
    return "\n".join(lines)


def _summary(policy: Policy, made: Round | None, kind: Kind) -> str:
    what = "A LoRA adapter of" if kind is Kind.ADAPTER else "The merged weights of a LoRA adapter and"
    base = f"`{base_name(policy)}`" + (f" at revision `{policy.revision}`" if policy.revision else "")
    if made is None:
        return f"{what} {base}."
    return (
        f"{what} {base}, trained on the preferences of people by round {made.number} of a Whetstone project."
    )


def _precision(dtype: str) -> str:
    return f" The weights are in `{dtype}`." if dtype else ""


def _making(policy: Policy, history: list[lineage.Ancestor]) -> str:
    lines = []
    for one in reversed(history):
        name = f"**{_plain(one.policy.name)}**"
        if one.round is not None:
            loss = one.round.chosen("config").get("loss", "sigmoid")
            finished = one.round.finished_at
            day = f" on {finished:%Y-%m-%d}" if finished else ""
            lines.append(f"{name}: trained by round {one.round.number} with the loss `{loss}`{day}.")
        elif one.policy.origin:
            lines.append(
                f"{name}: made elsewhere, and brought in on {one.policy.created_at:%Y-%m-%d}. What it was trained on "
                "is not known here."
            )
        else:
            lines.append(f"{name}: the base model `{base_name(one.policy) or 'unknown'}`.")
    return "\n".join(f"{number}. {line}" for number, line in enumerate(lines, start=1))


def _data(rounds: list[Round]) -> str:
    """Return a table of the snapshots that were trained on, the last one first."""
    known = [round_ for round_ in rounds if round_.snapshot is not None]
    if not known:
        return "No preference data of this project was trained on."
    holdings = lineage.count_holdings(round_.snapshot_id for round_ in known if round_.snapshot_id)
    rows = [
        "| round | pairs trained on | judgments in the snapshot | annotators | snapshot (SHA-256) |",
        "| --- | --- | --- | --- | --- |",
    ]
    for round_ in known:
        held = holdings.get(round_.snapshot_id or 0, lineage.Holdings())
        trained = round_.report("train").get("pairs")
        pairs = trained if isinstance(trained, int) else held.pairs + held.ratings
        shown = f"{pairs:,}" + (", single ratings among them" if held.ratings else "")
        digest = round_.snapshot.digest if round_.snapshot else ""
        rows.append(f"| {round_.number} | {shown} | {held.judgments:,} | {held.annotators:,} | `{digest}` |")
    note = "Annotators compared two completions of a prompt, blind to which policy wrote them."
    forgotten = (
        " Some of these pairs were forgotten since, on request."
        if any(round_.holds_forgotten for round_ in known)
        else ""
    )
    return "\n".join([*rows, "", note + forgotten])


def _measured(made: Round | None) -> str:
    if made is None:
        return "Nothing was measured here."
    gate = measure_gate(made)
    held_out = measure_held_out(made)
    opponent = made.opponent or made.start_policy
    rows = []
    if gate.judged:
        rows.append(
            f"- Gate: {gate.wins:,} wins, {gate.draws:,} draws and {gate.losses:,} losses in {gate.judged:,} blind "
            f"comparisons with **{_plain(opponent.name)}**, on prompts that training never saw. "
            f"Win rate {_share(gate.win_rate)}."
        )
    else:
        rows.append("- Gate: no comparison with the policy before is judged.")
    if held_out is not None:
        rows.append(
            f"- Accuracy on held-out pairs: {_share(held_out.after)}, {100 * held_out.before:.1f} % before."
        )
    drift = measure_drift(made)
    if drift is not None and drift.kept.kl is not None:
        kl = drift.kept.kl
        scaled = (
            f" Its adapter was scaled to {drift.scale:.3g} of what was trained." if drift.scale < 1 else ""
        )
        rows.append(
            f"- KL from {_plain(drift.policies[0].name)}: {kl['value']:.2f} nats per completion (95 % interval "
            f"{kl['low']:.2f} to {kl['high']:.2f}, {drift.completions:,} completions). Mean length "
            f"{drift.kept.length:.1f} tokens, {drift.policies[0].length:.1f} before.{scaled}"
        )
    left = measure_left(made)
    if left.total:
        low, high = left.interval
        rows.append(
            f"- Side: the completion on the left was preferred in {100 * left.count / left.total:.1f} % of "
            f"{left.total:,} preferences on the round's comparisons (95 % interval {100 * low:.1f} to "
            f"{100 * high:.1f} %). Sides are drawn at random, so one half is no bias."
        )
    rows.append(f"- State of the round: {made.state}.")
    return "\n".join(rows)


def _settings(made: Round | None) -> str:
    if made is None:
        return "It was not trained here."
    hidden = ("base_model", "start_adapter", "revision")
    values = [
        (name, value)
        for name, value in dotted(made.settings)
        if name not in hidden and value not in (None, {}, []) and not name.startswith("sampling.")
    ]
    return "```json\n" + json.dumps(dict(values), indent=2, ensure_ascii=False) + "\n```"


def _use(policy: Policy, kind: Kind) -> str:
    base = base_name(policy)
    if kind is Kind.MERGED:
        code = (
            "from transformers import AutoModelForCausalLM, AutoTokenizer\n\n"
            'model = AutoModelForCausalLM.from_pretrained(".", dtype="auto")\n'
            'tokenizer = AutoTokenizer.from_pretrained(".")'
        )
    else:
        code = (
            "from peft import PeftModel\nfrom transformers import AutoModelForCausalLM, AutoTokenizer\n\n"
            f'base = AutoModelForCausalLM.from_pretrained("{base}", dtype="auto")\n'
            'model = PeftModel.from_pretrained(base, ".")\n'
            f'tokenizer = AutoTokenizer.from_pretrained("{base}")'
        )
    place = _PLACES.get(base, "") if kind is Kind.ADAPTER else ""
    note = f"\n\n`{base}` is the folder {place}." if place else ""
    return f"```python\n{code}\n```{note}"


# Of base models whose names only Whetstone knows.
_PLACES = {
    base_models.STARTER: "`training/starter` of Whetstone’s repository",
    base_models.SMOLLM2: (
        "`var/models/smollm2` that `make demo MODEL=smollm2` makes in Whetstone’s repository: SmolLM2-135M-Instruct, "
        "rounded to four bits"
    ),
}


_LIMITS_OF_OTHERS = """\
- It inherits what its base model knows, and what that gets wrong.
- It was made elsewhere. What it was tuned to is not known here."""
_LIMITS = """\
- It inherits what its base model knows, and what that gets wrong.
- It was tuned to the preferences of the annotators of one project, on the prompts of that project. Elsewhere it may be
  no better than its base model.
- A win rate says which of two completions annotators preferred. It does not say that a completion is right or safe."""


def _licence(policy: Policy) -> str:
    licence, of_data = base_licence(policy.base_model), policy.project.licence
    base = (
        f"The base model is under `{licence}`, which holds for what is made of it."
        if licence
        else "The licence of the base model is not known here. It holds for what is made of it: look it up."
    )
    data = f" The preference data is under `{of_data}`." if of_data else ""
    return base + data


def _citation(policy: Policy, rounds: list[Round]) -> str:
    project: Project = policy.project
    year = timezone.now().year
    title = f"{policy.name}, a policy of {project.name}"
    title = "".join(letter for letter in _plain(title) if letter not in "{}\\")
    digest = rounds[0].snapshot.digest if rounds and rounds[0].snapshot else ""
    note = f"Trained with Whetstone. Snapshot {digest}" if digest else "Trained with Whetstone"
    fields = {"title": title, "year": year, **({"note": note} if rounds else {})}
    lines = ",\n".join(f"  {name} = {{{value}}}" for name, value in fields.items())
    return f"```bibtex\n@misc{{{project.slug}-{policy.pk}-{year},\n{lines}\n}}\n```"


def _plain(text: str) -> str:
    """Return a name without what Markdown would read as markup."""
    return re.sub(r"([\\`*_{}\[\]<>#|])", r"\\\1", printable(text, 200))


def _share(estimate: Estimate | None) -> str:
    if estimate is None:
        return "not measured"
    low, high = 100 * estimate.low, 100 * estimate.high
    return f"{100 * estimate.value:.1f} % ({low:.1f} to {high:.1f} %)"
