import json
from dataclasses import replace

import pandas as pd
import pytest

from skip_exp.commands import report
from skip_exp.errors import SkipError
from skip_exp.report import ablations, contrasts, frame, screens
from skip_exp.report import grid as grids
from skip_exp.report.ablations import option_lines, overview
from tests.helpers.fakes import failed, result, store

SWEEP = """# Cost: little
defaults: [config, _self_]
sweep: {{question: 'Does it matter?', factor: [{factor}]}}
{more}
hydra:
  mode: MULTIRUN
  sweeper:
    params: {{+task: "sst2,rte,cola", seed: "1,2,3", {params}}}
"""
SCREEN = "retune: {enabled: false}\nbenchmark: {enabled: false}"
DEFAULT, OTHER = {}, {"prune.allocation": "uniform"}


def write(folder, name, factor, params, more=""):
    text = SWEEP.format(name=name, factor=factor, more=more, params=params)
    (folder / f"{name}.yaml").write_text(text)


def loaded(found):
    return frame.ordered(frame.rows(found))


def study(screen, found):
    return contrasts.study(screen, screens.scored(loaded(found)))


def page(found):
    return ablations.page(loaded(found))


@pytest.fixture(scope="module", autouse=True)
def sweeps(tmp_path_factory):
    """Two sweep files in place of the real ones: a screen, and one without a factor."""
    folder = tmp_path_factory.mktemp("sweeps")
    allocation = "prune.allocation: 'uniform,global', prune.ratio: '0.5,0.7'"
    write(folder, "ablation_allocation", "prune.allocation", allocation, SCREEN)
    write(folder, "ablation_confirm", "", "prune.ratio: 0.5", SCREEN)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(grids, "sweep_dir", lambda: folder)
        found = screens.read_all()  # once: composing takes its time
        patch.setattr(ablations, "read_all", lambda own: found)
        yield folder


@pytest.fixture(scope="module")
def config(sweeps):
    """The configuration of a job of the sweep, with keys changed."""
    text = json.dumps(grids.composed("ablation_allocation", ["+task=sst2"]))

    def changed(values):
        cfg = json.loads(text)
        for key, value in values.items():
            group, _, name = key.partition(".")
            cfg[group][name] = value
        return cfg

    return changed


@pytest.fixture(scope="module")
def screen(sweeps):
    return screens.read("ablation_allocation")


@pytest.fixture
def run(config):
    """A result: dense 0.8, n_eval 870 rows, majority 0.5; scores as given, on both splits."""

    def made(values, seed=1, task="sst2", ratio=0.5, retune=False, dense=0.8, **more):
        phases = {name: more.pop(name) for name in ("pruned", "final") if name in more}
        phases.setdefault("final", phases.get("pruned"))
        phases.setdefault("pruned", phases["final"])
        scores = {"dense": dense, **phases}
        name = "matthews" if task == "cola" else "accuracy"
        shifted = {phase: value - 0.01 for phase, value in scores.items()}
        given = {
            "config": config(values | {"retune.enabled": retune}),
            "job_id": json.dumps([task, seed, ratio, retune, values]),
            "select": scores,
            "metric": {"name": name, **shifted},
            "metrics": {name: shifted},
            "majority": {"accuracy": 0.5},
            "latency": {},
        }
        return result(task=task, ratio=ratio, seed=seed, **given | more)

    return made


def row(found, screen, label="uniform", phase="pruned", ratio=0.5):
    rows = study(screen, found).rows
    is_asked = (rows["option"] == label) & (rows["phase"] == phase) & (rows["ratio"] == ratio)
    (chosen,) = rows[is_asked].to_dict("records")
    return chosen


def test_a_sweep_file_is_read(screen):
    assert (screen.question, screen.factors) == ("Does it matter?", ["prune.allocation"])
    assert screen.command.endswith("--config-name ablation_allocation")
    assert list(screen.points["option"].unique()) == ["global", "uniform"]
    assert screen.reference == "global" and screen.is_default
    assert len(screen.pairs) == 9 and set(screen.points["ratio"]) == {0.5, 0.7}
    assert ["rte", "minilm", 3] in screen.pairs.to_numpy().tolist()


