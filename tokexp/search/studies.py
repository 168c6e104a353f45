"""One study twice: in memory, where samplers and pruners work, and on disk, where each step of a search is one record.

Optuna writes a trial piece by piece while it is suggested. A process that dies in between would leave a trial with
half of its parameters, and each piece costs a synced write. So the sampler suggests in memory, and then the whole trial
is appended to the study on disk at once: after a crash it is there or it is not.

The memory is rebuilt by going through the history again in its order: every trial keeps which others had ended when
it was asked for. What CMA-ES leaves in a trial is a pickle of its state; that is not written but drawn again.
"""

from copy import copy
from itertools import islice
from pathlib import Path
from typing import Any

from tokexp.errors import InputError
from tokexp.search.journal import open_storage
from tokexp.search.pruners import build_pruner, needs_steps, sign
from tokexp.search.quiet import quietly
from tokexp.search.samplers import build_sampler
from tokexp.search.space import Params, Space
from tokexp.search.trials import StudyTrials, TrialEnd, state_of
from tokexp.spec.sweep import SweepSpec

IDENTITY = "tokexp"
"""Attribute of the study: the space and the metrics that it was made for."""

TOLD = "tokexp:told"
"""Attribute of a trial: the numbers of those that had ended since the trial before it was asked for."""

SHARED = "tokexp:shared"
"""Attribute of a trial: what the sampler changed in the study as a whole while it suggested this one."""

REDRAWN = "tokexp:redrawn"
"""Attribute of a trial: its suggestion left a pickle, so that it is drawn again when the memory is rebuilt."""

PICKLED = ":optimizer"
"""Part of the names of attributes in which CMA-ES keeps pickles."""


