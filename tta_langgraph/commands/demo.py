"""`tta demo`: a real model answers real questions about a real database under a budget, showing each decision."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any

import typer
from langchain_core.language_models import BaseChatModel
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from tta_langgraph.budget import Budget
from tta_langgraph.commands.models import POLICY_HELP, name_of, ready_model
from tta_langgraph.commands.render import EpisodeView, show_answer, show_table, spent_text
from tta_langgraph.commands.running import Episode, Watcher, run_episode
from tta_langgraph.decision import Policy, Utility
from tta_langgraph.demo import build_database, demo_policy, handful, load_questions, recorded_figures
from tta_langgraph.demo.defaults import EVERY
from tta_langgraph.demo.questions import DemoQuestion
from tta_langgraph.graphs import create_text_to_sql_graph
from tta_langgraph.models.weights import cache_dir
from tta_langgraph.sql import Database, same_result

FIXED = {
    "one shot": Policy.one_shot(),
    "best of 8": Policy.static("best_of", 8),
}
"""What the policy is compared with: the first answer, and the vote of eight. The recorded figures have more."""
POLICY = "policy"
"""The policy's name in the tables."""


@dataclass
class Score:
    """One strategy over the questions asked so far."""

    name: str
    """As the table shows it."""
    episodes: list[tuple[Episode, bool]] = field(default_factory=list)
    """Each episode and whether its answer was right."""

    @property
    def right(self) -> int:
        """Right answers."""
        return sum(correct for _, correct in self.episodes)

    @property
    def again(self) -> int:
        """Questions that were not left at their first request."""
        return sum(episode.usage.model_calls > 1 for episode, _ in self.episodes)

    @property
    def seconds(self) -> float:
        """Mean seconds per question."""
        return _mean([episode.seconds for episode, _ in self.episodes])

    def row(self) -> list[Any]:
        """A row of the table."""
        usages = [episode.usage for episode, _ in self.episodes]
        asked = len(usages)
        return [
            self.name,
            f"{self.right} of {asked}",
            f"{self.again} of {asked}",
            f"{self.seconds:.1f}",
            round(_mean([usage.prompt_tokens - usage.cached_tokens for usage in usages])),
            round(_mean([usage.completion_tokens for usage in usages])),
            round(_mean([usage.tokens for usage in usages])),
        ]


def demo(
    everything: Annotated[bool, typer.Option("--all", help="Ask every question, not just a handful.")] = False,
    model: Annotated[str, typer.Option(help="Any model that `tta ask` takes.")] = "embedded",
    tokens: Annotated[int, typer.Option(help="Token budget of each question.")] = 12_000,
    seconds: Annotated[float, typer.Option(help="Time budget of each question, in seconds.")] = 60.0,
    policy: Annotated[Path | None, typer.Option(help=POLICY_HELP)] = None,
    opening: Annotated[
        int | None,
        typer.Option(help="Answers that the policy's first request draws; what it says if not given.", min=1),
    ] = None,
    compare: Annotated[bool, typer.Option(help="Also run the fixed strategies and show the table.")] = True,
    db: Annotated[Path | None, typer.Option(help="Where to build the database; by default the user's cache.")] = None,
) -> None:
    """Watch a real model answer questions about a music shop, deciding after each step whether to go on."""
    console = Console()
    console.soft_wrap = not console.is_terminal
    begun = time.monotonic()
    console.print("[bold]tta demo[/bold]: how much thinking is each question worth?\n")
    given = Policy.load(policy) if policy else None
    chat = _model(console, model)
    name = name_of(chat)
    database = _database(console, db)
    questions = load_questions()
    asked = questions if everything else handful(questions)
    chosen = (given or demo_policy(name)).with_opening(opening)
    limits = Budget(tokens=tokens, seconds=seconds)
    which = "all" if everything else f"every {EVERY}th of"
    console.print(f"  asking    {which} {len(questions)} questions, each under {tokens} tokens and {seconds:g} s")
    console.print(f"  policy    {chosen.name}", highlight=False)
    for line in _prices(chosen.utility):
        console.print(f"            {line}", highlight=False)
    console.print()
    routed = Score(POLICY)
    first_answer: float | None = None
    interrupted = False
    room = _Room(chat, database, limits)
    if getattr(chat, "prefix_caching", False) and not room.warm_up(console, asked[0]):
        asked, interrupted = [], True
    for number, item in enumerate(asked, 1):
        console.print(f"[bold][{number}/{len(asked)}][/bold] {item.question} [dim]({item.difficulty})[/dim]")
        episode, correct = room.ask(chosen, item, EpisodeView(console, limits))
        routed.episodes.append((episode, correct))
        show_answer(console, episode.state, correct=None if episode.interrupted else correct)
        console.print(
            f"  [dim]spent {spent_text(episode.tracker, episode.seconds)}; ended: {episode.stop_reason}[/dim]\n"
        )
        first_answer = first_answer or time.monotonic() - begun
        if episode.interrupted:
            interrupted = True
            break
    scores = [routed]
    if compare and not interrupted:
        fixed, interrupted = _compare(console, room, asked)
        scores = [*fixed, routed]
    show_table(console, COLUMNS, [score.row() for score in scores])
    console.print("[dim]seconds and tokens: means per question; read: what no cache held[/dim]")
    if not interrupted and compare:
        console.print(_verdict(scores), highlight=False)
    figures = recorded_figures(name) if given is None else None
    if figures is not None:
        _recorded(console, figures)
    took = f"First answer after {first_answer or 0:.0f} s, everything after {time.monotonic() - begun:.0f} s."
    console.print(f"\n{took}", highlight=False)
    room.close()
    if interrupted:
        console.print("Interrupted: the call in flight was cancelled; the figures cover what was finished.")
        raise typer.Exit(130)


