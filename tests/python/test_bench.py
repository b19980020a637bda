"""What the benchmark makes of measurements, and what it says of them."""

from __future__ import annotations

import argparse
import copy
import signal
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import pytest

from bench import cluster, figures, pressure, queues, scale, scale_report, worker
from bench.contenders import Contender, Driver, Drivers, NotToBeHad, ours
from bench.report import WIDTH, bar, report
from harness.waiting import eventually

ROOT = Path(__file__).parents[2]
RATES = {
    "code-import": [30_000.0, 31_000.0, 29_000.0],
    "graphile-worker": [24_000.0, 25_000.0, 20_000.0],
    "pg-boss": [9_000.0, 9_100.0, 9_050.0],
}


@pytest.fixture
def result() -> dict[str, Any]:
    """A result as the benchmark makes them, with every promise kept."""
    rates = {
        name: {
            "setting": "as it is",
            "processes": 2,
            "options": {},
            "tried": {"1 x as it is": 7_654.3},
            "rounds": rounds,
        }
        for name, rounds in RATES.items()
    }
    latency = {
        "code-import": {"p50": [1.0, 1.2, 1.1], "p99": [2.0, 2.0, 2.5]},
        "graphile-worker": {"p50": [1.5, 1.5, 1.5], "p99": [3.0, 9.0, 4.0]},
    }
    cycle = {"wal_bytes": 1150.0, "inserted": 1.0, "dead": 2.0, "hot": 0.5}
    beat = {"wal_bytes": 700.0, "inserted": 0.0, "dead": 2.0, "hot": 0.998, "per_second": 9_000.0}
    return {
        "machine": {
            "cpus": 2, "load_before": 0.1, "load_after": 2.2,
            "filesystem": "ext4", "syncs_per_second": 8000.0,
        },
        "server": {"server_version": "18.4", "fsync": "on", "shared_buffers": "1GB"},
        "versions": dict.fromkeys(RATES, "1.2.3"),
        "missing": {"awa": "pip: there is none " + "for this machine" * 10},
        "rates": {"batched": rates, "single": copy.deepcopy(rates)},
        "latency": latency,
        "cycle": {
            key: {**cycle, "cycles": 90_000, "notifications": 0} for key in ("batched", "single")
        },
        "heartbeats": {"2 kB": beat, "64 kB": {**beat, "wal_bytes": 70_000.0}},
        "registered_per_second": 21_000.0,
    }  # fmt: skip


# --- figures -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("percent", "expected"), [(0, 1), (1, 1), (50, 50), (50.1, 51), (99, 99), (100, 100)]
)
def test_a_percentile_is_one_of_the_values(percent: float, expected: float) -> None:
    assert figures.percentile(list(range(100, 0, -1)), percent) == expected


def test_there_is_no_percentile_of_nothing() -> None:
    with pytest.raises(ValueError, match="nothing"):
        figures.percentile([], 50)


def test_the_spread_is_the_farthest_from_the_median() -> None:
    assert figures.spread([90.0, 100.0, 130.0]) == pytest.approx(0.3)
    assert figures.spread([100.0]) == 0
    assert figures.spread([0.0, 0.0]) == 0


def test_rates_of_processes_add_up() -> None:
    answers = [
        {"jobs": 100, "seconds": 1.0, "idle": 0.01},
        {"jobs": 300, "seconds": 2.0, "idle": 0.01},
    ]
    assert figures.rate(answers) == pytest.approx(250)


def test_a_process_that_ran_out_of_jobs_is_timed_until_then() -> None:
    dry = {"jobs": 100, "seconds": 1.0, "idle": 0.5}
    starved = {"jobs": 0, "seconds": 1.0, "idle": 1.0}
    assert figures.ran_dry(dry)
    assert figures.rate([dry, starved]) == pytest.approx(200)


def test_ratios_are_to_the_best_of_the_others() -> None:
    assert figures.ratios({"code-import": 30.0, "a": 20.0, "b": 10.0}) == {
        "code-import": 1.5,
        "a": 1.0,
        "b": 0.5,
    }
    assert figures.ratios({"code-import": 30.0}) == {}


def test_every_promise_is_weighed(result: dict[str, Any]) -> None:
    assert all(one.met for one in figures.bars(result))
    result["rates"]["single"]["code-import"]["rounds"] = [24_000.0]
    result["latency"]["code-import"]["p99"] = [5.0]
    result["cycle"]["batched"] |= {"notifications": 1, "wal_bytes": 1600.0}
    result["heartbeats"]["64 kB"] |= {"hot": 0.9}
    assert [one.words for one in figures.bars(result) if not one.met] == [
        "One job a call: times the best peer",
        "Request to start, p99: times graphile-worker",
        "In batches: bytes of WAL a cycle",
        "In batches: notifications in a steady cycle",
        "Heartbeat with 64 kB: percent HOT",
    ]


