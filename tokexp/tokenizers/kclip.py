"""k-CLIP: k-means over the features of CLIP's RN50x64.

Source: Baraldi et al. 2023 (MaPeT), section 4.2: the map before the attention pool, at 448 x 448 pixels 14 x 14
features of 4096 channels, as they are; 8192 codes by plain k-means, 20 rounds, 5 restarts, on 2 % of the features. The
paper's codes are not published, so that its tokens cannot be had exactly: they are fitted anew.
"""

from tokexp.spec.feature_tokenizers import KClip
from tokexp.tokenizers.feature_kmeans import FeatureKMeansTokenizer


def build(spec: KClip, image_shape: tuple[int, int, int]) -> FeatureKMeansTokenizer:
    """Return the network with random weights; `fit` loads the checkpoint and fits the codes."""
    return FeatureKMeansTokenizer(spec, image_shape)
