"""Comparisons as real projects have them: code, mathematics, a wide table, tools, reasoning, several scripts.

`docs/screenshots.py` imports them into a project of their own, and browser tests judge them.
"""

from typing import Any

CODE = {
    "id": "code",
    "prompt": [
        {"role": "system", "content": "You review Python. Answer with code first, then one sentence of why."},
        {"role": "user", "content": "How do I read a CSV file?"},
        {"role": "assistant", "content": "```python\nimport csv\n\nwith open(\"a.csv\") as file:\n    rows = list(csv.DictReader(file))\n```"},
        {
            "role": "user",
            "content": (
                "This view is painfully slow. Fix it, and explain.\n\n"
                "```python\n"
                "def report(request):\n"
                "    rows = []\n"
                "    for order in Order.objects.filter(status=\"paid\").order_by(\"-created_at\"):\n"
                "        rows.append((order.customer.name, order.customer.country.name, sum(item.price * item.quantity for item in order.items.all())))\n"
                "    return render(request, \"report.html\", {\"rows\": rows})\n"
                "```"
            ),
        },
    ],
    "completion_a": (
        "```python\n"
        "def report(request):\n"
        "    orders = (\n"
        "        Order.objects.filter(status=\"paid\")\n"
        "        .select_related(\"customer__country\")\n"
        "        .annotate(total=Sum(F(\"items__price\") * F(\"items__quantity\")))\n"
        "        .order_by(\"-created_at\")\n"
        "    )\n"
        "    return render(request, \"report.html\", {\"orders\": orders})\n"
        "```\n\n"
        "It was the *N + 1* problem: **three queries an order**. Now there is one, and the database does the sum."
    ),
    "completion_b": (
        "You should use `__init__` to cache it:\n\n"
        "1. Put the loop into a function\n"
        "2. Decorate it with `@lru_cache`\n"
        "   - remember that it never expires\n\n"
        "```python\n"
        "@lru_cache(maxsize=None)\n"
        "def rows():\n"
        "    return [(o.customer.name, o.customer.country.name, sum(i.price * i.quantity for i in o.items.all())) for o in Order.objects.all()]\n"
        "```"
    ),
    "metadata": {"source": "code review, week 12", "reference": "select_related and annotate; one query."},
}  # fmt: skip

MATHEMATICS = {
    "id": "mathematics",
    "prompt": "Prove that the sum of the first $n$ odd numbers is $n^2$. A ticket costs $5, not $6.",
    "completion_a": (
        "By induction. For $n = 1$ both sides are $1$. Suppose it holds for $n$. Then\n\n"
        "$$\n\\sum_{k=1}^{n+1} (2k - 1) = n^2 + (2n + 1) = (n + 1)^2 .\n$$\n\n"
        "So it holds for every $n \\ge 1$. $\\blacksquare$"
    ),
    "completion_b": (
        "The numbers form pairs: \\(1 + (2n - 1) = 2n\\), \\(3 + (2n - 3) = 2n\\), and so on.\n"
        "There are \\(\\frac{n}{2}\\) pairs, hence\n\n"
        "\\[ \\frac{n}{2} \\cdot 2n = n^2 . \\]\n\n"
        "For odd $n$ the middle number $n$ is left over:\n"
        "\\[ \\frac{n-1}{2} \\cdot 2n + n = n^2 . \\]"
    ),
}

TABLE = {
    "id": "table",
    "prompt": "Compare four databases for 50 GB of time series. One table, then one recommendation.",
    "completion_a": (
        "| Database | Ingestion, rows/s | Query language | Compression | Retention | Licence | Runs on one node |\n"
        "|---|---:|---|---:|---|---|:-:|\n"
        "| TimescaleDB | 1,200,000 | SQL | 92 % | policies | Apache-2.0 / TSL | yes |\n"
        "| InfluxDB 3 | 2,400,000 | SQL, InfluxQL | 95 % | per database | MIT / Apache-2.0 | yes |\n"
        "| ClickHouse | 4,100,000 | SQL | 94 % | `TTL` | Apache-2.0 | yes |\n"
        "| Prometheus | 800,000 | PromQL | 90 % | by time or size | Apache-2.0 | yes |\n\n"
        "Take **TimescaleDB**: 50 GB is small, and you know SQL.[^1]\n\n"
        "[^1]: Figures from the vendors; measure on your own data."
    ),
    "completion_b": (
        "- [x] TimescaleDB: SQL, CO<sub>2</sub>-friendly at 50 GB\n"
        "- [ ] InfluxDB\n- [ ] ClickHouse: more than you need\n- [ ] Prometheus: for monitoring\n\n"
        "I recommend TimescaleDB."
    ),
}

