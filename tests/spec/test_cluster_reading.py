"""Cluster profiles: what they give to stages, how they extend one another, and what is wrong with broken ones."""

from pathlib import Path

import pytest

from tests.spec.specs import write
from tokexp.errors import SpecError
from tokexp.spec.cluster import ClusterSpec
from tokexp.spec.cluster_reading import is_cluster, read_cluster
from tokexp.spec.resources import Resources
from tokexp.spec.writing import to_yaml

BASE = """\
schema: 1
name: base
partition: gpu
options: {exclusive: true, mail-type: END, comment: null}
setup: [module load cuda]
environment: {OMP_NUM_THREADS: "1"}
resources:
  default: {gpus: 1, memory: 32 GB}
  pretrain: {gpus: 8, nodes: 2}
stages:
  evaluate: {partition: short}
time: 8 h
"""


def test_a_profile_extends_another(tmp_path: Path) -> None:
    write(tmp_path, BASE, "base.yaml")
    path = write(
        tmp_path,
        "schema: 1\nextends: base.yaml\nname: top\npartition: big\noptions: {exclusive: null}\n"
        "resources: {pretrain: {nodes: 4}}\ntime: 30 min\n",
        "top.yaml",
    )
    read = read_cluster(path, ["qos=high", "poll=5 s"])
    cluster = read.cluster
    assert (cluster.name, cluster.partition, cluster.qos, cluster.time, cluster.poll) == ("top", "big", "high", 1800, 5)
    assert cluster.options == {"exclusive": None, "mail-type": "END", "comment": None}
    assert cluster.resources["pretrain"].gpus == 8
    assert cluster.resources["pretrain"].nodes == 4
    assert cluster.stages["evaluate"].partition == "short"
    assert read.sources["partition"] == f"{tmp_path}/top.yaml:4"
    assert read.sources["setup"] == f"{tmp_path}/base.yaml:5"
    assert (read.sources["qos"], read.sources["max_array"]) == ("--set", "default")


def test_written_resources_win_over_the_experiments_and_no_others(tmp_path: Path) -> None:
    cluster = read_cluster(write(tmp_path, BASE)).cluster
    asked = Resources(cpus=6, gpus=4, time=60)
    assert cluster.resources_for("pretrain", asked) == Resources(cpus=6, gpus=8, nodes=2, time=60, memory=32 * 10**9)
    assert cluster.resources_for("tokens", asked) == Resources(cpus=6, gpus=1, time=60, memory=32 * 10**9)
    again = ClusterSpec.model_validate(cluster.model_dump(mode="json", by_alias=True))
    assert again == cluster
    assert again.resources_for("tokens", asked) == cluster.resources_for("tokens", asked)


def test_a_resolved_profile_reads_back_as_the_same(tmp_path: Path) -> None:
    read = read_cluster(write(tmp_path, BASE))
    assert read_cluster(write(tmp_path, to_yaml(read.cluster, read.sources), "again.yaml")).cluster == read.cluster


