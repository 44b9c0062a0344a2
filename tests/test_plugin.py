"""How plugins are found, verified and refused."""

from __future__ import annotations

import os
import re
import sys
import textwrap
from collections.abc import Mapping
from enum import Enum
from pathlib import Path
from typing import Annotated, Literal

from twisted.trial.unittest import SynchronousTestCase
from zope.interface import Attribute, Interface, implementer
from zope.interface.verify import verifyObject

import twisted.plugins
from lemmytx.balance.lemmy import Lemmy
from lemmytx.finding import PluginError, find
from lemmytx.interfaces import ICandidate, IRequest, IScheduler, ISchedulerPlugin
from lemmytx.plugin import Scheduler, build_check, build_scheduler, find_checks, find_schedulers
from lemmytx.testing import Candidate, Request, check_scheduler
from lemmytx.units import duration

DOCUMENT = Path(__file__).parent.parent / "docs" / "writing-a-plugin.md"

GOOD = """
    from zope.interface import implementer
    from lemmytx.interfaces import IScheduler
    from lemmytx.plugin import Scheduler

    @implementer(IScheduler)
    class Last:
        def update(self, backends):
            pass

        def choose(self, candidates, request):
            return candidates[-1]

    plugin = Scheduler("last", Last)
"""


@implementer(IScheduler)
class First:
    """The first candidate, with options of many kinds."""

    def __init__(
        self,
        number: int = 1,
        share: float = 0.5,
        key: str | None = None,
        names: tuple[str, ...] = (),
        mode: Literal["slow", "fast"] = "slow",
        anything=None,  # type: ignore[no-untyped-def]  # an author may leave annotations out
    ) -> None:
        self.options = (number, share, key, names, mode, anything)
        if number == 13:
            raise ValueError("number: 13 brings bad luck; write 12 or 14")

    def update(self, backends: tuple[ICandidate, ...]) -> None:
        """Nothing to keep."""

    def choose(self, candidates: tuple[ICandidate, ...], request: IRequest) -> ICandidate:
        return candidates[0]


class NoScheduler:
    """Something else."""

    def choose(self) -> None:
        """Not what a scheduler does."""


def fault(plugins: Mapping[str, ISchedulerPlugin], name: str, **options: object) -> str | None:
    """Why a scheduler cannot be had with these options."""
    try:
        build_scheduler(plugins, name, options)
    except ValueError as error:
        return str(error)
    return None


class FolderTestCase(SynchronousTestCase):
    """A test that makes folders with modules, and leaves neither modules nor packages behind."""

    def setUp(self) -> None:
        before = set(sys.modules)
        self.addCleanup(lambda: [sys.modules.pop(name) for name in set(sys.modules) - before])

    def folder(self, **sources: str) -> str:
        """A new folder with a module for each source."""
        path = self.mktemp()
        os.makedirs(path)
        for name, source in sources.items():
            Path(path, name + ".py").write_text(textwrap.dedent(source), encoding="utf-8")
        return path

    def installed(self, **sources: str) -> str:
        """The same, as C{twisted/plugins/} of an installed distribution."""
        path = os.path.realpath(self.folder(**sources))
        twisted.plugins.__path__.append(path)
        self.addCleanup(twisted.plugins.__path__.remove, path)
        return path

    def refused(self, *folders: str) -> list[tuple[str, str]]:
        """What is wrong when these folders are searched: file name and reason."""
        problems = self.assertRaises(PluginError, find_schedulers, folders).problems
        return [(os.path.basename(file), reason) for file, reason in problems]


