"""The shapes of projects, their settings and figures."""

from typing import Any

from rest_framework import serializers

from annotate.api.shapes.base import Note, Shape, ShareOut, StrictSerializer, WholeNumber
from annotate.api.shapes.rows import OBJECT
from annotate.models import Aspect, Membership, Project, Role, TextView
from primitives.statistics import Share

ASPECT = {"key": "vivid", "title": "Vivid", "asked": True}


class ProjectLineOut(Shape):
    EXAMPLE = {"slug": "reviews", "name": "Film reviews", "role": "admin", "archived": False}

    slug = serializers.SlugField()
    name = serializers.CharField()
    role = serializers.ChoiceField(Role.choices)
    archived = serializers.BooleanField()


def project_line(membership: Membership) -> dict[str, Any]:
    project = membership.project
    return {
        "slug": project.slug,
        "name": project.name,
        "role": membership.role,
        "archived": project.archived_at is not None,
    }


class ProjectsOut(Shape):
    """The user, and the projects that the token opens."""

    EXAMPLE = {"user": "olive", "projects": [ProjectLineOut.EXAMPLE]}

    user = serializers.CharField()
    projects = ProjectLineOut(many=True)


class NewProjectIn(StrictSerializer):
    """A project to make. `base_model` is empty for a project that judges imported completions alone."""

    EXAMPLE = {"name": "Film reviews", "base_model": "starter", "judgments_needed": 2}

    name = serializers.CharField(max_length=120)
    base_model = serializers.CharField(max_length=500, required=False, allow_blank=True)
    judgments_needed = serializers.IntegerField(min_value=1, max_value=50, required=False)


class AspectOut(Shape):
    """A reason or a criterion. Judgments hold its `key`. One with `asked` false is no longer asked for."""

    EXAMPLE = ASPECT

    key = serializers.CharField()
    title = serializers.CharField()
    asked = serializers.BooleanField()


class ProjectOut(Shape):
    """A project as its member may know it.

    Annotators get neither `settings` nor `current_policy`, and the reasons and criteria that are asked for alone.
    """

    EXAMPLE = {
        **ProjectLineOut.EXAMPLE, "guidelines": "Prefer the livelier line.", "reasons": [ASPECT], "criteria": [],
        "ask_rationale": False, "settings": {"judgments_needed": 2, "gold_rate": 0.1}, "current_policy": "starter",
    }  # fmt: skip

    slug = serializers.SlugField()
    name = serializers.CharField()
    role = serializers.ChoiceField(Role.choices)
    archived = serializers.BooleanField()
    guidelines = serializers.CharField(allow_blank=True)
    reasons = AspectOut(many=True)
    criteria = AspectOut(many=True)
    ask_rationale = serializers.BooleanField()
    settings = Note(OBJECT, required=False)
    current_policy = serializers.CharField(required=False, allow_null=True)


def project_data(project: Project, membership: Membership) -> dict[str, Any]:
    """Return a project as its member may know it: how to judge, and for admins and researchers every setting.

    Annotators get the reasons and criteria that are asked for. Others were named by files, or in earlier judgments.
    """
    is_annotator = membership.role == Role.ANNOTATOR
    data: dict[str, Any] = {
        "slug": project.slug,
        "name": project.name,
        "role": membership.role,
        "archived": project.archived_at is not None,
        "guidelines": project.guidelines,
        "reasons": [aspect_data(one) for one in project.all_reasons if not (is_annotator and one.is_removed)],
        "criteria": [
            aspect_data(one) for one in project.all_criteria if not (is_annotator and one.is_removed)
        ],
        "ask_rationale": project.ask_rationale,
    }
    if not is_annotator:
        data["settings"] = {
            name: getattr(project, name)
            for name in (
                "judgments_needed", "lease_minutes", "gold_rate", "gold_feedback", "repeat_rate",
                "qualification_size", "qualification_pass", "min_seconds", "show_agreement", "held_out_share",
            )
        }  # fmt: skip
        data["current_policy"] = project.current_policy and project.current_policy.name
    return data


def aspect_data(aspect: Aspect) -> dict[str, Any]:
    """Return a reason or a criterion. One that is no longer asked for is listed, as judgments may hold its key."""
    return {"key": aspect.key, "title": aspect.title, "asked": not aspect.is_removed}


