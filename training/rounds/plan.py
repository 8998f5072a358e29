"""The plan of a round: its settings, checked before it starts. Changes nothing.

Settings travel one way, and each conversion is here:

- `nested` makes `chosen` of a form's fields by dotted name;
- `Plan.for_project` lays `chosen` over the project's defaults;
- `Plan.to_dict` makes the JSON of `Round.settings`, and `Plan.from_dict` reads it again;
- `dotted` gives that JSON by dotted name, for a page or a form.
"""

import json
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, field, fields, replace
from typing import Any, Self

from django.db.models import Q
from django.utils import timezone
from django.utils.translation import gettext as _

from annotate.models import Policy, Project
from annotate.pairs.settings import PairSettings, PairSettingsError
from annotate.projects import base_models
from training.engine.config import LOSS_OPTIONS, OF_RATINGS, TrainConfig
from training.engine.errors import ConfigError
from training.recipes.recommendation import Recommendation, recommend_for
from training.rounds.choosing.settings import RANDOM, Choosing, ChoosingError
from training.rounds.starts import (
    RoundError,
    adapter_shape,
    as_round_error,
    check_policy,
    length_limit,
    make_choice_error,
    model_path,
    weights_of,
)

COUNTS = ("fresh_comparisons", "gate_comparisons")
MOST_COMPARISONS = 100_000  # of one kind, in one round
PROCESSES = "processes"
MOST_PROCESSES = 99
CHAT_TOKENS = 512  # of a completion of a chat, at most, unless something else is chosen
# Options that fit the same result into a machine, by dotted name: they may change before a round is resumed.
RESUMABLE = (
    *("threads", "max_tokens", "packing", "gradient_checkpointing"),
    *("sampling.max_tokens", "sampling.batch_size"),
)
# An option that may be unset before a round is resumed whose trained policy cannot be scaled.
UNSETTABLE = "kl_budget"
# Options that a round fills in for itself, of config.json and of its `sampling`: among them all that name a file.
OF_THE_POLICY = ("base_model", "revision", "start_adapter", "probe")
DECIDED = ("samples_per_prompt", "policy", "reference")
# Two samples of a prompt that say the same make no comparison, and one long prompt must not end a round.
SAMPLING = {"distinct": True, "skip_long": True}


