"""A site to attack: two projects with one of everything each, and the people who have no business there."""

from __future__ import annotations

import json
import uuid
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any

from django.conf import settings
from django.core.files.base import ContentFile
from django.test import Client
from django.utils import timezone

from annotate.imports.records import Item
from annotate.imports.writing import write
from annotate.judgments import drafts, judging
from annotate.models import (
    ApiToken,
    Comparison,
    Completion,
    Export,
    Import,
    Judgment,
    Membership,
    Policy,
    Project,
    Prompt,
    User,
    stored_aspects,
)
from annotate.pairs import snapshots
from annotate.people import invitations
from annotate.queueing import queue
from training.models import Answer, DryRun, MergedWeights, Round, Trial
from training.rounds import state_machine

ROLES = ("admin", "annotator", "researcher")
SLUGS = ("ours", "theirs")


@dataclass
class Tenant:
    """One project, and the values that its addresses are filled in with."""

    project: Project
    people: dict[str, User]
    values: dict[str, Any] = field(default_factory=dict)


@dataclass
class Site:
    ours: Tenant
    theirs: Tenant
    people: dict[str, User | None]
    tokens: dict[str, str]

    def tenants(self) -> tuple[Tenant, Tenant]:
        return self.ours, self.theirs

    def role(self, person: str, tenant: Tenant) -> str:
        """Return the person's role in a project; empty for none."""
        user = self.people[person]
        found = tenant.project.memberships.filter(user=user).first() if user else None
        return found.role if found else ""

    def browser(self, person: str, **options: Any) -> Client:
        client = (Glance if options.pop("glances", False) else Client)(**options)
        user = self.people[person]
        if user is not None:
            client.force_login(user)
        return client

    def script(self, person: str, *, glances: bool = False) -> Client:
        """Return a caller of the API with the person's token."""
        token = self.tokens.get(person)
        headers = {"Authorization": f"Bearer {token}"} if token else {}
        return (Glance if glances else Client)(headers=headers)


class Glance(Client):
    """A client that reads each streamed file to its end, so that the file is closed. Nothing of it is kept."""

    def request(self, **request: Any) -> Any:
        answer = super().request(**request)
        for _part in answer.streaming_content if answer.streaming else ():
            pass
        return answer


def build(payload: str = "") -> Site:
    """Make the site. `payload` is written wherever a person, a file or a model can write text."""
    ours, theirs = (_tenant(slug, payload) for slug in SLUGS)
    people: dict[str, User | None] = {f"our {role}": ours.people[role] for role in ROLES}
    people |= {f"their {role}": theirs.people[role] for role in ROLES}
    both = User.objects.create_user("both", password="password")
    Membership.objects.create(project=ours.project, user=both, role="annotator")
    Membership.objects.create(project=theirs.project, user=both, role="admin")
    people |= {
        "both": both,
        "outsider": User.objects.create_user("outsider", password="password"),
        "staff": User.objects.create_user("staff", password="password", is_staff=True),
        "keeper": User.objects.create_superuser("keeper", password="password"),
        "anonymous": None,
    }
    tokens = {
        name: ApiToken.issue(user, f"of {name} {payload}"[:60])[1] for name, user in people.items() if user
    }
    return Site(ours, theirs, people, tokens)


def _tenant(slug: str, payload: str) -> Tenant:
    project = Project.objects.create(
        slug=slug,
        name=f"{slug} {payload}"[:120],
        guidelines=f"# Rules\n\n{payload}",
        reasons=stored_aspects(filter(None, ["Shorter", payload[:60]])),
        criteria=stored_aspects(filter(None, ["helpful", payload[:40]])),
        ask_rationale=True,
        judgments_needed=2,
        gold_rate=0.0,
        held_out_share=0.0,
    )
    project.current_policy = Policy.objects.create(
        project=project, name="starter", kind=Policy.Kind.BASE, base_model="starter"
    )
    project.save()
    people = {role: User.objects.create_user(f"{slug}-{role}", password="password") for role in ROLES}
    for role, user in people.items():
        user.first_name = payload[:100]
        user.save()
        Membership.objects.create(project=project, user=user, role=role)
    tenant = Tenant(project, people)
    _content(tenant, payload)
    if payload:  # after the round, which would refuse it
        Project.objects.filter(pk=project.pk).update(training_settings={"note": payload, payload: 1})
    return tenant


def _content(tenant: Tenant, payload: str) -> None:
    project, people = tenant.project, tenant.people
    annotator, admin = people["annotator"], people["admin"]
    write(project, enumerate(_items(payload)), batch=f"import {payload}"[:60])
    judgment = _judge(project, annotator, payload)
    live = queue.claim(project, annotator)
    assert live is not None
    flag = drafts.flag(project, annotator, live.token, payload or "Look at this.")
    drafts.save_draft(project, annotator, live.token, {"rationale": payload})
    upload = _upload(project, admin, payload)
    snapshot = snapshots.take_snapshot(project, admin)
    round_ = _round(tenant, payload)
    job = Export(project=project, created_by=admin, filename=f"{payload}.jsonl"[-200:], sha256="0" * 64)
    job.state, job.expires_at = Export.State.DONE, timezone.now() + timedelta(days=1)
    job.file.save("an-export", ContentFile(b"{}\n"))
    token, _secret = ApiToken.issue(annotator, "theirs")
    membership = Membership.objects.get(project=project, user=annotator)
    maker = Membership.objects.get(project=project, user=admin)
    invitation = invitations.invite(maker, f"guest-of-{project.slug}", "annotator")
    tenant.values = {
        "slug": project.slug,
        "token": live.token,
        "side": "a",
        "judgment_id": judgment.pk,
        "token_id": token.pk,
        "membership_id": membership.pk,
        "comparison_id": judgment.comparison_id,
        "prompt_id": judgment.comparison.prompt_id,
        "completion_id": judgment.comparison.first_id,
        "import_id": upload.pk,
        "flag_id": flag.pk,
        "digest": snapshot.digest,
        "job_id": job.pk,
        "estimate_id": _estimate(tenant, payload).pk,
        "number": round_.number,
        "name": "config.json",
        "policy_id": project.current_policy_id,
        "secret": "a-guess",
        "invitation_id": invitation.pk,
        "path": "nothing",
        **_use(tenant, payload),
    }


