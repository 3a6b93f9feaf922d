"""`nsr-trl train`: resolve the arguments, check them for the number of processes that will run, start those.

The launcher is accelerate's. A single process takes the place of this one, so that signals reach it. Several are
started by torchrun, which passes SIGTERM on and then kills: later than it would by itself, so that the optimizer step
after which a run saves can end.
"""

import argparse
import os
import sys
from collections.abc import Sequence

from accelerate.commands.launch import _validate_launch_command, launch_command, launch_command_parser
from accelerate.utils import prepare_deepspeed_cmd_env, prepare_multi_gpu_env, prepare_simple_launcher_cmd_env

from ..resources import find_yaml
from .arguments import RunArguments, parse, resolve_model
from .dry_run import format_dry_run
from .preflight import check_run, refuse_faults


PROGRAM = "nsr_trl.train"
SHUTDOWN_SECONDS = "3600"  # from SIGTERM to SIGKILL; torchrun's own 30 end before an optimizer step of a large model


def launch(arguments: Sequence[str], hidden: Sequence[str] = (), is_dry_run: bool = False) -> None:
    """
    Starts a run, or prints its plan.

    Args:
        arguments (`Sequence[str]`):
            Command line: `--config RECIPE|FILE`, fields of the run, flags of `accelerate launch`.
        hidden (`Sequence[str]`, *optional*):
            Further arguments, which the processes find in their environment and the process list does not show.
        is_dry_run (`bool`, *optional*, defaults to `False`):
            Whether to print the plan and start nothing.

    Raises:
        ValueError: If the arguments do not hold together.
        torch.distributed.elastic.multiprocessing.errors.ChildFailedError: If a process of several failed.
    """
    run = parse([*arguments, *hidden], "nsr-trl train")
    resolve_model(run.values["model_name_or_path"])
    if is_dry_run:
        print(format_dry_run(run))
        return
    run.preview()  # an error here is one sentence, not one traceback per process
    args = launcher_arguments(run, arguments)
    _check_gpus(args)
    findings = check_run(run)
    refuse_faults(findings)
    for finding in findings:
        if finding.level == "warn":
            print(f"nsr-trl train: warning: {finding.found}", file=sys.stderr)
    if not (args.use_deepspeed or args.use_fsdp or args.multi_gpu) and args.num_processes == 1:
        command, environment = prepare_simple_launcher_cmd_env(args)
        os.execvpe(command[0], command, environment)
    os.environ.setdefault("TORCH_ELASTIC_SHUTDOWN_TIMEOUT", SHUTDOWN_SECONDS)
    launch_command(args)


def launcher_arguments(run: RunArguments, arguments: Sequence[str]) -> argparse.Namespace:
    """The arguments of `accelerate launch` for a run whose processes get `arguments`."""
    path, kind = run.accelerate_path, str(run.accelerate.get("distributed_type"))
    if run.num_processes == 1 and kind.startswith("MULTI_"):
        path = find_yaml("accelerate_configs", "single_gpu")  # accelerate refuses several of one
    parser = launch_command_parser()
    takes_value = {option: action.nargs != 0 for action in parser._actions for option in action.option_strings}
    flags = ["--config_file", str(path), "--module"]
    for name, value in run.launch.items():
        if name in ("accelerate_config", "config_file"):
            continue
        if takes_value[f"--{name}"]:
            flags += [f"--{name}", value]
        elif value.lower() != "false":
            flags.append(f"--{name}")
    if "mixed_precision" not in run.launch:  # the fields of the run decide, not the accelerate config
        precision = "fp16" if run.values["fp16"] else "no" if run.values["bf16"] is False else "bf16"
        flags += ["--mixed_precision", precision]
    own = [*arguments, *(["--use_cpu", "true"] if run.is_on_cpu and not run.values["use_cpu"] else [])]
    if run.is_on_cpu and kind == "FSDP":
        raise ValueError(
            f"FSDP needs GPUs; got {path.name} and a run on the CPU, where accelerate would run DDP "
            "and not say so. Use --accelerate_config multi_cpu or zero3 on a CPU."
        )
    if run.is_on_cpu and "num_cpu_threads_per_process" not in run.launch:  # else accelerate asks for it at each start
        threads = os.environ.get("OMP_NUM_THREADS") or max((os.cpu_count() or 1) // run.num_processes, 1)
        flags += ["--num_cpu_threads_per_process", str(threads)]
    args = parser.parse_args([*flags, PROGRAM, *own])
    args.use_cpu = run.is_on_cpu
    args, _, _ = _validate_launch_command(args)
    return args


def accelerate_environment(run: RunArguments) -> dict[str, str]:
    """The variables that `accelerate launch` would set, for processes that another launcher started."""
    args = launcher_arguments(run, [])
    args.main_process_port = 0  # the other launcher's is in use
    if args.use_deepspeed:
        args.deepspeed_fields_from_accelerate_config = ""
        _, environment = prepare_deepspeed_cmd_env(args)
    elif args.use_fsdp or args.multi_gpu:
        environment = prepare_multi_gpu_env(args)
    else:
        _, environment = prepare_simple_launcher_cmd_env(args)
    return {name: value for name, value in environment.items() if name.startswith(("ACCELERATE_", "FSDP_"))}


def _check_gpus(args: argparse.Namespace) -> None:
    import torch

    if args.use_cpu:
        return
    needed, found = args.num_processes // max(args.num_machines or 1, 1), torch.cuda.device_count()
    if found < needed and not torch.backends.mps.is_available():
        raise ValueError(
            f"A run of {needed} processes on a machine needs as many GPUs; it has {found}. Pass --num_processes, "
            "another --accelerate_config, or --use_cpu for a try on the CPU."
        )