def test_a_sweep_without_a_factor_is_no_section():
    assert [screen.name for screen in screens.read_all()] == ["ablation_allocation"]


def test_sweeps_of_ones_own_stand_beside_the_packages(tmp_path):
    params = "prune.allocation: 'uniform,global', prune.ratio: '0.4'"
    write(tmp_path, "ablation_mine", "prune.allocation", params, SCREEN)
    names = [screen.name for screen in screens.read_all(tmp_path)]
    assert names == ["ablation_allocation", "ablation_mine"]
    mine = screens.read("ablation_mine", tmp_path)
    assert mine.reference == "global"
    assert mine.command == f"python -m skip_exp --config-dir {tmp_path} --config-name ablation_mine"


def test_several_factors_and_no_default_among_the_options(sweeps):
    text = "prune.allocation: 'uniform,per_cost', 'prune.sites': '[ffn],[ffn,heads]'"
    write(sweeps, "several", "prune.allocation, prune.sites", text)
    found = screens.read("several")
    (sweeps / "several.yaml").unlink()
    assert list(found.points["option"].unique()[:2]) == [
        "prune.allocation=uniform, prune.sites=[ffn]",
        "prune.allocation=uniform, prune.sites=[ffn,heads]",
    ]
    assert not found.is_default and found.reference == found.points["option"][0]
    assert set(found.points["ratio"]) == {0.5}


def test_a_factor_that_is_not_swept_is_refused(sweeps):
    write(sweeps, "wrong", "tune.lr", "prune.allocation: 'uniform,global'")
    with pytest.raises(SkipError, match=r"sweeps/wrong.yaml: sweep.factor is tune.lr, but"):
        screens.read("wrong")
    (sweeps / "wrong.yaml").unlink()


def test_a_sweep_with_more_set_than_it_compares_does_not_hold_the_default(run, sweeps):
    params, more = "prune.allocation: 'global,uniform'", "attribution: {samples: 8}"
    write(sweeps, "few", "prune.allocation", params, more)
    found = screens.read("few")
    (sweeps / "few.yaml").unlink()
    assert not found.is_default and found.reference == "global"
    few = {"attribution.samples": 8}
    runs = [run(few | values, 1, pruned=0.7) for values in (DEFAULT, OTHER)]
    (line,) = option_lines(study(found, runs).rows).to_dict("records")
    assert (line["section"], line["option"]) == ("few (against global)", "uniform")


def test_differences_are_exact_and_paired(run, screen):
    found = [run(DEFAULT, seed, pruned=0.6 + seed / 10) for seed in (1, 2, 3)]
    found += [run(OTHER, seed, pruned=0.6 + seed / 10 - 0.02 * seed) for seed in (2, 3)]
    default, other = row(found, screen, "global"), row(found, screen)
    assert (default["n"], default["is_reference"], other["n"]) == (3, True, 2)
    assert pd.isna(default["select difference"])
    assert default["select"] == pytest.approx(0.8)
    assert other["select"] == pytest.approx((0.76 + 0.84) / 2)
    assert other["validation"] == pytest.approx((0.75 + 0.83) / 2)
    select, validation = other["select difference"], other["validation difference"]
    assert select.mean == pytest.approx(-0.05) and validation.mean == pytest.approx(-0.05)
    assert other["select drop"] == pytest.approx(0.0)
    assert select.verdict == "none: under 5 pairs"


