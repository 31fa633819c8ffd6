"""A LiveKit agent that writes down what it hears: `python livekit_agent.py dev`, LIVEKIT_URL and keys set."""

import os

from livekit.agents import Agent, AgentSession, JobContext, WorkerOptions, cli

from sotto_client.livekit_plugin import WhisperSTT

SERVICE_URL = os.environ.get("STT_SERVICE_URL", "http://127.0.0.1:8000")


async def entrypoint(context: JobContext) -> None:
    session = AgentSession(stt=WhisperSTT(service_url=SERVICE_URL, language="en"))
    session.on(
        "user_input_transcribed", lambda heard: print("final" if heard.is_final else "...", heard.transcript)
    )
    await session.start(agent=Agent(instructions="Listen."), room=context.room)


if __name__ == "__main__":
    cli.run_app(WorkerOptions(entrypoint_fnc=entrypoint))
