r"""Units: the tokens beside a number go in, what they measure and how much of it come out.

A table rather than a library, because quantities are compared exactly (`12 inches` is a foot, as fractions), in the
process that asks, and because it has to be known what is *not* in it: a word that is no unit here may be one
elsewhere, and then nothing is proved.
"""

from dataclasses import dataclass
from fractions import Fraction
from functools import lru_cache

from .normal_form import Form, is_word


Dimension = tuple[tuple[str, int], ...]
"""Powers of base dimensions: `(("length", 2),)` of an area."""


@dataclass(frozen=True, slots=True)
class Unit:
    r"""
    What a number is a number of.

    Attributes:
        tokens (`tuple[str, ...]`):
            How it was written.
        dimension (`tuple[tuple[str, int], ...]`):
            What it measures, as powers of base dimensions: `(("length", 2),)` of square feet. Empty where unknown, and
            where it is a unit of whatever: `12 square units`.
        factor (`Fraction`):
            How many base units it is.
        is_known (`bool`):
            Whether it is in the table.
        is_count (`bool`):
            Whether it names things that are counted, such as apples, and so has no other unit to be converted to.
    """

    tokens: Form
    dimension: Dimension = ()
    factor: Fraction = Fraction(1)
    is_known: bool = True
    is_count: bool = False

    @property
    def name(self) -> str:
        """The tokens, words in the singular, to compare units that are not in the table."""
        return " ".join(
            _singular(token) if is_word(token) else token for token in self.tokens if token not in _FILLERS
        )


