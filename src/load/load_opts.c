/* SPDX-License-Identifier: Apache-2.0 */
#include "load/load_opts.h"

#include <arpa/inet.h>
#include <errno.h>
#include <getopt.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>

#include "base/clock.h"
#include "codec/topic.h"
#include "load/feeds.h"
#include "load/ledger.h"
#include "load/message.h"

const char load_opts_help[] =
    "usage: sluice load [options] http[s]://HOST[:PORT][/PATH]\n"
    "       sluice load [options] --topic TOPIC mqtt[s]://HOST[:PORT]\n"
    "       sluice load [options] --topic TOPIC ws[s]://HOST[:PORT][/PATH]   MQTT by WebSocket\n"
    "Sends requests, or MQTT messages, as a fleet of devices would, and measures the answers.\n"
    "\n"
    "who sends\n"
    "  --devices FILE      CSV, one device_id,secret a line; a first line "
    "device_id,secret,NAME,..\n"
    "                      names header fields of which every device has its own\n"
    "  --create N --account NAME --admin-key KEY   make N devices first, by the server's admin "
    "API\n"
    "                      (at --verify-url, if not http://), and write them to --devices\n"
    "  --device ID --token SECRET   one device; each may hold %seq% (16 digits), a new one at "
    "each\n"
    "                      request: guesses of a secret, or devices that nobody knows\n"
    "  --key KEY           an account key (X-AIO-Key)\n"
    "  --basic             send device and secret as HTTP Basic\n"
    "  --order random|fixed   any device on any connection (random, the default), or each\n"
    "                      connection keeps its device\n"
    "what\n"
    "  --method NAME       POST\n"
    "  --feed NAME         the body is {\"NAME\":VALUE}; temperature; may hold %device%\n"
    "  --payload TEXT      a whole body instead, in which %device%, %seq% (16 digits, new in "
    "each),\n"
    "                      %time% (milliseconds since 1970) and %random% (5 digits) are replaced;\n"
    "                      --feed then only says to --verify where that is stored\n"
    "  --header 'N: V'     a further header field, replaced likewise; may be repeated\n"
    "what by MQTT (user name and password of a connection are a device's id and secret)\n"
    "  --topic TOPIC       may hold %device% and %feed% (6 digits, any of --feeds)\n"
    "  --feeds N           1000\n"
    "  --qos 0|1           1; of QoS 0 the answer is that of a PINGREQ behind the messages\n"
    "  --window N          messages of a connection that may be without an answer; 20\n"
    "  --payload-size N    100; the time when it was due and letters; or --payload\n"
    "  --mqtt 5|3.1.1      5; a server of 3.1.1 may acknowledge what it refused\n"
    "  --subscribe FILTER  a connection that gets what is published, and measures how long after "
    "it\n"
    "                      was due that came\n"
    "  --subscribers N     so many of these; 1\n"
    "recorded (sluice capture)\n"
    "  --replay FILE       send the requests of a recording when they came: their methods, "
    "targets,\n"
    "                      header fields and sizes, with the devices in turn, and bodies made up\n"
    "  --speed X           so many times as fast; 1\n"
    "  --compare FILE      send nothing; name the header fields and paths of a recording that the\n"
    "                      requests of these options lack (exit status 3)\n"
    "how much\n"
    "  --ca FILE           the certificates to believe a server by (PEM); else the system's\n"
    "  --insecure          believe any server\n"
    "  --connections N     64\n"
    "  --source A[-B]      the local IPv4 addresses that connections come from, in turn\n"
    "  --once              log all devices in: a connection for each, which sends until it is\n"
    "                      accepted (2xx), coming back when a Retry-After says so; ends when "
    "all\n"
    "                      are in\n"
    "  --seconds S         10\n"
    "  --warmup S          run so long before counting; 0\n"
    "  --requests N        stop after N requests\n"
    "  --rate R            R requests a second on a fixed schedule, whatever the answers do; a\n"
    "                      latency counts from the scheduled time. Without: as fast as answers "
    "come\n"
    "  --shape NAME        how the rate goes: steady; ramp (from nothing up to R); spike[:N] (for "
    "a\n"
    "                      second in the middle N times R; 20); or points TIME:RATE,.. in seconds\n"
    "                      and requests a second, straight lines between (then without --rate)\n"
    "  --think S[-S]       without --rate: so long between an answer and what is sent next\n"
    "  --storm S           so long after the start all connections break, and are opened again at\n"
    "                      once\n"
    "  --timeout S         give a connection up that is silent so long; 30. After the end answers\n"
    "                      are awaited so long too; a second SIGINT (Ctrl-C) ends that at once\n"
    "  --reconnect         open connections again that break, until the end\n"
    "  --seed N            of the random order\n"
    "adversaries beside the fleet (of http://; each a process of its own)\n"
    "  --attack KIND,..    secrets (guesses one device's secret), devices (ids that nobody "
    "knows),\n"
    "                      flood (one device of the fleet that never stops), slow (a byte a\n"
    "                      second), oversize, malformed\n"
    "  --attack-connections N   of each; 16\n"
    "  --attack-rate R     of each, requests a second; else as fast as answers come\n"
    "results\n"
    "  --json FILE         results as JSON\n"
    "  --html FILE         a page with plots, which needs no network\n"
    "  --watch URL         http[s]://HOST[:PORT] of the server's operator: on a terminal, show "
    "what\n"
    "                      its throttle and shield do\n"
    "  --ack-log FILE      append a line \"sequence device feed value offset\" for each message "
    "the\n"
    "                      server acknowledged; every value is then different\n"
    "  --verify KEY        afterwards read everything back with this account key, and prove that\n"
    "                      each acknowledged message is stored once and each refused one is not\n"
    "                      (else exit status 3); all devices are of the key's account\n"
    "  --verify-url URL    where to read, http[s]://HOST[:PORT]; without: where http:// sends to\n"
    "  --first-sequence N  1; with --verify one that is new each time\n"
    "  --quiet             no progress on a terminal\n";

