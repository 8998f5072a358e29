"""Forgetting: a person, a prompt or an import is removed with all that came of it, and what it shaped is marked.

Everything is one transaction. A snapshot that held what is forgotten loses those pairs and keeps its name. The
rounds trained on it, and all that started from their policies, are marked, and can be done over without it
(`retrain_next`). Files are deleted once the rows are: until then a failure leaves everything as it was.
"""

import logging
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import partial
from typing import Any

from django.db import connection, models, transaction
from django.db.models import Count, Exists, F, Min, OuterRef, Q, QuerySet, RestrictedError
from django.utils.translation import gettext as _

from annotate.errors import RefusalError
from annotate.imports import uploads
from annotate.imports.files import earlier
from annotate.judgments import aspects, imported, places
from annotate.models import (
    Claim,
    Comparison,
    Completion,
    Export,
    Flag,
    Import,
    Judgment,
    Membership,
    PasswordLink,
    Project,
    Prompt,
    Role,
    Snapshot,
    SnapshotJob,
    SnapshotPair,
    SnapshotRating,
    TrailEntry,
    User,
    prompt_columns,
)
from annotate.models.conflicts import again_on_race
from annotate.models.triggers import changeable_trail
from annotate.projects import trail
from primitives.chunks import chunks
from training.engine.rundir import to_json
from training.models import DryRun, MergedWeights, Round, RoundEvent
from training.provenance import histories
from training.provenance.consequences import Consequences, Target, find_consequences
from training.provenance.retraining import retrain_next
from training.standings.probed import names_people, rename_people
from training.storage import folders
from training.storage.folders import Folder

logger = logging.getLogger(__name__)

FORGOTTEN = "(forgotten)"  # in place of a name in the trail
AT_A_TIME = 1_000
# Files of a run directory that hold what was judged; and those that hold what was written.
JUDGED_FILES = (
    *("pairs.jsonl", "pairs_by_votes.jsonl", "heldout.jsonl", "scores.jsonl"),
    *("reference.safetensors", "checkpoints", "assisted_pairs.jsonl", "assist"),
)
WRITTEN_FILES = ("prompts.jsonl", "samples.jsonl", "ratings.jsonl", "choices.jsonl", "previous")
VOTES = ("votes.jsonl", "probing/votes.jsonl")
VOTE_FILES = ("votes.jsonl", "probe_labels.jsonl", "probe", "probing")  # of all judgments when a round wrote


@again_on_race
def forget(
    targets: Sequence[Target],
    *,
    account: User | None = None,
    retrain: bool = False,
    undeleted: list[str] | None = None,
) -> list[Round]:
    """Forget the targets, and with `account` that person's account. Return the rounds queued to `retrain`.

    Names of files that could not be deleted are added to `undeleted`, and logged with the reasons.

    All of it, or nothing. Raises RefusalError where a round runs, or where a project would be left without an admin.
    """
    queued: list[Round] = []
    left = [] if undeleted is None else undeleted
    with transaction.atomic():
        if account is not None and account.is_superuser:
            sentence = _("%(person)s is a superuser: take that away first, in the administration.")
            raise RefusalError(sentence % {"person": account.username})
        for target in targets:
            _forget(target, left)
        if account is not None:
            _rename_in_trail(account, TrailEntry.objects.all())
            PasswordLink.objects.filter(maker_name=account.username).update(maker_name=FORGOTTEN)
            try:
                User.objects.filter(pk=account.pk).delete()  # `account` keeps its key, for another try
            except RestrictedError:
                sentence = _("%(person)s judged something meanwhile. Nothing was changed; do it again.")
                raise RefusalError(sentence % {"person": account.external_name or account.username}) from None
        if retrain:
            queued = [round_ for target in targets if (round_ := retrain_next(target.project)) is not None]
    return queued


