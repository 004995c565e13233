"""The picture of what each layer kept."""

from skip_exp.logger import build

KEEP = {
    "encoder.0.ffn": [8, 16],
    "encoder.0.self.heads": [3, 4],
    "encoder.1.ffn": [0, 16],
    "encoder.1.self.heads": [4, 4],
    "decoder.0.cross.heads": [1, 4],
}


def test_the_picture_has_a_cell_per_site() -> None:
    axes = build.draw_kept(KEEP).axes[0]
    assert [label.get_text() for label in axes.get_yticklabels()] == [
        "decoder cross heads",
        "encoder ffn",
        "encoder self heads",
    ]
    assert [label.get_text() for label in axes.get_xticklabels()] == ["1", "2"]
    assert sorted(text.get_text() for text in axes.texts) == ["0", "1", "3", "4", "8"]
    shares = axes.images[0].get_array()
    assert shares is not None
    assert shares[1].tolist() == [0.5, 0.0]
    assert shares[2].tolist() == [0.75, 1.0]
