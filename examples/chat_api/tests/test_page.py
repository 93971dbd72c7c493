"""The page in Chromium: what a person does with it."""

from __future__ import annotations

import dataclasses
import uuid
from collections.abc import Iterator
from datetime import timedelta
from functools import partial
from pathlib import Path

import pytest
from selenium import webdriver
from selenium.webdriver.common.keys import Keys
from selenium.webdriver.support.ui import Select

from chat_api import tokens
from tests.browser import Page, chromium
from tests.conftest import Running, running


@pytest.fixture(scope="module")
def driver(tmp_path_factory: pytest.TempPathFactory) -> Iterator[webdriver.Chrome]:
    with chromium(tmp_path_factory.mktemp("profile")) as driver:
        yield driver


@pytest.fixture
def page(chat: Running, driver: webdriver.Chrome) -> Iterator[Page]:
    """A window of somebody who was not here before."""
    page = Page(driver, chat.url)
    page.looks()
    page.complaints()  # those of the test before
    yield page
    for window in set(driver.window_handles) - {page.window}:
        driver.switch_to.window(window)
        driver.close()
    page.comes_to_front()
    driver.get("about:blank")
    driver.execute_cdp_cmd("Storage.clearDataForOrigin", {"origin": chat.url, "storageTypes": "all"})


def test_the_six_steps(chat: Running, page: Page) -> None:
    """ACCEPTANCE: open, start, send, reload, the sidebar lists all and updates live, switch."""
    ann = chat.person("ann@example.com")
    page.opens(ann)
    assert page.find("#who").text == "ann@example.com"

    first = page.starts()
    page.says("Two seats on Friday, please.")
    page.says("And a hotel near the station?")
    stored = chat.owner.execute(
        "SELECT role, content FROM messages WHERE conversation_id = %s ORDER BY created_at, seq", [first]
    ).fetchall()
    assert [content for _, content in stored] == page.said()
    assert [role for role, _ in stored] == ["user", "assistant"] * 2

    page.driver.refresh()
    page.until(lambda: page.said() == [content for _, content in stored])

    second = page.second()
    assert second.sidebar() == ["Two seats on Friday, please."]
    page.comes_to_front().starts()
    page.says("Draft a note to the team.")
    second.comes_to_front()
    second.until(lambda: second.sidebar() == ["Draft a note to the team.", "Two seats on Friday, please."])
    asked = "return performance.getEntriesByType('resource').filter(e => e.name.endsWith('/api/events')).length"
    assert second.driver.execute_script(asked) <= 1  # it was told; it did not look again

    second.clicks("#conversations li:nth-child(2) a")
    second.until(lambda: second.said() == [content for _, content in stored])
    second.clicks("#conversations li:nth-child(1) a")
    second.until(lambda: second.said()[:1] == ["Draft a note to the team."])
    assert len(second.said()) == 2
    assert second.find("[aria-current]").text.startswith("Draft a note to the team.")
    assert page.complaints() == []


def test_an_open_thread_follows_what_another_window_does(chat: Running, page: Page) -> None:
    page.opens(chat.person())
    conversation = page.starts()
    second = page.second(f"/c/{conversation}")
    page.comes_to_front().says("Hello from the first window")
    page.clicks("#rename")
    page.find("#new-title").clear()
    page.find("#new-title").send_keys("Renamed here", Keys.ENTER)
    second.comes_to_front().until(lambda: second.said()[:1] == ["Hello from the first window"])
    second.until(lambda: len(second.said()) == 2 and second.find("#title").text == "Renamed here")
    page.comes_to_front().clicks("#delete")
    page.until(lambda: page.sidebar() == [])
    second.comes_to_front().until(lambda: second.find("#restore").is_displayed())
    assert (second.sidebar(), second.find("#composer").is_displayed()) == ([], False)
    page.comes_to_front().clicks("[data-list=trash]")
    page.clicks("#conversations a")
    page.clicks("#delete")
    page.clicks("#delete-dialog .danger")
    page.until(lambda: page.sidebar() == [])
    second.comes_to_front().until(lambda: second.find("#alert").text == "Deleted in another window.")
    assert page.comes_to_front().find("#alert").text == ""


def test_many_tabs_do_not_use_up_the_browser_s_connections(chat: Running, page: Page) -> None:
    page.opens(chat.person())
    for _ in range(7):
        last = page.second(kind="tab")
    last.starts()
    last.says("From the eighth tab")
    page.comes_to_front().until(lambda: page.sidebar() == ["From the eighth tab"])


