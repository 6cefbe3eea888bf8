# SPDX-FileCopyrightText: 2026 The l4lb.xdp authors
# SPDX-License-Identifier: GPL-3.0-or-later
"""What every error of this library is: a text that names the thing and the remedy.

Private to the collection. Modules turn these into `fail_json` in one place.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any


class L4lbError(Exception):
    """Something is not as it must be; the text says what to do about it. `data` goes into the
    module's result, and `warnings` are what is to be said besides.
    """

    def __init__(
        self,
        text: str = "",
        data: Mapping[str, Any] | None = None,
        warnings: Sequence[str] = (),
    ) -> None:
        super().__init__(text)
        self.data = dict(data or {})
        self.warnings = list(warnings)
