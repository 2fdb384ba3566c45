"""The suites that come with the package, and what is said of a bad one."""

import json
import os
import re
from collections import Counter
from itertools import combinations
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hafbench.errors import HafError
from hafbench.suites import (
    CATEGORIES,
    Category,
    Expect,
    Prompt,
    load_suite,
    read_prompts,
    suite_names,
    suites_folder,
)

PARTS = {"hands", "feet", "face", "limbs"}
TAGS = {"photo", "illustration", *PARTS, "child", "older", "disability", "group", "close_up"}
UNFIT = re.compile(
    r"\b(nude|naked|sexy|seductive|erotic|lingerie|underwear|bikini|topless|breasts?|buttocks"
    r"|kill\w*|murder\w*|blood\w*|corpse|dead|guns?|rifle|pistol|gore|wounds|wounded|suicid\w*|rape\w*|tortur\w*|strangl\w*)\b",
    re.I,
)
SAID = {
    "child": r"child|children|toddler|baby|babies|infant|newborn|boy|girls?|kids?|teen\w*|schoolchildren",
    "older": r"(old|older|elderly) (man|woman|lady|couple|farmer|monk|sailor|tailor|judge)|grand(mother|father)",
    "disability": r"prosthe\w*|amput\w*|wheelchair|blind|deaf|sign language|hearing aid|cochlear|crutches|white cane",
    "close_up": r"close-up|macro",
    "illustration": r"illustration|watercolou?r|drawing|sketch|oil painting|gouache|render|woodcut|linocut|pastel",
}
"""Words that oblige a prompt to carry the tag; a tag may stand without them."""


@pytest.mark.parametrize(("name", "each"), [("haf-500", 100), ("haf-50", 10)])
def test_every_category_has_its_share(name: str, each: int) -> None:
    prompts = load_suite(name).prompts
    assert Counter(prompt.category for prompt in prompts) == dict.fromkeys(CATEGORIES, each)
    assert len({prompt.id for prompt in prompts}) == len(prompts)
    assert len({prompt.text.lower() for prompt in prompts}) == len(prompts)


def test_haf_50_is_lines_of_haf_500_in_the_same_order() -> None:
    few, all_lines = ((suites_folder() / f"{n}.jsonl").read_bytes().splitlines() for n in ("haf-50", "haf-500"))
    assert few == [line for line in all_lines if line in set(few)]


def word_ngrams(text: str, n: int = 3) -> frozenset[tuple[str, ...]]:
    """The word n-grams of a text, lower-cased, punctuation dropped: how near-duplicates are told."""
    words = re.findall(r"[a-z0-9']+", text.lower())
    return frozenset(tuple(words[i : i + n]) for i in range(len(words) - n + 1))


@pytest.mark.parametrize("category", CATEGORIES)
def test_no_two_prompts_of_a_category_are_near_duplicates(category: str) -> None:
    # 0.6 is the bar for any suite; ours stays well below it.
    grams = {p.id: word_ngrams(p.text) for p in load_suite("haf-500").prompts if p.category == category}
    for a, b in combinations(grams, 2):
        shared = len(grams[a] & grams[b]) / min(len(grams[a]), len(grams[b]))
        assert shared < 0.25, (a, b)


def test_prompts_are_varied_and_mostly_photographs() -> None:
    tags = Counter(tag for prompt in load_suite("haf-500").prompts for tag in prompt.tags)
    assert set(tags) == TAGS
    assert tags["photo"] + tags["illustration"] == 500
    assert tags["photo"] >= 425
    assert min(tags[tag] for tag in ("child", "older", "disability", "group", "illustration")) >= 20


def test_the_counts_in_the_docs_are_those_of_the_files() -> None:
    docs = (Path(__file__).parents[1] / "docs" / "reference" / "suites.md").read_text(encoding="utf-8")
    rows = {tag: (int(a), int(b)) for tag, a, b in re.findall(r"^\| (\w+) \| (\d+) \| (\d+) \|", docs, re.M)}
    full, few = (Counter(t for p in load_suite(name).prompts for t in p.tags) for name in ("haf-500", "haf-50"))
    assert rows == {tag: (full[tag], few[tag]) for tag in full}
    expects = [p.expect for p in load_suite("haf-500").prompts]
    known = [sum(getattr(e, field) is not None for e in expects) for field in ("people", "hands", "digits")]
    assert "people for {} prompts of haf-500, hands for {}, digits for {}".format(*known) in docs


def test_every_prompt_puts_a_part_of_the_body_in_view_and_is_of_sensible_length() -> None:
    for prompt in load_suite("haf-500").prompts:
        assert PARTS & set(prompt.tags), prompt.id
        assert ("photo" in prompt.tags) != ("illustration" in prompt.tags), prompt.id
        assert len(set(prompt.tags)) == len(prompt.tags), prompt.id
        assert 8 <= len(prompt.text.split()) <= 40, prompt.id
        assert not UNFIT.search(prompt.text), prompt.id


@pytest.mark.parametrize("tag", SAID)
def test_a_prompt_that_says_so_carries_the_tag(tag: str) -> None:
    said = [p for p in load_suite("haf-500").prompts if re.search(rf"\b({SAID[tag]})\b", p.text, re.I)]
    assert len(said) >= 15
    assert [p.id for p in said if tag not in p.tags] == []


