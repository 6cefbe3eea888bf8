# SPDX-FileCopyrightText: 2026 The l4lb.xdp authors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Arguments to command. A command's own modules are imported when it is run: some take long."""

from __future__ import annotations

import argparse
import importlib
import json
import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import argcomplete

from ansible_collections.l4lb.xdp.plugins.module_utils._agent_status import RUN_DIR
from ansible_collections.l4lb.xdp.plugins.module_utils._applied import STATE_DIR
from ansible_collections.l4lb.xdp.plugins.module_utils._errors import L4lbError

PINS, SOURCE = "/run/l4lb/bpf", "/usr/lib/l4lb/bpf"
"""As in _schema, which loads bcc."""

WELL, WRONG, USAGE, ABSENT = 0, 1, 2, 3


class CliError(L4lbError):
    """What is said before the command ends with this status."""

    def __init__(self, text: str, status: int = WRONG) -> None:
        super().__init__(text)
        self.status = status


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs a command and returns its exit status."""
    parser = make_parser()
    argcomplete.autocomplete(parser)
    given = parser.parse_args(arguments)
    command = importlib.import_module(f"l4lb_agent.cli.{given.command}")
    try:
        return int(command.run(given))
    except CliError as error:
        status, text = error.status, str(error)
    except L4lbError as error:
        status, text = _status_of(error), str(error)
    except KeyboardInterrupt:
        return 130
    except BrokenPipeError:  # whoever read has seen enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return WELL
    print(f"l4lb: {text}", file=sys.stderr)
    return status


def _status_of(error: L4lbError) -> int:
    """By the name of the class: to import them would load bcc."""
    return {"SchemaError": ABSENT, "PacketError": USAGE}.get(type(error).__name__, WRONG)


def make_parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="l4lb",
        description="What this node balances, announces and sees.",
        epilog="Exit status: 0 well, 1 something is wrong, 2 wrong usage, 3 no agent, or no "
        "balancer prepared here.",
    )
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    _command(commands, "status", "whether all is well, and what is not")
    _services(_command(commands, "services", "services: announced or not, and their traffic"))
    _backends(_command(commands, "backends", "backends: health, weight, traffic"))
    _top(_command(commands, "top", "packets and bits a second, live; q ends"))
    _trace(_command(commands, "trace", "packets as they come, what became of each, and why"))
    _explain(_command(commands, "explain", "where a packet would go, and why; sends none"))
    return parser


def _command(commands: Any, name: str, text: str) -> argparse.ArgumentParser:
    parser: argparse.ArgumentParser = commands.add_parser(
        name, help=text, description=text[0].upper() + text[1:] + "."
    )
    parser.add_argument("--json", action="store_true", help="JSON, for programs")
    for option, default in (
        ("--pins", PINS),
        ("--source", SOURCE),
        ("--state-dir", STATE_DIR),
        ("--run-dir", RUN_DIR),
    ):
        parser.add_argument(
            option, type=Path, default=Path(default), metavar="DIR", help=argparse.SUPPRESS
        )
    return parser


def _services(parser: argparse.ArgumentParser) -> None:
    names = parser.add_argument("name", nargs="*", help="only these services")
    _completes(names, "services")
    _of_pool(parser, "only services of this pool")


def _backends(parser: argparse.ArgumentParser) -> None:
    addresses = parser.add_argument("address", nargs="*", help="only these backends")
    _completes(addresses, "backends")
    _of_pool(parser, "only backends of this pool")


def _of_pool(parser: argparse.ArgumentParser, text: str) -> None:
    _completes(parser.add_argument("--pool", help=text), "pools")


def _top(parser: argparse.ArgumentParser) -> None:
    _of_pool(parser, "only services and backends of this pool")
    parser.add_argument("--interval", type=_seconds, default=1.0, help="seconds, default 1")
    parser.add_argument("--count", type=_positive, metavar="N", help="end after N intervals")
    parser.add_argument(
        "--once", action="store_const", const=1, dest="count", help="the same as --count 1"
    )


def _trace(parser: argparse.ArgumentParser) -> None:
    _completes(
        parser.add_argument("--service", metavar="NAME", help="only this service"), "services"
    )
    _completes(
        parser.add_argument("--backend", metavar="ADDRESS", help="only this backend"), "backends"
    )
    parser.add_argument(
        "--from", dest="client", metavar="ADDRESS", help="only from this address or prefix"
    )
    parser.add_argument("--verdict", help="only with this verdict, e.g. drop_unserved")
    parser.add_argument("--drops", action="store_true", help="only what is dropped")
    parser.add_argument(
        "--sample", type=_positive, default=1, metavar="N", help="one packet in N, at random"
    )
    parser.add_argument("--count", type=_positive, metavar="N", help="end after N packets")
    parser.add_argument("--seconds", type=_seconds, metavar="S", help="end after S seconds")


def _explain(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("protocol", help="tcp, udp, sctp or another protocol's name or number")
    parser.add_argument("client", metavar="SOURCE", help="address:port, or [address]:port")
    parser.add_argument("server", metavar="DESTINATION", help="address:port")
    parser.add_argument(
        "--opens", action="store_true", help="a TCP SYN or SCTP INIT, which opens a connection"
    )
    parser.add_argument(
        "--connection-id", metavar="HEX", help="of a QUIC packet: the id that a server issued"
    )
    parser.add_argument("--interface", help="the interface that it comes in by")


def _seconds(text: str) -> float:
    value = float(text)
    if not 0.1 <= value <= 86_400:
        raise argparse.ArgumentTypeError(f"{text} is not from 0.1 to 86400 seconds")
    return value


def _positive(text: str) -> int:
    value = int(text)
    if value < 1:
        raise argparse.ArgumentTypeError(f"{text} is not 1 or more")
    return value


# --- completion ---


def _completes(action: argparse.Action, kind: str) -> None:
    """The names of services or pools, the addresses of backends, as they were applied."""

    def names(parsed_args: argparse.Namespace, **_more: Any) -> list[str]:
        path = Path(parsed_args.state_dir) / "services.json"
        try:
            return applied_names(json.loads(path.read_text(encoding="utf-8")), kind)
        except (OSError, ValueError, KeyError, TypeError, AttributeError):
            return []  # whoever presses the tabulator wants no traceback

    action.completer = names  # type: ignore[attr-defined]


def applied_names(content: dict[str, Any], kind: str) -> list[str]:
    """Of services.json."""
    if kind == "services":
        return [service["name"] for service in content["services"]]
    if kind == "pools":
        return list(content["pools"])
    return [b["address"] for pool in content["pools"].values() for b in pool["backends"]]