enum {
    OPT_DEVICES = 1000,
    OPT_DEVICE,
    OPT_TOKEN,
    OPT_KEY,
    OPT_BASIC,
    OPT_ORDER,
    OPT_METHOD,
    OPT_FEED,
    OPT_PAYLOAD,
    OPT_HEADER,
    OPT_CONNECTIONS,
    OPT_SECONDS,
    OPT_WARMUP,
    OPT_REQUESTS,
    OPT_RATE,
    OPT_TIMEOUT,
    OPT_CREATE,
    OPT_ACCOUNT,
    OPT_ADMIN_KEY,
    OPT_ATTACK,
    OPT_ATTACK_CONNECTIONS,
    OPT_ATTACK_RATE,
    OPT_HTML,
    OPT_WATCH,
    OPT_REPLAY,
    OPT_SPEED,
    OPT_COMPARE,
    OPT_CA,
    OPT_INSECURE,
    OPT_SHAPE,
    OPT_THINK,
    OPT_STORM,
    OPT_SOURCE,
    OPT_ONCE,
    OPT_RECONNECT,
    OPT_SEED,
    OPT_JSON,
    OPT_ACK_LOG,
    OPT_FIRST_SEQUENCE,
    OPT_VERIFY,
    OPT_VERIFY_URL,
    OPT_QUIET,
    OPT_TOPIC,
    OPT_FEEDS,
    OPT_QOS,
    OPT_WINDOW,
    OPT_PAYLOAD_SIZE,
    OPT_MQTT,
    OPT_SUBSCRIBE,
    OPT_SUBSCRIBERS,
    OPT_HELP,
};

