"""What of a chat completion is read, as typed values: endpoints are many, and each reply is validated."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict

from hafbench.judges.questions import Reply, Token


class _Part(BaseModel):
    model_config = ConfigDict(frozen=True, extra="ignore")


class _Chance(_Part):
    token: str
    logprob: float


class _Token(_Chance):
    top_logprobs: tuple[_Chance, ...] | None = None


class _Chances(_Part):
    content: tuple[_Token, ...] | None = None


class _Message(_Part):
    content: str | None = None
    refusal: str | None = None


class _Choice(_Part):
    message: _Message
    finish_reason: str | None = None
    logprobs: _Chances | None = None


class _Usage(_Part):
    prompt_tokens: int | None = None
    completion_tokens: int | None = None


class Completion(_Part):
    """A completion of OpenAI's protocol; other fields are passed over."""

    choices: tuple[_Choice, ...]
    usage: _Usage | None = None
    model: str | None = None

    def reply(self) -> Reply:
        """The first choice; raises ValueError if there is none."""
        if not self.choices:
            raise ValueError("there is no choice in it")
        choice, usage = self.choices[0], self.usage or _Usage()
        filtered = "content filter" if choice.finish_reason == "content_filter" else None
        content = choice.logprobs.content if choice.logprobs else None
        return Reply(
            choice.message.content or "",
            choice.message.refusal or filtered,
            choice.finish_reason == "length",
            [
                Token(one.token, {one.token: one.logprob} | {top.token: top.logprob for top in one.top_logprobs or ()})
                for one in content or ()
            ],
            usage.prompt_tokens or 0,
            usage.completion_tokens or 0,
            self.model or "",
        )
