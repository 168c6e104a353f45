"""Storage policies side by side: what each of them stores for an image of the source, against accuracy.

The cost is bytes of the stored training set over the images of the *source*, kept or not: keeping fewer images makes
it less, and sets of other sizes can stand beside. Published points are the papers' gigabytes (which are GiB) over the
images of ImageNet-1k.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Final

from tokexp.errors import DamagedError, InputError
from tokexp.ledger.outputs import is_done, read_result
from tokexp.ledger.runs import RunNode, RunRecord
from tokexp.ledger.sweeps import Sweep
from tokexp.ledger.workspace import Workspace
from tokexp.report.front import non_dominated
from tokexp.report.published import published_table
from tokexp.report.quantities import size
from tokexp.report.sheets import Sheet
from tokexp.report.statistics import estimate
from tokexp.report.trials import SweepResult, sweep_result
from tokexp.report.wording import is_share
from tokexp.tracking.measures import per_seed

FAMILIES: Final[Mapping[str, str]] = {
    "fraction": "fewer images", "c_score": "fewer images, by C-score", "per_class": "fewer images, listed",
    "jpeg": "JPEG quality", "resize": "resolution", "distilled": "distilled set", "tokens": "tokens",
}  # fmt: skip
"""Families of policies, and what people read; kinds of other packages follow under their own word."""

IMAGENET_IMAGES: Final = 1_281_167
"""Training images of ImageNet-1k."""

_METHODS = (("jpeg", "jpeg"), ("resolution", "resize"), ("c-score", "c_score"), ("uniform", "fraction"),
            ("full pixels", "fraction"))  # fmt: skip
"""A word of a published method's name, and its family; what has none of them are tokens."""


@dataclass(frozen=True)
class FrontierPoint:
    """A policy with a parameter: bytes per image of the source, and a share from 0 to 1 (or another metric).

    half: half the 95 % interval over seeds. total, images: the stored bytes and images, where they are known. table:
    the published table that it is from, empty for ours. label: what a plot calls it, its name if empty.
    """

    name: str
    family: str
    cost: float
    value: float
    half: float | None = None
    n: int = 1
    total: float | None = None
    images: int | None = None
    table: str = ""
    label: str = ""


@dataclass(frozen=True)
class Frontier:
    """Points in the order in which they were given, the metric that they were measured by, and what is left out."""

    metric: str
    points: tuple[FrontierPoint, ...]
    remarks: tuple[str, ...] = ()

    @property
    def families(self) -> tuple[str, ...]:
        """The families that occur, known ones first."""
        found = {point.family for point in self.points}
        return (*(word for word in FAMILIES if word in found), *sorted(found - FAMILIES.keys()))

    def of(self, family: str, published: bool) -> tuple[FrontierPoint, ...]:
        """Return a family's points, ours or published ones, by cost."""
        found = [point for point in self.points if point.family == family and bool(point.table) == published]
        return tuple(sorted(found, key=lambda point: point.cost))

    def front(self) -> tuple[FrontierPoint, ...]:
        """Return our points that no other of ours is better and cheaper than, by cost."""
        return best_of([point for point in self.points if not point.table])


def best_of(points: Sequence[FrontierPoint]) -> tuple[FrontierPoint, ...]:
    """Return the points that no other is at least as good and as cheap as, by cost."""
    places = non_dominated({place: (p.cost, p.value) for place, p in enumerate(points)}, ["minimize", "maximize"])
    return tuple(sorted((points[place] for place in places), key=lambda point: point.cost))


def sweep_frontier(workspace: Workspace, sweep: Sweep, result: SweepResult | None = None) -> Frontier:
    """Return the cases of a sweep as points, by its first metric that is a share, and its published table's rows."""
    result = result or sweep_result(workspace, sweep)
    names = [each["name"] for each in result.metrics]
    chosen = next((name for name in names if is_share(name)), names[0])
    points, missing = [], 0
    for case in result.cases:
        keys = next((trial.keys for trial in sweep.trials if trial.point == case.point and trial.state == "done"), {})
        found = case.estimates.get(chosen)
        stored = _stored(workspace, [sweep.nodes[key] for key in keys.values() if key in sweep.nodes])
        if found is None or stored is None:
            missing += 1
            continue
        points.append(_point(case.name, stored, found.mean, found.half, found.n))
    published = sweep.record.published
    own = Frontier(chosen, tuple(points), _remarks(missing, "case"))
    return own if published is None else with_published(own, str(published.get("table", "")), strict=False)


def run_frontier(workspace: Workspace, record: RunRecord) -> Frontier:
    """Return the clean accuracy of each task of a run as points."""
    table = per_seed(workspace, record)
    names = [name for name in table if name.count("/") == 1 and name.endswith("/top1")]
    stored = _stored(workspace, record.nodes)
    points = []
    for name in names:
        found = estimate(table.get(name, {}))
        if found is not None and stored is not None:
            title = record.name if len(names) == 1 else f"{record.name}: {name.partition('/')[0]}"
            points.append(_point(title, stored, found.mean, found.half, found.n))
    return Frontier(names[0] if names else "top1", tuple(points), _remarks(int(not points), "run"))


