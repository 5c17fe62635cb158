/* SPDX-License-Identifier: Apache-2.0 */
#include "codec/points.h"

#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <cmocka.h>

static const struct points_limits limits = {.points_max = 100, .value_max = 32, .feed_max = 20};
static struct buf storage;
static struct points points = {.storage = &storage};
static struct error err;

static int telemetry(struct slice body)
{
    err.text[0] = 0;
    return points_telemetry(body, BODY_JSON, &limits, &points, &err);
}

/* The points in one line: feed=value[@us][(lat,lon[,ele])] */
static const char *shown(void)
{
    static char text[4096];
    int at = 0;
    text[0] = 0;
    for (unsigned i = 0; i < points.count; i++) {
        const struct point *p = &points.list[i];
        at += sprintf(text + at, "%s%.*s=%.*s", i ? " " : "", SLICE_ARG(p->feed),
                      SLICE_ARG(p->value));
        if (p->has_time)
            at += sprintf(text + at, "@%lld", (long long)p->time_us);
        if (p->has_place)
            at += sprintf(text + at, "(%g,%g", p->lat, p->lon);
        if (p->has_ele)
            at += sprintf(text + at, ",%g", p->ele);
        if (p->has_place)
            at += sprintf(text + at, ")");
    }
    return text;
}

struct good {
    const char *in, *out;
};
struct bad {
    const char *in;
    int code;
    const char *sentence; /* how it begins */
};

static void check_good(const struct good *all, size_t n, int (*call)(struct slice))
{
    for (size_t i = 0; i < n; i++) {
        int rc = call(slice_str(all[i].in));
        if (rc != 0)
            fail_msg("%s: %d %s", all[i].in, rc, err.text);
        assert_string_equal(shown(), all[i].out);
    }
}

static void check_bad(const struct bad *all, size_t n, int (*call)(struct slice))
{
    for (size_t i = 0; i < n; i++) {
        int rc = call(slice_str(all[i].in));
        if (rc != all[i].code || strncmp(err.text, all[i].sentence, strlen(all[i].sentence)) != 0)
            fail_msg("%s: %d \"%s\"", all[i].in, rc, err.text);
    }
}

#define COUNT(a) (sizeof(a) / sizeof *(a))

static void telemetry_good(void **state)
{
    static const struct good all[] = {
        {"{\"temperature\":21.5}", "temperature=21.5"},
        {" { \"t\" : 21.50 , \"u\" : -0 , \"v\":1E+5}", "t=21.50 u=-0 v=1E+5"},
        {"{\"a\":true,\"b\":false,\"c\":\"\",\"d\":\"x y\"}", "a=true b=false c= d=x y"},
        {"{\"a\":\"q\\\"\\u00e4\\n\",\"\\u0062\":\"\\\\\"}", "a=q\"\xc3\xa4\n b=\\"},
        {"{\"a\":[ 1, 2 ,\"x y\"],\"b\":[]}", "a=[1,2,\"x y\"] b=[]"},
        {"{\"a\":{\"value\":{ \"x\" : 1 }}}", "a={\"x\":1}"},
        {"{\"a\":{\"value\":1.0}}", "a=1.0"},
        {"{\"a\":{\"lat\":1,\"lon\":-2.5,\"value\":\"v\"}}", "a=v(1,-2.5)"},
        {"{\"a\":{\"value\":1,\"lat\":90,\"lon\":-180,\"ele\":-3e2,\"more\":[{}],\"x\":null}}",
         "a=1(90,-180,-300)"},
        {"{\"a\":{\"value\":1,\"lat\":null,\"lon\":null,\"ele\":null,\"created_at\":null}}", "a=1"},
        {"{\"a\":{\"value\":null,\"value\":3}}", "a=3"},
        {"{\"a\":{\"v\\u0061lue\":3,\"valu\\u0065\":null}}", "a=3"},
        {"{\"a\":{\"value\":1,\"created_at\":\"2020-05-12T20:52:50Z\"}}", "a=1@1589316770000000"},
        {"{\"a\":{\"value\":1,\"created_at\":\"2020-05-12T22:52:50.25+02:00\"}}",
         "a=1@1589316770250000"},
        {"{\"a\":{\"value\":1,\"created_at\":1589316770.123456}}", "a=1@1589316770123456"},
        {"{\"a\":{\"value\":1,\"created_at\":0}}", "a=1@0"},
        {"{\"a\":{\"value\":1,\"epoch\":5}}", "a=1"},
        {"[{\"a\":1},{\"a\":2,\"b\":3}]", "a=1 a=2 b=3"},
        {"[{},{\"a\":1}]", "a=1"},
        {"{\"group.feed\":1,\""
         "12345678901234567890"
         "\":2}",
         "group.feed=1 12345678901234567890=2"},
        {"{\"a\":\"12345678901234567890123456789012\"}", "a=12345678901234567890123456789012"},
        {"{\"a\":18446744073709551616}", "a=18446744073709551616"},
    };
    check_good(all, COUNT(all), telemetry);
}

