"""What a round will do, decided and checked before it starts. Changes nothing."""

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Self

from django.conf import settings as site
from django.utils import timezone

from annotate.models import Policy, Project
from annotate.pairs.snapshots import PairSettings
from annotate.projects import base_models
from training.engine.config import LOSS_OPTIONS, LoraConfig, TrainConfig
from training.engine.errors import ConfigError

COUNTS = ("fresh_comparisons", "gate_comparisons")
# Options that a round fills in for itself, of config.json and of its `sampling`: among them all that name a file.
OF_THE_POLICY = ("base_model", "revision", "start_adapter")
DECIDED = ("samples_per_prompt", "policy", "reference")


class RoundError(Exception):
    """Something asked of a round cannot be done; nothing was changed. `field` names the setting at fault."""

    def __init__(self, message: str, field: str | None = None) -> None:
        super().__init__(message)
        self.message, self.field = message, field


@dataclass(frozen=True, kw_only=True)
class Plan:
    """Everything that is chosen for a round, as `Round.settings` keeps it.

    `config` holds the names that the database uses (the alias `starter`, an adapter below var/), so that a
    database can move between machines; `on_this_machine` turns them into paths.
    """

    config: TrainConfig
    pairs: PairSettings
    fresh_comparisons: int = 100
    gate_comparisons: int = 40

    @classmethod
    def for_project(cls, project: Project, policy: Policy, chosen: Mapping[str, Any]) -> Self:
        """The project's defaults for training `policy`, with what was `chosen` laid over them.

        `chosen` has any of the keys `training` (keys of config.json), `sampling` (keys of its `sampling`),
        `pairs` (fields of PairSettings), `fresh_comparisons` and `gate_comparisons`. Raises RoundError naming
        the field.
        """
        known = {"training", "sampling", "pairs", *COUNTS}
        for name in chosen:
            if name not in known:
                raise RoundError(f"Unknown setting {name}; a round has {', '.join(sorted(known))}.", name)
        # Two samples of a prompt that say the same make no comparison, and one long prompt must not end a round.
        sampling = {
            "distinct": True,
            "skip_long": True,
            **project.sampling_settings,
            **chosen.get("sampling", {}),
        }
        counts = {name: sampling.pop(name) for name in COUNTS if name in sampling}
        counts |= {name: chosen[name] for name in COUNTS if name in chosen}
        for name, value in counts.items():
            if isinstance(value, bool) or not isinstance(value, int) or not 0 <= value <= 100_000:
                raise RoundError(f"{name} must be a whole number from 0 to 100,000, not {value!r}.", name)
        from_policy = {
            "base_model": policy.base_model,
            "revision": policy.revision or None,
            "start_adapter": policy.adapter or None,
        }
        shape = adapter_shape(policy)
        training = merged(
            merged(project.training_settings, {"lora": shape} if shape else {}), chosen.get("training", {})
        )
        for given, decided in ((sampling, DECIDED), (training, OF_THE_POLICY)):
            for name in given.keys() & set(decided):
                raise RoundError(f"{name} is not chosen for a round: Whetstone decides it.", name)
        for name, has in shape.items():
            if training["lora"][name] != has:
                raise RoundError(
                    f"lora.{name}: the adapter of {policy.name} goes on being trained, and has {has}.",
                    f"lora.{name}",
                )
        try:
            # All that a round writes and trains on is told the same day, whenever its worker comes to it.
            today = {"template_date": timezone.now().date().isoformat()}
            config = TrainConfig.from_dict({**today, **training, **from_policy, "sampling": sampling})
            pairs = PairSettings(**chosen.get("pairs", {}))
        except ConfigError as error:
            raise RoundError(str(error), str(error).split(" ", 1)[0]) from error
        except TypeError as error:
            raise RoundError(f"pairs: {error}.", "pairs") from error
        except ValueError as error:
            raise RoundError(str(error), str(error).split(" ", 1)[0]) from error
        return cls(config=config, pairs=pairs, **counts)

    @property
    def margin_scale(self) -> float:
        """What a pair's strength is multiplied by for training: 0 where the loss knows no margins."""
        return self.pairs.margin_scale if "margin" in LOSS_OPTIONS[self.config.loss] else 0.0

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> Self:
        """The plan that `to_dict` wrote."""
        return cls(
            config=TrainConfig.from_dict(data["config"]),
            pairs=PairSettings(**data["pairs"]),
            **{name: data[name] for name in COUNTS},
        )

    def to_dict(self) -> dict[str, Any]:
        data = {"config": self.config.to_dict(), "pairs": asdict(self.pairs)}
        data |= {name: getattr(self, name) for name in COUNTS}
        return dict(json.loads(json.dumps(data)))  # tuples become lists, as they do in the database


