"""What the benchmark of pressure makes of measurements, and what it says of them."""

from __future__ import annotations

import time
from typing import Any

import pytest

from bench import series
from bench.idleness import STATEMENT
from bench.pressing import COMMANDS, Stop
from bench.pressure import FULL, PARTS, QUICK, VARIANTS, _options, _plan
from bench.pressure_report import curve, report
from bench.promises import bars
from bench.report import WIDTH
from bench.series import Marks, Recorder, Timeline, recovery, summary
from harness.environment import scrub

MARKS = Marks(10.0, 20.0, 40.0, 60.0)


def seconds(rates: dict[range, int], took: float = 0.001) -> dict[str, Any]:
    """What a recorder answers that saw so many jobs in each of those seconds."""
    place = str(series.step(took))
    return {str(at): [rate, {place: rate}] for span, rate in rates.items() for at in span}


# --- seconds -----------------------------------------------------------------------------------


@pytest.mark.parametrize("took", [0.00001, 0.0003, 0.001, 0.0127, 1.5, 90_000.0])
def test_times_are_kept_to_five_percent(took: float) -> None:
    kept = series.seconds(series.step(took))
    assert took * 0.999 <= kept <= took * series.STEP * 1.001


def test_a_recorder_counts_in_the_second_that_it_is() -> None:
    recorder = Recorder()
    before = int(time.monotonic())
    recorder.count(3)
    recorder.took(0.002)
    recorder.took(0.002)
    answer = recorder.answer()
    assert set(map(int, answer)) <= {before, before + 1}
    assert sum(jobs for jobs, _ in answer.values()) == 3
    assert sum(sum(steps.values()) for _, steps in answer.values()) == 2


def test_the_seconds_of_drivers_add_up() -> None:
    line = Timeline.of([seconds({range(10, 20): 100}), seconds({range(15, 20): 50}, 0.1)])
    assert line.rate(10, 15) == 100
    assert line.rate(14.5, 20.9) == 150, "whole seconds alone"
    assert line.rate(15, 15.9) == 0
    assert line.percentile(10, 15, 99) == pytest.approx(0.001, rel=0.06)
    assert line.percentile(15, 20, 99) == pytest.approx(0.1, rel=0.06)
    assert line.percentile(15, 20, 50) == pytest.approx(0.001, rel=0.06)
    assert line.percentile(0, 9, 50) is None


def test_recovery_is_when_rate_and_time_are_back() -> None:
    slow = {range(10, 20): 100, range(20, 47): 40, range(47, 60): 96}
    assert recovery(Timeline.of([seconds(slow)]), MARKS) == 7
    assert recovery(Timeline.of([seconds({range(10, 60): 100})]), MARKS) == 0
    never = {range(10, 20): 100, range(20, 60): 94}
    assert recovery(Timeline.of([seconds(never)]), MARKS) is None
    late = Timeline.of([seconds({range(10, 40): 100}), seconds({range(40, 60): 100}, 0.002)])
    assert recovery(late, MARKS) is None, "the calls take too long"


def test_a_summary_weighs_the_end_of_the_pressure() -> None:
    rates = {range(10, 20): 100, range(20, 34): 90, range(34, 40): 30, range(40, 60): 100}
    said = summary(Timeline.of([seconds(rates)]), MARKS)
    assert said["rate"]["before"] == 100
    assert said["rate"]["late"] == 30
    assert said["rate"]["held"] == pytest.approx(72)
    assert said["recovery"] == 0
    assert (said["held_at"], said["released_at"], len(said["rates"])) == (10, 30, 50)


def test_what_is_read_is_told_for_each_job() -> None:
    line = Timeline.of([seconds({range(10, 60): 100})])
    samples = [[at + 0.5, at * 800 if at < 20 else 16_000 + (at - 20) * 9_000] for at in range(60)]
    assert series.walked(line, MARKS, samples) == {"before": 8, "held": 90}
    assert series.walked(line, MARKS, samples[:1]) == {"before": None, "held": None}