static const struct option long_options[] = {
    {"devices", required_argument, NULL, OPT_DEVICES},
    {"device", required_argument, NULL, OPT_DEVICE},
    {"token", required_argument, NULL, OPT_TOKEN},
    {"key", required_argument, NULL, OPT_KEY},
    {"basic", no_argument, NULL, OPT_BASIC},
    {"order", required_argument, NULL, OPT_ORDER},
    {"method", required_argument, NULL, OPT_METHOD},
    {"feed", required_argument, NULL, OPT_FEED},
    {"payload", required_argument, NULL, OPT_PAYLOAD},
    {"header", required_argument, NULL, OPT_HEADER},
    {"connections", required_argument, NULL, OPT_CONNECTIONS},
    {"seconds", required_argument, NULL, OPT_SECONDS},
    {"warmup", required_argument, NULL, OPT_WARMUP},
    {"requests", required_argument, NULL, OPT_REQUESTS},
    {"rate", required_argument, NULL, OPT_RATE},
    {"timeout", required_argument, NULL, OPT_TIMEOUT},
    {"ca", required_argument, NULL, OPT_CA},
    {"insecure", no_argument, NULL, OPT_INSECURE},
    {"replay", required_argument, NULL, OPT_REPLAY},
    {"speed", required_argument, NULL, OPT_SPEED},
    {"compare", required_argument, NULL, OPT_COMPARE},
    {"html", required_argument, NULL, OPT_HTML},
    {"watch", required_argument, NULL, OPT_WATCH},
    {"attack", required_argument, NULL, OPT_ATTACK},
    {"attack-connections", required_argument, NULL, OPT_ATTACK_CONNECTIONS},
    {"attack-rate", required_argument, NULL, OPT_ATTACK_RATE},
    {"create", required_argument, NULL, OPT_CREATE},
    {"account", required_argument, NULL, OPT_ACCOUNT},
    {"admin-key", required_argument, NULL, OPT_ADMIN_KEY},
    {"shape", required_argument, NULL, OPT_SHAPE},
    {"think", required_argument, NULL, OPT_THINK},
    {"storm", required_argument, NULL, OPT_STORM},
    {"source", required_argument, NULL, OPT_SOURCE},
    {"once", no_argument, NULL, OPT_ONCE},
    {"reconnect", no_argument, NULL, OPT_RECONNECT},
    {"seed", required_argument, NULL, OPT_SEED},
    {"json", required_argument, NULL, OPT_JSON},
    {"ack-log", required_argument, NULL, OPT_ACK_LOG},
    {"first-sequence", required_argument, NULL, OPT_FIRST_SEQUENCE},
    {"verify", required_argument, NULL, OPT_VERIFY},
    {"verify-url", required_argument, NULL, OPT_VERIFY_URL},
    {"quiet", no_argument, NULL, OPT_QUIET},
    {"topic", required_argument, NULL, OPT_TOPIC},
    {"feeds", required_argument, NULL, OPT_FEEDS},
    {"qos", required_argument, NULL, OPT_QOS},
    {"window", required_argument, NULL, OPT_WINDOW},
    {"payload-size", required_argument, NULL, OPT_PAYLOAD_SIZE},
    {"mqtt", required_argument, NULL, OPT_MQTT},
    {"subscribe", required_argument, NULL, OPT_SUBSCRIBE},
    {"subscribers", required_argument, NULL, OPT_SUBSCRIBERS},
    {"help", no_argument, NULL, OPT_HELP},
    {0},
};

static bool parse_number(const char *text, double min, double max, double *ret)
{
    char *end;
    errno = 0;
    double v = strtod(text, &end);
    if (errno || end == text || *end || !isfinite(v) || v < min || v > max)
        return false;
    *ret = v;
    return true;
}

static bool parse_whole(const char *text, uint64_t min, uint64_t max, uint64_t *ret)
{
    char *end;
    errno = 0;
    unsigned long long v = strtoull(text, &end, 10);
    if (errno || end == text || *end || *text == '-' || v < min || v > max)
        return false;
    *ret = v;
    return true;
}

static bool parse_seconds(const char *text, double min, uint64_t *ret_ns)
{
    double s;
    if (!parse_number(text, min, 864000, &s))
        return false;
    *ret_ns = (uint64_t)(s * (double)NS_PER_S);
    return true;
}

static bool parse_unsigned(const char *text, unsigned min, unsigned max, unsigned *ret)
{
    uint64_t n;
    if (!parse_whole(text, min, max, &n))
        return false;
    *ret = (unsigned)n;
    return true;
}

