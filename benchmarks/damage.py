"""What the demo's clamp breaks, and what gives it back: the reconstruction, the norm, or features
that it switches on or off in later layers. Run by name alone: `python -m benchmarks damage`, 25
minutes. The demo and an SAE of each later layer lie in runs/damage and are taken up again.

Two clamps at the demo's reference value, at every token: `drop`, the paper's, puts the edited
reconstruction in the stream's place; `keep`, the demo's, adds the change alone. Undone alone, then
all at once, while the model replies greedily to the capability prompts:

    error kept            h + (c - a) d, not x_hat(h) + (c - a) d
    norm restored         h' |h| / |h'|, token by token
    features put back     at later layers, h' + sum over f of (a_clean[f] - a[f]) W_dec[f]; f active
                          either in h' or in the unclamped stream of the same tokens, not in both
    returned              (undone - clamp) / (baseline - clamp), right replies

All damage passes through every later layer: features put back there say how much of it these SAEs
see, not what begot it, and the shares returned do not add up to 1.
"""

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import partial
from typing import Any, Literal, NamedTuple, get_args

import numpy as np
import torch
from scipy.stats import bootstrap
from torch import Tensor
from transformers import DynamicCache

import sternpost
from benchmarks.record import save
from sternpost.engines.transformers import TransformersEngine
from sternpost.jobs.demo import demo_settings
from sternpost.judges import WordListJudge
from sternpost.prompts import is_right
from sternpost.sae import SAE
from sternpost.stats import paired_difference, rate
from sternpost.stats.clusters import RESAMPLES, bootstrap_mean
from sternpost.steering import compile_plan, write
from sternpost.store import is_refusal
from sternpost.trials.bench import own_replies
from sternpost.trials.inputs import read_inputs
from sternpost.trials.load import load_engine
from sternpost.trials.progress import Watch
from sternpost.trials.sae import Trained, obtain_sae
from sternpost.trials.start import open_bench, run_folder
from sternpost.types import Clamp, Completion, Hookpoint, LabelledPrompt, Plan, Sampling

FOLDER = "runs/damage"
KINDS, TOGETHER = ("drop", "keep"), "all together"
LONGEST = Sampling().max_new_tokens
Which = Literal["switched", "some switched", "some unswitched", "every"]
"""Features active in one stream alone; of these and of those active in both the same number, that
of the fewer, drawn by chance; all active ones."""


class Way(NamedTuple):
    """A way to reply: under a plan or none; whether the edited stream is given its own norm back;
    the layers at which features are put back, and which."""

    plan: Plan | None = None
    norm: bool = False
    layers: tuple[int, ...] = ()
    which: Which = "switched"


class Subject(NamedTuple):
    """The demo's model and capability prompts, and an SAE of each layer above the clamped one."""

    engine: TransformersEngine
    prompts: Sequence[LabelledPrompt]
    later: Mapping[int, SAE]


class Done(NamedTuple):
    """What a way gave, a prompt each; `sums`: what was measured, over its tokens."""

    replies: Sequence[Completion]
    right: Sequence[bool]
    refused: Sequence[bool]
    sums: Mapping[str, Sequence[float]]


def put_back(h: Tensor, clean: Tensor, sae: SAE, which: Which,
             rng: torch.Generator) -> tuple[Tensor, Tensor]:
    """`h` [token, d_model] with features as in the `clean` stream, and how many a token."""
    then, now = sae.encode(clean).dense(), sae.encode(h).dense()
    switched, both = (then > 0) != (now > 0), (then > 0) & (now > 0)
    picked = {"every": switched | both, "some unswitched": both}.get(which, switched)
    if which.startswith("some"):
        fewer = torch.minimum(switched.sum(-1, keepdim=True), both.sum(-1, keepdim=True))
        draw = torch.rand(picked.shape, generator=rng).masked_fill(~picked, -1.0)
        picked = picked & (draw.argsort(-1, descending=True).argsort(-1) < fewer)
    return h + ((then - now) * picked) @ sae.W_dec, picked.sum(-1)


