"""Print what `python -m sweeps bench` measures."""

from rich.table import Table

from study.terminal import ProgressDisplay, console, print_table
from sweeps.launch.launch import Cluster


def bench_waiting(trials: int, seconds: float, cluster: Cluster) -> None:
    """Measure trials that only wait, and print what Ray Tune adds to them."""
    from sweeps.launch.overhead import measure_overhead

    with console.status(f"running {trials} trials of {seconds:g} s ..."):
        overhead = measure_overhead(trials, seconds, cluster)
    ratio = f", ratio {overhead.took / overhead.ideal:.3f}" if overhead.ideal else ""
    console.print(
        f"{trials} trials of {seconds:g} s on {overhead.workers} workers: "
        f"took {overhead.took:.2f} s, ideal {overhead.ideal:.2f} s{ratio}; start-up {overhead.startup:.1f} s"
    )
    console.print(
        f"a trial costs {overhead.per_trial * 1e3:.1f} ms of its worker's time and "
        f"{overhead.memory / trials / 1e3:.1f} KB of the driver's memory, at most {overhead.peak / 1e6:.0f} MB in all"
    )


def bench_training(trials: int, epochs: int, eval_every: int, workers: int | None) -> None:
    """Measure trials that train on CPUs of this machine, and print their throughput beside the best pack's."""
    from sweeps.launch.throughput import MEMBERS, SAMPLES, TEST_SAMPLES, measure_throughput

    with ProgressDisplay() as display:
        show = display.add("bench", "how members train fastest is timed, and Ray is started")
        found = measure_throughput(trials, epochs, eval_every, Cluster("local", workers, "cpu"), show)
    measured = "each epoch" if eval_every == 1 else f"every {eval_every} epochs"
    console.print(
        f"{trials} trials of {MEMBERS} LeNets, {epochs} epochs on {SAMPLES:,} images each, measured {measured} on "
        f"these and {TEST_SAMPLES:,} others, on {found.workers} workers",
        soft_wrap=True,
    )
    table = Table("model-samples a second and worker", "", "of the best pack")
    rates = {
        f"best pack alone, {found.choice}": found.alone,
        "sweep, from its first trial's beginning to its last's end": found.running,
        "sweep, with the start of workers and the loading of data": found.whole,
    }
    for name, rate in rates.items():
        table.add_row(name, f"{rate:,.0f}", f"{rate / found.alone:.3f}")
    table.add_row("sweep, in the time that its workers' threads themselves worked", "", f"{found.at_work:.3f}")
    took = f"the sweep took {found.launched:.0f} s with all turns"
    table.caption = f"{took}, and Ray {found.ray:.0f} s to start before it"
    print_table(table)
