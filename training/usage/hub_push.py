"""An adapter pushed to a hub as a model, as one commit. The token is used once, and kept nowhere."""

import tempfile
from pathlib import Path

from annotate.exports.hub import hub_errors
from annotate.models import Policy
from training.usage.packages import write_folder


def push(policy: Policy, repository: str, token: str, *, public: bool) -> str:
    """Push the adapter with its card. Return the address of the model. Raises HubError, or RefusalError.

    A new repository is private unless it is to be `public`. One that exists stays what it is.
    """
    from huggingface_hub import HfApi, constants  # noqa: PLC0415

    with tempfile.TemporaryDirectory(prefix="whetstone-push-") as name:
        write_folder(policy, Path(name))
        with hub_errors(repository, token):
            hub = HfApi(endpoint=constants.ENDPOINT, token=token)
            made = hub.create_repo(repository, repo_type="model", private=not public, exist_ok=True)
            hub.upload_folder(
                folder_path=name,
                repo_id=repository,
                repo_type="model",
                commit_message="Add an adapter with its model card",
            )
            return str(made)