@pytest.mark.parametrize(
    ("text", "messages"),
    [
        ("partitoin: x", ["2:1: partitoin: unknown field; did you mean partition?"]),
        ("name: a b\npartition: [x]\naccount: ''",
         ["2:7: name: 'a b' given; letters, digits, '_', '.' and '-' are needed, a letter or digit first",
          "3:1: partition: a list of 1 given; text is needed",
          "4:10: account: '' given; one line of text is needed"]),
        ("options: {array: 1-5, time: 5, --exclusive: true, Foo: 1, gres: [a], xy: \"a\\nb\"}",
         ["2:11: options.array: tokexp sets --array itself; parallel and max_array shape arrays",
          "2:23: options.time: tokexp sets --time itself; use time, or resources",
          "2:32: options.--exclusive: '--exclusive' given; the long name of an option of sbatch is needed, without the "
          "dashes before it",
          "2:51: options.Foo: 'Foo' given; the long name of an option of sbatch is needed, without the dashes "
          "before it",
          "2:59: options.gres: text, a number, true (an option without a value) or null (left out) is needed",
          "2:74: options.xy: 'a\\nb' given; one line of text is needed"]),
        ("options: {p: gpu}",
         ["2:11: options.p: 'p' given; the long name of an option of sbatch is needed, without the dashes before it"]),
        ("options: {mail_type: END, mail-type: END}\npartition: a\nstages: {tokens: {qos: x, options: {qos: y}}}",
         ["2:27: options.mail-type: this is mail_type once more; keep one of them",
          "4:42: stages.tokens.options.qos: qos is written as a field too; keep one of them"]),
        ("environment: {OMP_NUM_THREADS: 1, 1A: x}",
         ["2:32: environment.OMP_NUM_THREADS: 1 given; text is needed: put it in quotes",
          "2:35: environment.1A: '1A' given; letters, digits and '_' are needed, no digit first"]),
        ("setup: module load", ["2:8: setup: 'module load' given; a list of texts is needed"]),
        ("resources: {pretrain: {gpu: 1}, defalt: {}}\nstages: {pretran: {}}",
         ["2:24: resources.pretrain.gpu: unknown field; did you mean gpus?",
          "2:33: resources.defalt: unknown name; allowed: default, tokenizer, tokens, images, adapt, pretrain, "
          "downstream, evaluate; did you mean default?",
          "3:10: stages.pretran: unknown name; allowed: tokenizer, tokens, images, adapt, pretrain, downstream, "
          "evaluate; did you mean pretrain?"]),
        ("signal_delay: 90 q\nmax_array: 0\nrequeue: maybe\ncontainer: apptainer",
         ["2:15: signal_delay: '90 q' given; a number with one of the units s, min, h, d is needed",
          "3:12: max_array: 0 given; a whole number of at least 1 is needed",
          "4:10: requeue: 'maybe' given; true or false is needed",
          "5:12: container: 'apptainer' given; a block of fields is needed"]),
        ("time: 60 s\nresources: {tokens: {time: 1 min}}",
         ["2:7: time: 60 s given; more than signal_delay (90 s) is needed, or a job is warned before it begins",
          "3:28: resources.tokens.time: 60 s given; more than signal_delay (90 s) is needed, or a job is warned before "
          "it begins"]),
        ("extends: nope.yaml", ["2:10: extends: nope.yaml: no such file (looked for {folder}/nope.yaml)"]),
        ("partition: a\npartition: b", ["3:1: partition: written twice (first on line 2); keep one of them"]),
    ],
)  # fmt: skip
def test_a_broken_profile_says_what_is_wrong_where(tmp_path: Path, text: str, messages: list[str]) -> None:
    path = write(tmp_path, "schema: 1\n" + text, "profile.yaml")
    with pytest.raises(SpecError) as caught:
        read_cluster(path)
    assert str(caught.value).split("\n") == [f"{path}:{each.replace('{folder}', str(tmp_path))}" for each in messages]


def test_the_version_is_needed_in_profiles_too(tmp_path: Path) -> None:
    with pytest.raises(SpecError, match="missing; write `schema: 1` at the top"):
        read_cluster(write(tmp_path, "partition: a\n"))


def test_profiles_are_told_from_experiments_and_sweeps(tmp_path: Path) -> None:
    assert is_cluster(write(tmp_path, BASE))
    assert is_cluster(write(tmp_path, "schema: 1\npartitoin: x\n"))
    assert not is_cluster(write(tmp_path))
    assert is_cluster(write(tmp_path, "schema: 1\nname: small\nresources: {default: {cpus: 8}}\n"))
    assert not is_cluster(write(tmp_path, "schema: 1\nresources: {default: {cpus: 8}}\ndata: {kind: digits}\n"))
    assert not is_cluster(write(tmp_path, "schema: 1\nname: small\n"))
    assert not is_cluster(write(tmp_path, "schema: 1\nexperiment: a\npartition: b\n"))
    assert not is_cluster(write(tmp_path, "schema: 1\ndta: {kind: digits}\n"))
    assert not is_cluster(tmp_path / "no.yaml")