static void telemetry_bad(void **state)
{
    static const struct bad all[] = {
        {"", -EINVAL, "not JSON at byte 0"},
        {"{", -EINVAL, "not JSON at byte 1"},
        {"{\"a\":1e999}", -EINVAL, "not JSON at byte 5: a number out of range"},
        {"{\"a\":\"\xff\"}", -EINVAL, "not JSON at byte 6: a string that is not UTF-8"},
        {"{\"a\":1}x", -EINVAL, "not JSON at byte 7"},
        {"21.5", -EINVAL, "must be an object"},
        {"\"x\"", -EINVAL, "must be an object"},
        {"null", -EINVAL, "must be an object"},
        {"{}", -EINVAL, "there is no data point"},
        {"[]", -EINVAL, "there is no data point"},
        {"[{}]", -EINVAL, "there is no data point"},
        {"[{\"a\":1},2]", -EINVAL, "element 2: must be an object"},
        {"[{\"a\":1},[{\"a\":1}]]", -EINVAL, "element 2: must be an object"},
        {"{\"a\":null}", -EINVAL, "feed \"a\": null is no value"},
        {"[{\"a\":1},{\"b\":1,\"c\":null}]", -EINVAL, "element 2, feed \"c\": null is no value"},
        {"{\"\":1}", -EINVAL, "feed \"\": a feed key is empty"},
        {"{\"a\":1,\"b\":2,\"a\":3}", -EINVAL, "feed \"a\": the feed stands there twice"},
        {"{\"a\":1,\"\\u0061\":3}", -EINVAL, "feed \"a\": the feed stands there twice"},
        {"{\"a\":{}}", -EINVAL, "feed \"a\": the object has no member \"value\""},
        {"{\"a\":{\"value\":null}}", -EINVAL, "feed \"a\": the object has no member \"value\""},
        {"{\"a\":{\"b\":1}}", -EINVAL, "feed \"a\": the object has no member \"value\""},
        {"{\"a\":{\"value\":1,\"value\":2}}", -EINVAL,
         "feed \"a\", member \"value\": the member stands there twice"},
        {"{\"a\":{\"value\":1,\"lat\":1,\"l\\u0061t\":2}}", -EINVAL,
         "feed \"a\", member \"lat\": the member stands there twice"},
        {"{\"a\":{\"value\":1,\"lat\":\"1\",\"lon\":2}}", -EINVAL,
         "feed \"a\", member \"lat\": must be a number"},
        {"{\"a\":{\"value\":1,\"lat\":1,\"lon\":true}}", -EINVAL,
         "feed \"a\", member \"lon\": must be a number"},
        {"{\"a\":{\"value\":1,\"lat\":1,\"lon\":2,\"ele\":[]}}", -EINVAL,
         "feed \"a\", member \"ele\": must be a number"},
        {"{\"a\":{\"value\":1,\"lat\":90.0001,\"lon\":0}}", -EINVAL,
         "feed \"a\", member \"lat\": is out of range"},
        {"{\"a\":{\"value\":1,\"lat\":0,\"lon\":-180.5}}", -EINVAL,
         "feed \"a\", member \"lon\": is out of range"},
        {"{\"a\":{\"value\":1,\"lat\":1}}", -EINVAL,
         "feed \"a\", member \"lat\": stands there without \"lon\""},
        {"{\"a\":{\"value\":1,\"lon\":1,\"lat\":null}}", -EINVAL,
         "feed \"a\", member \"lon\": stands there without \"lat\""},
        {"{\"a\":{\"value\":1,\"ele\":1}}", -EINVAL,
         "feed \"a\", member \"ele\": stands there without"},
        {"{\"a\":{\"value\":1,\"created_at\":\"yesterday\"}}", -EINVAL,
         "feed \"a\", member \"created_at\": is no RFC 3339 time"},
        {"{\"a\":{\"value\":1,\"created_at\":\"\"}}", -EINVAL,
         "feed \"a\", member \"created_at\": is no RFC 3339 time"},
        {"{\"a\":{\"value\":1,\"created_at\":\"1589316770\"}}", -EINVAL,
         "feed \"a\", member \"created_at\": is no RFC 3339 time"},
        {"{\"a\":{\"value\":1,\"created_at\":\"1969-12-31T23:59:59Z\"}}", -EINVAL,
         "feed \"a\", member \"created_at\": is before 1970"},
        {"{\"a\":{\"value\":1,\"created_at\":-1}}", -EINVAL,
         "feed \"a\", member \"created_at\": is out of range"},
        {"{\"a\":{\"value\":1,\"created_at\":1e12}}", -EINVAL,
         "feed \"a\", member \"created_at\": is out of range"},
        {"{\"a\":{\"value\":1,\"created_at\":true}}", -EINVAL,
         "feed \"a\", member \"created_at\": must be an RFC 3339 time"},
        {"{\"123456789012345678901\":1}", -E2BIG,
         "feed \"123456789012345678901\": the feed key is"},
        {"{\"a\":\"123456789012345678901234567890123\"}", -E2BIG,
         "feed \"a\": the value is longer"},
        {"{\"a\":{\"value\":[1111111111,2222222222,3333333333]}}", -E2BIG,
         "feed \"a\", member \"value\": the value is longer"},
    };
    check_bad(all, COUNT(all), telemetry);
}

