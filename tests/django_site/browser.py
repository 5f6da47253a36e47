"""The site in a tab of the browser, and what somebody does there."""

from __future__ import annotations

from typing import Any

from ..support.browser import Page


class SitePage(Page):
    """A tab of one of the site's users."""

    def __init__(self, driver: Any, url: str, user: str) -> None:
        super().__init__(driver, url)
        self.user = user

    def log_in(self, session: str) -> None:
        self.open("/login/")
        self.driver.add_cookie({"name": "sessionid", "value": session, "path": "/", "httpOnly": True})

    def start(self, prompt: str, *, commands: bool = False, files: str = "", alone: bool = False) -> str:
        """Starts a run by the form; returns the path of its page."""
        self.open("/new/")
        self.find("input[value=commands]" if commands else "input[value=query]").click()
        self.find("#id_prompt").send_keys(prompt)
        if files:
            self.find("#id_files").send_keys(files)
        if alone:
            self.find("#id_goes_on_alone").click()
        self.press("Start")
        self.find("#run")
        return self.path