def _forget(target: Target, left: list[str]) -> None:
    """Forget a target, in a transaction. Once it is committed, files that stay are added to `left`."""
    project = Project.objects.select_for_update(no_key=True).get(pk=target.project.pk)
    _check_no_round_runs(project)
    found = find_consequences(target)
    affected = [*found.rounds, *found.descended]
    Round.objects.filter(pk__in=[round_.pk for round_ in affected]).update(holds_forgotten=True)
    files = _files(target, found)
    reports = _drop_words_of_probes(project)
    for folder in reports:
        files.setdefault(folder, set())
    _drop_pairs(target)
    _drop_looks(target)
    if target.person is not None:
        _drop_person(target, target.person)
    if target.upload is not None:
        _drop_judgments(target, target.upload)
    _drop_comparisons(target)
    aspects.drop_unheld(project)
    if target.upload is not None:
        _drop_with_files(Import.objects.filter(pk=target.upload.pk), left)
        transaction.on_commit(partial(earlier.forget, target.upload))
    _drop_with_files(Export.objects.filter(project=project), left)
    rounds = ", ".join(str(round_.number) for round_ in affected)
    trail.record(
        trail.Verb.FORGOTTEN,
        None,
        project=project,
        target=target.what,
        judgments=found.judgments,
        prompts=found.prompts,
        pairs=found.pairs,
        rounds=rounds,
    )
    # A worker that has a failed round's files keeps them for its next attempt: no attempt of that number follows.
    failed = Round.objects.filter(folder__in=files, state=Round.State.FAILED)
    failed.update(attempts=F("attempts") + 1)
    # A process that is killed before it deletes them leaves none that a page or a worker finds in the storage.
    for folder, paths in files.items():
        folders.drop_rows(folder, paths)
    transaction.on_commit(lambda: left.extend(_delete_files(files)))
    transaction.on_commit(lambda: left.extend(_rewrite_reports(reports)))


def _drop_words_of_probes(project: Project) -> dict[str, dict[str, Any]]:
    """Drop what probes said of annotators: each probe learned from all of them.

    Return the folders of runs whose done.json says it too, with what is to take its place.
    """
    reports = {}
    for round_ in project.rounds.all():
        if names_people(round_.summary.get("probe")):
            summary = round_.summary | {"probe": rename_people(round_.summary["probe"], {})}
            Round.objects.filter(pk=round_.pk).update(summary=summary)
        probe = Folder(round_.folder).read_done().get("probe")
        if probe and names_people(probe):
            reports[round_.folder] = rename_people(probe, {})
    return reports


def _drop_with_files(rows: QuerySet[Import] | QuerySet[Export], left: list[str]) -> None:
    """Remove rows, and their files once that is committed. Files that stay are added to `left`."""
    fields = [one for one in rows.model._meta.concrete_fields if isinstance(one, models.FileField)]
    kept = [file for row in rows for one in fields if (file := getattr(row, one.name))]
    rows.delete()
    for file in kept:
        transaction.on_commit(partial(_delete_file, file.storage, file.name, left))


def _delete_file(storage: Any, name: str, left: list[str]) -> None:
    """Delete a file, or log why not and add it to `left`.

    What else is to be deleted does not wait for it, and a sweep tries it again.
    """
    try:
        storage.delete(name)
    except OSError as error:
        logger.error("%s was to be forgotten, and could not be deleted: %s", name, error)
        left.append(name)


def _drop_judgments(target: Target, upload: Import) -> None:
    """Remove what an import said of comparisons that stay. What other files said before or after it stays, too."""
    brought = target.judgments.filter(import_batch=uploads.batch(upload))
    for some in _chunks(brought.exclude(Exists(target.comparisons.filter(pk=OuterRef("comparison"))))):
        found = histories.find_histories(Judgment.objects.filter(pk__in=some))
        with _places_given_back(found):
            histories.drop_from_histories(found, some, upload)


@contextmanager
def _places_given_back(judgments: QuerySet[Judgment]) -> Iterator[None]:
    """Forget some of these judgments in the block, which are all that their annotators gave to their comparisons.

    Comparisons then need fewer, as for imported ones, and closed ones stay closed.
    """
    comparisons = set(judgments.values_list("comparison", flat=True))
    before = imported.count_places(judgments)
    yield
    change = imported.count_places(judgments)
    change.subtract(before)
    imported.change_needed({comparison: count for comparison, count in change.items() if count})
    places.close_again(sorted(comparisons))


