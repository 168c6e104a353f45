"""The script that starts a cluster: what it starts, that it ends all of it, and what it says where it cannot."""

import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from tests.cluster.dev_cluster import CANNOT, DevCluster, script

# One process of pytest works with the cluster.
pytestmark = [pytest.mark.cluster, pytest.mark.xdist_group("cluster")]

DAEMONS = {"munged", "mariadbd", "slurmdbd", "slurmctld", "slurmd"}


@pytest.fixture
def second(cluster: DevCluster) -> Iterator[Path]:
    """The folder of a cluster of one node, beside the one of these tests."""
    folder = Path(tempfile.mkdtemp(prefix="tokexp-second-"))
    done = script(folder, "up", "--nodes", "1")
    assert done.returncode == 0, done.stderr
    yield folder
    script(folder, "down")


def daemons(folder: Path) -> dict[int, str]:
    """Return the processes that have something to do with a folder: id and name."""
    found = {}
    for process in psutil.process_iter():
        try:
            if str(folder) in " ".join((*process.cmdline(), process.cwd())):
                found[process.pid] = process.name()
        except psutil.Error:
            continue
    return found


def test_a_second_cluster_comes_and_goes_beside_the_first(cluster: DevCluster, second: Path) -> None:
    began = daemons(second)
    assert set(began.values()) >= DAEMONS
    assert script(second, "up").returncode == 0
    assert daemons(second) == began, "what runs already stays"
    listening = [
        each.laddr.ip
        for pid in began
        for each in psutil.Process(pid).net_connections("inet")
        if each.status == psutil.CONN_LISTEN
    ]
    assert len(listening) >= 3
    assert all(address.startswith("127.") for address in listening)
    lines = script(second, "env").stdout
    shell = f"{lines}\nsbatch --wait --output=/dev/null --gres=gpu:1 --wrap true && squeue --noheader --states=CD"
    done = subprocess.run(["bash", "-c", shell], capture_output=True, text=True)
    assert "main" in done.stdout, done.stderr

    assert script(second, "down").returncode == 0
    assert daemons(second) == {}
    assert not second.exists()
    assert script(second, "status").returncode == 1
    assert script(cluster.folder, "status").returncode == 0


def test_another_number_of_nodes_is_refused(cluster: DevCluster) -> None:
    done = script(cluster.folder, "up", "--nodes", "77")
    assert done.returncode == CANNOT
    assert "'down' it first" in done.stderr


@pytest.mark.parametrize("words", [(), ("sideways",), ("up", "--nodes", "none"), ("up", "--nodes", "0"), ("up", "2")])
def test_wrong_words_are_refused(tmp_path: Path, words: tuple[str, ...]) -> None:
    done = script(tmp_path / "c", *words)
    assert done.returncode == CANNOT
    assert "write: " in done.stderr
    assert not (tmp_path / "c").exists()


def test_missing_packages_are_named_with_the_line_that_installs_them(tmp_path: Path) -> None:
    for name in ("bash", "id", "dirname", "sort", "paste", "env"):
        (tmp_path / name).symlink_to(shutil.which(name) or name)
    done = script(tmp_path / "c", "up", PATH=str(tmp_path))
    assert done.returncode == CANNOT
    assert "root is needed" in done.stderr or "slurm-wlm" in done.stderr.splitlines()[0]
    assert "apt-get install" in done.stderr or "root is needed" in done.stderr
