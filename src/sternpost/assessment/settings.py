"""The settings of `eval`. Light: nothing heavy is imported."""

import os
from dataclasses import dataclass
from pathlib import Path

from sternpost.errors import InputError
from sternpost.trials.settings import Settings, setting
from sternpost.types import ERROR_TERMS, MODES, Positions

DATA = "STERNPOST_DATA"
LANGUAGES = ("en", "zh")


@dataclass(frozen=True, kw_only=True)
class EvaluateSettings(Settings):
    """Everything that `eval` can be told."""

    out: str = setting("Folder for the results.")
    pack: str | None = setting("Pack to steer with: a folder, a Hub id, or dinghy, which comes "
                               "with sternpost.", None)
    level: str = setting("Level of the pack.", "high")
    model: str | None = setting(  # pyright: ignore[reportIncompatibleVariableOverride]
        "Model: a folder or a Hub id; of a pack, where its model lies, if not where it says.", None)
    sae: str | None = setting("SAE whose features are clamped: a folder or Hub id[:SAE_ID].", None)
    clamp: tuple[str, ...] = setting("FEATURE=VALUE, activation units. Repeatable.", many=str)
    positions: str = setting("Tokens that --clamp writes.", "all")
    error: str = setting("Error term of --clamp.", "keep", choices=ERROR_TERMS)
    mode: str = setting("How activations are read for --clamp.", "exact", choices=MODES)
    suite: str | None = setting("Benchmarks, comma-separated: names, or TOML files of your own.",
                                None)
    tasks: str | None = setting("Tasks of lm-evaluation-harness, comma-separated, such as "
                                "mmlu,gsm8k.", None)
    num_fewshot: int | None = setting("Examples before each task; default: the task's own.", None)
    data: str | None = setting(f"Folder of benchmark files; default: {DATA}.", None)
    hub: bool = setting("Fetch from the Hub what the data folder has not.", False)
    drop_seen: bool = setting("Leave out, and count, prompts that the pack was fitted on, instead "
                              "of refusing them.", False)
    judge: str = setting("Judge: words, openai:MODEL, another of `sternpost judge`, or "
                         "file.py:name.", "words")
    wrappers: str | None = setting("Ask every suite's prompts once more in attack wrappers, as a "
                                   "suite NAME.wrapped: families, comma-separated, or all.", None)
    build_ups: bool = setting("Ask them once more as scripts of several turns, as a suite "
                              "NAME.scripted.", False)
    attacker: str | None = setting("Attacker of Crescendo: openai:MODEL.", None)
    through: str = setting("Whose Crescendo: native, or pyrit (extra).", "native",
                           choices=("native", "pyrit"))
    turns: int = setting("Turns of an attack, at most.", 10)
    backtracks: int = setting("Turns that an attack may take back.", 10)
    limit: int | None = setting("At most so many prompts of each part of a suite, or documents of "
                                "each task.", None)
    max_new_tokens: int | None = setting("Longest reply, in tokens; default: the pack's, else "
                                         "128.", None)
    system: str | None = setting("System prompt put before every conversation; a pack has its "
                                 "own.", None)
    seed: int = setting("Seed of prompts that are drawn, and of --limit.", 0)
    lang: str = setting("Language of the report.", "en", choices=LANGUAGES)
    dry_run: bool = setting("Check everything, print the plan, write nothing.", False)

    def __post_init__(self) -> None:
        self.check("limit", "max_new_tokens", "turns")
        Positions(self.positions)
        if self.pack is None and self.model is None:
            raise InputError("What is evaluated? Give --pack P [--level L], or --model M [--sae S "
                             "--clamp FEATURE=VALUE].")
        steering = [f"--{name}" for name in ("sae", "clamp") if getattr(self, name)]
        if self.pack is not None and (steering or self.system or self.chat_template):
            also = steering or ["--system or --chat-template"]
            raise InputError(f"A pack brings its own features, system prompt and template; got "
                             f"{' and '.join(also)} beside --pack. Give one or the other.")
        written = [f"--{name}" for name, usual in (("positions", "all"), ("error", "keep"),
                                                   ("mode", "exact"))
                   if getattr(self, name) != usual]
        if self.pack is not None and written:
            raise InputError(f"A pack says where and how it writes; got {' and '.join(written)} "
                             "beside --pack. Leave that out, or give --sae and --clamp instead.")
        if len(steering) == 1 and (self.sae is None or self.error != "drop"):
            raise InputError(f"--sae and --clamp go together; got {steering[0]} alone. Type --sae "
                             "DIR --clamp FEATURE=VALUE; or --sae DIR --error drop, which splices "
                             "it in and clamps nothing.")
        if self.suite is None and self.tasks is None:
            raise InputError("On what? Give --suite NAME (such as smoke), or --tasks mmlu,gsm8k.")
        if self.backtracks < 0 or (self.num_fewshot or 0) < 0:
            raise InputError(f"backtracks and num_fewshot are numbers from 0 up; got "
                             f"{self.backtracks!r} and {self.num_fewshot!r}.")
        assert self.clamps is not None

    @property
    def clamps(self) -> tuple[tuple[int, float], ...]:
        """Features and their values."""
        out: list[tuple[int, float]] = []
        for text in self.clamp:
            feature, equals, value = text.partition("=")
            try:
                out.append((int(feature), float(value)))
            except ValueError as error:
                raise InputError(f"--clamp takes FEATURE=VALUE, e.g. 597=8; got {text!r}.") \
                    from error
            assert equals
        return tuple(out)

    def check_services(self) -> None:
        """Raises InputError where a service is asked for and nothing says where one is."""
        asked = [name for name in (self.judge, self.attacker or "") if "openai:" in name]
        if asked and not any(os.environ.get(f"OPENAI_{name}") for name in ("BASE_URL", "API_KEY")):
            raise InputError(f"{asked[0]} needs a service. Set OPENAI_API_KEY, or OPENAI_BASE_URL "
                             "to a service of yours.")

    @property
    def names(self) -> tuple[str, ...]:
        """The suites that were named."""
        return _split(self.suite)

    @property
    def task_names(self) -> tuple[str, ...]:
        """The tasks that were named."""
        return _split(self.tasks)

    @property
    def families(self) -> tuple[str, ...] | None:
        """Wrapper families; empty for all, None for no wrappers."""
        return None if self.wrappers is None else () if self.wrappers == "all" \
            else _split(self.wrappers)

    @property
    def folder(self) -> Path | None:
        """The data folder."""
        named = self.data or os.environ.get(DATA)
        return Path(named) if named else None


def _split(text: str | None) -> tuple[str, ...]:
    return tuple(dict.fromkeys(one.strip() for one in (text or "").split(",") if one.strip()))