def test_everything_works_by_keyboard(chat: Running, page: Page) -> None:
    page.opens(chat.person())
    page.find("body").send_keys(Keys.TAB)
    assert page.focused() == "Skip to the message box"
    page.presses(Keys.ENTER)
    assert page.focused() == "text"
    page.presses("Written without")
    page.presses(Keys.ENTER, holding=Keys.SHIFT)
    page.presses("a mouse", Keys.ENTER)
    page.until(lambda: len(page.said()) == 2 and not page.texts(".pending"))
    assert page.said()[0] == "Written without\na mouse"
    assert page.focused() == "text"  # ready for the next message
    assert page.find("#status").get_attribute("textContent") == f"Reply: {page.said()[1]}"

    page.tabs_to("rename", back=True)
    page.presses(Keys.ENTER)
    page.until(lambda: page.focused() == "new-title")
    page.presses("a", holding=Keys.CONTROL)
    page.presses("By hand", Keys.ENTER)
    page.until(lambda: page.sidebar() == ["By hand"])
    page.presses(Keys.TAB, holding=Keys.SHIFT)
    assert page.focused() == "more"
    page.presses(Keys.ENTER)
    page.until(lambda: page.find("#actions").is_displayed())
    page.presses(Keys.TAB, Keys.ENTER)  # pin
    page.until(lambda: page.texts(".pinned") == ["Pinned"])
    page.tabs_to("Good")  # in the thread
    page.presses(Keys.ENTER)
    page.until(partial(page.shows, "[data-do=good][aria-pressed=true]", 1))
    page.tabs_to("delete", back=True)
    page.presses(Keys.ENTER)
    page.until(lambda: page.sidebar() == [])
    assert page.focused() == "new"
    page.tabs_to("Trash")
    page.presses(Keys.ENTER)
    page.until(lambda: page.sidebar() == ["By hand"])
    page.find("#conversations a").send_keys(Keys.ENTER)
    page.until(lambda: page.find("#restore").is_displayed())
    page.tabs_to("delete")
    page.presses(Keys.ENTER)
    page.until(lambda: page.focused() == "Keep it")  # the safe answer first
    page.presses(Keys.ESCAPE)
    assert page.focused() == "delete"
    page.presses(Keys.ENTER)
    page.until(lambda: page.focused() == "Keep it")
    page.presses(Keys.TAB, Keys.ENTER)
    page.until(lambda: page.sidebar() == [])
    assert page.focused() == "new"


def test_what_people_write_is_text(chat: Running, page: Page) -> None:
    ann = chat.person()
    attack = "<img src=x onerror=\"document.title='owned'\"><script>document.title='owned'</script>"
    conversation = ann.begins(title=attack)["id"]
    ann.says(conversation, attack)
    page.opens(ann)
    page.clicks("#conversations a")
    page.until(lambda: page.said()[:1] == [attack])
    assert (page.sidebar(), page.find("#title").text) == ([attack], attack)
    assert page.driver.title.startswith(attack)
    assert page.complaints() == []
    page.driver.execute_script(
        "document.body.insertAdjacentHTML('beforeend', '<img src=x onerror=\"document.title = `owned`\">')"
    )
    page.until(lambda: "Content Security Policy" in " ".join(page.complaints()))  # and if some code forgot
    assert page.driver.title != "owned"


def test_long_lists_come_in_pages(chat: Running, page: Page) -> None:
    ann = chat.person()
    chat.owner.execute(
        "INSERT INTO conversations (user_id, title, updated_at)"
        " SELECT %s, 'Number ' || n, now() - n * interval '1 hour' FROM generate_series(1, 65) AS n",
        [ann.user_id],
    )
    conversation = ann.sees()[0]
    chat.owner.execute(
        "INSERT INTO messages (conversation_id, user_id, role, content, created_at)"
        " SELECT %s, %s, 'user', 'Line ' || n, now() - interval '1 day' FROM generate_series(1, 120) AS n",
        [conversation, ann.user_id],
    )
    oldest = chat.owner.execute(
        "SELECT id FROM conversations WHERE user_id = %s AND title = 'Number 65'", [ann.user_id]
    ).fetchone()
    assert oldest
    page.opens(ann)
    page.until(partial(page.shows, "#conversations li", 30))
    page.driver.get(f"{chat.url}/c/{oldest[0]}")  # it stands beyond the pages, and makes none of them be left out
    page.until(partial(page.shows, "#conversations li", 31))
    page.clicks("#more-conversations")
    page.until(partial(page.shows, "#conversations li", 61))
    page.driver.get(f"{chat.url}/")
    for shown in (30, 60):
        page.until(partial(page.shows, "#conversations li", shown))
        page.clicks("#more-conversations")
    page.until(partial(page.shows, "#conversations li", 65))
    assert page.sidebar() == [f"Number {n}" for n in range(1, 66)]
    page.until(lambda: not page.find("#more-conversations").is_displayed())
    page.clicks("#conversations a")
    for shown in (50, 100, 120):
        page.until(partial(page.shows, "#messages li", shown))
        page.find("#thread").send_keys(Keys.HOME)
    assert page.said() == [f"Line {n}" for n in range(1, 121)]
    page.until(lambda: not page.find("#more-messages").is_displayed())