def restored(edited: Tensor, h: Tensor) -> Tensor:
    """`edited` [token, d_model] at the norm of `h`."""
    return edited * (h.norm(dim=-1, keepdim=True) / edited.norm(dim=-1, keepdim=True))


def returned(base: Sequence[bool], clamp: Sequence[bool], undone: Sequence[bool],
             clusters: Sequence[str]) -> dict[str, Any]:
    """(undone - clamp) / (base - clamp), 95 % interval: clusters resampled, all three together;
    the paired difference's where nothing or all comes back. None where the loss may be none."""
    lost = paired_difference(clamp, base, clusters)
    net = {"returned": sum(undone) - sum(clamp), "lost": sum(base) - sum(clamp), "n": len(base)}
    if lost.low <= 0:
        why = f"the loss, {lost.points:.1f} points [{lost.low:.1f}, {lost.high:.1f}], may be none"
        return {"median": None, "low": None, "high": None, **net, "why": why}
    for share, other in enumerate((clamp, base)):
        if list(undone) == list(other):
            doubt = paired_difference(other, undone, clusters).high / lost.points
            return {"median": share, "low": share - doubt, "high": share + doubt, **net}
    _, at = np.unique(list(clusters), return_inverse=True)
    b, c, u = (np.bincount(at, np.asarray(row, dtype=float)) for row in (base, clamp, undone))
    low, high = bootstrap((u - c, b - c), lambda gain, loss, axis: gain.sum(axis) / loss.sum(axis),
                          paired=True, n_resamples=RESAMPLES, method="percentile",
                          rng=np.random.default_rng(0)).confidence_interval
    return {"median": net["returned"] / net["lost"], "low": float(low), "high": float(high),
            **net, "interval": "cluster"}


class Hooks:
    """What happens to the stream of a forward: the clean one is kept, the other one written.
    `reading`: this is the clean one; `live` [row, seq]: real tokens of rows that have not ended."""

    def __init__(self, way: Way, later: Mapping[int, SAE]) -> None:
        self.way, self.later, self.reading, self.live = way, later, False, torch.empty(0)
        self.table = None if way.plan is None else compile_plan(way.plan)
        self.clean, self.sums = dict[int, Tensor](), dict[str, Tensor]()
        self.rng = torch.Generator().manual_seed(0)

    def __call__(self, layer: int, block: Any, args: Any, h: Tensor) -> Tensor | None:
        """The stream [row, seq, d_model] after `layer` as it goes on; None: as it is."""
        if self.reading:
            self.clean[layer] = h
            return None
        flat, live = h.flatten(0, 1), self.live.flatten()
        size = flat.norm(dim=-1)
        if layer in self.way.layers:
            clean, sae = self.clean[layer].flatten(0, 1), self.later[layer]
            new, n = put_back(flat, clean, sae, self.way.which, self.rng)
            self.count(f"features put back at layer {layer}", n)
            self.count(f"|change| / |h| at layer {layer}", (new - flat).norm(dim=-1) / size)
        else:
            plan, on = self.way.plan, live[:, None].expand(-1, len(self.table.features))
            new = write(flat, on, live, self.table, plan.sae, plan.how).h
            self.count("|h'| / |h| at the clamp", new.norm(dim=-1) / size)
            new = restored(new, flat) if self.way.norm else new
        return new.where(live[:, None], flat).reshape(h.shape)

    def count(self, name: str, values: Tensor) -> None:
        """Adds what is measured at each token."""
        total = (values.reshape(self.live.shape) * self.live).sum(1)
        self.sums[name] = self.sums.get(name, 0) + total


