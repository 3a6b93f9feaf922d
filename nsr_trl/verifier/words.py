"""What words mean: a phrase goes in; the concepts that it may name, or the number, come out.

Only the tables say that two phrases mean the same or exclude each other. Of any other words it is known only whether
they are the same words.
"""

import re
from fractions import Fraction
from functools import lru_cache

from .normal_form import Form


Phrase = tuple[str, ...]
"""Words in lower case, without articles and such."""

_FILLERS = frozenset("a an the it is are was they this that will be its".split())

# One line for each set of concepts that exclude each other; `|` parts them, `,` the ways of saying the same.
_EXCLUSIVE = """
even, even number, even integer, even function | odd, odd number, odd integer, odd function
yes, yeah, yep, 是, 是的 | no, nope, 否, 不是, 不
true, correct, 正确, 对, 真 | false, incorrect, wrong, not true, not correct, 错误, 错, 假
increasing, increase, increases, increased, rises, rise, rising, goes up, grows, 增加, 递增 | decreasing, decrease, decreases, decreased, falls, fall, falling, goes down, shrinks, 减少, 递减 | constant, unchanged, stays same, remains same, no change, does not change, remains constant, stays constant, remains unchanged
converges, convergent, converge, converging, 收敛 | diverges, divergent, diverge, diverging, 发散
clockwise | counterclockwise, anticlockwise, counter clockwise, anti clockwise
north, due north | south, due south | east, due east | west, due west | northeast, ne, north east | northwest, nw, north west | southeast, se, south east | southwest, sw, south west
left, leftward, leftwards, to left | right, rightward, rightwards, to right | up, upward, upwards | down, downward, downwards
above | below, beneath, under
inside, interior | outside, exterior | on circle, on boundary
positive, 正 | negative, 负
odd numbers | even numbers
rational, rational number | irrational, irrational number
prime, prime number | composite, composite number
finite, finitely many | infinitely many, infinite, infinitely many solutions, infinite solutions, infinite number, infinite number of solutions, unlimited, countless, 无穷多, 无限 | nothing
maximum, max, maximal, local maximum | minimum, min, minimal, local minimum | saddle point
concave up, convex | concave down, concave
acute, acute triangle | obtuse, obtuse triangle | right triangle, right angled triangle, right angle
scalene, scalene triangle | isosceles, isosceles triangle
linear | quadratic | cubic | exponential | logarithmic
independent | dependent
bounded | unbounded
consistent | inconsistent
both | neither
always, always true | sometimes, sometimes true | never, never true
heads, head | tails, tail
parallel | perpendicular, orthogonal | skew
direct | inverse
mean, average | median | mode
continuous | discontinuous
greater, larger, bigger, more, greater than | less, smaller, fewer, less than, lower | equal, same, equal to, equals, same size
tie, draw, tied | win, wins | lose, loses, loss
twice, double, doubles, doubled, two times | three times, triple, triples, tripled | half, halved, halves, halved | four times, quadruple, quadruples
men, man | women, woman
boy, boys | girl, girls
red | orange | yellow | green | blue | purple, violet | black | white | gray, grey | brown | pink
monday, mon | tuesday, tue, tues | wednesday, wed | thursday, thu, thurs | friday, fri | saturday, sat | sunday, sun
january, jan | february, feb | march, mar | april, apr | may | june, jun | july, jul | august, aug | september, sep, sept | october, oct | november, nov | december, dec
spring | summer | autumn, fall season | winter
circle, circles | ellipse, ellipses | parabola, parabolas | hyperbola, hyperbolas | line, straight line, single line | two lines, pair of lines, two intersecting lines | point, single point | empty, empty set
triangle, triangles | quadrilateral | pentagon | hexagon | heptagon | octagon | nonagon | decagon
sphere | cone | cylinder | cube | plane | torus
first, 1st | second, 2nd | third, 3rd | fourth, 4th | fifth | sixth | seventh | eighth | ninth | tenth
quadrant i, first quadrant, quadrant one | quadrant ii, second quadrant, quadrant two | quadrant iii, third quadrant, quadrant three | quadrant iv, fourth quadrant, quadrant four
am | pm
"""  # noqa: E501
_CATEGORIES = frozenset(
    "on in at function color colour curve shape graph answer day month direction series sequence limit "
    "integral".split()
)
"""Words that may stand beside a concept and say only of which kind it is."""
_NOTHING = frozenset("no none impossible nonexistent nothing cannot dne nil empty 无解 不存在".split())
_NOTHING_TO_FOLLOW = frozenset(
    "no such solution solutions real exist exists number numbers answer answers value values integer integers x "
    "possible set be found of for these there triangle face and does do not not roots root positive equation has "
    "any y n".split()
)
_UNDEFINED = frozenset(["undefined", "indeterminate", "dne"])
_DENIALS = frozenset("no not cannot never none".split())
_EXISTENCE = frozenset(
    "solution solutions root roots exist exists exists. value values answer answers such possible defined number "
    "numbers integer integers triangle".split()
)
_EXCEPTIONS = frozenset("other except besides only unless but than".split())
_FUNCTION_WORDS = frozenset("the of is are that to in be can with for does has have this these it as there on".split())
_LARGE_NUMBERS = frozenset(
    "eleven twelve thirteen fourteen fifteen sixteen seventeen eighteen nineteen twenty thirty forty fifty sixty "
    "seventy eighty ninety hundred thousand million billion dozen".split()
)
_OPERATIONS = frozenset(
    "square squared cube cubed root roots power factorial log logarithm sine cosine tangent percent times sum product "
    "difference quotient ratio plus minus divided multiplied double twice triple half inverse reciprocal total pi "
    "equals equal many same".split()
)
_ROMAN = frozenset("IVX")
_NUMERAL = re.compile(r"[0-9]+(?:\.[0-9]+)?")
_REFUSALS = frozenset("apologize apologise sorry unable".split())
_NAMES = frozenset(
    """aaron adam alan albert alex alexander alice amanda amy andrea andrew andy angela ann anna anne anthony arthur
    barbara ben benjamin beth betty bill bob brandon brian bruce carl carla carlos carol caroline catherine charles
    charlie charlotte chris christina christine christopher claire cynthia dan dana daniel david deborah debra dennis
    devon diana diane donald donna dorothy doug douglas dylan edward elena elizabeth ellen emily emma eric erica ethan
    eva evan evelyn frank fred gary george gerald grace greg gregory hannah harold harry heather helen henry henry
    isabella jack jackson jacob jake james jane janet jason jean jeff jeffrey jennifer jenny jeremy jerry jesse jessica
    jim joan joe john johnny jon jonathan jordan jose joseph joshua joyce juan judith judy julia julie justin karen
    kate katherine kathleen kathryn keith kelly ken kenneth kevin kim kyle larry laura lauren lawrence leo linda lisa
    liz logan louis lucas lucy luis luke lynn madison margaret maria marie mark martha martin mary matt matthew megan
    melissa michael michelle miguel mike molly nancy natalie nathan navin nicholas nick nicole noah olivia oscar pamela
    pat patricia patrick paul paula peter philip phillip rachel ralph randy ray raymond rebecca richard rick robert
    roger ron ronald rosa roy russell ruth ryan sally sam samantha samuel sandra sara sarah scott sean sharon shirley
    sofia sophia stephanie stephen steve steven stuart sue susan tara taylor teresa terry theresa thomas tim timothy
    tina todd tom tommy tony tyler vanessa vera victor victoria vincent walter wayne wendy william xavier zach
    zachary""".split()
)

