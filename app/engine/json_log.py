"""The log as one JSON object a line, for whoever collects logs: ``-x log-format=json``."""

from __future__ import annotations

import datetime
import json
import logging
from collections.abc import Callable, Mapping

_GIVEN = frozenset(vars(logging.makeLogRecord({}))) | {"message", "asctime", "taskName"}


class JsonFormatter(logging.Formatter):
    """Write time, level, logger and message, what a call gave as ``extra``, and what runs by then."""

    def __init__(self, runs: Callable[[], Mapping[str, object]] = dict) -> None:
        super().__init__()
        self._runs = runs

    def format(self, record: logging.LogRecord) -> str:
        """Return the record as one line."""
        line = {
            "time": datetime.datetime.fromtimestamp(record.created, datetime.UTC).isoformat(timespec="milliseconds"),
            "level": record.levelname,
            "logger": record.name,
            "message": record.getMessage(),
            **self._runs(),
            **{name: value for name, value in vars(record).items() if name not in _GIVEN},
        }
        if record.exc_info:
            line["error"] = self.formatException(record.exc_info)
        return json.dumps(line, default=str, ensure_ascii=False)


def as_line(level: str, logger: str, message: str) -> str:
    """Return what is told outside the log, as the message that a command ends with, in the form of its lines."""
    return JsonFormatter().format(logging.makeLogRecord({"levelname": level, "name": logger, "msg": message}))


def write_json(runs: Callable[[], Mapping[str, object]]) -> None:
    """Let every handler of the root logger write so from now on; ``runs`` tells what runs at the moment."""
    for handler in logging.getLogger().handlers:
        handler.setFormatter(JsonFormatter(runs))
