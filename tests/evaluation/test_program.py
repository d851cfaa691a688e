"""The programmatic judge: it rewards what was asked for and is not fooled by the usual shortcuts."""

from __future__ import annotations

import pytest

from alignment.evaluation.program import judge, parts, request


def ask(text: str) -> list[dict[str, str]]:
    return [{"role": "user", "content": text}]


# prompt, a good answer, a middling answer (facts missing)
EXAMPLES = [
    (
        "Write a story about a fox named Ben who finds a red kite. Use two sentences.",
        "Ben was a young fox, and one morning he saw a kite in a tree. It was red, so he took it and smiled.",
        "The fox was very happy. He liked to run in the tall grass all day.",
    ),
    (
        "Tell me a story about Mia the baker. Put a drum in it. Use three sentences.",
        "A baker called Mia heard a sound outside. It came from a big drum. She laughed and danced too.",
        "Mia was in her house. She was very happy there. Her mother gave her some bread.",
    ),
    (
        "Write two sentences about Leo, a boat and the river.",
        "Leo had a small boat that he made from wood. He took it down to the river and let it go.",
        "The boat was very big and old. It had a tall white sail in the sun.",
    ),
    (
        "Describe a green coat at the market. Use two sentences.",
        "At the market there is a long coat with two pockets. It is green and it looks very warm.",
        "The market was full of people. They all wanted to buy some bread and milk.",
    ),
    (
        "I want a story with a nurse, a bell and the castle. Use two sentences.",
        "The nurse walked up to the castle in the rain. She rang the bell, and a king let her in.",
        "There was an old king who lived alone. A nurse came by and gave him some soup.",
    ),
]


def mean(values: list[float]) -> float:
    return sum(values) / len(values)


def test_the_request_is_read_from_the_prompt() -> None:
    assert request(ask(EXAMPLES[0][0])) == (["fox", "ben", "red", "kite"], 2)
    assert request(ask(EXAMPLES[1][0])) == (["mia", "baker", "drum"], 3)
    assert request(ask("Tell me about a rainy day at the pond with Zoe. Use 2 sentences.")) == (
        ["rainy", "pond", "zoe"],
        2,
    )
    assert request(ask("Please write a story in three sentences. It needs Tom, an owl and a key.")) == (
        ["tom", "owl", "key"],
        3,
    )
    assert request(ask("Tell me a story about an owl."))[1] is None
    chat = [{"role": "user", "content": "Write about a cat."}, {"role": "assistant", "content": "A cat sat."}]
    assert request([*chat, *ask("Write about a dog.")]) == (["dog"], None)
    with pytest.raises(ValueError, match="no user message"):
        request([{"role": "system", "content": "hello"}])


@pytest.mark.parametrize(("prompt", "good", "middling"), EXAMPLES)
def test_following_the_request_pays(prompt: str, good: str, middling: str) -> None:
    assert judge(ask(prompt), good) > 0.85
    assert judge(ask(prompt), good) > judge(ask(prompt), middling) + 0.25


def test_shortcuts_score_below_the_mean_demonstration() -> None:
    demonstrations = mean([judge(ask(prompt), good) for prompt, good, _ in EXAMPLES])
    echoed = mean([judge(ask(prompt), prompt) for prompt, _, _ in EXAMPLES])
    assert echoed < 0.1 < demonstrations
    assert mean([judge(ask(prompt), "") for prompt, _, _ in EXAMPLES]) == 0.0
    constant = max(mean([judge(ask(p), good) for p, _, _ in EXAMPLES]) for _, good, _ in EXAMPLES)
    assert constant < demonstrations - 0.25
    for prompt, _, _ in EXAMPLES:
        facts, number = request(ask(prompt))
        assert number is not None
        listed = ", ".join(facts) + "."
        per_sentence = " ".join([", ".join(facts).capitalize() + "."] * number)
        words = " ".join([f"{fact} {fact} {fact}." for fact in facts] * 2)
        for shortcut in (listed, per_sentence, words):
            assert judge(ask(prompt), shortcut) < 0.5 < demonstrations


def test_each_part_moves_the_score() -> None:
    prompt, good, _ = EXAMPLES[0]
    scored = parts(ask(prompt), good)
    assert set(scored) == {"facts", "sentences", "length", "variety", "copied", "ended", "loops", "score"}
    assert all(0.0 <= value <= 1.0 for value in scored.values())
    assert parts(ask(prompt), good[:-1])["ended"] < 1.0
    assert parts(ask(prompt), good + " He ran. He sat.")["sentences"] < scored["sentences"]
    assert parts(ask(prompt), "Ben ran. The kite fell.")["length"] < 1.0
    assert parts(ask(prompt), "A fox named Ben who finds a kite was glad. It was red.")["copied"] < 0.2
    looped = "Ben the fox had a red kite. " * 2
    assert parts(ask(prompt), looped)["loops"] < 0.5
    assert judge(ask(prompt), looped) < judge(ask(prompt), good)


def test_inflections_are_tolerated() -> None:
    prompt = ask("Write two sentences about a puppy, cookies and a box.")
    text = "Two puppies sat on the floor of the kitchen. They ate a cookie out of the old boxes."
    assert parts(prompt, text)["facts"] == 1.0


def test_what_is_asked_decides_and_equals_tie() -> None:
    prompt = ask(EXAMPLES[2][0])
    whole = [
        "Leo saw a boat by the river. He was very happy and he sat in it.",
        "Leo saw a boat near the river. He was happy and he sat in it for a long time.",
        "The river was near the house of Leo. He had a boat and he liked it very much.",
    ]
    assert {judge(prompt, text) for text in whole} == {1.0}
    without = "Leo went out with his boat. The water was cold and the boat was slow."
    assert judge(prompt, without) < 0.85
