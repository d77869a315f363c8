"""Pages of which a benchmark writes a part: what is between two marks."""

from dataclasses import dataclass


class NoSection(Exception):
    """A page has not the two marks, each once and in their order."""


@dataclass(frozen=True)
class Marks:
    """The two lines, which name the command that writes between them."""

    command: str

    @property
    def begin(self) -> str:
        """The first one."""
        return f"<!-- Written by `{self.command}`. -->"

    @property
    def end(self) -> str:
        """The other one."""
        return f"<!-- The end of what `{self.command}` wrote. -->"

    def replaced(self, text: str, shown: str) -> str:
        """``text`` with ``shown`` between the marks, in place of what was there.

        Raises :class:`NoSection`.
        """
        before, begin, rest = text.partition(self.begin)
        _, end, after = rest.partition(self.end)
        if not (begin and end) or self.begin in rest or self.end in before + after:
            raise NoSection(f"the page needs the lines {self.begin} and {self.end}, each once")
        return f"{before}{self.begin}\n\n{shown}\n\n{self.end}{after}"
