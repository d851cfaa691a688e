"""Intervals, tests, agreement and Bradley-Terry: pure functions over numpy arrays, no I/O, no state."""

from alignment.stats.agreement import Agreement, outcomes_from_ranks, pairwise_agreement
from alignment.stats.bradley_terry import Crowd, bradley_terry, crowd_bradley_terry, win_matrix
from alignment.stats.dawid_skene import DawidSkene, dawid_skene
from alignment.stats.intervals import Interval, WinRate, binomial_interval, bootstrap_interval, win_rate
from alignment.stats.tests import holm, sign_test

__all__ = [
    "Agreement",
    "Crowd",
    "DawidSkene",
    "Interval",
    "WinRate",
    "binomial_interval",
    "bootstrap_interval",
    "bradley_terry",
    "crowd_bradley_terry",
    "dawid_skene",
    "holm",
    "outcomes_from_ranks",
    "pairwise_agreement",
    "sign_test",
    "win_matrix",
    "win_rate",
]
