"""Arms with all training labels: the accuracy that no choice of images can be expected to exceed."""

import pandas as pd

from lab.study.arms import ALL_LABELS


def split(tidy: pd.DataFrame) -> tuple[pd.DataFrame, pd.DataFrame]:
    """The rows of the arms that spend a budget, and those of the arms with all labels.

    A table of the latter alone counts as one of the former.
    """
    is_ceiling = tidy["group"].str.endswith(ALL_LABELS)
    return (tidy, tidy.iloc[:0]) if is_ceiling.all() else (tidy[~is_ceiling], tidy[is_ceiling])
