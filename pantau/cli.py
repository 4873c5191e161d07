"""The command line: ``pantau demo | run | replay | register | devices | accounts | doctor | dead-letters | …``.

Exit codes: 0 all is well; 1 it could not be done, and one sentence says why; 2 the command was not understood;
130 stopped with Ctrl-C before it was done.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import logging
import os
import signal
import subprocess
import sys
import tempfile
import threading
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.logging import RichHandler
from rich.markup import escape
from rich.table import Table

from pantau import __version__
from pantau.account_command import add_account_command
from pantau.accounts_command import add_accounts_command
from pantau.chaos_command import add_chaos_command
from pantau.devices_command import add_devices_command
from pantau.letters_command import add_letters_command
from pantau.startup import EXPECTED, sentence

OK, FAILED, INTERRUPTED = 0, 1, 130


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command; returns its exit code."""
    parser = _parser()
    chosen = parser.parse_args(arguments)
    logging.basicConfig(
        level=logging.DEBUG if chosen.verbose else logging.WARNING,
        format="%(name)s: %(message)s",
        handlers=[RichHandler(console=Console(stderr=True), show_path=False, markup=False)],
    )
    command: Callable[[argparse.Namespace], int] = chosen.command
    try:
        return command(chosen)
    except KeyboardInterrupt:
        return INTERRUPTED
    except BrokenPipeError:
        return OK
    except _expected() as error:
        if chosen.verbose:
            logging.getLogger("pantau").exception("it failed here")
        print(f"pantau: {sentence(error)}", file=sys.stderr)
        return FAILED


def _expected() -> tuple[type[BaseException], ...]:
    from dashboards.grafana.publishing import PublishError
    from simulators.recording_map import RecordingError
    from simulators.replay_page import ReplayError

    return (*EXPECTED, ReplayError, RecordingError, PublishError)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="pantau",
        description="City monitoring from sensor to screen: flood, traffic and street sensors over MQTT, "
        "quality checks and alarms, InfluxDB and Grafana.",
        epilog="Try: pantau demo",
    )
    parser.add_argument("--version", action="version", version=f"pantau {__version__}")
    parser.add_argument("-v", "--verbose", action="store_true", help="log every step to standard error")
    commands = parser.add_subparsers(title="commands", required=True, metavar="COMMAND")

    def add(name: str, run: Callable[[argparse.Namespace], int], text: str, example: str) -> argparse.ArgumentParser:
        sub = commands.add_parser(
            name,
            help=text,
            description=text[0].upper() + text[1:] + ".",
            epilog=f"Example:\n  {example}",
            formatter_class=argparse.RawDescriptionHelpFormatter,
        )
        sub.set_defaults(command=run)
        return sub

    def config(sub: argparse.ArgumentParser) -> None:
        sub.add_argument("-c", "--config", type=Path, metavar="FILE", help="configuration (default: ./pantau.toml)")

    def as_json(sub: argparse.ArgumentParser) -> None:
        sub.add_argument("--json", action="store_true", help="print JSON for a program")

    sub = add("demo", _demo, "a living, simulated Bandung: sensors, broker, pipeline, store and page", "pantau demo")
    sub.add_argument("--folder", type=Path, default=Path("pantau-demo"), help="where it keeps its files")
    sub.add_argument("--host", default="127.0.0.1", help="address of the page (default: this computer only)")
    sub.add_argument("--port", type=int, default=8000, help="port of the page (default 8000; 0: any free one)")
    sub.add_argument("--mqtt-port", type=int, default=0, help="port of the broker for devices (default: any free one)")
    sub.add_argument("--speed", default="60", help="simulated seconds per second (default 60)")
    sub.add_argument("--seed", type=int, default=1, help="another seed, another city's weather and luck")

    sub = add("run", _run, "run the pipeline on real brokers and a real store", "pantau run --config pantau.toml")
    config(sub)
    sub.add_argument("--clock", choices=["system", "broker"], help="take the time from here instead of clock.source")

    sub = add(
        "replay",
        _replay,
        "publish a recording through MQTT to a running pipeline, or to one of its own",
        "pantau replay simulators/recordings/don_hadfields_2007/stage_15min.csv.gz \\\n"
        "      --map simulators/recordings/don_hadfields_2007/map.toml --local --report",
    )
    config(sub)
    sub.add_argument("recording", type=Path, metavar="RECORDING", help="a CSV file (.gz too), or a folder of them")
    sub.add_argument("--map", type=Path, help="what the columns mean (docs/replay.md; default: map.toml in the folder)")
    sub.add_argument("--speed", default="max", help="times real time, or max (default)")
    sub.add_argument("--local", action="store_true", help="start a broker and a pipeline for this replay alone")
    sub.add_argument("--folder", type=Path, help="with --local: keep its files here instead of throwing them away")
    sub.add_argument(
        "--report", nargs="?", const="-", metavar="FILE", help="print a report; with FILE also as JSON there"
    )
    as_json(sub)

    sub = add(
        "register", _register, "register sites, devices and thresholds from a city file", "pantau register kota.toml"
    )
    config(sub)
    sub.add_argument("file", type=Path, help="a city file (docs/city-file.md)")
    as_json(sub)

    add_account_command(add, config, as_json)
    add_devices_command(add, config, as_json)
    add_accounts_command(add, config, as_json)

    sub = add("doctor", _doctor, "check configuration, disk, registry, brokers, store, clock and page", "pantau doctor")
    config(sub)
    as_json(sub)

    add_letters_command(add, config, as_json)

    sub = add("dashboards", _dashboards, "build, check and publish the Grafana dashboards", "pantau dashboards build")
    actions = sub.add_subparsers(title="actions", required=True, metavar="ACTION", dest="action")
    build = actions.add_parser("build", help="write the dashboards' JSON files")
    config(build)
    build.add_argument(
        "--folder", type=Path, help="where to, with this city's levels (default: the package's own folder)"
    )
    check = actions.add_parser("check", help="check them, and run every query against the store in the configuration")
    config(check)
    check.add_argument("--no-queries", action="store_true", help="leave the queries away")
    publish = actions.add_parser("publish", help="put data source, folder and dashboards into a running Grafana")
    config(publish)
    publish.add_argument(
        "--url",
        required=True,
        help="of Grafana (GRAFANA_TOKEN: its token; GRAFANA_INFLUX_TOKEN: a token that reads InfluxDB)",
    )

    sub = add(
        "bench",
        _bench,
        "measure this machine: messages/s end to end, CPU by stage, latency, memory",
        "pantau bench --short",
    )
    sub.add_argument("--short", action="store_true", help="a quick, rough run")
    sub.add_argument("--brokers", metavar="1,2,4", help="also the same load over so many brokers")
    sub.add_argument("--processes", metavar="1,2", help="also with so many receiving processes for the broker")
    sub.add_argument("--profile", action="store_true", help="also the ten functions that take the most CPU time")
    sub.add_argument("--messages", type=int, help="of the runs flat out (default: 600000)")
    sub.add_argument("--batches", type=int, help="messages of 100 readings (default: a thirtieth of --messages)")
    sub.add_argument("--seconds", type=float, help="of the runs at a given rate (default: 20)")
    sub.add_argument("--only", help="some of publisher,single,paho,batches,latency,core; '' for none")
    as_json(sub)
    add_chaos_command(add, as_json)
    return parser


