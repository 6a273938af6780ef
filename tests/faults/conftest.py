"""One table of what became of the faults that were injected.

    python -m pytest tests/faults -m fault                        # all, minutes to an hour
    python -m pytest tests/faults -m fault --trials 3 --faults-to table.jsonl

A test injects a fault from outside and says what became of it through `trial`; the quick ones also
run in `make test`. --trials repeats every test that takes the fixture `repeat`.
"""

import collections
import contextlib
import dataclasses
import json
import pathlib
import statistics
from collections.abc import Iterator

import pytest
from faults.forty import FAULTS

PROPERTY = "fault"


@dataclasses.dataclass
class Trial:
    """One injection of a fault.

    Attributes:
      fault: its number.
      about: which form of it.
      survived: what must happen did; set when the test's block ends without an error.
      silent: results that were wrong, and nothing said so.
      lost: steps that were done and had to be done again, beyond one save interval.
      wrong_code: whether an exit code did not tell the truth.
      seconds: from the fault until all was well, or ended as it must; None where there is no such.
    """

    fault: int
    about: str = ""
    survived: bool = False
    silent: int = 0
    lost: int = 0
    wrong_code: bool = False
    seconds: float | None = None


@pytest.fixture
def trial(request):
    """Returns a context manager that yields the Trial of a fault, and reports it at its end."""

    @contextlib.contextmanager
    def begin(fault: int, about: str = "") -> Iterator[Trial]:
        assert fault in FAULTS
        one = Trial(fault, about)
        try:
            yield one
            one.survived = not (one.silent or one.wrong_code)
        finally:
            request.node.user_properties.append((PROPERTY, dataclasses.asdict(one)))

    return begin


def pytest_addoption(parser):
    parser.addoption("--trials", type=int, default=1, help="of every fault that can be repeated")
    parser.addoption("--faults-to", default="", help="file for a JSON line a trial")


def pytest_generate_tests(metafunc):
    if "repeat" in metafunc.fixturenames:
        metafunc.parametrize("repeat", range(metafunc.config.getoption("--trials", 1)))


def pytest_configure(config):
    file = config.getoption("--faults-to", "")
    if file and not hasattr(config, "workerinput"):  # in the process that all trials are told to
        config.pluginmanager.register(Written(pathlib.Path(file)))


class Written:
    """A line in a file for each trial, as soon as it has ended."""

    def __init__(self, file: pathlib.Path):
        """Empties the file."""
        self._file = file
        file.write_text("", encoding="utf-8")

    def pytest_runtest_logreport(self, report):
        with self._file.open("a", encoding="utf-8") as file:
            for one in trials_of(report):
                file.write(json.dumps(one | {"test": report.nodeid}) + "\n")


def trials_of(report) -> list[dict]:
    """Returns what a test said of its trials."""
    if report.when != "call":
        return []
    return [value for name, value in report.user_properties if name == PROPERTY]


def pytest_terminal_summary(terminalreporter):
    reports = [r for rs in terminalreporter.stats.values() for r in rs if hasattr(r, "when")]
    if found := [one for report in reports for one in trials_of(report)]:
        terminalreporter.section("faults")
        terminalreporter.write_line(table(found))


def table(found: list[dict]) -> str:
    """Returns the trials as a table, a line a fault."""
    by_fault = collections.defaultdict(list)
    for one in found:
        by_fault[one["fault"]].append(one)
    lines = [
        "| # | fault | must happen | survived | silent | steps lost | wrong codes | seconds |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for number, trials in sorted(by_fault.items()):
        seconds = [one["seconds"] for one in trials if one["seconds"] is not None]
        cells = [
            str(number),
            FAULTS[number].name,
            FAULTS[number].expected,
            f"{sum(one['survived'] for one in trials)} of {len(trials)}",
            str(sum(one["silent"] for one in trials)),
            str(sum(one["lost"] for one in trials)),
            str(sum(one["wrong_code"] for one in trials)),
            f"{statistics.median(seconds):.1f}" if seconds else "",
        ]
        lines.append(f"| {' | '.join(cells)} |")
    survived = sum(all(one["survived"] for one in trials) for trials in by_fault.values())
    lines.append(f"\n{survived} of {len(by_fault)} faults were survived every time.")
    return "\n".join(lines)