static int ndjson(struct slice body)
{
    err.text[0] = 0;
    return points_telemetry(body, BODY_NDJSON, &limits, &points, &err);
}

static void ndjson_lines(void **state)
{
    static const struct good good[] = {
        {"{\"a\":1}", "a=1"},
        {"{\"a\":1}\n", "a=1"},
        {"\n\r\n \t\n{\"a\":1,\"b\":2}\r\n\n{ \"a\" : 3 }\n\n", "a=1 b=2 a=3"},
    };
    static const struct bad bad[] = {
        {"", -EINVAL, "there is no data point"},
        {"\n\n", -EINVAL, "there is no data point"},
        {"{\"a\":1}\n\n{\"a\":1}\n{\"a\":{\"value\":1,\"lat\":91,\"lon\":0}}", -EINVAL,
         "element 3 (line 4), feed \"a\", member \"lat\": is out of range"},
        {"{\"a\":1}{\"b\":2}", -EINVAL, "element 1 (line 1): not JSON at byte 7"},
        {"{\"a\":\n1}", -EINVAL, "element 1 (line 1): not JSON at byte 5"},
        {"{\"a\":1}\n[{\"b\":2}]", -EINVAL, "element 2 (line 2): must be an object"},
        {"{\"a\":1}\n\x01", -EINVAL, "element 2 (line 2): not JSON"},
    };
    check_good(good, COUNT(good), ndjson);
    check_bad(bad, COUNT(bad), ndjson);
}

static int datum(struct slice body)
{
    err.text[0] = 0;
    return points_datum(body, BODY_JSON, (struct slice){0}, &limits, &points, &err);
}

