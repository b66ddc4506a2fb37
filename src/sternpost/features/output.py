"""Output score: whether pushing a feature makes the model say what the feature itself stands for.

    tokens(f)  the 20 tokens that W_dec[f] promotes most through the unembedding (logit lens)
    score(f)   (1 - (lowest rank of them) / |V|) * (highest probability among them)

both of the next token after a neutral text with the feature amplified (arXiv 2505.20063,
section 3).
Covered: any SAE of the residual stream. Not covered: features that act through later blocks only.
Overall: high scores mark features that are worth writing; low ones those that only read.
"""

from jaxtyping import Float, Int
from torch import Tensor

TOP = 20


def promoted(directions: Float[Tensor, "feature d_model"],
             unembedding: Float[Tensor, "token d_model"]) -> Int[Tensor, "feature top"]:
    """The tokens that each direction promotes most."""
    return (directions.float() @ unembedding.float().T).topk(min(TOP, len(unembedding))).indices


def output_score(logits: Float[Tensor, " token"], tokens: Int[Tensor, " top"]) -> float:
    """Of one feature: `logits` of the next token with the feature amplified."""
    chances = logits.float().softmax(-1)
    ranks = (logits[None, :] > logits[tokens][:, None]).sum(-1)
    return float((1 - ranks.min() / len(logits)) * chances[tokens].max())