/* The options that are numbers. False: out of bounds. */
static bool take_number(struct load_opts *o, int option, const char *text)
{
    switch (option) {
    case OPT_CONNECTIONS:
        return parse_unsigned(text, 1, LOAD_CONNECTIONS_MAX, &o->connections);
    case OPT_FEEDS:
        return parse_unsigned(text, 1, LOAD_FEEDS_MAX, &o->feeds);
    case OPT_QOS:
        return parse_unsigned(text, 0, 1, &o->qos);
    case OPT_WINDOW:
        return parse_unsigned(text, 1, UINT16_MAX, &o->window);
    case OPT_PAYLOAD_SIZE:
        return parse_unsigned(text, MESSAGE_TIMED_MIN, LOAD_PAYLOAD_MAX, &o->payload_bytes);
    case OPT_SUBSCRIBERS:
        return parse_unsigned(text, 1, 1000, &o->subscribers);
    case OPT_SECONDS:
        return parse_seconds(text, 0.01, &o->run_ns);
    case OPT_WARMUP:
        return parse_seconds(text, 0, &o->warmup_ns);
    case OPT_TIMEOUT:
        return parse_seconds(text, 0.01, &o->timeout_ns);
    case OPT_ATTACK_CONNECTIONS:
        return parse_unsigned(text, 1, LOAD_CONNECTIONS_MAX, &o->attack_connections);
    case OPT_ATTACK_RATE:
        return parse_number(text, 0.001, ARRIVAL_RATE_MAX, &o->attack_rate);
    case OPT_CREATE:
        return parse_unsigned(text, 1, LOAD_DEVICES_MAX, &o->create);
    case OPT_SPEED:
        return parse_number(text, 0.001, 1000, &o->speed);
    case OPT_STORM:
        return parse_seconds(text, 0.01, &o->storm_ns);
    case OPT_REQUESTS:
        return parse_whole(text, 1, UINT64_MAX, &o->requests);
    case OPT_RATE:
        return parse_number(text, 0.001, ARRIVAL_RATE_MAX, &o->rate);
    case OPT_SEED:
        return parse_whole(text, 0, UINT64_MAX, &o->seed);
    default:
        return parse_whole(text, 1, 1000000000000000ull, &o->first_sequence);
    }
}

static bool take_order(struct load_opts *o, const char *text)
{
    o->fixed = strcmp(text, "fixed") == 0;
    return o->fixed || strcmp(text, "random") == 0;
}

static bool take_source(struct load_opts *o, const char *text)
{
    char first[INET_ADDRSTRLEN] = {0};
    const char *dash = strchr(text, '-'), *last = dash ? dash + 1 : text;
    size_t len = dash ? (size_t)(dash - text) : strlen(text);
    struct in_addr a, b;
    if (len >= sizeof first)
        return false;
    memcpy(first, text, len);
    if (inet_pton(AF_INET, first, &a) != 1 || inet_pton(AF_INET, last, &b) != 1 ||
        ntohl(b.s_addr) < ntohl(a.s_addr))
        return false;
    o->source_first = ntohl(a.s_addr);
    o->sources = ntohl(b.s_addr) - o->source_first + 1;
    return o->sources > 0;
}

/* http[s]://HOST[:PORT] */
static bool take_place(const char *text, struct url *ret)
{
    return url_parse(text, ret) && url_is_http(ret) && !ret->target.len;
}

const char *const load_attack_names[ATTACKS] = {"secrets", "devices",  "flood",
                                                "slow",    "oversize", "malformed"};

static bool take_attacks(struct load_opts *o, const char *text)
{
    for (;;) {
        size_t len = strcspn(text, ",");
        unsigned i = 0;
        while (i < ATTACKS && !slice_eq(slice_of(text, len), slice_str(load_attack_names[i])))
            i++;
        if (i == ATTACKS)
            return false;
        o->attacks |= 1u << i;
        if (!text[len])
            return true;
        text += len + 1;
    }
}

