/* SPDX-License-Identifier: Apache-2.0 */
/* Reason codes (section 2.4), and the return codes that 3.1.1 has instead. */
#include "codec/mqtt.h"

#define IN(type)   (1u << MQTT_##type)
#define FROM_HERE  0x10000u /* in DISCONNECT or AUTH: from a server only */
#define FROM_THERE 0x20000u /* from a client only */
#define PUBACKS    (IN(PUBACK) | IN(PUBREC))
#define SUBACKS    (IN(SUBACK) | IN(UNSUBACK))
#define SERVER     (IN(DISCONNECT) | FROM_HERE)

static const uint32_t allowed[256] = {
    [0x00] = IN(CONNACK) | PUBACKS | IN(PUBREL) | IN(PUBCOMP) | SUBACKS | IN(DISCONNECT) | IN(AUTH),
    [0x01] = IN(SUBACK),
    [0x02] = IN(SUBACK),
    [0x04] = IN(DISCONNECT) | FROM_THERE,
    [0x10] = PUBACKS,
    [0x11] = IN(UNSUBACK),
    [0x18] = IN(AUTH),
    [0x19] = IN(AUTH) | FROM_THERE,
    [0x80] = IN(CONNACK) | PUBACKS | SUBACKS | IN(DISCONNECT),
    [0x81] = IN(CONNACK) | IN(DISCONNECT),
    [0x82] = IN(CONNACK) | IN(DISCONNECT),
    [0x83] = IN(CONNACK) | PUBACKS | SUBACKS | IN(DISCONNECT),
    [0x84] = IN(CONNACK),
    [0x85] = IN(CONNACK),
    [0x86] = IN(CONNACK),
    [0x87] = IN(CONNACK) | PUBACKS | SUBACKS | SERVER,
    [0x88] = IN(CONNACK),
    [0x89] = IN(CONNACK) | SERVER,
    [0x8a] = IN(CONNACK),
    [0x8b] = SERVER,
    [0x8c] = IN(CONNACK) | IN(DISCONNECT),
    [0x8d] = SERVER,
    [0x8e] = SERVER,
    [0x8f] = SUBACKS | SERVER,
    [0x90] = IN(CONNACK) | PUBACKS | IN(DISCONNECT),
    [0x91] = PUBACKS | SUBACKS,
    [0x92] = IN(PUBREL) | IN(PUBCOMP),
    [0x93] = IN(DISCONNECT),
    [0x94] = IN(DISCONNECT),
    [0x95] = IN(CONNACK) | IN(DISCONNECT),
    [0x96] = IN(DISCONNECT),
    [0x97] = IN(CONNACK) | PUBACKS | IN(SUBACK) | IN(DISCONNECT),
    [0x98] = IN(DISCONNECT),
    [0x99] = IN(CONNACK) | PUBACKS | IN(DISCONNECT),
    [0x9a] = IN(CONNACK) | SERVER,
    [0x9b] = IN(CONNACK) | SERVER,
    [0x9c] = IN(CONNACK) | SERVER,
    [0x9d] = IN(CONNACK) | SERVER,
    [0x9e] = IN(SUBACK) | SERVER,
    [0x9f] = IN(CONNACK) | SERVER,
    [0xa0] = SERVER,
    [0xa1] = IN(SUBACK) | SERVER,
    [0xa2] = IN(SUBACK) | SERVER,
};

bool mqtt_code_allowed(enum mqtt_type type, uint8_t code, bool from_server)
{
    uint32_t a = allowed[code];
    if (type == MQTT_DISCONNECT || type == MQTT_AUTH) {
        if (a & FROM_HERE && !from_server)
            return false;
        /* The server is who ends an exchange of AUTH with success (section 3.15.2.1). */
        if (a & FROM_THERE && from_server)
            return false;
        if (type == MQTT_AUTH && code == MQTT_SUCCESS && !from_server)
            return false;
    }
    return a >> type & 1;
}

uint8_t mqtt_connack_code_3(uint8_t code)
{
    switch (code) {
    case MQTT_SUCCESS:
        return 0;
    case MQTT_UNSUPPORTED_VERSION:
        return 1;
    case MQTT_BAD_CLIENT_ID:
        return 2;
    case MQTT_BAD_CREDENTIALS:
        return 4;
    case 0x83: /* implementation specific */
    case 0x88: /* server unavailable */
    case MQTT_SERVER_BUSY:
    case MQTT_STOPPING:
    case MQTT_QUOTA:
    case MQTT_UNSPECIFIED:
    case 0x9f: /* connection rate exceeded */
        return 3;
    default:
        return 5;
    }
}