# --- what is said ------------------------------------------------------------------------------


@pytest.fixture
def result() -> dict[str, Any]:
    """A result as the benchmark makes them, with every promise kept."""
    line = Timeline.of([seconds({range(10, 60): 2_000})])
    run = {
        **summary(line, MARKS),
        "words": "one job a call",
        "refused": 0,
        "walked": {"before": 8.0, "held": 12.0},
        "samples": [[0.0, 20_000, 70 << 20, 30 << 20]],
    }
    return {
        "machine": {
            "cpus": 2, "load_before": 0.1, "load_after": 2.2,
            "filesystem": "ext4", "syncs_per_second": 8000.0,
        },
        "server": {"server_version": "18.4", "autovacuum_naptime": "60s"},
        "naptime": 60,
        "minutes": 10.0,
        "imports": 200_000,
        "ordered": 1_000_000,
        "versions": {"code-import": "1.2.3", "pg-boss": "9.9"},
        "missing": {"graphile-worker": "Node.js and npm are not installed"},
        "held": {
            "ours": {one.name: dict(run) for one in VARIANTS},
            "peers": {"single": {"pg-boss": {**run, "words": "fetch 1"}}, "batched": {}},
        },
        "readers": {
            "short": {**run, "lasting": 0.0},
            "long": {**run, "lasting": 300.0},
        },
        "overload": {
            "capacity": 2000.0, "seconds": 120.0, "rate": 1990.0, "rates": [2000] * 200,
            "lag": [0.1, None, 40.0], "p50_first": 1.0, "p50_last": 1.1, "p99_first": 4.0,
            "p99_last": 4.4, "caught_up": 118.0, "beat_p99": 20.0, "runs": 100,
            "directives": {"continue": 9_000}, "finished": 100, "reclaimed": 0,
        },
        "idle": {
            "workers": 1000, "connections": 20, "seconds": 120.0, "statements_per_second": 16.5,
            "asks_per_second": 9.6, "woken": [20, 31], "milliseconds": [3.0, 9.0],
            "start_p50": 3.0, "start_most": 9.0, "statements_of_a_request": [90, 110],
            "many": {"asked": 2.0, "half": 2.1, "all": 2.2, "running": 1000},
            "many_in_one": {"asked": 0.5, "half": 1.0, "all": None, "running": 900},
        },
        "crowd": {
            "connections": 200, "machines": 50, "seconds": 30.0, "per_second": 3000.0,
            "per_machine": [1500, 1800.0, 2100], "per_worker": [300, 450.0, 600],
            "errors": {}, "claim_p99": 300.0, "deadlocks": 0,
            "waits": {
                "looks": 200, "mean": 20.0, "most": 60, "longest": 0.1,
                "kinds": {"Lock: tuple": 12.0},
            },
        },
    }  # fmt: skip


def test_a_report_fits_a_terminal_and_tells_all(result: dict[str, Any]) -> None:
    said = report(result)
    assert max(map(len, said.splitlines())) <= WIDTH
    for words in ("autovacuum_naptime 60 s", "left out: Node.js", "pg-boss, single", "20k dead",
                  "300 s in one snapshot", "8 -> 12 read", "16.5 statements/s",
                  "20 to 31 workers ask", "900 run in the end", "Lock: tuple", "met"):  # fmt: skip
        assert words in said
    assert "MISSED" not in said


