"""`tokexp run` on a cluster: the plan is sent whole, and nothing of ours has to live on."""

from collections.abc import Sequence
from pathlib import Path

from tokexp.launch.request import run_record
from tokexp.ledger.records import Ledger
from tokexp.ledger.workspace import resolve_workspace
from tokexp.plan.located import plan_of_file
from tokexp.report.live import live_display
from tokexp.report.results import render, result
from tokexp.spec.cluster_reading import read_cluster
from tokexp.spec.reading import read_experiment
from tokexp.verbs.printing import console, print_json, print_scripts, say
from tokexp.verbs.running import carry_out
from tokexp.verbs.specs import refuse_profile, refuse_sweep
from tokexp.verbs.sweeping import How


def run(file: str | Path, overrides: Sequence[str], workspace: str | Path | None, how: How, json: bool) -> int:
    """Send what is not done of an experiment to a cluster; with `watch`, stay until its end and print the results.

    Raises SpecError for a broken spec or profile, InputError for what the cluster refuses; nothing is submitted then.
    """
    how.check()
    assert how.on is not None
    refuse_sweep(file)
    refuse_profile(file)
    found = resolve_workspace(workspace)
    read, cluster = read_experiment(file, overrides), read_cluster(how.on).cluster
    planned = plan_of_file(read)
    record = run_record(planned, read.experiment, file=str(file), text=read.text, sources=read.sources)
    from tokexp.launch.slurm import SlurmLauncher, dry_run

    if how.dry_run:
        states = Ledger(found).stage_states(planned.keys())
        open_nodes = [node for node in planned.nodes if states[node.key] != "done"]
        print_scripts(record.ref, dry_run(open_nodes, cluster, found, record.ref), json)
        return 0
    display = live_display()
    with SlurmLauncher(cluster, found, record.ref, display.say) as launcher:
        outcome = carry_out(planned, read.experiment, record, found, launcher, display, stay=how.watch)
    for failure in outcome.failures:
        say(f"{failure.name} {failure.key[:6]} failed: {failure.message}\n  see {failure.log}")
    counts = {state: list(outcome.states.values()).count(state) for state in dict.fromkeys(outcome.states.values())}
    if json:
        print_json({"ref": record.ref, "stages": counts, "computed": list(outcome.computed)})
    elif how.watch:
        console().print(render(result(found, record)))
    else:
        words = ", ".join(f"{count} {state}" for state, count in counts.items())
        say(f"{words}; `tokexp status {record.ref}` shows how it goes, the same command again tries what was lost")
        console().print(record.ref)
    return outcome.exit_code
