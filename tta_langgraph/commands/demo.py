"""`tta demo`: a real model answers real questions about a real database under a budget, showing each decision."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any

import typer
from langchain_core.language_models import BaseChatModel
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from tta_langgraph.budget import Budget
from tta_langgraph.commands.models import ready_model
from tta_langgraph.commands.render import EpisodeView, show_answer, show_table, spent_text
from tta_langgraph.commands.running import Episode, run_episode
from tta_langgraph.decision import Policy
from tta_langgraph.demo import DEFAULT_QUESTIONS, build_database, demo_policy, load_questions
from tta_langgraph.demo.questions import DemoQuestion
from tta_langgraph.graphs import create_text_to_sql_graph
from tta_langgraph.models.weights import cache_dir
from tta_langgraph.sql import Database, same_result

SAMPLES = 4
"""n of best-of-n in the comparison."""
ROUNDS = 2
"""k of reflect-k in the comparison."""


@dataclass
class Score:
    """One strategy over the questions asked so far."""

    name: str
    """As the table shows it."""
    episodes: list[tuple[Episode, bool]] = field(default_factory=list)
    """Each episode and whether its answer was right."""

    def row(self) -> list[Any]:
        """A row of the table: name, right answers, mean tokens, mean seconds, steps."""
        count = max(1, len(self.episodes))
        right = sum(correct for _, correct in self.episodes)
        tokens = sum(episode.usage.tokens for episode, _ in self.episodes) / count
        new = sum(_new_tokens(episode) for episode, _ in self.episodes) / count
        seconds = sum(episode.seconds for episode, _ in self.episodes) / count
        return [self.name, f"{right}/{len(self.episodes)}", round(tokens), round(new), f"{seconds:.1f}", _steps(self)]


def demo(
    everything: Annotated[bool, typer.Option("--all", help="Ask every question, not just a handful.")] = False,
    model: Annotated[str, typer.Option(help="Any model that `tta ask` takes.")] = "embedded",
    tokens: Annotated[int, typer.Option(help="Token budget of each question.")] = 12_000,
    seconds: Annotated[float, typer.Option(help="Time budget of each question, in seconds.")] = 60.0,
    policy: Annotated[Path | None, typer.Option(help="A policy file made by `tta fit`.")] = None,
    opening: Annotated[
        int | None,
        typer.Option(help="Answers that the policy's first request draws; what it says if not given.", min=1),
    ] = None,
    compare: Annotated[bool, typer.Option(help="Also run the fixed strategies and show the table.")] = True,
    db: Annotated[Path | None, typer.Option(help="Where to build the database; by default the user's cache.")] = None,
) -> None:
    """Watch a real model answer questions about a music shop, deciding after each step whether to go on."""
    console = Console(soft_wrap=True)
    begun = time.monotonic()
    console.print("[bold]tta demo[/bold]: how much thinking is each question worth?\n")
    chat = _model(console, model)
    database = _database(console, db)
    questions = load_questions()
    asked = questions if everything else [item for item in questions if item.id in DEFAULT_QUESTIONS]
    chosen = (Policy.load(policy) if policy else demo_policy()).with_opening(opening)
    limits = Budget(tokens=tokens, seconds=seconds)
    console.print(
        f"  asking    {len(asked)} of {len(questions)} questions, each under {tokens} tokens and {seconds:g} s, "
        f"policy {chosen.name}\n"
    )
    routed = Score("routed policy")
    first_answer: float | None = None
    interrupted = False
    for number, item in enumerate(asked, 1):
        console.print(f"[bold][{number}/{len(asked)}][/bold] {item.question} [dim]({item.difficulty})[/dim]")
        episode = _ask(chat, database, chosen, item, limits, EpisodeView(console, limits))
        correct = _right(database, item, episode)
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
        fixed, interrupted = _compare(console, chat, database, asked, limits)
        scores = [*fixed, routed]
    _table(console, scores)
    if not interrupted and compare:
        console.print(_verdict(scores), highlight=False)
    took = f"First answer after {first_answer or 0:.0f} s, everything after {time.monotonic() - begun:.0f} s."
    console.print(f"\n{took}", highlight=False)
    database.close()
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


def _ask(
    chat: BaseChatModel, database: Database, policy: Policy, item: DemoQuestion, limits: Budget, watch: Any = None
) -> Episode:
    graph = create_text_to_sql_graph(chat, database, policy=policy, max_tokens=160, options={"seed": 7}).compile()
    return run_episode(graph, item.question, limits, watch)


def _right(database: Database, item: DemoQuestion, episode: Episode) -> bool:
    if episode.answer is None:
        return False
    return same_result(database.execute(episode.answer), database.execute(item.gold_sql))


def _compare(
    console: Console, chat: BaseChatModel, database: Database, asked: Sequence[DemoQuestion], limits: Budget
) -> tuple[list[Score], bool]:
    """The fixed strategies on the same questions, under the same budget and through the same graph."""
    fixed = {
        "one shot": Policy.static("one_shot"),
        f"best of {SAMPLES}": Policy.static("best_of", SAMPLES),
        f"reflect {ROUNDS}": Policy.static("reflect", ROUNDS),
    }
    scores = [Score(name) for name in fixed]
    columns = (TextColumn("  {task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    console.print("The same questions by fixed strategies:", highlight=False)
    with Progress(*columns, console=console, disable=not console.is_terminal) as bar:
        task = bar.add_task("asking", total=len(fixed) * len(asked))
        for score, (name, strategy) in zip(scores, fixed.items(), strict=True):
            for item in asked:
                bar.update(task, description=name)
                episode = _ask(chat, database, strategy, item, limits)
                if episode.interrupted:
                    return scores, True
                score.episodes.append((episode, _right(database, item, episode)))
                bar.advance(task)
            if not console.is_terminal:
                console.print(f"  {name}: done", highlight=False)
    console.print()
    return scores, False


def _table(console: Console, scores: Sequence[Score]) -> None:
    columns = ("strategy", "right", "tokens", "uncached", "seconds", "steps after the first answer")
    show_table(console, columns, [score.row() for score in scores])
    console.print("[dim]tokens, uncached tokens and seconds are means per question[/dim]")


def _new_tokens(episode: Episode) -> int:
    return episode.usage.tokens - episode.usage.cached_tokens


def _steps(score: Score) -> str:
    taken: dict[str, int] = {}
    for episode, _ in score.episodes:
        for decision in episode.decisions:
            if decision.action != "stop":
                label = f"resample({decision.n})" if decision.action == "resample" else decision.action
                taken[label] = taken.get(label, 0) + 1
    return ", ".join(f"{count} x {label}" for label, count in sorted(taken.items())) or "none"


def _verdict(scores: Sequence[Score]) -> str:
    """An honest sentence on what the table shows."""
    *fixed, routed = scores
    asked = len(routed.episodes)
    right = _count(routed)
    best = max(fixed, key=lambda score: (_count(score), -_tokens(score)))
    share = _tokens(routed) / max(1.0, _tokens(best))
    spread = "One question more or less is chance: so few questions cannot rank strategies that are this close."
    if right > _count(best):
        claim = f"The policy answered {right} of {asked}, {best.name} {_count(best)}, for {share:.0%} of its tokens."
    elif right == _count(best):
        claim = f"The policy answered as many as {best.name} ({right} of {asked}) for {share:.0%} of its tokens."
    else:
        claim = f"{best.name} answered {_count(best)} of {asked}, the policy {right}, for {share:.0%} of its tokens."
    return f"{claim} {spread}"


def _count(score: Score) -> int:
    return sum(correct for _, correct in score.episodes)


def _tokens(score: Score) -> float:
    return sum(episode.usage.tokens for episode, _ in score.episodes) / max(1, len(score.episodes))
