"""Judges: protocols, replies, the store of answers, scores out of answers, votes, and figures of pairs."""

import json
import math
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from hafbench.comparison.pair_figures import figures_of
from hafbench.errors import HafError, RunStopped
from hafbench.judges.asking import Answer
from hafbench.judges.endpoint import Options as EndpointOptions
from hafbench.judges.endpoint import data_url, load, shown_url
from hafbench.judges.examples import read_examples
from hafbench.judges.options import JudgeSpec
from hafbench.judges.pairs import JudgedPair
from hafbench.judges.parts import LARGEST_SIDE, SMALLEST_SIDE, Part, cut, shown
from hafbench.judges.protocols import TEXTS, protocol_names, read_protocol
from hafbench.judges.questions import Picture, Token, chances_of
from hafbench.judges.replies import Choice, Fault, Verdict, read_reply, schema_of
from hafbench.judges.store import AnswerStore, Asked, Kept
from hafbench.judges.votes import Voting, majority, score_of
from hafbench.types import Finding, Score

WORDS = ("yes", "no", "unclear")


def tokens(*texts: str, at: int, alternatives: dict[str, float]) -> list[Token]:
    probabilities = {text: math.log(p) for text, p in alternatives.items()}
    return [Token(text, probabilities if place == at else {text: 0.0}) for place, text in enumerate(texts)]


@pytest.mark.parametrize(
    "reply",
    [
        tokens('{"', "error", '":', ' "', "yes", '"}', at=4, alternatives={"yes": 0.7, "no": 0.2, "unclear": 0.1}),
        tokens('{"error":"', "y", 'es"}', at=1, alternatives={"y": 0.7, "no": 0.2, "u": 0.1}),
        tokens('{"error', '": "yes', '"}', at=1, alternatives={'": "yes': 0.7, '": "no': 0.2, '": "unclear': 0.1}),
        tokens('{"error":', ' "yes"', "}", at=1, alternatives={' "yes"': 0.7, ' "no"': 0.2, ' "unclear"': 0.1}),
        tokens(
            '{"observations": "no \\"error\\" here", "error": "',
            "yes",
            '"}',
            at=1,
            alternatives={"yes": 0.4, "Yes": 0.3, "no": 0.2, "unclear": 0.1},
        ),
    ],
)
def test_the_chance_of_a_verdict_is_that_of_the_tokens_in_which_it_begins(reply: list[Token]) -> None:
    found = chances_of(reply, "error", WORDS)
    assert found == pytest.approx({"yes": 0.7, "no": 0.2, "unclear": 0.1})


def test_without_the_field_or_without_log_probabilities_there_are_no_chances() -> None:
    assert chances_of([], "error", WORDS) == {}
    assert chances_of([Token('{"other": "yes"}', {'{"other": "yes"}': 0.0})], "error", WORDS) == {}


def test_the_built_in_protocols_ask_for_the_fields_of_their_replies() -> None:
    assert protocol_names() == ["pair", "regions", "single"]
    for name in protocol_names():
        found = read_protocol(name, ("image", "regions", "pair"))
        fields = (Choice if found.asks == "pair" else Verdict).model_fields
        for part in found.questions:
            asked = found.question(part)
            assert all(f'"{field}"' in asked for field in fields)
            assert "{" not in asked.replace("{prompt}", "")
        assert found.label == f"{name}-1"


@given(st.text(min_size=1, max_size=200))
def test_a_prompt_is_quoted_as_data_that_cannot_end_its_quotation(prompt: str) -> None:
    protocol = read_protocol("single", ("image",))
    before, after = protocol.prompt.split("{prompt}")
    said = protocol.about(prompt)
    quoted = said.removeprefix(before).removesuffix(after)
    assert json.loads(quoted) == prompt
    assert "\n" not in quoted