/* S or S-S */
static bool take_think(struct load_opts *o, const char *text)
{
    char first[32];
    const char *dash = strchr(text, '-');
    size_t len = dash ? (size_t)(dash - text) : strlen(text);
    if (len >= sizeof first)
        return false;
    memcpy(first, text, len);
    first[len] = 0;
    return parse_seconds(first, 0.001, &o->think_ns) &&
           parse_seconds(dash ? dash + 1 : first, 0.001, &o->think_ns_max) &&
           o->think_ns <= o->think_ns_max;
}

static bool take_mqtt(struct load_opts *o, const char *text)
{
    o->mqtt = strcmp(text, "5") == 0 ? MQTT_5 : strcmp(text, "3.1.1") == 0 ? MQTT_3_1_1 : MQTT_NONE;
    return o->mqtt != MQTT_NONE;
}

static bool take_header(struct load_opts *o, const char *text)
{
    if (o->headers_count == LOAD_HEADERS_MAX || !strchr(text, ':') || strpbrk(text, "\r\n"))
        return false;
    o->headers[o->headers_count++] = text;
    return true;
}

/* The options whose text is taken as it is. NULL: it is none. */
static const char **plain_of(struct load_opts *o, int option)
{
    switch (option) {
    case OPT_DEVICES:
        return &o->devices;
    case OPT_DEVICE:
        return &o->device;
    case OPT_TOKEN:
        return &o->token;
    case OPT_KEY:
        return &o->key;
    case OPT_PAYLOAD:
        return &o->payload;
    case OPT_CA:
        return &o->ca;
    case OPT_REPLAY:
        return &o->replay;
    case OPT_COMPARE:
        return &o->compare;
    case OPT_JSON:
        return &o->json;
    case OPT_ACCOUNT:
        return &o->account;
    case OPT_ADMIN_KEY:
        return &o->admin_key;
    case OPT_HTML:
        return &o->html;
    case OPT_ACK_LOG:
        return &o->ack_log;
    default:
        return NULL;
    }
}

/* The options without a value. NULL: it is none. */
static bool *flag_of(struct load_opts *o, int option)
{
    switch (option) {
    case OPT_BASIC:
        return &o->basic;
    case OPT_INSECURE:
        return &o->insecure;
    case OPT_ONCE:
        return &o->once;
    case OPT_RECONNECT:
        return &o->reconnect;
    case OPT_QUIET:
        return &o->quiet;
    default:
        return NULL;
    }
}

static bool take(struct load_opts *o, int option, const char *text)
{
    const char **plain = plain_of(o, option);
    bool *flag = flag_of(o, option);
    if (plain)
        *plain = text;
    if (flag)
        *flag = true;
    if (plain || flag)
        return true;
    switch (option) {
    case OPT_ORDER:
        return take_order(o, text);
    case OPT_METHOD:
        o->method = text;
        return *text && !strpbrk(text, " \r\n");
    case OPT_FEED:
        o->feed = text;
        return *text && !strpbrk(text, "\"\\ \r\n");
    case OPT_HEADER:
        return take_header(o, text);
    case OPT_TOPIC:
        o->topic = text;
        return topic_name_valid(slice_str(text));
    case OPT_SUBSCRIBE:
        o->subscribe = text;
        return topic_filter_valid(slice_str(text));
    case OPT_MQTT:
        return take_mqtt(o, text);
    case OPT_SOURCE:
        return take_source(o, text);
    case OPT_SHAPE:
        o->shape = text;
        return arrival_parse(text, 1, 1, &o->arrival);
    case OPT_THINK:
        return take_think(o, text);
    case OPT_VERIFY:
        o->verify_key = text;
        return *text && !strpbrk(text, "\r\n");
    case OPT_VERIFY_URL:
        return take_place(text, &o->verify_url);
    case OPT_ATTACK:
        return take_attacks(o, text);
    case OPT_WATCH:
        return take_place(text, &o->watch_url);
    default:
        return take_number(o, option, text);
    }
}

