"""The options that the commands of `python -m sweeps` share."""

from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING, Annotated

import typer

from study.record.results import Results
from sweeps.sweep import Scale

if TYPE_CHECKING:
    pass


class Device(StrEnum):
    """What the workers compute on."""

    auto = "auto"
    cpu = "cpu"
    cuda = "cuda"


class Backend(StrEnum):
    """How the members of a trial train side by side."""

    auto = "auto"
    single = "single"
    grouped = "grouped"
    vmap = "vmap"


class Sink(StrEnum):
    """Where else the means of each trial go."""

    tensorboard = "tensorboard"
    mlflow = "mlflow"
    wandb = "wandb"


Name = Annotated[str, typer.Argument(metavar="NAME", help="A sweep; `python -m sweeps list` shows them.")]
ScaleOption = Annotated[Scale, typer.Option(help="quick: minutes on a CPU. paper: the paper's exact setting.")]
Set = Annotated[
    list[str] | None,
    typer.Option("--set", metavar="KEY=VALUE[,VALUE...]", help="Put these levels in place of an axis; repeatable."),
]
ResultsOption = Annotated[str, typer.Option("--results", metavar="DIR|URI", help="Where the records are kept.")]
Workers = Annotated[
    int | None, typer.Option(min=1, help="By default one a core or GPU; with --device, a cluster may grow to so many.")
]
DeviceOption = Annotated[Device, typer.Option(help="auto takes GPUs where the cluster has any.")]
Address = Annotated[str, typer.Option(help="local starts Ray here; auto or an address joins a running cluster.")]
TimeLimit = Annotated[
    float | None,
    typer.Option(
        min=0.001,
        metavar="SECONDS",
        help="End a try of a trial that takes longer, as one that hangs does; none by default.",
    ),
]
Yes = Annotated[bool, typer.Option("--yes", "-y", help="Don't ask before running.")]
Fraction = Annotated[float, typer.Option(help="Only a balanced part of the cells, such as 0.25.")]
Teraflops = Annotated[
    float, typer.Option(min=0.001, help="Sustained speed of a device, to turn operations into hours.")
]
BackendOption = Annotated[
    Backend, typer.Option(help="How members train side by side; auto measures what is fastest here.")
]
LogTo = Annotated[
    list[Sink] | None,
    typer.Option("--log-to", help="Where else to log each trial that is recorded, as a run of its own; repeatable."),
]


@dataclass(frozen=True)
class LaunchOptions:
    """The options of `run`, `retry` and `tune`, checked."""

    sweep: str
    results: Results
    data_dir: str
    workers: int | None
    device: Device
    backend: str
    address: str
    log_to: Sequence[Sink]
    yes: bool
    time_limit: float | None = None
