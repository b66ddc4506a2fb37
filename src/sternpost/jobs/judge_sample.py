"""`judge sample`: a blind sheet of a run's own replies, for two people to label.

Old labels were made on other text than a steered model writes: only labels of the run's own replies
say how far its judge may be believed, and only they may correct a rate.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sternpost.assessment.judge_settings import SampleSettings
from sternpost.errors import InputError, OutputError
from sternpost.files import read_jsonl, sha256_file
from sternpost.store.sheets import drawn, key_path, read_key, write_sheet
from sternpost.trials.settings import settings_from, takes

NEEDED = ("condition", "kind", "prompt", "reply", "verdict")


@dataclass(frozen=True)
class Sheet:
    """A sheet that was written, or was there."""

    path: Path
    key: dict[str, Any]

    @property
    def rows(self) -> int:
        """Replies on it."""
        return len(self.key["rows"])

    def to_pandas(self) -> Any:
        """A row a stratum: rows on the sheet, lines of the run."""
        import pandas as pd  # heavy: only for who asks

        return pd.DataFrame(self.key["strata"])

    def _repr_html_(self) -> str:
        return self.to_pandas()._repr_html_()


@takes(SampleSettings)
def judge_sample(**settings: Any) -> Sheet:
    """Writes a blind, stratified sheet of a run's replies, and its key beside it.

    Raises InputError or OutputError; a sheet that is there is never written over unasked.
    """
    asked = settings_from(SampleSettings, settings, "judge sample")
    path, source = Path(asked.out), Path(asked.run) / "samples.jsonl"
    if not source.is_file():
        raise InputError(f"{source} is not there. Give the folder of a run or an evaluation, which "
                         "has samples.jsonl.")
    identity = {"verb": "judge sample", "samples": sha256_file(source), "n": asked.n,
                "seed": asked.seed}
    if path.exists() and not asked.force:
        return _there(path, identity)
    lines = [line for line in read_jsonl(source) if line.get("kind") in ("unsafe", "safe")]
    for name in NEEDED if lines else ():
        if any(name not in line for line in lines):
            raise InputError(f"{source} has lines without {name!r}: not of this sternpost.")
    if not lines:
        raise InputError(f"{source} has no reply to an unsafe or safe prompt.")
    return Sheet(path, write_sheet(path, lines, drawn(lines, asked.n, asked.seed), identity))


def _there(path: Path, identity: dict[str, Any]) -> Sheet:
    key = read_key(path)
    if key is None or key["identity"] != identity:
        raise OutputError(f"{path} is there, and is another sheet"
                          f"{'' if key else f' or none: {key_path(path)} is missing'}. Give "
                          "another --out, or type --force to replace it, labels and all.")
    return Sheet(path, key)
