"""Trained weights: what a trial with `weights=final` leaves, and the network that is made of it again."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors import safe_open
from torch import nn

from study import run
from study.data.corruption import corrupt
from study.data.dataset import to_float
from study.data.load import load
from study.errors import BadInputError, DamagedError
from study.lenses.membership import score
from study.networks import weights
from study.networks.catalog import NetworkOptions
from study.networks.weights import restore
from study.record.results import Results
from study.record.rows import Records
from study.trial import Trial
from tests.study.records import NOWHERE

TRIAL = Trial(
    k=0.1, subset=60, epochs=3, batch_size=16, lr=1e-2, samples="scores", weights="final", seed=(3, 5), eval_every=3
)
TRIALS = {
    "full": TRIAL,
    "splits": replace(TRIAL, protocol="splits", models=6, seed=(2,)),
    "best": replace(TRIAL, validation=0.2, stopping="best", eval_every=1),
}


def train(trial: Trial, backend: str, results: Results) -> Records:
    """Train all members of a trial as one pack, where the backend has packs, and record them."""
    data = load(trial.dataset, NOWHERE, trial.subset, trial.validation)
    members = run.make_members([trial], data, NOWHERE, "cpu")
    packs = [[member] for member in members] if backend == "single" else [members]
    keep = results.weights("sweep").keep
    measured = [
        found for pack in packs for found in run.run_pack(pack, data, "cpu", backend, lambda _: None, keep=keep)
    ]
    records = Records()
    for member, found in zip(members, measured, strict=True):
        records.extend(found.identified({"trial": trial.id, "member": member.number}))
    return records


def file(results: Results, trial: Trial, member: int) -> str:
    return f"{results.location}/sweep/weights/{trial.id}/{member}.safetensors"


@pytest.mark.parametrize("protocol", TRIALS)
@pytest.mark.parametrize("backend", ["single", "grouped", "vmap"])
def test_a_network_that_is_restored_gives_the_logits_of_the_one_that_was_measured(
    tmp_path: Path, protocol: str, backend: str
):
    trial, results = TRIALS[protocol], Results.at(tmp_path)
    records = train(trial, backend, results)
    data = load(trial.dataset, NOWHERE, trial.subset, trial.validation)
    scores = records.tables["samples"].to_pandas()
    for row in records.members:
        network = restore(file(results, trial, row["member"]))
        assert not network.training
        whole = corrupt(data.train, data.classes, "label", trial.k, row["seed"])
        with torch.no_grad():
            found = score(network(to_float(whole.images, torch.float32)), whole.labels)
            right = network(to_float(data.test.images, torch.float32)).argmax(1) == data.test.labels
        assert right.double().mean().item() == row["test_acc"]
        recorded = scores[scores["member"] == row["member"]]["score"].to_numpy()
        np.testing.assert_allclose(recorded, found.numpy(), atol=1e-4)
    networks = [restore(file(results, trial, member)).state_dict() for member in (0, 1)]
    assert not torch.equal(networks[0]["0.weight"], networks[1]["0.weight"])


def test_a_file_says_whose_weights_it_has_and_a_plain_reader_reads_it(tmp_path: Path):
    results = Results.at(tmp_path)
    trial = TRIALS["splits"]
    train(trial, "grouped", results)
    with safe_open(file(results, trial, 4), "pt") as opened:
        assert opened.metadata() == {
            **{"architecture": "lenet", "norm": "batch", "dataset": "digits", "shape": "1,28,28", "classes": "10"},
            **{"trial": trial.id, "member": "4", "seed": "2", "model": "4"},
            "options": '{"hidden_layers": 0, "norm_eps": 1e-05, "norm_momentum": 0.1, "standardized": false}',
        }
        plain = {name: opened.get_tensor(name) for name in opened.keys()}  # noqa: SIM118 - it is no dictionary
    restored = restore(file(results, trial, 4)).state_dict()
    assert plain.keys() == restored.keys()
    assert all(torch.equal(plain[name], restored[name]) for name in plain)
    assert len(results.store.list(f"sweep/weights/{trial.id}")) == 6


def test_they_are_kept_in_an_object_store_and_read_from_there(store):
    results = Results.at(store.uri())
    trial = replace(TRIAL, seed=(3,), epochs=1)
    train(trial, "single", results)
    place, mark, query = results.location.partition("?")
    network = restore(f"{place}/sweep/weights/{trial.id}/0.safetensors{mark}{query}")
    assert network.state_dict()["1.num_batches_tracked"] > 0


def test_another_try_overwrites_them_and_of_a_diverged_member_there_are_none(tmp_path: Path):
    results = Results.at(tmp_path)
    trial = replace(TRIAL, seed=(3,), epochs=1, samples="none")
    for content in (b"of an earlier try", b"another"):
        results.weights("sweep").keep(trial.id, 0, content)
    assert results.store.read(f"sweep/weights/{trial.id}/0.safetensors") == b"another"
    train(trial, "single", results)
    restore(file(results, trial, 0))
    data = load(trial.dataset, NOWHERE, trial.subset)
    (member,) = run.make_members([trial], data, NOWHERE, "cpu")
    hopeless = replace(member, trial=replace(trial, lr=1e30, norm="none"))
    results.weights("sweep").keep(hopeless.trial.id, 0, b"of an earlier try")
    keep = results.weights("sweep").keep
    (records,) = run.run_pack([hopeless], data, "cpu", "single", lambda _: None, keep=keep)
    assert records.members[0]["status"] == "diverged"
    assert results.store.list(f"sweep/weights/{hopeless.trial.id}") == []


def test_by_default_none_are_kept_and_no_id_changes():
    kept: list[object] = []
    run.run(replace(TRIAL, weights="none"), NOWHERE, keep=lambda *of_member: kept.append(of_member), backend="single")
    assert kept == []
    assert Trial(k=0.1, weights="none").id == Trial(k=0.1).id != Trial(k=0.1, weights="final").id


# What can't be kept or read


class Forgetful(nn.Module):
    """A network with a state that is no tensor."""

    def get_extra_state(self) -> str:
        return "of its own"


def test_a_state_that_is_no_tensor_is_refused_before_training():
    with pytest.raises(BadInputError, match="'_extra_state' of architecture=own:net is a str"):
        weights.check("own:net", Forgetful())


def test_weights_that_nobody_keeps_are_refused_before_training():
    with pytest.raises(BadInputError, match="name a folder"):
        run.run(replace(TRIAL, epochs=10**6), NOWHERE)


def encoded(architecture: str = "lenet", norm: str = "batch", **facts: object) -> bytes:
    network = run.build.build("lenet", (1, 28, 28), 10, "batch", 0)
    return weights.encode(network, architecture, norm, (1, 28, 28), 10, NetworkOptions(), facts)


@pytest.mark.parametrize(
    ("content", "error", "said"),
    [
        (encoded(seed=0)[:1000], DamagedError, "is truncated or no safetensors file"),
        (b"{}", DamagedError, "is truncated or no safetensors file"),
        (encoded(), BadInputError, "does not say its seed: it is no file of `weights=final`"),
        (encoded(norm="none", seed=0), BadInputError, "don't fit architecture=lenet with norm=none"),
        (encoded(architecture="nowhere_to_be_found:net", seed=0), BadInputError, "there is no module"),
        (None, BadInputError, "there is no file of weights"),
    ],
)
def test_a_file_that_is_of_no_use_gets_one_sentence(
    tmp_path: Path, content: bytes | None, error: type[Exception], said: str
):
    path = tmp_path / "0.safetensors"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(error, match=said) as refused:
        restore(path)
    assert "\n" not in str(refused.value)
