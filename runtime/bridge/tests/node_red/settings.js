// Node-RED for the test: on loopback, and without a word to anybody.
module.exports = {
    uiHost: "127.0.0.1",
    telemetry: { enabled: false, updateNotification: false },
    logging: { console: { level: "info", metrics: false, audit: false } },
};
