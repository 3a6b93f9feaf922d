"""Model card: facts about a run go in, a `huggingface_hub.ModelCard` comes out. A section without facts is absent."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from importlib.metadata import PackageNotFoundError, version

from huggingface_hub import EvalResult, ModelCard, ModelCardData

from . import __version__
from .evaluation.comparison import Comparison
from .evaluation.results import Evaluation
from .resources import resource


VERSIONED = ("trl", "transformers", "torch", "datasets")

UNNAMED = "held-out problems"
"""Name for the Hub of a dataset that has none."""


@dataclass(frozen=True)
class CardFacts:
    """
    What a card says of a run. Nothing else is looked up, so nothing can be invented.

    Attributes:
        model_name (`str`):
            Title of the card.
        objective (`str`), formula (`str`), is_signed (`bool`):
            The objective's name, what it minimises, and whether its weights are signs.
        citation (`str`):
            BibTeX of the method.
        tags (`tuple[str, ...]`):
            Hub tags.
        settings (`Mapping[str, object]`):
            Rows of the settings table.
        base_model (`str`, *optional*):
            Hub id of the model that was trained.
        local_base (`str`, *optional*):
            Name of the model that was trained where it is a local folder: shown without a link.
        dataset_name (`str`, *optional*):
            What it was trained on.
        hub_model_id (`str`, *optional*):
            Hub id of the trained model.
        example_prompt (`str`, *optional*):
            Python literal of a prompt for the usage example.
        command (`str`, *optional*):
            The command of the run.
        trained (`Mapping[str, str]`):
            Rows of the table of what was trained: counts, shares, times.
        comparisons (`tuple[Comparison, ...]`):
            Evaluations of the model, compared with those of its base.
        evaluations (`Mapping[str, Evaluation]`):
            Evaluations of the model by dataset.
        matched (`tuple[Comparison, ...]`):
            The run compared with others at equal Pass@1.
        unmatched (`tuple[str, ...]`):
            Sentences on those that could not be matched.
        reads_group (`bool`):
            Whether the weight of a completion depends on the others of its prompt.
        figure (`str`, *optional*), dynamics (`str`, *optional*), over_steps (`str`, *optional*):
            Paths of the figures of Pass@k, of the training and of Pass@k over its steps, relative to the card.
    """

    model_name: str
    objective: str
    formula: str
    is_signed: bool
    citation: str
    tags: tuple[str, ...]
    settings: Mapping[str, object] = field(default_factory=dict)
    base_model: str | None = None
    local_base: str | None = None
    dataset_name: str | None = None
    hub_model_id: str | None = None
    example_prompt: str = '[{"role": "user", "content": "What is 12 * 12? Put the answer within \\\\boxed{}."}]'
    command: str | None = None
    trained: Mapping[str, str] = field(default_factory=dict)
    comparisons: tuple[Comparison, ...] = ()
    evaluations: Mapping[str, Evaluation] = field(default_factory=dict)
    matched: tuple[Comparison, ...] = ()
    unmatched: tuple[str, ...] = ()
    reads_group: bool = False
    figure: str | None = None
    dynamics: str | None = None
    over_steps: str | None = None

    def with_tags(self, tags: str | Sequence[str] | None) -> "CardFacts":
        """The same with more Hub tags."""
        more = (tags,) if isinstance(tags, str) else tuple(tags or ())
        return replace(self, tags=tuple(dict.fromkeys((*self.tags, *more))))


def build_card(facts: CardFacts) -> ModelCard:
    """Renders the facts."""
    data = ModelCardData(
        base_model=facts.base_model,
        datasets=facts.dataset_name if facts.dataset_name and "/" in facts.dataset_name else None,
        library_name="transformers",
        pipeline_tag="text-generation",
        model_name=facts.model_name,
        tags=["generated_from_trainer", *facts.tags],
        eval_results=[
            EvalResult(
                task_type="text-generation",
                dataset_type=dataset or UNNAMED,
                dataset_name=dataset or UNNAMED,
                metric_type=f"pass@{k}",
                metric_name=f"Pass@{k} of {evaluation.num_samples} samples",
                metric_value=round(100 * estimate.value, 2),
            )
            for dataset, evaluation in facts.evaluations.items()
            for k, estimate in evaluation.pass_at_k.items()
        ]
        or None,
    )
    return ModelCard.from_template(
        data,
        template_path=str(resource("templates", "model_card.md")),
        **(vars(facts) | {"signed": facts.is_signed, "versions": dict(_versions())}),
    )


def _versions() -> Iterator[tuple[str, str]]:
    yield "nsr-trl", __version__  # which may run from a folder, without being installed
    for name in VERSIONED:
        try:
            yield name, version(name)
        except PackageNotFoundError:
            continue