def test_a_thread_of_5000_messages_opens_at_its_end_and_goes_up_by_pages(chat: Running, page: Page) -> None:
    ann = chat.person()
    conversation = ann.begins()["id"]
    chat.owner.execute(
        "INSERT INTO messages (conversation_id, user_id, role, content)"
        " SELECT %s, %s, CASE n %% 2 WHEN 1 THEN 'user' ELSE 'assistant' END, 'Line **' || n || '**'"
        " FROM generate_series(1, 5000) AS n",
        [conversation, ann.user_id],
    )
    page.opens(ann)
    page.clicks("#conversations a")
    page.until(partial(page.shows, "#messages li", 50))
    assert page.find("#messages li:last-child .content").text == "Line 5000"
    in_view = "const {top, bottom} = arguments[0].getBoundingClientRect(); return top >= 0 && bottom <= innerHeight"
    assert page.driver.execute_script(in_view, page.find("#messages li:last-child .content"))
    for shown in range(100, 600, 50):
        reading = page.find("#messages li:first-child")
        page.driver.execute_script("document.getElementById('thread').scrollTop = 0")
        page.until(partial(page.shows, "#messages li", shown))
        assert page.driver.execute_script(in_view, reading)  # what was read stays where it was
    assert page.find("#messages li:first-child .content").text == f"Line **{5001 - 550}**"
    asked = "return performance.getEntriesByType('resource').filter(e => e.name.includes('before=')).length"
    assert page.driver.execute_script(asked) == 10  # each page once


TABLE = ("table", "thead", "tbody", "tr", "th", "td")
HOSTILE = """# <img src=x onerror="document.title='owned'">
<script>document.title='owned'</script>
[press](javascript:document.title='owned') ![pixel](https://evil.example/pixel.png) [inside](/c/x) <b onclick=x>
| <svg onload="document.title='owned'"> | b |
|---|---|
```html"><img src=x onerror="document.title='owned'">
<iframe srcdoc="<script>parent.document.title='owned'</script>"></iframe>
```
<form action="https://evil.example"><input name=token><div id=app class=primary style="position:fixed">
"""


def test_a_hostile_reply_is_markdown_and_nothing_else(chat: Running, page: Page) -> None:
    ann = chat.person()
    conversation = ann.begins(title="Mine")["id"]
    chat.owner.execute(
        "INSERT INTO messages (conversation_id, user_id, role, content) VALUES (%s, %s, 'assistant', %s)",
        [conversation, ann.user_id, HOSTILE],
    )
    page.opens(ann)
    page.clicks("#conversations a")
    page.until(partial(page.shows, "#messages li", 1))
    made = "return [...new Set([...document.querySelectorAll('.rendered *')].map(e => e.localName))].join(' ')"
    assert set(page.driver.execute_script(made).split()) <= {"h2", "p", "br", "a", "code", "pre", "span", *TABLE}
    assert page.driver.title == "Mine · Conversations"
    links = "return [...document.querySelectorAll('.rendered a')].map(e => e.getAttribute('href'))"
    assert page.driver.execute_script(links) == ["https://evil.example/pixel.png", None, "https://evil.example"]
    assert "document.title='owned'" in page.said()[0]  # all of it can be read
    assert page.complaints() == []  # and nothing of it was even tried


def test_replies_are_rendered_and_code_scrolls_in_its_box(chat: Running, page: Page) -> None:
    ann = chat.person()
    conversation = ann.begins()["id"]
    code = "def f(x):\n    return " + "x + " * 200 + "1"
    chat.owner.execute(
        "INSERT INTO messages (conversation_id, user_id, role, content) VALUES (%s, %s, 'assistant', %s)",
        [conversation, ann.user_id, f"## Steps\n\n1. **one**\n2. two\n\n```python\n{code}\n```"],
    )
    page.looks(width=390)
    page.opens(ann)
    page.clicks("#conversations a")
    page.until(lambda: page.texts(".rendered h2") == ["Steps"])
    page.driver.execute_script("window.shown = document.querySelector('.rendered h2')")
    ann.http.patch(f"/api/conversations/{conversation}", json={"title": "Renamed"})
    page.until(lambda: page.find("#title").text == "Renamed")
    assert page.driver.execute_script("return window.shown.isConnected")  # what did not change is not touched
    assert page.texts(".rendered li") == ["one", "two"]
    assert page.find(".rendered pre").get_attribute("textContent") == f"{code}\n"
    assert page.driver.execute_script("return document.documentElement.scrollWidth") == 390
    colour = "return getComputedStyle(document.querySelector(arguments[0])).color"
    assert page.driver.execute_script(colour, "pre .k") != page.driver.execute_script(colour, "pre")


def test_what_is_said_without_a_conversation_begins_one(chat: Running, page: Page) -> None:
    ann = chat.person()
    page.opens(ann)
    page.says("From nothing")
    page.until(lambda: page.sidebar() == ["From nothing"])
    assert page.driver.current_url == f"{chat.url}/c/{ann.sees()[0]}"
    page.says("And on")
    assert [content for _, content in ann.reads(ann.sees()[0])] == page.said()
    assert page.complaints() == []