def test_a_protocol_of_ones_own_is_known_by_its_hash_and_a_broken_one_is_refused(tmp_path: Path) -> None:
    text = (TEXTS / "single.yaml").read_text(encoding="utf-8")
    own = tmp_path / "mine.yaml"
    own.write_text(text + "# changed\n", encoding="utf-8")
    found = read_protocol(str(own), ("image",))
    assert found.label == f"single-1-{found.sha256[:8]}"
    for broken, said in (
        (text.replace("asks: image", "asks: pair"), "questions of pair"),
        (text.replace("{prompt}", "it"), "holds {prompt}"),
        (text + "sytem: x\n", "system"),
        ("- a\n", "is not a judge's protocol"),
        ("a: [", "cannot be read as YAML"),
    ):
        own.write_text(broken, encoding="utf-8")
        with pytest.raises(HafError, match=said):
            read_protocol(str(own), ("image", "pair"))
    with pytest.raises(HafError, match="did you mean single"):
        read_protocol("singel", ("image",))
    with pytest.raises(HafError, match="asks about pair"):
        read_protocol("pair", ("image",))


def test_schemas_have_no_references_and_allow_no_other_fields() -> None:
    text = json.dumps(schema_of(Verdict))
    assert "$ref" not in text and "$defs" not in text
    found = schema_of(Verdict)
    assert found["required"] == list(Verdict.model_fields) and found["additionalProperties"] is False
    assert found["properties"]["faults"]["items"]["properties"]["region"]["enum"] == [
        *("torso", "limbs", "feet", "hands", "face")
    ]


def verdict(error: str = "yes", faults: tuple[Fault, ...] = ()) -> Verdict:
    return Verdict.model_validate({"observations": "", "error": error, "sure": 80, "faults": faults})


def test_replies_are_read_from_what_endpoints_write_around_them() -> None:
    plain = verdict().model_dump_json()
    for text in (plain, f"```json\n{plain}\n```", f"<think>hm</think> {plain} done"):
        assert read_reply(text, Verdict) == verdict()


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("I cannot say.", "no JSON object"),
        ('{"observations": "", "error": "maybe", "sure": 1, "faults": []}', "error"),
        ('{"observations": "", "error": "yes", "sure": 101, "faults": []}', "sure"),
        ('{"observations": "", "error": "yes", "sure": NaN, "faults": []}', "sure"),
        ('{"error": "yes", "sure": 1, "faults": []}', "observations"),
        ('{"observations": "", "error": "yes", "sure": 1, "faults": [{"region": "tail"}]}', "faults"),
    ],
)
def test_a_reply_that_does_not_follow_its_model_is_refused_with_the_reason(text: str, said: str) -> None:
    with pytest.raises(ValueError, match=said):
        read_reply(text, Verdict)


@pytest.mark.parametrize("box", [(1, 2, 3), (0, 0, 1001, 5), (5, 5, 5, 9), (9, 1, 3, 4)])
def test_a_box_is_four_numbers_within_the_picture(box: tuple[float, ...]) -> None:
    fault = {"region": "hands", "kind": "extra", "detail": "", "box": box}
    with pytest.raises(ValueError, match="box"):
        Fault.model_validate(fault)


KEPT = Kept('{"a": 1}', None, False, {"yes": 0.5}, 10, 2, "model")


def test_an_answer_is_kept_once_and_other_processes_see_it(tmp_path: Path) -> None:
    path = tmp_path / "deep" / "judge.sqlite"
    one, other = AnswerStore(path), AnswerStore(path)
    assert one.get("k") is None
    one.add("k", Asked("judge", "single-1", "image"), KEPT)
    other.add("k", Asked("judge", "single-1", "image"), Kept("later", None, False, {}, 0, 0, ""))
    assert one.get("k") == other.get("k") == KEPT
    assert one.counts() == [("judge", "single-1", 1, 10, 2)]
    assert next(one.rows())["chances"] == {"yes": 0.5}


