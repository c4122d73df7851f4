"""Find the plugins, check that they fit together, and lay their nouns, methods and effects side by side.

What is checked, because nobody would notice it later: a name or an event kind that is declared twice, a kind that
does not begin with the name of its noun, a need that nothing answers, a handler whose parameters cannot be read. A
plugin that breaks a rule stops the start with a sentence that names it: BadPlugin.
"""

from __future__ import annotations

import inspect
from collections.abc import Iterable
from importlib.metadata import entry_points
from typing import Any, get_type_hints

import msgspec

from middlewared import log_format
from middlewared.engine.rewrap import with_rewrap
from middlewared.kernel.errors import BadPlugin
from middlewared.kernel.event import Catalogue
from middlewared.kernel.tenure import TermBegan
from middlewared.plugin import AlertSource, Announcement, Duty, Effect, Method, Noun, PeerMethod, Plugin
from middlewared.protocol.params import Parameter, Parameters

GROUP = "middlewared.plugins"


class Registry:
    """Everything that the plugins bring.

    nouns, methods, parameters: by name. owners: method -> name of its plugin. nouns_of: plugin -> its nouns. needs:
    plugin -> the methods of others that it may query. peer: what the other controller may ask. noun_of: event kind ->
    name of its noun. collections: what can be subscribed to.
    """

    def __init__(self, plugins: Iterable[Plugin]) -> None:
        self.nouns: dict[str, Noun[Any]] = {}
        self.methods: dict[str, Method] = {}
        self.parameters: dict[str, Parameters] = {}
        self.owners: dict[str, str] = {}
        self.nouns_of: dict[str, tuple[Noun[Any], ...]] = {}
        self.needs: dict[str, frozenset[str]] = {}
        self.peer: dict[str, tuple[PeerMethod, Parameters]] = {}
        self.effects: tuple[Effect, ...] = ()
        self.duties: tuple[Duty, ...] = ()
        self.announcements: tuple[Announcement, ...] = ()
        self.noun_of: dict[str, str] = {}
        self.collections: tuple[str, ...] = ()
        self.alert_sources: tuple[AlertSource, ...] = ()
        self._add_noun(Plugin(name="middlewared"), log_format.NOUN)
        for plugin in plugins:
            self._add(plugin)
        self._check_needs()
        self._check_watches()
        upcasts = {key: upcast for noun in self.nouns.values() for key, upcast in noun.upcasts.items()}
        downcasts = {key: downcast for noun in self.nouns.values() for key, downcast in noun.downcasts.items()}
        kinds = (cls for noun in self.nouns.values() for cls in noun.events)
        self.catalogue = Catalogue((TermBegan, *kinds), upcasts, downcasts)

    def _add(self, plugin: Plugin) -> None:
        if plugin.name in self.needs:
            raise BadPlugin(f"plugin {plugin.name}: there are two of that name")
        self.needs[plugin.name] = frozenset(plugin.needs)
        for noun in plugin.nouns:
            self._add_noun(plugin, noun)
        self.nouns_of[plugin.name] = tuple(self.nouns[noun.name] for noun in plugin.nouns)
        for method in plugin.methods:
            if method.name in self.methods:
                raise BadPlugin(f"plugin {plugin.name}: method {method.name} is {self.owners[method.name]}'s already")
            self.methods[method.name] = method
            self.owners[method.name] = plugin.name
            self.parameters[method.name] = parameters_of(method)
        for question in plugin.peer:
            if question.name in self.peer:
                raise BadPlugin(f"plugin {plugin.name}: peer method {question.name} is declared twice")
            self.peer[question.name] = (question, parameters_of(question))
        self.effects += plugin.effects
        self.duties += plugin.duties
        self.announcements += plugin.announces
        self._add_alerts(plugin)
        told = (announcement.collection for announcement in plugin.announces)
        names = (*(noun.name for noun in plugin.nouns), *plugin.events, *told)
        self.collections += tuple(name for name in names if name not in self.collections)

    def _add_noun(self, plugin: Plugin, noun: Noun[Any]) -> None:
        if noun.name in self.nouns:
            raise BadPlugin(f"plugin {plugin.name}: there are two nouns {noun.name}")
        noun = self.nouns[noun.name] = with_rewrap(noun)
        for cls in noun.events:
            if not cls.kind.startswith(noun.name + "."):
                raise BadPlugin(f"plugin {plugin.name}: event kind {cls.kind} does not begin with {noun.name}.")
            if any((cls.kind, version) not in noun.upcasts for version in range(1, cls.version)):
                raise BadPlugin(f"plugin {plugin.name}: event kind {cls.kind} has a version that nothing lifts")
            if len(cls.since_format) != cls.version:
                raise BadPlugin(f"plugin {plugin.name}: event kind {cls.kind} has a version without its since_format")
            if cls.kind in self.noun_of:
                raise BadPlugin(f"plugin {plugin.name}: event kind {cls.kind} is declared twice")
            self.noun_of[cls.kind] = noun.name

    def _add_alerts(self, plugin: Plugin) -> None:
        for source in plugin.alerts:
            if any(source.klass == other.klass for other in self.alert_sources):
                raise BadPlugin(f"plugin {plugin.name}: there are two sources of the alert {source.klass}")
            self.alert_sources += (source,)

    def _check_needs(self) -> None:
        for plugin, needs in self.needs.items():
            for name in sorted(needs):
                if name not in self.methods:
                    raise BadPlugin(f"plugin {plugin}: it needs {name}, which no plugin has")
                if self.methods[name].kind != "read":
                    raise BadPlugin(f"plugin {plugin}: it needs {name}, which is not a query")

    def _check_watches(self) -> None:
        for effect in self.effects:
            for name in effect.watches:
                if name not in self.nouns:
                    raise BadPlugin(f"effect {effect.name}: it watches {name}, which is no noun")


def load() -> Registry:
    """Every plugin that is installed: the entry points of the group, by name. Raises BadPlugin."""
    plugins = []
    for point in sorted(entry_points(group=GROUP), key=lambda p: p.name):
        try:
            plugin = point.load()
        except Exception as e:
            raise BadPlugin(f"plugin {point.name}: {type(e).__name__}: {e}") from e
        if not isinstance(plugin, Plugin):
            raise BadPlugin(f"plugin {point.name}: {point.value} is not a Plugin")
        plugins.append(plugin)
    return Registry(plugins)


def parameters_of(method: Method | PeerMethod) -> Parameters:
    """The parameters of a method as its handler declares them, without the first, the call. Raises BadPlugin."""
    handler = method.handler
    takes = method.takes if isinstance(method, Method) else None
    if not inspect.iscoroutinefunction(handler):
        raise BadPlugin(f"method {method.name}: its handler is not an async function")
    try:
        hints = get_type_hints(handler, include_extras=True)
    except NameError as e:
        raise BadPlugin(f"method {method.name}: {e}") from None
    _, *declared = inspect.signature(handler).parameters.values()
    found = []
    for p in declared:
        if p.kind is not p.POSITIONAL_OR_KEYWORD or p.name not in hints:
            raise BadPlugin(f"method {method.name}: parameter {p.name} must have a name and a type")
        attribute = takes if takes and _is_object(hints[p.name]) else p.name
        found.append(Parameter(name=p.name, type=hints[p.name], required=p.default is p.empty, attribute=attribute))
    return Parameters(found)


def _is_object(hint: object) -> bool:
    return isinstance(hint, type) and issubclass(hint, msgspec.Struct)