static void adafruit_json(void **state)
{
    static const struct good good[] = {
        {"{\"value\":42}", "=42"},
        {"{\"datum\":{\"value\":\"42\"}}", "=42"},
        {"{\"value\":true,\"key\":\"x\"}", "=true"},
        {"{\"value\":{\"a\": 1}}", "={\"a\":1}"},
        {"{\"value\":[1, 2]}", "=[1,2]"},
        /* what Adafruit's Python client sends */
        {"{\"created_epoch\": null, \"created_at\": null, \"updated_at\": null, \"value\": 10, "
         "\"completed_at\": null, \"feed_id\": null, \"expiration\": null, \"position\": null, "
         "\"id\": null, \"lat\": null, \"lon\": null, \"ele\": null}",
         "=10"},
        {"{\"value\":1,\"lat\":\"52.5\",\"lon\":\" 13.25 \",\"ele\":\"-3\"}", "=1(52.5,13.25,-3)"},
        {"{\"value\":1,\"lat\":40.5,\"lon\":-74,\"ele\":null}", "=1(40.5,-74)"},
        {"{\"value\":1,\"lat\":40.5,\"ele\":1}", "=1"}, /* an incomplete place is dropped */
        {"{\"value\":1,\"lat\":\"\",\"lon\":\" \",\"created_at\":\"\",\"epoch\":\"\"}", "=1"},
        {"{\"value\":1,\"epoch\":1589316770}", "=1@1589316770000000"},
        {"{\"value\":1,\"epoch\":\"1589316770.5\"}", "=1@1589316770500000"},
        {"{\"value\":1,\"created_at\":\"2020-05-12 20:52:50\",\"epoch\":1}", "=1@1589316770000000"},
        {"{\"value\":1,\"created_at\":\"1589316770\"}", "=1@1589316770000000"},
        {"{\"datum\":null,\"value\":2}", "=2"},
        {"{\"datum\":\"x\",\"value\":2}", "=2"},
    };
    static const struct bad bad[] = {
        {"", -EINVAL, "not JSON"},
        {"{}", -EINVAL, "data missing required value"},
        {"42", -EINVAL, "data missing required value"},
        {"[{\"value\":1}]", -EINVAL, "data missing required value"},
        {"{\"value\":null}", -EINVAL, "data missing required value"},
        {"{\"datum\":{\"lat\":1}}", -EINVAL, "data missing required value"},
        {"{\"datum\":{},\"value\":1}", -EINVAL, "data missing required value"},
        {"{\"value\":1,\"value\":2}", -EINVAL, "member \"value\": the member stands there twice"},
        {"{\"value\":1,\"lat\":\"north\",\"lon\":1}", -EINVAL, "member \"lat\": must be a number"},
        {"{\"value\":1,\"lat\":\"nan\",\"lon\":1}", -EINVAL, "member \"lat\": must be a number"},
        {"{\"value\":1,\"lat\":\"0x1\",\"lon\":1}", -EINVAL, "member \"lat\": must be a number"},
        {"{\"value\":1,\"lat\":91,\"lon\":1}", -EINVAL, "member \"lat\": is out of range"},
        {"{\"value\":1,\"lat\":1,\"lon\":\"1e999\"}", -EINVAL, "member \"lon\": is out of range"},
        {"{\"value\":1,\"ele\":\"1e999\"}", -EINVAL, "member \"ele\": is out of range"},
        {"{\"value\":1,\"epoch\":-5}", -EINVAL, "member \"epoch\": is out of range"},
        {"{\"value\":1,\"created_at\":\"no\"}", -EINVAL, "member \"created_at\": is no RFC 3339"},
        {"{\"value\":\"123456789012345678901234567890123\"}", -E2BIG,
         "member \"value\": the value"},
    };
    check_good(good, COUNT(good), datum);
    check_bad(bad, COUNT(bad), datum);
}

static int urlencoded(struct slice body)
{
    err.text[0] = 0;
    return points_datum(body, BODY_URLENCODED, (struct slice){0}, &limits, &points, &err);
}

static int multipart(struct slice body)
{
    err.text[0] = 0;
    return points_datum(body, BODY_MULTIPART, SLICE("xYz"), &limits, &points, &err);
}

#define PART(name, value)                                                                          \
    "--xYz\r\nContent-Disposition: form-data; name=\"" name "\"\r\n\r\n" value "\r\n"

