"""What must hold in every simulated world, one promise a file (the invariants I1 to I9 of the design)."""

from middlewared.sim.checkers.addresses import OneAddress
from middlewared.sim.checkers.adverts import AdvertsRise
from middlewared.sim.checkers.checker import Checker
from middlewared.sim.checkers.clients_out import ClientsOut
from middlewared.sim.checkers.durable import AnsweredIsKept
from middlewared.sim.checkers.importers import OneImporter
from middlewared.sim.checkers.linearizable import Linearizable
from middlewared.sim.checkers.logs import LogsAgree
from middlewared.sim.checkers.once import ExactlyOnce
from middlewared.sim.checkers.quarantined import NothingVanishes
from middlewared.sim.checkers.standby import StandbyRefuses
from middlewared.sim.checkers.states import StatesEqual
from middlewared.sim.checkers.terms import TermsRise
from middlewared.sim.checkers.writers import OneWriter

ALL: tuple[type[Checker], ...] = (
    OneWriter,
    OneImporter,
    ClientsOut,
    OneAddress,
    AdvertsRise,
    AnsweredIsKept,
    LogsAgree,
    StatesEqual,
    NothingVanishes,
    StandbyRefuses,
    TermsRise,
    ExactlyOnce,
    Linearizable,
)
