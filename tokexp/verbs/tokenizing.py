"""`tokexp tokenize`: an experiment that ends with its tokens, for one folder of images, and its store put where asked.

It runs as any experiment does, so that progress, claims and resuming are those of `tokexp run`: a command that was
killed is given again, and goes on.
"""

import json as json_text
import re
import shutil
from collections.abc import Iterator
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from tokexp.data.layouts import find_layout
from tokexp.durable import write_atomic, written_whole
from tokexp.errors import DataError, InputError, SpecError
from tokexp.launch.request import run_record
from tokexp.launch.run import RunOutcome
from tokexp.ledger.runs import RunRecord
from tokexp.ledger.workspace import Workspace, resolve_workspace
from tokexp.plan.graph import Plan, build_plan
from tokexp.report.live import live_display
from tokexp.report.quantities import size, span
from tokexp.report.results import result
from tokexp.spec.cluster_reading import read_cluster
from tokexp.spec.data import ImageFolderData
from tokexp.spec.overrides import apply_values
from tokexp.spec.reading import Document, ReadSpec, open_document
from tokexp.spec.yaml_tree import to_plain
from tokexp.verbs.printing import console, print_json, say
from tokexp.verbs.running import carry_out, open_launcher

IMAGE_SIZE = 256
"""Side in pixels where neither the spec nor `--set data.image_size=...` says one."""

_ENDINGS = (".yaml", ".yml")
_FOLDER_FIELDS = ("image_size", "channels", "resize", "corrupt", "fingerprint", "labels")


@dataclass(frozen=True)
class Asked:
    """What the command line says: the images, a kind of tokenizer or a spec file, the file to write, and how."""

    folder: Path
    tokenizer: str
    output: Path
    workers: int | None
    overrides: tuple[str, ...]


def tokenize(asked: Asked, on: Path | None, workspace: str | Path | None, json: bool) -> int:
    """Encode the images, put the store at its place with the names of its images beside it, and say what it holds.

    Raises SpecError or InputError for what cannot be done; nothing is written then.
    """
    if asked.output.is_dir():
        raise InputError(f"--output: {asked.output} is a folder; give the file to write, such as photos.tokens")
    found = resolve_workspace(workspace)
    read = read_asked(asked)
    planned = build_plan(read.experiment)
    record = run_record(
        planned, read.experiment, file=asked.tokenizer if _is_file(asked) else "", text=read.text, sources=read.sources
    )
    outcome = _run(planned, read, record, found, on)
    for failure in outcome.failures:
        say(f"{failure.name} {failure.key[:6]} failed: {failure.message}\n  see {failure.log}")
    if any(state != "done" for state in outcome.states.values()):
        say("the store is not finished; what was encoded is kept, and the same command goes on from there")
        if json:
            print_json({"ref": record.ref, "failures": [asdict(failure) for failure in outcome.failures]})
        return outcome.exit_code or 1
    node = next(node for node in planned.nodes if node.kind == "tokens")
    written = list(put(found.output("tokens", node.key), asked.output))
    _tell(found, record, written, json)
    return 0


def read_asked(asked: Asked) -> ReadSpec:
    """Return the experiment: the spec's tokenizer and storage on the given folder. Raises SpecError."""
    if _is_file(asked):
        return _read(Path(asked.tokenizer), asked)
    with TemporaryDirectory() as made:
        file = Path(made) / "tokenize.yaml"
        file.write_text(f"schema: 1\ntokenizer: {{kind: {json_text.dumps(asked.tokenizer)}}}\n")
        try:
            return _read(file, asked)
        except SpecError as error:
            # Nobody wrote that file: what is wrong was said on the command line.
            named = [
                replace(each, file="--tokenizer", line=None, column=None) if each.file == str(file) else each
                for each in error.problems
            ]
            raise SpecError(named) from None


def _read(file: Path, asked: Asked) -> ReadSpec:
    document = open_document(file)
    _lay(document, asked)
    return document.read(asked.overrides)


def _is_file(asked: Asked) -> bool:
    return Path(asked.tokenizer).suffix in _ENDINGS


