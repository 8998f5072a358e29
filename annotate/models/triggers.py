"""The rules that only triggers can hold: counters that equal their rows, what may never change, what belongs together.

`install` puts them into the database and may be called again. On SQLite a migration that alters one of these tables
rebuilds it. It then loses its triggers, and those of other tables that name it are in the way. Let such a migration
begin with `RunPython(triggers.remove)` and end with `RunPython(triggers.install)`
(tests/annotate/models/test_models.py fails otherwise).
"""

# ruff: noqa: S608 - only constants of this module are put together

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from django.db.backends.base.base import BaseDatabaseWrapper
from django.db.backends.base.schema import BaseDatabaseSchemaEditor

# Comparison.claimed, .judged and .skipped count claims in these states.
COUNTERS = {"claimed": "'live', 'next'", "judged": "'judged'", "skipped": "'skipped'"}

# Table -> the columns that an UPDATE may not name; empty: none at all.
IMMUTABLE = {
    "annotate_completion": "",
    "annotate_snapshot": "OF project_id, digest, settings, counts, created_at",
    "annotate_snapshotpair": "",
    "annotate_snapshotpair_judgments": "",
}

# Table -> the columns whose values stay as they were written. Other columns of a row may change.
LASTING = {
    "annotate_prompt": ("project_id",),
    "annotate_comparison": ("project_id", "prompt_id", "first_id", "second_id"),
    "annotate_claim": ("project_id", "comparison_id", "annotator_id", "left_id", "right_id"),
    "annotate_judgment": (
        "project_id", "comparison_id", "annotator_id", "verdict", "preferred_id", "strength", "left_id", "right_id",
        "sides_known",
    ),
}  # fmt: skip
LASTING_MESSAGE = "This was written once and does not change."

# Rows are added, and neither changed nor deleted.
TRAIL = "annotate_trailentry"

MISFIT = """NOT EXISTS (
    SELECT 1 FROM annotate_prompt p, annotate_completion a, annotate_completion b
    WHERE p.id = NEW.prompt_id AND p.project_id = NEW.project_id
    AND a.id = NEW.first_id AND a.prompt_id = p.id AND b.id = NEW.second_id AND b.prompt_id = p.id)"""
MISFIT_MESSAGE = "A comparison is made of two completions of its own prompt, in its own project."

# A new comparison counts the claims that it has already: those of an import are stored before it, so that it is stored
# once, and not changed by each of them.
MISCOUNT = " OR ".join(
    f"NEW.{column} <> (SELECT COUNT(*) FROM annotate_claim k WHERE k.comparison_id = NEW.id AND k.state IN ({states}))"
    for column, states in COUNTERS.items()
)
MISCOUNT_MESSAGE = "The counters of a comparison are the counts of its claims."

# The tables whose rows show the two completions of their comparison, in its project. Foreign keys alone would let a
# claim or a judgment show any completion. Those of an import are stored before their comparison, which looks at them.
SHOWING = ("annotate_claim", "annotate_judgment")
MISSHOWN_MESSAGE = "A comparison is shown by its own two completions, in its own project."

# What an annotator from a file may have, and may not: by trigger, the table, what does not fit, and the error.
IMPORTED = {
    "judgments_fit_their_annotator": (
        "annotate_judgment",
        """NOT EXISTS (
    SELECT 1 FROM annotate_user u WHERE u.id = NEW.annotator_id AND (
        (NEW.import_batch = '' AND u.imported_into_id IS NULL)
        OR (NEW.import_batch <> '' AND u.imported_into_id = NEW.project_id)))""",
        "An imported judgment is one of an annotator that a file of its project named.",
    ),
    "members_are_people": (
        "annotate_membership",
        "EXISTS (SELECT 1 FROM annotate_user u WHERE u.id = NEW.user_id AND u.imported_into_id IS NOT NULL)",
        "An annotator that a file named is not a member.",
    ),
}


