"""Catmull-Clark subdivision of quads, as a linear map from the coarse vertices to the fine ones."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from hafbench.people.mesh import Floats, Indices

if TYPE_CHECKING:
    from scipy.sparse import csr_matrix


@dataclass(frozen=True)
class Refined:
    """`matrix` (V', V) makes the fine vertices of the coarse ones; `quads` (4 Q, 4) join them.

    Fine quads 4 q .. 4 q + 3 come from coarse quad q. A triangle is a quad whose last corner is repeated.
    """

    matrix: csr_matrix
    quads: Indices


def _edges(quads: Indices) -> tuple[Indices, Indices]:
    """Edges (E, 2), and the edge (Q, 4) from each corner of a quad to the next."""
    pairs = np.stack([quads, np.roll(quads, -1, axis=1)], -1)
    edges, numbers = np.unique(np.sort(pairs.reshape(-1, 2), axis=1), axis=0, return_inverse=True)
    return edges.astype(np.int32), numbers.reshape(quads.shape).astype(np.int32)


def _children(quads: Indices, edges: Indices, count: int, edge_count: int) -> Indices:
    corner, edge = quads, count + edges
    face = np.repeat(count + edge_count + np.arange(len(quads))[:, None], 4, 1)
    return np.stack([corner, edge, face, np.roll(edge, 1, axis=1)], -1).reshape(-1, 4).astype(np.int32)


def catmull_clark(quads: Indices, count: int) -> Refined:
    """One step for quads (Q, 4) over `count` vertices; open borders stay curves of their own."""
    from scipy import sparse

    edges, of_quad = _edges(quads)
    ones = np.ones
    q, e = len(quads), len(edges)
    face = sparse.csr_matrix((ones(4 * q) / 4, (np.repeat(np.arange(q), 4), quads.ravel())), (q, count))
    used = sparse.csr_matrix((ones(4 * q), (of_quad.ravel(), np.repeat(np.arange(q), 4))), (e, q))
    faces_at_edge = np.asarray(used.sum(1)).ravel()
    middle = sparse.csr_matrix((ones(2 * e) / 2, (np.repeat(np.arange(e), 2), edges.ravel())), (e, count))
    # A degenerate edge (a repeated corner) counts as a border, so that its midpoint is the corner.
    border = (faces_at_edge != 2) | (edges[:, 0] == edges[:, 1])
    inner = sparse.diags((~border).astype(float))
    edge = sparse.diags(border.astype(float)) @ middle + inner @ (middle + used @ face / 2) / 2

    at_vertex = sparse.csr_matrix((ones(2 * e), (edges.ravel(), np.repeat(np.arange(e), 2))), (count, e))
    valence = np.asarray(at_vertex.sum(1)).ravel()
    faces_of = sparse.csr_matrix((ones(4 * q), (quads.ravel(), np.repeat(np.arange(q), 4))), (count, q))
    faces_of.data[:] = 1
    face_valence = np.maximum(1, np.asarray(faces_of.sum(1)).ravel())
    n = np.maximum(1, valence)
    smooth = (
        sparse.diags(1 / (n * face_valence)) @ faces_of @ face
        + sparse.diags(2 / (n * n)) @ at_vertex @ middle
        + sparse.diags((n - 3) / n)
    )
    at_border = at_vertex @ sparse.diags(border.astype(float))
    borders = np.asarray(at_border.sum(1)).ravel()
    curve = sparse.diags(0.5 / np.maximum(1, borders)) @ at_border @ middle + sparse.diags(np.full(count, 0.5))
    keep_still = (valence == 0) | ((borders > 0) & (borders != 2))
    on_curve = (borders == 2) & ~keep_still
    inside = ~(keep_still | on_curve)
    vertex = (
        sparse.diags(inside.astype(float)) @ smooth
        + sparse.diags(on_curve.astype(float)) @ curve
        + sparse.diags(keep_still.astype(float))
    )
    matrix = sparse.vstack([vertex, edge, face]).tocsr()
    return Refined(matrix, _children(quads, of_quad, count, e))


def linear(quads: Indices, values: Floats) -> tuple[Floats, Indices]:
    """Values (U, k) and quads (Q, 4) of a texture's layout, with edges and faces halved."""
    edges, of_quad = _edges(quads)
    fine = np.concatenate([values, values[edges].mean(1), values[quads].mean(1)])
    return fine.astype(np.float32), _children(quads, of_quad, len(values), len(edges))


def triangles(quads: Indices) -> Indices:
    """Triangles (2 Q, 3) of quads (Q, 4)."""
    return np.stack([quads[:, [0, 1, 2]], quads[:, [0, 2, 3]]], 1).reshape(-1, 3).astype(np.int32)