def _check_no_round_runs(project: Project) -> None:
    if running := project.rounds.filter(state__in=Round.LIVE).first():
        sentence = _("Round %(number)d of %(project)s is %(state)s; wait for it to end or cancel it first.")
        state = running.get_state_display().lower()
        raise RefusalError(sentence % {"number": running.number, "project": project.slug, "state": state})


def _drop_pairs(target: Target) -> None:
    """Remove the pairs and ratings from their snapshots, which keep a count of them."""
    for held in (target.pairs, target.ratings):
        counts = held.order_by().values("snapshot").annotate(lost=Count("pk", distinct=True))
        for row in list(counts):
            Snapshot.objects.filter(pk=row["snapshot"]).update(forgotten=F("forgotten") + row["lost"])
        for some in _chunks(held):
            held.model._default_manager.filter(pk__in=some).delete()


def _drop_looks(target: Target) -> None:
    """Remove what was only looked at: dry runs, which show a pair or a prompt, and trials of what is forgotten."""
    target.project.estimates.exclude(kind=DryRun.Kind.MODEL).delete()
    gone = {digest for (digest,) in target.prompts.values_list("digest")}
    for trial in target.project.trials.all():
        tried = prompt_columns(target.project, trial.content, trial.tools)["digest"]
        is_theirs = target.person is not None and trial.created_by_id == target.person.pk
        if is_theirs or tried in gone:
            trial.delete()


def _drop_person(target: Target, person: User) -> None:
    """Remove what a person did in the project, their membership, and their name."""
    project = target.project
    membership = Membership.objects.filter(project=project, user=person).first()
    if membership is not None:
        others = Membership.objects.filter(project=project, role=Role.ADMIN).exclude(pk=membership.pk)
        if membership.role == Role.ADMIN and not others.exists():
            sentence = _("%(person)s is the only admin of %(project)s: make another member an admin first.")
            raise RefusalError(sentence % {"person": person.username, "project": project.slug})
        PasswordLink.objects.filter(by=membership).update(maker_name=FORGOTTEN)
        membership.delete()
    # Claims before comparisons, as everywhere; the triggers keep the counters.
    for some in _chunks(Claim.objects.filter(project=project, annotator=person)):
        claims = Claim.objects.filter(pk__in=some)
        theirs = Judgment.objects.filter(annotator=person, comparison__in=claims.values("comparison"))
        found = Judgment.objects.filter(pk__in=list(theirs.values_list("pk", flat=True)))
        with _places_given_back(found):
            claims.delete()
            found.delete()
    # Each has its claim: there is none left.
    Judgment.objects.filter(project=project, annotator=person).delete()
    Flag.objects.filter(comparison__project=project, annotator=person).delete()
    # Jobs before snapshots: one that was just ended has left its snapshot to the next statement.
    jobs = SnapshotJob.objects.filter(project=project, created_by=person)
    jobs.cancel()
    jobs.update(created_by=None)
    for model in (Snapshot, Round, Import, DryRun):
        model._default_manager.filter(project=project, created_by=person).update(created_by=None)
    MergedWeights.objects.filter(policy__project=project, created_by=person).update(created_by=None)
    project.policies.filter(brought_by=person).update(brought_by=None)
    RoundEvent.objects.filter(round__project=project, by=person).update(by=None)
    _rename_in_trail(person, TrailEntry.objects.filter(project=project))


def _drop_comparisons(target: Target) -> None:
    """Remove comparisons with everything on them, the completions that no other has, and the prompts."""
    written: set[int] = set()
    for some in _chunks(target.comparisons.order_by("-pk")):
        # Their kind has PostgreSQL take the index of repeats, which holds no others.
        repeats = Q(repeat_of__in=some, kind=Comparison.Kind.REPEAT)
        those = Comparison.objects.filter(Q(pk__in=some) | repeats)
        written |= {pk for both in those.values_list("first", "second") for pk in both}
        Claim.objects.filter(comparison__in=those).delete()
        Judgment.objects.filter(comparison__in=those).delete()
        those.delete()
    # An IN for each side would have PostgreSQL compare each completion with all comparisons of the project.
    still = Comparison.objects.order_by()
    is_kept = Exists(still.filter(first=OuterRef("pk"))) | Exists(still.filter(second=OuterRef("pk")))
    prompts = list(target.prompts.values_list("pk", flat=True))
    if target.upload is not None:
        for some in chunks(sorted(written), AT_A_TIME):
            Completion.objects.filter(pk__in=some).exclude(is_kept).delete()
    for some in chunks(prompts, AT_A_TIME):
        Completion.objects.filter(prompt__in=some).delete()
        Prompt.objects.filter(pk__in=some).delete()