def test_a_killed_process_loses_no_answer(tmp_path: Path) -> None:
    code = f"""
import os
from pathlib import Path
from hafbench.judges.store import AnswerStore, Asked, Kept
store = AnswerStore(Path({str(tmp_path / "s.sqlite")!r}))
for number in range(50):
    store.add(str(number), Asked("j", "p", "image"), Kept("text", None, False, {{}}, 1, 1, "m"))
os.kill(os.getpid(), 9)
"""
    subprocess.run([sys.executable, "-c", code], check=False)
    assert AnswerStore(tmp_path / "s.sqlite").counts() == [("j", "p", 50, 50, 50)]


def test_a_store_that_is_none_is_said_to_be_so(tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(b"no database" * 500)
    with pytest.raises(RunStopped, match="cannot be used"):
        AnswerStore(tmp_path / "a")
    with pytest.raises(RunStopped, match="cannot be used"):
        AnswerStore(tmp_path / "a" / "b.sqlite")


def test_a_picture_is_known_by_its_pixels_and_sent_without_loss() -> None:
    import base64
    import io

    pixels = np.random.default_rng(0).integers(0, 256, (20, 30, 3), np.uint8)
    head, _, body = data_url(Picture(pixels)).partition(",")
    assert head == "data:image/png;base64"
    assert np.array_equal(np.asarray(Image.open(io.BytesIO(base64.b64decode(body)))), pixels)
    assert Picture(pixels).sha256 == Picture(pixels.copy()).sha256 != Picture(pixels.reshape(30, 20, 3)).sha256


@settings(deadline=None, max_examples=30)
@given(st.integers(1, 2000), st.integers(1, 2000))
def test_pictures_are_shown_neither_small_nor_huge_and_in_proportion(height: int, width: int) -> None:
    seen = shown(np.zeros((height, width, 3), np.uint8)).pixels.shape
    longer = max(seen[:2])
    assert (
        min(max(height, width), LARGEST_SIDE) <= max(longer, SMALLEST_SIDE) and SMALLEST_SIDE <= longer <= LARGEST_SIDE
    )
    assert abs(seen[0] / longer - height / max(height, width)) <= 1 / longer


def test_parts_are_cut_with_a_margin_and_the_whole_stands_for_what_was_not_found() -> None:
    image = np.random.default_rng(0).integers(0, 256, (600, 800, 3), np.uint8)
    found = [("hands", (100.0, 100.0, 200.0, 180.0)), ("hands", (110.0, 100.0, 205.0, 180.0))]
    hand, face = cut(image, [*found, ("hands", (-50.0, 590.0, 4.0, 700.0))][:2], ("hands", "face"))
    assert (hand.name, hand.place, face.place) == ("hands", "crop", "whole")
    assert hand.box is not None
    left, top, right, bottom = hand.box  # both boxes, which are the same hand, and their margin
    assert left <= 100 - 30 and top <= 100 - 30 and right >= 205 + 30 and bottom >= 180 + 30
    assert np.array_equal(face.picture.pixels, image)
    (edge,) = cut(image, [("hands", (-50.0, 590.0, 4.0, 700.0))], ("hands",))
    assert edge.box is not None and edge.box[0] == 0 and edge.box[3] == 600


def answer(error: str, p: float | None = None, **more: object) -> Answer[Verdict]:
    chances = {"yes": p, "no": 1 - p} if p is not None else {"yes": float(error == "yes"), "no": float(error == "no")}
    return Answer(verdict(error), chances, "logprobs" if p is not None else "verdict", **more)  # type: ignore[arg-type]


PARTS = [
    Part(name, Picture(np.zeros((8, 8, 3), np.uint8)), (100, 200), (10.0, 20.0, 50.0, 60.0))
    for name in ("hands", "person")
]


def test_an_image_is_scored_by_its_worst_part() -> None:
    fault = Fault(region="hands", kind="extra", detail="six  fingers", box=(500, 500, 1000, 1000))
    bad = Answer(verdict("yes", (fault,)), {"yes": 0.6, "no": 0.2, "unclear": 0.2}, "logprobs")
    score = score_of([bad, answer("no", 0.1)], PARTS, 0.5)
    assert score.value == pytest.approx(0.75)
    assert score.is_error
    (finding,) = score.findings
    assert (finding.region, finding.kind, finding.detail, finding.box) == (
        *("hands", "extra", "six fingers"),
        (30.0, 40.0, 50.0, 60.0),
    )
    assert score.measures == {"questions": 2, "p_by_logprobs": 2, "refused": 0, "unclear": 0}


def test_an_error_whose_place_the_judge_does_not_say_is_where_the_part_is() -> None:
    (finding,) = score_of([answer("no"), answer("yes")], PARTS, 0.5).findings
    assert (finding.region, finding.detail, finding.box) == ("limbs", "not localized", (10.0, 20.0, 50.0, 60.0))


def test_what_no_answer_says_is_unknown_refused_or_failed() -> None:
    refused: Answer[Verdict] = Answer(None, {}, refusal="no people")
    broken: Answer[Verdict] = Answer(None, {}, problem="500")
    cases: list[tuple[list[Answer[Verdict]], str, str | None]] = [
        ([answer("absent"), answer("absent")], "unknown", "the judge sees nobody"),
        ([answer("unclear"), answer("absent")], "unknown", "the judge cannot tell"),
        ([refused, answer("absent")], "unknown", "the judge refused: no people"),
        ([refused, answer("no")], "scored", None),
        ([broken, answer("no")], "failed", "500"),
        ([broken, answer("yes")], "scored", None),
    ]
    for answers, status, reason in cases:
        score = score_of(answers, PARTS, 0.5)
        assert (score.status, score.reason) == (status, reason)
        unclear = sum(one.reply is not None and one.reply.error == "unclear" for one in answers)
        counted = {"questions": 2, "refused": sum(one is refused for one in answers), "unclear": unclear}
        assert counted.items() <= score.measures.items()
        nobody = reason == "the judge sees nobody"
        assert score.cause == (None if status != "unknown" else "absent" if nobody else "unjudgeable")


def test_findings_of_several_judges_say_whose_they_are() -> None:
    finding = Finding("hands", "extra", "six fingers", 0.9)
    yes, no = Score("scored", 0.9, True, findings=(finding,)), Score("scored", 0.2, False)
    won = majority([Voting("a", yes), Voting("b", no), Voting("c", yes)])
    assert [one.detail for one in won.findings] == ["a: six fingers", "c: six fingers"]
    assert majority([Voting("a", yes)]).findings == (finding,)


def test_several_judges_vote_and_a_tie_is_unknown() -> None:
    yes, no = Score("scored", 0.9, True), Score("scored", 0.2, False)
    unknown = Score("unknown", reason="the judge cannot tell")
    won = majority([Voting("a", yes), Voting("b", no), Voting("c", yes)])
    assert won.is_error
    assert won.value == pytest.approx(2 / 3)
    assert won.measures["a: p"] == 0.9 and won.measures["b: error"] == 0.0 and won.measures["judges"] == 3
    tie = majority([Voting("a", yes), Voting("b", no)])
    assert (tie.status, tie.reason) == ("unknown", "the judges disagree")
    assert (tie.measures["a: error"], tie.measures["b: error"]) == (1.0, 0.0)  # for the rates of each, and their kappa
    assert majority([Voting("a", no), Voting("b", unknown)]).is_error is False
    tied = majority([Voting("a", unknown), Voting("b", unknown)])
    assert (tied.status, tied.reason) == ("unknown", "a: the judge cannot tell; b: the judge cannot tell")
    nobody = Score("unknown", reason="the judge sees nobody", cause="absent")
    for other, cause in ((nobody, "absent"), (unknown, "unjudgeable")):
        assert majority([Voting("a", nobody), Voting("b", other)]).cause == cause


@pytest.mark.parametrize(
    ("forward", "backward", "gain", "consistent"),
    [
        ("first", "second", -1, True),
        ("second", "first", 1, True),
        ("tie", "tie", 0, True),
        ("first", "first", 0, False),
        ("second", "second", 0, False),
        ("first", "tie", 0, False),
        (None, "first", None, None),
    ],
)
def test_a_picture_wins_only_where_it_wins_in_both_orders(
    forward: str | None, backward: str | None, gain: int | None, consistent: bool | None
) -> None:
    judged = JudgedPair("p", forward, backward)
    assert (judged.gain, judged.consistent) == (gain, consistent)


def test_figures_of_pairs_by_hand() -> None:
    pairs = [JudgedPair(str(n), "second", "first") for n in range(6)]  # the candidate wins
    pairs += [JudgedPair(str(n), "first", "second") for n in range(6, 8)]  # the baseline wins
    pairs += [JudgedPair("8", "tie", "tie"), JudgedPair("9", "first", "first"), JudgedPair("10", None, None, "500")]
    found = figures_of(pairs, "judge", "pair-1")
    assert (found.wins.win, found.wins.tie, found.wins.lose) == (6, 2, 2)
    assert found.wins.rsi == pytest.approx((6 + 2) / (2 + 2))
    assert found.inconsistent is not None and (found.inconsistent.errors, found.inconsistent.scored) == (1, 10)
    # Each consistent decisive pair has one win of either place; the inconsistent one two of the first.
    assert found.first is not None and (found.first.errors, found.first.scored) == (8 + 2, 16 + 2)
    assert not found.biased
    assert found.unjudged == (("500", 1),)
    # Exact: of 2^8 ways to give eight decisive prompts their signs, those as far from even as 6 to 2.
    exact = 2 * sum(math.comb(8, k) for k in range(3)) / 2**8
    assert found.p_value == pytest.approx(exact, abs=0.02)


def test_examples_are_shown_with_the_questions_of_their_part(tmp_path: Path) -> None:
    for name in ("good/a.png", "bad/hands/b.png", "bad/c.png"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (16, 16), (len(name), 0, 0)).save(tmp_path / name)
    found = read_examples(tmp_path)
    assert [len(found.of(part)) for part in ("hands", "face")] == [6, 4]
    assert found.sha256 != read_examples(None).sha256 is None
    (tmp_path / "bad" / "c.png").unlink()
    (tmp_path / "bad" / "hands" / "b.png").unlink()
    with pytest.raises(HafError, match="no pictures in bad/"):
        read_examples(tmp_path)


def test_an_address_is_shown_without_what_may_be_secret() -> None:
    url = "https://me:secret@host.example:8443/v1?api-key=secret#secret"
    assert shown_url(url) == "https://host.example:8443/v1"
    assert shown_url("http://[::1]:8000/v1") == "http://[::1]:8000/v1"
    assert "secret" not in JudgeSpec(judge=url, model="m").model_dump_json()
    plain = JudgeSpec.model_validate({"judge": "endpoint", "options": {"url": url, "model": "m"}})
    assert "secret" not in plain.model_dump_json() and plain.row[1]["url"] == url
    assert plain.model_dump(mode="json")["options"] == {"url": shown_url(url), "model": "m"}
    assert "secret" not in EndpointOptions(url=url, model="m").model_dump_json()
    assert JudgeSpec(judge=url, model="m").row[1]["url"] == url


@pytest.mark.parametrize("url", ["localhost:8000/v1", "ftp://host/v1", "http://", "http://host:99999/v1"])
def test_an_address_that_is_none_is_refused(url: str) -> None:
    with pytest.raises(HafError, match="is not an endpoint"):
        load(EndpointOptions(url=url, model="m"), "cpu")
    with pytest.raises(HafError, match="--judge-model"):
        load(EndpointOptions(url="http://host/v1"), "cpu")


def test_the_key_of_one_service_is_not_sent_to_another(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", "sk-openai")
    monkeypatch.delenv("HAFBENCH_JUDGE_API_KEY", raising=False)
    keys = [
        load(EndpointOptions(url=url, model="m"), "cpu")._client.api_key
        for url in ("http://other/v1", "https://api.openai.com/v1")
    ]
    assert keys == ["none", "sk-openai"]
