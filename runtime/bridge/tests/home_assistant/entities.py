"""Home Assistant finds the box by itself, and what it shows is what the box does.

Arguments: the broker's port, an empty folder, the process id of the bridge, which is named `n`, the engine's
socket. The engine serves SmolLM2 and a tiny R1 that thinks "Hmm" and says "Yes".
"""
import asyncio
import json
import os
import signal
import socket
import sys

from homeassistant.const import STATE_UNAVAILABLE
from homeassistant.helpers import device_registry, entity_registry

from core import complaints, start, until

port, folder, bridge, engine = sys.argv[1:]
SMOLLM2 = "smollm2-135m-instruct-q4_1"

WANTED = {
    "button.cloister_n_stop", "button.cloister_n_warm_up",
    "event.cloister_n_answer", "notify.cloister_n_ask", "text.cloister_n_prompt",
    "select.cloister_n_model", "select.cloister_n_thinking",
    "sensor.cloister_n_last_answer", "sensor.cloister_n_loaded_model", "sensor.cloister_n_queue",
    "sensor.cloister_n_speed", "sensor.cloister_n_version",
    "sensor.cloister_n_temperature", "sensor.cloister_n_power",
}


def panel_says(**report):
    """What the box's panel would."""
    body = json.dumps(report).encode()
    with socket.socket(socket.AF_UNIX) as serve:
        serve.connect(engine)
        serve.sendall(b"PUT /api/panel HTTP/1.1\r\nhost: box\r\nconnection: close\r\n"
                      b"content-type: application/json\r\ncontent-length: %d\r\n\r\n%s" % (len(body), body))
        answer = serve.makefile("rb").read()
    assert answer.startswith(b"HTTP/1.1 200"), answer


async def main():
    hass = await start(int(port), folder)
    states = hass.states

    def value(entity):
        return states.get(entity).state

    def call(action, entity, **data):
        domain, service = action.split(".")
        return hass.services.async_call(domain, service, {"entity_id": entity, **data}, blocking=True)

    async def answer(action, entity, **data):
        """What the event says that comes of an action."""
        before = value("event.cloister_n_answer")
        await call(action, entity, **data)
        await until("an answer comes", lambda: value("event.cloister_n_answer") != before)
        return states.get("event.cloister_n_answer").attributes

    await until("all entities are there", lambda: WANTED <= set(states.async_entity_ids()))
    ours = {entity for entity in states.async_entity_ids() if "cloister" in entity}
    assert ours == WANTED, ours ^ WANTED
    devices = device_registry.async_get(hass).devices
    assert [device.name for device in devices.values()] == ["Cloister n"], devices
    registered = entity_registry.async_get(hass).entities.values()
    assert len({entity.device_id for entity in registered}) == 1

    await until("it shows the loaded model", lambda: value("sensor.cloister_n_loaded_model") == SMOLLM2)
    assert value("sensor.cloister_n_version") not in ("unknown", ""), states.get("sensor.cloister_n_version")
    assert value("sensor.cloister_n_queue") == "0"
    await until("it shows what its board measures", lambda: (
        value("sensor.cloister_n_temperature"), value("sensor.cloister_n_power")) == ("51", "6.1"))
    models = states.get("select.cloister_n_model").attributes["options"]
    assert models == ["default", SMOLLM2, "tiny-r1"], models

    # What looks like JSON is a question like any other.
    said = await answer("notify.send_message", "notify.cloister_n_ask", message='{"Say": "hello"} in one word.')
    assert said["event_type"] == "answer" and said["text"] and said["usage"], said
    last = states.get("sensor.cloister_n_last_answer")
    assert last.attributes["text"] == said["text"], last
    assert last.state == said["text"].strip()[:255].strip(), last
    await until("it shows a speed", lambda: float(value("sensor.cloister_n_speed")) > 0)
    assert value("event.cloister_n_answer") != "unknown"

    # What is selected is what is asked for.
    for entity, option in [("select.cloister_n_model", "tiny-r1"), ("select.cloister_n_thinking", "low")]:
        await call("select.select_option", entity, option=option)
        await until(f"{option} is selected", lambda: value(entity) == option)
    await call("button.press", "button.cloister_n_warm_up")
    await until("it is loaded", lambda: value("sensor.cloister_n_loaded_model") == "tiny-r1")
    said = await answer("text.set_value", "text.cloister_n_prompt", value="Has a spider legs?")
    assert (said["text"], said["reasoning"]) == ("Yes", "Hmm"), said
    await call("select.select_option", "select.cloister_n_thinking", option="off")
    said = await answer("notify.send_message", "notify.cloister_n_ask", message="Has a spider legs?")
    assert said["text"] == "Yes" and "reasoning" not in said, said
    assert value("sensor.cloister_n_last_answer") == "Yes"

    # An answer that would not end is stopped.
    await call("select.select_option", "select.cloister_n_model", option=SMOLLM2)
    await call("notify.send_message", "notify.cloister_n_ask",
               message="Write a very long story about a monastery garden.")
    said = await answer("button.press", "button.cloister_n_stop")
    assert said["finish_reason"] == "cancelled", said

    # A switch of which nobody says where it stands is not shown as off.
    switch = "binary_sensor.cloister_n_privacy_switch"
    for report, state in [({"private": True}, "on"), ({"private": False}, "off"),
                          ({"private": False, "leaves": True}, "unknown")]:
        panel_says(**report)
        await until(f"the switch is {state}",
                    lambda: states.get(switch) is not None and value(switch) == state)

    assert complaints.lines == [], complaints.lines
    os.kill(int(bridge), signal.SIGKILL)
    for entity in WANTED:
        await until(f"{entity} is unavailable", lambda: value(entity) == STATE_UNAVAILABLE)
    await hass.async_stop(force=True)


asyncio.run(main())
