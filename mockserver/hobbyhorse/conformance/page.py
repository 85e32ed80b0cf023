"""The parts that the HTML reports of clients and servers share: the frame, the filter, a finding, the table of rules.

A page is one file without scripts and without external resources. Its filters are radio buttons and the CSS selector
`:has`; a browser without `:has` shows everything.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Mapping, Sequence
from html import escape

from hobbyhorse.conformance.examples import example_for
from hobbyhorse.conformance.impact import Amount, HarmGroup, number_of
from hobbyhorse.conformance.judge import BROKEN, LESSON, NOT_APPLICABLE, NOT_OBSERVED, PASSED, Verdict
from hobbyhorse.conformance.rule import HARMS, Rule
from hobbyhorse.contract.values import Contract
from hobbyhorse.traces.timeline import PALETTE, TIMELINE_STYLE

# The verdicts in the order in which they need attention.
VERDICT_ORDER = (BROKEN, LESSON, PASSED, NOT_OBSERVED, NOT_APPLICABLE)
# How messages name a request of the trace.
REQUEST = re.compile(r"\brequest (\d+)")

STYLE = """
* { box-sizing: border-box }
body { font: 1rem/1.5 system-ui, sans-serif; max-width: 60rem; margin: 2rem auto; padding: 0 1rem;
  background: var(--page); color: var(--text) }
h1 { font-size: 1.5rem; line-height: 1.25 } h2 { font-size: 1.25rem; margin: 2.5rem 0 .5rem }
h3 { font-size: 1.0625rem; margin: 0 0 .5rem } h4 { font-size: 1rem; margin: 1.25rem 0 .25rem }
h1, h2, h3, h4, p, li, dd, code { overflow-wrap: anywhere } a { color: var(--link) }
.headline { font-size: 1.125rem; font-weight: 600; border-left: 4px solid var(--bad); padding-left: .75rem }
.headline.clean { border-color: var(--good) } .dim { color: var(--dim) }
code, pre { font: .875rem/1.45 ui-monospace, monospace }
pre { overflow: auto; max-height: 30rem; padding: .6rem; margin: .4rem 0; white-space: pre-wrap;
  overflow-wrap: anywhere; border: 1px solid var(--line); border-radius: 6px; background: var(--panel) }
article { border: 1px solid var(--line); border-radius: 8px; padding: 1rem; margin: 1rem 0 }
.cost { font-weight: 600; color: var(--bad) }
.fix { background: var(--panel); border-radius: 6px; padding: .5rem .75rem }
.tag { font-size: .8125rem; font-weight: 400; color: var(--dim); white-space: nowrap }
.overview, .overview ul { margin: .25rem 0; padding-left: 1.25rem } .overview > li { margin-bottom: .5rem }
.overview { padding: 0; list-style: none }
details { margin: .4rem 0 } summary { cursor: pointer }
fieldset { border: 1px solid var(--line); border-radius: 6px; margin: 1rem 0; padding: .25rem .75rem .5rem;
  display: flex; flex-wrap: wrap; gap: .25rem 1.25rem } fieldset label { white-space: nowrap }
dl { display: grid; grid-template-columns: max-content minmax(0, 1fr); gap: .2rem 1rem } dt { color: var(--dim) }
dd { margin: 0 } table { border-collapse: collapse; width: 100% }
td, th { text-align: left; padding: .35rem .6rem .35rem 0; vertical-align: top; overflow-wrap: anywhere }
td:first-child, td.verdict { overflow-wrap: normal } tr { border-bottom: 1px solid var(--line) }
.passed { color: var(--good) } .broken { color: var(--bad); font-weight: 600 } .lesson { color: var(--odd) }
.not-observed, .not-applicable { color: var(--dim) }
@media (max-width: 40rem) { dl { display: block } dd { margin-bottom: .4rem } thead { display: none }
  tr { display: block; padding: .4rem 0 } td { display: block; padding: 0 } }
