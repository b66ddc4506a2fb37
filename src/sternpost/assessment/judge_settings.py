"""The settings of `judge sample` and `judge calibrate`. Light: nothing heavy is imported."""

from dataclasses import dataclass

from sternpost.errors import InputError
from sternpost.trials.settings import check_types, coerce, setting


@dataclass(frozen=True, kw_only=True)
class SampleOptions:
    """What `judge sample` can be told in options."""

    n: int = setting("Replies to label, at most.", 200)
    out: str = setting("Sheet to write: FILE.csv. Its key goes beside it.")
    seed: int = setting("Which replies are drawn.", 0)
    resume: bool = setting("Nothing more than without: a sheet is written at once.", False)
    force: bool = setting("Replace another sheet, labels and all.", False)

    def __post_init__(self) -> None:
        coerce(self)
        check_types(self)
        if self.n < 1:
            raise InputError(f"n is a whole number from 1 up; got {self.n}.")
        if not self.out.lower().endswith(".csv"):
            raise InputError(f"A sheet is a .csv file; got {self.out!r}. Type --out {self.out}.csv")


@dataclass(frozen=True, kw_only=True)
class SampleSettings(SampleOptions):
    """Everything that `judge sample` can be told."""

    run: str = setting("Folder of a run: it has samples.jsonl.")


@dataclass(frozen=True, kw_only=True)
class CalibrateJudgeSettings:
    """Everything that `judge calibrate` can be told."""

    labels: str = setting("People's labels: a CSV, JSONL or Parquet file, a sheet of `judge sample`"
                          " that is filled in, or a folder of XSTest's completions.")
    judge: str | None = setting(
        "words, prefixes, learned, openai:MODEL, wildguard:MODEL, harmbench:MODEL, file.py:name, "
        "...; a sheet's replies are judged anew by it. Not given: words; of a sheet, the verdicts "
        "that the run came with.", None)
    out: str | None = setting("File for the figures, as JSON.", None)
    device: str = setting("Of a judge that is a model at hand: auto, cpu, cuda, mps.", "auto")
    workers: int = setting("Questions asked of a service at a time.", 4)
    resume: bool = setting("Measure again and replace this measurement's own file.", False)
    force: bool = setting("Replace another file.", False)

    def __post_init__(self) -> None:
        coerce(self)
        check_types(self)
        if self.workers < 1:
            raise InputError(f"workers is a whole number from 1 up; got {self.workers}.")