def _items(payload: str) -> Iterator[Item]:
    """Yield pairs of which the first is of a chat and the last is gold. Each text holds the payload."""
    for number in range(12):
        prompt = f"Prompt {number} {payload}"
        chat = [{"role": "system", "content": payload or "s"}, {"role": "user", "content": prompt}]
        yield Item(
            prompt if number else chat,
            external_id=f"row-{number} {payload}"[:200],
            metadata={"source": payload, payload[:50]: 1},
            prompt_external_id=f"prompt-{number} {payload}"[:200],
            prompt_metadata={"topic": payload, payload[:50]: 2},
            completions=(f"One {number} {payload}", f"Two {number} {payload}"),
            policies=(f"ours {payload}"[:120], f"others {payload}"[:120]),
            gold="a" if number == 11 else None,
        )


def _judge(project: Project, annotator: User, payload: str) -> Judgment:
    """Judge ten comparisons, and return the last judgment."""
    for _ in range(10):
        claim = queue.claim(project, annotator)
        assert claim is not None
        said = judging.Verdict("prefer", "a", 2, rationale=payload, reasons=[project.all_reasons[-1].key])
        judgment = judging.record(project, annotator, claim.token, said)
    return judgment


def _upload(project: Project, admin: User, payload: str) -> Import:
    """Return an import that was refused."""
    upload = Import(
        project=project, created_by=admin, filename=f"{payload}.jsonl"[-200:], format="jsonl", size=30
    )
    upload.errors, upload.state = [[1, f"Wrong: {payload}"]], Import.State.REFUSED
    upload.file.save(f"{uuid.uuid4()}.jsonl", ContentFile(b'{"prompt": "A film opens:"}\n'))
    return upload


def _use(tenant: Tenant, payload: str) -> dict[str, Any]:
    """Return a trial that was answered, and merged weights that are ready."""
    project, admin = tenant.project, tenant.people["admin"]
    trial = Trial.objects.create(project=project, created_by=admin, content=payload)
    Answer.objects.create(
        trial=trial, policy=project.current_policy, position=0, state=Answer.State.DONE, text=payload
    )
    merge = MergedWeights(policy=project.current_policy, filename=f"{payload}.tar"[-200:], sha256="0" * 64)
    merge.state, merge.expires_at = MergedWeights.State.DONE, timezone.now() + timedelta(days=1)
    merge.file.save("merged-weights", ContentFile(b"weights"))
    return {"trial_id": trial.pk, "merge_id": merge.pk}


def _estimate(tenant: Tenant, payload: str) -> DryRun:
    """Return an answered estimate, whose first pair and messages hold the payload."""
    model = {
        **{
            "name": payload,
            "architecture": payload,
            "dtype": "float32",
            "chat_template": "",
            "device": "cpu",
        },
        **{"parameters": 1, "weights_bytes": 1, "available_bytes": 1, "context": None},
    }
    said = {"option": "max_tokens", "value": 8, "reason": payload}
    preview = {"id": "1", "prompt": payload, "chosen": payload, "rejected": payload}
    return DryRun.objects.create(
        project=tenant.project,
        kind=DryRun.Kind.ROUND,
        state=DryRun.State.DONE,
        settings=Round.objects.get(project=tenant.project).settings,
        result={"model": model, "preview": preview, "events": [payload], "proposals": [said]},
    )


def _round(tenant: Tenant, payload: str) -> Round:
    """Return a round that is ready, with its policy, samples and a file."""
    project, admin = tenant.project, tenant.people["admin"]
    round_ = state_machine.start(project, admin, {"fresh_comparisons": 1, "gate_comparisons": 1})
    claimed = state_machine.claim_round(round_.pk, f"worker {payload}"[:120])
    assert claimed is not None
    state_machine.advance(claimed, Round.State.SAMPLING)
    policy = Policy.objects.create(
        project=project,
        name=f"round 1 {payload}"[:120],
        kind=Policy.Kind.ADAPTER,
        base_model="starter",
        adapter=f"{claimed.folder}/adapter",
        parent=claimed.start_policy,
    )
    state_machine.advance(claimed, Round.State.READY, result_policy=policy)
    prompt = Prompt.objects.filter(project=project).earliest("pk")
    first, second = (
        Completion.objects.create(prompt=prompt, policy=one, text=f"{one.pk} {payload}", token_ids=[1])
        for one in (policy, claimed.start_policy)
    )
    gate = Comparison.objects.create(project=project, prompt=prompt, first=first, second=second, kind="gate")
    claimed.gate.set([gate])
    folder = settings.RUNS / claimed.folder
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "config.json").write_text(json.dumps({"note": payload}))
    return Round.objects.get(pk=claimed.pk)