TOOLS = {
    "id": "tools",
    "prompt": [
        {"role": "system", "content": "You help travellers. Use the tools; never invent a departure."},
        {"role": "user", "content": "When is the next train from Bern to Zürich, and will I need an umbrella?"},
        {
            "role": "assistant",
            "content": None,
            "tool_calls": [
                {
                    "id": "call_1",
                    "type": "function",
                    "function": {"name": "departures", "arguments": '{"from": "Bern", "to": "Zürich HB", "limit": 2}'},
                },
                {
                    "id": "call_2",
                    "type": "function",
                    "function": {"name": "weather", "arguments": '{"city": "Zürich", "hours": 3}'},
                },
            ],
        },
        {
            "role": "tool",
            "tool_call_id": "call_1",
            "name": "departures",
            "content": '[{"time": "14:02", "platform": 5, "minutes": 56}, {"time": "14:31", "platform": 6, "minutes": 58}]',
        },
        {"role": "tool", "tool_call_id": "call_2", "name": "weather", "content": '{"rain_mm": 4.2, "probability": 0.8}'},
        {"role": "user", "content": "It is 13:55 now, and I am ten minutes from the station."},
    ],
    "completion_a": "Take the **14:31** from platform 6; you would miss the 14:02. You arrive at 15:29.\n\nBring an umbrella: rain is likely (80 %).",
    "completion_b": "The next train leaves at 14:02 from platform 5. Enjoy your trip! 🚆",
}  # fmt: skip

REASONING = {
    "id": "reasoning",
    "prompt": "A bat and a ball cost 1.10 in all. The bat costs 1.00 more than the ball. What does the ball cost?",
    "completion_a": (
        "<think>\nFirst thought: 0.10. Check: then the bat is 1.10, and the total 1.20. Wrong.\n\n"
        "Let the ball be x. Then x + (x + 1.00) = 1.10, so 2x = 0.10 and x = 0.05.\n"
        "Check: 0.05 + 1.05 = 1.10, and 1.05 - 0.05 = 1.00. Right.\n</think>\n\n"
        "The ball costs **0.05**."
    ),
    "completion_b": "<think>\n1.10 - 1.00 = 0.10\n</think>\n\nThe ball costs 0.10.",
}

ARABIC = {
    "id": "arabic",
    "prompt": "اشرح الفرق بين القائمة (list) والمجموعة (tuple) في Python.",
    "completion_a": (
        "الفرق الأساسي هو **قابلية التعديل**:\n\n"
        "- القائمة `list` قابلة للتعديل بعد إنشائها\n- المجموعة `tuple` ثابتة، لذلك تصلح مفتاحًا في `dict`\n\n"
        "```python\nmutable = [1, 2]\nfixed = (1, 2)\n```\n\n"
        "استخدم `tuple` عندما لا تتغيّر القيم."
    ),
    "completion_b": "Sure!\n\n- القائمة تستخدم `[]`\n- Python: tuple تستخدم `()`\n\nكلاهما يحفظ الترتيب.",
}

JAPANESE = {
    "id": "japanese",
    "prompt": "次のメールを丁寧な敬語に直してください。\n\n「明日の会議、来れる?資料も持ってきて。」",
    "completion_a": "明日の会議にご出席いただけますでしょうか。\nお手数ですが、資料もお持ちくださいますようお願いいたします。",
    "completion_b": "明日の会議に来られますか?\n資料も持ってきてください。よろしくお願いします。",
}

CHINESE = {
    "id": "chinese",
    "prompt": "用一句话解释什么是过拟合，再举一个例子。",
    "completion_a": "过拟合是指模型**记住了训练数据**，却不能推广到新数据。\n\n例子：学生背下了所有习题的答案，换一道题就不会做。",
    "completion_b": "过拟合就是模型太好了。例如，训练准确率为 100%。",
}

LONG_CHAT = {
    "id": "long-chat",
    "prompt": [
        {"role": "system", "content": "You are a patient tutor of statistics. Never give a result without its meaning."},
        {"role": "user", "content": "I have two groups of 40 people and their reaction times. Is one faster?"},
        {"role": "assistant", "content": "Start with a picture: a dot plot for each group. What do you see?"},
        {"role": "user", "content": "Both are skewed to the right, with a few very slow people."},
        {
            "role": "assistant",
            "content": "Then compare medians, or logarithms of the times:\n\n1. $\\log t$ is often nearly symmetric\n2. a *t* test on it compares geometric means",
        },
        {"role": "user", "content": "Medians are 412 ms and 388 ms. On logarithms p = 0.03."},
        {"role": "assistant", "content": "So such a difference would be rare if there were none. How large is it, with its interval?"},
        {"role": "user", "content": "6 % faster, from 1 % to 11 %."},
        {"role": "assistant", "content": "<think>\nThey may stop at p < 0.05. Ask whether 1 % would matter to them.\n</think>\n\nGood. Would 1 % matter to you? Would 11 %?"},
        {"role": "user", "content": "Anything above 5 % would. So what do I write?"},
    ],
    "completion_a": (
        "<think>\nThe interval holds both values that matter and values that do not.\n</think>\n\n"
        "Write what the data allow:\n\n> The second group was 6 % faster (95 % interval 1 – 11 %). "
        "Effects below and above the 5 % that would matter to us are both compatible with the data.\n\n"
        "That is an answer: **probably faster, not certainly by enough**."
    ),
    "completion_b": "Write: “The result is significant (p = 0.03), so the second group is faster.”",
}  # fmt: skip

ROWS: list[dict[str, Any]] = [
    CODE, MATHEMATICS, TABLE, TOOLS, REASONING, ARABIC, JAPANESE, CHINESE, LONG_CHAT,
]  # fmt: skip