def test_shortcuts_are_listed_and_do_what_they_say(chat: Running, page: Page) -> None:
    ann = chat.person()
    lower, upper = ann.begins(title="Lower")["id"], ann.begins(title="Upper")["id"]
    page.opens(ann)
    page.presses("/", holding=Keys.CONTROL)
    page.until(lambda: page.find("#shortcuts").is_displayed())
    assert "Begin a conversation" in page.find("#shortcuts").text
    page.presses(Keys.ARROW_DOWN, holding=Keys.ALT)  # not behind the dialog
    assert page.driver.current_url == f"{chat.url}/"
    page.presses(Keys.ESCAPE)
    for key, wanted in ((Keys.ARROW_DOWN, upper), (Keys.ARROW_DOWN, lower), (Keys.ARROW_UP, upper)):
        page.presses(key, holding=Keys.ALT)
        page.until(lambda wanted=wanted: page.driver.current_url.endswith(wanted))  # type: ignore[misc]
    page.until(lambda: page.focused() == "text")
    page.presses(Keys.TAB)
    page.presses(Keys.ESCAPE, holding=Keys.SHIFT)
    assert page.focused() == "text"
    page.presses("o", holding=Keys.CONTROL + Keys.SHIFT)
    page.until(lambda: len(page.sidebar()) == 3)


def test_a_message_that_did_not_go_out_is_sent_once_on_the_next_try(chat: Running, page: Page) -> None:
    ann = chat.person()
    page.opens(ann)
    conversation = page.starts()
    page.offline(True)
    page.find("#text").send_keys("Into the tunnel")
    page.clicks("#send")
    page.until(lambda: "cannot be reached" in page.find("#alert").text)
    assert page.find("#text").get_attribute("value") == "Into the tunnel"
    page.offline(False)
    page.clicks("#alert button")
    page.until(lambda: len(page.said()) == 2 and not page.texts(".pending"))
    assert [role for role, _ in ann.reads(conversation)] == ["user", "assistant"]
    assert page.find("#alert").text == ""


def test_an_answer_that_comes_late_takes_nothing_away(chat: Running, page: Page) -> None:
    """Somebody writes before the thread has come, which then comes as it was before."""
    page.opens(chat.person())
    page.driver.execute_script(
        "window.late = new Promise((resolve) => (window.release = resolve));"
        "const real = window.fetch;"
        "window.fetch = async (...call) => {"
        "  const answer = await real(...call);"
        "  if (call[0].endsWith('/messages')) await window.late;"
        "  return answer;"
        "}"
    )
    page.starts()
    page.says("Quicker than the thread")
    page.driver.execute_script("window.release()")
    page.until(lambda: page.focused() == "text")
    assert len(page.said()) == 2


def test_on_a_phone_one_pane_at_a_time_and_nothing_sticks_out(chat: Running, page: Page) -> None:
    ann = chat.person()
    conversation = ann.begins(title="A title that is much too long for the screen of a telephone" * 3)["id"]
    ann.says(conversation, "https://example.com/" + "a" * 300)
    page.looks(width=390)
    page.opens(ann)
    assert not page.find("#thread").is_displayed()
    page.clicks("#conversations a")
    page.until(lambda: page.find("#text").is_displayed() and len(page.said()) == 2)
    assert not page.find("#conversations").is_displayed()
    assert page.driver.execute_script("return document.documentElement.scrollWidth") == 390
    page.clicks("#back")
    page.until(lambda: page.find("#conversations").is_displayed())
    page.driver.back()
    page.until(lambda: page.find("#text").is_displayed())


def test_the_link_s_token_leaves_the_address_and_stays_for_a_reload(chat: Running, page: Page) -> None:
    ann = chat.person()
    page.opens(ann)
    assert page.driver.current_url == f"{chat.url}/"
    page.driver.refresh()
    page.until(lambda: page.find("#app").is_displayed())
    page.clicks("#sign-out")
    page.until(lambda: page.find("#sign-in").is_displayed())
    page.driver.refresh()
    page.until(lambda: page.find("#sign-in").is_displayed())
    page.find("#token").send_keys(ann.token, Keys.ENTER)
    page.until(lambda: page.find("#app").is_displayed())


@pytest.mark.parametrize("how", ["in the open tab", "by a new load"])
def test_a_link_with_a_token_does_not_replace_a_session_in_use(chat: Running, page: Page, how: str) -> None:
    """Or whoever made the link could have somebody write into an account that is not theirs."""
    ann, bob = chat.person("ann." + uuid.uuid4().hex), chat.person("bob." + uuid.uuid4().hex)
    anns, bobs = ann.begins(title="Ann's")["id"], bob.begins(title="Bob's")["id"]
    page.opens(ann)
    assert not page.find("#link").is_displayed()
    if how == "by a new load":
        page.driver.get("about:blank")
    page.driver.get(f"{chat.url}/#token={bob.token}")
    page.until(lambda: page.find("#link").is_displayed() and page.find("#app").is_displayed())
    assert page.driver.current_url == f"{chat.url}/"
    assert "another token" in page.find("#link").text
    assert (page.find("#who").text[:4], page.sidebar()) == ("ann.", ["Ann's"])
    page.clicks("#conversations a")
    page.says("Mine?")
    assert len(ann.reads(anns)) == 2

    page.clicks("#use-link")
    page.until(lambda: page.sidebar() == ["Bob's"])
    assert page.find("#who").text[:4] == "bob."
    assert page.driver.current_url == f"{chat.url}/"
    assert not page.find("#link").is_displayed()
    assert bob.reads(bobs) == []
    page.driver.refresh()
    page.until(lambda: page.sidebar() == ["Bob's"])
    assert page.complaints() == []


