"""The page in a real browser: Debian's chromium and chromedriver."""

from __future__ import annotations

import contextlib
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from selenium import webdriver
from selenium.common.exceptions import StaleElementReferenceException, TimeoutException
from selenium.webdriver.chrome.service import Service
from selenium.webdriver.common.action_chains import ActionChains
from selenium.webdriver.common.by import By
from selenium.webdriver.remote.webelement import WebElement
from selenium.webdriver.support.ui import WebDriverWait

from tests.person import Person

CHROMIUM, CHROMEDRIVER = shutil.which("chromium"), shutil.which("chromedriver")
FLAGS = (
    "--headless",
    "--no-sandbox",  # root has no other way
    "--disable-dev-shm-usage",
    "--disable-gpu",
    "--hide-scrollbars",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--disable-quic",
    "--window-size=1280,800",
    "--lang=en",
)
SECONDS = 20


@contextlib.contextmanager
def chromium(profile: Path) -> Iterator[webdriver.Chrome]:
    """Run a browser of its own; skips where there is none."""
    if not CHROMIUM or not CHROMEDRIVER:
        pytest.skip("needs chromium and chromedriver: apt-get install chromium chromium-driver")
    options = webdriver.ChromeOptions()
    options.binary_location = CHROMIUM
    for flag in (*FLAGS, f"--user-data-dir={profile}"):
        options.add_argument(flag)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
    driver = webdriver.Chrome(options, Service(CHROMEDRIVER))
    try:
        yield driver
    finally:
        driver.quit()


class Page:
    """What somebody sees and does in one window."""

    def __init__(self, driver: webdriver.Chrome, url: str) -> None:
        self.driver, self.url = driver, url
        self.window = driver.current_window_handle

    def opens(self, person: Person) -> None:
        """Follow the link that the service prints."""
        self.driver.get(f"{self.url}/#token={person.token}")
        self.until(lambda: self.find("#app").is_displayed())

    def second(self, path: str = "/", kind: str = "window") -> Page:
        """Open another window, or tab, of the same browser."""
        self.driver.switch_to.new_window(kind)
        other = Page(self.driver, self.url)
        self.driver.get(self.url + path)
        other.until(lambda: other.find("#app").is_displayed())
        return other

    def comes_to_front(self) -> Page:
        self.driver.switch_to.window(self.window)
        return self

    def find(self, selector: str) -> WebElement:
        return self.driver.find_element(By.CSS_SELECTOR, selector)

    def texts(self, selector: str) -> list[str]:
        return [element.text for element in self.driver.find_elements(By.CSS_SELECTOR, selector)]

    def until(self, holds: Callable[[], Any]) -> Any:
        """Wait until ``holds`` gives something true."""
        waiting = WebDriverWait(self.driver, SECONDS, 0.05, [StaleElementReferenceException])
        try:
            return waiting.until(lambda _: holds())
        except TimeoutException:
            seen = self.driver.execute_script("return document.body.innerText")
            raise AssertionError(f"waited {SECONDS} s, then saw:\n{seen}\n{self.complaints()}") from None

    def presses(self, *keys: str, holding: str = "") -> None:
        """Press keys where the focus is."""
        actions = ActionChains(self.driver)
        for held in holding:
            actions.key_down(held)
        actions.send_keys(*keys)
        for held in holding:
            actions.key_up(held)
        actions.perform()

    def clicks(self, selector: str) -> None:
        self.until(lambda: self.find(selector).is_displayed() and self.find(selector).is_enabled())
        self.find(selector).click()

    def starts(self) -> str:
        """Press New; return the id of the conversation."""
        before = self.driver.current_url
        self.clicks("#new")
        self.until(lambda: self.driver.current_url not in (before, f"{self.url}/"))
        self.until(lambda: self.find("#messages").text == "")
        return self.driver.current_url.rpartition("/")[2]

    def says(self, content: str) -> None:
        """Write a message, send it, and wait for the reply to end."""
        before = len(self.said())
        self.until(lambda: self.find("#send").is_enabled())
        self.find("#text").send_keys(content)
        self.clicks("#send")
        self.until(lambda: len(self.said()) == before + 2 and not self.texts(".pending"))

    def shows(self, selector: str, wanted: int) -> bool:
        """Tell whether there are so many of these."""
        return len(self.driver.find_elements(By.CSS_SELECTOR, selector)) == wanted

    def said(self) -> list[str]:
        return self.texts("#messages .content")

    def sidebar(self) -> list[str]:
        return self.texts("#conversations .name")

    def focused(self) -> str:
        found: str = self.driver.execute_script(
            "const e = document.activeElement; return e.id || e.textContent.trim() || e.tagName"
        )
        return found

    def complaints(self) -> list[str]:
        """Return what the browser's console says, of refused scripts for one."""
        return [entry["message"] for entry in self.driver.get_log("browser")]  # type: ignore[no-untyped-call]

    def looks(self, *, dark: bool = False, still: bool = False, width: int = 0, height: int = 844) -> None:
        """Change what the page can know of its reader."""
        features = [
            {"name": "prefers-color-scheme", "value": "dark" if dark else "light"},
            {"name": "prefers-reduced-motion", "value": "reduce" if still else "no-preference"},
        ]
        self.driver.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": features})
        if width:
            phone = {"width": width, "height": height, "deviceScaleFactor": 2, "mobile": True}
            self.driver.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", phone)
        else:
            self.driver.execute_cdp_cmd("Emulation.clearDeviceMetricsOverride", {})

    def offline(self, offline: bool) -> None:
        self.driver.execute_cdp_cmd("Network.enable", {})
        conditions = {"offline": offline, "latency": 0, "downloadThroughput": -1, "uploadThroughput": -1}
        self.driver.execute_cdp_cmd("Network.emulateNetworkConditions", conditions)