class AspectIn(StrictSerializer):
    """A reason or a criterion: with the key of one that there is, or without a key for a new one."""

    key = serializers.CharField(required=False, max_length=200)
    title = serializers.CharField(max_length=200)
    asked = serializers.BooleanField(required=False, default=True)


class SettingsIn(StrictSerializer):
    """The settings to change: what is not named stays as it is. The form of the page checks what they mean."""

    EXAMPLE = {"judgments_needed": 3, "reasons": [ASPECT, {"title": "Funnier"}], "apply_needed": True}

    name = serializers.CharField(required=False, max_length=120)
    guidelines = serializers.CharField(required=False, allow_blank=True, trim_whitespace=False)
    judgments_needed = WholeNumber(required=False, min_value=1, max_value=50)
    lease_minutes = WholeNumber(required=False, min_value=1, max_value=240)
    gold_rate = serializers.FloatField(required=False, min_value=0, max_value=0.5)
    gold_feedback = serializers.ChoiceField(Project.GoldFeedback.choices, required=False)
    repeat_rate = serializers.FloatField(required=False, min_value=0, max_value=0.2)
    qualification_size = WholeNumber(required=False, min_value=0)
    qualification_pass = serializers.FloatField(required=False, min_value=0, max_value=1)
    min_seconds = serializers.FloatField(required=False, min_value=0, max_value=600)
    reasons = AspectIn(many=True, required=False)
    criteria = AspectIn(many=True, required=False)
    ask_rationale = serializers.BooleanField(required=False)
    default_view = serializers.ChoiceField(TextView.choices, required=False)
    visible_metadata = serializers.ListField(child=serializers.CharField(), required=False, max_length=20)
    image_hosts = serializers.ListField(child=serializers.CharField(), required=False, max_length=10)
    show_agreement = serializers.BooleanField(required=False)
    held_out_share = serializers.FloatField(required=False, min_value=0, max_value=0.5)
    training_settings = serializers.DictField(required=False)
    sampling_settings = serializers.DictField(required=False)
    base_model = serializers.CharField(required=False, allow_blank=True, max_length=500)
    apply_needed = serializers.BooleanField(required=False)


class SettingsOut(Shape):
    """Every setting of a project."""

    EXAMPLE = {
        "name": "Film reviews", "guidelines": "", "judgments_needed": 3, "lease_minutes": 10, "gold_rate": 0.1,
        "gold_feedback": "silent", "repeat_rate": 0.0, "qualification_size": 0, "qualification_pass": 0.8,
        "min_seconds": 1.5, "reasons": [ASPECT], "criteria": [], "ask_rationale": False, "default_view": "rendered",
        "visible_metadata": [], "image_hosts": [], "show_agreement": True, "held_out_share": 0.1,
        "training_settings": {}, "sampling_settings": {}, "archived": False, "current_policy": "starter",
        "base_model": "starter",
    }  # fmt: skip

    name = serializers.CharField()
    guidelines = serializers.CharField(allow_blank=True)
    judgments_needed = serializers.IntegerField()
    lease_minutes = serializers.IntegerField()
    gold_rate = serializers.FloatField()
    gold_feedback = serializers.ChoiceField(Project.GoldFeedback.choices)
    repeat_rate = serializers.FloatField()
    qualification_size = serializers.IntegerField()
    qualification_pass = serializers.FloatField()
    min_seconds = serializers.FloatField()
    reasons = AspectOut(many=True)
    criteria = AspectOut(many=True)
    ask_rationale = serializers.BooleanField()
    default_view = serializers.ChoiceField(TextView.choices)
    visible_metadata = Note({"type": "array", "items": {"type": "string"}})
    image_hosts = Note({"type": "array", "items": {"type": "string"}})
    show_agreement = serializers.BooleanField()
    held_out_share = serializers.FloatField()
    training_settings = Note(OBJECT)
    sampling_settings = Note(OBJECT)
    archived = serializers.BooleanField()
    current_policy = serializers.CharField(allow_null=True)
    base_model = serializers.CharField(allow_blank=True)


