"""The prompts behind the embedded model: what the teacher is asked to write, and the quickstart's requests.

Everything is our own wording: word lists and sentence shapes filled at random from a seed. Corpus prompts
(`corpus_prompt`) and quickstart prompts (`quickstart_prompts`) share words but no phrasing, so no quickstart
prompt is ever in the corpus.
"""

from __future__ import annotations

import random
from dataclasses import dataclass

import examples

NAMES = (
    "Ben Mia Leo Zoe Max Lily Tom Anna Sam Ella Jack Rosa Finn Nora Oscar Ruby Theo Ivy Milo Daisy "
    "Hugo Alma Felix Clara Otto Wendy Paul Tina Luca Hazel Omar Lena Ravi Maya Kofi Amina Pedro Lucy "
    "Peter Grace Henry Alice Simon Emma Toby Molly Noah Sara Adam Julia Carl Bella David Sophie Oliver "
    "Nina George Eva Martin Kate"
).split()
ANIMALS = (
    "fox cat dog rabbit bear mouse duck frog horse owl pig sheep goat cow hen turtle squirrel monkey "
    "lion elephant penguin hedgehog otter deer crow donkey bee ant snail fish whale seal wolf tiger "
    "parrot puppy kitten"
).split()
PEOPLE = (
    "boy girl farmer baker teacher doctor sailor king queen painter gardener driver singer cook "
    "fisherman grandmother grandfather nurse carpenter shepherd princess knight postman pilot student"
).split()
OBJECTS = (
    "kite ball hat book boat drum key lamp bell box cup spoon coat basket blanket bike mirror map "
    "whistle ring coin balloon pencil bucket rope ladder wagon flower shell stone feather button scarf "
    "clock bag toy letter apple pumpkin carrot cake cookie egg umbrella lantern violin shovel broom "
    "sled"
).split()
COLORS = ("red blue green yellow white black golden silver purple brown orange pink").split()
PLACES = (
    (
        "river forest garden farm beach park school market village hill lake cave island bridge kitchen barn meadow "
        "mountain castle library town field harbor bakery playground pond tower train station"
    )
    .replace("train station", "station")
    .split()
)
WEATHER = ("rainy sunny windy snowy foggy stormy warm cold cloudy hot").split()
FEELINGS = (
    "happy sad proud afraid angry brave lonely tired shy curious surprised hungry worried calm kind"
).split()
EVENTS = (
    "a birthday party|a long walk|a big storm|a race|a picnic|a lost toy|a new friend|a broken cup|"
    "a surprise gift|a trip to the sea|the first day of school|a missing key|a loud noise at night|"
    "a garden contest|a small mistake|a shared lunch|a snow day|a boat ride|a hidden treasure|"
    "a baby bird that fell from its nest|a promise|a secret path|a village fair|a visit from a cousin|"
    "a song that nobody knew|a fallen tree|a cold winter"
).split("|")
LESSONS = (
    "being kind|telling the truth|sharing|being patient|asking for help|trying again|"
    "listening to others|saying sorry|working together|taking care of animals|keeping a promise|"
    "being brave|waiting your turn|being thankful|not giving up"
).split("|")
OPPOSITES = (
    "big and small|fast and slow|hot and cold|loud and quiet|old and new|day and night|happy and sad|"
    "wet and dry|tall and short|light and dark|near and far|hard and soft|clean and dirty|"
    "full and empty|early and late|rich and poor|heavy and light|open and closed"
).split("|")
TOPICS = (
    "rain|snow|the sun|the moon|stars|clouds|wind|rivers|the sea|trees|leaves|seeds|flowers|bread|milk|"
    "cheese|honey|eggs|apples|soup|salt|sugar|sleep|dreams|school|books|letters|maps|clocks|wheels|"
    "boats|trains|planes|bicycles|bridges|houses|doors|windows|shoes|hats|coats|soap|water|ice|fire|"
    "music|drums|songs|paint|colors|shadows|birds|fish|bees|ants|spiders|cats|dogs|horses|cows|sheep|"
    "farms|gardens|markets|cities|villages|mountains|islands|beaches|forests|deserts|winter|spring|"
    "summer|autumn|morning|night|friends|families|teachers|doctors|farmers|bakers|firefighters|games|"
    "toys|kites|balls|birthdays|gifts|holidays|teeth|hands|eyes|ears|bones|exercise|fruit|vegetables|"
    "paper|wood|glass|metal|gold|wool|cotton|umbrellas|mirrors|candles|lamps"
).split("|")
STARTS = ("Once|One day|One morning|In the evening|Every day|At night|Last summer|In winter|Long ago").split(
    "|"
)
LENGTHS = (
    "two sentences",
    "three sentences",
    "four sentences",
    "five sentences",
    "six sentences",
    "one paragraph",
)

