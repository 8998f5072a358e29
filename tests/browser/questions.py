"""Questions as people ask them of a model, with the code that they are about: what a page has to have room for."""

DJANGO = """My Django view is painfully slow (N+1). Fix it, and say why it helps.

```python
rows = []
for order in Order.objects.filter(created_at__gte=start, status__in=["paid", "sent"]).order_by("-created_at", "pk"):
    rows.append({"id": order.pk, "customer": order.customer.name, "lines": [line.title for line in order.lines.all()]})
return JsonResponse({"rows": rows, "total": sum(row["total"] for row in rows), "currency": settings.DEFAULT_CURRENCY})
```
"""
NODE = (
    "Why does this leak?\n\n    const server = http.createServer((request, response) => "
    "{ cache[request.url + JSON.stringify(request.headers)] = response; });\n"
)
PHP = (
    '- my query in PHP:\n\n  ```php\n  $stmt = $pdo->prepare("SELECT o.*, c.name, c.email FROM orders o '
    'JOIN customers c ON c.id = o.customer_id WHERE o.id = " . $_GET["id"]);\n  ```\n'
)
LONG_LINE = "One line:\n\n```\n" + "x" * 1_000 + "\n```\n\nand " + "so many arguments " * 40
LETTERS = "w" * 1_000
TABLE = (
    "| "
    + " | ".join(f"Column {n}" for n in range(30))
    + " |\n"
    + "|---" * 30
    + "|\n"
    + "| 12,300 " * 30
    + "|"
)
QUESTIONS = [DJANGO, NODE, PHP, LONG_LINE, LETTERS, TABLE]
LONG_TASK = "Summarise the minutes below in five bullet points.\n\n" + "\n\n".join(
    f"Item {number}. " + "The board met and spoke of the budget. " * 12 for number in range(1, 37)
)
CHAT = [
    {"role": "system", "content": "Be brief."},
    {"role": "user", "content": "Hello! " * 200},
    {"role": "assistant", "content": "Good day. " * 200},
    {"role": "user", "content": "And the weather?"},
    {"role": "assistant", "content": "It is 3 degrees."},
    {"role": "user", "content": LONG_TASK},
]
