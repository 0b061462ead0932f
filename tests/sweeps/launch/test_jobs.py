"""A sweep that Ray keeps as a job, stopped and submitted again."""

import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from study.record.leases import name_of
from tests.patience import PATIENCE_S, wait_for
from tests.ray_runs import ROOT, TINY, command, free_ports, ray_head

pytest.importorskip("aiohttp_cors", reason="Ray's jobs need ray[default]")
pytestmark = [pytest.mark.ray, pytest.mark.slow]

Job = Callable[..., str]
"""`ray job`: called with a verb and its arguments, it returns what it prints."""


@pytest.fixture(scope="module")
def job() -> Iterator[Job]:
    dashboard, agent = free_ports(2)
    options = ("--num-cpus=1", f"--dashboard-port={dashboard}", f"--dashboard-agent-listen-port={agent}")
    with ray_head(*options, RAY_JOB_STOP_WAIT_TIME_S=f"{PATIENCE_S:.0f}") as head:

        def call(verb: str, *arguments: str) -> str:
            where = ("--address", f"http://127.0.0.1:{dashboard}")
            done = subprocess.run(
                command("ray.scripts.scripts", "job", verb, *where, *arguments),
                cwd=ROOT,
                env=head.environment,
                capture_output=True,
                text=True,
                check=False,
            )
            assert done.returncode == 0, done.stdout + done.stderr
            return done.stdout

        yield call


def test_a_job_that_is_stopped_says_how_to_go_on_and_the_next_one_does(job: Job, tmp_path: Path):
    where = ("--results", tmp_path, "--address", "auto")
    entrypoint = ["--", *command("sweeps", "run", "quickstart", *TINY, "--backend", "single", *where, "--yes")]
    members = tmp_path / "quickstart" / "members"
    job("submit", "--no-wait", "--submission-id", "first", *entrypoint)
    wait_for(members, "*")
    assert "Job 'first' was stopped" in job("stop", "first")
    assert job("logs", "first").endswith("stopped; the same command goes on where it was.\n")
    assert not (tmp_path / "quickstart" / name_of("quickstart")).exists()
    kept = {path.name: path.stat().st_mtime_ns for path in members.iterdir()}
    assert 1 <= len(kept) < 4

    printed = job("submit", "--submission-id", "second", *entrypoint)
    assert "Job 'second' succeeded" in printed
    assert f"quickstart: 4 trials, 8 members: {len(kept)} done, {4 - len(kept)} missing" in printed
    assert "quickstart: 4 done, 0 missing, 0 failed, 0 diverged" in printed
    assert {name: (members / name).stat().st_mtime_ns for name in kept} == kept
