"""Activations on disk: shards of residual-stream tokens, written once, read shuffled.

    FOLDER/shard-00000.safetensors   values [token, d_model]
    FOLDER/shards.json               what is there, written last

Batches are a function of (seed, step), so a resumed training sees the same ones.
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import torch
from jaxtyping import Float
from safetensors.torch import load_file
from torch import Tensor

from sternpost.files import read_json, write_json, write_tensors

SHARD = 65_536
"""Tokens a shard; a training epoch walks the shards in random order, each shuffled."""


@dataclass(frozen=True)
class Shards:
    """Activations of a corpus, on disk."""

    folder: Path
    tokens: int
    files: tuple[str, ...]

    def batch(self, step: int, size: int, seed: int) -> Float[Tensor, "token d_model"]:
        """Batch `step` of an endless walk over the corpus, reshuffled every epoch."""
        want = torch.arange(step * size, (step + 1) * size)
        epochs = (want // self.tokens).unique().tolist()
        return torch.cat([self._rows(epoch, want[want // self.tokens == epoch] % self.tokens, seed)
                          for epoch in epochs])

    def _rows(self, epoch: int, at: Tensor, seed: int) -> Tensor:
        """Rows at the places `at` of an epoch's order, which goes shard by shard."""
        generator = torch.Generator().manual_seed(seed * 1_000_003 + epoch)
        order = torch.randperm(len(self.files), generator=generator).tolist()
        parts, start = [], 0
        for shard in order:
            length = min(SHARD, self.tokens - shard * SHARD)
            inside = at[(at >= start) & (at < start + length)] - start
            if len(inside):
                parts.append(_shuffled(self.folder / self.files[shard], length,
                                       seed * 1_000_003 + epoch * 1009 + shard)[inside])
            start += length
        return torch.cat(parts)

    def sample(self, tokens: int) -> Float[Tensor, "token d_model"]:
        """At most `tokens` rows, evenly spread over the corpus."""
        stride = max(1, -(-self.tokens // max(tokens, 1)))
        return torch.cat([load_file(self.folder / file)["values"][::stride].float()
                          for file in self.files])[:tokens]


@lru_cache(maxsize=2)
def _shuffled(file: Path, length: int, seed: int) -> Tensor:
    values = load_file(file)["values"]
    order = torch.randperm(length, generator=torch.Generator().manual_seed(seed))
    return values[order].float()


def write_shards(folder: Path, rows: Iterable[Float[Tensor, "_ d_model"]]) -> Shards:
    """Writes what `rows` yields, in order, into `folder`, and says what is there."""
    files: list[str] = []
    tokens = 0
    for block in _blocks(rows):
        files.append(shard_name(len(files)))
        write_tensors(folder / files[-1], {"values": block})
        tokens += len(block)
    return finish_shards(folder, tokens)


def shard_name(number: int) -> str:
    """The file of one shard."""
    return f"shard-{number:05d}.safetensors"


def finish_shards(folder: Path, tokens: int) -> Shards:
    """Notes that the shards of so many tokens are all there."""
    files = [shard_name(number) for number in range(-(-tokens // SHARD))]
    write_json(folder / "shards.json", {"tokens": tokens, "files": files})
    _shuffled.cache_clear()
    return Shards(folder, tokens, tuple(files))


def open_shards(folder: Path) -> Shards | None:
    """The shards in `folder`; None where they were never finished."""
    if not (folder / "shards.json").is_file():
        return None
    note = read_json(folder / "shards.json")
    _shuffled.cache_clear()
    return Shards(folder, note["tokens"], tuple(note["files"]))


def _blocks(rows: Iterable[Tensor]) -> Iterator[Tensor]:
    waiting: list[Tensor] = []
    for row in rows:
        waiting.append(row.cpu())
        while sum(map(len, waiting)) >= SHARD:
            together = torch.cat(waiting)
            yield together[:SHARD].contiguous()
            waiting = [together[SHARD:]]
    if sum(map(len, waiting)):
        yield torch.cat(waiting).contiguous()
