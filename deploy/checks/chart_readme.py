"""Writes the values table of the chart's README from the `# --` comments of its values.yaml."""

import json
import pathlib
import re
import sys

import yaml

CHART = pathlib.Path(__file__).parents[2] / "helm" / "tidewire"
START, END = "<!-- values: written by deploy/checks/chart_readme.py -->", "<!-- end of values -->"


def rows(text):
    """Yields (path, default, description) of every key that has a `# --` comment."""
    values = yaml.safe_load(text)
    path, comment = [], []
    for line in text.splitlines():
        stripped = line.strip()
        if stripped.startswith("# --"):
            comment = [stripped.removeprefix("# --").strip()]
        elif stripped.startswith("#") and comment:
            comment.append(stripped.removeprefix("#").strip())
        elif key := re.match(r"( *)([A-Za-z0-9]+):", line):
            depth = len(key[1]) // 2
            path = [*path[:depth], key[2]]
            if comment:
                yield ".".join(path), default(values, path), " ".join(comment)
            comment = []
        else:
            comment = []


def default(values, path):
    for key in path:
        values = values[key]
    text = json.dumps(values, ensure_ascii=False)
    return f"`{text}`" if len(text) <= 60 else "see values.yaml"


def table(text):
    lines = ["| Value | Default | |", "|---|---|---|"]
    lines += [f"| `{path}` | {value} | {words} |" for path, value, words in rows(text)]
    return "\n".join(lines)


def readme():
    """The README as it should be."""
    text = (CHART / "README.md").read_text()
    before, rest = text.split(START)
    after = rest.split(END)[1]
    return f"{before}{START}\n\n{table((CHART / 'values.yaml').read_text())}\n\n{END}{after}"


if __name__ == "__main__":
    (CHART / "README.md").write_text(readme())
    sys.stderr.write("wrote the values table of helm/tidewire/README.md\n")
