"""Claims that are made up."""


def claim(id, verdict="reproduced", **texts):
    given = {"statement": f"statement of {id}", "measured": "0.25 ± 0.01", "expected": "a < b & b > 0", **texts}
    return {"id": id, **given, "verdict": verdict}
