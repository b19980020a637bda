"""What the benchmark makes of measurements, and what it says of them."""

from __future__ import annotations

import copy
from typing import Any

import pytest

from bench import figures
from bench.contenders import Contender, Driver, Drivers, NotToBeHad, ours
from bench.report import WIDTH, bar, report

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
