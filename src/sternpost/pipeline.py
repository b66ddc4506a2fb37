"""The whole experiment as one line of arrows. Read this first.

    prompts -> activations -> SAE features -> selection -> policy -> steered generation
    -> judgement -> report

Which SAE feature makes a model refuse? What happens to refusal of unsafe and of safe prompts when
it is clamped, against which controls, and at what cost? (arXiv 2411.11296, on any model.)
"""

from dataclasses import replace
from typing import Any

from sternpost.jobs.demo import demo_settings
from sternpost.jobs.result import Findings, RunResult, write_results
from sternpost.trials.dry_run import RunPlan, plan_of
from sternpost.trials.find import candidates, exemplars, grid
from sternpost.trials.gate import fit_gate
from sternpost.trials.inputs import read_inputs
from sternpost.trials.progress import Watch
from sternpost.trials.run_settings import RunSettings
from sternpost.trials.sae import obtain_sae
from sternpost.trials.settings import settings_from, takes
from sternpost.trials.start import baseline, open_bench, run_folder
from sternpost.trials.sweep import choose, conditions
from sternpost.types import Engine


@takes(RunSettings)
def run(**settings: Any) -> RunResult | RunPlan:
    """Finds a model's refusal feature, steers it, and measures what that costs.

    Takes what `sternpost run` takes. Returns the finished run, or with `dry_run` the plan.
    Raises a SternpostError for bad input.
    """
    return tell(settings_from(RunSettings, settings, "run"), Watch())


def demo(*, out: str = "runs/demo", seed: int = 0, quick: bool = False, resume: bool = False,
         force: bool = False) -> RunResult:
    """The run on the model that comes with sternpost, in minutes; `quick`: on fewer prompts.

    Raises OutputError where `out` holds something else.
    """
    settings = demo_settings(out=out, seed=seed, quick=quick, resume=resume, force=force)
    done = tell(settings, Watch())
    assert isinstance(done, RunResult)
    return done


def tell(settings: RunSettings, watch: Watch, engine: Engine | None = None) -> RunResult | RunPlan:
    """The story, with somebody watching; on `engine` where one is handed in."""
    inputs = read_inputs(settings, engine)                          # prompts, checked and split
    if settings.dry_run:
        return plan_of(settings, inputs)
    with run_folder(settings, inputs) as folder:
        if folder.finished:
            return RunResult.read(folder.path)
        bench, warnings = open_bench(settings, folder, watch, engine)

        with watch.stage("baseline", "What the model says by itself"):
            search, own = baseline(bench, inputs)
            shown = exemplars(bench, settings, search)              # what it refuses, and how

        with watch.stage("sae", "Its residual stream as sparse features"):
            trained = obtain_sae(bench, inputs, settings, own)      # activations -> features
            sae = trained.sae

        with watch.stage("search", "Which feature makes it refuse"):
            tried = candidates(bench, settings, sae, shown)
            found = grid(bench, sae, tried, search, settings)       # selection

        with watch.stage("sweep", "How strongly to clamp it"):
            chosen = choose(bench, sae, found, search, settings)    # policy: one value, always on

        gated = None
        if not settings.no_gate:
            with watch.stage("gate", "When to clamp it: only where the prompt asks for it"):
                gated = fit_gate(bench, sae, found, chosen, inputs.splits,
                                 (search, own, settings.seed))  # policy: a gate before the value
                chosen = replace(chosen, gated=(gated.plan, gated.value))

        with watch.stage("test", "Every condition on prompts not seen so far"):
            tested, lines = conditions(bench, sae, found, chosen, inputs.splits.test, settings)

        warnings += [*inputs.warnings, *shown.warnings, *found.warnings,
                     *chosen.warnings, *(gated.warnings if gated else ())]
        findings = Findings(trained, found, chosen, gated, tested, lines, warnings)
        return write_results(settings, inputs, bench, findings)     # report