def test_who_stays_is_not_asked_again(chat: Running, page: Page) -> None:
    ann, bob = chat.person(), chat.person()
    page.opens(ann)
    page.driver.get(f"{chat.url}/#token={bob.token}")
    page.clicks("#keep-session")
    page.until(lambda: not page.find("#link").is_displayed())
    page.driver.refresh()
    page.until(lambda: page.find("#app").is_displayed())
    assert not page.find("#link").is_displayed()
    page.driver.get(f"{chat.url}/#token={ann.token}")  # her own
    page.until(lambda: page.driver.current_url == f"{chat.url}/")
    assert not page.find("#link").is_displayed()


def test_a_link_opened_in_a_tab_that_asks_to_sign_in_signs_in(chat: Running, page: Page) -> None:
    ann = chat.person("ann." + uuid.uuid4().hex)
    page.opens(ann)
    page.clicks("#sign-out")
    page.until(lambda: page.find("#sign-in").is_displayed())
    page.driver.get(f"{chat.url}/#token={ann.token}")
    page.until(lambda: page.find("#app").is_displayed())
    assert page.driver.current_url == f"{chat.url}/"
    assert page.find("#who").text[:4] == "ann."


def test_a_token_that_ends_leads_to_the_sign_in(chat: Running, page: Page) -> None:
    ann = chat.person()
    ann.token = tokens.issue(ann.user_id, chat.settings, timedelta(seconds=3))
    page.opens(ann)
    page.until(lambda: "has expired" in page.find("#sign-in").text)


def test_who_wants_no_motion_sees_none(chat: Running, page: Page) -> None:
    page.looks(still=True)
    page.opens(chat.person())
    animation = "return getComputedStyle(document.querySelector('.pending .content'), '::after').animationName"
    show = "document.querySelector('#messages').innerHTML = '<li class=pending><div class=content></div></li>';"
    assert page.driver.execute_script(show + animation) == "none"
    page.looks()
    assert page.driver.execute_script(animation) == "breathe"


def test_archive_pin_move_and_trash(chat: Running, page: Page) -> None:
    ann = chat.person()
    acme = chat.tenant("Acme", ann)
    for title in ("One", "Two", "Three"):
        ann.begins(title=title)
    page.opens(ann)
    page.until(lambda: page.sidebar() == ["Three", "Two", "One"])

    page.clicks("#conversations li:nth-child(3) a")
    page.clicks("#more")
    page.clicks("#pin")
    page.until(lambda: page.sidebar() == ["One", "Three", "Two"])
    page.driver.refresh()
    page.until(lambda: page.sidebar() == ["One", "Three", "Two"])

    page.clicks("#more")
    Select(page.find("#tenant")).select_by_visible_text("Acme")
    page.until(lambda: page.texts(".tenant")[0] == "Acme")
    assert ann.http.get(f"/api/conversations/{ann.sees()[2]}").json()["tenant_id"] == str(acme)

    page.clicks("#archive")
    page.until(lambda: page.sidebar() == ["Three", "Two"])
    page.clicks("[data-list=archive]")
    page.until(lambda: page.sidebar() == ["One"])
    page.clicks("#more")
    page.clicks("#archive")
    page.until(lambda: page.sidebar() == [])
    assert page.find("#no-conversations").text == "Nothing is archived."
    page.clicks("[data-list=inbox]")
    page.until(lambda: page.sidebar() == ["One", "Three", "Two"])

    page.clicks("#delete")
    page.until(lambda: page.sidebar() == ["Three", "Two"])
    page.clicks("#alert button")
    page.until(lambda: page.sidebar() == ["One", "Three", "Two"])
    page.clicks("#conversations a")
    page.until(lambda: page.find("#title").text == "One")
    page.clicks("#delete")
    page.clicks("[data-list=trash]")
    page.until(lambda: page.sidebar() == ["One"])
    page.clicks("#conversations a")
    page.clicks("#restore")
    page.until(lambda: page.sidebar() == [] and page.find("#composer").is_displayed())
    assert page.complaints() == []


