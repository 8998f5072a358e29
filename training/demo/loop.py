"""The simulated loop, on a project of its own. Each round judges, trains, samples, decides and measures.

Each policy is measured on prompts that it never saw, with samples drawn for that purpose alone:

- mean reward, with a normal interval at 95 % over prompts (one sample per prompt, so they are independent);
- win rates against the policy before and the first one, on the same prompts, by the ground-truth reward, a tie
  counting one half;
- KL(policy || first policy) per completion, in nats, as the mean of log pi(y|x) - log pi_0(y|x) over those samples;
- the reward at a KL of 1, 2 and 5 nats, along the policy's adapter scaled down (`training.demo.measurements`);
- distinct-2 and mean length in tokens, which show a policy that buys reward with repetition.
"""

import math
import random
import secrets
import statistics
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from django.conf import settings as site
from django.db import transaction
from django.utils import timezone

from annotate.models import Membership, Policy, Project, Role, User
from annotate.projects.base_models import STARTER
from primitives.statistics import mean_estimate
from training.demo import samples, seed, simulation
from training.demo.loop_report import LoopRow, write_rows
from training.demo.measurements import KLS, SCALES, Measurement, kl_interval, rewards_at_kl, scale_adapter
from training.demo.subjects import SUBJECTS, Subject
from training.engine.starter import reviews
from training.models import Round
from training.rounds import state_machine, sweeping
from training.rounds.starts import RoundError
from training.standings.gates import Gate
from training.standings.policies import measure_held_out
from training.storage.folders import Folder

Say = Callable[[str], None]
ADMIN = "simulated-admin"
ANNOTATORS = ("simulated-ann", "simulated-bob")
GATE = 150


class LoopError(Exception):
    """A reason why the loop cannot start or go on, in a sentence for the user."""


@dataclass(frozen=True, kw_only=True)
class Options:
    """Options of a run: `judgments` per round, `overlap` of them on each comparison, `fresh` prompts to measure by."""

    model: str = STARTER
    rounds: int = 3
    judgments: int = 150
    overlap: int = 1
    fresh: int = 256
    seed: int = 0

    def __post_init__(self) -> None:
        for name, low, high in (
            ("rounds", 1, 100),
            ("judgments", 10, 5000),
            ("overlap", 1, len(ANNOTATORS)),
            ("fresh", 8, 2000),
            ("seed", 0, 2**31),
        ):
            value = getattr(self, name)
            if not low <= value <= high:
                raise LoopError(f"--{name} must be from {low} to {high}, not {value}.")
        wanted = self.prompts + GATE + self.fresh
        if wanted > self.subject.most_prompts:
            raise LoopError(
                f"{wanted} prompts would be needed, and {self.model} has "
                f"{self.subject.most_prompts}: lower --judgments or --fresh."
            )

    @property
    def subject(self) -> Subject:
        return SUBJECTS[self.model]

    @property
    def prompts(self) -> int:
        """Return the number of prompts to write for: a tenth is held out, and a few come out equal."""
        return math.ceil(1.25 * self.comparisons)

    @property
    def comparisons(self) -> int:
        """Return the number of comparisons that a round's judgments need."""
        return math.ceil(self.judgments / self.overlap)