@dataclass(frozen=True, kw_only=True)
class Plan:
    """Everything that is chosen for a round, as `Round.settings` keeps it.

    `config` holds the names that the database uses (the alias `starter`, an adapter below var/), so that a
    database can move between machines. `starts.on_this_machine` turns them into paths.
    """

    config: TrainConfig
    pairs: PairSettings
    fresh_comparisons: int = 100
    gate_comparisons: int = 150  # at most: a gate stops by itself once it is decided
    choosing: Choosing = field(default_factory=Choosing)
    # That train side by side, one for each device; None: as its worker is set up.
    processes: int | None = None

    @classmethod
    def for_project(
        cls, project: Project, policy: Policy, chosen: Mapping[str, Any], *, trains: bool = True
    ) -> Self:
        """Return the project's defaults for training `policy`, with what was `chosen` laid over them.

        Without `trains` the policy only writes: the project's reference, of another model perhaps, has no part, and
        neither has its KL budget, which not every adapter can keep.

        `chosen` has any of the keys `training` (keys of config.json), `sampling` (keys of its `sampling`),
        `pairs` (fields of PairSettings), `choosing` (fields of Choosing), `fresh_comparisons`, `gate_comparisons` and
        `processes`. Raises RoundError naming the field.
        """
        _check_known(chosen)
        stored = TrainConfig.within_bounds({"sampling": project.sampling_settings})["sampling"]
        sampling = {
            **SAMPLING,
            **_chat_lengths(project, policy),
            **stored,
            **chosen.get("sampling", {}),
        }
        choosing = _choosing(sampling.pop("choosing", {}), chosen.get("choosing", {}))
        counts = {name: sampling.pop(name) for name in COUNTS if name in sampling}
        counts |= {name: chosen[name] for name in COUNTS if name in chosen}
        for name, value in counts.items():
            _check_count(name, value)
        processes = chosen.get(PROCESSES)
        _check_processes(processes)
        training = _training(project, policy, chosen.get("training", {}))
        if not trains:
            training |= {"reference": "start", "kl_budget": None}
        for given, decided in ((sampling, DECIDED), (training, OF_THE_POLICY)):
            for name in given.keys() & set(decided):
                raise make_choice_error(name)
        config, pairs = _config(policy, training, sampling), _pairs(chosen.get("pairs", {}))
        _check_scalable(config)
        _check_ratings(config, pairs)
        return cls(config=config, pairs=pairs, choosing=choosing, processes=processes, **counts)

    @classmethod
    def for_writing(
        cls,
        project: Project,
        policy: Policy,
        count: int,
        sampling: Mapping[str, Any] | None,
        choosing: Mapping[str, Any] | None,
    ) -> Self:
        """Return the project's defaults for a round in which `policy` only writes `count` comparisons."""
        counts = {"fresh_comparisons": count, "gate_comparisons": 0}
        chosen = {**counts, "sampling": sampling or {}, "choosing": choosing or {}}
        return cls.for_project(project, policy, chosen, trains=False)

    @property
    def margin_scale(self) -> float:
        """Return the factor on a pair's strength for training: 0 where the loss knows no margins."""
        return self.pairs.margin_scale if "margin" in LOSS_OPTIONS[self.config.loss] else 0.0

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> Self:
        """Return the plan that `to_dict` wrote. One from before there was a choice draws at random.

        Raises ConfigError for what an archive may bring in its place.
        """
        try:
            counts, processes = {name: data[name] for name in COUNTS}, data.get(PROCESSES)
            for name, value in counts.items():
                _check_count(name, value)
            _check_processes(processes)
            return cls(
                choosing=_choosing(data.get("choosing", {"by": RANDOM})),
                config=TrainConfig.from_stored(data["config"]),
                pairs=PairSettings(**data["pairs"]),
                processes=processes,
                **counts,
            )
        except RoundError as error:
            raise ConfigError(error.field, error.message, separator=error.separator) from error
        except PairSettingsError as error:
            raise ConfigError(f"pairs.{error.field}", error.message) from error
        except (KeyError, TypeError, AttributeError) as error:
            raise ConfigError(None, _("These settings are not those of a round.")) from error

    @classmethod
    def of_round(cls, settings: Mapping[str, Any]) -> Self:
        """Return the same for one who asks something of a round. Raises RoundError."""
        try:
            return cls.from_dict(settings)
        except ConfigError as error:
            raise as_round_error(error) from error

    def changed(self, changes: Mapping[str, Any]) -> Self:
        """Return the plan with `changes` by dotted name, of what its result does not depend on. Raises RoundError."""
        for name in changes:
            if name == UNSETTABLE:
                if changes[name] is not None:
                    raise RoundError(_("can only be unset when a round is resumed."), name, separator=" ")
            elif name not in RESUMABLE:
                message = _(
                    "cannot change when a round is resumed. Start a new round for that. What can: %(names)s."
                )
                raise RoundError(message % {"names": ", ".join(RESUMABLE)}, name, separator=" ")
        given = nested(changes)
        settings = merged(self.config.to_dict(), {**given["training"], "sampling": given["sampling"]})
        try:
            return replace(self, config=TrainConfig.from_dict(settings))
        except ConfigError as error:
            raise as_round_error(error) from error

    def to_dict(self) -> dict[str, Any]:
        """Return the plan as `Round.settings` keeps it."""
        data = {
            "config": self.config.to_dict(),
            "pairs": asdict(self.pairs),
            "choosing": asdict(self.choosing),
        }
        data |= {name: getattr(self, name) for name in (*COUNTS, PROCESSES)}
        return dict(json.loads(json.dumps(data)))  # tuples become lists, as they do in the database