@contextlib.contextmanager
def _until_stopped() -> Iterator[threading.Event]:
    """An event that Ctrl-C and SIGTERM set; a second Ctrl-C ends at once."""
    stop = threading.Event()

    def handle(_number: int, _frame: Any) -> None:
        if stop.is_set():
            raise KeyboardInterrupt
        stop.set()

    before = {n: signal.signal(n, handle) for n in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield stop
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _say(text: str) -> None:
    print(text, flush=True)


def _demo(chosen: argparse.Namespace) -> int:
    speed = _speed(chosen.speed)
    with _until_stopped() as stop:
        _say("pantau demo: loading")
        from pantau.demo import DemoOptions, run_demo

        options = DemoOptions(chosen.folder, chosen.host, chosen.port, chosen.mqtt_port, speed, chosen.seed)
        run_demo(options, stop, _say)
    _say("stopped")
    return OK


def _run(chosen: argparse.Namespace) -> int:
    from ingest.settings import ClockSource
    from pantau.runtime import Pipeline
    from pantau.settings import ClockSettings, load

    settings = load(chosen.config)
    if chosen.clock:
        settings = replace(settings, clock=ClockSettings(ClockSource(chosen.clock)))
    pipeline = Pipeline(settings, _say)
    with _until_stopped() as stop:
        pipeline.start()
        try:
            assert pipeline.page is not None
            brokers = ", ".join(f"{b.name} ({b.address})" for b in settings.brokers)
            _say(f"pantau runs for {settings.city.name}: page {pipeline.page.url}, brokers {brokers}")
            pipeline.run(stop)
            _say("stopping")
        finally:
            pipeline.close()
    _say("stopped")
    return OK


def _replay(chosen: argparse.Namespace) -> int:
    from devices.registry import Registry
    from pantau.local import local_pipeline
    from pantau.settings import load
    from pantau.startup import StartupError
    from simulators.recording import load_recording
    from simulators.replay import ConsoleProgress, register, replay
    from simulators.replay_page import TOKEN_VARIABLE, PipelinePage
    from simulators.replay_report import collect_report

    speed = None if chosen.speed == "max" else _speed(chosen.speed, "max or ")
    recording = load_recording(chosen.recording, chosen.map)
    if recording.account.bad:
        first = recording.account.bad_rows[0]
        print(
            f"pantau: {recording.account.bad} rows or cells can't be read and are left out; "
            f"the first: {first.file} row {first.row}: {first.reason}",
            file=sys.stderr,
        )
    with contextlib.ExitStack() as stack:
        if chosen.local:
            folder = chosen.folder or Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="pantau-replay-")))
            broker, url, registry_url = stack.enter_context(
                local_pipeline(recording.city, recording.utc_offset_h, folder)
            )
        else:
            settings = load(chosen.config)
            if settings.city.name != recording.city:
                raise StartupError(
                    f"the map is of the city {recording.city!r}, but city.name in the configuration is "
                    f"{settings.city.name!r}; make them the same, or use --local"
                )
            broker, url, registry_url = settings.brokers[0], settings.page.url, settings.data.registry
        page = PipelinePage(url, token="" if chosen.local else os.environ.get(TOKEN_VARIABLE, ""))
        page.status()  # before anything is changed: is there a pipeline at all?
        with contextlib.closing(Registry(registry_url)) as registry:
            version = register(recording, registry)
        progress = stack.enter_context(ConsoleProgress()) if sys.stderr.isatty() or not chosen.json else None
        sent = replay(recording, broker, page=page, speed=speed, directory_version=version, progress=progress)
        report = collect_report(page, recording, sent)
    if chosen.report not in (None, "-"):
        Path(chosen.report).write_bytes(report.to_json())
    if chosen.json:
        print(report.to_json().decode())
    elif chosen.report is not None:
        report.print()
    else:
        print(f"{report.sent} readings sent, {report.stored} stored, {len(report.alarms)} alarms; --report tells more")
    return OK if report.unaccounted == 0 else FAILED


