"""Worked examples, in our own words: one is shown to the teacher before each request, to set the tone.

Each is (request, answer): short sentences, easy words, the number of sentences that was asked for.
"""

STORIES = (
    ("Write a short story about a lost hat and a goat. Write four sentences.",
     "Mr. Hill could not find his hat. He looked under the bed and behind the door. Then he saw his goat in the yard "
     "with a bit of straw on its lip. The goat had eaten the hat, and Mr. Hill had to laugh."),
    ("Write a small story in which a swan feels lonely. Write three sentences.",
     "A swan swam alone on the lake all winter. One day a small duck came and sat next to her on the ice. They did "
     "not say much, but the swan felt warm again."),
    ("Tell a simple story with Jane, Rob and a tent. Write five sentences.",
     "Jane and Rob put up a tent in the yard. At night they heard a strange noise. Rob held the lamp and Jane opened "
     "the tent. It was only their cat, who wanted to come in. The three of them slept until the sun came up."),
    ("Write a short story in simple words: Eric makes a chair for his aunt. Write three sentences.",
     "Eric found some old wood and cut it into six parts. He worked all day and hit his thumb two times. When his "
     "aunt sat down on the new chair, she said it was the best one in the house."),
    ("Write about a hot day at the zoo in very simple words. Write two sentences.",
     "It was so hot that the bears stayed in the water all day. The children ate ice and sat under a tree."),
    ("Write a short talk between Ken and Ada about a plum. Write four sentences.",
     '"May I have that plum?" asked Ken. "It is the last one," said Ada, "but we can cut it in two." Ken took the '
     'small half and smiled. "It tastes better when we share," he said.'),
    ("Describe a gray jar in very simple words. Write two sentences.",
     "The jar is gray and round, with a crack near the top. My mother keeps dry beans in it."),
    ("Write a short story about a race. The main person is Gus. Write four sentences.",
     "Gus was the slowest boy in the class. When the race began, he fell and hurt his knee. He got up and ran on, "
     "even though the others were far ahead. At the end all his friends clapped for him."),
    ("Write a simple diary page of Meg, a miller who lives near the woods. Write three sentences.",
     "Today the wind was strong and the mill turned fast. I filled nine bags and my arms hurt. Tomorrow I will rest "
     "and pick berries in the woods."),
    ("Make up a short bedtime story about a mole and a tailor. Write one short paragraph.",
     "A tailor heard a soft cry under his floor. It was a mole who was cold. The tailor made him a tiny vest from a "
     "red sock. Every night after that, the mole sang the tailor to sleep."),
)  # fmt: skip
EXCHANGES = (
    ("What is a spade? Answer in two sentences.",
     "A spade is a tool with a flat blade and a long handle. You use it to dig holes in the ground."),
    ("Why do people like jam? Answer in two sentences.",
     "Jam is sweet and tastes good on bread. People also like it because it keeps for a long time."),
    ("What does a camel eat? Answer in two sentences.",
     "A camel eats dry grass, leaves and plants with thorns. It can go for many days without water."),
    ("How do you take care of a hamster? Answer in three sentences.",
     "Give it fresh water and some seeds every day. Clean its cage once a week. It also needs a wheel so that it can "
     "run."),
    ("What is the difference between thick and thin? Answer in two sentences.",
     "Something thick is wide from one side to the other, like a big book. Something thin is not wide, like a sheet "
     "of paper."),
    ("What can you do when you feel bored? Answer in two sentences.",
     "You can read a book or draw a picture. You can also ask a friend to play with you."),
)  # fmt: skip
MADE_UP = (
    ("Where did Ron find a nail? Make it up. Write three sentences.",
     "Ron found a nail on the road in front of his house. He picked it up so that no one would step on it. Then he "
     "used it to fix the gate."),
    ("How did a toad and a hunter become friends? Make it up. Write four sentences.",
     "A hunter sat down by a pool because he was lost. A toad saw that he was tired and showed him the way home. The "
     "hunter thanked him and brought him flies the next day. From then on they met at the pool every week."),
    ("Why was Pam the camel so cross? Make it up. Write three sentences.",
     "Pam was cross because she had to carry six heavy bags. The road was long and full of stones. When the bags came "
     "off at last, she lay down and closed her eyes."),
    ("Tell me about Liz, a comb and the mill. Make it up. Write two sentences.",
     "Liz lost her comb when she walked past the mill. The miller found it in the grass and gave it back to her."),
)  # fmt: skip
# phrasings of prompts.TASKS; words that its lists do not have
TASKS = (
    ("Write a story about a camel named Pam who finds a gray jar. Use two sentences.",
     "Pam was a camel who liked to dig in the sand. One day she dug up a jar, and it was as gray as the sky."),
    ("Tell me a story about Rob the miller. Put a comb in it. Use two sentences.",
     "Rob worked as a miller and his hair was always white with flour. His wife gave him a comb, and he used it every "
     "night."),
    ("Write three sentences about Liz, a nail and the church.",
     "Liz saw that the door of the church was loose. She took a nail from her pocket and fixed it. Everyone said "
     "thank you."),
    ("I want a story with a swan, a spade and the mill. Use three sentences.",
     "An old man left his spade beside the mill. In the morning a swan was sitting on it. He let her stay there all "
     "day."),
    ("Please write a story in two sentences. It needs Gus, a mole and a jar.",
     "Gus kept a jar of nuts under the bed. A little mole came every night and took just one."),
    ("Describe a gray tent at the zoo. Use two sentences.",
     "The tent stands next to the bears and it is gray like stone. People at the zoo go inside when they want to sit "
     "down."),
    ("Tell me about a dry day at the mill with Meg. Use three sentences.",
     "It had not rained for weeks and the air was dry. Meg sat in front of the mill and waited for the wind. At last "
     "the big wheel began to turn."),
)  # fmt: skip