def joined(parts: Sequence[Frontier]) -> Frontier:
    """Return several frontiers as one; the metric is named by its last word where they differ in it."""
    metrics = dict.fromkeys(part.metric for part in parts)
    metric = next(iter(metrics)) if len(metrics) == 1 else next(iter(metrics)).rpartition("/")[2]
    points = dict.fromkeys(point for part in parts for point in part.points)
    return Frontier(metric, tuple(points), tuple(dict.fromkeys(text for part in parts for text in part.remarks)))


def with_published(frontier: Frontier, name: str, *, strict: bool = True) -> Frontier:
    """Return a frontier with the rows of a published table that have bytes and an accuracy.

    Raises InputError for a table that does not exist or has neither; without `strict` it is left out.
    """
    try:
        table = published_table(name)
        if not {"storage_gb", "method"} <= set(table.columns) or table.value_column() is None:
            raise InputError(f"{name} has no columns `method`, `storage_gb` and an accuracy; see seit/table-b5")
    except InputError:
        if strict:
            raise
        return frontier
    rows = [row for row in table.rows if _images(row) <= IMAGENET_IMAGES * 1.01]
    points = [_published_point(row, str(table.value_column()), name, table.percent) for row in rows]
    said = f"published: {table.name}, {table.title}; {table.metric}. "
    said += "GB are taken as GiB, over the images of ImageNet-1k"
    if len(rows) < len(table.rows):
        said += f"; {len(table.rows) - len(rows)} rows of more images than those are left out"
    every, remarks = dict.fromkeys((*frontier.points, *points)), dict.fromkeys((*frontier.remarks, said))
    return Frontier(frontier.metric, tuple(every), tuple(remarks))


def frontier_sheet(frontier: Frontier) -> Sheet:
    """Return the table behind the plot: ours by cost, then what was published."""
    ordered = sorted(frontier.points, key=lambda point: (bool(point.table), point.cost))
    front = set(frontier.front())
    rows = [
        (
            point.name, FAMILIES.get(point.family, point.family), f"{point.cost:,.4g}",
            "-" if point.total is None else size(point.total),
            "-" if point.images is None else f"{point.images:,}", _value(frontier.metric, point), point.table,
        )
        for point in ordered
    ]  # fmt: skip
    head = ("policy", "family", "bytes/source image", "stored", "images", frontier.metric, "published")
    records = [asdict(point) for point in ordered]
    marks = ["best" if point in front else "" for point in ordered]
    return Sheet("Storage policies", head, tuple(rows), tuple(records), (0, 1, 6), tuple(marks), frontier.remarks)


def _value(metric: str, point: FrontierPoint) -> str:
    if point.table:
        return f"{100 * point.value:.1f} %"
    scale, unit = (100.0, " %") if is_share(metric) else (1.0, "")
    half = "" if point.half is None else f" \u00b1 {scale * point.half:.2f}"
    return f"{scale * point.value:.2f}{unit}{half} (n={point.n})"


def _remarks(missing: int, what: str) -> tuple[str, ...]:
    if not missing:
        return ()
    return (f"{missing} {what}{'s' if missing > 1 else ''} left out: no accuracy yet, or nothing stored is counted",)


def _stored(workspace: Workspace, nodes: Iterable[RunNode]) -> tuple[str, dict[str, Any]] | None:
    """Return the family and the facts of what a model is trained from; None where nothing that is stored is counted."""
    by_kind = {node.kind: node for node in nodes}
    node = by_kind.get("images") or by_kind.get("tokens")
    if node is None or not is_done(folder := workspace.output(node.kind, node.key)):
        return None
    try:
        facts = read_result(folder).get("facts", {})
    except DamagedError:
        return None
    return (_family(node), facts) if facts.get("accounting") and facts.get("source_images") else None


def _family(node: RunNode) -> str:
    if node.kind == "tokens":
        return "tokens"
    reduce = (node.payload.get("storage") or {}).get("reduce") or {}
    kind = str(reduce.get("kind", "fraction"))
    return str(reduce["select"]) if reduce.get("select") in ("c_score", "per_class") else kind


def _point(name: str, stored: tuple[str, dict[str, Any]], value: float, half: float | None, n: int) -> FrontierPoint:
    family, facts = stored
    total, images = float(facts["accounting"]["total"]), int(facts["accounting"]["images"])
    return FrontierPoint(name, family, total / facts["source_images"], value, half, n, total, images)


def _images(row: Mapping[str, Any]) -> float:
    count = row.get("images_m")
    return 1e6 * count if count is not None else 1e3 * (row.get("images_k") or 0)


def _published_point(row: Mapping[str, Any], column: str, table: str, percent: bool) -> FrontierPoint:
    method = ", ".join(str(row[word]) for word in ("method", "tokenizer") if row.get(word))
    family = next((word for part, word in _METHODS if part in method.lower()), "tokens")
    level = "" if row.get("level") is None else f"{row['level']}{_unit(row)}"
    total = float(row["storage_gb"]) * 2**30
    value = float(row[column]) / (100 if percent else 1)
    name = f"{method} {level}".strip()
    return FrontierPoint(
        name, family, total / IMAGENET_IMAGES, value, total=total, table=table, label=level or method
    )  # fmt: skip


def _unit(row: Mapping[str, Any]) -> str:
    return " %" if "%" in str(row.get("level_unit", "")) else ""
