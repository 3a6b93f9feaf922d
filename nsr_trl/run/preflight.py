"""What must hold before a run starts: its arguments go in; a sentence for each fault comes out."""

from ..checkpoints import check_folder, find_checkpoint
from ..config import SignedRewardConfig
from .arguments import RunArguments
from .costs import checkpoint_bytes, find_shape


def check_output(run: RunArguments, args: SignedRewardConfig) -> None:
    """
    Checks, before a model is loaded, that a run can write to its output folder and resume from it if it is to.

    Raises:
        ValueError: If the folder cannot be written, a checkpoint does not fit on its disk, or there is none to resume
            from.
    """
    if args.save_strategy != "no":
        shape = find_shape(run.values["model_name_or_path"])
        check_folder(args.output_dir, 0 if shape is None else checkpoint_bytes(run, shape))
    find_checkpoint(resume_wish(args), args.output_dir, say=lambda line: None)


def resume_wish(args: SignedRewardConfig) -> str | bool | None:
    """What `train` is to resume from: `true` is the last checkpoint in the output folder."""
    value = args.resume_from_checkpoint
    return {"true": True, "false": None, "none": None}.get(str(value).lower(), value)