class FindTests(FolderTestCase):
    """L{find_schedulers} and L{find}"""

    def test_ownSchedulers(self) -> None:
        """The schedulers of lemmytx are found like anyone else's."""
        found = find_schedulers()
        self.assertLessEqual({"round_robin", "least_connections", "lemmy"}, set(found))
        for name, plugin in found.items():
            self.assertTrue(verifyObject(ISchedulerPlugin, plugin))
            self.assertEqual(plugin.name, name)

    def test_folder(self) -> None:
        """A module in a folder of the configuration brings its scheduler, beside those that there are."""
        found = find_schedulers([self.folder(last=GOOD)])
        self.assertLessEqual({"last", "lemmy"}, set(found))
        check_scheduler(lambda: found["last"].build({}))

    def test_installed(self) -> None:
        """So does a module in another distribution's twisted/plugins."""
        self.installed(tests_dropin_last=GOOD)
        self.assertIn("last", find_schedulers())

    def test_sameFileNames(self) -> None:
        """Modules of one file name in two folders do not hide one another."""
        one, two = self.folder(mine=GOOD), self.folder(mine=GOOD.replace('"last"', '"other"'))
        self.assertLessEqual({"last", "other"}, set(find_schedulers([one, two])))

    def test_folderTwice(self) -> None:
        """A folder that is named twice, once with a slash, is searched once."""
        folder = self.folder(last=GOOD)
        self.assertIn("last", find_schedulers([folder, folder + "/"]))

    def test_severalInOneModule(self) -> None:
        """A module may bring several schedulers, and import those of others without bringing them again."""
        folder = self.folder(
            several=GOOD + '    again = plugin\n    second = Scheduler("second", Last)\n',
            borrowed="from twisted.plugins.lemmytx_schedulers import lemmy\n",
        )
        self.assertLessEqual({"last", "second", "lemmy"}, set(find_schedulers([folder])))

    def test_added(self) -> None:
        """A module that is added later is found by the next search, although a cache was written."""
        folder = self.folder(last=GOOD)
        find_schedulers([folder])
        added = Path(folder, "added.py")
        added.write_text(textwrap.dedent(GOOD).replace('"last"', '"added"'), encoding="utf-8")
        os.utime(added, (1, 1))
        self.assertLessEqual({"last", "added"}, set(find_schedulers([folder])))

    def test_staleCache(self) -> None:
        """What an installed module brings is found although a newer dropin.cache knows an earlier version of it."""
        path = self.installed(tests_dropin_stale='name = "lemmytx"\n')
        find_schedulers()
        module = Path(path, "tests_dropin_stale.py")
        module.write_text(textwrap.dedent(GOOD), encoding="utf-8")
        os.utime(module, (1, 1))
        for name in [name for name in sys.modules if name.endswith("tests_dropin_stale")]:
            del sys.modules[name]
        self.assertIn("last", find_schedulers())

    def test_movedFolder(self) -> None:
        """A folder that was moved with its cache is searched without a complaint."""
        folder = self.folder(last=GOOD)
        find_schedulers([folder])
        self.assertTrue(os.path.exists(os.path.join(folder, "dropin.cache")))
        os.rename(folder, moved := self.mktemp())
        self.assertIn("last", find_schedulers([moved]))
        self.assertEqual(self.flushLoggedErrors(), [])

    def test_cacheCannotBeWritten(self) -> None:
        """A place where no cache can be written is no error."""
        folder = self.folder(last=GOOD)
        os.makedirs(os.path.join(folder, "dropin.cache", "in the way"))  # root may write anywhere else
        self.assertIn("last", find_schedulers([folder]))
        self.flushLoggedErrors(OSError)

    def test_otherKinds(self) -> None:
        """Another kind of plugin is found by its interface alone."""
        folder = self.folder(
            mixed=GOOD
            + """
    from twisted.plugin import IPlugin
    from tests.test_plugin import IOther

    @implementer(IPlugin, IOther)
    class Other:
        name = "other"

    other = Other()
    """
        )
        self.assertEqual(set(find(IOther, [folder])), {"other"})
        self.assertNotIn("other", find_schedulers([folder]))


class IOther(Interface):
    """Another kind of plugin."""

    name = Attribute("Its name.")