def install(apps: Any, schema_editor: BaseDatabaseSchemaEditor) -> None:
    """Create or replace the triggers (the signature is that of a migration's RunPython)."""
    connection = schema_editor.connection
    rules = {"sqlite": [sqlite, keep_trail_sqlite], "postgresql": [postgresql, keep_trail_postgresql]}
    others, trail = rules[connection.vendor]
    statements = list(others())
    if _has_imported(schema_editor):
        statements += imported_sqlite() if connection.vendor == "sqlite" else imported_postgresql()
        statements += judged_sqlite() if connection.vendor == "sqlite" else judged_postgresql()
    if TRAIL in connection.introspection.table_names():  # not yet in the first migrations
        statements += trail()
    for statement in statements:
        schema_editor.execute(statement, params=None)


def remove(apps: Any, schema_editor: BaseDatabaseSchemaEditor) -> None:
    """Drop the triggers on SQLite, so that a table can be rebuilt. PostgreSQL alters tables in place."""
    if schema_editor.connection.vendor == "sqlite":
        for statement in [*sqlite(), *imported_sqlite(), *judged_sqlite(), *keep_trail_sqlite()]:
            if statement.startswith("DROP"):
                schema_editor.execute(statement, params=None)


def remove_imported(apps: Any, schema_editor: BaseDatabaseSchemaEditor) -> None:
    """Drop the triggers that came with imported annotators, whose column is about to go."""
    tables = {name: table for name, (table, _misfit, _message) in IMPORTED.items()}
    tables |= {f"keep_{table}": table for table in LASTING} | {f"show_{table}": table for table in SHOWING}
    for name, table in (tables | {"show_comparison": "annotate_comparison"}).items():
        on = f" ON {table}" if schema_editor.connection.vendor == "postgresql" else ""
        schema_editor.execute(f"DROP TRIGGER IF EXISTS {name}{on}", params=None)


def _has_imported(schema_editor: BaseDatabaseSchemaEditor) -> bool:
    """Return whether the database knows imported annotators, which the first migrations do not."""
    connection = schema_editor.connection
    with connection.cursor() as cursor:
        found = connection.introspection.get_table_description(cursor, "annotate_user")
    return any(column.name == "imported_into_id" for column in found)


@contextmanager
def changeable_trail(connection: BaseDatabaseWrapper) -> Iterator[None]:
    """Let entries of the trail change inside the block, as when a person is forgotten. Call it in a transaction."""
    table = f" ON {TRAIL}" if connection.vendor == "postgresql" else ""
    rules = keep_trail_postgresql if connection.vendor == "postgresql" else keep_trail_sqlite
    with connection.cursor() as cursor:
        cursor.execute(f"DROP TRIGGER IF EXISTS keep_trail_on_update{table}")
        yield
        for statement in rules():
            cursor.execute(statement)


def _on_sqlite(name: str, when: str, body: str) -> Iterator[str]:
    yield f"DROP TRIGGER IF EXISTS {name}"
    yield f"CREATE TRIGGER {name} {when} BEGIN {body}; END"


def _refused_by_sqlite(name: str, when: str, message: str) -> Iterator[str]:
    yield from _on_sqlite(name, when, f"SELECT RAISE(ABORT, '{message}')")


def sqlite() -> Iterator[str]:
    def count(comparison: str, **signs: str) -> str:
        """UPDATE the counters by the states of the row versions named, each with + or -."""
        changes = ", ".join(
            f"{column} = {column} "
            + " ".join(f"{sign} ({row}.state IN ({states}))" for row, sign in signs.items())
            for column, states in COUNTERS.items()
        )
        return f"UPDATE annotate_comparison SET {changes} WHERE id = {comparison}"

    table = "annotate_claim FOR EACH ROW"
    yield from _on_sqlite("count_new_claims", f"AFTER INSERT ON {table}", count("NEW.comparison_id", NEW="+"))
    yield from _on_sqlite(
        "count_lost_claims", f"AFTER DELETE ON {table}", count("OLD.comparison_id", OLD="-")
    )
    yield from _on_sqlite(
        "count_changed_claims",
        f"AFTER UPDATE OF state ON {table} WHEN OLD.state <> NEW.state",
        count("NEW.comparison_id", NEW="+", OLD="-"),
    )
    for name, columns in IMMUTABLE.items():
        yield from _refused_by_sqlite(
            f"keep_{name}",
            f"BEFORE UPDATE {columns} ON {name} FOR EACH ROW",
            f"{name} is immutable",
        )
    yield from _refused_by_sqlite(
        "comparisons_fit_together",
        f"BEFORE INSERT ON annotate_comparison FOR EACH ROW WHEN {MISFIT}",
        MISFIT_MESSAGE,
    )
    yield from _refused_by_sqlite(
        "comparisons_count_their_claims",
        f"BEFORE INSERT ON annotate_comparison FOR EACH ROW WHEN {MISCOUNT}",
        MISCOUNT_MESSAGE,
    )


