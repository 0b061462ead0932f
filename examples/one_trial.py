"""Train one trial an arm from Python, and read what was measured as a data frame.

Three LeNets learn scikit-learn's digits with 10% of the labels flipped, with batch norm and without:

    python examples/one_trial.py
"""

import pandas as pd

from study.run import run
from study.trial import Trial


def main() -> None:
    """Print memorization, clean and test accuracy and membership AUC of both arms."""
    trials = [Trial(norm=norm, k=0.1, epochs=15, lr=1e-3, batch_size=32, seed=(0, 1, 2)) for norm in ("batch", "none")]
    members = pd.concat(pd.DataFrame(run(trial, data_dir="data").members) for trial in trials)
    print(members.groupby("norm")[["mem_acc", "clean_acc", "test_acc", "mia_auc"]].mean().round(3))


if __name__ == "__main__":
    main()
