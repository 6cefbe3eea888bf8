# SPDX-FileCopyrightText: 2026 The l4lb.xdp authors
# SPDX-License-Identifier: GPL-3.0-or-later
"""How a module of the collection ends: one place for results, diffs and errors.

Private to the collection. Uses three things of AnsibleModule: exit_json, fail_json, warn.
"""

from __future__ import annotations

import traceback
from collections.abc import Callable
from typing import Any

from ansible_collections.l4lb.xdp.plugins.module_utils._applied import STATE_DIR
from ansible_collections.l4lb.xdp.plugins.module_utils._errors import L4lbError
from ansible_collections.l4lb.xdp.plugins.module_utils._outcome import Outcome
from ansible_collections.l4lb.xdp.plugins.module_utils._schema import PINS, SOURCE, Sizes

PATHS = {
    "source": {"type": "path", "default": SOURCE},
    "pins": {"type": "path", "default": PINS},
}
STATE = {"state_dir": {"type": "path", "default": STATE_DIR}}
"""Arguments that modules share; documented in doc_fragments/paths.py."""
SIZES = {
    "ring_size" if size == "ring" else f"max_{size}": {"type": "int", "default": usual}
    for size, usual in vars(Sizes()).items()
}
"""How much the balancer's maps hold; documented in doc_fragments/sizes.py."""


def finish(module: Any, work: Callable[[], Outcome], subject: str) -> None:
    """Runs the work and ends the module with its outcome, or with the error's text."""
    try:
        outcome = work()
    except L4lbError as error:
        for warning in error.warnings:
            module.warn(warning)
        module.fail_json(msg=str(error), **error.data)
        return
    except OSError as error:
        module.fail_json(msg=f"the system refuses: {error}")
        return
    except Exception as error:
        # A mistake of ours, or bcc's plain Exception; Ansible shows the traceback with -vvv.
        text = f"unexpected {type(error).__name__}: {error}"
        module.fail_json(msg=text, exception=traceback.format_exc())
        return
    for warning in outcome.warnings:
        module.warn(warning)
    module.exit_json(changed=outcome.changed, diff=_diffs(outcome, subject), **outcome.data)


def _diffs(outcome: Outcome, subject: str) -> list[dict[str, str]]:
    """Only the lines that differ: each says by itself what it is about, and of thousands of
    services the others would not be read.
    """
    kept = set(outcome.before) & set(outcome.after)
    diff = {
        "before_header": subject,
        "before": _text([line for line in outcome.before if line not in kept]),
        "after_header": subject,
        "after": _text([line for line in outcome.after if line not in kept]),
    }
    if not outcome.notes:
        return [diff]
    return [diff, {"prepared": _text(outcome.notes)}]


def _text(lines: list[str]) -> str:
    return "".join(f"{line}\n" for line in lines)