def postgresql() -> Iterator[str]:
    def trigger(name: str, when: str, function: str, body: str) -> Iterator[str]:
        yield f"CREATE OR REPLACE FUNCTION {function}() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN {body} END $$"
        yield f"CREATE OR REPLACE TRIGGER {name} {when} FOR EACH ROW EXECUTE FUNCTION {function}()"

    def count(comparison: str, **signs: str) -> str:
        changes = ", ".join(
            f"{column} = {column} "
            + " ".join(f"{sign} ({row}.state IN ({states}))::int" for row, sign in signs.items())
            for column, states in COUNTERS.items()
        )
        return f"UPDATE annotate_comparison SET {changes} WHERE id = {comparison};"

    yield from trigger(
        "count_claims",
        "AFTER INSERT OR DELETE OR UPDATE OF state ON annotate_claim",
        "annotate_count_claims",
        f"""
        IF TG_OP = 'INSERT' THEN {count("NEW.comparison_id", NEW="+")}
        ELSIF TG_OP = 'DELETE' THEN {count("OLD.comparison_id", OLD="-")}
        ELSIF OLD.state <> NEW.state
            AND NOT (OLD.state IN ({COUNTERS["claimed"]}) AND NEW.state IN ({COUNTERS["claimed"]})) THEN
            -- What stays held must not wait for a lock on its comparison.
            {count("NEW.comparison_id", NEW="+", OLD="-")}
        END IF;
        RETURN NULL;
        """,
    )
    for name, columns in IMMUTABLE.items():
        yield from trigger(
            f"keep_{name}",
            f"BEFORE UPDATE {columns} ON {name}",
            "annotate_refuse_update",
            "RAISE EXCEPTION '% is immutable', TG_TABLE_NAME USING ERRCODE = 'integrity_constraint_violation';",
        )
    rules = {MISFIT_MESSAGE: of_added(MISFIT), MISCOUNT_MESSAGE: MISCOUNT.replace("NEW.", "added.")}
    yield from _checked_by_statement(
        "comparisons_fit_together", "annotate_comparison", "annotate_check_comparison", rules
    )


def _checked_by_statement(name: str, table: str, function: str, rules: Mapping[str, str]) -> Iterator[str]:
    """Yield what refuses rows that are added, by message: what of `added`, all rows of a statement, does not fit.

    A plan is kept: one that was made for small tables would read them whole later.
    """
    checks = " ".join(
        f"IF EXISTS (SELECT 1 FROM added WHERE {rule}) "
        f"THEN RAISE EXCEPTION '{message}' USING ERRCODE = 'integrity_constraint_violation'; END IF;"
        for message, rule in rules.items()
    )
    yield f"DROP TRIGGER IF EXISTS {name} ON {table}"
    yield (
        f"CREATE OR REPLACE FUNCTION {function}() RETURNS trigger LANGUAGE plpgsql "
        "SET enable_seqscan = off SET enable_hashjoin = off SET enable_mergejoin = off "
        f"AS $$ BEGIN {checks} RETURN NULL; END $$"
    )
    yield (
        f"CREATE TRIGGER {name} AFTER INSERT ON {table} "
        f"REFERENCING NEW TABLE AS added FOR EACH STATEMENT EXECUTE FUNCTION {function}()"
    )


def of_added(misfit: str) -> str:
    """Return the condition on NEW, which is one query, as one on the rows `added`, looked up for each of them.

    OFFSET 0 keeps PostgreSQL from making a join of it. Where its statistics say that the tables are empty, as after a
    vacuum before the first import, it would compare each new row with all others.
    """
    return f"{misfit.replace('NEW.', 'added.').removesuffix(')')} OFFSET 0)"


def imported_sqlite() -> Iterator[str]:
    for name, (table, misfit, message) in IMPORTED.items():
        yield from _refused_by_sqlite(name, f"BEFORE INSERT ON {table} FOR EACH ROW WHEN {misfit}", message)


