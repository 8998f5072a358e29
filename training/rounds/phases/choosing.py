"""The phases in which a probe is fitted to a project's judgments, and chooses among the samples."""

import logging
import shutil
from dataclasses import replace

from django.utils.translation import gettext as _

from annotate.models import Policy
from training.engine.rundir import RunDirectory, read_jsonl, write_jsonl
from training.models import Round
from training.rounds.choosing.choice import FILE as CHOICES
from training.rounds.choosing.choice import choose
from training.rounds.choosing.terms import FILE as TERMS
from training.rounds.choosing.terms import Terms, decide_terms, keep_terms, may_choose, read_terms
from training.rounds.choosing.votes import has_enough, project_votes
from training.rounds.finishing import previous_files, probing_files
from training.rounds.phases.following import run_verb
from training.rounds.phases.work import ChildFailedError, Work
from training.rounds.results import PLAIN
from training.rounds.starts import is_endpoint, on_this_machine, weights_of

logger = logging.getLogger(__name__)


def wants_probe(work: Work) -> bool:
    """Return whether the round's comparisons may be chosen by a probe."""
    return work.plan.fresh_comparisons > 0 and may_choose(work.round, work.plan.choosing)


def fit_probe(work: Work) -> None:
    """Fit the round's probe to all judgments so far, unless they are too few. A probe that fails ends no round."""
    if _has_lost_probe(work):
        _start_over(work.files)
    if read_terms(work.files) is not None or not has_enough(work.round.project):
        return
    reader = _reader(work.round)
    if reader is None:
        keep_terms(
            work.files,
            Terms(why=_("A server writes, and the project has no base model for a probe to read.")),
        )
        return
    files = _probing_files(work, reader)
    if not files.votes.exists():
        write_jsonl(files.votes, project_votes(work.round.project, reader.base_model))
    try:
        run_verb(work, "probe", files=files)
    except ChildFailedError as error:
        logger.warning("%s goes on without a probe: %s", work.round, error)
        keep_terms(work.files, Terms(why=str(error)))


def _has_lost_probe(work: Work) -> bool:
    """Return whether the probe that is to choose is gone: forgetting removes it, and archives do not have it."""
    terms = read_terms(work.files)
    if terms is None or not terms.by_probe or work.files.has_done("choose"):
        return False
    return not probing_files(work.round, work.files).has_done("probe")


def _start_over(files: RunDirectory) -> None:
    """Remove the terms, and what was written by them: without that probe they may be others."""
    files.drop_done("probe", "sample", "rate", "choose")
    shutil.rmtree(previous_files(files).root, ignore_errors=True)
    for path in (files.prompts, files.samples, files.ratings, files.root / CHOICES, files.root / TERMS):
        path.unlink(missing_ok=True)


def _reader(round_: Round) -> Policy | None:
    """Return the policy whose base model the probe reads: the round's own, or the project's where a server writes."""
    if not is_endpoint(round_.start_policy):
        return round_.start_policy
    return (
        round_.project.policies.exclude(base_model="")
        .exclude(kind=Policy.Kind.EXTERNAL)
        .order_by("pk")
        .first()
    )


def _probing_files(work: Work, reader: Policy) -> RunDirectory:
    """Return the run directory in which the probe works: the round's own, or one inside it for another model."""
    files = probing_files(work.round, work.files)
    if files is not work.files:
        config = replace(work.plan.config, **weights_of(reader), start_adapter=None)
        files.write_config(on_this_machine(config))
    return files


def decide(work: Work) -> Terms:
    """Return the terms under which the round's comparisons are chosen, which its first attempt decided."""
    files = probing_files(work.round, work.files)
    skill = files.read_done()["probe"].get("skill") if files.has_done("probe") else None
    wanted = work.plan.fresh_comparisons
    return decide_terms(work.round, work.plan.choosing, wanted, work.files, skill)


def choose_comparisons(work: Work) -> None:
    """Rate the samples, and choose which are compared. Where the probe does not choose, say why."""
    files, terms = work.files, read_terms(work.files)
    if terms is None or files.has_done("choose"):
        return
    if not terms.by_probe or not files.samples.exists():
        files.finish("choose", {"by": "random", "why": terms.why}, {}, [])
        return
    rated = probing_files(work.round, files)
    if rated is not files:
        _copy_texts(files, rated)
    run_verb(work, "rate", files=rated)
    seed = f"{work.round.folder}:choice"
    plain = sum(row["n"] // 2 for _line, row in read_jsonl(files.prompts) if row["id"].startswith(PLAIN))
    summary = choose(files, rated.ratings, terms, work.plan.fresh_comparisons - plain, seed)
    files.finish("choose", summary, files.hashes([files.samples, rated.ratings]), [files.root / CHOICES])


def _copy_texts(files: RunDirectory, rated: RunDirectory) -> None:
    """Copy prompts and samples for another model, without token ids, which mean other words to it."""
    kept = ("id", "index", "completion", "finish_reason")
    write_jsonl(rated.prompts, (row for _line, row in read_jsonl(files.prompts)))
    rows = ({name: row[name] for name in kept} for _line, row in read_jsonl(files.samples))
    write_jsonl(rated.samples, rows)
