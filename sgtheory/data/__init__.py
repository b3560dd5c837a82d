"""The data of the experiments: the target picture of spike-train matching, and labelled spike trains."""

from sgtheory.data._datasets import DATASETS, OpenedDataset, identify_dataset, open_dataset
from sgtheory.data._download import DownloadError, fetch_radcliffe, fetch_shd
from sgtheory.data._inner_ear import BasilarMembrane, BushyCell, HairCell, InnerEar
from sgtheory.data._picture import floyd_steinberg, load_target
from sgtheory.data._randman import randman
from sgtheory.data._recordings import recordings_to_spikes
from sgtheory.data._shd import SHD_FILES, SHD_MD5, SpikeDataset, load_shd, write_shd
from sgtheory.data._spoken_digits import spoken_digits

__all__ = [
    "DATASETS",
    "SHD_FILES",
    "SHD_MD5",
    "BasilarMembrane",
    "BushyCell",
    "DownloadError",
    "HairCell",
    "InnerEar",
    "OpenedDataset",
    "SpikeDataset",
    "fetch_radcliffe",
    "fetch_shd",
    "floyd_steinberg",
    "identify_dataset",
    "load_shd",
    "load_target",
    "open_dataset",
    "randman",
    "recordings_to_spikes",
    "spoken_digits",
    "write_shd",
]
