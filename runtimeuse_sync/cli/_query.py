"""`runtimeuse-sync query`: asks the agent.

Threads: the main thread.
"""

import json
import os
from typing import Any, Dict, Optional

import click

from ..client import RuntimeUseClient
from ..run import Run
from ._options import (
    Environment,
    Settings,
    environment_of,
    environment_options,
    project_client,
    runtime_options,
    settings_of,
)
from ._output import AnswerText, JsonLines, Output
from ._prompt import STDIN, prompt_of, read_text
from ._run import Stage, perform

#: The environment variable with the model.
MODEL_VARIABLE = "RUNTIMEUSE_MODEL"

#: The model if none is named. Some agents need none, some take this word for the one that they prefer.
_ANY_MODEL = "default"


@click.command(short_help="Ask the agent.")
@click.argument("prompt", required=False)
@click.option("-f", "--file", type=click.Path(allow_dash=True), help="A file with the prompt; - is standard input.")
@click.option("-m", "--model", help=f"The model.  [default: ${MODEL_VARIABLE}, or the word 'default']")
@click.option("-s", "--system-prompt", help="The agent's system prompt.")
@click.option(
    "--schema",
    type=click.Path(),
    help="A file with the JSON schema that the answer must fit. Stdout then has nothing but the answer, as JSON.",
)
@environment_options
@runtime_options
def query(
    prompt: Optional[str],
    file: Optional[str],
    model: Optional[str],
    system_prompt: Optional[str],
    schema: Optional[str],
    **options: Any,
) -> int:
    """Ask the agent, and write what it says as it says it.

    Without PROMPT and --file, or with -, the prompt is what standard input has.
    """
    settings = settings_of(options)
    environment = environment_of(options)
    model = model or os.environ.get(MODEL_VARIABLE) or None
    if model is None and settings.agent == "openai":
        raise click.UsageError("the agent openai needs --model")
    if schema == STDIN:
        raise click.UsageError("--schema needs a file: standard input may be the prompt")
    format_text = None if schema is None else _output_format(schema)
    return _ask(
        settings,
        environment,
        prompt_of(prompt, file),
        {
            # A project's client has a model of its own.
            "model": model or (None if project_client(settings) else _ANY_MODEL),
            "system_prompt": system_prompt,
            "output_format_json_schema_str": format_text,
        },
    )


def _ask(settings: Settings, environment: Environment, prompt: str, keywords: Dict[str, Any]) -> int:
    def start(client: RuntimeUseClient) -> "Run[Any]":
        return client.stream(
            prompt,
            agent_env=environment.variables or None,
            secrets_to_redact=environment.secrets,
            **keywords,
        )

    with Stage(settings, environment.secrets) as stage:
        output: Output
        if settings.json:
            output = JsonLines(stage.screen, stage.masking)
        else:
            only = settings.quiet or keywords["output_format_json_schema_str"] is not None
            output = AnswerText(stage.screen, stage.masking, answer_only=only)
        perform(settings, stage, start, output)
        return 0


def _output_format(path: str) -> str:
    """Returns the option for the schema in a file, which may already have the form that agents expect.

    Raises:
        click.UsageError: It cannot be read, or is no schema.
    """
    text = read_text(path, "--schema")
    try:
        schema = json.loads(text)
    except ValueError as error:
        raise click.UsageError(f"--schema {path} is not JSON: {error}") from None
    if not isinstance(schema, dict):
        raise click.UsageError(f"--schema {path} is not a JSON schema: it must be an object")
    if schema.get("type") == "json_schema" and isinstance(schema.get("schema"), dict):
        return json.dumps(schema)
    return json.dumps({"type": "json_schema", "schema": schema})
