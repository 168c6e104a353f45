"""What happens to sweeps on the cluster: each scene sends one, does something to it, and returns the place it was in.

Some run side by side, so each has nodes of its own for what it does: n2 is preempted, n3 and n4 fail. Those that
wait longest come first.
"""

from collections.abc import Callable
from pathlib import Path
from typing import Any

from tests.cluster.dev_cluster import wait_for
from tests.cluster.site import Hold, Site, wake
from tokexp.launch.base import STOP_FILE

MakeSite = Callable[..., Site]
SCENES: dict[str, Callable[[MakeSite], Any]] = {}
QUIET = {"exclude": "n2,n3,n4"}
HOURS = 40 / 3600
TOKENIZE = """\
schema: 1
data: {image_size: 16}
tokenizer: {kind: patch_kmeans, patch_size: 4, codebook_size: 16, iterations: 3}
storage: {codec: {kind: rans_context}}
"""
MIDDLE = 75
"""The step of the first of the experiment's checkpoints."""


def _scene(play: Callable[[MakeSite], Any]) -> Callable[[MakeSite], Any]:
    SCENES[play.__name__] = play
    return play


@_scene
def jobs_of_a_dead_node_go_on(make_site: MakeSite) -> tuple[Site, str]:
    """A node's daemon and processes are gone at once; SLURM finds out after a while."""
    site = make_site("dead-node")
    site.profile(options={"exclude": "n1,n2,n5"})
    with Hold(site, MIDDLE) as hold:
        site.submit()
        job = hold.job()
    node = site.cluster.run("squeue", "-h", "-j", job, "-o", "%N").strip()
    site.cluster.kill_node(node)
    try:
        site.finish()
    finally:
        site.cluster.start_node(node)
    return site, node


@_scene
def jobs_go_on_after_their_time(make_site: MakeSite) -> Site:
    """The limit is set once the job is under way, to the first minute that leaves time for a warning."""
    site = make_site("time")
    site.profile(options=QUIET)
    with Hold(site, MIDDLE) as hold:
        site.submit()
        job = hold.job()
    minutes, seconds = site.cluster.run("squeue", "-h", "-j", job, "-o", "%M").split(":")
    limit = (int(minutes) * 60 + int(seconds) + 105) // 60
    site.cluster.run("scontrol", "update", f"jobid={job}", f"timelimit={limit}")
    site.finish()
    return site


@_scene
def static_sweeps_go_out_whole(make_site: MakeSite) -> dict[str, Any]:
    """Two trials with tokens of their own: four arrays of two, each element after its own."""
    site = make_site("whole", tokens=False)
    site.profile(options=QUIET)
    site.submit(grid={"tokenizer.codebook_size": [8, 16]}, set={"tasks.finetune.train.steps": 16})
    waiting = site.cluster.run("squeue", "-h", "--array", "--format=%i %j %E")
    alive = site.processes()
    seen = []

    def over() -> bool:
        seen.append(site.status())
        return bool(seen[-1]["complete"])

    wait_for("the sweep is complete", 300, over, pause=3)
    site.finish()
    return {"site": site, "dependencies": waiting, "alive": alive, "seen": seen}


@_scene
def preempted_jobs_go_on(make_site: MakeSite) -> list[Site]:
    """One job without and one with a grace time, on a node that a job of a higher partition wants."""
    sites = [make_site(partition) for partition in ("low", "low_grace")]
    with Hold(sites[0], MIDDLE) as low, Hold(sites[1], MIDDLE) as low_grace:
        for site in sites:
            site.profile(partition=site.name, options={"nodelist": "n2"})
            site.submit()
        low.job()
        low_grace.job()
    sites[0].cluster.intrude("n2", 3)
    for site in sites:
        site.finish()
    return sites


@_scene
def requeued_jobs_go_on(make_site: MakeSite) -> Site:
    """What an administrator does: no warning comes before."""
    site = make_site("requeued")
    site.profile(options=QUIET)
    with Hold(site, MIDDLE) as hold:
        site.submit()
        site.cluster.run("scontrol", "requeue", hold.job())
    site.finish()
    return site


@_scene
def searches_advance_by_ticks(make_site: MakeSite) -> Site:
    """No process lives between the ticks; the pruner stops what learns nothing, which is held until it does."""
    site = make_site("search")
    site.profile(options=QUIET)

    def learns_nothing(job: dict[str, Any]) -> bool:
        return bool(job["payload"]["task"]["train"]["lr"] < 1e-6)

    def complete() -> bool:
        site.tokexp("tick", site.ref)
        for attempt, pid in hold.held.items():
            if (attempt / STOP_FILE).exists():
                wake(pid)
        return bool(site.status()["complete"])

    with Hold(site, 250, learns_nothing) as hold:
        site.submit(
            space={"tasks.finetune.train.lr": {"choice": [1e-3, 2e-3, 1e-9, 2e-9]}}, sampler={"kind": "grid"},
            pruner={"kind": "threshold", "stage": "finetune", "metric": "loss", "upper": 2.25, "warmup": 200},
            set={"tasks.finetune.train.steps": 500}, budget={"trials": 4, "parallel": 2},
        )  # fmt: skip
        wait_for("the search is complete", 300, complete, pause=1)
    site.finish()
    return site