def test_without_a_peer_nothing_is_compared(result: dict[str, Any]) -> None:
    for key in ("batched", "single"):
        result["rates"][key] = {"code-import": result["rates"][key]["code-import"]}
    del result["latency"]["graphile-worker"]
    assert not [one for one in figures.bars(result) if "times" in one.words]
    assert "of best peer" in report(result)


# --- the report --------------------------------------------------------------------------------


def test_a_report_fits_a_terminal_and_tells_all(result: dict[str, Any]) -> None:
    said = report(result)
    assert max(map(len, said.splitlines())) <= WIDTH
    for words in (
        "full cycle",
        "no-op",
        "fsync=on",
        "left out: pip",
        "1.25",
        "21,000/s",
        "7,654",
        "met",
    ):
        assert words in said
    assert "MISSED" not in said


@pytest.mark.parametrize(
    ("value", "expected"), [(0, "    "), (0.001, "▏   "), (2, "██  "), (2.5, "██▌ "), (4, "████")]
)
def test_a_bar_is_as_long_as_its_value(value: float, expected: str) -> None:
    assert bar(value, 4, 4) == expected


# --- sizes, and the steady day -----------------------------------------------------------------


@pytest.fixture
def scaled() -> dict[str, Any]:
    """A result of the benchmark of sizes, with every promise kept."""
    times = {"p50": [1.0, 1.0, 1.0], "p99": [2.0, 9.0, 2.5], "p99.9": [5.0, 5.0, 5.0]}
    calls = (*scale_report.CALLS, "due jobs")
    counts = {"table": 2_000_000, "indexes": 1_000_000, "dead": 0, "autovacuums": 0}
    names = (*scale_report.HOT, *scale_report.HISTORY)
    call = {"p50": 1.0, "p99": 4.0}
    slot = {
        "cycles": 11_600, "claim": call, "heartbeat": call, "finish": call,
        "lag": {"p50": 20.0, "p99": 180.0}, "table": 5e8, "indexes": 2e8, "dead": 3e5,
        "autovacuums": 3, "history": 1e9, "wal": 2e7,
    }  # fmt: skip
    return {
        "machine": {
            "cpus": 2, "load_before": 0.1, "load_after": 2.2,
            "filesystem": "ext4", "syncs_per_second": 8000.0,
        },
        "server": {"server_version": "18.4", "fsync": "on", "shared_buffers": "6026MB"},
        "versions": {"code-import": "1.2.3"},
        "missing": {},
        "sizes": [10_000, 10_000_000],
        "rounds": 3,
        "samples": 300,
        "filled": {
            size: {
                "connections": 2, "registered_per_second": 21_000.0, "results": int(size),
                "relations": {name: dict(counts) for name in names},
            }
            for size in ("10000", "10000000")
        },
        "latency": {
            call: {"10000": dict(times), "10000000": dict(times)} for call in calls
        },
        "reclaim": {"10000": [0.3, 0.3], "10000000": [0.4, 0.4]},
        "day": {
            "imports": 999_800, "interval": 862.1, "rate": 1159.8, "machines": 4, "batch": 50,
            "lasting": 2.0, "slot": 10.0, "rush": 9_564.0,
            "slots": [{**slot, "history": 1e9 + 7e6 * number} for number in range(180)],
        },
    }  # fmt: skip


def test_a_report_of_sizes_fits_a_terminal_and_tells_all(scaled: dict[str, Any]) -> None:
    said = scale_report.report(scaled)
    assert max(map(len, said.splitlines())) <= WIDTH
    for words in (
        "10,000,000 imports",
        "at 10M: times that at 10k",
        "due jobs",
        "8.2 times",
        "met",
    ):
        assert words in said
    assert "MISSED" not in said


def test_every_promise_of_sizes_is_weighed(scaled: dict[str, Any]) -> None:
    assert all(one.met for one in scale_report.bars(scaled))
    scaled["filled"]["10000"]["registered_per_second"] = 7_000.0
    scaled["latency"]["finish"]["10000000"]["p99"] = [4.0, 9.0, 5.0]
    for slot in scaled["day"]["slots"][120:]:
        slot["lag"] = {"p50": 900.0, "p99": 2_000.0}
        slot["claim"] = {"p50": 1.0, "p99": 7.0}
        slot["indexes"] = 4e8
        slot["cycles"] = 9_000
    assert [one.words for one in scale_report.bars(scaled) if not one.met] == [
        "Imports registered in bulk, a second",
        "finish, p99 at 10M: times that at 10k",
        "Steady day: percent of what fell due done",
        "Steady day: start after due at the end, p99, s",
        "Steady day: claim, p99, last third / first",
        "Steady day: bytes of indexes, last third / first",
    ]