class Loop:
    """One run: a fresh project with its annotators, and the measurements so far."""

    def __init__(self, options: Options, say: Say) -> None:
        self.options, self.say = options, say
        self.subject = options.subject
        count = options.prompts
        prompts = self.subject.prompts(count + GATE + options.fresh, options.seed)
        self.prompts, self.for_gates = prompts[:count], prompts[count : count + GATE]
        self.fresh = prompts[count + GATE :]
        self.project = make_project(options)
        self.by = make_member(self.project, ADMIN, Role.ADMIN)
        self.annotators = [
            simulation.SimulatedAnnotator(
                make_member(self.project, name, Role.ANNOTATOR),
                random.Random(f"{options.seed} {name}"),
                self.subject.taste,
            )
            for name in ANNOTATORS
        ]
        self.measured: list[Measurement] = []
        self.gate_labels = 0

    def run(self, check: Callable[[], None]) -> Iterator[LoopRow]:
        """Yield a row for the base model and one for each round.

        `check` is called while a round runs, and raises if its worker cannot go on. Raises LoopError or
        SamplingError.
        """
        yield self.measure_start()
        for number in range(1, self.options.rounds + 1):
            self.say(f"Round {number}: {self.options.judgments} judgments ...")
            try:
                simulation.judge(self.project, self.annotators, self.options.judgments)
            except simulation.NothingLeftError:
                raise LoopError(f"Round {number}: the queue ran out of comparisons to judge.") from None
            try:
                round_ = state_machine.start(self.project, self.by, self.chosen_for(number))
            except RoundError as error:
                raise LoopError(f"Round {number}: {error}") from error
            wait_for(round_, check, self.say)
            self.say(f"Round {number}: judging the gate, measuring the policy ...")
            gate = simulation.decide(round_, self.annotators, self.by)
            self.project.refresh_from_db()
            self.tell(number, gate)
            yield self.measure_round(round_, gate)
            if gate.verdict == "worse":
                raise LoopError(f"Round {number}: the gate found its policy worse than the one before.")

    def chosen_for(self, number: int) -> dict[str, Any]:
        """Return what a round chooses: the last one writes nothing but its gate, as none of it would be judged."""
        return {"fresh_comparisons": 0} if number == self.options.rounds else {}

    def measure_start(self) -> LoopRow:
        """Let the base model write the first samples to judge, and return its figures."""
        policy = Policy.objects.get(current_for=self.project)
        self.say(f"Project {self.project.slug}: {policy.name} writes the first samples ...")
        began = time.monotonic()
        prompts = seed.add_prompts(self.project, self.prompts)
        seed.add_gate_prompts(self.project, self.for_gates)
        folder = site.RUNS / f"{self.project.slug}-first-samples"
        pairs = samples.sample_pairs(policy, prompts, folder)
        seed.save_comparisons([seed.compare(self.project, pair) for pair in pairs])
        seconds = time.monotonic() - began
        self.measured += self.measure(policy, 0)
        return LoopRow(number=0, sample_seconds=seconds, **self.figures())

    def tell(self, number: int, gate: Gate) -> None:
        """Say what the gate called, and that the loop goes on where it did not decide."""
        rate = f"{100 * gate.win_rate.value:.0f} %" if gate.win_rate else "nothing"
        if gate.verdict == "better":
            self.say(f"Round {number}: promoted; its gate calls it better after {gate.judged} comparisons.")
        elif gate.verdict != "worse":
            self.say(
                f"Round {number}: its gate did not decide ({rate} of {gate.judged} comparisons won); "
                "the loop goes on with its policy all the same."
            )

    def measure_round(self, round_: Round, gate: Gate) -> LoopRow:
        """Measure the policy of a decided round, and return the figures of both."""
        policy = Policy.objects.get(round=round_)
        adapter = Folder(policy.adapter).bring_here()
        self.gate_labels += gate.judged
        at_kl = rewards_at_kl(self.path_to(round_, policy, adapter))
        trained, sampled = phase_seconds(round_)
        held_out = measure_held_out(round_)
        return LoopRow(
            number=round_.number,
            labels=round_.number * self.options.judgments,
            gate_labels=self.gate_labels,
            pairs=round_.summary["train"]["pairs"],
            loss=final_loss(round_),
            held_out_accuracy=held_out.after.value if held_out else None,
            win_rate_previous=self.measured[-1].win_rate_over(self.measured[-2]),
            win_rate_start=self.measured[-1].win_rate_over(self.measured[0]),
            train_seconds=trained,
            sample_seconds=sampled,
            reward_at_kl={kl: one.value if one else None for kl, one in at_kl.items()},
            reward_at_kl_ci={kl: (one.low, one.high) if one else None for kl, one in at_kl.items()},
            adapter=str(adapter),
            promoted=gate.verdict != "worse",
            gate=gate.verdict,
            **self.figures(),
        )

    def path_to(self, round_: Round, policy: Policy, adapter: Path) -> list[Measurement]:
        """Measure the latest policy, and return measurements on the way to it from the first one.

        Where the round scaled its adapter down to a KL budget, the path goes on to the adapter as it was trained. The
        adapter scaled down is measured too, unless the path ends before the first KL that a reward is told at.
        """
        trained = adapter.with_name("unscaled")
        is_scaled = trained.is_dir() and round_.summary["scale"]["final"]["scale"] < 1
        ends = self.measure(policy, round_.number, [None, trained] if is_scaled else [None])
        self.measured.append(ends[0])
        between = []
        if ends[-1].kl >= min(KLS):
            folder = site.RUNS / f"{self.project.slug}-measured-{round_.number}"
            scaled = [scale_adapter(adapter, scale, folder / f"scaled-{scale}") for scale in SCALES]
            between = self.measure(policy, round_.number, scaled)
        return [self.measured[0], *between, *ends]

    def measure(
        self, policy: Policy, number: int, adapters: Sequence[Path | None] = (None,)
    ) -> list[Measurement]:
        """Let a policy write once for every fresh prompt, from its plain distribution, with draws of its own.

        It writes by each of the `adapters` in place of its own, which None stands for.
        """
        folder = site.RUNS / f"{self.project.slug}-measured-{number}"
        written = samples.sample_by(
            policy,
            {folder / (adapter.name if adapter else "whole"): adapter for adapter in adapters},
            [{"id": str(place), "prompt": prompt} for place, prompt in enumerate(self.fresh)],
            samples_per_prompt=1,
            seed=self.options.seed + number,
            temperature=1.0,
            top_p=1.0,
            top_k=0,
            reference="base",
        )
        return [self.measurement_of(rows) for rows in written]

    def measurement_of(self, rows: list[dict[str, Any]]) -> Measurement:
        """Return what lines of samples.jsonl show of the policy that wrote them."""
        rows = sorted(rows, key=lambda row: int(row["id"]))
        return Measurement(
            rewards=[self.subject.taste.reward(row["completion"]) for row in rows],
            texts=[row["completion"] for row in rows],
            tokens=[len(row["token_ids"]) for row in rows],
            log_ratios=[row["logprob"] - row["reference_logprob"] for row in rows],
        )

    def figures(self) -> dict[str, Any]:
        """Return the figures of a row that describe the latest policy."""
        latest = self.measured[-1]
        reward = mean_estimate(latest.rewards)
        if reward is None:
            raise LoopError("The policy wrote nothing for the fresh prompts.")
        return {
            "mean_reward": reward.value,
            "mean_reward_ci": (reward.low, reward.high),
            "kl_start": latest.kl,
            "kl_start_ci": kl_interval(latest),
            "distinct_2": reviews.distinct_2(latest.texts),
            "mean_length": statistics.fmean(latest.tokens),
        }