def test_what_is_expected_does_not_contradict_itself() -> None:
    for prompt in load_suite("haf-500").prompts:
        people, hands, digits = prompt.expect.people, prompt.expect.hands, prompt.expect.digits
        if people is not None:
            assert (people > 1) == ("group" in prompt.tags), prompt.id
        if people is not None and hands is not None:
            assert 1 <= hands <= 2 * people, prompt.id
        if hands is not None:
            assert "hands" in prompt.tags, prompt.id
        if digits is not None:
            assert hands is not None, prompt.id
            assert 1 <= digits <= 5 * hands, prompt.id


def test_prosthetic_hands_are_not_counted_and_a_missing_arm_is_respected() -> None:
    said = {p.id: p for p in load_suite("haf-500").prompts if "disability" in p.tags}
    without = [p for p in said.values() if re.search(r"prosthetic (left forearm|hands?|arm)\b", p.text)]
    one_arm = [p for p in said.values() if re.search(r"\bwith one arm\b", p.text)]
    assert len(without) == 4
    assert len(one_arm) == 3
    assert all(p.expect.hands is None and p.expect.digits is None for p in without)
    assert all(p.expect.hands in (None, 1) for p in one_arm)


GOOD = '{"id": "a", "text": "a hand"}'


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (f"{GOOD}\n{{broken", "line 2: .*JSON"),
        (f'{GOOD}\n\n{{"id": "b", "text": "x", "category": "feet"}}', "line 3: category"),
        ('{"id": "b", "text": "x", "colour": "red"}', "line 1: colour"),
        ('{"id": "b", "text": "   "}', "line 1: text"),
        ('{"id": "b"}', "line 1: text: it is not given"),
        ('{"id": "../../etc/passwd", "text": "x"}', "line 1: id: use letters, digits"),
        ('{"id": "b", "text": "x", "expect": {"hands": -1}}', r"line 1: expect\.hands"),
        (f"{GOOD}\n{GOOD}", "line 2: the id 'a' was used on line 1"),
        (GOOD + "\n" + GOOD.replace('"a"', '"A"'), "line 2: the id 'A' was used on line 1"),
        ("[1, 2]", "line 1: "),
        ('{"id": "b", "text": "a\\u0000b"}', "line 1: text: there is a NUL character"),
        ('{"id": "b", "text": "a", "tags": ["\\u0000"]}', r"line 1: tags\.0: there is a NUL character"),
        ('{"id": "b", "text": "\\ud800"}', "line 1: .*JSON"),
        ("[" * 100_000, "line 1: .*recursion limit"),
        ('{"id": "b", "expect": ' + '{"people": ' * 100_000, "line 1: .*recursion limit"),
        ("", "there is no prompt"),
        (GOOD + "\n" + GOOD.replace('"a"', '"b"'), "the prompts 'a' and 'b' have the same text"),
    ],
)
def test_a_bad_line_is_refused_with_file_line_and_reason(tmp_path: Path, content: str, words: str) -> None:
    path = tmp_path / "mine.jsonl"
    path.write_text(content)
    with pytest.raises(HafError, match=rf"mine\.jsonl.*{words}"):
        load_suite(str(path))


def test_files_that_cannot_be_read_are_one_sentence(tmp_path: Path) -> None:
    (tmp_path / "latin.jsonl").write_bytes(b'{"id": "a", "text": "caf\xe9"}')
    (tmp_path / "folder.jsonl").mkdir()
    os.mkfifo(tmp_path / "pipe.jsonl")  # which nobody writes to: to open it would be to wait for ever
    for name in ("latin.jsonl", "missing.jsonl", "folder.jsonl", "pipe.jsonl", f"{'long' * 1000}.jsonl", "\0.jsonl"):
        with pytest.raises(HafError, match=name):
            load_suite(str(tmp_path / name))


def test_a_byte_order_mark_and_windows_line_ends_are_read(tmp_path: Path) -> None:
    path = tmp_path / "windows.jsonl"
    path.write_bytes(f'{GOOD}\r\n\r\n{{"id": "b", "text": "a foot"}}\r\n'.encode("utf-8-sig"))
    assert [(p.id, p.text) for p in load_suite(str(path)).prompts] == [("a", "a hand"), ("b", "a foot")]


def test_an_unknown_suite_gets_the_nearest_names() -> None:
    with pytest.raises(HafError, match="did you mean haf-500"):
        load_suite("haf500")
    assert {"haf-50", "haf-500"} <= set(suite_names())


@given(
    name=st.from_regex(r"\A[A-Za-z0-9][A-Za-z0-9._-]{0,30}\Z"),
    text=st.text(min_size=1, max_size=200).filter(lambda text: text.strip() == text and "\0" not in text),
    category=st.sampled_from(CATEGORIES),
    digits=st.none() | st.integers(0, 10),
)
def test_a_prompt_written_and_read_is_the_same(
    tmp_path_factory: pytest.TempPathFactory, name: str, text: str, category: Category, digits: int | None
) -> None:
    prompt = Prompt(id=name, text=text, category=category, tags=("photo",), expect=Expect(digits=digits))
    path = tmp_path_factory.mktemp("suite") / "s.jsonl"
    path.write_text(json.dumps(prompt.model_dump(), ensure_ascii=False) + "\n", encoding="utf-8")
    assert read_prompts(path) == (prompt,)