def test_options_are_compared_on_what_picked_no_epoch(run, screen):
    """Before re-tuning by the score itself, after it by the cross-fitted one, where all tell it."""
    told = {"select_crossfit": {"dense": 0.78, "final": 0.72}}
    less = {"select_crossfit": {"dense": 0.78, "final": 0.71}}
    found = [run(DEFAULT, 1, pruned=0.7, final=0.75, retune=True, **told)]
    found += [run(OTHER, 1, pruned=0.6, final=0.75, retune=True, **less)]
    final, pruned = row(found, screen, phase="final"), row(found, screen)
    assert final["select"] == pytest.approx(0.71)
    assert final["select difference"].mean == pytest.approx(-0.01)
    assert final["select drop"] == pytest.approx(0.78 - 0.71)
    assert final["validation"] == pytest.approx(0.74)
    assert pruned["select difference"].mean == pytest.approx(-0.1)
    assert pruned["select drop"] == pytest.approx(0.78 - 0.6)
    assert study(screen, found).crossfit and "not cross-fitted here" not in page(found)
    # dense_continued is one of those that have to tell it.
    continued = run(DEFAULT, 1, ratio=0, retune=True, final=0.82)
    for more, drop in ((told, 0.06), ({}, 0.07)):  # 0.78 - 0.72; 0.82 - 0.75
        every = [*found, continued | more]
        assert study(screen, every).crossfit == bool(more)
        assert row(every, screen, "global", "final")["select drop"] == pytest.approx(drop)
    line = "Select is not cross-fitted here: not all results tell it."
    assert line in page([*found, continued]).splitlines()


def test_verdicts_are_corrected_for_all_comparisons_of_the_page(run, screen):
    """Doubtful at 0.5, nothing at 0.7: p counts twice where two were asked about."""
    found = []
    for seed in (1, 2, 3):
        for task, at in {
            "sst2": {0.5: 0.004 * (seed - 2), 0.7: -0.01},
            "rte": {0.5: 0.01, 0.7: 0.01},
            "mrpc": {0.5: 0.011, 0.7: 0.0},
        }.items():
            for ratio, gain in at.items():
                found.append(run(DEFAULT, seed, task, ratio, pruned=0.6))
                found.append(run(OTHER, seed, task, ratio, pruned=0.6 + gain))
    three = replace(screen, pairs=screen.pairs.replace({"cola": "mrpc"}))
    alone = study(three, found)
    (corrected,) = contrasts.corrected([alone])
    before, after = (of.rows["select difference"].dropna().to_list() for of in (alone, corrected))
    assert [d.verdict for d in before] == ["better", "tie"] and 0.025 < before[0].p < 0.05
    assert [d.verdict for d in after] == ["tie", "tie"]
    assert after[0].corrected == pytest.approx(2 * before[0].p)


def test_without_a_pair_there_are_no_figures(run, screen):
    found = [run(DEFAULT, 1, pruned=0.7), run(OTHER, 2, pruned=0.6)]
    assert row(found, screen)["n"] == 0 and pd.isna(row(found, screen)["select"])
    assert row(found, screen, "global")["n"] == 1


def test_points_outside_the_grid_and_generated_data_do_not_count(run, screen):
    found = [run(DEFAULT, 1, pruned=0.7), run(OTHER, 1, pruned=0.6)]
    strangers = [
        run(OTHER, 4, pruned=0.1),
        run(OTHER, 2, ratio=0.6, pruned=0.1),
        run(OTHER, 2, pruned=0.1, data_is_sample=True),
        run(OTHER | {"tune.lr": 7.0}, 2, pruned=0.1),
        failed(seed=2, config=found[1]["config"]),
    ]
    strangers += [run(DEFAULT, 2, pruned=0.7)]
    assert row([*found, *strangers], screen)["n"] == 1
    assert row([*found, *strangers], screen, "global")["n"] == 2


def test_a_retuned_result_counts_before_re_tuning_as_well(run, screen):
    """Screens, confirmations and timed jobs share what their settings share."""
    timed = {"benchmark.enabled": True}
    found = [
        run(DEFAULT | timed, 1, pruned=0.7, final=0.75, retune=True),
        run(OTHER, 1, pruned=0.6),
    ]
    assert row(found, screen)["select difference"].mean == pytest.approx(-0.1)
    assert row(found, screen, "global", "final")["n"] == 1
    assert row(found, screen, phase="final")["n"] == 0  # the screen's final is its pruned model
    other = run(DEFAULT | {"retune.lr": 1.0}, 2, pruned=0.7, final=0.9, retune=True)
    assert row([*found, other], screen, "global")["n"] == 2
    assert row([*found, other], screen, "global", "final")["n"] == 1


