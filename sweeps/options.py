"""The options that several commands of `python -m sweeps` share, with their help texts."""

from enum import StrEnum
from typing import Annotated

import typer

from sweeps.registry import FORM
from sweeps.sweep import Scale


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


class Logger(StrEnum):
    """Where the means of each trial can be logged besides the records."""

    tensorboard = "tensorboard"
    mlflow = "mlflow"
    wandb = "wandb"


Name = Annotated[
    str,
    typer.Argument(metavar="NAME", help=f"A sweep; `python -m sweeps list` shows them all, {FORM} is one of yours."),
]
ScaleOption = Annotated[
    Scale, typer.Option(help="quick: minutes on a CPU. paper: the paper's setting, where it gives one.")
]
Set = Annotated[
    list[str] | None,
    typer.Option("--set", metavar="KEY=VALUE[,VALUE...]", help="Replace the levels of an axis by these; repeatable."),
]
Only = Annotated[
    list[str] | None,
    typer.Option(
        "--only", metavar="KEY=VALUE[,VALUE...]", help="Keep the sweep's trials with these levels alone; repeatable."
    ),
]
ResultsOption = Annotated[str, typer.Option("--results", metavar="DIR|URI", help="Where the records are kept.")]
Workers = Annotated[
    int | None,
    typer.Option(
        min=1,
        help="How many workers to use: by default one a core or GPU. With --device, a cluster may grow to so many.",
    ),
]
DeviceOption = Annotated[Device, typer.Option(help="What to train on; auto takes GPUs where the cluster has any.")]
Address = Annotated[
    str, typer.Option(help="local starts Ray on this machine; auto or an address joins a running cluster.")
]
TimeLimit = Annotated[
    float | None,
    typer.Option(
        min=0.001, metavar="SECONDS", help="End a try of a trial that takes longer; by default none is ended."
    ),
]
Yes = Annotated[bool, typer.Option("--yes", "-y", help="Don't ask before running.")]
Fraction = Annotated[float, typer.Option(help="Take only a balanced part of the cells, such as 0.25.")]
Teraflops = Annotated[
    float | None,
    typer.Option(
        min=0.001,
        help="Sustained speed of a GPU, to turn operations into hours; by default as on this machine.",
    ),
]
BackendOption = Annotated[
    Backend, typer.Option(help="How members train side by side; auto takes what is measured to be fastest here.")
]
LogTo = Annotated[
    list[Logger] | None,
    typer.Option("--log-to", help="Log each recorded trial there as well, as a run of its own; repeatable."),
]