def test_every_promise_is_weighed(result: dict[str, Any]) -> None:
    assert all(one.met for one in bars(result))
    plain = result["held"]["ours"]["plain"]
    plain["rate"] = {**plain["rate"], "late": 1_700.0}
    plain["p99"] = {**plain["p99"], "held": 3.5}
    plain["recovery"] = None
    result["readers"]["long"]["rate"] = {**result["readers"]["long"]["rate"], "late": 1_700.0}
    result["overload"] |= {
        "rate": 1_000.0, "p99_last": 13.0, "beat_p99": 1_500.0, "reclaimed": 1, "caught_up": None,
        "directives": {"continue": 10, "gone": 1},
    }  # fmt: skip
    result["idle"] |= {
        "statements_per_second": 21.0, "start_p50": 51.0, "start_most": 60.0, "woken": [20, 51],
    }  # fmt: skip
    result["idle"]["many"]["all"] = None
    result["crowd"] |= {
        "deadlocks": 1, "errors": {"Refused IJ409": 1}, "per_machine": [10, 100.0, 110],
        "per_worker": [0, 100.0, 110],
    }  # fmt: skip
    missed = [one.words for one in bars(result) if not one.met]
    assert [words.split(":")[0] for words in missed] == (
        ["Held, plain"] * 3 + ["Readers"] + ["Overload"] * 6 + ["Idle"] * 5 + ["Crowd"] * 4
    )
    assert "MISSED" in report(result)


@pytest.mark.parametrize("part", PARTS)
def test_a_part_can_be_told_of_alone(result: dict[str, Any], part: str) -> None:
    for other in PARTS:
        if other != part:
            del result[other]
    assert report(result).count("met") == len(bars(result)) > 0


@pytest.mark.parametrize(
    ("values", "expected"),
    [([], ""), ([0, 1, 800], " ▁█"), ([4, 8], "▄█"), ([8, 8, 4, 4], "█▄"), ([0, 0], "  ")],
)
def test_a_curve_is_as_high_as_its_values(values: list[int], expected: str) -> None:
    assert curve(values, 2 if len(values) == 4 else 3) == expected


def test_statements_are_counted_in_the_log_of_a_server() -> None:
    log = (
        b"2026-01-01 00:00:00 UTC [7] LOG:  statement: BEGIN\n"
        b"2026-01-01 00:00:00 UTC [7] LOG:  execute <unnamed>: \n"
        b"\tselect vcs.code_import_job_next_due($1)\n"
        b"2026-01-01 00:00:00 UTC [7] DETAIL:  parameters: $1 = 'a statement: b'\n"
        b"2026-01-01 00:00:00 UTC [7] LOG:  execute _pg3_0: select 1\n"
        b"2026-01-01 00:00:00 UTC [8] LOG:  checkpoint starting: time\n"
    )
    assert len(STATEMENT.findall(log)) == 3


# --- the drivers -------------------------------------------------------------------------------


def test_options_change_the_plan() -> None:
    assert _plan(_options([])) == FULL
    assert _plan(_options(["--quick"])) == QUICK
    changed = _plan(_options(["--quick", "--minutes", "0.5", "--imports", "9", "--naptime", "7"]))
    assert (changed.minutes, changed.imports, changed.naptime, changed.after) == (0.5, 9, 7, 24)


@pytest.mark.parametrize("variant", ["plain", "requested", "ordered", "pinned", "counting"])
def test_each_variant_runs_cycles_of_its_kind(
    variant: str, dsn: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The driver, in this process: it never runs dry, and operators come in time."""
    scrub()
    monkeypatch.setattr("bench.pressing.wait_for_go", lambda: None)
    cycles = iter([False] * 120 + [True])
    monkeypatch.setattr(Stop, "__init__", lambda *_: None)
    monkeypatch.setattr(Stop, "__bool__", lambda _: next(cycles))
    options = {"url": dsn, "jobs": 120, "runs": 120, "due": False, "number": 0, "processes": 1,
               "variant": variant, "batch": 1, "also": {"update_interval": "0.1 s"}}  # fmt: skip
    for name in ("prepare", "fill", "set_up"):
        COMMANDS[name](options)
    time.sleep(0.2)
    answer = COMMANDS["press"](options)
    assert sum(jobs for jobs, _ in answer["seconds"].values()) > 60
    assert answer["refused"] < 10