_PREFIXES = (
    ("nano", "n", -9),
    ("micro", "μ", -6),
    ("milli", "m", -3),
    ("centi", "c", -2),
    ("deci", "d", -1),
    ("kilo", "k", 3),
    ("mega", "M", 6),
    ("giga", "G", 9),
)
_METRIC = {
    "metre": ("meter", "m", "length", Fraction(1)),
    "gram": ("gramme", "g", "mass", Fraction(1)),
    "litre": ("liter", "l", "volume", Fraction(1)),
    "joule": ("joule", "J", "energy", Fraction(1)),
    "watt": ("watt", "W", "power", Fraction(1)),
    "newton": ("newton", "N", "force", Fraction(1)),
    "pascal": ("pascal", "Pa", "pressure", Fraction(1)),
    "volt": ("volt", "V", "voltage", Fraction(1)),
    "hertz": ("hertz", "Hz", "frequency", Fraction(1)),
}
_PLAIN: dict[str, tuple[str, Fraction]] = {
    **dict.fromkeys(["inch", "inches", "in"], ("length", Fraction("0.0254"))),
    **dict.fromkeys(["foot", "feet", "ft"], ("length", Fraction("0.3048"))),
    **dict.fromkeys(["yard", "yd"], ("length", Fraction("0.9144"))),
    **dict.fromkeys(["mile", "mi"], ("length", Fraction("1609.344"))),
    **dict.fromkeys(["tonne", "metric ton"], ("mass", Fraction(10**6))),
    **dict.fromkeys(["pound", "lb"], ("mass", Fraction("453.59237"))),
    **dict.fromkeys(["ounce", "oz"], ("mass", Fraction("28.349523125"))),
    "gm": ("mass", Fraction(1)),
    **dict.fromkeys(["gallon", "gal"], ("volume", Fraction("3.785411784"))),
    **dict.fromkeys(["quart", "qt"], ("volume", Fraction("0.946352946"))),
    **dict.fromkeys(["pint", "pt"], ("volume", Fraction("0.473176473"))),
    "cup": ("volume", Fraction("0.2365882365")),
    "L": ("volume", Fraction(1)),
    "mL": ("volume", Fraction(1, 1000)),
    "cc": ("volume", Fraction(1, 1000)),
    **dict.fromkeys(["second", "sec", "s"], ("time", Fraction(1))),
    **dict.fromkeys(["minute", "min"], ("time", Fraction(60))),
    **dict.fromkeys(["hour", "hr", "h"], ("time", Fraction(3600))),
    "day": ("time", Fraction(86400)),
    "week": ("time", Fraction(604800)),
    "fortnight": ("time", Fraction(1209600)),
    **dict.fromkeys(["month", "mo"], ("months", Fraction(1))),
    **dict.fromkeys(["year", "yr"], ("months", Fraction(12))),
    "decade": ("months", Fraction(120)),
    "century": ("months", Fraction(1200)),
    **dict.fromkeys(["dollar", "\\$", "usd", "buck"], ("dollars", Fraction(1))),
    **dict.fromkeys(["cent", "¢", "penny", "pennies"], ("dollars", Fraction(1, 100))),
    "nickel": ("dollars", Fraction(1, 20)),
    "dime": ("dollars", Fraction(1, 10)),
    **dict.fromkeys(["euro", "€", "eur"], ("euros", Fraction(1))),
    **dict.fromkeys(["£", "gbp"], ("pounds", Fraction(1))),
    "pence": ("pounds", Fraction(1, 100)),
    **dict.fromkeys(["¥", "yen", "jpy"], ("yen", Fraction(1))),
    **dict.fromkeys(["yuan", "rmb", "cny"], ("yuan", Fraction(1))),
    "₹": ("rupees", Fraction(1)),
    **dict.fromkeys(["\\degree", "degree", "deg"], ("degrees", Fraction(1))),
    **dict.fromkeys(["radian", "rad"], ("radians", Fraction(1))),
    "\\%": ("percent", Fraction(1)),
    "calorie": ("energy", Fraction("4.184")),
    "dozen": ("number", Fraction(12)),
}
_COMPOUND: dict[str, tuple[Dimension, Fraction]] = {
    **dict.fromkeys(["mph"], ((("length", 1), ("time", -1)), Fraction("1609.344") / 3600)),
    **dict.fromkeys(["kph", "kmh"], ((("length", 1), ("time", -1)), Fraction(1000, 3600))),
    "acre": ((("length", 2),), Fraction("4046.8564224")),
    "hectare": ((("length", 2),), Fraction(10_000)),
}
_COUNTED = frozenset(
    """adult animal answer apple arrangement arrow bag ball balloon banana basket bead bean bird book bottle box boy
    bread brick bridge brother bus business button cake calf camper can candle candy car card case cat chair chicken
    child choice chocolate choir circle city class classmate clip club code coin collection color combination cookie
    counselor couple course cow crayon cube cupcake customer dap daughter desk diagonal digit dish distinct divisor dog
    doll domino door dragon dress drink duck edge egg element employee envelope error even event face factor family fan
    farmer father fight file fish flag flavor flight flower football fox frog fruit function game gift girl glass goal
    goat grade graph grape group guest gumball hamster handshake hat hen hexagon horse house integer item jar job kid
    kite lamp leaf letter level line list lollipop machine magazine man marble match meal member message mirror mistake
    monkey mother mouse movie multiple muffin museum nail name necklace number object octagon office old option orange
    orchid outcome outfit page pair palindrome pancake paper parent part party passenger path pattern peach pear
    pencil pen people perfect permutation person photo picture piece pie pig pizza place plane plant plate player point
    polygon possibility possible postcard prime prize problem pumpkin puppy question rabbit rectangle red ribbon ring
    roll rope rose round row runner salad sandwich school seat segment sentence sequence set shape sheep shell shelf
    ship shirt shoe side sister slice snack sock solution son song sphere spider spot square stamp star state stick
    sticker stone stop story strawberry street student subset sum sweet table tail teacher team term test text ticket
    tile toy train treat tree triangle trip truck turn value vase vertex vertices video visitor vote voter walk wall
    way weed wheel whole window winner woman women men word worker writer zebra zero children boxes""".split()
)
_OF_COUNTING = frozenset("right distinct different possible such total ordered more in of the all".split())
_POWERS = {"square": 2, "sq": 2, "squared": 2, "cubic": 3, "cu": 3, "cubed": 3}
_TEMPERATURES = {"\\unit{C}": "celsius", "celsius": "celsius", "Celsius": "celsius"}
_TEMPERATURES |= {"\\unit{F}": "fahrenheit", "fahrenheit": "fahrenheit", "Fahrenheit": "fahrenheit"}
_EXPONENTS = frozenset("1234")
_PER = frozenset(["/", "per"])
_FILLERS = frozenset([".", "-", "\\cdot", "*", " ", "(", ")", "{", "}", "a", "an", "A", "An"])
_SCALES = {
    "hundred": 10**2,
    "thousand": 10**3,
    "million": 10**6,
    "billion": 10**9,
    "trillion": 10**12,
}
NOT_UNITS = frozenset(
    "no not none undefined impossible exist exists solution solutions infinite infinitely is are cannot the "
    "plus minus times divided over squared cubed half".split()
)
"""Words after a number that make it anything but a quantity."""


def scale_of(token: str) -> int:
    """What `million` and its like multiply by; 0 if it is none of them."""
    return _SCALES.get(token.lower(), 0)


@lru_cache(maxsize=1_024)
def read_unit(tokens: Form) -> Unit:
    """
    Reads the unit beside a number.

    Args:
        tokens (`tuple[str, ...]`):
            What stands beside the number.

    Returns:
        [`Unit`]
    """
    reader = _UnitReader(
        [token for i, token in enumerate(tokens) if token not in _FILLERS or _is_sign_of_exponent(tokens[:i], token)]
    )
    try:
        reader.read()
    except KeyError:
        return _unknown(tokens)
    dimension = tuple(sorted((base, count) for base, count in reader.counts.items() if count))
    if dimension == (("volume", 1),):  # litres and their like in cubic metres
        return Unit(tokens, (("length", 3),), reader.factor / 1000)
    return Unit(tokens, dimension, reader.factor)


def _is_sign_of_exponent(before: Form, token: str) -> bool:
    """Whether this is the sign in `m^{-1}` and no hyphen."""
    return token == "-" and (before[-1:] == ("^",) or before[-2:] == ("^", "{"))


