"""The nouns that flow through the house, and the protocols its rooms meet at.

    prompts -> activations -> SAE features -> selection -> policy -> steered generation
    -> judgement -> report

Values are frozen. Nothing here imports torch; tensors appear in annotations only.
"""

from sternpost.types.counts import JudgeAccuracy, Points, Rate
from sternpost.types.edits import (
    ERROR_TERMS,
    MODES,
    Ablate,
    Add,
    Cap,
    Ceiling,
    Clamp,
    Edit,
    ErrorTerm,
    Floor,
    How,
    MahalanobisCap,
    Mode,
    NormCap,
    Plan,
    Proof,
    Scale,
)
from sternpost.types.goal import REFUSAL, Goal
from sternpost.types.places import Hookpoint, Positions, TemplateMarks
from sternpost.types.protocols import Chat, Engine, Gate, Judge, Policy, PromptClassifier
from sternpost.types.talk import (
    SPLITS,
    Completion,
    Judgement,
    Kind,
    LabelledPrompt,
    Message,
    Request,
    Residuals,
    Sampling,
    Split,
    Transcript,
    Verdict,
)

__all__ = [
    "ERROR_TERMS", "MODES", "REFUSAL", "SPLITS", "Ablate", "Add", "Cap", "Ceiling", "Chat",
    "Clamp", "Completion", "Edit", "Engine", "ErrorTerm", "Floor", "Gate", "Goal", "Hookpoint",
    "How", "Judge", "JudgeAccuracy", "Judgement", "Kind", "LabelledPrompt", "MahalanobisCap",
    "Message", "Mode", "NormCap", "Plan", "Points", "Policy", "Positions", "PromptClassifier",
    "Proof", "Rate", "Request", "Residuals", "Sampling", "Scale", "Split", "TemplateMarks",
    "Transcript", "Verdict"]
