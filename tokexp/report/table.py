"""A run's numbers as CSV (one line per metric and seed) or as a Markdown table (mean and deviation over seeds)."""

import csv
import io
from collections.abc import Mapping
from typing import Any

from tokexp.report.results import headlines, other_metrics, shown_text, storage_rows


def as_csv(found: Mapping[str, Any]) -> str:
    """Return lines of run, metric, seed, value; values in full precision."""
    target = io.StringIO()
    writer = csv.writer(target, lineterminator="\n")
    writer.writerow(["run", "metric", "seed", "value"])
    for name, values in found["per_seed"].items():
        writer.writerows([found["ref"], name, seed, repr(value)] for seed, value in values.items())
    return target.getvalue()


def as_markdown(found: Mapping[str, Any]) -> str:
    """Return two Markdown tables: results, and storage where tokens are stored."""
    lines = [f"# {found['ref']}", "", "| result | mean \u00b1 sd over seeds |", "|---|---:|"]
    lines += [f"| {name} | {shown_text(found, name)} |" for name in headlines(found) + other_metrics(found)]
    storage = found["storage"]
    if storage:
        lines += ["", "| storage | bytes | bytes per image |", "|---|---:|---:|"]
        lines += [f"| {what} | {count:,.0f} | {per:.2f} |" for what, count, per in storage_rows(storage)]
    return "\n".join(lines) + "\n"
