from pathlib import Path, PurePosixPath

import pytest

from study.data.files import survey
from study.data.survey import Survey, check_classes
from study.errors import BadInputError
from tests.study.data.sources import encoded, pixels, refusal, write_images, write_parquet


def found(dataset: str) -> Survey:
    """What a dataset's folder holds."""
    survey_of = survey(dataset)
    assert survey_of is not None
    return survey_of


@pytest.mark.parametrize("kind", ["parquet", "imagefolder"])
def test_a_folder_that_is_not_there_is_refused_by_its_path(tmp_path: Path, kind: str):
    assert f"folder '{tmp_path / 'nowhere'}'" in refusal(f"{kind}:{tmp_path / 'nowhere'}")


def test_a_built_in_dataset_is_no_folder():
    assert survey("mnist") is None


def test_what_an_image_folder_holds_is_told_in_one_line(tmp_path: Path):
    folder = write_images(tmp_path)
    assert str(found(f"imagefolder:{folder}")) == (
        "4 training images in train and 4 test images in test, 2 classes (cat, dog); "
        "classes in the order of their folders' names; skipped: none"
    )


def test_what_a_parquet_folder_holds_is_told_in_one_line(tmp_path: Path):
    images = list(map(encoded, pixels(6, 8, 8)))
    for name in ("train-0", "train-1", "validation-0", "extra-0"):
        write_parquet(tmp_path / f"{name}.parquet", images, [3, 5, 7, 9, 11, 3], image="img", label="digit")
    assert str(found(f"parquet:{tmp_path}")) == (
        "12 training images in 2 files train-* and 6 test images in 1 file validation-*, 5 classes (3, 5, 7, ..., 11); "
        "images from column 'img', labels from 'digit', the only one that can be, in the order of their numbers; "
        "skipped: extra-0.parquet"
    )


def test_many_skipped_files_are_told_by_their_kinds_and_folders(tmp_path: Path):
    survey_of = found(f"imagefolder:{write_images(tmp_path)}")
    names = [*(f"train/cat/{number}.heic" for number in range(8)), *(f"extra/{number}.png" for number in range(4))]
    names += ["README", "LICENSE", "a.json", "b.csv"]
    told = str(Survey(**{**vars(survey_of), "skipped": list(map(PurePosixPath, names))}))
    assert told.endswith("skipped: 8 .heic files in train, 4 .png files in extra, 2 files without a suffix and 2 more")


def test_d_needs_two_classes():
    check_classes("imagefolder:cats", 2)
    with pytest.raises(BadInputError, match=r"^imagefolder:cats has a single class;"):
        check_classes("imagefolder:cats", 1)
