"""The automations of the documentation, in a real core, with the box that they are written for.

Arguments: the broker's port, an empty folder, the file of the automations. The bridge is named `n`.
"""
import asyncio
import sys

from homeassistant.components.persistent_notification import _async_get_or_create_notifications
from homeassistant.const import STATE_UNAVAILABLE

from core import complaints, start, until

port, folder, file = sys.argv[1:]


async def main():
    with open(file) as automations:
        hass = await start(int(port), folder, automations.read().replace("NODE", "n"))
    for entity in ("event.cloister_n_answer", "notify.cloister_n_ask"):
        # What is not available is asked for nothing, and nobody is told.
        await until("the box is there", lambda: hass.states.get(entity) and
                    hass.states.get(entity).state != STATE_UNAVAILABLE)
    assert len(hass.states.async_entity_ids("automation")) == 4

    def shown(title):
        notifications = _async_get_or_create_notifications(hass).values()
        return [notification["message"] for notification in notifications if notification["title"] == title]

    await hass.services.async_call(
        "automation", "trigger", {"entity_id": "automation.good_morning"}, blocking=True)
    greeting, = await until("the answer is shown", lambda: shown("Cloister"))
    assert greeting == hass.states.get("event.cloister_n_answer").attributes["text"], greeting

    await hass.services.async_call(
        "mqtt", "publish", {"topic": "home/doorbell/text", "payload": 'The "parcel" is here.'}, blocking=True)
    judged, = await until("it is judged", lambda: shown("At the door"))
    assert judged in ("Urgent", "It can wait"), judged

    assert complaints.lines == [], complaints.lines
    await hass.async_stop(force=True)


asyncio.run(main())
