"""Real completions as an annotator sees them: mathematics, code, tables, lists, several scripts."""

from collections.abc import Callable
from typing import Any

import pytest
from playwright.sync_api import Page, expect

from annotate.models import Comparison, Completion, Prompt
from tests.browser.desk import Desk
from tests.factories import compare

MATHS = r"""The roots are

$$
x = \frac{-b \pm \sqrt{b^2 - 4ac}}{2a}
$$

so \(x_1 + x_2\) is $-\frac{b}{a}$. It costs $5 and $6. This is not a formula: $\frac{a$.
"""
CODE = """Run `__init__` first:
1. Open C:\\*.txt
2. Read it
   - with care
   - *twice*

```python
def read(path: str, encoding: str = "utf-8") -> list[dict[str, str]]:  # a line that is wider than a phone
    return [json.loads(line) for line in open(path, encoding=encoding) if line.strip()]
```

| City | Population | Area |
|------|-----------:|-----:|
| 東京 | 14,094,034 | 2,194 |
| Northampton on the river | 12,300 | 7 |

---
ملاحظة: هذا **مهم** جداً
- أولاً
- second

Traceback:
  File "x.py", line 1
    y = 2
"""


@pytest.fixture
def written(project: Any) -> None:
    prompt = Prompt(project=project)
    prompt.set_content("Solve it, and show `code`.")
    prompt.save()
    first, second = (
        Completion.objects.create(prompt=prompt, policy=project.current_policy, text=text)
        for text in (MATHS, CODE)
    )
    Comparison.objects.create(project=project, prompt=prompt, first=first, second=second)


def test_a_heading_begins_where_a_paragraph_does(
    project: Any, teammate: Any, open_page: Callable[..., Page]
) -> None:
    compare(project, "Summarize it.", "## Summary\n\nShort.", "Short.")
    page = open_page(teammate, "/p/reviews/judge/")
    top = "element => element.getBoundingClientRect().top"
    heading, paragraph = (page.locator(f"#pane-{side} > *").first.evaluate(top) for side in "ab")
    assert heading == paragraph


def test_formulas_are_typeset_and_others_stay_as_written(
    written: None, open_desk: Callable[..., Desk]
) -> None:
    page = open_desk().page
    expect(page.locator("#comparison math")).to_have_count(3)
    expect(page.get_by_text(r"This is not a formula: $\frac{a$.")).to_be_visible()
    expect(page.get_by_text("It costs $5 and $6.")).to_be_visible()
    assert page.locator("#comparison .math").first.get_attribute("title").startswith("$$\nx = ")


def test_an_environment_is_typeset_without_a_number(project: Any, open_desk: Callable[..., Desk]) -> None:
    texts = [
        "\\begin{align}\nx &= 1 \\\\\ny &= 2\n\\end{align}",
        "\\begin{equation}\nE = mc^2\n\\end{equation}",
    ]
    compare(project, "Write it in LaTeX.", *texts)
    page = open_desk().page
    expect(page.locator("#comparison math")).to_have_count(2)
    expect(page.locator("#comparison .tml-eqn")).to_have_count(0)


def test_a_page_without_mathematics_loads_none(desk: Desk) -> None:
    assert (
        desk.page.evaluate(
            "performance.getEntriesByType('resource').filter(one => /math|temml/i.test(one.name)).length"
        )
        == 0
    )


def test_a_wide_formula_scrolls_in_its_own_box_on_a_phone(
    project: Any, open_desk: Callable[..., Desk]
) -> None:
    sum_of_many = " + ".join(rf"\frac{{x_{{{n}}}}}{{n - {n}}}" for n in range(12))
    texts = (
        f"$$\\int_0^\\infty \\left( {sum_of_many} \\right) dx$$",
        rf"So \( \sqrt{{{sum_of_many}}} \) is the sum.",
    )
    compare(project, "Derive it.", *texts)
    page = open_desk(width=390, height=844, has_touch=True, is_mobile=True).page
    expect(page.locator("#comparison math")).to_have_count(2)
    assert page.evaluate("visualViewport.width") == 390
    assert page.evaluate("document.documentElement.scrollWidth <= visualViewport.width")


@pytest.mark.parametrize("width", [1400, 390])
def test_wide_code_and_tables_scroll_in_their_own_box(
    written: None, open_desk: Callable[..., Desk], width: int
) -> None:
    page: Page = open_desk(width=width).page
    expect(page.locator("#comparison table")).to_be_attached()
    assert page.evaluate("document.documentElement.scrollWidth <= visualViewport.width")
