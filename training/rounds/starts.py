"""The policies that a round can start from, and the places of their models and adapters."""

from dataclasses import replace
from pathlib import Path
from typing import Any

from django.conf import settings as site
from django.utils.translation import gettext as _

from annotate.errors import RefusalError
from annotate.models import Policy, Project
from annotate.projects import base_models
from training.endpoints.addresses import find_place
from training.engine.config import LoraConfig, TrainConfig
from training.engine.errors import ConfigError
from training.recipes.sizes import context_length
from training.rounds.lineage import find_base
from training.storage.folders import Folder


class RoundError(RefusalError):
    """A refusal of something asked of a round. Nothing was changed.

    `field` names the setting at fault, if there is one. `str()` puts `separator` between it and the message. With None
    the message is a sentence of its own.
    """

    def __init__(self, message: str, field: str = "", *, separator: str | None = None) -> None:
        super().__init__(message, field)
        self.separator = separator

    def __str__(self) -> str:
        if not self.field or self.separator is None:
            return self.message
        return f"{self.field}{self.separator}{self.message}"


def as_round_error(error: ConfigError) -> RoundError:
    """Return what the engine says of a setting as a refusal of the round that has it."""
    return RoundError(error.message, error.option or "", separator=error.separator)


def check_policy(policy: Policy | None) -> Policy:
    """Return the policy if a round can start from it. Raises RoundError saying what is missing."""
    if policy is None:
        raise RoundError(
            _("The project has no current policy; choose a base model in its settings."), "base_model"
        )
    if policy.kind == Policy.Kind.EXTERNAL:
        message = _("Policy %(policy)s is external: Whetstone has no weights of it to train.")
        raise RoundError(message % {"policy": policy.name}, "base_model")
    model_path(policy.base_model)
    if policy.adapter and not adapter_folder(policy.adapter).exists():
        message = _(
            "Adapter: the folder %(adapter)s of policy %(policy)s does not exist below %(folder)s, nor in the storage; "
            "share WHETSTONE_VAR/runs between web servers and workers, or set WHETSTONE_STORAGE."
        )
        names = {"adapter": policy.adapter, "policy": policy.name, "folder": "var"}
        raise RoundError(message % names, "start_adapter")
    return policy


def check_not_archived(project: Project) -> None:
    """Refuse a project that hands nothing out. Raises RoundError."""
    if project.archived_at:
        raise RoundError(_("The project is archived; open it again in its settings first."))


def usual_start(project: Project) -> Policy:
    """Return the policy that rounds of a project train from unless another is chosen: its base policy, a fixed one.

    Raises RoundError as `check_policy` does.
    """
    current = project.current_policy
    return check_policy(current and find_base(current))


def named_start(project: Project, begin: Policy) -> Policy:
    """Return the policy of a project that a round is to start from. Raises RoundError, naming `start_from`."""
    found = project.policies.filter(pk=begin.pk).first()
    if found is None:
        raise RoundError(_("Choose a policy of this project to start from."), "start_from")
    try:
        return check_policy(found)
    except RoundError as error:
        raise RoundError(str(error), "start_from", separator=None) from error


def check_writer(policy: Policy | None) -> Policy:
    """Return the policy if it can write: one that a round can start from, or an endpoint. Raises RefusalError."""
    if policy is not None and is_endpoint(policy):
        find_place(policy.endpoint.url)
        return policy
    return check_policy(policy)


def check_opponent(policy: Policy, against: Policy | None) -> None:
    """Refuse a policy that cannot write the other side of comparisons with `policy`. Raises RefusalError."""
    if against is None:
        return
    if against.project_id != policy.project_id or against == policy:
        raise RoundError(_("Choose another policy of this project to compare with."), "against")
    check_writer(against)


def is_endpoint(policy: Policy) -> bool:
    """Return whether an endpoint writes as this policy."""
    return policy.kind == Policy.Kind.EXTERNAL and hasattr(policy, "endpoint")


def weights_of(policy: Policy) -> dict[str, Any]:
    """Return the options of config.json that a policy decides. An endpoint's model stands in for a base model."""
    return {
        "base_model": policy.base_model or policy.endpoint.model,
        "revision": policy.revision or None,
        "start_adapter": policy.adapter or None,
    }


def model_path(base_model: str) -> str:
    """Return the folder or hub id that the database's name for a base model stands for. Raises RoundError."""
    found = base_models.locate(base_model)
    if found is None:
        raise RoundError(base_models.explain_refusal(base_model), "base_model")
    return found


def length_limit(base_model: str) -> int | None:
    """Return the model's longest input in tokens, as its files tell; None for a model on another machine."""
    return context_length(model_path(base_model))


def adapter_folder(adapter: str) -> Folder:
    """Return the folder of a policy's adapter. Raises RoundError for a name that leads out of var/runs."""
    here = Path(site.VAR) / adapter
    if ".." in here.parts or not here.resolve().is_relative_to(site.RUNS.resolve()):
        message = _("Adapter: %(adapter)s does not lie below %(folder)s.")
        raise RoundError(message % {"adapter": adapter, "folder": "var/runs"}, "start_adapter")
    return Folder(adapter)


def adapter_shape(adapter: str) -> dict[str, Any]:
    """Return the LoRA settings of an adapter by its name in the database, which a round that starts from it keeps.

    Empty without an adapter, or where its configuration cannot be read (`check_policy` says so).
    """
    try:
        data = Folder(adapter).read_json("adapter_config.json")
        shape = {"r": data["r"], "alpha": data["lora_alpha"]}
        shape |= {"rslora": bool(data.get("use_rslora")), "dora": bool(data.get("use_dora"))}
        if data["target_modules"]:  # which say of a mixture's experts what there is to say
            shape |= {"target_modules": data["target_modules"], "experts": LoraConfig().experts}
        return shape
    except (ValueError, KeyError, TypeError):
        return {}


def named_adapters(config: TrainConfig) -> set[str]:
    """Return the adapters that training loads, by the database's names: that of its start, and of its reference."""
    others = {config.reference} - {"start", "base"}
    return others | ({config.start_adapter} if config.start_adapter else set())


def on_this_machine(config: TrainConfig) -> TrainConfig:
    """Return the configuration with paths in place of the database's names.

    They are checked once more: the site may allow other models now than when the round was planned. An adapter of the
    storage is fetched. Raises RoundError, and what `Folder.bring_here` raises.
    """
    if config.sampling.reference not in (None, "base", "start"):
        raise make_choice_error("reference")
    if config.reference not in ("start", "base") and not adapter_folder(config.reference).exists():
        message = _("The adapter %(adapter)s is neither on this machine nor in the storage.")
        raise RoundError(message % {"adapter": config.reference}, "reference", separator=": ")
    if config.probe is not None:
        raise make_choice_error("probe")
    places = {name: str(adapter_folder(name).bring_here()) for name in named_adapters(config)}
    return replace(
        config,
        base_model=model_path(config.base_model),
        start_adapter=places[config.start_adapter] if config.start_adapter else None,
        reference=places.get(config.reference, config.reference),
    )


def make_choice_error(name: str) -> RoundError:
    """Return the error of a setting that is not for a person to choose."""
    return RoundError(_("is not chosen for a round: Whetstone decides it."), name, separator=" ")