static bool take_url(struct load_opts *o, const char *text)
{
    if (!url_parse(text, &o->url) ||
        ((o->url.scheme == URL_MQTT || o->url.scheme == URL_MQTTS) && o->url.target.len))
        return false;
    if (url_is_http(&o->url))
        o->mqtt = MQTT_NONE;
    if (!o->url.target.len)
        o->url.target = url_is_websocket(&o->url) ? SLICE("/mqtt") : SLICE("/v1/telemetry");
    return true;
}

/* What single options cannot see. NULL: all is well. */
static const char *check(const struct load_opts *o)
{
    if ((o->devices != NULL) + (o->device != NULL) + (o->key != NULL) > 1)
        return "give only one of --devices, --device and --key";
    if ((o->device != NULL) != (o->token != NULL))
        return "--device and --token belong together";
    if (o->payload && (o->ack_log || o->verify_key) && !strstr(o->payload, "%seq%"))
        return "--ack-log and --verify know messages by their number: put %seq% into --payload";
    if (o->verify_key && o->device && (strstr(o->device, "%seq%") || strstr(o->token, "%seq%")))
        return "--verify cannot read back what devices with %seq% in their name send";
    if (o->basic && o->device && (strstr(o->device, "%seq%") || strstr(o->token, "%seq%")))
        return "%seq% cannot be in what --basic encodes";
    if (o->attacks & (1u << ATTACK_SECRETS | 1u << ATTACK_FLOOD) && !o->devices && !o->device)
        return "--attack secrets and flood need a device: give --devices, or --device and --token";
    if (o->rate > 0 && o->think_ns)
        return "--think is for runs without --rate";
    if (o->shape && (o->shape[0] == '0') == (o->rate > 0))
        return "--shape with points has its rates, any other goes by --rate";
    if (o->once && (o->shape || o->think_ns || o->storm_ns))
        return "--once sends when devices are due: no --shape, --think or --storm";
    if (o->once && (o->rate > 0 || o->requests || o->warmup_ns))
        return "--once sends when devices are due: no --rate, --requests or --warmup";
    return NULL;
}

/* The same of --create. */
static const char *check_create(const struct load_opts *o)
{
    if (!o->create)
        return o->account || o->admin_key ? "--account and --admin-key are for --create" : NULL;
    if (!o->account || !o->admin_key || !o->devices)
        return "--create needs --account, --admin-key, and --devices to write them to";
    if (strlen(o->account) > 64 || strpbrk(o->admin_key, "\r\n"))
        return "--create: no such account or key";
    if (o->mqtt && !o->verify_url.host[0])
        return "--create needs to know where the server's API is: give --verify-url";
    return NULL;
}

/* The same of recordings. */
static const char *check_recorded(const struct load_opts *o)
{
    if (o->mqtt && (o->replay || o->compare))
        return "recordings are of HTTP: --replay and --compare go with http://";
    if (o->speed != 1 && !o->replay)
        return "--speed is for --replay";
    if (o->replay && (o->rate > 0 || o->shape || o->think_ns || o->once || o->warmup_ns ||
                      o->requests || o->payload || o->compare))
        return "--replay sends what was recorded when it was: no --rate, --shape, --think, --once, "
               "--warmup, --requests, --payload or --compare";
    if (o->replay && o->feed && strstr(o->feed, "%device%"))
        return "--replay sends to one feed: no %device% in --feed";
    return NULL;
}

/* The same of --verify. */
static const char *check_verify(const struct load_opts *o)
{
    if (!o->verify_key)
        return o->verify_url.host[0] && !o->create ? "--verify-url is for --verify and --create"
                                                   : NULL;
    if (o->mqtt && !o->verify_url.host[0])
        return "of what mqtt:// sent, --verify needs to know where to read: give --verify-url";
    if (o->mqtt && (o->qos == 0 || o->mqtt != MQTT_5))
        return "--verify needs answers that say what was refused: --mqtt 5 and --qos 1";
    if (o->mqtt && !feeds_of_topic(slice_str(o->topic)).len)
        return "--verify reads feeds: give a --topic such as USER/feeds/NAME";
    if (!o->mqtt && !o->feed)
        return "--verify reads feeds: say with --feed where what is sent is stored";
    return NULL;
}

