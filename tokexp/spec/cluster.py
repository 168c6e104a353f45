"""A cluster profile: how stages become SLURM jobs at one place. Nothing here decides a result."""

from typing import Annotated, Any, Literal

from pydantic import AfterValidator, Field

from tokexp.spec.base import Spec
from tokexp.spec.experiment import Name
from tokexp.spec.resources import ResourceName, Resources, Retries
from tokexp.spec.stages import StageKind
from tokexp.spec.units import ByteCount, Duration


def _one_line(text: str) -> str:
    if not text.strip() or "\n" in text:
        raise ValueError("one line of text is needed")
    return text


def _option(value: Any) -> Any:
    if value is not None and not isinstance(value, (str, int, float)):
        raise ValueError("text, a number, true (an option without a value) or null (left out) is needed")
    return _one_line(value) if isinstance(value, str) else value


def _option_name(name: str) -> str:
    # A single letter is a short name: `--p` would be refused at submission, or taken for another option.
    short = len(name) < 2
    if short or not name.replace("-", "").replace("_", "").isalnum() or name.startswith("-") or name != name.lower():
        raise ValueError("the long name of an option of sbatch is needed, without the dashes before it")
    return name


def _variable(name: str) -> str:
    if not name.isidentifier() or not name.isascii():
        raise ValueError("letters, digits and '_' are needed, no digit first")
    return name


Line = Annotated[str, AfterValidator(_one_line)]
Script = Annotated[str, Field(min_length=1)]
OptionName = Annotated[str, AfterValidator(_option_name), Field(max_length=60)]
OptionValue = Annotated[Any, AfterValidator(_option)]
VariableName = Annotated[str, AfterValidator(_variable), Field(max_length=100)]


class Container(Spec):
    """A container that stages run in."""

    command: tuple[Line, ...] = Field(min_length=1, description="Words before the interpreter.")


class ResourcesPart(Spec):
    """What stages get at this place; what is not given stays as the experiment has it."""

    device: Literal["auto", "cpu", "cuda"] | None = Field(None, description="auto: a GPU if one is asked for.")
    nodes: int | None = Field(None, ge=1, le=1024, description="Machines.")
    gpus: int | None = Field(None, ge=0, le=64, description="GPUs on each machine; each gets its own process.")
    processes: int | None = Field(None, ge=1, le=256, description="Processes on each machine without GPUs.")
    cpus: int | None = Field(None, ge=1, le=1024, description="CPU cores for each process.")
    memory: ByteCount | None = Field(None, description="Memory on each machine, such as '64 GB'.")
    time: Duration | None = Field(None, description="Longest time for one attempt, such as '4 h'.")
    retries: Retries | None = Field(None, description="How often an attempt is started again.")

    def over(self, asked: Resources) -> Resources:
        """Return `asked` with what is given here in its place."""
        given = {name: getattr(self, name) for name in type(self).model_fields}
        return asked.model_copy(update={name: value for name, value in given.items() if value is not None})


class StagePlace(Spec):
    """What is different for the jobs of one stage kind."""

    partition: Line | None = Field(None, description="Partition instead of the profile's.")
    account: Line | None = Field(None, description="Account instead of the profile's.")
    qos: Line | None = Field(None, description="Quality of service instead of the profile's.")
    constraint: Line | None = Field(None, description="Node features instead of the profile's.")
    options: dict[OptionName, OptionValue] = Field({}, description="Further sbatch options, laid over the profile's.")
    setup: tuple[Script, ...] = Field((), description="Shell lines after the profile's own.")


class ClusterSpec(Spec):
    """One cluster, or one way to use it."""

    schema_version: Literal[1] = Field(alias="schema", description="Version of the language.")
    name: Name = Field("cluster", description="Name in messages; letters, digits, '_', '.', '-'.")
    partition: Line | None = Field(None, description="Partition; the cluster's default if not given.")
    account: Line | None = Field(None, description="Account that is charged.")
    qos: Line | None = Field(None, description="Quality of service.")
    constraint: Line | None = Field(None, description="Node features that are needed.")
    options: dict[OptionName, OptionValue] = Field({}, description="Any further sbatch option by its long name.")
    setup: tuple[Script, ...] = Field((), description="Shell lines before every job: modules, environments.")
    teardown: tuple[Script, ...] = Field((), description="Shell lines after every job.")
    python: Line | None = Field(None, description="Interpreter on the nodes; the one that submits if not given.")
    container: Container | None = Field(None, description="Container that jobs run in.")
    environment: dict[VariableName, str] = Field({}, description="Environment variables of every job.")
    srun_args: tuple[Line, ...] = Field((), description="Further arguments of srun.")
    parallel: int | None = Field(None, ge=1, description="Most jobs of one array at once.")
    max_array: int = Field(1000, ge=1, description="Most jobs in one array.")
    signal_delay: Duration = Field(90, description="Time between the warning signal and the end of a job.")
    requeue: bool = Field(True, description="Whether SLURM may requeue jobs.")
    kill_invalid_dependency: bool = Field(True, description="Whether jobs whose dependency failed are taken out.")
    poll: Duration = Field(15, description="Time between looks at the queue.")
    time: Duration = Field(4 * 3600, description="Time limit of jobs whose resources name none.")
    resources: dict[ResourceName, ResourcesPart] = Field(
        {}, description="Resources for a stage kind, and `default` for all: what is given wins over the experiment's."
    )
    stages: dict[StageKind, StagePlace] = Field({}, description="What is different for one stage kind.")

    def resources_for(self, kind: StageKind, asked: Resources) -> Resources:
        """Return what a stage gets here: `asked`, under what `default` gives, under what its own kind gives."""
        given = {str(name): part for name, part in self.resources.items()}
        for part in (given.get("default"), given.get(kind)):
            asked = asked if part is None else part.over(asked)
        return asked
