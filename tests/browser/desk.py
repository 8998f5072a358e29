"""The desk as its annotator uses it, for the tests beside this file."""

from collections.abc import Callable
from typing import Any

from playwright.sync_api import Page, Route

from annotate.models import stored_aspects

JUDGE = "/p/reviews/judge/"
PHONE: dict[str, Any] = {"width": 390, "height": 844, "has_touch": True, "is_mobile": True}


def ask_for_notes(project: Any) -> None:
    project.ask_rationale = True
    project.reasons, project.criteria = stored_aspects(["Truer", "Shorter"]), stored_aspects(["Helpful"])
    project.save()


class Desk:
    def __init__(self, page: Page) -> None:
        self.page = page

    @property
    def token(self) -> str:
        return self.page.get_attribute("#comparison", "data-token") or ""

    @property
    def ahead(self) -> str:
        """The token of the comparison that was fetched ahead; empty if there is none."""
        script = "document.getElementById('ahead').content.firstElementChild?.dataset.token ?? ''"
        return str(self.page.evaluate(script))

    @property
    def status(self) -> str:
        return self.page.get_attribute("#saved", "data-state") or ""

    def wait_for(self, condition: str, argument: Any = None) -> None:
        """Wait until this expression is true. Playwright's own way would need eval, which the pages forbid."""
        self.wait_until(
            lambda: bool(self.page.evaluate(condition, argument)), f"{condition} {argument or ''}"
        )

    def wait_until(self, has_come: Callable[[], bool], what: str = "") -> None:
        """Wait until this function returns true."""
        for _ in range(2_400):
            if has_come():
                return
            self.page.wait_for_timeout(25)
        state = f"{self.status}, token {self.token}, ahead {self.ahead or 'nothing'}"
        raise AssertionError(f"Never came true: {what}\nThe desk: {state}")

    def drawn(self) -> "Desk":
        """Wait for two frames: the events of all that was scrolled and resized have been handled by then."""
        frame = "new Promise(resolve => requestAnimationFrame(() => requestAnimationFrame(resolve)))"
        self.page.evaluate(frame)
        return self

    def ready(self) -> "Desk":
        """Wait until a comparison is on screen, and the next one is fetched ahead."""
        self.wait_for(
            "Boolean(document.querySelector('#comparison[data-token]')"
            " && document.getElementById('ahead').innerHTML.trim())"
        )
        return self.looked()

    def looked(self) -> "Desk":
        """Wait as long as a comparison is on screen before a verdict counts. A new window may be hidden first."""
        self.wait_for("!document.hidden")
        self.page.wait_for_timeout(400)
        return self

    def intercept(self, handler: Callable[[Route], object], path: str = "**/judge/") -> None:
        """Let `handler` decide about requests, if nothing else is said to the desk's own address.

        A page that is open already may send a little longer past the handler: wait until it does not.
        """
        self.page.route(path, handler)
        self.page.route("**/probe", lambda route: route.fulfill(status=204))
        self.wait_for("fetch('/probe').then((answer) => answer.status === 204)")

    def press(self, key: str) -> None:
        self.page.keyboard.press(key)

    def saved(self) -> "Desk":
        """Wait until the server has confirmed everything."""
        self.wait_for("document.getElementById('saved').dataset.state === 'saved'")
        return self

    def shows(self, token: str) -> "Desk":
        self.wait_for("token => document.getElementById('comparison').dataset.token === token", token)
        return self

    def moved_on(self, token: str) -> "Desk":
        self.wait_for("token => document.getElementById('comparison').dataset.token !== token", token)
        return self

    def judge(self, key: str) -> "Desk":
        """Give a verdict by its key, and wait until it is saved and the next comparison may be judged."""
        before = self.token
        self.press(key)
        return self.moved_on(before).saved().looked()


def opened(open_desk: Callable[..., Desk], **options: Any) -> Desk:
    """Return a desk with a comparison on screen, whether or not the next one is fetched."""
    desk = open_desk(**options)
    desk.wait_for("Boolean(document.querySelector('#comparison[data-token]'))")
    return desk
