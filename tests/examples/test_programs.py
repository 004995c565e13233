"""The notebook, its cells in order; an ONNX export in Node and in a headless Chromium."""

import json
import os
import re
import shutil
import subprocess
import threading
from collections.abc import Iterator
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from queue import Queue
from typing import Any

import matplotlib
import pytest

from skip_exp import OnnxSkill, Skill
from skip_exp.backbones import embedded
from skip_exp.logger.build import save_picture
from skip_exp.phases import finish
from tests.helpers.saved import save_tiny_skill
from tests.helpers.written import ROOT

NOTEBOOK = json.loads((ROOT / "examples/quickstart.ipynb").read_text(encoding="utf-8"))


def code() -> list[str]:
    return ["".join(c["source"]) for c in NOTEBOOK["cells"] if c["cell_type"] == "code"]


def test_it_is_stored_without_what_a_run_printed() -> None:
    cells = [cell for cell in NOTEBOOK["cells"] if cell["cell_type"] == "code"]
    assert not [cell for cell in cells if cell["outputs"] or cell["execution_count"]]


@pytest.mark.slow
def test_every_cell_runs(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture) -> None:
    pytest.importorskip(embedded.PACKAGE)
    monkeypatch.setattr(finish, "save_picture", save_picture)  # other tests do without
    matplotlib.use("agg")
    monkeypatch.chdir(Path.cwd())  # back again at the end
    names: dict[str, Any] = {}
    for cell in code():
        exec(cell, names)
    printed = capsys.readouterr().out
    assert re.search(r"^final +[\d.]+ % f1_macro$", printed, re.MULTILINE)
    assert re.search(r"^the skill: \d+ kB$", printed, re.MULTILINE)
    assert "'model.safetensors'" in printed


# The last is longer than the skill's 24 tokens: transformers.js cuts its last special token, too.
TEXTS = ["a warm film", "dull", "the plot is long and not funny", "very good " * 14]
NEAR = [1e-4, 1e-4, 1e-4, 1e-3]
FORMS = ["fp32", "int8"]
# Types each text into the page in the frame, and sends what the page then shows.
DRIVER = """<!DOCTYPE html><iframe src="PAGE"></iframe><script type="module">
const frame = document.querySelector('iframe'), found = [];
const wait = () => new Promise(resolve => setTimeout(resolve, 20));
const inside = id => frame.contentDocument?.getElementById(id);
const send = content => fetch('/found', { method: 'POST', body: JSON.stringify(content) });
while (!inside('status')?.textContent.endsWith(' ms')) {
  if (inside('status')?.textContent.startsWith('Failed')) await send(inside('status').textContent);
  await wait();
}
for (const text of TEXTS) {
  inside('text').value = text;
  inside('text').dispatchEvent(new Event('input'));
  while (inside('answer').dataset.text !== text) await wait();
  found.push([...inside('answer').children].map(row => [
    row.firstChild.textContent, row.querySelector('progress').value]));
}
await send(found);
</script>"""


class Handler(SimpleHTTPRequestHandler):
    """Serves a folder; what is posted goes into ``found``."""

    found: Queue[Any] = Queue()

    def do_POST(self) -> None:
        self.found.put(json.loads(self.rfile.read(int(self.headers["Content-Length"]))))
        self.send_response(204)
        self.end_headers()

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture(scope="module")
def site(onnx_packages: None, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The examples, a skill, its exports by form, and ``node_modules``."""
    if not shutil.which("node"):
        pytest.skip("needs Node")
    place = tmp_path_factory.mktemp("site")
    given = os.environ.get("SKIP_EXP_NODE_MODULES")
    if given:
        (place / "node_modules").symlink_to(given)
    else:
        install = ["npm", "install", "--ignore-scripts", "@huggingface/transformers@4"]
        done = shutil.which("npm") and subprocess.run(install, cwd=place, capture_output=True)
        if not done or done.returncode:
            pytest.skip("needs npm's @huggingface/transformers")
    for example in ("transformers_js.mjs", "browser/index.html"):
        shutil.copy(ROOT / "examples" / example, place)
    skill = Skill.load(save_tiny_skill(place / "toy").folder)
    for form in FORMS:
        skill.export(place / form, "onnx", int8=form == "int8")
    return place


@pytest.fixture
def address(site: Path) -> Iterator[str]:
    with ThreadingHTTPServer(("127.0.0.1", 0), partial(Handler, directory=site)) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()


def expect(site: Path, form: str) -> list[dict[str, Any]]:
    """What Python answers: the skill itself, or its 8-bit export."""
    skill = Skill.load(site / "toy/skill") if form == "fp32" else OnnxSkill.load(site / form)
    return skill.predict(TEXTS)


def check(found: list[list[tuple[str, float]]], expected: list[dict[str, Any]]) -> None:
    """Labels and probabilities, the most probable first."""
    for pairs, answer, near in zip(found, expected, NEAR, strict=True):
        assert pairs[0][0] == answer["label"]
        assert dict(pairs) == pytest.approx(answer["probabilities"], abs=near)


@pytest.mark.slow
@pytest.mark.parametrize("form", FORMS)
def test_node_gives_the_same_answers(site: Path, form: str) -> None:
    command = ["node", "transformers_js.mjs", form, *TEXTS]
    done = subprocess.run(command, cwd=site, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    lines = [json.loads(line) for line in done.stdout.splitlines()]
    found = [[(each["label"], each["score"]) for each in line] for line in lines]
    check(found, expect(site, form))


@pytest.mark.slow
@pytest.mark.parametrize("form", FORMS)
def test_the_page_gives_the_same_answers_as_one_types(
    site: Path, address: str, form: str, tmp_path: Path
) -> None:
    chromium = shutil.which("chromium") or shutil.which("google-chrome")
    if not chromium:
        pytest.skip("needs Chromium")
    page = f"index.html?model={form}&lib=node_modules"
    driver = DRIVER.replace("PAGE", page).replace("TEXTS", json.dumps(TEXTS))
    (site / "driver.html").write_text(driver)
    flags = ["--headless", "--no-sandbox", "--disable-gpu", f"--user-data-dir={tmp_path}"]
    browser = subprocess.Popen([chromium, *flags, f"{address}/driver.html"], stderr=-3, stdout=-3)
    try:
        found = Handler.found.get(timeout=120)
    finally:
        browser.terminate()
        browser.wait()
    check(found, expect(site, form))
