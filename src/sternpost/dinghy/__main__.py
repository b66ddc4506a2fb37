"""`python -m sternpost.dinghy [--out DIR] [--seed N]`: trains dinghy again.

Writes model, tokenizer and what they were made with to DIR (default: the package's own folder).
"""

import argparse
import dataclasses
import shutil
import tempfile
import time
from importlib import resources
from pathlib import Path

import torch
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from sternpost.dinghy.corpus import training_rows
from sternpost.dinghy.tokens import encode, train_tokenizer
from sternpost.dinghy.training import Recipe, build, train
from sternpost.files import sha256_file, write_json

TOKENIZER_ROWS = 40_000
"""Rows that the tokenizer is trained on."""
THREADS = 2


def make(out: Path, recipe: Recipe) -> None:
    """Trains the model that `recipe` describes and writes it to `out`."""
    start = time.monotonic()
    torch.set_num_threads(THREADS)
    rows = list(training_rows(recipe.rows, recipe.seed))
    tokenizer = train_tokenizer(rows[:TOKENIZER_ROWS])
    end, pad = tokenizer.eos_token_id, tokenizer.pad_token_id
    assert isinstance(end, int)
    assert isinstance(pad, int)
    model = build(recipe, len(tokenizer), pad, end)
    with Progress(TextColumn("training"), BarColumn(), MofNCompleteColumn(),
                  TimeRemainingColumn(), TextColumn("loss {task.fields[loss]:.3f}")) as progress:
        task = progress.add_task("", loss=0.0)
        train(model, encode(tokenizer, rows), recipe,
              lambda step, steps, loss: progress.update(task, completed=step, total=steps,
                                                        loss=loss))
    with tempfile.TemporaryDirectory() as building:
        model.bfloat16().save_pretrained(building)
        tokenizer.save_pretrained(building)
        write_json(Path(building) / "recipe.json", {
            **dataclasses.asdict(recipe), "threads": THREADS, "torch": torch.__version__,
            "parameters": model.num_parameters(), "minutes": (time.monotonic() - start) / 60,
            "sha256": sha256_file(Path(building) / "model.safetensors")})
        shutil.copytree(building, out, dirs_exist_ok=True)
    Console().print(f"{out}: sha256 {sha256_file(out / 'model.safetensors')}")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description="Trains dinghy again.")
    parser.add_argument("--out", type=Path,
                        default=Path(str(resources.files("sternpost.dinghy"))) / "model")
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    make(options.out, Recipe(seed=options.seed))