def test_a_later_result_without_timing_does_not_hide_the_speed(run, screen):
    early = {"retune": True, "final": 0.7, "finished": "2024-01-01T00:00:00+00:00"}
    timed = run(DEFAULT, 1, latency={"speedup": 2.0, "contended": False}, **early)
    late = run(DEFAULT, 1, retune=True, final=0.6, finished="2024-01-02T00:00:00+00:00")
    found = row([timed, late | {"job_id": "late"}], screen, "global", "final")
    assert found["select"] == pytest.approx(0.6)
    assert found["speed"] == 2.0 and not found["contended"]


def test_contended_is_no_speedup(run, screen):
    loud = {"latency": {"speedup": 1.5, "contended": True}, "retune": True, "final": 0.7}
    found = row([run(DEFAULT, 1, **loud)], screen, "global", "final")
    assert pd.isna(found["speed"]) and found["contended"]
    assert "contended" in page([run(DEFAULT, 1, **loud), run(OTHER, 1, **loud)])


def test_at_chance_is_left_out_and_listed(run, screen):
    found = []
    for seed in (1, 2, 3):
        for task, dense in (("sst2", 0.8), ("rte", 0.52), ("cola", 0.06)):
            found.append(run(DEFAULT, seed, task, dense=dense, pruned=0.5))
            low = 0.4 if task == "sst2" else 0.1
            found.append(run(OTHER, seed, task, dense=dense, pruned=low))
    other = row(found, screen)
    assert other["n"] == 3
    assert other["select difference"].mean == pytest.approx(-0.1)
    assert other["select drop"] == pytest.approx(0.4)
    text = page(found)
    assert "rte on minilm (dense 51.0 ± 0.0, majority class 50.0, accuracy)" in text
    assert "cola on minilm (dense 5.0 ± 0.0, majority class 0.0, matthews)" in text
    assert "sst2 on minilm (dense" not in text and "| 3 of 3 |" in text


def finals(run, continued, seeds=(1, 2)):
    found = [run(DEFAULT, seed, retune=True, final=0.7) for seed in seeds]
    for seed, score in continued.items():  # whatever chose: nothing was cut
        at = {"attribution": "random", "job_id": f"continued {seed}"}
        values = {"prune.allocation": "uniform"}
        found.append(run(values, seed, ratio=0, retune=True, final=score, **at))
    return found


@pytest.mark.parametrize(
    ("continued", "drop", "bare"),
    [
        ({}, 0.1, 2),  # dense 0.8
        ({1: 0.85, 2: 0.95}, 0.2, 0),
        ({1: 0.7, 2: 0.79}, 0.1, 0),  # dense is the better one
        ({1: 0.75, 2: 0.87}, 0.11, 0),  # better in the mean, not per seed: (0.05 + 0.17) / 2
        ({2: 0.9}, 0.15, 1),  # (0.1 + 0.2) / 2
    ],
)
def test_final_scores_are_measured_against_the_better_dense(run, screen, continued, drop, bare):
    final = row(finals(run, continued), screen, "global", "final")
    assert final["select drop"] == pytest.approx(drop)
    assert final["validation drop"] == pytest.approx(drop)
    assert final["bare"] == bare
    pruned = row(finals(run, continued), screen, "global", "pruned")
    assert pruned["select drop"] == pytest.approx(0.1)  # against dense, whatever continued is


def test_other_re_tuning_is_no_dense_continued(run, screen):
    found = finals(run, {})
    values = {"retune.train": "prompt"}
    found.append(run(values, 1, ratio=0, retune=True, final=0.9))
    found.append(run({"prune.step_epochs": 2}, 1, ratio=0, retune=True, final=0.9))
    found.append(run(DEFAULT, 2, ratio=0, retune=False, final=0.9))
    final = row(found, screen, "global", "final")
    assert (final["bare"], final["select drop"]) == (2, pytest.approx(0.1))


