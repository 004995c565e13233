"""A cascade: a fast classifier answers, and a slower one where the fast one is unsure.

Imports no torch, because a cascade of ONNX exports needs none.
"""

import json
import os
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from tempfile import TemporaryDirectory

from skip_exp.cache.version import digest
from skip_exp.errors import SkipError
from skip_exp.skill.classifier import Classifier
from skip_exp.skill.export.folder import new_folder
from skip_exp.skill.record import (
    CASCADE,
    MEMBERS,
    ONNX,
    VERSION,
    CascadeRecord,
    Form,
    parse_record,
    read_checksum,
    read_json,
)
from skip_exp.utils import console

CASCADE_CARD = """---
library_name: skip_exp
pipeline_tag: text-classification
---

# {task}: a cascade

The first model answers; the next one answers where it is unsure. Members: {members}. Labels:
{labels}.

    import skip_exp
    model = skip_exp.Cascade.from_pretrained("{repo_id}")
    model.predict(["TEXT"])
"""
SAME = ("task", "text", "labels")  # of the members' records, beside the backbone


@dataclass(frozen=True, repr=False, eq=False)
class Cascade(Classifier):
    """Classifiers of one task, from fast to slow; each answers what those before it leave.

    Example:
        >>> model = Cascade.load("outputs/.../chosen")
        >>> model.predict(["late again"])[0]["label"]
        'bad'

    Attributes:
        members: skills or ONNX exports of one task and backbone, from fast to slow.
        thresholds: one for each member but the last. A text goes on to the next member where the
            largest probability is below it.
        sent_on: share of the selection slice that reached each member after the first.
        select, validation: scores on these splits, where they are known.
    """

    members: tuple[Classifier, ...]
    thresholds: tuple[float, ...]
    sent_on: tuple[float, ...] = ()
    select: float | None = None
    validation: float | None = None

    @classmethod
    def of(cls, members: Sequence[Classifier], thresholds: Sequence[float]) -> "Cascade":
        """A cascade of loaded classifiers.

        Raises:
            SkipError: the members do not have one task, its labels and one backbone, or the number
                of thresholds does not fit.
        """
        if len(members) < 2 or len(thresholds) != len(members) - 1:
            counts = f"{len(members)} members and {len(thresholds)} thresholds"
            raise SkipError(f"a cascade has two or more members and one threshold less: {counts}")
        if any(member.about.multilabel for member in members):
            raise SkipError("a cascade needs one label per text, to know how sure a member is")
        for member in members[1:]:
            _check_same(members[0], member)
        return cls(members[-1].about, tuple(members), tuple(thresholds))

    @classmethod
    def load(cls, folder: str | Path, backbone: str | Path | None = None) -> "Cascade":
        """Read a cascade on the CPU.

        Args:
            folder: the folder of the cascade.
            backbone: folder or hub id of the backbone, if it has moved.

        Raises:
            SkipError: a file is missing, damaged, altered or of an unknown version, or a member
                cannot be loaded.
        """
        folder = Path(folder).expanduser().absolute()
        described = read_json(folder / CASCADE)
        if described.pop("sha256", None) != digest(described):
            raise SkipError(f"{folder}: damaged or altered: wrong checksum of {CASCADE}")
        record = parse_record(folder / CASCADE, described, CascadeRecord)
        members = []
        for i, form in enumerate(record.forms):
            place = folder / MEMBERS / str(i)
            if read_checksum(place) != record.members[i]:
                raise SkipError(f"{place}: damaged or altered: not the member of {CASCADE}")
            precision = "bf16" if form == "bf16" else "32-true"
            members.append(open_classifier(place, backbone, precision))
        return replace(
            cls.of(members, record.thresholds),
            sent_on=tuple(record.sent_on),
            select=record.select,
            validation=record.validation,
        )

    @classmethod
    def from_pretrained(
        cls, repo_id: str, backbone: str | Path | None = None, revision: str | None = None
    ) -> "Cascade":
        """:meth:`load` a cascade from the Hugging Face hub (``USER/REPO``).

        Raises:
            SkipError: see :meth:`load`; the hub has no such cascade or cannot be reached.
        """
        from skip_exp.skill.export.huggingface.hub import download  # slow, and not for serving

        return cls.load(download(repo_id, revision), backbone)

    def probabilities(
        self, texts: list[list[str]], batch_tokens: int | None = None
    ) -> list[list[float]]:
        answers = self.members[0].probabilities(texts, batch_tokens)
        left = list(range(len(texts)))
        for member, threshold in zip(self.members[1:], self.thresholds, strict=True):
            left = [i for i in left if max(answers[i]) < threshold]
            again = member.probabilities([texts[i] for i in left], batch_tokens)
            for i, answer in zip(left, again, strict=True):
                answers[i] = answer
        return answers

    def save(self, folder: str | Path) -> Path:
        out = Path(folder).expanduser()
        with new_folder(out) as temporary:
            for i, member in enumerate(self.members):
                member.save(temporary / MEMBERS / str(i))
            self._write_record(temporary, [member.form for member in self.members])
        return out

    def export(self, folder: str | Path, format: str = "onnx", *, int8: bool = False) -> Path:
        """Write the cascade with all members as ONNX exports, which need no torch.

        Args:
            int8: round the weights of members that are skills to 8 bits.

        Raises:
            SkipError: another format; else as :meth:`Skill.export`.
        """
        out = Path(folder).expanduser()
        if format != "onnx":
            raise SkipError(f"format={format}: a cascade is exported as onnx")
        with new_folder(out) as temporary:
            forms: list[Form] = []
            for i, member in enumerate(self.members):
                place = temporary / MEMBERS / str(i)
                if member.form in ("onnx", "int8"):
                    member.save(place)
                    forms.append(member.form)
                else:
                    _to_onnx(member, place, int8)
                    forms.append("int8" if int8 else "onnx")
            self._write_record(temporary, forms)
        return out

    def push_to_hub(self, repo_id: str) -> str:
        """Upload the cascade, which :meth:`from_pretrained` reads; return its address.

        Raises:
            SkipError: there is no token, the rows are stand-ins, or the hub refuses or cannot be
                reached.
        """
        from skip_exp.skill.export.huggingface.hub import check_push, upload  # as above

        check_push(self.about, repo_id)
        with TemporaryDirectory() as name:
            folder = Path(name) / "cascade"
            for i, member in enumerate(self.members):
                _share(member, folder / MEMBERS / str(i))
            self._write_record(folder, [member.form for member in self.members])
            names, labels = " -> ".join(m.form for m in self.members), ", ".join(self.about.labels)
            told = {"task": self.about.task, "labels": labels, "members": names}
            (folder / "README.md").write_text(CASCADE_CARD.format(**told, repo_id=repo_id))
            return upload(folder, repo_id)

    def _write_record(self, folder: Path, forms: list[Form]) -> None:
        places = [folder / MEMBERS / str(i) for i in range(len(forms))]
        record = CascadeRecord(
            thresholds=list(self.thresholds),
            forms=forms,
            members=[read_checksum(place) for place in places],
            sent_on=list(self.sent_on),
            select=self.select,
            validation=self.validation,
        )
        described = record.stored()
        head = {"version": VERSION, "sha256": digest(described)}
        (folder / CASCADE).write_text(json.dumps(head | described, indent=1) + "\n")