def _model(console: Console, spec: str) -> BaseChatModel:
    chat = ready_model(spec, console)
    console.print(f"  model     {spec} ({getattr(chat, 'model', getattr(chat, 'model_name', ''))})", highlight=False)
    return chat


def _database(console: Console, path: Path | None) -> Database:
    target = path or cache_dir() / "demo" / "music-shop-1.sqlite"
    if not target.exists():
        target.parent.mkdir(parents=True, exist_ok=True)
        console.print(f"  building  {target}", highlight=False)
        build_database(target)
    database = Database(f"sqlite:///{target}")
    console.print(f"  database  {target} ({len(database.tables)} tables)", highlight=False)
    return database


@dataclass
class _Room:
    """Where questions are asked: one model, one database, one limit, one event loop."""

    chat: BaseChatModel
    database: Database
    limits: Budget
    runner: asyncio.Runner = field(default_factory=asyncio.Runner)

    def ask(self, policy: Policy, item: DemoQuestion, watch: Watcher | None = None) -> tuple[Episode, bool]:
        """One episode, and whether its answer is right."""
        graph = create_text_to_sql_graph(
            self.chat, self.database, policy=policy, max_tokens=160, options={"seed": 7}
        ).compile()
        episode = run_episode(graph, item.question, self.limits, watch, self.runner)
        if episode.answer is None:
            return episode, False
        return episode, same_result(self.database.execute(episode.answer), self.database.execute(item.gold_sql))

    def warm_up(self, console: Console, item: DemoQuestion) -> bool:
        """Has the schema read before anything is timed, or the strategy that asks first would pay for all.

        Returns:
            False if it was interrupted.
        """
        begun = time.monotonic()
        episode, _ = _Room(self.chat, self.database, Budget(), self.runner).ask(FIXED["one shot"], item)
        took = time.monotonic() - begun
        console.print(
            f"  schema    read once, in {took:.1f} s; from now on it is in the model's cache\n", highlight=False
        )
        return not episode.interrupted

    def close(self) -> None:
        """Gives connections back."""
        self.runner.close()
        self.database.close()


def _compare(console: Console, room: _Room, asked: Sequence[DemoQuestion]) -> tuple[list[Score], bool]:
    """The fixed strategies on the same questions, under the same budget and through the same graph."""
    scores = [Score(name) for name in FIXED]
    columns = (TextColumn("  {task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    console.print("The same questions by fixed strategies:", highlight=False)
    with Progress(*columns, console=console, disable=not console.is_terminal) as bar:
        task = bar.add_task("asking", total=len(FIXED) * len(asked))
        for score, (name, strategy) in zip(scores, FIXED.items(), strict=True):
            for item in asked:
                bar.update(task, description=name)
                episode, correct = room.ask(strategy, item)
                if episode.interrupted:
                    return scores, True
                score.episodes.append((episode, correct))
                bar.advance(task)
            if not console.is_terminal:
                console.print(f"  {name}: done", highlight=False)
    console.print()
    return scores, False


def _prices(utility: Utility) -> list[str]:
    """What the policy takes a right answer to be worth, in words."""
    parts = []
    if utility.per_second:
        parts.append(f"{utility.value / utility.per_second / 100:g} s")
    if utility.per_token:
        parts.append(f"{utility.value / utility.per_token / 100:g} tokens")
    price = " or ".join(parts) or "Nothing"
    free = "" if utility.per_token else "; tokens are free here"
    return [
        f"price: {price} must buy 1 more right answer in 100{free}",
        "offered: P(correct) after each action (its gain minus its price);",
        "the best above 0 is taken; where none is above 0, it stops",
    ]


def _verdict(scores: Sequence[Score]) -> str:
    """An honest sentence on what the table shows."""
    *fixed, routed = scores
    best = max(fixed, key=lambda score: (score.right, -score.seconds))
    return (
        f"The {POLICY} answered {routed.right} of {len(routed.episodes)} in {routed.seconds:.1f} s a question, "
        f"{best.name} {best.right} in {best.seconds:.1f} s. One question more or less is chance."
    )


def _recorded(console: Console, figures: Mapping[str, Any]) -> None:
    """The same strategies on all questions, where there are enough of them to tell."""
    count, look = figures["questions"], figures["reflect"]
    rows = [
        [name, f"{row['right']:.1f} of {count}", f"{row['seconds']:.1f}", f"{row['requests']:.1f}"]
        for name, row in figures["strategies"].items()
    ]
    console.print(f"\nRecorded answers to all {count} questions ({figures['made_by']}):", highlight=False)
    show_table(console, ("strategy", "right", "seconds", "requests"), rows)
    console.print(f"[dim]means over {figures['orders']} orders of the samples; seconds of an idle machine[/dim]")
    console.print(
        f"A second look (reflect) mended {look['mended']} of {look['wrong']} wrong first answers "
        f"and broke {look['broken']} of {look['right']} right ones{_lesson(look)}",
        highlight=False,
    )
    console.print("tta demo --all asks all of them here.", highlight=False)


def _lesson(look: Mapping[str, int]) -> str:
    return ": with this model it does not pay." if look["mended"] <= look["broken"] else "."


def _mean(numbers: Sequence[float]) -> float:
    return sum(numbers) / max(1, len(numbers))


COLUMNS = ("strategy", "right", "asked again", "seconds", "read", "written", "tokens")
