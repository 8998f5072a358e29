"""`make screenshots`: a seeded instance, every page as the person it is for; PNG files in docs/screenshots/.

Each page is taken wide, on a phone and in the dark. The pictures are reduced to a palette, so that all of them
together stay below 5 MB.
"""

import io
import json
import os
import random
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path
from typing import Any

from PIL import Image
from playwright.sync_api import Browser, Page, sync_playwright

from docs.realistic import ROWS

ROOT = Path(__file__).resolve().parent.parent
FOLDER = ROOT / "docs" / "screenshots"
LIMIT = 5_000_000  # bytes of all pictures
COLORS = 64
TALLEST = 1700  # pixels; what is longer is cut off below
LOOKS: dict[str, dict[str, Any]] = {
    "": {"viewport": {"width": 1400, "height": 880}},
    "-phone": {"viewport": {"width": 390, "height": 844}, "has_touch": True, "is_mobile": True},
    "-dark": {"viewport": {"width": 1400, "height": 880}, "color_scheme": "dark"},
}

# Name, who looks at it (empty: not signed in), path. {} is filled with what the instance holds.
BEFORE = (
    ("login", "", "/login/"),
    ("rounds-none", "ada", "/p/{project}/rounds/"),
    ("judge", "ben", "/p/{project}/judge/"),
)
DURING = (("round-live", "ada", "/p/{project}/rounds/{second}/"),)
DECIDING = (("round-ready", "ada", "/p/{project}/rounds/{second}/"),)
AFTER = (
    ("home", "ada", "/"),
    ("project", "ada", "/p/{project}/"),
    ("project-annotator", "ben", "/p/{project}/"),
    ("guidelines", "ben", "/p/{project}/guidelines/"),
    ("history", "ben", "/p/{project}/history/"),
    ("judgment", "ben", "/p/{project}/history/{judgment}/"),
    ("me", "ben", "/p/{project}/me/"),
    ("keys", "ben", "/keys/"),
    ("rounds", "ada", "/p/{project}/rounds/"),
    ("round", "ada", "/p/{project}/rounds/{first}/"),
    ("gallery", "ada", "/p/{project}/rounds/{first}/gallery/"),
    ("policies", "ada", "/p/{project}/policies/"),
    ("policy", "ada", "/p/{project}/policies/{policy}/"),
    ("policy-try", "ada", "/p/{project}/policies/{policy}/try/"),
    ("policy-take", "ada", "/p/{project}/policies/{policy}/take/"),
    ("lineage", "ada", "/p/{project}/policies/{policy}/lineage/"),
    ("comparisons", "ada", "/p/{project}/comparisons/"),
    ("comparison", "ada", "/p/{project}/comparisons/{comparison}/"),
    ("shaped", "ada", "/p/{project}/comparisons/{comparison}/policies/"),
    ("prompt", "ada", "/p/{project}/prompts/{prompt}/"),
    ("flags", "ada", "/p/{project}/flags/"),
    ("quality", "ada", "/p/{project}/quality/"),
    ("members", "ada", "/p/{project}/members/"),
    ("settings", "ada", "/p/{project}/settings/"),
    ("import", "ada", "/p/{project}/import/"),
    ("import-checked", "ada", "/p/{project}/import/{upload}/"),
    ("import-partly-refused", "ada", "/p/{project}/import/{judged}/"),
    ("import-by-hand", "ada", "/p/{project}/import/{table}/"),
    ("new-project", "ada", "/new/"),
    ("snapshots", "rosa", "/p/{project}/snapshots/"),
    ("snapshot", "rosa", "/p/{project}/snapshots/{snapshot}/"),
    ("export", "rosa", "/p/{project}/export/"),
    ("export-split", "rosa", "/p/{project}/export/?format=datasets&test=10&validation=5&count=1"),
    ("tokens", "rosa", "/tokens/"),
    ("round-written", "ada", "/p/{project}/rounds/{third}/"),
    ("set-password", "", "{password}"),
    ("error", "ada", "/p/no-such-project/"),
)
# Instructions of the chat demo: the name of the picture of what the model writes for each, and its look.
CHATS = {
    "code-2": ("judge-smollm2-code", ""),
    "mathematics-1": ("judge-smollm2-mathematics", "-dark"),
    "language-1": ("judge-smollm2-arabic", "-phone"),
}
EXPECTED = {"error": 404}  # status of a page; others are 200


