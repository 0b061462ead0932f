"""The console script `normleak`: the commands of `study`, `sweeps` and `analysis` under one name.

A command does the same as that of its module; the few names that several modules have are told apart.
"""

import sys

import typer

import analysis.__main__
import study.__main__
import sweeps.__main__
from study.terminal import application, main

RENAMED = {
    ("study", "run"): "trial",
    ("sweeps", "bench"): "bench-ray",
    ("analysis", "bench"): "bench-analysis",
}
"""The names of commands that more than one module has."""


def combined() -> typer.Typer:
    """Return one command line with the commands of all three."""
    app = application("What does a normalization layer cost in privacy? Sweeps, trials, and what their records say.")
    parts = {"sweeps": sweeps.__main__.app, "analysis": analysis.__main__.app, "study": study.__main__.app}
    for module, part in parts.items():
        for command in part.registered_commands:
            assert command.callback is not None
            own = command.name or command.callback.__name__.replace("_", "-")
            app.command(RENAMED.get((module, own), own), rich_help_panel=f"python -m {module}")(command.callback)
        for group in part.registered_groups:
            assert group.typer_instance is not None
            app.add_typer(group.typer_instance, name=group.name, rich_help_panel=f"python -m {module}")
    return app


def run() -> None:
    """Run the command line of this process."""
    if sys.argv[1:2] in (["trial"], ["check"]):
        study.__main__.prepare_to_train()
    main(combined(), "normleak")


if __name__ == "__main__":
    run()