# {w} is a person or an animal, {n} a name, {m} another name, {a} an animal, {o} an object, {p} a place …
STORIES = (
    "Write a very short story about {a_w} called {n}. Something happens with {a_o}.",
    "Write a tiny tale for children: {n} is {a_w}, and there is {a_o} near the {p}.",
    "Tell a simple story with {n}, {m} and {a_o}.",
    "Tell a short story that begins with the word '{s}' and has {a_w} and a {c} {o} in it.",
    "Write a small story in which {a_w} feels {f} on a {k} day.",
    "Write a short story about {e}. The main person is {n}.",
    "Write a short story about {e} at the {p}.",
    "Make up a short bedtime story about {a_a} and {a_w}.",
    "Write a little story for a young child that shows why {l} is good. Use {a_a}.",
    "{n} and {m} are at the {p}. Write what happens next.",
    "{n} the {w} is {f} today. Write a short story about why.",
    "Write a short talk between {n} and {m} about {a_o}.",
    "Write a short story in simple words: {n} loses {a_o} and looks for it.",
    "Write a short story in simple words: {n} makes {a_o} for {m}.",
    "Write a short story in simple words: {a_a} helps {a_w} at the {p}.",
    "Write about a {k} day at the {p} in very simple words.",
    "Write a few simple lines about {a_w} who has a {c} {o}.",
    "Write a simple diary page of {n}, a {x} who lives near the {p}.",
    "Describe a {c} {o} in very simple words.",
    "Describe the {p} in the morning. Use easy words.",
    "Write a short, funny story about {a_a}, {a_o} and the {p}.",
    "Write a short story about {t} and {a_w}.",
)
REQUESTS = (  # kept with their question: 'Question: … Answer: …'
    "Can you tell me a story about {n} and {a_o}?",
    "Can you tell me about {a_a} called {n} at the {p}?",
    "Who is {n} the {w}, and what did {n} do at the {p}?",
    "What happened to {n} and the {c} {o}?",
    "Why was {n} the {w} so {f}?",
    "What did {n} see at the {p} on a {k} day?",
    "What did {n} and {m} do with the {o}?",
    "How did {a_a} and {a_w} become friends?",
    "Where did {n} find {a_o}?",
    "Tell me about {n}, {a_o} and the {p}.",
    "Give me a short story with {a_a}, {a_o} and {a_w}.",
    "What is a good story about {e} for a child?",
)
QUESTIONS = (
    "What is {t_it}?",
    "Why do people like {t}?",
    "Why are {ts} important?",
    "What can you do with {a_o}?",
    "Where can you find {a_a}?",
    "What does {a_a} eat?",
    "What does {a_x} do all day?",
    "What do you need for {e}?",
    "How do you take care of {a_pet}?",
    "What is the difference between {q}?",
    "What can you see at the {p}?",
    "What should you do on a {k} day?",
    "What can you do when you feel {f}?",
    "Why is {l} a good thing?",
    "What can you tell a child about {t}?",
    "How would you describe {a_o} to a friend?",
    "What is fun about {ts}?",
    "Why does {a_x} need {a_o}?",
    "What would {a_a} do with {a_o}?",
    "What colors can {a_o} have?",
)


@dataclass(frozen=True)
class Prompt:
    """One request to the teacher. `kind` is story (text kept alone), exchange (question kept) or task.
    `shown` is a worked example (request, answer) that the teacher sees first."""

    kind: str
    text: str
    shown: tuple[str, str]
    question: str = ""
    id: str = ""


def article(noun: str) -> str:
    """The noun with its a or an."""
    return ("an " if noun[0] in "aeiou" else "a ") + noun


