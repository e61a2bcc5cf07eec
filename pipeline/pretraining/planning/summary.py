"""A plan as rows for people: its phases, and then the whole, each figure with where it is known from."""

from pipeline.pretraining.planning.costing import Costs
from pipeline.pretraining.planning.forecast import TrainingPlan
from pipeline.pretraining.planning.memory import CHECKPOINT_BYTES

GB = 1e9
UNITS = ((1e12, "T"), (1e9, "G"), (1e6, "M"))


def phase_rows(plan: TrainingPlan, costs: Costs) -> list[dict[str, str]]:
    """A row for each phase."""
    return [
        {
            "phase": str(number),
            "steps": f"{phase.steps:,}",
            "batch": f"{phase.train_batch_size:,}",
            "micro-batch": f"{phase.micro_batch_size:,}",
            "fits": f"{fitting:,}",
            "up to": f"{phase.lengths.longest:,} tokens",
            "mean": f"{phase.lengths.mean:.1f}",
            "samples": f"{phase.samples:,}",
            "tokens": short(phase.tokens),
            "tokens/s a device": f"{speed:,.0f}",
            "hours": f"{hours:,.2f}",
        }
        for number, (phase, fitting, speed, hours) in enumerate(
            zip(plan.phases, costs.fitting, costs.tokens_per_second, costs.hours(plan), strict=True), 1
        )
    ]


def plan_rows(plan: TrainingPlan, costs: Costs, price: float | None) -> list[dict[str, str]]:
    """Rows of (measure, value, known from)."""
    return [*_work_rows(plan), *_disk_rows(plan), *_memory_rows(plan, costs), *_time_rows(plan, costs, price)]


def short(number: float) -> str:
    """A large number in three digits or so."""
    for size, unit in UNITS:
        if number >= size:
            return f"{number / size:,.3g} {unit}" if number < 1_000 * size else f"{number / size:,.0f} {unit}"
    return f"{number:,.0f}"


def _row(measure: str, value: str, known_from: str = "") -> dict[str, str]:
    return {"measure": measure, "value": value, "known from": known_from}


def _work_rows(plan: TrainingPlan) -> list[dict[str, str]]:
    config, epochs = plan.config, plan.epochs
    return [
        _row("parameters", short(plan.parameters), f"a vocabulary of {plan.data.vocabulary_size:,}"),
        _row("steps", f"{plan.steps:,}", f"warmup {config.warmup_steps:,}, then {config.schedule.name}"),
        _row("samples", f"{plan.samples:,}"),
        _row("tokens", short(plan.tokens), plan.data.known_from),
        _row("epochs of the dataset", "unknown" if epochs is None else f"{epochs:,.1f}", plan.data.known_from),
        _row("FLOPs", f"{plan.flops:.3g}", "the formula in flops.py, no padding"),
    ]


def _disk_rows(plan: TrainingPlan) -> list[dict[str, str]]:
    held = plan.data.bytes
    return [
        _row("disk, dataset", "unknown" if held is None else f"{held / GB:.3g} GB", plan.data.known_from),
        _row(
            "disk, checkpoints and model",
            f"{plan.checkpoint_bytes / GB:.3g} GB",
            f"{plan.checkpoints} of {CHECKPOINT_BYTES} bytes a parameter at once, and the exported weights",
        ),
    ]


def _memory_rows(plan: TrainingPlan, costs: Costs) -> list[dict[str, str]]:
    state, most, free = plan.state, max(costs.pass_bytes), costs.free_bytes / GB
    together, where = state.on(costs.device_type) + most, "a device" if costs.device_type == "cpu" else "of its host"
    of = f"ZeRO {plan.zero_stage}, {plan.config.precision}, {plan.devices} device{'s' * (plan.devices > 1)}"
    return [
        _row("memory a device, weights", f"{state.weights / GB:.3g} GB", of),
        _row("memory a device, gradients", f"{(state.gradients + state.buckets) / GB:.3g} GB", of),
        _row("memory a device, optimizer", f"{state.optimizer / GB:.3g} GB", of),
        _row(f"memory {where}, checkpoint", f"{state.checkpoint / GB:.3g} GB", of),
        _row("memory a device, passes", f"{most / GB:.3g} GB", f"measured on {costs.device}"),
        _row("memory a device, together", f"{together / GB:.3g} GB", f"{free:,.1f} GB free here"),
    ]


def _time_rows(plan: TrainingPlan, costs: Costs, price: float | None) -> list[dict[str, str]]:
    hours, share = sum(costs.hours(plan)), costs.share_of_peak(plan)
    known_from = "the tokens/s given" if costs.matrix_rate is None else f"measured on {costs.device}"
    rows = [_row("hours", f"{hours:,.2f}", known_from)]
    if share is not None and costs.matrix_rate is not None:
        rows.append(_row("share of the peak", f"{share:.0%}", f"{short(costs.matrix_rate)}FLOP/s measured"))
    rows.append(_row("device-hours", f"{hours * plan.devices:,.2f}", "without traffic, validation and checkpoints"))
    if price is not None:
        rows.append(_row("cost", f"{hours * plan.devices * price:,.2f}", f"{price:g} a device-hour"))
    return rows