def test_what_was_not_shown_yet_is_counted(chat: Running, page: Page) -> None:
    ann = chat.person()
    quiet, busy = ann.begins(title="Quiet")["id"], ann.begins(title="Busy")["id"]
    page.opens(ann)
    page.clicks(f"[href='/c/{quiet}']")
    page.until(lambda: page.find("#title").text == "Quiet")
    for content in ("one", "two"):
        ann.says(busy, content)
    page.until(lambda: page.texts(".unread") == ["2 unread", ""])
    page.clicks(f"[href='/c/{busy}']")
    page.until(lambda: page.texts(".unread") == ["", ""])
    page.until(lambda: ann.http.get(f"/api/conversations/{busy}").json()["unread"] == 0)
    page.says("three")  # a reply that is seen as it comes
    page.until(lambda: ann.http.get(f"/api/conversations/{busy}").json()["unread"] == 0)
    page.clicks(f"[href='/c/{quiet}']")
    page.until(lambda: page.find("#title").text == "Quiet")
    assert page.texts(".unread") == ["", ""]


def test_what_was_said_is_found_and_opened_where_it_stands(chat: Running, page: Page) -> None:
    ann = chat.person()
    conversation, other = ann.begins(title="Long")["id"], ann.begins(title="Other")["id"]
    chat.owner.execute(
        "INSERT INTO messages (conversation_id, user_id, role, content, created_at)"
        " SELECT %s, %s, 'user', CASE n WHEN 20 THEN 'the needle <b>' ELSE 'hay ' || n END, now() - n * interval '1 s'"
        " FROM generate_series(1, 200) AS n",
        [conversation, ann.user_id],
    )
    chat.owner.execute(
        "INSERT INTO messages (conversation_id, user_id, role, content)"
        " SELECT %s, %s, 'user', 'apple ' || n FROM generate_series(1, 25) AS n",
        [other, ann.user_id],
    )
    page.opens(ann)
    page.presses("k", holding=Keys.CONTROL)
    assert page.focused() == "query"
    page.presses("apple")
    page.until(partial(page.shows, "#hits li", 20))
    assert not page.find("#conversations").is_displayed()
    page.clicks("#more-hits")
    page.until(partial(page.shows, "#hits li", 25))
    page.until(lambda: not page.find("#more-hits").is_displayed())
    page.find("#query").clear()
    page.find("#query").send_keys("needle")
    page.until(partial(page.shows, "#hits li", 1))
    assert (page.texts("#hits mark"), page.texts("#hits .snippet")) == (["needle"], ["the needle <b>"])
    page.clicks("#hits a")
    page.until(lambda: "the needle <b>" in page.focused())  # 180 messages up: several pages
    page.find("#query").clear()
    page.find("#query").send_keys("nowhere")
    page.until(lambda: page.find("#nothing-found").is_displayed())
    page.find("#query").clear()
    page.find("#query").send_keys(Keys.ENTER)
    page.until(lambda: page.sidebar() == ["Other", "Long"])
    assert page.complaints() == []


def test_files_go_along_and_can_be_saved(chat: Running, page: Page, tmp_path: Path) -> None:
    ann = chat.person()
    for name in ("plan.txt", "other.txt"):
        (tmp_path / name).write_text("the plan")
    page.opens(ann)
    page.find("#file").send_keys(f"{tmp_path / 'plan.txt'}\n{tmp_path / 'other.txt'}")
    page.until(lambda: page.texts("#files .file") == ["plan.txt ✕", "other.txt ✕"])
    page.clicks("#files li:nth-child(2) button")
    page.until(lambda: page.texts("#files .file") == ["plan.txt ✕"])
    page.says("Here it is")
    page.until(lambda: page.texts("#messages .file") == ["plan.txt (8 bytes)"])
    assert page.texts("#files .file") == []
    page.driver.refresh()
    page.until(lambda: page.texts("#messages .file") == ["plan.txt (8 bytes)"])
    downloads = tmp_path / "downloads"
    page.downloads_to(downloads)
    page.clicks("#messages .file")
    page.until(lambda: (downloads / "plan.txt").is_file() and (downloads / "plan.txt").read_text() == "the plan")
    page.clicks("#export")
    page.until(lambda: (downloads / "conversations.jsonl").is_file())
    assert "Here it is" in (downloads / "conversations.jsonl").read_text()
    assert page.complaints() == []


def test_a_thumb_stays_and_can_be_taken_back(chat: Running, page: Page) -> None:
    ann = chat.person()
    page.opens(ann)
    page.says("Is this good?")
    good, bad = "#messages .assistant [data-do=good]", "#messages .assistant [data-do=bad]"

    def pressed() -> list[str | None]:
        return [page.find(button).get_attribute("aria-pressed") for button in (good, bad)]

    page.clicks(good)
    page.until(lambda: pressed() == ["true", "false"])
    page.clicks(bad)
    page.until(lambda: pressed() == ["false", "true"])
    page.driver.refresh()
    page.until(lambda: pressed() == ["false", "true"])
    page.clicks(bad)
    page.until(lambda: pressed() == ["false", "false"])
    assert not page.find("#messages .user [data-do=good]").is_displayed()


