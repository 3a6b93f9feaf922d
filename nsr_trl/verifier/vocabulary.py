"""Words as they are spelled: which runs of letters are words, and which stand for a sign."""

SHORT_WORDS = frozenset(
    "and or cm mm km dm kg mg gm ml ft lb lbs oz mph kph hr hrs min mins sec am pm yd mi sq cu cup day per yes no odd "
    "dne the is are not all any for if of to one two six ten usd eur gbp box tie red men dog cat pen mod".split()
)
r"""Words of less than four letters; outside `\text{}` other short runs of letters are products."""

WORD_SYNONYMS = {
    **{
        name: f"\\{name}"
        for name in (
            "sin cos tan cot sec csc arcsin arccos arctan sinh cosh tanh log ln exp sqrt pi infty theta alpha beta "
            "gamma lambda frac cdot leq geq neq circ binom abs floor ceil"
        ).split()
    },
    **dict.fromkeys(["infinity", "inf", "oo"], "\\infty"),
    "union": "\\cup",
    "dfrac": "\\frac",
    "asin": "\\arcsin",
    "acos": "\\arccos",
    "atan": "\\arctan",
    "arcsec": "\\arcsec",
    "ceiling": "\\ceil",
    "equals": "=",
    **dict.fromkeys(["percent", "percentage", "pct"], "\\%"),
    **dict.fromkeys(["degree", "degrees", "deg"], "\\degree"),
    **dict.fromkeys(["dollar", "dollars", "usd"], "\\$"),
    **dict.fromkeys(["euro", "euros", "eur"], "€"),
    **dict.fromkeys(["rupee", "rupees", "rs", "inr"], "₹"),
}
"""Words that stand for a command or a sign."""
