"""What a test expects: how it fails or is skipped, and comparing JSON."""
import re


class Fail(AssertionError):
    """A check that did not hold."""


class Skip(Exception):
    """The test cannot be made here; the text says why."""


def must(condition, why):
    if not condition:
        raise Fail(why() if callable(why) else str(why))


def short(value, most=300):
    text = value if isinstance(value, str) else repr(value)
    return text if len(text) <= most else text[:most] + "... (%d)" % len(text)


class _Any:
    def __repr__(self):
        return "ANY"


ANY = _Any()


class Like:
    """In expected JSON: a string the expression matches as a whole."""
    def __init__(self, pattern):
        self.pattern = pattern

    def __call__(self, value):
        return isinstance(value, str) and re.fullmatch(self.pattern, value, re.S) is not None

    def __repr__(self):
        return "Like(%r)" % self.pattern


def differ(want, got, exact=False, at=""):
    """The first difference as text, or None.  Objects may hold more than wanted unless exact; lists may not."""
    if want is ANY:
        return None
    if callable(want):
        return None if want(got) else "%s: %s does not satisfy %r" % (at or "value", short(got), want)
    if isinstance(want, dict):
        if not isinstance(got, dict):
            return "%s: wanted an object, got %s" % (at or "value", short(got))
        for key in want:
            if key not in got:
                return "%s.%s: missing" % (at, key)
            found = differ(want[key], got[key], exact, "%s.%s" % (at, key))
            if found:
                return found
        more = [k for k in got if k not in want]
        return "%s: unexpected keys %s" % (at, more) if exact and more else None
    if isinstance(want, list):
        if not isinstance(got, list) or len(want) != len(got):
            return "%s: wanted %s, got %s" % (at or "value", short(want), short(got))
        for i, (w, g) in enumerate(zip(want, got)):
            found = differ(w, g, exact, "%s[%d]" % (at, i))
            if found:
                return found
        return None
    same = want == got and isinstance(want, bool) == isinstance(got, bool)
    return None if same else "%s: wanted %s, got %s" % (at or "value", short(want), short(got))


def holds(want, got):
    """Raises unless `got` holds `want`."""
    found = differ(want, got)
    must(not found, found)
    return True
