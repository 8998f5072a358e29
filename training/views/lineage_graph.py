"""The drawing of a lineage: policies down the page, the snapshots that shaped them beside, as SVG without a script.

Coordinates are in a box that fits a phone; colours come from the stylesheet's classes. Beside it stands a list that
says the same.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from django.urls import reverse
from django.utils.translation import gettext as _
from django.utils.translation import ngettext

from annotate.models import Policy
from training.models import Round
from training.rounds.lineage import Holdings

ROW, BOX_HEIGHT, BOX_WIDTH = 72, 46, 148
SNAPSHOT_LEFT, POLICY_LEFT = 16, 200
LANE, MOST_LANES = 16, 3
SPINE = 6  # where the line from a judgment to its snapshots goes down
WIDTH = POLICY_LEFT + LANE * (MOST_LANES - 1) + BOX_WIDTH + 4
LONGEST = 19  # characters that fit into a box
MOST_ROWS = 60
ASIDE = 18  # where the line from a reference goes down, right of the boxes


@dataclass(frozen=True)
class Shaped:
    """A policy, the round that made it, and what that round's snapshot holds."""

    policy: Policy
    round: Round | None
    holdings: Holdings | None
    reference: Policy | None = None  # which it was trained against, if that is not its parent
    by_descent: bool = False  # a judgment shaped it through other policies, and not by its round's snapshot

    @property
    def state(self) -> str:
        """The number of the round, and what became of it; of a policy that no round made, its kind."""
        if self.round is None:
            return str(self.policy.get_kind_display())
        words = {"number": self.round.number, "state": self.round.get_state_display().lower()}
        return _("round %(number)s · %(state)s") % words


@dataclass(frozen=True)
class Box:
    x: int
    y: int
    title: str
    note: str
    url: str
    kind: str  # its class in the stylesheet
    is_here: bool = False
    width: int = BOX_WIDTH
    height: int = BOX_HEIGHT

    @property
    def name(self) -> str:
        """The title, as far as the box has room for it."""
        return self.title if len(self.title) <= LONGEST else f"{self.title[: LONGEST - 1]}…"

    @property
    def middle(self) -> int:
        return self.y + self.height // 2


@dataclass
class Graph:
    """Boxes and lines as they are drawn, policy by policy. Lines and heads of arrows are SVG paths."""

    height: int
    left_out: int
    boxes: list[Box] = field(default_factory=list)
    lines: list[str] = field(default_factory=list)
    heads: list[str] = field(default_factory=list)
    references: list[str] = field(default_factory=list)  # from references to what was trained against them

    @property
    def width(self) -> int:
        return WIDTH + ASIDE if self.references else WIDTH

    def add_parent(self, parent: Box, child: Box) -> None:
        start = f"M{parent.x + 8} {parent.y + parent.height}"
        beside = f"V{child.middle}H{child.x}"
        self.lines.append(start + (beside if child.x > parent.x else f"V{child.y}"))

    def add_reference(self, reference: Box, child: Box) -> None:
        aside = WIDTH + ASIDE - 6
        start, end = reference.x + reference.width, child.x + child.width
        self.references.append(f"M{start} {reference.middle}H{aside}V{child.middle}H{end + 1}")
        self.heads.append(f"M{end + 1} {child.middle}l6 -4v8z")

    def add_snapshot(self, snapshot: Box, child: Box) -> None:
        self.boxes.append(snapshot)
        self.lines.append(f"M{snapshot.x + snapshot.width} {snapshot.middle}H{child.x - 1}")
        self.heads.append(f"M{child.x - 1} {snapshot.middle}l-6 -4v8z")


def draw(
    shaped: Sequence[Shaped],
    slug: str,
    *,
    here: Policy | None = None,
    judgment: str = "",
    judgment_url: str = "",
) -> Graph:
    """Return the drawing of these policies, oldest first. `here` is marked; a `judgment` leads to its snapshots."""
    drawn = nearest(shaped, here)
    lanes = _lanes(drawn)
    top = ROW if judgment else 0
    graph = Graph(height=top + len(drawn) * ROW - (ROW - BOX_HEIGHT) + 4, left_out=len(shaped) - len(drawn))
    if judgment:
        graph.boxes.append(Box(0, 2, judgment, _("judgment"), judgment_url, "judgment"))
    places: dict[int, Box] = {}
    for row, one in enumerate(drawn):
        x, y = POLICY_LEFT + LANE * lanes[one.policy.pk], top + row * ROW + 2
        url = reverse("policy", args=[slug, one.policy.pk])
        box = Box(x, y, one.policy.name, one.state, url, "policy", one.policy == here)
        graph.boxes.append(box)
        places[one.policy.pk] = box
        if (parent := places.get(one.policy.parent_id or 0)) is not None:
            graph.add_parent(parent, box)
        if one.reference is not None and (reference := places.get(one.reference.pk)) is not None:
            graph.add_reference(reference, box)
        if one.round and one.round.snapshot and not one.by_descent:
            snapshot = _snapshot(one.round, one.holdings or Holdings(), y, slug)
            graph.add_snapshot(snapshot, box)
            if judgment:
                graph.lines.append(f"M{SPINE} {BOX_HEIGHT + 2}V{snapshot.middle}H{snapshot.x}")
    return graph


def nearest(shaped: Sequence[Shaped], here: Policy | None) -> Sequence[Shaped]:
    """Return the rows that are drawn: with many, those around the policy that the page is about."""
    at = next((row for row, one in enumerate(shaped) if one.policy == here), 0)
    start = max(0, min(at - MOST_ROWS // 2, len(shaped) - MOST_ROWS))
    return shaped[start : start + MOST_ROWS]


def _lanes(shaped: Sequence[Shaped]) -> Mapping[int, int]:
    """Return the lane of each policy: the last child goes on in its parent's lane, the others beside it.

    A policy whose reference is drawn and whose parent is not is put beside, too: it is not a child of the one above.
    """
    last_child = {one.policy.parent_id: one.policy.pk for one in shaped}
    lanes: dict[int, int] = {}
    for one in shaped:
        lane = lanes.get(one.policy.parent_id or 0, 0)
        if one.policy.parent_id in lanes:
            beside = last_child[one.policy.parent_id] != one.policy.pk
        else:
            beside = one.reference is not None and one.reference.pk in lanes
        lanes[one.policy.pk] = min(lane + beside, MOST_LANES - 1)
    return lanes


def _snapshot(round_: Round, holdings: Holdings, y: int, slug: str) -> Box:
    digest = round_.snapshot.digest if round_.snapshot else ""
    note = ngettext("%(count)s pair", "%(count)s pairs", holdings.pairs) % {"count": f"{holdings.pairs:,}"}
    if holdings.ratings:
        note += ngettext(", %(count)s rating", ", %(count)s ratings", holdings.ratings) % {
            "count": f"{holdings.ratings:,}"
        }
    url = reverse("snapshot", args=[slug, digest])
    return Box(SNAPSHOT_LEFT, y, digest[:12], note, url, "snapshot")
