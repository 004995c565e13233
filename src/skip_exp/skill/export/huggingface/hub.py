"""Push a skill to the Hugging Face hub, and pull it."""

from pathlib import Path

import huggingface_hub

from skip_exp.data.rows import STAND_IN
from skip_exp.errors import SkipError, first_line
from skip_exp.skill.record import CODE, RECORD, TENSORS, SkillRecord
from skip_exp.utils.hub import explain_failure, hub_reachable, offline_if_unreachable

SKILL_FILES = [RECORD, TENSORS]  # what `download` needs of a repository


def check_push(about: SkillRecord, repo_id: str) -> None:
    """Check that a skill may be pushed, before anything is written.

    Raises:
        SkipError: stand-in rows, or there is no token.
    """
    if about.scores.data == STAND_IN:
        raise SkipError(
            f"push to {repo_id}: {about.task} was tuned on SNLI pairs as stand-ins; tune it on the "
            "task's own data"
        )
    if not huggingface_hub.get_token():
        raise SkipError(f"push to {repo_id}: no hub token; run `hf auth login` or set HF_TOKEN")


def upload(folder: Path, repo_id: str) -> str:
    """Upload ``folder`` as the model ``repo_id``, which may exist, and return its address.

    Raises:
        SkipError: the hub refuses or cannot be reached.
    """
    api = huggingface_hub.HfApi()
    try:
        address = api.create_repo(repo_id, repo_type="model", exist_ok=True)
        api.upload_folder(
            repo_id=address.repo_id,
            folder_path=folder,
            commit_message="Skill by skip_exp",
            delete_patterns=SKILL_FILES,  # else an old skill stays beside a new model
        )
    except Exception as error:  # any error of its HTTP library
        why = first_line(error) if hub_reachable() else "the hub cannot be reached from here"
        raise SkipError(f"push to {repo_id}: {why}") from error
    return str(address)


def download(repo_id: str, revision: str | None = None) -> Path:
    """Folder of the skill ``repo_id``, from the hub or its cache.

    Only its own files are downloaded, and the model's code, which marks an hf export.

    Raises:
        SkipError: there is none, or the hub cannot be reached.
    """
    offline_if_unreachable()
    try:
        folder = huggingface_hub.snapshot_download(
            repo_id, revision=revision, allow_patterns=[*SKILL_FILES, CODE]
        )
    except Exception as error:  # any error of its HTTP library
        raise SkipError(f"{repo_id}: no folder, and {explain_failure(error, repo_id)}") from error
    return Path(folder)