static void adafruit_forms(void **state)
{
    static const struct good url[] = {
        {"value=42", "=42"},
        {"datum[value]=42", "=42"},
        {"datum%5Bvalue%5D=a+b%20c%26", "=a b c&"},
        {"&&other=x&value=1&lat=52.5&lon=13&ele=&created_at=2020-05-12T20%3A52%3A50Z&",
         "=1@1589316770000000(52.5,13)"},
        {"value=", "="},
        {"value", "="},
        {"value=%C3%A4=%3D", "=\xc3\xa4=="},
        {"value=1&epoch=10", "=1@10000000"},
        {"value=1&datum=x&datum[x]=%FF", "=1"},
    };
    static const struct bad url_bad[] = {
        {"", -EINVAL, "data missing required value"},
        {"Value=1", -EINVAL, "data missing required value"},
        {"value=%4", -EINVAL, "a form field with a bad %XX"},
        {"value=%zz", -EINVAL, "a form field with a bad %XX"},
        {"%=1", -EINVAL, "a form field with a bad %XX"},
        {"value=%00", -EINVAL, "a form field with a bad %XX"},
        {"value=%ff", -EINVAL, "a form field that is not UTF-8"},
        {"value=\xc3", -EINVAL, "a form field that is not UTF-8"},
        {"value=1&datum[value]=1", -EINVAL, "a form field stands there twice"},
        {"value=1&lat=x&lon=1", -EINVAL, "member \"lat\": must be a number"},
    };
    static const struct good parts[] = {
        {PART("value", "42") "--xYz--\r\n", "=42"},
        {"preamble\r\n" PART("value", "a\r\nb--xYz") PART("lat", "1")
             PART("lon", "2") "--xYz-- \r\nepilogue",
         "=a\r\nb--xYz(1,2)"},
        {"--xYz \t\r\nX: y\r\ncontent-disposition:form-data;name=value\r\n\r\n\r\n--xYz--", "="},
        {"--xYz\r\nContent-Disposition: form-data; filename=\"f\"; NAME=\"datum[value]\"\r\n"
         "Content-Type: text/plain\r\n\r\nx\r\n--xYz--",
         "=x"},
    };
    static const struct bad parts_bad[] = {
        {"", -EINVAL, "not a multipart/form-data body"},
        {"value=42", -EINVAL, "not a multipart/form-data body"},
        {"--xYz", -EINVAL, "not a multipart/form-data body"},
        {"--xYz--", -EINVAL, "data missing required value"},
        {PART("value", "42"), -EINVAL, "not a multipart/form-data body"},
        {PART("value", "42") "--xY--", -EINVAL, "not a multipart/form-data body"},
        {"--xYz\nContent-Disposition: form-data; name=\"value\"\n\n42\n--xYz--", -EINVAL, "not a"},
        {"--xYz\r\n\r\n42\r\n--xYz--", -EINVAL, "not a multipart/form-data body"},
        {"--xYz\r\nContent-Disposition: form-data; name=\"value\r\n\r\n42\r\n--xYz--", -EINVAL,
         "not"},
        {"--xYz\r\nContent-Disposition: form-data; name=\"value\"\r\n\r\n--xYz--", -EINVAL,
         "not a"},
        {PART("value", "1") PART("value", "2") "--xYz--", -EINVAL,
         "a form field stands there twice"},
        {PART("value", "\xff") "--xYz--", -EINVAL, "a form field that is not UTF-8"},
        {PART("other", "2") "--xYz--", -EINVAL, "data missing required value"},
    };
    check_good(url, COUNT(url), urlencoded);
    check_bad(url_bad, COUNT(url_bad), urlencoded);
    check_good(parts, COUNT(parts), multipart);
    check_bad(parts_bad, COUNT(parts_bad), multipart);
    static char many[260 * 80] = "";
    for (int i = 0; i < 260; i++)
        strcat(many, PART("x", ""));
    assert_int_equal(multipart(slice_str(many)), -E2BIG);
    assert_int_equal(
        multipart(slice_of("--xYz\r\nContent-Disposition: x; name=value\r\n\r\n\0\r\n--xYz--", 55)),
        -EINVAL);
}

static int group_json(struct slice body)
{
    err.text[0] = 0;
    return points_group(body, BODY_JSON, (struct slice){0}, &limits, &points, &err);
}

static int group_url(struct slice body)
{
    err.text[0] = 0;
    return points_group(body, BODY_URLENCODED, (struct slice){0}, &limits, &points, &err);
}

static int group_parts(struct slice body)
{
    err.text[0] = 0;
    return points_group(body, BODY_MULTIPART, SLICE("xYz"), &limits, &points, &err);
}

static int group_csv(struct slice body)
{
    err.text[0] = 0;
    return points_group(body, BODY_CSV, (struct slice){0}, &limits, &points, &err);
}

static void groups(void **state)
{
    (void)state;
    static const struct good json[] = {
        {"{\"feeds\":[{\"key\":\"a\",\"value\":1},{\"value\":\"x\",\"key\":\"g.b\"}]}",
         "a=1 g.b=x"},
        {"{\"group\":{\"feeds\":[{\"key\":\"a\",\"value\":1}],\"lat\":1,\"lon\":2}}", "a=1(1,2)"},
        {"{\"location\":{\"lat\":1,\"lon\":2,\"ele\":3},\"epoch\":5,\"feeds\":[{\"key\":\"a\","
         "\"value\":1},{\"key\":\"b\",\"value\":2,\"epoch\":6,\"lat\":7,\"lon\":8}]}",
         "a=1@5000000(1,2,3) b=2@6000000(7,8)"},
        {"{\"feeds\":{\"a\":1,\"\\u0062\":\"x\",\"c\":{\"y\": [1]}},\"epoch\":5}",
         "a=1@5000000 b=x@5000000 c={\"y\":[1]}@5000000"},
    };
    static const struct bad json_bad[] = {
        {"{\"feeds\":[]}", -EINVAL, "there is no data point"},
        {"{\"feeds\":{}}", -EINVAL, "there is no data point"},
        {"{\"feeds\":1}", -EINVAL, "member \"feeds\": must be a list"},
        {"{\"feeds\":{\"a\":1,\"\":2}}", -EINVAL, "element 2, feed \"\", member \"key\""},
        {"{\"feeds\":{\"a\":null}}", -EINVAL, "element 1, feed \"a\", member \"value\": null"},
        {"{\"feeds\":[{\"key\":\"123456789012345678901\",\"value\":1}]}", -EINVAL,
         "element 1, feed"},
    };
    static const struct good csv[] = {
        {"a,1\nlocation,1,2\nb,\"x,y\"\n", "a=1(1,2) b=x,y(1,2)"},
    };
    static const struct bad csv_bad[] = {
        {"a,1\nb\n", -EINVAL, "element 2 (line 2): must be key,value"},
        {"", -EINVAL, "there is no data point"},
    };
    check_good(json, COUNT(json), group_json);
    check_bad(json_bad, COUNT(json_bad), group_json);
    check_good(csv, COUNT(csv), group_csv);
    check_bad(csv_bad, COUNT(csv_bad), group_csv);
}

