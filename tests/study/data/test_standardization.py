import pytest
import torch

from study.data.dataset import Split
from study.data.load import load
from study.data.standardization import mean_and_spread
from study.errors import BadInputError


def test_the_constants_of_a_dataset_are_its_own_mean_and_spread():
    images = torch.tensor([0, 51, 102, 255], dtype=torch.uint8).repeat(3, 2, 1, 1)
    images[:, 1] = torch.tensor([0, 0, 255, 255], dtype=torch.uint8)
    mean, spread = mean_and_spread("dataset", "any", Split(images, torch.zeros(3)))
    assert mean.tolist() == pytest.approx([0.4, 0.5])
    assert spread.tolist() == pytest.approx([(0.16 + 0.04 + 0 + 0.36) ** 0.5 / 2, 0.5])


def test_the_constants_of_the_paper_are_near_those_of_the_data():
    assert [value.tolist() for value in mean_and_spread("paper2019", "mnist", load("digits", "").train)] == [
        [0.1307],
        [0.3081],
    ]


def test_images_of_cifar10_in_a_folder_can_have_the_papers_constants():
    colour = Split(torch.zeros(2, 3, 4, 4, dtype=torch.uint8), torch.zeros(2))
    of_folder, of_dataset = (
        [value.tolist() for value in mean_and_spread(standardize, dataset, colour)]
        for standardize, dataset in (("paper2019_cifar10", "parquet:anywhere"), ("paper2019", "cifar10"))
    )
    assert of_folder == of_dataset == [[0.4914, 0.4822, 0.4465], [0.2023, 0.1994, 0.2010]]
    grey = Split(torch.zeros(2, 1, 4, 4, dtype=torch.uint8), torch.zeros(2))
    with pytest.raises(BadInputError, match="images of 3 channels, and those of digits have 1"):
        mean_and_spread("paper2019_cifar10", "digits", grey)


def test_what_has_no_constants_is_refused():
    flat = Split(torch.full((2, 1, 4, 4), 7, dtype=torch.uint8), torch.zeros(2))
    with pytest.raises(BadInputError, match="of which a channel has none"):
        mean_and_spread("dataset", "grey", flat)
    with pytest.raises(BadInputError, match="choose from"):
        mean_and_spread("paper2019", "spheres", flat)
