"""The cluster for these tests: one of their own in a temporary folder, or the running one that TOKEXP_CLUSTER names."""

import os
import shutil
import tempfile
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from tests.cluster.dev_cluster import CANNOT, DevCluster, script
from tests.cluster.scenes import SCENES, MakeSite
from tests.cluster.site import Site

NODES = 5
AT_ONCE = 5
"""Scenes that are played side by side."""


@pytest.fixture(scope="session")
def cluster() -> Iterator[DevCluster]:
    """A running cluster that SLURM's commands find; skips with the reason where there can be none."""
    given = os.environ.get("TOKEXP_CLUSTER")
    # Not in pytest's folder: the path of a socket must be short.
    folder = Path(given) if given else Path(tempfile.mkdtemp(prefix="tokexp-cluster-"))
    try:
        done = script(folder, "up", "--nodes", str(NODES))
        if done.returncode == CANNOT:
            pytest.skip(done.stderr.strip())
        assert done.returncode == 0, done.stderr
        with pytest.MonkeyPatch.context() as patch:
            patch.setenv("SLURM_CONF", str(folder / "etc" / "slurm.conf"))
            yield DevCluster(folder, time.strftime("%Y-%m-%dT%H:%M:%S"))
    finally:
        if not given:
            ended = script(folder, "down")
            shutil.rmtree(folder, ignore_errors=True)
            assert ended.returncode == 0, ended.stderr


@pytest.fixture(scope="session")
def undisturbed(cluster: DevCluster, tmp_path_factory: pytest.TempPathFactory) -> Site:
    """A site where the experiment was carried out in one process of this machine."""
    site = Site(cluster, tmp_path_factory.mktemp("undisturbed"))
    site.run_here()
    return site


@pytest.fixture(scope="session")
def make_site(cluster: DevCluster, undisturbed: Site, tmp_path_factory: pytest.TempPathFactory) -> MakeSite:
    """Return a function that makes a site; with `tokens`, tokenizer and tokens are already there."""

    def make(name: str, *, tokens: bool = True) -> Site:
        site = Site(cluster, tmp_path_factory.mktemp(name, numbered=False))
        for kind in ("tokenizer", "tokens") if tokens else ():
            shutil.copytree(undisturbed.workspace.store / kind, site.workspace.create().store / kind)
        return site

    return make


@pytest.fixture(scope="session")
def scene(request: pytest.FixtureRequest, make_site: MakeSite) -> Iterator[Callable[[str], Any]]:
    """Return a function that waits for the scene of a test's name to end, and returns what it found.

    Most of what happens on a cluster is waiting: the scenes of all tests that were asked for run side by side.
    """
    names = {item.name.removeprefix("test_") for item in request.session.items}
    begun: dict[str, Future[Any]] = {}
    with ThreadPoolExecutor(max_workers=AT_ONCE) as pool:
        for name, play in SCENES.items():
            if name in names:
                begun[name] = pool.submit(play, make_site)
        yield lambda name: begun[name].result()
