"""What is true, and how far each judge can be trusted, from what several judges said of the same items."""

from __future__ import annotations

from functools import reduce
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

Floats = NDArray[np.float64]


class DawidSkene(NamedTuple):
    """A fitted model of judges.

    truth: (items, classes) the probability of each class being the true one.
    confusion: (judges, classes, classes), [j, t, s] = P(judge j says s where t is true).
    shares: (classes,) how common each class is. objective: (iterations,) log posterior, never falling.
    """

    truth: Floats
    confusion: Floats
    shares: Floats
    objective: Floats


def dawid_skene(
    items: ArrayLike,
    judges: ArrayLike,
    verdicts: ArrayLike,
    classes: int,
    *,
    prior: ArrayLike | None = None,
    mirror: ArrayLike | None = None,
    tolerance: float = 1e-6,
    iterations: int = 500,
) -> DawidSkene:
    """Judges with a confusion matrix each, fitted by EM from the verdicts' shares on each item.

    items, judges, verdicts: (n,) indices from 0, one entry a verdict. prior: (classes, classes) verdicts
    added to every judge's matrix, [true, said], which keep a judge of few verdicts near what judges are
    expected to be; None adds nothing. mirror: (classes,) for each class the one it becomes when an item is
    turned around (first better, second better, tie: [1, 0, 2]); chances are then the same for both, so that
    which side an item was stored on tells nothing. Stops when no probability moves by more than `tolerance`.
    Cost and memory are linear in n. Raises ValueError without a verdict.
    Source: Dawid & Skene 1979, Applied Statistics 28:20; the prior makes it maximum a posteriori.
    """
    from scipy.sparse import csr_array

    item, judge = np.asarray(items, dtype=np.int64), np.asarray(judges, dtype=np.int64)
    said = np.asarray(verdicts, dtype=np.int64)
    if not len(item):
        raise ValueError("need at least one verdict")
    count = int(judge.max()) + 1
    shape = (int(item.max()) + 1, count * classes)
    # Row i holds how often each judge said each class of item i.
    table = csr_array((np.ones(len(item)), (item, judge * classes + said)), shape=shape)
    extra = np.zeros((classes, classes)) if prior is None else np.asarray(prior, dtype=np.float64)
    turned = np.arange(classes) if mirror is None else np.asarray(mirror, dtype=np.int64)

    truth = table @ np.tile(np.eye(classes), (count, 1))
    truth /= np.maximum(truth.sum(1, keepdims=True), 1.0)
    objective: list[float] = []
    while True:
        true = np.ones(len(truth)) @ truth  # numpy's own sum over the long axis takes ten times as long
        shares = true + true[turned] + 1e-9
        shares /= shares.sum()
        seen = (table.T @ truth).reshape(count, classes, classes).swapaxes(1, 2)
        confusion = 0.5 * (seen + seen[:, turned][:, :, turned]) + extra + 1e-9
        confusion /= confusion.sum(2, keepdims=True)
        logs = np.log(confusion)
        joint = table @ logs.swapaxes(1, 2).reshape(count * classes, classes) + np.log(shares)
        # log Σ exp over the few classes of each of many items: numpy's own reductions take most of the time.
        top = reduce(np.maximum, joint.T)
        evidence = top + np.log(np.exp(joint - top[:, None]) @ np.ones(classes))
        objective.append(float(evidence.sum() + (extra * logs).sum()))
        before, truth = truth, np.exp(joint - evidence[:, None])
        if np.abs(truth - before).max() < tolerance or len(objective) == iterations:
            return DawidSkene(truth, confusion, shares, np.array(objective))