_ONES = dict(
    zip(
        "zero one two three four five six seven eight nine ten eleven twelve thirteen fourteen fifteen sixteen "
        "seventeen eighteen nineteen".split(),
        range(20),
        strict=True,
    )
)
_TENS = dict(zip("twenty thirty forty fifty sixty seventy eighty ninety".split(), range(20, 100, 10), strict=True))
_LARGE = {"thousand": 10**3, "million": 10**6, "billion": 10**9, "trillion": 10**12}
_PARTS = {
    "half": 2,
    "halves": 2,
    "third": 3,
    "thirds": 3,
    "quarter": 4,
    "quarters": 4,
    "fourth": 4,
    "fourths": 4,
    "fifth": 5,
    "fifths": 5,
    "sixth": 6,
    "sixths": 6,
    "seventh": 7,
    "sevenths": 7,
    "eighth": 8,
    "eighths": 8,
    "ninth": 9,
    "ninths": 9,
    "tenth": 10,
    "tenths": 10,
}


def phrase_of(form: Form) -> Phrase:
    """The words of a form, or none if there is anything else in it."""
    words: list[str] = []
    for token in form:
        if token in "-.'\",!?。":
            continue
        if not token.isalpha():
            return ()
        is_numeral = token in _ROMAN and words[-1:] and set(words[-1]) <= set("ivx")
        if words and ((not token.isascii() and not words[-1].isascii()) or is_numeral):
            words[-1] += token.lower()  # Chinese characters and the letters of `Quadrant II` come one by one
        else:
            words.append(token.lower())
    return tuple(word for word in words if word not in _FILLERS) or tuple(words)


