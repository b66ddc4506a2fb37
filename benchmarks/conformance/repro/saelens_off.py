"""SAELens 6.54.12: an SAE attached with its error term and no edit changes the logits in the last
bits, since the reconstruction is taken off and added again. Prints the largest relative change."""
import tempfile
from pathlib import Path

import torch
from benchmarks.conformance.by_saelens import steered
from benchmarks.conformance.subject import subject

what = subject(Path(tempfile.mkdtemp()) / "model")
ids = torch.randint(10, 1000, (1, 9))
plain = what.model()(ids).logits
with steered(what, what.model(), False, 0) as model:
    print(float((model.logits(ids, torch.ones_like(ids)) - plain).abs().max() / plain.abs().max()))