@_scene
def a_driver_job_takes_a_search_to_its_end(make_site: MakeSite) -> tuple[Site, str]:
    """Nobody ticks: a job drives the sweep, is put back into the queue in the middle, and goes on."""
    site = make_site("driven")
    site.profile(options=QUIET)
    with Hold(site, MIDDLE) as hold:
        site.submit(
            "--driver", "slurm", space={"tasks.finetune.train.lr": {"choice": [1e-3, 2e-3, 3e-3]}},
            sampler={"kind": "grid"}, budget={"trials": 3, "parallel": 1},
        )  # fmt: skip
        hold.job()
        (driver,) = [line.split()[0] for line in site.cluster.run("squeue", "-h", "-o", "%i %j").splitlines()
                     if line.split()[1].startswith(site.ref) and "driver" in line]  # fmt: skip
        site.cluster.run("scontrol", "requeue", driver)
        for pid in hold.held.values():
            wake(pid)
    wait_for("the search is complete", 400, lambda: site.status()["complete"], pause=2)
    site.finish()
    return site, driver


@_scene
def wrong_accounting_is_overruled(make_site: MakeSite) -> Site:
    """Each tick meets another `sacct`: none, one that fails, one that says nothing, one that lies."""
    site = make_site("accounting")
    site.profile(options=QUIET)
    kinds = iter(["exit 127", "echo 'error: no accounting' >&2; exit 1", "exit 0", "sleep 2; exit 1"])
    lie = 'for n in $(seq 1 400); do echo "$n|RUNNING|0:0|None"; done'

    def complete() -> bool:
        site.accounting(next(kinds, lie))
        site.tokexp("tick", site.ref)
        return bool(site.status()["complete"])

    site.accounting("exit 127")
    site.submit(
        space={"tasks.finetune.train.lr": {"choice": [1e-3, 2e-3]}}, sampler={"kind": "grid"},
        budget={"trials": 2, "parallel": 1}, set={"tasks.finetune.train.steps": 40},
    )  # fmt: skip
    wait_for("the search is complete", 300, complete, pause=1)
    site.finish()
    return site


@_scene
def gpu_hours_hold_between_ticks(make_site: MakeSite) -> Site:
    """Two trials that would never end, on one GPU each: what they may use is known to the jobs themselves."""
    site = make_site("hours")
    one = {"cpus": 1, "memory": "1 GB", "device": "cpu"}
    site.profile(options=QUIET, resources={"default": one, "downstream": {**one, "gpus": 1}})
    site.submit(
        cases={"a": {}, "b": {"tasks.finetune.train.lr": 0.002}}, set={"tasks.finetune.train.steps": 1_000_000},
        budget={"gpu_hours": HOURS, "parallel": 2},
    )  # fmt: skip

    def complete() -> bool:
        site.tokexp("tick", site.ref, code=None)
        return bool(site.status()["complete"])

    wait_for("the hours are used", 300, complete, pause=10)
    site.finish()
    return site


@_scene
def a_folder_is_encoded_by_tasks_of_two_nodes(make_site: MakeSite) -> tuple[Site, list[Path]]:
    """The same folder of images on the cluster, each node with a part of the images, and in one process here."""
    away, here = make_site("encoded-away", tokens=False), make_site("encoded-here", tokens=False)
    away.profile(options=QUIET, resources={"default": {"cpus": 1, "memory": "1 GB"}, "tokens": {"nodes": 2}})
    stores = []
    for site, options in ((away, ("--on", "cluster.yaml")), (here, ())):
        site.images(40)
        (site.folder / "spec.yaml").write_text(TOKENIZE)
        site.tokexp("tokenize", "images", "--tokenizer", "spec.yaml", "--output", "images.tokens", *options)
        stores.append(site.folder / "images.tokens")
    return away, stores


@_scene
def cancelled_sweeps_leave_nothing(make_site: MakeSite) -> Site:
    """One trial runs, another waits for it."""
    site = make_site("cancelled")
    site.profile(options=QUIET, parallel=1)
    site.submit(cases={"a": {}, "b": {"tasks.finetune.train.lr": 0.002}}, set={"tasks.finetune.train.steps": 1_000_000})
    wait_for("a trial runs", 240, lambda: site.events("progress"))
    site.tokexp("cancel", site.ref)
    wait_for("the queue is empty", 40, lambda: not site.cluster.queue(site.ref))
    wait_for("its processes are gone", 20, lambda: not site.processes())
    return site


@_scene
def too_little_memory_is_a_cause(make_site: MakeSite) -> Site:
    """Importing torch alone takes more; there is one retry, which a tick sends."""
    site = make_site("memory")
    site.profile(options=QUIET, resources={"default": {"cpus": 1, "memory": "60 MB"}})
    site.submit()
    for _ in range(2):
        site.finish()
        site.tokexp("tick", site.ref, code=None)
    site.finish()
    return site


@_scene
def two_nodes_train_as_one(make_site: MakeSite) -> tuple[Site, Site]:
    """Two processes on two nodes share each batch."""
    alone, both = make_site("alone"), make_site("both")
    both.profile(options=QUIET, resources={"default": {"cpus": 1, "memory": "1 GB"}, "downstream": {"nodes": 2}})
    train = {"tasks.finetune.train.steps": 40, "tasks.finetune.train.accumulate": 2}
    both.submit(set=train)
    alone.run_here(set=train)
    both.finish()
    return alone, both
