"""Tables as plain values, shown by rich or written as markdown."""

from dataclasses import dataclass, field


@dataclass
class Table:
    title: str
    columns: tuple
    rows: list = field(default_factory=list)
    notes: tuple = ()

    def add(self, *cells):
        self.rows.append(tuple(map(str, cells)))

    def rich(self):
        from rich.table import Table as Rich

        table = Rich(title=self.title, title_justify="left", caption="\n".join(self.notes), caption_justify="left")
        for number, name in enumerate(self.columns):
            table.add_column(name, justify="right" if number else "left")
        for row in self.rows:
            table.add_row(*(cell.replace("[", r"\[") for cell in row))
        return table

    def markdown(self):
        lines = [f"### {self.title}", "", row_of(self.columns), row_of("---" for _ in self.columns)]
        return "\n".join([*lines, *map(row_of, self.rows), "", *(f"{note}\n" for note in self.notes)])


def row_of(cells):
    return f"| {' | '.join(cells)} |"