class RefusalTests(FolderTestCase):
    """What stops the start."""

    def test_missingFolder(self) -> None:
        """A folder that is not there is refused by its name."""
        problems = self.refused("/nowhere/plugins")
        self.assertEqual(problems, [("plugins", "no such folder; 'plugins' names folders with Python modules in them")])

    def test_doesNotImport(self) -> None:
        """A module that raises when it is imported is refused with file, exception and line."""
        for name, source, reason in (
            ("missing", "\nimport no_such_module_here\n", "No module named 'no_such_module_here' (line 2)"),
            ("syntax", "x = 1\ndef broken(:\n", "syntax (line 2)"),
            ("exits", "raise SystemExit('good bye')\n", "SystemExit: good bye (line 1)"),
            ("fails", "def f():\n    return 1 / 0\nf()\n", "ZeroDivisionError: division by zero (line 2)"),
        ):
            [(file, found)] = self.refused(self.folder(**{name: source}))
            self.assertEqual(file, name + ".py")
            self.assertIn("cannot be imported: ", found)
            self.assertTrue(found.endswith(reason), found)
        self.flushLoggedErrors()

    def test_installedAndOurs(self) -> None:
        """A broken module in twisted/plugins that mentions lemmytx is refused."""
        self.installed(tests_dropin_broken="import lemmytx.no_such_thing\n")
        [(file, reason)] = self.refused()
        self.assertEqual(file, "tests_dropin_broken.py")
        self.assertIn("No module named 'lemmytx.no_such_thing'", reason)
        self.flushLoggedErrors()

    def test_installedAndForeign(self) -> None:
        """A broken module in twisted/plugins that has nothing to do with lemmytx is left to its owner."""
        self.installed(tests_dropin_foreign="import no_such_module_here\n")
        self.assertIn("lemmy", find_schedulers())
        self.flushLoggedErrors(ImportError)

    def test_twoOfOneName(self) -> None:
        """Two plugins of one name are refused with both files."""
        folder = self.folder(one=GOOD, two=GOOD)
        [(file, reason)] = self.refused(folder)
        self.assertEqual(file, "two.py")
        self.assertEqual(
            reason,
            f"the plugin name 'last' is taken by {os.path.realpath(folder)}/one.py; rename one of them",
        )

    def test_nameOfOurs(self) -> None:
        """A drop-in cannot take the name of a scheduler that comes with lemmytx."""
        [(file, reason)] = self.refused(self.folder(mine=GOOD.replace('"last"', '"lemmy"')))
        self.assertEqual(file, "mine.py")
        self.assertIn("lemmytx_schedulers.py", reason)

    def test_notWhatItSays(self) -> None:
        """A plugin that lacks what its interface promises is refused."""
        source = """
            from twisted.plugin import IPlugin
            from zope.interface import implementer
            from lemmytx.interfaces import ISchedulerPlugin

            @implementer(IPlugin, ISchedulerPlugin)
            class Half:
                name = "half"

            half = Half()
        """
        [(file, reason)] = self.refused(self.folder(half=source))
        self.assertEqual(file, "half.py")
        self.assertIn("build", reason)

    def test_noName(self) -> None:
        """A plugin needs a name that is text."""
        [(_, reason)] = self.refused(self.folder(mine=GOOD.replace('"last"', '""')))
        self.assertEqual(reason, "the name of a plugin is ''; it must be text")

    def test_badOption(self) -> None:
        """A factory whose parameters cannot be options is refused with its module."""
        source = GOOD.replace("def update", "def __init__(self, **rest):\n            pass\n\n        def update")
        [(file, reason)] = self.refused(self.folder(mine=source))
        self.assertEqual(file, "mine.py")
        self.assertIn("**rest", reason)
        self.flushLoggedErrors()

    def test_allAtOnce(self) -> None:
        """Everything that is wrong is told in one go, a line each."""
        error = self.assertRaises(
            PluginError,
            find_schedulers,
            ["/nowhere", self.folder(a="1 / 0\n", b="import no_such_module_here\n", c=GOOD)],
        )
        self.assertEqual(len(str(error).splitlines()), 3)
        self.flushLoggedErrors()


