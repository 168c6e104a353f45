"""How MLflow's pages show a sweep: a saved view, with the trials flat, the columns that matter, and charts of them.

MLflow 3 keeps what its menu "Views" offers in tags of the experiment, as compressed JSON. Without that a page of runs
begins with the parents alone and no metric. A version that does not know the tags ignores them.
"""

import base64
import json
import zlib
from typing import Any

from tokexp.ledger.sweeps import SweepRecord
from tokexp.tracking.trials import experiment_value

TAG = "mlflow.sharedViewState."
"""What the names of such tags begin with."""

_RUNS_SHOWN = 20
_MOST_COLUMNS = 15
_SECTION = "tokexp-sweep"
_FIRST_COLUMNS = {"attributes.`Run Name`": 190, "runDateAndNestInfo": 150}
"""MLflow's names for its own columns that stay in front, and their widths in pixels."""


def view_key(record: SweepRecord) -> str:
    """Return the name of a sweep's view in addresses."""
    return f"tokexp-{record.ref}"


def view_tag(record: SweepRecord) -> tuple[str, str]:
    """Return name and value of the experiment's tag that holds the sweep's view."""
    time_ms = round(record.created * 1000)
    state = base64.b64encode(zlib.compress(json.dumps(view_state(record)).encode())).decode()
    saved = {"name": record.ref, "createdAt": time_ms, "updatedAt": time_ms, "state": f"deflate;{state}"}
    return f"{TAG}{view_key(record)}", json.dumps(saved)


def view_state(record: SweepRecord) -> dict[str, Any]:
    """Return what MLflow's page of runs takes for its state."""
    metrics = [metric["name"] for metric in record.metrics]
    first = record.metrics[0] if record.metrics else {}
    varied = list(dict.fromkeys([*(() if record.searched else ("case",)), *record.parameters]))[:_MOST_COLUMNS]
    columns = [
        *(_column("metrics", name) for name in dict.fromkeys([*metrics, "cost/seconds"])),
        *(_column("params", name) for name in dict.fromkeys([*varied, "seed"])),
        _column("tags", "tokexp.state"),
    ]
    return {
        # The parent has no such tag; sorted by anything but the time, MLflow does not fold runs below their parents.
        "searchFilter": f"tags.`tokexp.study` = '{record.ref}' and tags.`tokexp.trial` != ''",
        "orderByKey": _column("metrics", metrics[0]) if metrics else "attributes.end_time",
        "orderByAsc": first.get("direction") == "minimize",
        "startTime": "ALL", "lifecycleFilter": "Active", "datasetsFilter": [], "modelVersionFilter": "All Runs",
        "selectedColumns": columns, "columnOrder": [*_FIRST_COLUMNS, *columns],
        "columnWidths": {**_FIRST_COLUMNS, **{name: _width(name) for name in columns}},
        "runsExpanded": {}, "runsPinned": [], "runsHidden": [], "runsVisibilityMap": {},
        "runsHiddenMode": "FIRST_20_RUNS", "viewMaximized": False, "runListHidden": False,
        "isAccordionReordered": False, "useGroupedValuesInCharts": True, "hideEmptyCharts": True, "groupBy": None,
        "groupsExpanded": {}, "autoRefreshEnabled": True,
        "globalLineChartConfig": {"xAxisKey": "step", "lineSmoothness": 0, "selectedXAxisMetricKey": ""},
        "compareRunCharts": _charts(metrics, [name for name in varied if _has_axis(record, name)]),
        "compareRunSections": [
            {"uuid": _SECTION, "name": record.name, "display": True, "isReordered": False, "deleted": False,
             "isGenerated": False, "columns": 2, "cardHeight": 360},
        ],
    }  # fmt: skip


def _has_axis(record: SweepRecord, path: str) -> bool:
    """Say whether parallel coordinates can show a parameter: each trial has a value of it, and none is a list of steps.

    MLflow leaves trials without a value out of the whole chart.
    """
    sweep = record.frozen.get("sweep") or {}
    cases = (sweep.get("cases") or {}).values()
    listed = [value for block in ("grid", "zip") for value in (sweep.get(block) or {}).get(path, ())]
    given = [values[path] for values in cases if path in values] + listed
    if any(isinstance(value, (list, dict)) for value in given):
        return False
    conditional = bool(((sweep.get("space") or {}).get(path) or {}).get("when"))
    missing = conditional or (bool(given) and not listed and len(given) < len(cases))
    return not missing or experiment_value(record, path) is not None


def _charts(metrics: list[str], varied: list[str]) -> list[dict[str, Any]]:
    charts = [
        _chart("PARALLEL", "parallel", selectedParams=varied, selectedMetrics=metrics, showAllRuns=True,
               displayName="Parameters and metrics"),
    ]  # fmt: skip
    if metrics:
        second = {"key": metrics[1] if len(metrics) > 1 else "cost/seconds", "type": "METRIC"}
        named = f"{metrics[0]} and {second['key']}"
        charts.append(
            _chart("SCATTER", "scatter", xaxis=second, yaxis={"key": metrics[0], "type": "METRIC"}, displayName=named)
        )
    charts += [_chart("BAR", f"bar-{name}", metricKey=name, displayName=name) for name in metrics]
    stages = dict.fromkeys(name.split("/", maxsplit=1)[0] for name in metrics if not name.startswith("storage/"))
    return charts + [_curve(stage) for stage in stages]


def _curve(stage: str) -> dict[str, Any]:
    name = f"{stage}/curve/loss"
    return _chart(
        "LINE", f"line-{stage}", metricKey=name, selectedMetricKeys=[name], displayName=name, lineSmoothness=0,
        xAxisScaleType="linear", scaleType="linear", range={}, xAxisKey="step", selectedXAxisMetricKey="",
        yAxisKey="metric", yAxisExpressions=[], ignoreOutliers=False, useGlobalXaxisKey=True,
        useGlobalLineSmoothing=True,
    )  # fmt: skip


def _chart(kind: str, name: str, **fields: Any) -> dict[str, Any]:
    own = {"uuid": f"tokexp-{name}", "type": kind, "runsCountToCompare": _RUNS_SHOWN, "metricSectionId": _SECTION}
    return {**own, "deleted": False, "isGenerated": False, **fields}


def _column(kind: str, name: str) -> str:
    return f"{kind}.`{name}`"


def _width(column: str) -> int:
    """Return the width in pixels at which a column's name is readable."""
    return max(100, min(260, 8 * len(column.split("`")[1]) + 30))
