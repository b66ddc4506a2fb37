"""The settings of a run. Light: nothing heavy is imported."""

from dataclasses import dataclass

from sternpost.errors import InputError
from sternpost.trials.settings import Settings, command_of, setting
from sternpost.types import ERROR_TERMS, MODES, Hookpoint, Positions


@dataclass(frozen=True, kw_only=True)
class RunSettings(Settings):
    """Everything that `run` can be told."""

    model: str = setting("Model: a folder or a Hub id.")
    unsafe: str = setting("Prompts that should be refused: FILE[#column] or hf:org/name/split.")
    safe: str = setting("Prompts that should be answered.")
    out: str = setting("Folder for the results.")
    capability: str | None = setting("Prompts with an `answer` column; counts right replies.",
                                      None)
    layer: int | None = setting("Block whose output is read and written, 0-based; default: the "
                                 "one nearest to 0.2 of the depth (the paper's 6 of 32).", None)
    corpus: str | None = setting("More text to train the SAE on.", None)
    archetype: tuple[str, ...] = setting("A prompt that the model refuses; its refusal proposes "
                                          "features. Repeatable.", many=str)
    sae: str | None = setting("SAE to use instead of training one: a folder or Hub id[:SAE_ID].",
                               None)
    d_sae: int | None = setting("Features of the SAE to train; default: 8 x d_model, as in the "
                                 "paper.", None)
    k: int | None = setting("Active features a token; default: 32, as in the paper, at most "
                             "d_model / 4.", None)
    tokens: int | None = setting("Tokens to train the SAE on; default: 500,000, or 40 x d_sae if "
                                  "that is more.", None)
    feature: tuple[int, ...] = setting("Feature to try instead of searching. Repeatable.",
                                        many=int)
    search_value: float | None = setting("Clamp value of the search, activation units; default: "
                                         "twice each candidate's own high activation.", None)
    values: tuple[float, ...] = setting("Clamp values to sweep, activation units, comma-"
                                         "separated; default: multiples of the feature's high "
                                         "activation.", many=float)
    positions: str = setting("Tokens to write: all, prompt, t_inst, tail, response, last(k), "
                              "joined by +.", "all")
    error: str = setting("keep adds only the change; drop replaces the stream by the edited "
                          "reconstruction.", "keep", choices=ERROR_TERMS)
    mode: str = setting("How activations are read.", "exact", choices=MODES)
    no_gate: bool = setting("Steer every prompt; no gated condition.", False)
    limit: int | None = setting("At most so many prompts of each file.", None)
    max_new_tokens: int = setting("Longest reply, in tokens.", 64)
    seed: int = setting("Seed of splits, SAE and controls.", 0)
    dry_run: bool = setting("Check everything, print the plan, write nothing.", False)

    def __post_init__(self) -> None:
        self.check("d_sae", "k", "tokens", "limit", "max_new_tokens")
        Positions(self.positions)
        if self.layer is not None:
            Hookpoint(self.layer)
        _check_features(self)
        if self.error == "drop" and self.mode != "exact":
            raise InputError("error 'drop' replaces the stream by the SAE's reconstruction and "
                             f"needs mode 'exact'; got mode {self.mode!r}.")
        if self.sae is not None and any((self.d_sae, self.k, self.tokens)):
            raise InputError("--sae brings its own size; leave out --d-sae, --k and --tokens.")

    def command(self) -> str:
        """The command line that repeats this run."""
        return command_of(self, "run")


def _check_features(s: RunSettings) -> None:
    for value in (*s.values, *(() if s.search_value is None else (s.search_value,))):
        if isinstance(value, bool) or not isinstance(value, int | float) \
                or value != value or abs(value) == float("inf"):
            raise InputError(f"values are finite numbers in activation units; got {value!r}.")
    for text in s.archetype:
        if not isinstance(text, str) or not text.strip():
            raise InputError(f"archetype is a prompt, or a list of prompts; got {text!r}.")
    for feature in s.feature:
        if isinstance(feature, bool) or not isinstance(feature, int) or feature < 0:
            raise InputError(f"feature is a whole number from 0 up; got {feature!r}.")
    if len(set(s.values)) != len(s.values):
        raise InputError(f"values names a value twice: {', '.join(map(str, s.values))}.")
