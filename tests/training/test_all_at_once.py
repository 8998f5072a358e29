"""Annotators, admins and commands at the same moment, at random: no verdict is lost, doubled or attributed wrongly."""

import io
import random
import threading
import traceback
import uuid
from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest
from django.core.files.base import ContentFile
from django.db import connection
from django.http import Http404
from django.utils import timezone

from annotate.errors import RefusalError
from annotate.exports import jobs
from annotate.forms.exports import ExportForm, read_selection
from annotate.imports import uploads, writing
from annotate.imports.files import reception
from annotate.imports.records import Item, PairOpinion
from annotate.judgments import drafts, judging, places, revising, undoing
from annotate.judgments.verdicts import Verdict
from annotate.models import Comparison, Export, Import, Judgment, Project, Prompt, User
from annotate.pairs.snapshots import take_snapshot
from annotate.projects import gold, lifecycle, prompts, withdrawals
from annotate.queueing import queue
from tests.annotate.invariants import broken_rules
from training.models import Round
from training.provenance import archiving, forgetting
from training.provenance.consequences import import_target, person_targets, prompt_target
from training.rounds import state_machine

pytestmark = [pytest.mark.chaos, pytest.mark.django_db(transaction=True)]

ACTS = 250  # of each annotator
SECONDS = 150  # for all of them
PEOPLE = ("anna", "bela", "cleo")
EXTERNAL = ("rater 1", "rater 2")


def tell(judgment: Judgment) -> tuple[int, int, str, int | None]:
    return judgment.comparison_id, judgment.annotator_id, judgment.verdict, judgment.preferred_id


