"""Failures of endpoints, and the end of a request that is not wanted any more."""

from annotate.errors import RefusalError


class EndpointError(RefusalError):
    """A failure of the endpoint that holds for every prompt: its key, its model, its address."""


class PromptRefusedError(RefusalError):
    """A refusal of one prompt. Others may be written for."""


class StoppedError(Exception):
    """The end of a request that is not wanted any more."""
