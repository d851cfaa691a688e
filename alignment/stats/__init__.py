"""Intervals, tests, agreement and Bradley-Terry: pure functions over numpy arrays, no I/O, no state."""

from alignment.stats.agreement import Agreement, outcomes_from_ranks, pairwise_agreement
from alignment.stats.alpaca_eval import HeadToHead, head_to_head
from alignment.stats.bradley_terry import Crowd, bradley_terry, crowd_bradley_terry, win_matrix
from alignment.stats.dawid_skene import DawidSkene, dawid_skene
from alignment.stats.divergence import Divergence, divergence_test, jensen_shannon
from alignment.stats.exact import clopper_pearson, exact_win_rate, wider_for_few
from alignment.stats.intervals import (
    Interval,
    WinRate,
    binomial_interval,
    bootstrap_interval,
    difference_of_means,
    mean_over_seeds,
    paired_difference,
    ratio_difference,
    ratio_interval,
    win_rate,
)
from alignment.stats.length_control import LengthControlled, explained_by_length, length_controlled
from alignment.stats.position import PositionBias, position_bias
from alignment.stats.power import (
    comparisons_needed,
    comparisons_needed_exactly,
    smallest_change,
    smallest_rate,
    smallest_share_change,
)
from alignment.stats.ranking import Ranking, Standing, rank_models
from alignment.stats.reward_kl import best_of_n, best_of_n_kl, gao_curve, over_optimised, reward_curve
from alignment.stats.sequential import Look, decided_at, looks
from alignment.stats.tests import holm, sign_test

__all__ = [
    "Agreement",
    "Crowd",
    "DawidSkene",
    "Divergence",
    "HeadToHead",
    "Interval",
    "LengthControlled",
    "Look",
    "PositionBias",
    "Ranking",
    "Standing",
    "WinRate",
    "best_of_n",
    "best_of_n_kl",
    "binomial_interval",
    "bootstrap_interval",
    "bradley_terry",
    "clopper_pearson",
    "comparisons_needed",
    "comparisons_needed_exactly",
    "crowd_bradley_terry",
    "dawid_skene",
    "decided_at",
    "difference_of_means",
    "divergence_test",
    "exact_win_rate",
    "explained_by_length",
    "gao_curve",
    "head_to_head",
    "holm",
    "jensen_shannon",
    "length_controlled",
    "looks",
    "mean_over_seeds",
    "outcomes_from_ranks",
    "over_optimised",
    "paired_difference",
    "pairwise_agreement",
    "position_bias",
    "rank_models",
    "ratio_difference",
    "ratio_interval",
    "reward_curve",
    "sign_test",
    "smallest_change",
    "smallest_rate",
    "smallest_share_change",
    "wider_for_few",
    "win_matrix",
    "win_rate",
]
