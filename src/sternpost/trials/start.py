"""The beginning of a run: the folder, the engine, a judge fitted to the model's own replies."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from sternpost.judges import nll_limit
from sternpost.store import RunFolder, at_work, open_run_folder
from sternpost.trials.bench import Bench, Trial, own_replies
from sternpost.trials.find import Search
from sternpost.trials.goal import REFUSALS, Sought
from sternpost.trials.inputs import Inputs
from sternpost.trials.load import load_engine
from sternpost.trials.progress import Watch
from sternpost.trials.run_settings import RunSettings
from sternpost.types import Completion, Engine, Judge, Sampling

Likelihood = Callable[[Sequence[Completion]], list[float]]
Ids = tuple[int, ...]


@contextmanager
def run_folder(settings: RunSettings, inputs: Inputs, verb: str = "run",
               last: str = "results.json") -> Iterator[RunFolder]:
    """The run's folder. Bad input that shows only now leaves nothing behind; an interrupted or
    unwritable run keeps what it has, for --resume. `last`: the file that says it is finished."""
    # a prompt file is known by its hash; where it lies, and how that is spelled, is not the run's
    named = {kind: Path(getattr(settings, kind)).name for kind in inputs.files}
    identity = settings.identity() | named | {"hashes": inputs.hashes}
    if verb != "run":
        identity["verb"] = verb
    folder = open_run_folder(Path(settings.out), identity, settings.resume, settings.force, last)
    with at_work(folder):
        yield folder


def open_bench(settings: RunSettings, folder: RunFolder, watch: Watch,
               engine: Engine | None = None,
               sought: Sought = REFUSALS) -> tuple[Bench, list[str]]:
    """The engine in its folder, with a judge that knows no perplexity yet; and warnings."""
    warnings: list[str] = []
    if engine is None:
        with watch.stage("load", f"Loading {settings.model}"):
            engine, warnings = load_engine(settings)
    sampling = Sampling(settings.max_new_tokens)
    return Bench(engine, sought.judge(), sampling, folder, watch, sought), warnings


def baseline(bench: Bench, inputs: Inputs) -> tuple[Search, list[Completion]]:
    """What the unsteered model says to the search prompts, judged; and its replies to the search
    and gate_fit prompts, for the SAE. Fits the judge's perplexity limit to them."""
    splits = inputs.splits
    own = own_replies(bench.engine, splits.search, bench.sampling, bench.folder, "own-search")
    more = own_replies(bench.engine, splits.gate_fit, bench.sampling, bench.folder, "own-gate_fit")
    bench.judge = fitted_judge(bench, own)
    lines = bench.lines(Trial("search-baseline", "baseline"), splits.search)
    return Search(splits.search, own, lines), [*own, *more]


def fitted_judge(bench: Bench, own: Sequence[Completion], limit: float | None = None) -> Judge:
    """The goal's judge with the limit beyond which a reply is no language of this model: the one
    given, else one fitted to the model's own replies."""
    spoken = [c for c in own if c.reply_ids]
    if not spoken and limit is None:  # an empty reply needs no perplexity to be called what it is
        return bench.sought.judge()
    values = bench.folder.once("own-nll", lambda: bench.engine.nll(spoken) if spoken else [])
    return bench.sought.judge(_remembered(bench.engine.nll, spoken, values),
                              nll_limit(values) if limit is None else limit)


def _remembered(nll: Likelihood, own: Sequence[Completion],
                values: Sequence[float]) -> Likelihood:
    """`nll`, asked once for each reply, and not for what the model itself says to some prompt: its
    own words are language of this model wherever they stand. Most replies are of these kinds."""
    lowest: dict[Ids, float] = {}
    for completion, value in zip(own, values, strict=True):
        lowest[completion.reply_ids] = min(value, lowest.get(completion.reply_ids, value))
    known: dict[tuple[Ids, Ids], float] = {}

    def lookup(completions: Sequence[Completion]) -> list[float]:
        keys = [(c.prompt_ids, c.reply_ids) for c in completions]
        fresh = {key: c for key, c in zip(keys, completions, strict=True)
                 if key not in known and key[1] not in lowest}
        known.update(zip(fresh, nll(list(fresh.values())), strict=True))
        return [known[key] if key in known else lowest[key[1]] for key in keys]

    return lookup