/* The same of MQTT. */
static const char *check_mqtt(const struct load_opts *o)
{
    if (!o->mqtt)
        return o->topic || o->subscribe || o->subscribers
                   ? "--topic, --subscribe and --subscribers are for mqtt://"
                   : NULL;
    if (!o->topic)
        return "mqtt:// needs a --topic";
    if (o->feed || o->headers_count || o->key || o->basic || o->once || o->sources || o->attacks)
        return "--feed, --header, --key, --basic, --once, --source and --attack are for http://";
    if ((o->ack_log || o->verify_key) && !o->payload && o->payload_bytes < MESSAGE_SEQUENCED_MIN)
        return "the values of --ack-log and --verify need a --payload-size of 37 and more";
    if (!o->subscribe && o->subscribers)
        return "--subscribers needs a filter to --subscribe to";
    if (o->subscribe && o->payload)
        return "who subscribes measures by the payload: give --payload-size, not --payload";
    return NULL;
}

/* What follows from what was given. */
static void complete(struct load_opts *o)
{
    if (o->subscribe && !o->subscribers)
        o->subscribers = 1;
    if (!o->mqtt && !o->payload && !o->feed && strcmp(o->method, "POST") == 0)
        o->feed = "temperature";
    if ((o->verify_key || o->create) && !o->mqtt && !o->verify_url.host[0])
        o->verify_url = o->url;
    if (o->replay && !o->feed)
        o->feed = "temperature";
    arrival_parse(o->shape ? o->shape : "steady", o->rate, (double)o->run_ns / (double)NS_PER_S,
                  &o->arrival);
    o->rate = arrival_highest(&o->arrival);
    o->drain_ns = o->timeout_ns;
    o->sequenced = o->ack_log || o->verify_key;
    /* Microseconds since 1970, faster than which no run goes: no other has the same sequences. */
    if (o->first_sequence == 0)
        o->first_sequence = o->verify_key ? (uint64_t)clock_wall_us() % LEDGER_SEQUENCES : 1;
}

enum load_opts_outcome load_opts_parse(int argc, char **argv, struct load_opts *ret,
                                       struct error *err)
{
    struct load_opts o = {
        .method = "POST",
        .connections = 64,
        .run_ns = 10 * NS_PER_S,
        .timeout_ns = 30 * NS_PER_S,
        .seed = 1,
        .attack = ATTACKS,
        .attack_connections = 16,
        .speed = 1,
        .mqtt = MQTT_5,
        .qos = 1,
        .window = 20,
        .feeds = 1000,
        .payload_bytes = 100,
    };
    optind = 0; /* glibc: begin afresh */
    opterr = 0;
    int option, at = 0;
    while ((option = getopt_long(argc, argv, ":", long_options, &at)) != -1) {
        if (option == OPT_HELP)
            return LOAD_OPTS_HELP;
        if (option == '?' || option == ':') {
            error_set(err, -EINVAL, "%s: %s", argv[optind - 1],
                      option == ':' ? "needs a value" : "no such option");
            return LOAD_OPTS_WRONG;
        }
        if (!take(&o, option, optarg)) {
            error_set(err, -EINVAL, "--%s: '%s' is not a value for it", long_options[at].name,
                      optarg);
            return LOAD_OPTS_WRONG;
        }
    }
    const char *problem = check(&o);
    if (!problem && optind != argc - 1)
        problem = "give one URL";
    if (!problem && !take_url(&o, argv[optind]))
        problem =
            "the URL must be http[s]://HOST[:PORT][/PATH], mqtt[s]://HOST[:PORT] or ws[s]://HOST..";
    if (!problem)
        problem = check_mqtt(&o);
    if (problem) {
        error_set(err, -EINVAL, "%s", problem);
        return LOAD_OPTS_WRONG;
    }
    complete(&o);
    problem = check_recorded(&o);
    if (!problem)
        problem = check_create(&o);
    if (!problem)
        problem = check_verify(&o);
    if (problem) {
        error_set(err, -EINVAL, "%s", problem);
        return LOAD_OPTS_WRONG;
    }
    *ret = o;
    return LOAD_OPTS_RUN;
}