def is_denial(form: Form) -> bool:
    """Whether a text says that there is nothing: `No real roots in [0, 1]`, `it does not have any solution`."""
    tokens = [token.lower() for token in form]
    if not _EXCEPTIONS.isdisjoint(tokens) or "=" in tokens:
        return False
    return any(
        token in _DENIALS and not _EXISTENCE.isdisjoint(tokens[i + 1 : i + 5]) for i, token in enumerate(tokens)
    )


def is_prose(form: Form) -> bool:
    """Whether a text is a sentence, of eight words or more."""
    tokens = [token.lower() for token in form if len(token) > 1 and token.isalpha()]
    return len(tokens) >= 8 and len(_FUNCTION_WORDS.intersection(tokens)) >= 2


def may_state(sentence: Form, number: Form) -> bool:
    """
    Whether a sentence may say what a number is.

    It does not if it has none of the number's numerals, no numerals with decimals, and no words for large numbers or
    for operations that lead to one ("the square root of 144"); small numbers in words are told from numerals of two
    digits only.
    """
    numerals = [set(_NUMERAL.findall("".join(form))) for form in (sentence, number)]
    tokens = {token.lower() for token in sentence}
    if numerals[0] & numerals[1] or any("." in numeral for numeral in numerals[0]):
        return True
    if tokens & (_LARGE_NUMBERS | _OPERATIONS):
        return True
    is_distinctive = any(len(numeral) > 1 for numeral in numerals[1])
    return not is_distinctive and (bool(numerals[0]) or any(token in _ONES or token in _PARTS for token in tokens))


@lru_cache(maxsize=1_024)
def concepts_of(phrase: Phrase) -> frozenset[str]:
    """The concepts of the tables that a phrase may name."""
    bare = tuple(word for word in phrase if word not in _CATEGORIES)
    found: set[str] = set(_CONCEPTS.get(" ".join(phrase)) or _CONCEPTS.get(" ".join(bare)) or ())
    words = set(phrase)
    if words & _NOTHING and words <= _NOTHING | _NOTHING_TO_FOLLOW and phrase != ("no",):
        found.add("nothing")
    if words & _UNDEFINED or {"not", "defined"} <= words or {"not", "exist"} <= words:
        found.add("undefined")
    if {"not", "exist"} <= words and len(words) <= 8:
        found.add("nothing")
    if words & _REFUSALS:
        found.add("refusal")
    if len(phrase) == 1 and phrase[0] in _NAMES:
        found.add(f"name {phrase[0]}")
    return frozenset(found)


def exclude(left: frozenset[str], right: frozenset[str]) -> bool:
    """Whether nothing can be of a concept of each of two sets."""
    return bool(left and right) and all(_are_exclusive(one, other) for one in left for other in right)


def _are_exclusive(left: str, right: str) -> bool:
    if left.startswith("name ") and right.startswith("name "):
        return not _may_be_one_name(left[5:], right[5:])
    return left != right and not _GROUPS.get(left, frozenset()).isdisjoint(_GROUPS.get(right, frozenset()))


