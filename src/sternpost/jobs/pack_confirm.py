"""`pack confirm`: what a pack's levels do on prompts that nobody has used, beside what it says.

    FILE    baseline and every level measured anew, in levels.json's schema; and under `provenance`
            which pack, which prompts, and notes

Model, system prompt, template, reply length and judge are the pack's.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any

from sternpost.errors import PackError
from sternpost.files import read_json
from sternpost.judges import WordListJudge
from sternpost.packs.make import levels_body
from sternpost.packs.operating import measure_levels
from sternpost.packs.pack import Pack, engine_for, load_pack
from sternpost.packs.prompts import given_files, prompts_of
from sternpost.packs.settings import ConfirmSettings
from sternpost.store import RunFolder, at_work, open_run_file
from sternpost.trials.bench import Bench, Trial, own_replies
from sternpost.trials.progress import Watch
from sternpost.trials.settings import settings_from, takes
from sternpost.trials.start import fitted_judge
from sternpost.types import LabelledPrompt, Sampling


@dataclass(frozen=True)
class Confirmation:
    """What a pack's levels do on fresh prompts."""

    path: Path
    found: dict[str, Any] = field(repr=False)
    """FILE: levels.json's schema, and provenance."""
    stated: dict[str, Any] = field(repr=False)
    """The pack's own levels.json."""

    @property
    def notes(self) -> list[str]:
        """What there is to know of these figures."""
        return self.found["provenance"]["notes"]

    def to_pandas(self) -> Any:
        """A row a level, the baseline first: every rate's hits, n and interval."""
        import pandas as pd  # heavy: only for who asks

        rows = {"baseline": self.found["baseline"], **self.found["levels"]}
        return pd.json_normalize([{"level": name, **{k: v for k, v in row.items() if k != "why"}}
                                  for name, row in rows.items()])

    def _repr_html_(self) -> str:
        return self.to_pandas()._repr_html_()


@takes(ConfirmSettings)
def pack_confirm(**settings: Any) -> Confirmation:
    """Measures baseline and every level of a pack anew, on fresh prompts; writes levels.json's
    schema to a file.

    Raises a SternpostError for bad input, LeakageError where the pack was fitted on a prompt.
    """
    return confirm_pack(settings_from(ConfirmSettings, settings, "pack confirm"), Watch())


def confirm_pack(settings: ConfirmSettings, watch: Watch) -> Confirmation:
    """The same, with somebody watching."""
    pack = load_pack(settings.pack)
    files = given_files(settings)
    identity = settings.identity(pack.files.sha256, {k: f.sha256 for k, f in files.items()})
    out = open_run_file(Path(settings.out), identity, settings.resume, settings.force)
    with at_work(out.folder):
        if not out.finished:
            with watch.stage("prompts", "Prompts that the pack has not seen"):
                prompts, notes = prompts_of(settings, pack, files)
            out.finish(_measured(pack, settings, prompts, notes, _Work(out.folder, watch)))
    return Confirmation(out.path, read_json(out.path), pack.costs)


@dataclass(frozen=True)
class _Work:
    folder: RunFolder
    watch: Watch


def _measured(pack: Pack, settings: ConfirmSettings, prompts: Sequence[LabelledPrompt],
              notes: Sequence[str], work: _Work) -> dict[str, Any]:
    """The file's body."""
    watch, body = work.watch, pack.files.body
    judge = body.get("judge", {})
    if judge.get("name") != WordListJudge.name:
        raise PackError(f"The pack at {pack.path} was judged by {judge.get('name')!r}, and this "
                        f"sternpost measures with {WordListJudge.name!r}, so that its figures could"
                        " not be compared.")
    with watch.stage("load", f"Loading {settings.model or pack.source}"):
        engine = engine_for(pack, settings.model, settings.device, settings.rows)
        plans = {level: pack.at(level) for level in pack.levels}
        for plan in plans.values():
            engine.check(plan)
    bench = Bench(engine, WordListJudge(), Sampling(body["max_new_tokens"]), work.folder, watch)
    with watch.stage("baseline", "What the model says by itself"):
        own = own_replies(engine, prompts, bench.sampling, bench.folder, "own")
        chats = [c for p, c in zip(prompts, own, strict=True) if p.kind != "capability"]
        bench.judge = fitted_judge(bench, chats, judge.get("nll_limit"))
        work.folder.once("test-baseline", lambda: bench.judged(
            Trial("test-baseline", "baseline"), prompts, own))
    with watch.stage("levels", f"What it says at {', '.join(pack.levels)}"):
        tested = measure_levels(bench, plans, prompts)
    unfitted = [] if judge.get("nll_limit") is not None else [
        "The pack does not keep the perplexity above which its judge called a reply incoherent; "
        "here it is fitted to the model's own replies to these prompts."]
    return {**levels_body(tested), "provenance": {
        "kind": "confirmation", "pack": pack.files.sha256, "source": pack.source,
        "prompts": {kind: _counted([p for p in prompts if p.kind == kind])
                    for kind in ("unsafe", "safe", "capability")},
        "judge": {"name": judge["name"], "nll_limit": getattr(bench.judge, "nll_limit", None)},
        "notes": [*notes, *unfitted], "sternpost": version("sternpost"),
        "date": datetime.now(UTC).isoformat(timespec="seconds"), "timing": watch.seconds}}


def _counted(prompts: Sequence[LabelledPrompt]) -> Mapping[str, int]:
    return {"n": len(prompts), "clusters": len({p.cluster or p.request.sha256 for p in prompts})}