def imported_postgresql() -> Iterator[str]:
    for name, (table, misfit, message) in IMPORTED.items():
        yield from _checked_by_statement(name, table, f"annotate_{name}", {message: of_added(misfit)})


# --- What is judged, and what was shown ---------------------------------------------------------------------------


def misshown(row: str, comparison: str) -> str:
    """Return the condition that a claim or a judgment does not show the completions of a comparison."""
    sides = " OR ".join(
        f"({row}.left_id = {comparison}.{one}_id AND {row}.right_id = {comparison}.{other}_id)"
        for one, other in (("first", "second"), ("second", "first"))
    )
    return f"NOT ({row}.project_id = {comparison}.project_id AND ({sides}))"


def shown_otherwise(row: str) -> str:
    """Return the condition that a new claim or judgment does not fit its comparison, if that is there already."""
    return (
        f"EXISTS (SELECT 1 FROM annotate_comparison c WHERE c.id = {row}.comparison_id "
        f"AND {misshown(row, 'c')} LIMIT 1)"
    )


def misshown_before(row: str) -> str:
    """Return the condition that a claim or a judgment is there already that does not fit a new comparison."""
    return " OR ".join(
        f"EXISTS (SELECT 1 FROM {table} s WHERE s.comparison_id = {row}.id AND {misshown('s', row)} LIMIT 1)"
        for table in SHOWING
    )


def judged_sqlite() -> Iterator[str]:
    for name, (table, rule) in _shown("NEW").items():
        yield from _refused_by_sqlite(
            name, f"BEFORE INSERT ON {table} FOR EACH ROW WHEN {rule}", MISSHOWN_MESSAGE
        )
    for table, columns in LASTING.items():
        changed = " OR ".join(f"OLD.{column} IS NOT NEW.{column}" for column in columns)
        when = f"BEFORE UPDATE OF {', '.join(columns)} ON {table} FOR EACH ROW WHEN {changed}"
        yield from _refused_by_sqlite(f"keep_{table}", when, LASTING_MESSAGE)


def _shown(row: str) -> dict[str, tuple[str, str]]:
    """Return the rules of what is shown, by the names of their triggers: the table, and what does not fit."""
    rules = {f"show_{table}": (table, shown_otherwise(row)) for table in SHOWING}
    return rules | {"show_comparison": ("annotate_comparison", misshown_before(row))}


def judged_postgresql() -> Iterator[str]:
    for name, (table, rule) in _shown("added").items():
        yield from _checked_by_statement(name, table, f"annotate_{name}", {MISSHOWN_MESSAGE: rule})
    yield (
        "CREATE OR REPLACE FUNCTION annotate_keep_what_lasts() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN "
        f"RAISE EXCEPTION '{LASTING_MESSAGE}' USING ERRCODE = 'integrity_constraint_violation'; END $$"
    )
    for table, columns in LASTING.items():
        changed = " OR ".join(f"OLD.{column} IS DISTINCT FROM NEW.{column}" for column in columns)
        yield (
            f"CREATE OR REPLACE TRIGGER keep_{table} BEFORE UPDATE OF {', '.join(columns)} ON {table} "
            f"FOR EACH ROW WHEN ({changed}) EXECUTE FUNCTION annotate_keep_what_lasts()"
        )


def keep_trail_sqlite() -> Iterator[str]:
    for event in ("update", "delete"):
        yield f"DROP TRIGGER IF EXISTS keep_trail_on_{event}"
        yield (
            f"CREATE TRIGGER keep_trail_on_{event} BEFORE {event} ON {TRAIL} FOR EACH ROW "
            "BEGIN SELECT RAISE(ABORT, 'The trail is append-only'); END"
        )


def keep_trail_postgresql() -> Iterator[str]:
    yield (
        "CREATE OR REPLACE FUNCTION annotate_keep_trail() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN "
        "RAISE EXCEPTION 'The trail is append-only' USING ERRCODE = 'integrity_constraint_violation'; END $$"
    )
    for event in ("update", "delete"):
        yield (
            f"CREATE OR REPLACE TRIGGER keep_trail_on_{event} BEFORE {event} ON {TRAIL} "
            "FOR EACH ROW EXECUTE FUNCTION annotate_keep_trail()"
        )
