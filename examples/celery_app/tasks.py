"""The tasks: a prompt, commands, and a report that many prompts are gathered into."""

from typing import Any, Dict, List, Sequence

from celery import chord, shared_task
from celery.exceptions import SoftTimeLimitExceeded
from celery.utils.log import get_task_logger

from runtimeuse_sync import CancelledException, CommandExecutionResult, CommandFailedError, QueryResult
from runtimeuse_sync.celery import RuntimeTask, result_from_json

logger = get_task_logger(__name__)


@shared_task(base=RuntimeTask, bind=True)
def ask(self: Any, prompt: str) -> QueryResult:
    """Has the agent answer a prompt. Its progress shows what the agent says meanwhile."""
    answer: QueryResult = self.client.query(prompt, source_id=self.request.id)
    return answer


@shared_task(base=RuntimeTask, bind=True, repeatable=True, throws=(CancelledException, CommandFailedError))
def check(self: Any, commands: List[str]) -> CommandExecutionResult:
    """Runs commands that only look: they may run twice if a connection is lost, and one that fails is no fault."""
    done: CommandExecutionResult = self.client.execute_commands(commands, source_id=self.request.id)
    return done


@shared_task(base=RuntimeTask, bind=True)
def build(self: Any, script: str, minutes: float = 5) -> str:
    """Works in a directory of its own, which it removes in any event, also when its time is up or it is aborted."""
    directory = f"build-{self.request.id}"
    try:
        done: CommandExecutionResult = self.client.execute_commands(
            [f"mkdir {directory}", f"cd {directory} && {script}"], timeout=60 * minutes
        )
        return done.results[-1].stdout or ""
    except SoftTimeLimitExceeded:
        logger.warning("%s took too long", self.request.id)
        raise
    finally:
        # Not by `self.client`: what belongs to a task that is aborted is cancelled as well.
        remove.delay(directory)


@shared_task(base=RuntimeTask, bind=True, repeatable=True, ignore_result=True)
def remove(self: Any, directory: str) -> None:
    """Removes a directory."""
    self.client.files.remove(directory, recursive=True, missing_ok=True)


@shared_task
def gather(answers: List[Dict[str, Any]]) -> Dict[str, Any]:
    """Makes one report of the answers of many prompts, in their order."""
    texts = [result.text.strip() for result in map(result_from_json, answers) if isinstance(result, QueryResult)]
    return {"answers": len(texts), "longest": max(texts, key=len, default=""), "texts": texts}


def report(prompts: Sequence[str]) -> Any:
    """Sends a task for each prompt, and one that gathers their answers; returns the result of the latter."""
    return chord([ask.s(prompt) for prompt in prompts])(gather.s())