class Photographer:
    """One signed-in browser window per person and look."""

    def __init__(self, browser: Browser, address: str, logins: dict[str, str]) -> None:
        self.browser, self.address, self.logins = browser, address.rstrip("/"), logins
        self.pages: dict[tuple[str, str], Page] = {}
        self.problems: list[str] = []

    def page(self, person: str, look: str) -> Page:
        if (person, look) not in self.pages:
            page = self.browser.new_context(base_url=self.address, **LOOKS[look]).new_page()
            page.on("pageerror", lambda error: self.problems.append(str(error)))
            if person:
                page.goto("/login/")
                page.get_by_label("Username").fill(person)
                page.get_by_label("Password").fill(self.logins[person])
                page.get_by_role("button", name="Sign in").click()
                page.wait_for_url(lambda url: "/login/" not in url)
            self.pages[person, look] = page
        return self.pages[person, look]

    def take(self, name: str, person: str, path: str, looks: Iterable[str] = LOOKS) -> None:
        """Take a picture of one page in each look."""
        for look in looks:
            page = self.page(person, look)
            page.goto("about:blank")  # a page of a round that ends asks for itself again, at any moment
            answer = page.goto(path)
            if answer is None or answer.status != EXPECTED.get(name, 200):
                self.problems.append(f"{path}: status {answer.status if answer else 'none'}")
                continue
            page.wait_for_load_state("networkidle")
            self.save(page, name + look)
            width = page.evaluate("document.documentElement.scrollWidth - innerWidth")
            if width > 0:
                self.problems.append(f"{name}{look}: {width} pixels wider than the window")

    def save(self, page: Page, name: str) -> None:
        """Return the whole page, in a window that is as tall: what sticks to an edge then sticks where it belongs."""
        size = page.viewport_size
        assert size
        height = page.evaluate("document.documentElement.scrollHeight")
        if height > size["height"]:
            page.set_viewport_size({"width": size["width"], "height": min(height, TALLEST)})
        picture = Image.open(io.BytesIO(page.screenshot())).convert("RGB")
        page.set_viewport_size(size)
        picture.quantize(COLORS, dither=Image.Dither.NONE).save(FOLDER / f"{name}.png", optimize=True)
        print(f"  {name}.png", flush=True)


@contextmanager
def instance(var: Path) -> Iterator[str]:
    """Run a demo in `var`, and yield its address. This process uses the same database."""
    os.environ |= {"WHETSTONE_VAR": str(var), "DJANGO_SETTINGS_MODULE": "config.settings"}
    # Playwright's synchronous API runs an event loop in this thread.
    os.environ["DJANGO_ALLOW_ASYNC_UNSAFE"] = "1"
    for name in ("DATABASE_URL", "CELERY_BROKER_URL"):
        os.environ.pop(name, None)
    from tests.servers import free_port

    command = [sys.executable, "manage.py", "demo", "--port", str(free_port())]
    demo = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True)
    try:
        assert demo.stdout
        for line in demo.stdout:
            if "ready at " in line:
                yield line.split("ready at ")[1].strip()
                break
        else:
            sys.exit("The demo did not start.")
    finally:
        demo.terminate()
        demo.wait(60)


def upload_files(project: Any, ada: Any) -> dict[str, int]:
    """Check a file of judged pairs of which some rows are bad, and a table whose columns must be mapped."""
    from django.core.files.base import ContentFile

    from annotate.imports import uploads
    from annotate.imports.files import reception

    pairs = [
        {
            "prompt": f"Describe scene {number} of a film about the sea.",
            "chosen": f"Scene {number}: the keeper trims the wick, winds the clock and writes the log.",
            "rejected": "A man looks at the sea." if number % 9 else "",
        }
        for number in range(200)
    ]
    table = (
        "question;first;second;said\nWho keeps the light?;The keeper;The sea;0\nWhen?;At night;At noon;1\n"
    )
    lines = "".join(json.dumps(pair) + "\n" for pair in pairs)
    judged = reception.receive(project, ada, ContentFile(lines.encode(), "preferences.jsonl"))
    uploads.work(judged.pk, 60)
    return {
        "judged": judged.pk,
        "table": reception.receive(project, ada, ContentFile(table.encode(), "survey.csv")).pk,
    }


