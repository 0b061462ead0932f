import pytest
import torch
from PIL import Image
from torchvision.models import ResNet18_Weights
from torchvision.transforms.functional import to_tensor

from study.data import imagenet
from study.data.load import load
from study.data.standardization import PAPER_2019
from study.errors import BadInputError
from study.trial import Trial
from tests.study.data.imagenet import publish, wnid


@pytest.mark.parametrize("inside", ["imagenet/val", "val"])
def test_images_are_those_of_torchvisions_own_evaluation(tmp_path, inside):
    folder = publish(tmp_path, inside=inside)
    train, test = imagenet.read(tmp_path)
    assert (len(train), len(test)) == (0, 6)
    assert (test.images.dtype, tuple(test.images.shape)) == (torch.uint8, (6, 3, 224, 224))
    assert test.labels.tolist() == [0, 0, 1, 1, 2, 2]
    transform = ResNet18_Weights.IMAGENET1K_V1.transforms()
    mean, spread = (torch.tensor(each)[:, None, None] for each in PAPER_2019["imagenet"])
    with Image.open(folder / wnid(1) / "ILSVRC2012_val_00000001.JPEG") as image:
        theirs = transform(image)
    ours = (test.images[3] / 255 - mean) / spread
    torch.testing.assert_close(ours, theirs, rtol=1e-5, atol=1e-5)
    assert to_tensor(test.images[3].permute(1, 2, 0).numpy()).max() <= 1


def test_so_many_are_read_as_are_measured_by_class_and_always_the_same(tmp_path, monkeypatch):
    publish(tmp_path, with_images=4)
    read = []
    monkeypatch.setattr(imagenet, "_image", lambda path: (read.append(path), torch.zeros(3, 224, 224))[1])
    _, test = imagenet.read(tmp_path, 4)
    assert test.labels.tolist() == [0, 1, 2, 3]
    assert len(read) == 4
    first = list(read)
    imagenet.read(tmp_path, 4)
    assert read == [*first, *first]


def test_a_dataset_has_all_classes_whatever_images_there_are(tmp_path):
    publish(tmp_path)
    data = load("imagenet", tmp_path, test_images=3)
    assert (data.shape, data.classes, len(data.train), len(data.test)) == ((3, 224, 224), 1000, 0, 3)
    assert data.folder == tmp_path


def refusal(folder) -> str:
    with pytest.raises(BadInputError) as caught:
        imagenet.read(folder)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_a_folder_that_is_not_whole_is_refused_in_one_sentence(tmp_path):
    assert "put its validation images there as imagenet/val/WNID/*.JPEG" in refusal(tmp_path)
    folder = publish(tmp_path / "few")
    (folder / wnid(999)).rmdir()
    assert "ImageNet's 1,000 classes, each by its WordNet number such as n01440764, and it has 999." in refusal(
        tmp_path / "few"
    )
    publish(tmp_path / "none", with_images=0)
    assert "there are no images" in refusal(tmp_path / "none")
    folder = publish(tmp_path / "cut", with_images=1, of_each=1)
    (image,) = (folder / wnid(0)).iterdir()
    image.write_bytes(image.read_bytes()[:200])
    assert "can't be decoded" in refusal(tmp_path / "cut")


def test_images_of_imagenet_cannot_be_added_to_another_dataset():
    with pytest.raises(BadInputError, match="unknown ood 'imagenet'"):
        Trial(corruption="ood", k=0.1, ood="imagenet")
