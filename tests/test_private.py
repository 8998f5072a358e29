"""Files of a site are for its own account alone, and no cache keeps its answers."""

import os
import stat
import subprocess
import sys
from pathlib import Path

import pytest
from django.conf import settings

from config.headers import write_policy

pytestmark = pytest.mark.once  # nothing here asks the database anything of its own


def modes(folder: Path) -> dict[str, str]:
    return {path.name: stat.filemode(path.stat().st_mode) for path in [folder, *folder.iterdir()]}


def test_no_other_account_reads_the_folder_of_a_site(tmp_path: Path) -> None:
    var = tmp_path / "var"
    var.mkdir(mode=0o755)  # as an earlier version left it
    environment = {k: v for k, v in os.environ.items() if k not in ("DATABASE_URL", "DJANGO_SETTINGS_MODULE")}
    subprocess.run(
        [sys.executable, "manage.py", "migrate", "annotate", "0001", "-v0"],
        check=True,
        cwd=settings.BASE_DIR,
        env=environment | {"WHETSTONE_VAR": str(var)},
        umask=0o022,
    )
    found = modes(var)
    assert found.pop("var") == "drwx------"
    assert {"db.sqlite3", "secret_key"} <= found.keys()
    assert all(mode.endswith("------") for mode in found.values())


@pytest.mark.parametrize("address", ["/", "/login/", "/nowhere/", "/p/reviews/members/", "/api/v1/projects/"])
def test_every_answer_has_a_policy_and_stays_out_of_caches(owner, client_for, address) -> None:
    for client in (client_for(), client_for(owner)):
        answer = client.get(address)
        assert answer["Content-Security-Policy"] == write_policy()
        assert "no-store" in answer["Cache-Control"]


def test_an_unknown_host_is_answered_with_the_policy_too(client) -> None:
    answer = client.get("/", headers={"host": "evil.example"})
    assert answer.status_code == 400
    assert answer["Content-Security-Policy"] == write_policy()


@pytest.mark.parametrize(
    "next_", ["abc", "home", "//evil.example", "https://evil.example/", "/\\evil.example", ""]
)
def test_the_theme_leads_back_to_a_page_of_this_site(db, client, next_) -> None:
    answer = client.post("/theme/", {"next": next_})
    assert (answer.status_code, answer.url) == (302, "/")


def test_the_theme_leads_back_to_the_page_it_was_on(db, client) -> None:
    assert client.post("/theme/", {"next": "/p/reviews/?q=1"}).url == "/p/reviews/?q=1"
