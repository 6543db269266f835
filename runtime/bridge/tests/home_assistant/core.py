"""A Home Assistant core without its frontend, connected to one broker.

In: the broker's port, an empty folder, and what is to stand in `configuration.yaml`. Out: the running core. Needs
the `homeassistant` package, of Python 3.13 or later.
"""
import asyncio
import logging
import os
import socket
from types import MappingProxyType

from homeassistant import auth, bootstrap, config_entries, core, loader
from homeassistant.config import async_hass_config_yaml
from homeassistant.setup import async_setup_component

logging.basicConfig(level=logging.WARNING)
# That this core is put together by hand.
logging.getLogger("homeassistant.helpers.frame").setLevel(logging.ERROR)


class Complaints(logging.Handler):
    """What Home Assistant warns of about MQTT and about templates."""

    def __init__(self):
        super().__init__(logging.WARNING)
        self.lines = []

    def emit(self, record):
        if record.name.startswith(("homeassistant.components.mqtt", "homeassistant.helpers.template",
                                   "homeassistant.components.automation")):
            self.lines.append(f"{record.name}: {record.getMessage()}")


complaints = Complaints()
logging.getLogger().addHandler(complaints)


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


async def start(port, folder, configuration=""):
    with open(os.path.join(folder, "configuration.yaml"), "w") as file:
        file.write(f"http:\n  server_host: 127.0.0.1\n  server_port: {free_port()}\n{configuration}")
    hass = core.HomeAssistant(folder)
    loader.async_setup(hass)
    hass.config.skip_pip = True
    hass.config_entries = config_entries.ConfigEntries(hass, {})
    await bootstrap.async_load_base_functionality(hass)
    hass.auth = await auth.auth_manager_from_config(hass, [{"type": "homeassistant"}], [])
    config = await async_hass_config_yaml(hass)
    for domain in [*sorted(bootstrap.CORE_INTEGRATIONS), *config]:
        assert await async_setup_component(hass, domain, config), domain
    await hass.config_entries.async_add(config_entries.ConfigEntry(
        domain="mqtt", title="MQTT", source=config_entries.SOURCE_USER, version=1, minor_version=2,
        data={"broker": "127.0.0.1", "port": port}, options={}, unique_id=None,
        discovery_keys=MappingProxyType({}), subentries_data=None))
    await hass.async_start()
    return hass


async def until(what, condition):
    """Waits for a true value and returns it: for three minutes, for an answer may fill the context now and then."""
    for _ in range(3600):
        if value := condition():
            return value
        await asyncio.sleep(0.05)
    raise AssertionError(f"gave up waiting until {what}")
