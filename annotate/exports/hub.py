"""A dataset pushed to a hub: the folder with its card, as one commit. The token is used once, and kept nowhere."""

import tempfile
from argparse import ArgumentParser
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

from django.utils.translation import gettext as _

from annotate.errors import RefusalError
from annotate.exports.bundle import folder, require_fit
from annotate.exports.formats import FORMATS
from annotate.exports.selection import Selection, Written
from primitives.text import printable


class HubError(RefusalError):
    """The hub refused the push, or could not be reached. The message says what to do."""


def push(selection: Selection, repository: str, token: str, *, public: bool) -> str:
    """Write the dataset folder of a selection and push it as one commit. Return the address of the dataset.

    A new repository is private unless it is to be `public`. One that exists stays what it is.
    """
    _require_token(token)
    # A dataset has a place for pairs that the format on the page leaves out.
    filters = replace(selection.filters, without=())
    chosen = replace(selection, format=FORMATS["datasets"], filters=filters, by_files=bool(selection.split))
    require_fit(chosen)
    with tempfile.TemporaryDirectory(prefix="whetstone-export-") as name:
        path = Path(name)
        write_folder(chosen, path)
        with hub_errors(repository, token):
            return _upload(path, repository, token, public)


def add_visibility(parser: ArgumentParser) -> None:
    """Add the options of a command that pushes: a new repository is private unless `public`."""
    parser.add_argument("--public", action="store_true", help="of a push: let everybody see a new repository")
    parser.add_argument(
        "--private", dest="public", action="store_false", default=False, help="keep it private (default)"
    )


@contextmanager
def hub_errors(repository: str, token: str) -> Iterator[None]:
    """Raise HubError, with a sentence for the user, for what goes wrong with a hub inside."""
    from huggingface_hub.errors import HfHubHTTPError, HFValidationError, HTTPError  # type: ignore[attr-defined]

    _require_token(token)
    try:
        yield
    except HFValidationError as error:
        sentence = _("“%(name)s” is not a name of a repository: write OWNER/NAME.")
        raise HubError(sentence % {"name": printable(repository)}, "repository") from error
    except HfHubHTTPError as error:
        raise _refusal(error, repository) from error
    except (HTTPError, OSError) as error:
        raise HubError(_("The hub could not be reached: %(why)s.") % {"why": _reason(error)}) from error


def _require_token(token: str) -> None:
    if not token:
        raise HubError(_("Give a token of the hub that may write to this repository."), "token")


def write_folder(selection: Selection, path: Path) -> Written:
    """Write the files of a selection below a folder, and return how many records each holds."""
    written = Written()
    for name, chunks in folder(selection, written):
        place = path / name
        place.parent.mkdir(parents=True, exist_ok=True)
        with place.open("wb") as file:
            file.writelines(chunks)
    return written


def _upload(path: Path, repository: str, token: str, public: bool) -> str:
    from huggingface_hub import HfApi, constants

    hub = HfApi(endpoint=constants.ENDPOINT, token=token)
    made = hub.create_repo(repository, repo_type="dataset", private=not public, exist_ok=True)
    hub.upload_folder(
        folder_path=str(path),
        repo_id=repository,
        repo_type="dataset",
        commit_message="Export preference pairs from Whetstone",
        delete_patterns="data/*",  # of an earlier push: a part that is gone must not stay
    )
    return str(made)


def _refusal(error: Any, repository: str) -> HubError:
    status = getattr(error.response, "status_code", None)
    name = printable(repository)
    if status == 401:
        return HubError(_("The hub does not know this token."), "token")
    if status == 403:
        return HubError(_("This token may not write to “%(name)s”.") % {"name": name}, "token")
    if status == 404:
        return HubError(
            _("The hub has no “%(name)s” that this token may see.") % {"name": name}, "repository"
        )
    why = printable(str(getattr(error, "server_message", "") or ""), 200)
    sentence = _("The hub refused the push with the status %(status)s. %(why)s")
    return HubError((sentence % {"status": status, "why": why}).strip())


def _reason(error: Exception) -> str:
    return printable(str(error), 200) or type(error).__name__