static void group_forms(void **state)
{
    (void)state;
    static const struct good url[] = {
        {"feeds[][key]=a&feeds[][value]=1", "a=1"},
        {"feeds%5B%5D%5Bkey%5D=a&feeds%5B%5D%5Bvalue%5D=%7B1%7D", "a={1}"},
        {"feeds[][key]=a&feeds[][value]=1&feeds[][value]=2&feeds[][lat]=1&feeds[][lon]=2&feeds[]["
         "key]=b",
         "a=1 b=2(1,2)"},
        {"feeds[0][key]=a&feeds[0][value]=1&feeds[1][value]=2&feeds[1][key]=b&epoch=5",
         "a=1@5000000 b=2@5000000"},
        {"feeds[a]=1&feeds[b]=&other[x]=y&feeds[][name]=z", "a=1 b="},
        {"group[feeds][][key]=a&group[feeds][][value]=1&group[location][lat]=3&location[lon]=4&ele="
         "5",
         "a=1(3,4,5)"},
        {"feeds[][key]=a&feeds[][value]=1&feeds[b]=2&feeds[][key]=c&feeds[][value]=3&epoch=",
         "a=1 b=2 c=3"},
        {"a]=1&b[=2&c[d]e=3&[x]=4&feeds[][][key]=5&feeds[e][f][g][h]=6&feeds[k]=v", "k=v"},
    };
    static const struct bad url_bad[] = {
        {"", -EINVAL, "there is no data point"},
        {"value=1", -EINVAL, "there is no data point"},
        {"feeds[][key]=a", -EINVAL, "element 1, feed \"a\": data missing"},
        {"feeds[][value]=1", -EINVAL, "element 1, member \"key\": the feed's key is missing"},
        {"feeds[0][key]=a&feeds[1][key]=b&feeds[0][value]=1&feeds[1][value]=2", -EINVAL,
         "element 1, feed \"a\": data"},
        {"feeds[0][key]=a&feeds[0][key]=b", -EINVAL, "element 1: a form field stands there twice"},
        {"feeds[a]=1&lat=1&lat=2", -EINVAL, "element 1: a form field stands there twice"},
        {"feeds[a]=1&lat=x&lon=1", -EINVAL, "member \"lat\": must be a number"},
        {"feeds[a]=%ff", -EINVAL, "a form field that is not UTF-8"},
        {"feeds[%ff]=1", -EINVAL, "a form field that is not UTF-8"},
        {"feeds[a]=%4", -EINVAL, "a form field with a bad %XX"},
        {"feeds[a]=123456789012345678901234567890123", -E2BIG,
         "element 1, feed \"a\", member \"value\""},
    };
    static const struct good parts[] = {
        {PART("feeds[][key]", "a") PART("feeds[][value]", "1") PART("feeds[b]", "\"2")
             PART("created_at", "1970-01-01T00:00:05Z") "--xYz--",
         "a=1@5000000 b=\"2@5000000"},
    };
    static const struct bad parts_bad[] = {
        {PART("feeds[][key]", "a") "--xYz--", -EINVAL, "element 1, feed \"a\": data missing"},
        {PART("feeds[a]", "a"), -EINVAL, "not a multipart"},
    };
    check_good(url, COUNT(url), group_url);
    check_bad(url_bad, COUNT(url_bad), group_url);
    check_good(parts, COUNT(parts), group_parts);
    check_bad(parts_bad, COUNT(parts_bad), group_parts);
}

static int batch(struct slice body)
{
    err.text[0] = 0;
    return points_batch(body, &limits, &points, &err);
}