def _speed(text: str, more: str = "") -> float:
    from pantau.startup import StartupError

    try:
        speed = float(text)
    except ValueError:
        speed = 0.0
    if not 0 < speed < 1e9:
        raise StartupError(f"--speed must be {more}a number above 0, got {text!r}")
    return speed


def _register(chosen: argparse.Namespace) -> int:
    from devices.city_file import load_city
    from devices.registry import Registry
    from pantau.settings import load
    from pantau.startup import StartupError

    settings = load(chosen.config)
    city = load_city(chosen.file)
    if city.name != settings.city.name:
        raise StartupError(
            f"{chosen.file} is of the city {city.name!r}, but city.name in the configuration is {settings.city.name!r}"
        )
    settings.data.folder.mkdir(parents=True, exist_ok=True)
    with contextlib.closing(Registry(settings.data.registry)) as registry:
        before = registry.version()
        version = registry.save(
            city=city.name,
            utc_offset_h=city.utc_offset_h,
            sites=city.sites,
            devices=city.devices,
            datastreams=city.datastreams,
        )
    counts = {"sites": len(city.sites), "devices": len(city.devices), "datastreams": len(city.datastreams)}
    if chosen.json:
        print(json.dumps({"version": version, "changed": version != before, **counts}))
    else:
        what = "registered" if version != before else "nothing new:"
        print(f"{what} {counts['sites']} sites, {counts['devices']} devices, {counts['datastreams']} datastreams")
    return OK


def _doctor(chosen: argparse.Namespace) -> int:
    from pantau.doctor import as_json, examine, healthy

    findings = examine(chosen.config)
    if chosen.json:
        print(as_json(findings))
    else:
        marks = {"ok": "[green]ok[/]", "warning": "[yellow]warning[/]", "failure": "[bold red]failure[/]"}
        table = Table(show_header=False, box=None, padding=(0, 2, 0, 0))
        for f in findings:
            detail, advice = escape(f.detail), escape(f.advice)
            table.add_row(marks[f.state], f.check, f"{detail}\n[bold]→ {advice}[/]" if advice else detail)
        Console().print(table)
    return OK if healthy(findings) else FAILED


def _dashboards(chosen: argparse.Namespace) -> int:
    from pantau import grafana

    if chosen.action == "build":
        for path in grafana.build(chosen.config, chosen.folder):
            print(path)
        return OK
    if chosen.action == "check":
        problems = grafana.check(chosen.config, with_queries=not chosen.no_queries)
        for problem in problems:
            print(problem)
        print(f"{len(problems)} problems" if problems else "all dashboards are well")
        return FAILED if problems else OK
    for line in grafana.publish(chosen.config, chosen.url):
        print(line)
    return OK


def _bench(chosen: argparse.Namespace) -> int:
    from pantau.startup import StartupError

    home = Path(__file__).resolve().parent.parent
    if not (home / "benchmarks" / "end_to_end.py").exists():
        raise StartupError(
            "the benchmarks are not in the installed package: run pantau bench in a clone of the repository"
        )
    command = [sys.executable, "-m", "benchmarks.end_to_end"]
    for flag in ("short", "profile", "json"):
        command += [f"--{flag}"] if getattr(chosen, flag) else []
    for name in ("brokers", "processes", "messages", "batches", "seconds", "only"):
        value = getattr(chosen, name)
        command += [] if value is None else [f"--{name}", str(value)]
    return subprocess.run(command, cwd=home, check=False).returncode
