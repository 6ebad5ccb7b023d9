"""Prompts that transformers renders from the templates of test/fixtures/templates, for test/text/template-reference.test.ts.

    python3 scripts/reference/chat_templates.py OUT.json
"""
import datetime
import json
import sys
from pathlib import Path

from transformers.utils import chat_template_utils as utils

FOLDER = Path(__file__).resolve().parents[2] / "test/fixtures/templates"
NOW = datetime.datetime(2025, 3, 9, 8, 7, 6)


class Clock(datetime.datetime):
    @classmethod
    def now(cls, tz=None):
        return NOW


utils.datetime = Clock


def render(source, values, conversation):
    template = utils._compile_jinja_template(source)
    arguments = {**values, **conversation.get("variables", {})}
    try:
        return template.render(
            messages=conversation["messages"], tools=conversation.get("tools"), documents=None,
            add_generation_prompt=conversation.get("add_generation_prompt", True), **arguments)
    except Exception:
        return None  # refused


def main(out):
    source = json.loads((FOLDER / "conversations.json").read_text())
    rendered = {
        path.stem: {name: render(path.read_text(), source["values"], conversation)
                    for name, conversation in source["conversations"].items()}
        for path in sorted(FOLDER.glob("*.jinja"))
    }
    Path(out).write_text(json.dumps(rendered, indent=1, ensure_ascii=False) + "\n")


if __name__ == "__main__":
    main(sys.argv[1])