class Studies:
    """The study of a search, open for writing. Raises InputError if it was made for something else."""

    def __init__(self, folder: Path, sweep: SweepSpec, space: Space) -> None:
        self._sweep, self._space = sweep, space
        self._directions = [metric.direction for metric in sweep.metrics]
        with quietly():
            storage = open_storage(folder, sweep.sampler.storage)
            self.kept = _open(storage, sweep)
            _check_identity(self.kept, sweep, space, folder)
            self.memory = _open(None, sweep)
        self._cells = space.cells()
        self._unseen: list[int] = []
        self._steps: int | None = None
        self._before: dict[str, Any] = {}
        self._set_pruner()
        with quietly():
            self._replay()

    def draw(self, given: Params | None = None) -> Params | None:
        """Suggest the next trial, in memory only; None if the grid sampler has been everywhere.

        given: parameters that it has whatever the sampler says; what the sampler notes of it is noted all the same.
        """
        if self._sweep.sampler.kind == "grid":
            return self._next_cell()
        self._before = self.memory.shared()
        with quietly():
            study = self.memory.study
            study.sampler = build_sampler(self._sweep, self._space, len(self.memory))
            if given is not None:
                study.enqueue_trial(given)
            return self._space.suggest(study.ask())

    def keep(self, attributes: dict[str, Any]) -> int:
        """Append the trial that was drawn to the study on disk, with attributes for people; return its number."""
        from optuna.trial import TrialState, create_trial

        number = len(self.memory) - 1
        drawn = self.memory.get(number)
        marks = {key: value for key, value in drawn.system_attrs.items() if PICKLED not in key}
        if len(marks) < len(drawn.system_attrs):
            marks[REDRAWN] = True
        after = self.memory.shared()
        marks[SHARED] = {key: value for key, value in after.items() if self._before.get(key) != value}
        marks[TOLD] = self._unseen
        with quietly():
            self.kept.add(
                create_trial(
                    state=TrialState.RUNNING,
                    params=drawn.params,
                    distributions=drawn.distributions,
                    user_attrs=attributes,
                    system_attrs=marks,
                )
            )
        if len(self.kept) != number + 1:
            raise InputError(f"another program writes to the study {self._sweep.name!r}; end it, then start again")
        self._unseen = []
        return number

    def report(self, number: int, step: int, value: float) -> bool:
        """Keep a value of a running trial, the first of each step; return whether to prune the trial."""
        value *= sign(self._sweep.pruner, self._directions[0])
        if step not in self.memory.get(number).intermediate_values:
            self.kept.report(number, step, value)
            self.memory.report(number, step, value)
        known = self.memory.get(number).system_attrs
        with quietly():
            prune = bool(self.memory.study.pruner.prune(self.memory.study, self.memory.get(number)))
        # Successive halving notes the rungs that a trial has passed.
        now = self.memory.get(number).system_attrs
        self.kept.mark(number, {key: mark for key, mark in now.items() if key not in known})
        return prune

    def limit(self, number: int, violations: dict[str, float]) -> None:
        """Keep by how much a running trial breaks each constraint."""
        for trials in (self.kept, self.memory):
            trials.limit(number, violations)

    def end(self, number: int, state: TrialEnd, values: list[float] | None) -> None:
        """End a running trial."""
        self.kept.end(number, state, values)
        self._end_in_memory(number, state, values)

    def _next_cell(self) -> Params | None:
        from optuna.trial import TrialState, create_trial

        params = next(self._cells, None)
        if params is not None:
            distributions = self._space.distributions(params)
            self.memory.add(create_trial(state=TrialState.RUNNING, params=params, distributions=distributions))
        return params

    def _end_in_memory(self, number: int, state: TrialEnd, values: list[float] | None) -> None:
        self.memory.end(number, state, values)
        self._unseen.append(number)
        trial = self.memory.get(number)
        if self._steps is None and state == "complete" and trial.last_step is not None:
            self._steps = trial.last_step + 1
            if needs_steps(self._sweep.pruner):
                self._set_pruner()

    def _set_pruner(self) -> None:
        from optuna.trial import TrialState, create_trial

        turned = sign(self._sweep.pruner, self._directions[0])
        pruner = build_pruner(self._sweep.pruner, turned, self._steps)
        self.memory.study.pruner = pruner
        if len(self._directions) == 1:
            with quietly():
                # Hyperband makes its brackets at its first look, and the sampler draws from one of them: without
                # this look a restarted search would draw something else until somebody reports.
                pruner.prune(self.memory.study, create_trial(state=TrialState.RUNNING, params={}, distributions={}))

    def _replay(self) -> None:
        kept = self.kept.all()
        for trial in kept:
            if TOLD not in trial.system_attrs:
                raise InputError(
                    f"trial {trial.number} of the study {self._sweep.name!r} was not made by tokexp: Optuna's tools "
                    "may read the study, not add to it; give the sweep another name, or move the study away"
                )
            for number in trial.system_attrs[TOLD]:
                self._end_as(kept[number])
            self._unseen = []
            self._repeat(trial)
        seen = {number for trial in kept for number in trial.system_attrs[TOLD]}
        for trial in kept:
            if trial.number not in seen and state_of(trial) != "running":
                self._end_as(trial)
        self._cells = islice(self._space.cells(), len(kept), None)

    def _end_as(self, trial: Any) -> None:
        state = state_of(trial)
        assert state != "running", "a trial that others saw as ended has ended"
        self._end_in_memory(trial.number, state, trial.values)

    def _repeat(self, trial: Any) -> None:
        """Add a trial of the disk to the memory as it was after it had been asked for, but with all its reports."""
        marks = trial.system_attrs
        if REDRAWN in marks:
            self.draw()
            # Another machine or library can draw slightly otherwise; what was handed out holds.
            self.memory.correct(trial.number, trial)
            drawn = self.memory.get(trial.number)
            self.memory.mark(trial.number, {key: mark for key, mark in marks.items() if key not in drawn.system_attrs})
            for step, value in trial.intermediate_values.items():
                self.memory.report(trial.number, step, value)
            return
        from optuna.trial import TrialState

        running = copy(trial)
        running.state, running.values, running.datetime_complete = TrialState.RUNNING, None, None
        self.memory.add(running)
        self.memory.share(marks[SHARED])


def _open(storage: Any, sweep: SweepSpec) -> StudyTrials:
    import optuna

    storage = optuna.storages.InMemoryStorage() if storage is None else storage
    # Neither is ever asked: suggestions and verdicts come from the study in memory, which gets others.
    options = {"sampler": optuna.samplers.RandomSampler(seed=0), "pruner": optuna.pruners.NopPruner()}
    try:
        # `create_study(load_if_exists=True)` would write a line to the journal each time that it is opened.
        study = optuna.load_study(study_name=sweep.name, storage=storage, **options)
    except KeyError:
        directions = [metric.direction for metric in sweep.metrics]
        study = optuna.create_study(study_name=sweep.name, storage=storage, directions=directions, **options)
    return StudyTrials(study, storage)


def _check_identity(kept: StudyTrials, sweep: SweepSpec, space: Space, folder: Path) -> None:
    study = kept.study
    names = [metric.name for metric in sweep.metrics]
    identity = {
        "space": space.identity(), "metrics": names, "directions": [metric.direction for metric in sweep.metrics],
    }  # fmt: skip
    found = study.user_attrs.get(IDENTITY)
    if found is None and not len(kept):
        study.set_metric_names(names)
        study.set_user_attr(IDENTITY, identity)
    elif found != identity:
        where = folder if sweep.sampler.storage is None else "its storage"
        raise InputError(
            f"the study {sweep.name!r} in {where} was made for another space or other metrics; "
            "give the sweep another name, or move the study away"
        )