class _UnitReader:
    """Multiplies units up: `square feet`, `m/s^2`, `cubic inches`, `miles per hour`."""

    def __init__(self, tokens: list[str]) -> None:
        self.tokens = tokens
        self.counts: dict[str, int] = {}
        self.factor = Fraction(1)

    def read(self) -> None:
        """Reads all tokens; a `KeyError` tells of one that is no unit."""
        sign = power = 1
        while self.tokens:
            token = self.tokens.pop(0)
            if token in _PER:
                sign = -1
            elif token.lower() in _POWERS:
                power = _POWERS[token.lower()]
            elif token == "\\degree" and self.tokens and self.tokens[0] in _TEMPERATURES:
                self.multiply(((_TEMPERATURES[self.tokens.pop(0)], 1),), Fraction(1), sign)
            else:
                self.multiply(*_look_up(token), sign * power * self.power())
                power = 1

    def power(self) -> int:
        """Reads `^2`, `^{-1}`, or `squared` after a unit."""
        match self.tokens[:3]:
            case ["^", "-", digit] if digit in _EXPONENTS:
                del self.tokens[:3]
                return -int(digit)
            case ["^", digit, *_] if digit in _EXPONENTS:
                del self.tokens[:2]
                return int(digit)
        if self.tokens[:1] in (["squared"], ["cubed"]):
            return _POWERS[self.tokens.pop(0)]
        return 1

    def multiply(self, dimension: Dimension, size: Fraction, exponent: int) -> None:
        self.factor *= size**exponent
        for base, count in dimension:
            self.counts[base] = self.counts.get(base, 0) + count * exponent


def _look_up(token: str) -> tuple[Dimension, Fraction]:
    """What a word or sign measures; `KeyError` if it is no unit that is known."""
    token = token.removeprefix("\\unit{").removesuffix("}")
    for name in (token, token.lower(), _singular(token)):
        if name in _TABLE:
            return _TABLE[name]
    raise KeyError(token)


def _unknown(tokens: Form) -> Unit:
    names = {_singular(token) for token in tokens if is_word(token)}
    are_counted = bool(names - _OF_COUNTING) and names <= _COUNTED | _OF_COUNTING
    return Unit(tokens, is_known=False, is_count=are_counted and "/" not in tokens)


def _singular(word: str) -> str:
    word = word.lower()
    if word in _COUNTED or word in _PLAIN or len(word) <= 3:
        return word
    if word.endswith("ies"):
        return word[:-3] + "y"
    if word.endswith(("ches", "shes", "xes", "sses")):
        return word[:-2]
    return word[:-1] if word.endswith("s") and not word.endswith("ss") else word


def _table() -> dict[str, tuple[Dimension, Fraction]]:
    """All units by name: those of the tables, and the metric ones with every prefix."""
    table: dict[str, tuple[Dimension, Fraction]] = {
        name: (((base, 1),), size) for name, (base, size) in _PLAIN.items()
    }
    for name, (other, symbol, base, size) in _METRIC.items():
        for prefix, letter, power in (("", "", 0), *_PREFIXES):
            value: tuple[Dimension, Fraction] = ((base, 1),), size * Fraction(10) ** power
            table |= {prefix + name: value, prefix + other: value, letter + symbol: value}
    return table | _COMPOUND | dict.fromkeys(["unit", "time"], ((), Fraction(1)))


_TABLE = _table()


def may_be_converted(unit: Unit, ratio: Fraction) -> bool:
    """
    Whether a number differs by a factor that another unit would explain.

    Args:
        unit ([`Unit`]):
            The unit of the one number; the other has none.
        ratio (`Fraction`):
            How many times the one number the other is.

    Returns:
        `bool`
    """
    if not unit.is_known:
        return not unit.is_count
    if unit.dimension in _OTHER_FACTORS:
        return ratio in _OTHER_FACTORS[unit.dimension] or 1 / ratio in _OTHER_FACTORS[unit.dimension]
    return ratio != 0 and unit.factor / ratio in _sizes(unit.dimension)


_OTHER_FACTORS: dict[Dimension, tuple[int, ...]] = {(("percent", 1),): (100,), (("degrees", 1),): (60, 360, 3600)}
"""Where a number may be a share, or minutes, seconds or turns."""


@lru_cache(maxsize=256)
def _sizes(dimension: Dimension) -> frozenset[Fraction]:
    """The factors of all units, and products of units, that measure the same."""
    sizes = {Fraction(1)}
    if dimension == (("number", 1),):
        return frozenset([Fraction(1), *(size for other, size in _TABLE.values() if other == dimension)])
    for base, count in dimension:
        of_base = {size for other, size in _TABLE.values() if other == ((base, 1),)}
        sizes = {size * other**count for size in sizes for other in of_base}
    sizes |= {size for other, size in _COMPOUND.values() if other == dimension}
    if dimension == (("length", 3),):
        sizes |= {size / 1000 for other, size in _TABLE.values() if other == (("volume", 1),)}
    return frozenset(sizes)