static void adafruit_batch(void **state)
{
    static const struct good good[] = {
        {"{\"data\":[{\"value\":1},{\"value\":\"2\",\"created_at\":\"2020-05-12T20:52:50Z\"}]}",
         "=1 =2@1589316770000000"},
        {"[{\"value\":1,\"lat\":\"1\",\"lon\":2},{\"datum\":{\"value\":3}}]", "=1(1,2) =3"},
        {"{\"x\":[1],\"d\\u0061ta\":[{\"value\":1}]}", "=1"},
    };
    static const struct bad bad[] = {
        {"{}", -EINVAL, "a batch is"},
        {"1", -EINVAL, "a batch is"},
        {"{\"data\":null}", -EINVAL, "a batch is"},
        {"{\"data\":{\"value\":1}}", -EINVAL, "a batch is"},
        {"{\"data\":[],\"data\":[{\"value\":1}]}", -EINVAL, "member \"data\": the member stands"},
        {"[]", -EINVAL, "there is no data point"},
        {"[1]", -EINVAL, "element 1: data missing required value"},
        {"[{\"value\":1},{\"value\":null}]", -EINVAL, "element 2: data missing required value"},
        {"[{\"value\":1},{\"value\":2,\"lat\":100,\"lon\":1}]", -EINVAL,
         "element 2, member \"lat\": is out of range"},
    };
    check_good(good, COUNT(good), batch);
    check_bad(bad, COUNT(bad), batch);
}

/* Limits at n and n + 1; duplicates found however many members there are. */
static void many_points(void **state)
{
    char *text = malloc(100000);
    for (int n = 1; n <= 101; n++) {
        int at = sprintf(text, "{");
        for (int i = 0; i < n; i++)
            at += sprintf(text + at, "%s\"f%d\":%d", i ? "," : "", i, i);
        sprintf(text + at, "}");
        assert_int_equal(telemetry(slice_str(text)), n <= 100 ? 0 : -E2BIG);
        if (n > 100)
            continue;
        assert_int_equal(points.count, n);
        assert_true(points.list[n - 1].feed.len == (n > 10 ? 3u : 2u));
        for (int i = 0; i < n && n < 100; i += 1 + n / 7) { /* again at the end: an error */
            sprintf(text + at, ",\"f%d\":0}", i);
            assert_int_equal(telemetry(slice_str(text)), -EINVAL);
        }
    }
    assert_string_equal(err.text, "more than 100 data points in one request");
    /* The index belongs to one object: the next may have the same feeds. */
    int at = sprintf(text, "[");
    for (int object = 0; object < 4; object++) {
        for (int i = 0; i < 25; i++)
            at += sprintf(text + at, "%s\"f%d\":%d", i ? "," : object ? ",{" : "{", i, i);
        at += sprintf(text + at, "}");
    }
    sprintf(text + at, "]");
    assert_int_equal(telemetry(slice_str(text)), 0);
    assert_int_equal(points.count, 100);
    free(text);
}

static void storage_bounds(void **state)
{
    struct buf small;
    struct points p = {.storage = &small};
    buf_init(&small, 64);
    assert_int_equal(points_telemetry(SLICE("{\"a\":1}"), BODY_JSON, &limits, &p, &err), -E2BIG);
    buf_fini(&small);
    /* In steady state nothing is allocated: the block stays the same. */
    assert_int_equal(telemetry(SLICE("{\"a\":1,\"b\":\"\\n\"}")), 0);
    const char *block = storage.ptr;
    size_t cap = storage.cap;
    for (int i = 0; i < 100; i++)
        assert_int_equal(telemetry(SLICE("{\"a\":1,\"b\":\"\\n\"}")), 0);
    assert_true(storage.ptr == block && storage.cap == cap);
    assert_int_equal(points_telemetry(SLICE("x"), BODY_TEXT, &limits, &points, &err), -EINVAL);
    assert_int_equal(points_datum(SLICE("x"), BODY_TEXT, (struct slice){0}, &limits, &points, &err),
                     -EINVAL);
    assert_int_equal(points_telemetry((struct slice){0}, BODY_JSON, &limits, &points, NULL),
                     -EINVAL);
}

static void sentences_show_names_safely(void **state)
{
    assert_int_equal(telemetry(SLICE("{\"a\\nb\\u0007\":null}")), -EINVAL);
    assert_string_equal(err.text, "feed \"a?b?\": null is no value");
    struct points_limits wide = limits;
    wide.feed_max = 1000;
    char text[400], key[200] = "";
    for (int i = 0; i < 60; i++)
        strcat(key, "\xe2\x82\xac");
    sprintf(text, "{\"xy%s\":null}", key);
    assert_int_equal(points_telemetry(slice_str(text), BODY_JSON, &wide, &points, &err), -EINVAL);
    key[60] = 0; /* 64 bytes hold "xy" and 20 whole characters */
    sprintf(text, "feed \"xy%s\": null is no value", key);
    assert_string_equal(err.text, text);
}