def upload(page: Page, slug: str) -> int:
    """Paste prompts to import, as an admin does; returns the number of the import, which was checked."""
    page.goto(f"/p/{slug}/import/")
    page.get_by_label("Or paste prompts").fill(
        "Here is a quiet film about a lighthouse that\nFor a debut this long,\n"
    )
    page.get_by_role("button", name="Check the file").click()
    page.get_by_text("Nothing has been changed yet.").wait_for()
    return int(page.url.rstrip("/").rpartition("/")[2])


def what_else_there_is(project: Any, ada: Any, ben: Any, first: Any) -> dict[str, Any]:
    """Return a round that only writes, an invitation, and what the other pages are about, by name."""
    from annotate.models import Membership
    from annotate.people import invitations, password_links
    from training.demo import loop
    from training.rounds import state_machine

    third = state_machine.write(project, ada, 12)
    loop.wait_for(third, lambda: None, print)
    admin = Membership.objects.get(project=project, user=ada)
    invited = invitations.make_account(admin, "dora", "annotator")
    return {
        "third": third.number,
        "snapshot": first.snapshot.digest,
        "judgment": ben.judgments.filter(project=project, verdict="prefer")[0].pk,
        "password": password_links.make_link(invited, admin),
    }


def let_members_read(project: Any) -> None:
    """Let the members have read the guidelines, and chosen no view of texts."""
    from annotate.models import Membership
    from annotate.people import reading

    version = reading.version_of(project.guidelines)
    Membership.objects.filter(project=project).update(guidelines_read=version, view="")


def take_keys(photographer: Photographer, desk: Page, slug: str) -> None:
    """Take what two keys of the desk open."""
    for key, name in (("?", "judge-keys"), ("d", "judge-differences")):
        desk.goto(f"/p/{slug}/judge/")
        desk.wait_for_load_state("networkidle")
        desk.keyboard.press(key)
        desk.wait_for_timeout(500)
        photographer.save(desk, name)


def take_chat(photographer: Photographer) -> None:
    """Take the desk with what a real chat model writes: code, mathematics and Arabic, drawn by fixed seeds."""
    from django.conf import settings

    from annotate.models import Claim, Comparison
    from annotate.projects import base_models
    from training.demo import chat, samples, seed, smollm2

    smollm2.install(base_models.smollm2_folder(), print)
    project = chat.make_project()
    seed.make_people(project)
    chat.add_instructions(project)
    prompts = project.prompts.filter(external_id__in=CHATS).order_by("pk")
    pairs = samples.sample_pairs(project.current_policy, prompts, settings.RUNS / "chat-pictures", say=print)
    seed.save_comparisons([seed.compare(project, pair) for pair in pairs])
    project.gold_rate = 0
    project.save(update_fields=["gold_rate"])
    let_members_read(project)
    for comparison in Comparison.objects.filter(project=project, prompt__in=prompts):
        Claim.objects.filter(project=project).delete()
        Comparison.objects.filter(project=project).update(priority=0)
        Comparison.objects.filter(pk=comparison.pk).update(priority=1)
        name, look = CHATS[comparison.prompt.external_id]
        photographer.take(name, "ben", f"/p/{project.slug}/judge/", [look])


def take_realistic(photographer: Photographer) -> None:
    """Take the desk with code, mathematics, tables, tools, reasoning and other scripts, in a project of their own."""
    from annotate.imports.files.whole import import_whole
    from annotate.models import Claim, Comparison, Project, User

    project = Project.objects.create(
        slug="assistant", name="An assistant", visible_metadata=["source", "reference"], held_out_share=0
    )
    for name, role in (("ada", "admin"), ("ben", "annotator")):
        project.memberships.create(user=User.objects.get(username=name), role=role)
    import_whole(project, io.BytesIO("".join(json.dumps(row) + "\n" for row in ROWS).encode()), "jsonl")
    for comparison in Comparison.objects.filter(project=project):
        Claim.objects.filter(project=project).delete()
        Comparison.objects.filter(project=project).update(priority=0)
        Comparison.objects.filter(pk=comparison.pk).update(priority=1)
        photographer.take(f"judge-{comparison.external_id}", "ben", f"/p/{project.slug}/judge/")


