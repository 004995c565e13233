from skip_exp.neurons.subjects import settings_of


def test_a_method_with_changes():
    plain, changed = settings_of("paper"), settings_of("paper:samples=64,options.tokens=sum")
    assert (plain.samples, plain.options["tokens"]) == (20, "max")
    assert (changed.samples, changed.options["tokens"]) == (64, "sum")
    assert changed.options["at"] == plain.options["at"]