def _rename_in_trail(person: User, entries: QuerySet[TrailEntry]) -> None:
    """Replace a person's names in these entries of the trail. The act and its time stay."""
    names = dict.fromkeys(filter(None, (person.username, person.email, person.confirmed_email)), FORGOTTEN)
    listed = names | ({person.external_name: FORGOTTEN} if person.external_name else {})
    theirs = Q(who=person) | Q(subject=person) | Q(who_name__in=names) | Q(target__in=names)
    theirs |= Q(details__has_any_keys=trail.NAMING)
    with changeable_trail(connection):
        for entry in entries.filter(theirs):
            before = entry.who_id, entry.who_name, entry.subject_id, entry.target, entry.details
            if entry.who_id == person.pk or entry.who_name in names:
                entry.who, entry.who_name = None, FORGOTTEN
            is_about_them = entry.subject_id == person.pk
            entry.target = (listed if is_about_them else names).get(entry.target, entry.target)
            entry.subject_id = None if is_about_them else entry.subject_id
            entry.details = trail.rename_people(entry.details, names, listed)
            if before != (entry.who_id, entry.who_name, entry.subject_id, entry.target, entry.details):
                entry.save()


def _chunks(
    rows: QuerySet[SnapshotPair]
    | QuerySet[SnapshotRating]
    | QuerySet[Claim]
    | QuerySet[Judgment]
    | QuerySet[Comparison],
) -> Iterator[list[int]]:
    """Yield the ids of rows a chunk at a time, as they were at the first look."""
    yield from chunks(list(rows.values_list("pk", flat=True)), AT_A_TIME)


# --- Files -------------------------------------------------------------------------------------------------------


def _files(target: Target, found: Consequences) -> dict[str, set[str]]:
    """Map folders of runs to the paths in them that hold what is forgotten."""
    files: dict[str, set[str]] = {}
    for round_ in target.project.rounds.all():
        if any(Folder(round_.folder).find(name) for name in VOTES):
            files.setdefault(round_.folder, set()).update(VOTE_FILES)
    for round_ in found.rounds:
        files.setdefault(round_.folder, set()).update(JUDGED_FILES, _logs(round_))
    first = target.prompts.aggregate(first=Min("created_at"))["first"]
    if target.comparisons.exists() and target.upload is not None:
        brought = target.comparisons.aggregate(first=Min("created_at"))["first"]
        first = min(first or brought, brought)
    if first is not None:
        for round_ in target.project.rounds.filter(created_at__gte=first):
            files.setdefault(round_.folder, set()).update(JUDGED_FILES, WRITTEN_FILES, _logs(round_))
    return files


def _logs(round_: Round) -> list[str]:
    return [file.path for file in Folder(round_.folder).files() if file.path.endswith(".log")]


def _delete_files(files: Mapping[str, Iterable[str]]) -> list[str]:
    """Delete files and folders of runs, here and in the storage. Return what could not be deleted."""
    return [name for folder, paths in files.items() for name in folders.forget(folder, paths)]


def _rewrite_reports(reports: Mapping[str, Mapping[str, Any]]) -> list[str]:
    """Replace the report of the probe in done.json of folders of runs, where it is still there.

    Return the files that could not be replaced.
    """
    left = []
    for folder, report in reports.items():
        done = Folder(folder).read_done()
        if "probe" not in done:
            continue
        try:
            content = to_json(done | {"probe": report}, indent=2) + "\n"
            folders.rewrite(folder, "done.json", content.encode())
        except OSError as error:
            logger.error("%s/done.json names who was forgotten, and could not be replaced: %s", folder, error)
            left.append(f"{folder}/done.json")
    return left
