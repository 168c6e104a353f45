"""The README is kept true: its commands work, its files exist, its spec validates."""

import re
import shlex
from pathlib import Path

import pytest

from tokexp.cli import _run
from tokexp.spec.reading import read_experiment
from tokexp.spec.schema import kinds

ROOT = Path(__file__).parent.parent
README = (ROOT / "README.md").read_text(encoding="utf-8")
COMMANDS = [
    shlex.split(line.split("#")[0])[1:]
    for block in re.findall(r"```console\n(.*?)```", README, re.DOTALL)
    for line in block.splitlines()
    if line.startswith("$ ")
]
LOOKED_AT = [command for command in COMMANDS if command[:2] in (["tokexp", "validate"], ["tokexp", "plan"])]


def test_the_readme_is_short_enough_to_be_read() -> None:
    assert len(README.splitlines()) < 300


def test_its_first_two_commands_are_targets_of_the_makefile() -> None:
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    assert COMMANDS[:2] == [["make", "run"], ["make", "test"]]
    assert all(re.search(rf"^{target}:", makefile, re.MULTILINE) for _, target in COMMANDS[:2])


@pytest.mark.parametrize("command", [c for c in LOOKED_AT if (ROOT / c[2]).exists()], ids=" ".join)
def test_commands_on_shipped_files_work(command: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(ROOT)
    assert _run(command[1:]) == 0


@pytest.mark.parametrize("command", [c for c in COMMANDS if c[0] == "tokexp"], ids=" ".join)
def test_every_verb_it_names_exists(command: list[str]) -> None:
    assert _run([command[1], "--help"]) == 0


def test_the_verbs_in_its_table_exist() -> None:
    table = README.split("| verb | for |")[1].split("\n\n")[0]
    verbs = {name for row in table.splitlines()[2:] for name in re.findall(r"`([a-z ]+)", row.split("|")[1])}
    assert {"run", "store info", "doctor"} <= verbs
    for verb in verbs:
        assert _run([*verb.split(), "--help"]) == 0, verb


def test_the_blocks_of_its_kinds_are_those_that_list_takes() -> None:
    table = README.split("| block | kind | what |")[1].split("\n\n")[0]
    rows = [row.split("|") for row in table.splitlines()[2:]]
    listed = kinds()
    assert {row[1].strip() for row in rows} == set(listed) - {"sampler", "pruner"}
    for row in rows:
        assert set(re.findall(r"`([a-z0-9_]+)`", row[2])) <= {kind for kind, _ in listed[row[1].strip()]}, row


def test_its_spec_validates_and_says_what_it_seems_to(tmp_path: Path) -> None:
    text = re.findall(r"```yaml\n(.*?)```", README, re.DOTALL)[0]
    file = tmp_path / "mine.yaml"
    file.write_text(text.replace("seitpp.yaml  ", f"{ROOT}/experiments/seitpp.yaml  ", 1))
    experiment = read_experiment(file).experiment
    assert experiment.storage.fraction == 0.2
    assert experiment.tasks["finetune"].train.lr == 3e-3  # type: ignore[union-attr]
    assert experiment.seeds == (0, 1, 2)


@pytest.mark.parametrize("number", [1, 2])
def test_its_sweeps_validate(number: int, tmp_path: Path) -> None:
    text = re.findall(r"```yaml\n(.*?)```", README, re.DOTALL)[number]
    file = tmp_path / "mine.yaml"
    file.write_text(text.replace("../experiments/", f"{ROOT}/experiments/"))
    assert _run(["validate", str(file)]) == 0


def test_its_broken_spec_is_reported_as_it_says(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    shown = README.split("$ tokexp validate experiments/mine.yaml\n")[1].split("```")[0].splitlines()
    good = (ROOT / "experiments" / "seitpp.yaml").read_text(encoding="utf-8")
    broken = good.replace("codebook_size: 64", "codebook_size: 0").replace(
        "preset: paper, train", "mask_rtio: 1, train"
    )
    file = tmp_path / "mine.yaml"
    file.write_text(broken)
    assert _run(["validate", str(file)]) == 2
    said = capsys.readouterr()
    for line in shown[:-1]:
        assert line.split(": ", 1)[1] in said.err + said.out
    assert shown[-1] in said.err + said.out


def test_the_way_of_a_run_leads_through_files_that_exist() -> None:
    told = README.split("`tokexp run experiments/seitpp.yaml` goes")[1].split("| folder |")[0]
    way = re.findall(r"`(tokexp/[a-z_/]+\.py)`", told)
    assert way[0] == "tokexp/cli.py"
    assert "tokexp/objectives/mtm.py" in way
    assert way[-1] == "tokexp/launch/slurm.py"
    assert all((ROOT / file).is_file() for file in way)


def test_its_links_and_folders_exist() -> None:
    for target in re.findall(r"\]\(([^)#:]+)\)", README):
        assert (ROOT / target).exists(), target
    for folder in re.findall(r"`(tokexp/[a-z]+)`", README):
        assert (ROOT / folder).is_dir(), folder