static void content_types(void **state)
{
    static const struct {
        const char *type;
        enum body_form form;
        const char *boundary;
    } all[] = {
        {"", BODY_JSON, ""},
        {"application/json", BODY_JSON, ""},
        {"Application/JSON ; charset=utf-8", BODY_JSON, ""},
        {"application/vnd.api+json", BODY_JSON, ""},
        {"application/+json", BODY_UNKNOWN, ""},
        {"application/x-ndjson", BODY_NDJSON, ""},
        {"application/jsonl;x=y", BODY_NDJSON, ""},
        {"application/x-www-form-urlencoded", BODY_URLENCODED, ""},
        {"multipart/form-data; boundary=abc", BODY_MULTIPART, "abc"},
        {"multipart/form-data;charset=x; Boundary=\"a;b c\" ; y", BODY_MULTIPART, "a;b c"},
        {"multipart/form-data", BODY_UNKNOWN, ""},
        {"multipart/form-data; boundary=", BODY_UNKNOWN, ""},
        {"multipart/form-data; boundary", BODY_UNKNOWN, ""},
        {"multipart/form-data; boundary=\"a", BODY_MULTIPART, "a"},
        {"multipart/mixed; boundary=a", BODY_UNKNOWN, ""},
        {"text/plain", BODY_TEXT, ""},
        {"text/html", BODY_UNKNOWN, ""},
        {"json", BODY_UNKNOWN, ""},
        {";", BODY_UNKNOWN, ""},
    };
    for (size_t i = 0; i < COUNT(all); i++) {
        struct slice boundary;
        assert_int_equal(body_form(slice_str(all[i].type), &boundary), all[i].form);
        if (all[i].form == BODY_MULTIPART)
            assert_true(slice_eq(boundary, slice_str(all[i].boundary)));
    }
    struct slice boundary;
    char text[200];
    for (int n = 70; n <= 71; n++) {
        sprintf(text, "multipart/form-data; boundary=%0*d", n, 0);
        assert_int_equal(body_form(slice_str(text), &boundary),
                         n == 70 ? BODY_MULTIPART : BODY_UNKNOWN);
    }
}

static int published(struct slice body)
{
    return points_publish(body, &limits, &points, &err);
}

static void reads_what_is_published(void **state)
{
    (void)state;
    static const struct good good[] = {
        {"21.50", "=21.50"},
        {"", "="},
        {"on, and off", "=on, and off"},
        {"\"on\"", "=\"on\""},
        {"{\"value\":21.50}", "=21.50"},
        {"{\"value\":\"a\",\"lat\":1,\"lon\":\"2\",\"ele\":null}", "=a(1,2)"},
        {"{\"value\":[1, 2]}", "=[1,2]"},
        {"{\"value\":null}", "={\"value\":null}"},
        {"{\"v\":1}", "={\"v\":1}"},
        {"{\"value\":1", "={\"value\":1"},
        {"[1]", "=[1]"},
        {"{}", "={}"},
    };
    check_good(good, COUNT(good), published);
    static const struct bad bad[] = {
        {"\xff", -EINVAL, ""},
        {"123456789012345678901234567890123", -E2BIG, ""},
        {"{\"value\":1,\"lat\":91,\"lon\":0}", -EINVAL, ""},
    };
    check_bad(bad, COUNT(bad), published);
    assert_int_equal(published(SLICE("a\0b")), -EINVAL);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(telemetry_good),
        cmocka_unit_test(telemetry_bad),
        cmocka_unit_test(ndjson_lines),
        cmocka_unit_test(adafruit_json),
        cmocka_unit_test(adafruit_forms),
        cmocka_unit_test(adafruit_batch),
        cmocka_unit_test(groups),
        cmocka_unit_test(group_forms),
        cmocka_unit_test(many_points),
        cmocka_unit_test(storage_bounds),
        cmocka_unit_test(content_types),
        cmocka_unit_test(sentences_show_names_safely),
        cmocka_unit_test(reads_what_is_published),
    };
    buf_init(&storage, 1 << 20);
    int failed = cmocka_run_group_tests(tests, NULL, NULL);
    buf_fini(&storage);
    return failed;
}
