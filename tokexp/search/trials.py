"""A study's trials by number: the few things that a search reads and writes, on disk and in memory alike."""

from collections.abc import Mapping, Sequence
from typing import Any, Literal

from tokexp.search.samplers import takes_constraints_by_trial

TrialEnd = Literal["complete", "pruned", "failed"]
"""How a trial ended, in this project's words."""

EndOrRunning = Literal["complete", "pruned", "failed", "running"]


class StudyTrials:
    """The trials of one Optuna study, which has one writer.

    Trials are ended at the storage instead of by `Study.tell`: that would give a pruned trial its last reported value
    as a result, in whatever unit the pruner looks at, and would ask the sampler for constraints.
    """

    def __init__(self, study: Any, storage: Any) -> None:
        self.study = study
        self._storage = storage
        self._study_id = storage.get_study_id_from_name(study.study_name)

    def all(self) -> list[Any]:
        """Return all trials, in order of their numbers; not to be changed."""
        trials: list[Any] = self.study.get_trials(deepcopy=False)
        return trials

    def get(self, number: int) -> Any:
        """Return one trial; not to be changed."""
        return self._storage.get_trial(self._id(number))

    def add(self, trial: Any) -> None:
        """Append a trial, whole."""
        self.study.add_trial(trial)

    def __len__(self) -> int:
        return int(self._storage.get_n_trials(self._study_id))

    def correct(self, number: int, like: Any) -> None:
        """Give a running trial the parameters of another."""
        for name, value in like.params.items():
            distribution = like.distributions[name]
            self._storage.set_trial_param(self._id(number), name, distribution.to_internal_repr(value), distribution)

    def report(self, number: int, step: int, value: float) -> None:
        """Keep a value of a step, in place of an earlier one."""
        self._storage.set_trial_intermediate_value(self._id(number), step, value)

    def describe(self, number: int, attributes: Mapping[str, Any]) -> None:
        """Set attributes for people and their tools; JSON-able."""
        for key, value in attributes.items():
            self._storage.set_trial_user_attr(self._id(number), key, value)

    def mark(self, number: int, attributes: Mapping[str, Any]) -> None:
        """Set attributes for samplers and pruners; JSON-able."""
        for key, value in attributes.items():
            self._storage.set_trial_system_attr(self._id(number), key, value)

    def limit(self, number: int, violations: Mapping[str, float]) -> None:
        """Set by how much a trial breaks each constraint, once; 0 or less is kept. Set ones stay."""
        from optuna.trial import Trial

        if not takes_constraints_by_trial():
            self.mark(number, {"constraints": list(violations.values())})
            return
        trial = Trial(self.study, self._id(number))
        known = trial.constraints
        for name, violation in violations.items():
            if name not in known:
                trial.set_constraint(name, violation)

    def end(self, number: int, state: TrialEnd, values: Sequence[float] | None) -> None:
        """End a running trial."""
        from optuna.trial import TrialState

        states = {"complete": TrialState.COMPLETE, "pruned": TrialState.PRUNED, "failed": TrialState.FAIL}
        self._storage.set_trial_state_values(self._id(number), states[state], values)

    def shared(self) -> dict[str, Any]:
        """Return what samplers keep with the study as a whole."""
        return dict(self._storage.get_study_system_attrs(self._study_id))

    def share(self, attributes: Mapping[str, Any]) -> None:
        """Set what samplers keep with the study as a whole."""
        for key, value in attributes.items():
            self._storage.set_study_system_attr(self._study_id, key, value)

    def _id(self, number: int) -> int:
        return int(self._storage.get_trial_id_from_study_id_trial_number(self._study_id, number))


def state_of(trial: Any) -> EndOrRunning:
    """Return the state of an Optuna trial in this project's words."""
    words: Mapping[str, EndOrRunning] = {"COMPLETE": "complete", "PRUNED": "pruned", "FAIL": "failed"}
    return words.get(trial.state.name, "running")


def violations_of(trial: Any) -> tuple[float, ...] | None:
    """Return by how much an Optuna trial breaks each constraint; None if nobody has said."""
    if takes_constraints_by_trial():
        return tuple(trial.constraints.values()) or None
    kept = trial.system_attrs.get("constraints")
    return None if kept is None else tuple(kept)
