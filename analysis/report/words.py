"""Words that reports share: how lists, hours and versions of the code are told."""

import pandas as pd


def listed(values: pd.Series, most: int = 4) -> str:
    """Return the distinct values in order, and beyond the first `most` how many more there are."""
    distinct = sorted({str(value) for value in values})
    return ", ".join(distinct[:most]) + (f" and {len(distinct) - most} more" if len(distinct) > most else "")


def hours_text(seconds: float) -> str:
    """Return how many hours of a device some seconds are."""
    return f"{seconds / 3600:,.2g} device-hours" if seconds < 36000 else f"{seconds / 3600:,.0f} device-hours"


def short_commit(commit: str) -> str:
    """Return the first digits of a commit; a version, where there was no checkout, as it is."""
    return commit if " " in commit else commit[:10]


def code_text(members: pd.DataFrame) -> str:
    """Return the version of the code that made the records."""
    commits = [short_commit(commit) for commit in members["git_commit"].dropna().unique()]
    changed = "with uncommitted changes" if members["git_dirty"].fillna(False).astype(bool).any() else "unchanged"
    if len(commits) == 1 and " " in commits[0]:
        return f"code of {commits[0]}, as installed"
    version = f"commit {commits[0]}" if len(commits) == 1 else f"{len(commits)} commits"
    return f"code of {version}, {changed}" if commits else "code of no known commit"