def fill(shape: str, rng: random.Random) -> str:
    """Fill one shape's slots with random words."""
    name, other = rng.sample(NAMES, 2)
    who = rng.choice(ANIMALS if rng.random() < 0.5 else PEOPLE)
    words = {"n": name, "m": other, "w": who, "a": rng.choice(ANIMALS), "x": rng.choice(PEOPLE)}
    words |= {
        "o": rng.choice(OBJECTS),
        "c": rng.choice(COLORS),
        "p": rng.choice(PLACES),
        "t": rng.choice(TOPICS),
    }
    words |= {
        "k": rng.choice(WEATHER),
        "f": rng.choice(FEELINGS),
        "e": rng.choice(EVENTS),
        "l": rng.choice(LESSONS),
    }
    words |= {"s": rng.choice(STARTS), "q": rng.choice(OPPOSITES)}
    plural = [t for t in TOPICS if t.endswith("s") and not t.startswith("the ")]
    single = [t for t in TOPICS if not t.endswith("s")]
    words |= {
        "ts": rng.choice(plural),
        "t_it": rng.choice(single),
        "a_pet": rng.choice(["a dog", "a cat", "a horse"]),
    }
    words |= {
        "a_w": article(who),
        "a_a": article(words["a"]),
        "a_o": article(words["o"]),
        "a_x": article(words["x"]),
    }
    return shape.format(**words)


def corpus_prompt(rng: random.Random) -> Prompt:
    """One prompt of the corpus: 6 of 10 are stories, 4 exchanges (half of them about made-up people)."""
    draw = rng.random()
    length = rng.choice(LENGTHS)
    if draw < 0.6:
        shape = rng.choice(STORIES)
        return Prompt("story", f"{fill(shape, rng)} Write {length}.", rng.choice(examples.STORIES))
    question = fill(rng.choice(REQUESTS if draw < 0.8 else QUESTIONS), rng)
    ask = f"{question} Answer in {length}." if draw >= 0.8 else f"{question} Make it up. Write {length}."
    return Prompt(
        "exchange", ask, rng.choice(examples.EXCHANGES if draw >= 0.8 else examples.MADE_UP), question
    )


# The quickstart's phrasings; alignment/evaluation/program.py reads facts and the number back from the text.
TASKS = (
    "Write a story about {a_w} named {n} who finds a {c} {o}. Use {k} sentences.",
    "Tell me a story about {n} the {w}. Put {a_o} in it. Use {k} sentences.",
    "Write {k} sentences about {n}, {a_o} and the {p}.",
    "I want a story with {a_w}, {a_o} and the {p}. Use {k} sentences.",
    "Please write a story in {k} sentences. It needs {n}, {a_a} and {a_o}.",
    "Describe a {c} {o} at the {p}. Use {k} sentences.",
    "Tell me about a {d} day at the {p} with {n}. Use {k} sentences.",
)
TASK_LENGTHS = ("two", "two", "three")


def quickstart_prompts(train: int, held_out: int, seed: int) -> tuple[list[Prompt], list[Prompt]]:
    """Train and held-out requests; no two share their set of words, across both lists."""
    rng = random.Random(seed)
    seen: set[frozenset[str]] = set()
    made: list[Prompt] = []
    while len(made) < train + held_out:
        name = rng.choice(NAMES)
        who = rng.choice(ANIMALS if rng.random() < 0.5 else PEOPLE)
        animal, thing = rng.choice(ANIMALS), rng.choice(OBJECTS)
        words = {
            "n": name,
            "w": who,
            "a_w": article(who),
            "a_a": article(animal),
            "o": thing,
            "a_o": article(thing),
        }
        words |= {"c": rng.choice([c for c in COLORS if c != "orange"]), "p": rng.choice(PLACES)}
        words |= {"d": rng.choice(WEATHER), "k": rng.choice(TASK_LENGTHS)}
        shape = rng.randrange(len(TASKS))
        text = TASKS[shape].format(**words)
        key = frozenset(text.lower().replace(".", "").replace(",", "").split())
        if key in seen:
            continue
        seen.add(key)
        which = "train" if len(made) < train else "held_out"
        made.append(Prompt("task", text, examples.TASKS[shape], id=f"{which}-{len(made):05d}"))
    return made[:train], made[train:]
