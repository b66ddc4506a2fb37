"""The settings of `features trace`. Light: nothing heavy is imported."""

from dataclasses import dataclass

from sternpost.errors import InputError
from sternpost.trials.settings import Settings, setting
from sternpost.types import Hookpoint


@dataclass(frozen=True, kw_only=True)
class TraceOptions(Settings):
    """What `features trace` can be told in options of the fields' own names."""

    model: str = setting("Model: a folder or a Hub id.")
    sae: str = setting("SAE: a folder or Hub id[:SAE_ID].")
    out: str = setting("Folder for trace.json and trace.html.")
    reply: str | None = setting("A reply to trace; default: the model's own.", None)
    benign: str | None = setting("Harmless prompts to compare with: FILE[#column] or "
                                 "hf:org/name/split; default: the safe golden prompts of --pack.",
                                 None)
    pack: str | None = setting("Pack whose gate is read: a folder, or dinghy, which comes with "
                               "sternpost.", None)
    feature: tuple[int, ...] = setting("Feature to show at every token. Repeatable.", many=int)
    goal: str | None = setting("What the reply is looked through for instead of refusal: a TOML "
                               "file with the behaviour's name and its judge.", None)
    archetype: tuple[str, ...] = setting("A prompt whose reply shows it; asked where this one's "
                                         "reply does not. Repeatable.", many=str)
    top: int = setting("Features to show at a token.", 8)
    layer: int | None = setting("Block that the SAE reads, where its files do not say.", None)
    limit: int | None = setting("At most so many of the harmless prompts.", None)
    max_new_tokens: int = setting("Longest reply, in tokens.", 64)
    system: str | None = setting("System prompt put before the conversation; default: the pack's.",
                                 None)
    seed: int = setting("Seed of which harmless prompts --limit draws.", 0)

    def __post_init__(self) -> None:
        self.check("top", "limit", "max_new_tokens")
        if self.layer is not None:
            Hookpoint(self.layer)
        for feature in self.feature:
            if isinstance(feature, bool) or not isinstance(feature, int) or feature < 0:
                raise InputError(f"feature is a whole number from 0 up; got {feature!r}.")
        for text in self.archetype:
            check_text(text, "archetype")
        if self.reply is not None:
            check_text(self.reply, "reply")


@dataclass(frozen=True, kw_only=True)
class TraceSettings(TraceOptions):
    """Everything that `features trace` can be told."""

    prompt: str = setting("What the user says.")
    labels: str | None = setting("Folder of `features describe`, whose labels are shown; on the "
                                 "command line --from.", None, also="from")

    def __post_init__(self) -> None:
        super().__post_init__()
        check_text(self.prompt, "prompt")


def check_text(text: object, name: str) -> None:
    """Raises InputError unless `text` is something to say."""
    if not isinstance(text, str) or not text.strip():
        raise InputError(f"{name} is a text that is not empty; got {text!r}. Type sternpost "
                         "features trace \"How do I bake bread?\" --model M --sae S --out DIR")
    if any("\ud800" <= letter <= "\udfff" for letter in text):
        raise InputError(f"{name} is UTF-8 text; got {text!r}. Convert it first, e.g. with iconv "
                         "-t UTF-8.")
