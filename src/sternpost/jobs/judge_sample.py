"""`judge sample`: a blind sheet of a run's own replies, for two people to label.

Old labels were made on other text than a steered model writes: only labels of the run's own replies
say how far its judge may be believed, and only they may correct a rate. A conversation of several
turns is shown as a transcript; rows are known by their id, so nothing is read back from it.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sternpost.assessment.judge_rates import raw_rates
from sternpost.assessment.judge_replies import Talks, lines_of
from sternpost.assessment.judge_settings import SampleSettings
from sternpost.errors import InputError, OutputError
from sternpost.files import sha256_file, write_json
from sternpost.jobs.finished import read_results
from sternpost.store.sheets import drawn, key_path, read_key, write_sheet
from sternpost.trials.settings import settings_from, takes

NEEDED = ("condition", "kind", "prompt", "prompt_sha256", "harm_kind", "cluster", "reply",
          "verdict", "hit")


@dataclass(frozen=True)
class Sheet:
    """A sheet that was written, or was there."""

    path: Path
    key: dict[str, Any]

    @property
    def rows(self) -> int:
        """Replies on it."""
        return len(self.key["rows"])

    @property
    def warnings(self) -> list[str]:
        """What the sheet cannot tell, and what to do about it."""
        strata = self.key["strata"]
        without = [stratum["lines"] for stratum in strata if not stratum["rows"]]
        if not without:
            return []
        return [f"{self.rows} rows are too few for {len(strata)} strata (condition, kind, verdict "
                f"and language): {len(without)} of them got no row, {sum(without)} of the run's "
                f"{sum(stratum['lines'] for stratum in strata)} lines. At least {len(strata)} rows "
                f"are needed for one of each: --n {len(strata)}"]

    def to_pandas(self) -> Any:
        """A row a stratum: rows on the sheet, lines of the run."""
        import pandas as pd  # heavy: only for who asks

        return pd.DataFrame(self.key["strata"])

    def _repr_html_(self) -> str:
        told = "".join(f"<p>warning: {one}</p>" for one in self.warnings)
        return told + self.to_pandas()._repr_html_()


@takes(SampleSettings)
def judge_sample(**settings: Any) -> Sheet:
    """Writes a blind, stratified sheet of a run's replies, and its key beside it.

    Raises InputError where no finished run or evaluation is there, or OutputError; a sheet that is
    there is never written over unasked.
    """
    asked = settings_from(SampleSettings, settings, "judge sample")
    path, source = Path(asked.out), Path(asked.run) / "samples.jsonl"
    results = read_results(Path(asked.run))
    identity = {"verb": "judge sample", "samples": sha256_file(source), "n": asked.n,
                "seed": asked.seed}
    known = _known(path, identity) if path.exists() and not asked.force else None
    lines = lines_of(source)
    for name in NEEDED if lines else ():
        if any(name not in line for line in lines):
            raise InputError(f"{source} has lines without {name!r}: not of this sternpost.")
    if not lines:
        raise InputError(f"{source} has no reply to an unsafe or safe prompt.")
    about = {"run": str(Path(asked.run).resolve()), "rates": raw_rates(results, lines)}
    if known is not None:
        return Sheet(path, _noted(path, known, about))
    talks = Talks(lines)
    rows = [({**line, "prompt": talks.shown(line)}, weight)
            for line, weight in drawn(lines, asked.n, asked.seed)]
    return Sheet(path, _noted(path, write_sheet(path, lines, rows, identity), about))


def _known(path: Path, identity: dict[str, Any]) -> dict[str, Any]:
    """The key of the same sheet."""
    key = read_key(path)
    if key is None or key["identity"] != identity:
        raise OutputError(f"{path} is there, and is another sheet"
                          f"{'' if key else f' or none: {key_path(path)} is missing'}. Give "
                          "another --out, or type --force to replace it, labels and all.")
    return key


def _noted(path: Path, key: dict[str, Any], about: dict[str, Any]) -> dict[str, Any]:
    """The key with the place of its run and its rates: another judge can then judge the same
    replies, and the rates be corrected."""
    if {name: key.get(name) for name in about} == about:
        return key
    key = {**key, **about}
    write_json(key_path(path), key)
    return key