@torch.no_grad()
def decode(subject: Subject, prompts: Sequence[list[int]],
           way: Way) -> tuple[list[list[int]], dict[str, Tensor]]:
    """Greedy replies of one batch, and what was measured, by row. The clean forward reads the
    same tokens as the other one, with a cache of its own."""
    engine, hooks = subject.engine, Hooks(way, subject.later)
    ids, mask = engine.padded(prompts, left=True)
    layers = (*way.layers, *([] if way.plan is None else [way.plan.sae.hookpoint.layer]))
    handles = [engine.blocks.at(Hookpoint(layer)).register_forward_hook(partial(hooks, layer))
               for layer in layers]
    caches = {reading: DynamicCache(config=engine.model.config)
              for reading in (True, False)[not way.layers:]}
    going, stop, said = mask.any(1), torch.tensor(sorted(engine.stop_ids())), []
    try:
        while going.any() and len(said) < LONGEST:
            hooks.live = mask[:, -ids.shape[1]:].bool() & going[:, None]
            hooks.count("tokens", hooks.live)
            for reading, cache in caches.items():
                hooks.reading = reading
                logits = engine.model(
                    input_ids=ids, attention_mask=mask, past_key_values=cache, use_cache=True,
                    position_ids=(mask.cumsum(1) - 1).clamp(min=0)[:, -ids.shape[1]:],
                    logits_to_keep=1).logits[:, -1]
            ids = logits.argmax(-1, keepdim=True)
            going = going & ~torch.isin(ids[:, 0], stop)
            said.append(ids.where(going[:, None], -1))
            mask = torch.cat([mask, torch.ones_like(ids)], 1)
    finally:
        for handle in handles:
            handle.remove()
    return [[t for t in row if t >= 0] for row in torch.cat(said, 1).tolist()], hooks.sums


def reply(subject: Subject, way: Way) -> Done:
    """The replies to all prompts under `way`, judged; in the engine's own batches."""
    engine, replies, sums = subject.engine, [], defaultdict(list)
    prompts = [engine.encode(engine.render(p.request)) for p in subject.prompts]
    for start in range(0, len(prompts), engine.batch_size):
        batch = prompts[start:start + engine.batch_size]
        said, counted = decode(subject, batch, way)
        replies += [engine.completion(*row, None) for row in zip(batch, said, strict=True)]
        for name, values in counted.items():
            sums[name] += values.tolist()
    right = [is_right(c.answer or "", p.answer or "")
             for p, c in zip(subject.prompts, replies, strict=True)]
    return Done(replies, right, [is_refusal(one) for one in WordListJudge()(replies)], sums)


def saes(engine: TransformersEngine, settings: Any) -> dict[int, Trained]:
    """An SAE of each layer above the demo's, made as the demo makes its own."""
    inputs, own, found = read_inputs(settings), [], {}
    for layer in range(inputs.at.layer + 1, engine.n_layers):
        mine = replace(settings, layer=layer, out=f"{FOLDER}/layer-{layer}")
        here = replace(inputs, at=Hookpoint(layer))
        with run_folder(mine, here) as folder:
            bench, _ = open_bench(mine, folder, Watch(), engine)
            own = own or [c for split in ("search", "gate_fit") for c in own_replies(
                engine, getattr(inputs.splits, split), bench.sampling, folder, f"own-{split}")]
            found[layer] = obtain_sae(bench, here, mine, own)
    return found


def ways(kind: str, plans: Mapping[str, Plan], later: tuple[int, ...]) -> dict[str, Way]:
    """What is undone of a clamp's damage, by name."""
    clamp, keep, found = plans[kind], plans["keep"], {}
    if kind == "drop":
        found = {"clamp undone, error dropped": Way(plans["splice_in"]), "error kept": Way(keep),
                 "error kept, norm restored": Way(keep, True)}
    for which in get_args(Which):
        found |= {f"{which} features, layer {at}": Way(clamp, False, (at,), which) for at in later}
        found[f"{which} features, all layers"] = Way(clamp, False, later, which)
    return {"nothing": Way(clamp), "norm restored": Way(clamp, True), **found,
            TOGETHER: Way(keep, True, later)}


