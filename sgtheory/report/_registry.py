"""What the paper claims, where it does so, and which figures of this package measure it.

A topic is C1 to C12 (the paper) or E1 to E7 (beyond it). The single claims of a topic, C3 or C3.averaging, belong to
the figure module that measures them, with statement, numbers and verdict; a topic only says where they come from.
"""

from dataclasses import dataclass

PROFILES = ("_paper", "", "_quick")  # of one figure, from the largest scale to the smallest


@dataclass(frozen=True)
class Topic:
    """One finding of the paper.

    Args:
        id: what the ids of its claims begin with.
        section: of Gygax & Zenke (2025); "beyond the paper" if it is not from there.
        figure: of the paper; for what is beyond it, of this package.
        finding: in our words, and with the paper's numbers where it has any.
        source: the figure of this package whose numbers carry the claims.
        also: other figures that do.
    """

    id: str
    section: str
    figure: str
    finding: str
    source: str
    also: tuple[str, ...] = ()


@dataclass(frozen=True)
class Known:
    """What is known of a contradicted claim: one sentence, and the document that has the whole story."""

    reason: str
    document: str


BEYOND = "beyond the paper"
TOPICS = {
    topic.id: topic
    for topic in (
        Topic(
            "C1",
            "Section 3.1",
            "Figure 1",
            "For one neuron the surrogate derivative is the derivative of the expected spike, and the smoothed "
            "stochastic derivative",
            "fig1",
        ),
        Topic(
            "C2",
            "Section 3.2.1",
            "Figure 2",
            "In deep stochastic nets the chain rule does not commute with the expectation",
            "fig2",
        ),
        Topic(
            "C3",
            "Sections 3.2.2, 7",
            "Figure 3",
            "In deep stochastic nets surrogate gradients are chained smoothed stochastic derivatives, path by path, "
            "and biased",
            "fig3",
        ),
        Topic(
            "C4",
            "Section 3.2.2",
            "Figure 3",
            "Finite differences have a large variance, less when samples are coupled, and smoothed derivatives less "
            "still",
            "fig3",
        ),
        Topic(
            "C5",
            "Section 3.2.2",
            "Figure S1",
            "In deterministic nets the surrogate gradient is that of one path, which is a selection bias",
            "figS1",
        ),
        Topic(
            "C6",
            "Section 4.1, Eqs 7-9, Table 1",
            "Figure 4",
            "Surrogate and true gradient can have opposite signs",
            "fig4",
        ),
        Topic(
            "C7", "Sections 4.2, 8.3", "Figure 5", "Surrogate gradients are not the gradients of any function", "fig5"
        ),
        Topic(
            "C8",
            "Section 5, Eqs 15-17",
            "none",
            "All of this carries over to LIF neurons: their smoothed stochastic derivatives, forward in time, are "
            "back-propagation through time",
            "figE2",
        ),
        Topic(
            "C9",
            "Sections 5, 7",
            "Figure S2",
            "Back-propagation through the reset does no harm if the surrogate is scaled by 1 / beta, and does if it is "
            "not",
            "figS2",
            also=("figS2_feedforward",),
        ),
        Topic(
            "C10",
            "Sections 6, 8.4.1, Tables 2, 3",
            "Figure 6",
            "Spike-train matching: the deterministic network is better in the L2 distance (20 against 23.5), the two "
            "do not differ in the van Rossum distance, and the Fano factor falls during training (0.76 to 0.6 hidden, "
            "0.78 to 0.55 output)",
            "fig6",
        ),
        Topic(
            "C11",
            "Sections 6, 8.4.2, Table 3",
            "Figure 7",
            "Classification of SHD: validation accuracy about 0.965 to 0.97 with escape noise, 0.945 to 0.95 without; "
            "the stochastic network does as well without noise, the deterministic one fails with it; the Fano factor "
            "stays high",
            "fig7",
            also=("fig7_authors",),
        ),
        Topic(
            "C12",
            "Appendix B",
            "Figure S3",
            "Left and right smoothed derivative of one sample combine to the surrogate derivative",
            "figS3",
        ),
        Topic("E1", BEYOND, "Figure E1", "Bias and variance of gradient estimators over depth and steepness", "figE1"),
        Topic("E2", BEYOND, "Figure E2", "Surrogate gradients against exact gradients of spike times", "figE2"),
        Topic(
            "E3",
            BEYOND,
            "Figure E3",
            "How robust training is to the steepness of the surrogate and to the escape function",
            "figE3",
            also=("figE3_escape",),
        ),
        Topic(
            "E4",
            BEYOND,
            "Figure E4",
            "Whether back-propagation through the reset points to the gradient of the expected loss",
            "figE4",
        ),
        Topic(
            "E5",
            BEYOND,
            "Figure E5",
            "Whether reducing the bias of surrogate gradients is worth its cost",
            "figE5",
        ),
        Topic(
            "E6",
            BEYOND,
            "Figure E6",
            "Whether descent along surrogate gradients stops at a minimum of the expected loss",
            "figE6",
        ),
        Topic(
            "E7",
            BEYOND,
            "Figure E7",
            "Whether the mean surrogate gradient of spiking networks is a gradient",
            "figE7",
        ),
    )
}

KNOWN = {
    "C5.small": Known(
        "the distance from the mean over paths is not small; only the direction is kept, more or less",
        "docs/theory.md",
    ),
    "C9.ff5": Known(
        "without recurrent connections gradients of unscaled surrogates do not explode; the paper's network has them",
        "docs/discrepancies.md",
    ),
    "C11.3": Known(
        "each of the five networks loses 0.03 to 0.06 of its test accuracy",
        "docs/discrepancies.md",
    ),
    "E5.worth": Known("no gain in training was found from unbiased gradients with a smaller error", "docs/theory.md"),
    "E1.variance": Known(
        "in steep nets unbiased stochastic derivatives sometimes have the lower variance", "docs/theory.md"
    ),
    "E3.3": Known(
        "exponential escape noise is 11 to 20 % worse than the sigmoid in the van Rossum distance, not in L2",
        "docs/discrepancies.md",
    ),
}

# of trained figures: numbers that a result at the scale of the paper reaches
PAPER_SCALE = {"fig6": {"epochs": 5000}, "fig7": {"epochs": 200, "training_samples": 7340}}
