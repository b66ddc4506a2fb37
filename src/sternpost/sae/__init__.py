"""Sparse autoencoders: the equations, training, metrics, and every layout on disk."""

from sternpost.sae.autoencoder import SAE, FeatureActs, FeatureStats
from sternpost.sae.files import weights_in
from sternpost.sae.foreign import adopt
from sternpost.sae.measure import Fit, calibrate, measure_agreement, measure_fit
from sternpost.sae.read import read_sae
from sternpost.sae.save import save_sae

__all__ = ["SAE", "FeatureActs", "FeatureStats", "Fit", "adopt", "calibrate", "measure_agreement",
           "measure_fit", "read_sae", "save_sae", "weights_in"]