def rows_of(name: str, done: Mapping[Way, Done], way: Way, clamp: Way,
            clusters: Sequence[str]) -> list[dict[str, Any]]:
    """What is reported of a way, which undoes some of the damage of `clamp`."""
    mine, out = done[way], []
    for what, hits in (("capability", mine.right), ("refused", mine.refused)):
        found = rate(hits, clusters)
        out.append({"name": f"{name}, {what}", "unit": "share", **found.as_dict(),
                    "median": found.share})
    if way not in (clamp, Way()):
        share = returned(done[Way()].right, done[clamp].right, mine.right, clusters)
        out.append({"name": f"{name}, returned", "unit": "share of the loss", **share})
        if name.endswith(TOGETHER) and share["median"] is not None:
            out.append({**out[-1], "name": f"{name}, unexplained", "median": 1 - share["median"],
                        "low": 1 - share["high"], "high": 1 - share["low"]})
    for what in sorted(mine.sums.keys() - {"tokens"}):
        pairs = np.array([mine.sums[what], mine.sums["tokens"]]).T
        low, high = bootstrap_mean(pairs, 0)
        out.append({"name": f"{name}, {what}", "unit": "a token", "n": len(pairs), "low": low,
                    "high": high, "median": pairs[:, 0].sum() / pairs[:, 1].sum()})
    return out


def check(subject: Subject, done: Mapping[Way, Done], demo: Mapping[str, Any]) -> None:
    """Replies are those of the engine, and of the demo, where this script adds nothing."""
    requests = [p.request for p in subject.prompts]
    known = {(c["name"], c["error"]): c["capability"]["hits"] for c in demo["conditions"]
             if c["value"] in (None, demo["reference"]["value"])}
    for plan in (way.plan for way in done if not way.norm and not way.layers):
        said, mine = subject.engine.generate(requests, plan, Sampling(LONGEST)), done[Way(plan)]
        assert [c.reply_ids for c in said] == [c.reply_ids for c in mine.replies], plan
        name = "baseline" if plan is None else "clamp" if plan.edits else "splice_in"
        hits = known.get((name, plan.error if plan else "keep"), sum(mine.right))
        assert sum(mine.right) == hits, (name, hits)


def measure() -> None:
    """Every way, its rows, and a table of what came back."""
    torch.set_num_threads(1)
    demo = sternpost.demo(out=f"{FOLDER}/demo", seed=0, resume=True).results
    settings = demo_settings(out=f"{FOLDER}/demo", seed=0, quick=False, resume=True, force=False)
    engine, _ = load_engine(settings)
    trained, sae = saes(engine, settings), sternpost.load_sae(f"{settings.out}/sae")
    edits = (Clamp(demo["feature"], demo["reference"]["value"]),)
    plans = {"splice_in": Plan(sae, error="drop"), "drop": Plan(sae, edits, error="drop"),
             "keep": Plan(sae, edits)}
    prompts = [p for p in read_inputs(settings).splits.test if p.kind == "capability"]
    prompts.sort(key=lambda p: (len(engine.render(p.request)), p.request.sha256))
    subject = Subject(engine, prompts, {at: one.sae for at, one in trained.items()})
    named = {kind: ways(kind, plans, tuple(trained)) for kind in KINDS}
    done = {way: reply(subject, way) for way in dict.fromkeys(
        (Way(), *(way for found in named.values() for way in found.values())))}
    check(subject, done, demo)
    clusters = [p.cluster or p.request.sha256 for p in prompts]
    rows = rows_of("baseline", done, Way(), Way(), clusters)
    for kind, found in named.items():
        for name, way in found.items():
            rows += rows_of(f"{kind}: {name}", done, way, found["nothing"], clusters)
    for row in (row for row in rows if row["median"] is not None):
        print("{median:7.3f} [{low:6.3f}, {high:6.3f}]  {name}".format(**row))
    best = [max((row["median"], row["name"]) for row in rows if row["name"].startswith(
        f"{kind}: switched features, layer") and "capability" in row["name"])[1] for kind in KINDS]
    fits = ", ".join(f"{at} {one.fvu:.2f}" for at, one in trained.items())
    save("damage", len(prompts), rows, {}, f"{edits[0]} after layer {demo['layer']}, greedy; FVU "
         f"of later layers' SAEs: {fits}; best single layers, on these prompts: {'; '.join(best)}; "
         f"{TOGETHER}: error kept, norm restored, switched features put back at all later layers; "
         "shares returned overlap and do not add up")