def test_a_link_is_read_by_anybody_until_it_is_revoked(chat: Running, page: Page) -> None:
    ann = chat.person()
    page.opens(ann)
    page.says("For everybody")
    said = page.said()
    page.clicks("#more")
    page.clicks("#share")
    page.clicks("#make-share")
    page.until(lambda: page.find("#share-link").is_displayed())
    link = page.find("#share-link").get_attribute("value")
    assert link
    assert link.startswith(f"{chat.url}/s/")
    page.presses(Keys.ESCAPE)
    page.says("A later secret")

    page.driver.execute_cdp_cmd("Storage.clearDataForOrigin", {"origin": chat.url, "storageTypes": "all"})
    page.driver.get(link)
    page.until(lambda: page.said() == said)
    assert page.find("h1").text == "For everybody"
    assert page.axe() == []
    assert page.complaints() == []

    page.opens(ann)
    page.clicks("#conversations a")
    page.clicks("#more")
    page.clicks("#share")
    page.until(partial(page.shows, "#shares li", 1))
    assert page.axe() == []
    page.clicks("#shares button")
    page.until(partial(page.shows, "#shares li", 0))
    page.driver.get(link)
    page.until(lambda: page.find("#alert").text == "There is nothing under this link, or no longer.")
    assert page.said() == []


def test_editing_making_again_and_switching(chat: Running, page: Page) -> None:
    ann = chat.person()
    page.opens(ann)
    page.says("First")
    page.says("Second")
    page.says("Third")
    old = page.said()
    page.clicks("#messages li:nth-child(3) [data-do=edit]")
    assert page.find("#text").get_attribute("value") == "Second"
    page.clicks("#keep")  # leaves it as it was
    assert (page.find("#text").get_attribute("value"), page.find("#editing").is_displayed()) == ("", False)
    page.clicks("#messages li:nth-child(3) [data-do=edit]")
    page.find("#text").clear()
    page.find("#text").send_keys("Second, but better", Keys.ENTER)
    page.until(lambda: len(page.said()) == 4 and not page.texts(".pending"))
    assert page.said()[:3] == [*old[:2], "Second, but better"]
    page.until(lambda: page.find("#messages li:nth-child(3) .version").text == "2 of 2")

    page.clicks("#messages li:nth-child(3) [data-do=previous]")
    page.until(lambda: page.said() == old)
    page.until(lambda: page.find("#messages li:nth-child(3) .version").text == "1 of 2")
    page.clicks("#messages li:nth-child(6) [data-do=again]")
    page.until(lambda: page.find("#messages li:nth-child(6) .version").text == "2 of 2")
    assert page.said() == old  # the offline responder says the same every time
    page.driver.refresh()
    page.until(lambda: page.said() == old)
    second = page.second(page.driver.current_url.removeprefix(chat.url))
    second.until(lambda: second.said() == old)
    page.comes_to_front().clicks("#messages li:nth-child(3) [data-do=next]")
    page.until(lambda: page.said()[2:3] == ["Second, but better"])
    second.comes_to_front().until(lambda: len(second.said()) == 4 and second.said()[2] == "Second, but better")
    assert page.comes_to_front().axe() == []
    assert page.complaints() == []


def test_a_broken_reply_says_so_and_is_made_again(chat: Running, page: Page) -> None:
    ann = chat.person()
    conversation = ann.begins(title="Broken")["id"]
    for role, status, error in (
        ("user", "complete", None),
        ("assistant", "interrupted", None),
        ("assistant", "error", '{"detail": "The model has no time."}'),
        ("assistant", "streaming", None),
    ):
        chat.owner.execute(
            "INSERT INTO messages (conversation_id, user_id, role, content, status, error)"
            " VALUES (%s, %s, %s, 'Two seats', %s, %s)",
            [conversation, ann.user_id, role, status, error],
        )
    page.opens(ann)
    page.clicks("#conversations a")
    states = ["This reply was interrupted.", "This reply broke off. The model has no time.", "Being written…"]
    page.until(lambda: page.texts(".state:not([hidden]) span") == states)
    page.until(partial(page.shows, ".state:not([hidden]) button:not([hidden])", 2))
    assert page.axe() == []
    page.clicks("#messages li:nth-child(2) .state button")
    page.until(lambda: page.said()[1:] == ["“Two seats” I heard 2 words. I am the offline responder: I repeat what I"
                                           " hear, and say the same every time."])  # fmt: skip
    page.until(lambda: page.texts(".state:not([hidden]) span") == [])
    page.until(lambda: page.find("#messages li:nth-child(2) .version").text == "2 of 2")
    page.clicks("#messages li:nth-child(2) [data-do=previous]")  # the broken one stays
    page.until(lambda: page.texts(".state:not([hidden]) span") == states)
    assert page.complaints() == []