def dotted(settings: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    """Yield settings as `Plan.to_dict` nests them by dotted name: `beta`, `lora.r`, `pairs.ties`."""
    for name, value in settings.items():
        if isinstance(value, dict) and value and name != "chat_template_kwargs":
            yield from dotted(value, "" if name == "config" else f"{prefix}{name}.")
        else:
            yield prefix + name, value


def nested(values: Mapping[str, Any]) -> dict[str, Any]:
    """Return settings by dotted name as `Plan.for_project` takes them."""
    chosen: dict[str, Any] = {"training": {}, "sampling": {}, "pairs": {}, "choosing": {}}
    for name, value in values.items():
        group, _dot, key = name.rpartition(".")
        if name in (*COUNTS, PROCESSES):
            chosen[name] = value
        elif group in ("sampling", "pairs", "choosing"):
            chosen[group][key] = value
        elif group:
            chosen["training"].setdefault(group, {})[key] = value
        else:
            chosen["training"][key] = value
    return chosen


# --- The parts of a plan -----------------------------------------------------------------------------------------


def _check_known(chosen: Mapping[str, Any]) -> None:
    known = {"training", "sampling", "pairs", "choosing", PROCESSES, *COUNTS}
    for name in chosen:
        if name not in known:
            sentence = _("Unknown setting %(name)s; a round has %(known)s.")
            raise RoundError(sentence % {"name": name, "known": ", ".join(sorted(known))}, name)


def _check_ratings(config: TrainConfig, pairs: PairSettings) -> None:
    """Refuse ratings that the loss cannot learn from. Raises RoundError."""
    if pairs.both_bad == "ratings" and config.loss not in OF_RATINGS:
        message = _("can only be taken as ratings by the loss %(losses)s.")
        raise RoundError(message % {"losses": ", ".join(OF_RATINGS)}, "pairs.both_bad", separator=" ")


def _check_count(name: str, value: Any) -> None:
    if isinstance(value, bool) or not isinstance(value, int) or not 0 <= value <= MOST_COMPARISONS:
        message = _("must be a whole number from 0 to %(most)s, not %(value)s.")
        most = f"{MOST_COMPARISONS:,}"
        raise RoundError(message % {"most": most, "value": repr(value)}, name, separator=" ")


def _check_processes(value: Any) -> None:
    is_count = isinstance(value, int) and not isinstance(value, bool) and 1 <= value <= MOST_PROCESSES
    if value is not None and not is_count:
        message = _("must be unset or a whole number from 1 to %(most)d, not %(value)s.")
        raise RoundError(message % {"most": MOST_PROCESSES, "value": repr(value)}, PROCESSES, separator=" ")


def _chat_lengths(project: Project, policy: Policy) -> dict[str, int]:
    """Return the longest completion of a project of chats, whose answers the engine's own default would cut."""
    content = project.prompts.values_list("content", flat=True).first()
    if not isinstance(content, list):
        return {}
    try:
        limit = length_limit(policy.base_model)
    except RoundError:  # of a model that is not there, which is said where it matters
        limit = None
    return {"max_new_tokens": min(CHAT_TOKENS, limit // 2) if limit else CHAT_TOKENS}


def recommendation_for(project: Project, policy: Policy, chosen: Mapping[str, Any]) -> Recommendation | None:
    """Return what is recommended for training `policy` now; None for what is not trained here, or a bad loss."""
    loss = merged(project.training_settings, chosen).get("loss", TrainConfig.loss)
    if not isinstance(loss, str) or loss not in LOSS_OPTIONS or policy.kind == Policy.Kind.EXTERNAL:
        return None
    try:
        return recommend_for(project, model_path(policy.base_model), loss)
    except RoundError:  # of a model that is not there, which is said where it matters
        return None


def _training(project: Project, policy: Policy, chosen: Mapping[str, Any]) -> dict[str, Any]:
    """Return what is recommended, with the project's settings, the adapter's shape and what was `chosen` over it."""
    shape = adapter_shape(policy.adapter)
    found = recommendation_for(project, policy, chosen)
    training = found.settings if found else {}
    for over in (
        TrainConfig.within_bounds(project.training_settings),
        {"lora": shape} if shape else {},
        chosen,
    ):
        training = merged(training, over)
    if "kl_budget" not in {*project.training_settings, *chosen} and not _can_keep_budget(training):
        training["kl_budget"] = None  # recommended, and not to be kept
    if shape:
        _check_shape(policy, shape, training["lora"])
    return training


def _can_keep_budget(training: Mapping[str, Any]) -> bool:
    """Return whether a policy that is trained so can be scaled down to a KL budget, as far as its settings tell."""
    lora = training.get("lora")
    has_magnitudes = isinstance(lora, Mapping) and bool(lora.get("dora"))
    is_measured = training.get("kl_samples") != 0
    return is_measured and not has_magnitudes and training.get("reference", "start") in ("start", "base")


def _check_shape(policy: Policy, shape: Mapping[str, Any], lora: Any) -> None:
    """Refuse settings of an adapter that goes on being trained which are not its own. Raises RoundError."""
    if not isinstance(lora, Mapping):
        raise RoundError(_("must be an object of settings."), "lora", separator=" ")
    for name, has in shape.items():
        if lora[name] != has:
            message = _("the adapter of %(policy)s goes on being trained, and has %(has)s.")
            raise RoundError(message % {"policy": policy.name, "has": has}, f"lora.{name}", separator=": ")


def _config(policy: Policy, training: Mapping[str, Any], sampling: Mapping[str, Any]) -> TrainConfig:
    of_policy = weights_of(policy)
    # All that a round writes and trains on is told the same day, whenever its worker comes to it.
    today = {"template_date": timezone.now().date().isoformat()}
    named = training.get("reference", "start")
    reference = {} if named in ("start", "base") else {"reference": _reference(policy, named)}
    try:
        return TrainConfig.from_dict({**today, **training, **reference, **of_policy, "sampling": sampling})
    except ConfigError as error:
        raise as_round_error(error) from error


def _reference(policy: Policy, named: Any) -> str:
    """Return the adapter of a policy of the project that is to be the reference, or "base". Raises RoundError.

    It is named, or known by its adapter as a form knows it.
    """
    known = policy.project.policies.exclude(kind=Policy.Kind.EXTERNAL)
    known = known.filter(base_model=policy.base_model, revision=policy.revision)
    found = (
        known.filter(Q(name=named) | Q(adapter=named)).first() if named and isinstance(named, str) else None
    )
    if found is None:
        message = _("must be start, base, or the name of a policy of this project with the same base model.")
        raise RoundError(message, "reference", separator=" ")
    return check_policy(found).adapter or "base"


def _check_scalable(config: TrainConfig) -> None:
    """Refuse a KL budget where the trained policy cannot be scaled towards its reference, before hours of training.

    What cannot be told from the files is seen when it is scaled. Raises RoundError.
    """
    if config.kl_budget is None or config.reference in ("start", "base"):
        return
    there = adapter_shape(config.reference)
    here = asdict(config.lora) | adapter_shape(config.start_adapter or "")
    for name in ("r", "alpha", "rslora", "dora", "target_modules"):
        one, other = _comparable(there.get(name)), _comparable(here[name])
        if one is not None and other is not None and one != other:
            sentence = _(
                "cannot be kept: the adapter of the reference has another %(name)s. Unset it, or choose another"
                " reference."
            )
            raise RoundError(sentence % {"name": f"lora.{name}"}, "kl_budget", separator=" ")


def _comparable(value: Any) -> Any:
    """Return a setting of an adapter's shape to compare it by; None for modules that only the model tells."""
    if isinstance(value, str) or (isinstance(value, list | tuple) and any("." in one for one in value)):
        return None
    return set(value) if isinstance(value, list | tuple) else value


def find_bad_default(training: Mapping[str, Any], sampling: Mapping[str, Any]) -> tuple[str, str] | None:
    """Return the field of a project whose defaults no round could take, and why; None if all is well."""
    for where, given, decided in (
        ("training_settings", training, (*OF_THE_POLICY, "sampling")),
        ("sampling_settings", sampling, DECIDED),
    ):
        for name in given.keys() & set(decided):
            return where, str(make_choice_error(name))
    try:
        for name in COUNTS:
            if name in sampling:
                _check_count(name, sampling[name])
        _choosing(sampling.get("choosing", {}))
        options = {name: value for name, value in sampling.items() if name not in (*COUNTS, "choosing")}
        TrainConfig.from_dict({"base_model": "-", **training, "sampling": options})
    except RoundError as error:
        return "sampling_settings", str(error)
    except ConfigError as error:
        of_sampling = (error.option or "").startswith("sampling")
        return ("sampling_settings" if of_sampling else "training_settings"), str(error)
    return None


def _pairs(chosen: Mapping[str, Any]) -> PairSettings:
    known = {one.name for one in fields(PairSettings)}
    for name in chosen:
        if name not in known:
            raise RoundError(_("Unknown setting %(name)s.") % {"name": f"pairs.{name}"}, f"pairs.{name}")
    if "include_untrainable" in chosen:
        raise make_choice_error("pairs.include_untrainable")
    try:
        return PairSettings(**chosen)
    except PairSettingsError as error:
        raise RoundError(error.message, f"pairs.{error.field}", separator=" ") from error
    except TypeError as error:
        raise RoundError(f"{error}.", "pairs", separator=": ") from error


def _choosing(*given: object) -> Choosing:
    try:
        return Choosing.from_settings(*given)
    except ChoosingError as error:
        name = f"choosing.{error.field}" if error.field else "choosing"
        raise RoundError(error.message, name, separator=" ") from error


def merged(base: Mapping[str, Any], over: Mapping[str, Any]) -> dict[str, Any]:
    """Return `base` with `over` laid over it. Nested objects are merged too."""
    result = dict(base)
    for key, value in over.items():
        inner = result.get(key)
        both = isinstance(inner, Mapping) and isinstance(value, Mapping)
        result[key] = merged(inner, value) if both else value  # type: ignore[arg-type]
    return result


def check_model(plan: Plan) -> None:
    """Refuse a base model whose files are not whole, and lengths that it cannot hold, as far as its files tell."""
    if problem := base_models.files_problem(plan.config.base_model):
        raise RoundError(problem, "base_model")
    limit = length_limit(plan.config.base_model)
    if limit is None:
        return
    longest, written = plan.config.max_length, plan.config.sampling.max_new_tokens
    if longest and longest > limit:
        message = _("the base model takes at most %(limit)d tokens, not %(longest)d.")
        raise RoundError(message % {"limit": limit, "longest": longest}, "max_length", separator=": ")
    if written >= limit:
        message = _("%(written)d tokens leave no room for a prompt in the model's %(limit)d.")
        raise RoundError(
            message % {"written": written, "limit": limit}, "sampling.max_new_tokens", separator=": "
        )
