"""Shows how far a long loop is."""

import logging
import sys
import time

from tqdm import tqdm

logger = logging.getLogger(__name__)

PROGRESS_EVERY = 30.0  # seconds between two lines of progress, where there is no terminal


class Progress:
    """Shows how far a long loop is: as a bar in a terminal, else as a line in the log now and then.

    A context. total and done count units; shown is false in processes that leave this to another.
    """

    def __init__(
        self, name: str, total: int, done: int = 0, *, unit: str = "update", shown: bool = True
    ) -> None:
        in_terminal = sys.stderr.isatty()
        self.name, self.total, self.done, self.done_at_start = name, total, done, done
        self.unit, self.logs, self.words = unit, shown and not in_terminal, 0.0
        about = {"unit": unit, "leave": False, "disable": not (shown and in_terminal)}
        self.bar = tqdm(total=total, initial=done, desc=name, **about)
        self.started_at = self.logged_at = time.monotonic()

    def __enter__(self) -> "Progress":
        return self

    def __exit__(self, *_) -> None:
        self.bar.close()

    def advance(self, words: float, note: str = "") -> None:
        """Count a finished unit and the words in it; note: what else to show."""
        self.bar.update()
        if note:
            self.bar.set_postfix_str(note, refresh=False)
        self.done += 1
        self.words += words
        now = time.monotonic()
        if self.logs and self.done < self.total and now >= self.logged_at + PROGRESS_EVERY:
            speed = self.words / max(now - self.logged_at, 1e-9)
            rest = (self.total - self.done) / (self.done - self.done_at_start)
            logger.info(
                f"{self.name}: {self.unit} {self.done:,} of {self.total:,} "
                f"({100 * self.done / self.total:.0f} %), {speed:,.0f} words/s, "
                f"{duration(rest * (now - self.started_at))} left{note and f', {note}'}"
            )
            self.logged_at, self.words = now, 0.0


def duration(seconds: float) -> str:
    """A time for people: 95 s, 12 min, 3 h 20 min."""
    if seconds < 100:
        return f"{seconds:.0f} s"
    minutes = round(seconds / 60)
    return f"{minutes} min" if minutes < 100 else f"{minutes // 60} h {minutes % 60} min"