def wait_for(round_: Round, check: Callable[[], None], say: Say) -> None:
    """Follow a round until it is ready, calling `check` meanwhile. Raises LoopError if it ends in any other way.

    The loop's worker has no beat, which would sweep other projects' rounds too. So this one is swept here. When the
    user interrupts, the round is cancelled, so that no other worker takes it.
    """
    said = ""
    own = Round.objects.filter(pk=round_.pk)
    try:
        while round_.state in Round.LIVE:
            check()
            sweeping.sweep_rounds(own)
            if round_.is_running and round_.state != said:
                say(f"Round {round_.number}: {round_.get_state_display().lower()} ...")
                said = round_.state
            time.sleep(0.25)
            round_.refresh_from_db()
    except BaseException:
        state_machine.cancel(round_)
        raise
    if round_.state not in (Round.State.READY, Round.State.WRITTEN):
        raise LoopError(f"Round {round_.number} {round_.state}: {round_.reason or 'no reason was given.'}")


def make_project(options: Options) -> Project:
    """Make a project for this run alone, so that runs disturb nothing else in the database."""
    subject = options.subject
    slug = f"loop-{timezone.now():%Y%m%d-%H%M%S}-{secrets.token_hex(2)}"
    with transaction.atomic():
        project = Project.objects.create(
            slug=slug,
            name=f"Simulated loop, {timezone.now():%Y-%m-%d %H:%M}",
            guidelines=subject.guidelines,
            judgments_needed=options.overlap,
            gold_rate=0.0,
            min_seconds=0.0,  # programs need no time to read
            training_settings={**subject.settings("training"), "seed": options.seed},
            sampling_settings={
                **subject.settings("sampling"),
                "seed": options.seed,
                "fresh_comparisons": math.ceil(1.1 * options.comparisons),
                "gate_comparisons": GATE,
            },
        )
        project.current_policy = Policy.objects.create(
            project=project, name=subject.name, kind=Policy.Kind.BASE, base_model=subject.name
        )
        project.save(update_fields=["current_policy"])
    return project


def make_member(project: Project, username: str, role: Role) -> User:
    """Make a simulated member of the project, who cannot log in."""
    with transaction.atomic():
        user, made = User.objects.get_or_create(username=username)
        if made:
            user.set_unusable_password()
            user.save(update_fields=["password"])
        Membership.objects.create(project=project, user=user, role=role)
    return user


def phase_seconds(round_: Round) -> tuple[float, float]:
    """Return the seconds of training, and those from its end to the end of sampling. Both include start-up."""
    reached = {event.to_state: event.created_at for event in round_.events.all()}
    trained = reached[Round.State.SAMPLING] - reached[Round.State.TRAINING]
    sampled = reached[Round.State.READY] - reached[Round.State.SAMPLING]
    return trained.total_seconds(), sampled.total_seconds()


def final_loss(round_: Round) -> float | None:
    """Return the mean loss over the optimizer steps of the last epoch."""
    rows = [metric.values for metric in round_.metrics.all()]
    last = [row["loss"] for row in rows if row["epoch"] == rows[-1]["epoch"]]
    return statistics.fmean(last) if last else None


def write_result(path: Path, loop: Loop, rows: Sequence[LoopRow], seconds: float) -> None:
    """Write the JSON of `simulate` so far (docs/formats.md has its keys). Raises LoopError if that fails."""
    head = {"project": loop.project.slug, "options": asdict(loop.options), "seconds": round(seconds, 1)}
    try:
        write_rows(path, head, rows)
    except OSError as error:
        raise LoopError(f"{path} cannot be written: {error.strerror}.") from None