def merged(base: Mapping[str, Any], over: Mapping[str, Any]) -> dict[str, Any]:
    """`base` with `over` laid over it; nested objects are merged too."""
    result = dict(base)
    for key, value in over.items():
        inner = result.get(key)
        both = isinstance(inner, Mapping) and isinstance(value, Mapping)
        result[key] = merged(inner, value) if both else value  # type: ignore[arg-type]
    return result


def adapter_shape(policy: Policy) -> dict[str, Any]:
    """The LoRA settings that a policy's adapter was made with, and that a round which starts from it keeps.

    Empty without an adapter, or where its configuration cannot be read (`check_policy` says so).
    """
    try:
        data = json.loads((Path(site.VAR) / policy.adapter / "adapter_config.json").read_text())
        shape = {"r": data["r"], "alpha": data["lora_alpha"]}
        if data["target_modules"]:  # which say of a mixture's experts what there is to say
            shape |= {"target_modules": data["target_modules"], "experts": LoraConfig().experts}
        return shape
    except (OSError, ValueError, KeyError, TypeError):
        return {}


def model_path(base_model: str) -> str:
    """Return the folder or hub id that the database's name for a base model stands for. Raises RoundError."""
    found = base_models.locate(base_model)
    if found is None:
        raise RoundError(base_models.refusal(base_model), "base_model")
    return found


def adapter_folder(adapter: str) -> Path:
    """Return the folder of a policy's adapter. Raises RoundError for a name that leads out of var/runs."""
    folder = Path(site.VAR) / adapter
    if ".." in folder.parts or not folder.resolve().is_relative_to(site.RUNS.resolve()):
        raise RoundError(f"Adapter: {adapter} does not lie below {site.RUNS}.", "start_adapter")
    return folder


def check_policy(policy: Policy | None) -> Policy:
    """Return the policy if a round can start from it. Raises RoundError saying what is missing."""
    if policy is None:
        raise RoundError(
            "The project has no current policy; choose a base model in its settings.", "base_model"
        )
    if policy.kind == Policy.Kind.EXTERNAL:
        raise RoundError(
            f"Policy {policy.name} is external: Whetstone has no weights of it to train.", "base_model"
        )
    model_path(policy.base_model)
    if policy.adapter and not adapter_folder(policy.adapter).is_dir():
        raise RoundError(
            f"Adapter: the folder {policy.adapter} of policy {policy.name} does not exist below {site.VAR}; "
            "share WHETSTONE_VAR/runs between web servers and workers.",
            "start_adapter",
        )
    return policy


def check_lengths(plan: Plan) -> None:
    """Refuse lengths that the base model cannot hold, where its limit can be read from its files."""
    limit = length_limit(plan.config.base_model)
    if limit is None:
        return
    longest, written = plan.config.max_length, plan.config.sampling.max_new_tokens
    if longest and longest > limit:
        raise RoundError(
            f"max_length: the base model takes at most {limit} tokens, not {longest}.", "max_length"
        )
    if written >= limit:
        raise RoundError(
            f"max_new_tokens: {written} tokens leave no room for a prompt in the model's {limit}.",
            "max_new_tokens",
        )


def length_limit(base_model: str) -> int | None:
    """The model's longest input in tokens, from its config.json; None for a model that is not on this machine."""
    path = model_path(base_model)
    if not path.startswith("/"):  # a hub id is nothing to look for among this machine's files
        return None
    try:
        data = json.loads((Path(path) / "config.json").read_text())
    except (OSError, ValueError):
        return None
    if not isinstance(data, dict):
        return None
    limit = data.get("max_position_embeddings") or data.get("n_positions")
    return limit if isinstance(limit, int) else None