def test_a_budget_of_re_tuning_is_known_by_the_epochs_it_comes_to(run, tmp_path, monkeypatch):
    params = "retune.budget: '0,1.2', prune.ratio: '0.5,0.9'"
    write(tmp_path, "ablation_budget", "retune.budget", params)
    monkeypatch.setattr(grids, "sweep_dir", lambda: tmp_path)
    screen = screens.read("ablation_budget")
    assert list(screen.points["option"].unique()) == ["1.2", "0"]
    assert screen.is_default and screen.reference == "1.2"
    none, nine = {"retune.budget": 0}, {"retune.epochs": 9, "retune.patience": 6}
    heavy = {"ratio": 0.9, "retune": True, "final": 0.7}
    found = [run(DEFAULT, 1, **heavy), run(none | nine, 2, **heavy), run(none, 3, **heavy)]
    found += [run(DEFAULT, 1, **heavy | {"ratio": 0}), run(nine, 2, **heavy | {"ratio": 0})]
    scored = screens.scored(loaded(found))
    points = screen.points[(screen.points["ratio"] == 0.9) & (screen.points["phase"] == "final")]
    seeds = points.merge(scored, on=["phase", "ratio", "identity"]).groupby("option")["seed"]
    assert seeds.agg(list).to_dict() == {"0": [3], "1.2": [1, 2]}
    continued = scored[scored["phase"] == screens.CONTINUED].rename(columns={"ratio": "of"})
    points = points.drop(columns="identity").rename(columns={screens.CONTINUED: "identity"})
    seeds = points.drop(columns="phase").merge(continued, on="identity").groupby("option")["seed"]
    assert seeds.agg(list).to_dict() == {"0": [1], "1.2": [2]}
    compared = screen.points[(screen.points["ratio"] == 0.5) & (screen.points["phase"] == "final")]
    assert list(compared["option"]) == ["1.2"]  # at 0.5 the budget makes no difference


@pytest.fixture
def told(run):
    """Two tasks, three seeds: 0.1 worse at 0.5, tie at 0.7; default confirmed, half continued."""
    found = []
    for task, dense in (("sst2", 0.8), ("rte", 0.7)):
        for seed in (1, 2, 3):
            for ratio in (0.5, 0.7):
                worse = 0.1 if ratio == 0.5 else (-0.01, 0.01)[task == "rte"]
                given = {"task": task, "ratio": ratio, "dense": dense}
                found.append(run(DEFAULT, seed, pruned=0.6, **given))
                found.append(run(OTHER, seed, pruned=0.6 - worse, **given))
            latency = {"speedup": 2.0, "contended": False}
            given = {"task": task, "dense": dense, "retune": True, "latency": latency}
            found.append(run(DEFAULT, seed, pruned=0.6, final=0.65, **given))
    found.append(run(DEFAULT, 1, ratio=0, retune=True, final=0.9))
    found += [failed("out of memory"), run(OTHER, 1, pruned=0.5, data_is_sample=True)]
    found.append(run({"tune.lr": 7.0}, pruned=0.1))
    return found


def test_the_page(told):
    lines = page(told).splitlines()
    assert "### allocation, ratio 0.5" in lines and "Does it matter?" in lines
    assert "Factor: `prune.allocation`. Default: `global`." in lines
    worse = "| pruned | uniform | 6 of 9 | 50.0 | 25.0 | -10.00 [-10.00, -10.00] | worse |"
    assert any(line.startswith(worse) for line in lines)
    # sst2: seed 1 against 0.9, seeds 2 and 3 against dense 0.8; rte against dense 0.7
    default = "| final | global (default) | 6 of 9 | 65.0 | 11.7 † | - |  | 64.0 | 11.7 † | - |"
    assert f"{default} 2.00 ± 0.00x |" in lines
    assert "| dense\\_continued | 1 of 9 | 90.0 | 89.0 |" in lines
    assert "dense_continued is the better one: sst2 on minilm." in lines
    assert any("| tie |" in line for line in lines if line.startswith("| pruned | uniform"))
    assert (
        "Of 34 result files not used: 1 failed, 1 on generated data, 1 with settings of no section"
        " (see `config` in the result file)."
    ) in lines
    assert "| total | 31 | 1860 |" in lines and "| ablation\\_allocation | 31 | 1860 |" in lines