def _may_be_one_name(left: str, right: str) -> bool:
    """Whether one may be short for the other: `Tom` and `Thomas`, `Beth` and `Elizabeth`, `Bob` and `Robert`."""
    return left[0] == right[0] or left in right or right in left or {left, right} in _SHORT_NAMES


_SHORT_NAMES = [{"bob", "robert"}, {"bill", "william"}, {"betty", "elizabeth"}, {"tony", "anthony"}]


def opposite_of(phrase: Phrase) -> Phrase | None:
    """A phrase that excludes another; `None` if none is known."""
    for concept in sorted(concepts_of(phrase)):
        for other, groups in _GROUPS.items():
            if other != concept and not groups.isdisjoint(_GROUPS.get(concept, ())):
                return tuple(other.split())
        if concept.startswith("name "):
            return (next(name for name in ("james", "maria", "peter") if not _may_be_one_name(name, concept[5:])),)
    return None


def is_no_number(concepts: frozenset[str]) -> bool:
    """Whether a concept is nothing that may be said by a number other than 0 and 1: `even`, `north`, `no solution`."""
    return bool(concepts) and concepts.isdisjoint(_ORDERED)


@lru_cache(maxsize=1_024)
def number_of(phrase: Phrase) -> Fraction | None:
    """The number that a phrase names: `twenty-one`, `minus three`, `two thirds`, `a half`."""
    if phrase[:1] in (("minus",), ("negative",)):
        value = number_of(phrase[1:])
        return None if value is None else -value
    if "and" in phrase[1:-1] and phrase[-1] in _PARTS:  # one and a half
        place = phrase.index("and", 1)
        whole, part = whole_number(phrase[:place]), number_of(phrase[place + 1 :])
        return whole + part if whole is not None and part is not None and part < 1 else None
    if phrase[-1:] and phrase[-1] in _PARTS:
        count = whole_number(phrase[:-1]) if len(phrase) > 1 else 1
        is_half = len(phrase) > 1 or phrase[0] in ("half", "quarter")
        return Fraction(count, _PARTS[phrase[-1]]) if count is not None and is_half else None
    value_of_all = whole_number(phrase)
    return None if value_of_all is None else Fraction(value_of_all)


def whole_number(phrase: Phrase) -> int | None:
    """A whole number in words."""
    total = current = 0
    for word in phrase:
        small = _ONES.get(word, _TENS.get(word, 0))
        if small:
            rest = current % 100
            if rest and not (rest >= 20 and rest % 10 == 0 and small < 10):
                return None  # one two
            current += small
        elif word == "hundred":
            current = (current or 1) * 100
        elif word in _LARGE:
            total += (current or 1) * _LARGE[word]
            current = 0
        elif word != "and" and phrase != ("zero",):
            return None
    return total + current if phrase else None


def singular(word: str) -> str:
    """A word without the ending of the plural."""
    if len(word) > 4 and word.endswith(("ches", "shes", "xes", "sses")):
        return word[:-2]
    if len(word) > 4 and word.endswith("ies"):
        return word[:-3] + "y"
    return word[:-1] if len(word) > 3 and word.endswith("s") and not word.endswith("ss") else word


def _read_tables() -> tuple[dict[str, set[str]], dict[str, set[int]]]:
    """Concepts by phrase, and the lines that each concept is in."""
    concepts: dict[str, set[str]] = {}
    groups: dict[str, set[int]] = {}
    for number, line in enumerate(_EXCLUSIVE.strip().splitlines()):
        for cell in line.split("|"):
            phrases = [phrase.strip() for phrase in cell.split(",")]
            groups.setdefault(phrases[0], set()).add(number)
            for phrase in phrases:
                concepts.setdefault(phrase, set()).add(phrases[0])
    return concepts, groups


_CONCEPTS, _GROUPS = _read_tables()
_COUNTED = ("monday", "january", "first", "twice", "quadrant i", "linear", "both", "always", "line")
_ORDERED = frozenset(
    concept for concept, groups in _GROUPS.items() if any(not groups.isdisjoint(_GROUPS[other]) for other in _COUNTED)
) | {"two lines", "point"}
"""Concepts that some write as numbers."""
