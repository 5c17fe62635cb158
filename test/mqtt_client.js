// SPDX-License-Identifier: Apache-2.0
// node mqtt_client.js URL VERSION USER KEY TOPIC COUNT CA: subscribes, publishes COUNT messages with
// QoS 1 and prints what comes back, a line each.
const fs = require("fs");
const mqtt = require("mqtt");

const [url, version, username, password, topic, count, ca] = process.argv.slice(2);
const client = mqtt.connect(url, {
    protocolVersion: version === "5" ? 5 : 4,
    username,
    password,
    reconnectPeriod: 0,
    ca: url.startsWith("wss") ? fs.readFileSync(ca) : undefined,
    wsOptions: url.startsWith("wss") ? { ca: fs.readFileSync(ca) } : {},
});
let got = 0;
const fail = (why) => {
    console.error(why);
    process.exit(1);
};
setTimeout(() => fail("too slow"), 45000);
client.on("error", fail);
client.on("close", () => got < Number(count) && fail("closed early"));
client.on("message", (_topic, payload) => {
    console.log(payload.toString());
    if (++got === Number(count)) client.end(false, {}, () => process.exit(0));
});
client.on("connect", () =>
    client.subscribe(topic, { qos: 1 }, (error) => {
        if (error) fail(error);
        for (let i = 0; i < Number(count); i++) {
            client.publish(topic, String(i), { qos: 1 }, (refused) => refused && fail(refused));
        }
    }));