def open_classifier(
    folder: str | Path, backbone: str | Path | None = None, precision: str = "32-true"
) -> Classifier:
    """A skill, an ONNX export or a cascade, whichever the folder holds.

    Args:
        backbone, precision: see :meth:`Skill.load`. An export and a cascade have a precision of
            their own.

    Raises:
        SkipError: there is no such folder, or its class cannot load it.
    """
    place = Path(folder).expanduser()
    if not os.path.isdir(place):
        raise SkipError(f"{folder}: no such folder, or no permission")
    # Not Path.is_file, which raises where it may not look.
    what = "an ONNX export" if os.path.isfile(place / ONNX) else ""
    what = "a cascade" if os.path.isfile(place / CASCADE) else what
    if what and precision != "32-true":
        raise SkipError(f"--precision {precision}: {folder} is {what} and has its own")
    if what == "a cascade":
        return Cascade.load(place, backbone)
    if what:
        from skip_exp.skill.export.onnx.runtime import OnnxSkill  # packages that are optional

        return OnnxSkill.load(place)
    console.import_slow("skip_exp.skill.skill")  # torch takes seconds: not for an ONNX export
    from skip_exp.skill.skill import Skill  # the same

    return Skill.load(place, backbone, precision)


def _share(member: Classifier, folder: Path) -> None:
    """Copy a member without the local folders that its record may name. Raises SkipError."""
    source = getattr(member, "folder", None)
    if source is None:  # an ONNX export, which names none
        member.save(folder)
        return
    from skip_exp.skill.files import share_skill  # torch, which such a member has loaded

    share_skill(source, folder)


def _to_onnx(member: Classifier, folder: Path, int8: bool) -> None:
    """Export a member that is a skill; weights in bf16 are read again in fp32."""
    from skip_exp.skill.skill import Skill  # torch, which such a member has loaded

    assert isinstance(member, Skill)
    if member.form == "bf16" and member.folder is not None:
        member = Skill.load(member.folder)
    member.export(folder, "onnx", int8=int8)


def _check_same(one: Classifier, other: Classifier) -> None:
    """Raise SkipError where two members are not of one task and one backbone."""
    for name in SAME:
        values = getattr(one.about, name), getattr(other.about, name)
        if values[0] != values[1]:
            raise SkipError(f"members of a cascade need one {name}: {values[0]}, {values[1]}")
    if one.about.backbone.content_hash != other.about.backbone.content_hash:
        names = f"{one.about.backbone.name}, {other.about.backbone.name}"
        raise SkipError(f"members of a cascade need one backbone, of the same content: {names}")
