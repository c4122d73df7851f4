"""network: names, name servers, gateways, interfaces with their addresses, and the virtual addresses."""

from middlewared.plugin import Duty, Plugin

from . import configuration, interface, interface_api, interface_trial, vip
from .api import METHODS
from .effects import EFFECTS

plugin = Plugin(
    name="network",
    nouns=(configuration.NOUN, interface.NOUN, vip.NOUN),
    methods=(*METHODS, *interface_api.METHODS, *interface_trial.METHODS),
    effects=EFFECTS,
    duties=(Duty(name="interface rollback", run=interface_trial.roll_back_in_time),),
    needs=("failover.config",),
)
