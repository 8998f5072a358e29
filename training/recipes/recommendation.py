"""The recommendation for a project now."""

from dataclasses import dataclass
from typing import Any

from annotate.models import Comparison, Project
from training.recipes.sizes import model_size
from training.recipes.table import recommend

OF_PAIRS = (Comparison.Kind.STANDARD, Comparison.Kind.GATE)


@dataclass(frozen=True)
class Recommendation:
    """Keys of config.json, and what they are recommended for."""

    settings: dict[str, Any]
    pairs: int
    parameters: int | None


def recommend_for(project: Project, model: str, loss: str) -> Recommendation:
    """Return what is recommended for training a model, a path or a hub id, on the pairs that a project has now.

    They are counted as judged comparisons, which is a little more than the pairs that come of them.
    """
    judged = project.comparisons.filter(
        judged__gt=0, kind__in=OF_PAIRS, withdrawn_at=None, prompt__held_out=False
    )
    pairs, parameters = judged.count(), model_size(model)
    return Recommendation(recommend(parameters, pairs, loss), pairs, parameters)
