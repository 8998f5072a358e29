"""The rows of training: rounds with their history and metrics, their files, workers, and policies in use.

The database holds the rules: one open round per project, one metric per step, one policy per round. Everything else
imports the models from here.
"""

from training.models.estimates import DryRun
from training.models.files import StoredFile
from training.models.rounds import Metric, Round, RoundEvent
from training.models.usage import Answer, Endpoint, MergedWeights, Trial
from training.models.workers import Sweep, Worker

__all__ = [
    "Answer",
    "DryRun",
    "Endpoint",
    "MergedWeights",
    "Metric",
    "Round",
    "RoundEvent",
    "StoredFile",
    "Sweep",
    "Trial",
    "Worker",
]
