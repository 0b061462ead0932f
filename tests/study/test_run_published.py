"""Networks with published weights, measured on ImageNet: here with random weights and a few images."""

import pytest
import torch
import torchvision

from study import run
from study.data.load import load
from study.data.standardization import PAPER_2019
from study.errors import BadInputError
from study.trial import Trial
from tests.study.data.imagenet import publish, publish_weights

RESNET = Trial(
    dataset="imagenet",
    architecture="torchvision:resnet18",
    norm="batch",
    standardize="paper2019",
    epochs=0,
    robustness="transfer",
    source="torchvision:resnet18/batch",
    attack_samples=4,
    batch_size=2,
)


@pytest.fixture
def hub(tmp_path, monkeypatch):
    monkeypatch.setattr(torch.hub, "get_dir", lambda: str(tmp_path / "hub"))
    return tmp_path / "hub" / "checkpoints"


@pytest.mark.slow
def test_a_network_is_measured_as_it_is_published(tmp_path, hub):
    publish(tmp_path, with_images=4, of_each=1)
    publish_weights(hub, "resnet18")
    run.check(RESNET, tmp_path)
    (member,) = (records := run.run(RESNET, tmp_path)).members
    assert (member["status"], member["n_test"], member["n_in"], member["epoch"]) == ("ok", 4, 0, 0)
    assert member["backend"] == "single"
    assert member["clean_acc"] is member["mem_acc"] is member["output_bits"] is member.get("mia_auc") is None
    test = load("imagenet", tmp_path, test_images=4).test
    torch.manual_seed(0)
    network = torchvision.models.resnet18().eval()
    mean, spread = (torch.tensor(each)[:, None, None] for each in PAPER_2019["imagenet"])
    with torch.no_grad():
        logits = network((test.images / 255 - mean) / spread)
    assert member["test_loss"] == pytest.approx(torch.nn.functional.cross_entropy(logits, test.labels).item(), rel=1e-4)
    (row, control) = records.tables["robustness"]
    assert (row["suite"], row["source"], row["epsilon"], row["n"]) == ("transfer", RESNET.source, 0.01, 4)
    # It is its own source, so that this is the white box, as on the diagonal of the paper's Table 10.
    assert row["loss_mean"] > member["test_loss"]
    assert control["perturbation"] == "batch_statistics"


def test_what_is_missing_is_said_before_anything_is_measured(tmp_path, hub):
    with pytest.raises(BadInputError, match="imagenet is not in"):
        run.check(RESNET, tmp_path)
    publish(tmp_path, with_images=4, of_each=1)
    for start in (run.check, run.run):
        with pytest.raises(BadInputError, match=r"put resnet18-f37072fd\.pth into"):
            start(RESNET, tmp_path)