def _lay(document: Document, asked: Asked) -> None:
    plain: Any = to_plain(document.tree)
    written = plain.get("data") if isinstance(plain, dict) else None
    data = {name: written[name] for name in _FOLDER_FIELDS if name in written} if isinstance(written, dict) else {}
    data = {"kind": "image_folder", "image_size": IMAGE_SIZE, **data, "root": str(asked.folder), "test_fraction": 0.0}
    if "labels" not in data:
        data["labels"] = _labels(asked.folder)
    name = re.sub(r"[^A-Za-z0-9_.-]+", "-", asked.folder.expanduser().absolute().stem).strip("-.") or "images"
    values: dict[str, Any] = {
        "name": f"tokens-{name}"[:100], "data": data, "until": "tokens", "objective": None, "tasks": {}, "evaluate": {},
    }  # fmt: skip
    if asked.workers is not None:
        values["resources.tokens.processes"] = asked.workers
        if not (isinstance(plain, dict) and plain.get("resources")):
            values["resources.tokens.cpus"] = 1
    document.tree = apply_values(document.tree, values, document.problems, "tokexp tokenize")


def _labels(folder: Path) -> str:
    """Return whether the images lie in one folder per class. Raises DataError if there are none at all."""
    probe = {"kind": "image_folder", "root": str(folder), "image_size": IMAGE_SIZE}
    try:
        find_layout(ImageFolderData.model_validate(probe))
    except DataError:
        find_layout(ImageFolderData.model_validate({**probe, "labels": "none"}))
        say(f"{folder} has no class folders: its images are stored as one class")
        return "none"
    return "folders"


def _run(planned: Plan, read: ReadSpec, record: RunRecord, workspace: Workspace, on: Path | None) -> RunOutcome:
    display = live_display()
    if on is None:
        with open_launcher("local", None, display) as local:
            return carry_out(planned, read.experiment, record, workspace, local, display)
    cluster = read_cluster(on).cluster
    from tokexp.launch.slurm import SlurmLauncher

    with SlurmLauncher(cluster, workspace, record.ref, display.say) as launcher:
        return carry_out(planned, read.experiment, record, workspace, launcher, display)


def put(output: Path, target: Path) -> Iterator[Path]:
    """Copy the stores of a tokens stage to `target` and beside it, with the names of their images; yield the files.

    `photos.tokens` holds the training split (all images, where there are no split folders), `photos.test.tokens` the
    test split, `photos.names.txt` a name per image, `photos.skipped.txt` what could not be read, and why.
    """
    for store in sorted(output.glob("*.tokens"), key=lambda store: (store.stem != "train", store.stem)):
        names = store.with_suffix(".names.txt")
        if store.stem != "train" and names.exists() and not names.stat().st_size:
            continue
        mark = "" if store.stem == "train" else f".{store.stem}"
        for file, ending in ((store, target.suffix or ".tokens"), (names, ".names.txt")):
            place = target if file == store and not mark else target.with_name(f"{target.stem}{mark}{ending}")
            with written_whole(place) as beside:
                shutil.copyfile(file, beside)
            yield place
    skipped, place = output / "skipped.json", target.with_name(f"{target.stem}.skipped.txt")
    place.unlink(missing_ok=True)
    if skipped.exists():
        found = json_text.loads(skipped.read_text()).items()
        # Escaped as in the file of names: a name may hold line breaks and tabs.
        lines = [f"{_escaped(name)}\t{_escaped(reason)}\n" for name, reason in found]
        write_atomic(place, "".join(lines).encode("utf-8", "surrogateescape"))
        yield place


def _escaped(text: str) -> str:
    return json_text.dumps(text, ensure_ascii=False)[1:-1]


def _tell(workspace: Workspace, record: RunRecord, written: list[Path], json: bool) -> None:
    found = result(workspace, record)
    stage = next(stage for stage in found["stages"] if stage["kind"] == "tokens")
    storage, seconds = found["storage"], float(stage["seconds"] or 0.0)
    skipped = int(storage.get("skipped_images") or 0)
    if json:
        print_json(
            {
                "ref": record.ref, "files": [str(file) for file in written], "images": storage["images"],
                "bytes": storage["total"], "bytes_per_image": storage["bytes_per_image"], "skipped": skipped,
                "seconds": seconds,
            }
        )  # fmt: skip
        return
    left_out = f", {skipped:,} that cannot be read left out" if skipped else ""
    facts = f"{storage['images']:,.0f} images{left_out}, {storage['bytes_per_image']:.1f} bytes/image"
    console().print(f"{written[0]}: {facts}, {size(storage['total'])} in all; encoded in {span(seconds)}", markup=False)
    test = next((file for file in written if file.name.endswith(".test.tokens")), None)
    say(f"train on it: data: {{kind: token_store, train: {written[0]}{'' if test is None else f', test: {test}'}}}")
