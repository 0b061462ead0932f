"""Tables 5 and 10 of the 2019 paper, from planted records."""

import numpy as np
import pytest

from analysis.load import load
from analysis.report.output import Table
from analysis.report.paper_tables import find_table, paper_table
from study.record.results import Results
from sweeps.sweep import Scale
from tests.analysis.published import record_published


def table(results: Results, name: str) -> Table:
    found = find_table(name)
    return paper_table(found, [load(results, found.sweeps[0])], results)


@pytest.mark.parametrize(("name", "rows"), [("g19-t5", 11), ("g19-t10", 16)])
def test_a_table_of_the_papers_own_numbers_has_them_twice(name: str, rows: int, results: Results):
    record_published(results, find_table(name).sweeps[0])
    found = table(results, name)
    assert len(found.cells) == rows
    assert np.allclose(found.data["mean"], found.data["paper"], atol=1e-9)
    assert "on imagenet" in found.title


def test_table_5_is_of_the_top_five_in_the_papers_order(results: Results):
    record_published(results, "pretrained")
    found = table(results, "g19-t5")
    assert found.headers == [
        *("network", "norm", "clean", "the paper's", "noise", "the paper's", "PGD linf", "the paper's", "n")
    ]
    assert found.cells[1] == (
        *("torchvision:vgg11", "batch", "89.81", "89.81", "49.95", "49.95", "26.12", "26.12", "1"),
    )


def test_table_10_has_a_row_for_each_source_and_target(results: Results):
    record_published(results, "transfer")
    found = table(results, "g19-t10")
    assert found.headers == ["source", "network", "norm", "top 1", "the paper's", "top 5", "the paper's", "n"]
    assert found.cells[9] == (
        *("torchvision:vgg11/batch", "torchvision:vgg11", "batch", "0.30", "0.30", "6.80", "6.80", "1"),
    )
    assert any("by its table it costs as many fewer" in note for note in found.notes)


def test_at_quick_scale_lenet_stands_in_for_targets_and_sources_and_is_named(results: Results):
    everywhere = {"clean_top5": 0.9, "noise_top5": 0.8, "pgd_linf_top5": 0.7, "transfer_acc": 0.4, "transfer_top5": 0.6}
    for sweep in ("pretrained", "transfer"):
        record_published(results, sweep, lambda _: everywhere, Scale.quick)
    networks = table(results, "g19-t5").cells
    assert [cells[0] for cells in networks[:3]] == [*["torchvision:vgg11 (lenet here)"] * 2, "torchvision:vgg13"]
    assert [cells[-1] for cells in networks[:3]] == ["3", "3", "0"]
    targets = table(results, "g19-t10").cells
    assert targets[8][:3] == (
        *("torchvision:vgg11/batch (lenet/batch here)", "torchvision:vgg11 (lenet here)", "none"),
    )
    assert targets[8][-1] == "3"
    assert targets[10][-1] == "0"