def work_some_days(project: Any, users: Iterable[Any]) -> list[Any]:
    """Let annotators judge on some days, so that pace and calendars have something to show. Return them."""
    from django.utils import timezone

    from training.demo import simulation

    people = [simulation.SimulatedAnnotator(user, random.Random(user.username)) for user in users]
    project.min_seconds = 0  # programs need no time to read
    project.save(update_fields=["min_seconds"])
    for days in (4, 3, 2, 1):
        for person in people:
            person.clock = timezone.now() - timedelta(days=days)
        simulation.judge(project, people, 40 - 2 * days)
    for person in people:
        person.clock = timezone.now() - timedelta(minutes=20)
    return people


def take_all(browser: Browser, address: str) -> list[str]:
    """All pictures, with work done between them; returns what was wrong with the pages."""
    import django

    django.setup()
    from annotate.models import Comparison, Flag, User
    from training.demo import loop, seed, simulation
    from training.rounds import deciding, state_machine
    from training.standings.gates import measure_gate

    photographer = Photographer(
        browser, address, {login.username: login.password for login in seed.stored_logins()}
    )
    project = seed.make_project()
    names: dict[str, Any] = {"project": project.slug}

    def take(shots: tuple[tuple[str, str, str], ...]) -> None:
        let_members_read(project)
        for name, person, path in shots:
            photographer.take(name, person, path.format(**names))

    take(BEFORE)
    desk = photographer.page("ben", "")
    take_keys(photographer, desk, project.slug)

    ada, ben, chloe = (User.objects.get(username=name) for name in ("ada", "ben", "chloe"))
    people = work_some_days(project, (ben, chloe))
    first = state_machine.start(project, ada)
    loop.wait_for(first, lambda: None, print)
    simulation.decide(first, people, ada)
    simulation.judge(project, people, 80)
    flagged = Comparison.objects.filter(project=project, judged__gte=1).order_by("pk")[3]
    Flag.objects.create(
        comparison=flagged, annotator=ben, note="Both say the same thing in the last sentence."
    )
    project.refresh_from_db()
    second = state_machine.start(project, ada)
    names |= {"first": first.number, "second": second.number}
    names |= {"policy": first.result_policy_id, "comparison": flagged.pk, "prompt": flagged.prompt_id}
    while second.is_live and (second.phase != "training" or second.step < 8):
        desk.wait_for_timeout(100)
        second.refresh_from_db()
    take(DURING)
    loop.wait_for(second, lambda: None, print)
    judged = second.gate.filter(judged__gte=1)
    simulation.take_turns(project, people, lambda: judged.count() >= 25)
    take(DECIDING)
    (deciding.reject if measure_gate(second).verdict == "worse" else deciding.promote)(second, ada)
    project.refresh_from_db()
    names |= what_else_there_is(project, ada, ben, first)
    names |= upload_files(project, ada)
    names["upload"] = upload(photographer.page("ada", ""), project.slug)
    take(AFTER)
    take_realistic(photographer)
    take_chat(photographer)
    return photographer.problems


def main() -> None:
    chromium = os.environ.get("CHROMIUM") or shutil.which("chromium") or shutil.which("google-chrome")
    shutil.rmtree(FOLDER, ignore_errors=True)
    FOLDER.mkdir(parents=True)
    with (
        tempfile.TemporaryDirectory(prefix="whetstone-screenshots-") as var,
        instance(Path(var)) as address,
        sync_playwright() as playwright,
    ):
        browser = playwright.chromium.launch(executable_path=chromium, args=["--no-sandbox", "--disable-gpu"])
        problems = take_all(browser, address)
        browser.close()
    total = sum(picture.stat().st_size for picture in FOLDER.glob("*.png"))
    print(f"{len(list(FOLDER.glob('*.png')))} pictures, {total / 1e6:.1f} MB.")
    if total > LIMIT:
        problems.append(f"The pictures take {total / 1e6:.1f} MB, more than {LIMIT / 1e6:.0f}.")
    if problems:
        sys.exit("\n".join(problems))


if __name__ == "__main__":
    main()
