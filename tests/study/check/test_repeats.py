import pytest

from study.check import repeats
from study.check.finding import Subject, Verdict
from study.check.small import Small

HERE = Subject("cpu")


@pytest.mark.parametrize("check", [repeats.again, repeats.resumed])
def test_digits_repeat_on_a_cpu_as_they_are(check):
    finding = check(HERE)
    assert finding.verdict is Verdict.PASSED, finding.sentence
    assert finding.figures == {"apart": {"off": 0.0}}


def test_a_resumed_run_goes_on_from_a_checkpoint(monkeypatch):
    asked = []
    ordinary = Small.train

    def train(self, make, seeds, device, graphs=True, stop_after=0):
        asked.append((stop_after, self.trial.epochs))
        return ordinary(self, make, seeds, device, graphs, stop_after)

    monkeypatch.setattr(Small, "train", train)
    repeats.resumed(HERE)
    assert set(asked) == {(0, 6), (3, 6)}


@pytest.mark.parametrize(
    ("on", "verdict", "said"),
    [
        (0.0, Verdict.PASSED, "deterministic=on gives them the same digits"),
        (2e-7, Verdict.FAILED, "by 2e-07 with deterministic=on as well"),
        (
            RuntimeError("x has no deterministic implementation"),
            Verdict.FAILED,
            "x has no deterministic implementation",
        ),
    ],
)
def test_where_digits_differ_it_is_said_which_setting_makes_them_equal(on, verdict, said, monkeypatch):
    def apart(subject, resumed, deterministic):
        if deterministic == "on" and isinstance(on, RuntimeError):
            raise on
        return on if deterministic == "on" else 1e-7

    monkeypatch.setattr(repeats, "_apart", apart)
    finding = repeats.again(HERE)
    assert finding.verdict is verdict
    assert finding.sentence.startswith("two equal runs differ by 1e-07 with deterministic=off")
    assert said in finding.sentence
