"""One HTML file from a template of ``report/templates``: no network, scripts or other files."""

from datetime import UTC, datetime
from typing import Any

from jinja2 import Environment, PackageLoader


def render(template: str, **values: Any) -> str:
    """The page of a template and its values, with the time at which it was ``written``."""
    loader = PackageLoader("skip_exp.report")
    layout = Environment(loader=loader, autoescape=True, trim_blocks=True, lstrip_blocks=True)
    written = datetime.now(UTC).strftime("%Y-%m-%d %H:%M UTC")
    return layout.get_template(template).render(written=written, **values)
