"""Overrides first, flags after them: whatever Hydra's own parser knows as a flag with a value."""

import pytest

from skip_exp.sweep import flags


@pytest.mark.parametrize(
    ("arguments", "sorted_ones"),
    [
        ("+task=rte seed=1", "+task=rte seed=1"),
        ("-m +task=rte", "+task=rte -m"),
        ("+task=rte -m seed=1,2", "+task=rte seed=1,2 -m"),
        ("--config-dir d +task=rte -cn c -m a=1", "+task=rte a=1 --config-dir d -cn c -m"),
        ("--config-dir=d +task=rte", "+task=rte --config-dir=d"),
        ("--config-n c +task=rte", "+task=rte --config-n c"),
        ("--cfg job +task=rte -p task", "+task=rte --cfg job -p task"),
        ("-c job -cp p --package q +task=rte", "+task=rte -c job -cp p --package q"),
        ("--experimental-rerun f.pickle -r a=1", "a=1 --experimental-rerun f.pickle -r"),
        ("--info plugins +task=rte", "+task=rte --info plugins"),
        ("-i +task=rte --resolve", "+task=rte -i --resolve"),
        ("--hydra-help a=1 --version b=2", "a=1 b=2 --hydra-help --version"),
        ("--nonsense a=1", "a=1 --nonsense"),
        ("~task -- a=1", "~task a=1 --"),
    ],
)
def test_overrides_stand_together(arguments: str, sorted_ones: str) -> None:
    assert flags.overrides_first(arguments.split()) == sorted_ones.split()


def test_a_value_may_look_like_an_override() -> None:
    arguments = ["--config-dir", "a=b", "a=b", "-m"]
    assert flags.overrides_first(arguments) == ["a=b", "--config-dir", "a=b", "-m"]
