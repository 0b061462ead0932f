import pytest
import torch

from study.data.corruption import corrupt
from study.data.dataset import Dataset
from study.errors import BadInputError
from study.networks import build
from study.run import run
from study.training import precision
from study.trial import Trial
from tests.study.training.alone import predict, train


def test_tf32_is_refused_where_there_is_none(tmp_path):
    with pytest.raises(BadInputError, match="precision=tf32 needs a GPU, which cpu is not"):
        run(Trial(precision="tf32", epochs=1), tmp_path)


def test_float32_is_float32_unless_a_step_asks_for_less():
    precision.use_full_float32()
    products = torch.backends.cuda.matmul, torch.backends.cudnn.conv
    assert [each.fp32_precision for each in products] == ["ieee", "ieee"]
    with precision.step_context("tf32"):
        assert [each.fp32_precision for each in products] == ["tf32", "tf32"]
    with precision.step_context("fp32"):
        assert [each.fp32_precision for each in products] == ["ieee", "ieee"]
    assert [each.fp32_precision for each in products] == ["ieee", "ieee"]


def trained(data: Dataset, name: str) -> tuple[torch.Tensor, torch.dtype]:
    """Return the test logits after two epochs, and the dtype of the last layer's input in training."""
    trial = Trial(precision=name, epochs=2, batch_size=8, lr=1e-3)
    network = build.build("lenet", data.shape, data.classes, "batch", seed=0)
    seen: list[torch.dtype] = []
    hook = network[-2].register_forward_hook(lambda _, __, output: seen.append(output.dtype))
    list(train(network, corrupt(data.train, data.classes, "none", 0, seed=0), trial, seed=0))
    hook.remove()
    assert all(parameter.dtype == torch.float32 for parameter in network.parameters())
    return predict(network, data.test.images), seen[-1]


def test_bf16_is_for_training_alone(tiny):
    coarse, seen = trained(tiny, "bf16")
    exact, plain = trained(tiny, "fp32")
    assert (seen, plain) == (torch.bfloat16, torch.float32)
    assert coarse.dtype == torch.float32
    assert 0 < (coarse - exact).abs().max() < 0.5