class OptionTests(SynchronousTestCase):
    """L{Scheduler} and L{build_scheduler}"""

    PLUGINS = {"first": Scheduler("first", First), "lemmy": Scheduler("lemmy", Lemmy)}

    def fault(self, **options: object) -> str | None:
        return fault(self.PLUGINS, "first", **options)

    def test_defaults(self) -> None:
        """Without options the defaults of the factory hold, and each build gives a new scheduler."""
        one, two = (build_scheduler(self.PLUGINS, "first", {}) for _ in range(2))
        assert isinstance(one, First)
        self.assertEqual(one.options, (1, 0.5, None, (), "slow", None))
        self.assertIsNot(one, two)

    def test_values(self) -> None:
        """Values come through as what the annotations say, whatever YAML makes of them."""
        options = {"number": 3, "share": 1, "key": "x", "names": ["a", "b"], "mode": "fast", "anything": {"a": [1]}}
        built = build_scheduler(self.PLUGINS, "first", options)
        assert isinstance(built, First)
        self.assertEqual(built.options, (3, 1.0, "x", ("a", "b"), "fast", {"a": [1]}))

    def test_wrongTypes(self) -> None:
        """A value of another type is refused with what was found, and nothing is converted."""
        for value, said in (("3", "'3'"), (True, "true"), (2.5, "2.5"), (None, "nothing"), ([1], "a list")):
            self.assertEqual(self.fault(number=value), f"number: found {said}; input should be a valid integer")
        self.assertIn("key: found 5; ", str(self.fault(key=5)))
        self.assertIn("names: found a list; ", str(self.fault(names=["a", 1])))
        self.assertEqual(self.fault(mode="medium"), "mode: found 'medium'; input should be 'slow' or 'fast'")
        self.assertIn("write text", str(self.fault(number={1})))

    def test_ourUnits(self) -> None:
        """Durations and the like say themselves what was found, once."""

        def build(pause: Annotated[float, duration(1, 60)] = 2.0) -> First:
            return First()

        self.assertEqual(
            fault({"slow": Scheduler("slow", build)}, "slow", pause=0), "pause: found 0; write from 1 to 60 seconds"
        )

    def test_secrets(self) -> None:
        """What stands before the host in a URL is not repeated, and lists and mappings are not at all."""
        for value in ("redis://ops:Pa55@h", "redis://:Pa@55/w@h/0", ["redis://ops:Pa55@h"], {"Pa55": "Pa55"}):
            said = str(self.fault(number=value))
            self.assertIn("input should be a valid integer", said)
            self.assertNotIn("55", said)

    def test_unknown(self) -> None:
        """An unknown option is refused with the nearest name, or with those there are."""
        self.assertEqual(self.fault(nubmer=3), "'nubmer': no such option of scheduler 'first'; did you mean 'number'?")
        self.assertIn("there are anything, key, mode, names, number, share", str(self.fault(zzz=3)))
        bare = {"bare": Scheduler("bare", lambda: First())}
        self.assertEqual(fault(bare, "bare", x=1), "'x': scheduler 'bare' has no options")

    def test_required(self) -> None:
        """A parameter without a default must be given."""

        def build(header: str) -> First:
            return First(key=header)

        plugins = {"keyed": Scheduler("keyed", build)}
        self.assertEqual(fault(plugins, "keyed"), "header: must be given")
        self.assertIsNone(fault(plugins, "keyed", header="x-user"))

    def test_allAtOnce(self) -> None:
        """Everything that is wrong with the options is told in one go."""
        self.assertEqual(
            self.fault(nubmer=3, number="x"),
            "'nubmer': no such option of scheduler 'first'; did you mean 'number'?; "
            "number: found 'x'; input should be a valid integer",
        )

    def test_factoryRefuses(self) -> None:
        """What the factory itself refuses is told in its words."""
        self.assertEqual(self.fault(number=13), "number: 13 brings bad luck; write 12 or 14")

    def test_unknownName(self) -> None:
        """A scheduler that does not exist is refused with the nearest name, or with those there are."""
        self.assertEqual(fault(self.PLUGINS, "lemy"), "no scheduler 'lemy'; did you mean 'lemmy'?")
        self.assertEqual(fault(self.PLUGINS, "xyz"), "no scheduler 'xyz'; there are first, lemmy")

    def test_buildsSomethingElse(self) -> None:
        """A plugin that builds no scheduler is refused with the file of what it builds from."""
        error = self.assertRaises(PluginError, Scheduler("none", NoScheduler).build, {})
        self.assertEqual(error.problems[0][0], __file__)
        self.assertIn("IScheduler", error.problems[0][1])

    def test_typesThatYamlHasNot(self) -> None:
        """A parameter of a type that no value of YAML can be is refused when the plugin is made."""

        def build(scheduler: NoScheduler) -> First:
            return First()

        self.assertIn("scheduler: ", str(self.assertRaises(TypeError, Scheduler, "odd", build)))

    def test_enumerations(self) -> None:
        """A member of an enumeration is written as its value."""
        chosen = []

        def build(colour: Colour) -> First:
            chosen.append(colour)
            return First()

        Scheduler("coloured", build).build({"colour": "red"})
        self.assertEqual(chosen, [Colour.RED])


