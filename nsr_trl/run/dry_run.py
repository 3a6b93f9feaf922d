"""The dry run: the arguments of a run go in; its settings, schedule and memory come out, as text.

Nothing is downloaded but the model's config, where it is not at hand, and nothing is started.
"""

from ..config import compaction_obstacle
from .arguments import RunArguments
from .costs import disk_bytes, estimate_run, find_shape
from .memory import GIB
from .schedule import make_schedule
from .script import ScriptArguments


_REST = (
    "Problems, rewards, prompt, context and folders are not looked at here: nsr-trl doctor, with the same flags, does."
)


def num_problems_without_loading(script: ScriptArguments) -> int | None:
    """Problems of a run, where that is known without loading them."""
    sources = script.train_task().sources("train")
    if len(sources) > 1 and any(source.weight for source in sources):  # as many of each as the weights ask for
        return None
    sizes = [source.size or script.num_problems for source in sources]
    return None if None in sizes else sum(min(size, script.num_problems or size) for size in sizes if size)


def format_dry_run(run: RunArguments) -> str:
    """
    The dry run: settings with their sources, schedule and memory.

    Args:
        run ([`RunArguments`]):
            The resolved arguments.

    Raises:
        ValueError: If the arguments do not hold together on the number of processes.
    """
    num_processes = run.num_processes
    script, args, _ = run.preview()
    gpu_bytes = script.gpu_memory * 1e9
    shape = find_shape(run.values["model_name_or_path"], run.values["model_revision"])
    context = None if shape is None else shape.context
    schedule = make_schedule(args, num_processes, num_problems_without_loading(script), context)

    lines = ["settings (fields left out have their defaults)"]
    shown = [(source, name, run.values[name]) for name, source in run.sources.items()]
    shown += [("launcher", name, value) for name, value in run.launch.items()]
    source_width, width = (max(len(row[column]) for row in shown) for column in (0, 1))
    lines += [f"  {source:<{source_width}}  {name:<{width}}  {value}" for source, name, value in shown]

    kind = run.accelerate.get("distributed_type", "NO")
    machines = "one machine" if run.num_machines == 1 else f"{run.num_machines} machines"
    lines += ["", f"launch: {run.accelerate_path.stem} ({kind}), {num_processes} processes on {machines}", ""]
    lines += [
        "schedule",
        f"  a generation       {schedule.num_prompts:,} prompts x {schedule.num_generations} completions "
        f"= {schedule.num_prompts * schedule.num_generations:,} rows",
        f"  trained on in      {schedule.optimizer_steps:g} optimizer steps of "
        f"{schedule.rows_per_optimizer_step:,} rows "
        f"({schedule.rows_per_optimizer_step / schedule.num_generations:g} prompts), "
        + ("off-policy after the first" if schedule.optimizer_steps > 1 else "on-policy"),
        f"  an optimizer step  {schedule.micro_steps:,} micro-steps of {schedule.rows_per_micro_step} rows "
        f"on each of {num_processes} processes",
        f"  tokens             at most {schedule.max_tokens_per_row:,} a row, "
        f"{schedule.max_tokens_per_optimizer_step:,} an optimizer step",
    ]
    epochs = "" if schedule.num_epochs is None else f", {schedule.num_epochs:.1f} passes over the problems"
    if schedule.max_steps:
        generations = schedule.max_steps / schedule.optimizer_steps
        tokens = generations * schedule.num_prompts * schedule.num_generations * schedule.max_tokens_per_row
        hours = tokens / script.tokens_per_second / 3600
        speed = f"{script.tokens_per_second:,.0f} a second (tokens_per_second: stated, not measured)"
        lines += [
            f"  the run            {schedule.max_steps:,} optimizer steps, {generations:g} generations{epochs}",
            f"  tokens of the run  at most {tokens / 1e9:,.2f} billion, {hours:,.1f} h at {speed}",
        ]
    else:
        lines.append(f"  the run            {schedule.num_epochs:g} passes over the problems")
    if shape is not None:
        kept, size = disk_bytes(run, args, shape)
        lines.append(f"  disk               {size / 1e9:,.1f} GB: {kept} checkpoints and the model")
    obstacle = compaction_obstacle(args)
    lines.append(f"  compaction         {'off under ' + obstacle if obstacle else args.compact}")

    lines += ["", _REST, ""]
    if shape is None:
        lines.append(f"memory: no estimate, the config of {run.values['model_name_or_path']} is not at hand")
        return "\n".join(lines)
    estimate = estimate_run(run, args, shape, gpu_bytes)
    lines.append(
        f"memory of each process, estimated (a GPU of {gpu_bytes / 1e9:.0f} GB has {gpu_bytes / GIB:.1f} GiB)"
    )
    lines += [f"  {name:<12} {size / GIB:8.2f} GiB" for name, size in estimate.rows()]
    if not run.is_on_cpu:
        fits = "fits" if estimate.peak < 0.95 * gpu_bytes else "DOES NOT FIT"
        lines.append(f"  it {fits}")
    return "\n".join(lines)