def test_a_short_day_says_nothing_of_how_it_lasts(scaled: dict[str, Any]) -> None:
    del scaled["day"]["slots"][20:]
    said = [one.words for one in scale_report.bars(scaled)]
    assert "Steady day: percent of what fell due done" in said
    assert not [words for words in said if "last third" in words]


def test_one_size_is_compared_with_nothing(scaled: dict[str, Any]) -> None:
    scaled["sizes"] = [10_000]
    assert not [one for one in scale_report.bars(scaled) if "times that" in one.words]


def test_sizes_are_said_as_people_do() -> None:
    assert scale._sizes("1M,10k") == [10_000, 1_000_000]
    assert [scale_report.short(size) for size in (10_000, 2_500_000, 7)] == ["10k", "2.5M", "7"]
    for words in ("10x", "", "9k"):
        with pytest.raises(argparse.ArgumentTypeError):
            scale._sizes(words)


@pytest.mark.parametrize(
    "arguments",
    [
        *(["--json", "/nowhere/result"], ["--plot", "/nowhere/picture"], ["--json", "/"]),
        *(["--directory", "/nowhere"], ["--directory", __file__]),
        *(["--minutes", "nan"], ["--minutes", "-1"], ["--minutes", "soon"]),
        *(["--rate", "0"], ["--imports", "0"], ["--naptime", "0.5"]),
        *(["--commits", "0"], ["--rounds", "-1"], ["--transports", "git,ftp"]),
    ],
)
def test_what_cannot_be_is_refused_before_anything_is_measured(
    arguments: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    for program in (queues, scale, pressure, worker):
        with pytest.raises(SystemExit) as ended:
            program.main(arguments)
        assert ended.value.code == 2
    said = capsys.readouterr().err
    assert f"argument {arguments[0]}: " in said


def test_a_benchmark_that_is_interrupted_says_so_and_leaves_nothing() -> None:
    with tempfile.TemporaryDirectory(dir=cluster.default_base()) as folder:
        Path(folder).chmod(0o755)  # servers run as another user, if we are root
        command = [sys.executable, "tests", "bench", "scale", "--quick", "--directory", folder]
        with subprocess.Popen(command, cwd=ROOT, stderr=subprocess.PIPE, text=True) as process:
            try:
                started = Path(folder).glob
                eventually(lambda: any(started("*/*/data/postmaster.pid")), what="it has a server")
            finally:
                process.send_signal(signal.SIGINT)
            assert process.stderr is not None
            said = process.stderr.read()
        assert list(Path(folder).iterdir()) == []
    assert (process.returncode, said.splitlines()[-1]) == (130, "interrupted")
    assert "Traceback" not in said


def test_a_disk_that_is_too_small_is_refused_at_once(tmp_path: Path) -> None:
    given = {"quick": False, "minutes": None, "rate": 1160.0}
    plan = scale._plan(argparse.Namespace(**given, sizes=[10**12]))
    said = scale._too_small(tmp_path, plan)
    assert said is not None
    assert "GB are needed" in said


@pytest.mark.parametrize(
    ("values", "expected"),
    [([], "    "), ([0, 0], "▁▁  "), ([1, 2, 4, 8], "▂▃▅█"), ([1, 1, 8, 8, 4, 4, 0, 0], "▂█▅▁")],
)
def test_a_curve_begins_at_nothing(values: list[float], expected: str) -> None:
    assert scale_report.curve(values, 4) == expected


# --- drivers -----------------------------------------------------------------------------------


def script(text: str) -> Contender:
    return Contender("scripted", ["bash", "-c", text], {}, {})


def test_drivers_begin_together_and_answer() -> None:
    one = script('echo "{}"; read -r go; echo "{\\"$0\\": $1}"')
    with Drivers([Driver(one, "work", {"number": n}) for n in (1, 2)]) as drivers:
        drivers.go()
        answers = [driver.answer() for driver in drivers.all]
    assert answers == [{"work": {"number": 1}}, {"work": {"number": 2}}]


def test_what_a_driver_complains_of_is_told() -> None:
    with pytest.raises(NotToBeHad, match="scripted: SomeError: no such thing"):
        script("echo SomeError: no such thing >&2; echo and more >&2").run("version", {})


def test_a_driver_does_not_outlive_its_use() -> None:
    with Driver(script("echo {}; exec sleep 600"), "work", {}) as driver:
        driver.answer()
    assert driver._process.returncode == -9


def test_our_own_driver_says_what_it_is() -> None:
    assert "psycopg" in ours().run("version", {})["version"]