def test_a_reply_that_breaks_off_while_somebody_listens(chat: Running, page: Page) -> None:
    nobody = dataclasses.replace(chat.settings, model_url="http://127.0.0.1:9/v1", model="small")
    with running(nobody) as url:
        ann = chat.person().at(url)
        broken = Page(page.driver, url)
        broken.opens(ann)
        broken.find("#text").send_keys("Anybody?", Keys.ENTER)
        told = "This reply broke off. The model's endpoint cannot be reached (ConnectError)."
        broken.until(lambda: broken.texts(".state:not([hidden]) span") == [told])
        assert (broken.texts(".pending"), broken.find("#alert").text) == ([], "")
        assert not broken.find("#unanswered").is_displayed()
        broken.clicks("#messages li:nth-child(2) .state button")
        broken.until(lambda: broken.find("#messages li:nth-child(2) .version").text == "2 of 2")
        broken.until(lambda: broken.texts(".state:not([hidden]) span") == [told])
        assert broken.said()[0] == "Anybody?"


def test_another_window_sees_a_reply_being_written_once(chat: Running, page: Page) -> None:
    ann = chat.person()
    slow = dataclasses.replace(chat.settings, seconds_a_word=0.3)
    with running(slow) as url:
        first = Page(page.driver, url)
        first.opens(ann)
        first.find("#text").send_keys("Slowly, please", Keys.ENTER)
        first.until(lambda: first.find(".pending .content").text)
        second = first.second(first.driver.current_url.removeprefix(url))
        second.until(lambda: second.texts(".state:not([hidden]) span") == ["Being written…"])
        first.comes_to_front().until(lambda: first.find(".pending .content").text)
        assert len(first.said()) == 2
        first.until(lambda: not first.texts(".pending"))
        assert len(first.said()) == 2
        second.comes_to_front().until(lambda: second.said() == first_said(first, second))
        assert second.texts(".state:not([hidden]) span") == []


def first_said(first: Page, second: Page) -> list[str]:
    """Return what the first window shows; the second one is in front again afterwards."""
    shown = first.comes_to_front().said()
    second.comes_to_front()
    return shown


def test_a_reply_that_never_came_can_be_asked_for(chat: Running, page: Page) -> None:
    ann = chat.person()
    conversation = ann.begins()["id"]
    chat.owner.execute(
        "INSERT INTO messages (conversation_id, user_id, role, content) VALUES (%s, %s, 'user', 'left alone')",
        [conversation, ann.user_id],
    )
    page.opens(ann)
    page.clicks("#conversations a")
    page.clicks("#ask-again")
    page.until(lambda: len(page.said()) == 2 and not page.texts(".pending"))
    assert page.said()[0] == "left alone"
    page.until(lambda: not page.find("#unanswered").is_displayed())
    assert [role for role, _ in ann.reads(conversation)] == ["user", "assistant"]


EVERYTHING = """# A title

#### Deeper

A [link](https://example.com), `code`, **bold**, *soft*, ~~no~~.

> quoted

1. one
   - two

```python
# a comment
def f(x: int) -> str:
    return f"{x}" + str(1.5)
```

| a | b |
|---|---|
| 1 | 2 |
"""


@pytest.mark.parametrize("dark", [False, True], ids=["light", "dark"])
def test_axe_finds_nothing_to_complain_of(chat: Running, page: Page, dark: bool) -> None:
    """Labels, roles, contrast, by axe-core; it cannot judge everything, which the other tests here are for."""
    ann = chat.person()
    chat.tenant("Acme", ann)
    ann.begins(title="Another one")
    page.looks(dark=dark)
    page.opens(ann)
    assert page.axe() == []
    page.starts()
    page.find("#file").send_keys(str(Path(__file__)))
    page.until(partial(page.shows, "#files li", 1))
    page.says("Is this readable?")
    chat.owner.execute(
        "INSERT INTO messages (conversation_id, user_id, role, content) VALUES (%s, %s, 'assistant', %s)",
        [page.driver.current_url.rpartition("/")[2], ann.user_id, EVERYTHING],
    )
    page.driver.refresh()
    page.until(lambda: page.texts(".rendered h3") == ["Deeper"])
    page.clicks("#messages [data-do=good]:not([hidden])")
    page.until(partial(page.shows, "[aria-pressed=true][data-do=good]", 1))
    assert page.axe() == []
    page.driver.execute_script("location.hash = 'token=another'")
    page.until(lambda: page.find("#link").is_displayed())
    assert page.axe() == []
    page.clicks("#keep-session")
    page.clicks("#rename")
    assert page.axe() == []
    page.presses(Keys.ESCAPE)
    page.clicks("#more")
    assert page.axe() == []
    page.find("#query").send_keys("readable")
    page.until(partial(page.shows, "#hits li", 2))
    assert page.axe() == []
    page.find("#query").clear()
    page.find("#query").send_keys(Keys.ENTER)
    page.presses(Keys.ESCAPE)
    page.presses("/", holding=Keys.CONTROL)
    assert page.axe() == []
    page.presses(Keys.ESCAPE)
    page.clicks("#delete")
    page.clicks("[data-list=trash]")
    page.clicks("#conversations a")
    page.until(lambda: page.find("#restore").is_displayed())
    page.clicks("#delete")
    assert page.axe() == []
    page.presses(Keys.ESCAPE)
    page.looks(dark=dark, width=390)
    assert page.axe() == []
    page.looks(dark=dark)
    page.clicks("#sign-out")
    assert page.axe() == []
