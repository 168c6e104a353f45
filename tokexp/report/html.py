"""A run as one HTML file that needs nothing else: no script, no network; for light and dark screens and for paper."""

import base64
import time
from collections.abc import Mapping, Sequence
from html import escape
from typing import Any

import yaml

from tokexp.errors import InputError
from tokexp.ledger.runs import RunRecord
from tokexp.ledger.workspace import Workspace
from tokexp.report.page import folded, header, lab_card, page, provenance, section, table, verbatim
from tokexp.report.pictures import draw_codebook, draw_patches, draw_pictures, patch_tests
from tokexp.report.quantities import size, span
from tokexp.report.results import (
    PARTS,
    Result,
    headlines,
    other_metrics,
    result,
    shown_text,
    storage_rows,
    value_text,
)
from tokexp.tracking.curves import draw, loss_curves


def report_html(workspace: Workspace, record: RunRecord, *, pictures: bool = True) -> str:
    """Return the page of a run, as far as it has come. `pictures` off leaves out those that need the models."""
    found = result(workspace, record)
    curves = loss_curves(workspace, record)
    sections = [
        section("Results", _results(found)),
        section("Storage", _storage(found["storage"])),
        section("Training", draw(curves) if curves else ""),
        section("Augmentation", _pictures(workspace, record) if pictures else ""),
        section("Codes", _codes(workspace, record) if pictures else ""),
        section("Patches", _patches(workspace, record) if pictures else ""),
        section("Stages", _stages(found)),
        section("Experiment", _spec(record)),
        section("Provenance", _provenance(record)),
    ]
    return page(record.ref, _header(record, found) + "".join(sections))


def _header(record: RunRecord, found: Result) -> str:
    states = [stage["state"] for stage in found["stages"]]
    done, total = states.count("done"), len(states)
    seconds = sum(stage["seconds"] or 0.0 for stage in found["stages"])
    state = "complete" if done == total else f"{done} of {total} stages done"
    seeds = ", ".join(str(seed) for seed in record.seeds)
    facts = [
        state,
        f"seed{'s' if len(record.seeds) > 1 else ''} {seeds}",
        f"{span(seconds)} of computing",
        time.strftime("%Y-%m-%d %H:%M UTC", time.gmtime(record.created)),
    ]
    return header(record.name, record.ref, facts, lab_card(record.spec_text))


def _results(found: Result) -> str:
    first, others = headlines(found), other_metrics(found)
    if not first:
        first, others = others, []
    if not first:
        return "<p>No stage with a result is done yet.</p>"
    more = folded("All other numbers", _metrics(found, others)) if others else ""
    return _metrics(found, first) + more


def _metrics(found: Result, names: Sequence[str]) -> str:
    seeds = [str(seed) for seed in found["seeds"]]
    several = len(seeds) > 1
    head = ["result", "mean \u00b1 sd over seeds", *([f"seed {seed}" for seed in seeds] if several else [])]
    rows = []
    for name in names:
        values = found["per_seed"][name]
        own = [value_text(name, values[seed]) if seed in values else "-" for seed in seeds] if several else []
        rows.append([name, shown_text(found, name), *own])
    return table(head, rows)


def _storage(storage: Mapping[str, Any]) -> str:
    if not storage:
        return ""
    rows = [[what, size(count), f"{per:.2f}"] for what, count, per in storage_rows(storage)]
    raw = storage["raw_bytes_per_image"]
    if raw:
        rows.append(["as raw pixels", size(raw * storage["images"]), f"{raw:.2f}"])
    how = f"{'codec' if 'indices' in storage else 'policy'} {storage['codec']}"
    head = [f"{storage['images']:,.0f} images, {how}", "bytes", "bytes per image"]
    return _bars(storage) + table(head, rows)


def _bars(storage: Mapping[str, Any]) -> str:
    """Draw the stored bytes per image by part, under the raw pixels' bytes where they are known."""
    per_image, raw = storage["bytes_per_image"], storage["raw_bytes_per_image"]
    widest = max(per_image, raw or 0) or 1
    parts = []
    for place, (name, text) in enumerate(PARTS.items()):
        share = storage.get(name, 0) / storage["images"] / widest
        if share:
            title = f"{text}: {storage[name] / storage['images']:.2f} bytes per image"
            parts.append(f'<i class="part{place}" style="width:{100 * share:.3f}%" title="{escape(title)}"></i>')
    legend = "".join(
        f'<li><b class="part{place}"></b>{escape(text)}</li>'
        for place, (name, text) in enumerate(PARTS.items())
        if storage.get(name)
    )
    what = "tokens" if "indices" in storage else "stored"
    bars = f'<div class="row"><span>{what}</span><div class="bar">{"".join(parts)}</div></div>'
    if raw:
        pixels = f'<i class="pixels" style="width:{100 * raw / widest:.3f}%"></i>'
        bars = f'<div class="row"><span>pixels</span><div class="bar">{pixels}</div></div>{bars}'
        said = f"<p>{per_image:.2f} bytes per image, {100 * per_image / raw:.1f} % of the raw pixels.</p>"
    else:
        said = f"<p>{per_image:.2f} bytes per image.</p>"
    return f'{said}<div class="bars">{bars}</div><ul class="legend">{legend}</ul>'


def _pictures(workspace: Workspace, record: RunRecord) -> str:
    try:
        picture = base64.b64encode(draw_pictures(workspace, record)).decode()
    except InputError:
        return ""
    return _figure(picture, "Test images, their tokens decoded, and each augmentation of the tokens decoded.")


def _codes(workspace: Workspace, record: RunRecord) -> str:
    try:
        return "".join(_figure(picture, said) for picture, said in draw_codebook(workspace, record))
    except InputError:
        return ""


def _patches(workspace: Workspace, record: RunRecord) -> str:
    figures = []
    for node in patch_tests(workspace, record):
        try:
            picture = base64.b64encode(draw_patches(workspace, record, node)).decode()
        except InputError:
            continue
        said = f"{node.name}: images, and the classes that their patches are given as they are and morphed into fewer "
        said += "groups. Green: the image's own class. Red: another one, the darker the more were preferred to it."
        figures.append(_figure(picture, said))
    return "".join(figures)


def _figure(picture: str, said: str) -> str:
    """Return a PNG (base64) with its caption."""
    return (
        f'<figure><img alt="{escape(said)}" src="data:image/png;base64,{picture}">'
        f"<figcaption>{escape(said)}</figcaption></figure>"
    )


def _stages(found: Result) -> str:
    rows = []
    for stage in found["stages"]:
        metrics = ", ".join(f"{name} {value_text(name, value)}" for name, value in list(stage["metrics"].items())[:3])
        seconds = "-" if stage["seconds"] is None else span(stage["seconds"])
        seed = "-" if stage["seed"] is None else str(stage["seed"])
        rows.append([stage["name"], stage["label"], seed, stage["state"], seconds, metrics, stage["key"][:12]])
    return table(["stage", "what", "seed", "state", "time", "found", "key"], rows, text=(0, 1, 3, 5, 6))


def _spec(record: RunRecord) -> str:
    resolved = yaml.safe_dump(record.resolved, sort_keys=False, allow_unicode=True)
    asked = folded("As asked", verbatim(record.spec_text), is_open=True)
    return asked + folded("As resolved", verbatim(resolved))


def _provenance(record: RunRecord) -> str:
    return provenance(record.provenance, {"spec file": record.spec_file, "spec hash": record.spec_hash})