class Crowd:
    """Threads that act on one project, and what each of them was told."""

    def __init__(self, project: Project, owner: User, people: list[User]) -> None:
        self.project, self.owner, self.people = project, owner, people
        self.told: dict[uuid.UUID, tuple[int, int, str, int | None]] = {}  # by token
        self.faults: list[str] = []
        self.over, self.acts = threading.Event(), 0

    def run(self) -> None:
        minds = [threading.Thread(target=self.judge, args=(one, n)) for n, one in enumerate(self.people * 2)]
        hands = [threading.Thread(target=self.administer, args=(n,)) for n in range(3)]
        for thread in minds + hands:
            thread.start()
        for thread in minds:
            thread.join(SECONDS)
        self.over.set()
        for thread in minds + hands:
            thread.join(60)
            assert not thread.is_alive(), "A thread waits for ever."

    def act(self, act: Callable[[], Any]) -> Any:
        try:
            self.acts += 1
            return act()
        except (RefusalError, Http404, Comparison.DoesNotExist):
            return None
        except Exception:  # noqa: BLE001 - whatever it is, it is told in the end
            self.faults.append(traceback.format_exc())
            return None

    # --- An annotator, with two tabs ---

    def judge(self, person: User, seed: int) -> None:
        chance = random.Random(seed)
        try:
            for _ in range(ACTS):
                if self.over.is_set():
                    return
                project = Project.objects.get(pk=self.project.pk)
                chance.choices(
                    [self.send, self.send_twice, self.undo, self.redo, self.revise, self.look_away],
                    [10, 3, 3, 2, 3, 1],
                )[0](project, person, chance)
        finally:
            connection.close()

    def verdict(self, chance: random.Random, claim: Any) -> Verdict:
        side = chance.choice([claim.left_id, claim.right_id])
        return chance.choice(
            [Verdict("prefer", side, chance.randint(1, 3), rationale="so"), Verdict("tie"), Verdict("skip")]
        )

    def note(self, judgment: Judgment | None) -> None:
        if judgment is not None:
            self.told[judgment.token] = tell(judgment)

    def send(self, project: Project, person: User, chance: random.Random) -> None:
        claim = self.act(lambda: queue.claim(project, person))
        if claim is not None:
            said = self.verdict(chance, claim)
            self.act(lambda: drafts.save_draft(project, person, claim.token, {"rationale": "so far"}))
            turn = self.act(lambda: judging.judge_and_next(project, person, claim.token, said, seconds=2.0))
            self.note(turn and turn.judgment)

    def send_twice(self, project: Project, person: User, chance: random.Random) -> None:
        claim = self.act(lambda: queue.claim(project, person))
        if claim is not None:
            for said in (self.verdict(chance, claim), self.verdict(chance, claim)):
                self.note(self.act(lambda said=said: judging.record(project, person, claim.token, said)))

    def undo(self, project: Project, person: User, _chance: random.Random) -> None:
        self.act(lambda: undoing.undo(project, person))

    def redo(self, project: Project, person: User, _chance: random.Random) -> None:
        self.note(self.act(lambda: undoing.redo(project, person)))

    def revise(self, project: Project, person: User, chance: random.Random) -> None:
        mine = Judgment.objects.current().filter(project=project, annotator=person)
        found = mine.order_by("?").first()
        if found is not None:
            said = self.verdict(chance, found)
            self.note(self.act(lambda: revising.revise(project, person, found.pk, said)))

    def look_away(self, project: Project, person: User, _chance: random.Random) -> None:
        self.act(lambda: queue.leave(project, person))

    # --- An admin, a worker and a command ---

    def administer(self, seed: int) -> None:
        chance = random.Random(100 + seed)
        acts = [
            self.withdraw, self.put_back, self.make_gold, self.end_gold, self.bring_in, self.bring_in_file,
            self.withdraw_import, self.ask_people, self.freeze, self.archive, self.need, self.expire, self.export,
            self.forget_import, self.forget_prompt, self.forget_external, self.hold_out, self.again, self.round,
            self.whole,
        ]  # fmt: skip
        try:
            while not self.over.is_set():
                act = chance.choice(acts)
                project = Project.objects.get(pk=self.project.pk)
                self.act(lambda act=act, project=project: act(project, chance))
        finally:
            connection.close()

    def pick(self, project: Project) -> Comparison:
        return Comparison.objects.filter(project=project).order_by("?")[:1].get()

    def withdraw(self, project: Project, _chance: random.Random) -> None:
        withdrawals.withdraw(self.pick(project), self.owner)

    def put_back(self, project: Project, _chance: random.Random) -> None:
        for one in Comparison.objects.filter(project=project).exclude(withdrawn_at=None):
            withdrawals.put_back(one, self.owner)

    def make_gold(self, project: Project, _chance: random.Random) -> None:
        one = self.pick(project)
        gold.set_gold(project, self.owner, one.pk, one.first_id)

    def end_gold(self, project: Project, _chance: random.Random) -> None:
        for one in Comparison.objects.filter(project=project, kind="gold"):
            gold.set_gold(project, self.owner, one.pk, None)

    def items(self, chance: random.Random) -> list[Item]:
        return [
            Item(
                f"Imported {number}",
                completions=(f"one {number}", f"two {number}"),
                opinions=tuple(
                    PairOpinion(who, "prefer", chance.randint(0, 1), 2)
                    for who in chance.choices(EXTERNAL, k=2)
                )[: 1 + (chance.random() < 0.5)],
            )
            for number in chance.sample(range(20), 4)
        ]

    def bring_in(self, project: Project, chance: random.Random) -> None:
        writing.write(project, enumerate(self.items(chance)), batch="api", update=chance.random() < 0.5)

    def bring_in_file(self, project: Project, chance: random.Random) -> None:
        lines = "".join(
            f'{{"prompt": "Imported {n}", "completion_a": "one {n}", "completion_b": "two {n}", "verdict": "a"}}\n'
            for n in chance.sample(range(40), 5)
        )
        upload = reception.receive(project, self.owner, ContentFile(lines.encode(), "rows.jsonl"))
        checked = uploads.work(upload.pk, 1)
        assert checked.state == "ready", (checked.state, checked.errors)
        uploads.start(upload)
        done = uploads.work(upload.pk, 1)
        assert done.state == "done", (done.state, done.errors)

    def withdraw_import(self, project: Project, _chance: random.Random) -> None:
        if (upload := Import.objects.filter(project=project).order_by("?").first()) is not None:
            uploads.withdraw(upload, self.owner)

    def ask_people(self, project: Project, chance: random.Random) -> None:
        (places.ask_people if chance.random() < 0.5 else places.ask_no_more)(project)

    def freeze(self, project: Project, _chance: random.Random) -> None:
        take_snapshot(project, self.owner)

    def archive(self, project: Project, _chance: random.Random) -> None:
        lifecycle.archive(project)
        lifecycle.restore(project)

    def need(self, project: Project, chance: random.Random) -> None:
        lifecycle.change_needed(project, chance.randint(1, 3))

    def expire(self, project: Project, _chance: random.Random) -> None:
        queue.expire_claims(project, now=timezone.now() + timedelta(hours=1))

    def export(self, project: Project, _chance: random.Random) -> None:
        form = ExportForm({"format": "judgments"}, project=project)
        assert form.is_valid(), form.errors
        job = jobs.request(form.selection(), self.owner, form.query(), lambda _pk: None)
        jobs.write(str(job.pk), read_selection)
        assert Export.objects.filter(pk=job.pk, state__in=("failed", "queued", "running")).first() is None

    def forget_import(self, project: Project, _chance: random.Random) -> None:
        if (upload := Import.objects.filter(project=project).order_by("?").first()) is not None:
            forgetting.forget([import_target(upload)])

    def forget_prompt(self, project: Project, _chance: random.Random) -> None:
        found = Prompt.objects.filter(project=project, batch="api").order_by("?").first()
        if found is not None:
            forgetting.forget([prompt_target(found)])

    def forget_external(self, project: Project, _chance: random.Random) -> None:
        if (person := User.objects.filter(imported_into=project).order_by("?").first()) is not None:
            forgetting.forget(person_targets(person, None), account=person)

    def hold_out(self, project: Project, _chance: random.Random) -> None:
        prompts.hold_out_more(project, 1)

    def again(self, project: Project, _chance: random.Random) -> None:
        Comparison.objects.filter(project=project).set_aside().hand_out_again()

    def round(self, project: Project, _chance: random.Random) -> None:
        try:
            state_machine.start(project, self.owner)
        finally:
            for one in Round.objects.filter(project=project, state="queued"):
                state_machine.cancel(one)

    def whole(self, project: Project, _chance: random.Random) -> None:
        archiving.write_archive(project, io.BytesIO())


def test_no_verdict_is_lost_whatever_happens_at_once(
    project: Project, owner: User, make_member: Any, make_comparisons: Any
) -> None:
    Project.objects.update(gold_rate=0.1, repeat_rate=0.1, held_out_share=0.0, ask_rationale=True)
    make_comparisons(60, needed=2)
    people = [make_member(name, "annotator") for name in PEOPLE]
    crowd = Crowd(Project.objects.get(), owner, people)
    crowd.run()

    assert not crowd.faults, f"{len(crowd.faults)} faults:\n" + "\n".join(crowd.faults[:5])
    assert broken_rules(project) == []
    stored = {row.token: tell(row) for row in Judgment.objects.filter(annotator__in=people)}
    # The others were forgotten with an import or a prompt.
    there = set(Comparison.objects.values_list("pk", flat=True))
    told = {token: said for token, said in crowd.told.items() if said[0] in there}
    assert told == {token: stored.get(token) for token in told}
    assert Comparison.objects.filter(batch="").count() >= 60
    assert crowd.acts > 300
