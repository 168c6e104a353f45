"""What a cluster does to jobs: afterwards every number is that of a run that nothing happened to."""

from collections.abc import Callable
from typing import Any

import pytest

from tests.cluster.site import Site

# One process of pytest works with the cluster.
pytestmark = [pytest.mark.cluster, pytest.mark.xdist_group("cluster")]

Scene = Callable[[str], Any]


def assert_undisturbed(site: Site, straight: Site) -> None:
    """The sweep's only trial is done, and its stages' metrics and files are those of an undisturbed run."""
    assert site.states() == ["done"]
    assert len(site.attempts()) == 1, "SLURM itself runs what was interrupted again"
    assert site.outputs() == straight.outputs()


def test_preempted_jobs_go_on(scene: Scene, undisturbed: Site) -> None:
    for site in scene("preempted_jobs_go_on"):
        assert_undisturbed(site, undisturbed)
        assert site.restarts() == ["preempted"]


def test_requeued_jobs_go_on(scene: Scene, undisturbed: Site) -> None:
    site = scene("requeued_jobs_go_on")
    assert_undisturbed(site, undisturbed)
    assert len(site.restarts()) == 1


def test_jobs_of_a_dead_node_go_on(scene: Scene, undisturbed: Site) -> None:
    site, node = scene("jobs_of_a_dead_node_go_on")
    assert_undisturbed(site, undisturbed)
    assert site.restarts() == ["lost"]
    first, second = [run for run in site.cluster.runs(site.ref) if "downstream" in run.name]
    assert (first.state, first.nodes) == ("NODE_FAIL", node)
    assert second.state == "COMPLETED"
    assert second.nodes != node


def test_jobs_go_on_after_their_time(scene: Scene, undisturbed: Site) -> None:
    site = scene("jobs_go_on_after_their_time")
    assert_undisturbed(site, undisturbed)
    assert set(site.restarts()) == {"timeout"}


def test_too_little_memory_is_a_cause(scene: Scene) -> None:
    site = scene("too_little_memory_is_a_cause")
    (trial,) = site.status()["trials"]
    assert trial["state"] == "failed"
    assert "more memory than it had asked for" in trial["note"]
    assert len(site.attempts()) == 2, "one retry"