class Colour(Enum):
    """An option."""

    RED = "red"


class DocumentTests(FolderTestCase):
    """The page for authors."""

    def blocks(self) -> list[str]:
        """The Python on it."""
        return re.findall(r"```python\n(.*?)```", DOCUMENT.read_text(encoding="utf-8"), re.DOTALL)

    def test_asWritten(self) -> None:
        """The plugin on the page is found and keeps the contract as it is written there, in under 25 lines of code."""
        source = self.blocks()[0]
        self.assertLess(len([line for line in source.splitlines() if line.strip()]), 25)
        folder = self.folder(overflow=source)
        plugins = find_schedulers([folder])
        check_scheduler(lambda: build_scheduler(plugins, "overflow", {"full": 3}))
        first, second = Candidate("first", active=2), Candidate("second")
        scheduler = build_scheduler(plugins, "overflow", {"full": 2})
        self.assertIs(scheduler.choose((first, second), Request()), second)
        first.active = 1
        self.assertIs(scheduler.choose((first, second), Request()), first)

    def test_trying(self) -> None:
        """The lines on the page that try it run as they are written there."""
        names = self.tried("overflow", "check_scheduler(")
        self.assertEqual(names["second"].__class__, Candidate)

    def test_healthCheck(self) -> None:
        """The health check on the page is found and does what the page says, in under 25 lines of code."""
        source = next(block for block in self.blocks() if "@implementer(IHealthCheck)" in block)
        self.assertLess(len([line for line in source.splitlines() if line.strip()]), 25)
        plugins = find_checks([self.folder(redis=source)])
        self.assertEqual("Redis", type(build_check(plugins, "redis", {"master": True})).__name__)
        self.assertEqual("it is no master", getattr(self.tried("redis", "checked(")["outcome"], "reason", None))

    def tried(self, name: str, how: str) -> dict[str, object]:
        """What there is after the block that tries a plugin, with C{how} in it, has run beside the plugin."""
        plugin = next(block for block in self.blocks() if f'"{name}", {name.title()})' in block)
        trying = next(block for block in self.blocks() if f"plugins.{name}" in block and how in block)
        root = self.folder()
        os.makedirs(os.path.join(root, "plugins"))
        Path(root, "plugins", f"{name}.py").write_text(plugin, encoding="utf-8")
        sys.path.insert(0, os.path.abspath(root))
        self.addCleanup(sys.path.remove, os.path.abspath(root))
        for module in [module for module in sys.modules if module.partition(".")[0] == "plugins"]:
            del sys.modules[module]
        names: dict[str, object] = {}
        exec(compile(trying, "writing-a-plugin.md", "exec"), names)
        return names
