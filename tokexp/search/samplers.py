"""From the words of a sweep to Optuna's samplers.

A sampler is built anew for each trial, with a seed made of the sweep's seed and the trial's number. So a restarted
search draws what it would have drawn, nothing is drawn twice, and no state of a generator has to be kept. Sobol and
Halton sequences are the exception: all their points must come from one seed.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from hashlib import blake2b
from typing import Any

from tokexp.errors import InputError
from tokexp.search.quiet import quietly
from tokexp.search.space import Space
from tokexp.spec.searching import Cmaes, Gp, Nsga2, Nsga3, Qmc, SamplerSpec, Tpe
from tokexp.spec.sweep import SweepSpec


def trial_seed(seed: int, number: int) -> int:
    """Return the seed of a trial, in [0, 2^32)."""
    return int.from_bytes(blake2b(f"{seed}:{number}".encode(), digest_size=4).digest(), "big")


def build_sampler(sweep: SweepSpec, space: Space, number: int) -> Any:
    """Return the Optuna sampler that suggests the trial `number`; for `grid`, which asks nobody, a random one.

    Samplers that know no constraints ignore them. Raises InputError where a package is missing.
    """
    from optuna import samplers

    spec = sweep.sampler
    draw = _Draw(
        seed=trial_seed(getattr(spec, "seed", 0), number),
        conditional=space.conditional,
        single=len(sweep.metrics) == 1,
        limits=_constraint_options() if sweep.constraints else {},
    )
    build = _BUILDERS.get(spec.kind)
    if build is None:
        return samplers.RandomSampler(seed=draw.seed)
    try:
        with quietly():
            sampler = build(spec, draw)
    except ImportError as error:
        raise InputError(f"the sampler {spec.kind} needs the package {error.name}, which is not there") from error
    return _with_known_space(sampler, spec, space, draw)


@dataclass(frozen=True)
class _Draw:
    """What a sampler has to know beside its spec. limits: options by which it takes constraints into account."""

    seed: int
    conditional: bool
    single: bool
    limits: dict[str, Any]


def _with_known_space(sampler: Any, spec: SamplerSpec, space: Space, draw: _Draw) -> Any:
    joint = isinstance(spec, (Cmaes, Nsga2, Nsga3)) or (isinstance(spec, Tpe) and _is_joint(spec, draw))
    if draw.conditional or not joint:
        return sampler
    from tokexp.search.known_space import KnownSpaceSampler

    return KnownSpaceSampler(sampler, space.joint(numbers_only=isinstance(spec, Cmaes)))


def takes_constraints_by_trial() -> bool:
    """Say whether this Optuna (5 and later) keeps constraints with a trial; before, a sampler computes them."""
    from optuna.trial import Trial

    return hasattr(Trial, "set_constraint")


def _constraint_options() -> dict[str, Any]:
    return {} if takes_constraints_by_trial() else {"constraints_func": _recorded_constraints}


def _recorded_constraints(trial: Any) -> tuple[float, ...]:
    return tuple(trial.system_attrs.get("constraints") or ())


def _is_joint(spec: Tpe, draw: _Draw) -> bool:
    # What Optuna 5 does by itself, and earlier ones do if told to.
    return draw.single if spec.multivariate is None else spec.multivariate


def _tpe(spec: Tpe, draw: _Draw) -> Any:
    from optuna.samplers import TPESampler

    group = draw.conditional and spec.multivariate is not False if spec.group is None else spec.group
    return TPESampler(
        n_startup_trials=spec.startup,
        n_ei_candidates=spec.candidates,
        seed=draw.seed,
        multivariate=group or _is_joint(spec, draw),
        group=group,
        constant_liar=True,
        **draw.limits,
    )


def _cmaes(spec: Cmaes, draw: _Draw) -> Any:
    from optuna.samplers import CmaEsSampler

    return CmaEsSampler(
        seed=draw.seed,
        n_startup_trials=spec.startup,
        popsize=spec.population,
        sigma0=spec.sigma,
        with_margin=spec.margin,
        warn_independent_sampling=False,
    )


def _nsga2(spec: Nsga2, draw: _Draw) -> Any:
    from optuna.samplers import NSGAIISampler

    return NSGAIISampler(seed=draw.seed, **_evolution(spec), **draw.limits)


def _nsga3(spec: Nsga3, draw: _Draw) -> Any:
    from optuna.samplers import NSGAIIISampler

    return NSGAIIISampler(seed=draw.seed, dividing_parameter=spec.divisions, **_evolution(spec), **draw.limits)


def _evolution(spec: Nsga2 | Nsga3) -> dict[str, Any]:
    return {
        "population_size": spec.population,
        "mutation_prob": spec.mutation,
        "crossover_prob": spec.crossover,
        "swapping_prob": spec.swap,
    }


def _gp(spec: Gp, draw: _Draw) -> Any:
    from optuna.samplers import GPSampler

    return GPSampler(
        seed=draw.seed, n_startup_trials=spec.startup, deterministic_objective=spec.deterministic, **draw.limits
    )


def _qmc(spec: Qmc, draw: _Draw) -> Any:
    from optuna.samplers import QMCSampler, RandomSampler

    return QMCSampler(
        qmc_type=spec.sequence,
        scramble=spec.scramble,
        seed=spec.seed,
        independent_sampler=RandomSampler(seed=draw.seed),
        warn_independent_sampling=False,
    )


_BUILDERS: Mapping[str, Callable[..., Any]] = {
    "tpe": _tpe, "cmaes": _cmaes, "nsga2": _nsga2, "nsga3": _nsga3, "gp": _gp, "qmc": _qmc,
}  # fmt: skip
