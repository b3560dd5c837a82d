"""The tree of spike patterns of a net (Figs 3, S1): every layer's pattern branches into all patterns of the next."""

import numpy as np
import torch
from matplotlib.patches import FancyBboxPatch

from sgtheory.theory import Objective, spike_patterns


def _leaves(spikes: torch.Tensor) -> list[int]:
    """Number of each path, its spikes [paths, units] read as binary digits, most significant first."""
    return (spikes @ 2.0 ** torch.arange(spikes.shape[-1] - 1, -1, -1, dtype=spikes.dtype)).int().tolist()


def pattern_tree(objective: Objective) -> dict:
    """Probability of every node of the tree: one array per layer, the first for the root.

    Node i of a layer has as children the nodes i * 2**units, ..., of the next.
    """
    path, probability = objective.paths()
    leaves = np.zeros(2**objective.net.units)
    leaves[_leaves(torch.cat(path, dim=-1))] = probability
    units = np.cumsum((0, *objective.net.sizes[1:]))
    return {"units": objective.net.sizes[1:], "nodes": [leaves.reshape(2**n, -1).sum(1) for n in units]}


def branches(path: list[torch.Tensor]) -> list[tuple[int, ...]]:
    """The nodes that each path of a batch goes through, root included."""
    depths = [_leaves(torch.cat(path[:layer], dim=-1)) for layer in range(1, len(path) + 1)]
    return [(0, *nodes) for nodes in zip(*depths, strict=True)]


def _height(node, count):
    return 1 - (node + 0.5) / count


def draw_tree(axes, tree: dict, layer_names: list[str]) -> None:
    """Draw every branch in grey, as wide as it is probable."""
    nodes = tree["nodes"]
    for layer in range(1, len(nodes)):
        before, after = len(nodes[layer - 1]), len(nodes[layer])
        for child in range(after):
            parent = child * before // after
            y = (_height(parent, before), _height(child, after))
            axes.plot((layer - 1, layer), y, color="0.75", linewidth=0.25 + 8 * nodes[layer][child], zorder=1)
    for layer, count in enumerate(map(len, nodes)):
        axes.plot(np.full(count, layer), _height(np.arange(count), count), "o", color="0.45", markersize=1.6, zorder=2)
        axes.text(layer, 1.03, layer_names[layer], ha="center", va="bottom", fontsize=7)
    for node, pattern in enumerate(spike_patterns(tree["units"][0]).int().tolist()):
        y = _height(node, len(nodes[1]))
        axes.text(1, y + 0.02, "".join(map(str, pattern)), ha="center", va="bottom", fontsize=6, color="0.3", zorder=4)
    axes.set(xlim=(-0.1, len(nodes) - 0.9), ylim=(-0.02, 1.1))
    axes.axis("off")


def draw_expectation(axes, tree: dict, branch: tuple[int, ...], layer: int, label: str, colour: str) -> None:
    """A box around all patterns of a layer that follow a path's pattern of the layer before it."""
    before, count = len(tree["nodes"][layer - 1]), len(tree["nodes"][layer])
    children = count // before
    top, bottom = (_height(children * branch[layer - 1] + child, count) for child in (0, children - 1))
    box = FancyBboxPatch((layer - 0.06, bottom - 0.015), 0.12, top - bottom + 0.03, boxstyle="round,pad=0.01")
    box.set(facecolor="none", edgecolor=colour, linewidth=1, zorder=5, mutation_aspect=0.4)
    axes.add_patch(box)
    axes.text(layer + 0.1, bottom - 0.02, label, ha="left", va="top", fontsize=7, color=colour, zorder=6)


def draw_branch(axes, tree: dict, branch: tuple[int, ...], fan: bool = False, **style) -> None:
    """Draw one path through the tree; with ``fan`` also all patterns of the next layer at each node on it."""
    counts = [len(nodes) for nodes in tree["nodes"]]
    if fan:
        for layer in range(1, len(counts)):
            children = counts[layer] // counts[layer - 1]
            for child in range(children * branch[layer - 1], children * (branch[layer - 1] + 1)):
                y = (_height(branch[layer - 1], counts[layer - 1]), _height(child, counts[layer]))
                axes.plot((layer - 1, layer), y, color=style["color"], linewidth=0.7, linestyle=(0, (2, 1)), zorder=2)
    axes.plot(range(len(counts)), [_height(n, c) for n, c in zip(branch, counts, strict=True)], zorder=3, **style)
