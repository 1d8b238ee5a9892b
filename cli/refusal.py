"""How a command says no: one line that names what is wrong and the fix, and an exit status. Never a traceback."""

from runtime.config import EXIT_TEMPORARY

EXIT_FAILED = 1
EXIT_USAGE = 2

__all__ = ["EXIT_FAILED", "EXIT_TEMPORARY", "EXIT_USAGE", "Refusal"]


class Refusal(Exception):
    """The command cannot be done; the text names the fix."""

    def __init__(self, text: str, status: int = EXIT_FAILED) -> None:
        super().__init__(text)
        self.status = status
