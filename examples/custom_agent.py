"""Run your own agent in the embedded runtime: an object with a method `run`, or just a function.

To serve the same agent as a process, run this command in this directory:
`python -m runtimeuse_sync.runtime --agent custom_agent:WordCounter`
"""

from typing import Any, Dict, Tuple

from runtimeuse_sync import AgentRuntimeError, AssistantMessageInterface, RuntimeUseClient
from runtimeuse_sync.runtime import Invocation, LocalRuntime, Sender


class WordCounter:
    """Counts the words of the prompt. It runs in its own thread, like every agent that is not `async`."""

    def run(self, invocation: Invocation, sender: Sender) -> Tuple[Dict[str, Any], Dict[str, Any]]:
        shortest = int(invocation.env.get("SHORTEST", "1"))
        counts: Dict[str, int] = {}
        for line in invocation.user_prompt.splitlines():
            if invocation.cancelled.is_set():
                break  # The return value no longer matters.
            sender.send_assistant_message([f"reading {line!r}"])
            for word in line.split():
                if len(word) >= shortest:
                    counts[word] = counts.get(word, 0) + 1
        if not counts:
            raise ValueError("there is nothing to count")
        # The result, and its metadata.
        return counts, {"model": invocation.model}


def show(message: AssistantMessageInterface) -> None:
    print("assistant:", *message.text_blocks)


if __name__ == "__main__":
    with LocalRuntime(agent=WordCounter()) as runtime:
        client = RuntimeUseClient(runtime.ws_url, model="counter-1")
        result = client.query(
            "to be or not to be\nthat is the question", agent_env={"SHORTEST": "3"}, on_assistant_message=show
        )
        print("result:", result.structured_output)
        print("metadata:", result.metadata)
        try:
            client.query("a b c", agent_env={"SHORTEST": "3"})
        except AgentRuntimeError as error:
            print("error:", error.error)