def settings_data(project: Project, names: list[str]) -> dict[str, Any]:
    policy = project.current_policy
    return {
        **{name: getattr(project, name) for name in names},
        "reasons": [aspect_data(one) for one in project.all_reasons],
        "criteria": [aspect_data(one) for one in project.all_criteria],
        "archived": project.archived_at is not None,
        "current_policy": policy.name if policy else None,
        "base_model": policy.base_model if policy else "",
    }


# --- Figures -----------------------------------------------------------------------------------------------------


def share_data(share: Share) -> dict[str, Any]:
    low, high = share.interval
    return {"count": share.count, "total": share.total, "share": share.value, "low": low, "high": high}


class DayOut(Shape):
    EXAMPLE = {"day": "2026-03-02", "count": 42}

    day = serializers.DateField()
    count = serializers.IntegerField()


class VerdictShareOut(Shape):
    EXAMPLE = {"verdict": "Tie", "share": ShareOut.EXAMPLE}

    verdict = serializers.CharField()
    share = ShareOut()


class PersonOut(Shape):
    """The figures of one annotator. `reliability` estimates how often their preference is right."""

    EXAMPLE = {
        "username": "toni", "annotator": "annotator-2", "judgments": 120, "gold": ShareOut.EXAMPLE,
        "agreement": ShareOut.EXAMPLE, "repeats": ShareOut.EXAMPLE, "left": ShareOut.EXAMPLE,
        "too_fast": ShareOut.EXAMPLE, "skipped": ShareOut.EXAMPLE, "reliability": 0.86, "mean_seconds": 14.5,
        "median_seconds": 11.2, "late": 1, "warnings": [],
    }  # fmt: skip

    username = serializers.CharField()
    annotator = serializers.CharField()
    judgments = serializers.IntegerField()
    gold = ShareOut()
    agreement = ShareOut()
    repeats = ShareOut()
    left = ShareOut()
    too_fast = ShareOut()
    skipped = ShareOut()
    reliability = serializers.FloatField()
    mean_seconds = serializers.FloatField(allow_null=True)
    median_seconds = serializers.FloatField(allow_null=True)
    late = serializers.IntegerField()
    warnings = serializers.ListField(child=serializers.CharField())


class QualityOut(Shape):
    """The figures of the page *Quality*.

    `with_external` counts where people and imported verdicts agree. `leaks` are comparisons with a text that says which
    model wrote it.
    """

    EXAMPLE = {
        "judgments": 120, "people": [PersonOut.EXAMPLE], "verdicts": [VerdictShareOut.EXAMPLE],
        "with_external": ShareOut.EXAMPLE, "gold": ShareOut.EXAMPLE, "left": ShareOut.EXAMPLE,
        "days": [DayOut.EXAMPLE], "leaks": [],
    }  # fmt: skip

    judgments = serializers.IntegerField()
    people = PersonOut(many=True)
    verdicts = VerdictShareOut(many=True)
    with_external = ShareOut()
    gold = ShareOut()
    left = ShareOut()
    days = DayOut(many=True)
    leaks = serializers.ListField(child=serializers.IntegerField())


class KappaOut(Shape):
    """Cohen's kappa of two annotators on the `comparisons` that both judged."""

    EXAMPLE = {"annotators": ["annotator-2", "annotator-3"], "comparisons": 40, "kappa": 0.71}

    annotators = serializers.ListField(child=serializers.CharField(), min_length=2, max_length=2)
    comparisons = serializers.IntegerField()
    kappa = serializers.FloatField(allow_null=True)


class AgreementOut(Shape):
    """Agreement of annotators: the share of pairs of verdicts that agree, Krippendorff's alpha, and Cohen's kappas.

    Intervals are those at 95 %.
    """

    EXAMPLE = {
        "pairwise": ShareOut.EXAMPLE,
        "alpha": 0.68,
        "alpha_interval": [0.52, 0.79],
        "kappas": [KappaOut.EXAMPLE],
    }

    pairwise = ShareOut()
    alpha = serializers.FloatField(allow_null=True)
    alpha_interval = serializers.ListField(
        child=serializers.FloatField(), min_length=2, max_length=2, allow_null=True
    )
    kappas = KappaOut(many=True)
