# SPDX-FileCopyrightText: 2026 The l4lb.xdp authors
# SPDX-License-Identifier: GPL-3.0-or-later
"""The dashboard without Grafana: a real Prometheus answers the queries of its panels.

python -m tests.lab.dashboard URL OUT.svg [--minutes 15] [--rows 3]

dashboard_picture.py draws what came.
"""

from __future__ import annotations

import argparse
import json
import re
import subprocess
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.error import URLError
from urllib.parse import urlencode
from urllib.request import urlopen

ROOT = Path(__file__).parents[2]
BOARD = ROOT / "roles/agent/files/grafana/l4lb.json"
RULES = ROOT / "roles/agent/files/prometheus/l4lb.rules.yml"

VARIABLE = re.compile(r"\$(\w+)")
LABEL = re.compile(r"\{\{\s*(\w+)\s*\}\}")
POINTS = 240


@dataclass(frozen=True)
class Series:
    """points: unix time and value; labels are Prometheus's."""

    name: str
    labels: Mapping[str, str]
    points: tuple[tuple[float, float], ...]


@dataclass(frozen=True)
class Panel:
    """A panel of the JSON, and what its queries gave."""

    definition: Mapping[str, Any]
    series: tuple[Series, ...]


class Asker:
    """Prometheus's HTTP API at an address, `http://127.0.0.1:9090`."""

    def __init__(self, url: str) -> None:
        self._url = url.rstrip("/")

    def ask(self, path: str, **parameters: Any) -> Any:
        """Raises URLError, or ValueError with Prometheus's own words."""
        with urlopen(f"{self._url}/api/v1/{path}?{urlencode(parameters)}", timeout=30) as answer:  # noqa: S310
            content = json.load(answer)
        if content["status"] != "success":
            raise ValueError(f"{parameters}: {content['error']}")
        return content["data"]

    def range(self, query: str, start: float, end: float, step: float) -> list[dict[str, Any]]:
        data = self.ask("query_range", query=query, start=start, end=end, step=step)
        return list(data["result"])

    def instant(self, query: str, at: float) -> list[dict[str, Any]]:
        found = self.ask("query", query=query, time=at)["result"]
        return [{**each, "values": [each["value"]]} for each in found]


def filled(query: str, choices: Mapping[str, str], interval: float) -> str:
    """The query as Grafana would send it. choices: by variable; others are all. interval: of
    scraping, in seconds; Grafana takes four of them for a rate.
    """
    values = {"__rate_interval": f"{max(1, round(4 * interval))}s", **choices}
    return VARIABLE.sub(lambda found: values.get(found[1], ".*"), query)


def evaluate(
    asker: Asker, start: float, end: float, interval: float, board: Path = BOARD
) -> list[Panel]:
    """Every panel of the dashboard over that time, rows included."""
    definition = json.loads(board.read_text(encoding="utf-8"))
    return [
        Panel(panel, tuple(_series(asker, panel, start, end, interval)))
        for panel in definition["panels"]
    ]


def _series(
    asker: Asker, panel: Mapping[str, Any], start: float, end: float, interval: float
) -> Iterator[Series]:
    step = max(interval, (end - start) / POINTS)
    for target in panel.get("targets", ()):
        query = filled(target["expr"], {}, interval)
        if target.get("instant"):
            found = asker.instant(query, end)
        else:
            found = asker.range(query, start, end, step)
        for each in found:
            labels = each["metric"]
            name = LABEL.sub(lambda m, of=labels: of.get(m[1], ""), target["legendFormat"])
            points = tuple((float(at), float(value)) for at, value in each["values"])
            yield Series(name, labels, points)


@contextmanager
def prometheus(
    targets: Mapping[str, str],
    directory: Path,
    listen: str,
    interval: int = 2,
    enter: Sequence[str] = (),
) -> Iterator[Asker]:
    """A real Prometheus, with the role's rules, that scrapes agents. targets: name -> address:port;
    enter: the words of a command that runs another in the namespace that reaches them.
    """
    directory.mkdir(parents=True, exist_ok=True)
    config = {
        "global": {"scrape_interval": f"{interval}s", "evaluation_interval": f"{interval}s"},
        "rule_files": [str(RULES)],
        "scrape_configs": [
            {
                "job_name": "l4lb",
                "static_configs": [
                    {"targets": [address], "labels": {"instance": name}}
                    for name, address in targets.items()
                ],
            }
        ],
    }
    path = directory / "prometheus.yml"
    path.write_text(json.dumps(config), encoding="utf-8")  # JSON is YAML
    command = [
        *enter,
        "prometheus",
        f"--config.file={path}",
        f"--storage.tsdb.path={directory / 'data'}",
        f"--web.listen-address={listen}",
        "--log.level=error",
    ]
    with (directory / "prometheus.log").open("w") as log:
        server = subprocess.Popen(command, stdout=log, stderr=log)
        try:
            yield _awaited(Asker(f"http://{listen}"), server, directory)
        finally:
            server.terminate()
            server.wait(20)


def _awaited(asker: Asker, server: subprocess.Popen[bytes], directory: Path) -> Asker:
    for _attempt in range(100):
        try:
            asker.ask("query", query="1")
        except (URLError, OSError):
            if server.poll() is not None:
                break
            time.sleep(0.1)
        else:
            return asker
    raise RuntimeError((directory / "prometheus.log").read_text(encoding="utf-8"))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("url", help="of Prometheus, http://127.0.0.1:9090")
    parser.add_argument("out", type=Path, help="picture, .svg or .png")
    parser.add_argument("--minutes", type=float, default=15)
    parser.add_argument("--rows", type=int, help="only the first so many rows of the dashboard")
    parser.add_argument("--interval", type=float, default=2, help="of scraping, in seconds")
    given = parser.parse_args()
    from tests.lab.dashboard_picture import draw  # needs matplotlib, as the benchmarks do

    end = time.time()
    panels = evaluate(Asker(given.url), end - given.minutes * 60, end, given.interval)
    draw(panels, given.out, given.rows)


if __name__ == "__main__":
    main()
