"""pool: the pools of the pair, their datasets, and the disks."""

from middlewared.plugin import Plugin

from . import api, dataset, disk, pool
from .effects import EFFECTS

plugin = Plugin(
    name="pool",
    nouns=(pool.NOUN,),
    methods=api.METHODS + dataset.METHODS + disk.METHODS,
    peer=disk.PEER,
    effects=EFFECTS,
    needs=("failover.config",),
)
