"""How far apart two models' pictures lie as wholes: the kernel distance of two sets of paired embeddings."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from hafbench.statistics.clusters import CELLS, Floats, cluster_codes
from hafbench.statistics.paired import RESAMPLES


@dataclass(frozen=True)
class Distance:
    """A squared distance of two distributions, 0 where they are one; unbiased, so that it may come out below 0.

    `p_value` is that the two are alike, one-sided; None where there are fewer than two clusters. `estimate` is None
    for fewer than two images.
    """

    images: int
    clusters: int
    estimate: float | None
    p_value: float | None


def kernel_distance(
    baseline: Any, candidate: Any, clusters: Any, *, resamples: int = RESAMPLES, seed: int = 0
) -> Distance:
    """The squared maximum mean discrepancy of paired embeddings, both (n, d), of the same prompts and seeds.

    The kernel is KID's, (x.y / d + 1)^3 (Binkowski et al., arXiv 1801.01401, eq. 3), of embeddings brought to the
    length sqrt(d), so (cosine + 1)^3: of CLIP's only the direction means something. The estimate is the unbiased one
    for pairs (Gretton et al. 2012, JMLR 13, 723-773, lemma 6): both images of a pair may come from one noise. The test
    exchanges the models' labels for whole clusters. Raises ValueError for embeddings that are no such pair.
    """
    one, other = (_unit(side) for side in (baseline, candidate))
    if one.shape != other.shape:
        raise ValueError(f"embeddings of shapes {one.shape} and {other.shape} are no pairs")
    n, codes = len(one), cluster_codes(clusters)
    if n < 2:
        return Distance(n, n, None, None)
    both = _kernel(one, other)
    apart = _kernel(one, one) + _kernel(other, other) - both - both.T
    np.fill_diagonal(apart, 0.0)
    k = int(codes.max()) + 1
    member = np.eye(k)[codes]
    shared = member.T @ apart @ member
    estimate = float(shared.sum() / (n * (n - 1)))
    if k < 2:
        return Distance(n, k, estimate, None)
    # Where a cluster changes sides its terms with all others change their sign.
    rng = np.random.default_rng([seed, 2])
    as_far, done, step = 0, 0, max(1, CELLS // k)
    while done < resamples:
        signs = rng.choice([-1.0, 1.0], size=(min(step, resamples - done), k))
        moved = np.einsum("ri,ij,rj->r", signs, shared, signs, optimize=True) / (n * (n - 1))
        as_far += int(np.sum(moved >= estimate - 1e-12))
        done += len(signs)
    return Distance(n, k, estimate, (as_far + 1) / (resamples + 1))


def _unit(values: Any) -> Floats:
    rows = np.asarray(values, dtype=np.float64)
    lengths = np.linalg.norm(rows, axis=1, keepdims=True) if rows.ndim == 2 else np.zeros(1)
    if not np.all(np.isfinite(rows)) or np.any(lengths == 0):
        raise ValueError("embeddings are finite rows (n, d), none of length 0")
    return np.asarray(rows / lengths)


def _kernel(one: Floats, other: Floats) -> Floats:
    return np.asarray((one @ other.T + 1) ** 3)