@media print { fieldset { display: none } }
"""


def document(title: str, subtitle: str, parts: Iterable[str]) -> str:
    """Return a whole page."""
    hidden = [_hides("harm", harm, ".harm") for harm in HARMS] + [
        _hides("verdict", word, ".row") for word in VERDICT_ORDER
    ]
    style = "\n".join((PALETTE, STYLE, TIMELINE_STYLE, *hidden))
    return "\n".join(
        [
            "<!doctype html>",
            f'<html lang="en"><head><meta charset="utf-8"><title>{escape(title)}</title>',
            f'<meta name="viewport" content="width=device-width, initial-scale=1"><style>{style}</style></head>',
            f'<body><main><p class="dim">{escape(subtitle)}</p><h1>{escape(title)}</h1>',
            *(part for part in parts if part),
            "</main></body></html>",
            "",
        ]
    )


def _hides(name: str, value: str, what: str) -> str:
    """Return the CSS that shows only the elements of a class if a radio button is checked."""
    return f"body:has(#{name}-{value}:checked) {what}:not({what}-{value}) {{ display: none }}"


def headline_part(text: str, clean: bool, note: str | None = None) -> str:
    """Return the first line of a report, its second clause below it, and a remark."""
    first, _, second = text.partition("; ")
    parts = [f'<p class="headline{" clean" if clean else ""}">{escape(_capitalized(first))}</p>']
    parts += [f"<p>{escape(_capitalized(second))}</p>"] if second else []
    parts += [f'<p class="dim">{escape(note)}</p>'] if note is not None else []
    return "".join(parts)


def _capitalized(text: str) -> str:
    return text[:1].upper() + text[1:]


def overview_part(groups: Sequence[HarmGroup], amounts: Mapping[str, Amount]) -> str:
    """Return a list of the broken rules with links to their findings, and their costs, by rule."""
    if not groups:
        return ""
    items = []
    for group in groups:
        links = "".join(_overview_item(one.rule, amounts.get(one.rule.id)) for one in group.verdicts)
        items.append(f"<li><strong>{escape(group.title)}</strong><ul>{links}</ul></li>")
    return f'<nav aria-label="findings"><ul class="overview">{"".join(items)}</ul></nav>'


def _overview_item(rule: Rule, amount: Amount | None) -> str:
    more = f' <span class="cost">{escape(amount.clause)}</span>' if amount is not None else ""
    return f'<li><a href="#{rule.id}">{rule.id} {escape(rule.name)}</a>{more}</li>'


def harm_filter(groups: Sequence[HarmGroup]) -> str:
    """Return the filter of the findings; empty if there is only one group."""
    choices = [(group.harm, f"{group.title} ({len(group.verdicts)})") for group in groups]
    return _filter("harm", "Show the findings about", choices) if len(choices) > 1 else ""


def _filter(name: str, legend: str, choices: Iterable[tuple[str, str]]) -> str:
    every = [("all", "everything"), *choices]
    buttons = "".join(
        f'<label><input type="radio" name="{name}" id="{name}-{value}"{" checked" if value == "all" else ""}> '
        f"{escape(label)}</label>"
        for value, label in every
    )
    return f"<fieldset><legend>{legend}</legend>{buttons}</fieldset>"


def harm_section(group: HarmGroup, articles: Iterable[str]) -> str:
    """Return the findings of one harm."""
    inner = "".join(articles)
    return f'<section class="harm harm-{group.harm}"><h2>{escape(group.title)}</h2>{inner}</section>'


def rule_head(rule: Rule, doing: str = "") -> str:
    """Return the heading of a finding, and the sentence of its rule."""
    tag = f'<span class="tag">{rule.level}, {rule.severity}</span>'
    return f"<h3>{rule.id} {escape(rule.name)}{escape(doing)} {tag}</h3><p>{escape(rule.says)}</p>"


def fix_part(rule: Rule, contract: Contract) -> str:
    """Return the sentence that says how to fix a finding, and the example that does it right."""
    example = example_for(rule, contract)
    parts = [f'<p class="fix"><strong>Fix:</strong> {escape(rule.fix)}</p>'] if rule.fix else []
    if example is not None and example.code:
        parts.append(
            f"<details><summary>Done right: <code>{escape(str(example))}</code></summary>{pre(example.code)}</details>"
        )
    elif example is not None:
        parts.append(f"<p>Done right: <code>{escape(str(example))}</code></p>")
    return "".join(parts)


def folded_part(summary: str, text: str) -> str:
    """Return a text that is shown on demand."""
    return f"<details><summary>{escape(summary)}</summary>{pre(text)}</details>"


def pre(text: str) -> str:
    """Return preformatted text; the keyboard can scroll it."""
    return f'<pre tabindex="0">{escape(text)}</pre>'


def linked(message: str, prefix: str, shown: Collection[int]) -> str:
    """Return a message in which each request that the time line shows is a link to its row."""

    def link(found: re.Match[str]) -> str:
        number = int(found.group(1))
        return f'<a href="#{prefix}-request-{number}">request {number}</a>' if number in shown else found.group(0)

    return REQUEST.sub(link, escape(message))


def numbers_in(messages: Iterable[str], most: int) -> frozenset[int]:
    """Return the numbers of the requests that messages name; `most` is the number of requests in the trace."""
    found = (int(number) for message in messages for number in REQUEST.findall(message))
    return frozenset(number for number in found if 0 < number <= most)


def facts(rows: Iterable[tuple[str, str]]) -> str:
    """Return names and values."""
    return "<dl>" + "".join(f"<dt>{escape(name)}</dt><dd>{escape(value)}</dd>" for name, value in rows) + "</dl>"


def table(names: Sequence[str], rows: Iterable[str]) -> str:
    """Return a table of rows that are HTML."""
    head = "".join(f'<th scope="col">{escape(name)}</th>' for name in names)
    return f"<table><thead><tr>{head}</tr></thead><tbody>{''.join(rows)}</tbody></table>"


def cells(*values: str) -> str:
    """Return a row of a table."""
    return "<tr>" + "".join(f"<td>{escape(value)}</td>" for value in values) + "</tr>"


def rules_part(verdicts: Sequence[Verdict], reasons: Collection[tuple[str, str]] = ()) -> str:
    """Return the table of all rules with a filter; `reasons` are the accepted rules with their reasons."""
    accepted = dict(reasons)
    ordered = sorted(verdicts, key=lambda one: VERDICT_ORDER.index(one.verdict))
    words = [word for word in VERDICT_ORDER if any(one.verdict == word for one in verdicts)]
    choices = [(word, f"{word} ({sum(one.verdict == word for one in verdicts)})") for word in words]
    rows = (_row(one, accepted.get(one.rule.id)) for one in ordered)
    inner = _filter("verdict", "Show the rules that are", choices) + table(("rule", "verdict", "statement"), rows)
    return f"<section><h2>All rules</h2><details><summary>{len(verdicts)} rules</summary>{inner}</details></section>"


def _row(one: Verdict, accepted: str | None) -> str:
    rule = one.rule
    name = escape(f"{rule.id} {rule.name}")
    name = f'<a href="#{rule.id}">{name}</a>' if one.findings else name
    word = one.verdict + (f" (accepted: {accepted})" if one.verdict == BROKEN and accepted else "")
    times = f' <span class="dim">(observed in {number_of(one.observed, "run")})</span>' if one.observed else ""
    why = f'<br><span class="dim">{escape(one.why)}</span>' if one.why is not None else ""
    return (
        f'<tr class="row row-{one.verdict}"><td>{name}</td><td class="verdict {one.verdict}">{escape(word)}</td>'
        f"<td>{escape(rule.says)}{times}{why}</td></tr>"
    )
