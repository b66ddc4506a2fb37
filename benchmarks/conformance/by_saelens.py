"""SAELens: an SAE on a SAETransformerBridge, with the error term, its features written by a hook
on `hook_sae_acts_post`, as its documentation's page on steering does."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from sae_lens import TopKSAE, TopKSAEConfig
from sae_lens.analysis.sae_transformer_bridge import SAETransformerBridge

from benchmarks.conformance.checks import Peer
from benchmarks.conformance.subject import FEATURE, LAYER, NEW, VALUE, Subject


class Bridged:
    """The bridge with the SAE on it."""

    def __init__(self, bridge: Any) -> None:
        self.bridge = bridge

    @torch.no_grad()
    def logits(self, ids: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
        """[row, seq, vocabulary] of a plain forward."""
        out: torch.Tensor = self.bridge(ids, attention_mask=mask)
        return out

    @torch.no_grad()
    def generate(self, ids: torch.Tensor, cached: bool = True) -> torch.Tensor:
        """[row, seq + NEW] greedy."""
        out: torch.Tensor = self.bridge.generate(
            ids, max_new_tokens=NEW, do_sample=False, use_past_kv_cache=cached, verbose=False,
            return_type="tokens", stop_at_eos=False)
        return out


def their_sae(subject: Subject) -> Any:
    """The subject's SAE as theirs."""
    ours = subject.sae
    sae = TopKSAE(TopKSAEConfig(d_in=ours.d_model, d_sae=ours.d_sae, k=ours.k))
    sae.load_state_dict({"W_enc": ours.W_enc.T.contiguous(), "W_dec": ours.W_dec,
                         "b_enc": ours.b_enc, "b_dec": ours.b_dec})
    sae.cfg.metadata.hook_name = f"blocks.{LAYER}.hook_resid_post"
    return sae


@contextmanager
def steered(subject: Subject, model: Any, on: bool, start: int) -> Iterator[Bridged]:
    """Off is the SAE with its error term, and no hook."""
    bridge = SAETransformerBridge.boot_transformers(str(subject.folder), hf_model=model,
                                                    tokenizer=subject.tokenizer, device="cpu")

    def clamp(acts: torch.Tensor, hook: Any) -> torch.Tensor:
        acts[..., FEATURE] = VALUE
        return acts

    sae = their_sae(subject)
    with bridge.saes(saes=[sae], use_error_term=True):
        name = bridge.get_sae_hook_name(sae)
        with bridge.hooks(fwd_hooks=[(name, clamp)] if on else []):
            yield Bridged(bridge)


PEER = Peer("SAELens", "clamp", steered)