def test_what_was_not_run_is_a_line_and_no_row(told, run):
    lines = page(told).splitlines()
    told_so = "No results: `uniform` after re-tuning at 0.5, 0.7; `global` after re-tuning at 0.7."
    assert told_so in lines
    assert not any("| 0 of 9 |" in line for line in lines)
    alone = page([run(DEFAULT, 1, pruned=0.7)])
    assert "No results yet." in alone and "ablation\\_allocation" not in alone


def test_the_page_starts_with_every_option_in_one_line(told):
    top = page(told).split("## How to read it")[0].splitlines()
    assert top[:3] == ["# Ablations", "", "## In short"]
    assert "| 0.5 | 6 | 65.0 | 11.7 † | 64.0 | 11.7 † | 2.00 ± 0.00x |" in top
    assert "| allocation | uniform | worse -10.0 | tie +0.0 |" in top
    assert "| section | option | before, 0.5 | before, 0.7 |" in top  # nothing after re-tuning


def test_few_pairs_have_no_verdict_and_no_results_no_tables(run, screen):
    found = [run(DEFAULT, 1, pruned=0.7), run(OTHER, 1, pruned=0.6)]
    (line,) = option_lines(study(screen, found).rows).to_dict("records")
    assert line == {"section": "allocation", "option": "uniform", "before, 0.5": "(-10.0)"}
    assert overview(study(screen, []).rows) == []


def test_what_did_not_work_is_listed_by_itself(told):
    text = page(told)
    better, worse = text.split("## What was better than the default")[1].split(
        "## What did not work"
    )
    assert better.strip() == "Nothing so far."
    listed = [line for line in worse.splitlines() if line.startswith("- ")]
    assert listed == [
        "- allocation: `uniform` at ratio 0.5, before re-tuning:"
        " -10.00 [-10.00, -10.00] on select (6 pairs: rte -10.00, sst2 -10.00)"
    ]


def test_reused_copies_are_one_job(run):
    one = run(DEFAULT, 1, pruned=0.7)
    assert "| total | 1 | 60 |" in page([one, one | {"reused": True}])


def test_every_row_of_a_table_has_the_same_columns(told):
    blocks = page(told).split("\n\n")
    tables = [block.splitlines() for block in blocks if block.startswith("|")]
    assert len(tables) == 6
    for lines in tables:
        assert len({line.replace("\\|", "").count("|") for line in lines}) == 1
        assert max(map(len, lines)) < 160  # readable as it is


def test_the_command_writes_the_page(told, tmp_path, capsys):
    store(tmp_path / "jobs", told)
    out = tmp_path / "docs" / "ablations.md"
    assert ablations.main([str(tmp_path / "jobs"), "--out", str(out)]) == 0
    first = out.read_text()
    assert first.startswith("# Ablations") and str(tmp_path) not in first
    assert capsys.readouterr().out == f"written: {out}\n"
    assert ablations.main([str(tmp_path / "jobs"), "--out", str(out)]) == 0
    assert out.read_text() == first  # the same results, the same page


def test_the_page_is_the_same_from_the_compact_file(told, tmp_path):
    store(tmp_path / "jobs", told)
    assert report.main([str(tmp_path / "jobs"), "--out", str(tmp_path / "report")]) == 0
    sources = tmp_path / "jobs", tmp_path / "report" / "results.csv"
    for name, source in zip("ab", sources, strict=True):
        assert ablations.main([str(source), "--out", str(tmp_path / name)]) == 0
    assert (tmp_path / "a").read_text() == (tmp_path / "b").read_text()


def test_refusals_are_one_line(told, tmp_path, capsys):
    assert ablations.main([str(tmp_path)]) == 1
    assert "run a job first" in capsys.readouterr().err
    store(tmp_path / "jobs", told[:1])
    (tmp_path / "file").write_text("")
    assert ablations.main([str(tmp_path / "jobs"), "--out", str(tmp_path / "file" / "x.md")]) == 1
    error = capsys.readouterr().err
    assert "cannot be written" in error and error.count("\n") == 1
